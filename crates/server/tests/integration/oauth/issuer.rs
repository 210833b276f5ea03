//! A small authorization server that misbehaves on request, and the resource it protects. Real ones are in `peers/`.
//!
//! Consent is given at once. Refresh tokens rotate, and a used one ends the whole grant, as strict servers do.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;

/// How the server behaves; the default is a modern, strict one.
pub struct Behavior {
    pub iss_declared: bool,
    /// What is sent as `iss`: the issuer (`None`), something else, or nothing (empty).
    pub iss_sent: Option<String>,
    pub refresh_tokens: bool,
    /// A refresh answers with a new refresh token and ends the old one.
    pub rotate: bool,
    pub expires_in: Value,
    pub form_answers: bool,
    pub token_type: Option<&'static str>,
    pub account: Option<&'static str>,
    /// Without `resource` a token request is refused.
    pub resource_needed: bool,
    pub auth_methods: Vec<&'static str>,
    pub secret: Option<&'static str>,
    pub pkce: Option<Vec<&'static str>>,
    pub revocation: bool,
    pub registration: bool,
    /// What its metadata says instead.
    pub metadata: Vec<(&'static str, Value)>,
    /// Answers of the token endpoint that come before its own: status and body.
    pub token_script: VecDeque<(u16, String)>,
    pub revoke_script: VecDeque<u16>,
    /// The authorize endpoint refuses with this code.
    pub refuse: Option<&'static str>,
}

impl Default for Behavior {
    fn default() -> Self {
        Self {
            iss_declared: true,
            iss_sent: None,
            refresh_tokens: true,
            rotate: true,
            expires_in: json!(3600),
            form_answers: false,
            token_type: Some("Bearer"),
            account: Some("ana@notes.test"),
            resource_needed: true,
            auth_methods: vec!["none"],
            secret: None,
            pkce: Some(vec!["S256"]),
            revocation: true,
            registration: true,
            metadata: Vec::new(),
            token_script: VecDeque::new(),
            revoke_script: VecDeque::new(),
            refuse: None,
        }
    }
}

#[derive(Default)]
pub struct Seen {
    pub registrations: Vec<Value>,
    pub token_requests: Vec<HashMap<String, String>>,
    pub authorizations: Vec<String>,
    /// Where each authorization request wanted its answer sent.
    pub redirect_uris: Vec<String>,
    pub revoked: Vec<(String, String)>,
    pub metadata_requests: u32,
    challenges: HashMap<String, (String, String)>,
    live_refresh: HashSet<String>,
    used_refresh: HashSet<String>,
    pub live_access: HashSet<String>,
    pub grant_ended: bool,
    next: u32,
}

impl Seen {
    /// Refreshes with a token that looks like one of this issuer.
    pub fn refreshes(&self) -> usize {
        let is_refresh = |request: &&HashMap<String, String>| {
            request["grant_type"] == "refresh_token" && request["refresh_token"] != "thinkwork-registration-check"
        };
        self.token_requests.iter().filter(is_refresh).count()
    }
}

/// Holds a token or registration request until it is let go.
#[derive(Default)]
pub struct Gate {
    pub closed: std::sync::atomic::AtomicBool,
    pub reached: Notify,
    pub open: Notify,
}

impl Gate {
    pub fn close(&self) {
        self.closed.store(true, std::sync::atomic::Ordering::SeqCst);
    }

    /// Lets go who waits, and everybody after.
    pub fn let_go(&self) {
        self.closed.store(false, std::sync::atomic::Ordering::SeqCst);
        self.open.notify_one();
    }

    async fn pass(&self) {
        if self.closed.load(std::sync::atomic::Ordering::SeqCst) {
            self.reached.notify_one();
            self.open.notified().await;
        }
    }
}

#[derive(Clone)]
pub struct Issuer {
    pub base: String,
    pub ways: Arc<Mutex<Behavior>>,
    pub seen: Arc<Mutex<Seen>>,
    pub gate: Arc<Gate>,
    _stop: Arc<Stop>,
}

struct Stop(tokio::task::JoinHandle<()>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Clone)]
struct Served {
    base: String,
    ways: Arc<Mutex<Behavior>>,
    seen: Arc<Mutex<Seen>>,
    gate: Arc<Gate>,
}

impl Issuer {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let served = Served { base: base.clone(), ways: Arc::default(), seen: Arc::default(), gate: Arc::default() };
        let routes = Router::new()
            .route("/mcp", any(resource))
            .route("/.well-known/oauth-protected-resource/mcp", get(resource_metadata))
            .route("/.well-known/oauth-authorization-server", get(server_metadata))
            .route("/register", post(register))
            .route("/authorize", get(authorize))
            .route("/token", post(token))
            .route("/revoke", post(revoke))
            .with_state(served.clone());
        let task = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        let Served { ways, seen, gate, .. } = served;
        Self { base, ways, seen, gate, _stop: Arc::new(Stop(task)) }
    }

    pub fn resource(&self) -> String {
        format!("{}/mcp", self.base)
    }

    pub fn set(&self, change: impl FnOnce(&mut Behavior)) {
        change(&mut self.ways.lock().unwrap());
    }

    pub fn look<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.lock().unwrap())
    }

    /// Whether a token is good at the resource.
    pub fn accepts(&self, token: &str) -> bool {
        self.look(|seen| seen.live_access.contains(token))
    }

    /// The resource's word: this access token is no longer good.
    pub fn refuse_access(&self, token: &str) {
        self.seen.lock().unwrap().live_access.remove(token);
    }
}

async fn resource(State(served): State<Served>) -> Response {
    let challenge = format!(r#"Bearer resource_metadata="{}/.well-known/oauth-protected-resource/mcp""#, served.base);
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)]).into_response()
}

async fn resource_metadata(State(served): State<Served>) -> Response {
    served.seen.lock().unwrap().metadata_requests += 1;
    axum::Json(json!({
        "resource": format!("{}/mcp", served.base),
        "authorization_servers": [served.base],
        "scopes_supported": ["notes:read"],
    }))
    .into_response()
}

async fn server_metadata(State(served): State<Served>) -> Response {
    served.seen.lock().unwrap().metadata_requests += 1;
    let ways = served.ways.lock().unwrap();
    let base = &served.base;
    let mut metadata = json!({
        "issuer": base,
        "authorization_endpoint": format!("{base}/authorize?tenant=common"),
        "token_endpoint": format!("{base}/token"),
        "authorization_response_iss_parameter_supported": ways.iss_declared,
        "token_endpoint_auth_methods_supported": ways.auth_methods,
        "response_types_supported": ["code"],
    });
    if let Some(methods) = &ways.pkce {
        metadata["code_challenge_methods_supported"] = json!(methods);
    }
    if ways.registration {
        metadata["registration_endpoint"] = json!(format!("{base}/register"));
    }
    if ways.revocation {
        metadata["revocation_endpoint"] = json!(format!("{base}/revoke"));
    }
    for (name, value) in &ways.metadata {
        metadata[*name] = value.clone();
    }
    axum::Json(metadata).into_response()
}

async fn register(State(served): State<Served>, axum::Json(body): axum::Json<Value>) -> Response {
    served.gate.pass().await;
    let mut seen = served.seen.lock().unwrap();
    seen.registrations.push(body.clone());
    let mut answer = body;
    answer["client_id"] = json!(format!("client-{}", seen.registrations.len()));
    if let Some(secret) = served.ways.lock().unwrap().secret {
        answer["client_secret"] = json!(secret);
    }
    (StatusCode::CREATED, axum::Json(answer)).into_response()
}

async fn authorize(State(served): State<Served>, Query(sent): Query<HashMap<String, String>>) -> Response {
    let ways = served.ways.lock().unwrap();
    let mut seen = served.seen.lock().unwrap();
    assert_eq!(sent["code_challenge_method"], "S256");
    assert_eq!(sent["response_type"], "code");
    assert_eq!(sent["tenant"], "common", "the endpoint's own query is kept");
    seen.next += 1;
    let code = format!("code-{}", seen.next);
    seen.challenges.insert(code.clone(), (sent["code_challenge"].clone(), sent["redirect_uri"].clone()));
    seen.authorizations.push(sent["state"].clone());
    seen.redirect_uris.push(sent["redirect_uri"].clone());
    let mut to = url::Url::parse(&sent["redirect_uri"]).unwrap();
    match ways.refuse {
        Some(error) => {
            to.query_pairs_mut().append_pair("error", error).append_pair("error_description", "<b>Hostile</b> text");
        }
        None => {
            to.query_pairs_mut().append_pair("code", &code);
        }
    }
    to.query_pairs_mut().append_pair("state", &sent["state"]);
    match &ways.iss_sent {
        None => drop(to.query_pairs_mut().append_pair("iss", &served.base)),
        Some(other) if other.is_empty() => {}
        Some(other) => drop(to.query_pairs_mut().append_pair("iss", other)),
    }
    (StatusCode::FOUND, [(header::LOCATION, to.to_string())]).into_response()
}

fn form(body: &Bytes) -> HashMap<String, String> {
    let mut fields = HashMap::new();
    for (name, value) in url::form_urlencoded::parse(body) {
        assert!(fields.insert(name.to_string(), value.to_string()).is_none(), "{name} came twice");
    }
    fields
}

fn refusal(status: u16, code: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap();
    (status, axum::Json(json!({ "error": code, "error_description": "<b>Hostile</b>" }))).into_response()
}

async fn token(State(served): State<Served>, headers: HeaderMap, body: Bytes) -> Response {
    let answer = token_answer(&served, &headers, &body);
    served.gate.pass().await;
    answer
}

fn token_answer(served: &Served, headers: &HeaderMap, body: &Bytes) -> Response {
    let mut ways = served.ways.lock().unwrap();
    let mut seen = served.seen.lock().unwrap();
    let fields = form(body);
    seen.token_requests.push(fields.clone());
    if let Some((status, body)) = ways.token_script.pop_front() {
        return (StatusCode::from_u16(status).unwrap(), body).into_response();
    }
    let basic = headers.contains_key(header::AUTHORIZATION);
    if ways.secret.is_some() && !basic && fields.get("client_secret").map(String::as_str) != ways.secret {
        return refusal(401, "invalid_client");
    }
    if !basic && !fields.contains_key("client_id") {
        return refusal(400, "invalid_request");
    }
    if ways.resource_needed && fields.get("resource") != Some(&format!("{}/mcp", served.base)) {
        return refusal(400, "invalid_target");
    }
    let rotated = match fields["grant_type"].as_str() {
        "authorization_code" => {
            let Some((challenge, redirect_uri)) = seen.challenges.remove(&fields["code"]) else {
                return refusal(400, "invalid_grant");
            };
            let hash = thinkwork_primitives::crypto::sha256(fields["code_verifier"].as_bytes());
            if thinkwork_primitives::crypto::base64url(&hash) != challenge || redirect_uri != fields["redirect_uri"] {
                return refusal(400, "invalid_grant");
            }
            true
        }
        _ => {
            let token = &fields["refresh_token"];
            if seen.used_refresh.contains(token) {
                seen.grant_ended = true;
                seen.live_refresh.clear();
                seen.live_access.clear();
            }
            if !seen.live_refresh.contains(token) {
                return refusal(400, "invalid_grant");
            }
            if ways.rotate {
                let token = token.clone();
                seen.live_refresh.remove(&token);
                seen.used_refresh.insert(token);
            }
            ways.rotate
        }
    };
    grant(&ways, &mut seen, rotated)
}

fn grant(ways: &Behavior, seen: &mut Seen, with_refresh_token: bool) -> Response {
    seen.next += 1;
    let access = format!("access-token-number-{}", seen.next);
    seen.live_access.insert(access.clone());
    let mut answer = json!({ "access_token": access, "sub": "not-our-user" });
    if let Some(kind) = ways.token_type {
        answer["token_type"] = json!(kind);
    }
    if let Some(account) = ways.account {
        answer["account"] = json!(account);
    }
    if !ways.expires_in.is_null() {
        answer["expires_in"] = ways.expires_in.clone();
    }
    if ways.refresh_tokens && with_refresh_token {
        let refresh = format!("refresh-token-number-{}", seen.next);
        seen.live_refresh.insert(refresh.clone());
        answer["refresh_token"] = json!(refresh);
    }
    if !ways.form_answers {
        return axum::Json(answer).into_response();
    }
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in answer.as_object().unwrap() {
        form.append_pair(name, &value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    }
    ([(header::CONTENT_TYPE, "application/x-www-form-urlencoded")], form.finish()).into_response()
}

async fn revoke(State(served): State<Served>, body: Bytes) -> Response {
    let mut ways = served.ways.lock().unwrap();
    let mut seen = served.seen.lock().unwrap();
    let fields = form(&body);
    if let Some(status) = ways.revoke_script.pop_front() {
        return refusal(status, "unsupported_token_type");
    }
    let token = fields["token"].clone();
    seen.live_access.remove(&token);
    seen.live_refresh.remove(&token);
    seen.revoked.push((fields["token_type_hint"].clone(), token));
    StatusCode::OK.into_response()
}

//! Secrets are planted everywhere one can be given or come to be, the whole line is walked, and then every answer, page,
//! log line and byte of the database is searched for them, in every spelling.

mod needles;

use serde_json::json;
use thinkwork_primitives::Secret;

use super::fixture::{CLIENT_SECRET, Fixture, MODEL_KEY, TENANT_KEY};
use super::operations::described;
use super::tables;
use super::walk::pages::routes;
use crate::harness::Client;
use crate::log::Log;
use needles::Needles;

const PASSWORD: &str = "canary of a password 0123456789";
const WRONG_SECRET: &str = "canary-of-a-wrong-secret-0123456789";

/// A scene in which each secret was used for what it is for.
struct Lived {
    fixture: Fixture,
    needles: Needles,
}

impl Lived {
    async fn new() -> Self {
        let mut lived = Self { fixture: Fixture::new().await, needles: Needles::default() };
        lived.people().await;
        lived.hooks().await;
        lived.turns().await;
        lived.grants().await;
        let Self { fixture, needles } = &mut lived;
        for (name, text) in &fixture.shown {
            needles.add(name, text);
        }
        for (name, text) in [("tenant key", TENANT_KEY), ("client secret", CLIENT_SECRET), ("model key", MODEL_KEY)] {
            needles.add(name, text);
        }
        for (name, client) in [("session of the owner", &fixture.owner), ("session of ana", &fixture.ana)] {
            needles.add(name, client.cookie.as_ref().unwrap().split_once('=').unwrap().1);
        }
        lived
    }

    async fn people(&mut self) {
        let app = &self.fixture.app;
        let carl = self.fixture.carl.user.unwrap();
        let password = Secret::from_text(PASSWORD.to_owned());
        app.slices().access.password_set(app.tenant, carl, &password).await.unwrap();
        let sign_in = |password: &str| json!({ "email": "carl@acme.test", "password": password });
        let signed_in = app.anonymous().post("/v1/sessions", sign_in(PASSWORD)).await.expect(201);
        app.anonymous().post("/v1/sessions", sign_in(WRONG_SECRET)).await.expect(401);
        let cookie = signed_in.header("set-cookie").split(';').next().unwrap().split_once('=').unwrap().1.to_owned();
        app.bearer(WRONG_SECRET).get("/v1/me").await.expect(401);
        self.needles.add("password", PASSWORD);
        self.needles.add("wrong secret", WRONG_SECRET);
        self.needles.add("session of carl", &cookie);
    }

    /// A bearer webhook takes, refuses and is rotated.
    async fn hooks(&mut self) {
        let fixture = &self.fixture;
        let body = json!({
            "name": "bearer", "space_id": fixture.id("open-space"), "verification": { "scheme": "bearer" },
        });
        let made = fixture.owner.post("/v1/webhooks", body).await.expect(201);
        let id = made.text_of("id");
        let secret = made.text_of("secret");
        for (bearer, status) in [(secret.as_str(), 202), (WRONG_SECRET, 401)] {
            let request = fixture.app.anonymous().request("POST", &format!("/hooks/{id}")).bearer_auth(bearer);
            let request = request.header("content-type", "application/json").header("cookie", format!("a={secret}"));
            fixture.app.anonymous().send(request.body("{\"type\":\"event\"}")).await.expect(status);
        }
        let rotated = fixture.owner.post(&format!("/v1/webhooks/{id}/rotate"), json!({})).await.expect(200);
        self.needles.add("bearer webhook", &secret);
        self.needles.add("rotated bearer webhook", &rotated.text_of("secret"));
    }

    /// The tool and the model each say back which proof they were shown.
    async fn turns(&self) {
        let fixture = &self.fixture;
        let agent = json!({ "model_base_url": fixture.tools.model_url, "model": "sample", "api_key": MODEL_KEY });
        fixture.owner.put("/v1/agent", agent).await.expect(200);
        for text in ["/tool tools__echo {}", "Say something"] {
            let path = format!("/v1/threads/{}/messages", fixture.id("threads"));
            fixture.ana.post(&path, json!({ "text": text })).await.expect(201);
        }
        fixture.app.run_pending_jobs().await;
        let turns = fixture.ana.get(&format!("/v1/threads/{}/turns", fixture.id("threads"))).await.expect(200);
        assert!(turns.text.contains("you sent"), "the tool was not called: {}", turns.text);
        let messages = fixture.ana.get(&format!("/v1/threads/{}/messages", fixture.id("threads"))).await.expect(200);
        assert!(messages.text.contains("you sent"), "the model did not answer: {}", messages.text);
    }

    /// A grant is used, refreshed after a refusal, and one is revoked.
    async fn grants(&mut self) {
        let server = self.fixture.id("me/mcp-servers").to_owned();
        let owner = self.fixture.owner.clone();
        self.fixture.connect(&owner, &server).await;
        owner.post(&format!("/v1/mcp-servers/{server}/test"), json!({})).await.expect(200);
        let (requests, states) =
            self.fixture.issuer.look(|seen| (seen.token_requests.clone(), seen.authorizations.clone()));
        assert!(requests.iter().any(|request| request["grant_type"] == "refresh_token"), "nothing was refreshed");
        for verifier in requests.iter().filter_map(|request| request.get("code_verifier")) {
            self.needles.add("PKCE verifier", verifier);
        }
        for state in &states {
            self.needles.add("state", state);
        }
        self.needles.add("access token", "access-token-number-");
        self.needles.add("refresh token", "refresh-token-number-");
        owner.delete(&format!("/v1/me/mcp-servers/{server}/connection")).await.expect(204);
    }

    /// Every answer to GET of the API and every page, for the owner and for ana.
    async fn read_everything(&self) -> Vec<(String, Vec<u8>)> {
        let mut paths: Vec<String> = Vec::new();
        for operation in described(&self.fixture.app).await {
            // The stream does not end; what it sends are the same messages and turns.
            if !operation.is_change() && !operation.path.ends_with("/stream") {
                paths.push(self.fixture.fill(&operation.path));
            }
        }
        for route in routes().into_iter().filter(|route| route.get && !route.path.contains("{name}")) {
            let known = !route.path.contains("{key}") && !route.path.starts_with("/mcp");
            paths.extend(known.then(|| self.fixture.fill(&route.path)));
        }
        let mut read = Vec::new();
        for (name, who) in [("owner", &self.fixture.owner), ("ana", &self.fixture.ana)] {
            for path in &paths {
                read.push((format!("{name}: GET {path}"), whole(who, path).await));
            }
        }
        read
    }

    /// Every row of every table and, on SQLite, the files.
    async fn database(&self) -> Vec<(String, Vec<u8>)> {
        let mut read = Vec::new();
        for (table, rows) in tables::dump(&self.fixture.app).await {
            read.push((format!("table {table}"), rows.join("\n").into_bytes()));
        }
        let url = &self.fixture.app.slices().config.database_url;
        if let Some(path) = url.strip_prefix("sqlite:") {
            for file in ["", "-wal", "-shm"] {
                read.push((format!("file thinkwork.db{file}"), std::fs::read(format!("{path}{file}")).unwrap()));
            }
        }
        read
    }
}

/// Status, headers and body of an answer.
async fn whole(who: &Client, path: &str) -> Vec<u8> {
    let answer = who.get(path).await;
    assert!(answer.status < 500, "{path}: {}", answer.text);
    let mut bytes = answer.text.into_bytes();
    for (name, value) in &answer.headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(value.as_bytes());
    }
    bytes
}

fn found(needles: &Needles, places: &[(String, Vec<u8>)]) -> Vec<String> {
    let all =
        places.iter().flat_map(|(place, bytes)| needles.found_in(bytes).into_iter().map(move |name| (place, name)));
    all.map(|(place, name)| format!("{place} holds the {name}")).collect()
}

#[tokio::test]
async fn canary_l33_l03_no_secret_is_in_any_answer_page_log_line_or_byte_of_the_database() {
    let (log, _guard) = Log::begin();
    let lived = Lived::new().await;
    assert!(lived.needles.count() > 15, "only {} secrets were planted", lived.needles.count());
    let answers = lived.read_everything().await;
    assert!(answers.len() > 100, "only {} answers were read", answers.len());
    let mut findings = found(&lived.needles, &answers);
    findings.extend(found(&lived.needles, &lived.database().await));
    let bytes = log.bytes();
    assert!(bytes.len() > 100_000, "only {} bytes were logged", bytes.len());
    findings.extend(found(&lived.needles, &[("the log".to_owned(), bytes)]));
    assert!(findings.is_empty(), "{} findings:\n  {}", findings.len(), findings.join("\n  "));
}

/// The search itself: what is planted in a row, a file, an answer or a log line is found.
#[tokio::test]
async fn canary_the_search_finds_what_is_planted() {
    let (log, _guard) = Log::begin();
    let fixture = Fixture::new().await;
    let mut needles = Needles::default();
    needles.add("planted", "canary-planted-in-a-name-0123456789");
    let lived = Lived { fixture, needles };
    assert!(found(&lived.needles, &lived.database().await).is_empty());
    let body = json!({ "slug": "planted", "name": "canary-planted-in-a-name-0123456789", "access": "public" });
    lived.fixture.owner.post("/v1/spaces", body).await.expect(201);
    let places = found(&lived.needles, &lived.database().await);
    assert!(places.iter().any(|place| place.starts_with("table space holds")), "{places:?}");
    let on_files = places.iter().any(|place| place.starts_with("file thinkwork.db"));
    assert!(on_files || tables::is_postgres(&lived.fixture.app), "{places:?}");
    let places = found(&lived.needles, &lived.read_everything().await);
    for part in ["owner: GET /v1/spaces holds", "ana: GET /me/spaces holds", "owner: GET /admin/spaces holds"] {
        assert!(places.iter().any(|place| place.contains(part)), "{part} is not in {places:?}");
    }
    tracing::trace!(name = "canary-planted-in-a-name-0123456789", "planted");
    assert!(!found(&lived.needles, &[("the log".to_owned(), log.bytes())]).is_empty());
}

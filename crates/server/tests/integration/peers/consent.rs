//! The per-user flow in a browser: npm `oidc-provider` signs in, PyPI `fastmcp` asks for each person's own token.

use std::time::Duration;

use axum::Router;
use axum::routing::post;
use serde_json::{Value, json};
use thinkwork_primitives::Clock;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::{Deployment, PASSWORD, Peer, drive};

/// Seconds that an access token lives at the provider: less than passes between two uses.
const SHORT_LIFE: &str = "30";

/// A Place whose Space has the notes server, not connected by anybody.
struct Notes {
    place: Deployment,
    issuer: Peer,
    server: String,
    _notes: Peer,
}

impl Notes {
    async fn new(environment: &[(&str, &str)]) -> Self {
        let issuer = Peer::start("oidc.mjs", environment).await;
        let notes = Peer::start("notes_server.py", &[("ISSUER", &issuer.url)]).await;
        let place = Deployment::new().await;
        let body = json!({ "name": "Notes", "slug": "notes", "url": notes.url, "auth": { "mode": "user_oauth", "prompt": "consent" } });
        let server = place.server(body, json!({})).await;
        Self { place, issuer, server, _notes: notes }
    }

    /// What a drive needs, with two people who have not signed in yet.
    async fn input(&self) -> Value {
        let mut input = json!({
            "base": self.place.app.url(""),
            "issuer": self.issuer.url,
            "server": self.server,
            "space": self.place.space,
        });
        for name in ["ana", "ben"] {
            let (_, invitation) = self.place.invite(name, "member").await;
            input[name] = json!({ "invitation": invitation, "password": PASSWORD });
        }
        input
    }
}

/// A URL that lets half a minute pass, within which no token is renewed (L100). It ends with the second value.
async fn serve_clock(clock: &Clock) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let clock = clock.clone();
    let routes = Router::new().route("/", post(async move || clock.advance(Duration::from_secs(31))));
    let mut server = JoinSet::new();
    server.spawn(async move { axum::serve(listener, routes).await.unwrap() });
    (url, server)
}

fn has(seen: &Value, name: &str, words: &str) {
    assert!(seen[name].as_str().unwrap_or_default().contains(words), "{name} has no {words:?}: {seen:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_member_connects_uses_and_ends_their_own_grant_at_a_foreign_provider() {
    let notes = Notes::new(&[("ACCESS_TOKEN_TTL", SHORT_LIFE)]).await;
    let mut input = notes.input().await;
    let (later, _clock) = serve_clock(&notes.place.app.clock).await;
    input["later"] = json!(later);
    let seen = drive("consent", input).await;

    assert_eq!(seen["before"]["badge"], "needs_connection", "{seen:#}");
    has(&seen, "notice", "Connected.");
    assert_eq!(seen["after"]["badge"], "connected", "{seen:#}");
    has(&seen, "attribution", "Asked by ana");
    has(&seen, "attribution", "using ana's Notes");
    has(&seen, "first", r#""subject":"ada""#);
    has(&seen, "first", "Invoice 1001");
    has(&seen, "first", "Tool result");
    assert!(!seen["first"].as_str().unwrap().contains("no personal credential"), "{seen:#}");
    assert_eq!(seen["live"], true, "{seen:#}");

    assert_eq!(seen["previewsForBen"], 0, "{seen:#}");
    has(&seen, "benTurn", "no personal credential");
    has(&seen, "benTurn", "you have not connected it");
    assert_eq!(seen["benLink"], format!("/me/mcp-servers/{}/connect", notes.server), "{seen:#}");
    assert_eq!(seen["benRow"]["badge"], "needs_connection", "{seen:#}");

    has(&seen, "disconnected", "revoked at the provider");
    has(&seen, "afterwards", "you have not connected it");

    let issuer = &notes.issuer;
    let granted = issuer.events("grant.success");
    let by = |kind: &str| granted.iter().filter(|event| event["grant_type"] == kind).count();
    assert_eq!(by("authorization_code"), 1, "{granted:?}");
    assert!(by("refresh_token") >= 3, "each use renewed the token: {granted:?}");
    assert!(
        granted.iter().all(|event| event["resource"].as_str().unwrap_or_default().ends_with("/mcp")),
        "{granted:?}"
    );
    assert_eq!(issuer.events("grant.error"), Vec::<Value>::new());
    assert!(!issuer.events("grant.revoked").is_empty(), "{:?}", issuer.events.lock().unwrap());
    notes.place.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s12_a_forwarded_link_exchanges_nothing_and_revokes_nothing() {
    let notes = Notes::new(&[]).await;
    let seen = drive("forwarded", notes.input().await).await;

    has(&seen, "benPage", "Sign-in does not match");
    has(&seen, "benPage", "started by someone else");
    has(&seen, "benPage", "Nothing was connected");
    assert_eq!(seen["benRow"]["badge"], "needs_connection", "{seen:#}");
    assert_eq!(seen["anaRow"]["badge"], "connected", "{seen:#}");

    let issuer = &notes.issuer;
    let subjects =
        |name: &str| -> Vec<Value> { issuer.events(name).iter().map(|event| event["sub"].clone()).collect() };
    assert_eq!(subjects("authorization.success"), ["ada", "grace"], "Ben did consent at the provider");
    assert_eq!(subjects("grant.success"), ["ada"], "and his code was not exchanged");
    for name in ["grant.error", "grant.revoked", "refresh_token.destroyed", "revocation.error"] {
        assert_eq!(issuer.events(name), Vec::<Value>::new(), "{name}");
    }
    notes.place.end().await;
}

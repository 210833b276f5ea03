//! Every route that is not of `/v1`, read from the sources, and what holds of all of them whoever calls.

use serde_json::json;

use super::Findings;
use crate::guards::fixture::Fixture;
use crate::guards::source::{Source, product};
use crate::guards::tables;
use crate::harness::Client;

/// Routes that are open to all, and why.
pub const OPEN: [(&str, &str); 17] = [
    ("/", "sends everyone to where they belong"),
    ("/sign-in", "the way in"),
    ("/setup", "the one-time code is the proof"),
    ("/invitation", "the one-time code is the proof"),
    ("/oauth/callback/{key}", "the provider sends people there; it checks state, browser and session itself"),
    ("/livez", "for whoever starts processes"),
    ("/readyz", "counts, nothing of any tenant"),
    ("/metrics", "counts, nothing of any tenant"),
    ("/v1/openapi.json", "describes the product"),
    ("/assets/{name}", "our style sheet and icons"),
    ("/favicon.ico", "an icon"),
    ("/hooks/{webhook_id}", "the sender's signature is the proof"),
    ("/hooks/{webhook_id}/", "the same endpoint: some senders end every URL with a slash"),
    ("/mcp", "a bearer is the proof: see the gateway's own tests"),
    ("/mcp/spaces/{space_id}", "a bearer is the proof: see the gateway's own tests"),
    ("/.well-known/oauth-protected-resource/mcp", "RFC 9728: public by its nature"),
    ("/.well-known/oauth-protected-resource/mcp/spaces/{space_id}", "RFC 9728: the same for any id"),
];

/// A route as the sources name it.
#[derive(Debug)]
pub struct Route {
    pub path: String,
    pub get: bool,
    pub post: bool,
}

fn constant(sources: &[Source], own: &Source, name: &str) -> String {
    let wanted = format!("const {name}: &str = \"");
    let find = |source: &Source| {
        let (_, rest) = source.text.split_once(&wanted)?;
        rest.split('"').next().map(str::to_owned)
    };
    find(own).or_else(|| sources.iter().find_map(find)).unwrap_or_else(|| panic!("{}: {name} is no text", own.path))
}

/// Every route of the server.
pub fn routes() -> Vec<Route> {
    let sources = product();
    let mut found = Vec::new();
    let served = |source: &&Source| source.path.starts_with("crates/server/src/") && !source.path.contains("/demo/");
    for source in sources.iter().filter(served) {
        for piece in source.text.split(".route(").skip(1) {
            // What follows the last route of a chain is other code.
            let piece = piece.split(".with_state").next().and_then(|piece| piece.split("\n}").next()).unwrap();
            let path = match piece.trim_start().strip_prefix('"') {
                Some(rest) => rest.split('"').next().unwrap().to_owned(),
                None => constant(&sources, source, piece.split(',').next().unwrap().trim()),
            };
            let get = piece.contains("get(");
            let post = piece.contains("post(");
            found.push(Route { get: get || piece.contains("any("), post: post || piece.contains("any("), path });
        }
    }
    found
}

pub fn guarded() -> Vec<Route> {
    let open = |route: &Route| OPEN.iter().any(|(path, _)| *path == route.path);
    routes().into_iter().filter(|route| !open(route)).collect()
}

/// Fields of every form there is, so that each can be read.
fn fields(fixture: &Fixture) -> Vec<(&'static str, String)> {
    let texts = [
        ("name", "Marker"),
        ("slug", "another"),
        ("access", "public"),
        ("prompt", ""),
        ("reason", "no"),
        ("email", "marker-eve@acme.test"),
        ("role", "operator"),
        ("kind", "service"),
        ("audience", "api"),
        ("scope", "admin"),
        ("days", "1"),
        ("expires", "1"),
        ("text", "Marker"),
        ("title", "Marker"),
        ("status", "done"),
        ("auth_mode", "none"),
        ("auth", "none"),
        ("mode", "none"),
        ("secret", "marker-secret"),
        ("definition_hash", "0"),
        ("scheme", "bearer"),
        ("rate_limit_per_minute", "60"),
        ("overlap_seconds", "60"),
        ("overlap", "60"),
        ("instructions", "Marker"),
        ("model", ""),
        ("model_base_url", ""),
        ("api_key", ""),
        ("confirm", "yes"),
        ("confirm_name", "Marker"),
        ("confirm_slug", "no"),
        ("return_to", "/me"),
        ("confirmed", "yes"),
        ("transport", "streamable_http"),
        ("version", "1"),
        ("reopen", "on"),
        ("correlation", ""),
        ("event_id", ""),
        ("allowed_cidrs", ""),
        ("default_priority", ""),
    ];
    let mut fields: Vec<_> = texts.into_iter().map(|(name, text)| (name, text.to_owned())).collect();
    fields.push(("url", fixture.tools.url.clone()));
    fields.push(("space", fixture.id("open-space").to_owned()));
    fields.push(("space_id", fixture.id("open-space").to_owned()));
    fields.push(("user", fixture.carl.user.unwrap().to_string()));
    fields.push(("user_id", fixture.carl.user.unwrap().to_string()));
    fields
}

pub async fn press(fixture: &Fixture, who: &Client, path: &str) -> crate::harness::Response {
    let fields = fields(fixture);
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, text)| (*name, text.as_str())).collect();
    who.form(path, &fields).await
}

#[test]
fn the_routes_are_found_in_the_sources() {
    let routes = routes();
    assert!(routes.len() > 60, "only {} routes were found", routes.len());
    let of = |path: &str| routes.iter().find(|route| route.path == path).map(|route| (route.get, route.post));
    assert_eq!(of("/admin/spaces"), Some((true, true)));
    assert_eq!(of("/admin/audit"), Some((true, false)));
    assert_eq!(of("/me/account/tokens"), Some((false, true)));
    assert_eq!(of("/admin/people"), Some((true, true)));
    for (path, _) in OPEN {
        assert!(of(path).is_some(), "{path} is gone: take it off the list");
    }
}

#[tokio::test]
async fn l80_no_form_is_taken_with_another_sessions_csrf_token() {
    let fixture = Fixture::new().await;
    let mut findings = Findings::default();
    let before = tables::dump(&fixture.app).await;
    let mut forged = fixture.owner.clone();
    forged.csrf = fixture.ana.csrf.clone();
    for route in guarded().into_iter().filter(|route| route.post) {
        let path = fixture.fill(&route.path);
        findings.expect(&format!("POST {path}"), &press(&fixture, &forged, &path).await, 403, "");
    }
    findings.end();
    assert_eq!(tables::changes(&before, &tables::dump(&fixture.app).await), Vec::<String>::new());
}

#[tokio::test]
async fn l81_pages_of_what_is_no_id_are_not_found() {
    let fixture = Fixture::new().await;
    let mut findings = Findings::default();
    let before = tables::dump(&fixture.app).await;
    let long = "a".repeat(2_000);
    let wrong = ["secluded", "%00", "spc_", "..%2f", "%F0%28%8C%28", long.as_str()];
    for route in guarded().into_iter().filter(|route| route.path.contains('{')) {
        for path in wrong.map(|text| fixture.filled(&route.path, |_| text.to_owned())) {
            if route.get {
                findings.expect(&format!("GET {path}"), &fixture.owner.get(&path).await, 404, "");
            }
            if route.post {
                findings.expect(&format!("POST {path}"), &press(&fixture, &fixture.owner, &path).await, 404, "");
            }
        }
    }
    findings.end();
    assert_eq!(tables::changes(&before, &tables::dump(&fixture.app).await), Vec::<String>::new());
}

#[tokio::test]
async fn l80_the_operators_home_draws_nothing_of_another_tenant() {
    let fixture = Fixture::new().await;
    fixture.owner.post(&fixture.fill("/v1/webhooks/{id}/test"), json!({})).await.expect(200);
    let ours = fixture.owner.get("/admin").await.expect(200);
    let theirs = fixture.other.get("/admin").await.expect(200);
    for part in ["Deliveries by result", "/me/threads/"] {
        assert!(ours.text.contains(part), "{part}: {}", ours.text);
        assert!(!theirs.text.contains(part), "{part}: {}", theirs.text);
    }
    let waiting = |count: u8| format!("Pending events</p><p class=\"tile-value\">{count}</p>");
    assert!(ours.text.contains(&waiting(1)), "{}", ours.text);
    assert!(theirs.text.contains(&waiting(0)), "{}", theirs.text);
}

/// Forms that are answered by a page, and why.
const ANSWERED_BY_A_PAGE: [(&str, &str); 1] =
    [("/me/mcp-servers/{id}/connect", "hands over to the provider; sent again it begins the one flow anew")];

#[tokio::test]
async fn l120_every_form_that_is_taken_leads_to_another_page() {
    let fixture = Fixture::new().await;
    let mut taken = 0;
    let mut routes: Vec<Route> = guarded().into_iter().filter(|route| route.post).collect();
    // What ends something comes last, so that the others still find it.
    routes.sort_by_key(|route| route.path.ends_with("/delete") || route.path.ends_with("/end"));
    for route in routes {
        if ANSWERED_BY_A_PAGE.iter().any(|(path, _)| *path == route.path) || route.path == "/sign-out" {
            continue;
        }
        let answer = press(&fixture, &fixture.owner, &fixture.fill(&route.path)).await;
        assert!(answer.status >= 300, "POST {} is answered {} with a page", route.path, answer.status);
        taken += usize::from(answer.status == 303);
    }
    assert!(taken > 20, "only {taken} forms were taken");
}

//! Every page of both faces in Chromium, after two people furnished a tenant by the pages alone.
//!
//! Screenshots of all of them lie in `target/peers/screenshots`; with `THINKWORK_UPDATE_IMAGES` set they are taken in each
//! dress, and the four of the README are copied to `docs/images`.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Deployment, PASSWORD, Peer, drive, variable};

/// The pages that the README shows, each with its size and dress.
const KEPT: [(&str, &str); 4] =
    [("me-thread", "390"), ("me-connections", "390-dark"), ("admin-home", "1280"), ("admin-mcp-server", "1280")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_page_is_whole_at_each_size_and_its_main_act_works() {
    let issuer = Peer::start("oidc.mjs", &[]).await;
    let notes = Peer::start("notes_server.py", &[("ISSUER", &issuer.url)]).await;
    let tools = Peer::start("everything.mjs", &[]).await;
    let model = Peer::start("model.py", &[]).await;
    let place = Deployment::new().await;
    let body = json!({ "name": "Notes", "slug": "notes", "url": notes.url, "auth": { "mode": "user_oauth", "prompt": "consent" } });
    let server = place.server(body, json!({})).await;
    let waiting = json!({ "name": "Parcels", "slug": "parcels", "url": tools.url, "auth": { "mode": "none" } });
    place.operator.post("/v1/mcp-servers", waiting).await.expect(201);

    let images = PathBuf::from(variable("THINKWORK_TEST_PEERS")).join("screenshots");
    let keep: Value = KEPT.iter().map(|(name, kind)| ((*name).to_owned(), json!(kind))).collect();
    let mut input = json!({
        "base": place.app.url(""),
        "issuer": issuer.url,
        "server": server,
        "space": place.space,
        "tools": tools.url,
        "model": model.url,
        "images": images,
        "every": updates_images(),
        "keep": keep,
    });
    for (name, role) in [("Omar", "operator"), ("Ana", "member"), ("Ben", "member"), ("Carla", "member")] {
        let (_, invitation) = place.invite(name, role).await;
        input[name.to_lowercase()] = json!({ "invitation": invitation, "password": PASSWORD });
    }
    let found = drive("pages", input).await;

    let findings: Vec<&str> = found["findings"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    assert!(findings.is_empty(), "{}", findings.join("\n"));
    let seen = |name: &str| found["seen"][name].as_str().unwrap_or_default();
    assert!(seen("webhookProof").contains("A request was received."), "{found:#}");
    assert!(seen("leftOut").contains("you have not connected it"), "{found:#}");
    place.end().await;
    if updates_images() {
        keep_images(&images);
    }
}

fn updates_images() -> bool {
    std::env::var_os("THINKWORK_UPDATE_IMAGES").is_some()
}

fn keep_images(images: &std::path::Path) {
    let docs = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/images");
    std::fs::create_dir_all(&docs).unwrap();
    for (name, kind) in KEPT {
        std::fs::copy(images.join(format!("keep/{name}-{kind}.png")), docs.join(format!("{name}.png"))).unwrap();
    }
}

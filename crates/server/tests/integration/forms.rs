//! Forms that change something show what is stored, so that saving them unchanged changes nothing.

use serde_json::json;

use crate::harness::TestApp;

#[tokio::test]
async fn a_form_shows_the_stored_name_and_not_the_name_of_its_field() {
    let app = TestApp::new().await;
    let owner = app.owner().await;
    let space = json!({ "slug": "room", "name": "Reading room", "access": "public" });
    let space = owner.post("/v1/spaces", space).await.expect(201).text_of("id");
    // Nobody listens there: registering needs no answer, and the server stays pending.
    let server = json!({
        "name": "Quiet notes", "url": "http://127.0.0.1:9/mcp", "transport": "streamable_http",
        "auth": { "mode": "none" },
    });
    let server = owner.post("/v1/mcp-servers", server).await.expect(201).text_of("id");
    for (page, name) in
        [(format!("/admin/spaces/{space}"), "Reading room"), (format!("/admin/mcp-servers/{server}"), "Quiet notes")]
    {
        let text = owner.get(&page).await.expect(200).text;
        assert!(text.contains(&format!(r#"value="{name}""#)), "{page} lost {name}");
        assert!(!text.contains(r#"value="name""#), "{page} would rename it to the word name");
    }
}

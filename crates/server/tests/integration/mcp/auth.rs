//! Authentication modes through the API and the form: what is entered, what is shown of it, and what is refused.

use serde_json::{Value, json};

use super::{McpFixture, text};

/// The `auth` of the server that a form led to.
async fn registered(fixture: &McpFixture, fields: &[(&str, &str)]) -> Value {
    let url = fixture.upstream.url();
    let fields: Vec<(&str, &str)> =
        [("name", "Notes"), ("url", &url)].into_iter().chain(fields.iter().copied()).collect();
    let answer = fixture.owner.form("/admin/mcp-servers", &fields).await.expect(303);
    let id = answer.header("location").rsplit('/').next().unwrap().to_owned();
    let mut server = fixture.owner.get(&format!("/v1/mcp-servers/{id}")).await.expect(200).json;
    fixture.owner.delete(&format!("/v1/mcp-servers/{id}")).await.expect(204);
    server["auth"].take()
}

#[tokio::test]
async fn the_form_reads_what_belongs_to_the_chosen_mode() {
    let fixture = McpFixture::new().await;
    let none = registered(&fixture, &[("mode", "none"), ("tenant_key.header", "x-left-over")]).await;
    assert_eq!(
        none,
        json!({
            "mode": "none",
            "has_secret": false,
            "pkce_though_silent": false,
            "without_offline_access": false,
            "without_resource": false,
        })
    );
    let fields = [("mode", "tenant_key"), ("tenant_key.secret", "the-key-of-the-form"), ("tenant_key.header", "X-Key")];
    let key = registered(&fixture, &fields).await;
    assert_eq!(
        (&key["mode"], &key["header"], &key["has_secret"]),
        (&json!("tenant_key"), &json!("x-key"), &json!(true))
    );
    let fields = [
        ("mode", "user_oauth"),
        ("user_oauth.client_id", "by-hand"),
        ("user_oauth.client_secret", "the-secret-of-the-client"),
        ("user_oauth.scopes", "read list"),
        ("user_oauth.pkce_though_silent", "yes"),
    ];
    let oauth = registered(&fixture, &fields).await;
    assert_eq!((&oauth["client_id"], &oauth["scopes"]), (&json!("by-hand"), &json!(["read", "list"])));
    assert_eq!((&oauth["pkce_though_silent"], &oauth["without_resource"]), (&json!(true), &json!(false)));
    // Sealed again for the authorization server that was then discovered.
    assert_eq!((&oauth["has_secret"], &oauth["secret"]["version"]), (&json!(true), &json!(2)));
}

#[tokio::test]
async fn a_refused_form_keeps_what_was_entered_but_the_secret() {
    let fixture = McpFixture::new().await;
    let url = fixture.upstream.url();
    let key = "the-key-that-is-not-shown";
    let fields = [
        ("name", "Notes"),
        ("url", url.as_str()),
        ("mode", "tenant_key"),
        ("tenant_key.secret", key),
        ("tenant_key.header", "Host"),
        ("user_oauth.scopes", "entered-as-well"),
    ];
    let refused = fixture.owner.form("/admin/mcp-servers", &fields).await.expect(422);
    assert!(refused.text.contains("reserved") && refused.text.contains(r#"value="Host""#), "{}", refused.text);
    assert!(refused.text.contains("entered-as-well") && !refused.text.contains(key), "{}", refused.text);
    for mode in ["", "user_headers"] {
        let fields = [("name", "Notes"), ("url", &url), ("mode", mode), ("tenant_key.secret", key)];
        let refused = fixture.owner.form("/admin/mcp-servers", &fields).await.expect(422);
        assert!(refused.text.contains("use one of: user_oauth, tenant_key, none"), "{}", refused.text);
        assert!(!refused.text.contains(key), "{}", refused.text);
    }
    let missing = [("name", "Notes"), ("url", url.as_str()), ("mode", "tenant_key"), ("tenant_key.secret", "")];
    assert!(fixture.owner.form("/admin/mcp-servers", &missing).await.expect(422).text.contains("enter the secret"));
    assert_eq!(fixture.owner.get("/v1/mcp-servers").await.expect(200).json["items"], json!([]));
}

#[tokio::test]
async fn a_secret_under_another_modes_name_is_refused_and_not_repeated() {
    let fixture = McpFixture::new().await;
    let key = "the-key-that-is-not-shown";
    for (auth, field) in [
        (json!({ "mode": "none", "secret": key }), "auth"),
        (json!({ "mode": "tenant_key", "client_secret": key }), "auth"),
        (json!({ "mode": "user_oauth", "client_id": "x", "secret": key }), "auth"),
        (json!({ "mode": "user_oauth", "client_secret": key }), "auth.client_id"),
        (json!({ "mode": "tenant_key" }), "auth.secret"),
        (json!({ "mode": "tenant_key", "key": key }), "auth"),
        (json!({ "mode": "user_headers", "secret": key }), "auth.mode"),
    ] {
        let body = json!({ "name": "Notes", "url": fixture.upstream.url(), "auth": auth });
        let refused = fixture.owner.post("/v1/mcp-servers", body).await.expect(422);
        assert!(!text(&refused.json["error"]["fields"], field).is_empty(), "{}", refused.text);
        assert!(!refused.text.contains(key), "{}", refused.text);
    }
}

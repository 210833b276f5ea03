//! What a page shows once after a form: a reload repeats nothing and shows nothing again.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Client, Response, TestApp};

/// A form that creates a secret, what the page after it shows of it, and how many there are then.
struct SecretForm {
    path: String,
    fields: Vec<(&'static str, String)>,
    shown: &'static str,
}

impl SecretForm {
    fn fields(&self) -> Vec<(&str, &str)> {
        self.fields.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }
}

fn token_fields() -> Vec<(&'static str, String)> {
    [("name", "Nightly"), ("audience", "api"), ("scope", "read"), ("days", "30")]
        .map(|(name, value)| (name, value.to_owned()))
        .to_vec()
}

/// Every form whose answer is a secret.
async fn secret_forms(operator: &Client) -> Vec<SecretForm> {
    let space = json!({ "slug": "billing", "name": "Billing", "access": "public" });
    let space = operator.post("/v1/spaces", space).await.expect(201).text_of("id");
    let webhook = json!({ "name": "paged", "space_id": space, "verification": { "scheme": "bearer" } });
    let webhook = operator.post("/v1/webhooks", webhook).await.expect(201).text_of("id");
    let invited = json!({ "email": "ben@acme.test", "name": "Ben", "role": "member" });
    let invited = operator.post("/v1/users", invited).await.expect(201).json;
    let ben = invited["user"]["id"].as_str().or_else(|| invited["id"].as_str()).unwrap().to_owned();
    let owned = |fields: &[(&'static str, &str)]| -> Vec<(&'static str, String)> {
        fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
    };
    let form = |path: String, fields, shown| SecretForm { path, fields, shown };
    vec![
        form("/admin/tokens".to_owned(), token_fields(), "tws_"),
        form("/me/account/tokens".to_owned(), token_fields(), "twp_"),
        form(
            "/admin/people".to_owned(),
            owned(&[("name", "Ana"), ("email", "ana@acme.test"), ("role", "member")]),
            "/invitation?code=",
        ),
        form(format!("/admin/people/{ben}/invitation"), Vec::new(), "/invitation?code="),
        form(
            "/admin/webhooks".to_owned(),
            owned(&[("name", "new"), ("space_id", &space), ("scheme", "bearer"), ("rate_limit_per_minute", "60")]),
            "secret-value",
        ),
        form(format!("/admin/webhooks/{webhook}/rotate"), owned(&[("overlap_hours", "1")]), "secret-value"),
    ]
}

fn deletes_flash(answer: &Response) -> bool {
    let cookies = answer.headers.get_all("set-cookie");
    cookies.iter().any(|cookie| cookie.to_str().unwrap().starts_with("__Host-tw_flash=; Path=/; Max-Age=0"))
}

#[tokio::test]
async fn l120_a_secret_is_shown_once_on_the_page_after_its_form() {
    let app = TestApp::new().await;
    let operator = app.operator().await;
    for form in secret_forms(&operator).await {
        let path = &form.path;
        let answer = operator.form(path, &form.fields()).await.expect(303);
        assert!(!answer.text.contains(form.shown), "{path}");
        let page = answer.header("location").to_owned();
        let browser = operator.with_flash(&answer);
        let cookie = browser.cookie.clone().unwrap();
        assert!(!cookie.contains(form.shown), "{path}: the cookie is readable");
        let shown = browser.get(&page).await.expect(200);
        assert!(shown.text.contains(form.shown) && shown.text.contains("shown once"), "{path}: {}", shown.text);
        assert!(deletes_flash(&shown), "{path}: the cookie stays");
        // The browser has deleted the cookie: the page loaded again is without it.
        let reloaded = operator.get(&page).await.expect(200);
        assert!(!reloaded.text.contains("shown once. Copy"), "{path}: {}", reloaded.text);
    }
    let tokens = operator.get("/v1/tokens").await.expect(200).json;
    assert_eq!(tokens["items"].as_array().unwrap().iter().filter(|token| token["name"] == "Nightly").count(), 2);
}

#[tokio::test]
async fn l120_a_flash_opens_on_its_page_in_its_session_within_a_minute() {
    let app = TestApp::new().await;
    let operator = app.operator().await;
    let fields = [("name", "Nightly"), ("audience", "api"), ("scope", "read"), ("days", "30")];
    let answer = operator.form("/admin/tokens", &fields).await.expect(303);
    let browser = operator.with_flash(&answer);
    let shows = async |client: &Client, page: &str| client.get(page).await.expect(200).text.contains("tws_");
    assert!(!shows(&browser, "/admin/people").await, "another page shows it");
    let flash = browser.cookie.as_deref().unwrap().split("; ").last().unwrap().to_owned();
    let mut stolen = app.owner().await;
    stolen.cookie = Some(format!("{}; {flash}", stolen.cookie.unwrap()));
    assert!(!shows(&stolen, "/admin/tokens").await, "another session shows it");
    let mut forged = browser.clone();
    forged.cookie = forged.cookie.map(|cookie| cookie.replace("_flash=A", "_flash=B"));
    assert!(!shows(&forged, "/admin/tokens").await, "a changed cookie opens");
    assert!(shows(&browser, "/admin/tokens").await);
    app.clock.advance(Duration::from_secs(61));
    assert!(!shows(&browser, "/admin/tokens").await, "it is shown after a minute");
}

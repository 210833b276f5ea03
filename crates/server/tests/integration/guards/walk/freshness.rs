//! An operator configures only in a session that was signed in to in the last ten minutes.

use std::time::Duration;

use serde_json::json;

use super::pages::{guarded, press};
use super::{Findings, call};
use crate::guards::fixture::Fixture;
use crate::guards::operations::{Described, Who, described};
use crate::guards::tables;
use crate::harness::Response;

/// Longer than a sign-in counts as recent.
const LATER: Duration = Duration::from_secs(601);

/// Operations of operators that need no recent sign-in, and why.
const WITHOUT_REAUTH: [(&str, &str); 6] = [
    ("POST /v1/webhooks/{id}/test", "tries out what is configured"),
    ("POST /v1/webhooks/{id}/replay", "repeats what was accepted"),
    ("POST /v1/deliveries/{id}/replay", "repeats what was accepted"),
    ("POST /v1/mcp-servers/{id}/test", "tries out what is configured"),
    ("POST /v1/mcp-servers/{id}/tools/refresh", "what is new waits for an approval"),
    ("POST /v1/connections/{id}/revoke", "takes access away, which must not wait"),
];

/// The same of forms.
const FORMS_WITHOUT_REAUTH: [(&str, &str); 7] = [
    ("/admin/webhooks/{id}/test", "tries out what is configured"),
    ("/admin/webhooks/{id}/replay", "repeats what was accepted"),
    ("/admin/deliveries/{id}/replay", "repeats what was accepted"),
    ("/admin/mcp-servers/{id}/test", "tries out what is configured"),
    ("/admin/connections/{id}/revoke", "takes access away, which must not wait"),
    ("/admin/tokens/{id}/revoke", "takes access away, which must not wait"),
    ("/admin/spaces/{id}/members/{user_id}/remove", "takes access away, which must not wait"),
];

fn needs_no_reauth(operation: &Described) -> bool {
    WITHOUT_REAUTH.iter().any(|(name, _)| *name == operation.name)
}

fn is_sent_to_sign_in(answer: &Response) -> bool {
    answer.header("location").starts_with("/sign-in")
}

#[tokio::test]
async fn no_operation_of_an_operator_but_those_named_takes_an_old_sign_in() {
    let fixture = Fixture::new().await;
    let admin = json!({ "name": "x", "kind": "personal", "audience": "api", "scopes": ["admin"] });
    let admin = fixture.app.bearer(&fixture.owner.post("/v1/tokens", admin).await.expect(201).text_of("token"));
    fixture.app.clock.advance(LATER);
    fixture.owner.get("/v1/me").await.expect(200);
    let operations = described(&fixture.app).await;
    let changes = || operations.iter().filter(|one| one.is_change() && one.who() == Who::Operator);
    for (name, _) in WITHOUT_REAUTH {
        assert!(changes().any(|one| one.name == name), "{name} is gone: take it off the list");
    }
    let mut findings = Findings::default();
    let before = tables::dump(&fixture.app).await;
    for operation in changes().filter(|one| !needs_no_reauth(one)) {
        let answer = call(&fixture, &fixture.owner, operation, &fixture.fill(&operation.path)).await;
        findings.expect(&operation.name, &answer, 403, "reauth_required");
    }
    findings.end();
    assert_eq!(tables::changes(&before, &tables::dump(&fixture.app).await), Vec::<String>::new());
    for operation in changes().filter(|one| needs_no_reauth(one)) {
        let answer = call(&fixture, &fixture.owner, operation, &fixture.fill(&operation.path)).await;
        assert_ne!(answer.code(), "reauth_required", "{}", operation.name);
    }
    // A token was given its scope; who reads is asked for nothing.
    let space = fixture.fill("/v1/spaces/{id}");
    admin.patch(&space, json!({ "name": "Marker attic" })).await.expect(200);
    fixture.owner.get("/v1/webhooks").await.expect(200);
    let fresh = fixture.app.session_of(fixture.owner.user.unwrap()).await;
    fresh.patch(&space, json!({ "name": "Marker cellar" })).await.expect(200);
}

#[tokio::test]
async fn a_form_of_an_operator_with_an_old_sign_in_leads_to_sign_in_and_back() {
    let fixture = Fixture::new().await;
    fixture.app.clock.advance(LATER);
    let forms: Vec<_> = guarded().into_iter().filter(|route| route.post && route.path.starts_with("/admin")).collect();
    for (path, _) in FORMS_WITHOUT_REAUTH {
        assert!(forms.iter().any(|form| form.path == path), "{path} is gone: take it off the list");
    }
    fixture.owner.get("/me").await.expect(200);
    let mut wrong = Vec::new();
    let before = tables::dump(&fixture.app).await;
    let needs_no_reauth = |path: &str| FORMS_WITHOUT_REAUTH.iter().any(|(form, _)| *form == path);
    for form in forms.iter().filter(|form| !needs_no_reauth(&form.path)) {
        let answer = press(&fixture, &fixture.owner, &fixture.fill(&form.path)).await;
        let page = answer.header("location").strip_prefix("/sign-in?again=1&next=").unwrap_or_default().to_owned();
        let back = fixture.owner.get(&page).await.status;
        if answer.status != 303 || page.is_empty() || back != 200 {
            wrong.push(format!("{}: {} to {page}, which is {back}", form.path, answer.status));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(tables::changes(&before, &tables::dump(&fixture.app).await), Vec::<String>::new());
    for form in forms.iter().filter(|form| needs_no_reauth(&form.path)) {
        let answer = press(&fixture, &fixture.owner, &fixture.fill(&form.path)).await;
        assert!(!is_sent_to_sign_in(&answer), "{}", form.path);
    }
}

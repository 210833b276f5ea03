//! An operator configures only in a session that was signed in to in the last ten minutes. What needs no such session
//! stands here; that nothing else does without is seen by the walk of all kinds of caller.

use super::pages::guarded;
use crate::guards::operations::{Described, Who, described};
use crate::harness::TestApp;

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

/// Whether the operation takes an old sign-in.
pub fn needs_no_reauth(operation: &Described) -> bool {
    WITHOUT_REAUTH.iter().any(|(name, _)| *name == operation.name)
}

/// Whether the form with this action takes an old sign-in.
pub fn needs_no_reauth_form(path: &str) -> bool {
    FORMS_WITHOUT_REAUTH.iter().any(|(form, _)| *form == path)
}

#[tokio::test]
async fn what_is_listed_as_without_reauth_is_an_operators_change() {
    let app = TestApp::new().await;
    let operations = described(&app).await;
    let is_change = |name: &str| {
        let operation = operations.iter().find(|operation| operation.name == name);
        operation.is_some_and(|operation| operation.is_change() && operation.who() == Who::Operator)
    };
    for (name, _) in WITHOUT_REAUTH {
        assert!(is_change(name), "{name} is gone: take it off the list");
    }
    let routes = guarded();
    for (path, _) in FORMS_WITHOUT_REAUTH {
        let is_form = routes.iter().any(|route| route.post && route.path == path && path.starts_with("/admin"));
        assert!(is_form, "{path} is gone: take it off the list");
    }
}

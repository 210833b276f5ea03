//! Health, Host, Origin, headers: what holds for every route.

use crate::harness::TestApp;

#[tokio::test]
async fn a_started_server_is_ready() {
    let app = TestApp::new().await;
    let answer = app.anyone().get("/readyz").await;
    assert_eq!((answer.status, answer.json["ready"].as_bool()), (200, Some(true)));
}

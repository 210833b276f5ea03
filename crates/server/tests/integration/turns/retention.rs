//! Steps whose retention period ended, and the connections that they name.

use std::time::Duration;

use serde_json::{Value, json};
use thinkwork::worker::sweep;

use super::outside::Upstream;
use super::{TurnFixture, issuer};
use crate::guards::tables;
use crate::harness::{Client, TestApp};

const DAY: Duration = Duration::from_secs(86_400);
const SETTINGS: &[(&str, &str)] = &[("retention.steps_days", "30"), ("retention.ended_connections_days", "10")];

async fn count(app: &TestApp, rows: &str) -> usize {
    let connection = tables::connect(app).await;
    let found = tables::texts(&connection, &format!("SELECT CAST(count(*) AS TEXT) FROM {rows}")).await;
    connection.close().await.unwrap();
    found[0].parse().unwrap()
}

async fn disconnect(fixture: &TurnFixture, who: &Client) {
    let connections = who.get("/v1/me/connections").await.expect(200).json;
    let id = connections["items"][0]["id"].as_str().unwrap().to_owned();
    who.delete(&format!("/v1/me/connections/{id}")).await.expect(200);
    fixture.app.run_pending_jobs().await;
}

async fn only_turn(fixture: &TurnFixture, who: &Client, thread: &str) -> Value {
    let turns = fixture.turns(who, thread).await;
    assert_eq!(turns.len(), 1, "{turns:?}");
    turns[0].clone()
}

#[tokio::test]
async fn old_steps_are_deleted_and_their_turn_says_so() {
    let fixture = TurnFixture::with_settings(SETTINGS).await;
    let app = &fixture.app;
    let upstream = Upstream::start(Some(issuer().await), &["look"], |_| "a note".to_owned()).await;
    let server = fixture.server(&upstream, "notes", json!({ "mode": "user_oauth" }), json!({})).await;
    let ana = app.user("ana", thinkwork_primitives::Role::Member).await;
    let bo = app.user("bo", thinkwork_primitives::Role::Member).await;
    let session = app.session_of(ana).await;
    fixture.connect(&session, &server, &upstream).await;
    let thread = fixture.thread(&session, "/tool notes__look {}").await;
    let held = fixture.thread(&fixture.owner, "/tool notes__look {}").await;
    app.run_pending_jobs().await;
    // As a turn is that waits for an approval.
    let hold = "UPDATE turn SET status = 'waiting_approval', finished_at = NULL WHERE subject_user_id NOT IN
                (SELECT id FROM user_account WHERE name = 'ana')";
    tables::run(app, hold).await;
    let steps = count(app, "step").await;
    assert_eq!(steps, 2);
    disconnect(&fixture, &session).await;
    // A connection that no step names.
    let other = app.session_of(bo).await;
    fixture.connect(&other, &server, &upstream).await;
    disconnect(&fixture, &other).await;

    app.clock.advance(DAY * 9);
    sweep(&app.app).await;
    assert_eq!(count(app, "connection WHERE ended_at IS NOT NULL").await, 2);
    app.clock.advance(DAY * 2);
    sweep(&app.app).await;
    assert_eq!(count(app, "connection WHERE ended_at IS NOT NULL").await, 1, "hers is named by a step");
    assert_eq!(count(app, "step").await, steps);
    let session = app.session_of(ana).await;
    assert!(only_turn(&fixture, &session, &thread).await["steps_deleted_at"].is_null());
    assert!(session.get(&format!("/me/threads/{thread}")).await.text.contains("1 step"));

    app.clock.advance(DAY * 20);
    sweep(&app.app).await;
    assert_eq!(count(app, "step").await, 1, "a turn that has not ended keeps its steps");
    assert_eq!(count(app, "connection WHERE ended_at IS NOT NULL").await, 0);
    assert_eq!(count(app, "connection WHERE ended_at IS NULL").await, 1);
    let session = app.session_of(ana).await;
    let turn = only_turn(&fixture, &session, &thread).await;
    assert_eq!(turn["steps"], json!([]));
    assert!(turn["steps_deleted_at"].is_string(), "{turn}");
    assert_eq!(turn["status"], "succeeded");
    let owner = app.owner().await;
    let kept = only_turn(&fixture, &owner, &held).await;
    assert!(kept["steps_deleted_at"].is_null() && kept["steps"].as_array().unwrap().len() == 1, "{kept}");

    let page = session.get(&format!("/me/threads/{thread}")).await.expect(200).text;
    assert!(page.contains("Steps deleted") && !page.contains("No steps"), "{page}");
    assert!(page.contains("The steps of this turn were deleted because their retention period ended."), "{page}");
    assert!(page.contains("credential details deleted") && !page.contains("no personal credential"), "{page}");
    let export = session.get(&format!("/v1/threads/{thread}/export")).await.expect(200);
    assert_eq!(export.json["turns"][0]["steps_deleted_at"], turn["steps_deleted_at"]);
    // The record still says what was used.
    let uses = session.get("/me/uses").await.expect(200).text;
    assert!(uses.contains("Disconnected account") && uses.contains("notes__look"), "{uses}");
}

#[tokio::test]
async fn a_turn_whose_steps_are_partly_deleted_shows_none_of_them() {
    let fixture = TurnFixture::with_settings(SETTINGS).await;
    let upstream = Upstream::start(None, &["look"], |_| "a note".to_owned()).await;
    fixture.server(&upstream, "notes", super::tenant_key(), json!({})).await;
    let turn = fixture.turn(&fixture.owner, "/tool notes__look {}").await;
    assert_eq!(turn["steps"].as_array().unwrap().len(), 1);
    tables::run(&fixture.app, "UPDATE turn SET steps_deleted_at = finished_at").await;
    let turns = fixture.turns(&fixture.owner, turn["thread_id"].as_str().unwrap()).await;
    assert_eq!(turns[0]["steps"], json!([]));
}

//! The record: sealed within a second, and every kind of tampering is found and named.

use sea_orm::ConnectionTrait as _;
use thinkwork::audit::{Checkpoints, Event, Evidence, Finding, Sealer, Verified, record};
use thinkwork_primitives::{Actor, TenantId};

use crate::harness::{TestApp, execute_sql};

mod restore;
mod sealer;
mod tampering;

async fn add_events(app: &TestApp, count: usize) {
    for _ in 0..count {
        let mut tx = app.slices().db.write(app.tenant).await.unwrap();
        let event = Event::by(Actor::server(), "test.done").on("thing", "one");
        record(&mut tx, app.clock.now(), event).unwrap();
        tx.commit().await.unwrap();
    }
}

/// A record of some sealed events, with the triggers that refuse changes switched off, as someone who owns the
/// database could.
async fn sealed() -> TestApp {
    let app = TestApp::new().await;
    add_events(&app, 6).await;
    seal(&app, &app.slices().audit.sealer()).await;
    app
}

/// Seals and signs as the worker does.
async fn seal(app: &TestApp, sealer: &Sealer) {
    thinkwork::worker::seal(app.slices(), sealer).await;
}

/// Runs this as the owner of the database, who can switch off what refuses changes.
async fn tamper(app: &TestApp, sql: &str) {
    let url = &app.slices().config.database_url;
    let connection = sea_orm::Database::connect(crate::harness::owner_url(url)).await.unwrap();
    // One text, so that all of it runs on one connection of the pool.
    let mut all = String::new();
    if is_sqlite(app) {
        all.push_str("PRAGMA foreign_keys = OFF;");
        for table in ["audit_event", "audit_seal", "audit_checkpoint"] {
            for verb in ["replace", "update", "delete"] {
                all.push_str(&format!("DROP TRIGGER IF EXISTS {table}_no_{verb};"));
            }
        }
    } else {
        all.push_str("SET session_replication_role = replica;");
    }
    connection.execute_unprepared(&(all + sql)).await.unwrap();
    connection.close().await.unwrap();
}

fn is_sqlite(app: &TestApp) -> bool {
    app.slices().config.database_url.starts_with("sqlite")
}

async fn findings(app: &TestApp, outside: &str) -> Vec<Finding> {
    verify(app, app.tenant, outside).await.findings
}

/// Verifies as the command does, against what is kept beside the key file and these lines.
async fn verify(app: &TestApp, tenant: TenantId, outside: &str) -> Verified {
    let audit = &app.slices().audit;
    let heads = audit.heads().await.unwrap();
    let evidence = Evidence { heads: &heads, checkpoints: &Checkpoints::parse(outside) };
    audit.verify(tenant, &evidence, |_| {}).await.unwrap()
}

#[tokio::test]
async fn l82_an_untouched_record_verifies_and_nothing_stays_behind() {
    let app = sealed().await;
    let verified = verify(&app, app.tenant, "").await;
    assert!(verified.findings.is_empty(), "{:?}", verified.findings);
    assert!(verified.links >= 6 && verified.checkpoints == 1);
    assert_eq!(app.slices().audit.sealing_behind().await.unwrap(), std::time::Duration::ZERO);
}

#[tokio::test]
async fn l82_each_tenant_has_a_record_of_its_own() {
    let app = TestApp::new().await;
    let other = app.slices().access.tenant_create("other", "Other", "owner@other.test", "Otto").await.unwrap().tenant;
    let sealer = app.slices().audit.sealer();
    let links = async |tenant| {
        let verified = verify(&app, tenant, "").await;
        assert!(verified.findings.is_empty(), "{:?}", verified.findings);
        assert_eq!(verified.checkpoints, 1);
        verified.links
    };
    seal(&app, &sealer).await;
    let ours = links(app.tenant).await;
    let theirs = links(other).await;
    add_events(&app, 3).await;
    seal(&app, &sealer).await;
    assert_eq!((links(app.tenant).await, links(other).await), (ours + 3, theirs), "theirs did not grow by ours");
    assert!(ours > 0 && theirs > 0);
}

#[tokio::test]
async fn s24_the_database_refuses_to_change_or_delete_events() {
    let app = sealed().await;
    for sql in ["UPDATE audit_event SET action = 'x'", "DELETE FROM audit_event", "DELETE FROM audit_seal"] {
        let tx = app.slices().db.write(app.tenant).await.unwrap();
        let refused = execute_sql(&tx, sql).await.expect_err(sql).to_string();
        assert!(refused.contains("append-only") || refused.contains("permission denied"), "{sql}: {refused}");
    }
}

#[tokio::test]
async fn s24_every_changed_column_of_an_event_is_found() {
    for change in [
        "payload = replace(payload, 'test.done', 'test.gone')",
        "action = 'test.gone'",
        "requester_id = 'x'",
        "requester_kind = 'x'",
        "client_kind = 'x'",
        "client_id = 'x'",
        "subject_kind = 'x'",
        "target_id = 'x'",
        "at = at + 1",
        "surface = 'gateway'",
        "thread_id = id",
        "turn_id = id",
    ] {
        let app = sealed().await;
        tamper(&app, &format!("UPDATE audit_event SET {change} WHERE action = 'test.done'")).await;
        let found = findings(&app, "").await;
        assert!(found.iter().any(|finding| matches!(finding, Finding::EventChanged(..))), "{change}: {found:?}");
    }
}

#[tokio::test]
async fn s24_a_missing_event_and_a_missing_link_are_found() {
    let app = sealed().await;
    tamper(&app, "DELETE FROM audit_event WHERE action = 'test.done'").await;
    assert!(findings(&app, "").await.iter().any(|finding| matches!(finding, Finding::EventGone(..))));
    let app = sealed().await;
    tamper(&app, "DELETE FROM audit_seal WHERE sequence = 3").await;
    assert!(findings(&app, "").await.contains(&Finding::Missing(3, 3)));
}

#[tokio::test]
async fn s24_reordered_links_are_found() {
    let app = sealed().await;
    tamper(
        &app,
        "UPDATE audit_seal SET sequence = 1000 WHERE sequence = 2;
         UPDATE audit_seal SET sequence = 2 WHERE sequence = 3;
         UPDATE audit_seal SET sequence = 3 WHERE sequence = 1000",
    )
    .await;
    assert!(findings(&app, "").await.iter().any(|finding| matches!(finding, Finding::Broken(_))));
}

#[tokio::test]
async fn s24_a_cut_tail_is_found_by_a_checkpoint() {
    let app = sealed().await;
    tamper(&app, "DELETE FROM audit_seal WHERE sequence > 3").await;
    let found = findings(&app, "").await;
    assert!(found.iter().any(|finding| matches!(finding, Finding::Cut(_))), "{found:?}");
}

#[tokio::test]
async fn s24_an_event_added_behind_the_records_back_is_found() {
    let app = sealed().await;
    add_events(&app, 1).await;
    tamper(&app, "DELETE FROM audit_unsealed").await;
    assert!(findings(&app, "").await.iter().any(|finding| matches!(finding, Finding::Unsealed(_))));
}

#[tokio::test]
async fn s24_what_was_sealed_right_after_a_checkpoint_is_signed_although_nothing_follows() {
    let app = TestApp::new().await;
    let sealer = app.slices().audit.sealer();
    add_events(&app, 2).await;
    seal(&app, &sealer).await;
    add_events(&app, 3).await;
    seal(&app, &sealer).await;
    app.clock.advance(std::time::Duration::from_secs(61));
    seal(&app, &sealer).await;
    let links = verify(&app, app.tenant, "").await.links;
    tamper(&app, &format!("DELETE FROM audit_seal WHERE sequence = {links}")).await;
    let found = findings(&app, "").await;
    assert!(found.contains(&Finding::Cut(i64::try_from(links).unwrap())), "the last one cannot be cut: {found:?}");
}

#[tokio::test]
async fn s24_a_process_that_ended_before_it_signed_leaves_that_to_the_next() {
    let app = TestApp::new().await;
    let first = app.slices().audit.sealer();
    seal(&app, &first).await;
    add_events(&app, 3).await;
    seal(&app, &first).await;
    drop(first);
    seal(&app, &app.slices().audit.sealer()).await;
    let verified = verify(&app, app.tenant, "").await;
    assert_eq!((verified.checkpoints, verified.findings.len()), (2, 0));
    tamper(&app, &format!("DELETE FROM audit_seal WHERE sequence = {}", verified.links)).await;
    assert!(findings(&app, "").await.iter().any(|finding| matches!(finding, Finding::Cut(_))));
}

//! The sealer: what it refuses to go on from, what it passes over, and that several do not race.

use std::time::Duration;

use thinkwork::audit::Finding;

use super::{add_events, findings, is_sqlite, seal, sealed, tamper, verify};
use crate::harness::TestApp;
use crate::log::Log;

async fn unsealed(app: &TestApp) -> u64 {
    app.slices().audit.unsealed().await.unwrap()
}

fn statements(app: &TestApp) -> f64 {
    let text = app.slices().metrics.text().unwrap();
    let lines = text.lines().filter(|line| line.starts_with("thinkwork_database_statements_total"));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

#[tokio::test]
async fn s24_l113_a_cut_chain_is_not_gone_on_with_and_the_log_says_what_to_do() {
    let app = sealed().await;
    tamper(
        &app,
        "DELETE FROM audit_event WHERE id IN (SELECT event_id FROM audit_seal WHERE sequence > 4);
         DELETE FROM audit_seal WHERE sequence > 4; DELETE FROM audit_checkpoint WHERE sequence > 0",
    )
    .await;
    add_events(&app, 2).await;
    let (log, _guard) = Log::begin();
    let sealer = app.slices().audit.sealer();
    for _ in 0..3 {
        seal(&app, &sealer).await;
    }
    assert_eq!(unsealed(&app).await, 2);
    let lines = String::from_utf8(log.bytes()).unwrap();
    assert!(lines.contains("thinkwork audit accept"), "{lines}");
    let told = lines.matches("is not sealed any further").count();
    assert!((1..=2).contains(&told), "once a minute, not each second: {told} in {lines}");
    app.anonymous().get("/readyz").await.expect(200);
    app.clock.advance(Duration::from_secs(62));
    let answer = app.anonymous().get("/readyz").await.expect(503);
    assert_eq!(answer.json["problems"], serde_json::json!(["audit_sealing"]));
    assert!(answer.json["advice"].as_str().unwrap().contains("audit verify"), "{}", answer.text);
}

#[tokio::test]
async fn s24_a_sealer_does_not_forget_what_it_sealed_after_the_last_checkpoint() {
    let app = sealed().await;
    let sealer = app.slices().audit.sealer();
    seal(&app, &sealer).await;
    add_events(&app, 2).await;
    seal(&app, &sealer).await;
    let links = verify(&app, app.tenant, "").await.links;
    tamper(
        &app,
        &format!(
            "DELETE FROM audit_event WHERE id IN (SELECT event_id FROM audit_seal WHERE sequence = {links});
             DELETE FROM audit_seal WHERE sequence = {links}"
        ),
    )
    .await;
    add_events(&app, 1).await;
    seal(&app, &sealer).await;
    assert_eq!(unsealed(&app).await, 1, "the chain does not go on where a link was taken back");
}

#[tokio::test]
async fn l113_one_tenants_broken_chain_holds_up_no_other() {
    let app = TestApp::new().await;
    let other = app.slices().access.tenant_create("other", "Other", "owner@other.test", "Otto").await.unwrap().tenant;
    tamper(&app, "DELETE FROM audit_checkpoint WHERE tenant_id = (SELECT id FROM tenant WHERE slug = 'acme')").await;
    seal(&app, &app.slices().audit.sealer()).await;
    let theirs = verify(&app, other, "").await;
    assert_eq!((theirs.findings, theirs.checkpoints), (Vec::new(), 1));
    assert!(findings(&app, "").await.contains(&Finding::NoBeginning));
}

#[tokio::test]
async fn l113_an_orphan_stops_no_sealing_and_is_told() {
    let app = sealed().await;
    let uuid = if is_sqlite(&app) { "randomblob(16)" } else { "gen_random_uuid()" };
    tamper(&app, &format!("INSERT INTO audit_unsealed (tenant_id, event_id) SELECT id, {uuid} FROM tenant")).await;
    add_events(&app, 3).await;
    let (log, _guard) = Log::begin();
    let sealer = app.slices().audit.sealer();
    for _ in 0..3 {
        seal(&app, &sealer).await;
    }
    assert_eq!((unsealed(&app).await, app.slices().audit.refused().await.unwrap()), (0, 1));
    let lines = String::from_utf8(log.bytes()).unwrap();
    assert_eq!(lines.matches("an event that waits to be sealed is gone").count(), 1, "{lines}");
    assert!(lines.contains("thinkwork audit verify"), "{lines}");
    app.clock.advance(Duration::from_secs(90));
    app.anonymous().get("/readyz").await.expect(200);
    assert!(app.anonymous().get("/metrics").await.text.contains("thinkwork_audit_refused_events 1"));
    let found = findings(&app, "").await;
    assert!(matches!(found[..], [Finding::WaitingGone(_)]), "{found:?}");
}

#[tokio::test]
async fn l126_two_workers_seal_one_tenant_without_a_conflict() {
    let app = TestApp::new().await;
    let second = app.second().await;
    let one = app.slices().audit.sealer();
    let two = second.audit.sealer();
    for _ in 0..5 {
        add_events(&app, 20).await;
        let (first, other) = tokio::join!(one.seal_all(), two.seal_all());
        first.unwrap();
        other.unwrap();
        let (first, other) = tokio::join!(one.sign_heads([app.tenant]), two.sign_heads([app.tenant]));
        first.unwrap();
        other.unwrap();
    }
    one.seal_all().await.unwrap();
    two.seal_all().await.unwrap();
    let verified = verify(&app, app.tenant, "").await;
    assert_eq!(verified.findings, []);
    assert!(verified.links >= 100 && unsealed(&app).await == 0, "{verified:?}");
}

#[tokio::test]
async fn l126_verifying_asks_no_more_of_each_event_the_more_there_are() {
    let app = TestApp::new().await;
    for _ in 0..6 {
        let mut tx = app.slices().db.write(app.tenant).await.unwrap();
        for _ in 0..1_000 {
            let event = thinkwork::audit::Event::by(thinkwork_primitives::Actor::server(), "test.done");
            thinkwork::audit::record(&mut tx, app.clock.now(), event).unwrap();
        }
        tx.commit().await.unwrap();
    }
    seal(&app, &app.slices().audit.sealer()).await;
    let before = statements(&app);
    let mut told = Vec::new();
    let heads = app.slices().audit.heads().await.unwrap();
    let checkpoints = thinkwork::audit::Checkpoints::default();
    let evidence = thinkwork::audit::Evidence { heads: &heads, checkpoints: &checkpoints };
    let verified = app.slices().audit.verify(app.tenant, &evidence, |links| told.push(links)).await.unwrap();
    assert_eq!(verified.findings, []);
    assert!(verified.links >= 6_000);
    assert!(told.len() >= 6 && told.is_sorted(), "{told:?}");
    let asked = statements(&app) - before;
    assert!(asked < 50.0, "{asked} statements for {} events", verified.links);
}

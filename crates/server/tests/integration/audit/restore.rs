//! An older database in place of a newer one: noticed, and accepted where an operator says so.

use std::time::Duration;

use thinkwork::audit::{Error, Finding};
use tokio::process::Command;

use super::{add_events, findings, seal, sealed, tamper, verify};
use crate::harness::{TestApp, migration_url};

/// Back to the state at the first checkpoint, as a restore leaves it.
const RESTORE: &str = "
    DELETE FROM audit_unsealed;
    DELETE FROM audit_event WHERE id IN (SELECT event_id FROM audit_seal WHERE sequence >
      (SELECT min(sequence) FROM audit_checkpoint WHERE sequence > 0));
    DELETE FROM audit_seal WHERE sequence > (SELECT min(sequence) FROM audit_checkpoint WHERE sequence > 0);
    DELETE FROM audit_checkpoint WHERE sequence > (SELECT min(sequence) FROM audit_checkpoint WHERE sequence > 0)";

async fn grown() -> TestApp {
    let app = sealed().await;
    add_events(&app, 3).await;
    app.clock.advance(Duration::from_secs(61));
    seal(&app, &app.slices().audit.sealer()).await;
    app
}

#[tokio::test]
async fn l113_an_older_database_is_noticed_and_can_be_accepted() {
    let app = grown().await;
    tamper(&app, RESTORE).await;
    let found = findings(&app, "").await;
    assert!(found.iter().any(|found| matches!(found, Finding::CheckpointGone(_))), "{found:?}");
    assert!(found.iter().any(|found| matches!(found, Finding::Cut(_))), "{found:?}");
    add_events(&app, 2).await;
    seal(&app, &app.slices().audit.sealer()).await;
    assert_eq!(app.slices().audit.unsealed().await.unwrap(), 2, "nothing is sealed until it is accepted");
    let accepted = app.slices().audit.accept(app.tenant).await.unwrap();
    assert!(accepted.kept.unwrap() > accepted.sequence && accepted.gone == 0, "{accepted:?}");
    seal(&app, &app.slices().audit.sealer()).await;
    assert_eq!(findings(&app, "").await, []);
    assert_eq!(app.slices().audit.unsealed().await.unwrap(), 0);
    let events = app.owner().await.get("/v1/audit?action=audit.accepted").await.expect(200);
    assert_eq!(events.json["items"][0]["detail"]["kept_sequence"], accepted.kept.unwrap());
    assert_eq!(events.json["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn l113_a_record_that_was_changed_cannot_be_accepted() {
    let app = grown().await;
    tamper(&app, RESTORE).await;
    tamper(&app, "UPDATE audit_event SET requester_id = 'x' WHERE action = 'tenant.created'").await;
    let refused = app.slices().audit.accept(app.tenant).await.unwrap_err();
    assert!(matches!(refused, Error::NotAcceptable { finding: Finding::EventChanged(..), .. }), "{refused}");
    assert!(findings(&app, "").await.iter().any(|found| matches!(found, Finding::CheckpointGone(_))));
}

#[tokio::test]
async fn l113_what_waits_and_is_gone_is_forgotten_by_accepting() {
    let app = grown().await;
    add_events(&app, 1).await;
    tamper(&app, "DELETE FROM audit_event WHERE id IN (SELECT event_id FROM audit_unsealed)").await;
    seal(&app, &app.slices().audit.sealer()).await;
    assert!(findings(&app, "").await.iter().any(|found| matches!(found, Finding::WaitingGone(_))));
    assert_eq!(app.slices().audit.accept(app.tenant).await.unwrap().gone, 1);
    seal(&app, &app.slices().audit.sealer()).await;
    assert_eq!(findings(&app, "").await, []);
}

#[tokio::test]
async fn l113_lost_heads_are_noticed_until_a_worker_has_begun_to_keep_them_again() {
    let app = grown().await;
    let mut file = app.slices().config.key_file.clone().into_os_string();
    file.push(".heads");
    let kept = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    app.clock.advance(Duration::from_secs(61));
    assert_eq!(findings(&app, "").await, [Finding::NoKeptHead]);
    seal(&app, &app.slices().audit.sealer()).await;
    assert_eq!(findings(&app, "").await, []);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), kept);
    // A file that is older than the database is behind, not wrong.
    add_events(&app, 2).await;
    app.clock.advance(Duration::from_secs(61));
    seal(&app, &app.slices().audit.sealer()).await;
    assert_ne!(std::fs::read_to_string(&file).unwrap(), kept);
    std::fs::write(&file, &kept).unwrap();
    assert_eq!(findings(&app, "").await, []);
    std::fs::write(&file, "nonsense\n").unwrap();
    let unreadable = app.slices().audit.heads().await.unwrap_err().to_string();
    assert!(unreadable.contains("line 1") && unreadable.contains("restore the file"), "{unreadable}");
}

#[tokio::test]
async fn l113_a_forgotten_tenant_is_forgotten_beside_the_key_file() {
    let app = grown().await;
    assert!(app.slices().audit.accept_without(app.tenant).await.unwrap().is_some());
    assert_eq!(app.slices().audit.accept_without(app.tenant).await.unwrap(), None);
}

/// The command over the test's own database.
async fn command(app: &TestApp, arguments: &[&str]) -> (i32, String) {
    let config = &app.slices().config;
    let mut command = Command::new(env!("CARGO_BIN_EXE_thinkwork"));
    command.args(["audit"]).args(arguments).env_clear();
    command.env("THINKWORK_DATABASE_URL", &config.database_url).env("THINKWORK_KEY_FILE", &config.key_file);
    command.env("THINKWORK_DATA_DIR", &config.data_dir);
    if let Some(url) = migration_url(&config.database_url) {
        command.env("THINKWORK_DATABASE_MIGRATION_URL", url);
    }
    let ran = command.output().await.unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
    (ran.status.code().unwrap(), said)
}

#[tokio::test]
async fn l113_the_command_fails_on_a_line_that_it_cannot_read() {
    let app = grown().await;
    let links = verify(&app, app.tenant, "").await.links;
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let mut heads = app.slices().config.key_file.clone().into_os_string();
    heads.push(".heads");
    let line = std::fs::read_to_string(heads).unwrap();
    for (text, code, words) in [
        (line.clone(), 0, format!("acme: {links} events and 2 checkpoints verified")),
        (format!("{line}\n\n"), 0, "acme".to_owned()),
        (format!("{line}INFO audit checkpoint checkpoint={{}} signature=abc\n"), 1, "line 2 of the".to_owned()),
        (line.replace("\\\"sequence\\\":", "\\\"sequence\\\":1"), 1, "has a wrong signature".to_owned()),
    ] {
        std::fs::write(path, &text).unwrap();
        let (ended, said) = command(&app, &["verify", "--checkpoints", path]).await;
        assert!(ended == code && said.contains(&words), "{text}: {ended}, {said}");
    }
    tamper(&app, RESTORE).await;
    let (ended, said) = command(&app, &["verify"]).await;
    assert!(ended == 1 && said.contains("or the database is older"), "{said}");
    let (ended, said) = command(&app, &["accept", "acme"]).await;
    assert!(ended == 0 && said.contains("acme: accepted up to sequence"), "{said}");
    assert_eq!(command(&app, &["verify"]).await.0, 0);
    let (ended, said) = command(&app, &["accept", "nowhere"]).await;
    assert!(ended == 1 && said.contains("there is no tenant nowhere"), "{said}");
}

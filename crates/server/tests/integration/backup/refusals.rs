//! What is refused: files that are no backup or of elsewhere, keys that do not fit, places that are not empty.

use std::path::Path;

use serde_json::{Value, json};

use super::Deployment;
use crate::bad_input::Serving;
use crate::harness::owner_url;

/// Fails unless a command ended with this code and said this, and nothing else.
#[track_caller]
fn refused(place: &Deployment, arguments: &[&str], code: i32, words: &str) {
    let output = place.run(arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    assert!(said.contains(words) && output.stdout.is_empty(), "{words:?} in {said}");
}

fn is_sqlite(place: &Deployment) -> bool {
    place.setting("THINKWORK_DATABASE_URL").starts_with("sqlite:")
}

/// Changes what a backup says of itself.
async fn edit_manifest(file: &Path, edit: impl FnOnce(&mut Value)) {
    use sea_orm::ConnectionTrait as _;
    let bytes = std::fs::read(file).unwrap();
    if bytes.starts_with(b"SQLite") {
        let database = sea_orm::Database::connect(format!("sqlite://{}", file.display())).await.unwrap();
        let read = sea_orm::Statement::from_string(sea_orm::DbBackend::Sqlite, "SELECT manifest FROM backup_manifest");
        let row = database.query_one_raw(read).await.unwrap().unwrap();
        let mut manifest: Value = serde_json::from_str(&row.try_get::<String>("", "manifest").unwrap()).unwrap();
        edit(&mut manifest);
        let sql = format!("UPDATE backup_manifest SET manifest = '{manifest}'");
        database.execute_unprepared(&sql).await.unwrap();
        database.close().await.unwrap();
    } else {
        let end = bytes.iter().position(|byte| *byte == b'\n').unwrap();
        let mut manifest: Value = serde_json::from_slice(&bytes[..end]).unwrap();
        edit(&mut manifest);
        let changed = [format!("{manifest}\n").into_bytes(), bytes[end + 1..].to_vec()].concat();
        std::fs::write(file, changed).unwrap();
    }
}

#[tokio::test]
async fn l126_a_file_that_is_there_stays() {
    let place = Deployment::on_engine().await;
    std::fs::write(place.backup_file(), "mine").unwrap();
    refused(&place, &["backup", "backup"], 2, "exists already");
    assert_eq!(std::fs::read_to_string(place.backup_file()).unwrap(), "mine");
    refused(&place, &["backup", "nowhere/backup"], 1, "choose another place");
    let empty = place.elsewhere(&[]).await;
    refused(&empty, &["backup", "backup"], 1, "");
    let left = std::fs::read_dir(empty.folder.path()).unwrap().flatten().map(|entry| entry.file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().contains("backup")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn l126_what_is_no_backup_or_does_not_fit_is_not_restored() {
    let place = Deployment::on_engine().await;
    place.says(&["backup", "backup"]);
    let good = place.backup_file();
    let restored = place.elsewhere(&[""]).await;
    let file = restored.backup_file();
    let empty = restored.says(&["check", "--json"]);
    assert!(empty.contains("\"schema\":\"missing\""), "{empty}");
    let other = if is_sqlite(&place) { "postgres" } else { "sqlite" };
    for (edit, words) in [
        (json!({ "product": "else" }), "is not a ThinkWork backup"),
        (json!({ "engine": other }), "and the database is"),
        (json!({ "schema_version": 9_999, "thinkwork_version": "9.9.9" }), "newer thinkwork 9.9.9"),
        (json!({ "format": 9, "thinkwork_version": "9.9.9" }), "newer thinkwork 9.9.9"),
        (json!({ "keys": { "root": "00" } }), "give the key file that belongs to it"),
    ] {
        std::fs::copy(&good, &file).unwrap();
        edit_manifest(&file, |manifest| {
            for (name, value) in edit.as_object().unwrap() {
                manifest[name] = value.clone();
            }
        })
        .await;
        refused(&restored, &["restore", "backup"], 1, words);
    }
    std::fs::write(&file, "some text\n").unwrap();
    refused(&restored, &["restore", "backup"], 1, "is not a ThinkWork backup");
    let whole = std::fs::read(&good).unwrap();
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    refused(&restored, &["restore", "--check", "backup"], 1, "the backup is damaged");
    refused(&restored, &["restore", "backup"], 1, "the backup is damaged");
    let good = good.to_str().unwrap();
    let key = restored.key_file();
    let stranger = Deployment::new();
    let own = std::fs::read(&key).unwrap();
    std::fs::copy(stranger.key_file(), &key).unwrap();
    refused(&restored, &["restore", good], 1, "give the key file that belongs to it");
    std::fs::remove_file(&key).unwrap();
    refused(&restored, &["restore", good], 1, "there is no key file");
    assert!(!key.exists(), "no fresh key in its place");
    std::fs::write(&key, own).unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(restored.says(&["check", "--json"]), empty, "the database is as empty as before");
    restored.says(&["restore", good]);
    restored.says(&["check"]);
}

#[tokio::test]
async fn l126_a_database_that_is_used_is_not_replaced() {
    let place = Deployment::on_engine().await;
    place.says(&["backup", "backup"]);
    refused(&place, &["restore", "backup"], 1, "is not empty");
    let serving = Serving::start(&place, "").await;
    let words = if is_sqlite(&place) { "already running" } else { "connections of a running thinkwork" };
    refused(&place, &["restore", "backup"], 1, words);
    serving.anonymous().get("/readyz").await.expect(200);
    // A plain copy of a database says nothing of itself.
    if is_sqlite(&place) {
        let url = owner_url(place.setting("THINKWORK_DATABASE_URL"));
        let copy = place.folder.path().join("copy");
        let database = sea_orm::Database::connect(url).await.unwrap();
        use sea_orm::ConnectionTrait as _;
        database.execute_unprepared(&format!("VACUUM INTO '{}'", copy.display())).await.unwrap();
        database.close().await.unwrap();
        let restored = place.elsewhere(&[""]).await;
        refused(&restored, &["restore", copy.to_str().unwrap()], 1, "is not a ThinkWork backup");
    }
}

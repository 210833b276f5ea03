//! What PostgreSQL needs beside: a role that sees all rows, and its own programs in a version that fits.

use std::os::unix::fs::PermissionsExt as _;

use sea_orm::{ConnectionTrait as _, Database};

use super::Deployment;
use crate::harness::migration_url;

/// A place whose owner is no superuser; none on SQLite.
async fn owned(role: &str) -> Option<Deployment> {
    let mut place = Deployment::on_engine().await;
    let url = place.setting("THINKWORK_DATABASE_URL").to_owned();
    let superuser = Database::connect(migration_url(&url)?).await.unwrap();
    let name = url.rsplit('/').next().unwrap().to_owned();
    // The tables are made anew by the role that is to own them.
    for sql in [
        format!("CREATE ROLE {role} LOGIN PASSWORD 'not in any list'"),
        format!("ALTER DATABASE {name} OWNER TO {role}"),
        "DROP SCHEMA public CASCADE".to_owned(),
        format!("CREATE SCHEMA public AUTHORIZATION {role}"),
    ] {
        superuser.execute_unprepared(&sql).await.unwrap();
    }
    superuser.close().await.unwrap();
    let mut owner = url::Url::parse(&migration_url(&url).unwrap()).unwrap();
    owner.set_username(role).unwrap();
    owner.set_password(Some("not in any list")).unwrap();
    place.set("THINKWORK_DATABASE_MIGRATION_URL", owner.to_string());
    place.add_globex();
    Some(place)
}

async fn execute(place: &Deployment, sql: &str) {
    let superuser = Database::connect(migration_url(place.setting("THINKWORK_DATABASE_URL")).unwrap()).await.unwrap();
    superuser.execute_unprepared(sql).await.unwrap();
    superuser.close().await.unwrap();
}

#[tokio::test]
async fn l126_an_owner_that_is_no_superuser_backs_up_every_row_or_says_why_not() {
    let role = format!("owner_{}", uuid::Uuid::now_v7().simple());
    let Some(place) = owned(&role).await else { return };
    let output = place.run(&["backup", "backup"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains(&format!("ALTER ROLE {role} BYPASSRLS")), "{said}");
    assert!(!place.backup_file().exists());
    execute(&place, &format!("ALTER ROLE {role} BYPASSRLS")).await;
    place.says(&["backup", "backup"]);
    let mut restored = place.elsewhere(&[""]).await;
    let url = restored.setting("THINKWORK_DATABASE_MIGRATION_URL").to_owned();
    let name = url.rsplit('/').next().unwrap().to_owned();
    execute(
        &restored,
        &format!("ALTER DATABASE {name} OWNER TO {role}; ALTER SCHEMA public OWNER TO pg_database_owner"),
    )
    .await;
    let mut owner = url::Url::parse(&url).unwrap();
    owner.set_username(&role).unwrap();
    owner.set_password(Some("not in any list")).unwrap();
    restored.set("THINKWORK_DATABASE_MIGRATION_URL", owner.to_string());
    let said = restored.says(&["restore", place.backup_file().to_str().unwrap()]);
    assert!(said.contains("Restored 1 tenant"), "{said}");
    restored.says(&["audit", "verify"]);
    restored.says(&["check"]);
}

#[tokio::test]
async fn l126_missing_and_older_programs_are_named_with_their_package() {
    let place = Deployment::on_engine().await;
    if migration_url(place.setting("THINKWORK_DATABASE_URL")).is_none() {
        return;
    }
    let folder = place.folder.path().join("bin");
    std::fs::create_dir(&folder).unwrap();
    let backup = || {
        let output = place.command(&["backup", "backup"]).env("PATH", &folder).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let said = backup();
    assert!(said.contains("pg_dump was not found") && said.contains("postgresql-client-"), "{said}");
    let program = folder.join("pg_dump");
    std::fs::write(&program, "#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6.24'\n").unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let said = backup();
    assert!(said.contains("pg_dump is of version 9 and the server of version"), "{said}");
    assert!(!place.backup_file().exists());
}

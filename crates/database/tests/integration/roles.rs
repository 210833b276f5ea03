//! The roles on PostgreSQL: what serves owns nothing and can become nothing else. SQLite has no roles.

use sea_orm::{ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection, DbErr, Statement};
use thinkwork_database::{Db, Error, schema};
use thinkwork_primitives::TenantId;
use uuid::Uuid;

use crate::harness::{
    SERVING_ROLE, add_note, as_role, connect, fresh_url, migration_url, on_postgres, open, open_with_notes, options,
};

/// A connection of its own that stays the same for all statements.
async fn session(url: &str) -> DatabaseConnection {
    Database::connect(ConnectOptions::new(url).max_connections(1).to_owned()).await.unwrap()
}

/// The first column of the first row, as text.
async fn text(session: &DatabaseConnection, sql: &str) -> Result<String, DbErr> {
    let statement = Statement::from_string(session.get_database_backend(), sql);
    session.query_one_raw(statement).await?.unwrap().try_get_by_index(0)
}

/// Runs statements as the superuser of the test's server.
async fn run(url: &str, statements: &[String]) {
    let owner = connect(url).await;
    for sql in statements {
        owner.execute_unprepared(sql).await.unwrap();
    }
    owner.close().await.unwrap();
}

/// A name for a role that no other test has.
fn fresh_role() -> String {
    format!("test_{}", Uuid::now_v7().simple())
}

#[tokio::test]
async fn no_statement_of_the_serving_connection_leads_to_other_tenants_rows() {
    if !on_postgres() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let url = fresh_url(&folder).await;
    let db = open_with_notes(&url).await;
    add_note(&db, TenantId::new(), "of a tenant").await.unwrap();
    let superuser = migration_url(&url).unwrap();
    let superuser = url::Url::parse(&superuser).unwrap().username().to_owned();
    let serving = session(&url).await;
    let as_before = async |after: &str| {
        assert_eq!(text(&serving, "SELECT session_user::text").await.unwrap(), SERVING_ROLE, "{after}");
        // It is refused, or shows nothing.
        let seen = text(&serving, "SELECT count(*)::text FROM note").await;
        assert!(seen.is_err() || seen.as_deref() == Ok("0"), "{after}: {seen:?}");
        serving.execute_unprepared("RESET ALL; RESET ROLE").await.unwrap();
    };
    let harmless = [
        "RESET ROLE",
        "SET ROLE NONE",
        "SET ROLE thinkwork_app",
        "SET SESSION AUTHORIZATION DEFAULT",
        "RESET SESSION AUTHORIZATION",
        "SET row_security = off",
    ];
    for sql in harmless {
        serving.execute_unprepared(sql).await.unwrap();
        as_before(sql).await;
    }
    let refused = [
        format!("SET ROLE {superuser}"),
        format!("SET LOCAL ROLE {superuser}"),
        format!("SET SESSION AUTHORIZATION {superuser}"),
        format!("GRANT {superuser} TO {SERVING_ROLE}"),
        format!("ALTER ROLE {SERVING_ROLE} BYPASSRLS"),
        "ALTER ROLE thinkwork_app SUPERUSER".to_owned(),
        "SET session_replication_role = replica".to_owned(),
        "ALTER TABLE note DISABLE ROW LEVEL SECURITY".to_owned(),
        "ALTER TABLE note NO FORCE ROW LEVEL SECURITY".to_owned(),
        format!("ALTER TABLE note OWNER TO {SERVING_ROLE}"),
        "ALTER TABLE note ADD COLUMN more text".to_owned(),
        "DROP POLICY tenant ON note".to_owned(),
        "CREATE POLICY everything ON note USING (true)".to_owned(),
        "TRUNCATE note".to_owned(),
        "DROP TABLE note".to_owned(),
        "DELETE FROM _sqlx_migrations".to_owned(),
        "COPY note TO PROGRAM 'cat'".to_owned(),
    ];
    for sql in refused {
        assert!(serving.execute_unprepared(&sql).await.is_err(), "{sql}");
        as_before(&sql).await;
    }
    serving.close().await.unwrap();
}

/// Why the start is refused where the database is served as this role.
async fn refusal(url: &str, role: &str) -> String {
    let mut said = std::collections::BTreeSet::new();
    for migration_url in [migration_url(url), None] {
        let refused = Db::open(&options(&as_role(url, role), migration_url)).await.err();
        assert!(
            matches!(&refused, Some(Error::UnboundRole { role: named, .. }) if named == role),
            "{role}: {refused:?}"
        );
        if let Some(Error::UnboundRole { problem, .. }) = refused {
            said.insert(problem);
        }
    }
    assert_eq!(said.len(), 1, "{said:?}");
    said.pop_first().unwrap()
}

#[tokio::test]
async fn a_role_that_row_security_does_not_bind_is_refused() {
    if !on_postgres() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let url = fresh_url(&folder).await;
    schema::migrate(&open(&url).await).await.unwrap();
    for (attribute, problem) in [
        ("SUPERUSER", "is a superuser"),
        ("BYPASSRLS", "bypasses row-level security"),
        ("CREATEROLE", "may create and grant roles"),
        ("REPLICATION", "may copy the whole server"),
        ("IN ROLE pg_execute_server_program", "may become pg_execute_server_program, which reaches the files of the"),
    ] {
        let role = fresh_role();
        run(&url, &[format!("CREATE ROLE {role} LOGIN {attribute}")]).await;
        let said = refusal(&url, &role).await;
        assert!(said.starts_with(problem), "{attribute}: {said}");
        // A member can become it, however far away, and even if it does not inherit from it.
        let between = fresh_role();
        let member = fresh_role();
        let made = [
            format!("CREATE ROLE {between} IN ROLE {role}"),
            format!("CREATE ROLE {member} LOGIN NOINHERIT IN ROLE {between}"),
        ];
        run(&url, &made).await;
        assert!(refusal(&url, &member).await.starts_with("may become "), "{attribute}");
        let ended = [member, between, role].map(|role| format!("DROP OWNED BY {role}; DROP ROLE {role}"));
        run(&url, &ended).await;
    }
}

#[tokio::test]
async fn a_role_that_owns_something_is_refused() {
    if !on_postgres() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let url = fresh_url(&folder).await;
    let db = open(&url).await;
    schema::migrate(&db).await.unwrap();
    schema::check_row_security(&db).await.unwrap();
    let database = url::Url::parse(&url).unwrap().path().trim_start_matches('/').to_owned();
    let role = fresh_role();
    run(&url, &[format!("CREATE ROLE {role} LOGIN"), format!("ALTER TABLE space OWNER TO {role}")]).await;
    assert_eq!(refusal(&url, &role).await, "owns tables");
    run(&url, &[format!("ALTER SCHEMA public OWNER TO {role}")]).await;
    assert_eq!(refusal(&url, &role).await, "owns the schema");
    run(&url, &[format!("ALTER DATABASE {database} OWNER TO {role}")]).await;
    assert_eq!(refusal(&url, &role).await, "owns the database");
    // What is made the server's while it serves is found by its readiness, which asks the same.
    run(&url, &[format!("GRANT {role} TO {SERVING_ROLE}")]).await;
    let found = schema::check_row_security(&db).await;
    run(&url, &[format!("REVOKE {role} FROM {SERVING_ROLE}")]).await;
    assert!(matches!(&found, Err(Error::UnboundRole { role, .. }) if role == SERVING_ROLE), "{found:?}");
    schema::check_row_security(&db).await.unwrap();
}

#[tokio::test]
async fn what_is_missing_is_named_with_the_next_step() {
    if !on_postgres() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let url = fresh_url(&folder).await;
    let owner = migration_url(&url);
    let role = fresh_role();
    let missing = Db::open(&options(&as_role(&url, &role), owner.clone())).await.err().unwrap();
    assert!(missing.to_string().contains(&format!("CREATE ROLE {role} LOGIN")), "{missing}");
    // The first start of a database is the owner's to prepare.
    run(&url, &[format!("CREATE ROLE {role} LOGIN")]).await;
    let closed = Db::open(&options(&as_role(&url, &role), None)).await.err().unwrap();
    assert!(matches!(&closed, Error::NoRights { role: named } if *named == role), "{closed}");
    open(&url).await.close().await;
    let served = Db::open(&options(&url, None)).await.unwrap();
    let pending = schema::migrate(&served).await.unwrap_err();
    assert!(matches!(pending, Error::NoOwner { pending: 1.. }), "{pending}");
    // Another database of the same server has the tables, and this one stays without.
    let elsewhere = migration_url(&fresh_url(&folder).await);
    let misled = Db::open(&options(&url, elsewhere)).await.unwrap();
    let other = schema::migrate(&misled).await.unwrap_err();
    assert!(matches!(other, Error::OtherDatabase), "{other}");
    // Once the owner has migrated it, whoever serves needs nobody.
    schema::migrate(&open(&url).await).await.unwrap();
    assert_eq!(schema::migrate(&served).await.unwrap(), 0);
    schema::check_row_security(&served).await.unwrap();
}

/// As the operator guide sets it up: the owner is no superuser and may make no roles.
#[tokio::test]
async fn an_owner_without_other_rights_migrates() {
    if !on_postgres() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let url = fresh_url(&folder).await;
    open(&url).await.close().await;
    let database = url::Url::parse(&url).unwrap().path().trim_start_matches('/').to_owned();
    let owner = fresh_role();
    let serving = fresh_role();
    let made = [
        format!("CREATE ROLE {owner} LOGIN"),
        format!("CREATE ROLE {serving} LOGIN IN ROLE thinkwork_app"),
        format!("ALTER DATABASE {database} OWNER TO {owner}"),
    ];
    run(&url, &made).await;
    let db = Db::open(&options(&as_role(&url, &serving), Some(as_role(&url, &owner)))).await.unwrap();
    assert!(schema::migrate(&db).await.unwrap() > 0);
    schema::check_row_security(&db).await.unwrap();
    // One that may not grant says what to run.
    let stranger = fresh_role();
    run(&url, &[format!("CREATE ROLE {stranger} LOGIN")]).await;
    let refused = Db::open(&options(&as_role(&url, &stranger), Some(as_role(&url, &owner)))).await.err().unwrap();
    assert!(refused.to_string().contains(&format!("GRANT thinkwork_app TO {stranger}")), "{refused}");
}

//! Custody: one way in, one way out, and what a moved, damaged or rolled-back row does.

use std::time::Duration;

use thinkwork::credentials::{CredentialMeaning, Error, OpenRequest, UseContext};
use thinkwork_primitives::{Actor, CredentialId, CredentialSubject, Secret, SpaceId, Surface, TenantId, WebhookId};

use crate::harness::{TestApp, execute_sql};

const SECRET: &str = "a-secret-of-more-than-sixteen";

fn opening() -> OpenRequest<'static> {
    let context = UseContext { tool: Some("notes__search".to_owned()), ..UseContext::by(Actor::server()) };
    context.request(Surface::ToolCall, CredentialSubject::Tenant)
}

/// Of one webhook that there is none of.
fn meaning() -> CredentialMeaning {
    let scheme = "{}".to_owned();
    let nobodys = uuid::Uuid::nil();
    CredentialMeaning::WebhookSecret {
        webhook: WebhookId::from_uuid(nobodys),
        space: SpaceId::from_uuid(nobodys),
        scheme,
    }
}

async fn create(app: &TestApp) -> CredentialId {
    let mut tx = app.slices().db.write(app.tenant).await.unwrap();
    let secret = Secret::from_text(SECRET.to_owned());
    let by = Actor::server();
    let id = app.slices().credentials.create(&mut tx, &meaning(), &secret, &by).await.unwrap();
    tx.commit().await.unwrap();
    id
}

async fn open(app: &TestApp, tenant: TenantId, id: CredentialId) -> Result<String, Error> {
    let mut tx = app.slices().db.write(tenant).await.unwrap();
    let opened = app.slices().credentials.open(&mut tx, id, &meaning(), opening()).await?;
    tx.commit().await.unwrap();
    Ok(opened.secret.expose_str().unwrap().to_owned())
}

async fn sql(app: &TestApp, sql: &str) {
    let tx = app.slices().db.write(app.tenant).await.unwrap();
    for one in sql.split("; ") {
        execute_sql(&tx, one).await.unwrap();
    }
    tx.commit().await.unwrap();
}

async fn actions(app: &TestApp) -> Vec<String> {
    let mut tx = app.slices().db.read(app.tenant).await.unwrap();
    let page = app.slices().audit.list(&mut tx, &Default::default(), 100, None).await.unwrap();
    page.events.into_iter().map(|event| event.action).filter(|action| action.starts_with("credential.")).collect()
}

#[tokio::test]
async fn l36_every_step_of_a_credential_leaves_its_event() {
    let app = TestApp::new().await;
    let id = create(&app).await;
    assert_eq!(open(&app, app.tenant, id).await.unwrap(), SECRET);
    let credentials = &app.slices().credentials;
    let mut tx = app.slices().db.write(app.tenant).await.unwrap();
    let next = Secret::from_text("another-secret".to_owned());
    credentials.rotate(&mut tx, id, &meaning(), &next, Duration::ZERO, &Actor::server()).await.unwrap();
    credentials.revoke(&mut tx, id, &Actor::server()).await.unwrap();
    tx.commit().await.unwrap();
    let expected = ["credential.revoked", "credential.rotated", "credential.opened", "credential.created"];
    assert_eq!(actions(&app).await, expected);
    assert!(matches!(open(&app, app.tenant, id).await, Err(Error::Gone(_))));
}

#[tokio::test]
async fn an_opening_that_is_not_recorded_opens_nothing() {
    let app = TestApp::new().await;
    let id = create(&app).await;
    let mut tx = app.slices().db.write(app.tenant).await.unwrap();
    app.slices().credentials.open(&mut tx, id, &meaning(), opening()).await.unwrap();
    drop(tx);
    assert_eq!(actions(&app).await, ["credential.created"]);
}

#[tokio::test]
async fn l34_an_empty_secret_is_refused_at_once() {
    let app = TestApp::new().await;
    for text in ["", "   ", "\n"] {
        let mut tx = app.slices().db.write(app.tenant).await.unwrap();
        let secret = Secret::from_text(text.to_owned());
        let made = app.slices().credentials.create(&mut tx, &meaning(), &secret, &Actor::server()).await;
        assert!(matches!(made, Err(Error::Refused(_))), "{text:?}");
    }
}

#[tokio::test]
async fn l34_a_rotation_takes_no_empty_secret_either() {
    let app = TestApp::new().await;
    let id = create(&app).await;
    for text in ["", "   ", "\n"] {
        let mut tx = app.slices().db.write(app.tenant).await.unwrap();
        let secret = Secret::from_text(text.to_owned());
        let by = Actor::server();
        let rotated = app.slices().credentials.rotate(&mut tx, id, &meaning(), &secret, Duration::ZERO, &by).await;
        assert!(matches!(rotated, Err(Error::Refused(_))), "{text:?}");
    }
    assert_eq!(open(&app, app.tenant, id).await.unwrap(), SECRET);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_at_the_moment_of_a_revocation_leaves_no_material() {
    let app = TestApp::new().await;
    let id = create(&app).await;
    let by = Actor::server();
    let mut tx = app.slices().db.write(app.tenant).await.unwrap();
    app.slices().credentials.revoke(&mut tx, id, &by).await.unwrap();
    let other = std::sync::Arc::clone(&app.app);
    let tenant = app.tenant;
    let rotation = tokio::spawn(async move {
        let mut tx = other.db.write(tenant).await.unwrap();
        let secret = Secret::from_text("another-secret".to_owned());
        let rotated =
            other.credentials.rotate(&mut tx, id, &meaning(), &secret, Duration::ZERO, &Actor::server()).await;
        tx.commit().await.unwrap();
        rotated
    });
    crate::harness::until_blocked(&app.slices().config.database_url).await;
    tx.commit().await.unwrap();
    assert!(matches!(rotation.await.unwrap(), Err(Error::Gone(_))));
    let database = crate::guards::tables::connect(&app).await;
    let live = "SELECT 'live' FROM credential_version WHERE erased_at IS NULL";
    assert!(crate::guards::tables::texts(&database, live).await.is_empty());
    database.close().await.unwrap();
}

#[tokio::test]
async fn l32_damaged_material_is_an_error_that_names_the_credential() {
    let app = TestApp::new().await;
    for damage in ["ciphertext", "wrapped_key"] {
        for value in ["x''", "x'00'", "x'01020304'"] {
            let id = create(&app).await;
            let value = if app.slices().config.database_url.starts_with("sqlite") {
                value.to_owned()
            } else {
                value.replace("x'", "'\\x")
            };
            sql(&app, &format!("UPDATE credential_version SET {damage} = {value}")).await;
            let error = open(&app, app.tenant, id).await.unwrap_err();
            assert!(error.to_string().contains(&id.to_string()), "{error}");
            sql(&app, "DELETE FROM credential_version").await;
        }
    }
}

#[tokio::test]
async fn s25_a_row_that_was_moved_or_rolled_back_does_not_open() {
    let app = TestApp::new().await;
    let other = WebhookId::new();
    let changes = [
        "UPDATE credential SET owner_kind = 'tool_source', owner_id = replace(owner_id, 'whk_', 'mcp_')".to_owned(),
        format!("UPDATE credential SET owner_id = '{other}'"),
        "UPDATE credential SET kind = 'tenant_key'".to_owned(),
        "UPDATE credential SET version = 2; UPDATE credential_version SET version = 2".to_owned(),
        "UPDATE credential_version SET kek_id = 'another'".to_owned(),
    ];
    for change in changes {
        let id = create(&app).await;
        assert_eq!(open(&app, app.tenant, id).await.unwrap(), SECRET);
        sql(&app, &change).await;
        assert!(matches!(open(&app, app.tenant, id).await, Err(Error::Vault(_))), "{change}");
        sql(&app, "DELETE FROM credential_version").await;
        sql(&app, "DELETE FROM credential").await;
    }
}

#[tokio::test]
async fn s25_material_of_one_credential_does_not_open_as_another() {
    let app = TestApp::new().await;
    let one = create(&app).await;
    let two = create(&app).await;
    let of = |id: CredentialId, column: &str| {
        let id = if app.slices().config.database_url.starts_with("sqlite") {
            format!("x'{}'", id.uuid().simple())
        } else {
            format!("'{}'", id.uuid())
        };
        format!("(SELECT other.{column} FROM credential_version other WHERE other.credential_id = {id})")
    };
    let change = format!(
        "UPDATE credential_version SET ciphertext = {}, wrapped_key = {} WHERE credential_id = {}",
        of(two, "ciphertext"),
        of(two, "wrapped_key"),
        of(one, "credential_id"),
    );
    sql(&app, &change).await;
    assert!(matches!(open(&app, app.tenant, one).await, Err(Error::Vault(_))));
    assert_eq!(open(&app, app.tenant, two).await.unwrap(), SECRET);
}

#[tokio::test]
async fn another_tenant_finds_nothing() {
    let app = TestApp::new().await;
    let id = create(&app).await;
    let made = app.slices().access.tenant_create("other", "Other", "o@other.test", "O").await.unwrap();
    assert!(matches!(open(&app, made.tenant, id).await, Err(Error::Gone(_))));
}

#[tokio::test]
async fn rotating_erases_and_an_overlap_keeps_both_for_verification_only() {
    let app = TestApp::new().await;
    let id = create(&app).await;
    let credentials = &app.slices().credentials;
    let rotate = async |text: &str, overlap| {
        let mut tx = app.slices().db.write(app.tenant).await.unwrap();
        let secret = Secret::from_text(text.to_owned());
        credentials.rotate(&mut tx, id, &meaning(), &secret, overlap, &Actor::server()).await.unwrap();
        tx.commit().await.unwrap();
        credentials.forget(id);
    };
    rotate("the-second-secret", Duration::from_secs(60)).await;
    assert_eq!(credentials.open_for_verification(app.tenant, id, &meaning()).await.unwrap().len(), 2);
    assert_eq!(open(&app, app.tenant, id).await.unwrap(), "the-second-secret");
    app.clock.advance(Duration::from_secs(61));
    credentials.forget(id);
    assert_eq!(credentials.open_for_verification(app.tenant, id, &meaning()).await.unwrap().len(), 1);
    rotate("the-third-secret", Duration::ZERO).await;
    assert_eq!(credentials.open_for_verification(app.tenant, id, &meaning()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_compare_and_set_of_a_refresh_lets_one_win() {
    let app = TestApp::new().await;
    let id = create(&app).await;
    let mut wins = 0;
    for text in ["from-the-first", "from-the-second"] {
        let mut tx = app.slices().db.write(app.tenant).await.unwrap();
        let secret = Secret::from_text(text.to_owned());
        let by = Actor::server();
        if app.slices().credentials.rotate_if(&mut tx, id, &meaning(), 1, &secret, &by).await.unwrap() {
            wins += 1;
        }
        tx.commit().await.unwrap();
    }
    assert_eq!((wins, open(&app, app.tenant, id).await.unwrap()), (1, "from-the-first".to_owned()));
}

#[tokio::test]
async fn l31_a_database_without_its_key_does_not_start() {
    let app = TestApp::new().await;
    create(&app).await;
    let key_file = app.slices().config.key_file.clone();
    std::fs::rename(&key_file, key_file.with_extension("away")).unwrap();
    let start = |config| thinkwork::app::App::build(config, app.clock.clone());
    // No key: no start, and no fresh key is made in its place.
    assert!(start(app.slices().config.clone()).await.is_err());
    assert!(!key_file.exists());
    // Another key: no start, and one sentence that says what to do.
    let mut config = app.slices().config.clone();
    config.key_file = key_file.with_extension("other");
    drop(
        thinkwork_vault::Vault::open_key_file(&config.key_file, thinkwork_vault::MissingKeyFile::Create).ok().unwrap(),
    );
    let error = start(config).await.err().unwrap().to_string();
    assert!(error.contains("key"), "{error}");
    std::fs::rename(key_file.with_extension("away"), &key_file).unwrap();
    assert!(start(app.slices().config.clone()).await.is_ok());
}

#[tokio::test]
async fn rewrapping_puts_everything_under_the_active_key() {
    let app = TestApp::new().await;
    let id = create(&app).await;
    thinkwork_vault::Vault::add_key(&app.slices().config.key_file).unwrap();
    let second = app.second().await;
    assert_eq!(second.credentials.rewrap(app.tenant, 100).await.unwrap(), 1);
    assert_eq!(second.credentials.rewrap(app.tenant, 100).await.unwrap(), 0);
    let mut tx = second.db.write(app.tenant).await.unwrap();
    let opened = second.credentials.open(&mut tx, id, &meaning(), opening()).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(opened.secret.expose_str(), Some(SECRET));
    // The server that runs meets the new key and reads the key file again.
    assert_eq!(open(&app, app.tenant, id).await.unwrap(), SECRET);
}

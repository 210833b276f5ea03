//! Two at once: what is decided by a row stays decided, whoever else changes it at that moment.

use std::sync::atomic::Ordering;
use std::time::Duration;

use sea_orm::{ConnectionTrait as _, Statement};
use serde_json::json;
use thinkwork::oauth::{AccessToken, CallbackOutcome, ClientSettings, Error};
use tokio::task::JoinHandle;

use super::{OauthFixture, query_of, text};
use crate::harness::{execute_sql, until_blocked};

/// Ana's token, asked for by a task of its own.
fn asking(fixture: &OauthFixture) -> JoinHandle<Result<AccessToken, Error>> {
    let oauth = fixture.oauth.clone();
    let tenant = fixture.tenant;
    let ana = fixture.ana;
    let server = fixture.target;
    tokio::spawn(async move {
        oauth.access_token(super::access_token_query(tenant, ana, server, &super::use_of(ana))).await
    })
}

/// Ana's way back from the issuer, in a task of its own.
async fn finishing(fixture: &OauthFixture) -> JoinHandle<CallbackOutcome> {
    let started = fixture.start(fixture.tenant, fixture.ana, fixture.target).await;
    let (key, query) = fixture.consent_at_issuer(&started).await;
    let ana = fixture.browser(&started, Some((fixture.tenant, fixture.ana)));
    let oauth = fixture.oauth.clone();
    tokio::spawn(async move { oauth.callback(&key, &query, ana).await })
}

pub async fn texts(fixture: &OauthFixture, sql: &str) -> Vec<String> {
    let database = sea_orm::Database::connect(crate::harness::owner_url(&fixture.database_url)).await.unwrap();
    let found = database.query_all_raw(Statement::from_string(database.get_database_backend(), sql)).await.unwrap();
    let found = found.iter().map(|row| row.try_get_by_index(0).unwrap()).collect();
    database.close().await.unwrap();
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consent_that_is_exchanged_while_its_server_goes_connects_nothing_and_is_revoked() {
    let fixture = OauthFixture::with(|ways| {
        ways.auth_methods = vec!["client_secret_post"];
        ways.secret = Some("registered-secret-of-16");
    })
    .await;
    fixture.issuer.gate.close();
    let finishing = finishing(&fixture).await;
    fixture.issuer.gate.reached.notified().await;
    let mut tx = fixture.db.write(fixture.tenant).await.unwrap();
    fixture.oauth.end_target(&mut tx, fixture.target, "server_changed", &super::by()).await.unwrap();
    tx.commit().await.unwrap();
    fixture.issuer.gate.let_go();
    let CallbackOutcome::Return { to, .. } = finishing.await.unwrap() else { panic!("the starter is told") };
    assert_eq!(query_of(&to)["reason"], "registration_replaced");
    assert!(fixture.connection().await.is_none());
    // Registered anew, nothing of before is handed out.
    fixture.register(fixture.tenant, fixture.target).await.unwrap();
    assert!(matches!(fixture.token().await, Err(Error::NotConnected)));
    assert!(fixture.run_jobs().await.into_iter().all(|result| result.is_ok()));
    assert!(fixture.issuer.look(|seen| seen.live_access.is_empty()), "what came late is revoked");
    let sealed = "SELECT 'sealed' FROM credential_version WHERE erased_at IS NULL";
    assert_eq!(texts(&fixture, sealed).await.len(), 1, "the new registration's secret and nothing else");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l37_a_consent_that_is_exchanged_while_the_issuer_moves_is_not_used() {
    let fixture = OauthFixture::new().await;
    let other = super::Issuer::start().await;
    fixture.issuer.gate.close();
    let finishing = finishing(&fixture).await;
    fixture.issuer.gate.reached.notified().await;
    let discovered = fixture.oauth.discover(&other.resource(), None, Default::default()).await.unwrap();
    let client = ClientSettings { discovered, ..fixture.client_settings(fixture.target).await.unwrap() };
    fixture.register_client(fixture.tenant, client).await.unwrap();
    fixture.issuer.gate.let_go();
    let CallbackOutcome::Return { to, .. } = finishing.await.unwrap() else { panic!("the starter is told") };
    assert_eq!(query_of(&to)["reason"], "registration_replaced");
    assert!(matches!(fixture.token().await, Err(Error::NotConnected)));
}

/// Whatever left a live grant of another issuer behind, the hand-out looks at the issuer itself.
#[tokio::test]
async fn l37_a_live_grant_of_another_issuer_is_not_handed_out() {
    let fixture = OauthFixture::new().await;
    fixture.connect().await;
    let other = super::Issuer::start().await;
    let discovered = fixture.oauth.discover(&other.resource(), None, Default::default()).await.unwrap();
    let client = ClientSettings { discovered, ..fixture.client_settings(fixture.target).await.unwrap() };
    fixture.register_client(fixture.tenant, client).await.unwrap();
    let tx = fixture.db.write(fixture.tenant).await.unwrap();
    execute_sql(&tx, "UPDATE connection SET status = 'connected'").await.unwrap();
    tx.commit().await.unwrap();
    assert!(matches!(fixture.token().await, Err(Error::NeedsReauth(reason)) if reason == "issuer_changed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_token_is_handed_out_after_its_end_or_suspension() {
    for ends in [true, false] {
        let fixture = OauthFixture::new().await;
        fixture.connect().await;
        let mut tx = fixture.db.write(fixture.tenant).await.unwrap();
        if ends {
            fixture.oauth.end_target(&mut tx, fixture.target, "server_deleted", &super::by()).await.unwrap();
        } else {
            fixture.oauth.suspend_target(&mut tx, fixture.target, "issuer_changed", &super::by()).await.unwrap();
        }
        let asking = asking(&fixture);
        until_blocked(&fixture.database_url).await;
        tx.commit().await.unwrap();
        match asking.await.unwrap() {
            Err(Error::NotConnected) => assert!(ends),
            Err(Error::NeedsReauth(reason)) => assert_eq!((reason.as_str(), ends), ("issuer_changed", false)),
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("a token of a grant that had ended: {ends}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_refusal_of_an_old_refresh_leaves_a_new_grant_alive() {
    let fixture = OauthFixture::new().await;
    fixture.connect().await;
    fixture.advance(3_590);
    fixture.issuer.set(|ways| ways.token_script.push_back((400, r#"{"error":"invalid_grant"}"#.to_owned())));
    fixture.issuer.gate.close();
    let asking = asking(&fixture);
    fixture.issuer.gate.reached.notified().await;
    // A new consent puts another grant in place, and commits while the refusal is written down.
    let tx = fixture.db.write(fixture.tenant).await.unwrap();
    let another = uuid::Uuid::now_v7();
    let another = if fixture.database_url.starts_with("sqlite") {
        format!("x'{}'", another.simple())
    } else {
        format!("'{another}'")
    };
    let sealed_anew = format!(
        "INSERT INTO credential (id, tenant_id, owner_kind, owner_id, kind, version, created_at, rotated_at)
         SELECT {another}, tenant_id, owner_kind, owner_id, kind, version, created_at, rotated_at FROM credential
         WHERE kind = 'oauth_grant'"
    );
    execute_sql(&tx, &sealed_anew).await.unwrap();
    execute_sql(&tx, &format!("UPDATE connection SET credential_id = {another}")).await.unwrap();
    fixture.issuer.gate.let_go();
    until_blocked(&fixture.database_url).await;
    tx.commit().await.unwrap();
    drop(asking.await.unwrap());
    assert_eq!(texts(&fixture, "SELECT status FROM connection").await, ["connected"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_ends_also_when_an_owner_disconnects_at_that_moment() {
    let fixture = OauthFixture::new().await;
    fixture.connect().await;
    let now = fixture.clock.now().micros();
    let tx = fixture.db.write(fixture.tenant).await.unwrap();
    execute_sql(&tx, &format!("UPDATE connection SET ended_at = {now}")).await.unwrap();
    let db = fixture.db.clone();
    let oauth = fixture.oauth.clone();
    let tenant = fixture.tenant;
    let server = fixture.target;
    let ending = tokio::spawn(async move {
        let mut tx = db.write(tenant).await.unwrap();
        oauth.end_target(&mut tx, server, "server_deleted", &super::by()).await.unwrap();
        tx.commit().await.unwrap();
    });
    until_blocked(&fixture.database_url).await;
    tx.commit().await.unwrap();
    ending.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l17_a_database_that_refuses_a_first_grant_loses_no_token() {
    let fixture = OauthFixture::new().await;
    let postgres = fixture.database_url.starts_with("postgres");
    let full = if postgres {
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN RAISE EXCEPTION 'the disk is full'; END $$;
         CREATE TRIGGER full_disk BEFORE INSERT ON connection FOR EACH ROW EXECUTE FUNCTION full_disk()"
    } else {
        "CREATE TRIGGER full_disk BEFORE INSERT ON connection BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
    };
    let database = sea_orm::Database::connect(crate::harness::owner_url(&fixture.database_url)).await.unwrap();
    database.execute_unprepared(full).await.unwrap();
    fixture.issuer.gate.close();
    let mut finishing = finishing(&fixture).await;
    fixture.issuer.gate.reached.notified().await;
    fixture.issuer.gate.let_go();
    let early = tokio::time::timeout(Duration::from_millis(150), &mut finishing).await;
    assert!(early.is_err(), "it is tried again: {early:?}");
    let mended = if postgres { "DROP TRIGGER full_disk ON connection" } else { "DROP TRIGGER full_disk" };
    database.execute_unprepared(mended).await.unwrap();
    database.close().await.unwrap();
    let CallbackOutcome::Return { to, .. } = finishing.await.unwrap() else { panic!("connected") };
    assert_eq!(query_of(&to)["status"], "connected");
    assert!(fixture.issuer.accepts(&text(&fixture.token().await.unwrap())));
    assert!(!fixture.issuer.gate.closed.load(Ordering::SeqCst));
}

#[tokio::test]
async fn l13_the_database_takes_no_second_live_connection_of_a_person_at_a_server() {
    let fixture = OauthFixture::new().await;
    fixture.connect().await;
    let id = uuid::Uuid::now_v7();
    let id = if fixture.database_url.starts_with("sqlite") {
        format!("x'{}'", id.simple())
    } else {
        format!("'{id}'::uuid")
    };
    let rest = "tenant_id, user_id, target_kind, target_id, oauth_client_id, credential_id, account, scopes, status, \
                scopes_required, has_refresh_token, created_at, connected_at";
    let second = |ended_at: &str| {
        format!("INSERT INTO connection (id, {rest}, ended_at) SELECT {id}, {rest}, {ended_at} FROM connection")
    };
    let tx = fixture.db.write(fixture.tenant).await.unwrap();
    let refused: thinkwork_database::Error = execute_sql(&tx, &second("NULL")).await.unwrap_err().into();
    assert!(refused.is_unique_violation(), "{refused}");
    drop(tx);
    let tx = fixture.db.write(fixture.tenant).await.unwrap();
    execute_sql(&tx, &second("created_at")).await.unwrap();
}

#[tokio::test]
async fn l03_the_state_is_in_no_row_but_as_a_digest() {
    let fixture = OauthFixture::new().await;
    let started = fixture.start(fixture.tenant, fixture.ana, fixture.target).await;
    let state = query_of(&started.authorize_url)["state"].clone();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let column =
        if fixture.database_url.starts_with("sqlite") { "lower(hex(state_hash))" } else { "encode(state_hash, 'hex')" };
    let kept = texts(&fixture, &format!("SELECT {column} FROM oauth_flow")).await;
    assert_eq!(kept, [hex(&thinkwork_primitives::crypto::sha256(state.as_bytes()))]);
}

#[tokio::test]
async fn s11_metadata_that_names_another_issuer_is_refused() {
    let fixture = OauthFixture::new().await;
    for named in ["https://evil.test".to_owned(), format!("{}/tenant", fixture.issuer.base), String::new()] {
        fixture.issuer.set(|ways| ways.metadata = vec![("issuer", json!(named))]);
        assert!(matches!(fixture.client_settings(fixture.target).await, Err(Error::Refused(_))), "{named}");
    }
}

#[tokio::test]
async fn l56_an_authorization_endpoint_is_looked_up_before_a_browser_is_sent_there() {
    let fixture = OauthFixture::new().await;
    fixture.issuer.set(|ways| {
        ways.metadata = vec![("authorization_endpoint", json!("https://nowhere.invalid/authorize"))];
    });
    assert!(fixture.client_settings(fixture.target).await.is_err());
}

//! Disconnecting: at once here, then at the issuer, with proof; nothing left behind.

use std::sync::atomic::Ordering;

use thinkwork::oauth::{Error, Revocation};
use thinkwork_primitives::{Actor, AuthMethod, ConnectionId, Identity, Principal, Role, SessionId, UserId};
use tokio::task::JoinSet;

use super::{OauthFixture, consent, text};

fn words(revocations: &[Revocation]) -> Vec<(&'static str, &'static str)> {
    revocations.iter().map(|one| (one.token, one.result.as_str())).collect()
}

fn principal(fixture: &OauthFixture, user: UserId) -> Principal {
    let auth = AuthMethod::Session { id: SessionId::new(), signed_in_at: fixture.clock.now() };
    Principal { tenant: fixture.tenant, identity: Identity::User { id: user, role: Role::Member }, auth }
}

async fn sealed(
    fixture: &OauthFixture,
    connection: ConnectionId,
    credential: thinkwork_primitives::CredentialId,
) -> bool {
    let mut tx = fixture.db.read(fixture.tenant).await.unwrap();
    let described = fixture.credentials.describe(&mut tx, credential).await.unwrap();
    assert!(!connection.to_string().is_empty());
    described.is_some()
}

#[tokio::test]
async fn l22_disconnecting_revokes_both_tokens_and_erases_them() {
    let fixture = OauthFixture::new().await;
    let id = fixture.connect().await;
    let token = text(&fixture.token().await.unwrap());
    let credential = fixture.connection().await.unwrap().credential;
    let results = fixture.oauth.disconnect(&principal(&fixture, fixture.ana), id).await.unwrap();
    assert_eq!(words(&results), [("refresh", "revoked"), ("access", "revoked")]);
    let hints: Vec<String> = fixture.issuer.look(|seen| seen.revoked.iter().map(|(hint, _)| hint.clone()).collect());
    assert_eq!(hints, ["refresh_token", "access_token"]);
    assert!(!fixture.issuer.accepts(&token));
    assert!(!sealed(&fixture, id, credential).await);
    assert!(fixture.connection().await.is_none());
    assert!(matches!(fixture.token().await, Err(Error::NotConnected)));
    fixture.advance(3_600);
    assert!(fixture.run_jobs().await.is_empty(), "nothing is left to do");
}

#[tokio::test]
async fn l22_an_issuer_that_is_down_is_asked_again_and_the_material_stays_until_then() {
    let fixture = OauthFixture::new().await;
    let id = fixture.connect().await;
    let credential = fixture.connection().await.unwrap().credential;
    fixture.issuer.set(|ways| ways.revoke_script.extend([503, 503, 503, 503]));
    let results = fixture.oauth.disconnect(&principal(&fixture, fixture.ana), id).await.unwrap();
    assert_eq!(words(&results), [("refresh", "pending_retry"), ("access", "pending_retry")]);
    assert!(matches!(fixture.token().await, Err(Error::NotConnected)), "no call uses it meanwhile");
    assert!(sealed(&fixture, id, credential).await);
    fixture.advance(61);
    assert!(fixture.run_jobs().await[0].is_err(), "still down");
    fixture.advance(60);
    assert!(fixture.run_jobs().await[0].is_ok());
    assert!(!sealed(&fixture, id, credential).await);
    assert_eq!(fixture.issuer.look(|seen| seen.revoked.len()), 2);
}

#[tokio::test]
async fn l22_what_cannot_be_revoked_is_said_and_erased() {
    let fixture = OauthFixture::with(|ways| ways.revocation = false).await;
    let id = fixture.connect().await;
    let results = fixture.oauth.disconnect(&principal(&fixture, fixture.ana), id).await.unwrap();
    assert_eq!(words(&results), [("refresh", "not_supported"), ("access", "not_supported")]);
    let fixture = OauthFixture::new().await;
    let id = fixture.connect().await;
    let credential = fixture.connection().await.unwrap().credential;
    fixture.issuer.set(|ways| ways.revoke_script.push_back(400));
    let results = fixture.oauth.disconnect(&principal(&fixture, fixture.ana), id).await.unwrap();
    assert_eq!(words(&results), [("refresh", "not_supported"), ("access", "revoked")]);
    assert!(!sealed(&fixture, id, credential).await);
}

#[tokio::test]
async fn l23_members_end_their_own_only_and_operators_may_revoke_anybodys() {
    let fixture = OauthFixture::new().await;
    let id = fixture.connect().await;
    let bo = principal(&fixture, UserId::new());
    assert!(matches!(fixture.oauth.disconnect(&bo, id).await, Err(Error::NotFound)));
    assert!(fixture.token().await.is_ok());
    let other_tenant = thinkwork_primitives::TenantId::new();
    let foreign = fixture.oauth.revoke(other_tenant, id, Actor::server()).await;
    assert!(matches!(foreign, Err(Error::NotFound)));
    let results =
        fixture.oauth.revoke(fixture.tenant, id, Actor::at_page(UserId::new(), SessionId::new())).await.unwrap();
    assert_eq!(results.len(), 2);
    assert!(matches!(fixture.oauth.disconnect(&principal(&fixture, fixture.ana), id).await, Err(Error::NotFound)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_come_after_the_disconnect_are_revoked_too() {
    let fixture = OauthFixture::new().await;
    let id = fixture.connect().await;
    fixture.advance(3_590);
    fixture.issuer.gate.closed.store(true, Ordering::SeqCst);
    let mut call = JoinSet::new();
    let oauth = fixture.oauth.clone();
    let tenant = fixture.tenant;
    let ana = fixture.ana;
    let server = fixture.target;
    call.spawn(async move {
        oauth.access_token(super::access_token_query(tenant, ana, server, &super::use_of(ana))).await.map(drop)
    });
    fixture.issuer.gate.reached.notified().await;
    fixture.oauth.disconnect(&principal(&fixture, fixture.ana), id).await.unwrap();
    fixture.issuer.gate.closed.store(false, Ordering::SeqCst);
    fixture.issuer.gate.open.notify_one();
    assert!(matches!(call.join_next().await.unwrap().unwrap(), Err(Error::NotConnected)));
    assert!(fixture.run_jobs().await.into_iter().all(|result| result.is_ok()));
    assert!(fixture.issuer.look(|seen| seen.live_access.is_empty()), "no token of that grant is alive");
}

#[tokio::test]
async fn a_server_that_goes_takes_its_grants_and_its_registration_with_it() {
    let fixture = OauthFixture::with(|ways| {
        ways.auth_methods = vec!["client_secret_post"];
        ways.secret = Some("registered-secret-of-16");
    })
    .await;
    fixture.connect().await;
    let mut tx = fixture.db.write(fixture.tenant).await.unwrap();
    fixture.oauth.end_target(&mut tx, fixture.target, "server_deleted", &super::by()).await.unwrap();
    tx.commit().await.unwrap();
    assert!(matches!(fixture.token().await, Err(Error::NotConnected)));
    assert!(fixture.run_jobs().await.into_iter().all(|result| result.is_ok()));
    assert!(fixture.issuer.look(|seen| seen.live_access.is_empty()));
    let ana = consent(&fixture.access, fixture.tenant, fixture.ana).await;
    assert!(matches!(fixture.oauth.start(&ana, fixture.target, "").await, Err(Error::NotFound)));
}

#[tokio::test]
async fn a_server_whose_issuer_moved_needs_its_owners_and_revokes_nothing() {
    let fixture = OauthFixture::new().await;
    fixture.connect().await;
    let mut tx = fixture.db.write(fixture.tenant).await.unwrap();
    fixture.oauth.suspend_target(&mut tx, fixture.target, "issuer_changed", &super::by()).await.unwrap();
    tx.commit().await.unwrap();
    assert!(matches!(fixture.token().await, Err(Error::NeedsReauth(reason)) if reason == "issuer_changed"));
    assert!(fixture.issuer.look(|seen| seen.revoked.is_empty()));
    fixture.connect().await;
    assert!(fixture.token().await.is_ok());
}

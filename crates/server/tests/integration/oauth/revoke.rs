//! Disconnecting: at once here, then at the issuer, with proof; nothing left behind.

use std::sync::atomic::Ordering;

use thinkwork::oauth::{Error, Revocation};
use thinkwork_primitives::{Actor, AuthMethod, ConnectionId, Identity, Principal, Role, SessionId, UserId};
use tokio::task::JoinSet;

use super::{OauthFixture, consent, text};

fn words(revocations: &[Revocation]) -> Vec<(&'static str, &'static str)> {
    revocations.iter().map(|one| (one.token, one.result.as_str())).collect()
}

fn principal(world: &OauthFixture, user: UserId) -> Principal {
    let auth = AuthMethod::Session { id: SessionId::new(), signed_in_at: world.clock.now() };
    Principal { tenant: world.tenant, identity: Identity::User { id: user, role: Role::Member }, auth }
}

async fn sealed(
    world: &OauthFixture,
    connection: ConnectionId,
    credential: thinkwork_primitives::CredentialId,
) -> bool {
    let mut tx = world.db.read(world.tenant).await.unwrap();
    let described = world.credentials.describe(&mut tx, credential).await.unwrap();
    assert!(!connection.to_string().is_empty());
    described.is_some()
}

#[tokio::test]
async fn l22_disconnecting_revokes_both_tokens_and_erases_them() {
    let world = OauthFixture::new().await;
    let id = world.connect().await;
    let token = text(&world.token().await.unwrap());
    let credential = world.connection().await.unwrap().credential;
    let results = world.oauth.disconnect(&principal(&world, world.ana), id).await.unwrap();
    assert_eq!(words(&results), [("refresh", "revoked"), ("access", "revoked")]);
    let hints: Vec<String> = world.issuer.look(|seen| seen.revoked.iter().map(|(hint, _)| hint.clone()).collect());
    assert_eq!(hints, ["refresh_token", "access_token"]);
    assert!(!world.issuer.accepts(&token));
    assert!(!sealed(&world, id, credential).await);
    assert!(world.connection().await.is_none());
    assert!(matches!(world.token().await, Err(Error::NotConnected)));
    world.advance(3_600);
    assert!(world.run_jobs().await.is_empty(), "nothing is left to do");
}

#[tokio::test]
async fn l22_an_issuer_that_is_down_is_asked_again_and_the_material_stays_until_then() {
    let world = OauthFixture::new().await;
    let id = world.connect().await;
    let credential = world.connection().await.unwrap().credential;
    world.issuer.set(|ways| ways.revoke_script.extend([503, 503, 503, 503]));
    let results = world.oauth.disconnect(&principal(&world, world.ana), id).await.unwrap();
    assert_eq!(words(&results), [("refresh", "pending_retry"), ("access", "pending_retry")]);
    assert!(matches!(world.token().await, Err(Error::NotConnected)), "no call uses it meanwhile");
    assert!(sealed(&world, id, credential).await);
    world.advance(61);
    assert!(world.run_jobs().await[0].is_err(), "still down");
    world.advance(60);
    assert!(world.run_jobs().await[0].is_ok());
    assert!(!sealed(&world, id, credential).await);
    assert_eq!(world.issuer.look(|seen| seen.revoked.len()), 2);
}

#[tokio::test]
async fn l22_what_cannot_be_revoked_is_said_and_erased() {
    let world = OauthFixture::with(|ways| ways.revocation = false).await;
    let id = world.connect().await;
    let results = world.oauth.disconnect(&principal(&world, world.ana), id).await.unwrap();
    assert_eq!(words(&results), [("refresh", "not_supported"), ("access", "not_supported")]);
    let world = OauthFixture::new().await;
    let id = world.connect().await;
    let credential = world.connection().await.unwrap().credential;
    world.issuer.set(|ways| ways.revoke_script.push_back(400));
    let results = world.oauth.disconnect(&principal(&world, world.ana), id).await.unwrap();
    assert_eq!(words(&results), [("refresh", "not_supported"), ("access", "revoked")]);
    assert!(!sealed(&world, id, credential).await);
}

#[tokio::test]
async fn l23_members_end_their_own_only_and_operators_may_revoke_anybodys() {
    let world = OauthFixture::new().await;
    let id = world.connect().await;
    let bo = principal(&world, UserId::new());
    assert!(matches!(world.oauth.disconnect(&bo, id).await, Err(Error::NotFound)));
    assert!(world.token().await.is_ok());
    let other_tenant = thinkwork_primitives::TenantId::new();
    let foreign = world.oauth.revoke(other_tenant, id, Actor::server()).await;
    assert!(matches!(foreign, Err(Error::NotFound)));
    let results = world.oauth.revoke(world.tenant, id, Actor::at_page(UserId::new(), SessionId::new())).await.unwrap();
    assert_eq!(results.len(), 2);
    assert!(matches!(world.oauth.disconnect(&principal(&world, world.ana), id).await, Err(Error::NotFound)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_come_after_the_disconnect_are_revoked_too() {
    let world = OauthFixture::new().await;
    let id = world.connect().await;
    world.advance(3_590);
    world.issuer.gate.closed.store(true, Ordering::SeqCst);
    let mut call = JoinSet::new();
    let oauth = world.oauth.clone();
    let tenant = world.tenant;
    let ana = world.ana;
    let server = world.target;
    call.spawn(async move {
        oauth.access_token(super::token_request(tenant, ana, server, &super::use_of(ana))).await.map(drop)
    });
    world.issuer.gate.reached.notified().await;
    world.oauth.disconnect(&principal(&world, world.ana), id).await.unwrap();
    world.issuer.gate.closed.store(false, Ordering::SeqCst);
    world.issuer.gate.open.notify_one();
    assert!(matches!(call.join_next().await.unwrap().unwrap(), Err(Error::NotConnected)));
    assert!(world.run_jobs().await.into_iter().all(|result| result.is_ok()));
    assert!(world.issuer.look(|seen| seen.live_access.is_empty()), "no token of that grant is alive");
}

#[tokio::test]
async fn a_server_that_goes_takes_its_grants_and_its_registration_with_it() {
    let world = OauthFixture::with(|ways| {
        ways.auth_methods = vec!["client_secret_post"];
        ways.secret = Some("registered-secret-of-16");
    })
    .await;
    world.connect().await;
    let mut tx = world.db.write(world.tenant).await.unwrap();
    world.oauth.end_target(&mut tx, world.target, "server_deleted", &super::by()).await.unwrap();
    tx.commit().await.unwrap();
    assert!(matches!(world.token().await, Err(Error::NotConnected)));
    assert!(world.run_jobs().await.into_iter().all(|result| result.is_ok()));
    assert!(world.issuer.look(|seen| seen.live_access.is_empty()));
    let ana = consent(&world.access, world.tenant, world.ana).await;
    assert!(matches!(world.oauth.start(&ana, world.target, "").await, Err(Error::NotFound)));
}

#[tokio::test]
async fn a_server_whose_issuer_moved_needs_its_owners_and_revokes_nothing() {
    let world = OauthFixture::new().await;
    world.connect().await;
    let mut tx = world.db.write(world.tenant).await.unwrap();
    world.oauth.suspend_target(&mut tx, world.target, "issuer_changed", &super::by()).await.unwrap();
    tx.commit().await.unwrap();
    assert!(matches!(world.token().await, Err(Error::NeedsReauth(reason)) if reason == "issuer_changed"));
    assert!(world.issuer.look(|seen| seen.revoked.is_empty()));
    world.connect().await;
    assert!(world.token().await.is_ok());
}

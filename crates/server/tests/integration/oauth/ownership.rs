//! Whose grant a call gets: exactly the requester's own at exactly that server of exactly that tenant.

use std::collections::HashMap;

use thinkwork::credentials::UseContext;
use thinkwork::oauth::{CallbackOutcome, ClientSettings, Error};
use thinkwork_primitives::{ActingClient, Actor, GrantTarget, ProviderId, Requester, TenantId, UserId, WebhookId};

use super::{Issuer, OauthFixture, access_token_query, query_of, text, use_of};

/// Two tenants behind one URL, two servers each, two people each; every second pair is connected. A third tenant has
/// the ids of the first, so that the tenant alone tells their grants apart.
#[tokio::test]
async fn l37_l38_a_token_is_found_by_tenant_user_and_server_and_by_nothing_less() {
    let fixture = OauthFixture::new().await;
    let tenants = [fixture.tenant, TenantId::new(), TenantId::new()];
    let mut users: Vec<Vec<UserId>> = (0..2).map(|_| (0..2).map(|_| UserId::new()).collect()).collect();
    let mut servers: Vec<Vec<GrantTarget>> = (0..2).map(|_| (0..2).map(|_| super::target()).collect()).collect();
    users.push(users[0].clone());
    servers.push(servers[0].clone());
    let mut tokens: HashMap<(TenantId, UserId, GrantTarget), String> = HashMap::new();
    for (t, tenant) in tenants.into_iter().enumerate() {
        for user in &users[t] {
            fixture.add_person(tenant, *user).await;
        }
        for (s, server) in servers[t].iter().enumerate() {
            fixture.register(tenant, *server).await.unwrap();
            for (u, user) in users[t].iter().enumerate() {
                if (t + s + u) % 2 == 0 {
                    let finished = fixture.connect_as(tenant, *user, *server).await;
                    assert!(
                        matches!(finished, CallbackOutcome::Return { to, .. } if query_of(&to)["status"] == "connected")
                    );
                    let token = fixture
                        .oauth
                        .access_token(access_token_query(tenant, *user, *server, &use_of(*user)))
                        .await
                        .unwrap();
                    tokens.insert((tenant, *user, *server), text(&token));
                }
            }
        }
    }
    let mut all: Vec<_> = tokens.values().collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), tokens.len(), "no two share a token");
    for (t, tenant) in tenants.into_iter().enumerate() {
        for user in users[..2].iter().flatten() {
            for (s, server) in servers[..2].iter().flatten().enumerate() {
                let found =
                    fixture.oauth.access_token(access_token_query(tenant, *user, *server, &use_of(*user))).await;
                match (found, tokens.get(&(tenant, *user, *server))) {
                    (Ok(token), Some(expected)) => assert_eq!(&text(&token), expected),
                    (Err(Error::NotConnected), None) => {}
                    (Ok(_), None) => panic!("a stranger's token for tenant {t}, {user}, server {s}"),
                    (Err(error), _) => panic!("{error} for tenant {t}, {user}, server {s}"),
                }
            }
        }
    }
}

/// Ids are unique within their kind only.
#[tokio::test]
async fn grants_for_two_kinds_of_target_with_one_id_stay_apart() {
    let fixture = OauthFixture::new().await;
    let provider = GrantTarget::from(ProviderId::from_uuid(fixture.target.uuid()));
    fixture.connect().await;
    let context = use_of(fixture.ana);
    let token = async |target| {
        fixture.oauth.access_token(access_token_query(fixture.tenant, fixture.ana, target, &context)).await
    };
    assert!(matches!(token(provider).await, Err(Error::NotConnected)));
    fixture.register(fixture.tenant, provider).await.unwrap();
    fixture.connect_as(fixture.tenant, fixture.ana, provider).await;
    let one = token(fixture.target).await.unwrap();
    let other = token(provider).await.unwrap();
    assert_ne!((one.connection, text(&one)), (other.connection, text(&other)));
    let mut tx = fixture.db.write(fixture.tenant).await.unwrap();
    fixture.oauth.end_target(&mut tx, provider, "server_deleted", &Actor::server()).await.unwrap();
    tx.commit().await.unwrap();
    assert!(matches!(token(provider).await, Err(Error::NotConnected)));
    assert_eq!(token(fixture.target).await.unwrap().connection, one.connection);
}

/// The fourth part of the key. What another issuer gave is not used for the server, and not revoked either.
#[tokio::test]
async fn l37_a_grant_is_of_the_issuer_that_the_server_is_registered_at() {
    let fixture = OauthFixture::new().await;
    fixture.connect().await;
    // The same issuer again, as another client: the grant goes on with its own.
    fixture.register_by_hand("by-hand", None).await.unwrap();
    assert!(fixture.token().await.is_ok());
    let other = Issuer::start().await;
    let discovered = fixture.oauth.discover(&other.resource(), None, Default::default()).await.unwrap();
    let client = ClientSettings { discovered, ..fixture.client_settings(fixture.target).await.unwrap() };
    fixture.register_client(fixture.tenant, client).await.unwrap();
    assert!(matches!(fixture.token().await, Err(Error::NeedsReauth(reason)) if reason == "issuer_changed"));
    assert!(fixture.issuer.look(|seen| seen.revoked.is_empty() && seen.refreshes() == 0));
    fixture.connect().await;
    assert!(other.accepts(&text(&fixture.token().await.unwrap())));
}

#[tokio::test]
async fn s03_work_of_anybody_else_never_gets_a_persons_token() {
    let fixture = OauthFixture::new().await;
    fixture.connect().await;
    let others = [
        Requester::User(UserId::new()),
        Requester::Webhook(WebhookId::new()),
        Requester::System("tok_service".to_owned()),
        Requester::Extension("tracker".to_owned()),
        Requester::server(),
    ];
    for requester in others {
        let actor = Actor { requester, client: ActingClient::System };
        let context = UseContext::by(actor);
        let refused =
            fixture.oauth.access_token(access_token_query(fixture.tenant, fixture.ana, fixture.target, &context)).await;
        assert!(matches!(refused, Err(Error::NotConnected)), "{:?}", context.actor);
    }
    assert!(fixture.token().await.is_ok());
}

#[tokio::test]
async fn every_use_stands_in_the_owners_ledger_and_in_nobody_elses() {
    let fixture = OauthFixture::new().await;
    let id = fixture.connect().await;
    fixture.token().await.unwrap();
    fixture.advance(3_590);
    fixture.token().await.unwrap();
    let mut tx = fixture.db.read(fixture.tenant).await.unwrap();
    let uses = thinkwork::audit::uses_of(&mut tx, fixture.ana, Some(id), 50, None).await.unwrap();
    let words: Vec<_> = uses.iter().map(|one| (one.surface.as_str(), one.tool.as_deref())).collect();
    let call = ("tool_call", Some("notes__search"));
    assert_eq!(words, [call, ("oauth", None), call], "newest first: call, refresh, call");
    assert!(uses.iter().all(|one| one.requester == Some(Requester::User(fixture.ana))));
    let foreign = thinkwork::audit::uses_of(&mut tx, UserId::new(), Some(id), 50, None).await.unwrap();
    assert!(foreign.is_empty());
}

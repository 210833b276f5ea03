//! From the button to the grant: who may finish, which answers are taken, what stays.

use thinkwork::oauth::{CallbackCaller, CallbackOutcome, ConnectionStatus, Error};
use thinkwork_primitives::{SessionId, TenantId, UserId};

use super::races::texts;
use super::{OauthFixture, consent, query_of, text};

#[track_caller]
fn returned(finished: CallbackOutcome) -> String {
    match finished {
        CallbackOutcome::Return { to, .. } => to,
        other => panic!("{other:?}"),
    }
}

fn exchanges(fixture: &OauthFixture) -> usize {
    fixture.issuer.look(|seen| seen.token_requests.len())
}

#[tokio::test]
async fn a_member_connects_and_the_token_is_the_issuers() {
    let fixture = OauthFixture::new().await;
    let id = fixture.connect().await;
    let connection = fixture.connection().await.unwrap();
    assert_eq!((connection.id, connection.status), (id, ConnectionStatus::Connected));
    assert_eq!(connection.account, "ana@notes.test");
    assert!(fixture.issuer.accepts(&text(&fixture.token().await.unwrap())));
    assert!(fixture.run_jobs().await.is_empty(), "nothing is left to do");
}

#[tokio::test]
async fn l01_a_callback_by_anyone_else_ends_the_flow_before_any_exchange() {
    let fixture = OauthFixture::new().await;
    let bo = UserId::new();
    let strangers = [None, Some((fixture.tenant, bo)), Some((TenantId::new(), fixture.ana))];
    for person in strangers {
        let started = fixture.start(fixture.tenant, fixture.ana, fixture.target).await;
        let (key, query) = fixture.consent_at_issuer(&started).await;
        assert_eq!(
            fixture.oauth.callback(&key, &query, fixture.browser(&started, person)).await,
            CallbackOutcome::NotYours
        );
        let ana = fixture.browser(&started, Some((fixture.tenant, fixture.ana)));
        assert_eq!(fixture.oauth.callback(&key, &query, ana).await, CallbackOutcome::Unknown, "the flow has ended");
    }
    assert_eq!(exchanges(&fixture), 0);
    assert!(fixture.issuer.look(|seen| seen.revoked.is_empty()));
    assert!(fixture.connection().await.is_none());
}

#[tokio::test]
async fn l07_the_right_person_in_another_browser_finishes_nothing() {
    let fixture = OauthFixture::new().await;
    let started = fixture.start(fixture.tenant, fixture.ana, fixture.target).await;
    let (key, query) = fixture.consent_at_issuer(&started).await;
    let person = Some((fixture.tenant, fixture.ana, SessionId::new()));
    let caller = CallbackCaller { person, headers: axum::http::HeaderMap::new() };
    assert_eq!(fixture.oauth.callback(&key, &query, caller).await, CallbackOutcome::NotYours);
    assert_eq!(exchanges(&fixture), 0);
}

#[tokio::test]
async fn l02_user_and_tenant_in_a_callback_change_nothing() {
    let fixture = OauthFixture::new().await;
    let bo = UserId::new();
    let started = fixture.start(fixture.tenant, fixture.ana, fixture.target).await;
    let (key, query) = fixture.consent_at_issuer(&started).await;
    let query = format!("{query}&user={bo}&user_id={bo}&tenant={}", TenantId::new());
    let ana = fixture.browser(&started, Some((fixture.tenant, fixture.ana)));
    returned(fixture.oauth.callback(&key, &query, ana).await);
    assert_eq!(fixture.connection().await.unwrap().user, fixture.ana);
}

#[tokio::test]
async fn l03_state_is_hashed_single_use_and_short_lived() {
    let fixture = OauthFixture::new().await;
    let started = fixture.start(fixture.tenant, fixture.ana, fixture.target).await;
    let state = query_of(&started.authorize_url)["state"].clone();
    assert_eq!(state.len(), 43, "256 bits");
    let (key, query) = fixture.consent_at_issuer(&started).await;
    fixture.advance(601);
    let ana = || fixture.browser(&started, Some((fixture.tenant, fixture.ana)));
    assert_eq!(fixture.oauth.callback(&key, &query, ana()).await, CallbackOutcome::Unknown);
    assert_eq!(exchanges(&fixture), 0);
    // Another one in time works once; the second tap of the same person is harmless, of anybody else nothing.
    let started = fixture.start(fixture.tenant, fixture.ana, fixture.target).await;
    let (key, query) = fixture.consent_at_issuer(&started).await;
    let ana = || fixture.browser(&started, Some((fixture.tenant, fixture.ana)));
    let first = returned(fixture.oauth.callback(&key, &query, ana()).await);
    assert_eq!(returned(fixture.oauth.callback(&key, &query, ana()).await), first);
    let bo = fixture.browser(&started, Some((fixture.tenant, UserId::new())));
    assert_eq!(fixture.oauth.callback(&key, &query, bo).await, CallbackOutcome::Unknown);
    assert_eq!(exchanges(&fixture), 1);
    // The expired flow's verifier is erased by its job, and the other's was when it ended.
    let sealed = "SELECT c.kind FROM credential c JOIN credential_version v ON v.credential_id = c.id
                  WHERE v.erased_at IS NULL ORDER BY c.kind";
    assert_eq!(texts(&fixture, sealed).await, ["oauth_grant", "pkce_verifier"]);
    fixture.advance(3_600);
    assert!(fixture.run_jobs().await.into_iter().all(|result| result.is_ok()));
    assert_eq!(texts(&fixture, sealed).await, ["oauth_grant"]);
}

#[tokio::test]
async fn l04_the_state_says_nothing_and_a_forged_one_leads_nowhere() {
    let fixture = OauthFixture::new().await;
    let started = fixture.start(fixture.tenant, fixture.ana, fixture.target).await;
    let (key, _) = fixture.consent_at_issuer(&started).await;
    for state in ["", "AAAA", r#"{"token_endpoint":"http://127.0.0.1:1/token"}"#, &"x".repeat(20_000)] {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("code", "stolen").append_pair("state", state);
        let ana = fixture.browser(&started, Some((fixture.tenant, fixture.ana)));
        assert_eq!(fixture.oauth.callback(&key, &query.finish(), ana).await, CallbackOutcome::Unknown);
    }
    assert_eq!(exchanges(&fixture), 0);
}

#[tokio::test]
async fn l04_the_state_is_not_the_verifier() {
    let fixture = OauthFixture::new().await;
    let started = fixture.start(fixture.tenant, fixture.ana, fixture.target).await;
    let sent = query_of(&started.authorize_url);
    let hash = thinkwork_primitives::crypto::sha256(sent["state"].as_bytes());
    assert_ne!(sent["code_challenge"], thinkwork_primitives::crypto::base64url(&hash));
    let (key, query) = fixture.consent_at_issuer(&started).await;
    let ana = fixture.browser(&started, Some((fixture.tenant, fixture.ana)));
    returned(fixture.oauth.callback(&key, &query, ana).await);
    let verifier = fixture.issuer.look(|seen| seen.token_requests[0]["code_verifier"].clone());
    assert!(!sent["state"].contains(&verifier) && verifier.len() == 43, "256 bits of its own");
    assert_eq!(sent["state"].len(), 43, "and nothing beside a handle");
}

#[tokio::test]
async fn l05_only_a_page_of_ours_is_returned_to() {
    let fixture = OauthFixture::new().await;
    let ana = consent(&fixture.access, fixture.tenant, fixture.ana).await;
    for hostile in [
        "//evil.test",
        "/me//evil.test",
        "/me/\\evil.test",
        "https://evil.test/me/",
        "/admin",
        "/me/../x",
        "/me/\r\nX: 1",
    ] {
        let refused = fixture.oauth.start(&ana, fixture.target, hostile).await;
        assert!(matches!(refused, Err(Error::ReturnAddress)), "{hostile}");
    }
    assert!(fixture.oauth.start(&ana, fixture.target, "/me/mcp-servers").await.is_ok());
}

#[tokio::test]
async fn l06_the_redirect_uri_comes_from_the_configuration_and_is_one_per_registration() {
    let fixture = OauthFixture::new().await;
    let other = super::target();
    fixture.register(fixture.tenant, other).await.unwrap();
    let mut uris = Vec::new();
    for server in [fixture.target, other] {
        let started = fixture.start(fixture.tenant, fixture.ana, server).await;
        uris.push(query_of(&started.authorize_url)["redirect_uri"].clone());
    }
    assert!(uris.iter().all(|uri| uri.starts_with("https://work.acme.test/oauth/callback/")));
    assert_ne!(uris[0], uris[1]);
    let registered = fixture.issuer.look(|seen| seen.registrations[0]["redirect_uris"][0].clone());
    assert_eq!(registered, uris[0].as_str());
}

#[tokio::test]
async fn l08_an_answer_at_another_registrations_callback_is_refused() {
    let fixture = OauthFixture::new().await;
    let other = super::target();
    fixture.register(fixture.tenant, other).await.unwrap();
    let started = fixture.start(fixture.tenant, fixture.ana, fixture.target).await;
    let (key, query) = fixture.consent_at_issuer(&started).await;
    let foreign = fixture.start(fixture.tenant, fixture.ana, other).await;
    let (foreign_key, _) = fixture.consent_at_issuer(&foreign).await;
    let ana = || fixture.browser(&started, Some((fixture.tenant, fixture.ana)));
    assert_eq!(fixture.oauth.callback(&foreign_key, &query, ana()).await, CallbackOutcome::Unknown);
    assert_eq!(fixture.oauth.callback("unknown-key", &query, ana()).await, CallbackOutcome::Unknown);
    assert_eq!(exchanges(&fixture), 0, "the code went nowhere");
    // The flow itself was not touched by the mix-up.
    assert!(returned(fixture.oauth.callback(&key, &query, ana()).await).contains("status=connected"));
    // At the right callback an answer in the name of another server goes nowhere either.
    let (key, query) = fixture.consent_at_issuer(&foreign).await;
    let (answer, _) = query.split_once("&iss=").unwrap();
    let mixed = format!("{answer}&iss=https%3A%2F%2Fother.test");
    let ana = fixture.browser(&foreign, Some((fixture.tenant, fixture.ana)));
    assert_eq!(fixture.oauth.callback(&key, &mixed, ana).await, CallbackOutcome::Mismatch);
    assert_eq!(exchanges(&fixture), 1);
}

#[tokio::test]
async fn s11_iss_matrix() {
    for (declared, sent, fits) in [
        (true, None, true),
        (false, None, true),
        (true, Some(""), false),
        (false, Some(""), true),
        (true, Some("https://evil.test"), false),
        (false, Some("https://evil.test"), false),
        (false, Some("$issuer/"), false),
    ] {
        for refuse in [None, Some("access_denied")] {
            let fixture = OauthFixture::with(|ways| ways.iss_declared = declared).await;
            let base = fixture.issuer.base.clone();
            fixture.issuer.set(|ways| {
                ways.iss_sent = sent.map(|sent| sent.replace("$issuer", &base));
                ways.refuse = refuse;
            });
            let finished = fixture.connect_as(fixture.tenant, fixture.ana, fixture.target).await;
            let case = format!("{declared} {sent:?} {refuse:?}");
            match (fits, refuse) {
                (true, None) => assert!(returned(finished).contains("status=connected"), "{case}"),
                (true, Some(reason)) => assert!(returned(finished).contains(reason), "{case}"),
                (false, _) => assert_eq!(finished, CallbackOutcome::Mismatch, "{case}"),
            }
            assert_eq!(exchanges(&fixture), usize::from(fits && refuse.is_none()), "{case}");
        }
    }
}

#[tokio::test]
async fn l10_odd_but_harmless_answers_connect_and_contradictory_ones_do_not() {
    let fixture = OauthFixture::new().await;
    for (change, connects) in [
        ("$q#", true),
        ("$q#_=_", true),
        ("$q&scope=notes%3Aread&session_state=1&authuser=0", true),
        ("$q&$q", true),
        ("$q&code=other", false),
        ("$q&error=access_denied", false),
        ("$q&iss=https%3A%2F%2Fevil.test", false),
        ("$q&state=other", false),
    ] {
        let started = fixture.start(fixture.tenant, fixture.ana, fixture.target).await;
        let (key, query) = fixture.consent_at_issuer(&started).await;
        let ana = fixture.browser(&started, Some((fixture.tenant, fixture.ana)));
        let finished = fixture.oauth.callback(&key, &change.replace("$q", &query), ana).await;
        let connected = matches!(&finished, CallbackOutcome::Return { to, .. } if to.contains("status=connected"));
        assert_eq!(connected, connects, "{change}: {finished:?}");
    }
}

#[tokio::test]
async fn l11_a_refusal_names_its_reason_and_none_of_the_providers_text() {
    let fixture = OauthFixture::with(|ways| ways.refuse = Some("access_denied")).await;
    let to = returned(fixture.connect_as(fixture.tenant, fixture.ana, fixture.target).await);
    assert_eq!(to, "/me/connections?status=error&reason=access_denied");
    fixture.issuer.set(|ways| ways.refuse = Some("Weird Error<script>"));
    let to = returned(fixture.connect_as(fixture.tenant, fixture.ana, fixture.target).await);
    assert_eq!(query_of(&to)["reason"], "provider_error");
    fixture.issuer.set(|ways| {
        ways.refuse = None;
        ways.token_script.push_back((503, "Down for now".to_owned()));
    });
    let to = returned(fixture.connect_as(fixture.tenant, fixture.ana, fixture.target).await);
    assert_eq!(query_of(&to)["reason"], "provider_unreachable");
}

#[tokio::test]
async fn control_characters_in_an_answers_scope_cost_no_grant() {
    let fixture = OauthFixture::new().await;
    let answer = serde_json::json!({ "access_token": "access-of-16-or-more", "scope": "notes:read\0notes:write" });
    fixture.issuer.set(|ways| ways.token_script.push_back((200, answer.to_string())));
    fixture.connect().await;
    assert_eq!(fixture.connection().await.unwrap().scopes, ["notes:read", "notes:write"]);
}

/// Such a token would break each request that carries it, at a time when nobody knows why any more.
#[tokio::test]
async fn a_token_that_cannot_stand_in_a_header_is_refused_at_the_callback() {
    let fixture = OauthFixture::new().await;
    for token in ["access\r\nX-Injected: yes", "access of words", "acc\u{e9}ss"] {
        let answer = serde_json::json!({ "access_token": token, "token_type": "Bearer" });
        fixture.issuer.set(|ways| ways.token_script.push_back((200, answer.to_string())));
        let to = returned(fixture.connect_as(fixture.tenant, fixture.ana, fixture.target).await);
        assert_eq!(query_of(&to)["reason"], "token_unusable", "{token:?}");
    }
    assert!(fixture.connection().await.is_none());
}

/// With two of a name a server may read the first, which is not what the person was asked to allow.
#[tokio::test]
async fn an_authorization_endpoint_that_sets_our_parameters_is_refused() {
    for (query, is_refused) in [("?scope=everything", true), ("?request_uri=urn:x", true), ("?audience=notes", false)] {
        let fixture = OauthFixture::new().await;
        let endpoint = format!("{}/authorize{query}", fixture.issuer.base);
        fixture.issuer.set(|ways| ways.metadata.push(("authorization_endpoint", endpoint.into())));
        let found = fixture.oauth.discover(&fixture.issuer.resource(), None, Default::default()).await;
        assert_eq!(found.is_err(), is_refused, "{query}: {:?}", found.err());
    }
}

#[tokio::test]
async fn l13_reconnecting_is_in_place_and_the_new_token_is_used() {
    let fixture = OauthFixture::new().await;
    let first = fixture.connect().await;
    let old = text(&fixture.token().await.unwrap());
    let second = fixture.connect().await;
    assert_eq!(first, second);
    let new = text(&fixture.token().await.unwrap());
    assert_ne!(old, new);
    let mut tx = fixture.db.read(fixture.tenant).await.unwrap();
    assert_eq!(fixture.oauth.connections_of(&mut tx, fixture.ana).await.unwrap().len(), 1);
}

#[tokio::test]
async fn l13_reconnecting_a_dead_grant_leaves_nothing_of_its_death() {
    let fixture = OauthFixture::new().await;
    let id = fixture.connect().await;
    fixture.advance(3_590);
    fixture.issuer.set(|ways| ways.token_script.push_back((400, r#"{"error":"invalid_grant"}"#.to_owned())));
    assert!(matches!(fixture.token().await, Err(Error::NeedsReauth(_))));
    assert_eq!(fixture.connect().await, id);
    let connection = fixture.connection().await.unwrap();
    assert_eq!((connection.status, connection.status_reason), (ConnectionStatus::Connected, None));
    assert!(fixture.issuer.accepts(&text(&fixture.token().await.unwrap())));
}

#[tokio::test]
async fn l13_reconnecting_the_same_account_revokes_nothing_that_the_new_grant_may_stand_on() {
    let fixture = OauthFixture::new().await;
    fixture.connect().await;
    fixture.connect().await;
    assert!(fixture.run_jobs().await.is_empty());
    assert!(fixture.issuer.look(|seen| seen.revoked.is_empty()));
    assert!(fixture.issuer.accepts(&text(&fixture.token().await.unwrap())));
}

#[tokio::test]
async fn l22_reconnecting_another_account_revokes_the_tokens_of_the_one_before() {
    let fixture = OauthFixture::new().await;
    let first = fixture.connect().await;
    let old = text(&fixture.token().await.unwrap());
    fixture.issuer.set(|ways| ways.account = Some("bo@notes.test"));
    assert_eq!(fixture.connect().await, first, "in place");
    assert_eq!(fixture.connection().await.unwrap().account, "bo@notes.test");
    assert!(fixture.run_jobs().await.into_iter().all(|result| result.is_ok()));
    let hints: Vec<String> = fixture.issuer.look(|seen| seen.revoked.iter().map(|(hint, _)| hint.clone()).collect());
    assert_eq!(hints, ["refresh_token", "access_token"]);
    assert!(!fixture.issuer.accepts(&old));
    assert!(fixture.issuer.accepts(&text(&fixture.token().await.unwrap())), "the new grant lives");
    let mut tx = fixture.db.read(fixture.tenant).await.unwrap();
    assert_eq!(fixture.oauth.connections_of(&mut tx, fixture.ana).await.unwrap().len(), 1);
    drop(tx);
    assert!(fixture.run_jobs().await.is_empty(), "nothing is left to do");
}

#[tokio::test]
async fn l09_two_taps_make_two_flows_and_one_connection() {
    let fixture = OauthFixture::new().await;
    let one = fixture.start(fixture.tenant, fixture.ana, fixture.target).await;
    let two = fixture.start(fixture.tenant, fixture.ana, fixture.target).await;
    let mut connections = Vec::new();
    for started in [&two, &one] {
        let (key, query) = fixture.consent_at_issuer(started).await;
        let ana = fixture.browser(started, Some((fixture.tenant, fixture.ana)));
        connections.push(query_of(&returned(fixture.oauth.callback(&key, &query, ana).await))["connection"].clone());
    }
    assert_eq!(connections[0], connections[1]);
}

#[tokio::test]
async fn l25_the_grant_is_the_users_whatever_subject_the_issuer_names() {
    let fixture = OauthFixture::with(|ways| ways.account = None).await;
    fixture.connect().await;
    let connection = fixture.connection().await.unwrap();
    assert_eq!((connection.user, connection.account.as_str()), (fixture.ana, "not-our-user"));
}

#[tokio::test]
async fn a_server_without_s256_is_refused_unless_it_is_only_silent() {
    let fixture = OauthFixture::new().await;
    fixture.issuer.set(|ways| ways.pkce = Some(vec!["plain"]));
    assert!(matches!(fixture.register(fixture.tenant, super::target()).await, Err(Error::Refused(_))));
    fixture.issuer.set(|ways| ways.pkce = None);
    assert!(matches!(fixture.register(fixture.tenant, super::target()).await, Err(Error::Refused(_))));
    let mut client = fixture.client_settings(super::target()).await.unwrap();
    client.pkce_though_silent = true;
    fixture.register_client(fixture.tenant, client).await.unwrap();
}

#[tokio::test]
async fn without_dynamic_registration_a_client_is_entered_by_hand_and_proves_itself() {
    let fixture = OauthFixture::new().await;
    fixture.issuer.set(|ways| ways.registration = false);
    assert!(matches!(fixture.register(fixture.tenant, super::target()).await, Err(Error::Refused(_))));
    for method in ["client_secret_basic", "client_secret_post"] {
        fixture.issuer.set(|ways| {
            ways.auth_methods = vec![method];
            ways.secret = Some("s3cret & more, of 16+");
        });
        fixture.register_by_hand("by-hand", Some("s3cret & more, of 16+")).await.unwrap();
        fixture.connect().await;
        let last = fixture.issuer.look(|seen| seen.token_requests.last().unwrap().clone());
        assert_eq!(last.contains_key("client_secret"), method == "client_secret_post");
        // A changed way of proving is another registration.
        fixture.register_by_hand("by-hand", None).await.unwrap();
    }
}

#[tokio::test]
async fn approving_again_keeps_the_registration_and_another_client_gets_another_callback() {
    let fixture = OauthFixture::new().await;
    let callback = |started: &thinkwork::oauth::StartedFlow| query_of(&started.authorize_url)["redirect_uri"].clone();
    let before = callback(&fixture.start(fixture.tenant, fixture.ana, fixture.target).await);
    fixture.register(fixture.tenant, fixture.target).await.unwrap();
    assert_eq!(fixture.issuer.look(|seen| seen.registrations.len()), 1);
    assert_eq!(callback(&fixture.start(fixture.tenant, fixture.ana, fixture.target).await), before);
    let id = fixture.connect().await;
    fixture.register_by_hand("other-client", None).await.unwrap();
    assert_ne!(callback(&fixture.start(fixture.tenant, fixture.ana, fixture.target).await), before);
    // The grant of the client before goes on, and is revoked when the person connects with the new one.
    let old = text(&fixture.token().await.unwrap());
    assert_eq!(fixture.connect().await, id);
    assert!(fixture.run_jobs().await.into_iter().all(|result| result.is_ok()));
    assert!(!fixture.issuer.accepts(&old));
    assert!(fixture.issuer.accepts(&text(&fixture.token().await.unwrap())));
}

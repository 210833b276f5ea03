//! Refreshing: one at a time across processes, nothing lost, nothing expired sent, nothing declared dead too early.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};
use thinkwork::oauth::{ClientSettings, ConnectionStatus, Error, PreRegistered};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::races::texts;
use super::{OauthFixture, text};
use crate::harness::execute_sql;

fn refreshes(fixture: &OauthFixture) -> usize {
    fixture.issuer.look(|seen| seen.refreshes())
}

#[tokio::test]
async fn l14_every_quirk_of_a_token_endpoint_is_lived_with() {
    let lifetimes = [json!(3600), json!("3600"), json!(3600.0), Value::Null];
    for (number, expires_in) in lifetimes.into_iter().enumerate() {
        for (form, kind) in [(false, Some("bearer")), (true, Some("BEARER")), (false, None), (true, None)] {
            let fixture = OauthFixture::with(|ways| {
                ways.expires_in = expires_in.clone();
                ways.form_answers = form;
                ways.token_type = kind;
            })
            .await;
            fixture.connect().await;
            let first = fixture.token().await.unwrap();
            let version = first.version;
            let second = fixture.token_after_refusal(version).await.unwrap();
            assert_ne!(text(&first), text(&second), "case {number} {form} {kind:?}");
            assert!(fixture.issuer.accepts(&text(&second)));
            let last = fixture.issuer.look(|seen| seen.token_requests.last().unwrap().clone());
            assert!(last.contains_key("client_id") && last.contains_key("resource"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l16_sixty_four_callers_in_three_processes_make_one_refresh() {
    let fixture = OauthFixture::new().await;
    fixture.connect().await;
    fixture.advance(3_590);
    let processes = [fixture.oauth.clone(), fixture.another_process().await, fixture.another_process().await];
    let mut callers = JoinSet::new();
    for number in 0..64 {
        let oauth = processes[number % 3].clone();
        let tenant = fixture.tenant;
        let ana = fixture.ana;
        let server = fixture.target;
        callers.spawn(async move {
            oauth.access_token(super::access_token_query(tenant, ana, server, &super::use_of(ana))).await
        });
    }
    let mut tokens = Vec::new();
    while let Some(token) = callers.join_next().await {
        tokens.push(text(&token.unwrap().unwrap()));
    }
    tokens.dedup();
    assert_eq!((tokens.len(), refreshes(&fixture)), (1, 1));
    assert!(fixture.issuer.accepts(&tokens[0]));
    assert!(!fixture.issuer.look(|seen| seen.grant_ended), "no refresh token was used twice");
}

#[tokio::test]
async fn l16_a_token_that_lives_shorter_than_a_minute_is_not_refreshed_by_every_waiter() {
    let fixture = OauthFixture::with(|ways| ways.expires_in = json!(30)).await;
    fixture.connect().await;
    let one = fixture.token();
    let two = fixture.token();
    let (one, two) = tokio::join!(one, two);
    assert!(one.is_ok() && two.is_ok());
    assert!(refreshes(&fixture) <= 2);
}

#[tokio::test]
async fn l15_refreshing_one_grant_leaves_the_users_others_alone() {
    let fixture = OauthFixture::new().await;
    let other = super::target();
    fixture.register(fixture.tenant, other).await.unwrap();
    fixture.connect().await;
    fixture.advance(1_800);
    fixture.connect_as(fixture.tenant, fixture.ana, other).await;
    fixture.advance(1_790);
    fixture.token().await.unwrap();
    assert_eq!(refreshes(&fixture), 1);
    let context = super::use_of(fixture.ana);
    fixture.oauth.access_token(super::access_token_query(fixture.tenant, fixture.ana, other, &context)).await.unwrap();
    assert_eq!(refreshes(&fixture), 1, "the other one had half an hour left");
    fixture.advance(1_790);
    fixture.oauth.access_token(super::access_token_query(fixture.tenant, fixture.ana, other, &context)).await.unwrap();
    assert_eq!(refreshes(&fixture), 2, "and kept its own end");
}

/// Whatever comes of it: done, put off, or the end of the grant.
#[tokio::test]
async fn l15_a_refresh_leaves_every_other_row_as_it_was() {
    let rows = "SELECT status || ' ' || coalesce(status_reason, '') || ' ' || has_refresh_token || ' '
                || coalesce(access_expires_at, 0) || ' ' || coalesce(refresh_started_at, 0) || ' '
                || coalesce(refresh_lease_until, 0) || ' ' || coalesce(refreshed_at, 0) FROM connection ORDER BY id";
    for answer in [None, Some((503, "{}")), Some((400, r#"{"error":"invalid_grant"}"#))] {
        let fixture = OauthFixture::new().await;
        let other = super::target();
        fixture.register(fixture.tenant, other).await.unwrap();
        fixture.connect().await;
        fixture.connect_as(fixture.tenant, fixture.ana, other).await;
        let before = texts(&fixture, rows).await;
        fixture.advance(3_590);
        fixture.issuer.set(|ways| ways.token_script.extend(answer.map(|(status, body)| (status, body.to_owned()))));
        drop(fixture.token().await);
        let after = texts(&fixture, rows).await;
        assert_eq!((after.len(), refreshes(&fixture)), (2, 1));
        assert_ne!(after[0], before[0], "{answer:?}");
        assert_eq!(after[1], before[1], "{answer:?}");
    }
}

#[tokio::test]
async fn l17_a_caller_that_goes_away_loses_no_rotated_token() {
    let fixture = OauthFixture::new().await;
    fixture.connect().await;
    fixture.advance(3_590);
    fixture.issuer.gate.closed.store(true, Ordering::SeqCst);
    {
        let call = fixture.token();
        tokio::select! {
            _ = call => panic!("the gate is closed"),
            () = fixture.issuer.gate.reached.notified() => {}
        }
    }
    fixture.issuer.gate.closed.store(false, Ordering::SeqCst);
    fixture.issuer.gate.open.notify_one();
    let token = text(&fixture.token().await.unwrap());
    assert!(fixture.issuer.accepts(&token));
    assert_eq!(refreshes(&fixture), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l17_a_database_that_refuses_after_the_answer_loses_no_rotated_token() {
    let fixture = OauthFixture::new().await;
    fixture.connect().await;
    fixture.advance(3_590);
    fixture.issuer.gate.closed.store(true, Ordering::SeqCst);
    let oauth = fixture.oauth.clone();
    let tenant = fixture.tenant;
    let ana = fixture.ana;
    let server = fixture.target;
    let mut call = JoinSet::new();
    call.spawn(async move {
        oauth.access_token(super::access_token_query(tenant, ana, server, &super::use_of(ana))).await.map(drop)
    });
    fixture.issuer.gate.reached.notified().await;
    // The disk is full when the answer comes, and is mended while it is tried again.
    let database = sea_orm::Database::connect(crate::harness::owner_url(&fixture.database_url)).await.unwrap();
    let postgres = fixture.database_url.starts_with("postgres");
    let full = if postgres {
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN RAISE EXCEPTION 'the disk is full'; END $$;
         CREATE TRIGGER full_disk BEFORE INSERT ON credential_version FOR EACH ROW EXECUTE FUNCTION full_disk()"
    } else {
        "CREATE TRIGGER full_disk BEFORE INSERT ON credential_version
         BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
    };
    database.execute_unprepared(full).await.unwrap();
    fixture.issuer.gate.closed.store(false, Ordering::SeqCst);
    fixture.issuer.gate.open.notify_one();
    let early = tokio::time::timeout(Duration::from_millis(150), call.join_next()).await;
    assert!(early.is_err(), "it is tried again: {early:?}");
    let mended = if postgres { "DROP TRIGGER full_disk ON credential_version" } else { "DROP TRIGGER full_disk" };
    database.execute_unprepared(mended).await.unwrap();
    database.close().await.unwrap();
    call.join_next().await.unwrap().unwrap().unwrap();
    assert!(fixture.issuer.accepts(&text(&fixture.token().await.unwrap())));
    assert_eq!(refreshes(&fixture), 1);
}

/// Leaves a refresh behind as a killed process would: begun, answered by the issuer, never stored.
async fn killed_after_the_answer(fixture: &OauthFixture) {
    fixture.advance(3_590);
    fixture.issuer.gate.closed.store(true, Ordering::SeqCst);
    let dying = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let process = {
        // Its own pools on its own runtime: dropping that runtime is the kill.
        let (url, clock, vault) = fixture.process_parts();
        let tenant = fixture.tenant;
        let ana = fixture.ana;
        let server = fixture.target;
        let gate = fixture.issuer.gate.clone();
        tokio::task::spawn_blocking(move || {
            dying.block_on(async move {
                let oauth = super::slices(&super::open(&url).await, &clock, &vault).2;
                let context = super::use_of(ana);
                tokio::select! {
                    _ = oauth.access_token(super::access_token_query(tenant, ana, server, &context)) => panic!("the gate is closed"),
                    () = gate.reached.notified() => {}
                }
            });
            dying.shutdown_background();
        })
    };
    process.await.unwrap();
    fixture.issuer.gate.closed.store(false, Ordering::SeqCst);
    fixture.issuer.gate.open.notify_one();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l17_a_kill_in_the_window_is_told_as_what_it_is() {
    let fixture = OauthFixture::new().await;
    fixture.connect().await;
    killed_after_the_answer(&fixture).await;
    fixture.advance(61);
    let refused = fixture.token().await;
    assert!(matches!(&refused, Err(Error::NeedsReauth(reason)) if reason == "refresh_interrupted"));
    let connection = fixture.connection().await.unwrap();
    assert_eq!(connection.status, ConnectionStatus::NeedsReauth);
    assert_eq!(connection.status_reason.as_deref(), Some("refresh_interrupted"));
    fixture.connect().await;
    assert!(fixture.token().await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s15_where_re_use_is_forgiven_the_successor_mends_it() {
    let fixture = OauthFixture::with(|ways| ways.rotate = false).await;
    fixture.connect().await;
    killed_after_the_answer(&fixture).await;
    fixture.advance(61);
    assert!(fixture.issuer.accepts(&text(&fixture.token().await.unwrap())));
}

#[tokio::test]
async fn l18_passing_failures_never_end_a_grant_and_the_token_is_used_to_its_end() {
    for (status, body) in [
        (503, "{}"),
        (429, "{}"),
        (500, "oops"),
        (502, "<html>"),
        (403, "<html>a proxy"),
        (200, "<html>"),
        (400, r#"{"error":"temporarily_unavailable"}"#),
    ] {
        let fixture = OauthFixture::new().await;
        fixture.connect().await;
        let token = text(&fixture.token().await.unwrap());
        fixture.advance(3_570);
        fixture.issuer.set(|ways| ways.token_script.push_back((status, body.to_owned())));
        assert_eq!(text(&fixture.token().await.unwrap()), token, "{status}: used to its end");
        assert_eq!(fixture.connection().await.unwrap().status, ConnectionStatus::Connected);
        assert_eq!(refreshes(&fixture), 1);
        assert_eq!(text(&fixture.token().await.unwrap()), token, "{status}: not asked again at once");
        assert_eq!(refreshes(&fixture), 1);
        fixture.advance(61);
        assert_ne!(text(&fixture.token().await.unwrap()), token, "{status}: mended by itself");
    }
}

#[tokio::test]
async fn l18_a_token_endpoint_that_nobody_answers_at_ends_no_grant() {
    let fixture = OauthFixture::new().await;
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let answers = |to: &str| tokio::spawn(forward(address, to.replace("http://", "")));
    let mut client = fixture.client_settings(fixture.target).await.unwrap();
    client.discovered.token_endpoint = format!("http://{address}/token");
    fixture.register_client(fixture.tenant, client).await.unwrap();
    let way = answers(&fixture.issuer.base);
    fixture.connect().await;
    let token = text(&fixture.token().await.unwrap());
    way.abort();
    drop(way.await);
    fixture.advance(3_570);
    assert_eq!(text(&fixture.token().await.unwrap()), token, "used to its end");
    fixture.advance(31);
    assert!(matches!(fixture.token().await, Err(Error::Unreachable(_))));
    assert_eq!(fixture.connection().await.unwrap().status, ConnectionStatus::Connected);
    let _way = answers(&fixture.issuer.base);
    fixture.advance(61);
    assert!(fixture.issuer.accepts(&text(&fixture.token().await.unwrap())), "mended by itself");
}

/// Hands each connection at this address on to another, one at a time, and closes it after its answer.
async fn forward(address: SocketAddr, to: String) {
    let listener = TcpListener::bind(address).await.unwrap();
    while let Ok((mut client, _)) = listener.accept().await {
        let mut server = TcpStream::connect(&to).await.unwrap();
        // Whoever goes first ends it.
        drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
    }
}

#[tokio::test]
async fn l18_a_definite_refusal_is_final_and_keeps_the_providers_code() {
    let fixture = OauthFixture::new().await;
    fixture.connect().await;
    fixture.advance(3_590);
    fixture.issuer.set(|ways| ways.token_script.push_back((400, r#"{"error":"invalid_grant"}"#.to_owned())));
    assert!(matches!(fixture.token().await, Err(Error::NeedsReauth(reason)) if reason == "invalid_grant"));
    assert!(matches!(fixture.token().await, Err(Error::NeedsReauth(_))));
    assert_eq!(refreshes(&fixture), 1);
}

#[tokio::test]
async fn l18_a_refused_registration_ends_no_grant() {
    for code in ["invalid_client", "unauthorized_client"] {
        let fixture = OauthFixture::new().await;
        let by_hand = PreRegistered { client_id: "by-hand".to_owned(), client_secret: None };
        let client = fixture.client_settings(fixture.target).await.unwrap();
        let client = ClientSettings { pre_registered: Some(by_hand), ..client };
        fixture.register_client(fixture.tenant, client).await.unwrap();
        fixture.connect().await;
        let token = text(&fixture.token().await.unwrap());
        let refused = (401, format!(r#"{{"error":"{code}"}}"#));
        fixture.issuer.set(|ways| ways.token_script.extend([refused.clone(), refused]));
        fixture.advance(3_570);
        assert_eq!(text(&fixture.token().await.unwrap()), token, "used to its end");
        fixture.advance(61);
        assert!(matches!(fixture.token().await, Err(Error::ClientRefused(word)) if word == code));
        assert_eq!(fixture.connection().await.unwrap().status, ConnectionStatus::Connected);
        assert!(matches!(fixture.token().await, Err(Error::Unreachable(_))), "not asked again at once");
        fixture.advance(61);
        assert!(fixture.issuer.accepts(&text(&fixture.token().await.unwrap())), "mended by itself");
    }
}

#[tokio::test]
async fn l90_an_issuer_that_forgot_a_dynamic_client_ends_its_grants() {
    let fixture = OauthFixture::new().await;
    fixture.connect().await;
    fixture.advance(3_590);
    fixture.issuer.set(|ways| ways.token_script.push_back((401, r#"{"error":"invalid_client"}"#.to_owned())));
    assert!(matches!(fixture.token().await, Err(Error::NeedsReauth(reason)) if reason == "client_forgotten"));
    let connection = fixture.connection().await.unwrap();
    assert_eq!(connection.status_reason.as_deref(), Some("client_forgotten"));
    assert_eq!(refreshes(&fixture), 1, "not asked again");
    let before = fixture.issuer.look(|seen| seen.registrations.len());
    fixture.register(fixture.tenant, fixture.target).await.unwrap();
    assert_eq!(fixture.issuer.look(|seen| seen.registrations.len()), before + 1, "registered anew");
    fixture.connect().await;
    assert!(fixture.issuer.accepts(&text(&fixture.token().await.unwrap())));
}

#[tokio::test]
async fn l91_a_dead_grant_that_is_called_unauthorized_client_is_its_owners() {
    let fixture = OauthFixture::new().await;
    fixture.connect().await;
    fixture.advance(3_590);
    let body = r#"{"error":"unauthorized_client","error_description":"refresh_token is invalid"}"#;
    fixture.issuer.set(|ways| ways.token_script.push_back((403, body.to_owned())));
    assert!(matches!(fixture.token().await, Err(Error::NeedsReauth(reason)) if reason == "unauthorized_client"));
    let before = fixture.issuer.look(|seen| seen.registrations.len());
    fixture.register(fixture.tenant, fixture.target).await.unwrap();
    assert_eq!(fixture.issuer.look(|seen| seen.registrations.len()), before, "the registration is well");
}

/// Whatever an issuer says of its tokens' lives, one call refreshes once at most, and a new token is tried.
#[tokio::test]
async fn l100_no_lifetime_makes_a_loop_of_refreshes() {
    for lifetime in [json!(0), json!(1), json!(null), json!(-1), json!(""), json!("0"), json!(1e300)] {
        let fixture = OauthFixture::new().await;
        fixture.connect().await;
        fixture.issuer.set(|ways| ways.expires_in = lifetime.clone());
        fixture.advance(3_590);
        for _ in 0..3 {
            assert!(fixture.issuer.accepts(&text(&fixture.token().await.unwrap())), "{lifetime}");
        }
        assert_eq!(refreshes(&fixture), 1, "{lifetime}");
        fixture.advance(20);
        fixture.token().await.unwrap();
        assert_eq!(refreshes(&fixture), 1, "{lifetime} a little later");
    }
}

#[tokio::test]
async fn l19_a_refresh_asks_the_token_endpoint_and_nothing_else() {
    let fixture = OauthFixture::new().await;
    fixture.connect().await;
    let before = fixture.issuer.look(|seen| seen.metadata_requests);
    fixture.advance(3_590);
    fixture.token().await.unwrap();
    assert_eq!(fixture.issuer.look(|seen| seen.metadata_requests), before);
}

#[tokio::test]
async fn l20_an_expired_token_is_never_handed_out() {
    let fixture = OauthFixture::new().await;
    fixture.connect().await;
    fixture.advance(3_601);
    fixture.issuer.set(|ways| ways.token_script.push_back((503, String::new())));
    assert!(matches!(fixture.token().await, Err(Error::Unreachable(_))));
    let without = OauthFixture::with(|ways| ways.refresh_tokens = false).await;
    without.connect().await;
    without.advance(3_550);
    assert!(without.token().await.is_ok(), "there is nothing to refresh it with, and it lives");
    without.advance(60);
    assert!(matches!(without.token().await, Err(Error::NeedsReauth(reason)) if reason == "expired"));
    assert_eq!(without.connection().await.unwrap().status, ConnectionStatus::Expired);
}

#[tokio::test]
async fn l20_what_is_sealed_decides_whether_a_token_has_ended() {
    let fixture = OauthFixture::new().await;
    fixture.connect().await;
    let tx = fixture.db.write(fixture.tenant).await.unwrap();
    execute_sql(&tx, "UPDATE connection SET access_expires_at = NULL").await.unwrap();
    tx.commit().await.unwrap();
    assert!(fixture.token().await.is_ok());
    fixture.advance(3_601);
    assert!(matches!(fixture.token().await, Err(Error::NeedsReauth(reason)) if reason == "expired"));
}

#[tokio::test]
async fn l21_a_401_leads_to_one_refresh_and_at_most_one_a_minute() {
    let fixture = OauthFixture::new().await;
    fixture.connect().await;
    let first = fixture.token().await.unwrap();
    fixture.issuer.refuse_access(&text(&first));
    let second = fixture.token_after_refusal(first.version).await.unwrap();
    assert!(fixture.issuer.accepts(&text(&second)));
    // A late 401 for the version before takes the current one.
    assert_eq!(text(&fixture.token_after_refusal(first.version).await.unwrap()), text(&second));
    assert_eq!(refreshes(&fixture), 1);
    let again = fixture.token_after_refusal(second.version).await;
    assert!(matches!(again, Err(Error::NeedsReauth(reason)) if reason == "token_refused"));
    assert_eq!(refreshes(&fixture), 1);
    fixture.advance(61);
    assert!(fixture.token_after_refusal(second.version).await.is_ok());
    assert_eq!(refreshes(&fixture), 2);
}

#[tokio::test]
async fn l21_a_refused_token_is_not_handed_out_again_while_no_other_can_be_had() {
    let fixture = OauthFixture::new().await;
    fixture.connect().await;
    let first = fixture.token().await.unwrap();
    fixture.issuer.set(|ways| ways.token_script.push_back((503, String::new())));
    for _ in 0..2 {
        let instead = fixture.token_after_refusal(first.version).await;
        assert!(matches!(instead, Err(Error::Unreachable(_))));
    }
    assert_eq!(refreshes(&fixture), 1);
    fixture.advance(61);
    assert_ne!(text(&fixture.token_after_refusal(first.version).await.unwrap()), text(&first));
}

#[tokio::test]
async fn l24_the_old_refresh_token_is_kept_when_none_comes_and_the_new_one_taken_when_one_does() {
    for rotate in [false, true] {
        let fixture = OauthFixture::with(|ways| ways.rotate = rotate).await;
        fixture.connect().await;
        for _ in 0..3 {
            fixture.advance(3_590);
            assert!(fixture.issuer.accepts(&text(&fixture.token().await.unwrap())));
        }
        let mut sent = fixture.issuer.look(|seen| {
            let refreshes = seen.token_requests.iter().filter_map(|request| request.get("refresh_token").cloned());
            refreshes.collect::<Vec<_>>()
        });
        sent.dedup();
        assert_eq!(sent.len(), if rotate { 3 } else { 1 });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s16_a_holder_paused_past_its_lease_overwrites_nothing() {
    let fixture = OauthFixture::with(|ways| ways.rotate = false).await;
    fixture.connect().await;
    fixture.advance(3_590);
    fixture.issuer.gate.closed.store(true, Ordering::SeqCst);
    let mut slow = JoinSet::new();
    let oauth = fixture.oauth.clone();
    let tenant = fixture.tenant;
    let ana = fixture.ana;
    let server = fixture.target;
    slow.spawn(
        async move { oauth.access_token(super::access_token_query(tenant, ana, server, &super::use_of(ana))).await },
    );
    fixture.issuer.gate.reached.notified().await;
    fixture.issuer.gate.closed.store(false, Ordering::SeqCst);
    fixture.advance(61);
    let other = fixture.another_process().await;
    let token = fixture.token_by(&other).await.unwrap();
    fixture.issuer.gate.open.notify_one();
    let late = slow.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!((text(&late), late.version), (text(&token), token.version));
}

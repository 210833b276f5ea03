//! What is not taken: each with its status, its sentence and its row.

use serde_json::json;

use super::Fixture;
use crate::harness::TestApp;

/// Whoever puts the secret where it is not looked for must not find it in the log, nor may anybody else.
#[tokio::test]
async fn l67_a_secret_in_a_header_of_any_name_is_not_stored() {
    let fixture = Fixture::new("bearer").await;
    let misplaced = || fixture.request("{}").header("x-hook-key", &fixture.secret);
    fixture.send(misplaced()).await.expect(401);
    fixture.send(misplaced().header("content-type", "image/png")).await.expect(415);
    fixture.send(misplaced().bearer_auth(&fixture.secret)).await.expect(202);
    fixture.app.run_pending_jobs().await;
    let deliveries = fixture.deliveries("").await;
    assert_eq!(deliveries.len(), 3);
    for delivery in deliveries {
        let shown = fixture.delivery(delivery["id"].as_str().unwrap()).await;
        assert!(shown["headers"].to_string().contains("x-hook-key"), "{shown}");
        assert!(!shown.to_string().contains(&fixture.secret), "{shown}");
    }
}

#[tokio::test]
async fn l61_each_scheme_fails_closed_and_says_nothing_of_why() {
    let fixture = Fixture::new("standard_webhooks").await;
    let other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let unsigned = fixture.send(fixture.request("{}")).await.expect(401);
    let wrong = fixture.send(fixture.signed(other, "evt_1", "{}")).await.expect(401);
    let twice = fixture.signed(&fixture.secret, "evt_1", "{}").header("webhook-id", "evt_1");
    let twice = fixture.send(twice).await.expect(401);
    let sentences: Vec<_> = [&unsigned, &wrong, &twice].map(|answer| answer.json["error"]["message"].clone()).into();
    assert!(sentences.windows(2).all(|pair| pair[0] == pair[1]), "{sentences:?}");
    let old = fixture.signed(&fixture.secret, "evt_1", "{}");
    fixture.app.clock.advance(std::time::Duration::from_secs(301));
    fixture.send(old).await.expect(401);
    fixture.app.run_pending_jobs().await;
    assert!(fixture.threads().await.is_empty());
    let reasons: Vec<String> = fixture
        .deliveries("?result=refused")
        .await
        .iter()
        .map(|row| row["reason"].as_str().unwrap().to_owned())
        .collect();
    for (reason, part) in reasons.iter().zip(["five minutes", "more than once", "does not match", "is missing"]) {
        assert!(reason.contains(part), "{part} in {reason}");
    }
    assert_eq!(reasons.len(), 4);
    let bearer = Fixture::new("bearer").await;
    for request in [
        bearer.request("{}"),
        bearer.request("{}").header("authorization", "Bearer "),
        bearer.request("{}").header("authorization", format!("Basic {}", bearer.secret)),
        bearer.request("{}").bearer_auth(&bearer.secret).header("authorization", format!("Bearer {}", bearer.secret)),
        bearer.request("{}").bearer_auth(bearer.secret.to_uppercase()),
    ] {
        let answer = bearer.send(request).await.expect(401);
        assert_eq!(answer.json["error"]["message"], sentences[0]);
    }
    bearer.app.run_pending_jobs().await;
    assert!(bearer.threads().await.is_empty());
}

#[tokio::test]
async fn l67_a_refused_request_is_in_the_log_bounded_and_escaped() {
    let fixture = Fixture::new("bearer").await;
    let body = format!("<script>\u{1b}[2J\0{}", "x".repeat(10_000));
    let request = fixture.request(&body).bearer_auth("canary-of-a-wrong-secret").header("x-note", "caf\u{e9}");
    fixture.send(request).await.expect(401);
    let row = &fixture.deliveries("").await[0];
    assert_eq!((row["result"].as_str(), row["body_bytes"].as_i64()), (Some("refused"), i64::try_from(body.len()).ok()));
    let preview = row["body_preview"].as_str().unwrap();
    assert!(preview.chars().count() < 2_100 && preview.starts_with("<script>\\u{1b}[2J\\u{0}x"), "{preview}");
    assert!(!row.to_string().contains("canary"));
    let page = fixture.operator.get(&format!("/admin/deliveries/{}", row["id"].as_str().unwrap())).await.expect(200);
    assert!(!page.text.contains("<script>\\u") && !page.text.contains('\u{1b}'));
}

#[tokio::test]
async fn l66_a_flood_of_refused_requests_is_sixty_rows_and_one_that_counts() {
    let app = TestApp::with_settings(&[("address_rate_limit_per_minute", "60")]).await;
    let fixture = Fixture::over(app, "bearer", json!({})).await;
    fixture.begin_minute();
    for number in 0..75 {
        let status = if number < 60 { 401 } else { 429 };
        fixture.send(fixture.request("{}").bearer_auth("wrong")).await.expect(status);
    }
    let rows = fixture.deliveries("?result=refused&limit=200").await;
    let counts: Vec<i64> = rows.iter().map(|row| row["count"].as_i64().unwrap()).collect();
    assert_eq!((counts.len(), counts[0], counts.iter().sum::<i64>()), (61, 15, 75), "{counts:?}");
}

#[tokio::test]
async fn l68_only_allowed_addresses_are_taken_whatever_a_header_says() {
    let fixture = Fixture::with("bearer", json!({ "allowed_cidrs": ["192.0.2.0/24"] })).await;
    let forged = fixture.request("{}").bearer_auth(&fixture.secret).header("x-forwarded-for", "192.0.2.7");
    fixture.send(forged).await.expect(403);
    assert_eq!(fixture.deliveries("?result=refused").await.len(), 1);
    let path = format!("/v1/webhooks/{}", fixture.webhook);
    fixture.operator.patch(&path, json!({ "allowed_cidrs": ["127.0.0.0/8", "::1"] })).await.expect(200);
    fixture.bearer("{}").await.expect(202);
    fixture.operator.patch(&path, json!({ "allowed_cidrs": ["not a network"] })).await.expect(422);
}

#[tokio::test]
async fn unknown_and_disabled_are_404_too_large_is_413_and_a_foreign_type_is_415() {
    let fixture = Fixture::new("bearer").await;
    for unknown in ["whk_0000000000000000000000000A", "whk_1", "x"] {
        fixture.app.anonymous().post(&format!("/hooks/{unknown}"), json!({})).await.expect(404);
    }
    let large = fixture.request(&"x".repeat(1_048_577)).bearer_auth(&fixture.secret);
    fixture.send(large).await.expect(413);
    let typed = fixture.app.anonymous().request("POST", &fixture.path()).bearer_auth(&fixture.secret).body("x");
    fixture.send(typed.header("content-type", "image/png")).await.expect(415);
    assert_eq!(fixture.deliveries("?result=refused").await.len(), 2);
    fixture.bearer("{}").await.expect(202);
    let path = format!("/v1/webhooks/{}", fixture.webhook);
    fixture.operator.patch(&path, json!({ "enabled": false })).await.expect(200);
    fixture.bearer("{}").await.expect(404);
    fixture.operator.patch(&path, json!({ "enabled": true })).await.expect(200);
    fixture.bearer("{}").await.expect(202);
    fixture.operator.delete(&path).await.expect(204);
    fixture.bearer("{}").await.expect(404);
    assert_eq!(fixture.app.slices().metrics.webhooks.unknown.get(), 3);
}

#[tokio::test]
async fn l65_the_rate_limit_holds_across_processes_and_says_when_to_come_again() {
    let fixture = Fixture::with("bearer", json!({ "rate_limit_per_minute": 40 })).await;
    let second = fixture.app.second().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other = format!("http://{}{}", listener.local_addr().unwrap(), fixture.path());
    let routes = thinkwork::router::router(&second).into_make_service_with_connect_info::<std::net::SocketAddr>();
    let mut server = tokio::task::JoinSet::new();
    server.spawn(async move { axum::serve(listener, routes).await.unwrap() });
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    fixture.begin_minute();
    let mut taken = 0;
    for _ in 0..40 {
        let here = fixture.bearer("{}").await;
        let there = client.post(&other).bearer_auth(&fixture.secret).header("content-type", "application/json");
        let there = there.body("{}").send().await.unwrap();
        for (status, seconds) in [
            (here.status, here.header("retry-after").to_owned()),
            (
                there.status().as_u16(),
                there.headers().get("retry-after").map_or("", |value| value.to_str().unwrap()).to_owned(),
            ),
        ] {
            match status {
                202 => taken += 1,
                429 => assert!((1..=60).contains(&seconds.parse::<u64>().unwrap())),
                other => panic!("{other}"),
            }
        }
    }
    assert!((38..=40).contains(&taken), "{taken} of 40 in two processes");
    fixture.app.clock.advance(std::time::Duration::from_secs(60));
    fixture.bearer("{}").await.expect(202);
}

#[tokio::test]
async fn what_cannot_be_stored_is_503_and_the_sender_comes_again() {
    let fixture = Fixture::new("bearer").await;
    fixture.bearer("{}").await.expect(202);
    fixture.app.slices().db.close().await;
    let answer = fixture.bearer("{}").await.expect(503);
    assert!(!answer.header("retry-after").is_empty());
}

#[tokio::test]
async fn l119_requests_that_prove_nothing_use_up_their_address_limit_alone() {
    let app = TestApp::with_settings(&[("address_rate_limit_per_minute", "60")]).await;
    let fixture = Fixture::over(app, "bearer", json!({ "rate_limit_per_minute": 5 })).await;
    fixture.begin_minute();
    let stranger = async || fixture.send(fixture.request("{}").bearer_auth("not-the-secret-of-this-webhook")).await;
    for _ in 0..60 {
        stranger().await.expect(401);
    }
    let refused = stranger().await.expect(429);
    assert!((1..=60).contains(&refused.header("retry-after").parse::<u64>().unwrap()));
    // What is proved is taken, from that very address, up to the webhook's own limit.
    for _ in 0..5 {
        fixture.bearer("{}").await.expect(202);
    }
    fixture.bearer("{}").await.expect(429);
    let rows = fixture.deliveries("?result=refused&limit=200").await;
    let verified: Vec<_> = rows.iter().filter(|row| !row["requester"].is_null()).collect();
    assert_eq!(
        verified.len(),
        rows.iter().filter(|row| row["reason"] == "the rate limit of the minute was reached").count()
    );
    let one = rows.iter().find(|row| row["requester"].is_null()).unwrap();
    let page =
        fixture.operator.get(&format!("/admin/deliveries/{}", one["id"].as_str().unwrap())).await.expect(200).text;
    assert!(page.contains("not verified"), "{page}");
    fixture.app.clock.advance(std::time::Duration::from_secs(60));
    stranger().await.expect(401);
}

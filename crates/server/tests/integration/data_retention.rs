//! What operators are told of what is kept: their own tenant's, counted up to a limit.

use serde_json::{Value, json};
use std::time::Duration;

use crate::guards::tables;
use crate::harness::{Client, TestApp};

async fn kinds(who: &Client) -> Vec<Value> {
    who.get("/v1/data-retention").await.expect(200).json["kinds"].as_array().unwrap().clone()
}

fn kind<'a>(kinds: &'a [Value], word: &str) -> &'a Value {
    kinds.iter().find(|kind| kind["kind"] == word).unwrap_or_else(|| panic!("no {word} in {kinds:?}"))
}

#[tokio::test]
async fn operators_see_what_their_own_tenant_keeps() {
    let app = TestApp::with_settings(&[("retention.deliveries_days", "7"), ("retention.steps_days", "0")]).await;
    let owner = app.owner().await;
    let other = app.slices().access.tenant_create("other", "Other", "owner@other.test", "Otto").await.unwrap();
    let other_owner = app.session_in(other.tenant, other.owner).await;
    let space = crate::spaces::space(&owner, "work", "public").await;
    let before = app.clock.now();
    owner.post("/v1/threads", json!({ "space_id": space, "text": "hello" })).await.expect(201);
    let token = json!({ "name": "old", "kind": "personal", "audience": "api", "scopes": ["read"] });
    let token = owner.post("/v1/tokens", token).await.expect(201).text_of("id");
    owner.delete(&format!("/v1/tokens/{token}")).await.expect(204);
    let brief = json!({ "name": "brief", "kind": "personal", "audience": "api", "scopes": ["read"],
        "expires_in_seconds": 60 });
    owner.post("/v1/tokens", brief).await.expect(201);
    let live = json!({ "name": "live", "kind": "personal", "audience": "api", "scopes": ["read"] });
    owner.post("/v1/tokens", live).await.expect(201);
    let webhook = json!({ "name": "x", "space_id": space, "verification": { "scheme": "bearer" } });
    let webhook = owner.post("/v1/webhooks", webhook).await.expect(201);
    let hook = format!("/hooks/{}", webhook.text_of("id"));
    let request = app.anonymous().request("POST", &hook).header("content-type", "application/json").body("{}");
    app.anonymous().send(request.bearer_auth(webhook.text_of("secret"))).await.expect(202);
    app.run_pending_jobs().await;
    let rotate = format!("/v1/webhooks/{}/rotate", webhook.text_of("id"));
    owner.post(&rotate, json!({ "overlap_seconds": 0 })).await.expect(200);
    app.clock.advance(Duration::from_secs(61));

    let ours = kinds(&owner).await;
    let expect: [(&str, u64, &str, Value); 10] = [
        ("delivery_contents", 1, "30 days", json!(30)),
        ("deliveries", 1, "7 days", json!(7)),
        ("thread_events", 0, "30 days", json!(30)),
        ("steps", 0, "Forever", Value::Null),
        ("ended_connections", 0, "365 days", json!(365)),
        ("revoked_tokens", 2, "365 days", json!(365)),
        ("erased_credentials", 1, "365 days", json!(365)),
        ("intake_events", 1, "30 days; unsigned ones as long as their secret", Value::Null),
        ("threads", 8, "Forever", Value::Null),
        ("audit_log", 0, "Forever", Value::Null),
    ];
    assert_eq!(ours.len(), expect.len());
    for (word, rows, retention, days) in &expect {
        let found = kind(&ours, word);
        // How many changes are announced and recorded is told elsewhere.
        if *word == "thread_events" || *word == "audit_log" {
            assert!(found["rows"].as_u64().unwrap() > 3, "{found}");
        } else {
            assert_eq!(found["rows"], *rows, "{found}");
        }
        assert_eq!((&found["retention"], &found["retention_days"]), (&json!(retention), days), "{found}");
        assert_eq!(found["has_more_rows"], false);
    }
    assert_eq!(kind(&ours, "deliveries")["setting"], "retention.deliveries_days");
    assert_eq!(kind(&ours, "threads")["setting"], Value::Null);
    let oldest = |word: &str| {
        let at = kind(&ours, word)["oldest_at"].as_str().unwrap_or_else(|| panic!("no time of {word}")).to_owned();
        thinkwork_primitives::Timestamp::parse(&at).unwrap()
    };
    for word in ["deliveries", "delivery_contents", "threads", "revoked_tokens", "erased_credentials"] {
        let since = oldest(word).since(before.minus(Duration::from_millis(1)));
        assert!(since > Duration::ZERO && since < Duration::from_secs(60), "{word}: {since:?}");
    }
    assert!(kind(&ours, "steps")["oldest_at"].is_null());

    // Another tenant's numbers are its own.
    let theirs = kinds(&other_owner).await;
    for (word, ..) in expect.iter().filter(|(word, ..)| *word != "audit_log") {
        assert_eq!(kind(&theirs, word)["rows"], 0, "{word}");
    }
    assert!(kind(&theirs, "audit_log")["rows"].as_u64() < kind(&ours, "audit_log")["rows"].as_u64());
    let member = app.member("ana").await;
    member.get("/v1/data-retention").await.expect(403);
    member.get("/admin/data-retention").await.expect(403);

    let page = owner.get("/admin/data-retention").await.expect(200).text;
    for words in ["Deliveries", "7 days", "retention.deliveries_days", "Forever", "Delivery contents (for replay)"] {
        assert!(page.contains(words), "{words} in {page}");
    }
    assert!(page.contains(r#"<a href="/admin/data-retention" aria-current="page">"#), "{page}");
}

#[tokio::test]
async fn rows_are_counted_up_to_a_hundred_thousand() {
    let app = TestApp::new().await;
    let owner = app.owner().await;
    let space = crate::spaces::space(&owner, "work", "public").await;
    owner.post("/v1/threads", json!({ "space_id": space, "text": "hello" })).await.expect(201);
    app.run_pending_jobs().await;
    let known = kind(&kinds(&owner).await, "thread_events")["rows"].as_u64().unwrap();
    // Of each number an event with an id of its own, older than all there are.
    let add = async |first: u64, last: u64| {
        let (numbers, id) = if tables::is_postgres(&app) {
            (format!("generate_series({first}, {last}) AS numbers (n)"), "lpad(to_hex(n), 32, '0')::uuid")
        } else {
            let numbers = format!(
                "(WITH RECURSIVE numbers (n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM numbers WHERE n < {last})
                  SELECT n FROM numbers)"
            );
            (numbers, "CAST(x'0000000000000000' || printf('%08d', n) AS BLOB)")
        };
        let sql = format!(
            "INSERT INTO thread_event (id, tenant_id, thread_id, sequence, kind, ref_id, at)
             SELECT {id}, thread.tenant_id, thread.id, 1000 + n, 'thread', thread.id, 1 FROM thread, {numbers}"
        );
        tables::run(&app, &sql).await;
    };
    add(1, 100_000 - known).await;
    let counted = kinds(&owner).await;
    let events = kind(&counted, "thread_events");
    assert_eq!((&events["rows"], &events["has_more_rows"]), (&json!(100_000), &json!(false)));
    add(200_001, 200_010).await;
    let counted = kinds(&owner).await;
    let events = kind(&counted, "thread_events");
    assert_eq!((&events["rows"], &events["has_more_rows"]), (&json!(100_000), &json!(true)));
    let page = owner.get("/admin/data-retention").await.expect(200).text;
    assert!(page.contains("more than 100,000"), "{page}");
}

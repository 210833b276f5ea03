//! What operators do: make, change, rotate, test, read, on the API and on pages.

use std::time::Duration;

use serde_json::json;

use super::Fixture;

#[tokio::test]
async fn l69_a_target_that_the_maker_does_not_see_is_refused() {
    let fixture = Fixture::new("bearer").await;
    let body = |space: &str| json!({ "name": "x", "space_id": space, "verification": { "scheme": "bearer" } });
    let unknown = fixture.operator.post("/v1/webhooks", body("spc_0000000000000000000000000A")).await.expect(422);
    assert!(unknown.text.contains("space_id"));
    let ana = fixture.app.member("ana").await;
    let private = json!({ "slug": "private", "name": "Private", "access": "private" });
    let private = fixture.app.owner().await.post("/v1/spaces", private).await.expect(201).text_of("id");
    fixture.operator.post("/v1/webhooks", body(&private)).await.expect(422);
    // A Space of another tenant is unknown too.
    let other = fixture.app.slices().access.tenant_create("other", "Other", "o@other.test", "Otto").await.unwrap();
    let session = fixture.app.slices().access.session_create(other.tenant, other.owner, "tests").await.unwrap();
    let mut otto = fixture.app.anonymous();
    otto.cookie = Some(format!("__Host-tw_session={}", session.cookie.expose_str().unwrap()));
    otto.csrf = Some(session.csrf);
    otto.post("/v1/webhooks", body(&fixture.space)).await.expect(422);
    for path in [format!("/v1/webhooks/{}", fixture.webhook), format!("/v1/webhooks/{}/deliveries", fixture.webhook)] {
        otto.get(&path).await.expect(404);
        ana.get(&path).await.expect(403);
        fixture.app.anonymous().get(&path).await.expect(401);
    }
}

#[tokio::test]
async fn l35_rotation_overlaps_and_ends_on_time_under_the_same_address() {
    let fixture = Fixture::new("standard_webhooks").await;
    fixture.standard("evt_1", "{}").await.expect(202);
    let path = format!("/v1/webhooks/{}/rotate", fixture.webhook);
    let rotated = fixture.operator.post(&path, json!({ "overlap_seconds": 60 })).await.expect(200);
    let fresh = rotated.text_of("secret");
    assert_ne!(fresh, fixture.secret);
    fixture.send(fixture.signed(&fresh, "evt_2", "{}")).await.expect(202);
    fixture.send(fixture.signed(&fixture.secret, "evt_3", "{}")).await.expect(202);
    fixture.app.clock.advance(Duration::from_secs(61));
    fixture.send(fixture.signed(&fixture.secret, "evt_4", "{}")).await.expect(401);
    fixture.send(fixture.signed(&fresh, "evt_5", "{}")).await.expect(202);
    // Without an overlap the one before ends at once.
    let last = fixture.operator.post(&path, json!({ "overlap_seconds": 0 })).await.expect(200).text_of("secret");
    fixture.send(fixture.signed(&fresh, "evt_6", "{}")).await.expect(401);
    fixture.send(fixture.signed(&last, "evt_7", "{}")).await.expect(202);
}

#[tokio::test]
async fn a_webhook_is_made_once_per_key_read_changed_and_tested() {
    let fixture = Fixture::new("standard_webhooks").await;
    let body = json!({ "name": "twice", "space_id": fixture.space, "verification": { "scheme": "bearer" },
        "secret": "dictated-by-the-sender", "event_id": { "header": "X-Event" }, "default_priority": "high" });
    let create = || async {
        let request = fixture.operator.request("POST", "/v1/webhooks").header("idempotency-key", "k1");
        fixture.operator.send(request.header("content-type", "application/json").body(body.to_string())).await
    };
    let made = create().await.expect(201);
    assert_eq!(made.header("location"), format!("/v1/webhooks/{}", made.text_of("id")));
    assert_eq!(made.text_of("secret"), "dictated-by-the-sender");
    assert_eq!(create().await.expect(409).code(), "secret_already_shown");
    let path = format!("/v1/webhooks/{}", made.text_of("id"));
    let changed = fixture.operator.patch(&path, json!({ "name": "once", "event_id": null })).await.expect(200);
    assert_eq!((changed.json["event_id"].is_null(), changed.json["version"].as_i64()), (true, Some(2)));
    let stale =
        fixture.operator.request("PATCH", &path).header("if-match", "\"1\"").header("content-type", "application/json");
    fixture.operator.send(stale.body(r#"{"name":"late"}"#)).await.expect(412);
    let tested = fixture.operator.post(&format!("/v1/webhooks/{}/test", fixture.webhook), json!({})).await.expect(200);
    assert_eq!(tested.json["result"], "accepted");
    fixture.app.run_pending_jobs().await;
    assert_eq!(fixture.threads().await.len(), 1);
    let unknown = json!({ "name": "x", "space_id": fixture.space, "verification": { "scheme": "github" } });
    let refused = fixture.operator.post("/v1/webhooks", unknown).await.expect(422);
    assert!(
        refused.text.contains("unknown value `github`, expected `standard_webhooks` or `bearer`"),
        "{}",
        refused.text
    );
    let unknown = json!({ "scheme": "bearer", "header": "x-proof" });
    let unknown = json!({ "name": "x", "space_id": fixture.space, "verification": unknown });
    let refused = fixture.operator.post("/v1/webhooks", unknown).await.expect(422);
    assert!(refused.json["error"]["fields"]["verification.header"].is_string(), "{}", refused.text);
}

#[tokio::test]
async fn deliveries_page_by_cursor_through_waiting_and_applied_ones() {
    let fixture = Fixture::new("standard_webhooks").await;
    for number in 0..5 {
        fixture.standard(&format!("evt_{number}"), "{}").await.expect(202);
        if number == 2 {
            fixture.app.run_pending_jobs().await;
        }
    }
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let path = format!("/v1/webhooks/{}/deliveries?limit=2{after}", fixture.webhook);
        let page = fixture.operator.get(&path).await.expect(200).json;
        seen.extend(page["items"].as_array().unwrap().iter().map(|item| item["event_id"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ["evt_4", "evt_3", "evt_2", "evt_1", "evt_0"]);
    fixture.operator.get(&format!("/v1/webhooks/{}/deliveries?result=lost", fixture.webhook)).await.expect(422);
}

#[tokio::test]
async fn an_operator_makes_a_webhook_on_a_page_and_sees_the_first_event() {
    let fixture = Fixture::new("bearer").await;
    fixture.operator.get("/admin/webhooks").await.expect(200);
    assert!(fixture.operator.get("/admin/webhooks/new").await.expect(200).text.contains("Billing"));
    let fields = |name: &'static str| {
        [("name", name), ("space_id", fixture.space.as_str()), ("scheme", "bearer"), ("rate_limit_per_minute", "60")]
    };
    let wrong = fixture.operator.form("/admin/webhooks", &fields("")).await.expect(422);
    assert!(wrong.text.contains("1 to 120 characters"));
    let made = fixture.operator.submit("/admin/webhooks", &fields("paged")).await.expect(200);
    let (_, rest) = made.text.split_once("secret-value\"><code>").unwrap();
    let (secret, _) = rest.split_once('<').unwrap();
    let (_, rest) = made.text.split_once("/hooks/").unwrap();
    let id = rest.get(..30).unwrap();
    let base = format!("/admin/webhooks/{id}");
    assert!(
        fixture.operator.get(&format!("{base}/first")).await.expect(200).text.contains("Waiting for the first event")
    );
    let event = fixture.app.anonymous().request("POST", &format!("/hooks/{id}")).bearer_auth(secret);
    fixture.send(event.header("content-type", "text/plain").body("hello")).await.expect(202);
    fixture.app.run_pending_jobs().await;
    assert!(fixture.operator.get(&format!("{base}/first")).await.expect(200).text.contains("Open the thread"));
    let tested = fixture.operator.form(&format!("{base}/test"), &[]).await.expect(303);
    fixture.operator.get(tested.header("location")).await.expect(200);
    let rotated = fixture.operator.submit(&format!("{base}/rotate"), &[("overlap_hours", "1")]).await.expect(200);
    assert!(rotated.text.contains("The previous one stays valid until it expires"));
    fixture.operator.form(&format!("{base}/disable"), &[]).await.expect(303);
    assert!(fixture.operator.get(&base).await.expect(200).text.contains("rejected with 404"));
    fixture.operator.form(&format!("{base}/delete"), &[("confirm_name", "other")]).await.expect(422);
    fixture.operator.form(&format!("{base}/delete"), &[("confirm_name", "paged")]).await.expect(303);
    fixture.operator.get(&base).await.expect(404);
    let ana = fixture.app.member("ana").await;
    ana.get("/admin/webhooks").await.expect(403);
}

#[tokio::test]
async fn l109_a_private_spaces_webhooks_are_there_for_its_members_alone() {
    let fixture = Fixture::new("bearer").await;
    let operator = &fixture.operator;
    let space = json!({ "slug": "hr", "name": "HR", "access": "private" });
    let space = operator.post("/v1/spaces", space).await.expect(201).text_of("id");
    let body = json!({ "name": "salaries", "space_id": space, "verification": { "scheme": "bearer" },
        "prompt": "Private words." });
    let made = operator.post("/v1/webhooks", body).await.expect(201);
    let webhook = made.text_of("id");
    let request = fixture.app.anonymous().request("POST", &format!("/hooks/{webhook}"));
    let request = request.header("content-type", "application/json").body("{\"salary\":1}");
    fixture.send(request.bearer_auth(made.text_of("secret"))).await.expect(202);
    fixture.app.run_pending_jobs().await;
    let path = format!("/v1/webhooks/{webhook}");
    let shown = operator.get(&format!("{path}/deliveries")).await.expect(200).json;
    let delivery = shown["items"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(operator.get("/v1/webhooks").await.json["items"].as_array().unwrap().len(), 2);
    let owner = fixture.app.owner().await;
    let mut outside = Vec::new();
    for kind in ["service", "personal"] {
        let body = json!({ "name": kind, "kind": kind, "audience": "api", "scopes": ["admin"] });
        outside.push(fixture.app.bearer(&owner.post("/v1/tokens", body).await.expect(201).text_of("token")));
    }
    outside.push(owner);
    let one = format!("/v1/deliveries/{delivery}");
    let calls = [
        ("GET", path.clone(), json!(null)),
        ("PATCH", path.clone(), json!({ "prompt": "Somebody else's words." })),
        ("POST", format!("{path}/rotate"), json!({})),
        ("POST", format!("{path}/test"), json!({})),
        ("GET", format!("{path}/deliveries"), json!(null)),
        ("GET", one.clone(), json!(null)),
        ("POST", format!("{one}/replay"), json!({})),
        ("POST", format!("{path}/replay"), json!({ "dry_run": true })),
        ("POST", format!("{path}/replay"), json!({})),
        ("DELETE", path.clone(), json!(null)),
    ];
    for caller in &outside {
        for (method, path, body) in &calls {
            let request = caller.request(method, path);
            let request = if body.is_null() {
                request
            } else {
                request.header("content-type", "application/json").body(body.to_string())
            };
            let answer = caller.send(request).await;
            assert_eq!(answer.status, 404, "{method} {path}: {}", answer.text);
        }
        let listed = caller.get("/v1/webhooks").await.expect(200);
        assert_eq!(listed.json["items"].as_array().unwrap().len(), 1);
        assert!(!listed.text.contains("salaries"));
    }
    let owner = outside.last().unwrap();
    for page in [format!("/admin/webhooks/{webhook}"), format!("/admin/deliveries/{delivery}")] {
        owner.get(&page).await.expect(404);
        operator.get(&page).await.expect(200);
    }
    assert!(!owner.get("/admin/webhooks").await.expect(200).text.contains("salaries"));
    // It is as it was, also once its webhook is gone.
    assert_eq!(operator.get(&path).await.expect(200).json["prompt"], "Private words.");
    operator.delete(&path).await.expect(204);
    operator.get(&one).await.expect(200);
    owner.get(&one).await.expect(404);
}

/// The record says that something happened, under ids that lead nowhere for who is outside, and never what it is called.
#[tokio::test]
async fn l109_the_record_names_a_private_spaces_webhook_to_its_members_alone() {
    let fixture = Fixture::new("bearer").await;
    let operator = &fixture.operator;
    let space = crate::spaces::space(operator, "hr", "private").await;
    let body = json!({ "name": "salaries", "space_id": space, "verification": { "scheme": "bearer" } });
    let made = operator.post("/v1/webhooks", body).await.expect(201);
    let webhook = made.text_of("id");
    let request = fixture.app.anonymous().request("POST", &format!("/hooks/{webhook}"));
    let request = request.header("content-type", "application/json").body("{\"wages\":1}");
    fixture.send(request.bearer_auth(made.text_of("secret"))).await.expect(202);
    fixture.app.run_pending_jobs().await;
    let owner = fixture.app.owner().await;
    let asked = format!("/admin/audit?actor={webhook}");
    let shown = operator.get(&asked).await.expect(200).text;
    assert!(shown.contains("webhook salaries"), "{shown}");
    let shown = owner.get(&asked).await.expect(200).text;
    assert!(shown.contains(&format!("webhook {webhook}")), "{shown}");
    for path in [&*asked, "/admin/audit", "/v1/audit", "/v1/audit/export"] {
        let shown = owner.get(path).await.expect(200).text;
        assert!(!shown.contains("salaries") && !shown.contains("wages"), "{path}: {shown}");
    }
    owner.get(&format!("/admin/webhooks/{webhook}")).await.expect(404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_changes_at_once_to_one_version_one_counts() {
    let fixture = Fixture::new("bearer").await;
    let path = format!("/v1/webhooks/{}", fixture.webhook);
    let version = fixture.operator.get(&path).await.expect(200).json["version"].as_i64().unwrap();
    let change = async |number: i64| {
        let request = fixture.operator.request("PATCH", &path).header("content-type", "application/json");
        let body = json!({ "rate_limit_per_minute": 100 + number }).to_string();
        fixture.operator.send(request.header("if-match", format!("\"{version}\"")).body(body)).await.status
    };
    let answers = tokio::join!(change(1), change(2), change(3), change(4), change(5), change(6));
    let mut answers = <[u16; 6]>::from(answers);
    answers.sort_unstable();
    assert_eq!(answers, [200, 412, 412, 412, 412, 412]);
    assert_eq!(fixture.operator.get(&path).await.expect(200).json["version"], version + 1);
}

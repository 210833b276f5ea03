//! Health, Host, Origin, headers: what holds for every route.

use serde_json::json;

use crate::harness::TestApp;
use crate::mcp::McpFixture;

#[tokio::test]
async fn a_started_server_is_ready() {
    let app = TestApp::new().await;
    let answer = app.anonymous().get("/readyz").await;
    assert_eq!((answer.status, answer.json["ready"].as_bool()), (200, Some(true)));
}

/// Our pages ask browsers for no referrer, and then a form's origin is `null`: who sends it is told by the browser alone.
#[tokio::test]
async fn s23_a_form_without_a_named_origin_is_ours_only_where_the_browser_says_so() {
    let app = TestApp::new().await;
    let form = async |path: &str, site: Option<&str>| {
        let mut request = app.anonymous().request("POST", path).header("origin", "null");
        if let Some(site) = site {
            request = request.header("sec-fetch-site", site);
        }
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        app.anonymous().send(request.body("email=nobody%40acme.test&password=wrong-but-long-enough")).await
    };
    for foreign in [None, Some("cross-site"), Some("same-site"), Some("none"), Some("same-origin, cross-site")] {
        let refused = form("/sign-in", foreign).await.expect(403);
        assert_eq!(refused.code(), "foreign_origin", "{foreign:?}");
    }
    assert_ne!(form("/sign-in", Some("same-origin")).await.code(), "foreign_origin");
    // The gateway is for programs, which have no such word to give.
    assert_eq!(form("/mcp/spaces/any", Some("same-origin")).await.expect(403).code(), "foreign_origin");
}

/// The samples of an exposition, each with its labels; fails where a line is none of the format's.
fn samples(text: &str) -> std::collections::HashMap<String, f64> {
    let mut kinds = std::collections::HashMap::new();
    let mut found = std::collections::HashMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["gauge", "counter", "histogram"].contains(&kind), "{line}");
            assert!(kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} is declared twice");
        } else if !line.starts_with("# HELP ") {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = sample.split_once('{').unwrap_or((sample, "}"));
            let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            assert!([Some(name), of_histogram].into_iter().flatten().any(|name| kinds.contains_key(name)), "{line}");
            assert!(labels.ends_with('}'), "{line}");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{line}");
            found.insert(sample.to_owned(), value.parse().unwrap());
        }
    }
    assert!(text.ends_with('\n'));
    found
}

#[tokio::test]
async fn l82_metrics_tell_what_waits_and_how_long() {
    let app = TestApp::new().await;
    let operator = app.operator().await;
    let space = json!({ "slug": "s", "name": "S", "access": "public" });
    let space = operator.post("/v1/spaces", space).await.expect(201).text_of("id");
    let hook = json!({ "name": "h", "space_id": space, "verification": { "scheme": "bearer" } });
    let hook = operator.post("/v1/webhooks", hook).await.expect(201);
    let sender = app.bearer(&hook.text_of("secret"));
    sender.post(&format!("/hooks/{}", hook.text_of("id")), json!({})).await.expect(202);
    let unknown = thinkwork_primitives::WebhookId::new();
    app.anonymous().post(&format!("/hooks/{unknown}"), json!({})).await.expect(404);
    let look = async || {
        let answer = app.anonymous().get("/metrics").await.expect(200);
        assert!(answer.header("content-type").starts_with("text/plain; version=0.0.4"));
        samples(&answer.text)
    };
    look().await;
    app.clock.advance(std::time::Duration::from_secs(90));
    let before = look().await;
    assert_eq!(before["thinkwork_intake_events{state=\"waiting\"}"], 1.0);
    assert!((90.0..120.0).contains(&before["thinkwork_intake_oldest_seconds"]), "{before:?}");
    assert_eq!(before["thinkwork_webhook_unknown_requests_total"], 1.0);
    assert_eq!(before["thinkwork_intake_received_total{outcome=\"accepted\"}"], 1.0);
    assert!(before["thinkwork_audit_unsealed_events"] >= 3.0, "{before:?}");
    assert!(before["thinkwork_audit_sealing_behind_seconds"] >= 90.0, "{before:?}");
    app.app.audit.sealer().seal_all().await.unwrap();
    let claimed = app.app.intake.claim(10).await.unwrap();
    let mut tx = app.app.db.write(app.tenant).await.unwrap();
    assert_eq!(app.app.intake.applied(&mut tx, &[&claimed[0].event]).await.unwrap().len(), 1);
    app.app.webhooks.apply(&mut tx, &[&claimed[0].event], app.clock.now()).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(look().await, before, "within a second the answer is the same, since anybody may ask");
    app.clock.advance(std::time::Duration::from_secs(1));
    let after = look().await;
    assert_eq!(after["thinkwork_intake_events{state=\"waiting\"}"], 0.0);
    assert_eq!(after["thinkwork_intake_oldest_seconds"], 0.0);
    assert_eq!(after["thinkwork_jobs{state=\"due\"}"], 1.0, "the turn that answers");
}

#[tokio::test]
async fn metrics_tell_how_requests_jobs_and_events_end() {
    let fixture = McpFixture::new().await;
    fixture.usable("notes", json!({ "mode": "none" })).await;
    fixture.turn(&fixture.owner, "/tool notes__echo {}").await;
    let app = &fixture.app;
    let stranger = fixture.app.anonymous();
    stranger.send(stranger.request("BREW", "/v1/nowhere/at/all")).await.expect(404);
    stranger.get("/v1/me").await.expect(401);
    app.clock.advance(std::time::Duration::from_secs(1));
    let text = stranger.get("/metrics").await.expect(200).text;
    let samples = samples(&text);
    for (sample, least) in [
        ("thinkwork_http_request_duration_seconds_count{method=\"GET\",route=\"/v1/me\",status=\"4xx\"}", 1.0),
        ("thinkwork_http_request_duration_seconds_count{method=\"other\",route=\"unmatched\",status=\"4xx\"}", 1.0),
        ("thinkwork_job_duration_seconds_count{kind=\"run_thread\",outcome=\"done\"}", 1.0),
        ("thinkwork_upstream_request_duration_seconds_count{outcome=\"ok\",purpose=\"mcp\"}", 2.0),
        ("thinkwork_database_transaction_duration_seconds_count{access=\"write\"}", 5.0),
        ("thinkwork_database_transaction_duration_seconds_count{access=\"read\"}", 5.0),
        ("thinkwork_database_wait_duration_seconds_count{access=\"write\"}", 5.0),
    ] {
        assert!(samples.get(sample).is_some_and(|value| *value >= least), "{sample} in {text}");
    }
    for unbounded in [&app.tenant.to_string(), &fixture.space, "nowhere", "BREW", "127.0.0.1", "notes", "acme"] {
        assert!(!text.contains(unbounded), "{unbounded} in {text}");
    }
}

#[tokio::test]
async fn two_servers_in_one_process_measure_apart() {
    let busy = TestApp::new().await;
    let idle = TestApp::new().await;
    busy.anonymous().get("/v1/me").await.expect(401);
    let text = idle.anonymous().get("/metrics").await.expect(200).text;
    assert!(!text.contains("/v1/me"), "{text}");
}

/// Each holds a reader while it is drawn; one that asks for a second while others hold all stalls them all.
#[tokio::test]
async fn many_people_open_their_home_at_the_same_time() {
    let app = TestApp::new().await;
    let ana = app.member("ana").await;
    let mut pages = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let ana = ana.clone();
        pages.spawn(async move { ana.get("/me").await.status });
    }
    assert_eq!(pages.join_all().await, [200; 40]);
}

#[tokio::test]
async fn l82_whoever_seals_nothing_is_not_ready() {
    let app = TestApp::new().await;
    let problems = async || app.anonymous().get("/readyz").await.json["problems"].clone();
    assert_eq!(problems().await, json!([]));
    app.clock.advance(std::time::Duration::from_secs(61));
    assert_eq!(problems().await, json!(["audit_sealing"]));
    app.app.audit.sealer().seal_all().await.unwrap();
    app.clock.advance(std::time::Duration::from_secs(1));
    assert_eq!(problems().await, json!([]));
}

#[tokio::test]
async fn l82_the_wrong_clock_of_another_process_makes_nobody_unready() {
    let app = TestApp::new().await;
    let operator = app.operator().await;
    let problems = async || app.anonymous().get("/readyz").await.json["problems"].clone();
    app.clock.advance(std::time::Duration::from_secs(90));
    // Ids of events come from the machine's clock, as those of a process whose clock is 90 seconds behind this one.
    let space = json!({ "slug": "s", "name": "S", "access": "public" });
    operator.post("/v1/spaces", space).await.expect(201);
    assert_eq!(problems().await, json!([]));
}

/// An operator of the database who switches the policy of one table off.
#[tokio::test]
async fn whoever_serves_without_row_security_is_not_ready() {
    let app = TestApp::new().await;
    let url = &app.app.config.database_url;
    if url.starts_with("sqlite:") {
        return;
    }
    let owner = sea_orm::Database::connect(crate::harness::owner_url(url)).await.unwrap();
    use sea_orm::ConnectionTrait as _;
    owner.execute_unprepared("ALTER TABLE thread DISABLE ROW LEVEL SECURITY").await.unwrap();
    owner.close().await.unwrap();
    let answer = app.anonymous().get("/readyz").await.expect(503);
    assert_eq!(answer.json["problems"], json!(["row_security"]));
}

/// What PostgreSQL answers when its disk is full. SQLite's own answer is tried on a file that may not grow.
#[tokio::test]
async fn l121_what_cannot_be_stored_is_503_and_the_loop_is_named() {
    let app = TestApp::new().await;
    let url = &app.app.config.database_url;
    if url.starts_with("sqlite:") {
        return;
    }
    let operator = app.operator().await;
    let space = |slug: &str| json!({ "slug": slug, "name": "S", "access": "public" });
    let first = operator.post("/v1/spaces", space("s")).await.expect(201).text_of("id");
    let hook = json!({ "name": "h", "space_id": first, "verification": { "scheme": "bearer" } });
    let hook = operator.post("/v1/webhooks", hook).await.expect(201);
    let sender = app.bearer(&hook.text_of("secret"));
    let path = format!("/hooks/{}", hook.text_of("id"));
    let owner = sea_orm::Database::connect(crate::harness::owner_url(url)).await.unwrap();
    use sea_orm::ConnectionTrait as _;
    let full = "CREATE FUNCTION disk_is_full() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$;
                CREATE TRIGGER full_disk BEFORE INSERT ON intake_event EXECUTE FUNCTION disk_is_full();
                CREATE TRIGGER full_disk BEFORE INSERT ON space EXECUTE FUNCTION disk_is_full()";
    owner.execute_unprepared(full).await.unwrap();
    for refused in [sender.post(&path, json!({})).await, operator.post("/v1/spaces", space("t")).await] {
        let refused = refused.expect(503);
        assert_eq!((refused.code(), refused.header("retry-after")), ("unavailable", "5"));
    }
    let problems = async || app.anonymous().get("/readyz").await.json["problems"].clone();
    assert_eq!(problems().await, json!(["loop_intake"]));
    owner.execute_unprepared("DROP TRIGGER full_disk ON intake_event; DROP TRIGGER full_disk ON space").await.unwrap();
    owner.close().await.unwrap();
    sender.post(&path, json!({})).await.expect(202);
    operator.post("/v1/spaces", space("t")).await.expect(201);
    app.clock.advance(std::time::Duration::from_secs(1));
    assert_eq!(problems().await, json!([]));
}

/// Clocks are set back; what is measured goes on.
#[tokio::test]
async fn l125_a_clock_set_back_freezes_neither_metrics_nor_sealing() {
    let app = TestApp::new().await;
    let sealer = app.app.audit.sealer();
    let hour = std::time::Duration::from_secs(3_600);
    thinkwork::worker::seal(&app.app, &sealer).await;
    assert!(!sealer.signing_is_due());
    let requests = async || {
        let text = app.anonymous().get("/metrics").await.expect(200).text;
        samples(&text)["thinkwork_database_transaction_duration_seconds_count{access=\"read\"}"]
    };
    let before = requests().await;
    app.clock.set_back(hour);
    app.clock.advance(std::time::Duration::from_secs(60));
    app.anonymous().get("/readyz").await.expect(200);
    assert!(requests().await > before);
    assert!(sealer.signing_is_due());
}

/// PostgreSQL refuses it; SQLite would take it.
#[tokio::test]
async fn a_zero_character_is_an_answer_on_both_engines() {
    let app = TestApp::new().await;
    let owner = app.owner().await;
    for path in ["/v1/threads?q=a%00", "/v1/threads?requester=a%00", "/v1/audit?actor=a%00", "/v1/audit?action=a%00."] {
        assert_eq!(owner.get(path).await.expect(422).code(), "invalid", "{path}");
    }
    let body = json!({ "model_base_url": "https://model.example.com", "model": "any", "instructions": "a\u{0}" });
    assert_eq!(owner.put("/v1/agent", body).await.expect(422).code(), "invalid");
    let body = json!({ "tenant": "a\u{0}", "email": "owner@acme.test", "password": "long enough for one" });
    app.anonymous().post("/v1/sessions", body).await.expect(401);
}

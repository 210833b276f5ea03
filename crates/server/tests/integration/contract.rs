//! The public contract, walked: lists, versions, idempotency, filters, waiting, exports, as it is written for others.

use std::time::Duration;

use serde_json::{Value, json};
use thinkwork::worker::Worker;

use crate::harness::{Client, Response, TestApp};

struct Fixture {
    app: TestApp,
    owner: Client,
    space: String,
    webhook: String,
    secret: String,
}

impl Fixture {
    async fn new() -> Self {
        let app = TestApp::new().await;
        let owner = app.owner().await;
        let space = json!({ "slug": "desk", "name": "Desk", "access": "public" });
        let space = owner.post("/v1/spaces", space).await.expect(201).text_of("id");
        let body = json!({ "name": "hook", "space_id": space, "verification": { "scheme": "bearer" } });
        let made = owner.post("/v1/webhooks", body).await.expect(201);
        Self { app, owner, space, webhook: made.text_of("id"), secret: made.text_of("secret") }
    }

    async fn send(&self, body: Value) -> Response {
        let sender = self.app.bearer(&self.secret);
        sender.post(&format!("/hooks/{}", self.webhook), body).await.expect(202)
    }

    async fn thread(&self, title: &str) -> Value {
        let body = json!({ "space_id": self.space, "title": title, "text": "Hello" });
        self.owner.post("/v1/threads", body).await.expect(201).json
    }
}

async fn with_header(client: &Client, method: &str, path: &str, header: (&str, &str), body: &Value) -> Response {
    let request = client.request(method, path).header(header.0, header.1).header("content-type", "application/json");
    client.send(request.body(body.to_string())).await
}

fn items(answer: &Response) -> &Vec<Value> {
    answer.json["items"].as_array().unwrap_or_else(|| panic!("no items in {}", answer.text))
}

#[tokio::test]
async fn every_list_has_items_and_next_and_takes_a_limit_from_1_to_200() {
    let fixture = Fixture::new().await;
    let thread = fixture.thread("one").await["id"].as_str().unwrap().to_owned();
    let mut wrong = Vec::new();
    for path in [
        "/v1/users".to_owned(),
        "/v1/tokens".to_owned(),
        "/v1/spaces".to_owned(),
        format!("/v1/spaces/{}/members", fixture.space),
        "/v1/threads".to_owned(),
        format!("/v1/threads/{thread}/messages"),
        format!("/v1/threads/{thread}/turns"),
        "/v1/mcp-servers".to_owned(),
        "/v1/webhooks".to_owned(),
        format!("/v1/webhooks/{}/deliveries", fixture.webhook),
        "/v1/connections".to_owned(),
        "/v1/me/connections".to_owned(),
        "/v1/me/sessions".to_owned(),
        "/v1/audit".to_owned(),
    ] {
        for (limit, status) in [("0", 422), ("201", 422), ("-1", 422), ("many", 422), ("1", 200), ("200", 200)] {
            let answer = fixture.owner.get(&format!("{path}?limit={limit}")).await;
            let shaped = answer.status != 200
                || (answer.json["items"].is_array() && answer.json.as_object().unwrap().contains_key("next"));
            if answer.status != status || !shaped {
                wrong.push(format!("{path}?limit={limit}: {}", answer.status));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn a_list_is_walked_by_its_cursor_to_the_end_without_gap_or_repetition() {
    let fixture = Fixture::new().await;
    for number in 0..3 {
        fixture.send(json!({ "n": number })).await;
        fixture.thread(&format!("thread {number}")).await;
        fixture.app.session_of(fixture.app.owner).await;
    }
    fixture.app.run_pending_jobs().await;
    let deliveries = format!("/v1/webhooks/{}/deliveries", fixture.webhook);
    for (path, least) in [("/v1/threads", 6), (deliveries.as_str(), 3), ("/v1/audit", 10), ("/v1/me/sessions", 4)] {
        let whole = fixture.owner.get(&format!("{path}?limit=200")).await.expect(200);
        let whole: Vec<Value> = items(&whole).iter().map(|item| item["id"].clone()).collect();
        assert!(whole.len() >= least, "{path}");
        let mut walked = Vec::new();
        let mut after = String::new();
        loop {
            let page = fixture.owner.get(&format!("{path}?limit=2{after}")).await.expect(200);
            assert!(items(&page).len() <= 2);
            walked.extend(items(&page).iter().map(|item| item["id"].clone()));
            match page.json["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
        assert_eq!(walked, whole, "{path}");
    }
}

#[tokio::test]
async fn a_change_from_an_old_version_is_412_and_a_star_is_any() {
    let fixture = Fixture::new().await;
    let thread = fixture.thread("one").await["id"].as_str().unwrap().to_owned();
    let ana = fixture.app.user("ana", thinkwork_primitives::Role::Member).await;
    for (path, body) in [
        (format!("/v1/users/{ana}"), json!({ "name": "Anna" })),
        (format!("/v1/spaces/{}", fixture.space), json!({ "name": "Counter" })),
        (format!("/v1/threads/{thread}"), json!({ "title": "Two" })),
        (format!("/v1/webhooks/{}", fixture.webhook), json!({ "name": "hooked" })),
    ] {
        let change =
            async |version: &str| with_header(&fixture.owner, "PATCH", &path, ("if-match", version), &body).await;
        let first = change("*").await.expect(200).json["version"].as_i64();
        let version = first.unwrap_or_else(|| panic!("{path} shows no version"));
        assert_eq!(change(&(version - 1).to_string()).await.expect(412).code(), "changed_meanwhile", "{path}");
        change(&format!("\"{version}\"")).await.expect(200);
        change("not-a-version").await.expect(422);
    }
}

#[tokio::test]
async fn a_repeated_creation_is_one_and_another_body_under_its_key_is_a_conflict() {
    let fixture = Fixture::new().await;
    let thread = fixture.thread("one").await["id"].as_str().unwrap().to_owned();
    let url = "https://tools.example.com/mcp";
    for (path, one, other, shows_secret) in [
        (
            "/v1/spaces".to_owned(),
            json!({ "slug": "a", "name": "A", "access": "public" }),
            json!({ "slug": "b", "name": "B", "access": "public" }),
            false,
        ),
        (
            "/v1/threads".to_owned(),
            json!({ "space_id": fixture.space, "text": "Hello" }),
            json!({ "space_id": fixture.space, "text": "Bye" }),
            false,
        ),
        (format!("/v1/threads/{thread}/messages"), json!({ "text": "Hello" }), json!({ "text": "Bye" }), false),
        (
            "/v1/mcp-servers".to_owned(),
            json!({ "name": "Tools", "url": url, "auth": { "mode": "none" } }),
            json!({ "name": "Others", "url": url, "auth": { "mode": "none" } }),
            false,
        ),
        (
            "/v1/webhooks".to_owned(),
            json!({ "name": "x", "space_id": fixture.space, "verification": { "scheme": "bearer" } }),
            json!({ "name": "y", "space_id": fixture.space, "verification": { "scheme": "bearer" } }),
            true,
        ),
        (
            "/v1/tokens".to_owned(),
            json!({ "name": "x", "kind": "personal", "audience": "api", "scopes": ["read"] }),
            json!({ "name": "y", "kind": "personal", "audience": "api", "scopes": ["read"] }),
            true,
        ),
        (
            "/v1/users".to_owned(),
            json!({ "email": "x@acme.test", "name": "X", "role": "member" }),
            json!({ "email": "y@acme.test", "name": "Y", "role": "member" }),
            true,
        ),
    ] {
        let make =
            async |body: &Value| with_header(&fixture.owner, "POST", &path, ("idempotency-key", "k1"), body).await;
        let first = make(&one).await.expect(201);
        let id = first.text_of("id");
        assert!(first.header("location").contains(&id) || path.ends_with("messages"), "{path}");
        let again = make(&one).await;
        if shows_secret {
            assert_eq!(again.status, 409, "{path}: {}", again.text);
            assert_eq!(again.code(), "secret_already_shown");
            assert!(again.text.contains(&id), "{path}");
        } else {
            assert!((200..300).contains(&again.status), "{path}: {}", again.text);
            assert_eq!(again.text_of("id"), id, "{path}");
        }
        assert_eq!(make(&other).await.expect(409).code(), "idempotency_key_reused", "{path}");
        // The key is this caller's and this operation's, and lives a day.
        fixture.app.clock.advance(Duration::from_secs(60));
    }
}

#[tokio::test]
async fn deliveries_and_threads_are_cut_by_their_filters() {
    let fixture = Fixture::new().await;
    let first = fixture.send(json!({ "n": 1 })).await.text_of("delivery_id");
    fixture.app.run_pending_jobs().await;
    fixture.app.clock.advance(Duration::from_secs(60));
    let between = fixture.app.clock.now();
    fixture.app.clock.advance(Duration::from_secs(60));
    let second = fixture.send(json!({ "n": 2 })).await.text_of("delivery_id");
    let list = async |query: &str| {
        let answer =
            fixture.owner.get(&format!("/v1/webhooks/{}/deliveries?{query}", fixture.webhook)).await.expect(200);
        items(&answer).iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(list("").await, [&*second, &*first]);
    assert_eq!(list("result=accepted").await, [&*second]);
    assert_eq!(list("result=applied").await, [&*first]);
    assert_eq!(list(&format!("since={between}")).await, [&*second]);
    assert_eq!(list(&format!("until={between}")).await, [&*first]);
    assert!(list(&format!("since={between}&until={between}")).await.is_empty());
    let path = format!("/v1/webhooks/{}/deliveries", fixture.webhook);
    for wrong in ["result=lost", "since=yesterday", "until=1"] {
        fixture.owner.get(&format!("{path}?{wrong}")).await.expect(422);
    }
    let own = fixture.thread("A question of cheese").await;
    let found = async |query: &str| {
        let answer = fixture.owner.get(&format!("/v1/threads?{query}")).await.expect(200);
        items(&answer).iter().map(|item| item["id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(found("").await.len(), 2);
    assert_eq!(found("channel=CHAT").await, [own["id"].clone()]);
    assert_eq!(found(&format!("requester={}", fixture.app.owner)).await, [own["id"].clone()]);
    assert_eq!(found("q=cheese").await, [own["id"].clone()]);
    let status = own["status"].as_str().unwrap();
    assert!(found(&format!("space={}&status={status}", fixture.space)).await.contains(&own["id"]));
    for wrong in ["space=desk", "status=lost", "channel=pigeon"] {
        fixture.owner.get(&format!("/v1/threads?{wrong}")).await.expect(422);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_prefers_to_wait_is_told_the_thread() {
    let fixture = Fixture::new().await;
    let worker = Worker::start(&fixture.app.app);
    let path = format!("/hooks/{}", fixture.webhook);
    let sender = fixture.app.bearer(&fixture.secret);
    let answer = with_header(&sender, "POST", &path, ("prefer", "wait=20"), &json!({ "n": 1 })).await.expect(202);
    assert_eq!((answer.header("preference-applied"), answer.json["status"].as_str()), ("wait", Some("accepted")));
    let thread = answer.text_of("thread_id");
    fixture.owner.get(&format!("/v1/threads/{thread}")).await.expect(200);
    worker.drain(&fixture.app.app, Duration::from_secs(10)).await;
    assert!(fixture.send(json!({ "n": 2 })).await.json.get("thread_id").is_none(), "who does not ask does not wait");
}

#[tokio::test]
async fn a_webhook_is_tested_changed_and_deleted() {
    let fixture = Fixture::new().await;
    let path = format!("/v1/webhooks/{}", fixture.webhook);
    let tested = fixture.owner.post(&format!("{path}/test"), json!({})).await.expect(200);
    assert_eq!(
        (tested.json["result"].as_str(), tested.text_of("webhook_id")),
        (Some("accepted"), fixture.webhook.clone())
    );
    let changed = fixture.owner.patch(&path, json!({ "enabled": false })).await.expect(200);
    assert_eq!(changed.json["enabled"], false);
    let sender = fixture.app.bearer(&fixture.secret);
    sender.post(&format!("/hooks/{}", fixture.webhook), json!({})).await.expect(404);
    let deleted = fixture.owner.delete(&path).await.expect(204);
    assert!(deleted.text.is_empty());
    fixture.owner.get(&path).await.expect(404);
    fixture.owner.delete(&path).await.expect(404);
    fixture.owner.get(&format!("/v1/deliveries/{}", tested.text_of("id"))).await.expect(200);
}

#[tokio::test]
async fn the_record_is_exported_line_by_line_as_it_is_hashed() {
    let fixture = Fixture::new().await;
    let exported = fixture.owner.get("/v1/audit/export").await.expect(200);
    assert_eq!(exported.header("content-type"), "application/x-ndjson");
    assert!(exported.header("content-disposition").starts_with("attachment"));
    let lines: Vec<Value> = exported.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let listed = fixture.owner.get("/v1/audit?limit=200").await.expect(200);
    assert_eq!(lines.len(), items(&listed).len());
    let actions = |all: &[Value]| all.iter().map(|one| one["action"].clone()).collect::<Vec<_>>();
    assert_eq!(actions(&lines), actions(items(&listed)));
    assert!(!exported.text.contains(&fixture.secret) && !exported.text.contains("acme.test"));
    fixture.app.member("ana").await.get("/v1/audit/export").await.expect(403);
}

#[tokio::test]
async fn a_page_goes_on_where_the_item_of_its_cursor_is_gone() {
    let fixture = Fixture::new().await;
    for _ in 0..4 {
        fixture.app.session_of(fixture.app.owner).await;
    }
    let ids = async |path: &str| {
        let page = fixture.owner.get(path).await.expect(200);
        items(&page).iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let whole = ids("/v1/me/sessions").await;
    fixture.owner.delete(&format!("/v1/me/sessions/{}", whole[1])).await.expect(204);
    assert_eq!(ids(&format!("/v1/me/sessions?after={}", whole[1])).await, whole[2..]);
}

#[tokio::test]
async fn a_query_that_does_not_fit_is_told_by_its_field() {
    let fixture = Fixture::new().await;
    let deliveries = format!("/v1/webhooks/{}/deliveries", fixture.webhook);
    for (path, field) in [
        ("/v1/audit?action=a&action=b".to_owned(), "action"),
        ("/v1/threads?q=a&q=b".to_owned(), "q"),
        (format!("{deliveries}?result=failed&result=applied"), "result"),
        ("/v1/audit?since=yesterday".to_owned(), "since"),
        ("/v1/threads?after=a&after=b".to_owned(), "after"),
    ] {
        let answer = fixture.owner.get(&path).await.expect(422);
        assert!(answer.json["error"]["fields"][field].is_string(), "{path}: {}", answer.text);
    }
}

#[tokio::test]
async fn replays_tests_and_invitations_happen_once_for_their_key() {
    let fixture = Fixture::new().await;
    fixture.send(json!({ "n": 1 })).await;
    fixture.app.run_pending_jobs().await;
    let hook = format!("/v1/webhooks/{}", fixture.webhook);
    let deliveries = async || items(&fixture.owner.get(&format!("{hook}/deliveries")).await.expect(200)).clone();
    let first = deliveries().await[0]["id"].as_str().unwrap().to_owned();
    for (path, all) in [(format!("/v1/deliveries/{first}/replay"), 2), (format!("{hook}/test"), 4)] {
        let again = async |key| with_header(&fixture.owner, "POST", &path, ("idempotency-key", key), &json!({})).await;
        let made = again("k1").await.expect(200).text_of("id");
        assert_eq!(again("k1").await.expect(200).text_of("id"), made, "{path}");
        fixture.app.run_pending_jobs().await;
        assert_eq!(again("k1").await.expect(200).text_of("id"), made, "{path}, applied meanwhile");
        fixture.app.run_pending_jobs().await;
        assert_eq!(deliveries().await.len(), all, "{path}");
        assert_ne!(again("k2").await.expect(200).text_of("id"), made, "{path}");
        fixture.app.run_pending_jobs().await;
        assert_eq!(deliveries().await.len(), all + 1);
    }
    let ana = json!({ "email": "ana@acme.test", "name": "Ana", "role": "member" });
    let ana = fixture.owner.post("/v1/users", ana).await.expect(201).text_of("id");
    let path = format!("/v1/users/{ana}/invitation");
    let renew = async |key| with_header(&fixture.owner, "POST", &path, ("idempotency-key", key), &json!({})).await;
    let code = renew("k1").await.expect(200).text_of("invite_url");
    let again = renew("k1").await.expect(409);
    assert_eq!((again.code(), again.json["error"]["id"].as_str()), ("secret_already_shown", Some(&*ana)));
    assert!(again.json["error"]["message"].as_str().unwrap().contains("invitation"), "{}", again.text);
    let code = code.split_once("code=").unwrap().1;
    let accept = json!({ "code": code, "password": "a long enough password" });
    fixture.app.anonymous().post("/v1/invitations/accept", accept).await.expect(200);
}

#[tokio::test]
async fn what_was_made_is_read_where_its_location_says() {
    let fixture = Fixture::new().await;
    let user = json!({ "email": "x@acme.test", "name": "X", "role": "member" });
    let token = json!({ "name": "x", "kind": "service", "audience": "api", "scopes": ["write"] });
    let made = fixture.owner.post("/v1/tokens", token).await.expect(201);
    let service = fixture.app.bearer(&made.text_of("token"));
    let stranger = fixture.app.member("stranger").await;
    for made in [made, fixture.owner.post("/v1/users", user).await.expect(201)] {
        let read = fixture.owner.get(made.header("location")).await.expect(200);
        assert_eq!(read.text_of("id"), made.text_of("id"));
        assert!(read.json.get("token").is_none() && read.json.get("invite_url").is_none());
        assert!([403, 404].contains(&stranger.get(made.header("location")).await.status));
        service.get(made.header("location")).await.expect(403);
    }
    let password = thinkwork_primitives::Secret::from_text("a long enough password".to_owned());
    fixture.app.slices().access.password_set(fixture.app.tenant, fixture.app.owner, &password).await.unwrap();
    let sign_in = json!({ "email": "owner@acme.test", "password": "a long enough password" });
    let signed_in = fixture.app.anonymous().post("/v1/sessions", sign_in).await.expect(201);
    assert_eq!(signed_in.header("location"), "/v1/me");
}

#[tokio::test]
async fn a_refused_title_is_told_as_the_title() {
    let fixture = Fixture::new().await;
    let thread = fixture.thread("one").await["id"].as_str().unwrap().to_owned();
    let change = json!({ "title": "x".repeat(121) });
    let refused = fixture.owner.patch(&format!("/v1/threads/{thread}"), change).await.expect(422);
    assert!(refused.json["error"]["fields"]["title"].is_string(), "{}", refused.text);
    let empty = fixture.owner.post("/v1/threads", json!({ "space_id": fixture.space, "text": " " })).await.expect(422);
    assert!(empty.json["error"]["fields"]["text"].is_string(), "{}", empty.text);
}

#[tokio::test]
async fn a_service_token_makes_no_space_that_nobody_would_see() {
    let fixture = Fixture::new().await;
    let token = json!({ "name": "x", "kind": "service", "audience": "api", "scopes": ["admin"] });
    let service = fixture.app.bearer(&fixture.owner.post("/v1/tokens", token).await.expect(201).text_of("token"));
    let space = |access| json!({ "slug": "fresh", "name": "Fresh", "access": access });
    let refused = service.post("/v1/spaces", space("private")).await.expect(422);
    assert!(refused.json["error"]["fields"]["access"].as_str().unwrap().contains("use public"), "{}", refused.text);
    service.post("/v1/spaces", space("public")).await.expect(201);
}

//! The stream: what it sends, where it goes on, when it ends.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Value, json};
use thinkwork::commands::serve;
use tokio::time::{Instant, timeout};

use super::thread;
use crate::harness::{Client, TestApp};
use crate::spaces::space;

/// Longest an item takes to come.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a server that stops waits for open requests.
const STOP_PATIENCE: Duration = Duration::from_secs(20);
/// How soon a stream ends after access was lost.
const CLOSED_WITHIN: Duration = Duration::from_secs(5);

/// An open stream.
struct Reader {
    response: reqwest::Response,
    text: String,
    items: VecDeque<(i64, Value)>,
}

impl Reader {
    async fn open(who: &Client, thread: &str, after: Option<i64>) -> Self {
        let mut request = who.request("GET", &format!("/v1/threads/{thread}/stream"));
        if let Some(after) = after {
            request = request.header("last-event-id", after);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(
            response.headers()["x-accel-buffering"],
            "no",
            "a proxy that collects it would show nothing for long"
        );
        Self { response, text: String::new(), items: VecDeque::new() }
    }

    /// The next item as (id, data); nothing once the stream has ended.
    async fn next(&mut self) -> Option<(i64, Value)> {
        loop {
            if let Some(item) = self.items.pop_front() {
                return Some(item);
            }
            let chunk = timeout(PATIENCE, self.response.chunk()).await.expect("an item or the end").ok()??;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
            while let Some((whole, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| whole.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
                if let (Some(id), Some(data)) = (field("id:"), field("data:")) {
                    self.items.push_back((id.parse().unwrap(), serde_json::from_str(data).unwrap()));
                }
                self.text = rest.to_owned();
            }
        }
    }

    /// How long the stream took to end.
    async fn end(mut self) -> Duration {
        let began = Instant::now();
        while self.next().await.is_some() {}
        began.elapsed()
    }
}

async fn begun() -> (TestApp, Client, String) {
    let app = TestApp::new().await;
    let owner = app.owner().await;
    let id = thread(&owner, &space(&owner, "secret", "private").await, "First").await;
    (app, owner, id)
}

#[tokio::test]
async fn a_reader_that_comes_back_misses_nothing_and_reads_nothing_twice() {
    let (app, owner, id) = begun().await;
    let mut reader = Reader::open(&owner, &id, None).await;
    let (at, first) = reader.next().await.unwrap();
    assert_eq!((&first["kind"], &first["ref_id"]), (&json!("thread"), &json!(id)));
    let path = format!("/v1/threads/{id}/messages");
    let second = owner.post(&path, json!({ "text": "Second" })).await.expect(201).text_of("id");
    let (next, item) = reader.next().await.unwrap();
    assert_eq!((next, &item["kind"], &item["ref_id"]), (at + 1, &json!("message"), &json!(second)));
    drop(reader);
    // Meanwhile much happens.
    owner.post(&path, json!({ "text": "Third" })).await.expect(201);
    app.run_pending_jobs().await;
    let mut again = Reader::open(&owner, &id, Some(next)).await;
    let mut from_start = Reader::open(&owner, &id, Some(0)).await;
    let newest = {
        let mut seen = Vec::new();
        let last = loop {
            let (sequence, item) = again.next().await.unwrap();
            seen.push(sequence);
            let turns = owner.get(&format!("/v1/threads/{id}/turns")).await.expect(200);
            let last = turns.json["items"].as_array().unwrap().last().unwrap().clone();
            if item["kind"] == "turn" && item["ref_id"] == last["id"] && seen.len() > 6 {
                break sequence;
            }
        };
        assert_eq!(seen, (next + 1..=last).collect::<Vec<_>>());
        last
    };
    for expected in 1..=newest {
        assert_eq!(from_start.next().await.unwrap().0, expected);
    }
    let text = owner.request("GET", &format!("/v1/threads/{id}/stream")).header("last-event-id", "yesterday");
    owner.send(text).await.expect(422);
}

#[tokio::test]
async fn a_reader_whose_events_are_forgotten_begins_anew() {
    let (app, owner, id) = begun().await;
    let path = format!("/v1/threads/{id}/messages");
    owner.post(&path, json!({ "text": "Second" })).await.expect(201);
    let later = app.clock.now().plus(Duration::from_secs(60));
    app.slices().threads.delete_events_before(app.tenant, later, 100).await.unwrap();
    let mut reader = Reader::open(&owner, &id, Some(1)).await;
    let (at, item) = reader.next().await.unwrap();
    assert_eq!((&item["kind"], &item["ref_id"]), (&json!("thread"), &json!(id)));
    owner.post(&path, json!({ "text": "Third" })).await.expect(201);
    assert_eq!(reader.next().await.unwrap().0, at + 1);
}

#[tokio::test]
async fn a_stream_ends_with_the_session_the_membership_and_the_person() {
    let (app, owner, id) = begun().await;
    let private = owner.get(&format!("/v1/threads/{id}")).await.expect(200).text_of("space_id");
    let ana = app.member("ana").await;
    let membership = format!("/v1/spaces/{private}/members/{}", ana.user.unwrap());
    let open = async || {
        owner.put(&membership, json!({})).await.expect(200);
        let ana = app.session_of(ana.user.unwrap()).await;
        let mut reader = Reader::open(&ana, &id, None).await;
        reader.next().await.unwrap();
        (ana, reader)
    };
    let (signed_in, reader) = open().await;
    signed_in.delete("/v1/sessions/current").await.expect(204);
    let took = reader.end().await;
    assert!(took < CLOSED_WITHIN, "signed out: {took:?}");
    let (_, reader) = open().await;
    owner.delete(&membership).await.expect(204);
    let took = reader.end().await;
    assert!(took < CLOSED_WITHIN, "no member any more: {took:?}");
    let token = json!({ "name": "reader", "kind": "personal", "audience": "api", "scopes": ["read"] });
    let (signed_in, _) = open().await;
    let token = signed_in.post("/v1/tokens", token).await.expect(201);
    let mut reader = Reader::open(&app.bearer(&token.text_of("token")), &id, None).await;
    reader.next().await.unwrap();
    signed_in.delete(&format!("/v1/tokens/{}", token.text_of("id"))).await.expect(204);
    let took = reader.end().await;
    assert!(took < CLOSED_WITHIN, "token revoked: {took:?}");
    let (_, reader) = open().await;
    owner.patch(&format!("/v1/users/{}", ana.user.unwrap()), json!({ "disabled": true })).await.expect(200);
    let took = reader.end().await;
    assert!(took < CLOSED_WITHIN, "disabled: {took:?}");
}

#[tokio::test]
async fn a_stream_of_a_space_that_is_made_private_ends_for_those_who_are_not_in_it() {
    let app = TestApp::new().await;
    let owner = app.owner().await;
    let space = space(&owner, "open", "public").await;
    let id = thread(&owner, &space, "First").await;
    let mut outside = Reader::open(&app.member("ana").await, &id, None).await;
    let mut inside = Reader::open(&owner, &id, None).await;
    outside.next().await.unwrap();
    let (at, _) = inside.next().await.unwrap();
    owner.put(&format!("/v1/spaces/{space}/members/{}", owner.user.unwrap()), json!({})).await.expect(200);
    owner.patch(&format!("/v1/spaces/{space}"), json!({ "access": "private" })).await.expect(200);
    let took = outside.end().await;
    assert!(took < CLOSED_WITHIN, "made private: {took:?}");
    owner.post(&format!("/v1/threads/{id}/messages"), json!({ "text": "Second" })).await.expect(201);
    assert_eq!(inside.next().await.unwrap().0, at + 1);
}

#[tokio::test]
async fn an_idle_stream_ends_with_the_token_that_expires() {
    let (app, owner, id) = begun().await;
    let token = json!({ "name": "reader", "kind": "personal", "audience": "api", "scopes": ["read"], "expires_in_seconds": 86_400 });
    let token = owner.post("/v1/tokens", token).await.expect(201).text_of("token");
    let mut reader = Reader::open(&app.bearer(&token), &id, None).await;
    reader.next().await.unwrap();
    app.clock.advance(Duration::from_secs(2 * 24 * 3_600));
    let took = reader.end().await;
    assert!(took < CLOSED_WITHIN, "expired: {took:?}");
}

#[tokio::test]
async fn a_server_that_stops_ends_its_streams_and_does_not_wait_for_them() {
    let (app, owner, id) = begun().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let process = app.second().await;
    let server = tokio::spawn(serve::serve(process, listener, async move { drop(stopped.await) }));
    let url = format!("http://{address}/v1/threads/{id}/stream");
    let cookie = owner.cookie.as_deref().unwrap();
    let response =
        reqwest::Client::new().get(url).header("host", app.address.to_string()).header("cookie", cookie).send().await;
    let mut reader = Reader { response: response.unwrap(), text: String::new(), items: VecDeque::new() };
    assert_eq!(reader.response.status(), 200);
    reader.next().await.unwrap();
    drop(stop);
    let took = reader.end().await;
    assert!(took < CLOSED_WITHIN, "{took:?}");
    let began = Instant::now();
    timeout(2 * PATIENCE, server).await.expect("the process ends").unwrap();
    assert!(began.elapsed() < STOP_PATIENCE, "nothing held the stop up");
}

#[tokio::test]
async fn a_caller_with_too_many_streams_is_told_so_and_another_is_not() {
    let (app, owner, id) = begun().await;
    let mut open = Vec::new();
    for _ in 0..50 {
        open.push(Reader::open(&owner, &id, None).await);
    }
    let path = format!("/v1/threads/{id}/stream");
    let refused = owner.get(&path).await.expect(429);
    assert!(refused.text.contains("50 streams open"), "{}", refused.text);
    assert_eq!(refused.header("retry-after"), "5");
    let ana = app.member("ana").await;
    let space = owner.get(&format!("/v1/threads/{id}")).await.text_of("space_id");
    owner.put(&format!("/v1/spaces/{space}/members/{}", ana.user.unwrap()), json!({})).await.expect(200);
    Reader::open(&ana, &id, None).await.next().await.expect("others read on");
    // One that is closed makes room, as soon as the server sees that.
    drop(open.pop());
    let again = async {
        while owner.send(owner.request("HEAD", &path)).await.status == 429 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, again).await.expect("room for another");
}

//! The largest answers of an upstream, made to be slow to read: whoever else is served meanwhile does not wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use thinkwork::worker;
use thinkwork_linear_time::thread_time;
use thinkwork_primitives::limits::UPSTREAM_BODY_BYTES_MAX;

use crate::mcp::{call, gateway_token, said};

use super::outside::{Called, Upstream};
use super::{TurnFixture, text};

/// What an answer is made of.
const PIECES: [&str; 5] = ["a", "\"", "[", "`", "\u{1f600}"];
/// How long one task may hold a worker, in processor time. A release build needs a tenth of it.
const HELD_MAX: Duration = Duration::from_millis(25);
/// How long `/livez` may take. It is 50 ms on a machine that does nothing else, with a release build.
const LIVEZ_MAX: Duration = Duration::from_secs(1);

/// The largest text of one piece that fits into an answer, as JSON writes it.
fn largest(piece: &str) -> String {
    let written = json!(piece).to_string().len() - 2;
    piece.repeat((UPSTREAM_BODY_BYTES_MAX - 4_096) / written)
}

/// Measures how long the only worker of this runtime is held by one task, in processor time.
struct Watch(AtomicU64);

impl Watch {
    /// Begins to measure, until the runtime ends.
    fn start() -> Arc<Self> {
        let watch = Arc::new(Self(AtomicU64::new(0)));
        let this = Arc::clone(&watch);
        tokio::spawn(async move {
            let mut thread = std::thread::current().id();
            let mut last = thread_time();
            loop {
                tokio::task::yield_now().await;
                let now = thread_time();
                // A worker that is about to be held goes on in another thread, which has a time of its own.
                if std::thread::current().id() == thread {
                    this.0.fetch_max(u64::try_from((now - last).as_micros()).unwrap(), Ordering::Relaxed);
                }
                thread = std::thread::current().id();
                last = now;
            }
        });
        watch
    }

    /// The longest time since this was asked last.
    fn longest(&self) -> Duration {
        Duration::from_micros(self.0.swap(0, Ordering::Relaxed))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn l108_the_largest_answers_hold_up_nobody() {
    // The upstream makes its answers elsewhere.
    let elsewhere = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let says = |called: &Called| {
        let answer = largest(&called.text);
        json!({ "content": [{ "type": "text", "text": answer }] })
    };
    let schema = json!({ "type": "object", "properties": { "text": { "type": "string" } } });
    let tools = vec![json!({ "name": "look", "description": "Looks.", "inputSchema": schema })];
    let upstream = elsewhere.spawn(Upstream::with(None, tools, says)).await.unwrap();
    let fixture = TurnFixture::new().await;
    fixture.server(&upstream, "notes", json!({ "mode": "none" }), json!({})).await;
    let agent = fixture.app.bearer(&gateway_token(&fixture.owner, "personal").await);
    let gateway = format!("/mcp/spaces/{}", fixture.space);
    let working = fixture.app.second().await;
    let watch = Watch::start();
    for piece in PIECES {
        let command = format!("/tool notes__look {}", json!({ "text": piece }));
        let thread = fixture.thread(&fixture.owner, &command).await;
        watch.longest();
        let app = Arc::clone(&working);
        let work = tokio::spawn(async move { worker::run_until_idle(&app).await });
        while !work.is_finished() {
            let asked = Instant::now();
            fixture.app.anonymous().get("/livez").await.expect(200);
            let taken = asked.elapsed();
            assert!(taken < LIVEZ_MAX, "/livez took {taken:?} beside an answer of {piece}");
        }
        work.await.unwrap();
        let held = watch.longest();
        assert!(held < HELD_MAX, "one task held a worker for {held:?} with an answer of {piece}");
        let messages = fixture.messages(&fixture.owner, &thread).await;
        assert!(text(&messages[1], "text").starts_with(&piece.repeat(1_000)), "{piece}");
        watch.longest();
        fixture.owner.get(&format!("/me/threads/{thread}")).await.expect(200);
        let held = watch.longest();
        assert!(held < HELD_MAX, "one task held a worker for {held:?} to show an answer of {piece}");
        let passed_on = call(&agent, &gateway, "notes__look", json!({ "text": piece })).await;
        let held = watch.longest();
        assert!(said(&passed_on).starts_with(&piece.repeat(1_000)), "{piece}");
        assert!(held < HELD_MAX, "one task held a worker for {held:?} to pass on an answer of {piece}");
    }
    elsewhere.shutdown_background();
}

//! What a kill, a lost lease and a person's stop leave of a turn; one turn at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use thinkwork::app::App;
use thinkwork::worker;
use thinkwork_database::jobs::{self, Lane};

use super::outside::{Model, Upstream, answers, asks_for};
use super::{TurnFixture, tenant_key, words};
use crate::harness::{Client, execute_sql};

/// Longer than a job's lease.
const PAST_THE_LEASE: Duration = Duration::from_secs(61);

/// Each call is answered with its number, and the model repeats it.
async fn fixture() -> (TurnFixture, Upstream, Client) {
    let fixture = TurnFixture::new().await;
    let number = AtomicU64::new(0);
    let upstream = Upstream::start(None, &["look", "send"], move |_| {
        format!("answer {}", number.fetch_add(1, Ordering::SeqCst) + 1)
    })
    .await;
    fixture.server(&upstream, "notes", tenant_key(), json!({})).await;
    let model = Model::start(|request| {
        let last = request["messages"].as_array().unwrap().last().unwrap();
        if last["role"] == "tool" {
            answers(last["content"].as_str().unwrap())
        } else {
            asks_for(&[("notes__look", String::new())])
        }
    })
    .await;
    fixture.agent(&model).await;
    let ana = fixture.app.member("ana").await;
    // The model lives as long as the runtime of this test.
    std::mem::forget(model);
    (fixture, upstream, ana)
}

/// Works in the background until the call stands at the upstream.
async fn begin(app: &Arc<App>, upstream: &Upstream) -> tokio::task::JoinHandle<()> {
    upstream.hold();
    let app = Arc::clone(app);
    let work = tokio::spawn(async move { worker::run_until_idle(&app).await });
    upstream.arrived().await;
    work
}

async fn steps(fixture: &TurnFixture, who: &Client, thread: &str) -> Vec<Value> {
    fixture.turns(who, thread).await[0]["steps"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_kill_during_a_reading_call_repeats_it() {
    let (fixture, upstream, ana) = fixture().await;
    let thread = fixture.thread(&ana, "What is there?").await;
    let killed = begin(&fixture.app.app, &upstream).await;
    killed.abort();
    let _ = killed.await;
    let left = steps(&fixture, &ana, &thread).await;
    assert_eq!(words(&left, "status"), ["succeeded", "running"], "stored before it was sent");
    upstream.answer(2);
    fixture.app.clock.advance(PAST_THE_LEASE);
    worker::run_until_idle(&*fixture.app.second().await).await;
    assert_eq!(upstream.calls().len(), 2, "it only reads, so it is made again");
    let turns = fixture.turns(&ana, &thread).await;
    assert_eq!(words(&turns, "status"), ["succeeded"]);
    assert_eq!(words(&steps(&fixture, &ana, &thread).await, "status"), ["succeeded", "succeeded", "succeeded"]);
}

#[tokio::test]
async fn a_kill_during_a_sending_call_leaves_its_outcome_unknown_and_repeats_nothing() {
    let (fixture, upstream, ana) = fixture().await;
    let thread = fixture.thread(&ana, "/tool notes__send {\"text\":\"hello\"}").await;
    let killed = begin(&fixture.app.app, &upstream).await;
    killed.abort();
    let _ = killed.await;
    upstream.answer(2);
    fixture.app.clock.advance(PAST_THE_LEASE);
    worker::run_until_idle(&*fixture.app.second().await).await;
    assert_eq!(upstream.calls().len(), 1, "it may have been sent, so it is not sent again");
    let turns = fixture.turns(&ana, &thread).await;
    assert_eq!((&turns[0]["status"], &turns[0]["failure"]), (&json!("failed"), &json!("outcome_unknown")));
    assert_eq!(words(&steps(&fixture, &ana, &thread).await, "status"), ["unknown"]);
    let said = fixture.messages(&ana, &thread).await;
    assert!(said.last().unwrap()["text"].as_str().unwrap().contains("not known whether notes__send"), "{said:?}");
    let page = ana.get(&format!("/me/threads/{thread}")).await.expect(200).text;
    assert!(!page.contains("outcome_unknown"), "words, no codes: {page}");
}

#[tokio::test]
async fn a_stop_ends_a_sending_call_and_its_thread_says_so() {
    let (fixture, upstream, ana) = fixture().await;
    let thread = fixture.thread(&ana, "/tool notes__send {\"text\":\"hello\"}").await;
    let work = begin(&fixture.app.app, &upstream).await;
    fixture.app.app.turns.stop();
    tokio::time::timeout(PAST_THE_LEASE, work).await.expect("the call is waited for").unwrap();
    assert_eq!(words(&steps(&fixture, &ana, &thread).await, "status"), ["unknown"]);
    let turns = fixture.turns(&ana, &thread).await;
    assert_eq!((&turns[0]["status"], &turns[0]["failure"]), (&json!("failed"), &json!("outcome_unknown")));
    let said = fixture.messages(&ana, &thread).await;
    assert!(said.last().unwrap()["text"].as_str().unwrap().contains("not known whether notes__send"), "{said:?}");
}

#[tokio::test]
async fn a_stop_begins_no_queued_turn_and_the_next_process_does() {
    // Without a model its turns have nothing to wait for, and so nothing that a stop could interrupt.
    let fixture = TurnFixture::new().await;
    let ana = fixture.app.member("ana").await;
    let thread = fixture.thread(&ana, "first").await;
    ana.post(&format!("/v1/threads/{thread}/messages"), json!({ "text": "second" })).await.expect(201);
    let app = &fixture.app.app;
    let claimed = jobs::claim(&app.db, Lane::People, fixture.app.clock.now(), PAST_THE_LEASE, 10).await.unwrap();
    let [job] = claimed.as_slice() else { panic!("{} jobs", claimed.len()) };
    app.turns.stop();
    let stopped = app.turns.run(job).await;
    assert!(matches!(stopped, Err(thinkwork::turns::Error::Stopping)), "{stopped:?}");
    assert_eq!(words(&fixture.turns(&ana, &thread).await, "status"), ["queued", "queued"]);
    jobs::give_back(&app.db, job).await.unwrap();
    worker::run_until_idle(&*fixture.app.second().await).await;
    assert_eq!(words(&fixture.turns(&ana, &thread).await, "status"), ["succeeded", "succeeded"]);
}

#[tokio::test]
async fn l83_a_worker_that_lost_its_lease_writes_nothing_of_the_turn() {
    let (fixture, upstream, ana) = fixture().await;
    let thread = fixture.thread(&ana, "What is there?").await;
    let paused = begin(&fixture.app.app, &upstream).await;
    // It is paused past its lease; another process takes the thread over and stands at the same call.
    fixture.app.clock.advance(PAST_THE_LEASE);
    let successor = fixture.app.second().await;
    let next = tokio::spawn(async move { worker::run_until_idle(&successor).await });
    upstream.arrived().await;
    // Its own call is answered first, and it wants to write that down.
    upstream.answer(1);
    paused.await.unwrap();
    assert_eq!(words(&steps(&fixture, &ana, &thread).await, "status"), ["succeeded", "running"], "it is another's now");
    assert_eq!(words(&fixture.messages(&ana, &thread).await, "role"), ["user"]);
    upstream.answer(1);
    next.await.unwrap();
    assert_eq!(upstream.calls().len(), 2);
    let turns = fixture.turns(&ana, &thread).await;
    assert_eq!(words(&turns, "status"), ["succeeded"]);
    let messages = fixture.messages(&ana, &thread).await;
    assert_eq!(words(&messages, "role"), ["user", "agent"], "one answer");
    assert!(messages[1]["text"].as_str().unwrap().contains("answer 2"), "{messages:?}");
}

#[tokio::test]
async fn one_turn_runs_and_what_is_written_meanwhile_queues_behind_it() {
    let (fixture, upstream, ana) = fixture().await;
    let bo = fixture.app.member("bo").await;
    let thread = fixture.thread(&ana, "first").await;
    let work = begin(&fixture.app.app, &upstream).await;
    let path = format!("/v1/threads/{thread}/messages");
    ana.post(&path, json!({ "text": "second" })).await.expect(201);
    bo.post(&path, json!({ "text": "third" })).await.expect(201);
    let another = fixture.app.second().await;
    worker::run_until_idle(&another).await;
    let turns = fixture.turns(&ana, &thread).await;
    assert_eq!(words(&turns, "status"), ["running", "queued", "queued"]);
    let tx = another.db.write(fixture.app.tenant).await.unwrap();
    let refused: thinkwork_database::Error = execute_sql(&tx, "UPDATE turn SET status = 'running', started_at = 1")
        .await
        .expect_err("not even by hand")
        .into();
    assert!(refused.is_unique_violation(), "{refused}");
    drop(tx);
    upstream.answer(3);
    work.await.unwrap();
    fixture.app.run_pending_jobs().await;
    let turns = fixture.turns(&ana, &thread).await;
    assert_eq!(words(&turns, "status"), ["succeeded", "succeeded", "succeeded"]);
    let began = words(&turns, "started_at");
    let ended = words(&turns, "finished_at");
    assert!(ended[0] <= began[1] && ended[1] <= began[2], "one after another: {began:?} {ended:?}");
}

#[tokio::test]
async fn a_turn_that_was_stopped_says_nothing_more() {
    let (fixture, upstream, ana) = fixture().await;
    let thread = fixture.thread(&ana, "first").await;
    let work = begin(&fixture.app.app, &upstream).await;
    let turn = fixture.turns(&ana, &thread).await[0]["id"].as_str().unwrap().to_owned();
    let stop = format!("/v1/turns/{turn}/cancel");
    assert_eq!(ana.post(&stop, json!({})).await.expect(200).json["status"], "cancelled");
    assert_eq!(ana.post(&stop, json!({})).await.expect(409).code(), "turn_over");
    work.await.unwrap();
    fixture.app.run_pending_jobs().await;
    assert_eq!(words(&fixture.turns(&ana, &thread).await, "status"), ["cancelled"]);
    assert_eq!(words(&fixture.messages(&ana, &thread).await, "role"), ["user"]);
    let shown = steps(&fixture, &ana, &thread).await;
    assert_eq!(words(&shown, "status"), ["succeeded", "failed"], "what was done is told: {shown:?}");
}

/// An operator changes the provider while a turn of the old one waits for its tool.
#[tokio::test]
async fn l30_a_new_providers_key_never_goes_to_the_old_one() {
    let (fixture, upstream, ana) = fixture().await;
    let think = |request: &Value| {
        let last = request["messages"].as_array().unwrap().last().unwrap();
        if last["role"] == "tool" { answers("done") } else { asks_for(&[("notes__look", String::new())]) }
    };
    let old = Model::start(think).await;
    let new = Model::start(think).await;
    let put = async |model: &Model, key: &str| {
        let body = json!({ "model_base_url": model.url, "model": "any", "instructions": "", "api_key": key });
        fixture.owner.put("/v1/agent", body).await.expect(200);
    };
    put(&old, "key-of-the-old-provider").await;
    let thread = fixture.thread(&ana, "What is there?").await;
    let work = begin(&fixture.app.app, &upstream).await;
    put(&new, "key-of-the-new-provider").await;
    upstream.answer(1);
    work.await.unwrap();
    assert_eq!(old.bearers(), ["key-of-the-old-provider"], "the old provider is asked nothing more");
    fixture.app.clock.advance(Duration::from_secs(60));
    fixture.app.run_pending_jobs().await;
    assert_eq!(
        words(&fixture.turns(&ana, &thread).await, "status"),
        ["succeeded"],
        "the turn goes on with the new one"
    );
    assert_eq!((old.bearers().len(), new.bearers()), (1, vec!["key-of-the-new-provider".to_owned()]));
}

//! Writers of one thread, all at once, from two processes: they wait for each other in one order.

use std::sync::Arc;

use sea_orm::{ConnectionTrait as _, Statement};
use serde_json::json;
use thinkwork::threads::{StepEnd, StepStatus, Threads, TurnEnd, TurnStatus};
use thinkwork::worker;
use thinkwork_database::Tx;
use thinkwork_primitives::{Marks, StepId, ThreadId, TurnId};

use super::outside::Upstream;
use super::{TurnFixture, tenant_key};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writing_stopping_and_working_on_one_thread_at_once_fails_nobody() {
    let fixture = TurnFixture::new().await;
    let ana = fixture.app.member("ana").await;
    let bo = fixture.app.member("bo").await;
    let thread = fixture.thread(&ana, "first").await;
    let another = fixture.app.second().await;
    let path = format!("/v1/threads/{thread}/messages");
    for _ in 0..12 {
        let write = async |who: &crate::harness::Client| {
            who.post(&path, json!({ "text": "more" })).await.expect(201);
        };
        let stop = async {
            for turn in fixture.turns(&bo, &thread).await {
                if matches!(turn["status"].as_str(), Some("queued" | "running")) {
                    let answer =
                        bo.post(&format!("/v1/turns/{}/cancel", turn["id"].as_str().unwrap()), json!({})).await;
                    assert!(matches!(answer.status, 200 | 409), "{}", answer.text);
                }
            }
        };
        let work = worker::run_until_idle(&fixture.app.app);
        let more_work = worker::run_until_idle(&another);
        tokio::join!(write(&ana), write(&bo), write(&ana), work, stop, more_work);
    }
    fixture.app.run_pending_jobs().await;
    let turns = fixture.turns(&ana, &thread).await;
    assert_eq!(turns.len(), 37);
    for turn in &turns {
        assert!(matches!(turn["status"].as_str(), Some("succeeded" | "cancelled")), "{turn}");
    }
}

async fn count(tx: &Tx, sql: &str) -> i64 {
    let statement = Statement::from_string(tx.orm().get_database_backend(), sql);
    let row = tx.orm().query_one_raw(statement).await.unwrap().unwrap();
    row.try_get("", "found").unwrap()
}

/// The writes that the runner of turns makes.
#[derive(Clone, Copy, Debug)]
enum Write {
    Tools,
    Mark,
    End,
    StepFinish,
    IsRunning,
}

async fn write(threads: &Threads, tx: &mut Tx, what: Write, turn: TurnId, step: StepId) {
    let marks = Marks { private: true, untrusted: true, private_to: None };
    match what {
        Write::Tools => threads.turn_tools(tx, turn, &[], &[]).await.unwrap(),
        Write::Mark => threads.turn_mark(tx, turn, marks).await.unwrap(),
        Write::End => {
            let turn = threads.turn(tx, turn).await.unwrap().unwrap();
            let end = TurnEnd { status: TurnStatus::Failed, failure: None, messages: Vec::new() };
            threads.turn_end(tx, &turn, end).await.unwrap();
        }
        Write::StepFinish => {
            let end = StepEnd { status: StepStatus::Succeeded, output: None, output_preview: None, failure: None };
            threads.step_finish(tx, step, end).await.unwrap();
        }
        Write::IsRunning => {
            threads.turn_is_running(tx, turn).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_writer_of_a_turn_waits_at_the_threads_row_with_nothing_else_locked() {
    if std::env::var("THINKWORK_TEST_DATABASE").as_deref() != Ok("postgres") {
        // SQLite has one writer.
        return;
    }
    let fixture = TurnFixture::new().await;
    let upstream = Upstream::start(None, &["look"], |_| "found".to_owned()).await;
    fixture.server(&upstream, "notes", tenant_key(), json!({})).await;
    let ana = fixture.app.member("ana").await;
    let ended = fixture.turn(&ana, "/tool notes__look {}").await;
    let id = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let turn: TurnId = id(&ended["id"]).parse().unwrap();
    let step: StepId = id(&ended["steps"][0]["id"]).parse().unwrap();
    let thread: ThreadId = id(&ended["thread_id"]).parse().unwrap();
    for what in [Write::Tools, Write::Mark, Write::End, Write::StepFinish, Write::IsRunning] {
        let holder = fixture.app.app.db.write(fixture.app.tenant).await.unwrap();
        let lock = format!("SELECT 1 FROM thread WHERE id = '{}' FOR UPDATE", thread.uuid());
        holder.orm().execute_unprepared(&lock).await.unwrap();
        let app = Arc::clone(&fixture.app.app);
        let tenant = fixture.app.tenant;
        let writer = tokio::spawn(async move {
            let mut tx = app.db.write(tenant).await.unwrap();
            write(&app.threads, &mut tx, what, turn, step).await;
            tx.commit().await.unwrap();
        });
        let waiting =
            "SELECT count(*) AS found FROM pg_stat_activity WHERE pg_backend_pid() = ANY(pg_blocking_pids(pid))";
        while count(&holder, waiting).await == 0 {
            assert!(!writer.is_finished(), "{what:?} does not wait for the thread's row");
            tokio::task::yield_now().await;
        }
        for table in [format!("turn WHERE id = '{}'", turn.uuid()), format!("step WHERE id = '{}'", step.uuid())] {
            let free = holder.orm().execute_unprepared(&format!("SELECT 1 FROM {table} FOR UPDATE NOWAIT")).await;
            assert!(free.is_ok(), "{what:?} holds {table}: {free:?}");
        }
        drop(holder);
        writer.await.unwrap();
    }
}

#[tokio::test]
async fn a_turn_that_calls_nothing_takes_few_statements() {
    let fixture = TurnFixture::new().await;
    let ana = fixture.app.member("ana").await;
    let idle = fixture.app.run_pending_jobs_counted().await;
    let thread = fixture.thread(&ana, "Is anybody there?").await;
    let work = fixture.app.run_pending_jobs_counted().await;
    assert_eq!(fixture.turns(&ana, &thread).await[0]["status"], "succeeded");
    // The worker made two rounds. Each looks for events, turns and other jobs; one of these looks found the turn.
    let statements = work.statements - 2.0 * idle.statements + 1.0;
    // Whose turn it is to be claimed takes three seeks. On PostgreSQL the claim also says that it keeps to indexes, the
    // transaction whose it is, and its hints are a statement.
    let most = if fixture.app.slices().config.database_url.starts_with("postgres") { 21.0 } else { 18.0 };
    assert!(statements <= most, "{statements} statements");
    assert!(work.writes <= 3.0, "{} writing transactions", work.writes);
}

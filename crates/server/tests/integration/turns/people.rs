//! Two members in one thread: nobody's credential and nobody's results in a turn of the other (s03, s04).

use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};
use thinkwork::credentials::UseContext;
use thinkwork::threads::StepUseRecorder;
use thinkwork_primitives::{ActingClient, Actor, ConnectionId, CredentialId, CredentialSubject, Requester, Surface};

use super::outside::{Model, Upstream, answers, asks_for};
use super::{TurnFixture, issuer, text};
use crate::harness::{Client, of_tenant};

/// The message that a request's turn answers: the last that stands as its asker's own.
fn asked(request: &Value) -> String {
    let messages = request["messages"].as_array().unwrap();
    let own = messages.iter().rev().find(|message| message["role"] == "user").expect("somebody asks");
    text(own, "content")
}

/// Looks at the notes once, then quotes what it found.
fn curious(request: &Value) -> Value {
    let last = request["messages"].as_array().unwrap().last().unwrap();
    if last["role"] == "tool" {
        let found: Value = serde_json::from_str(last["content"].as_str().unwrap()).unwrap();
        return answers(&format!("I found: {}", found["result"]));
    }
    asks_for(&[("notes__look", asked(request))])
}

struct Member {
    client: Client,
    name: &'static str,
    token: String,
}

/// Runs what two members write into one thread, in this order; `true` lets the work be done before the next message.
async fn check(writes: &[(usize, bool)]) {
    let fixture = TurnFixture::new().await;
    let owners: Arc<Mutex<Vec<(String, &'static str)>>> = Arc::default();
    let known = Arc::clone(&owners);
    let upstream = Upstream::start(Some(issuer().await), &["look"], move |call| {
        let known = known.lock().unwrap();
        let owner = known.iter().find(|(token, _)| *token == call.bearer).map_or("nobody", |(_, name)| name);
        format!("canary-of-{owner}")
    })
    .await;
    let server = fixture.server(&upstream, "notes", json!({ "mode": "user_oauth" }), json!({})).await;
    let model = Model::start(curious).await;
    fixture.agent(&model).await;
    let mut members = Vec::new();
    for name in ["ana", "bo"] {
        let client = fixture.app.member(name).await;
        let token = fixture.connect(&client, &server, &upstream).await;
        owners.lock().unwrap().push((token.clone(), name));
        members.push(Member { client, name, token });
    }
    let thread = fixture.thread(&members[0].client, "ana asks 0").await;
    for (number, (who, work_first)) in writes.iter().enumerate() {
        let Member { client, name, .. } = &members[*who];
        let body = json!({ "text": format!("{name} asks {}", number + 1) });
        client.post(&format!("/v1/threads/{thread}/messages"), body).await.expect(201);
        if *work_first {
            fixture.app.run_pending_jobs().await;
        }
    }
    fixture.app.run_pending_jobs().await;

    let calls = upstream.calls();
    assert_eq!(calls.len(), writes.len() + 1);
    for call in &calls {
        let asker = members.iter().find(|member| call.text.starts_with(member.name)).expect("a member asked");
        assert_eq!(call.bearer, asker.token, "{} was called with another's credential", call.text);
    }
    for member in &members {
        let other = members.iter().find(|other| other.name != member.name).unwrap();
        let canary = format!("canary-of-{}", other.name);
        for turn in fixture.turns(&member.client, &thread).await {
            assert_eq!(turn["status"], "succeeded", "{turn}");
            let requester = &turn["requester"]["id"];
            let subject = &turn["credential_subject"]["user_id"];
            assert_eq!(requester, subject, "{turn}");
            for step in turn["steps"].as_array().unwrap().iter().filter(|step| step["kind"] == "tool") {
                assert_eq!(&step["credential_subject"]["user_id"], requester, "{step}");
                assert!(!step.to_string().contains(&canary), "previews are for their owner: {step}");
            }
        }
        for request in model.requests().iter().filter(|request| asked(request).starts_with(member.name)) {
            assert!(!request.to_string().contains(&canary), "{}'s turn read {request}", member.name);
        }
    }
}

#[test]
fn s03_s04_two_members_in_one_thread_share_no_credential_and_no_result() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut runner = TestRunner::new(Config { cases: 4, failure_persistence: None, ..Config::default() });
    let writes = proptest::collection::vec((0..2_usize, any::<bool>()), 2..6);
    // Both write, whatever else is drawn.
    let writes = writes.prop_map(|mut writes| {
        writes.push((1, true));
        writes.push((0, true));
        writes
    });
    runner
        .run(&writes, |writes| {
            runtime.block_on(check(&writes));
            Ok(())
        })
        .unwrap();
}

/// The last check of all, below every caller: also where one of them names the wrong step, or the wrong person.
#[tokio::test]
async fn s03_a_step_opens_the_grant_of_its_turns_person_and_of_nobody_else() {
    let fixture = TurnFixture::new().await;
    let upstream = Upstream::start(Some(issuer().await), &["look"], |_| "notes".to_owned()).await;
    let server = fixture.server(&upstream, "notes", json!({ "mode": "user_oauth" }), json!({})).await;
    let model = Model::start(curious).await;
    fixture.agent(&model).await;
    let mut steps = Vec::new();
    for name in ["ana", "bo"] {
        let client = fixture.app.member(name).await;
        fixture.connect(&client, &server, &upstream).await;
        let turn = fixture.turn(&client, "What is there?").await;
        let step = turn["steps"].as_array().unwrap().iter().find(|step| step["kind"] == "tool").unwrap().clone();
        let step: thinkwork_primitives::StepId = text(&step, "id").parse().unwrap();
        steps.push((client.user.unwrap(), step));
    }
    let app = fixture.app.slices();
    let (ana, ana_step) = steps[0];
    let (bo, bo_step) = steps[1];
    let tx = app.db.read(fixture.app.tenant).await.unwrap();
    let sql = "SELECT subject_user_id, subject_connection_id, credential_id FROM step WHERE credential_id IS NOT NULL
               AND subject_user_id IS NOT NULL";
    let rows = tx.orm().query_all_raw(of_tenant(&tx, sql)).await.unwrap();
    let row = rows.iter().find(|row| row.try_get::<uuid::Uuid>("", "subject_user_id").unwrap() == ana.uuid()).unwrap();
    let connection = ConnectionId::from_uuid(row.try_get("", "subject_connection_id").unwrap());
    let credential = CredentialId::from_uuid(row.try_get("", "credential_id").unwrap());
    drop(tx);
    let meaning = crate::custody::grant_meaning(&app.config.database_url, connection).await;
    let opened = async |user, step, subject| {
        let mut tx = app.db.write(fixture.app.tenant).await.unwrap();
        let recorder = StepUseRecorder(step);
        let context = UseContext::by(Actor { requester: Requester::User(user), client: ActingClient::Agent });
        let opening = context.request(Surface::ToolCall, subject).recorded_by(Some(&recorder));
        app.credentials.open(&mut tx, credential, &meaning, opening).await.is_ok()
    };
    let of = |user| CredentialSubject::User { user, connection: Some(connection) };
    assert!(opened(ana, ana_step, of(ana)).await, "her own");
    assert!(!opened(bo, bo_step, of(ana)).await, "another's step with her grant");
    assert!(!opened(bo, bo_step, of(bo)).await, "the same, said to be the other's");
    assert!(!opened(ana, ana_step, of(bo)).await, "her step, said to be for another");
    for connection in [Some(ConnectionId::new()), None] {
        let misnamed = CredentialSubject::User { user: ana, connection };
        assert!(!opened(ana, ana_step, misnamed).await, "her own, said to be another grant");
    }
    for nobodys in [CredentialSubject::Tenant, CredentialSubject::None] {
        assert!(!opened(bo, bo_step, nobodys).await, "the same, said to be the tenant's");
    }
}

//! What one person's account read is shown to that person alone, wherever it stands, until they share it.

use serde_json::{Value, json};

use super::outside::{Model, Upstream, answers, asks_for};
use super::{TurnFixture, issuer, tenant_key};
use crate::harness::Client;

const CANARY: &str = "canary of Ana's notes";

/// Looks at the notes once, then quotes what it found.
fn quoting(request: &Value) -> Value {
    let last = request["messages"].as_array().unwrap().last().unwrap();
    if last["role"] == "tool" {
        answers(&format!("I found: {}", last["content"]))
    } else {
        asks_for(&[("notes__look", "x".to_owned())])
    }
}

/// Everything that this caller can read of a thread; of the pages, where they have any.
async fn readable(fixture: &TurnFixture, who: &Client, thread: &str) -> String {
    let mut read = String::new();
    for path in ["messages", "turns", "export"] {
        read.push_str(&who.get(&format!("/v1/threads/{thread}/{path}")).await.expect(200).text);
    }
    read.push_str(&who.get(&format!("/v1/threads?space={}", fixture.space)).await.expect(200).text);
    if who.cookie.is_some() {
        for path in [format!("/me/threads/{thread}"), format!("/me/threads/{thread}/fragment"), "/me".to_owned()] {
            read.push_str(&who.get(&path).await.expect(200).text);
        }
    }
    read
}

async fn private_message(fixture: &TurnFixture, ana: &Client, thread: &str) -> String {
    let messages = fixture.messages(ana, thread).await;
    let private: Vec<&Value> = messages.iter().filter(|message| !message["private_to"].is_null()).collect();
    let [one] = private.as_slice() else { panic!("one message was read with her account: {messages:?}") };
    assert_eq!(one["private_to"], json!(ana.user.unwrap()));
    assert!(one["text"].as_str().unwrap().contains(CANARY), "{one}");
    one["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn l110_what_her_account_read_is_hers_until_she_shares_it() {
    let fixture = TurnFixture::new().await;
    let upstream = Upstream::start(Some(issuer().await), &["look"], |_| CANARY.to_owned()).await;
    let server = fixture.server(&upstream, "notes", json!({ "mode": "user_oauth" }), json!({})).await;
    let model = Model::start(quoting).await;
    fixture.agent(&model).await;
    let ana = fixture.app.member("ana").await;
    let bo = fixture.app.member("bo").await;
    fixture.connect(&ana, &server, &upstream).await;
    let token = json!({ "name": "x", "kind": "service", "audience": "api", "scopes": ["admin"] });
    let token = fixture.owner.post("/v1/tokens", token).await.expect(201).text_of("token");
    let service = fixture.app.bearer(&token);
    // What a tool answered to her, and what the agent made of it.
    for text in ["/tool notes__look {}", "What is in my notes?"] {
        let thread = fixture.thread(&ana, text).await;
        fixture.app.run_pending_jobs().await;
        let message = private_message(&fixture, &ana, &thread).await;
        assert!(ana.get(&format!("/me/threads/{thread}")).await.text.contains("Only you can see this message."));
        for other in [&bo, &fixture.owner, &service] {
            assert!(!readable(&fixture, other, &thread).await.contains("canary"), "{text}");
            let seen = fixture.messages(other, &thread).await;
            let seen = seen.iter().find(|seen| seen["id"] == *message).expect("that there is a message is seen");
            assert_eq!(seen["text"], "", "{seen}");
        }
        assert!(bo.get(&format!("/me/threads/{thread}")).await.text.contains("Only ana can see this message"));
        let share = format!("/v1/messages/{message}/share");
        for other in [&bo, &fixture.owner] {
            assert_eq!(other.post(&share, json!({})).await.expect(403).code(), "not_your_message");
        }
        assert_eq!(service.post(&share, json!({})).await.expect(403).code(), "needs_session");
        ana.post(&share, json!({})).await.expect(200);
        assert_eq!(ana.post(&share, json!({})).await.expect(200).json["private_to"], Value::Null, "twice is once");
        let seen = fixture.messages(&bo, &thread).await;
        let seen = seen.iter().find(|seen| seen["id"] == *message).unwrap();
        assert!(seen["text"].as_str().unwrap().contains(CANARY), "{seen}");
        let turns = bo.get(&format!("/v1/threads/{thread}/turns")).await.expect(200).text;
        assert!(!turns.contains("canary"), "what the steps read stays hers: {turns}");
    }
    let shared = fixture.owner.get("/v1/audit?action=message.shared").await.expect(200);
    assert_eq!(shared.json["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn l110_what_the_companys_key_read_is_for_the_space() {
    let fixture = TurnFixture::new().await;
    let upstream = Upstream::start(None, &["look"], |_| CANARY.to_owned()).await;
    fixture.server(&upstream, "notes", tenant_key(), json!({})).await;
    let ana = fixture.app.member("ana").await;
    let bo = fixture.app.member("bo").await;
    let thread = fixture.thread(&ana, "/tool notes__look {}").await;
    fixture.app.run_pending_jobs().await;
    assert!(fixture.messages(&bo, &thread).await.iter().any(|message| message["text"] == CANARY));
}

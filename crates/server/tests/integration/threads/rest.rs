//! Lists, changes, exports and keys.

use std::time::Duration;

use serde_json::json;

use super::thread;
use crate::harness::{Client, Response, TestApp};
use crate::spaces::space;

async fn listed(who: &Client, query: &str) -> Vec<String> {
    let list = who.get(&format!("/v1/threads?{query}")).await.expect(200);
    list.json["items"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_list_shows_what_was_asked_for_and_nothing_of_other_peoples_spaces() {
    let app = TestApp::new().await;
    let owner = app.owner().await;
    let ana = app.member("ana").await;
    let bo = app.member("bo").await;
    let open = space(&owner, "open", "public").await;
    let other = space(&owner, "other", "public").await;
    let secret = space(&owner, "secret", "private").await;
    let bill = thread(&ana, &open, "Find the 100% invoice").await;
    let call = thread(&bo, &other, "Call the customer").await;
    let hidden = thread(&owner, &secret, "Nobody else's").await;
    ana.patch(&format!("/v1/threads/{bill}"), json!({ "status": "done" })).await.expect(200);
    let check = async |query: String, expected: &[&str]| assert_eq!(listed(&ana, &query).await, expected, "{query}");
    check(String::new(), &[&bill, &call]).await;
    check(format!("space={open}"), &[&bill]).await;
    check(format!("space={secret}"), &[]).await;
    check("status=done".to_owned(), &[&bill]).await;
    check("status=todo".to_owned(), &[&call]).await;
    check("channel=CHAT".to_owned(), &[&bill, &call]).await;
    check("channel=HOOK".to_owned(), &[]).await;
    check(format!("requester={}", bo.user.unwrap()), &[&call]).await;
    check(format!("requester={}", app.owner), &[]).await;
    check("q=INVOICE".to_owned(), &[&bill]).await;
    check("q=100%25".to_owned(), &[&bill]).await;
    check("q=%25custom_".to_owned(), &[&call]).await;
    check("q=ustomer".to_owned(), &[]).await;
    check("q=find+inv".to_owned(), &[&bill]).await;
    check("q=else".to_owned(), &[]).await;
    check(format!("space={open}&status=todo"), &[]).await;
    check("status=done&channel=CHAT".to_owned(), &[&bill]).await;
    let by_ana = format!("requester={}", ana.user.unwrap());
    check(format!("{by_ana}&status=done&channel=CHAT"), &[&bill]).await;
    check(format!("{by_ana}&channel=HOOK"), &[]).await;
    check(format!("{by_ana}&space={open}&q=the"), &[&bill]).await;
    check(format!("{by_ana}&space={other}&q=the"), &[]).await;
    check("q=the&status=todo".to_owned(), &[&call]).await;
    check("q=the&channel=HOOK".to_owned(), &[]).await;
    check("q=the".to_owned(), &[&call, &bill]).await;
    ana.patch(&format!("/v1/threads/{call}"), json!({ "title": "Ring a bell" })).await.expect(200);
    check("q=customer".to_owned(), &[]).await;
    check("q=bell".to_owned(), &[&call]).await;
    ana.patch(&format!("/v1/threads/{bill}"), json!({ "status": "done" })).await.expect(200);
    assert_eq!(listed(&owner, "").await.len(), 3);
    for wrong in ["status=finished", "channel=FAX", "space=open", "after=yesterday", "limit=0"] {
        ana.get(&format!("/v1/threads?{wrong}")).await.expect(422);
    }
    let first = ana.get("/v1/threads?limit=1").await.expect(200);
    assert_eq!(first.json["items"][0]["id"], json!(bill));
    let next = first.text_of("next");
    let second = ana.get(&format!("/v1/threads?limit=1&after={next}")).await.expect(200);
    assert_eq!((&second.json["items"][0]["id"], &second.json["next"]), (&json!(call), &json!(null)));
    for path in ["", "/messages", "/turns", "/export", "/stream"] {
        ana.get(&format!("/v1/threads/{hidden}{path}")).await.expect(404);
    }
    ana.post(&format!("/v1/threads/{hidden}/messages"), json!({ "text": "Hello" })).await.expect(404);
}

#[tokio::test]
async fn a_change_is_refused_where_another_came_first() {
    let app = TestApp::new().await;
    let owner = app.owner().await;
    let id = thread(&owner, &space(&owner, "open", "public").await, "First").await;
    let path = format!("/v1/threads/{id}");
    let version = owner.get(&path).await.expect(200).json["version"].to_string();
    let change = async |version: &str, title: &str| -> Response {
        let request = owner.request("PATCH", &path).header("if-match", version);
        let body = json!({ "title": title }).to_string();
        owner.send(request.header("content-type", "application/json").body(body)).await
    };
    let changed = change(&format!("\"{version}\""), "Second").await.expect(200);
    assert_eq!(changed.json["title"], "Second");
    assert_eq!(change(&version, "Third").await.expect(412).code(), "changed_meanwhile");
    change("yesterday", "Third").await.expect(422);
    assert_eq!(owner.get(&path).await.json["title"], "Second");
    change("*", "Third").await.expect(200);
    for body in [
        json!({ "title": " " }),
        json!({ "title": "a\nb" }),
        json!({ "status": "finished" }),
        json!({ "channel": "HOOK" }),
    ] {
        owner.patch(&path, body).await.expect(422);
    }
}

#[tokio::test]
async fn an_export_holds_the_whole_thread_and_is_a_file() {
    let app = TestApp::new().await;
    let owner = app.owner().await;
    let id = thread(&owner, &space(&owner, "open", "public").await, "First").await;
    owner.post(&format!("/v1/threads/{id}/messages"), json!({ "text": "Second" })).await.expect(201);
    app.run_pending_jobs().await;
    let file = owner.get(&format!("/v1/threads/{id}/export")).await.expect(200);
    assert_eq!(file.header("content-disposition"), format!("attachment; filename=\"{id}.json\""));
    assert_eq!(file.json["thread"]["id"], json!(id));
    let messages = file.json["messages"].as_array().unwrap();
    assert_eq!(super::texts(messages, "user"), ["First", "Second"]);
    assert_eq!(messages.len(), 4, "and what the server said of each: {messages:?}");
    assert_eq!(file.json["turns"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_key_makes_one_thread_and_one_message_for_a_day() {
    let app = TestApp::new().await;
    let owner = app.owner().await;
    let ana = app.member("ana").await;
    let space = space(&owner, "open", "public").await;
    let post = async |who: &Client, path: &str, key: &str, text: &str| -> Response {
        let body = if path.ends_with("messages") {
            json!({ "text": text })
        } else {
            json!({ "space_id": space, "text": text })
        };
        let request = who.request("POST", path).header("idempotency-key", key);
        who.send(request.header("content-type", "application/json").body(body.to_string())).await
    };
    let made = post(&ana, "/v1/threads", "one", "First").await.expect(201);
    let again = post(&ana, "/v1/threads", "one", "First").await.expect(201);
    let id = made.text_of("id");
    assert_eq!((again.text_of("id"), again.header("location")), (id.clone(), made.header("location")));
    assert_eq!(post(&ana, "/v1/threads", "one", "Other").await.expect(409).code(), "idempotency_key_reused");
    assert_ne!(post(&owner, "/v1/threads", "one", "First").await.expect(201).text_of("id"), id, "another's key");
    assert_ne!(post(&ana, "/v1/threads", "two", "First").await.expect(201).text_of("id"), id);
    post(&ana, "/v1/threads", "", "First").await.expect(422);
    let messages = format!("/v1/threads/{id}/messages");
    // The same key at another operation is another key.
    let written = post(&ana, &messages, "one", "Second").await.expect(201).text_of("id");
    assert_eq!(post(&ana, &messages, "one", "Second").await.expect(201).text_of("id"), written);
    let both = ana.get(&messages).await.expect(200);
    assert_eq!(super::texts(both.json["items"].as_array().unwrap(), "user"), ["First", "Second"]);
    // At once, too.
    let (one, other) = tokio::join!(post(&ana, "/v1/threads", "race", "x"), post(&ana, "/v1/threads", "race", "x"));
    assert_eq!(one.expect(201).text_of("id"), other.expect(201).text_of("id"));
    assert_eq!(listed(&ana, "q=x").await.len(), 1);
    app.clock.advance(Duration::from_secs(24 * 3_600 + 1));
    let ana = app.session_of(ana.user.unwrap()).await;
    assert_ne!(post(&ana, "/v1/threads", "one", "First").await.expect(201).text_of("id"), id);
}

#[tokio::test]
async fn an_export_of_many_pages_is_one_whole_document() {
    let app = TestApp::new().await;
    let owner = app.owner().await;
    let id = thread(&owner, &space(&owner, "open", "public").await, "0").await;
    for number in 1..45 {
        owner.post(&format!("/v1/threads/{id}/messages"), json!({ "text": number.to_string() })).await.expect(201);
    }
    let file = owner.get(&format!("/v1/threads/{id}/export")).await.expect(200);
    assert_eq!(file.header("content-type"), "application/json");
    let said = super::texts(file.json["messages"].as_array().unwrap(), "user").join(" ");
    assert_eq!(said, (0..45).map(|number| number.to_string()).collect::<Vec<_>>().join(" "));
    assert_eq!(file.json["turns"].as_array().unwrap().len(), 45);
}

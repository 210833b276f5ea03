//! Authority in the write: what a request writes for somebody who was disabled, or lost their role, after it was let in
//! is refused.
//!
//! A request with `Expect: 100-continue` is told to go on when its handler asks for the body, which it does after it
//! asked who calls. What is changed then is changed between the two.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::fixture::Fixture;
use super::operations::{Who, body, described};
use crate::harness::{Client, execute_sql};

/// Longest wait for a part of an answer.
const DEADLINE: Duration = Duration::from_secs(60);

/// A request of which all but the body was sent, and that was let in.
struct LetIn {
    stream: TcpStream,
    body: String,
}

impl LetIn {
    async fn new(fixture: &Fixture, who: &Client, method: &str, path: &str, body: (&str, String)) -> Self {
        let (kind, body) = body;
        let mut stream = TcpStream::connect(fixture.app.address).await.unwrap();
        let cookie = who.cookie.as_deref().unwrap();
        let csrf = who.csrf.as_deref().unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncookie: {cookie}\r\nx-csrf-token: {csrf}\r\ncontent-type: {kind}\r\n\
             content-length: {}\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n",
            fixture.app.address,
            body.len(),
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut told = [0; 25];
        tokio::time::timeout(DEADLINE, stream.read_exact(&mut told)).await.unwrap().unwrap();
        assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n", "{method} {path}: {}", String::from_utf8_lossy(&told));
        Self { stream, body }
    }

    /// Sends the body; the answer's status and text.
    async fn finish(mut self) -> (String, String) {
        self.stream.write_all(self.body.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(DEADLINE, self.stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        let status = answer.split(' ').nth(1).unwrap().to_owned();
        (status, answer)
    }
}

/// What happens to the owner meanwhile, and how it is undone.
const CHANGES: [(&str, &str); 2] = [
    ("UPDATE user_account SET disabled_at = 1", "UPDATE user_account SET disabled_at = NULL"),
    ("UPDATE user_account SET role = 'member'", "UPDATE user_account SET role = 'owner'"),
];

async fn change_owner(fixture: &Fixture, sql: &str) {
    let tx = fixture.app.slices().db.write(fixture.app.tenant).await.unwrap();
    execute_sql(&tx, &format!("{sql} WHERE email = 'owner@acme.test'")).await.unwrap();
    tx.commit().await.unwrap();
}

/// Every way in which a request of the owner does not notice that they were changed.
async fn unnoticed(fixture: &Fixture, method: &str, path: &str, kind: &str, body: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for (change, undo) in CHANGES {
        let request = LetIn::new(fixture, &fixture.owner, method, path, (kind, body.to_owned())).await;
        change_owner(fixture, change).await;
        let (status, answer) = request.finish().await;
        change_owner(fixture, undo).await;
        if status != "401" || !answer.contains("Your access changed while this request ran") {
            wrong.push(format!("{method} {path} after {change}: {answer}"));
        }
    }
    wrong
}

#[tokio::test]
async fn no_write_of_an_operator_outruns_the_end_of_their_authority() {
    let fixture = Fixture::new().await;
    let shown = fixture.owner.get(&format!("/v1/mcp-servers/{}", fixture.id("mcp-servers"))).await.expect(200);
    let mut wrong = Vec::new();
    let mut seen = 0;
    for operation in described(&fixture.app).await {
        let grants = matches!(operation.who(), Who::Operator | Who::Consent) || operation.name == "POST /v1/tokens";
        // Who changes their password proves it with the one before, which is the test of that.
        if !grants || !operation.is_change() || !operation.takes_body || operation.name == "PUT /v1/me/password" {
            continue;
        }
        let body = match operation.name.as_str() {
            "POST /v1/mcp-servers/{id}/approve" => json!({ "definition_hash": shown.json["definition_hash"] }),
            name => body(name, &fixture),
        };
        assert_ne!(body, Value::Null, "{}", operation.name);
        let path = fixture.fill(&operation.path);
        wrong.extend(unnoticed(&fixture, &operation.method, &path, "application/json", &body.to_string()).await);
        seen += 1;
    }
    assert!(wrong.is_empty(), "open the write with Access::write_as:\n{}", wrong.join("\n"));
    assert!(seen >= 16, "only {seen} operations were tried");
}

#[tokio::test]
async fn no_form_of_an_operator_outruns_the_end_of_their_authority() {
    let fixture = Fixture::new().await;
    let space = fixture.id("open-space").to_owned();
    let server = fixture.id("mcp-servers").to_owned();
    let carl = fixture.carl.user.unwrap().to_string();
    let forms = [
        ("/admin/spaces".to_owned(), vec![("name", "Marker cellar"), ("access", "public"), ("prompt", "")]),
        (format!("/admin/spaces/{space}/members"), vec![("user_id", carl.as_str())]),
        ("/admin/webhooks".to_owned(), vec![("name", "hook"), ("space_id", space.as_str()), ("scheme", "bearer")]),
        (format!("/admin/mcp-servers/{server}/spaces"), vec![("space", space.as_str())]),
        (format!("/admin/mcp-servers/{server}/change"), vec![("name", "Marker")]),
        ("/admin/mcp-servers".to_owned(), vec![("name", "new"), ("url", &fixture.tools.url), ("mode", "none")]),
        (format!("/me/mcp-servers/{}/connect", fixture.id("me/mcp-servers")), vec![]),
    ];
    let mut wrong = Vec::new();
    for (path, fields) in forms {
        let mut body = url::form_urlencoded::Serializer::new(String::new());
        body.append_pair("csrf", fixture.owner.csrf.as_deref().unwrap()).extend_pairs(fields);
        let body = body.finish();
        wrong.extend(unnoticed(&fixture, "POST", &path, "application/x-www-form-urlencoded", &body).await);
    }
    assert!(wrong.is_empty(), "open the write with Access::write_as:\n{}", wrong.join("\n"));
}

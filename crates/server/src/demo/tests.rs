//! The sample authorization server's books, the loopback client's parser, the sender's signature, the account's lines.

use serde_json::{Value, json};
use thinkwork_primitives::{Clock, crypto};
use url::Url;

use super::browser::Browser;
use super::loopback::{Error, parse};
use super::narrator::Names;
use super::{ACCESS_TOKEN_LIFE, SampleServers, at, notes_server, sender};

const CALLBACK: &str = "http://127.0.0.1:9/oauth/callback/key";
const VERIFIER: &str = "a-verifier-of-at-least-forty-three-characters-0123456789";

/// Somebody else's client at Sample ID.
struct Client {
    outside: SampleServers,
    clock: Clock,
    browser: Browser,
    id: String,
}

impl Client {
    async fn new() -> Self {
        let clock = Clock::system();
        let outside = SampleServers::open(&clock).await.unwrap();
        let mut browser = Browser::default();
        let register = at(&outside.sample_id, "/register");
        let body = json!({ "client_name": "Test", "redirect_uris": [CALLBACK] });
        let made = browser.json("POST", &register, &body).await.unwrap().require(201).unwrap().json();
        Self { outside, clock, browser, id: made["client_id"].as_str().unwrap().to_owned() }
    }

    fn challenge() -> String {
        crypto::base64url(&crypto::sha256(VERIFIER.as_bytes()))
    }

    /// The authorize address, with parameters replaced; an empty value leaves one out.
    fn authorize(&self, replaced: &[(&str, &str)]) -> Url {
        let resource = self.outside.notes_endpoint().to_string();
        let challenge = Self::challenge();
        let all = [
            ("response_type", "code"),
            ("client_id", self.id.as_str()),
            ("redirect_uri", CALLBACK),
            ("state", "the-state"),
            ("code_challenge", challenge.as_str()),
            ("code_challenge_method", "S256"),
            ("resource", resource.as_str()),
        ];
        let mut url = at(&self.outside.sample_id, "/authorize");
        for (name, value) in all {
            let value = replaced.iter().find(|(of, _)| *of == name).map_or(value, |(_, value)| value);
            if !value.is_empty() {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        url
    }

    /// Consents and gives the address that Sample ID sends to.
    async fn consents(&mut self, decision: &str) -> Url {
        let page = self.browser.get(&self.authorize(&[])).await.unwrap().require(200).unwrap();
        let request = page.form_field("request").unwrap().to_owned();
        let fields = [("request", request.as_str()), ("account", "ana@sample.test"), ("decision", decision)];
        let consent = at(&self.outside.sample_id, "/consent");
        self.browser.form(&consent, &fields).await.unwrap().require(302).unwrap().location().unwrap()
    }

    async fn token(&mut self, fields: &[(&str, &str)]) -> (u16, Value) {
        let id = self.id.clone();
        let mut all = vec![("client_id", id.as_str())];
        all.extend_from_slice(fields);
        let reply = self.browser.form(&at(&self.outside.sample_id, "/token"), &all).await.unwrap();
        (reply.status, reply.json())
    }

    async fn exchange(&mut self, code: &str, verifier: &str) -> (u16, Value) {
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", CALLBACK),
            ("code_verifier", verifier),
        ];
        self.token(&fields).await
    }

    async fn refresh(&mut self, token: &str) -> (u16, Value) {
        self.token(&[("grant_type", "refresh_token"), ("refresh_token", token)]).await
    }

    /// The tokens of a fresh consent.
    async fn tokens(&mut self) -> (String, String) {
        let back = self.consents("allow").await;
        let (status, answer) = self.exchange(&query(&back, "code"), VERIFIER).await;
        assert_eq!(status, 200, "{answer}");
        (said(&answer, "access_token"), said(&answer, "refresh_token"))
    }

    /// What Notes answers to a call with this token.
    async fn notes(&self, token: &str) -> (u16, Option<String>, Value) {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": { "name": "search", "arguments": { "query": "INVOICE" } } });
        let mut headers = vec![("content-type", "application/json".to_owned())];
        if !token.is_empty() {
            headers.push(("authorization", format!("Bearer {token}")));
        }
        let endpoint = self.outside.notes_endpoint();
        let reply = super::loopback::exchange("POST", &endpoint, &headers, body.to_string().as_bytes()).await.unwrap();
        (reply.status, reply.header("www-authenticate").map(str::to_owned), reply.json())
    }
}

fn query(url: &Url, name: &str) -> String {
    url.query_pairs().find(|(of, _)| of == name).map(|(_, value)| value.into_owned()).unwrap_or_default()
}

fn said(answer: &Value, name: &str) -> String {
    answer[name].as_str().unwrap_or_else(|| panic!("no {name} in {answer}")).to_owned()
}

#[tokio::test]
async fn a_consent_ends_in_a_token_of_that_account_for_notes() {
    let mut client = Client::new().await;
    let back = client.consents("allow").await;
    let issuer = client.outside.sample_id.origin().ascii_serialization();
    assert_eq!((query(&back, "state").as_str(), query(&back, "iss")), ("the-state", issuer));
    let (_, answer) = client.exchange(&query(&back, "code"), VERIFIER).await;
    assert_eq!(answer["account"], "ana@sample.test");
    let (status, _, result) = client.notes(&said(&answer, "access_token")).await;
    let text = result["result"]["content"][0]["text"].as_str().unwrap();
    assert!(status == 200 && text.contains("INV-2041") && !text.contains("INV-7713"), "{result}");
}

#[tokio::test]
async fn a_denial_goes_back_as_such_and_a_consent_page_serves_once() {
    let mut client = Client::new().await;
    let back = client.consents("deny").await;
    assert_eq!((query(&back, "error").as_str(), query(&back, "code").as_str()), ("access_denied", ""));
    let page = client.browser.get(&client.authorize(&[])).await.unwrap();
    let request = page.form_field("request").unwrap().to_owned();
    let fields = [("request", request.as_str()), ("account", "ana@sample.test"), ("decision", "allow")];
    let consent = at(&client.outside.sample_id, "/consent");
    client.browser.form(&consent, &fields).await.unwrap().require(302).unwrap();
    client.browser.form(&consent, &fields).await.unwrap().require(400).unwrap();
}

#[tokio::test]
async fn what_is_asked_wrongly_is_refused() {
    let mut client = Client::new().await;
    for foreign in [("redirect_uri", "http://127.0.0.1:9/elsewhere"), ("client_id", "nobody")] {
        let url = client.authorize(&[foreign]);
        client.browser.get(&url).await.unwrap().require(400).unwrap();
    }
    let wrong = [
        (("response_type", "token"), "unsupported_response_type"),
        (("code_challenge_method", "plain"), "invalid_request"),
        (("code_challenge", ""), "invalid_request"),
        (("resource", ""), "invalid_target"),
        (("resource", "http://127.0.0.1:9/mcp"), "invalid_target"),
    ];
    for (replaced, error) in wrong {
        let url = client.authorize(&[replaced]);
        let back = client.browser.get(&url).await.unwrap().require(302).unwrap().location().unwrap();
        assert_eq!(query(&back, "error"), error, "{replaced:?}");
    }
}

#[tokio::test]
async fn a_code_needs_its_verifier_and_serves_once() {
    let mut client = Client::new().await;
    let code = query(&client.consents("allow").await, "code");
    assert_eq!(client.exchange(&code, "another-verifier").await.1["error"], "invalid_grant");
    let (status, answer) = client.exchange(&code, VERIFIER).await;
    assert_eq!(status, 200);
    assert_eq!(client.exchange(&code, VERIFIER).await.1["error"], "invalid_grant");
    // Who uses a code twice may have stolen it: what came of it has ended.
    assert_eq!(client.notes(&said(&answer, "access_token")).await.0, 401);
}

#[tokio::test]
async fn access_tokens_end_and_refresh_tokens_rotate() {
    let mut client = Client::new().await;
    let (access, refresh) = client.tokens().await;
    client.clock.advance(ACCESS_TOKEN_LIFE);
    let (status, challenge, _) = client.notes(&access).await;
    let challenge = challenge.unwrap();
    assert!(status == 401 && challenge.contains("invalid_token") && challenge.contains("resource_metadata=\"http://"));
    let (_, fresh) = client.refresh(&refresh).await;
    assert_eq!(client.notes(&said(&fresh, "access_token")).await.0, 200);
    assert_eq!(client.refresh(&refresh).await.1["error"], "invalid_grant");
    assert_eq!(client.notes(&said(&fresh, "access_token")).await.0, 401, "a spent refresh token ends its grant");
}

#[tokio::test]
async fn revoking_the_refresh_token_ends_the_grant() {
    let mut client = Client::new().await;
    let (access, refresh) = client.tokens().await;
    let revoke = at(&client.outside.sample_id, "/revoke");
    let id = client.id.clone();
    client.browser.form(&revoke, &[("token", &refresh), ("client_id", "nobody")]).await.unwrap().require(200).unwrap();
    assert_eq!(client.notes(&access).await.0, 200, "only its own client revokes");
    client.browser.form(&revoke, &[("token", &refresh), ("client_id", &id)]).await.unwrap().require(200).unwrap();
    assert_eq!(client.notes(&access).await.0, 401);
    assert_eq!(client.refresh(&refresh).await.0, 400);
}

#[tokio::test]
async fn notes_challenges_whoever_brings_no_token() {
    let client = Client::new().await;
    let (status, challenge, _) = client.notes("").await;
    let challenge = challenge.unwrap();
    assert!(status == 401 && !challenge.contains("invalid_token") && challenge.contains("resource_metadata="));
}

#[test]
fn notes_finds_only_the_accounts_own() {
    assert!(notes_server::search("ben@sample.test", "invoice").contains("INV-7713"));
    assert!(!notes_server::search("ben@sample.test", "").contains("INV-2041"));
    assert!(notes_server::search("nobody@sample.test", "").starts_with("No note"));
}

#[test]
fn the_sender_signs_as_standard_webhooks_does() {
    // The worked example of the Standard Webhooks specification's reference libraries.
    let key = b"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    use base64::Engine as _;
    let key = base64::engine::general_purpose::STANDARD.decode(key.strip_prefix(b"whsec_").unwrap_or(key)).unwrap();
    let body = br#"{"test": 2432232314}"#;
    let signature = sender::sign(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
    assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

#[test]
fn answers_are_read_by_length_by_chunks_and_to_the_end() {
    let body = |bytes: &[u8]| parse(bytes).map(|(status, _, body)| (status, String::from_utf8(body).unwrap()));
    let read = |text: &str| Some((200, text.to_owned()));
    assert_eq!(body(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokay"), read("ok"));
    assert_eq!(body(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nokay"), read("okay"));
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n3;a=b\r\noka\r\n1\r\ny\r\n0\r\n\r\n";
    assert_eq!(body(chunked), read("okay"));
    for broken in [
        &b""[..],
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.1 20\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nokay",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\noka\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\noka\r\n0\r\n\r\n",
    ] {
        assert_eq!(body(broken), None, "{}", String::from_utf8_lossy(broken));
    }
}

#[tokio::test]
async fn the_browser_never_leaves_this_machine() {
    for elsewhere in ["http://192.0.2.1/", "http://localhost/", "https://127.0.0.1/", "http://example.com/"] {
        let answer = Browser::default().get(&elsewhere.parse().unwrap()).await;
        assert!(matches!(answer, Err(Error::Elsewhere(_))), "{elsewhere}");
    }
}

#[test]
fn a_line_names_who_asked_and_whose_credential() {
    let mut names = Names::default();
    names.things.insert("usr_1".to_owned(), "Olivia".to_owned());
    names.grants.insert("con_1".to_owned(), ("Notes".to_owned(), "ana@sample.test".to_owned()));
    let event = json!({
        "at": "2026-01-31T12:03:04.5Z", "action": "credential.opened", "surface": "tool_call",
        "requester": { "kind": "user", "id": "usr_1" },
        "credential_subject": { "kind": "user", "user_id": "usr_1", "connection_id": "con_1" },
        "target": { "kind": "credential", "id": "crd_1" },
        "thread_id": "CHAT-01JABCDEFGH", "detail": { "tool": "notes__search" },
    });
    let line = "12:03:04  called notes__search, thread CHAT-…CDEFGH · asked by Olivia · using Olivia's Notes (ana@sample.test)";
    assert_eq!(names.line(&event), line);
    let event = json!({ "at": "2026-01-31T12:03:04Z", "action": "message.received",
        "requester": { "kind": "webhook", "id": "whk_1" }, "credential_subject": { "kind": "none" } });
    assert!(names.line(&event).ends_with(" · asked by webhook whk_1 · no personal credential"));
}

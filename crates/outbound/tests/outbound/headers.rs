//! What is sent: headers that cannot be sent are refused, and nothing is added.

use serde_json::json;
use thinkwork_outbound::{Error, Field, Request};
use thinkwork_primitives::Secret;

use crate::peer::{Peer, answer, loopback_client};

fn secret(text: &str) -> Secret {
    Secret::from_text(text.to_owned())
}

#[tokio::test]
async fn l55_line_breaks_and_nul_in_headers_are_refused() {
    let peer = Peer::start(&[&answer("200 OK", "", "")]).await;
    for value in ["canary\r\nx-evil: 1", "canary\n", "canary\rx", "canary\0", "\u{7f}canary"] {
        for request in [
            Request::get(peer.url("/")).header("x-key", value),
            Request::get(peer.url("/")).secret_header("x-key", "", &secret(value)),
            Request::get(peer.url("/")).secret_header("x-key", value, &secret("fine")),
            Request::get(peer.url("/")).header("x-key", value).header("x-other", "fine").body("text/plain", "x"),
        ] {
            let error = loopback_client().send(request).await.unwrap_err();
            assert_eq!(error, Error::InvalidHeader { name: "x-key".to_owned() }, "{value:?}");
            assert!(!format!("{error} {error:?}").contains("canary"));
            assert!(error.never_left() && !error.is_transient());
        }
    }
    for name in ["x key", "x:key", "x\r\nkey", "", "schl\u{fc}ssel"] {
        let error = loopback_client().send(Request::get(peer.url("/")).header(name, "value")).await.unwrap_err();
        assert!(matches!(error, Error::InvalidHeader { .. }), "{name:?}");
    }
    assert!(peer.requests().is_empty());
}

#[tokio::test]
async fn l55_headers_of_the_connection_cannot_be_set() {
    let peer = Peer::start(&[&answer("200 OK", "", "")]).await;
    for name in ["Host", "content-length", "Transfer-Encoding", "connection", "proxy-authorization", "upgrade"] {
        let request = Request::get(peer.url("/")).secret_header(name, "", &secret("internal.example"));
        let error = loopback_client().send(request).await.unwrap_err();
        assert!(matches!(error, Error::InvalidHeader { .. }), "{name}");
    }
    assert!(peer.requests().is_empty());
}

#[tokio::test]
async fn l52_nothing_is_sent_but_what_the_caller_names() {
    let peer = Peer::start(&[&answer("200 OK", "", "")]).await;
    let request = Request::post(peer.url("/a?b=c"))
        .secret_header("Authorization", "Bearer ", &secret("first"))
        .secret_header("Authorization", "Bearer ", &secret("token-of-the-connection"))
        .json(&json!({ "a": 1 }))
        .unwrap();
    loopback_client().send(request).await.unwrap();
    let mut lines: Vec<String> = peer.requests()[0].lines().map(str::to_owned).collect();
    assert_eq!(lines.remove(0), "POST /a?b=c HTTP/1.1");
    assert_eq!(lines.pop().unwrap(), "{\"a\":1}");
    lines.retain(|line| !line.is_empty());
    lines.sort();
    assert_eq!(
        lines,
        [
            "accept: */*".to_owned(),
            "authorization: Bearer token-of-the-connection".to_owned(),
            "content-length: 7".to_owned(),
            "content-type: application/json".to_owned(),
            format!("host: {}", peer.address),
            concat!("user-agent: thinkwork/", env!("CARGO_PKG_VERSION")).to_owned(),
        ]
    );
}

#[tokio::test]
async fn forms_are_encoded() {
    let peer = Peer::start(&[&answer("200 OK", "", "")]).await;
    let code = secret("a b&c=d+%\u{fc}*-._~");
    let fields = [("grant_type", Field::Text("authorization_code")), ("code", Field::Secret(&code))];
    loopback_client().send(Request::post(peer.url("/token")).form(&fields)).await.unwrap();
    let request = peer.requests().remove(0);
    assert!(request.contains("content-type: application/x-www-form-urlencoded\r\n"));
    assert!(request.ends_with("grant_type=authorization_code&code=a+b%26c%3Dd%2B%25%C3%BC*-._%7E"), "{request}");
}

#[test]
fn debug_shows_no_secret() {
    let request = Request::get("https://example.com/canary?canary")
        .header("x-canary", "canary")
        .secret_header("authorization", "canary", &secret("canary"))
        .body("text/plain", "canary");
    assert!(!format!("{request:?}").contains("canary"));
}

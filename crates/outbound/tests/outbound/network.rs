//! What happens on the wire: names that change their answer, redirects, and proxies of the environment.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use thinkwork_outbound::address::AddressKind;
use thinkwork_outbound::{Error, Outbound, Policy, RefusalReason, Request};
use thinkwork_primitives::Secret;

use crate::peer::{Answers, Peer, answer, loopback_client, loopback_policy};

const PUBLIC: &[&str] = &["93.184.216.34"];

fn refused(result: Result<impl Sized, Error>) -> RefusalReason {
    match result {
        Err(Error::Refused { why, .. }) => why,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it went out"),
    }
}

#[tokio::test]
async fn l56_s17_rebinding_is_refused_when_the_connection_opens() {
    for (second, kind) in [
        (&["127.0.0.1"][..], AddressKind::Loopback),
        (&["169.254.169.254"][..], AddressKind::Metadata),
        (&["10.0.0.7"][..], AddressKind::Private),
        (&["::ffff:127.0.0.1"][..], AddressKind::V4Mapped),
        (&["64:ff9b::7f00:1"][..], AddressKind::Nat64),
        (&["93.184.216.34", "10.0.0.7"][..], AddressKind::Private),
        (&["10.0.0.7", "93.184.216.34"][..], AddressKind::Private),
    ] {
        let outbound = Outbound::with_lookup(Policy::default(), Answers::new(&[PUBLIC, second])).unwrap();
        let url = outbound.check_url("https://rebind.example.com/").unwrap();
        outbound.resolve_check(&url).await.unwrap();
        let why = refused(outbound.send(Request::get(url.as_str())).await);
        assert_eq!(why, RefusalReason::Address(kind), "{second:?}");
    }
}

#[tokio::test]
async fn l56_resolve_check_looks_at_every_answer() {
    let outbound =
        Outbound::with_lookup(Policy::default(), Answers::new(&[&["93.184.216.34", "fd00::1"], &[]])).unwrap();
    let url = outbound.check_url("https://example.com/authorize").unwrap();
    assert_eq!(refused(outbound.resolve_check(&url).await), RefusalReason::Address(AddressKind::UniqueLocal));
    let error = outbound.resolve_check(&url).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }) && error.is_transient() && error.never_left());
}

#[tokio::test]
async fn l56_a_name_is_looked_up_once_and_the_checked_address_is_asked() {
    let peer = Peer::start(&[&answer("200 OK", "", "hello")]).await;
    let answers = Answers::new(&[&["127.0.0.1"], &["127.0.0.1"]]);
    let outbound = Outbound::with_lookup(loopback_policy(), Arc::<Answers>::clone(&answers)).unwrap();
    let url = format!("http://localhost:{}/", peer.address.port());
    let response = outbound.send(Request::get(url)).await.unwrap();
    assert_eq!((response.status, &response.body[..]), (200, &b"hello"[..]));
    assert_eq!(answers.left(), 1, "a second look-up could have had another answer");
}

#[tokio::test]
async fn l56_loopback_and_its_names_belong_together() {
    let lookup = Answers::new(&[&["127.0.0.1"], &["93.184.216.34"]]);
    let outbound = Outbound::with_lookup(loopback_policy(), lookup).unwrap();
    let why = refused(outbound.send(Request::get("https://innocent.example.com/")).await);
    assert_eq!(why, RefusalReason::Address(AddressKind::Loopback));
    let why = refused(outbound.send(Request::get("http://localhost:8080/")).await);
    assert_eq!(why, RefusalReason::Address(AddressKind::Global), "plain http leaves this machine for nobody");
}

#[tokio::test]
async fn l56_s17_no_redirect_is_followed_with_a_body_or_a_secret() {
    let trap = Peer::start(&[&answer("200 OK", "", "")]).await;
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
        let location = format!("location: {}\r\n", trap.url("/trap"));
        let peer = Peer::start(&[&answer(status, &location, "")]).await;
        let secret = Secret::from_text("a-secret-of-some-length".to_owned());
        let request = Request::post(peer.url("/token"))
            .secret_header("authorization", "Bearer ", &secret)
            .body("text/plain", "the body");
        let response = loopback_client().send(request).await.unwrap();
        assert!(status.starts_with(&response.status.to_string()), "{status}");
        assert_eq!(response.header("location"), Some(trap.url("/trap").as_str()));
        assert_eq!(peer.requests().len(), 1);
        let stream = loopback_client().stream(Request::get(peer.url("/sse"))).await.unwrap();
        assert!(!stream.is_success());
    }
    assert!(trap.requests().is_empty());
}

#[tokio::test]
async fn loopback_answers() {
    let peer = Peer::start(&[&answer("200 OK", "", "hello")]).await;
    let response = loopback_client().send(Request::get(peer.url("/"))).await.unwrap();
    assert_eq!(&response.body[..], b"hello");
}

/// Runs `loopback_answers` in a process whose environment names a proxy, since a process cannot safely change its own.
#[tokio::test]
async fn l56_s17_proxy_variables_are_ignored() {
    let proxy = Peer::start(&[&answer("502 Bad Gateway", "", "the proxy was asked")]).await;
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "network::loopback_answers"]).env_remove("NO_PROXY").env_remove("no_proxy");
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        command.env(name, proxy.url(""));
    }
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    assert!(proxy.requests().is_empty());
}

#[tokio::test]
async fn a_closed_port_is_a_failed_connection() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/path-canary?query-canary", listener.local_addr().unwrap());
    drop(listener);
    let error = loopback_client().send(Request::get(url).deadline(Duration::from_secs(5))).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }) && error.is_transient() && error.never_left(), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("canary"));
}

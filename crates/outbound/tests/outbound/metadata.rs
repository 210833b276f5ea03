//! Redirects of metadata documents: three at most, to the same origin, each checked.

use std::time::Duration;

use thinkwork_outbound::{Error, RefusalReason};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::peer::{Peer, answer, loopback_client, read_request};

const DEADLINE: Duration = Duration::from_secs(20);

fn redirect(location: &str) -> String {
    answer("302 Found", &format!("location: {location}\r\n"), "")
}

#[tokio::test]
async fn l56_three_redirects_of_the_same_origin_are_followed() {
    let document = answer("200 OK", "", "{\"issuer\":\"x\"}");
    let peer = Peer::start(&[&redirect("/a"), &redirect("b"), &redirect("?c"), &document]).await;
    let response = loopback_client().get_metadata(&peer.url("/"), DEADLINE).await.unwrap();
    let value: serde_json::Value = response.json().unwrap();
    assert_eq!(value["issuer"], "x");
    let requests = peer.requests();
    let paths: Vec<_> = requests.iter().map(|request| request.split(' ').nth(1).unwrap()).collect();
    assert_eq!(paths, ["/", "/a", "/b", "/b?c"]);
    assert!(requests.iter().all(|request| request.contains("accept: application/json\r\n")));
}

#[tokio::test]
async fn l56_the_fourth_redirect_is_refused() {
    let peer = Peer::start(&[&redirect("/again")]).await;
    let error = loopback_client().get_metadata(&peer.url("/"), DEADLINE).await.unwrap_err();
    assert!(matches!(error, Error::Refused { why: RefusalReason::RedirectCount, .. }), "{error:?}");
    assert_eq!(peer.requests().len(), 4);
}

#[tokio::test]
async fn l56_s17_redirects_elsewhere_are_refused() {
    let trap = Peer::start(&[&answer("200 OK", "", "{}")]).await;
    for location in [
        trap.url("/other-port"),
        format!("//{}/", trap.address),
        "https://169.254.169.254/latest/meta-data/".to_owned(),
        "http://169.254.169.254/".to_owned(),
        "https://example.com/".to_owned(),
        "file:///etc/passwd".to_owned(),
        "/\\169.254.169.254/".to_owned(),
        "//169.254.169.254".to_owned(),
    ] {
        let peer = Peer::start(&[&redirect(&location)]).await;
        let error = loopback_client().get_metadata(&peer.url("/"), DEADLINE).await.unwrap_err();
        let refused =
            matches!(error, Error::Refused { why: RefusalReason::RedirectOrigin | RefusalReason::Characters, .. });
        assert!(refused, "{location}: {error:?}");
        assert_eq!(peer.requests().len(), 1);
    }
    assert!(trap.requests().is_empty());
}

#[tokio::test]
async fn l56_a_redirect_of_the_same_origin_is_checked_like_the_first_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut task = JoinSet::new();
    task.spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        read_request(&mut socket).await;
        let answer = redirect(&format!("http://user@{address}/"));
        socket.write_all(answer.as_bytes()).await.unwrap();
    });
    let error = loopback_client().get_metadata(&format!("http://{address}/"), DEADLINE).await.unwrap_err();
    assert!(matches!(error, Error::Refused { why: RefusalReason::UserInfo, .. }), "{error:?}");
}

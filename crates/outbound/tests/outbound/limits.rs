//! Sizes and times: an answer is cut off where the caller said.

use std::time::Duration;

use thinkwork_outbound::{Error, Request};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::peer::{Peer, answer, loopback_client, read_request};

const SHORT: Duration = Duration::from_millis(50);

#[tokio::test]
async fn l56_answers_that_are_too_large_are_cut_off() {
    let body = "x".repeat(1_000);
    let announced = answer("200 OK", "", &body);
    let unannounced = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{body}");
    let chunked =
        format!("HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n3e8\r\n{body}\r\n0\r\n\r\n");
    for answer in [announced, unannounced, chunked] {
        let peer = Peer::start(&[&answer]).await;
        let get = || Request::get(peer.url("/"));
        assert_eq!(loopback_client().send(get().body_bytes_max(1_000)).await.unwrap().body.len(), 1_000);
        let error = loopback_client().send(get().body_bytes_max(999)).await.unwrap_err();
        assert!(matches!(error, Error::TooLarge { bytes_max: 999, .. }), "{error:?}");
        let stream = loopback_client().stream(get().body_bytes_max(999)).await.unwrap();
        assert!(matches!(stream.collect().await, Err(Error::TooLarge { .. })));
    }
}

#[tokio::test]
async fn l56_a_silent_server_ends_at_the_deadline() {
    let peer = Peer::start(&[""]).await;
    let asked = async {
        let error = loopback_client().send(Request::get(peer.url("/")).deadline(SHORT)).await.unwrap_err();
        assert!(matches!(error, Error::Timeout { .. }) && error.is_transient() && !error.never_left(), "{error:?}");
        let error = loopback_client().stream(Request::get(peer.url("/")).deadline(SHORT)).await.unwrap_err();
        assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
        let error = loopback_client().get_metadata(&peer.url("/"), SHORT).await.unwrap_err();
        assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
    };
    // Far more than it takes, and less than any deadline that nobody asked for.
    tokio::time::timeout(Duration::from_secs(20), asked).await.expect("the deadline that was asked for ends it");
}

#[tokio::test]
async fn a_body_that_stops_ends_at_the_deadline() {
    let peer = Peer::start(&["HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", ""]).await;
    let error = loopback_client().send(Request::get(peer.url("/")).deadline(SHORT)).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
}

#[tokio::test]
async fn a_connection_that_breaks_is_told() {
    let peer = Peer::start(&["HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"]).await;
    let error = loopback_client().send(Request::get(peer.url("/"))).await.unwrap_err();
    assert!(matches!(error, Error::Broken { .. }) && !error.never_left(), "{error:?}");
    let peer = Peer::start(&["no http\r\n\r\n"]).await;
    let error = loopback_client().send(Request::get(peer.url("/"))).await.unwrap_err();
    assert!(matches!(error, Error::Broken { .. }), "{error:?}");
}

#[tokio::test]
async fn a_stream_gives_its_pieces_and_ends() {
    let peer = Peer::start(&[&answer("200 OK", "content-type: text/event-stream\r\n", "data: 1\n\ndata: 2\n\n")]).await;
    let mut response = loopback_client().stream(Request::get(peer.url("/"))).await.unwrap();
    assert!(response.is_success());
    assert_eq!(response.header("content-type"), Some("text/event-stream"));
    let mut text = Vec::new();
    while let Some(piece) = response.next_chunk().await.unwrap() {
        text.extend_from_slice(&piece);
    }
    assert_eq!(text, b"data: 1\n\ndata: 2\n\n");
}

#[tokio::test]
async fn a_stream_that_falls_silent_ends() {
    let peer = Peer::start(&["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n", ""]).await;
    let mut response = loopback_client().stream(Request::get(peer.url("/")).stream_idle(SHORT)).await.unwrap();
    assert_eq!(response.next_chunk().await.unwrap().unwrap(), "first");
    assert!(matches!(response.next_chunk().await, Err(Error::Timeout { .. })));
    assert!(matches!(response.next_chunk().await, Ok(None)), "after an error the stream has ended");
}

#[tokio::test]
async fn a_stream_that_never_ends_is_ended() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let mut task = JoinSet::new();
    task.spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        read_request(&mut socket).await;
        socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        while socket.write_all(b": still here\n").await.is_ok() {}
    });
    let request = Request::get(url).stream_lifetime(SHORT).body_bytes_max(1 << 28);
    let mut response = loopback_client().stream(request).await.unwrap();
    let error = loop {
        match response.next_chunk().await {
            Ok(chunk) => assert!(chunk.is_some()),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
}

//! Connections that strangers hold: each ends in time, and of one address there are no more than may be.

use std::sync::Arc;
use std::time::Duration;

use thinkwork::commands::serve::serve;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::harness::TestApp;

/// Longer than a connection may be without a whole head.
const PATIENCE: Duration = Duration::from_secs(20);

/// What comes until the server closes the connection.
async fn until_closed(socket: &mut TcpStream) -> String {
    let mut read = Vec::new();
    timeout(PATIENCE, socket.read_to_end(&mut read)).await.expect("the connection stays open").unwrap_or_default();
    String::from_utf8(read).unwrap()
}

#[tokio::test]
async fn l111_connections_without_a_whole_head_end() {
    let app = TestApp::new().await;
    let mut silent = TcpStream::connect(app.address).await.unwrap();
    let mut half = TcpStream::connect(app.address).await.unwrap();
    half.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n").await.unwrap();
    tokio::join!(until_closed(&mut silent), until_closed(&mut half));
}

#[tokio::test]
async fn l111_one_address_has_no_more_than_its_connections_and_leaves_others_theirs() {
    let app = TestApp::new().await;
    let per_address = app.slices().config.connections_per_address_max;
    let mut held = Vec::new();
    for _ in 0..per_address {
        held.push(TcpStream::connect(app.address).await.unwrap());
    }
    let open = || app.slices().metrics.connections.open.get();
    let all_open = async {
        while open() < i64::from(per_address) {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, all_open).await.expect("as many as it may have are served");
    let mut more = TcpStream::connect(app.address).await.unwrap();
    assert_eq!(until_closed(&mut more).await, "");
    assert!(app.slices().metrics.connections.refused.get() > 0);
    held.pop();
    let served = async {
        loop {
            let mut again = TcpStream::connect(app.address).await.unwrap();
            let request = format!("GET /livez HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", app.address);
            if again.write_all(request.as_bytes()).await.is_ok() {
                let answer = until_closed(&mut again).await;
                if answer.starts_with("HTTP/1.1 200") {
                    return;
                }
            }
        }
    };
    timeout(PATIENCE, served).await.expect("a place that became free is given again");
}

#[tokio::test]
async fn s23_a_request_names_one_host_and_it_is_ours() {
    let app = TestApp::new().await;
    let ours = app.address;
    for (target, hosts, status) in [
        ("/livez", format!("Host: {ours}\r\n"), 200),
        ("/livez", format!("Host: {ours}\r\nHost: evil.test\r\n"), 400),
        ("http://evil.test/livez", format!("Host: {ours}\r\n"), 421),
        (&format!("http://{ours}/livez"), "Host: evil.test\r\n".to_owned(), 200),
        ("/livez", "Host: evil.test\r\n".to_owned(), 421),
    ] {
        let mut socket = TcpStream::connect(ours).await.unwrap();
        let request = format!("GET {target} HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let answer = until_closed(&mut socket).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{target} {hosts}: {answer}");
    }
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let app = TestApp::new().await;
    let mut socket = TcpStream::connect(app.address).await.unwrap();
    let head = format!("GET /livez HTTP/1.1\r\nHost: {}\r\nX-Large: {}\r\n\r\n", app.address, "a".repeat(80 * 1024));
    drop(socket.write_all(head.as_bytes()).await);
    assert!(until_closed(&mut socket).await.starts_with("HTTP/1.1 431"));
}

/// Sends a request on an open connection and reads until the answer's body has come.
async fn ask(socket: &mut TcpStream, path: &str, host: &str, body: &str) -> String {
    socket.write_all(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await.unwrap();
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).ends_with(body) {
        assert_ne!(
            timeout(PATIENCE, socket.read_buf(&mut read)).await.expect("no answer").unwrap(),
            0,
            "{path}: reset"
        );
    }
    String::from_utf8(read).unwrap()
}

#[tokio::test]
async fn a_process_that_stops_says_so_first_and_resets_no_connection() {
    let app = TestApp::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let host = app.address.to_string();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(serve(Arc::clone(&app.app), listener, async move { drop(stopped.await) }));
    let mut kept = TcpStream::connect(address).await.unwrap();
    let answer = ask(&mut kept, "/livez", &host, "ok").await;
    assert!(!answer.to_lowercase().contains("connection: close"), "{answer}");
    let mut idle = TcpStream::connect(address).await.unwrap();
    ask(&mut idle, "/livez", &host, "ok").await;
    drop(stop);
    timeout(PATIENCE, async {
        while !app.app.shutdown.has_begun() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it stops");
    // Whoever balances the load hears it on a new connection, and who has one open is served once more and told to close it.
    let mut probe = TcpStream::connect(address).await.unwrap();
    let ready = ask(&mut probe, "/readyz", &host, "}").await;
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains(r#""problems":["shutting_down"]"#), "{ready}");
    for socket in [&mut kept, &mut idle] {
        let answer = ask(socket, "/livez", &host, "ok").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.to_lowercase().contains("connection: close"), "{answer}");
        assert_eq!(until_closed(socket).await, "");
    }
    assert_eq!(until_closed(&mut probe).await, "");
    // No connection is open any more, so it does not wait until the delay is over.
    timeout(app.app.config.shutdown_delay, serving).await.expect("it waits for nobody").unwrap();
}

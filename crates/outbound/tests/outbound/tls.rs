//! TLS: a certificate is trusted if the platform or the deployment's own root says so, for its own name.

use std::sync::Arc;

use thinkwork_outbound::{Error, Outbound, Policy, Request, install_crypto_provider};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::peer::loopback_policy;

const ROOT: &[u8] = include_bytes!("fixtures/root.pem");

/// Serves TLS as `localhost` and gives its port, and the task that is the server.
async fn serve() -> (u16, JoinSet<()>) {
    install_crypto_provider();
    let certificate = CertificateDer::from_pem_slice(include_bytes!("fixtures/localhost.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("fixtures/localhost-key.pem")).unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut task = JoinSet::new();
    task.spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            // A client that does not trust us leaves within the handshake.
            let Ok(mut socket) = acceptor.accept(socket).await else {
                continue;
            };
            assert!(socket.read(&mut [0; 4_096]).await.unwrap() > 0);
            let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
            socket.write_all(answer).await.unwrap();
            socket.shutdown().await.unwrap();
        }
    });
    (port, task)
}

#[tokio::test]
async fn an_extra_root_is_trusted_for_the_names_it_signed() {
    let (port, _task) = serve().await;
    let policy = Policy { extra_roots_pem: vec![ROOT.to_vec()], ..loopback_policy() };
    let outbound = Outbound::new(policy).unwrap();
    let response = outbound.send(Request::get(format!("https://localhost:{port}/"))).await.unwrap();
    assert_eq!(&response.body[..], b"ok");
    let error = outbound.send(Request::get(format!("https://127.0.0.1:{port}/"))).await.unwrap_err();
    assert!(matches!(error, Error::Tls { .. }), "{error:?}");
}

#[tokio::test]
async fn an_unknown_root_is_not_trusted() {
    let (port, _task) = serve().await;
    let outbound = Outbound::new(loopback_policy()).unwrap();
    let error = outbound.send(Request::get(format!("https://localhost:{port}/"))).await.unwrap_err();
    assert!(matches!(error, Error::Tls { .. }) && error.never_left() && !error.is_transient(), "{error:?}");
}

#[test]
fn a_root_that_is_no_certificate_stops_the_start() {
    let policy = Policy { extra_roots_pem: vec![b"nonsense".to_vec()], ..Policy::default() };
    assert!(matches!(Outbound::new(policy), Err(Error::Setup { .. })));
}

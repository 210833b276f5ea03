//! The whole boundary at once, through requests that are really sent: every kind of address in every position, names
//! that change their answer, redirects, and proxies of the environment, one variable at a time.

use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use thinkwork_outbound::{Error, Lookup, LookupAnswer, Outbound, Policy, Request};
use thinkwork_primitives::Secret;

use crate::peer::{Answers, Peer, answer, loopback_client, loopback_policy};

const PUBLIC: &str = "93.184.216.34";

/// One address of each closed range.
const CLOSED: [&str; 43] = [
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.0.1",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "64:ff9b::127.0.0.1",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:1::1",
    "2001:2::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "2600::5efe:127.0.0.1",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
];

fn is_refused<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::Refused { .. }))
}

/// A resolver that always has the same answer.
struct Always(Vec<IpAddr>);

impl Lookup for Always {
    fn lookup(&self, _host: &str) -> LookupAnswer {
        let answer = self.0.clone();
        Box::pin(async move { Ok(answer) })
    }
}

/// Every way out of the client.
async fn all_ways_refuse(outbound: &Outbound, url: &str) {
    let deadline = Duration::from_secs(5);
    let secret = Secret::from_text("a-secret-of-some-length".to_owned());
    let post = || Request::post(url).secret_header("authorization", "Bearer ", &secret).body("text/plain", "body");
    assert!(is_refused(outbound.send(Request::get(url).deadline(deadline)).await), "{url} was asked");
    assert!(is_refused(outbound.send(post().deadline(deadline)).await), "{url} was sent to");
    assert!(is_refused(outbound.stream(Request::get(url).deadline(deadline)).await), "{url} was streamed");
    assert!(is_refused(outbound.get_metadata(url, deadline).await), "{url} was read");
}

#[tokio::test]
async fn s17_no_closed_address_is_reached_as_a_literal_or_behind_a_name() {
    let plain = Outbound::new(Policy::default()).unwrap();
    for address in CLOSED {
        let literal =
            if address.contains(':') { format!("https://[{address}]/") } else { format!("https://{address}/") };
        all_ways_refuse(&plain, &literal).await;
        // Behind a name, alone and among good ones, in either order.
        for answers in [vec![address], vec![PUBLIC, address], vec![address, PUBLIC]] {
            let answers = answers.into_iter().map(|answer| answer.parse().unwrap()).collect();
            let named = Outbound::with_lookup(Policy::default(), Arc::new(Always(answers))).unwrap();
            all_ways_refuse(&named, "https://innocent.example.com/").await;
        }
    }
}

#[tokio::test]
async fn s17_a_name_that_changes_its_answer_after_the_check_reaches_nothing() {
    for address in CLOSED {
        let answers = Answers::new(&[&[PUBLIC], &[address]]);
        let outbound = Outbound::with_lookup(Policy::default(), Arc::<Answers>::clone(&answers)).unwrap();
        let url = outbound.check_url("https://rebind.example.com/").unwrap();
        outbound.resolve_check(&url).await.unwrap();
        assert!(is_refused(outbound.send(Request::post(url.as_str()).body("text/plain", "body")).await), "{address}");
        assert_eq!(answers.left(), 0, "the second answer was looked at");
    }
    // Even where loopback is open, a public name does not lead there.
    let trap = Peer::start(&[&answer("200 OK", "", "")]).await;
    let port = trap.address.port();
    let open = Policy { ports: vec![port], ..loopback_policy() };
    let outbound = Outbound::with_lookup(open, Answers::new(&[&["127.0.0.1"]])).unwrap();
    let url = format!("https://rebind.example.com:{port}/");
    assert!(is_refused(outbound.send(Request::post(url).body("text/plain", "body")).await));
    assert!(trap.requests().is_empty());
}

#[tokio::test]
async fn s17_a_307_takes_neither_body_nor_secret_anywhere() {
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let trap = Peer::start(&[&answer("200 OK", "", "{}")]).await;
        // To another origin, and to the same one: a body follows to neither.
        for location in [trap.url("/trap"), "/elsewhere".to_owned()] {
            let peer = Peer::start(&[&answer(status, &format!("location: {location}\r\n"), "")]).await;
            let secret = Secret::from_text("a-secret-of-some-length".to_owned());
            for request in [Request::post(peer.url("/token")), Request::get(peer.url("/token"))] {
                let request = request.secret_header("authorization", "Bearer ", &secret).body("text/plain", "the body");
                let response = loopback_client().send(request).await.unwrap();
                assert_eq!(response.status.to_string(), status.split(' ').next().unwrap());
            }
            let asked: Vec<String> = peer.requests();
            assert_eq!(asked.len(), 2, "{status} {location}");
            assert!(asked.iter().all(|request| request.contains(" /token ") && request.ends_with("the body")));
            // A document may be elsewhere at its own origin, never at another one.
            let read = loopback_client().get_metadata(&peer.url("/document"), Duration::from_secs(5)).await;
            assert!(is_refused(read), "{status} {location}");
        }
        assert!(trap.requests().is_empty(), "{status} was followed");
    }
}

/// Each variable alone, in a process of its own, since a process cannot safely change its environment.
#[tokio::test]
async fn s17_no_proxy_variable_is_read() {
    let names = [
        "HTTP_PROXY",
        "http_proxy",
        "HTTPS_PROXY",
        "https_proxy",
        "ALL_PROXY",
        "all_proxy",
        "SOCKS_PROXY",
        "socks_proxy",
    ];
    for name in names {
        let proxy = Peer::start(&[&answer("502 Bad Gateway", "", "the proxy was asked")]).await;
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "network::loopback_answers"]);
        for other in names.into_iter().chain(["NO_PROXY", "no_proxy"]) {
            command.env_remove(other);
        }
        command.env(name, proxy.url(""));
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && text.contains("1 passed"), "{name}: {text}");
        assert!(proxy.requests().is_empty(), "{name}");
    }
}

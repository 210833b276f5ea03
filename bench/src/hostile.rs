//! What a sender and a person notice of somebody who floods the server without a credential, from many addresses:
//! connections that never send a whole request, webhook requests that are not signed, and sign-ins with wrong passwords.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use reqwest::{Client, RequestBuilder};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::deployment::{Deployment, Server};
use crate::engine::Engine;
use crate::load::Sender;
use crate::wait::until;
use crate::webhook::webhook;
use crate::{Failure, figure};

/// Each is below the limits of an address.
const ADDRESSES: u8 = 200;
const HALF_OPEN_EACH: u32 = 50;
/// A thousand a second from all addresses.
const PER_SECOND_EACH: u32 = 5;
/// Long enough that minutes turn and half-open connections end meanwhile.
const LASTING: Duration = Duration::from_secs(60);
/// How often the sender sends.
const SEND_EVERY: Duration = Duration::from_millis(20);
/// How often the person reads: a person has 600 requests a minute.
const READ_EVERY: Duration = Duration::from_millis(120);
/// How often a connection that was closed is opened again.
const CONNECT_EVERY: Duration = Duration::from_secs(1);

/// The flood so far: connections that are open, and requests that were answered.
#[derive(Default)]
struct Flood {
    half_open: AtomicU32,
    webhooks: AtomicU32,
    sign_ins: AtomicU32,
}

/// Prints the p99 of a verified webhook and of a signed-in page, without and with the flood, and what the flood was.
pub(crate) async fn figures(binary: &Path, folder: &Path, engine: &Engine) -> Result<(), Failure> {
    raise_open_files()?;
    let deployment = Deployment::make(binary, folder, engine, "hostile").await?;
    let server = deployment.serve_with_limits("web,worker").await?;
    let (path, secret) = webhook(&server).await?;
    let url = format!("{}{path}", server.base);
    let sender = Sender::new(&secret)?;
    notice("calm", &server, &sender, &url).await?;

    let flood = Arc::new(Flood::default());
    let running = start(&server, &url, &flood)?;
    until("the flood comes from every address", async || {
        let addresses = u32::from(ADDRESSES);
        Ok(flood.half_open.load(Ordering::Relaxed) == addresses.saturating_mul(HALF_OPEN_EACH)
            && flood.webhooks.load(Ordering::Relaxed) >= addresses
            && flood.sign_ins.load(Ordering::Relaxed) >= addresses)
    })
    .await?;
    let webhooks = flood.webhooks.load(Ordering::Relaxed);
    let sign_ins = flood.sign_ins.load(Ordering::Relaxed);
    let began = Instant::now();
    notice("hostile", &server, &sender, &url).await?;
    let seconds = began.elapsed().as_secs_f64();
    let per_second = |now: u32, before: u32| f64::from(now.saturating_sub(before)) / seconds;
    figure("half_open_connections", f64::from(flood.half_open.load(Ordering::Relaxed)));
    figure("unsigned_webhooks_per_second", per_second(flood.webhooks.load(Ordering::Relaxed), webhooks));
    figure("wrong_sign_ins_per_second", per_second(flood.sign_ins.load(Ordering::Relaxed), sign_ins));
    drop(running);
    server.process.stop()
}

/// So many connections at one time are more than most systems give a program at first.
fn raise_open_files() -> Result<(), Failure> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

/// Starts the flood, which goes on until the set is dropped.
fn start(server: &Server, url: &str, flood: &Arc<Flood>) -> Result<JoinSet<()>, Failure> {
    let address: SocketAddr = server.base.trim_start_matches("http://").parse()?;
    let mut running = JoinSet::new();
    for number in 1..=ADDRESSES {
        for _ in 0..HALF_OPEN_EACH {
            running.spawn(hold_half_open(IpAddr::from([127, 0, 1, number]), address, Arc::clone(flood)));
        }
        let unsigned = client([127, 0, 2, number])?.post(url).header("content-type", "application/json").body("{}");
        running.spawn(repeat(unsigned, Arc::clone(flood), |flood| &flood.webhooks));
        let guess = json!({ "email": format!("person{number}@bench.test"), "password": "a wrong password" });
        let sign_in = client([127, 0, 3, number])?.post(format!("{}/v1/sessions", server.base));
        let sign_in = sign_in.header("content-type", "application/json").body(guess.to_string());
        running.spawn(repeat(sign_in, Arc::clone(flood), |flood| &flood.sign_ins));
    }
    Ok(running)
}

fn client(from: [u8; 4]) -> Result<Client, Failure> {
    // No certificates: hundreds of clients would read those of the system.
    Ok(Client::builder().no_proxy().tls_certs_only([]).local_address(IpAddr::from(Ipv4Addr::from(from))).build()?)
}

/// Ticks that are not made up for where one was late.
fn every(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

/// Begins a request, sends no more of it, and connects again once the server has closed the connection.
async fn hold_half_open(from: IpAddr, to: SocketAddr, flood: Arc<Flood>) {
    let mut tries = every(CONNECT_EVERY);
    loop {
        tries.tick().await;
        if let Ok(socket) = TcpSocket::new_v4()
            && socket.bind(SocketAddr::new(from, 0)).is_ok()
            && let Ok(mut connection) = socket.connect(to).await
        {
            flood.half_open.fetch_add(1, Ordering::Relaxed);
            if connection.write_all(b"GET /sign-in HTTP/1.1\r\nHost:").await.is_ok() {
                let mut answer = Vec::new();
                drop(connection.read_to_end(&mut answer).await);
            }
            flood.half_open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Sends the request again and again, whether or not the one before was answered.
async fn repeat(request: RequestBuilder, flood: Arc<Flood>, counter: fn(&Flood) -> &AtomicU32) {
    let mut ticks = every(Duration::from_secs(1) / PER_SECOND_EACH);
    let mut open = JoinSet::new();
    loop {
        ticks.tick().await;
        while open.try_join_next().is_some() {}
        let Some(request) = request.try_clone() else { return };
        let flood = Arc::clone(&flood);
        open.spawn(async move {
            if request.send().await.is_ok() {
                counter(&flood).fetch_add(1, Ordering::Relaxed);
            }
        });
    }
}

/// Sends events and reads a page for a while, and prints the p99 of both.
async fn notice(name: &str, server: &Server, sender: &Sender, url: &str) -> Result<(), Failure> {
    let began = Instant::now();
    let send = async {
        let mut took = Vec::new();
        let mut ticks = every(SEND_EVERY);
        while began.elapsed() < LASTING {
            ticks.tick().await;
            let sent = Instant::now();
            let id = format!("{name}-{}", took.len());
            let answer = sender.sign(server.client.post(url), &id, "{}".to_owned()).send().await?;
            if !answer.status().is_success() {
                return Err(format!("a signed event was answered {}", answer.status()).into());
            }
            took.push(sent.elapsed().as_secs_f64() * 1_000.0);
        }
        Ok::<_, Failure>(took)
    };
    let read = async {
        let mut took = Vec::new();
        let mut ticks = every(READ_EVERY);
        while began.elapsed() < LASTING {
            ticks.tick().await;
            let asked = Instant::now();
            server.read("/me").await?;
            took.push(asked.elapsed().as_secs_f64() * 1_000.0);
        }
        Ok::<_, Failure>(took)
    };
    let (sent, read) = tokio::try_join!(send, read)?;
    figure(&format!("{name}_webhook_p99_ms"), p99(sent));
    figure(&format!("{name}_page_p99_ms"), p99(read));
    Ok(())
}

fn p99(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() * 99 / 100).copied().unwrap_or_default()
}

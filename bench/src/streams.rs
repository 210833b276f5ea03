//! What open streams cost in which nothing happens, and what they take from the work beside them.

use std::path::Path;
use std::time::{Duration, Instant};

use reqwest::{Method, Response};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::deployment::{Deployment, Server, text};
use crate::engine::Engine;
use crate::load::{Sender, Until};
use crate::webhook::{DRAIN_CONNECTIONS, turns_ended, webhook};
use crate::{Failure, figure, median};

/// Forty readers with fifty streams each, which is as many as one may have.
const READERS: usize = 40;
const STREAMS_EACH: usize = 50;
const THREADS: usize = 100;
/// In which each idle stream looks once by itself.
const IDLE: Duration = Duration::from_secs(30);
const ROUNDS: usize = 3;
const EVENTS: u64 = 2_000;

/// The share of a core that a server with 2,000 idle streams takes, and the rate at which events are worked on with them, of the rate
/// without them.
pub(crate) async fn figures(binary: &Path, folder: &Path, engine: &Engine) -> Result<(), Failure> {
    let deployment = Deployment::make(binary, folder, engine, "streams").await?;
    let server = deployment.serve("web,worker").await?;
    let (path, secret) = webhook(&server).await?;
    let url = format!("{}{path}", server.base);
    let sender = Sender::new(&secret)?;
    let db = deployment.database.open().await?;
    let rate = async || -> Result<f64, Failure> {
        let mut rates = Vec::new();
        for _ in 0..ROUNDS {
            let began = Instant::now();
            let sent = sender.send(&url, DRAIN_CONNECTIONS, Until::Sent(EVENTS)).await?;
            turns_ended(&db).await?;
            rates.push(sent.events / began.elapsed().as_secs_f64());
        }
        median(rates)
    };
    let threads = threads(&server).await?;
    let readers = readers(&server).await?;
    sender.send(&url, DRAIN_CONNECTIONS, Until::Sent(EVENTS)).await?;
    turns_ended(&db).await?;
    deployment.database.vacuum().await?;
    let before = rate().await?;
    let mut open = open(&server, &readers, &threads).await?;
    let used = server.process.processor_time()?;
    if timeout(IDLE, open.join_next()).await.is_ok() {
        return Err("a stream ended".into());
    }
    let used = server.process.processor_time()?.saturating_sub(used);
    figure("idle_streams_of_a_core", used.as_secs_f64() / IDLE.as_secs_f64());
    figure("drain_with_idle_streams", rate().await? / before);
    drop(open);
    db.close().await;
    server.process.stop()
}

async fn threads(server: &Server) -> Result<Vec<String>, Failure> {
    let space = server.space("streams").await?;
    let mut threads = Vec::new();
    for _ in 0..THREADS {
        let thread = server.ask(Method::POST, "/v1/threads", json!({ "space_id": space, "text": "Hello" })).await?;
        threads.push(text(&thread, "id")?);
    }
    Ok(threads)
}

/// Service tokens that read.
async fn readers(server: &Server) -> Result<Vec<String>, Failure> {
    let mut tokens = Vec::new();
    for number in 0..READERS {
        let name = format!("reader {number}");
        let body = json!({ "name": name, "kind": "service", "audience": "api", "scopes": ["read"] });
        tokens.push(text(&server.ask(Method::POST, "/v1/tokens", body).await?, "token")?);
    }
    Ok(tokens)
}

/// Opens the streams, each of which is read on until the set is dropped.
async fn open(server: &Server, readers: &[String], threads: &[String]) -> Result<JoinSet<()>, Failure> {
    let mut streams = JoinSet::new();
    let places = readers.iter().flat_map(|reader| (0..STREAMS_EACH).map(move |_| reader));
    for (reader, thread) in places.zip(threads.iter().cycle()) {
        let request = server.client.get(format!("{}/v1/threads/{thread}/stream", server.base));
        let response = request.bearer_auth(reader).send().await?;
        if !response.status().is_success() {
            return Err(format!("a stream was answered {}: {}", response.status(), response.text().await?).into());
        }
        streams.spawn(read(response));
    }
    Ok(streams)
}

async fn read(mut response: Response) {
    while let Ok(Some(_)) = response.chunk().await {}
}

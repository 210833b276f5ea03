//! Small servers and resolvers for the tests: they answer from a list and write down what they were asked.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use thinkwork_outbound::{Lookup, LookupAnswer, Outbound, Policy};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A client that may reach the tests' own servers.
pub fn loopback_client() -> Outbound {
    Outbound::new(loopback_policy()).unwrap()
}

pub fn loopback_policy() -> Policy {
    Policy { allow_loopback: true, ..Policy::default() }
}

/// A server on loopback that gives one answer after the other, the last one for ever. While an empty answer is next
/// or last, connections stay open without another word.
pub struct Peer {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    /// Ends the server with its test.
    _task: JoinSet<()>,
}

impl Peer {
    pub async fn start(answers: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let mut answers: VecDeque<String> = answers.iter().map(|answer| (*answer).to_owned()).collect();
        let log = Arc::clone(&requests);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut held_open = Vec::new();
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                let request = read_request(&mut socket).await;
                log.lock().unwrap().push(request);
                let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
                // A client that has seen enough closes its end early.
                drop(socket.write_all(answer.unwrap_or_default().as_bytes()).await);
                if answers.front().is_some_and(String::is_empty) {
                    held_open.push(socket);
                }
            }
        });
        Self { address, requests, _task: task }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What was asked so far, head and body as they came.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// An answer that closes the connection, with its length.
pub fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}connection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// Reads a request's head, and as much of a body as its length says.
pub async fn read_request(socket: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let read = socket.read_buf(&mut bytes).await.unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return text;
            }
        }
        if read == 0 {
            return text;
        }
    }
}

/// A resolver that gives one answer after the other, and none when they are used up.
pub struct Answers {
    answers: Mutex<VecDeque<Vec<IpAddr>>>,
}

impl Answers {
    pub fn new(answers: &[&[&str]]) -> Arc<Self> {
        let parse = |answer: &&[&str]| answer.iter().map(|ip| ip.parse().unwrap()).collect();
        Arc::new(Self { answers: Mutex::new(answers.iter().map(parse).collect()) })
    }

    pub fn left(&self) -> usize {
        self.answers.lock().unwrap().len()
    }
}

impl Lookup for Answers {
    fn lookup(&self, _host: &str) -> LookupAnswer {
        let answer = self.answers.lock().unwrap().pop_front();
        Box::pin(async move { answer.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound)) })
    }
}

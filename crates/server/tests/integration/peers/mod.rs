//! The product against programs that others wrote: they run as the outside world, offline, on 127.0.0.1.
//!
//! What they are and how they are started: `peers/README.md`. A test that does not find them fails and says why.

mod consent;
mod gateway;
mod model;
mod pages;
mod webhook;

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use thinkwork::worker::Worker;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::harness::{Client, TestApp, approval};

/// Longest a program takes to listen; Python imports slowly on a busy machine.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// Longest a program that ends by itself takes; a drive shares the machine with the other tests.
const RUN_DEADLINE: Duration = Duration::from_secs(420);
/// Every password of these tests.
const PASSWORD: &str = "correct horse battery";

/// A variable that xtask sets.
fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!(
            "{name} is not set: run this test through xtask, as in \
             `cargo xtask with sqlite cargo test -p thinkwork --test integration peers`"
        )
    })
}

fn script(name: &str) -> PathBuf {
    PathBuf::from(variable("THINKWORK_TEST_PEERS")).join("node").join(name)
}

/// The program that runs a script.
fn program(script_name: &str) -> Command {
    let python = script_name.ends_with(".py");
    let mut command = Command::new(variable(if python { "THINKWORK_TEST_PYTHON" } else { "THINKWORK_TEST_NODE" }));
    command.arg(script(script_name)).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.kill_on_drop(true);
    command
}

/// A server that somebody else wrote. It ends with this value.
struct Peer {
    url: String,
    events: Arc<Mutex<Vec<Value>>>,
    _child: Child,
}

impl Peer {
    /// Starts the script and waits until it listens.
    async fn start(name: &str, environment: &[(&str, &str)]) -> Self {
        let mut child = program(name).envs(environment.iter().copied()).env("PORT", "0").spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut stderr = child.stderr.take().unwrap();
        let complaints = tokio::spawn(async move {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text).await;
            text
        });
        let first = tokio::time::timeout(START_DEADLINE, lines.next_line()).await;
        let Ok(Ok(Some(line))) = first else {
            let _ = child.start_kill();
            panic!("{name} does not listen: {}", complaints.await.unwrap());
        };
        let url = line.strip_prefix("READY ").unwrap_or_else(|| panic!("{name} said {line}")).to_owned();
        let events = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&events);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some(event) = line.strip_prefix("EVENT ") {
                    kept.lock().unwrap().push(serde_json::from_str(event).unwrap());
                }
            }
        });
        Self { url, events, _child: child }
    }

    /// What it told so far under this name.
    fn events(&self, name: &str) -> Vec<Value> {
        self.events.lock().unwrap().iter().filter(|event| event["event"] == name).cloned().collect()
    }
}

/// How a program ended.
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs a script to its end.
async fn run(name: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Ran {
    let mut command = program(name);
    command.args(arguments).envs(environment.iter().copied());
    let output = tokio::time::timeout(RUN_DEADLINE, command.output()).await;
    let output = output.unwrap_or_else(|_| panic!("{name} does not end")).unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// Runs `browser/<name>.mjs` in Chromium and returns what it found. A drive that fails fails the test with its words.
async fn drive(name: &str, input: Value) -> Value {
    let chromium = variable("THINKWORK_TEST_CHROMIUM");
    let environment = [("CHROMIUM", chromium.as_str()), ("INPUT", &input.to_string())];
    let ran = run(&format!("browser/{name}.mjs"), &[], &environment).await;
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.err, ran.out);
    let last = ran.out.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|_| panic!("{name} printed {}", ran.out))
}

/// A server with its worker running, an operator, and a Space for everybody.
struct Deployment {
    app: TestApp,
    worker: Worker,
    operator: Client,
    space: String,
}

impl Deployment {
    async fn new() -> Self {
        let app = TestApp::new().await;
        let worker = Worker::start(&app.app);
        let operator = app.operator().await;
        let space = json!({ "slug": "invoices", "name": "Invoices", "access": "public" });
        let space = operator.post("/v1/spaces", space).await.expect(201).text_of("id");
        Self { app, worker, operator, space }
    }

    /// Waits for what runs; what is under way at a test's end would fail against a closed database.
    async fn end(self) {
        self.worker.drain(&self.app.app, Duration::from_secs(10)).await;
    }

    /// Registers a server, approves it with these effects, and lets it serve the Space.
    async fn server(&self, body: Value, effects: Value) -> String {
        let made = self.operator.post("/v1/mcp-servers", body).await.expect(201);
        assert_eq!(made.json["status"], "pending", "{}", made.text);
        let id = made.text_of("id");
        if made.json["auth"]["mode"] == "none" {
            self.operator.post(&format!("/v1/mcp-servers/{id}/tools/refresh"), json!({})).await.expect(200);
        }
        self.approve(&id, effects).await;
        let serves = format!("/v1/spaces/{}/mcp-servers/{id}", self.space);
        self.operator.put(&serves, json!({})).await.expect(200);
        id
    }

    async fn approve(&self, id: &str, effects: Value) {
        let shown = self.operator.get(&format!("/v1/mcp-servers/{id}")).await.expect(200);
        let body = approval(&shown.json, &effects);
        self.operator.post(&format!("/v1/mcp-servers/{id}/approve"), body).await.expect(200);
    }

    /// A person who has not chosen a password yet: id and the link where they do.
    async fn invite(&self, name: &str, role: &str) -> (String, String) {
        let email = format!("{}@acme.test", name.to_lowercase());
        let body = json!({ "email": email, "name": name, "role": role });
        let made = self.operator.post("/v1/users", body).await.expect(201);
        (made.text_of("id"), made.text_of("invite_url"))
    }

    /// The only turn of a thread, once it has ended.
    async fn turn_ended(&self, client: &Client, thread: &str) -> Value {
        let path = format!("/v1/threads/{thread}/turns");
        let deadline = tokio::time::Instant::now() + START_DEADLINE;
        loop {
            let turns = client.get(&path).await.expect(200).json;
            let turn = &turns["items"][0];
            if !matches!(turn["status"].as_str(), Some("queued" | "running")) {
                return client.get(&format!("/v1/turns/{}", turn["id"].as_str().unwrap())).await.expect(200).json;
            }
            assert!(tokio::time::Instant::now() < deadline, "the turn does not end: {turn}");
            tokio::task::yield_now().await;
        }
    }

    async fn messages(&self, client: &Client, thread: &str) -> Vec<Value> {
        let answer = client.get(&format!("/v1/threads/{thread}/messages")).await.expect(200);
        answer.json["items"].as_array().unwrap().clone()
    }
}

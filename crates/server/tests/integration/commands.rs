//! The commands over the API, as an operator and a member run them: the binary with a token against a running server.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Instant, SystemTime};

use serde_json::{Value, json};
use thinkwork_primitives::WebhookId;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::bad_input::{Deployment, READY_LIMIT, Serving, free_address, thinkwork};
use crate::guards::Fixture;
use crate::guards::fixture::ToolServer;
use crate::harness::Client;

/// Somebody at a terminal with a token of theirs.
struct Terminal {
    url: String,
    token: String,
}

impl Terminal {
    /// This person with a personal token of this scope.
    async fn of(fixture: &Fixture, person: &Client, scope: &str) -> Self {
        let body = json!({ "name": "terminal", "kind": "personal", "audience": "api", "scopes": [scope] });
        let token = person.post("/v1/tokens", body).await.expect(201).text_of("token");
        Self { url: fixture.app.url(""), token }
    }

    /// What a command prints and how it ends, with this on its standard input.
    async fn run(&self, arguments: &[&str], stdin: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_thinkwork"));
        command.args(arguments).env_clear().env("THINKWORK_URL", &self.url).env("THINKWORK_TOKEN", &self.token);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A command that reads nothing may have closed it already.
        drop(child.stdin.take().unwrap().write_all(stdin.as_bytes()).await);
        child.wait_with_output().await.unwrap()
    }

    /// What a command that works prints for people.
    async fn says(&self, arguments: &[&str], stdin: &str) -> String {
        let ran = self.run(arguments, stdin).await;
        assert_eq!(ran.status.code(), Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).unwrap()
    }

    /// What a command that works prints for programs.
    async fn json(&self, arguments: &[&str]) -> Value {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        serde_json::from_str(&self.says(&arguments, "").await).unwrap()
    }

    /// Fails unless the command ends with this code and says this.
    async fn refused(&self, arguments: &[&str], code: i32, words: &str) {
        let ran = self.run(arguments, "").await;
        let said = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(words) && ran.stdout.is_empty(), "{words:?} in {said}");
    }
}

/// The value on the line with this label.
fn line<'a>(said: &'a str, label: &str) -> &'a str {
    let found = said.lines().find_map(|line| line.strip_prefix(label));
    found.unwrap_or_else(|| panic!("no {label:?} in {said}")).trim()
}

#[tokio::test]
async fn an_mcp_server_is_changed_and_gets_a_new_secret() {
    let fixture = Fixture::new().await;
    let operator = Terminal::of(&fixture, &fixture.owner, "admin").await;
    let id = fixture.id("mcp-servers");
    let path = format!("/v1/mcp-servers/{id}");
    let changed =
        ["mcp", "edit", id, "--name", "Renamed", "--tool", "echo", "--tool", "gone", "--outside-spaces", "true"];
    let said = operator.says(&changed, "").await;
    assert_eq!((line(&said, "Name"), line(&said, "Allowed tools")), ("Renamed", "echo, gone"));
    let kept = fixture.owner.get(&path).await.expect(200).json;
    assert_eq!((&kept["name"], &kept["outside_spaces"]), (&json!("Renamed"), &json!(true)));
    assert_eq!(kept["tool_allowlist"], json!(["echo", "gone"]));
    let changed = operator.json(&["mcp", "edit", id, "--all-tools", "--outside-spaces", "false"]).await;
    assert_eq!((&changed["tool_allowlist"], &changed["outside_spaces"]), (&Value::Null, &json!(false)));
    assert_eq!(changed["name"], "Renamed", "what is not named stays");
    // A new secret comes from standard input and is printed nowhere.
    let said = operator.says(&["mcp", "secret", id], "another-tenant-key-0123456789-WXYZ\n").await;
    assert_eq!(said, "Secret replaced.\n");
    assert_eq!(fixture.owner.get(&path).await.json["auth"]["secret"]["last_four"], "WXYZ");
    operator.refused(&["mcp", "secret", id], 2, "standard input").await;
    // Another address needs the key again, and another review.
    let elsewhere = ToolServer::start().await;
    operator.refused(&["mcp", "edit", id, "--endpoint", &elsewhere.url], 1, "enter the secret again").await;
    let moved = ["mcp", "edit", id, "--endpoint", &elsewhere.url, "--auth", "tenant-key", "--header", "x-key"];
    let said = operator.says(&moved, "a-key-of-the-new-address-0123456789-ABCD").await;
    assert_eq!((line(&said, "URL"), line(&said, "Secret ends with")), (elsewhere.url.as_str(), "ABCD"));
    assert!(said.contains("Approval required. Review it"), "{said}");
    let kept = fixture.owner.get(&path).await.expect(200).json;
    assert_eq!((&kept["auth"]["header"], &kept["status"]), (&json!("x-key"), &json!("pending")));
    let oauth = ["mcp", "edit", id, "--auth", "user-oauth", "--scope", "read", "--scope", "list", "--without-resource"];
    let auth = operator.json(&oauth).await["auth"].take();
    assert_eq!((&auth["mode"], &auth["scopes"]), (&json!("user_oauth"), &json!(["read", "list"])));
    assert_eq!((&auth["without_resource"], &auth["pkce_though_silent"]), (&json!(true), &json!(false)));
}

#[tokio::test]
async fn an_mcp_server_is_registered_and_serves_a_space_until_it_is_stopped() {
    let fixture = Fixture::new().await;
    let operator = Terminal::of(&fixture, &fixture.owner, "admin").await;
    let add =
        ["mcp", "add", "Second", &fixture.tools.url, "--auth", "tenant-key", "--header", "x-key", "--tool", "echo"];
    let said = operator.says(&add, "a-key-of-the-second-0123456789-EFGH\n").await;
    assert_eq!((line(&said, "Slug"), line(&said, "Secret ends with")), ("second", "EFGH"));
    assert!(said.contains("Approval required. Review it"), "{said}");
    let id = line(&said, "Id");
    let space = fixture.id("open-space");
    let kept = fixture.owner.get(&format!("/v1/mcp-servers/{id}")).await.expect(200).json;
    assert_eq!((&kept["auth"]["header"], &kept["tool_allowlist"]), (&json!("x-key"), &json!(["echo"])));
    fixture.approve(id).await;
    let serve = ["mcp", "serve", space, id, "--tool", "echo", "--approval", "echo=always"];
    let served = operator.json(&serve).await;
    assert_eq!((&served["tool_allowlist"], &served["approvals"]), (&json!(["echo"]), &json!({ "echo": "always" })));
    let served = operator.json(&["mcp", "serve", space, id]).await;
    assert_eq!((&served["tool_allowlist"], &served["approvals"]), (&Value::Null, &json!({})));
    operator.says(&["mcp", "serve", space, id, "--stop"], "").await;
    let left = fixture.owner.get(&format!("/v1/spaces/{space}/mcp-servers")).await.expect(200);
    assert_eq!(left.json["items"], json!([]));
}

#[tokio::test]
async fn what_the_agent_can_use_is_shown_for_oneself_and_for_another() {
    let fixture = Fixture::new().await;
    let operator = Terminal::of(&fixture, &fixture.owner, "admin").await;
    let space = fixture.id("open-space");
    let policy = json!({ "tool_allowlist": ["echo"] });
    let path = format!("/v1/spaces/{space}/mcp-servers/{}", fixture.id("mcp-servers"));
    fixture.owner.put(&path, policy).await.expect(200);
    let said = operator.says(&["space", "tools", space], "").await;
    let row = said.lines().find(|line| line.contains("__echo")).unwrap_or_else(|| panic!("{said}"));
    assert!(row.contains(&fixture.app.owner.to_string()) && row.contains("tenant") && row.contains("space"), "{said}");
    let member = fixture.app.member("zoe").await.user.unwrap().to_string();
    let answer = operator.json(&["space", "tools", space, "--user", &member]).await;
    assert_eq!(answer["offered"].as_array().unwrap().len(), 1, "{answer}");
}

#[tokio::test]
async fn a_webhook_is_changed_and_what_is_empty_is_taken_away() {
    let fixture = Fixture::new().await;
    let operator = Terminal::of(&fixture, &fixture.owner, "admin").await;
    let made =
        operator.json(&["webhook", "add", "Hook", "--space", fixture.id("open-space"), "--scheme", "bearer"]).await;
    let id = made["id"].as_str().unwrap();
    let changed = [
        "webhook",
        "edit",
        id,
        "--name",
        "Renamed",
        "--enabled",
        "false",
        "--correlation",
        "/invoice",
        "--event-id",
        "x-event",
        "--cidr",
        "10.0.0.0/8",
        "--rate-limit-per-minute",
        "7",
        "--priority",
        "high",
        "--prompt",
        "Be brief",
    ];
    let said = operator.says(&changed, "").await;
    let kept = fixture.owner.get(&format!("/v1/webhooks/{id}")).await.expect(200).json;
    for (label, shown, field, value) in [
        ("Name", "Renamed", "name", json!("Renamed")),
        ("Enabled", "no", "enabled", json!(false)),
        ("Correlation key", "pointer /invoice", "correlation", json!({ "pointer": "/invoice" })),
        ("Event ID", "header x-event", "event_id", json!({ "header": "x-event" })),
        ("From", "10.0.0.0/8", "allowed_cidrs", json!(["10.0.0.0/8"])),
        ("A minute", "7", "rate_limit_per_minute", json!(7)),
        ("Priority", "high", "default_priority", json!("high")),
        ("Instructions", "Be brief", "prompt", json!("Be brief")),
    ] {
        assert_eq!((line(&said, label), &kept[field]), (shown, &value), "{label}");
    }
    let emptied = operator
        .json(&[
            "webhook",
            "edit",
            id,
            "--correlation",
            "",
            "--event-id",
            "",
            "--prompt",
            "",
            "--priority",
            "",
            "--any-network",
            "--enabled",
            "true",
        ])
        .await;
    for field in ["correlation", "event_id", "prompt", "default_priority"] {
        assert_eq!(emptied[field], Value::Null, "{field}");
    }
    assert_eq!((&emptied["allowed_cidrs"], &emptied["enabled"]), (&json!([]), &json!(true)));
    assert_eq!(emptied["rate_limit_per_minute"], 7, "what is not named stays");
    let unknown = WebhookId::new().to_string();
    operator.refused(&["webhook", "edit", &unknown, "--name", "x"], 1, "thinkwork: ").await;
}

#[tokio::test]
async fn a_space_is_shown_changed_and_closed() {
    let fixture = Fixture::new().await;
    let operator = Terminal::of(&fixture, &fixture.owner, "admin").await;
    let closed = fixture.id("spaces");
    let open = fixture.id("open-space");
    let said = operator.says(&["space", "show", closed], "").await;
    assert_eq!((line(&said, "Name"), line(&said, "Instructions")), ("Marker secluded room", "Marker secluded prompt"));
    let said =
        operator.says(&["space", "edit", closed, "--name", "Renamed", "--reopen", "false", "--prompt", ""], "").await;
    assert_eq!((line(&said, "Name"), line(&said, "Reopen threads")), ("Renamed", "no"));
    let kept = operator.json(&["space", "show", closed]).await;
    assert_eq!((&kept["name"], &kept["reopen"], &kept["prompt"]), (&json!("Renamed"), &json!(false), &Value::Null));
    let owner = fixture.owner.user.unwrap().to_string();
    operator.says(&["space", "member-remove", open, &owner], "").await;
    operator.refused(&["space", "edit", open, "--private"], 1, "at least one member").await;
    operator.says(&["space", "member-add", open, &owner], "").await;
    assert_eq!(operator.json(&["space", "edit", open, "--private"]).await["access"], "private");
    // Changes say which version they are made against, where somebody wants that.
    let stale = ["space", "edit", open, "--name", "Late", "--if-version", "1"];
    operator.refused(&stale, 1, "Reload and try again").await;
    let seen = operator.json(&["space", "show", open]).await["version"].to_string();
    let changed = operator.json(&["space", "edit", open, "--name", "In time", "--if-version", &seen]).await;
    assert_eq!(changed["name"], "In time");
}

#[tokio::test]
async fn a_member_changes_their_thread_and_stops_its_turn() {
    let fixture = Fixture::new().await;
    let ana = Terminal::of(&fixture, &fixture.ana, "write").await;
    let thread = fixture.id("threads");
    let turn = fixture.id("turns");
    let changed = ["thread", "edit", thread, "--title", "Renamed", "--status", "in_review", "--priority", "urgent"];
    let said = ana.says(&changed, "").await;
    assert_eq!(
        (line(&said, "Title"), line(&said, "Status"), line(&said, "Priority")),
        ("Renamed", "in_review", "urgent")
    );
    let kept = fixture.ana.get(&format!("/v1/threads/{thread}")).await.expect(200).json;
    assert_eq!(
        (&kept["title"], &kept["status"], &kept["priority"]),
        (&json!("Renamed"), &json!("in_review"), &json!("urgent"))
    );
    ana.refused(&["thread", "edit", thread, "--status", "finished"], 1, "in_review").await;
    let whole = fixture.ana.get(&format!("/v1/threads/{thread}/export")).await.expect(200).json;
    assert_eq!(ana.json(&["thread", "show", thread]).await, whole, "with --json it is the export");
    let said = ana.says(&["thread", "cancel", turn], "").await;
    assert_eq!((line(&said, "Turn"), line(&said, "Status"), line(&said, "Thread")), (turn, "cancelled", thread));
    assert_eq!(fixture.ana.get(&format!("/v1/turns/{turn}")).await.expect(200).json["status"], "cancelled");
    ana.refused(&["thread", "cancel", turn], 1, "ended").await;
    // Reading alone changes nothing.
    let reader = Terminal::of(&fixture, &fixture.ana, "read").await;
    reader.refused(&["thread", "edit", thread, "--title", "Mine"], 1, "thinkwork: ").await;
}

#[tokio::test]
async fn a_person_is_renamed_and_invited_again() {
    let fixture = Fixture::new().await;
    let owner = Terminal::of(&fixture, &fixture.owner, "admin").await;
    let id = fixture.id("users");
    let said = owner.says(&["user", "edit", id, "--name", "Ben"], "").await;
    assert_eq!((line(&said, "Name"), line(&said, "Role")), ("Ben", "member"));
    let said = owner.says(&["user", "invite", id], "").await;
    let link = said.split_whitespace().find(|word| word.contains("/invitation?")).unwrap();
    let code = crate::guards::fixture::after(link, "code=");
    assert_ne!(code, fixture.shown["invitation"]);
    for (code, status) in [(fixture.shown["invitation"].as_str(), 410), (&code, 200)] {
        let body = json!({ "code": code, "password": "a long enough password" });
        let answer = fixture.app.anonymous().post("/v1/invitations/accept", body).await;
        assert_eq!(answer.status, status, "{}", answer.text);
    }
    owner.refused(&["user", "invite", id], 1, "already accepted the invitation").await;
}

#[tokio::test]
async fn a_change_that_names_nothing_is_wrong_use() {
    let fixture = Fixture::new().await;
    let operator = Terminal::of(&fixture, &fixture.owner, "admin").await;
    for (noun, kind) in
        [("mcp", "mcp-servers"), ("webhook", "webhooks"), ("space", "spaces"), ("thread", "threads"), ("user", "users")]
    {
        operator.refused(&[noun, "edit", fixture.id(kind)], 2, "see --help for options").await;
    }
}

/// Everything below a folder with the time of its last change and what it holds.
fn listing(folder: &Path) -> BTreeMap<PathBuf, (SystemTime, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(path) = folders.pop() {
        let changed = path.metadata().unwrap().modified().unwrap();
        if path.is_dir() {
            folders.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            found.insert(path, (changed, Vec::new()));
        } else {
            let content = std::fs::read(&path).unwrap();
            found.insert(path, (changed, content));
        }
    }
    found
}

/// What `check` says here. Fails unless it is content and everything in the folder is as it was.
#[track_caller]
fn check_says(folder: &Path, parts: &[&str]) {
    let before = listing(folder);
    let checked = thinkwork(folder, &["check"]).output().unwrap();
    let said = String::from_utf8(checked.stdout).unwrap();
    assert_eq!(checked.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&checked.stderr));
    for part in parts {
        assert!(said.contains(part), "{part:?} in {said}");
    }
    let after = listing(folder);
    assert!(before == after, "{:?} became {:?}", before.keys(), after.keys());
}

#[test]
fn check_makes_nothing_where_there_is_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let parts = ["none yet at thinkwork-data/thinkwork.db", "no file yet at thinkwork-data.key", "setup"];
    check_says(folder.path(), &parts);
}

#[tokio::test]
async fn check_changes_nothing_of_what_is_there() {
    let place = Deployment::new();
    let parts = ["Sqlite is reachable and up to date", "1 in thinkwork-data.key, match this database"];
    check_says(place.folder.path(), &parts);
    // A server that is killed leaves its log and the log's index.
    drop(Serving::start(&place, "").await);
    assert!(place.folder.path().join("thinkwork-data/thinkwork.db-wal").metadata().unwrap().len() > 0);
    check_says(place.folder.path(), &parts);
    // A missing key stops the start, so it is a failure.
    std::fs::remove_file(place.folder.path().join("thinkwork-data.key")).unwrap();
    let before = listing(place.folder.path());
    let checked = place.run(&["check"]);
    let said = String::from_utf8(checked.stderr).unwrap();
    assert_eq!((checked.status.code(), said.contains("restore it")), (Some(1), true), "{said}");
    assert!(before == listing(place.folder.path()));
}

#[tokio::test]
async fn check_migrates_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("thinkwork-data/thinkwork.db");
    let url = format!("sqlite:{}", path.display());
    let options =
        thinkwork_database::Options { url, migration_url: None, connections_max: 2, subscribers: |_| Vec::new() };
    thinkwork_database::Db::open(&options).await.unwrap().close().await;
    check_says(folder.path(), &["Sqlite is reachable; the next start runs", "back up first"]);
}

#[test]
fn check_knows_a_server_with_another_public_address() {
    let place = Deployment::new();
    let address = free_address();
    let public = ["--listen", &address, "--public-url", "https://thinkwork.invalid"];
    let with = |command: &str| thinkwork(place.folder.path(), &[&[command], public.as_slice()].concat());
    let mut server = with("serve").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut said = String::new();
    let began = Instant::now();
    while !said.contains("thinkwork is running at") && began.elapsed() < READY_LIMIT {
        said = String::from_utf8(with("check").output().unwrap().stdout).unwrap();
    }
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(said.contains(&format!("thinkwork is running at {address}")), "{said}");
}

//! Backups as an operator takes and restores them: the binary beside a server that runs, on both engines.

mod postgres;
mod refusals;

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::{Value, json};

use crate::bad_input::{Deployment, READY_LIMIT, Serving};
use crate::harness::Client;

const PASSWORD: &str = "correct horse battery staple";

impl Deployment {
    fn backup_file(&self) -> PathBuf {
        self.folder.path().join("backup")
    }

    /// What a command that works prints.
    fn says(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// A second tenant whose owner has a password.
    fn add_globex(&self) {
        use std::io::Write as _;
        let arguments = ["setup", "--tenant", "globex", "--owner-email", "gina@globex.test", "--owner-password-stdin"];
        let mut command = self.command(&arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(PASSWORD.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }
}

/// Takes a backup while the test goes on.
async fn back_up(place: &Deployment) -> Output {
    let mut command = place.command(&["backup", "--json", "backup"]);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// A webhook of the place's owner.
struct Hook {
    id: String,
    secret: String,
}

impl Hook {
    async fn new(owner: &Client, space: &str, name: &str) -> Self {
        let body = json!({
            "name": name, "space_id": space, "verification": { "scheme": "bearer" }, "rate_limit_per_minute": 100_000,
            "event_id": { "pointer": "/id" },
        });
        let made = owner.post("/v1/webhooks", body).await.expect(201);
        Self { id: made.text_of("id"), secret: made.text_of("secret") }
    }

    async fn send(&self, serving: &Serving, body: Value) -> crate::harness::Response {
        let mut sender = serving.anonymous();
        sender.bearer = Some(self.secret.clone());
        sender.post(&format!("/hooks/{}", self.id), body).await
    }
}

/// Waits until an answer has this status.
async fn until_status(client: &Client, path: &str, status: u16) {
    let began = Instant::now();
    while client.get(path).await.status != status {
        assert!(began.elapsed() < READY_LIMIT, "{path} never answers {status}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn l126_a_backup_under_load_is_whole_and_can_be_restored() {
    let place = Deployment::on_engine().await;
    place.add_globex();
    let mut serving = Serving::start(&place, "").await;
    let owner = serving.owner(&place);
    let space = json!({ "slug": "billing", "name": "Billing", "access": "public" });
    let space = owner.post("/v1/spaces", space).await.expect(201).text_of("id");
    let hook = Hook::new(&owner, &space, "events").await;
    let rotated = Hook::new(&owner, &space, "rotated later").await;
    let accepted: Mutex<Vec<String>> = Mutex::default();
    let stop = AtomicBool::new(false);
    let load = async {
        for number in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let sent = hook.send(&serving, json!({ "id": number, "text": "x".repeat(2_000) })).await.expect(202);
            accepted.lock().unwrap().push(sent.text_of("delivery_id"));
        }
    };
    let taking = async {
        while accepted.lock().unwrap().len() < 40 {
            tokio::task::yield_now().await;
        }
        let before = accepted.lock().unwrap().clone();
        let output = back_up(&place).await;
        let during = accepted.lock().unwrap().len();
        stop.store(true, Ordering::Relaxed);
        assert!(during > before.len(), "nothing was accepted while the backup was taken");
        (before, output)
    };
    let taken = Arc::new(Box::pin(async { tokio::join!(load, taking).1 }).await);
    assert_eq!(taken.1.status.code(), Some(0), "{}", String::from_utf8_lossy(&taken.1.stderr));
    let said: Value = serde_json::from_slice(&taken.1.stdout).unwrap();
    let file = place.backup_file();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!((&said["backup"]["tenants"], &said["backup"]["product"]), (&json!(2), &json!("thinkwork")));
    assert_eq!(said["bytes"], std::fs::metadata(&file).unwrap().len());
    let key = std::fs::read_to_string(place.key_file()).unwrap();
    let held = std::fs::read(&file).unwrap();
    for secret in key.split_whitespace().filter(|word| word.len() > 30) {
        assert!(!held.windows(secret.len()).any(|part| part == secret.as_bytes()), "the backup holds the key");
    }
    // What ends and changes after the backup; a server that is stopped signs the record.
    let path = format!("/v1/webhooks/{}/rotate", rotated.id);
    owner.post(&path, json!({ "overlap_seconds": 0 })).await.expect(200);
    serving.stop();

    let restored = place.elsewhere(&["", ".heads", ".versions"]).await;
    let file = file.to_str().unwrap();
    let checked = restored.says(&["restore", "--check", file]);
    assert!(checked.contains("2 tenants") && checked.contains("The key file fits."), "{checked}");
    let said = restored.says(&["restore", file]);
    assert!(said.contains("Restored 2 tenants") && said.contains("thinkwork audit verify"), "{said}");
    // The record ends earlier than it was signed, and whoever restored accepts that.
    assert!(said.contains("  acme: it ends at ") && said.contains("thinkwork audit accept acme"), "{said}");
    let found = restored.run(&["audit", "verify"]);
    assert_eq!(found.status.code(), Some(1), "{}", String::from_utf8_lossy(&found.stdout));
    let accept = said.lines().find_map(|line| line.split_once("thinkwork audit accept ")).unwrap().1;
    let accept: Vec<&str> = ["audit", "accept"].into_iter().chain(accept.split(' ')).collect();
    restored.says(&accept);
    restored.says(&["audit", "verify"]);

    let mut serving = Serving::start(&restored, "").await;
    let owner = serving.owner(&restored);
    for delivery in &taken.0 {
        until_status(&owner, &format!("/v1/deliveries/{delivery}"), 200).await;
    }
    let body = json!({ "email": "gina@globex.test", "password": PASSWORD });
    serving.anonymous().post("/v1/sessions", body).await.expect(201);
    let again = hook.send(&serving, json!({ "id": 0, "text": "x".repeat(2_000) })).await.expect(202);
    assert_eq!(again.text_of("status"), "duplicate");
    hook.send(&serving, json!({ "id": "new" })).await.expect(202);
    let outdated = rotated.send(&serving, json!({ "id": 1 })).await;
    assert!(outdated.status >= 500, "{}", outdated.text);
    serving.stop();
    restored.says(&["audit", "verify"]);
}

#[tokio::test]
async fn l126_a_place_with_the_key_alone_begins_to_keep_heads_again() {
    let place = Deployment::on_engine().await;
    let mut serving = Serving::start(&place, "").await;
    serving.stop();
    place.says(&["backup", "backup"]);
    let restored = place.elsewhere(&[""]).await;
    let said = restored.says(&["restore", place.backup_file().to_str().unwrap()]);
    assert!(!said.contains("audit accept"), "{said}");
    restored.says(&["audit", "verify"]);
    let mut serving = Serving::start(&restored, "").await;
    serving.stop();
    restored.says(&["audit", "verify"]);
    assert!(restored.folder.path().join("thinkwork-data.key.heads").exists());
}

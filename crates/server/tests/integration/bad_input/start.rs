//! Starts that must not happen.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;

use super::{Deployment, Serving, thinkwork};

/// Fails unless the command ended with this code and said each of these words, in one sentence unless it lists them.
#[track_caller]
fn check(output: &Output, code: i32, says: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.starts_with("thinkwork: "), "{said}");
    for words in says {
        assert!(said.contains(words), "{words:?} in {said}");
    }
}

#[test]
fn a_wrong_configuration_is_named_whole_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tw.toml");
    std::fs::write(&file, "colour = \"red\"\n[outbound]\nports = [\"https\"]\n").unwrap();
    let mut serve = thinkwork(folder.path(), &["serve", "--config", "tw.toml", "--public-url", "http://example.com"]);
    let output = serve.env("THINKWORK_SHAPE", "round").env("THINKWORK_ROLES", "wurker").output().unwrap();
    let says = [
        "5 problems",
        "no setting colour",
        "outbound.ports must be a list of whole numbers",
        "THINKWORK_SHAPE",
        "roles must be",
        "public_url must be https",
        "default.toml",
    ];
    check(&output, 2, &says);
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["tw.toml"]);
}

#[test]
fn a_missing_configuration_file_and_an_unknown_command_are_wrong_use() {
    let folder = tempfile::tempdir().unwrap();
    check(&thinkwork(folder.path(), &["check", "--config", "gone.toml"]).output().unwrap(), 2, &["gone.toml", "read"]);
    let unknown = thinkwork(folder.path(), &["sevre"]).output().unwrap();
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("serve"));
}

#[test]
fn a_key_that_is_missing_another_or_open_to_others_stops_the_start_and_touches_nothing() {
    let place = Deployment::new();
    let key = place.key_file();
    let before = place.database();
    let away = key.with_extension("away");
    std::fs::rename(&key, &away).unwrap();
    check(&place.run(&["serve", "--listen", "127.0.0.1:0"]), 1, &["key", "--key-file"]);
    assert!(!key.exists(), "no fresh key in its place");
    let elsewhere = Deployment::new();
    std::fs::copy(elsewhere.key_file(), &key).unwrap();
    check(&place.run(&["serve", "--listen", "127.0.0.1:0"]), 1, &["give the key file that belongs to it"]);
    std::fs::write(&key, "not a key").unwrap();
    check(&place.run(&["serve", "--listen", "127.0.0.1:0"]), 1, &["key"]);
    std::fs::rename(&away, &key).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    check(&place.run(&["serve", "--listen", "127.0.0.1:0"]), 1, &["key", "chmod 600"]);
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(place.database(), before, "the database is as it was");
    assert_eq!(place.run(&["check"]).status.code(), Some(0));
}

#[tokio::test]
async fn l111_health_has_an_address_of_its_own_however_many_connections_are_held() {
    let place = Deployment::new();
    let internal = super::free_address();
    let before = format!("THINKWORK_CONNECTIONS_PER_ADDRESS_MAX=8 THINKWORK_INTERNAL_LISTEN={internal}");
    let log = std::fs::File::create(place.folder.path().join("log")).unwrap();
    let serving = Serving::spawn(&place, &before, std::process::Stdio::null(), log.into()).ready_at(&internal).await;
    for path in ["/livez", "/readyz", "/metrics"] {
        serving.anonymous().get(path).await.expect(404);
    }
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(tokio::net::TcpStream::connect(&serving.address).await.unwrap());
    }
    let watching = crate::harness::Client::at(format!("http://{internal}"));
    for path in ["/livez", "/readyz", "/metrics"] {
        watching.get(path).await.expect(200);
    }
}

#[tokio::test]
async fn a_second_serve_on_one_data_folder_ends_and_the_first_goes_on() {
    let place = Deployment::new();
    let first = Serving::start(&place, "").await;
    check(
        &place.run(&["serve", "--listen", &super::free_address()]),
        1,
        &["thinkwork is already running on thinkwork-data", "--data-dir"],
    );
    first.anonymous().get("/readyz").await.expect(200);
    // Short commands run beside it.
    assert_eq!(place.run(&["check"]).status.code(), Some(0));
    let elsewhere = Deployment::new();
    check(&elsewhere.run(&["serve", "--listen", &first.address]), 1, &[&first.address, "--listen"]);
}

#[test]
fn a_set_up_that_is_refused_makes_nothing_and_says_what_to_change() {
    use std::io::Write as _;
    let folder = tempfile::tempdir().unwrap();
    let set_up = |more: &[&str], password: &str| {
        let base = ["setup", "--tenant", "acme", "--owner-email", "owner@acme.test"];
        let arguments: Vec<&str> = base.iter().chain(more).copied().collect();
        let mut command = thinkwork(folder.path(), &arguments);
        let pipe = std::process::Stdio::piped;
        let mut child = command.stdin(pipe()).stdout(pipe()).stderr(pipe()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let stdin = ["--owner-password-stdin"];
    check(&set_up(&stdin, "short"), 1, &["12 characters", "--owner-password-stdin"]);
    let made = set_up(&stdin, "a long enough password");
    assert_eq!(made.status.code(), Some(0), "{}", String::from_utf8_lossy(&made.stderr));
    check(&set_up(&[], ""), 1, &["Choose another", "--tenant"]);
}

#[test]
fn keys_are_rotated_with_an_answer_for_programs() {
    let place = Deployment::new();
    let done = place.run(&["keys", "rotate", "--json"]);
    let done: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert!(done["added_key"].is_string() && done["rewrapped"].is_u64(), "{done}");
}

#[test]
fn a_reader_that_has_enough_ends_a_command_quietly() {
    let place = Deployment::new();
    for command in ["openapi", "check"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = thinkwork(place.folder.path(), &[command]);
        let output = command.stdout(writer).stderr(std::process::Stdio::piped()).spawn().unwrap();
        let output = output.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        assert_eq!(output.status.code(), Some(0));
    }
}

#[tokio::test]
async fn check_says_what_answers_where() {
    let place = Deployment::new();
    let address = super::free_address();
    let said = |output: Output| String::from_utf8(output.stdout).unwrap();
    let idle = said(place.run(&["check", "--listen", &address]));
    assert!(idle.contains(&format!("{address} is free; not running yet")), "{idle}");
    assert!(idle.contains("no response from"), "{idle}");
    let serving = Serving::start(&place, "").await;
    let running = said(place.run(&["check", "--listen", &serving.address]));
    assert!(running.contains(&format!("thinkwork is running at {}", serving.address)), "{running}");
    assert!(running.contains("leads to thinkwork"), "{running}");
    let held = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let held = place.run(&["check", "--listen", &held.local_addr().unwrap().to_string()]);
    assert!(said(held).contains("choose another --listen"));
}

#[tokio::test]
async fn what_is_kept_is_shown_with_its_setting_and_size() {
    let place = Deployment::on_engine().await;
    let mut command = place.command(&["retention", "--json"]);
    let shown = command.env("THINKWORK_RETENTION__DELIVERIES_DAYS", "0").output().unwrap();
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    let kinds = shown["kinds"].as_array().unwrap();
    let kind = |name: &str| kinds.iter().find(|kind| kind["name"] == name).unwrap();
    assert_eq!(kind("Deliveries")["kept"], "Forever (retention.deliveries_days)");
    assert_eq!(kind("Thread events (for streams)")["setting"]["days"], 30);
    for (name, setting, days) in [
        ("Steps of turns", "retention.steps_days", 0),
        ("Connections (only ended ones are deleted)", "retention.ended_connections_days", 365),
        ("Tokens (only revoked and expired ones are deleted)", "retention.revoked_tokens_days", 365),
        ("Credential versions (only erased ones are deleted)", "retention.erased_credentials_days", 365),
    ] {
        assert_eq!(kind(name)["setting"], serde_json::json!({ "name": setting, "days": days }), "{shown}");
    }
    assert!(kind("Audit log")["bytes"].as_i64().unwrap() > 0, "{shown}");
    // PostgreSQL counts rows now and then alone.
    let counted = place.setting("THINKWORK_DATABASE_URL").starts_with("sqlite:");
    assert!(!counted || kind("Audit log")["rows"].as_i64().unwrap() > 0, "{shown}");
    let said = String::from_utf8(place.run(&["retention"]).stdout).unwrap();
    assert!(said.contains("90 days (retention.deliveries_days)") && said.contains("Everything else"), "{said}");
    let head: Vec<&str> = said.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(head, ["ROWS", "SIZE", "RETENTION", "DATA"]);
    let intake =
        "30 days; unsigned ones as long as their secret   Pending events and event IDs for duplicate detection";
    assert!(said.contains(intake) && said.contains("Delivery contents (for replay)"), "{said}");
}

#[tokio::test]
async fn the_record_is_listed_by_part_and_filter() {
    let place = Deployment::new();
    let serving = Serving::start(&place, "").await;
    let url = format!("http://{}", serving.address);
    let list = |more: &[&str]| {
        let base = ["audit", "list", "--json", "--url", &url];
        let arguments: Vec<&str> = base.iter().chain(more).copied().collect();
        let output = thinkwork(place.folder.path(), &arguments).env("THINKWORK_TOKEN", &place.token).output().unwrap();
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let first = list(&["--limit", "1"]);
    let next = first["next"].as_str().unwrap();
    let second = list(&["--limit", "1", "--after", next]);
    assert_ne!(first["items"][0]["id"], second["items"][0]["id"]);
    for none in [["--since", "2099-01-01T00:00:00Z"], ["--actor", "usr_0"]] {
        assert_eq!(list(&none)["items"], serde_json::json!([]), "{none:?}");
    }
}

#[test]
fn an_unreachable_database_or_server_is_named_with_the_next_step() {
    let place = Deployment::new();
    let nowhere = format!("postgres://nobody@{}/none", super::free_address());
    check(&place.run(&["check", "--database-url", &nowhere]), 1, &["database"]);
    let server = format!("http://{}", super::free_address());
    let mut list = thinkwork(place.folder.path(), &["space", "list", "--url", &server]);
    check(
        &list.env("THINKWORK_TOKEN", &place.token).output().unwrap(),
        1,
        &["127.0.0.1", "check the host name and that the server is running"],
    );
    check(&place.run(&["space", "list", "--url", &server]), 2, &["THINKWORK_TOKEN", "--token-file"]);
}

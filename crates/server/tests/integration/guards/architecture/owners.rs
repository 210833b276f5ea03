//! Sole owners: what only one place may name or call, so that its rules cannot be walked around.

use std::collections::{BTreeMap, BTreeSet};

use super::expect_none;
use crate::guards::source::{Source, product};

/// Places outside `allowed` where one of these stands in code.
fn outside(words: &[&str], allowed: impl Fn(&Source) -> bool) -> Vec<String> {
    let others: Vec<Source> = product().into_iter().filter(|source| !allowed(source)).collect();
    let found = others.iter().flat_map(|source| words.iter().flat_map(|word| source.places(word)));
    found.collect()
}

/// How often one of these stands in code at all: a rule about nothing would hold for ever.
#[track_caller]
fn expect_some(words: &[&str]) {
    let count = product().iter().flat_map(|source| words.iter().flat_map(|word| source.places(word))).count();
    assert!(count > 0, "{words:?} stands nowhere any more: mend this rule");
}

fn below<'a>(folders: &'a [&'a str]) -> impl Fn(&Source) -> bool + 'a {
    move |source| folders.iter().any(|folder| source.path.starts_with(folder))
}

#[test]
fn reqwest_is_outbounds_alone() {
    expect_some(&["reqwest"]);
    expect_none(
        outside(
            &["reqwest", "hyper::client", "hyper_util::client", "TcpStream::connect"],
            below(&["crates/outbound/", "crates/server/src/demo/loopback.rs"]),
        ),
        "Requests to the outside go through thinkwork_outbound, which has the address guard (the demonstration's browser \
         speaks to this machine only):",
    );
}

#[test]
fn rmcp_is_the_mcp_slices_alone() {
    expect_some(&["rmcp"]);
    expect_none(
        outside(&["rmcp"], below(&["crates/server/src/mcp/", "crates/server/src/demo/"])),
        "The MCP library is wrapped in the mcp slice (the demonstration's sample server stands for the outside):",
    );
}

#[test]
fn argon2_is_the_access_slices_alone() {
    expect_some(&["argon2"]);
    expect_none(
        outside(&["argon2"], below(&["crates/server/src/access/"])),
        "Passwords are hashed in the access slice:",
    );
}

/// `store.rs`, a `store/` folder, the `database` crate; and the idempotency keys of `edge`, which has no slice below
/// it whose store could keep them.
fn is_store(source: &Source) -> bool {
    source.path.ends_with("/store.rs")
        || source.path.contains("/store/")
        || source.path.starts_with("crates/database/")
        || source.path == "crates/server/src/edge/idempotency.rs"
}

#[test]
fn only_stores_name_sea_orm() {
    expect_some(&["sea_orm"]);
    expect_none(
        outside(&["sea_orm"], is_store),
        "Queries live in a slice's store.rs (or store/), so that finders always take the owner:",
    );
}

#[test]
fn raw_sql_is_the_databases_alone() {
    let words = [
        "execute_unprepared",
        "Statement::from_string",
        "Statement::from_sql_and_values",
        "Expr::cust",
        "cust_with_values",
        "execute_raw",
        "query_one_raw",
        "query_all_raw",
        "from_raw_sql",
        "sqlx",
    ];
    expect_some(&words);
    expect_none(
        outside(&words, below(&["crates/database/"])),
        "SQL is written in the database crate, where the two engines' differences are:",
    );
}

#[test]
fn the_intake_log_is_the_intake_crates_alone() {
    expect_some(&["intake_log"]);
    expect_none(
        outside(&["intake_log"], below(&["crates/database/", "crates/intake/"])),
        "Accepted events are reached through thinkwork_intake::Intake, whatever log lies below it:",
    );
}

#[test]
fn only_three_slices_open_credentials() {
    expect_some(&["credentials.open("]);
    let openers = ["mcp", "oauth", "turns"];
    expect_none(
        outside(&["credentials.open("], |source| source.slice().is_some_and(|slice| openers.contains(&slice))),
        "A secret leaves only for a tool call, a connection or a model call, in mcp, oauth and turns. Give the work to \
         one of them, or add the slice to security's list of openers first:",
    );
    expect_none(
        outside(&["credentials.open_for_verification("], |source| source.slice() == Some("webhooks")),
        "Webhook secrets are opened to verify requests and for nothing else:",
    );
    expect_none(
        outside(&["vault.open("], |source| source.slice() == Some("credentials")),
        "Only the credentials slice unwraps sealed bytes:",
    );
}

/// A table belongs to one slice: nobody else declares its entity, so nobody else can read or write its rows.
#[test]
fn each_table_is_one_slices_alone() {
    let mut owners: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in product() {
        for declared in source.text.split("table_name = \"").skip(1) {
            let table = declared.split('"').next().unwrap_or_default().to_owned();
            let owner = source.slice().map_or_else(|| source.path.clone(), str::to_owned);
            owners.entry(table).or_default().insert(owner);
        }
    }
    assert!(owners.len() > 25, "entities are declared in another way by now: mend this rule");
    let shared = owners.into_iter().filter(|(_, slices)| slices.len() > 1);
    expect_none(
        shared.map(|(table, slices)| format!("{table}: {slices:?}")).collect(),
        "Ask the slice that owns the table; what ids are called is in edge::Names:",
    );
}

/// What a grant is for and where a tool comes from have neutral names above the slice that knows servers, so that the
/// next kind of either is a variant and not a second way.
#[test]
fn no_slice_above_mcp_names_mcp_servers() {
    let neutral = ["audit", "access", "credentials", "spaces", "tools", "oauth", "threads", "webhooks"];
    // The JSON of a connection names what it is for.
    let allowed = ["oauth/http.rs"];
    let mut findings = Vec::new();
    let mut named = 0;
    for source in product() {
        // Tables stand in literals, so the text is read and not the code alone.
        let lines = source.text.lines().enumerate().filter(|(_, line)| {
            let says = line.trim_start();
            // An example in the API document is no use of it.
            !says.starts_with("//")
                && !says.starts_with("#[schema(example")
                && (line.contains("McpServerId") || line.contains("mcp_server"))
        });
        let places: Vec<String> = lines.map(|(number, _)| format!("{}:{}", source.path, number + 1)).collect();
        named += places.len();
        let is_neutral = source.slice().is_some_and(|slice| neutral.contains(&slice));
        if is_neutral && !allowed.iter().any(|path| source.path.ends_with(path)) {
            findings.extend(places);
        }
    }
    assert!(named > 0, "servers are named nowhere any more: mend this rule");
    expect_none(findings, "Speak of GrantTarget and ToolSourceId, or give the work to `mcp`, which knows its servers:");
}

#[test]
fn work_enters_threads_by_one_door() {
    expect_some(&["threads.receive_many("]);
    expect_none(
        outside(&["threads.receive(", "threads.receive_many("], |source| source.slice() == Some("webhooks")),
        "Events become messages through Threads::receive, called by the slice that verified them:",
    );
    let made: Vec<String> = product().iter().flat_map(|source| source.places("TurnId::new()")).collect();
    assert!(
        made.len() == 1 && made.iter().all(|place| place.starts_with("crates/server/src/threads/receive.rs")),
        "A turn answers one message and is queued with it, in threads/receive.rs and nowhere else: {made:?}"
    );
}

/// One assembly for turns, gateway and whatever comes: nobody else asks a source.
#[test]
fn l45_tools_are_assembled_and_called_in_one_place() {
    expect_some(&["source.facts("]);
    expect_some(&["source.call("]);
    expect_none(
        outside(&["source.facts(", "source.discover(", "source.call(", "ToolSource::"], |source| {
            source.slice() == Some("tools")
        }),
        "Ask Tools::assemble and Tools::call, which hold policy, effects and marks for every channel:",
    );
    let assemblies = outside(&["fn assemble("], |source| source.slice() == Some("tools"));
    expect_none(assemblies, "There is one assembly of tools, in the tools slice:");
}

/// The ways past the assembly that lie inside `mcp`, which holds both the gateway and what sends calls upstream.
#[test]
fn l45_the_gateway_and_whoever_else_has_the_registry_at_hand_go_through_the_assembly() {
    let face = "crates/server/src/mcp/mod.rs";
    for (words, allowed) in [
        ("self.run(", face),
        ("self.source_facts(", face),
        ("self.source_discover(", face),
        ("upstreams.call(", "crates/server/src/mcp/call.rs"),
        ("&Call {", "crates/server/src/tools/mod.rs"),
    ] {
        expect_some(&[words]);
        expect_none(
            outside(&[words], |source| {
                source.path == allowed || source.slice() != Some("mcp") && words.starts_with("self.")
            }),
            "Only Tools::call makes a call and only ToolSource carries it out:",
        );
    }
    // Whatever the one who asks is called.
    expect_none(
        outside(&[".source_facts(", ".source_discover("], |source| source.path == face),
        "The gateway lists what Tools::assemble gives:",
    );
    let past = ["mcp.run(", "Mcp::run(", "tools::Call {", "= Call {", "(Call {"];
    expect_none(outside(&past, |source| source.slice() == Some("tools")), "Ask Tools::assemble and Tools::call:");
}

#[test]
fn processes_are_started_by_no_server() {
    let words = ["process::Command", "Command::new("];
    let programs = "crates/database/src/backup/programs.rs";
    expect_some(&words);
    expect_none(
        outside(&words, |source| source.path == programs),
        "The server starts no other program: what it would run is what an attacker would like to choose:",
    );
    // The operator's own commands start PostgreSQL's, and no request leads to them.
    expect_some(&["backup::create("]);
    expect_none(
        outside(&["backup::create(", "backup::restore(", "backup::verify("], |source| {
            source.path.starts_with("crates/server/src/commands/")
        }),
        "Backups are taken and restored by the commands of the binary:",
    );
}

/// A proof of identity that stands in the environment would be one secret for every tenant.
#[test]
fn l85_the_environment_is_read_by_the_configuration_alone() {
    let words = ["env::var(", "env::var_os(", "env::vars(", "env::vars_os("];
    expect_some(&words);
    let built_in = ["option_env!(", "env!(\"THINKWORK"];
    expect_none(outside(&built_in, |_| false), "What the build takes in is the same for every tenant:");
    expect_none(
        outside(&words, below(&["crates/server/src/config.rs", "crates/server/src/commands/"])),
        "Settings come through config.rs, which refuses what it does not know, and no setting is a proof of identity:",
    );
}

//! What the pure decisions hold.

use super::*;
use crate::mcp::{Auth, McpServerStatus};
use thinkwork_linear_time::{assert_linear, assert_linear_in, processor_time};
use thinkwork_primitives::McpServerId;

fn now() -> Timestamp {
    Timestamp::from_micros(1_764_000_000_000_000)
}

fn auth(json: Value) -> Auth {
    serde_json::from_value(json).unwrap()
}

fn server() -> McpServer {
    McpServer {
        id: McpServerId::new(),
        name: "Notes".to_owned(),
        slug: "notes".to_owned(),
        url: "https://notes.example/mcp".to_owned(),
        auth: auth(json!({ "mode": "user_oauth" })),
        discovered: None,
        tool_allowlist: None,
        credential: None,
        status: McpServerStatus::Pending,
        definition_hash: String::new(),
        approved_hash: None,
        decided_by: None,
        decided_at: None,
        reason: None,
        issuer: Some("https://issuer.example".to_owned()),
        outside_spaces: false,
        last_error: None,
        checked_at: None,
        created_by: "usr_x".to_owned(),
        created_at: now(),
        version: 1,
        tools_version: 0,
    }
}

/// What discovery wrote down beside the issuer: endpoints and how clients are registered there.
fn discovered() -> crate::oauth::ProviderMetadata {
    crate::oauth::ProviderMetadata {
        resource: "https://notes.example/mcp".to_owned(),
        issuer: "https://issuer.example".to_owned(),
        authorization_endpoint: "https://issuer.example/authorize".to_owned(),
        token_endpoint: "https://issuer.example/token".to_owned(),
        registration_endpoint: Some("https://issuer.example/register".to_owned()),
        revocation_endpoint: None,
        scopes: vec!["notes:read".to_owned()],
        pkce_s256: true,
        iss_required: true,
        offers_offline_access: false,
        takes_client_documents: false,
        deviations: Vec::new(),
        token_auth_methods: vec!["none".to_owned()],
    }
}

fn tool(name: &str, description: &str) -> ServerTool {
    let definition = serde_json::from_value(json!({
        "name": name, "description": description, "inputSchema": { "type": "object" },
    }))
    .unwrap();
    tool_from(&definition, now()).unwrap()
}

#[test]
fn l40_a_definition_hash_is_never_empty_and_each_decision_changes_it() {
    let hash = definition_hash(&server());
    assert_eq!(hash.len(), 64);
    let changes: Vec<fn(&mut McpServer)> = vec![
        |server| server.url.push('x'),
        |server| server.auth = auth(json!({ "mode": "none" })),
        |server| server.issuer = Some("https://other.example".to_owned()),
        |server| server.issuer = None,
        |server| server.tool_allowlist = Some(vec!["search".to_owned()]),
        |server| server.tool_allowlist = Some(Vec::new()),
        |server| server.outside_spaces = true,
    ];
    let mut hashes = vec![hash];
    for change in changes {
        let mut changed = server();
        change(&mut changed);
        hashes.push(definition_hash(&changed));
    }
    for json in [
        json!({ "mode": "user_oauth", "pkce_though_silent": true }),
        json!({ "mode": "user_oauth", "without_resource": true }),
        json!({ "mode": "user_oauth", "scopes": ["read"] }),
        json!({ "mode": "user_oauth", "scopes": [] }),
        json!({ "mode": "tenant_key" }),
        json!({ "mode": "tenant_key", "header": "x-api-key" }),
    ] {
        hashes.push(definition_hash(&McpServer { auth: auth(json), ..server() }));
    }
    assert!(hashes.iter().all(|hash| hash.len() == 64), "{hashes:?}");
    let count = hashes.len();
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), count, "two decisions share a hash");
}

#[test]
fn l41_client_registration_secrets_names_and_checks_leave_the_hash_alone() {
    let hash = definition_hash(&server());
    let mut changed = server();
    changed.auth = auth(json!({ "mode": "user_oauth", "client_id": "client-1" }));
    changed.credential = Some(thinkwork_primitives::CredentialId::new());
    changed.discovered = Some(discovered());
    changed.id = McpServerId::new();
    changed.name = "Other".to_owned();
    changed.slug = "other".to_owned();
    changed.last_error = Some("it was down".to_owned());
    changed.checked_at = Some(now());
    changed.status = McpServerStatus::Approved;
    changed.definition_hash = "0".repeat(64);
    changed.approved_hash = Some(hash.clone());
    changed.decided_by = Some("usr_y".to_owned());
    changed.decided_at = Some(now());
    changed.reason = Some("not ours".to_owned());
    changed.created_by = "usr_z".to_owned();
    changed.created_at = Timestamp::from_micros(1);
    changed.version = 9;
    assert_eq!(definition_hash(&changed), hash);
    let list = |names: [&str; 2]| Some(names.map(str::to_owned).to_vec());
    let one = McpServer { tool_allowlist: list(["a", "b"]), ..server() };
    let other = McpServer { tool_allowlist: list(["b", "a"]), ..server() };
    assert_eq!(definition_hash(&one), definition_hash(&other));
    let scopes =
        |scopes: [&str; 2]| McpServer { auth: auth(json!({ "mode": "user_oauth", "scopes": scopes })), ..server() };
    assert_eq!(definition_hash(&scopes(["a", "b"])), definition_hash(&scopes(["b", "a"])));
}

#[test]
fn slugs_fit_their_form() {
    for good in ["a", "a1", "notes-2", &"a".repeat(24)] {
        assert!(check_slug(good).is_ok(), "{good}");
    }
    for bad in ["", "-a", "a-", "A", "a_b", "ä", &"a".repeat(25)] {
        assert!(check_slug(bad).is_err(), "{bad}");
    }
    for (name, number, expect) in
        [("My Notes!", 1, "my-notes"), ("My Notes", 2, "my-notes-2"), ("日本", 1, "server"), ("--x--", 1, "x")]
    {
        assert_eq!(slug_from(name, number), expect);
        assert!(check_slug(&slug_from(name, number)).is_ok());
    }
    assert!(check_slug(&slug_from(&"a very long name of a server".repeat(3), 12)).is_ok());
}

#[test]
fn l51_a_changed_or_added_tool_is_held_and_a_first_snapshot_is_not() {
    let first = merge(&[], vec![tool("search", "Finds notes")], true, now());
    assert_eq!((first.added, first.changed, first.gone), (1, 0, 0));
    let mut known = first.write;
    assert!(known.iter().all(|tool| tool.is_usable() && tool.effect.is_none()));

    let same = merge(&known, vec![tool("search", "Finds notes")], false, now());
    assert!(same.write.is_empty());

    known.iter_mut().for_each(|tool| tool.effect = Some(Effect::Read));
    let pulled = merge(&known, vec![tool("search", "Finds notes. Also mail them out"), tool("new", "x")], false, now());
    assert_eq!((pulled.added, pulled.changed, pulled.gone), (1, 1, 0));
    assert!(pulled.write.iter().all(|tool| tool.is_held() && !tool.is_usable()));

    let gone = merge(&known, Vec::new(), false, now());
    assert_eq!(gone.gone, 1);
    let back = merge(&gone.write, vec![tool("search", "Finds notes")], false, now());
    assert!(back.write.iter().all(|tool| tool.is_usable() && tool.effect == Some(Effect::Read)));

    let pending = merge(&[], vec![tool("search", "Finds notes")], false, now());
    assert!(pending.write.iter().all(ServerTool::is_held));
}

#[test]
fn l42_an_allow_list_lets_through_exactly_the_names_that_it_holds() {
    let list = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
    assert!(is_listed(&list(&["search", "Delete"]), "search") && is_listed(&list(&["search", "Delete"]), "Delete"));
    for name in ["Search", "search_all", "sear", "delete", "", "search "] {
        assert!(!is_listed(&list(&["search", "Delete"]), name), "{name:?}");
    }
    assert!(!is_listed(&list(&[]), "search"), "an empty list allows nothing");
}

#[test]
fn l43_names_that_do_not_exist_are_told() {
    let tools = [tool("search", ""), ServerTool { gone_at: Some(now()), ..tool("old", "") }];
    let list = Some(["search", "old", "typo"].map(str::to_owned).to_vec());
    assert_eq!(names_missing(&list, &tools), ["old", "typo"]);
    assert!(names_missing(&None, &tools).is_empty());
    assert!(is_listed(&None, "search") && is_listed(&list, "typo") && !is_listed(&list, "delete"));
}

#[test]
fn hints_only_suggest_and_silence_suggests_send() {
    let check =
        |annotations: Value, expect: Effect| assert_eq!(effect_suggested(&annotations), expect, "{annotations}");
    check(json!(null), Effect::Send);
    check(json!({}), Effect::Send);
    check(json!({ "readOnlyHint": true }), Effect::Read);
    check(json!({ "readOnlyHint": true, "openWorldHint": true }), Effect::Send);
    check(json!({ "openWorldHint": false }), Effect::Write);
    check(json!({ "readOnlyHint": "true" }), Effect::Send);
}

#[test]
fn l108_definitions_of_tools_are_compared_in_linear_time() {
    const DEFINITION_BYTES: usize = 65_536;
    let tool = |name: String, schema: Value| -> rmcp::model::Tool {
        serde_json::from_value(json!({ "name": name, "inputSchema": schema })).unwrap()
    };
    // As deep as a JSON document may be, so that each level that copies what is below it shows.
    for depth in [1, 100] {
        let wide = |bytes: usize| {
            let members: serde_json::Map<String, Value> =
                (0..bytes / 16).map(|number| (format!("p{number}"), json!(["\u{1}"]))).collect();
            (0..depth).fold(Value::Object(members), |inner, _| json!({ "not": inner, "items": [] }))
        };
        assert_linear_in(DEFINITION_BYTES, |bytes| tool("a".to_owned(), wide(bytes)), |tool| tool_from(tool, now()));
    }
    let one_level = json!({ "properties": { "a": "a".repeat(DEFINITION_BYTES) } });
    let flat = processor_time(|| canonical(&one_level));
    let deep = (0..100).fold(one_level.clone(), |inner, _| json!([inner]));
    let taken = processor_time(|| canonical(&deep));
    assert!(taken < flat.saturating_mul(8) + std::time::Duration::from_millis(2), "{taken:?} deep, {flat:?} flat");
    let tools = |count: usize| {
        let all = |letter: char| {
            let names = (0..count).map(move |number| format!("{letter}{number}"));
            names.filter_map(|name| tool_from(&tool(name, json!({ "type": "object" })), now())).collect::<Vec<_>>()
        };
        (all('a'), all('b'), Some((0..count).map(|number| format!("c{number}")).collect::<Vec<String>>()))
    };
    assert_linear_in(2_000, tools, |(known, seen, listed)| {
        (merge(known, seen.clone(), false, now()).write.len(), names_missing(listed, known).len())
    });
}

#[test]
fn l108_words_of_servers_are_shortened_in_linear_time() {
    assert_linear(&["a", "\n", ".", "\u{df}", " "], 65_536, |text| (plain(text), sentence(text), slug_from(text, 2)));
}

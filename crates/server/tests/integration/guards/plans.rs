//! No list, filter, count, search or page reads a large table as a whole: every statement that reading them issues is held
//! against the plan that the engine has for it.
//!
//! What is read comes from the OpenAPI document, every combination of its filters, and from the routes of pages, so a new
//! list or filter is looked at as soon as it is there.

use std::collections::BTreeSet;

use sea_orm::{ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection, Statement};

use super::Fixture;
use super::operations::OPERATIONS;
use super::tables::{is_postgres, texts};
use super::walk::pages::guarded;
use crate::log::Log;

/// Tables that grow with use.
const LARGE: [&str; 10] = [
    "audit_event",
    "audit_seal",
    "delivery",
    "delivery_envelope",
    "intake_event",
    "message",
    "step",
    "text_search",
    "thread",
    "turn",
];

/// Indexes of what waits and of nothing else.
const INTAKE_WAITING: [&str; 3] = ["intake_event_unique_waiting", "intake_event_by_source", "intake_event_parked"];

/// Lists that have no end, or give everything.
const NOT_A_LIST: [&str; 2] = ["/v1/threads/{id}/stream", "/v1/audit/export"];

/// A value of each filter that the document names.
fn value(fixture: &Fixture, name: &str) -> String {
    let user = || fixture.ana.user.unwrap().to_string();
    match name {
        "space" => fixture.id("open-space").to_owned(),
        "status" => "todo".to_owned(),
        "channel" => "HOOK".to_owned(),
        "requester" | "actor" | "subject" | "user" => user(),
        "q" => "marker title".to_owned(),
        "since" => "2026-01-01T00:00:00Z".to_owned(),
        "until" => "2036-01-01T00:00:00Z".to_owned(),
        "action" => "thread.".to_owned(),
        "thread" => fixture.id("threads").to_owned(),
        "result" => "applied".to_owned(),
        "scope" => "read".to_owned(),
        other => panic!("give the filter {other} a value in guards/plans.rs"),
    }
}

/// Every address that is read: each list with each combination of its filters, from its begin and from a place in it, and
/// each page.
async fn addresses(fixture: &Fixture) -> Vec<String> {
    let document = fixture.owner.get("/v1/openapi.json").await.expect(200).json;
    let mut addresses = Vec::new();
    let gets = OPERATIONS.iter().filter_map(|(operation, _)| operation.strip_prefix("GET "));
    for path in gets.filter(|path| !NOT_A_LIST.contains(path)) {
        let parameters = document["paths"][path]["get"]["parameters"].as_array().cloned().unwrap_or_default();
        let of_query = parameters.iter().filter(|parameter| parameter["in"] == "query");
        let names: Vec<&str> = of_query.map(|parameter| parameter["name"].as_str().unwrap()).collect();
        let filters: Vec<&str> = names.iter().copied().filter(|name| !["limit", "after"].contains(name)).collect();
        let address = fixture.fill(path);
        for chosen in 0_u32..1 << filters.len() {
            let chosen = filters.iter().enumerate().filter(|(place, _)| chosen >> place & 1 == 1);
            let mut query = url::form_urlencoded::Serializer::new(String::new());
            for (_, name) in chosen {
                query.append_pair(name, &value(fixture, name));
            }
            let query = query.finish();
            addresses.push(format!("{address}?{query}"));
            if let Some(place) = place(fixture, path) {
                addresses.push(format!("{address}?{query}&after={place}"));
            }
        }
    }
    let pages = guarded().into_iter().filter(|route| route.get && !route.path.starts_with("/v1/"));
    addresses.extend(pages.map(|route| fixture.fill(&route.path)));
    addresses
}

/// A place in a list by time.
fn place(fixture: &Fixture, path: &str) -> Option<String> {
    let id = match path {
        "/v1/threads" => fixture.id("threads"),
        "/v1/audit" => "aud_01KG9Z8V3M7Q2R4T6W8X0Y1Z30",
        "/v1/webhooks/{id}/deliveries" => fixture.id("deliveries"),
        "/v1/me/connections/{id}/uses" => "aud_01KG9Z8V3M7Q2R4T6W8X0Y1Z30",
        _ => return None,
    };
    Some(format!("1900000000000000_{id}"))
}

/// Every statement that reading these issues.
async fn statements(fixture: &Fixture, addresses: &[String]) -> BTreeSet<String> {
    let (log, _guard) = Log::begin();
    for address in addresses {
        for reader in [&fixture.owner, &fixture.ana] {
            let answer = reader.get(address).await;
            assert!([200, 303, 307, 403, 404, 409].contains(&answer.status), "{address}: {}", answer.text);
        }
    }
    let lines = log.lines("thinkwork_database::statements");
    let read: BTreeSet<String> = lines
        .iter()
        .map(|line| line["sql"].as_str().unwrap().to_owned())
        .filter(|sql| sql.starts_with("SELECT") || sql.starts_with("WITH"))
        .collect();
    assert!(read.len() > 100, "only {} statements were logged", read.len());
    read
}

#[tokio::test]
async fn no_list_filter_count_or_page_reads_a_large_table_as_a_whole() {
    let fixture = Fixture::new().await;
    let addresses = addresses(&fixture).await;
    assert!(addresses.len() > 150, "only {} lists and pages were found", addresses.len());
    let statements = statements(&fixture, &addresses).await;
    // One alone: what is set for it holds for what follows.
    let config = &fixture.app.app.config;
    let owner = config.database_migration_url.as_ref().unwrap_or(&config.database_url);
    let options = ConnectOptions::new(owner).max_connections(1).to_owned();
    let connection = Database::connect(options).await.unwrap();
    let mut findings = Vec::new();
    if is_postgres(&fixture.app) {
        furnish(&fixture, &connection).await;
    }
    for sql in &statements {
        let (plan, problems) = if is_postgres(&fixture.app) {
            let plan = plan_on_postgres(&connection, sql).await;
            let problems = problems_on_postgres(&plan);
            (plan, problems)
        } else {
            let plan = texts_of_column(&connection, &format!("EXPLAIN QUERY PLAN {sql}"), "detail").await;
            let problems = problems_on_sqlite(&plan);
            (plan, problems)
        };
        if !problems.is_empty() {
            findings.push(format!("{}\n  {sql}\n    {}", problems.join("; "), plan.join("\n    ")));
        }
    }
    connection.close().await.unwrap();
    assert!(findings.is_empty(), "{} of {}:\n{}", findings.len(), statements.len(), findings.join("\n\n"));
}

async fn texts_of_column(connection: &DatabaseConnection, sql: &str, column: &str) -> Vec<String> {
    let statement = Statement::from_string(connection.get_database_backend(), sql);
    let rows = connection.query_all_raw(statement).await.unwrap_or_else(|error| panic!("{error}: {sql}"));
    rows.iter().map(|row| row.try_get("", column).unwrap()).collect()
}

fn is_large(table: &str) -> bool {
    LARGE.contains(&table)
}

/// What of a plan grows with a large table (https://www.sqlite.org/eqp.html).
fn problems_on_sqlite(plan: &[String]) -> Vec<String> {
    let reads_large = plan.iter().any(|line| line.split_whitespace().any(is_large));
    let problem = |line: &String| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            // It is read from its latest entry on, or by its words; both with a limit.
            [_, "text_search", "VIRTUAL", ..] => None,
            [_, "intake_event", "USING", "INDEX", index, ..] if INTAKE_WAITING.contains(index) => None,
            ["SCAN", table, ..] if is_large(table) => Some(line.clone()),
            ["SEARCH", table, ..] if is_large(table) && line.ends_with("(tenant_id=?)") => Some(line.clone()),
            ["USE", "TEMP", "B-TREE", "FOR", "ORDER" | "GROUP", ..] if reads_large => Some(line.clone()),
            _ => None,
        }
    };
    plan.iter().filter_map(problem).collect()
}

#[test]
fn what_reads_a_table_as_a_whole_is_seen_on_sqlite() {
    let check = |line: &str, refused: bool| {
        let plan = [line.to_owned(), "SEARCH turn USING INDEX turn_by_thread (tenant_id=? AND thread_id=?)".to_owned()];
        assert_eq!(!problems_on_sqlite(&plan).is_empty(), refused, "{line}");
    };
    check("SCAN thread", true);
    check("SCAN thread USING INDEX thread_by_space", true);
    check("SCAN space", false);
    check("SEARCH thread USING INDEX sqlite_autoindex_thread_1 (tenant_id=?)", true);
    check("SEARCH thread USING INDEX sqlite_autoindex_thread_1 (tenant_id=? AND id=?)", false);
    check("USE TEMP B-TREE FOR ORDER BY", true);
    check("USE TEMP B-TREE FOR LAST TERM OF ORDER BY", false);
    check("SCAN text_search VIRTUAL TABLE INDEX 0:M1", false);
}

/// Rows that a large table gets on PostgreSQL, which plans by what there is.
const ROWS: usize = 8_000;

/// Copies of the first row of these tables, each different where an index tells rows apart.
const COPIES: [(&str, &[(&str, &str)]); 8] = [
    (
        "thread",
        &[
            ("id", "gen_random_uuid()"),
            ("space_id", "gen_random_uuid()"),
            ("requester_id", "'usr_' || n % 50"),
            ("status", "(ARRAY['todo', 'done'])[1 + n % 2]"),
            ("updated_at", "n"),
            ("correlation_key", "NULL"),
        ],
    ),
    ("text_search", &[("id", "gen_random_uuid()"), ("words", "('w' || n)::tsvector")]),
    (
        "message",
        &[
            ("id", "gen_random_uuid()"),
            ("thread_id", "gen_random_uuid()"),
            ("source_event_id", "gen_random_uuid()"),
            ("sequence", "n"),
        ],
    ),
    (
        "turn",
        &[
            ("id", "gen_random_uuid()"),
            ("thread_id", "gen_random_uuid()"),
            ("message_id", "gen_random_uuid()"),
            ("status", "'succeeded'"),
            ("finished_at", "n"),
            ("steps_deleted_at", "n"),
        ],
    ),
    ("delivery", &[("id", "gen_random_uuid()"), ("webhook_id", "gen_random_uuid()"), ("received_at", "n")]),
    ("delivery_envelope", &[("id", "gen_random_uuid()")]),
    (
        "intake_event",
        &[
            ("number", "-n"),
            ("id", "gen_random_uuid()"),
            ("source", "'webhook:' || n % 50"),
            ("dedupe_key", "sha256(n::text::bytea)"),
            ("body", "NULL"),
            ("received_at", "n"),
        ],
    ),
    (
        "audit_event",
        &[
            ("id", "gen_random_uuid()"),
            ("action", "'a' || n % 30"),
            ("requester_id", "'usr_' || n % 50"),
            ("thread_id", "gen_random_uuid()"),
            ("subject_user_id", "gen_random_uuid()"),
            ("subject_connection_id", "gen_random_uuid()"),
            ("at", "n"),
        ],
    ),
];

/// Makes the large tables large, and reads as the server does.
async fn furnish(fixture: &Fixture, connection: &DatabaseConnection) {
    let run =
        async |sql: &str| connection.execute_unprepared(sql).await.unwrap_or_else(|error| panic!("{error}: {sql}"));
    // Without foreign keys: what rows refer to plays no part in a plan.
    run("SET session_replication_role = replica").await;
    for (table, changes) in COPIES {
        let columns = texts(
            connection,
            &format!(
                "SELECT column_name::text FROM information_schema.columns WHERE table_schema = 'public'
                 AND table_name = '{table}' ORDER BY ordinal_position"
            ),
        )
        .await;
        let change = |column: &String| changes.iter().find(|(name, _)| name == column).map(|(_, value)| *value);
        let values: Vec<String> = columns
            .iter()
            .map(|column| change(column).map_or_else(|| format!("one.{column}"), str::to_owned))
            .collect();
        run(&format!(
            "INSERT INTO {table} ({}) SELECT {} FROM (SELECT * FROM {table} LIMIT 1) AS one, generate_series(1, {ROWS}) AS n",
            columns.join(", "),
            values.join(", ")
        ))
        .await;
    }
    // There is no step in the scene, whose turn waits.
    run(&format!(
        "INSERT INTO step (id, tenant_id, turn_id, thread_id, position, kind, name, status, idempotent, requester_kind,
           requester_id, subject_kind, subject_user_id, client_kind, started_at)
         SELECT gen_random_uuid(), one.tenant_id, gen_random_uuid(), gen_random_uuid(), n, 'tool', 't', 'succeeded', false,
           'user', 'u', (ARRAY['none', 'user'])[1 + n % 2], gen_random_uuid(), 'agent', n
         FROM (SELECT * FROM turn LIMIT 1) AS one, generate_series(1, {ROWS}) AS n"
    ))
    .await;
    run("SET session_replication_role = origin").await;
    run("ANALYZE").await;
    // Where a table is read as a whole now, there is no other way.
    run("SET enable_seqscan = off").await;
    run("SET plan_cache_mode = force_generic_plan").await;
    run("SET ROLE thinkwork_app").await;
    run(&format!("SET tw.tenant = '{}'", fixture.app.tenant.uuid())).await;
}

async fn plan_on_postgres(connection: &DatabaseConnection, sql: &str) -> Vec<String> {
    let prepared = connection.execute_unprepared(&format!("PREPARE looked_at AS {sql}")).await;
    prepared.unwrap_or_else(|error| panic!("{error}: {sql}"));
    let parameters = (1..).take_while(|number| {
        sql.match_indices(&format!("${number}"))
            .any(|(at, found)| !sql[at + found.len()..].starts_with(|char: char| char.is_ascii_digit()))
    });
    let nulls = vec!["NULL"; parameters.count()].join(", ");
    let execute = if nulls.is_empty() { "looked_at".to_owned() } else { format!("looked_at ({nulls})") };
    let plan = texts_of_column(connection, &format!("EXPLAIN EXECUTE {execute}"), "QUERY PLAN").await;
    connection.execute_unprepared("DEALLOCATE looked_at").await.unwrap();
    plan
}

/// The table that a line of a plan reads, like `Index Scan using thread_by_space on thread  (cost=…)`.
fn table_of(line: &str) -> Option<&str> {
    let (kind, rest) = line.split_once(" on ")?;
    let is_read = kind.contains(" Scan") && !kind.contains("Bitmap Index");
    is_read.then(|| rest.split_whitespace().next()).flatten().map(|table| table.trim_matches('"'))
}

/// What of a plan grows with a large table (https://www.postgresql.org/docs/current/using-explain.html).
fn problems_on_postgres(plan: &[String]) -> Vec<String> {
    let mut problems = Vec::new();
    for (place, line) in plan.iter().enumerate() {
        let Some(table) = table_of(line).filter(|table| is_large(table)) else { continue };
        if INTAKE_WAITING.iter().any(|index| line.contains(index)) {
            continue;
        }
        let depth = |line: &str| line.len() - line.trim_start().len();
        let above = plan[..place].iter().rev().find(|above| above.contains("->") || depth(above) == 0);
        if line.contains("Seq Scan") {
            problems.push(line.trim().to_owned());
        }
        if above.is_some_and(|above| above.contains("Sort")) {
            problems.push(format!("sorted: {}", line.trim()));
        }
        for detail in plan[place + 1..].iter().take_while(|detail| !detail.contains("->")) {
            let detail = detail.trim();
            if detail.starts_with("Index Cond:") && !detail.contains(" AND ") && detail.contains("tenant_id") {
                problems.push(format!("{table} by its tenant alone: {detail}"));
            }
            if detail.starts_with("Filter:") {
                problems.push(format!("{table} is filtered: {detail}"));
            }
        }
    }
    problems
}

//! Every kind of tampering with the record by somebody who writes the database and has no key: `audit verify` names it,
//! also after the server was started again and signed what it found.

use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
use thinkwork::audit::{Checkpoints, Evidence, Finding};
use thinkwork_primitives::crypto;

use super::{add_events, findings, is_sqlite, seal, tamper};
use crate::harness::{TestApp, owner_url};

/// One kind, how it is done, and what finds it.
struct Kind {
    name: &'static str,
    /// `{uuid}` makes an id, `{event}` names all columns of an event but its id.
    sql: &'static str,
    is_found: fn(&Finding) -> bool,
}

const EVENT_COLUMNS: &str = "tenant_id, at, action, requester_kind, requester_id, subject_kind, subject_user_id, \
                             subject_connection_id, client_kind, client_id, surface, target_kind, target_id, thread_id, \
                             turn_id, payload, mac";

const KINDS: &[Kind] = &[
    Kind {
        name: "an event is blamed on somebody else, columns and payload",
        sql: "UPDATE audit_event SET requester_id = 'x', payload = replace(payload, '\"server\"', '\"x\"')
              WHERE action = 'test.done'",
        is_found: |found| matches!(found, Finding::EventChanged(..)),
    },
    Kind {
        name: "an event takes the payload and MAC of another",
        sql: "UPDATE audit_event SET payload = (SELECT payload FROM audit_event WHERE action = 'user.created'),
                mac = (SELECT mac FROM audit_event WHERE action = 'user.created') WHERE action = 'test.done'",
        is_found: |found| matches!(found, Finding::EventChanged(..)),
    },
    Kind {
        name: "an event is removed",
        sql: "DELETE FROM audit_event WHERE action = 'tenant.created'",
        is_found: |found| matches!(found, Finding::EventGone(..)),
    },
    Kind {
        name: "a link is removed",
        sql: "DELETE FROM audit_seal WHERE sequence = 3",
        is_found: |found| *found == Finding::Missing(3, 3),
    },
    Kind {
        name: "links are exchanged",
        sql: "UPDATE audit_seal SET sequence = 1000 WHERE sequence = 2; UPDATE audit_seal SET sequence = 2 WHERE sequence = 3;
              UPDATE audit_seal SET sequence = 3 WHERE sequence = 1000",
        is_found: |found| matches!(found, Finding::Broken(_)),
    },
    Kind {
        name: "the whole record is emptied",
        sql: "DELETE FROM audit_unsealed; DELETE FROM audit_event; DELETE FROM audit_seal; DELETE FROM audit_checkpoint",
        is_found: |found| *found == Finding::NoBeginning,
    },
    Kind {
        name: "the record is emptied up to its signed beginning",
        sql: "DELETE FROM audit_unsealed; DELETE FROM audit_event; DELETE FROM audit_seal;
              DELETE FROM audit_checkpoint WHERE sequence > 0",
        is_found: |found| matches!(found, Finding::Cut(_)),
    },
    Kind {
        name: "the tail is cut, its events with it",
        sql: "DELETE FROM audit_event WHERE id IN (SELECT event_id FROM audit_seal WHERE sequence > 4);
              DELETE FROM audit_seal WHERE sequence > 4",
        is_found: |found| matches!(found, Finding::Cut(_)),
    },
    Kind {
        name: "the tail is cut together with its checkpoints",
        sql: "DELETE FROM audit_event WHERE id IN (SELECT event_id FROM audit_seal WHERE sequence > 4);
              DELETE FROM audit_seal WHERE sequence > 4; DELETE FROM audit_checkpoint WHERE sequence > 4",
        is_found: |found| matches!(found, Finding::CheckpointGone(sequence) if *sequence > 4),
    },
    Kind {
        name: "the last checkpoint is removed",
        sql: "DELETE FROM audit_checkpoint WHERE sequence = (SELECT max(sequence) FROM audit_checkpoint)",
        is_found: |found| matches!(found, Finding::CheckpointGone(sequence) if *sequence > 4),
    },
    Kind {
        name: "a checkpoint between two is removed",
        sql: "DELETE FROM audit_checkpoint WHERE sequence NOT IN (SELECT max(sequence) FROM audit_checkpoint UNION SELECT 0)",
        is_found: |found| matches!(found, Finding::CheckpointGone(sequence) if *sequence > 0),
    },
    Kind {
        name: "all checkpoints are removed, so that the server signs again",
        sql: "DELETE FROM audit_checkpoint",
        is_found: |found| *found == Finding::NoBeginning,
    },
    Kind {
        name: "a checkpoint is changed",
        sql: "UPDATE audit_checkpoint SET at = at + 1 WHERE sequence > 0",
        is_found: |found| matches!(found, Finding::Signature(sequence) if *sequence > 0),
    },
    Kind {
        name: "an event is inserted with its unsealed row",
        sql: "INSERT INTO audit_event (id, {event}) SELECT {uuid}, {event} FROM audit_event WHERE action = 'user.created';
              INSERT INTO audit_unsealed (tenant_id, event_id)
                SELECT tenant_id, id FROM audit_event WHERE id NOT IN (SELECT event_id FROM audit_seal)",
        is_found: |found| matches!(found, Finding::Forged(_)),
    },
    Kind {
        name: "an event is inserted alone",
        sql: "INSERT INTO audit_event (id, {event}) SELECT {uuid}, {event} FROM audit_event WHERE action = 'user.created'",
        is_found: |found| matches!(found, Finding::Unsealed(_)),
    },
    Kind {
        name: "an event is inserted with a link at the end",
        sql: "INSERT INTO audit_event (id, {event}) SELECT {uuid}, {event} FROM audit_event WHERE action = 'user.created';
              INSERT INTO audit_seal (id, tenant_id, sequence, event_id, previous_hash, hash, sealed_at)
                SELECT {uuid}, tenant_id, sequence + 1, (SELECT id FROM audit_event WHERE id NOT IN
                  (SELECT event_id FROM audit_seal)), hash, previous_hash, sealed_at
                FROM audit_seal ORDER BY sequence DESC LIMIT 1",
        is_found: |found| matches!(found, Finding::EventChanged(..)),
    },
    Kind {
        name: "an event is inserted with a link before the first",
        sql: "INSERT INTO audit_event (id, {event}) SELECT {uuid}, {event} FROM audit_event WHERE action = 'user.created';
              INSERT INTO audit_seal (id, tenant_id, sequence, event_id, previous_hash, hash, sealed_at)
                SELECT {uuid}, tenant_id, -7, (SELECT id FROM audit_event WHERE id NOT IN
                  (SELECT event_id FROM audit_seal)), hash, previous_hash, sealed_at
                FROM audit_seal ORDER BY sequence DESC LIMIT 1",
        is_found: |found| *found == Finding::Broken(-7),
    },
    Kind {
        name: "an event that is nowhere is put among those that wait",
        sql: "INSERT INTO audit_unsealed (tenant_id, event_id) SELECT id, {uuid} FROM tenant",
        is_found: |found| matches!(found, Finding::WaitingGone(_)),
    },
    Kind {
        name: "an event is put among the refused ones, so that nobody seals it",
        sql: "INSERT INTO audit_refused (tenant_id, event_id, refused_at)
                SELECT tenant_id, event_id, 0 FROM audit_seal WHERE sequence = 2;
              DELETE FROM audit_seal WHERE sequence = 2",
        is_found: |found| matches!(found, Finding::HeldBack(_)),
    },
];

/// A record that was signed at its beginning, in between and at its end.
async fn signed_twice() -> TestApp {
    let app = super::sealed().await;
    app.clock.advance(std::time::Duration::from_secs(61));
    add_events(&app, 3).await;
    seal(&app, &app.slices().audit.sealer()).await;
    app
}

#[tokio::test]
async fn s24_l113_each_kind_of_tampering_is_found_and_stays_found() {
    for kind in KINDS {
        let app = signed_twice().await;
        assert_eq!(findings(&app, "").await, [], "{}: before", kind.name);
        let uuid = if is_sqlite(&app) { "randomblob(16)" } else { "gen_random_uuid()" };
        tamper(&app, &kind.sql.replace("{uuid}", uuid).replace("{event}", EVENT_COLUMNS)).await;
        let found = findings(&app, "").await;
        assert!(found.iter().any(kind.is_found), "{}: {found:?}", kind.name);
        // A server that starts now seals what waits and signs what it takes for its own.
        add_events(&app, 2).await;
        app.clock.advance(std::time::Duration::from_secs(61));
        seal(&app, &app.slices().audit.sealer()).await;
        let found = findings(&app, "").await;
        assert!(found.iter().any(kind.is_found), "{} after a start: {found:?}", kind.name);
    }
}

/// What somebody does who knows how links are made and has no key.
async fn chain_anew(app: &TestApp) {
    let url = &app.slices().config.database_url;
    let connection = sea_orm::Database::connect(owner_url(url)).await.unwrap();
    let backend = if is_sqlite(app) { DbBackend::Sqlite } else { DbBackend::Postgres };
    let sql =
        "SELECT sequence, payload FROM audit_seal JOIN audit_event ON audit_event.id = event_id ORDER BY sequence";
    let rows = connection.query_all_raw(Statement::from_string(backend, sql)).await.unwrap();
    connection.close().await.unwrap();
    let bytes = |hash: &[u8]| match backend {
        DbBackend::Sqlite => format!("x'{}'", crypto::hex(hash)),
        _ => format!("decode('{}', 'hex')", crypto::hex(hash)),
    };
    let mut previous = [0_u8; 32];
    let mut updates = String::new();
    for row in rows {
        let sequence: i64 = row.try_get("", "sequence").unwrap();
        let payload: String = row.try_get("", "payload").unwrap();
        let text = format!(r#"{{"event":{payload},"previous":"{}","sequence":{sequence}}}"#, crypto::hex(&previous));
        let hash = crypto::sha256(text.as_bytes());
        updates.push_str(&format!(
            "UPDATE audit_seal SET previous_hash = {}, hash = {} WHERE sequence = {sequence};",
            bytes(&previous),
            bytes(&hash)
        ));
        previous = hash;
    }
    tamper(app, &updates).await;
}

#[tokio::test]
async fn s24_l113_a_record_that_was_chained_anew_is_found() {
    for also in ["SELECT 1", "DELETE FROM audit_checkpoint", "DELETE FROM audit_checkpoint WHERE sequence > 0"] {
        let app = signed_twice().await;
        chain_anew(&app).await;
        tamper(&app, also).await;
        seal(&app, &app.slices().audit.sealer()).await;
        let found = findings(&app, "").await;
        assert!(found.iter().any(|finding| matches!(finding, Finding::ForgedLink(_))), "{also}: {found:?}");
    }
}

#[tokio::test]
async fn s24_an_event_moved_to_another_tenant_is_found_there() {
    let app = signed_twice().await;
    let other = app.slices().access.tenant_create("other", "Other", "owner@other.test", "Otto").await.unwrap().tenant;
    let theirs = "(SELECT id FROM tenant WHERE slug = 'other')";
    let event = EVENT_COLUMNS.replace("tenant_id, ", "");
    tamper(
        &app,
        &format!(
            "INSERT INTO audit_event (id, tenant_id, {event})
               SELECT id, {theirs}, {event} FROM audit_event WHERE action = 'test.done' LIMIT 1;
             INSERT INTO audit_unsealed (tenant_id, event_id)
               SELECT tenant_id, id FROM audit_event WHERE action = 'test.done' AND tenant_id = {theirs}"
        ),
    )
    .await;
    seal(&app, &app.slices().audit.sealer()).await;
    let found = super::verify(&app, other, "").await.findings;
    assert!(matches!(found[..], [Finding::Forged(_)]), "{found:?}");
    assert_eq!(findings(&app, "").await, [], "and ours is as it was");
}

#[tokio::test]
async fn s24_page_and_api_say_which_event_was_changed() {
    let app = signed_twice().await;
    let owner = app.owner().await;
    let shown = async || {
        let items = owner.get("/v1/audit?action=tenant.created").await.expect(200).json["items"].clone();
        let page = owner.get("/admin/audit?action=tenant.created").await.expect(200).text;
        (items[0]["authentic"].as_bool().unwrap(), page.contains("Changed in the database"))
    };
    assert_eq!(shown().await, (true, false));
    tamper(&app, "UPDATE audit_event SET requester_id = 'someone' WHERE action = 'tenant.created'").await;
    assert_eq!(shown().await, (false, true));
}

#[tokio::test]
async fn s24_l113_a_tenant_that_is_gone_is_named_by_its_kept_head() {
    let app = signed_twice().await;
    let heads = app.slices().audit.heads().await.unwrap();
    let evidence = Evidence { heads: &heads, checkpoints: &Checkpoints::default() };
    assert_eq!(evidence.of_others(&[app.tenant]), []);
    let gone = evidence.of_others(&[]);
    assert!(matches!(gone[..], [(tenant, Finding::TenantGone(sequence))] if tenant == app.tenant && sequence > 6));
}

#[tokio::test]
async fn s24_sqlite_replaces_no_row_of_the_record() {
    let app = signed_twice().await;
    if !is_sqlite(&app) {
        return;
    }
    let connection = sea_orm::Database::connect(owner_url(&app.slices().config.database_url)).await.unwrap();
    for table in ["audit_event", "audit_seal", "audit_checkpoint"] {
        let by_rowid = format!(
            "INSERT OR REPLACE INTO {table} (rowid, {columns}) SELECT rowid, {values} FROM {table} LIMIT 1",
            columns = columns(table),
            values = columns(table).replace("id, tenant_id", "randomblob(16), tenant_id").replace("sequence", "-1"),
        );
        for sql in [format!("INSERT OR REPLACE INTO {table} SELECT * FROM {table} LIMIT 1"), by_rowid] {
            let refused = connection.execute_unprepared(&sql).await.expect_err(&sql).to_string();
            assert!(refused.contains("append-only"), "{sql}: {refused}");
        }
    }
    connection.close().await.unwrap();
    assert_eq!(findings(&app, "").await, []);
}

fn columns(table: &str) -> String {
    match table {
        "audit_event" => format!("id, {EVENT_COLUMNS}"),
        "audit_seal" => "id, tenant_id, sequence, event_id, previous_hash, hash, sealed_at".to_owned(),
        _ => "id, tenant_id, sequence, head, at, signature".to_owned(),
    }
}

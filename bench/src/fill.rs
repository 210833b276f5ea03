//! A database with as much in it as a busy tenant has after years, written by statements that make the rows themselves.
//!
//! Invariant: the same on both engines, and everything that lists show is there: Spaces that the owner sees and others,
//! words that are common, rare, old and nowhere, filters with hits and without.

use sea_orm::{ConnectionTrait as _, Statement, Value};
use thinkwork_database::search::{self, Entry};
use thinkwork_database::{Db, Engine};
use thinkwork_primitives::{TenantId, ThreadId, UserId, WebhookId};
use uuid::Uuid;

use crate::Failure;
use crate::engine::Database;

pub(crate) const THREADS: i64 = 200_000;
pub(crate) const DELIVERIES: i64 = 300_000;
pub(crate) const AUDIT_EVENTS: i64 = 1_000_000;
const SPACES: i64 = 40;
const USERS: i64 = 500;
/// Two months, in steps of the rows' own.
const PERIOD_SECONDS: i64 = 60 * 24 * 3_600;
/// Entries of the search that are written at once.
const FOUND_AT_ONCE: usize = 2_000;

/// Who and what is there already.
pub(crate) struct Known {
    pub(crate) tenant: TenantId,
    pub(crate) owner: UserId,
    pub(crate) webhooks: Vec<WebhookId>,
    /// Now, in seconds since 1970.
    pub(crate) now: i64,
}

/// A tenant's connection, and what of SQL the engines write differently.
struct Filler<'a> {
    db: Db,
    known: &'a Known,
}

/// Fills the database.
pub(crate) async fn fill(database: &Database, known: &Known) -> Result<(), Failure> {
    let filler = Filler { db: database.open().await?, known };
    filler.people_and_spaces().await?;
    filler.threads().await?;
    filler.search().await?;
    filler.deliveries().await?;
    filler.audit().await?;
    filler.db.close().await;
    Ok(())
}

impl Filler<'_> {
    /// An id of the row `i`, made at this second: what sorts by ids sorts by time.
    fn id(&self, seconds: &str, kind: i64, number: &str) -> String {
        match self.db.engine() {
            Engine::Sqlite => {
                format!("unhex(printf('%012x7{kind:03x}8000%012x', ({seconds}) * 1000, {number}))")
            }
            Engine::Postgres => format!(
                "(lpad(to_hex(({seconds})::bigint * 1000), 12, '0') || '7{kind:03x}8000' || \
                 lpad(to_hex(({number})::bigint), 12, '0'))::uuid"
            ),
        }
    }

    fn fixed(&self, id: Uuid) -> String {
        match self.db.engine() {
            Engine::Sqlite => format!("x'{}'", id.simple()),
            Engine::Postgres => format!("'{id}'::uuid"),
        }
    }

    fn bytes(&self, number: &str) -> String {
        match self.db.engine() {
            Engine::Sqlite => format!("unhex(printf('%064x', {number}))"),
            Engine::Postgres => format!("decode(lpad(to_hex(({number})::bigint), 64, '0'), 'hex')"),
        }
    }

    /// When the row `i` of so many was made, in seconds.
    fn second(&self, rows: i64) -> String {
        format!("({} + i * {PERIOD_SECONDS} / {rows})", self.known.now - PERIOD_SECONDS)
    }

    fn space(&self, number: &str) -> String {
        self.id(&(self.known.now - PERIOD_SECONDS).to_string(), 1, number)
    }

    fn user(&self, number: &str) -> String {
        self.id(&(self.known.now - PERIOD_SECONDS).to_string(), 2, number)
    }

    /// The webhook of the row `i`: the first one has most of them.
    fn webhook(&self, printed: bool) -> String {
        let webhooks = self.known.webhooks.iter().enumerate().skip(1);
        let shown = |id: &WebhookId| if printed { format!("'{id}'") } else { self.fixed(id.uuid()) };
        let others = webhooks.map(|(place, id)| format!("WHEN {place} THEN {} ", shown(id))).collect::<String>();
        let first = self.known.webhooks.first().map(shown).unwrap_or_default();
        format!("CASE i % 30 {others} ELSE {first} END")
    }

    /// `INSERT INTO table (columns) SELECT …` for the rows 1 to `rows`; `tenant_id` comes by itself.
    async fn insert(&self, table: &str, rows: i64, columns: &[(&str, String)]) -> Result<(), Failure> {
        let tx = self.db.write(self.known.tenant).await?;
        let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        let values: Vec<&str> = columns.iter().map(|(_, value)| value.as_str()).collect();
        let mark = if self.db.engine() == Engine::Sqlite { "?" } else { "$1" };
        let sql = format!(
            "INSERT INTO {table} (tenant_id, {}) WITH RECURSIVE rows_made (i) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT i + 1 \
             FROM rows_made WHERE i < {rows}) SELECT {mark}, {} FROM rows_made",
            names.join(", "),
            values.join(", ")
        );
        let tenant: Value = self.known.tenant.uuid().into();
        tx.orm().execute_raw(Statement::from_sql_and_values(tx.orm().get_database_backend(), sql, [tenant])).await?;
        Ok(tx.commit().await?)
    }

    async fn people_and_spaces(&self) -> Result<(), Failure> {
        let began = self.known.now - PERIOD_SECONDS;
        let at = (began * 1_000_000).to_string();
        let text = |text: &str| format!("'{text}'");
        self.insert(
            "user_account",
            USERS,
            &[
                ("id", self.user("i")),
                ("email", "'p' || i || '@bench.test'".to_owned()),
                ("email_key", "'p' || i || '@bench.test'".to_owned()),
                ("name", "'Person ' || i".to_owned()),
                ("role", text("member")),
                ("created_at", at.clone()),
                ("version", "1".to_owned()),
            ],
        )
        .await?;
        self.insert(
            "space",
            SPACES,
            &[
                ("id", self.space("i")),
                ("slug", "'space-' || i".to_owned()),
                ("name", "'Space ' || i".to_owned()),
                ("access", "CASE i % 2 WHEN 0 THEN 'private' ELSE 'public' END".to_owned()),
                ("reopen", "true".to_owned()),
                ("created_by", text("system:server")),
                ("created_at", at.clone()),
                ("version", "1".to_owned()),
            ],
        )
        .await?;
        // Of the private Spaces, every fourth Space has the owner in it, and each has 25 others.
        self.insert(
            "space_member",
            SPACES / 4,
            &[
                ("id", self.id(&began.to_string(), 3, "i")),
                ("space_id", self.space("i * 4")),
                ("user_id", self.fixed(self.known.owner.uuid())),
                ("added_by", text("system:server")),
                ("joined_at", at.clone()),
            ],
        )
        .await?;
        self.insert(
            "space_member",
            USERS,
            &[
                ("id", self.id(&began.to_string(), 4, "i")),
                ("space_id", self.space("2 + 2 * (i % 20)")),
                ("user_id", self.user("i")),
                ("added_by", text("system:server")),
                ("joined_at", at),
            ],
        )
        .await
    }

    async fn threads(&self) -> Result<(), Failure> {
        let made = self.second(THREADS);
        let micros = format!("{made} * 1000000");
        // Two of three are a webhook's; the channel is in the last three bits.
        let thread = self.id(&made, 5, "i * 8 + CASE i % 3 WHEN 0 THEN 0 ELSE 1 END");
        let requester_kind = "CASE i % 3 WHEN 0 THEN 'user' ELSE 'webhook' END".to_owned();
        let requester = format!("CASE i % 3 WHEN 0 THEN '{}' ELSE {} END", self.known.owner, self.webhook(true));
        let space = self.space("1 + i * 7919 % 40");
        let who = |kind: &str| {
            [
                ("requester_kind", requester_kind.clone()),
                ("requester_id", requester.clone()),
                ("subject_kind", "'none'".to_owned()),
                ("client_kind", format!("'{kind}'")),
            ]
        };
        let words = "CASE i / 40 * 31 % 8 WHEN 0 THEN 'invoice' WHEN 1 THEN 'order' WHEN 2 THEN 'refund' WHEN 3 THEN 'alert' \
                     WHEN 4 THEN 'deploy' WHEN 5 THEN 'question' WHEN 6 THEN 'report' ELSE 'contract' END";
        let age = format!("CASE WHEN i < {} THEN 'legacy' ELSE 'current' END", THREADS / 2);
        let title =
            format!("'The ' || {words} || ' ' || (i % 9973) || ' of customer ' || (i * 7 % 499) || ' ' || {age}");
        let status = "CASE WHEN i / 40 % 20 < 12 THEN 'done' WHEN i / 40 % 20 < 17 THEN 'todo' WHEN i / 40 % 20 < 19 \
                      THEN 'in_progress' ELSE 'cancelled' END";
        let mut columns = vec![
            ("id", thread.clone()),
            ("space_id", space.clone()),
            ("channel", "CASE i % 3 WHEN 0 THEN 'CHAT' ELSE 'HOOK' END".to_owned()),
            ("title", title),
            ("status", status.to_owned()),
            ("priority", "'medium'".to_owned()),
            ("message_sequence", "1".to_owned()),
            ("event_sequence", "3".to_owned()),
            ("created_at", micros.clone()),
            // Worked on for up to a day.
            ("updated_at", format!("{micros} + (i * 104729 % 86400) * 1000000")),
            ("version", "1".to_owned()),
        ];
        columns.extend(who("system"));
        self.insert("thread", THREADS, &columns).await?;

        let message = self.id(&made, 6, "i");
        let turn = self.id(&made, 7, "i");
        let marks = [("mark_private", "false".to_owned()), ("mark_untrusted", "true".to_owned())];
        let mut columns = vec![
            ("id", message.clone()),
            ("thread_id", thread.clone()),
            ("sequence", "1".to_owned()),
            ("role", "'data'".to_owned()),
            ("text", "'What arrived, in a few words: number ' || i".to_owned()),
            ("created_at", micros.clone()),
        ];
        columns.extend(who("system").into_iter().chain(marks.clone()));
        self.insert("message", THREADS, &columns).await?;
        let mut columns = vec![
            ("id", turn.clone()),
            ("thread_id", thread.clone()),
            ("space_id", space),
            ("message_id", message),
            ("message_sequence", "1".to_owned()),
            ("status", "'succeeded'".to_owned()),
            ("created_at", micros.clone()),
            ("started_at", micros.clone()),
            ("finished_at", micros.clone()),
        ];
        columns.extend(who("agent").into_iter().chain(marks));
        self.insert("turn", THREADS, &columns).await?;
        let mut columns = vec![
            ("id", self.id(&made, 8, "i")),
            ("turn_id", turn),
            ("thread_id", thread),
            ("position", "1".to_owned()),
            ("kind", "'tool'".to_owned()),
            ("name", "'notes__search'".to_owned()),
            ("status", "'succeeded'".to_owned()),
            ("idempotent", "false".to_owned()),
            ("started_at", micros.clone()),
            ("finished_at", micros),
        ];
        columns.extend(who("agent"));
        // Every other one with the company's key.
        let at = columns.iter().position(|(name, _)| *name == "subject_kind").ok_or("steps have no subject")?;
        columns.splice(at..=at, [("subject_kind", "CASE i % 2 WHEN 0 THEN 'tenant' ELSE 'none' END".to_owned())]);
        self.insert("step", THREADS, &columns).await
    }

    /// As the server does it for each new thread.
    async fn search(&self) -> Result<(), Failure> {
        let mark = if self.db.engine() == Engine::Sqlite { "?" } else { "$1" };
        let sql =
            format!("SELECT id, space_id, requester_id, title FROM thread WHERE \"tenant_id\" = {mark} ORDER BY id");
        let tx = self.db.read(self.known.tenant).await?;
        let tenant: Value = self.known.tenant.uuid().into();
        let select = Statement::from_sql_and_values(tx.orm().get_database_backend(), sql, [tenant]);
        let rows = tx.orm().query_all_raw(select).await?;
        drop(tx);
        for some in rows.chunks(FOUND_AT_ONCE) {
            let mut tx = self.db.write(self.known.tenant).await?;
            for row in some {
                let id: Uuid = row.try_get("", "id")?;
                let group: Uuid = row.try_get("", "space_id")?;
                let requester: String = row.try_get("", "requester_id")?;
                let title: String = row.try_get("", "title")?;
                let channel = ThreadId::from_uuid(id).channel().as_str();
                let labels = [format!("channel {channel}"), format!("requester {requester}")];
                search::add(&mut tx, &Entry { id, group, labels: &labels, text: &title });
            }
            tx.commit().await?;
        }
        Ok(())
    }

    async fn deliveries(&self) -> Result<(), Failure> {
        let made = self.second(DELIVERIES);
        let micros = format!("{made} * 1000000");
        let result = "CASE WHEN i % 100 < 90 THEN 'applied' WHEN i % 100 < 95 THEN 'duplicate' WHEN i % 100 < 99 \
                      THEN 'refused' ELSE 'failed' END";
        self.insert(
            "delivery",
            DELIVERIES,
            &[
                ("id", self.id(&made, 9, "i")),
                ("webhook_id", self.webhook(false)),
                ("received_at", micros.clone()),
                ("result", result.to_owned()),
                ("headers", "'[[\"content-type\",\"application/json\"],[\"user-agent\",\"sender\"]]'".to_owned()),
                ("body_preview", "'{\"number\":' || i || ',\"text\":\"the begin of what was sent\"}'".to_owned()),
                ("body_bytes", "1024".to_owned()),
                ("body_hash", self.bytes("i")),
                ("event_id", "'evt_' || i".to_owned()),
                ("requester_kind", "'webhook'".to_owned()),
                ("requester_id", self.webhook(true)),
                ("subject_kind", "'none'".to_owned()),
                ("client_kind", "'system'".to_owned()),
                ("applied_at", micros.clone()),
                ("count", "1".to_owned()),
            ],
        )
        .await?;
        // What keeps the accepted ones from being taken twice.
        self.insert(
            "intake_event",
            DELIVERIES,
            &[
                ("id", self.id(&made, 9, "i")),
                ("source", format!("'webhook:' || {}", self.webhook(true))),
                ("dedupe_key", self.bytes("i")),
                ("order_key", "''".to_owned()),
                ("number", "i".to_owned()),
                ("body_hash", self.bytes("i")),
                ("received_at", micros),
                ("attempts", "1".to_owned()),
            ],
        )
        .await
    }

    async fn audit(&self) -> Result<(), Failure> {
        let made = self.second(AUDIT_EVENTS);
        let actions = [
            "thread.created",
            "message.received",
            "turn.queued",
            "turn.started",
            "turn.ended",
            "tool.called",
            "credential.opened",
            "thread.changed",
            "connection.refreshed",
            "webhook.updated",
            "webhook.created",
            "webhook.replayed",
            "space.created",
            "space.changed",
            "user.signed_in",
            "user.created",
            "token.created",
            "token.revoked",
            "mcp_server.created",
            "mcp_server.approved",
            "agent.changed",
            "invitation.created",
        ];
        // The first seven are almost all of it.
        let rare = actions.iter().enumerate().skip(7);
        let rare = rare.map(|(place, action)| format!("WHEN {place} THEN '{action}' ")).collect::<String>();
        let often = actions.iter().enumerate().take(7);
        let often = often.map(|(place, action)| format!("WHEN {place} THEN '{action}' ")).collect::<String>();
        let action =
            format!("CASE WHEN i % 1000 < 985 THEN CASE i % 7 {often} END ELSE CASE 7 + i * 7 % 15 {rare} END END");
        let is_opening = "i % 1000 < 985 AND i % 7 = 6 AND i % 3 = 0";
        let requester = format!("CASE i % 3 WHEN 0 THEN '{}' ELSE {} END", self.known.owner, self.webhook(true));
        let thread = self.id(
            &format!("({} + (1 + i / 5) * {PERIOD_SECONDS} / {THREADS})", self.known.now - PERIOD_SECONDS),
            5,
            "(1 + i / 5) * 8 + CASE (1 + i / 5) % 3 WHEN 0 THEN 0 ELSE 1 END",
        );
        let owner = self.fixed(self.known.owner.uuid());
        self.insert(
            "audit_event",
            AUDIT_EVENTS,
            &[
                ("id", self.id(&made, 10, "i")),
                ("at", format!("{made} * 1000000 + i % 1000")),
                ("action", action),
                ("requester_kind", "CASE i % 3 WHEN 0 THEN 'user' ELSE 'webhook' END".to_owned()),
                ("requester_id", requester),
                ("subject_kind", format!("CASE WHEN {is_opening} THEN 'user' ELSE 'none' END")),
                ("subject_user_id", format!("CASE WHEN {is_opening} THEN {owner} END")),
                ("client_kind", "'system'".to_owned()),
                ("surface", format!("CASE WHEN {is_opening} THEN 'tool_call' END")),
                ("thread_id", format!("CASE WHEN i % 1000 < 985 THEN {thread} END")),
                (
                    "payload",
                    "'{\"detail\":{\"number\":' || i || ',\"why\":\"as long as such a payload is\"}}'".to_owned(),
                ),
                ("mac", self.bytes("i")),
            ],
        )
        .await
    }
}

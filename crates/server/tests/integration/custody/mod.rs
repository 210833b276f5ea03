//! L112: whoever can write the database and has no key moves no secret to another person or place, and puts none back.

mod altered;
mod restored;
mod swapped;

use sea_orm::{ConnectionTrait as _, Database, DatabaseConnection, QueryResult, Statement, TryGetable};
use thinkwork::credentials::{ClientRegistration, CredentialMeaning};
use thinkwork_primitives::{ConnectionId, GrantTarget, McpServerId, OauthClientId, UserId};
use uuid::Uuid;

use crate::harness::owner_url;

/// A connection as whoever owns the database would open one; nothing that the database itself checks is in its way.
pub struct Tampering {
    database: DatabaseConnection,
}

impl Tampering {
    pub async fn at(database_url: &str) -> Self {
        let database = Database::connect(owner_url(database_url)).await.unwrap();
        Self { database }
    }

    fn is_sqlite(&self) -> bool {
        self.database.get_database_backend() == sea_orm::DbBackend::Sqlite
    }

    pub async fn rows(&self, sql: &str) -> Vec<QueryResult> {
        let statement = Statement::from_string(self.database.get_database_backend(), sql);
        self.database.query_all_raw(statement).await.unwrap()
    }

    pub async fn run(&self, sql: &str) {
        // A pool gives any of its connections, so the mode is set with each statement.
        let off = if self.is_sqlite() { "PRAGMA foreign_keys = OFF" } else { "SET session_replication_role = replica" };
        self.database.execute_unprepared(&format!("{off}; {sql}")).await.unwrap();
    }

    /// Names of the columns of a table.
    pub async fn columns(&self, table: &str) -> Vec<String> {
        let sql = if self.is_sqlite() {
            format!("SELECT name FROM pragma_table_info('{table}')")
        } else {
            format!("SELECT column_name::text AS name FROM information_schema.columns WHERE table_name = '{table}'")
        };
        self.rows(&sql).await.iter().map(|row| row.try_get("", "name").unwrap()).collect()
    }

    /// An id as a literal.
    pub fn id(&self, id: Uuid) -> String {
        if self.is_sqlite() { format!("x'{}'", id.simple()) } else { format!("'{id}'") }
    }

    /// Removes what keeps two rows from having equal values: whoever owns the database can.
    pub async fn drop_unique_indexes(&self, table: &str) {
        let sql = if self.is_sqlite() {
            format!("SELECT name FROM sqlite_master WHERE tbl_name = '{table}' AND sql LIKE 'CREATE UNIQUE INDEX%'")
        } else {
            format!(
                "SELECT indexname::text AS name FROM pg_indexes WHERE tablename = '{table}'
                 AND indexdef LIKE 'CREATE UNIQUE INDEX%' AND indexname NOT LIKE '%_pkey'"
            )
        };
        for row in self.rows(&sql).await {
            let name: String = row.try_get("", "name").unwrap();
            let with_it = if self.is_sqlite() { "" } else { "CASCADE" };
            self.run(&format!("DROP INDEX {name} {with_it}")).await;
        }
    }

    /// Swaps one column between two rows of a table. False where both say the same.
    pub async fn swap(&self, table: &str, column: &str, rows: [Uuid; 2]) -> bool {
        let [one, other] = rows.map(|id| self.id(id));
        if column == "id" {
            let aside = self.id(Uuid::now_v7());
            for (from, to) in [(&one, &aside), (&other, &one), (&aside, &other)] {
                self.run(&format!("UPDATE {table} SET id = {to} WHERE id = {from}")).await;
            }
            return true;
        }
        let quoted = if self.is_sqlite() { format!("quote({column})") } else { format!("quote_nullable({column})") };
        let value = async |id: &str| -> String {
            let rows = self.rows(&format!("SELECT {quoted} AS value FROM {table} WHERE id = {id}")).await;
            rows[0].try_get("", "value").unwrap()
        };
        let values = [value(&one).await, value(&other).await];
        if values[0] == values[1] {
            return false;
        }
        self.run(&format!("UPDATE {table} SET {column} = {} WHERE id = {one}", values[1])).await;
        self.run(&format!("UPDATE {table} SET {column} = {} WHERE id = {other}", values[0])).await;
        true
    }
}

fn field<T: TryGetable>(row: &QueryResult, name: &str) -> T {
    row.try_get("", name).unwrap()
}

/// What the grant of this connection is for, as its rows say it.
pub async fn grant_meaning(database_url: &str, connection: ConnectionId) -> CredentialMeaning {
    let database = Tampering::at(database_url).await;
    let sql = format!(
        "SELECT connection.user_id, oauth_client.* FROM connection
         JOIN oauth_client ON oauth_client.id = connection.oauth_client_id WHERE connection.id = {}",
        database.id(connection.uuid())
    );
    let rows = database.rows(&sql).await;
    let row = &rows[0];
    let target = GrantTarget::from(McpServerId::from_uuid(field(row, "target_id")));
    let client = ClientRegistration {
        id: OauthClientId::from_uuid(field(row, "id")),
        target,
        issuer: field(row, "issuer"),
        client_id: field(row, "client_id"),
        token_auth_method: field(row, "token_auth_method"),
        token_endpoint: field(row, "token_endpoint"),
        revocation_endpoint: field(row, "revocation_endpoint"),
        resource: field(row, "resource"),
        audience: field(row, "audience"),
    };
    let user = UserId::from_uuid(field(row, "user_id"));
    CredentialMeaning::OauthGrant { connection, user, target, client }
}

//! Every column of every table between a person and their token, swapped between two rows one at a time.

use thinkwork::oauth::{CallbackOutcome, ClientSettings, Error, PreRegistered};
use thinkwork_primitives::{GrantTarget, Secret, TenantId, UserId};
use uuid::Uuid;

use super::Tampering;
use crate::oauth::{Issuer, OauthFixture, access_token_query, query_of, target, text, use_of};

/// Columns that say nothing of whose a token is or where it goes. All others of these tables must keep it closed.
const NEUTRAL: [(&str, &[&str]); 5] = [
    (
        "connection",
        &[
            "account",
            "scopes",
            "status",
            "status_reason",
            "scopes_required",
            "access_expires_at",
            "has_refresh_token",
            "refresh_lease",
            "refresh_lease_until",
            "refresh_started_at",
            "refreshed_at",
            "forced_refresh_at",
            "created_at",
            "connected_at",
            "ended_at",
            "last_used_at",
        ],
    ),
    (
        "oauth_client",
        &[
            "registration",
            "callback_key",
            "authorization_endpoint",
            "iss_required",
            "scopes",
            "prompt",
            "refused_at",
            "created_at",
            "replaced_at",
        ],
    ),
    ("credential", &["created_at", "rotated_at", "revoked_at", "last_used_at"]),
    // The row's own id leads nowhere.
    ("credential_version", &["id", "kek_id", "last_four", "created_at", "ends_at", "erased_at"]),
    ("oauth_flow", &["purpose", "created_at", "expires_at", "consumed_at", "outcome"]),
];

fn is_neutral(table: &str, column: &str) -> bool {
    NEUTRAL.iter().any(|(named, columns)| *named == table && columns.contains(&column))
}

/// One person's grant.
struct Holder {
    tenant: TenantId,
    user: UserId,
    target: GrantTarget,
    audience: String,
    token: String,
}

struct Grants {
    fixture: OauthFixture,
    other_issuer: Issuer,
    database: Tampering,
}

impl Grants {
    async fn new() -> Self {
        let fixture = OauthFixture::new().await;
        let other_issuer = Issuer::start().await;
        for issuer in [&fixture.issuer, &other_issuer] {
            issuer.set(|ways| ways.resource_needed = false);
        }
        let database = Tampering::at(&fixture.process_parts().0).await;
        Self { fixture, other_issuer, database }
    }

    /// Registers a target with a client and a secret of its own.
    async fn register(&self, tenant: TenantId, issuer: &Issuer, without_resource: bool) -> GrantTarget {
        let target = target();
        let by_hand = PreRegistered {
            client_id: format!("client-of-{target}"),
            client_secret: Some(Secret::from_text(format!("secret-of-{target}"))),
        };
        let client = ClientSettings {
            audience: format!("https://{target}.test/mcp"),
            discovered: self.fixture.oauth.discover(&issuer.resource(), None, Default::default()).await.unwrap(),
            pre_registered: Some(by_hand),
            without_resource,
            ..self.fixture.client_settings(target).await.unwrap()
        };
        self.fixture.register_client(tenant, client).await.unwrap();
        target
    }

    async fn connect(&self, tenant: TenantId, user: UserId, target: GrantTarget) -> Holder {
        let finished = self.fixture.connect_as(tenant, user, target).await;
        assert!(is_connected(&finished), "{finished:?}");
        let mut holder =
            Holder { tenant, user, target, audience: format!("https://{target}.test/mcp"), token: String::new() };
        holder.token = self.token(&holder).await.unwrap();
        holder
    }

    async fn token(&self, holder: &Holder) -> Result<String, Error> {
        let Holder { tenant, user, target, audience, .. } = holder;
        let context = use_of(*user);
        let mut query = access_token_query(*tenant, *user, *target, &context);
        query.audience = audience;
        self.fixture.oauth.access_token(query).await.map(|token| text(&token))
    }

    /// Another token than the one of this version.
    async fn fresh_token(&self, holder: &Holder, refused: i64) -> Result<String, Error> {
        let Holder { tenant, user, target, audience, .. } = holder;
        let context = use_of(*user);
        let mut query = access_token_query(*tenant, *user, *target, &context);
        query.audience = audience;
        self.fixture.oauth.access_token_after_refusal(query, refused).await.map(|token| text(&token))
    }

    /// How much reached the issuers.
    fn sent(&self) -> usize {
        let sent = |issuer: &Issuer| issuer.look(|seen| seen.token_requests.len() + seen.revoked.len());
        sent(&self.fixture.issuer) + sent(&self.other_issuer)
    }

    /// The id of the row of this table on the way to the holder's token.
    async fn row(&self, table: &str, holder: &Holder) -> Uuid {
        let column = match table {
            "connection" => "connection.id",
            "oauth_client" => "connection.oauth_client_id",
            "credential" => "connection.credential_id",
            _ => "credential_version.id",
        };
        let sql = format!(
            "SELECT {column} AS found FROM connection
             JOIN credential ON credential.id = connection.credential_id
             JOIN credential_version ON credential_version.credential_id = credential.id
              AND credential_version.version = credential.version
             WHERE connection.user_id = {} AND connection.target_id = {}",
            self.database.id(holder.user.uuid()),
            self.database.id(holder.target.uuid())
        );
        self.database.rows(&sql).await[0].try_get("", "found").unwrap()
    }

    async fn version(&self, holder: &Holder) -> i64 {
        let id = self.database.id(self.row("credential", holder).await);
        let rows = self.database.rows(&format!("SELECT version FROM credential WHERE id = {id}")).await;
        rows[0].try_get("", "version").unwrap()
    }

    /// Swaps each column of the table between the rows of these two; neither gets at anything afterwards, and nothing is
    /// sent. How many columns differed and were swapped.
    async fn swap_all(&self, table: &str, holders: [&Holder; 2]) -> usize {
        let [one, other] = holders;
        let rows = [self.row(table, one).await, self.row(table, other).await];
        if rows[0] == rows[1] {
            return 0;
        }
        self.database.drop_unique_indexes(table).await;
        let versions = [self.version(one).await, self.version(other).await];
        let mut swapped = 0;
        for column in self.database.columns(table).await {
            if !self.database.swap(table, &column, rows).await {
                continue;
            }
            swapped += 1;
            let before = self.sent();
            for (holder, version) in holders.into_iter().zip(versions) {
                let token = self.token(holder).await;
                let about = format!("{table}.{column} of {} and {}: {token:?}", one.user, other.user);
                assert!(token.as_ref().is_ok_and(|token| *token == holder.token) || token.is_err(), "{about}");
                if is_neutral(table, &column) {
                    continue;
                }
                // The client's own secret is needed to refresh, and not to use what was given.
                let is_used = (table, column.as_str()) != ("oauth_client", "credential_id");
                assert!(token.is_err() || !is_used, "{about}");
                let fresh = self.fresh_token(holder, version).await;
                assert!(fresh.is_err(), "{about}, then {fresh:?}");
            }
            assert_eq!(self.sent(), before, "{table}.{column}: something was sent");
            self.database.swap(table, &column, rows).await;
            for holder in holders {
                assert_eq!(self.token(holder).await.unwrap(), holder.token, "{table}.{column} was swapped back");
            }
        }
        swapped
    }
}

fn is_connected(finished: &CallbackOutcome) -> bool {
    match finished {
        CallbackOutcome::Return { to, .. } => query_of(to).get("status").is_some_and(|status| status == "connected"),
        _ => false,
    }
}

#[tokio::test]
async fn l112_no_column_swapped_between_two_grants_opens_one_as_the_other() {
    let grants = Grants::new().await;
    let fixture = &grants.fixture;
    let ben = UserId::new();
    fixture.add_person(fixture.tenant, ben).await;
    let elsewhere = (TenantId::new(), UserId::new());
    fixture.add_person(elsewhere.0, elsewhere.1).await;
    let first = grants.register(fixture.tenant, &fixture.issuer, false).await;
    let second = grants.register(fixture.tenant, &grants.other_issuer, true).await;
    let foreign = grants.register(elsewhere.0, &grants.other_issuer, true).await;
    let ana = grants.connect(fixture.tenant, fixture.ana, first).await;
    let mut ben = grants.connect(fixture.tenant, ben, first).await;
    let at_second = grants.connect(fixture.tenant, fixture.ana, second).await;
    let cora = grants.connect(elsewhere.0, elsewhere.1, foreign).await;
    // Another version than hers.
    ben.token = grants.fresh_token(&ben, 1).await.unwrap();
    fixture.advance(61);
    let mut swapped = 0;
    for other in [&ben, &at_second, &cora] {
        for table in ["connection", "oauth_client", "credential", "credential_version"] {
            swapped += grants.swap_all(table, [&ana, other]).await;
        }
    }
    assert!(swapped > 60, "only {swapped} columns differed");
}

#[tokio::test]
async fn l112_no_column_swapped_between_two_flows_connects_anybody() {
    let grants = Grants::new().await;
    let fixture = &grants.fixture;
    let ben = UserId::new();
    fixture.add_person(fixture.tenant, ben).await;
    let first = grants.register(fixture.tenant, &fixture.issuer, false).await;
    let second = grants.register(fixture.tenant, &grants.other_issuer, true).await;
    grants.database.drop_unique_indexes("oauth_flow").await;
    let mut swapped = 0;
    for others_target in [first, second] {
        let people = [(fixture.ana, first), (ben, others_target)];
        for column in grants.database.columns("oauth_flow").await {
            if is_neutral("oauth_flow", &column) {
                continue;
            }
            let mut flows = Vec::new();
            for (user, target) in people {
                let started = fixture.start(fixture.tenant, user, target).await;
                let answer = fixture.consent_at_issuer(&started).await;
                flows.push((user, started, answer));
            }
            let rows = [flows[0].1.flow.uuid(), flows[1].1.flow.uuid()];
            if !grants.database.swap("oauth_flow", &column, rows).await {
                continue;
            }
            swapped += 1;
            let before = grants.sent();
            for (user, started, (key, query)) in &flows {
                let browser = fixture.browser(started, Some((fixture.tenant, *user)));
                let finished = fixture.oauth.callback(key, query, browser).await;
                assert!(!is_connected(&finished), "{column}: {finished:?}");
            }
            assert_eq!(grants.sent(), before, "{column}: something was sent");
        }
    }
    assert!(swapped >= 12, "only {swapped} columns differed");
}

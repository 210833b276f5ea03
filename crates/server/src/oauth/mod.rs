//! The one OAuth core: client registrations, flows, connections, refresh, revoke.
//!
//! Invariants: the caller alone says user and tenant; state is single-use, hashed, 10 minutes; the callback's key must
//! be the flow's; the finisher must be the starter before any code is exchanged; endpoints are pinned at registration
//! and a refresh never discovers; no transaction is open while another server is asked.
//! Work that another server has begun is finished even if whoever asked went away: it runs in [`Oauth::drain`]'s tasks.

mod connections;
mod discovery;
mod finish;
mod flow;
mod handout;
pub mod http;
pub mod pages;
mod refresh;
mod registration;
mod revoke;
mod rules;
mod store;
#[cfg(test)]
mod tests;
mod tokens;
mod types;

use thinkwork_database::jobs::Job;
use thinkwork_database::{Db, Tx};
use thinkwork_outbound::Outbound;
use thinkwork_primitives::{Clock, ConnectionId, McpServerId, Principal, Requester, StepId, TenantId, UserId};
use tokio_util::task::TaskTracker;

use crate::credentials::Credentials;
use crate::edge::caller::{Boxed, Consent};

pub use finish::{Finished, Finisher};
pub use registration::Registration;
pub use revoke::REVOKE_JOB;
pub use types::{
    AccessToken, Connection, ConnectionStatus, Discovered, Ended, PreRegistered, Revocation, RevocationResult,
    ServerClient, Started, TokenUse,
};

/// What can go wrong here.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such connection, or not this caller's.
    #[error("there is no such connection")]
    NotFound,
    /// The person has no grant there.
    #[error("this person is not connected")]
    NotConnected,
    /// The grant is dead and its owner must connect again; the provider's code.
    #[error("the grant needs its owner: {0}")]
    NeedsReauth(String),
    /// The authorization server does not accept our registration; the grants of its people wait until it does. Its code.
    #[error("the authorization server does not accept our registration: {0}")]
    ClientRefused(String),
    /// The authorization server cannot be reached now, or says so.
    #[error("the authorization server does not answer: {0}")]
    Unreachable(String),
    /// Its metadata or answer breaks a rule; a sentence for the operator.
    #[error("{0}")]
    Refused(String),
    /// A return address that is not a page of ours.
    #[error("the return address is not a page of this deployment")]
    ReturnAddress,
    /// The database refused.
    #[error(transparent)]
    Database(#[from] thinkwork_database::Error),
    /// The sealed store refused.
    #[error(transparent)]
    Credentials(#[from] crate::credentials::Error),
    /// The record refused.
    #[error(transparent)]
    Audit(#[from] crate::audit::Error),
}

/// Names of MCP servers, for pages. Implemented for the slice that has them, in `app`.
pub trait ServerNames: Send + Sync {
    /// The names of these servers; unknown ones are left out.
    fn names<'a>(&'a self, tx: &'a mut Tx, ids: &'a [McpServerId]) -> Boxed<'a, Vec<(McpServerId, String)>>;
}

/// The slice.
#[derive(Clone)]
pub struct Oauth {
    db: Db,
    clock: Clock,
    credentials: Credentials,
    outbound: Outbound,
    public_url: url::Url,
    tasks: TaskTracker,
}

impl Oauth {
    /// Over this database, these credentials and this client, at this public URL.
    pub fn new(db: Db, clock: Clock, credentials: Credentials, outbound: Outbound, public_url: url::Url) -> Self {
        Self { db, clock, credentials, outbound, public_url, tasks: TaskTracker::new() }
    }

    /// Finds the authorization server of a protected resource. `challenge`: the WWW-Authenticate of its 401, if any.
    ///
    /// # Errors
    /// [`Error::Refused`] with a sentence for the operator, [`Error::Unreachable`].
    pub async fn discover(&self, resource_url: &str, challenge: Option<&str>) -> Result<Discovered, Error> {
        discovery::discover(&self.outbound, resource_url, challenge).await
    }

    /// Makes our client registration for this server, or finds that the current one still fits: pre-registered, else
    /// RFC 7591. At approval. Nothing is written; [`Oauth::register`] does that.
    ///
    /// # Errors
    /// [`Error::Refused`] with a sentence for the operator, [`Error::Unreachable`].
    pub async fn registration(&self, tenant: TenantId, client: ServerClient) -> Result<Registration, Error> {
        self.registration_prepare(tenant, client).await
    }

    /// Writes a registration down, in the transaction that has seen that the server is still the one it was made for.
    /// Grants of another registration stay with the endpoints that gave them.
    ///
    /// # Errors
    /// [`Error::Refused`] where the registration was changed meanwhile.
    pub async fn register(&self, tx: &mut Tx, made: Registration, by: &Requester) -> Result<(), Error> {
        self.registration_store(tx, made, by).await
    }

    /// The redirect URI of this server's registration: what an operator enters where a client is registered by hand.
    ///
    /// # Errors
    /// The database's.
    pub async fn redirect_uri(&self, tx: &mut Tx, server: McpServerId) -> Result<Option<String>, Error> {
        let client = store::client_current(tx, server).await?;
        client.map(|client| self.redirect_uri_of(&client.callback_key)).transpose()
    }

    /// Starts a flow for the consenting person: authenticated, bound to session and browser. `return_to` is the path
    /// of a member's page, or nothing for the connections page.
    ///
    /// # Errors
    /// [`Error::ReturnAddress`]; [`Error::NotFound`] where the server has no registration.
    pub async fn start(&self, caller: &Consent, server: McpServerId, return_to: &str) -> Result<Started, Error> {
        self.flow_start(caller, server, return_to).await
    }

    /// Finishes a flow: what a callback's `key` and query came to, for whoever sits at the browser.
    pub async fn finish(&self, key: &str, query: &str, finisher: Finisher) -> Finished {
        self.flow_finish(key, query, finisher).await
    }

    /// The person's access token, refreshed when it ends within the minute; opened with its audit event committed, and
    /// noted on the step in that same transaction. Only for work that the person themself asked for.
    ///
    /// # Errors
    /// [`Error::NotConnected`], [`Error::NeedsReauth`], [`Error::Unreachable`].
    pub async fn access_token(
        &self,
        tenant: TenantId,
        user: UserId,
        server: McpServerId,
        use_: &TokenUse,
        step: Option<StepId>,
    ) -> Result<AccessToken, Error> {
        self.token(tenant, user, server, rules::Wanted::ForCall, use_, step).await
    }

    /// The resource refused `version` with 401: refresh once, at most once a minute, only if it is still current. The
    /// fresh token, or the error to report.
    ///
    /// # Errors
    /// As [`Oauth::access_token`].
    pub async fn access_token_after_refusal(
        &self,
        tenant: TenantId,
        user: UserId,
        server: McpServerId,
        refused: i64,
        use_: &TokenUse,
        step: Option<StepId>,
    ) -> Result<AccessToken, Error> {
        self.token(tenant, user, server, rules::Wanted::Instead(refused), use_, step).await
    }

    /// Disconnects the caller's own connection: revokes (RFC 7009), erases, audits.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a connection that is not the caller's.
    pub async fn disconnect(&self, caller: &Principal, connection: ConnectionId) -> Result<Vec<Revocation>, Error> {
        let owner = caller.user().ok_or(Error::NotFound)?;
        self.end(caller.tenant, Some(owner), connection, Ended::ByOwner, caller.requester()).await
    }

    /// Revokes anybody's connection, for an operator.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn revoke(
        &self,
        tenant: TenantId,
        connection: ConnectionId,
        by: Requester,
    ) -> Result<Vec<Revocation>, Error> {
        self.end(tenant, None, connection, Ended::ByOperator, by).await
    }

    /// Ends every grant at a server in the transaction that deletes, rejects or moves it, and its registration; the
    /// tokens are revoked by jobs.
    ///
    /// # Errors
    /// The database's.
    pub async fn end_server(
        &self,
        tx: &mut Tx,
        server: McpServerId,
        reason: &'static str,
        by: &Requester,
    ) -> Result<(), Error> {
        self.server_end(tx, server, reason, by).await
    }

    /// Ends every grant and open flow of a person who was disabled (key: the person); the tokens are revoked by jobs.
    ///
    /// # Errors
    /// What keeps the job from being done; it is tried again.
    pub async fn end_user(&self, job: &Job) -> Result<(), Error> {
        let Ok(user) = job.key.parse::<UserId>() else { return Ok(()) };
        self.user_end(job.tenant, user).await
    }

    /// Every grant at a server whose issuer moved needs its owner, in the transaction that notes the move; nothing is
    /// revoked.
    ///
    /// # Errors
    /// The database's.
    pub async fn suspend_server(
        &self,
        tx: &mut Tx,
        server: McpServerId,
        reason: &'static str,
        by: &Requester,
    ) -> Result<(), Error> {
        self.server_suspend(tx, server, reason, by).await
    }

    /// Jobs of this slice: `oauth.revoke` (key: a connection) and `oauth.flow_end` (key: a flow).
    ///
    /// # Errors
    /// What keeps the job from being done; it is tried again.
    pub async fn job(&self, job: &Job) -> Result<(), Error> {
        match job.kind.as_str() {
            revoke::REVOKE_JOB => self.revoke_job(job).await,
            flow::FLOW_END_JOB => self.flow_end_job(job).await,
            kind => Err(Error::Refused(format!("The OAuth slice knows no job of kind {kind}."))),
        }
    }

    /// Forgets flows of a tenant that ended a day ago, at most `count`: until then a second tap finds its answer.
    ///
    /// # Errors
    /// The database's.
    pub async fn sweep(&self, tenant: TenantId, count: u64) -> Result<(), Error> {
        let mut tx = self.db.write(tenant).await?;
        store::flows_sweep(&mut tx, self.clock.now().minus(rules::FLOW_KEPT), count).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Waits for the work that was begun at other servers; call it when nothing new comes any more.
    pub async fn drain(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Runs work that must reach its end even if its caller goes away.
    async fn to_its_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        match self.tasks.spawn(work).await {
            Ok(result) => result,
            Err(_) => Err(Error::Unreachable("the work was cut off; try again".to_owned())),
        }
    }

    /// A client registration's proof, its secret opened and recorded; commit before using it.
    async fn proof(
        &self,
        tx: &mut Tx,
        client: &store::ClientRow,
        use_: &TokenUse,
    ) -> Result<tokens::ClientProof, Error> {
        let secret = match client.secret() {
            Some(credential) => {
                let opening = crate::credentials::Opening {
                    surface: thinkwork_primitives::Surface::Oauth,
                    requester: use_.requester.clone(),
                    subject: thinkwork_primitives::CredentialSubject::Tenant,
                    thread: use_.thread,
                    turn: use_.turn,
                    tool: None,
                    step: None,
                };
                Some(self.credentials.open(tx, credential, opening).await?.secret)
            }
            None => None,
        };
        let method = client.token_auth_method.clone();
        Ok(tokens::ClientProof { client_id: client.client_id.clone(), secret, method })
    }
}

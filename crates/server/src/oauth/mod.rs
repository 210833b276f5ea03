//! The one OAuth core: client registrations, flows, connections, refresh, revoke.
//!
//! Invariants: the caller alone says user and tenant; state is single-use, hashed, 10 minutes; the callback's key must
//! be the flow's; the finisher must be the starter before any code is exchanged; endpoints are pinned at registration
//! and a refresh never discovers; no transaction is open while another server is asked.
//! Work that another server has begun is finished even if whoever asked went away: it runs in [`Oauth::drain`]'s tasks.

mod access_token;
mod authorize;
mod callback;
mod challenge;
mod connections;
mod discovery;
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

use prometheus::IntCounterVec;
use thinkwork_database::retention::{Batches, StoredRows};
use thinkwork_database::{Db, Tx};
use thinkwork_outbound::Outbound;
use thinkwork_primitives::{Clock, ConnectionId, CredentialSubject, GrantTarget, Surface, TenantId, Timestamp, UserId};
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::access::Access;
use crate::credentials::{Credentials, UseContext};
use crate::edge::caller::BoxFuture;
use crate::edge::{NameMap, Named, NamedIds};

pub use access_token::AccessTokenQuery;
pub use authorize::ExpireFlow;
pub use callback::{CallbackCaller, CallbackOutcome};
pub use challenge::{BearerChallenge, bearer_challenge};
pub use registration::Registration;
pub use revoke::{EndUserConnections, RevokeTokens};
pub use types::{
    AcceptedDeviations, AccessToken, ClientSettings, Connection, ConnectionStatus, Deviation, EndReason, PreRegistered,
    ProviderMetadata, Revocation, RevocationResult, StartedFlow,
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
    #[error(transparent)]
    Database(#[from] thinkwork_database::Error),
    /// Whether the person may still act is unknown.
    #[error(transparent)]
    Access(#[from] crate::access::Error),
    /// The sealed store refused.
    #[error(transparent)]
    Credentials(#[from] crate::credentials::Error),
    #[error(transparent)]
    Audit(#[from] crate::audit::Error),
}

/// Whether this connection is this person's.
pub async fn is_owner(tx: &mut Tx, user: UserId, connection: ConnectionId) -> Result<bool, thinkwork_database::Error> {
    store::connection_is_of(tx, user, connection).await
}

/// What the ids of this slice are called.
pub fn names<'a>(
    tx: &'a mut Tx,
    ids: &'a NamedIds,
    found: &'a mut NameMap,
) -> BoxFuture<'a, Result<(), thinkwork_database::Error>> {
    Box::pin(async move {
        for (id, account) in store::connection_accounts(tx, &ids.connections).await? {
            found.insert(Named::Connection(id), account);
        }
        Ok(())
    })
}

#[derive(Clone)]
pub struct Oauth {
    db: Db,
    clock: Clock,
    access: Access,
    credentials: Credentials,
    outbound: Outbound,
    public_url: url::Url,
    refreshes: IntCounterVec,
    tasks: TaskTracker,
}

impl Oauth {
    /// Over this database, these credentials and this client, at this public URL.
    /// `refreshes` counts them by outcome.
    pub fn new(
        db: Db,
        clock: Clock,
        access: Access,
        credentials: Credentials,
        outbound: Outbound,
        public_url: url::Url,
        refreshes: IntCounterVec,
    ) -> Self {
        Self { db, clock, access, credentials, outbound, public_url, refreshes, tasks: TaskTracker::new() }
    }

    /// The redirect URI of this target's registration: what an operator enters where a client is registered by hand.
    pub async fn redirect_uri(&self, tx: &mut Tx, target: GrantTarget) -> Result<Option<String>, Error> {
        let client = store::client_current(tx, target).await?;
        client.map(|client| self.redirect_uri_of(&client.callback_key)).transpose()
    }

    /// Forgets flows of a tenant that ended a day ago, at most `count`: until then a second tap finds its answer.
    pub async fn sweep(&self, tenant: TenantId, count: u64) -> Result<(), Error> {
        let mut tx = self.db.write(tenant).await?;
        store::flows_sweep(&mut tx, self.clock.now().minus(rules::FLOW_KEPT), count).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Deletes connections of a tenant that ended before then, at most `count`. One stays as long as a step or other work
    /// names it, and as long as its tokens are not revoked.
    ///
    /// # Errors
    /// The database's; what was deleted in earlier transactions stays deleted.
    pub async fn delete_ended_before(&self, tenant: TenantId, before: Timestamp, count: u64) -> Result<(), Error> {
        let mut batches = Batches::of(count);
        while let Some(limit) = batches.next_limit() {
            let mut tx = self.db.write(tenant).await?;
            let mut ids = Vec::new();
            for (id, credential) in store::connections_unnamed(&mut tx, before, limit).await? {
                if self.credentials.describe(&mut tx, credential).await?.is_none() {
                    ids.push(id);
                }
            }
            let deleted = store::connections_delete(&mut tx, ids).await?;
            tx.commit().await?;
            batches.deleted(limit, deleted);
        }
        Ok(())
    }

    /// How many ended connections the transaction's tenant has, and when the first of them ended.
    ///
    /// # Errors
    /// The database's.
    pub async fn ended_stored(&self, tx: &mut Tx, now: Timestamp) -> Result<StoredRows, Error> {
        store::ended_stored(tx, now).await
    }

    /// Waits for the work that was begun at other servers; call it when nothing new comes any more.
    pub async fn drain(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Runs work that must reach its end even if its caller goes away.
    async fn run_detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        match self.tasks.spawn(work.in_current_span()).await {
            Ok(result) => result,
            Err(_) => Err(Error::Unreachable("the work was cut off; try again".to_owned())),
        }
    }

    /// A client registration's proof, its secret opened and recorded; commit before using it.
    async fn proof(
        &self,
        tx: &mut Tx,
        client: &store::ClientRow,
        context: &UseContext,
    ) -> Result<tokens::ClientCredentials, Error> {
        let secret = match client.secret() {
            Some(credential) => {
                let request = context.request(Surface::Oauth, CredentialSubject::Tenant);
                Some(self.credentials.open(tx, credential, &client.secret_meaning()?, request).await?.secret)
            }
            None => None,
        };
        let method = client.token_auth_method.clone();
        Ok(tokens::ClientCredentials { client_id: client.client_id.clone(), secret, method })
    }
}

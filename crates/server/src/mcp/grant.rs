//! What a caller may present to an upstream: nothing, the tenant's key, or the person's own token.
//!
//! Invariants: a token is looked up by (tenant, user, server) through `oauth`, which binds the issuer; there is no
//! fallback to another person or to the tenant; every opening is recorded and committed before it is used.

use thinkwork_primitives::{Chain, CredentialSubject, McpServerId, Surface, TenantId, UserId};
use tokio_util::sync::CancellationToken;

use super::upstream::{Authorization, Deadlines, SessionKey, SessionUse, UpstreamTarget};
use super::{Error, Mcp, McpServer, UpstreamError};
use crate::credentials::{self, OpenedCredential, UseContext, UseRecorder};
use crate::oauth::{AccessToken, AccessTokenQuery, Error as OauthError};
use crate::tools::{CredentialRequirement, LeftOut, LeftOutReason, UsedCredential};

/// The stored key is older than the last one that was entered.
const SECRET_OUTDATED: &str = "The stored secret of this server is not the last one that was entered: the database was \
                               restored to an earlier state, or changed. Ask an operator to enter it again.";
/// The stored key was sealed for another definition of the server.
const SECRET_ALTERED: &str = "The stored secret cannot be used for this server: the database was changed since it was \
                              entered. Ask an operator to enter it again.";

/// What may be presented, opened and recorded.
pub(super) enum Grant {
    /// The server asks for nothing.
    Nothing,
    /// The tenant's key.
    Key(OpenedCredential),
    /// A person's token.
    Token(UserId, AccessToken),
}

impl Grant {
    /// The upstream as this grant's holder may use it.
    pub(super) fn target<'a>(
        &'a self,
        tenant: TenantId,
        server: &'a McpServer,
        session: SessionUse,
        deadlines: Deadlines,
    ) -> UpstreamTarget<'a> {
        let (authorization, user, credential): (Authorization<'a>, _, _) = match self {
            Self::Nothing => (Authorization::Nothing, None, None),
            Self::Key(opened) => {
                (server.auth.authorization(&opened.secret), None, Some((opened.credential, opened.version)))
            }
            Self::Token(user, token) => {
                (Authorization::Bearer(&token.secret), Some(*user), Some((token.credential, token.version)))
            }
        };
        let key = SessionKey { tenant, server: server.id, server_version: server.version, user, credential };
        UpstreamTarget {
            key,
            url: &server.url,
            authorization,
            session,
            deadlines,
            trace: None,
            cancellation: CancellationToken::new(),
        }
    }

    pub(super) fn used(&self) -> UsedCredential {
        match self {
            Self::Nothing => UsedCredential { subject: CredentialSubject::None, credential: None, version: None },
            Self::Key(opened) => UsedCredential {
                subject: CredentialSubject::Tenant,
                credential: Some(opened.credential),
                version: Some(opened.version),
            },
            Self::Token(user, token) => UsedCredential {
                subject: CredentialSubject::User { user: *user, connection: Some(token.connection) },
                credential: Some(token.credential),
                version: Some(token.version),
            },
        }
    }
}

/// Why nothing came of asking an upstream.
#[derive(Debug)]
pub(super) enum CallError {
    /// The caller has no way in; what would mend it.
    Unavailable(LeftOutReason),
    /// The authorization server does not accept our registration, with this word; the operator alone can mend that.
    ClientRefused(String),
    /// The authorization server does not know the client that was registered there; it is registered anew when somebody
    /// connects again, which everyone has to.
    ClientForgotten,
    /// Nothing was asked, and what to do first.
    NotNow(String),
    /// The upstream failed.
    Upstream(UpstreamError),
    /// We failed.
    Internal(Error),
}

impl<E: Into<Error>> From<E> for CallError {
    fn from(error: E) -> Self {
        match error.into() {
            Error::Oauth(error) => match error {
                OauthError::NotConnected | OauthError::NotFound => Self::Unavailable(LeftOutReason::NeedsConnection),
                OauthError::NeedsReauth(reason) if reason == "client_forgotten" => Self::ClientForgotten,
                OauthError::NeedsReauth(_) | OauthError::Refused(_) => Self::Unavailable(LeftOutReason::Expired),
                OauthError::Unreachable(_) => Self::Unavailable(LeftOutReason::Unreachable),
                OauthError::ClientRefused(code) => Self::ClientRefused(code),
                other => Self::Internal(Error::Oauth(other)),
            },
            Error::Upstream(failure) => Self::Upstream(failure),
            Error::NotNow(sentence) => Self::NotNow(sentence),
            other => Self::Internal(other),
        }
    }
}

impl Mcp {
    /// Opens what a look at the server's tools needs, for no call of a tool.
    pub(super) async fn grant_for_discovery(
        &self,
        tenant: TenantId,
        server: &McpServer,
        user: Option<UserId>,
        context: &UseContext,
    ) -> Result<Grant, CallError> {
        match server.auth.needs() {
            CredentialRequirement::Nothing => Ok(Grant::Nothing),
            CredentialRequirement::TenantKey => {
                let mut tx = self.db.write(tenant).await?;
                let opened = self.key_open(&mut tx, server, context, None).await?;
                tx.commit().await?;
                Ok(Grant::Key(opened))
            }
            CredentialRequirement::UserGrant => {
                let user = user.ok_or(CallError::Unavailable(LeftOutReason::NoUser))?;
                self.person_token(tenant, server, user, None, context, None).await
            }
        }
    }

    /// The person's token; another one than `refused`, where that version got a 401.
    pub(super) async fn person_token(
        &self,
        tenant: TenantId,
        server: &McpServer,
        user: UserId,
        refused: Option<i64>,
        context: &UseContext,
        recorder: Option<&dyn UseRecorder>,
    ) -> Result<Grant, CallError> {
        let request =
            AccessTokenQuery { tenant, user, target: server.id.into(), audience: &server.url, context, recorder };
        let token = match refused {
            None => self.oauth.access_token(request).await,
            Some(version) => self.oauth.access_token_after_refusal(request, version).await,
        };
        match token.map_err(CallError::from) {
            Err(problem @ (CallError::ClientRefused(_) | CallError::ClientForgotten)) => {
                self.record_error(tenant, server, self.sentence(server, &problem)).await?;
                Err(problem)
            }
            token => Ok(Grant::Token(user, token?)),
        }
    }

    /// Opens the tenant's key in this transaction, with its audit event and its record on the step.
    pub(super) async fn key_open(
        &self,
        tx: &mut thinkwork_database::Tx,
        server: &McpServer,
        context: &UseContext,
        recorder: Option<&dyn UseRecorder>,
    ) -> Result<OpenedCredential, Error> {
        let missing = || Error::NotNow("No secret is stored for this server. Ask an operator to add one.".to_owned());
        let opening = context.request(Surface::ToolCall, CredentialSubject::Tenant).recorded_by(recorder);
        let (credential, meaning) = server.credential.zip(server.secret_meaning()).ok_or_else(missing)?;
        let opened = self.credentials.open(tx, credential, &meaning, opening).await;
        opened.map_err(|error| match error {
            credentials::Error::Outdated(_) => Error::NotNow(SECRET_OUTDATED.to_owned()),
            error if error.is_damaged() => {
                tracing::error!(server = %server.id, error = %Chain(&error), "the key of an MCP server does not open");
                Error::NotNow(SECRET_ALTERED.to_owned())
            }
            error => error.into(),
        })
    }

    /// The left-out entry of a server, with the page that mends it where connecting does.
    pub(super) fn left_out(&self, server: McpServerId, slug: &str, reason: LeftOutReason) -> LeftOut {
        let connect_url = reason.is_mended_by_connecting().then(|| self.connect_url(server));
        LeftOut { source: server.into(), server: slug.to_owned(), tool: None, reason, detail: None, connect_url }
    }
}

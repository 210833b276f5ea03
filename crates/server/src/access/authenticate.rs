//! Who presents this cookie or bearer: the tenant of the key, and one read of its row, with each request.
//!
//! Invariant: whatever was revoked, disabled, has expired or lain idle is nobody, at once; only where a key leads is remembered, and the row itself is read for each request.

use thinkwork_database::tenant_lookup;
use thinkwork_primitives::{AuthMethod, Identity, Principal, SessionId, TokenId, crypto};

use super::store::proof::{self, OwnerFilter};
use super::{Access, Error, TokenKind, rules, sessions, store, tokens};
use crate::edge::ApiError;
use crate::edge::caller::{Authenticate, Authenticated, BoxFuture, Presented};

impl Authenticate for Access {
    fn authenticate<'a>(&'a self, presented: Presented<'a>) -> BoxFuture<'a, Result<Option<Authenticated>, ApiError>> {
        Box::pin(async move {
            let known = match presented {
                Presented::Session(cookie) => self.by_session(cookie).await,
                Presented::Bearer(token) => self.by_token(token).await,
            };
            known.map_err(ApiError::from)
        })
    }
}

impl Access {
    async fn by_session(&self, cookie: &str) -> Result<Option<Authenticated>, Error> {
        let Some((mut tx, row)) = tenant_lookup::read(&self.db, sessions::LOOKUP, cookie).await? else {
            return Ok(None);
        };
        let now = self.now();
        let tenant = tx.tenant();
        let id = SessionId::from_uuid(row);
        let Some(found) = proof::session_find(&mut tx, id).await? else { return Ok(None) };
        let genuine = crypto::constant_time_eq(&found.hash, &crypto::sha256(cookie.as_bytes()));
        if !genuine || !rules::is_session_live(now, found.session.last_seen_at, found.session.expires_at) {
            return Ok(None);
        }
        let Some(user) = store::user_find(&mut tx, found.user).await?.filter(|user| !user.disabled) else {
            return Ok(None);
        };
        let (_, tenant_name) = self.tenant(&mut tx).await?;
        drop(tx);
        if rules::is_last_used_stale(now, Some(found.session.last_seen_at)) {
            let mut tx = self.db.write(tenant).await?;
            proof::session_seen(&mut tx, id, now).await?;
            tx.commit().await?;
        }
        let principal = Principal {
            tenant,
            identity: Identity::User { id: user.id, role: user.role },
            auth: AuthMethod::Session { id, signed_in_at: found.session.signed_in_at },
        };
        Ok(Some(Authenticated {
            is_fresh: rules::check_fresh(&principal, now).is_ok(),
            principal,
            user_name: user.name,
            tenant_name,
            csrf: rules::csrf(cookie),
        }))
    }

    async fn by_token(&self, text: &str) -> Result<Option<Authenticated>, Error> {
        let ours = [TokenKind::Personal, TokenKind::Service];
        let Some(kind) = ours.into_iter().find(|kind| text.starts_with(tokens::prefix(*kind))) else {
            return Ok(None);
        };
        let Some((mut tx, row)) = tenant_lookup::read(&self.db, tokens::LOOKUP, text).await? else { return Ok(None) };
        let now = self.now();
        let tenant = tx.tenant();
        let id = TokenId::from_uuid(row);
        let Some(found) = proof::token_find(&mut tx, OwnerFilter::Tenant, id).await? else { return Ok(None) };
        let token = found.token;
        let genuine = token.kind == kind && crypto::constant_time_eq(&found.hash, &crypto::sha256(text.as_bytes()));
        let over = token.revoked_at.is_some() || token.expires_at.is_some_and(|end| end <= now);
        if !genuine || over {
            return Ok(None);
        }
        let (identity, user_name) = match token.user {
            Some(_) => match found.user.filter(|user| !user.disabled) {
                Some(user) => (Identity::User { id: user.id, role: user.role }, user.name),
                None => return Ok(None),
            },
            None if kind == TokenKind::Service => (Identity::Service, token.name),
            None => return Ok(None),
        };
        drop(tx);
        if rules::is_last_used_stale(now, token.last_used_at) {
            let mut tx = self.db.write(tenant).await?;
            proof::token_used(&mut tx, id, now).await?;
            tx.commit().await?;
        }
        let principal = Principal {
            tenant,
            identity,
            auth: AuthMethod::Token { id, audience: token.audience, scope: token.scope },
        };
        Ok(Some(Authenticated {
            is_fresh: rules::check_fresh(&principal, now).is_ok(),
            principal,
            user_name,
            // Pages alone show it, and no bearer opens them.
            tenant_name: String::new(),
            csrf: String::new(),
        }))
    }
}

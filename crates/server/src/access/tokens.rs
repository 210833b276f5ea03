//! Bearer tokens: made for one audience, shown once, expiring, revocable.
//!
//! Invariant: stored is the SHA-256; who may make which is decided in `rules.rs`, and nowhere else.

use thinkwork_database::retention::{Batches, StoredRows};
use thinkwork_database::{Topic, Tx, tenant_lookup};
use thinkwork_primitives::{Actor, Audience, Principal, Scope, Secret, TenantId, Timestamp, TokenId, UserId, crypto};

use super::store::proof::{self, OwnerFilter};
use super::{Access, CreatedToken, Error, NewToken, Token, TokenKind, rules, store};
use crate::audit::{self, Event};
use crate::edge::caller::may_configure;
use crate::edge::{Idempotency, idempotency};

/// Leads from a token to its row.
pub(super) const LOOKUP: &str = "token";

/// What the text of a token of this kind begins with.
pub(super) const fn prefix(kind: TokenKind) -> &'static str {
    match kind {
        TokenKind::Personal => "twp_",
        TokenKind::Service => "tws_",
    }
}

impl Access {
    /// Makes a token for this caller (personal) or the tenant (service).
    pub async fn token_create(
        &self,
        by: &Principal,
        new: NewToken,
        idempotency: &Idempotency,
    ) -> Result<CreatedToken, Error> {
        let now = self.now();
        rules::check_token(by, &new, now)?;
        let user = match new.kind {
            TokenKind::Personal => Some(by.user().ok_or(Error::NeedsSession)?),
            TokenKind::Service => None,
        };
        let mut tx = self.write_as(by).await?;
        if let Some(id) = idempotency.existing(&mut tx).await? {
            let next = "revoke it and make another token.";
            return Err(idempotency::Error::SecretAlreadyShown { id, next }.into());
        }
        let created = token_insert(&mut tx, new, user, by.actor(), now).await?;
        idempotency.keep(&mut tx, &created.token.id.to_string()).await?;
        tx.commit().await?;
        Ok(created)
    }

    /// The owner token that `thinkwork setup --json` prints: personal, for `/v1`, with scope `admin`. The person at
    /// the machine's own terminal stands in for the session.
    pub async fn setup_token(&self, tenant: TenantId, owner: UserId) -> Result<Secret, Error> {
        let now = self.now();
        let mut tx = self.db.write(tenant).await?;
        store::user_find(&mut tx, owner).await?.ok_or(Error::NotFound)?;
        let new = NewToken {
            name: "thinkwork setup".to_owned(),
            kind: TokenKind::Personal,
            audience: Audience::Api,
            scope: Scope::Admin,
            expires_in: None,
        };
        let created = token_insert(&mut tx, new, Some(owner), Actor::server(), now).await?;
        tx.commit().await?;
        Ok(created.secret)
    }

    /// Tokens that this caller may see after this one, newest first. Operators see the tenant's, everybody else their
    /// own.
    ///
    /// # Errors
    /// [`Error::NeedsOperator`] for a service token without scope `admin`; the database's.
    pub async fn tokens(&self, by: &Principal, limit: u64, after: Option<TokenId>) -> Result<Vec<Token>, Error> {
        let mut tx = self.db.read(by.tenant).await?;
        proof::token_list(&mut tx, whose(by)?, after, limit).await
    }

    /// One token that this caller may see, also a revoked one.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::NeedsOperator`] for a service token without scope `admin`; the database's.
    pub async fn token(&self, by: &Principal, id: TokenId) -> Result<Token, Error> {
        let mut tx = self.db.read(by.tenant).await?;
        Ok(proof::token_find(&mut tx, whose(by)?, id).await?.ok_or(Error::NotFound)?.token)
    }

    /// A person's own tokens that still work, newest first.
    pub async fn tokens_of_user(&self, tenant: TenantId, user: UserId) -> Result<Vec<Token>, Error> {
        let mut tx = self.db.read(tenant).await?;
        let all = proof::token_list(&mut tx, OwnerFilter::User(user), None, 200).await?;
        Ok(all.into_iter().filter(|token| token.revoked_at.is_none()).collect())
    }

    /// Revokes a token for good: people their own, operators any of the tenant.
    pub async fn token_revoke(&self, by: &Principal, id: TokenId) -> Result<(), Error> {
        let now = self.now();
        let mut tx = self.db.write(by.tenant).await?;
        proof::token_find(&mut tx, whose(by)?, id).await?.ok_or(Error::NotFound)?;
        if proof::token_revoke(&mut tx, id, now).await? {
            tenant_lookup::remove(&mut tx, LOOKUP, id.uuid()).await?;
            audit::record(&mut tx, now, Event::by(by.actor(), "token.revoked").on("token", id))?;
            tx.wake(Topic::Access, id.uuid());
            tx.commit().await?;
        }
        Ok(())
    }

    /// How many tokens of the transaction's tenant were revoked or have expired, and when the first of them did.
    ///
    /// # Errors
    /// The database's.
    pub async fn ended_tokens_stored(&self, tx: &mut Tx, now: Timestamp) -> Result<StoredRows, Error> {
        proof::ended_tokens_stored(tx, now).await
    }

    /// Deletes tokens of a tenant that were revoked or have expired before then, at most `count`. What they did stays
    /// recorded under their id.
    ///
    /// # Errors
    /// The database's; what was deleted in earlier transactions stays deleted.
    pub async fn delete_tokens_before(&self, tenant: TenantId, before: Timestamp, count: u64) -> Result<(), Error> {
        let mut batches = Batches::of(count);
        while let Some(limit) = batches.next_limit() {
            let mut tx = self.db.write(tenant).await?;
            let ids = proof::tokens_ended(&mut tx, before, limit).await?;
            for id in &ids {
                tenant_lookup::remove(&mut tx, LOOKUP, *id).await?;
            }
            let deleted = proof::tokens_delete(&mut tx, ids).await?;
            tx.commit().await?;
            batches.deleted(limit, deleted);
        }
        Ok(())
    }
}

fn whose(by: &Principal) -> Result<OwnerFilter, Error> {
    match by.user() {
        _ if may_configure(by) => Ok(OwnerFilter::Tenant),
        Some(user) => Ok(OwnerFilter::User(user)),
        None => Err(Error::NeedsOperator),
    }
}

async fn token_insert(
    tx: &mut Tx,
    new: NewToken,
    user: Option<UserId>,
    by: Actor,
    now: Timestamp,
) -> Result<CreatedToken, Error> {
    let (secret, hash) = crypto::generate_token(prefix(new.kind))?;
    let token = Token {
        id: TokenId::new(),
        name: rules::check_name(&new.name)?,
        kind: new.kind,
        audience: new.audience,
        scope: new.scope,
        user,
        last_four: secret.last_four().unwrap_or_default(),
        created_at: now,
        expires_at: Some(rules::token_expiry(now, new.expires_in)?),
        last_used_at: None,
        revoked_at: None,
    };
    proof::token_insert(tx, &token, &hash, by.requester.id()).await?;
    tenant_lookup::add(tx, LOOKUP, secret.expose_str().unwrap_or_default(), token.id.uuid()).await?;
    let event = Event::by(by, "token.created")
        .on("token", token.id)
        .detail("kind", token.kind.as_str())
        .detail("audience", token.audience.as_str())
        .detail("scope", token.scope.as_str());
    audit::record(tx, now, event)?;
    Ok(CreatedToken { token, secret })
}

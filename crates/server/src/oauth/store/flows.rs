//! Rows of `oauth_flow`: one attempt to get a grant. The state is only here as SHA-256.

use sea_orm::ActiveValue::Set;
use sea_orm::QuerySelect as _;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::Expr;
use thinkwork_database::Tx;
use thinkwork_primitives::{CredentialId, FlowId, GrantTarget, OauthClientId, Timestamp, UserId};
use uuid::Uuid;

use super::super::Error;
use super::{ClientRow, target_from};
use crate::credentials::{CredentialMeaning, FlowBinding};

pub(crate) use flow::Model as FlowRow;

impl FlowRow {
    pub(crate) fn flow(&self) -> FlowId {
        FlowId::from_uuid(self.id)
    }

    pub(crate) fn starter(&self) -> UserId {
        UserId::from_uuid(self.user_id)
    }

    pub(crate) fn client(&self) -> OauthClientId {
        OauthClientId::from_uuid(self.oauth_client_id)
    }

    pub(crate) fn target(&self) -> Result<GrantTarget, Error> {
        target_from("oauth_flow", self.id, &self.target_kind, self.target_id)
    }

    /// What its verifier is for. `client` is the registration that it goes through.
    pub(crate) fn meaning(&self, client: &ClientRow) -> Result<CredentialMeaning, Error> {
        let flow = FlowBinding {
            flow: self.flow(),
            user: self.starter(),
            target: self.target()?,
            issuer: self.issuer.clone(),
            redirect_uri: self.redirect_uri.clone(),
            resource: self.resource.clone(),
            scopes: self.scopes.clone(),
            return_to: self.return_to.clone(),
            state_hash: self.state_hash.clone(),
            cookie_hash: self.cookie_hash.clone(),
        };
        Ok(CredentialMeaning::PkceVerifier { flow, client: client.registration()? })
    }

    pub(crate) fn verifier(&self) -> CredentialId {
        CredentialId::from_uuid(self.verifier_credential_id)
    }
}

pub(crate) async fn flow_insert(tx: &mut Tx, row: FlowRow) -> Result<(), Error> {
    let row = flow::ActiveModel {
        id: Set(row.id),
        tenant_id: Set(tx.tenant().uuid()),
        user_id: Set(row.user_id),
        oauth_client_id: Set(row.oauth_client_id),
        target_kind: Set(row.target_kind),
        target_id: Set(row.target_id),
        purpose: Set(row.purpose),
        state_hash: Set(row.state_hash),
        issuer: Set(row.issuer),
        redirect_uri: Set(row.redirect_uri),
        resource: Set(row.resource),
        scopes: Set(row.scopes),
        return_to: Set(row.return_to),
        verifier_credential_id: Set(row.verifier_credential_id),
        cookie_hash: Set(row.cookie_hash),
        created_at: Set(row.created_at),
        expires_at: Set(row.expires_at),
        consumed_at: Set(row.consumed_at),
        outcome: Set(row.outcome),
    };
    flow::Entity::insert(row).exec_without_returning(tx.orm()).await?;
    Ok(())
}

fn all(tx: &Tx) -> sea_orm::Select<flow::Entity> {
    flow::Entity::find().filter(flow::Column::TenantId.eq(tx.tenant().uuid()))
}

/// One indexed look-up by the digest of the state.
pub(crate) async fn flow_by_state(tx: &mut Tx, state_hash: &[u8]) -> Result<Option<FlowRow>, Error> {
    Ok(all(tx).filter(flow::Column::StateHash.eq(state_hash)).one(tx.orm()).await?)
}

pub(crate) async fn flow_find(tx: &mut Tx, id: FlowId) -> Result<Option<FlowRow>, Error> {
    Ok(all(tx).filter(flow::Column::Id.eq(id.uuid())).one(tx.orm()).await?)
}

/// The flows of a person that have no outcome yet.
pub(crate) async fn flows_open(tx: &mut Tx, user: UserId) -> Result<Vec<FlowRow>, Error> {
    Ok(all(tx)
        .filter(flow::Column::UserId.eq(user.uuid()))
        .filter(flow::Column::Outcome.is_null())
        .all(tx.orm())
        .await?)
}

/// Whether a code that was given to this registration is being exchanged.
pub(crate) async fn flow_exchanging(tx: &mut Tx, client: OauthClientId) -> Result<bool, Error> {
    let exchanging = all(tx)
        .filter(flow::Column::OauthClientId.eq(client.uuid()))
        .filter(flow::Column::ConsumedAt.is_not_null())
        .filter(flow::Column::Outcome.is_null());
    Ok(exchanging.count(tx.orm()).await? > 0)
}

/// Deletes flows that ended and began before `before`, at most `count`.
pub(crate) async fn flows_sweep(tx: &mut Tx, before: Timestamp, count: u64) -> Result<(), Error> {
    let over = all(tx)
        .filter(flow::Column::CreatedAt.lt(before.micros()))
        .filter(flow::Column::Outcome.is_not_null())
        .limit(count)
        .all(tx.orm())
        .await?;
    flow::Entity::delete_many()
        .filter(flow::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(flow::Column::Id.is_in(over.into_iter().map(|row| row.id)))
        .exec(tx.orm())
        .await?;
    Ok(())
}

fn update(tx: &Tx, id: FlowId) -> sea_orm::UpdateMany<flow::Entity> {
    flow::Entity::update_many()
        .filter(flow::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(flow::Column::Id.eq(id.uuid()))
}

/// Uses the state up. True for exactly one caller, and only in time.
pub(crate) async fn flow_consume(tx: &mut Tx, id: FlowId, now: Timestamp) -> Result<bool, Error> {
    let consumed = update(tx, id)
        .col_expr(flow::Column::ConsumedAt, Expr::value(now.micros()))
        .filter(flow::Column::ConsumedAt.is_null())
        .filter(flow::Column::ExpiresAt.gt(now.micros()))
        .exec(tx.orm())
        .await?;
    Ok(consumed.rows_affected == 1)
}

pub(crate) async fn flow_outcome(tx: &mut Tx, id: FlowId, outcome: &str) -> Result<(), Error> {
    update(tx, id).col_expr(flow::Column::Outcome, Expr::value(outcome)).exec(tx.orm()).await?;
    Ok(())
}

mod flow {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "oauth_flow")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub tenant_id: Uuid,
        pub user_id: Uuid,
        pub oauth_client_id: Uuid,
        pub target_kind: String,
        pub target_id: Uuid,
        pub purpose: String,
        pub state_hash: Vec<u8>,
        pub issuer: String,
        pub redirect_uri: String,
        pub resource: Option<String>,
        pub scopes: String,
        pub return_to: String,
        pub verifier_credential_id: Uuid,
        pub cookie_hash: Vec<u8>,
        pub created_at: i64,
        pub expires_at: i64,
        pub consumed_at: Option<i64>,
        pub outcome: Option<String>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

//! Rows of `oauth_client`: one registration of us at one issuer, with its own callback key and pinned endpoints.

use sea_orm::ActiveValue::Set;
use sea_orm::QuerySelect as _;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Expr, LockType};
use thinkwork_database::Tx;
use thinkwork_primitives::{CredentialId, GrantTarget, OauthClientId, Timestamp};
use uuid::Uuid;

use super::super::Error;
use super::{scopes_from, target_from};
use crate::credentials::{ClientRegistration, CredentialMeaning};

pub(crate) use client::Model as ClientRow;

impl ClientRow {
    pub(crate) fn client(&self) -> OauthClientId {
        OauthClientId::from_uuid(self.id)
    }

    /// What of it is sealed with the secrets that are sent in its name.
    pub(crate) fn registration(&self) -> Result<ClientRegistration, Error> {
        Ok(ClientRegistration {
            id: self.client(),
            target: target_from("oauth_client", self.id, &self.target_kind, self.target_id)?,
            issuer: self.issuer.clone(),
            client_id: self.client_id.clone(),
            token_auth_method: self.token_auth_method.clone(),
            token_endpoint: self.token_endpoint.clone(),
            revocation_endpoint: self.revocation_endpoint.clone(),
            resource: self.resource.clone(),
            audience: self.audience.clone(),
        })
    }

    /// What its own secret is for.
    pub(crate) fn secret_meaning(&self) -> Result<CredentialMeaning, Error> {
        Ok(CredentialMeaning::ClientSecret(self.registration()?))
    }

    pub(crate) fn secret(&self) -> Option<CredentialId> {
        self.credential_id.map(CredentialId::from_uuid)
    }

    /// Whether we registered it ourselves, and can again.
    pub(crate) fn is_dynamic(&self) -> bool {
        self.registration == "dynamic"
    }

    pub(crate) fn scope_list(&self) -> Vec<String> {
        scopes_from(&self.scopes)
    }
}

fn all(tx: &Tx) -> sea_orm::Select<client::Entity> {
    client::Entity::find().filter(client::Column::TenantId.eq(tx.tenant().uuid()))
}

fn update(tx: &Tx, id: OauthClientId) -> sea_orm::UpdateMany<client::Entity> {
    client::Entity::update_many()
        .filter(client::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(client::Column::Id.eq(id.uuid()))
}

/// A registration, replaced or not.
pub(crate) async fn client_find(tx: &mut Tx, id: OauthClientId) -> Result<Option<ClientRow>, Error> {
    Ok(all(tx).filter(client::Column::Id.eq(id.uuid())).one(tx.orm()).await?)
}

/// The same, and it is not replaced until this transaction ends.
pub(crate) async fn client_lock(tx: &mut Tx, id: OauthClientId) -> Result<Option<ClientRow>, Error> {
    Ok(all(tx).filter(client::Column::Id.eq(id.uuid())).lock(LockType::NoKeyUpdate).one(tx.orm()).await?)
}

/// The registration that new flows for this target use.
pub(crate) async fn client_current(tx: &mut Tx, target: GrantTarget) -> Result<Option<ClientRow>, Error> {
    Ok(all(tx)
        .filter(client::Column::TargetKind.eq(target.kind()))
        .filter(client::Column::TargetId.eq(target.uuid()))
        .filter(client::Column::ReplacedAt.is_null())
        .one(tx.orm())
        .await?)
}

pub(crate) async fn client_insert(tx: &mut Tx, row: ClientRow) -> Result<(), Error> {
    let row = client::ActiveModel {
        id: Set(row.id),
        tenant_id: Set(tx.tenant().uuid()),
        target_kind: Set(row.target_kind),
        target_id: Set(row.target_id),
        registration: Set(row.registration),
        issuer: Set(row.issuer),
        callback_key: Set(row.callback_key),
        client_id: Set(row.client_id),
        credential_id: Set(row.credential_id),
        token_auth_method: Set(row.token_auth_method),
        authorization_endpoint: Set(row.authorization_endpoint),
        token_endpoint: Set(row.token_endpoint),
        revocation_endpoint: Set(row.revocation_endpoint),
        iss_required: Set(row.iss_required),
        scopes: Set(row.scopes),
        resource: Set(row.resource),
        audience: Set(row.audience),
        prompt: Set(row.prompt),
        refused_at: Set(row.refused_at),
        created_at: Set(row.created_at),
        replaced_at: Set(row.replaced_at),
    };
    client::Entity::insert(row).exec_without_returning(tx.orm()).await?;
    Ok(())
}

/// What may change of a registration while its grants live: what is asked for, never where tokens go.
pub(crate) async fn client_renew(
    tx: &mut Tx,
    id: OauthClientId,
    scopes: &str,
    prompt: Option<&str>,
    iss_required: bool,
    authorization_endpoint: &str,
) -> Result<(), Error> {
    update(tx, id)
        .col_expr(client::Column::Scopes, Expr::value(scopes))
        .col_expr(client::Column::Prompt, Expr::value(prompt))
        .col_expr(client::Column::IssRequired, Expr::value(iss_required))
        .col_expr(client::Column::AuthorizationEndpoint, Expr::value(authorization_endpoint))
        .exec(tx.orm())
        .await?;
    Ok(())
}

/// The issuer does not know this registration any more. False where that was noted already.
pub(crate) async fn client_refused(tx: &mut Tx, id: OauthClientId, now: Timestamp) -> Result<bool, Error> {
    let noted = update(tx, id)
        .col_expr(client::Column::RefusedAt, Expr::value(now.micros()))
        .filter(client::Column::RefusedAt.is_null())
        .exec(tx.orm())
        .await?;
    Ok(noted.rows_affected == 1)
}

/// New flows no longer use this registration; its grants go on with it.
pub(crate) async fn client_replace(tx: &mut Tx, id: OauthClientId, now: Timestamp) -> Result<(), Error> {
    update(tx, id)
        .col_expr(client::Column::ReplacedAt, Expr::value(now.micros()))
        .filter(client::Column::ReplacedAt.is_null())
        .exec(tx.orm())
        .await?;
    Ok(())
}

mod client {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "oauth_client")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub tenant_id: Uuid,
        pub target_kind: String,
        pub target_id: Uuid,
        pub registration: String,
        pub issuer: String,
        pub callback_key: String,
        pub client_id: String,
        pub credential_id: Option<Uuid>,
        pub token_auth_method: String,
        pub authorization_endpoint: String,
        pub token_endpoint: String,
        pub revocation_endpoint: Option<String>,
        pub iss_required: bool,
        pub scopes: String,
        pub resource: Option<String>,
        pub audience: String,
        pub prompt: Option<String>,
        pub refused_at: Option<i64>,
        pub created_at: i64,
        pub replaced_at: Option<i64>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

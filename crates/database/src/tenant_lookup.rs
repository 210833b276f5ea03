//! The one table that leads from a hashed key to a tenant, for look-ups before the tenant is known.
//!
//! Invariants: it holds digests and ids, nothing readable; a route is written in its row's own transaction. A route never
//! leads anywhere else, so that one that was found is remembered; whether its row is still there, its reader looks up.

use sea_orm::QueryResult;
use thinkwork_primitives::{TenantId, crypto};
use uuid::Uuid;

use crate::{Db, Error, Tx};

/// Where a key leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The tenant of the row.
    pub tenant: TenantId,
    /// The row.
    pub row: Uuid,
}

/// Routes remembered by a process at most.
const CACHED_ROUTES_MAX: u64 = 10_000;

/// Routes that this process found, by kind and hashed key.
pub(crate) type RouteCache = moka::sync::Cache<(&'static str, [u8; 32]), Route>;

pub(crate) fn route_cache() -> RouteCache {
    moka::sync::Cache::new(CACHED_ROUTES_MAX)
}

fn key_hash(key: &str) -> Vec<u8> {
    crypto::sha256(key.as_bytes()).to_vec()
}

/// Adds a route of `kind` from `key` to a row of the transaction's tenant.
///
/// # Errors
/// A unique violation where the key is taken; the driver's error.
pub async fn add(tx: &mut Tx, kind: &'static str, key: &str, row: Uuid) -> Result<(), Error> {
    let tenant = tx.tenant().uuid();
    tx.execute(
        "INSERT INTO route (kind, key_hash, tenant_id, row_id) VALUES ($1, $2, $3, $4)",
        vec![kind.into(), key_hash(key).into(), tenant.into(), row.into()],
    )
    .await?;
    Ok(())
}

/// Removes every route of `kind` to this row.
pub async fn remove(tx: &mut Tx, kind: &'static str, row: Uuid) -> Result<(), Error> {
    tx.execute("DELETE FROM route WHERE kind = $1 AND row_id = $2", vec![kind.into(), row.into()]).await?;
    Ok(())
}

/// Where `key` leads: one indexed look-up.
pub async fn find(db: &Db, kind: &'static str, key: &str) -> Result<Option<Route>, Error> {
    look(&mut db.read_shared().await?, kind, key).await
}

/// The row of the transaction's tenant where `key` leads, if it leads there: for who holds a transaction already.
pub async fn find_within(tx: &mut Tx, kind: &'static str, key: &str) -> Result<Option<Uuid>, Error> {
    let tenant = tx.tenant();
    Ok(look(tx, kind, key).await?.filter(|route| route.tenant == tenant).map(|route| route.row))
}

/// A reader of the tenant where `key` leads, and the row that it leads to, or led to while there was one.
pub async fn read(db: &Db, kind: &'static str, key: &str) -> Result<Option<(Tx, Uuid)>, Error> {
    let cache_key = (kind, crypto::sha256(key.as_bytes()));
    if let Some(route) = db.routes().get(&cache_key) {
        return Ok(Some((db.read(route.tenant).await?, route.row)));
    }
    let mut tx = db.read_shared().await?;
    let Some(route) = look(&mut tx, kind, key).await? else { return Ok(None) };
    db.routes().insert(cache_key, route);
    Ok(Some((tx.enter(route.tenant).await?, route.row)))
}

async fn look(tx: &mut Tx, kind: &'static str, key: &str) -> Result<Option<Route>, Error> {
    Ok(look_all(tx, kind, key).await?.into_iter().next())
}

async fn look_all(tx: &mut Tx, kind: &'static str, key: &str) -> Result<Vec<Route>, Error> {
    let rows = tx
        .query(
            "SELECT tenant_id, row_id FROM route WHERE kind = $1 AND key_hash = $2 ORDER BY row_id LIMIT 20",
            vec![kind.into(), key_hash(key).into()],
        )
        .await?;
    rows.iter().map(route).collect()
}

fn route(row: &QueryResult) -> Result<Route, Error> {
    let tenant = row.try_get::<Uuid>("", "tenant_id")?;
    let row = row.try_get::<Uuid>("", "row_id")?;
    Ok(Route { tenant: TenantId::from_uuid(tenant), row })
}

/// Every place where `key` leads, for keys that several tenants may hold, like an e-mail; at most 20.
pub async fn find_all(db: &Db, kind: &'static str, key: &str) -> Result<Vec<Route>, Error> {
    look_all(&mut db.read_shared().await?, kind, key).await
}

//! The statements of a refresh on a `connection` row: lease, result, pause.

use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Expr, ExprTrait as _};
use thinkwork_database::Tx;
use thinkwork_primitives::{ConnectionId, Timestamp};
use uuid::Uuid;

use super::super::Error;
use super::super::rules::LEASE;
use super::{Granted, connection, update, with_tokens};

/// Takes the lease of a refresh and records that one started. False where another holds it or the pause lasts.
pub(crate) async fn refresh_begin(
    tx: &mut Tx,
    id: ConnectionId,
    lease: Uuid,
    forced: bool,
    now: Timestamp,
) -> Result<bool, Error> {
    let mut statement = update(tx, id)
        .col_expr(connection::Column::RefreshLease, Expr::value(lease))
        .col_expr(connection::Column::RefreshLeaseUntil, Expr::value(now.plus(LEASE).micros()))
        .col_expr(connection::Column::RefreshStartedAt, Expr::value(now.micros()))
        .filter(connection::Column::EndedAt.is_null())
        .filter(connection::Column::Status.eq("connected"))
        .filter(
            connection::Column::RefreshLeaseUntil.is_null().or(connection::Column::RefreshLeaseUntil.lte(now.micros())),
        );
    if forced {
        statement = statement.col_expr(connection::Column::ForcedRefreshAt, Expr::value(now.micros()));
    }
    Ok(statement.exec(tx.orm()).await?.rows_affected == 1)
}

/// The refresh is done: new tokens stand in the credential, written in this transaction by compare-and-set.
pub(crate) async fn refresh_done(
    tx: &mut Tx,
    id: ConnectionId,
    granted: &Granted,
    now: Timestamp,
) -> Result<(), Error> {
    with_tokens(update(tx, id), granted)
        .col_expr(connection::Column::RefreshedAt, Expr::value(now.micros()))
        .exec(tx.orm())
        .await?;
    Ok(())
}

/// The refresh failed for now: nothing is tried before `until`. Where its answer may be lost, the mark of its start
/// stays, so that a later refusal is reported as what it is.
pub(crate) async fn refresh_paused(
    tx: &mut Tx,
    id: ConnectionId,
    lease: Uuid,
    until: Timestamp,
    keep_mark: bool,
) -> Result<(), Error> {
    let mut statement = update(tx, id)
        .col_expr(connection::Column::RefreshLease, Expr::value(Option::<Uuid>::None))
        .col_expr(connection::Column::RefreshLeaseUntil, Expr::value(until.micros()))
        .filter(connection::Column::RefreshLease.eq(lease));
    if !keep_mark {
        statement = statement.col_expr(connection::Column::RefreshStartedAt, Expr::value(Option::<i64>::None));
    }
    statement.exec(tx.orm()).await?;
    Ok(())
}

//! Rows of `thread` that a transaction locked to write to many of them at once.

use std::collections::BTreeMap;

use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{ExprTrait as _, LockType, OnConflict};
use sea_orm::{Condition, QueryOrder as _, QuerySelect as _};
use thinkwork_database::Tx;
use thinkwork_primitives::ThreadId;

use super::thread::{ActiveModel, Column, Entity, Model};
use super::{list, of_tenant, thread_of};
use crate::threads::{CorrelationKey, Error, Thread};

/// A thread that nobody else writes to until the transaction ends: its row is locked, or it is new.
#[derive(Clone, Debug)]
pub(crate) struct LockedThread {
    pub thread: Thread,
    pub correlation: Option<CorrelationKey>,
    /// The place of its newest message; 0 where there is none.
    pub message_sequence: i64,
    /// The place of its newest event.
    pub event_sequence: i64,
    /// Whether it is to be stored.
    pub is_changed: bool,
    /// Whether it is not stored yet.
    pub is_new: bool,
}

fn locked_of(row: Model) -> Result<LockedThread, Error> {
    let correlation = row.correlation_source.clone().zip(row.correlation_key.clone());
    let message_sequence = row.message_sequence;
    let event_sequence = row.event_sequence;
    Ok(LockedThread {
        thread: thread_of(row)?,
        correlation,
        message_sequence,
        event_sequence,
        is_changed: false,
        is_new: false,
    })
}

/// In the order of their ids, so that two transactions do not wait for each other in a ring.
async fn locked(tx: &mut Tx, select: sea_orm::Select<Entity>) -> Result<Vec<LockedThread>, Error> {
    let select = select.order_by_asc(Column::Id).lock(LockType::NoKeyUpdate);
    select.all(tx.orm()).await?.into_iter().map(locked_of).collect()
}

/// Those of these threads that are there.
pub(crate) async fn threads_lock(tx: &mut Tx, ids: &[ThreadId]) -> Result<Vec<LockedThread>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let select = of_tenant(tx).filter(Column::Id.is_in(ids.iter().map(|id| id.uuid())));
    locked(tx, select).await
}

/// The threads that answer to these keys.
pub(crate) async fn threads_lock_correlated(tx: &mut Tx, keys: &[CorrelationKey]) -> Result<Vec<LockedThread>, Error> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let mut of_source: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (source, key) in keys {
        of_source.entry(source).or_default().push(key);
    }
    let mut any = Condition::any();
    for (source, keys) in of_source {
        let source = Column::CorrelationSource.eq(source).and(Column::CorrelationKey.is_in(keys));
        any = any.add(source);
    }
    let select = of_tenant(tx).filter(any);
    locked(tx, select).await
}

/// Stores new threads whole, and of the others what a batch changes: status, correlation key and counters.
pub(crate) async fn threads_save(tx: &mut Tx, threads: &[&LockedThread]) -> Result<(), Error> {
    let tenant = tx.tenant().uuid();
    let rows = threads.iter().map(|locked| {
        let LockedThread { thread, correlation, .. } = locked;
        ActiveModel {
            id: Set(thread.id.uuid()),
            tenant_id: Set(tenant),
            space_id: Set(thread.space.uuid()),
            channel: Set(thread.id.channel().as_str().to_owned()),
            title: Set(thread.title.clone()),
            status: Set(thread.status.as_str().to_owned()),
            priority: Set(thread.priority.as_str().to_owned()),
            requester_kind: Set(thread.requester.kind().to_owned()),
            requester_id: Set(thread.requester.id()),
            client_kind: Set(thread.client.kind().to_owned()),
            client_id: Set(thread.client.id()),
            subject_kind: Set(thread.subject.kind().to_owned()),
            subject_user_id: Set(thread.subject.user().map(|id| id.uuid())),
            subject_connection_id: Set(thread.subject.connection().map(|id| id.uuid())),
            correlation_source: Set(correlation.as_ref().map(|(source, _)| source.clone())),
            correlation_key: Set(correlation.as_ref().map(|(_, key)| key.clone())),
            message_sequence: Set(locked.message_sequence),
            event_sequence: Set(locked.event_sequence),
            created_at: Set(thread.created_at.micros()),
            updated_at: Set(thread.updated_at.micros()),
            version: Set(thread.version),
        }
    });
    let changed = OnConflict::columns([Column::TenantId, Column::Id])
        .update_columns([
            Column::Status,
            Column::CorrelationSource,
            Column::CorrelationKey,
            Column::MessageSequence,
            Column::EventSequence,
            Column::UpdatedAt,
            Column::Version,
        ])
        .to_owned();
    for new in threads.iter().filter(|locked| locked.is_new) {
        list::search_add(tx, &new.thread);
    }
    Entity::insert_many(rows).on_conflict(changed).exec_without_returning(tx.orm()).await?;
    Ok(())
}

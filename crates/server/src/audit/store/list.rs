//! Which events a list shows, newest first.
//!
//! Invariant: a page is read by ranges of an index; a filter that none serves is held against a bounded number of events,
//! after which the page ends where it got to. Without an action the ranges are those of all actions, which are few.

use std::collections::HashMap;

use sea_orm::Value;
use sea_orm::entity::prelude::*;
use thinkwork_database::Tx;
use thinkwork_database::ranges::{self, Ranges};
use thinkwork_primitives::{AuditId, Timestamp};

use super::StoredEvent;
use super::event::{Column, Entity, Model};
use crate::audit::{Error, EventCursor, EventPage, Filter, rules};

/// Events that are read at once where some may not fit.
const LOOKED_AT: u64 = 250;
/// Events that one page looks at where some may not fit.
const LOOKED_AT_MAX: u64 = 1_000;

/// At most `count` events that fit, behind `after`.
pub(crate) async fn event_list(
    tx: &mut Tx,
    filter: &Filter,
    count: u64,
    mut after: Option<EventCursor>,
) -> Result<EventPage, Error> {
    let mut ranges = ranges_of(tx, filter).await?;
    let tenant = tx.tenant();
    let key = tx.record_key()?.clone();
    let whole = usize::try_from(count).unwrap_or(usize::MAX);
    // One more tells whether there is another page.
    let at_once = if is_exact(filter) { count.saturating_add(1) } else { LOOKED_AT };
    let mut page = EventPage::default();
    let mut looked_at = 0_u64;
    loop {
        ranges.after = after.map(|(at, id)| (at, id.uuid()));
        let places = ranges::newest(tx, &ranges, at_once).await?;
        for row in rows_at(tx, &places).await? {
            let place = (Timestamp::from_micros(row.at), AuditId::from_uuid(row.id));
            if fits(&row, filter) {
                if page.events.len() == whole {
                    page.next = after;
                    return Ok(page);
                }
                let stored = StoredEvent::from(row);
                if !rules::is_authentic(&key, tenant, &stored) {
                    page.changed.push(stored.id);
                }
                page.events.extend(stored.event);
            }
            after = Some(place);
        }
        looked_at = looked_at.saturating_add(at_once);
        if u64::try_from(places.len()).is_ok_and(|found| found < at_once) {
            return Ok(page);
        }
        if looked_at >= LOOKED_AT_MAX {
            page.next = after;
            return Ok(page);
        }
    }
}

/// Whether every event of the ranges fits.
const fn is_exact(filter: &Filter) -> bool {
    match (&filter.thread, &filter.subject) {
        (Some(_), subject) => subject.is_none() && filter.actor.is_none() && filter.action.is_none(),
        (None, Some(_)) => filter.actor.is_none(),
        (None, None) => true,
    }
}

fn fits(row: &Model, filter: &Filter) -> bool {
    let action = match filter.action.as_deref() {
        Some(beginning) if beginning.ends_with('.') => row.action.starts_with(beginning),
        Some(action) => row.action == action,
        None => true,
    };
    action
        && filter.thread.is_none_or(|thread| row.thread_id == Some(thread.uuid()))
        && filter.subject.is_none_or(|subject| row.subject_user_id == Some(subject.uuid()))
        && filter.actor.as_ref().is_none_or(|actor| *actor == row.requester_id)
}

async fn ranges_of(tx: &mut Tx, filter: &Filter) -> Result<Ranges<'static>, Error> {
    let (columns, keys): (&[&str], Vec<Vec<Value>>) = if let Some(thread) = filter.thread {
        (&["thread_id"], vec![vec![thread.uuid().into()]])
    } else if let Some(subject) = filter.subject {
        let subject = Value::from(subject.uuid());
        let actions = actions(tx, &[("subject_user_id", subject.clone())], filter).await?;
        let keys = actions.into_iter().map(|action| vec![subject.clone(), action]).collect();
        (&["subject_user_id", "action"], keys)
    } else if let Some(actor) = filter.actor.as_deref() {
        let actor = Value::from(actor);
        let actions = actions(tx, &[("requester_id", actor.clone())], filter).await?;
        let keys = actions.into_iter().map(|action| vec![actor.clone(), action]).collect();
        (&["requester_id", "action"], keys)
    } else {
        (&["action"], actions(tx, &[], filter).await?.into_iter().map(|action| vec![action]).collect())
    };
    Ok(Ranges { table: "audit_event", columns, keys, time: "at", since: filter.since, until: None, after: None })
}

/// The one action that is asked for, or those that there are.
async fn actions(tx: &mut Tx, key: &[(&'static str, Value)], filter: &Filter) -> Result<Vec<Value>, Error> {
    let beginning = match filter.action.as_deref() {
        Some(action) if !action.ends_with('.') => return Ok(vec![action.into()]),
        beginning => beginning.unwrap_or_default(),
    };
    let actions = ranges::words(tx, "audit_event", key, "action", beginning).await?;
    Ok(actions.into_iter().map(Value::from).collect())
}

/// The events of these places, in their order.
pub(super) async fn rows_at(tx: &mut Tx, places: &[(Timestamp, Uuid)]) -> Result<Vec<Model>, Error> {
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let rows = Entity::find()
        .filter(Column::TenantId.eq(tx.tenant().uuid()))
        .filter(Column::Id.is_in(places.iter().map(|(_, id)| *id)))
        .all(tx.orm())
        .await?;
    let mut rows: HashMap<Uuid, Model> = rows.into_iter().map(|row| (row.id, row)).collect();
    Ok(places.iter().filter_map(|(_, id)| rows.remove(id)).collect())
}

//! Which threads a list shows.
//!
//! Invariant: a page is read by ranges of an index or by full-text search; what neither narrows down is looked at in a
//! bounded number of threads, after which the page ends where it got to.

use std::collections::HashMap;

use sea_orm::Value;
use sea_orm::entity::prelude::*;
use strum::VariantArray as _;
use thinkwork_database::ranges::{self, Ranges};
use thinkwork_database::search::{self, Entry, Search};
use thinkwork_primitives::{Channel, SpaceId};

use super::{of_tenant, thread, thread_of};
use crate::threads::{Error, Thread, ThreadCursor, ThreadFilter, ThreadPage, ThreadStatus};
use thinkwork_database::Tx;
use thinkwork_primitives::{ThreadId, Timestamp};

/// Threads that one page looks at where some may not fit.
const LOOKED_AT_MAX: u64 = 500;

/// Threads of these Spaces, at most `count`: the latest first, or those that were begun last where words are searched.
pub(crate) async fn thread_list(
    tx: &mut Tx,
    spaces: &[SpaceId],
    filter: &ThreadFilter,
    count: u64,
    after: Option<ThreadCursor>,
) -> Result<ThreadPage, Error> {
    let spaces: Vec<Uuid> =
        spaces.iter().filter(|id| filter.space.is_none_or(|space| space == **id)).map(|id| id.uuid()).collect();
    let page_size = usize::try_from(count).unwrap_or(usize::MAX);
    // One more tells whether there is another page.
    let at_once = if is_exact(filter) { count.saturating_add(1) } else { LOOKED_AT_MAX };
    let mut places = places(tx, &spaces, filter, at_once, after).await?;
    let is_end = u64::try_from(places.len()).is_ok_and(|found| found < at_once);
    let last = places.last().copied();
    // A thread's id tells its channel, so the others need not be read.
    places.retain(|(_, id)| filter.channel.is_none_or(|channel| channel == id.channel()));
    let mut page = ThreadPage::default();
    let mut shown = after;
    for (place, thread) in threads_at(tx, &places).await? {
        if !matches(&thread, filter) {
            continue;
        }
        if page.threads.len() == page_size {
            page.next = shown;
            return Ok(page);
        }
        page.threads.push(thread);
        shown = Some(place);
    }
    page.next = if is_end { None } else { last };
    Ok(page)
}

/// Whether what is found below fits in everything.
const fn is_exact(filter: &ThreadFilter) -> bool {
    match (&filter.words, &filter.requester) {
        (Some(_), _) => filter.status.is_none(),
        (None, Some(_)) => filter.channel.is_none(),
        (None, None) => true,
    }
}

fn matches(thread: &Thread, filter: &ThreadFilter) -> bool {
    filter.status.is_none_or(|status| status == thread.status)
        && filter.requester.as_ref().is_none_or(|requester| *requester == thread.requester.id())
}

async fn places(
    tx: &mut Tx,
    spaces: &[Uuid],
    filter: &ThreadFilter,
    count: u64,
    after: Option<ThreadCursor>,
) -> Result<Vec<ThreadCursor>, Error> {
    let Some(text) = &filter.words else {
        let (columns, keys) = keys(spaces, filter);
        let after = after.map(|(at, id)| (at, id.uuid()));
        let ranges = Ranges { table: "thread", columns, keys, time: "updated_at", since: None, until: None, after };
        let found = ranges::newest(tx, &ranges, count).await?;
        return Ok(found.into_iter().map(|(at, id)| (at, ThreadId::from_uuid(id))).collect());
    };
    let mut labels: Vec<String> = filter.channel.map(channel_label).into_iter().collect();
    labels.extend(filter.requester.as_deref().map(requester_label));
    let before = after.map(|(_, id)| id.uuid());
    let found = search::find(tx, &Search { text, groups: spaces, labels: &labels, before }, count).await?;
    // A search goes on by the id alone.
    Ok(found.into_iter().map(|id| (Timestamp::from_micros(0), ThreadId::from_uuid(id))).collect())
}

/// The columns of the index that serves this filter, and its ranges: one for each combination of what is not filtered.
fn keys(spaces: &[Uuid], filter: &ThreadFilter) -> (&'static [&'static str], Vec<Vec<Value>>) {
    let statuses: Vec<Value> = match filter.status {
        Some(status) => vec![status.as_str().into()],
        None => ThreadStatus::VARIANTS.iter().map(|status| status.as_str().into()).collect(),
    };
    let spaces = spaces.iter().map(|space| Value::from(*space));
    if let Some(requester) = &filter.requester {
        let each = |space: Value| {
            statuses.iter().map(move |status| vec![requester.as_str().into(), space.clone(), status.clone()])
        };
        return (&["requester_id", "space_id", "status"], spaces.flat_map(each).collect());
    }
    if filter.status.is_none() && filter.channel.is_none() {
        return (&["space_id"], spaces.map(|space| vec![space]).collect());
    }
    let channels: Vec<Channel> = match filter.channel {
        Some(channel) => vec![channel],
        None => Channel::VARIANTS.to_vec(),
    };
    let mut keys = Vec::new();
    for space in spaces {
        for channel in &channels {
            keys.extend(statuses.iter().map(|status| vec![space.clone(), channel.as_str().into(), status.clone()]));
        }
    }
    (&["space_id", "channel", "status"], keys)
}

/// The threads of these places, in their order.
async fn threads_at(tx: &mut Tx, places: &[ThreadCursor]) -> Result<Vec<(ThreadCursor, Thread)>, Error> {
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let ids = places.iter().map(|(_, id)| id.uuid());
    let rows = of_tenant(tx).filter(thread::Column::Id.is_in(ids)).all(tx.orm()).await?;
    let mut threads: HashMap<Uuid, thread::Model> = rows.into_iter().map(|row| (row.id, row)).collect();
    places.iter().filter_map(|place| threads.remove(&place.1.uuid()).map(|row| Ok((*place, thread_of(row)?)))).collect()
}

/// Makes a new thread findable, with the commit.
pub(super) fn search_add(tx: &mut Tx, thread: &Thread) {
    let labels = [channel_label(thread.id.channel()), requester_label(&thread.requester.id())];
    search::add(tx, &entry(thread, &labels));
}

/// A thread is found by its title from now on.
pub(crate) async fn search_retitle(tx: &mut Tx, thread: &Thread) -> Result<(), Error> {
    let labels = [channel_label(thread.id.channel()), requester_label(&thread.requester.id())];
    Ok(search::change(tx, &entry(thread, &labels)).await?)
}

fn entry<'a>(thread: &'a Thread, labels: &'a [String]) -> Entry<'a> {
    Entry { id: thread.id.uuid(), group: thread.space.uuid(), labels, text: &thread.title }
}

fn channel_label(channel: Channel) -> String {
    format!("channel {}", channel.as_str())
}

fn requester_label(requester: &str) -> String {
    format!("requester {requester}")
}

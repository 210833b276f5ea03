//! Lists by cursor: `?limit=` (1-200, default 50) and `?after=` the `next` of the page before.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};
use thinkwork_primitives::{Timestamp, limits};
use utoipa::ToSchema;

use super::{ApiError, Query};

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct List<T> {
    /// The items, in the list's order.
    pub items: Vec<T>,
    /// What to send as `after` for the next page; null on the last page.
    pub next: Option<String>,
}

impl<T> List<T> {
    /// Cuts what a store returned for [`Pagination::fetch_limit`] into a page; `cursor` names an item's place.
    pub fn cut(mut items: Vec<T>, paging: &Pagination, cursor: impl Fn(&T) -> String) -> Self {
        let limit = usize::try_from(paging.limit).unwrap_or(usize::MAX);
        let more = items.len() > limit;
        items.truncate(limit);
        let next = if more { items.last().map(cursor) } else { None };
        Self { items, next }
    }

    /// A page of a list that is short enough to be read whole, like a person's own things: oldest first. It is cut by
    /// the order of ids, so the page goes on where the cursor's own item is gone.
    ///
    /// # Errors
    /// 422 where the cursor was not made by this list.
    pub fn oldest_first<I>(mut items: Vec<T>, paging: &Pagination, id: impl Fn(&T) -> I) -> Result<Self, ApiError>
    where
        I: Ord + std::fmt::Display + std::str::FromStr,
    {
        if let Some(after) = paging.after_id::<I>()? {
            items.retain(|item| id(item) > after);
        }
        items.sort_by_key(&id);
        Ok(Self::cut(items, paging, |item| id(item).to_string()))
    }

    /// The same, newest first.
    ///
    /// # Errors
    /// 422 where the cursor was not made by this list.
    pub fn newest_first<I>(mut items: Vec<T>, paging: &Pagination, id: impl Fn(&T) -> I) -> Result<Self, ApiError>
    where
        I: Ord + std::fmt::Display + std::str::FromStr,
    {
        if let Some(after) = paging.after_id::<I>()? {
            items.retain(|item| id(item) < after);
        }
        items.sort_by_key(|item| std::cmp::Reverse(id(item)));
        Ok(Self::cut(items, paging, |item| id(item).to_string()))
    }

    /// The link to the next page of the list at `path`; empty on the last page.
    pub fn next_href(&self, path: &str) -> String {
        self.next.as_ref().map(|next| format!("{path}?after={next}")).unwrap_or_default()
    }

    /// The same page of other items.
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> List<U> {
        List { items: self.items.into_iter().map(f).collect(), next: self.next }
    }
}

/// Which page is asked for.
#[derive(Clone, Debug)]
pub struct Pagination {
    /// Items of the page.
    pub limit: u64,
    /// The cursor: the `next` of the page before, as the list made it.
    pub after: Option<String>,
}

impl Default for Pagination {
    fn default() -> Self {
        Self { limit: limits::PAGE_ITEMS_DEFAULT, after: None }
    }
}

impl Pagination {
    /// How many items to read: one more than the page shows, by which [`List::cut`] knows that there is a next page.
    pub const fn fetch_limit(&self) -> u64 {
        self.limit.saturating_add(1)
    }

    /// The cursor as an id of this kind; an error where it is none.
    ///
    /// # Errors
    /// 422 where the cursor was not made by this list.
    pub fn after_id<I: std::str::FromStr>(&self) -> Result<Option<I>, ApiError> {
        self.after
            .as_deref()
            .map(|text| {
                text.parse().map_err(|_| ApiError::invalid("after", "use the `next` value of the previous page."))
            })
            .transpose()
    }

    /// The cursor as the place of an item in a list by time, as [`time_cursor`] prints it.
    ///
    /// # Errors
    /// 422 where the cursor was not made by such a list.
    pub fn after_cursor<I: std::str::FromStr>(&self) -> Result<Option<(Timestamp, I)>, ApiError> {
        let read = |text: &str| {
            let (micros, id) = text.split_once('_')?;
            Some((Timestamp::from_micros(micros.parse().ok()?), id.parse().ok()?))
        };
        let wrong = || ApiError::invalid("after", "use the `next` value of the previous page.");
        self.after.as_deref().map(|text| read(text).ok_or_else(wrong)).transpose()
    }
}

/// The place of an item in a list by time, as a cursor.
pub fn time_cursor(at: Timestamp, id: impl std::fmt::Display) -> String {
    format!("{}_{id}", at.micros())
}

#[derive(Deserialize)]
struct Raw {
    limit: Option<u64>,
    after: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Pagination {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Query(raw) = Query::<Raw>::from_request_parts(parts, state).await.map_err(|mut error| {
            if error.fields.iter().any(|(field, _)| field == "limit") {
                error = ApiError::invalid("limit", "use a whole number from 1 to 200, once.");
            }
            error
        })?;
        let limit = raw.limit.unwrap_or(limits::PAGE_ITEMS_DEFAULT);
        if (1..=limits::PAGE_ITEMS_MAX).contains(&limit) {
            Ok(Self { limit, after: raw.after })
        } else {
            Err(ApiError::invalid("limit", "use a whole number from 1 to 200."))
        }
    }
}

//! `/admin/data-retention`: how long data is kept, and how much of it there is. Changing that is a setting of the server.

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use thinkwork_database::retention::StoredRows;
use thinkwork_primitives::Timestamp;

use super::{DataRetention, StoredKind};
use crate::edge::{ApiError, DisplayTime, Layout, Page, PageError, PageOperator};

/// The page of this slice.
pub fn routes(retention: &DataRetention) -> Router {
    Router::new().route("/admin/data-retention", get(show)).with_state(retention.clone())
}

struct Row {
    name: &'static str,
    description: &'static str,
    retention: String,
    setting: &'static str,
    rows: String,
    oldest: Option<DisplayTime>,
}

#[derive(Template)]
#[template(path = "data_retention/templates/data_retention.html")]
struct DataRetentionPage {
    layout: Layout,
    rows: Vec<Row>,
}

async fn show(
    State(retention): State<DataRetention>,
    PageOperator(caller): PageOperator,
) -> Result<Page<DataRetentionPage>, PageError> {
    let now = retention.clock.now();
    let kinds = retention.list(caller.tenant()).await.map_err(ApiError::from)?;
    let layout = Layout::admin(&caller, "Data retention", "data-retention");
    Ok(Page(DataRetentionPage { layout, rows: kinds.into_iter().map(|kind| row(kind, now)).collect() }))
}

fn row(one: StoredKind, now: Timestamp) -> Row {
    Row {
        name: one.kind.name(),
        description: one.kind.description(),
        retention: one.retention.words(),
        setting: one.retention.setting().unwrap_or_default(),
        rows: rows_words(one.stored),
        oldest: one.stored.oldest.map(|at| DisplayTime::of(at, now)),
    }
}

/// A count with separators, like `12,345` or `more than 100,000`.
fn rows_words(stored: StoredRows) -> String {
    let digits = stored.rows.to_string();
    let mut words = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && digits.len().saturating_sub(place).is_multiple_of(3) {
            words.push(',');
        }
        words.push(digit);
    }
    if stored.is_more { format!("more than {words}") } else { words }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_up_to_a_limit() {
        let check = |rows, is_more, words: &str| {
            assert_eq!(rows_words(StoredRows { rows, is_more, oldest: None }), words);
        };
        check(0, false, "0");
        check(999, false, "999");
        check(1_000, false, "1,000");
        check(100_000, true, "more than 100,000");
    }
}

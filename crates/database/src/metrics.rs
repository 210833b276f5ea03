//! What is measured of the database: how long transactions take, how many statements they run, and how long their callers
//! waited for a connection.
//!
//! Invariant: labels are words of ours, never a tenant or a table.

use prometheus::core::Collector;
use prometheus::{HistogramOpts, HistogramTimer, HistogramVec, IntCounter, IntCounterVec, Opts, exponential_buckets};

use crate::Error;

/// Upper bounds in seconds, from 0.1 ms to 6.6 s.
fn buckets() -> Result<Vec<f64>, Error> {
    Ok(exponential_buckets(0.000_1, 4.0, 9)?)
}

/// What a transaction may do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

impl Access {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// The measurements of one database. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Metrics {
    transactions: HistogramVec,
    waits: HistogramVec,
    statements: IntCounterVec,
}

impl Metrics {
    pub(crate) fn new() -> Result<Self, Error> {
        let transactions = HistogramOpts::new(
            "thinkwork_database_transaction_duration_seconds",
            "Transactions from their begin to their end.",
        );
        let waits = HistogramOpts::new(
            "thinkwork_database_wait_duration_seconds",
            "How long callers waited for a connection; those that write on SQLite, for the one writer.",
        );
        let statements = Opts::new("thinkwork_database_statements_total", "Statements of transactions.");
        Ok(Self {
            transactions: HistogramVec::new(transactions.buckets(buckets()?), &["access"])?,
            waits: HistogramVec::new(waits.buckets(buckets()?), &["access"])?,
            statements: IntCounterVec::new(statements, &["access"])?,
        })
    }

    pub(crate) fn collectors(&self) -> Vec<Box<dyn Collector>> {
        vec![Box::new(self.transactions.clone()), Box::new(self.waits.clone()), Box::new(self.statements.clone())]
    }

    /// Measures from now until the timer is dropped.
    pub(crate) fn time_transaction(&self, access: Access) -> HistogramTimer {
        self.transactions.with_label_values(&[access.as_str()]).start_timer()
    }

    /// The same for the wait before it.
    pub(crate) fn time_wait(&self, access: Access) -> HistogramTimer {
        self.waits.with_label_values(&[access.as_str()]).start_timer()
    }

    /// Counts the statements of a transaction.
    pub(crate) fn statements(&self, access: Access) -> IntCounter {
        self.statements.with_label_values(&[access.as_str()])
    }
}

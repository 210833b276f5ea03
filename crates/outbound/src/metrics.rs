//! What is measured of requests to other servers: how long they took, by what they were for and how they ended.
//!
//! Invariant: labels are words of ours, never a host.

use std::time::Instant;

use prometheus::core::Collector;
use prometheus::{HistogramOpts, HistogramVec};

use crate::error::Error;

/// Upper bounds in seconds: from a server beside us to the deadline of a slow model.
const BUCKETS: &[f64] = &[0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 30.0, 120.0];

/// What a request is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    /// A tool or a list of tools of an MCP server.
    Mcp,
    /// An answer of a model.
    Model,
    /// Discovery, registration and tokens at an authorization server.
    Oauth,
    /// Anything else.
    #[default]
    Other,
}

impl Purpose {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Mcp => "mcp",
            Self::Model => "model",
            Self::Oauth => "oauth",
            Self::Other => "other",
        }
    }
}

/// The measurements of one client. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Metrics(HistogramVec);

impl Metrics {
    pub(crate) fn new() -> Result<Self, Error> {
        let options = HistogramOpts::new(
            "thinkwork_upstream_request_duration_seconds",
            "Requests to other servers until the answer; of a stream until its headers.",
        );
        let durations = HistogramVec::new(options.buckets(BUCKETS.to_vec()), &["purpose", "outcome"]);
        Ok(Self(durations.map_err(|error| Error::Setup { detail: error.to_string() })?))
    }

    pub(crate) fn collector(&self) -> Box<dyn Collector> {
        Box::new(self.0.clone())
    }

    /// Notes how a request ended: the status of its answer, or why there is none.
    pub(crate) fn observe(&self, purpose: Purpose, started: Instant, ended: Result<u16, &Error>) {
        let outcome = match ended {
            Ok(400..500) => "client_error",
            Ok(500..) => "server_error",
            Ok(_) => "ok",
            Err(Error::Timeout { .. }) => "timeout",
            Err(Error::Connect { .. } | Error::Tls { .. }) => "unreachable",
            Err(Error::Broken { .. } | Error::TooLarge { .. }) => "broken",
            Err(Error::Refused { .. } | Error::InvalidHeader { .. } | Error::Json | Error::Setup { .. }) => "refused",
        };
        self.0.with_label_values(&[purpose.as_str(), outcome]).observe(started.elapsed().as_secs_f64());
    }
}

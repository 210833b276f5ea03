//! The whole demonstration without a person: every step over HTTP, with sessions as browsers have them.
//!
//! Invariant: each step says who asked and whose credential was used as the server recorded it, never as the check
//! supposes it. The first step that fails is the last.

mod people;
mod story;

use std::time::Instant;

use serde_json::{Value, json};
use thinkwork_primitives::{Clock, TenantId};
use url::Url;

use super::{DemoTenant, Error, SampleServers};
use crate::audit::Audit;
use people::Mine;

/// The steps, in order.
pub const STEPS: [&str; 15] = [
    "server_ready",
    "owner_signs_in",
    "server_registered_pending",
    "server_approved",
    "member_connects",
    "effects_recorded",
    "member_runs_tool",
    "webhook_accepted",
    "second_member_joins",
    "second_member_gets_connect_link",
    "foreign_token_never_used",
    "token_refreshed",
    "disconnected",
    "next_call_finds_no_tool",
    "audit_verifies",
];

/// What the check is made on.
pub struct DemoContext {
    /// Where ThinkWork is.
    pub url: Url,
    /// The clock that the server and the sample servers share.
    pub clock: Clock,
    pub tenant: TenantId,
    /// The owner's password.
    pub owner_password: String,
    /// The record, for verifying it as `thinkwork audit verify` does.
    pub audit: Audit,
    /// The sample outside world.
    pub outside: SampleServers,
}

/// What a step found: who asked and whose credential, as recorded.
struct Fact {
    requester: Value,
    subject: Value,
    detail: Value,
}

impl Fact {
    /// With one more detail.
    fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        if let Value::Object(detail) = &mut self.detail {
            detail.insert(name.to_owned(), value.into());
        }
        self
    }
}

/// How the check went.
pub struct Summary {
    /// Whether every step was fine.
    pub ok: bool,
    /// The steps as they were printed.
    pub steps: Vec<Value>,
    /// What was not tried because of a failure.
    pub skipped: Vec<&'static str>,
    /// How long it took.
    pub seconds: f64,
}

impl Summary {
    /// For a file.
    pub fn json(&self) -> Value {
        json!({ "ok": self.ok, "steps": self.steps, "skipped": self.skipped, "seconds": self.seconds })
    }
}

/// The check under way.
struct Check<'a> {
    stage: &'a DemoContext,
    house: DemoTenant,
    /// Olivia's thread and her connection, once they are there.
    mine: Mine,
    print: &'a mut dyn FnMut(&Value),
    steps: Vec<Value>,
}

/// A step failed; it was printed.
struct Stopped;

/// Makes the check; `print` gets each step as it ends.
///
/// # Errors
/// Only where it cannot begin; what goes wrong later is in the summary.
pub async fn run(stage: &DemoContext, print: &mut dyn FnMut(&Value)) -> Result<Summary, Error> {
    let began = Instant::now();
    let house = DemoTenant::new(stage.url.clone(), stage.owner_password.clone())?;
    let mut check = Check { stage, house, mine: Mine::default(), print, steps: Vec::new() };
    let ok = check.all().await.is_ok();
    let steps = check.steps;
    let skipped = STEPS.iter().copied().skip(steps.len()).collect();
    Ok(Summary { ok, steps, skipped, seconds: began.elapsed().as_secs_f64() })
}

impl Check<'_> {
    async fn all(&mut self) -> Result<(), Stopped> {
        self.step(Self::server_ready).await?;
        self.step(Self::owner_signs_in).await?;
        self.step(Self::server_registered_pending).await?;
        self.step(Self::server_approved).await?;
        self.step(Self::member_connects).await?;
        self.step(Self::effects_recorded).await?;
        self.step(Self::member_runs_tool).await?;
        self.step(Self::webhook_accepted).await?;
        self.step(Self::second_member_joins).await?;
        self.step(Self::second_member_gets_connect_link).await?;
        self.step(Self::foreign_token_never_used).await?;
        self.step(Self::token_refreshed).await?;
        self.step(Self::disconnected).await?;
        self.step(Self::next_call_finds_no_tool).await?;
        self.step(Self::audit_verifies).await
    }

    /// Does the next step and prints how it went.
    async fn step(&mut self, act: impl AsyncFnOnce(&mut Self) -> Result<Fact, Error>) -> Result<(), Stopped> {
        let name = STEPS.get(self.steps.len()).copied().unwrap_or("unnamed");
        let began = Instant::now();
        let outcome = act(self).await;
        let milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let ok = outcome.is_ok();
        let line = match outcome {
            Ok(fact) => json!({
                "step": name, "ok": true, "requester": fact.requester, "credential_subject": fact.subject,
                "detail": fact.detail, "milliseconds": milliseconds,
            }),
            Err(error) => json!({
                "step": name, "ok": false, "requester": null, "credential_subject": null,
                "error": error.to_string(), "milliseconds": milliseconds,
            }),
        };
        (self.print)(&line);
        self.steps.push(line);
        if ok { Ok(()) } else { Err(Stopped) }
    }
}

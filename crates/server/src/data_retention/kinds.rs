//! The kinds of data that are kept for a time of their own: what each is called, where it is, and how long it is kept.

use strum::{IntoStaticStr, VariantArray};

use crate::config::RetentionConfig;

/// A kind of data that is kept for a time of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum DataKind {
    DeliveryContents,
    Deliveries,
    ThreadEvents,
    Steps,
    EndedConnections,
    RevokedTokens,
    ErasedCredentials,
    IntakeEvents,
    Threads,
    AuditLog,
}

/// How long a kind of data is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// As a setting says, in days; 0 is forever.
    Setting { name: &'static str, days: u32 },
    /// As the product says, in words.
    Fixed(&'static str),
}

impl Retention {
    /// In words, like `30 days` or `Forever`.
    pub fn words(self) -> String {
        match self {
            Self::Fixed(words) => words.to_owned(),
            Self::Setting { days: 0, .. } => "Forever".to_owned(),
            Self::Setting { days: 1, .. } => "1 day".to_owned(),
            Self::Setting { days, .. } => format!("{days} days"),
        }
    }

    /// The setting's name, if there is one.
    pub const fn setting(self) -> Option<&'static str> {
        match self {
            Self::Setting { name, .. } => Some(name),
            Self::Fixed(_) => None,
        }
    }

    /// After how many days it is deleted; `None` where that is never, or not a matter of days alone.
    pub const fn days(self) -> Option<u32> {
        match self {
            Self::Setting { days, .. } if days > 0 => Some(days),
            _ => None,
        }
    }
}

impl DataKind {
    /// The word in the API.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// What people call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DeliveryContents => "Delivery contents (for replay)",
            Self::Deliveries => "Deliveries",
            Self::ThreadEvents => "Thread events (for streams)",
            Self::Steps => "Steps of turns",
            Self::EndedConnections => "Ended connections",
            Self::RevokedTokens => "Revoked and expired tokens",
            Self::ErasedCredentials => "Erased credential versions",
            Self::IntakeEvents => "Pending events and event IDs for duplicate detection",
            Self::Threads => "Threads, messages and turns",
            Self::AuditLog => "Audit log",
        }
    }

    /// What it is for, in a sentence.
    pub const fn description(self) -> &'static str {
        match self {
            Self::DeliveryContents => "The full request of each delivery. Without it a delivery cannot be replayed.",
            Self::Deliveries => "Each request to a webhook with its result, headers and the beginning of its body.",
            Self::ThreadEvents => "Changes of a thread in order, so that a program that follows it can resume.",
            Self::Steps => {
                "Calls to the model and to tools, with their input and output. Counted from the end of the turn."
            }
            Self::EndedConnections => {
                "Disconnected accounts, without their tokens. One that a step used is kept as long as the step."
            }
            Self::RevokedTokens => "Access tokens that no longer work, with their names.",
            Self::ErasedCredentials => {
                "When each version of a secret was stored and erased. The secret itself is erased at once."
            }
            Self::IntakeEvents => "Accepted events that are not applied yet, and IDs of those that are.",
            Self::Threads => "What people and webhooks wrote, and what the agent answered.",
            Self::AuditLog => "Every change and every use of a credential.",
        }
    }

    /// The tables that hold it.
    pub const fn tables(self) -> &'static [&'static str] {
        match self {
            Self::DeliveryContents => &["delivery_envelope"],
            Self::Deliveries => &["delivery"],
            Self::ThreadEvents => &["thread_event"],
            Self::Steps => &["step"],
            Self::EndedConnections => &["connection"],
            Self::RevokedTokens => &["token"],
            Self::ErasedCredentials => &["credential_version"],
            Self::IntakeEvents => &["intake_event"],
            Self::Threads => &["thread", "message", "turn"],
            Self::AuditLog => &["audit_event", "audit_seal", "audit_checkpoint", "audit_unsealed", "audit_refused"],
        }
    }

    /// How long it is kept with this configuration.
    pub const fn retention(self, config: &RetentionConfig) -> Retention {
        let (name, days) = match self {
            Self::DeliveryContents => ("retention.delivery_contents_days", config.delivery_contents_days),
            Self::Deliveries => ("retention.deliveries_days", config.deliveries_days),
            Self::ThreadEvents => ("retention.thread_events_days", config.thread_events_days),
            Self::Steps => ("retention.steps_days", config.steps_days),
            Self::EndedConnections => ("retention.ended_connections_days", config.ended_connections_days),
            Self::RevokedTokens => ("retention.revoked_tokens_days", config.revoked_tokens_days),
            Self::ErasedCredentials => ("retention.erased_credentials_days", config.erased_credentials_days),
            Self::IntakeEvents => return Retention::Fixed("30 days; unsigned ones as long as their secret"),
            Self::Threads | Self::AuditLog => return Retention::Fixed("Forever"),
        };
        Retention::Setting { name, days }
    }
}

//! `thinkwork webhook`: explicit inbound endpoints and what reached them.

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use strum::IntoEnumIterator as _;
use thinkwork_primitives::{SpaceId, WebhookId};

use super::super::CommandError;
use super::api::{Api, secret_from_stdin, without_none};
use super::{IfVersionArgs, PageArgs, show};
use crate::webhooks::schemes::Scheme;

/// What to do with webhooks.
#[derive(Subcommand)]
pub enum Webhook {
    /// List webhooks.
    List {
        /// Page of the list.
        #[command(flatten)]
        part: PageArgs,
    },
    /// Create a webhook. Its secret is printed once.
    Add(Add),
    /// Show a webhook.
    Show {
        /// ID of the webhook, whk_….
        id: WebhookId,
    },
    /// Update a webhook. Pass an empty text to remove a value.
    Edit(Edit),
    /// Rotate the secret. The new secret is printed once.
    Rotate {
        /// ID of the webhook, whk_….
        id: WebhookId,
        /// How long the previous secret stays valid [default: 1 day].
        #[arg(long, value_name = "SECONDS")]
        overlap_seconds: Option<u64>,
    },
    /// Send a test event.
    Test {
        /// ID of the webhook, whk_….
        id: WebhookId,
    },
    /// List deliveries.
    Deliveries {
        /// ID of the webhook, whk_….
        id: WebhookId,
        /// Filter by result: accepted, applied, duplicate, conflict, refused or failed.
        #[arg(long)]
        result: Option<String>,
        /// Page of the list.
        #[command(flatten)]
        part: PageArgs,
    },
    /// Replay deliveries that were applied or failed, at most 1,000 at a time.
    Replay(Replay),
    /// Delete a webhook. Its URL stops working immediately.
    Remove {
        /// ID of the webhook, whk_….
        id: WebhookId,
    },
}

/// What to replay.
#[derive(Args)]
pub struct Replay {
    /// ID of the webhook, whk_….
    id: WebhookId,
    /// Filter by result: applied or failed.
    #[arg(long)]
    result: Option<String>,
    /// Filter by start time, for example 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Filter by end time.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only count the deliveries.
    #[arg(long)]
    dry_run: bool,
}

impl Replay {
    fn body(&self) -> Value {
        let filter = [("result", &self.result), ("since", &self.since), ("until", &self.until)];
        let filter = filter.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value.as_ref()?))));
        json!({ "filter": Map::from_iter(filter), "dry_run": self.dry_run })
    }
}

/// A webhook to make.
#[derive(Args)]
pub struct Add {
    /// Name.
    name: String,
    /// ID of the Space for its threads, spc_….
    #[arg(long)]
    space: SpaceId,
    /// Verification method.
    #[arg(long, default_value = "standard_webhooks", value_parser = schemes())]
    scheme: String,
    /// Read a secret chosen by the sender from standard input [default: generated].
    #[arg(long)]
    secret_stdin: bool,
    /// What it does with its events.
    #[command(flatten)]
    settings: WebhookArgs,
}

/// What to change of a webhook.
#[derive(Args)]
pub struct Edit {
    /// ID of the webhook, whk_….
    id: WebhookId,
    /// Name.
    #[arg(long)]
    name: Option<String>,
    /// Whether it is enabled. A disabled webhook returns 404.
    #[arg(long)]
    enabled: Option<bool>,
    /// What it does with its events.
    #[command(flatten)]
    settings: WebhookArgs,
    /// Allow requests from all IP addresses.
    #[arg(long, conflicts_with = "cidrs")]
    any_network: bool,
    /// Expected version.
    #[command(flatten)]
    seen: IfVersionArgs,
}

/// What a webhook does with its events.
#[derive(Args)]
struct WebhookArgs {
    /// Event ID of the sender: a JSON pointer like /id, or a header name.
    #[arg(long, value_name = "PLACE")]
    event_id: Option<String>,
    /// Correlation key. Events with the same value go to the same thread: a JSON pointer or a header name.
    #[arg(long, value_name = "PLACE")]
    correlation: Option<String>,
    /// Instructions for the agent.
    #[arg(long)]
    prompt: Option<String>,
    /// Rate limit (requests per minute).
    #[arg(long, value_name = "COUNT")]
    rate_limit_per_minute: Option<u64>,
    /// Allowed IP range, for example 192.0.2.0/24 (repeatable).
    #[arg(long = "cidr", value_name = "NETWORK")]
    cidrs: Vec<String>,
    /// Priority of new threads: low, medium, high, urgent or critical.
    #[arg(long)]
    priority: Option<String>,
}

impl WebhookArgs {
    /// The fields; an empty text is no value.
    fn fields(self) -> Vec<(&'static str, Option<Value>)> {
        let text = |text: Option<String>| text.map(|text| if text.is_empty() { Value::Null } else { text.into() });
        let cidrs = Some(self.cidrs).filter(|cidrs| !cidrs.is_empty());
        vec![
            ("event_id", text(self.event_id)),
            ("correlation", text(self.correlation)),
            ("prompt", text(self.prompt)),
            ("rate_limit_per_minute", self.rate_limit_per_minute.map(Value::from)),
            ("allowed_cidrs", cidrs.map(Value::from)),
            ("default_priority", text(self.priority)),
        ]
    }
}

fn schemes() -> PossibleValuesParser {
    Scheme::iter().map(|scheme| scheme.as_str()).into()
}

impl Add {
    fn body(self, secret: Option<String>) -> Map<String, Value> {
        let mut fields = self.settings.fields();
        fields.extend([
            ("name", Some(self.name.into())),
            ("space_id", Some(json!(self.space))),
            ("verification", Some(json!({ "scheme": self.scheme }))),
            ("secret", secret.map(Value::from)),
        ]);
        without_none(&fields)
    }
}

async fn edit(api: &Api, edit: Edit) -> Result<(), CommandError> {
    let mut fields = edit.settings.fields();
    fields.extend([
        ("name", edit.name.map(Value::from)),
        ("enabled", edit.enabled.map(Value::from)),
        ("allowed_cidrs", edit.any_network.then_some(Value::Null)),
    ]);
    let answer = api.patch(&format!("/v1/webhooks/{}", edit.id), &fields, &edit.seen).await?;
    api.show(&answer, detail);
    Ok(())
}

pub(super) async fn run(api: &Api, command: Webhook) -> Result<(), CommandError> {
    let path = |id: WebhookId| format!("/v1/webhooks/{id}");
    match command {
        Webhook::List { part } => list(api, &part).await,
        Webhook::Add(new) => {
            let secret = if new.secret_stdin { Some(secret_from_stdin("the webhook's secret")?) } else { None };
            let answer = api.post("/v1/webhooks", &new.body(secret)).await?;
            api.show(&answer, with_secret);
            Ok(())
        }
        Webhook::Edit(change) => edit(api, change).await,
        Webhook::Show { id } => {
            let answer = api.get(&path(id)).await?;
            api.show(&answer, detail);
            Ok(())
        }
        Webhook::Rotate { id, overlap_seconds } => {
            let body = overlap_seconds.map_or_else(|| json!({}), |seconds| json!({ "overlap_seconds": seconds }));
            let answer = api.post(&format!("{}/rotate", path(id)), &body).await?;
            api.show(&answer, with_secret);
            Ok(())
        }
        Webhook::Test { id } => {
            let answer = api.post(&format!("{}/test", path(id)), &json!({})).await?;
            api.show(&answer, |answer| {
                show::lines(answer, &[("Delivery", "/id"), ("Result", "/result")]);
            });
            Ok(())
        }
        Webhook::Deliveries { id, result, part } => deliveries(api, &path(id), result.as_deref(), &part).await,
        Webhook::Replay(replay) => {
            let answer = api.post(&format!("{}/replay", path(replay.id)), &replay.body()).await?;
            let label = if replay.dry_run { "Would be replayed" } else { "Replayed" };
            api.show(&answer, |answer| show::lines(answer, &[(label, "/count")]));
            Ok(())
        }
        Webhook::Remove { id } => {
            api.delete(&path(id)).await?;
            api.done("Webhook deleted. Its URL no longer works.");
            Ok(())
        }
    }
}

async fn list(api: &Api, part: &PageArgs) -> Result<(), CommandError> {
    let answer = api.get(&part.of("/v1/webhooks", &[])).await?;
    let columns = [
        ("ID", "/id"),
        ("NAME", "/name"),
        ("SCHEME", "/verification/scheme"),
        ("TAKES", "/enabled"),
        ("SPACE", "/space_id"),
    ];
    let empty = "No webhooks. Create one with `thinkwork webhook add NAME --space spc_…`.";
    api.show(&answer, |answer| show::table(answer, &columns, empty));
    Ok(())
}

async fn deliveries(api: &Api, path: &str, result: Option<&str>, part: &PageArgs) -> Result<(), CommandError> {
    let answer = api.get(&part.of(&format!("{path}/deliveries"), &[("result", result)])).await?;
    let columns = [
        ("ID", "/id"),
        ("RECEIVED", "/received_at"),
        ("RESULT", "/result"),
        ("REASON", "/reason"),
        ("THREAD", "/thread_id"),
        ("COUNT", "/count"),
    ];
    api.show(&answer, |answer| show::table(answer, &columns, "No matching deliveries."));
    Ok(())
}

fn detail(answer: &Value) {
    let labels = [
        ("Id", "/id"),
        ("Name", "/name"),
        ("Address", "/url"),
        ("Space", "/space_id"),
        ("Scheme", "/verification/scheme"),
        ("Enabled", "/enabled"),
        ("Event ID", "/event_id"),
        ("Correlation key", "/correlation"),
        ("Instructions", "/prompt"),
        ("Priority", "/default_priority"),
        ("A minute", "/rate_limit_per_minute"),
        ("From", "/allowed_cidrs"),
        ("Secret version", "/secret_state/version"),
        ("Secret ends with", "/secret_state/last_four"),
        ("Previous secret expires", "/secret_state/previous_ends_at"),
    ];
    show::lines(answer, &labels);
}

fn with_secret(answer: &Value) {
    detail(answer);
    show::once("The secret", answer.get("secret"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_given_is_sent() {
        let space = SpaceId::new();
        let new = Add {
            name: "billing".to_owned(),
            space,
            scheme: "bearer".to_owned(),
            secret_stdin: false,
            settings: WebhookArgs {
                event_id: None,
                correlation: Some("/invoice".to_owned()),
                prompt: None,
                rate_limit_per_minute: None,
                cidrs: Vec::new(),
                priority: None,
            },
        };
        let expect = json!({
            "name": "billing", "space_id": space, "verification": { "scheme": "bearer" }, "correlation": "/invoice",
        });
        assert_eq!(Value::from(new.body(None)), expect);
    }
}

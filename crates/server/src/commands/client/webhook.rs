//! `thinkwork webhook`: explicit inbound endpoints and what reached them.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use thinkwork_primitives::{SpaceId, WebhookId};

use super::super::Failure;
use super::api::{Api, only_given, secret_from_stdin};
use super::{Part, Seen, show};

/// What to do with webhooks.
#[derive(Subcommand)]
pub enum Webhook {
    /// List the webhooks of the tenant.
    List {
        /// Which part of the list.
        #[command(flatten)]
        part: Part,
    },
    /// Make a webhook; its secret is printed once.
    Add(Add),
    /// Show one webhook.
    Show {
        /// The webhook, whk_….
        id: WebhookId,
    },
    /// Change a webhook. An empty text takes that value away.
    Edit(Edit),
    /// Make a new secret at the same address; it is printed once.
    Rotate {
        /// The webhook, whk_….
        id: WebhookId,
        /// How long the secret before goes on verifying [default: a day].
        #[arg(long, value_name = "SECONDS")]
        overlap_seconds: Option<u64>,
    },
    /// Send it a signed sample event.
    Test {
        /// The webhook, whk_….
        id: WebhookId,
    },
    /// List what reached it, accepted or not.
    Deliveries {
        /// The webhook, whk_….
        id: WebhookId,
        /// Only with this result: accepted, applied, duplicate, conflict, refused or failed.
        #[arg(long)]
        result: Option<String>,
        /// Which part of the list.
        #[command(flatten)]
        part: Part,
    },
    /// Apply again what was applied or failed, at most 1,000 deliveries at a time.
    Replay(Replay),
    /// Delete it; its address answers 404 from then on.
    Remove {
        /// The webhook, whk_….
        id: WebhookId,
    },
}

/// What to replay.
#[derive(Args)]
pub struct Replay {
    /// The webhook, whk_….
    id: WebhookId,
    /// Only with this result: applied or failed.
    #[arg(long)]
    result: Option<String>,
    /// Only what arrived then or later, like 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only what arrived before.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only count.
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
    /// The name for people.
    name: String,
    /// The Space in which its events become threads, spc_….
    #[arg(long)]
    space: SpaceId,
    /// How requests prove themselves: bearer or standard_webhooks.
    #[arg(long, default_value = "standard_webhooks")]
    scheme: String,
    /// Read the secret that the sender dictates from standard input; else one is made.
    #[arg(long)]
    secret_stdin: bool,
    /// What it does with its events.
    #[command(flatten)]
    ways: Ways,
}

/// What to change of a webhook.
#[derive(Args)]
pub struct Edit {
    /// The webhook, whk_….
    id: WebhookId,
    /// The name for people.
    #[arg(long)]
    name: Option<String>,
    /// Whether it takes requests; one that does not answers 404.
    #[arg(long)]
    enabled: Option<bool>,
    /// What it does with its events.
    #[command(flatten)]
    ways: Ways,
    /// Take requests from every network.
    #[arg(long, conflicts_with = "cidrs")]
    any_network: bool,
    /// What was seen before.
    #[command(flatten)]
    seen: Seen,
}

/// What a webhook does with its events.
#[derive(Args)]
struct Ways {
    /// Where the sender's event id is: a JSON pointer like /id, or a header's name.
    #[arg(long, value_name = "PLACE")]
    event_id: Option<String>,
    /// Where the key is that ties events to one thread: a JSON pointer or a header's name.
    #[arg(long, value_name = "PLACE")]
    correlation: Option<String>,
    /// What the agent is told to do with its events.
    #[arg(long)]
    prompt: Option<String>,
    /// Requests a minute, all processes together.
    #[arg(long, value_name = "COUNT")]
    rate_limit_per_minute: Option<u64>,
    /// Take requests only from this network (repeat for more).
    #[arg(long = "cidr", value_name = "NETWORK")]
    cidrs: Vec<String>,
    /// The priority of its threads: low, medium, high, urgent or critical.
    #[arg(long)]
    priority: Option<String>,
}

impl Ways {
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

impl Add {
    fn body(self, secret: Option<String>) -> Map<String, Value> {
        let mut fields = self.ways.fields();
        fields.extend([
            ("name", Some(self.name.into())),
            ("space_id", Some(json!(self.space))),
            ("verification", Some(json!({ "scheme": self.scheme }))),
            ("secret", secret.map(Value::from)),
        ]);
        only_given(&fields)
    }
}

async fn edit(api: &Api, edit: Edit) -> Result<(), Failure> {
    let mut fields = edit.ways.fields();
    fields.extend([
        ("name", edit.name.map(Value::from)),
        ("enabled", edit.enabled.map(Value::from)),
        ("allowed_cidrs", edit.any_network.then_some(Value::Null)),
    ]);
    let answer = api.patch(&format!("/v1/webhooks/{}", edit.id), &fields, &edit.seen).await?;
    api.show(&answer, detail);
    Ok(())
}

pub(super) async fn run(api: &Api, command: Webhook) -> Result<(), Failure> {
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
            let label = if replay.dry_run { "Would come again" } else { "Come again" };
            api.show(&answer, |answer| show::lines(answer, &[(label, "/count")]));
            Ok(())
        }
        Webhook::Remove { id } => {
            api.delete(&path(id)).await?;
            api.done("The webhook is deleted; its address answers 404 from now on.");
            Ok(())
        }
    }
}

async fn list(api: &Api, part: &Part) -> Result<(), Failure> {
    let answer = api.get(&part.of("/v1/webhooks", &[])).await?;
    let columns = [
        ("ID", "/id"),
        ("NAME", "/name"),
        ("SCHEME", "/verification/scheme"),
        ("TAKES", "/enabled"),
        ("SPACE", "/space_id"),
    ];
    let empty = "There are no webhooks yet; make one with `thinkwork webhook add NAME --space spc_…`.";
    api.show(&answer, |answer| show::table(answer, &columns, empty));
    Ok(())
}

async fn deliveries(api: &Api, path: &str, result: Option<&str>, part: &Part) -> Result<(), Failure> {
    let answer = api.get(&part.of(&format!("{path}/deliveries"), &[("result", result)])).await?;
    let columns = [
        ("ID", "/id"),
        ("RECEIVED", "/received_at"),
        ("RESULT", "/result"),
        ("REASON", "/reason"),
        ("THREAD", "/thread_id"),
        ("COUNT", "/count"),
    ];
    api.show(&answer, |answer| show::table(answer, &columns, "Nothing has reached this webhook that fits."));
    Ok(())
}

fn detail(answer: &Value) {
    let labels = [
        ("Id", "/id"),
        ("Name", "/name"),
        ("Address", "/url"),
        ("Space", "/space_id"),
        ("Scheme", "/verification/scheme"),
        ("Takes requests", "/enabled"),
        ("Event id", "/event_id"),
        ("One thread for each", "/correlation"),
        ("The agent is told", "/prompt"),
        ("Priority", "/default_priority"),
        ("A minute", "/rate_limit_per_minute"),
        ("From", "/allowed_cidrs"),
        ("Secret version", "/secret_state/version"),
        ("Secret ends with", "/secret_state/last_four"),
        ("The one before ends", "/secret_state/previous_ends_at"),
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
            ways: Ways {
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

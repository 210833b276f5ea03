//! Pure decisions: what a webhook may look like, where ids and keys are found, which addresses and types are taken.

mod decode;
mod locate;
mod pointer;
mod show;
#[cfg(test)]
mod tests;

use axum::http::HeaderMap;
use thinkwork_primitives::{Network, Secret, crypto};

use super::schemes::Scheme;
use super::{Error, NewWebhook, RATE_LIMIT_MAX, Webhook, WebhookUpdate};

use crate::edge::{InvalidField, validation};
pub(super) use decode::{Content, Format, Unreadable, Unsupported};
pub(super) use locate::Body;
pub use locate::Locator;
pub(super) use show::{is_whole_text, preview, shown_headers, text_of};

/// Longest instruction: a page of text.
const PROMPT_CHARS_MAX: usize = 8_000;
/// Longest id that is a key as it is; the ids of known senders have 20 to 60 bytes.
const PLAIN_KEY_BYTES_MAX: usize = 96;
/// Networks of one webhook; large senders publish a few dozen.
const NETWORKS_MAX: usize = 200;
/// Longest wait that a sender may ask for, below the request's deadline.
const WAIT_SECONDS_MAX: u64 = 25;

/// Refuses what could not work.
pub(super) fn check_new(new: &NewWebhook) -> Result<(), Error> {
    check_name(&new.name)?;
    check_prompt(new.prompt.as_deref())?;
    check_rate(new.rate_limit_per_minute)?;
    check_networks(&new.allowed_cidrs)?;
    check_locators(&new.scheme, new.event_id.as_ref(), new.correlation.as_ref())?;
    match &new.secret {
        Some(secret) => check_secret(&new.scheme, secret),
        None => Ok(()),
    }
}

/// Refuses a change that could not work.
pub(super) fn check_change(scheme: &Scheme, change: &WebhookUpdate) -> Result<(), Error> {
    if let Some(name) = &change.name {
        check_name(name)?;
    }
    check_prompt(change.prompt.as_ref().and_then(|prompt| prompt.as_deref()))?;
    check_rate(change.rate_limit_per_minute.unwrap_or(1))?;
    check_networks(change.allowed_cidrs.as_deref().unwrap_or_default())?;
    let locator = |changed: &Option<Option<Locator>>| changed.clone().flatten();
    check_locators(scheme, locator(&change.event_id).as_ref(), locator(&change.correlation).as_ref())
}

/// Refuses a secret that the scheme cannot use.
pub(super) fn check_secret(scheme: &Scheme, secret: &Secret) -> Result<(), Error> {
    scheme.verifier().check_secret(secret).map_err(|problem| InvalidField::new("secret", problem).into())
}

fn check_name(name: &str) -> Result<(), Error> {
    if validation::name(name) == Some(name) {
        Ok(())
    } else {
        Err(InvalidField::new("name", "use 1 to 120 characters on one line.").into())
    }
}

fn check_prompt(prompt: Option<&str>) -> Result<(), Error> {
    match prompt {
        Some(prompt) if prompt.chars().count() > PROMPT_CHARS_MAX || prompt.contains('\0') => {
            Err(InvalidField::new("prompt", "use at most 8,000 characters.").into())
        }
        _ => Ok(()),
    }
}

fn check_rate(limit: i64) -> Result<(), Error> {
    if (1..=RATE_LIMIT_MAX).contains(&limit) {
        Ok(())
    } else {
        Err(InvalidField::new("rate_limit_per_minute", format!("use a whole number from 1 to {RATE_LIMIT_MAX}."))
            .into())
    }
}

fn check_networks(networks: &[Network]) -> Result<(), Error> {
    if networks.len() <= NETWORKS_MAX {
        Ok(())
    } else {
        Err(InvalidField::new("allowed_cidrs", "use at most 200 networks.").into())
    }
}

fn check_locators(scheme: &Scheme, event_id: Option<&Locator>, correlation: Option<&Locator>) -> Result<(), Error> {
    if scheme.verifier().description().signs_event_id && event_id.is_some() {
        return Err(InvalidField::new("event_id", "leave this empty: the event ID is part of the signature.").into());
    }
    if let Some(locator) = event_id {
        locator.check().map_err(|problem| InvalidField::new("event_id", problem))?;
    }
    if let Some(locator) = correlation {
        locator.check().map_err(|problem| InvalidField::new("correlation", problem))?;
    }
    Ok(())
}

/// The key that makes two events one: the sender's id under its kind of proof, else the delivery itself. A short id
/// stays as it is: ids of most senders grow with time, so the keys of one moment lie side by side on disk.
pub(super) fn dedupe_key(scheme: &Scheme, event_id: Option<&str>, own: uuid::Uuid) -> Vec<u8> {
    match event_id {
        Some(id) if id.len() <= PLAIN_KEY_BYTES_MAX => format!("{}\n{id}", scheme.as_str()).into_bytes(),
        Some(id) => format!("{}#\n{}", scheme.as_str(), crypto::hex(&crypto::sha256(id.as_bytes()))).into_bytes(),
        None => own.as_bytes().to_vec(),
    }
}

/// Which of the places that the operator named hold nothing, and what follows from it.
pub(super) fn not_found(webhook: &Webhook, event_id: Option<&str>, correlation: Option<&str>) -> Option<String> {
    let missing = |place: &Option<Locator>, found: Option<&str>| place.clone().filter(|_| found.is_none());
    let of_id = missing(&webhook.event_id, event_id).map(|place| {
        format!("no event ID was found at {}, so this event is not recognized when it is sent again", place.text())
    });
    let of_key = missing(&webhook.correlation, correlation)
        .map(|place| format!("no correlation key was found at {}, so it has a thread of its own", place.text()));
    let notes: Vec<String> = of_id.into_iter().chain(of_key).collect();
    (!notes.is_empty()).then(|| notes.join("; "))
}

/// Events with one key are applied in order; without one each stands alone. Digested: the key is the sender's text.
pub(super) fn order_key(correlation: Option<&str>) -> String {
    correlation.map_or_else(String::new, |key| crypto::hex(&crypto::sha256(key.as_bytes())))
}

/// The seconds of `Prefer: wait=N` (RFC 7240 section 4.3), cut to what a request may take.
pub(super) fn wait_seconds(headers: &HeaderMap) -> Option<u64> {
    headers
        .get_all("prefer")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split([',', ';']))
        .find_map(|part| {
            let (name, seconds) = part.split_once('=')?;
            name.trim().eq_ignore_ascii_case("wait").then(|| seconds.trim().trim_matches('"').parse::<u64>().ok())?
        })
        .map(|seconds| seconds.min(WAIT_SECONDS_MAX))
}

//! The tenant platform agent's settings: which model, which instructions, which key. Operators only.
//!
//! Invariants: the key is never shown and goes to the address it was entered for; a change is recorded.

use std::time::Duration;

use thinkwork_primitives::{CredentialId, Principal, Secret, TenantId, Timestamp, limits};
use url::Url;

use super::{Error, Turns, store};
use crate::audit::{self, Event};
use crate::credentials::{CredentialInfo, CredentialMeaning};
use crate::edge::InvalidField;

/// Instructions are read with every call; longer ones belong into Spaces.
const INSTRUCTIONS_BYTES_MAX: usize = 32_768;

/// Which model answers, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// The address below which `/chat/completions` is, without a slash at its end.
    pub base_url: String,
    /// The model's name there.
    pub name: String,
}

impl Model {
    /// What its key is for: it stays as long as the address stays at its origin.
    pub(super) fn key_meaning(&self) -> CredentialMeaning {
        CredentialMeaning::ModelKey { origin: self.origin().unwrap_or_default() }
    }

    /// Scheme, host and port; none of an address that cannot be read.
    fn origin(&self) -> Option<String> {
        Url::parse(&self.base_url).ok().map(|url| url.origin().ascii_serialization())
    }
}

/// The settings as stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agent {
    /// The model; without one no agent answers.
    pub model: Option<Model>,
    /// The tenant's instructions to its agent.
    pub instructions: String,
    /// The model's key.
    pub credential: Option<CredentialId>,
    /// When they were changed last.
    pub updated_at: Option<Timestamp>,
    /// Counts changes.
    pub version: i64,
}

/// The settings and what may be shown of the key.
pub struct AgentShown {
    /// The settings.
    pub agent: Agent,
    /// The key, if one is stored.
    pub key: Option<CredentialInfo>,
}

/// New settings.
pub struct AgentUpdate {
    /// The model's address; with `model` or not at all.
    pub model_base_url: Option<String>,
    /// The model's name there.
    pub model: Option<String>,
    pub instructions: String,
    /// A new key; none keeps the present one, as long as the address stays at its host.
    pub api_key: Option<Secret>,
}

impl Turns {
    /// The settings.
    pub async fn agent(&self, tenant: TenantId) -> Result<AgentShown, Error> {
        let mut tx = self.db.read(tenant).await?;
        let agent = store::agent_find(&mut tx).await?;
        let key = match agent.credential {
            Some(id) => self.credentials.describe(&mut tx, id).await?,
            None => None,
        };
        Ok(AgentShown { agent, key })
    }

    /// Changes the settings. Without a model the key is erased.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the field; [`Error::Credentials`] for a key that cannot be one.
    pub async fn agent_set(&self, change: AgentUpdate, by: &Principal) -> Result<AgentShown, Error> {
        let model = self.check_model(change.model_base_url.as_deref(), change.model.as_deref())?;
        if change.instructions.len() > INSTRUCTIONS_BYTES_MAX {
            return Err(
                InvalidField::new("instructions", format!("use at most {INSTRUCTIONS_BYTES_MAX} bytes.")).into()
            );
        }
        if change.instructions.contains('\0') {
            return Err(InvalidField::new("instructions", "remove the null character.").into());
        }
        let now = self.clock.now();
        let actor = by.actor();
        let mut tx = self.access.write_as(by).await?;
        let before = store::agent_find(&mut tx).await?;
        let credential = match (&model, &change.api_key, before.credential) {
            (None, Some(_), _) => return Err(InvalidField::new("api_key", "enter a model for this key.").into()),
            (None, None, Some(old)) => {
                self.credentials.revoke(&mut tx, old, &actor).await?;
                None
            }
            (Some(new), Some(key), Some(old)) if same_origin(before.model.as_ref(), new) => {
                self.credentials.rotate(&mut tx, old, &new.key_meaning(), key, Duration::ZERO, &actor).await?;
                Some(old)
            }
            (Some(new), Some(key), old) => {
                // A turn that runs knows the old address and the old id: what it opens under that id must never be the
                // new address's key. Its next try reads both afresh.
                if let Some(old) = old {
                    self.credentials.revoke(&mut tx, old, &actor).await?;
                }
                Some(self.credentials.create(&mut tx, &new.key_meaning(), key, &actor).await?)
            }
            (Some(new), None, Some(_)) if !same_origin(before.model.as_ref(), new) => {
                return Err(InvalidField::new(
                    "api_key",
                    "enter the key again: the stored key is only sent to the address it was entered for.",
                )
                .into());
            }
            (_, None, kept) => kept,
        };
        let after = Agent {
            model,
            instructions: change.instructions,
            credential,
            updated_at: Some(now),
            version: before.version.saturating_add(1),
        };
        store::agent_set(&mut tx, &after, now).await?;
        let event = Event::by(actor, "agent.changed")
            .on("agent", by.tenant)
            .detail("model_changed", before.model != after.model)
            .detail("instructions_changed", before.instructions != after.instructions)
            .detail("key_changed", change.api_key.is_some() || before.credential != after.credential);
        audit::record(&mut tx, now, event)?;
        tx.commit().await?;
        self.agent(by.tenant).await
    }

    fn check_model(&self, base_url: Option<&str>, name: Option<&str>) -> Result<Option<Model>, Error> {
        let filled = |text: Option<&str>| text.map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
        let (base_url, name) = match (filled(base_url), filled(name)) {
            (None, None) => return Ok(None),
            (Some(base_url), Some(name)) => (base_url, name),
            (None, Some(_)) => {
                return Err(InvalidField::new("model_base_url", "enter the base URL of the model.").into());
            }
            (Some(_), None) => return Err(InvalidField::new("model", "enter the name of the model.").into()),
        };
        if name.chars().count() > limits::NAME_CHARS_MAX || name.chars().any(char::is_control) {
            return Err(InvalidField::new(
                "model",
                format!("use at most {} visible characters.", limits::NAME_CHARS_MAX),
            )
            .into());
        }
        let url = self
            .outbound
            .check_url(&base_url)
            .map_err(|error| InvalidField::new("model_base_url", format!("{error}.")))?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err(InvalidField::new("model_base_url", "remove everything after ? or #.").into());
        }
        Ok(Some(Model { base_url: url.as_str().trim_end_matches('/').to_owned(), name }))
    }
}

/// Whether a key that was entered for the one may be sent to the other.
fn same_origin(before: Option<&Model>, after: &Model) -> bool {
    before.is_some_and(|before| before.origin().is_some() && before.origin() == after.origin())
}

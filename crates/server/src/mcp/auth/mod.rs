//! How calls to an MCP server are authorised: one file per mode, behind one enum.
//!
//! Invariants: a secret comes from its operator as text and is no part of an [`Auth`]; whatever an operator sets is part
//! of the definition that is approved, unless its [`Setting`] says otherwise.
//!
//! A variant holds the settings of its mode. Its JSON is what the API reads and shows and what is stored, and its
//! [`Description`] is what forms, pages, the OpenAPI document and the command line are made from, so that nothing outside
//! this folder names a mode.

mod no_auth;
mod tenant_key;
#[cfg(test)]
mod tests;
mod user_oauth;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use strum::{EnumIter, IntoEnumIterator as _, IntoStaticStr};
use thinkwork_primitives::{GrantTarget, Secret, ToolSourceId};

use super::Error;
use super::upstream::Authorization;
use crate::credentials::CredentialMeaning;
use crate::edge::InvalidField;
use crate::oauth::{AcceptedDeviations, ClientSettings, Deviation, ProviderMetadata};
use crate::tools::CredentialRequirement;

/// How a server is authorised: the word of a mode, and its settings where it has any.
///
/// Pages list the variants in this order; the first is the one they suggest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, EnumIter, IntoStaticStr)]
#[serde(tag = "mode", rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Auth {
    /// Each person's own grant.
    UserOauth(user_oauth::UserOauth),
    /// One key of the tenant.
    TenantKey(tenant_key::TenantKey),
    /// Anybody may call it.
    None(no_auth::NoAuth),
}

impl Auth {
    fn mode(&self) -> &dyn AuthMode {
        match self {
            Self::UserOauth(mode) => mode,
            Self::TenantKey(mode) => mode,
            Self::None(mode) => mode,
        }
    }

    fn mode_mut(&mut self) -> &mut dyn AuthMode {
        match self {
            Self::UserOauth(mode) => mode,
            Self::TenantKey(mode) => mode,
            Self::None(mode) => mode,
        }
    }

    /// Reads a mode and its settings as a client names them.
    pub fn parse(json: Map<String, Value>) -> Result<Self, Error> {
        let word = json.get("mode").and_then(Value::as_str);
        if !Self::iter().any(|auth| Some(auth.as_str()) == word) {
            let words: Vec<&str> = Self::iter().map(|auth| auth.as_str()).collect();
            return Err(InvalidField::new("auth.mode", format!("use one of: {}.", words.join(", "))).into());
        }
        serde_json::from_value(json.into()).map_err(|error| InvalidField::new("auth", format!("{error}.")).into())
    }

    /// The word in the API and in the database.
    pub fn as_str(&self) -> &'static str {
        self.into()
    }

    /// What people are told about the mode.
    pub fn description(&self) -> &'static Description {
        self.mode().description()
    }

    pub fn to_json(&self) -> Map<String, Value> {
        match json!(self) {
            Value::Object(json) => json,
            _ => Map::new(),
        }
    }

    /// The settings of this mode, each with its value; null where it is not set.
    pub fn settings(&self) -> impl Iterator<Item = (&'static Setting, Value)> {
        let mut json = self.to_json();
        self.description().settings.iter().map(move |setting| (setting, json.remove(setting.name).unwrap_or_default()))
    }

    /// What an operator approves of it: every setting but those that say otherwise, and where grants come from.
    pub fn definition(&self, issuer: Option<&str>, deviations: &[Deviation]) -> Map<String, Value> {
        let mut json = self.to_json();
        for setting in self.description().settings.iter().filter(|setting| !setting.is_reviewed) {
            json.remove(setting.name);
        }
        // The order of a list decides nothing.
        for list in json.values_mut().filter_map(Value::as_array_mut) {
            list.sort_by(|one, other| one.as_str().cmp(&other.as_str()));
            list.dedup();
        }
        if self.uses_oauth() {
            json.insert("issuer".to_owned(), json!(issuer));
            json.insert("deviations".to_owned(), json!(deviations));
        }
        json
    }

    /// Whose credential a call needs.
    pub fn needs(&self) -> CredentialRequirement {
        self.description().needs
    }

    /// Whether each person connects an account of their own at an authorization server.
    pub fn uses_oauth(&self) -> bool {
        self.needs() == CredentialRequirement::UserGrant
    }

    /// Whether no call can be made without a secret that the operator enters.
    pub fn requires_secret(&self) -> bool {
        self.needs() == CredentialRequirement::TenantKey
    }

    /// Whether the operator may enter a secret.
    pub fn takes_secret(&self) -> bool {
        self.requires_secret() || self.client_id().is_some()
    }

    /// The client that the operator registered by hand, whose secret is the server's.
    pub fn client_id(&self) -> Option<&str> {
        self.mode().client_id()
    }

    /// What the secret is called in JSON, where the mode has one.
    pub fn secret_name(&self) -> Option<&'static str> {
        self.description().secret().map(|secret| secret.name)
    }

    /// Deviations of the server and its authorization server from the specifications that the operator accepted.
    pub(super) fn accepted_deviations(&self) -> AcceptedDeviations<'_> {
        self.mode().accepted_deviations()
    }

    /// Whether the operator chose the scopes that people are asked for.
    pub(super) fn has_chosen_scopes(&self) -> bool {
        self.mode().has_chosen_scopes()
    }

    /// How a request presents the tenant's secret.
    pub(super) fn authorization<'a>(&'a self, secret: &'a Secret) -> Authorization<'a> {
        self.mode().authorization(secret)
    }

    /// What the secret that an operator entered is for, where the mode takes one.
    pub(super) fn secret_meaning(&self, holder: &SecretHolder<'_>) -> Option<CredentialMeaning> {
        self.mode().secret_meaning(holder)
    }

    /// How we are a client at the authorization server that people's grants come from, where there is one.
    pub(super) fn client(
        &self,
        target: GrantTarget,
        url: &str,
        discovered: &ProviderMetadata,
        secret: Option<Secret>,
    ) -> Option<ClientSettings> {
        self.mode().client(target, url, discovered, secret)
    }
}

/// The server whose secret it is.
pub(super) struct SecretHolder<'a> {
    pub(super) source: ToolSourceId,
    pub(super) url: &'a str,
    pub(super) issuer: Option<&'a str>,
    /// As discovery found it.
    pub(super) token_endpoint: Option<&'a str>,
}

/// How a server is to be authorised, checked, with the secret itself where there is one: never a reference to a stored
/// one.
pub struct NewAuth {
    pub(super) auth: Auth,
    /// Absent in a change that keeps the stored one.
    pub(super) secret: Option<Secret>,
}

impl NewAuth {
    /// Checks both.
    pub fn new(mut auth: Auth, secret: Option<Secret>) -> Result<Self, Error> {
        auth.mode_mut().check(secret.as_ref())?;
        if let Some(secret) = &secret {
            check_secret(secret)?;
        }
        Ok(Self { auth, secret })
    }
}

/// A secret that goes into a header: visible ASCII, no line break.
pub(super) fn check_secret(secret: &Secret) -> Result<(), Error> {
    if secret.is_empty() || secret.expose().iter().all(u8::is_ascii_whitespace) {
        return Err(InvalidField::new("auth.secret", "enter the key.").into());
    }
    if secret.expose().iter().all(|byte| (0x20..=0x7e).contains(byte)) {
        return Ok(());
    }
    Err(InvalidField::new("auth.secret", "the key contains a line break or another invalid character; paste it again.")
        .into())
}

/// A mode. The type that implements it holds its settings, and each has a default.
trait AuthMode {
    /// What people are told about it.
    fn description(&self) -> &'static Description;

    /// Brings what a client sent into its one form, and refuses what could not work.
    fn check(&mut self, _secret: Option<&Secret>) -> Result<(), Error> {
        Ok(())
    }

    /// How a request presents the tenant's secret, where calls need one.
    fn authorization<'a>(&'a self, secret: &'a Secret) -> Authorization<'a> {
        Authorization::Bearer(secret)
    }

    /// Deviations from the specifications that the operator accepted.
    fn accepted_deviations(&self) -> AcceptedDeviations<'_> {
        AcceptedDeviations::default()
    }

    /// Whether the operator chose the scopes.
    fn has_chosen_scopes(&self) -> bool {
        false
    }

    /// The client that the operator registered by hand, where grants come from an authorization server.
    fn client_id(&self) -> Option<&str> {
        None
    }

    /// How we are a client at that authorization server. `secret` is that of the client registered by hand.
    fn client(
        &self,
        _: GrantTarget,
        _url: &str,
        _: &ProviderMetadata,
        _secret: Option<Secret>,
    ) -> Option<ClientSettings> {
        None
    }

    /// What the secret that an operator entered is for, where one is taken: every setting that decides where it goes.
    fn secret_meaning(&self, _: &SecretHolder<'_>) -> Option<CredentialMeaning> {
        None
    }
}

/// What people are told about a mode, and whose credential it uses.
pub struct Description {
    /// Its name on pages.
    pub name: &'static str,
    /// Helps to choose it.
    pub help: &'static str,
    /// Whose credential a call needs.
    pub needs: CredentialRequirement,
    /// Its settings and its secret, in the order of the form.
    pub settings: &'static [Setting],
}

impl Description {
    /// What the operator enters as the secret, if anything.
    pub fn secret(&self) -> Option<&'static Setting> {
        self.settings.iter().find(|setting| matches!(setting.kind, SettingKind::Secret(_)))
    }
}

/// One setting of a mode, or its secret.
pub struct Setting {
    /// Its name in JSON.
    pub name: &'static str,
    /// What is entered.
    pub kind: SettingKind,
    /// Its name on pages.
    pub label: &'static str,
    /// What to enter.
    pub help: &'static str,
    /// What holds where it is not set, for whoever reviews the server.
    pub unset: &'static str,
    /// Whether it is part of the definition that an operator approves.
    pub is_reviewed: bool,
}

/// What is entered for a setting, with an example.
#[derive(Clone, Copy)]
pub enum SettingKind {
    Text(&'static str),
    /// Words.
    List(&'static str),
    /// Yes or no.
    Flag,
    /// The mode's secret. Its value is not in the mode's JSON.
    Secret(&'static str),
}

impl SettingKind {
    /// An example in JSON.
    pub fn example(self) -> Value {
        match self {
            Self::Text(text) | Self::Secret(text) => json!(text),
            Self::List(word) => json!([word]),
            Self::Flag => json!(false),
        }
    }
}

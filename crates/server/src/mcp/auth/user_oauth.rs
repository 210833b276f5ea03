//! Each person's own grant, by OAuth as MCP's specification of authorization has it.

use serde::{Deserialize, Serialize};
use thinkwork_primitives::{GrantTarget, Secret};

use super::{AuthMode, Description, SecretHolder, Setting, SettingKind};
use crate::credentials::CredentialMeaning;
use crate::edge::InvalidField;
use crate::mcp::Error;
use crate::oauth::{AcceptedDeviations, ClientSettings, PreRegistered, ProviderMetadata};
use crate::tools::CredentialRequirement;

/// What the operator decided about a server's OAuth.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UserOauth {
    /// A client that the operator registered by hand; else dynamic registration.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
    /// The metadata lacks `S256` and the operator accepts that.
    pkce_though_silent: bool,
    /// A named deviation from RFC 8707.
    without_resource: bool,
    /// Scopes to ask for instead of those of the metadata.
    #[serde(skip_serializing_if = "Option::is_none")]
    scopes: Option<Vec<String>>,
    /// `offline_access` is not asked for although the server lists it.
    without_offline_access: bool,
    /// `prompt` of authorization requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt: Option<String>,
    /// How we prove ourselves at the token endpoint, instead of what the metadata suggests.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_auth_method: Option<String>,
    /// The issuer that the authorization server's metadata names, where it is not the one that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted_issuer: Option<String>,
    /// The resource that the server's metadata names, where it is not the server's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted_resource: Option<String>,
}

/// The values of `prompt` (OpenID Connect Core section 3.1.2.1) that make sense for a person who connects.
const PROMPTS: [&str; 3] = ["consent", "login", "select_account"];
/// The supported methods (RFC 7591 section 2).
const TOKEN_AUTH_METHODS: [&str; 3] = ["none", "client_secret_basic", "client_secret_post"];

/// Drops an empty value; rejects one that is not in `words`.
fn one_of(field: &'static str, value: &mut Option<String>, words: &[&str]) -> Result<(), Error> {
    *value = value.take().filter(|value| !value.is_empty());
    match value {
        Some(value) if !words.contains(&value.as_str()) => {
            Err(InvalidField::new(field, format!("use one of: {}.", words.join(", "))).into())
        }
        _ => Ok(()),
    }
}

impl AuthMode for UserOauth {
    fn description(&self) -> &'static Description {
        &Description {
            name: "Per-user OAuth",
            help: "Each person connects their own account. The agent acts as the person who asks.",
            needs: CredentialRequirement::UserGrant,
            settings: &[
                Setting {
                    name: "client_id",
                    kind: SettingKind::Text("thinkwork"),
                    label: "Client ID",
                    help: "An OAuth client that you registered. Leave it out to have ThinkWork register one.",
                    unset: "",
                    is_reviewed: false,
                },
                Setting {
                    name: "client_secret",
                    kind: SettingKind::Secret("secret-example-4f8a"),
                    label: "Client secret",
                    help: "The secret of the client that you registered. Stored encrypted and never shown again.",
                    unset: "",
                    is_reviewed: false,
                },
                Setting {
                    name: "scopes",
                    kind: SettingKind::List("notes.read"),
                    label: "Scopes",
                    help: "The scopes to request instead of the server's default scopes.",
                    unset: "",
                    is_reviewed: true,
                },
                Setting {
                    name: "pkce_though_silent",
                    kind: SettingKind::Flag,
                    label: "Use PKCE even if it is not advertised",
                    help: "PKCE is used although the metadata of the server does not name S256.",
                    unset: "",
                    is_reviewed: true,
                },
                Setting {
                    name: "without_resource",
                    kind: SettingKind::Flag,
                    label: "Omit the resource parameter",
                    help: "For servers that do not accept it: the resource parameter of RFC 8707 is not sent.",
                    unset: "",
                    is_reviewed: true,
                },
                Setting {
                    name: "without_offline_access",
                    kind: SettingKind::Flag,
                    label: "Omit the offline_access scope",
                    help: "offline_access is not requested. People may have to reconnect when their access expires.",
                    unset: "",
                    is_reviewed: true,
                },
                Setting {
                    name: "prompt",
                    kind: SettingKind::Text("consent"),
                    label: "Prompt",
                    help: "The prompt parameter: consent, login or select_account. Some providers give a refresh token \
                           only with consent.",
                    unset: "",
                    is_reviewed: true,
                },
                Setting {
                    name: "token_auth_method",
                    kind: SettingKind::Text("client_secret_post"),
                    label: "Client authentication",
                    help: "How the client authenticates at the token endpoint: none, client_secret_basic or \
                           client_secret_post. Leave it out to use what the server's metadata lists first.",
                    unset: "",
                    is_reviewed: true,
                },
                Setting {
                    name: "accepted_issuer",
                    kind: SettingKind::Text("https://auth.example.com"),
                    label: "Accepted issuer",
                    help: "Only if the metadata of the authorization server names another issuer than expected: that \
                           issuer, as the provider's documentation confirms it.",
                    unset: "",
                    is_reviewed: true,
                },
                Setting {
                    name: "accepted_resource",
                    kind: SettingKind::Text("https://api.example.com/mcp"),
                    label: "Accepted resource",
                    help: "Only if the server's metadata names another resource than its address: that resource, as the \
                           provider's documentation confirms it.",
                    unset: "",
                    is_reviewed: true,
                },
            ],
        }
    }

    fn check(&mut self, secret: Option<&Secret>) -> Result<(), Error> {
        self.client_id = self.client_id.take().filter(|id| !id.is_empty());
        if secret.is_some() && self.client_id.is_none() {
            return Err(InvalidField::new("auth.client_id", "a client secret requires auth.client_id.").into());
        }
        one_of("auth.prompt", &mut self.prompt, &PROMPTS)?;
        one_of("auth.token_auth_method", &mut self.token_auth_method, &TOKEN_AUTH_METHODS)?;
        self.accepted_issuer = self.accepted_issuer.take().filter(|issuer| !issuer.is_empty());
        self.accepted_resource = self.accepted_resource.take().filter(|resource| !resource.is_empty());
        Ok(())
    }

    fn client_id(&self) -> Option<&str> {
        self.client_id.as_deref()
    }

    fn secret_meaning(&self, holder: &SecretHolder<'_>) -> Option<CredentialMeaning> {
        Some(CredentialMeaning::ToolSourceClientSecret {
            source: holder.source,
            url: holder.url.to_owned(),
            client_id: self.client_id.clone()?,
            issuer: holder.issuer.map(str::to_owned),
            token_endpoint: holder.token_endpoint.map(str::to_owned),
        })
    }

    fn client(
        &self,
        target: GrantTarget,
        url: &str,
        discovered: &ProviderMetadata,
        secret: Option<Secret>,
    ) -> Option<ClientSettings> {
        let pre_registered = self.client_id.clone().map(|client_id| PreRegistered { client_id, client_secret: secret });
        Some(ClientSettings {
            target,
            audience: url.to_owned(),
            discovered: discovered.clone(),
            pre_registered,
            pkce_though_silent: self.pkce_though_silent,
            without_resource: self.without_resource,
            scopes: self.scopes.clone(),
            without_offline_access: self.without_offline_access,
            prompt: self.prompt.clone(),
            token_auth_method: self.token_auth_method.clone(),
        })
    }

    fn accepted_deviations(&self) -> AcceptedDeviations<'_> {
        AcceptedDeviations { issuer: self.accepted_issuer.as_deref(), resource: self.accepted_resource.as_deref() }
    }

    fn has_chosen_scopes(&self) -> bool {
        self.scopes.is_some()
    }
}

//! Each person's own grant, by OAuth as MCP's specification of authorization has it.

use serde::{Deserialize, Serialize};
use thinkwork_primitives::{GrantTarget, Secret};

use super::{AuthMode, Description, Setting, SettingKind};
use crate::edge::InvalidField;
use crate::mcp::Error;
use crate::oauth::{ClientSettings, PreRegistered, ProviderMetadata};
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
            ],
        }
    }

    fn check(&mut self, secret: Option<&Secret>) -> Result<(), Error> {
        self.client_id = self.client_id.take().filter(|id| !id.is_empty());
        if secret.is_some() && self.client_id.is_none() {
            return Err(InvalidField::new("auth.client_id", "a client secret requires auth.client_id.").into());
        }
        Ok(())
    }

    fn client_id(&self) -> Option<&str> {
        self.client_id.as_deref()
    }

    fn client(
        &self,
        target: GrantTarget,
        discovered: &ProviderMetadata,
        secret: Option<Secret>,
    ) -> Option<ClientSettings> {
        let pre_registered = self.client_id.clone().map(|client_id| PreRegistered { client_id, client_secret: secret });
        Some(ClientSettings {
            target,
            discovered: discovered.clone(),
            pre_registered,
            pkce_though_silent: self.pkce_though_silent,
            without_resource: self.without_resource,
            scopes: self.scopes.clone(),
        })
    }
}

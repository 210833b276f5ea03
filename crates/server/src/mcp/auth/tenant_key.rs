//! One key of the tenant, the same for everybody: `Authorization: Bearer <key>` (RFC 6750 section 2.1), or the bare key
//! in a header of the server's own.

use serde::{Deserialize, Serialize};
use thinkwork_primitives::Secret;

use super::{AuthMode, Description, SecretHolder, Setting, SettingKind};
use crate::credentials::CredentialMeaning;
use crate::edge::InvalidField;
use crate::mcp::Error;
use crate::mcp::upstream::Authorization;
use crate::tools::CredentialRequirement;

/// The longest name of a header: more than any that is in use.
const HEADER_BYTES_MAX: usize = 64;

/// Headers that an upstream request of ours has anyway, or that belong to the connection.
const HEADERS_RESERVED: &[&str] = &[
    "accept",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "last-event-id",
    "mcp-method",
    "mcp-name",
    "mcp-protocol-version",
    "mcp-session-id",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Which header carries the key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantKey {
    /// The header of the bare key, in lower case; `None` for `Authorization: Bearer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    header: Option<String>,
}

impl AuthMode for TenantKey {
    fn description(&self) -> &'static Description {
        &Description {
            name: "Shared API key",
            help: "One key for everyone.",
            needs: CredentialRequirement::TenantKey,
            settings: &[
                Setting {
                    name: "secret",
                    kind: SettingKind::Secret("key-example-4f8a"),
                    label: "API key",
                    help: "The key. Stored encrypted and never shown again.",
                    unset: "",
                    is_reviewed: false,
                },
                Setting {
                    name: "header",
                    kind: SettingKind::Text("x-api-key"),
                    label: "Header",
                    help: "The header that carries the bare key. Leave it out to send Authorization: Bearer.",
                    unset: "Authorization: Bearer",
                    is_reviewed: true,
                },
            ],
        }
    }

    fn check(&mut self, _: Option<&Secret>) -> Result<(), Error> {
        let name = self.header.take().unwrap_or_default().trim().to_ascii_lowercase();
        if name.is_empty() {
            return Ok(());
        }
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.len() > HEADER_BYTES_MAX || !name.bytes().all(is_token) {
            return Err(InvalidField::new("auth.header", "enter a header name, for example X-Api-Key.").into());
        }
        if HEADERS_RESERVED.contains(&name.as_str()) {
            return Err(InvalidField::new(
                "auth.header",
                "this header is reserved; enter the header that carries the key.",
            )
            .into());
        }
        self.header = Some(name);
        Ok(())
    }

    fn secret_meaning(&self, holder: &SecretHolder<'_>) -> Option<CredentialMeaning> {
        let url = holder.url.to_owned();
        Some(CredentialMeaning::ToolSourceKey { source: holder.source, url, header: self.header.clone() })
    }

    fn authorization<'a>(&'a self, secret: &'a Secret) -> Authorization<'a> {
        match &self.header {
            Some(header) => Authorization::Header(header, secret),
            None => Authorization::Bearer(secret),
        }
    }
}

//! `/admin/mcp-servers/new`: the form that registers a server, and its first look.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use strum::IntoEnumIterator as _;
use thinkwork_primitives::Secret;

use super::{error_notice, parse_names};
use crate::edge::{Flash, Idempotency, Layout, OperatorForm, Page, PageError, PageOperator};
use crate::mcp::auth::SettingKind;
use crate::mcp::{Auth, Error, Mcp, NewAuth, NewServer};

/// The form's fields as they are sent.
#[derive(Deserialize)]
pub(super) struct RegisterForm {
    name: String,
    url: String,
    mode: String,
    #[serde(default)]
    tool_allowlist: String,
    /// All other fields. What belongs to a mode has a name that begins with its word: `tenant_key.header`. Secrets are
    /// among them.
    #[serde(flatten)]
    entered: BTreeMap<String, Secret>,
}

#[derive(Template)]
#[template(path = "mcp/templates/register.html")]
struct RegisterPage {
    layout: Layout,
    name: String,
    url: String,
    mode: String,
    tool_allowlist: String,
    /// The settings that were entered, by the names of their fields; never a secret.
    settings: BTreeMap<String, String>,
}

impl RegisterPage {
    fn modes(&self) -> impl Iterator<Item = Auth> {
        Auth::iter()
    }

    /// What was entered for a setting.
    fn entered(&self, control: &str) -> &str {
        self.settings.get(control).map_or("", String::as_str)
    }
}

/// The name of the field for something of a mode.
fn control(mode: &str, name: &str) -> String {
    format!("{mode}.{name}")
}

impl RegisterForm {
    /// What is shown again.
    fn settings(&self) -> BTreeMap<String, String> {
        let all = Auth::iter().flat_map(|auth| auth.description().settings.iter().map(move |one| (auth.as_str(), one)));
        let shown = all.filter(|(_, setting)| !matches!(setting.kind, SettingKind::Secret(_)));
        let entered = shown.filter_map(|(mode, setting)| {
            let control = control(mode, setting.name);
            let text = self.entered.get(&control)?.expose_str()?.to_owned();
            Some((control, text))
        });
        entered.collect()
    }

    /// The chosen mode with what was entered for it.
    fn auth(&mut self) -> Result<NewAuth, Error> {
        let mut json = Map::from_iter([("mode".to_owned(), json!(self.mode))]);
        let mut secret = None;
        let chosen = Auth::iter().find(|auth| auth.as_str() == self.mode);
        for setting in chosen.iter().flat_map(|auth| auth.description().settings) {
            let entered = self.entered.remove(&control(&self.mode, setting.name));
            let text = entered.as_ref().and_then(Secret::expose_str).unwrap_or_default().trim();
            if text.is_empty() {
                continue;
            }
            let value = match setting.kind {
                SettingKind::Text(_) => json!(text),
                SettingKind::List(_) => json!(parse_names(Some(&text.replace(' ', ",")))),
                SettingKind::Flag => Value::Bool(true),
                SettingKind::Secret(_) => {
                    secret = entered;
                    continue;
                }
            };
            json.insert(setting.name.to_owned(), value);
        }
        NewAuth::new(Auth::parse(json)?, secret)
    }
}

/// The empty form.
pub(super) async fn form(PageOperator(caller): PageOperator) -> impl IntoResponse {
    Page(RegisterPage {
        layout: Layout::admin(&caller, "Register MCP server", "mcp-servers"),
        name: String::new(),
        url: String::new(),
        mode: Auth::iter().next().map_or("", |suggested| suggested.as_str()).to_owned(),
        tool_allowlist: String::new(),
        settings: BTreeMap::new(),
    })
}

/// Registers and goes on to the review; a refused form is shown again with what was wrong.
pub(super) async fn register(
    State(mcp): State<Mcp>,
    OperatorForm { caller, mut form }: OperatorForm<RegisterForm>,
) -> Result<Response, PageError> {
    let settings = form.settings();
    let registered = match form.auth() {
        Ok(auth) => {
            let new = NewServer {
                name: form.name.clone(),
                slug: None,
                url: form.url.clone(),
                auth,
                tool_allowlist: parse_names(Some(&form.tool_allowlist)),
                outside_spaces: false,
            };
            mcp.register(new, &caller.principal, &Idempotency::unkeyed(mcp.clock.now())).await
        }
        Err(error) => Err(error),
    };
    match registered {
        Ok(server) => {
            let done = "Server registered. Review it below. The agent cannot use it until you approve it.";
            Ok(Flash::success(done).redirect(&format!("/admin/mcp-servers/{}", server.id)))
        }
        Err(error @ Error::Access(_)) => Err(error.into()),
        Err(error) => {
            let page = RegisterPage {
                layout: Layout::admin(&caller, "Register MCP server", "mcp-servers")
                    .with_notice(Some(error_notice(error))),
                name: form.name,
                url: form.url,
                mode: form.mode,
                tool_allowlist: form.tool_allowlist,
                settings,
            };
            Ok((StatusCode::UNPROCESSABLE_ENTITY, Page(page)).into_response())
        }
    }
}

//! `/admin/mcp-servers/new`: the form that registers a server, and its first look.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use thinkwork_primitives::Secret;

use super::{bad, filled, names_typed};
use crate::edge::{CheckedForm, Idempotency, Layout, Notice, Page, PageError, PageOperator};
use crate::mcp::{Error, Mcp, NewAuth, NewServer, OauthSettings};

/// What is shown again in the form; never a secret.
#[derive(Default)]
struct Filled {
    name: String,
    url: String,
    mode: String,
    header: String,
    client_id: String,
    scopes: String,
    tool_allowlist: String,
    pkce_though_silent: bool,
    without_resource: bool,
}

#[derive(Template)]
#[template(path = "mcp/templates/register.html")]
struct RegisterPage {
    layout: Layout,
    form: Filled,
}

/// The form's fields as they are sent.
#[derive(Deserialize)]
pub(super) struct RegisterForm {
    name: String,
    url: String,
    mode: String,
    secret: Option<Secret>,
    header: Option<String>,
    client_id: Option<String>,
    client_secret: Option<Secret>,
    scopes: Option<String>,
    tool_allowlist: Option<String>,
    pkce_though_silent: Option<String>,
    without_resource: Option<String>,
}

/// The empty form.
pub(super) async fn form(PageOperator(caller): PageOperator) -> impl IntoResponse {
    let form = Filled { mode: "user_oauth".to_owned(), ..Filled::default() };
    Page(RegisterPage { layout: Layout::admin(&caller, "Register MCP server", "mcp-servers"), form })
}

/// Registers and goes on to the review; a refused form is shown again with what was wrong.
pub(super) async fn register(
    State(mcp): State<Mcp>,
    CheckedForm { caller, form }: CheckedForm<RegisterForm>,
) -> Result<Response, PageError> {
    caller.require_operator()?;
    let again = Filled {
        name: form.name.clone(),
        url: form.url.clone(),
        mode: form.mode.clone(),
        header: form.header.clone().unwrap_or_default(),
        client_id: form.client_id.clone().unwrap_or_default(),
        scopes: form.scopes.clone().unwrap_or_default(),
        tool_allowlist: form.tool_allowlist.clone().unwrap_or_default(),
        pkce_though_silent: form.pkce_though_silent.is_some(),
        without_resource: form.without_resource.is_some(),
    };
    let refused = |notice: Notice| {
        let layout = Layout::admin(&caller, "Register MCP server", "mcp-servers").with_notice(Some(notice));
        (StatusCode::UNPROCESSABLE_ENTITY, Page(RegisterPage { layout, form: again })).into_response()
    };
    let Some(new) = new_server(form) else {
        return Ok(refused(Notice { kind: "bad", text: "Choose an authentication method.".to_owned() }));
    };
    let once = Idempotency::unkeyed(mcp.clock.now());
    match mcp.register(new, &caller.principal, &once).await {
        Ok(server) => Ok(Redirect::to(&format!("/admin/mcp-servers/{}?done=registered", server.id)).into_response()),
        Err(error @ Error::Access(_)) => Err(error.into()),
        Err(error) => Ok(refused(bad(error))),
    }
}

fn new_server(form: RegisterForm) -> Option<NewServer> {
    let auth = match form.mode.as_str() {
        "none" => NewAuth::None,
        "tenant_key" => NewAuth::TenantKey { secret: form.secret, header: filled(form.header) },
        "user_oauth" => NewAuth::UserOauth {
            settings: OauthSettings {
                client_id: filled(form.client_id),
                pkce_though_silent: form.pkce_though_silent.is_some(),
                without_resource: form.without_resource.is_some(),
                scopes: names_typed(form.scopes.map(|scopes| scopes.replace(' ', ",")).as_deref()),
            },
            client_secret: form.client_secret.filter(|secret| !secret.is_empty()),
        },
        _ => return None,
    };
    Some(NewServer {
        name: form.name,
        slug: None,
        url: form.url,
        auth,
        tool_allowlist: names_typed(form.tool_allowlist.as_deref()),
        outside_spaces: false,
    })
}

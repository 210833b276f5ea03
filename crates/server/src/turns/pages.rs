//! `/admin/agent`: the operator chooses the model and writes the instructions.

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use thinkwork_primitives::Secret;

use super::{AgentShown, AgentUpdate, Error, Turns};
use crate::edge::pages::Notice;
use crate::edge::{ApiError, Flash, Layout, OperatorForm, Page, PageCaller, PageError, PageOperator};

/// The pages of this slice.
pub fn routes(turns: &Turns) -> Router {
    Router::new().route("/admin/agent", get(agent_show).post(agent_save)).with_state(turns.clone())
}

#[derive(Template)]
#[template(path = "turns/templates/agent.html")]
struct AgentPage {
    layout: Layout,
    has_model: bool,
    key_shown: String,
    form: AgentForm,
    errors: AgentErrors,
}

#[derive(Default)]
struct AgentErrors {
    model_base_url: String,
    model: String,
    instructions: String,
    api_key: String,
}

#[derive(Deserialize, Default)]
struct AgentForm {
    #[serde(default)]
    model_base_url: String,
    #[serde(default)]
    model: String,
    #[serde(default)]
    instructions: String,
    api_key: Option<Secret>,
}

async fn agent_show(
    State(turns): State<Turns>,
    PageOperator(caller): PageOperator,
) -> Result<Page<AgentPage>, PageError> {
    let settings = turns.agent(caller.tenant()).await?;
    let form = AgentForm {
        model_base_url: settings.agent.model.as_ref().map(|model| model.base_url.clone()).unwrap_or_default(),
        model: settings.agent.model.as_ref().map(|model| model.name.clone()).unwrap_or_default(),
        instructions: settings.agent.instructions.clone(),
        api_key: None,
    };
    Ok(Page(page(&caller, &settings, form, AgentErrors::default(), None)))
}

async fn agent_save(
    State(turns): State<Turns>,
    OperatorForm { caller, form }: OperatorForm<AgentForm>,
) -> Result<Response, PageError> {
    let AgentForm { model_base_url, model, instructions, api_key } = form;
    // The key's field is empty unless the operator enters a new one.
    let change = AgentUpdate {
        model_base_url: Some(model_base_url.clone()),
        model: Some(model.clone()),
        instructions: instructions.clone(),
        api_key: api_key.filter(|key| !key.is_empty()),
    };
    let error = match turns.agent_set(change, &caller.principal).await {
        Ok(_) => return Ok(Flash::success("Saved. Changes apply to new messages.").redirect("/admin/agent")),
        Err(error) => errors_of(error)?,
    };
    let settings = turns.agent(caller.tenant()).await?;
    let form = AgentForm { model_base_url, model, instructions, api_key: None };
    let notice = Notice::error("Nothing was saved. Correct the errors below and save again.");
    let page = Page(page(&caller, &settings, form, error, Some(notice)));
    Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
}

/// What to write beside which field; another error is a page of its own.
fn errors_of(error: Error) -> Result<AgentErrors, ApiError> {
    let mut answer = ApiError::from(error);
    let Some((field, problem)) = answer.fields.pop() else { return Err(answer) };
    let mut errors = AgentErrors::default();
    match field.as_str() {
        "model_base_url" => errors.model_base_url = problem,
        "model" => errors.model = problem,
        "api_key" => errors.api_key = problem,
        _ => errors.instructions = problem,
    }
    Ok(errors)
}

fn page(
    caller: &PageCaller,
    settings: &AgentShown,
    form: AgentForm,
    errors: AgentErrors,
    notice: Option<Notice>,
) -> AgentPage {
    let key_shown = match &settings.key {
        Some(key) => match &key.last_four {
            Some(last_four) => format!("A key ending in {last_four} is stored. Leave empty to keep it."),
            None => "A key is stored. Leave empty to keep it.".to_owned(),
        },
        None => "No key is stored. Self-hosted models may not need one.".to_owned(),
    };
    AgentPage {
        layout: Layout::admin(caller, "Agent", "agent").with_notice(notice),
        has_model: settings.agent.model.is_some(),
        key_shown,
        form,
        errors,
    }
}

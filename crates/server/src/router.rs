//! Every URL of the product.

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Extension, Router};
use thinkwork_primitives::limits;
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;

use crate::app::App;
use crate::edge::document::{self, QueryNames};
use crate::edge::door::{self, Door};
use crate::edge::{ApiError, Authenticate, flash, rate_limit};
use crate::{access, audit, data_retention, health, home, mcp, oauth, spaces, threads, tools, turns, webhooks};

#[derive(utoipa::OpenApi)]
#[openapi(info(
    title = "ThinkWork",
    description = "The integration foundation of an agent harness.",
    license(name = "Apache-2.0", identifier = "Apache-2.0")
))]
struct Document;

/// The JSON routes with their description.
fn api(app: &App) -> OpenApiRouter {
    OpenApiRouter::with_openapi(Document::openapi())
        .merge(access::http::routes(&app.access))
        .merge(spaces::http::routes(&app.spaces))
        .merge(tools::http::routes(&app.tools))
        .merge(threads::http::routes(&app.threads))
        .merge(mcp::http::routes(&app.mcp))
        .merge(oauth::http::routes(&app.oauth))
        .merge(webhooks::http::routes(&app.webhooks))
        .merge(turns::http::routes(&app.turns))
        .merge(audit::http::routes(&app.audit))
        .merge(data_retention::http::routes(&app.data_retention))
}

/// The pages of both faces.
fn pages(app: &Arc<App>) -> Router {
    Router::new()
        .merge(access::pages::routes(&app.access))
        .merge(spaces::pages::routes(&app.spaces))
        .merge(tools::pages::routes(&app.tools))
        .merge(threads::pages::routes(&app.threads))
        .merge(mcp::pages::routes(&app.mcp))
        .merge(oauth::pages::routes(&app.oauth, crate::app::NAMES))
        .merge(webhooks::pages::routes(&app.webhooks))
        .merge(turns::pages::routes(&app.turns))
        .merge(audit::pages::routes(&app.audit))
        .merge(data_retention::pages::routes(&app.data_retention))
        .merge(home::pages::routes(app))
        .layer(middleware::from_fn_with_state(app.flash_cookies.clone(), flash::apply))
}

/// The OpenAPI document of these routes.
pub fn openapi(app: &App) -> utoipa::openapi::OpenApi {
    document::complete(api(app).into_openapi())
}

/// The whole server.
pub fn router(app: &Arc<App>) -> Router {
    let (api, document) = api(app).split_for_parts();
    let document = document::complete(document);
    let names = QueryNames::of(&document);
    let api = api.route_layer(axum::middleware::from_fn_with_state(names, document::refuse_unknown));
    let document = document.to_pretty_json().unwrap_or_default();
    let authenticate: Arc<dyn Authenticate> = Arc::new(app.access.clone());
    let door = Door::new(&app.config.public_url, &app.config.trusted_proxies, app.metrics.requests.clone());
    Router::new()
        .merge(api)
        .merge(pages(app))
        .merge(webhooks::ingress::routes(&app.webhooks))
        .merge(mcp::gateway::routes(&app.mcp, &app.tools))
        .merge(crate::edge::assets::routes())
        .merge(if app.config.internal_listen.is_none() { health::routes(app) } else { Router::new() })
        .route(
            "/v1/openapi.json",
            get(|| async move { ([(header::CONTENT_TYPE, "application/json")], document).into_response() }),
        )
        .fallback(|| async { ApiError::not_found() })
        .layer(
            ServiceBuilder::new()
                .layer(middleware::from_fn_with_state(door, door::pass))
                .layer(CatchPanicLayer::new())
                .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, limits::REQUEST_DEADLINE))
                .layer(Extension(authenticate))
                .layer(middleware::from_fn_with_state(app.rate_limits.clone(), rate_limit::enforce))
                .layer(DefaultBodyLimit::max(limits::API_BODY_BYTES_MAX)),
        )
}

//! What all operations of the OpenAPI document share: paging, keys and versions as parameters, who may call, how a refusal
//! looks. And the other way round: a query parameter that the document does not name is refused.
//!
//! Invariant: what is said here once holds for every operation, so no handler describes it again.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use thinkwork_primitives::limits;
use utoipa::IntoParams;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, Required};

use super::cookies::SESSION_COOKIE;
use super::error::ErrorBody;
use super::{ApiError, IdempotencyKey, IfMatch, Pagination, fields};

/// The bearer scheme's name in the document.
const TOKEN: &str = "token";
/// The cookie scheme's name in the document.
const SESSION: &str = "session";

impl IntoParams for Pagination {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let limit = whole_number()
            .minimum(Some(1))
            .maximum(Some(limits::PAGE_ITEMS_MAX))
            .default(Some(limits::PAGE_ITEMS_DEFAULT.into()));
        vec![
            parameter("limit", ParameterIn::Query, "How many items the page has at most.", limit),
            parameter("after", ParameterIn::Query, "The `next` of the page before.", text()),
        ]
    }
}

impl IntoParams for IfMatch {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let description =
            "The `version` that you read: 412 where another change came first. Without it the change is made.";
        vec![parameter("If-Match", ParameterIn::Header, description, text())]
    }
}

impl IntoParams for IdempotencyKey {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let description = "1 to 200 visible characters of your choice. The same key with the same body makes one thing in 24 \
                    hours, however often it is sent; with another body: 409.";
        vec![parameter("Idempotency-Key", ParameterIn::Header, description, text())]
    }
}

fn parameter(name: &str, place: ParameterIn, description: &str, schema: ObjectBuilder) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(schema))
        .build()
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn whole_number() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Integer)
}

/// The document with what all operations share.
pub fn complete(mut document: OpenApi) -> OpenApi {
    let components = document.components.get_or_insert_default();
    let bearer = Http::builder().scheme(HttpAuthScheme::Bearer).description(Some(
        "A token of `/v1/tokens` with the audience `api`. Its scope `read` reads, `write` changes, `admin` configures.",
    ));
    components.add_security_scheme(TOKEN, SecurityScheme::Http(bearer.build()));
    let cookie = ApiKeyValue::with_description(
        SESSION_COOKIE,
        "A signed-in browser. Every method but GET and HEAD sends the `csrf_token` of the sign-in as `X-CSRF-Token`.",
    );
    components.add_security_scheme(SESSION, SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
    components.schemas.insert("Error".to_owned(), <ErrorBody as utoipa::PartialSchema>::schema());
    for operation in document.paths.paths.values_mut().flat_map(operations_mut) {
        share(operation);
    }
    fields::describe(&mut document);
    document
}

pub(super) fn operations_mut(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete].into_iter().flatten()
}

fn share(operation: &mut Operation) {
    let word = operation.extensions.as_ref().and_then(|extensions| extensions.get("x-caller")?.as_str());
    let need = |name: &str| SecurityRequirement::new::<_, _, &str>(name, []);
    operation.security = Some(match word {
        Some("public") => Vec::new(),
        Some("consent") => vec![need(SESSION)],
        _ => vec![need(TOKEN), need(SESSION)],
    });
    let refusal = ContentBuilder::new().schema(Some(RefOr::Ref(Ref::from_schema_name("Error")))).build();
    let refusal = ResponseBuilder::new()
        .description("Refused; the message says what to do. Every status from 400 on looks like this.")
        .content("application/json", refusal);
    operation.responses.responses.insert("default".to_owned(), refusal.build().into());
    operation.responses.responses.insert("429".to_owned(), too_many().into());
    if let Some(RefOr::T(made)) = operation.responses.responses.get_mut("201") {
        let place = HeaderBuilder::new().schema(Some(text())).description(Some("Where the new thing is.")).build();
        made.headers.insert("Location".to_owned(), place.into());
    }
}

/// The answer beyond the limit of requests, which every operation has.
fn too_many() -> utoipa::openapi::Response {
    let refusal = ContentBuilder::new().schema(Some(RefOr::Ref(Ref::from_schema_name("Error")))).build();
    let header = |schema: ObjectBuilder, description: &str| {
        HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build()
    };
    ResponseBuilder::new()
        .description("Too many requests in this minute; nothing was done. Send it again after `Retry-After`.")
        .header("Retry-After", header(whole_number(), "Seconds until the next minute."))
        .header("RateLimit-Policy", header(text(), "The limit, like `\"token\";q=1200;w=60`. On every answer."))
        .header("RateLimit", header(text(), "What is left of it, like `\"token\";r=0;t=42`. On every answer."))
        .content("application/json", refusal)
        .build()
}

/// Which parameters of a query each operation takes.
#[derive(Clone)]
pub struct QueryNames(Arc<HashMap<(Method, String), Vec<String>>>);

impl QueryNames {
    pub fn of(document: &OpenApi) -> Self {
        let mut names = HashMap::new();
        for (path, item) in &document.paths.paths {
            let methods = [
                (Method::GET, &item.get),
                (Method::PUT, &item.put),
                (Method::POST, &item.post),
                (Method::PATCH, &item.patch),
                (Method::DELETE, &item.delete),
            ];
            for (method, operation) in methods {
                let Some(operation) = operation else { continue };
                names.insert((method, path.clone()), query_names(operation));
            }
        }
        Self(Arc::new(names))
    }

    /// The first parameter that this request's operation does not take, and those that it takes.
    fn unknown(&self, request: &Request) -> Option<(String, &[String])> {
        let query = request.uri().query().filter(|query| !query.is_empty())?;
        let path = request.extensions().get::<MatchedPath>()?.as_str().to_owned();
        let method = if request.method() == Method::HEAD { Method::GET } else { request.method().clone() };
        let known = self.0.get(&(method, path))?;
        let mut sent = url::form_urlencoded::parse(query.as_bytes());
        sent.find(|(name, _)| !known.iter().any(|known| known == name)).map(|(name, _)| (name.into_owned(), &**known))
    }
}

fn query_names(operation: &Operation) -> Vec<String> {
    let parameters = operation.parameters.iter().flatten();
    let of_query = parameters.filter_map(|one| match one {
        RefOr::T(one) if one.parameter_in == ParameterIn::Query => Some(one.name.clone()),
        _ => None,
    });
    of_query.collect()
}

/// The middleware: a misspelt filter must not answer with everything.
pub async fn refuse_unknown(State(names): State<QueryNames>, request: Request, next: Next) -> Response {
    match names.unknown(&request) {
        Some((name, [])) => {
            ApiError::invalid(&name, "this address does not accept parameters; remove it.").into_response()
        }
        Some((name, known)) => {
            let known = known.join(", ");
            ApiError::invalid(&name, format!("unknown parameter; use one of: {known}.")).into_response()
        }
        None => next.run(request).await,
    }
}

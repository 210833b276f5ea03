//! The files that pages load: our style sheet, our one script, the icons. Embedded, nothing from elsewhere.
//!
//! Invariant: every file has a fixed type; pages name it with the digest of its content, so it may be kept for ever.

use axum::Router;
use axum::extract::Path;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::ApiError;

const FILES: &[(&str, &str, &[u8])] = &[
    ("app.css", "text/css; charset=utf-8", include_bytes!("assets/app.css")),
    ("app.js", "text/javascript; charset=utf-8", include_bytes!("assets/app.js")),
    ("icons.svg", "image/svg+xml", include_bytes!("assets/icons.svg")),
    ("icon.svg", "image/svg+xml", include_bytes!("assets/icon.svg")),
    ("icon-192.png", "image/png", include_bytes!("assets/icon-192.png")),
    ("icon-512.png", "image/png", include_bytes!("assets/icon-512.png")),
    ("manifest.webmanifest", "application/manifest+json", include_bytes!("assets/manifest.webmanifest")),
];

/// `/assets/{name}` and `/favicon.ico`.
pub fn routes() -> Router {
    Router::new()
        .route("/assets/{name}", get(|Path(name): Path<String>| async move { file(&name) }))
        .route("/favicon.ico", get(|| async { file("icon-192.png") }))
}

fn file(name: &str) -> Response {
    match FILES.iter().find(|(known, _, _)| *known == name) {
        // Revalidated by age only: a page of a new version may be up to five minutes old in its dress.
        Some((_, kind, bytes)) => {
            ([(header::CONTENT_TYPE, *kind), (header::CACHE_CONTROL, "public, max-age=300")], *bytes).into_response()
        }
        None => ApiError::not_found().into_response(),
    }
}

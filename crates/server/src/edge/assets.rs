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
    ("parts.css", "text/css; charset=utf-8", include_bytes!("assets/parts.css")),
    ("app.js", "text/javascript; charset=utf-8", include_bytes!("assets/app.js")),
    ("icons.svg", "image/svg+xml", include_bytes!("assets/icons.svg")),
    ("icon.svg", "image/svg+xml", include_bytes!("assets/icon.svg")),
    ("chevron.svg", "image/svg+xml", include_bytes!("assets/chevron.svg")),
    ("icon-192.png", "image/png", include_bytes!("assets/icon-192.png")),
    ("icon-512.png", "image/png", include_bytes!("assets/icon-512.png")),
    ("icon-maskable-512.png", "image/png", include_bytes!("assets/icon-maskable-512.png")),
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

#[cfg(test)]
mod tests {
    use super::FILES;

    #[test]
    fn every_file_of_the_folder_is_served() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/edge/assets");
        let mut there: Vec<String> =
            std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        let mut served: Vec<&str> = FILES.iter().map(|(name, _, _)| *name).collect();
        there.sort();
        served.sort_unstable();
        assert_eq!(there, served);
    }
}

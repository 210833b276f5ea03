//! What may be shown of a request: bounded, without secrets, with nothing that acts on a terminal or page.

use axum::http::HeaderMap;
use thinkwork_primitives::{Secret, limits};

use crate::edge::visible::push_visible;

/// Headers that are kept; senders use about a dozen.
const HEADERS_MAX: usize = 48;
/// Characters kept of a header's value.
const VALUE_CHARS_MAX: usize = 256;
/// Parts of a header's name that say its value proves or identifies somebody.
const SECRET_WORDS: [&str; 8] =
    ["authorization", "cookie", "signature", "secret", "token", "password", "api-key", "apikey"];

/// At most `chars_max` characters of hostile bytes as text in which every hidden character is spelled out.
pub(super) fn escaped(bytes: &[u8], chars_max: usize) -> String {
    // Four bytes a character at most: nothing behind that can be in the result.
    let begin = bytes.get(..chars_max.saturating_mul(4)).unwrap_or(bytes);
    let text = String::from_utf8_lossy(begin);
    let mut shown = String::with_capacity(text.len().min(chars_max));
    for letter in text.chars().take(chars_max) {
        push_visible(&mut shown, letter);
    }
    shown
}

/// The begin of a body.
pub(crate) fn preview(body: &[u8]) -> String {
    escaped(body, limits::PREVIEW_CHARS_MAX)
}

/// Whether a header's value holds one of these secrets, by itself or behind a word like `Bearer`.
fn holds_secret(value: &[u8], secrets: &[Secret]) -> bool {
    secrets.iter().any(|secret| value.trim_ascii().ends_with(secret.expose()))
}

/// The headers of a request as they may be shown, without those of the webhook's secrets that are alive.
pub(crate) fn shown_headers(headers: &HeaderMap, secrets: &[Secret]) -> Vec<(String, String)> {
    headers
        .iter()
        .take(HEADERS_MAX)
        .map(|(name, value)| {
            let secret = value.is_sensitive()
                || SECRET_WORDS.iter().any(|word| name.as_str().contains(word))
                || holds_secret(value.as_bytes(), secrets);
            let shown = if secret {
                format!("(hidden, {} bytes)", value.len())
            } else {
                escaped(value.as_bytes(), VALUE_CHARS_MAX)
            };
            (escaped(name.as_str().as_bytes(), VALUE_CHARS_MAX), shown)
        })
        .collect()
}

/// Whether [`text_of`] gives this body unchanged and whole.
pub(crate) fn is_whole_text(body: &[u8]) -> bool {
    body.len() <= limits::MESSAGE_TEXT_BYTES_MAX && !body.contains(&0) && std::str::from_utf8(body).is_ok()
}

/// A body as the text of a message, and whether it was cut. NUL, which PostgreSQL does not store, becomes U+FFFD.
pub(crate) fn text_of(body: &[u8]) -> (String, bool) {
    let bound = limits::MESSAGE_TEXT_BYTES_MAX;
    let text = String::from_utf8_lossy(body).replace('\0', "\u{fffd}");
    if text.len() <= bound {
        return (text, false);
    }
    let end = (0..=bound).rev().find(|place| text.is_char_boundary(*place)).unwrap_or(0);
    (text.get(..end).unwrap_or_default().to_owned(), true)
}

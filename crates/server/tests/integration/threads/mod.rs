//! Threads through HTTP: lists, changes, exports, keys that make once, and the stream.

mod lists;
mod rest;
mod stream;

use serde_json::json;

use crate::harness::Client;

/// A thread that this person begins; its id.
async fn thread(who: &Client, space: &str, text: &str) -> String {
    who.post("/v1/threads", json!({ "space_id": space, "text": text })).await.expect(201).text_of("id")
}

/// The texts in this role, in their order.
fn texts<'a>(messages: &'a [serde_json::Value], role: &str) -> Vec<&'a str> {
    messages.iter().filter(|one| one["role"] == role).map(|one| one["text"].as_str().unwrap()).collect()
}

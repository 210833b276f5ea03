//! Bodies as senders send them: read as written, or refused with the reason.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::RequestBuilder;
use serde_json::{Value, json};

use super::{Fixture, signature};
use crate::guards::tables;

const FORM: &str = "application/x-www-form-urlencoded";

impl Fixture {
    async fn reading(more: Value) -> Self {
        let mut fields = json!({ "event_id": { "pointer": "/id" } });
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Self::with("bearer", fields).await
    }

    fn sending(&self, headers: &[(&str, &str)], body: impl Into<reqwest::Body>) -> RequestBuilder {
        let request = self.app.anonymous().request("POST", &self.path()).bearer_auth(&self.secret).body(body);
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
    }

    /// The delivery of a request that is taken, once it was applied.
    async fn taken(&self, headers: &[(&str, &str)], body: impl Into<reqwest::Body>) -> Value {
        let id = self.send(self.sending(headers, body)).await.expect(202).text_of("delivery_id");
        self.app.run_pending_jobs().await;
        self.delivery(&id).await
    }
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn l103_a_compressed_body_is_read_and_a_bomb_is_refused() {
    let fixture = Fixture::reading(json!({})).await;
    let headers = [("content-type", "application/json"), ("content-encoding", "gzip")];
    let text = r#"{"id":"a1","text":"größe"}"#;
    let delivery = fixture.taken(&headers, gzip(text.as_bytes())).await;
    assert_eq!((&delivery["event_id"], &delivery["body_preview"]), (&json!("a1"), &json!(text)));
    assert_eq!(delivery["body_bytes"], text.len());
    let message = &fixture.messages(delivery["thread_id"].as_str().unwrap()).await[0];
    assert_eq!(message["text"], text);
    // The same event, compressed otherwise: the same body.
    let plain = fixture.taken(&[("content-type", "application/json")], text).await;
    assert_eq!(plain["result"], "duplicate");
    let bomb = fixture.send(fixture.sending(&headers, gzip(&vec![b' '; 20_000_000]))).await.expect(413);
    assert!(bomb.json["error"]["message"].as_str().unwrap().contains("when decompressed"), "{}", bomb.text);
    let broken = fixture.send(fixture.sending(&headers, "{}")).await.expect(400);
    assert!(broken.json["error"]["message"].as_str().unwrap().contains("Content-Encoding"), "{}", broken.text);
    let brotli = [("content-type", "application/json"), ("content-encoding", "br")];
    let brotli = fixture.send(fixture.sending(&brotli, "{}")).await.expect(415);
    assert!(brotli.json["error"]["message"].as_str().unwrap().contains("gzip or deflate"), "{}", brotli.text);
    let reasons: Vec<String> =
        fixture.deliveries("?result=refused").await.iter().map(|row| row["reason"].to_string()).collect();
    for (reason, part) in reasons.iter().zip(["Content-Encoding br", "cut off", "when decompressed"]) {
        assert!(reason.contains(part), "{part} in {reason}");
    }
    assert_eq!(reasons.len(), 3);
}

#[tokio::test]
async fn the_body_of_an_applied_event_is_stored_once_and_is_there_for_its_page_and_a_replay() {
    let fixture = Fixture::reading(json!({})).await;
    let body = r#"{"id":"once","text":"größe"}"#;
    let delivery = fixture.taken(&[("content-type", "application/json")], body).await;
    assert_eq!(delivery["body_preview"], body);
    let listed = fixture.deliveries("").await;
    assert_eq!(listed[0]["body_preview"], body);
    let hexadecimal: String = body.bytes().map(|byte| format!("{byte:02X}")).collect();
    let tables = tables::dump(&fixture.app).await;
    // PostgreSQL doubles quotes in the text of a row.
    let holds = |row: &&String| row.replace("\"\"", "\"").contains(body) || row.to_uppercase().contains(&hexadecimal);
    let rows: Vec<(&String, usize)> =
        tables.iter().map(|(table, rows)| (table, rows.iter().filter(holds).count())).filter(|(_, n)| *n > 0).collect();
    assert_eq!(rows, [(&"message".to_owned(), 1)]);
    let again = format!("/v1/deliveries/{}/replay", delivery["id"].as_str().unwrap());
    let again = fixture.operator.post(&again, json!({})).await.expect(200);
    fixture.app.run_pending_jobs().await;
    let again = fixture.delivery(&again.text_of("id")).await;
    assert_eq!((&again["result"], &again["body_preview"]), (&json!("applied"), &json!(body)));
    let messages = fixture.messages(again["thread_id"].as_str().unwrap()).await;
    assert_eq!(messages[0]["text"], body);
    // What a message cannot hold as it was is kept as it was.
    let odd = fixture.taken(&[("content-type", "text/plain")], "id=a\0b").await;
    assert_eq!(odd["body_preview"], "id=a\\u{0}b");
}

#[tokio::test]
async fn l103_the_signature_is_over_the_bytes_as_sent() {
    let fixture = Fixture::new("standard_webhooks").await;
    let sent = gzip(br#"{"n":1}"#);
    let time = fixture.app.clock.now().seconds();
    let signed = |over: &[u8], id: &str| {
        let key = fixture.secret.clone();
        let request = fixture.app.anonymous().request("POST", &fixture.path()).body(sent.clone());
        request
            .header("content-encoding", "gzip")
            .header("webhook-id", id)
            .header("webhook-timestamp", time)
            .header("webhook-signature", signature(&key, id, time, over))
    };
    let taken = fixture.send(signed(&sent, "evt_1")).await.expect(202).text_of("delivery_id");
    fixture.send(signed(br#"{"n":1}"#, "evt_2")).await.expect(401);
    assert_eq!(fixture.delivery(&taken).await["body_preview"], r#"{"n":1}"#);
}

#[tokio::test]
async fn l103_marks_charsets_forms_and_missing_types_are_read() {
    let fixture = Fixture::reading(json!({})).await;
    let utf16: Vec<u8> = "\u{feff}{\"id\":\"größe\"}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let form = b"payload=%7B%22id%22%3A%22f1%22%7D".to_vec();
    for (kind, body, id) in [
        (Some("application/json"), b"\xef\xbb\xbf{\"id\":\"b1\"}".to_vec(), "b1"),
        (Some("application/json"), utf16, "größe"),
        (Some("application/json; charset=iso-8859-1"), b"{\"id\":\"\xfc\"}".to_vec(), "ü"),
        (Some(FORM), form, "f1"),
        (Some(FORM), b"id=f2&n=1".to_vec(), "f2"),
        (Some("text/plain"), br#"{"id":"t1"}"#.to_vec(), "t1"),
        (None, br#"{"id":"n1"}"#.to_vec(), "n1"),
    ] {
        let headers: Vec<(&str, &str)> = kind.map(|kind| ("content-type", kind)).into_iter().collect();
        let delivery = fixture.taken(&headers, body).await;
        assert_eq!((&delivery["result"], &delivery["event_id"]), (&json!("applied"), &json!(id)), "{delivery}");
        let message = &fixture.messages(delivery["thread_id"].as_str().unwrap()).await[0];
        assert!(message["text"].as_str().unwrap().contains(id), "{message}");
        let page = format!("/admin/deliveries/{}", delivery["id"].as_str().unwrap());
        assert!(fixture.operator.get(&page).await.expect(200).text.contains(id));
    }
    let unreadable = fixture.sending(&[("content-type", "application/json")], b"{\"id\":\"\xfc\"}".to_vec());
    let unreadable = fixture.send(unreadable).await.expect(400);
    assert!(unreadable.json["error"]["message"].as_str().unwrap().contains("not UTF-8"), "{}", unreadable.text);
    let refused = &fixture.deliveries("?result=refused").await[0];
    assert!(refused["reason"].as_str().unwrap().contains("not UTF-8") && !refused["requester"].is_null(), "{refused}");
}

#[tokio::test]
async fn l103_an_id_of_any_length_is_compared_as_written() {
    let fixture = Fixture::reading(json!({ "correlation": { "pointer": "/order" } })).await;
    let json = [("content-type", "application/json")];
    let first = fixture.taken(&json, r#"{"id":12345678901234567890123,"order":98765432109876543210987}"#).await;
    let second = fixture.taken(&json, r#"{"id":12345678901234567890124,"order":98765432109876543210987}"#).await;
    let third = fixture.taken(&json, r#"{"id":12345678901234567890125,"order":98765432109876543210988}"#).await;
    assert_eq!(second["event_id"], "12345678901234567890124");
    assert_eq!(first["thread_id"], second["thread_id"]);
    assert_ne!(first["thread_id"], third["thread_id"]);
    let again = fixture.taken(&json, r#"{"id":12345678901234567890123,"order":98765432109876543210987}"#).await;
    assert_eq!(again["result"], "duplicate");
}

#[tokio::test]
async fn l103_an_id_that_is_not_found_is_told_to_the_operator() {
    let fixture = Fixture::reading(json!({ "correlation": { "pointer": "/order" } })).await;
    for (kind, body) in
        [("application/json", ""), ("application/xml", "<feed/>"), ("application/json", "{\"order\":7}")]
    {
        let delivery = fixture.taken(&[("content-type", kind)], body).await;
        assert_eq!(delivery["result"], "applied");
        assert!(delivery["reason"].as_str().unwrap().starts_with("no event ID was found at /id"), "{delivery}");
        let page = format!("/admin/deliveries/{}", delivery["id"].as_str().unwrap());
        let page = fixture.operator.get(&page).await.expect(200).text;
        assert!(page.contains("Note: no event ID was found at /id"), "{page}");
    }
    let found = fixture.taken(&[("content-type", "application/json")], r#"{"id":1,"order":2}"#).await;
    assert!(found["reason"].is_null(), "{found}");
}

#[tokio::test]
async fn l103_a_slash_at_the_end_of_the_url_changes_nothing() {
    let fixture = Fixture::new("bearer").await;
    let request = fixture.app.anonymous().request("POST", &format!("{}/", fixture.path()));
    fixture.send(request.bearer_auth(&fixture.secret).body("hello")).await.expect(202);
    assert_eq!(fixture.deliveries("").await.len(), 1);
}

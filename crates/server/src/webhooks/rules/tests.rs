//! What is announced, what is read of it, and what a pointer finds in it.

use std::io::Write as _;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use proptest::prelude::*;
use strum::IntoEnumIterator as _;
use thinkwork_linear_time::assert_linear;
use thinkwork_primitives::{Secret, Timestamp, limits};

use super::decode::FORM;
use super::{
    Body, Content, Format, Locator, Unreadable, Unsupported, pointer, preview, shown_headers, text_of, wait_seconds,
};
use crate::webhooks::schemes::Scheme;

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&'static str, &str)| {
        (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap())
    };
    let mut headers = HeaderMap::new();
    for (name, value) in pairs.iter().map(pair) {
        headers.append(name, value);
    }
    headers
}

fn read(pairs: &[(&'static str, &str)], body: &[u8]) -> Result<Content, Unreadable> {
    Format::announced(&headers(pairs)).unwrap().read(&Bytes::copy_from_slice(body))
}

#[track_caller]
fn reads(content_type: &str, body: &[u8], expect: Result<&str, Unreadable>) {
    let read = read(&[("content-type", content_type)], body).map(|content| content.text);
    assert_eq!(read, expect.map(|text| Bytes::copy_from_slice(text.as_bytes())), "{content_type}");
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn l103_a_kind_of_body_is_text_named_once_or_refused_by_its_name() {
    let announced = |kind: &str| Format::announced(&headers(&[("content-type", kind)]));
    for right in [
        "application/json",
        "Application/JSON; charset=utf-8",
        "application/cloudevents+json",
        "application/xml",
        "application/atom+xml",
        "text/xml",
        "text/plain; charset=\"ISO-8859-1\"",
        FORM,
    ] {
        assert!(announced(right).is_ok(), "{right}");
    }
    for wrong in ["", "text/", "application/octet-stream", "image/png", "multipart/form-data; boundary=x", "json"] {
        assert!(matches!(announced(wrong), Err(Unsupported::MediaType(_))), "{wrong}");
    }
    assert_eq!(announced("image/png"), Err(Unsupported::MediaType("image/png".to_owned())));
    assert_eq!(announced("text/plain; charset=koi8-r"), Err(Unsupported::Charset("koi8-r".to_owned())));
    assert!(Format::announced(&HeaderMap::new()).is_ok());
    let twice = headers(&[("content-type", "text/plain"), ("content-type", "application/json")]);
    assert!(Format::announced(&twice).is_err());
    let encoded = |coding: &str| Format::announced(&headers(&[("content-encoding", coding)]));
    for right in ["", "identity", "GZIP", "x-gzip", "deflate"] {
        assert!(encoded(right).is_ok(), "{right}");
    }
    for wrong in ["br", "zstd", "gzip, gzip", "compress"] {
        assert_eq!(encoded(wrong), Err(Unsupported::Compression(wrong.to_owned())));
    }
}

#[test]
fn l103_every_charset_is_read_or_refused_and_a_mark_goes_first() {
    let utf16 = |text: &str, unit: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(unit).collect::<Vec<u8>>();
    let json = "application/json";
    reads(json, "größe".as_bytes(), Ok("größe"));
    reads(json, b"", Ok(""));
    reads(json, b"\xef\xbb\xbf{}", Ok("{}"));
    reads("text/plain; charset=iso-8859-1", b"\xef\xbb\xbf{}", Ok("{}"));
    reads("text/plain; charset=iso-8859-1", b"gr\xf6\xdfe \x80", Ok("größe €"));
    reads(json, &utf16("\u{feff}größe 🦀", u16::to_le_bytes), Ok("größe 🦀"));
    reads(json, &utf16("\u{feff}größe", u16::to_be_bytes), Ok("größe"));
    reads("text/plain; charset=utf-16le", &utf16("größe", u16::to_le_bytes), Ok("größe"));
    reads("text/plain; charset=utf-16be", &utf16("größe", u16::to_be_bytes), Ok("größe"));
    // Which of the two orders is meant, nobody knows.
    reads("text/plain; charset=utf-16", &utf16("größe", u16::to_le_bytes), Err(Unreadable::NotUtf16));
    reads(json, b"\xff\xfea", Err(Unreadable::NotUtf16));
    reads(json, b"\xff\xfe\x00\xd8", Err(Unreadable::NotUtf16));
    reads(json, b"\xff\xfe\x00\x00a\x00\x00\x00", Err(Unreadable::NotUtf8));
    reads(json, b"gr\xf6\xdfe", Err(Unreadable::NotUtf8));
    reads("text/plain; charset=utf-8", b"gr\xf6\xdfe", Err(Unreadable::NotUtf8));
    let declared = b"<?xml version='1.0' encoding='ISO-8859-1'?><a>\xf6</a>";
    reads("text/xml", declared, Ok("<?xml version='1.0' encoding='ISO-8859-1'?><a>ö</a>"));
    reads("text/xml; charset=utf-8", declared, Err(Unreadable::NotUtf8));
    reads("application/xml", b"<?xml version=\"1.0\" encoding=\"koi8-r\"?><a/>", Err(Unreadable::XmlEncoding));
    reads("application/xml", "<a>ö</a>".as_bytes(), Ok("<a>ö</a>"));
}

#[test]
fn l103_what_is_compressed_is_read_to_the_limit_and_no_further() {
    let text = br#"{"id":"a"}"#;
    let zlib = {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    };
    let raw = {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    };
    let encoded = |coding: &str, body: &[u8]| {
        read(&[("content-encoding", coding), ("content-type", "application/json")], body).map(|content| content.text)
    };
    for (coding, body) in [("gzip", gzip(text)), ("x-gzip", gzip(text)), ("deflate", zlib.clone()), ("deflate", raw)] {
        assert_eq!(encoded(coding, &body).as_deref(), Ok(text.as_slice()), "{coding}");
    }
    let mut more = zlib;
    more.push(0);
    for (coding, body) in [
        ("gzip", text.to_vec()),
        ("gzip", gzip(text)[..12].to_vec()),
        ("gzip", Vec::new()),
        ("deflate", more),
        ("deflate", b"\x78".to_vec()),
    ] {
        assert_eq!(encoded(coding, &body), Err(Unreadable::Compression), "{coding} {body:?}");
    }
    let largest = vec![b'x'; limits::WEBHOOK_BODY_BYTES_MAX];
    assert_eq!(encoded("gzip", &gzip(&largest)).map(|text| text.len()), Ok(largest.len()));
    let bomb = gzip(&vec![0; 100 * limits::WEBHOOK_BODY_BYTES_MAX]);
    assert!(bomb.len() < limits::WEBHOOK_BODY_BYTES_MAX);
    assert_eq!(encoded("gzip", &bomb), Err(Unreadable::TooLarge));
    // Two bytes each in UTF-8.
    let letters = vec![0xf6; limits::WEBHOOK_BODY_BYTES_MAX];
    reads("text/plain; charset=latin1", &letters, Err(Unreadable::TooLarge));
}

#[test]
fn l103_the_document_in_a_form_is_what_is_read() {
    let form = |body: &str| {
        let content = read(&[("content-type", FORM)], body.as_bytes()).unwrap();
        (content.media_type, String::from_utf8(content.text.to_vec()).unwrap())
    };
    let json = |text: &str| ("application/json".to_owned(), text.to_owned());
    assert_eq!(form("payload=%7B%22id%22%3A%22gr%C3%B6%C3%9Fe%22%7D"), json(r#"{"id":"größe"}"#));
    for plain in ["payload=text", "payload=%7B", "payload=%7B%7D&more=1", "a=1", ""] {
        assert_eq!(form(plain), (FORM.to_owned(), plain.to_owned()));
    }
    let kind = |body: &[u8]| read(&[], body).unwrap().media_type;
    assert_eq!([kind(b"{}"), kind(b"hello"), kind(b"")], ["application/json", "text/plain", "text/plain"]);
    let find = |pointer: &str, body: &str| {
        Locator::parse(pointer).find(&HeaderMap::new(), &super::Body::new(FORM, body.as_bytes()))
    };
    assert_eq!(find("/id", "id=a+b&n=1").as_deref(), Some("a b"));
    assert_eq!(find("/id", "id=a&id=b"), None);
    assert_eq!(find("/id", "n=1"), None);
}

#[test]
fn l103_an_id_is_found_as_it_is_written_however_long() {
    #[track_caller]
    fn check(json: &str, pointer: &str, expect: Option<&str>) {
        assert_eq!(pointer::find(json, pointer).as_deref(), expect, "{pointer} in {json}");
    }
    check(r#"{"id":12345678901234567890123}"#, "/id", Some("12345678901234567890123"));
    check(r#"{"id":12345678901234567890124}"#, "/id", Some("12345678901234567890124"));
    check(r#"{"id":1.10}"#, "/id", Some("1.10"));
    check(r#"{"id":-0}"#, "/id", Some("-0"));
    check(r#"{"id":1e999, "x":1e999}"#, "/id", Some("1e999"));
    check(r#"{"a":[{"b":1},{"b":"\u0061\/"}]}"#, "/a/1/b", Some("a/"));
    check(r#"{"a":[7]}"#, "/a/0", Some("7"));
    for none in ["/a/00", "/a/+0", "/a/1", "/a/-", "/b", "/a"] {
        check(r#"{"a":[7]}"#, none, None);
    }
    check(r#"{"a/b":{"m~n":true}}"#, "/a~1b/m~0n", Some("true"));
    check(r#"{"":{"":1}}"#, "//", Some("1"));
    check(r#"{"id":"a","id":"b"}"#, "/id", Some("b"));
    check(r#"{"a":1,"id":"x"}"#, "/a/b", None);
    for broken in [r#"{"id":"a""#, r#"{"id":"a"} x"#, r#"{"id":"a","b":tru}"#, "[1", ""] {
        check(broken, "/id", None);
    }
    check(&format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000)), "/0/0", None);
    check(&format!(r#"{{"id":1,"deep":{}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000)), "/id", Some("1"));
}

proptest! {
    #[test]
    fn l103_a_pointer_finds_what_the_parser_of_values_finds(document in "[\\[\\]{}:,\"ab0-9]{0,24}", pointer in "(/[ab0-9]){1,3}") {
        let expect = serde_json::from_str::<serde_json::Value>(&document).ok();
        let expect = expect.as_ref().and_then(|value| value.pointer(&pointer)).and_then(|value| match value {
            serde_json::Value::String(text) => Some(text.clone()),
            serde_json::Value::Number(_) => pointer::find(&document, &pointer),
            _ => None,
        });
        prop_assert_eq!(pointer::find(&document, &pointer), expect);
    }

    #[test]
    fn l103_no_bytes_panic_and_what_is_read_is_utf8(
        body in any::<Vec<u8>>(), kind in "(application/(json|xml)|text/plain)(; charset=(utf-8|utf-16|latin1|utf-16be))?",
        coding in "(gzip|deflate|identity)",
    ) {
        if let Ok(content) = read(&[("content-type", &kind), ("content-encoding", &coding)], &body) {
            prop_assert!(std::str::from_utf8(&content.text).is_ok());
        }
    }
}

/// A part of the largest body: it keeps the tests short, and what is quadratic takes seconds for it.
const BODY_BYTES: usize = limits::WEBHOOK_BODY_BYTES_MAX / 16;
/// The same of what a server accepts of all headers of a request.
const HEADER_BYTES: usize = 32_768;

#[test]
fn l108_bodies_are_read_in_linear_time() {
    let check = |content_type: &str, marks: &[&str]| {
        let headers = headers(&[("content-type", content_type)]);
        let format = Format::announced(&headers).unwrap();
        assert_linear(marks, BODY_BYTES, |body| format.read(&Bytes::copy_from_slice(body.as_bytes())));
    };
    check("application/json", &["[", "{\"\":", "\""]);
    check("application/x-www-form-urlencoded", &["%5B", "&", "payload="]);
    check("text/plain; charset=latin1", &["\u{e9}", "a"]);
    check("text/plain; charset=utf-16le", &["\u{1f600}", "ab"]);
    check("application/xml", &["<?xml encoding=", "'", "?>"]);
    let unnamed = Format::announced(&HeaderMap::new()).unwrap();
    assert_linear(&["[", "\\u0041\""], BODY_BYTES, |body| unnamed.read(&Bytes::copy_from_slice(body.as_bytes())));
}

#[test]
fn l108_what_a_pointer_names_is_found_in_linear_time() {
    let none = HeaderMap::new();
    let check = |kind: &str, pointer: &str, marks: &[&str]| {
        let place = Locator::parse(pointer);
        assert_linear(marks, BODY_BYTES, |body| place.find(&none, &Body::new(kind, body.as_bytes())));
    };
    check("application/json", &"/a".repeat(100), &["{\"a\":", "{\"a\":1,\"a\":", "\""]);
    check("application/json", &"/0".repeat(100), &["[", "[1,", "{\"0\":["]);
    check(FORM, "/a", &["a=", "&", "%"]);
}

#[test]
fn l108_what_is_shown_and_kept_of_a_request_is_made_in_linear_time() {
    let marks = ["a", "\0", "\u{202e}", "\u{1f600}"];
    assert_linear(&marks, BODY_BYTES, |body| (text_of(body.as_bytes()), preview(body.as_bytes())));
    assert_linear(&["~0", "~1", "/", "a"], HEADER_BYTES, |text| Locator::parse(text).check());
}

#[test]
fn l108_headers_of_a_request_are_read_in_linear_time() {
    let secrets = [Secret::from_text("whsec_".to_owned() + &"a".repeat(40)), Secret::from_text("b".repeat(40))];
    let now = Timestamp::from_micros(0);
    let marks = ["v1,", " ", ";", "wait=", "\""];
    for name in [
        "content-type",
        "content-encoding",
        "prefer",
        "authorization",
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
    ] {
        assert_linear(&marks, HEADER_BYTES, |value| {
            let plain = [("webhook-id", "a"), ("webhook-timestamp", "1"), ("webhook-signature", "v1,YQ==")];
            let mut headers = headers(&plain);
            let name = HeaderName::from_static(name);
            headers.insert(name.clone(), HeaderValue::from_str(value).unwrap());
            let verified: Vec<_> =
                Scheme::iter().map(|scheme| scheme.verifier().verify(&headers, b"", &secrets, now).is_ok()).collect();
            let found = Locator::Header(name.as_str().to_owned()).find(&headers, &Body::new("", b""));
            (verified, Format::announced(&headers), wait_seconds(&headers), shown_headers(&headers, &secrets), found)
        });
    }
}

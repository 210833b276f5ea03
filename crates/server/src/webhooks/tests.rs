//! Tests of the pure parts: schemes, places, what is shown, the envelope.

use std::time::Duration;
use strum::IntoEnumIterator as _;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::json;
use thinkwork_primitives::{Secret, Timestamp};

use super::envelope::{Envelope, KeptEnvelope};
use super::pages::NewForm;
use super::rules::{self, Body};
use super::schemes::{Scheme, Unverified};
use super::{Error, Locator};
use crate::edge::InvalidField;

const NOW: Timestamp = Timestamp::from_micros(1_614_265_330_000_000);
const BODY: &[u8] = br#"{"test": 2432232314}"#;
const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
/// The secret of the Standard Webhooks documentation.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// Made with Python's hmac, which is not ours.
const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

fn secret(text: &str) -> Secret {
    Secret::from_text(text.to_owned())
}

/// A scheme with its default settings.
fn scheme(word: &str) -> Scheme {
    serde_json::from_value(json!({ "scheme": word })).unwrap()
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        headers.append(name.parse::<HeaderName>().unwrap(), value);
    }
    headers
}

fn signed(id: &str, timestamp: &str, signature: &str) -> HeaderMap {
    headers(&[("webhook-id", id), ("webhook-timestamp", timestamp), ("webhook-signature", signature)])
}

#[track_caller]
fn check(scheme: &str, headers: &HeaderMap, secrets: &[&str], expect: Result<Option<&str>, Unverified>) {
    let secrets: Vec<Secret> = secrets.iter().map(|text| secret(text)).collect();
    let found =
        self::scheme(scheme).verifier().verify(headers, BODY, &secrets, NOW).map(|verified| verified.signed_event_id);
    assert_eq!(found, expect.map(|id| id.map(str::to_owned)));
}

#[test]
fn l61_standard_webhooks_refuses_all_that_is_not_exactly_right() {
    const SCHEME: &str = "standard_webhooks";
    const AT: &str = "1614265330";
    let other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let right = signed(ID, AT, SIGNATURE);
    check(SCHEME, &right, &[SECRET], Ok(Some(ID)));
    check(SCHEME, &right, &[other, SECRET], Ok(Some(ID)));
    check(SCHEME, &right, &[other], Err(Unverified::Wrong));
    check(SCHEME, &right, &[], Err(Unverified::Wrong));
    check(SCHEME, &right, &["not a whsec_ secret"], Err(Unverified::Wrong));
    // Several signatures, one of them right; other versions are passed over.
    check(SCHEME, &signed(ID, AT, &format!("v1a,zzzz {SIGNATURE}")), &[SECRET], Ok(Some(ID)));
    check(SCHEME, &signed(ID, AT, &format!("v1,{} {SIGNATURE}", STANDARD.encode([0; 32]))), &[SECRET], Ok(Some(ID)));
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        let mut missing = right.clone();
        missing.remove(name);
        check(SCHEME, &missing, &[SECRET], Err(Unverified::Missing(HeaderName::from_static(name))));
        for empty in ["", "  "] {
            missing.insert(name, HeaderValue::from_static(empty));
            check(SCHEME, &missing, &[SECRET], Err(Unverified::Missing(HeaderName::from_static(name))));
        }
        let mut twice = right.clone();
        let value = twice.get(name).cloned().unwrap();
        twice.append(name, value);
        check(SCHEME, &twice, &[SECRET], Err(Unverified::Repeated(HeaderName::from_static(name))));
        let mut bytes = right.clone();
        bytes.insert(name, HeaderValue::from_bytes(b"\xff\xfe").unwrap());
        check(SCHEME, &bytes, &[SECRET], Err(Unverified::Malformed(HeaderName::from_static(name))));
    }
    for malformed in ["v1", "v1,", "v2,AAAA", "g0hM9SsE", "v1,***", "v1;AAAA"] {
        let found = scheme(SCHEME).verifier().verify(&signed(ID, AT, malformed), BODY, &[secret(SECRET)], NOW);
        assert!(matches!(found, Err(Unverified::Malformed(_) | Unverified::Wrong)), "{malformed}: {found:?}");
    }
    // The right bytes in another encoding are not the right signature.
    let bytes = STANDARD.decode(SIGNATURE.strip_prefix("v1,").unwrap()).unwrap();
    let url_safe = format!("v1,{}", URL_SAFE_NO_PAD.encode(&bytes));
    check(
        SCHEME,
        &signed(ID, AT, &url_safe),
        &[SECRET],
        Err(Unverified::Malformed(HeaderName::from_static("webhook-signature"))),
    );
    let hexadecimal = format!("v1,{}", thinkwork_primitives::crypto::hex(&bytes));
    check(SCHEME, &signed(ID, AT, &hexadecimal), &[SECRET], Err(Unverified::Wrong));
    check(SCHEME, &signed(ID, AT, &format!("v1,{}", STANDARD.encode([7; 32]))), &[SECRET], Err(Unverified::Wrong));
    // The right bytes under the name of another version are not the right signature.
    let other_version = SIGNATURE.replace("v1,", "v2,");
    check(
        SCHEME,
        &signed(ID, AT, &other_version),
        &[SECRET],
        Err(Unverified::Malformed(HeaderName::from_static("webhook-signature"))),
    );
    let beside = format!("{other_version} v1,{}", STANDARD.encode([7; 32]));
    check(SCHEME, &signed(ID, AT, &beside), &[SECRET], Err(Unverified::Wrong));
    // A key that is none, or too short to be one, signs nothing: anybody could sign with it.
    for short in [&[][..], &[7; 23]] {
        let signed_text = [ID.as_bytes(), b".", AT.as_bytes(), b".", BODY];
        let forged = STANDARD.encode(thinkwork_primitives::crypto::hmac_sha256(short, &signed_text));
        let short = format!("whsec_{}", STANDARD.encode(short));
        check(SCHEME, &signed(ID, AT, &format!("v1,{forged}")), &[&short], Err(Unverified::Wrong));
    }
    check(SCHEME, &signed("msg_other", AT, SIGNATURE), &[SECRET], Err(Unverified::Wrong));
    check(SCHEME, &signed(ID, "1614265331", SIGNATURE), &[SECRET], Err(Unverified::Wrong));
    for malformed in ["+1614265330", "1614265330.0", "now", "-1", "99999999999999999999", " 1614265330"] {
        check(
            SCHEME,
            &signed(ID, malformed, SIGNATURE),
            &[SECRET],
            Err(Unverified::Malformed(HeaderName::from_static("webhook-timestamp"))),
        );
    }
}

#[test]
fn l61_standard_webhooks_refuses_old_and_future_ones() {
    let key = [secret(SECRET)];
    let scheme = scheme("standard_webhooks");
    let verifier = scheme.verifier();
    let at = |at: Timestamp| {
        let pairs = verifier.sign(&key[0], ID, BODY, at).unwrap();
        verifier.verify(&pairs.into_iter().collect(), BODY, &key, NOW).map(|_| ())
    };
    assert_eq!(at(NOW.minus(Duration::from_secs(300))), Ok(()));
    assert_eq!(at(NOW.plus(Duration::from_secs(300))), Ok(()));
    assert_eq!(at(NOW.minus(Duration::from_secs(301))), Err(Unverified::Old));
    assert_eq!(at(NOW.plus(Duration::from_secs(301))), Err(Unverified::Future));
}

#[test]
fn l61_bearer_refuses_all_that_is_not_exactly_right() {
    const TOKEN: &str = "0123456789abcdefghij";
    let bearer = |value: &str| headers(&[("authorization", value)]);
    for right in ["Bearer 0123456789abcdefghij", "bearer 0123456789abcdefghij"] {
        check("bearer", &bearer(right), &["another secret one", TOKEN], Ok(None));
    }
    check("bearer", &HeaderMap::new(), &[TOKEN], Err(Unverified::Missing(HeaderName::from_static("authorization"))));
    check("bearer", &bearer("Bearer "), &[TOKEN], Err(Unverified::Missing(HeaderName::from_static("authorization"))));
    let twice = headers(&[("authorization", "Bearer 0123456789abcdefghij"), ("authorization", "Bearer x")]);
    check("bearer", &twice, &[TOKEN], Err(Unverified::Repeated(HeaderName::from_static("authorization"))));
    for malformed in ["0123456789abcdefghij", "Basic 0123456789abcdefghij", "Bearer\u{fe}x"] {
        check(
            "bearer",
            &bearer(malformed),
            &[TOKEN],
            Err(Unverified::Malformed(HeaderName::from_static("authorization"))),
        );
    }
    for wrong in
        ["Bearer 0123456789abcdefghi", "Bearer  0123456789abcdefghij", "Bearer 0123456789ABCDEFGHIJ", "Bearer x"]
    {
        check("bearer", &bearer(wrong), &[TOKEN], Err(Unverified::Wrong));
    }
    check("bearer", &bearer("Bearer 0123456789abcdefghij"), &[], Err(Unverified::Wrong));
}

#[test]
fn every_scheme_verifies_what_it_signs_with_the_secret_it_made() {
    for scheme in Scheme::iter() {
        let verifier = scheme.verifier();
        let secret = verifier.secret().unwrap();
        assert_eq!(verifier.check_secret(&secret), Ok(()));
        let headers = verifier.sign(&secret, "evt_1", BODY, NOW).unwrap().into_iter().collect();
        let verified = verifier.verify(&headers, BODY, &[secret], NOW).unwrap();
        assert_eq!(verified.signed_event_id.is_some(), verifier.description().signs_event_id);
    }
    for short in ["", "whsec_", "whsec_AAAA", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_not base64 at all!"] {
        assert!(scheme("standard_webhooks").verifier().check_secret(&secret(short)).is_err(), "{short}");
    }
    for short in ["", "short", "has a space in the middle"] {
        assert!(scheme("bearer").verifier().check_secret(&secret(short)).is_err(), "{short}");
    }
}

#[test]
fn a_scheme_is_its_word_and_its_described_settings() {
    for scheme in Scheme::iter() {
        let stored = json!(scheme);
        assert_eq!(stored["scheme"], scheme.as_str());
        let mut described: Vec<&str> = scheme.settings().iter().map(|(setting, _)| setting.name).collect();
        described.push("scheme");
        described.sort_unstable();
        assert_eq!(stored.as_object().unwrap().keys().collect::<Vec<_>>(), described, "{stored}");
        assert_eq!(serde_json::from_value::<Scheme>(stored).unwrap(), scheme);
    }
    for unknown in [json!({}), json!({ "scheme": "github" }), json!({ "scheme": "bearer", "header": "x-proof" })] {
        assert!(serde_json::from_value::<Scheme>(unknown.clone()).is_err(), "{unknown}");
    }
}

#[test]
fn a_form_gives_the_chosen_scheme_its_own_fields_alone() {
    let form = |name: &str, value: &str| NewForm {
        scheme: "bearer".to_owned(),
        settings: [(name.to_owned(), value.to_owned())].into(),
        ..NewForm::default()
    };
    assert_eq!(form("csrf", "x").scheme().unwrap(), scheme("bearer"));
    assert_eq!(form("standard_webhooks.header", "x-proof").scheme().unwrap(), scheme("bearer"));
    assert_eq!(form("bearer.header", " ").scheme().unwrap(), scheme("bearer"));
    let refused = form("bearer.header", "x-proof").scheme().unwrap_err();
    assert!(matches!(refused, Error::Invalid(InvalidField { field: "verification", .. })), "{refused}");
}

#[test]
fn l62_a_key_is_the_decoded_value_and_not_its_spelling() {
    let place = Locator::parse("/data/id");
    let find = |body: &str| place.find(&HeaderMap::new(), &Body::new("application/json", body.as_bytes()));
    assert_eq!(find(r#"{"data":{"id":"abc"}}"#).as_deref(), Some("abc"));
    assert_eq!(find(r#"{ "data" : {"id":"\u0061bc"}}"#).as_deref(), Some("abc"));
    assert_eq!(find(r#"{"data":{"id":7}}"#).as_deref(), Some("7"));
    for none in [r#"{"data":{"id":""}}"#, r#"{"data":{"id":null}}"#, r#"{"data":{"id":[1]}}"#, "{}", "not json", ""] {
        assert_eq!(find(none), None, "{none}");
    }
    let hostile = find(r#"{"data":{"id":"a\u0000b"}}"#).unwrap();
    assert!(hostile.starts_with("sha256:"), "{hostile}");
    let own = uuid::Uuid::now_v7();
    let bearer = scheme("bearer");
    let key = |id: Option<&str>, own| rules::dedupe_key(&bearer, id, own);
    assert_eq!(key(Some("abc"), own), key(Some("abc"), uuid::Uuid::now_v7()));
    assert_ne!(key(None, own), key(None, uuid::Uuid::now_v7()));
    // However long an id is, its key is short, another id's key another, and a digest is no other id's plain key.
    let long = "x".repeat(200);
    assert!(key(Some(&long), own).len() < 100 && key(Some(&long), own) != key(Some(&"x".repeat(199)), own));
    let digest = thinkwork_primitives::crypto::hex(&thinkwork_primitives::crypto::sha256(long.as_bytes()));
    assert_ne!(key(Some(&digest), own), key(Some(&long), own));
}

#[test]
fn l67_what_is_shown_is_bounded_escaped_and_without_secrets() {
    let shown = rules::preview("a\u{1b}[2J\0\u{202e}b\r\n".as_bytes());
    assert_eq!(shown, "a\\u{1b}[2J\\u{0}\\u{202e}b\\u{d}\n");
    assert!(rules::preview(&vec![0xff; 1_000_000]).chars().count() <= 2_000);
    let given = headers(&[
        ("authorization", "Bearer canary-canary"),
        ("webhook-signature", "v1,canary"),
        ("x-api-key", "canary"),
        ("x-event", &format!("plain\u{e9}{}", "x".repeat(1_000))),
    ]);
    let shown = rules::shown_headers(&given, &[]);
    let text = format!("{shown:?}");
    assert!(!text.contains("canary") && text.contains("plain"), "{text}");
    assert!(shown.iter().all(|(_, value)| value.chars().count() <= 256));
    let proofs = headers(&[("x-hook-key", SECRET), ("x-proof", &format!("Key {SECRET} ")), ("x-event", "created")]);
    let shown = format!("{:?}", rules::shown_headers(&proofs, &[secret("an older one"), secret(SECRET)]));
    assert!(!shown.contains(SECRET) && shown.contains("created"), "{shown}");
    let (text, cut) = rules::text_of("a\0é".repeat(40_000).as_bytes());
    assert!(cut && text.len() <= 65_536 && !text.contains('\0'));
}

#[test]
fn a_wait_is_read_from_prefer_and_bounded() {
    let wait = |value: &str| rules::wait_seconds(&headers(&[("prefer", value)]));
    assert_eq!(wait("wait=10"), Some(10));
    assert_eq!(wait("respond-async; Wait = \"10\""), Some(10));
    assert_eq!(wait("respond-async, wait=99"), Some(25));
    assert_eq!(wait("wait=x"), None);
    assert_eq!(rules::wait_seconds(&HeaderMap::new()), None);
}

proptest! {
    #[test]
    fn l61_no_headers_and_body_panic_or_pass_without_the_secret(
        id in any::<Vec<u8>>(), at in any::<Vec<u8>>(), signature in any::<Vec<u8>>(), body in any::<Vec<u8>>(),
    ) {
        let mut given = HeaderMap::new();
        for (name, value) in [("webhook-id", &id), ("webhook-timestamp", &at), ("webhook-signature", &signature),
            ("authorization", &signature)] {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                given.insert(name, value);
            }
        }
        for scheme in Scheme::iter() {
            prop_assert!(scheme.verifier().verify(&given, &body, &[secret(SECRET)], NOW).is_err());
        }
        for place in ["/a/b", "/", "x-event"] {
            Locator::parse(place).find(&given, &Body::new("application/json", &body));
        }
        rules::shown_headers(&given, &[]);
        rules::preview(&body);
    }

    #[test]
    fn l61_the_list_of_signatures_is_read_or_refused_and_never_more(list in "(v1[a]?,[A-Za-z0-9+/=_-]{0,48} ?){0,12}") {
        let found = scheme("standard_webhooks").verifier().verify(&signed(ID, "1614265330", &list), BODY, &[secret(SECRET)], NOW);
        prop_assert!(found.is_err());
    }

    #[test]
    fn an_envelope_reads_back_and_bytes_of_others_are_none(
        body in any::<Vec<u8>>(), event_id in any::<Option<String>>(), noise in any::<Vec<u8>>(),
    ) {
        let envelope = Envelope { event_id, body: body.into(), media_type: "text/plain".to_owned(), ..Envelope::default() };
        let encoded = envelope.encode();
        prop_assert_eq!(Envelope::decode(&encoded), Some(envelope.clone()));
        let kept = Envelope::without_body(&encoded, envelope.body.len());
        prop_assert_eq!(Envelope::decode(&kept), None);
        let head = Envelope { body: Bytes::new(), ..envelope };
        prop_assert_eq!(KeptEnvelope::decode(&kept), Some(KeptEnvelope::WithoutBody(head)));
        KeptEnvelope::decode(&noise);
    }

    #[test]
    fn a_body_that_is_kept_as_text_alone_is_that_text(body in any::<Vec<u8>>(), text in "\\PC{0,20}\0?") {
        for body in [body, text.into_bytes()] {
            let (text, is_cut) = rules::text_of(&body);
            prop_assert_eq!(rules::is_whole_text(&body), !is_cut && text.as_bytes() == body);
        }
    }
}

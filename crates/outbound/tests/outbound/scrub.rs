//! The scrubber: every spelling of a secret goes, whatever the borders of the pieces, and nothing else does.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use proptest::prelude::*;
use thinkwork_outbound::Scrubber;
use thinkwork_primitives::Secret;

const REMOVED: &str = "[removed secret]";

fn scrubber(secrets: &[&[u8]]) -> Scrubber {
    let secrets: Vec<Secret> = secrets.iter().map(|secret| Secret::from_bytes(secret.to_vec())).collect();
    Scrubber::new(&secrets.iter().collect::<Vec<_>>())
}

fn percent(bytes: &[u8], every: bool, upper: bool) -> String {
    let encode = |byte: &u8| match byte {
        b if !every && (b.is_ascii_alphanumeric() || b"-._~".contains(b)) => char::from(*b).to_string(),
        b if upper => format!("%{b:02X}"),
        b => format!("%{b:02x}"),
    };
    bytes.iter().map(encode).collect()
}

fn json(text: &str) -> String {
    let quoted = serde_json::to_string(text).unwrap();
    quoted[1..quoted.len() - 1].to_owned()
}

fn json_ascii(text: &str) -> String {
    text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect()
}

/// All spellings of the secret that leave nothing of it.
fn spellings(text: &str) -> Vec<String> {
    let bytes = text.as_bytes();
    vec![
        text.to_owned(),
        json(text),
        json(text).replace('/', "\\/"),
        json_ascii(text),
        percent(bytes, false, true),
        percent(bytes, false, false),
        percent(bytes, true, true),
        percent(bytes, false, true).replace("%20", "+"),
    ]
}

#[test]
fn l55_every_spelling_is_removed() {
    for secret in [
        "sk-live-0123456789abcdef",
        "p\"a\\s/s w\u{fc}rd\u{1f511}\n%25+tail",
        "%25%25%25%25%25%25",
        "\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\",
    ] {
        let scrubber = scrubber(&[secret.as_bytes()]);
        for spelling in spellings(secret) {
            let text = format!("before {spelling} after");
            assert_eq!(scrubber.scrub(&text), format!("before {REMOVED} after"), "{spelling}");
        }
    }
}

#[test]
fn l55_base64_is_removed_at_every_alignment() {
    let secret = "\u{3fff}??>>\u{7ff}key~~0123456789";
    let scrubber = scrubber(&[secret.as_bytes()]);
    for before in ["", "u", "us", "user:", "user-1:", "user-12:"] {
        for after in ["", "x", "xy", "xyz"] {
            let plain = format!("{before}{secret}{after}");
            let standard = STANDARD.encode(&plain);
            // What remains are the characters that hold bits of the neighbours, and the padding.
            let from = (before.len() * 8).div_ceil(6);
            let to = (before.len() + secret.len()) * 8 / 6;
            for encoded in [&standard, &URL_SAFE.encode(&plain), &URL_SAFE_NO_PAD.encode(&plain)] {
                let expected = format!("{}{REMOVED}{}", &encoded[..from], &encoded[to..]);
                assert_eq!(scrubber.scrub(encoded), expected, "{encoded}");
            }
            for escaped in [standard.replace('/', "\\/"), percent(standard.as_bytes(), false, true)] {
                assert!(scrubber.scrub(&escaped).contains(REMOVED), "{escaped}");
            }
        }
    }
}

#[test]
fn l55_short_secrets_and_other_text_stay() {
    let scrubber = scrubber(&[b"fifteen-bytes-x", b"", b"sixteen-bytes-xy"]);
    for text in ["fifteen-bytes-x", "", "sixteen-bytes-x", "100 % \\ \\u \\u12 %4 \u{fc} + sixteen", "\\ud83d\\ud83d"] {
        assert_eq!(scrubber.scrub(text), text);
    }
    assert_eq!(scrubber.scrub("sixteen-bytes-xysixteen-bytes-xy"), format!("{REMOVED}{REMOVED}"));
}

#[test]
fn l55_overlapping_secrets_go_as_a_whole() {
    let scrubber = scrubber(&[b"0123456789abcdef", b"0123456789abcdefghij", b"cdefghijklmnopqr", b"opqrstuvwxyz0123"]);
    let text = "<0123456789abcdefghijklmnopqrstuvwxyz0123>";
    assert_eq!(scrubber.scrub(text), format!("<{REMOVED}>"));
    assert_eq!(scrubber.scrub("<0123456789abcdefghi>"), format!("<{REMOVED}ghi>"));
    // Of two that begin alike the longer one counts.
    assert_eq!(scrubber.scrub("<0123456789abcdefghij>"), format!("<{REMOVED}>"));
}

proptest! {
    /// No spelling of a secret passes, whatever stands around it.
    #[test]
    fn l55_no_spelling_passes_in_any_company(
        secret in "[ -~\u{e4}\u{1f511}\\n]{16,40}",
        parts in prop::collection::vec((0_usize..11, "[ -~\\\\%\\n]{0,12}"), 0..8),
    ) {
        let scrubber = scrubber(&[secret.as_bytes(), b"another-secret-of-ours"]);
        let mut encoded = spellings(&secret);
        encoded.extend([STANDARD.encode(&secret), URL_SAFE_NO_PAD.encode(&secret), "another-secret-".to_owned()]);
        let text: String = parts.iter().map(|(which, noise)| format!("{noise}{}", encoded[*which])).collect();
        let whole = scrubber.scrub(&text);
        for spelling in &encoded[..8] {
            prop_assert!(!whole.contains(spelling.as_str()), "{} in {}", spelling, whole);
        }
    }

    /// Any bytes at all come through unchanged where no secret is in them.
    #[test]
    fn l55_other_bytes_pass(bytes: Vec<u8>) {
        let scrubber = scrubber(&[b"a-secret-that-random-bytes-do-not-hold"]);
        prop_assert_eq!(&scrubber.scrub_bytes(&bytes), &bytes);
    }
}

/// A body that is scrubbed on another thread is the same as any other.
#[tokio::test]
async fn a_large_body_is_scrubbed_as_a_small_one_is() {
    let scrubber = scrubber(&[b"sk-0123456789abcdef"]);
    let clean = "x".repeat(100_000);
    let body = format!("sk-0123456789abcdef{clean}");
    assert_eq!(scrubber.scrub_body(body.into()).await, format!("{REMOVED}{clean}").as_bytes());
    assert_eq!(scrubber.scrub_body("<sk-0123456789abcdef>".into()).await, format!("<{REMOVED}>").as_bytes());
}

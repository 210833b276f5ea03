//! Secrets in every spelling in which one could come to light.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use thinkwork_primitives::crypto;

/// What is searched for: the secret's name and one spelling of it.
#[derive(Default)]
pub struct Needles(Vec<(String, Vec<u8>)>);

/// Spellings shorter than this would be found by chance.
const BYTES_MIN: usize = 12;

impl Needles {
    /// One more secret. Where its text is base64 after a prefix, what it stands for is searched for too.
    pub fn add(&mut self, name: &str, text: &str) {
        for spelling in spellings(text.as_bytes()) {
            self.push(name, spelling);
        }
        let bare = text.rsplit_once('_').filter(|(kind, _)| kind.len() < 7).map_or(text, |(_, bare)| bare);
        let decoded = URL_SAFE_NO_PAD.decode(bare).or_else(|_| STANDARD.decode(bare));
        if let Ok(decoded) = decoded.ok().filter(|bytes| bytes.len() >= 24).ok_or(()) {
            for spelling in spellings(&decoded) {
                self.push(name, spelling);
            }
        }
    }

    fn push(&mut self, name: &str, spelling: Vec<u8>) {
        let known = self.0.iter().any(|(_, other)| *other == spelling);
        if spelling.len() >= BYTES_MIN && !known {
            self.0.push((name.to_owned(), spelling));
        }
    }

    /// How many different secrets there are.
    pub fn count(&self) -> usize {
        let mut names: Vec<&str> = self.0.iter().map(|(name, _)| name.as_str()).collect();
        names.dedup();
        names.len()
    }

    /// The secrets that stand in these bytes.
    pub fn found_in(&self, bytes: &[u8]) -> Vec<String> {
        let holds = |needle: &[u8]| {
            let first = needle[0];
            let mut rest = bytes;
            while let Some(at) = rest.iter().position(|byte| *byte == first) {
                if rest[at..].starts_with(needle) {
                    return true;
                }
                rest = &rest[at + 1..];
            }
            false
        };
        let found = self.0.iter().filter(|(_, needle)| holds(needle));
        let mut names: Vec<String> =
            found.map(|(name, needle)| format!("{name} as {}", String::from_utf8_lossy(needle))).collect();
        names.sort();
        names
    }
}

fn spellings(secret: &[u8]) -> Vec<Vec<u8>> {
    let mut all = vec![secret.to_vec()];
    let hex = crypto::hex(secret);
    all.push(hex.to_uppercase().into_bytes());
    all.push(hex.into_bytes());
    for before in 0..3 {
        // Within a longer text the same bytes begin at any of three places of base64's groups.
        let padded = [&vec![0_u8; before], secret].concat();
        let skip = (before * 8).div_ceil(6);
        let whole = (before + secret.len()) * 8 / 6;
        all.push(STANDARD.encode(&padded).as_bytes()[skip..whole].to_vec());
        all.push(URL_SAFE_NO_PAD.encode(&padded).as_bytes()[skip..whole].to_vec());
    }
    all.push(secret.iter().flat_map(|byte| format!("%{byte:02X}").into_bytes()).collect());
    all.push(secret.iter().flat_map(|byte| format!("%{byte:02x}").into_bytes()).collect());
    all.push(url::form_urlencoded::byte_serialize(secret).collect::<String>().into_bytes());
    // As a debugger prints bytes.
    let numbers: Vec<String> = secret.iter().map(u8::to_string).collect();
    all.push(numbers.join(", ").into_bytes());
    if let Ok(text) = std::str::from_utf8(secret) {
        let json = serde_json::to_string(text).unwrap();
        all.push(json.as_bytes()[1..json.len() - 1].to_vec());
        let html = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
        all.push(html.into_bytes());
        let html = text.replace('&', "&#38;").replace('<', "&#60;").replace('>', "&#62;").replace('"', "&#34;");
        all.push(html.into_bytes());
        all.push(text.chars().rev().collect::<String>().into_bytes());
    }
    all
}

#[test]
fn canary_every_spelling_is_found() {
    let secret = "canary/of+a&secret<with>marks\"0123456789";
    let mut needles = Needles::default();
    needles.add("secret", secret);
    let hidden: Vec<String> = vec![
        secret.to_owned(),
        STANDARD.encode(secret),
        STANDARD.encode(format!("Bearer {secret} and more")),
        URL_SAFE_NO_PAD.encode(format!("{{\"key\":\"{secret}\"}}")),
        crypto::hex(secret.as_bytes()).to_uppercase(),
        url::form_urlencoded::byte_serialize(secret.as_bytes()).collect(),
        serde_json::to_string(secret).unwrap(),
        format!("{:?}", secret.as_bytes()),
        "canary/of+a&#38;secret&#60;with&#62;marks&#34;0123456789".to_owned(),
    ];
    for text in hidden {
        assert!(!needles.found_in(format!("before {text} after").as_bytes()).is_empty(), "{text}");
    }
    assert!(needles.found_in(b"canary/of+a&secret<with>marks").is_empty());
    let mut needles = Needles::default();
    needles.add("token", "twp_AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE");
    assert!(!needles.found_in(&[1_u8; 32]).is_empty(), "what a token stands for");
}

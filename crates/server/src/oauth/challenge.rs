//! `WWW-Authenticate` (RFC 9110 section 11.6.1): the `Bearer` challenge among all challenges of all its lines.

use axum::http::{HeaderMap, header};

/// Scopes that are read of a challenge: more than any resource asks for at once.
const SCOPES_MAX: usize = 200;

/// What a resource says with its 401 or 403 (RFC 6750 section 3, RFC 9728 section 5.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BearerChallenge {
    /// Where its metadata is.
    pub resource_metadata: Option<String>,
    /// The scopes that it asks for.
    pub scopes: Option<Vec<String>>,
    /// Its error code, as `insufficient_scope`.
    pub error: Option<String>,
}

/// The first `Bearer` challenge of these headers.
pub fn bearer_challenge(headers: &HeaderMap) -> Option<BearerChallenge> {
    let lines = headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|line| line.to_str().ok());
    lines.into_iter().find_map(bearer_of)
}

/// The `Bearer` challenge of one line, which may hold several of any scheme.
fn bearer_of(line: &str) -> Option<BearerChallenge> {
    let mut found: Option<BearerChallenge> = None;
    for part in parts(line) {
        match part {
            Part::Scheme(_) if found.is_some() => break,
            Part::Scheme(scheme) if scheme.eq_ignore_ascii_case("bearer") => found = Some(BearerChallenge::default()),
            Part::Scheme(_) => {}
            Part::Parameter(name, value) => {
                let Some(challenge) = &mut found else { continue };
                match name.to_ascii_lowercase().as_str() {
                    "resource_metadata" => challenge.resource_metadata = Some(value),
                    "scope" => {
                        let scopes = value.split_ascii_whitespace().take(SCOPES_MAX).map(str::to_owned).collect();
                        challenge.scopes = Some(scopes);
                    }
                    "error" => challenge.error = Some(value),
                    _ => {}
                }
            }
        }
    }
    found
}

enum Part<'a> {
    Scheme(&'a str),
    Parameter(&'a str, String),
}

/// Schemes and parameters in their order; what fits neither is passed over. Reads each byte once.
fn parts(line: &str) -> impl Iterator<Item = Part<'_>> {
    let mut rest = line;
    std::iter::from_fn(move || {
        loop {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            if rest.is_empty() {
                return None;
            }
            let word_end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
            let (word, after) = rest.split_at(word_end);
            let value = after.trim_start_matches([' ', '\t']).strip_prefix('=');
            match value.map(|value| value.trim_start_matches([' ', '\t'])) {
                Some(value) if !word.is_empty() => {
                    let (value, left) = parameter_value(value);
                    rest = left;
                    return Some(Part::Parameter(word, value));
                }
                // Padding of a token68, as in `Negotiate abc==`.
                Some(value) => rest = value,
                None => {
                    rest = after;
                    return Some(Part::Scheme(word));
                }
            }
        }
    })
}

/// A token or a quoted text, and what is left.
fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        let (value, left) = text.split_at(end);
        return (value.to_owned(), left);
    };
    let mut value = String::new();
    let mut escaped = false;
    for (at, char) in quoted.char_indices() {
        match (char, escaped) {
            ('\\', false) => escaped = true,
            ('"', false) => return (value, quoted.get(at.saturating_add(1)..).unwrap_or_default()),
            _ => {
                value.push(char);
                escaped = false;
            }
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[track_caller]
    fn check(lines: &[&str], metadata: Option<&str>, scopes: Option<&str>, error: Option<&str>) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_str(line).unwrap());
        }
        let expected = BearerChallenge {
            resource_metadata: metadata.map(str::to_owned),
            scopes: scopes.map(|text| text.split(' ').map(str::to_owned).collect()),
            error: error.map(str::to_owned),
        };
        assert_eq!(bearer_challenge(&headers), Some(expected));
    }

    #[test]
    fn l104_the_bearer_challenge_is_found_among_all_lines() {
        check(&["Bearer"], None, None, None);
        check(&["Bearer resource_metadata=\"https://a/b\""], Some("https://a/b"), None, None);
        check(&["Basic realm=\"x\"", "Bearer resource_metadata=https://a/b"], Some("https://a/b"), None, None);
        check(&["Basic realm=\"a, Bearer scope=no\", bearer scope=\"a b\""], None, Some("a b"), None);
        check(
            &["Negotiate abc==, Bearer error=insufficient_scope,scope=\"x\""],
            None,
            Some("x"),
            Some("insufficient_scope"),
        );
        check(&["Bearer error = \"a\\\"b\" , DPoP scope=\"no\""], None, None, Some("a\"b"));
        check(&["DPoP algs=\"ES256\", resource_metadata=\"https://no\"", "Bearer scope=a"], None, Some("a"), None);
        let mut other = HeaderMap::new();
        other.append(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"Bearer\""));
        assert_eq!(bearer_challenge(&other), None);
        assert_eq!(bearer_challenge(&HeaderMap::new()), None);
    }

    #[test]
    fn a_challenge_of_any_bytes_is_read_to_its_end() {
        for text in ["=", "==", ",=,", "a=\"", "a=\"\\", "Bearer =", "Bearer a=b=c", " ,\t", "Bearer \"x\" y"] {
            let parts = parts(text).count();
            assert!(parts <= text.len(), "{text}: {parts}");
        }
    }
}

//! One caller of the API: its address, its token, and what becomes of an answer.
//!
//! Invariants: the token goes to the address that was typed and nowhere else, never in the clear over a network; it is
//! in no message.

use std::net::IpAddr;

use http::Method;
use serde::Serialize;
use serde_json::{Map, Value};
use thinkwork_outbound::{OPENABLE, Outbound, Policy, Request};
use thinkwork_primitives::{Network, Secret};
use url::{Host, Url};

use super::super::{CommandError, GlobalArgs};
use super::IfVersionArgs;
use crate::config::is_loopback;

/// A long thread as a whole is the largest answer; the server that sends it is the operator's own.
const ANSWER_BYTES_MAX: usize = 64 * 1_048_576;

/// Fields of a body with what was given for them.
pub(super) type Fields<'a> = &'a [(&'a str, Option<Value>)];

/// Only what was given, so that the server's defaults hold.
pub(super) fn without_none(fields: Fields<'_>) -> Map<String, Value> {
    fields.iter().filter_map(|(name, value)| Some(((*name).to_owned(), value.clone()?))).collect()
}

/// The API, asked with the operator's token.
pub(super) struct Api {
    outbound: Outbound,
    base: String,
    token: Secret,
    json: bool,
}

impl Api {
    pub(super) fn new(shared: &GlobalArgs) -> Result<Self, CommandError> {
        let wrong = || {
            CommandError::wrong_use(format!(
                "--url {} is not a valid URL; use a URL like https://thinkwork.example.com",
                shared.url
            ))
        };
        let url = Url::parse(&shared.url).ok().filter(|url| url.has_host()).ok_or_else(wrong)?;
        if url.scheme() != "https" && !(url.scheme() == "http" && is_loopback(&url)) {
            return Err(CommandError::wrong_use(format!(
                "--url {} would send the token unencrypted; use https://, or http:// on this machine",
                shared.url
            )));
        }
        let token = token(shared)?;
        let outbound = Outbound::new(policy(&url)?).map_err(CommandError::failed)?;
        Ok(Self { outbound, base: url.as_str().trim_end_matches('/').to_owned(), token, json: shared.json })
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value, CommandError> {
        self.send(self.request(Method::GET, path), None::<&Value>).await
    }

    pub(super) async fn post(&self, path: &str, body: &impl Serialize) -> Result<Value, CommandError> {
        self.send(self.request(Method::POST, path), Some(body)).await
    }

    pub(super) async fn put(&self, path: &str, body: &impl Serialize) -> Result<Value, CommandError> {
        self.send(self.request(Method::PUT, path), Some(body)).await
    }

    /// Changes what the fields name; one that has no value stays as it is.
    pub(super) async fn patch(
        &self,
        path: &str,
        fields: Fields<'_>,
        seen: &IfVersionArgs,
    ) -> Result<Value, CommandError> {
        let body = without_none(fields);
        if body.is_empty() {
            return Err(CommandError::wrong_use("no changes given; see --help for options"));
        }
        let mut request = self.request(Method::PATCH, path);
        if let Some(version) = seen.if_version {
            request = request.header("if-match", format!("\"{version}\""));
        }
        self.send(request, Some(&body)).await
    }

    pub(super) async fn delete(&self, path: &str) -> Result<Value, CommandError> {
        self.send(self.request(Method::DELETE, path), None::<&Value>).await
    }

    /// Prints the answer: as JSON where that was asked for, else by `people`, which writes for people.
    pub(super) fn show(&self, answer: &Value, people: impl FnOnce(&Value)) {
        if self.json {
            say!("{answer:#}");
        } else {
            people(answer);
        }
    }

    /// Says that it is done, where the API has nothing to say.
    pub(super) fn done(&self, sentence: &str) {
        if self.json {
            say!("{}", serde_json::json!({ "ok": true }));
        } else {
            say!("{sentence}");
        }
    }

    fn request(&self, method: Method, path: &str) -> Request {
        Request::new(method, format!("{}{path}", self.base))
            .secret_header("authorization", "Bearer ", &self.token)
            .header("accept", "application/json")
            .body_bytes_max(ANSWER_BYTES_MAX)
    }

    async fn send(&self, mut request: Request, body: Option<&impl Serialize>) -> Result<Value, CommandError> {
        if let Some(body) = body {
            request = request.json(body).map_err(CommandError::failed)?;
        }
        let response = self.outbound.send(request).await.map_err(|error| {
            CommandError::failed(format!(
                "{error}. Server: {}. Check --url or THINKWORK_URL, and that the server is running",
                self.base
            ))
        })?;
        let answer = serde_json::from_slice(&response.body).unwrap_or(Value::Null);
        if response.is_success() { Ok(answer) } else { Err(refusal(response.status, &answer)) }
    }
}

/// The API's own sentence, and the request's id where only the server's log knows more.
fn refusal(status: u16, answer: &Value) -> CommandError {
    let text = |pointer| answer.pointer(pointer).and_then(Value::as_str);
    match (text("/error/message"), text("/error/request_id")) {
        (Some(message), Some(id)) if status >= 500 => CommandError::failed(format!("{message} (request {id})")),
        (Some(message), _) => CommandError::failed(message),
        (None, _) => CommandError::failed(format!(
            "unexpected response {status}: this is not a ThinkWork server; check --url or THINKWORK_URL"
        )),
    }
}

/// Exactly the typed address is open: its port, loopback only where it is loopback.
pub(crate) fn policy(url: &Url) -> Result<Policy, CommandError> {
    let loopback = is_loopback(url);
    let openable: Result<Vec<Network>, _> = OPENABLE.iter().map(|range| range.parse()).collect();
    let mut allowed_private = openable.map_err(CommandError::failed)?;
    let address = match url.host() {
        Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
        Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
        // Where a name leads is known when it is looked up.
        _ => None,
    };
    allowed_private.retain(|range| !loopback && address.is_none_or(|address| range.contains(address)));
    Ok(Policy {
        allow_loopback: loopback,
        allowed_private,
        ports: url.port_or_known_default().into_iter().collect(),
        ..Policy::default()
    })
}

/// The token of `--token-file`, else of the environment.
fn token(shared: &GlobalArgs) -> Result<Secret, CommandError> {
    let text = match &shared.token_file {
        Some(path) => std::fs::read_to_string(path).map_err(|error| {
            CommandError::wrong_use(format!("cannot read --token-file {}: {error}", path.display()))
        })?,
        None => {
            #[expect(
                clippy::disallowed_methods,
                reason = "the token is no setting of the server, so config does not read it"
            )]
            let token = std::env::var("THINKWORK_TOKEN");
            token.unwrap_or_default()
        }
    };
    let token = Secret::from_text(text.trim().to_owned());
    if token.is_empty() {
        return Err(CommandError::wrong_use(
            "there is no token: put one into THINKWORK_TOKEN, or into a file that --token-file names; \
             `thinkwork setup` prints the first one, the page Tokens makes others",
        ));
    }
    Ok(token)
}

/// A secret from standard input, so that it is in no list of processes and no history of a shell.
pub(super) fn secret_from_stdin(what: &str) -> Result<String, CommandError> {
    use std::io::{IsTerminal as _, Read as _, Write as _};
    if std::io::stdin().is_terminal() {
        drop(writeln!(std::io::stderr(), "Enter {what}, then press Enter and Ctrl-D:"));
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(CommandError::failed)?;
    let text = text.trim_end_matches(['\r', '\n']).to_owned();
    if text.is_empty() {
        Err(CommandError::wrong_use(format!("no input: provide {what} on standard input")))
    } else {
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_opens_what_was_typed_and_no_more() {
        let check = |url: &str, loopback: bool, private: usize, port: u16| {
            let policy = policy(&Url::parse(url).unwrap()).ok().unwrap();
            assert_eq!(
                (policy.allow_loopback, policy.allowed_private.len(), policy.ports),
                (loopback, private, vec![port]),
                "{url}"
            );
        };
        check("http://127.0.0.1:8080", true, 0, 8080);
        check("http://localhost:9", true, 0, 9);
        check("https://thinkwork.example", false, OPENABLE.len(), 443);
        check("https://10.1.2.3:8443/", false, 1, 8443);
        check("https://[fd00::1]", false, 1, 443);
        check("https://93.184.216.34", false, 0, 443);
    }

    #[test]
    fn a_token_never_travels_in_the_clear() {
        for url in ["http://thinkwork.example", "http://10.0.0.1", "ftp://127.0.0.1", "nonsense"] {
            let shared = GlobalArgs { url: url.to_owned(), ..GlobalArgs::default() };
            assert_eq!(Api::new(&shared).err().map(|failure| failure.exit_code), Some(2), "{url}");
        }
    }

    #[test]
    fn a_refusal_is_the_apis_sentence() {
        let answer = serde_json::json!({ "error": { "message": "Ask an operator.", "request_id": "req_1" } });
        assert_eq!(refusal(403, &answer).message, "Ask an operator.");
        assert_eq!(refusal(500, &answer).message, "Ask an operator. (request req_1)");
        assert!(refusal(502, &Value::Null).message.contains("--url"));
    }
}

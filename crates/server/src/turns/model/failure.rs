//! Why a model gave no answer, told apart by who can mend it: the provider, the operator, or whoever asked.
//!
//! Invariant: a provider's words are shown short, as a quotation that no mark of a page can leave; where its error is
//! about the key they are not shown at all.

use serde_json::Value;
use strum::{EnumString, IntoStaticStr};

use crate::edge::visible::is_hidden;

/// Longest quotation of a provider that a person is shown.
const QUOTED_CHARS_MAX: usize = 300;
/// Longest error of a provider that is logged and searched for the tool that it is about.
const ERROR_BYTES_MAX: usize = 8_192;
/// What providers call a request that their filter of contents refused (OpenAI, Azure).
const DECLINED_CODES: [&str; 3] = ["content_filter", "content_policy_violation", "responsibleaipolicyviolation"];
/// What providers call a failure that passes, where the status does not say so.
const PASSING_CODES: [&str; 5] = ["overloaded", "rate_limit", "server_error", "timeout", "unavailable"];
/// What stands before a tool's place in an error: Gemini, OpenAI, Anthropic.
const PLACES: [&str; 4] = ["function_declarations[", "tools[", "tools.", "functions["];

/// How a step and its turn say that the model gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, IntoStaticStr)]
pub(in crate::turns) enum FailureCode {
    /// It could not be reached, failed, took too long, or what came cannot be read.
    #[strum(serialize = "model_failed")]
    Failed,
    /// The provider rejected the request, which fails again as it is.
    #[strum(serialize = "model_rejected")]
    Rejected,
    /// The model, or a filter of its provider, declined to answer.
    #[strum(serialize = "model_declined")]
    Declined,
    /// It finished without an answer: it only reasoned, or sent nothing.
    #[strum(serialize = "model_no_answer")]
    NoAnswer,
}

impl FailureCode {
    pub(in crate::turns) fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(in crate::turns) struct ModelError {
    pub(in crate::turns) code: FailureCode,
    /// In words for the thread.
    pub(in crate::turns) text: String,
    /// Whether the same request may succeed later by itself.
    pub(in crate::turns) transient: bool,
    /// The provider's error as it came, without secrets: for the log.
    pub(in crate::turns) provider_error: Option<String>,
    /// What may name one of the tools: the provider's error, where its status is one of a bad request.
    bad_request: Option<String>,
    /// The tool that the provider refuses.
    pub(in crate::turns) refused_tool: Option<String>,
}

impl ModelError {
    pub(super) fn new(code: FailureCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), transient: false, provider_error: None, bad_request: None, refused_tool: None }
    }

    /// A failure that does not pass by itself.
    pub(super) fn failed(text: impl Into<String>) -> Self {
        Self::new(FailureCode::Failed, text)
    }

    /// What kept the request from being answered at all.
    pub(super) fn unreachable(error: &thinkwork_outbound::Error) -> Self {
        let failed = Self::failed(format!("The model could not be asked: {error}."));
        Self { transient: error.is_transient(), ..failed }
    }

    /// What kept an answer from being read.
    pub(super) fn interrupted(error: &tokio::task::JoinError) -> Self {
        Self { transient: true, ..Self::failed(format!("The model's answer could not be read: {error}.")) }
    }

    /// With the beginning of what the provider or the model says, if it says anything.
    pub(super) fn quoting(mut self, said: &str) -> Self {
        let quoted = quotation(said);
        if !quoted.is_empty() {
            self.text = format!("{} It says: `{quoted}`", self.text);
        }
        self
    }

    /// With the tool that the error is about, if it is about one of these, given in the order of the request.
    pub(super) fn naming_tool(mut self, names: &[&str]) -> Self {
        self.refused_tool = self.bad_request.as_deref().and_then(|error| tool_named(error, names)).map(str::to_owned);
        self
    }
}

/// Reads an answer whose status is none of success.
pub(super) fn of_response(status: u16, body: &[u8]) -> ModelError {
    let document: Value = serde_json::from_slice(body).unwrap_or_default();
    // Gemini wraps its error in a list.
    let document = document.as_array().and_then(|items| items.first()).unwrap_or(&document);
    let error = document.get("error").filter(|error| !error.is_null()).unwrap_or(document);
    classify(status, &ProviderError::of(error))
}

/// Reads an error that came with a status of success: its own code says what it is.
pub(super) fn of_error(error: &Value) -> ModelError {
    let read = ProviderError::of(error);
    let status = error.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
    match status.filter(|status| (400..600).contains(status)) {
        Some(status) => classify(status, &read),
        None if read.is_declined() => declined(&read),
        None => {
            let failed = ModelError::failed("The model's server answered with an error. Write again later.");
            let transient = read.is_passing();
            ModelError { transient, provider_error: read.text(), ..failed }
        }
    }
}

/// What a provider says of an error.
#[derive(Default)]
struct ProviderError {
    message: String,
    /// Its code and type, in small letters.
    codes: String,
    /// All of it, as JSON.
    whole: String,
}

impl ProviderError {
    fn of(error: &Value) -> Self {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        let message = match error {
            Value::String(message) => message.clone(),
            _ => {
                // `detail` is what servers made with FastAPI say.
                let detail = error.get("detail");
                let found = [error.get("message"), detail, detail.and_then(|detail| detail.pointer("/0/msg"))];
                found.into_iter().map(text).find(|message| !message.is_empty()).unwrap_or_default()
            }
        };
        let codes = [error.get("code"), error.get("type"), error.get("status"), error.pointer("/innererror/code")];
        let codes = codes.into_iter().map(text).collect::<Vec<_>>().join(" ").to_ascii_lowercase();
        let whole = if error.is_null() { String::new() } else { error.to_string() };
        Self { message, codes, whole }
    }

    fn is_declined(&self) -> bool {
        DECLINED_CODES.iter().any(|code| self.codes.contains(code))
    }

    fn is_passing(&self) -> bool {
        PASSING_CODES.iter().any(|code| self.codes.contains(code))
    }

    /// The beginning of all of it, if there is anything.
    fn text(&self) -> Option<String> {
        Some(beginning(&self.whole)).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    /// Its message as it reads, and all else.
    fn searched(&self) -> String {
        format!("{}\n{}", beginning(&self.message), beginning(&self.whole))
    }
}

fn declined(error: &ProviderError) -> ModelError {
    let text = "The model's provider declined this request for its content. Rephrase your message and send it again.";
    let declined = ModelError::new(FailureCode::Declined, text);
    ModelError { provider_error: error.text(), ..declined.quoting(&error.message) }
}

fn classify(status: u16, error: &ProviderError) -> ModelError {
    if status < 500 && error.is_declined() {
        return declined(error);
    }
    let transient = matches!(status, 408 | 429) || status >= 500;
    let code = if transient || status < 400 { FailureCode::Failed } else { FailureCode::Rejected };
    let text =
        match status {
            ..=399 => format!(
                "The model's server redirects (HTTP {status}). An operator can correct the address under Agent."
            ),
            401 | 403 => "The model's server refused the key. An operator can enter a new one under Agent.".to_owned(),
            404 => "The model's server does not know that address or model. An operator can correct it under Agent."
                .to_owned(),
            408 => "The model's server did not get the request in time (HTTP 408). Write again later.".to_owned(),
            413 => "The request is too large for the model's server (HTTP 413). Begin a new thread with less in it."
                .to_owned(),
            429 => "The model's server has too much to do or its quota is used up (HTTP 429). Write again later."
                .to_owned(),
            500.. => format!("The model's server failed (HTTP {status}). Write again later."),
            _ => format!("The model's provider rejected the request (HTTP {status}). Tell an operator."),
        };
    let told = ModelError::new(code, text);
    // An error about the key can show a part of it.
    let is_about_key = matches!(status, 401 | 403);
    let told = if code == FailureCode::Rejected && !is_about_key { told.quoting(&error.message) } else { told };
    ModelError {
        transient,
        provider_error: if is_about_key { None } else { error.text() },
        bad_request: matches!(status, 400 | 422).then(|| error.searched()),
        ..told
    }
}

/// The tool that an error is about, by its name or by its place in the request.
fn tool_named<'a>(error: &str, names: &[&'a str]) -> Option<&'a str> {
    let by_name = names.iter().filter(|name| contains_word(error, name)).max_by_key(|name| name.len());
    by_name.or_else(|| PLACES.iter().find_map(|before| names.get(number_after(error, before)?))).copied()
}

/// Whether the name stands there and is not a part of a longer one.
fn contains_word(text: &str, name: &str) -> bool {
    let goes_on = |char: Option<char>| char.is_some_and(|char| char.is_ascii_alphanumeric() || "_-".contains(char));
    text.match_indices(name).any(|(start, found)| {
        let before = text.get(..start).and_then(|text| text.chars().next_back());
        let after = text.get(start.saturating_add(found.len())..).and_then(|text| text.chars().next());
        !goes_on(before) && !goes_on(after)
    })
}

/// The number that stands right after these words.
fn number_after(text: &str, before: &str) -> Option<usize> {
    text.match_indices(before).find_map(|(start, found)| {
        let rest = text.get(start.saturating_add(found.len())..)?;
        let digits = rest.find(|char: char| !char.is_ascii_digit()).unwrap_or(rest.len());
        rest.get(..digits)?.parse().ok()
    })
}

fn beginning(text: &str) -> &str {
    text.get(..text.floor_char_boundary(ERROR_BYTES_MAX)).unwrap_or_default()
}

/// A provider's words on one line, as they can stand between backticks.
fn quotation(said: &str) -> String {
    let plain = said.chars().take(QUOTED_CHARS_MAX.saturating_mul(2)).map(|char| match char {
        '`' => '\'',
        char if char.is_whitespace() || is_hidden(char) => ' ',
        char => char,
    });
    let words: Vec<String> =
        plain.collect::<String>().split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect();
    let line = words.join(" ");
    match line.char_indices().nth(QUOTED_CHARS_MAX) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

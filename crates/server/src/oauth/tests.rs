//! Pure decisions, as tables.

use std::time::Duration;

use proptest::prelude::*;
use thinkwork_linear_time::{assert_linear, assert_linear_in};
use thinkwork_primitives::{Requester, Timestamp, UserId, WebhookId};

use crate::credentials::Standing;

use super::rules::{
    self, AuthorizationResult, Facts, Parameter, Step, TokenErrorResponse, TokenFreshness, TokenRequestError,
};
use super::tokens;

#[test]
fn l05_return_addresses_are_paths_of_ours() {
    let check = |asked: &str, expected: Option<&str>| assert_eq!(rules::return_path(asked), expected, "{asked}");
    check("", Some("/me/connections"));
    check("/me", Some("/me"));
    check("/me/", Some("/me/"));
    check("/me/mcp-servers", Some("/me/mcp-servers"));
    check("/me/threads/CHAT-01J", Some("/me/threads/CHAT-01J"));
    for hostile in [
        "//evil.test",
        "///evil.test",
        "/me//evil.test",
        "/\\evil.test",
        "/me\\evil.test",
        "/me/\\\\evil.test",
        "https://evil.test",
        "HTTPS://evil.test/me/",
        "javascript:alert(1)",
        "me/x",
        "/mevil",
        "/admin",
        "/",
        "/me/../admin",
        "/me/./x",
        "/me/%2e%2e/admin",
        "/me/@evil.test",
        "//user@evil.test/me/",
        "/me/x?y=1",
        "/me/x#y",
        "/me/\n",
        "/me/\r\nLocation: x",
        "/me/\0",
        "/me/ x",
        "/me/\u{202e}x",
        "/me/é",
        " /me",
        "\t/me",
    ] {
        check(hostile, None);
    }
    check(&format!("/me/{}", "x".repeat(3_000)), None);
}

proptest! {
    #[test]
    fn l05_whatever_is_taken_stays_here(asked in "\\PC*") {
        if let Some(path) = rules::return_path(&asked) {
            let base = url::Url::parse("https://work.acme.test/oauth/callback/x").unwrap();
            let to = base.join(path).unwrap();
            prop_assert_eq!(to.origin(), base.origin());
            prop_assert!(to.path().starts_with("/me"));
        }
    }

    #[test]
    fn l10_no_query_panics(query in "[ -~]{0,200}") {
        drop(rules::callback_answer(&query));
    }

    #[test]
    fn l20_a_dead_or_ended_token_is_never_used(
        end in proptest::option::of(prop_oneof![-1_i64..2, -200_i64..200]), refresh: bool, running: bool,
        blocked in proptest::option::of(-100_i64..100), forced in proptest::option::of(-100_i64..1), instead: bool,
        given in -100_i64..1,
    ) {
        let at = |seconds: i64| Timestamp::from_micros((1_000_000 + seconds) * 1_000_000);
        let facts = Facts {
            dead: None,
            version: 1,
            standing: Standing::Current,
            expires_at: end.map(at),
            obtained_at: at(given),
            has_refresh_token: refresh,
            blocked_until: blocked.map(at),
            running,
            forced_at: forced.map(at),
        };
        let wanted = if instead { TokenFreshness::NewerThan(1) } else { TokenFreshness::Any };
        if rules::next_step(&facts, wanted, at(0)) == Step::Use {
            prop_assert!(end.is_none_or(|end| end > 0) && !instead);
        }
    }
}

#[test]
fn l10_repetitions_are_harmless_and_contradictions_are_seen() {
    let outcome = |query: &str| {
        let Some(answer) = rules::callback_answer(query) else { return "none".to_owned() };
        assert_eq!(answer.state, "s", "{query}");
        match answer.outcome {
            AuthorizationResult::Code(code) => format!("code {}", code.expose_str().unwrap()),
            AuthorizationResult::Refused(reason) => format!("refused {reason}"),
            AuthorizationResult::Unclear => "unclear".to_owned(),
        }
    };
    let check = |query: &str, expected: &str| assert_eq!(outcome(query), expected, "{query}");
    check("code=a&state=s", "code a");
    check("code=a&state=s#", "code a");
    check("code=a&state=s%23", "code a");
    check("code=a&state=s#_=_", "code a");
    check("state=s&code=a&code=a&x=1&code=", "code a");
    check("code=a&code=b&state=s", "unclear");
    check("code=a&error=access_denied&state=s", "unclear");
    check("state=s", "unclear");
    check("error=access_denied&state=s", "refused access_denied");
    check("error=%3Cb%3E&state=s", "refused provider_error");
    check("code=a&state=s&state=t", "none");
    check("code=a", "none");
    check("", "none");
}

#[test]
fn s11_issuers_agree_byte_for_byte() {
    let present = |text: &str| Parameter::Present(text.to_owned());
    let check = |sent, declared, expected| {
        assert_eq!(rules::issuer_agrees(&sent, "https://as.test", declared), expected, "{sent:?} {declared}");
    };
    check(present("https://as.test"), true, true);
    check(present("https://as.test"), false, true);
    check(present("https://as.test/"), false, false);
    check(present("https://AS.test"), false, false);
    check(Parameter::Absent, true, false);
    check(Parameter::Absent, false, true);
    check(Parameter::Contradictory, false, false);
}

#[test]
fn s11_metadata_names_the_issuer_that_was_asked_the_slash_of_a_bare_origin_aside() {
    #[track_caller]
    fn check(named: &str, asked: &str, expected: bool) {
        assert_eq!(rules::issuer_named(named, asked), expected, "{named} for {asked}");
    }
    check("https://as.test", "https://as.test", true);
    check("https://as.test", "https://as.test/", true);
    check("https://as.test/", "https://as.test", true);
    check("https://as.test:8443", "https://as.test:8443/", true);
    check("https://as.test/t", "https://as.test/t", true);
    check("https://as.test/t", "https://as.test/t/", false);
    check("https://as.test/t/", "https://as.test/t", false);
    check("https://as.test//", "https://as.test/", false);
    check("https://AS.test/", "https://AS.test", false);
    check("https://as.test?", "https://as.test", false);
    check("https://evil.test", "https://as.test/", false);
    check("https://as.test.evil.test/", "https://as.test", false);
    check("http://as.test", "https://as.test/", false);
    check("/", "", false);
}

#[test]
fn s14_a_resource_is_the_server_or_an_ancestor_at_its_origin() {
    let check = |resource: &str, expected: bool| {
        assert_eq!(rules::resource_covers(resource, "https://notes.test/team/mcp"), expected, "{resource}");
    };
    for covers in [
        "https://notes.test/team/mcp",
        "https://notes.test/team",
        "https://notes.test/team/",
        "https://notes.test",
        "https://notes.test/",
    ] {
        check(covers, true);
    }
    for foreign in [
        "https://notes.test/te",
        "https://notes.test/team/mcp/x",
        "https://notes.test/other",
        "https://evil.test",
        "http://notes.test/team",
        "https://notes.test:444/team",
        "https://notes.test/team?x=1",
        "notes.test",
        "",
    ] {
        check(foreign, false);
    }
}

fn response<'a>(status: u16, code: Option<&'a str>, retry_after: Option<&'a str>) -> TokenErrorResponse<'a> {
    TokenErrorResponse { status, code, description: None, retry_after }
}

#[test]
fn l91_a_dead_grant_is_told_apart_from_a_refused_client() {
    let check = |code, description, is_client: bool| {
        let answer = TokenErrorResponse { description, ..response(403, Some(code), None) };
        let refused = matches!(rules::failure("as.test", &answer), TokenRequestError::ClientRefused(_));
        assert_eq!(refused, is_client, "{code} {description:?}");
    };
    check("invalid_client", None, true);
    check("invalid_client", Some("unknown token"), true);
    check("unauthorized_client", None, true);
    check("unauthorized_client", Some("client may not use this grant"), true);
    check("unauthorized_client", Some("refresh_token is invalid"), false);
    check("invalid_grant", None, false);
}

#[test]
fn l18_only_the_servers_own_no_is_definite() {
    let definite = |status, code: Option<&str>| match rules::failure("as.test", &response(status, code, None)) {
        TokenRequestError::GrantRefused(code) | TokenRequestError::ClientRefused(code) => Some(code),
        TokenRequestError::Transient { .. } => None,
    };
    assert_eq!(definite(400, Some("invalid_grant")).as_deref(), Some("invalid_grant"));
    assert_eq!(definite(401, Some("invalid_client")).as_deref(), Some("invalid_client"));
    assert_eq!(definite(200, Some("bad_refresh_token")).as_deref(), Some("bad_refresh_token"));
    assert_eq!(definite(400, Some("<script>")).as_deref(), Some("provider_error"));
    for (status, code) in [
        (500, Some("invalid_grant")),
        (503, None),
        (429, Some("invalid_grant")),
        (400, None),
        (403, None),
        (404, None),
        (200, None),
        (400, Some("slow_down")),
        (400, Some("temporarily_unavailable")),
        (302, None),
    ] {
        assert_eq!(definite(status, code), None, "{status} {code:?}");
    }
    let pause = |text| match rules::failure("as.test", &response(503, None, Some(text))) {
        TokenRequestError::Transient { pause, .. } => pause.as_secs(),
        TokenRequestError::GrantRefused(_) | TokenRequestError::ClientRefused(_) => 0,
    };
    assert_eq!((pause("30"), pause("99999"), pause("0"), pause("soon")), (30, 60, 5, 5));
}

#[test]
fn l37_only_the_owners_own_request_may_use_a_grant() {
    let ana = UserId::new();
    assert!(rules::may_use(&Requester::User(ana), ana));
    assert!(!rules::may_use(&Requester::User(UserId::new()), ana));
    assert!(!rules::may_use(&Requester::Webhook(WebhookId::new()), ana));
    assert!(!rules::may_use(&Requester::server(), ana));
}

#[test]
fn l16_waiting_pausing_and_refreshing_are_told_apart() {
    let now = Timestamp::from_micros(1_000_000_000_000);
    let facts = |left: u64| Facts {
        dead: None,
        version: 7,
        standing: Standing::Current,
        expires_at: Some(now.plus(Duration::from_secs(left))),
        obtained_at: now.minus(Duration::from_secs(30)),
        has_refresh_token: true,
        blocked_until: None,
        running: false,
        forced_at: None,
    };
    let later = Some(now.plus(Duration::from_secs(9)));
    let step = |facts: Facts<'_>, wanted| rules::next_step(&facts, wanted, now);
    assert_eq!(step(facts(61), TokenFreshness::Any), Step::Use);
    assert_eq!(step(facts(60), TokenFreshness::Any), Step::Refresh);
    assert_eq!(step(Facts { blocked_until: later, running: true, ..facts(60) }, TokenFreshness::Any), Step::Wait);
    assert_eq!(step(Facts { blocked_until: later, ..facts(60) }, TokenFreshness::Any), Step::Use);
    assert_eq!(step(Facts { blocked_until: later, ..facts(0) }, TokenFreshness::Any), Step::Pause);
    assert_eq!(step(Facts { blocked_until: Some(now), running: true, ..facts(0) }, TokenFreshness::Any), Step::Refresh);
    assert_eq!(step(facts(900), TokenFreshness::NewerThan(7)), Step::Refresh);
    assert_eq!(step(facts(900), TokenFreshness::NewerThan(6)), Step::Use);
    let refused = Step::Dead("token_refused".to_owned());
    assert_eq!(step(Facts { forced_at: Some(now), ..facts(900) }, TokenFreshness::NewerThan(7)), refused);
    assert_eq!(
        step(Facts { dead: Some("invalid_grant"), ..facts(900) }, TokenFreshness::Any),
        Step::Dead("invalid_grant".to_owned())
    );
}

/// What our HTTP client accepts of the headers of an answer, at least.
const HEADER_BYTES: usize = 65_536;
/// The largest answer that is read of a token endpoint, and more than is read of a callback.
const ANSWER_BYTES: usize = 65_536;

#[test]
fn l108_answers_of_authorization_servers_are_read_in_linear_time() {
    let marks = ["Bearer ", "scope=", "\"", "\\", ",", " "];
    assert_linear(&marks, HEADER_BYTES, |value| {
        let value = axum::http::HeaderValue::from_str(value).unwrap();
        super::bearer_challenge(&axum::http::HeaderMap::from_iter([(axum::http::header::WWW_AUTHENTICATE, value)]))
    });
    assert_linear(&["access_token=", "&", "%", "error=", "{\"scope\":\"", " ", ",", "["], ANSWER_BYTES, |body| {
        let body = bytes::Bytes::copy_from_slice(body.as_bytes());
        let response = thinkwork_outbound::Response { status: 200, headers: axum::http::HeaderMap::new(), body };
        tokens::read("issuer.test", &response, Timestamp::from_micros(0)).is_ok()
    });
    let scopes = |bytes: usize| {
        let names = |letter: char| (0..bytes / 8).map(|number| format!("{letter}{number}")).collect::<Vec<String>>();
        (names('a'), names('b'))
    };
    assert_linear_in(ANSWER_BYTES, scopes, |(required, granted)| rules::scopes_missing(required, granted));
}

#[test]
fn l108_addresses_and_callbacks_are_read_in_linear_time() {
    let server = "https://a.test/mcp";
    let marks = ["https://a.test/", "../", "%2e", "\u{e9}", "@", "?"];
    assert_linear(&marks, ANSWER_BYTES, |text| {
        let covers = rules::resource_covers(text, server) || rules::resource_covers(server, text);
        (covers, rules::issuer_named(text, server), rules::host_of(text), rules::account_label(Some(text), text))
    });
    assert_linear(&["/me/", "/", "..", "a"], ANSWER_BYTES, |path| rules::return_path(path).is_some());
    assert_linear(&["state=", "&", "code=a", "%23", "#_=_", "iss="], ANSWER_BYTES, |query| {
        rules::callback_answer(query).is_some()
    });
}

//! Every operation of the document, called by every kind of caller. What each gets follows from one rule, [`outcome`];
//! what does not follow from it stands in [`EXCEPTIONS`] with its reason.

use super::Findings;
use super::freshness::needs_no_reauth;
use super::kinds::{IsFor, Kind, Person, Phase, groups};
use super::premises::Premises;
use super::things::{NAME_THEIR_SPACE_IN_A_FIELD, Place, Thing, places, things};
use crate::guards::fixture::PRIVATE_WORD;
use crate::guards::operations::{Described, Who, described};
use crate::guards::tables;
use crate::harness::{Client, Response};

/// What a caller gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The operation runs, with the success that the document names.
    Done,
    /// The status and the code of a refusal.
    Refused(u16, &'static str),
}

const ANYONE: IsFor = |_| true;

/// Where the rule says [`Outcome::Done`] and the operation has a reason of its own to refuse: the operation, whom, with
/// which status and code, and why.
const EXCEPTIONS: &[(&str, IsFor, u16, &str, &str)] = &[
    ("POST /v1/sessions", ANYONE, 401, "wrong_credentials", "nobody has the address in the body"),
    ("POST /v1/invitations/accept", ANYONE, 410, "code_expired", "the code in the body is none"),
    ("PUT /v1/me/password", ANYONE, 422, "invalid", "the present password in the body is wrong"),
    ("POST /v1/mcp-servers/{id}/approve", ANYONE, 409, "definition_changed", "the hash in the body is made up"),
    ("POST /v1/tokens", |kind| !kind.is_session(), 403, "needs_session", "a token makes no token"),
    ("POST /v1/tokens", |kind| kind.is_stale(), 403, "reauth_required", "what is made outlives the session"),
    ("POST /v1/spaces", is_service, 422, "invalid", "a service is a member of nothing, so nobody would see it"),
    ("POST /v1/messages/{id}/share", is_not_ana, 403, "not_your_message", "they see that there is one, and no more"),
];

fn is_service(kind: Kind) -> bool {
    kind.person == Person::Service
}

fn is_not_ana(kind: Kind) -> bool {
    kind.person != Person::MemberIn
}

/// The rule: in this order it is asked who the caller is, how far their token goes, what they are, how long ago they
/// signed in, and whether what the path names is there for them.
fn outcome(operation: &Described, kind: Kind, place: Place) -> Outcome {
    let who = operation.who();
    let things = things(&operation.name);
    let sees = |thing: &Thing| kind.sees(*thing, place);
    if matches!(who, Who::Public(_)) {
        return Outcome::Done;
    }
    if !kind.is_known_to_api() {
        return Outcome::Refused(401, "not_signed_in");
    }
    if operation.is_change() && kind.is_read_only() {
        return Outcome::Refused(403, "scope");
    }
    match who {
        Who::Consent if !kind.is_session() => return Outcome::Refused(403, "needs_session"),
        Who::Member if kind.person == Person::Service => return Outcome::Refused(403, "needs_person"),
        Who::Operator if !kind.is_operator() => return Outcome::Refused(403, "needs_operator"),
        Who::Operator if operation.is_change() && kind.is_stale() && !needs_no_reauth(operation) => {
            return Outcome::Refused(403, "reauth_required");
        }
        _ => {}
    }
    if things.iter().all(sees) {
        Outcome::Done
    } else if NAME_THEIR_SPACE_IN_A_FIELD.contains(&operation.name.as_str()) {
        Outcome::Refused(422, "invalid")
    } else {
        Outcome::Refused(404, "not_found")
    }
}

/// The same with the exceptions.
fn expected(operation: &Described, kind: Kind, place: Place) -> Outcome {
    let by_rule = outcome(operation, kind, place);
    let exception = EXCEPTIONS.iter().find(|(name, is_for, ..)| *name == operation.name && is_for(kind));
    match exception {
        Some((_, _, status, code, _)) if by_rule == Outcome::Done => Outcome::Refused(*status, code),
        _ => by_rule,
    }
}

/// One call: an operation, where the things of its path are, and what a list is asked for.
struct Call<'a> {
    operation: &'a Described,
    place: Place,
    query: String,
}

/// Parameters of lists that name something of a Space, and what they ask for.
fn queries(premises: &Premises, operation: &Described) -> Vec<String> {
    let thing = |name: &str| match name {
        "space" => Some(premises.fixture.id("spaces")),
        "thread" => Some(premises.fixture.id("threads")),
        "actor" | "requester" => Some(premises.fixture.id("webhooks")),
        "q" => Some(PRIVATE_WORD),
        _ => None,
    };
    let asked = operation.query.iter().filter_map(|name| Some(format!("?{name}={}", thing(name)?)));
    asked.chain([String::new()]).collect()
}

/// The calls in the order in which each still finds what it names: reads, changes, what ends something, and last what
/// ends the caller's own membership and session.
fn calls<'a>(premises: &Premises, operations: &'a [Described]) -> Vec<Call<'a>> {
    let mut calls = Vec::new();
    for operation in operations {
        for query in queries(premises, operation) {
            let at = |place: &Place| Call { operation, place: *place, query: query.clone() };
            calls.extend(places(&things(&operation.name)).iter().map(at));
        }
    }
    calls.sort_by_key(|call| match call.operation.name.as_str() {
        "DELETE /v1/sessions/current" => 5,
        "DELETE /v1/spaces/{id}/members/{user_id}" => 4,
        "DELETE /v1/mcp-servers/{id}" => 3,
        _ if call.operation.method == "DELETE" => 2,
        _ if call.operation.is_change() => 1,
        _ => 0,
    });
    calls
}

async fn answer(premises: &Premises, client: &Client, call: &Call<'_>) -> Response {
    let path = format!("{}{}", premises.fill(&call.operation.path, call.place), call.query);
    let request = client.request(&call.operation.method, &path);
    if call.operation.path.ends_with("/stream") {
        return client.send_for_stream(request).await;
    }
    match premises.body(&call.operation.name, call.place) {
        serde_json::Value::Null => client.send(request).await,
        body => client.with_json(&call.operation.method, &path, body).await,
    }
}

/// What is wrong in one fixture with these kinds of caller.
async fn walk(kinds: &[Kind]) -> Findings {
    let premises = Premises::new().await;
    let operations = described(&premises.fixture.app).await;
    for (name, ..) in EXCEPTIONS {
        assert!(operations.iter().any(|operation| operation.name == *name), "{name} is gone: take it off the list");
    }
    let clients = premises.clients(kinds).await;
    let mut findings = Findings::default();
    let before = tables::dump(&premises.fixture.app).await;
    let calls = calls(&premises, &operations);
    for phase in [Phase::Refused, Phase::Done] {
        for (kind, client) in &clients {
            for call in &calls {
                let (status, code) = match expected(call.operation, *kind, call.place) {
                    Outcome::Refused(status, code) if phase == Phase::Refused => (status, code),
                    Outcome::Done if phase == Phase::Done => (call.operation.success, ""),
                    _ => continue,
                };
                let what = format!("{}: {}{} ({:?})", kind.name(), call.operation.name, call.query, call.place);
                let answer = answer(&premises, client, call).await;
                findings.expect(&what, &answer, status, code);
                findings.keeps(&what, &premises.hidden(*kind, &call.operation.name), &answer);
            }
        }
        findings.0.extend(premises.wrong_changes(&before, kinds, phase).await);
    }
    findings
}

#[tokio::test]
async fn l80_each_operation_answers_each_kind_of_caller_by_its_rule() {
    let mut findings = Findings::default();
    for kinds in groups(|kind| kind.is_known_to_api() && !kind.is_read_only()) {
        findings.0.extend(walk(&kinds).await.0);
    }
    findings.end();
}

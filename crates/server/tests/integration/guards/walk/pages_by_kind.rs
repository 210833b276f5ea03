//! Every page and form, opened by every kind of caller. What each gets follows from one rule, [`outcome`]; what does not
//! follow from it stands in [`EXCEPTIONS`] with its reason.

use serde_json::json;
use thinkwork_primitives::Audience;

use super::Findings;
use super::freshness::needs_no_reauth_form;
use super::kinds::{IsFor, Kind, Person, Phase, Proof, groups};
use super::pages::{OPEN, Route, guarded, press, routes};
use super::premises::Premises;
use super::things::{Place, places, things};
use crate::guards::tables;
use crate::harness::{Client, Response};

/// What a caller gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The page.
    Shown,
    /// A redirect to a page that the caller may open.
    Taken,
    /// A redirect to sign in.
    SignedOut,
    /// The same and back to the page.
    SignIn,
    /// The same again, of somebody whose sign-in is too old for the form.
    SignInAgain,
    /// The status of a refusal.
    Refused(u16),
}

impl Outcome {
    const fn phase(self) -> Phase {
        match self {
            Self::Shown | Self::Taken | Self::SignedOut => Phase::Done,
            Self::SignIn | Self::SignInAgain | Self::Refused(_) => Phase::Refused,
        }
    }
}

/// Where the rule says [`Outcome::Shown`] or [`Outcome::Taken`] and there is a reason for another answer: the method and
/// path, whom, what, and why.
const EXCEPTIONS: &[(&str, IsFor, Outcome, &str)] = &[
    ("POST /sign-out", |_| true, Outcome::SignedOut, "ends the session"),
    ("POST /me/account/password", |_| true, Outcome::Refused(422), "the form has no present password"),
    ("POST /me/account/tokens", |kind| !kind.is_operator(), Outcome::Refused(422), "the form asks for scope admin"),
    ("POST /me/account/tokens", |kind| kind.is_stale(), Outcome::SignInAgain, "what is made outlives the session"),
    ("POST /me/mcp-servers/{id}/connect", |_| true, Outcome::Shown, "hands over to the provider by a page"),
    ("POST /me/messages/{id}/share", is_not_ana, Outcome::Refused(403), "they see that there is one, and no more"),
    ("POST /admin/webhooks", is_of_another_tenant, Outcome::Refused(422), "the form names a Space that is not theirs"),
    ("POST /admin/people/{id}/disable", |_| true, Outcome::Refused(422), "the form confirms another name"),
    ("POST /admin/mcp-servers/{id}/approve", |_| true, Outcome::Refused(422), "the form's hash is made up"),
];

fn is_not_ana(kind: Kind) -> bool {
    kind.person != Person::MemberIn
}

fn is_of_another_tenant(kind: Kind) -> bool {
    kind.person == Person::OtherOwner
}

/// A page that is opened or a form that is sent, and where the things of its path are.
struct Visit {
    path: String,
    is_form: bool,
    place: Place,
}

impl Visit {
    fn name(&self) -> String {
        format!("{} {}", if self.is_form { "POST" } else { "GET" }, self.path)
    }

    async fn answer(&self, premises: &Premises, client: &Client) -> Response {
        let path = premises.fill(&self.path, self.place);
        if self.is_form { press(&premises.fixture, client, &path).await } else { client.get(&path).await }
    }
}

/// The rule: in this order it is asked who the caller is, whether they are an operator, how long ago they signed in, and
/// whether what the path names is there for them.
fn outcome(visit: &Visit, kind: Kind) -> Outcome {
    let is_of_operators = visit.path.starts_with("/admin");
    match kind.is_session() {
        false if visit.is_form => return Outcome::Refused(401),
        false => return Outcome::SignIn,
        true => {}
    }
    if is_of_operators && !kind.is_operator() {
        return Outcome::Refused(403);
    }
    if is_of_operators && visit.is_form && kind.is_stale() && !needs_no_reauth_form(&visit.path) {
        return Outcome::SignInAgain;
    }
    if !things(&visit.path).iter().all(|thing| kind.sees(*thing, visit.place)) {
        return Outcome::Refused(404);
    }
    if visit.is_form { Outcome::Taken } else { Outcome::Shown }
}

/// The same with the exceptions.
fn expected(visit: &Visit, kind: Kind) -> Outcome {
    let by_rule = outcome(visit, kind);
    let exception = EXCEPTIONS.iter().find(|(name, is_for, ..)| *name == visit.name() && is_for(kind));
    match exception {
        Some((_, _, instead, _)) if matches!(by_rule, Outcome::Shown | Outcome::Taken) => *instead,
        _ => by_rule,
    }
}

/// A visit of a route that is open to all, and the status that a stranger gets.
struct OpenVisit {
    visit: Visit,
    status: u16,
}

/// All that is open, save for the gateway, which has a rule of its own, and the two pages that lead on.
async fn open_visits(premises: &Premises) -> Vec<OpenVisit> {
    let stranger = premises.fixture.app.anonymous();
    let is_open = |route: &Route| OPEN.iter().any(|(path, _)| *path == route.path) && !route.path.starts_with("/mcp");
    let mut open = Vec::new();
    for visit in routes().into_iter().filter(is_open).flat_map(visits_of) {
        if !["GET /", "GET /sign-in"].contains(&visit.name().as_str()) {
            let status = visit.answer(premises, &stranger).await.status;
            open.push(OpenVisit { visit, status });
        }
    }
    open
}

fn visits_of(route: Route) -> Vec<Visit> {
    let Route { path, get, post } = route;
    let methods = [(false, get), (true, post)].into_iter().filter(|(_, is_served)| *is_served);
    let at = |is_form, place: &Place| Visit { path: path.clone(), is_form, place: *place };
    let all = methods.flat_map(|(is_form, _)| places(&things(&path)).iter().map(move |place| (is_form, place)));
    all.map(|(is_form, place)| at(is_form, place)).collect()
}

/// The visits in the order in which each still finds what it names: pages, forms, and those that end something.
fn visits() -> Vec<Visit> {
    const ENDINGS: [&str; 7] = ["/disable", "/revoke", "/remove", "/disconnect", "/end", "/delete", "/sign-out"];
    let mut visits: Vec<Visit> = guarded().into_iter().flat_map(visits_of).collect();
    visits.sort_by_key(|visit| {
        let ending = ENDINGS.iter().position(|ending| visit.path.ends_with(ending));
        (visit.is_form, ending.map_or(0, |ending| ending + 1))
    });
    visits
}

impl Findings {
    /// Notes where an answer is not this outcome, or leads to a page that is not one for the caller.
    async fn meets(&mut self, what: &str, client: &Client, path: &str, answer: &Response, expected: Outcome) {
        let place = answer.header("location");
        match expected {
            Outcome::Shown => self.expect(what, answer, 200, ""),
            Outcome::Refused(status) => self.expect(what, answer, status, ""),
            Outcome::Taken | Outcome::SignedOut | Outcome::SignIn | Outcome::SignInAgain => {
                self.expect(what, answer, 303, "")
            }
        }
        let is_right = match expected {
            Outcome::Shown | Outcome::Refused(_) => true,
            Outcome::Taken => {
                let is_ours = place.starts_with("/me") || place.starts_with("/admin");
                is_ours && client.get(place).await.status == 200
            }
            Outcome::SignedOut => place == "/sign-in",
            Outcome::SignIn => {
                let next: String = url::form_urlencoded::byte_serialize(path.as_bytes()).collect();
                place == format!("/sign-in?next={next}")
            }
            Outcome::SignInAgain => match place.strip_prefix("/sign-in?again=1&next=") {
                Some(page) => client.get(page).await.status == 200,
                None => false,
            },
        };
        if !is_right {
            self.0.push(format!("{what}: leads to {place:?}"));
        }
    }

    /// Notes where a route that is open to all answers this caller in another way than a stranger.
    async fn open_routes(&mut self, premises: &Premises, kind: Kind, client: &Client, strangers: &[OpenVisit]) {
        for OpenVisit { visit, status } in strangers {
            let answer = visit.answer(premises, client).await;
            let what = format!("{}: {}", kind.name(), visit.name());
            self.expect(&what, &answer, *status, "");
            self.keeps(&what, &premises.hidden(kind, &visit.name()), &answer);
        }
        // The start and the way in lead on whoever is signed in.
        let face = if kind.is_operator() { "/admin" } else { "/me" };
        let start = client.get("/").await;
        let expected = if kind.is_session() { face } else { "/sign-in?next=%2F" };
        if start.header("location") != expected {
            self.0.push(format!("{}: / leads to {}", kind.name(), start.header("location")));
        }
        let expected = if kind.is_session() { 303 } else { 200 };
        self.expect(&format!("{}: /sign-in", kind.name()), &client.get("/sign-in").await, expected, "");
    }

    /// Notes where the gateway opens to another proof than a bearer for it, or to somebody who does not see the Space.
    async fn gateway(&mut self, premises: &Premises, kind: Kind, client: &Client) {
        let initialize = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "walker", "version": "1" },
        } });
        for (path, place) in
            [("/mcp", Place::Open), ("/mcp/spaces/{space_id}", Place::Open), ("/mcp/spaces/{space_id}", Place::Private)]
        {
            let request = client.request("POST", &premises.fill(path, place));
            let request = request.header("content-type", "application/json");
            let request = request.header("accept", "application/json, text/event-stream");
            let answer = client.send(request.body(initialize.to_string())).await;
            let (status, code) = match kind.proof {
                Proof::Token(Audience::Mcp, _) if kind.is_let_into(place) => (200, ""),
                Proof::Token(Audience::Mcp, _) => (404, "not_found"),
                _ => (401, "not_signed_in"),
            };
            let what = format!("{}: {path} ({place:?})", kind.name());
            self.expect(&what, &answer, status, code);
            self.keeps(&what, &premises.hidden(kind, &format!("POST {path}")), &answer);
        }
    }
}

/// What is wrong in one fixture with these kinds of caller.
async fn walk(kinds: &[Kind]) -> Findings {
    let premises = Premises::new().await;
    let clients = premises.clients(kinds).await;
    let mut findings = Findings::default();
    let open = open_visits(&premises).await;
    for (kind, client) in &clients {
        findings.gateway(&premises, *kind, client).await;
        findings.open_routes(&premises, *kind, client, &open).await;
    }
    let before = tables::dump(&premises.fixture.app).await;
    let visits = visits();
    for (name, ..) in EXCEPTIONS {
        assert!(visits.iter().any(|visit| visit.name() == *name), "{name} is gone: take it off the list");
    }
    for phase in [Phase::Refused, Phase::Done] {
        for (kind, client) in &clients {
            for visit in &visits {
                let expected = expected(visit, *kind);
                if phase != expected.phase() {
                    continue;
                }
                let what = format!("{}: {} ({:?})", kind.name(), visit.name(), visit.place);
                let answer = visit.answer(&premises, client).await;
                let path = premises.fill(&visit.path, visit.place);
                findings.meets(&what, client, &path, &answer, expected).await;
                findings.keeps(&what, &premises.hidden(*kind, &visit.name()), &answer);
            }
        }
        findings.0.extend(premises.wrong_changes(&before, kinds, phase).await);
    }
    findings
}

#[tokio::test]
async fn l80_each_page_answers_each_kind_of_caller_by_its_rule() {
    let mut findings = Findings::default();
    for kinds in groups(Kind::is_session) {
        findings.0.extend(walk(&kinds).await.0);
    }
    findings.end();
}

//! The fixture as the walk needs it, a client of each kind of caller, and what is hidden from them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use thinkwork_primitives::{Audience, Role, Scope};

use super::kinds::{IsFor, Kind, Person, Phase, Proof};
use super::things::Place;
use crate::guards::Fixture;
use crate::guards::fixture::{CLIENT_SECRET, PRIVATE_WORD};
use crate::guards::operations::body;
use crate::guards::tables;
use crate::harness::{Client, execute_sql};

/// What names things by their ids alone, to whom it does so whether they see them or not, and why.
const NAME_IDS: &[(&str, IsFor, &str)] = &[
    ("GET /v1/audit", Kind::is_of_the_tenant, "the record says what was done to what, by ids and never by content"),
    ("GET /v1/audit/export", Kind::is_of_the_tenant, "the same"),
    ("GET /admin/audit", Kind::is_of_the_tenant, "the same"),
    ("GET /.well-known/oauth-protected-resource/mcp/spaces/{space_id}", |_| true, "repeats the address, for any id"),
];

/// The fixture with two operators, where the owner is out of the private Space and each kind of thing of a Space is in
/// the private and in the open one.
pub struct Premises {
    pub fixture: Fixture,
    operator_in: Client,
    operator_out: Client,
    /// What a path's parameter stands for in the open Space -> the id.
    open: BTreeMap<&'static str, String>,
}

impl Premises {
    pub async fn new() -> Self {
        let fixture = Fixture::new().await;
        let operator_in = fixture.app.user("opal", Role::Operator).await;
        let operator_in = fixture.app.session_of(operator_in).await;
        let operator_out = fixture.app.user("oscar", Role::Operator).await;
        let operator_out = fixture.app.session_of(operator_out).await;
        let mut premises = Self { fixture, operator_in, operator_out, open: BTreeMap::new() };
        premises.members().await;
        premises.webhook().await;
        premises.second_connection().await;
        premises.threads().await;
        let fixture = &mut premises.fixture;
        fixture.owner.put("/v1/agent", body("PUT /v1/agent", fixture)).await.expect(200);
        // Another session of hers than the one that she calls with.
        let other = fixture.app.session_of(fixture.ana.user.unwrap()).await;
        let sessions = other.get("/v1/me/sessions").await.expect(200);
        let current = |session: &&Value| session["current"] == true;
        let session = sessions.json["items"].as_array().unwrap().iter().find(current).unwrap();
        fixture.ids.insert("sessions", session["id"].as_str().unwrap().to_owned());
        premises
    }

    async fn members(&mut self) {
        let Fixture { owner, ana, ids, .. } = &self.fixture;
        let member = |space: &str, user: &Client| format!("/v1/spaces/{space}/members/{}", user.user.unwrap());
        let (private, open) = (&ids["spaces"], &ids["open-space"]);
        owner.put(&member(private, &self.operator_in), json!({})).await.expect(200);
        owner.put(&member(open, ana), json!({})).await.expect(200);
        owner.delete(&member(private, owner)).await.expect(204);
        owner.get(&format!("/v1/spaces/{private}")).await.expect(404);
        self.open.insert("spaces", open.clone());
    }

    /// A webhook of the private Space with a delivery, in the place of those of the open one.
    async fn webhook(&mut self) {
        let body = json!({
            "name": format!("Marker {PRIVATE_WORD} hook"), "space_id": self.fixture.id("spaces"),
            "verification": { "scheme": "standard_webhooks" },
        });
        let webhook = self.operator_in.post("/v1/webhooks", body).await.expect(201).text_of("id");
        let sample = format!("/v1/webhooks/{webhook}/test");
        let delivery = self.operator_in.post(&sample, json!({})).await.expect(200).text_of("id");
        self.fixture.app.run_pending_jobs().await;
        for (kind, id) in [("webhooks", webhook), ("deliveries", delivery)] {
            self.open.insert(kind, self.fixture.ids.insert(kind, id).unwrap());
        }
    }

    /// Another connection of Ana's, so that both operations that end one find one.
    async fn second_connection(&mut self) {
        let auth = json!({ "mode": "user_oauth", "client_id": "by-hand", "client_secret": CLIENT_SECRET });
        let url = self.fixture.issuer.resource();
        let server = json!({ "name": "Marker journal", "slug": "journal", "url": url, "auth": auth });
        let server = self.fixture.owner.post("/v1/mcp-servers", server).await.expect(201).text_of("id");
        self.fixture.approve(&server).await;
        self.fixture.connect(&self.fixture.ana, &server).await;
        self.fixture.ids.insert("me/mcp-servers", server);
    }

    /// Threads of Ana in both Spaces, whose turns wait.
    async fn threads(&mut self) {
        let titles = [(Place::Private, format!("Marker {PRIVATE_WORD} plan")), (Place::Open, "Marker plan".to_owned())];
        for (place, title) in titles {
            let body = json!({ "space_id": self.id("spaces", place), "title": title, "text": title });
            let thread = self.fixture.ana.post("/v1/threads", body).await.expect(201).text_of("id");
            let turns = self.fixture.ana.get(&format!("/v1/threads/{thread}/turns")).await.expect(200);
            let turn = turns.json["items"][0]["id"].as_str().unwrap().to_owned();
            let ids = match place {
                Place::Private => &mut self.fixture.ids,
                Place::Open => &mut self.open,
            };
            ids.extend([("threads", thread), ("turns", turn)]);
        }
    }

    fn id(&self, kind: &str, place: Place) -> &str {
        let open = self.open.get(kind).filter(|_| place == Place::Open);
        open.map_or_else(|| self.fixture.id(kind), String::as_str)
    }

    /// A path with its parameters replaced by ids of real rows at this place.
    pub fn fill(&self, template: &str, place: Place) -> String {
        let is_of_members = template.contains("/members/");
        self.fixture.filled(template, |kind| match kind {
            "users" if is_of_members => self.fixture.ana.user.unwrap().to_string(),
            kind => self.id(kind, place).to_owned(),
        })
    }

    /// What an operation takes, about the Space at this place.
    pub fn body(&self, operation: &str, place: Place) -> Value {
        let mut body = body(operation, &self.fixture);
        if let Some(space) = body.get_mut("space_id") {
            *space = json!(self.id("spaces", place));
        }
        body
    }

    /// What the answer of this operation or page must not tell this caller: ids, and the word of the private Space.
    pub fn hidden(&self, kind: Kind, name: &str) -> Vec<String> {
        const IN_THE_SPACE: [&str; 6] = ["spaces", "threads", "turns", "messages", "webhooks", "deliveries"];
        if kind.is_known_to_api() && kind.is_let_into(Place::Private) {
            return Vec::new();
        }
        let is_hidden = |id: &str| match id {
            _ if !kind.is_of_the_tenant() || !kind.is_known_to_api() => true,
            "sessions" => true,
            "tokens" | "connections" => !kind.is_operator(),
            id => IN_THE_SPACE.contains(&id),
        };
        let names_ids = NAME_IDS.iter().any(|(named, to, _)| *named == name && to(kind));
        let ids = self.fixture.ids.iter().filter(|(id, _)| !names_ids && is_hidden(id)).map(|(_, id)| id);
        // What a change was sent comes back in its answer, and its texts carry the word of all content.
        let is_outside = !kind.is_of_the_tenant() || !kind.is_known_to_api();
        let content = (is_outside && name.starts_with("GET ")).then(|| "marker".to_owned());
        ids.cloned().chain([PRIVATE_WORD.to_owned()]).chain(content).collect()
    }

    /// A client of each of these kinds; afterwards their time has passed.
    pub async fn clients(&self, kinds: &[Kind]) -> Vec<(Kind, Client)> {
        let mut clients = Vec::new();
        for kind in kinds {
            let client = self.client(*kind).await;
            if kind.waits() > Duration::ZERO {
                client.get("/v1/me").await.expect(200);
            }
            clients.push((*kind, client));
        }
        self.fixture.app.clock.advance(kinds.iter().map(|kind| kind.waits()).max().unwrap_or_default());
        for (_, client) in &clients {
            // Notes that it was used, as the first call in a minute does.
            client.get("/v1/me").await;
        }
        clients
    }

    async fn client(&self, kind: Kind) -> Client {
        let app = &self.fixture.app;
        match kind.proof {
            Proof::Nothing => app.anonymous(),
            Proof::ForgedSession => {
                let mut forged = app.anonymous();
                forged.cookie = Some(format!("__Host-tw_session={}", "A".repeat(43)));
                forged
            }
            Proof::ForgedToken => app.bearer(&format!("twp_{}", "A".repeat(43))),
            Proof::Session | Proof::StaleSession | Proof::ExpiredSession => self.session(kind.person),
            Proof::SessionOfDisabled => {
                let operator = self.another_operator("dora").await;
                operator.get("/v1/me").await.expect(200);
                self.disable("dora").await;
                operator
            }
            Proof::Token(audience, scope) => self.token(&self.session(kind.person), kind, audience, scope).await,
            Proof::ExpiredToken => self.token(&self.session(kind.person), kind, Audience::Api, Scope::Admin).await,
            Proof::TokenOfDisabled => {
                let operator = self.another_operator("dirk").await;
                let token = self.token(&operator, kind, Audience::Api, Scope::Admin).await;
                token.get("/v1/me").await.expect(200);
                self.disable("dirk").await;
                token
            }
        }
    }

    /// Rows that these kinds of caller changed and must not have: any where all of them were refused, those of the
    /// tenant where they are of another.
    pub async fn wrong_changes(&self, before: &tables::Dump, kinds: &[Kind], phase: Phase) -> Vec<String> {
        let tenant = self.fixture.app.tenant.uuid();
        let tenant = [tenant.hyphenated().to_string(), tenant.simple().to_string().to_uppercase()];
        let is_ours = |row: &str| tenant.iter().any(|tenant| row.contains(tenant));
        let is_outside = kinds.iter().all(|kind| kind.person == Person::OtherOwner);
        let changes = tables::changes(before, &tables::dump(&self.fixture.app).await);
        let is_wrong = |row: &String| phase == Phase::Refused || is_outside && is_ours(row);
        let names: Vec<String> = kinds.iter().map(|kind| kind.name()).collect();
        let names = names.join(", ");
        changes.into_iter().filter(is_wrong).map(|row| format!("{names}: changed {row}")).collect()
    }

    fn session(&self, person: Person) -> Client {
        match person {
            Person::Nobody => self.fixture.app.anonymous(),
            Person::MemberIn => self.fixture.ana.clone(),
            Person::MemberOut => self.fixture.carl.clone(),
            Person::OperatorIn => self.operator_in.clone(),
            Person::OperatorOut => self.operator_out.clone(),
            Person::Owner | Person::Service => self.fixture.owner.clone(),
            Person::OtherOwner => self.fixture.other.clone(),
        }
    }

    async fn token(&self, maker: &Client, kind: Kind, audience: Audience, scope: Scope) -> Client {
        let kind = if kind.person == Person::Service { "service" } else { "personal" };
        let body = json!({ "name": "walker", "kind": kind, "audience": audience, "scopes": [scope] });
        let token = maker.post("/v1/tokens", body).await.expect(201).text_of("token");
        let mut client = self.fixture.app.bearer(&token);
        // What a browser would send along; a token goes its own way all the same.
        client.csrf.clone_from(&maker.csrf);
        client
    }

    /// One more operator in the private Space.
    async fn another_operator(&self, name: &str) -> Client {
        let user = self.fixture.app.user(name, Role::Operator).await;
        let client = self.fixture.app.session_of(user).await;
        let member = format!("/v1/spaces/{}/members/{user}", self.fixture.id("spaces"));
        self.operator_in.put(&member, json!({})).await.expect(200);
        client
    }

    /// Disables the person in their row alone, so that their session and token are still there and it is the row that
    /// counts.
    async fn disable(&self, name: &str) {
        let tx = self.fixture.app.slices().db.write(self.fixture.app.tenant).await.unwrap();
        let sql = format!("UPDATE user_account SET disabled_at = 1 WHERE email = '{name}@acme.test'");
        assert_eq!(execute_sql(&tx, &sql).await.unwrap().rows_affected(), 1);
        tx.commit().await.unwrap();
    }
}

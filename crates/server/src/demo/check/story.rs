//! The steps themselves.

use std::time::Duration;

use serde_json::{Value, json};

use super::people::{ONLY_ANAS, TOOL_LINE, Who, field, items, must};
use super::{Check, Error, Fact};
use crate::audit::{Checkpoints, Evidence};
use crate::demo::seed::text;
use crate::demo::{ACCESS_TOKEN_LIFE, at};

/// The sample account that Olivia picks on the consent page.
const ACCOUNT: &str = "ana@sample.test";

fn nobodys() -> Value {
    json!({ "kind": "none" })
}

/// The reason for which `notes` was left out of a turn, with its link.
fn left_out(turn: &Value) -> Result<(String, Option<&str>), Error> {
    let entries = field(turn, "/tools_left_out").as_array().map_or(&[][..], Vec::as_slice);
    let entry = entries.iter().find(|entry| field(entry, "/server") == "notes");
    let entry = entry.ok_or_else(|| Error::Wrong(format!("notes is not left out of {turn}")))?;
    Ok((text(entry, "/reason")?, field(entry, "/connect_url").as_str()))
}

impl Check<'_> {
    pub(super) async fn server_ready(&mut self) -> Result<Fact, Error> {
        let url = self.house.at("/readyz");
        self.until("readiness", async |check| {
            let answer = check.house.olivia.browser.get(&url).await?;
            Ok((answer.status == 200).then_some(()))
        })
        .await?;
        let server = json!({ "kind": "system", "id": "server", "name": "the server" });
        let detail = json!({ "url": self.stage.url.as_str(), "sample_servers": self.stage.outside.parts() });
        Ok(Fact { requester: server, subject: nobodys(), detail })
    }

    pub(super) async fn owner_signs_in(&mut self) -> Result<Fact, Error> {
        self.house.owner_signs_in().await?;
        for page in ["/me", "/admin"] {
            self.house.olivia.browser.get(&self.house.at(page)).await?.require(200)?;
        }
        Ok(Fact {
            requester: self.person(Who::Olivia),
            subject: nobodys(),
            detail: json!({ "pages": ["/me", "/admin"] }),
        })
    }

    pub(super) async fn server_registered_pending(&mut self) -> Result<Fact, Error> {
        self.house.space_create().await?;
        let made = self.house.server_register(&self.stage.outside).await?;
        must(field(&made, "/status") == "pending", || format!("a new server is not pending: {made}"))?;
        let issuer = self.stage.outside.sample_id.origin().ascii_serialization();
        must(field(&made, "/issuer") == issuer.as_str(), || format!("its issuer was not found: {made}"))?;
        let detail = json!({ "server": self.house.server, "issuer": issuer, "definition_hash": field(&made, "/definition_hash") });
        Ok(Fact { requester: self.person(Who::Olivia), subject: nobodys(), detail })
    }

    pub(super) async fn server_approved(&mut self) -> Result<Fact, Error> {
        let path = format!("/v1/mcp-servers/{}", self.house.server);
        let shown = self.house.owner_reads(&path).await?;
        let hash = text(&shown, "/definition_hash")?;
        // What the reviewer did not see cannot be approved.
        let other = json!({ "definition_hash": hash.chars().rev().collect::<String>() });
        self.house.owner_posts(&format!("{path}/approve"), &other, 409).await?;
        let approved = self.house.server_approve(&shown, &[]).await?;
        must(field(&approved, "/status") == "approved", || format!("the server is not approved: {approved}"))?;
        self.house.server_into_space().await?;
        let detail = json!({ "definition_hash": hash, "space": self.house.space });
        Ok(Fact { requester: self.person(Who::Olivia), subject: nobodys(), detail })
    }

    pub(super) async fn member_connects(&mut self) -> Result<Fact, Error> {
        let house = &mut self.house;
        let connect = house.at(&format!("/v1/me/mcp-servers/{}/connect", house.server));
        let browser = &mut house.olivia.browser;
        let started = browser.json("POST", &connect, &json!({ "return_to": "/me/mcp-servers" })).await?.require(200)?;
        let authorize = text(&started.json(), "/authorize_url")?;
        let authorize = authorize.parse().map_err(|_| Error::Wrong(format!("{authorize} is no address")))?;
        let consent = browser.get(&authorize).await?.require(200)?;
        let request = consent.form_field("request").unwrap_or_default().to_owned();
        let allow = [("request", request.as_str()), ("account", ACCOUNT), ("decision", "allow")];
        let allowed = browser.form(&at(&self.stage.outside.sample_id, "/consent"), &allow).await?.require(302)?;
        let callback = allowed.location()?;
        must(callback.origin() == house.url.origin(), || format!("Sample ID sends to {callback}"))?;
        let mut back = browser.get(&callback).await?;
        if back.status == 302 || back.status == 303 {
            let target = back.location()?;
            let outcome =
                target.query_pairs().find(|(name, _)| name == "status").map(|(_, status)| status.into_owned());
            must(outcome.as_deref() == Some("connected"), || format!("the callback leads to {target}"))?;
            back = browser.get(&target).await?;
        }
        back.require(200)?;
        let connections = self.reads(Who::Olivia, "/v1/me/connections").await?;
        let mine = items(&connections).iter().find(|one| field(one, "/mcp_server_id") == self.house.server.as_str());
        let mine = mine.ok_or_else(|| Error::Wrong(format!("there is no connection to Notes: {connections}")))?;
        must(field(mine, "/status") == "connected", || format!("the connection is not connected: {mine}"))?;
        self.mine.connection = text(mine, "/id")?;
        let subject = json!({ "kind": "user", "user_id": self.house.olivia.id, "connection_id": self.mine.connection });
        let detail = json!({ "account": field(mine, "/account"), "scopes": field(mine, "/scopes") });
        Ok(Fact { requester: self.person(Who::Olivia), subject, detail })
    }

    /// Only now are the tools known; until an operator says what they do, each counts as `send`.
    pub(super) async fn effects_recorded(&mut self) -> Result<Fact, Error> {
        let path = format!("/v1/mcp-servers/{}", self.house.server);
        self.house.owner_posts(&format!("{path}/tools/refresh"), &json!({}), 200).await?;
        let shown = self.house.owner_reads(&path).await?;
        let approved = self.house.server_approve(&shown, &[("search", "read"), ("share", "send")]).await?;
        let tools = field(&approved, "/tools").as_array().map_or(&[][..], Vec::as_slice);
        let effect_of = |name: &str| {
            tools.iter().find(|tool| field(tool, "/name") == name).map(|tool| field(tool, "/effect").clone())
        };
        let found = (effect_of("search"), effect_of("share"));
        must(found == (Some(json!("read")), Some(json!("send"))), || format!("the effects are not kept: {approved}"))?;
        let subject = json!({ "kind": "user", "user_id": self.house.olivia.id, "connection_id": self.mine.connection });
        Ok(Fact { requester: self.person(Who::Olivia), subject, detail: json!({ "search": "read", "share": "send" }) })
    }

    pub(super) async fn member_runs_tool(&mut self) -> Result<Fact, Error> {
        let body = json!({ "space_id": self.house.space, "title": "Open invoices", "text": TOOL_LINE });
        let made = self.house.owner_posts("/v1/threads", &body, 201).await?;
        self.mine.thread = text(&made, "/id")?;
        let thread = self.mine.thread.clone();
        let turn = self.turn_of(Who::Olivia, &thread, None).await?;
        let fact = self.used_own_token(&turn).await?;
        let calls = self.upstream_calls().await?;
        must(calls == [ACCOUNT], || format!("Notes saw {calls:?}"))?;
        Ok(fact.with("upstream_saw", calls))
    }

    /// The turn of Olivia called the tool with her own token, and the thread has the answer.
    async fn used_own_token(&mut self, turn: &Value) -> Result<Fact, Error> {
        must(field(turn, "/status") == "succeeded", || format!("the turn did not succeed: {turn}"))?;
        must(field(turn, "/requester/id") == self.house.olivia.id.as_str(), || format!("another requester: {turn}"))?;
        let steps = field(turn, "/steps").as_array().map_or(&[][..], Vec::as_slice);
        let step = steps.iter().find(|step| field(step, "/name") == "notes__search");
        let step = step.ok_or_else(|| Error::Wrong(format!("no step called the tool: {turn}")))?;
        let subject = field(step, "/credential_subject").clone();
        let owner_and_grant = (field(&subject, "/user_id"), field(&subject, "/connection_id"));
        let owner = json!(self.house.olivia.id);
        let grant = json!(self.mine.connection);
        must(owner_and_grant == (&owner, &grant), || format!("another credential subject: {step}"))?;
        let answer = self.answer_of(Who::Olivia, turn).await?;
        must(answer.contains(ONLY_ANAS), || format!("the answer is not in the thread: {answer}"))?;
        let thread = field(turn, "/thread_id");
        let id = field(turn, "/id");
        let detail = json!({ "thread": thread, "turn": id, "tool": "notes__search" });
        Ok(Fact { requester: self.named(field(turn, "/requester")), subject, detail })
    }

    pub(super) async fn webhook_accepted(&mut self) -> Result<Fact, Error> {
        self.house.webhook_create(&self.stage.outside).await?;
        let calls_before = self.upstream_calls().await?.len();
        let billing = self.stage.outside.billing.clone();
        self.house.olivia.browser.form(&at(&billing, "/send"), &[]).await?.require(303)?;
        let log = self.house.olivia.browser.get(&at(&billing, "/sent")).await?.require(200)?.json();
        let sent = items(&log).last().cloned().unwrap_or_default();
        must(field(&sent, "/status") == 202, || format!("the event was not accepted: {sent}"))?;
        let path = format!("/v1/deliveries/{}", text(&sent, "/delivery_id")?);
        let delivery = self
            .until("applying the event", async |check| {
                let delivery = check.house.owner_reads(&path).await?;
                Ok((field(&delivery, "/result") == "applied").then_some(delivery))
            })
            .await?;
        let thread = text(&delivery, "/thread_id")?;
        let shown = self.reads(Who::Olivia, &format!("/v1/threads/{thread}")).await?;
        must(field(&shown, "/space_id") == self.house.space.as_str(), || format!("not in the Space: {shown}"))?;
        let turn = self.turn_of(Who::Olivia, &thread, None).await?;
        must(field(&turn, "/requester/kind") == "webhook", || format!("another requester: {turn}"))?;
        must(field(&turn, "/tools_offered") == &json!([]), || format!("tools were offered: {turn}"))?;
        let (reason, _) = left_out(&turn)?;
        must(reason == "no_user", || format!("notes is left out for {reason}"))?;
        let calls = self.upstream_calls().await?.len();
        must(calls == calls_before, || "a webhook's turn reached Notes".to_owned())?;
        let requester = self.named(field(&turn, "/requester"));
        let subject = field(&turn, "/credential_subject").clone();
        must(field(&subject, "/kind") == "none", || format!("somebody's credential in a webhook's turn: {turn}"))?;
        let detail =
            json!({ "status": 202, "thread": thread, "turn": field(&turn, "/id"), "left_out": { "notes": reason } });
        Ok(Fact { requester, subject, detail })
    }

    pub(super) async fn second_member_joins(&mut self) -> Result<Fact, Error> {
        self.house.member_joins().await?;
        self.house.ben.browser.get(&self.house.at("/me")).await?.require(200)?;
        Ok(Fact {
            requester: self.person(Who::Ben),
            subject: nobodys(),
            detail: json!({ "by": self.person(Who::Olivia) }),
        })
    }

    /// In Olivia's own thread, where her grant would be within reach if there were a fallback.
    pub(super) async fn second_member_gets_connect_link(&mut self) -> Result<Fact, Error> {
        let thread = self.mine.thread.clone();
        let calls_before = self.upstream_calls().await?.len();
        let message = self.writes(Who::Ben, &thread, TOOL_LINE).await?;
        let turn = self.turn_of(Who::Ben, &thread, Some(&message)).await?;
        must(field(&turn, "/requester/id") == self.house.ben.id.as_str(), || format!("another requester: {turn}"))?;
        must(field(&turn, "/tools_offered") == &json!([]), || format!("tools were offered: {turn}"))?;
        let (reason, link) = left_out(&turn)?;
        must(reason == "needs_connection", || format!("notes is left out for {reason}"))?;
        let link = link.ok_or_else(|| Error::Wrong(format!("there is no link to connect: {turn}")))?.to_owned();
        let page = link.parse().map_err(|_| Error::Wrong(format!("{link} is no address")))?;
        self.house.ben.browser.get(&page).await?.require(200)?;
        let answer = self.answer_of(Who::Ben, &turn).await?;
        must(!answer.contains(ONLY_ANAS), || "somebody else's notes reached the second member".to_owned())?;
        let calls = self.upstream_calls().await?.len();
        must(calls == calls_before, || "an unconnected person's turn reached Notes".to_owned())?;
        let requester = self.named(field(&turn, "/requester"));
        let subject = used_subject(&turn);
        let detail = json!({ "turn": field(&turn, "/id"), "left_out": { "notes": reason }, "connect_url": link });
        Ok(Fact { requester, subject, detail })
    }

    pub(super) async fn foreign_token_never_used(&mut self) -> Result<Fact, Error> {
        let calls = self.upstream_calls().await?;
        must(calls == [ACCOUNT], || format!("Notes saw {calls:?}"))?;
        let filter = format!("/v1/audit?action=credential.opened&thread={}&limit=200", self.mine.thread);
        let opened = self.house.owner_reads(&filter).await?;
        let events = items(&opened);
        let own = |event: &Value| {
            field(event, "/requester/id") == self.house.olivia.id.as_str()
                && field(event, "/credential_subject/user_id") == self.house.olivia.id.as_str()
        };
        must(!events.is_empty() && events.iter().all(own), || {
            format!("not only Olivia's in Olivia's turns: {opened}")
        })?;
        let subject = field(events.first().unwrap_or(&Value::Null), "/credential_subject").clone();
        let detail = json!({ "upstream_saw": calls, "openings_in_thread": events.len() });
        Ok(Fact { requester: self.person(Who::Olivia), subject, detail })
    }

    pub(super) async fn token_refreshed(&mut self) -> Result<Fact, Error> {
        let before = self.sample_id_count("refreshes").await?;
        must(before == 0, || format!("Sample ID saw {before} refreshes before the first was due"))?;
        self.stage.clock.advance(ACCESS_TOKEN_LIFE + Duration::from_secs(1));
        let thread = self.mine.thread.clone();
        let message = self.writes(Who::Olivia, &thread, TOOL_LINE).await?;
        let turn = self.turn_of(Who::Olivia, &thread, Some(&message)).await?;
        let fact = self.used_own_token(&turn).await?;
        let refreshes = self.sample_id_count("refreshes").await?;
        must(refreshes == 1, || format!("Sample ID saw {refreshes} refreshes instead of one"))?;
        Ok(fact.with("refreshes", refreshes))
    }

    pub(super) async fn disconnected(&mut self) -> Result<Fact, Error> {
        let url = self.house.at(&format!("/v1/me/connections/{}", self.mine.connection));
        let ended = self.house.olivia.browser.delete(&url).await?.require(200)?.json();
        let results = field(&ended, "/revocations").as_array().map_or(&[][..], Vec::as_slice);
        let revoked = |one: &Value| field(one, "/result") == "revoked";
        must(!results.is_empty() && results.iter().all(revoked), || format!("not all is revoked: {ended}"))?;
        let seen = self.sample_id_count("revocations").await?;
        must(seen > 0, || "Sample ID saw no revocation".to_owned())?;
        let subject = json!({ "kind": "user", "user_id": self.house.olivia.id, "connection_id": self.mine.connection });
        Ok(Fact { requester: self.person(Who::Olivia), subject, detail: ended })
    }

    pub(super) async fn next_call_finds_no_tool(&mut self) -> Result<Fact, Error> {
        let thread = self.mine.thread.clone();
        let calls_before = self.upstream_calls().await?.len();
        let message = self.writes(Who::Olivia, &thread, TOOL_LINE).await?;
        let turn = self.turn_of(Who::Olivia, &thread, Some(&message)).await?;
        must(field(&turn, "/tools_offered") == &json!([]), || format!("tools were offered: {turn}"))?;
        let (reason, _) = left_out(&turn)?;
        must(reason == "needs_connection", || format!("notes is left out for {reason}"))?;
        let calls = self.upstream_calls().await?.len();
        must(calls == calls_before, || "Notes was called after the disconnect".to_owned())?;
        let detail = json!({ "turn": field(&turn, "/id"), "left_out": { "notes": reason } });
        Ok(Fact { requester: self.named(field(&turn, "/requester")), subject: used_subject(&turn), detail })
    }

    /// Waits until everything is sealed, then verifies the chain as `thinkwork audit verify` does.
    pub(super) async fn audit_verifies(&mut self) -> Result<Fact, Error> {
        let audit = self.stage.audit.clone();
        let tenant = self.stage.tenant;
        let failed = |error: crate::audit::Error| Error::Wrong(error.to_string());
        self.until("sealing the record", async |_| Ok((audit.unsealed().await.map_err(failed)? == 0).then_some(())))
            .await?;
        let heads = audit.heads().await.map_err(failed)?;
        let evidence = Evidence { heads: &heads, checkpoints: &Checkpoints::default() };
        let verified = audit.verify(tenant, &evidence, |_| {}).await.map_err(failed)?;
        must(verified.findings.is_empty(), || format!("the record does not hold: {:?}", verified.findings))?;
        must(verified.links > 0, || "the record is empty".to_owned())?;
        let server = json!({ "kind": "system", "id": "server", "name": "the server" });
        let detail = json!({ "events": verified.links, "checkpoints": verified.checkpoints });
        Ok(Fact { requester: server, subject: nobodys(), detail })
    }
}

/// Whose credential a turn's steps opened: nobody's where no step opened one.
fn used_subject(turn: &Value) -> Value {
    let steps = field(turn, "/steps").as_array().map_or(&[][..], Vec::as_slice);
    let used = steps.iter().map(|step| field(step, "/credential_subject"));
    let mut used = used.filter(|subject| field(subject, "/kind") != "none");
    used.next().cloned().unwrap_or_else(nobodys)
}

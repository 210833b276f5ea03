//! What people of the check do in ThinkWork, and looking at what came of it.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Check, Error};
use crate::demo::at;
use crate::demo::seed::text;

/// How long something may take that happens by itself; usually it is a few milliseconds.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(40);
/// What a tool is asked for.
pub(super) const TOOL_LINE: &str = "/tool notes__search {\"query\":\"invoice\"}";
/// What only Ana's notes contain.
pub(super) const ONLY_ANAS: &str = "INV-2041";

/// What is known of Olivia's work.
#[derive(Default)]
pub(super) struct Mine {
    pub thread: String,
    pub connection: String,
}

/// Who of the two.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Olivia,
    Ben,
}

/// Fails with this sentence unless it holds.
pub(super) fn must(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(Error::Wrong(otherwise())) }
}

/// A field, or null.
pub(super) fn field<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}

/// The items of a list.
pub(super) fn items(list: &Value) -> &[Value] {
    field(list, "/items").as_array().map_or(&[], Vec::as_slice)
}

impl Check<'_> {
    /// A person as a requester, for steps that are the person's own request and leave no turn.
    pub(super) fn person(&self, who: Who) -> Value {
        let person = if who == Who::Olivia { &self.house.olivia } else { &self.house.ben };
        json!({ "kind": "user", "id": person.id, "name": person.name })
    }

    /// A recorded requester with the name we know.
    pub(super) fn named(&self, requester: &Value) -> Value {
        let id = field(requester, "/id").as_str().unwrap_or_default();
        let known = [
            (&self.house.olivia.id, self.house.olivia.name),
            (&self.house.ben.id, self.house.ben.name),
            (&self.house.webhook, "billing"),
        ];
        let name = known.into_iter().find(|(known, _)| *known == id).map(|(_, name)| name);
        json!({ "kind": field(requester, "/kind"), "id": id, "name": name })
    }

    /// Reads as this person.
    pub(super) async fn reads(&mut self, who: Who, path: &str) -> Result<Value, Error> {
        let url = self.house.at(path);
        let person = if who == Who::Olivia { &mut self.house.olivia } else { &mut self.house.ben };
        Ok(person.browser.get(&url).await?.require(200)?.json())
    }

    /// Writes `text` into the thread as this person, typed in their session; the message's id.
    pub(super) async fn writes(&mut self, who: Who, thread: &str, line: &str) -> Result<String, Error> {
        let url = self.house.at(&format!("/v1/threads/{thread}/messages"));
        let person = if who == Who::Olivia { &mut self.house.olivia } else { &mut self.house.ben };
        let made = person.browser.json("POST", &url, &json!({ "text": line })).await?.require(201)?.json();
        text(&made, "/id")
    }

    /// The ended turn that answers this message; the thread's only one where no message is named.
    pub(super) async fn turn_of(&mut self, who: Who, thread: &str, message: Option<&str>) -> Result<Value, Error> {
        let until = Instant::now() + PATIENCE;
        loop {
            let turns = self.reads(who, &format!("/v1/threads/{thread}/turns")).await?;
            let answers = |turn: &&Value| message.is_none_or(|id| field(turn, "/message_id") == id);
            let found = items(&turns).iter().find(answers);
            let status = found.map(|turn| field(turn, "/status").as_str().unwrap_or_default());
            match (found, status) {
                (Some(turn), Some("succeeded" | "failed" | "cancelled" | "waiting_approval")) => {
                    let id = text(turn, "/id")?;
                    return self.reads(who, &format!("/v1/turns/{id}")).await;
                }
                _ if Instant::now() >= until => {
                    return Err(Error::Wrong(format!("the turn in {thread} did not end in time: {turns}")));
                }
                _ => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }

    /// What the agent and the server wrote in the thread in this turn.
    pub(super) async fn answer_of(&mut self, who: Who, turn: &Value) -> Result<String, Error> {
        let thread = text(turn, "/thread_id")?;
        let messages = self.reads(who, &format!("/v1/threads/{thread}/messages")).await?;
        let of_turn = items(&messages).iter().filter(|message| field(message, "/turn_id") == field(turn, "/id"));
        let texts: Vec<&str> = of_turn.filter_map(|message| field(message, "/text").as_str()).collect();
        Ok(texts.join("\n"))
    }

    /// The accounts in the Notes server's own log, one per call.
    pub(super) async fn upstream_calls(&mut self) -> Result<Vec<String>, Error> {
        let url = at(&self.stage.outside.notes, "/calls");
        let log = self.house.olivia.browser.get(&url).await?.require(200)?.json();
        items(&log).iter().map(|call| text(call, "/account")).collect()
    }

    /// A number of Sample ID's own log.
    pub(super) async fn sample_id_count(&mut self, what: &str) -> Result<u64, Error> {
        let url = at(&self.stage.outside.sample_id, "/log");
        let log = self.house.olivia.browser.get(&url).await?.require(200)?.json();
        let count = log.get(what).and_then(Value::as_u64);
        count.ok_or_else(|| Error::Wrong(format!("Sample ID counts no {what}")))
    }

    /// Looks until it is there.
    pub(super) async fn until<T>(
        &mut self,
        what: &str,
        mut look: impl AsyncFnMut(&mut Self) -> Result<Option<T>, Error>,
    ) -> Result<T, Error> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look(self).await? {
                return Ok(found);
            }
            must(Instant::now() < until, || format!("{what} did not happen in time"))?;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

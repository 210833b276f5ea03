//! `thinkwork space` and `thinkwork thread`: workrooms and the work in them.

use std::io::Read as _;

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};
use thinkwork_primitives::{SpaceId, ThreadId, TurnId, UserId};

use super::super::Failure;
use super::api::Api;
use super::{Part, Seen, show};

/// What to do with Spaces.
#[derive(Subcommand)]
pub enum Space {
    /// List the Spaces that you can see.
    List {
        /// Which part of the list.
        #[command(flatten)]
        part: Part,
    },
    /// Make a Space.
    Add {
        /// Its short name, like finance.
        slug: String,
        /// Its name for people.
        name: String,
        /// Who sees it. A service token makes public ones alone, since it is a member of nothing.
        #[arg(long, value_enum, default_value = "private")]
        access: Access,
        /// What the agent is told in each of its turns.
        #[arg(long)]
        prompt: Option<String>,
    },
    /// Show one Space.
    Show {
        /// The Space, spc_….
        id: SpaceId,
    },
    /// Change a Space. To open a private one, sign in in a browser: it shows to everyone.
    Edit {
        /// The Space, spc_….
        id: SpaceId,
        /// Its name for people.
        #[arg(long)]
        name: Option<String>,
        /// Let its members alone see it.
        #[arg(long)]
        private: bool,
        /// What the agent is told in each of its turns; an empty one tells it nothing.
        #[arg(long)]
        prompt: Option<String>,
        /// Whether an event of a closed thread reopens it.
        #[arg(long)]
        reopen: Option<bool>,
        /// What was seen before.
        #[command(flatten)]
        seen: Seen,
    },
    /// List the members of a Space.
    Members {
        /// The Space, spc_….
        space: SpaceId,
        /// Which part of the list.
        #[command(flatten)]
        part: Part,
    },
    /// Let a person into a Space.
    MemberAdd {
        /// The Space, spc_….
        space: SpaceId,
        /// The person, usr_….
        user: UserId,
    },
    /// Take a person out of a Space.
    MemberRemove {
        /// The Space, spc_….
        space: SpaceId,
        /// The person, usr_….
        user: UserId,
    },
}

/// Who sees a Space.
#[derive(Clone, Copy, ValueEnum)]
pub enum Access {
    /// Everyone of the tenant.
    Public,
    /// Its members alone.
    Private,
}

/// What to do with threads.
#[derive(Subcommand)]
pub enum Thread {
    /// List the threads that you can see, the latest first.
    List {
        /// Only of this Space, spc_….
        #[arg(long)]
        space: Option<SpaceId>,
        /// Only with this status: backlog, todo, in_progress, in_review, blocked, done or cancelled.
        #[arg(long)]
        status: Option<String>,
        /// Only with these words.
        #[arg(long, value_name = "WORDS")]
        search: Option<String>,
        /// Which part of the list.
        #[command(flatten)]
        part: Part,
    },
    /// Show a thread: its messages, its turns and their steps. With --json it is the whole export.
    Show {
        /// The thread, like CHAT-….
        id: ThreadId,
    },
    /// Write a message.
    Say {
        /// The thread, like CHAT-….
        id: ThreadId,
        /// The text; - reads it from standard input.
        text: String,
    },
    /// Change what a thread is called, where it stands or how pressing it is.
    Edit {
        /// The thread, like CHAT-….
        id: ThreadId,
        /// Its title.
        #[arg(long)]
        title: Option<String>,
        /// Where it stands: backlog, todo, in_progress, in_review, blocked, done or cancelled.
        #[arg(long)]
        status: Option<String>,
        /// How pressing it is: low, medium, high, urgent or critical.
        #[arg(long)]
        priority: Option<String>,
        /// What was seen before.
        #[command(flatten)]
        seen: Seen,
    },
    /// Stop a turn that has not ended.
    Cancel {
        /// The turn, trn_…, as `show` prints it.
        turn: TurnId,
    },
    /// Begin a thread with a first message.
    New {
        /// The Space, spc_….
        #[arg(long)]
        space: SpaceId,
        /// Its title [default: the first line of the text].
        #[arg(long)]
        title: Option<String>,
        /// The text; - reads it from standard input.
        text: String,
    },
}

pub(super) async fn run_space(api: &Api, command: Space) -> Result<(), Failure> {
    let member = |space: SpaceId, user: UserId| format!("/v1/spaces/{space}/members/{user}");
    match command {
        Space::List { part } => {
            let answer = api.get(&part.of("/v1/spaces", &[])).await?;
            let columns = [("ID", "/id"), ("SLUG", "/slug"), ("NAME", "/name"), ("ACCESS", "/access")];
            let empty = "There are no Spaces that you can see; make one with `thinkwork space add SLUG NAME`.";
            api.show(&answer, |answer| show::table(answer, &columns, empty));
        }
        Space::Add { slug, name, access, prompt } => {
            let access = match access {
                Access::Public => "public",
                Access::Private => "private",
            };
            let body = json!({ "slug": slug, "name": name, "access": access, "prompt": prompt });
            let answer = api.post("/v1/spaces", &body).await?;
            api.show(&answer, room);
        }
        Space::Show { id } => {
            let answer = api.get(&format!("/v1/spaces/{id}")).await?;
            api.show(&answer, room);
        }
        Space::Edit { id, name, private, prompt, reopen, seen } => {
            let fields = [
                ("name", name.map(Value::from)),
                ("access", private.then(|| "private".into())),
                ("prompt", prompt.map(Value::from)),
                ("reopen", reopen.map(Value::from)),
            ];
            let answer = api.patch(&format!("/v1/spaces/{id}"), &fields, &seen).await?;
            api.show(&answer, room);
        }
        Space::Members { space, part } => {
            let answer = api.get(&part.of(&format!("/v1/spaces/{space}/members"), &[])).await?;
            let columns = [("PERSON", "/user_id"), ("SINCE", "/joined_at")];
            api.show(&answer, |answer| show::table(answer, &columns, "Nobody is a member of this Space."));
        }
        Space::MemberAdd { space, user } => {
            let answer = api.put(&member(space, user), &json!({})).await?;
            api.show(&answer, |_| say!("They are a member of this Space now."));
        }
        Space::MemberRemove { space, user } => {
            api.delete(&member(space, user)).await?;
            api.done("They are no longer a member of this Space.");
        }
    }
    Ok(())
}

pub(super) async fn run_thread(api: &Api, command: Thread) -> Result<(), Failure> {
    match command {
        Thread::List { space, status, search, part } => {
            let space = space.map(|space| space.to_string());
            let filters = [("space", space.as_deref()), ("status", status.as_deref()), ("q", search.as_deref())];
            let answer = api.get(&part.of("/v1/threads", &filters)).await?;
            let columns = [
                ("ID", "/id"),
                ("STATUS", "/status"),
                ("WHO ASKED", "/requester/kind"),
                ("UPDATED", "/updated_at"),
                ("TITLE", "/title"),
            ];
            let empty = "There are no threads that fit; begin one with `thinkwork thread new --space spc_… TEXT`.";
            api.show(&answer, |answer| show::table(answer, &columns, empty));
        }
        Thread::Show { id } => {
            let answer = api.get(&format!("/v1/threads/{id}/export")).await?;
            api.show(&answer, whole);
        }
        Thread::Say { id, text } => {
            let body = json!({ "text": given(text)? });
            let answer = api.post(&format!("/v1/threads/{id}/messages"), &body).await?;
            api.show(&answer, |answer| show::lines(answer, &[("Message", "/id"), ("Number", "/seq")]));
        }
        Thread::Edit { id, title, status, priority, seen } => {
            let fields = [
                ("title", title.map(Value::from)),
                ("status", status.map(Value::from)),
                ("priority", priority.map(Value::from)),
            ];
            let answer = api.patch(&format!("/v1/threads/{id}"), &fields, &seen).await?;
            let labels = [("Thread", "/id"), ("Title", "/title"), ("Status", "/status"), ("Priority", "/priority")];
            api.show(&answer, |answer| show::lines(answer, &labels));
        }
        Thread::Cancel { turn } => {
            let answer = api.post(&format!("/v1/turns/{turn}/cancel"), &json!({})).await?;
            let labels = [("Turn", "/id"), ("Status", "/status"), ("Thread", "/thread_id")];
            api.show(&answer, |answer| show::lines(answer, &labels));
        }
        Thread::New { space, title, text } => {
            let body = json!({ "space_id": space, "title": title, "text": given(text)? });
            let answer = api.post("/v1/threads", &body).await?;
            api.show(&answer, |answer| show::lines(answer, &[("Thread", "/id"), ("Title", "/title")]));
        }
    }
    Ok(())
}

fn room(answer: &Value) {
    let labels = [
        ("Id", "/id"),
        ("Slug", "/slug"),
        ("Name", "/name"),
        ("Access", "/access"),
        ("Events reopen threads", "/reopen"),
        ("The agent is told", "/prompt"),
    ];
    show::lines(answer, &labels);
}

/// The text itself, or standard input for `-`.
fn given(text: String) -> Result<String, Failure> {
    if text != "-" {
        return Ok(text);
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(Failure::failed)?;
    Ok(text)
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("-")
}

/// Who asked and whose credential: on every piece of work that is shown.
fn attribution(work: &Value) -> String {
    format!("asked by {} {}, {}", text(work, "/requester/kind"), text(work, "/requester/id"), credential(work))
}

/// Whose credential; all that a step says of itself, since who asked is its turn's.
fn credential(work: &Value) -> String {
    match text(work, "/credential_subject/kind") {
        "user" => format!("using the credential of {}", text(work, "/credential_subject/user_id")),
        "tenant" => "using the tenant's credential".to_owned(),
        _ => "no personal credential".to_owned(),
    }
}

fn whole(answer: &Value) {
    let labels = [
        ("Thread", "/thread/id"),
        ("Title", "/thread/title"),
        ("Status", "/thread/status"),
        ("Space", "/thread/space_id"),
    ];
    show::lines(answer, &labels);
    for message in show::list(answer, "messages") {
        say!("\n{}  {}  ({})", text(message, "/created_at"), text(message, "/role"), attribution(message));
        show::plain(text(message, "/text")).lines().for_each(|line| say!("  {line}"));
    }
    for turn in show::list(answer, "turns") {
        say!("\nTurn {}  {}  ({})", text(turn, "/id"), text(turn, "/status"), attribution(turn));
        for step in show::list(turn, "steps") {
            let name = show::plain(text(step, "/name"));
            say!("  {}  {name}  {}  ({})", text(step, "/kind"), text(step, "/status"), credential(step));
        }
        for left in show::list(turn, "tools_left_out") {
            say!("  left out: {} because {}", show::plain(text(left, "/server")), text(left, "/reason"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_shown_with_who_asked_and_whose_credential() {
        let work = json!({ "requester": { "kind": "user", "id": "usr_1" }, "credential_subject": { "kind": "user", "user_id": "usr_1" } });
        assert_eq!(attribution(&work), "asked by user usr_1, using the credential of usr_1");
        let work =
            json!({ "requester": { "kind": "webhook", "id": "whk_1" }, "credential_subject": { "kind": "none" } });
        assert_eq!(attribution(&work), "asked by webhook whk_1, no personal credential");
    }
}

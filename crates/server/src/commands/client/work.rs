//! `thinkwork space` and `thinkwork thread`: workrooms and the work in them.

use std::io::Read as _;

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};
use thinkwork_primitives::{SpaceId, ThreadId, TurnId, UserId};

use super::super::CommandError;
use super::api::Api;
use super::{IfVersionArgs, PageArgs, show};

/// What to do with Spaces.
#[derive(Subcommand)]
pub enum Space {
    /// List Spaces.
    List {
        /// Page of the list.
        #[command(flatten)]
        part: PageArgs,
    },
    /// Create a Space.
    Add {
        /// Slug, for example finance.
        slug: String,
        /// Name.
        name: String,
        /// Visibility. Service tokens can only create public Spaces.
        #[arg(long, value_enum, default_value = "private")]
        access: Access,
        /// Instructions for the agent.
        #[arg(long)]
        prompt: Option<String>,
    },
    /// Show a Space.
    Show {
        /// ID of the Space, spc_….
        id: SpaceId,
    },
    /// Update a Space. To make a private Space public, use the web interface.
    Edit {
        /// ID of the Space, spc_….
        id: SpaceId,
        /// Name.
        #[arg(long)]
        name: Option<String>,
        /// Make it private.
        #[arg(long)]
        private: bool,
        /// Instructions for the agent; empty to remove them.
        #[arg(long)]
        prompt: Option<String>,
        /// Reopen closed threads when a related event is received.
        #[arg(long)]
        reopen: Option<bool>,
        /// Expected version.
        #[command(flatten)]
        seen: IfVersionArgs,
    },
    /// List the tools the agent can use in a Space, and why others are unavailable.
    Tools {
        /// ID of the Space, spc_….
        space: SpaceId,
        /// ID of the person, usr_… [default: you].
        #[arg(long)]
        user: Option<UserId>,
    },
    /// List members of a Space.
    Members {
        /// ID of the Space, spc_….
        space: SpaceId,
        /// Page of the list.
        #[command(flatten)]
        part: PageArgs,
    },
    /// Add a member to a Space.
    MemberAdd {
        /// ID of the Space, spc_….
        space: SpaceId,
        /// ID of the person, usr_….
        user: UserId,
    },
    /// Remove a member from a Space.
    MemberRemove {
        /// ID of the Space, spc_….
        space: SpaceId,
        /// ID of the person, usr_….
        user: UserId,
    },
}

/// Who sees a Space.
#[derive(Clone, Copy, ValueEnum)]
pub enum Access {
    /// Everyone in the company.
    Public,
    /// Members only.
    Private,
}

/// What to do with threads.
#[derive(Subcommand)]
pub enum Thread {
    /// List threads, newest first.
    List {
        /// Filter by Space, spc_….
        #[arg(long)]
        space: Option<SpaceId>,
        /// Filter by status: backlog, todo, in_progress, in_review, blocked, done or cancelled.
        #[arg(long)]
        status: Option<String>,
        /// Filter by words in the title.
        #[arg(long, value_name = "WORDS")]
        search: Option<String>,
        /// Page of the list.
        #[command(flatten)]
        part: PageArgs,
    },
    /// Show a thread with its messages, turns and steps. With --json, export the whole thread.
    Show {
        /// ID of the thread, CHAT-….
        id: ThreadId,
    },
    /// Send a message.
    Say {
        /// ID of the thread, CHAT-….
        id: ThreadId,
        /// Text; - reads from standard input.
        text: String,
    },
    /// Update the title, status or priority of a thread.
    Edit {
        /// ID of the thread, CHAT-….
        id: ThreadId,
        /// Title.
        #[arg(long)]
        title: Option<String>,
        /// Status: backlog, todo, in_progress, in_review, blocked, done or cancelled.
        #[arg(long)]
        status: Option<String>,
        /// Priority: low, medium, high, urgent or critical.
        #[arg(long)]
        priority: Option<String>,
        /// Expected version.
        #[command(flatten)]
        seen: IfVersionArgs,
    },
    /// Stop a running turn.
    Cancel {
        /// ID of the turn, trn_…, as shown by `show`.
        turn: TurnId,
    },
    /// Start a thread.
    New {
        /// ID of the Space, spc_….
        #[arg(long)]
        space: SpaceId,
        /// Title [default: first line of the text].
        #[arg(long)]
        title: Option<String>,
        /// Text; - reads from standard input.
        text: String,
    },
}

pub(super) async fn run_space(api: &Api, command: Space) -> Result<(), CommandError> {
    let member = |space: SpaceId, user: UserId| format!("/v1/spaces/{space}/members/{user}");
    match command {
        Space::List { part } => {
            let answer = api.get(&part.of("/v1/spaces", &[])).await?;
            let columns = [("ID", "/id"), ("SLUG", "/slug"), ("NAME", "/name"), ("ACCESS", "/access")];
            let empty = "No Spaces. Create one with `thinkwork space add SLUG NAME`.";
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
        Space::Tools { space, user } => {
            let query = user.map(|user| format!("?user={user}")).unwrap_or_default();
            let answer = api.get(&format!("/v1/spaces/{space}/effective-tools{query}")).await?;
            api.show(&answer, effective_tools);
        }
        Space::Members { space, part } => {
            let answer = api.get(&part.of(&format!("/v1/spaces/{space}/members"), &[])).await?;
            let columns = [("PERSON", "/user_id"), ("SINCE", "/joined_at")];
            api.show(&answer, |answer| show::table(answer, &columns, "No members."));
        }
        Space::MemberAdd { space, user } => {
            let answer = api.put(&member(space, user), &json!({})).await?;
            api.show(&answer, |_| say!("Member added."));
        }
        Space::MemberRemove { space, user } => {
            api.delete(&member(space, user)).await?;
            api.done("Member removed.");
        }
    }
    Ok(())
}

pub(super) async fn run_thread(api: &Api, command: Thread) -> Result<(), CommandError> {
    match command {
        Thread::List { space, status, search, part } => {
            let space = space.map(|space| space.to_string());
            let filters = [("space", space.as_deref()), ("status", status.as_deref()), ("q", search.as_deref())];
            let answer = api.get(&part.of("/v1/threads", &filters)).await?;
            let columns = [
                ("ID", "/id"),
                ("STATUS", "/status"),
                ("REQUESTER", "/requester/kind"),
                ("UPDATED", "/updated_at"),
                ("TITLE", "/title"),
            ];
            let empty = "No matching threads. Start one with `thinkwork thread new --space spc_… TEXT`.";
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
        ("Reopen threads", "/reopen"),
        ("Instructions", "/prompt"),
    ];
    show::lines(answer, &labels);
}

fn effective_tools(answer: &Value) {
    let columns = [
        ("TOOL", "/name"),
        ("SOURCE", "/source/slug"),
        ("GRANTED BY", "/granted_by/requester/id"),
        ("CREDENTIAL", "/granted_by/credential_subject/kind"),
        ("LIMITED BY", "/narrowed_by"),
        ("EFFECT", "/effect"),
        ("APPROVAL", "/approval"),
    ];
    match show::list(answer, "offered") {
        [] => say!("No tools available."),
        offered => show::rows(offered, &columns).iter().for_each(|line| say!("{line}")),
    }
    for left in show::list(answer, "left_out") {
        let link = left.get("connect_url").and_then(Value::as_str).map(|url| format!("; connect it at {url}"));
        let source = show::plain(text(left, "/server"));
        let reason = text(left, "/reason");
        say!("Unavailable: {source}, because {reason}{}", link.unwrap_or_default());
    }
}

/// The text itself, or standard input for `-`.
fn given(text: String) -> Result<String, CommandError> {
    if text != "-" {
        return Ok(text);
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(CommandError::failed)?;
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
            say!("  unavailable: {} because {}", show::plain(text(left, "/server")), text(left, "/reason"));
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

//! The attribution line in words: who asked, whose credential. The same words wherever work is shown.
//!
//! Invariant: it is drawn from the columns of requester and credential subject alone.

use thinkwork_database::Tx;
use thinkwork_primitives::{ActingClient, Actor, CredentialSubject, Requester, ThreadId, ToolSourceId, UserId};

use super::{Error, Thread, Threads, store};
use crate::edge::{NameMap, Named, Names};

/// What `work::attribution` takes. Empty hrefs are no links; an empty credential is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attribution {
    /// Like `Ana` or `webhook billing`.
    pub asker: String,
    /// Where the asker's record is, for those who may open it.
    pub asker_href: String,
    /// Like `Ana's Gmail`.
    pub credential: String,
    /// Where the credential's record is.
    pub credential_href: String,
    /// The account at the other end.
    pub account: String,
    /// Through which software, where that is neither a page nor the agent, like `Claude Code`.
    pub client: String,
    /// Whether steps were deleted that may have used more credentials than are named.
    pub has_deleted_steps: bool,
}

/// For whom lines are written, with the names that occur in them.
pub struct Viewer {
    user: UserId,
    is_operator: bool,
    names: NameMap,
}

/// A credential that work opened: whose, and for which source of tools.
pub type Used = (CredentialSubject, Option<ToolSourceId>);

/// What must be known by name to write a line.
fn named(by: &Actor, used: &[Used]) -> Vec<Named> {
    let mut ids: Vec<Named> = Named::of_client(by.client).into_iter().collect();
    match &by.requester {
        Requester::User(id) => ids.push(Named::User(*id)),
        Requester::Webhook(id) => ids.push(Named::Webhook(*id)),
        _ => {}
    }
    for (subject, source) in used {
        ids.extend(subject.user().map(Named::User));
        ids.extend(subject.connection().map(Named::Connection));
        ids.extend(source.map(Named::ToolSource));
    }
    ids
}

impl Viewer {
    /// Reads the names for lines about this work.
    pub(super) async fn load<'a>(
        names: &Names,
        tx: &mut Tx,
        user: UserId,
        is_operator: bool,
        work: impl Iterator<Item = (&'a Actor, &'a [Used])>,
    ) -> Result<Self, Error> {
        let ids: Vec<Named> = work.flat_map(|(by, used)| named(by, used)).collect();
        Ok(Self { user, is_operator, names: names.find(tx, ids).await? })
    }

    /// Who asked, in words: a person's name, `webhook billing`, `a service token`.
    pub fn requester(&self, requester: &Requester) -> String {
        match requester {
            Requester::User(id) => self.names.user(*id).to_owned(),
            Requester::Webhook(id) => match self.names.get(Named::Webhook(*id)) {
                Some(name) => format!("webhook {name}"),
                None => "a webhook".to_owned(),
            },
            Requester::Trigger(_) => "a trigger".to_owned(),
            Requester::Schedule(_) => "a schedule".to_owned(),
            Requester::Extension(name) => format!("extension {name}"),
            Requester::System(name) if name == "server" => "ThinkWork".to_owned(),
            Requester::System(_) => "a service token".to_owned(),
        }
    }

    /// Who asked, without a credential yet.
    pub fn asked_by(&self, by: &Actor) -> Attribution {
        let asker_href = match &by.requester {
            Requester::Webhook(id) if self.is_operator => format!("/admin/webhooks/{id}"),
            Requester::User(_) if self.is_operator => "/admin/people".to_owned(),
            _ => String::new(),
        };
        let client = match by.client {
            ActingClient::McpClient(_) | ActingClient::ApiToken(_) | ActingClient::Extension(_) => {
                self.names.client(by.client)
            }
            ActingClient::Agent | ActingClient::Page(_) | ActingClient::System => String::new(),
        };
        Attribution { asker: self.requester(&by.requester), asker_href, client, ..Attribution::default() }
    }

    /// Who asked, and what the work opened: the credentials of a person first, each once.
    pub fn line(&self, by: &Actor, used: &[Used]) -> Attribution {
        let mut line = self.asked_by(by);
        let mut seen: Vec<Used> = Vec::new();
        for one in used {
            if one.0 != CredentialSubject::None && !seen.contains(one) {
                seen.push(*one);
            }
        }
        seen.sort_by_key(|(subject, _)| subject.user().is_none());
        let credentials: Vec<String> =
            seen.iter().map(|(subject, source)| self.credential(*subject, *source)).collect();
        line.credential = credentials.join(" and ");
        if let [(subject, _)] = seen.as_slice() {
            let account = subject.connection().and_then(|id| self.names.get(Named::Connection(id)));
            line.account = account.unwrap_or_default().to_owned();
            if subject.user() == Some(self.user) {
                line.credential_href = "/me/connections".to_owned();
            }
        }
        line
    }

    /// Whose credential, in words: `Ana's Gmail`, `the company's key for Billing`; empty for none.
    pub fn credential(&self, subject: CredentialSubject, source: Option<ToolSourceId>) -> String {
        let name = source.and_then(|source| self.names.get(Named::ToolSource(source)));
        match (subject, name) {
            (CredentialSubject::None, _) => String::new(),
            (CredentialSubject::Tenant, Some(name)) => format!("the company's key for {name}"),
            (CredentialSubject::Tenant, None) => "the company's key".to_owned(),
            (CredentialSubject::User { user, .. }, name) => {
                format!("{}'s {}", self.names.user(user), name.unwrap_or("account"))
            }
        }
    }
}

impl Threads {
    /// The lines of whole threads, in their order: who began each, and what the work in it opened so far.
    pub async fn attributions(
        &self,
        tx: &mut Tx,
        viewer: UserId,
        is_operator: bool,
        threads: &[Thread],
    ) -> Result<Vec<Attribution>, Error> {
        let ids: Vec<ThreadId> = threads.iter().map(|thread| thread.id).collect();
        let opened = store::step::subjects_of_threads(tx, &ids).await?;
        let used = |thread: &Thread| -> Vec<Used> {
            opened.iter().filter(|(id, _)| *id == thread.id).map(|(_, used)| *used).collect()
        };
        let work: Vec<(Actor, Vec<Used>)> = threads.iter().map(|thread| (thread.actor(), used(thread))).collect();
        let named = work.iter().map(|(by, used)| (by, used.as_slice()));
        let viewer = Viewer::load(&self.names, tx, viewer, is_operator, named).await?;
        let deleted = store::turn::threads_with_deleted_steps(tx, &ids).await?;
        let line = |(thread, (by, used)): (&Thread, &(Actor, Vec<Used>))| Attribution {
            has_deleted_steps: deleted.contains(&thread.id),
            ..viewer.line(by, used)
        };
        Ok(threads.iter().zip(&work).map(line).collect())
    }
}

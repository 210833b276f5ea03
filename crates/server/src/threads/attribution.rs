//! The attribution line in words: who asked, whose credential. The same words wherever work is shown.
//!
//! Invariant: it is drawn from the columns of requester and credential subject alone.

use std::collections::HashMap;

use thinkwork_database::Tx;
use thinkwork_primitives::{CredentialSubject, McpServerId, Requester, ThreadId, UserId};

use super::{Error, Step, Thread, Threads, store};

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
}

/// For whom lines are written, and the names already asked for.
pub struct Labels {
    viewer: UserId,
    is_operator: bool,
    names: HashMap<String, String>,
}

impl Labels {
    /// For one page.
    pub fn new(viewer: UserId, is_operator: bool) -> Self {
        Self { viewer, is_operator, names: HashMap::new() }
    }
}

impl Threads {
    /// Who asked, in words: a person's name, `webhook billing`, `a service token`.
    ///
    /// # Errors
    /// The database's.
    pub async fn requester_label(&self, tx: &mut Tx, requester: &Requester) -> Result<String, Error> {
        Ok(match requester {
            Requester::User(id) => self.person(tx, *id).await?,
            Requester::Webhook(id) => {
                let name = store::labels::webhook_name(tx, *id).await?;
                name.map_or_else(|| "a webhook".to_owned(), |name| format!("webhook {name}"))
            }
            Requester::Trigger(_) => "a trigger".to_owned(),
            Requester::Schedule(_) => "a schedule".to_owned(),
            Requester::Extension(name) => format!("extension {name}"),
            Requester::System(name) if name == "server" => "ThinkWork".to_owned(),
            Requester::System(_) => "a service token".to_owned(),
        })
    }

    async fn person(&self, tx: &mut Tx, id: UserId) -> Result<String, Error> {
        let names = self.access.user_names(tx, &[id]).await?;
        Ok(names.into_iter().next().map_or_else(|| "somebody".to_owned(), |(_, name)| name))
    }

    async fn label(&self, tx: &mut Tx, labels: &mut Labels, requester: &Requester) -> Result<String, Error> {
        let key = format!("{}:{}", requester.kind(), requester.id());
        if let Some(name) = labels.names.get(&key) {
            return Ok(name.clone());
        }
        let name = self.requester_label(tx, requester).await?;
        labels.names.insert(key, name.clone());
        Ok(name)
    }

    /// Who asked, without a credential yet.
    ///
    /// # Errors
    /// The database's.
    pub async fn asked_by(
        &self,
        tx: &mut Tx,
        labels: &mut Labels,
        requester: &Requester,
    ) -> Result<Attribution, Error> {
        let asker_href = match requester {
            Requester::Webhook(id) if labels.is_operator => format!("/admin/webhooks/{id}"),
            Requester::User(_) if labels.is_operator => "/admin/people".to_owned(),
            _ => String::new(),
        };
        Ok(Attribution { asker: self.label(tx, labels, requester).await?, asker_href, ..Attribution::default() })
    }

    /// Who asked, and what the steps of the work opened: the credentials of a person first, each once.
    ///
    /// # Errors
    /// The database's.
    pub async fn attribution(
        &self,
        tx: &mut Tx,
        labels: &mut Labels,
        requester: &Requester,
        steps: &[Step],
    ) -> Result<Attribution, Error> {
        let used: Vec<_> = steps.iter().map(|step| (step.subject, step.server)).collect();
        self.line(tx, labels, requester, &used).await
    }

    /// The lines of whole threads, in their order: who began each, and what the work in it opened so far.
    ///
    /// # Errors
    /// The database's.
    pub async fn attributions(
        &self,
        tx: &mut Tx,
        labels: &mut Labels,
        threads: &[Thread],
    ) -> Result<Vec<Attribution>, Error> {
        let ids: Vec<ThreadId> = threads.iter().map(|thread| thread.id).collect();
        let opened = store::turn::subjects_of_threads(tx, &ids).await?;
        let mut lines = Vec::with_capacity(threads.len());
        for thread in threads {
            let used: Vec<_> = opened.iter().filter(|(id, _)| *id == thread.id).map(|(_, used)| *used).collect();
            lines.push(self.line(tx, labels, &thread.requester, &used).await?);
        }
        Ok(lines)
    }

    async fn line(
        &self,
        tx: &mut Tx,
        labels: &mut Labels,
        requester: &Requester,
        used: &[(CredentialSubject, Option<McpServerId>)],
    ) -> Result<Attribution, Error> {
        let mut line = self.asked_by(tx, labels, requester).await?;
        let mut seen: Vec<(CredentialSubject, Option<McpServerId>)> = Vec::new();
        for one in used {
            if one.0 != CredentialSubject::None && !seen.contains(one) {
                seen.push(*one);
            }
        }
        seen.sort_by_key(|(subject, _)| subject.user().is_none());
        let mut words = Vec::with_capacity(seen.len());
        for (subject, server) in &seen {
            words.push(self.credential_label(tx, labels, *subject, *server).await?);
        }
        line.credential = words.join(" and ");
        if let [(subject, _)] = seen.as_slice() {
            if let Some(connection) = subject.connection() {
                line.account = store::labels::account(tx, connection).await?.unwrap_or_default();
            }
            if subject.user() == Some(labels.viewer) {
                line.credential_href = "/me/connections".to_owned();
            }
        }
        Ok(line)
    }

    /// Whose credential, in words: `Ana's Gmail`, `the company's key for Billing`; empty for none.
    ///
    /// # Errors
    /// The database's.
    pub async fn credential_label(
        &self,
        tx: &mut Tx,
        labels: &mut Labels,
        subject: CredentialSubject,
        server: Option<McpServerId>,
    ) -> Result<String, Error> {
        let name = match server {
            Some(id) => store::labels::server_name(tx, id).await?,
            None => None,
        };
        Ok(match (subject, name) {
            (CredentialSubject::None, _) => String::new(),
            (CredentialSubject::Tenant, Some(name)) => format!("the company's key for {name}"),
            (CredentialSubject::Tenant, None) => "the company's key".to_owned(),
            (CredentialSubject::User { user, .. }, name) => {
                let owner = self.label(tx, labels, &Requester::User(user)).await?;
                format!("{owner}'s {}", name.as_deref().unwrap_or("account"))
            }
        })
    }
}

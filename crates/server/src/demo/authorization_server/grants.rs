//! The books of Sample ID: clients, consents that were asked for, codes and grants. Pure: `now` is an argument.
//!
//! Invariants: a code serves once and only with its PKCE verifier; a refresh token serves once, and a spent one ends its
//! grant; an access token is good for one resource.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use thinkwork_primitives::{Timestamp, crypto};

/// How long a consent page and a code may wait (RFC 6749 section 4.1.2 asks for at most ten minutes).
const WAIT: Duration = Duration::from_secs(600);
/// Rows of each book: enough for a day of trying things out.
const ROWS_MAX: usize = 1_000;

/// A refusal in the words of RFC 6749 section 5.2 and RFC 8707.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The `error`.
    pub code: &'static str,
    /// The `error_description`.
    pub description: &'static str,
}

const fn refuse<T>(code: &'static str, description: &'static str) -> Result<T, Refusal> {
    Err(Refusal { code, description })
}

/// A registered client (RFC 7591).
#[derive(Clone)]
pub(super) struct Client {
    pub name: String,
    pub redirect_uris: Vec<String>,
}

/// What a client asks a person for.
#[derive(Clone)]
pub(super) struct Asked {
    pub client_id: String,
    pub redirect_uri: String,
    pub state: Option<String>,
    pub challenge: String,
    pub resource: String,
    pub scope: String,
}

/// Tokens as they are handed out.
pub(super) struct Issued {
    pub access: String,
    pub refresh: String,
    pub scope: String,
    /// The account's name, which is no part of OAuth but what clients like to show.
    pub account: String,
}

/// What happened so far, for whoever wants to look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    pub clients: u64,
    pub grants: u64,
    pub refreshes: u64,
    pub revocations: u64,
    pub denied: u64,
    pub refused: u64,
}

struct Code {
    asked: Asked,
    account: String,
    until: Timestamp,
    /// The grant that came of it.
    used: Option<usize>,
}

struct Grant {
    asked: Asked,
    account: String,
    access: Vec<(String, Timestamp)>,
    refresh: String,
    spent: Vec<String>,
    ended: bool,
}

/// The books.
pub(super) struct Grants {
    access_life: Duration,
    clients: BTreeMap<String, Client>,
    asked: BTreeMap<String, (Asked, Timestamp)>,
    codes: BTreeMap<String, Code>,
    grants: Vec<Grant>,
    pub counts: Counts,
}

fn fresh(prefix: &str) -> Result<String, Refusal> {
    let random = crypto::random::<32>().or_else(|_| refuse("server_error", "no randomness"))?;
    Ok(format!("{prefix}{}", crypto::base64url(&random)))
}

fn more(count: &mut u64) {
    *count = count.saturating_add(1);
}

impl Grants {
    pub(super) fn new(access_life: Duration) -> Self {
        Self {
            access_life,
            clients: BTreeMap::new(),
            asked: BTreeMap::new(),
            codes: BTreeMap::new(),
            grants: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// Registers a client and gives its id.
    pub(super) fn register(&mut self, client: Client) -> Result<String, Refusal> {
        if client.redirect_uris.is_empty() {
            return refuse("invalid_redirect_uri", "name at least one redirect URI");
        }
        if self.clients.len() >= ROWS_MAX {
            return refuse("temporarily_unavailable", "too many clients for a sample");
        }
        let id = fresh("client_")?;
        self.clients.insert(id.clone(), client);
        more(&mut self.counts.clients);
        Ok(id)
    }

    /// The client, if the redirect URI is byte for byte one of its own.
    pub(super) fn client(&self, id: &str, redirect_uri: &str) -> Option<&Client> {
        self.clients.get(id).filter(|client| client.redirect_uris.iter().any(|known| known == redirect_uri))
    }

    /// Notes what is asked for and gives the consent page's one-time number.
    pub(super) fn ask(&mut self, asked: Asked, now: Timestamp) -> Result<String, Refusal> {
        self.asked.retain(|_, (_, until)| now < *until);
        if self.asked.len() >= ROWS_MAX {
            return refuse("temporarily_unavailable", "too many open consent pages for a sample");
        }
        let request = fresh("ask_")?;
        self.asked.insert(request.clone(), (asked, now.plus(WAIT)));
        Ok(request)
    }

    /// What the consent page of this number asked for; it serves once.
    pub(super) fn take(&mut self, request: &str, now: Timestamp) -> Option<Asked> {
        self.asked.remove(request).filter(|(_, until)| now < *until).map(|(asked, _)| asked)
    }

    /// The person allowed it as `account`: a code.
    pub(super) fn allow(&mut self, asked: Asked, account: &str, now: Timestamp) -> Result<String, Refusal> {
        if self.codes.len() >= ROWS_MAX {
            return refuse("temporarily_unavailable", "too many codes for a sample");
        }
        let code = fresh("code_")?;
        let row = Code { asked, account: account.to_owned(), until: now.plus(WAIT), used: None };
        self.codes.insert(code.clone(), row);
        Ok(code)
    }

    /// The person said no.
    pub(super) fn denied(&mut self) {
        more(&mut self.counts.denied);
    }

    /// A token request was refused.
    pub(super) fn refused(&mut self) {
        more(&mut self.counts.refused);
    }

    /// Tokens for a code (RFC 6749 section 4.1.3, RFC 7636 section 4.6).
    pub(super) fn exchange(
        &mut self,
        code: &str,
        client_id: &str,
        redirect_uri: &str,
        verifier: &str,
        resource: Option<&str>,
        now: Timestamp,
    ) -> Result<Issued, Refusal> {
        let index = self.grants.len();
        let Some(row) = self.codes.get_mut(code).filter(|row| row.asked.client_id == client_id && now < row.until)
        else {
            return refuse("invalid_grant", "there is no such code");
        };
        if let Some(used) = row.used {
            if let Some(grant) = self.grants.get_mut(used) {
                grant.ended = true;
            }
            return refuse("invalid_grant", "the code was used before; what came of it has ended");
        }
        if row.asked.redirect_uri != redirect_uri {
            return refuse("invalid_grant", "the redirect URI is another one");
        }
        if crypto::base64url(&crypto::sha256(verifier.as_bytes())) != row.asked.challenge {
            return refuse("invalid_grant", "the code verifier does not fit the challenge");
        }
        if resource.is_some_and(|resource| resource != row.asked.resource) {
            return refuse("invalid_target", "the resource is another one");
        }
        row.used = Some(index);
        let asked = row.asked.clone();
        let account = row.account.clone();
        let access = fresh("at_")?;
        let refresh = fresh("rt_")?;
        let scope = asked.scope.clone();
        let tokens = vec![(access.clone(), now.plus(self.access_life))];
        let issued = Issued { access, refresh: refresh.clone(), scope, account: account.clone() };
        self.grants.push(Grant { asked, account, access: tokens, refresh, spent: Vec::new(), ended: false });
        more(&mut self.counts.grants);
        Ok(issued)
    }

    /// New tokens for a refresh token, which is spent by it (RFC 9700 section 4.14.2).
    pub(super) fn refresh(
        &mut self,
        token: &str,
        client_id: &str,
        resource: Option<&str>,
        now: Timestamp,
    ) -> Result<Issued, Refusal> {
        let known = |grant: &&mut Grant| grant.refresh == token || grant.spent.iter().any(|spent| spent == token);
        let Some(grant) = self.grants.iter_mut().find(known) else {
            return refuse("invalid_grant", "there is no such refresh token");
        };
        if grant.refresh != token {
            grant.ended = true;
            return refuse("invalid_grant", "the refresh token was used before; its grant has ended");
        }
        if grant.ended || grant.asked.client_id != client_id {
            return refuse("invalid_grant", "the grant has ended");
        }
        if resource.is_some_and(|resource| resource != grant.asked.resource) {
            return refuse("invalid_target", "the resource is another one");
        }
        let access = fresh("at_")?;
        let refresh = fresh("rt_")?;
        grant.access.retain(|(_, until)| now < *until);
        grant.access.push((access.clone(), now.plus(self.access_life)));
        grant.spent.push(std::mem::replace(&mut grant.refresh, refresh.clone()));
        let scope = grant.asked.scope.clone();
        let account = grant.account.clone();
        more(&mut self.counts.refreshes);
        Ok(Issued { access, refresh, scope, account })
    }

    /// Ends a token: a refresh token with its grant, an access token alone (RFC 7009 section 2.1).
    pub(super) fn revoke(&mut self, token: &str, client_id: &str) {
        for grant in self.grants.iter_mut().filter(|grant| grant.asked.client_id == client_id) {
            let before = grant.access.len();
            grant.access.retain(|(access, _)| access != token);
            let is_refresh = !grant.ended && grant.refresh == token;
            if is_refresh || grant.access.len() < before {
                more(&mut self.counts.revocations);
            }
            grant.ended |= is_refresh;
        }
    }

    /// Whose token this is, if it is good for this resource now.
    pub(super) fn account_of(&self, token: &str, resource: &str, now: Timestamp) -> Option<&str> {
        let live = |grant: &&Grant| {
            !grant.ended
                && grant.asked.resource == resource
                && grant.access.iter().any(|(access, until)| access == token && now < *until)
        };
        self.grants.iter().find(live).map(|grant| grant.account.as_str())
    }
}

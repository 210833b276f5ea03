//! Registering, changing and deleting MCP servers, and their secrets.
//!
//! Invariants: a new server is pending; whatever changes its definition makes it pending again; a stored secret goes
//! only to the address it was entered for; deleting ends every grant and leaves the history readable.

use std::time::Duration;

use thinkwork_database::Tx;
use thinkwork_primitives::{Actor, Chain, CredentialId, McpServerId, Principal, Secret, TenantId};

use super::auth::{NewAuth, check_secret};
use super::{Error, Mcp, McpServer, McpServerStatus, ServerTool, rules, store};
use crate::audit::{self, Event};
use crate::credentials::{self, CredentialInfo};
use crate::edge::{Idempotency, InvalidField};

/// Slugs that are tried for a name before the operator is asked for one.
const SLUG_TRIES_MAX: usize = 20;

/// A server to register.
pub struct NewServer {
    /// For people.
    pub name: String,
    /// The first part of its tools' names; made from the name where absent.
    pub slug: Option<String>,
    /// The endpoint.
    pub url: String,
    /// How it is authorised.
    pub auth: NewAuth,
    /// The only tools that may be used.
    pub tool_allowlist: Option<Vec<String>>,
    /// Whether `/mcp` without a Space offers it.
    pub outside_spaces: bool,
}

/// What to change; absent parts stay.
#[derive(Default)]
pub struct ServerUpdate {
    /// For people.
    pub name: Option<String>,
    /// The endpoint.
    pub url: Option<String>,
    /// How it is authorised, as a whole.
    pub auth: Option<NewAuth>,
    /// The only tools that may be used; `Some(None)` allows all.
    pub tool_allowlist: Option<Option<Vec<String>>>,
    /// Whether `/mcp` without a Space offers it.
    pub outside_spaces: Option<bool>,
    /// The version that the caller saw (`If-Match`).
    pub if_version: Option<i64>,
}

impl Mcp {
    /// Registers a server, pending, and takes a first look at it: its authorization server, or its tools. What goes
    /// wrong with that look is noted on the server and changes nothing else.
    pub async fn register(
        &self,
        new: NewServer,
        by: &Principal,
        idempotency: &Idempotency,
    ) -> Result<McpServer, Error> {
        let now = self.clock.now();
        let actor = by.actor();
        let url = self.check_address(&new.url)?;
        let NewAuth { auth, secret } = new.auth;
        if auth.requires_secret() && secret.is_none() {
            return Err(InvalidField::new("auth.secret", "enter the secret.").into());
        }
        let mut server = McpServer {
            id: McpServerId::new(),
            name: rules::check_name(&new.name)?,
            slug: new.slug.as_deref().map(rules::check_slug).transpose()?.unwrap_or_default(),
            url,
            auth,
            discovered: None,
            tool_allowlist: rules::check_allowlist(new.tool_allowlist)?,
            credential: None,
            status: McpServerStatus::Pending,
            definition_hash: String::new(),
            approved_hash: None,
            decided_by: None,
            decided_at: None,
            reason: None,
            issuer: None,
            outside_spaces: new.outside_spaces,
            last_error: None,
            checked_at: None,
            created_by: actor.requester.id(),
            created_at: now,
            version: 1,
            tools_version: 0,
        };
        server.definition_hash = rules::definition_hash(&server);
        let mut tx = self.access.write_as(by).await?;
        if let Some(made) = idempotency.existing(&mut tx).await? {
            return find(&mut tx, made.parse().map_err(|_| Error::NotFound)?).await;
        }
        if server.slug.is_empty() {
            server.slug = slug_free(&mut tx, &server.name).await?;
        }
        server.credential = self.secret_keep(&mut tx, &server, secret.as_ref(), &actor).await?;
        store::server_insert(&mut tx, &server).await?;
        let event = Event::by(actor.clone(), "mcp_server.registered").on("mcp_server", server.id);
        audit::record(&mut tx, now, event.detail("auth_mode", server.auth.as_str()))?;
        let id = server.id.to_string();
        idempotency.keep(&mut tx, &id).await?;
        tx.commit().await?;
        self.initial_discovery(by.tenant, server.id, &actor).await;
        self.find(by.tenant, server.id).await
    }

    /// The server, if it is there.
    pub async fn find(&self, tenant: TenantId, id: McpServerId) -> Result<McpServer, Error> {
        find(&mut self.db.read(tenant).await?, id).await
    }

    /// The server and what is known of its tools.
    pub async fn find_with_tools(
        &self,
        tenant: TenantId,
        id: McpServerId,
    ) -> Result<(McpServer, Vec<ServerTool>), Error> {
        let mut tx = self.db.read(tenant).await?;
        let server = find(&mut tx, id).await?;
        let tools = store::tool_list(&mut tx, id).await?;
        Ok((server, tools))
    }

    /// What may be shown of the server's secret, if it has one.
    pub async fn secret_described(
        &self,
        tenant: TenantId,
        server: &McpServer,
    ) -> Result<Option<CredentialInfo>, Error> {
        let Some(credential) = server.credential else { return Ok(None) };
        Ok(self.credentials.describe(&mut self.db.read(tenant).await?, credential).await?)
    }

    /// Servers in the order of their registration.
    pub async fn list(
        &self,
        tenant: TenantId,
        limit: u64,
        after: Option<McpServerId>,
    ) -> Result<Vec<McpServer>, Error> {
        store::server_list(&mut self.db.read(tenant).await?, limit, after).await
    }

    /// Changes a registration. What changes the definition makes the server pending; another address forgets what was
    /// known of its tools and ends the grants that people gave for the old one.
    pub async fn update(&self, id: McpServerId, change: ServerUpdate, by: &Principal) -> Result<McpServer, Error> {
        let url = change.url.as_deref().map(|url| self.check_address(url)).transpose()?;
        let actor = by.actor();
        let mut tx = self.access.write_as(by).await?;
        let before = find(&mut tx, id).await?;
        if change.if_version.is_some_and(|version| version != before.version) {
            return Err(Error::VersionConflict { current: before.version });
        }
        let mut server = before.clone();
        if let Some(name) = change.name {
            server.name = rules::check_name(&name)?;
        }
        if let Some(list) = change.tool_allowlist {
            server.tool_allowlist = rules::check_allowlist(list)?;
        }
        server.outside_spaces = change.outside_spaces.unwrap_or(server.outside_spaces);
        server.url = url.unwrap_or(server.url);
        let mut secret = None;
        if let Some(new) = change.auth {
            server.auth = new.auth;
            secret = new.secret;
        }
        let moved = server.url != before.url;
        if moved || server.auth != before.auth {
            self.auth_change(&mut tx, &before, &mut server, secret.as_ref(), &actor).await?;
        } else if let Some(secret) = &secret {
            server.credential = self.secret_keep(&mut tx, &server, Some(secret), &actor).await?;
        }
        if moved {
            self.tools_forget(&mut tx, id).await?;
        }
        server.definition_hash = rules::definition_hash(&server);
        // The issuer that was found stays until the next discovery, which has to notice that another one took its place.
        if server.definition_hash != before.definition_hash || server.auth != before.auth {
            server.status = McpServerStatus::Pending;
            server.reason = None;
        }
        store::server_update(&mut tx, &server).await?;
        let event = Event::by(actor.clone(), "mcp_server.changed").on("mcp_server", id);
        audit::record(&mut tx, self.clock.now(), event.detail("status", server.status.as_str()))?;
        if before.auth.uses_oauth() && (moved || server.auth.as_str() != before.auth.as_str()) {
            self.oauth.end_target(&mut tx, id.into(), "server_changed", &actor).await?;
        }
        tx.commit().await?;
        if moved || server.auth != before.auth {
            self.initial_discovery(by.tenant, id, &actor).await;
            return self.find(by.tenant, id).await;
        }
        match secret {
            Some(_) => self.secret_pass_on(id, by).await,
            None => self.find(by.tenant, id).await,
        }
    }

    /// Settles what another address or another way of authorising means for secrets and discovery.
    async fn auth_change(
        &self,
        tx: &mut Tx,
        before: &McpServer,
        server: &mut McpServer,
        secret: Option<&Secret>,
        by: &Actor,
    ) -> Result<(), Error> {
        server.discovered = None;
        let same_mode = server.auth.as_str() == before.auth.as_str();
        if server.url != before.url || !same_mode {
            server.issuer = None;
        }
        let same_client = same_mode && server.auth.client_id() == before.auth.client_id();
        let keeps = same_client && server.url == before.url;
        let lost = same_client && before.credential.is_some();
        if !keeps && (server.auth.requires_secret() || lost) && secret.is_none() {
            return Err(InvalidField::new(
                "auth.secret",
                "enter the secret again: a stored secret is only sent to the address it was entered for.",
            )
            .into());
        }
        if let Some(old) = before.credential.filter(|_| !keeps) {
            self.credentials.revoke(tx, old, by).await?;
            server.credential = None;
        }
        match secret {
            Some(_) => server.credential = self.secret_keep(tx, server, secret, by).await?,
            None => self.secret_reseal(tx, before, server, by).await?,
        }
        Ok(())
    }

    /// Seals a secret that stays for what the server is after a change, in the change's transaction.
    ///
    /// # Errors
    /// [`Error::Invalid`] where it was sealed for something else than the database says.
    pub(super) async fn secret_reseal(
        &self,
        tx: &mut Tx,
        before: &McpServer,
        after: &McpServer,
        by: &Actor,
    ) -> Result<(), Error> {
        let (Some(credential), Some(was), Some(is)) =
            (after.credential, before.secret_meaning(), after.secret_meaning())
        else {
            return Ok(());
        };
        if was == is {
            return Ok(());
        }
        match self.credentials.reseal(tx, credential, &was, &is, by).await {
            Err(credentials::Error::Vault(error)) => {
                tracing::error!(server = %after.id, error = %Chain(&error), "a stored secret cannot be kept");
                let problem = "enter the secret again: the stored one was entered for other settings.";
                Err(InvalidField::new("auth.secret", problem).into())
            }
            resealed => Ok(resealed?),
        }
    }

    /// Puts a secret in place: the tenant's key, or that of a client registered by hand.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotNow`] where the server takes none, [`Error::Invalid`].
    pub async fn secret_set(&self, id: McpServerId, secret: &Secret, by: &Principal) -> Result<McpServer, Error> {
        let mut tx = self.access.write_as(by).await?;
        let mut server = find(&mut tx, id).await?;
        if !server.auth.takes_secret() {
            return Err(Error::NotNow(
                "This server has no secret of the tenant; change how it signs in first.".to_owned(),
            ));
        }
        server.credential = self.secret_keep(&mut tx, &server, Some(secret), &by.actor()).await?;
        store::server_update(&mut tx, &server).await?;
        let event = Event::by(by.actor(), "mcp_server.secret_rotated").on("mcp_server", id);
        audit::record(&mut tx, self.clock.now(), event)?;
        tx.commit().await?;
        self.secret_pass_on(id, by).await
    }

    /// Gives a new secret to the client registration that proves itself with it, where there is one already.
    async fn secret_pass_on(&self, id: McpServerId, by: &Principal) -> Result<McpServer, Error> {
        let server = self.find(by.tenant, id).await?;
        if server.auth.uses_oauth() && server.is_usable() {
            self.client_register(&server, by).await?;
        }
        Ok(server)
    }

    /// Deletes a server, also one that was used: its slug is free, its secret and grants end, its history stays.
    pub async fn delete(&self, id: McpServerId, by: &Principal) -> Result<(), Error> {
        let mut tx = self.access.write_as(by).await?;
        let server = find(&mut tx, id).await?;
        if let Some(credential) = server.credential {
            self.credentials.revoke(&mut tx, credential, &by.actor()).await?;
        }
        store::server_delete(&mut tx, id, self.clock.now()).await?;
        let event = Event::by(by.actor(), "mcp_server.deleted").on("mcp_server", id);
        audit::record(&mut tx, self.clock.now(), event)?;
        self.oauth.end_target(&mut tx, id.into(), "server_deleted", &by.actor()).await?;
        Ok(tx.commit().await?)
    }

    /// Seals a new secret of the server, in place where there is one.
    async fn secret_keep(
        &self,
        tx: &mut Tx,
        server: &McpServer,
        secret: Option<&Secret>,
        by: &Actor,
    ) -> Result<Option<CredentialId>, Error> {
        let Some((secret, meaning)) = secret.zip(server.secret_meaning()) else { return Ok(server.credential) };
        check_secret(secret)?;
        if let Some(known) = server.credential {
            self.credentials.rotate(tx, known, &meaning, secret, Duration::ZERO, by).await?;
            return Ok(Some(known));
        }
        Ok(Some(self.credentials.create(tx, &meaning, secret, by).await?))
    }

    /// What was approved of the tools at the old address says nothing about the new one.
    async fn tools_forget(&self, tx: &mut Tx, id: McpServerId) -> Result<(), Error> {
        let now = self.clock.now();
        let known = store::tool_list(tx, id).await?.into_iter();
        let forgotten = known.map(|tool| ServerTool {
            approved_hash: None,
            effect: None,
            idempotent: false,
            gone_at: Some(now),
            ..tool
        });
        store::tools_set(tx, id, &forgotten.collect::<Vec<_>>()).await
    }

    fn check_address(&self, url: &str) -> Result<String, InvalidField> {
        let url = self.outbound.check_url(url.trim()).map_err(|error| InvalidField::new("url", error.to_string()))?;
        if url.fragment().is_some() {
            return Err(InvalidField::new("url", "leave out the part after #."));
        }
        Ok(url.to_string())
    }
}

pub(super) async fn find(tx: &mut Tx, id: McpServerId) -> Result<McpServer, Error> {
    store::server_find(tx, id).await?.ok_or(Error::NotFound)
}

async fn slug_free(tx: &mut Tx, name: &str) -> Result<String, Error> {
    for number in 1..=SLUG_TRIES_MAX {
        let slug = rules::slug_from(name, number);
        if !store::server_slug_used(tx, &slug).await? {
            return Ok(slug);
        }
    }
    Err(Error::SlugTaken(rules::slug_from(name, 1)))
}

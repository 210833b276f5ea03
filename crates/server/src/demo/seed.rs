//! Furnishing the house through the public API, as its owner would: people, a Space, the Notes server, a webhook.

use serde_json::{Map, Value, json};
use thinkwork_primitives::crypto;
use url::Url;

use super::browser::Browser;
use super::{Error, SampleServers, at};

/// The owner's e-mail: the account exists before the house is furnished.
pub const OWNER_EMAIL: &str = "olivia@demo.test";

/// A person with a browser of their own.
pub struct Person {
    /// The printed id, once it is known.
    pub id: String,
    /// What people call them.
    pub name: &'static str,
    /// For signing in.
    pub email: &'static str,
    /// For signing in; printed on purpose, it lives as long as the demonstration.
    pub password: String,
    pub(super) browser: Browser,
}

impl Person {
    fn new(name: &'static str, email: &'static str, password: String) -> Self {
        Self { id: String::new(), name, email, password, browser: Browser::default() }
    }
}

/// A password for the demonstration: 16 characters that nobody can guess.
pub fn password() -> Result<String, Error> {
    let random = crypto::random::<12>().map_err(|error| Error::Wrong(error.to_string()))?;
    Ok(crypto::base64url(&random))
}

/// A text of an answer.
pub(super) fn text(value: &Value, pointer: &str) -> Result<String, Error> {
    let text = value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    text.ok_or_else(|| Error::Wrong(format!("there is no {pointer} in {value}")))
}

/// The tenant of the demonstration as its people see it from outside.
pub struct DemoTenant {
    /// Where ThinkWork is.
    pub url: Url,
    /// The owner, who is the first member.
    pub olivia: Person,
    /// The second member.
    pub ben: Person,
    /// The Space "Invoices", printed id.
    pub space: String,
    /// The Notes server, printed id.
    pub server: String,
    /// The webhook "billing", printed id.
    pub webhook: String,
}

impl DemoTenant {
    /// Nothing in it yet but the owner, who has this password.
    pub fn new(url: Url, owner_password: String) -> Result<Self, Error> {
        let olivia = Person::new("Olivia", OWNER_EMAIL, owner_password);
        let ben = Person::new("Ben", "ben@demo.test", password()?);
        Ok(Self { url, olivia, ben, space: String::new(), server: String::new(), webhook: String::new() })
    }

    /// This path of the server.
    pub fn at(&self, path: &str) -> Url {
        at(&self.url, path)
    }

    /// Everything, in order, for a person to look around in.
    pub async fn furnish(&mut self, outside: &SampleServers) -> Result<(), Error> {
        self.owner_signs_in().await?;
        self.space_create().await?;
        let registered = self.server_register(outside).await?;
        self.server_approve(&registered, &[]).await?;
        self.server_into_space().await?;
        self.webhook_create(outside).await?;
        self.member_joins().await
    }

    /// The owner signs in with their password.
    pub async fn owner_signs_in(&mut self) -> Result<(), Error> {
        let body = json!({ "email": self.olivia.email, "password": self.olivia.password });
        let url = self.at("/v1/sessions");
        let answer = self.olivia.browser.json("POST", &url, &body).await?.require(201)?.json();
        self.olivia.browser.csrf = Some(text(&answer, "/csrf_token")?);
        let me = self.olivia.browser.get(&self.at("/v1/me")).await?.require(200)?.json();
        self.olivia.id = text(&me, "/user/id")?;
        Ok(())
    }

    /// A public Space.
    pub async fn space_create(&mut self) -> Result<(), Error> {
        let body = json!({ "slug": "invoices", "name": "Invoices", "access": "public" });
        let made = self.owner_posts("/v1/spaces", &body, 201).await?;
        self.space = text(&made, "/id")?;
        Ok(())
    }

    /// The Notes server, which is pending from then on.
    pub async fn server_register(&mut self, outside: &SampleServers) -> Result<Value, Error> {
        let body = json!({
            "name": "Notes",
            "slug": "notes",
            "url": outside.notes_endpoint().as_str(),
            "transport": "streamable_http",
            "auth": { "mode": "user_oauth" },
        });
        let made = self.owner_posts("/v1/mcp-servers", &body, 201).await?;
        self.server = text(&made, "/id")?;
        Ok(made)
    }

    /// The owner approves the server as it is shown, and these of its tools with the effect of each; one that only reads
    /// may be repeated.
    pub async fn server_approve(&mut self, shown: &Value, effects: &[(&str, &str)]) -> Result<Value, Error> {
        let mut tools = Map::new();
        for tool in shown.get("tools").and_then(Value::as_array).into_iter().flatten() {
            let name = text(tool, "/name")?;
            if let Some((_, effect)) = effects.iter().find(|(known, _)| *known == name) {
                let hash = text(tool, "/definition_hash")?;
                let choice = json!({ "definition_hash": hash, "effect": effect, "idempotent": *effect == "read" });
                tools.insert(name, choice);
            }
        }
        let path = format!("/v1/mcp-servers/{}/approve", self.server);
        let body = json!({ "definition_hash": text(shown, "/definition_hash")?, "tools": tools });
        self.owner_posts(&path, &body, 200).await
    }

    /// The Notes server serves the Space.
    pub async fn server_into_space(&mut self) -> Result<(), Error> {
        let url = self.at(&format!("/v1/spaces/{}/mcp-servers/{}", self.space, self.server));
        self.olivia.browser.json("PUT", &url, &json!({})).await?.require(200)?;
        Ok(())
    }

    /// A webhook into the Space, and the sender is told its address and secret on its own page.
    pub async fn webhook_create(&mut self, outside: &SampleServers) -> Result<(), Error> {
        let body = json!({
            "name": "billing",
            "space_id": self.space,
            "verification": { "scheme": "standard_webhooks" },
        });
        let made = self.owner_posts("/v1/webhooks", &body, 201).await?;
        self.webhook = text(&made, "/id")?;
        let url = text(&made, "/url")?;
        let secret = text(&made, "/secret")?;
        let endpoint = at(&outside.billing, "/endpoint");
        self.olivia.browser.form(&endpoint, &[("url", &url), ("secret", &secret)]).await?.require(303)?;
        Ok(())
    }

    /// The owner invites the second member, who accepts and is signed in by that.
    pub async fn member_joins(&mut self) -> Result<(), Error> {
        let body = json!({ "email": self.ben.email, "name": self.ben.name, "role": "member" });
        let invited = self.owner_posts("/v1/users", &body, 201).await?;
        self.ben.id = text(&invited, "/id")?;
        let link = text(&invited, "/invite_url")?;
        let code = Url::parse(&link)
            .ok()
            .and_then(|link| link.query_pairs().find(|(name, _)| name == "code").map(|(_, code)| code.into_owned()));
        let code = code.ok_or_else(|| Error::Wrong("the invitation link has no code".to_owned()))?;
        let body = json!({ "code": code, "password": self.ben.password });
        let url = self.at("/v1/invitations/accept");
        let answer = self.ben.browser.json("POST", &url, &body).await?.require(200)?.json();
        self.ben.browser.csrf = Some(text(&answer, "/csrf_token")?);
        Ok(())
    }

    /// The owner reads something.
    ///
    /// # Errors
    /// Where the answer is not 200.
    pub async fn owner_reads(&mut self, path: &str) -> Result<Value, Error> {
        let url = self.at(path);
        Ok(self.olivia.browser.get(&url).await?.require(200)?.json())
    }

    /// The owner sends something and expects this status.
    ///
    /// # Errors
    /// Where the answer is another.
    pub async fn owner_posts(&mut self, path: &str, body: &Value, status: u16) -> Result<Value, Error> {
        let url = self.at(path);
        Ok(self.olivia.browser.json("POST", &url, body).await?.require(status)?.json())
    }
}

//! How a server is authorised, as the API reads and shows it. Both are made from what each mode says of itself.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use strum::IntoEnumIterator as _;
use thinkwork_primitives::{Secret, Timestamp, crypto};
use utoipa::openapi::schema::{
    AdditionalProperties, ArrayBuilder, ObjectBuilder, OneOfBuilder, Schema, SchemaType, Type,
};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

use crate::credentials::CredentialInfo;
use crate::edge::InvalidField;
use crate::mcp::auth::{Setting, SettingKind};
use crate::mcp::{Auth, Error, McpServer, NewAuth};

/// A mode with its settings, and the secret itself, never a reference to a stored one.
#[derive(Deserialize)]
pub(super) struct ServerAuthRequest {
    secret: Option<Secret>,
    client_secret: Option<Secret>,
    #[serde(flatten)]
    settings: Map<String, Value>,
}

impl ServerAuthRequest {
    /// It in words, for the idempotency key; of secrets their hash.
    pub(super) fn described(&self) -> Value {
        let hash =
            |secret: &Option<Secret>| secret.as_ref().map(|secret| crypto::hex(&crypto::sha256(secret.expose())));
        json!([self.settings, hash(&self.secret), hash(&self.client_secret)])
    }

    pub(super) fn parse(self) -> Result<NewAuth, Error> {
        let auth = Auth::parse(self.settings)?;
        let mut secret = None;
        for (name, given) in [("secret", self.secret), ("client_secret", self.client_secret)] {
            if given.is_some() && auth.secret_name() != Some(name) {
                let problem = format!("{} has no {name}; remove it.", auth.as_str());
                return Err(InvalidField::new("auth", problem).into());
            }
            secret = secret.or(given);
        }
        NewAuth::new(auth, secret)
    }
}

/// A mode with its settings, without its secret.
#[derive(Serialize)]
pub(super) struct ServerAuthResponse {
    #[serde(flatten)]
    settings: Map<String, Value>,
    has_secret: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) secret: Option<ServerSecretResponse>,
}

impl ServerAuthResponse {
    /// Every flag is shown, also one of another mode.
    pub(super) fn of(server: &McpServer) -> Self {
        let flags = settings().filter(|(_, setting)| matches!(setting.kind, SettingKind::Flag));
        let mut settings: Map<String, Value> = flags.map(|(_, flag)| (flag.name.to_owned(), json!(false))).collect();
        settings.extend(server.auth.to_json());
        Self { settings, has_secret: server.credential.is_some(), secret: None }
    }
}

/// What may be shown of a secret.
#[derive(Serialize, ToSchema)]
pub(super) struct ServerSecretResponse {
    /// How many secrets there have been, this one included.
    #[schema(example = 2)]
    version: i64,
    last_four: Option<String>,
    #[schema(value_type = String)]
    rotated_at: Timestamp,
    #[schema(value_type = Option<String>)]
    last_used_at: Option<Timestamp>,
}

impl From<CredentialInfo> for ServerSecretResponse {
    fn from(secret: CredentialInfo) -> Self {
        Self {
            version: secret.version,
            last_four: secret.last_four,
            rotated_at: secret.rotated_at,
            last_used_at: secret.last_used_at,
        }
    }
}

/// The settings of all modes, each with the words of the modes that have it.
fn settings() -> impl Iterator<Item = (&'static str, &'static Setting)> {
    Auth::iter().flat_map(|auth| auth.description().settings.iter().map(move |setting| (auth.as_str(), setting)))
}

/// An object with the mode and what these settings say.
fn object(settings: impl Iterator<Item = (&'static str, &'static Setting)>) -> ObjectBuilder {
    let words: Vec<&str> = Auth::iter().map(|auth| auth.as_str()).collect();
    let mode = ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some("The mode."))
        .examples(words.first().map(|word| json!(word)))
        .enum_values(Some(words));
    settings.fold(ObjectBuilder::new().property("mode", mode).required("mode"), |object, (mode, setting)| {
        let description = Some(format!("`{mode}`: {}", setting.help));
        let or_null = |kind| SchemaType::from_iter([kind, Type::Null]);
        let schema: Schema = match setting.kind {
            SettingKind::Text(_) | SettingKind::Secret(_) => {
                let text = ObjectBuilder::new().schema_type(or_null(Type::String));
                text.description(description).examples([setting.kind.example()]).into()
            }
            SettingKind::List(_) => {
                let words = ArrayBuilder::new().schema_type(or_null(Type::Array));
                let word = ObjectBuilder::new().schema_type(Type::String);
                words.items(word).description(description).examples([setting.kind.example()]).into()
            }
            SettingKind::Flag => {
                let flag = ObjectBuilder::new().schema_type(Type::Boolean);
                flag.description(description).examples([setting.kind.example()]).into()
            }
        };
        object.property(setting.name, schema)
    })
}

/// A request with all that this mode takes.
fn example(auth: &Auth) -> Value {
    let mut example = auth.to_json();
    let settings = auth.description().settings.iter();
    example.extend(settings.map(|setting| (setting.name.to_owned(), setting.kind.example())));
    example.into()
}

impl PartialSchema for ServerAuthRequest {
    fn schema() -> RefOr<Schema> {
        object(settings())
            .description(Some("How a server is authorised; secrets themselves, never references to stored ones."))
            .examples(Auth::iter().find(Auth::requires_secret).map(|auth| example(&auth)))
            .additional_properties(Some(AdditionalProperties::FreeForm(false)))
            .into()
    }
}

impl ToSchema for ServerAuthRequest {
    fn name() -> Cow<'static, str> {
        "ServerAuthRequest".into()
    }
}

impl PartialSchema for ServerAuthResponse {
    fn schema() -> RefOr<Schema> {
        let has_secret = ObjectBuilder::new()
            .schema_type(Type::Boolean)
            .description(Some("Whether a secret is stored."))
            .examples([json!(false)]);
        let secret = OneOfBuilder::new()
            .item(Ref::from_schema_name(ServerSecretResponse::name()))
            .item(ObjectBuilder::new().schema_type(Type::Null))
            .description(Some("What may be shown of the secret; only when one server is read."));
        let shown = settings().filter(|(_, setting)| !matches!(setting.kind, SettingKind::Secret(_)));
        let flags = settings().filter(|(_, setting)| matches!(setting.kind, SettingKind::Flag));
        flags
            .fold(object(shown), |object, (_, flag)| object.required(flag.name))
            .property("has_secret", has_secret)
            .required("has_secret")
            .property("secret", secret)
            .description(Some("How a server is authorised, without its secret."))
            .into()
    }
}

impl ToSchema for ServerAuthResponse {
    fn name() -> Cow<'static, str> {
        "ServerAuthResponse".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((ServerSecretResponse::name().into(), ServerSecretResponse::schema()));
    }
}

//! The schemes in the OpenAPI document.

use std::borrow::Cow;

use serde_json::json;
use strum::IntoEnumIterator as _;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::webhooks::schemes::Scheme;

/// One object for all schemes, made from what each says of its settings.
impl PartialSchema for Scheme {
    fn schema() -> RefOr<Schema> {
        let text = || ObjectBuilder::new().schema_type(Type::String);
        let words: Vec<&str> = Self::iter().map(|scheme| scheme.as_str()).collect();
        let scheme = text()
            .description(Some("The verification method."))
            .examples(words.first().map(|word| json!(word)))
            .enum_values(Some(words));
        let mut object = ObjectBuilder::new()
            .description(Some("How requests prove themselves: a scheme, with its settings where it has any."))
            .property("scheme", scheme)
            .required("scheme")
            .examples(Self::iter().next().map(|scheme| json!(scheme)))
            .additional_properties(Some(AdditionalProperties::FreeForm(false)));
        for scheme in Self::iter() {
            for (setting, default) in scheme.settings() {
                let description = format!("`{}`: {}", scheme.as_str(), setting.help);
                object =
                    object.property(setting.name, text().description(Some(description)).examples([json!(default)]));
            }
        }
        object.into()
    }
}

impl ToSchema for Scheme {
    fn name() -> Cow<'static, str> {
        "Verification".into()
    }
}

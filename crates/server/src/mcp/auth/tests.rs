//! What holds for every authentication mode, and what each refuses.

use std::collections::BTreeSet;

use super::*;

/// A mode with its settings and maybe a secret, as a client sends them.
fn sent(json: Value, secret: Option<&str>) -> Result<NewAuth, Error> {
    let Value::Object(json) = json else { panic!("no object: {json}") };
    NewAuth::new(Auth::parse(json)?, secret.map(|secret| Secret::from_text(secret.to_owned())))
}

/// Fails unless this is refused because of this field.
#[track_caller]
fn refuses(json: Value, secret: Option<&str>, field: &str) {
    match sent(json, secret) {
        Err(Error::Invalid(invalid)) => assert_eq!(invalid.field, field),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was accepted"),
    }
}

#[test]
fn a_mode_is_stored_as_the_api_reads_it() {
    for json in [
        json!({ "mode": "none" }),
        json!({ "mode": "tenant_key" }),
        json!({ "mode": "tenant_key", "header": "x-api-key" }),
        json!({ "mode": "user_oauth", "pkce_though_silent": false, "without_offline_access": true, "without_resource": true, "scopes": ["b", "a"] }),
        json!({ "mode": "user_oauth", "pkce_though_silent": true, "without_offline_access": false, "without_resource": false, "client_id": "x" }),
    ] {
        let auth = sent(json.clone(), None).unwrap().auth;
        assert_eq!(Value::from(auth.to_json()), json);
        assert_eq!(serde_json::from_value::<Auth>(json).unwrap(), auth);
    }
}

#[test]
fn an_unknown_mode_and_settings_of_another_are_refused() {
    for word in [json!(null), json!(7), json!("user_headers"), json!("None"), json!("")] {
        refuses(json!({ "mode": word }), None, "auth.mode");
        assert!(serde_json::from_value::<Auth>(json!({ "mode": word })).is_err(), "{word}");
    }
    refuses(json!({}), None, "auth.mode");
    for json in [
        json!({ "mode": "none", "header": "x-api-key" }),
        json!({ "mode": "none", "scopes": [] }),
        json!({ "mode": "tenant_key", "client_id": "x" }),
        json!({ "mode": "user_oauth", "header": "x-api-key" }),
        json!({ "mode": "user_oauth", "secret_ref": "cred_x" }),
        json!({ "mode": "user_oauth", "scopes": "read" }),
    ] {
        assert!(serde_json::from_value::<Auth>(json.clone()).is_err(), "{json}");
        refuses(json, None, "auth");
    }
}

/// What is described is what the API takes; a secret is never among what is stored.
#[test]
fn every_described_setting_is_one_of_its_mode() {
    for auth in Auth::iter() {
        let description = auth.description();
        let names: BTreeSet<&str> = description.settings.iter().map(|setting| setting.name).collect();
        assert_eq!(names.len(), description.settings.len(), "{} names one twice", auth.as_str());
        assert!(auth.to_json().keys().all(|name| name == "mode" || names.contains(name.as_str())));
        assert_eq!(auth.requires_secret(), auth.takes_secret() && !auth.uses_oauth());
        assert!(!auth.requires_secret() || description.secret().is_some(), "{}", auth.as_str());
        for setting in description.settings {
            let is_secret = matches!(setting.kind, SettingKind::Secret(_));
            let value = if setting.kind.example() == json!(false) { json!(true) } else { setting.kind.example() };
            let mut json = auth.to_json();
            json.insert(setting.name.to_owned(), value.clone());
            let read = Auth::parse(json);
            assert_eq!(read.is_err(), is_secret, "{}.{}", auth.as_str(), setting.name);
            if let Ok(read) = read {
                assert!(read.settings().any(|(found, kept)| found.name == setting.name && kept == value));
                let changes_the_definition = read.definition(None, &[]) != auth.definition(None, &[]);
                assert_eq!(changes_the_definition, setting.is_reviewed, "{}.{}", auth.as_str(), setting.name);
            }
        }
    }
}

#[test]
fn l55_headers_and_secrets_that_would_break_the_request_are_refused() {
    let header = |header: &str| json!({ "mode": "tenant_key", "header": header });
    assert_eq!(sent(header(" X-Api-Key"), None).unwrap().auth.to_json()["header"], "x-api-key");
    assert_eq!(sent(header(" "), None).unwrap().auth.to_json().get("header"), None);
    for bad in ["X Api", "X-Key:", "X-Key\r\nEvil", "Host", "mcp-session-id", "Content-Length", "ключ"] {
        refuses(header(bad), None, "auth.header");
    }
    assert!(sent(header(""), Some("Abc def~123")).is_ok());
    for bad in ["", "  ", "abc\r\nX-Evil: 1", "abc\n", "a\0b", "schlüssel"] {
        refuses(header(""), Some(bad), "auth.secret");
    }
}

#[test]
fn a_client_secret_needs_its_client() {
    refuses(json!({ "mode": "user_oauth" }), Some("a-secret"), "auth.client_id");
    refuses(json!({ "mode": "user_oauth", "client_id": "" }), Some("a-secret"), "auth.client_id");
    let by_hand = sent(json!({ "mode": "user_oauth", "client_id": "by-hand" }), Some("a-secret")).unwrap();
    assert!(by_hand.auth.takes_secret() && by_hand.secret.is_some());
    assert!(!sent(json!({ "mode": "user_oauth" }), None).unwrap().auth.takes_secret());
}

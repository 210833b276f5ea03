//! What is deliberately absent stays absent: no public integration catalogue, no integration execution table, no route
//! of a private extension, no tracker flow, no integration lifecycle API.

use crate::harness::TestApp;

/// Words that no path, operation or table of the product holds. `plan` and the like are no part of them: each names
/// something that product owners keep asking for and that belongs into an extension.
const ABSENT: [&str; 12] = [
    "catalog",
    "catalogue",
    "marketplace",
    "integration",
    "execution",
    "install",
    "uninstall",
    "linear",
    "jira",
    "tracker",
    "workflow",
    "plugin",
];

fn absent_word(name: &str) -> Option<&'static str> {
    let lower = name.to_ascii_lowercase();
    let words: Vec<&str> = lower.split(|char: char| !char.is_ascii_alphanumeric()).collect();
    let holds = |absent: &&&str| {
        words.iter().any(|word| word.strip_suffix('s').unwrap_or(word) == **absent || *word == **absent)
    };
    ABSENT.iter().find(holds).copied()
}

#[test]
fn words_are_found_in_any_number() {
    assert_eq!(absent_word("/v1/integrations/{id}"), Some("integration"));
    assert_eq!(absent_word("integration_execution"), Some("integration"));
    assert_eq!(absent_word("/v1/me/catalog"), Some("catalog"));
    assert_eq!(absent_word("/v1/mcp-servers/{id}/approve"), None);
}

#[tokio::test]
async fn the_openapi_document_names_nothing_absent() {
    let app = TestApp::new().await;
    let document = app.anonymous().get("/v1/openapi.json").await.expect(200).json;
    let paths: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
    assert!(paths.len() > 20, "only {} paths are described", paths.len());
    for path in paths {
        assert_eq!(absent_word(path), None, "{path}: this belongs into a private extension, not into the product");
        assert!(!path.starts_with("/x/"), "{path}: the product has no route for any particular extension");
    }
}

#[tokio::test]
async fn the_database_has_no_table_of_what_is_absent() {
    let app = TestApp::new().await;
    let tables = super::tables::names(&app).await;
    assert!(tables.len() > 15, "only these tables were found: {tables:?}");
    for table in tables {
        assert_eq!(absent_word(&table), None, "{table}: this belongs into a private extension's own tables");
    }
}

#[tokio::test]
async fn an_extension_that_is_not_mounted_is_not_there() {
    let app = TestApp::new().await;
    let owner = app.owner().await;
    for path in ["/x/", "/x/tracker", "/x/tracker/issues", "/v1/integrations", "/v1/extensions", "/v1/catalog"] {
        assert_eq!(owner.get(path).await.expect(404).code(), "not_found", "{path}");
        assert_eq!(owner.post(path, serde_json::json!({})).await.status, 404, "{path}");
    }
}

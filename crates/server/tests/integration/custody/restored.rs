//! An older state in the database, of a row or of all: what ended or was replaced since is not used again.

use std::time::Duration;

use sea_orm::ConnectionTrait as _;
use serde_json::json;
use thinkwork::oauth::Error;
use thinkwork_primitives::{AuthMethod, Identity, Principal, Role, SessionId};

use super::Tampering;
use crate::harness::TestApp;
use crate::mcp::{McpFixture, said};
use crate::oauth::{OauthFixture, text};

/// What a back-up of a grant consists of.
const GRANTS: [&str; 3] = ["connection", "credential", "credential_version"];
const SECRETS: [&str; 2] = ["credential", "credential_version"];
const DAY: Duration = Duration::from_secs(86_400);

impl Tampering {
    /// Where the copy of a table is: on PostgreSQL beside the schema in which the server looks after its tables.
    fn copy_of(&self, table: &str) -> String {
        if self.is_sqlite() { format!("saved_{table}") } else { format!("saved.{table}") }
    }

    async fn save(&self, tables: &[&str]) {
        if !self.is_sqlite() {
            self.run("CREATE SCHEMA saved").await;
        }
        for table in tables {
            self.run(&format!("CREATE TABLE {} AS SELECT * FROM {table}", self.copy_of(table))).await;
        }
    }

    async fn put_back(&self, tables: &[&str]) {
        for table in tables {
            self.run(&format!("DELETE FROM {table}")).await;
            self.run(&format!("INSERT INTO {table} SELECT * FROM {}", self.copy_of(table))).await;
        }
    }
}

async fn saved(fixture: &OauthFixture) -> Tampering {
    let database = Tampering::at(&fixture.process_parts().0).await;
    database.save(&GRANTS).await;
    database
}

fn refreshes(fixture: &OauthFixture) -> usize {
    fixture.issuer.look(|seen| seen.refreshes())
}

#[tokio::test]
async fn l112_a_grant_of_an_older_database_is_checked_at_its_issuer_first() {
    for (rotates, holds) in [(false, true), (true, false)] {
        let fixture = OauthFixture::with(|ways| ways.rotate = rotates).await;
        fixture.connect().await;
        let old = text(&fixture.token().await.unwrap());
        let database = saved(&fixture).await;
        let newer = text(&fixture.token_after_refusal(1).await.unwrap());
        fixture.advance(61);
        database.put_back(&GRANTS).await;
        let before = refreshes(&fixture);
        let token = fixture.token().await;
        assert_eq!(refreshes(&fixture), before + 1, "the issuer was asked");
        match token {
            Ok(token) => assert!(holds && text(&token) != old && text(&token) != newer && token.version == 3),
            Err(Error::NeedsReauth(reason)) => assert!(!holds && reason == "invalid_grant", "{reason}"),
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn l112_an_older_grant_that_nothing_can_check_needs_its_owner() {
    let fixture = OauthFixture::with(|ways| ways.refresh_tokens = false).await;
    fixture.connect().await;
    let database = saved(&fixture).await;
    fixture.connect().await;
    let newer = text(&fixture.token().await.unwrap());
    database.put_back(&GRANTS).await;
    for _ in 0..2 {
        assert!(matches!(fixture.token().await, Err(Error::NeedsReauth(reason)) if reason == "outdated"));
    }
    assert_eq!(fixture.connection().await.unwrap().status_reason.as_deref(), Some("outdated"));
    fixture.connect().await;
    assert_ne!(text(&fixture.token().await.unwrap()), newer);
}

#[tokio::test]
async fn l112_a_disconnected_grant_that_was_put_back_is_not_used() {
    // Also while its tokens wait to be revoked, so that their material is still there.
    for revocations_fail in [false, true] {
        let fixture = OauthFixture::new().await;
        let id = fixture.connect().await;
        fixture.token().await.unwrap();
        let database = saved(&fixture).await;
        if revocations_fail {
            fixture.issuer.set(|ways| ways.revoke_script.extend([503; 8]));
        }
        let auth = AuthMethod::Session { id: SessionId::new(), signed_in_at: fixture.clock.now() };
        let identity = Identity::User { id: fixture.ana, role: Role::Member };
        fixture.oauth.disconnect(&Principal { tenant: fixture.tenant, identity, auth }, id).await.unwrap();
        if revocations_fail {
            database.run("UPDATE connection SET ended_at = NULL").await;
        } else {
            database.put_back(&GRANTS).await;
        }
        let before = fixture.issuer.look(|seen| seen.token_requests.len());
        assert!(matches!(fixture.token().await, Err(Error::NeedsReauth(reason)) if reason == "outdated"));
        assert_eq!(fixture.issuer.look(|seen| seen.token_requests.len()), before, "nothing was sent");
        fixture.connect().await;
        assert!(fixture.issuer.accepts(&text(&fixture.token().await.unwrap())), "a new consent mends it");
    }
}

#[tokio::test]
async fn l112_a_replaced_key_that_was_put_back_is_not_sent() {
    let fixture = McpFixture::new().await;
    let key = json!({ "mode": "tenant_key", "header": "x-key", "secret": "the-first-key-of-all" });
    let server = fixture.usable("notes", key).await;
    let agent = fixture.agent(&fixture.owner).await;
    assert_eq!(said(&fixture.call(&agent, "notes__echo").await), "done");
    let database = Tampering::at(&fixture.app.slices().config.database_url).await;
    database.save(&SECRETS).await;
    let path = format!("/v1/mcp-servers/{server}/secret");
    fixture.owner.put(&path, json!({ "secret": "the-second-key-of-all" })).await.expect(200);
    database.put_back(&SECRETS).await;
    let before = fixture.upstream.seen().len();
    // Also by a process that starts now, which knows it from beside the key file alone.
    let second = fixture.app.second().await;
    let tested = second.mcp.test(fixture.app.tenant, server.parse().unwrap(), &crate::oauth::by()).await;
    let error = tested.map_or_else(|error| error.to_string(), |tested| tested.error.unwrap());
    assert!(error.contains("enter it again"), "{error}");
    assert_ne!(fixture.call(&agent, "notes__echo").await.json["result"]["content"][0]["text"], "done");
    assert_eq!(fixture.upstream.seen().len(), before, "nothing was sent");
    fixture.owner.put(&path, json!({ "secret": "the-third-key-of-all" })).await.expect(200);
    assert_eq!(said(&fixture.call(&agent, "notes__echo").await), "done");
    assert_eq!(fixture.upstream.calls().last().unwrap().headers["x-key"], "the-third-key-of-all");
}

#[tokio::test]
async fn l112_a_replaced_webhook_secret_that_was_put_back_verifies_nothing() {
    let app = TestApp::new().await;
    let owner = app.owner().await;
    let space = crate::spaces::space(&owner, "work", "public").await;
    let body = json!({ "name": "x", "space_id": space, "verification": { "scheme": "bearer" } });
    let made = owner.post("/v1/webhooks", body).await.expect(201);
    let path = format!("/v1/webhooks/{}", made.text_of("id"));
    let knock = async |secret: &str| {
        let request = app.anonymous().request("POST", &format!("/hooks/{}", made.text_of("id")));
        app.anonymous()
            .send(request.header("content-type", "application/json").body("{}").bearer_auth(secret))
            .await
            .status
    };
    let old = made.text_of("secret");
    assert_eq!(knock(&old).await, 202);
    let database = Tampering::at(&app.slices().config.database_url).await;
    database.save(&SECRETS).await;
    let rotated = owner.post(&format!("{path}/rotate"), json!({ "overlap_seconds": 0 })).await;
    let new = rotated.text_of("secret");
    // The version before alone is put back, beside the new one.
    database.run("DELETE FROM credential_version WHERE version = 1").await;
    let copy = database.copy_of("credential_version");
    database.run(&format!("INSERT INTO credential_version SELECT * FROM {copy}")).await;
    owner.patch(&path, json!({ "name": "seen anew" })).await.expect(200);
    assert_eq!((knock(&old).await, knock(&new).await), (401, 202));
    database.put_back(&SECRETS).await;
    owner.patch(&path, json!({ "name": "seen anew again" })).await.expect(200);
    assert!(knock(&old).await >= 500, "neither taken nor lost: the sender comes again");
    let rotated = owner.post(&format!("{path}/rotate"), json!({ "overlap_seconds": 0 })).await;
    assert_eq!((knock(&old).await, knock(&rotated.text_of("secret")).await), (401, 202));
}

#[tokio::test]
async fn a_put_back_secret_is_refused_after_its_rows_were_deleted() {
    let app = TestApp::new().await;
    let owner = app.owner().await;
    let space = crate::spaces::space(&owner, "work", "public").await;
    let body = json!({ "name": "x", "space_id": space, "verification": { "scheme": "bearer" } });
    let made = owner.post("/v1/webhooks", body).await.expect(201);
    let webhook = made.text_of("id");
    let knock = async |secret: &str| {
        let request = app.anonymous().request("POST", &format!("/hooks/{webhook}"));
        let request = request.header("content-type", "application/json").body(r#"{"n":1}"#).bearer_auth(secret);
        app.anonymous().send(request).await.status
    };
    let database = Tampering::at(&app.slices().config.database_url).await;
    database.save(&SECRETS).await;
    let rotated = owner.post(&format!("/v1/webhooks/{webhook}/rotate"), json!({ "overlap_seconds": 0 })).await;
    let new = rotated.text_of("secret");
    let versions = async || {
        let tx = app.slices().db.read(app.tenant).await.unwrap();
        let sql = "SELECT version FROM credential_version";
        let rows = tx.orm().query_all_raw(crate::harness::of_tenant(&tx, sql)).await.unwrap();
        let mut found: Vec<i64> = rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect();
        found.sort_unstable();
        found
    };
    app.clock.advance(DAY * 364);
    thinkwork::worker::sweep(&app.app).await;
    assert_eq!(versions().await, [1, 2]);
    app.clock.advance(DAY * 2);
    thinkwork::worker::sweep(&app.app).await;
    assert_eq!(versions().await, [2], "the erased one is gone, the live one is not");
    let path = format!("/v1/webhooks/{webhook}");
    app.owner().await.patch(&path, json!({ "name": "seen anew" })).await.expect(200);
    assert_eq!(knock(&new).await, 202, "what is right does not look older");
    database.put_back(&SECRETS).await;
    app.owner().await.patch(&path, json!({ "name": "seen anew again" })).await.expect(200);
    assert!(knock(&made.text_of("secret")).await >= 500, "the earlier secret is not taken");
}

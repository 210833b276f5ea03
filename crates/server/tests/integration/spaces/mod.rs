//! Spaces through HTTP: who sees one, who changes it, who lets whom in.

use serde_json::json;
use thinkwork_primitives::{AuthMethod, Identity, McpServerId, Principal, Role, SessionId, SpaceId, UserId};

use crate::harness::{Client, TestApp};

/// A Space made by this operator; its id.
pub async fn space(operator: &Client, slug: &str, access: &str) -> String {
    let body = json!({ "slug": slug, "name": slug, "access": access });
    operator.post("/v1/spaces", body).await.expect(201).text_of("id")
}

async fn actions(app: &TestApp) -> Vec<String> {
    let mut tx = app.slices().db.read(app.tenant).await.unwrap();
    let page = app.slices().audit.list(&mut tx, &Default::default(), 200, None).await.unwrap();
    page.events.into_iter().map(|event| event.action).collect()
}

#[tokio::test]
async fn a_space_is_made_listed_changed_and_every_change_is_recorded() {
    let app = TestApp::new().await;
    let operator = app.operator().await;
    let made = operator
        .post("/v1/spaces", json!({ "slug": "billing", "name": "Billing", "access": "public" }))
        .await
        .expect(201);
    let id = made.text_of("id");
    assert_eq!(made.header("location"), format!("/v1/spaces/{id}"));
    assert_eq!(made.json["reopen"], true);
    assert_eq!(app.member("ana").await.get("/v1/spaces").await.expect(200).json["items"][0]["id"], id);
    let path = format!("/v1/spaces/{id}");
    let changed =
        operator.patch(&path, json!({ "name": "Bills", "prompt": "Be brief.", "reopen": false })).await.expect(200);
    assert_eq!((&changed.json["name"], &changed.json["version"]), (&json!("Bills"), &json!(2)));
    let stale = operator.request("PATCH", &path).header("if-match", "\"1\"").header("content-type", "application/json");
    operator.send(stale.body("{\"name\":\"Old\"}")).await.expect(412);
    let actions = actions(&app).await;
    for action in ["space.created", "space.changed"] {
        assert!(actions.iter().any(|found| found == action), "{action} in {actions:?}");
    }
}

#[tokio::test]
async fn bad_input_says_what_to_do() {
    let app = TestApp::new().await;
    let operator = app.operator().await;
    space(&operator, "billing", "public").await;
    let check = async |body, status, code: &str| {
        let answer = operator.post("/v1/spaces", body).await.expect(status);
        assert_eq!(answer.code(), code);
    };
    check(json!({ "slug": "billing", "name": "B", "access": "public" }), 409, "slug_taken").await;
    check(json!({ "slug": "Not a slug", "name": "B", "access": "public" }), 422, "invalid").await;
    check(json!({ "slug": "b", "name": " ", "access": "public" }), 422, "invalid").await;
    check(json!({ "slug": "b", "name": "B", "access": "secret" }), 422, "invalid").await;
    operator.get("/v1/spaces/billing").await.expect(404);
    operator.get(&format!("/v1/spaces/{}", SpaceId::new())).await.expect(404);
    let member = app.member("ana").await;
    member.post("/v1/spaces", json!({ "slug": "mine", "name": "M", "access": "public" })).await.expect(403);
    app.anonymous().get("/v1/spaces").await.expect(401);
}

#[tokio::test]
async fn a_private_space_does_not_exist_for_operators_and_members_outside_it() {
    let app = TestApp::new().await;
    let owner = app.owner().await;
    let operator = app.operator().await;
    let ana = app.member("ana").await;
    let id = space(&owner, "secret", "private").await;
    let path = format!("/v1/spaces/{id}");
    for stranger in [&operator, &ana] {
        for path in [path.clone(), format!("{path}/members"), format!("{path}/mcp-servers"), format!("/me/spaces/{id}")]
        {
            stranger.get(&path).await.expect(404);
        }
        assert_eq!(stranger.get("/v1/spaces").await.expect(200).json["items"], json!([]));
    }
    operator.patch(&path, json!({ "name": "Mine now" })).await.expect(404);
    operator.get(&format!("/admin/spaces/{id}")).await.expect(404);
    let members = format!("{path}/members");
    operator.put(&format!("{members}/{}", ana.user.unwrap()), json!({})).await.expect(404);
    operator.delete(&format!("{members}/{}", app.owner)).await.expect(404);
    owner.put(&format!("{members}/{}", ana.user.unwrap()), json!({})).await.expect(200);
    ana.get(&path).await.expect(200);
    operator.get(&path).await.expect(404);
}

#[tokio::test]
async fn an_operator_who_lets_in_themselves_leaves_a_record() {
    let app = TestApp::new().await;
    let owner = app.owner().await;
    let operator = app.operator().await;
    let id = space(&owner, "secret", "private").await;
    operator.put(&format!("/v1/spaces/{id}/members/{}", operator.user.unwrap()), json!({})).await.expect(200);
    operator.get(&format!("/v1/spaces/{id}")).await.expect(200);
    assert!(actions(&app).await.iter().any(|action| action == "space.member_added"));
}

#[tokio::test]
async fn members_come_and_go_and_the_last_one_of_a_private_space_stays() {
    let app = TestApp::new().await;
    let owner = app.owner().await;
    let ana = app.member("ana").await;
    let id = space(&owner, "secret", "private").await;
    let members = format!("/v1/spaces/{id}/members");
    let of = |user: UserId| format!("{members}/{user}");
    owner.put(&of(ana.user.unwrap()), json!({})).await.expect(200);
    owner.put(&of(ana.user.unwrap()), json!({})).await.expect(200);
    assert_eq!(owner.get(&members).await.expect(200).json["items"].as_array().unwrap().len(), 2);
    owner.put(&of(UserId::new()), json!({})).await.expect(404);
    ana.delete(&of(app.owner)).await.expect(404);
    ana.delete(&of(ana.user.unwrap())).await.expect(204);
    ana.get(&members).await.expect(404);
    assert_eq!(owner.delete(&of(app.owner)).await.expect(409).code(), "last_member");
}

#[tokio::test]
async fn l69_a_server_of_nobody_or_of_another_tenant_is_not_put_into_a_space() {
    let app = TestApp::new().await;
    let owner = app.owner().await;
    let id = space(&owner, "billing", "public").await;
    let path = format!("/v1/spaces/{id}/mcp-servers/{}", McpServerId::new());
    owner.put(&path, json!({})).await.expect(404);
    owner.put(&path, json!({ "approvals": { "a": "perhaps" } })).await.expect(422);
    owner.delete(&path).await.expect(404);
}

#[tokio::test]
async fn pages_make_a_space_and_let_people_in() {
    let app = TestApp::new().await;
    let operator = app.operator().await;
    let ana = app.user("ana", Role::Member).await;
    assert!(operator.get("/me/spaces").await.expect(200).text.contains("No Spaces yet"));
    assert!(operator.get("/admin/spaces").await.expect(200).text.contains("Create a Space"));
    let fields = [("name", "Billing Team"), ("slug", ""), ("access", "private"), ("prompt", "")];
    let made = operator.form("/admin/spaces", &fields).await.expect(303);
    let page = made.header("location").to_owned();
    operator.form(&format!("{page}/members"), &[("user_id", &ana.to_string())]).await.expect(303);
    let shown = operator.get(&page).await.expect(200).text;
    assert!(shown.contains("billing-team") && shown.contains("ana"), "{shown}");
    let again = operator.form("/admin/spaces", &fields).await.expect(409);
    assert!(again.text.contains("This slug is already taken"), "{}", again.text);
    app.session_of(ana).await.get("/admin/spaces").await.expect(403);
}

/// Both looks are made before either is written, as two processes would.
#[tokio::test]
async fn the_last_two_members_cannot_leave_at_the_same_time() {
    let app = TestApp::new().await;
    let owner = app.owner().await;
    let private: SpaceId = space(&owner, "private", "private").await.parse().unwrap();
    let bo = app.user("bo", Role::Member).await;
    owner.put(&format!("/v1/spaces/{private}/members/{bo}"), json!({})).await.expect(200);
    let as_of = |user| Principal {
        tenant: app.tenant,
        identity: Identity::User { id: user, role: Role::Operator },
        auth: AuthMethod::Session { id: SessionId::new(), signed_in_at: app.clock.now() },
    };
    let mut first = app.slices().db.write(app.tenant).await.unwrap();
    app.slices().spaces.member_delete(&mut first, private, bo, &as_of(bo)).await.unwrap();
    let other = app.app.clone();
    let by = as_of(app.owner);
    let tenant = app.tenant;
    let asked = app.owner;
    let second = tokio::spawn(async move {
        let mut tx = other.db.write(tenant).await.unwrap();
        let removed = other.spaces.member_delete(&mut tx, private, asked, &by).await;
        if removed.is_ok() {
            tx.commit().await.unwrap();
        }
        removed
    });
    // The second has had time to look.
    for _ in 0..20 {
        owner.get(&format!("/v1/spaces/{private}")).await.expect(200);
    }
    first.commit().await.unwrap();
    let removed = second.await.unwrap();
    assert!(matches!(removed, Err(thinkwork::spaces::Error::LastMember)), "{removed:?}");
}

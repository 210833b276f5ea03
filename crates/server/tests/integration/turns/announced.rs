//! What everybody is told of: the agent, its servers, and operators who join a private Space.

use serde_json::json;

use super::outside::{Model, Upstream, answers};
use super::{TurnFixture, tenant_key};

#[tokio::test]
async fn a_new_model_new_instructions_and_an_approved_server_are_told_on_every_home() {
    let fixture = TurnFixture::new().await;
    let ana = fixture.app.member("ana").await;
    let home = async || ana.get("/me").await.expect(200).text;
    assert!(!home().await.contains("Recent changes"));
    let model = Model::start(|_| answers("Hello.")).await;
    fixture.agent(&model).await;
    assert!(home().await.contains("An operator changed the model"), "the model");
    let body = json!({ "model_base_url": model.url, "model": "any", "instructions": "Be long." });
    fixture.owner.put("/v1/agent", body).await.expect(200);
    assert!(home().await.contains("An operator changed the instructions of the agent."));
    let upstream = Upstream::start(None, &["look"], |_| "found".to_owned()).await;
    fixture.server(&upstream, "notes", tenant_key(), json!({})).await;
    assert!(home().await.contains("notes was approved"));
    fixture.app.clock.advance(std::time::Duration::from_secs(15 * 24 * 3_600));
    let later = fixture.app.session_of(ana.user.unwrap()).await;
    assert!(!later.get("/me").await.expect(200).text.contains("Recent changes"));
}

#[tokio::test]
async fn l115_an_operator_who_joins_reads_and_leaves_is_announced() {
    let fixture = TurnFixture::new().await;
    let operator = fixture.app.operator().await;
    let ana = fixture.app.member("ana").await;
    let space = crate::spaces::space(&fixture.owner, "secret", "private").await;
    let members = format!("/v1/spaces/{space}/members");
    fixture.owner.put(&format!("{members}/{}", ana.user.unwrap()), json!({})).await.expect(200);
    let page = format!("/me/spaces/{space}");
    let shown = async || ana.get(&page).await.expect(200).text;
    assert!(!shown().await.contains("joined this Space"), "neither its maker nor who was let in");
    let join = format!("{members}/{}", operator.user.unwrap());
    operator.put(&join, json!({})).await.expect(200);
    assert!(shown().await.contains("operator, an operator, joined this Space just now and can read everything in it."));
    operator.delete(&join).await.expect(204);
    assert!(shown().await.contains("and has left since; they could read everything in it."));
    operator.put(&join, json!({})).await.expect(200);
    assert_eq!(shown().await.matches("operator, an operator, joined").count(), 2, "each time");
    fixture.app.clock.advance(std::time::Duration::from_secs(15 * 24 * 3_600));
    let ana = fixture.app.session_of(ana.user.unwrap()).await;
    assert!(!ana.get(&page).await.expect(200).text.contains("joined this Space"), "it is shown for two weeks");
}

/// What others wrote among themselves is opened by a person who has just signed in, never by a token.
#[tokio::test]
async fn l115_joining_a_private_space_takes_a_fresh_sign_in() {
    let fixture = TurnFixture::new().await;
    let operator = fixture.app.operator().await;
    let space = crate::spaces::space(&fixture.owner, "secret", "private").await;
    let join = format!("/v1/spaces/{space}/members/{}", operator.user.unwrap());
    let token = json!({ "name": "x", "kind": "personal", "audience": "api", "scopes": ["admin"] });
    let token = operator.post("/v1/tokens", token).await.expect(201).text_of("token");
    assert_eq!(fixture.app.bearer(&token).put(&join, json!({})).await.expect(403).code(), "needs_session");
    fixture.app.clock.advance(std::time::Duration::from_secs(601));
    assert_eq!(operator.put(&join, json!({})).await.expect(403).code(), "reauth_required");
    fixture.app.session_of(operator.user.unwrap()).await.put(&join, json!({})).await.expect(200);
}

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
async fn an_operator_who_joins_a_private_space_is_announced_in_it() {
    let fixture = TurnFixture::new().await;
    let operator = fixture.app.operator().await;
    let ana = fixture.app.member("ana").await;
    let space = crate::spaces::space(&fixture.owner, "secret", "private").await;
    let members = format!("/v1/spaces/{space}/members");
    fixture.owner.put(&format!("{members}/{}", ana.user.unwrap()), json!({})).await.expect(200);
    let page = format!("/me/spaces/{space}");
    assert!(
        !ana.get(&page).await.expect(200).text.contains("joined this Space"),
        "neither its maker nor who was let in"
    );
    operator.put(&format!("{members}/{}", operator.user.unwrap()), json!({})).await.expect(200);
    assert!(ana.get(&page).await.expect(200).text.contains("operator, an operator, joined this Space"));
}

//! Revocation wins every race: what proves somebody is, made while they are being disabled, is dead afterwards.

use serde_json::{Value, json};
use thinkwork_primitives::{Role, Secret};

use super::sessions::PASSWORD;
use crate::harness::{Client, Response, TestApp};

const ROUNDS: usize = 24;

fn cookie(app: &TestApp, answer: &Response) -> Option<Client> {
    let cookies = answer.headers.get_all("set-cookie").iter().filter_map(|value| value.to_str().ok());
    let session = cookies.filter_map(|cookie| cookie.split(';').next()).find(|pair| pair.contains("tw_session="))?;
    let mut client = app.anonymous();
    client.cookie = Some(session.to_owned());
    Some(client)
}

/// Makes proofs of a person while they are disabled, and lets them in again.
async fn round(app: &TestApp, owner: &Client, number: usize) {
    let name = format!("m{number}");
    let user = app.user(&name, Role::Operator).await;
    let password = Secret::from_text(PASSWORD.to_owned());
    app.slices().access.password_set(app.tenant, user, &password).await.unwrap();
    let person = app.session_of(user).await;
    let mint = json!({ "name": "x", "kind": "personal", "audience": "api", "scopes": ["read"] });
    let sign_in = json!({ "email": format!("{name}@acme.test"), "password": PASSWORD });
    let invited = json!({ "email": format!("by-{name}@acme.test"), "name": "X", "role": "member" });
    let path = format!("/v1/users/{user}");
    // One proof comes first in any case, the others meet the disabling.
    let one = person.post("/v1/tokens", mint.clone()).await.expect(201);
    let (disabled, other, session, invitation) = tokio::join!(
        owner.patch(&path, json!({ "disabled": true })),
        person.post("/v1/tokens", mint.clone()),
        async { app.anonymous().post("/v1/sessions", sign_in).await },
        person.post("/v1/users", invited),
    );
    disabled.expect(200);
    let mut proofs: Vec<Client> = Vec::new();
    for token in [one, other].iter().filter(|answer| answer.status == 201) {
        proofs.push(app.bearer(&token.text_of("token")));
    }
    proofs.extend(cookie(app, &session));
    assert!(matches!(invitation.status, 201 | 401 | 403), "{}", invitation.text);
    for disabled in [true, false] {
        owner.patch(&path, json!({ "disabled": disabled })).await.expect(200);
        for proof in &proofs {
            assert_eq!(proof.get("/v1/me").await.status, 401, "round {number}: a proof outlived the disabling");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l117_a_proof_made_while_its_person_is_disabled_is_dead() {
    let app = TestApp::new().await;
    let owner = app.owner().await;
    for number in 0..ROUNDS {
        round(&app, &owner, number).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l117_an_invitation_accepted_while_it_is_withdrawn_signs_nobody_in() {
    let app = TestApp::new().await;
    let owner = app.owner().await;
    for number in 0..ROUNDS {
        let body = json!({ "email": format!("i{number}@acme.test"), "name": "I", "role": "member" });
        let made = owner.post("/v1/users", body).await.expect(201);
        let url = url::Url::parse(&made.text_of("invite_url")).unwrap();
        let code: Value = url.query_pairs().next().unwrap().1.into();
        let path = format!("/v1/users/{}", made.text_of("id"));
        let (disabled, accepted) = tokio::join!(owner.patch(&path, json!({ "disabled": true })), async {
            app.anonymous().post("/v1/invitations/accept", json!({ "code": code, "password": PASSWORD })).await
        },);
        disabled.expect(200);
        for disabled in [true, false] {
            owner.patch(&path, json!({ "disabled": disabled })).await.expect(200);
            if let Some(session) = cookie(&app, &accepted) {
                assert_eq!(session.get("/v1/me").await.status, 401, "round {number}: a session outlived the disabling");
            }
        }
    }
}

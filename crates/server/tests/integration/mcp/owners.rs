//! Whose token reaches whom: a model of all grants behind one address, against the real thing.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;
use thinkwork_primitives::Role;

use super::{McpFixture, call, decide, gateway_token, refresh_and_decide, register, said, text};
use crate::harness::Client;

/// One (tenant, user, server).
struct Holder {
    browser: Client,
    agent: Client,
    gateway: String,
    server: String,
    slug: &'static str,
}

const SLUGS: [&str; 2] = ["one", "two"];

/// Two tenants, two people each, two servers each: all of them behind one address.
async fn holders(fixture: &McpFixture) -> Vec<Holder> {
    let access = &fixture.app.slices().access;
    let globex = access.tenant_create("globex", "Globex", "gina@globex.test", "Gina").await.unwrap();
    let mut holders = Vec::new();
    for (tenant, owner) in [(fixture.app.tenant, fixture.app.owner), (globex.tenant, globex.owner)] {
        let boss = fixture.app.session_in(tenant, owner).await;
        let email = format!("ana@{owner}.test");
        let ana = access.user_create(tenant, owner, &email, "ana", Role::Member).await.unwrap();
        let ana = fixture.app.session_in(tenant, ana).await;
        let space = crate::spaces::space(&boss, "shared", "public").await;
        for slug in SLUGS {
            let server = text(&register(&boss, &fixture.upstream, slug, json!({ "mode": "user_oauth" })).await, "id");
            decide(&boss, &server).await;
            boss.put(&format!("/v1/spaces/{space}/mcp-servers/{server}"), json!({})).await.expect(200);
            fixture.connect(&boss, &server).await;
            refresh_and_decide(&boss, &server).await;
            boss.delete(&format!("/v1/me/mcp-servers/{server}/connection")).await;
            for browser in [&boss, &ana] {
                holders.push(Holder {
                    browser: browser.clone(),
                    agent: fixture.app.bearer(&gateway_token(browser, "personal").await),
                    gateway: format!("/mcp/spaces/{space}"),
                    server: server.clone(),
                    slug,
                });
            }
        }
    }
    holders
}

async fn check(steps: &[(usize, u8)]) {
    let fixture = McpFixture::new().await;
    fixture.upstream.set(|ways| ways.guarded = super::Guarded::Everything);
    let holders = holders(&fixture).await;
    assert_eq!(holders.len(), 8);
    let mut granted: BTreeMap<usize, String> = BTreeMap::new();
    for (index, act) in steps {
        let holder = &holders[*index];
        match act {
            0 => drop(granted.insert(*index, fixture.connect(&holder.browser, &holder.server).await)),
            1 => {
                let path = format!("/v1/me/mcp-servers/{}/connection", holder.server);
                let answer = holder.browser.delete(&path).await;
                assert_eq!(answer.status == 404, granted.remove(index).is_none(), "{}", answer.text);
            }
            _ => {}
        }
        // After each step everybody tries: each token arrives for its own holder and for nobody else.
        for (number, holder) in holders.iter().enumerate() {
            let before = fixture.upstream.calls().len();
            let answer = call(&holder.agent, &holder.gateway, &format!("{}__echo", holder.slug), json!({})).await;
            let calls = fixture.upstream.calls();
            match granted.get(&number) {
                Some(token) => {
                    assert_eq!(said(&answer), "done");
                    assert_eq!(calls.len(), before + 1);
                    assert_eq!(calls[before].bearer(), Some(token.as_str()), "holder {number} after {steps:?}");
                }
                None => {
                    let link = format!("/me/mcp-servers/{}/connect", holder.server);
                    assert!(answer.text.contains(&link), "{}", answer.text);
                    assert_eq!(calls.len(), before, "holder {number} has no grant");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3, max_shrink_iters: 8, ..ProptestConfig::default() })]

    #[test]
    fn l38_one_url_and_many_tenants_users_and_servers_share_no_token(
        steps in prop::collection::vec((0_usize..8, 0_u8..2), 6..9),
    ) {
        // Everybody has one at some time, whatever the rest does.
        let mut all: Vec<(usize, u8)> = (0..8).map(|holder| (holder, 0)).collect();
        all.splice(3..3, steps);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(check(&all));
    }
}

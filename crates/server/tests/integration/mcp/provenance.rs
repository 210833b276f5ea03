//! Where offered tools come from, who granted them and what narrowed them: in the turn, and for whoever asks before one.

use serde_json::{Value, json};
use thinkwork_primitives::{Role, UserId};

use super::{McpFixture, Upstream, decide, offered, register, text};
use crate::harness::{Client, execute_sql};

fn path(fixture: &McpFixture, rest: &str) -> String {
    format!("/v1/spaces/{}/effective-tools{rest}", fixture.space)
}

/// What the inspector says, which must be what a turn of that person gets.
async fn effective(fixture: &McpFixture, who: &Client) -> Value {
    let shown = who.get(&path(fixture, "")).await.expect(200).json;
    let turn = fixture.turn(who, "hello").await;
    assert_eq!((&turn["tools_offered"], &turn["tools_left_out"]), (&shown["offered"], &shown["left_out"]));
    shown
}

#[tokio::test]
async fn a_tool_says_its_source_granter_limits_effect_and_approval() {
    let fixture = McpFixture::new().await;
    let mine = fixture.personal("mine").await;
    let open = fixture.usable("open", json!({ "mode": "tenant_key", "secret": "a-key-of-the-company" })).await;
    let change = json!({ "tool_allowlist": ["echo", "wait"] });
    fixture.owner.patch(&format!("/v1/mcp-servers/{open}"), change).await.expect(200);
    decide(&fixture.owner, &open).await;
    let operator = fixture.app.operator().await;
    let policy = json!({ "tool_allowlist": ["echo"], "approvals": { "echo": "always" } });
    operator.put(&format!("/v1/spaces/{}/mcp-servers/{open}", fixture.space), policy).await.expect(200);
    let shown = effective(&fixture, &fixture.owner).await;
    assert_eq!(
        offered(&json!({ "tools_offered": shown["offered"] })),
        ["mine__echo", "mine__wait", "mine__whoami", "open__echo"]
    );
    assert_eq!(shown["left_out"], json!([]));
    let own = &shown["offered"][0];
    let companys = &shown["offered"][3];
    assert_eq!(own["source"], json!({ "kind": "mcp_server", "id": mine, "slug": "mine" }));
    assert_eq!((&own["effect"], &own["approval"]), (&json!("read"), &json!("never")));
    assert_eq!(own["granted_by"]["act"], "space");
    assert_eq!(own["granted_by"]["requester"], json!({ "kind": "user", "id": fixture.app.owner }));
    let connection = text(&fixture.owner.get("/v1/me/connections").await.expect(200).json["items"][0], "id");
    let subject = json!({ "kind": "user", "user_id": fixture.app.owner, "connection_id": connection });
    assert_eq!(own["granted_by"]["credential_subject"], subject);
    assert!(own.get("narrowed_by").is_none(), "{own}");
    assert_eq!(companys["granted_by"]["requester"]["id"], json!(operator.user.unwrap()));
    assert_eq!(companys["granted_by"]["credential_subject"], json!({ "kind": "tenant" }));
    assert_eq!(companys["narrowed_by"], json!(["registration", "space"]));
    assert_eq!((&companys["effect"], &companys["approval"]), (&json!("read"), &json!("always")));
    // The same server offers another person nothing, and says what mends it.
    let ana = fixture.app.member("ana").await;
    let shown = effective(&fixture, &ana).await;
    assert_eq!(offered(&json!({ "tools_offered": shown["offered"] })), ["open__echo"]);
    let link = fixture.app.url(&format!("/me/mcp-servers/{mine}/connect"));
    let missing = json!({ "source": mine, "server": "mine", "reason": "needs_connection", "connect_url": link });
    assert_eq!(shown["left_out"], json!([missing]));
}

#[tokio::test]
async fn looking_opens_asks_and_records_nothing() {
    let fixture = McpFixture::new().await;
    fixture.personal("mine").await;
    let fresh = Upstream::start(&fixture.issuer).await;
    let id = text(&register(&fixture.owner, &fresh, "fresh", json!({ "mode": "user_oauth" })).await, "id");
    decide(&fixture.owner, &id).await;
    fixture.serve(&id, json!({})).await;
    fixture.connect(&fixture.owner, &id).await;
    let seen = async || (fixture.actions().await.len(), fixture.upstream.seen().len(), fresh.seen().len());
    let before = seen().await;
    let shown = fixture.owner.get(&path(&fixture, "?scope=read")).await.expect(200).json;
    let page = fixture.owner.get(&format!("/me/spaces/{}/tools", fixture.space)).await.expect(200);
    assert_eq!(seen().await, before);
    assert_eq!(shown["offered"][0]["narrowed_by"], json!(["read_scope"]));
    assert_eq!(shown["left_out"], json!([{ "source": id, "server": "fresh", "reason": "not_discovered" }]));
    assert!(page.text.contains("when the agent first needs them"), "{}", page.text);
    // The first turn asks the server, and from then on both say the same.
    fixture.turn(&fixture.owner, "hello").await;
    assert_eq!(effective(&fixture, &fixture.owner).await["offered"].as_array().unwrap().len(), 6);
}

#[tokio::test]
async fn members_ask_for_themselves_and_operators_for_whom_they_may() {
    let fixture = McpFixture::new().await;
    fixture.usable("open", json!({ "mode": "none" })).await;
    let ana = fixture.app.member("ana").await;
    let operator = fixture.app.operator().await;
    let of = |user: UserId| path(&fixture, &format!("?user={user}"));
    let ana_id = ana.user.unwrap();
    let operator_id = operator.user.unwrap();
    ana.get(&of(ana_id)).await.expect(200);
    assert_eq!(ana.get(&of(operator_id)).await.expect(403).code(), "needs_operator");
    operator.get(&of(ana_id)).await.expect(200);
    operator.get(&of(UserId::new())).await.expect(404);
    operator.get(&path(&fixture, "?user=ana")).await.expect(422);
    let disabled = fixture.app.user("cy", Role::Member).await;
    fixture.owner.patch(&format!("/v1/users/{disabled}"), json!({ "disabled": true })).await.expect(200);
    assert_eq!(operator.get(&of(disabled)).await.expect(409).code(), "not_admitted");
    // A private Space is there for its members alone, operators included.
    let space = crate::spaces::space(&fixture.owner, "private", "private").await;
    let private = |user: UserId| format!("/v1/spaces/{space}/effective-tools?user={user}");
    operator.get(&private(operator_id)).await.expect(404);
    operator.get(&private(ana_id)).await.expect(404);
    operator.get(&format!("/admin/spaces/{space}/tools?user={ana_id}")).await.expect(404);
    ana.get(&format!("/me/spaces/{space}/tools")).await.expect(404);
    assert_eq!(fixture.owner.get(&private(ana_id)).await.expect(409).code(), "not_admitted");
    let page = fixture.owner.get(&format!("/admin/spaces/{space}/tools?user={ana_id}")).await.expect(200);
    assert!(page.text.contains("Add them as a member"), "{}", page.text);
    ana.get(&format!("/admin/spaces/{}/tools", fixture.space)).await.expect(403);
}

#[tokio::test]
async fn the_page_says_it_in_words_with_the_link_that_mends_it() {
    let fixture = McpFixture::new().await;
    let mine = fixture.personal("mine").await;
    let waiting = text(&fixture.register("waiting", json!({ "mode": "none" })).await, "id");
    fixture.serve(&waiting, json!({})).await;
    let ana = fixture.app.member("ana").await;
    let connect = format!("/me/mcp-servers/{mine}/connect");
    let review = format!("/admin/mcp-servers/{waiting}");
    let page = ana.get(&format!("/me/spaces/{}/tools", fixture.space)).await.expect(200).text;
    assert!(page.contains(&connect) && page.contains("You have not connected it."), "{page}");
    assert!(page.contains("An operator has not approved it yet.") && !page.contains(&review), "{page}");
    let path = format!("/admin/spaces/{}/tools", fixture.space);
    let page = fixture.owner.get(&format!("{path}?user={}", ana.user.unwrap())).await.expect(200).text;
    assert!(page.contains("Only they can do this.") && !page.contains(&connect) && page.contains(&review), "{page}");
    let page = fixture.owner.get(&path).await.expect(200).text;
    assert!(page.contains("mine__echo") && page.contains("Uses your own account."), "{page}");
    assert!(page.contains("Added to this Space by") && page.contains("Read-only"), "{page}");
    // The pages of Space and thread lead here.
    let thread = text(&fixture.turn(&ana, "hello").await, "thread_id");
    let here = format!("/me/spaces/{}/tools", fixture.space);
    for from in [format!("/me/spaces/{}", fixture.space), format!("/me/threads/{thread}")] {
        assert!(ana.get(&from).await.expect(200).text.contains(&here), "{from}");
    }
}

#[tokio::test]
async fn a_policy_that_does_not_read_back_offers_nothing() {
    let fixture = McpFixture::new().await;
    fixture.usable("open", json!({ "mode": "none" })).await;
    let damaged = [
        "approvals = '{\"echo\":\"Never\"}'",
        "tool_allowlist = 'echo'",
        "source_kind = 'mcp_servers'",
        "granted_by_id = 'nobody'",
    ];
    for change in damaged {
        let tx = fixture.app.slices().db.write(fixture.app.tenant).await.unwrap();
        execute_sql(&tx, &format!("UPDATE space_tool_source SET {change}")).await.unwrap();
        let refused =
            fixture.app.slices().spaces.sources(&mut { tx }, fixture.space.parse().unwrap()).await.unwrap_err();
        let (column, _) = change.split_once(' ').unwrap();
        let column = column.replace("_id", "_kind");
        assert!(refused.to_string().contains(&format!("space_tool_source.{column}")), "{refused}");
    }
}

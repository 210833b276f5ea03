//! Lists of many threads: pages join, and a filter that no index serves ends its pages early and goes on.

use serde_json::{Value, json};
use thinkwork::threads::NewMessage;
use thinkwork_primitives::{AuthMethod, Identity, Principal, Role, SessionId, SpaceId};

use super::thread;
use crate::harness::{Client, TestApp};
use crate::spaces::space;

/// More than one page looks at.
const MANY: usize = 1_100;
/// Threads that one transaction begins.
const TOGETHER: usize = 100;

/// Every page of a list: how many items each has, and all their ids.
async fn pages(who: &Client, query: &str) -> (Vec<usize>, Vec<String>) {
    let mut sizes = Vec::new();
    let mut ids = Vec::new();
    let mut after = String::new();
    loop {
        let page = who.get(&format!("/v1/threads?{query}{after}")).await.expect(200).json;
        let items = page["items"].as_array().unwrap();
        sizes.push(items.len());
        ids.extend(items.iter().map(|item| item["id"].as_str().unwrap().to_owned()));
        match &page["next"] {
            Value::String(next) => after = format!("&after={next}"),
            _ => return (sizes, ids),
        }
    }
}

/// Threads of the owner, in turns in these Spaces.
async fn begin_many(app: &TestApp, spaces: [SpaceId; 2]) {
    let auth = AuthMethod::Session { id: SessionId::new(), signed_in_at: app.clock.now() };
    let identity = Identity::User { id: app.owner, role: Role::Owner };
    let owner = Principal { tenant: app.tenant, identity, auth };
    for _ in 0..MANY / TOGETHER {
        let mut tx = app.app.db.write(app.tenant).await.unwrap();
        for number in 0..TOGETHER {
            let text = "A report".to_owned();
            let new = NewMessage { space: spaces[number % 2], thread: None, title: None, text, priority: None };
            app.slices().threads.write(&mut tx, new, &owner).await.unwrap();
        }
        tx.commit().await.unwrap();
    }
}

#[tokio::test]
async fn a_filter_that_no_index_serves_ends_a_page_early_and_goes_on() {
    let app = TestApp::new().await;
    let owner = app.owner().await;
    let one = space(&owner, "one", "public").await;
    let two = space(&owner, "two", "public").await;
    let oldest = thread(&owner, &one, "A report of old").await;
    begin_many(&app, [&one, &two].map(|space| space.parse().unwrap())).await;
    owner.patch(&format!("/v1/threads/{oldest}"), json!({ "status": "blocked" })).await.expect(200);

    // Exact by an index, whichever Spaces they are in.
    for query in ["limit=200", "limit=200&status=todo", "limit=200&channel=CHAT", "limit=200&q=rep"] {
        let (_, mut ids) = pages(&owner, query).await;
        let expect = MANY + usize::from(query != "limit=200&status=todo");
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), expect, "{query}");
    }
    let (sizes, _) = pages(&owner, &format!("limit=200&requester={}&status=done", app.owner)).await;
    assert_eq!(sizes, [0]);

    // By a search, and then by what each thread is: the one that fits was begun first.
    let (sizes, ids) = pages(&owner, "q=report&status=blocked").await;
    assert_eq!((sizes.as_slice(), ids.as_slice()), ([0, 0, 1].as_slice(), [oldest].as_slice()));
    let (sizes, ids) = pages(&owner, &format!("requester={}&channel=HOOK", app.owner)).await;
    assert!(sizes.len() > 1 && ids.is_empty(), "{sizes:?}");
    let page = owner.get("/admin/threads?q=report&status=blocked").await.expect(200);
    assert!(page.text.contains("No matching threads") && page.text.contains("Show more"), "{}", page.text);
}

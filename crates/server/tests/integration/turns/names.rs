//! What a turn stores in columns of its own (l76), and names of tools that cannot be mistaken (l58).

use serde_json::json;

use super::outside::Upstream;
use super::{TurnFixture, tenant_key, words};
use crate::harness::execute_sql;

#[tokio::test]
async fn l76_no_row_of_work_is_without_requester_and_subject() {
    let fixture = TurnFixture::new().await;
    let upstream = Upstream::start(None, &["look"], |_| "found".to_owned()).await;
    fixture.server(&upstream, "notes", tenant_key(), json!({})).await;
    let ana = fixture.app.member("ana").await;
    assert_eq!(fixture.turn(&ana, "/tool notes__look {}").await["status"], "succeeded");
    for table in ["thread", "message", "turn", "step"] {
        for column in ["requester_kind", "requester_id", "subject_kind", "client_kind"] {
            let tx = fixture.app.slices().db.write(fixture.app.tenant).await.unwrap();
            let same = format!("UPDATE {table} SET {column} = {column}");
            assert!(execute_sql(&tx, &same).await.unwrap().rows_affected() > 0, "{table} holds rows");
            let refused = execute_sql(&tx, &format!("UPDATE {table} SET {column} = NULL")).await;
            let refused = refused.expect_err("the database refuses").to_string();
            assert!(refused.contains(column), "{table}.{column}: {refused}");
        }
    }
}

#[tokio::test]
async fn l58_long_names_that_begin_alike_stay_two_tools() {
    let fixture = TurnFixture::new().await;
    let long = "look_at_all_the_notes_of_the_whole_company_since_it_was_founded_in_";
    let first = format!("{long}1998");
    let second = format!("{long}1999");
    let upstream = Upstream::start(None, &[&first, &second, "look"], |call| format!("notes of {}", call.tool)).await;
    fixture.server(&upstream, "notes", tenant_key(), json!({})).await;
    fixture.server(&upstream, "notes-2", tenant_key(), json!({})).await;
    let ana = fixture.app.member("ana").await;
    let turn = fixture.turn(&ana, "hello").await;
    let mut offered: Vec<String> = crate::mcp::offered(&turn).into_iter().map(str::to_owned).collect();
    offered.sort();
    offered.dedup();
    assert_eq!(offered.len(), 6, "{offered:?}");
    let plain = |name: &String| {
        name.len() <= 64 && name.chars().all(|char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-'))
    };
    assert!(offered.iter().all(plain), "{offered:?}");
    for name in &offered {
        assert_eq!(fixture.turn(&ana, &format!("/tool {name} {{}}")).await["status"], "succeeded", "{name}");
    }
    let mut called: Vec<String> = upstream.calls().into_iter().map(|call| call.tool).collect();
    called.sort();
    let mut each = vec![first.clone(), first, second.clone(), second, "look".to_owned(), "look".to_owned()];
    each.sort();
    assert_eq!(called, each, "each name reaches its own tool");
    assert_eq!(words(&[turn], "status"), ["succeeded"]);
}

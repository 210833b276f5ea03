//! Full-text search: what is found, by whom, and that a policy stands below it.

use sea_orm::{ConnectionTrait as _, Statement};
use thinkwork_database::search::{self, Entry, Search};
use thinkwork_database::{Db, Error, Tx};
use thinkwork_primitives::TenantId;
use uuid::Uuid;

use crate::harness::{connect, fresh, fresh_url, on_postgres, open, tenant};

/// A tenant with one group of entries.
struct Stage {
    db: Db,
    tenant: TenantId,
    group: Uuid,
}

impl Stage {
    async fn new(db: &Db) -> Self {
        Self { db: db.clone(), tenant: tenant(db).await, group: Uuid::now_v7() }
    }

    async fn add(&self, group: Uuid, labels: &[&str], texts: impl IntoIterator<Item = &str>) -> Vec<Uuid> {
        let labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
        let mut tx = self.db.write(self.tenant).await.unwrap();
        let mut ids = Vec::new();
        for text in texts {
            let id = Uuid::now_v7();
            search::add(&mut tx, &Entry { id, group, labels: &labels, text });
            ids.push(id);
        }
        tx.commit().await.unwrap();
        ids
    }

    async fn find_in(&self, groups: &[Uuid], labels: &[&str], text: &str) -> Vec<Uuid> {
        let labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
        let mut tx = self.db.read(self.tenant).await.unwrap();
        search::find(&mut tx, &Search { text, groups, labels: &labels, before: None }, 50).await.unwrap()
    }

    async fn find(&self, text: &str) -> Vec<Uuid> {
        self.find_in(&[self.group], &[], text).await
    }
}

#[tokio::test]
async fn words_are_found_by_how_they_begin_latest_first() {
    let (db, _folder) = fresh().await;
    let stage = Stage::new(&db).await;
    let ids = stage.add(stage.group, &[], ["Invoice 42 of Ärger", "The INVOICING of 東京", "voice"]).await;
    assert_eq!(stage.find("invoi").await, [ids[1], ids[0]]);
    assert_eq!(stage.find("invoice 4").await, [ids[0]]);
    assert_eq!(stage.find("är").await, [ids[0]]);
    assert_eq!(stage.find("京").await, [ids[1]]);
    assert_eq!(stage.find("voice").await, [ids[2]]);
    for nothing in ["", "!?", "oice", "invoice voice", "NOT voice -", "invoice OR voice"] {
        assert!(stage.find(nothing).await.is_empty(), "{nothing}");
    }
    // None of this is a query.
    for text in ["voice*", "\"voice\"", "voice:", "'voice'", "(voice)", "words : voice", "^voice", "voice & !x | "] {
        let expect: &[Uuid] = if text.contains('x') || text.contains("words") { &[] } else { &[ids[2]] };
        assert_eq!(stage.find(text).await, expect, "{text}");
    }
}

#[tokio::test]
async fn only_named_groups_labels_and_the_own_tenant_are_found() {
    let (db, _folder) = fresh().await;
    let stage = Stage::new(&db).await;
    let other = Stage { group: stage.group, ..Stage::new(&db).await };
    let private = Uuid::now_v7();
    let open = stage.add(stage.group, &["hook"], ["plan of all"]).await;
    let hidden = stage.add(private, &["chat"], ["plan of few"]).await;
    // Of another tenant, which guessed the group.
    let foreign = other.add(stage.group, &["hook"], ["plan of others"]).await;
    assert_eq!(stage.find("plan").await, open);
    assert_eq!(other.find("plan").await, foreign);
    assert_eq!(stage.find_in(&[private, stage.group], &[], "plan").await, [hidden[0], open[0]]);
    assert_eq!(stage.find_in(&[private, stage.group], &["chat"], "plan").await, hidden);
    assert!(stage.find_in(&[stage.group], &["chat"], "plan").await.is_empty());
    assert!(stage.find_in(&[], &[], "plan").await.is_empty());
    // The marks are no words.
    for mark in [format!("g{}", stage.group.simple()), format!("_g{}", stage.group.simple())] {
        assert!(stage.find(&mark).await.is_empty(), "{mark}");
    }
}

#[tokio::test]
async fn a_new_text_takes_the_place_of_the_old_one() {
    let (db, _folder) = fresh().await;
    let stage = Stage::new(&db).await;
    let ids = stage.add(stage.group, &["hook"], ["first", "second"]).await;
    let mut tx = db.write(stage.tenant).await.unwrap();
    let labels = ["hook".to_owned()];
    let entry = Entry { id: ids[0], group: stage.group, labels: &labels, text: "Another" };
    search::change(&mut tx, &entry).await.unwrap();
    tx.commit().await.unwrap();
    assert!(stage.find("first").await.is_empty());
    assert_eq!(stage.find_in(&[stage.group], &["hook"], "another").await, [ids[0]]);
    assert_eq!(stage.find("second").await, [ids[1]]);
}

/// Pages through all hits, in every way in which hits may lie: among the latest, few anywhere, many and old.
#[tokio::test]
async fn pages_join_without_gap_or_overlap_however_hits_lie() {
    let (db, _folder) = fresh().await;
    let stage = Stage::new(&db).await;
    let mut old = Vec::new();
    let mut rare = Vec::new();
    for _ in 0..3 {
        rare.extend(stage.add(stage.group, &[], ["rare common"]).await);
        old.extend(stage.add(stage.group, &[], std::iter::repeat_n("old common", 1_000)).await);
    }
    // More words with one beginning than are looked for one by one.
    let texts: Vec<String> = (0..30).map(|number| format!("begin{number} common")).collect();
    let many = stage.add(stage.group, &[], texts.iter().map(String::as_str)).await;
    let fresh = stage.add(stage.group, &[], std::iter::repeat_n("fresh common", 4_500)).await;
    let all = [rare.clone(), old.clone(), many.clone(), fresh.clone()].concat();
    for (text, mut expect) in [("rare", rare), ("old", old), ("begin", many), ("fresh", fresh), ("comm", all)] {
        expect.sort_unstable();
        expect.reverse();
        let mut found: Vec<Uuid> = Vec::new();
        loop {
            let mut tx = db.read(stage.tenant).await.unwrap();
            let before = found.last().copied();
            let wanted = Search { text, groups: &[stage.group], labels: &[], before };
            let page = search::find(&mut tx, &wanted, 1_500).await.unwrap();
            if page.is_empty() {
                break;
            }
            found.extend(page);
        }
        assert!(found == expect, "{text}: {} and {}", found.len(), expect.len());
    }
}

/// The function that looks for words runs as whoever owns the tables, so the tenant is its own condition.
#[tokio::test]
async fn on_postgres_row_security_holds_below_the_search() {
    if !on_postgres() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let url = fresh_url(&folder).await;
    let db = open(&url).await;
    thinkwork_database::schema::migrate(&db).await.unwrap();
    let one = Stage::new(&db).await;
    let two = Stage::new(&db).await;
    one.add(one.group, &[], ["secret plan"]).await;
    let rows = async |tx: Tx, sql: &str| {
        let backend = tx.orm().get_database_backend();
        let found = tx.orm().query_all_raw(Statement::from_string(backend, sql)).await;
        found.map(|rows| rows.len()).map_err(Error::from)
    };
    let found = format!("SELECT text_search_find('plan'::tsquery, '{{{}}}', 10) AS id", one.group);
    for (tx, expect) in [
        (db.read(one.tenant).await.unwrap(), 1),
        (db.read(two.tenant).await.unwrap(), 0),
        (db.read_shared().await.unwrap(), 0),
    ] {
        assert_eq!(rows(tx, &found).await.unwrap(), expect);
    }
    for (tx, expect) in [
        (db.read(one.tenant).await.unwrap(), 1),
        (db.read(two.tenant).await.unwrap(), 0),
        (db.read_shared().await.unwrap(), 0),
    ] {
        assert_eq!(rows(tx, "SELECT id FROM text_search").await.unwrap(), expect);
    }
    // And whoever has nothing to do with the tables may not ask it.
    let owner = connect(&url).await;
    let sql = "SELECT has_function_privilege('public', 'text_search_find(tsquery, uuid[], bigint)', 'EXECUTE') AS may";
    let row = owner.query_one_raw(Statement::from_string(owner.get_database_backend(), sql)).await.unwrap().unwrap();
    assert!(!row.try_get::<bool>("", "may").unwrap());
    owner.close().await.unwrap();
}

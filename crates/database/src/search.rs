//! Full-text search: FTS5 on SQLite, `tsvector` with a GIN index on PostgreSQL.
//!
//! Invariants: what somebody typed is split into words here and never read as a query; every entry has a group, and only
//! entries of the groups that a search names are found, of its tenant; a search reads few entries where its words are rare
//! and where they are common. Written by the slice that owns what is found, in the transaction of its change.

use std::collections::HashSet;
use std::fmt::Write as _;

use sea_orm::Value;
use thinkwork_primitives::crypto;
use uuid::Uuid;

use crate::{Engine, Error, Tx};

/// Words of a search; more narrow nothing down any more.
const QUERY_WORDS_MAX: usize = 12;
/// Longest word of a search: PostgreSQL takes no word of more than 2,046 bytes, and no title has one.
const QUERY_WORD_BYTES_MAX: usize = 1_024;
/// Groups of one query.
const GROUPS_MAX: usize = 200;
/// The entries that are looked through first: where a word is common, a page of hits is among them.
const LATEST: i64 = 2_000;
/// Words with one prefix that a search on SQLite names one by one: it reads their entries as far as they are needed, and
/// those of a prefix all at once.
const PREFIX_WORDS_MAX: usize = 20;
/// Hits that are sorted; with more, newer ones are not far from the latest entry.
const SORTED_MAX: usize = 2_000;

/// One thing that can be found.
pub struct Entry<'a> {
    /// Its id.
    pub id: Uuid,
    /// What a search names to find it.
    pub group: Uuid,
    /// What a search may be narrowed to; these do not change.
    pub labels: &'a [String],
    /// What it is found by.
    pub text: &'a str,
}

/// What is looked for: everything with words that begin like all the words of `text`.
pub struct Search<'a> {
    /// What somebody typed.
    pub text: &'a str,
    /// Only in these groups.
    pub groups: &'a [Uuid],
    /// Only with all these labels.
    pub labels: &'a [String],
    /// Only older entries than this one, where a page ended.
    pub before: Option<Uuid>,
}

/// Adds an entry, with the commit.
pub fn add(tx: &mut Tx, entry: &Entry<'_>) {
    let mut columns = vec![("id", None), ("tenant_id", None)];
    let mut values = vec![entry.id.into(), tx.tenant().uuid().into()];
    match tx.engine() {
        Engine::Sqlite => {
            columns.extend([("scope", None), ("words", None)]);
            values.extend([scope(entry).into(), words(entry.text).join(" ").into()]);
        }
        Engine::Postgres => {
            columns.extend([("group_id", None), ("words", Some("tsvector"))]);
            values.extend([entry.group.into(), vector(entry).into()]);
        }
    }
    tx.last.push_row("text_search", columns, values);
}

/// Finds an entry by its text from now on. Group and labels stay.
pub async fn change(tx: &mut Tx, entry: &Entry<'_>) -> Result<(), Error> {
    match tx.engine() {
        Engine::Sqlite => {
            let sql = "UPDATE text_search SET words = $1
                       WHERE rowid IN (SELECT rowid FROM text_search WHERE text_search MATCH $2) AND tenant_id = $3";
            let values = vec![words(entry.text).join(" ").into(), own_mark(entry.id).into(), tx.tenant().uuid().into()];
            tx.execute(sql, values).await?;
        }
        Engine::Postgres => {
            let sql = "UPDATE text_search SET words = $1::tsvector WHERE tenant_id = $2 AND id = $3";
            tx.execute(sql, vec![vector(entry).into(), tx.tenant().uuid().into(), entry.id.into()]).await?;
        }
    }
    Ok(())
}

/// At most `count` entries that fit, the latest first.
pub async fn find(tx: &mut Tx, search: &Search<'_>, count: u64) -> Result<Vec<Uuid>, Error> {
    let mut words = words(search.text);
    words.truncate(QUERY_WORDS_MAX);
    if words.is_empty() || words.iter().any(|word| word.len() > QUERY_WORD_BYTES_MAX) {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for groups in search.groups.chunks(GROUPS_MAX) {
        let wanted = Wanted { words: &words, groups, labels: search.labels };
        found.extend(match tx.engine() {
            Engine::Sqlite => on_sqlite(tx, &wanted, search.before, count).await?,
            Engine::Postgres => on_postgres(tx, &wanted, search.before, count).await?,
        });
    }
    found.sort_unstable_by(|one, other| other.cmp(one));
    found.truncate(usize::try_from(count).unwrap_or(usize::MAX));
    Ok(found.into_iter().map(|(_, id)| id).collect())
}

/// A search of which every part is known to be plain words and marks.
struct Wanted<'a> {
    words: &'a [String],
    groups: &'a [Uuid],
    labels: &'a [String],
}

/// Entries as the number that they have in their order, and their id.
async fn on_sqlite(
    tx: &mut Tx,
    wanted: &Wanted<'_>,
    before: Option<Uuid>,
    count: u64,
) -> Result<Vec<(Option<i64>, Uuid)>, Error> {
    let tenant = Value::from(tx.tenant().uuid());
    let mut below = i64::MAX;
    if let Some(before) = before {
        let sql = "SELECT rowid AS number FROM text_search WHERE text_search MATCH $1 AND tenant_id = $2";
        if let Some(row) = tx.query(sql, vec![own_mark(before).into(), tenant.clone()]).await?.first() {
            below = row.try_get("", "number")?;
        }
    }
    let limit = Value::from(i64::try_from(count).unwrap_or(i64::MAX));

    let groups: String = wanted.groups.iter().map(|group| group_mark(*group)).collect();
    let mut sql = "SELECT number, id FROM (SELECT rowid AS number, id, tenant_id, scope, words FROM text_search
                   WHERE rowid < ? ORDER BY rowid DESC LIMIT ?) AS latest WHERE tenant_id = ?"
        .to_owned();
    let mut values = vec![below.into(), LATEST.into(), tenant.clone()];
    for word in wanted.words {
        sql.push_str(" AND ' ' || words LIKE ?");
        values.push(format!("% {word}%").into());
    }
    // The mark of its group is the first one.
    sql.push_str(" AND instr(?, substr(scope, 1, 34)) > 0");
    values.push(groups.into());
    for label in wanted.labels {
        sql.push_str(" AND instr(scope, ?) > 0");
        values.push(label_mark(label).into());
    }
    sql.push_str(" ORDER BY number DESC LIMIT ?");
    values.push(limit.clone());
    let latest = numbered(tx, &sql, values).await?;
    if u64::try_from(latest.len()).unwrap_or(u64::MAX) >= count {
        return Ok(latest);
    }

    let mut words = Vec::with_capacity(wanted.words.len());
    for word in wanted.words {
        let matching = words_with_prefix(tx, word).await?;
        words.push(match matching.len() {
            0 => return Ok(Vec::new()),
            1..=PREFIX_WORDS_MAX => format!("({})", quoted(&matching, '"').join(" OR ")),
            _ => format!("\"{word}\"*"),
        });
    }
    let sql = "SELECT rowid AS number, id FROM text_search WHERE text_search MATCH $1 AND rowid < $2 AND tenant_id = $3
               ORDER BY rowid DESC LIMIT $4";
    let groups: Vec<String> = wanted.groups.iter().map(|group| group_mark(*group)).collect();
    let labels: Vec<String> = wanted.labels.iter().map(|label| label_mark(label)).collect();
    let mut query = vec![format!("({})", quoted(&groups, '"').join(" OR "))];
    query.extend(quoted(&labels, '"'));
    query.extend(words);
    numbered(tx, sql, vec![query.join(" AND ").into(), below.into(), tenant, limit]).await
}

/// The words of all entries that have this prefix, one more than [`PREFIX_WORDS_MAX`] at most.
async fn words_with_prefix(tx: &mut Tx, prefix: &str) -> Result<Vec<String>, Error> {
    let sql = "SELECT term FROM text_search_word WHERE term >= $1 AND term < $2 LIMIT $3";
    let behind_all = format!("{prefix}\u{10FFFF}");
    let limit = i64::try_from(PREFIX_WORDS_MAX).unwrap_or(i64::MAX).saturating_add(1);
    let rows = tx.query(sql, vec![prefix.into(), behind_all.into(), limit.into()]).await?;
    rows.iter().map(|row| Ok(row.try_get("", "term")?)).collect()
}

async fn numbered(tx: &mut Tx, sql: &str, values: Vec<Value>) -> Result<Vec<(Option<i64>, Uuid)>, Error> {
    let rows = tx.query(sql, values).await?;
    rows.iter().map(|row| Ok((Some(row.try_get("", "number")?), row.try_get("", "id")?))).collect()
}

/// The same; there the id is the order.
async fn on_postgres(
    tx: &mut Tx,
    wanted: &Wanted<'_>,
    before: Option<Uuid>,
    count: u64,
) -> Result<Vec<(Option<i64>, Uuid)>, Error> {
    // The groups are compared apart, since the index would read all that is in them, and their list is read once, by a
    // query of its own.
    let labels: Vec<String> = wanted.labels.iter().map(|label| label_mark(label)).collect();
    let mut query = quoted(&labels, '\'');
    query.extend(wanted.words.iter().map(|word| format!("'{word}':*")));
    let query = Value::from(query.join(" & "));
    let groups: Vec<String> = wanted.groups.iter().map(Uuid::to_string).collect();
    let groups = Value::from(format!("{{{}}}", groups.join(",")));
    let before = before.unwrap_or(Uuid::max());
    let limit = usize::try_from(count).unwrap_or(usize::MAX);
    let values = vec![
        tx.tenant().uuid().into(),
        before.into(),
        query.clone(),
        groups.clone(),
        i64::try_from(count).unwrap_or(i64::MAX).into(),
    ];

    let sql = "SELECT id FROM (SELECT id, group_id, words FROM text_search WHERE tenant_id = $1 AND id < $2
                 ORDER BY id DESC LIMIT $6) AS latest
               WHERE words @@ $3::tsquery AND group_id = ANY ((SELECT $4::uuid[])::uuid[]) ORDER BY id DESC LIMIT $5";
    let mut found = ids(tx, sql, values.iter().cloned().chain([LATEST.into()]).collect()).await?;
    if found.len() < limit {
        let most = i64::try_from(SORTED_MAX).unwrap_or(i64::MAX).saturating_add(1);
        let all =
            ids(tx, "SELECT text_search_find($1::tsquery, $2::uuid[], $3) AS id", vec![query, groups, most.into()])
                .await?;
        if all.len() <= SORTED_MAX {
            found = all.into_iter().filter(|id| *id < before).collect();
        } else {
            let sql = "SELECT id FROM text_search WHERE tenant_id = $1 AND id < $2 AND words @@ $3::tsquery
                         AND group_id = ANY ((SELECT $4::uuid[])::uuid[]) ORDER BY id DESC LIMIT $5";
            found = ids(tx, sql, values).await?;
        }
    }
    Ok(found.into_iter().map(|id| (None, id)).collect())
}

async fn ids(tx: &mut Tx, sql: &str, values: Vec<Value>) -> Result<Vec<Uuid>, Error> {
    let rows = tx.query(sql, values).await?;
    rows.iter().map(|row| Ok(row.try_get("", "id")?)).collect()
}

/// Every word and mark is of letters, digits and underlines, so a quote ends it.
fn quoted(words: &[String], quote: char) -> Vec<String> {
    words.iter().map(|word| format!("{quote}{word}{quote}")).collect()
}

/// What text is found by: its words in small letters, each once. Scripts without spaces are found by each character.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut known: HashSet<String> = HashSet::new();
    let mut word = String::new();
    let mut end = |word: &mut String| {
        let word = std::mem::take(word);
        if !word.is_empty() && known.insert(word.clone()) {
            words.push(word);
        }
    };
    for char in text.chars().flat_map(char::to_lowercase) {
        if is_word_alone(char) {
            end(&mut word);
            word.push(char);
            end(&mut word);
        } else if char.is_alphanumeric() {
            word.push(char);
        } else {
            end(&mut word);
        }
    }
    end(&mut word);
    words
}

/// Kana and ideographs: words of these are written without spaces.
const fn is_word_alone(char: char) -> bool {
    matches!(char, '\u{3040}'..='\u{30FF}' | '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}' | '\u{20000}'..='\u{323AF}')
}

/// No word has an underline, so a mark is never taken for one.
fn group_mark(group: Uuid) -> String {
    format!("_g{}", group.simple())
}

fn own_mark(id: Uuid) -> String {
    format!("_i{}", id.simple())
}

/// Labels are whatever somebody asks for, so their digest stands for them.
fn label_mark(label: &str) -> String {
    let mut mark = "_l".to_owned();
    for byte in crypto::sha256(label.as_bytes()).iter().take(16) {
        // Writing to a string cannot fail.
        let _ = write!(mark, "{byte:02x}");
    }
    mark
}

fn scope(entry: &Entry<'_>) -> String {
    let labels = entry.labels.iter().map(|label| label_mark(label));
    let marks: Vec<String> = [group_mark(entry.group), own_mark(entry.id)].into_iter().chain(labels).collect();
    marks.join(" ")
}

/// As PostgreSQL reads a vector.
fn vector(entry: &Entry<'_>) -> String {
    let labels = entry.labels.iter().map(|label| label_mark(label));
    let marks = labels.chain(words(entry.text));
    marks.map(|mark| format!("'{mark}'")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_words_and_nothing_else() {
        let check = |text: &str, expect: &[&str]| assert_eq!(words(text), expect, "{text}");
        check("Invoice #42: re-sent, invoice", &["invoice", "42", "re", "sent"]);
        check("a_b \"c\" d* OR (e) NEAR/2 'f'", &["a", "b", "c", "d", "or", "e", "near", "2", "f"]);
        check("ÄÖ ∑ été", &["äö", "été"]);
        check("東京 2", &["東", "京", "2"]);
        check(" _g% -- \\", &["g"]);
        check("!?", &[]);
    }

    #[test]
    fn l108_text_is_split_into_words_in_linear_time() {
        const REQUEST_LINE_BYTES: usize = 65_536;
        let marks = ["a", " ", "東", "İ", "_", "'", "\"", "%"];
        thinkwork_linear_time::assert_linear(&marks, REQUEST_LINE_BYTES, words);
        // Every word is another one.
        let distinct = |bytes: usize| (0..bytes / 6).map(|number| format!("{number:x} ")).collect::<String>();
        thinkwork_linear_time::assert_linear_in(REQUEST_LINE_BYTES, distinct, |text| words(text));
    }

    #[test]
    fn a_label_is_a_mark_of_its_own() {
        assert_eq!(label_mark("a").len(), 34);
        assert_ne!(label_mark("a"), label_mark("b"));
        assert!(label_mark("' | x").chars().all(|char| char.is_ascii_alphanumeric() || char == '_'));
    }
}

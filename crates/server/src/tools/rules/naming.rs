//! Names of tools for models and clients: `<server>__<tool>`, at most 64 of `[A-Za-z0-9_-]`, unique (L58).
//!
//! Invariant: a name depends on the set of tools and not on their order.

use std::collections::{HashMap, HashSet};

use thinkwork_primitives::{ToolSourceId, crypto};

/// Longest name that model providers take.
pub const NAME_CHARS_MAX: usize = 64;
/// Between server and tool. A slug holds no underscore, so the first one ends it.
const SEPARATOR: &str = "__";
/// Hexadecimal digits that tell cut names apart.
const HASH_CHARS: usize = 6;

/// What a name is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FullName<'a> {
    /// The source's slug.
    pub source_slug: &'a str,
    /// The upstream's own name.
    pub upstream_name: &'a str,
    /// The source, which tells two of the same slug apart.
    pub source: ToolSourceId,
}

/// The slug of the server whose tool has this name. Names of servers with other slugs do not bear on it.
pub fn slug_of(name: &str) -> &str {
    name.split_once(SEPARATOR).map_or(name, |(slug, _)| slug)
}

/// The name of each, in the order given. Each must be given once.
pub fn names(tools: &[FullName<'_>]) -> Vec<String> {
    let full: Vec<String> =
        tools.iter().map(|tool| format!("{}{SEPARATOR}{}", tool.source_slug, tool.upstream_name)).collect();
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for name in &full {
        let count = counts.entry(name).or_default();
        *count = count.saturating_add(1);
    }
    // Names that are fine as they are come first, so that no crafted name takes one away.
    let keeps = |name: &str| is_plain(name) && counts.get(name) == Some(&1);
    let mut taken: HashSet<String> = full.iter().filter(|name| keeps(name)).cloned().collect();
    let mut order: Vec<usize> = (0..tools.len()).collect();
    order.sort_by_key(|&place| tools.get(place));
    let mut named: Vec<String> = full.clone();
    for place in order {
        let (Some(full), Some(tool), Some(slot)) = (full.get(place), tools.get(place), named.get_mut(place)) else {
            continue;
        };
        if !keeps(full) {
            *slot = cut(full, tool.source, &taken);
            taken.insert(slot.clone());
        }
    }
    named
}

fn is_plain(name: &str) -> bool {
    name.len() <= NAME_CHARS_MAX && name.bytes().all(is_name_byte)
}

const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// The full name, cut and with a hash; tried again with more in the hash where somebody made one that is taken.
fn cut(full: &str, source: ToolSourceId, taken: &HashSet<String>) -> String {
    let room = NAME_CHARS_MAX.saturating_sub(HASH_CHARS).saturating_sub(1);
    let start: String =
        full.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).take(room).collect();
    let mut hashed = full.to_owned();
    let mut attempt: u32 = 0;
    loop {
        let hash: String = crypto::hex(&crypto::sha256(hashed.as_bytes())).chars().take(HASH_CHARS).collect();
        let name = format!("{start}_{hash}");
        if !taken.contains(&name) {
            return name;
        }
        attempt = attempt.saturating_add(1);
        hashed = format!("{full}\n{source}\n{attempt}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn source(number: u128) -> ToolSourceId {
        thinkwork_primitives::BuiltInSetId::from_uuid(uuid::Uuid::from_u128(number)).into()
    }

    #[track_caller]
    fn check(tools: &[(&str, &str)], expected: &[&str]) {
        let tools: Vec<_> = (0..)
            .zip(tools)
            .map(|(number, (source_slug, upstream_name))| FullName {
                source_slug,
                upstream_name,
                source: source(number),
            })
            .collect();
        assert_eq!(names(&tools), expected);
    }

    #[test]
    fn l58_plain_names_stay_and_others_are_cut_with_a_hash() {
        check(&[("notes", "search"), ("mail", "search")], &["notes__search", "mail__search"]);
        check(&[("notes", "a.b"), ("notes", "a_b")], &["notes__a_b_788baa", "notes__a_b"]);
        let long = "x".repeat(80);
        let hash: String = crypto::hex(&crypto::sha256(format!("notes__{long}").as_bytes())).chars().take(6).collect();
        let expected = format!("notes__{}_{hash}", "x".repeat(50));
        assert_eq!(expected.len(), 64);
        check(&[("notes", &long)], &[&expected]);
    }

    proptest! {
        #[test]
        fn l58_names_are_unique_short_plain_and_independent_of_order_and_of_other_servers(
            mut tools in prop::collection::btree_set(("[a-c]{1,2}", "[a-b_.é]{0,3}|[x-y]{60,70}", 0_u128..4), 0..24)
                .prop_map(|set| set.into_iter().collect::<Vec<_>>()),
            turn in 0_usize..24,
        ) {
            let name_all = |tools: &[(String, String, u128)]| {
                let full: Vec<_> = tools.iter().map(|(source_slug, upstream_name, number)| {
                    FullName { source_slug, upstream_name, source: source(*number) }
                }).collect();
                names(&full)
            };
            let first = name_all(&tools);
            prop_assert_eq!(first.iter().collect::<HashSet<_>>().len(), tools.len());
            prop_assert!(first.iter().all(|name| is_plain(name)));
            for (slug, _, _) in &tools {
                let all = tools.iter().zip(&first).filter(|((of, _, _), _)| of == slug);
                let (of_slug, names): (Vec<_>, Vec<_>) = all.map(|(tool, name)| (tool.clone(), name.clone())).unzip();
                prop_assert!(names.iter().all(|name| slug_of(name) == slug));
                prop_assert_eq!(name_all(&of_slug), names);
            }
            let by_tool: HashMap<_, _> = tools.iter().cloned().zip(first).collect();
            if !tools.is_empty() {
                let turn = turn % tools.len();
                tools.rotate_left(turn);
            }
            tools.reverse();
            for (tool, name) in tools.iter().zip(name_all(&tools)) {
                prop_assert_eq!(&by_tool[tool], &name);
            }
        }
    }

    #[test]
    fn l108_names_are_given_in_linear_time() {
        let tools =
            |count: usize| (0..count).map(|number| format!("{}{number}", "\u{e9}".repeat(40))).collect::<Vec<_>>();
        thinkwork_linear_time::assert_linear_in(4_000, tools, |upstream_names| {
            let of = |upstream_name| FullName { source_slug: "notes", upstream_name, source: source(1) };
            names(&upstream_names.iter().map(|name| of(name)).collect::<Vec<_>>())
        });
    }
}

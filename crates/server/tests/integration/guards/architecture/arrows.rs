//! Imports go one way: between the crates and between the slices.

use std::collections::BTreeSet;
use std::fs;

use super::expect_none;
use crate::guards::source::{Source, product, root};

/// The slices in the order of ARCHITECTURE.md: each may use those before it.
const SLICES: [&str; 14] = [
    "edge",
    "audit",
    "access",
    "credentials",
    "spaces",
    "tools",
    "oauth",
    "threads",
    "webhooks",
    "mcp",
    "turns",
    "data_retention",
    "home",
    "demo",
];

/// What stands above all slices: it may use every one, and no slice uses it.
const ABOVE: [&str; 11] =
    ["app", "commands", "config", "connections", "health", "lib", "logging", "main", "metrics", "router", "worker"];

/// Of all slices `demo` alone may use what is above: it starts the whole product, as `main` does.
const STARTS_THE_PRODUCT: &str = "demo";

/// What every file may use: settings and the clock of nobody in particular.
const FOR_ALL: [&str; 1] = ["config"];

/// The names right below `crate` that a file uses, by `crate::` or by climbing with `super::`.
fn used(source: &Source) -> BTreeSet<String> {
    let inside = source.path.strip_prefix("crates/server/src/").unwrap();
    let parts = inside.trim_end_matches(".rs").split('/').filter(|part| *part != "mod").count();
    let mut names = BTreeSet::new();
    let climb = "super::".repeat(parts);
    for prefix in ["crate::", climb.as_str()] {
        for (at, _) in source.code.match_indices(prefix) {
            // One `super::` more would be another place; a longer chain is found at its own end.
            let rest = &source.code[at + prefix.len()..];
            if prefix != "crate::" && (rest.starts_with("super::") || source.code[..at].ends_with("super::")) {
                continue;
            }
            names.extend(first_names(rest));
        }
    }
    names
}

/// `a::b` names a; `{a::b, c}` names a and c.
fn first_names(rest: &str) -> Vec<String> {
    let name =
        |text: &str| text.trim().chars().take_while(|char| char.is_alphanumeric() || *char == '_').collect::<String>();
    let Some(group) = rest.strip_prefix('{') else { return vec![name(rest)] };
    let mut depth = 0_usize;
    let mut names = Vec::new();
    let mut item = String::new();
    for char in group.chars() {
        match char {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(name(&item));
                item.clear();
                continue;
            }
            _ => {}
        }
        item.push(char);
    }
    names.push(name(&item));
    names.into_iter().filter(|name| !name.is_empty()).collect()
}

fn wrong_arrows(source: &Source) -> Vec<String> {
    let slice = source.slice().unwrap();
    if ABOVE.contains(&slice) {
        return Vec::new();
    }
    let place = |name: &str| SLICES.iter().position(|known| *known == name);
    let Some(own) = place(slice) else {
        return vec![format!(
            "{}: `{slice}` is no slice of ARCHITECTURE.md; add it to the list there and here",
            source.path
        )];
    };
    let allowed = |name: &str| {
        name == slice
            || FOR_ALL.contains(&name)
            || place(name).is_some_and(|at| at < own)
            || slice == STARTS_THE_PRODUCT
    };
    let known = |name: &str| place(name).is_some() || ABOVE.contains(&name);
    used(source)
        .into_iter()
        .filter(|name| known(name) && !allowed(name) && !(slice == "home" && name == "app"))
        .map(|name| format!("{} uses `{name}`", source.path))
        .collect()
}

#[test]
fn a_slice_uses_only_slices_above_it() {
    let files: Vec<Source> = product().into_iter().filter(|source| source.slice().is_some()).collect();
    assert!(files.len() > 100, "only {} files were found", files.len());
    expect_none(
        files.iter().flat_map(wrong_arrows).collect(),
        &format!(
            "A slice may use only those before it in this order: {}. Move what both need into the upper one, or turn \
             the call round: a job row in the same transaction, a trait that the upper slice owns, or a closure that \
             `app` hands in.",
            SLICES.join(", ")
        ),
    );
}

#[test]
fn every_folder_is_a_slice_or_is_named_as_above_them() {
    let folder = root().join("crates/server/src");
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    let unknown = names.filter(|name| {
        let name = name.trim_end_matches(".rs");
        let known = SLICES.contains(&name) || ABOVE.contains(&name) || FOR_ALL.contains(&name);
        !known && !name.ends_with(".toml")
    });
    expect_none(
        unknown.collect(),
        "Listing crates/server/src prints the product; these are in no list of ARCHITECTURE.md:",
    );
}

#[test]
fn arrows_are_read_from_every_way_to_write_them() {
    let check = |path: &str, code: &str, expect: &[&str]| {
        let source = Source::new(format!("crates/server/src/{path}"), code.to_owned());
        assert_eq!(used(&source).into_iter().collect::<Vec<_>>(), expect, "{path}: {code}");
    };
    check("spaces/http.rs", "use crate::edge::{Json, Id};", &["edge"]);
    check("spaces/http.rs", "use crate::{access::{A, B}, mcp};", &["access", "mcp"]);
    check("spaces/http.rs", "let x: crate::turns::Turn = y; // crate::oauth", &["turns"]);
    check("spaces/http.rs", "use super::super::mcp::Mcp; use super::Space;", &["mcp"]);
    check("spaces/mod.rs", "use super::mcp::Mcp;", &["mcp"]);
    check("spaces/http/wire.rs", "use super::super::Space; use super::super::super::mcp::Mcp;", &["mcp"]);
    let wrong =
        |path: &str, code: &str| wrong_arrows(&Source::new(format!("crates/server/src/{path}"), code.to_owned()));
    assert_eq!(wrong("spaces/mod.rs", "use crate::mcp::Mcp;"), ["crates/server/src/spaces/mod.rs uses `mcp`"]);
    assert_eq!(wrong("edge/mod.rs", "use crate::audit::Audit;").len(), 1);
    assert_eq!(wrong("mcp/mod.rs", "use crate::app::App;").len(), 1);
    assert!(wrong("mcp/mod.rs", "use crate::tools::Tools;").is_empty());
    assert_eq!(wrong("surprise/mod.rs", "").len(), 1);
}

/// The names of our crates in the `[dependencies]` of a crate.
fn depends(name: &str) -> BTreeSet<String> {
    let path = root().join(format!("crates/{name}/Cargo.toml"));
    let manifest: toml::Table = fs::read_to_string(path).unwrap().parse().unwrap();
    let table = manifest["dependencies"].as_table().unwrap();
    table.keys().filter_map(|key| key.strip_prefix("thinkwork-")).map(str::to_owned).collect()
}

#[test]
fn crates_point_at_primitives_and_the_server_at_all() {
    let check = |name: &str, expect: &[&str]| {
        let found = depends(name);
        assert!(
            found.iter().all(|found| expect.contains(&found.as_str())),
            "crates/{name} may depend on {expect:?} of ours, and depends on {found:?}: these borders keep engines, keys \
             and the network apart"
        );
    };
    check("primitives", &[]);
    check("database", &["primitives"]);
    check("vault", &["primitives"]);
    check("outbound", &["primitives"]);
    check("extension-api", &["primitives"]);
    check("intake", &["primitives", "database"]);
    check("linear-time", &[]);
    let all = fs::read_dir(root().join("crates")).unwrap().count();
    assert_eq!(all, 8, "a crate is new or gone: give it a line above");
}

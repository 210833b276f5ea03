//! Rules about the crates of others, read from `cargo tree`: what must not be there, what must be there once,
//! where all come from, under which licences, and how many the product links.

use std::collections::{BTreeMap, BTreeSet};

use crate::command::{capture, cargo};
use crate::failure::Failure;
use crate::licences;
use crate::session::Session;

/// There is one TLS stack and one source of cryptography, `rustls` on `aws-lc-rs`.
const BANNED: &[&str] = &["native-tls", "openssl-sys", "ring"];

/// A second version of these would be a second set of connections, limits or trust.
const ONCE: &[&str] = &["aws-lc-rs", "hyper", "reqwest", "rustls", "sqlx", "sqlx-core", "tokio"];

/// Packages in the product's tree for Linux, itself included; lean is a promise of the README.
const PACKAGES_MAX: usize = 420;

/// One package of a tree.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Package {
    name: String,
    version: String,
    /// What `cargo tree` says of a package that is not from crates.io: a path, a git address, a registry.
    source: Option<String>,
    licence: String,
}

/// All rules over the whole workspace, the number over the product alone.
pub(crate) fn check(session: &Session) -> Result<(), Failure> {
    let all = tree(session, &["--workspace", "--edges", "normal,build,dev"])?;
    let mut findings = banned(&all);
    findings.extend(doubled(&all));
    findings.extend(foreign(&all, &session.root().display().to_string()));
    findings.extend(unlicensed(&all));
    let count = package_count(session)?;
    if count > PACKAGES_MAX {
        findings.push(format!("the product links {count} packages, {PACKAGES_MAX} at most are allowed"));
    }
    if findings.is_empty() {
        println!("    {count} packages of {PACKAGES_MAX}; with tests {}", all.len());
        return Ok(());
    }
    Err(Failure::new(findings.join("\n    ")))
}

/// How many packages the product links or builds with, for this machine's kind and default features.
pub(crate) fn package_count(session: &Session) -> Result<usize, Failure> {
    let product = tree(session, &["--package", "thinkwork", "--edges", "normal,build"])?;
    Ok(product.len())
}

fn tree(session: &Session, selection: &[&str]) -> Result<BTreeSet<Package>, Failure> {
    let mut arguments = vec!["tree", "--locked", "--prefix", "none", "--format", "{p}\t{l}"];
    arguments.extend(selection);
    let text = capture(&mut cargo(&arguments, session.root()))?;
    Ok(text.lines().filter_map(package).collect())
}

/// Reads `name v1.2.3 (path or proc-macro)<tab>licence (*)`; an empty line parts the trees.
fn package(line: &str) -> Option<Package> {
    let (identity, licence) = line.split_once('\t')?;
    let mut words = identity.splitn(3, ' ');
    let name = words.next()?.to_owned();
    let version = words.next()?.trim_start_matches('v').to_owned();
    let rest = words.next().unwrap_or_default().replace("(proc-macro)", "");
    let source = rest.trim().trim_start_matches('(').trim_end_matches(')');
    Some(Package {
        name,
        version,
        source: (!source.is_empty()).then(|| source.to_owned()),
        licence: licence.trim_end_matches("(*)").trim().to_owned(),
    })
}

fn banned(packages: &BTreeSet<Package>) -> Vec<String> {
    packages
        .iter()
        .filter(|package| BANNED.contains(&package.name.as_str()))
        .map(|package| format!("`{}` is banned: see `cargo tree --invert {}`", package.name, package.name))
        .collect()
}

fn doubled(packages: &BTreeSet<Package>) -> Vec<String> {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in packages {
        versions.entry(&package.name).or_default().insert(&package.version);
    }
    ONCE.iter()
        .filter_map(|name| {
            let found = versions.get(name)?;
            let list: Vec<&str> = found.iter().copied().collect();
            (found.len() > 1).then(|| format!("`{name}` must be there once: {}", list.join(", ")))
        })
        .collect()
}

fn foreign(packages: &BTreeSet<Package>, root: &str) -> Vec<String> {
    packages
        .iter()
        .filter_map(|package| {
            let source = package.source.as_ref()?;
            (!source.starts_with(root))
                .then(|| format!("`{}` is neither from crates.io nor ours: {source}", package.name))
        })
        .collect()
}

fn unlicensed(packages: &BTreeSet<Package>) -> Vec<String> {
    packages
        .iter()
        .filter(|package| !licences::allowed(&package.licence))
        .map(|package| format!("`{}` has the licence `{}`, which is not on the list", package.name, package.licence))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packages(lines: &[&str]) -> BTreeSet<Package> {
        lines.iter().filter_map(|line| package(line)).collect()
    }

    #[test]
    fn a_line_is_read_whatever_follows_the_version() {
        let check = |line: &str, source: Option<&str>| {
            let read = package(line).unwrap();
            assert_eq!((read.name.as_str(), read.version.as_str()), ("serde", "1.0.2"));
            assert_eq!(read.source.as_deref(), source);
            assert_eq!(read.licence, "MIT OR Apache-2.0");
        };
        check("serde v1.0.2\tMIT OR Apache-2.0", None);
        check("serde v1.0.2 (proc-macro)\tMIT OR Apache-2.0 (*)", None);
        check("serde v1.0.2 (/here/serde)\tMIT OR Apache-2.0", Some("/here/serde"));
        check("serde v1.0.2 (proc-macro) (/here/serde)\tMIT OR Apache-2.0", Some("/here/serde"));
        assert_eq!(package(""), None);
    }

    #[test]
    fn banned_doubled_and_foreign_packages_are_found() {
        let bad = packages(&[
            "ring v0.17.0\tISC",
            "tokio v1.0.0\tMIT",
            "tokio v1.1.0\tMIT",
            "odd v1.0.0 (https://example.com/odd.git#abc)\tMIT",
            "ours v1.0.0 (/here/ours)\tApache-2.0",
            "closed v1.0.0\tProprietary",
        ]);
        assert_eq!(banned(&bad).len(), 1);
        assert_eq!(doubled(&bad).len(), 1);
        assert_eq!(foreign(&bad, "/here").len(), 1);
        assert_eq!(unlicensed(&bad).len(), 1);
        let good = packages(&["tokio v1.1.0\tMIT", "ours v1.0.0 (/here/ours)\tApache-2.0"]);
        assert!(banned(&good).is_empty() && doubled(&good).is_empty() && foreign(&good, "/here").is_empty());
    }
}

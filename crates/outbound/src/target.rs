//! Whether a URL may be asked, by its text alone: pure, used when an address is registered and again when it is used.
//!
//! Invariant: a host passes only if it is written the way it is read. Parsers that disagree about `0x7f.1`, `①.com`,
//! `a@b` or a trailing dot are how a checked address becomes another one.

use std::net::{IpAddr, Ipv6Addr};

use thinkwork_primitives::limits::URL_BYTES_MAX;
use url::{Host, Url};

use crate::error::{Error, RefusalReason};
use crate::policy::{LoopbackName, Rules, is_loopback_host};

/// Shown where a URL has no host that could be read.
const NO_HOST: &str = "the address";

/// The URL, if its text is plain and its scheme, port and literal address are allowed. Names are not looked up.
pub(crate) fn check(rules: &Rules, text: &str) -> Result<Url, Error> {
    let authority = authority_plain(text).map_err(|why| Error::refused(NO_HOST, why))?;
    let url = Url::parse(text).map_err(|_| Error::refused(NO_HOST, RefusalReason::NotAUrl))?;
    let shown = host_shown(&url).to_owned();
    check_parsed(rules, authority, &url).map_err(|why| Error::refused(&shown, why))?;
    Ok(url)
}

/// The host of a URL for messages.
pub(crate) fn host_shown(url: &Url) -> &str {
    url.host_str().unwrap_or(NO_HOST)
}

/// The authority as written, if there is nothing odd in or around it.
fn authority_plain(text: &str) -> Result<&str, RefusalReason> {
    if text.len() > URL_BYTES_MAX {
        return Err(RefusalReason::TooLong);
    }
    if text.chars().any(|char| char.is_whitespace() || char.is_control() || char == '\\') {
        return Err(RefusalReason::Characters);
    }
    let (scheme, rest) = text.split_once("://").ok_or(RefusalReason::NotAUrl)?;
    if !scheme.eq_ignore_ascii_case("https") && !scheme.eq_ignore_ascii_case("http") {
        return Err(RefusalReason::Scheme);
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(RefusalReason::UserInfo);
    }
    Ok(authority)
}

fn check_parsed(rules: &Rules, authority: &str, url: &Url) -> Result<(), RefusalReason> {
    let host = url.host().ok_or(RefusalReason::NotAUrl)?.to_owned();
    let port = url.port_or_known_default().ok_or(RefusalReason::NotAUrl)?;
    check_spelling(authority, &host, port)?;
    if rules.is_own(&host, port) {
        return Err(RefusalReason::OwnHost);
    }
    check_literal(rules, &host)?;
    if is_loopback_host(&host) {
        return Ok(());
    }
    if url.scheme() != "https" {
        return Err(RefusalReason::Scheme);
    }
    rules.check_port(port)
}

/// Compares host and port as written with what the parser made of them.
fn check_spelling(authority: &str, host: &Host<String>, port: u16) -> Result<(), RefusalReason> {
    let (host_text, port_text) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    if port_text.is_some_and(|text| text != port.to_string()) {
        return Err(RefusalReason::Port(port));
    }
    let plain = match host {
        Host::Domain(name) => name_plain(name) && host_text.eq_ignore_ascii_case(name),
        Host::Ipv4(ip) => host_text == ip.to_string(),
        Host::Ipv6(ip) => {
            let inner = host_text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
            inner.and_then(|text| text.parse::<Ipv6Addr>().ok()) == Some(*ip)
        }
    };
    if plain { Ok(()) } else { Err(RefusalReason::HostSpelling) }
}

/// Letters, digits, hyphens and underscores in labels that are not empty (RFC 1123 section 2.1, and what is in use).
fn name_plain(name: &str) -> bool {
    name.split('.').all(|label| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    })
}

/// Checks what needs no lookup: literal addresses, and names that are loopback by definition.
fn check_literal(rules: &Rules, host: &Host<String>) -> Result<(), RefusalReason> {
    match host {
        Host::Ipv4(ip) => rules.check_address(IpAddr::V4(*ip), LoopbackName::Literal),
        Host::Ipv6(ip) => rules.check_address(IpAddr::V6(*ip), LoopbackName::Literal),
        Host::Domain(name) => match LoopbackName::of(name) {
            LoopbackName::Yes => rules.check_address(IpAddr::V6(Ipv6Addr::LOCALHOST), LoopbackName::Yes),
            LoopbackName::No | LoopbackName::Literal => Ok(()),
        },
    }
}

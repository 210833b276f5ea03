//! What needs no database: who pays, and how many addresses are told apart.

use std::net::IpAddr;

use super::key::RateLimitKey;
use super::{ADDRESSES_MAX, ResponseFormat, SeenAddresses};

#[test]
fn no_flood_of_addresses_is_remembered_beyond_its_limit() {
    let mut seen = SeenAddresses::default();
    assert!((0..ADDRESSES_MAX).all(|_| seen.has_room(7)));
    assert!(!seen.has_room(7));
    assert!(!seen.has_room(6), "a request that was slower than the turn of the minute begins no other one");
    assert!(seen.has_room(8));
}

#[test]
fn a_key_names_no_address() {
    let address: IpAddr = "192.0.2.77".parse().unwrap();
    let key = RateLimitKey::Address(Some(address)).stored();
    assert!(key.starts_with("request:address:") && !key.contains("192.0.2.77"), "{key}");
    assert_ne!(key, RateLimitKey::Address(None).stored());
    assert_ne!(RateLimitKey::OtherAddresses.stored(), RateLimitKey::Address(None).stored());
}

#[test]
fn each_path_is_answered_in_the_shape_that_is_read_there() {
    let check = |path: &str, place: ResponseFormat| assert!(ResponseFormat::of(path) == place, "{path}");
    check("/mcp", ResponseFormat::Gateway);
    check("/mcp/spaces/x", ResponseFormat::Gateway);
    check("/v1/me", ResponseFormat::Api);
    check("/hooks/x", ResponseFormat::Api);
    check("/me", ResponseFormat::Page);
    check("/mcp-servers", ResponseFormat::Api);
}

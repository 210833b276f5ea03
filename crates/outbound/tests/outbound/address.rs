//! The address table: the first and last address of each range and what lies beside it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use thinkwork_outbound::address::{AddressKind, kind};
use thinkwork_outbound::{Error, Outbound, Policy, RefusalReason};
use thinkwork_primitives::Network;

fn check(kind_expected: AddressKind, addresses: &[&str]) {
    for text in addresses {
        let ip: IpAddr = text.parse().unwrap();
        assert_eq!(kind(ip), kind_expected, "{text}");
    }
}

#[test]
fn l56_s17_ipv4_table() {
    check(AddressKind::Unspecified, &["0.0.0.0", "0.0.0.1", "0.255.255.255"]);
    check(
        AddressKind::Global,
        &["1.0.0.0", "9.255.255.255", "11.0.0.0", "8.8.8.8", "93.184.216.34", "223.255.255.255"],
    );
    check(AddressKind::Private, &["10.0.0.0", "10.255.255.255", "172.16.0.0", "172.31.255.255"]);
    check(AddressKind::Private, &["192.168.0.0", "192.168.255.255"]);
    check(AddressKind::Global, &["172.15.255.255", "172.32.0.0", "192.167.255.255", "192.169.0.0"]);
    check(AddressKind::Shared, &["100.64.0.0", "100.127.255.255"]);
    check(AddressKind::Global, &["100.63.255.255", "100.128.0.0"]);
    check(AddressKind::Loopback, &["127.0.0.0", "127.0.0.1", "127.255.255.255"]);
    check(AddressKind::Global, &["126.255.255.255", "128.0.0.0"]);
    check(AddressKind::LinkLocal, &["169.254.0.0", "169.254.255.255"]);
    check(AddressKind::Global, &["169.253.255.255", "169.255.0.0"]);
    check(AddressKind::Metadata, &["169.254.169.254", "169.254.170.2", "169.254.170.23"]);
    check(AddressKind::Metadata, &["100.100.100.200", "168.63.129.16", "192.0.0.192"]);
}

#[test]
fn l56_s17_ipv4_table_from_192() {
    check(AddressKind::ProtocolAssignment, &["192.0.0.0", "192.0.0.8", "192.0.0.170", "192.0.0.255"]);
    check(AddressKind::Global, &["191.255.255.255", "192.0.1.0", "192.0.3.0", "168.63.129.15", "168.63.129.17"]);
    check(AddressKind::Documentation, &["192.0.2.0", "192.0.2.255", "198.51.100.7", "203.0.113.255"]);
    check(AddressKind::AnycastService, &["192.31.196.1", "192.52.193.1", "192.175.48.1"]);
    check(AddressKind::SixToFourRelay, &["192.88.99.0", "192.88.99.255"]);
    check(AddressKind::Benchmarking, &["198.18.0.0", "198.19.255.255"]);
    check(AddressKind::Global, &["198.17.255.255", "198.20.0.0", "192.88.98.255", "192.88.100.0"]);
    check(AddressKind::Multicast, &["224.0.0.0", "233.252.0.1", "239.255.255.255"]);
    check(AddressKind::Reserved, &["240.0.0.0", "255.255.255.254"]);
    check(AddressKind::Broadcast, &["255.255.255.255"]);
}

#[test]
fn l56_s17_ipv6_table() {
    check(AddressKind::Unspecified, &["::"]);
    check(AddressKind::Loopback, &["::1"]);
    check(AddressKind::V4Compatible, &["::2", "::127.0.0.1", "::8.8.8.8", "::ffff:ffff"]);
    check(
        AddressKind::V4Mapped,
        &["::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:169.254.169.254", "::ffff:0:10.0.0.1"],
    );
    check(
        AddressKind::Global,
        &["2001:200::1", "2606:4700::1111", "2a00:1450:4001::200e", "2003::", "3ffe::1", "3fff:1000::"],
    );
    check(AddressKind::Global, &["64:ff9b::8.8.8.8", "64:ff9b::93.184.216.34"]);
    check(AddressKind::Nat64, &["64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b::"]);
    check(AddressKind::Nat64, &["64:ff9b:1::", "64:ff9b:1::8.8.8.8", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff"]);
    check(
        AddressKind::Unallocated,
        &["64:ff9b:2::1", "64:ff9b:0:0:0:1::1", "64:ff9a::1", "1::", "1fff::1", "4000::", "8000::1"],
    );
    check(AddressKind::Discard, &["100::", "100::ffff:ffff:ffff:ffff", "100:0:0:1::1"]);
    check(AddressKind::Unallocated, &["100:0:0:2::", "ff::1", "6000::", "e000::", "fe00::1"]);
}

#[test]
fn l56_s17_ipv6_table_from_2001() {
    check(AddressKind::Teredo, &["2001::", "2001:0:ffff::1"]);
    check(AddressKind::Benchmarking, &["2001:2::", "2001:2:0:ffff::"]);
    check(
        AddressKind::ProtocolAssignment,
        &["2001:1::1", "2001:3::", "2001:4:112::", "2001:10::", "2001:20::", "2001:30::"],
    );
    check(AddressKind::ProtocolAssignment, &["2001:1ff:ffff::"]);
    check(AddressKind::Documentation, &["2001:db8::", "2001:db8:ffff::1", "3fff::", "3fff:fff::1"]);
    check(AddressKind::Global, &["2001:db7::", "2001:db9::"]);
    check(AddressKind::SixToFour, &["2002::", "2002:7f00:1::", "2002:808:808::1", "2002:ffff:ffff::"]);
    check(AddressKind::AnycastService, &["2620:4f:8000::1"]);
    check(AddressKind::Isatap, &["2606:4700::5efe:10.0.0.1", "2606:4700::200:5efe:8.8.8.8"]);
    check(AddressKind::SegmentRouting, &["5f00::", "5f00:ffff::1"]);
    check(AddressKind::UniqueLocal, &["fc00::", "fd00::1", "fdff:ffff::1"]);
    check(AddressKind::Metadata, &["fd00:ec2::254", "fd20:ce::254"]);
    check(AddressKind::LinkLocal, &["fe80::", "fe80::1", "febf::1"]);
    check(AddressKind::SiteLocal, &["fec0::", "feff::1"]);
    check(AddressKind::Multicast, &["ff00::", "ff02::1", "ffff::1"]);
}

fn policy(ranges: &[&str]) -> Policy {
    Policy { allowed_private: ranges.iter().map(|range| range.parse().unwrap()).collect(), ..Policy::default() }
}

#[test]
fn l56_only_configured_private_ranges_open() {
    let outbound = Outbound::new(policy(&["10.1.0.0/16", "fd00::/8", "100.64.0.0/10"])).unwrap();
    for url in ["https://10.1.2.3/", "https://[fd12::1]/", "https://100.64.0.1/"] {
        assert!(outbound.check_url(url).is_ok(), "{url}");
    }
    for (url, kind) in [
        ("https://10.2.0.1/", AddressKind::Private),
        ("https://192.168.0.1/", AddressKind::Private),
        ("https://127.0.0.1/", AddressKind::Loopback),
        ("https://[fd00:ec2::254]/", AddressKind::Metadata),
        ("https://100.100.100.200/", AddressKind::Metadata),
        ("https://[::ffff:10.1.2.3]/", AddressKind::V4Mapped),
        ("https://[64:ff9b::10.1.2.3]/", AddressKind::Nat64),
    ] {
        let why = outbound.check_url(url).map(drop);
        assert!(
            matches!(&why, Err(Error::Refused { why: RefusalReason::Address(found), .. }) if *found == kind),
            "{url} {why:?}"
        );
    }
    let error = outbound.check_url("http://10.1.2.3/").unwrap_err();
    assert!(matches!(error, Error::Refused { why: RefusalReason::Scheme, .. }), "an opened range is still https only");
}

#[test]
fn l56_ranges_that_are_not_private_stop_the_start() {
    for range in ["0.0.0.0/0", "::/0", "10.0.0.0/7", "169.254.169.254", "127.0.0.0/8", "8.8.8.0/24", "172.0.0.0/11"] {
        let policy = Policy { allowed_private: vec![range.parse::<Network>().unwrap()], ..Policy::default() };
        assert!(matches!(Outbound::new(policy), Err(Error::Setup { .. })), "{range}");
    }
}

proptest! {
    /// Whatever carries an IPv4 address inside IPv6 never opens more than that address itself would.
    #[test]
    fn l56_embedded_addresses_open_nothing(bits: u32, low: u64) {
        let v4 = Ipv4Addr::from_bits(bits);
        let [a, b] = [u16::try_from(bits >> 16).unwrap(), u16::try_from(bits & 0xffff).unwrap()];
        let nat64 = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, a, b);
        prop_assert_eq!(kind(nat64.into()) == AddressKind::Global, kind(v4.into()) == AddressKind::Global);
        let low = u128::from(low);
        for closed in [
            v4.to_ipv6_mapped(),
            v4.to_ipv6_compatible(),
            Ipv6Addr::new(0x2002, a, b, 0, 0, 0, 0, 1),
            Ipv6Addr::from_bits(Ipv6Addr::new(0x2001, 0, a, b, 0, 0, 0, 0).to_bits() | low),
            Ipv6Addr::from_bits(Ipv6Addr::new(0x64, 0xff9b, 1, a, b, 0, 0, 0).to_bits() | low),
        ] {
            prop_assert_ne!(kind(closed.into()), AddressKind::Global, "{}", closed);
        }
    }

    /// IPv6 is closed by default.
    #[test]
    fn l56_nothing_outside_global_unicast(bits: u128) {
        let ip = Ipv6Addr::from_bits(bits);
        let nat64 = bits >> 32 == Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0).to_bits() >> 32;
        if kind(ip.into()) == AddressKind::Global {
            prop_assert!(nat64 || bits >> 125 == 1);
        }
    }
}

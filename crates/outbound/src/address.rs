//! What kind of address an IP address is: one table for each family, after IANA's special-purpose registries.
//!
//! Invariants: pure functions, no I/O. Only [`AddressKind::Global`] may be connected to without the deployment's leave. IPv6
//! is closed by default: outside 2000::/3 only NAT64's well-known prefix can be global, by the IPv4 address in it.
//!
//! Sources: IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890 and its updates), IANA IPv6 Address
//! Space (RFC 4291), and the documents of the cloud providers for their metadata addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// The kind of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressKind {
    /// Global unicast: the only kind that is reachable by default.
    Global,
    /// 0.0.0.0/8 and `::` (RFC 791, RFC 4291).
    Unspecified,
    /// 127.0.0.0/8 and `::1` (RFC 1122, RFC 4291).
    Loopback,
    /// 10/8, 172.16/12, 192.168/16 (RFC 1918).
    Private,
    /// 100.64.0.0/10, behind carrier-grade NAT (RFC 6598).
    Shared,
    /// fc00::/7 (RFC 4193).
    UniqueLocal,
    /// 169.254/16 and fe80::/10 (RFC 3927, RFC 4291).
    LinkLocal,
    /// fec0::/10, deprecated (RFC 3879).
    SiteLocal,
    /// Where a cloud machine asks for its own credentials.
    Metadata,
    /// 192.0.0.0/24 and 2001::/23 (RFC 6890, RFC 2928).
    ProtocolAssignment,
    /// TEST-NET-1 to 3, 2001:db8::/32, 3fff::/20 (RFC 5737, RFC 3849, RFC 9637).
    Documentation,
    /// 198.18.0.0/15 and 2001:2::/48 (RFC 2544, RFC 5180).
    Benchmarking,
    /// Anycast services that are no servers of anybody: AS112, AMT (RFC 7534, RFC 7535, RFC 7450).
    AnycastService,
    /// 192.88.99.0/24, 6to4 relays, deprecated (RFC 7526).
    SixToFourRelay,
    /// 224.0.0.0/4 and ff00::/8 (RFC 5771, RFC 4291).
    Multicast,
    /// 240.0.0.0/4 (RFC 1112).
    Reserved,
    /// 255.255.255.255 (RFC 919).
    Broadcast,
    /// ::ffff:0:0/96, and ::ffff:0:0:0/96 of SIIT (RFC 4291, RFC 2765).
    V4Mapped,
    /// ::/96, deprecated (RFC 4291).
    V4Compatible,
    /// 2002::/16 (RFC 3056).
    SixToFour,
    /// 2001::/32 (RFC 4380).
    Teredo,
    /// 64:ff9b::/96 around an address that is not global, and all of 64:ff9b:1::/48, where the place of the
    /// embedded address is not to be known (RFC 6052, RFC 8215).
    Nat64,
    /// An interface identifier of ISATAP, which tunnels to the IPv4 address in it (RFC 5214).
    Isatap,
    /// 100::/64 and 100:0:0:1::/64 (RFC 6666, RFC 9780).
    Discard,
    /// 5f00::/16 (RFC 9602).
    SegmentRouting,
    /// IPv6 outside 2000::/3, given to nobody.
    Unallocated,
}

impl AddressKind {
    /// Whether a deployment may open ranges of this kind in its configuration.
    pub fn is_openable(self) -> bool {
        matches!(self, Self::Private | Self::Shared | Self::UniqueLocal)
    }

    fn words(self) -> &'static str {
        match self {
            Self::Global => "a global address",
            Self::Unspecified => "the unspecified network",
            Self::Loopback => "a loopback address",
            Self::Private => "a private address",
            Self::Shared => "a shared address behind carrier-grade NAT",
            Self::UniqueLocal => "a unique local address",
            Self::LinkLocal => "a link-local address",
            Self::SiteLocal => "a site-local address",
            Self::Metadata => "a cloud metadata address",
            Self::ProtocolAssignment => "an address of a protocol assignment",
            Self::Documentation => "a documentation address",
            Self::Benchmarking => "a benchmarking address",
            Self::AnycastService => "an anycast service address",
            Self::SixToFourRelay => "a 6to4 relay address",
            Self::Multicast => "a multicast address",
            Self::Reserved => "a reserved address",
            Self::Broadcast => "the broadcast address",
            Self::V4Mapped => "an IPv4 address mapped into IPv6",
            Self::V4Compatible => "an IPv4-compatible IPv6 address",
            Self::SixToFour => "a 6to4 address",
            Self::Teredo => "a Teredo address",
            Self::Nat64 => "a NAT64 address that hides another network",
            Self::Isatap => "an ISATAP tunnel address",
            Self::Discard => "a discard address",
            Self::SegmentRouting => "a segment routing address",
            Self::Unallocated => "an unallocated address",
        }
    }
}

impl fmt::Display for AddressKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

/// The kind of any address.
pub fn kind(ip: IpAddr) -> AddressKind {
    match ip {
        IpAddr::V4(ip) => kind_v4(ip),
        IpAddr::V6(ip) => kind_v6(ip),
    }
}

/// The kind of an IPv4 address.
pub fn kind_v4(ip: Ipv4Addr) -> AddressKind {
    V4.iter().find(|(net, _)| net.contains(&ip)).map_or(AddressKind::Global, |(_, kind)| *kind)
}

/// The kind of an IPv6 address.
pub fn kind_v6(ip: Ipv6Addr) -> AddressKind {
    if NAT64_WELL_KNOWN.contains(&ip) {
        // RFC 6052 section 3.1: this prefix may carry global IPv4 addresses only.
        return match kind_v4(embedded_v4(ip)) {
            AddressKind::Global => AddressKind::Global,
            _ => AddressKind::Nat64,
        };
    }
    if let Some((_, kind)) = V6.iter().find(|(net, _)| net.contains(&ip)) {
        return *kind;
    }
    if !GLOBAL_UNICAST.contains(&ip) {
        return AddressKind::Unallocated;
    }
    match ip.segments() {
        [_, _, _, _, 0x0000 | 0x0200, 0x5efe, _, _] => AddressKind::Isatap,
        _ => AddressKind::Global,
    }
}

const GLOBAL_UNICAST: Ipv6Net = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);
const NAT64_WELL_KNOWN: Ipv6Net = v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);

/// First match counts: the more specific line stands above the wider one.
const V4: &[(Ipv4Net, AddressKind)] = &[
    (v4([0, 0, 0, 0], 8), AddressKind::Unspecified),
    (v4([10, 0, 0, 0], 8), AddressKind::Private),
    // Alibaba Cloud's metadata service lies in the shared range.
    (v4([100, 100, 100, 200], 32), AddressKind::Metadata),
    (v4([100, 64, 0, 0], 10), AddressKind::Shared),
    (v4([127, 0, 0, 0], 8), AddressKind::Loopback),
    // Azure's WireServer, the one metadata address that is global by its number.
    (v4([168, 63, 129, 16], 32), AddressKind::Metadata),
    (v4([169, 254, 169, 254], 32), AddressKind::Metadata),
    // Amazon ECS task credentials, and EKS pod identity.
    (v4([169, 254, 170, 0], 24), AddressKind::Metadata),
    (v4([169, 254, 0, 0], 16), AddressKind::LinkLocal),
    (v4([172, 16, 0, 0], 12), AddressKind::Private),
    // Oracle Cloud's older metadata address.
    (v4([192, 0, 0, 192], 32), AddressKind::Metadata),
    (v4([192, 0, 0, 0], 24), AddressKind::ProtocolAssignment),
    (v4([192, 0, 2, 0], 24), AddressKind::Documentation),
    (v4([192, 31, 196, 0], 24), AddressKind::AnycastService),
    (v4([192, 52, 193, 0], 24), AddressKind::AnycastService),
    (v4([192, 88, 99, 0], 24), AddressKind::SixToFourRelay),
    (v4([192, 168, 0, 0], 16), AddressKind::Private),
    (v4([192, 175, 48, 0], 24), AddressKind::AnycastService),
    (v4([198, 18, 0, 0], 15), AddressKind::Benchmarking),
    (v4([198, 51, 100, 0], 24), AddressKind::Documentation),
    (v4([203, 0, 113, 0], 24), AddressKind::Documentation),
    (v4([224, 0, 0, 0], 4), AddressKind::Multicast),
    (v4([255, 255, 255, 255], 32), AddressKind::Broadcast),
    (v4([240, 0, 0, 0], 4), AddressKind::Reserved),
];

/// First match counts: the more specific line stands above the wider one.
const V6: &[(Ipv6Net, AddressKind)] = &[
    (v6([0; 8], 128), AddressKind::Unspecified),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), AddressKind::Loopback),
    (v6([0; 8], 96), AddressKind::V4Compatible),
    (v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96), AddressKind::V4Mapped),
    (v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96), AddressKind::V4Mapped),
    (v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48), AddressKind::Nat64),
    (v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64), AddressKind::Discard),
    (v6([0x100, 0, 0, 1, 0, 0, 0, 0], 64), AddressKind::Discard),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32), AddressKind::Teredo),
    (v6([0x2001, 2, 0, 0, 0, 0, 0, 0], 48), AddressKind::Benchmarking),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), AddressKind::ProtocolAssignment),
    (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), AddressKind::Documentation),
    (v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), AddressKind::SixToFour),
    (v6([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48), AddressKind::AnycastService),
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), AddressKind::Documentation),
    (v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16), AddressKind::SegmentRouting),
    // The metadata services of Amazon and Google over IPv6.
    (v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128), AddressKind::Metadata),
    (v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128), AddressKind::Metadata),
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), AddressKind::UniqueLocal),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), AddressKind::LinkLocal),
    (v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), AddressKind::SiteLocal),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), AddressKind::Multicast),
];

const fn v4(octets: [u8; 4], bits: u8) -> Ipv4Net {
    let [a, b, c, d] = octets;
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), bits)
}

const fn v6(segments: [u16; 8], bits: u8) -> Ipv6Net {
    let [a, b, c, d, e, f, g, h] = segments;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), bits)
}

/// The IPv4 address in the last 32 bits.
fn embedded_v4(ip: Ipv6Addr) -> Ipv4Addr {
    let [.., a, b, c, d] = ip.octets();
    Ipv4Addr::new(a, b, c, d)
}

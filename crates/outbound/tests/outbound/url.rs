//! What a URL may look like, before anything is looked up.

use proptest::prelude::*;
use thinkwork_outbound::address::AddressKind;
use thinkwork_outbound::{Error, Outbound, Policy, RefusalReason};

use crate::peer::loopback_policy;

fn refusal(outbound: &Outbound, url: &str) -> Option<RefusalReason> {
    match outbound.check_url(url) {
        Ok(_) => None,
        Err(Error::Refused { why, .. }) => Some(why),
        Err(other) => panic!("{url}: {other:?}"),
    }
}

fn outbound(policy: Policy) -> Outbound {
    Outbound::new(policy).unwrap()
}

#[test]
fn l56_s17_plain_addresses_pass() {
    let outbound = outbound(Policy::default());
    for url in [
        "https://example.com",
        "https://example.com/a?b=c#d",
        "HTTPS://Example.COM:443/",
        "https://mcp_1.example.com/\u{fc}ber",
        "https://xn--bcher-kva.example/",
        "https://8.8.8.8/",
        "https://[2606:4700:0:0::1111]/",
        "https://[64:ff9b::8.8.8.8]/",
        "https://example.com/user@host:80/%2e%2e",
    ] {
        assert_eq!(refusal(&outbound, url), None, "{url}");
    }
}

#[test]
fn l56_s17_odd_spellings_are_refused() {
    let outbound = outbound(loopback_policy());
    for (url, why) in [
        ("https://0x7f.1/", RefusalReason::HostSpelling),
        ("https://2130706433/", RefusalReason::HostSpelling),
        ("https://0177.0.0.1/", RefusalReason::HostSpelling),
        ("https://127.1/", RefusalReason::HostSpelling),
        ("https://0x7f000001/", RefusalReason::HostSpelling),
        ("https://008.8.8.8/", RefusalReason::NotAUrl),
        ("https://8.8.8.8./", RefusalReason::HostSpelling),
        ("https://127.0.0.1./", RefusalReason::HostSpelling),
        ("https://example.com./", RefusalReason::HostSpelling),
        ("https://localhost./", RefusalReason::HostSpelling),
        ("https://a..example/", RefusalReason::HostSpelling),
        ("https://%31%32%37.0.0.1/", RefusalReason::HostSpelling),
        ("https://ex%61mple.com/", RefusalReason::HostSpelling),
        ("https://b\u{fc}cher.example/", RefusalReason::HostSpelling),
        ("https://\u{ff11}\u{ff12}\u{ff17}.0.0.1/", RefusalReason::HostSpelling),
        ("https://\u{2460}.example/", RefusalReason::HostSpelling),
        ("https://127\u{3002}0\u{3002}0\u{3002}1/", RefusalReason::HostSpelling),
        ("https:///example.com/", RefusalReason::HostSpelling),
        ("https://[fe80::1%25eth0]/", RefusalReason::NotAUrl),
        ("https://[::1%lo]/", RefusalReason::NotAUrl),
        ("https://[fe80::1", RefusalReason::NotAUrl),
        ("https://user@example.com/", RefusalReason::UserInfo),
        ("https://user:pass@example.com/", RefusalReason::UserInfo),
        ("https://example.com@10.0.0.1/", RefusalReason::UserInfo),
        ("https://example.com\\@10.0.0.1/", RefusalReason::Characters),
        ("https:\\\\example.com/", RefusalReason::Characters),
        ("https://exa\tmple.com/", RefusalReason::Characters),
        ("https://example.com/\r\nhost: x", RefusalReason::Characters),
        ("https://example.com/\u{0}", RefusalReason::Characters),
        (" https://example.com/", RefusalReason::Characters),
        ("https://example.com/a b", RefusalReason::Characters),
        ("https:example.com", RefusalReason::NotAUrl),
        ("https:/example.com", RefusalReason::NotAUrl),
        ("//example.com/", RefusalReason::NotAUrl),
        ("/relative", RefusalReason::NotAUrl),
        ("", RefusalReason::NotAUrl),
        ("https://", RefusalReason::NotAUrl),
        ("https://:443/", RefusalReason::NotAUrl),
        ("http://example.com/", RefusalReason::Scheme),
        ("ftp://example.com/", RefusalReason::Scheme),
        ("file:///etc/passwd", RefusalReason::Scheme),
        ("javascript://example.com/", RefusalReason::Scheme),
        ("https://example.com:80/", RefusalReason::Port(80)),
        ("https://example.com:8443/", RefusalReason::Port(8443)),
        ("https://example.com:0443/", RefusalReason::Port(443)),
        ("https://example.com:/", RefusalReason::Port(443)),
        ("https://example.com:0/", RefusalReason::Port(0)),
        ("https://example.com:99999/", RefusalReason::NotAUrl),
    ] {
        assert_eq!(refusal(&outbound, url), Some(why), "{url:?}");
    }
    let long = format!("https://example.com/{}", "a".repeat(2_048));
    assert_eq!(refusal(&outbound, &long), Some(RefusalReason::TooLong));
}

#[test]
fn l56_s17_literal_addresses_are_checked() {
    let outbound = outbound(Policy { ports: vec![443, 80], ..Policy::default() });
    for (url, kind) in [
        ("https://127.0.0.1/", AddressKind::Loopback),
        ("https://[::1]/", AddressKind::Loopback),
        ("https://localhost/", AddressKind::Loopback),
        ("https://api.LocalHost/", AddressKind::Loopback),
        ("https://0.0.0.0/", AddressKind::Unspecified),
        ("https://169.254.169.254/latest/meta-data/", AddressKind::Metadata),
        ("https://[::ffff:169.254.169.254]/", AddressKind::V4Mapped),
        ("https://[::ffff:a9fe:a9fe]/", AddressKind::V4Mapped),
        ("https://[0:0:0:0:0:ffff:7f00:1]/", AddressKind::V4Mapped),
        ("https://[::127.0.0.1]/", AddressKind::V4Compatible),
        ("https://[2002:a9fe:a9fe::]/", AddressKind::SixToFour),
        ("https://[64:ff9b::169.254.169.254]/", AddressKind::Nat64),
        ("https://[fd00:ec2::254]/", AddressKind::Metadata),
        ("https://10.0.0.1/", AddressKind::Private),
        ("https://255.255.255.255/", AddressKind::Broadcast),
    ] {
        assert_eq!(refusal(&outbound, url), Some(RefusalReason::Address(kind)), "{url}");
    }
    assert_eq!(refusal(&outbound, "http://8.8.8.8/"), Some(RefusalReason::Scheme));
}

#[test]
fn l56_loopback_is_for_development_alone() {
    let outbound = outbound(loopback_policy());
    for url in [
        "http://127.0.0.1:8080/",
        "http://localhost:1/",
        "https://[::1]:9/",
        "http://127.9.9.9/",
        "http://a.localhost/",
    ] {
        assert_eq!(refusal(&outbound, url), None, "{url}");
    }
    for url in ["http://10.0.0.1/", "http://[fe80::1]/", "https://169.254.169.254/", "https://[::ffff:127.0.0.1]/"] {
        assert!(matches!(refusal(&outbound, url), Some(RefusalReason::Address(_))), "{url}");
    }
    assert_eq!(refusal(&outbound, "http://localhost.example.com/"), Some(RefusalReason::Scheme));
}

#[test]
fn l56_this_deployment_is_not_reachable() {
    let own = |host: &str, allow_loopback| Policy {
        own_hosts: vec![host.to_owned()],
        allow_loopback,
        ports: vec![443, 8443],
        ..Policy::default()
    };
    let named = outbound(own("Work.Example.com", false));
    for url in ["https://work.example.com/mcp", "https://WORK.example.com/", "https://work.example.com:8443/"] {
        assert_eq!(refusal(&named, url), Some(RefusalReason::OwnHost), "{url}");
    }
    assert_eq!(refusal(&named, "https://other.example.com/"), None);
    let local = outbound(own("127.0.0.1:8080", true));
    for url in ["http://127.0.0.1:8080/", "http://localhost:8080/", "http://[::1]:8080/", "http://127.0.0.2:8080/"] {
        assert_eq!(refusal(&local, url), Some(RefusalReason::OwnHost), "{url}");
    }
    assert_eq!(refusal(&local, "http://127.0.0.1:8081/"), None);
    assert!(matches!(Outbound::new(own("localhost", true)), Err(Error::Setup { .. })));
    assert!(matches!(Outbound::new(own("work.example.com:port", true)), Err(Error::Setup { .. })));
    assert!(matches!(Outbound::new(own("https://work.example.com", true)), Err(Error::Setup { .. })));
}

#[test]
fn l56_messages_show_the_host_alone() {
    let outbound = outbound(Policy::default());
    for url in
        ["https://10.0.0.1/path-canary?key=query-canary", "https://canary:canary@example.com/", "https://[canary"]
    {
        let error = outbound.check_url(url).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
    }
}

proptest! {
    /// What passes reads the same to any parser: the host in the text is the host that is asked.
    #[test]
    fn l56_what_passes_is_spelled_plainly(url in "https?://[a-z0-9.:@%\\[\\]x\\\\/-]{0,24}") {
        if let Ok(parsed) = outbound(Policy::default()).check_url(&url) {
            let rest = url.strip_prefix("https://").unwrap();
            let host = parsed.host_str().unwrap();
            prop_assert!(host.starts_with('[') || rest.starts_with(host), "{}", url);
            prop_assert_eq!(parsed.username(), "");
        }
    }
}

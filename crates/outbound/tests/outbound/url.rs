//! What a URL may look like, before anything is looked up.

use proptest::prelude::*;
use thinkwork_outbound::address::Kind;
use thinkwork_outbound::{Error, Outbound, Policy, Why};

use crate::peer::loopback_policy;

fn refusal(outbound: &Outbound, url: &str) -> Option<Why> {
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
        ("https://0x7f.1/", Why::HostSpelling),
        ("https://2130706433/", Why::HostSpelling),
        ("https://0177.0.0.1/", Why::HostSpelling),
        ("https://127.1/", Why::HostSpelling),
        ("https://0x7f000001/", Why::HostSpelling),
        ("https://008.8.8.8/", Why::NotAUrl),
        ("https://8.8.8.8./", Why::HostSpelling),
        ("https://127.0.0.1./", Why::HostSpelling),
        ("https://example.com./", Why::HostSpelling),
        ("https://localhost./", Why::HostSpelling),
        ("https://a..example/", Why::HostSpelling),
        ("https://%31%32%37.0.0.1/", Why::HostSpelling),
        ("https://ex%61mple.com/", Why::HostSpelling),
        ("https://b\u{fc}cher.example/", Why::HostSpelling),
        ("https://\u{ff11}\u{ff12}\u{ff17}.0.0.1/", Why::HostSpelling),
        ("https://\u{2460}.example/", Why::HostSpelling),
        ("https://127\u{3002}0\u{3002}0\u{3002}1/", Why::HostSpelling),
        ("https:///example.com/", Why::HostSpelling),
        ("https://[fe80::1%25eth0]/", Why::NotAUrl),
        ("https://[::1%lo]/", Why::NotAUrl),
        ("https://[fe80::1", Why::NotAUrl),
        ("https://user@example.com/", Why::UserInfo),
        ("https://user:pass@example.com/", Why::UserInfo),
        ("https://example.com@10.0.0.1/", Why::UserInfo),
        ("https://example.com\\@10.0.0.1/", Why::Characters),
        ("https:\\\\example.com/", Why::Characters),
        ("https://exa\tmple.com/", Why::Characters),
        ("https://example.com/\r\nhost: x", Why::Characters),
        ("https://example.com/\u{0}", Why::Characters),
        (" https://example.com/", Why::Characters),
        ("https://example.com/a b", Why::Characters),
        ("https:example.com", Why::NotAUrl),
        ("https:/example.com", Why::NotAUrl),
        ("//example.com/", Why::NotAUrl),
        ("/relative", Why::NotAUrl),
        ("", Why::NotAUrl),
        ("https://", Why::NotAUrl),
        ("https://:443/", Why::NotAUrl),
        ("http://example.com/", Why::Scheme),
        ("ftp://example.com/", Why::Scheme),
        ("file:///etc/passwd", Why::Scheme),
        ("javascript://example.com/", Why::Scheme),
        ("https://example.com:80/", Why::Port(80)),
        ("https://example.com:8443/", Why::Port(8443)),
        ("https://example.com:0443/", Why::Port(443)),
        ("https://example.com:/", Why::Port(443)),
        ("https://example.com:0/", Why::Port(0)),
        ("https://example.com:99999/", Why::NotAUrl),
    ] {
        assert_eq!(refusal(&outbound, url), Some(why), "{url:?}");
    }
    let long = format!("https://example.com/{}", "a".repeat(2_048));
    assert_eq!(refusal(&outbound, &long), Some(Why::TooLong));
}

#[test]
fn l56_s17_literal_addresses_are_checked() {
    let outbound = outbound(Policy { ports: vec![443, 80], ..Policy::default() });
    for (url, kind) in [
        ("https://127.0.0.1/", Kind::Loopback),
        ("https://[::1]/", Kind::Loopback),
        ("https://localhost/", Kind::Loopback),
        ("https://api.LocalHost/", Kind::Loopback),
        ("https://0.0.0.0/", Kind::Unspecified),
        ("https://169.254.169.254/latest/meta-data/", Kind::Metadata),
        ("https://[::ffff:169.254.169.254]/", Kind::V4Mapped),
        ("https://[::ffff:a9fe:a9fe]/", Kind::V4Mapped),
        ("https://[0:0:0:0:0:ffff:7f00:1]/", Kind::V4Mapped),
        ("https://[::127.0.0.1]/", Kind::V4Compatible),
        ("https://[2002:a9fe:a9fe::]/", Kind::SixToFour),
        ("https://[64:ff9b::169.254.169.254]/", Kind::Nat64),
        ("https://[fd00:ec2::254]/", Kind::Metadata),
        ("https://10.0.0.1/", Kind::Private),
        ("https://255.255.255.255/", Kind::Broadcast),
    ] {
        assert_eq!(refusal(&outbound, url), Some(Why::Address(kind)), "{url}");
    }
    assert_eq!(refusal(&outbound, "http://8.8.8.8/"), Some(Why::Scheme));
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
        assert!(matches!(refusal(&outbound, url), Some(Why::Address(_))), "{url}");
    }
    assert_eq!(refusal(&outbound, "http://localhost.example.com/"), Some(Why::Scheme));
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
        assert_eq!(refusal(&named, url), Some(Why::OwnHost), "{url}");
    }
    assert_eq!(refusal(&named, "https://other.example.com/"), None);
    let local = outbound(own("127.0.0.1:8080", true));
    for url in ["http://127.0.0.1:8080/", "http://localhost:8080/", "http://[::1]:8080/", "http://127.0.0.2:8080/"] {
        assert_eq!(refusal(&local, url), Some(Why::OwnHost), "{url}");
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

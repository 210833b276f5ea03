//! Tables of the pure decisions.

use thinkwork_primitives::{SessionId, TenantId, TokenId, TurnId, UserId};

use super::*;

const NOW: Timestamp = Timestamp::from_micros(1_764_000_000_000_000);

fn session(role: Role, age_seconds: u64) -> Principal {
    let signed_in_at = NOW.minus(Duration::from_secs(age_seconds));
    Principal {
        tenant: TenantId::new(),
        identity: Identity::User { id: UserId::new(), role },
        auth: AuthMethod::Session { id: SessionId::new(), signed_in_at },
    }
}

fn token(identity: Identity, scope: Scope) -> Principal {
    let auth = AuthMethod::Token { id: TokenId::new(), audience: Audience::Api, scope };
    Principal { tenant: TenantId::new(), identity, auth }
}

fn turn(identity: Identity) -> Principal {
    Principal { tenant: TenantId::new(), identity, auth: AuthMethod::Turn { id: TurnId::new() } }
}

fn owner_token(scope: Scope) -> Principal {
    token(Identity::User { id: UserId::new(), role: Role::Owner }, scope)
}

fn person(role: Role) -> User {
    User {
        id: UserId::new(),
        email: "ana@acme.test".to_owned(),
        name: "Ana".to_owned(),
        role,
        disabled: false,
        accepted: true,
        created_at: NOW,
        version: 3,
    }
}

/// The variant's name, which is all that the tables compare.
fn word<T>(result: Result<T, Error>) -> String {
    match result {
        Ok(_) => "ok".to_owned(),
        Err(error) => format!("{error:?}").split([' ', '{', '(']).next().unwrap_or_default().to_owned(),
    }
}

#[test]
fn l05_where_to_go_after_sign_in_is_a_path_of_this_site() {
    let check = |next: &str, expect: &str| assert_eq!(next_path(Some(next)), expect, "{next:?}");
    check("/me/spaces?x=1#top", "/me/spaces?x=1#top");
    check("/", "/");
    check("/me?next=//x&y=/../z", "/me?next=//x&y=/../z");
    for refused in [
        "",
        "//evil.test",
        "/\\evil.test",
        "\\/evil.test",
        "https://evil.test",
        "evil.test",
        "javascript:alert(1)",
        "/a\\b",
        "/a\nb",
        "/\t/evil.test",
        "/a b",
        "/é",
        "/sign-in?next=/sign-in",
        "/sign-out",
        " /me",
        "@evil.test",
        "/me/../..//evil.test",
        "/me/..",
        "/a//b",
    ] {
        check(refused, "/");
    }
    assert_eq!(next_path(None), "/");
    assert_eq!(next_path(Some(&format!("/{}", "a".repeat(limits::URL_BYTES_MAX)))), "/");
}

#[test]
fn s07_a_token_makes_no_token_that_acts_as_a_person() {
    let service = token(Identity::Service, Scope::Admin);
    let check = |by: &Principal, kind: TokenKind, audience: Audience, scope: Scope, expect: &str| {
        let new = NewToken { name: "x".to_owned(), kind, audience, scope, expires_in: None };
        assert_eq!(word(check_token(by, &new, NOW)), expect, "{by:?} {kind:?} {audience:?} {scope:?}");
    };
    use Audience::{Api, Mcp};
    use TokenKind::{Personal, Service};
    for audience in [Api, Mcp] {
        check(&session(Role::Member, 600), Personal, audience, Scope::Write, "ok");
        check(&session(Role::Member, 601), Personal, audience, Scope::Write, "ReauthRequired");
        check(&owner_token(Scope::Admin), Personal, audience, Scope::Read, "NeedsSession");
        check(&service, Personal, audience, Scope::Read, "NeedsSession");
        check(&session(Role::Member, 0), Service, audience, Scope::Read, "NeedsOperator");
        check(&session(Role::Operator, 0), Service, audience, Scope::Read, "ok");
        check(&session(Role::Operator, 601), Service, audience, Scope::Read, "ReauthRequired");
        check(&service, Service, audience, Scope::Write, "NeedsSession");
        check(&owner_token(Scope::Admin), Service, audience, Scope::Write, "NeedsSession");
        check(&owner_token(Scope::Write), Service, audience, Scope::Read, "NeedsOperator");
    }
    // A turn's own token, whoever asked for the turn, makes none at all.
    for identity in [Identity::Service, Identity::User { id: UserId::new(), role: Role::Owner }] {
        for (kind, audience) in [(Personal, Api), (Personal, Mcp), (Service, Api), (Service, Mcp)] {
            let refused = if kind == Personal { "NeedsSession" } else { "NeedsOperator" };
            check(&turn(identity), kind, audience, Scope::Read, refused);
        }
    }
    check(&session(Role::Member, 0), Personal, Api, Scope::Admin, "NeedsOperator");
    check(&session(Role::Owner, 0), Personal, Api, Scope::Admin, "ok");
    check(&session(Role::Owner, 0), Personal, Mcp, Scope::Admin, "Invalid");
}

#[test]
fn l116_a_token_makes_no_operator_and_no_token() {
    for by in [owner_token(Scope::Admin), token(Identity::Service, Scope::Admin)] {
        assert_eq!(word(check_invite(&by, Role::Member, NOW)), "ok");
        let above = if by.user().is_some() { "NeedsSession" } else { "OnlyOwners" };
        assert_eq!(word(check_invite(&by, Role::Operator, NOW)), "NeedsSession");
        assert_eq!(word(check_invite(&by, Role::Owner, NOW)), above);
        for scope in [Scope::Read, Scope::Admin] {
            let kind = TokenKind::Service;
            let new = NewToken { name: "x".to_owned(), kind, audience: Audience::Api, scope, expires_in: None };
            assert_eq!(word(check_token(&by, &new, NOW)), "NeedsSession");
        }
    }
    assert_eq!(word(check_invite(&session(Role::Operator, 601), Role::Operator, NOW)), "ReauthRequired");
    assert_eq!(word(check_invite(&session(Role::Operator, 0), Role::Operator, NOW)), "ok");
}

#[test]
fn only_owners_touch_owners_and_one_stays() {
    let check = |by: &Principal, target: Role, change: UserUpdate, others: u64, expect: &str| {
        let label = format!("{by:?} {target:?} {:?} {:?} {others}", change.role, change.disabled);
        assert_eq!(word(check_change(by, &person(target), &change, others, NOW)), expect, "{label}");
    };
    let to = |role: Role| UserUpdate { role: Some(role), ..UserUpdate::default() };
    let disable = || UserUpdate { disabled: Some(true), ..UserUpdate::default() };
    let owner = session(Role::Owner, 0);
    let operator = session(Role::Operator, 0);
    check(&operator, Role::Member, to(Role::Operator), 1, "ok");
    check(&operator, Role::Member, to(Role::Owner), 1, "OnlyOwners");
    check(&operator, Role::Owner, to(Role::Member), 1, "OnlyOwners");
    check(&operator, Role::Owner, disable(), 1, "OnlyOwners");
    check(&token(Identity::Service, Scope::Admin), Role::Member, to(Role::Owner), 1, "OnlyOwners");
    check(&session(Role::Member, 0), Role::Member, disable(), 1, "NeedsOperator");
    check(&owner, Role::Member, to(Role::Owner), 0, "ok");
    check(&owner, Role::Owner, to(Role::Operator), 0, "LastOwner");
    check(&owner, Role::Owner, disable(), 0, "LastOwner");
    check(&owner, Role::Owner, disable(), 1, "ok");
    check(&session(Role::Operator, 601), Role::Member, to(Role::Operator), 1, "ReauthRequired");
    // A token makes nobody an operator and ends none; a member it may disable.
    let admin = owner_token(Scope::Admin);
    check(&admin, Role::Member, to(Role::Operator), 1, "NeedsSession");
    check(&admin, Role::Operator, to(Role::Member), 1, "NeedsSession");
    check(&admin, Role::Operator, disable(), 1, "NeedsSession");
    check(&admin, Role::Member, disable(), 1, "ok");
    check(&session(Role::Operator, 601), Role::Member, disable(), 1, "ReauthRequired");
    let rename =
        |version| UserUpdate { name: Some("B".to_owned()), if_version: Some(version), ..UserUpdate::default() };
    check(&session(Role::Operator, 601), Role::Member, rename(3), 1, "ok");
    check(&operator, Role::Member, rename(2), 1, "VersionConflict");
}

#[test]
fn a_strangers_tries_do_not_count_against_the_owners_own_browser() {
    let address = "203.0.113.7".parse().ok();
    let stranger = throttles("ana@acme.test", address);
    let owner = [throttle_of_device("cookie")];
    assert_eq!((stranger.len(), owner.len()), (3, 1));
    assert!(stranger.iter().all(|throttle| !owner.contains(throttle)));
    assert!(stranger.iter().all(|throttle| !throttle.key.contains("acme") && !throttle.key.contains("203")));
}

#[test]
fn a_device_cookie_belongs_to_one_password() {
    let cookie = device_cookie("nonce", "$argon2id$one");
    assert!(device_holds(&cookie, "$argon2id$one"));
    assert!(!device_holds(&cookie, "$argon2id$two"));
    assert!(!device_holds("nonce.", "$argon2id$one"));
    assert!(!device_holds("", "$argon2id$one"));
}

#[test]
fn a_session_ends_when_idle_and_at_its_end() {
    let end = NOW.plus(SESSION_LIFETIME);
    assert!(is_session_live(NOW, NOW.minus(SESSION_IDLE), end));
    assert!(!is_session_live(NOW, NOW.minus(SESSION_IDLE + Duration::from_secs(1)), end));
    assert!(!is_session_live(end, end, end));
}

#[test]
fn what_is_entered_is_checked() {
    let email = |text: &str| word(check_email(text));
    assert_eq!(check_email(" Ana@Acme.test ").unwrap(), "Ana@Acme.test");
    assert_eq!(email_key(" Ana@Acme.test "), "ana@acme.test");
    for wrong in ["", "ana", "@acme.test", "ana@", "a@b@c", "a b@c.test", "a\r\n@c.test"] {
        assert_eq!(email(wrong), "Invalid", "{wrong:?}");
    }
    let password = |text: &str| word(check_password(&Secret::from_text(text.to_owned())));
    assert_eq!((password("eleven char").as_str(), password("twelve chars").as_str()), ("Invalid", "ok"));
    assert_eq!(password(&"a".repeat(1_025)), "Invalid");
    let end = |seconds| word(token_expiry(NOW, Some(Duration::from_secs(seconds))));
    assert_eq!((end(59).as_str(), end(60).as_str()), ("Invalid", "ok"));
    assert_eq!(end(367 * 86_400), "Invalid");
    assert_eq!(token_expiry(NOW, None).unwrap(), NOW.plus(Duration::from_secs(90 * 86_400)));
    assert_eq!(widest(&[Scope::Write, Scope::Read]).unwrap(), Scope::Write);
    assert_eq!(word(widest(&[])), "Invalid");
}

#[test]
fn browsers_are_called_as_people_call_them() {
    #[track_caller]
    fn check(user_agent: &str, words: &str) {
        assert_eq!(browser_name(user_agent), words);
    }
    let mozilla = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)";
    check(&format!("{mozilla} Chrome/156.0.0.0 Safari/537.36"), "Chrome on Linux");
    check("Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:150.0) Gecko/20100101 Firefox/150.0", "Firefox on Windows");
    check(
        "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) Version/19.0 Mobile Safari/604.1",
        "Safari on iPhone",
    );
    check("ThinkWork/1.0 (my app)", "ThinkWork/1.0 (my app)");
    check("", "Unknown browser");
}

#[test]
fn l108_what_browsers_and_people_send_is_read_in_linear_time() {
    let marks = ["/", "..", "?", "a", "@", ".", "Mozilla", "\u{130}", " "];
    thinkwork_linear_time::assert_linear(&marks, 65_536, |text| {
        let agent = user_agent(text);
        let checked = (check_email(text).is_ok(), check_name(text).is_ok(), check_slug(text).is_ok());
        (browser_name(&agent), next_path(Some(text)).len(), email_key(text), checked, device_holds(text, "phc"))
    });
}

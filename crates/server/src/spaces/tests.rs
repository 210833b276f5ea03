//! Tests of the pure decisions.

use thinkwork_primitives::{
    Audience, AuthMethod, Identity, Principal, Role, Scope, SessionId, TenantId, Timestamp, TokenId, TurnId, UserId,
};

use super::{Error, SpaceAccess, rules};

fn person(id: UserId, role: Role) -> Principal {
    let auth = AuthMethod::Session { id: SessionId::new(), signed_in_at: Timestamp::from_micros(0) };
    Principal { tenant: TenantId::new(), identity: Identity::User { id, role }, auth }
}

fn by_token(mut principal: Principal, scope: Scope) -> Principal {
    principal.auth = AuthMethod::Token { id: TokenId::new(), audience: Audience::Api, scope };
    principal
}

#[test]
fn a_private_space_shows_to_its_members_alone() {
    assert!(rules::may_see(SpaceAccess::Public, false));
    assert!(rules::may_see(SpaceAccess::Private, true));
    assert!(!rules::may_see(SpaceAccess::Private, false));
}

#[test]
fn operators_let_in_whom_they_may_and_members_nobody() {
    let operator = UserId::new();
    let member = UserId::new();
    let other = UserId::new();
    let check = |sees, members, by: &Principal, user, expect| {
        assert_eq!(rules::may_let_in(SpaceAccess::Private, sees, members, by, user), expect);
    };
    let by_operator = person(operator, Role::Operator);
    check(true, 2, &by_operator, other, true);
    check(false, 2, &by_operator, operator, true);
    check(false, 2, &by_operator, other, false);
    check(false, 0, &by_operator, other, true);
    check(true, 2, &person(member, Role::Member), other, false);
    check(true, 2, &by_token(by_operator, Scope::Write), other, false);
    check(true, 2, &by_token(by_operator, Scope::Admin), other, true);
    assert!(rules::may_let_go(&person(member, Role::Member), member));
    assert!(!rules::may_let_go(&person(member, Role::Member), other));
}

#[test]
fn s07_no_token_widens_a_space() {
    let private = SpaceAccess::Private;
    let public = SpaceAccess::Public;
    let operator = person(UserId::new(), Role::Operator);
    let admin = by_token(operator, Scope::Admin);
    assert!(rules::check_widening(private, Some(public), &operator).is_ok());
    assert!(matches!(rules::check_widening(private, Some(public), &admin), Err(Error::NeedsSession)));
    let turn = Principal { auth: AuthMethod::Turn { id: TurnId::new() }, ..operator };
    assert!(matches!(rules::check_widening(private, Some(public), &turn), Err(Error::NeedsSession)));
    let service = Principal { identity: Identity::Service, ..admin };
    assert!(matches!(rules::check_widening(private, Some(public), &service), Err(Error::NeedsSession)));
    assert!(rules::check_widening(public, Some(private), &admin).is_ok());
    assert!(rules::check_widening(private, None, &admin).is_ok());
}

#[test]
fn slugs_and_names_fit_an_address_and_a_table() {
    for good in ["a", "billing", "billing-2", &"a".repeat(40)] {
        assert!(rules::check_slug(good).is_ok(), "{good}");
    }
    for bad in ["", "-a", "a-", "A", "ä", "a b", "a/b", &"a".repeat(41)] {
        assert!(rules::check_slug(bad).is_err(), "{bad}");
    }
    assert_eq!(rules::check_name("  Billing  ").ok().as_deref(), Some("Billing"));
    for bad in ["", "   ", "a\nb", &"a".repeat(121)] {
        assert!(rules::check_name(bad).is_err(), "{bad}");
    }
    assert_eq!(rules::slug_of("Billing & Co (EU)"), "billing-co-eu");
}

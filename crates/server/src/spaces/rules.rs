//! Pure decisions: who sees a Space, who lets whom in, and what a Space may be called.

use thinkwork_primitives::{AuthMethod, Identity, Principal, Role, UserId};

use super::{Error, SourcePolicy, SpaceAccess};
use crate::edge::{InvalidField, validation};

/// Characters of a slug: a word in an address, not a sentence.
const SLUG_CHARS_MAX: usize = 40;
/// A prompt goes with every turn; longer ones are documents.
const PROMPT_BYTES_MAX: usize = 16_384;
/// Tools named in one allow-list; more than any server of use offers.
const TOOLS_MAX: usize = 500;

/// Whether someone of the tenant sees a Space.
pub(super) const fn may_see(access: SpaceAccess, is_member: bool) -> bool {
    matches!(access, SpaceAccess::Public) || is_member
}

fn is_operator(by: &Principal) -> bool {
    crate::edge::caller::may_configure(by)
}

/// Whether `by` may let `user` in. An operator who does not see a private Space may let in themselves only; one
/// without members, made by a service token, takes its first member from any operator.
pub(super) fn may_let_in(access: SpaceAccess, sees: bool, members: u64, by: &Principal, user: UserId) -> bool {
    let opens = sees || by.user() == Some(user) || (access == SpaceAccess::Private && members == 0);
    is_operator(by) && opens
}

/// Whether `by`, who sees the Space, may let `user` go.
pub(super) fn may_let_go(by: &Principal, user: UserId) -> bool {
    is_operator(by) || by.user() == Some(user)
}

/// Whether a Space may lose its last member.
pub(super) const fn may_empty(access: SpaceAccess) -> bool {
    matches!(access, SpaceAccess::Public)
}

/// A private Space begins with its maker as its one member; made by nobody in person, it would be nobody's.
pub(super) fn check_first_member(access: SpaceAccess, maker: Option<UserId>) -> Result<(), Error> {
    if access == SpaceAccess::Private && maker.is_none() {
        Err(InvalidField::new(
            "access",
            "a service token is a member of nothing, so nobody would see it; use public, or let a person make it.",
        )
        .into())
    } else {
        Ok(())
    }
}

/// Widening takes a person's session: it shows to everyone what members wrote among themselves.
pub(super) fn check_widening(from: SpaceAccess, to: Option<SpaceAccess>, by: &Principal) -> Result<(), Error> {
    let widens = from == SpaceAccess::Private && to == Some(SpaceAccess::Public);
    match (widens, by.identity, by.auth) {
        (false, ..) => Ok(()),
        (true, Identity::User { role, .. }, AuthMethod::Session { .. }) if role >= Role::Operator => Ok(()),
        (true, ..) => Err(Error::NeedsSession),
    }
}

/// Refuses what does not fit an address.
pub(super) fn check_slug(slug: &str) -> Result<(), Error> {
    if validation::is_slug(slug, SLUG_CHARS_MAX) {
        return Ok(());
    }
    let problem = "use 1 to 40 of a-z, 0-9 and hyphens, not at the ends, for example billing-team.";
    Err(InvalidField::new("slug", problem).into())
}

/// The name without outer spaces.
pub(super) fn check_name(name: &str) -> Result<String, Error> {
    let name = validation::name(name).ok_or(InvalidField::new("name", "enter 1 to 120 characters in one line."))?;
    Ok(name.to_owned())
}

/// Refuses prompts that no turn could carry.
pub(super) fn check_prompt(prompt: Option<&str>) -> Result<(), Error> {
    match prompt {
        Some(text) if text.len() > PROMPT_BYTES_MAX => {
            Err(InvalidField::new("prompt", "use at most 16,384 bytes.").into())
        }
        Some(text) if text.contains('\0') => Err(InvalidField::new("prompt", "remove the null character.").into()),
        _ => Ok(()),
    }
}

/// Refuses lists beyond reason.
pub(super) fn check_policy(policy: &SourcePolicy) -> Result<(), Error> {
    let named = policy.tool_allowlist.as_ref().map_or(0, Vec::len);
    if named > TOOLS_MAX || policy.approvals.len() > TOOLS_MAX {
        return Err(InvalidField::new("tool_allowlist", "name at most 500 tools.").into());
    }
    Ok(())
}

/// A slug made of a name, for the page's form.
pub(super) fn slug_of(name: &str) -> String {
    let mut slug = String::new();
    for char in name.to_lowercase().chars() {
        if char.is_ascii_alphanumeric() {
            slug.push(char);
        } else if !slug.ends_with('-') && !slug.is_empty() {
            slug.push('-');
        }
        if slug.len() == SLUG_CHARS_MAX {
            break;
        }
    }
    slug.trim_matches('-').to_owned()
}

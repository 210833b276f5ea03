//! The kinds of caller that there are, and what is there for each.

use std::time::Duration;

use thinkwork_primitives::{Audience, Scope};

use super::things::{Place, Thing};

/// Whose proof a caller shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Person {
    Nobody,
    /// A member in the private Space, whose session, token, connection and private message it is: Ana.
    MemberIn,
    /// A member out of it: Carl.
    MemberOut,
    OperatorIn,
    OperatorOut,
    /// The owner, who is out of the private Space.
    Owner,
    /// The owner of another tenant.
    OtherOwner,
    /// The tenant's own system.
    Service,
}

/// What a caller shows as proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    Nothing,
    ForgedSession,
    ForgedToken,
    Session,
    /// A session that was signed in to longer ago than counts as recent.
    StaleSession,
    ExpiredSession,
    /// A session of somebody who was disabled.
    SessionOfDisabled,
    Token(Audience, Scope),
    ExpiredToken,
    /// A token of somebody who was disabled.
    TokenOfDisabled,
}

/// The two halves of a walk: first what is refused, which must change nothing, then what is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Refused,
    Done,
}

/// Which kinds of caller something is for.
pub type IsFor = fn(Kind) -> bool;

/// A kind of caller.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    pub person: Person,
    pub proof: Proof,
}

const fn kind(person: Person, proof: Proof) -> Kind {
    Kind { person, proof }
}

/// Every kind of caller there is. Those whose proof is none anywhere have the most powerful person behind them.
pub const KINDS: [Kind; 20] = [
    kind(Person::Nobody, Proof::Nothing),
    kind(Person::Nobody, Proof::ForgedSession),
    kind(Person::Nobody, Proof::ForgedToken),
    kind(Person::MemberIn, Proof::Session),
    kind(Person::MemberOut, Proof::Session),
    kind(Person::OperatorIn, Proof::Session),
    kind(Person::OperatorOut, Proof::Session),
    kind(Person::Owner, Proof::Session),
    kind(Person::OtherOwner, Proof::Session),
    kind(Person::MemberIn, Proof::Token(Audience::Api, Scope::Read)),
    kind(Person::MemberIn, Proof::Token(Audience::Api, Scope::Write)),
    kind(Person::OperatorOut, Proof::Token(Audience::Api, Scope::Admin)),
    kind(Person::Service, Proof::Token(Audience::Api, Scope::Admin)),
    kind(Person::OperatorIn, Proof::Token(Audience::Mcp, Scope::Write)),
    kind(Person::OperatorOut, Proof::Token(Audience::Mcp, Scope::Write)),
    kind(Person::OperatorIn, Proof::SessionOfDisabled),
    kind(Person::OperatorIn, Proof::TokenOfDisabled),
    kind(Person::OperatorIn, Proof::StaleSession),
    kind(Person::OperatorIn, Proof::ExpiredSession),
    kind(Person::OperatorIn, Proof::ExpiredToken),
];

impl Kind {
    pub fn name(self) -> String {
        format!("{:?} with {:?}", self.person, self.proof)
    }

    /// Whether a session proves who they are.
    pub const fn is_session(self) -> bool {
        matches!(self.proof, Proof::Session | Proof::StaleSession)
    }

    /// Whether `/v1` knows them.
    pub const fn is_known_to_api(self) -> bool {
        self.is_session() || matches!(self.proof, Proof::Token(Audience::Api, _))
    }

    /// Whether they act with an operator's role and with a proof that goes so far.
    pub const fn is_operator(self) -> bool {
        let has_role = matches!(
            self.person,
            Person::OperatorIn | Person::OperatorOut | Person::Owner | Person::OtherOwner | Person::Service
        );
        has_role && (self.is_session() || matches!(self.proof, Proof::Token(Audience::Api, Scope::Admin)))
    }

    pub fn is_read_only(self) -> bool {
        self.proof == Proof::Token(Audience::Api, Scope::Read)
    }

    pub fn is_stale(self) -> bool {
        self.proof == Proof::StaleSession
    }

    /// Whether they are of the tenant that the things are of.
    pub fn is_of_the_tenant(self) -> bool {
        !matches!(self.person, Person::Nobody | Person::OtherOwner)
    }

    /// Whether they are let into the Space at this place.
    pub fn is_let_into(self, place: Place) -> bool {
        match place {
            Place::Private => matches!(self.person, Person::MemberIn | Person::OperatorIn),
            Place::Open => self.is_of_the_tenant(),
        }
    }

    /// Whether a thing at this place is there for them.
    pub fn sees(self, thing: Thing, place: Place) -> bool {
        let is_ana = self.person == Person::MemberIn;
        let is_theirs = match thing {
            Thing::OfTheTenant => true,
            Thing::InTheSpace => self.is_let_into(place),
            Thing::InThePrivateSpace => self.is_let_into(Place::Private),
            Thing::Anas => is_ana,
            Thing::AnasAndOperators => is_ana || self.is_operator(),
        };
        self.is_of_the_tenant() && is_theirs
    }

    /// How much time passes between the proof and the call.
    pub fn waits(self) -> Duration {
        match self.proof {
            Proof::StaleSession => Duration::from_secs(601),
            Proof::ExpiredSession | Proof::ExpiredToken => Duration::from_secs(91 * 86_400),
            _ => Duration::ZERO,
        }
    }
}

/// The kinds in groups that share a fixture: those who change something have one each; the others share one for each
/// time that passes.
pub fn groups(changes_things: fn(Kind) -> bool) -> Vec<Vec<Kind>> {
    let (changing, reading): (Vec<Kind>, Vec<Kind>) = KINDS.into_iter().partition(|kind| changes_things(*kind));
    let (late, early): (Vec<Kind>, Vec<Kind>) = reading.into_iter().partition(|kind| kind.waits() > Duration::ZERO);
    changing.into_iter().map(|kind| vec![kind]).chain([early, late]).collect()
}

//! What a condition can look at.

use super::kinds::{Kinds, Type};
use crate::units::UnixSeconds;

/// Everything that a condition may refer to, for one request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inputs<'a> {
    /// The call's arguments, if there is a call.
    pub arguments: Known<'a>,
    /// The token's signed claims, a JSON object as text.
    pub claims: &'a str,
    /// The client's identifier.
    pub client: Option<&'a str>,
    /// The agent role that the client or the token has.
    pub agent: Option<&'a str>,
    /// The token's subject.
    pub subject: &'a str,
    /// The token's issuer.
    pub issuer: &'a str,
    /// The caller's tenant.
    pub tenant: Option<&'a str>,
    /// The caller's roles.
    pub roles: &'a [Box<str>],
    /// The caller's groups.
    pub groups: &'a [Box<str>],
    /// What is called: `tool`, `resource`, `prompt`.
    pub target_kind: &'a str,
    /// Its name.
    pub target_name: &'a str,
    /// When.
    pub now: UnixSeconds,
}

/// What is known of the arguments of a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Known<'a> {
    /// Nothing. What depends on them is an error, but an operand that decides by itself does so.
    No,
    /// All: a JSON object as text; without any an empty one.
    Yes(Option<&'a str>),
}

impl Default for Known<'_> {
    fn default() -> Self {
        Self::Yes(None)
    }
}

/// The variables of a condition.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Variable {
    Arguments,
    Claims,
    Client,
    Subject,
    Issuer,
    Tenant,
    Roles,
    Groups,
    Target,
    Time,
}

/// `string or null`.
const OPTIONAL: Kinds = Kinds::STRING.or(Kinds::NULL);

impl Variable {
    pub(super) const ALL: [Self; 10] = [
        Self::Arguments,
        Self::Claims,
        Self::Client,
        Self::Subject,
        Self::Issuer,
        Self::Tenant,
        Self::Roles,
        Self::Groups,
        Self::Target,
        Self::Time,
    ];

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|variable| variable.name() == name)
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Arguments => "arguments",
            Self::Claims => "claims",
            Self::Client => "client",
            Self::Subject => "subject",
            Self::Issuer => "issuer",
            Self::Tenant => "tenant",
            Self::Roles => "roles",
            Self::Groups => "groups",
            Self::Target => "target",
            Self::Time => "time",
        }
    }

    pub(super) const fn type_of(self) -> Type {
        match self {
            Self::Arguments | Self::Claims | Self::Client | Self::Target | Self::Time => Type::of(Kinds::MAP),
            Self::Subject | Self::Issuer => Type::of(Kinds::STRING),
            Self::Tenant => Type::of(OPTIONAL),
            Self::Roles | Self::Groups => Type::list(Kinds::STRING),
        }
    }

    /// Whether its size is up to whoever sends the request or signs the token.
    pub(super) const fn is_large(self) -> bool {
        matches!(self, Self::Arguments | Self::Claims | Self::Roles | Self::Groups)
    }

    /// The members of a map that always has the same ones.
    pub(super) const fn members(self) -> Option<&'static [(&'static str, Kinds)]> {
        match self {
            Self::Client => Some(&[("id", OPTIONAL), ("agent", OPTIONAL)]),
            Self::Target => Some(&[("kind", Kinds::STRING), ("name", Kinds::STRING)]),
            Self::Time => {
                Some(&[("unix", Kinds::INT), ("hour", Kinds::INT), ("minute", Kinds::INT), ("weekday", Kinds::INT)])
            }
            Self::Arguments
            | Self::Claims
            | Self::Subject
            | Self::Issuer
            | Self::Tenant
            | Self::Roles
            | Self::Groups => None,
        }
    }
}

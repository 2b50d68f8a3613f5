//! People who decide, and what they say.

use serde::{Deserialize, Serialize};

use super::clean::{capped, printable};

/// Characters of a reason.
pub const MAX_REASON_CHARS: usize = 500;
/// Characters of a person's name that are kept.
pub const MAX_NAME_CHARS: usize = 200;

/// A person, as a verified token or sign-in has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Person {
    /// Who vouches for the person.
    pub issuer: String,
    /// The person, at that issuer.
    pub subject: String,
    /// A name to show. Nothing is decided by it.
    pub name: Option<String>,
    /// Roles that the issuer gives.
    pub roles: Vec<String>,
    /// Client through which the person acts.
    pub client_id: Option<String>,
}

impl Person {
    /// The name, fit to be stored and shown.
    pub(crate) fn clean_name(&self) -> Option<String> {
        let name = self.name.as_deref()?.trim();
        (!name.is_empty()).then(|| printable(&capped(name, MAX_NAME_CHARS)))
    }
}

/// Yes or no.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// The call may be made.
    Approve,
    /// It may not.
    Reject,
}

impl Choice {
    /// The word for it in JSON and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Reject => "reject",
        }
    }
}

/// What a person says to a request.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Ballot {
    /// Yes or no.
    pub decision: Choice,
    /// Why: up to [`MAX_REASON_CHARS`] characters. The requester is shown the reason of a rejection.
    #[serde(default)]
    pub reason: Option<String>,
}

impl Ballot {
    /// The reason without what surrounds it and without control characters; `None` if nothing is left.
    pub(crate) fn clean_reason(&self) -> Option<String> {
        let reason = self.reason.as_deref()?.trim();
        (!reason.is_empty()).then(|| printable(reason))
    }
}

//! Why a request is denied.

use super::StepUp;
use crate::identity::{Failure, Why};
use crate::units::Seconds;

/// Why a request is denied.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Denial {
    /// No rule names the target.
    NoRule,
    /// A pattern fits, but different readers could resolve this URI to different resources.
    AmbiguousUri,
    /// Tasks are not bound to their creators here, so a handle could be anyone's.
    TaskNotBound,
    /// Sides that do not allow it: all of them, in the order of [`crate::identity::Side`], each perhaps more than once.
    NotPermitted(Vec<Failure>),
    /// The argument that must be the caller's tenant is not.
    OtherTenant,
    /// A condition on the call does not hold, or one against it does.
    Condition,
    /// The token lives longer than the rule allows.
    TokenLifetime {
        /// The longest lifetime that is allowed.
        at_most: Seconds,
    },
    /// The token lacks scopes, and nothing else is in the way: getting them would help.
    InsufficientScope {
        /// All scopes that the rule requires.
        required: Vec<String>,
        /// Those that the token does not grant.
        missing: Vec<String>,
    },
    /// The person must be authenticated anew or in another way, and nothing else is in the way.
    InsufficientAuthentication(StepUp),
    /// A person must approve the call, and nobody can be asked.
    ApprovalUnavailable,
    /// A person must approve the call, which must therefore not be part of a batch.
    ApprovalInBatch,
}

impl Denial {
    /// Stable reason code for metrics and records.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoRule => "no_rule",
            Self::AmbiguousUri => "ambiguous_uri",
            Self::TaskNotBound => "task_not_bound",
            Self::NotPermitted(_) => "not_permitted",
            Self::OtherTenant => "other_tenant",
            Self::Condition => "condition",
            Self::TokenLifetime { .. } => "token_lifetime",
            Self::InsufficientScope { .. } => "insufficient_scope",
            Self::InsufficientAuthentication(_) => "insufficient_user_authentication",
            Self::ApprovalUnavailable => "approval_unavailable",
            Self::ApprovalInBatch => "approval_in_batch",
        }
    }

    /// The sides that do not allow it, each once, for logs.
    pub fn sides(&self) -> Vec<&'static str> {
        let Self::NotPermitted(failures) = self else { return Vec::new() };
        let mut sides: Vec<&str> = failures.iter().map(|failure| failure.side.name()).collect();
        sides.dedup();
        sides
    }

    /// Whether the token itself was cut off.
    pub fn is_token_revoked(&self) -> bool {
        let Self::NotPermitted(failures) = self else { return false };
        failures.iter().any(|failure| failure.side == crate::identity::Side::Token && failure.why == Why::Revoked)
    }
}

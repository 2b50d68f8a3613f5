//! Why a call that needs an approval was not let through.

/// One reason per variant; each denies.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Reason {
    /// Nobody has decided yet.
    Pending,
    /// An approver said no.
    Rejected,
    /// Nobody decided in time.
    Expired,
    /// The request for the approval was withdrawn.
    Cancelled,
    /// The client says that its user does not want to go on.
    Declined,
    /// The approval let another request through already.
    Used,
    /// The call came in a batch, in which nothing can be awaited.
    InBatch,
    /// The policy has no approval service.
    Unavailable,
    /// No connection to the approval service, or it broke.
    Unreachable,
    /// The approval service did not answer in time.
    Timeout,
    /// The approval service answered with an error.
    Error,
    /// The approval service's answer, or the decision in it, is not of the right form.
    Malformed,
    /// The answer, or the request, is larger than the contract allows.
    Oversized,
    /// The answer has no decision that is signed with an accepted algorithm.
    Unsigned,
    /// The decision is signed with a key that is not pinned.
    KeyUnknown,
    /// The decision's signature is not valid.
    Signature,
    /// The decision is of another service.
    Issuer,
    /// The decision is for another resource.
    Audience,
    /// The decision is too old, too long valid, or of the future.
    Stale,
    /// The decision is for another approval, call or policy.
    Mismatch,
    /// The decision answers another consumption.
    Replayed,
    /// The approver is the one who asks.
    OwnRequest,
    /// Those who approved are not those whom the policy asks for, or too few.
    Unentitled,
    /// The approval service failed too often, and is not asked for a while.
    CircuitOpen,
    /// Too many calls wait for approvals already.
    Busy,
    /// The `requestState` does not open for this caller, or belongs to another call.
    StateInvalid,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 26] = [
        Self::Pending,
        Self::Rejected,
        Self::Expired,
        Self::Cancelled,
        Self::Declined,
        Self::Used,
        Self::InBatch,
        Self::Unavailable,
        Self::Unreachable,
        Self::Timeout,
        Self::Error,
        Self::Malformed,
        Self::Oversized,
        Self::Unsigned,
        Self::KeyUnknown,
        Self::Signature,
        Self::Issuer,
        Self::Audience,
        Self::Stale,
        Self::Mismatch,
        Self::Replayed,
        Self::OwnRequest,
        Self::Unentitled,
        Self::CircuitOpen,
        Self::Busy,
        Self::StateInvalid,
    ];

    /// The stable code for records, answers and Envoy's log.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Pending => "approval_pending",
            Self::Rejected => "approval_rejected",
            Self::Expired => "approval_expired",
            Self::Cancelled => "approval_cancelled",
            Self::Declined => "approval_declined",
            Self::Used => "approval_used",
            Self::InBatch => "approval_in_batch",
            Self::Unavailable => "approval_unavailable",
            Self::Unreachable => "approval_unreachable",
            Self::Timeout => "approval_timeout",
            Self::Error => "approval_error",
            Self::Malformed => "approval_malformed",
            Self::Oversized => "approval_oversized",
            Self::Unsigned => "approval_unsigned",
            Self::KeyUnknown => "approval_key_unknown",
            Self::Signature => "approval_signature",
            Self::Issuer => "approval_issuer",
            Self::Audience => "approval_audience",
            Self::Stale => "approval_stale",
            Self::Mismatch => "approval_mismatch",
            Self::Replayed => "approval_replayed",
            Self::OwnRequest => "approval_self",
            Self::Unentitled => "approval_unentitled",
            Self::CircuitOpen => "approval_circuit_open",
            Self::Busy => "approval_busy",
            Self::StateInvalid => "approval_state_invalid",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_distinct_and_have_one_prefix() {
        let codes: BTreeSet<_> = Reason::ALL.into_iter().map(Reason::code).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
        assert!(Reason::ALL.into_iter().all(|reason| reason.code().starts_with("approval_")));
    }
}

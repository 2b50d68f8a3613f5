//! What a policy says to a request of which only a record is left.
//!
//! ```text
//! Record, Personal ──► recall: caller, calls ──► Judge: decide in the best and in the worst case ──► Judgement
//! ```
//!
//! A record does not hold everything that a decision can look at: no arguments, few claims, no definitions of tools. So
//! each request is decided by [`toolgate::policy::decide`] more than once: with all that is not known in favour of the
//! caller, with all of it against the caller, and with one unknown after the other. What is denied at best is denied.
//! What is allowed at worst is allowed. For the rest nobody can tell, and the unknowns that make the difference are the
//! reason.

mod case;
mod recall;
mod unknown;
mod variants;

use std::collections::BTreeSet;

use toolgate::audit::record::{Personal, Record};
use toolgate::config::CompiledPolicy;
use toolgate::identity::{Failure, Principal};
use toolgate::jwt::TokenError;
use toolgate::policy::Denial;

use case::{Case, Passage};
pub use recall::{Asked, Caller, Recalled, Ruled, What, instant, is_waiting, recall, ruled};
pub use unknown::Unknown;
use variants::Variants;

/// What a policy says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Judgement {
    /// It allows the request, whatever the record does not say.
    Allowed,
    /// It allows the request once people have approved it, whatever the record does not say.
    Gated,
    /// It denies the request, whatever the record does not say.
    Denied(Refusal),
    /// That depends on these.
    Unknown(BTreeSet<Unknown>),
}

/// Why a request is denied.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// Stable reason code.
    pub reason: &'static str,
    /// The sides that do not allow it.
    pub sides: Vec<Failure>,
}

impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Self {
        let reason = if denial.is_token_revoked() { recall::TOKEN_REVOKED } else { denial.reason() };
        let sides = if let Denial::NotPermitted(failures) = denial { failures } else { Vec::new() };
        Self { reason, sides }
    }
}

/// A policy that is asked about records.
#[derive(Debug)]
pub struct Judge<'p> {
    policy: &'p CompiledPolicy,
    variants: Variants<'p>,
}

impl<'p> Judge<'p> {
    /// A judge by this policy.
    pub const fn new(policy: &'p CompiledPolicy) -> Self {
        Self { policy, variants: Variants::of(&policy.rules) }
    }

    /// Its policy.
    pub const fn policy(&self) -> &'p CompiledPolicy {
        self.policy
    }

    /// What it says to a request; `None` if no caller is known, so that there is nobody to judge.
    pub fn judge(&self, record: &Record<'_>, personal: Option<&Personal<'_>>) -> Option<Judgement> {
        let recalled = recall(record, personal)?;
        if let Some(reason) = self.refusal_before_rules(&recalled) {
            return Some(Judgement::Denied(Refusal { reason, sides: Vec::new() }));
        }
        let mut unknown = recalled.unknown;
        if unknown.contains(&Unknown::Altered) {
            // What was altered could be the name of something else.
            return Some(Judgement::Unknown(unknown));
        }
        if recalled.caller.scopes.is_none() && !self.policy.refused_scopes.is_empty() {
            unknown.insert(Unknown::Scopes);
        }
        let mut is_gated = false;
        for asked in &recalled.asked {
            match self.judge_one(&recalled.caller, asked) {
                Judgement::Allowed => {}
                Judgement::Gated if recalled.is_batch => {
                    return Some(Judgement::Denied(Denial::ApprovalInBatch.into()));
                }
                Judgement::Gated => is_gated = true,
                // No message of a request passes if one does not.
                denied @ Judgement::Denied(_) => return Some(denied),
                Judgement::Unknown(causes) => unknown.extend(causes),
            }
        }
        Some(match (unknown.is_empty(), is_gated) {
            (false, _) => Judgement::Unknown(unknown),
            (true, true) => Judgement::Gated,
            (true, false) => Judgement::Allowed,
        })
    }

    /// The caller under this policy, or as much of it as is known.
    pub fn principal(&self, caller: &Caller) -> Principal {
        let nothing = Asked { what: What::Protocol, has_arguments: false };
        Case { policy: self.policy, variants: &self.variants, caller, asked: &nothing }.principal()
    }

    /// What a token, a revision or a body is refused for before the rules are asked. The signature, the audience, the
    /// type and the algorithm of a token are not in records: they were good under the policy in force then.
    fn refusal_before_rules(&self, recalled: &Recalled) -> Option<&'static str> {
        let Recalled { caller, revision, request_bytes, .. } = recalled;
        let Some(issuer) = self.policy.issuers.iter().find(|issuer| issuer.issuer == caller.issuer) else {
            return Some(TokenError::IssuerUnknown.reason());
        };
        if caller.expires_at.since(caller.issued_at) > issuer.max_lifetime {
            return Some(TokenError::LifetimeTooLong.reason());
        }
        if caller.scopes.iter().flatten().any(|scope| self.policy.refused_scopes.contains(scope)) {
            return Some(TokenError::ScopeRefused.reason());
        }
        if *request_bytes > u64::try_from(self.policy.max_request_bytes.get()).unwrap_or(u64::MAX) {
            return Some("too_large");
        }
        revision.filter(|revision| !self.policy.revisions.contains(*revision)).map(|_| "unsupported_revision")
    }

    fn judge_one(&self, caller: &Caller, asked: &Asked) -> Judgement {
        let case = Case { policy: self.policy, variants: &self.variants, caller, asked };
        let suspects = case.suspects();
        let (worst, best) = (case.decide(&suspects), case.at_best());
        match (&worst, &best) {
            (Ok(Passage::Free), _) => return Judgement::Allowed,
            (Ok(Passage::Gated), Ok(Passage::Gated)) => return Judgement::Gated,
            (Ok(Passage::Gated), Ok(Passage::Free) | Err(_)) | (Err(_), _) => {}
        }
        if caller.is_erased {
            return Judgement::Unknown(BTreeSet::from([Unknown::Erased]));
        }
        if caller.has_more_roles {
            // With more roles a person has more scopes, never less.
            return Judgement::Unknown(BTreeSet::from([Unknown::Altered]));
        }
        let best = match best {
            Ok(best) => best,
            Err(denial) => return Judgement::Denied(denial.into()),
        };
        let matters = |suspect: &Unknown| case.decide(&BTreeSet::from([*suspect])) != Ok(best);
        let causes: BTreeSet<Unknown> = suspects.iter().copied().filter(matters).collect();
        // If each alone does no harm, they do so together.
        Judgement::Unknown(if causes.is_empty() { suspects } else { causes })
    }
}

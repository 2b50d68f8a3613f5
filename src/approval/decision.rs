//! Signed decisions of an approval service: the only thing that lets a call through.
//!
//! A decision is a compact JWS of type `approval+jwt`, signed with a key that the policy pins. So neither the network nor
//! another workload can approve, and nothing that a service says beside it is believed.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::{ApprovalId, BindingDigest, Nonce, Reason};
use crate::grown::grown;
use crate::json::{self, Checked, Object};
use crate::jwt::{Algorithm, CompactJws, KeySet, SignatureVerifier, TokenError, TokenType};
use crate::limits;
use crate::units::{Seconds, UnixSeconds};

/// `typ` of a decision.
const TYPE: &str = "approval+jwt";

/// Whose decisions are believed.
#[derive(Clone, Copy)]
pub struct Trust<'a> {
    /// `iss`, compared exactly.
    pub issuer: &'a str,
    /// The pinned keys. A decision must name one of them by its `kid`.
    pub keys: &'a KeySet,
    /// Checks signatures.
    pub verifier: &'a dyn SignatureVerifier,
}

impl std::fmt::Debug for Trust<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Trust").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// What a decision must be about.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// `aud`: URI of the protected resource.
    pub audience: &'a str,
    /// `approval_id`.
    pub id: &'a ApprovalId,
    /// `binding`.
    pub binding: &'a BindingDigest,
    /// `policy`: SHA-256 of the policy in force, in hexadecimal.
    pub policy: &'a str,
}

/// The consumption that a grant must answer.
#[derive(Clone, Copy, Debug)]
pub struct Consumption<'a> {
    /// `nonce`: made for this one request.
    pub nonce: Nonce,
    /// `step`: how often the call was let through before.
    pub step: u8,
    /// Subject of the caller's token, who must not approve. Nobody of that name may, whoever the issuer: one person can
    /// have an account at several.
    pub requester: &'a str,
}

/// The proof that a person let this one request through. Only [`verify_grant`] makes one, and it lets one request through.
#[derive(Debug, Eq, PartialEq)]
pub struct Grant {
    id: ApprovalId,
    step: u8,
    approvers: Vec<Approver>,
    escalated: bool,
}

impl Grant {
    /// The approval.
    pub const fn id(&self) -> &ApprovalId {
        &self.id
    }

    /// How often the call was let through before.
    pub const fn step(&self) -> u8 {
        self.step
    }

    /// Who approved; at least one.
    pub fn approvers(&self) -> &[Approver] {
        &self.approvers
    }

    /// Whether others were asked because the first did not decide in time.
    pub const fn escalated(&self) -> bool {
        self.escalated
    }
}

/// Who decided.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Approver {
    /// Issuer of the approver's token.
    pub issuer: String,
    /// Subject of the approver's token.
    pub subject: String,
    /// The roles that the decision rests on.
    pub roles: Vec<String>,
    /// When.
    pub at: UnixSeconds,
}

/// A decision that lets nothing through.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verdict {
    /// Which one.
    pub ended: Ended,
    /// Who rejected; else nobody.
    pub approvers: Vec<Approver>,
    /// Whether others were asked because the first did not decide in time.
    pub escalated: bool,
    /// Why, in the words of the approver: at most [`limits::MAX_APPROVAL_REASON_CHARS`] characters of anything.
    pub reason: Option<String>,
}

/// How an approval ended without letting anything through.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ended {
    /// An approver said no.
    Rejected,
    /// Nobody decided in time.
    Expired,
    /// It was withdrawn.
    Cancelled,
}

impl Ended {
    /// The reason to deny the call with.
    pub const fn reason(self) -> Reason {
        match self {
            Self::Rejected => Reason::Rejected,
            Self::Expired => Reason::Expired,
            Self::Cancelled => Reason::Cancelled,
        }
    }
}

/// Why a decision is not believed. The text goes into logs, so it quotes nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DecisionError {
    /// The algorithm is none, of the HMAC family, unknown, or another than EdDSA and ES256.
    #[error("the decision is not signed with EdDSA or ES256")]
    AlgorithmNotAccepted,
    /// The key of that `kid` is for another algorithm.
    #[error("the decision's algorithm is not the one of its key")]
    AlgorithmOfOtherKey,
    /// The signature is not one over this decision with that key.
    #[error("the decision's signature is not valid")]
    BadSignature,
    /// A claim is missing, of the wrong type or out of bounds.
    #[error("the decision's `{0}` claim is missing or has a wrong form")]
    Claim(&'static str),
    /// Longer than [`limits::MAX_DECISION_BYTES`].
    #[error("the decision is too long")]
    TooLong,
    /// Not a compact JWS with a header and claims that mean one thing.
    #[error("the decision is malformed")]
    Malformed,
    /// `typ` is another.
    #[error("the decision is a token of another type")]
    WrongType,
    /// No `kid`.
    #[error("the decision does not name its key")]
    KeyMissing,
    /// `kid` is of no pinned key.
    #[error("the decision's key is not pinned")]
    KeyUnknown,
    /// `iss` is another service.
    #[error("the decision is of another issuer")]
    WrongIssuer,
    /// `aud` is another resource.
    #[error("the decision is for another resource")]
    WrongAudience,
    /// `iat` lies further ahead than the clock skew.
    #[error("the decision was made in the future")]
    IssuedInFuture,
    /// `exp` lies further back than the clock skew.
    #[error("the decision has expired")]
    Expired,
    /// `exp` lies before `iat`, or too far behind it.
    #[error("the decision's lifetime is too long or negative")]
    Lifetime,
    /// `approval_id`, `binding` or `policy` is of another approval, call or policy.
    #[error("the decision's `{0}` is that of another call")]
    Mismatch(&'static str),
    /// `status` is one that does not belong here.
    #[error("the decision's status is not the one that was asked for")]
    WrongStatus,
    /// `nonce` or `step` is of another consumption.
    #[error("the decision's `{0}` is that of another request")]
    Replayed(&'static str),
    /// An approver is who asks.
    #[error("the approver is the requester")]
    OwnRequest,
}

impl DecisionError {
    /// The reason to deny the call with.
    pub const fn reason(self) -> Reason {
        match self {
            Self::AlgorithmNotAccepted => Reason::Unsigned,
            Self::AlgorithmOfOtherKey | Self::BadSignature => Reason::Signature,
            Self::Claim(_) | Self::Malformed | Self::WrongType => Reason::Malformed,
            Self::TooLong => Reason::Oversized,
            Self::KeyMissing | Self::KeyUnknown => Reason::KeyUnknown,
            Self::WrongIssuer => Reason::Issuer,
            Self::WrongAudience => Reason::Audience,
            Self::IssuedInFuture | Self::Expired | Self::Lifetime => Reason::Stale,
            Self::Mismatch(_) | Self::WrongStatus => Reason::Mismatch,
            Self::Replayed(_) => Reason::Replayed,
            Self::OwnRequest => Reason::OwnRequest,
        }
    }
}

impl From<TokenError> for DecisionError {
    fn from(error: TokenError) -> Self {
        if error == TokenError::TooLong {
            Self::TooLong
        } else if error == TokenError::AlgorithmUnsupported {
            Self::AlgorithmNotAccepted
        } else {
            Self::Malformed
        }
    }
}

/// Verifies the decision that lets one request through.
///
/// # Errors
/// The first reason found against it.
pub fn verify_grant(
    text: &str,
    trust: &Trust<'_>,
    expected: &Expected<'_>,
    consumption: &Consumption<'_>,
    now: UnixSeconds,
) -> Result<Grant, DecisionError> {
    let claims = verify(text, trust, expected, limits::MAX_GRANT_LIFETIME, now)?;
    if claims.status != "approved" {
        return Err(DecisionError::WrongStatus);
    }
    if claims.nonce.as_deref() != Some(consumption.nonce.to_string().as_str()) {
        return Err(DecisionError::Replayed("nonce"));
    }
    if claims.step != Some(u64::from(consumption.step)) {
        return Err(DecisionError::Replayed("step"));
    }
    let escalated = claims.escalated;
    let approvers = approvers(claims)?;
    // A decision that rests on nobody, or on nobody's right to decide, was not made by a person.
    if approvers.is_empty() || approvers.iter().any(|approver| approver.roles.is_empty()) {
        return Err(DecisionError::Claim("approvers"));
    }
    if approvers.iter().any(|approver| approver.subject == consumption.requester) {
        return Err(DecisionError::OwnRequest);
    }
    Ok(Grant { id: expected.id.clone(), step: consumption.step, approvers, escalated })
}

/// Verifies the decision about an approval that ended without letting anything through.
///
/// # Errors
/// The first reason found against it. The call is denied all the same, but nobody is quoted.
pub fn verify_verdict(
    text: &str,
    trust: &Trust<'_>,
    expected: &Expected<'_>,
    now: UnixSeconds,
) -> Result<Verdict, DecisionError> {
    let mut claims = verify(text, trust, expected, limits::MAX_DECISION_LIFETIME, now)?;
    let ended = match claims.status.as_str() {
        "rejected" => Ended::Rejected,
        "expired" => Ended::Expired,
        "cancelled" => Ended::Cancelled,
        _ => return Err(DecisionError::WrongStatus),
    };
    let reason = claims.reason.take();
    if reason.as_ref().is_some_and(|reason| reason.chars().count() > limits::MAX_APPROVAL_REASON_CHARS) {
        return Err(DecisionError::Claim("reason"));
    }
    let escalated = claims.escalated;
    Ok(Verdict { ended, approvers: approvers(claims)?, escalated, reason })
}

/// What all decisions have. Other members may be there, and say nothing.
#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    iat: u64,
    exp: u64,
    nbf: Option<u64>,
    jti: String,
    approval_id: String,
    binding: String,
    policy: String,
    status: String,
    nonce: Option<String>,
    step: Option<u64>,
    approvers: Vec<Object<ApproverClaim>>,
    escalated: bool,
    reason: Option<String>,
}

#[derive(Deserialize)]
struct ApproverClaim {
    iss: String,
    sub: String,
    roles: Vec<String>,
    at: u64,
}

fn verify(
    text: &str,
    trust: &Trust<'_>,
    expected: &Expected<'_>,
    longest: Seconds,
    now: UnixSeconds,
) -> Result<Claims, DecisionError> {
    if text.len() > limits::MAX_DECISION_BYTES {
        return Err(DecisionError::TooLong);
    }
    let token = CompactJws::parse(text)?;
    let claims = read(token.payload())?;
    check_signature(&token, trust)?;
    if claims.iss != trust.issuer {
        return Err(DecisionError::WrongIssuer);
    }
    if claims.aud != expected.audience {
        return Err(DecisionError::WrongAudience);
    }
    check_times(&claims, longest, now)?;
    if claims.approval_id != expected.id.as_str() {
        return Err(DecisionError::Mismatch("approval_id"));
    }
    if !expected.binding.is(&claims.binding) {
        return Err(DecisionError::Mismatch("binding"));
    }
    if claims.policy != expected.policy {
        return Err(DecisionError::Mismatch("policy"));
    }
    if claims.jti.is_empty() {
        return Err(DecisionError::Claim("jti"));
    }
    Ok(claims)
}

/// The header chooses among the pinned keys by name; what a key is for, the key says.
fn check_signature(token: &CompactJws<'_>, trust: &Trust<'_>) -> Result<(), DecisionError> {
    if *token.token_type() != TokenType::Named(TYPE.into()) {
        return Err(DecisionError::WrongType);
    }
    let algorithm = token.algorithm();
    if !matches!(algorithm, Algorithm::EdDsa | Algorithm::Es256) {
        return Err(DecisionError::AlgorithmNotAccepted);
    }
    let key_id = token.key_id().ok_or(DecisionError::KeyMissing)?;
    let mut named = trust.keys.keys().iter().filter(|key| key.key_id() == Some(key_id)).peekable();
    if named.peek().is_none() {
        return Err(DecisionError::KeyUnknown);
    }
    let mut fitting = named.filter(|key| key.is_for(algorithm)).peekable();
    if fitting.peek().is_none() {
        return Err(DecisionError::AlgorithmOfOtherKey);
    }
    let is_good = fitting.any(|key| trust.verifier.verify(key, algorithm, token));
    if is_good { Ok(()) } else { Err(DecisionError::BadSignature) }
}

fn read(payload: &[u8]) -> Result<Claims, DecisionError> {
    json::parse(payload, Checked::to_depth(limits::MAX_TOKEN_JSON_DEPTH)).map_err(|_| DecisionError::Malformed)?;
    let Object(claims) = serde_json::from_slice(payload).map_err(|_| DecisionError::Claim("*"))?;
    Ok(claims)
}

fn check_times(claims: &Claims, longest: Seconds, now: UnixSeconds) -> Result<(), DecisionError> {
    let (issued_at, expires_at) = (UnixSeconds::new(claims.iat), UnixSeconds::new(claims.exp));
    let not_before = UnixSeconds::new(claims.nbf.unwrap_or(claims.iat));
    if expires_at < issued_at || expires_at.since(issued_at) > longest {
        Err(DecisionError::Lifetime)
    } else if issued_at.max(not_before) > now.plus(limits::CLOCK_SKEW) {
        Err(DecisionError::IssuedInFuture)
    } else if now > expires_at.plus(limits::CLOCK_SKEW) {
        Err(DecisionError::Expired)
    } else {
        Ok(())
    }
}

/// Who decided: each person once.
fn approvers(claims: Claims) -> Result<Vec<Approver>, DecisionError> {
    let is_name = |text: &str| (1..=limits::MAX_IDENTITY_BYTES).contains(&text.len());
    let is_approver = |claim: &ApproverClaim| {
        let are_roles = claim.roles.iter().all(|role| is_name(role));
        is_name(&claim.iss) && is_name(&claim.sub) && are_roles && claim.roles.len() <= limits::MAX_APPROVERS
    };
    let claims = claims.approvers;
    let people: BTreeSet<_> = grown(claims.iter().map(|Object(claim)| (&claim.iss, &claim.sub)));
    let are_approvers = claims.iter().all(|Object(claim)| is_approver(claim));
    if people.len() != claims.len() || claims.len() > limits::MAX_APPROVERS || !are_approvers {
        return Err(DecisionError::Claim("approvers"));
    }
    let approver = |Object(ApproverClaim { iss, sub, roles, at }): Object<ApproverClaim>| Approver {
        issuer: iss,
        subject: sub,
        roles,
        at: UnixSeconds::new(at),
    };
    Ok(claims.into_iter().map(approver).collect())
}

#[cfg(test)]
#[expect(
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    reason = "everything is ASCII, and the numbers are in the test"
)]
mod tests;

//! The decision about a token.

use super::claims::UnverifiedClaims;
use super::{
    Algorithm, ClaimPath, CompactJws, IssuerIndex, KeyLookup, KeyRing, SignatureVerifier, TokenError, TokenType,
    VerifiedToken,
};
use crate::units::{Seconds, UnixSeconds};

/// An authorization server whose tokens are accepted, and which of them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TrustedIssuer {
    /// `iss`, compared exactly. No two trusted issuers may have the same.
    pub issuer: String,
    /// `aud` must contain one of these, compared exactly.
    pub audiences: Vec<String>,
    /// `alg` must be one of these, and the key's.
    pub algorithms: Vec<Algorithm>,
    /// `typ` must be one of these.
    pub token_types: Vec<TokenType>,
    /// `exp - iat` may be at most this.
    pub max_lifetime: Seconds,
    /// Where the issuer puts what has no single place.
    pub claims: ClaimNames,
}

/// Places of claims; of several, the first one that the token has counts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClaimNames {
    /// The client identifier. Default `client_id` (RFC 9068), then `azp` (OpenID Connect).
    pub client_id: Vec<ClaimPath>,
    /// The scopes. Default `scope` (RFC 9068), then `scp` (Azure AD, Okta).
    pub scopes: Vec<ClaimPath>,
    /// Roles of the person. Default `roles` (RFC 9068 section 2.2.3.1).
    pub roles: Vec<ClaimPath>,
    /// Groups of the person. Default `groups` (RFC 9068 section 2.2.3.1).
    pub groups: Vec<ClaimPath>,
    /// Department of the person. Default `department`.
    pub department: Vec<ClaimPath>,
    /// The tenant. Default `tenant_id`, then `tid` (Entra ID).
    pub tenant: Vec<ClaimPath>,
    /// The purpose. Default `purpose`.
    pub purpose: Vec<ClaimPath>,
    /// The agent role. Default: none, as most issuers know nothing of agents.
    pub agent: Vec<ClaimPath>,
    /// The claim, and its values, that mark a token without a person, besides a subject that is the client.
    pub machine: Option<(ClaimPath, Vec<String>)>,
}

impl Default for ClaimNames {
    fn default() -> Self {
        let paths = |names: &[&str]| names.iter().filter_map(|name| ClaimPath::parse(name)).collect();
        Self {
            client_id: paths(&["client_id", "azp"]),
            scopes: paths(&["scope", "scp"]),
            roles: paths(&["roles"]),
            groups: paths(&["groups"]),
            department: paths(&["department"]),
            tenant: paths(&["tenant_id", "tid"]),
            purpose: paths(&["purpose"]),
            agent: Vec::new(),
            machine: None,
        }
    }
}

/// Why there is no verified token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// The issuer's keys have not been fetched yet, or too long ago.
    NoKeys(IssuerIndex),
    /// The token is not acceptable, now or with any key.
    Token(TokenError),
    /// Everything fits, but the issuer's keys as last fetched do not have the token's `kid`. If a fetch does not help,
    /// the reason is [`TokenError::KeyUnknown`].
    UnknownKey(IssuerIndex),
}

impl From<TokenError> for Refusal {
    fn from(error: TokenError) -> Self {
        Self::Token(error)
    }
}

/// Judges a token that was presented as a bearer token.
///
/// `issuers` and the key ring have the same order.
///
/// # Errors
/// The first reason found against the token, cheap checks before expensive ones.
pub fn verify(
    token: &str,
    issuers: &[TrustedIssuer],
    keys: &KeyRing,
    verifier: &dyn SignatureVerifier,
    now: UnixSeconds,
) -> Result<VerifiedToken, Refusal> {
    let token = CompactJws::parse(token)?;
    let claims = UnverifiedClaims::parse(token.payload())?;
    let name = claims.issuer()?;
    let (position, issuer) =
        issuers.iter().enumerate().find(|(_, issuer)| issuer.issuer == name).ok_or(TokenError::IssuerUnknown)?;
    let index = IssuerIndex::new(position);
    if !issuer.token_types.contains(token.token_type()) {
        return Err(TokenError::WrongType.into());
    }
    if !issuer.algorithms.contains(&token.algorithm()) {
        return Err(TokenError::AlgorithmNotAllowed.into());
    }
    let claims = claims.check(index, issuer, now)?;
    let candidates = match keys.lookup(index, token.key_id(), token.algorithm(), now) {
        KeyLookup::Found(candidates) => candidates,
        KeyLookup::Ambiguous => return Err(TokenError::AmbiguousKey.into()),
        KeyLookup::OtherAlgorithm => return Err(TokenError::AlgorithmOfOtherKey.into()),
        KeyLookup::UnknownKey => return Err(Refusal::UnknownKey(index)),
        KeyLookup::NoKeys => return Err(Refusal::NoKeys(index)),
    };
    let signature = candidates
        .into_iter()
        .find_map(|key| GoodSignature::check(key, &token, verifier))
        .ok_or(TokenError::BadSignature)?;
    Ok(claims.signed(signature))
}

/// The proof that the signature of a token is good.
pub(super) struct GoodSignature(());

impl GoodSignature {
    fn check(key: &super::VerificationKey, token: &CompactJws<'_>, verifier: &dyn SignatureVerifier) -> Option<Self> {
        verifier.verify(key, token.algorithm(), token).then_some(Self(()))
    }
}

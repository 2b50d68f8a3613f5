//! Why a token is refused.

/// One reason per variant. The text goes to the client, so it never quotes the token.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TokenError {
    /// `alg` is an accepted algorithm, but not one of the issuer's.
    #[error("the token's algorithm is not accepted from its issuer")]
    AlgorithmNotAllowed,
    /// `alg` is missing, `none`, of the HMAC family or unknown.
    #[error("the token is not signed with a supported algorithm")]
    AlgorithmUnsupported,
    /// The key with the token's `kid` is for another algorithm.
    #[error("the token's algorithm is not the one of its key")]
    AlgorithmOfOtherKey,
    /// No `kid`, and the issuer has several keys for the algorithm.
    #[error("the token does not say which of the issuer's keys signed it")]
    AmbiguousKey,
    /// The signature is not one over this token with the issuer's key.
    #[error("the token's signature is not valid")]
    BadSignature,
    /// A claim is missing that every token needs.
    #[error("the token has no `{0}` claim")]
    ClaimMissing(&'static str),
    /// A claim is of the wrong type or out of bounds.
    #[error("the token's `{0}` claim has a wrong form")]
    ClaimMalformed(&'static str),
    /// The client identifier is of the wrong type or out of bounds.
    #[error("the token's client identifier has a wrong form")]
    ClientIdMalformed,
    /// `crit`: the header demands an extension, and none is supported.
    #[error("the token's header demands an extension that is not supported")]
    CriticalHeader,
    /// The header or the claims name a member twice.
    #[error("the token has a duplicate member")]
    DuplicateMember,
    /// The header carries the key to check the token with.
    #[error("the token brings its own key")]
    EmbeddedKey,
    /// Five segments: a JWE.
    #[error("the token is encrypted")]
    Encrypted,
    /// `exp` lies further back than the clock skew.
    #[error("the token has expired")]
    Expired,
    /// `exp` lies before `iat`.
    #[error("the token expires before it was issued")]
    ExpiresBeforeIssued,
    /// The header is not one JSON object with members of the right types.
    #[error("the token's header is malformed")]
    HeaderMalformed,
    /// The header is longer than [`crate::limits::MAX_TOKEN_HEADER_BYTES`].
    #[error("the token's header is too long")]
    HeaderTooLong,
    /// `iat` lies further ahead than the clock skew.
    #[error("the token was issued in the future")]
    IssuedInFuture,
    /// `iss` is no configured issuer.
    #[error("the token's issuer is not trusted")]
    IssuerUnknown,
    /// The issuer does not publish the key, and a fetch has just shown that.
    #[error("the token's key is unknown")]
    KeyUnknown,
    /// `exp - iat` exceeds what the issuer may grant.
    #[error("the token's lifetime is too long")]
    LifetimeTooLong,
    /// A segment is not base64url without padding, or not in its canonical form.
    #[error("the token is not encoded as base64url")]
    NotBase64Url,
    /// Not three segments.
    #[error("the token is not a JSON web token")]
    NotCompact,
    /// `cty` says that the payload is another token.
    #[error("the token contains another token")]
    Nested,
    /// `nbf` lies further ahead than the clock skew.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// The claims are not one JSON object.
    #[error("the token's claims are malformed")]
    PayloadMalformed,
    /// The token carries a scope that the policy refuses, whatever else it grants.
    #[error("the token carries a scope that is never accepted here")]
    ScopeRefused,
    /// The scopes are neither a list in a string (RFC 6749 section 3.3) nor an array of strings.
    #[error("the token's scopes are malformed")]
    ScopesMalformed,
    /// `cnf`: the token is only valid with a proof of possession (RFC 9449 section 7.1, RFC 8705 section 3).
    #[error("the token is bound to a key and cannot be used as a bearer token")]
    SenderConstrained,
    /// Longer than [`crate::limits::MAX_TOKEN_BYTES`].
    #[error("the token is too long")]
    TooLong,
    /// `b64`: the payload is signed without being encoded (RFC 7797).
    #[error("the token's payload is not encoded")]
    UnencodedPayload,
    /// `aud` names somebody else.
    #[error("the token is for another resource")]
    WrongAudience,
    /// `typ` is not that of an access token.
    #[error("the token is not an access token")]
    WrongType,
}

impl TokenError {
    /// The reason as a stable code for metrics and audit records.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::AlgorithmNotAllowed => "algorithm_not_allowed",
            Self::AlgorithmUnsupported => "algorithm_unsupported",
            Self::AlgorithmOfOtherKey => "algorithm_of_other_key",
            Self::AmbiguousKey => "key_ambiguous",
            Self::BadSignature => "bad_signature",
            Self::ClaimMissing(_) => "claim_missing",
            Self::ClaimMalformed(_) => "claim_malformed",
            Self::ClientIdMalformed => "client_id_malformed",
            Self::CriticalHeader => "critical_header",
            Self::DuplicateMember => "duplicate_member",
            Self::EmbeddedKey => "embedded_key",
            Self::Encrypted => "token_encrypted",
            Self::Expired => "token_expired",
            Self::ExpiresBeforeIssued => "expires_before_issued",
            Self::HeaderMalformed => "header_malformed",
            Self::HeaderTooLong => "header_too_long",
            Self::IssuedInFuture => "issued_in_future",
            Self::IssuerUnknown => "issuer_unknown",
            Self::KeyUnknown => "key_unknown",
            Self::LifetimeTooLong => "lifetime_too_long",
            Self::NotBase64Url => "not_base64url",
            Self::NotCompact => "not_a_jwt",
            Self::Nested => "token_nested",
            Self::NotYetValid => "token_not_yet_valid",
            Self::PayloadMalformed => "payload_malformed",
            Self::ScopeRefused => "scope_refused",
            Self::ScopesMalformed => "scopes_malformed",
            Self::SenderConstrained => "sender_constrained",
            Self::TooLong => "token_too_long",
            Self::UnencodedPayload => "unencoded_payload",
            Self::WrongAudience => "wrong_audience",
            Self::WrongType => "wrong_token_type",
        }
    }
}

//! Tokens as audit records describe them, to decide again what was decided before.
//!
//! For replay only: nobody vouches for what is made here, and nothing that comes from the network may be made into one.
//! The feature `replay` turns this module on. The filter is built without it.

use super::{Attributes, IssuerIndex, VerifiedToken};
use crate::units::UnixSeconds;

/// What a record says of a token. It was verified when it was used; that the record tells the truth is for the seals of
/// the log to show.
#[derive(Clone, Debug)]
pub struct RecordedToken {
    /// The place of its issuer in the policy's list.
    pub issuer_index: IssuerIndex,
    /// `iss`.
    pub issuer: String,
    /// `sub`.
    pub subject: String,
    /// The client to which it was issued.
    pub client_id: Option<String>,
    /// Its scopes.
    pub scopes: Vec<String>,
    /// `iat`.
    pub issued_at: UnixSeconds,
    /// `exp`.
    pub expires_at: UnixSeconds,
    /// `jti`.
    pub token_id: Option<String>,
    /// What it says about its bearer.
    pub attributes: Attributes,
}

impl From<RecordedToken> for VerifiedToken {
    /// The token for the decision function. Records do not hold all claims, so [`VerifiedToken::claims`] is an empty
    /// object, and there are no audiences.
    fn from(token: RecordedToken) -> Self {
        Self::unsigned(token)
    }
}

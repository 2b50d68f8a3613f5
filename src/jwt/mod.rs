//! JSON Web Tokens: from the text of a bearer token to a [`VerifiedToken`], or the reason why not.
//!
//! [`verify`] asks every question that needs no cryptography first, so that a token which would be refused anyway costs
//! neither a signature check nor a fetch of keys. All of them must be answered well, the signature included, before
//! a `VerifiedToken` exists.
//!
//! - `compact`: the serialisation and the header (RFC 7515)
//! - `claims`: what the token says, read strictly, and the proof that it was verified
//! - `attributes`, `claim_path`: what it says about its bearer, and where issuers put that
//! - `jwks`, `keyring`: the issuers' keys (RFC 7517), and when to fetch them again
//! - `signature`: the only cryptography
//! - `cache`: tokens that were verified already
//! - `recorded`: what an audit record says of a token; not part of the filter

mod algorithm;
mod attributes;
mod cache;
mod claim_path;
mod claimed;
mod claims;
mod compact;
mod error;
mod jwks;
mod keyring;
mod object;
#[cfg(feature = "replay")]
mod recorded;
mod signature;
mod verify;

pub use algorithm::{Algorithm, UnknownAlgorithm};
pub use attributes::Attributes;
pub use cache::TokenCache;
pub use claim_path::ClaimPath;
pub use claimed::{Claimed, claimed};
pub use claims::VerifiedToken;
pub use compact::{CompactJws, InvalidTokenType, TokenType};
pub use error::TokenError;
pub use jwks::{InvalidKeySet, KeySet, VerificationKey};
pub use keyring::{IssuerIndex, KeyLookup, KeyRing, KeySource};
#[cfg(feature = "replay")]
pub use recorded::RecordedToken;
pub use signature::{PureRust, SignatureVerifier, ecdsa_signature_to_der};
pub use verify::{ClaimNames, Refusal, TrustedIssuer, verify};

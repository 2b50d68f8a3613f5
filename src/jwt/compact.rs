//! The compact serialisation of a signed token and its header (RFC 7515 section 7.1).

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::object::{InvalidObject, StrictObject, read_text, read_texts};
use super::{Algorithm, TokenError};
use crate::limits;

/// A token of the right form. Nothing it says has been verified.
pub struct CompactJws<'a> {
    text: &'a str,
    signing_input: &'a str,
    header: Header,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl<'a> CompactJws<'a> {
    /// Takes the three segments apart and reads the header.
    ///
    /// # Errors
    /// When the text is not a signed token in compact form, or its header asks for anything unsupported.
    pub fn parse(text: &'a str) -> Result<Self, TokenError> {
        if text.len() > limits::MAX_TOKEN_BYTES {
            return Err(TokenError::TooLong);
        }
        let [header, payload, signature] = segments(text)?;
        if header.len() > limits::MAX_TOKEN_HEADER_BYTES {
            return Err(TokenError::HeaderTooLong);
        }
        let (signing_input, _) = text.rsplit_once('.').ok_or(TokenError::NotCompact)?;
        Ok(Self {
            text,
            signing_input,
            header: Header::parse(&decode(header)?)?,
            payload: decode(payload)?,
            signature: decode(signature)?,
        })
    }

    /// The whole token, as it was presented.
    pub const fn as_str(&self) -> &'a str {
        self.text
    }

    /// What the signature covers: header and payload as they are encoded in the token.
    pub const fn signing_input(&self) -> &'a str {
        self.signing_input
    }

    /// The decoded signature. For ECDSA that is `r || s`; see [`super::ecdsa_signature_to_der`].
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// The decoded payload.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// `alg`: only to be compared with what the key is for.
    pub const fn algorithm(&self) -> Algorithm {
        self.header.algorithm
    }

    /// `kid`: only to be looked up among the issuer's keys.
    pub fn key_id(&self) -> Option<&str> {
        self.header.key_id.as_deref()
    }

    /// `typ`.
    pub const fn token_type(&self) -> &TokenType {
        &self.header.token_type
    }
}

impl fmt::Debug for CompactJws<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("CompactJws").field("algorithm", &self.header.algorithm).finish_non_exhaustive()
    }
}

/// `typ`: what kind of token this is, so that one kind is not taken for another (RFC 8725 section 3.11).
///
/// Media types compare without regard to case, and `application/` may be left out (RFC 7515 section 4.1.9).
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum TokenType {
    /// The header has no `typ`.
    Absent,
    /// The media type in lower case, without `application/`.
    Named(Box<str>),
}

impl TokenType {
    /// The types of access tokens: RFC 9068's, and what issuers write that do not follow it.
    pub fn of_access_tokens() -> Vec<Self> {
        vec![Self::Named("at+jwt".into()), Self::Named("jwt".into()), Self::Absent]
    }

    /// Reads the name of a type that a policy accepts.
    ///
    /// # Errors
    /// When it is neither `JWT` nor ends in `+jwt`, which all types of tokens do.
    pub fn parse(name: &str) -> Result<Self, InvalidTokenType> {
        let Self::Named(name) = Self::of(name) else { return Err(InvalidTokenType) };
        if &*name == "jwt" || name.strip_suffix("+jwt").is_some_and(|kind| !kind.is_empty()) {
            Ok(Self::Named(name))
        } else {
            Err(InvalidTokenType)
        }
    }

    fn of(typ: &str) -> Self {
        let name = typ.to_ascii_lowercase();
        Self::Named(name.strip_prefix("application/").unwrap_or(&name).into())
    }
}

/// Not the name of a type of token.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a token type is `JWT` or ends in `+jwt`")]
pub struct InvalidTokenType;

#[derive(Debug)]
struct Header {
    algorithm: Algorithm,
    key_id: Option<Box<str>>,
    token_type: TokenType,
}

impl Header {
    fn parse(json: &[u8]) -> Result<Self, TokenError> {
        let members = StrictObject::parse(json).map_err(|error| match error {
            InvalidObject::DuplicateMember => TokenError::DuplicateMember,
            InvalidObject::Malformed => TokenError::HeaderMalformed,
        })?;
        if members.contains("crit") {
            return Err(TokenError::CriticalHeader);
        }
        if members.contains("b64") {
            return Err(TokenError::UnencodedPayload);
        }
        // `jku`, `x5u`, `x5c` and the thumbprints are never looked at: keys come from the policy. Some issuers send
        // those for information, but no issuer has a reason to put the bare key into an access token.
        if members.contains("jwk") {
            return Err(TokenError::EmbeddedKey);
        }
        check_informative_members(&members)?;
        if text(&members, "cty")?.is_some_and(|content| TokenType::parse(&content).is_ok()) {
            return Err(TokenError::Nested);
        }
        let algorithm = text(&members, "alg")?.ok_or(TokenError::AlgorithmUnsupported)?;
        Ok(Self {
            algorithm: Algorithm::parse(&algorithm).map_err(|_| TokenError::AlgorithmUnsupported)?,
            key_id: text(&members, "kid")?.map(|key_id| key_id.into()),
            token_type: text(&members, "typ")?.map_or(TokenType::Absent, |typ| TokenType::of(&typ)),
        })
    }
}

/// Members that are not used must still have their type, because jwt-simple reads them and refuses others.
fn check_informative_members(members: &StrictObject<'_>) -> Result<(), TokenError> {
    for name in ["jku", "x5u", "x5t", "x5t#S256", "salt"] {
        text(members, name)?;
    }
    match members.get("x5c").map(read_texts) {
        Some(None) => Err(TokenError::HeaderMalformed),
        Some(Some(_)) | None => Ok(()),
    }
}

fn text<'a>(members: &StrictObject<'a>, name: &'static str) -> Result<Option<Cow<'a, str>>, TokenError> {
    members.get(name).map(|value| read_text(value).ok_or(TokenError::HeaderMalformed)).transpose()
}

fn segments(text: &str) -> Result<[&str; 3], TokenError> {
    let mut segments = text.split('.');
    match (segments.next(), segments.next(), segments.next(), segments.count()) {
        (Some(header), Some(payload), Some(signature), 0) => Ok([header, payload, signature]),
        (Some(_), Some(_), Some(_), 2) => Err(TokenError::Encrypted),
        _ => Err(TokenError::NotCompact),
    }
}

/// Strict: no padding, no line breaks, and unused bits are zero, so that there is one spelling of each token.
fn decode(segment: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(segment).map_err(|_| TokenError::NotBase64Url)
}

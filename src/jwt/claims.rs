//! What a token says, and the proof that it was verified.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};

use super::object::{InvalidObject, StrictObject, read, read_text, read_texts};
use super::{Attributes, ClaimNames, IssuerIndex, TokenError, TrustedIssuer};
use crate::limits;
use crate::units::{Seconds, UnixSeconds};

/// The claims of a token whose signature, issuer, audience, type and times were verified.
///
/// Only [`super::verify`] makes one, and for the command line alone `RecordedToken`.
#[derive(Clone)]
pub struct VerifiedToken {
    issuer_index: IssuerIndex,
    issuer: Box<str>,
    subject: Box<str>,
    client_id: Option<Box<str>>,
    scopes: Box<[Box<str>]>,
    audiences: Box<[Box<str>]>,
    times: Times,
    token_id: Option<Box<str>>,
    attributes: Attributes,
    claims: Box<str>,
}

impl VerifiedToken {
    /// The place of the issuer in the list of trusted ones.
    pub const fn issuer_index(&self) -> IssuerIndex {
        self.issuer_index
    }

    /// `iss`.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// `sub`: unique only together with the issuer.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The client to which the token was issued.
    pub fn client_id(&self) -> Option<&str> {
        self.client_id.as_deref()
    }

    /// The scopes, each once, in the token's order.
    pub fn scopes(&self) -> impl ExactSizeIterator<Item = &str> {
        self.scopes.iter().map(|scope| &**scope)
    }

    /// Everybody the token is for, not only this resource.
    pub fn audiences(&self) -> impl ExactSizeIterator<Item = &str> {
        self.audiences.iter().map(|audience| &**audience)
    }

    /// `exp`.
    pub const fn expires_at(&self) -> UnixSeconds {
        self.times.expires_at
    }

    /// `iat`.
    pub const fn issued_at(&self) -> UnixSeconds {
        self.times.issued_at
    }

    /// `exp - iat`.
    pub const fn lifetime(&self) -> Seconds {
        self.times.expires_at.since(self.times.issued_at)
    }

    /// `jti`.
    pub fn token_id(&self) -> Option<&str> {
        self.token_id.as_deref()
    }

    /// What the token says about its bearer.
    pub const fn attributes(&self) -> &Attributes {
        &self.attributes
    }

    /// All claims, as the JSON text that was signed. It has no duplicate members at any level.
    pub const fn claims(&self) -> &str {
        &self.claims
    }

    #[cfg(feature = "replay")]
    pub(super) fn unsigned(recorded: super::RecordedToken) -> Self {
        let super::RecordedToken { issued_at, expires_at, scopes, .. } = recorded;
        Self {
            issuer_index: recorded.issuer_index,
            issuer: recorded.issuer.into(),
            subject: recorded.subject.into(),
            client_id: recorded.client_id.map(Into::into),
            scopes: scopes.into_iter().map(Into::into).collect(),
            audiences: Box::default(),
            times: Times { expires_at, issued_at, not_before: None },
            token_id: recorded.token_id.map(Into::into),
            attributes: recorded.attributes,
            claims: "{}".into(),
        }
    }

    /// Whether the token may still, or already, be used.
    ///
    /// # Errors
    /// [`TokenError::Expired`], [`TokenError::NotYetValid`] or [`TokenError::IssuedInFuture`].
    pub fn check_times(&self, now: UnixSeconds) -> Result<(), TokenError> {
        self.times.check(now)
    }
}

impl AsRef<Self> for VerifiedToken {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl fmt::Debug for VerifiedToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("VerifiedToken").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// Claims of the right form. Nothing they say has been verified.
pub(super) struct UnverifiedClaims<'a> {
    text: &'a str,
    members: StrictObject<'a>,
}

impl<'a> UnverifiedClaims<'a> {
    pub(super) fn parse(payload: &'a [u8]) -> Result<Self, TokenError> {
        let text = str::from_utf8(payload).map_err(|_| TokenError::PayloadMalformed)?;
        let members = StrictObject::parse(payload).map_err(|error| match error {
            InvalidObject::DuplicateMember => TokenError::DuplicateMember,
            InvalidObject::Malformed => TokenError::PayloadMalformed,
        })?;
        Ok(Self { text, members })
    }

    /// A claim that names somebody, if it is well-formed: for records only.
    pub(super) fn name(&self, name: &'static str) -> Option<Cow<'a, str>> {
        self.identity(name).ok().flatten()
    }

    /// `iss`: only to choose among the trusted issuers.
    pub(super) fn issuer(&self) -> Result<Cow<'a, str>, TokenError> {
        self.identity("iss")?.ok_or(TokenError::ClaimMissing("iss"))
    }

    /// Everything that can be judged without a key.
    pub(super) fn check(
        &self,
        index: IssuerIndex,
        issuer: &TrustedIssuer,
        now: UnixSeconds,
    ) -> Result<CheckedClaims, TokenError> {
        if self.members.contains("cnf") {
            return Err(TokenError::SenderConstrained);
        }
        // Not used, but jwt-simple reads it and refuses other types.
        self.text("nonce")?;
        let times = self.times()?;
        times.check(now)?;
        if times.expires_at.since(times.issued_at) > issuer.max_lifetime {
            return Err(TokenError::LifetimeTooLong);
        }
        let audiences = self.audiences()?;
        if !audiences.iter().any(|audience| issuer.audiences.iter().any(|expected| **expected == **audience)) {
            return Err(TokenError::WrongAudience);
        }
        let subject = self.identity("sub")?.ok_or(TokenError::ClaimMissing("sub"))?;
        let client_id = self.client_id(&issuer.claims)?;
        Ok(CheckedClaims(VerifiedToken {
            issuer_index: index,
            issuer: issuer.issuer.as_str().into(),
            attributes: Attributes::read(&self.members, &issuer.claims, &subject, client_id.as_deref())?,
            subject: subject.into(),
            client_id,
            scopes: self.scopes(&issuer.claims)?,
            audiences,
            times,
            token_id: self.identity("jti")?.map(Into::into),
            claims: self.text.into(),
        }))
    }

    fn times(&self) -> Result<Times, TokenError> {
        let times = Times {
            expires_at: self.date("exp")?.ok_or(TokenError::ClaimMissing("exp"))?,
            issued_at: self.date("iat")?.ok_or(TokenError::ClaimMissing("iat"))?,
            not_before: self.date("nbf")?,
        };
        if times.expires_at < times.issued_at { Err(TokenError::ExpiresBeforeIssued) } else { Ok(times) }
    }

    fn audiences(&self) -> Result<Box<[Box<str>]>, TokenError> {
        let value = self.members.get("aud").ok_or(TokenError::ClaimMissing("aud"))?;
        if let Some(audience) = read_text(value) {
            return Ok(Box::from([audience.into()]));
        }
        read_texts(value).map(Into::into).ok_or(TokenError::ClaimMalformed("aud"))
    }

    fn client_id(&self, names: &ClaimNames) -> Result<Option<Box<str>>, TokenError> {
        let Some(value) = names.client_id.iter().find_map(|path| path.find(&self.members)) else { return Ok(None) };
        match read_text(value) {
            Some(client_id) if is_identity(&client_id) => Ok(Some(client_id.into())),
            Some(_) | None => Err(TokenError::ClientIdMalformed),
        }
    }

    /// A list with spaces between, or an array as Azure AD's and Okta's `scp`.
    fn scopes(&self, names: &ClaimNames) -> Result<Box<[Box<str>]>, TokenError> {
        let Some(value) = names.scopes.iter().find_map(|path| path.find(&self.members)) else {
            return Ok(Box::default());
        };
        let (list, array);
        let scopes: Vec<&str> = if let Some(text) = read_text(value) {
            list = text;
            if list.is_empty() { Vec::new() } else { list.split(' ').collect() }
        } else {
            array = read_texts(value).ok_or(TokenError::ScopesMalformed)?;
            array.iter().map(AsRef::as_ref).collect()
        };
        if !scopes.iter().all(|scope| is_scope(scope)) {
            return Err(TokenError::ScopesMalformed);
        }
        let mut seen = BTreeSet::new();
        Ok(scopes.into_iter().filter(|scope| seen.insert(*scope)).map(Into::into).collect())
    }

    fn date(&self, name: &'static str) -> Result<Option<UnixSeconds>, TokenError> {
        let date = |value| read(value).map(|NumericDate(date)| date).ok_or(TokenError::ClaimMalformed(name));
        self.members.get(name).map(date).transpose()
    }

    fn text(&self, name: &'static str) -> Result<Option<Cow<'a, str>>, TokenError> {
        self.members.get(name).map(|value| read_text(value).ok_or(TokenError::ClaimMalformed(name))).transpose()
    }

    fn identity(&self, name: &'static str) -> Result<Option<Cow<'a, str>>, TokenError> {
        let text = self.text(name)?;
        if text.as_deref().is_none_or(is_identity) { Ok(text) } else { Err(TokenError::ClaimMalformed(name)) }
    }
}

/// Claims of a token that may be accepted if its signature is good.
pub(super) struct CheckedClaims(VerifiedToken);

impl CheckedClaims {
    pub(super) fn signed(self, _: super::verify::GoodSignature) -> VerifiedToken {
        self.0
    }
}

#[derive(Clone, Copy)]
struct Times {
    expires_at: UnixSeconds,
    issued_at: UnixSeconds,
    not_before: Option<UnixSeconds>,
}

impl Times {
    fn check(&self, now: UnixSeconds) -> Result<(), TokenError> {
        let latest = now.plus(limits::CLOCK_SKEW);
        if now > self.expires_at.plus(limits::CLOCK_SKEW) {
            return Err(TokenError::Expired);
        }
        if self.not_before.is_some_and(|not_before| not_before > latest) {
            return Err(TokenError::NotYetValid);
        }
        if self.issued_at > latest { Err(TokenError::IssuedInFuture) } else { Ok(()) }
    }
}

/// Seconds since the epoch, perhaps with a fraction, which is dropped (RFC 7519 section 2).
struct NumericDate(UnixSeconds);

impl<'de> Deserialize<'de> for NumericDate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumericDateVisitor)
    }
}

struct NumericDateVisitor;

impl Visitor<'_> for NumericDateVisitor {
    type Value = NumericDate;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("seconds since 1970-01-01T00:00:00Z")
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<NumericDate, E> {
        if value <= MAX_EXACT_DOUBLE {
            Ok(NumericDate(UnixSeconds::new(value)))
        } else {
            Err(E::invalid_value(de::Unexpected::Unsigned(value), &self))
        }
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<NumericDate, E> {
        // A negative number, a negative zero included, keeps its sign and does not parse.
        match format!("{:.0}", value.floor()).parse() {
            Ok(seconds) => self.visit_u64(seconds),
            Err(_) => Err(E::invalid_value(de::Unexpected::Float(value), &self)),
        }
    }
}

/// 2^53: from here on, parsers that use doubles disagree about the number.
const MAX_EXACT_DOUBLE: u64 = 1 << 53;

/// Whether `text` can stand for somebody: in logs, in headers, and before the eyes of an approver.
///
/// Not empty, not long, and without characters that break a line or reorder the text around them.
pub(super) fn is_identity(text: &str) -> bool {
    let misleads = |c: char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let is_plain = || text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    !text.is_empty() && text.len() <= limits::MAX_IDENTITY_BYTES && (is_plain() || !text.contains(misleads))
}

/// `scope-token` of RFC 6749 section 3.3.
fn is_scope(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}

//! What a token says about its bearer beyond identity and scopes: for roles, step-up and records.

use super::claim_path::ClaimPath;
use super::claims::is_identity;
use super::object::{Raw, StrictObject, read, read_text, read_texts};
use super::{ClaimNames, TokenError};
use crate::limits;
use crate::units::UnixSeconds;

/// Attributes of the bearer, from the signed claims.
///
/// A claim that is missing or of a wrong type gives nobody anything: it counts as absent. Two exceptions refuse the
/// token, as they would otherwise be taken for more than they are: a malformed delegation chain, and a malformed agent
/// role.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Attributes {
    /// Roles of the person at the issuer.
    pub roles: Box<[Box<str>]>,
    /// Groups of the person at the issuer.
    pub groups: Box<[Box<str>]>,
    /// Department of the person.
    pub department: Option<Box<str>>,
    /// The tenant that the bearer belongs to.
    pub tenant: Option<Box<str>>,
    /// What the token was issued for, as the issuer knows it.
    pub purpose: Option<Box<str>>,
    /// Agent role, where the issuer assigns it.
    pub agent: Option<Box<str>>,
    /// Who acts for the subject, the current actor first (`act`, RFC 8693 section 4.1).
    pub actors: Box<[Box<str>]>,
    /// `acr`: how well the person was authenticated (RFC 9470, OpenID Connect Core).
    pub acr: Option<Box<str>>,
    /// `amr`: by which methods (RFC 8176).
    pub amr: Box<[Box<str>]>,
    /// `auth_time`: when.
    pub auth_time: Option<UnixSeconds>,
    /// Whether the token stands for a client alone, without a person.
    pub is_machine: bool,
}

impl Attributes {
    pub(super) fn read(
        claims: &StrictObject<'_>,
        names: &ClaimNames,
        subject: &str,
        client_id: Option<&str>,
    ) -> Result<Self, TokenError> {
        let text = |paths: &[ClaimPath]| find_text(claims, paths).filter(|text| is_identity(text));
        let list = |paths: &[ClaimPath]| paths.iter().find_map(|path| path.find(claims)).and_then(texts);
        let member = |name: &str| claims.get(name).and_then(read_text).filter(|text| is_identity(text));
        let agent = match names.agent.iter().find_map(|path| path.find(claims)) {
            None => None,
            Some(value) => Some(read_text(value).ok_or(TokenError::ClaimMalformed("agent"))?.into()),
        };
        let is_marked = names.machine.as_ref().is_some_and(|(path, values)| {
            let value = path.find(claims).and_then(read_text);
            value.is_some_and(|value| values.iter().any(|marked| **marked == *value))
        });
        Ok(Self {
            roles: list(&names.roles).unwrap_or_default(),
            groups: list(&names.groups).unwrap_or_default(),
            department: text(&names.department),
            tenant: text(&names.tenant),
            purpose: text(&names.purpose),
            agent,
            actors: actors(claims)?,
            acr: member("acr").map(Into::into),
            amr: claims.get("amr").and_then(texts).unwrap_or_default(),
            // Larger numbers are no times, and not every reader of a record would read them as the same ones.
            auth_time: claims
                .get("auth_time")
                .and_then(read::<u64>)
                .filter(|time| *time < 1 << 53)
                .map(UnixSeconds::new),
            // RFC 9068 section 2.2: without a resource owner the subject is the client.
            is_machine: is_marked || client_id == Some(subject),
        })
    }
}

fn find_text(claims: &StrictObject<'_>, paths: &[ClaimPath]) -> Option<Box<str>> {
    paths.iter().find_map(|path| path.find(claims)).and_then(read_text).map(Into::into)
}

/// One string, or an array of them.
fn texts(value: Raw<'_>) -> Option<Box<[Box<str>]>> {
    if let Some(text) = read_text(value) {
        return Some(Box::from([text.into()]));
    }
    read_texts(value).filter(|texts| texts.len() <= limits::MAX_ROLE_CLAIMS).map(Into::into)
}

/// The chain of actors: each `act` names one by `sub` and may hold the one before.
fn actors(claims: &StrictObject<'_>) -> Result<Box<[Box<str>]>, TokenError> {
    const MALFORMED: TokenError = TokenError::ClaimMalformed("act");
    let mut actors = Vec::new();
    let mut next = claims.get("act");
    while let Some(value) = next {
        if actors.len() >= limits::MAX_ACTORS {
            return Err(MALFORMED);
        }
        let actor = StrictObject::within(value).ok_or(MALFORMED)?;
        let subject = actor.get("sub").and_then(read_text).filter(|text| is_identity(text)).ok_or(MALFORMED)?;
        actors.push(subject.into());
        next = actor.get("act");
    }
    Ok(actors.into())
}

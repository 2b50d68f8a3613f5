//! What a token says of itself, whether or not it is to be believed.

use super::CompactJws;
use super::claims::UnverifiedClaims;

/// Names in a token that nobody has verified: for records of refusals, and for nothing else.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Claimed {
    /// `iss`.
    pub issuer: Option<Box<str>>,
    /// `sub`.
    pub subject: Option<Box<str>>,
    /// `client_id`, or `azp`.
    pub client_id: Option<Box<str>>,
}

/// Reads what a token says of itself; `None` if that cannot be read.
pub fn claimed(token: &str) -> Option<Claimed> {
    let token = CompactJws::parse(token).ok()?;
    let claims = UnverifiedClaims::parse(token.payload()).ok()?;
    let name = |name: &'static str| claims.name(name).map(Into::into);
    Some(Claimed { issuer: name("iss"), subject: name("sub"), client_id: name("client_id").or_else(|| name("azp")) })
}

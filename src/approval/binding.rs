//! What an approval is for: one digest over who asks for what under which policy.
//!
//! ```text
//! SHA-256( frame("toolgate-approval-1") frame(resource) frame(policy) frame(issuer) frame(subject)
//!          optional(client) optional(agent) optional(tenant) frame(method) frame(canonical params) )
//! ```
//!
//! `frame` and `optional` are those of [`crate::session`]. Another argument, tool, caller or policy is another digest, and
//! so another approval.

use std::fmt;

use hmac_sha256::Hash;

use super::id::hexadecimal;
use super::params::{Canonical, Round};
use crate::mcp::Unreadable;
use crate::session::length;

/// The version of the form.
const FORM: &str = "toolgate-approval-1";

/// Who asks, and under which rules.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// URI of the protected resource.
    pub resource: &'a str,
    /// SHA-256 of the policy in force, in hexadecimal.
    pub policy: &'a str,
    /// Issuer of the caller's token.
    pub issuer: &'a str,
    /// Subject of the caller's token.
    pub subject: &'a str,
    /// Client that the token was issued to. None is not the same as any.
    pub client_id: Option<&'a str>,
    /// The agent role that the client has. None is not the same as any.
    pub agent: Option<&'a str>,
    /// Tenant of the caller. None is not the same as any.
    pub tenant: Option<&'a str>,
}

/// A call by a caller under a policy, as a digest. It holds nothing personal, and nobody but the gateway can make another
/// call of the same one.
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
pub struct BindingDigest([u8; 32]);

impl BindingDigest {
    /// The digest of a message for that `asker`.
    ///
    /// `body` is one JSON-RPC message that was read strictly, and `method` what was read from it. In [`Round::Continuation`]
    /// neither `requestState` nor `inputResponses` count, as both differ from round to round.
    ///
    /// # Errors
    /// When the parameters could be read in two ways, nest too deeply, or are no object.
    pub fn of(asker: &Asker<'_>, method: &str, body: &[u8], round: Round) -> Result<Self, Unreadable> {
        let Asker { resource, policy, issuer, subject, client_id, agent, tenant } = *asker;
        let params = Canonical::params_of(body, round)?;
        let mut hash = Hash::new();
        for text in [FORM, resource, policy, issuer, subject] {
            frame(&mut hash, text);
        }
        for optional in [client_id, agent, tenant] {
            hash.update([u8::from(optional.is_some())]);
            if let Some(text) = optional {
                frame(&mut hash, text);
            }
        }
        frame(&mut hash, method);
        frame(&mut hash, params.as_str());
        Ok(Self(hash.finalize()))
    }

    /// A digest that was kept.
    pub const fn new(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// The digest.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether `text` is this digest in hexadecimal with lower-case letters.
    pub fn is(&self, text: &str) -> bool {
        text == self.to_string()
    }
}

fn frame(hash: &mut Hash, text: &str) {
    hash.update(length(text.as_bytes()));
    hash.update(text);
}

impl fmt::Display for BindingDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        hexadecimal(&self.0, formatter)
    }
}

impl fmt::Debug for BindingDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKER: Asker<'_> = Asker {
        resource: "https://mcp.norg.example/mcp",
        policy: "00",
        issuer: "https://idp.norg.example",
        subject: "alice",
        client_id: Some("desktop"),
        agent: None,
        tenant: Some("acme"),
    };

    const BODY: &[u8] = br#"{"method":"tools/call","params":{"name":"t","arguments":{"b":[1,2.0],"a":"x"}}}"#;

    fn digest(asker: &Asker<'_>, method: &str, body: &[u8]) -> BindingDigest {
        BindingDigest::of(asker, method, body, Round::First).unwrap()
    }

    /// Calculated with another implementation, from the description at the top of this module.
    #[test]
    fn the_form_is_the_one_that_is_documented() {
        let text = digest(&ASKER, "tools/call", BODY).to_string();
        assert_eq!(text, "46876074a5ec20f8c65f6af5dd2fb4d9ac908d062bd577ad5691ca16b17bee57");
        assert!(digest(&ASKER, "tools/call", BODY).is(&text));
        assert!(!digest(&ASKER, "tools/call", BODY).is(&text.to_uppercase()));
    }

    #[test]
    fn whatever_is_bound_makes_another_digest() {
        let mut all = vec![
            digest(&ASKER, "tools/call", BODY),
            digest(&ASKER, "prompts/get", BODY),
            digest(&ASKER, "tools/call", br#"{"params":{"name":"t","arguments":{"b":[1,2],"a":"x"}}}"#),
            digest(&ASKER, "tools/call", br#"{"params":{"name":"t","arguments":{"b":[2.0,1],"a":"x"}}}"#),
            digest(&ASKER, "tools/call", br#"{"params":{"name":"t"}}"#),
            digest(&ASKER, "tools/call", br#"{"params":{}}"#),
            digest(&ASKER, "tools/call", b"{}"),
        ];
        for asker in [
            Asker { resource: "https://mcp.norg.example/mcp2", ..ASKER },
            Asker { policy: "01", ..ASKER },
            Asker { issuer: "https://idp.norg.example/", ..ASKER },
            Asker { subject: "Alice", ..ASKER },
            Asker { client_id: Some("phone"), ..ASKER },
            Asker { client_id: None, ..ASKER },
            Asker { agent: Some("desktop"), ..ASKER },
            Asker { agent: Some("desktop"), client_id: None, ..ASKER },
            Asker { agent: Some("acme"), tenant: None, ..ASKER },
            Asker { tenant: Some(""), ..ASKER },
            Asker { tenant: None, ..ASKER },
            Asker { issuer: "https://idp.norg.examplea", subject: "lice", ..ASKER },
        ] {
            all.push(digest(&asker, "tools/call", BODY));
        }
        for (index, one) in all.iter().enumerate() {
            assert!(all.iter().skip(index + 1).all(|other| other != one), "{index}");
        }
    }
}

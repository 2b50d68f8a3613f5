//! Cookies that nobody but this service can read or make.

use hmac_sha256::HMAC;
use jwt_simple::prelude::{A256KWKey, DecryptionOptions, JWTClaims};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::config::Secret;

/// What a sealed text is for: one of another purpose does not open.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Purpose {
    /// A sign-in that has begun.
    Flow,
    /// A person who has signed in.
    Session,
    /// Forms of a session.
    Csrf,
}

impl Purpose {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Flow => b"toolgate-approvals flow 1",
            Self::Session => b"toolgate-approvals session 1",
            Self::Csrf => b"toolgate-approvals csrf 1",
        }
    }
}

/// Keeps members of the content apart from the claims that JWT registers.
#[derive(Deserialize, Serialize)]
struct Envelope<T> {
    content: T,
}

/// Seals texts under keys that come from one secret.
pub(super) struct Sealer {
    secret: Secret,
}

impl Sealer {
    pub(super) const fn new(secret: Secret) -> Self {
        Self { secret }
    }

    /// The key of a purpose: also of one-way marks, see [`Self::mark`].
    fn key(&self, purpose: Purpose) -> [u8; 32] {
        HMAC::mac(purpose.label(), self.secret.expose())
    }

    /// Encrypts and authenticates the content (RFC 7516, A256KW and A256GCM). Times are part of the content.
    pub(super) fn seal<T: Serialize>(&self, purpose: Purpose, content: T) -> Option<String> {
        let claims = JWTClaims {
            issued_at: None,
            expires_at: None,
            invalid_before: None,
            issuer: None,
            subject: None,
            audiences: None,
            jwt_id: None,
            nonce: None,
            custom: Envelope { content },
        };
        A256KWKey::from_bytes(&self.key(purpose)).ok()?.encrypt(claims).ok()
    }

    /// The content of what [`Self::seal`] has made for this purpose.
    pub(super) fn open<T: DeserializeOwned>(&self, purpose: Purpose, text: &str) -> Option<T> {
        let options = DecryptionOptions {
            max_token_length: Some(super::cookie::MAX_VALUE_BYTES),
            ..DecryptionOptions::default()
        };
        let key = A256KWKey::from_bytes(&self.key(purpose)).ok()?;
        key.decrypt_token::<Envelope<T>>(text, Some(options)).ok().map(|claims| claims.custom.content)
    }

    /// A mark that only this service can make for the text.
    pub(super) fn mark(&self, purpose: Purpose, text: &str) -> [u8; 32] {
        HMAC::mac(text, self.key(purpose))
    }

    /// Whether the mark is the text's, in constant time.
    pub(super) fn is_marked(&self, purpose: Purpose, text: &str, mark: &[u8; 32]) -> bool {
        HMAC::verify(text, self.key(purpose), mark)
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Sealer(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(secret: &str) -> Sealer {
        Sealer::new(Secret::new(secret, 1).unwrap())
    }

    #[test]
    fn only_the_same_key_and_purpose_open() {
        let ours = sealer("one");
        let sealed = ours.seal(Purpose::Session, ["x".to_owned()]).unwrap();
        assert_eq!(ours.open::<[String; 1]>(Purpose::Session, &sealed).unwrap(), ["x"]);
        assert!(ours.open::<[String; 1]>(Purpose::Flow, &sealed).is_none());
        assert!(sealer("two").open::<[String; 1]>(Purpose::Session, &sealed).is_none());
        assert_ne!(ours.seal(Purpose::Session, ["x"]).unwrap(), sealed);
    }
}

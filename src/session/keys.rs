//! The keys that seal, and how they are replaced.

use std::fmt;

use crate::limits;
use crate::units::Seconds;

/// A key, and the name by which an envelope refers to it.
#[derive(Clone, Eq, PartialEq)]
pub struct SessionKey {
    id: Box<str>,
    secret: Box<[u8]>,
}

/// Why a key cannot be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyProblem {
    /// The name is empty, longer than [`limits::MAX_SESSION_KEY_ID_BYTES`], or has other characters.
    #[error("is not a key id of 1 to {most} characters A-Z, a-z, 0-9, `_`, `-`", most = limits::MAX_SESSION_KEY_ID_BYTES)]
    Id,
    /// Fewer bytes than [`limits::MIN_SESSION_KEY_BYTES`].
    #[error("has fewer than {least} bytes", least = limits::MIN_SESSION_KEY_BYTES)]
    TooShort,
    /// More bytes than [`limits::MAX_SESSION_KEY_BYTES`].
    #[error("has more than {most} bytes", most = limits::MAX_SESSION_KEY_BYTES)]
    TooLong,
    /// Another key has the same name, so that an envelope would not say which of them it needs.
    #[error("is used twice")]
    Repeated,
}

impl SessionKey {
    /// The key `secret` under the name `id`.
    ///
    /// # Errors
    /// When the name or the length will not do.
    pub fn new(id: &str, secret: &[u8]) -> Result<Self, KeyProblem> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if id.is_empty() || id.len() > limits::MAX_SESSION_KEY_ID_BYTES || !id.bytes().all(is_plain) {
            return Err(KeyProblem::Id);
        }
        if secret.len() < limits::MIN_SESSION_KEY_BYTES {
            return Err(KeyProblem::TooShort);
        }
        if secret.len() > limits::MAX_SESSION_KEY_BYTES {
            return Err(KeyProblem::TooLong);
        }
        Ok(Self { id: id.into(), secret: secret.into() })
    }

    /// Its name.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn secret(&self) -> &[u8] {
        &self.secret
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SessionKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The keys of a gateway: the first one seals, each of them opens what it sealed.
///
/// To replace a key, list the new one second everywhere, then first, and drop the old one after `max_age`.
#[derive(Clone, Debug)]
pub struct SessionKeys {
    keys: Vec<SessionKey>,
    max_age: Seconds,
}

impl SessionKeys {
    /// These keys; what they sealed opens for `max_age`. Without keys nothing is sealed and nothing opens.
    ///
    /// # Errors
    /// The place of a key whose name another one has already.
    pub fn new(keys: Vec<SessionKey>, max_age: Seconds) -> Result<Self, (usize, KeyProblem)> {
        let repeated = |(index, key): &(usize, &SessionKey)| keys.iter().take(*index).any(|other| other.id == key.id);
        match keys.iter().enumerate().find(repeated) {
            Some((index, _)) => Err((index, KeyProblem::Repeated)),
            None => Ok(Self { keys, max_age }),
        }
    }

    /// How long what was sealed opens.
    pub const fn max_age(&self) -> Seconds {
        self.max_age
    }

    /// The names of the keys, the one that seals first.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = &str> {
        self.keys.iter().map(SessionKey::id)
    }

    /// Whether nothing can be sealed.
    pub const fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(super) fn first(&self) -> Option<&SessionKey> {
        self.keys.first()
    }

    pub(super) fn find(&self, id: &str) -> Option<&SessionKey> {
        self.keys.iter().find(|key| &*key.id == id)
    }
}

//! Secret keys with names.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::limits;

/// A key, and the name by which what it makes refers to it.
#[derive(Clone)]
pub struct NamedKey {
    id: Box<str>,
    secret: Box<[u8]>,
    /// HMAC-SHA-256 that has taken in the secret, which is half of the work of a short message.
    keyed: Hmac<Sha256>,
}

impl Eq for NamedKey {}

impl PartialEq for NamedKey {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && self.secret == other.secret
    }
}

/// Why a key cannot be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyProblem {
    /// The name is empty, longer than [`limits::MAX_KEY_ID_BYTES`], or has other characters.
    #[error("is not a key id of 1 to {most} characters A-Z, a-z, 0-9, `_`, `-`", most = limits::MAX_KEY_ID_BYTES)]
    Id,
    /// Fewer bytes than [`limits::MIN_KEY_BYTES`].
    #[error("has fewer than {least} bytes", least = limits::MIN_KEY_BYTES)]
    TooShort,
    /// More bytes than [`limits::MAX_KEY_BYTES`].
    #[error("has more than {most} bytes", most = limits::MAX_KEY_BYTES)]
    TooLong,
    /// Another key has the same name, so that nothing would say which of them it needs.
    #[error("is used twice")]
    Repeated,
}

impl NamedKey {
    /// The key `secret` under the name `id`.
    ///
    /// # Errors
    /// When the name or the length will not do.
    pub fn new(id: &str, secret: &[u8]) -> Result<Self, KeyProblem> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if id.is_empty() || id.len() > limits::MAX_KEY_ID_BYTES || !id.bytes().all(is_plain) {
            return Err(KeyProblem::Id);
        }
        if secret.len() < limits::MIN_KEY_BYTES {
            return Err(KeyProblem::TooShort);
        }
        if secret.len() > limits::MAX_KEY_BYTES {
            return Err(KeyProblem::TooLong);
        }
        // It takes secrets of any length.
        let keyed = Hmac::new_from_slice(secret).map_err(|_| KeyProblem::TooLong)?;
        Ok(Self { id: id.into(), secret: secret.into(), keyed })
    }

    /// Its name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The HMAC-SHA-256 of `message` (RFC 2104).
    pub fn mac(&self, message: &[u8]) -> [u8; 32] {
        self.keyed.clone().chain_update(message).finalize().into_bytes().into()
    }

    /// Its secret bytes.
    pub fn secret(&self) -> &[u8] {
        &self.secret
    }
}

impl fmt::Debug for NamedKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("NamedKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The place of a key whose name another one has already.
///
/// # Errors
/// That place, and [`KeyProblem::Repeated`].
pub fn distinct(keys: &[NamedKey]) -> Result<(), (usize, KeyProblem)> {
    let repeated = |(index, key): &(usize, &NamedKey)| keys.iter().take(*index).any(|other| other.id == key.id);
    match keys.iter().enumerate().find(repeated) {
        Some((index, _)) => Err((index, KeyProblem::Repeated)),
        None => Ok(()),
    }
}

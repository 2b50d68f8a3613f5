//! Secrets, which come from the environment and go into no log.

use std::fmt;

use super::ConfigError;

/// A secret. It cannot be printed.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

impl Secret {
    /// Takes a secret of at least `min` characters from an environment variable.
    ///
    /// # Errors
    /// When it is not there, or too short.
    pub fn from_env(name: &str, min: usize) -> Result<Self, ConfigError> {
        let value = std::env::var(name).map_err(|_| ConfigError::Secret(name.to_owned(), "is not set"))?;
        Self::new(&value, min).ok_or_else(|| ConfigError::Secret(name.to_owned(), "is too short"))
    }

    /// Takes a secret of at least `min` characters.
    #[must_use]
    pub fn new(value: &str, min: usize) -> Option<Self> {
        let value = value.trim();
        (value.len() >= min).then(|| Self(value.to_owned()))
    }

    /// The secret itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

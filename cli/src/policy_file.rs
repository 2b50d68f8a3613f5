//! A policy as a file, in YAML or JSON.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use toolgate::config::{CompiledPolicy, ConfigError};

use crate::host::Failure;

/// A policy that compiles, and what was written.
#[derive(Debug)]
pub struct PolicyFile {
    /// Where it is from.
    pub path: PathBuf,
    /// The file, letter by letter.
    pub text: String,
    /// The same as a value.
    pub document: Value,
    /// What it means.
    pub compiled: CompiledPolicy,
}

/// Why there is no policy.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFileError {
    /// The file cannot be read.
    #[error("{}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is neither YAML nor JSON.
    #[error("{}: {problem}", path.display())]
    NoDocument {
        /// The file.
        path: PathBuf,
        /// What is wrong, with its place.
        problem: String,
    },
    /// It is no policy.
    #[error("{}: {error}", path.display())]
    NoPolicy {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: ConfigError,
    },
}

impl From<PolicyFileError> for Failure {
    fn from(error: PolicyFileError) -> Self {
        Self::Other(error.to_string())
    }
}

impl PolicyFile {
    /// Reads and compiles a file.
    ///
    /// # Errors
    /// When it cannot be read, or is no policy.
    pub fn read(path: &Path) -> Result<Self, PolicyFileError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| PolicyFileError::Unreadable { path: path.to_owned(), error })?;
        Self::parse(path, text)
    }

    /// Compiles the text of a policy that is, or could be, in a file.
    ///
    /// # Errors
    /// When it is no policy.
    pub fn parse(path: &Path, text: String) -> Result<Self, PolicyFileError> {
        let no_document = |problem: String| PolicyFileError::NoDocument { path: path.to_owned(), problem };
        let document: Value = if text.trim_start().starts_with('{') && serde_json::from_str::<Value>(&text).is_ok() {
            serde_json::from_str(&text).map_err(|error| no_document(error.to_string()))?
        } else {
            serde_saphyr::from_str(&text).map_err(|error| no_document(error.to_string()))?
        };
        let compiled = CompiledPolicy::from_json(document.to_string().as_bytes(), &dummy_key)
            .map_err(|error| PolicyFileError::NoPolicy { path: path.to_owned(), error })?;
        Ok(Self { path: path.to_owned(), text, document, compiled })
    }
}

/// Every variable holds a key of its own: decisions do not depend on secrets, and none is asked for.
#[expect(clippy::unnecessary_wraps, reason = "the signature of `Variables`")]
fn dummy_key(name: &str) -> Option<String> {
    Some(STANDARD.encode(hmac_sha256::Hash::hash(name.as_bytes())))
}

//! The policy document: what operators write, checked and compiled into what requests are held against.

mod check;
mod compile;
mod document;
mod error;
mod issuers;
mod parties;
mod rules;
mod sessions;

pub use compile::{CompiledPolicy, KeyFetch};
pub use document::PolicyDocument;
pub use error::ConfigError;
pub use sessions::Variables;

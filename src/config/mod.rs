//! The policy document: what operators write, checked and compiled into what requests are held against.

mod approval;
mod audit;
mod check;
mod compile;
mod document;
mod endpoint;
mod error;
mod issuers;
mod keys;
mod parties;
mod read;
mod redaction;
mod revocation;
mod rules;
mod sessions;

pub use approval::{ApprovalPolicy, ApprovalService, Credential};
pub use audit::AuditPolicy;
pub use compile::CompiledPolicy;
pub use document::PolicyDocument;
pub use endpoint::Endpoint;
pub use error::ConfigError;
pub use keys::Variables;
pub use revocation::RevocationSource;

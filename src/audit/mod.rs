//! The audit trail: one sealed record for each request.
//!
//! `record` is what is written, `seal` makes it tamper-evident. What a client or an upstream chose gets into a record
//! through `text` only, and free text through `mask`, which looks for personal data and secrets in it. Of the arguments
//! of a call `redact` shows what the policy names, and `outcome` picks from the answer what the policy names there.

mod by_tool;
pub mod mask;
pub mod outcome;
mod pointer;
mod pseudonym;
pub mod record;
pub mod redact;
mod scalar;
mod scan;
pub mod seal;
pub mod text;

pub use by_tool::ByTool;
pub use pointer::Pointer;
pub use pseudonym::{Pseudonyms, salted_hash};

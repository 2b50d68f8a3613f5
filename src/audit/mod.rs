//! The audit trail: one sealed record for each request.
//!
//! `record` is what readers read, `entry` and `portrait` write it, `seal` makes it tamper-evident, and `chain` what many of
//! them make. What a client or an
//! upstream chose gets into a record through `text` only, and free text through `mask`, which looks for personal data
//! and secrets in it. Of the arguments of a call `redact` shows what the policy names, and `outcome` picks from the
//! answer what the policy names there.

mod by_tool;
mod chain;
mod changes;
mod entry;
mod flags;
pub mod mask;
mod object;
pub mod outcome;
mod pointer;
mod portrait;
mod pseudonym;
pub mod record;
pub mod redact;
mod salt;
mod scalar;
mod scan;
pub mod seal;
pub mod text;
mod trace;

pub use by_tool::ByTool;
pub use chain::Chain;
pub use changes::policy_changes;
pub use entry::{Entry, Private};
pub use flags::{is_broken_off, names_of_flags};
pub(crate) use object::list;
pub use pointer::Pointer;
pub use portrait::Portrait;
pub use pseudonym::Pseudonyms;
pub use salt::Salt;
pub use text::clean;
pub use trace::TraceContext;

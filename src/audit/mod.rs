//! The audit trail: one sealed record for each request.
//!
//! `record` is what is written, `seal` makes it tamper-evident, and `chain` what many of them make. What a client or an
//! upstream chose gets into a record through `text` only.

mod chain;
mod changes;
mod flags;
pub mod record;
mod salt;
pub mod seal;
mod stub;
pub mod text;
mod trace;

pub use chain::{Chain, Entry};
pub use changes::policy_changes;
pub use flags::{is_broken_off, names_of_flags};
pub use salt::Salt;
pub use stub::*;
pub use text::clean;
pub use trace::TraceContext;

//! The audit trail: one sealed record for each request.
//!
//! `record` is what is written, `seal` makes it tamper-evident.

mod chain;
pub mod record;
pub mod seal;

pub use chain::{Chain, Entry};

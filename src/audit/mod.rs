//! The audit trail: one sealed record for each request.
//!
//! `record` is what is written, `seal` makes it tamper-evident.

pub mod record;
pub mod seal;

//! The audit trail: one sealed record for each request.
//!
//! `record` is what is written, `seal` makes it tamper-evident. What a client or an upstream chose gets into a record
//! through `text` only.

pub mod record;
pub mod seal;
pub mod text;

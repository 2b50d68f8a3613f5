//! Calls that a person must approve: what is asked, of whom the answer must come, and what the client is told.
//!
//! Nothing here does input or output; `exchange` says when, and the filter sends what is asked.
//!
//! ```text
//! call ─► params::without_own_fields ─────────────────────────────────────────────► what the upstream gets
//!    └──► BindingDigest (caller, policy, canonical params)
//! ```
//!
//! - `id`: names that come from outside and go into paths
//! - `params`, `binding`: what an approval is for
//! - `contract`: what is said between the gateway and an approval service
//! - `decision`: signed decisions, and the proof that one lets a request through
//! - `reason`: why none does
//! - `wrap`: an upstream that itself asks for input, behind an approval
//!
//! A client carries where its call stands in a `requestState` that is sealed for it, see
//! [`crate::session::ApprovalState`]. Nothing that a client or a network says lets a call through.

mod binding;
pub mod contract;
mod decision;
mod id;
mod params;
mod reason;
mod wrap;

pub use binding::{Asker, BindingDigest};
pub use decision::{
    Approver, Consumption, DecisionError, Ended, Expected, Grant, Trust, Verdict, verify_grant, verify_verdict,
};
pub use id::{ApprovalId, Nonce};
pub use params::{Round, canonical_params, without_own_fields};
pub use reason::Reason;
pub use wrap::{InputRequired, WrapError};

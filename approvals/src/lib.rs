//! The reference approval service of Toolgate.
//!
//! A gateway asks it for the approval of a call (gateway_api); people decide on its page or through its API; the
//! gateway gets the decision as a signature that it can check. What is decided by which rule is in [`domain`]; what is
//! kept, and how nothing is used twice, is in [`store`].

pub mod approver_api;
pub mod clock;
pub mod config;
pub mod domain;
pub mod page;
pub mod service;
pub mod sign_in;
pub mod store;

pub use service::{Approvals, Change};

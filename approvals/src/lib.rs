//! The reference approval service of Toolgate.
//!
//! A gateway asks it for the approval of a call ([`gateway_api`]); people sign in ([`sign_in`]) and decide on its page
//! ([`page`]) or through its API ([`approver_api`]); the gateway gets the decision as a signature that it can check ([`signing`]). What is decided by which rule is in
//! [`domain`]; what is kept, and how nothing is used twice, is in [`store`].

pub mod approver_api;
pub mod body;
pub mod clock;
pub mod config;
mod connections;
pub mod domain;
pub mod gateway_api;
pub mod metrics;
pub mod page;
pub mod problem;
pub mod server;
pub mod service;
pub mod sign_in;
pub mod signing;
pub mod store;
#[cfg(test)]
mod testing;
mod waits;
pub mod webhooks;

pub use service::{Approvals, Change};

//! Who is calling, from verified credentials only, and what each side of the call may do.
//!
//! A call has up to five sides, and all of them must allow it: the token, the person behind it (operator roles), the
//! agent that the person lets act (agent role), the client software (registration), and the consent that somebody
//! gave to that client. [`Principal`] holds what the policy's [`Directory`] knows of the bearer of one token.
//!
//! - `operator`, `agent`, `client`, `consent`, `source`: the tables of the policy
//! - `revocation`: who was cut off before the token expires
//! - `principal`: the bearer of a token, held against those tables
//! - `side`: what failed, and on which side

mod agent;
mod client;
mod consent;
mod directory;
mod operator;
mod principal;
mod revocation;
mod side;
mod source;

pub use agent::{Agent, AgentApproval};
pub use client::Client;
pub use consent::{Consent, Definitions};
pub use directory::Directory;
pub use operator::{Operator, RoleMatch};
pub use principal::{IdentityHeaders, Principal};
pub use revocation::{FetchedList, InvalidList, RevocationFeed, RevocationList, Revoked, RevokedSubject};
pub use side::{Failure, Side, Why};
pub use source::{Peer, PeerNeeds, Source};

//! Identifiers of the upstream, and the state of approvals, sealed for one caller.
//!
//! A session identifier is no credential, and whoever learns one must not get into the session with it (MCP 2025-11-25,
//! security best practices, session hijacking). The gateway keeps no table of who owns what: the client gets the
//! upstream's identifier in an envelope that says so itself, and that opens for the caller it was made for only, on
//! every worker and on every replica that holds the key.
//!
//! ```text
//! tg1.<key id>.<payload>.<mac>      a session        both parts in base64url without padding
//! tgt1.<key id>.<payload>.<mac>     a task
//! tga1.<key id>.<payload>.<mac>     where a call that waits for an approval stands (`requestState`)
//!
//! mac = HMAC-SHA-256(key, frame(mark) frame(key id) frame(binding) frame(payload))
//! binding = SHA-256(frame(resource) frame(issuer) frame(subject) optional(client) optional(tenant))
//! frame(x) = length of x in 8 bytes, big-endian, then x;  optional(x) = 0, or 1 and frame(x)
//! ```
//!
//! The payload is not secret: it holds what the client may know.

mod approval;
mod binding;
mod envelope;
mod identifier;
mod keys;
mod task;

pub use approval::ApprovalState;
pub(crate) use binding::length;
pub use binding::{Binding, Owner};
pub use identifier::Session;
pub use keys::SessionKeys;
pub use task::Task;

/// Why something sealed does not open. Told apart in metrics and logs; the client gets one answer for all of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SealError {
    /// Not the form of anything that this gateway seals: also the upstream's own identifier, unsealed.
    #[error("not a sealed identifier")]
    Malformed,
    /// Sealed with a key that is not listed, or no longer.
    #[error("sealed with an unknown key")]
    UnknownKey,
    /// Changed on the way, or sealed for another caller or resource: the two cannot be told apart.
    #[error("not sealed for this caller")]
    NotForCaller,
    /// Sealed too long ago, or for a shorter time, or by a clock that is ahead by more than
    /// [`crate::limits::CLOCK_SKEW`].
    #[error("sealed too long ago")]
    Expired,
}

/// Why an identifier of the upstream cannot be sealed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unsealable {
    /// The gateway has no key.
    #[error("no session key")]
    NoKey,
    /// The identifier is empty, too long, or not of the characters that MCP allows; or the upstream's state is too long,
    /// or could be taken for the gateway's.
    #[error("not an identifier that MCP allows, or too long")]
    Identifier,
}

#[cfg(test)]
#[expect(
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    reason = "everything is ASCII, and the numbers are in the test"
)]
mod tests;

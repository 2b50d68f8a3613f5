//! An approved call whose upstream asks its caller for something first (MCP 2026-07-28, multi round-trip requests).
//!
//! The caller comes again with what was asked for. That is the same call, which was approved, and no other approval is
//! needed; but each round is let through once only. So what the upstream wants back goes into the gateway's own state.

use crate::approval::{ApprovalId, BindingDigest, InputRequired};
use crate::config::CompiledPolicy;
use crate::mcp::{Reviewed, Unreadable};
use crate::session::{ApprovalState, Binding};
use crate::units::UnixSeconds;

/// The next round of an approved call, should there be one.
#[derive(Debug)]
pub(in crate::exchange) struct Continuation {
    pub(super) service: u8,
    pub(super) step: u8,
    pub(super) id: ApprovalId,
    pub(super) binding: BindingDigest,
    pub(super) owner: Binding,
    /// No round may begin later.
    pub(super) ends: UnixSeconds,
}

impl Continuation {
    /// Puts the gateway's own state in place of the upstream's, in a result that asks for something. `reviewed` is what
    /// was made of `message` before.
    ///
    /// # Errors
    /// When that cannot be done: then the client could not come back with it.
    pub(in crate::exchange) fn keep_in(
        &self,
        reviewed: Reviewed,
        message: &[u8],
        policy: &CompiledPolicy,
        now: UnixSeconds,
    ) -> Result<Reviewed, Unreadable> {
        let current = match &reviewed {
            Reviewed::Unchanged => message,
            Reviewed::Changed(changed) => changed,
            Reviewed::Nothing => return Ok(Reviewed::Nothing),
        };
        let asks = InputRequired::read(current).map_err(|_| Unreadable::Malformed)?;
        let Some(asks) = asks else { return Ok(reviewed) };
        let state = ApprovalState {
            service: self.service,
            step: self.step,
            binding: self.binding,
            expires_at: self.ends,
            id: self.id.clone(),
            upstream_state: asks.upstream_state().map(str::to_owned),
        };
        let sealed = policy.sessions.seal_approval(&state, &self.owner, now).map_err(|_| Unreadable::Malformed)?;
        asks.with_state(&sealed).map(Reviewed::Changed).map_err(|_| Unreadable::Malformed)
    }
}

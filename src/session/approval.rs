//! Where a call that waits for an approval stands (`requestState` of MCP 2026-07-28).

use super::envelope::Kind;
use super::{Binding, SealError, SessionKeys, Unsealable};
use crate::approval::{ApprovalId, BindingDigest};
use crate::limits;
use crate::units::UnixSeconds;

/// What a client carries from one attempt of a call to the next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ApprovalState {
    /// Which approval service was asked: 0 the first, 1 the one that it is escalated to.
    pub service: u8,
    /// How often the call was let through already. 0 as long as the approval is awaited; from 1 on the upstream itself
    /// asked for input.
    pub step: u8,
    /// The call that the approval is for.
    pub binding: BindingDigest,
    /// When this state is of no use any more; the last second that it opens in.
    pub expires_at: UnixSeconds,
    /// The approval.
    pub id: ApprovalId,
    /// The upstream's own `requestState`, at most [`limits::MAX_UPSTREAM_STATE_BYTES`]. None is not the same as empty.
    pub upstream_state: Option<String>,
}

impl SessionKeys {
    /// Whether `text` begins like a state that the gateway seals. Anybody can write that: only opening it tells.
    pub fn is_approval_state(text: &str) -> bool {
        Kind::Approval.begins(text)
    }

    /// The state as text: visible ASCII, at most [`limits::MAX_APPROVAL_STATE_BYTES`].
    ///
    /// # Errors
    /// When there is no key, or the upstream's state is too long or looks like the gateway's own.
    pub fn seal_approval(
        &self,
        state: &ApprovalState,
        binding: &Binding,
        now: UnixSeconds,
    ) -> Result<String, Unsealable> {
        let ApprovalState { service, step, binding: call, expires_at, id, upstream_state } = state;
        let upstream = upstream_state.as_deref().unwrap_or_default();
        if upstream.len() > limits::MAX_UPSTREAM_STATE_BYTES || Self::is_approval_state(upstream) {
            return Err(Unsealable::Identifier);
        }
        let id = id.as_str();
        let content = [
            &[*service, *step],
            call.as_bytes().as_slice(),
            &expires_at.get().to_be_bytes(),
            &[u8::try_from(id.len()).map_err(|_| Unsealable::Identifier)?],
            id.as_bytes(),
            &[u8::from(upstream_state.is_some())],
            upstream.as_bytes(),
        ]
        .concat();
        self.enclose(Kind::Approval, &content, binding, now).ok_or(Unsealable::NoKey)
    }

    /// The state that `text` is, if it was sealed for `binding` and has not expired.
    ///
    /// # Errors
    /// Why it does not open.
    pub fn open_approval(&self, text: &str, binding: &Binding, now: UnixSeconds) -> Result<ApprovalState, SealError> {
        let content = self.disclose(Kind::Approval, text, binding, now)?;
        let state = read(&content).ok_or(SealError::Malformed)?;
        if now > state.expires_at { Err(SealError::Expired) } else { Ok(state) }
    }
}

/// Reads what this gateway wrote, or another version of it.
fn read(content: &[u8]) -> Option<ApprovalState> {
    let (&[service, step], rest) = content.split_first_chunk()?;
    let (&call, rest) = rest.split_first_chunk()?;
    let (&expires_at, rest) = rest.split_first_chunk()?;
    let (&length, rest) = rest.split_first()?;
    let (id, rest) = rest.split_at_checked(usize::from(length))?;
    let (&has_upstream_state, upstream) = rest.split_first()?;
    let upstream_state = match (has_upstream_state, str::from_utf8(upstream).ok()?) {
        (0, "") => None,
        (1, state) => Some(state.to_owned()),
        _ => return None,
    };
    Some(ApprovalState {
        service,
        step,
        binding: BindingDigest::new(call),
        expires_at: UnixSeconds::new(u64::from_be_bytes(expires_at)),
        id: ApprovalId::parse(str::from_utf8(id).ok()?)?,
        upstream_state,
    })
}

//! Task identifiers (`taskId` of 2025-11-25 and of the tasks extension).

use super::envelope::Kind;
use super::{Binding, SealError, SessionKeys, Unsealable};
use crate::limits;
use crate::units::UnixSeconds;

/// A task of the upstream, and the tool whose call began it. A handle is no proof of ownership, so that what may be
/// done with it depends on who made it by which call.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Task {
    /// The upstream's own identifier, 1 to [`limits::MAX_URI_BYTES`].
    pub upstream_id: String,
    /// The tool, 1 to [`limits::MAX_NAME_BYTES`].
    pub tool: String,
}

impl SessionKeys {
    /// The identifier that the client gets in place of the upstream's: visible ASCII, at most
    /// [`limits::MAX_SEALED_BYTES`].
    ///
    /// # Errors
    /// When there is no key, or identifier or tool name are empty or too long.
    pub fn seal_task(&self, task: &Task, binding: &Binding, now: UnixSeconds) -> Result<String, Unsealable> {
        let Task { upstream_id, tool } = task;
        let fits = |text: &str, most| (1..=most).contains(&text.len());
        let length = u16::try_from(tool.len()).map_err(|_| Unsealable::Identifier)?;
        if !fits(upstream_id, limits::MAX_URI_BYTES) || !fits(tool, limits::MAX_NAME_BYTES) {
            return Err(Unsealable::Identifier);
        }
        let content = [&length.to_be_bytes(), tool.as_bytes(), upstream_id.as_bytes()].concat();
        self.enclose(Kind::Task, &content, binding, now).ok_or(Unsealable::NoKey)
    }

    /// The task whose identifier `text` is, if it was sealed for `binding` and is not too old.
    ///
    /// # Errors
    /// Why it does not open.
    pub fn open_task(&self, text: &str, binding: &Binding, now: UnixSeconds) -> Result<Task, SealError> {
        let content = self.disclose(Kind::Task, text, binding, now)?;
        let read = || {
            let (length, rest) = content.split_first_chunk()?;
            let (tool, upstream_id) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
            let text = |bytes| str::from_utf8(bytes).ok().filter(|text| !text.is_empty()).map(str::to_owned);
            Some(Task { upstream_id: text(upstream_id)?, tool: text(tool)? })
        };
        read().ok_or(SealError::Malformed)
    }
}

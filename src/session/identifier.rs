//! Session identifiers (`Mcp-Session-Id` of the revisions up to 2025-11-25).

use super::envelope::Kind;
use super::{Binding, SealError, SessionKeys, Unsealable};
use crate::limits;
use crate::mcp::{ClientCapabilities, Revision};
use crate::units::UnixSeconds;

/// A session of the upstream, and what its client declared when it began.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Session {
    /// The upstream's own identifier: 1 to [`limits::MAX_UPSTREAM_SESSION_BYTES`] of visible ASCII.
    pub upstream_id: String,
    /// What the client said at `initialize` that it can do. Nothing is too little: a client may be sent less.
    pub capabilities: ClientCapabilities,
    /// The revision that the client asked for at `initialize`. The server may have chosen an older one.
    pub requested: Revision,
}

impl Session {
    /// Whether `id` is one that MCP allows and that is not too long to be sealed.
    pub fn is_identifier(id: &str) -> bool {
        (1..=limits::MAX_UPSTREAM_SESSION_BYTES).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
    }
}

impl SessionKeys {
    /// The identifier that the client gets in place of the upstream's: visible ASCII, at most
    /// [`limits::MAX_SEALED_BYTES`].
    ///
    /// # Errors
    /// When there is no key, or the upstream's identifier is not one.
    pub fn seal(&self, session: &Session, binding: &Binding, now: UnixSeconds) -> Result<String, Unsealable> {
        let Session { upstream_id, capabilities, requested } = session;
        if !Session::is_identifier(upstream_id) {
            return Err(Unsealable::Identifier);
        }
        let content = [&[capabilities.bits(), code(*requested)], upstream_id.as_bytes()].concat();
        self.enclose(Kind::Session, &content, binding, now).ok_or(Unsealable::NoKey)
    }

    /// The session whose identifier `text` is, if it was sealed for `binding` and is not too old.
    ///
    /// # Errors
    /// Why it does not open.
    pub fn open(&self, text: &str, binding: &Binding, now: UnixSeconds) -> Result<Session, SealError> {
        let content = self.disclose(Kind::Session, text, binding, now)?;
        // From here on it is this gateway's own writing, or that of another version of it.
        let Some((&[capabilities, requested], upstream_id)) = content.split_first_chunk() else {
            return Err(SealError::Malformed);
        };
        let upstream_id = str::from_utf8(upstream_id).ok().filter(|id| Session::is_identifier(id));
        match (upstream_id, ClientCapabilities::from_bits(capabilities), revision(requested)) {
            (Some(upstream_id), Some(capabilities), Some(requested)) => {
                Ok(Session { upstream_id: upstream_id.to_owned(), capabilities, requested })
            }
            _ => Err(SealError::Malformed),
        }
    }
}

/// A revision in one byte. Replicas of different versions share sessions, so a number is never used again.
const fn code(revision: Revision) -> u8 {
    match revision {
        Revision::V2025_03_26 => 1,
        Revision::V2025_06_18 => 2,
        Revision::V2025_11_25 => 3,
        Revision::V2026_07_28 => 4,
    }
}

fn revision(number: u8) -> Option<Revision> {
    Revision::ALL.into_iter().find(|&revision| code(revision) == number)
}

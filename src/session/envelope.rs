//! The envelope: a payload in the clear, and a MAC that binds it to key, purpose and caller.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac_sha256::HMAC;

use super::binding::length;
use super::{Binding, SealError, SessionKeys};
use crate::keys::NamedKey;
use crate::limits;
use crate::units::UnixSeconds;

/// What an envelope holds, with the version of its form: an envelope of one kind never opens as another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Session,
    Task,
    Approval,
}

impl Kind {
    /// The first part of the text, and of what is authenticated.
    const fn mark(self) -> &'static str {
        match self {
            Self::Session => "tg1",
            Self::Task => "tgt1",
            Self::Approval => "tga1",
        }
    }

    /// How long a whole envelope may be.
    const fn most_bytes(self) -> usize {
        match self {
            Self::Session | Self::Task => limits::MAX_SEALED_BYTES,
            Self::Approval => limits::MAX_APPROVAL_STATE_BYTES,
        }
    }

    /// Whether `text` begins as an envelope of this kind does. That says nothing about whether it opens.
    pub(super) fn begins(self, text: &str) -> bool {
        text.strip_prefix(self.mark()).is_some_and(|rest| rest.starts_with('.'))
    }
}

impl SessionKeys {
    /// Puts the time and `content` into an envelope for `binding`; `None` when there is no key.
    pub(super) fn enclose(&self, kind: Kind, content: &[u8], binding: &Binding, now: UnixSeconds) -> Option<String> {
        let key = self.first()?;
        let payload = [now.get().to_be_bytes().as_slice(), content].concat();
        let mac = authenticate(key, kind, &payload, binding).finalize();
        let (mark, id) = (kind.mark(), key.id());
        Some(format!("{mark}.{id}.{}.{}", URL_SAFE_NO_PAD.encode(payload), URL_SAFE_NO_PAD.encode(mac)))
    }

    /// Takes out what [`Self::enclose`] put in.
    pub(super) fn disclose(
        &self,
        kind: Kind,
        text: &str,
        binding: &Binding,
        now: UnixSeconds,
    ) -> Result<Vec<u8>, SealError> {
        let (key_id, mut payload, mac) = parse(kind, text).ok_or(SealError::Malformed)?;
        let key = self.find(key_id).ok_or(SealError::UnknownKey)?;
        // Compares in constant time.
        if !authenticate(key, kind, &payload, binding).finalize_verify(&mac) {
            return Err(SealError::NotForCaller);
        }
        let issued_at = payload.first_chunk().map(|bytes| UnixSeconds::new(u64::from_be_bytes(*bytes)));
        let issued_at = issued_at.ok_or(SealError::Malformed)?;
        if now.since(issued_at) > self.max_age() || issued_at.since(now) > limits::CLOCK_SKEW {
            return Err(SealError::Expired);
        }
        payload.drain(..size_of::<u64>());
        Ok(payload)
    }
}

fn authenticate(key: &NamedKey, kind: Kind, payload: &[u8], binding: &Binding) -> HMAC {
    let mut mac = HMAC::new(key.secret());
    for part in [kind.mark().as_bytes(), key.id().as_bytes(), binding.digest(), payload] {
        mac.update(length(part));
        mac.update(part);
    }
    mac
}

/// Key id, payload and MAC. One text for each envelope: the decoder takes neither padding nor stray bits.
fn parse(kind: Kind, text: &str) -> Option<(&str, Vec<u8>, [u8; 32])> {
    if text.len() > kind.most_bytes() {
        return None;
    }
    let mut parts = text.split('.');
    let (mark, key_id, payload, mac) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if mark != kind.mark() || parts.next().is_some() {
        return None;
    }
    let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
    let mac = URL_SAFE_NO_PAD.decode(mac).ok()?;
    Some((key_id, payload, mac.try_into().ok()?))
}

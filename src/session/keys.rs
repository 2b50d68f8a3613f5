//! The keys that seal, and how they are replaced.

use crate::keys::{KeyProblem, NamedKey, distinct};
use crate::units::Seconds;

/// The keys of a gateway: the first one seals, each of them opens what it sealed.
///
/// To replace a key, list the new one second everywhere, then first, and drop the old one after `max_age`.
#[derive(Clone, Debug)]
pub struct SessionKeys {
    keys: Vec<NamedKey>,
    max_age: Seconds,
}

impl SessionKeys {
    /// These keys; what they sealed opens for `max_age`. Without keys nothing is sealed and nothing opens.
    ///
    /// # Errors
    /// The place of a key whose name another one has already.
    pub fn new(keys: Vec<NamedKey>, max_age: Seconds) -> Result<Self, (usize, KeyProblem)> {
        distinct(&keys).map(|()| Self { keys, max_age })
    }

    /// How long what was sealed opens.
    pub const fn max_age(&self) -> Seconds {
        self.max_age
    }

    /// The names of the keys, the one that seals first.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = &str> {
        self.keys.iter().map(NamedKey::id)
    }

    /// All of them.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &NamedKey> {
        self.keys.iter()
    }

    /// Whether nothing can be sealed.
    pub const fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(super) fn first(&self) -> Option<&NamedKey> {
        self.keys.first()
    }

    pub(super) fn find(&self, id: &str) -> Option<&NamedKey> {
        self.keys.iter().find(|key| key.id() == id)
    }
}

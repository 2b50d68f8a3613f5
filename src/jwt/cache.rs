//! Tokens that were verified already: a client sends the same one with every request.

use std::fmt;
use std::rc::Rc;

use lru::LruCache;

use super::{KeyRing, VerifiedToken};
use crate::limits;
use crate::units::UnixSeconds;

/// Who bears the most recently used verified tokens, bounded in number and in bytes.
///
/// It belongs to one key ring and one list of issuers: a new policy needs a new cache.
pub struct TokenCache<T> {
    tokens: LruCache<Box<str>, Entry<T>>,
    bytes: usize,
}

struct Entry<T> {
    bearer: Rc<T>,
    generation: u64,
}

impl<T: AsRef<VerifiedToken>> TokenCache<T> {
    /// An empty cache.
    pub fn new() -> Self {
        Self { tokens: LruCache::unbounded(), bytes: 0 }
    }

    /// Who bears the token, if it would be verified again with the same keys now.
    pub fn get(&mut self, token: &str, keys: &KeyRing, now: UnixSeconds) -> Option<Rc<T>> {
        let entry = self.tokens.get(token)?;
        let verified = (*entry.bearer).as_ref();
        let issuer = verified.issuer_index();
        let is_valid = verified.check_times(now).is_ok()
            && entry.generation == keys.generation(issuer)
            && keys.has_usable_keys(issuer, now);
        if is_valid {
            return Some(Rc::clone(&entry.bearer));
        }
        if let Some((token, entry)) = self.tokens.pop_entry(token) {
            self.bytes = self.bytes.saturating_sub(size(&token, &entry));
        }
        None
    }

    /// Remembers that `token` was verified with the keys as they are, and forgets what was not used for longest.
    pub fn insert(&mut self, token: &str, bearer: Rc<T>, keys: &KeyRing) {
        let generation = keys.generation((*bearer).as_ref().issuer_index());
        let entry = Entry { bearer, generation };
        self.bytes = self.bytes.saturating_add(size(token, &entry));
        if let Some((token, replaced)) = self.tokens.push(token.into(), entry) {
            self.bytes = self.bytes.saturating_sub(size(&token, &replaced));
        }
        while self.tokens.len() > limits::MAX_CACHED_TOKENS || self.bytes > limits::MAX_CACHED_TOKEN_BYTES {
            let Some((token, entry)) = self.tokens.pop_lru() else { return };
            self.bytes = self.bytes.saturating_sub(size(&token, &entry));
        }
    }

    /// How many tokens are remembered.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether no token is remembered.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }
}

impl<T: AsRef<VerifiedToken>> Default for TokenCache<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for TokenCache<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TokenCache").field("len", &self.tokens.len()).field("bytes", &self.bytes).finish()
    }
}

/// What an entry holds: the token, the claims as text and in parts, and what records and the headers for the upstream say
/// of them, which is rendered once. Each of these is about as long as the claims at most.
fn size<T: AsRef<VerifiedToken>>(token: &str, entry: &Entry<T>) -> usize {
    token.len().saturating_add((*entry.bearer).as_ref().claims().len().saturating_mul(4))
}

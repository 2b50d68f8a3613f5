//! Tokens that were verified already: a client sends the same one with every request.
//!
//! A token is looked up by a keyed hash of its last characters, which are those of its signature, and is believed only
//! if the whole text is the one that was verified. So a collision costs a signature check, and never lets anybody in.
//! The hash has a constant cost, and its key is drawn at random for each cache: nobody can choose tokens that fall on
//! the same place, and only who has nearly the whole signature gets as far as the comparison.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;

use lru::LruCache;

use super::{KeyRing, VerifiedToken};
use crate::limits;
use crate::units::UnixSeconds;

/// Who bears the most recently used verified tokens, bounded in number and in bytes.
///
/// It belongs to one key ring and one list of issuers: a new policy needs a new cache.
pub struct TokenCache<T> {
    tokens: LruCache<u64, Entry<T>>,
    hasher: RandomState,
    bytes: usize,
}

struct Entry<T> {
    token: Box<str>,
    bearer: Rc<T>,
    generation: u64,
}

impl<T: AsRef<VerifiedToken>> TokenCache<T> {
    /// An empty cache.
    pub fn new() -> Self {
        Self { tokens: LruCache::unbounded(), hasher: RandomState::new(), bytes: 0 }
    }

    /// Who bears the token, if it would be verified again with the same keys now.
    pub fn get(&mut self, token: &str, keys: &KeyRing, now: UnixSeconds) -> Option<Rc<T>> {
        let place = self.place(token);
        let entry = self.tokens.get(&place).filter(|entry| is_same(&entry.token, token))?;
        if entry.is_valid(keys, now) {
            return Some(Rc::clone(&entry.bearer));
        }
        if let Some(entry) = self.tokens.pop(&place) {
            self.bytes = self.bytes.saturating_sub(size(&entry));
        }
        None
    }

    /// Remembers that `token` was verified with the keys as they are, and forgets what was not used for longest.
    pub fn insert(&mut self, token: &str, bearer: Rc<T>, keys: &KeyRing) {
        let generation = keys.generation((*bearer).as_ref().issuer_index());
        let entry = Entry { token: token.into(), bearer, generation };
        self.bytes = self.bytes.saturating_add(size(&entry));
        if let Some(replaced) = self.tokens.put(self.place(token), entry) {
            self.bytes = self.bytes.saturating_sub(size(&replaced));
        }
        while self.tokens.len() > limits::MAX_CACHED_TOKENS || self.bytes > limits::MAX_CACHED_TOKEN_BYTES {
            let Some((_, entry)) = self.tokens.pop_lru() else { break };
            self.bytes = self.bytes.saturating_sub(size(&entry));
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

    /// Where a token is kept.
    fn place(&self, token: &str) -> u64 {
        let (_, tail) = token.as_bytes().split_at(token.len().saturating_sub(HASHED_BYTES));
        self.hasher.hash_one(tail)
    }
}

/// Whether two texts are the same. In WebAssembly slices are compared byte by byte, arrays are not.
fn is_same(one: &str, other: &str) -> bool {
    let ((one, one_rest), (other, other_rest)) = (one.as_bytes().as_chunks::<16>(), other.as_bytes().as_chunks::<16>());
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| one == other) && one_rest == other_rest
}

/// So many characters of a signature are hashed: 384 bits of it, more than anybody guesses.
const HASHED_BYTES: usize = 64;

impl<T: AsRef<VerifiedToken>> Entry<T> {
    /// Whether the token would be verified again with the same keys now: it has not expired, and its issuer's keys are
    /// the ones that it was verified with, and not too old.
    fn is_valid(&self, keys: &KeyRing, now: UnixSeconds) -> bool {
        let verified = (*self.bearer).as_ref();
        let issuer = verified.issuer_index();
        verified.check_times(now).is_ok()
            && self.generation == keys.generation(issuer)
            && keys.has_usable_keys(issuer, now)
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

/// What an entry takes at most, nearly: the token, the claims as text, in parts and as records and headers for the upstream
/// say them, and what holds these together.
fn size<T: AsRef<VerifiedToken>>(entry: &Entry<T>) -> usize {
    let claims = (*entry.bearer).as_ref().claims().len();
    let fixed = size_of::<Entry<T>>().saturating_add(size_of::<T>()).saturating_add(PLACE_BYTES);
    entry.token.len().saturating_add(claims.saturating_mul(4)).saturating_add(fixed)
}

/// A place in the table and in the order of use, with what the allocator adds.
const PLACE_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_that_differ_anywhere_are_not_the_same() {
        for length in 0..70 {
            let text = "a".repeat(length);
            assert!(is_same(&text, &text));
            assert!(!is_same(&text, &format!("{text}a")) && !is_same(&format!("{text}a"), &text));
            for at in 0..length {
                let mut other = text.clone();
                other.replace_range(at..=at, "b");
                assert!(!is_same(&text, &other) && !is_same(&other, &text), "{length} {at}");
            }
        }
    }

    proptest! {
        #[test]
        fn texts_are_the_same_as_rust_says(one in "[ab]{0,40}", other in "[ab]{0,40}") {
            prop_assert_eq!(is_same(&one, &other), one == other);
        }
    }
}

//! The keys of all issuers as a value: which there are, how old they are, and when to fetch them.
//!
//! Keys rotate and issuers fail. So they are [`Polled`]; and an unknown `kid` asks for a fetch ahead of time, but as
//! anybody can make one up, only once per [`limits::UNKNOWN_KID_COOLDOWN`].

use super::{Algorithm, KeySet, VerificationKey};
use crate::limits;
use crate::polled::{Polled, has_passed};
use crate::units::{Seconds, UnixSeconds};

/// The place of an issuer in the list of trusted ones, and of its keys in the key ring.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct IssuerIndex(usize);

impl IssuerIndex {
    /// The issuer at `position`.
    pub const fn new(position: usize) -> Self {
        Self(position)
    }

    /// The position.
    pub const fn get(self) -> usize {
        self.0
    }
}

/// Where the keys of an issuer come from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum KeySource {
    /// From the issuer, over the network.
    Fetched {
        /// How old keys may be before they are fetched again.
        refresh: Seconds,
        /// How old keys may be before they are no longer used.
        max_stale: Seconds,
    },
    /// From the policy; they never change.
    Inline(KeySet),
}

/// The keys of all issuers.
#[derive(Clone, Debug)]
pub struct KeyRing {
    issuers: Vec<IssuerKeys>,
}

#[derive(Clone, Debug)]
enum IssuerKeys {
    Fetched(FetchedKeys),
    Inline(KeySet),
}

#[derive(Clone, Debug)]
struct FetchedKeys {
    polled: Polled<KeySet>,
    generation: u64,
    /// The last time that an unknown `kid` caused a fetch.
    unknown_key_at: Option<UnixSeconds>,
    /// That fetch has not been started yet.
    unknown_key_pending: bool,
}

/// What the key ring has for a token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum KeyLookup<'a> {
    /// The token has no `kid`, and several keys fit.
    Ambiguous,
    /// The keys that may have signed the token, at least one.
    Found(Vec<&'a VerificationKey>),
    /// There are no keys of this issuer, or none that are fresh enough to be used.
    NoKeys,
    /// The key with this `kid` is for another algorithm.
    OtherAlgorithm,
    /// The issuer has no such key.
    UnknownKey,
}

impl KeyRing {
    /// A key ring for the issuers in this order.
    pub fn new(sources: impl IntoIterator<Item = KeySource>) -> Self {
        let issuers = sources.into_iter().map(|source| match source {
            KeySource::Inline(keys) => IssuerKeys::Inline(keys),
            KeySource::Fetched { refresh, max_stale } => IssuerKeys::Fetched(FetchedKeys {
                polled: Polled::new(refresh, max_stale),
                generation: 0,
                unknown_key_at: None,
                unknown_key_pending: false,
            }),
        });
        Self { issuers: issuers.collect() }
    }

    /// The issuers whose keys should be fetched now.
    pub fn due(&self, now: UnixSeconds) -> Vec<IssuerIndex> {
        let is_due = |issuer: &IssuerKeys| match issuer {
            IssuerKeys::Fetched(keys) => keys.is_due(now),
            IssuerKeys::Inline(_) => false,
        };
        let positions = self.issuers.iter().enumerate().filter(|(_, issuer)| is_due(issuer));
        positions.map(|(position, _)| IssuerIndex(position)).collect()
    }

    /// Whether a request that lacks keys may wait for them: a fetch is under way, or about to start.
    pub fn is_fetch_coming(&self, issuer: IssuerIndex, now: UnixSeconds) -> bool {
        self.fetched(issuer).is_some_and(|keys| keys.polled.is_in_flight(now) || keys.is_due(now))
    }

    /// Takes note that a fetch is under way.
    pub fn fetch_started(&mut self, issuer: IssuerIndex, now: UnixSeconds) {
        if let Some(keys) = self.fetched_mut(issuer) {
            keys.polled.started(now);
            keys.unknown_key_pending = false;
        }
    }

    /// Takes note that a fetch failed, and waits longer each time.
    pub fn fetch_failed(&mut self, issuer: IssuerIndex, now: UnixSeconds) {
        if let Some(keys) = self.fetched_mut(issuer) {
            keys.polled.failed(now);
        }
    }

    /// Replaces the keys of an issuer by those fetched at `fetched_at`; returns whether they differ from those before.
    ///
    /// A set without a usable key is a failed fetch: an issuer that rotates publishes the new keys first.
    pub fn install(&mut self, issuer: IssuerIndex, keys: KeySet, fetched_at: UnixSeconds) -> bool {
        let Some(entry) = self.fetched_mut(issuer) else { return false };
        if keys.keys().is_empty() {
            entry.polled.failed(fetched_at);
            return false;
        }
        let changed = entry.polled.latest().is_none_or(|current| current.keys() != keys.keys());
        if changed {
            entry.generation = entry.generation.wrapping_add(1);
        }
        entry.polled.replace(keys, fetched_at);
        changed
    }

    /// Finds the keys that may have signed a token with this header.
    ///
    /// A token without `kid` is accepted only where there is no choice.
    pub fn lookup(
        &self,
        issuer: IssuerIndex,
        key_id: Option<&str>,
        algorithm: Algorithm,
        now: UnixSeconds,
    ) -> KeyLookup<'_> {
        let Some(keys) = self.usable(issuer, now) else { return KeyLookup::NoKeys };
        let named: Vec<_> = match key_id {
            Some(_) => keys.keys().iter().filter(|key| key.key_id() == key_id).collect(),
            None => keys.keys().iter().collect(),
        };
        let fitting: Vec<_> = named.iter().copied().filter(|key| key.is_for(algorithm)).collect();
        match (key_id, fitting.len()) {
            (Some(_), 0) if !named.is_empty() => KeyLookup::OtherAlgorithm,
            (_, 0) => KeyLookup::UnknownKey,
            (None, 2..) => KeyLookup::Ambiguous,
            (None | Some(_), _) => KeyLookup::Found(fitting),
        }
    }

    /// Asks for a fetch because a token has a `kid` that the issuer's keys do not have.
    ///
    /// Returns whether a fetch is coming that the request may wait for. Otherwise the token is refused now.
    pub fn want_unknown_key(&mut self, issuer: IssuerIndex, now: UnixSeconds) -> bool {
        let Some(keys) = self.fetched_mut(issuer) else { return false };
        if keys.polled.is_in_flight(now) || keys.is_due(now) {
            return true;
        }
        let is_cooling_down = keys.unknown_key_at.is_some_and(|at| !has_passed(at, limits::UNKNOWN_KID_COOLDOWN, now));
        if is_cooling_down || keys.polled.is_backing_off(now) {
            return false;
        }
        keys.unknown_key_at = Some(now);
        keys.unknown_key_pending = true;
        true
    }

    /// Whether nothing but an unknown `kid` asks for a fetch.
    pub fn is_due_for_unknown_key(&self, issuer: IssuerIndex, now: UnixSeconds) -> bool {
        self.fetched(issuer).is_some_and(|keys| keys.unknown_key_pending && !keys.polled.is_wanted(now))
    }

    /// Takes note that somebody else has fetched for an unknown `kid` just now, in vain.
    pub fn give_up_unknown_key(&mut self, issuer: IssuerIndex) {
        if let Some(keys) = self.fetched_mut(issuer) {
            keys.unknown_key_pending = false;
        }
    }

    /// Whether keys of this issuer can be used now. What they verified must not be used longer than they are.
    pub fn has_usable_keys(&self, issuer: IssuerIndex, now: UnixSeconds) -> bool {
        self.usable(issuer, now).is_some()
    }

    /// How long one fetch of this issuer's keys may take.
    pub fn fetch_timeout(&self, issuer: IssuerIndex) -> Option<Seconds> {
        self.fetched(issuer).map(|keys| keys.polled.timeout())
    }

    /// How long ago the keys of this issuer were fetched; nothing for keys that were not.
    pub fn age(&self, issuer: IssuerIndex, now: UnixSeconds) -> Option<Seconds> {
        self.fetched(issuer)?.polled.age(now)
    }

    /// A number that changes whenever the keys of this issuer do.
    pub fn generation(&self, issuer: IssuerIndex) -> u64 {
        self.fetched(issuer).map_or(0, |keys| keys.generation)
    }

    fn usable(&self, issuer: IssuerIndex, now: UnixSeconds) -> Option<&KeySet> {
        match self.issuers.get(issuer.0)? {
            IssuerKeys::Fetched(keys) => keys.polled.usable(now),
            IssuerKeys::Inline(keys) => Some(keys),
        }
    }

    fn fetched(&self, issuer: IssuerIndex) -> Option<&FetchedKeys> {
        match self.issuers.get(issuer.0)? {
            IssuerKeys::Fetched(keys) => Some(keys),
            IssuerKeys::Inline(_) => None,
        }
    }

    fn fetched_mut(&mut self, issuer: IssuerIndex) -> Option<&mut FetchedKeys> {
        match self.issuers.get_mut(issuer.0)? {
            IssuerKeys::Fetched(keys) => Some(keys),
            IssuerKeys::Inline(_) => None,
        }
    }
}

impl FetchedKeys {
    fn is_due(&self, now: UnixSeconds) -> bool {
        (self.polled.is_wanted(now) || self.unknown_key_pending) && self.polled.is_free(now)
    }
}

#[cfg(test)]
mod tests;

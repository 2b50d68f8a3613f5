//! A document that is fetched again and again, as a value: the last good one, its age, and when to fetch the next.
//!
//! Servers fail. So: the document is fetched again at an interval; the last good one serves while there is no newer one,
//! but not longer than `max_stale`; after a failure the next attempt waits, longer each time, but never longer than the
//! interval, so that a server that is back is found in time.

use crate::limits;
use crate::units::{Seconds, UnixSeconds};

/// The last good version of a document, and the state of its fetches.
#[derive(Clone, Debug)]
pub struct Polled<T> {
    refresh: Seconds,
    max_stale: Seconds,
    current: Option<Fetched<T>>,
    attempt: Attempt,
}

#[derive(Clone, Debug)]
struct Fetched<T> {
    document: T,
    at: UnixSeconds,
}

/// What became of the last attempt.
#[derive(Clone, Copy, Debug)]
enum Attempt {
    /// It succeeded, or there was none.
    Idle,
    InFlight {
        since: UnixSeconds,
        /// The wait that failed attempts before this one have led to.
        backoff: Option<Seconds>,
    },
    Failed {
        at: UnixSeconds,
        backoff: Seconds,
    },
}

impl<T> Polled<T> {
    /// Nothing yet. `refresh`: how old a document may be before it is fetched again. `max_stale`: how old before it is
    /// no longer used.
    pub const fn new(refresh: Seconds, max_stale: Seconds) -> Self {
        Self { refresh, max_stale, current: None, attempt: Attempt::Idle }
    }

    /// The last good document, however old.
    pub fn latest(&self) -> Option<&T> {
        self.current.as_ref().map(|current| &current.document)
    }

    /// The last good document, if it is not too old to be used.
    pub fn usable(&self, now: UnixSeconds) -> Option<&T> {
        self.current.as_ref().filter(|current| now.since(current.at) <= self.max_stale).map(|current| &current.document)
    }

    /// When the last good document was fetched.
    pub fn fetched_at(&self) -> Option<UnixSeconds> {
        self.current.as_ref().map(|current| current.at)
    }

    /// How long ago the last good document was fetched.
    pub fn age(&self, now: UnixSeconds) -> Option<Seconds> {
        self.fetched_at().map(|at| now.since(at))
    }

    /// How long one fetch may take. Not longer than the interval, or the next one would come late.
    pub fn timeout(&self) -> Seconds {
        limits::FETCH_TIMEOUT.min(self.interval())
    }

    /// Whether the document should be fetched now.
    pub fn is_due(&self, now: UnixSeconds) -> bool {
        self.is_wanted(now) && self.is_free(now)
    }

    /// Whether the age of the document, or a failure before, asks for a fetch.
    pub fn is_wanted(&self, now: UnixSeconds) -> bool {
        let is_retry = !matches!(self.attempt, Attempt::Idle);
        is_retry || self.current.as_ref().is_none_or(|current| has_passed(current.at, self.interval(), now))
    }

    /// Whether a fetch may be started now: none is under way, and the wait after a failure is over.
    pub fn is_free(&self, now: UnixSeconds) -> bool {
        !self.is_in_flight(now) && !self.is_backing_off(now)
    }

    /// Whether a fetch is under way. One of which nothing was heard for twice its timeout is lost.
    pub fn is_in_flight(&self, now: UnixSeconds) -> bool {
        match self.attempt {
            Attempt::InFlight { since, .. } => {
                let lost_after = Seconds::new(self.timeout().get().saturating_mul(2));
                !has_passed(since, lost_after, now)
            }
            Attempt::Idle | Attempt::Failed { .. } => false,
        }
    }

    /// Whether the wait after a failure is not over.
    pub fn is_backing_off(&self, now: UnixSeconds) -> bool {
        match self.attempt {
            Attempt::Failed { at, backoff } => !has_passed(at, backoff, now),
            Attempt::Idle | Attempt::InFlight { .. } => false,
        }
    }

    /// Whether something that lacks the document may wait for it: a fetch is under way, or about to start.
    pub fn is_coming(&self, now: UnixSeconds) -> bool {
        self.is_in_flight(now) || self.is_due(now)
    }

    /// Whether the last attempt that ended has failed.
    pub const fn is_failing(&self) -> bool {
        matches!(self.attempt, Attempt::Failed { .. } | Attempt::InFlight { backoff: Some(_), .. })
    }

    /// Takes note that a fetch is under way.
    pub fn started(&mut self, now: UnixSeconds) {
        self.attempt = Attempt::InFlight { since: now, backoff: self.backoff() };
    }

    /// Takes note that a fetch failed.
    pub fn failed(&mut self, now: UnixSeconds) {
        let doubled = self.backoff().map(|backoff| Seconds::new(backoff.get().saturating_mul(2)));
        let longest = limits::FETCH_RETRY_MAX.min(self.interval());
        self.attempt = Attempt::Failed { at: now, backoff: doubled.unwrap_or(limits::FETCH_RETRY_MIN).min(longest) };
    }

    /// Replaces the document by one that was fetched at `at`.
    pub fn replace(&mut self, document: T, at: UnixSeconds) {
        self.current = Some(Fetched { document, at });
        self.attempt = Attempt::Idle;
    }

    /// Takes note that at `at` the document was still the newest; `false` if there is none.
    pub fn confirm(&mut self, at: UnixSeconds) -> bool {
        let Some(current) = &mut self.current else { return false };
        current.at = at;
        self.attempt = Attempt::Idle;
        true
    }

    /// A document that could not be used any more before the next fetch is fetched sooner.
    fn interval(&self) -> Seconds {
        self.refresh.min(self.max_stale)
    }

    const fn backoff(&self) -> Option<Seconds> {
        match self.attempt {
            Attempt::Idle => None,
            Attempt::InFlight { backoff, .. } => backoff,
            Attempt::Failed { backoff, .. } => Some(backoff),
        }
    }
}

/// Whether `span` has passed since `start`. So it has when the clock was set back before `start`: better a fetch too
/// many than none until the clock has caught up.
pub fn has_passed(start: UnixSeconds, span: Seconds, now: UnixSeconds) -> bool {
    now < start || now >= start.plus(span)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFRESH: Seconds = Seconds::new(4);
    const MAX_STALE: Seconds = Seconds::new(20);

    fn at(seconds: u64) -> UnixSeconds {
        UnixSeconds::new(1_800_000_000_u64.saturating_add(seconds))
    }

    /// Something that was fetched at second zero.
    fn fetched() -> Polled<u8> {
        let mut polled = Polled::new(REFRESH, MAX_STALE);
        polled.started(at(0));
        polled.replace(1, at(0));
        polled
    }

    #[test]
    fn it_is_due_at_once_and_then_at_the_interval() {
        let mut polled = Polled::<u8>::new(REFRESH, MAX_STALE);
        assert!(polled.is_due(at(0)) && polled.is_coming(at(0)) && polled.usable(at(0)).is_none());
        polled.started(at(0));
        assert!(!polled.is_due(at(0)) && polled.is_coming(at(0)));
        polled.replace(1, at(0));
        assert!(!polled.is_due(at(3)) && !polled.is_coming(at(3)) && polled.is_due(at(4)));
    }

    #[test]
    fn what_is_confirmed_is_as_young_as_what_is_new() {
        let mut polled = fetched();
        polled.started(at(4));
        assert!(polled.confirm(at(4)));
        assert_eq!((polled.age(at(6)), polled.latest()), (Some(Seconds::new(2)), Some(&1)));
        assert!(!polled.is_due(at(7)) && polled.is_due(at(8)));
        assert!(!Polled::<u8>::new(REFRESH, MAX_STALE).confirm(at(0)), "there is nothing to confirm");
    }

    #[test]
    fn the_last_good_one_serves_until_it_is_too_old_and_is_still_there_to_be_confirmed() {
        let mut polled = fetched();
        polled.failed(at(5));
        assert!(polled.is_failing() && polled.usable(at(20)).is_some() && polled.usable(at(21)).is_none());
        assert_eq!(polled.latest(), Some(&1));
        assert!(polled.confirm(at(30)) && polled.usable(at(30)).is_some() && !polled.is_failing());
    }

    #[test]
    fn attempts_get_rarer_but_never_rarer_than_the_interval() {
        let mut polled = fetched();
        for (failed, next) in [(10, 11), (11, 13), (13, 17), (17, 21), (21, 25)] {
            polled.started(at(failed));
            polled.failed(at(failed));
            assert!(!polled.is_due(at(next - 1)) && polled.is_due(at(next)), "{failed}");
        }
    }

    #[test]
    fn one_fetch_ends_before_the_next_is_due() {
        assert_eq!(fetched().timeout(), REFRESH);
        assert_eq!(Polled::<u8>::new(Seconds::new(60), MAX_STALE).timeout(), limits::FETCH_TIMEOUT);
        let mut polled = fetched();
        polled.started(at(4));
        assert!(!polled.is_due(at(11)) && polled.is_due(at(12)), "lost");
    }
}

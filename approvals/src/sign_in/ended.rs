//! Sessions that were ended by signing out. A cookie that was copied before is of no use after.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::domain::UnixSeconds;

/// Sessions remembered; beyond that, those that would end first are forgotten.
const MAX_ENDED: usize = 10_000;

/// Ended sessions, by id, with the time until which they would have lasted. In this process only: after a restart, or
/// in another process, whoever has copied a cookie can use it until the session would have ended.
#[derive(Debug, Default)]
pub(super) struct Ended(Mutex<BTreeMap<String, UnixSeconds>>);

impl Ended {
    /// Takes note that a session has ended, which would have lasted until then.
    pub(super) fn insert(&self, id: &str, until: UnixSeconds, now: UnixSeconds) {
        let mut ended = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ended.retain(|_, until| *until > now);
        if ended.len() >= MAX_ENDED {
            let first = ended.iter().min_by_key(|(_, until)| **until).map(|(id, _)| id.clone());
            first.and_then(|first| ended.remove(&first));
        }
        ended.insert(id.to_owned(), until);
    }

    /// Whether the session has ended.
    pub(super) fn contains(&self, id: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ended_sessions_are_kept_while_they_could_matter() {
        let ended = Ended::default();
        ended.insert("a", 100, 0);
        assert!(ended.contains("a") && !ended.contains("b"));
        ended.insert("b", 300, 200);
        assert!(!ended.contains("a") && ended.contains("b"));
        for number in 0..MAX_ENDED {
            ended.insert(&number.to_string(), 400, 200);
        }
        assert!(!ended.contains("b") && ended.contains("9999"));
    }
}

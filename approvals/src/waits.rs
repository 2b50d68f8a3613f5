//! Who waits for which approval.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::connections::MAX_GATEWAYS;

/// Requests that can wait at the same time: half of all connections, so that people and consumptions find one. Those
/// beyond are answered at once, with what is known.
const MAX_WAITS: usize = 4096;
const _: () = assert!(MAX_WAITS <= MAX_GATEWAYS / 2, "waits must leave connections to others");

type Map = BTreeMap<String, (watch::Sender<u64>, usize)>;

/// Who waits for which approval.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waits {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    by_id: Map,
    count: usize,
}

/// One that waits. When it goes, nothing is left of it.
#[derive(Debug)]
pub(crate) struct Wait {
    waits: Waits,
    id: String,
    changed: watch::Receiver<u64>,
}

impl Waits {
    /// Nobody panics while holding it; if somebody did, the map would still be whole.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a change from now on; `None` when too many do.
    pub(crate) fn join(&self, id: &str) -> Option<Wait> {
        let mut inner = self.lock();
        if inner.count >= MAX_WAITS {
            return None;
        }
        inner.count = inner.count.saturating_add(1);
        let (sender, count) = inner.by_id.entry(id.to_owned()).or_insert_with(|| (watch::Sender::new(0), 0));
        *count = count.saturating_add(1);
        let changed = sender.subscribe();
        Some(Wait { waits: self.clone(), id: id.to_owned(), changed })
    }

    /// Wakes all that wait for an approval.
    pub(crate) fn wake(&self, id: &str) {
        if let Some((sender, _)) = self.lock().by_id.get(id) {
            sender.send_modify(|count| *count = count.wrapping_add(1));
        }
    }
}

impl Wait {
    /// Returns when the approval has changed since the last time.
    pub(crate) async fn changed(&mut self) {
        // The sender lives as long as this does.
        let _ = self.changed.changed().await;
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let mut inner = self.waits.lock();
        inner.count = inner.count.saturating_sub(1);
        let Some((_, count)) = inner.by_id.get_mut(&self.id) else { return };
        *count = count.saturating_sub(1);
        if *count == 0 {
            inner.by_id.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_of_those_that_have_gone() {
        let waits = Waits::default();
        let (one, two) = (waits.join("a").unwrap(), waits.join("a").unwrap());
        let left = || {
            let inner = waits.lock();
            (inner.count, inner.by_id.len())
        };
        drop(one);
        assert_eq!(left(), (1, 1));
        drop(two);
        assert_eq!(left(), (0, 0));
    }

    #[test]
    fn there_is_a_bound() {
        let waits = Waits::default();
        let all: Vec<_> = (0..MAX_WAITS).map(|_| waits.join("a").unwrap()).collect();
        assert!(waits.join("b").is_none());
        drop(all);
        assert!(waits.join("b").is_some());
    }
}

//! Metrics on Envoy's stats page, where their names start with `wasmcustom.`.
//!
//! Names come from the code, never from a request, so their number is bounded.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::abi::{self, MetricKind};
use crate::exchange::Verdict;

thread_local! {
    /// Ids by name. The host forgets no metric while the virtual machine lives.
    static IDS: RefCell<BTreeMap<String, u32>> = const { RefCell::new(BTreeMap::new()) };
    /// Ids by verdict and reason: every request counts one of these, and should not have to put a name together for it.
    static DECISIONS: RefCell<BTreeMap<(&'static str, &'static str), u32>> = const { RefCell::new(BTreeMap::new()) };
}

/// Counts a decision.
pub(super) fn count_decision(verdict: Verdict, reason: &'static str) {
    let key = (verdict.name(), reason);
    let known = DECISIONS.with(|ids| ids.try_borrow().ok()?.get(&key).copied());
    let id = known.or_else(|| {
        let id = id(MetricKind::Counter, &format!("toolgate.decisions.{}.{reason}", verdict.name()))?;
        DECISIONS.with(|ids| ids.try_borrow_mut().ok()?.insert(key, id));
        Some(id)
    });
    if let Some(id) = id {
        let _ = abi::increment_metric(id, 1);
    }
}

/// Adds one to a counter.
pub(super) fn count(name: &str) {
    add(name, 1);
}

/// Adds to a counter. A metric that the host does not take is lost: no request fails for it.
pub(super) fn add(name: &str, amount: i64) {
    if let Some(id) = id(MetricKind::Counter, name) {
        let _ = abi::increment_metric(id, amount);
    }
}

/// Sets a gauge.
pub(super) fn set(name: &str, value: u64) {
    if let Some(id) = id(MetricKind::Gauge, name) {
        let _ = abi::record_metric(id, value);
    }
}

/// Changes a gauge, which several workers may do.
pub(super) fn adjust(name: &str, change: i64) {
    if change != 0
        && let Some(id) = id(MetricKind::Gauge, name)
    {
        let _ = abi::increment_metric(id, change);
    }
}

fn id(kind: MetricKind, name: &str) -> Option<u32> {
    IDS.with(|ids| {
        let mut ids = ids.try_borrow_mut().ok()?;
        if let Some(id) = ids.get(name) {
            return Some(*id);
        }
        let id = abi::define_metric(kind, name).ok()?;
        ids.insert(name.to_owned(), id);
        Some(id)
    })
}

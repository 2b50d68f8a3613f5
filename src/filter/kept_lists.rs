//! Revocation lists that outlive the policy under which they were fetched, so that a new policy refuses nobody while it
//! fetches its own.
//!
//! A policy takes everything with it when another one comes. The virtual machine stays, and with it what is kept here.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::config::Endpoint;
use crate::identity::FetchedList;
use crate::limits;
use crate::units::UnixSeconds;

thread_local! {
    static KEPT: RefCell<BTreeMap<Endpoint, (FetchedList, UnixSeconds)>> = const { RefCell::new(BTreeMap::new()) };
}

/// Keeps a list that was fetched at `at`. When there are too many, the one that was not fetched for longest goes.
pub(super) fn keep(endpoint: &Endpoint, list: FetchedList, at: UnixSeconds) {
    KEPT.with(|kept| {
        let Ok(mut kept) = kept.try_borrow_mut() else { return };
        kept.insert(endpoint.clone(), (list, at));
        if kept.len() > limits::MAX_KEPT_LISTS {
            let oldest = kept.iter().min_by_key(|(_, (_, at))| *at).map(|(endpoint, _)| endpoint.clone());
            oldest.and_then(|oldest| kept.remove(&oldest));
        }
    });
}

/// The list that was fetched last from there, and when.
pub(super) fn kept(endpoint: &Endpoint) -> Option<(FetchedList, UnixSeconds)> {
    KEPT.with(|kept| kept.try_borrow().ok()?.get(endpoint).cloned())
}

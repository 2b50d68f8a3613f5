//! What the root and the requests of one configuration share within a worker.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Weak;

use super::abi::{self, HostError};
use super::stream::Request;
use super::verifier::Verifier;
use crate::config::CompiledPolicy;
use crate::exchange::{DecisionId, Surroundings};
use crate::identity::{Definitions, Principal};
use crate::jwt::{IssuerIndex, KeyRing, TokenCache};
use crate::limits;
use crate::units::UnixSeconds;

/// How soon the root looks after a request that waits for keys.
const CALL_ROOT_MS: u32 = 1;

/// A policy in force, with what the worker has learnt under it.
pub(super) struct Gateway {
    pub(super) policy: CompiledPolicy,
    pub(super) verifier: Verifier,
    state: RefCell<State>,
    waiting: RefCell<BTreeMap<u32, Waiting>>,
    /// Answers that go on, by the time to look after them.
    watched: RefCell<BTreeMap<(UnixSeconds, u32), Weak<RefCell<Request>>>>,
    /// The root has been asked to look after the waiting requests soon. Asking again would only put it off.
    root_is_called: Cell<bool>,
    /// What the operator was told. Clients can cause it at will, and need not fill the log.
    told: RefCell<BTreeSet<&'static str>>,
    ids: Ids,
}

struct State {
    keys: KeyRing,
    tokens: TokenCache<Principal>,
    definitions: Definitions,
}

/// A request that waits for the keys of an issuer.
struct Waiting {
    issuer: IssuerIndex,
    request: Weak<RefCell<Request>>,
}

/// Decision ids: random for the worker, then counted, so that one random draw serves them all.
struct Ids {
    worker: u64,
    next: Cell<u64>,
}

impl Gateway {
    pub(super) fn new(policy: CompiledPolicy) -> Self {
        let sources = policy.key_sources.iter().map(|(source, _)| source.clone());
        let state = State {
            keys: KeyRing::new(sources),
            tokens: TokenCache::new(),
            definitions: policy.directory.pinned_definitions(),
        };
        Self {
            verifier: Verifier::tested(),
            state: RefCell::new(state),
            waiting: RefCell::default(),
            watched: RefCell::default(),
            root_is_called: Cell::new(false),
            told: RefCell::default(),
            // Ids that repeat after a restart are better than no service: nothing is decided by them.
            ids: Ids { worker: abi::random().unwrap_or_default(), next: Cell::new(0) },
            policy,
        }
    }

    /// An id for the next exchange.
    pub(super) fn next_decision(&self) -> DecisionId {
        let next = self.ids.next.get();
        self.ids.next.set(next.wrapping_add(1));
        DecisionId::new(u128::from(self.ids.worker) << 64 | u128::from(next))
    }

    /// Runs `work` with the state that decisions depend on; `None` when it is in use, which a callback of the host
    /// inside of another would cause.
    pub(super) fn with_surroundings<R>(
        &self,
        now: UnixSeconds,
        work: impl FnOnce(&mut Surroundings<'_>) -> R,
    ) -> Option<R> {
        let mut state = self.state.try_borrow_mut().ok()?;
        let State { keys, tokens, definitions } = &mut *state;
        let (policy, verifier) = (&self.policy, &self.verifier);
        Some(work(&mut Surroundings { policy, keys, tokens, definitions, revoked: None, verifier, now }))
    }

    /// Runs `work` with the key ring.
    pub(super) fn with_keys<R>(&self, work: impl FnOnce(&mut KeyRing) -> R) -> Option<R> {
        let mut state = self.state.try_borrow_mut().ok()?;
        Some(work(&mut state.keys))
    }

    /// Notes that a request waits for keys; `false` when too many do.
    pub(super) fn wait_for_keys(&self, issuer: IssuerIndex, context_id: u32, request: Weak<RefCell<Request>>) -> bool {
        let Ok(mut waiting) = self.waiting.try_borrow_mut() else { return false };
        if waiting.len() >= limits::MAX_WAITING_REQUESTS {
            return false;
        }
        waiting.insert(context_id, Waiting { issuer, request });
        true
    }

    /// Makes the root look after the waiting requests soon.
    pub(super) fn call_root(&self) -> Result<(), HostError> {
        if self.root_is_called.replace(true) {
            return Ok(());
        }
        abi::set_tick_period_milliseconds(CALL_ROOT_MS)
    }

    /// The root is looking.
    pub(super) fn root_came(&self) {
        self.root_is_called.set(false);
    }

    /// Whether this worker says so for the first time under this policy.
    pub(super) fn is_news(&self, reason: &'static str) -> bool {
        self.told.try_borrow_mut().is_ok_and(|mut told| told.insert(reason))
    }

    /// Forgets a request that has ended.
    pub(super) fn forget(&self, context_id: u32, watched_until: Option<UnixSeconds>) {
        if let (Some(until), Ok(mut watched)) = (watched_until, self.watched.try_borrow_mut()) {
            watched.remove(&(until, context_id));
        }
        if let Ok(mut waiting) = self.waiting.try_borrow_mut() {
            waiting.remove(&context_id);
        }
    }

    /// Notes that an answer is to be looked after when it is later than `until`; `false` when there are too many.
    pub(super) fn watch(&self, until: UnixSeconds, context_id: u32, request: Weak<RefCell<Request>>) -> bool {
        let Ok(mut watched) = self.watched.try_borrow_mut() else { return false };
        if watched.len() >= limits::MAX_STREAMS {
            return false;
        }
        watched.insert((until, context_id), request);
        true
    }

    /// Some of the answers that are to be looked after now, which are not watched any longer.
    pub(super) fn take_due(&self, now: UnixSeconds) -> Vec<Weak<RefCell<Request>>> {
        let Ok(mut watched) = self.watched.try_borrow_mut() else { return Vec::new() };
        let mut due = Vec::new();
        while due.len() < limits::MAX_WOKEN_AT_ONCE
            && let Some(first) = watched.first_entry()
            && first.key().0 < now
        {
            due.push(first.remove());
        }
        due
    }

    /// The requests that waited for this issuer, which they do no longer.
    pub(super) fn take_waiting(&self, issuer: IssuerIndex) -> impl Iterator<Item = Weak<RefCell<Request>>> + use<> {
        let all = self.waiting.try_borrow_mut().map(|mut waiting| std::mem::take(&mut *waiting)).unwrap_or_default();
        let (due, rest): (BTreeMap<u32, Waiting>, _) = all.into_iter().partition(|(_, each)| each.issuer == issuer);
        if let Ok(mut waiting) = self.waiting.try_borrow_mut() {
            *waiting = rest;
        }
        due.into_values().map(|each| each.request)
    }

    /// Whether any request waits for keys.
    pub(super) fn has_waiting(&self) -> bool {
        self.waiting.try_borrow().is_ok_and(|waiting| !waiting.is_empty())
    }
}

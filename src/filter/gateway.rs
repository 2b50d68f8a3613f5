//! What the root and the requests of one configuration share within a worker.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::{Rc, Weak};

use super::abi::{self, HostError};
use super::stream::Request;
use super::trail::Trail;
use super::verifier::Verifier;
use super::{kept_lists, metrics};
use crate::audit::Salt;
use crate::config::{CompiledPolicy, RevocationSource};
use crate::exchange::{Awaited, Circuits, DecisionId, HeldRequest, HeldRequests, Surroundings};
use crate::identity::{Definitions, PeerNeeds, Principal, RevocationFeed};
use crate::jwt::{KeyRing, KeySource, TokenCache};
use crate::limits;
use crate::units::{Seconds, UnixSeconds};

/// How soon the root looks after a request that waits.
const CALL_ROOT_MS: u32 = 1;

/// A request that may have ended meanwhile.
type RequestRef = Weak<RefCell<Request>>;

/// A policy in force, with what the worker has learnt under it.
pub(super) struct Gateway {
    pub(super) policy: CompiledPolicy,
    pub(super) verifier: Verifier,
    /// What the policy judges connections by.
    pub(super) peer_needs: PeerNeeds,
    state: RefCell<State>,
    waiting: RefCell<BTreeMap<u32, Waiting>>,
    /// Answers that go on, by the time to look after them.
    watched: RefCell<BTreeMap<(UnixSeconds, u32), RequestRef>>,
    /// The root has been asked to look after the waiting requests soon. Asking again would only put it off.
    root_is_called: Cell<bool>,
    /// What the operator was told. Clients can cause it at will, and need not fill the log.
    told: RefCell<BTreeSet<&'static str>>,
    /// Bytes of unfinished events in all streams.
    held: Cell<usize>,
    /// Calls to approval services that are under way, and the requests that they were made for.
    calls: RefCell<BTreeMap<u32, RequestRef>>,
    /// Requests that wait for approvals.
    held_requests: RefCell<HeldRequests>,
    /// Where records go.
    pub(super) trail: Rc<Trail>,
    ids: Ids,
    salts: RefCell<RandomBits>,
}

/// Random bits that were drawn and have not been used yet: a question to the host for each request would cost more.
struct RandomBits {
    drawn: [u8; 4096],
    used: usize,
}

impl RandomBits {
    const NONE: Self = Self { drawn: [0; 4096], used: 4096 };

    /// The next 128 of them; none are used twice. Zero where the host has none.
    fn next(&mut self) -> u128 {
        if self.used >= self.drawn.len() {
            if abi::fill_random(&mut self.drawn).is_err() {
                return 0;
            }
            self.used = 0;
        }
        let bits = self.drawn.get_mut(self.used..).and_then(<[u8]>::first_chunk_mut::<16>).map(std::mem::take);
        self.used = self.used.saturating_add(16);
        bits.map_or(0, u128::from_le_bytes)
    }
}

struct State {
    keys: KeyRing,
    tokens: TokenCache<Principal>,
    definitions: Definitions,
    revocations: Option<RevocationFeed>,
    circuits: Circuits,
}

/// A request that waits for a document.
struct Waiting {
    awaited: Awaited,
    request: Weak<RefCell<Request>>,
}

/// Decision ids: random for the worker, then counted, so that one random draw serves them all.
struct Ids {
    worker: u64,
    next: Cell<u64>,
}

impl Gateway {
    pub(super) fn new(policy: CompiledPolicy, trail: Rc<Trail>) -> Self {
        let state = State {
            keys: KeyRing::new(policy.key_sources.iter().map(|(source, _)| spread(source))),
            tokens: TokenCache::new(),
            definitions: policy.directory.pinned_definitions(),
            revocations: policy.revocations.as_ref().map(feed),
            circuits: Circuits::new(policy.approval.as_ref().map_or(0, |approval| approval.services.len())),
        };
        Self {
            verifier: Verifier::tested(),
            peer_needs: policy.directory.peer_needs(),
            state: RefCell::new(state),
            waiting: RefCell::default(),
            watched: RefCell::default(),
            root_is_called: Cell::new(false),
            told: RefCell::default(),
            held: Cell::new(0),
            calls: RefCell::default(),
            held_requests: RefCell::default(),
            trail,
            // Ids that repeat after a restart are better than no service: nothing is decided by them.
            ids: Ids { worker: abi::random().unwrap_or_default(), next: Cell::new(0) },
            salts: RefCell::new(RandomBits::NONE),
            policy,
        }
    }

    /// An id for the next exchange.
    pub(super) fn next_decision(&self) -> DecisionId {
        let next = self.ids.next.get();
        self.ids.next.set(next.wrapping_add(1));
        DecisionId::new(u128::from(self.ids.worker) << 64 | u128::from(next))
    }

    /// A salt for the record of the next exchange. Where there are no records, or no random bits, it is no secret.
    pub(super) fn next_salt(&self) -> Salt {
        let is_wanted = self.policy.audit.is_some();
        let bits = if is_wanted { self.salts.try_borrow_mut().map_or(0, |mut salts| salts.next()) } else { 0 };
        Salt::new(bits)
    }

    /// Runs `work` with the state that decisions depend on; `None` when it is in use, which a callback of the host
    /// inside of another would cause.
    pub(super) fn with_surroundings<R>(
        &self,
        now: UnixSeconds,
        work: impl FnOnce(&mut Surroundings<'_>) -> R,
    ) -> Option<R> {
        let mut state = self.state.try_borrow_mut().ok()?;
        let State { keys, tokens, definitions, revocations, circuits } = &mut *state;
        let (policy, verifier, revoked) = (&self.policy, &self.verifier, revocations.as_ref());
        let held = &*self.held_requests.try_borrow().ok()?;
        Some(work(&mut Surroundings { policy, keys, tokens, definitions, revoked, circuits, held, verifier, now }))
    }

    /// Runs `work` with the key ring.
    pub(super) fn with_keys<R>(&self, work: impl FnOnce(&mut KeyRing) -> R) -> Option<R> {
        let mut state = self.state.try_borrow_mut().ok()?;
        Some(work(&mut state.keys))
    }

    /// Runs `work` with the list of revocations; `None` also where the policy names none.
    pub(super) fn with_revocations<R>(&self, work: impl FnOnce(&mut RevocationFeed) -> R) -> Option<R> {
        let mut state = self.state.try_borrow_mut().ok()?;
        state.revocations.as_mut().map(work)
    }

    /// Notes that a request waits; `false` when too many do.
    pub(super) fn wait_for(&self, awaited: Awaited, context_id: u32, request: Weak<RefCell<Request>>) -> bool {
        let Ok(mut waiting) = self.waiting.try_borrow_mut() else { return false };
        if waiting.len() >= limits::MAX_WAITING_REQUESTS {
            return false;
        }
        waiting.insert(context_id, Waiting { awaited, request });
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

    /// Counts what a stream holds; returns what all of the worker's streams under this policy hold then.
    pub(super) fn hold(&self, before: usize, now: usize) -> usize {
        let all = self.held.get().saturating_sub(before).saturating_add(now);
        self.held.set(all);
        all
    }

    /// Notes which request a call was made for. The SDK reports its answer to whoever was called by the host when the call
    /// was made: the request itself, or the root that had woken it.
    pub(super) fn note_call(&self, token: u32, request: RequestRef) {
        if let Ok(mut calls) = self.calls.try_borrow_mut() {
            calls.insert(token, request);
        }
    }

    /// The request that a call was made for, which is answered now; `None` for other calls, and where it has ended.
    pub(super) fn take_call(&self, token: u32) -> Option<Rc<RefCell<Request>>> {
        self.calls.try_borrow_mut().ok()?.remove(&token)?.upgrade()
    }

    /// Forgets a call of a request that has ended.
    pub(super) fn forget_call(&self, token: u32) {
        if let Ok(mut calls) = self.calls.try_borrow_mut() {
            calls.remove(&token);
        }
    }

    /// Counts what a request holds that waits for an approval, in place of what it held before.
    pub(super) fn hold_request(&self, before: Option<HeldRequest>, now: Option<HeldRequest>) {
        if before != now
            && let Ok(mut all) = self.held_requests.try_borrow_mut()
        {
            before.into_iter().for_each(|request| all.remove(request));
            now.into_iter().for_each(|request| all.add(request));
            let change = i64::from(now.is_some()).saturating_sub(i64::from(before.is_some()));
            metrics::adjust("toolgate.approvals.held", change);
        }
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
        // Nobody asks for more than that. The clock was set back.
        while due.len() < limits::MAX_WOKEN_AT_ONCE
            && let Some(last) = watched.last_entry()
            && last.key().0 > now.plus(limits::STREAM_RECHECK).plus(limits::CLOCK_SKEW)
        {
            due.push(last.remove());
        }
        due
    }

    /// The requests that waited for this document, which they do no longer.
    pub(super) fn take_waiting(&self, awaited: Awaited) -> impl Iterator<Item = Weak<RefCell<Request>>> + use<> {
        let all = self.waiting.try_borrow_mut().map(|mut waiting| std::mem::take(&mut *waiting)).unwrap_or_default();
        let (due, rest): (BTreeMap<u32, Waiting>, _) = all.into_iter().partition(|(_, each)| each.awaited == awaited);
        if let Ok(mut waiting) = self.waiting.try_borrow_mut() {
            *waiting = rest;
        }
        due.into_values().map(|each| each.request)
    }

    /// Whether any request waits.
    pub(super) fn has_waiting(&self) -> bool {
        self.waiting.try_borrow().is_ok_and(|waiting| !waiting.is_empty())
    }
}

/// The list of revocations as a policy before this one has left it.
fn feed(source: &RevocationSource) -> RevocationFeed {
    let mut feed = RevocationFeed::new(earlier(source.refresh), source.max_stale);
    if let Some((list, at)) = kept_lists::kept(&source.endpoint) {
        feed.replace(list, at);
    }
    feed
}

fn spread(source: &KeySource) -> KeySource {
    match source {
        KeySource::Fetched { refresh, max_stale } => {
            KeySource::Fetched { refresh: earlier(*refresh), max_stale: *max_stale }
        }
        KeySource::Inline(_) => source.clone(),
    }
}

/// Up to a tenth less, so that the workers of many proxies that started together do not fetch together. Never more:
/// the interval is a promise.
fn earlier(interval: Seconds) -> Seconds {
    let most = (interval.get() / 10).saturating_add(1);
    let less = abi::random().unwrap_or_default().checked_rem(most).unwrap_or_default();
    Seconds::new(interval.get().saturating_sub(less))
}

//! Which approval services are worth asking, and how many requests wait for them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::limits;
use crate::session::Binding;
use crate::units::UnixSeconds;

/// What a worker has seen of its approval services.
#[derive(Clone, Debug, Default)]
pub struct Circuits(Vec<Circuit>);

/// A service that has failed several times in a row is left alone for a while; then one request tries it.
#[derive(Clone, Copy, Debug, Default)]
struct Circuit {
    failures: u32,
    closed_until: UnixSeconds,
}

impl Circuits {
    /// Nothing is known of this many services.
    pub fn new(services: usize) -> Self {
        Self(vec![Circuit::default(); services])
    }

    /// Whether a service may be asked now. If it had failed too often, only this request may for a while.
    pub(super) fn admits(&mut self, service: usize, now: UnixSeconds) -> bool {
        let Some(circuit) = self.0.get_mut(service) else { return false };
        if circuit.failures < limits::MAX_APPROVAL_FAILURES {
            return true;
        }
        // A clock that was set back must not shut a service out for longer than the pause.
        let is_over = circuit.closed_until <= now || circuit.closed_until > now.plus(limits::APPROVAL_PAUSE);
        if is_over {
            circuit.closed_until = now.plus(limits::APPROVAL_PAUSE);
        }
        is_over
    }

    /// A service has answered.
    pub(super) fn succeeded(&mut self, service: usize) {
        if let Some(circuit) = self.0.get_mut(service) {
            *circuit = Circuit::default();
        }
    }

    /// A service has not answered; says whether it is left alone from now on.
    pub(super) fn failed(&mut self, service: usize, now: UnixSeconds) -> bool {
        let Some(circuit) = self.0.get_mut(service) else { return false };
        circuit.failures = circuit.failures.saturating_add(1);
        if circuit.failures < limits::MAX_APPROVAL_FAILURES {
            return false;
        }
        circuit.closed_until = now.plus(limits::APPROVAL_PAUSE);
        circuit.failures == limits::MAX_APPROVAL_FAILURES
    }
}

/// What one request holds while it waits for an approval.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HeldRequest {
    /// Bytes of its body, which the proxy keeps.
    pub bytes: usize,
    /// Whose it is.
    pub caller: Binding,
}

/// What all requests of a worker hold that wait for approvals.
#[derive(Clone, Debug, Default)]
pub struct HeldRequests {
    all: Amount,
    /// What each caller has of it. One that holds nothing is not in it.
    callers: BTreeMap<Binding, Amount>,
}

const MOST_OF_ALL: Amount = Amount { count: limits::MAX_HELD_REQUESTS, bytes: limits::MAX_HELD_REQUEST_BYTES };
const MOST_OF_ONE: Amount =
    Amount { count: limits::MAX_HELD_REQUESTS_OF_CALLER, bytes: limits::MAX_HELD_REQUEST_BYTES_OF_CALLER };

/// How much is held.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Amount {
    count: usize,
    bytes: usize,
}

impl Amount {
    const fn with(self, bytes: usize) -> Self {
        Self { count: self.count.saturating_add(1), bytes: self.bytes.saturating_add(bytes) }
    }

    const fn without(self, bytes: usize) -> Self {
        Self { count: self.count.saturating_sub(1), bytes: self.bytes.saturating_sub(bytes) }
    }

    /// Whether there may be as much more without passing these bounds.
    const fn has_room_for(self, bytes: usize, most: Self) -> bool {
        self.count < most.count && self.bytes.saturating_add(bytes) <= most.bytes
    }
}

impl HeldRequests {
    /// One more is held.
    pub fn add(&mut self, request: HeldRequest) {
        let HeldRequest { bytes, caller } = request;
        self.all = self.all.with(bytes);
        let own = self.callers.entry(caller).or_default();
        *own = own.with(bytes);
    }

    /// One less is held.
    pub fn remove(&mut self, request: HeldRequest) {
        let HeldRequest { bytes, caller } = request;
        self.all = self.all.without(bytes);
        if let Entry::Occupied(mut own) = self.callers.entry(caller) {
            *own.get_mut() = own.get().without(bytes);
            if own.get().count == 0 {
                own.remove();
            }
        }
    }

    /// Whether another one would not be too many: for the worker, and of its caller, so that nobody takes all the room.
    pub(super) fn has_room_for(&self, request: HeldRequest) -> bool {
        let own = self.callers.get(&request.caller).copied().unwrap_or_default();
        self.all.has_room_for(request.bytes, MOST_OF_ALL) && own.has_room_for(request.bytes, MOST_OF_ONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Owner;
    use crate::units::Seconds;

    const NOW: UnixSeconds = UnixSeconds::new(1_800_000_000);

    #[test]
    fn a_service_that_fails_is_left_alone_and_then_tried_once() {
        let mut circuits = Circuits::new(2);
        for _ in 1..limits::MAX_APPROVAL_FAILURES {
            assert!(!circuits.failed(0, NOW));
            assert!(circuits.admits(0, NOW));
        }
        assert!(circuits.failed(0, NOW), "opened, and said so");
        assert!(!circuits.failed(0, NOW), "once");
        assert!(!circuits.admits(0, NOW));
        assert!(circuits.admits(1, NOW), "the other one is not meant");
        let later = NOW.plus(limits::APPROVAL_PAUSE);
        assert!(circuits.admits(0, later));
        assert!(!circuits.admits(0, later), "one tries, the others do not wait for it");
        circuits.succeeded(0);
        assert!(circuits.admits(0, later));
        assert!(!circuits.admits(2, NOW), "no such service");
    }

    #[test]
    fn a_clock_that_is_set_back_shuts_nobody_out() {
        let mut circuits = Circuits::new(1);
        assert!((0..limits::MAX_APPROVAL_FAILURES).any(|_| circuits.failed(0, NOW)));
        let earlier = UnixSeconds::new(NOW.get() - Seconds::new(3600).get());
        assert!(circuits.admits(0, earlier));
        assert!(!circuits.admits(0, earlier));
    }

    fn request(bytes: usize, subject: &str) -> HeldRequest {
        let owner = Owner { resource: "r", issuer: "i", subject, client_id: None, tenant: None };
        HeldRequest { bytes, caller: owner.into() }
    }

    #[test]
    fn what_is_held_is_bounded_in_number_and_bytes_and_for_each_caller() {
        let most = MOST_OF_ONE.bytes;
        let mut held = HeldRequests::default();
        held.add(request(most, "a"));
        assert!(!held.has_room_for(request(1, "a")) && held.has_room_for(request(0, "a")));
        assert!(held.has_room_for(request(most, "b")), "others have their own share");
        (1..MOST_OF_ALL.bytes / most).for_each(|number| held.add(request(most, &number.to_string())));
        assert!(!held.has_room_for(request(1, "b")), "all is taken");
        held.remove(request(most, "a"));
        assert!(held.has_room_for(request(most, "a")));

        let mut held = HeldRequests::default();
        (0..MOST_OF_ONE.count).for_each(|_| held.add(request(0, "a")));
        assert!(!held.has_room_for(request(0, "a")) && held.has_room_for(request(0, "b")));
        held.remove(request(0, "a"));
        assert!(held.has_room_for(request(0, "a")));
        (1..MOST_OF_ONE.count).for_each(|_| held.remove(request(0, "a")));
        assert!(held.callers.is_empty(), "nobody is remembered");
    }
}

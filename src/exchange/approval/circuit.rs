//! Which approval services are worth asking, and how many requests wait for them.

use crate::limits;
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
}

/// What all requests of a worker hold that wait for approvals.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HeldRequests {
    count: usize,
    bytes: usize,
}

impl HeldRequests {
    /// With one more.
    #[must_use]
    pub fn with(self, request: Option<HeldRequest>) -> Self {
        let Some(HeldRequest { bytes }) = request else { return self };
        Self { count: self.count.saturating_add(1), bytes: self.bytes.saturating_add(bytes) }
    }

    /// With one less.
    #[must_use]
    pub fn without(self, request: Option<HeldRequest>) -> Self {
        let Some(HeldRequest { bytes }) = request else { return self };
        Self { count: self.count.saturating_sub(1), bytes: self.bytes.saturating_sub(bytes) }
    }

    /// Whether another one would be too many.
    pub(super) const fn has_room_for(self, request: HeldRequest) -> bool {
        self.count < limits::MAX_HELD_REQUESTS
            && self.bytes.saturating_add(request.bytes) <= limits::MAX_HELD_REQUEST_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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

    #[test]
    fn what_is_held_is_bounded_in_number_and_bytes() {
        let large = HeldRequest { bytes: limits::MAX_HELD_REQUEST_BYTES / 2 };
        let held = HeldRequests::default().with(Some(large)).with(Some(large));
        assert!(held.has_room_for(HeldRequest { bytes: 0 }) && !held.has_room_for(HeldRequest { bytes: 1 }));
        assert!(held.without(Some(large)).has_room_for(HeldRequest { bytes: 1 }));
        let small = HeldRequest { bytes: 0 };
        let many = (0..limits::MAX_HELD_REQUESTS).fold(HeldRequests::default(), |held, _| held.with(Some(small)));
        assert!(!many.has_room_for(small));
        assert_eq!(many.with(None).without(None), many);
    }
}

//! Key sets shared between the workers of a proxy, so that one of them fetches for all.
//!
//! The host's shared data is one map per `vm_id`. With an empty `vm_id` any other plugin could write there and so
//! choose the keys that tokens are verified with: then nothing is shared, and every worker fetches for itself.

use super::abi::{self, CAS_MISMATCH, HostError};
use crate::config::KeyFetch;
use crate::limits;
use crate::units::{Seconds, UnixSeconds};

/// What workers tell each other about one key set.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Record {
    /// Until then, one of them is fetching.
    pub(super) leased_until: UnixSeconds,
    /// The last time that a key which nobody knows caused a fetch.
    pub(super) unknown_key_at: UnixSeconds,
    /// The last time that a fetch failed.
    pub(super) failed_at: UnixSeconds,
    /// When `body` was fetched; 0 for never.
    pub(super) fetched_at: UnixSeconds,
    /// The key set.
    pub(super) body: Vec<u8>,
}

/// The number that a later write must name; see [`SharedKeys::write`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Version(u32);

/// Access to the shared records, where there is a place for them that no other plugin can write to.
#[derive(Clone, Copy, Debug)]
pub(super) struct SharedKeys(());

impl SharedKeys {
    pub(super) fn of_this_vm() -> Option<Self> {
        let vm_id = abi::property("plugin_vm_id").unwrap_or_default();
        (!vm_id.is_empty()).then_some(Self(()))
    }

    /// The record of a key set; an empty one if there is none yet.
    pub(super) fn read(self, fetch: &KeyFetch) -> (Record, Version) {
        // The host takes any number for a record that is not there, and 0 for any record: this one never is current.
        const ABSENT: Version = Version(u32::MAX);
        match abi::shared_data(&name(fetch)) {
            Ok((bytes, version)) => (Record::read(&bytes).unwrap_or_default(), Version(version)),
            Err(_) => (Record::default(), ABSENT),
        }
    }

    /// Replaces the record that was read with `version`; `false` if another worker was faster.
    pub(super) fn write(self, fetch: &KeyFetch, record: &Record, version: Version) -> Result<bool, HostError> {
        match abi::set_shared_data(&name(fetch), &record.written(), version.0) {
            Ok(()) => Ok(true),
            Err(CAS_MISMATCH) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Changes the record, whatever other workers do at the same time.
    pub(super) fn update(self, fetch: &KeyFetch, change: impl Fn(&mut Record)) {
        // As many attempts as there are workers would do; what is lost here is fetched again.
        for _ in 0..16 {
            let (mut record, version) = self.read(fetch);
            change(&mut record);
            match self.write(fetch, &record, version) {
                Ok(false) => {}
                Ok(true) | Err(_) => return,
            }
        }
    }
}

fn name(fetch: &KeyFetch) -> String {
    format!("toolgate.jwks {} {} {}", fetch.cluster, fetch.authority, fetch.path)
}

impl Record {
    /// Takes the right to fetch, for as long as a fetch may take.
    pub(super) fn lease(&mut self, now: UnixSeconds) {
        self.leased_until = now.plus(Seconds::new(limits::JWKS_FETCH_TIMEOUT.get().saturating_mul(2)));
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (leased_until, rest) = time(bytes)?;
        let (unknown_key_at, rest) = time(rest)?;
        let (failed_at, rest) = time(rest)?;
        let (fetched_at, body) = time(rest)?;
        Some(Self { leased_until, unknown_key_at, failed_at, fetched_at, body: body.to_vec() })
    }

    fn written(&self) -> Vec<u8> {
        let times = [self.leased_until, self.unknown_key_at, self.failed_at, self.fetched_at];
        let mut bytes: Vec<u8> = times.iter().flat_map(|time| time.get().to_le_bytes()).collect();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

fn time(bytes: &[u8]) -> Option<(UnixSeconds, &[u8])> {
    let (seconds, rest) = bytes.split_first_chunk::<8>()?;
    Some((UnixSeconds::new(u64::from_le_bytes(*seconds)), rest))
}

//! Documents shared between the workers of a proxy, so that one of them fetches for all.
//!
//! The host's shared data is one map per `vm_id`. With an empty `vm_id` any other plugin could write there and so
//! choose the keys that tokens are verified with: then nothing is shared, and every worker fetches for itself.

use std::rc::Rc;

use super::abi::{self, CAS_MISMATCH, HostError};
use super::documents::{self, Answer};
use crate::config::Endpoint;
use crate::exchange::Awaited;
use crate::units::{Seconds, UnixSeconds};

/// What workers tell each other about one document.
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
    /// The `ETag` that `body` came with.
    pub(super) etag: Option<Rc<str>>,
    /// The document.
    pub(super) body: Vec<u8>,
}

/// The number that a later write must name; see [`SharedDocuments::write`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Version(u32);

/// Access to the shared records, where there is a place for them that no other plugin can write to.
#[derive(Clone, Copy, Debug)]
pub(super) struct SharedDocuments(());

impl SharedDocuments {
    pub(super) fn of_this_vm() -> Option<Self> {
        let vm_id = abi::property("plugin_vm_id").unwrap_or_default();
        (!vm_id.is_empty()).then_some(Self(()))
    }

    /// The record of a document; an empty one if there is none yet.
    pub(super) fn read(self, what: Awaited, endpoint: &Endpoint) -> (Record, Version) {
        // The host takes any number for a record that is not there, and 0 for any record: this one never is current.
        const ABSENT: Version = Version(u32::MAX);
        match abi::shared_data(&name(what, endpoint)) {
            Ok((bytes, version)) => (Record::read(&bytes).unwrap_or_default(), Version(version)),
            Err(_) => (Record::default(), ABSENT),
        }
    }

    /// Replaces the record that was read with `version`; `false` if another worker was faster.
    pub(super) fn write(
        self,
        what: Awaited,
        endpoint: &Endpoint,
        record: &Record,
        version: Version,
    ) -> Result<bool, HostError> {
        match abi::set_shared_data(&name(what, endpoint), &record.written(), version.0) {
            Ok(()) => Ok(true),
            Err(CAS_MISMATCH) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Changes the record, whatever other workers do at the same time.
    pub(super) fn update(self, what: Awaited, endpoint: &Endpoint, change: impl Fn(&mut Record)) {
        // As many attempts as there are workers would do; what is lost here is fetched again.
        for _ in 0..16 {
            let (mut record, version) = self.read(what, endpoint);
            change(&mut record);
            match self.write(what, endpoint, &record, version) {
                Ok(false) => {}
                Ok(true) | Err(_) => return,
            }
        }
    }
}

fn name(what: Awaited, endpoint: &Endpoint) -> String {
    format!("{} {} {} {}", documents::metric(what, "document"), endpoint.cluster, endpoint.authority, endpoint.path)
}

impl Record {
    /// Takes the right to fetch, for as long as a fetch may take.
    pub(super) fn lease(&mut self, now: UnixSeconds, timeout: Seconds) {
        self.leased_until = now.plus(Seconds::new(timeout.get().saturating_mul(2)));
    }

    /// Notes what a fetch that began at `since` has brought. An answer that `confirmed` is the newest says nothing of
    /// another version that a worker has put here meanwhile.
    pub(super) fn succeed(&mut self, answer: &Answer, confirmed: Option<&str>, since: UnixSeconds) {
        self.leased_until = UnixSeconds::default();
        match answer {
            Answer::Document { body, etag } => {
                self.fetched_at = since;
                self.etag.clone_from(etag);
                self.body.clone_from(body);
            }
            Answer::NotModified if confirmed.is_some() && self.etag.as_deref() == confirmed => self.fetched_at = since,
            Answer::NotModified => {}
        }
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (leased_until, rest) = time(bytes)?;
        let (unknown_key_at, rest) = time(rest)?;
        let (failed_at, rest) = time(rest)?;
        let (fetched_at, rest) = time(rest)?;
        let (size, rest) = rest.split_first_chunk::<2>()?;
        let (etag, body) = rest.split_at_checked(usize::from(u16::from_le_bytes(*size)))?;
        let etag = std::str::from_utf8(etag).ok().filter(|etag| !etag.is_empty()).map(Rc::from);
        Some(Self { leased_until, unknown_key_at, failed_at, fetched_at, etag, body: body.to_vec() })
    }

    fn written(&self) -> Vec<u8> {
        let times = [self.leased_until, self.unknown_key_at, self.failed_at, self.fetched_at];
        let mut bytes: Vec<u8> = times.iter().flat_map(|time| time.get().to_le_bytes()).collect();
        let etag = self.etag.as_deref().unwrap_or_default();
        // One that is too long to be counted is not kept in the first place.
        let (size, etag) = u16::try_from(etag.len()).map_or((0, ""), |size| (size, etag));
        bytes.extend_from_slice(&size.to_le_bytes());
        bytes.extend_from_slice(etag.as_bytes());
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

fn time(bytes: &[u8]) -> Option<(UnixSeconds, &[u8])> {
    let (seconds, rest) = bytes.split_first_chunk::<8>()?;
    Some((UnixSeconds::new(u64::from_le_bytes(*seconds)), rest))
}

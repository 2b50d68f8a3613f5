//! Fetches key sets when the key ring asks for them.

use std::collections::BTreeMap;
use std::time::Duration;

use proxy_wasm::hostcalls;

use super::abi::{self, Buffer, Map};
use super::gateway::Gateway;
use super::host::{self, Level};
use super::metrics;
use super::shared_keys::{Record, SharedKeys};
use crate::config::KeyFetch;
use crate::jwt::{IssuerIndex, KeySet};
use crate::limits;
use crate::units::UnixSeconds;

/// Fetches of key sets under way, and what the other workers know.
pub(super) struct KeyFetcher {
    in_flight: BTreeMap<u32, IssuerIndex>,
    shared: Option<SharedKeys>,
    /// The newest news of other workers that were taken in, by issuer: time of a success, time of a failure.
    seen: BTreeMap<IssuerIndex, (UnixSeconds, UnixSeconds)>,
    is_polling: bool,
}

/// What to do about an issuer whose keys are due.
enum Step {
    Fetch,
    /// Another worker is at it.
    Poll,
    /// Another worker has just been: requests need not wait any longer.
    Settled,
}

impl KeyFetcher {
    pub(super) fn new() -> Self {
        Self { in_flight: BTreeMap::new(), shared: SharedKeys::of_this_vm(), seen: BTreeMap::new(), is_polling: false }
    }

    /// Whether workers fetch for each other.
    pub(super) fn is_sharing(&self) -> bool {
        self.shared.is_some()
    }

    /// Whether another worker's fetch is being waited for.
    pub(super) fn is_polling(&self) -> bool {
        self.is_polling
    }

    /// Starts what is due; returns the issuers for which the wait is over.
    pub(super) fn refresh(&mut self, gateway: &Gateway, now: UnixSeconds) -> Vec<IssuerIndex> {
        self.is_polling = false;
        let mut settled = Vec::new();
        for issuer in gateway.with_keys(|keys| keys.due(now)).unwrap_or_default() {
            let Some(fetch) = fetch_of(gateway, issuer) else { continue };
            match self.shared.map_or(Step::Fetch, |shared| self.agree(shared, gateway, issuer, fetch, now)) {
                Step::Poll => self.is_polling = true,
                Step::Settled => settled.push(issuer),
                Step::Fetch => {
                    gateway.with_keys(|keys| keys.fetch_started(issuer, now));
                    match dispatch(fetch) {
                        Some(token) => {
                            self.in_flight.insert(token, issuer);
                        }
                        None => {
                            self.failed(gateway, issuer, fetch, now, "the cluster takes no request");
                            settled.push(issuer);
                        }
                    }
                }
            }
        }
        publish_age(gateway, now);
        settled
    }

    /// Takes in the answer to a fetch; returns the issuer for which the wait is over.
    pub(super) fn answered(
        &mut self,
        gateway: &Gateway,
        token: u32,
        headers: usize,
        body_size: usize,
        now: UnixSeconds,
    ) -> Option<IssuerIndex> {
        let issuer = self.in_flight.remove(&token)?;
        let fetch = fetch_of(gateway, issuer)?;
        match read_answer(headers, body_size) {
            Ok((body, keys)) => {
                metrics::count("toolgate.jwks.fetch_success");
                install(gateway, issuer, keys, now);
                self.seen.entry(issuer).or_default().0 = now;
                if let Some(shared) = self.shared {
                    shared.update(fetch, |record| {
                        record.leased_until = UnixSeconds::default();
                        record.fetched_at = now;
                        record.body.clone_from(&body);
                    });
                }
            }
            Err(problem) => self.failed(gateway, issuer, fetch, now, &problem),
        }
        Some(issuer)
    }

    /// Lets other workers do what this one has begun: its answers will not come.
    pub(super) fn release(&self, gateway: &Gateway) {
        let Some(shared) = self.shared else { return };
        for fetch in self.in_flight.values().filter_map(|issuer| fetch_of(gateway, *issuer)) {
            shared.update(fetch, |record| record.leased_until = UnixSeconds::default());
        }
    }

    fn failed(&mut self, gateway: &Gateway, issuer: IssuerIndex, fetch: &KeyFetch, now: UnixSeconds, problem: &str) {
        metrics::count("toolgate.jwks.fetch_failure");
        host::log(
            Level::Warn,
            &format!("toolgate: no keys from cluster `{}`, path `{}`: {problem}", fetch.cluster, fetch.path),
        );
        gateway.with_keys(|keys| keys.fetch_failed(issuer, now));
        self.seen.entry(issuer).or_default().1 = now;
        if let Some(shared) = self.shared {
            shared.update(fetch, |record| {
                record.leased_until = UnixSeconds::default();
                record.failed_at = now;
            });
        }
    }

    /// Agrees with the other workers on who fetches.
    fn agree(
        &mut self,
        shared: SharedKeys,
        gateway: &Gateway,
        issuer: IssuerIndex,
        fetch: &KeyFetch,
        now: UnixSeconds,
    ) -> Step {
        let (mut record, version) = shared.read(fetch);
        if self.adopt(gateway, issuer, &record, now) {
            return Step::Settled;
        }
        if record.leased_until > now {
            return Step::Poll;
        }
        if gateway.with_keys(|keys| keys.is_due_for_unknown_key(issuer, now)).unwrap_or(false) {
            if record.unknown_key_at.plus(limits::UNKNOWN_KID_COOLDOWN) > now {
                gateway.with_keys(|keys| keys.give_up_unknown_key(issuer));
                return Step::Settled;
            }
            record.unknown_key_at = now;
        }
        record.lease(now);
        match shared.write(fetch, &record, version) {
            Ok(true) => Step::Fetch,
            Ok(false) => Step::Poll,
            // Without the others, then.
            Err(_) => Step::Fetch,
        }
    }

    /// Takes over what another worker has found out since the last look; `false` if that leaves the keys due.
    fn adopt(&mut self, gateway: &Gateway, issuer: IssuerIndex, record: &Record, now: UnixSeconds) -> bool {
        let (fetched_at, failed_at) = self.seen.entry(issuer).or_default();
        if record.fetched_at > *fetched_at {
            *fetched_at = record.fetched_at;
            if let Ok(keys) = KeySet::parse(&record.body) {
                gateway.with_keys(|keys| keys.fetch_started(issuer, now));
                install(gateway, issuer, keys, record.fetched_at);
            }
        } else if record.failed_at > *failed_at {
            *failed_at = record.failed_at;
            gateway.with_keys(|keys| {
                keys.fetch_started(issuer, now);
                keys.fetch_failed(issuer, record.failed_at);
            });
        } else {
            return false;
        }
        !gateway.with_keys(|keys| keys.due(now).contains(&issuer)).unwrap_or(false)
    }
}

/// Sends the request for a key set. To be called for the root only: the SDK drops answers to a stream that has ended.
fn dispatch(fetch: &KeyFetch) -> Option<u32> {
    metrics::count("toolgate.jwks.callouts");
    let headers = vec![
        (":method", "GET"),
        (":path", fetch.path.as_str()),
        (":authority", fetch.authority.as_str()),
        ("accept", "application/jwk-set+json, application/json"),
    ];
    let timeout = Duration::from_secs(limits::JWKS_FETCH_TIMEOUT.get());
    hostcalls::dispatch_http_call(&fetch.cluster, headers, None, Vec::new(), timeout).ok()
}

fn fetch_of(gateway: &Gateway, issuer: IssuerIndex) -> Option<&KeyFetch> {
    gateway.policy.key_sources.get(issuer.get()).and_then(|(_, fetch)| fetch.as_ref())
}

fn install(gateway: &Gateway, issuer: IssuerIndex, keys: KeySet, fetched_at: UnixSeconds) {
    let skipped = i64::try_from(keys.skipped()).unwrap_or(i64::MAX);
    if skipped > 0 {
        metrics::add("toolgate.jwks.keys_skipped", skipped);
    }
    gateway.with_keys(|ring| ring.install(issuer, keys, fetched_at));
}

/// The host reports a reset after the first byte as an answer without headers, and its own failures as 503 and 504.
fn read_answer(headers: usize, body_size: usize) -> Result<(Vec<u8>, KeySet), String> {
    if headers == 0 {
        return Err("the connection broke".to_owned());
    }
    let status = host::headers(Map::CalloutHeaders).map_err(|error| error.to_string())?;
    match status.value(":status") {
        Some("200") => {}
        other => return Err(format!("status {}", other.unwrap_or("unknown"))),
    }
    if body_size > limits::MAX_JWKS_BYTES {
        return Err(format!("more than {} bytes", limits::MAX_JWKS_BYTES));
    }
    let body = abi::buffer(Buffer::CalloutBody, body_size).map_err(|error| error.to_string())?;
    let keys = KeySet::parse(&body).map_err(|error| error.to_string())?;
    if keys.keys().is_empty() {
        return Err(format!("no usable key, {} skipped", keys.skipped()));
    }
    Ok((body, keys))
}

fn publish_age(gateway: &Gateway, now: UnixSeconds) {
    for position in 0..gateway.policy.issuers.len() {
        if let Some(Some(age)) = gateway.with_keys(|keys| keys.age(IssuerIndex::new(position), now)) {
            metrics::set(&format!("toolgate.jwks.age_seconds.{position}"), age.get());
        }
    }
}

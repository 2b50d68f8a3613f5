//! Fetches documents when they are due: key sets, and the list of revocations.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use proxy_wasm::hostcalls;

use super::abi::{self, Buffer, Map};
use super::documents::{self, Answer};
use super::gateway::Gateway;
use super::host::{self, Level};
use super::metrics;
use super::shared_documents::{Record, SharedDocuments};
use crate::config::Endpoint;
use crate::exchange::Awaited;
use crate::http::HeaderList;
use crate::limits;
use crate::units::UnixSeconds;

/// Fetches under way, and what the other workers know.
pub(super) struct Poller {
    in_flight: BTreeMap<u32, Flight>,
    shared: Option<SharedDocuments>,
    /// The newest news that were taken in, by document.
    seen: BTreeMap<Awaited, Seen>,
    is_polling: bool,
    /// The log says that everybody is refused for want of the list of revocations.
    has_warned: bool,
}

/// A fetch under way. What it brings is as old as its start: what changes on the server later may not be in it.
struct Flight {
    what: Awaited,
    since: UnixSeconds,
}

/// Times of the newest success and failure, of this worker or of another one.
#[derive(Clone, Copy, Default)]
struct Seen {
    fetched_at: UnixSeconds,
    failed_at: UnixSeconds,
}

/// What to do about a document that is due.
enum Step {
    Fetch,
    /// Another worker is at it.
    Poll,
    /// Another worker has just been: requests need not wait any longer.
    Settled,
}

impl Poller {
    pub(super) fn new() -> Self {
        Self {
            in_flight: BTreeMap::new(),
            shared: SharedDocuments::of_this_vm(),
            seen: BTreeMap::new(),
            is_polling: false,
            has_warned: false,
        }
    }

    /// Whether workers fetch for each other.
    pub(super) fn is_sharing(&self) -> bool {
        self.shared.is_some()
    }

    /// Whether another worker's fetch is being waited for.
    pub(super) fn is_polling(&self) -> bool {
        self.is_polling
    }

    /// Starts what is due; returns the documents for which the wait is over.
    pub(super) fn refresh(&mut self, gateway: &Gateway, now: UnixSeconds) -> Vec<Awaited> {
        self.is_polling = false;
        let mut settled = Vec::new();
        for what in documents::due(gateway, now) {
            let Some(endpoint) = documents::endpoint(gateway, what) else { continue };
            match self.shared.map_or(Step::Fetch, |shared| self.agree(shared, gateway, what, endpoint, now)) {
                Step::Poll => self.is_polling = true,
                Step::Settled => settled.push(what),
                Step::Fetch => {
                    documents::started(gateway, what, now);
                    match dispatch(gateway, what, endpoint) {
                        Some(token) => {
                            self.in_flight.insert(token, Flight { what, since: now });
                        }
                        None => {
                            self.failed(gateway, what, endpoint, now, "the cluster takes no request");
                            settled.push(what);
                        }
                    }
                }
            }
        }
        documents::publish_ages(gateway, now);
        self.warn(gateway, now);
        settled
    }

    /// Takes in the answer to a fetch; returns the document for which the wait is over.
    pub(super) fn answered(
        &mut self,
        gateway: &Gateway,
        token: u32,
        headers: usize,
        body_size: usize,
        now: UnixSeconds,
    ) -> Option<Awaited> {
        let Flight { what, since } = self.in_flight.remove(&token)?;
        let endpoint = documents::endpoint(gateway, what)?;
        let taken_in = read_answer(headers, body_size, documents::max_bytes(what))
            .and_then(|answer| documents::take_in(gateway, what, &answer, since).map(|()| answer));
        match taken_in {
            Ok(answer) => {
                metrics::count(&documents::metric(what, "fetch_success"));
                if matches!(answer, Answer::NotModified) {
                    metrics::count(&documents::metric(what, "not_modified"));
                }
                self.seen(gateway, what).fetched_at = since;
                if let Some(shared) = self.shared {
                    let confirmed = documents::etag(gateway, what);
                    shared.update(what, endpoint, |record| record.succeed(&answer, confirmed.as_deref(), since));
                }
            }
            Err(problem) => self.failed(gateway, what, endpoint, now, &problem),
        }
        documents::publish_ages(gateway, now);
        self.warn(gateway, now);
        Some(what)
    }

    /// Lets other workers do what this one has begun: its answers will not come.
    pub(super) fn release(&self, gateway: &Gateway) {
        let Some(shared) = self.shared else { return };
        for flight in self.in_flight.values() {
            if let Some(endpoint) = documents::endpoint(gateway, flight.what) {
                shared.update(flight.what, endpoint, |record| record.leased_until = UnixSeconds::default());
            }
        }
    }

    fn failed(&mut self, gateway: &Gateway, what: Awaited, endpoint: &Endpoint, now: UnixSeconds, problem: &str) {
        metrics::count(&documents::metric(what, "fetch_failure"));
        let Endpoint { cluster, path, .. } = endpoint;
        let name = documents::name(what);
        host::log(Level::Warn, &format!("toolgate: no {name} from cluster `{cluster}`, path `{path}`: {problem}"));
        documents::failed(gateway, what, now);
        self.seen(gateway, what).failed_at = now;
        if let Some(shared) = self.shared {
            shared.update(what, endpoint, |record| {
                record.leased_until = UnixSeconds::default();
                record.failed_at = now;
            });
        }
    }

    /// Says once that everybody is refused for want of the list of revocations, and once that this is over.
    fn warn(&mut self, gateway: &Gateway, now: UnixSeconds) {
        let state = gateway.with_revocations(|feed| (feed.usable(now).is_some(), feed.is_failing()));
        let Some((has_list, is_failing)) = state else { return };
        if has_list && self.has_warned {
            self.has_warned = false;
            host::log(Level::Info, "toolgate: there is a list of revocations again, requests are no longer refused");
        } else if !has_list && is_failing && !self.has_warned {
            self.has_warned = true;
            let line = "toolgate: there is no list of revocations that is young enough: every request with a token is \
                        refused with 503 until there is";
            host::log(Level::Error, line);
        }
    }

    fn seen(&mut self, gateway: &Gateway, what: Awaited) -> &mut Seen {
        let here = || Seen { fetched_at: documents::fetched_at(gateway, what).unwrap_or_default(), ..Seen::default() };
        self.seen.entry(what).or_insert_with(here)
    }

    /// Agrees with the other workers on who fetches.
    fn agree(
        &mut self,
        shared: SharedDocuments,
        gateway: &Gateway,
        what: Awaited,
        endpoint: &Endpoint,
        now: UnixSeconds,
    ) -> Step {
        let (mut record, version) = shared.read(what, endpoint);
        if self.adopt(gateway, what, &record, now) {
            return Step::Settled;
        }
        if record.leased_until > now {
            return Step::Poll;
        }
        if let Awaited::Keys(issuer) = what
            && gateway.with_keys(|keys| keys.is_due_for_unknown_key(issuer, now)).unwrap_or(false)
        {
            if record.unknown_key_at.plus(limits::UNKNOWN_KID_COOLDOWN) > now {
                gateway.with_keys(|keys| keys.give_up_unknown_key(issuer));
                return Step::Settled;
            }
            record.unknown_key_at = now;
        }
        record.lease(now, documents::timeout(gateway, what));
        match shared.write(what, endpoint, &record, version) {
            Ok(true) => Step::Fetch,
            Ok(false) => Step::Poll,
            // Without the others, then.
            Err(_) => Step::Fetch,
        }
    }

    /// Takes over what another worker has found out since the last look; `false` if that leaves the document due.
    fn adopt(&mut self, gateway: &Gateway, what: Awaited, record: &Record, now: UnixSeconds) -> bool {
        let seen = self.seen(gateway, what);
        if record.fetched_at > seen.fetched_at {
            seen.fetched_at = record.fetched_at;
            let is_here = record.etag.is_some() && record.etag == documents::etag(gateway, what);
            let answer = if is_here {
                Answer::NotModified
            } else {
                Answer::Document { body: record.body.clone(), etag: record.etag.clone() }
            };
            // What cannot be read stays due, and is fetched.
            let _ = documents::take_in(gateway, what, &answer, record.fetched_at);
        } else if record.failed_at > seen.failed_at {
            seen.failed_at = record.failed_at;
            documents::started(gateway, what, now);
            documents::failed(gateway, what, record.failed_at);
        } else {
            return false;
        }
        !documents::due(gateway, now).contains(&what)
    }
}

/// Sends the request for a document. To be called for the root only: the SDK drops answers to a stream that has ended.
fn dispatch(gateway: &Gateway, what: Awaited, endpoint: &Endpoint) -> Option<u32> {
    metrics::count(&documents::metric(what, "callouts"));
    let etag = documents::etag(gateway, what);
    let mut headers = vec![
        (":method", "GET"),
        (":path", endpoint.path.as_str()),
        (":authority", endpoint.authority.as_str()),
        ("accept", documents::media_types(what)),
    ];
    headers.extend(etag.as_deref().map(|etag| ("if-none-match", etag)));
    let timeout = Duration::from_secs(documents::timeout(gateway, what).get());
    hostcalls::dispatch_http_call(&endpoint.cluster, headers, None, Vec::new(), timeout).ok()
}

/// The host reports a reset after the first byte as an answer without headers, and its own failures as 503 and 504.
fn read_answer(headers: usize, body_size: usize, max_bytes: usize) -> Result<Answer, String> {
    if headers == 0 {
        return Err("the connection broke".to_owned());
    }
    let headers = host::headers(Map::CalloutHeaders).map_err(|error| error.to_string())?;
    match headers.value(":status") {
        Some("200") => {}
        Some("304") => return Ok(Answer::NotModified),
        other => return Err(format!("status {}", other.unwrap_or("unknown"))),
    }
    if body_size > max_bytes {
        return Err(format!("more than {max_bytes} bytes"));
    }
    let body = abi::buffer(Buffer::CalloutBody, body_size).map_err(|error| error.to_string())?;
    Ok(Answer::Document { body, etag: etag(&headers) })
}

/// The entity tag, if it can be sent back as it is.
fn etag(headers: &HeaderList) -> Option<Rc<str>> {
    let is_plain =
        |etag: &&str| etag.len() <= limits::MAX_ETAG_BYTES && etag.bytes().all(|byte| byte.is_ascii_graphic());
    headers.value("etag").filter(|etag| !etag.is_empty()).filter(is_plain).map(Rc::from)
}

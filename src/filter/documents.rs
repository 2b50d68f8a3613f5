//! The documents that the root fetches: the issuers' keys, and the list of revocations.

use std::rc::Rc;

use super::gateway::Gateway;
use super::{kept_lists, metrics};
use crate::config::Endpoint;
use crate::exchange::Awaited;
use crate::identity::{FetchedList, RevocationFeed, RevocationList};
use crate::jwt::{IssuerIndex, KeySet};
use crate::limits;
use crate::units::{Seconds, UnixSeconds};

/// What a server has sent, once it is known to be an answer.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// The document whose `ETag` was sent along is still the newest.
    NotModified,
    /// A document.
    Document { body: Vec<u8>, etag: Option<Rc<str>> },
}

/// The documents that should be fetched now.
pub(super) fn due(gateway: &Gateway, now: UnixSeconds) -> Vec<Awaited> {
    let keys = gateway.with_keys(|keys| keys.due(now)).unwrap_or_default();
    let is_list_due = gateway.with_revocations(|feed| feed.is_due(now)).unwrap_or(false);
    keys.into_iter().map(Awaited::Keys).chain(is_list_due.then_some(Awaited::Revocations)).collect()
}

/// Where a document comes from.
pub(super) fn endpoint(gateway: &Gateway, what: Awaited) -> Option<&Endpoint> {
    match what {
        Awaited::Keys(issuer) => gateway.policy.key_sources.get(issuer.get())?.1.as_ref(),
        Awaited::Revocations => gateway.policy.revocations.as_ref().map(|source| &source.endpoint),
    }
}

/// Its name for people.
pub(super) const fn name(what: Awaited) -> &'static str {
    match what {
        Awaited::Keys(_) => "keys",
        Awaited::Revocations => "revocations",
    }
}

/// A metric about it.
pub(super) fn metric(what: Awaited, event: &str) -> String {
    match what {
        Awaited::Keys(_) => format!("toolgate.jwks.{event}"),
        Awaited::Revocations => format!("toolgate.revocations.{event}"),
    }
}

/// The media types that are asked for.
pub(super) const fn media_types(what: Awaited) -> &'static str {
    match what {
        Awaited::Keys(_) => "application/jwk-set+json, application/json",
        Awaited::Revocations => "application/json",
    }
}

pub(super) const fn max_bytes(what: Awaited) -> usize {
    match what {
        Awaited::Keys(_) => limits::MAX_JWKS_BYTES,
        Awaited::Revocations => limits::MAX_REVOCATION_LIST_BYTES,
    }
}

/// How long one fetch may take.
pub(super) fn timeout(gateway: &Gateway, what: Awaited) -> Seconds {
    let timeout = match what {
        Awaited::Keys(issuer) => gateway.with_keys(|keys| keys.fetch_timeout(issuer)).flatten(),
        Awaited::Revocations => gateway.with_revocations(|feed| feed.timeout()),
    };
    timeout.unwrap_or(limits::FETCH_TIMEOUT)
}

/// The `ETag` of the version that is here, if the document need not be sent again.
pub(super) fn etag(gateway: &Gateway, what: Awaited) -> Option<Rc<str>> {
    match what {
        Awaited::Keys(_) => None,
        Awaited::Revocations => gateway.with_revocations(|feed| feed.latest()?.etag.clone()).flatten(),
    }
}

/// When the version that is here was fetched, by this policy or one before.
pub(super) fn fetched_at(gateway: &Gateway, what: Awaited) -> Option<UnixSeconds> {
    match what {
        Awaited::Keys(_) => None,
        Awaited::Revocations => gateway.with_revocations(|feed| feed.fetched_at()).flatten(),
    }
}

/// Takes note that a fetch is under way.
pub(super) fn started(gateway: &Gateway, what: Awaited, now: UnixSeconds) {
    match what {
        Awaited::Keys(issuer) => gateway.with_keys(|keys| keys.fetch_started(issuer, now)),
        Awaited::Revocations => gateway.with_revocations(|feed| feed.started(now)),
    };
}

/// Takes note that a fetch failed.
pub(super) fn failed(gateway: &Gateway, what: Awaited, at: UnixSeconds) {
    match what {
        Awaited::Keys(issuer) => gateway.with_keys(|keys| keys.fetch_failed(issuer, at)),
        Awaited::Revocations => gateway.with_revocations(|feed| feed.failed(at)),
    };
}

/// Takes in what was asked for at `at`.
///
/// # Errors
/// What is wrong with it; then nothing has changed.
pub(super) fn take_in(gateway: &Gateway, what: Awaited, answer: &Answer, at: UnixSeconds) -> Result<(), String> {
    const NOT_ASKED_FOR: &str = "status 304, which was not asked for";
    match (what, answer) {
        (Awaited::Keys(issuer), Answer::Document { body, .. }) => {
            let keys = KeySet::parse(body).map_err(|error| error.to_string())?;
            if keys.keys().is_empty() {
                return Err(format!("no usable key, {} skipped", keys.skipped()));
            }
            install(gateway, issuer, keys, at);
            Ok(())
        }
        (Awaited::Keys(_), Answer::NotModified) => Err(NOT_ASKED_FOR.to_owned()),
        (Awaited::Revocations, Answer::Document { body, etag }) => {
            let list = Rc::new(RevocationList::parse(body).map_err(|error| error.to_string())?);
            let fetched = FetchedList { list, etag: etag.clone() };
            gateway.with_revocations(|feed| feed.replace(fetched, at));
            keep(gateway);
            Ok(())
        }
        (Awaited::Revocations, Answer::NotModified) => {
            let has_list = gateway.with_revocations(|feed| feed.confirm(at)).unwrap_or(false);
            keep(gateway);
            if has_list { Ok(()) } else { Err(NOT_ASKED_FOR.to_owned()) }
        }
    }
}

fn install(gateway: &Gateway, issuer: IssuerIndex, keys: KeySet, at: UnixSeconds) {
    let skipped = i64::try_from(keys.skipped()).unwrap_or(i64::MAX);
    if skipped > 0 {
        metrics::add("toolgate.jwks.keys_skipped", skipped);
    }
    gateway.with_keys(|ring| {
        ring.fetch_started(issuer, at);
        ring.install(issuer, keys, at);
    });
}

/// Keeps the list for the policies to come.
fn keep(gateway: &Gateway) {
    let Some(endpoint) = endpoint(gateway, Awaited::Revocations) else { return };
    let latest = gateway.with_revocations(|feed| feed.latest().cloned().zip(feed.fetched_at())).flatten();
    if let Some((list, at)) = latest {
        kept_lists::keep(endpoint, list, at);
    }
}

/// Publishes how old the documents are.
pub(super) fn publish_ages(gateway: &Gateway, now: UnixSeconds) {
    for position in 0..gateway.policy.issuers.len() {
        if let Some(Some(age)) = gateway.with_keys(|keys| keys.age(IssuerIndex::new(position), now)) {
            metrics::set(&format!("toolgate.jwks.age_seconds.{position}"), age.get());
        }
    }
    let list = gateway.with_revocations(|feed: &mut RevocationFeed| Some((feed.age(now)?, feed.latest()?.list.len())));
    if let Some((age, entries)) = list.flatten() {
        metrics::set("toolgate.revocations.age_seconds", age.get());
        metrics::set("toolgate.revocations.entries", u64::try_from(entries).unwrap_or(u64::MAX));
    }
}

//! Whether an approval stands where its history says, and whether its votes carry it.
//!
//! The state of a row is a word that anybody who can write to the database can change. What the history says of the
//! request, the votes and the nonces is compared with the rows, before anything is signed and when the history is
//! checked.

use hmac_sha256::Hash;
use sqlx::{AnyConnection, Row};

use super::StoreError;
use super::record::Record;
use super::verify::hex;
use crate::domain::{Choice, EventKind, HistoryEvent, Request, State, Vote, is_approved};

/// Digest of what was asked for: of `created`.
pub(super) fn request_digest(request: &Request) -> Result<String, StoreError> {
    let text = serde_json::to_vec(request).map_err(|_| StoreError::Corrupt("a request cannot be written"))?;
    Ok(hex(&Hash::hash(&text)))
}

/// Digest of all of a vote: of `voted`.
pub(super) fn vote_digest(vote: &Vote) -> Result<String, StoreError> {
    let Vote { issuer, subject, name, choice, reason, entitlement, at } = vote;
    let all = (issuer, subject, name, choice, reason, &entitlement.roles, &entitlement.requirements, at);
    let text = serde_json::to_vec(&all).map_err(|_| StoreError::Corrupt("a vote cannot be written"))?;
    Ok(hex(&Hash::hash(&text)))
}

/// Digest of the nonce that got a grant: of `consumed` and `continued`.
pub(super) fn nonce_digest(nonce: &str) -> String {
    hex(&Hash::hash(nonce.as_bytes()))
}

/// All entries about an approval, oldest first.
pub(super) async fn entries(connection: &mut AnyConnection, id: &str) -> Result<Vec<HistoryEvent>, StoreError> {
    let rows = sqlx::query("SELECT entry FROM history WHERE approval_id = $1 ORDER BY seq")
        .bind(id.to_owned())
        .fetch_all(connection)
        .await?;
    let unreadable = |_| StoreError::Corrupt("an entry of the history cannot be read");
    rows.iter().map(|row| serde_json::from_str(&row.try_get::<String, _>("entry")?).map_err(unreadable)).collect()
}

/// The state after an entry, by the state before it. `None` before the first entry; an error if it cannot follow.
pub(super) const fn follow(before: Option<State>, event: EventKind) -> Result<Option<State>, ()> {
    let after = match (before, event) {
        (None, EventKind::Created) | (Some(State::Pending), EventKind::Voted | EventKind::Escalated) => State::Pending,
        (Some(State::Pending), EventKind::Approved) => State::Approved,
        (Some(State::Pending), EventKind::Rejected) => State::Rejected,
        (Some(State::Pending | State::Approved), EventKind::Expired) => State::Expired,
        (Some(State::Pending), EventKind::Cancelled) => State::Cancelled,
        (Some(State::Approved), EventKind::Consumed) | (Some(State::Consumed), EventKind::Continued) => State::Consumed,
        _ => return Err(()),
    };
    Ok(Some(after))
}

/// Compares an approval with all entries about it. An error says what differs, in words.
pub(super) fn check(record: &Record, entries: &[HistoryEvent]) -> Result<(), String> {
    let mut state = None;
    for entry in entries {
        state = follow(state, entry.event).map_err(|()| format!("{} cannot follow", entry.event.as_str()))?;
    }
    let state = state.ok_or("it has no history")?;
    if state != record.state {
        return Err(format!("it is {}, and its history says {}", record.state.as_str(), state.as_str()));
    }
    check_request(record, entries)?;
    check_votes(record, entries)?;
    check_consumption(record, entries)
}

fn check_request(record: &Record, entries: &[HistoryEvent]) -> Result<(), String> {
    let digest = request_digest(&record.request).map_err(|error| error.to_string())?;
    let expires_at = record.created_at.saturating_add(i64::from(record.request.expires_in));
    let is_so = entries.first().is_some_and(|created| {
        created.digest.as_ref() == Some(&digest) && created.seq == record.seq && created.at == record.created_at
    });
    if is_so && record.expires_at == expires_at { Ok(()) } else { Err("its request was changed".to_owned()) }
}

fn check_votes(record: &Record, entries: &[HistoryEvent]) -> Result<(), String> {
    let of = |event: EventKind| entries.iter().filter(move |entry| entry.event == event);
    let is_so = |(vote, entry): (&Vote, &HistoryEvent)| {
        let by = entry.by.as_ref().is_some_and(|by| by.iss == vote.issuer && by.sub == vote.subject);
        let digest = vote_digest(vote).is_ok_and(|digest| entry.digest.as_ref() == Some(&digest));
        by && digest && entry.decision == Some(vote.choice)
    };
    let voted = of(EventKind::Voted);
    if voted.clone().count() != record.votes.len() || !record.votes.iter().zip(voted).all(is_so) {
        return Err("its votes are not those of its history".to_owned());
    }
    let rejects = record.votes.iter().any(|vote| vote.choice == Choice::Reject);
    let was_approved = of(EventKind::Approved).next().is_some();
    if was_approved != is_approved(record.case()) || rejects != of(EventKind::Rejected).next().is_some() {
        return Err("its votes have another outcome".to_owned());
    }
    Ok(())
}

fn check_consumption(record: &Record, entries: &[HistoryEvent]) -> Result<(), String> {
    let takes = |entry: &&HistoryEvent| matches!(entry.event, EventKind::Consumed | EventKind::Continued);
    let taken = entries.iter().filter(takes);
    let last = taken.clone().last().map(|entry| (entry.digest.clone().unwrap_or_default(), entry.at));
    let stored = record.consumption.as_ref().map(|(nonce, at)| (nonce_digest(nonce), *at));
    if last == stored && i64::try_from(taken.count()) == Ok(record.step) {
        Ok(())
    } else {
        Err("it was let through otherwise than its history says".to_owned())
    }
}

//! What gateways do, other than consuming.

use super::record::{self, Record, Value};
use super::verify::hex;
use super::write::{Entry, Write};
use super::{Store, StoreError, evidence};
use crate::domain::{EventKind, Request, State, UnixSeconds};

/// Approvals of one gateway that can wait for people at the same time.
const MAX_PENDING: i64 = 10_000;
/// Seconds for which an end that nobody was told of is kept for whoever asks again.
const REPORTABLE_FOR: i64 = 600;
/// Seconds for which one that was taken back counts for its requester.
const CANCELLED_COUNTS_FOR: i64 = 60;
/// Approvals of one call that are compared with a request for it: they differ in who must approve, or who acts.
const MAX_COMPARED: usize = 32;
/// Random bytes of an id.
const ID_BYTES: usize = 16;

/// Whether an approval was there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Attached {
    /// It was.
    Yes,
    /// It has been made.
    No,
}

/// What came of asking.
#[derive(Debug)]
pub enum Created {
    /// An approval.
    Record(Box<Record>, Attached),
    /// The gateway or the requester has too many that wait.
    TooMany,
}

/// Who asks: nothing of another's audience is to be had.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker<'a> {
    pub(crate) audiences: &'a [String],
    pub(crate) binding: &'a str,
}

impl Asker<'_> {
    pub(super) fn may_see(&self, record: &Record) -> bool {
        record.request.binding == self.binding && self.audiences.contains(&record.request.audience)
    }
}

impl Store {
    /// Makes an approval, or finds the one that is there for the same call.
    pub(crate) async fn create_or_attach(
        &self,
        gateway: &str,
        request: &Request,
        now: UnixSeconds,
    ) -> Result<Created, StoreError> {
        let mut write = self.write(now).await?;
        let values = [Value::Text(&request.audience), Value::Text(&request.binding)];
        let tail = format!("WHERE audience = $1 AND binding = $2 ORDER BY seq DESC LIMIT {MAX_COMPARED}");
        let of_this_call = record::select(write.connection(), &tail, &values).await?;
        if let Some(mut newest) = of_this_call.into_iter().find(|record| record.request.has_terms_of(request)) {
            write.end_if_due(&mut newest).await?;
            if attaches(&newest, now) {
                if !newest.state.is_open() {
                    write.report(&mut newest).await?;
                }
                write.commit().await?;
                return Ok(Created::Record(Box::new(newest), Attached::Yes));
            }
        }
        let pending: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM approvals WHERE gateway = $1 AND state = 'pending'")
                .bind(gateway.to_owned())
                .fetch_one(write.connection())
                .await?;
        if pending >= MAX_PENDING || write.asked_by(request).await? >= i64::from(self.pending_per_requester) {
            // The newest may have expired just now.
            write.commit().await?;
            return Ok(Created::TooMany);
        }
        let record = write.insert(gateway, request).await?;
        write.commit().await?;
        Ok(Created::Record(Box::new(record), Attached::No))
    }

    /// The approval, if the gateway may know of it; ended if its time has passed. With `reports`, an end counts as told.
    pub(crate) async fn get(
        &self,
        asker: Asker<'_>,
        id: &str,
        reports: bool,
        now: UnixSeconds,
    ) -> Result<Option<Record>, StoreError> {
        let record = record::by_id(&mut *self.pool.acquire().await?, id).await?;
        let Some(record) = record.filter(|record| asker.may_see(record)) else { return Ok(None) };
        let untold = reports && !record.reported && !record.state.is_open();
        if !record.is_due(now) && !untold {
            return Ok(Some(record));
        }
        let mut write = self.write(now).await?;
        let Some(mut record) = record::by_id(write.connection(), id).await? else { return Ok(None) };
        write.end_if_due(&mut record).await?;
        if reports && !record.state.is_open() {
            write.report(&mut record).await?;
        }
        write.commit().await?;
        Ok(Some(record))
    }

    /// Takes back an approval that waits for people; any other stays as it is.
    pub(crate) async fn cancel(
        &self,
        asker: Asker<'_>,
        id: &str,
        now: UnixSeconds,
    ) -> Result<Option<Record>, StoreError> {
        let mut write = self.write(now).await?;
        let record = record::by_id(write.connection(), id).await?;
        let Some(mut record) = record.filter(|record| asker.may_see(record)) else { return Ok(None) };
        write.end_if_due(&mut record).await?;
        if record.state == State::Pending {
            write.end(&mut record, State::Cancelled, Entry::default()).await?;
        }
        if !record.state.is_open() {
            write.report(&mut record).await?;
        }
        write.commit().await?;
        Ok(Some(record))
    }
}

/// Whether whoever asks for the same call on the same terms gets this one, the newest of those.
fn attaches(newest: &Record, now: UnixSeconds) -> bool {
    match newest.state {
        State::Pending | State::Approved => true,
        // A person has said no to this very call: asking again does not ask the person again.
        State::Rejected => now < newest.expires_at,
        State::Expired | State::Cancelled => {
            let ended_at = newest.ended_at.unwrap_or(newest.expires_at);
            !newest.reported && now <= ended_at.saturating_add(REPORTABLE_FOR)
        }
        State::Consumed => false,
    }
}

impl Write<'_> {
    /// Approvals of the same requester and client that wait for people, or were taken back a moment ago: asking and
    /// taking back in turns tells people as often as asking does.
    async fn asked_by(&mut self, request: &Request) -> Result<i64, StoreError> {
        let mut count = 0_i64;
        let requester = &request.requester;
        for (state, since) in [(State::Pending, 0), (State::Cancelled, self.now().saturating_sub(CANCELLED_COUNTS_FOR))]
        {
            let found: i64 = sqlx::query_scalar(
                "SELECT COUNT(*) FROM approvals WHERE requester_subject = $1 AND requester_issuer = $2 \
                 AND requester_client = $3 AND state = $4 AND COALESCE(ended_at, 0) >= $5",
            )
            .bind(requester.subject.clone())
            .bind(requester.issuer.clone())
            .bind(requester.client_id.clone().unwrap_or_default())
            .bind(state.as_str())
            .bind(since)
            .fetch_one(self.connection())
            .await?;
            count = count.saturating_add(found);
        }
        Ok(count)
    }

    async fn insert(&mut self, gateway: &str, request: &Request) -> Result<Record, StoreError> {
        let created_at = self.now();
        let mut record = Record {
            seq: self.next_seq(),
            id: random_id()?,
            gateway: gateway.to_owned(),
            request: request.clone(),
            state: State::Pending,
            created_at,
            expires_at: created_at.saturating_add(i64::from(request.expires_in)),
            ended_at: None,
            consumed_at: None,
            escalated: request.escalated_from.is_some(),
            escalates_at: None,
            step: 0,
            consumption: None,
            reported: false,
            votes: Vec::new(),
        };
        record.escalates_at = record.next_escalation(created_at.saturating_sub(1));
        self.insert_row(&record).await?;
        self.insert_roles(&record).await?;
        let digest = Some(evidence::request_digest(request)?);
        self.enter(&record, EventKind::Created, Entry { digest, ..Entry::default() }).await?;
        Ok(record)
    }

    async fn insert_row(&mut self, record: &Record) -> Result<(), StoreError> {
        let request = &record.request;
        let text = serde_json::to_string(request).map_err(|_| StoreError::Corrupt("a request cannot be written"))?;
        sqlx::query(
            "INSERT INTO approvals (seq, id, gateway, audience, binding, requester_issuer, requester_subject, \
             requester_client, target, request, state, created_at, expires_at, escalated, escalates_at, step, reported) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, 0, 0)",
        )
        .bind(record.seq)
        .bind(record.id.clone())
        .bind(record.gateway.clone())
        .bind(request.audience.clone())
        .bind(request.binding.clone())
        .bind(request.requester.issuer.clone())
        .bind(request.requester.subject.clone())
        .bind(request.requester.client_id.clone().unwrap_or_default())
        .bind(request.call.name.clone())
        .bind(text)
        .bind(record.state.as_str())
        .bind(record.created_at)
        .bind(record.expires_at)
        .bind(i64::from(record.escalated))
        .bind(record.escalates_at)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    async fn insert_roles(&mut self, record: &Record) -> Result<(), StoreError> {
        let mut roles: Vec<&String> = Vec::new();
        for requirement in &record.request.requirements {
            let later = requirement.escalate.iter().flat_map(|escalate| &escalate.approvers);
            roles.extend(requirement.approvers.iter().chain(later));
        }
        roles.sort_unstable();
        roles.dedup();
        for role in roles {
            sqlx::query("INSERT INTO approver_roles (role, seq) VALUES ($1, $2)")
                .bind(role.clone())
                .bind(record.seq)
                .execute(self.connection())
                .await?;
        }
        Ok(())
    }
}

fn random_id() -> Result<String, StoreError> {
    let mut bytes = [0; ID_BYTES];
    getrandom::fill(&mut bytes).map_err(|_| StoreError::Corrupt("there is no randomness"))?;
    Ok(hex(&bytes))
}

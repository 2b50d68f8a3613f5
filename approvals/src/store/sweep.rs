//! What time does: approvals expire, and others are asked.

use super::record::{self, Record, Value};
use super::write::{Entry, Write};
use super::{Store, StoreError};
use crate::domain::{EventKind, State, UnixSeconds, is_met};

/// Approvals that one transaction changes, so that others get their turn.
const BATCH: usize = 100;

impl Store {
    /// Ends what has expired and asks others where the first have had their time. Returns how many
    /// there were: unless there were none, there may be more.
    pub(crate) async fn sweep(&self, now: UnixSeconds) -> Result<usize, StoreError> {
        let expired = self.sweep_each(now, Kind::Expiry).await?;
        let escalated = self.sweep_each(now, Kind::Escalation).await?;
        Ok(expired.saturating_add(escalated))
    }

    async fn sweep_each(&self, now: UnixSeconds, kind: Kind) -> Result<usize, StoreError> {
        let tail = match kind {
            Kind::Expiry => format!("WHERE state IN ('pending', 'approved') AND expires_at <= $1 LIMIT {BATCH}"),
            Kind::Escalation => format!("WHERE state = 'pending' AND escalates_at <= $1 LIMIT {BATCH}"),
        };
        let values = [Value::Number(now)];
        // Nearly always there is nothing to do, and no reason to take the lock.
        let due = record::select(&mut *self.pool.acquire().await?, &tail, &values).await?;
        if due.is_empty() {
            return Ok(0);
        }
        let mut write = self.write(now).await?;
        let due = record::select(write.connection(), &tail, &values).await?;
        let count = due.len();
        for mut record in due {
            match kind {
                Kind::Expiry => write.end_if_due(&mut record).await?,
                Kind::Escalation => write.escalate(&mut record).await?,
            }
        }
        write.commit().await?;
        Ok(count)
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Expiry,
    Escalation,
}

impl Write<'_> {
    /// What time entitles others to is said before they make use of it.
    pub(super) async fn escalate_if_due(&mut self, record: &mut Record) -> Result<(), StoreError> {
        let is_due = record.escalates_at.is_some_and(|at| at <= self.now());
        if record.state == State::Pending && is_due { self.escalate(record).await } else { Ok(()) }
    }

    async fn escalate(&mut self, record: &mut Record) -> Result<(), StoreError> {
        let now = self.now();
        let case = record.case();
        let asks_others = record.request.requirements.iter().enumerate().any(|(index, requirement)| {
            let escalates = requirement.escalate.as_ref();
            let at = escalates.map(|escalate| record.created_at.saturating_add(i64::from(escalate.after)));
            at.is_some_and(|at| at <= now) && !is_met(requirement, index, case.votes)
        });
        record.escalated |= asks_others;
        record.escalates_at = record.next_escalation(now);
        sqlx::query("UPDATE approvals SET escalated = $1, escalates_at = $2 WHERE seq = $3")
            .bind(i64::from(record.escalated))
            .bind(record.escalates_at)
            .bind(record.seq)
            .execute(self.connection())
            .await?;
        if asks_others {
            self.enter(record, EventKind::Escalated, Entry::default()).await?;
        }
        Ok(())
    }
}

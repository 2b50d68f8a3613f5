//! Letting a call through: once.

use super::gateway::Asker;
use super::record::{self, Record};
use super::write::{Entry, Write};
use super::{Store, StoreError, evidence};
use crate::domain::{EventKind, State, UnixSeconds};

/// Steps of one call: it is let through once, and goes on up to nine times.
const MAX_STEPS: i64 = 10;
/// Seconds after the call was let through in which it can go on.
const CONTINUES_FOR: i64 = 3600;
/// Seconds in which an answer that was lost can be asked for again.
const REPEATABLE_FOR: i64 = 60;

/// Why a call is not let through.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// There is no such approval, or the gateway may not know of it.
    NotFound,
    /// It was used.
    Used,
    /// It has not been approved.
    NotApproved,
    /// It has ended in this state.
    Ended(State),
}

impl Store {
    /// Lets the call through, or on. Of all that ask at once, one nonce gets it.
    pub(crate) async fn consume(
        &self,
        asker: Asker<'_>,
        id: &str,
        nonce: &str,
        step: i64,
        now: UnixSeconds,
    ) -> Result<Result<Record, Refusal>, StoreError> {
        let mut write = self.write(now).await?;
        let record = record::by_id(write.connection(), id).await?;
        let Some(mut record) = record.filter(|record| asker.may_see(record)) else {
            return Ok(Err(Refusal::NotFound));
        };
        write.end_if_due(&mut record).await?;
        let admission = admit(&record, nonce, step, now);
        if admission.is_ok() {
            write.prove(&record).await?;
        }
        let outcome = match admission {
            Ok(Admission::Again) => Ok(record),
            Ok(Admission::New) => write.take_step(record, nonce, step).await.map(Ok)?,
            Err(refusal) => Err(refusal),
        };
        write.commit().await?;
        Ok(outcome)
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Admission {
    New,
    Again,
}

fn admit(record: &Record, nonce: &str, step: i64, now: UnixSeconds) -> Result<Admission, Refusal> {
    match record.state {
        State::Pending => return Err(Refusal::NotApproved),
        State::Rejected | State::Expired | State::Cancelled => return Err(Refusal::Ended(record.state)),
        State::Approved | State::Consumed => {}
    }
    let same_nonce = record.consumption.as_ref().filter(|(last, _)| last == nonce);
    if let Some((_, at)) = same_nonce {
        let repeats = record.step == step.saturating_add(1) && now <= at.saturating_add(REPEATABLE_FOR);
        return if repeats { Ok(Admission::Again) } else { Err(Refusal::Used) };
    }
    let admitted = match (record.state, record.consumed_at) {
        (State::Approved, _) => step == 0 && record.step == 0,
        (State::Consumed, Some(consumed_at)) => {
            let in_time = now < consumed_at.saturating_add(CONTINUES_FOR);
            step >= 1 && record.step == step && step < MAX_STEPS && in_time
        }
        _ => false,
    };
    if admitted {
        Ok(Admission::New)
    } else if record.state == State::Approved {
        // A later step, and the first has not been taken.
        Err(Refusal::NotApproved)
    } else {
        Err(Refusal::Used)
    }
}

impl Write<'_> {
    /// Fails unless request, votes and consumptions are those of the history, and the votes carry the approval: a grant is
    /// signed for what people have decided, and not because a row says `approved`.
    async fn prove(&mut self, record: &Record) -> Result<(), StoreError> {
        let entries = evidence::entries(self.connection(), &record.id).await?;
        evidence::check(record, &entries).map_err(|problem| {
            tracing::error!(id = record.id, problem, "an approval is not what its history says");
            StoreError::Corrupt("an approval is not what its history says")
        })
    }

    async fn take_step(&mut self, mut record: Record, nonce: &str, step: i64) -> Result<Record, StoreError> {
        let now = self.now();
        let digest = Some(evidence::nonce_digest(nonce));
        let (event, entry) = if step == 0 {
            record.consumed_at = Some(now);
            (EventKind::Consumed, Entry { digest, ..Entry::default() })
        } else {
            (EventKind::Continued, Entry { step: Some(step), digest, ..Entry::default() })
        };
        record.state = State::Consumed;
        record.step = step.saturating_add(1);
        record.consumption = Some((nonce.to_owned(), now));
        // What was just read is stated again: a row that is not so is not consumed.
        let done = sqlx::query(
            "UPDATE approvals SET state = 'consumed', step = $1, nonce = $2, nonce_at = $3, consumed_at = $4 \
             WHERE seq = $5 AND step = $6 AND state IN ('approved', 'consumed')",
        )
        .bind(record.step)
        .bind(nonce.to_owned())
        .bind(now)
        .bind(record.consumed_at)
        .bind(record.seq)
        .bind(step)
        .execute(self.connection())
        .await?;
        if done.rows_affected() != 1 {
            return Err(StoreError::Corrupt("two have consumed at once"));
        }
        self.enter(&record, event, entry).await?;
        Ok(record)
    }
}

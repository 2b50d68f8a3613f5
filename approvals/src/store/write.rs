//! Transactions that change something.

use sqlx::{Any, AnyConnection, Row, Transaction};
use tokio::sync::MutexGuard;

use super::record::Record;
use super::{Store, StoreError, verify};
use crate::domain::{Actor, Choice, EventKind, HistoryEvent, State, UnixSeconds};

/// A transaction that changes something. It holds the head of the history: there is one at a time, in all processes.
#[derive(Debug)]
pub(super) struct Write<'a> {
    transaction: Transaction<'static, Any>,
    store: &'a Store,
    now: UnixSeconds,
    seq: i64,
    hash: String,
    events: Vec<EventKind>,
    _turn: MutexGuard<'a, ()>,
}

/// An entry to be added to the history.
#[derive(Clone, Debug, Default)]
pub(super) struct Entry {
    pub(super) by: Option<Actor>,
    pub(super) decision: Option<Choice>,
    pub(super) reason: Option<String>,
    pub(super) step: Option<i64>,
    pub(super) digest: Option<String>,
}

impl Store {
    /// Waits for its turn, and begins.
    pub(super) async fn write(&self, now: UnixSeconds) -> Result<Write<'_>, StoreError> {
        let turn = self.writer.lock().await;
        let mut transaction = self.pool.begin().await?;
        // The first statement writes, so that SQLite does not begin with a read that others overtake; it takes the lock
        // of the row in PostgreSQL.
        let head = sqlx::query("UPDATE history_head SET seq = seq WHERE id = 1 RETURNING seq, hash")
            .fetch_one(&mut *transaction)
            .await?;
        let (seq, hash) = (head.try_get("seq")?, head.try_get("hash")?);
        Ok(Write { transaction, store: self, now, seq, hash, events: Vec::new(), _turn: turn })
    }
}

impl Write<'_> {
    /// The time of the transaction.
    pub(super) const fn now(&self) -> UnixSeconds {
        self.now
    }

    /// The number that the next entry of the history will have.
    pub(super) const fn next_seq(&self) -> i64 {
        self.seq.saturating_add(1)
    }

    /// The connection, for statements of this transaction.
    pub(super) fn connection(&mut self) -> &mut AnyConnection {
        &mut self.transaction
    }

    /// Keeps everything. What is dropped without it never was.
    pub(super) async fn commit(mut self) -> Result<(), StoreError> {
        sqlx::query("UPDATE history_head SET seq = $1, hash = $2 WHERE id = 1")
            .bind(self.seq)
            .bind(self.hash)
            .execute(&mut *self.transaction)
            .await?;
        self.transaction.commit().await?;
        for event in self.events {
            self.store.metrics.event(event);
        }
        Ok(())
    }

    /// Adds an entry to the history, and the messages that webhooks get of it.
    pub(super) async fn enter(&mut self, record: &Record, event: EventKind, entry: Entry) -> Result<(), StoreError> {
        self.enter_about(&record.id, event, entry).await?;
        for (hook, body) in self.store.announcer.letters(event, record) {
            sqlx::query(
                "INSERT INTO outbox (seq, hook, body, created_at, attempts, next_at, dead) VALUES ($1, $2, $3, $4, 0, $5, 0)",
            )
            .bind(self.seq)
            .bind(hook)
            .bind(body)
            .bind(self.now)
            .bind(self.now)
            .execute(&mut *self.transaction)
            .await?;
        }
        Ok(())
    }

    /// Adds an entry to the history.
    pub(super) async fn enter_about(&mut self, id: &str, event: EventKind, entry: Entry) -> Result<(), StoreError> {
        let Entry { by, decision, reason, step, digest } = entry;
        let seq = self.next_seq();
        let kind = event;
        let approval_id = id.to_owned();
        let event = HistoryEvent { seq, at: self.now, event, approval_id, by, decision, reason, step, digest };
        let text = serde_json::to_string(&event).map_err(|_| StoreError::Corrupt("an entry cannot be written"))?;
        let hash = verify::link(&self.hash, &text);
        sqlx::query("INSERT INTO history (seq, approval_id, at, entry, hash) VALUES ($1, $2, $3, $4, $5)")
            .bind(seq)
            .bind(id.to_owned())
            .bind(self.now)
            .bind(text)
            .bind(hash.clone())
            .execute(&mut *self.transaction)
            .await?;
        (self.seq, self.hash) = (seq, hash);
        self.events.push(kind);
        Ok(())
    }

    /// Ends an approval, with its entry.
    pub(super) async fn end(&mut self, record: &mut Record, state: State, entry: Entry) -> Result<(), StoreError> {
        let event = match state {
            State::Approved => EventKind::Approved,
            State::Rejected => EventKind::Rejected,
            State::Expired => EventKind::Expired,
            State::Cancelled => EventKind::Cancelled,
            State::Pending | State::Consumed => return Err(StoreError::Corrupt("not an end")),
        };
        record.state = state;
        record.ended_at = Some(self.now);
        record.escalates_at = None;
        sqlx::query("UPDATE approvals SET state = $1, ended_at = $2, escalates_at = NULL WHERE seq = $3")
            .bind(state.as_str())
            .bind(self.now)
            .bind(record.seq)
            .execute(&mut *self.transaction)
            .await?;
        self.enter(record, event, entry).await
    }

    /// Ends an approval whose time has passed, if it has.
    pub(super) async fn end_if_due(&mut self, record: &mut Record) -> Result<(), StoreError> {
        if record.is_due(self.now) {
            self.end(record, State::Expired, Entry::default()).await?;
        }
        Ok(())
    }

    /// Notes that the gateway has been told how it ended.
    pub(super) async fn report(&mut self, record: &mut Record) -> Result<(), StoreError> {
        record.reported = true;
        sqlx::query("UPDATE approvals SET reported = 1 WHERE seq = $1")
            .bind(record.seq)
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }
}

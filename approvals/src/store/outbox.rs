//! Messages that wait to be sent, and those that nobody has taken.

use serde::Serialize;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

use super::{Store, StoreError};
use crate::domain::UnixSeconds;

/// Messages that are taken out at once.
const BATCH: i64 = 20;
/// Seconds for which whoever has taken a message out has it to themselves.
const CLAIMED_FOR: i64 = 60;
/// Seconds for which messages to a webhook that this process does not know are left to others: a day.
const UNKNOWN_FOR: i64 = 86_400;

/// Which message: the entry of the history that it tells of, and to whom.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct LetterKey {
    /// Number of the entry.
    pub seq: i64,
    /// Name of the webhook.
    pub hook: String,
}

/// A message.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Letter {
    /// Which.
    #[serde(flatten)]
    pub key: LetterKey,
    /// The payload.
    #[serde(skip)]
    pub body: String,
    /// When it was written.
    pub created_at: UnixSeconds,
    /// How often it was tried.
    pub attempts: i64,
    /// What went wrong the last time.
    pub problem: Option<String>,
}

impl Letter {
    fn read(row: &AnyRow) -> Result<Self, StoreError> {
        Ok(Self {
            key: LetterKey { seq: row.try_get("seq")?, hook: row.try_get("hook")? },
            body: row.try_get("body")?,
            created_at: row.try_get("created_at")?,
            attempts: row.try_get("attempts")?,
            problem: row.try_get("problem")?,
        })
    }
}

/// Messages that wait, and dead letters.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Backlog {
    pub(crate) waiting: i64,
    pub(crate) dead: i64,
}

impl Store {
    /// Takes out messages to a webhook that are due. Each goes to one sender, which has a minute.
    pub(crate) async fn claim_letters(&self, hook: &str, now: UnixSeconds) -> Result<Vec<Letter>, StoreError> {
        let due = "SELECT seq, hook, body, created_at, attempts, problem, next_at FROM outbox \
                   WHERE hook = $1 AND dead = 0 AND next_at <= $2 ORDER BY next_at, seq LIMIT $3";
        let rows = sqlx::query(due).bind(hook.to_owned()).bind(now).bind(BATCH).fetch_all(&self.pool).await?;
        let mut letters = Vec::new();
        for row in &rows {
            let mut letter = Letter::read(row)?;
            let _turn = self.writer.lock().await;
            let claimed = sqlx::query(
                "UPDATE outbox SET next_at = $1, attempts = attempts + 1 \
                 WHERE seq = $2 AND hook = $3 AND next_at = $4 AND attempts = $5 AND dead = 0",
            )
            .bind(now.saturating_add(CLAIMED_FOR))
            .bind(letter.key.seq)
            .bind(letter.key.hook.clone())
            .bind(row.try_get::<i64, _>("next_at")?)
            .bind(letter.attempts)
            .execute(&self.pool)
            .await?;
            if claimed.rows_affected() == 1 {
                letter.attempts = letter.attempts.saturating_add(1);
                letters.push(letter);
            }
        }
        Ok(letters)
    }

    /// Forgets a message that was taken.
    pub(crate) async fn letter_sent(&self, key: &LetterKey) -> Result<(), StoreError> {
        let _turn = self.writer.lock().await;
        sqlx::query("DELETE FROM outbox WHERE seq = $1 AND hook = $2")
            .bind(key.seq)
            .bind(key.hook.clone())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Keeps a message that was not taken: for `next_at`, or as a dead letter.
    pub(crate) async fn letter_failed(
        &self,
        key: &LetterKey,
        problem: &str,
        next_at: Option<UnixSeconds>,
    ) -> Result<(), StoreError> {
        let _turn = self.writer.lock().await;
        sqlx::query(
            "UPDATE outbox SET problem = $1, dead = $2, next_at = COALESCE($3, next_at) WHERE seq = $4 AND hook = $5",
        )
        .bind(problem.to_owned())
        .bind(i64::from(next_at.is_none()))
        .bind(next_at)
        .bind(key.seq)
        .bind(key.hook.clone())
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Makes dead letters of messages to other webhooks than these that nobody has tried to send for a day: another
    /// process, with a newer configuration, may know theirs. Returns how many.
    pub(crate) async fn bury_letters(&self, hooks: &[&str], now: UnixSeconds) -> Result<u64, StoreError> {
        let places: Vec<String> = (2..).take(hooks.len()).map(|place| format!(" AND hook <> ${place}")).collect();
        let text = format!(
            "UPDATE outbox SET dead = 1, problem = 'the webhook is not configured any more' \
             WHERE dead = 0 AND next_at <= $1{}",
            places.concat()
        );
        let mut query = sqlx::query(AssertSqlSafe(text)).bind(now.saturating_sub(UNKNOWN_FOR));
        for hook in hooks {
            query = query.bind((*hook).to_owned());
        }
        let _turn = self.writer.lock().await;
        Ok(query.execute(&self.pool).await?.rows_affected())
    }

    /// Messages that nobody has taken and that are not tried any more, oldest first; up to `limit`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn dead_letters(&self, limit: i64) -> Result<Vec<Letter>, StoreError> {
        let dead =
            "SELECT seq, hook, body, created_at, attempts, problem FROM outbox WHERE dead = 1 ORDER BY seq LIMIT $1";
        let rows = sqlx::query(dead).bind(limit).fetch_all(&self.pool).await?;
        rows.iter().map(Letter::read).collect()
    }

    /// Lets dead letters be tried again. Returns how many.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn retry_dead_letters(&self, now: UnixSeconds) -> Result<u64, StoreError> {
        let _turn = self.writer.lock().await;
        let done = sqlx::query("UPDATE outbox SET dead = 0, attempts = 0, next_at = $1 WHERE dead = 1")
            .bind(now)
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected())
    }

    pub(crate) async fn backlog(&self) -> Result<Backlog, StoreError> {
        let count = "SELECT COUNT(*) FROM outbox WHERE dead = $1";
        let waiting = sqlx::query_scalar(count).bind(0_i64).fetch_one(&self.reads).await?;
        let dead = sqlx::query_scalar(count).bind(1_i64).fetch_one(&self.reads).await?;
        Ok(Backlog { waiting, dead })
    }

    /// Approvals that wait for people.
    pub(crate) async fn pending(&self) -> Result<i64, StoreError> {
        let count = "SELECT COUNT(*) FROM approvals WHERE state = 'pending'";
        Ok(sqlx::query_scalar(count).fetch_one(&self.reads).await?)
    }
}

//! Deleting what has been kept long enough.

use sqlx::Row;

use super::write::Entry;
use super::{Store, StoreError};
use crate::domain::{EventKind, UnixSeconds};

/// Rows that one transaction deletes, so that others get their turn.
const BATCH: i64 = 1000;

impl Store {
    /// Deletes approvals that ended before `before`, entries of the history that are older, and messages that nobody
    /// has taken since. Returns whether there may be more.
    pub(crate) async fn prune(&self, before: UnixSeconds, now: UnixSeconds) -> Result<bool, StoreError> {
        let approvals = self.prune_approvals(before, now).await?;
        let history = self.prune_history(before, now).await?;
        Ok(approvals || history)
    }

    async fn prune_approvals(&self, before: UnixSeconds, now: UnixSeconds) -> Result<bool, StoreError> {
        let old = "SELECT seq FROM approvals WHERE COALESCE(consumed_at, ended_at) < $1 ORDER BY seq LIMIT $2";
        let seqs: Vec<i64> = sqlx::query_scalar(old).bind(before).bind(BATCH).fetch_all(&self.pool).await?;
        let mut write = self.write(now).await?;
        for seq in &seqs {
            sqlx::query("DELETE FROM approvals WHERE seq = $1").bind(*seq).execute(write.connection()).await?;
        }
        sqlx::query("DELETE FROM outbox WHERE created_at < $1").bind(before).execute(write.connection()).await?;
        write.commit().await?;
        Ok(i64::try_from(seqs.len()) == Ok(BATCH))
    }

    async fn prune_history(&self, before: UnixSeconds, now: UnixSeconds) -> Result<bool, StoreError> {
        let mut write = self.write(now).await?;
        // The oldest entries up to the first that is not old: the chain loses its beginning, and nothing in between.
        let last_old = sqlx::query(
            "SELECT seq, hash FROM history WHERE at < $1 AND seq < COALESCE((SELECT MIN(seq) FROM history WHERE at >= $2), \
             (SELECT seq FROM history_head WHERE id = 1)) \
             AND seq <= (SELECT base_seq FROM history_head WHERE id = 1) + $3 ORDER BY seq DESC LIMIT 1",
        )
        .bind(before)
        .bind(before)
        .bind(BATCH)
        .fetch_optional(write.connection())
        .await?;
        let Some(last_old) = last_old else { return Ok(false) };
        let (seq, hash): (i64, String) = (last_old.try_get("seq")?, last_old.try_get("hash")?);
        let base: i64 =
            sqlx::query_scalar("SELECT base_seq FROM history_head WHERE id = 1").fetch_one(write.connection()).await?;
        sqlx::query("UPDATE history_head SET base_seq = $1, base_hash = $2 WHERE id = 1")
            .bind(seq)
            .bind(hash)
            .execute(write.connection())
            .await?;
        sqlx::query("DELETE FROM history WHERE seq <= $1").bind(seq).execute(write.connection()).await?;
        write.enter_about("", EventKind::Pruned, Entry { step: Some(seq), ..Entry::default() }).await?;
        write.commit().await?;
        Ok(seq.saturating_sub(base) >= BATCH)
    }
}

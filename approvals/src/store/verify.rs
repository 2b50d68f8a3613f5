//! Whether the history is whole, and whether approvals stand where it says.

use std::collections::{BTreeMap, BTreeSet};

use hmac_sha256::Hash;
use serde::Serialize;
use sqlx::Row;

use super::{Store, StoreError, evidence, record};
use crate::domain::{EventKind, HistoryEvent, State};

/// Entries that are read at once.
const BATCH: i64 = 1000;
/// Problems that are listed; all are counted.
const MAX_PROBLEMS: usize = 100;

/// An entry of the history and its hash, which stands for all entries up to it. Kept elsewhere, it shows whether the
/// history was written anew.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Head {
    /// Number of the entry.
    pub seq: i64,
    /// Its hash, in hexadecimal.
    pub hash: String,
}

/// What was found.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct HistoryReport {
    /// Entries that are kept.
    pub entries: u64,
    /// The entry before the first that is kept; 0: there is none before.
    pub base: Head,
    /// The last entry.
    pub head: Head,
    /// How many problems there are.
    pub problem_count: u64,
    /// The first of them, in words.
    pub problems: Vec<String>,
}

/// The hash of an entry: over the hash before it and its text.
pub(super) fn link(previous: &str, entry: &str) -> String {
    let mut hash = Hash::new();
    for part in [previous, entry] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hex(&hash.finalize())
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Store {
    /// The number of the last entry.
    pub(crate) async fn head_seq(&self) -> Result<i64, StoreError> {
        Ok(sqlx::query_scalar("SELECT seq FROM history_head WHERE id = 1").fetch_one(&self.pool).await?)
    }

    /// Approvals that entries after `seq` are about, in order, with the number of the last entry of them.
    pub(crate) async fn changed_since(&self, seq: i64) -> Result<(Vec<String>, i64), StoreError> {
        let rows = sqlx::query("SELECT seq, approval_id FROM history WHERE seq > $1 ORDER BY seq LIMIT $2")
            .bind(seq)
            .bind(BATCH)
            .fetch_all(&self.pool)
            .await?;
        let last = rows.last().map_or(Ok(seq), |row| row.try_get("seq"))?;
        let ids = rows.iter().map(|row| row.try_get("approval_id")).collect::<Result<Vec<_>, _>>()?;
        Ok((ids, last))
    }

    /// Checks every entry, and every approval against its entries. With `known`, also that the history still goes
    /// through an entry that was noted down before.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn verify_history(&self, known: Option<&Head>) -> Result<HistoryReport, StoreError> {
        let row = sqlx::query("SELECT seq, hash, base_seq, base_hash FROM history_head WHERE id = 1")
            .fetch_one(&self.pool)
            .await?;
        let base = Head { seq: row.try_get("base_seq")?, hash: row.try_get("base_hash")? };
        let end = Head { seq: row.try_get("seq")?, hash: row.try_get("hash")? };
        let mut check = Check::new(base, known);
        while check.head.seq < end.seq {
            let rows = sqlx::query(
                "SELECT seq, approval_id, at, entry, hash FROM history WHERE seq > $1 ORDER BY seq LIMIT $2",
            )
            .bind(check.head.seq)
            .bind(BATCH)
            .fetch_all(&self.pool)
            .await?;
            if rows.is_empty() {
                break;
            }
            for row in &rows {
                let (seq, at): (i64, i64) = (row.try_get("seq")?, row.try_get("at")?);
                let (id, entry, hash): (String, String, String) =
                    (row.try_get("approval_id")?, row.try_get("entry")?, row.try_get("hash")?);
                if seq <= end.seq {
                    check.entry(seq, at, &id, &entry, hash);
                } else {
                    check.head.seq = seq;
                }
            }
        }
        check.finish_chain(&end, known);
        self.check_states(&mut check).await?;
        let Check { base, entries, problem_count, problems, .. } = check;
        Ok(HistoryReport { entries, base, head: end, problem_count, problems })
    }

    /// Approvals that have changed since the head was read are left out.
    async fn check_states(&self, check: &mut Check) -> Result<(), StoreError> {
        let states = std::mem::take(&mut check.states);
        for id in states.keys() {
            let mut connection = self.pool.acquire().await?;
            let Some(record) = record::by_id(&mut connection, id).await? else { continue };
            // Its first entries have been kept long enough.
            if record.seq <= check.base.seq {
                continue;
            }
            let mut entries = evidence::entries(&mut connection, id).await?;
            drop(connection);
            entries.retain(|entry| entry.seq <= check.last_entry);
            let Err(problem) = evidence::check(&record, &entries) else { continue };
            let later: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM history WHERE approval_id = $1 AND seq > $2")
                .bind(id.clone())
                .bind(check.last_entry)
                .fetch_one(&self.pool)
                .await?;
            if later == 0 {
                check.problem(format!("approval {id}: {problem}"));
            }
        }
        let strangers: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM approvals WHERE NOT EXISTS \
             (SELECT 1 FROM history WHERE history.approval_id = approvals.id)",
        )
        .fetch_one(&self.pool)
        .await?;
        if strangers > 0 {
            check.problem(format!("{strangers} approvals have no history"));
        }
        Ok(())
    }
}

/// A walk through the history.
#[derive(Debug)]
struct Check {
    base: Head,
    head: Head,
    last_entry: i64,
    entries: u64,
    states: BTreeMap<String, State>,
    /// Approvals whose first entries are not kept.
    cut: BTreeSet<String>,
    /// The last entry that `pruned` says was deleted.
    pruned: Option<i64>,
    known_found: bool,
    known: Option<Head>,
    problem_count: u64,
    problems: Vec<String>,
}

impl Check {
    fn new(base: Head, known: Option<&Head>) -> Self {
        let known = known.cloned();
        Self {
            head: base.clone(),
            last_entry: base.seq,
            known_found: known.as_ref() == Some(&base),
            base,
            entries: 0,
            states: BTreeMap::new(),
            cut: BTreeSet::new(),
            pruned: None,
            known,
            problem_count: 0,
            problems: Vec::new(),
        }
    }

    fn problem(&mut self, problem: String) {
        self.problem_count = self.problem_count.saturating_add(1);
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem);
        }
    }

    fn entry(&mut self, seq: i64, at: i64, id: &str, entry: &str, hash: String) {
        self.entries = self.entries.saturating_add(1);
        if seq != self.head.seq.saturating_add(1) {
            self.problem(format!("entries are missing before {seq}"));
        }
        if link(&self.head.hash, entry) != hash {
            self.problem(format!("entry {seq} does not follow from the one before it"));
        }
        match serde_json::from_str::<HistoryEvent>(entry) {
            Ok(event) if event.seq == seq && event.at == at && event.approval_id == id => {
                self.follow(event);
            }
            _ => self.problem(format!("entry {seq} says something else than its row")),
        }
        self.head = Head { seq, hash };
        self.last_entry = seq;
        self.known_found |= self.known.as_ref() == Some(&self.head);
    }

    fn follow(&mut self, event: HistoryEvent) {
        let HistoryEvent { seq, event, approval_id, step, .. } = event;
        if event == EventKind::Pruned {
            self.pruned = step;
            return;
        }
        let before = self.states.get(&approval_id).copied();
        if before.is_none() && event != EventKind::Created && self.base.seq > 0 {
            // Its first entries are not kept any more: where it stood is not known.
            self.cut.insert(approval_id);
            return;
        }
        if self.cut.contains(&approval_id) {
            return;
        }
        match evidence::follow(before, event) {
            Ok(Some(state)) => drop(self.states.insert(approval_id, state)),
            _ => self.problem(format!("entry {seq}: {} cannot follow", event.as_str())),
        }
    }

    fn finish_chain(&mut self, end: &Head, known: Option<&Head>) {
        if self.last_entry != end.seq || (self.head.seq == end.seq && self.head.hash != end.hash) {
            self.problem(format!("the history ends at {} and should end at {}", self.last_entry, end.seq));
        }
        if self.base.seq > 0 && self.pruned != Some(self.base.seq) {
            self.problem(format!("entries up to {} were deleted, and the history does not say so", self.base.seq));
        }
        if let Some(known) = known
            && !self.known_found
        {
            let problem = if known.seq < self.base.seq { "was deleted since" } else { "is not in the history" };
            self.problem(format!("entry {} with the hash given {problem}", known.seq));
        }
    }
}

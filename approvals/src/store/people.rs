//! What people see and do.

use sqlx::Row;

use super::record::{self, Record, Value};
use super::write::{Entry, Write};
use super::{Store, StoreError, evidence};
use crate::domain::{
    self, Actor, Ballot, EventKind, Filter, HistoryEvent, MAX_PAGE, Person, State, UnixSeconds, Vote, VoteRefusal,
};

/// Roles of one person that are looked at.
const MAX_ROLES: usize = 256;
/// Entries of one approval's history that are shown.
const MAX_HISTORY: i64 = 500;

impl Store {
    /// Approvals that the person may see, newest first.
    pub(crate) async fn list(&self, person: &Person, filter: &Filter) -> Result<Vec<Record>, StoreError> {
        let (tail, values) = listing(person, filter);
        record::select(&mut *self.reads.acquire().await?, &tail, &values).await
    }

    /// The approval with this id.
    pub(crate) async fn find(&self, id: &str) -> Result<Option<Record>, StoreError> {
        record::by_id(&mut *self.reads.acquire().await?, id).await
    }

    /// Counts a vote. Whether the person may know of the approval has been asked before.
    pub(crate) async fn vote(
        &self,
        person: &Person,
        id: &str,
        ballot: &Ballot,
        now: UnixSeconds,
    ) -> Result<Result<Record, VoteRefusal>, StoreError> {
        let mut write = self.write(now).await?;
        let Some(mut record) = record::by_id(write.connection(), id).await? else {
            return Ok(Err(VoteRefusal::NotFound));
        };
        write.end_if_due(&mut record).await?;
        write.escalate_if_due(&mut record).await?;
        let outcome = match domain::decide(record.case(), person, ballot, now) {
            Ok((vote, state)) => Ok(write.count(record, vote, state).await?),
            Err(refusal) => Err(refusal),
        };
        write.commit().await?;
        Ok(outcome)
    }

    /// What has happened to an approval, oldest first.
    pub(crate) async fn history_of(&self, id: &str) -> Result<Vec<HistoryEvent>, StoreError> {
        let rows = sqlx::query("SELECT entry FROM history WHERE approval_id = $1 ORDER BY seq LIMIT $2")
            .bind(id.to_owned())
            .bind(MAX_HISTORY)
            .fetch_all(&self.reads)
            .await?;
        let read = |row: &sqlx::any::AnyRow| {
            let entry: String = row.try_get("entry")?;
            serde_json::from_str(&entry).map_err(|_| StoreError::Corrupt("an entry of the history cannot be read"))
        };
        rows.iter().map(read).collect()
    }
}

impl Write<'_> {
    async fn count(&mut self, mut record: Record, vote: Vote, state: State) -> Result<Record, StoreError> {
        let unwritable = |_| StoreError::Corrupt("a vote cannot be written");
        sqlx::query(
            "INSERT INTO votes (seq, issuer, subject, name, choice, reason, roles, requirements, at, number) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(record.seq)
        .bind(vote.issuer.clone())
        .bind(vote.subject.clone())
        .bind(vote.name.clone())
        .bind(vote.choice.as_str())
        .bind(vote.reason.clone())
        .bind(serde_json::to_string(&vote.entitlement.roles).map_err(unwritable)?)
        .bind(serde_json::to_string(&vote.entitlement.requirements).map_err(unwritable)?)
        .bind(vote.at)
        .bind(self.next_seq())
        .execute(self.connection())
        .await?;
        let entry = Entry {
            by: Some(Actor { iss: vote.issuer.clone(), sub: vote.subject.clone() }),
            decision: Some(vote.choice),
            reason: vote.reason.clone(),
            step: None,
            digest: Some(evidence::vote_digest(&vote)?),
        };
        record.votes.push(vote);
        self.enter(&record, EventKind::Voted, entry).await?;
        if state != State::Pending {
            self.end(&mut record, state, Entry::default()).await?;
        }
        Ok(record)
    }
}

/// What follows `FROM approvals`, and the values of its placeholders.
fn listing<'a>(person: &'a Person, filter: &'a Filter) -> (String, Vec<Value<'a>>) {
    let mut values = Vec::new();
    let mut place = |value: Value<'a>| {
        values.push(value);
        format!("${}", values.len())
    };
    let issuer = place(Value::Text(&person.issuer));
    let subject = place(Value::Text(&person.subject));
    let mut seen_by = format!("(requester_subject = {subject} AND requester_issuer = {issuer})");
    let roles: Vec<String> = person.roles.iter().take(MAX_ROLES).map(|role| place(Value::Text(role))).collect();
    if !roles.is_empty() {
        let roles = roles.join(", ");
        let has_role =
            format!("EXISTS (SELECT 1 FROM approver_roles r WHERE r.seq = approvals.seq AND r.role IN ({roles}))");
        seen_by = format!("({seen_by} OR {has_role})");
    }
    let mut conditions = vec![seen_by];
    if !filter.states.is_empty() {
        let states: Vec<String> = filter.states.iter().map(|state| place(Value::Text(state.as_str()))).collect();
        conditions.push(format!("state IN ({})", states.join(", ")));
    }
    if let Some(tool) = &filter.tool {
        conditions.push(format!("target = {}", place(Value::Text(tool))));
    }
    if let Some(requester) = &filter.requester {
        conditions.push(format!("requester_subject = {}", place(Value::Text(requester))));
    }
    if let Some(before) = filter.before {
        conditions.push(format!("seq < {}", place(Value::Number(before))));
    }
    let limit = if filter.limit == 0 { MAX_PAGE } else { filter.limit.min(MAX_PAGE) };
    (format!("WHERE {} ORDER BY seq DESC LIMIT {limit}", conditions.join(" AND ")), values)
}

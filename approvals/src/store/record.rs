//! An approval as it is kept.

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::StoreError;
use crate::domain::{Case, Choice, Entitlement, Request, State, UnixSeconds, Vote};

/// The columns that [`Record`] is read from.
pub(super) const COLUMNS: &str = "seq, id, gateway, request, state, created_at, expires_at, ended_at, consumed_at, \
                                  escalated, escalates_at, step, nonce, nonce_at, reported";

/// An approval as it is kept.
#[derive(Clone, Debug)]
pub struct Record {
    /// Where it stands among all; larger is newer. It is the number of its first entry of the history.
    pub seq: i64,
    /// Its id: 32 hexadecimal digits, at random.
    pub id: String,
    /// Name of the gateway that asked.
    pub gateway: String,
    /// What was asked for.
    pub request: Request,
    /// Where it stands.
    pub state: State,
    /// When it was made.
    pub created_at: UnixSeconds,
    /// When it ends.
    pub expires_at: UnixSeconds,
    /// When it left `pending`, or `approved` other than by consumption.
    pub ended_at: Option<UnixSeconds>,
    /// When the call was let through.
    pub consumed_at: Option<UnixSeconds>,
    /// Whether others were asked too.
    pub escalated: bool,
    /// When others are to be asked next.
    pub escalates_at: Option<UnixSeconds>,
    /// The step that may be consumed next.
    pub step: i64,
    /// The nonce of the last consumption, and its time.
    pub consumption: Option<(String, UnixSeconds)>,
    /// Whether the gateway has been told how it ended.
    pub reported: bool,
    /// Votes, oldest first.
    pub votes: Vec<Vote>,
}

impl Record {
    /// What decides.
    #[must_use]
    pub fn case(&self) -> Case<'_> {
        let Self { request, state, created_at, expires_at, votes, .. } = self;
        Case { request, state: *state, created_at: *created_at, expires_at: *expires_at, votes }
    }

    /// Whether its time has passed without anybody having taken note of it.
    #[must_use]
    pub fn is_due(&self, now: UnixSeconds) -> bool {
        self.state.is_open() && now >= self.expires_at
    }

    /// When others are to be asked next, after `now`.
    pub(super) fn next_escalation(&self, now: UnixSeconds) -> Option<UnixSeconds> {
        let escalations = self.request.requirements.iter().filter_map(|requirement| requirement.escalate.as_ref());
        let times = escalations.map(|escalate| self.created_at.saturating_add(i64::from(escalate.after)));
        times.filter(|time| *time > now).min()
    }

    fn read(row: &AnyRow) -> Result<Self, StoreError> {
        let request: String = row.try_get("request")?;
        let state: String = row.try_get("state")?;
        let nonce: Option<String> = row.try_get("nonce")?;
        let nonce_at: Option<i64> = row.try_get("nonce_at")?;
        Ok(Self {
            seq: row.try_get("seq")?,
            id: row.try_get("id")?,
            gateway: row.try_get("gateway")?,
            request: serde_json::from_str(&request).map_err(|_| StoreError::Corrupt("a request cannot be read"))?,
            state: State::parse(&state).ok_or(StoreError::Corrupt("a state cannot be read"))?,
            created_at: row.try_get("created_at")?,
            expires_at: row.try_get("expires_at")?,
            ended_at: row.try_get("ended_at")?,
            consumed_at: row.try_get("consumed_at")?,
            escalated: row.try_get::<i64, _>("escalated")? != 0,
            escalates_at: row.try_get("escalates_at")?,
            step: row.try_get("step")?,
            consumption: nonce.zip(nonce_at),
            reported: row.try_get::<i64, _>("reported")? != 0,
            votes: Vec::new(),
        })
    }
}

/// Reads records with their votes. `tail` is what follows `FROM approvals`; it holds placeholders and no values.
pub(super) async fn select(
    connection: &mut AnyConnection,
    tail: &str,
    values: &[Value<'_>],
) -> Result<Vec<Record>, StoreError> {
    // PostgreSQL has no text with NUL in it, so no row has: it is not there, rather than an error.
    if values.iter().any(|value| matches!(value, Value::Text(text) if text.contains('\0'))) {
        return Ok(Vec::new());
    }
    let mut query = sqlx::query(AssertSqlSafe(format!("SELECT {COLUMNS} FROM approvals {tail}")));
    for value in values {
        query = match *value {
            Value::Text(text) => query.bind(text.to_owned()),
            Value::Number(number) => query.bind(number),
        };
    }
    let rows = query.fetch_all(&mut *connection).await?;
    let mut records = rows.iter().map(Record::read).collect::<Result<Vec<_>, _>>()?;
    read_votes(connection, &mut records).await?;
    Ok(records)
}

/// The record with this id.
pub(super) async fn by_id(connection: &mut AnyConnection, id: &str) -> Result<Option<Record>, StoreError> {
    Ok(select(connection, "WHERE id = $1", &[Value::Text(id)]).await?.pop())
}

/// A value for a placeholder.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Text(&'a str),
    Number(i64),
}

async fn read_votes(connection: &mut AnyConnection, records: &mut [Record]) -> Result<(), StoreError> {
    if records.is_empty() {
        return Ok(());
    }
    // Numbers that the database has just given: nothing of it comes from outside.
    let list = records.iter().map(|record| record.seq.to_string()).collect::<Vec<_>>().join(", ");
    let text = format!(
        "SELECT seq, issuer, subject, name, choice, reason, roles, requirements, at FROM votes WHERE seq IN ({list}) \
         ORDER BY number"
    );
    for row in sqlx::query(AssertSqlSafe(text)).fetch_all(connection).await? {
        let seq: i64 = row.try_get("seq")?;
        let vote = read_vote(&row)?;
        if let Some(record) = records.iter_mut().find(|record| record.seq == seq) {
            record.votes.push(vote);
        }
    }
    Ok(())
}

fn read_vote(row: &AnyRow) -> Result<Vote, StoreError> {
    let unreadable = |_| StoreError::Corrupt("a vote cannot be read");
    let choice: String = row.try_get("choice")?;
    let choice = [Choice::Approve, Choice::Reject].into_iter().find(|one| one.as_str() == choice);
    Ok(Vote {
        issuer: row.try_get("issuer")?,
        subject: row.try_get("subject")?,
        name: row.try_get("name")?,
        choice: choice.ok_or(StoreError::Corrupt("a vote cannot be read"))?,
        reason: row.try_get("reason")?,
        entitlement: Entitlement {
            roles: serde_json::from_str(&row.try_get::<String, _>("roles")?).map_err(unreadable)?,
            requirements: serde_json::from_str(&row.try_get::<String, _>("requirements")?).map_err(unreadable)?,
        },
        at: row.try_get("at")?,
    })
}

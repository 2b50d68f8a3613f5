//! Approvals as the service's API for approvers has them: approvals/openapi.yaml. What is not needed is skipped.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

/// A page of approvals.
#[derive(Debug, Deserialize)]
pub(super) struct Inbox<'a> {
    /// Each a [`View`].
    #[serde(borrow)]
    pub(super) approvals: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    next: Option<&'a RawValue>,
}

impl Inbox<'_> {
    /// Where the next page begins: a number, or a text.
    pub(super) fn next(&self) -> Option<String> {
        let next = self.next?.get();
        serde_json::from_str::<String>(next).ok().or_else(|| next.parse::<i64>().ok().map(|_| next.to_owned()))
    }
}

/// An approval.
#[derive(Debug, Deserialize)]
pub(super) struct View {
    pub(super) id: String,
    pub(super) state: String,
    pub(super) audience: String,
    pub(super) decision_id: String,
    pub(super) requester: Requester,
    pub(super) call: Call,
    pub(super) requirements: Vec<Requirement>,
    pub(super) reason_required: bool,
    pub(super) created_at: i64,
    pub(super) expires_at: i64,
    #[serde(default)]
    pub(super) escalated: bool,
    #[serde(default)]
    pub(super) escalated_from: Option<String>,
    pub(super) votes: Vec<Vote>,
    pub(super) may_decide: bool,
    #[serde(default)]
    pub(super) why_not: Option<String>,
    #[serde(default)]
    pub(super) history: Vec<Event>,
}

/// Who wants to make the call.
#[derive(Debug, Deserialize)]
pub(super) struct Requester {
    pub(super) issuer: String,
    pub(super) subject: String,
    #[serde(default)]
    pub(super) client_id: Option<String>,
    #[serde(default)]
    pub(super) agent: Option<String>,
    #[serde(default)]
    pub(super) tenant: Option<String>,
    #[serde(default)]
    pub(super) roles: Vec<String>,
    #[serde(default)]
    pub(super) actors: Vec<String>,
}

/// The call.
#[derive(Debug, Deserialize)]
pub(super) struct Call {
    pub(super) method: String,
    pub(super) kind: String,
    pub(super) name: String,
    /// Values as they were written: nobody should approve a rounded number.
    #[serde(default)]
    pub(super) arguments: BTreeMap<String, Box<RawValue>>,
    #[serde(default)]
    pub(super) withheld: bool,
    #[serde(default)]
    pub(super) purpose: Option<String>,
}

/// What has to be met.
#[derive(Debug, Deserialize)]
pub(super) struct Requirement {
    pub(super) gate: String,
    pub(super) name: String,
    pub(super) approvers: Vec<String>,
    pub(super) count: u32,
    #[serde(default)]
    pub(super) met: u32,
    #[serde(default)]
    pub(super) escalate: Option<Escalate>,
}

/// Who else may approve, after that many seconds.
#[derive(Debug, Deserialize)]
pub(super) struct Escalate {
    pub(super) after: i64,
    pub(super) approvers: Vec<String>,
}

/// What a person has said.
#[derive(Debug, Deserialize)]
pub(super) struct Vote {
    pub(super) sub: String,
    #[serde(default)]
    pub(super) name: Option<String>,
    pub(super) decision: String,
    #[serde(default)]
    pub(super) reason: Option<String>,
    #[serde(default)]
    pub(super) roles: Vec<String>,
    pub(super) at: i64,
}

/// What has happened.
#[derive(Debug, Deserialize)]
pub(super) struct Event {
    pub(super) at: i64,
    pub(super) event: String,
    #[serde(default)]
    pub(super) by: Option<Actor>,
}

/// Who did it.
#[derive(Debug, Deserialize)]
pub(super) struct Actor {
    pub(super) sub: String,
}

//! The report. Its JSON form is stable: members are added, never changed or taken away; times are RFC 3339 in UTC.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::replay::{Counts, Span};

/// Version of the JSON form.
pub const VERSION: u32 = 1;

/// Who used what they may.
#[derive(Debug, Serialize)]
pub struct Report {
    /// [`VERSION`].
    pub version: u32,
    /// SHA-256 of the policy, in hexadecimal.
    pub policy: String,
    /// From when to when there are requests; absent if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub span: Option<Span>,
    /// Requests by what this policy would have decided; those of other policies may differ.
    pub requests: Counts,
    /// Requests that rules allowed.
    pub allowed: u64,
    /// Requests that rules denied.
    pub denied: u64,
    /// Operator roles, agent roles and clients, each kind in the order of names.
    pub parties: Vec<Party>,
    /// Calls that were denied, those first that were made again most often.
    pub retries: Vec<Retry>,
    /// Denied calls that are not among them, because there are too many callers or groups.
    pub retries_not_listed: u64,
    /// Calls over time.
    pub timeline: Timeline,
    /// A smaller policy.
    pub proposal: Proposal,
}

/// What a party is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PartyKind {
    /// An operator role: people.
    Operator,
    /// An agent role.
    Agent,
    /// A client: what its registration and its consent let it do.
    Client,
}

impl PartyKind {
    /// The name for people.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Operator => "Operator role",
            Self::Agent => "Agent role",
            Self::Client => "Client",
        }
    }
}

/// What one party may do, and did.
#[derive(Debug, Serialize)]
pub struct Party {
    /// What it is.
    pub kind: PartyKind,
    /// Its name in the policy.
    pub name: String,
    /// Whether it has scopes of its own. A client without is limited by the other sides only.
    pub is_limited: bool,
    /// Allowed requests that it took part in.
    pub allowed: u64,
    /// Denied requests that it took part in.
    pub denied: u64,
    /// Scopes that it has or that were needed for what it did, by name.
    pub scopes: BTreeMap<String, Right>,
    /// Targets of rules that its scopes suffice for, or that it called.
    pub targets: Vec<TargetRight>,
}

/// A right, and its use.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Right {
    /// Whether the party has it. If not, another policy allowed its use.
    pub granted: bool,
    /// How it was used; absent if it never was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used: Option<Use>,
}

/// How often and when something was used.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Use {
    /// How often.
    pub count: u64,
    /// First time.
    pub first: String,
    /// Last time.
    pub last: String,
}

/// The right to a target of a rule.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct TargetRight {
    /// What the rule names.
    #[serde(flatten)]
    pub target: RuleTarget,
    /// The right, and its use.
    #[serde(flatten)]
    pub right: Right,
}

/// What a rule names.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct RuleTarget {
    /// The rule: its place in the list of the policy, from 0.
    pub rule: usize,
    /// `tool`, `resource` or `prompt`.
    pub kind: &'static str,
    /// The name or pattern, as the policy has it.
    pub name: String,
}

/// Calls that were denied, and whether they were made again.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Retry {
    /// Who called what.
    #[serde(flatten)]
    pub group: RetryGroup,
    /// How many callers.
    pub callers: u64,
    /// Denied calls.
    pub denied: u64,
    /// Calls by the same caller of the same target after a denial, up to the first one that was allowed.
    pub retried: u64,
    /// Callers that were allowed later.
    pub allowed_later: u64,
}

/// What denied calls have in common.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct RetryGroup {
    /// Client identifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Agent role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Operator roles.
    pub roles: Vec<String>,
    /// `tool`, `resource`, `prompt` or `task`.
    pub kind: String,
    /// Name of the tool or prompt. URIs of resources can be about people, and are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Why the first call was denied.
    pub reason: String,
}

/// Calls over time, in steps of one length.
#[derive(Debug, Default, Serialize)]
pub struct Timeline {
    /// Length of a step, in seconds.
    pub step_seconds: u64,
    /// The steps from the first to the last with a call; none is left out.
    pub steps: Vec<Step>,
}

/// One step of time.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Step {
    /// When it begins.
    pub start: String,
    /// Requests that rules allowed.
    pub allowed: u64,
    /// Requests that rules denied.
    pub denied: u64,
}

/// A policy that allows all that was done, and less besides.
#[derive(Debug, Default, Serialize)]
pub struct Proposal {
    /// What is different, as a unified diff; empty if there is nothing to take away.
    pub diff: String,
    /// The differences, list by list.
    pub changes: Vec<ListChange>,
    /// What a person would have to do, in words.
    pub advice: Vec<String>,
    /// Allowed requests of the log that were decided again by the proposed policy, with the same result.
    pub verified: u64,
    /// Allowed requests that the proposed policy would have decided otherwise. If there are any, it is withdrawn.
    pub contradicted: u64,
}

/// A list of scopes that gets shorter, or narrower.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct ListChange {
    /// Where it is in the policy, such as `agents.helper.scopes`.
    pub path: String,
    /// Entries that go.
    pub removed: Vec<String>,
    /// Entries that take their place.
    pub added: Vec<String>,
    /// Scopes that the party would no longer have.
    pub lost: Vec<String>,
}

//! An approval as a person sees it.

use serde::{Deserialize, Serialize};

use super::decide::{has_escalated, votes_for};
use super::{
    Call, Case, Choice, Escalate, Gate, Person, Requester, Requirement, State, UnixSeconds, VoteRefusal, entitlement,
};

/// Approvals on one page, at most; also the default.
pub const MAX_PAGE: usize = 100;

/// Which approvals to list.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Filter {
    /// In one of these states; empty: in any.
    pub states: Vec<State>,
    /// Of calls to this tool, prompt or resource.
    pub tool: Option<String>,
    /// Asked for by this subject.
    pub requester: Option<String>,
    /// Older than the one with this [`View::cursor`].
    pub before: Option<i64>,
    /// At most so many, up to [`MAX_PAGE`]; 0 is [`MAX_PAGE`].
    pub limit: usize,
}

/// An approval as a person sees it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct View {
    /// Its id.
    pub id: String,
    /// Where it stands in the list; larger is newer.
    pub cursor: i64,
    /// Where it stands.
    pub state: State,
    /// When it was made.
    pub created_at: UnixSeconds,
    /// When it ends, or ended.
    pub expires_at: UnixSeconds,
    /// When it got its last state but `consumed`; absent while it is pending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<UnixSeconds>,
    /// When the call was let through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumed_at: Option<UnixSeconds>,
    /// Whether others were asked because the first did not answer in time.
    pub escalated: bool,
    /// Name of the service that was asked first and did not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub escalated_from: Option<String>,
    /// The gateway that asked.
    pub gateway: String,
    /// URI of the resource.
    pub audience: String,
    /// Digest of everything that makes it this call.
    pub binding: String,
    /// Digest of the gateway's policy.
    pub policy: String,
    /// The gateway's id of the decision.
    pub decision_id: String,
    /// Who wants to make the call.
    pub requester: Requester,
    /// The call.
    pub call: Call,
    /// What must be met.
    pub requirements: Vec<RequirementView>,
    /// Whether a decision needs a reason.
    pub reason_required: bool,
    /// Votes so far. Empty for a requester, who is shown the status only.
    pub votes: Vec<VoteView>,
    /// Whether this person may decide now.
    pub may_decide: bool,
    /// Why not, as a word for programs: [`VoteRefusal::code`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why_not: Option<&'static str>,
}

/// A requirement, and how far it is met.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct RequirementView {
    /// What made the gate.
    pub gate: Gate,
    /// The rule, agent role or scope.
    pub name: String,
    /// Roles whose holders may approve.
    pub approvers: Vec<String>,
    /// Who else may, after a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub escalate: Option<Escalate>,
    /// Whether that time has come.
    pub escalated: bool,
    /// How many must approve.
    pub count: u32,
    /// How many have.
    pub met: u32,
}

/// A vote.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct VoteView {
    /// Issuer of the voter.
    pub iss: String,
    /// The voter.
    pub sub: String,
    /// Name of the voter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Yes or no.
    pub decision: Choice,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Roles that counted.
    pub roles: Vec<String>,
    /// When.
    pub at: UnixSeconds,
}

/// What has happened to approvals.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// A gateway has asked.
    Created,
    /// A person has voted.
    Voted,
    /// Others are asked too.
    Escalated,
    /// Everybody who had to has approved.
    Approved,
    /// An entitled person has said no.
    Rejected,
    /// The time has passed.
    Expired,
    /// The requester's client has taken it back.
    Cancelled,
    /// The call was let through.
    Consumed,
    /// The call went on: the server had asked for more input.
    Continued,
    /// Entries before this one were deleted, since they had been kept long enough.
    Pruned,
}

impl EventKind {
    /// All kinds.
    pub const ALL: [Self; 10] = [
        Self::Created,
        Self::Voted,
        Self::Escalated,
        Self::Approved,
        Self::Rejected,
        Self::Expired,
        Self::Cancelled,
        Self::Consumed,
        Self::Continued,
        Self::Pruned,
    ];

    /// The word for it in JSON and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Voted => "voted",
            Self::Escalated => "escalated",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Consumed => "consumed",
            Self::Continued => "continued",
            Self::Pruned => "pruned",
        }
    }

    /// The kind that [`Self::as_str`] has named.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// A person who has done something.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Actor {
    /// Who vouches for the person.
    pub iss: String,
    /// The person.
    pub sub: String,
}

/// An entry of the history.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryEvent {
    /// Its number, without gaps over all approvals.
    pub seq: i64,
    /// When.
    pub at: UnixSeconds,
    /// What.
    pub event: EventKind,
    /// Which approval; empty where it is about none.
    pub approval_id: String,
    /// Which person, where a person has done it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<Actor>,
    /// Yes or no, of a vote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<Choice>,
    /// The reason that was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Number of the step, of `continued`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<i64>,
    /// SHA-256, in hexadecimal: of the request, of `created`; of the vote with its roles, of `voted`; of the nonce, of
    /// `consumed` and `continued`. It ties the rows to the history, and is not shown to people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// What a person may see of an approval.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Visibility {
    /// All of it: an approver.
    Full,
    /// The status: the requester.
    Status,
}

/// What the person may see, by roles of approvers and by who asked; `None`: not even that it is there.
pub(crate) fn visibility(case: Case<'_>, person: &Person) -> Option<Visibility> {
    let is_approver = case.request.requirements.iter().any(|requirement| {
        let later = requirement.escalate.iter().flat_map(|escalate| &escalate.approvers);
        requirement.approvers.iter().chain(later).any(|role| person.roles.contains(role))
    });
    let requester = &case.request.requester;
    let is_requester = requester.subject == person.subject && requester.issuer == person.issuer;
    if is_approver { Some(Visibility::Full) } else { is_requester.then_some(Visibility::Status) }
}

/// The requirements, each with how far it is met.
pub(crate) fn requirements(case: Case<'_>, now: UnixSeconds) -> Vec<RequirementView> {
    let view = |(index, requirement): (usize, &Requirement)| RequirementView {
        gate: requirement.gate,
        name: requirement.name.clone(),
        approvers: requirement.approvers.clone(),
        escalate: requirement.escalate.clone(),
        escalated: has_escalated(requirement, case.created_at, now),
        count: requirement.count,
        met: votes_for(index, case.votes),
    };
    case.request.requirements.iter().enumerate().map(view).collect()
}

/// Why the person may not decide now.
pub(crate) fn why_not(case: Case<'_>, person: &Person, now: UnixSeconds) -> Option<VoteRefusal> {
    entitlement(case, person, now).err()
}

//! The one function that says whether a person's vote counts, and what comes of it.

use super::{Ballot, Choice, MAX_REASON_CHARS, Person, Request, Requirement, State, UnixSeconds};

/// An approval, as far as deciding on it goes.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// What was asked for.
    pub request: &'a Request,
    /// Where it stands.
    pub state: State,
    /// When it was made.
    pub created_at: UnixSeconds,
    /// When it ends.
    pub expires_at: UnixSeconds,
    /// Votes so far.
    pub votes: &'a [Vote],
}

/// A vote that counts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Vote {
    /// Issuer of the voter.
    pub issuer: String,
    /// The voter.
    pub subject: String,
    /// Name of the voter, to be shown.
    pub name: Option<String>,
    /// Yes or no.
    pub choice: Choice,
    /// Why.
    pub reason: Option<String>,
    /// What the voter was entitled by.
    pub entitlement: Entitlement,
    /// When.
    pub at: UnixSeconds,
}

/// What entitles a person to vote.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Entitlement {
    /// Roles that count.
    pub roles: Vec<String>,
    /// Requirements that they count for, by index.
    pub requirements: Vec<usize>,
}

/// Why a vote does not count.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum VoteRefusal {
    /// There is no such approval, or the person may not know of it.
    NotFound,
    /// The person is the requester.
    Requester,
    /// The person acts through the client or agent that made the request.
    RequestersAgent,
    /// The person has no role that is still asked for.
    Role,
    /// The person has voted.
    AlreadyVoted,
    /// Nobody is asked any more.
    Closed(State),
    /// A reason must be given.
    ReasonRequired,
    /// The reason has more than [`MAX_REASON_CHARS`] characters.
    ReasonTooLong,
}

impl VoteRefusal {
    /// A word for programs.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Requester => "requester",
            Self::RequestersAgent => "requesters_agent",
            Self::Role => "role",
            Self::AlreadyVoted => "already_decided",
            Self::Closed(State::Expired) => "expired",
            Self::Closed(_) => "decided",
            Self::ReasonRequired => "reason_required",
            Self::ReasonTooLong => "reason_too_long",
        }
    }
}

/// Counts a vote: what is to be stored, and the state that the approval has then.
///
/// # Errors
/// When the vote does not count.
pub fn decide(
    case: Case<'_>,
    person: &Person,
    ballot: &Ballot,
    now: UnixSeconds,
) -> Result<(Vote, State), VoteRefusal> {
    let entitlement = entitlement(case, person, now)?;
    let reason = ballot.clean_reason();
    if reason.as_deref().is_some_and(|reason| reason.chars().count() > MAX_REASON_CHARS) {
        return Err(VoteRefusal::ReasonTooLong);
    }
    if case.request.reason_required && reason.is_none() {
        return Err(VoteRefusal::ReasonRequired);
    }
    let vote = Vote {
        issuer: person.issuer.clone(),
        subject: person.subject.clone(),
        name: person.clean_name(),
        choice: ballot.decision,
        reason,
        entitlement,
        at: now,
    };
    let state = match vote.choice {
        Choice::Reject => State::Rejected,
        Choice::Approve if all_met(case.request, case.votes, &vote) => State::Approved,
        Choice::Approve => State::Pending,
    };
    Ok((vote, state))
}

/// What entitles the person to vote now.
///
/// # Errors
/// When nothing does.
pub fn entitlement(case: Case<'_>, person: &Person, now: UnixSeconds) -> Result<Entitlement, VoteRefusal> {
    refuse_requester(case.request, person)?;
    if case.state != State::Pending {
        return Err(VoteRefusal::Closed(case.state));
    }
    if now >= case.expires_at {
        return Err(VoteRefusal::Closed(State::Expired));
    }
    if case.votes.iter().any(|vote| is_by(vote, person)) {
        return Err(VoteRefusal::AlreadyVoted);
    }
    let mut entitlement = Entitlement::default();
    let mut is_needed = false;
    for (index, requirement) in case.request.requirements.iter().enumerate() {
        let escalated = has_escalated(requirement, case.created_at, now);
        let mut roles = person.roles.iter().filter(|role| counts_for(requirement, escalated, role)).peekable();
        if roles.peek().is_none() {
            continue;
        }
        is_needed |= !is_met(requirement, index, case.votes);
        entitlement.requirements.push(index);
        for role in roles {
            if !entitlement.roles.contains(role) {
                entitlement.roles.push(role.clone());
            }
        }
    }
    if is_needed { Ok(entitlement) } else { Err(VoteRefusal::Role) }
}

/// Whether the votes carry it, counted anew from what was stored: roles are looked at again, and not the requirements that
/// they were counted for.
#[must_use]
pub fn is_approved(case: Case<'_>) -> bool {
    let counts = |vote: &Vote, requirement: &Requirement| {
        let escalated = has_escalated(requirement, case.created_at, vote.at);
        vote.entitlement.roles.iter().any(|role| counts_for(requirement, escalated, role))
    };
    let votes = case.votes;
    let is_valid = |(index, vote): (usize, &Vote)| {
        let requester = &case.request.requester;
        let mut own = requester.client_id.iter().chain(&requester.agent).chain(&requester.actors);
        vote.choice == Choice::Approve
            && vote.at < case.expires_at
            && vote.subject != requester.subject
            && !own.any(|name| *name == vote.subject)
            && !votes.iter().take(index).any(|one| one.subject == vote.subject && one.issuer == vote.issuer)
    };
    if votes.is_empty() || !votes.iter().enumerate().all(is_valid) {
        return false;
    }
    case.request.requirements.iter().all(|requirement| {
        let count = votes.iter().filter(|vote| counts(vote, requirement)).count();
        u32::try_from(count).is_ok_and(|count| count >= requirement.count)
    })
}

/// Whether enough people have approved.
#[must_use]
pub fn is_met(requirement: &Requirement, index: usize, votes: &[Vote]) -> bool {
    votes_for(index, votes) >= requirement.count
}

/// People whose approval counts for a requirement. A person has one vote, so that no person counts twice.
pub(super) fn votes_for(index: usize, votes: &[Vote]) -> u32 {
    let count = votes.iter().filter(|vote| approves(vote, index)).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Whether others may approve too, because the first have had their time.
pub(super) fn has_escalated(requirement: &Requirement, created_at: UnixSeconds, now: UnixSeconds) -> bool {
    requirement.escalate.as_ref().is_some_and(|escalate| now >= created_at.saturating_add(i64::from(escalate.after)))
}

/// Whether the person is the requester, or acts through what made the request: nobody approves their own calls.
fn refuse_requester(request: &Request, person: &Person) -> Result<(), VoteRefusal> {
    let requester = &request.requester;
    // Whatever the issuer: the same subject elsewhere may well be the same person.
    if person.subject == requester.subject {
        return Err(VoteRefusal::Requester);
    }
    let agents = || requester.client_id.iter().chain(&requester.agent).chain(&requester.actors);
    let is_agent = |name: &String| agents().any(|agent| agent == name);
    if is_agent(&person.subject) || person.client_id.as_ref().is_some_and(is_agent) {
        return Err(VoteRefusal::RequestersAgent);
    }
    Ok(())
}

fn is_by(vote: &Vote, person: &Person) -> bool {
    vote.subject == person.subject && vote.issuer == person.issuer
}

fn counts_for(requirement: &Requirement, escalated: bool, role: &String) -> bool {
    let later = requirement.escalate.as_ref().filter(|_| escalated);
    requirement.approvers.contains(role) || later.is_some_and(|later| later.approvers.contains(role))
}

fn approves(vote: &Vote, index: usize) -> bool {
    vote.choice == Choice::Approve && vote.entitlement.requirements.contains(&index)
}

fn all_met(request: &Request, votes: &[Vote], last: &Vote) -> bool {
    request.requirements.iter().enumerate().all(|(index, requirement)| {
        votes_for(index, votes).saturating_add(u32::from(approves(last, index))) >= requirement.count
    })
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;

//! What people see and do.

use super::Approvals;
use crate::domain::{
    self, Ballot, Filter, HistoryEvent, Person, State, View, Visibility, Vote, VoteRefusal, VoteView, visibility,
};
use crate::store::{Record, StoreError};

impl Approvals {
    /// Approvals that the person may see, newest first: those that one of the person's roles may decide, and those that
    /// the person has asked for.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn inbox(&self, person: &Person, filter: &Filter) -> Result<Vec<View>, StoreError> {
        let records = self.inner.store.list(person, filter).await?;
        // What has expired since the last sweep is shown as such.
        let now = self.inner.clock.now();
        let views = records.into_iter().filter_map(|record| view(as_of(record, now), person, now));
        Ok(views.filter(|view| filter.states.is_empty() || filter.states.contains(&view.state)).collect())
    }

    /// One approval; `None`: it is not there, or the person may not see it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn view(&self, person: &Person, id: &str) -> Result<Option<View>, StoreError> {
        let now = self.inner.clock.now();
        let record = self.inner.store.find(id).await?;
        Ok(record.and_then(|record| view(as_of(record, now), person, now)))
    }

    /// What has happened to it, oldest first; `None` as with [`Self::view`]. The requester is shown neither who has
    /// voted nor how.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn history(&self, person: &Person, id: &str) -> Result<Option<Vec<HistoryEvent>>, StoreError> {
        let Some(record) = self.inner.store.find(id).await? else { return Ok(None) };
        let Some(visibility) = visibility(record.case(), person) else { return Ok(None) };
        let mut history = self.inner.store.history_of(id).await?;
        for event in &mut history {
            event.digest = None;
        }
        if visibility == Visibility::Status {
            history.retain(|event| event.by.is_none());
        }
        Ok(Some(history))
    }

    /// Counts a vote.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn vote(
        &self,
        person: &Person,
        id: &str,
        ballot: Ballot,
    ) -> Result<Result<View, VoteRefusal>, StoreError> {
        let now = self.inner.clock.now();
        let record = self.inner.store.find(id).await?;
        if record.is_none_or(|record| visibility(record.case(), person).is_none()) {
            return Ok(Err(VoteRefusal::NotFound));
        }
        let outcome = self.inner.store.vote(person, id, &ballot, now).await?;
        self.written();
        Ok(outcome.and_then(|record| view(record, person, now).ok_or(VoteRefusal::NotFound)))
    }
}

/// The record as the next sweep will have it.
fn as_of(mut record: Record, now: i64) -> Record {
    if record.is_due(now) {
        record.state = State::Expired;
        record.ended_at = Some(record.expires_at);
    }
    record
}

fn view(record: Record, person: &Person, now: i64) -> Option<View> {
    let case = record.case();
    let visibility = visibility(case, person)?;
    let requirements = domain::requirements(case, now);
    let why_not = domain::why_not(case, person, now).map(VoteRefusal::code);
    let votes = match visibility {
        Visibility::Full => record.votes.iter().map(vote_view).collect(),
        Visibility::Status => Vec::new(),
    };
    let request = record.request;
    Some(View {
        id: record.id,
        cursor: record.seq,
        state: record.state,
        created_at: record.created_at,
        expires_at: record.expires_at,
        ended_at: record.ended_at,
        consumed_at: record.consumed_at,
        escalated: record.escalated,
        escalated_from: request.escalated_from,
        gateway: record.gateway,
        audience: request.audience,
        binding: request.binding,
        policy: request.policy,
        decision_id: request.decision_id,
        requester: request.requester,
        call: request.call,
        requirements,
        reason_required: request.reason_required,
        votes,
        may_decide: why_not.is_none(),
        why_not,
    })
}

fn vote_view(vote: &Vote) -> VoteView {
    VoteView {
        iss: vote.issuer.clone(),
        sub: vote.subject.clone(),
        name: vote.name.clone(),
        decision: vote.choice,
        reason: vote.reason.clone(),
        roles: vote.entitlement.roles.clone(),
        at: vote.at,
    }
}

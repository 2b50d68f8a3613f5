//! A call that waits for people.
//!
//! ```text
//! Asking ── created, or found ──► Polling ── approved ──► Using ── signed grant ──► the request is judged again
//!   │ nobody there: the next service │ held long enough: pending  │ lost: again, with the same nonce
//!   └────────────────────────────────┴── anything else: denied ───┘
//! ```
//!
//! What the service says is believed in one direction only: nothing but a grant that it signed for this very request
//! lets the request pass, and that goes through the decision function again, as time has passed. No approval is used up
//! for a request that could not pass any more.

mod case;
mod circuit;
mod continuation;
mod creation;
mod reply;

pub use circuit::{Circuits, HeldRequest, HeldRequests};

use std::rc::Rc;

use super::account::Account;
use super::admit::Head;
use super::answer::Answer;
use super::approval_note::ApprovalNote;
use super::command::{Command, Flow, ServiceCall};
use super::event::ServiceAnswer;
use super::{Phase, Surroundings, request, session};
use crate::approval::contract::{self, Fault, State, Status};
use crate::approval::{
    ApprovalId, BindingDigest, Consumption, DecisionError, Ended, Expected, Grant, Nonce, Reason, Round, Trust,
    Verdict, verify_grant, verify_verdict,
};
use crate::audit::record::ApprovalStatus;
use crate::config::ApprovalService;
use crate::identity::Principal;
use crate::limits;
use crate::mcp::{InputAction, Member, Target};
use crate::policy::ObtainApproval;
use crate::session::{ApprovalState, Binding};
use crate::units::{Seconds, UnixSeconds};
use reply::{Page, ReplyTo};

pub(super) use case::{Case, without_own_fields};
pub(super) use continuation::Continuation;

/// An approval that was used up for this request.
#[derive(Debug)]
pub(super) struct Approved {
    grant: Grant,
    binding: BindingDigest,
    round: Round,
    continuation: Continuation,
}

/// What a call asks of people.
#[derive(Debug)]
pub(super) struct Application {
    obligation: ObtainApproval,
    principal: Rc<Principal>,
    /// What the call acts on.
    target: Target<'static>,
    binding: BindingDigest,
    round: Round,
    /// What the client has kept of an earlier answer.
    earlier: Option<ApprovalState>,
    /// What became of the page that the client was asked to open, as it says.
    action: Member<InputAction>,
    /// What a service is told to ask.
    creation: Vec<u8>,
    reply_to: ReplyTo,
    /// Bytes of the request's body.
    bytes: usize,
}

/// A request that is held.
#[derive(Debug)]
pub(super) struct Waiting {
    head: Box<Head>,
    application: Application,
    stage: Stage,
    service: usize,
    id: Option<ApprovalId>,
    step: u8,
    nonce: Nonce,
    caller: Binding,
    hold_until: UnixSeconds,
    /// When the service was asked last, and how often it has said at once that nothing has happened.
    asked_at: UnixSeconds,
    hasty: u32,
    /// When the approval ends, as the service says; nothing depends on it but how long the client's state is good for.
    expires_at: UnixSeconds,
    /// The service did not let an approval be used that it had spoken of. It may explain that once.
    is_contradicted: bool,
    /// The service has said that people are asked.
    is_heard: bool,
    escalated: bool,
}

/// What the service was asked last.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// To ask people.
    Asking,
    /// What they say.
    Polling,
    /// To use up the approval, this often before.
    Using { attempts: u32 },
}

impl Waiting {
    /// What is held for it.
    pub(super) const fn held(&self) -> HeldRequest {
        HeldRequest { bytes: self.application.bytes, caller: self.caller }
    }
}

/// Asks people, or goes on where an earlier request has left off.
pub(super) fn begin(
    account: &mut Account,
    head: Box<Head>,
    application: Application,
    surroundings: &mut Surroundings<'_>,
    commands: &mut Vec<Command>,
) -> (Phase, Flow) {
    let Some(policy) = &surroundings.policy.approval else {
        let answer = reply::refused(&application.reply_to, account.id, Reason::Unavailable, None);
        return answer.send(account, head.origin.as_deref(), commands);
    };
    let now = surroundings.now;
    let nonce = account.nonce();
    let caller = session::binding(&application.principal, surroundings.policy);
    let mut waiting = Box::new(Waiting {
        hold_until: now.plus(application.obligation.hold()),
        head,
        application,
        stage: Stage::Asking,
        service: 0,
        id: None,
        step: 0,
        nonce,
        caller,
        asked_at: now,
        hasty: 0,
        expires_at: now,
        is_contradicted: false,
        is_heard: false,
        escalated: false,
    });
    if let Some(earlier) = waiting.application.earlier.take() {
        let Some(service) = policy.services.get(usize::from(earlier.service)) else {
            return waiting.refuse(account, Reason::StateInvalid, now, commands);
        };
        waiting.service = usize::from(earlier.service);
        waiting.escalated = earlier.service > 0;
        waiting.step = earlier.step;
        waiting.stage = if earlier.step == 0 { Stage::Polling } else { Stage::Using { attempts: 0 } };
        waiting.note(account, |note| {
            note.service = Some(service.endpoint.cluster.clone());
            (note.id, note.escalated) = (Some(earlier.id.clone()), earlier.service > 0);
        });
        waiting.id = Some(earlier.id);
    }
    if let Member::Valid(action @ (InputAction::Decline | InputAction::Cancel)) = waiting.application.action {
        // To decline is to take the request back. To cancel is to have closed a window: people may still be asked.
        if let (InputAction::Decline, Some(id)) = (action, &waiting.id) {
            let body = contract::cancellation(&waiting.application.binding);
            commands.push(Command::CallService(waiting.last_word(contract::cancel_path(id), body)));
        }
        return waiting.refuse(account, Reason::Declined, now, commands);
    }
    if !surroundings.held.has_room_for(waiting.held()) {
        return waiting.refuse(account, Reason::Busy, now, commands);
    }
    commands.push(Command::CountApproval("asked"));
    waiting.call(account, surroundings, commands)
}

/// The service has answered, or has not.
pub(super) fn on_answer(
    account: &mut Account,
    mut waiting: Box<Waiting>,
    answer: ServiceAnswer<'_>,
    surroundings: &mut Surroundings<'_>,
    commands: &mut Vec<Command>,
) -> (Phase, Flow) {
    let now = surroundings.now;
    if is_failure(answer) {
        // All that is held breaks at once when a service restarts, which is one failure and no sign that it is gone: the next
        // request that has not heard of it yet will tell.
        if !waiting.is_heard && surroundings.circuits.failed(waiting.service, now) {
            commands.push(Command::CountApproval("circuit_opened"));
        }
        return waiting.without_service(account, failure(answer), surroundings, commands);
    }
    surroundings.circuits.succeeded(waiting.service);
    let ServiceAnswer::Reply { status, body } = answer else {
        return waiting.refuse(account, failure(answer), now, commands);
    };
    match waiting.stage {
        Stage::Asking | Stage::Polling => match contract::read_state(status, body, &waiting.application.binding) {
            Ok(state) => waiting.on_state(account, &state, surroundings, commands),
            // Nothing was asked about that could be unknown.
            Err(Fault::Unknown) if waiting.stage == Stage::Asking => {
                waiting.refuse(account, Reason::Error, now, commands)
            }
            Err(fault) => waiting.refuse(account, fault.reason(), now, commands),
        },
        Stage::Using { .. } => match contract::read_grant(status, body) {
            Ok(grant) => waiting.on_grant(account, &grant, surroundings, commands),
            // Somebody has decided otherwise meanwhile, or time is up: the signed decision says so.
            Err(Fault::Decided) if waiting.step == 0 && !waiting.is_contradicted => {
                waiting.is_contradicted = true;
                waiting.stage = Stage::Polling;
                waiting.hold_until = now;
                waiting.call(account, surroundings, commands)
            }
            Err(fault) => waiting.refuse(account, fault.reason(), now, commands),
        },
    }
}

/// It is time to ask again.
pub(super) fn on_time_passed(
    account: &mut Account,
    waiting: Box<Waiting>,
    surroundings: &mut Surroundings<'_>,
    commands: &mut Vec<Command>,
) -> (Phase, Flow) {
    match waiting.stage {
        Stage::Using { attempts } if attempts > 0 => waiting.make_use(account, surroundings, commands),
        Stage::Polling if waiting.hasty > limits::MAX_HASTY_POLLS => waiting.call(account, surroundings, commands),
        Stage::Asking | Stage::Polling | Stage::Using { .. } => (Phase::AwaitApproval(waiting), Flow::Hold),
    }
}

impl Waiting {
    /// Asks the service what the stage asks for. What cannot be asked now is answered at once.
    fn call(
        mut self: Box<Self>,
        account: &mut Account,
        surroundings: &mut Surroundings<'_>,
        commands: &mut Vec<Command>,
    ) -> (Phase, Flow) {
        // What may be used up already is asked for whatever else fails; this ends by itself.
        let is_urgent = matches!(self.stage, Stage::Using { attempts } if attempts > 0);
        if !is_urgent && !surroundings.circuits.admits(self.service, surroundings.now) {
            return self.without_service(account, Reason::CircuitOpen, surroundings, commands);
        }
        let service = surroundings.policy.approval.as_ref().and_then(|policy| policy.services.get(self.service));
        self.note(account, |note| note.service = service.map(|service| service.endpoint.cluster.clone()));
        self.asked_at = surroundings.now;
        let left = self.hold_until.since(surroundings.now).min(limits::MAX_APPROVAL_POLL);
        let (method, path, body, wait) = match (self.stage, &self.id) {
            (Stage::Using { .. }, Some(id)) => {
                let body = contract::consumption(&self.application.binding, &self.nonce, self.step);
                ("POST", contract::consume_path(id), body, Seconds::default())
            }
            (Stage::Polling, Some(id)) => {
                ("GET", contract::state_path(id, &self.application.binding), Vec::new(), left)
            }
            // Whether anybody is there shows soon, however long people take.
            (_, _) => ("POST", contract::CREATE_PATH.to_owned(), self.application.creation.clone(), Seconds::default()),
        };
        let call = ServiceCall { service: self.service, method, path, body, wait, is_last_word: false };
        commands.push(Command::CallService(call));
        (Phase::AwaitApproval(self), Flow::Hold)
    }

    fn last_word(&self, path: String, body: Vec<u8>) -> ServiceCall {
        ServiceCall { service: self.service, method: "POST", path, body, wait: Seconds::default(), is_last_word: true }
    }

    /// The service has not answered. An approval that was never asked for may be asked for elsewhere; one that is known
    /// stays where it is.
    fn without_service(
        mut self: Box<Self>,
        account: &mut Account,
        reason: Reason,
        surroundings: &mut Surroundings<'_>,
        commands: &mut Vec<Command>,
    ) -> (Phase, Flow) {
        match self.stage {
            Stage::Asking => {
                let services = surroundings.policy.approval.as_ref().map(|policy| policy.services.as_slice());
                let services = services.unwrap_or_default();
                let (this, next) = (services.get(self.service), self.service.saturating_add(1));
                // One that answers something wrong is not given up for another one: whoever can make it do that would choose
                // who decides.
                let is_gone = reason != Reason::Error;
                let (Some(this), true) = (this, is_gone && next < services.len()) else {
                    return self.refuse(account, reason, surroundings.now, commands);
                };
                self.application.creation = creation::escalated(&self.application.creation, &this.endpoint.cluster);
                self.service = next;
                self.escalated = true;
                commands.push(Command::CountApproval("escalated"));
                self.call(account, surroundings, commands)
            }
            // Whether the approval was used up is not known: the same nonce is answered with the same grant.
            Stage::Using { attempts } if attempts < limits::MAX_CONSUME_ATTEMPTS => {
                self.stage = Stage::Using { attempts: attempts.saturating_add(1) };
                commands.push(Command::Watch(surroundings.now));
                (Phase::AwaitApproval(self), Flow::Hold)
            }
            Stage::Using { .. } => self.refuse(account, reason, surroundings.now, commands),
            // People have been asked, and may still answer.
            Stage::Polling if self.is_heard => self.pending(account, surroundings, commands),
            Stage::Polling => self.refuse(account, reason, surroundings.now, commands),
        }
    }

    fn on_state(
        mut self: Box<Self>,
        account: &mut Account,
        state: &State,
        surroundings: &mut Surroundings<'_>,
        commands: &mut Vec<Command>,
    ) -> (Phase, Flow) {
        if self.id.as_ref().is_some_and(|id| *id != state.id) {
            return self.refuse(account, Reason::Mismatch, surroundings.now, commands);
        }
        self.is_heard = true;
        // Nobody vouches for what is not signed.
        self.expires_at = state.expires_at.min(surroundings.now.plus(limits::MAX_APPROVAL_EXPIRY));
        self.escalated |= state.escalated;
        self.id = Some(state.id.clone());
        self.note(account, |note| (note.id, note.escalated) = (self.id.clone(), self.escalated));
        match state.status {
            // A clock that was set back ends the wait.
            Status::Pending if surroundings.now < self.hold_until && surroundings.now >= self.asked_at => {
                // A service that does not wait when it is asked to is not asked without end.
                let is_hasty = self.stage == Stage::Polling && surroundings.now == self.asked_at;
                self.hasty = if is_hasty { self.hasty.saturating_add(1) } else { 0 };
                self.stage = Stage::Polling;
                if self.hasty > limits::MAX_HASTY_POLLS {
                    commands.push(Command::Watch(surroundings.now));
                    return (Phase::AwaitApproval(self), Flow::Hold);
                }
                self.call(account, surroundings, commands)
            }
            Status::Pending => self.pending(account, surroundings, commands),
            Status::Approved => {
                self.stage = Stage::Using { attempts: 0 };
                self.make_use(account, surroundings, commands)
            }
            Status::Consumed => self.refuse(account, Reason::Used, surroundings.now, commands),
            Status::Rejected | Status::Expired | Status::Cancelled => {
                let verified = self.trust(surroundings).and_then(|(trust, expected)| {
                    let decision = state.decision.as_deref().ok_or(Reason::Unsigned)?;
                    verify_verdict(decision, &trust, &expected, surroundings.now).map_err(DecisionError::reason)
                });
                match verified {
                    Ok(verdict) => {
                        let Verdict { ended, approvers, escalated, reason: why } = verdict;
                        self.escalated |= escalated;
                        let (status, escalated) = (status_of(ended), self.escalated);
                        self.note(account, |note| {
                            (note.status, note.escalated, note.approvers) = (status, escalated, approvers);
                        });
                        let answer =
                            reply::decided(&self.application.reply_to, account.id, &state.id, ended, why.as_deref());
                        self.answer(account, answer, surroundings.now, commands)
                    }
                    Err(reason) => self.refuse(account, reason, surroundings.now, commands),
                }
            }
        }
    }

    /// Uses up an approval, for a caller who could still make this call.
    fn make_use(
        self: Box<Self>,
        account: &mut Account,
        surroundings: &mut Surroundings<'_>,
        commands: &mut Vec<Command>,
    ) -> (Phase, Flow) {
        let Application { target, reply_to, .. } = &self.application;
        if let Err(answer) = request::could_pass(account, &self.head, target, reply_to.id(), surroundings) {
            return self.answer(account, answer, surroundings.now, commands);
        }
        self.call(account, surroundings, commands)
    }

    fn on_grant(
        self: Box<Self>,
        account: &mut Account,
        grant: &str,
        surroundings: &mut Surroundings<'_>,
        commands: &mut Vec<Command>,
    ) -> (Phase, Flow) {
        let token = self.application.principal.token();
        let consumption = Consumption { nonce: self.nonce, step: self.step, requester: token.subject() };
        let verified = self.trust(surroundings).and_then(|(trust, expected)| {
            verify_grant(grant, &trust, &expected, &consumption, surroundings.now).map_err(DecisionError::reason)
        });
        // Nor does what acts for the caller approve its calls.
        let acts = |subject: &str| {
            token.client_id() == Some(subject) || token.attributes().actors.iter().any(|actor| **actor == *subject)
        };
        let is_foreign = |grant: &Grant| !grant.approvers().iter().any(|approver| acts(&approver.subject));
        let verified = verified.and_then(|grant| is_foreign(&grant).then_some(grant).ok_or(Reason::OwnRequest));
        match verified {
            Ok(grant) => {
                self.note(account, |note| {
                    (note.status, note.step) = (ApprovalStatus::Approved, grant.step());
                    note.approvers = grant.approvers().to_vec();
                    note.escalated |= grant.escalated();
                    note.ended(surroundings.now);
                });
                let Some(continuation) = self.continuation(surroundings) else {
                    return self.refuse(account, Reason::Malformed, surroundings.now, commands);
                };
                let Self { mut head, application: Application { binding, round, .. }, .. } = *self;
                head.approved = Some(Approved { grant, binding, round, continuation });
                (Phase::ExpectBody(head), Flow::Hold)
            }
            Err(reason) => self.refuse(account, reason, surroundings.now, commands),
        }
    }
}

impl Waiting {
    /// The place of the service, as it is kept.
    fn place(&self) -> u8 {
        u8::try_from(self.service).unwrap_or(u8::MAX)
    }

    /// The round that may follow, should the upstream ask for something.
    fn continuation(&self, surroundings: &Surroundings<'_>) -> Option<Continuation> {
        Some(Continuation {
            service: self.place(),
            step: self.step.checked_add(1)?,
            id: self.id.clone()?,
            binding: self.application.binding,
            owner: self.caller,
            ends: surroundings.now.plus(limits::APPROVAL_AFTERLIFE),
        })
    }

    fn note(&self, account: &mut Account, change: impl FnOnce(&mut ApprovalNote)) {
        if let Some(note) = account.approval_note() {
            change(note);
        }
    }

    /// Whose word counts, and about what.
    fn trust<'a>(&'a self, surroundings: &'a Surroundings<'_>) -> Result<(Trust<'a>, Expected<'a>), Reason> {
        let policy = surroundings.policy;
        let service = policy.approval.as_ref().and_then(|approval| approval.services.get(self.service));
        let (Some(service), Some(id)) = (service, &self.id) else { return Err(Reason::Malformed) };
        let ApprovalService { issuer, keys, .. } = service;
        let trust = Trust { issuer, keys, verifier: surroundings.verifier };
        let (audience, binding) = (policy.resource.as_str(), &self.application.binding);
        Ok((trust, Expected { audience, id, binding, policy: &policy.digest }))
    }

    /// Tells the caller to come back.
    fn pending(
        self: Box<Self>,
        account: &mut Account,
        surroundings: &Surroundings<'_>,
        commands: &mut Vec<Command>,
    ) -> (Phase, Flow) {
        let Some(id) = &self.id else { return self.refuse(account, Reason::Malformed, surroundings.now, commands) };
        let policy = surroundings.policy;
        let state = ApprovalState {
            service: self.place(),
            step: self.step,
            binding: self.application.binding,
            // Whoever comes late is told that it is too late.
            expires_at: self.expires_at.plus(limits::APPROVAL_AFTERLIFE),
            id: id.clone(),
            upstream_state: None,
        };
        let service = policy.approval.as_ref().and_then(|approval| approval.services.get(self.service));
        let link = service.map(|service| format!("{}{id}", service.page)).unwrap_or_default();
        let state = policy.sessions.seal_approval(&state, &self.caller, surroundings.now).ok();
        let page = Page { id, link: &link, state, escalated: self.escalated };
        let answer = reply::pending(&self.application.reply_to, account.id, page);
        self.answer(account, answer, surroundings.now, commands)
    }

    /// Denies the call for a reason that people need not have decided.
    fn refuse(
        self: Box<Self>,
        account: &mut Account,
        reason: Reason,
        now: UnixSeconds,
        commands: &mut Vec<Command>,
    ) -> (Phase, Flow) {
        let status = if reason == Reason::Used {
            ApprovalStatus::Used
        } else if reason == Reason::Declined {
            // Who only closes a window may come again.
            let is_withdrawn = self.application.action == Member::Valid(InputAction::Decline);
            if is_withdrawn { ApprovalStatus::Cancelled } else { ApprovalStatus::Pending }
        } else {
            ApprovalStatus::Unavailable
        };
        self.note(account, |note| note.status = status);
        let answer = reply::refused(&self.application.reply_to, account.id, reason, self.id.as_ref());
        self.answer(account, answer, now, commands)
    }

    fn answer(
        self: Box<Self>,
        account: &mut Account,
        answer: Answer,
        now: UnixSeconds,
        commands: &mut Vec<Command>,
    ) -> (Phase, Flow) {
        self.note(account, |note| note.ended(now));
        answer.send(account, self.head.origin.as_deref(), commands)
    }
}

const fn status_of(ended: Ended) -> ApprovalStatus {
    match ended {
        Ended::Rejected => ApprovalStatus::Rejected,
        Ended::Expired => ApprovalStatus::Expired,
        Ended::Cancelled => ApprovalStatus::Cancelled,
    }
}

/// Whether a service is not there, or not well.
const fn is_failure(answer: ServiceAnswer<'_>) -> bool {
    match answer {
        ServiceAnswer::Unreachable | ServiceAnswer::TimedOut => true,
        ServiceAnswer::Reply { status, .. } => status >= 500,
        ServiceAnswer::Oversized => false,
    }
}

const fn failure(answer: ServiceAnswer<'_>) -> Reason {
    match answer {
        // What stands before the service says so.
        ServiceAnswer::Unreachable | ServiceAnswer::Reply { status: 502 | 503, .. } => Reason::Unreachable,
        ServiceAnswer::TimedOut | ServiceAnswer::Reply { status: 504, .. } => Reason::Timeout,
        ServiceAnswer::Oversized => Reason::Oversized,
        ServiceAnswer::Reply { .. } => Reason::Error,
    }
}

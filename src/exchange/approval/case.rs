//! One gated call: what is asked, and what is made of the answer.

use std::borrow::Cow;
use std::rc::Rc;

use super::reply::{self, ReplyTo};
use super::{Application, Approved, Continuation, creation};
use crate::approval::{Asker, BindingDigest, Reason, Round, without_own_fields as cut};
use crate::audit::record::ApprovalStatus;
use crate::config::CompiledPolicy;
use crate::exchange::account::Account;
use crate::exchange::answer::{self, Answer};
use crate::exchange::approval_note::ApprovalNote;
use crate::exchange::{Surroundings, session};
use crate::identity::Principal;
use crate::mcp::{Call, ClientCapabilities, Member};
use crate::policy::{ObtainApproval, Permit};
use crate::session::ApprovalState;
use crate::units::UnixSeconds;

/// A call that needs an approval, alone in its request.
pub(in crate::exchange) struct Case<'a> {
    pub(in crate::exchange) call: &'a Call<'a>,
    pub(in crate::exchange) bytes: &'a [u8],
    pub(in crate::exchange) principal: &'a Rc<Principal>,
    /// What the client declared when its session began, if it has one.
    pub(in crate::exchange) capabilities: Option<ClientCapabilities>,
}

impl Case<'_> {
    /// What people are to be asked.
    ///
    /// # Errors
    /// The refusal, when what the client brings back is not what it was given.
    pub(in crate::exchange) fn apply(
        &self,
        account: &mut Account,
        obligation: ObtainApproval,
        policy: &CompiledPolicy,
        now: UnixSeconds,
    ) -> Result<Application, Answer> {
        account.await_approval(ApprovalNote::new(obligation.gates(), now));
        let reply_to = self.reply_to();
        let invalid = |account: &mut Account| {
            account.approval_note().into_iter().for_each(|note| note.status = ApprovalStatus::Unavailable);
            reply::refused(&reply_to, account.id, Reason::StateInvalid, None)
        };
        let earlier = own_state(self.call, self.principal, policy, now).map_err(|()| invalid(account))?;
        let binding = self.binding(policy, round_of(earlier.as_ref()))?;
        if earlier.as_ref().is_some_and(|state| state.binding != binding) {
            return Err(invalid(account));
        }
        let round = round_of(earlier.as_ref());
        Ok(Application {
            creation: creation::creation(account, self, &obligation, &binding, policy),
            principal: Rc::clone(self.principal),
            target: self.call.target.kept(),
            bytes: self.bytes.len(),
            action: self.call.retry.action,
            obligation,
            binding,
            round,
            earlier,
            reply_to,
        })
    }

    /// Exchanges the approval of this very call for its permit.
    ///
    /// # Errors
    /// The refusal, should it be the approval of another one.
    pub(in crate::exchange) fn settle(
        &self,
        account: &mut Account,
        obligation: ObtainApproval,
        approved: Approved,
        policy: &CompiledPolicy,
    ) -> Result<(Permit, Continuation), Answer> {
        let Approved { grant, binding, round, continuation } = approved;
        if self.binding(policy, round)? != binding {
            return Err(reply::refused(&self.reply_to(), account.id, Reason::Mismatch, None));
        }
        let Some(permit) = obligation.discharge(&grant) else {
            account.approval_note().into_iter().for_each(|note| note.status = ApprovalStatus::Unavailable);
            return Err(reply::refused(&self.reply_to(), account.id, Reason::Unentitled, None));
        };
        Ok((permit, continuation))
    }

    fn reply_to(&self) -> ReplyTo {
        ReplyTo::new(self.call, self.capabilities)
    }

    fn binding(&self, policy: &CompiledPolicy, round: Round) -> Result<BindingDigest, Answer> {
        let token = self.principal.token();
        let asker = Asker {
            resource: policy.resource.as_str(),
            policy: &policy.digest,
            issuer: token.issuer(),
            subject: token.subject(),
            client_id: token.client_id(),
            agent: self.principal.agent(&policy.directory).map(|agent| agent.name.as_str()),
            tenant: self.principal.tenant(),
        };
        let method = self.call.method.map_or("", crate::mcp::Method::name);
        BindingDigest::of(&asker, method, self.bytes, round)
            .map_err(|_| answer::bad_request(400, "The parameters cannot be read in one way only", "ambiguous_json"))
    }
}

/// What the client has kept of an earlier answer of the gateway.
fn own_state(
    call: &Call<'_>,
    principal: &Principal,
    policy: &CompiledPolicy,
    now: UnixSeconds,
) -> Result<Option<ApprovalState>, ()> {
    let Some(text) = &call.retry.state else { return Ok(None) };
    policy.sessions.open_approval(text, &session::binding(principal, policy), now).map(Some).map_err(|_| ())
}

/// Which attempt of a call it is, by what its client has kept.
fn round_of(earlier: Option<&ApprovalState>) -> Round {
    if earlier.is_some_and(|state| state.step > 0) { Round::Continuation } else { Round::First }
}

/// The body as the upstream is to get it: without what is the gateway's own, and with what is the upstream's in its place.
/// `None` if there is nothing to change.
///
/// # Errors
/// The refusal, when what the client brings back is not what it was given for this call.
pub(in crate::exchange) fn without_own_fields(
    account: &Account,
    calls: &[Call<'_>],
    bytes: &[u8],
    principal: &Rc<Principal>,
    surroundings: &Surroundings<'_>,
) -> Result<Option<Vec<u8>>, Answer> {
    let is_own = |call: &&Call<'_>| call.retry.state.is_some() || call.retry.action != Member::Absent;
    let Some(call) = calls.iter().find(is_own) else { return Ok(None) };
    let refuse = || reply::refused(&ReplyTo::new(call, None), account.id, Reason::StateInvalid, None);
    if calls.len() > 1 {
        return Err(refuse());
    }
    let policy = surroundings.policy;
    let state = own_state(call, principal, policy, surroundings.now).map_err(|()| refuse())?;
    if let Some(state) = &state {
        let case = Case { call, bytes, principal, capabilities: None };
        if case.binding(policy, round_of(Some(state)))? != state.binding {
            return Err(refuse());
        }
    }
    let upstream_state = state.as_ref().and_then(|state| state.upstream_state.as_deref());
    match cut(bytes, upstream_state) {
        Ok(Cow::Borrowed(_)) => Ok(None),
        Ok(Cow::Owned(body)) => Ok(Some(body)),
        Err(_) => Err(refuse()),
    }
}

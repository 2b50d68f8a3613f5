//! What the audit record will say about an exchange, gathered on the way.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::Value;
use serde_json::value::RawValue;

use super::approval_note::ApprovalNote;
use super::command::Verdict;
use super::{DecisionId, DecisionText, Ending};
use crate::approval::Nonce;
use crate::audit::mask::masked;
use crate::audit::outcome::{Came, Outcome, OutcomePicker};
use crate::audit::record;
use crate::audit::text::{identity, shortened, text};
use crate::audit::{Entry, Portrait, Private, Salt, TraceContext, names_of_flags};
use crate::config::{AuditPolicy, CompiledPolicy};
use crate::http::HeaderList;
use crate::identity::{Failure, Principal, Why};
use crate::jwt::Claimed;
use crate::limits;
use crate::mcp::{Call, Method, Revision, Target};
use crate::policy::Denial;
use crate::units::UnixMillis;

/// What is known of an exchange so far.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) id: DecisionId,
    id_text: DecisionText,
    salt: Salt,
    verdict: record::Verdict,
    reason: &'static str,
    http_method: Option<&'static str>,
    request_id: Option<Uuid>,
    trace: Option<TraceContext>,
    pub(super) request_bytes: usize,
    pub(super) caller: Option<Rc<Principal>>,
    pub(super) unverified: Option<Claimed>,
    asked: Option<Box<Asked>>,
    /// What people were asked, and what they said.
    approval: Option<Box<ApprovalNote>>,
    sides: Vec<Failure>,
    missing: Vec<String>,
    /// HTTP status of the answer, once its headers have passed.
    pub(super) status: Option<u16>,
    /// Reads the answer as it passes.
    pub(super) outcome: Option<Box<OutcomePicker>>,
    /// What of the answer the caller was not shown.
    pub(super) hidden: usize,
    /// Why the answer was not passed on, or not to its end.
    pub(super) cut_off: Option<&'static str>,
}

/// What a request asks for, of a batch the call that decided.
#[derive(Debug)]
struct Asked {
    revision: Revision,
    method: Option<Method>,
    target: Option<(&'static str, Option<String>)>,
    uris: Vec<String>,
    rule: Option<usize>,
    arguments: BTreeMap<String, Value>,
    arguments_digest: Option<String>,
    stated_purpose: Option<String>,
    has_result: bool,
    /// Of a batch: its size, and the first few calls.
    batch: Option<(usize, Vec<String>)>,
}

impl Account {
    pub(super) fn new(id: DecisionId, salt: Salt) -> Self {
        Self {
            id,
            id_text: id.text(),
            salt,
            verdict: record::Verdict::None,
            reason: "not_seen",
            http_method: None,
            request_id: None,
            trace: None,
            request_bytes: 0,
            caller: None,
            unverified: None,
            asked: None,
            approval: None,
            sides: Vec::new(),
            missing: Vec::new(),
            status: None,
            outcome: None,
            hidden: 0,
            cut_off: None,
        }
    }

    pub(super) fn note_headers(&mut self, headers: &HeaderList) {
        const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
        self.reason = "ended_early";
        let method = headers.value(":method");
        self.http_method = METHODS.into_iter().find(|known| method == Some(known));
        self.request_id = headers.value("x-request-id").and_then(Uuid::parse);
        self.trace = headers.value("traceparent").and_then(|text| TraceContext::parse(text, "header"));
    }

    /// The decision; the first one counts.
    pub(super) fn decide(&mut self, verdict: Verdict, reason: &'static str) {
        if self.verdict == record::Verdict::None {
            self.verdict = match verdict {
                Verdict::Allow => record::Verdict::Allow,
                Verdict::Deny => record::Verdict::Deny,
                Verdict::Serve => record::Verdict::Serve,
            };
            self.reason = reason;
        }
    }

    /// Whether the request was let through.
    pub(super) fn is_allowed(&self) -> bool {
        self.verdict == record::Verdict::Allow
    }

    /// The adapter has answered for it, or has cut it off.
    pub(super) fn fail(&mut self, reason: &'static str) {
        if self.is_allowed() {
            self.cut_off.get_or_insert(reason);
        } else {
            self.decide(Verdict::Deny, reason);
        }
    }

    /// The answer's headers are there.
    pub(super) fn note_status(&mut self, headers: &HeaderList) {
        self.status = headers.value(":status").and_then(|status| status.parse().ok());
    }

    /// Why a call was denied.
    pub(super) fn note_denial(&mut self, denial: &Denial) {
        match denial {
            Denial::NotPermitted(failures) => self.sides.clone_from(failures),
            Denial::InsufficientScope { missing, .. } => self.missing.clone_from(missing),
            Denial::NoRule
            | Denial::AmbiguousUri
            | Denial::TaskNotBound
            | Denial::OtherTenant
            | Denial::Condition
            | Denial::TokenLifetime { .. }
            | Denial::InsufficientAuthentication(_)
            | Denial::ApprovalUnavailable
            | Denial::ApprovalInBatch => {}
        }
    }

    /// What was asked for. `denied` is the place of the call that was not allowed; of a batch that was let through the record is
    /// about the call that needed most.
    pub(super) fn note_calls(&mut self, calls: &[Call<'_>], denied: Option<usize>, policy: &CompiledPolicy) {
        let tenant = self.caller.as_ref().and_then(|caller| caller.tenant());
        let index = denied.unwrap_or_else(|| weightiest(calls, tenant, policy));
        let (Some(audit), Some(call)) = (&policy.audit, calls.get(index)) else { return };
        let rule = policy.rules.find_rule(tenant, &call.target);
        // What the policy does not name literally is any text that somebody has sent.
        let written = |name: &str| match rule {
            Some(rule) if rule.exact => text(name).into_owned(),
            Some(_) | None => masked(name, limits::MAX_RECORDED_TEXT_BYTES),
        };
        let (target, uris) = match &call.target {
            Target::Protocol => (None, Vec::new()),
            Target::Tool(name) => (Some(("tool", Some(written(name)))), Vec::new()),
            Target::Prompt(name) => (Some(("prompt", Some(written(name)))), Vec::new()),
            Target::Resources(uris) if uris.is_empty() => (None, Vec::new()),
            Target::Resources(uris) => {
                let uris = shortened(uris.iter().map(|uri| written(uri).into()), limits::MAX_RECORDED_LIST);
                (Some(("resource", None)), uris.into_iter().map(Cow::into_owned).collect())
            }
            Target::Task => (Some(("task", None)), Vec::new()),
        };
        let redaction = match &call.target {
            Target::Tool(name) => audit.redaction.of_tool(name),
            Target::Prompt(_) | Target::Resources(_) | Target::Protocol | Target::Task => None,
        };
        if self.trace.is_none() {
            self.trace = call.context.traceparent.as_deref().and_then(|text| TraceContext::parse(text, "_meta"));
        }
        self.asked = Some(Box::new(Asked {
            revision: call.revision,
            method: call.method,
            target,
            uris,
            rule: rule.map(|rule| rule.rule),
            arguments: redaction
                .zip(call.arguments)
                .map(|(redaction, arguments)| redaction.apply(arguments, &audit.pseudonyms, self.salt.text()))
                .unwrap_or_default(),
            arguments_digest: digest(calls, audit),
            stated_purpose: call.context.purpose.as_deref().map(|text| masked(text, limits::MAX_RECORDED_TEXT_BYTES)),
            has_result: calls.iter().any(|call| call.method.is_some() && call.id.is_some()),
            batch: (calls.len() > 1).then(|| (calls.len(), summary(calls))),
        }));
    }

    /// The call waits for people.
    pub(super) fn await_approval(&mut self, note: ApprovalNote) {
        if self.verdict == record::Verdict::None {
            self.reason = "approval_awaited";
        }
        self.approval = Some(Box::new(note));
    }

    /// What is known of the approval that the call waits for.
    pub(super) fn approval_note(&mut self) -> Option<&mut ApprovalNote> {
        self.approval.as_deref_mut()
    }

    /// What makes hashes in the record of this request differ from those in others.
    pub(super) fn salt(&self) -> &str {
        self.salt.text()
    }

    /// A number that no other request has, and that nobody can guess from the record's id.
    pub(super) fn nonce(&self) -> Nonce {
        let mut hash = hmac_sha256::Hash::new();
        for part in ["toolgate-nonce-1", self.salt.text(), self.id_text.as_str()] {
            hash.update(part);
            hash.update([0]);
        }
        let [nonce @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = hash.finalize();
        Nonce::new(nonce)
    }

    fn approval(&self, policy: &CompiledPolicy) -> Option<record::Approval<'_>> {
        if let Some(note) = self.approval.as_deref() {
            return Some(note.to_record());
        }
        // It was let through, although the rule asks for approvals of other calls.
        let rule = policy.rules.rules.get(self.asked.as_deref()?.rule?)?;
        let is_bypassed = self.is_allowed() && rule.approval.is_some();
        let status = record::ApprovalStatus::Bypassed;
        is_bypassed.then(|| record::Approval { status, ..record::Approval::default() })
    }

    /// Begins to read the answer to a request with this id.
    pub(super) fn watch_answer(&mut self, audit: &AuditPolicy, request_id: &RawValue) {
        let tool = match &self.asked {
            Some(asked) => {
                asked.target.as_ref().filter(|(kind, _)| *kind == "tool").and_then(|(_, name)| name.as_deref())
            }
            None => None,
        };
        let fields = tool.and_then(|tool| audit.outcomes.of_tool(tool)).cloned();
        self.outcome = Some(Box::new(OutcomePicker::new(fields, Some(request_id.get()))));
    }

    /// Whether the answer is to be read as it passes.
    pub(super) fn reads_answer(&self) -> bool {
        self.outcome.is_some()
    }

    /// The next part of an answer in JSON.
    pub(super) fn read_answer(&mut self, part: &[u8]) {
        if let Some(outcome) = &mut self.outcome {
            outcome.feed(part);
        }
    }

    /// An answer, or one event of it, of which it is known what its responses say.
    pub(super) fn read_judged(&mut self, came: Came, text: &[u8]) {
        if let Some(outcome) = &mut self.outcome {
            outcome.judged(came, text);
        }
    }

    /// What was read of the answer.
    pub(super) fn take_outcome(&mut self) -> Option<Outcome> {
        self.outcome.take().map(|outcome| outcome.finish())
    }

    /// The record of a request that is let through and has not ended. It may be the last one: see
    /// [`record::Kind::Provisional`].
    pub(super) fn provisional(&self, started: UnixMillis, now: UnixMillis) -> Entry<'_> {
        Entry { kind: record::Kind::Provisional, ..self.facts(started, now) }
    }

    fn facts(&self, started: UnixMillis, at: UnixMillis) -> Entry<'_> {
        let asked = self.asked.as_deref();
        Entry {
            at,
            batch: asked.and_then(|asked| asked.batch.as_ref()).map(|(size, calls)| record::Batch {
                calls: calls.iter().map(|call| call.as_str().into()).collect(),
                size: small(*size),
            }),
            id: self.id_text.as_str(),
            method: asked.and_then(|asked| asked.method).map(Method::name),
            reason: self.reason,
            revision: asked.map(|asked| asked.revision.name()),
            rule: asked.and_then(|asked| asked.rule).map(small),
            started,
            target: asked
                .and_then(|asked| asked.target.as_ref())
                .map(|(kind, name)| record::Target { kind: (*kind).into(), name: name.as_deref().map(Into::into) }),
            trace: self.trace.as_ref().map(TraceContext::to_record),
            verdict: self.verdict,
            ..Entry::default()
        }
    }

    /// The whole record, and what of it is personal.
    pub(super) fn conclude<'a>(
        &'a self,
        ending: &'a Ending,
        policy: &'a CompiledPolicy,
        outcome: Option<Outcome>,
    ) -> Entry<'a> {
        let (asked, audit) = (self.asked.as_deref(), policy.audit.as_ref());
        let hiding = audit.filter(|audit| audit.hides_subjects).map(|audit| &audit.pseudonyms);
        let status = self.status.or(ending.status);
        let (answered, fields) = outcome.map(|outcome| (outcome.status, outcome.fields)).unzip();
        Entry {
            approval: self.approval(policy),
            caller: self
                .caller
                .as_deref()
                .map(|principal| principal.portrait(|| Portrait::of(principal, &policy.directory, hiding))),
            http: Some(record::Http {
                details: Some(text(&ending.details)).filter(|details| !details.is_empty()),
                duration_ms: ending.at.millis_since(ending.started),
                flags: names_of_flags(ending.flags).map(Into::into).collect(),
                method: self.http_method.map(Into::into),
                request_bytes: u64::try_from(self.request_bytes).unwrap_or(u64::MAX),
                request_id: self.request_id.as_ref().map(|id| id.as_str().into()),
                status: status.map(u32::from),
            }),
            missing: &self.missing,
            personal: Some(self.personal(ending, audit, fields.unwrap_or_default())),
            policy: Some(&policy.digest),
            required: asked.zip(audit).and_then(|(asked, audit)| audit.required_scopes(asked.rule?)),
            response: Some(record::Response {
                cut_off: self.cut_off.map(Into::into),
                hidden: small(self.hidden),
                status: self.response_status(ending, status, answered),
            }),
            sides: self.sides.iter().map(failed_side).collect(),
            ..self.facts(ending.started, ending.at)
        }
    }

    fn response_status(
        &self,
        ending: &Ending,
        status: Option<u16>,
        answered: Option<record::ResponseStatus>,
    ) -> record::ResponseStatus {
        use record::ResponseStatus::{Aborted, Error, Gateway, NoResult, RateLimited, Unread};

        let asks = self.asked.as_deref().is_some_and(|asked| asked.has_result);
        match status {
            None => Aborted,
            Some(_) if ending.is_broken_off() => Aborted,
            Some(_) if !self.is_allowed() || self.cut_off.is_some() => Gateway,
            // Envoy has no flag for a client that takes back a request over HTTP/2 when all of it was sent.
            Some(_) if ending.is_partial => Aborted,
            Some(429) => RateLimited,
            Some(400..) => Error,
            Some(_) => answered.unwrap_or(if asks { Unread } else { NoResult }),
        }
    }

    fn personal<'a>(
        &'a self,
        ending: &'a Ending,
        audit: Option<&AuditPolicy>,
        outcome: BTreeMap<String, Value>,
    ) -> Private<'a> {
        let asked = self.asked.as_deref();
        let unverified = self.unverified.as_ref().filter(|_| self.caller.is_none());
        Private {
            approvers: self.approval.as_deref().map(|note| note.approvers(audit)).unwrap_or_default(),
            arguments: asked.map(|asked| &asked.arguments),
            arguments_digest: asked.and_then(|asked| asked.arguments_digest.as_deref()),
            outcome,
            salt: &self.salt,
            source: ending.source.as_deref(),
            stated_purpose: asked.and_then(|asked| asked.stated_purpose.as_deref()),
            unverified: unverified.map(|claimed| unverified_caller(claimed, audit)),
            uris: asked.map(|asked| &*asked.uris).unwrap_or_default(),
        }
    }
}

/// What a token that was not accepted says of itself.
fn unverified_caller<'a>(claimed: &Claimed, audit: Option<&AuditPolicy>) -> record::Unverified<'a> {
    let one = |value: &Option<Box<str>>| value.as_deref().map(|value| Cow::Owned(identity(value).into_owned()));
    let subject = match audit {
        Some(audit) if audit.hides_subjects => {
            let names = claimed.issuer.as_deref().zip(claimed.subject.as_deref());
            names.map(|(issuer, subject)| audit.pseudonyms.of(issuer, subject.as_bytes()).into())
        }
        Some(_) | None => one(&claimed.subject),
    };
    record::Unverified { client: one(&claimed.client_id), issuer: one(&claimed.issuer), subject }
}

fn failed_side(failure: &Failure) -> record::FailedSide<'_> {
    record::FailedSide {
        scopes: if let Why::MissingScopes(scopes) = &failure.why {
            scopes.iter().map(|scope| scope.as_str().into()).collect()
        } else {
            Vec::new()
        },
        side: failure.side.name().into(),
        why: failure.why.code().into(),
    }
}

/// The place of the call of a batch whose rule asks for most.
fn weightiest(calls: &[Call<'_>], tenant: Option<&str>, policy: &CompiledPolicy) -> usize {
    if calls.len() == 1 {
        return 0;
    }
    let weight = |call: &Call<'_>| {
        let rule = policy.rules.rules.get(policy.rules.find_rule(tenant, &call.target)?.rule)?;
        Some(rule.scopes.count())
    };
    // Of equal ones the first.
    calls.iter().enumerate().rev().max_by_key(|(_, call)| weight(call)).map_or(0, |(index, _)| index)
}

/// The keyed digest of the arguments, of a batch of all of them, with a line feed after each.
fn digest(calls: &[Call<'_>], audit: &AuditPolicy) -> Option<String> {
    let mut all = calls.iter().filter_map(|call| call.arguments);
    let first = all.next()?;
    if calls.len() == 1 {
        return Some(audit.pseudonyms.digest(first.as_bytes()));
    }
    let text: String = std::iter::once(first).chain(all).flat_map(|text| [text, "\n"]).collect();
    Some(audit.pseudonyms.digest(text.as_bytes()))
}

/// The calls of a batch: method, and what it names.
fn summary(calls: &[Call<'_>]) -> Vec<String> {
    let line = |call: &Call<'_>| {
        let method = call.method.map_or("response", Method::name);
        match &call.target {
            Target::Tool(name) | Target::Prompt(name) => {
                format!("{method} {}", masked(name, limits::MAX_BATCH_NAME_BYTES))
            }
            Target::Resources(_) | Target::Protocol | Target::Task => method.to_owned(),
        }
    };
    calls.iter().map(line).collect()
}

/// `x-request-id` as Envoy makes it. Anything else could be anything.
#[derive(Debug)]
struct Uuid([u8; 36]);

impl Uuid {
    fn parse(text: &str) -> Option<Self> {
        let digits: [u8; 36] = text.as_bytes().try_into().ok()?;
        let fits = |(place, digit): (usize, &u8)| match place {
            8 | 13 | 18 | 23 => *digit == b'-',
            _ => digit.is_ascii_hexdigit(),
        };
        digits.iter().enumerate().all(fits).then_some(Self(digits))
    }

    fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

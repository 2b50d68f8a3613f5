//! From the first header to the decision.
//!
//! The order of the checks is part of the contract: path, origin, method, credential, session, media type and size, strict
//! parse, revision and headers, method table, target, rules. The first that fails answers.

use std::borrow::Cow;
use std::rc::Rc;

use super::account::Account;
use super::admit::{self, Caller, Endpoint, Head, HttpMethod};
use super::answer::{self, DECISION_HEADER};
use super::approval::{self, Application, Case, Continuation};
use super::command::{Command, Flow, HeaderEdits, Verdict};
use super::response::{Asked, Forwarded};
use super::session::{self, SESSION_HEADER};
use super::{Phase, Surroundings};
use crate::audit::record::ApprovalStatus;
use crate::config::CompiledPolicy;
use crate::http::HeaderList;
use crate::identity::{Peer, Principal};
use crate::limits;
use crate::mcp::{Body, Call, McpHeaders, RequestId, Target, classify};
use crate::policy::{AccessRequest, Decision, Denial, Duties, Effort, Permit, Subject, decide, prospect, visibility};

pub(super) fn on_headers(
    account: &mut Account,
    headers: &HeaderList,
    peer: Peer,
    end_of_stream: bool,
    surroundings: &mut Surroundings<'_>,
    commands: &mut Vec<Command>,
) -> (Phase, Flow) {
    account.note_headers(headers);
    let page = admit::page_origin(headers, surroundings.policy);
    let origin = page.as_ref().ok().cloned().flatten();
    let head = match admit::admit(account, headers, peer, page, surroundings) {
        Ok(head) => head,
        Err(answer) => return answer.send(account, origin.as_deref(), commands),
    };
    if let Caller::Expect(awaited) = head.caller {
        commands.push(Command::Await(awaited));
    }
    if end_of_stream {
        return on_complete(account, head, b"", surroundings, commands);
    }
    (Phase::ExpectBody(Box::new(head)), Flow::Hold)
}

pub(super) fn on_body_progress(
    account: &mut Account,
    head: Box<Head>,
    buffered: usize,
    surroundings: &Surroundings<'_>,
    commands: &mut Vec<Command>,
) -> (Phase, Flow) {
    account.request_bytes = buffered;
    match check_size(&head, buffered, surroundings) {
        Ok(()) => (Phase::ExpectBody(head), Flow::Hold),
        Err(answer) => answer.send(account, head.origin.as_deref(), commands),
    }
}

pub(super) fn on_complete(
    account: &mut Account,
    mut head: Head,
    bytes: &[u8],
    surroundings: &mut Surroundings<'_>,
    commands: &mut Vec<Command>,
) -> (Phase, Flow) {
    account.request_bytes = bytes.len();
    if let Err(answer) = check_size(&head, bytes.len(), surroundings) {
        return answer.send(account, head.origin.as_deref(), commands);
    }
    match head.caller {
        Caller::Known => match judge(account, surroundings, &mut head, bytes) {
            Ok(Judgement::Pass(judged)) => finish(account, *judged, head, commands),
            Ok(Judgement::Ask(application)) => {
                approval::begin(account, Box::new(head), *application, surroundings, commands)
            }
            Err(answer) => answer.send(account, head.origin.as_deref(), commands),
        },
        // The proxy holds the body meanwhile.
        Caller::Expect(_) => (Phase::ExpectBody(Box::new(head)), Flow::Hold),
    }
}

/// While the caller is unknown the proxy holds little for it.
fn check_size(head: &Head, bytes: usize, surroundings: &Surroundings<'_>) -> Result<(), answer::Answer> {
    match head.caller {
        _ if bytes > surroundings.policy.max_request_bytes.get() => Err(admit::too_large(surroundings.policy)),
        Caller::Expect(awaited) if bytes > limits::MAX_WAITING_BODY_BYTES => Err(answer::not_available(awaited)),
        Caller::Expect(_) | Caller::Known => Ok(()),
    }
}

pub(super) fn on_settled(
    account: &mut Account,
    mut head: Head,
    surroundings: &mut Surroundings<'_>,
    commands: &mut Vec<Command>,
) -> (Phase, Flow) {
    if let Caller::Expect(awaited) = head.caller {
        let recognised = admit::recognise_again(account, &head.token, awaited, surroundings);
        let checked = recognised.and_then(|caller| {
            admit::check_session(account, &head.token, &head.mcp, caller, surroundings).map(|()| caller)
        });
        head.caller = match checked {
            Ok(caller) => caller,
            Err(answer) => return answer.send(account, head.origin.as_deref(), commands),
        };
        if let Caller::Expect(next) = head.caller {
            commands.push(Command::Await(next));
        }
    }
    (Phase::ExpectBody(Box::new(head)), Flow::Hold)
}

/// The host does not do what the decision depends on.
pub(super) fn refuse_broken_host(account: &mut Account, commands: &mut Vec<Command>) -> (Phase, Flow) {
    answer::unavailable("The gateway cannot read this request", "host_failure", None).send(account, None, commands)
}

/// What is to become of a request that nothing speaks against.
enum Judgement {
    /// It may pass.
    Pass(Box<Judged>),
    /// It may once people have approved it.
    Ask(Box<Application>),
}

/// Who may pass, and in which words the upstream learns who it is.
struct Judged {
    permit: Permit,
    principal: Rc<Principal>,
    asked: Asked,
    edits: HeaderEdits,
    session: session::Expected,
    /// The body without what is the gateway's own, if there was any of that.
    body: Option<Vec<u8>>,
    /// The approved call, if the upstream may ask its caller for something first.
    continues: Option<Continuation>,
}

fn finish(account: &mut Account, judged: Judged, head: Head, commands: &mut Vec<Command>) -> (Phase, Flow) {
    let Judged { permit, principal, asked, mut edits, session, body, continues } = judged;
    edits.remove.extend(head.unwanted);
    if let Some(body) = body {
        if head.has_length {
            edits.set.push(("content-length", body.len().to_string().into()));
        }
        commands.push(Command::ReplaceRequestBody(body));
    }
    commands.push(Command::EditRequestHeaders(edits));
    account.decide(Verdict::Allow, "permitted");
    commands.push(Command::Decided { verdict: Verdict::Allow, reason: "permitted" });
    if account.approval_note().is_some_and(|note| note.status == ApprovalStatus::Approved) {
        commands.push(Command::CountApproval("granted"));
    }
    let Head { origin, peer, .. } = head;
    let forwarded = Forwarded { _permit: permit, origin, principal, peer, asked, session, continues };
    (Phase::Forwarded(Box::new(forwarded)), Flow::Pass)
}

fn judge(
    account: &mut Account,
    surroundings: &mut Surroundings<'_>,
    head: &mut Head,
    bytes: &[u8],
) -> Result<Judgement, answer::Answer> {
    // Again: the body may have taken its time, and the token expired or lost its key meanwhile.
    let principal = admit::identify(account, &head.token, surroundings)?;
    let session = session::open(&head.mcp, &principal, surroundings)?;
    let policy = surroundings.policy;
    if head.endpoint == Endpoint::Permissions {
        return Err(permissions(account, policy, surroundings.subject(&principal, &head.peer)));
    }
    let calls = calls_of(head, bytes, policy)?;
    let subject = surroundings.subject(&principal, &head.peer);
    let request = AccessRequest { subject, calls: &calls };
    let (permit, approved) = match decide(&policy.rules, &policy.directory, request) {
        Decision::Permit(permit) => (permit, None),
        Decision::Oblige(obligation) => {
            account.note_calls(&calls, None, policy);
            let Some(call) = calls.first() else { return Err(answer::bad_request(400, "Empty", "invalid_request")) };
            // An array of one is a batch, too: what is bound is one message.
            if bytes.trim_ascii_start().starts_with(b"[") {
                return Err(denied(account, policy, subject, Some(call), &Denial::ApprovalInBatch));
            }
            let capabilities = session.as_ref().map(|session| session.capabilities);
            let case = Case { call, bytes, principal: &principal, capabilities };
            match head.approved.take() {
                None => {
                    let application = case.apply(account, obligation, policy, surroundings.now)?;
                    return Ok(Judgement::Ask(Box::new(application)));
                }
                Some(approved) => {
                    let (permit, continues) = case.settle(account, obligation, approved, policy)?;
                    (permit, Some(continues))
                }
            }
        }
        Decision::Deny { call, denial } => {
            account.note_calls(&calls, Some(call), policy);
            return Err(denied(account, policy, subject, calls.get(call), &denial));
        }
    };
    if approved.is_none() {
        account.note_calls(&calls, None, policy);
    }
    let Some(identity) = principal.identity_headers(&policy.directory) else {
        return Err(answer::identity_too_long(account.id, calls.first().and_then(|call| call.id)));
    };
    let body = approval::without_own_fields(account, &calls, bytes, &principal, surroundings)?;
    let mut edits = HeaderEdits { identity: Some(identity), ..HeaderEdits::default() };
    edits.set.push((DECISION_HEADER, account.id.to_string().into()));
    edits.set.extend(session.iter().map(|session| (SESSION_HEADER, session.upstream_id.clone().into())));
    // What comes back may have to be read.
    edits.set.push(("accept-encoding", "identity".into()));
    edits.remove.extend(unchecked_headers(&head.mcp, &calls));
    let session = session::expected(session, &head.mcp, &calls, &principal, policy);
    // In older revisions a result cannot ask for anything.
    let continues = approved.filter(|_| calls.first().is_some_and(|call| call.revision.is_stateless()));
    let (asked, principal) = (Asked::of(&calls), Rc::clone(&principal));
    Ok(Judgement::Pass(Box::new(Judged { permit, principal, asked, edits, session, body, continues })))
}

/// What a request asks for.
fn calls_of<'a>(head: &Head, bytes: &'a [u8], policy: &CompiledPolicy) -> Result<Vec<Call<'a>>, answer::Answer> {
    match head.method {
        HttpMethod::Post => {
            let body = Body::parse(bytes).map_err(answer::unreadable)?;
            classify(body, &head.mcp, &policy.revisions).map_err(|error| answer::Answer::from(error.into_reply()))
        }
        HttpMethod::Get | HttpMethod::Delete if !bytes.is_empty() => {
            Err(answer::bad_request(400, "This request must not have a body", "unexpected_body"))
        }
        // A stream of an earlier session, or its end: nothing that a rule could name.
        HttpMethod::Get | HttpMethod::Delete => Ok(Vec::new()),
    }
}

/// Why a call does not pass, as far as its caller may know.
fn denied(
    account: &mut Account,
    policy: &CompiledPolicy,
    subject: Subject<'_>,
    call: Option<&Call<'_>>,
    denial: &Denial,
) -> answer::Answer {
    account.note_denial(denial);
    // A token that was cut off is told so whatever it asks for: its client must get another one.
    if policy.conceals
        && !denial.is_token_revoked()
        && let Some(call) = call
        && visibility(&policy.rules, &policy.directory, subject, &Effort::default(), &call.target).is_none()
        && let Some(answer) = answer::unknown(call, denial)
    {
        return answer;
    }
    let granted: Vec<&str> = subject.principal.token().scopes().collect();
    answer::denied(policy, account.id, denial, &granted, call.and_then(|call| call.id))
}

/// Whether a call that was allowed before still could be, as far as that does not depend on its arguments.
///
/// # Errors
/// The answer that the caller would get for it now.
pub(super) fn could_pass(
    account: &mut Account,
    head: &Head,
    target: &Target<'_>,
    id: Option<RequestId<'_>>,
    surroundings: &mut Surroundings<'_>,
) -> Result<(), answer::Answer> {
    let principal = admit::identify(account, &head.token, surroundings)?;
    session::open(&head.mcp, &principal, surroundings)?;
    let (policy, subject) = (surroundings.policy, surroundings.subject(&principal, &head.peer));
    let denial = match prospect(&policy.rules, &policy.directory, subject, &Effort::default(), target) {
        Ok(Duties { step_up: None, .. }) => return Ok(()),
        Ok(Duties { step_up: Some(step_up), .. }) => Denial::InsufficientAuthentication(step_up),
        Err(denial) => denial,
    };
    account.note_denial(&denial);
    let granted: Vec<&str> = principal.token().scopes().collect();
    Err(answer::denied(policy, account.id, &denial, &granted, id))
}

/// What the caller may do. Whoever holds a token that was cut off learns nothing with it.
fn permissions(account: &mut Account, policy: &CompiledPolicy, subject: Subject<'_>) -> answer::Answer {
    let nothing = AccessRequest { subject, calls: &[] };
    match decide(&policy.rules, &policy.directory, nothing) {
        Decision::Deny { denial, .. } if denial.is_token_revoked() => {
            account.note_denial(&denial);
            answer::denied(policy, account.id, &denial, &[], None)
        }
        Decision::Permit(_) | Decision::Oblige(_) | Decision::Deny { .. } => answer::permissions(policy, subject),
    }
}

/// The headers that mirror the body, as far as they are there and nobody has compared them with it.
fn unchecked_headers(mcp: &McpHeaders, calls: &[Call<'_>]) -> Vec<Cow<'static, [u8]>> {
    let first = calls.first();
    let mut names = Vec::new();
    if mcp.method.is_some() && !first.is_some_and(|call| call.revision.is_stateless()) {
        names.push(b"mcp-method".into());
    }
    if mcp.name.is_some() && !first.is_some_and(Call::mirrors_its_name) {
        names.push(b"mcp-name".into());
    }
    names
}

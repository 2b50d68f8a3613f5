//! What happens to the answer.
//!
//! Most answers pass as they are. A list is held until it is whole, an event stream is looked at event by event; what
//! of them the caller may not see is taken out by the same function that decides calls (see `view`).

use std::borrow::Cow;
use std::rc::Rc;

use serde_json::value::RawValue;

use super::account::Account;
use super::answer::{CORS_EXPOSED, DECISION_HEADER, for_page};
use super::approval::Continuation;
use super::command::{Command, Flow, HeaderEdits};
use super::hygiene::unwanted_in_answer;
use super::view::CallerView;
use super::{DecisionId, Phase, Surroundings, session};
use crate::http::{HeaderList, LocalReply, Single};
use crate::identity::{Peer, Principal};
use crate::limits;
use crate::mcp::sse::{Edit, EventStream, EventTooLarge};
use crate::mcp::{Call, ClientFeature, ErrorCode, RequestId, Reviewed, RpcError, review};
use crate::policy::Permit;

/// What an answer is held against.
#[derive(Debug)]
pub(super) struct Forwarded {
    /// The proof that the decision function allowed the request.
    pub(super) _permit: Permit,
    /// The allowed web origin that asked, for the CORS headers of the answer.
    pub(super) origin: Option<String>,
    /// Who asked.
    pub(super) principal: Rc<Principal>,
    /// From where.
    pub(super) peer: Peer,
    /// For what.
    pub(super) asked: Asked,
    /// What the answer may say about a session.
    pub(super) session: session::Expected,
    /// The approved call, if the upstream may ask its caller for something first.
    pub(super) continues: Option<Continuation>,
}

/// What a request asked for, as far as its answer must be understood.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// For a list, perhaps among other things.
    pub(super) has_list: bool,
    /// Any of its calls has an answer, which could ask something of the client.
    pub(super) has_result: bool,
    /// In a revision without sessions.
    pub(super) is_stateless: bool,
    /// The id of its only call.
    pub(super) id: Option<Box<RawValue>>,
}

impl Asked {
    /// What these calls ask for.
    pub(super) fn of(calls: &[Call<'_>]) -> Self {
        let id = match calls {
            [call] => call.id.map(|id| id.raw().to_owned()),
            _ => None,
        };
        Self {
            has_list: calls.iter().any(|call| call.method.is_some_and(crate::mcp::Method::is_list)),
            has_result: calls.iter().any(|call| call.method.is_some() && call.id.is_some()),
            is_stateless: calls.first().is_some_and(|call| call.revision.is_stateless()),
            id,
        }
    }
}

/// An answer that is held until it is complete.
#[derive(Debug)]
pub(super) struct Holding {
    forwarded: Box<Forwarded>,
    is_success: bool,
}

/// An event stream on its way to the client.
#[derive(Debug)]
pub(super) struct Streaming {
    forwarded: Box<Forwarded>,
    events: EventStream,
}

impl Streaming {
    pub(super) const fn held_bytes(&self) -> usize {
        self.events.held_bytes()
    }
}

/// How the body of an answer is looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Treatment {
    Pass,
    Hold,
    Stream,
}

pub(super) fn on_headers(
    account: &mut Account,
    forwarded: Box<Forwarded>,
    headers: &HeaderList,
    end_of_stream: bool,
    surroundings: &Surroundings<'_>,
    commands: &mut Vec<Command>,
) -> (Phase, Flow) {
    // The upstream trusts the gateway, so its 401 or 407 is a fault of the set-up. Its challenge would send the client,
    // with its credentials, to an authorization server that the gateway does not know. MCP has no upgrades, and no
    // redirects either: one would send the client, with token and body, past the gateway.
    account.note_status(headers);
    let status = headers.value(":status").unwrap_or_default();
    let sends_elsewhere = status.starts_with('3') && headers.contains("location");
    if matches!(status, "101" | "401" | "407") || sends_elsewhere {
        commands.push(Command::UpstreamRefused);
        let text = "The MCP server did not accept the gateway's request";
        return refuse(account, &forwarded, text, "upstream_refused", commands);
    }
    let treatment = if end_of_stream {
        Treatment::Pass
    } else {
        match treatment(&forwarded, headers, surroundings) {
            Ok(treatment) => treatment,
            Err(Unsuitable { text, reason }) => {
                commands.push(Command::Withheld { what: reason, count: 1 });
                return refuse(account, &forwarded, text, reason, commands);
            }
        }
    };
    let mut edits = HeaderEdits { remove: unwanted_in_answer(headers), ..HeaderEdits::default() };
    if let Err(problem) = session::on_answer(&forwarded.session, headers, surroundings, &mut edits) {
        commands.push(Command::UpstreamUnusable { reason: problem.reason, remedy: problem.remedy });
        let text = "The session with the MCP server cannot be secured";
        return refuse(account, &forwarded, text, problem.reason, commands);
    }
    if treatment == Treatment::Hold && matches!(media_type(headers), MediaType::Other) {
        // What comes out is JSON, the upstream's own or in its place.
        edits.set.push(("content-type", "application/json".into()));
    }
    if treatment != Treatment::Pass {
        let of_the_body = OF_THE_BODY.into_iter().filter(|name| headers.contains(name));
        edits.remove.extend(of_the_body.map(|name| name.as_bytes().into()));
    }
    if let Some(origin) = &forwarded.origin {
        edits.set.push(("access-control-allow-origin", origin.clone().into()));
        edits.set.push(("access-control-expose-headers", CORS_EXPOSED.into()));
        edits.add.push(("vary", "origin".into()));
    }
    if !edits.is_empty() {
        commands.push(Command::EditResponseHeaders(edits));
    }
    if let (Some(audit), Some(id), true) =
        (&surroundings.policy.audit, &forwarded.asked.id, is_readable(headers, treatment))
    {
        account.watch_answer(audit, id);
    }
    match treatment {
        Treatment::Pass => (Phase::Answered, Flow::Pass),
        Treatment::Hold => {
            let holding = Holding { is_success: is_success(headers), forwarded };
            (Phase::Holding(Box::new(holding)), Flow::Hold)
        }
        Treatment::Stream => {
            commands.push(watch(&forwarded, surroundings));
            let streaming = Streaming { forwarded, events: EventStream::default() };
            (Phase::Streaming(Box::new(streaming)), Flow::Pass)
        }
    }
}

/// Fields that describe the very bytes of a body.
const OF_THE_BODY: [&str; 6] = ["content-length", "content-md5", "content-digest", "digest", "repr-digest", "etag"];

/// An answer that must be looked at and cannot be.
struct Unsuitable {
    text: &'static str,
    reason: &'static str,
}

fn treatment(
    forwarded: &Forwarded,
    headers: &HeaderList,
    surroundings: &Surroundings<'_>,
) -> Result<Treatment, Unsuitable> {
    let asked = &forwarded.asked;
    let asks_freely = ALL_FEATURES.iter().all(|feature| surroundings.policy.server_requests.contains(feature));
    let is_interesting = asked.has_list || forwarded.continues.is_some() || (asked.has_result && !asks_freely);
    let treatment = match media_type(headers) {
        MediaType::EventStream => Treatment::Stream,
        // What nobody asked for could be anything.
        MediaType::Json if is_interesting || !asked.has_result => Treatment::Hold,
        MediaType::Json => Treatment::Pass,
        // Whatever an error is made of: it may be read, and replaced, but its status counts.
        MediaType::Other if asked.has_list && !is_success(headers) => Treatment::Hold,
        MediaType::Other if is_interesting && is_success(headers) => {
            return Err(Unsuitable {
                text: "The answer of the MCP server is neither JSON nor an event stream",
                reason: "answer_media_type",
            });
        }
        MediaType::Other => Treatment::Pass,
        MediaType::Ambiguous => {
            return Err(Unsuitable {
                text: "The answer of the MCP server has no clear media type",
                reason: "answer_media_type",
            });
        }
    };
    if treatment != Treatment::Pass && !is_plain(headers) {
        return Err(Unsuitable {
            text: "The MCP server has compressed an answer that it was asked not to compress",
            reason: "answer_encoded",
        });
    }
    Ok(treatment)
}

fn is_plain(headers: &HeaderList) -> bool {
    match headers.single("content-encoding") {
        Single::Absent => true,
        Single::Value(encoding) => encoding.eq_ignore_ascii_case("identity"),
        Single::Ambiguous => false,
    }
}

/// Whether a record can say what the answer is.
fn is_readable(headers: &HeaderList, treatment: Treatment) -> bool {
    match treatment {
        Treatment::Hold | Treatment::Stream => true,
        Treatment::Pass => matches!(media_type(headers), MediaType::Json) && is_plain(headers),
    }
}

fn is_success(headers: &HeaderList) -> bool {
    headers.value(":status").is_some_and(|status| status.starts_with('2'))
}

/// What a policy can keep an upstream from asking for.
const ALL_FEATURES: [ClientFeature; 3] = [ClientFeature::Sampling, ClientFeature::Elicitation, ClientFeature::Roots];

enum MediaType {
    EventStream,
    Json,
    Other,
    /// Clients could take it for an event stream, or for something else.
    Ambiguous,
}

fn media_type(headers: &HeaderList) -> MediaType {
    match headers.single("content-type") {
        Single::Absent => MediaType::Other,
        Single::Ambiguous => MediaType::Ambiguous,
        Single::Value(value) => {
            let value = value.to_ascii_lowercase();
            match value.split(';').next().unwrap_or_default().trim() {
                "text/event-stream" => MediaType::EventStream,
                // Some clients look for the name anywhere in the field.
                _ if value.contains("event-stream") => MediaType::Ambiguous,
                "application/json" => MediaType::Json,
                _ if value.contains("application/json") => MediaType::Ambiguous,
                _ => MediaType::Other,
            }
        }
    }
}

/// More of a list arrived.
pub(super) fn on_body_progress(
    account: &mut Account,
    holding: Box<Holding>,
    buffered: usize,
    commands: &mut Vec<Command>,
) -> (Phase, Flow) {
    if buffered > limits::MAX_LIST_BYTES {
        return too_large(account, &holding.forwarded, commands);
    }
    (Phase::Holding(holding), Flow::Hold)
}

/// A list is complete: its headers are still held, so it can be refused.
pub(super) fn on_complete(
    account: &mut Account,
    holding: &Holding,
    body: &[u8],
    surroundings: &mut Surroundings<'_>,
    commands: &mut Vec<Command>,
) -> (Phase, Flow) {
    let Holding { forwarded, is_success } = holding;
    let (policy, now) = (surroundings.policy, surroundings.now);
    if body.len() > limits::MAX_LIST_BYTES {
        return too_large(account, forwarded, commands);
    }
    if body.is_empty() {
        return (Phase::Finished, Flow::Pass);
    }
    let mut view = CallerView::new(forwarded, surroundings);
    let before = view.before();
    let reviewed = review(body, &mut view).and_then(|reviewed| match &forwarded.continues {
        Some(continues) => continues.keep_in(reviewed, body, policy, now),
        None => Ok(reviewed),
    });
    if matches!(reviewed, Ok(Reviewed::Nothing) | Err(_)) {
        view.go_back(before);
    }
    let CallerView { hidden, came, .. } = view;
    account.hidden = hidden;
    if hidden > 0 {
        commands.push(Command::Withheld { what: "element", count: hidden });
    }
    // The record is about what the client gets.
    match reviewed {
        Ok(Reviewed::Unchanged) => account.read_judged(came, body),
        Ok(Reviewed::Changed(body)) => {
            account.read_judged(came, &body);
            commands.push(Command::ReplaceResponseBody(body));
        }
        Ok(Reviewed::Nothing) | Err(_) => {
            commands.push(Command::Withheld { what: "answer_unreadable", count: 1 });
            let text = "The answer of the MCP server cannot be read";
            if *is_success {
                return refuse(account, forwarded, text, "answer_unreadable", commands);
            }
            // Clients go by the status: 404 makes them begin a new session. The gateway's words take the place of the
            // upstream's.
            let error = bad_gateway(account.id, forwarded.asked.id.as_deref(), text, "answer_unreadable");
            commands.push(Command::ReplaceResponseBody(error.body));
        }
    }
    (Phase::Finished, Flow::Pass)
}

fn too_large(account: &mut Account, forwarded: &Forwarded, commands: &mut Vec<Command>) -> (Phase, Flow) {
    commands.push(Command::Withheld { what: "answer_too_large", count: 1 });
    refuse(account, forwarded, "The list of the MCP server is too large to be filtered", "answer_too_large", commands)
}

/// The next part of an event stream arrived.
pub(super) fn on_chunk(
    account: &mut Account,
    mut streaming: Box<Streaming>,
    bytes: &[u8],
    end_of_stream: bool,
    surroundings: &mut Surroundings<'_>,
    commands: &mut Vec<Command>,
) -> (Phase, Flow) {
    if let Some(reason) = why_to_end(&streaming.forwarded, surroundings) {
        return cut_off(account, reason, commands);
    }
    let Streaming { forwarded, events } = &mut *streaming;
    let (policy, now) = (surroundings.policy, surroundings.now);
    let mut view = CallerView::new(forwarded, surroundings);
    let (mut unreadable, mut refused) = (0_usize, 0_usize);
    let look = |data: &[u8], view: &mut CallerView<'_, '_>| match (review(data, view), &forwarded.continues) {
        (Ok(reviewed), Some(continues)) => continues.keep_in(reviewed, data, policy, now),
        (reviewed, _) => reviewed,
    };
    let before_chunk = view.before();
    let mut edit = |data: &[u8]| {
        let before = view.before();
        let reviewed = look(data, &mut view);
        let came = std::mem::take(&mut view.came);
        if matches!(reviewed, Ok(Reviewed::Nothing) | Err(_)) {
            view.go_back(before);
        }
        match reviewed {
            Ok(Reviewed::Unchanged) => {
                account.read_judged(came, data);
                Edit::Keep
            }
            Ok(Reviewed::Changed(data)) => {
                account.read_judged(came, &data);
                Edit::Replace(data)
            }
            Ok(Reviewed::Nothing) => {
                refused = refused.saturating_add(1);
                Edit::Drop
            }
            Err(_) => {
                unreadable = unreadable.saturating_add(1);
                Edit::Drop
            }
        }
    };
    let fed = events.feed(bytes, &mut edit);
    if fed.is_err() {
        view.go_back(before_chunk);
    }
    let hidden = view.hidden;
    account.hidden = account.hidden.saturating_add(hidden).saturating_add(refused).saturating_add(unreadable);
    for (what, count) in [("element", hidden), ("message", refused), ("event_unreadable", unreadable)] {
        if count > 0 {
            commands.push(Command::Withheld { what, count });
        }
    }
    match fed {
        // Of a part of the chunk the length is enough.
        Ok(Cow::Borrowed(out)) if out.len() == bytes.len() => {}
        Ok(Cow::Owned(out)) if out == bytes => {}
        Ok(out) => commands.push(Command::ReplaceResponseBody(out.into_owned())),
        Err(EventTooLarge) => {
            commands.push(Command::Withheld { what: "event_too_large", count: 1 });
            return cut_off(account, "event_too_large", commands);
        }
    }
    (if end_of_stream { Phase::Finished } else { Phase::Streaming(streaming) }, Flow::Pass)
}

/// Ends an event stream that may not go on.
pub(super) fn on_time_passed(
    account: &mut Account,
    streaming: Box<Streaming>,
    surroundings: &Surroundings<'_>,
    commands: &mut Vec<Command>,
) -> (Phase, Flow) {
    match why_to_end(&streaming.forwarded, surroundings) {
        Some(reason) => cut_off(account, reason, commands),
        None => {
            commands.push(watch(&streaming.forwarded, surroundings));
            (Phase::Streaming(streaming), Flow::Pass)
        }
    }
}

/// Nothing may come down a stream for hours: it is looked after all the same.
fn watch(forwarded: &Forwarded, surroundings: &Surroundings<'_>) -> Command {
    let expiry = forwarded.principal.token().expires_at().plus(limits::CLOCK_SKEW);
    Command::Watch(expiry.min(surroundings.now.plus(limits::STREAM_RECHECK)))
}

/// A stream may last as long as its caller could begin it anew.
fn why_to_end(forwarded: &Forwarded, surroundings: &Surroundings<'_>) -> Option<&'static str> {
    let Forwarded { principal, peer, .. } = forwarded;
    let Surroundings { policy, now, .. } = surroundings;
    if principal.token().check_times(*now).is_err() {
        return Some("token_expired");
    }
    let is_cut_off = !principal.objections(&policy.directory, surroundings.revoked(), peer, *now).is_empty();
    is_cut_off.then_some("not_permitted")
}

fn cut_off(account: &mut Account, reason: &'static str, commands: &mut Vec<Command>) -> (Phase, Flow) {
    account.cut_off = Some(reason);
    commands.push(Command::CutOff { reason });
    (Phase::Finished, Flow::Hold)
}

/// The host does not do what the rest of a stream depends on.
pub(super) fn cut_off_by_broken_host(account: &mut Account, commands: &mut Vec<Command>) -> (Phase, Flow) {
    cut_off(account, "host_failure", commands)
}

/// The answer of the upstream cannot be read.
pub(super) fn refuse_broken_host(account: &mut Account, commands: &mut Vec<Command>) -> (Phase, Flow) {
    account.cut_off = Some("host_failure");
    commands.push(Command::Reply(bad_gateway(
        account.id,
        None,
        "The answer of the MCP server cannot be read",
        "host_failure",
    )));
    (Phase::Finished, Flow::Hold)
}

/// Answers in place of the upstream, none of whose bytes has been sent.
fn refuse(
    account: &mut Account,
    forwarded: &Forwarded,
    text: &str,
    reason: &'static str,
    commands: &mut Vec<Command>,
) -> (Phase, Flow) {
    account.cut_off = Some(reason);
    let reply = bad_gateway(account.id, forwarded.asked.id.as_deref(), text, reason);
    account.status = Some(reply.status);
    commands.push(Command::Reply(for_page(reply, forwarded.origin.as_deref())));
    (Phase::Finished, Flow::Hold)
}

fn bad_gateway(id: DecisionId, request: Option<&RawValue>, message: &str, reason: &'static str) -> LocalReply {
    RpcError::new(ErrorCode::Unavailable, message)
        .into_reply(502, request.map(RequestId::new), reason)
        .with_header(DECISION_HEADER, id.to_string())
}

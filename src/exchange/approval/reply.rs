//! What the caller of a gated call is told, in the form that its client understands best.
//!
//! | client | pending | refused |
//! |---|---|---|
//! | 2026-07-28, declares `elicitation.url` with the request | `input_required` with a URL elicitation | as below |
//! | 2025-11-25, declared `elicitation.url` at `initialize` | error -32042 with a URL elicitation | as below |
//! | any other that calls a tool | a result with `isError`, which models read | the same |
//! | any other | a JSON-RPC error | the same |
//!
//! All of it is HTTP 200, as an error of HTTP would be shown to nobody.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::approval::{ApprovalId, Ended, Reason};
use crate::audit::clean;
use crate::exchange::DecisionId;
use crate::exchange::answer::Answer;
use crate::http::LocalReply;
use crate::limits;
use crate::mcp::{
    APPROVAL_INPUT, Call, Capability, ClientCapabilities, ErrorCode, Method, RequestId, Revision, RpcError, Target,
};

/// Whom to answer, and how.
#[derive(Debug)]
pub(super) struct ReplyTo {
    id: Option<Box<RawValue>>,
    /// What was called, for people.
    what: String,
    is_tool: bool,
    is_stateless: bool,
    asks_by: Elicitation,
}

/// How a client can be asked to open a page.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Elicitation {
    /// By a result (MCP 2026-07-28, multi round-trip requests).
    Result,
    /// By an error (MCP 2025-11-25, elicitation, URL mode).
    Error,
    /// Not at all.
    None,
}

/// A link to where people decide, and what the client is to bring back.
pub(super) struct Page<'a> {
    pub(super) id: &'a ApprovalId,
    pub(super) link: &'a str,
    /// For clients that bring back what they are given.
    pub(super) state: Option<String>,
    /// Others were asked too.
    pub(super) escalated: bool,
}

impl ReplyTo {
    /// `session` is what the client declared when its session began.
    pub(super) fn new(call: &Call<'_>, session: Option<ClientCapabilities>) -> Self {
        let can_come_back = matches!(call.method, Some(Method::ToolsCall | Method::PromptsGet | Method::ResourcesRead));
        let opens_pages = |capabilities: ClientCapabilities| capabilities.has(Capability::ElicitationUrl);
        let asks_by = match call.revision {
            Revision::V2026_07_28 if can_come_back && opens_pages(call.capabilities) => Elicitation::Result,
            Revision::V2025_11_25 if session.is_some_and(opens_pages) => Elicitation::Error,
            Revision::V2025_03_26 | Revision::V2025_06_18 | Revision::V2025_11_25 | Revision::V2026_07_28 => {
                Elicitation::None
            }
        };
        let what = match &call.target {
            Target::Tool(name) | Target::Prompt(name) => clean(name, limits::MAX_BATCH_NAME_BYTES).into_owned(),
            Target::Resources(_) | Target::Protocol | Target::Task => "this resource".to_owned(),
        };
        Self {
            id: call.id.map(|id| id.raw().to_owned()),
            what,
            is_tool: call.method == Some(Method::ToolsCall),
            is_stateless: call.revision.is_stateless(),
            asks_by,
        }
    }

    pub(super) fn id(&self) -> Option<RequestId<'_>> {
        self.id.as_deref().map(RequestId::new)
    }

    /// A result of the call.
    fn result(&self, mut result: Value, kind: &str, reason: &'static str) -> Answer {
        #[derive(Serialize)]
        struct Response<'a> {
            jsonrpc: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            id: Option<&'a RawValue>,
            result: Value,
        }
        if let (true, Value::Object(members)) = (self.is_stateless, &mut result) {
            members.insert("resultType".to_owned(), kind.into());
        }
        let response = Response { jsonrpc: "2.0", id: self.id.as_deref(), result };
        let mut reply = LocalReply::json(200, &Value::Null, reason);
        // Serialising strings does not fail; an empty body would still be a refusal.
        reply.body = serde_json::to_vec(&response).unwrap_or_default();
        reply.into()
    }

    /// A result that says that nothing was done, or an error where there are no such results.
    fn failure(&self, code: ErrorCode, text: String, details: Value, reason: &'static str) -> Answer {
        if self.is_tool {
            let content = json!([{"type": "text", "text": text}]);
            let result = json!({"content": content, "isError": true, "_meta": {APPROVAL_INPUT: details}});
            return self.result(result, "complete", reason);
        }
        RpcError::new(code, text).with_data(details).into_reply(200, self.id(), reason).into()
    }
}

/// People are asked, and the caller is to come again.
pub(super) fn pending(to: &ReplyTo, decision: DecisionId, page: Page<'_>) -> Answer {
    const REASON: &str = Reason::Pending.code();
    let Page { id, link, state, escalated } = page;
    let what = &to.what;
    let others = if escalated { " Nobody had answered, so others were asked too." } else { "" };
    let short = format!("A person must approve this call of {what} before it is carried out.{others} Reference: {id}");
    match to.asks_by {
        Elicitation::Result => {
            let params = json!({"mode": "url", "message": short, "url": link});
            let request = json!({"method": "elicitation/create", "params": params});
            let mut result = json!({"inputRequests": {APPROVAL_INPUT: request}});
            if let (Some(state), Value::Object(members)) = (state, &mut result) {
                members.insert("requestState".to_owned(), state.into());
            }
            to.result(result, "input_required", REASON)
        }
        Elicitation::Error => {
            let elicitation = json!({"mode": "url", "elicitationId": id.as_str(), "url": link, "message": short});
            let data = json!({"elicitations": [elicitation], "decision_id": decision.to_string()});
            RpcError::new(ErrorCode::UrlElicitationRequired, short)
                .with_data(data)
                .into_reply(200, to.id(), REASON)
                .into()
        }
        Elicitation::None => {
            let text = format!(
                "Approval required: a person must approve this call of {what}, and was asked.{others} Nothing has been \
                 done yet. Where it can be seen and decided: {link} (reference {id}). Once it is approved, send exactly \
                 the same call again: it is then carried out, once. To send it earlier does no harm."
            );
            let details = json!({
                "reason": REASON,
                "approval_id": id.as_str(),
                "approval_url": link,
                "decision_id": decision.to_string(),
            });
            to.failure(ErrorCode::ApprovalRequired, text, details, REASON)
        }
    }
}

/// People have decided, or it is too late for them to. `why` is what they say.
pub(super) fn decided(to: &ReplyTo, decision: DecisionId, id: &ApprovalId, ended: Ended, why: Option<&str>) -> Answer {
    let why = why.map(|why| clean(why, limits::MAX_SHOWN_TEXT_BYTES)).filter(|why| !why.is_empty());
    refusal(to, decision, ended.reason(), Some(id), why.as_deref())
}

/// The call is denied for a reason that nobody decided.
pub(super) fn refused(to: &ReplyTo, decision: DecisionId, reason: Reason, id: Option<&ApprovalId>) -> Answer {
    refusal(to, decision, reason, id, None)
}

fn refusal(to: &ReplyTo, decision: DecisionId, reason: Reason, id: Option<&ApprovalId>, why: Option<&str>) -> Answer {
    let mut text = format!("{} This call of {} was not carried out.", explanation(reason), to.what);
    for (label, value) in [("The approver says", why), ("Reference", id.map(ApprovalId::as_str))] {
        text.extend(value.map(|value| format!(" {label}: {value}")));
    }
    let details = json!({
        "reason": reason.code(),
        "approval_id": id.map(ApprovalId::as_str),
        "decision_id": decision.to_string(),
    });
    to.failure(ErrorCode::Denied, text, details, reason.code())
}

/// What happened, and whether it helps to send the call again.
const fn explanation(reason: Reason) -> &'static str {
    match reason {
        Reason::Rejected => "A person has rejected it; to send it again will not help.",
        Reason::Expired => {
            "Nobody approved it in time, or the approval was not used in time. Send it again to ask anew."
        }
        Reason::Cancelled => "The request for its approval was taken back. Send it again to ask anew.",
        Reason::Declined => "It needs the approval of a person, and you did not want to wait for that.",
        Reason::Used => {
            "The approval was used for the same call before. Send the call without `requestState` to ask anew."
        }
        Reason::StateInvalid => {
            "The `requestState` that came with it was made for another call, or is too old. Send the call without it."
        }
        Reason::Busy => "Too many calls wait for approvals at the moment. Send it again later.",
        Reason::CircuitOpen | Reason::Unreachable | Reason::Timeout | Reason::Error | Reason::Unavailable => {
            "It needs the approval of a person, and nobody can be asked at the moment. Send it again later."
        }
        Reason::Pending | Reason::InBatch => "It needs the approval of a person.",
        Reason::Malformed
        | Reason::Oversized
        | Reason::Unsigned
        | Reason::KeyUnknown
        | Reason::Signature
        | Reason::Issuer
        | Reason::Audience
        | Reason::Stale
        | Reason::Mismatch
        | Reason::Replayed
        | Reason::OwnRequest
        | Reason::Unentitled => {
            "It needs the approval of a person, and what the approval service answered cannot be trusted."
        }
    }
}

//! What happens to the answer.

use std::rc::Rc;

use super::answer::{CORS_EXPOSED, DECISION_HEADER, for_page};
use super::command::{Command, Flow, HeaderEdits};
use super::hygiene::unwanted_in_answer;
use super::{DecisionId, Phase};
use crate::http::{HeaderList, LocalReply};
use crate::identity::{Peer, Principal};
use crate::mcp::{ErrorCode, RpcError};
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
}

pub(super) fn on_headers(
    id: DecisionId,
    forwarded: Box<Forwarded>,
    headers: &HeaderList,
    commands: &mut Vec<Command>,
) -> (Phase, Flow) {
    let origin = &forwarded.origin;
    // The upstream trusts the gateway, so its 401 or 407 is a fault of the set-up. Its challenge would send the client,
    // with its credentials, to an authorization server that the gateway does not know. MCP has no upgrades, and no
    // redirects either: one would send the client, with token and body, past the gateway.
    let status = headers.value(":status").unwrap_or_default();
    let sends_elsewhere = status.starts_with('3') && headers.contains("location");
    if matches!(status, "101" | "401" | "407") || sends_elsewhere {
        commands.push(Command::UpstreamRefused);
        let text = "The MCP server did not accept the gateway's request";
        let reply = bad_gateway(id, text, "upstream_refused");
        commands.push(Command::Reply(for_page(reply, origin.as_deref())));
        return (Phase::Closed, Flow::Hold);
    }
    let mut edits = HeaderEdits { remove: unwanted_in_answer(headers), ..HeaderEdits::default() };
    if let Some(origin) = origin {
        edits.set.push(("access-control-allow-origin", origin.clone()));
        edits.set.push(("access-control-expose-headers", CORS_EXPOSED.to_owned()));
        edits.add.push(("vary", "origin".to_owned()));
    }
    if !edits.is_empty() {
        commands.push(Command::EditResponseHeaders(edits));
    }
    (Phase::Forwarded(forwarded), Flow::Pass)
}

/// The answer of the upstream cannot be read.
pub(super) fn refuse_broken_host(id: DecisionId, commands: &mut Vec<Command>) -> (Phase, Flow) {
    commands.push(Command::Reply(bad_gateway(id, "The answer of the MCP server cannot be read", "host_failure")));
    (Phase::Closed, Flow::Hold)
}

fn bad_gateway(id: DecisionId, message: &str, reason: &'static str) -> LocalReply {
    RpcError::new(ErrorCode::Unavailable, message)
        .into_reply(502, None, reason)
        .with_header(DECISION_HEADER, id.to_string())
}

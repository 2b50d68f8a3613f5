//! The gateway's own answers to requests: what is wrong, and what would unlock it.

use serde_json::{Value, json};

use super::DecisionId;
use super::Phase;
use super::account::Account;
use super::command::{Awaited, Command, Flow, Verdict};
use crate::config::CompiledPolicy;
use crate::http::LocalReply;
use crate::identity::Failure;
use crate::limits;
use crate::mcp::{Call, ErrorCode, RequestId, RpcError, Target, Unreadable};
use crate::oauth::{Challenge, ChallengeError};
use crate::policy::{Denial, StepUp, Subject, permissions as permissions_of};
use crate::units::Seconds;

/// Carries the id of the decision: to the client with every answer of the gateway, to the upstream with every request.
pub(super) const DECISION_HEADER: &str = "x-toolgate-decision";

/// Headers that pages of allowed origins may read.
pub(super) const CORS_EXPOSED: &str = "mcp-session-id, mcp-protocol-version, www-authenticate, x-toolgate-decision";

/// Headers that pages of allowed origins may send.
const CORS_ALLOWED: &str = "authorization, content-type, accept, mcp-protocol-version, mcp-session-id, mcp-method, \
                            mcp-name, last-event-id";

/// An answer of the gateway, and what it means.
#[derive(Debug)]
pub(super) struct Answer {
    verdict: Verdict,
    reply: LocalReply,
}

impl From<LocalReply> for Answer {
    fn from(reply: LocalReply) -> Self {
        Self { verdict: Verdict::Deny, reply }
    }
}

impl Answer {
    /// Sends the answer and ends the exchange.
    pub(super) fn send(
        self,
        account: &mut Account,
        origin: Option<&str>,
        commands: &mut Vec<Command>,
    ) -> (Phase, Flow) {
        let Self { verdict, reply } = self;
        account.decide(verdict, reply.details);
        account.status = Some(reply.status);
        commands.extend(reply.details.strip_prefix("approval_").map(Command::CountApproval));
        commands.push(Command::Decided { verdict, reason: reply.details });
        let reply = reply.with_header(DECISION_HEADER, account.id.to_string());
        commands.push(Command::Reply(for_page(reply, origin)));
        (Phase::Closed, Flow::Hold)
    }
}

/// The same answer, readable for the page of an allowed origin that asked.
pub(super) fn for_page(reply: LocalReply, origin: Option<&str>) -> LocalReply {
    match origin {
        None => reply,
        Some(origin) => reply
            .with_header("access-control-allow-origin", origin)
            .with_header("access-control-expose-headers", CORS_EXPOSED)
            .with_header("vary", "origin"),
    }
}

/// The metadata document (RFC 9728), for anyone, browsers included.
pub(super) fn metadata(policy: &CompiledPolicy, http_method: &str) -> Answer {
    let cors = |reply: LocalReply| {
        reply
            .with_header("access-control-allow-origin", "*")
            .with_header("access-control-allow-methods", "GET, HEAD, OPTIONS")
            .with_header("access-control-allow-headers", "*")
    };
    let reply = match http_method {
        "GET" => LocalReply::json(200, &policy.metadata, "resource_metadata"),
        "HEAD" => LocalReply { body: Vec::new(), ..LocalReply::json(200, &policy.metadata, "resource_metadata") },
        "OPTIONS" => LocalReply::empty(204, "resource_metadata"),
        _ => return LocalReply::empty(405, "method_not_allowed").with_header("allow", "GET, HEAD, OPTIONS").into(),
    };
    Answer { verdict: Verdict::Serve, reply: cors(reply) }
}

/// What the caller may do, for the caller.
pub(super) fn permissions(policy: &CompiledPolicy, subject: Subject<'_>) -> Answer {
    let principal = subject.principal;
    let token = principal.token();
    let scopes: Vec<&str> = token.scopes().collect();
    let mut body = json!({
        "issuer": token.issuer(),
        "subject": token.subject(),
        "client": token.client_id(),
        "tenant": principal.tenant(),
        "agent": principal.agent(&policy.directory).map(|agent| agent.name.as_str()),
        "roles": principal.operator_roles(),
        "scopes": scopes,
        "expires_at": token.expires_at().get(),
        "policy": policy.digest,
    });
    let permissions = permissions_of(&policy.rules, &policy.directory, subject, !policy.conceals);
    if let (Value::Object(body), Ok(Value::Object(permissions))) = (&mut body, serde_json::to_value(permissions)) {
        body.extend(permissions);
    }
    Answer { verdict: Verdict::Serve, reply: LocalReply::json(200, &body, "permissions") }
}

/// The answer to a browser that asks whether a page may call with these headers.
///
/// Tools name headers of their own, `Mcp-Param-*` (MCP 2026-07-28): those are allowed as they are asked for.
pub(super) fn preflight(policy: &CompiledPolicy, requested: &str) -> Answer {
    let is_parameter = |name: &&str| {
        name.get(..10).is_some_and(|start| start.eq_ignore_ascii_case("mcp-param-"))
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let parameters = requested.split(',').map(str::trim).filter(is_parameter);
    let allowed: Vec<&str> = std::iter::once(CORS_ALLOWED).chain(parameters).collect();
    let reply = LocalReply::empty(204, "preflight")
        .with_header("access-control-allow-methods", allowed_methods(policy))
        .with_header("access-control-allow-headers", allowed.join(", "))
        .with_header("access-control-max-age", "600");
    Answer { verdict: Verdict::Serve, reply }
}

/// Methods of the MCP endpoint.
pub(super) fn allowed_methods(policy: &CompiledPolicy) -> &'static str {
    if policy.revisions.has_handshake() { "GET, POST, DELETE" } else { "POST" }
}

pub(super) fn not_found() -> Answer {
    LocalReply::empty(404, "unknown_path").into()
}

pub(super) fn method_not_allowed(allowed: &'static str) -> Answer {
    LocalReply::empty(405, "method_not_allowed").with_header("allow", allowed).into()
}

pub(super) fn origin_not_allowed() -> Answer {
    RpcError::new(ErrorCode::Denied, "This origin is not allowed").into_reply(403, None, "origin_not_allowed").into()
}

/// 400, 401 or 403 of OAuth, before the body is read. `None`: no credential was sent.
pub(super) fn challenge(policy: &CompiledPolicy, error: Option<&ChallengeError>, reason: &'static str) -> Answer {
    let scope = policy.initial_scopes.as_str();
    let value = Challenge { metadata_url: &policy.metadata_url, scope, error }.header_value();
    let (status, body) = match error {
        None => (401, json!({"error": "unauthorized", "error_description": "an access token is required"})),
        Some(error) => (error.status(), json!({"error": error.code(), "error_description": error.description()})),
    };
    LocalReply::json(status, &body, reason).with_header("www-authenticate", value).into()
}

/// There are no keys to verify the token with.
pub(super) fn keys_unavailable() -> Answer {
    unavailable("The keys of the token's issuer cannot be fetched at the moment", "keys_unavailable", None)
}

/// Nobody knows who was cut off, so it could be this caller.
pub(super) fn revocations_unavailable() -> Answer {
    unavailable("The list of revocations cannot be fetched at the moment", "revocations_unavailable", None)
}

/// What the caller must be judged by is not there.
pub(super) fn not_available(awaited: Awaited) -> Answer {
    match awaited {
        Awaited::Keys(_) => keys_unavailable(),
        Awaited::Revocations => revocations_unavailable(),
    }
}

/// The gateway cannot decide now.
pub(super) fn unavailable(message: &str, reason: &'static str, id: Option<RequestId<'_>>) -> Answer {
    RpcError::new(ErrorCode::Unavailable, message)
        .into_reply(503, id, reason)
        .with_header("retry-after", limits::FETCH_TIMEOUT.get().to_string())
        .into()
}

/// A request that no MCP server should see, whatever its body.
pub(super) fn bad_request(status: u16, message: impl Into<String>, reason: &'static str) -> Answer {
    RpcError::new(ErrorCode::InvalidRequest, message).into_reply(status, None, reason).into()
}

/// The body is not the strict JSON of one message.
pub(super) fn unreadable(error: Unreadable) -> Answer {
    match error {
        Unreadable::Defect(defect) => bad_request(400, format!("Invalid request: {defect}"), "ambiguous_json"),
        Unreadable::Malformed => bad_request(400, "Invalid request: not a JSON-RPC message", "invalid_request"),
        Unreadable::NotJson => {
            RpcError::new(ErrorCode::Parse, "Parse error").into_reply(400, None, "parse_error").into()
        }
    }
}

/// What the decision function said no to.
pub(super) fn denied(
    policy: &CompiledPolicy,
    id: DecisionId,
    denial: &Denial,
    granted: &[&str],
    request: Option<RequestId<'_>>,
) -> Answer {
    let reason = denial.reason();
    match denial {
        Denial::InsufficientScope { required, missing } => {
            insufficient_scope(policy, id, required, missing, granted, request)
        }
        Denial::TokenLifetime { at_most } => forbidden(id, &lifetime_text(*at_most), reason, request),
        Denial::NotPermitted(_) if denial.is_token_revoked() => {
            let error = ChallengeError::InvalidToken("the token was revoked".to_owned());
            challenge(policy, Some(&error), "token_revoked")
        }
        Denial::NotPermitted(failures) => not_permitted(id, failures, denial, request),
        Denial::InsufficientAuthentication(step_up) => insufficient_authentication(policy, id, step_up, request),
        Denial::Condition => forbidden(id, "The policy does not allow this call with these arguments", reason, request),
        Denial::OtherTenant => forbidden(id, "This belongs to another tenant", reason, request),
        Denial::ApprovalUnavailable => {
            forbidden(id, "This needs the approval of a person, and nobody can be asked here", reason, request)
        }
        Denial::ApprovalInBatch => {
            forbidden(id, "This needs the approval of a person: send it on its own, not in a batch", reason, request)
        }
        Denial::NoRule => forbidden(id, "The policy does not allow this", reason, request),
        Denial::AmbiguousUri => forbidden(id, "This resource URI could be read in two ways", reason, request),
        Denial::TaskNotBound => forbidden(id, "Tasks are not available through this gateway", reason, request),
    }
}

/// The upstream cannot be told who is calling, and half an identity could pass for another one.
pub(super) fn identity_too_long(id: DecisionId, request: Option<RequestId<'_>>) -> Answer {
    forbidden(id, "The identity in the token is too long", "identity_too_long", request)
}

/// The answer to a call of something that the caller would not see in a list: as if it did not exist.
///
/// The codes are those of servers: for resources before 2026-07-28 there is one of its own. `None` for what names
/// nothing, or asks for no answer.
pub(super) fn unknown(call: &Call<'_>, denial: &Denial) -> Option<Answer> {
    let error = match &call.target {
        Target::Tool(name) => RpcError::new(ErrorCode::InvalidParams, format!("Unknown tool: {name}")),
        Target::Prompt(name) => RpcError::new(ErrorCode::InvalidParams, format!("Unknown prompt: {name}")),
        Target::Resources(uris) => {
            let stateless = call.revision.is_stateless();
            let code = if stateless { ErrorCode::InvalidParams } else { ErrorCode::ResourceNotFound };
            RpcError::new(code, "Resource not found").with_data(json!({"uri": uris.first()}))
        }
        Target::Protocol | Target::Task => return None,
    };
    let mut reply = error.into_reply(200, Some(call.id?), denial.reason());
    reply.qualifier = denial.sides().join(",");
    Some(reply.into())
}

/// 403 that names every side that does not allow the call.
fn not_permitted(id: DecisionId, failures: &[Failure], denial: &Denial, request: Option<RequestId<'_>>) -> Answer {
    let reason = denial.reason();
    let texts: Vec<String> = failures.iter().map(Failure::text).collect();
    let sides: Vec<Value> = failures.iter().map(Failure::to_json).collect();
    let mut reply = RpcError::new(ErrorCode::Denied, format!("Not permitted: {}", texts.join("; ")))
        .with_data(json!({"reason": reason, "failing_sides": sides, "decision_id": id.to_string()}))
        .into_reply(403, request, reason);
    reply.qualifier = denial.sides().join(",");
    reply.into()
}

/// 401 that asks for another authentication of the person (RFC 9470 section 3).
fn insufficient_authentication(
    policy: &CompiledPolicy,
    id: DecisionId,
    step_up: &StepUp,
    request: Option<RequestId<'_>>,
) -> Answer {
    let text = "this needs a stronger or a more recent authentication of the person".to_owned();
    let error = ChallengeError::InsufficientUserAuthentication {
        text,
        acr_values: step_up.acr.join(" "),
        max_age: step_up.max_age,
    };
    let value = Challenge { metadata_url: &policy.metadata_url, scope: "", error: Some(&error) }.header_value();
    RpcError::new(
        ErrorCode::InsufficientAuthentication,
        format!("Insufficient authentication ({})", error.description()),
    )
    .with_data(json!({
        "error": error.code(),
        "acr_values": step_up.acr,
        "amr": step_up.amr,
        "max_age": step_up.max_age.map(Seconds::get),
        "resource_metadata": policy.metadata_url,
        "decision_id": id.to_string(),
    }))
    .into_reply(error.status(), request, error.code())
    .with_header("www-authenticate", value)
    .into()
}

fn lifetime_text(at_most: Seconds) -> String {
    format!("This needs an access token with a lifetime of at most {at_most}")
}

/// 403 that no other token scope would change: without a challenge, or clients would ask their users in vain.
fn forbidden(id: DecisionId, message: &str, reason: &'static str, request: Option<RequestId<'_>>) -> Answer {
    RpcError::new(ErrorCode::Denied, message)
        .with_data(json!({"reason": reason, "decision_id": id.to_string()}))
        .into_reply(403, request, reason)
        .into()
}

/// 403 with everything that is missing at once, in the header for OAuth clients and in the error for people and models.
///
/// The challenge holds what is required and what the token has: clients of 2025-11-25 take it for the whole list and
/// would otherwise lose what they had, those of 2026-07-28 add it to what they had.
fn insufficient_scope(
    policy: &CompiledPolicy,
    id: DecisionId,
    required: &[String],
    missing: &[String],
    granted: &[&str],
    request: Option<RequestId<'_>>,
) -> Answer {
    let required_names = required.iter().map(String::as_str);
    let kept = granted
        .iter()
        .copied()
        .filter(|&scope| policy.rules.scopes.contains(scope) && !required.iter().any(|required| required == scope));
    let scope = required_names.chain(kept).collect::<Vec<_>>().join(" ");
    let text = format!("missing scope: {}", missing.join(" "));
    let error = ChallengeError::InsufficientScope(text.clone());
    let value = Challenge { metadata_url: &policy.metadata_url, scope: &scope, error: Some(&error) }.header_value();
    RpcError::new(ErrorCode::InsufficientScope, format!("Insufficient scope ({text})"))
        .with_data(json!({
            "error": error.code(),
            "missing_scopes": missing,
            "required_scopes": required,
            "resource_metadata": policy.metadata_url,
            "decision_id": id.to_string(),
        }))
        .into_reply(error.status(), request, "insufficient_scope")
        .with_header("www-authenticate", value)
        .into()
}

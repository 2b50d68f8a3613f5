//! Sessions of the revisions before 2026-07-28: an identifier that the client sends must open for this caller, and the
//! client never gets the upstream's own.

use super::Surroundings;
use super::answer::Answer;
use super::command::HeaderEdits;
use crate::config::CompiledPolicy;
use crate::http::{HeaderList, Single};
use crate::identity::Principal;
use crate::mcp::{Call, ClientCapabilities, ErrorCode, McpHeaders, Method, Revision, RpcError};
use crate::session::{Binding, Owner, SealError, Session, Unsealable};

/// The header that carries the identifier, both ways.
pub(super) const SESSION_HEADER: &str = "mcp-session-id";

/// What the answer's session header is held against.
#[derive(Debug)]
pub(super) enum Expected {
    /// The upstream may begin a session, for this caller.
    New { binding: Binding, capabilities: ClientCapabilities, requested: Revision },
    /// The upstream may name the session that the request belongs to.
    Same { upstream_id: String, sealed: String },
    /// There is no session: the client is told of none.
    Nothing,
}

/// A session that the upstream began and that cannot be bound to its caller.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct CannotBind {
    /// Stable reason code.
    pub(super) reason: &'static str,
    /// What the operator can do about it.
    pub(super) remedy: &'static str,
}

/// The session that the request claims to belong to, opened for its caller. None in stateless revisions: there the header
/// means nothing, and it does not reach the upstream.
///
/// # Errors
/// 404, which makes clients begin a new session (MCP 2025-11-25, transports, session management): the same whatever is
/// wrong.
pub(super) fn open(
    headers: &McpHeaders,
    principal: &Principal,
    surroundings: &Surroundings<'_>,
) -> Result<Option<Session>, Answer> {
    let Some(sealed) = claimed(headers) else { return Ok(None) };
    let policy = surroundings.policy;
    let opened = policy.sessions.open(sealed, &binding(principal, policy), surroundings.now);
    opened.map(Some).map_err(|error| {
        let reason = match error {
            SealError::Malformed => "session_malformed",
            SealError::UnknownKey => "session_unknown_key",
            SealError::NotForCaller => "session_not_bound",
            SealError::Expired => "session_expired",
        };
        RpcError::new(ErrorCode::InvalidRequest, "Session not found").into_reply(404, None, reason).into()
    })
}

/// What may come back for a request that goes upstream within `session`.
pub(super) fn expected(
    session: Option<Session>,
    headers: &McpHeaders,
    calls: &[Call<'_>],
    principal: &Principal,
    policy: &CompiledPolicy,
) -> Expected {
    if let [Call { method: Some(Method::Initialize), revision, capabilities, .. }] = *calls {
        return Expected::New { binding: binding(principal, policy), capabilities, requested: revision };
    }
    match (session, claimed(headers)) {
        (Some(session), Some(sealed)) => Expected::Same { upstream_id: session.upstream_id, sealed: sealed.to_owned() },
        _ => Expected::Nothing,
    }
}

/// Replaces the upstream's identifier in an answer, or removes it.
///
/// # Errors
/// When the upstream began a session that cannot be bound. Without an identifier the client would go on with a session
/// that it does not know of; with the upstream's own, anybody could.
pub(super) fn on_answer(
    expected: &Expected,
    headers: &HeaderList,
    surroundings: &Surroundings<'_>,
    edits: &mut HeaderEdits,
) -> Result<(), CannotBind> {
    if !headers.contains(SESSION_HEADER) {
        return Ok(());
    }
    let named = match headers.single(SESSION_HEADER) {
        Single::Value(id) => Some(id),
        Single::Absent | Single::Ambiguous => None,
    };
    let sealed = match expected {
        Expected::New { binding, capabilities, requested } => {
            let upstream_id = named.unwrap_or_default().to_owned();
            let session = Session { upstream_id, capabilities: *capabilities, requested: *requested };
            Some(surroundings.policy.sessions.seal(&session, binding, surroundings.now).map_err(CannotBind::from)?)
        }
        Expected::Same { upstream_id, sealed } if named == Some(upstream_id) => Some(sealed.clone()),
        Expected::Same { .. } | Expected::Nothing => None,
    };
    edits.remove.push(SESSION_HEADER.as_bytes().into());
    edits.set.extend(sealed.map(|sealed| (SESSION_HEADER, sealed.into())));
    Ok(())
}

impl From<Unsealable> for CannotBind {
    fn from(problem: Unsealable) -> Self {
        match problem {
            Unsealable::NoKey => Self {
                reason: "session_key_missing",
                remedy: "the MCP server begins sessions and there is no key to bind them with: set \
                         TOOLGATE_SESSION_KEY to the output of `openssl rand -base64 32` and name it in \
                         `vm_config.environment_variables.host_env_keys`",
            },
            Unsealable::Identifier => Self {
                reason: "session_id_unusable",
                remedy: "the MCP server begins sessions with identifiers that are repeated, longer than 2048 bytes or \
                         not visible ASCII: change it to use others",
            },
        }
    }
}

/// The identifier that the client sent, where it means something. A request whose header names a stateless revision never
/// passes as one of another revision, see [`crate::mcp::classify`].
fn claimed(headers: &McpHeaders) -> Option<&str> {
    let named = headers.protocol_version.as_deref().and_then(Revision::parse);
    headers.session.as_deref().filter(|_| !named.is_some_and(Revision::is_stateless))
}

pub(super) fn binding(principal: &Principal, policy: &CompiledPolicy) -> Binding {
    let token = principal.token();
    let owner = Owner {
        resource: policy.resource.as_str(),
        issuer: token.issuer(),
        subject: token.subject(),
        client_id: token.client_id(),
        tenant: principal.tenant(),
    };
    owner.into()
}

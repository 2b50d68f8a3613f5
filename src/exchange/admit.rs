//! What the headers alone decide: path, method, origin, credential, media type and size.

use std::borrow::Cow;
use std::rc::Rc;

use super::Surroundings;
use super::account::Account;
use super::answer::{self, Answer};
use super::approval::Approved;
use super::command::Awaited;
use super::hygiene::unwanted_in_request;
use super::session::{self, SESSION_HEADER};
use crate::config::CompiledPolicy;
use crate::http::{HeaderList, Single};
use crate::identity::{Peer, Principal};
use crate::jwt::{self, Refusal, TokenError};
use crate::mcp::{McpHeaders, Revision};
use crate::oauth::{BearerProblem, ChallengeError, bearer_token, query_has_token};

/// What must be remembered of the headers until the body is there.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) method: HttpMethod,
    pub(super) mcp: McpHeaders,
    /// The web origin of the page that asks; an allowed one.
    pub(super) origin: Option<String>,
    /// Names of headers that the upstream must not get from the client.
    pub(super) unwanted: Vec<Cow<'static, [u8]>>,
    /// The token, to be judged once more with the request.
    pub(super) token: String,
    pub(super) caller: Caller,
    pub(super) peer: Peer,
    pub(super) endpoint: Endpoint,
    /// The body's length is named, so that it must be named anew when the body is changed.
    pub(super) has_length: bool,
    /// The approval that was used up for this request.
    pub(super) approved: Option<Approved>,
}

/// What was called.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Endpoint {
    /// The MCP server.
    Mcp,
    /// The gateway itself, for what the caller may do.
    Permissions,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Caller {
    /// The token was good when the headers came.
    Known,
    /// What the caller must be judged by is being fetched.
    Expect(Awaited),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum HttpMethod {
    Post,
    Get,
    Delete,
}

/// Lets a request in as far as its headers can tell.
///
/// # Errors
/// The answer: a refusal, or what the gateway serves itself.
pub(super) fn admit(
    account: &mut Account,
    headers: &HeaderList,
    peer: Peer,
    origin: Result<Option<String>, Answer>,
    surroundings: &mut Surroundings<'_>,
) -> Result<Head, Answer> {
    let policy = surroundings.policy;
    let (Some(target), Some(method)) = (headers.value(":path"), headers.value(":method")) else {
        return Err(answer::bad_request(400, "Unreadable request line", "invalid_request"));
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if policy.resource.is_metadata_path(path) {
        return Err(answer::metadata(policy, method));
    }
    let endpoint = if path == policy.resource.path() {
        Endpoint::Mcp
    } else if policy.resource.is_permissions_path(path) {
        Endpoint::Permissions
    } else {
        return Err(answer::not_found());
    };
    let origin = origin?;
    let method = http_method(headers, method, origin.is_some(), endpoint, policy)?;
    if query_has_token(query) {
        let error = ChallengeError::InvalidRequest("access tokens in the query are not accepted".to_owned());
        return Err(answer::challenge(policy, Some(&error), "token_in_query"));
    }
    // MCP has no use for a query, and nobody judges it; some frameworks take the method from it.
    if !query.is_empty() {
        return Err(answer::bad_request(400, "This resource has no query", "unexpected_query"));
    }
    let token = bearer_token(headers).map_err(|problem| bearer_problem(policy, problem))?;
    let caller = recognise(account, token, surroundings)?;
    let mut mcp = McpHeaders::read(headers)
        .map_err(|problem| answer::bad_request(400, format!("Invalid request: {problem}"), "ambiguous_header"))?;
    if endpoint == Endpoint::Permissions {
        // The question is not part of any session.
        mcp.session = None;
    }
    check_session(account, token, &mcp, caller, surroundings)?;
    match method {
        _ if endpoint == Endpoint::Permissions => {}
        HttpMethod::Post => check_media(headers, policy)?,
        HttpMethod::Get | HttpMethod::Delete => check_stream(&mcp, policy)?,
    }
    let mut unwanted = unwanted_in_request(headers);
    if !policy.keeps_authorization {
        unwanted.push(b"authorization".into());
    }
    // The upstream gets its own identifier, or none.
    if mcp.session.is_some() {
        unwanted.push(SESSION_HEADER.as_bytes().into());
    }
    let (token, has_length) = (token.to_owned(), headers.contains("content-length"));
    Ok(Head { method, mcp, origin, unwanted, token, caller, peer, endpoint, has_length, approved: None })
}

/// The origin of the page that asks, if it is a page.
///
/// # Errors
/// The refusal, when it is not an allowed one (MCP, streamable HTTP, security warning: DNS rebinding).
pub(super) fn page_origin(headers: &HeaderList, policy: &CompiledPolicy) -> Result<Option<String>, Answer> {
    match headers.single("origin") {
        Single::Absent => Ok(None),
        Single::Value(origin) if policy.allowed_origins.contains(origin) => Ok(Some(origin.to_owned())),
        Single::Value(_) | Single::Ambiguous => Err(answer::origin_not_allowed()),
    }
}

fn http_method(
    headers: &HeaderList,
    method: &str,
    is_page: bool,
    endpoint: Endpoint,
    policy: &CompiledPolicy,
) -> Result<HttpMethod, Answer> {
    match method {
        "GET" if endpoint == Endpoint::Permissions => Ok(HttpMethod::Get),
        "OPTIONS" if is_page && headers.contains("access-control-request-method") => {
            Err(answer::preflight(policy, headers.value("access-control-request-headers").unwrap_or_default()))
        }
        _ if endpoint == Endpoint::Permissions => Err(answer::method_not_allowed("GET")),
        "POST" => Ok(HttpMethod::Post),
        "GET" if policy.revisions.has_handshake() => Ok(HttpMethod::Get),
        "DELETE" if policy.revisions.has_handshake() => Ok(HttpMethod::Delete),
        _ => Err(answer::method_not_allowed(answer::allowed_methods(policy))),
    }
}

fn bearer_problem(policy: &CompiledPolicy, problem: BearerProblem) -> Answer {
    match problem {
        BearerProblem::Missing => answer::challenge(policy, None, "no_token"),
        BearerProblem::Malformed => {
            let error = ChallengeError::InvalidRequest(problem.to_string());
            answer::challenge(policy, Some(&error), "malformed_authorization")
        }
    }
}

/// Looks at the token before anything is held for its sender, or finds what must be fetched first.
fn recognise(account: &mut Account, token: &str, surroundings: &mut Surroundings<'_>) -> Result<Caller, Answer> {
    let now = surroundings.now;
    match verify(account, token, surroundings) {
        Ok(_) => await_revocations(surroundings),
        Err(Refusal::UnknownKey(issuer)) if surroundings.keys.want_unknown_key(issuer, now) => {
            Ok(Caller::Expect(Awaited::Keys(issuer)))
        }
        Err(Refusal::NoKeys(issuer)) if surroundings.keys.is_fetch_coming(issuer, now) => {
            Ok(Caller::Expect(Awaited::Keys(issuer)))
        }
        Err(refusal) => Err(refused(account, token, surroundings.policy, refusal)),
    }
}

/// Looks at the token again after a wait. What was waited for is not waited for again, so that waiting ends.
///
/// # Errors
/// The refusal: a key that is still unknown stays so, and so do the revocations.
pub(super) fn recognise_again(
    account: &mut Account,
    token: &str,
    awaited: Awaited,
    surroundings: &mut Surroundings<'_>,
) -> Result<Caller, Answer> {
    identify_token(account, token, surroundings)?;
    match awaited {
        Awaited::Keys(_) => await_revocations(surroundings),
        Awaited::Revocations => check_revocations(surroundings).map(|()| Caller::Known),
    }
}

/// Whether the session that a request names is that of its caller, as soon as the caller is known.
///
/// # Errors
/// The answer that makes a client begin another one.
pub(super) fn check_session(
    account: &mut Account,
    token: &str,
    mcp: &McpHeaders,
    caller: Caller,
    surroundings: &mut Surroundings<'_>,
) -> Result<(), Answer> {
    if caller == Caller::Known && mcp.session.is_some() {
        let principal = identify(account, token, surroundings)?;
        session::open(mcp, &principal, surroundings)?;
    }
    Ok(())
}

/// A caller whose token is good must wait where it is not known yet who was cut off.
fn await_revocations(surroundings: &Surroundings<'_>) -> Result<Caller, Answer> {
    match surroundings.revoked {
        Some(feed) if surroundings.revoked().is_unknown() && feed.is_coming(surroundings.now) => {
            Ok(Caller::Expect(Awaited::Revocations))
        }
        Some(_) | None => check_revocations(surroundings).map(|()| Caller::Known),
    }
}

fn check_revocations(surroundings: &Surroundings<'_>) -> Result<(), Answer> {
    if surroundings.revoked().is_unknown() { Err(answer::revocations_unavailable()) } else { Ok(()) }
}

/// Verifies the token with the keys that there are now, and that it is known who was cut off.
///
/// # Errors
/// The refusal.
pub(super) fn identify(
    account: &mut Account,
    token: &str,
    surroundings: &mut Surroundings<'_>,
) -> Result<Rc<Principal>, Answer> {
    let principal = identify_token(account, token, surroundings)?;
    check_revocations(surroundings).map(|()| principal)
}

fn identify_token(
    account: &mut Account,
    token: &str,
    surroundings: &mut Surroundings<'_>,
) -> Result<Rc<Principal>, Answer> {
    verify(account, token, surroundings).map_err(|refusal| refused(account, token, surroundings.policy, refusal))
}

fn verify(account: &mut Account, token: &str, surroundings: &mut Surroundings<'_>) -> Result<Rc<Principal>, Refusal> {
    let principal = known(token, surroundings)?;
    account.caller = Some(Rc::clone(&principal));
    Ok(principal)
}

fn known(token: &str, surroundings: &mut Surroundings<'_>) -> Result<Rc<Principal>, Refusal> {
    let Surroundings { policy, keys, tokens, verifier, now, .. } = surroundings;
    if let Some(principal) = tokens.get(token, keys, *now) {
        return Ok(principal);
    }
    let verified = jwt::verify(token, &policy.issuers, keys, *verifier, *now)?;
    if verified.scopes().any(|scope| policy.refused_scopes.contains(scope)) {
        return Err(TokenError::ScopeRefused.into());
    }
    let principal = Rc::new(Principal::new(verified, &policy.directory, &policy.rules.scopes));
    tokens.insert(token, Rc::clone(&principal), keys);
    Ok(principal)
}

fn refused(account: &mut Account, token: &str, policy: &CompiledPolicy, refusal: Refusal) -> Answer {
    account.unverified = jwt::claimed(token);
    let error = match refusal {
        Refusal::NoKeys(_) => return answer::keys_unavailable(),
        Refusal::UnknownKey(_) => TokenError::KeyUnknown,
        Refusal::Token(error) => error,
    };
    let challenge = ChallengeError::InvalidToken(error.to_string());
    answer::challenge(policy, Some(&challenge), error.reason())
}

/// Only plain JSON: an upstream that undoes an encoding or guesses a charset would read another message.
fn check_media(headers: &HeaderList, policy: &CompiledPolicy) -> Result<(), Answer> {
    let is_json = headers.value("content-type").is_some_and(|value| {
        let mut parts = value.split(';').map(str::trim);
        parts.next().is_some_and(|media_type| media_type.eq_ignore_ascii_case("application/json"))
            && parts.all(|parameter| {
                let parameter = parameter.to_ascii_lowercase();
                !parameter.starts_with("charset") || matches!(parameter.as_str(), "charset=utf-8" | "charset=\"utf-8\"")
            })
    });
    if !is_json {
        return Err(answer::bad_request(415, "Content-Type must be application/json in UTF-8", "media_type"));
    }
    match headers.single("content-encoding") {
        Single::Absent => {}
        Single::Value(encoding) if encoding.eq_ignore_ascii_case("identity") => {}
        Single::Value(_) | Single::Ambiguous => {
            return Err(answer::bad_request(415, "Encoded request bodies are not accepted", "content_encoding"));
        }
    }
    match headers.single("content-length") {
        Single::Absent => Ok(()),
        Single::Ambiguous => Err(answer::bad_request(400, "Content-Length is repeated", "ambiguous_header")),
        // A number too large to be read is too large.
        Single::Value(length) => match length.parse::<usize>() {
            Ok(length) if length <= policy.max_request_bytes.get() => Ok(()),
            Ok(_) | Err(_) => Err(too_large(policy)),
        },
    }
}

/// The refusal of a body that is too large.
pub(super) fn too_large(policy: &CompiledPolicy) -> Answer {
    let message = format!("The request body may have {} bytes at most", policy.max_request_bytes.get());
    answer::bad_request(413, message, "too_large")
}

/// GET and DELETE exist for revisions with sessions only.
fn check_stream(mcp: &McpHeaders, policy: &CompiledPolicy) -> Result<(), Answer> {
    match mcp.protocol_version.as_deref().map_or(Some(Revision::V2025_03_26), Revision::parse) {
        Some(revision) if revision.is_stateless() => Err(answer::method_not_allowed(answer::allowed_methods(policy))),
        Some(revision) if policy.revisions.contains(revision) => Ok(()),
        Some(_) | None => Err(answer::bad_request(400, "Unsupported protocol version", "unsupported_revision")),
    }
}

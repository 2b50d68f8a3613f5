//! What a POST asks for: era, method and target of each message, headers held against the body.
//!
//! The era is read from the body, the header only confirms it (specification, versioning; appendix of the TypeScript
//! SDK's classification). Every path that is not recognised ends in an error.

use std::borrow::Cow;

use serde_json::json;

use super::message::{META_CAPABILITIES, META_VERSION};
use super::{
    Body, ClientCapabilities, ErrorCode, InputAction, Kind, McpHeaders, Member, Message, Meta, Method, Params,
    ProtocolError, RequestId, Revision, RevisionSet, RpcError,
};
use crate::limits;
use crate::session::SessionKeys;

/// One message that is part of the protocol, and what it acts on.
#[derive(Debug, PartialEq)]
pub struct Call<'a> {
    /// The revision it is to be understood in.
    pub revision: Revision,
    /// Its method; `None` for a response to a request of the server.
    pub method: Option<Method>,
    /// What it acts on.
    pub target: Target<'a>,
    /// Its id, for requests.
    pub id: Option<RequestId<'a>>,
    /// What the client says that it can do: in `initialize`, in each request of a stateless revision, and empty in all
    /// other messages.
    pub capabilities: ClientCapabilities,
    /// What it says about itself, for records only.
    pub context: CallContext<'a>,
    /// What it brings back to the gateway.
    pub retry: Retry<'a>,
    /// `params.arguments` as JSON, if its target gets them. Elsewhere a member of that name means nothing to the server.
    pub arguments: Option<&'a str>,
}

/// What a client brings back when it sends a call again, as far as it is the gateway's own.
///
/// Read in every revision, although only 2026-07-28 knows these members: whoever writes them means the gateway.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Retry<'a> {
    /// `requestState`, if it begins like one that the gateway seals. Nothing but opening it tells whether it is one.
    pub state: Option<Cow<'a, str>>,
    /// What the client says became of the gateway's own request, `dev.toolgate/approval` in `inputResponses`. Anything but
    /// [`InputAction::Accept`] is to be believed, because the client gains nothing by it.
    pub action: Member<InputAction>,
}

/// What a message says about itself in `_meta`. The client can say anything, so nothing is decided by it.
#[derive(Debug, Default, PartialEq)]
pub struct CallContext<'a> {
    /// `traceparent` (W3C Trace Context).
    pub traceparent: Option<Cow<'a, str>>,
    /// `dev.toolgate/purpose`: what the request is for.
    pub purpose: Option<Cow<'a, str>>,
}

impl Call<'_> {
    /// Whether `Mcp-Name` was compared with what this message acts on.
    pub fn mirrors_its_name(&self) -> bool {
        self.revision.is_stateless()
            && matches!(self.method, Some(Method::ToolsCall | Method::PromptsGet | Method::ResourcesRead))
    }
}

/// What a message acts on, as the policy names it.
#[derive(Debug, Eq, PartialEq)]
pub enum Target<'a> {
    /// Nothing that a rule could name: handshake, lists, notifications.
    Protocol,
    /// A tool by name.
    Tool(Cow<'a, str>),
    /// A prompt by name.
    Prompt(Cow<'a, str>),
    /// Resources by URI; more than one only in `subscriptions/listen`.
    Resources(Vec<Cow<'a, str>>),
    /// A task by id. A handle is no proof of ownership, so no rule can name one.
    Task,
}

impl Target<'_> {
    /// The same, for longer than the message is there.
    pub fn kept(&self) -> Target<'static> {
        let text = |text: &str| Cow::Owned(text.to_owned());
        match self {
            Self::Protocol => Target::Protocol,
            Self::Tool(name) => Target::Tool(text(name)),
            Self::Prompt(name) => Target::Prompt(text(name)),
            Self::Resources(uris) => Target::Resources(uris.iter().map(|uri| text(uri)).collect()),
            Self::Task => Target::Task,
        }
    }
}

/// Says what the messages of `body` ask for.
///
/// # Errors
/// The answer to give when any message, or its headers, breaks the protocol of the revisions in `allowed`.
pub fn classify<'a>(
    body: Body<'a>,
    headers: &McpHeaders,
    allowed: &RevisionSet,
) -> Result<Vec<Call<'a>>, ProtocolError<'a>> {
    match body {
        Body::Single(message) => {
            let id = message.id.valid().copied();
            one(message, headers, allowed).map(|call| vec![call]).map_err(|fault| fault.answering(id))
        }
        Body::Batch(messages) => batch(messages, headers, allowed),
    }
}

/// A [`ProtocolError`] before its id is known.
struct Fault {
    status: u16,
    error: RpcError,
    reason: &'static str,
}

impl Fault {
    fn new(status: u16, code: ErrorCode, message: impl Into<String>, reason: &'static str) -> Self {
        Self { status, error: RpcError::new(code, message), reason }
    }

    fn invalid_request(message: &'static str) -> Self {
        Self::new(400, ErrorCode::InvalidRequest, message, "invalid_request")
    }

    fn header_mismatch(message: impl Into<String>) -> Self {
        Self::new(400, ErrorCode::HeaderMismatch, message, "header_mismatch")
    }

    fn unsupported(status: u16, code: ErrorCode, requested: &str, allowed: &RevisionSet) -> Self {
        let shown: String = requested.chars().take(32).collect();
        let error = RpcError::new(code, "Unsupported protocol version")
            .with_data(json!({"supported": allowed.names(), "requested": shown}));
        Self { status, error, reason: "unsupported_revision" }
    }

    fn answering(self, id: Option<RequestId<'_>>) -> ProtocolError<'_> {
        ProtocolError { status: self.status, error: self.error, id, reason: self.reason }
    }
}

fn batch<'a>(
    messages: Vec<Message<'a>>,
    headers: &McpHeaders,
    allowed: &RevisionSet,
) -> Result<Vec<Call<'a>>, ProtocolError<'a>> {
    let revision = headers.protocol_version.as_deref().map_or(Some(Revision::V2025_03_26), Revision::parse);
    if revision != Some(Revision::V2025_03_26) || !allowed.contains(Revision::V2025_03_26) || messages.is_empty() {
        return Err(Fault::invalid_request("Batches are not supported in this protocol version").answering(None));
    }
    let mut calls = Vec::with_capacity(messages.len());
    for message in messages {
        let id = message.id.valid().copied();
        let call = one(message, headers, allowed).map_err(|fault| fault.answering(id))?;
        // A handshake never comes in a batch (MCP 2025-03-26, lifecycle), nor does a message of another revision.
        if call.method == Some(Method::Initialize) || call.revision != Revision::V2025_03_26 {
            return Err(Fault::invalid_request("This message must not be part of a batch").answering(id));
        }
        calls.push(call);
    }
    if calls.iter().any(|call| call.method.is_none()) && calls.iter().any(|call| call.method.is_some()) {
        return Err(Fault::invalid_request("A batch holds either requests or responses").answering(None));
    }
    Ok(calls)
}

fn one<'a>(message: Message<'a>, headers: &McpHeaders, allowed: &RevisionSet) -> Result<Call<'a>, Fault> {
    let Message { version, id, method, params, has_result, has_error } = message;
    if version.valid().map(Cow::as_ref) != Some("2.0") {
        return Err(Fault::invalid_request("Not a JSON-RPC 2.0 message"));
    }
    let params = match params {
        Member::Absent => Params::default(),
        Member::Valid(params) => params,
        Member::Malformed => return Err(invalid_params("params must be an object")),
    };
    let method = match method {
        Member::Valid(method) if !has_result && !has_error => method,
        Member::Absent if has_result != has_error => return response(&id, headers, allowed),
        Member::Absent | Member::Valid(_) | Member::Malformed => {
            return Err(Fault::invalid_request("A message is a request, a notification or a response"));
        }
    };
    let revision = revision_of(&method, &params, headers, allowed)?;
    let id = match id {
        Member::Absent => None,
        Member::Valid(id) => Some(id),
        Member::Malformed => return Err(Fault::invalid_request("The id must be a string or an integer")),
    };
    let Some((known, kind)) = Method::find(&method, revision) else {
        return Err(unknown_method(revision, id.is_some()));
    };
    match (kind, id) {
        (Kind::Request, None) => return Err(Fault::invalid_request("This method needs an id")),
        (Kind::Notification, Some(_)) => return Err(Fault::invalid_request("A notification has no id")),
        (Kind::Request, Some(_)) | (Kind::Notification, None) => {}
    }
    let capabilities = capabilities_of(known, revision, &params)?;
    let context = context_of(&params);
    let retry = retry_of(&params);
    let arguments = params.arguments.filter(|_| matches!(known, Method::ToolsCall | Method::PromptsGet));
    let target = target_of(known, params)?;
    if revision.is_stateless() {
        check_mirrors(&method, &target, known, headers)?;
    }
    Ok(Call { revision, method: Some(known), target, id, capabilities, context, retry, arguments })
}

/// A response to a request that the server sent: exists only where servers send requests.
fn response<'a>(id: &Member<RequestId<'a>>, headers: &McpHeaders, allowed: &RevisionSet) -> Result<Call<'a>, Fault> {
    let revision = handshake_revision(headers, allowed)?;
    match id {
        Member::Valid(_) => {
            let capabilities = ClientCapabilities::default();
            let (context, retry) = (CallContext::default(), Retry::default());
            let (target, arguments) = (Target::Protocol, None);
            Ok(Call { revision, method: None, target, id: None, capabilities, context, retry, arguments })
        }
        Member::Absent | Member::Malformed => Err(Fault::invalid_request("A response needs the id of its request")),
    }
}

fn revision_of(
    method: &str,
    params: &Params<'_>,
    headers: &McpHeaders,
    allowed: &RevisionSet,
) -> Result<Revision, Fault> {
    let header = headers.protocol_version.as_deref();
    let stateless_header = header.and_then(Revision::parse).is_some_and(Revision::is_stateless);
    match &params.meta {
        Member::Malformed => return Err(invalid_params("_meta must be an object")),
        Member::Valid(meta) if meta.protocol_version != Member::Absent => {
            return stateless_revision(meta, header, allowed);
        }
        Member::Valid(_) | Member::Absent => {}
    }
    if method == "initialize" {
        return initialize_revision(params, stateless_header, allowed);
    }
    if stateless_header && allowed.contains(Revision::V2026_07_28) {
        return Err(missing_meta());
    }
    handshake_revision(headers, allowed)
}

/// The request claims a revision in `_meta`, as stateless ones must.
fn stateless_revision(meta: &Meta<'_>, header: Option<&str>, allowed: &RevisionSet) -> Result<Revision, Fault> {
    let Member::Valid(claimed) = &meta.protocol_version else {
        return Err(invalid_params(format!("_meta[\"{META_VERSION}\"] must be a string")));
    };
    match header {
        None => return Err(Fault::header_mismatch("Header mismatch: MCP-Protocol-Version is missing")),
        Some(header) if header != claimed => {
            return Err(Fault::header_mismatch("Header mismatch: MCP-Protocol-Version differs from the body"));
        }
        Some(_) => {}
    }
    match Revision::parse(claimed) {
        Some(revision) if revision.is_stateless() && allowed.contains(revision) => {
            if meta.client_capabilities.valid().is_some() { Ok(revision) } else { Err(missing_meta()) }
        }
        _ => {
            let supported = allowed.for_stateless_requests();
            Err(Fault::unsupported(400, ErrorCode::UnsupportedVersion, claimed, &supported))
        }
    }
}

fn initialize_revision(params: &Params<'_>, stateless_header: bool, allowed: &RevisionSet) -> Result<Revision, Fault> {
    if stateless_header {
        return Err(Fault::header_mismatch("Header mismatch: initialize does not exist in that protocol version"));
    }
    let Member::Valid(requested) = &params.protocol_version else {
        return Err(invalid_params("protocolVersion must be a string"));
    };
    // The server may answer with any revision that it likes, but the client then names that one in each request.
    match Revision::parse(requested) {
        Some(revision) if allowed.contains(revision) && !revision.is_stateless() => Ok(revision),
        _ if allowed.has_handshake() => Err(Fault::unsupported(400, ErrorCode::InvalidParams, requested, allowed)),
        _ => Err(Fault::unsupported(400, ErrorCode::UnsupportedVersion, requested, allowed)),
    }
}

/// The revision of a message after a handshake. Only 2025-03-26 has no header for it.
fn handshake_revision(headers: &McpHeaders, allowed: &RevisionSet) -> Result<Revision, Fault> {
    let named = headers.protocol_version.as_deref();
    match named.map_or(Some(Revision::V2025_03_26), Revision::parse) {
        Some(revision) if allowed.contains(revision) && !revision.is_stateless() => Ok(revision),
        _ if allowed.has_handshake() => {
            Err(Fault::unsupported(400, ErrorCode::InvalidRequest, named.unwrap_or(""), allowed))
        }
        _ => Err(Fault::unsupported(400, ErrorCode::UnsupportedVersion, named.unwrap_or(""), allowed)),
    }
}

fn invalid_params(message: impl Into<String>) -> Fault {
    Fault::new(400, ErrorCode::InvalidParams, message, "invalid_params")
}

fn missing_meta() -> Fault {
    invalid_params(format!("params._meta must hold \"{META_VERSION}\" and \"{META_CAPABILITIES}\""))
}

/// 404 in the stateless era; before it the answer to a request is in band (HTTP 200). A notification gets no answer in
/// band, so its refusal is the HTTP status.
fn unknown_method(revision: Revision, is_request: bool) -> Fault {
    let status = match (revision.is_stateless(), is_request) {
        (true, _) => 404,
        (false, true) => 200,
        (false, false) => 400,
    };
    Fault::new(status, ErrorCode::MethodNotFound, "Method not found", "unknown_method")
}

/// Only `initialize` declares for the messages after it; the same member elsewhere is nobody's business. Requests of
/// stateless revisions declare for themselves.
fn capabilities_of(method: Method, revision: Revision, params: &Params<'_>) -> Result<ClientCapabilities, Fault> {
    if revision.is_stateless() {
        let declared = params.meta.valid().and_then(|meta| meta.client_capabilities.valid());
        return declared.copied().ok_or_else(missing_meta);
    }
    match params.capabilities {
        _ if method != Method::Initialize => Ok(ClientCapabilities::default()),
        Member::Absent => Ok(ClientCapabilities::default()),
        Member::Valid(capabilities) => Ok(capabilities),
        Member::Malformed => Err(invalid_params("capabilities must be an object")),
    }
}

fn context_of<'a>(params: &Params<'a>) -> CallContext<'a> {
    let meta = params.meta.valid();
    CallContext {
        traceparent: meta.and_then(|meta| meta.traceparent.valid().cloned()),
        purpose: meta.and_then(|meta| meta.purpose.valid().cloned()),
    }
}

fn retry_of<'a>(params: &Params<'a>) -> Retry<'a> {
    let state = params.request_state.valid().filter(|state| SessionKeys::is_approval_state(state));
    let action = match params.input_responses.valid().map(|responses| &responses.approval) {
        None | Some(Member::Absent) => Member::Absent,
        Some(Member::Malformed) => Member::Malformed,
        // An answer without an action is no answer; but it is the gateway's, and goes nowhere else.
        Some(Member::Valid(response)) if response.action == Member::Absent => Member::Malformed,
        Some(Member::Valid(response)) => response.action,
    };
    Retry { state: state.cloned(), action }
}

fn target_of<'a>(method: Method, params: Params<'a>) -> Result<Target<'a>, Fault> {
    match method {
        Method::ToolsCall => name(params.name, "name").map(Target::Tool),
        Method::PromptsGet => name(params.name, "name").map(Target::Prompt),
        Method::ResourcesRead | Method::ResourcesSubscribe | Method::ResourcesUnsubscribe => {
            uri(params.uri, "uri").map(|uri| Target::Resources(vec![uri]))
        }
        Method::CompletionComplete => completion_target(params),
        Method::SubscriptionsListen => subscription_target(params),
        Method::TasksGet | Method::TasksResult | Method::TasksCancel | Method::TasksUpdate | Method::TasksList => {
            Ok(Target::Task)
        }
        Method::Initialize
        | Method::ServerDiscover
        | Method::Ping
        | Method::ToolsList
        | Method::ResourcesList
        | Method::ResourcesTemplatesList
        | Method::PromptsList
        | Method::LoggingSetLevel
        | Method::Initialized
        | Method::Cancelled
        | Method::Progress
        | Method::RootsListChanged
        | Method::TasksStatus => Ok(Target::Protocol),
    }
}

/// A completion reveals values of what it refers to, so it is authorised as that.
fn completion_target<'a>(params: Params<'a>) -> Result<Target<'a>, Fault> {
    let Member::Valid(reference) = params.reference else { return Err(invalid_params("ref must be an object")) };
    match reference.kind.valid().map(Cow::as_ref) {
        Some("ref/prompt") => name(reference.name, "ref.name").map(Target::Prompt),
        Some("ref/resource") => uri(reference.uri, "ref.uri").map(|uri| Target::Resources(vec![uri])),
        _ => Err(invalid_params("ref.type must be \"ref/prompt\" or \"ref/resource\"")),
    }
}

fn subscription_target<'a>(params: Params<'a>) -> Result<Target<'a>, Fault> {
    let subscriptions = match params.subscriptions {
        Member::Absent => return Ok(Target::Protocol),
        Member::Valid(subscriptions) => subscriptions,
        Member::Malformed => return Err(invalid_params("notifications must be an object")),
    };
    match (subscriptions.tasks, subscriptions.resources) {
        (Member::Absent, Member::Absent) => Ok(Target::Protocol),
        (Member::Absent, Member::Valid(uris)) => {
            let uris = uris.into_iter().map(|each| uri(Member::Valid(each), "resourceSubscriptions"));
            uris.collect::<Result<_, _>>().map(Target::Resources)
        }
        (Member::Valid(_), Member::Valid(_) | Member::Absent) => Ok(Target::Task),
        (Member::Malformed, _) | (_, Member::Malformed) => {
            Err(invalid_params("resourceSubscriptions and taskIds must be arrays of strings"))
        }
    }
}

fn name<'a>(member: Member<Cow<'a, str>>, which: &str) -> Result<Cow<'a, str>, Fault> {
    bounded(member, which, limits::MAX_NAME_BYTES)
}

fn uri<'a>(member: Member<Cow<'a, str>>, which: &str) -> Result<Cow<'a, str>, Fault> {
    bounded(member, which, limits::MAX_URI_BYTES)
}

/// Control characters are refused: `a\0` is `a` to some readers.
fn bounded<'a>(member: Member<Cow<'a, str>>, which: &str, most: usize) -> Result<Cow<'a, str>, Fault> {
    match member {
        Member::Valid(text) if !text.is_empty() && text.len() <= most && !text.chars().any(char::is_control) => {
            Ok(text)
        }
        Member::Valid(_) | Member::Absent | Member::Malformed => {
            Err(invalid_params(format!("{which} must be a string of 1 to {most} bytes without control characters")))
        }
    }
}

/// `Mcp-Method` and `Mcp-Name` must say what the body says (MCP 2026-07-28, streamable HTTP, standard headers).
fn check_mirrors(method: &str, target: &Target<'_>, known: Method, headers: &McpHeaders) -> Result<(), Fault> {
    match headers.method.as_deref() {
        None => return Err(Fault::header_mismatch("Header mismatch: Mcp-Method is missing")),
        Some(value) if value != method => {
            return Err(Fault::header_mismatch("Header mismatch: Mcp-Method differs from the body"));
        }
        Some(_) => {}
    }
    let mirrored = match (known, target) {
        (Method::ToolsCall, Target::Tool(name)) | (Method::PromptsGet, Target::Prompt(name)) => name,
        (Method::ResourcesRead, Target::Resources(uris)) => match uris.first() {
            Some(uri) => uri,
            None => return Err(Fault::header_mismatch("Header mismatch: nothing to compare Mcp-Name with")),
        },
        _ => return Ok(()),
    };
    match headers.decoded_name() {
        Some(value) if value == *mirrored => Ok(()),
        Some(_) => Err(Fault::header_mismatch("Header mismatch: Mcp-Name differs from the body")),
        None => Err(Fault::header_mismatch("Header mismatch: Mcp-Name is missing or malformed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::HeaderList;
    use crate::mcp::Capability;

    /// A call of a tool with these members of `params`, in that revision.
    fn call(revision: Revision, members: &str, look: impl FnOnce(Result<Vec<Call<'_>>, ProtocolError<'_>>)) {
        let headers = HeaderList::from_iter([
            ("mcp-protocol-version", revision.name()),
            ("mcp-method", "tools/call"),
            ("mcp-name", "t"),
        ]);
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"t"{members}}}}}"#);
        let body = Body::parse(body.as_bytes()).unwrap();
        look(classify(body, &McpHeaders::read(&headers).unwrap(), &Revision::ALL.into_iter().collect()));
    }

    fn meta(capabilities: &str) -> String {
        format!(r#","_meta":{{"{META_VERSION}":"2026-07-28","{META_CAPABILITIES}":{capabilities}}}"#)
    }

    #[test]
    fn a_stateless_request_declares_for_itself() {
        for (declared, expected) in [
            ("{}", vec![]),
            (r#"{"elicitation":{}}"#, vec![Capability::ElicitationForm]),
            (r#"{"elicitation":{"url":{}},"x":1}"#, vec![Capability::ElicitationUrl]),
            (r#"{"elicitation":{"url":true}}"#, vec![]),
        ] {
            call(Revision::V2026_07_28, &meta(declared), |calls| {
                assert_eq!(calls.unwrap()[0].capabilities, expected.into_iter().collect(), "{declared}");
            });
        }
        for wrong in ["null", "[]", "\"x\""] {
            call(Revision::V2026_07_28, &meta(wrong), |calls| {
                assert_eq!(calls.unwrap_err().reason, "invalid_params", "{wrong}");
            });
        }
        // `capabilities` is a member of `initialize`, and `_meta` means nothing without its revision.
        let legacy = r#","capabilities":{"sampling":{}},"_meta":{"x":1}"#;
        call(Revision::V2025_11_25, legacy, |calls| {
            assert_eq!(calls.unwrap()[0].capabilities, ClientCapabilities::default());
        });
    }

    #[test]
    fn what_is_the_gateways_own_is_told_from_what_is_the_upstreams() {
        let own = Some(Cow::Borrowed("tga1.x"));
        for (members, state, action) in [
            ("", None, Member::Absent),
            (r#","requestState":"tga1.x""#, own.clone(), Member::Absent),
            (r#","requestState":"\u0074ga1.x""#, own.clone(), Member::Absent),
            (r#","requestState":"tga1""#, None, Member::Absent),
            (r#","requestState":"tga11.x""#, None, Member::Absent),
            (r#","requestState":{"a":1},"inputResponses":5"#, None, Member::Absent),
            (r#","inputResponses":{"x":{"action":"decline"}}"#, None, Member::Absent),
            (r#","inputResponses":{"dev.toolgate/approval":{}}"#, None, Member::Malformed),
            (r#","inputResponses":{"dev.toolgate/approval":5}"#, None, Member::Malformed),
            (
                r#","requestState":"tga1.x","inputResponses":{"dev.toolgate/approval":{"action":"decline"}}"#,
                own.clone(),
                Member::Valid(InputAction::Decline),
            ),
        ] {
            for (revision, meta) in [(Revision::V2026_07_28, meta("{}")), (Revision::V2025_06_18, String::new())] {
                call(revision, &format!("{members}{meta}"), |calls| {
                    let expected = Retry { state: state.clone(), action };
                    assert_eq!(calls.unwrap()[0].retry, expected, "{members}");
                });
            }
        }
    }
}

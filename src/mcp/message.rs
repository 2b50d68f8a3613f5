//! JSON-RPC messages of MCP, as far as a decision depends on them.

use std::borrow::Cow;
use std::fmt;

use serde_json::value::RawValue;

use super::{ClientCapabilities, Unreadable, read};

/// A JSON-RPC id: the JSON text of a string or an integer, so that it is echoed byte for byte.
#[derive(Clone, Copy)]
pub struct RequestId<'a>(&'a RawValue);

impl<'a> RequestId<'a> {
    pub(crate) const fn new(raw: &'a RawValue) -> Self {
        Self(raw)
    }

    /// The JSON text.
    pub fn raw(self) -> &'a RawValue {
        self.0
    }
}

impl fmt::Debug for RequestId<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0.get())
    }
}

impl PartialEq for RequestId<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

/// A member that may be missing or of the wrong type.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Member<T> {
    /// Not there.
    #[default]
    Absent,
    /// There, and of the right type.
    Valid(T),
    /// There, of a type that the protocol does not allow.
    Malformed,
}

impl<T> Member<T> {
    /// The value when it is there and valid.
    pub fn valid(&self) -> Option<&T> {
        match self {
            Self::Valid(value) => Some(value),
            Self::Absent | Self::Malformed => None,
        }
    }
}

/// What a POST carries.
#[cfg_attr(
    target_pointer_width = "64",
    expect(clippy::large_enum_variant, reason = "one per request, on the stack, and nearly always the large one")
)]
#[derive(Debug, PartialEq)]
pub enum Body<'a> {
    /// One message.
    Single(Message<'a>),
    /// An array of messages; only revision 2025-03-26 knows it.
    Batch(Vec<Message<'a>>),
}

/// One JSON object with the members that JSON-RPC 2.0 gives a meaning.
#[derive(Debug, Default, PartialEq)]
pub struct Message<'a> {
    /// `jsonrpc`, which must be `"2.0"`.
    pub version: Member<Cow<'a, str>>,
    /// `id`; malformed when it is neither a string nor an integer, or too long. `null` is malformed (MCP forbids it).
    pub id: Member<RequestId<'a>>,
    /// `method`.
    pub method: Member<Cow<'a, str>>,
    /// `params`, which in MCP is always an object.
    pub params: Member<Params<'a>>,
    /// Whether `result` is there.
    pub has_result: bool,
    /// Whether `error` is there.
    pub has_error: bool,
}

/// The members of `params` that some decision depends on.
#[derive(Debug, Default, PartialEq)]
pub struct Params<'a> {
    /// `name` of `tools/call` and `prompts/get`.
    pub name: Member<Cow<'a, str>>,
    /// `uri` of `resources/read`, `resources/subscribe`, `resources/unsubscribe`.
    pub uri: Member<Cow<'a, str>>,
    /// `taskId` of `tasks/*`.
    pub task_id: Member<Cow<'a, str>>,
    /// `protocolVersion` of `initialize`.
    pub protocol_version: Member<Cow<'a, str>>,
    /// `capabilities` of `initialize`.
    pub capabilities: Member<ClientCapabilities>,
    /// `ref` of `completion/complete`.
    pub reference: Member<Reference<'a>>,
    /// `notifications` of `subscriptions/listen`.
    pub subscriptions: Member<Subscriptions<'a>>,
    /// `_meta`.
    pub meta: Member<Meta<'a>>,
    /// `requestState`: what the server, or the gateway, wants back with the client's input.
    pub request_state: Member<Cow<'a, str>>,
    /// `inputResponses`.
    pub input_responses: Member<InputResponses>,
    /// `arguments`, as JSON; `null` is none.
    pub arguments: Option<&'a str>,
}

/// What a client answers to requests that came in a result (MCP 2026-07-28, multi round-trip requests): of all of them,
/// the answer to the gateway.
#[derive(Debug, Default, PartialEq)]
pub struct InputResponses {
    /// `dev.toolgate/approval`.
    pub approval: Member<InputResponse>,
}

/// The answer to an elicitation.
#[derive(Debug, Default, PartialEq)]
pub struct InputResponse {
    /// `action`; malformed when it is none that the protocol knows.
    pub action: Member<InputAction>,
}

/// What somebody did about an elicitation, as the client says. That is no proof of anything.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum InputAction {
    /// `accept`: the person agreed to open the page; not that anything was done there.
    Accept,
    /// `decline`: the person said no.
    Decline,
    /// `cancel`: the person went away without an answer.
    Cancel,
}

impl InputAction {
    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            "accept" => Some(Self::Accept),
            "decline" => Some(Self::Decline),
            "cancel" => Some(Self::Cancel),
            _ => None,
        }
    }
}

/// The key of the gateway's own request to the client, in `inputRequests` and in `inputResponses`.
pub const APPROVAL_INPUT: &str = "dev.toolgate/approval";

/// What `completion/complete` completes.
#[derive(Debug, Default, PartialEq)]
pub struct Reference<'a> {
    /// `ref/prompt` or `ref/resource`.
    pub kind: Member<Cow<'a, str>>,
    /// The prompt's name.
    pub name: Member<Cow<'a, str>>,
    /// The resource's URI or template.
    pub uri: Member<Cow<'a, str>>,
}

/// What `subscriptions/listen` listens to.
#[derive(Debug, Default, PartialEq)]
pub struct Subscriptions<'a> {
    /// `resourceSubscriptions`.
    pub resources: Member<Vec<Cow<'a, str>>>,
    /// `taskIds`.
    pub tasks: Member<Vec<Cow<'a, str>>>,
}

/// The members of `_meta` that say which revision a stateless request speaks, and what goes into records.
#[derive(Debug, Default, PartialEq)]
pub struct Meta<'a> {
    /// `io.modelcontextprotocol/protocolVersion`.
    pub protocol_version: Member<Cow<'a, str>>,
    /// `io.modelcontextprotocol/clientCapabilities`.
    pub client_capabilities: Member<ClientCapabilities>,
    /// `traceparent` (W3C Trace Context), for records only.
    pub traceparent: Member<Cow<'a, str>>,
    /// `dev.toolgate/purpose`: what the client says the request is for, for records only.
    pub purpose: Member<Cow<'a, str>>,
}

/// Name of the `_meta` member with the revision of a stateless request.
pub(super) const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// Name of the `_meta` member with the trace context (MCP 2026-07-28, `_meta`).
pub(super) const META_TRACEPARENT: &str = "traceparent";
/// Name of the `_meta` member with what the request is for.
pub(super) const META_PURPOSE: &str = "dev.toolgate/purpose";
/// Name of the `_meta` member with the capabilities of the client of a stateless request.
pub(super) const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";

impl<'a> Body<'a> {
    /// Reads a request body.
    ///
    /// # Errors
    /// When it is not strict JSON (see [`crate::json`]), or neither an object nor an array of objects.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Unreadable> {
        read::body(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Defect;
    use crate::limits;

    fn single(text: &str) -> Message<'_> {
        match Body::parse(text.as_bytes()).unwrap() {
            Body::Single(message) => message,
            Body::Batch(_) => panic!("a batch"),
        }
    }

    fn defect(text: &str) -> Option<Defect> {
        match Body::parse(text.as_bytes()) {
            Err(Unreadable::Defect(defect)) => Some(defect),
            Ok(_) | Err(Unreadable::NotJson | Unreadable::Malformed) => None,
        }
    }

    #[test]
    fn a_call_is_read_without_copies() {
        let message = single(
            r#"{"params":{"arguments":{"x":[1]},"name":"t"},"id":"a\u0041","method":"tools/call","jsonrpc":"2.0"}"#,
        );
        assert_eq!(message.version, Member::Valid("2.0".into()));
        assert_eq!(message.id.valid().unwrap().raw().get(), r#""a\u0041""#);
        let Member::Valid(params) = message.params else { panic!("no params") };
        assert!(matches!(params.name, Member::Valid(Cow::Borrowed("t"))));
        assert_eq!(params.arguments, Some(r#"{"x":[1]}"#));
    }

    #[test]
    fn arguments_are_their_text() {
        let read = |text: &'static str| match single(text).params {
            Member::Valid(params) => params.arguments,
            Member::Absent | Member::Malformed => panic!("no params in {text}"),
        };
        assert_eq!(read(r#" {"params":{"name":"t","\u0061rguments": {"a":[1 ]} ,"x":1}}"#), Some(r#"{"a":[1 ]}"#));
        assert_eq!(read(r#"{"params":{"arguments": [ ] }}"#), Some("[ ]"));
        assert_eq!(read(r#"{"params":{"arguments":null}}"#), None);
        assert_eq!(read(r#"{"params":{"x":{"arguments":1}}}"#), None);
    }

    #[test]
    fn ids_are_strings_or_integers_of_any_size() {
        for id in ["1", "-1", "0", "123456789012345678901234567890", "\"\"", "\"1\""] {
            assert_eq!(single(&format!("{{\"id\":{id}}}")).id.valid().unwrap().raw().get(), id);
        }
        for id in ["null", "1.0", "1e2", "true", "[1]", "{}", "\"\\ud800\"", &format!("\"{}\"", "x".repeat(300))] {
            assert_eq!(single(&format!("{{\"id\":{id}}}")).id, Member::Malformed, "{id}");
        }
    }

    #[test]
    fn duplicate_and_misleading_members_are_refused_wherever_a_decision_looks() {
        for text in [
            r#"{"method":"a","method":"b"}"#,
            r#"{"method":"a","m\u0065thod":"b"}"#,
            r#"{"params":{"name":"a","n\u0061me":"b"}}"#,
            r#"{"params":{"arguments":{"a":1,"a":2}}}"#,
            r#"{"params":{"_meta":{"x":1,"x":1}}}"#,
            r#"[{"id":1,"id":2}]"#,
        ] {
            assert_eq!(defect(text), Some(Defect::DuplicateMember), "{text}");
        }
        for text in [
            r#"{"Method":"a"}"#,
            r#"{"method\u0000":"a"}"#,
            "{\"param\u{17f}\":{}}",
            r#"{"params":{"NAME":"a"}}"#,
            r#"{"params":{"Uri":"a"}}"#,
            r#"{"params":{"ref":{"Type":"ref/prompt"}}}"#,
            r#"{"params":{"_meta":{"io.modelcontextprotocol/ProtocolVersion":"x"}}}"#,
        ] {
            assert_eq!(defect(text), Some(Defect::MisleadingMember), "{text}");
        }
        // Arguments are the tool's own: any spelling is fine there.
        assert!(Body::parse(br#"{"params":{"arguments":{"Name":1,"NAME":2}}}"#).is_ok());
    }

    #[test]
    fn members_of_a_wrong_type_are_malformed_not_missing() {
        let message = single(
            r#"{"jsonrpc":2,"method":["a"],"params":{"name":{"a":1},"uri":null,"ref":"x","notifications":[1],"_meta":5}}"#,
        );
        assert_eq!(message.version, Member::Malformed);
        assert_eq!(message.method, Member::Malformed);
        let Member::Valid(params) = message.params else { panic!("no params") };
        assert_eq!(params.name, Member::Malformed);
        assert_eq!(params.uri, Member::Malformed);
        assert_eq!(params.reference, Member::Malformed);
        assert_eq!(params.subscriptions, Member::Malformed);
        assert_eq!(params.meta, Member::Malformed);
        assert_eq!(single(r#"{"params":[1]}"#).params, Member::Malformed);
    }

    #[test]
    fn what_a_client_answers_to_the_gateway_is_read_in_the_same_pass() {
        let params = |members: &'static str| match single(members).params {
            Member::Valid(params) => params,
            Member::Absent | Member::Malformed => panic!("no params in {members}"),
        };
        let read = params(
            r#"{"params":{"request\u0053tate":"tga1.x","inputResponses":{"a":[1],"dev.toolgate\/approval":{"content":{},"action":"decline"}}}}"#,
        );
        assert_eq!(read.request_state, Member::Valid("tga1.x".into()));
        let action = |params: &Params<'_>| params.input_responses.valid().unwrap().approval.valid().unwrap().action;
        assert_eq!(action(&read), Member::Valid(InputAction::Decline));
        for (text, expected) in [
            (r#"{"action":"accept"}"#, Member::Valid(InputAction::Accept)),
            (r#"{"action":"cancel"}"#, Member::Valid(InputAction::Cancel)),
            (r#"{"action":"Accept"}"#, Member::Malformed),
            (r#"{"action":["accept"]}"#, Member::Malformed),
            (r#"{}"#, Member::Absent),
        ] {
            let body = format!(r#"{{"params":{{"inputResponses":{{"dev.toolgate/approval":{text}}}}}}}"#);
            let Member::Valid(params) = single(&body).params else { panic!("{text}") };
            assert_eq!(action(&params), expected, "{text}");
        }
        // What is not the gateway's is the upstream's business, whatever it is.
        for text in ["5", "[1]", "null", r#""x""#, "true"] {
            let body = format!(r#"{{"params":{{"requestState":{{"a":{text}}},"inputResponses":{text}}}}}"#);
            let Member::Valid(params) = single(&body).params else { panic!("{text}") };
            assert_eq!((params.request_state, params.input_responses), (Member::Malformed, Member::Malformed));
        }
        for text in [
            r#"{"params":{"RequestState":"tga1.x"}}"#,
            r#"{"params":{"inputResponses":{"dev.toolgate/Approval":{}}}}"#,
            r#"{"params":{"inputResponses":{"dev.toolgate/approval":{"Action":"accept"}}}}"#,
            r#"{"params":{"_meta":{"io.modelcontextprotocol/clientCapabilities":{"Elicitation":{}}}}}"#,
        ] {
            assert_eq!(defect(text), Some(Defect::MisleadingMember), "{text}");
        }
        assert_eq!(
            defect(r#"{"params":{"inputResponses":{"dev.toolgate/approval":{},"dev.toolgate\u002fapproval":{}}}}"#),
            Some(Defect::DuplicateMember)
        );
    }

    #[test]
    fn depth_and_batches_are_bounded() {
        let deep =
            |levels: usize| format!("{{\"params\":{{\"arguments\":{}1{}}}}}", "[".repeat(levels), "]".repeat(levels));
        assert!(Body::parse(deep(limits::MAX_JSON_DEPTH - 2).as_bytes()).is_ok());
        assert_eq!(defect(&deep(limits::MAX_JSON_DEPTH - 1)), Some(Defect::TooDeep));
        let batch = |messages: usize| format!("[{}]", vec!["{}"; messages].join(","));
        assert!(Body::parse(batch(limits::MAX_BATCH_MESSAGES).as_bytes()).is_ok());
        assert!(Body::parse(batch(limits::MAX_BATCH_MESSAGES + 1).as_bytes()).is_err());
        assert!(Body::parse(b"[1]").is_err());
        assert!(Body::parse(b"\"x\"").is_err());
    }
}

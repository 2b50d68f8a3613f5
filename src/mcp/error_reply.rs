//! JSON-RPC errors that the gateway answers with.

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::RequestId;
use crate::http::LocalReply;

/// A JSON-RPC error code. The numbers of MCP 2026-07-28, "Error Codes"; the gateway's own lie outside of the range
/// that JSON-RPC and MCP reserve (-32768 to -32000).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(i32)]
pub enum ErrorCode {
    /// Not JSON.
    Parse = -32700,
    /// Not a JSON-RPC message that MCP allows.
    InvalidRequest = -32600,
    /// No such method in this revision.
    MethodNotFound = -32601,
    /// MCP before 2026-07-28: no such resource.
    ResourceNotFound = -32002,
    /// Parameters missing or of a wrong type.
    InvalidParams = -32602,
    /// Headers and body of a stateless request disagree.
    HeaderMismatch = -32020,
    /// The revision is not supported here.
    UnsupportedVersion = -32022,
    /// Toolgate: the token lacks scopes; `data` names them.
    InsufficientScope = -33001,
    /// Toolgate: the person must be authenticated in another way; `data` says how.
    InsufficientAuthentication = -33004,
    /// Toolgate: the policy does not allow it, and no scope would change that.
    Denied = -33002,
    /// Toolgate: the gateway cannot decide or reach the upstream now.
    Unavailable = -33003,
    /// Toolgate: a person must approve the call; `data` says where.
    ApprovalRequired = -33005,
    /// MCP 2025-11-25 only: the user is to open a page, and the request to be sent again.
    UrlElicitationRequired = -32042,
}

impl ErrorCode {
    /// The number on the wire.
    pub const fn number(self) -> i32 {
        self as i32
    }
}

/// A JSON-RPC error object without its id.
#[derive(Clone, Debug, Serialize)]
pub struct RpcError {
    code: i32,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
}

impl RpcError {
    /// An error with that text.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code: code.number(), message: message.into(), data: None }
    }

    /// The same with machine-readable `data`.
    #[must_use]
    pub fn with_data(mut self, data: Value) -> Self {
        self.data = Some(data);
        self
    }

    /// The HTTP answer that carries it. Without `id` the member is left out: MCP forbids `null`.
    pub fn into_reply(self, status: u16, id: Option<RequestId<'_>>, details: &'static str) -> LocalReply {
        #[derive(Serialize)]
        struct Response<'a> {
            jsonrpc: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            id: Option<&'a RawValue>,
            error: RpcError,
        }
        let response = Response { jsonrpc: "2.0", id: id.map(RequestId::raw), error: self };
        let mut reply = LocalReply::json(status, &Value::Null, details);
        // Serialising a struct of strings and numbers does not fail; an empty body would still be a refusal.
        reply.body = serde_json::to_vec(&response).unwrap_or_default();
        reply
    }
}

/// A message that breaks the protocol, and how to say so.
#[derive(Clone, Debug)]
pub struct ProtocolError<'a> {
    /// HTTP status.
    pub status: u16,
    /// The error.
    pub error: RpcError,
    /// The id to echo, when there is a valid one.
    pub id: Option<RequestId<'a>>,
    /// Stable reason code.
    pub reason: &'static str,
}

impl ProtocolError<'_> {
    /// The HTTP answer.
    pub fn into_reply(self) -> LocalReply {
        self.error.into_reply(self.status, self.id, self.reason)
    }
}

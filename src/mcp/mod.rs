//! The Model Context Protocol as this gateway must understand it: which message asks for what.
//!
//! `message` reads the body, `classify` holds it against the HTTP headers and the policy's revisions and says what
//! each message does. Whatever is not in the method table is an error: nothing passes unrecognised.
//!
//! The other way round, `sse` cuts a stream of the upstream into events, and `outbound` takes out of an event, or of a
//! whole answer, what the caller may not see.

mod capabilities;
mod classify;
mod error_reply;
mod headers;
mod listing;
mod message;
mod method;
mod outbound;
mod read;
mod revision;
pub mod sse;
mod value;
pub(crate) mod walk;

pub use capabilities::{Capability, ClientCapabilities};
pub use classify::{Call, CallContext, Retry, Target, classify};
pub use error_reply::{ErrorCode, ProtocolError, RpcError};
pub use headers::{HeaderProblem, McpHeaders};
pub use message::{
    APPROVAL_INPUT, Body, InputAction, InputResponse, InputResponses, Member, Message, Meta, Params, Reference,
    RequestId, Subscriptions,
};
pub use method::{Kind, Method};
pub use outbound::{
    Caching, ClientFeature, ListKind, Listed, Response, Reviewed, ServerMessage, Shown, Unreadable, View, review,
};
pub(crate) use read::members as strict_members;
pub use revision::{Revision, RevisionSet};

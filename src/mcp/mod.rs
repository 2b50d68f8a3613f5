//! The Model Context Protocol as this gateway must understand it: which message asks for what.
//!
//! `message` reads the body, `classify` holds it against the HTTP headers and the policy's revisions and says what
//! each message does. Whatever is not in the method table is an error: nothing passes unrecognised.

mod arguments;
mod classify;
mod error_reply;
mod headers;
mod message;
mod method;
mod read;
mod revision;

pub use arguments::call_arguments;
pub use classify::{Call, Target, classify};
pub use error_reply::{ErrorCode, ProtocolError, RpcError};
pub use headers::{HeaderProblem, McpHeaders};
pub use message::{Body, Member, Message, Meta, Params, Reference, RequestId, Subscriptions};
pub use method::{Kind, Method};
pub use revision::{Revision, RevisionSet};

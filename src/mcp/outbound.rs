//! What the upstream sends to a client: read by the shape of each message, so that it does not matter on which stream
//! an answer arrives, and edited in place, so that whatever is not concerned stays byte for byte.
//!
//! Three things are judged: the elements of lists (see `listing`), the requests that a server sends to a client or, from
//! 2026-07-28 on, puts into its results, and notifications about resources. Members that are not looked at may be
//! anything; those that are must mean the same to every reader.

use std::borrow::Cow;
use std::ops::Range;

use serde_json::value::RawValue;

use super::listing::{self, META, SCOPE, TTL};
use super::walk::{Edits, Sieve, Walker};
use super::{APPROVAL_INPUT, ErrorCode, Member, RpcError};
use crate::json::Defect;
use crate::limits;

/// What the caller may see of what the upstream sends.
pub trait View {
    /// Whether this element of a list may be seen.
    fn shows(&mut self, element: Listed<'_>) -> Shown;

    /// Whether the upstream may send this to the client.
    fn passes(&mut self, message: ServerMessage<'_>) -> bool;

    /// How long, and by whom, lists may be cached.
    fn caching(&self) -> Caching;

    /// What answers a request, after all that was asked about it.
    ///
    /// It counts only if all that it came with can be judged.
    fn sees(&mut self, response: Response<'_>);
}

/// A message with a result or an error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Response<'a> {
    /// A result, an object, that goes to the client.
    Result {
        /// The id of the request, as JSON text.
        id: &'a str,
        /// `isError` as JSON text.
        is_error: Option<&'a str>,
    },
    /// An error that goes to the client.
    Error {
        /// The id of the request, as JSON text; `None` if the server could not read it.
        id: Option<&'a str>,
    },
    /// One that does not go to the client, or is not what came.
    Withheld,
}

/// An element of a list.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Listed<'a> {
    /// What kind of list it stands in.
    pub kind: ListKind,
    /// What names it: see [`ListKind::key`].
    pub key: &'a str,
    /// The element as the upstream wrote it: one JSON object.
    pub definition: &'a str,
}

/// The lists of MCP.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[expect(missing_docs, reason = "each is the list of that name")]
pub enum ListKind {
    Tools,
    Resources,
    ResourceTemplates,
    Prompts,
    Tasks,
}

impl ListKind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Tools, Self::Resources, Self::ResourceTemplates, Self::Prompts, Self::Tasks];

    /// The member of a result that holds the list.
    pub const fn member(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Resources => "resources",
            Self::ResourceTemplates => "resourceTemplates",
            Self::Prompts => "prompts",
            Self::Tasks => "tasks",
        }
    }

    /// The member of an element that names it.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Tools | Self::Prompts => "name",
            Self::Resources => "uri",
            Self::ResourceTemplates => "uriTemplate",
            Self::Tasks => "taskId",
        }
    }
}

/// Whether an element of a list is shown.
#[derive(Clone, Debug)]
pub enum Shown {
    /// It is left out.
    No,
    /// It stays as it is.
    Yes,
    /// It stays, with this value as the member `dev.toolgate/duty` of its `_meta`.
    WithDuty(Box<RawValue>),
}

/// Something that an upstream sends of its own accord.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ServerMessage<'a> {
    /// It asks something of the client.
    Asks(ClientFeature),
    /// `notifications/resources/updated` for this URI.
    ResourceUpdated(&'a str),
}

/// What servers ask of clients.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum ClientFeature {
    /// `sampling/createMessage`.
    Sampling,
    /// `elicitation/create`, and error -32042 of 2025-11-25.
    Elicitation,
    /// `roots/list`.
    Roots,
    /// `tasks/*` of 2025-11-25: what became of a sampling or an elicitation that the client runs as a task.
    Tasks,
}

impl ClientFeature {
    /// The feature that a method of that name belongs to.
    pub fn of(method: &str) -> Option<Self> {
        match method {
            "sampling/createMessage" => Some(Self::Sampling),
            "elicitation/create" => Some(Self::Elicitation),
            "roots/list" => Some(Self::Roots),
            "tasks/get" | "tasks/result" | "tasks/list" | "tasks/cancel" => Some(Self::Tasks),
            _ => None,
        }
    }

    /// Its name in MCP.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sampling => "sampling",
            Self::Elicitation => "elicitation",
            Self::Roots => "roots",
            Self::Tasks => "tasks",
        }
    }
}

/// How lists may be cached: never for other callers, and not for long, because the policy may change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Caching {
    /// Largest `ttlMs`.
    pub most_ttl_ms: u64,
    /// Whether `ttlMs` and `cacheScope` are added where they are missing, because the revision requires them.
    pub is_required: bool,
}

/// What remains of what the upstream sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reviewed {
    /// All of it, byte for byte.
    Unchanged,
    /// This.
    Changed(Vec<u8>),
    /// Nothing: the client must not have it, or it is no message of MCP.
    Nothing,
}

/// Why a message cannot be judged.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unreadable {
    /// Not JSON in UTF-8.
    #[error("not JSON")]
    NotJson,
    /// JSON that two parsers could read differently where it matters, or that is too deep or too wide.
    #[error("{0}")]
    Defect(Defect),
    /// A member that is looked at is of another type than the protocol says.
    #[error("malformed")]
    Malformed,
}

/// Reads what the upstream sent, one message or a batch, and takes out what the caller may not see.
///
/// # Errors
/// When it cannot be judged; then none of it may pass.
pub fn review(bytes: &[u8], view: &mut dyn View) -> Result<Reviewed, Unreadable> {
    let mut walker = Walker::new(bytes)?;
    let mut edits = Edits::default();
    let passes = if walker.enter_array() {
        batch(&mut walker, view, &mut edits)?
    } else {
        message(&mut walker, view, &mut edits)?.1
    };
    walker.finish()?;
    if !passes {
        Ok(Reviewed::Nothing)
    } else if edits.is_empty() {
        Ok(Reviewed::Unchanged)
    } else {
        edits.apply(bytes).map(Reviewed::Changed)
    }
}

/// Whether any message of a batch passes.
fn batch(walker: &mut Walker<'_>, view: &mut dyn View, edits: &mut Edits) -> Result<bool, Unreadable> {
    let mut sieve = Sieve::default();
    let mut count = 0_usize;
    while walker.next_element()? {
        count = count.saturating_add(1);
        if count > limits::MAX_BATCH_MESSAGES {
            return Err(Unreadable::Defect(Defect::TooManyMembers));
        }
        let undo = edits.count();
        let (span, passes) = message(walker, view, edits)?;
        if !passes {
            edits.undo_to(undo);
        }
        sieve.take(span, passes, edits);
    }
    Ok(sieve.any_kept())
}

/// The members of JSON-RPC.
const MESSAGE: [&str; 6] = ["jsonrpc", "id", "method", "params", "result", "error"];

/// What a message is made of, as far as it has been read.
#[derive(Default)]
struct Parts<'a> {
    is_json_rpc: bool,
    id: Id<'a>,
    method: Member<Cow<'a, str>>,
    params: Option<Walker<'a>>,
    /// `result`, an object, as all results of MCP are: its `isError` as JSON text.
    result: Member<Option<&'a str>>,
    has_error: bool,
    /// What the answer asks of the client against the policy.
    refused: Option<Refused>,
}

impl<'a> Parts<'a> {
    /// What it is as a response, which passes or does not.
    const fn response(&self, passes: bool) -> Response<'a> {
        match (self.id, &self.result) {
            _ if !passes || self.refused.is_some() => Response::Withheld,
            (Id::Valid(id), Member::Valid(is_error)) => Response::Result { id, is_error: *is_error },
            (Id::Valid(id), _) => Response::Error { id: Some(id) },
            (Id::Absent | Id::Null | Id::Malformed, _) => Response::Error { id: None },
        }
    }
}

#[derive(Clone, Copy, Default)]
enum Id<'a> {
    #[default]
    Absent,
    Null,
    /// The JSON text of a string or a number.
    Valid(&'a str),
    Malformed,
}

/// What a result says.
struct Outcome<'a> {
    /// `isError` as JSON text.
    is_error: Option<&'a str>,
    /// What it asks of the client against the policy.
    refused: Option<Refused>,
}

/// Where a message is, and whether it passes with the changes that are added to `edits`.
fn message<'a>(
    walker: &mut Walker<'a>,
    view: &mut dyn View,
    edits: &mut Edits,
) -> Result<(Range<usize>, bool), Unreadable> {
    let start = walker.position();
    if walker.peek() != Some(b'{') {
        return Ok((walker.skip()?, false));
    }
    let undo = edits.count();
    let mut parts = Parts::default();
    let span = walker.members(&MESSAGE, |walker, name, _| {
        match name {
            "jsonrpc" => parts.is_json_rpc = walker.string_value()?.is_some_and(|version| version == "2.0"),
            "id" => parts.id = read_id(walker)?,
            "method" => parts.method = walker.string_value()?.map_or(Member::Malformed, Member::Valid),
            "params" => {
                parts.params = Some(*walker);
                walker.skip()?;
            }
            "result" if walker.peek() == Some(b'{') => {
                let Outcome { is_error, refused } = result(walker, view, edits)?;
                parts.result = Member::Valid(is_error);
                parts.refused = refused;
            }
            "result" => {
                parts.result = Member::Malformed;
                walker.skip()?;
            }
            "error" => {
                parts.has_error = true;
                parts.refused = error(walker, view)?;
            }
            _ => {
                walker.skip()?;
            }
        }
        Ok(())
    })?;
    let passes = match (&parts.method, parts.id, &parts.result, parts.has_error) {
        _ if !parts.is_json_rpc => false,
        (Member::Valid(method), Id::Absent, Member::Absent, false) => notification(method, parts.params, view)?,
        (Member::Valid(method), Id::Valid(_), Member::Absent, false) => {
            method == "ping" || ClientFeature::of(method).is_some_and(|it| view.passes(ServerMessage::Asks(it)))
        }
        (Member::Absent, Id::Valid(id), Member::Valid(_), false)
        | (Member::Absent, Id::Valid(id), Member::Absent, true) => {
            if let Some(refused) = parts.refused {
                edits.undo_to(undo);
                edits.replace(span.clone(), refused.answer(id));
            }
            true
        }
        // The server could not read the id; JSON-RPC has it `null` then, MCP leaves it out.
        (Member::Absent, Id::Absent | Id::Null, Member::Absent, true) => parts.refused.is_none(),
        _ => false,
    };
    if parts.has_error || !matches!(parts.result, Member::Absent) {
        view.sees(parts.response(passes));
    }
    Ok((start..span.end, passes))
}

fn read_id<'a>(walker: &mut Walker<'a>) -> Result<Id<'a>, Unreadable> {
    let first = walker.peek();
    let span = walker.skip()?;
    let text = walker.slice(span);
    Ok(match first {
        Some(b'n') => Id::Null,
        Some(b'"' | b'-' | b'0'..=b'9') if text.len() <= limits::MAX_REQUEST_ID_BYTES => Id::Valid(text),
        _ => Id::Malformed,
    })
}

/// Whether a notification passes. One that nobody knows does: it asks for nothing.
fn notification(method: &str, params: Option<Walker<'_>>, view: &mut dyn View) -> Result<bool, Unreadable> {
    match (method, params) {
        ("notifications/resources/updated", Some(mut params)) => {
            let mut uri = None;
            params.members(&["uri"], |walker, name, _| {
                let value = walker.string_value()?;
                if name == "uri" {
                    uri = value;
                }
                Ok(())
            })?;
            Ok(uri.is_some_and(|uri| view.passes(ServerMessage::ResourceUpdated(&uri))))
        }
        ("notifications/resources/updated", None) => Ok(false),
        // The whole state of a task, in the extension to 2026-07-28.
        ("notifications/tasks", Some(mut params)) => {
            let mut refused = None;
            params.members(&["inputRequests"], |walker, name, _| {
                match name {
                    "inputRequests" => refused = input_requests(walker, view)?,
                    _ => {
                        walker.skip()?;
                    }
                }
                Ok(())
            })?;
            Ok(refused.is_none())
        }
        _ => Ok(true),
    }
}

/// The members of results that are looked at.
const RESULT: [&str; 9] =
    ["tools", "resources", "resourceTemplates", "prompts", "tasks", "inputRequests", META, TTL, SCOPE];

/// Filters a result by its shape.
fn result<'a>(walker: &mut Walker<'a>, view: &mut dyn View, edits: &mut Edits) -> Result<Outcome<'a>, Unreadable> {
    let mut hints = listing::CacheHints::default();
    let mut is_list = false;
    let (mut is_error, mut refused) = (None, None);
    let span = walker.members(&RESULT, |walker, name, _| {
        match name {
            "inputRequests" => refused = input_requests(walker, view)?,
            META => listing::own_meta(walker, None, edits)?,
            TTL => hints.ttl = Some(walker.skip()?),
            SCOPE => hints.scope = Some(walker.skip()?),
            // It is not looked at but for the record, so others like it may pass.
            "isError" => {
                let span = walker.skip()?;
                is_error = Some(walker.slice(span));
            }
            _ => match ListKind::ALL.into_iter().find(|kind| kind.member() == name) {
                Some(kind) => {
                    is_list = true;
                    listing::filter(walker, kind, view, edits)?;
                }
                None => {
                    walker.skip()?;
                }
            },
        }
        Ok(())
    })?;
    if is_list {
        hints.restrict(walker, span.end, view.caching(), edits);
    }
    Ok(Outcome { is_error, refused })
}

/// What an answer asks of the client, against the policy.
#[derive(Clone, Copy, Debug)]
enum Refused {
    Feature(ClientFeature),
    Unknown,
}

impl Refused {
    /// The answer that the client gets instead.
    fn answer(self, id: &str) -> String {
        let what = match self {
            Self::Feature(feature) => feature.name(),
            Self::Unknown => "something unknown",
        };
        let message = format!("The MCP server asks for {what}, which the policy does not allow");
        let error = serde_json::to_string(&RpcError::new(ErrorCode::Denied, message)).unwrap_or_default();
        format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#)
    }
}

/// Judges the requests within a result of 2026-07-28 (multi round-trip requests): one that is refused refuses all.
fn input_requests(walker: &mut Walker<'_>, view: &mut dyn View) -> Result<Option<Refused>, Unreadable> {
    if walker.peek() == Some(b'n') {
        return walker.skip().map(|_| None);
    }
    let mut refused = None;
    walker.members(&[], |walker, key, _| {
        let mut feature = None;
        walker.members(&["method", "params"], |walker, name, _| {
            let value = walker.string_value()?;
            if name == "method" {
                feature = value.and_then(|method| ClientFeature::of(&method));
            }
            Ok(())
        })?;
        match feature {
            // The gateway asks under this name, and what comes back is for it.
            _ if key == APPROVAL_INPUT => refused = Some(Refused::Unknown),
            Some(ClientFeature::Tasks) | None => refused = Some(Refused::Unknown),
            Some(feature) if !view.passes(ServerMessage::Asks(feature)) => refused = Some(Refused::Feature(feature)),
            Some(_) => {}
        }
        Ok(())
    })?;
    Ok(refused)
}

/// The error code of 2025-11-25 that asks the client to open a URL: an elicitation by other means.
const URL_ELICITATION_REQUIRED: f64 = -32042.0;

fn error(walker: &mut Walker<'_>, view: &mut dyn View) -> Result<Option<Refused>, Unreadable> {
    let mut asks = false;
    walker.members(&["code"], |walker, name, _| {
        let span = walker.skip()?;
        if name == "code" {
            let code = walker.slice(span).parse::<f64>();
            asks = code.is_ok_and(|code| code.total_cmp(&URL_ELICITATION_REQUIRED).is_eq());
        }
        Ok(())
    })?;
    let feature = ClientFeature::Elicitation;
    Ok((asks && !view.passes(ServerMessage::Asks(feature))).then_some(Refused::Feature(feature)))
}

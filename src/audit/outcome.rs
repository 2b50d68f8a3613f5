//! What came of a call, picked from the answer as it passes: no more of it is held than what is picked.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::by_tool::ByTool;
use super::pointer::{Pointer, PointerSet, Some32, Step};
use super::record::ResponseStatus;
use super::scalar::shown;
use super::scan::{Broken, Piece, Scanner, Token};
use crate::json::{self, Text};
use crate::limits;
use crate::mcp::Response;

/// What is picked from the results of which tools.
pub type Outcomes = ByTool<Arc<OutcomeFields>>;

/// What is picked from the result of a tool.
#[derive(Clone, Debug, Default)]
pub struct OutcomeFields {
    names: Vec<String>,
    pointers: PointerSet,
}

impl OutcomeFields {
    /// Names, each with a pointer into the result.
    ///
    /// `None` if there are more than [`limits::MAX_AUDIT_POINTERS`], or if one is for several places.
    pub fn new(fields: Vec<(String, Pointer)>) -> Option<Self> {
        let (names, pointers): (Vec<String>, Vec<Pointer>) = fields.into_iter().unzip();
        if pointers.iter().any(Pointer::has_wildcard) {
            return None;
        }
        Some(Self { names, pointers: PointerSet::new(pointers)? })
    }
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// `Success`, `ToolError`, `Error`, `Unread` or `NoResult`.
    pub status: ResponseStatus,
    /// What was picked from the result, by name: strings, numbers and booleans as records show them.
    pub fields: BTreeMap<String, Value>,
}

/// What the responses in a text that was judged say of a request, without another look at the text.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Came {
    /// Nothing: none of them is the response to it.
    #[default]
    Nothing,
    /// That.
    Known(ResponseStatus),
    /// The text says it, but those who judged it do not.
    Unclear,
}

impl Came {
    /// With another response, which comes after those that are known; `id` is that of the request, as JSON text.
    pub fn then(self, response: &Response<'_>, id: &str) -> Self {
        let mut message = Message::default();
        match *response {
            _ if self != Self::Nothing => return self,
            Response::Withheld => return Self::Unclear,
            Response::Result { id: of, is_error } => {
                message.id(is_same_id(id, of.as_bytes()), of.as_bytes());
                (message.has_result, message.has_result_object) = (true, true);
                message.flag = is_error.map_or(Flag::Absent, |text| Flag::read(text.as_bytes()));
            }
            Response::Error { id: of } => {
                if let Some(of) = of {
                    message.id(is_same_id(id, of.as_bytes()), of.as_bytes());
                }
                message.has_error = true;
            }
        }
        message.status().map_or(Self::Nothing, Self::Known)
    }
}

/// Looks for the answer to one request, and picks what is wanted from it.
///
/// The answer is the first response with the id of the request, alone or in a batch; an error that has no id will do,
/// since a server sends one that could not read the request. `Unread` is an answer that a client may read in more than
/// one way: `result`, `error`, `isError` or `id` twice, both a result and an error, a result that is not an object, an
/// `isError` that is not a boolean; or that is broken, or nests deeper than [`limits::MAX_ANSWER_JSON_DEPTH`].
///
/// A field is left out if its value is not there, or is an object, an array, `null`, longer than
/// [`limits::MAX_OUTCOME_BYTES`] as JSON, or ambiguous, since a member on the way to it is there twice.
#[derive(Debug)]
pub struct OutcomePicker {
    scanner: Scanner,
    is_broken: bool,
    reader: Reader,
    /// The outcome, once a whole text had it.
    found: Option<Outcome>,
    any_broken: bool,
}

impl OutcomePicker {
    /// Looks for the response to the request with that id (JSON text), and picks these fields of its result.
    ///
    /// A request without an id has no response, but there may be an error.
    pub fn new(fields: Option<Arc<OutcomeFields>>, id: Option<&str>) -> Self {
        let reader = Reader {
            fields: fields.unwrap_or_default(),
            id: id.map(Box::from),
            levels: Vec::new(),
            skipped: 0,
            role: Role::Root,
            text: Vec::new(),
            message: Message::default(),
            outcome: None,
        };
        Self { scanner: Scanner::default(), is_broken: false, reader, found: None, any_broken: false }
    }

    /// Reads the next part of an answer that is one JSON text. How it is cut makes no difference.
    pub fn feed(&mut self, mut chunk: &[u8]) {
        while !self.is_broken {
            match self.scanner.next(&mut chunk) {
                Ok(Some(token)) => self.reader.read(token),
                Ok(None) => return,
                Err(Broken) => self.is_broken = true,
            }
        }
    }

    /// Reads the data of an event, which is a whole JSON text or nothing.
    pub fn message(&mut self, data: &[u8]) {
        if self.found.is_none() {
            self.feed(data);
            self.end_text();
        }
    }

    /// Takes note of a whole text that was judged; `came` is what its responses say.
    pub fn judged(&mut self, came: Came, text: &[u8]) {
        match came {
            Came::Nothing => {}
            Came::Known(status) if self.reader.fields.names.is_empty() => {
                let known = || Outcome { status, fields: BTreeMap::new() };
                self.found.get_or_insert_with(known);
            }
            Came::Known(_) | Came::Unclear => self.message(text),
        }
    }

    /// The outcome, when the answer is complete. Whether it is, and the HTTP status, must be told from elsewhere.
    pub fn finish(mut self) -> Outcome {
        self.end_text();
        let status = if self.any_broken { ResponseStatus::Unread } else { ResponseStatus::NoResult };
        self.found.unwrap_or(Outcome { status, fields: BTreeMap::new() })
    }

    /// Gets ready for the next text. What was found in this one counts only if all of it is JSON.
    fn end_text(&mut self) {
        let outcome = self.reader.reset();
        if !self.is_broken && self.scanner.is_whole() {
            self.found = self.found.take().or(outcome);
        } else if !self.scanner.is_blank() {
            self.any_broken = true;
        }
        self.scanner = Scanner::default();
        self.is_broken = false;
    }
}

/// Where in the answer the tokens are, and what was seen of it.
#[derive(Debug)]
struct Reader {
    fields: Arc<OutcomeFields>,
    id: Option<Box<str>>,
    /// The open objects and arrays in which something is wanted.
    levels: Vec<Level>,
    /// How many are open below them, in which nothing is.
    skipped: usize,
    /// What the next value is.
    role: Role,
    /// The name or scalar that is being read, up to its bound and one more byte.
    text: Vec<u8>,
    message: Message,
    /// Of the first message that is the response.
    outcome: Option<Outcome>,
}

/// An open object or array.
#[derive(Clone, Copy, Debug)]
enum Level {
    Batch,
    Message,
    /// An object of the result, `depth` steps down; `seen` are the pointers that followed a member of it already.
    Object {
        open: Some32,
        depth: usize,
        seen: Some32,
    },
    /// An array of the result, and the number of the next element.
    Array {
        open: Some32,
        depth: usize,
        next: usize,
    },
}

/// What a value is to the reader.
#[derive(Clone, Copy, Debug)]
enum Role {
    /// Nothing.
    Other,
    /// The message, or a batch of them.
    Root,
    /// A message of a batch.
    Message,
    Id,
    /// `result` with `depth` 0, or a part of it, where the pointers `open` lead; `is_flag` is `isError`.
    Result {
        open: Some32,
        depth: usize,
        is_flag: bool,
    },
}

impl Role {
    /// That of a value one step further than `depth`.
    const fn within_result(open: Some32, depth: usize, is_flag: bool) -> Self {
        if open == 0 && !is_flag {
            return Self::Other;
        }
        Self::Result { open, depth: depth.saturating_add(1), is_flag }
    }
}

/// What was seen of a message.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a member that was there")]
struct Message {
    has_id: bool,
    has_this_id: bool,
    /// Neither that of the request nor `null`.
    has_other_id: bool,
    has_error: bool,
    has_result: bool,
    has_result_object: bool,
    flag: Flag,
    is_ambiguous: bool,
    /// Fields that are there twice.
    ambiguous: Some32,
    /// The JSON text of values, each with the fields that it is for.
    values: Vec<(Some32, Box<[u8]>)>,
}

/// `isError`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Flag {
    #[default]
    Absent,
    False,
    True,
    Odd,
}

impl Flag {
    /// Reads its JSON text.
    const fn read(text: &[u8]) -> Self {
        match text {
            b"false" => Self::False,
            b"true" => Self::True,
            _ => Self::Odd,
        }
    }
}

impl Reader {
    fn read(&mut self, token: Token<'_>) {
        match token {
            Token::Object | Token::Array if self.skipped > 0 => self.skipped = self.skipped.saturating_add(1),
            Token::Object | Token::Array => match self.enter(token == Token::Array) {
                Some(level) => {
                    self.levels.push(level);
                    self.role = self.element();
                }
                None => self.skipped = 1,
            },
            Token::Close => {
                if self.skipped > 0 {
                    self.skipped = self.skipped.saturating_sub(1);
                } else if let Some(Level::Message) = self.levels.pop() {
                    self.end_message();
                }
                if self.skipped == 0 {
                    self.role = self.element();
                }
            }
            Token::Name(_) | Token::Scalar(_) if self.skipped > 0 => {}
            Token::Name(piece) => {
                if self.collect(piece, limits::MAX_ANSWER_NAME_BYTES) {
                    self.role = self.member();
                    self.text.clear();
                }
            }
            Token::Scalar(piece) => self.scalar(piece),
        }
    }

    /// What begins with an object or array in this role; `None` if nothing in it is wanted.
    fn enter(&mut self, is_array: bool) -> Option<Level> {
        match (self.role, is_array) {
            (Role::Root, true) => Some(Level::Batch),
            (Role::Root | Role::Message, false) => {
                self.message = Message::default();
                Some(Level::Message)
            }
            (Role::Result { open, depth, is_flag }, _) => {
                if is_flag {
                    self.message.flag = Flag::Odd;
                }
                let is_result = depth == 0 && !is_array;
                self.message.has_result_object |= is_result;
                let open = open & !self.fields.pointers.ended(open, depth);
                match is_array {
                    false if is_result || open != 0 => Some(Level::Object { open, depth, seen: 0 }),
                    true if open != 0 => Some(Level::Array { open, depth, next: 0 }),
                    _ => None,
                }
            }
            (Role::Id, _) => {
                self.message.has_other_id = true;
                None
            }
            (Role::Message | Role::Other, _) => None,
        }
    }

    /// What the next element is, if an array is open; what a member is, its name will say.
    fn element(&mut self) -> Role {
        match self.levels.last_mut() {
            Some(Level::Batch) => Role::Message,
            Some(Level::Array { open, depth, next }) => {
                let open = self.fields.pointers.follow(*open, *depth, Step::Element(*next));
                *next = next.saturating_add(1);
                Role::within_result(open, *depth, false)
            }
            Some(Level::Message | Level::Object { .. }) | None => Role::Other,
        }
    }

    /// What the member is whose name was read.
    fn member(&mut self) -> Role {
        let Ok(name) = json::parse(&self.text, Text) else { return Role::Other };
        match self.levels.last_mut() {
            Some(Level::Message) => self.message.member(&name, self.fields.pointers.all()),
            Some(Level::Object { open, depth, seen }) => {
                let open = self.fields.pointers.follow(*open, *depth, Step::Member(&name));
                self.message.ambiguous |= open & *seen;
                *seen |= open;
                let is_flag = *depth == 0 && name == "isError";
                if is_flag {
                    self.message.is_ambiguous |= self.message.flag != Flag::Absent;
                    self.message.flag = Flag::Odd;
                }
                Role::within_result(open, *depth, is_flag)
            }
            Some(Level::Batch | Level::Array { .. }) | None => Role::Other,
        }
    }

    fn scalar(&mut self, piece: Piece<'_>) {
        let is_whole = match self.role {
            Role::Other | Role::Root | Role::Message => piece.is_last,
            Role::Id => self.collect(piece, limits::MAX_ANSWER_NAME_BYTES),
            Role::Result { .. } => self.collect(piece, limits::MAX_OUTCOME_BYTES),
        };
        if !is_whole {
            return;
        }
        match self.role {
            Role::Id => {
                let is_this = self.id.as_deref().is_some_and(|id| is_same_id(id, &self.text));
                self.message.id(is_this, &self.text);
            }
            Role::Result { open, depth, is_flag } => {
                if is_flag {
                    self.message.flag = Flag::read(&self.text);
                }
                let ended = self.fields.pointers.ended(open & !self.message.ambiguous, depth);
                // At most one value for each pointer: where it leads to a second time, it is ambiguous.
                if ended != 0 && self.text.len() <= limits::MAX_OUTCOME_BYTES {
                    self.message.values.push((ended, self.text.as_slice().into()));
                }
            }
            Role::Other | Role::Root | Role::Message => {}
        }
        self.text.clear();
        self.role = self.element();
    }

    /// Adds a piece to the text, as far as it may grow; whether the text is whole then.
    fn collect(&mut self, piece: Piece<'_>, most: usize) -> bool {
        let room = most.saturating_add(1).saturating_sub(self.text.len());
        self.text.extend(piece.text.iter().take(room));
        piece.is_last
    }

    fn end_message(&mut self) {
        if self.outcome.is_none()
            && let Some(status) = self.message.status()
        {
            let picked = matches!(status, ResponseStatus::Success | ResponseStatus::ToolError);
            self.outcome = Some(Outcome { status, fields: if picked { self.picked() } else { BTreeMap::new() } });
        }
    }

    /// The values as records show them.
    fn picked(&self) -> BTreeMap<String, Value> {
        let mut picked = BTreeMap::new();
        for (name, field) in self.fields.names.iter().zip(PointerSet::bits()) {
            let value = self.message.values.iter().find(|(fields, _)| fields & !self.message.ambiguous & field != 0);
            if let Some(value) = value.and_then(|(_, text)| shown(std::str::from_utf8(text).ok()?)) {
                picked.insert(name.clone(), value);
            }
        }
        picked
    }

    /// Gets ready for another text, and gives out what was found.
    fn reset(&mut self) -> Option<Outcome> {
        self.levels.clear();
        self.skipped = 0;
        self.role = Role::Root;
        self.text.clear();
        self.outcome.take()
    }
}

impl Message {
    /// What a member of a message is; `fields` are all pointers.
    fn member(&mut self, name: &str, fields: Some32) -> Role {
        match name {
            "id" => {
                self.is_ambiguous |= std::mem::replace(&mut self.has_id, true);
                Role::Id
            }
            "error" => {
                self.is_ambiguous |= std::mem::replace(&mut self.has_error, true);
                Role::Other
            }
            "result" => {
                // Nothing is kept of a second one: an upstream may send any number of them.
                if std::mem::replace(&mut self.has_result, true) {
                    self.is_ambiguous = true;
                    return Role::Other;
                }
                Role::Result { open: fields, depth: 0, is_flag: false }
            }
            _ => Role::Other,
        }
    }

    /// Its id is `text`, and whether that is the one of the request.
    fn id(&mut self, is_this: bool, text: &[u8]) {
        self.has_this_id |= is_this;
        self.has_other_id |= !is_this && text != b"null";
    }

    /// What the answer is, if this is the response.
    fn status(&self) -> Option<ResponseStatus> {
        let is_response = match (self.has_result, self.has_error) {
            (false, false) => false,
            (false, true) => self.has_this_id || !self.has_other_id,
            (true, _) => self.has_this_id,
        };
        is_response.then_some(match self.flag {
            _ if self.is_ambiguous || self.has_error == self.has_result => ResponseStatus::Unread,
            _ if self.has_error => ResponseStatus::Error,
            Flag::True if self.has_result_object => ResponseStatus::ToolError,
            Flag::Absent | Flag::False if self.has_result_object => ResponseStatus::Success,
            Flag::Absent | Flag::False | Flag::True | Flag::Odd => ResponseStatus::Unread,
        })
    }
}

/// Whether two ids, as JSON text, are the same string, or the same number in the same spelling.
fn is_same_id(one: &str, other: &[u8]) -> bool {
    one.as_bytes() == other
        || json::parse(one.as_bytes(), Text).is_ok_and(|one| json::parse(other, Text).is_ok_and(|other| one == other))
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use proptest::prelude::*;
    use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
    use serde_json::json;
    use serde_json::value::RawValue;

    use super::*;
    use crate::mcp::{Caching, Listed, Reviewed, ServerMessage, Shown, View, review};

    const FIELDS: [(&str, &str); 6] = [
        ("id", "/structuredContent/booking_id"),
        ("same", "/structuredContent/booking_id"),
        ("first", "/content/0/text"),
        ("deep", "/structuredContent/a~1b/1/c"),
        ("flag", "/isError"),
        ("element", "/content/1"),
    ];

    fn fields() -> Arc<OutcomeFields> {
        let parse = |(name, pointer): (&str, &str)| (name.to_owned(), Pointer::parse(pointer).unwrap());
        Arc::new(OutcomeFields::new(FIELDS.map(parse).into()).unwrap())
    }

    fn picker(id: &str) -> OutcomePicker {
        OutcomePicker::new(Some(fields()), Some(id))
    }

    fn fed<'a>(id: &str, chunks: impl IntoIterator<Item = &'a [u8]>) -> (ResponseStatus, Value) {
        let mut picker = picker(id);
        chunks.into_iter().for_each(|chunk| picker.feed(chunk));
        let Outcome { status, fields } = picker.finish();
        (status, json!(fields))
    }

    /// The outcome for id 7, the same for the text as one, cut anywhere, and byte by byte.
    fn outcome(text: &str) -> (ResponseStatus, Value) {
        let outcome = fed("7", [text.as_bytes()]);
        for at in 0..=text.len() {
            let (one, two) = text.as_bytes().split_at(at);
            assert_eq!(fed("7", [one, two]), outcome, "{text} cut at {at}");
        }
        assert_eq!(fed("7", text.as_bytes().chunks(1)), outcome, "{text}");
        outcome
    }

    use ResponseStatus::{Error, NoResult, Success, ToolError, Unread};

    #[test]
    fn members_that_are_there_again_and_again_are_not_kept() {
        let mut picker = picker("7");
        picker.feed(br#"{"id":7"#);
        for _ in 0..10_000 {
            picker.feed(br#","result":{"isError":true,"structuredContent":{"booking_id":"B-1"}}"#);
        }
        assert!(picker.reader.message.values.len() <= limits::MAX_AUDIT_POINTERS);
        picker.feed(b"}");
        assert_eq!(picker.finish().status, Unread);
    }

    #[test]
    fn fields_are_picked_from_the_result() {
        let text = r#" { "jsonrpc" : "2.0", "result" : {"content":[{"type":"text","text":"Mail jo@example.com\n"},12.50],
            "structuredContent":{"x":{"booking_id":0},"booking_id":"B-7","\u0061/b":[[],{"c":true,"d":[1,{}]}]},
            "isError":false}, "id":7 }"#;
        let expected = json!({"id": "B-7", "same": "B-7", "first": "Mail [email]\u{fffd}", "deep": true, "flag": false,
            "element": "12.50"});
        assert_eq!(outcome(text), (Success, expected));
        assert_eq!(
            outcome(r#"{"result":{"structuredContent":{"booking_id":8}},"id":7}"#).1,
            json!({"id": 8, "same": 8})
        );
    }

    #[test]
    fn only_scalars_of_a_bounded_size_are_picked() {
        let picked = |value: &str| {
            outcome(&format!(r#"{{"id":7,"result":{{"structuredContent":{{"booking_id":{value}}}}}}}"#))
                .1
                .get("id")
                .cloned()
        };
        for nothing in ["null", "{}", "[]", r#"{"booking_id":1}"#, "[1]", r#""\ud800""#] {
            assert_eq!(picked(nothing), None, "{nothing}");
        }
        let text = |length: usize| format!("\"{}\"", "a".repeat(length));
        assert_eq!(picked(&text(254)), Some(json!("a".repeat(254))));
        assert_eq!(picked(&text(255)), None);
        assert_eq!(fed("7", [&br#"{"id":7,"result":{"isError":""#[..], b"\xff", br#""}}"#]), (Unread, json!({})));
        let bad = [&br#"{"id":7,"result":{"structuredContent":{"booking_id":""#[..], b"\xff", br#""}}}"#];
        assert_eq!(fed("7", bad), (Success, json!({})));
    }

    #[test]
    fn the_status_is_that_of_the_response() {
        for (text, expected) in [
            (r#"{"id":7,"result":{}}"#, Success),
            (r#"{"id":7,"result":{"isError":false}}"#, Success),
            (r#"{"id":7,"result":{"isError":true}}"#, ToolError),
            (r#"{"id":7,"result":{"structuredContent":{"isError":true},"content":[{"isError":true}]}}"#, Success),
            (r#"{"id":7,"isError":true,"result":{}}"#, Success),
            (r#"{"id":7,"error":{"code":-32602,"message":"result"}}"#, Error),
            (r#"{"id":7,"error":null}"#, Error),
            (r#"{"id":null,"error":{}}"#, Error),
            (r#"{"error":{}}"#, Error),
            (r#"{"id":8,"error":{}}"#, NoResult),
            (r#"{"id":[7],"error":{}}"#, NoResult),
            (r#"{"id":8,"result":{}}"#, NoResult),
            (r#"{"id":"7","result":{}}"#, NoResult),
            (r#"{"id":7.0,"result":{}}"#, NoResult),
            (r#"{"id":null,"result":{}}"#, NoResult),
            (r#"{"result":{}}"#, NoResult),
            (r#"{"id":7,"method":"sampling/createMessage","params":{"result":{},"error":1}}"#, NoResult),
            (r#"{"method":"notifications/progress"}"#, NoResult),
            (r#"{"detail":"id 7"}"#, NoResult),
            ("7", NoResult),
            ("null", NoResult),
            ("", NoResult),
            (" \n", NoResult),
            ("[]", NoResult),
            (r#"[7,[{"id":7,"result":{}}]]"#, NoResult),
            (r#"[{"id":8,"result":{}},{"id":7,"error":{}},{"id":7,"result":{}}]"#, Error),
            (r#"[{"id":8,"error":{}},{"id":7,"result":{"isError":true}}]"#, ToolError),
        ] {
            assert_eq!(outcome(text).0, expected, "{text}");
        }
    }

    #[test]
    fn what_can_be_read_in_more_than_one_way_is_not_read() {
        for text in [
            r#"{"id":7,"result":{},"result":{}}"#,
            r#"{"id":7,"result":{},"r\u0065sult":{}}"#,
            r#"{"id":7,"error":{},"error":{}}"#,
            r#"{"id":7,"id":7,"result":{}}"#,
            r#"{"id":8,"id":7,"result":{}}"#,
            r#"{"id":7,"result":{},"error":{}}"#,
            r#"{"id":7,"error":null,"result":{}}"#,
            r#"{"id":7,"result":{"isError":false,"isError":true}}"#,
            r#"{"id":7,"result":{"isError":true,"isError":true}}"#,
            r#"{"id":7,"result":{"isError":null}}"#,
            r#"{"id":7,"result":{"isError":"true"}}"#,
            r#"{"id":7,"result":{"isError":[true]}}"#,
            r#"{"id":7,"result":{"isError":1}}"#,
            r#"{"id":7,"result":null}"#,
            r#"{"id":7,"result":"ok"}"#,
            r#"{"id":7,"result":[{}]}"#,
            r#"{"id":7,"result":{}"#,
            r#"{"id":7,"result":{}}}"#,
            r#"{"id":7,"result":{}} {"id":7,"result":{}}"#,
            r#"{"id":7,"result":{},}"#,
            r#"[{"id":7,"result":{}}"#,
            "<html>",
            "data: {}",
        ] {
            assert_eq!(outcome(text), (Unread, json!({})), "{text}");
        }
        let nested =
            |depth: usize| format!(r#"{{"id":7,"result":{{"x":{}{}}}}}"#, "[".repeat(depth), "]".repeat(depth));
        assert_eq!(fed("7", [nested(limits::MAX_ANSWER_JSON_DEPTH - 2).as_bytes()]).0, Success);
        assert_eq!(fed("7", [nested(limits::MAX_ANSWER_JSON_DEPTH - 1).as_bytes()]).0, Unread);
    }

    #[test]
    fn a_field_that_is_there_twice_is_left_out() {
        for (content, expected) in [
            (r#""structuredContent":{"booking_id":1,"booking_id":1}"#, json!({})),
            (r#""structuredContent":{"booking_id":1},"structuredContent":{}"#, json!({})),
            (r#""structuredContent":{},"structuredContent":{"booking_id":1}"#, json!({})),
            (r#""structuredContent":{"booking_id":1,"a/b":[0,{"c":1,"c":2}]}"#, json!({"id": 1, "same": 1})),
            (r#""structuredContent":{"booking_id":1,"x":1,"x":2},"y":1,"y":1"#, json!({"id": 1, "same": 1})),
        ] {
            let text = format!(r#"{{"id":7,"result":{{{content}}}}}"#);
            assert_eq!(outcome(&text), (Success, expected), "{text}");
        }
    }

    #[test]
    fn ids_are_compared_as_values() {
        for (wanted, sent, is_same) in [
            (r#""a""#, r#""a""#, true),
            (r#""a""#, r#""\u0061""#, true),
            (r#""\u0061""#, r#""a""#, true),
            (r#""1""#, "1", false),
            ("1", r#""1""#, false),
            ("1", "1.0", false),
            ("-1", "-1", true),
            ("123456789012345678901234567890", "123456789012345678901234567890", true),
        ] {
            let text = format!(r#"{{"id":{sent},"result":{{}}}}"#);
            let expected = if is_same { Success } else { NoResult };
            assert_eq!(fed(wanted, text.as_bytes().chunks(3)).0, expected, "{wanted} {sent}");
        }
        let long = format!("\"{}\"", "\\u0061".repeat(limits::MAX_REQUEST_ID_BYTES));
        let text = format!(r#"{{"id":{long},"result":{{}}}}"#);
        assert_eq!(fed(&format!("\"{}\"", "a".repeat(limits::MAX_REQUEST_ID_BYTES)), [text.as_bytes()]).0, Success);

        // A request without an id.
        let outcome = |text: &str| {
            let mut picker = OutcomePicker::new(None, None);
            picker.feed(text.as_bytes());
            picker.finish().status
        };
        assert_eq!(outcome(r#"{"id":7,"result":{}}"#), NoResult);
        assert_eq!(outcome(r#"{"id":null,"result":{}}"#), NoResult);
        assert_eq!(outcome(r#"{"id":null,"error":{}}"#), Error);
    }

    #[test]
    fn the_response_is_found_among_the_events_of_a_stream() {
        let outcome = |events: &[&str]| {
            let mut picker = picker("7");
            events.iter().for_each(|event| picker.message(event.as_bytes()));
            let Outcome { status, fields } = picker.finish();
            (status, json!(fields))
        };
        let progress = r#"{"method":"notifications/progress","params":{"progress":1}}"#;
        let response = r#"{"id":7,"result":{"structuredContent":{"booking_id":1}}}"#;
        let picked = json!({"id": 1, "same": 1});
        assert_eq!(outcome(&[]), (NoResult, json!({})));
        assert_eq!(outcome(&["", progress]), (NoResult, json!({})));
        assert_eq!(outcome(&["", progress, r#"{"id":8,"result":{}}"#, response]), (Success, picked.clone()));
        assert_eq!(outcome(&[response, r#"{"id":7,"error":{}}"#, "{"]), (Success, picked.clone()));
        assert_eq!(outcome(&[progress, "{", progress]), (Unread, json!({})));
        assert_eq!(outcome(&["{", response]), (Success, picked.clone()));
        assert_eq!(outcome(&[r#"{"id":7,"result":{"#, response]), (Success, picked));
        assert_eq!(outcome(&[r#"{"id":7,"result":{"isError":true"#]), (Unread, json!({})));
    }

    #[test]
    fn what_is_held_is_bounded() {
        let mut picker = picker("7");
        picker.feed(br#"{"id":7,"result":{"structuredContent":{"booking_id":""#);
        for _ in 0..1000 {
            picker.feed(&[b'x'; 1000]);
        }
        picker.feed(br#"","booking_id":1,"booking_id":1,"#);
        for _ in 0..1000 {
            picker.feed(br#""booking_id":1,"#);
        }
        picker.feed(b"\"");
        for _ in 0..1000 {
            picker.feed(&[b'x'; 1000]);
        }
        assert!(picker.reader.text.capacity() <= 4 * limits::MAX_ANSWER_NAME_BYTES);
        assert!(picker.reader.levels.len() <= limits::MAX_POINTER_TOKENS + 3);
        assert!(picker.reader.message.values.len() <= limits::MAX_AUDIT_POINTERS);
    }

    #[test]
    fn pointers_to_several_places_are_refused() {
        let new = |pointers: &[&str]| {
            let parse = |pointer: &&str| ("x".to_owned(), Pointer::parse(pointer).unwrap());
            OutcomeFields::new(pointers.iter().map(parse).collect())
        };
        assert!(new(&["/a"; 32]).is_some());
        assert!(new(&["/a"; 33]).is_none());
        assert!(new(&["/a/*"]).is_none());
    }

    /// The members of an object in their order, each as often as it is there.
    struct Members<'a>(Vec<(String, &'a RawValue)>);

    impl<'de> Deserialize<'de> for Members<'de> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct InOrder;
            impl<'de> Visitor<'de> for InOrder {
                type Value = Members<'de>;

                fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                    formatter.write_str("an object")
                }

                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                    let mut members = Vec::new();
                    while let Some(member) = map.next_entry().map_err(de::Error::custom)? {
                        members.push(member);
                    }
                    Ok(Members(members))
                }
            }
            deserializer.deserialize_map(InOrder)
        }
    }

    impl<'a> Members<'a> {
        fn of(text: &'a str) -> Option<Self> {
            serde_json::from_str(text).ok()
        }

        fn all(&self, name: &str) -> Vec<&'a str> {
            self.0.iter().filter(|(other, _)| other == name).map(|(_, value)| value.get()).collect()
        }
    }

    /// The same from the whole text, with serde_json.
    fn naive(text: &str) -> (ResponseStatus, Value) {
        if text.trim_matches([' ', '\n', '\r', '\t']).is_empty() {
            return (NoResult, json!({}));
        }
        let Ok(whole) = serde_json::from_str::<&RawValue>(text) else { return (Unread, json!({})) };
        let messages = serde_json::from_str::<Vec<&RawValue>>(whole.get()).unwrap_or_else(|_| vec![whole]);
        let outcomes = messages.iter().filter_map(|message| naive_message(&Members::of(message.get())?));
        outcomes.into_iter().next().unwrap_or((NoResult, json!({})))
    }

    fn naive_message(message: &Members<'_>) -> Option<(ResponseStatus, Value)> {
        let (ids, results, errors) = (message.all("id"), message.all("result"), message.all("error"));
        let is_this = ids.contains(&"7");
        if results.is_empty() && errors.is_empty()
            || !is_this && (!results.is_empty() || ids.iter().any(|id| *id != "null"))
        {
            return None;
        }
        let unread = Some((Unread, json!({})));
        if ids.len() > 1 || [&*results, &*errors].concat().len() > 1 {
            return unread;
        }
        let [result] = *results else { return Some((Error, json!({}))) };
        let Some(members) = Members::of(result) else { return unread };
        let status = match *members.all("isError") {
            [] | ["false"] => Success,
            ["true"] => ToolError,
            _ => return unread,
        };
        let value = |pointer: &str| {
            let mut value = result;
            for token in pointer.split('/').skip(1) {
                value = match Members::of(value) {
                    Some(members) => match *members.all(&token.replace("~1", "/")) {
                        [only] => only,
                        _ => return None,
                    },
                    None => {
                        let elements: Vec<&RawValue> = serde_json::from_str(value).ok()?;
                        elements.get(token.parse::<usize>().ok()?)?.get()
                    }
                };
            }
            (value.len() <= 256).then(|| shown(value))?
        };
        let picked = FIELDS.iter().filter_map(|(name, pointer)| Some(((*name).to_owned(), value(pointer)?)));
        Some((status, picked.collect()))
    }

    /// Texts of JSON that look like answers, some with members twice.
    fn answers() -> impl Strategy<Value = String> {
        let scalar =
            prop::sample::select(vec!["1", "-2.5", "true", "false", "null", r#""x""#, r#""\u0061\"""#, "\"é\"", "7"]);
        let scalar = scalar.prop_map(str::to_owned).boxed();
        let part = scalar.clone().prop_recursive(4, 24, 4, |inner| {
            let names = prop::sample::select(vec!["booking_id", "c", "a/b", "text", "isError", r"\u0063", "x"]);
            let member = (names, inner.clone()).prop_map(|(name, value)| format!("\"{name}\" : {value}"));
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(|elements| format!("[{}]", elements.join(" ,"))),
                prop::collection::vec(member, 0..4).prop_map(|members| format!("{{{}}}", members.join(","))),
            ]
        });
        let member = |name: &'static str, value: BoxedStrategy<String>| {
            value.prop_map(move |value| format!("\"{name}\":{value}")).boxed()
        };
        let object = |members: BoxedStrategy<String>, most: usize| {
            prop::collection::vec(members, 0..=most).prop_map(|members| format!("{{{}}}", members.join(", "))).boxed()
        };
        let part = part.boxed();
        let value = prop_oneof![4 => scalar, 1 => part.clone()].boxed();
        let booking =
            prop_oneof![member("booking_id", value.clone()), member("a/b", part.clone()), member("x", part.clone())];
        let text = prop_oneof![member("text", value), member("type", part.clone())];
        let content =
            prop::collection::vec(object(text.boxed(), 2), 0..3).prop_map(|all| format!("[{}]", all.join(",")));
        let flag = prop::sample::select(vec!["true", "false", "false", "null"]).prop_map(str::to_owned).boxed();
        let parts = prop_oneof![
            4 => member("structuredContent", object(booking.boxed(), 3)),
            2 => member("content", content.boxed()),
            1 => member("structured\\u0043ontent", part.clone()),
            1 => member("isError", flag),
        ];
        let result = prop_oneof![20 => object(parts.boxed(), 3), 1 => part.clone()];
        let answer = prop_oneof![4 => member("result", result.boxed()), 1 => member("error", part.clone())].boxed();
        let other = prop::sample::select(vec!["\"id\":8", "\"id\":null", "\"method\":\"x\"", "\"y\":{\"id\":7}"]);
        let other = prop_oneof![2 => other.prop_map(str::to_owned), 1 => answer.clone()];
        let id = prop::sample::select(vec!["7", "7", "7", "7", "7", "7", "7", "7", "7", "7", "8", "null", "[7]"]);
        let message =
            (answer, prop::option::weighted(0.2, other), id, 0..3_usize).prop_map(|(answer, other, id, place)| {
                let mut members = vec!["\"jsonrpc\":\"2.0\"".to_owned(), answer];
                members.extend(other);
                members.insert(place.min(members.len()), format!("\"id\" :{id}"));
                format!("{{{}}}", members.join(","))
            });
        let element = prop_oneof![message.clone(), part];
        let batch = prop::collection::vec(element, 0..3).prop_map(|elements| format!("[{}]", elements.join(",")));
        prop_oneof![4 => message, 1 => batch]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn it_reads_what_a_reader_of_the_whole_text_does(
            answer in answers(),
            change in prop::option::weighted(0.3, (any::<prop::sample::Index>(), "[\\[\\]{}\":,x0 ]{0,2}")),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        ) {
            let mut answer = answer;
            if let Some((place, text)) = change {
                let (place, old) = *place.get(&answer.char_indices().collect::<Vec<_>>());
                answer.replace_range(place..place.saturating_add(old.len_utf8()), &text);
            }
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(answer.len().max(1))).collect();
            cuts.extend([0, answer.len()]);
            cuts.sort_unstable();
            let chunks = cuts.windows(2).map(|ends| &answer.as_bytes()[ends[0]..ends[1]]);
            let outcome = fed("7", chunks);
            prop_assert_eq!(&outcome, &naive(&answer), "{}", answer);
            let mut picker = picker("7");
            picker.message(answer.as_bytes());
            let Outcome { status, fields } = picker.finish();
            prop_assert_eq!((status, json!(fields)), outcome);
        }

        #[test]
        fn what_a_judge_makes_of_the_responses_is_what_the_text_says(answer in answers(), picks in any::<bool>()) {
            let mut judge = Judge::default();
            let reviewed = review(answer.as_bytes(), &mut judge);
            let passes = matches!(reviewed, Ok(Reviewed::Unchanged | Reviewed::Changed(_)));
            let came = if passes { judge.came } else { Came::Unclear };
            let picker = || OutcomePicker::new(picks.then(fields), Some("7"));
            let (mut judged, mut read) = (picker(), picker());
            judged.judged(came, answer.as_bytes());
            read.message(answer.as_bytes());
            prop_assert_eq!(judged.finish(), read.finish(), "{}", answer);
        }
    }

    /// Lets everything pass.
    #[derive(Default)]
    struct Judge {
        came: Came,
    }

    impl View for Judge {
        fn shows(&mut self, _: Listed<'_>) -> Shown {
            Shown::Yes
        }

        fn passes(&mut self, _: ServerMessage<'_>) -> bool {
            true
        }

        fn sees(&mut self, response: Response<'_>) {
            self.came = self.came.then(&response, "7");
        }

        fn caching(&self) -> Caching {
            Caching { most_ttl_ms: 0, is_required: false }
        }
    }

    #[test]
    fn what_is_known_of_responses_needs_no_other_look() {
        for (text, expected) in [
            (r#"{"jsonrpc":"2.0","id":7,"result":{}}"#, Came::Known(Success)),
            (r#"{"jsonrpc":"2.0","id":7,"result":{"isError":false}}"#, Came::Known(Success)),
            (r#"{"jsonrpc":"2.0","id":7,"result":{"isError":true}}"#, Came::Known(ToolError)),
            (r#"{"jsonrpc":"2.0","id":7,"result":{"isError":[true]}}"#, Came::Known(Unread)),
            (r#"{"jsonrpc":"2.0","id":7,"error":{"code":1}}"#, Came::Known(Error)),
            (r#"{"jsonrpc":"2.0","id":null,"error":{"code":1}}"#, Came::Known(Error)),
            (r#"{"jsonrpc":"2.0","error":{"code":1}}"#, Came::Known(Error)),
            (r#"{"jsonrpc":"2.0","id":8,"error":{"code":1}}"#, Came::Nothing),
            (r#"{"jsonrpc":"2.0","id":"7","result":{}}"#, Came::Nothing),
            (r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"id":7,"result":{}}}"#, Came::Nothing),
            (r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#, Came::Nothing),
            (r#"{"jsonrpc":"2.0","id":7,"result":[]}"#, Came::Unclear),
            (r#"{"id":7,"result":{}}"#, Came::Unclear),
            (r#"[{"jsonrpc":"2.0","id":8,"result":{}},{"jsonrpc":"2.0","id":7,"result":{}}]"#, Came::Known(Success)),
            (r#"[{"id":7,"error":{}},{"jsonrpc":"2.0","id":7,"result":{}}]"#, Came::Unclear),
        ] {
            let mut judge = Judge::default();
            assert!(review(text.as_bytes(), &mut judge).is_ok(), "{text}");
            assert_eq!(judge.came, expected, "{text}");
        }
    }
}

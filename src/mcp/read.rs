//! How messages are read: strictly, in one pass and without copies.
//!
//! Each object of the protocol names its members. Any other member is checked and dropped, unless a careless parser
//! could take it for one of them.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserializer;
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::message::{
    APPROVAL_INPUT, InputAction, InputResponse, InputResponses, META_CAPABILITIES, META_PURPOSE, META_TRACEPARENT,
    META_VERSION,
};
use super::{Body, Capability, ClientCapabilities, Member, Message, Meta, Params, Reference, RequestId, Subscriptions};
use crate::json::{self, Checked, Defect, Key, Members, Text};
use crate::limits;

/// Reads what a POST carries.
pub(super) struct BodySeed;

impl<'de> DeserializeSeed<'de> for BodySeed {
    type Value = Body<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Body<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for BodySeed {
    type Value = Body<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON-RPC message")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Body<'de>, A::Error> {
        read_object(members, limits::MAX_JSON_DEPTH).map(Body::Single)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Body<'de>, A::Error> {
        let mut messages = Vec::new();
        while let Some(message) = elements.next_element_seed(Object::new(limits::MAX_JSON_DEPTH))? {
            if messages.len() >= limits::MAX_BATCH_MESSAGES {
                return Err(de::Error::custom(Defect::TooManyMembers));
            }
            match message {
                Member::Valid(message) => messages.push(message),
                Member::Absent | Member::Malformed => return Err(de::Error::custom("a message is not an object")),
            }
        }
        Ok(Body::Batch(messages))
    }
}

/// An object of the protocol: knows the names of its members and how to read each.
trait ProtocolObject<'de>: Default {
    /// All members that have a meaning here. A member in a misleading spelling of one of these is refused.
    const MEMBERS: &'static [&'static str];

    /// Reads the member `name`, which is one of `MEMBERS`.
    fn read<A: MapAccess<'de>>(&mut self, name: &str, members: &mut A, depth: usize) -> Result<(), A::Error>;
}

fn read_object<'de, T: ProtocolObject<'de>, A: MapAccess<'de>>(mut members: A, depth: usize) -> Result<T, A::Error> {
    let depth = depth.checked_sub(1).ok_or_else(|| de::Error::custom(Defect::TooDeep))?;
    let mut object = T::default();
    let mut seen = Members::default();
    while let Some(Key(name)) = members.next_key()? {
        if T::MEMBERS.contains(&&*name) {
            object.read(&name, &mut members, depth)?;
        } else if T::MEMBERS.iter().any(|known| json::is_misspelling_of(&name, known)) {
            return Err(de::Error::custom(Defect::MisleadingMember));
        } else {
            members.next_value_seed(Checked::to_depth(depth))?;
        }
        seen.insert(name)?;
    }
    Ok(object)
}

impl<'de> ProtocolObject<'de> for Message<'de> {
    const MEMBERS: &'static [&'static str] = &["jsonrpc", "id", "method", "params", "result", "error"];

    fn read<A: MapAccess<'de>>(&mut self, name: &str, members: &mut A, depth: usize) -> Result<(), A::Error> {
        match name {
            "jsonrpc" => self.version = members.next_value_seed(Str { depth })?,
            "id" => self.id = read_id(members.next_value()?),
            "method" => self.method = members.next_value_seed(Str { depth })?,
            "params" => self.params = members.next_value_seed(Object::new(depth))?,
            other => {
                self.has_result |= other == "result";
                self.has_error |= other == "error";
                members.next_value_seed(Checked::to_depth(depth))?;
            }
        }
        Ok(())
    }
}

impl<'de> ProtocolObject<'de> for Params<'de> {
    const MEMBERS: &'static [&'static str] = &[
        "name",
        "uri",
        "taskId",
        "protocolVersion",
        "capabilities",
        "ref",
        "notifications",
        "_meta",
        "inputResponses",
        "requestState",
        // Read by the upstream only, but part of what is authorised.
        "arguments",
        "cursor",
        "task",
    ];

    fn read<A: MapAccess<'de>>(&mut self, name: &str, members: &mut A, depth: usize) -> Result<(), A::Error> {
        match name {
            "name" => self.name = members.next_value_seed(Str { depth })?,
            "uri" => self.uri = members.next_value_seed(Str { depth })?,
            "taskId" => self.task_id = members.next_value_seed(Str { depth })?,
            "protocolVersion" => self.protocol_version = members.next_value_seed(Str { depth })?,
            "capabilities" => self.capabilities = members.next_value_seed(Object::new(depth))?,
            "ref" => self.reference = members.next_value_seed(Object::new(depth))?,
            "notifications" => self.subscriptions = members.next_value_seed(Object::new(depth))?,
            "_meta" => self.meta = members.next_value_seed(Object::new(depth))?,
            "inputResponses" => self.input_responses = members.next_value_seed(Object::new(depth))?,
            "requestState" => self.request_state = members.next_value_seed(Str { depth })?,
            _ => members.next_value_seed(Checked::to_depth(depth))?,
        }
        Ok(())
    }
}

impl<'de> ProtocolObject<'de> for Reference<'de> {
    const MEMBERS: &'static [&'static str] = &["type", "name", "uri"];

    fn read<A: MapAccess<'de>>(&mut self, name: &str, members: &mut A, depth: usize) -> Result<(), A::Error> {
        let member = match name {
            "type" => &mut self.kind,
            "name" => &mut self.name,
            _ => &mut self.uri,
        };
        *member = members.next_value_seed(Str { depth })?;
        Ok(())
    }
}

impl<'de> ProtocolObject<'de> for Subscriptions<'de> {
    const MEMBERS: &'static [&'static str] = &["resourceSubscriptions", "taskIds"];

    fn read<A: MapAccess<'de>>(&mut self, name: &str, members: &mut A, depth: usize) -> Result<(), A::Error> {
        let member = if name == "taskIds" { &mut self.tasks } else { &mut self.resources };
        *member = members.next_value_seed(StrList { depth })?;
        Ok(())
    }
}

impl<'de> ProtocolObject<'de> for Meta<'de> {
    const MEMBERS: &'static [&'static str] = &[META_VERSION, META_CAPABILITIES, META_TRACEPARENT, META_PURPOSE];

    fn read<A: MapAccess<'de>>(&mut self, name: &str, members: &mut A, depth: usize) -> Result<(), A::Error> {
        if name == META_VERSION {
            self.protocol_version = members.next_value_seed(Str { depth })?;
        } else if name == META_TRACEPARENT {
            self.traceparent = members.next_value_seed(Str { depth })?;
        } else if name == META_PURPOSE {
            self.purpose = members.next_value_seed(Str { depth })?;
        } else {
            self.client_capabilities = members.next_value_seed(Object::new(depth))?;
        }
        Ok(())
    }
}

impl<'de> ProtocolObject<'de> for InputResponses {
    const MEMBERS: &'static [&'static str] = &[APPROVAL_INPUT];

    fn read<A: MapAccess<'de>>(&mut self, _: &str, members: &mut A, depth: usize) -> Result<(), A::Error> {
        self.approval = members.next_value_seed(Object::new(depth))?;
        Ok(())
    }
}

impl<'de> ProtocolObject<'de> for InputResponse {
    const MEMBERS: &'static [&'static str] = &["action"];

    fn read<A: MapAccess<'de>>(&mut self, _: &str, members: &mut A, depth: usize) -> Result<(), A::Error> {
        self.action = match members.next_value_seed(Str { depth })? {
            Member::Valid(name) => InputAction::parse(&name).map_or(Member::Malformed, Member::Valid),
            Member::Absent | Member::Malformed => Member::Malformed,
        };
        Ok(())
    }
}

impl<'de> ProtocolObject<'de> for ClientCapabilities {
    const MEMBERS: &'static [&'static str] = &["elicitation", "sampling", "roots", "tasks"];

    fn read<A: MapAccess<'de>>(&mut self, name: &str, members: &mut A, depth: usize) -> Result<(), A::Error> {
        if name == "elicitation" {
            if let Member::Valid(modes) = members.next_value_seed(Object::<ElicitationModes>::new(depth))? {
                *self = modes.declared().fold(*self, Self::with);
            }
            return Ok(());
        }
        let capability = match name {
            "sampling" => Capability::Sampling,
            "roots" => Capability::Roots,
            _ => Capability::Tasks,
        };
        if let Member::Valid(Opaque) = members.next_value_seed(Object::new(depth))? {
            *self = self.with(capability);
        }
        Ok(())
    }
}

/// `elicitation` of a client's capabilities.
#[derive(Default)]
struct ElicitationModes {
    form: Member<Opaque>,
    url: Member<Opaque>,
}

impl ElicitationModes {
    /// Without any mode it is the form, which 2025-06-18 knew alone.
    fn declared(&self) -> impl Iterator<Item = Capability> {
        let has_none = matches!((&self.form, &self.url), (Member::Absent, Member::Absent));
        let form = (has_none || self.form.valid().is_some()).then_some(Capability::ElicitationForm);
        let url = self.url.valid().map(|_| Capability::ElicitationUrl);
        form.into_iter().chain(url)
    }
}

impl<'de> ProtocolObject<'de> for ElicitationModes {
    const MEMBERS: &'static [&'static str] = &["form", "url"];

    fn read<A: MapAccess<'de>>(&mut self, name: &str, members: &mut A, depth: usize) -> Result<(), A::Error> {
        let mode = if name == "url" { &mut self.url } else { &mut self.form };
        *mode = members.next_value_seed(Object::new(depth))?;
        Ok(())
    }
}

/// An object of which only the existence matters.
#[derive(Default)]
struct Opaque;

impl<'de> ProtocolObject<'de> for Opaque {
    const MEMBERS: &'static [&'static str] = &[];

    fn read<A: MapAccess<'de>>(&mut self, _: &str, members: &mut A, depth: usize) -> Result<(), A::Error> {
        members.next_value_seed(Checked::to_depth(depth))
    }
}

/// MCP: a string or an integer, never `null`; a fraction or an exponent would be read differently by different parsers.
fn read_id(raw: &RawValue) -> Member<RequestId<'_>> {
    let text = raw.get();
    let is_integer = || {
        let digits = text.strip_prefix('-').unwrap_or(text);
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    // A raw value is not checked for lone surrogates.
    let is_string = || text.starts_with('"') && json::parse(text.as_bytes(), Text).is_ok();
    if text.len() <= limits::MAX_REQUEST_ID_BYTES && (is_integer() || is_string()) {
        Member::Valid(RequestId::new(raw))
    } else {
        Member::Malformed
    }
}

/// Implements the visits of every type but those a member may have: the value is checked and found malformed.
macro_rules! malformed {
    ($($visit:ident($type:ty)),*) => {
        $(fn $visit<E: de::Error>(self, _: $type) -> Result<Self::Value, E> {
            Ok(Member::Malformed)
        })*

        fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(Member::Malformed)
        }
    };
}

/// A string member.
#[derive(Clone, Copy)]
struct Str {
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Str {
    type Value = Member<Cow<'de, str>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Str {
    type Value = Member<Cow<'de, str>>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON value")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Member::Valid(Cow::Borrowed(text)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Member::Valid(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<Self::Value, A::Error> {
        Checked::to_depth(self.depth).visit_seq(elements).map(|()| Member::Malformed)
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Self::Value, A::Error> {
        Checked::to_depth(self.depth).visit_map(members).map(|()| Member::Malformed)
    }

    malformed!(visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64));
}

/// A member that is an array of strings.
#[derive(Clone, Copy)]
struct StrList {
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for StrList {
    type Value = Member<Vec<Cow<'de, str>>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for StrList {
    type Value = Member<Vec<Cow<'de, str>>>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON value")
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(Member::Malformed)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let depth = self.depth.checked_sub(1).ok_or_else(|| de::Error::custom(Defect::TooDeep))?;
        let mut list = Some(Vec::new());
        while let Some(element) = elements.next_element_seed(Str { depth })? {
            list = match (list, element) {
                (Some(mut list), Member::Valid(text)) if list.len() < limits::MAX_SUBSCRIPTION_URIS => {
                    list.push(text);
                    Some(list)
                }
                _ => None,
            };
        }
        Ok(list.map_or(Member::Malformed, Member::Valid))
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Self::Value, A::Error> {
        Checked::to_depth(self.depth).visit_map(members).map(|()| Member::Malformed)
    }

    malformed!(visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64));
}

/// A member that is an object of the protocol.
struct Object<T> {
    depth: usize,
    kind: PhantomData<T>,
}

impl<T> Object<T> {
    const fn new(depth: usize) -> Self {
        Self { depth, kind: PhantomData }
    }
}

impl<'de, T: ProtocolObject<'de>> DeserializeSeed<'de> for Object<T> {
    type Value = Member<T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: ProtocolObject<'de>> Visitor<'de> for Object<T> {
    type Value = Member<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Self::Value, A::Error> {
        read_object(members, self.depth).map(Member::Valid)
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(Member::Malformed)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<Self::Value, A::Error> {
        Checked::to_depth(self.depth).visit_seq(elements).map(|()| Member::Malformed)
    }

    malformed!(visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64));
}

//! How messages are read: strictly, in one pass and without copies.
//!
//! Each object of the protocol names its members. Any other member is checked and dropped, unless a careless parser
//! could take it for one of them.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::message::{
    APPROVAL_INPUT, InputAction, InputResponse, InputResponses, META_CAPABILITIES, META_PURPOSE, META_TRACEPARENT,
    META_VERSION,
};
use super::value::Demands;
use super::walk::Walker;
use super::{
    Body, Capability, ClientCapabilities, Member, Message, Meta, Params, Reference, RequestId, Subscriptions,
    Unreadable,
};
use crate::json::{self, Defect, lexis};
use crate::limits;

/// Reads what a POST carries.
pub(super) fn body(bytes: &[u8]) -> Result<Body<'_>, Unreadable> {
    let mut reader = Reader::new(bytes)?;
    let body = match reader.walker.peek() {
        Some(b'{') => Body::Single(reader.object(limits::MAX_JSON_DEPTH)?),
        Some(b'[') => Body::Batch(reader.batch()?),
        _ => {
            reader.check(limits::MAX_JSON_DEPTH)?;
            return Err(Unreadable::Malformed);
        }
    };
    reader.walker.finish().map(|()| body)
}

/// Reads an object of any kind: its members in their order, and the text of each value.
///
/// # Errors
/// When `bytes` are not exactly one strict object, or nest deeper than `depth`.
pub(crate) fn members(bytes: &[u8], depth: usize) -> Result<Vec<(Cow<'_, str>, &str)>, Unreadable> {
    let mut reader = Reader::new(bytes)?;
    if reader.walker.peek() != Some(b'{') {
        reader.check(depth)?;
        return Err(Unreadable::Malformed);
    }
    let depth = deeper(depth)?;
    let mut members = Vec::with_capacity(FEW);
    reader.names.open();
    let mut goes_on = reader.walker.enter_object()?;
    while goes_on {
        let name = reader.walker.name()?;
        reader.names.note(name.clone()).map_err(Unreadable::Defect)?;
        reader.walker.colon()?;
        members.push((name, reader.text(depth)?));
        goes_on = reader.walker.next_member()?;
    }
    reader.names.close().map_err(Unreadable::Defect)?;
    reader.walker.finish().map(|()| members)
}

/// A position in a body. What was passed is strict JSON.
struct Reader<'a> {
    walker: Walker<'a>,
    names: Names<'a>,
}

/// An object of the protocol: knows the names of its members and how to read each.
trait ProtocolObject<'a>: Default {
    /// All members that have a meaning here. A member in a misleading spelling of one of these is refused.
    const MEMBERS: &'static [&'static str];

    /// Reads the member `name`, which is one of `MEMBERS`. It may nest `depth` levels.
    fn read(&mut self, name: &str, reader: &mut Reader<'a>, depth: usize) -> Result<(), Unreadable>;
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, Unreadable> {
        Ok(Self { walker: Walker::new(bytes)?, names: Names::new() })
    }

    fn batch(&mut self) -> Result<Vec<Message<'a>>, Unreadable> {
        let mut messages = Vec::new();
        self.walker.enter_array();
        while self.walker.next_element()? {
            let message = self.object_value(limits::MAX_JSON_DEPTH)?;
            if messages.len() >= limits::MAX_BATCH_MESSAGES {
                return Err(Unreadable::Defect(Defect::TooManyMembers));
            }
            match message {
                Member::Valid(message) => messages.push(message),
                Member::Absent | Member::Malformed => return Err(Unreadable::Malformed),
            }
        }
        Ok(messages)
    }

    /// Goes past the next value.
    fn check(&mut self, depth: usize) -> Result<(), Unreadable> {
        self.walker.pass(depth, &mut self.names)
    }

    /// The next value, which is an object.
    fn object<T: ProtocolObject<'a>>(&mut self, depth: usize) -> Result<T, Unreadable> {
        let depth = deeper(depth)?;
        let mut object = T::default();
        self.names.open();
        let mut goes_on = self.walker.enter_object()?;
        while goes_on {
            let name = self.walker.name()?;
            let known = T::MEMBERS.iter().copied().find(|known| *known == name);
            if known.is_none() && T::MEMBERS.iter().any(|known| json::is_misspelling_of(&name, known)) {
                return Err(Unreadable::Defect(Defect::MisleadingMember));
            }
            self.names.note(name).map_err(Unreadable::Defect)?;
            self.walker.colon()?;
            match known {
                Some(known) => object.read(known, self, depth)?,
                None => self.check(depth)?,
            }
            goes_on = self.walker.next_member()?;
        }
        self.names.close().map_err(Unreadable::Defect)?;
        Ok(object)
    }

    /// The next value, which should be an object.
    fn object_value<T: ProtocolObject<'a>>(&mut self, depth: usize) -> Result<Member<T>, Unreadable> {
        match self.walker.peek() {
            Some(b'{') => self.object(depth).map(Member::Valid),
            _ => self.check(depth).map(|()| Member::Malformed),
        }
    }

    /// The next value, which should be a string.
    fn string(&mut self, depth: usize) -> Result<Member<Cow<'a, str>>, Unreadable> {
        match self.walker.peek() {
            Some(b'"') => self.walker.string_value()?.map(Member::Valid).ok_or(Unreadable::NotJson),
            _ => self.check(depth).map(|()| Member::Malformed),
        }
    }

    /// The next value, which should be an array of strings.
    fn strings(&mut self, depth: usize) -> Result<Member<Vec<Cow<'a, str>>>, Unreadable> {
        if self.walker.peek() != Some(b'[') {
            return self.check(depth).map(|()| Member::Malformed);
        }
        let depth = deeper(depth)?;
        let mut list = Some(Vec::new());
        self.walker.enter_array();
        while self.walker.next_element()? {
            list = match (list, self.string(depth)?) {
                (Some(mut list), Member::Valid(text)) if list.len() < limits::MAX_SUBSCRIPTION_URIS => {
                    list.push(text);
                    Some(list)
                }
                _ => None,
            };
        }
        Ok(list.map_or(Member::Malformed, Member::Valid))
    }

    /// The text of the next value.
    fn text(&mut self, depth: usize) -> Result<&'a str, Unreadable> {
        let start = self.walker.position();
        self.check(depth)?;
        let end = self.walker.position();
        Ok(self.walker.slice(start..end).trim_ascii_end())
    }

    /// MCP: a string or an integer, never `null`; a fraction or an exponent would be read differently by different
    /// parsers.
    fn id(&mut self) -> Result<Member<RequestId<'a>>, Unreadable> {
        let span = self.walker.skip()?;
        let text = self.walker.slice(span);
        let is_integer = || {
            let digits = text.strip_prefix('-').unwrap_or(text);
            !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
        };
        // What is skipped is not checked for lone surrogates.
        let is_string = || text.starts_with('"') && json::parse(text.as_bytes(), json::Text).is_ok();
        if text.len() > limits::MAX_REQUEST_ID_BYTES || !(is_integer() || is_string()) {
            return Ok(Member::Malformed);
        }
        let raw: Option<&RawValue> = serde_json::from_str(text).ok();
        Ok(raw.map_or(Member::Malformed, |raw| Member::Valid(RequestId::new(raw))))
    }
}

fn deeper(depth: usize) -> Result<usize, Unreadable> {
    depth.checked_sub(1).ok_or(Unreadable::Defect(Defect::TooDeep))
}

/// The member names of all objects that are being read, those of inner ones after those of outer ones: one allocation
/// for a body instead of one for each object.
struct Names<'a> {
    names: Vec<Cow<'a, str>>,
    /// Where those of the innermost object begin.
    own: usize,
    /// The same for the objects around it.
    outer: Vec<usize>,
}

/// Among up to this many names a new one is searched for. More are sorted at the end of the object.
const FEW: usize = 16;

impl<'a> Names<'a> {
    fn new() -> Self {
        Self { names: Vec::with_capacity(FEW), own: 0, outer: Vec::new() }
    }

    /// An object begins.
    fn open(&mut self) {
        self.outer.push(self.own);
        self.own = self.names.len();
    }

    /// Takes note of the next name of the innermost object.
    #[inline]
    fn note(&mut self, name: Cow<'a, str>) -> Result<(), Defect> {
        let own = self.names.get(self.own..).unwrap_or_default();
        if own.len() >= limits::MAX_JSON_MEMBERS {
            return Err(Defect::TooManyMembers);
        }
        if own.len() <= FEW && own.contains(&name) {
            return Err(Defect::DuplicateMember);
        }
        json::check_name(&name)?;
        self.names.push(name);
        Ok(())
    }

    /// Forgets the innermost object, which has ended.
    fn close(&mut self) -> Result<(), Defect> {
        let own = self.names.get_mut(self.own..).unwrap_or_default();
        if own.len() > FEW {
            own.sort_unstable();
            if own.windows(2).any(|pair| pair.first() == pair.last()) {
                return Err(Defect::DuplicateMember);
            }
        }
        self.names.truncate(self.own);
        self.own = self.outer.pop().unwrap_or_default();
        Ok(())
    }
}

impl<'a> Demands<'a> for Names<'a> {
    const IS_STRICT: bool = true;

    fn enter_object(&mut self) {
        self.open();
    }

    #[inline]
    fn name(&mut self, text: &'a str, at: usize, quoted: lexis::Quoted) -> Result<(), Unreadable> {
        let name = quoted.text(text, at).ok_or(Unreadable::NotJson)?;
        self.note(name).map_err(Unreadable::Defect)
    }

    fn leave_object(&mut self) -> Result<(), Unreadable> {
        self.close().map_err(Unreadable::Defect)
    }
}

impl<'a> ProtocolObject<'a> for Message<'a> {
    const MEMBERS: &'static [&'static str] = &["jsonrpc", "id", "method", "params", "result", "error"];

    fn read(&mut self, name: &str, reader: &mut Reader<'a>, depth: usize) -> Result<(), Unreadable> {
        match name {
            "jsonrpc" => self.version = reader.string(depth)?,
            "id" => self.id = reader.id()?,
            "method" => self.method = reader.string(depth)?,
            "params" => self.params = reader.object_value(depth)?,
            other => {
                self.has_result |= other == "result";
                self.has_error |= other == "error";
                reader.check(depth)?;
            }
        }
        Ok(())
    }
}

impl<'a> ProtocolObject<'a> for Params<'a> {
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
        "arguments",
        // Read by the upstream only, but part of what is authorised.
        "cursor",
        "task",
    ];

    fn read(&mut self, name: &str, reader: &mut Reader<'a>, depth: usize) -> Result<(), Unreadable> {
        match name {
            "name" => self.name = reader.string(depth)?,
            "uri" => self.uri = reader.string(depth)?,
            "taskId" => self.task_id = reader.string(depth)?,
            "protocolVersion" => self.protocol_version = reader.string(depth)?,
            "capabilities" => self.capabilities = reader.object_value(depth)?,
            "ref" => self.reference = reader.object_value(depth)?,
            "notifications" => self.subscriptions = reader.object_value(depth)?,
            "_meta" => self.meta = reader.object_value(depth)?,
            "inputResponses" => self.input_responses = reader.object_value(depth)?,
            "requestState" => self.request_state = reader.string(depth)?,
            "arguments" => self.arguments = Some(reader.text(depth)?).filter(|text| *text != "null"),
            _ => reader.check(depth)?,
        }
        Ok(())
    }
}

impl<'a> ProtocolObject<'a> for Reference<'a> {
    const MEMBERS: &'static [&'static str] = &["type", "name", "uri"];

    fn read(&mut self, name: &str, reader: &mut Reader<'a>, depth: usize) -> Result<(), Unreadable> {
        let member = match name {
            "type" => &mut self.kind,
            "name" => &mut self.name,
            _ => &mut self.uri,
        };
        *member = reader.string(depth)?;
        Ok(())
    }
}

impl<'a> ProtocolObject<'a> for Subscriptions<'a> {
    const MEMBERS: &'static [&'static str] = &["resourceSubscriptions", "taskIds"];

    fn read(&mut self, name: &str, reader: &mut Reader<'a>, depth: usize) -> Result<(), Unreadable> {
        let member = if name == "taskIds" { &mut self.tasks } else { &mut self.resources };
        *member = reader.strings(depth)?;
        Ok(())
    }
}

impl<'a> ProtocolObject<'a> for Meta<'a> {
    const MEMBERS: &'static [&'static str] = &[META_VERSION, META_CAPABILITIES, META_TRACEPARENT, META_PURPOSE];

    fn read(&mut self, name: &str, reader: &mut Reader<'a>, depth: usize) -> Result<(), Unreadable> {
        if name == META_VERSION {
            self.protocol_version = reader.string(depth)?;
        } else if name == META_TRACEPARENT {
            self.traceparent = reader.string(depth)?;
        } else if name == META_PURPOSE {
            self.purpose = reader.string(depth)?;
        } else {
            self.client_capabilities = reader.object_value(depth)?;
        }
        Ok(())
    }
}

impl<'a> ProtocolObject<'a> for InputResponses {
    const MEMBERS: &'static [&'static str] = &[APPROVAL_INPUT];

    fn read(&mut self, _: &str, reader: &mut Reader<'a>, depth: usize) -> Result<(), Unreadable> {
        self.approval = reader.object_value(depth)?;
        Ok(())
    }
}

impl<'a> ProtocolObject<'a> for InputResponse {
    const MEMBERS: &'static [&'static str] = &["action"];

    fn read(&mut self, _: &str, reader: &mut Reader<'a>, depth: usize) -> Result<(), Unreadable> {
        self.action = match reader.string(depth)? {
            Member::Valid(name) => InputAction::parse(&name).map_or(Member::Malformed, Member::Valid),
            Member::Absent | Member::Malformed => Member::Malformed,
        };
        Ok(())
    }
}

impl<'a> ProtocolObject<'a> for ClientCapabilities {
    const MEMBERS: &'static [&'static str] = &["elicitation", "sampling", "roots", "tasks"];

    fn read(&mut self, name: &str, reader: &mut Reader<'a>, depth: usize) -> Result<(), Unreadable> {
        if name == "elicitation" {
            if let Member::Valid(modes) = reader.object_value::<ElicitationModes>(depth)? {
                *self = modes.declared().fold(*self, Self::with);
            }
            return Ok(());
        }
        let capability = match name {
            "sampling" => Capability::Sampling,
            "roots" => Capability::Roots,
            _ => Capability::Tasks,
        };
        if let Member::Valid(Opaque) = reader.object_value(depth)? {
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

impl<'a> ProtocolObject<'a> for ElicitationModes {
    const MEMBERS: &'static [&'static str] = &["form", "url"];

    fn read(&mut self, name: &str, reader: &mut Reader<'a>, depth: usize) -> Result<(), Unreadable> {
        let mode = if name == "url" { &mut self.url } else { &mut self.form };
        *mode = reader.object_value(depth)?;
        Ok(())
    }
}

/// An object of which only the existence matters.
#[derive(Default)]
struct Opaque;

impl<'a> ProtocolObject<'a> for Opaque {
    const MEMBERS: &'static [&'static str] = &[];

    fn read(&mut self, _: &str, reader: &mut Reader<'a>, depth: usize) -> Result<(), Unreadable> {
        reader.check(depth)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::json::Checked;
    use crate::json::texts::{json, texts};

    /// The same by way of serde, which reads the policies.
    fn strictly(bytes: &[u8]) -> Result<(), Unreadable> {
        json::parse(bytes, Checked::to_depth(limits::MAX_JSON_DEPTH))
            .map_err(|error| Defect::of(&error).map_or(Unreadable::NotJson, Unreadable::Defect))
    }

    fn read(text: &str) -> Result<(), Unreadable> {
        body(text.as_bytes()).map(drop)
    }

    #[test]
    fn arguments_cannot_stand_for_a_text_within_them() {
        for name in ["$serde_json::private::RawValue", r"\u0024serde_json::private::RawValue"] {
            for text in [format!(r#"{{"{name}":"\"acme\""}}"#), format!(r#"{{"tenant":{{"{name}":"\"acme\""}}}}"#)] {
                let text = format!(r#"{{"params":{{"arguments":{text}}}}}"#);
                assert_eq!(read(&text), Err(Unreadable::Defect(Defect::MisleadingMember)), "{text}");
            }
        }
    }

    #[test]
    fn duplicates_are_found_among_many_members() {
        let wide = |names: &[&str]| {
            let members: Vec<String> = names.iter().map(|name| format!("\"{name}\":{{\"k1\":[]}}")).collect();
            format!("{{\"x\":{{{}}},\"k1\":0}}", members.join(","))
        };
        let names: Vec<String> = (0..200).map(|number| format!("k{number}")).collect();
        for count in [FEW - 1, FEW, FEW + 1, FEW + 2, 200] {
            let names: Vec<&str> = names.iter().take(count).map(String::as_str).collect();
            assert_eq!(read(&wide(&names)), Ok(()), "{count}");
            for at in [0, 1, count / 2, count - 1] {
                for same in [names[at].to_owned(), names[at].replace('k', r"\u006b")] {
                    let text = wide(&[&names[..], &[&same]].concat());
                    assert_eq!(read(&text), Err(Unreadable::Defect(Defect::DuplicateMember)), "{count} {at}");
                }
            }
        }
    }

    #[test]
    fn members_are_bounded() {
        let of = |count: usize| {
            let members: Vec<String> = (0..count).map(|number| format!("\"{number}\":0")).collect();
            format!("{{\"x\":{{{}}}}}", members.join(","))
        };
        assert_eq!(read(&of(limits::MAX_JSON_MEMBERS)), Ok(()));
        assert_eq!(read(&of(limits::MAX_JSON_MEMBERS + 1)), Err(Unreadable::Defect(Defect::TooManyMembers)));
    }

    #[test]
    fn what_is_no_message_is_told_from_what_is_no_json() {
        for text in ["1", "\"x\"", "null", "[1]", "[{},null]", " true "] {
            assert_eq!(read(text), Err(Unreadable::Malformed), "{text}");
        }
        for text in ["", "nul", "1e999", "\"\\ud800\"", "{}x", "[{}", "{} {}", "[{},]", "{\"id\":1,}", "\u{feff}{}"] {
            assert_eq!(read(text), Err(Unreadable::NotJson), "{text}");
        }
        assert_eq!(body(b"{\"x\":\"\xff\"}").map(drop), Err(Unreadable::NotJson));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn it_is_as_strict_as_the_reader_by_serde(bytes in texts()) {
            // As a member that means nothing, and as arguments.
            for around in ["{\"x\":", "{\"params\":{\"arguments\":"] {
                let ends = &b"}}"[..around.matches('{').count()];
                let whole = [around.as_bytes(), &bytes, ends].concat();
                if std::str::from_utf8(&whole).is_ok() {
                    prop_assert_eq!(body(&whole).map(drop), strictly(&whole));
                } else {
                    prop_assert!(body(&whole).is_err());
                }
            }
        }

        #[test]
        fn arguments_are_the_text_of_their_value(text in json()) {
            let whole = format!("{{\"params\":{{\"arguments\":{text},\"name\":\"t\"}},\"id\":7}}");
            if let Ok(Body::Single(message)) = body(whole.as_bytes()) {
                let arguments = message.params.valid().unwrap().arguments;
                let theirs: &RawValue = serde_json::from_str(&text).unwrap();
                prop_assert_eq!(arguments, Some(theirs.get()).filter(|text| *text != "null"));
            }
        }
    }
}

//! Records inside of other JSON: as strings, or as objects that something has written anew.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use toolgate::json::{self, Checked};

use super::line::{Damage, Entry, Envelope, Form, Line, Reading, START_IN_BASE64, Site, in_string, span_of};

/// How deep records are looked for. Exporters of OpenTelemetry nest them 9 deep.
const MAX_DEPTH: usize = 32;

/// How deep a record nests at most. serde_json itself stops there.
const MAX_RECORD_DEPTH: usize = 128;

/// What stands for a request without a record.
const NO_RECORD: &str = r#""-""#;

/// The records in `line`, and what stands in their place; `None` if it is not JSON, or there is nothing of the kind in
/// it.
pub(super) fn find(line: &str) -> Option<Reading<'_>> {
    if !line.trim_start().starts_with(['{', '[', '"']) {
        return None;
    }
    let root: &RawValue = serde_json::from_str(line).ok()?;
    let mut found = Found { line, entries: Vec::new(), damaged: Vec::new(), holders: Vec::new(), without_record: 0 };
    found.walk(root, 0);
    let Found { line: _, entries, mut damaged, holders, without_record } = found;
    let (line, empty) = match damaged.pop_if(|_| entries.is_empty()) {
        _ if !entries.is_empty() => (Line::Records(entries), Vec::new()),
        Some(damage) => (Line::Damaged(damage), Vec::new()),
        None => (Line::Other, empty_members(root.get())),
    };
    let is_nothing = matches!(line, Line::Other) && without_record == 0 && empty.is_empty();
    (!is_nothing).then_some(Reading { line, beside: damaged, without_record, holders, empty })
}

/// The members of an object that hold nothing.
fn empty_members(text: &str) -> Vec<Cow<'_, str>> {
    let Ok(Members(members)) = serde_json::from_str(text) else { return Vec::new() };
    let empty = members.into_iter().filter(|(_, value)| matches!(value.get(), "null" | NO_RECORD));
    empty.map(|(name, _)| name).collect()
}

/// Whether that is the body of a log record of OpenTelemetry without a record.
fn is_empty_body(value: &RawValue) -> bool {
    let Ok(Members(members)) = serde_json::from_str(value.get()) else { return false };
    members.iter().any(|(name, value)| name == "stringValue" && value.get() == NO_RECORD)
}

struct Found<'a> {
    line: &'a str,
    entries: Vec<Entry<'a>>,
    damaged: Vec<Damage<'a>>,
    holders: Vec<Cow<'a, str>>,
    without_record: usize,
}

impl<'a> Found<'a> {
    fn walk(&mut self, value: &'a RawValue, depth: usize) {
        let text = value.get();
        let may_hold = ["mac", START_IN_BASE64, NO_RECORD].iter().any(|part| text.contains(part));
        if depth > MAX_DEPTH || !may_hold {
            return;
        }
        match text.as_bytes().first() {
            Some(b'{') => self.object(text, depth),
            Some(b'[') => {
                let elements: Vec<&RawValue> = serde_json::from_str(text).unwrap_or_default();
                elements.into_iter().for_each(|element| self.walk(element, depth.saturating_add(1)));
            }
            Some(b'"') => self.string(text),
            _ => {}
        }
    }

    fn object(&mut self, text: &'a str, depth: usize) {
        let Ok(Members(members)) = serde_json::from_str::<Members<'_>>(text) else { return };
        let member = |name| members.iter().find(|(member, _)| member == name).map(|(_, value)| *value);
        if let (Some(mac), Some(record)) = (member("mac"), member("record"))
            && mac.get().starts_with('"')
            && record.get().starts_with('{')
        {
            match rewritten(self.line, &members, mac, member("personal"), record) {
                Ok(entry) => self.entries.push(entry),
                Err(problem) => {
                    let text = text.into();
                    self.damaged.push(Damage { problem, form: Form::Rewritten, is_behind_text: false, text });
                }
            }
            return;
        }
        for (name, value) in members {
            if name == "body" && is_empty_body(value) {
                self.without_record = self.without_record.saturating_add(1);
            }
            let before = self.entries.len();
            self.walk(value, depth.saturating_add(1));
            if depth == 0 && self.entries.len() > before {
                self.holders.push(name);
            }
        }
    }

    fn string(&mut self, text: &'a str) {
        let Ok(value) = serde_json::from_str::<Text<'_>>(text) else { return };
        match in_string(span_of(text, self.line), value.0) {
            Some(Ok(entry)) => self.entries.push(entry),
            Some(Err(damage)) => self.damaged.push(damage),
            None => {}
        }
    }
}

/// The record in an object; otherwise what is wrong with it. Of members that are there twice, readers take different ones.
fn rewritten<'a>(
    line: &str,
    members: &[(Cow<'_, str>, &RawValue)],
    mac: &'a RawValue,
    personal: Option<&'a RawValue>,
    record: &'a RawValue,
) -> Result<Entry<'a>, String> {
    if let Some((other, _)) = members.iter().find(|(name, _)| !["mac", "personal", "record"].contains(&&**name)) {
        return Err(format!("the member `{other}` is none of a record's"));
    }
    if members.len() > 2_usize.saturating_add(usize::from(personal.is_some())) {
        return Err("duplicate member".to_owned());
    }
    let Text(mac) = serde_json::from_str(mac.get()).map_err(|error| error.to_string())?;
    let site = personal.map(|part| Site::Plain(span_of(part.get(), line)));
    let personal = personal.map(canonical).transpose().map_err(|error| error.to_string())?;
    let record = canonical(record).map_err(|error| error.to_string())?;
    let envelope = Envelope { mac, personal, record };
    Ok(Entry { form: Form::Rewritten, envelope, is_exact: true, is_behind_text: false, site })
}

fn canonical(value: &RawValue) -> Result<Cow<'static, str>, serde_json::Error> {
    json::parse(value.get().as_bytes(), Checked::to_depth(MAX_RECORD_DEPTH))?;
    let value: serde_json::Value = serde_json::from_str(value.get())?;
    serde_json_canonicalizer::to_string(&value).map(Cow::Owned)
}

/// A string that is borrowed if it has no escapes.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The members of an object, in order.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> de::Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor(PhantomData))
    }
}

struct MembersVisitor<'de>(PhantomData<&'de ()>);

impl<'de> Visitor<'de> for MembersVisitor<'de> {
    type Value = Members<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some((Text(name), value)) = map.next_entry()? {
            members.push((name, value));
        }
        Ok(Members(members))
    }
}

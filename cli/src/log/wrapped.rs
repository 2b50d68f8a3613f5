//! Records inside of other JSON: as strings, or as objects that something has written anew.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::line::{Damage, Entry, Envelope, Form, Line, START_IN_BASE64, Site, in_string, span_of};

/// How deep records are looked for. Exporters of OpenTelemetry nest them 9 deep.
const MAX_DEPTH: usize = 32;

/// The records in `line`; `None` if it is not JSON, or there is nothing in it that begins as a record does.
pub(super) fn find(line: &str) -> Option<Line<'_>> {
    if !line.trim_start().starts_with(['{', '[', '"']) {
        return None;
    }
    let root = serde_json::from_str(line).ok()?;
    let mut found = Found { line, entries: Vec::new(), damage: None };
    found.walk(root, 0);
    // A client can have something written that begins as a record does. Beside a record it is not one that was damaged.
    if found.entries.is_empty() { found.damage.map(Line::Damaged) } else { Some(Line::Records(found.entries)) }
}

struct Found<'a> {
    line: &'a str,
    entries: Vec<Entry<'a>>,
    damage: Option<Damage<'a>>,
}

impl<'a> Found<'a> {
    fn walk(&mut self, value: &'a RawValue, depth: usize) {
        let text = value.get();
        if depth > MAX_DEPTH || !(text.contains("mac") || text.contains(START_IN_BASE64)) {
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
            && let Some(entry) = rewritten(self.line, mac, member("personal"), record)
        {
            self.entries.push(entry);
            return;
        }
        members.into_iter().for_each(|(_, value)| self.walk(value, depth.saturating_add(1)));
    }

    fn string(&mut self, text: &'a str) {
        let Ok(value) = serde_json::from_str::<Text<'_>>(text) else { return };
        match in_string(span_of(text, self.line), value.0) {
            Some(Ok(entry)) => self.entries.push(entry),
            Some(Err(damage)) => self.damage = Some(damage),
            None => {}
        }
    }
}

/// `None` if these members are not those of a record.
fn rewritten<'a>(
    line: &str,
    mac: &'a RawValue,
    personal: Option<&'a RawValue>,
    record: &'a RawValue,
) -> Option<Entry<'a>> {
    let Text(mac) = serde_json::from_str(mac.get()).ok()?;
    let is_object = record.get().starts_with('{');
    let site = personal.map(|part| Site::Plain(span_of(part.get(), line)));
    let personal = personal.map(canonical).transpose().ok()?;
    let record = canonical(record).ok().filter(|_| is_object)?;
    Some(Entry { form: Form::Rewritten, envelope: Envelope { mac, personal, record }, is_exact: true, site })
}

fn canonical(value: &RawValue) -> Result<Cow<'static, str>, serde_json::Error> {
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

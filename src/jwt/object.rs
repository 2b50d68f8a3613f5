//! One strict JSON object whose members are read by name: a token's header, its claims, a key.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json::Defect;
use crate::limits;
use crate::mcp::walk::Walker;
use crate::mcp::{Unreadable, strict_members};

/// The members of an object that was checked for duplicates and depth.
#[derive(Debug)]
pub(super) struct StrictObject<'a> {
    /// In their order. There are a dozen or two, and each is looked for once or twice.
    members: Vec<(Cow<'a, str>, &'a str)>,
}

impl<'a> StrictObject<'a> {
    /// Reads an object from text of which nobody knows anything.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, InvalidObject> {
        Ok(Self { members: strict_members(bytes, limits::MAX_TOKEN_JSON_DEPTH)? })
    }

    /// Reads an object that is part of one which was parsed; nothing when the value is of another type.
    pub(super) fn within(Raw(text): Raw<'a>) -> Option<Self> {
        Self::parse(text.as_bytes()).ok()
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(super) fn get(&self, name: &str) -> Option<Raw<'a>> {
        self.members.iter().find(|(other, _)| other == name).map(|(_, text)| Raw(text))
    }
}

/// A value as it is written, in text that was checked as part of its object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Raw<'a>(&'a str);

impl<'a> From<&'a RawValue> for Raw<'a> {
    fn from(value: &'a RawValue) -> Self {
        Self(value.get())
    }
}

/// Reads a value as `T`; nothing when it is of another type.
pub(super) fn read<'a, T: Deserialize<'a>>(Raw(text): Raw<'a>) -> Option<T> {
    serde_json::from_str(text).ok()
}

/// A string, borrowed from the text unless it holds escapes.
pub(super) fn read_text(Raw(text): Raw<'_>) -> Option<Cow<'_, str>> {
    Walker::of(text).string_value().ok()?
}

/// An array of strings.
pub(super) fn read_texts(Raw(text): Raw<'_>) -> Option<Vec<Box<str>>> {
    let mut walker = Walker::of(text);
    if !walker.enter_array() {
        return None;
    }
    let mut texts = Vec::new();
    while walker.next_element().ok()? {
        texts.push(walker.string_value().ok()??.into());
    }
    Some(texts)
}

/// Why bytes are no object that can be trusted to mean one thing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum InvalidObject {
    /// A second member of the same name, at any level.
    DuplicateMember,
    /// Anything else.
    Malformed,
}

impl From<Unreadable> for InvalidObject {
    fn from(error: Unreadable) -> Self {
        match error {
            Unreadable::Defect(Defect::DuplicateMember) => Self::DuplicateMember,
            Unreadable::Defect(Defect::TooManyMembers | Defect::TooDeep | Defect::MisleadingMember)
            | Unreadable::NotJson
            | Unreadable::Malformed => Self::Malformed,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::json::texts::{json, texts};
    use crate::json::{self, Checked};

    /// The same by serde: strict first, and then what the members are.
    fn by_serde(bytes: &[u8]) -> Result<BTreeMap<String, &RawValue>, InvalidObject> {
        let is_duplicate = |error| Defect::of(&error) == Some(Defect::DuplicateMember);
        let refused =
            |error| if is_duplicate(error) { InvalidObject::DuplicateMember } else { InvalidObject::Malformed };
        json::parse(bytes, Checked::to_depth(limits::MAX_TOKEN_JSON_DEPTH)).map_err(refused)?;
        serde_json::from_slice(bytes).map_err(refused)
    }

    fn check(bytes: &[u8]) {
        let object = StrictObject::parse(bytes);
        let expected = by_serde(bytes);
        assert_eq!(object.as_ref().err(), expected.as_ref().err());
        let (Ok(object), Ok(expected)) = (object, expected) else { return };
        assert_eq!(object.members.len(), expected.len());
        for (name, value) in expected {
            let Raw(text) = object.get(&name).unwrap();
            assert_eq!(text, value.get());
            check_value(Raw(text));
        }
    }

    fn check_value(value: Raw<'_>) {
        assert_eq!(read_text(value).map(Cow::into_owned), read::<String>(value));
        assert_eq!(read_texts(value), read::<Vec<Box<str>>>(value));
        let members = StrictObject::within(value).map(|object| object.members.len());
        assert_eq!(members, read::<BTreeMap<String, &RawValue>>(value).map(|object| object.len()));
    }

    #[test]
    fn objects_are_bounded_in_depth_and_width() {
        for levels in [limits::MAX_TOKEN_JSON_DEPTH - 1, limits::MAX_TOKEN_JSON_DEPTH, 1000] {
            check(format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels)).as_bytes());
        }
        for count in [15, 16, 17, 18, 40, limits::MAX_JSON_MEMBERS, limits::MAX_JSON_MEMBERS + 1] {
            let members: Vec<String> = (0..count).map(|number| format!("\"{number}\":0")).collect();
            check(format!("{{{}}}", members.join(",")).as_bytes());
            check(format!("{{{},\"{}\":0}}", members.join(","), count / 2).as_bytes());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn it_is_as_strict_as_the_reader_by_serde(bytes in texts()) {
            for bytes in [bytes.clone(), [b"{\"x\":", &*bytes, b",\"y\":[\"z\"]}"].concat()] {
                match std::str::from_utf8(&bytes) {
                    Ok(_) => check(&bytes),
                    Err(_) => prop_assert!(StrictObject::parse(&bytes).is_err()),
                }
            }
        }

        #[test]
        fn lists_of_strings_are_told_from_other_lists(values in prop::collection::vec(json(), 0..4)) {
            let text = format!("[{}]", values.join(","));
            if json::parse(text.as_bytes(), Checked::to_depth(limits::MAX_TOKEN_JSON_DEPTH)).is_ok() {
                check_value(Raw(&text));
            }
        }
    }
}

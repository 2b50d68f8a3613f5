//! One strict JSON object whose members are read by name: a token's header, its claims, a key.

use std::borrow::Cow;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::json::{self, Checked, Defect, Key};
use crate::limits;

/// The members of an object that was checked for duplicates and depth.
#[derive(Debug)]
pub(super) struct StrictObject<'a> {
    /// In their order. There are a dozen or two, and each is looked for once or twice.
    members: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> StrictObject<'a> {
    /// Reads an object from text of which nobody knows anything.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, InvalidObject> {
        json::parse(bytes, Checked::to_depth(limits::MAX_TOKEN_JSON_DEPTH))?;
        Ok(serde_json::from_slice(bytes)?)
    }

    /// Reads an object that is part of one which was parsed; nothing when the value is of another type.
    pub(super) fn within(value: &'a RawValue) -> Option<Self> {
        read(value)
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.members.iter().find(|(other, _)| other == name).map(|(_, value)| *value)
    }
}

impl<'de> Deserialize<'de> for StrictObject<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = StrictObject<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
                let mut object = StrictObject { members: Vec::with_capacity(16) };
                while let Some((Key(name), value)) = members.next_entry()? {
                    object.members.push((name, value));
                }
                Ok(object)
            }
        }

        deserializer.deserialize_map(Members)
    }
}

/// Reads a value as `T`; nothing when it is of another type. For text that was checked as part of its object.
pub(super) fn read<'a, T: Deserialize<'a>>(value: &'a RawValue) -> Option<T> {
    serde_json::from_str(value.get()).ok()
}

/// A string, borrowed from the text unless it holds escapes.
pub(super) fn read_text(value: &RawValue) -> Option<Cow<'_, str>> {
    read::<Key<'_>>(value).map(|Key(text)| text)
}

/// Why bytes are no object that can be trusted to mean one thing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum InvalidObject {
    /// A second member of the same name, at any level.
    DuplicateMember,
    /// Anything else.
    Malformed,
}

impl From<serde_json::Error> for InvalidObject {
    fn from(error: serde_json::Error) -> Self {
        match Defect::of(&error) {
            Some(Defect::DuplicateMember) => Self::DuplicateMember,
            Some(Defect::TooManyMembers | Defect::TooDeep | Defect::MisleadingMember) | None => Self::Malformed,
        }
    }
}

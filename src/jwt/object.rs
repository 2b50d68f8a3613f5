//! One strict JSON object whose members are read by name: a token's header, its claims, a key.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json::{self, Checked, Defect, Key};
use crate::limits;

/// The members of an object that was checked for duplicates and depth.
#[derive(Debug)]
pub(super) struct StrictObject<'a> {
    members: BTreeMap<Cow<'a, str>, &'a RawValue>,
}

impl<'a> StrictObject<'a> {
    /// Reads an object from text of which nobody knows anything.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, InvalidObject> {
        json::parse(bytes, Checked::to_depth(limits::MAX_TOKEN_JSON_DEPTH))?;
        Ok(Self::of(serde_json::from_slice(bytes)?))
    }

    /// Reads an object that is part of one which was parsed; nothing when the value is of another type.
    pub(super) fn within(value: &'a RawValue) -> Option<Self> {
        read(value).map(Self::of)
    }

    fn of(members: BTreeMap<Key<'a>, &'a RawValue>) -> Self {
        Self { members: members.into_iter().map(|(Key(name), value)| (name, value)).collect() }
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.members.get(name).copied()
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

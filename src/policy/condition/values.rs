//! Inputs as values of the evaluator: strict, exact, bounded, and no more of them than a condition names.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt;

use cel::common::types::{CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelUInt};
use cel::common::value::Val;
use serde::Deserializer;
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};

use super::error::ConditionError;
use super::inputs::{Inputs, Known, Variable};
use crate::json::{self, Checked, Key, Members};
use crate::limits;
use crate::units::UnixSeconds;

/// A value that borrows from the inputs.
pub(super) type Boxed<'a> = Box<dyn Val + 'a>;

#[expect(clippy::disallowed_types, reason = "what the crate's maps are made of; nothing here iterates over it")]
type Entries<'a> = std::collections::HashMap<CelMapKey<'a>, Boxed<'a>>;

/// Which members of a map a condition names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Wanted {
    /// These, each by its name.
    Members(BTreeSet<String>),
    /// The map as such.
    All,
}

impl Wanted {
    fn includes(&self, name: &str) -> bool {
        match self {
            Self::Members(names) => names.contains(name),
            Self::All => true,
        }
    }
}

/// The value of one variable; `None` when it is unknown.
pub(super) fn value<'a>(
    variable: Variable,
    wanted: &Wanted,
    names: &BTreeSet<String>,
    inputs: &Inputs<'a>,
) -> Result<Option<Boxed<'a>>, ConditionError> {
    let texts = |texts: &'a [Box<str>]| {
        if texts.len() > limits::MAX_CONDITION_VALUES {
            return Err(ConditionError::InputTooLarge(variable.name()));
        }
        Ok(boxed(CelList::from(texts.iter().map(|each| text(each)).collect::<Vec<_>>())))
    };
    Ok(Some(match variable {
        Variable::Arguments => match inputs.arguments {
            Known::Yes(text) => object(variable.name(), text.unwrap_or("{}"), wanted, names)?,
            Known::No => return Ok(None),
        },
        // The issuer wrote these, and nobody reads them but the gateway.
        Variable::Claims => object(variable.name(), inputs.claims, wanted, &BTreeSet::new())?,
        Variable::Client => map([("id", optional(inputs.client)), ("agent", optional(inputs.agent))]),
        Variable::Subject => text(inputs.subject),
        Variable::Issuer => text(inputs.issuer),
        Variable::Tenant => optional(inputs.tenant),
        Variable::Roles => texts(inputs.roles)?,
        Variable::Groups => texts(inputs.groups)?,
        Variable::Target => map([("kind", text(inputs.target_kind)), ("name", text(inputs.target_name))]),
        Variable::Time => map(clock(inputs.now).map(|(name, number)| (name, boxed(CelInt::from(number))))),
    }))
}

/// UTC without a calendar: days are 86,400 s (Unix time has no leap seconds), and day 0 was a Thursday.
fn clock(now: UnixSeconds) -> [(&'static str, i64); 4] {
    let unix = i64::try_from(now.get()).unwrap_or(i64::MAX);
    let weekday = (unix / 86_400 % 7).saturating_add(4) % 7;
    [("unix", unix), ("hour", unix / 3600 % 24), ("minute", unix / 60 % 60), ("weekday", weekday)]
}

fn boxed<'a>(value: impl Val + 'a) -> Boxed<'a> {
    Box::new(value)
}

fn text(text: &str) -> Boxed<'_> {
    boxed(CelString::from(text))
}

fn optional(value: Option<&str>) -> Boxed<'_> {
    value.map_or_else(|| boxed(CelNull), text)
}

fn map<'a, const N: usize>(members: [(&'a str, Boxed<'a>); N]) -> Boxed<'a> {
    let entries: Entries<'a> =
        members.into_iter().map(|(name, value)| (CelMapKey::String(CelString::from(name)), value)).collect();
    boxed(CelMap::from(entries))
}

fn object<'a>(
    name: &'static str,
    text: &'a str,
    wanted: &Wanted,
    names: &BTreeSet<String>,
) -> Result<Boxed<'a>, ConditionError> {
    if text.len() > limits::MAX_CONDITION_INPUT_BYTES {
        return Err(ConditionError::InputTooLarge(name));
    }
    let values_left = Cell::new(limits::MAX_CONDITION_VALUES);
    let seed = Object { wanted, inner: Json { depth_left: limits::MAX_JSON_DEPTH, values_left: &values_left, names } };
    json::parse(text.as_bytes(), seed).map(|entries| boxed(CelMap::from(entries))).map_err(|_| {
        // serde carries the reason as text only; the count says the same.
        if values_left.get() == 0 { ConditionError::InputTooLarge(name) } else { ConditionError::InputUnreadable(name) }
    })
}

/// An object of which only some members become values.
struct Object<'w> {
    wanted: &'w Wanted,
    inner: Json<'w>,
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = Entries<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = Entries<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let inner = self.inner.deeper()?;
        let (mut entries, mut seen) = (Entries::default(), Members::default());
        while let Some(Key(name)) = members.next_key()? {
            if inner.names.iter().any(|known| json::is_misspelling_of(&name, known)) {
                return Err(de::Error::custom("misleading member"));
            }
            seen.insert(name.clone())?;
            if self.wanted.includes(&name) {
                let value = members.next_value_seed(inner)?;
                entries.insert(CelMapKey::String(CelString::from(name)), value);
            } else {
                members.next_value_seed(Checked::to_depth(inner.depth_left))?;
            }
        }
        Ok(entries)
    }
}

/// Any value, within what is left of the bounds.
#[derive(Clone, Copy)]
struct Json<'n> {
    depth_left: usize,
    values_left: &'n Cell<usize>,
    /// Names of which no misspelling may occur: careless readers would take one for the other.
    names: &'n BTreeSet<String>,
}

impl Json<'_> {
    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        match self.depth_left.checked_sub(1) {
            Some(depth_left) => Ok(Self { depth_left, ..self }),
            None => Err(E::custom("nested too deeply")),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Json<'_> {
    type Value = Boxed<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        match self.values_left.get().checked_sub(1) {
            Some(0) | None => {
                self.values_left.set(0);
                Err(de::Error::custom("too many values"))
            }
            Some(left) => {
                self.values_left.set(left);
                deserializer.deserialize_any(self)
            }
        }
    }
}

impl<'de> Visitor<'de> for Json<'_> {
    type Value = Boxed<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(boxed(CelNull))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok(boxed(CelBool::from(value)))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
        Ok(boxed(CelInt::from(value)))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
        Ok(i64::try_from(value).map_or_else(|_| boxed(CelUInt::from(value)), |value| boxed(CelInt::from(value))))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Self::Value, E> {
        /// 2^63. The parser rounds whole numbers beyond 64 bits to doubles, and says nothing.
        const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;
        if value.abs() < TWO_TO_63 { Ok(boxed(CelDouble::from(value))) } else { Err(E::custom("number out of range")) }
    }

    fn visit_borrowed_str<E: de::Error>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(text(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Self::Value, E> {
        Ok(boxed(CelString::from(Cow::Owned(value.to_owned()))))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let inner = self.deeper()?;
        let mut list = Vec::new();
        while let Some(element) = elements.next_element_seed(inner)? {
            list.push(element);
        }
        Ok(boxed(CelList::from(list)))
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Self::Value, A::Error> {
        Object { wanted: &Wanted::All, inner: self }.visit_map(members).map(|entries| boxed(CelMap::from(entries)))
    }
}

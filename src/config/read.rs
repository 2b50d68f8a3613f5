//! Reads a document into its types, and says where in it a defect is.
//!
//! Each type of the policy is compiled once more for each kind of source that it may be read from. So this one is as
//! small as can be: the path of a defect is put together on the way back from it, and what no policy is made of is not
//! there. An object is read from an object only; other sources take an array too, with the members in their order.
#![expect(clippy::wildcard_enum_match_arm, reason = "each method is for one kind of value, and refuses all others")]

use std::fmt;
use std::vec;

use serde::de::value::{StrDeserializer, StringDeserializer};
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Expected, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor,
};
use serde::{Deserializer, forward_to_deserialize_any};
use serde_json::{Map, Value, map};

/// Reads a `T`.
///
/// # Errors
/// The first defect, with its place.
pub(super) fn read<T: DeserializeOwned>(value: Value) -> Result<T, Defect> {
    T::deserialize(Node(value))
}

/// What is wrong with a document, and where.
#[derive(Debug)]
pub(super) struct Defect(Box<Located>);

#[derive(Debug)]
struct Located {
    /// From the inside out.
    path: Vec<Step>,
    error: serde_json::Error,
}

#[derive(Debug)]
enum Step {
    Member(String),
    Element(usize),
}

impl Defect {
    /// The place, such as `rules[2].tools`; a dot for the whole document.
    pub(super) fn path(&self) -> String {
        let mut path = String::new();
        for step in self.0.path.iter().rev() {
            match step {
                Step::Member(name) if path.is_empty() => path.push_str(name),
                Step::Member(name) => path.extend([".", name]),
                Step::Element(index) => path.push_str(&format!("[{index}]")),
            }
        }
        if path.is_empty() { ".".to_owned() } else { path }
    }

    #[cold]
    fn unlike(value: &Value, expected: &dyn Expected) -> Self {
        de::Error::invalid_type(unexpected(value), expected)
    }

    #[cold]
    fn within(mut self, step: Step) -> Self {
        self.0.path.push(step);
        self
    }
}

impl From<serde_json::Error> for Defect {
    fn from(error: serde_json::Error) -> Self {
        Self(Box::new(Located { path: Vec::new(), error }))
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.error.fmt(formatter)
    }
}

impl std::error::Error for Defect {}

/// In the words of serde_json, which knows that there is `null` in JSON, and no unit.
impl de::Error for Defect {
    #[cold]
    fn custom<T: fmt::Display>(message: T) -> Self {
        serde_json::Error::custom(message.to_string()).into()
    }

    #[cold]
    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        serde_json::Error::invalid_type(unexpected, expected).into()
    }

    #[cold]
    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        serde_json::Error::invalid_value(unexpected, expected).into()
    }
}

fn unexpected(value: &Value) -> Unexpected<'_> {
    match value {
        Value::Null => Unexpected::Unit,
        Value::Bool(value) => Unexpected::Bool(*value),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => Unexpected::Unsigned(number),
            (None, Some(number)) => Unexpected::Signed(number),
            (None, None) => Unexpected::Float(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => Unexpected::Str(text),
        Value::Array(_) => Unexpected::Seq,
        Value::Object(_) => Unexpected::Map,
    }
}

struct Node(Value);

impl Node {
    fn members<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Defect> {
        match self.0 {
            Value::Object(members) => visitor.visit_map(Members::of(members)),
            other => Err(Defect::unlike(&other, &visitor)),
        }
    }

    fn number<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Defect> {
        match self.0 {
            Value::Number(number) => Ok(number.deserialize_any(visitor)?),
            other => Err(Defect::unlike(&other, &visitor)),
        }
    }

    fn text<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Defect> {
        match self.0 {
            Value::String(text) => visitor.visit_string(text),
            other => Err(Defect::unlike(&other, &visitor)),
        }
    }
}

/// Methods of serde that do the same here.
macro_rules! same {
    ($does:ident: $($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Defect> {
            self.$does(visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for Node {
    type Error = Defect;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Defect> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::Number(_) => self.number(visitor),
            Value::String(text) => visitor.visit_string(text),
            Value::Array(_) => self.deserialize_seq(visitor),
            Value::Object(members) => visitor.visit_map(Members::of(members)),
        }
    }

    same!(number: deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8 deserialize_u16
        deserialize_u32 deserialize_u64 deserialize_f32 deserialize_f64);
    same!(text: deserialize_str deserialize_string deserialize_identifier);
    same!(members: deserialize_map);

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Defect> {
        self.members(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Defect> {
        match self.0 {
            Value::Array(elements) => visitor.visit_seq(Elements { left: elements.into_iter().enumerate() }),
            other => Err(Defect::unlike(&other, &visitor)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Defect> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    /// A policy's enumerations are of names.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Defect> {
        match self.0 {
            Value::String(name) => visitor.visit_enum(StringDeserializer::new(name)),
            other => Err(Defect::unlike(&other, &"a string")),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Defect> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct ignored_any
    }
}

struct Members {
    left: map::IntoIter,
    current: Option<(String, Value)>,
}

impl Members {
    fn of(members: Map<String, Value>) -> Self {
        Self { left: members.into_iter(), current: None }
    }
}

impl<'de> MapAccess<'de> for Members {
    type Error = Defect;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Defect> {
        self.current = self.left.next();
        let Some((name, _)) = &self.current else { return Ok(None) };
        let key: StrDeserializer<'_, Defect> = name.as_str().into_deserializer();
        seed.deserialize(key).map(Some).map_err(|defect| defect.within(Step::Member(name.clone())))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Defect> {
        let (name, value) = self.current.take().unwrap_or_default();
        seed.deserialize(Node(value)).map_err(|defect| defect.within(Step::Member(name)))
    }
}

struct Elements {
    left: std::iter::Enumerate<vec::IntoIter<Value>>,
}

impl<'de> SeqAccess<'de> for Elements {
    type Error = Defect;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Defect> {
        let Some((index, value)) = self.left.next() else { return Ok(None) };
        seed.deserialize(Node(value)).map(Some).map_err(|defect| defect.within(Step::Element(index)))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left.len())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read")]
    struct Outer {
        name: String,
        count: Option<u32>,
        kind: Kind,
        #[serde(default)]
        inner: Vec<BTreeMap<String, Inner>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        One,
        Two,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        flag: bool,
    }

    fn defect(value: Value) -> (String, String) {
        let defect = read::<Outer>(value).unwrap_err();
        (defect.path(), defect.to_string())
    }

    #[test]
    fn what_fits_is_read() {
        let read: Outer =
            read(json!({"name": "n", "count": null, "kind": "two", "inner": [{"a": {"flag": true}}]})).unwrap();
        assert!(matches!(read.kind, Kind::Two) && read.inner[0]["a"].flag);
    }

    #[test]
    fn a_defect_is_named_with_its_place() {
        for (value, path, text) in [
            (json!([]), ".", "invalid type: sequence, expected struct Outer"),
            (json!({"name": "n"}), ".", "missing field `kind`"),
            (json!({"name": null}), "name", "invalid type: null, expected a string"),
            (json!({"count": "1"}), "count", "invalid type: string \"1\", expected u32"),
            (json!({"count": -1}), "count", "invalid value: integer `-1`, expected u32"),
            (json!({"count": 1.5}), "count", "invalid type: floating point `1.5`, expected u32"),
            (json!({"kind": "three"}), "kind", "unknown variant `three`, expected `one` or `two`"),
            (json!({"kind": {"one": null}}), "kind", "invalid type: map, expected a string"),
            (json!({"more": 1}), "more", "unknown field `more`, expected one of `name`, `count`, `kind`, `inner`"),
            (json!({"inner": {}}), "inner", "invalid type: map, expected a sequence"),
            (json!({"inner": [{}, {"a": [true]}]}), "inner[1].a", "invalid type: sequence, expected struct Inner"),
            (
                json!({"inner": [{"a": {"flag": 0}}]}),
                "inner[0].a.flag",
                "invalid type: integer `0`, expected a boolean",
            ),
        ] {
            assert_eq!(defect(value), (path.to_owned(), text.to_owned()));
        }
    }
}

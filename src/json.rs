//! Strict JSON: what two parsers could read differently is refused.
//!
//! Requests, tokens and key sets are judged here and read again by somebody else. Wherever a lenient parser has a
//! choice (which of two members of one name counts, what a lone surrogate becomes), an attacker chooses. So: UTF-8
//! without byte order mark, no duplicate members at any level, bounded depth and width, nothing after the value.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserializer;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};

use crate::limits;

pub(crate) mod lexis;
#[cfg(test)]
pub(crate) mod texts;

/// Reads one value with `seed` and refuses anything after it.
///
/// # Errors
/// The parser's own error, which names line and column, when `bytes` are not exactly one value that `seed` accepts.
pub fn parse<'de, S: DeserializeSeed<'de>>(bytes: &'de [u8], seed: S) -> serde_json::Result<S::Value> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = seed.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// A member name, borrowed from the text unless it holds escapes.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Key<'de>(pub Cow<'de, str>);

impl<'de> de::Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Text.deserialize(deserializer).map(Key)
    }
}

/// Reads a string, borrowed where possible.
#[derive(Clone, Copy, Debug)]
pub struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Cow<'de, str>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

/// Refuses a member name that serde_json itself uses.
///
/// With its feature `raw_value`, `serde_json::Value` takes an object of one such member for the JSON text in its string:
/// a text that nobody has checked, and that no other reader sees.
pub(crate) fn check_name(name: &str) -> Result<(), Defect> {
    if name.starts_with("$serde_json::private::") { Err(Defect::MisleadingMember) } else { Ok(()) }
}

/// The member names of one object so far: refuses a second one, and too many.
#[derive(Debug, Default)]
pub struct Members<'de> {
    few: [Cow<'de, str>; FEW],
    count: usize,
    many: BTreeSet<Cow<'de, str>>,
}

/// Up to this many members a linear search beats a tree, and nothing is allocated for them.
const FEW: usize = 16;

impl<'de> Members<'de> {
    /// Takes note of `name`.
    ///
    /// # Errors
    /// When the object has that member already, or more than [`limits::MAX_JSON_MEMBERS`].
    pub fn insert<E: de::Error>(&mut self, name: Cow<'de, str>) -> Result<(), E> {
        self.note(name).map_err(E::custom)
    }

    /// The same, for those who read without serde.
    pub(crate) fn note(&mut self, name: Cow<'de, str>) -> Result<(), Defect> {
        check_name(&name)?;
        if self.count.saturating_add(self.many.len()) >= limits::MAX_JSON_MEMBERS {
            return Err(Defect::TooManyMembers);
        }
        if self.few.get(..self.count).is_some_and(|few| few.contains(&name)) {
            return Err(Defect::DuplicateMember);
        }
        match self.few.get_mut(self.count) {
            Some(free) => {
                *free = name;
                self.count = self.count.saturating_add(1);
                Ok(())
            }
            None if self.many.insert(name) => Ok(()),
            None => Err(Defect::DuplicateMember),
        }
    }
}

/// What strictness adds to the grammar. The text is part of the answer to the client, so it quotes nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Defect {
    /// Two members of one object have the same name once escapes are resolved.
    #[error("duplicate member")]
    DuplicateMember,
    /// More members than [`limits::MAX_JSON_MEMBERS`].
    #[error("too many members")]
    TooManyMembers,
    /// Deeper than the caller allows.
    #[error("nested too deeply")]
    TooDeep,
    /// A member that differs from a protocol member only in case or by padding.
    #[error("member name in a misleading spelling")]
    MisleadingMember,
}

impl Defect {
    /// The defect that made a parse fail, when it was one of these rather than a breach of the grammar.
    pub fn of(error: &serde_json::Error) -> Option<Self> {
        // serde carries custom errors as text only.
        let text = error.to_string();
        [Self::DuplicateMember, Self::TooManyMembers, Self::TooDeep, Self::MisleadingMember]
            .into_iter()
            .find(|defect| text.starts_with(&defect.to_string()))
    }
}

/// Visits any value, keeps nothing of it, and refuses what is not strict.
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    depth_left: usize,
}

impl Checked {
    /// A value that may nest `depth` levels of objects and arrays.
    pub const fn to_depth(depth: usize) -> Self {
        Self { depth_left: depth }
    }

    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        match self.depth_left.checked_sub(1) {
            Some(depth_left) => Ok(Self { depth_left }),
            None => Err(E::custom(Defect::TooDeep)),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Checked {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Checked {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        while elements.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        let mut seen = Members::default();
        while let Some(Key(name)) = members.next_key()? {
            seen.insert(name)?;
            members.next_value_seed(inner)?;
        }
        Ok(())
    }
}

/// A value that must be written as an object. The reader that serde derives for a struct takes an array too, with the
/// members in their order.
#[derive(Clone, Copy, Debug)]
pub struct Object<T>(pub T);

impl<'de, T: de::Deserialize<'de>> de::Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectOnly(PhantomData)).map(Self)
    }
}

struct ObjectOnly<T>(PhantomData<T>);

impl<'de, T: de::Deserialize<'de>> Visitor<'de> for ObjectOnly<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(members))
    }
}

/// The member name that a part of a JSON Pointer stands for; `None` when it is not well-formed.
///
/// RFC 6901 section 4: `~1` is `/`, `~0` is `~`, no other escape exists.
pub fn pointer_token(token: &str) -> Option<String> {
    let mut pieces = token.split('~');
    let mut text = pieces.next()?.to_owned();
    for piece in pieces {
        text.push(match piece.as_bytes().first()? {
            b'0' => '~',
            b'1' => '/',
            _ => return None,
        });
        text.push_str(piece.get(1..)?);
    }
    Some(text)
}

/// Whether `name` reads like `known` to a careless parser without being it: other case, or padded with blanks or control
/// characters, as Java's `trim` has it.
///
/// Go's `encoding/json` matched names case-insensitively (CVE-2026-27896), which also folds U+017F and U+212A. Java folds
/// U+0130 and U+0131.
#[inline]
pub fn is_misspelling_of(name: &str, known: &str) -> bool {
    match (name.as_bytes().first(), known.as_bytes().first()) {
        // The first letter tells most names from a known one.
        (Some(one @ b'!'..=0x7f), Some(other @ b'!'..=0x7f)) if !one.eq_ignore_ascii_case(other) => false,
        _ => is_same_to_the_careless(name, known),
    }
}

/// The same for names of which the first letter says nothing.
fn is_same_to_the_careless(name: &str, known: &str) -> bool {
    let is_padded = |byte: Option<&u8>| byte.is_none_or(|byte| *byte <= b' ');
    if name.is_ascii() && known.is_ascii() && !is_padded(name.as_bytes().first()) && !is_padded(name.as_bytes().last())
    {
        return name != known && name.eq_ignore_ascii_case(known);
    }
    let trimmed = name.trim_matches(|c: char| c <= ' ' || c.is_whitespace());
    name != known && folded(trimmed).eq(folded(known))
}

fn folded(text: &str) -> impl Iterator<Item = char> {
    // Of U+0130, the one letter with more than one, the lower case is an `i` and a combining dot.
    text.chars().flat_map(char::to_uppercase).filter_map(|c| c.to_lowercase().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<(), Option<Defect>> {
        parse(text.as_bytes(), Checked::to_depth(3)).map_err(|error| Defect::of(&error))
    }

    #[test]
    fn plain_values_pass() {
        for text in
            ["{}", "[]", "null", " {\"a\":[1,-2,3.5e2,true,\"x\\u00e9\"],\"b\":{\"a\":null}} ", "18446744073709551616"]
        {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn duplicates_are_found_at_every_level_and_through_escapes() {
        for text in [r#"{"a":1,"a":2}"#, r#"{"a":1,"\u0061":2}"#, r#"[{"b":{"c":1,"c":1}}]"#] {
            assert_eq!(check(text), Err(Some(Defect::DuplicateMember)), "{text}");
        }
        let wide: Vec<String> = (0..100).map(|i| format!("\"k{i}\":{i}")).collect();
        assert_eq!(check(&format!("{{{}}}", wide.join(","))), Ok(()));
        assert_eq!(check(&format!("{{{},\"k7\":0}}", wide.join(","))), Err(Some(Defect::DuplicateMember)));
        assert_eq!(check(&format!("{{{},\"k99\":0}}", wide.join(","))), Err(Some(Defect::DuplicateMember)));
    }

    #[test]
    fn a_name_that_serde_json_reads_as_its_own_is_refused() {
        for name in ["$serde_json::private::RawValue", r"\u0024serde_json::private::RawValue"] {
            let text = format!(r#"{{"a":{{"{name}":"{{\"b\":1,\"b\":2}}"}}}}"#);
            assert_eq!(check(&text), Err(Some(Defect::MisleadingMember)), "{text}");
        }
        assert_eq!(check(r#"{"a":{"x$serde_json::private::RawValue":"1"}}"#), Ok(()));
    }

    #[test]
    fn nesting_is_bounded() {
        assert_eq!(check("[[[1]]]"), Ok(()));
        assert_eq!(check("[[[[1]]]]"), Err(Some(Defect::TooDeep)));
        let bomb = "[".repeat(100_000);
        assert!(check(&bomb).is_err());
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in
            ["", "{", "{}{}", "\u{feff}{}", "{\"a\":1,}", "'a'", "NaN", "01", "\"\\ud800\"", "\"\u{1}\"", "1e999"]
        {
            assert_eq!(check(text), Err(None), "{text}");
        }
        assert!(parse(b"\"\xff\"", Checked::to_depth(3)).is_err());
        assert!(parse(b"{\"\xc3\x28\":1}", Checked::to_depth(3)).is_err());
    }

    #[test]
    fn misspellings_are_told_from_other_names() {
        for name in ["Method", "METHOD", "method\0", " method", "\u{0}method", "method\u{1}", "\u{1c}method\u{1f}"] {
            assert!(is_misspelling_of(name, "method"), "{name:?}");
        }
        for (name, known) in
            [("param\u{17f}", "params"), ("ur\u{130}", "uri"), ("\u{131}d", "id"), ("tas\u{212a}", "task")]
        {
            assert!(is_misspelling_of(name, known), "{name:?}");
        }
        assert!(!is_misspelling_of("method", "method"));
        assert!(!is_misspelling_of("methods", "method"));
    }

    #[test]
    fn the_first_letter_tells_only_names_that_are_no_misspellings() {
        let firsts = (0..0x250).filter_map(char::from_u32).chain(['\u{1e9e}', '\u{2028}', '\u{212a}', '\u{ff4b}']);
        for first in firsts {
            for known in ["method", "sampling", "kind", "_meta", "$schema", "0", "\u{e9}t\u{e9}", ""] {
                for rest in ["", "0", "ethod", "ampling", "ind", "method", "kind", "META", "_meta", "\u{c9}t\u{c9}"] {
                    let name = format!("{first}{rest}");
                    assert_eq!(is_misspelling_of(&name, known), is_same_to_the_careless(&name, known), "{name:?}");
                }
            }
        }
    }
}

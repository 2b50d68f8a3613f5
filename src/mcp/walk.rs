//! Positions in JSON text, and edits at them that leave every other byte as it was.

use std::borrow::Cow;
use std::ops::Range;

use serde_json::value::RawValue;

use super::outbound::Unreadable;
use crate::json::{self, Defect, Members, Text};
use crate::limits;

/// A position in JSON text of which serde_json has checked the grammar.
///
/// So all that is left is to find the ends of values. Where the text is not as it must be then, the walk fails.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walker<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Walker<'a> {
    /// At the start of `bytes`.
    ///
    /// # Errors
    /// When they are not one JSON value in UTF-8.
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self, Unreadable> {
        let text = std::str::from_utf8(bytes).map_err(|_| Unreadable::NotJson)?;
        // Reads the whole text without recursion.
        serde_json::from_str::<&RawValue>(text).map_err(|_| Unreadable::NotJson)?;
        Ok(Self { text, at: 0 })
    }

    /// The first byte of the next value, or the mark before it; afterwards the position is right there.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        let rest = self.text.as_bytes().get(self.at..)?;
        let blanks = rest.iter().position(|byte| !byte.is_ascii_whitespace())?;
        self.at = self.at.saturating_add(blanks);
        rest.get(blanks).copied()
    }

    /// Where the next value or mark begins.
    pub(crate) fn position(&mut self) -> usize {
        self.peek();
        self.at
    }

    /// The text between two positions.
    pub(crate) fn slice(&self, span: Range<usize>) -> &'a str {
        self.text.get(span).unwrap_or_default()
    }

    /// Goes into an array; each element is announced by [`Self::next_element`].
    pub(crate) fn enter_array(&mut self) -> bool {
        self.accept(b'[')
    }

    /// Whether there is another element, which is then next. If not, the array is left.
    pub(crate) fn next_element(&mut self) -> bool {
        if self.accept(b']') {
            return false;
        }
        self.accept(b',');
        true
    }

    /// Reads an object: `read` gets the name of each member and where it begins, and reads or skips its value.
    ///
    /// Returns where the object is.
    ///
    /// # Errors
    /// When the next value is not an object, has a member twice, or has one that could be mistaken for one of `known`;
    /// and what `read` returns.
    pub(crate) fn members(
        &mut self,
        known: &[&str],
        mut read: impl FnMut(&mut Self, &str, usize) -> Result<(), Unreadable>,
    ) -> Result<Range<usize>, Unreadable> {
        let object = self.position();
        if !self.accept(b'{') {
            return Err(Unreadable::Malformed);
        }
        let mut seen = Members::default();
        loop {
            if self.accept(b'}') {
                return Ok(object..self.at);
            }
            self.accept(b',');
            let start = self.position();
            let name = self.string()?;
            if !known.contains(&&*name) && known.iter().any(|known| json::is_misspelling_of(&name, known)) {
                return Err(Unreadable::Defect(Defect::MisleadingMember));
            }
            if !self.accept(b':') {
                return Err(Unreadable::NotJson);
            }
            read(self, &name, start)?;
            seen.insert::<serde_json::Error>(name).map_err(|error| match Defect::of(&error) {
                Some(defect) => Unreadable::Defect(defect),
                None => Unreadable::NotJson,
            })?;
        }
    }

    /// The next value if it is a string that means the same to everybody; it is skipped in any case.
    pub(crate) fn string_value(&mut self) -> Result<Option<Cow<'a, str>>, Unreadable> {
        if self.peek() == Some(b'"') {
            let span = self.skip()?;
            return Ok(json::parse(self.slice(span).as_bytes(), Text).ok());
        }
        self.skip().map(|_| None)
    }

    fn string(&mut self) -> Result<Cow<'a, str>, Unreadable> {
        self.string_value()?.ok_or(Unreadable::NotJson)
    }

    /// Goes past the next value and returns where it is.
    ///
    /// # Errors
    /// When it nests deeper than [`limits::MAX_ANSWER_JSON_DEPTH`].
    pub(crate) fn skip(&mut self) -> Result<Range<usize>, Unreadable> {
        let start = self.position();
        let mut depth = 0_usize;
        loop {
            match self.peek().ok_or(Unreadable::NotJson)? {
                b'"' => self.skip_string()?,
                b'{' | b'[' => {
                    depth = depth.saturating_add(1);
                    if depth > limits::MAX_ANSWER_JSON_DEPTH {
                        return Err(Unreadable::Defect(Defect::TooDeep));
                    }
                    self.step();
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1).ok_or(Unreadable::NotJson)?;
                    self.step();
                }
                b',' | b':' if depth > 0 => self.step(),
                b',' | b':' => return Err(Unreadable::NotJson),
                _ => self.skip_scalar(),
            }
            if depth == 0 {
                return Ok(start..self.at);
            }
        }
    }

    fn step(&mut self) {
        self.at = self.at.saturating_add(1);
    }

    fn skip_string(&mut self) -> Result<(), Unreadable> {
        self.step();
        loop {
            let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
            let next = rest.iter().position(|byte| matches!(byte, b'"' | b'\\')).ok_or(Unreadable::NotJson)?;
            let is_escape = rest.get(next) == Some(&b'\\');
            self.at = self.at.saturating_add(next).saturating_add(if is_escape { 2 } else { 1 });
            if !is_escape {
                return Ok(());
            }
        }
    }

    /// A number, `true`, `false` or `null`.
    fn skip_scalar(&mut self) {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        let is_end = |byte: &u8| matches!(byte, b',' | b'}' | b']') || byte.is_ascii_whitespace();
        self.at = self.at.saturating_add(rest.iter().position(is_end).unwrap_or(rest.len()));
    }

    fn accept(&mut self, mark: u8) -> bool {
        let is_there = self.peek() == Some(mark);
        if is_there {
            self.step();
        }
        is_there
    }
}

/// Changes of a text, each at its place.
#[derive(Debug, Default)]
pub(crate) struct Edits(Vec<(Range<usize>, String)>);

impl Edits {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are, for [`Self::undo_to`].
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Forgets those that came after the first `count`.
    pub(crate) fn undo_to(&mut self, count: usize) {
        self.0.truncate(count);
    }

    pub(crate) fn replace(&mut self, span: Range<usize>, text: String) {
        self.0.push((span, text));
    }

    pub(crate) fn insert(&mut self, at: usize, text: String) {
        self.replace(at..at, text);
    }

    pub(crate) fn cut(&mut self, span: Range<usize>) {
        match self.0.last_mut() {
            _ if span.is_empty() => {}
            Some((last, text)) if last.end == span.start && last.start < last.end && text.is_empty() => {
                last.end = span.end
            }
            _ => self.replace(span, String::new()),
        }
    }

    /// `bytes` with all of the changes.
    ///
    /// # Errors
    /// When two of them concern the same bytes.
    pub(crate) fn apply(mut self, bytes: &[u8]) -> Result<Vec<u8>, Unreadable> {
        self.0.sort_by_key(|(span, _)| span.start);
        let added: usize = self.0.iter().map(|(_, text)| text.len()).sum();
        let mut out = Vec::with_capacity(bytes.len().saturating_add(added));
        let mut copied = 0;
        for (span, text) in self.0 {
            out.extend_from_slice(bytes.get(copied..span.start).ok_or(Unreadable::NotJson)?);
            out.extend_from_slice(text.as_bytes());
            copied = span.end;
        }
        out.extend_from_slice(bytes.get(copied..).ok_or(Unreadable::NotJson)?);
        Ok(out)
    }
}

/// Goes through the elements of one array, or the members of one object, and cuts some out with their commas.
#[derive(Debug, Default)]
pub(crate) struct Sieve {
    any_kept: bool,
    last_end: Option<usize>,
}

impl Sieve {
    /// The next one is at `span`.
    pub(crate) fn take(&mut self, span: Range<usize>, is_kept: bool, edits: &mut Edits) {
        let last_end = self.last_end.replace(span.end).unwrap_or(span.start);
        if !is_kept {
            edits.cut(last_end..span.end);
        } else if !std::mem::replace(&mut self.any_kept, true) {
            edits.cut(last_end..span.start);
        }
    }

    pub(crate) const fn any_kept(&self) -> bool {
        self.any_kept
    }
}

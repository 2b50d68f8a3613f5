//! Positions in JSON text, and edits at them that leave every other byte as it was.

use std::borrow::Cow;
use std::ops::Range;

use super::outbound::Unreadable;
use super::value::{self, Demands, Grammar};
use crate::json::{self, Defect, Members, lexis};
use crate::limits;

/// A position in JSON text.
///
/// The grammar is checked as far as the walk goes; [`Self::finish`] says whether it went over all of the text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walker<'a> {
    text: &'a str,
    at: usize,
    /// Whether an array was entered, and no element announced yet.
    is_first: bool,
}

impl<'a> Walker<'a> {
    /// At the start of `bytes`.
    ///
    /// # Errors
    /// When they are not UTF-8.
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self, Unreadable> {
        std::str::from_utf8(bytes).map(Self::of).map_err(|_| Unreadable::NotJson)
    }

    /// At the start of `text`.
    pub(crate) const fn of(text: &'a str) -> Self {
        Self { text, at: 0, is_first: false }
    }

    #[inline]
    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    /// Goes on by so many bytes of the text.
    #[inline]
    const fn advance(&mut self, bytes: usize) {
        self.at = self.at.wrapping_add(bytes);
    }

    /// The first byte of the next value, or the mark before it; afterwards the position is right there.
    #[inline]
    pub(crate) fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        match bytes.get(self.at) {
            // Nearly always: one comparison instead of four.
            Some(byte) if *byte > b' ' => Some(*byte),
            _ => {
                self.at = lexis::after_blanks(bytes, self.at);
                bytes.get(self.at).copied()
            }
        }
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

    /// Makes sure that nothing follows.
    ///
    /// # Errors
    /// When something does.
    pub(crate) fn finish(mut self) -> Result<(), Unreadable> {
        if self.peek().is_none() { Ok(()) } else { Err(Unreadable::NotJson) }
    }

    /// Goes into an array; each element is announced by [`Self::next_element`].
    pub(crate) fn enter_array(&mut self) -> bool {
        self.is_first = self.accept(b'[');
        self.is_first
    }

    /// Whether there is another element, which is then next. If not, the array is left.
    ///
    /// # Errors
    /// When neither a comma nor the end of the array is next.
    pub(crate) fn next_element(&mut self) -> Result<bool, Unreadable> {
        let is_first = std::mem::take(&mut self.is_first);
        if self.accept(b']') {
            Ok(false)
        } else if is_first || self.accept(b',') {
            Ok(true)
        } else {
            Err(Unreadable::NotJson)
        }
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
        if self.peek() != Some(b'{') {
            self.skip()?;
            return Err(Unreadable::Malformed);
        }
        let mut seen = Members::default();
        let mut goes_on = self.enter_object()?;
        while goes_on {
            let start = self.position();
            let name = self.name()?;
            if !known.contains(&&*name) && known.iter().any(|known| json::is_misspelling_of(&name, known)) {
                return Err(Unreadable::Defect(Defect::MisleadingMember));
            }
            self.colon()?;
            read(self, &name, start)?;
            seen.note(name).map_err(Unreadable::Defect)?;
            goes_on = self.next_member()?;
        }
        Ok(object..self.at)
    }

    /// Goes into an object; says whether it has a member, which is next then. If not, the object is left.
    ///
    /// # Errors
    /// When the next value is no object.
    pub(super) fn enter_object(&mut self) -> Result<bool, Unreadable> {
        if self.accept(b'{') { Ok(!self.accept(b'}')) } else { Err(Unreadable::NotJson) }
    }

    /// After a member: whether there is another one, which is next then. If not, the object is left.
    ///
    /// # Errors
    /// When neither a comma nor the end of the object is next.
    pub(super) fn next_member(&mut self) -> Result<bool, Unreadable> {
        self.goes_on(b'}')
    }

    /// The name of the next member. Its colon is next.
    ///
    /// # Errors
    /// When there is none, or one that is no text.
    pub(super) fn name(&mut self) -> Result<Cow<'a, str>, Unreadable> {
        self.peek();
        self.quoted()?.ok_or(Unreadable::NotJson)
    }

    /// Goes past the colon after a name.
    ///
    /// # Errors
    /// When there is none.
    #[inline]
    pub(super) fn colon(&mut self) -> Result<(), Unreadable> {
        if self.accept(b':') { Ok(()) } else { Err(Unreadable::NotJson) }
    }

    /// After a member or an element: whether another one comes. If not, its object or array, which ends with `end`, is
    /// left.
    #[inline]
    fn goes_on(&mut self, end: u8) -> Result<bool, Unreadable> {
        match self.peek() {
            Some(b',') => {
                self.advance(1);
                Ok(true)
            }
            Some(mark) if mark == end => {
                self.advance(1);
                Ok(false)
            }
            Some(_) | None => Err(Unreadable::NotJson),
        }
    }

    /// The next value if it is a string that means the same to everybody; it is skipped in any case.
    pub(crate) fn string_value(&mut self) -> Result<Option<Cow<'a, str>>, Unreadable> {
        if self.peek() != Some(b'"') {
            return self.skip().map(|_| None);
        }
        self.quoted()
    }

    /// What the string that begins right here says, if it is text; it is skipped in any case.
    #[inline]
    fn quoted(&mut self) -> Result<Option<Cow<'a, str>>, Unreadable> {
        let start = self.at;
        let quoted = lexis::quoted(self.rest()).ok_or(Unreadable::NotJson)?;
        self.advance(quoted.length);
        Ok(quoted.text(self.text, start))
    }

    /// Goes past the next value and returns where it is.
    ///
    /// # Errors
    /// When it is not JSON, or nests deeper than [`limits::MAX_ANSWER_JSON_DEPTH`].
    pub(crate) fn skip(&mut self) -> Result<Range<usize>, Unreadable> {
        let start = self.position();
        self.pass(limits::MAX_ANSWER_JSON_DEPTH, &mut Grammar)?;
        Ok(start..self.at)
    }

    /// Goes past the next value, which may nest `depth` levels.
    ///
    /// # Errors
    /// When it is not JSON, nests deeper, or is not as `demands` says.
    pub(super) fn pass<D: Demands<'a>>(&mut self, depth: usize, demands: &mut D) -> Result<(), Unreadable> {
        self.at = value::end(self.text, self.at, depth, demands)?;
        Ok(())
    }

    #[inline]
    fn accept(&mut self, mark: u8) -> bool {
        let is_there = self.peek() == Some(mark);
        if is_there {
            self.advance(1);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;
    use crate::json::texts::{json, texts};

    fn skipped(bytes: &[u8]) -> Result<&str, Unreadable> {
        let mut walker = Walker::new(bytes)?;
        let span = walker.skip()?;
        walker.finish()?;
        Ok(walker.slice(span))
    }

    /// Where each value is, read step by step instead of skipped.
    fn visit(walker: &mut Walker<'_>, spans: &mut Vec<Range<usize>>) -> Result<(), Unreadable> {
        let start = walker.position();
        match walker.peek() {
            Some(b'{') => walker.members(&[], |walker, _, _| visit(walker, spans)).map(|_| ())?,
            Some(b'[') => {
                assert!(walker.enter_array());
                while walker.next_element()? {
                    visit(walker, spans)?;
                }
            }
            _ => walker.skip().map(|_| ())?,
        }
        spans.push(start..walker.at);
        Ok(())
    }

    #[test]
    fn a_walk_ends_where_the_grammar_is_broken() {
        for text in [
            "",
            " ",
            "]",
            "}",
            ",",
            ":",
            "[",
            "{",
            "[,1]",
            "[1,]",
            "[1 2]",
            "[1,,2]",
            "[}",
            "{]",
            "{,}",
            "{1:2}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{\"a\":1 \"b\":2}",
            "{\"a\" 1}",
            "01",
            "nul",
            "truefalse",
            "1 2",
            "\"a",
            "[1}",
            "{\"a\":1]",
            "\u{feff}{}",
            "\u{c}1",
            "1\u{b}",
            "\u{a0}1",
            "{}{}",
            "[1]]",
            "'a'",
            "/**/1",
        ] {
            assert_eq!(skipped(text.as_bytes()), Err(Unreadable::NotJson), "{text:?}");
            let mut walker = Walker::of(text);
            assert!(visit(&mut walker, &mut Vec::new()).and_then(|()| walker.finish()).is_err(), "{text:?}");
        }
        assert_eq!(skipped(b"\"\xff\""), Err(Unreadable::NotJson));
        let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(skipped(deep(limits::MAX_ANSWER_JSON_DEPTH).as_bytes()).is_ok());
        for levels in [limits::MAX_ANSWER_JSON_DEPTH + 1, 1_000_000] {
            assert_eq!(skipped(deep(levels).as_bytes()), Err(Unreadable::Defect(Defect::TooDeep)));
        }
    }

    #[test]
    fn what_is_open_is_remembered_at_every_level() {
        // Objects and arrays in turns, and in one pattern that is not the same from any level on.
        for is_array in [|level: usize| level % 2 == 1, |level: usize| level.pow(2) % 7 < 3] {
            let levels = 0..limits::MAX_ANSWER_JSON_DEPTH;
            let open: String =
                levels.clone().map(|level| if is_array(level) { "[0," } else { "{\"a\":0,\"b\":" }).collect();
            let close: Vec<&str> = levels.clone().rev().map(|level| if is_array(level) { "]" } else { "}" }).collect();
            let whole = format!("{open}1{}", close.concat());
            assert_eq!(skipped(whole.as_bytes()), Ok(&*whole));
            for level in levels {
                let mut wrong = close.clone();
                wrong[level] = if wrong[level] == "]" { "}" } else { "]" };
                assert_eq!(skipped(format!("{open}1{}", wrong.concat()).as_bytes()), Err(Unreadable::NotJson));
                let (before, after) = close.split_at(level);
                // Only an array takes one more value without a name.
                let more = format!("{open}1{},2{}", before.concat(), after.concat());
                assert_eq!(skipped(more.as_bytes()).is_ok(), close[level] == "]", "{level}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn skipping_accepts_what_serde_json_accepts(bytes in texts()) {
            let theirs = serde_json::from_slice::<&RawValue>(&bytes).ok();
            // Without the text, a byte that is not UTF-8 may be part of no string.
            let theirs = theirs.filter(|_| std::str::from_utf8(&bytes).is_ok());
            prop_assert_eq!(skipped(&bytes).ok(), theirs.map(RawValue::get));
        }

        #[test]
        fn steps_lead_where_skipping_leads(bytes in texts()) {
            let Ok(mut walker) = Walker::new(&bytes) else { return Ok(()) };
            let mut spans = Vec::new();
            if visit(&mut walker, &mut spans).is_ok() {
                prop_assert_eq!(walker.finish().is_ok(), skipped(&bytes).is_ok());
                for span in spans {
                    let text = walker.slice(span);
                    prop_assert_eq!(serde_json::from_str::<&RawValue>(text).map(RawValue::get).ok(), Some(text));
                }
            }
        }

        #[test]
        fn strings_say_what_serde_json_reads(text in json()) {
            if let Ok(text) = skipped(text.as_bytes()) {
                let read = Walker::of(text).string_value().unwrap();
                prop_assert_eq!(read.map(Cow::into_owned), serde_json::from_str::<String>(text).ok());
            }
        }
    }
}

//! Text that somebody else chose, made safe to write into a log.
//!
//! A log is read in terminals, editors and browsers, and by language models. So nothing in it may move the cursor,
//! change the direction of writing or hide itself, and no text may take all of the room.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::limits;

/// The text with U+FFFD in place of every character that is not safe to show, in at most `most_bytes` bytes.
///
/// A text that is cut ends with `…[+N]`, which comes on top: N bytes of it are left out.
pub fn clean(text: &str, most_bytes: usize) -> Cow<'_, str> {
    let is_plain = || text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if text.len() <= most_bytes && (is_plain() || text.chars().all(is_safe)) {
        return Cow::Borrowed(text);
    }
    let mut cleaned = Cleaned::new(most_bytes);
    cleaned.push(text);
    Cow::Owned(cleaned.finish())
}

/// The same for bytes: what is not UTF-8 becomes U+FFFD too, each maximal part of a character at once.
pub fn clean_bytes(bytes: &[u8], most_bytes: usize) -> Cow<'_, str> {
    if bytes.len() <= most_bytes
        && let Ok(text) = std::str::from_utf8(bytes)
    {
        return clean(text, most_bytes);
    }
    let mut cleaned = Cleaned::new(most_bytes);
    for chunk in bytes.utf8_chunks() {
        cleaned.push(chunk.valid());
        if !chunk.invalid().is_empty() {
            cleaned.push_whole("\u{fffd}", chunk.invalid().len());
        }
    }
    Cow::Owned(cleaned.finish())
}

/// A name or a word of somebody, cut off visibly.
pub(crate) fn text(text: &str) -> Cow<'_, str> {
    clean(text, limits::MAX_RECORDED_TEXT_BYTES)
}

/// Who somebody is, whole: half a name could be another one's.
pub(crate) fn identity(text: &str) -> Cow<'_, str> {
    clean(text, limits::MAX_IDENTITY_BYTES)
}

/// As many of these clean texts as there is room for, and how many more there are.
pub(crate) fn shortened<'a>(texts: impl Iterator<Item = Cow<'a, str>>, most: usize) -> Vec<Cow<'a, str>> {
    let (mut first, mut room, mut left_out) = (Vec::new(), most.saturating_mul(limits::MEAN_RECORDED_BYTES), 0_usize);
    for text in texts {
        match room.checked_sub(written_bytes(&text)) {
            Some(rest) if left_out == 0 && first.len() < most => {
                room = rest;
                first.push(text);
            }
            _ => left_out = left_out.saturating_add(1),
        }
    }
    if left_out > 0 {
        first.push(format!("…[+{left_out}]").into());
    }
    first
}

/// Bytes of a clean text as JSON, in a list.
fn written_bytes(text: &str) -> usize {
    let escaped = text.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count();
    text.len().saturating_add(escaped).saturating_add(",\"\"".len())
}

/// Whether a character shows itself and nothing else.
const fn is_safe(character: char) -> bool {
    !matches!(character,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' // C0, DEL and C1: escape sequences of terminals, ends of lines
        | '\u{2028}' | '\u{2029}' // ends of lines for JavaScript
        | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' // direction of writing
        | '\u{feff}' // byte order mark
        | '\u{fdd0}'..='\u{fdef}' // noncharacters
        | '\u{e0000}'..='\u{e007f}' // tags: ASCII that people do not see and language models read
    ) && !matches!(character as u32 & 0xffff, 0xfffe | 0xffff) // the other noncharacters
}

/// A clean text in the making, within its bound.
#[derive(Debug)]
pub(super) struct Cleaned {
    text: String,
    room: usize,
    left_out: usize,
}

impl Cleaned {
    /// An empty text that may get `most_bytes` bytes.
    pub(super) const fn new(most_bytes: usize) -> Self {
        Self { text: String::new(), room: most_bytes, left_out: 0 }
    }

    /// Whether something did not fit, so that nothing more is taken.
    pub(super) const fn is_full(&self) -> bool {
        self.left_out > 0
    }

    /// Adds as much of `text` as fits.
    pub(super) fn push(&mut self, text: &str) {
        for (at, character) in text.char_indices() {
            let mut utf8 = [0; 4];
            let shown = if is_safe(character) { character } else { char::REPLACEMENT_CHARACTER };
            self.push_whole(shown.encode_utf8(&mut utf8), character.len_utf8());
            if self.is_full() {
                let rest = text.len().saturating_sub(at).saturating_sub(character.len_utf8());
                self.left_out = self.left_out.saturating_add(rest);
                return;
            }
        }
    }

    /// Adds all of `text`, which is safe and stands for `bytes` bytes, or nothing.
    pub(super) fn push_whole(&mut self, text: &str, bytes: usize) {
        match self.room.checked_sub(text.len()) {
            Some(room) if !self.is_full() => {
                self.room = room;
                self.text.push_str(text);
            }
            _ => self.left_out = self.left_out.saturating_add(bytes),
        }
    }

    /// The text; if it was cut, it says so.
    pub(super) fn finish(mut self) -> String {
        if self.is_full() {
            // Writing to a string does not fail.
            let _ = write!(self.text, "…[+{}]", self.left_out);
        }
        self.text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ordinary_text_is_borrowed() {
        for text in ["", "Zoë's café, Straße 7", "日本語 \u{200d}👩‍👩‍👧", "a\u{a0}b", "tab is not, blank is", "\u{fffd}"]
        {
            assert!(matches!(clean(text, 64), Cow::Borrowed(same) if same == text), "{text}");
            assert!(matches!(clean_bytes(text.as_bytes(), 64), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    #[test]
    fn what_is_not_safe_is_replaced() {
        for unsafe_one in [
            '\0',
            '\t',
            '\n',
            '\r',
            '\u{1b}',
            '\u{1f}',
            '\u{7f}',
            '\u{80}',
            '\u{85}',
            '\u{9f}',
            '\u{61c}',
            '\u{200e}',
            '\u{200f}',
            '\u{2028}',
            '\u{2029}',
            '\u{202a}',
            '\u{202e}',
            '\u{2066}',
            '\u{2069}',
            '\u{feff}',
            '\u{fdd0}',
            '\u{fdef}',
            '\u{fffe}',
            '\u{ffff}',
            '\u{1fffe}',
            '\u{10ffff}',
            '\u{e0001}',
            '\u{e0041}',
            '\u{e007f}',
        ] {
            assert_eq!(clean(&format!("a{unsafe_one}b"), 64), "a\u{fffd}b", "{unsafe_one:?}");
        }
        for safe in [' ', '~', '\u{a0}', '\u{61b}', '\u{200d}', '\u{2027}', '\u{202f}', '\u{fdcf}', '\u{fffd}'] {
            assert_eq!(clean(&safe.to_string(), 64), safe.to_string(), "{safe:?}");
        }
    }

    #[test]
    fn long_text_is_cut_between_characters_and_says_so() {
        for (text, most, expected) in [
            ("abcdef", 6, "abcdef"),
            ("abcdef", 5, "abcde…[+1]"),
            ("abc", 0, "…[+3]"),
            ("aéb", 2, "a…[+3]"),
            ("aéb", 3, "aé…[+1]"),
            // A replacement takes more room than what it stands for, which is what is counted.
            ("a\nb\nc", 5, "a\u{fffd}b…[+2]"),
            ("\n\n\n", 5, "\u{fffd}…[+2]"),
            // What follows a character that did not fit is left out, even if it would fit.
            ("aaé.", 3, "aa…[+3]"),
        ] {
            assert_eq!(clean(text, most), expected, "{text:?} {most}");
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_are_replaced() {
        for (bytes, most, expected) in [
            (&b"a\xffb"[..], 64, "a\u{fffd}b"),
            (b"\xe2\x82", 64, "\u{fffd}"),
            (b"\xed\xa0\x80", 64, "\u{fffd}\u{fffd}\u{fffd}"),
            (b"a\xff\xffb\n", 6, "a\u{fffd}…[+3]"),
        ] {
            assert_eq!(clean_bytes(bytes, most), expected, "{bytes:?} {most}");
        }
    }

    proptest! {
        #[test]
        fn the_bound_holds_and_nothing_unsafe_is_left(text in any::<String>(), most in 0_usize..64) {
            let cleaned = clean(&text, most);
            prop_assert!(cleaned.chars().all(is_safe));
            let kept = cleaned.rsplit_once("…[+").map_or(&*cleaned, |(kept, _)| kept);
            prop_assert!(kept.len() <= most);
            prop_assert_eq!(clean_bytes(text.as_bytes(), most), clean(&text, most));
            if text.len() <= most && text.chars().all(is_safe) {
                prop_assert_eq!(&*cleaned, &*text);
            }
        }

        #[test]
        fn bytes_read_like_a_lossy_string(bytes in prop::collection::vec(any::<u8>(), 0..32)) {
            let lossy = String::from_utf8_lossy(&bytes);
            prop_assert_eq!(clean_bytes(&bytes, 1000), clean(&lossy, 1000));
        }
    }
}

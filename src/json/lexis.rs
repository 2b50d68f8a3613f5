//! The words of JSON (RFC 8259): strings, numbers and literals, found without being copied.
//!
//! The grammar is that of serde_json, which tests hold this against.

use std::borrow::Cow;

/// A string as it is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Quoted {
    /// Bytes of it, with both quotes.
    pub(crate) length: usize,
    /// Whether it has to be read to know what it says.
    pub(crate) has_escapes: bool,
    /// Whether an escape stands for one half of a surrogate pair without the other: then it is no text.
    pub(crate) has_lone_surrogate: bool,
}

impl Quoted {
    /// What the string says, which is in `text` at `at`, if it is text.
    #[inline]
    pub(crate) fn text(self, text: &str, at: usize) -> Option<Cow<'_, str>> {
        let end = at.wrapping_add(self.length);
        match self.has_escapes {
            false => text.get(at.wrapping_add(1)..end.wrapping_sub(1)).map(Cow::Borrowed),
            true => super::parse(text.as_bytes().get(at..end)?, super::Text).ok(),
        }
    }
}

/// The string that `bytes` begin with. They are part of a text in UTF-8.
#[inline]
pub(crate) fn quoted(bytes: &[u8]) -> Option<Quoted> {
    let rest = bytes.strip_prefix(b"\"")?;
    let length = plain(rest);
    match rest.get(length) {
        // With both quotes. No slice is longer than half of what there are numbers for.
        Some(b'"') => Some(Quoted { length: length.wrapping_add(2), has_escapes: false, has_lone_surrogate: false }),
        _ => escaped(bytes, rest.get(length..)?),
    }
}

/// The same for a string with escapes, of which `rest` is not read yet.
#[inline(never)]
fn escaped(bytes: &[u8], mut rest: &[u8]) -> Option<Quoted> {
    let mut has_lone_surrogate = false;
    loop {
        match rest {
            [b'"', after @ ..] => {
                let length = bytes.len().saturating_sub(after.len());
                return Some(Quoted { length, has_escapes: true, has_lone_surrogate });
            }
            [b'\\', b'u', after @ ..] => {
                let (is_lone, after) = unit(after)?;
                has_lone_surrogate |= is_lone;
                rest = after;
            }
            [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', after @ ..] => rest = after,
            _ => return None,
        }
        rest = rest.get(plain(rest)..)?;
    }
}

/// How many bytes come before a quote, a backslash or a control character.
#[inline]
pub(crate) fn plain(bytes: &[u8]) -> usize {
    // Most strings are short.
    bytes.first_chunk().and_then(plain_in).unwrap_or_else(|| long_plain(bytes))
}

#[inline(never)]
fn long_plain(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let Some((_, after)) = rest.split_first_chunk().filter(|(block, _)| !has_mark(block)) {
        rest = after;
    }
    let length = rest.first_chunk().and_then(plain_in);
    let length = length.or_else(|| rest.iter().position(|byte| is_mark(*byte))).unwrap_or(rest.len());
    bytes.len().wrapping_sub(rest.len()).wrapping_add(length)
}

/// The same for the first of the bytes, if such a byte is among them.
#[inline]
fn plain_in(block: &[u8; BLOCK]) -> Option<usize> {
    let (words, _) = block.as_chunks();
    words.iter().zip([0, 8]).find_map(|(word, before)| Some(plain_in_word(*word)?.wrapping_add(before)))
}

/// Whether a byte ends a run of plain ones.
const fn is_mark(byte: u8) -> bool {
    // A quote takes the place of the blank, next to the control characters.
    byte ^ 2 <= b' ' || byte == b'\\'
}

/// As many bytes as are compared at once.
const BLOCK: usize = 16;

/// Whether one of them does. The compiler makes a comparison of all at once of it.
#[inline]
fn has_mark(block: &[u8; BLOCK]) -> bool {
    block.iter().fold(false, |any, byte| any | is_mark(*byte))
}

/// How many of eight bytes come before the first that ends a run of plain ones, if one does.
///
/// Subtracting borrows from the next byte only where a byte is smaller than what is subtracted, and that is a mark: what
/// is found after the first one says nothing.
#[inline]
const fn plain_in_word(word: [u8; 8]) -> Option<usize> {
    let word = u64::from_le_bytes(word);
    let below = (word ^ each(2)).wrapping_sub(each(b' ' + 1)) | (word ^ each(b'\\')).wrapping_sub(each(1));
    match below & !word & each(0x80) {
        0 => None,
        marks => Some((marks.trailing_zeros() / 8) as usize),
    }
}

const fn each(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// What follows on `\u`: whether it is one half of a pair without the other, and the bytes after it.
fn unit(bytes: &[u8]) -> Option<(bool, &[u8])> {
    let (first, after) = hex(bytes)?;
    match first {
        0xd800..0xdc00 => match after.strip_prefix(b"\\u").and_then(hex) {
            Some((0xdc00..0xe000, after)) => Some((false, after)),
            Some(_) | None => Some((true, after)),
        },
        _ => Some(((0xdc00..0xe000).contains(&first), after)),
    }
}

fn hex(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, after) = bytes.split_first_chunk::<4>()?;
    let add = |value: u32, digit: &u8| Some(value << 4 | char::from(*digit).to_digit(16)?);
    Some((digits.iter().try_fold(0, add)?, after))
}

/// Where the first byte from `at` on is that is no blank.
#[cold]
#[inline(never)]
pub(crate) fn after_blanks(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\n' | b'\t' | b'\r')) {
        at = at.wrapping_add(1);
    }
    at
}

/// A number as it is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Numeral {
    /// Bytes of it.
    pub(crate) length: usize,
    /// Whether it has an exponent.
    pub(crate) has_exponent: bool,
}

impl Numeral {
    /// Whether a double can stand for it, roughly at least. `bytes` begin with it.
    pub(crate) fn is_finite(self, bytes: &[u8]) -> bool {
        /// Shorter than any number that is too large without an exponent: there are doubles of 309 digits.
        const SAFE: usize = 300;
        let is_safe = !self.has_exponent && self.length < SAFE;
        is_safe || bytes.get(..self.length).is_some_and(|text| serde_json::from_slice::<f64>(text).is_ok())
    }
}

/// The number that `bytes` begin with.
#[inline]
pub(crate) fn numeral(bytes: &[u8]) -> Option<Numeral> {
    let whole = usize::from(bytes.first() == Some(&b'-'));
    let end = digits(bytes, whole)?;
    if bytes.get(whole) == Some(&b'0') && end > whole.wrapping_add(1) {
        return None;
    }
    match bytes.get(end) {
        Some(b'.' | b'e' | b'E') => with_fraction(bytes, end),
        _ => Some(Numeral { length: end, has_exponent: false }),
    }
}

/// The same for one with a fraction or an exponent, of which the integer ends at `end`.
#[inline(never)]
fn with_fraction(bytes: &[u8], mut end: usize) -> Option<Numeral> {
    if bytes.get(end) == Some(&b'.') {
        end = digits(bytes, end.wrapping_add(1))?;
    }
    let has_exponent = matches!(bytes.get(end), Some(b'e' | b'E'));
    if has_exponent {
        let power = end.wrapping_add(1);
        let is_signed = matches!(bytes.get(power), Some(b'+' | b'-'));
        end = digits(bytes, power.wrapping_add(usize::from(is_signed)))?;
    }
    Some(Numeral { length: end, has_exponent })
}

/// Where one or more digits end, which begin at `start`.
#[inline]
fn digits(bytes: &[u8], start: usize) -> Option<usize> {
    let mut end = start;
    while bytes.get(end).is_some_and(u8::is_ascii_digit) {
        end = end.wrapping_add(1);
    }
    (end > start).then_some(end)
}

/// The length of `true`, `false` or `null`, with which `bytes` begin.
#[inline]
pub(crate) fn literal(bytes: &[u8]) -> Option<usize> {
    let (word, after) = bytes.split_first_chunk()?;
    // As one comparison each.
    let is = |text: &[u8; 4]| u32::from_le_bytes(*word) == u32::from_le_bytes(*text);
    if is(b"true") || is(b"null") { Some(4) } else { (is(b"fals") && after.first() == Some(&b'e')).then_some(5) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_end_at_their_quote() {
        let read = |text: &str| quoted(text.as_bytes()).map(|it| (it.length, it.has_escapes, it.has_lone_surrogate));
        for length in 0..40 {
            let plain = "é".repeat(length / 2) + &"x".repeat(length % 2);
            assert_eq!(read(&format!("\"{plain}\",\"")), Some((length + 2, false, false)));
            assert_eq!(read(&format!("\"{plain}\\n{plain}\"")), Some((2 * length + 4, true, false)));
            for wrong in
                ["", "\n\"", "\u{0}\"", "\u{1f}\"", "\\\"", "\\x\"", "\\u123\"", "\\u+123\"", "\\u12g4\"", "\\"]
            {
                assert_eq!(read(&format!("\"{plain}{wrong}")), None, "{wrong}");
            }
        }
        assert_eq!(read("\"\u{7f}\u{80}\u{10ffff}\" "), Some((9, false, false)));
        for (escapes, is_lone) in [
            (r"\ud7ff\uE000", false),
            (r"\uD83d\uDe00", false),
            (r"\ud83d", true),
            (r"\ude00", true),
            (r"\ud83dx", true),
            (r"\ud83d\n", true),
            (r"\ud83d\ud83d\ude00", true),
            (r"\ud83d\ude00\ude00", true),
        ] {
            let text = format!("\"{escapes}\"");
            assert_eq!(read(&text), Some((text.len(), true, is_lone)), "{escapes}");
            assert_eq!(serde_json::from_str::<String>(&text).is_err(), is_lone, "{escapes}");
        }
        assert_eq!(read(r#""\ud83d\u00""#), None);
        assert_eq!(read("x"), None);
    }

    #[test]
    fn plain_bytes_end_where_they_end_at_every_alignment() {
        for length in 0..70 {
            for special in [b'"', b'\\', 0, 2, 0x1e, 0x1f] {
                for other in [b' ', b'!', b'#', b'^', b'[', b']', 0x7f, 0x80, 0xa0, 0xa2, 0xdc, 0xff] {
                    let mut bytes = vec![other; length];
                    bytes.push(special);
                    bytes.extend([other; 40]);
                    assert_eq!(plain(&bytes), length, "{other} {special}");
                    bytes.truncate(length);
                    assert_eq!(plain(&bytes), length, "{other}");
                }
            }
        }
    }

    #[test]
    fn numbers_are_those_of_the_grammar() {
        let read = |text: &str| numeral(text.as_bytes()).map(|it| (it.length, it.has_exponent));
        for text in ["0", "-0", "7", "-120", "0.5", "10.250", "123456789012345678901234567890"] {
            assert_eq!(read(text), Some((text.len(), false)), "{text}");
            assert_eq!(read(&format!("{text},1")), Some((text.len(), false)), "{text}");
        }
        for text in ["0e0", "1E5", "-1.5e+20", "2e-7", "1e999"] {
            assert_eq!(read(text), Some((text.len(), true)), "{text}");
        }
        for text in ["", "-", "-a", "+1", ".5", "1.", "1.e5", "1e", "1e+", "1E-x", "-.1", "x", "01", "-00"] {
            assert_eq!(read(text), None, "{text}");
        }
        // What follows is for the caller to refuse.
        assert_eq!(read("1.5.5"), Some((3, false)));
    }

    #[test]
    fn literals_are_three() {
        for (text, length) in [("true", 4), ("false,", 5), ("null}", 4), ("nullx", 4)] {
            assert_eq!(literal(text.as_bytes()), Some(length));
        }
        for text in ["", "nul", "fals", "falsy", "True", "NaN", "undefined"] {
            assert_eq!(literal(text.as_bytes()), None);
        }
    }
}

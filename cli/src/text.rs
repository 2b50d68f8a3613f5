//! Text for people: what others have chosen, made fit for a terminal, and times.

use std::borrow::Cow;
use std::fmt::Write as _;

use time::OffsetDateTime;

/// The text with everything escaped that a terminal would obey, or that would show it in another order or not at all.
pub fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, |escaped, character| {
        let _ = write!(escaped, "\\u{{{:x}}}", u32::from(character));
    })
}

/// The same for JSON, which stays the same JSON.
pub fn printable_json(json: &str) -> Cow<'_, str> {
    escaped(json, |escaped, character| {
        for unit in character.encode_utf16(&mut [0; 2]) {
            let _ = write!(escaped, "\\u{unit:04x}");
        }
    })
}

/// Writing to a string cannot fail.
fn escaped(text: &str, escape: impl Fn(&mut String, char)) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len().saturating_mul(2));
    for character in text.chars() {
        if is_unsafe(character) {
            escape(&mut escaped, character);
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

/// Control characters, line separators, and what has no shape of its own: directions, joiners, tags, selectors.
const fn is_unsafe(character: char) -> bool {
    matches!(
        character,
        '\0'..='\x1f'
            | '\x7f'..='\u{9f}'
            | '\u{ad}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// A time in the form that records have: UTC, RFC 3339, with milliseconds.
pub fn timestamp(time: OffsetDateTime) -> String {
    let (date, hour, minute, second) = (time.date(), time.hour(), time.minute(), time.second());
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", time.millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_stays_as_it_is() {
        for text in ["", "anna", "Zoë \"quoted\" \\ 日本", "😀"] {
            assert_eq!(printable(text), text);
        }
    }

    #[test]
    fn what_a_terminal_obeys_is_escaped() {
        assert_eq!(printable("a\x1b[2Jb\r\n\u{9b}1m"), "a\\u{1b}[2Jb\\u{d}\\u{a}\\u{9b}1m");
        assert_eq!(printable("\u{202e}evil\u{2066}\u{200b}\u{e0041}"), "\\u{202e}evil\\u{2066}\\u{200b}\\u{e0041}");
    }

    #[test]
    fn json_stays_the_same_json() {
        let json = serde_json::json!({"a": "\u{202e}x\u{e0041}\u{7f}"});
        let text = json.to_string();
        let shown = printable_json(&text);
        assert!(shown.is_ascii());
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), json);
    }
}

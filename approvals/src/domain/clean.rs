//! Text from outside, made fit to be stored and shown.

/// Characters that change how the text around them is read: directions and invisible marks.
const fn is_deceptive(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// The text, with a mark in place of each control character other than line feed and tab, and of each character that
/// would change the direction of what follows.
#[must_use]
pub fn printable(text: &str) -> String {
    let keeps =
        |character: char| matches!(character, '\n' | '\t') || !(character.is_control() || is_deceptive(character));
    text.chars().map(|character| if keeps(character) { character } else { '\u{fffd}' }).collect()
}

/// At most `max` characters of the text; what was cut is marked by an ellipsis.
#[must_use]
pub fn capped(text: &str, max: usize) -> String {
    if text.chars().nth(max).is_none() {
        return text.to_owned();
    }
    let mut kept: String = text.chars().take(max.saturating_sub(1)).collect();
    kept.push('…');
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_shown_is_marked() {
        assert_eq!(printable("a\0b\u{202e}c\nd\te"), "a\u{fffd}b\u{fffd}c\nd\te");
    }

    #[test]
    fn only_what_is_too_long_is_cut() {
        assert_eq!(capped("äöü", 3), "äöü");
        assert_eq!(capped("äöüß", 3), "äö…");
    }
}

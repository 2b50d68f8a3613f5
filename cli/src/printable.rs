//! Text of clients for the eyes of people.

use std::fmt::{self, Write};

/// Shows a text without anything that could move the cursor, break a line or turn the order of characters around.
pub const fn printable(text: &str) -> Printable<'_> {
    Printable(text)
}

/// See [`printable`].
#[derive(Clone, Copy, Debug)]
pub struct Printable<'a>(&'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|char| {
            if is_misleading(char) {
                write!(formatter, "\\u{{{:x}}}", u32::from(char))
            } else {
                formatter.write_char(char)
            }
        })
    }
}

/// Control characters, and those that are not seen or reorder the text around them.
fn is_misleading(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(char, '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_moves_the_cursor_or_the_eye() {
        let shown = printable("a\x1b[2Jb\u{202e}c\nd é 🦀").to_string();
        assert_eq!(shown, "a\\u{1b}[2Jb\\u{202e}c\\u{a}d é 🦀");
    }
}

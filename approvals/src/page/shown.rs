//! Text that somebody else wrote, made safe to look at.
//!
//! Markup in it is shown as text, as everywhere on the page. What could make a reader see something else than what is
//! there is shown by its code point: control characters, characters that change the direction of writing, and those
//! that have no width.

use std::fmt::{self, Display, Write};

use askama::filters::HtmlSafe;

/// Characters of one text that are shown. Nothing that a gateway may send is longer, so that approvers see all of it; what
/// is longer all the same is cut, and the number of characters that are missing is told.
pub(super) const MAX_SHOWN_CHARS: usize = 8192;

/// Combining marks shown in a row; more would run over the lines above and below.
const MAX_MARKS: u8 = 3;

/// Text by anybody, as HTML that may stand in an element, and in an attribute too if it is [`Shown::plain`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown<'a> {
    text: &'a str,
    plain: bool,
}

impl<'a> Shown<'a> {
    /// For an element: isolated from the direction of the text around it.
    pub(super) const fn new(text: &'a str) -> Self {
        Self { text, plain: false }
    }

    /// For a title or an attribute: no elements, on one line.
    pub(super) const fn plain(text: &'a str) -> Self {
        Self { text, plain: true }
    }

    fn write_special(self, character: char, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.plain {
            return write!(out, "\u{27e8}U+{:04X}\u{27e9}", u32::from(character));
        }
        match character {
            // A line break is also broken, so that text of several lines can be read.
            '\n' => out.write_str("<span class=\"char\" title=\"U+000A\">\u{21b5}</span>\n"),
            '\t' => out.write_str("<span class=\"char\" title=\"U+0009\">\u{21e5}</span>\t"),
            _ => write!(out, "<span class=\"char\">U+{:04X}</span>", u32::from(character)),
        }
    }

    fn write_text(self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut marks = 0_u8;
        for character in self.text.chars().take(MAX_SHOWN_CHARS) {
            marks = if is_combining(character) { marks.saturating_add(1) } else { 0 };
            match character {
                '&' => out.write_str("&amp;")?,
                '<' => out.write_str("&lt;")?,
                '>' => out.write_str("&gt;")?,
                '"' => out.write_str("&quot;")?,
                '\'' => out.write_str("&#39;")?,
                _ if marks > MAX_MARKS || is_deceptive(character) => self.write_special(character, out)?,
                _ => out.write_char(character)?,
            }
        }
        Ok(())
    }
}

impl Display for Shown<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing = self.text.chars().count().saturating_sub(MAX_SHOWN_CHARS);
        if self.plain {
            self.write_text(out)?;
            return if missing > 0 { out.write_char('\u{2026}') } else { Ok(()) };
        }
        out.write_str("<bdi>")?;
        self.write_text(out)?;
        out.write_str("</bdi>")?;
        if missing > 0 {
            write!(out, "<span class=\"cut\">\u{2026} {missing} more characters are not shown</span>")?;
        }
        Ok(())
    }
}

// Every character of the text went through `write_text`.
impl HtmlSafe for Shown<'_> {}

/// Whether a reader cannot see the character for what it is.
fn is_deceptive(character: char) -> bool {
    match character {
        // Printable by their category, and yet blank: fillers, a joiner, variation selectors that carry hidden text.
        // Selectors 15 and 16 choose between text and picture, and are common.
        '\u{34f}'
        | '\u{115f}'
        | '\u{1160}'
        | '\u{17b4}'
        | '\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{2800}'
        | '\u{3164}'
        | '\u{fe00}'..='\u{fe0d}'
        | '\u{ffa0}'
        | '\u{e0100}'..='\u{e01ef}' => true,
        _ => !is_printable(character),
    }
}

/// Whether the standard library prints the character as it is. It does not print the categories of control, format,
/// private use and unassigned characters, nor separators other than the blank.
fn is_printable(character: char) -> bool {
    // Behind another character, so that combining marks are not escaped for having none to combine with.
    let text = String::from_iter(['a', character]);
    let mut escaped = text.escape_debug().skip(1);
    match escaped.next() {
        Some('\\') => character == '\\' || character == '"' || character == '\'',
        first => first == Some(character),
    }
}

/// Whether the character changes the one before it.
fn is_combining(character: char) -> bool {
    // Alone, a combining mark is escaped; behind another character it is not.
    character.escape_debug().next() == Some('\\') && !character.is_ascii() && is_printable(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn html(text: &str) -> String {
        Shown::new(text).to_string()
    }

    #[test]
    fn markup_is_text() {
        assert_eq!(
            html("<script>alert('1')</script> & \"x\""),
            "<bdi>&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt; &amp; &quot;x&quot;</bdi>"
        );
        assert_eq!(Shown::plain("\"><b>").to_string(), "&quot;&gt;&lt;b&gt;");
    }

    #[test]
    fn what_cannot_be_seen_is_named() {
        for hidden in [
            '\0',
            '\u{7}',
            '\u{1b}',
            '\u{7f}',
            '\u{85}',
            '\u{ad}',
            '\u{61c}',
            '\u{200b}',
            '\u{200d}',
            '\u{200e}',
            '\u{2028}',
            '\u{202a}',
            '\u{202e}',
            '\u{2066}',
            '\u{2069}',
            '\u{3164}',
            '\u{fe05}',
            '\u{feff}',
            '\u{e0041}',
            '\u{e0100}',
            '\u{e000}',
            '\u{a0}',
            '\u{fff9}',
        ] {
            let expected = format!("<span class=\"char\">U+{:04X}</span>", u32::from(hidden));
            assert_eq!(html(&format!("a{hidden}b")), format!("<bdi>a{expected}b</bdi>"), "{hidden:?}");
            assert!(!Shown::plain(&format!("a{hidden}b")).to_string().contains(hidden));
        }
    }

    #[test]
    fn what_can_be_read_stays() {
        for text in ["Zoë", "e\u{301}", "שלום", "नमस्ते", "日本語", "C:\\x", "a b", "\u{2764}\u{fe0f}", "\u{1f44d}"]
        {
            assert_eq!(html(text), format!("<bdi>{text}</bdi>"), "{text}");
        }
    }

    #[test]
    fn line_breaks_and_tabs_are_marked_and_kept() {
        let shown = html("a\nb\tc");
        assert!(shown.contains("\u{21b5}</span>\nb") && shown.contains("\u{21e5}</span>\tc"), "{shown}");
        assert_eq!(Shown::plain("a\nb").to_string(), "a\u{27e8}U+000A\u{27e9}b");
    }

    #[test]
    fn heaps_of_marks_do_not_tower() {
        let heap = format!("a{}", "\u{301}".repeat(50));
        assert_eq!(html(&heap).matches("U+0301").count(), 47);
    }

    #[test]
    fn long_text_is_cut_and_says_so() {
        let shown = html(&"ä".repeat(MAX_SHOWN_CHARS + 7));
        assert_eq!(shown.matches('ä').count(), MAX_SHOWN_CHARS);
        assert!(shown.contains("7 more characters are not shown"), "{shown}");
    }
}

//! JSON text that comes in chunks, as tokens that point into them. Nothing of the text is kept.

use crate::json::lexis;
use crate::limits;

/// A part of the text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Token<'a> {
    /// An object begins.
    Object,
    /// An array begins.
    Array,
    /// The last object or array that began ends.
    Close,
    /// The name of a member.
    Name(Piece<'a>),
    /// A string, number, boolean or `null`.
    Scalar(Piece<'a>),
}

/// As much of a name or scalar as there is in the chunk. The JSON text of all pieces together is the whole.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Piece<'a> {
    /// May be empty in a last piece.
    pub(super) text: &'a [u8],
    /// Whether there are no others to come.
    pub(super) is_last: bool,
}

/// The text is not JSON, or nests deeper than [`limits::MAX_ANSWER_JSON_DEPTH`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Broken;

/// Where a text stands. It takes what serde_json takes when it skips a value, but for UTF-8, which is not looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scanner {
    state: State,
    depth: usize,
    /// The kinds of the open objects and arrays, the innermost in the lowest bit: 1 for an array.
    arrays: u128,
    is_blank: bool,
}

const _: () = assert!(limits::MAX_ANSWER_JSON_DEPTH <= 128, "a bit for each level");

#[derive(Clone, Copy, Debug)]
enum State {
    Value,
    FirstElement,
    Name,
    FirstName,
    Colon,
    /// After a value inside of an object or array.
    Next,
    String {
        is_name: bool,
        escape: Escape,
    },
    Number(Number),
    /// What is left of `true`, `false` or `null`.
    Literal(&'static [u8]),
    End,
}

#[derive(Clone, Copy, Debug)]
enum Escape {
    None,
    /// After a backslash.
    Begun,
    /// So many digits are to come.
    Hex(u8),
}

/// What of a number was last.
#[derive(Clone, Copy, Debug)]
enum Number {
    Minus,
    Zero,
    Integer,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
}

impl Default for Scanner {
    fn default() -> Self {
        Self { state: State::Value, depth: 0, arrays: 0, is_blank: true }
    }
}

impl Scanner {
    /// Takes the next token from the start of `chunk`; `None` when the chunk is used up.
    ///
    /// # Errors
    /// When the text cannot go on like that. Then the scanner must not be used again.
    pub(super) fn next<'a>(&mut self, chunk: &mut &'a [u8]) -> Result<Option<Token<'a>>, Broken> {
        while let Some((&byte, rest)) = chunk.split_first() {
            match self.state {
                State::String { is_name, escape } => return self.string(chunk, 0, is_name, escape).map(Some),
                State::Number(number) => return self.number(chunk, 0, number).map(Some),
                State::Literal(left) => return self.literal(chunk, left).map(Some),
                _ if matches!(byte, b' ' | b'\n' | b'\r' | b'\t') => *chunk = rest,
                State::Value | State::FirstElement => {
                    self.is_blank = false;
                    return self.value(chunk, byte).map(Some);
                }
                State::Name | State::FirstName if byte == b'"' => {
                    return self.string(chunk, 1, true, Escape::None).map(Some);
                }
                State::FirstName | State::Next if byte == self.closing() => {
                    *chunk = rest;
                    return Ok(Some(self.close()));
                }
                State::Colon if byte == b':' => {
                    *chunk = rest;
                    self.state = State::Value;
                }
                State::Next if byte == b',' => {
                    *chunk = rest;
                    self.state = if self.is_in_array() { State::Value } else { State::Name };
                }
                State::Name | State::FirstName | State::Colon | State::Next | State::End => return Err(Broken),
            }
        }
        Ok(None)
    }

    /// Whether the text was whole, if nothing comes after it.
    pub(super) const fn is_whole(&self) -> bool {
        let is_whole_number = matches!(self.state, State::Number(number) if number.may_end()) && self.depth == 0;
        is_whole_number || matches!(self.state, State::End)
    }

    /// Whether there were no bytes but white space.
    pub(super) const fn is_blank(&self) -> bool {
        self.is_blank
    }

    fn value<'a>(&mut self, chunk: &mut &'a [u8], first: u8) -> Result<Token<'a>, Broken> {
        let is_first_element = matches!(self.state, State::FirstElement);
        let token = match first {
            b'"' => return self.string(chunk, 1, false, Escape::None),
            b'{' => self.open(State::FirstName, 0)?,
            b'[' => self.open(State::FirstElement, 1)?,
            b']' if is_first_element => self.close(),
            b't' => return self.literal(chunk, b"true"),
            b'f' => return self.literal(chunk, b"false"),
            b'n' => return self.literal(chunk, b"null"),
            _ => {
                // A number begins with a sign, or with what may follow one.
                let number = if first == b'-' { Some(Number::Minus) } else { Number::Minus.then(first) };
                return self.number(chunk, 1, number.ok_or(Broken)?);
            }
        };
        *chunk = chunk.get(1..).unwrap_or_default();
        Ok(token)
    }

    fn open(&mut self, state: State, kind: u128) -> Result<Token<'static>, Broken> {
        if self.depth >= limits::MAX_ANSWER_JSON_DEPTH {
            return Err(Broken);
        }
        self.depth = self.depth.saturating_add(1);
        self.arrays = self.arrays << 1 | kind;
        self.state = state;
        Ok(if kind == 1 { Token::Array } else { Token::Object })
    }

    const fn close(&mut self) -> Token<'static> {
        self.depth = self.depth.saturating_sub(1);
        self.arrays >>= 1;
        self.value_ended();
        Token::Close
    }

    const fn is_in_array(&self) -> bool {
        self.arrays & 1 == 1
    }

    const fn closing(&self) -> u8 {
        if self.is_in_array() { b']' } else { b'}' }
    }

    const fn value_ended(&mut self) {
        self.state = if self.depth == 0 { State::End } else { State::Next };
    }

    /// Goes on in a string, of which `at` bytes at the start of the chunk are done with.
    fn string<'a>(
        &mut self,
        chunk: &mut &'a [u8],
        mut at: usize,
        is_name: bool,
        mut escape: Escape,
    ) -> Result<Token<'a>, Broken> {
        let is_last = loop {
            if matches!(escape, Escape::None) {
                at = at.saturating_add(lexis::plain(chunk.get(at..).unwrap_or_default()));
            }
            let Some(byte) = chunk.get(at) else { break false };
            at = at.saturating_add(1);
            escape = match (escape, byte) {
                (Escape::None, b'"') => break true,
                (Escape::None, b'\\') => Escape::Begun,
                (Escape::Begun, b'u') => Escape::Hex(4),
                (Escape::Begun, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Escape::None,
                (Escape::Hex(1), digit) if digit.is_ascii_hexdigit() => Escape::None,
                (Escape::Hex(left), digit) if digit.is_ascii_hexdigit() => Escape::Hex(left.saturating_sub(1)),
                (Escape::None | Escape::Begun | Escape::Hex(_), _) => return Err(Broken),
            };
        };
        match (is_last, is_name) {
            (false, _) => self.state = State::String { is_name, escape },
            (true, true) => self.state = State::Colon,
            (true, false) => self.value_ended(),
        }
        let piece = take(chunk, at, is_last);
        Ok(if is_name { Token::Name(piece) } else { Token::Scalar(piece) })
    }

    /// Goes on in a number, of which `length` bytes at the start of the chunk are done with.
    fn number<'a>(&mut self, chunk: &mut &'a [u8], mut length: usize, mut number: Number) -> Result<Token<'a>, Broken> {
        while let Some(next) = chunk.get(length).and_then(|byte| number.then(*byte)) {
            number = next;
            length = length.saturating_add(1);
        }
        let is_last = length < chunk.len();
        match is_last {
            false => self.state = State::Number(number),
            true if number.may_end() => self.value_ended(),
            true => return Err(Broken),
        }
        Ok(Token::Scalar(take(chunk, length, is_last)))
    }

    fn literal<'a>(&mut self, chunk: &mut &'a [u8], left: &'static [u8]) -> Result<Token<'a>, Broken> {
        let length = left.len().min(chunk.len());
        let (now, later) = left.split_at_checked(length).ok_or(Broken)?;
        if !chunk.starts_with(now) {
            return Err(Broken);
        }
        let is_last = later.is_empty();
        if is_last {
            self.value_ended();
        } else {
            self.state = State::Literal(later);
        }
        Ok(Token::Scalar(take(chunk, length, is_last)))
    }
}

impl Number {
    /// What it is with one more byte, if that is a part of it.
    const fn then(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Minus, b'0') => Self::Zero,
            (Self::Minus, b'1'..=b'9') | (Self::Integer, b'0'..=b'9') => Self::Integer,
            (Self::Zero | Self::Integer, b'.') => Self::Point,
            (Self::Point | Self::Fraction, b'0'..=b'9') => Self::Fraction,
            (Self::Zero | Self::Integer | Self::Fraction, b'e' | b'E') => Self::Exponent,
            (Self::Exponent, b'+' | b'-') => Self::ExponentSign,
            (Self::Exponent | Self::ExponentSign | Self::ExponentDigits, b'0'..=b'9') => Self::ExponentDigits,
            _ => return None,
        })
    }

    const fn may_end(self) -> bool {
        matches!(self, Self::Zero | Self::Integer | Self::Fraction | Self::ExponentDigits)
    }
}

fn take<'a>(chunk: &mut &'a [u8], length: usize, is_last: bool) -> Piece<'a> {
    let (text, rest) = chunk.split_at_checked(length).unwrap_or((chunk, &[]));
    *chunk = rest;
    Piece { text, is_last }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    /// Tokens in short, with their pieces joined: `{`, `[`, `.` for the end of either, `:name`, `=scalar`.
    fn tokens<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<String>, Broken> {
        let mut scanner = Scanner::default();
        let mut tokens = Vec::new();
        let mut text = String::new();
        for mut chunk in chunks {
            while let Some(token) = scanner.next(&mut chunk)? {
                let (mark, piece) = match token {
                    Token::Object => ("{", None),
                    Token::Array => ("[", None),
                    Token::Close => (".", None),
                    Token::Name(piece) => (":", Some(piece)),
                    Token::Scalar(piece) => ("=", Some(piece)),
                };
                if let Some(piece) = piece {
                    text += &piece.text.iter().copied().map(char::from).collect::<String>();
                }
                if piece.is_none_or(|piece| piece.is_last) {
                    tokens.push(format!("{mark}{}", std::mem::take(&mut text)));
                }
            }
            assert!(chunk.is_empty());
        }
        assert_eq!(scanner.is_blank(), tokens.is_empty() && text.is_empty());
        if !text.is_empty() {
            tokens.push(format!("={text}"));
        }
        if scanner.is_whole() { Ok(tokens) } else { Err(Broken) }
    }

    fn is_json(text: &str) -> bool {
        serde_json::from_str::<&RawValue>(text).is_ok()
    }

    #[test]
    fn tokens_are_the_parts_of_the_text() {
        let text = r#" { "a\"b" : [ 1 , -2.5e+3,"",[ ],{}, true,null ] ,"":"\u00e9\\"} "#;
        let expected = [
            "{",
            r#":"a\"b""#,
            "[",
            "=1",
            "=-2.5e+3",
            r#"="""#,
            "[",
            ".",
            "{",
            ".",
            "=true",
            "=null",
            ".",
            r#":"""#,
            r#"="\u00e9\\""#,
            ".",
        ];
        assert_eq!(tokens([text.as_bytes()]).unwrap(), expected);
        for at in 0..=text.len() {
            let (one, two) = text.as_bytes().split_at(at);
            assert_eq!(tokens([one, two]).unwrap(), expected, "{at}");
        }
        assert_eq!(tokens(text.as_bytes().chunks(1)).unwrap(), expected);
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in [
            "",
            " ",
            "{",
            "[",
            "[1",
            "[1,",
            "[,1]",
            "[1,]",
            "[1 2]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{,}",
            "{1:2}",
            "{\"a\" 1}",
            "]",
            "}",
            "[}",
            "{]",
            "[1}",
            "{\"a\":1]",
            "1 2",
            "[] []",
            "tru",
            "truex",
            "True",
            "nul",
            "+1",
            "01",
            "-",
            "-x",
            "1.",
            ".5",
            "1e",
            "1e+",
            "0x1",
            "NaN",
            "\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\\u12\"",
            "\"\n\"",
            "\"\t\"",
            "'a'",
            "\u{feff}1",
            "[1],",
            "/**/1",
        ] {
            assert!(!is_json(text), "{text}");
            assert_eq!(tokens([text.as_bytes()]), Err(Broken), "{text}");
            assert_eq!(tokens(text.as_bytes().chunks(1)), Err(Broken), "{text}");
        }
        for text in ["0", "-0", "1e9", "12.50E-7", "true", "\"\\ud800\"", "\"\u{7f}\"", "1e999", "[\"é\"]"] {
            assert!(is_json(text), "{text}");
            assert!(tokens([text.as_bytes()]).is_ok(), "{text}");
            assert!(tokens(text.as_bytes().chunks(1)).is_ok(), "{text}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested =
            |depth: usize| format!("{}{}", "[{\"a\":".repeat(depth / 2), "}]".repeat(depth / 2)).replace(":}", ":1}");
        assert!(tokens([nested(limits::MAX_ANSWER_JSON_DEPTH).as_bytes()]).is_ok());
        assert_eq!(tokens([nested(limits::MAX_ANSWER_JSON_DEPTH + 2).as_bytes()]), Err(Broken));
    }

    proptest! {
        #[test]
        fn it_takes_what_serde_json_takes(text in "[\\[\\]{}:,\"\\\\utrefalsn01.eE+\\- é]{0,12}", at in 0_usize..12) {
            let (one, two) = text.as_bytes().split_at(at.min(text.len()));
            prop_assert_eq!(tokens([one, two]).is_ok(), is_json(&text));
        }
    }
}

//! JSON Pointers (RFC 6901), of which many are followed at once while a text is read.

use crate::{json, limits};

/// A JSON Pointer in which `*` stands for any member and any element.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pointer(Vec<Token>);

/// What a pointer says of one level.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Token {
    Any,
    /// A member; or the element of that number, if it is one.
    Name {
        name: Box<str>,
        index: Option<usize>,
    },
}

impl Pointer {
    /// Reads a pointer; `None` if it is not well-formed, or has more bytes or parts than a policy may use.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > limits::MAX_POINTER_BYTES {
            return None;
        }
        let mut parts = text.split('/');
        if parts.next() != Some("") {
            return None;
        }
        let tokens: Vec<Token> = parts.map(Token::parse).collect::<Option<_>>()?;
        (tokens.len() <= limits::MAX_POINTER_TOKENS).then_some(Self(tokens))
    }

    /// Whether it is for the whole text.
    pub const fn is_whole(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it is for several places.
    pub fn has_wildcard(&self) -> bool {
        self.0.contains(&Token::Any)
    }

    /// How specific it is: of two pointers the longer one is the more specific, then the one that names a member where
    /// the other has `*`.
    pub(super) fn rank(&self) -> impl Ord + use<> {
        (self.0.len(), self.0.iter().map(|token| *token != Token::Any).collect::<Vec<bool>>())
    }
}

impl Token {
    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        let name = json::pointer_token(text)?.into_boxed_str();
        let is_index = text == "0" || (!text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()));
        Some(Self::Name { name, index: if is_index { text.parse().ok() } else { None } })
    }

    fn is_for(&self, step: Step<'_>) -> bool {
        match (self, step) {
            (Self::Any, _) => true,
            (Self::Name { name, .. }, Step::Member(member)) => **name == *member,
            (Self::Name { index, .. }, Step::Element(element)) => *index == Some(element),
        }
    }
}

/// A step down in a JSON text.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step<'a> {
    /// To the member of that name.
    Member(&'a str),
    /// To the element of that number.
    Element(usize),
}

/// Some of the pointers of a [`PointerSet`]: a bit for each.
pub(super) type Some32 = u32;

/// Up to [`limits::MAX_AUDIT_POINTERS`] pointers in an order.
#[derive(Clone, Debug, Default)]
pub(super) struct PointerSet {
    pointers: Vec<Pointer>,
    /// What they say of each level, so that most steps need not look at each of them.
    levels: Vec<Level>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Level {
    /// Those that end there.
    ended: Some32,
    /// Those that go on with `*`.
    any: Some32,
    /// Those that go on with a name.
    named: Some32,
}

impl PointerSet {
    /// These pointers; `None` if they are too many.
    pub(super) fn new(pointers: Vec<Pointer>) -> Option<Self> {
        if pointers.len() > limits::MAX_AUDIT_POINTERS {
            return None;
        }
        let level = |depth: usize| {
            let mut level = Level::default();
            for (pointer, bit) in pointers.iter().zip(Self::bits()) {
                match pointer.0.get(depth) {
                    Some(Token::Any) => level.any |= bit,
                    Some(Token::Name { .. }) => level.named |= bit,
                    None if pointer.0.len() == depth => level.ended |= bit,
                    None => {}
                }
            }
            level
        };
        let levels = (0..=limits::MAX_POINTER_TOKENS).map(level).collect();
        Some(Self { pointers, levels })
    }

    /// The bits of the first pointer, the second one, and so on.
    pub(super) fn bits() -> impl Iterator<Item = Some32> {
        (0..Some32::BITS).map(|place| Some32::wrapping_shl(1, place))
    }

    /// All of them.
    pub(super) fn all(&self) -> Some32 {
        self.level(0, |level| level.ended | level.any | level.named)
    }

    /// Those of `open` that end after `depth` steps.
    pub(super) fn ended(&self, open: Some32, depth: usize) -> Some32 {
        open & self.level(depth, |level| level.ended)
    }

    /// Those of `open` that go this way with their step number `depth`.
    pub(super) fn follow(&self, open: Some32, depth: usize, step: Step<'_>) -> Some32 {
        let mut named = open & self.level(depth, |level| level.named);
        let mut followed = open & self.level(depth, |level| level.any);
        while named != 0 {
            let place = named.trailing_zeros();
            let pointer = usize::try_from(place).ok().and_then(|place| self.pointers.get(place));
            if pointer.and_then(|pointer| pointer.0.get(depth)).is_some_and(|token| token.is_for(step)) {
                followed |= Some32::wrapping_shl(1, place);
            }
            // Without its lowest bit.
            named &= named.wrapping_sub(1);
        }
        followed
    }

    /// Whether any of `open` spells its step number `depth` out.
    pub(super) fn is_spelt(&self, open: Some32, depth: usize) -> bool {
        open & self.level(depth, |level| level.named) != 0
    }

    fn level(&self, depth: usize, part: impl Fn(&Level) -> Some32) -> Some32 {
        self.levels.get(depth).map_or(0, part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_are_read_as_rfc_6901_says() {
        for wrong in ["a", "a/b", "/~", "/~2", "/a~", &"/a".repeat(17), &format!("/{}", "x".repeat(256))] {
            assert_eq!(Pointer::parse(wrong), None, "{wrong}");
        }
        for right in ["", "/", "/a~0~1", "/*/0/01/-", &"/a".repeat(16), &format!("/{}", "x".repeat(255))] {
            assert!(Pointer::parse(right).is_some(), "{right}");
        }
        assert!(Pointer::parse("").unwrap().is_whole());
        assert!(!Pointer::parse("/").unwrap().is_whole());
        assert!(Pointer::parse("/a/*").unwrap().has_wildcard());
        assert!(!Pointer::parse("/a/**").unwrap().has_wildcard());
    }

    #[test]
    fn many_are_followed_at_once() {
        let texts = ["", "/a~1b", "/a~1b/0", "/*/0", "/01", "/*"];
        let set = PointerSet::new(texts.map(|text| Pointer::parse(text).unwrap()).into()).unwrap();
        assert_eq!(set.all(), 0b11_1111);
        assert_eq!(set.ended(set.all(), 0), 0b00_0001);
        let open = set.follow(set.all(), 0, Step::Member("a/b"));
        assert_eq!(open, 0b10_1110);
        assert_eq!(set.ended(open, 1), 0b10_0010);
        assert_eq!(set.follow(open, 1, Step::Element(0)), 0b00_1100);
        assert_eq!(set.follow(open, 1, Step::Member("0")), 0b00_1100);
        assert_eq!(set.follow(set.all(), 0, Step::Element(1)), 0b10_1000);
        assert_eq!(set.follow(set.all(), 0, Step::Member("01")), 0b11_1000);
        assert_eq!(set.follow(0, 0, Step::Element(0)), 0);
        assert!(set.is_spelt(open, 0));
        assert!(!set.is_spelt(0b10_1000, 0));
        let many = |count| PointerSet::new(vec![Pointer::parse("/a").unwrap(); count]);
        assert_eq!(many(32).unwrap().all(), Some32::MAX);
        assert!(many(33).is_none());
    }
}

//! Going past whole values, however deep they nest, without recursion: this is where nearly all bytes of a body go by.

use super::outbound::Unreadable;
use crate::json::{Defect, lexis};
use crate::limits;

/// What is asked of a value besides the grammar.
pub(super) trait Demands<'a> {
    /// Whether strings must be Unicode, and numbers ones that a double can stand for.
    const IS_STRICT: bool;

    /// An object begins.
    fn enter_object(&mut self) {}

    /// The innermost object has a member of the name that is quoted in `text` at `at`.
    fn name(&mut self, _text: &'a str, _at: usize, _: lexis::Quoted) -> Result<(), Unreadable> {
        Ok(())
    }

    /// The innermost object has ended.
    fn leave_object(&mut self) -> Result<(), Unreadable> {
        Ok(())
    }
}

/// Nothing.
pub(super) struct Grammar;

impl Demands<'_> for Grammar {
    const IS_STRICT: bool = false;
}

/// The objects and arrays around a position.
struct Nesting {
    /// How many more there may be.
    left: usize,
    /// Which of them are arrays, the innermost in the lowest bit.
    arrays: u128,
}

const _: () = assert!(limits::MAX_ANSWER_JSON_DEPTH <= 128 && limits::MAX_JSON_DEPTH <= 128, "a bit for each level");

impl Nesting {
    #[inline]
    fn enter(&mut self, is_array: bool) -> Result<(), Unreadable> {
        self.left = self.left.checked_sub(1).ok_or(Unreadable::Defect(Defect::TooDeep))?;
        self.arrays = self.arrays << 1 | u128::from(is_array);
        Ok(())
    }

    #[inline]
    const fn leave(&mut self) {
        self.left = self.left.wrapping_add(1);
        self.arrays >>= 1;
    }

    #[inline]
    const fn is_in_array(&self) -> bool {
        self.arrays & 1 == 1
    }
}

/// Where the next value of `text` ends, which comes at `at` or after blanks. It may nest `depth` levels.
///
/// # Errors
/// When it is not JSON, nests deeper, or is not as `demands` says.
pub(super) fn end<'a, D: Demands<'a>>(
    text: &'a str,
    mut at: usize,
    depth: usize,
    demands: &mut D,
) -> Result<usize, Unreadable> {
    let bytes = text.as_bytes();
    let mut nesting = Nesting { left: depth, arrays: 0 };
    let mut next;
    (next, at) = mark(bytes, at)?;
    let mut is_member = false;
    loop {
        // A member, or another value, begins.
        if is_member {
            (next, at) = member(text, at, demands)?;
        }
        let is_array = next == b'[';
        if is_array || next == b'{' {
            nesting.enter(is_array)?;
            if !is_array {
                demands.enter_object();
            }
            (next, at) = mark(bytes, at.wrapping_add(1))?;
            // That of an empty one is seen below.
            if next != closing(is_array) {
                is_member = !is_array;
                continue;
            }
        } else {
            at = scalar::<D>(bytes, at, next)?;
            if nesting.left == depth {
                return Ok(at);
            }
            (next, at) = mark(bytes, at)?;
        }
        // A value has ended, and with it perhaps some of those around it.
        while next == closing(nesting.is_in_array()) {
            if !nesting.is_in_array() {
                demands.leave_object()?;
            }
            nesting.leave();
            at = at.wrapping_add(1);
            if nesting.left == depth {
                return Ok(at);
            }
            (next, at) = mark(bytes, at)?;
        }
        if next != b',' {
            return Err(Unreadable::NotJson);
        }
        (next, at) = mark(bytes, at.wrapping_add(1))?;
        is_member = !nesting.is_in_array();
    }
}

/// Goes past the name at `at` and its colon, to what comes after them.
#[inline(always)]
fn member<'a, D: Demands<'a>>(text: &'a str, at: usize, demands: &mut D) -> Result<(u8, usize), Unreadable> {
    let bytes = text.as_bytes();
    let quoted = lexis::quoted(bytes.get(at..).unwrap_or_default()).ok_or(Unreadable::NotJson)?;
    let end = at.wrapping_add(quoted.length);
    demands.name(text, at, quoted)?;
    match mark(bytes, end)? {
        (b':', colon) => mark(bytes, colon.wrapping_add(1)),
        _ => Err(Unreadable::NotJson),
    }
}

/// Where the value ends that is at `at`, begins with `first`, and is neither an object nor an array.
#[inline(always)]
fn scalar<'a, D: Demands<'a>>(bytes: &[u8], at: usize, first: u8) -> Result<usize, Unreadable> {
    let rest = bytes.get(at..).unwrap_or_default();
    let length = match first {
        b'"' => lexis::quoted(rest).filter(|it| !(D::IS_STRICT && it.has_lone_surrogate)).map(|it| it.length),
        b'-' | b'0'..=b'9' => lexis::numeral(rest).filter(|it| !D::IS_STRICT || it.is_finite(rest)).map(|it| it.length),
        _ => lexis::literal(rest),
    };
    length.map(|length| at.wrapping_add(length)).ok_or(Unreadable::NotJson)
}

/// The first byte from `at` on that is no blank, and where it is.
#[inline(always)]
fn mark(bytes: &[u8], at: usize) -> Result<(u8, usize), Unreadable> {
    match bytes.get(at) {
        // Nearly always: one comparison instead of four.
        Some(byte) if *byte > b' ' => Ok((*byte, at)),
        _ => {
            let at = lexis::after_blanks(bytes, at);
            bytes.get(at).map(|byte| (*byte, at)).ok_or(Unreadable::NotJson)
        }
    }
}

const fn closing(is_array: bool) -> u8 {
    if is_array { b']' } else { b'}' }
}

//! Names that go into paths, links and records.

use std::fmt;

use crate::limits;

/// The id of an approval: 1 to [`limits::MAX_APPROVAL_ID_BYTES`] characters of base64url.
///
/// It comes from an approval service, over a network, and goes into paths and links: so nothing in it can mean anything
/// there.
#[derive(Clone, Eq, PartialEq)]
pub struct ApprovalId(Box<str>);

impl ApprovalId {
    /// The id, if it is one.
    pub fn parse(text: &str) -> Option<Self> {
        let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let fits = (1..=limits::MAX_APPROVAL_ID_BYTES).contains(&text.len());
        (fits && text.bytes().all(is_base64url)).then(|| Self(text.into()))
    }

    /// The text.
    pub const fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ApprovalId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for ApprovalId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A number that is used once: what a consumption is answered for. The host's randomness makes it.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Nonce([u8; 16]);

impl Nonce {
    /// A nonce of 128 random bits.
    pub const fn new(random: [u8; 16]) -> Self {
        Self(random)
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        hexadecimal(&self.0, formatter)
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Two lower-case digits for each byte.
pub(super) fn hexadecimal(bytes: &[u8], formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_mean_nothing_in_paths_and_links() {
        let longest = "x".repeat(limits::MAX_APPROVAL_ID_BYTES);
        for id in ["a", "Zm9vYmFyYmF6cXV4-_0123", &longest] {
            assert_eq!(ApprovalId::parse(id).unwrap().as_str(), id);
        }
        let too_long = format!("{longest}x");
        for id in ["", ".", "..", "a/b", "a?b", "a#b", "a%2fb", "a b", "a\r\n", "é", "a=", "a+b", "a\0", &too_long] {
            assert_eq!(ApprovalId::parse(id), None, "{id:?}");
        }
    }

    #[test]
    fn nonces_are_written_in_hexadecimal() {
        let mut bytes = [0; 16];
        bytes[0] = 0xab;
        bytes[15] = 1;
        assert_eq!(Nonce::new(bytes).to_string(), "ab000000000000000000000000000001");
    }
}

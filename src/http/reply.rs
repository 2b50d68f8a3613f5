//! Answers that the gateway gives itself.

use std::borrow::Cow;

use crate::limits;

/// A complete HTTP answer of the gateway's own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LocalReply {
    /// HTTP status code.
    pub status: u16,
    /// Header fields; the values come from [`header_value`] or are constants.
    pub headers: Vec<(&'static str, String)>,
    /// The body; empty for none.
    pub body: Vec<u8>,
    /// A stable reason code without blanks, which Envoy's access log shows as `%RESPONSE_CODE_DETAILS%`.
    pub details: &'static str,
    /// What `details` leaves open, for the log only: follows it in braces.
    pub qualifier: String,
}

impl LocalReply {
    /// An answer without a body.
    pub fn empty(status: u16, details: &'static str) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), details, qualifier: String::new() }
    }

    /// An answer with a JSON body that no cache may keep.
    pub fn json(status: u16, body: &serde_json::Value, details: &'static str) -> Self {
        Self {
            status,
            headers: vec![("content-type", "application/json".to_owned()), ("cache-control", "no-store".to_owned())],
            body: body.to_string().into_bytes(),
            details,
            qualifier: String::new(),
        }
    }

    /// `%RESPONSE_CODE_DETAILS%`, whole.
    pub fn code_details(&self) -> Cow<'static, str> {
        match self.qualifier.as_str() {
            "" => Cow::Borrowed(self.details),
            qualifier => Cow::Owned(format!("{}{{{qualifier}}}", self.details)),
        }
    }

    /// The same answer with one more header field.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// `text` as the value of a header field: visible ASCII stays, anything else becomes `%XX` of its UTF-8 bytes.
///
/// The host writes what it gets: a carriage return from a claim would split the message. `%` itself is escaped too, so
/// that the receiver can undo it. `None` when the result is longer than [`limits::MAX_HEADER_VALUE_BYTES`]: half an
/// identity must not pass for another one.
pub fn header_value(text: &str) -> Option<String> {
    use std::fmt::Write as _;

    let mut value = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' => value.push_str("%25"),
            b'!'..=b'~' => value.push(char::from(byte)),
            _ => write!(value, "%{byte:02X}").ok()?,
        }
    }
    (value.len() <= limits::MAX_HEADER_VALUE_BYTES).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_header_value_can_split_the_message() {
        assert_eq!(header_value("a\r\nInjected: 1").unwrap(), "a%0D%0AInjected:%201");
        assert_eq!(header_value("zoë\0%").unwrap(), "zo%C3%AB%00%25");
        assert_eq!(header_value("user@tenant|42").unwrap(), "user@tenant|42");
        assert_eq!(header_value(&"x".repeat(limits::MAX_HEADER_VALUE_BYTES + 1)), None);
    }
}

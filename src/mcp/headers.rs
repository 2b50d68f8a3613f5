//! The `Mcp-*` request headers: of revision 2026-07-28, which mirror the body, and the session of those before.
//!
//! They are claims of the client: nothing is decided by them, and they must agree with the body that is judged.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::http::{HeaderList, Single};

/// What the headers of a request say about its body.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct McpHeaders {
    /// `MCP-Protocol-Version`.
    pub protocol_version: Option<String>,
    /// `Mcp-Method`.
    pub method: Option<String>,
    /// `Mcp-Name`, as sent.
    pub name: Option<String>,
    /// `Mcp-Session-Id`, as sent. Means nothing in stateless revisions.
    pub session: Option<String>,
}

/// Why a header cannot be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("header `{0}` is repeated or not visible ASCII")]
pub struct HeaderProblem(pub &'static str);

impl McpHeaders {
    /// Reads them from a request's headers.
    ///
    /// # Errors
    /// When one is repeated or holds bytes that two readers could take for different things.
    pub fn read(headers: &HeaderList) -> Result<Self, HeaderProblem> {
        // Not used here, but an upstream would use one of two.
        read(headers, "last-event-id")?;
        Ok(Self {
            protocol_version: read(headers, "mcp-protocol-version")?,
            method: read(headers, "mcp-method")?,
            name: read(headers, "mcp-name")?,
            session: read(headers, "mcp-session-id")?,
        })
    }

    /// `Mcp-Name` with its Base64 form undone; `None` when it is absent or malformed.
    ///
    /// `=?base64?...?=` in exactly that spelling holds UTF-8 text; anything else is the name itself (MCP 2026-07-28,
    /// streamable HTTP, value encoding).
    pub fn decoded_name(&self) -> Option<Cow<'_, str>> {
        let name = self.name.as_deref()?;
        match name.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) {
            None => Some(Cow::Borrowed(name)),
            Some(encoded) => {
                let bytes = STANDARD.decode(encoded).ok()?;
                String::from_utf8(bytes).ok().map(Cow::Owned)
            }
        }
    }
}

fn read(headers: &HeaderList, name: &'static str) -> Result<Option<String>, HeaderProblem> {
    match headers.single(name) {
        Single::Absent => Ok(None),
        Single::Value(value) => Ok(Some(value.to_owned())),
        Single::Ambiguous => Err(HeaderProblem(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(value: &str) -> Option<String> {
        let headers = HeaderList::from_iter([("Mcp-Name", value)]);
        McpHeaders::read(&headers).unwrap().decoded_name().map(Cow::into_owned)
    }

    #[test]
    fn names_may_come_in_base64() {
        assert_eq!(decoded("read_contact").as_deref(), Some("read_contact"));
        assert_eq!(decoded("=?base64?cmVhZF9jb250YWN0?=").as_deref(), Some("read_contact"));
        assert_eq!(decoded("=?base64?w6k=?=").as_deref(), Some("é"));
        // Another spelling of the marker makes a literal name, which then equals no tool.
        assert_eq!(decoded("=?BASE64?cmVhZF9jb250YWN0?=").as_deref(), Some("=?BASE64?cmVhZF9jb250YWN0?="));
        for broken in ["=?base64?cmVhZF9jb250YWN0=?=", "=?base64?a?=", "=?base64?!!!!?=", "=?base64?/w==?="] {
            assert_eq!(decoded(broken), None, "{broken}");
        }
    }

    #[test]
    fn a_repeated_header_is_a_problem() {
        let headers = HeaderList::from_iter([("mcp-name", "a"), ("Mcp-Name", "b")]);
        assert_eq!(McpHeaders::read(&headers), Err(HeaderProblem("mcp-name")));
    }
}

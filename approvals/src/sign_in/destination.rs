//! Where a person goes after signing in: a page of this service, and nowhere else.

use std::fmt;

use serde::{Deserialize, Serialize};
use url::Url;

/// Bytes of a destination, at most.
const MAX_BYTES: usize = 1024;

/// Path and query of one of the pages about approvals.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Destination(String);

impl Destination {
    /// The list of approvals.
    pub(crate) fn home() -> Self {
        Self("/approvals".to_owned())
    }

    /// The destination that a link asks for; the list of approvals if it is not one of the pages.
    pub(crate) fn of(text: &str) -> Self {
        Self::parse(text).unwrap_or_else(Self::home)
    }

    /// Browsers read `\` as `/`, drop tabs and line breaks, and take `//host` for another origin. So nothing but plain
    /// characters is taken, and what a URL parser makes of them must still be a page of this origin.
    fn parse(text: &str) -> Option<Self> {
        let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'\\' && byte != b'#';
        if text.len() > MAX_BYTES || !text.starts_with("/approvals") || !text.bytes().all(is_plain) {
            return None;
        }
        let base = Url::parse("https://page.invalid/").ok()?;
        let url = base.join(text).ok()?;
        let path = url.path();
        let is_page = path == "/approvals" || path.strip_prefix("/approvals/").is_some_and(is_id);
        if url.origin() != base.origin() || !is_page {
            return None;
        }
        Some(Self(url.query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"))))
    }

    /// The URL that leads there by way of signing in.
    pub(crate) fn sign_in(&self) -> String {
        let next: String = url::form_urlencoded::byte_serialize(self.0.as_bytes()).collect();
        format!("/sign-in?next={next}")
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

fn is_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_taken() {
        for page in ["/approvals", "/approvals/abc-_123", "/approvals?view=history&tool=a%2Fb"] {
            assert_eq!(Destination::of(page).to_string(), page);
        }
    }

    #[test]
    fn nothing_else_is() {
        for elsewhere in [
            "",
            "/",
            "https://evil.example/approvals",
            "//evil.example/approvals",
            "/\\evil.example",
            "\\\\evil.example",
            "/approvals/../sign-out",
            "/approvals/..//evil.example",
            "/approvals/%2e%2e/x",
            "/approvals/a/decision",
            "/approvals/a/events",
            "/approvals@evil.example",
            "/approvals.evil.example",
            "/approvals\n",
            "/approvals\t/x",
            "/approvals/a#x",
            "javascript:alert(1)",
            "/callback?code=x",
        ] {
            assert_eq!(Destination::of(elsewhere), Destination::home(), "{elsewhere}");
        }
        assert_eq!(Destination::of(&format!("/approvals/{}", "a".repeat(MAX_BYTES))), Destination::home());
    }
}

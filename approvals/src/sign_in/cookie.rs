//! Cookies.

use http::header::{COOKIE, HeaderMap, HeaderValue};
use url::Url;

/// Bytes of a value, at most. Browsers keep 4096 bytes of name, value and attributes (RFC 6265 section 6.1).
pub(super) const MAX_VALUE_BYTES: usize = 3800;

/// What a cookie is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Cookie {
    /// A sign-in that has begun.
    Flow,
    /// A person who has signed in.
    Session,
}

/// How cookies are called and kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cookies {
    is_secure: bool,
}

impl Cookies {
    /// Cookies of the service that people reach at this URL.
    pub(super) fn new(public_url: &Url) -> Self {
        Self { is_secure: public_url.scheme() == "https" }
    }

    /// With TLS the name begins with `__Host-`: the browser takes such a cookie from this very host alone, so that no
    /// sibling domain can plant one.
    const fn name(self, cookie: Cookie) -> &'static str {
        match (self.is_secure, cookie) {
            (true, Cookie::Flow) => "__Host-approvals-sign-in",
            (true, Cookie::Session) => "__Host-approvals",
            (false, Cookie::Flow) => "approvals-sign-in",
            (false, Cookie::Session) => "approvals",
        }
    }

    /// The value that the browser has sent. Of two with one name, neither is taken.
    pub(super) fn find(self, headers: &HeaderMap, cookie: Cookie) -> Option<&str> {
        let name = self.name(cookie);
        let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
        let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let mut values = pairs.filter(|(found, _)| *found == name).map(|(_, value)| value);
        let value = values.next()?;
        (values.next().is_none() && value.len() <= MAX_VALUE_BYTES).then_some(value)
    }

    /// The `Set-Cookie` that keeps a value for so many seconds; `None` if the value is too long to be kept.
    pub(super) fn keep(self, cookie: Cookie, value: &str, max_age: i64) -> Option<HeaderValue> {
        if value.len() > MAX_VALUE_BYTES {
            return None;
        }
        let secure = if self.is_secure { "; Secure" } else { "" };
        let name = self.name(cookie);
        // Lax, not Strict: the provider sends the browser back with a link, and so does a chat.
        let text = format!("{name}={value}; Path=/; Max-Age={max_age}; HttpOnly; SameSite=Lax{secure}");
        HeaderValue::try_from(text).ok()
    }

    /// The `Set-Cookie` that takes a cookie away.
    pub(super) fn forget(self, cookie: Cookie) -> Option<HeaderValue> {
        self.keep(cookie, "", 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[&'static str]) -> HeaderMap {
        lines.iter().map(|line| (COOKIE, HeaderValue::from_static(line))).collect()
    }

    #[test]
    fn cookies_of_a_secure_site_are_bound_to_its_host() {
        let cookies = Cookies::new(&Url::parse("https://a.example").unwrap());
        let kept = cookies.keep(Cookie::Session, "v", 60).unwrap();
        assert_eq!(kept, "__Host-approvals=v; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure");
        assert_eq!(cookies.find(&headers(&["approvals=planted"]), Cookie::Session), None);
        assert_eq!(cookies.find(&headers(&["x=1; __Host-approvals=v"]), Cookie::Session), Some("v"));
    }

    #[test]
    fn one_of_two_is_not_chosen() {
        let cookies = Cookies::new(&Url::parse("http://127.0.0.1").unwrap());
        for lines in [["approvals=a; approvals=b", "y=1"], ["approvals=a", "approvals=b"]] {
            assert_eq!(cookies.find(&headers(&lines), Cookie::Session), None);
        }
        assert!(cookies.keep(Cookie::Session, &"v".repeat(MAX_VALUE_BYTES + 1), 60).is_none());
    }
}

//! Whether a request that changes something comes from one of our own pages.

use http::header::{HeaderMap, HeaderName, ORIGIN};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether the browser says that the request comes from a page of this origin. A request that says nothing does not.
///
/// `Sec-Fetch-Site` goes first: with `Referrer-Policy: no-referrer`, browsers send `Origin: null` even from our own
/// forms.
pub(super) fn is_own(headers: &HeaderMap, origin: &str) -> bool {
    match headers.get(SEC_FETCH_SITE) {
        Some(site) => site == "same-origin",
        None => headers.get(ORIGIN).is_some_and(|value| value == origin),
    }
}

/// Whether the request is a person opening a page, and not a script of a page that asks for news.
pub(super) fn is_navigation(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-mode").is_none_or(|mode| mode == "navigate")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn check(site: Option<&'static str>, origin: Option<&'static str>) -> bool {
        let mut headers = HeaderMap::new();
        site.map(|site| headers.insert(SEC_FETCH_SITE, HeaderValue::from_static(site)));
        origin.map(|origin| headers.insert(ORIGIN, HeaderValue::from_static(origin)));
        is_own(&headers, "https://a.example")
    }

    #[test]
    fn only_our_own_pages_count() {
        assert!(check(Some("same-origin"), Some("null")));
        assert!(check(Some("same-origin"), None));
        assert!(check(None, Some("https://a.example")));
        for (site, origin) in [
            (None, None),
            (None, Some("null")),
            (None, Some("https://a.example.evil")),
            (None, Some("http://a.example")),
            (Some("cross-site"), Some("https://a.example")),
            (Some("same-site"), Some("https://a.example")),
            (Some("none"), None),
        ] {
            assert!(!check(site, origin), "{site:?} {origin:?}");
        }
    }
}

//! Where in a token a claim is found.

use super::object::{Raw, StrictObject};
use crate::json;

/// The place of a claim: the name of a top-level member, or a JSON Pointer (RFC 6901) into nested ones.
///
/// A text that starts with `/` is a pointer, so that names with dots or slashes, such as `https://example.com/roles`,
/// need no quoting. A pointer goes through objects only.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClaimPath {
    first: String,
    rest: Vec<String>,
}

impl ClaimPath {
    /// Reads a claim name or a JSON Pointer; nothing when it is empty or no pointer.
    pub fn parse(text: &str) -> Option<Self> {
        let Some(pointer) = text.strip_prefix('/') else {
            return (!text.is_empty()).then(|| Self { first: text.to_owned(), rest: Vec::new() });
        };
        let mut names = pointer.split('/').map(json::pointer_token);
        let first = names.next()??;
        Some(Self { first, rest: names.collect::<Option<_>>()? })
    }

    /// The value there.
    pub(super) fn find<'a>(&self, claims: &StrictObject<'a>) -> Option<Raw<'a>> {
        let first = claims.get(&self.first)?;
        self.rest.iter().try_fold(first, |value, name| StrictObject::within(value)?.get(name))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::super::object::read;
    use super::*;

    fn find(path: &str, claims: &str) -> Option<String> {
        let claims = StrictObject::parse(claims.as_bytes()).unwrap();
        ClaimPath::parse(path).unwrap().find(&claims).and_then(read::<&RawValue>).map(|value| value.get().to_owned())
    }

    #[test]
    fn names_are_taken_whole_and_pointers_go_through_objects() {
        let claims = r#"{"a.b":1,"https://x/roles":2,"realm":{"roles":["r"],"a/b":{"~":3}},"list":[{"x":1}]}"#;
        for (path, expected) in [
            ("a.b", Some("1")),
            ("https://x/roles", Some("2")),
            ("/realm/roles", Some("[\"r\"]")),
            ("/realm/a~1b/~0", Some("3")),
            ("realm", Some(r#"{"roles":["r"],"a/b":{"~":3}}"#)),
            ("/realm/other", None),
            ("/a.b/x", None),
            ("/list/0", None),
            ("/", None),
        ] {
            assert_eq!(find(path, claims).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn what_is_no_pointer_is_refused() {
        for wrong in ["", "/a~", "/a~2b", "/~01~"] {
            assert_eq!(ClaimPath::parse(wrong), None, "{wrong:?}");
        }
    }
}

//! Roles and names in what a provider says about a person.

use serde_json::{Map, Value};

/// Roles of one person, at most; more are left out.
const MAX_ROLES: usize = 200;
/// Characters of a role; longer ones are left out.
const MAX_ROLE_CHARS: usize = 200;

/// The claims, as the provider signed or sent them.
pub(super) type Claims = Map<String, Value>;

/// Where a claim is: the name of a member, or a JSON Pointer (RFC 6901) into nested objects if it begins with `/`.
///
/// The same form as in the gateway's policy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ClaimPath(Vec<String>);

impl ClaimPath {
    /// Reads a name or a pointer.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let Some(pointer) = text.strip_prefix('/') else {
            return (!text.is_empty()).then(|| Self(vec![text.to_owned()]));
        };
        pointer.split('/').map(unescape).collect::<Option<_>>().map(Self)
    }

    fn find<'a>(&self, claims: &'a Claims) -> Option<&'a Value> {
        let (first, rest) = self.0.split_first()?;
        rest.iter().try_fold(claims.get(first)?, |value, name| value.as_object()?.get(name))
    }
}

/// A token of a JSON Pointer: `~1` is a slash, `~0` a tilde, and no other tilde may be.
fn unescape(token: &str) -> Option<String> {
    let mut parts = token.split('~');
    let first = parts.next()?.to_owned();
    parts.try_fold(first, |text, part| {
        let (replacement, rest) = match part.split_at_checked(1)? {
            ("0", rest) => ("~", rest),
            ("1", rest) => ("/", rest),
            _ => return None,
        };
        Some(text + replacement + rest)
    })
}

/// The roles at the first of these places that is there: a text, or a list of texts. `None` if none is.
pub(super) fn roles(claims: &Claims, places: &[ClaimPath]) -> Option<Vec<String>> {
    let value = places.iter().find_map(|place| place.find(claims))?;
    let fits = |role: &&str| !role.is_empty() && role.chars().count() <= MAX_ROLE_CHARS;
    let mut roles: Vec<String> = match value {
        Value::String(role) => vec![role.clone()],
        Value::Array(list) => {
            list.iter().filter_map(Value::as_str).filter(fits).take(MAX_ROLES).map(str::to_owned).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
    };
    roles.sort();
    roles.dedup();
    Some(roles)
}

/// A name to show, where there is one.
pub(super) fn name(claims: &Claims) -> Option<String> {
    let text = |claim: &str| claims.get(claim).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
    let name = ["name", "preferred_username", "email"].into_iter().find_map(text)?;
    Some(name.chars().take(crate::domain::MAX_NAME_CHARS).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(claims: &str, places: &[&str]) -> Option<Vec<String>> {
        let places: Vec<_> = places.iter().map(|place| ClaimPath::parse(place).unwrap()).collect();
        roles(&serde_json::from_str(claims).unwrap(), &places)
    }

    #[test]
    fn the_first_place_counts() {
        let claims =
            r#"{"roles":["b","a","b",3],"realm_access":{"roles":["c"]},"https://x/roles":"d","e/~":{"f":["g"]}}"#;
        assert_eq!(find(claims, &["roles"]).unwrap(), ["a", "b"]);
        assert_eq!(find(claims, &["none", "/realm_access/roles", "roles"]).unwrap(), ["c"]);
        assert_eq!(find(claims, &["https://x/roles"]).unwrap(), ["d"]);
        assert_eq!(find(claims, &["/e~1~0/f"]).unwrap(), ["g"]);
        assert_eq!(find(claims, &["none", "/roles/0"]), None);
        assert!(find(r#"{"roles":{"x":1}}"#, &["roles"]).unwrap().is_empty());
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for wrong in ["", "/a~", "/a~2b", "/~é"] {
            assert_eq!(ClaimPath::parse(wrong), None, "{wrong}");
        }
    }
}

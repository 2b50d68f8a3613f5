//! The access token in a request (RFC 6750 section 2).

use crate::http::{HeaderList, Single};
use crate::limits;

/// Why a request has no usable bearer token.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BearerProblem {
    /// There is no `Authorization` header, or it names another scheme: the challenge tells what to do.
    #[error("no bearer token")]
    Missing,
    /// There is one, but it cannot be a bearer token, or there are several.
    #[error("malformed authorization header")]
    Malformed,
}

/// The token of the only `Authorization: Bearer` header.
///
/// # Errors
/// [`BearerProblem`]: what RFC 6750 section 3.1 answers with no error code, or with `invalid_request`.
pub fn bearer_token(headers: &HeaderList) -> Result<&str, BearerProblem> {
    let value = match headers.single("authorization") {
        Single::Absent => return Err(BearerProblem::Missing),
        Single::Value(value) => value,
        Single::Ambiguous => return Err(BearerProblem::Malformed),
    };
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(BearerProblem::Missing);
    }
    let token = token.trim_start_matches(' ');
    // The proxy joins repeated headers with a comma, which no token holds.
    let body = token.trim_end_matches('=');
    let is_token = !body.is_empty()
        && token.len() <= limits::MAX_TOKEN_BYTES
        // Without a branch for each byte, many are looked at at once.
        && body.bytes().fold(true, |all, byte| all & is_token_byte(byte));
    if is_token { Ok(token) } else { Err(BearerProblem::Malformed) }
}

/// A byte of a `b64token` before its padding (RFC 6750 section 2.1).
const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() | matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/')
}

/// Whether a query string carries an access token (RFC 6750 section 2.3, which MCP forbids): it would end up in logs.
pub fn query_has_token(query: &str) -> bool {
    query.split(['&', ';']).any(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        unescaped(name).eq_ignore_ascii_case(b"access_token")
    })
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        plain.extend_from_slice(before.as_bytes());
        match after.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                plain.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                plain.push(b'%');
                rest = after;
            }
        }
    }
    plain.extend_from_slice(rest.as_bytes());
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token_of(value: &str) -> Result<String, BearerProblem> {
        bearer_token(&HeaderList::from_iter([("Authorization", value)])).map(str::to_owned)
    }

    #[test]
    fn the_scheme_is_case_insensitive_and_the_token_is_not_trimmed_away() {
        assert_eq!(token_of("Bearer a.b-c_d~e+f/g=="), Ok("a.b-c_d~e+f/g==".to_owned()));
        assert_eq!(token_of("bEARER   abc"), Ok("abc".to_owned()));
    }

    #[test]
    fn other_schemes_count_as_no_token() {
        for value in ["Basic YTpi", "DPoP abc", "", "Bearerabc"] {
            assert_eq!(token_of(value), Err(BearerProblem::Missing), "{value}");
        }
        assert_eq!(bearer_token(&HeaderList::default()), Err(BearerProblem::Missing));
    }

    #[test]
    fn malformed_and_repeated_tokens_are_refused() {
        let long = format!("Bearer {}", "a".repeat(limits::MAX_TOKEN_BYTES + 1));
        for value in
            ["Bearer", "Bearer ", "Bearer a b", "Bearer a,Bearer b", "Bearer =a", "Bearer ==", "Bearer a\u{e9}", &long]
        {
            assert_eq!(token_of(value), Err(BearerProblem::Malformed), "{value:.40}");
        }
        let twice = HeaderList::from_iter([("authorization", "Bearer a"), ("Authorization", "Bearer a")]);
        assert_eq!(bearer_token(&twice), Err(BearerProblem::Malformed));
    }

    #[test]
    fn every_byte_of_a_token_counts() {
        let allowed = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/";
        for byte in 0..=u8::MAX {
            for at in 1..40 {
                let mut token = [b'a'; 41];
                token[at] = byte;
                let headers = HeaderList::from_iter([("authorization", [b"Bearer ", &token[..]].concat())]);
                assert_eq!(bearer_token(&headers).is_ok(), allowed.contains(&byte), "{byte} at {at}");
            }
        }
    }

    #[test]
    fn tokens_in_the_query_are_found_in_any_spelling() {
        for query in ["access_token=x", "a=1&access_token", "a=1;ACCESS_TOKEN=x", "%61ccess%5Ftoken=x"] {
            assert!(query_has_token(query), "{query}");
        }
        for query in ["", "a=access_token", "access_tokens=1", "%", "%zz=1"] {
            assert!(!query_has_token(query), "{query}");
        }
    }
}

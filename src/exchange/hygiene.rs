//! Header fields that must not cross the gateway, in either direction.
//!
//! What was judged is the path, the method, the body and a few header fields. A field by which a framework behind the
//! gateway would read another request, or another caller, out of the same message does not belong to it.

use std::borrow::Cow;

use crate::http::HeaderList;

/// Fields with this prefix are the gateway's own.
const OWN: &[u8] = b"x-toolgate-";

/// Requests: fields that override method, path or caller in common frameworks and proxies, and announcements of
/// trailers, which are dropped.
const OVERRIDES: [&str; 25] = [
    "proxy-authorization",
    "remote-user",
    "trailer",
    "x-auth-request-user",
    // Envoy concedes these to clients that it takes for internal ones. A call that is let through runs once.
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-max-retries",
    "x-envoy-retriable-header-names",
    "x-envoy-retriable-status-codes",
    "x-envoy-retry-grpc-on",
    "x-envoy-retry-on",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-envoy-upstream-rq-timeout-ms",
    "x-forwarded-email",
    "x-forwarded-groups",
    "x-forwarded-preferred-username",
    "x-forwarded-user",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-method",
    "x-original-url",
    "x-remote-user",
    "x-rewrite-url",
];

/// Requests: fields that were judged. In CGI's tradition some servers do not tell `content_type` from `content-type`.
const JUDGED: [&str; 7] =
    ["authorization", "content-encoding", "content-length", "content-type", "host", "origin", "transfer-encoding"];

/// Answers: fields with which an upstream would speak for the resource.
const FOR_THE_RESOURCE: [&str; 3] = ["proxy-authenticate", "timing-allow-origin", "www-authenticate"];

/// Answers: the session's identifier, which is sealed where it is spelt like this, and must not pass in another spelling.
const SESSION: &[u8] = b"mcp-session-id";

/// Names of the client's fields that the upstream does not get.
pub(super) fn unwanted_in_request(headers: &HeaderList) -> Vec<Cow<'static, [u8]>> {
    let is_unwanted = |name: &[u8]| {
        has_prefix(name, OWN)
            || is_read_as_any(name, &OVERRIDES)
            || (name.iter().any(|byte| !byte.is_ascii_alphanumeric() && *byte != b'-' && *byte != b':')
                && (has_prefix(name, b"mcp-") || is_read_as_any(name, &JUDGED)))
    };
    names(headers, is_unwanted)
}

/// Names of the upstream's fields that the client does not get.
pub(super) fn unwanted_in_answer(headers: &HeaderList) -> Vec<Cow<'static, [u8]>> {
    // The upstream knows nothing of the origins that the policy allows.
    let is_unwanted = |name: &[u8]| {
        has_prefix(name, OWN)
            || has_prefix(name, b"access-control-")
            || is_read_as_any(name, &FOR_THE_RESOURCE)
            || (is_read_as(name, SESSION) && !name.eq_ignore_ascii_case(SESSION))
    };
    names(headers, is_unwanted)
}

fn names(headers: &HeaderList, is_unwanted: impl Fn(&[u8]) -> bool) -> Vec<Cow<'static, [u8]>> {
    headers.names().filter(|name| is_unwanted(name)).map(|name| Cow::Owned(name.to_vec())).collect()
}

/// The name as a careless reader takes it: in lower case, every mark a hyphen.
fn carelessly(name: &[u8]) -> impl Iterator<Item = u8> + '_ {
    name.iter().map(|byte| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' })
}

fn is_read_as_any(name: &[u8], known: &[&str]) -> bool {
    known.iter().any(|known| is_read_as(name, known.as_bytes()))
}

fn is_read_as(name: &[u8], known: &[u8]) -> bool {
    name.len() == known.len() && carelessly(name).eq(known.iter().copied())
}

fn has_prefix(name: &[u8], prefix: &[u8]) -> bool {
    name.get(..prefix.len()).is_some_and(|start| is_read_as(start, prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn removed(filter: fn(&HeaderList) -> Vec<Cow<'static, [u8]>>, name: &str) -> bool {
        !filter(&HeaderList::from_iter([(name, "x")])).is_empty()
    }

    #[test]
    fn a_request_cannot_be_read_as_another_one() {
        for name in [
            "x-toolgate-subject",
            "X_Toolgate_Subject",
            "x.toolgate.subject",
            "X-HTTP-Method-Override",
            "x_original_url",
            "X-Forwarded-User",
            "x-envoy-retry-on",
            "x-envoy-max-retries",
            "Trailer",
            "content_type",
            "Content_Encoding",
            "mcp_name",
            "mcp.session.id",
        ] {
            assert!(removed(unwanted_in_request, name), "{name}");
        }
        for name in [":path", "content-type", "Mcp-Name", "mcp-session-id", "x-request-id", "traceparent", "my_header"]
        {
            assert!(!removed(unwanted_in_request, name), "{name}");
        }
    }

    #[test]
    fn an_upstream_does_not_speak_for_the_resource() {
        for name in [
            "WWW-Authenticate",
            "www_authenticate",
            "proxy-authenticate",
            "access-control-allow-private-network",
            "x-toolgate-scopes",
        ] {
            assert!(removed(unwanted_in_answer, name), "{name}");
        }
        for name in ["content-type", "mcp-session-id", "cache-control", "vary"] {
            assert!(!removed(unwanted_in_answer, name), "{name}");
        }
    }
}

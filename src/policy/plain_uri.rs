//! Resource URIs that every reader takes for the same resource.

/// Whether every reader takes `uri` for the same resource, so that a pattern can speak for it.
///
/// Servers fold case in scheme and host, undo escapes, cut off parameters and queries, and join slashes (RFC 3986
/// section 6.2.2, and beyond). Any of that could turn the URI that a lax pattern fits into one that a strict rule names.
/// What is plain looks the same after all of it. A URI that is not can still be named exactly.
pub(super) fn is_plain(uri: &str) -> bool {
    let Some((scheme, rest)) = uri.split_once(':') else { return false };
    let (authority, path) = match rest.strip_prefix("//") {
        Some(rest) => rest.split_once('/').unwrap_or((rest, "")),
        None => ("", rest.strip_prefix('/').unwrap_or(rest)),
    };
    let is_lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-._".contains(&byte);
    scheme.bytes().all(is_lower)
        && authority.bytes().all(|byte| is_lower(byte) || byte == b':')
        && (path.is_empty() || path.split('/').all(is_plain_segment))
}

/// Letters, digits and marks that no server gives a meaning, and escapes of blanks and of what is not ASCII.
fn is_plain_segment(segment: &str) -> bool {
    let mut pieces = segment.split('%');
    let mut text = pieces.next().unwrap_or_default().as_bytes().to_vec();
    let marks = b"-._~:@!$&'()*+,={}";
    if !text.iter().all(|byte| byte.is_ascii_alphanumeric() || marks.contains(byte)) {
        return false;
    }
    for piece in pieces {
        let Some((escape, rest)) = piece.split_at_checked(2) else { return false };
        let is_hex = escape.bytes().all(|byte| byte.is_ascii_hexdigit());
        match u8::from_str_radix(escape, 16) {
            Ok(byte @ (b' ' | 0x80..)) if is_hex => text.push(byte),
            Ok(_) | Err(_) => return false,
        }
        if !rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || marks.contains(&byte)) {
            return false;
        }
        text.extend_from_slice(rest.as_bytes());
    }
    core::str::from_utf8(&text)
        .is_ok_and(|text| !matches!(text.trim(), "" | "." | "..") && !text.contains(char::is_control))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_speaks_for_plain_uris_only() {
        for uri in [
            "norg://reports/../secrets",
            "norg://reports/..",
            "norg://reports/./a",
            "norg://reports/%2e%2E/a",
            "norg://reports%2fsecrets",
            "norg://reports/a\\..\\b",
            "norg://reports/%252e",
            "norg://reports/a%00",
            "norg://reports/a%",
            "norg://reports/a%+1",
            "norg://reports/a b",
            "norg://reports/a?x=/public",
            "norg://reports/a#/public",
            "norg://sec%72et/x",
            "norg://reports/sec%72et",
            "NORG://reports/x",
            "norg://REPORTS/x",
            "norg://reports//secret",
            "norg://reports/secret/",
            "norg://r/..;/s",
            "norg://r/a;x=1/s",
            "norg://r/..%3fx",
            "norg://r/%c0%ae%c0%ae/s",
            "norg://r/..%20/s",
            "norg://user@reports/x",
            "norg://r/%c2%85",
            "reports",
        ] {
            assert!(!is_plain(uri), "{uri}");
        }
        for uri in [
            "norg://reports/weekly",
            "norg://reports",
            "norg://reports/a..b",
            "norg://reports/a%20b",
            "norg://reports/%C3%A9t%C3%A9",
            "norg://contacts/{contact_id}",
            "file:///Srv/Data.txt",
            "urn:isbn:0451450523",
        ] {
            assert!(is_plain(uri), "{uri}");
        }
    }
}

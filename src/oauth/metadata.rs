//! Protected resource metadata (RFC 9728).

use serde::Serialize;

/// The well-known name of the document, RFC 9728 section 3.
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// Where a caller learns what it may do.
const PERMISSIONS: &str = "/.well-known/toolgate-permissions";

/// The identifier of the protected resource: the URL of the MCP endpoint as clients know it (RFC 8707 section 2).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ResourceUri {
    uri: String,
    origin: String,
    path: String,
}

impl ResourceUri {
    /// Reads an absolute `https` or `http` URL with a path and without user, query and fragment.
    ///
    /// # Errors
    /// What is wrong, as the end of a sentence.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.contains('#') {
            return Err("has a fragment");
        }
        let uri: ::http::Uri = text.parse().map_err(|_| "is not an absolute URL")?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err("is not an absolute URL");
        };
        if !matches!(scheme, "https" | "http") {
            return Err("is neither https nor http");
        }
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err("must have a host and no user");
        }
        if uri.query().is_some() {
            return Err("has a query");
        }
        let path = uri.path();
        let segments_are_plain = !path.contains("//") && !path.split('/').any(|segment| matches!(segment, "." | ".."));
        if !segments_are_plain || path.contains(['%', '\\']) {
            return Err("has a path that proxies rewrite");
        }
        Ok(Self { uri: text.to_owned(), origin: format!("{scheme}://{authority}"), path: path.to_owned() })
    }

    /// The URL as written in the policy.
    pub fn as_str(&self) -> &str {
        &self.uri
    }

    /// The path of the MCP endpoint.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The path of the metadata document: the well-known name, then the path of the resource (RFC 9728 section 3.1).
    pub fn metadata_path(&self) -> String {
        format!("{WELL_KNOWN}{}", self.path.trim_end_matches('/'))
    }

    /// The URL of the metadata document.
    pub fn metadata_url(&self) -> String {
        format!("{}{}", self.origin, self.metadata_path())
    }

    /// Whether `path` is the one at which a caller learns what it may do: like that of the metadata, a well-known one
    /// (RFC 8615) with the path of the resource behind it.
    pub fn is_permissions_path(&self, path: &str) -> bool {
        path.strip_prefix(PERMISSIONS).is_some_and(|rest| rest == self.path.trim_end_matches('/'))
    }

    /// Whether `path` is one of the addresses of the metadata document: the one with the path, or the root.
    pub fn is_metadata_path(&self, path: &str) -> bool {
        path.strip_prefix(WELL_KNOWN).is_some_and(|rest| rest.is_empty() || rest == self.path.trim_end_matches('/'))
    }
}

/// The document, RFC 9728 section 2.
#[derive(Debug, Serialize)]
pub struct ResourceMetadata<'a> {
    /// The resource identifier.
    pub resource: &'a str,
    /// Issuers whose tokens are accepted.
    pub authorization_servers: Vec<&'a str>,
    /// Scopes that a client should ask for first; more come by challenge.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub scopes_supported: &'a [String],
    /// Always `header`.
    pub bearer_methods_supported: [&'static str; 1],
    /// Name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_name: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_lives_at_the_suffixed_and_the_root_address() {
        let resource = ResourceUri::parse("https://h.example:8443/public/mcp").unwrap();
        assert_eq!(resource.path(), "/public/mcp");
        assert_eq!(resource.metadata_url(), "https://h.example:8443/.well-known/oauth-protected-resource/public/mcp");
        assert!(resource.is_metadata_path("/.well-known/oauth-protected-resource"));
        assert!(resource.is_metadata_path("/.well-known/oauth-protected-resource/public/mcp"));
        for other in
            ["/.well-known/oauth-protected-resource/", "/.well-known/oauth-protected-resource/other", "/public/mcp"]
        {
            assert!(!resource.is_metadata_path(other), "{other}");
        }
    }

    #[test]
    fn what_cannot_identify_a_resource_is_refused() {
        for wrong in [
            "",
            "/mcp",
            "ftp://h/mcp",
            "https://u@h/mcp",
            "https://h/mcp?x=1",
            "https://h/mcp#f",
            "https://h/a/../b",
            "https://h//a",
            "https://h/%6dcp",
        ] {
            assert!(ResourceUri::parse(wrong).is_err(), "{wrong}");
        }
    }
}

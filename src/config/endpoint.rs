//! Where a document is fetched from.

use super::ConfigError;

/// Where a document is fetched from.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Endpoint {
    /// Envoy cluster.
    pub cluster: String,
    /// `:authority` of the request.
    pub authority: String,
    /// `:path` of the request.
    pub path: String,
}

impl Endpoint {
    /// An endpoint as written in a policy; its fields have their usual names under `path`.
    pub(super) fn check(path: &str, cluster: &str, document: &str, authority: String) -> Result<Self, ConfigError> {
        if cluster.is_empty() {
            return Err(ConfigError::new(format!("{path}.cluster"), "is empty", "name an Envoy cluster"));
        }
        if !document.starts_with('/') || !document.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ConfigError::new(format!("{path}.path"), "is not a path", "write a path that starts with `/`"));
        }
        if authority.is_empty() || !authority.bytes().all(|byte| byte.is_ascii_graphic()) {
            let remedy = "write a host with an optional port";
            return Err(ConfigError::new(format!("{path}.authority"), "is not a host", remedy));
        }
        Ok(Self { cluster: cluster.to_owned(), authority, path: document.to_owned() })
    }
}

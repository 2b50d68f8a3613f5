//! The policy document as operators write it: JSON to the plugin, YAML for people.
//!
//! The doc comments here are the text of the published JSON Schema.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::jwt::Algorithm;
use crate::mcp::Revision;
use crate::units::{ByteCount, Seconds};

/// A Toolgate policy: who may call what on one MCP server.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PolicyDocument {
    /// Format of this document.
    pub version: Version,
    /// The protected resource, as in RFC 9728.
    pub resource: ResourceDocument,
    /// What is accepted of MCP and HTTP.
    #[serde(default)]
    pub protocol: ProtocolDocument,
    /// Whose tokens are accepted.
    pub authentication: AuthenticationDocument,
    /// Scopes by name. Rules may require these and no others.
    #[serde(default)]
    pub scopes: BTreeMap<String, ScopeDocument>,
    /// A token that carries one of these scopes is refused whole, whatever else it grants.
    #[serde(default)]
    pub refused_scopes: Vec<String>,
    /// What may be called, and with which scopes. A target that no rule names is denied.
    pub rules: Vec<RuleDocument>,
    /// What the upstream gets to see.
    #[serde(default)]
    pub forwarding: ForwardingDocument,
    /// How sessions of revisions before 2026-07-28 are bound to their callers. Default: with the key in the environment
    /// variable `TOOLGATE_SESSION_KEY`; if that is not set either, servers that begin sessions cannot be used.
    pub sessions: Option<SessionsDocument>,
}

/// Version of the policy format.
#[derive(Clone, Copy, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Version {
    /// The only one.
    #[serde(rename = "toolgate/v1")]
    V1,
}

/// The protected resource.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ResourceDocument {
    /// URL of the MCP endpoint as clients reach it. Also the audience that tokens must have (RFC 8707).
    pub uri: String,
    /// Name for people, shown in the metadata document.
    pub name: Option<String>,
    /// Scopes that a client should ask for first: offered in the metadata document and in the 401 challenge. Default:
    /// the scopes with `risk: low`.
    pub initial_scopes: Option<Vec<String>>,
}

/// What is accepted of MCP and HTTP.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ProtocolDocument {
    /// Protocol revisions that clients may speak. Default: all of them.
    pub revisions: Option<Vec<Revision>>,
    /// Largest request body in bytes. Default 1048576, at most 16777216.
    pub max_request_bytes: Option<ByteCount>,
    /// Web origins, such as `https://app.example.com`, whose pages may call. Requests without `Origin` are not from
    /// pages. Default: none.
    #[serde(default)]
    pub allowed_origins: Vec<String>,
}

/// Whose tokens are accepted.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AuthenticationDocument {
    /// Issuers of JWT access tokens (RFC 9068). At least one.
    pub jwt: Vec<IssuerDocument>,
}

/// An issuer of access tokens.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct IssuerDocument {
    /// The exact `iss` claim, and the issuer identifier in the metadata document.
    pub issuer: String,
    /// Where its keys come from.
    pub jwks: JwksDocument,
    /// Signature algorithms that its tokens may use.
    pub algorithms: Vec<Algorithm>,
    /// Accepted `aud` values. Default: the resource URI.
    pub audiences: Option<Vec<String>>,
    /// Accepted `typ` header values, without `application/`. Default: `at+jwt` and `JWT`, and tokens without `typ`.
    pub token_types: Option<Vec<String>>,
    /// Longest accepted lifetime of a token, `exp - iat`. Default `60m`, at most `24h`.
    pub max_lifetime: Option<Seconds>,
    /// Where claims are found that issuers name differently.
    #[serde(default)]
    pub claims: ClaimsDocument,
}

/// A key set: either fetched from an Envoy cluster, or inline.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct JwksDocument {
    /// Name of the Envoy cluster to fetch from.
    pub cluster: Option<String>,
    /// Path of the key set on that cluster.
    pub path: Option<String>,
    /// `Host` of the fetch. Default: the host of `issuer`.
    pub authority: Option<String>,
    /// Time between two fetches. Default `5m`, at least `10s`.
    pub refresh: Option<Seconds>,
    /// How long the last good keys are used when the issuer cannot be reached. Default `1h`, at most `24h`.
    pub max_stale: Option<Seconds>,
    /// The JWK Set itself (RFC 7517 section 5), in place of `cluster` and `path`.
    pub inline: Option<serde_json::Value>,
}

/// Claim names of an issuer; the first one that a token has counts.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ClaimsDocument {
    /// The client. Default: `client_id`, `azp`.
    pub client_id: Option<Vec<String>>,
    /// The granted scopes, as one string or an array. Default: `scope`, `scp`.
    pub scopes: Option<Vec<String>>,
}

/// A scope.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ScopeDocument {
    /// How much harm its misuse can do.
    pub risk: Risk,
    /// Scopes that a token with this one has too.
    #[serde(default)]
    pub implies: Vec<String>,
}

/// How much harm the misuse of a scope can do.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Risk {
    /// Offered to every client at its first request.
    Low,
    /// Asked for by challenge.
    Medium,
    /// Asked for by challenge.
    High,
}

/// A rule: its targets, and what a caller needs for them. The most specific target wins: an exact name before a
/// pattern, then the pattern with the longest text beside its `*`.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RuleDocument {
    /// Tools, by name or pattern with one `*`.
    #[serde(default)]
    pub tools: Vec<String>,
    /// Resources, by URI or pattern with one `*`.
    #[serde(default)]
    pub resources: Vec<String>,
    /// Prompts, by name or pattern with one `*`.
    #[serde(default)]
    pub prompts: Vec<String>,
    /// Scopes that the token must grant, all of them. An empty list lets in every caller with a valid token.
    pub scopes: Vec<String>,
    /// Longest lifetime of a token that may be used here, when it is to be shorter than what the issuer may give.
    pub max_token_lifetime: Option<Seconds>,
}

/// What the upstream gets to see.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ForwardingDocument {
    /// What becomes of the access token. Default: `remove`.
    #[serde(default)]
    pub authorization: AuthorizationForwarding,
}

/// How sessions are bound to their callers. Clients get session identifiers that open for nobody else.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SessionsDocument {
    /// Keys by name, at most 8. The first one seals, all of them open: to replace a key, list the new one second in every
    /// proxy, then first, and drop the old one after `max_age`. Default: `k1` in `TOOLGATE_SESSION_KEY`.
    pub keys: Option<Vec<SessionKeyDocument>>,
    /// How long a session can be used after it began; then clients have to begin another one. Default `24h`, at most
    /// `168h`.
    pub max_age: Option<Seconds>,
}

/// A session key.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SessionKeyDocument {
    /// Its name, 1 to 16 letters, digits, `_` and `-`: part of every session identifier, so the same in every proxy.
    pub id: String,
    /// Environment variable that holds it: at least 32 random bytes in Base64. Envoy gives the module the variables that
    /// `vm_config.environment_variables` names.
    pub env: String,
}

/// What becomes of the access token.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum AuthorizationForwarding {
    /// The upstream learns the identity from `x-toolgate-*` headers and never sees the token.
    #[default]
    Remove,
    /// The upstream gets the token too, to verify it again for the same audience.
    Keep,
}

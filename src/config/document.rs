//! The policy document as operators write it: JSON to the plugin, YAML for people.
//!
//! The doc comments here are the text of the published JSON Schema.

mod approval;

use std::collections::BTreeMap;

use serde::Deserialize;

pub(super) use approval::{
    ApprovalDocument, ApprovalServiceDocument, ApprovalTokenDocument, EscalationDocument, GateDocument, ReasonDocument,
};

use crate::audit::redact::Treatment;
use crate::jwt::Algorithm;
use crate::mcp::Revision;
use crate::units::{ByteCount, Date, Seconds};

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
    /// Operator roles: what people may do, by the roles and groups that their issuer gives them. If this is there, a
    /// person without any of the roles is refused.
    pub operators: Option<BTreeMap<String, OperatorDocument>>,
    /// Agent roles: what an agent may do, whoever drives it. If this is there, a caller without one is refused.
    pub agents: Option<BTreeMap<String, AgentDocument>>,
    /// Registered clients by their exact identifier. If this is there, any other client is refused.
    pub clients: Option<BTreeMap<String, ClientDocument>>,
    /// Who is cut off, although the tokens are still valid.
    #[serde(default)]
    pub revocation: RevocationDocument,
    /// How calls are refused that the caller would not see in a list. Default: `open`.
    #[serde(default)]
    pub refusals: Refusals,
    /// What the upstream may ask of clients, whichever way it asks. Default: everything.
    #[serde(default = "ServerRequest::all")]
    pub server_requests: Vec<ServerRequest>,
    /// What may be called, and with which scopes. A target that no rule names is denied.
    pub rules: Vec<RuleDocument>,
    /// What the upstream gets to see.
    #[serde(default)]
    pub forwarding: ForwardingDocument,
    /// How sessions of revisions before 2026-07-28 are bound to their callers. Default: with the key in the environment
    /// variable `TOOLGATE_SESSION_KEY`; if that is not set either, servers that begin sessions cannot be used.
    pub sessions: Option<SessionsDocument>,
    /// What is recorded of requests.
    #[serde(default)]
    pub audit: AuditDocument,
    /// Who is asked for approvals. Default: nobody, and calls that need one are denied.
    pub approval: Option<ApprovalDocument>,
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

/// Claims of an issuer: names of top-level claims, or JSON Pointers (RFC 6901), which start with `/`, into nested ones.
/// Of several, the first one that a token has counts.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ClaimsDocument {
    /// The client. Default: `client_id`, `azp`.
    pub client_id: Option<Vec<String>>,
    /// The granted scopes, as one string or an array. Default: `scope`, `scp`.
    pub scopes: Option<Vec<String>>,
    /// Roles of the person, as one string or an array. Default: `roles`.
    pub roles: Option<Vec<String>>,
    /// Groups of the person, as one string or an array. Default: `groups`.
    pub groups: Option<Vec<String>>,
    /// Department of the person. Default: `department`.
    pub department: Option<Vec<String>>,
    /// Tenant of the caller. Default: `tenant_id`, `tid`.
    pub tenant: Option<Vec<String>>,
    /// What the token was issued for. Default: `purpose`.
    pub purpose: Option<Vec<String>>,
    /// Agent role, where the issuer assigns it. Default: none.
    pub agent: Option<Vec<String>>,
    /// What marks a token that stands for no person. A token whose subject is its client stands for none anyway.
    pub machine: Option<MachineDocument>,
}

/// A claim, and its values, that mark a token of a client without a person.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MachineDocument {
    /// The claim, such as `idtyp`.
    pub claim: String,
    /// Its values, such as `app`.
    pub values: Vec<String>,
}

/// An operator role.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct OperatorDocument {
    /// Who has it.
    #[serde(rename = "match")]
    pub matches: RoleMatchDocument,
    /// What it may do: scopes, by name or pattern with one `*`.
    pub scopes: Vec<String>,
    /// Scopes that it may not use, although a pattern or a broader scope would include them.
    #[serde(default)]
    pub except: Vec<String>,
}

/// Which people have an operator role: those with any of the roles or groups.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RoleMatchDocument {
    /// Values of the role claim, exact or with one `*`.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Values of the group claim, exact or with one `*`.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Issuers whose word counts. Default: all trusted ones.
    pub issuers: Option<Vec<String>>,
}

/// An agent role.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AgentDocument {
    /// What it may do: scopes, by name or pattern with one `*`.
    pub scopes: Vec<String>,
    /// Scopes that it may not use, although a pattern or a broader scope would include them.
    #[serde(default)]
    pub except: Vec<String>,
    /// What it may do only after people have approved the very call.
    pub approval: Option<GateDocument>,
}

/// A registered client.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ClientDocument {
    /// The issuer whose tokens may name it. Required when the policy trusts more than one.
    pub issuer: Option<String>,
    /// Its agent role. Without one, the token must name it.
    pub agent: Option<String>,
    /// Scopes that it may use, by name or pattern with one `*`. Default: no limit of its own.
    pub scopes: Option<Vec<String>>,
    /// Tools that it may call, by name or pattern with one `*`. Default: no limit of its own.
    pub tools: Option<Vec<String>>,
    /// Where it may call from. Default: anywhere.
    pub source: Option<SourceDocument>,
    /// Whether it may act with a token that stands for no person. Default: `deny`.
    #[serde(default)]
    pub without_person: WithoutPerson,
    /// What somebody agreed that it may do.
    pub consent: Option<ConsentDocument>,
}

/// Whether a client may act with a token that stands for no person.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum WithoutPerson {
    /// It may, within all other limits.
    Allow,
    /// It may not.
    #[default]
    Deny,
}

/// Where a client may call from. Each kind that is named must fit.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SourceDocument {
    /// Networks, such as `10.0.0.0/8`, of the address that Envoy takes for the client's.
    #[serde(default)]
    pub cidrs: Vec<String>,
    /// URI names of verified client certificates, such as SPIFFE ids. Envoy shows a certificate's first one.
    #[serde(default)]
    pub uri_sans: Vec<String>,
    /// DNS names of verified client certificates. Envoy shows a certificate's first one.
    #[serde(default)]
    pub dns_sans: Vec<String>,
}

/// A consent record.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ConsentDocument {
    /// Who gave it.
    pub by: String,
    /// The day on which it was given, such as `2026-11-02`.
    pub on: Date,
    /// The last day (UTC) on which it is valid. Default: no end.
    pub expires: Option<Date>,
    /// Scopes that it covers, by name or pattern with one `*`. Default: all.
    pub scopes: Option<Vec<String>>,
    /// Tools that it covers, by name or pattern with one `*`. Default: all.
    pub tools: Option<Vec<String>>,
    /// SHA-256, in hexadecimal, of the definitions of tools that were consented to: of the tool's object in
    /// `tools/list` as compact JSON with sorted members. A tool with another definition is refused.
    #[serde(default)]
    pub definitions: BTreeMap<String, String>,
}

/// Who is cut off, although the tokens are still valid.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RevocationDocument {
    /// People or clients, by subject.
    #[serde(default)]
    pub subjects: Vec<RevokedSubjectDocument>,
    /// Clients, by identifier.
    #[serde(default)]
    pub clients: Vec<String>,
    /// Agent roles, by name.
    #[serde(default)]
    pub agents: Vec<String>,
    /// Tokens, by `jti`.
    #[serde(default)]
    pub token_ids: Vec<String>,
    /// Where more of them are fetched from, again and again.
    pub list: Option<RevocationListDocument>,
}

/// A list of those who are cut off that is fetched from an Envoy cluster: a JSON object with the members `subjects`,
/// `clients`, `agents` and `token_ids`, as in the policy. Who is on it is cut off within `refresh` and the time of a
/// fetch, which is given up after 5 seconds or `refresh`, whichever is less. If it cannot be fetched, or is not
/// exactly that, the last good one stays in force until it is `max_stale` old; then every request with a token is
/// refused.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RevocationListDocument {
    /// Name of the Envoy cluster to fetch from.
    pub cluster: String,
    /// Path of the list on that cluster.
    pub path: String,
    /// `Host` of the fetch. Default: the name of the cluster.
    pub authority: Option<String>,
    /// Time between two fetches. Default `30s`, from `1s` to `1h`.
    pub refresh: Option<Seconds>,
    /// How long the last good list is used when no other can be fetched. Default `5m`, from `refresh` to `24h`.
    pub max_stale: Option<Seconds>,
}

/// A subject that is cut off.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RevokedSubjectDocument {
    /// The issuer that knows it by this name. Default: any.
    pub issuer: Option<String>,
    /// `sub`.
    pub subject: String,
}

/// How calls are refused that the caller would not see in a list.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Refusals {
    /// With the reason.
    #[default]
    Open,
    /// As if the target did not exist.
    Concealed,
}

/// What a server may ask of clients.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ServerRequest {
    /// An answer of the client's language model.
    Sampling,
    /// Something that only the person knows or can do.
    Elicitation,
    /// The directories that the client works in.
    Roots,
}

impl ServerRequest {
    fn all() -> Vec<Self> {
        vec![Self::Sampling, Self::Elicitation, Self::Roots]
    }
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
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
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

impl Risk {
    /// Its name in policies.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
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
    /// What else must hold, in CEL: the rule grants only if it is true, and an error counts as false.
    pub when: Option<String>,
    /// What is never allowed, in CEL: the rule denies if it is true, and an error counts as true.
    pub deny_when: Option<String>,
    /// How the person must have been authenticated (RFC 9470).
    pub authentication: Option<StepUpDocument>,
    /// People must approve calls.
    pub approval: Option<GateDocument>,
    /// Tenants whose callers the rule is for. Default: all, and callers without one.
    pub tenants: Option<Vec<String>>,
    /// JSON Pointer (RFC 6901) to the argument that must be the caller's tenant.
    pub tenant_argument: Option<String>,
}

/// A level of authentication.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct StepUpDocument {
    /// Accepted values of `acr`, any of which will do.
    #[serde(default)]
    pub acr: Vec<String>,
    /// Methods (`amr`) that must all have been used.
    #[serde(default)]
    pub amr: Vec<String>,
    /// Longest time since the authentication (`auth_time`).
    pub max_age: Option<Seconds>,
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
    pub keys: Option<Vec<KeyDocument>>,
    /// How long a session can be used after it began; then clients have to begin another one. Default `24h`, at most
    /// `168h`.
    pub max_age: Option<Seconds>,
}

/// A secret key.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct KeyDocument {
    /// Its name, 1 to 16 letters, digits, `_` and `-`: part of what it makes, so the same in every proxy.
    pub id: String,
    /// Environment variable that holds it: at least 32 random bytes in Base64. Envoy gives the module the variables that
    /// `vm_config.environment_variables` names.
    pub env: String,
}

/// What is recorded of requests: one sealed record each, in Envoy's filter state as `wasm.toolgate.audit`, for access
/// loggers.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AuditDocument {
    /// Whether there are records at all. Default: `sealed`.
    #[serde(default)]
    pub records: Records,
    /// Keys by name, at most 8. The first one seals. To replace a key, put the new one first, and keep the old one for
    /// whoever verifies what it sealed. Default: `k1` in `TOOLGATE_AUDIT_KEY`.
    pub keys: Option<Vec<KeyDocument>>,
    /// The key of pseudonyms and keyed digests. While it stays the same they can be joined. Default: the one in
    /// `TOOLGATE_PSEUDONYM_KEY`, or the one that seals.
    pub pseudonym_key: Option<PseudonymKeyDocument>,
    /// How people are named. Default: `plain`.
    #[serde(default)]
    pub subjects: Subjects,
    /// What is shown of arguments, by tool name or pattern with one `*`, of which the most specific one that fits counts
    /// alone; then by JSON Pointer (RFC 6901) into the arguments, in which `*` stands for any member or element. At most
    /// 256 tools with 32 pointers. A pointer is for the value there and all below it, the empty one for all arguments; of
    /// several the longest one counts, then the one that names a member where the other has `*`. Default: `drop`.
    #[serde(default)]
    pub arguments: BTreeMap<String, BTreeMap<String, Treatment>>,
    /// What is picked from results, by tool name or pattern with one `*`, of which the most specific one that fits counts
    /// alone; then by a name of 1 to 64 letters, digits, `_`, `.` and `-`: a JSON Pointer into the result, such as
    /// `/structuredContent/booking_id`, to a string, number or boolean of at most 256 bytes. At most 256 tools with 32
    /// names. Values are masked as with `keep`.
    #[serde(default)]
    pub outcomes: BTreeMap<String, BTreeMap<String, String>>,
    /// Whether records are written to Envoy's own log too, as warnings. Default: no.
    #[serde(default)]
    pub host_log: bool,
    /// Time after which a worker with new records states how far they are: to the other workers, in Envoy's own log if
    /// `host_log` is on, and to the `anchor`. Default `10s`, from `1s` to `1h`.
    pub checkpoint_interval: Option<Seconds>,
    /// Where these statements are sent, out of reach of whoever can write the log. Default: nowhere.
    pub anchor: Option<AnchorDocument>,
}

/// Whether requests are recorded.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Records {
    /// Each of them, under a seal.
    #[default]
    Sealed,
    /// None.
    Off,
}

/// How people are named in records.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Subjects {
    /// By the subject of their token.
    #[default]
    Plain,
    /// By a keyed pseudonym, which is the same in all records.
    Pseudonym,
}

/// Where the key of pseudonyms is.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PseudonymKeyDocument {
    /// Environment variable that holds it: at least 32 random bytes in Base64.
    pub env: String,
}

/// Who takes note of how far the records are: any HTTP server that keeps the bodies that are sent to it by POST.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AnchorDocument {
    /// Name of the Envoy cluster.
    pub cluster: String,
    /// Path on that cluster.
    pub path: String,
    /// `Host` of the request. Default: the name of the cluster.
    pub authority: Option<String>,
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

//! From what was written to what it means: the only way to get a policy that decides.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::approval::{ApprovalPolicy, ApprovalService, GateDefaults, approval_policy};
use super::audit::{AuditPolicy, audit_policy};
use super::check::{each, known_scope};
use super::document::{
    ApprovalDocument, AuthorizationForwarding, PolicyDocument, ProtocolDocument, Refusals, Risk, ScopeDocument,
    ServerRequest,
};
use super::issuers::issuers;
use super::parties::{Parties, directory};
use super::read::read;
use super::rules::rule_set;
use super::sessions::session_keys;
use super::{ConfigError, Endpoint, RevocationSource, Variables, keys};
use crate::grown::grown;
use crate::identity::Directory;
use crate::json;
use crate::jwt::{KeySource, TrustedIssuer};
use crate::limits;
use crate::mcp::{ClientFeature, Revision, RevisionSet};
use crate::oauth::{ResourceMetadata, ResourceUri, ScopeCatalogue, is_scope_token};
use crate::policy::RuleSet;
use crate::session::SessionKeys;
use crate::units::ByteCount;

/// A policy that was checked as a whole, in the form that requests are held against.
#[derive(Debug)]
pub struct CompiledPolicy {
    /// The protected resource.
    pub resource: ResourceUri,
    /// URL of its metadata document.
    pub metadata_url: String,
    /// The metadata document.
    pub metadata: Value,
    /// Scopes of the 401 challenge, separated by blanks; may be empty.
    pub initial_scopes: String,
    /// Revisions that clients may speak.
    pub revisions: RevisionSet,
    /// Largest request body.
    pub max_request_bytes: ByteCount,
    /// Web origins whose pages may call.
    pub allowed_origins: BTreeSet<String>,
    /// Whose tokens are accepted.
    pub issuers: Vec<TrustedIssuer>,
    /// Where the keys of each issuer come from, in the same order.
    pub key_sources: Vec<(KeySource, Option<Endpoint>)>,
    /// Scopes that no token may carry.
    pub refused_scopes: BTreeSet<String>,
    /// Who may call what.
    pub rules: RuleSet,
    /// What each side of a call may do.
    pub directory: Directory,
    /// Where the list of those who are cut off comes from, besides those in the directory.
    pub revocations: Option<RevocationSource>,
    /// Whether a call that the caller would not see in a list is refused as if its target did not exist.
    pub conceals: bool,
    /// What the upstream may ask of clients.
    pub server_requests: BTreeSet<ClientFeature>,
    /// Whether the upstream gets the token.
    pub keeps_authorization: bool,
    /// How session identifiers are sealed; without keys there are no sessions.
    pub sessions: SessionKeys,
    /// How requests are recorded; `None` for not at all.
    pub audit: Option<AuditPolicy>,
    /// Who is asked for approvals; `None` for nobody. Then there are [`Self::audit`] and keys in [`Self::sessions`].
    pub approval: Option<ApprovalPolicy>,
    /// SHA-256 of the document in canonical form, in hexadecimal.
    pub digest: String,
}

impl CompiledPolicy {
    /// Reads and compiles a policy document. `variables` are the environment variables, in which secrets are.
    ///
    /// # Errors
    /// The first defect, with its JSON path and what to do about it.
    pub fn from_json(bytes: &[u8], variables: &Variables<'_>) -> Result<Self, ConfigError> {
        let syntax = |error: &serde_json::Error| ConfigError::new(".", error.to_string(), "write valid JSON or YAML");
        json::parse(bytes, json::Checked::to_depth(limits::MAX_JSON_DEPTH)).map_err(|error| syntax(&error))?;
        let value: Value = serde_json::from_slice(bytes).map_err(|error| syntax(&error))?;
        let digest = digest(&value);
        let document: PolicyDocument = read(value).map_err(|defect| {
            ConfigError::new(defect.path(), defect.to_string(), "see the policy reference in README.md")
        })?;
        Self::compile(document, digest, variables)
    }

    /// SHA-256 of a document in canonical form, in hexadecimal, whether or not it is a policy; of its bytes if it is not
    /// even JSON.
    pub fn digest_of(document: &[u8]) -> String {
        match serde_json::from_slice(document) {
            Ok(value) => digest(&value),
            Err(_) => hexadecimal(&hmac_sha256::Hash::hash(document)),
        }
    }

    fn compile(document: PolicyDocument, digest: String, variables: &Variables<'_>) -> Result<Self, ConfigError> {
        let PolicyDocument {
            version: _,
            resource,
            protocol,
            authentication,
            scopes,
            refused_scopes,
            operators,
            agents,
            clients,
            revocation,
            refusals,
            server_requests,
            rules,
            forwarding,
            sessions,
            audit,
            approval,
        } = document;
        let uri = ResourceUri::parse(&resource.uri).map_err(|problem| {
            ConfigError::new("resource.uri", problem, "write the URL of the MCP endpoint as clients use it")
        })?;
        let catalogue = scope_catalogue(&scopes)?;
        let initial_scopes = initial_scopes(resource.initial_scopes, &scopes, &catalogue)?;
        each("refused_scopes", &refused_scopes, |path, name| refused_scope(&catalogue, path, name))?;
        let (issuers, key_sources) = issuers(authentication.jwt, &uri)?;
        let (revisions, max_request_bytes, allowed_origins) = protocol_settings(protocol)?;
        let longest = issuers.iter().map(|issuer| issuer.max_lifetime).max().unwrap_or_default();
        let parties = Parties { operators, agents, clients, revocation };
        let gates = GateDefaults::of(approval.as_ref())?;
        let (directory, revocations) = directory(parties, &catalogue, &issuers, &gates)?;
        let risks = grown(scopes.iter().map(|(name, scope)| (name.clone(), scope.risk)));
        let rules = rule_set(rules, catalogue, &risks, &gates, longest)?;
        let sessions = session_keys(sessions, variables)?;
        let audit = audit_policy(audit, &uri, &rules, variables)?;
        let approval =
            approval.map(|document| approvals(document, &sessions, audit.as_ref(), variables)).transpose()?;
        Ok(Self {
            metadata_url: uri.metadata_url(),
            metadata: metadata(&uri, &issuers, &initial_scopes, resource.name.as_deref()),
            initial_scopes: initial_scopes.join(" "),
            resource: uri,
            revisions,
            max_request_bytes,
            allowed_origins,
            issuers,
            key_sources,
            refused_scopes: grown(refused_scopes),
            rules,
            directory,
            revocations,
            conceals: refusals == Refusals::Concealed,
            audit,
            approval,
            sessions,
            server_requests: grown(server_requests.into_iter().map(client_feature)),
            keeps_authorization: forwarding.authorization == AuthorizationForwarding::Keep,
            digest,
        })
    }
}

/// Who is asked for approvals. What a call waits for is kept by its client, under a seal; and an approval that nobody can
/// look up was worth nothing.
fn approvals(
    document: ApprovalDocument,
    sessions: &SessionKeys,
    audit: Option<&AuditPolicy>,
    variables: &Variables<'_>,
) -> Result<ApprovalPolicy, ConfigError> {
    if sessions.is_empty() {
        return Err(keys::unset("approval", "TOOLGATE_SESSION_KEY"));
    }
    if audit.is_none() {
        return Err(ConfigError::new("audit.records", "is `off`, and approvals need records", "leave it out"));
    }
    let policy = approval_policy(document, variables)?;
    let is_key = |service: &ApprovalService| {
        sessions.keys().chain(audit.map(AuditPolicy::key)).any(|key| service.credential.is(key))
    };
    if policy.services.iter().any(is_key) {
        let problem = "is the key of sessions or of records, which nobody else may know";
        return Err(ConfigError::new("approval.token.env", problem, "make a credential of its own"));
    }
    Ok(policy)
}

fn metadata(uri: &ResourceUri, issuers: &[TrustedIssuer], scopes: &[String], name: Option<&str>) -> Value {
    let metadata = ResourceMetadata {
        resource: uri.as_str(),
        authorization_servers: issuers.iter().map(|issuer| issuer.issuer.as_str()).collect(),
        scopes_supported: scopes,
        bearer_methods_supported: ["header"],
        resource_name: name,
    };
    serde_json::to_value(&metadata).unwrap_or_default()
}

fn initial_scopes(
    names: Option<Vec<String>>,
    scopes: &BTreeMap<String, ScopeDocument>,
    catalogue: &ScopeCatalogue,
) -> Result<Vec<String>, ConfigError> {
    let Some(names) = names else {
        let low = scopes.iter().filter(|(_, scope)| scope.risk == Risk::Low);
        return Ok(low.map(|(name, _)| name.clone()).collect());
    };
    each("resource.initial_scopes", &names, |path, name| known_scope(catalogue, path, name))?;
    Ok(names)
}

const fn client_feature(request: ServerRequest) -> ClientFeature {
    match request {
        ServerRequest::Sampling => ClientFeature::Sampling,
        ServerRequest::Elicitation => ClientFeature::Elicitation,
        ServerRequest::Roots => ClientFeature::Roots,
    }
}

/// SHA-256 over the document with sorted members and whole doubles written as integers: the same for every way that a
/// control plane delivers it.
fn digest(document: &Value) -> String {
    fn canonical(value: &Value) -> Value {
        match value {
            Value::Number(number) => match number.as_f64() {
                Some(double) if double.fract() == 0.0 && double.abs() < 9e15 => {
                    format!("{double:.0}").parse::<i64>().map_or_else(|_| value.clone(), Value::from)
                }
                _ => value.clone(),
            },
            Value::Array(elements) => elements.iter().map(canonical).collect(),
            Value::Object(members) => {
                Value::Object(grown(members.iter().map(|(name, value)| (name.clone(), canonical(value)))))
            }
            Value::Null | Value::Bool(_) | Value::String(_) => value.clone(),
        }
    }
    hexadecimal(&hmac_sha256::Hash::hash(canonical(document).to_string().as_bytes()))
}

fn hexadecimal(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn scope_catalogue(scopes: &BTreeMap<String, ScopeDocument>) -> Result<ScopeCatalogue, ConfigError> {
    let implied: BTreeMap<String, Vec<String>> =
        grown(scopes.iter().map(|(name, scope)| (name.clone(), scope.implies.clone())));
    if implied.len() > limits::MAX_SCOPES {
        return Err(ConfigError::new(
            "scopes",
            format!("more than {} scopes", limits::MAX_SCOPES),
            "split the policy by resource",
        ));
    }
    let catalogue = ScopeCatalogue::new(&implied);
    for (name, implies) in &implied {
        let path = format!("scopes.{name}");
        if !is_scope_token(name) {
            return Err(ConfigError::new(
                path,
                "not a scope token",
                "use visible ASCII without blank, quote, backslash",
            ));
        }
        each(&format!("{path}.implies"), implies, |path, name| known_scope(&catalogue, path, name))?;
        if catalogue.is_cyclic(name, implies) {
            return Err(ConfigError::new(
                format!("{path}.implies"),
                "the scope implies itself through others",
                "remove one of the implications",
            ));
        }
    }
    Ok(catalogue)
}

fn refused_scope(catalogue: &ScopeCatalogue, path: String, name: &str) -> Result<(), ConfigError> {
    if !is_scope_token(name) {
        return Err(ConfigError::new(path, "not a scope token", "use visible ASCII without blank, quote, backslash"));
    }
    if catalogue.contains(name) {
        let problem = format!("`{name}` is declared under `scopes` too, and no token with it would be accepted");
        return Err(ConfigError::new(path, problem, "remove it from one of the two"));
    }
    Ok(())
}

fn protocol_settings(protocol: ProtocolDocument) -> Result<(RevisionSet, ByteCount, BTreeSet<String>), ConfigError> {
    let revisions: RevisionSet = match protocol.revisions {
        None => Revision::ALL.into_iter().collect(),
        Some(revisions) if revisions.is_empty() => {
            return Err(ConfigError::new("protocol.revisions", "is empty", "name at least one revision"));
        }
        Some(revisions) => revisions.into_iter().collect(),
    };
    let max = protocol.max_request_bytes.unwrap_or(limits::DEFAULT_REQUEST_BYTES);
    if max > limits::MAX_REQUEST_BYTES || max == ByteCount::new(0) {
        let remedy = format!("choose a value from 1 to {}", limits::MAX_REQUEST_BYTES.get());
        return Err(ConfigError::new("protocol.max_request_bytes", "is out of bounds", remedy));
    }
    each("protocol.allowed_origins", &protocol.allowed_origins, |path, origin| {
        let is_origin = ["https://", "http://"].iter().filter_map(|scheme| origin.strip_prefix(scheme)).any(|host| {
            !host.is_empty()
                && !host.contains(['/', '?', '#', '@', '*', ' '])
                && host.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase())
        });
        if is_origin {
            return Ok(());
        }
        Err(ConfigError::new(path, "not a web origin", "write scheme, host in lower case and port, with no path"))
    })?;
    Ok((revisions, max, grown(protocol.allowed_origins)))
}

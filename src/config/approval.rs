//! Approvals: who is asked, and what is asked of them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::check::{non_empty, within};
use super::document::{
    ApprovalDocument, ApprovalServiceDocument, ApprovalTokenDocument, EscalationDocument, GateDocument, ReasonDocument,
    Risk,
};
use super::{ConfigError, Endpoint, Variables, keys};
use crate::jwt::KeySet;
use crate::keys::NamedKey;
use crate::limits;
use crate::policy::{Escalation, Gate, Origin};
use crate::units::Seconds;

/// The variable that holds the gateway's credential, if no other one is named.
const DEFAULT_VARIABLE: &str = "TOOLGATE_APPROVAL_TOKEN";

/// Who is asked for approvals.
#[derive(Clone, Debug)]
pub struct ApprovalPolicy {
    /// The services, in the order in which they are asked: one or two.
    pub services: Vec<ApprovalService>,
    /// How long an answer may take, beside the time for which it is asked to wait.
    pub timeout: Seconds,
}

/// A service that asks people.
#[derive(Clone, Debug)]
pub struct ApprovalService {
    /// Where it is; the path is what comes before that of the contract.
    pub endpoint: Endpoint,
    /// `iss` of its decisions.
    pub issuer: String,
    /// Keys that it signs them with.
    pub keys: KeySet,
    /// URL that an approval's id is added to, for people.
    pub page: String,
    /// Shows the service that it is the gateway that asks.
    pub credential: Credential,
}

/// A secret that is sent as it stands.
#[derive(Clone, Eq, PartialEq)]
pub struct Credential(String);

impl Credential {
    /// Whether it is the same secret as a key.
    pub(super) fn is(&self, key: &NamedKey) -> bool {
        STANDARD_NO_PAD.encode(key.secret()) == self.0.trim_end_matches('=')
    }

    /// The value of the `authorization` header.
    pub fn header_value(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Credential(..)")
    }
}

/// What gates have that say nothing else, and what comes from risks.
#[derive(Debug, Default)]
pub(super) struct GateDefaults {
    /// `None` where nobody is asked.
    approvers: Option<Vec<String>>,
    is_asked: bool,
    hold: Seconds,
    expires: Seconds,
    risks: BTreeMap<Risk, Arc<Gate>>,
}

impl GateDefaults {
    pub(super) fn of(document: Option<&ApprovalDocument>) -> Result<Self, ConfigError> {
        let Some(document) = document else {
            // Nobody is asked, but what gates say must make sense.
            return Ok(Self { expires: limits::DEFAULT_APPROVAL_EXPIRY, ..Self::default() });
        };
        let hold = document.hold.unwrap_or(limits::DEFAULT_APPROVAL_HOLD);
        let expires = document.expires.unwrap_or(limits::DEFAULT_APPROVAL_EXPIRY);
        if let Some(approvers) = &document.approvers {
            roles("approval.approvers", approvers)?;
        }
        let mut defaults =
            Self { approvers: document.approvers.clone(), is_asked: true, hold, expires, risks: BTreeMap::new() };
        within_bounds("approval", hold, expires)?;
        for (risk, gate) in document.risk.iter() {
            let (path, name) = (format!("approval.risk.{}", risk.name()), risk.name().to_owned());
            only_here(&path, gate, Origin::Risk)?;
            let gate = defaults.gate(&path, Origin::Risk, name, gate)?;
            defaults.risks.insert(risk, Arc::new(gate));
        }
        Ok(defaults)
    }

    /// Whether there is anybody to ask.
    pub(super) const fn is_asked(&self) -> bool {
        self.is_asked
    }

    /// The gates of what a rule risks.
    pub(super) fn of_risks(&self, risks: impl Iterator<Item = Risk>) -> Vec<Arc<Gate>> {
        let mut risks: Vec<Risk> = risks.collect();
        risks.sort_unstable();
        risks.dedup();
        risks.iter().filter_map(|risk| self.risks.get(risk)).map(Arc::clone).collect()
    }

    /// A gate as it is written at `path`.
    pub(super) fn gate(
        &self,
        path: &str,
        origin: Origin,
        name: String,
        document: &GateDocument,
    ) -> Result<Gate, ConfigError> {
        let GateDocument { when: _, scopes: _, approvers, count, hold, expires, reason, escalate } = document;
        if let Some(approvers) = approvers {
            roles(&format!("{path}.approvers"), approvers)?;
        }
        let approvers = approvers.as_ref().or(self.approvers.as_ref());
        if self.is_asked && approvers.is_none() {
            let remedy = "name the roles of approvers here or in `approval.approvers`";
            return Err(ConfigError::new(format!("{path}.approvers"), "says of nobody who may approve", remedy));
        }
        let (hold, expires) = (hold.unwrap_or(self.hold), expires.unwrap_or(self.expires));
        if self.is_asked {
            within_bounds(path, hold, expires)?;
        }
        let count = count.unwrap_or(1);
        if !(1..=limits::MAX_APPROVALS).contains(&count) {
            let remedy = format!("choose a number from 1 to {}", limits::MAX_APPROVALS);
            return Err(ConfigError::new(format!("{path}.count"), "is out of bounds", remedy));
        }
        Ok(Gate {
            origin,
            name,
            approvers: approvers.cloned().unwrap_or_default(),
            count,
            hold,
            expires,
            needs_reason: *reason == ReasonDocument::Required,
            escalation: escalate.as_ref().map(|escalate| escalation(path, escalate, expires)).transpose()?,
        })
    }
}

/// What only some gates can say.
pub(super) fn only_here(path: &str, document: &GateDocument, origin: Origin) -> Result<(), ConfigError> {
    if document.when.is_some() && origin != Origin::Rule {
        return Err(ConfigError::new(format!("{path}.when"), "has no meaning here", "write it in a rule"));
    }
    if document.scopes.is_some() && origin != Origin::Agent {
        return Err(ConfigError::new(format!("{path}.scopes"), "has no meaning here", "write it in an agent role"));
    }
    Ok(())
}

fn escalation(path: &str, document: &EscalationDocument, expires: Seconds) -> Result<Escalation, ConfigError> {
    let EscalationDocument { after, approvers } = document;
    let path = format!("{path}.escalate");
    roles(&format!("{path}.approvers"), approvers)?;
    let last = Seconds::new(expires.get().saturating_sub(1));
    within(&format!("{path}.after"), *after, Seconds::new(1), last)?;
    Ok(Escalation { after: *after, approvers: approvers.clone() })
}

fn roles(path: &str, names: &[String]) -> Result<(), ConfigError> {
    non_empty(path, names)?;
    if names.len() > limits::MAX_APPROVER_ROLES {
        let remedy = format!("list at most {} roles", limits::MAX_APPROVER_ROLES);
        return Err(ConfigError::new(path, "is too long", remedy));
    }
    let is_plain = |name: &String| name.len() <= limits::MAX_APPROVER_ROLE_BYTES && !name.chars().any(char::is_control);
    match names.iter().position(|name| !is_plain(name)) {
        None => Ok(()),
        Some(index) => {
            let remedy = format!("write a role of at most {} bytes", limits::MAX_APPROVER_ROLE_BYTES);
            Err(ConfigError::new(format!("{path}[{index}]"), "is not the name of a role", remedy))
        }
    }
}

fn within_bounds(path: &str, hold: Seconds, expires: Seconds) -> Result<(), ConfigError> {
    within(&format!("{path}.hold"), hold, Seconds::default(), limits::MAX_APPROVAL_HOLD)?;
    within(&format!("{path}.expires"), expires, limits::MIN_APPROVAL_EXPIRY, limits::MAX_APPROVAL_EXPIRY)
}

pub(super) fn approval_policy(
    document: ApprovalDocument,
    variables: &Variables<'_>,
) -> Result<ApprovalPolicy, ConfigError> {
    let ApprovalDocument {
        cluster,
        path_prefix,
        authority,
        issuer,
        decision_keys,
        page,
        token,
        timeout,
        escalate_to,
        ..
    } = document;
    let timeout = timeout.unwrap_or(limits::DEFAULT_APPROVAL_TIMEOUT);
    within("approval.timeout", timeout, Seconds::new(1), limits::MAX_APPROVAL_TIMEOUT)?;
    let first = ApprovalService {
        endpoint: endpoint("approval", &cluster, path_prefix, authority)?,
        issuer: issuer_of("approval.issuer", issuer)?,
        keys: key_set("approval.decision_keys", &decision_keys)?,
        page: page_of("approval.page", page)?,
        credential: credential("approval.token", token, variables)?,
    };
    let mut services = vec![first];
    if let Some(document) = escalate_to {
        services.extend(services.first().map(|first| second(first, document, variables)).transpose()?);
    }
    Ok(ApprovalPolicy { services, timeout })
}

fn second(
    first: &ApprovalService,
    document: ApprovalServiceDocument,
    variables: &Variables<'_>,
) -> Result<ApprovalService, ConfigError> {
    let ApprovalServiceDocument { cluster, path_prefix, authority, issuer, decision_keys, page, token } = document;
    let path = "approval.escalate_to";
    Ok(ApprovalService {
        endpoint: endpoint(path, &cluster, path_prefix, authority)?,
        issuer: match issuer {
            Some(issuer) => issuer_of("approval.escalate_to.issuer", issuer)?,
            None => first.issuer.clone(),
        },
        keys: match decision_keys {
            Some(keys) => key_set("approval.escalate_to.decision_keys", &keys)?,
            None => first.keys.clone(),
        },
        page: match page {
            Some(page) => page_of("approval.escalate_to.page", page)?,
            None => first.page.clone(),
        },
        credential: match token {
            Some(token) => credential("approval.escalate_to.token", Some(token), variables)?,
            None => first.credential.clone(),
        },
    })
}

fn endpoint(
    path: &str,
    cluster: &str,
    prefix: Option<String>,
    authority: Option<String>,
) -> Result<Endpoint, ConfigError> {
    let prefix = prefix.unwrap_or_default();
    let authority = authority.unwrap_or_else(|| cluster.to_owned());
    if !prefix.is_empty() && (!prefix.starts_with('/') || prefix.ends_with('/') || prefix.contains(['?', '#'])) {
        let remedy = "write a path that starts with `/` and does not end with it";
        return Err(ConfigError::new(format!("{path}.path_prefix"), "is not the beginning of a path", remedy));
    }
    let whole = Endpoint::check(path, cluster, if prefix.is_empty() { "/" } else { &prefix }, authority)?;
    Ok(Endpoint { path: prefix, ..whole })
}

fn issuer_of(path: &str, issuer: String) -> Result<String, ConfigError> {
    if issuer.is_empty() || issuer.chars().any(|c| c.is_control() || c.is_whitespace()) {
        let remedy = "write the `iss` of its decisions exactly as they have it";
        return Err(ConfigError::new(path, "is empty or has blanks", remedy));
    }
    Ok(issuer)
}

fn key_set(path: &str, document: &serde_json::Value) -> Result<KeySet, ConfigError> {
    let unusable =
        |problem: String| ConfigError::new(path, problem, "write a JWK Set of public keys, each with a `kid`");
    let keys = KeySet::parse(document.to_string().as_bytes()).map_err(|error| unusable(error.to_string()))?;
    if keys.keys().is_empty() {
        return Err(unusable("no usable key".to_owned()));
    }
    // Unlike an issuer's, this set was written for the purpose: a key in it that is of no use is a mistake.
    let has_name = |key: &serde_json::Value| key.get("kid").is_some_and(serde_json::Value::is_string);
    let is_named =
        document.get("keys").and_then(serde_json::Value::as_array).is_some_and(|all| all.iter().all(has_name));
    if keys.skipped() > 0 || !is_named {
        return Err(unusable("a key that cannot be used, or without a `kid`".to_owned()));
    }
    Ok(keys)
}

/// A link for people. What it is made of besides is an id in base64url.
fn page_of(path: &str, page: String) -> Result<String, ConfigError> {
    let uri: Option<::http::Uri> = page.parse().ok();
    let is_local = |host: &str| matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    let is_usable = uri.as_ref().is_some_and(|uri| match (uri.scheme_str(), uri.host()) {
        (Some("https"), Some(_)) => true,
        (Some("http"), Some(host)) => is_local(host),
        _ => false,
    });
    if !is_usable || page.contains(['@', '#']) || page.len() > limits::MAX_URI_BYTES {
        let remedy =
            "write an `https` URL that an id can be added to, such as `https://approvals.example.com/approvals/`";
        return Err(ConfigError::new(path, "is not the URL of a page", remedy));
    }
    Ok(page)
}

fn credential(
    path: &str,
    document: Option<ApprovalTokenDocument>,
    variables: &Variables<'_>,
) -> Result<Credential, ConfigError> {
    let path = format!("{path}.env");
    let variable = document.map_or_else(|| DEFAULT_VARIABLE.to_owned(), |document| document.env);
    keys::check_variable(&path, &variable)?;
    let text = variables(&variable).ok_or_else(|| keys::unset(&path, &variable))?;
    // Only its form is looked at: the service compares the text.
    keys::default(&path, &variable, variables)?;
    Ok(Credential(text.trim().to_owned()))
}

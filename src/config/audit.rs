//! The audit trail: which keys seal it, and where it goes.

use super::check::within;
use super::document::{AnchorDocument, AuditDocument, PseudonymKeyDocument, Records, Subjects};
use super::redaction::redaction;
use super::{ConfigError, Endpoint, Variables, keys};
use crate::audit::outcome::Outcomes;
use crate::audit::redact::Redaction;
use crate::audit::{Pseudonyms, list};
use crate::keys::NamedKey;
use crate::limits;
use crate::oauth::{ResourceUri, ScopeSet};
use crate::policy::{Rule, RuleSet};
use crate::units::Seconds;

/// The variable that holds the key that needs no `audit.keys`.
const DEFAULT_VARIABLE: &str = "TOOLGATE_AUDIT_KEY";
/// The variable that holds the key of pseudonyms, if no other one is named.
const DEFAULT_PSEUDONYM_VARIABLE: &str = "TOOLGATE_PSEUDONYM_KEY";

/// How requests are recorded.
#[derive(Clone, Debug)]
pub struct AuditPolicy {
    key: NamedKey,
    /// Makes pseudonyms and keyed digests.
    pub pseudonyms: Pseudonyms,
    /// Whether a pseudonym takes the place of the subject.
    pub hides_subjects: bool,
    /// What of the arguments is written, and how.
    pub redaction: Redaction,
    /// What of results is written.
    pub outcomes: Outcomes,
    /// Whether records are written to the proxy's own log too.
    pub host_log: bool,
    /// Where checkpoints are sent.
    pub anchor: Option<Endpoint>,
    /// Time between two checkpoints.
    pub every: Seconds,
    /// The scopes of each rule, as a list in JSON; `None` where it asks for none.
    required: Box<[Option<Box<str>>]>,
}

impl AuditPolicy {
    /// The key that seals.
    pub const fn key(&self) -> &NamedKey {
        &self.key
    }

    /// The scopes that a rule asks for, in alphabetical order, as a list in JSON; `None` if there are none.
    pub fn required_scopes(&self, rule: usize) -> Option<&str> {
        self.required.get(rule)?.as_deref()
    }
}

pub(super) fn audit_policy(
    document: AuditDocument,
    resource: &ResourceUri,
    rules: &RuleSet,
    variables: &Variables<'_>,
) -> Result<Option<AuditPolicy>, ConfigError> {
    let AuditDocument {
        records,
        keys,
        pseudonym_key,
        subjects,
        arguments,
        outcomes,
        host_log,
        checkpoint_interval,
        anchor,
    } = document;
    let (redaction, outcomes) = redaction(arguments, outcomes, rules)?;
    if records == Records::Off {
        return Ok(None);
    }
    let key = match keys {
        Some(keys) => keys::listed("audit", &keys, variables)?.into_iter().next(),
        None => keys::default("audit", DEFAULT_VARIABLE, variables)?,
    };
    let key = key.ok_or_else(|| keys::unset("audit", DEFAULT_VARIABLE))?;
    let pseudonym_key = match pseudonym_key {
        Some(PseudonymKeyDocument { env }) => {
            let path = "audit.pseudonym_key.env";
            keys::check_variable(path, &env)?;
            let key = keys::default(path, &env, variables)?;
            Some(key.ok_or_else(|| keys::unset(path, &env))?)
        }
        None => keys::default("audit.pseudonym_key", DEFAULT_PSEUDONYM_VARIABLE, variables)?,
    };
    let pseudonyms = Pseudonyms::new(pseudonym_key.as_ref().unwrap_or(&key).secret(), resource.as_str());
    let every = checkpoint_interval.unwrap_or(limits::DEFAULT_CHECKPOINT_INTERVAL);
    within("audit.checkpoint_interval", every, Seconds::new(1), limits::MAX_CHECKPOINT_INTERVAL)?;
    Ok(Some(AuditPolicy {
        key,
        pseudonyms,
        hides_subjects: subjects == Subjects::Pseudonym,
        redaction,
        outcomes,
        host_log,
        anchor: anchor.map(endpoint).transpose()?,
        every,
        required: rules.rules.iter().map(|rule| required(rule, rules)).collect(),
    }))
}

fn required(rule: &Rule, rules: &RuleSet) -> Option<Box<str>> {
    let nothing = ScopeSet::default();
    let scopes: Vec<&str> = rules.scopes.missing(&rule.scopes, &nothing).collect();
    (!scopes.is_empty()).then(|| list(&scopes).into())
}

fn endpoint(document: AnchorDocument) -> Result<Endpoint, ConfigError> {
    let AnchorDocument { cluster, path, authority } = document;
    let authority = authority.unwrap_or_else(|| cluster.clone());
    Endpoint::check("audit.anchor", &cluster, &path, authority)
}

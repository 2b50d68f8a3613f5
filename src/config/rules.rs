//! Rules: what each target needs.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ConfigError;
use super::approval::{GateDefaults, only_here};
use super::check::{each, known_scope, non_empty, within};
use super::document::{Risk, RuleDocument, StepUpDocument};
use crate::jwt::ClaimPath;
use crate::limits;
use crate::oauth::ScopeCatalogue;
use crate::pattern::{Pattern, PatternMap};
use crate::policy::{ApprovalRule, Condition, Origin, Place, Rule, RuleSet, StepUp, Targets};
use crate::units::Seconds;

pub(super) fn rule_set(
    documents: Vec<RuleDocument>,
    scopes: ScopeCatalogue,
    risks: &BTreeMap<String, Risk>,
    gates: &GateDefaults,
    longest_lifetime: Seconds,
) -> Result<RuleSet, ConfigError> {
    let mut set = RuleSet { scopes, has_approvers: gates.is_asked(), ..RuleSet::default() };
    let mut targets = 0_usize;
    for (index, document) in documents.into_iter().enumerate() {
        let path = format!("rules[{index}]");
        let count = [&document.tools, &document.resources, &document.prompts].into_iter().map(Vec::len).sum::<usize>();
        let tenants = document.tenants.as_ref().map_or(1, Vec::len);
        targets = targets.saturating_add(count.saturating_mul(tenants));
        if targets > limits::MAX_RULE_TARGETS {
            let problem = format!("more than {} targets with the rules before", limits::MAX_RULE_TARGETS);
            return Err(ConfigError::new(path, problem, "use patterns, or split the policy by resource"));
        }
        if count == 0 {
            return Err(ConfigError::new(path, "can never match", "name `tools`, `resources` or `prompts`"));
        }
        match &document.tenants {
            None => insert(&mut set.targets, &path, &document, index)?,
            Some(tenants) => {
                non_empty(&format!("{path}.tenants"), tenants)?;
                for tenant in tenants {
                    insert(set.tenants.entry(tenant.clone()).or_default(), &path, &document, index)?;
                }
            }
        }
        let risk_gates = gates.of_risks(document.scopes.iter().filter_map(|name| risks.get(name)).copied());
        let rule = rule(&path, document, &set.scopes, gates, longest_lifetime)?;
        set.rules.push(Rule { risk_gates, ..rule });
    }
    Ok(set)
}

fn insert(targets: &mut Targets, path: &str, document: &RuleDocument, rule: usize) -> Result<(), ConfigError> {
    each_target(&mut targets.tools, &format!("{path}.tools"), &document.tools, rule)?;
    each_target(&mut targets.resources, &format!("{path}.resources"), &document.resources, rule)?;
    each_target(&mut targets.prompts, &format!("{path}.prompts"), &document.prompts, rule)
}

fn each_target(map: &mut PatternMap, path: &str, patterns: &[String], rule: usize) -> Result<(), ConfigError> {
    for (index, text) in patterns.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let pattern = Pattern::parse(text).ok_or_else(|| {
            ConfigError::new(path.clone(), format!("`{text}` is not a name or pattern"), "use at most one `*`")
        })?;
        if matches!(pattern, Pattern::Wildcard { .. }) && map.wildcard_count() >= limits::MAX_WILDCARDS {
            let problem = format!("more than {} patterns with `*`", limits::MAX_WILDCARDS);
            return Err(ConfigError::new(path, problem, "name targets exactly"));
        }
        map.insert(pattern, rule).map_err(|tie| {
            let problem = format!("`{text}` fits the same names as a pattern of rules[{}], equally specific", tie.with);
            ConfigError::new(path, problem, "make one of them more specific, or join the rules")
        })?;
    }
    Ok(())
}

fn rule(
    path: &str,
    document: RuleDocument,
    scopes: &ScopeCatalogue,
    gates: &GateDefaults,
    longest_lifetime: Seconds,
) -> Result<Rule, ConfigError> {
    each(&format!("{path}.scopes"), &document.scopes, |path, name| known_scope(scopes, path, name))?;
    if let Some(lifetime) = document.max_token_lifetime {
        within(&format!("{path}.max_token_lifetime"), lifetime, Seconds::new(1), longest_lifetime)?;
    }
    if let Some(pointer) = &document.tenant_argument {
        let path = format!("{path}.tenant_argument");
        if !pointer.starts_with('/') || ClaimPath::parse(pointer).is_none() {
            return Err(ConfigError::new(
                path,
                "is not a JSON Pointer to an argument",
                "write one such as `/tenant_id`",
            ));
        }
        if !document.resources.is_empty() {
            return Err(ConfigError::new(path, "resources have no arguments", "give them a rule of their own"));
        }
    }
    Ok(Rule {
        scopes: scopes.set(document.scopes.iter().map(String::as_str)),
        max_token_lifetime: document.max_token_lifetime,
        when: condition(path, document.when.as_deref(), Place::When)?,
        deny_when: condition(path, document.deny_when.as_deref(), Place::DenyWhen)?,
        authentication: document
            .authentication
            .map(|level| step_up(&format!("{path}.authentication"), level))
            .transpose()?,
        approval: match document.approval {
            None => None,
            Some(approval) => {
                let place = format!("{path}.approval");
                only_here(&place, &approval, Origin::Rule)?;
                let gate = gates.gate(&place, Origin::Rule, path.to_owned(), &approval)?;
                let when = condition(path, approval.when.as_deref(), Place::ApprovalWhen)?;
                Some(ApprovalRule { when, gate: Arc::new(gate) })
            }
        },
        risk_gates: Vec::new(),
        tenant_argument: document.tenant_argument,
    })
}

fn condition(path: &str, text: Option<&str>, place: Place) -> Result<Option<Condition>, ConfigError> {
    let Some(text) = text else { return Ok(None) };
    let compiled = Condition::compile(text, place);
    compiled.map(Some).map_err(|error| {
        let path = format!("{path}.{}", place.field());
        ConfigError::new(path, error.to_string(), "see the chapter on conditions in README.md")
    })
}

fn step_up(path: &str, document: StepUpDocument) -> Result<StepUp, ConfigError> {
    let StepUpDocument { acr, amr, max_age } = document;
    if acr.is_empty() && amr.is_empty() && max_age.is_none() {
        return Err(ConfigError::new(path, "asks for nothing", "name `acr`, `amr` or `max_age`"));
    }
    for (field, values) in [("acr", &acr), ("amr", &amr)] {
        each(&format!("{path}.{field}"), values, |path, value| {
            // RFC 9470 section 3 sends them in a challenge, separated by blanks.
            if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\') {
                return Ok(());
            }
            Err(ConfigError::new(
                path,
                "cannot be part of a challenge",
                "use visible ASCII without blank, quote, backslash",
            ))
        })?;
    }
    if let Some(max_age) = max_age {
        within(&format!("{path}.max_age"), max_age, Seconds::new(1), limits::MAX_TOKEN_LIFETIME)?;
    }
    Ok(StepUp { acr, amr, max_age })
}

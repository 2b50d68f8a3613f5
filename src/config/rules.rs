//! Rules: what each target needs.

use super::ConfigError;
use super::check::{each, known_scope, within};
use super::document::RuleDocument;
use crate::limits;
use crate::policy::{Pattern, PatternMap, Rule, RuleSet, ScopeCatalogue};
use crate::units::Seconds;

pub(super) fn rule_set(
    documents: &[RuleDocument],
    scopes: ScopeCatalogue,
    longest_lifetime: Seconds,
) -> Result<RuleSet, ConfigError> {
    let mut set = RuleSet { scopes, ..RuleSet::default() };
    let mut targets = 0_usize;
    for (index, document) in documents.iter().enumerate() {
        let path = format!("rules[{index}]");
        let lists = [("tools", &document.tools), ("resources", &document.resources), ("prompts", &document.prompts)];
        let count: usize = lists.iter().map(|(_, list)| list.len()).sum();
        targets = targets.saturating_add(count);
        if targets > limits::MAX_RULE_TARGETS {
            let problem = format!("more than {} targets with the rules before", limits::MAX_RULE_TARGETS);
            return Err(ConfigError::new(path, problem, "use patterns, or split the policy by resource"));
        }
        if count == 0 {
            return Err(ConfigError::new(path, "can never match", "name `tools`, `resources` or `prompts`"));
        }
        for (kind, patterns) in lists {
            let map = match kind {
                "tools" => &mut set.tools,
                "resources" => &mut set.resources,
                _ => &mut set.prompts,
            };
            each_target(map, &format!("{path}.{kind}"), patterns, index)?;
        }
        each(&format!("{path}.scopes"), &document.scopes, |path, name| known_scope(&set.scopes, path, name))?;
        if let Some(lifetime) = document.max_token_lifetime {
            within(&format!("{path}.max_token_lifetime"), lifetime, Seconds::new(1), longest_lifetime)?;
        }
        let scopes = set.scopes.set(document.scopes.iter().map(String::as_str));
        set.rules.push(Rule { scopes, max_token_lifetime: document.max_token_lifetime });
    }
    Ok(set)
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

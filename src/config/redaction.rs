//! What audit records show of arguments and results.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ConfigError;
use crate::audit::outcome::{OutcomeFields, Outcomes};
use crate::audit::redact::{Redaction, ToolRedaction, Treatment};
use crate::audit::{ByTool, Pointer};
use crate::limits;
use crate::pattern::Pattern;
use crate::policy::RuleSet;

type Members<T> = BTreeMap<String, T>;

pub(super) fn redaction(
    arguments: Members<Members<Treatment>>,
    outcomes: Members<Members<String>>,
    rules: &RuleSet,
) -> Result<(Redaction, Outcomes), ConfigError> {
    let redaction = by_tool("audit.arguments", arguments, rules, tool_redaction)?;
    Ok((redaction, by_tool("audit.outcomes", outcomes, rules, outcome_fields)?))
}

fn by_tool<D, T>(
    path: &str,
    documents: Members<D>,
    rules: &RuleSet,
    compile: impl Fn(&str, D) -> Result<T, ConfigError>,
) -> Result<ByTool<T>, ConfigError> {
    if documents.len() > limits::MAX_AUDIT_TOOLS {
        let problem = format!("more than {} tools and patterns", limits::MAX_AUDIT_TOOLS);
        return Err(ConfigError::new(path, problem, "use patterns"));
    }
    let mut compiled = ByTool::default();
    let mut before: Vec<String> = Vec::new();
    for (tools, document) in documents {
        let path = format!("{path}.{tools}");
        let pattern = Pattern::parse(&tools).ok_or_else(|| {
            ConfigError::new(path.as_str(), format!("`{tools}` is not a name or pattern"), "use at most one `*`")
        })?;
        if !rules.has_tool(&pattern) {
            let problem = format!("no rule is for a tool that `{tools}` fits");
            return Err(ConfigError::new(path, problem, "correct it, or name the tool under `rules`"));
        }
        compiled.insert(pattern, compile(&path, document)?).map_err(|tie| {
            let other = before.get(tie.with).map_or("", String::as_str);
            let problem = format!("`{tools}` fits the same names as `{other}`, equally specific");
            ConfigError::new(path, problem, "make one of them more specific, or join them")
        })?;
        before.push(tools);
    }
    Ok(compiled)
}

fn tool_redaction(path: &str, treatments: Members<Treatment>) -> Result<ToolRedaction, ConfigError> {
    let rule = |(text, treatment): (String, Treatment)| {
        let path = format!("{path}.{text}");
        if text == "/" {
            let remedy = "write the empty text `\"\"` for all arguments";
            return Err(ConfigError::new(path, "is for an argument without a name", remedy));
        }
        Ok((pointer(path, &text)?, treatment))
    };
    let rules = treatments.into_iter().map(rule).collect::<Result<_, _>>()?;
    ToolRedaction::new(rules).ok_or_else(|| too_many(path, "pointers"))
}

fn outcome_fields(path: &str, fields: Members<String>) -> Result<Arc<OutcomeFields>, ConfigError> {
    let field = |(name, text): (String, String)| {
        let path = format!("{path}.{name}");
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        if !(1..=limits::MAX_OUTCOME_NAME_BYTES).contains(&name.len()) || !name.bytes().all(is_plain) {
            let remedy = "choose 1 to 64 characters A-Z, a-z, 0-9, `_`, `.`, `-`";
            return Err(ConfigError::new(path, format!("`{name}` is not a name for an outcome"), remedy));
        }
        let pointer = pointer(path.clone(), &text)?;
        if pointer.is_whole() || pointer.has_wildcard() {
            let remedy = "write a pointer to one string, number or boolean, with elements by their number";
            return Err(ConfigError::new(path, format!("`{text}` is not for a single value"), remedy));
        }
        Ok((name, pointer))
    };
    let fields = fields.into_iter().map(field).collect::<Result<_, _>>()?;
    OutcomeFields::new(fields).map(Arc::new).ok_or_else(|| too_many(path, "names"))
}

fn pointer(path: String, text: &str) -> Result<Pointer, ConfigError> {
    Pointer::parse(text).ok_or_else(|| {
        let problem = format!(
            "`{text}` is not a JSON Pointer of at most {} parts and {} bytes",
            limits::MAX_POINTER_TOKENS,
            limits::MAX_POINTER_BYTES
        );
        ConfigError::new(path, problem, "write one such as `/contacts/0/id`, with `~1` for `/` and `~0` for `~`")
    })
}

fn too_many(path: &str, what: &str) -> ConfigError {
    ConfigError::new(path, format!("more than {} {what}", limits::MAX_AUDIT_POINTERS), "name what you need most")
}

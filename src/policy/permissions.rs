//! What a caller may do, told to the caller itself.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Value, json};

use super::decide::{Approval, Duties, Subject, prospect, standing};
use super::{Denial, Effort, RuleSet, StepUp};
use crate::identity::{Directory, Failure, Side, Why};
use crate::limits;
use crate::mcp::Target;

/// The effective permissions of a caller.
#[derive(Debug, Serialize)]
pub struct Permissions {
    /// What speaks against the caller whatever it asks for; if there is anything, nothing else is allowed.
    pub objections: Vec<Value>,
    /// Tools that it may call.
    pub tools: Vec<Value>,
    /// Resources that it may read.
    pub resources: Vec<Value>,
    /// Prompts that it may get.
    pub prompts: Vec<Value>,
    /// What it may not, with what is missing; absent where the policy conceals it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unavailable: Option<Vec<Value>>,
    /// Whether there is more than could be told.
    pub truncated: bool,
}

/// Says what a caller may do, as far as rules name it: patterns stand for themselves.
///
/// `reveals`: whether what the caller may not do is told too. At most [`limits::MAX_PERMISSIONS`] targets are told.
pub fn permissions(rules: &RuleSet, directory: &Directory, subject: Subject<'_>, reveals: bool) -> Permissions {
    let mut told = Permissions {
        objections: standing(directory, subject).iter().map(Failure::to_json).collect(),
        tools: Vec::new(),
        resources: Vec::new(),
        prompts: Vec::new(),
        unavailable: reveals.then(Vec::new),
        truncated: false,
    };
    let effort = Effort::default();
    let mut left = limits::MAX_PERMISSIONS;
    let mut seen = BTreeSet::new();
    for (kind, text) in rules.named(subject.principal.tenant()) {
        // The tenant's own rules may be about the same targets as those for all.
        if !seen.insert((kind, text.clone())) {
            continue;
        }
        let Some(fewer) = left.checked_sub(1) else {
            told.truncated = true;
            break;
        };
        left = fewer;
        let (list, target, member) = match kind {
            Kind::Tool => (&mut told.tools, Target::Tool(Cow::Borrowed(&text)), "tool"),
            Kind::Resource => (&mut told.resources, Target::Resources(vec![Cow::Borrowed(&text)]), "resource"),
            Kind::Prompt => (&mut told.prompts, Target::Prompt(Cow::Borrowed(&text)), "prompt"),
        };
        match prospect(rules, directory, subject, &effort, &target) {
            Ok(duties) => list.push(available(kind, &text, &duties)),
            Err(denial) => {
                if let Some(unavailable) = &mut told.unavailable {
                    unavailable.push(json!({member: text, "needs": needs(rules, directory, &denial)}));
                }
            }
        }
    }
    told
}

/// What a rule names.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Kind {
    Tool,
    Resource,
    Prompt,
}

impl RuleSet {
    /// All names and patterns of rules for callers of this tenant.
    fn named(&self, tenant: Option<&str>) -> impl Iterator<Item = (Kind, String)> {
        let own = tenant.and_then(|tenant| self.tenants.get(tenant));
        std::iter::once(&self.targets).chain(own).flat_map(|targets| {
            let maps =
                [(Kind::Tool, &targets.tools), (Kind::Resource, &targets.resources), (Kind::Prompt, &targets.prompts)];
            maps.into_iter().flat_map(|(kind, map)| map.texts().map(move |text| (kind, text)))
        })
    }
}

fn available(kind: Kind, text: &str, duties: &Duties) -> Value {
    let name = if kind == Kind::Resource { "uri" } else { "name" };
    match duties.to_json() {
        None => json!({name: text}),
        Some(duties) => json!({name: text, "duties": duties}),
    }
}

impl Duties {
    /// The duties for the caller; `None` when there are none.
    pub fn to_json(&self) -> Option<Value> {
        if *self == Self::default() {
            return None;
        }
        let mut duties = serde_json::Map::new();
        let approval = match self.approval {
            Approval::None => None,
            Approval::Possible => Some("possible"),
            Approval::Required => Some("required"),
        };
        duties.extend(approval.map(|approval| ("approval".to_owned(), approval.into())));
        if let Some(StepUp { acr, amr, max_age }) = &self.step_up {
            let mut step_up = serde_json::Map::new();
            for (name, values) in [("acr_values", acr), ("amr_values", amr)] {
                if !values.is_empty() {
                    step_up.insert(name.to_owned(), json!(values));
                }
            }
            step_up.extend(max_age.map(|max_age| ("max_age".to_owned(), max_age.get().into())));
            duties.insert("step_up".to_owned(), Value::Object(step_up));
        }
        Some(Value::Object(duties))
    }
}

/// What is missing, on which side.
fn needs(rules: &RuleSet, directory: &Directory, denial: &Denial) -> Vec<Value> {
    let token = Side::Token.name();
    match denial {
        Denial::NotPermitted(failures) => failures.iter().map(|failure| need(rules, directory, failure)).collect(),
        Denial::InsufficientScope { missing, .. } => {
            vec![json!({"side": token, "reason": "missing_scopes", "missing_scopes": missing})]
        }
        Denial::TokenLifetime { at_most } => {
            vec![json!({"side": token, "reason": denial.reason(), "max_lifetime": at_most.get()})]
        }
        Denial::NoRule
        | Denial::AmbiguousUri
        | Denial::TaskNotBound
        | Denial::OtherTenant
        | Denial::Condition
        | Denial::InsufficientAuthentication(_)
        | Denial::ApprovalUnavailable
        | Denial::ApprovalInBatch => vec![json!({"reason": denial.reason()})],
    }
}

/// What a side needs; for a person, also the operator roles that have it.
fn need(rules: &RuleSet, directory: &Directory, failure: &Failure) -> Value {
    let Failure { side: Side::Person, why: Why::MissingScopes(missing) } = failure else { return failure.to_json() };
    let scopes = rules.scopes.set(missing.iter().map(String::as_str));
    let having = directory.operators.iter().flatten().filter(|operator| scopes.is_subset_of(&operator.scopes));
    let roles: Vec<&str> = having.map(|operator| operator.name.as_str()).collect();
    json!({"side": failure.side.name(), "reason": failure.why.code(), "missing_scopes": missing, "roles": roles})
}

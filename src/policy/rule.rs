//! Rules: what a policy asks for its targets.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::jwt::Attributes;
use crate::limits;
use crate::mcp::Target;
use crate::oauth::{ScopeCatalogue, ScopeSet};
use crate::pattern::{Match, Pattern, PatternMap};
use crate::units::{Seconds, UnixSeconds};

use super::condition::Condition;
use super::plain_uri::is_plain;
use super::{Denial, Gate};

/// What a policy asks of a caller for the targets of one rule.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// Scopes that every side must have, all of them.
    pub scopes: ScopeSet,
    /// Longest lifetime (`exp - iat`) of a token that may be used here.
    pub max_token_lifetime: Option<Seconds>,
    /// What must hold besides.
    pub when: Option<Condition>,
    /// What must not hold.
    pub deny_when: Option<Condition>,
    /// How the person must have been authenticated.
    pub authentication: Option<StepUp>,
    /// Which calls a person must approve.
    pub approval: Option<ApprovalRule>,
    /// Gates of the risks of its scopes.
    pub risk_gates: Vec<Arc<Gate>>,
    /// JSON Pointer (RFC 6901) to the argument that must be the caller's tenant.
    pub tenant_argument: Option<String>,
}

impl Rule {
    /// Whether any of its conditions may come out differently for two of its targets.
    pub(super) fn looks_at_target(&self) -> bool {
        let approval = self.approval.as_ref().and_then(|approval| approval.when.as_ref());
        [self.when.as_ref(), self.deny_when.as_ref(), approval].into_iter().flatten().any(Condition::depends_on_target)
    }
}

/// Which calls need an approval.
#[derive(Clone, Debug)]
pub struct ApprovalRule {
    /// The calls for which this holds; `None` for all.
    pub when: Option<Condition>,
    /// Who must approve them.
    pub gate: Arc<Gate>,
}

/// A level of authentication that a rule asks for (RFC 9470).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct StepUp {
    /// Accepted `acr` values, any of which will do; empty for any.
    pub acr: Vec<String>,
    /// Methods (`amr`) that must all have been used.
    pub amr: Vec<String>,
    /// Longest time since the authentication.
    pub max_age: Option<Seconds>,
}

impl StepUp {
    /// Whether a person was authenticated like that. What the token does not say was not so.
    pub fn is_met(&self, attributes: &Attributes, now: UnixSeconds) -> bool {
        let has_class = attributes.acr.as_ref().is_some_and(|acr| self.acr.iter().any(|known| **known == **acr));
        let has_method = |method: &String| attributes.amr.iter().any(|used| **used == **method);
        let is_recent = |max_age: Seconds| {
            attributes.auth_time.is_some_and(|at| {
                at <= now.plus(limits::CLOCK_SKEW) && now <= at.plus(max_age).plus(limits::CLOCK_SKEW)
            })
        };
        (self.acr.is_empty() || has_class) && self.amr.iter().all(has_method) && self.max_age.is_none_or(is_recent)
    }
}

/// The rules of a policy, ready to be asked.
#[derive(Clone, Debug, Default)]
pub struct RuleSet {
    /// The rules, in the order of the document.
    pub rules: Vec<Rule>,
    /// Rules for callers of every tenant, and of none.
    pub targets: Targets,
    /// Rules for callers of one tenant only.
    pub tenants: BTreeMap<String, Targets>,
    /// The declared scopes.
    pub scopes: ScopeCatalogue,
    /// Whether there is anybody to ask for approvals. Without, what needs one is denied.
    pub has_approvers: bool,
}

/// Rules by what they are about.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    /// By tool name.
    pub tools: PatternMap,
    /// By prompt name.
    pub prompts: PatternMap,
    /// By resource URI.
    pub resources: PatternMap,
}

impl RuleSet {
    /// The most specific rule for a tool.
    pub(super) fn of_tool(&self, tenant: Option<&str>, name: &str) -> Result<&Rule, Denial> {
        self.rule(self.find(tenant, |targets| targets.tools.find(name)))
    }

    /// Whether any rule is for a tool of which the name fits a pattern.
    pub fn has_tool(&self, pattern: &Pattern) -> bool {
        let all = self.tenants.values().chain([&self.targets]);
        all.map(|targets| &targets.tools).any(|tools| tools.meets(pattern))
    }

    /// The most specific rule for a prompt.
    pub(super) fn of_prompt(&self, tenant: Option<&str>, name: &str) -> Result<&Rule, Denial> {
        self.rule(self.find(tenant, |targets| targets.prompts.find(name)))
    }

    /// The most specific rule for a resource. A pattern speaks for URIs that can be read in one way only.
    pub(super) fn of_resource(&self, tenant: Option<&str>, uri: &str) -> Result<&Rule, Denial> {
        self.rule(self.find_resource(tenant, uri)?)
    }

    /// The places, in the policy's list, of the rules that decide about a target: one for each name or URI, `None` where
    /// there is no rule for it.
    pub fn places(&self, tenant: Option<&str>, target: &Target<'_>) -> Vec<Option<usize>> {
        match target {
            Target::Tool(_) | Target::Prompt(_) => vec![self.find_rule(tenant, target).map(|found| found.rule)],
            Target::Resources(uris) => {
                let place = |found: Option<Match>| found.map(|found| found.rule);
                uris.iter().map(|uri| self.find_resource(tenant, uri).ok().and_then(place)).collect()
            }
            Target::Protocol | Target::Task => Vec::new(),
        }
    }

    fn find_resource(&self, tenant: Option<&str>, uri: &str) -> Result<Option<Match>, Denial> {
        let found = self.find(tenant, |targets| targets.resources.find(uri));
        if found.is_some_and(|found| !found.exact && !is_plain(uri)) {
            return Err(Denial::AmbiguousUri);
        }
        Ok(found)
    }

    /// What decides about a target; of several resources, about the first one.
    pub fn find_rule(&self, tenant: Option<&str>, target: &Target<'_>) -> Option<Match> {
        match target {
            Target::Tool(name) => self.find(tenant, |targets| targets.tools.find(name)),
            Target::Prompt(name) => self.find(tenant, |targets| targets.prompts.find(name)),
            Target::Resources(uris) => self.find_resource(tenant, uris.first()?).ok()?,
            Target::Protocol | Target::Task => None,
        }
    }

    /// Of two equally specific rules the tenant's own counts.
    fn find(&self, tenant: Option<&str>, find: impl Fn(&Targets) -> Option<Match>) -> Option<Match> {
        let shared = find(&self.targets);
        let own = tenant.and_then(|tenant| self.tenants.get(tenant)).and_then(find);
        match (own, shared) {
            (Some(own), Some(shared)) if (shared.exact, shared.literal) > (own.exact, own.literal) => Some(shared),
            (own, shared) => own.or(shared),
        }
    }

    fn rule(&self, found: Option<Match>) -> Result<&Rule, Denial> {
        found.and_then(|found| self.rules.get(found.rule)).ok_or(Denial::NoRule)
    }
}

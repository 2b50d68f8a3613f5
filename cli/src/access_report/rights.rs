//! What the parties of a policy may do.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use toolgate::identity::Client;
use toolgate::oauth::{ScopeCatalogue, ScopeSet};
use toolgate::pattern::Pattern;

use super::model::{PartyKind, RuleTarget};
use crate::judge::What;
use crate::policy_file::PolicyFile;

/// The name of a party.
pub(super) type PartyKey = (PartyKind, String);

/// What a party may do.
#[derive(Debug)]
pub(super) struct Rights {
    /// `None`: it has no limit of its own.
    pub(super) scopes: Option<BTreeSet<String>>,
    pub(super) targets: BTreeSet<RuleTarget>,
}

/// The rules of a policy by what they name, and what they ask for.
#[derive(Debug)]
pub(super) struct Rules {
    rules: Vec<RuleOf>,
}

/// What a rule asks for, and what it names.
#[derive(Debug)]
struct RuleOf {
    scopes: BTreeSet<String>,
    targets: Vec<(RuleTarget, Pattern)>,
}

impl Rules {
    pub(super) fn of(policy: &PolicyFile) -> Self {
        let catalogue = &policy.compiled.rules.scopes;
        let documents = policy.document.get("rules").and_then(Value::as_array).into_iter().flatten();
        let rule = |(rule, (compiled, document)): (usize, (&toolgate::policy::Rule, &Value))| {
            let named = [("tool", "tools"), ("resource", "resources"), ("prompt", "prompts")].into_iter().flat_map(
                |(kind, member)| {
                    texts(document.get(member)).map(move |name| RuleTarget { rule, kind, name: name.to_owned() })
                },
            );
            let targets = named.filter_map(|target| Pattern::parse(&target.name).map(|pattern| (target, pattern)));
            RuleOf { scopes: names(catalogue, &compiled.scopes), targets: targets.collect() }
        };
        Self { rules: policy.compiled.rules.rules.iter().zip(documents).enumerate().map(rule).collect() }
    }

    /// The scopes that a rule asks for.
    pub(super) fn scopes(&self, place: usize) -> Option<&BTreeSet<String>> {
        self.rules.get(place).map(|rule| &rule.scopes)
    }

    /// What of a rule names a target: the most specific one that fits.
    pub(super) fn target(&self, place: usize, what: &What) -> Option<&RuleTarget> {
        let (kind, name) = match what {
            What::Tool(name) => ("tool", name),
            What::Prompt(name) => ("prompt", name),
            What::Resource(uri) => ("resource", uri),
            What::Protocol | What::Task => return None,
        };
        let fitting =
            self.rules.get(place)?.targets.iter().filter(|(target, pattern)| target.kind == kind && pattern.fits(name));
        fitting.max_by_key(|(_, pattern)| specificity(pattern)).map(|(target, _)| target)
    }

    /// The targets of all rules for which these scopes suffice; `None` suffices for all.
    fn within(&self, scopes: Option<&BTreeSet<String>>) -> BTreeSet<RuleTarget> {
        let suffices = |needed: &BTreeSet<String>| scopes.is_none_or(|scopes| needed.is_subset(scopes));
        let rules = self.rules.iter().filter(|rule| suffices(&rule.scopes));
        rules.flat_map(|rule| rule.targets.iter().map(|(target, _)| target.clone())).collect()
    }
}

fn specificity(pattern: &Pattern) -> (bool, usize) {
    match pattern {
        Pattern::Exact(name) => (true, name.len()),
        Pattern::Wildcard { prefix, suffix } => (false, prefix.len().saturating_add(suffix.len())),
    }
}

/// The names in a set of scopes.
pub(super) fn names(catalogue: &ScopeCatalogue, set: &ScopeSet) -> BTreeSet<String> {
    catalogue.missing(set, &ScopeSet::default()).map(str::to_owned).collect()
}

/// The strings of a list.
pub(super) fn texts(list: Option<&Value>) -> impl Iterator<Item = &str> {
    list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// What all parties of a policy may do.
pub(super) fn rights(policy: &PolicyFile, rules: &Rules) -> BTreeMap<PartyKey, Rights> {
    let directory = &policy.compiled.directory;
    let catalogue = &policy.compiled.rules.scopes;
    let of = |scopes: &ScopeSet| {
        let scopes = names(catalogue, scopes);
        Rights { targets: rules.within(Some(&scopes)), scopes: Some(scopes) }
    };
    let operators = directory.operators.iter().flatten();
    let operators = operators.map(|role| ((PartyKind::Operator, role.name.clone()), of(&role.scopes)));
    let agents = directory.agents.iter().flatten();
    let agents = agents.map(|role| ((PartyKind::Agent, role.name.clone()), of(&role.scopes)));
    let clients = directory.clients.iter().flatten();
    let clients =
        clients.map(|(id, client)| ((PartyKind::Client, id.clone()), rights_of_client(client, catalogue, rules)));
    operators.chain(agents).chain(clients).collect()
}

fn rights_of_client(client: &Client, catalogue: &ScopeCatalogue, rules: &Rules) -> Rights {
    let consent = client.consent.as_ref();
    let limits = [client.scopes.as_ref(), consent.and_then(|consent| consent.scopes.as_ref())];
    let limits = limits.into_iter().flatten().map(|scopes| names(catalogue, scopes));
    let scopes = limits.reduce(|one, other| &one & &other);
    let lists = [client.tools.as_ref(), consent.and_then(|consent| consent.tools.as_ref())];
    let mut targets = rules.within(scopes.as_ref());
    let is_listed = |tool: &str| lists.iter().flatten().all(|list| list.contains(tool));
    targets.retain(|target| target.kind != "tool" || is_listed(&target.name));
    Rights { scopes, targets }
}

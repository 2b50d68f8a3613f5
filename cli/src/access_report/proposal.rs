//! A smaller policy: without the scopes that nobody has used.
//!
//! Only lists of scopes change: those of operator roles, agent roles, registrations and consents. An entry that was
//! used stays; a pattern, or a broad scope of which only a part was used, gives way to what was used, if that is less.
//! The edits are made in the text, and what comes out is held against what was meant, so comments and form are kept and
//! an edit that would do something else is not made.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use similar::TextDiff;
use toolgate::oauth::ScopeCatalogue;
use toolgate::pattern::Pattern;

use super::edit::{self, Edit, Fate};
use super::model::{ListChange, PartyKind, Proposal};
use super::rights::{PartyKey, Rights, names, texts};
use super::usage::{PartyUsage, Usage};
use super::yaml::Node;
use crate::policy_file::PolicyFile;

/// A proposal, and the policy that it would make.
#[derive(Debug)]
pub(super) struct Proposed {
    pub(super) proposal: Proposal,
    /// `None` if there is nothing to change.
    pub(super) policy: Option<PolicyFile>,
}

/// A list that could be shorter.
struct Narrowing {
    path: Vec<String>,
    fates: Vec<Fate>,
    change: ListChange,
}

/// Proposes a smaller policy.
pub(super) fn propose(policy: &PolicyFile, rights: &BTreeMap<PartyKey, Rights>, usage: &Usage) -> Proposed {
    let nothing = PartyUsage::default();
    let mut advice = Vec::new();
    let mut narrowings = Vec::new();
    for (key, rights) in rights {
        let used = usage.parties.get(key).unwrap_or(&nothing);
        let (kind, name) = key;
        if used.opaque > 0 {
            advice.push(format!(
                "{} `{name}`: {} allowed requests do not say any more what they needed, so its scopes were left alone",
                kind.text(),
                used.opaque
            ));
            continue;
        }
        if used.allowed == 0 {
            advice.push(format!("{} `{name}`: nothing was allowed to it; is it still needed?", kind.text()));
        }
        let used = used.scopes.keys().cloned().collect();
        narrowings.extend(lists(*kind, name).into_iter().filter_map(|path| narrow(policy, path, rights, &used)));
    }
    if usage.unattributed > 0 {
        advice.push(format!(
            "{} allowed requests of people who were erased name roles that this policy does not have: what they need \
             may be missing",
            usage.unattributed
        ));
    }
    let (text, made) = make(policy, narrowings, &mut advice);
    let mut proposal = Proposal { advice, ..Proposal::default() };
    if made.is_empty() {
        return Proposed { proposal, policy: None };
    }
    proposal.diff = diff(policy, &text);
    proposal.changes = made;
    Proposed { proposal, policy: PolicyFile::parse(&policy.path, text).ok() }
}

/// Where the scopes of a party are listed.
fn lists(kind: PartyKind, name: &str) -> Vec<Vec<String>> {
    let path = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    match kind {
        PartyKind::Operator => vec![path(&["operators", name, "scopes"])],
        PartyKind::Agent => vec![path(&["agents", name, "scopes"])],
        PartyKind::Client => {
            vec![path(&["clients", name, "scopes"]), path(&["clients", name, "consent", "scopes"])]
        }
    }
}

/// What could become of a list, if it can be less than it is.
fn narrow(policy: &PolicyFile, path: Vec<String>, rights: &Rights, used: &BTreeSet<String>) -> Option<Narrowing> {
    let catalogue = &policy.compiled.rules.scopes;
    let value = path.iter().try_fold(&policy.document, |value, name| value.get(name))?;
    let entries: Vec<String> = texts(Some(value)).map(str::to_owned).collect();
    let all = spanned(catalogue, &entries);
    // Not all that the entries stand for, where a role has exceptions.
    let excepted: BTreeSet<String> = match path.first().map(String::as_str) {
        Some("operators" | "agents") => rights.scopes.as_ref().map(|scopes| without(&all, scopes)),
        Some(_) | None => None,
    }
    .unwrap_or_default();
    let fates = fates(catalogue, &entries, &excepted, used);
    let after: Vec<String> = remaining(&entries, &fates).cloned().collect();
    let lost = without(&without(&all, &spanned(catalogue, &after)), &excepted);
    if lost.is_empty() {
        return None;
    }
    let changed = || entries.iter().zip(&fates).filter(|(_, fate)| **fate != Fate::Kept);
    let added = changed().filter_map(|(_, fate)| if let Fate::Becomes(texts) = fate { Some(texts) } else { None });
    let change = ListChange {
        path: path.join("."),
        removed: changed().map(|(entry, _)| entry.clone()).collect(),
        added: added.flatten().cloned().collect(),
        lost: lost.into_iter().collect(),
    };
    Some(Narrowing { path, fates, change })
}

/// All that entries stand for, with what it implies.
fn spanned(catalogue: &ScopeCatalogue, entries: &[String]) -> BTreeSet<String> {
    let patterns = entries.iter().filter_map(|entry| Pattern::parse(entry));
    let fitting: Vec<String> =
        patterns.flat_map(|pattern| catalogue.fitting(&pattern).map(str::to_owned).collect::<Vec<_>>()).collect();
    names(catalogue, &catalogue.granted(fitting.iter().map(String::as_str)))
}

fn without(scopes: &BTreeSet<String>, others: &BTreeSet<String>) -> BTreeSet<String> {
    scopes.difference(others).cloned().collect()
}

/// What becomes of each entry if only the scopes in `used` are needed.
fn fates(
    catalogue: &ScopeCatalogue,
    entries: &[String],
    excepted: &BTreeSet<String>,
    used: &BTreeSet<String>,
) -> Vec<Fate> {
    let is_used_by_name = |entry: &String| used.contains(entry) && !excepted.contains(entry);
    let kept: Vec<String> = entries.iter().filter(|entry| is_used_by_name(entry)).cloned().collect();
    let mut covered = spanned(catalogue, &kept);
    let fate = |entry: &String| {
        if is_used_by_name(entry) {
            return Fate::Kept;
        }
        let all = without(&spanned(catalogue, std::slice::from_ref(entry)), excepted);
        let needed: BTreeSet<String> =
            all.intersection(used).filter(|scope| !covered.contains(*scope)).cloned().collect();
        let needed = without_implied(catalogue, &needed);
        let instead = spanned(catalogue, &needed);
        covered.extend(instead.iter().cloned());
        if all.is_subset(&instead) && !needed.is_empty() { Fate::Kept } else { Fate::Becomes(needed) }
    };
    entries.iter().map(fate).collect()
}

/// Those scopes that none of the others implies.
fn without_implied(catalogue: &ScopeCatalogue, scopes: &BTreeSet<String>) -> Vec<String> {
    let is_implied = |scope: &String| {
        let mut others = scopes.iter().filter(|other| *other != scope);
        others.any(|other| spanned(catalogue, std::slice::from_ref(other)).contains(scope))
    };
    scopes.iter().filter(|scope| !is_implied(scope)).cloned().collect()
}

fn remaining<'a>(entries: &'a [String], fates: &'a [Fate]) -> impl Iterator<Item = &'a String> {
    entries.iter().zip(fates).flat_map(|(entry, fate)| match fate {
        Fate::Kept => std::slice::from_ref(entry),
        Fate::Becomes(texts) => texts,
    })
}

/// The text with all edits that can be made, and which those are. The others become advice.
fn make(policy: &PolicyFile, narrowings: Vec<Narrowing>, advice: &mut Vec<String>) -> (String, Vec<ListChange>) {
    let root = Node::parse(&policy.text);
    let edits_of = |narrowing: &Narrowing| edit::edits(&policy.text, root.as_ref()?, &narrowing.path, &narrowing.fates);
    let (possible, mut impossible): (Vec<_>, Vec<_>) = narrowings
        .into_iter()
        .map(|narrowing| (edits_of(&narrowing), narrowing))
        .partition(|(edits, _)| edits.is_some());
    let mut possible: Vec<(Vec<Edit>, Narrowing)> =
        possible.into_iter().filter_map(|(edits, narrowing)| Some((edits?, narrowing))).collect();
    let mut text = made(policy, &possible);
    if text.is_none() {
        // One of them does something else than it should, such as change a list that others refer to.
        let (right, wrong) = possible.into_iter().partition(|one| made(policy, std::slice::from_ref(one)).is_some());
        possible = right;
        impossible.extend(wrong.into_iter().map(|(_, narrowing): (Vec<Edit>, Narrowing)| (None, narrowing)));
        text = made(policy, &possible);
    }
    if text.is_none() {
        impossible.extend(possible.drain(..).map(|(_, narrowing)| (None, narrowing)));
    }
    advice.extend(impossible.iter().map(|(_, narrowing)| in_words(&narrowing.change)));
    let changes = possible.into_iter().map(|(_, narrowing)| narrowing.change).collect();
    (text.unwrap_or_else(|| policy.text.clone()), changes)
}

/// The text after edits, if it means what was meant.
fn made(policy: &PolicyFile, narrowings: &[(Vec<Edit>, Narrowing)]) -> Option<String> {
    let edits = narrowings.iter().flat_map(|(edits, _)| edits.clone()).collect();
    let text = edit::apply(&policy.text, edits)?;
    let mut meant = policy.document.clone();
    for (_, Narrowing { path, fates, .. }) in narrowings {
        let value = path.iter().try_fold(&mut meant, |value, name| value.get_mut(name))?;
        let entries: Vec<String> = texts(Some(value)).map(str::to_owned).collect();
        *value = remaining(&entries, fates).cloned().map(Value::from).collect();
    }
    let read = PolicyFile::parse(&policy.path, text.clone()).ok()?;
    (read.document == meant).then_some(text)
}

fn in_words(change: &ListChange) -> String {
    let list = |texts: &[String]| texts.iter().map(|text| format!("`{text}`")).collect::<Vec<_>>().join(", ");
    let instead = if change.added.is_empty() { String::new() } else { format!(" and add {}", list(&change.added)) };
    format!(
        "`{}`: remove {}{instead}; the list cannot be edited without being written anew",
        change.path,
        list(&change.removed)
    )
}

fn diff(policy: &PolicyFile, text: &str) -> String {
    let name = policy.path.file_name().map_or_else(|| "policy".into(), |name| name.to_string_lossy());
    let diff = TextDiff::from_lines(policy.text.as_str(), text);
    diff.unified_diff().context_radius(3).header(&format!("a/{name}"), &format!("b/{name}")).to_string()
}

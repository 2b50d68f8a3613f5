//! The rules of a policy as they would be if what is not known were for or against the caller.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use toolgate::policy::{Condition, Rule, RuleSet};

use super::Unknown;

/// Unknowns: those that conditions cannot look at, and those of them that are against the caller.
type Key = (BTreeSet<Unknown>, BTreeSet<Unknown>);

/// Variants of a set of rules, each made when it is needed first. Their number is small: few unknowns hide variables.
#[derive(Debug)]
pub(super) struct Variants<'p> {
    rules: &'p RuleSet,
    made: RefCell<BTreeMap<Key, Rc<RuleSet>>>,
}

impl<'p> Variants<'p> {
    pub(super) const fn of(rules: &'p RuleSet) -> Self {
        Self { rules, made: RefCell::new(BTreeMap::new()) }
    }

    /// The unknowns that the conditions of a rule depend on, out of what is hidden.
    pub(super) fn unknown_to(&self, place: usize, hidden: &BTreeSet<Unknown>) -> BTreeSet<Unknown> {
        let Some(rule) = self.rules.rules.get(place) else { return BTreeSet::new() };
        let approval = rule.approval.as_ref().and_then(|approval| approval.when.as_ref());
        let conditions = [rule.when.as_ref(), rule.deny_when.as_ref(), approval];
        let mut unknown: BTreeSet<Unknown> =
            conditions.into_iter().flatten().flat_map(|condition| unknown_in(condition, hidden)).collect();
        if rule.tenant_argument.is_some() && hidden.contains(&Unknown::Arguments) {
            unknown.insert(Unknown::Arguments);
        }
        unknown
    }

    /// The rules without the conditions that look at what is hidden. If they look at something that is `against` the
    /// caller, they deny.
    pub(super) fn get(&self, hidden: &BTreeSet<Unknown>, against: &BTreeSet<Unknown>) -> Rc<RuleSet> {
        let key = (hidden.clone(), hidden & against);
        Rc::clone(self.made.borrow_mut().entry(key).or_insert_with_key(|(hidden, against)| {
            let mut rules = self.rules.clone();
            rules.rules.iter_mut().for_each(|rule| settle(rule, hidden, against));
            Rc::new(rules)
        }))
    }
}

fn unknown_in(condition: &Condition, hidden: &BTreeSet<Unknown>) -> BTreeSet<Unknown> {
    condition.variables().filter_map(|name| Unknown::of_variable(name, hidden)).collect()
}

/// What becomes of a condition.
enum Fate {
    /// It can be evaluated.
    Stays,
    /// It comes out in favour of the caller.
    Favours,
    /// It comes out against the caller.
    Denies,
}

fn settle(rule: &mut Rule, hidden: &BTreeSet<Unknown>, against: &BTreeSet<Unknown>) {
    let fate = |condition: &Condition| {
        let unknown = unknown_in(condition, hidden);
        if unknown.is_empty() {
            Fate::Stays
        } else if unknown.is_disjoint(against) {
            Fate::Favours
        } else {
            Fate::Denies
        }
    };
    let mut is_denied = false;
    for place in [&mut rule.when, &mut rule.deny_when] {
        match place.as_ref().map(fate) {
            None | Some(Fate::Stays) => {}
            Some(Fate::Favours) => *place = None,
            Some(Fate::Denies) => is_denied = true,
        }
    }
    if let Some(approval) = &mut rule.approval {
        match approval.when.as_ref().map(fate) {
            None | Some(Fate::Stays) => {}
            Some(Fate::Favours) => rule.approval = None,
            Some(Fate::Denies) => approval.when = None,
        }
    }
    // Against the caller, the argument is missing.
    if hidden.contains(&Unknown::Arguments) && !against.contains(&Unknown::Arguments) {
        rule.tenant_argument = None;
    }
    if is_denied {
        // In a replay no call has arguments, so what stands at this pointer is nobody's tenant.
        rule.tenant_argument = Some(String::new());
    }
}

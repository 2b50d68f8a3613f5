//! What may be spent on conditions.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;

use super::{Approval, Rule};
use crate::identity::Failure;
use crate::limits;

/// The effort that one request, or one part of an answer, may still cause by conditions, and what is known already of
/// its caller.
///
/// A list has as many elements as the upstream likes, and a batch many calls. Rules are few: where a condition does not
/// look at the name of the target, its result for a caller is the same for every element.
#[derive(Debug)]
pub struct Effort {
    left: Cell<usize>,
    standing: OnceCell<Vec<Failure>>,
    known: RefCell<BTreeMap<usize, Option<Approval>>>,
}

impl Default for Effort {
    fn default() -> Self {
        Self {
            left: Cell::new(limits::MAX_CONDITION_EVALUATIONS),
            standing: OnceCell::new(),
            known: RefCell::default(),
        }
    }
}

impl Effort {
    /// Whether one more condition may be evaluated, which it then counts as.
    pub(super) fn spend(&self) -> bool {
        let left = self.left.get().checked_sub(1);
        self.left.set(left.unwrap_or_default());
        left.is_some()
    }

    /// What speaks against the caller whatever it asks for.
    pub(super) fn standing(&self, find: impl FnOnce() -> Vec<Failure>) -> &[Failure] {
        self.standing.get_or_init(find)
    }

    /// What the conditions of a rule come to while nothing is known of the arguments: denied, or with which duty.
    pub(super) fn once(&self, rule: &Rule, judge: impl FnOnce() -> Option<Approval>) -> Option<Approval> {
        // Rules live as long as their policy, so their addresses tell them apart.
        let key = std::ptr::from_ref(rule).addr();
        if let Some(known) = self.known.try_borrow().ok().and_then(|known| known.get(&key).copied()) {
            return known;
        }
        let judged = judge();
        if let Ok(mut known) = self.known.try_borrow_mut() {
            known.insert(key, judged);
        }
        judged
    }
}

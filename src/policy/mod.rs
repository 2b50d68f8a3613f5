//! The policy decision point: one function from (who, what) to permit or denial, over a compiled policy.

mod condition;
mod decide;
mod pattern;
mod scope;

pub use condition::{Condition, ConditionError, Inputs, Place};
pub use decide::{AccessRequest, Decision, Denial, Permit, Rule, RuleSet, decide};
pub use pattern::{Pattern, PatternMap, Tie};
pub use scope::{ScopeCatalogue, ScopeSet, is_scope_token};

//! The policy decision point: one function from (who, what) to permit or denial, over a compiled policy.
//!
//! Lists are filtered by the same checks as calls are decided, with the arguments unknown.

mod condition;
mod decide;
mod denial;
mod effort;
mod gate;
mod permissions;
mod plain_uri;
mod rule;

pub use condition::{Condition, ConditionError, Inputs, Known, Place};
pub use decide::{AccessRequest, Approval, Decision, Duties, Permit, Subject, decide, prospect, visibility};
pub use denial::Denial;
pub use effort::Effort;
pub use gate::{Escalation, Gate, ObtainApproval, Origin};
pub use permissions::{Permissions, permissions};
pub use rule::{ApprovalRule, Rule, RuleSet, StepUp, Targets};

//! Agent roles: what an agent may do, whoever drives it.

use std::sync::Arc;

use crate::oauth::ScopeSet;
use crate::policy::Gate;

/// What a kind of agent may do.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Name of the role in the policy.
    pub name: String,
    /// What it may do.
    pub scopes: ScopeSet,
    /// What it may do only once people have approved the very call.
    pub approval: Option<AgentApproval>,
}

/// Which calls of an agent need an approval.
#[derive(Clone, Debug)]
pub struct AgentApproval {
    /// Those that require any of these.
    pub scopes: ScopeSet,
    /// Who must approve them.
    pub gate: Arc<Gate>,
}

//! Agent roles: what an agent may do, whoever drives it.

use crate::oauth::ScopeSet;

/// What a kind of agent may do.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Name of the role in the policy.
    pub name: String,
    /// What it may do.
    pub scopes: ScopeSet,
    /// What it may do only once a person has approved the very call: calls that require any of these.
    pub approval: ScopeSet,
}

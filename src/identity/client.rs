//! Registered clients.

use super::{Consent, Source};
use crate::oauth::ScopeSet;
use crate::pattern::PatternList;

/// What a client may do.
#[derive(Clone, Debug)]
pub struct Client {
    /// The only issuer whose tokens may name it; `None` where only one is trusted.
    pub issuer: Option<String>,
    /// Place of its agent role among the agents.
    pub agent: Option<usize>,
    /// Scopes that it may use; `None` for no limit of its own.
    pub scopes: Option<ScopeSet>,
    /// Tools that it may call; `None` for no limit of its own.
    pub tools: Option<PatternList>,
    /// Where it may call from; `None` for anywhere.
    pub source: Option<Source>,
    /// Whether it may act with a token that stands for no person.
    pub may_act_alone: bool,
    /// What it was consented to; `None` where the policy asks for none.
    pub consent: Option<Consent>,
}

//! Consent: what somebody agreed that a client may do.

use std::collections::BTreeMap;

use super::Why;
use crate::grown::grown;
use crate::oauth::ScopeSet;
use crate::pattern::PatternList;
use crate::units::UnixSeconds;

/// A consent record.
#[derive(Clone, Debug)]
pub struct Consent {
    /// The first second at which it is no longer valid; `None` for no end.
    pub ends: Option<UnixSeconds>,
    /// Scopes that it covers; `None` for all.
    pub scopes: Option<ScopeSet>,
    /// Tools that it covers; `None` for all.
    pub tools: Option<PatternList>,
    /// SHA-256 of the definitions of tools as they were consented to.
    pub definitions: BTreeMap<String, [u8; 32]>,
}

impl Consent {
    /// Why it does not cover a call of this tool, if so.
    pub fn objection(&self, tool: &str, definitions: &Definitions) -> Option<Why> {
        if self.tools.as_ref().is_some_and(|tools| !tools.contains(tool)) {
            return Some(Why::ToolNotListed);
        }
        let consented = self.definitions.get(tool)?;
        match definitions.seen(tool) {
            Some(seen) if seen == consented => None,
            Some(_) => Some(Why::DefinitionChanged),
            None => Some(Why::DefinitionUnknown),
        }
    }
}

/// The definitions of tools as this worker has last seen them in the upstream's lists. Only of tools that some consent
/// pins, so that the upstream cannot make the table grow.
#[derive(Clone, Debug, Default)]
pub struct Definitions {
    seen: BTreeMap<String, Option<[u8; 32]>>,
}

impl Definitions {
    /// A table for these tools.
    pub fn of<'a>(tools: impl IntoIterator<Item = &'a str>) -> Self {
        Self { seen: grown(tools.into_iter().map(|tool| (tool.to_owned(), None))) }
    }

    /// Whether anybody asks for this tool's definition.
    pub fn wants(&self, tool: &str) -> bool {
        self.seen.contains_key(tool)
    }

    /// Notes the SHA-256 of a tool's definition in its canonical form.
    pub fn note(&mut self, tool: &str, digest: [u8; 32]) {
        if let Some(seen) = self.seen.get_mut(tool) {
            *seen = Some(digest);
        }
    }

    /// Takes back what was noted last: `before` is what [`Self::seen`] said until then.
    pub fn take_back(&mut self, tool: &str, before: Option<[u8; 32]>) {
        if let Some(seen) = self.seen.get_mut(tool) {
            *seen = before;
        }
    }

    /// The definition as last seen.
    pub fn seen(&self, tool: &str) -> Option<&[u8; 32]> {
        self.seen.get(tool).and_then(Option::as_ref)
    }
}

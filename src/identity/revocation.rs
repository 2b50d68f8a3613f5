//! Who was cut off before the token expires.

use std::collections::BTreeSet;

use super::{Directory, Principal, Side};

/// A list of those who were cut off.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RevocationList {
    /// People or clients, by subject.
    pub subjects: BTreeSet<RevokedSubject>,
    /// Clients by identifier.
    pub clients: BTreeSet<String>,
    /// Agent roles by name.
    pub agents: BTreeSet<String>,
    /// Tokens by `jti`.
    pub token_ids: BTreeSet<String>,
}

/// A subject that was cut off.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct RevokedSubject {
    /// The issuer that knows it by this name; `None` for any, which is the safer reading of a list that does not say.
    pub issuer: Option<String>,
    /// `sub`.
    pub subject: String,
}

impl RevocationList {
    /// The sides of this caller that were cut off.
    pub fn sides(&self, principal: &Principal, directory: &Directory) -> impl Iterator<Item = Side> + use<> {
        let token = principal.token();
        let has = |subject: &str| {
            let named = |issuer: Option<&str>| {
                let subject = subject.to_owned();
                self.subjects.contains(&RevokedSubject { issuer: issuer.map(str::to_owned), subject })
            };
            !self.subjects.is_empty() && (named(None) || named(Some(token.issuer())))
        };
        let is_agent_revoked = principal.agent(directory).is_some_and(|agent| self.agents.contains(&agent.name))
            || token.attributes().actors.iter().any(|actor| has(actor));
        [
            (Side::Token, token.token_id().is_some_and(|id| self.token_ids.contains(id))),
            (Side::Person, has(token.subject())),
            (Side::Agent, is_agent_revoked),
            (Side::Client, token.client_id().is_some_and(|id| self.clients.contains(id))),
        ]
        .into_iter()
        .filter_map(|(side, is_revoked)| is_revoked.then_some(side))
    }
}

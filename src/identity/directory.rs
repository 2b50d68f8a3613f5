//! All that a policy says about people, agents and clients.

use std::collections::BTreeMap;

use super::{Agent, Client, Definitions, Operator, PeerNeeds, RevocationList, Source};

/// The policy's tables of parties. A table that is not there limits nobody.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    /// Operator roles.
    pub operators: Option<Vec<Operator>>,
    /// Agent roles.
    pub agents: Option<Vec<Agent>>,
    /// Registered clients by identifier; one that is not registered is refused.
    pub clients: Option<BTreeMap<String, Client>>,
    /// Who is cut off by the policy itself.
    pub revoked: RevocationList,
}

impl Directory {
    /// The place of an agent role.
    pub fn agent(&self, name: &str) -> Option<usize> {
        self.agents.as_ref()?.iter().position(|agent| agent.name == name)
    }

    /// A table for the definitions of those tools that some consent pins.
    pub fn pinned_definitions(&self) -> Definitions {
        let consents = self.clients.iter().flat_map(BTreeMap::values).filter_map(|client| client.consent.as_ref());
        Definitions::of(consents.flat_map(|consent| consent.definitions.keys().map(String::as_str)))
    }

    /// What must be known of connections for any of the clients.
    pub fn peer_needs(&self) -> PeerNeeds {
        let sources = self.clients.iter().flat_map(BTreeMap::values).filter_map(|client| client.source.as_ref());
        sources.map(Source::needs).fold(PeerNeeds::default(), |all, one| PeerNeeds {
            address: all.address || one.address,
            certificate: all.certificate || one.certificate,
        })
    }
}

//! Protocol revisions, <https://modelcontextprotocol.io/specification/versioning>.

use std::fmt;

use serde::Deserialize;

/// A revision of MCP that this gateway understands.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Revision {
    /// The first one with Streamable HTTP; knows batches, and requests that name no revision mean this one.
    #[serde(rename = "2025-03-26")]
    V2025_03_26,
    /// Batches removed, `MCP-Protocol-Version` required.
    #[serde(rename = "2025-06-18")]
    V2025_06_18,
    /// URL elicitation and tasks.
    #[serde(rename = "2025-11-25")]
    V2025_11_25,
    /// Stateless: no handshake, no sessions, every request carries its revision and mirrors its target in headers.
    #[serde(rename = "2026-07-28")]
    V2026_07_28,
}

impl Revision {
    /// All of them, oldest first.
    pub const ALL: [Self; 4] = [Self::V2025_03_26, Self::V2025_06_18, Self::V2025_11_25, Self::V2026_07_28];

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V2025_03_26 => "2025-03-26",
            Self::V2025_06_18 => "2025-06-18",
            Self::V2025_11_25 => "2025-11-25",
            Self::V2026_07_28 => "2026-07-28",
        }
    }

    /// The revision of that name, exactly spelt.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|revision| revision.name() == name)
    }

    /// Whether requests stand alone, without `initialize` and sessions ("modern" in the specification's words).
    pub const fn is_stateless(self) -> bool {
        matches!(self, Self::V2026_07_28)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The revisions that a policy allows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RevisionSet(Vec<Revision>);

impl RevisionSet {
    /// Whether `revision` is allowed.
    pub fn contains(&self, revision: Revision) -> bool {
        self.0.contains(&revision)
    }

    /// The allowed revisions, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = Revision> + '_ {
        self.0.iter().copied()
    }

    /// Whether any revision with a handshake is allowed.
    pub fn has_handshake(&self) -> bool {
        self.iter().any(|revision| !revision.is_stateless())
    }

    /// The stateless ones among them, or all when there is none.
    ///
    /// What a stateless request that names an unknown revision is told: it cannot use the others, but a client that
    /// hears of none of its kind must know which handshake to go back to.
    #[must_use]
    pub fn for_stateless_requests(&self) -> Self {
        let stateless: Self = self.iter().filter(|revision| revision.is_stateless()).collect();
        if stateless.0.is_empty() { self.clone() } else { stateless }
    }

    /// The names, for answers that say what is supported.
    pub fn names(&self) -> Vec<&'static str> {
        self.iter().map(Revision::name).collect()
    }
}

impl FromIterator<Revision> for RevisionSet {
    fn from_iter<I: IntoIterator<Item = Revision>>(revisions: I) -> Self {
        let mut sorted: Vec<Revision> = revisions.into_iter().collect();
        sorted.sort_unstable();
        sorted.dedup();
        Self(sorted)
    }
}

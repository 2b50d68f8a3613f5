//! What a record does not say.

/// Something that a decision can look at and a record does not hold.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Unknown {
    /// A text that was too long for the record, or not fit for it.
    Altered,
    /// The arguments of the call.
    Arguments,
    /// Calls of a batch beyond the recorded ones.
    Batch,
    /// Claims of the token: records hold what policies commonly ask for.
    Claims,
    /// The definition of the tool, which a consent pins.
    Definitions,
    /// The personal part, which was erased or never there.
    Erased,
    /// The list of revocations, which is fetched.
    Revocations,
    /// The token's scopes.
    Scopes,
    /// Where the call came from: records hold no names of certificates.
    Source,
    /// The subject: a pseudonym stands in its place.
    Subject,
    /// What was asked for.
    Target,
}

impl Unknown {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Altered,
        Self::Arguments,
        Self::Batch,
        Self::Claims,
        Self::Definitions,
        Self::Erased,
        Self::Revocations,
        Self::Scopes,
        Self::Source,
        Self::Subject,
        Self::Target,
    ];

    /// Its stable name in reports.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Altered => "altered",
            Self::Arguments => "arguments",
            Self::Batch => "batch",
            Self::Claims => "claims",
            Self::Definitions => "definitions",
            Self::Erased => "erased",
            Self::Revocations => "revocations",
            Self::Scopes => "scopes",
            Self::Source => "source",
            Self::Subject => "subject",
            Self::Target => "target",
        }
    }

    /// The same for people.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Altered => "a text was cut off or cleaned for the record",
            Self::Arguments => "depends on arguments, which records do not hold",
            Self::Batch => "the batch has more calls than the record",
            Self::Claims => "depends on claims that records do not hold",
            Self::Definitions => "a consent pins the tool's definition",
            Self::Erased => "the personal part is gone",
            Self::Revocations => "depends on a list of revocations that is fetched",
            Self::Scopes => "the record does not say what the token grants",
            Self::Source => "depends on where the call came from",
            Self::Subject => "the policy names subjects, and the record has a pseudonym",
            Self::Target => "the record does not say what was asked for",
        }
    }

    /// What keeps a variable of conditions from being known, out of what is `hidden`.
    pub(super) fn of_variable(name: &str, hidden: &std::collections::BTreeSet<Self>) -> Option<Self> {
        let candidates: &[Self] = match name {
            "arguments" => &[Self::Arguments],
            "claims" => &[Self::Claims],
            "subject" => &[Self::Erased, Self::Subject],
            // The agent role can come from the token.
            "client" => &[Self::Erased],
            "groups" | "roles" => &[Self::Erased, Self::Altered],
            _ => &[],
        };
        candidates.iter().copied().find(|candidate| hidden.contains(candidate))
    }
}

//! The states of an approval.

use serde::{Deserialize, Serialize};

/// Where an approval stands. `pending` is where each begins; `rejected`, `expired`, `cancelled` and `consumed` are ends.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// People are asked.
    Pending,
    /// Everybody who had to has approved; the call has not been made yet.
    Approved,
    /// An entitled person has said no.
    Rejected,
    /// Its time has passed before it was used.
    Expired,
    /// The requester's client has taken it back.
    Cancelled,
    /// The call has been let through, once.
    Consumed,
}

impl State {
    /// All states.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Approved, Self::Rejected, Self::Expired, Self::Cancelled, Self::Consumed];

    /// The word for it in JSON and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Consumed => "consumed",
        }
    }

    /// The state that [`Self::as_str`] has named.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// Whether time can still end it: it waits for people, or for the call.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Approved)
    }
}

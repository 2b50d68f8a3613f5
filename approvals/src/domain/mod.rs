//! What an approval is and who may decide on it. Pure: no input or output, no clock; time is an argument.

mod clean;
mod decide;
mod person;
mod request;
mod scalar;
mod state;
mod validate;
mod view;

pub use clean::{capped, printable};
pub use decide::{Case, Entitlement, Vote, VoteRefusal, decide, entitlement, is_approved, is_met};
pub use person::{Ballot, Choice, MAX_NAME_CHARS, MAX_REASON_CHARS, Person};
pub use request::{Call, Escalate, Gate, Kind, Request, Requester, Requirement};
pub use scalar::Scalar;
pub use state::State;
pub use validate::{Invalid, MAX_EXPIRES_IN, is_hex};
pub use view::{Actor, EventKind, Filter, HistoryEvent, MAX_PAGE, RequirementView, View, VoteView};
pub(crate) use view::{Visibility, requirements, visibility, why_not};

/// Seconds since 1970-01-01T00:00:00Z.
pub type UnixSeconds = i64;

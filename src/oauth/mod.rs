//! The gateway as an OAuth 2.1 resource server: bearer tokens in, challenges and metadata out.

mod bearer;
mod challenge;
mod metadata;
mod scope;

pub use bearer::{BearerProblem, bearer_token, query_has_token};
pub use challenge::{Challenge, ChallengeError};
pub use metadata::{ResourceMetadata, ResourceUri};
pub use scope::{ScopeCatalogue, ScopeSet, is_scope_token};

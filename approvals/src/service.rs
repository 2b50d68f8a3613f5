//! What the gateways' API, the approvers' API and the page call.

use std::sync::Arc;

use tokio::sync::broadcast;

use crate::domain::{Ballot, Filter, HistoryEvent, Person, View, VoteRefusal};
use crate::store::StoreError;

/// Something has happened to an approval.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// Which.
    pub id: String,
}

/// The approvals. A copy shares everything with its original.
#[derive(Clone, Debug)]
pub struct Approvals {
    changes: Arc<broadcast::Sender<Change>>,
}

impl Approvals {
    /// Approvals that the person may see, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn inbox(&self, _person: &Person, _filter: &Filter) -> Result<Vec<View>, StoreError> {
        Ok(Vec::new())
    }

    /// One approval; `None`: it is not there, or the person may not see it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn view(&self, _person: &Person, _id: &str) -> Result<Option<View>, StoreError> {
        Ok(None)
    }

    /// What has happened to it, oldest first; `None` as with [`Self::view`].
    ///
    /// # Errors
    /// When the database fails.
    pub async fn history(&self, _person: &Person, _id: &str) -> Result<Option<Vec<HistoryEvent>>, StoreError> {
        Ok(None)
    }

    /// Counts a vote.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn vote(
        &self,
        _person: &Person,
        _id: &str,
        _ballot: Ballot,
    ) -> Result<Result<View, VoteRefusal>, StoreError> {
        Ok(Err(VoteRefusal::NotFound))
    }

    /// Everything that happens from now on, here or through another process on the same database. One that is slow
    /// misses some, and is told so.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }
}

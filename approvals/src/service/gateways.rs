//! What gateways ask for.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::{Approvals, ServiceError};
use crate::domain::{Request, State, UnixSeconds};
use crate::store::{Asker, Attached, Created, Record, Refusal, StoreError};

/// Pauses of a request that waits are at least this long, so that it does not spin when clocks disagree.
const MIN_PAUSE: Duration = Duration::from_millis(100);

/// A gateway that has shown its credential.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GatewayIdentity {
    /// Its name.
    pub name: String,
    /// Resources for which it may ask.
    pub audiences: Vec<String>,
}

/// An approval as gateways see it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct ApprovalState {
    /// Its id.
    pub id: String,
    /// Digest of everything that makes it this call.
    pub binding: String,
    /// Where it stands.
    pub state: State,
    /// When it was made.
    pub created_at: UnixSeconds,
    /// When it ends.
    pub expires_at: UnixSeconds,
    /// Whether others were asked too.
    pub escalated: bool,
    /// The step that may be consumed next.
    pub step: i64,
    /// The signed decision, when it was rejected, has expired or was cancelled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
}

/// What came of asking.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Asked {
    /// An approval, and whether it was there.
    State(ApprovalState, Attached),
    /// The gateway or the requester has too many that wait.
    TooMany,
}

impl Approvals {
    /// Makes an approval or finds the one that is there for the same call, and waits for what becomes of it.
    pub(crate) async fn ask(
        &self,
        gateway: &GatewayIdentity,
        request: &Request,
        wait: Duration,
    ) -> Result<Asked, ServiceError> {
        let until = after(wait);
        let now = self.inner.clock.now();
        let created = self.inner.store.create_or_attach(&gateway.name, request, now).await?;
        self.written();
        let Created::Record(record, attached) = created else {
            self.inner.metrics.asked("refused");
            return Ok(Asked::TooMany);
        };
        self.inner.metrics.asked(if attached == Attached::Yes { "attached" } else { "created" });
        let mut record = *record;
        if record.state == State::Pending && !wait.is_zero() {
            let asker = Asker { audiences: &gateway.audiences, binding: &request.binding };
            if let Some(later) = self.wait(asker, &record.id, until).await? {
                record = later;
            }
        }
        Ok(Asked::State(self.state_of(&record)?, attached))
    }

    /// Waits for what becomes of an approval. `None`: it is not there for this gateway.
    pub(crate) async fn look(
        &self,
        asker: Asker<'_>,
        id: &str,
        wait: Duration,
    ) -> Result<Option<ApprovalState>, ServiceError> {
        let record = self.wait(asker, id, after(wait)).await?;
        record.map(|record| self.state_of(&record)).transpose()
    }

    /// Lets a call through, or on: a grant.
    pub(crate) async fn consume(
        &self,
        asker: Asker<'_>,
        id: &str,
        nonce: &str,
        step: i64,
    ) -> Result<Result<String, Refusal>, ServiceError> {
        let now = self.inner.clock.now();
        let outcome = self.inner.store.consume(asker, id, nonce, step, now).await?;
        self.written();
        let label = match outcome {
            Ok(_) => "granted",
            Err(Refusal::NotFound) => "not_found",
            Err(Refusal::Used) => "used",
            Err(Refusal::NotApproved) => "not_approved",
            Err(Refusal::Ended(state)) => state.as_str(),
        };
        self.inner.metrics.consumption(label);
        Ok(match outcome {
            Ok(record) => Ok(self.inner.signer.grant(&record, nonce, step, now)?),
            Err(refusal) => Err(refusal),
        })
    }

    /// Takes back an approval that waits for people.
    pub(crate) async fn cancel(&self, asker: Asker<'_>, id: &str) -> Result<Option<ApprovalState>, ServiceError> {
        let record = self.inner.store.cancel(asker, id, self.inner.clock.now()).await?;
        self.written();
        record.map(|record| self.state_of(&record)).transpose()
    }

    fn state_of(&self, record: &Record) -> Result<ApprovalState, ServiceError> {
        Ok(ApprovalState {
            id: record.id.clone(),
            binding: record.request.binding.clone(),
            state: record.state,
            created_at: record.created_at,
            expires_at: record.expires_at,
            escalated: record.escalated,
            step: record.step,
            decision: self.inner.signer.decision(record, self.inner.clock.now())?,
        })
    }

    /// The approval when it is no longer pending, or as it is when the time is over or the service stops.
    async fn wait(&self, asker: Asker<'_>, id: &str, until: Instant) -> Result<Option<Record>, StoreError> {
        // Before the row is read, so that no change falls in between.
        let mut changes = self.inner.waits.join(id);
        let mut stopping = self.inner.stopping.subscribe();
        let waiting = self.inner.metrics.waiting();
        loop {
            let now = self.inner.clock.now();
            let Some(record) = self.inner.store.get(asker, id, true, now).await? else { return Ok(None) };
            let (Some(changes), false) = (&mut changes, *stopping.borrow()) else { return Ok(Some(record)) };
            if record.state != State::Pending || Instant::now() >= until {
                return Ok(Some(record));
            }
            let expires_in = u64::try_from(record.expires_at.saturating_sub(now)).unwrap_or(0);
            let expiry = after(Duration::from_secs(expires_in).max(MIN_PAUSE));
            let _counted = Counted::new(waiting);
            tokio::select! {
                () = changes.changed() => {}
                _ = stopping.wait_for(|stopping| *stopping) => {}
                () = tokio::time::sleep_until(until.min(expiry)) => {}
            }
        }
    }
}

fn after(time: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(time).unwrap_or(now)
}

/// Counts one that waits, as long as it is there: a request can be dropped at any time.
struct Counted<'a>(&'a prometheus_client::metrics::gauge::Gauge);

impl<'a> Counted<'a> {
    fn new(gauge: &'a prometheus_client::metrics::gauge::Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

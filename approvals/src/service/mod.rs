//! What the gateways' API, the approvers' API and the page call.

mod background;
mod gateways;
mod people;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Notify, broadcast, watch};
use tokio::time::Instant;

pub use gateways::{ApprovalState, Asked, GatewayIdentity};

use crate::clock::Clock;
use crate::config::{Config, ConfigError};
use crate::metrics::Metrics;
use crate::signing::{Signer, SigningError};
use crate::store::{Store, StoreError};
use crate::waits::Waits;
use crate::webhooks::{Announcer, Hook, Sender};

/// Changes that a slow reader can be behind.
const CHANGES: usize = 1024;
/// How often the database is counted for the metrics, at most.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// Something has happened to an approval.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// Which.
    pub id: String,
}

/// Why the service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no client for webhooks.
    #[error("webhooks cannot be sent: {0}")]
    Client(#[from] reqwest::Error),
}

/// Why a request could not be served.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The database has failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The decision could not be signed.
    #[error(transparent)]
    Signing(#[from] SigningError),
}

/// The approvals. A copy shares everything with its original.
#[derive(Clone, Debug)]
pub struct Approvals {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    signer: Signer,
    sender: Sender,
    clock: Clock,
    metrics: Arc<Metrics>,
    waits: Waits,
    changes: broadcast::Sender<Change>,
    /// There may be something new in the database.
    kick: Notify,
    /// There may be something to send.
    mail: watch::Sender<()>,
    stopping: watch::Sender<bool>,
    /// When the database was last counted for the metrics.
    counted: Mutex<Option<Instant>>,
    /// The last entry of the history when the service was opened.
    followed_from: i64,
    /// Seconds for which what has ended is kept.
    retention: i64,
}

impl Approvals {
    /// Reads the keys and secrets that the configuration names, and opens the database.
    ///
    /// # Errors
    /// When something is missing or cannot be used.
    pub async fn open(config: &Config, database: &str, clock: Clock) -> Result<Self, StartError> {
        let signer = Signer::load(config.issuer(), &config.signing_keys)?;
        let hooks = config.webhooks.iter().map(Hook::load).collect::<Result<Vec<_>, _>>()?;
        for (index, hook) in hooks.iter().enumerate() {
            // Names that were made from URLs can be the same too, and messages are kept by them.
            if hooks.iter().take(index).any(|other| other.name() == hook.name()) {
                let problem = "is the name of another webhook: give each its own".to_owned();
                return Err(ConfigError::Unusable(format!("webhooks[{index}].name"), problem).into());
            }
        }
        let announcer = Arc::new(Announcer::new(&config.public_url, hooks));
        let metrics = Arc::new(Metrics::default());
        let store =
            Store::open(database, config.pending_per_requester, Arc::clone(&announcer), Arc::clone(&metrics)).await?;
        let sender = Sender::new(announcer, store.clone(), Arc::clone(&metrics), clock.clone())?;
        let inner = Inner {
            followed_from: store.head_seq().await?,
            store,
            signer,
            sender,
            clock,
            metrics,
            waits: Waits::default(),
            changes: broadcast::Sender::new(CHANGES),
            kick: Notify::new(),
            mail: watch::Sender::new(()),
            stopping: watch::Sender::new(false),
            counted: Mutex::default(),
            retention: config.retention.seconds(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Everything that happens from now on, here or through another process on the same database. One that is slow
    /// misses some, and is told so.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.inner.changes.subscribe()
    }

    /// Becomes true when the service stops: whatever waits or streams should end then.
    #[must_use]
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.inner.stopping.subscribe()
    }

    /// Lets whatever waits or streams end.
    pub fn stop(&self) {
        self.inner.stopping.send_replace(true);
    }

    /// What is counted, with what the database says now. When it does not answer, what it said before.
    pub async fn metrics_text(&self) -> String {
        let Inner { store, metrics, counted, .. } = &*self.inner;
        // Anybody may ask, and counting takes its time: what was counted a moment ago will do.
        let mut counted = counted.lock().await;
        if counted.is_some_and(|at| at.elapsed() < COUNT_EVERY) {
            return metrics.text();
        }
        *counted = Some(Instant::now());
        match (store.backlog().await, store.pending().await) {
            (Ok(backlog), Ok(pending)) => {
                metrics.set_backlog(backlog.waiting, backlog.dead);
                metrics.set_pending(pending);
            }
            (Err(error), _) | (_, Err(error)) => tracing::warn!(%error, "the backlog cannot be counted"),
        }
        metrics.text()
    }

    /// What is counted.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// The public keys: a JWK Set.
    #[must_use]
    pub fn key_set(&self) -> &str {
        self.inner.signer.key_set()
    }

    /// The time.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ready(&self) -> Result<(), StoreError> {
        self.inner.store.ping().await
    }

    /// The database, for what is no request: checking the history, dead letters.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// Something was written: whoever waits for it is told.
    fn written(&self) {
        self.inner.kick.notify_one();
        self.inner.mail.send_replace(());
    }
}

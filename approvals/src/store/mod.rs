//! What is kept, in SQLite or PostgreSQL: approvals, votes, the history, and messages to be sent.
//!
//! Every change is one transaction that begins by taking the head of the history ([`write`](self::write)): changes
//! come one after the other, each with its entries of the history and its messages, all or nothing of it.

mod consume;
mod evidence;
mod gateway;
mod outbox;
mod people;
mod prune;
mod record;
mod schema;
mod sweep;
mod verify;
mod write;

use std::sync::Arc;
use std::time::Duration;

use sqlx::any::AnyPoolOptions;
use sqlx::{AnyPool, Executor};
use tokio::sync::Mutex;

pub use consume::Refusal;
pub(crate) use gateway::Asker;
pub use gateway::{Attached, Created};
pub use outbox::{Letter, LetterKey};
pub use record::Record;
pub(crate) use verify::hex;
pub use verify::{Head, HistoryReport};

use crate::metrics::Metrics;
use crate::webhooks::Announcer;

/// Connections to the database.
const MAX_CONNECTIONS: u32 = 8;
/// Connections through which people read, beside those.
const MAX_READS: u32 = 3;
/// How long people wait for one.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an operation waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why something could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database has failed.
    #[error("the database has failed: {0}")]
    Database(#[from] sqlx::Error),
    /// A row does not hold what this service writes.
    #[error("the database cannot be used: {0}")]
    Corrupt(&'static str),
    /// The database is named by something else than `sqlite:` or `postgres://`.
    #[error("the database must be sqlite:FILE or postgres://…")]
    Unsupported,
}

/// Which database it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Engine {
    Sqlite,
    Postgres,
}

impl Engine {
    /// What each connection is told.
    const fn settings(self) -> &'static [&'static str] {
        match self {
            // A commit that has been answered survives a power cut.
            Self::Sqlite => &["PRAGMA busy_timeout = 10000", "PRAGMA synchronous = FULL", "PRAGMA foreign_keys = ON"],
            // One process that hangs must not hold the head of the history for ever.
            Self::Postgres => &[
                // Neither the role nor the database may turn it off: a consumption that was answered stays.
                "SET synchronous_commit = on",
                "SET lock_timeout = '10s'",
                "SET statement_timeout = '20s'",
                "SET idle_in_transaction_session_timeout = '15s'",
            ],
        }
    }
}

/// The database. A copy shares its connections.
#[derive(Clone, Debug)]
pub struct Store {
    pool: AnyPool,
    /// What people read goes through connections of its own, so that it cannot take those of gateways.
    reads: AnyPool,
    pending_per_requester: u32,
    announcer: Arc<Announcer>,
    metrics: Arc<Metrics>,
    /// Writers of this process queue here, and not in the database, where they would hold connections.
    writer: Arc<Mutex<()>>,
}

impl Store {
    /// Connects to a database and makes its tables. One requester can have `pending_per_requester` approvals waiting.
    ///
    /// # Errors
    /// When that cannot be done.
    pub async fn open(
        url: &str,
        pending_per_requester: u32,
        announcer: Arc<Announcer>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let engine = engine(url)?;
        let url = with_mode(url, engine);
        let pool = options(engine, MAX_CONNECTIONS, ACQUIRE_TIMEOUT).connect(&url).await?;
        let mut connection = pool.acquire().await?;
        if engine == Engine::Sqlite {
            connection.execute("PRAGMA journal_mode = WAL").await?;
        }
        schema::create(&mut connection, engine).await?;
        drop(connection);
        let reads = options(engine, MAX_READS, READ_TIMEOUT).connect_lazy(&url)?;
        Ok(Self { pool, reads, pending_per_requester, announcer, metrics, writer: Arc::default() })
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let _: i64 = sqlx::query_scalar("SELECT seq FROM history_head WHERE id = 1").fetch_one(&self.pool).await?;
        Ok(())
    }

    /// The connections, for tests that do what this service does not.
    #[cfg(test)]
    pub(crate) const fn pool(&self) -> &AnyPool {
        &self.pool
    }

    /// The connections of people, for tests that take them all.
    #[cfg(test)]
    pub(crate) const fn reads(&self) -> &AnyPool {
        &self.reads
    }

    /// Closes all connections, after what is under way.
    pub async fn close(&self) {
        self.reads.close().await;
        self.pool.close().await;
    }
}

fn options(engine: Engine, max: u32, timeout: Duration) -> AnyPoolOptions {
    let settings = engine.settings();
    AnyPoolOptions::new().max_connections(max).acquire_timeout(timeout).after_connect(move |connection, _| {
        Box::pin(async move {
            for setting in settings {
                connection.execute(*setting).await?;
            }
            Ok(())
        })
    })
}

fn engine(url: &str) -> Result<Engine, StoreError> {
    match url.split_once(':') {
        Some(("sqlite", _)) => Ok(Engine::Sqlite),
        Some(("postgres" | "postgresql", _)) => Ok(Engine::Postgres),
        _ => Err(StoreError::Unsupported),
    }
}

/// A file of SQLite is made when it is not there.
fn with_mode(url: &str, engine: Engine) -> String {
    if engine == Engine::Postgres || url.contains("mode=") {
        return url.to_owned();
    }
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}mode=rwc")
}

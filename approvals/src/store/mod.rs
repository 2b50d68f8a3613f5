//! What is kept, in SQLite or PostgreSQL.

/// Why something could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database has failed.
    #[error("the database has failed: {0}")]
    Database(#[from] sqlx::Error),
    /// A row does not hold what this service writes.
    #[error("a row cannot be read: {0}")]
    Corrupt(&'static str),
}

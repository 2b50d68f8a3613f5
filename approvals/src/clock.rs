//! The time, which tests set.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use time::OffsetDateTime;

use crate::domain::UnixSeconds;

/// What tells the time.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// What to add to the system's time, in seconds.
    ahead: Arc<AtomicI64>,
}

impl Clock {
    /// The time.
    #[must_use]
    pub fn now(&self) -> UnixSeconds {
        OffsetDateTime::now_utc().unix_timestamp().saturating_add(self.ahead.load(Ordering::Relaxed))
    }

    /// Lets time pass. All copies of this clock share it.
    pub fn advance(&self, seconds: i64) {
        self.ahead.fetch_add(seconds, Ordering::Relaxed);
    }
}

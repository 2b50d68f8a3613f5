//! Which part of a log counts.

use clap::Args;
use time::OffsetDateTime;
use toolgate::audit::record::Record;

use crate::audit::when::When;

/// From when to when.
#[derive(Args, Clone, Debug, Default)]
pub struct PeriodArguments {
    /// Not before this time: RFC 3339, or how long ago as 2h or 3d.
    #[arg(long, value_name = "TIME")]
    since: Option<When>,
    /// Not after this time.
    #[arg(long, value_name = "TIME")]
    until: Option<When>,
}

/// A part of a log, its limits in the form that records have.
#[derive(Clone, Debug, Default)]
pub struct Period {
    since: Option<String>,
    until: Option<String>,
}

impl PeriodArguments {
    /// The period, for a command that was started now.
    pub fn at(&self, now: OffsetDateTime) -> Period {
        let text = |when: Option<When>| when.map(|when| when.to_text(now));
        Period { since: text(self.since), until: text(self.until) }
    }
}

impl Period {
    /// Whether a record was written in it.
    pub fn contains(&self, record: &Record<'_>) -> bool {
        self.since.as_deref().is_none_or(|since| *record.at >= *since)
            && self.until.as_deref().is_none_or(|until| *record.at <= *until)
    }
}

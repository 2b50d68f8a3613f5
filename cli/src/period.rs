//! Which part of a log counts.

use clap::Args;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};
use toolgate::audit::record::Record;

use crate::host::Failure;

/// From when to when, by the beginning of requests.
#[derive(Args, Clone, Debug, Default)]
pub struct PeriodArguments {
    /// Leave out requests before this time: RFC 3339, or how long ago, such as `90m`, `12h` or `30d`
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Leave out requests at and after this time; written as with `--since`
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

/// A part of a log.
#[derive(Clone, Copy, Debug, Default)]
pub struct Period {
    since: Option<OffsetDateTime>,
    until: Option<OffsetDateTime>,
}

impl PeriodArguments {
    /// The period.
    ///
    /// # Errors
    /// When a time is written in another way.
    pub fn resolve(&self, now: OffsetDateTime) -> Result<Period, Failure> {
        let read = |name: &str, text: &Option<String>| {
            let Some(text) = text else { return Ok(None) };
            moment(text, now).map(Some).ok_or_else(|| {
                let form = "write RFC 3339, such as 2026-11-02T08:00:00Z, or how long ago, such as 12h or 30d";
                Failure::Other(format!("--{name}: `{text}` is no time; {form}"))
            })
        };
        Ok(Period { since: read("since", &self.since)?, until: read("until", &self.until)? })
    }
}

impl Period {
    /// Whether the request of a record began in it. One without a legible time did so only if there are no limits.
    pub fn contains(&self, record: &Record<'_>) -> bool {
        if self.since.is_none() && self.until.is_none() {
            return true;
        }
        let Ok(started) = OffsetDateTime::parse(&record.started, &Rfc3339) else { return false };
        self.since.is_none_or(|since| started >= since) && self.until.is_none_or(|until| started < until)
    }
}

fn moment(text: &str, now: OffsetDateTime) -> Option<OffsetDateTime> {
    if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
        return Some(time);
    }
    let (unit_at, unit) = text.char_indices().next_back()?;
    let seconds_each = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86400,
        _ => return None,
    };
    let digits = text.get(..unit_at)?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = digits.parse::<i64>().ok().filter(|_| is_number)?.checked_mul(seconds_each)?;
    now.checked_sub(Duration::seconds(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_absolute_or_ago() {
        let now = OffsetDateTime::from_unix_timestamp(1_000_000).unwrap();
        let seconds = |text: &str| moment(text, now).map(OffsetDateTime::unix_timestamp);
        assert_eq!(seconds("1970-01-01T00:00:10Z"), Some(10));
        assert_eq!(seconds("1970-01-01T01:00:10+01:00"), Some(10));
        assert_eq!(seconds("2h"), Some(1_000_000 - 7200));
        assert_eq!(seconds("3d"), Some(1_000_000 - 259_200));
        for wrong in ["", "h", "-2h", "2w", "2", "2026-11-02", "+1s", "99999999999999999999d", "2é"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }
}

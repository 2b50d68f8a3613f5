//! Points in time as people write them.

use std::str::FromStr;

use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime, UtcOffset};

/// A point in time, or how long ago it was.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum When {
    At(OffsetDateTime),
    Ago(Duration),
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
            return Ok(Self::At(time));
        }
        let ago = || {
            let unit = text.chars().last()?;
            let number: i64 = text.strip_suffix(unit)?.parse().ok().filter(|number| *number >= 0)?;
            let seconds = match unit {
                's' => 1,
                'm' => 60,
                'h' => 3600,
                'd' => 86400,
                _ => return None,
            };
            number.checked_mul(seconds).map(Duration::seconds)
        };
        ago().map(Self::Ago).ok_or_else(|| {
            "write a time as 2026-01-05T10:00:00Z, or how long ago it was as 90s, 15m, 2h or 3d".to_owned()
        })
    }
}

impl When {
    /// In the form that records have. Those are all in UTC and as long as each other, so that their order is that of time.
    pub(crate) fn to_text(self, now: OffsetDateTime) -> String {
        let time = match self {
            Self::At(time) => time.to_offset(UtcOffset::UTC),
            Self::Ago(ago) => now.checked_sub(ago).unwrap_or(OffsetDateTime::UNIX_EPOCH),
        };
        crate::text::timestamp(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_both_forms() {
        let now = OffsetDateTime::from_unix_timestamp(1_767_614_400).unwrap();
        let text = |when: &str| when.parse::<When>().map(|when| when.to_text(now));
        assert_eq!(text("2h").unwrap(), "2026-01-05T10:00:00.000Z");
        assert_eq!(text("3d").unwrap(), "2026-01-02T12:00:00.000Z");
        assert_eq!(text("2026-01-05T10:00:00.25+02:00").unwrap(), "2026-01-05T08:00:00.250Z");
        for wrong in ["", "h", "2", "-2h", "2w", "yesterday", "2026-01-05", "99999999999999999d", "é"] {
            assert!(text(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn longer_ago_than_anything_is_the_beginning() {
        let now = OffsetDateTime::from_unix_timestamp(1_767_614_400).unwrap();
        assert_eq!("9999999999d".parse::<When>().unwrap().to_text(now), "1970-01-01T00:00:00.000Z");
    }
}

//! Points in time and durations, for people.

use std::fmt;

use time::OffsetDateTime;

/// A point in time as `2026-11-02 14:03 UTC`. A script may show it in the reader's time zone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct When {
    /// Unix seconds.
    unix: i64,
}

impl When {
    pub(super) const fn new(unix: i64) -> Self {
        Self { unix }
    }

    fn utc(self) -> OffsetDateTime {
        // Times that no calendar holds come from no clock.
        OffsetDateTime::from_unix_timestamp(self.unix).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    /// The form that machines read, for the `datetime` attribute: `2026-11-02T14:03:00Z`.
    pub(super) fn machine(self) -> String {
        let at = self.utc();
        let (year, month, day) = at.to_calendar_date();
        let (hour, minute, second) = at.to_hms();
        format!("{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z", u8::from(month))
    }

    /// With seconds, for records: `2026-11-02 14:03:00 UTC`.
    pub(super) fn exact(self) -> String {
        self.machine().replace('T', " ").replace('Z', " UTC")
    }
}

impl fmt::Display for When {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.utc();
        let (year, month, day) = at.to_calendar_date();
        let (hour, minute, _) = at.to_hms();
        write!(out, "{year:04}-{:02}-{day:02} {hour:02}:{minute:02} UTC", u8::from(month))
    }
}

/// A duration in its two largest units, as `8 min 30 s`.
///
/// `live.js` counts down in the same words.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Span(
    /// Seconds.
    pub(super) i64,
);

impl fmt::Display for Span {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(i64, &str); 4] = [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")];
        let mut rest = self.0.max(0);
        let mut written = 0_u8;
        for (size, name) in UNITS {
            let count = rest.checked_div(size).unwrap_or(0);
            rest = rest.checked_rem(size).unwrap_or(0);
            if count == 0 {
                // The second unit is the one just below the first.
                if written > 0 {
                    break;
                }
                continue;
            }
            if written > 0 {
                out.write_str(" ")?;
            }
            write!(out, "{count} {name}")?;
            written = written.saturating_add(1);
            if written == 2 {
                break;
            }
        }
        if written == 0 { out.write_str("0 s") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_at_most_two_units() {
        for (seconds, expected) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (510, "8 min 30 s"),
            (3600, "1 h"),
            (3605, "1 h"),
            (7265, "2 h 1 min"),
            (90_061, "1 d 1 h"),
        ] {
            assert_eq!(Span(seconds).to_string(), expected);
        }
    }

    #[test]
    fn times_are_in_utc() {
        let at = When::new(1_793_628_180);
        assert_eq!(at.to_string(), "2026-11-02 14:03 UTC");
        assert_eq!(at.machine(), "2026-11-02T14:03:00Z");
        assert_eq!(at.exact(), "2026-11-02 14:03:00 UTC");
    }
}

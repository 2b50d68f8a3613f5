//! Quantities with their unit in the type: no bare integer crosses a module boundary.

use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};

/// A point in time: whole seconds since 1970-01-01T00:00:00Z, as in JWT's `NumericDate` (RFC 7519 section 2).
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct UnixSeconds(u64);

impl UnixSeconds {
    /// The point `seconds` after the epoch.
    pub const fn new(seconds: u64) -> Self {
        Self(seconds)
    }

    /// Seconds since the epoch.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// This point moved into the future; the end of time if it overflows.
    #[must_use]
    pub const fn plus(self, duration: Seconds) -> Self {
        Self(self.0.saturating_add(duration.0))
    }

    /// How long ago `earlier` was; zero when it is not in the past.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Seconds {
        Seconds(self.0.saturating_sub(earlier.0))
    }
}

/// A point in time: whole milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct UnixMillis(u64);

impl UnixMillis {
    /// The point `milliseconds` after the epoch.
    pub const fn new(milliseconds: u64) -> Self {
        Self(milliseconds)
    }

    /// The second that it lies in.
    pub const fn seconds(self) -> UnixSeconds {
        UnixSeconds(self.0 / 1000)
    }

    /// How many milliseconds ago `earlier` was; zero when it is not in the past.
    pub const fn millis_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// UTC in the form of RFC 3339 with three decimals, `2026-11-02T09:30:00.000Z`.
    pub fn to_rfc3339(self) -> Rfc3339 {
        let seconds = i64::try_from(self.0 / 1000).unwrap_or(i64::MAX);
        // Times that no calendar holds come from no clock.
        let at = time::OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
        let (year, month, day) = at.to_calendar_date();
        let (hour, minute, second) = at.to_hms();
        let day_parts = [u64::from(year.unsigned_abs()), u64::from(u8::from(month)), u64::from(day)];
        let time_parts = [u64::from(hour), u64::from(minute), u64::from(second), self.0 % 1000];
        let mut text = *b"0000-00-00T00:00:00.000Z";
        let places = text.split_mut(|byte| !byte.is_ascii_digit());
        for (place, mut number) in places.zip(day_parts.into_iter().chain(time_parts)) {
            for digit in place.iter_mut().rev() {
                *digit |= u8::try_from(number % 10).unwrap_or_default();
                number /= 10;
            }
        }
        Rfc3339(text)
    }
}

/// A point in time as text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rfc3339([u8; 24]);

impl Rfc3339 {
    /// The text.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Rfc3339 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A span of time in whole seconds.
///
/// Documents write it as a number with a unit, `30s`, `5m` or `24h`, as Envoy and Kubernetes do.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Seconds(u64);

impl Seconds {
    /// A span of `seconds`.
    pub const fn new(seconds: u64) -> Self {
        Self(seconds)
    }

    /// The span in seconds.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The span in milliseconds, at most what an `Envoy` callout timeout can hold.
    pub const fn as_millis(self) -> u64 {
        self.0.saturating_mul(1000)
    }

    /// Reads `30s`, `5m`, `24h`; nothing else, so that a missing unit is never guessed.
    pub fn parse(text: &str) -> Option<Self> {
        let unit = match text.as_bytes().last()? {
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            _ => return None,
        };
        let digits = text.get(..text.len().checked_sub(1)?)?;
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        digits.parse::<u64>().ok()?.checked_mul(unit).map(Self)
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}s", self.0)
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::parse(&text)
            .ok_or_else(|| de::Error::custom(format_args!("`{text}` is not a duration such as `30s`, `5m` or `24h`")))
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct ByteCount(usize);

impl ByteCount {
    /// That many bytes.
    pub const fn new(bytes: usize) -> Self {
        Self(bytes)
    }

    /// The count.
    pub const fn get(self) -> usize {
        self.0
    }
}

impl<'de> Deserialize<'de> for ByteCount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// A `google.protobuf.Struct` knows doubles only, so that a whole number may arrive as `1048576.0`.
        struct WholeNumber;

        impl Visitor<'_> for WholeNumber {
            type Value = ByteCount;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a whole number of bytes")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<ByteCount, E> {
                usize::try_from(value)
                    .map(ByteCount)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(value), &self))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<ByteCount, E> {
                // Below 2^32 every whole double is exact, and so is its shortest decimal form.
                if value.fract() == 0.0 && (0.0..4_294_967_296.0).contains(&value) {
                    format!("{value:.0}")
                        .parse()
                        .map(ByteCount)
                        .map_err(|_| E::invalid_value(de::Unexpected::Float(value), &self))
                } else {
                    Err(E::invalid_value(de::Unexpected::Float(value), &self))
                }
            }
        }

        deserializer.deserialize_any(WholeNumber)
    }
}

/// A day of the calendar in UTC, written as `2026-11-02`.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Date(time::Date);

impl Date {
    /// Reads `YYYY-MM-DD`; nothing else, and no day that the calendar does not have. Years from 1970 on.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
        let is_number = |part: &str, digits| part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit());
        if parts.next().is_some() || !is_number(year, 4) || !is_number(month, 2) || !is_number(day, 2) {
            return None;
        }
        let month = time::Month::try_from(month.parse::<u8>().ok()?).ok()?;
        let date = time::Date::from_calendar_date(year.parse().ok()?, month, day.parse().ok()?).ok()?;
        (date.year() >= 1970).then_some(Self(date))
    }

    /// The first second of the day after.
    pub fn end(self) -> UnixSeconds {
        let seconds = self.0.midnight().assume_utc().unix_timestamp();
        UnixSeconds::new(u64::try_from(seconds).unwrap_or_default()).plus(Seconds::new(24 * 3600))
    }
}

impl<'de> Deserialize<'de> for Date {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom(format_args!("`{text}` is not a day such as `2026-11-02`")))
    }
}

#[cfg(feature = "schema")]
mod schema {
    use std::borrow::Cow;

    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

    use super::{ByteCount, Date, Seconds};

    impl JsonSchema for Seconds {
        fn schema_name() -> Cow<'static, str> {
            "Duration".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({"type": "string", "pattern": "^[0-9]+[smh]$", "examples": ["30s", "5m", "24h"]})
        }
    }

    impl JsonSchema for Date {
        fn schema_name() -> Cow<'static, str> {
            "Date".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({"type": "string", "format": "date", "examples": ["2026-11-02"]})
        }
    }

    impl JsonSchema for ByteCount {
        fn schema_name() -> Cow<'static, str> {
            "ByteCount".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({"type": "integer", "minimum": 1})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(Seconds::parse("5m"), Some(Seconds::new(300)));
        assert_eq!(Seconds::parse("24h"), Some(Seconds::new(86_400)));
        for wrong in ["", "5", "m", "-5m", "5 m", "1.5h", "5d", "99999999999999999999h", "5mm"] {
            assert_eq!(Seconds::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_date_is_a_day_of_the_calendar_and_ends_when_it_is_over() {
        assert_eq!(Date::parse("1970-01-01").unwrap().end(), UnixSeconds::new(86_400));
        assert_eq!(Date::parse("2026-11-02").unwrap().end(), UnixSeconds::new(1_793_664_000));
        assert!(Date::parse("2028-02-29").is_some());
        for wrong in ["", "2026-02-29", "2026-13-01", "2026-1-1", "+026-01-01", "2026-11-02T00:00:00Z", "1969-12-31"] {
            assert_eq!(Date::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn byte_counts_may_come_as_whole_doubles() {
        assert_eq!(serde_json::from_str::<ByteCount>("1048576.0").unwrap(), ByteCount::new(1_048_576));
        assert_eq!(serde_json::from_str::<ByteCount>("1.048576e6").unwrap(), ByteCount::new(1_048_576));
        for wrong in ["-1", "1.5", "1e99", "\"1\"", "null"] {
            assert!(serde_json::from_str::<ByteCount>(wrong).is_err(), "{wrong}");
        }
    }
}

//! Times in the configuration.

use serde::{Deserialize, Deserializer};

/// Whole days, written `90d`.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Days(pub u32);

impl Default for Days {
    fn default() -> Self {
        Self(90)
    }
}

impl Days {
    /// The same in seconds.
    #[must_use]
    pub fn seconds(self) -> i64 {
        i64::from(self.0).saturating_mul(86_400)
    }
}

impl<'de> Deserialize<'de> for Days {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let days = text.strip_suffix('d').and_then(|digits| digits.parse().ok());
        days.map(Self).ok_or_else(|| serde::de::Error::custom("must be a number of days, such as 90d"))
    }
}

/// A time in seconds, written `300s`, `15m` or `8h`.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Span(pub u32);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let units = [("s", 1_u32), ("m", 60), ("h", 3600)];
        let read = |(suffix, unit): &(&str, u32)| text.strip_suffix(suffix)?.parse::<u32>().ok()?.checked_mul(*unit);
        let seconds = units.iter().find_map(read);
        seconds.map(Self).ok_or_else(|| serde::de::Error::custom("must be a time, such as 15m or 1h"))
    }
}

//! How an exchange ended.

use crate::audit::is_broken_off;
use crate::units::UnixMillis;

/// How an exchange ended, as far as the host alone knows it.
#[derive(Clone, Debug, Default)]
pub struct Ending {
    /// When the request's headers had arrived.
    pub started: UnixMillis,
    /// Now.
    pub at: UnixMillis,
    /// HTTP status of the answer, if there was one.
    pub status: Option<u16>,
    /// Envoy's `%RESPONSE_CODE_DETAILS%`.
    pub details: String,
    /// The answer did not pass to its end.
    pub is_partial: bool,
    /// Envoy's response flags, as in the attribute `response.flags`.
    pub flags: u64,
    /// Address of the client.
    pub source: Option<String>,
}

impl Ending {
    /// Whether the exchange was broken off, by whomever.
    pub fn is_broken_off(&self) -> bool {
        // Envoy sets no flag when a stream has lasted too long.
        is_broken_off(self.flags) || self.details == "max_duration_timeout"
    }
}

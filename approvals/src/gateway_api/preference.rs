//! How long a gateway wants to wait: `Prefer: wait=N` (RFC 7240).

use std::time::Duration;

use http::HeaderMap;

/// Seconds of the longest wait. More is taken for this.
const MAX_WAIT: u64 = 55;

/// The wait that is asked for. What is not understood is passed over, as the RFC has it; the first one counts.
pub(super) fn wait(headers: &HeaderMap) -> Duration {
    let values = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let mut preferences = values.flat_map(|value| value.split(','));
    let seconds = preferences.find_map(|preference| {
        let preference = preference.split(';').next()?;
        let (name, value) = preference.split_once('=')?;
        let value = value.trim().trim_matches('"');
        name.trim().eq_ignore_ascii_case("wait").then(|| value.parse::<u64>().ok())?
    });
    Duration::from_secs(seconds.unwrap_or(0).min(MAX_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_found_and_bounded() {
        let cases = [
            ("wait=5", 5),
            ("respond-async, WAIT = \"7\" ; x", 7),
            ("wait=900", 55),
            ("wait=-1", 0),
            ("wait", 0),
            ("waiting=3", 0),
            ("wait=99999999999999999999", 0),
        ];
        for (text, seconds) in cases {
            let headers = HeaderMap::from_iter([("prefer".parse().unwrap(), text.parse().unwrap())]);
            assert_eq!(wait(&headers), Duration::from_secs(seconds), "{text}");
        }
    }
}

//! The host in the filter's own terms.

use super::abi::{self, HostError, Map};
use crate::exchange::HeaderEdits;
use crate::http::{HeaderList, LocalReply};
use crate::units::UnixSeconds;

/// Log levels of the host.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(super) enum Level {
    Info = 2,
    Warn = 3,
    Error = 4,
}

/// Writes a line to the proxy's log. Line breaks are escaped: the proxy writes them as they are.
pub(super) fn log(level: Level, line: &str) {
    let escaped: String = line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    abi::log(level as u32, &escaped);
}

pub(super) fn now() -> Result<UnixSeconds, HostError> {
    abi::current_time_nanoseconds().map(|nanoseconds| UnixSeconds::new(nanoseconds / 1_000_000_000))
}

pub(super) fn headers(map: Map) -> Result<HeaderList, HostError> {
    abi::map(map).map(HeaderList::new)
}

pub(super) fn edit_headers(map: Map, edits: &HeaderEdits) -> Result<(), HostError> {
    edits.remove.iter().try_for_each(|name| abi::remove_header(map, name))?;
    edits.set.iter().try_for_each(|(name, value)| abi::set_header(map, name, value))?;
    edits.add.iter().try_for_each(|(name, value)| abi::add_header(map, name, value))
}

/// Trailers are not part of what was decided about, and some servers read them as headers.
pub(super) fn drop_request_trailers() -> Result<(), HostError> {
    let trailers = headers(Map::RequestTrailers)?;
    trailers.names().try_for_each(|name| abi::remove_header(Map::RequestTrailers, name))
}

pub(super) fn reply(reply: &LocalReply) -> Result<(), HostError> {
    let headers: Vec<(&str, &str)> = reply.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    abi::send_local_response(reply.status, reply.details, &headers, &reply.body)
}

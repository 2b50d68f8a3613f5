//! The host in the filter's own terms.

use std::net::IpAddr;

use super::abi::{self, HostError, Map};
use crate::exchange::{Ending, HeaderEdits};
use crate::http::{HeaderList, LocalReply};
use crate::identity::{Peer, PeerNeeds};
use crate::units::UnixMillis;

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

pub(super) fn now() -> Result<UnixMillis, HostError> {
    abi::current_time_nanoseconds().map(|nanoseconds| UnixMillis::new(nanoseconds / 1_000_000))
}

/// How a stream has ended, as far as the host alone knows it. To be asked when it has. A status or an address that is
/// known already is not asked for: each question costs about a microsecond.
pub(super) fn ending(
    started: UnixMillis,
    at: UnixMillis,
    is_partial: bool,
    status: Option<u16>,
    address: Option<IpAddr>,
) -> Ending {
    let number = |path: &str| {
        let bytes = abi::property(path).ok()?;
        Some(u64::from_le_bytes(*bytes.first_chunk::<8>()?))
    };
    let reported = || number("response\0code").and_then(|code| u16::try_from(code).ok()).filter(|code| *code != 0);
    Ending {
        started,
        at,
        status: status.or_else(reported),
        is_partial,
        details: text("response\0code_details").unwrap_or_default(),
        flags: number("response\0flags").unwrap_or_default(),
        source: address.or_else(source_address).map(|address| address.to_string()),
    }
}

pub(super) fn headers(map: Map) -> Result<HeaderList, HostError> {
    abi::map(map)
}

/// What must be known of the other end of the connection. The names of a certificate count only where the connection is
/// mutual TLS; that the certificate was verified is up to the listener's validation context.
pub(super) fn peer(needs: PeerNeeds) -> Peer {
    let is_mutual = needs.certificate && abi::property("connection\0mtls").is_ok_and(|value| value.first() == Some(&1));
    let certified = |path: &str| if is_mutual { text(path) } else { None };
    Peer {
        address: if needs.address { source_address() } else { None },
        uri_san: certified("connection\0uri_san_peer_certificate"),
        dns_san: certified("connection\0dns_san_peer_certificate"),
    }
}

fn source_address() -> Option<IpAddr> {
    text("source\0address").and_then(|address| Peer::parse_address(&address))
}

/// A property that is a text, and not an empty one.
fn text(path: &str) -> Option<String> {
    let bytes = abi::property(path).ok().filter(|bytes| !bytes.is_empty())?;
    String::from_utf8(bytes).ok()
}

pub(super) fn edit_headers(map: Map, edits: &HeaderEdits) -> Result<(), HostError> {
    edits.remove.iter().try_for_each(|name| abi::remove_header(map, name))?;
    edits.all_set().try_for_each(|(name, value)| abi::set_header(map, name, value))?;
    edits.add.iter().try_for_each(|(name, value)| abi::add_header(map, name, value))
}

/// Trailers are not part of what was decided about, and some servers read them as headers.
pub(super) fn drop_trailers(map: Map) -> Result<(), HostError> {
    let trailers = headers(map)?;
    trailers.names().try_for_each(|name| abi::remove_header(map, name))
}

pub(super) fn reply(reply: &LocalReply) -> Result<(), HostError> {
    let headers: Vec<(&str, &str)> = reply.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    abi::send_local_response(reply.status, &reply.code_details(), &headers, &reply.body)
}

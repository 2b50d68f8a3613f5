//! The host functions of proxy-wasm ABI 0.2.1, <https://github.com/proxy-wasm/spec>.
//!
//! The SDK's wrappers panic on headers that are not UTF-8 and on every status that they do not expect; these return
//! the status. Only callouts go through the SDK, whose dispatcher must know of them.

#![expect(unsafe_code, reason = "the host is called through its C ABI")]

use std::ptr::{null, null_mut};

use crate::http::{Field, HeaderList};

/// A status other than `Ok`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("host status {0}")]
pub(super) struct HostError(pub(super) u32);

/// The compare-and-swap value of shared data was not the current one.
pub(super) const CAS_MISMATCH: HostError = HostError(8);
/// The host gave something that is not in the form of the ABI.
const MALFORMED: HostError = HostError(4);

/// A header map of the current context.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(super) enum Map {
    RequestHeaders = 0,
    RequestTrailers = 1,
    ResponseHeaders = 2,
    ResponseTrailers = 3,
    CalloutHeaders = 6,
}

/// A buffer of the current context.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(super) enum Buffer {
    RequestBody = 0,
    ResponseBody = 1,
    CalloutBody = 4,
    PluginConfiguration = 7,
}

/// A kind of metric.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(super) enum MetricKind {
    Counter = 0,
    Gauge = 1,
}

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_log(level: u32, message: *const u8, size: usize) -> u32;
    fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    fn proxy_get_buffer_bytes(buffer: u32, start: usize, max: usize, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_remove_header_map_value(map: u32, key: *const u8, key_size: usize) -> u32;
    fn proxy_replace_header_map_value(
        map: u32,
        key: *const u8,
        key_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_add_header_map_value(
        map: u32,
        key: *const u8,
        key_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_get_property(path: *const u8, path_size: usize, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_set_property(path: *const u8, path_size: usize, value: *const u8, value_size: usize) -> u32;
    fn proxy_get_shared_data(
        key: *const u8,
        key_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
        cas: *mut u32,
    ) -> u32;
    fn proxy_set_shared_data(key: *const u8, key_size: usize, value: *const u8, value_size: usize, cas: u32) -> u32;
    fn proxy_continue_stream(stream: u32) -> u32;
    fn proxy_close_stream(stream: u32) -> u32;
    fn proxy_set_buffer_bytes(buffer: u32, start: usize, size: usize, data: *const u8, data_size: usize) -> u32;
    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_size: usize,
        body: *const u8,
        body_size: usize,
        headers: *const u8,
        headers_size: usize,
        grpc_status: i32,
    ) -> u32;
    fn proxy_set_effective_context(context: u32) -> u32;
    fn proxy_call_foreign_function(
        name: *const u8,
        name_size: usize,
        argument: *const u8,
        argument_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, id: *mut u32) -> u32;
    fn proxy_increment_metric(id: u32, offset: i64) -> u32;
    fn proxy_record_metric(id: u32, value: u64) -> u32;
}

#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    fn random_get(buffer: *mut u8, size: usize) -> u16;
}

fn check(status: u32) -> Result<(), HostError> {
    if status == 0 { Ok(()) } else { Err(HostError(status)) }
}

/// Takes what the host has put into the module's memory; nothing at all counts as empty.
fn taken(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Result<Vec<u8>, HostError> {
    let (mut data, mut size) = (null_mut(), 0_usize);
    check(call(&raw mut data, &raw mut size))?;
    if data.is_null() {
        return Ok(Vec::new());
    }
    // SAFETY: the host has allocated exactly `size` bytes by `proxy_on_memory_allocate`, which makes a boxed slice of
    // that size with the global allocator, and gives them away.
    Ok(unsafe { Vec::from_raw_parts(data, size, size) })
}

pub(super) fn log(level: u32, message: &str) {
    // SAFETY: pointer and length describe `message`, which outlives the call; the host keeps nothing.
    // A log line that the host does not take is lost, and there is nowhere to say so.
    let _ = unsafe { proxy_log(level, message.as_ptr(), message.len()) };
}

pub(super) fn current_time_nanoseconds() -> Result<u64, HostError> {
    let mut time = 0;
    // SAFETY: the host writes eight bytes to a valid place.
    check(unsafe { proxy_get_current_time_nanoseconds(&raw mut time) })?;
    Ok(time)
}

pub(super) fn set_tick_period_milliseconds(period: u32) -> Result<(), HostError> {
    // SAFETY: no pointers.
    check(unsafe { proxy_set_tick_period_milliseconds(period) })
}

/// The first `max` bytes of a buffer. For none of them the host is not asked.
pub(super) fn buffer(buffer: Buffer, max: usize) -> Result<Vec<u8>, HostError> {
    if max == 0 {
        return Ok(Vec::new());
    }
    // SAFETY: the host writes pointer and size to valid places.
    taken(|data, size| unsafe { proxy_get_buffer_bytes(buffer as u32, 0, max, data, size) })
}

pub(super) fn map(map: Map) -> Result<HeaderList, HostError> {
    // SAFETY: the host writes pointer and size to valid places.
    let bytes = taken(|data, size| unsafe { proxy_get_header_map_pairs(map as u32, data, size) })?;
    let fields = fields(&bytes).ok_or(MALFORMED)?;
    Ok(HeaderList::new(bytes, fields))
}

/// Reads a serialised map: the number of pairs, the sizes of each key and value, then each of them followed by a NUL.
fn fields(bytes: &[u8]) -> Option<Vec<Field>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let (count, rest) = number(bytes)?;
    let (mut sizes, content) = rest.split_at_checked(count.checked_mul(8)?)?;
    let mut fields = Vec::with_capacity(count);
    let mut at = bytes.len().checked_sub(content.len())?;
    let mut part = |size: usize| {
        let end = at.checked_add(size)?;
        let part = at..end;
        at = end.checked_add(1)?;
        (bytes.get(end) == Some(&0)).then_some(part)
    };
    while !sizes.is_empty() {
        let (key_size, after) = number(sizes)?;
        let (value_size, after) = number(after)?;
        sizes = after;
        fields.push((part(key_size)?, part(value_size)?));
    }
    Some(fields)
}

fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    Some((usize::try_from(u32::from_le_bytes(*number)).ok()?, rest))
}

/// The inverse of [`fields`].
fn serialized<'a>(pairs: impl ExactSizeIterator<Item = (&'a str, &'a str)> + Clone) -> Option<Vec<u8>> {
    let size = |size: usize| u32::try_from(size).map(u32::to_le_bytes).ok();
    let mut bytes = size(pairs.len())?.to_vec();
    for (key, value) in pairs.clone() {
        bytes.extend(size(key.len())?);
        bytes.extend(size(value.len())?);
    }
    for (key, value) in pairs {
        for text in [key, value] {
            bytes.extend_from_slice(text.as_bytes());
            bytes.push(0);
        }
    }
    Some(bytes)
}

pub(super) fn remove_header(map: Map, name: &[u8]) -> Result<(), HostError> {
    // SAFETY: pointer and length describe `name`, which outlives the call.
    check(unsafe { proxy_remove_header_map_value(map as u32, name.as_ptr(), name.len()) })
}

pub(super) fn set_header(map: Map, name: &str, value: &str) -> Result<(), HostError> {
    // SAFETY: pointers and lengths describe `name` and `value`, which outlive the call.
    check(unsafe { proxy_replace_header_map_value(map as u32, name.as_ptr(), name.len(), value.as_ptr(), value.len()) })
}

pub(super) fn add_header(map: Map, name: &str, value: &str) -> Result<(), HostError> {
    // SAFETY: pointers and lengths describe `name` and `value`, which outlive the call.
    check(unsafe { proxy_add_header_map_value(map as u32, name.as_ptr(), name.len(), value.as_ptr(), value.len()) })
}

pub(super) fn property(path: &str) -> Result<Vec<u8>, HostError> {
    // SAFETY: pointer and length describe `path`; the host writes pointer and size to valid places.
    taken(|data, size| unsafe { proxy_get_property(path.as_ptr(), path.len(), data, size) })
}

/// Puts a value where access loggers and later filters find it, as `wasm.` and the name in the filter state.
pub(super) fn set_property(name: &str, value: &[u8]) -> Result<(), HostError> {
    // SAFETY: pointers and lengths describe `name` and `value`, which outlive the call.
    check(unsafe { proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) })
}

/// The value and the number to change it by with [`set_shared_data`].
pub(super) fn shared_data(key: &str) -> Result<(Vec<u8>, u32), HostError> {
    let mut cas = 0;
    let place = &raw mut cas;
    // SAFETY: pointer and length describe `key`; the host writes to valid places.
    let value = taken(|data, size| unsafe { proxy_get_shared_data(key.as_ptr(), key.len(), data, size, place) })?;
    Ok((value, cas))
}

/// `cas` 0 overwrites whatever is there.
pub(super) fn set_shared_data(key: &str, value: &[u8], cas: u32) -> Result<(), HostError> {
    // SAFETY: pointers and lengths describe `key` and `value`, which outlive the call.
    check(unsafe { proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas) })
}

pub(super) fn continue_request() -> Result<(), HostError> {
    // SAFETY: no pointers. 0 is the request's side of the stream.
    check(unsafe { proxy_continue_stream(0) })
}

/// Cuts the answer off, as soon as the host is back from this module: a reset on HTTP/2, a closed connection on HTTP/1.
pub(super) fn close_response() -> Result<(), HostError> {
    // SAFETY: no pointers. 1 is the answer's side of the stream.
    check(unsafe { proxy_close_stream(1) })
}

/// Puts `content` in place of all that a buffer holds.
pub(super) fn set_buffer(buffer: Buffer, content: &[u8]) -> Result<(), HostError> {
    let all = usize::MAX >> 1;
    // SAFETY: pointer and length describe `content`, which outlives the call; the host copies it.
    check(unsafe { proxy_set_buffer_bytes(buffer as u32, 0, all, content.as_ptr(), content.len()) })
}

pub(super) fn send_local_response(
    status: u16,
    details: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<(), HostError> {
    let headers = serialized(headers.iter().copied()).ok_or(MALFORMED)?;
    let body_pointer = if body.is_empty() { null() } else { body.as_ptr() };
    // SAFETY: pointers and lengths describe values that outlive the call; the host copies them. -1: not gRPC.
    check(unsafe {
        proxy_send_local_response(
            u32::from(status),
            details.as_ptr(),
            details.len(),
            body_pointer,
            body.len(),
            headers.as_ptr(),
            headers.len(),
            -1,
        )
    })
}

pub(super) fn set_effective_context(context: u32) -> Result<(), HostError> {
    // SAFETY: no pointers.
    check(unsafe { proxy_set_effective_context(context) })
}

pub(super) fn call_foreign_function(name: &str, argument: &[u8]) -> Result<Vec<u8>, HostError> {
    // SAFETY: pointers and lengths describe values that outlive the call; the host writes to valid places.
    taken(|data, size| unsafe {
        proxy_call_foreign_function(name.as_ptr(), name.len(), argument.as_ptr(), argument.len(), data, size)
    })
}

pub(super) fn define_metric(kind: MetricKind, name: &str) -> Result<u32, HostError> {
    let mut id = 0;
    // SAFETY: pointer and length describe `name`; the host writes four bytes to a valid place.
    check(unsafe { proxy_define_metric(kind as u32, name.as_ptr(), name.len(), &raw mut id) })?;
    Ok(id)
}

pub(super) fn increment_metric(id: u32, offset: i64) -> Result<(), HostError> {
    // SAFETY: no pointers.
    check(unsafe { proxy_increment_metric(id, offset) })
}

pub(super) fn record_metric(id: u32, value: u64) -> Result<(), HostError> {
    // SAFETY: no pointers.
    check(unsafe { proxy_record_metric(id, value) })
}

/// Random bits from the host's cryptographic generator.
pub(super) fn random() -> Result<u64, HostError> {
    let mut bytes = [0; 8];
    fill_random(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// Fills a buffer of up to 64 KiB with such bits.
pub(super) fn fill_random(buffer: &mut [u8]) -> Result<(), HostError> {
    // SAFETY: the host fills exactly the buffer.
    check(u32::from(unsafe { random_get(buffer.as_mut_ptr(), buffer.len()) }))
}

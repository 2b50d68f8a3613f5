//! Calls to approval services.

use std::time::Duration;

use proxy_wasm::hostcalls;

use super::abi::{self, Buffer, Map};
use super::host;
use crate::config::ApprovalPolicy;
use crate::exchange::{ServiceAnswer, ServiceCall};
use crate::limits;

/// Sends a call; `None` if the host does not take it. Then no answer will come.
pub(super) fn dispatch(policy: &ApprovalPolicy, call: &ServiceCall) -> Option<u32> {
    let service = policy.services.get(call.service)?;
    let path = format!("{}{}", service.endpoint.path, call.path);
    let credential = service.credential.header_value();
    let prefer = format!("wait={}", call.wait.get());
    let mut headers = vec![
        (":method", call.method),
        (":path", path.as_str()),
        (":authority", service.endpoint.authority.as_str()),
        ("authorization", credential.as_str()),
        ("accept", "application/json"),
    ];
    if call.wait.get() > 0 {
        headers.push(("prefer", &prefer));
    }
    let body = (!call.body.is_empty()).then_some(call.body.as_slice());
    if body.is_some() {
        headers.push(("content-type", "application/json"));
    }
    let timeout = Duration::from_secs(policy.timeout.get().saturating_add(call.wait.get()));
    hostcalls::dispatch_http_call(&service.endpoint.cluster, headers, body, Vec::new(), timeout).ok()
}

/// An answer as the host reports it.
pub(super) struct Answer {
    status: u16,
    is_own: bool,
    body: Option<Vec<u8>>,
}

impl Answer {
    /// Reads the answer that the host reports now; `None` for a connection that broke, which it reports as an answer
    /// without headers.
    pub(super) fn read(headers: usize, body_size: usize) -> Option<Self> {
        if headers == 0 {
            return None;
        }
        let headers = host::headers(Map::CalloutHeaders).ok()?;
        let status = headers.value(":status").and_then(|status| status.parse().ok())?;
        // What the proxy says itself about a service that it cannot reach does not have this.
        let is_own = headers.contains("x-envoy-upstream-service-time");
        let is_too_long = body_size > limits::MAX_APPROVAL_ANSWER_BYTES;
        let body = match body_size {
            0 => Some(Vec::new()),
            _ if is_too_long => None,
            _ => Some(abi::buffer(Buffer::CalloutBody, body_size).ok()?),
        };
        Some(Self { status, is_own, body })
    }

    /// What it means.
    pub(super) fn meaning(answer: Option<&Self>) -> ServiceAnswer<'_> {
        match answer {
            None | Some(Self { status: 503, is_own: false, .. }) => ServiceAnswer::Unreachable,
            Some(Self { status: 504, is_own: false, .. }) => ServiceAnswer::TimedOut,
            Some(Self { body: None, .. }) => ServiceAnswer::Oversized,
            Some(Self { status, body: Some(body), .. }) => ServiceAnswer::Reply { status: *status, body },
        }
    }
}

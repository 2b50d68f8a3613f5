//! The root context: takes in a policy, and keeps what requests are judged by fresh.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::rc::{Rc, Weak};

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;

use super::abi::{self, Buffer, Map};
use super::approval_calls::Answer;
use super::gateway::Gateway;
use super::host::{self, Level};
use super::poller::Poller;
use super::stream::{Request, Stream, Unconfigured};
use super::trail::Trail;
use crate::config::{CompiledPolicy, RevocationSource};
use crate::exchange::Awaited;
use crate::limits;
use crate::session::SessionKeys;
use crate::units::{UnixMillis, UnixSeconds};

/// Time between two looks at the documents when nobody waits for them.
const TICK_MS: u32 = 1000;

/// Time between two looks while another worker fetches what is wanted here.
const POLL_MS: u32 = 50;

/// Time until the next requests are woken when there are more than may be at once.
const WAKE_MS: u32 = 1;

pub(super) struct Root {
    context_id: u32,
    active: Option<Active>,
    /// Requests that have waited long enough, in the order in which they are woken.
    to_wake: VecDeque<Weak<RefCell<Request>>>,
}

struct Active {
    gateway: Rc<Gateway>,
    poller: Poller,
    /// Calls to the anchor of the audit trail that are under way.
    anchoring: BTreeSet<u32>,
}

impl Root {
    pub(super) fn new(context_id: u32) -> Self {
        Self { context_id, active: None, to_wake: VecDeque::new() }
    }

    /// Ends the wait for these documents. Wakes some of the requests and leaves the others to the next tick.
    ///
    /// The host resumes and answers requests only when this callback has returned, each of them inside of the one
    /// before, and a few hundred of them would overflow its stack.
    fn settle(&mut self, settled: Vec<Awaited>) {
        let Some(Active { gateway, .. }) = &self.active else { return };
        self.to_wake.extend(settled.into_iter().flat_map(|awaited| gateway.take_waiting(awaited)));
        let lot = self.to_wake.len().min(limits::MAX_WOKEN_AT_ONCE);
        for request in self.to_wake.drain(..lot).filter_map(|request| request.upgrade()) {
            if let Ok(mut request) = request.try_borrow_mut() {
                request.wake();
            }
        }
        self.resume_context();
        if !self.to_wake.is_empty() {
            Self::tick_every(WAKE_MS);
        }
    }

    /// The host acts for the root again, after a request.
    fn resume_context(&self) {
        if let Err(error) = abi::set_effective_context(self.context_id) {
            host::log(Level::Error, &format!("toolgate: the root context is lost: {error}"));
        }
    }

    /// Looks after answers that may have lasted long enough; says whether there may be more of them.
    fn end_streams(&self, now: UnixSeconds) -> bool {
        let Some(Active { gateway, .. }) = &self.active else { return false };
        let due = gateway.take_due(now);
        for request in due.iter().filter_map(Weak::upgrade) {
            if let Ok(mut request) = request.try_borrow_mut() {
                request.look_after();
            }
        }
        due.len() >= limits::MAX_WOKEN_AT_ONCE
    }

    fn tick_every(milliseconds: u32) {
        if let Err(error) = abi::set_tick_period_milliseconds(milliseconds) {
            host::log(Level::Error, &format!("toolgate: no timer, nothing will be refreshed: {error}"));
        }
    }
}

impl Context for Root {
    fn on_http_call_response(&mut self, token: u32, headers: usize, body_size: usize, _: usize) {
        let Some(Active { gateway, poller, anchoring }) = &mut self.active else { return };
        if anchoring.remove(&token) {
            if let Some(endpoint) = gateway.policy.audit.as_ref().and_then(|audit| audit.anchor.as_ref()) {
                // The host reports a connection that broke as an answer without headers.
                let answer = if headers == 0 { None } else { host::headers(Map::CalloutHeaders).ok() };
                gateway.trail.anchored(endpoint, answer.as_ref().and_then(|answer| answer.value(":status")));
            }
            return;
        }
        if let Some(request) = gateway.take_call(token) {
            let answer = Answer::read(headers, body_size);
            if let Ok(mut request) = request.try_borrow_mut() {
                request.service_answered(token, answer.as_ref());
            }
            self.resume_context();
            return;
        }
        let Ok(now) = host::now().map(UnixMillis::seconds) else { return };
        let settled = poller.answered(gateway, token, headers, body_size, now);
        self.settle(settled.into_iter().collect());
    }

    /// Another policy has come, or the worker ends.
    fn on_done(&mut self) -> bool {
        if let Some(Active { gateway, poller, .. }) = &self.active {
            poller.release(gateway);
            if let Some(audit) = &gateway.policy.audit {
                gateway.trail.close(audit, self.context_id, host::now().unwrap_or_default());
            }
        }
        true
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        let document = match abi::buffer(Buffer::PluginConfiguration, size) {
            Ok(document) if !document.is_empty() => document,
            Ok(_) => {
                host::log(Level::Error, "toolgate: no policy; put one into the plugin's `configuration`");
                return false;
            }
            Err(error) => {
                host::log(Level::Error, &format!("toolgate: the policy cannot be read: {error}"));
                return false;
            }
        };
        let now = host::now().unwrap_or_default();
        let policy = match CompiledPolicy::from_json(&document, &|name| std::env::var(name).ok()) {
            Ok(policy) => policy,
            Err(error) => {
                host::log(Level::Error, &format!("toolgate: {error}"));
                Trail::policy_refused(&document, &error, now);
                return false;
            }
        };
        let trail = Trail::of(policy.resource.as_str(), now);
        trail.policy_loaded(document, &policy, self.context_id, now);
        let poller = Poller::new();
        let gateway = Rc::new(Gateway::new(policy, trail));
        report(&gateway, &poller);
        self.active = Some(Active { gateway, poller, anchoring: BTreeSet::new() });
        // The first look comes at once, so that keys are there before requests are.
        Self::tick_every(1);
        true
    }

    fn on_tick(&mut self) {
        let Some(Active { gateway, poller, anchoring }) = &mut self.active else { return };
        let Ok(at) = host::now() else { return };
        let now = at.seconds();
        if let Some(audit) = &gateway.policy.audit {
            anchoring.extend(gateway.trail.look_after(audit, at));
        }
        gateway.root_came();
        let settled = poller.refresh(gateway, now);
        let is_hurried = gateway.has_waiting() || poller.is_polling();
        let is_hurried = self.end_streams(now) || is_hurried;
        Self::tick_every(if is_hurried { POLL_MS } else { TICK_MS });
        self.settle(settled);
    }

    fn create_http_context(&self, context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(match &self.active {
            Some(Active { gateway, .. }) => Box::new(Stream::new(context_id, Rc::clone(gateway))),
            None => Box::new(Unconfigured),
        })
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

fn sessions(keys: &SessionKeys) -> String {
    if keys.is_empty() {
        return "refused (no session key)".to_owned();
    }
    format!("bound to callers by key {} for {}", keys.ids().collect::<Vec<_>>().join(", "), keys.max_age())
}

fn records(policy: &CompiledPolicy) -> String {
    match &policy.audit {
        None => "OFF".to_owned(),
        Some(audit) => format!("sealed by key {} in wasm.toolgate.audit", audit.key().id()),
    }
}

fn approvals(policy: &CompiledPolicy) -> String {
    let Some(approval) = &policy.approval else { return "asked of nobody, calls that need one are denied".to_owned() };
    let clusters: Vec<String> =
        approval.services.iter().map(|service| format!("cluster `{}`", service.endpoint.cluster)).collect();
    format!("asked of {}, denied on silence", clusters.join(", then "))
}

/// Says at load which controls are active, and how each of them fails.
fn report(gateway: &Gateway, poller: &Poller) {
    let policy = &gateway.policy;
    host::log(
        Level::Info,
        &format!(
            "toolgate {version}: policy sha256:{digest} for {resource}; revisions {revisions}; {issuers} issuers; \
             {rules} rules, anything else denied; token {token} upstream; sessions {sessions}; signatures by {verifier}; keys {sharing}; \
             revocations {revocations}; records {records}; approvals {approvals}; \
             without keys 503, on a host failure 503, on a trap as `failure_policy` says",
            version = env!("CARGO_PKG_VERSION"),
            digest = policy.digest,
            resource = policy.resource.as_str(),
            revisions = policy.revisions.names().join(" "),
            issuers = policy.issuers.len(),
            rules = policy.rules.rules.len(),
            token = if policy.keeps_authorization { "kept" } else { "removed" },
            sessions = sessions(&policy.sessions),
            verifier = gateway.verifier.name(),
            revocations = revocations(policy),
            records = records(policy),
            approvals = approvals(policy),
            sharing =
                if poller.is_sharing() { "shared between workers" } else { "fetched by each worker (empty vm_id)" },
        ),
    );
}

fn revocations(policy: &CompiledPolicy) -> String {
    let listed = policy.directory.revoked.len();
    match &policy.revocations {
        None => format!("{listed} by policy"),
        Some(RevocationSource { endpoint, refresh, max_stale }) => format!(
            "{listed} by policy, more from cluster `{}` every {refresh}, 503 after {max_stale} without",
            endpoint.cluster
        ),
    }
}

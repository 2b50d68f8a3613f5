//! The audit trail of this worker: a chain that outlives policies, and what must be known of the other workers.
//!
//! A policy takes everything with it when another one comes. The virtual machine stays, and with it what is kept here, by
//! plugin and protected resource: two of these may well write into two logs.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use proxy_wasm::hostcalls;
use serde::{Deserialize, Serialize};

use super::abi::{self, CAS_MISMATCH};
use super::host::{self, Level};
use super::metrics;
use crate::audit::record::{Head, PolicyChange, PolicyEvent};
use crate::audit::{Chain, Entry, policy_changes};
use crate::config::{AuditPolicy, CompiledPolicy, ConfigError, Endpoint};
use crate::limits;
use crate::units::{Seconds, UnixMillis};

thread_local! {
    static TRAILS: RefCell<BTreeMap<(String, String), Rc<Trail>>> = const { RefCell::new(BTreeMap::new()) };
}

/// Where the record is for access loggers: `%FILTER_STATE(wasm.toolgate.audit:PLAIN)%`.
const PROPERTY: &str = "toolgate.audit";

/// The trail of a plugin and a resource in this worker.
pub(super) struct Trail {
    plugin: String,
    resource: String,
    chain: RefCell<Chain>,
    /// The policy in force and its digest, to tell what the next one changes.
    policy: RefCell<Option<(Vec<u8>, String)>>,
    /// The root contexts that may still write records.
    owners: RefCell<BTreeSet<u32>>,
    looked_at: Cell<UnixMillis>,
    /// The last refusal of a policy that is in the chain.
    refusal: RefCell<Vec<u8>>,
    /// The host does not take records: said once.
    has_warned: Cell<bool>,
}

/// What the worker that refused a policy tells the others.
#[derive(Deserialize, Serialize)]
struct Refusal {
    at: String,
    policy: String,
    error: String,
}

impl Trail {
    /// The trail of this plugin for a resource; it begins now if there is none yet.
    pub(super) fn of(resource: &str, now: UnixMillis) -> Rc<Self> {
        let text = |path| abi::property(path).ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
        let (plugin, resource) = (text("plugin_name"), resource.to_owned());
        let begin = || {
            // Ids that repeat would be seen by whoever verifies the log.
            let random = || abi::random().unwrap_or_default();
            let instance = crate::audit::clean(&text("xds\0node\0id"), limits::MAX_RECORDED_TEXT_BYTES).into_owned();
            let id = format!("{:016x}{:016x}", random(), random());
            let worker = format!("{:016x}", random());
            Rc::new(Self {
                plugin: plugin.clone(),
                resource: resource.clone(),
                chain: RefCell::new(Chain::new(id, instance, resource.clone(), worker, now)),
                policy: RefCell::default(),
                owners: RefCell::default(),
                looked_at: Cell::default(),
                refusal: RefCell::default(),
                has_warned: Cell::default(),
            })
        };
        TRAILS.with(|trails| match trails.try_borrow_mut() {
            Ok(mut trails) => Rc::clone(trails.entry((plugin.clone(), resource.clone())).or_insert_with(begin)),
            Err(_) => begin(),
        })
    }

    /// Another policy is in force from now on, under the root context `owner`.
    pub(super) fn policy_loaded(&self, document: Vec<u8>, policy: &CompiledPolicy, owner: u32, now: UnixMillis) {
        if let Ok(mut owners) = self.owners.try_borrow_mut() {
            owners.insert(owner);
        }
        let Ok(mut current) = self.policy.try_borrow_mut() else { return };
        let before = current.replace((document, policy.digest.clone()));
        let (what, previous, changes) = match (&before, &*current) {
            (Some((_, previous)), _) if *previous == policy.digest => return,
            (Some((old, previous)), Some((new, _))) => {
                let changes = policy_changes(old, new).into_iter().map(Into::into).collect();
                (PolicyChange::Reloaded, Some(previous.clone().into()), changes)
            }
            _ => (PolicyChange::Loaded, None, Vec::new()),
        };
        let at = now.to_rfc3339().to_string().into();
        self.note(PolicyEvent { at, changes, error: None, policy: policy.digest.clone().into(), previous, what });
    }

    /// A policy was refused. This happens in a virtual machine that only tries policies, so the workers must be told.
    pub(super) fn policy_refused(document: &[u8], error: &ConfigError, now: UnixMillis) {
        let plugin = abi::property("plugin_name").unwrap_or_default();
        let refusal = Refusal {
            at: now.to_rfc3339().to_string(),
            policy: CompiledPolicy::digest_of(document),
            error: crate::audit::clean(&error.to_string(), limits::MAX_RECORDED_TEXT_BYTES).into_owned(),
        };
        if let (Some(key), Ok(text)) =
            (shared("refusal", &String::from_utf8_lossy(&plugin)), serde_json::to_vec(&refusal))
            && let Err(error) = abi::set_shared_data(&key, &text, 0)
        {
            host::log(
                Level::Warn,
                &format!("toolgate: the audit trail will not say that a policy was refused: {error}"),
            );
        }
    }

    /// Seals a record and hands it to the access loggers.
    pub(super) fn write(&self, audit: &AuditPolicy, entry: &Entry<'_>) {
        let Ok(mut chain) = self.chain.try_borrow_mut() else {
            return metrics::count("toolgate.audit.lost");
        };
        let line = chain.seal(audit.key(), entry);
        self.hand_over(line);
        if audit.host_log {
            log_line(&String::from_utf8_lossy(line));
        }
    }

    /// The same for a record that another one is going to replace.
    pub(super) fn write_provisional(&self, audit: &AuditPolicy, entry: &Entry<'_>) {
        if let Ok(mut chain) = self.chain.try_borrow_mut() {
            self.hand_over(chain.seal_provisional(audit.key(), entry));
        }
    }

    fn hand_over(&self, line: &[u8]) {
        if let Err(error) = abi::set_property(PROPERTY, line) {
            metrics::count("toolgate.audit.lost");
            if !self.has_warned.replace(true) {
                host::log(Level::Error, &format!("toolgate: the host takes no audit record: {error}"));
            }
        }
    }

    /// Looks after the trail, if it is time to: tells the other workers how far it is, and states that for the records
    /// that follow, or for an anchor. Returns the number of the call to the anchor.
    pub(super) fn look_after(&self, audit: &AuditPolicy, now: UnixMillis) -> Option<u32> {
        let Ok(mut chain) = self.chain.try_borrow_mut() else { return None };
        let looked_at = self.looked_at.get();
        let is_due = now.millis_since(looked_at) >= audit.every.as_millis()
            // The clock was set back.
            || now < looked_at
            || chain.unchecked() >= limits::MAX_UNCHECKED_RECORDS;
        if !is_due {
            return None;
        }
        self.looked_at.set(now);
        if let Some(key) = shared("heads", &format!("{} {}", self.plugin, self.resource)) {
            let own = chain.head();
            chain.note_heads(exchange_heads(&key, own.as_ref()));
        }
        drop(chain);
        self.take_in_refusal();
        self.checkpoint(audit, false, now)
    }

    /// States how far the trail is when the last of those who write to it ends in this worker.
    pub(super) fn close(&self, audit: &AuditPolicy, owner: u32, now: UnixMillis) {
        let is_last = self.owners.try_borrow_mut().is_ok_and(|mut owners| owners.remove(&owner) && owners.is_empty());
        if is_last {
            self.checkpoint(audit, true, now);
        }
    }

    fn checkpoint(&self, audit: &AuditPolicy, is_closing: bool, now: UnixMillis) -> Option<u32> {
        let mut chain = self.chain.try_borrow_mut().ok()?;
        if !audit.host_log && audit.anchor.is_none() && !is_closing {
            chain.skip_checkpoint();
            return None;
        }
        if !chain.wants_checkpoint() && !is_closing {
            return None;
        }
        let id = format!("{:016x}{:016x}", abi::random().unwrap_or_default(), abi::random().unwrap_or_default());
        let line = chain.checkpoint(audit.key(), &id, is_closing, now)?;
        if audit.host_log || is_closing {
            log_line(&line);
        }
        let token = send(audit.anchor.as_ref()?, &line);
        if token.is_none() {
            chain.doubt_checkpoint();
        }
        token
    }

    /// Takes note of an anchor's answer. What did not arrive is stated again when it is time to.
    pub(super) fn anchored(&self, endpoint: &Endpoint, status: Option<&str>) {
        match status {
            Some(status) if status.starts_with('2') => metrics::count("toolgate.audit.anchored"),
            status => {
                not_anchored(endpoint, &format!("status {}", status.unwrap_or("unknown")));
                if let Ok(mut chain) = self.chain.try_borrow_mut() {
                    chain.doubt_checkpoint();
                }
            }
        }
    }

    /// Lets the next record say that a policy was refused, if that is news.
    fn take_in_refusal(&self) {
        let Some((text, _)) = shared("refusal", &self.plugin).and_then(|key| abi::shared_data(&key).ok()) else {
            return;
        };
        let Ok(mut known) = self.refusal.try_borrow_mut() else { return };
        if *known == text {
            return;
        }
        if let Ok(Refusal { at, policy, error }) = serde_json::from_slice(&text) {
            let previous =
                self.policy.try_borrow().ok().and_then(|policy| policy.as_ref().map(|(_, digest)| digest.clone()));
            self.note(PolicyEvent {
                at: at.into(),
                changes: Vec::new(),
                error: Some(error.into()),
                policy: policy.into(),
                previous: previous.map(Into::into),
                what: PolicyChange::Refused,
            });
        }
        *known = text;
    }

    fn note(&self, event: PolicyEvent<'static>) {
        if let Ok(mut chain) = self.chain.try_borrow_mut() {
            chain.note_event(event);
        }
    }
}

/// The name of something that workers share. With an empty `vm_id` any other plugin could write there.
fn shared(what: &str, whose: &str) -> Option<String> {
    let vm_id = abi::property("plugin_vm_id").unwrap_or_default();
    (!vm_id.is_empty()).then(|| format!("toolgate.audit.{what} {whose}"))
}

/// Tells the other workers how far this one is, and returns how far they are.
fn exchange_heads(key: &str, own: Option<&Head<'static>>) -> Vec<Head<'static>> {
    // As many attempts as there are workers would do; what is lost here is told the next time.
    for _ in 0..16 {
        let (bytes, version) = abi::shared_data(key).unwrap_or_default();
        let mut heads: Vec<Head<'static>> = serde_json::from_slice::<Vec<Head<'_>>>(&bytes)
            .map(|heads| heads.into_iter().map(owned).collect())
            .unwrap_or_default();
        let Some(own) = own else { return heads };
        if heads.iter().any(|head| head == own) {
            return heads;
        }
        heads.retain(|head| head.id != own.id);
        heads.push(own.clone());
        // The ones that were not heard of for longest go.
        let too_many = heads.len().saturating_sub(limits::MAX_CHAIN_HEADS);
        heads.drain(..too_many);
        let Ok(text) = serde_json::to_vec(&heads) else { return heads };
        if abi::set_shared_data(key, &text, version) != Err(CAS_MISMATCH) {
            return heads;
        }
    }
    Vec::new()
}

fn owned(head: Head<'_>) -> Head<'static> {
    Head { id: head.id.into_owned().into(), mac: head.mac.into_owned().into(), seq: head.seq }
}

/// Records and checkpoints in the proxy's own log. As a warning, because Istio's proxies write nothing below that.
fn log_line(line: &str) {
    host::log(Level::Warn, &format!("toolgate audit {line}"));
}

/// Sends a checkpoint to the anchor: as the body, and as a header for anchors that are access logs.
fn send(endpoint: &Endpoint, line: &str) -> Option<u32> {
    const TIMEOUT: Seconds = limits::FETCH_TIMEOUT;
    let headers = vec![
        (":method", "POST"),
        (":path", endpoint.path.as_str()),
        (":authority", endpoint.authority.as_str()),
        ("content-type", "application/json"),
        ("x-toolgate-checkpoint", line),
    ];
    let timeout = Duration::from_secs(TIMEOUT.get());
    let sent = hostcalls::dispatch_http_call(&endpoint.cluster, headers, Some(line.as_bytes()), Vec::new(), timeout);
    match sent {
        Ok(token) => Some(token),
        Err(_) => {
            not_anchored(endpoint, "the cluster takes no request");
            None
        }
    }
}

fn not_anchored(Endpoint { cluster, path, .. }: &Endpoint, problem: &str) {
    metrics::count("toolgate.audit.not_anchored");
    host::log(Level::Warn, &format!("toolgate: no checkpoint to cluster `{cluster}`, path `{path}`: {problem}"));
}

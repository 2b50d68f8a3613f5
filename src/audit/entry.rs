//! What is known of a request, in the words of those who write it down.
//!
//! [`Record`] and [`Personal`] are what readers get out of a line. Nothing is made of them to write one: an [`Entry`]
//! borrows what is known, and is written member by member. Whatever is written can be read as these types, and is the
//! same again when they are written.
//!
//! [`Record`]: super::record::Record
//! [`Personal`]: super::record::Personal

use std::collections::BTreeMap;

use serde_json::Value;

use super::object::Object;
use super::record::{
    Anchor, Approval, Approver, Batch, FailedSide, Head, Http, Kind, PolicyEvent, Response, Target, Trace, Unverified,
    VERSION, Verdict,
};
use super::seal::Seal;
use super::{Portrait, Salt};
use crate::units::UnixMillis;

/// A record before it has its place in a chain. Its members are those of a [`super::record::Record`].
#[derive(Debug, Default)]
pub struct Entry<'a> {
    /// What people said about the call.
    pub approval: Option<Approval<'a>>,
    /// When it is written.
    pub at: UnixMillis,
    /// What else a batch asked for.
    pub batch: Option<Batch<'a>>,
    /// The caller, once it is known: the member `caller`, the scopes of the token, and the person.
    pub caller: Option<&'a Portrait>,
    /// The request as HTTP.
    pub http: Option<Http<'a>>,
    /// Id of the decision.
    pub id: &'a str,
    /// What it is about.
    pub kind: Kind,
    /// The JSON-RPC method.
    pub method: Option<&'static str>,
    /// Scopes that are required and not granted by the token.
    pub missing: &'a [String],
    /// What can be erased.
    pub personal: Option<Private<'a>>,
    /// SHA-256 of the policy in force, in hexadecimal.
    pub policy: Option<&'a str>,
    /// Reason code.
    pub reason: &'static str,
    /// The scopes of the rule, as a list in JSON; `None` for none.
    pub required: Option<&'a str>,
    /// What came of it.
    pub response: Option<Response<'a>>,
    /// The protocol revision.
    pub revision: Option<&'static str>,
    /// The rule that was decided by.
    pub rule: Option<u32>,
    /// The sides that did not allow it.
    pub sides: Vec<FailedSide<'a>>,
    /// When the request's headers had arrived.
    pub started: UnixMillis,
    /// What was asked for by name.
    pub target: Option<Target<'a>>,
    /// W3C trace context.
    pub trace: Option<Trace<'a>>,
    /// What was decided.
    pub verdict: Verdict,
}

/// What an entry says about people, besides [`Entry::caller`]. Its members are those of a [`super::record::Personal`].
#[derive(Debug)]
pub struct Private<'a> {
    /// Who approved the call, or rejected it.
    pub approvers: Vec<Approver<'a>>,
    /// The arguments that the policy keeps.
    pub arguments: Option<&'a BTreeMap<String, Value>>,
    /// Keyed digest of the arguments.
    pub arguments_digest: Option<&'a str>,
    /// What the policy picks from the result.
    pub outcome: BTreeMap<String, Value>,
    /// Random bits.
    pub salt: &'a Salt,
    /// Address of the client.
    pub source: Option<&'a str>,
    /// What the request is for, as the client says.
    pub stated_purpose: Option<&'a str>,
    /// What a token that was refused says about itself.
    pub unverified: Option<Unverified<'a>>,
    /// The resources that were asked for.
    pub uris: &'a [String],
}

/// The place of a record: what the chain says in it.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) anchor: Option<Anchor<'a>>,
    pub(super) chain: &'a str,
    pub(super) key: &'a str,
    pub(super) prev: &'a str,
    pub(super) seq: u64,
    pub(super) events: &'a [PolicyEvent<'static>],
    pub(super) heads: &'a [Head<'static>],
    pub(super) instance: &'a str,
    pub(super) worker: &'a str,
}

impl Entry<'_> {
    /// Writes the sealed part.
    pub(super) fn write(&self, place: &Place<'_>, personal: Option<&Seal>, mut record: Object<'_>) {
        record.optional_value("anchor", place.anchor.as_ref());
        record.optional_value("approval", self.approval.as_ref());
        record.plain("at", self.at.to_rfc3339().as_str());
        record.optional_value("batch", self.batch.as_ref());
        if let Some(portrait) = self.caller {
            record.json("caller", &portrait.caller);
        }
        place.write(record.object("chain"));
        record.values("events", place.events);
        record.values("heads", place.heads);
        if let Some(http) = &self.http {
            write_http(http, record.object("http"));
        }
        record.text("id", self.id);
        record.text("instance", place.instance);
        record.value("kind", &self.kind);
        record.optional_text("method", self.method);
        if let Some(digest) = personal {
            record.plain("personal", digest.as_str());
        }
        record.optional_text("policy", self.policy);
        record.text("reason", self.reason);
        if let Some(response) = &self.response {
            write_response(response, record.object("response"));
        }
        record.optional_text("revision", self.revision);
        record.optional_value("rule", self.rule.as_ref());
        if let Some(portrait) = self.caller {
            let mut scopes = record.object("scopes");
            scopes.json("granted", &portrait.granted);
            scopes.texts("missing", self.missing);
            if let Some(required) = self.required {
                scopes.json("required", required);
            }
            scopes.end();
        }
        record.values("sides", &self.sides);
        record.plain("started", self.started.to_rfc3339().as_str());
        if let Some(Target { kind, name }) = &self.target {
            let mut target = record.object("target");
            target.text("kind", kind);
            target.optional_text("name", name.as_deref());
            target.end();
        }
        if let Some(Trace { id, parent, source }) = &self.trace {
            let mut trace = record.object("trace");
            trace.text("id", id);
            trace.text("parent", parent);
            trace.text("source", source);
            trace.end();
        }
        record.value("v", &VERSION);
        record.value("verdict", &self.verdict);
        record.text("worker", place.worker);
        record.end();
    }
}

impl Place<'_> {
    fn write(&self, mut chain: Object<'_>) {
        chain.text("id", self.chain);
        chain.plain("key", self.key);
        chain.plain("prev", self.prev);
        chain.value("seq", &self.seq);
        chain.end();
    }
}

impl Private<'_> {
    /// Writes the part that can be erased.
    pub(super) fn write(&self, caller: Option<&Portrait>, mut personal: Object<'_>) {
        let [authentication, claims, pseudonym, subject] =
            caller.map_or([""; 4], |portrait| portrait.personal.each_ref().map(AsRef::as_ref));
        personal.members(authentication);
        personal.values("approvers", &self.approvers);
        personal.optional_value("arguments", self.arguments.filter(|arguments| !arguments.is_empty()));
        personal.optional_text("arguments_digest", self.arguments_digest);
        personal.members(claims);
        personal.optional_value("outcome", Some(&self.outcome).filter(|outcome| !outcome.is_empty()));
        personal.members(pseudonym);
        personal.plain("salt", self.salt.text());
        personal.optional_text("source", self.source);
        personal.optional_text("stated_purpose", self.stated_purpose);
        personal.members(subject);
        personal.optional_value("unverified", self.unverified.as_ref());
        personal.texts("uris", self.uris);
        personal.end();
    }
}

fn write_http(http: &Http<'_>, mut object: Object<'_>) {
    let Http { details, duration_ms, flags, method, request_bytes, request_id, status } = http;
    object.optional_text("details", details.as_deref());
    object.value("duration_ms", duration_ms);
    object.texts("flags", flags);
    object.optional_text("method", method.as_deref());
    object.value("request_bytes", request_bytes);
    object.optional_text("request_id", request_id.as_deref());
    object.optional_value("status", status.as_ref());
    object.end();
}

fn write_response(response: &Response<'_>, mut object: Object<'_>) {
    let Response { cut_off, hidden, status } = response;
    object.optional_text("cut_off", cut_off.as_deref());
    object.optional_value("hidden", Some(hidden).filter(|hidden| **hidden > 0));
    object.value("status", status);
    object.end();
}

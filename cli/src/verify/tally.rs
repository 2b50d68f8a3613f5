//! What a log holds, counted.

use std::collections::{BTreeMap, BTreeSet};

use toolgate::audit::record::{Kind, Record, Verdict};

use crate::log::Form;

/// Counts of lines and records whose seals are valid.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) lines: u64,
    pub(super) kinds: BTreeMap<&'static str, u64>,
    pub(super) forms: BTreeMap<Form, u64>,
    /// Of records of requests.
    pub(super) verdicts: BTreeMap<&'static str, u64>,
    pub(super) instances: BTreeSet<String>,
    /// The protected resources that chains were for.
    pub(super) resources: BTreeSet<String>,
    /// Digests of policies in force, and when each was first seen.
    pub(super) policies: BTreeMap<String, String>,
    /// Earliest and latest time of a record of a request.
    pub(super) span: Option<(String, String)>,
}

impl Tally {
    pub(super) const fn line(&mut self) {
        self.lines = self.lines.saturating_add(1);
    }

    pub(super) fn record(&mut self, record: &Record<'_>, form: Form) {
        add(&mut self.kinds, kind_name(record.kind));
        add(&mut self.forms, form);
        if record.kind != Kind::Request {
            return;
        }
        add(&mut self.verdicts, verdict_name(record.verdict));
        if !self.instances.contains(&*record.instance) {
            self.instances.insert(record.instance.clone().into_owned());
        }
        let resource = record.anchor.as_ref().map(|anchor| &*anchor.resource).filter(|resource| !resource.is_empty());
        if let Some(resource) = resource.filter(|resource| !self.resources.contains(*resource)) {
            self.resources.insert(resource.to_owned());
        }
        if let Some(policy) = record.policy.as_deref().filter(|policy| !self.policies.contains_key(*policy)) {
            self.policies.insert(policy.to_owned(), record.at.clone().into_owned());
        }
        match &mut self.span {
            None => self.span = Some((record.at.clone().into_owned(), record.at.clone().into_owned())),
            // They are all of one form, so that their order is the order of time.
            Some((_, latest)) if *record.at > **latest => latest.replace_range(.., &record.at),
            Some((earliest, _)) if *record.at < **earliest => earliest.replace_range(.., &record.at),
            Some(_) => {}
        }
    }
}

fn add<K: Ord>(counts: &mut BTreeMap<K, u64>, key: K) {
    let count = counts.entry(key).or_default();
    *count = count.saturating_add(1);
}

const fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Request => "request",
        Kind::Provisional => "provisional",
        Kind::Checkpoint => "checkpoint",
        Kind::Erasure => "erasure",
    }
}

const fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::None => "none",
        Verdict::Allow => "allow",
        Verdict::Deny => "deny",
        Verdict::Serve => "serve",
    }
}

//! What another policy would have done, counted.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use toolgate::approval::Reason;
use toolgate::audit::record::{Kind, Personal, Record, Verdict};
use toolgate::identity::{Failure, Why};

use crate::judge::{Judge, Judgement, Refusal, Ruled, Unknown, ruled};

/// Groups of changes that are kept apart; names of tools are up to clients, so there could be any number.
pub const MAX_GROUPS: usize = 10_000;

/// What came of one record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The verdict would be the same.
    Same,
    /// It was allowed, and would be denied.
    WouldBeDenied(Refusal),
    /// It was denied, or needed an approval, and would be allowed as it is.
    WouldBeAllowed,
    /// It was allowed or denied without anybody having been asked, and would need an approval.
    WouldBeGated,
    /// The verdict depends on what the record does not say.
    CannotTell(BTreeSet<Unknown>),
    /// Nothing that rules decide.
    NotApplicable,
}

impl Outcome {
    /// Decides a request again. `None`: the record is not about a request that has ended.
    pub fn of(judge: &Judge<'_>, record: &Record<'_>, personal: Option<&Personal<'_>>) -> Option<Self> {
        if record.kind != Kind::Request {
            return None;
        }
        let Some(was) = ruled(record) else { return Some(Self::NotApplicable) };
        Some(match (was, judge.judge(record, personal)) {
            (_, None) => Self::NotApplicable,
            (_, Some(Judgement::Unknown(unknown))) => Self::CannotTell(unknown),
            (Ruled::Allowed, Some(Judgement::Allowed)) | (Ruled::Gated, Some(Judgement::Gated)) => Self::Same,
            (Ruled::Gated | Ruled::Denied, Some(Judgement::Allowed)) => Self::WouldBeAllowed,
            (Ruled::Allowed | Ruled::Denied, Some(Judgement::Gated)) => Self::WouldBeGated,
            (_, Some(Judgement::Denied(refusal))) if record.verdict == Verdict::Allow => Self::WouldBeDenied(refusal),
            (_, Some(Judgement::Denied(_))) => Self::Same,
        })
    }
}

/// The result of a replay. Its JSON form is stable: members are added, never changed or taken away.
#[derive(Debug, Default, Serialize)]
pub struct Summary {
    /// SHA-256 of the policy that the log was held against, in hexadecimal.
    pub policy: String,
    /// SHA-256 of the policies that decided then.
    pub policies_in_log: BTreeSet<String>,
    /// Time of the first and the last request, in RFC 3339; absent in an empty log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub span: Option<Span>,
    /// Requests by outcome.
    pub requests: Counts,
    /// Requests of which nobody can tell, by what is not known; one request can have several such reasons.
    pub cannot_tell: BTreeMap<&'static str, u64>,
    /// Requests that no rule decided, by their reason.
    pub not_applicable: BTreeMap<String, u64>,
    /// Requests that would be decided otherwise, the most frequent first.
    pub changes: Vec<Change>,
    /// Requests that would be decided otherwise and are in no group, because there are more than [`MAX_GROUPS`].
    pub changes_not_listed: u64,
}

/// From when to when.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Span {
    /// Time of the first request.
    pub from: String,
    /// Time of the last request.
    pub to: String,
}

impl Span {
    /// Takes in one more time.
    pub fn widen(span: &mut Option<Self>, time: &str) {
        match span {
            None => *span = Some(Self { from: time.to_owned(), to: time.to_owned() }),
            // All are in UTC and of one form, so they are in order as texts.
            Some(span) if time < span.from.as_str() => time.clone_into(&mut span.from),
            Some(span) if time > span.to.as_str() => time.clone_into(&mut span.to),
            Some(_) => {}
        }
    }
}

/// Requests by outcome.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Counts {
    /// All.
    pub total: u64,
    /// Decided as before.
    pub same: u64,
    /// Allowed then, denied now.
    pub would_be_denied: u64,
    /// Denied then, or only let through after an approval, allowed as it is now.
    pub would_be_allowed: u64,
    /// Allowed or denied then, and now people would have to approve it.
    pub would_be_gated: u64,
    /// The record does not say enough.
    pub cannot_tell: u64,
    /// Not decided by rules: no caller, no message, or answered by the gateway itself.
    pub not_applicable: u64,
}

impl Counts {
    /// Counts one more request.
    pub const fn add(&mut self, outcome: &Outcome) {
        count(&mut self.total);
        count(match outcome {
            Outcome::Same => &mut self.same,
            Outcome::WouldBeDenied(_) => &mut self.would_be_denied,
            Outcome::WouldBeAllowed => &mut self.would_be_allowed,
            Outcome::WouldBeGated => &mut self.would_be_gated,
            Outcome::CannotTell(_) => &mut self.cannot_tell,
            Outcome::NotApplicable => &mut self.not_applicable,
        });
    }
}

/// Requests of one kind that would be decided otherwise.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Change {
    /// Who asked for what.
    #[serde(flatten)]
    pub group: Group,
    /// How many.
    pub count: u64,
    /// The first one.
    pub first: Example,
}

/// What the requests of a change have in common.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Group {
    /// Client identifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Agent role, by the policy of then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Operator roles, by the policy of then.
    pub roles: Vec<String>,
    /// JSON-RPC method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Name of the tool or prompt. URIs of resources can be about people, and are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// What was decided then.
    pub was: Ruling,
    /// What would be decided now.
    pub now: Ruling,
}

/// A verdict.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Ruling {
    /// Whether the request passes.
    pub allowed: bool,
    /// Whether people must approve it, or had to.
    #[serde(skip_serializing_if = "is_false")]
    pub gated: bool,
    /// Stable reason code.
    pub reason: String,
    /// The sides that do not allow it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sides: Vec<FailedSide>,
}

/// A side that does not allow a request.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct FailedSide {
    /// `token`, `person`, `agent`, `client` or `consent`.
    pub side: String,
    /// Stable reason code.
    pub why: String,
    /// The scopes that it lacks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
}

/// A record.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Example {
    /// Its id.
    pub id: String,
    /// When the request began.
    pub time: String,
}

/// A replay under way.
#[derive(Debug)]
pub struct Replay<'p> {
    judge: Judge<'p>,
    summary: Summary,
    groups: BTreeMap<Group, (u64, Example)>,
}

impl<'p> Replay<'p> {
    /// A replay by this judge.
    pub fn new(judge: Judge<'p>) -> Self {
        let summary = Summary { policy: judge.policy().digest.clone(), ..Summary::default() };
        Self { judge, summary, groups: BTreeMap::new() }
    }

    /// Decides one more record.
    pub fn add(&mut self, record: &Record<'_>, personal: Option<&Personal<'_>>) {
        let Some(outcome) = Outcome::of(&self.judge, record, personal) else { return };
        let Summary { requests, span, policies_in_log, .. } = &mut self.summary;
        Span::widen(span, &record.started);
        if let Some(policy) = record.policy.as_deref()
            && !policies_in_log.contains(policy)
        {
            policies_in_log.insert(policy.to_owned());
        }
        requests.add(&outcome);
        match outcome {
            Outcome::Same => {}
            Outcome::CannotTell(unknown) => {
                unknown.iter().for_each(|unknown| count(self.summary.cannot_tell.entry(unknown.code()).or_default()));
            }
            Outcome::NotApplicable => {
                count(self.summary.not_applicable.entry(record.reason.to_string()).or_default());
            }
            Outcome::WouldBeAllowed => {
                self.note(record, Ruling { allowed: true, ..Ruling::because("permitted") });
            }
            Outcome::WouldBeGated => {
                self.note(record, Ruling { gated: true, ..Ruling::because(Reason::Pending.code()) });
            }
            Outcome::WouldBeDenied(refusal) => {
                self.note(record, refusal.into());
            }
        }
    }

    fn note(&mut self, record: &Record<'_>, now: Ruling) {
        let group = Group::of(record, now);
        let is_full = self.groups.len() >= MAX_GROUPS;
        match self.groups.get_mut(&group) {
            Some((times, _)) => count(times),
            None if is_full => count(&mut self.summary.changes_not_listed),
            None => {
                let first = Example { id: record.id.to_string(), time: record.started.to_string() };
                self.groups.insert(group, (1, first));
            }
        }
    }

    /// The result.
    pub fn finish(self) -> Summary {
        let changes = self.groups.into_iter().map(|(group, (count, first))| Change { group, count, first });
        let mut summary = self.summary;
        summary.changes = changes.collect();
        summary.changes.sort_by_key(|change| std::cmp::Reverse(change.count));
        summary
    }
}

impl Summary {
    /// Whether any request would be decided otherwise.
    pub const fn is_change(&self) -> bool {
        let Counts { would_be_denied, would_be_allowed, would_be_gated, .. } = self.requests;
        would_be_denied > 0 || would_be_allowed > 0 || would_be_gated > 0
    }
}

impl Group {
    fn of(record: &Record<'_>, now: Ruling) -> Self {
        let text = |text: &Option<std::borrow::Cow<'_, str>>| text.as_deref().map(str::to_owned);
        let caller = record.caller.as_ref();
        Self {
            client: caller.and_then(|caller| text(&caller.client)),
            agent: caller.and_then(|caller| text(&caller.agent)),
            roles: caller.iter().flat_map(|caller| &caller.roles).map(ToString::to_string).collect(),
            method: text(&record.method),
            target: record.target.as_ref().and_then(|target| text(&target.name)),
            was: Ruling::of(record),
            now,
        }
    }
}

impl Ruling {
    /// Denied for this reason.
    fn because(reason: &str) -> Self {
        Self { allowed: false, gated: false, reason: reason.to_owned(), sides: Vec::new() }
    }

    fn of(record: &Record<'_>) -> Self {
        let side = |failed: &toolgate::audit::record::FailedSide<'_>| FailedSide {
            side: failed.side.to_string(),
            why: failed.why.to_string(),
            scopes: failed.scopes.iter().map(ToString::to_string).collect(),
        };
        Self {
            allowed: record.verdict == Verdict::Allow,
            gated: ruled(record) == Some(Ruled::Gated),
            reason: record.reason.to_string(),
            sides: record.sides.iter().map(side).collect(),
        }
    }
}

impl From<Refusal> for Ruling {
    fn from(refusal: Refusal) -> Self {
        let side = |Failure { side, why }: Failure| FailedSide {
            side: side.name().to_owned(),
            why: why.code().to_owned(),
            scopes: if let Why::MissingScopes(scopes) = why { scopes } else { Vec::new() },
        };
        Self { sides: refusal.sides.into_iter().map(side).collect(), ..Self::because(refusal.reason) }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

const fn count(counter: &mut u64) {
    *counter = counter.saturating_add(1);
}

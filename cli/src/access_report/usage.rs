//! What the records of a log say that was done.

use std::collections::{BTreeMap, BTreeSet};

use time::OffsetDateTime;
use toolgate::audit::record::{Kind, Personal, Record, Verdict};

use super::model::{PartyKind, Retry, RetryGroup, RuleTarget, Step, Timeline, Use};
use super::rights::{PartyKey, Rules};
use crate::judge::{Caller, Judge, Recalled, Unknown, What, instant, is_waiting, recall, ruled};
use crate::replay::{Counts, Outcome, Span};
use crate::text::timestamp;

/// Callers and targets of denied calls that are remembered.
const MAX_DENIED: usize = 100_000;
/// Groups of denied calls that are reported.
const MAX_RETRY_GROUPS: usize = 1_000;
/// Steps of the timeline.
const MAX_STEPS: u64 = 60;
/// Shortest step, in seconds.
const HOUR: u64 = 3600;

/// What was done, as far as the log was read.
#[derive(Debug, Default)]
pub(super) struct Usage {
    pub(super) span: Option<Span>,
    pub(super) requests: Counts,
    pub(super) allowed: u64,
    pub(super) denied: u64,
    pub(super) parties: BTreeMap<PartyKey, PartyUsage>,
    hours: BTreeMap<u64, (u64, u64)>,
    denials: BTreeMap<(CallerKey, What), Denials>,
    denials_not_listed: u64,
    /// Allowed requests of people who were erased, under roles that the policy does not have.
    pub(super) unattributed: u64,
}

/// What one party did.
#[derive(Debug, Default)]
pub(super) struct PartyUsage {
    pub(super) allowed: u64,
    pub(super) denied: u64,
    pub(super) scopes: BTreeMap<String, Use>,
    pub(super) targets: BTreeMap<RuleTarget, Use>,
    /// Allowed requests of which nobody can tell any more what they needed.
    pub(super) opaque: u64,
}

/// Tells callers apart; not part of any report.
type CallerKey = (String, Option<String>, Option<String>);

/// Calls of one caller of one target, from its first denial on.
#[derive(Debug)]
struct Denials {
    group: RetryGroup,
    denied: u64,
    retried: u64,
    is_allowed_later: bool,
}

impl Usage {
    /// Takes in a record.
    pub(super) fn add(
        &mut self,
        judge: &Judge<'_>,
        rules: &Rules,
        record: &Record<'_>,
        personal: Option<&Personal<'_>>,
    ) {
        if record.kind != Kind::Request {
            return;
        }
        Span::widen(&mut self.span, &record.started);
        let outcome = Outcome::of(judge, record, personal).unwrap_or(Outcome::NotApplicable);
        self.requests.add(&outcome);
        // A call that waits for people is neither: it comes again.
        let is_decided = ruled(record).is_some() && !is_waiting(record);
        let Some(recalled) = recall(record, personal).filter(|_| is_decided) else { return };
        let is_allowed = record.verdict == Verdict::Allow;
        increment(if is_allowed { &mut self.allowed } else { &mut self.denied });
        let hour = instant(&record.started).map_or(0, |at| at.get() / HOUR);
        let (allowed, denied) = self.hours.entry(hour).or_default();
        increment(if is_allowed { allowed } else { denied });
        let parties = parties(judge, record, &recalled);
        for key in &parties {
            let party = self.parties.entry(key.clone()).or_default();
            increment(if is_allowed { &mut party.allowed } else { &mut party.denied });
            if is_allowed {
                party.note(judge, rules, &recalled, record);
            }
        }
        if is_allowed && recalled.caller.is_erased && !are_all_known(record, &parties) {
            increment(&mut self.unattributed);
        }
        self.note_denial(record, personal, &recalled, &parties);
    }

    fn note_denial(
        &mut self,
        record: &Record<'_>,
        personal: Option<&Personal<'_>>,
        recalled: &Recalled,
        parties: &BTreeSet<PartyKey>,
    ) {
        let Some(caller) = caller_key(&recalled.caller, personal) else { return };
        let Some(asked) = recalled.asked.iter().find(|asked| asked.what != What::Protocol) else { return };
        let is_full = self.denials.len() >= MAX_DENIED;
        let key = (caller, asked.what.clone());
        let is_denied = record.verdict == Verdict::Deny;
        match self.denials.get_mut(&key) {
            Some(denials) => denials.add(is_denied),
            None if !is_denied => {}
            None if is_full => increment(&mut self.denials_not_listed),
            None => {
                let group = retry_group(record, &asked.what, parties);
                self.denials.insert(key, Denials { group, denied: 1, retried: 0, is_allowed_later: false });
            }
        }
    }

    /// Calls over time.
    pub(super) fn timeline(&self) -> Timeline {
        let (Some((first, _)), Some((last, _))) = (self.hours.first_key_value(), self.hours.last_key_value()) else {
            return Timeline::default();
        };
        let hours = last.saturating_sub(*first).saturating_add(1);
        let each = hours.div_ceil(MAX_STEPS).max(1);
        let start = |step: u64| rfc3339(first.saturating_add(step.saturating_mul(each)).saturating_mul(HOUR));
        let mut steps: Vec<Step> =
            (0..hours.div_ceil(each)).map(|step| Step { start: start(step), ..Step::default() }).collect();
        for (hour, (allowed, denied)) in &self.hours {
            let index = hour.saturating_sub(*first).checked_div(each).and_then(|index| usize::try_from(index).ok());
            if let Some(step) = index.and_then(|index| steps.get_mut(index)) {
                step.allowed = step.allowed.saturating_add(*allowed);
                step.denied = step.denied.saturating_add(*denied);
            }
        }
        Timeline { step_seconds: each.saturating_mul(HOUR), steps }
    }

    /// Calls that were denied and made again, and how many denied calls are not among them.
    pub(super) fn retries(&self) -> (Vec<Retry>, u64) {
        let mut groups: BTreeMap<&RetryGroup, Retry> = BTreeMap::new();
        for Denials { group, denied, retried, is_allowed_later } in self.denials.values() {
            let of_group = groups.entry(group).or_insert_with(|| Retry::none(group.clone()));
            increment(&mut of_group.callers);
            of_group.denied = of_group.denied.saturating_add(*denied);
            of_group.retried = of_group.retried.saturating_add(*retried);
            of_group.allowed_later = of_group.allowed_later.saturating_add(u64::from(*is_allowed_later));
        }
        let mut retries: Vec<Retry> = groups.into_values().collect();
        retries.sort_by_key(|retry| std::cmp::Reverse((retry.retried, retry.denied)));
        let rest = retries.split_off(retries.len().min(MAX_RETRY_GROUPS));
        let not_listed = rest.iter().map(|retry| retry.denied).fold(self.denials_not_listed, u64::saturating_add);
        (retries, not_listed)
    }
}

impl PartyUsage {
    fn note(&mut self, judge: &Judge<'_>, rules: &Rules, recalled: &Recalled, record: &Record<'_>) {
        let time = &*record.started;
        if !recalled.is_asked_known {
            // What was asked for is gone, but perhaps not what the rule asked for.
            let required = record.scopes.as_ref().map(|scopes| &*scopes.required).unwrap_or_default();
            if required.is_empty() || record.batch.is_some() {
                increment(&mut self.opaque);
            }
            required.iter().for_each(|scope| Use::add(self.scopes.entry(scope.to_string()), time));
        }
        let tenant = recalled.caller.attributes.tenant.as_deref();
        for asked in &recalled.asked {
            for place in judge.policy().rules.places(tenant, &asked.target()).into_iter().flatten() {
                for scope in rules.scopes(place).into_iter().flatten() {
                    Use::add(self.scopes.entry(scope.clone()), time);
                }
                if let Some(target) = rules.target(place, &asked.what) {
                    Use::add(self.targets.entry(target.clone()), time);
                }
            }
        }
    }
}

impl Use {
    fn add<K: Ord>(entry: std::collections::btree_map::Entry<'_, K, Self>, time: &str) {
        let used = entry.or_insert_with(|| Self { count: 0, first: time.to_owned(), last: time.to_owned() });
        increment(&mut used.count);
        if time < used.first.as_str() {
            time.clone_into(&mut used.first);
        }
        if time > used.last.as_str() {
            time.clone_into(&mut used.last);
        }
    }
}

impl Denials {
    fn add(&mut self, is_denied: bool) {
        if is_denied {
            increment(&mut self.denied);
        }
        if !self.is_allowed_later {
            increment(&mut self.retried);
            self.is_allowed_later = !is_denied;
        }
    }
}

impl Retry {
    const fn none(group: RetryGroup) -> Self {
        Self { group, callers: 0, denied: 0, retried: 0, allowed_later: 0 }
    }
}

/// Who took part in a request: by the policy of the report and, as far as that cannot tell any more, by the record.
fn parties(judge: &Judge<'_>, record: &Record<'_>, recalled: &Recalled) -> BTreeSet<PartyKey> {
    let caller = &recalled.caller;
    let directory = &judge.policy().directory;
    let recorded = record.caller.as_ref();
    let mut parties = BTreeSet::new();
    if caller.is_erased || caller.has_more_roles || recalled.unknown.contains(&Unknown::Altered) {
        let roles = recorded.iter().flat_map(|caller| &caller.roles).map(|role| (PartyKind::Operator, &**role));
        let agent = recorded.and_then(|caller| caller.agent.as_deref()).map(|agent| (PartyKind::Agent, agent));
        parties.extend(roles.chain(agent).map(|(kind, name)| (kind, name.to_owned())));
    }
    if !caller.is_erased {
        let principal = judge.principal(caller);
        parties.extend(principal.operator_roles().iter().map(|role| (PartyKind::Operator, role.clone())));
        parties.extend(principal.agent(directory).map(|agent| (PartyKind::Agent, agent.name.clone())));
    }
    parties.extend(caller.client.iter().map(|client| (PartyKind::Client, client.clone())));
    // Clients are as many as the issuer likes; the report is about those of the policy.
    parties.retain(|(kind, name)| match kind {
        PartyKind::Operator => directory.operators.iter().flatten().any(|role| role.name == *name),
        PartyKind::Agent => directory.agents.iter().flatten().any(|role| role.name == *name),
        PartyKind::Client => directory.clients.iter().any(|clients| clients.contains_key(name)),
    });
    parties
}

/// Whether all roles that a record names are among these parties.
fn are_all_known(record: &Record<'_>, parties: &BTreeSet<PartyKey>) -> bool {
    let Some(caller) = &record.caller else { return true };
    let roles = caller.roles.iter().map(|role| (PartyKind::Operator, role.to_string()));
    let agent = caller.agent.iter().map(|agent| (PartyKind::Agent, agent.to_string()));
    roles.chain(agent).all(|key| parties.contains(&key))
}

/// `None` if nobody can tell this caller from others, because it was erased.
fn caller_key(caller: &Caller, personal: Option<&Personal<'_>>) -> Option<CallerKey> {
    let pseudonym = personal.and_then(|personal| personal.pseudonym.as_deref()).map(str::to_owned);
    let name = caller.subject.clone().or(pseudonym)?;
    Some((caller.issuer.clone(), Some(name), caller.client.clone()))
}

fn retry_group(record: &Record<'_>, what: &What, parties: &BTreeSet<PartyKey>) -> RetryGroup {
    let of_kind =
        |wanted: PartyKind| parties.iter().filter(move |(kind, _)| *kind == wanted).map(|(_, name)| name.clone());
    let (kind, name) = match what {
        What::Tool(name) => ("tool", Some(name.clone())),
        What::Prompt(name) => ("prompt", Some(name.clone())),
        What::Resource(_) => ("resource", None),
        What::Task => ("task", None),
        What::Protocol => ("protocol", None),
    };
    RetryGroup {
        client: record.caller.as_ref().and_then(|caller| caller.client.as_deref()).map(str::to_owned),
        agent: of_kind(PartyKind::Agent).next(),
        roles: of_kind(PartyKind::Operator).collect(),
        kind: kind.to_owned(),
        name,
        reason: record.reason.to_string(),
    }
}

fn rfc3339(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    time.map(timestamp).unwrap_or_default()
}

const fn increment(counter: &mut u64) {
    *counter = counter.saturating_add(1);
}

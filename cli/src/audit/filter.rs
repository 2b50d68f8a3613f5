//! Which records are shown.

use clap::{Args, ValueEnum};
use time::OffsetDateTime;
use toolgate::audit::record::{Record, Verdict};

use super::when::When;
use super::{approvers_of, person_of, target_of, unverified_of};
use crate::log::PersonalPart;

/// What a record must be to be shown; all of it.
#[derive(Args, Debug)]
pub(super) struct Filters {
    /// Subject or pseudonym of the person.
    #[arg(long)]
    person: Option<String>,
    /// Client identifier.
    #[arg(long)]
    client: Option<String>,
    /// Agent role.
    #[arg(long)]
    agent: Option<String>,
    /// Name of the tool or prompt.
    #[arg(long)]
    tool: Option<String>,
    /// What was decided.
    #[arg(long, value_enum)]
    verdict: Option<VerdictName>,
    /// Reason code.
    #[arg(long)]
    reason: Option<String>,
    /// Id of the approval.
    #[arg(long)]
    approval: Option<String>,
    /// Subject or pseudonym of somebody who decided about it.
    #[arg(long)]
    approver: Option<String>,
    /// Not before this time: RFC 3339, or how long ago as 2h or 3d.
    #[arg(long, value_name = "TIME")]
    since: Option<When>,
    /// Not after this time.
    #[arg(long, value_name = "TIME")]
    until: Option<When>,
    /// Id of the chain.
    #[arg(long)]
    chain: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum VerdictName {
    None,
    Allow,
    Deny,
    Serve,
}

impl From<VerdictName> for Verdict {
    fn from(name: VerdictName) -> Self {
        match name {
            VerdictName::None => Self::None,
            VerdictName::Allow => Self::Allow,
            VerdictName::Deny => Self::Deny,
            VerdictName::Serve => Self::Serve,
        }
    }
}

/// The same at a point in time.
#[derive(Debug)]
pub(super) struct Filter<'a> {
    filters: &'a Filters,
    since: Option<String>,
    until: Option<String>,
}

impl Filters {
    pub(super) fn at(&self, now: OffsetDateTime) -> Filter<'_> {
        let text = |when: Option<When>| when.map(|when| when.to_text(now));
        Filter { filters: self, since: text(self.since), until: text(self.until) }
    }
}

impl Filter<'_> {
    pub(super) fn takes(&self, record: &Record<'_>, personal: Option<&PersonalPart<'_>>) -> bool {
        let Filters { person, client, agent, tool, verdict, reason, approval, approver, .. } = self.filters;
        let chain = &self.filters.chain;
        let caller = record.caller.as_ref();
        let is_person = |wanted: &String| {
            person_of(personal).as_ref() == Some(wanted) || unverified_of(personal).as_ref() == Some(wanted)
        };
        person.as_ref().is_none_or(is_person)
            && is(client.as_deref(), || caller?.client.as_deref())
            && is(agent.as_deref(), || caller?.agent.as_deref())
            && is(tool.as_deref(), || target_of(record))
            && verdict.is_none_or(|wanted| record.verdict == wanted.into())
            && is(reason.as_deref(), || Some(&record.reason))
            && is(approval.as_deref(), || record.approval.as_ref()?.id.as_deref())
            && approver.as_ref().is_none_or(|wanted| approvers_of(personal).contains(wanted))
            && is(chain.as_deref(), || record.chain.as_ref().map(|link| &*link.id))
            && self.since.as_deref().is_none_or(|since| *record.at >= *since)
            && self.until.as_deref().is_none_or(|until| *record.at <= *until)
    }
}

fn is<'a>(wanted: Option<&str>, value: impl FnOnce() -> Option<&'a str>) -> bool {
    wanted.is_none_or(|wanted| value() == Some(wanted))
}

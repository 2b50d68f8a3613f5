//! `toolgate access-report`: who used what they may, and how much less would do.
//!
//! ```text
//! policy ─► rights ─┐
//! log ────► usage ──┴─► proposal ─► verified against the log once more ─► Report ─► text, JSON, HTML
//! ```

mod edit;
mod html;
mod model;
mod proposal;
mod rights;
mod text;
mod usage;
mod yaml;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use tempfile::NamedTempFile;
use toolgate::audit::record::{Personal, Record, Verdict};

use crate::host::{Exit, Failure, Host};
use crate::judge::{Judge, ruled};
use crate::log::{self, Log, PersonalPart, Source};
use crate::period::{Period, PeriodArguments};
use crate::policy_file::PolicyFile;
pub use model::{
    ListChange, Party, PartyKind, Proposal, Report, Retry, RetryGroup, Right, RuleTarget, Step, TargetRight, Timeline,
    Use, VERSION,
};
use rights::{PartyKey, Rights, Rules};
use usage::{PartyUsage, Usage};

/// Says which rights of a policy a log shows in use, and proposes a smaller policy.
///
/// Logs are read twice. What is rarely used may be missing in them: look at the time span before anything is taken away.
#[derive(Args, Debug)]
pub struct AccessReportArguments {
    /// The policy, in YAML or JSON
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// Logs, in any form that `verify-log` reads; `-` is standard input
    #[arg(default_value = "-", value_name = "LOG")]
    logs: Vec<Source>,
    /// Form of the report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Where the report goes [default: standard output]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    period: PeriodArguments,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For programs
    Json,
    /// One page for browsers, without anything from elsewhere
    Html,
}

/// Runs it.
///
/// # Errors
/// When the policy or a log cannot be read, or the report not be written.
pub fn run(arguments: &AccessReportArguments, host: &mut Host<'_>) -> Result<Exit, Failure> {
    let AccessReportArguments { policy, logs, format, output, period } = arguments;
    let policy = PolicyFile::read(policy)?;
    let records = Records { logs: logs.clone(), period: period.at(host.now), copy: None }.readable_twice(host)?;
    let report = report(&policy, &records, host)?;
    let mut bytes = Vec::new();
    match format {
        Format::Text => text::write(&report, &mut bytes)?,
        Format::Json => {
            serde_json::to_writer_pretty(&mut bytes, &report).map_err(io::Error::from)?;
            bytes.push(b'\n');
        }
        Format::Html => html::write(&report, &mut bytes)?,
    }
    match output {
        None => host.stdout.write_all(&bytes)?,
        Some(path) => std::fs::write(path, &bytes)
            .map_err(|error| Failure::Other(format!("cannot write {}: {error}", path.display())))?,
    }
    Ok(Exit::Clean)
}

/// Logs that are read more than once.
struct Records {
    logs: Vec<Source>,
    period: Period,
    /// What standard input held.
    copy: Option<NamedTempFile>,
}

impl Records {
    fn readable_twice(mut self, host: &mut Host<'_>) -> Result<Self, Failure> {
        if self.logs.contains(&Source::Stdin) {
            let mut copy = NamedTempFile::new()?;
            io::copy(&mut host.take_stdin(), &mut copy)?;
            copy.flush()?;
            let path = copy.path().to_owned();
            self.logs.iter_mut().filter(|log| **log == Source::Stdin).for_each(|log| *log = Source::File(path.clone()));
            self.copy = Some(copy);
        }
        Ok(self)
    }

    /// Calls `visit` for each record of the period; says how many lines had none.
    fn visit(&self, mut visit: impl FnMut(&Record<'_>, Option<&Personal<'_>>)) -> Result<u64, Failure> {
        let mut log = Log::new(self.logs.clone(), Box::new(io::empty()));
        let passed_over = log::visit(&mut log, |_, _, record, personal| {
            if self.period.contains(record) {
                visit(record, personal.and_then(PersonalPart::kept));
            }
            Ok::<_, Failure>(())
        })?;
        Ok(passed_over.lines)
    }
}

fn report(policy: &PolicyFile, records: &Records, host: &mut Host<'_>) -> Result<Report, Failure> {
    let judge = Judge::new(&policy.compiled);
    let rules = Rules::of(policy);
    let mut usage = Usage::default();
    let passed_over = records.visit(|record, personal| usage.add(&judge, &rules, record, personal))?;
    if passed_over > 0 {
        writeln!(host.stderr, "toolgate: {passed_over} lines without a legible record were passed over")?;
    }
    let rights = rights::rights(policy, &rules);
    let proposal::Proposed { mut proposal, policy: smaller } = proposal::propose(policy, &rights, &usage);
    if let Some(smaller) = smaller {
        verify(&judge, &smaller, records, &mut proposal)?;
    }
    let (retries, retries_not_listed) = usage.retries();
    Ok(Report {
        version: VERSION,
        policy: policy.compiled.digest.clone(),
        timeline: usage.timeline(),
        parties: parties(rights, &mut usage.parties),
        span: usage.span,
        requests: usage.requests,
        allowed: usage.allowed,
        denied: usage.denied,
        retries,
        retries_not_listed,
        proposal,
    })
}

/// Decides every allowed request once more: the smaller policy must say to it what the policy says.
fn verify(judge: &Judge<'_>, smaller: &PolicyFile, records: &Records, proposal: &mut Proposal) -> Result<(), Failure> {
    let other = Judge::new(&smaller.compiled);
    records.visit(|record, personal| {
        if record.verdict == Verdict::Allow && ruled(record).is_some() {
            let is_same = judge.judge(record, personal) == other.judge(record, personal);
            let counter = if is_same { &mut proposal.verified } else { &mut proposal.contradicted };
            *counter = counter.saturating_add(1);
        }
    })?;
    if proposal.contradicted > 0 {
        proposal.diff.clear();
        proposal.changes.clear();
    }
    Ok(())
}

/// Rights and use of each party.
fn parties(rights: BTreeMap<PartyKey, Rights>, usage: &mut BTreeMap<PartyKey, PartyUsage>) -> Vec<Party> {
    let party = |(key, rights): (PartyKey, Rights)| {
        let mut used = usage.remove(&key).unwrap_or_default();
        let (kind, name) = key;
        let is_limited = rights.scopes.is_some();
        let granted = rights.scopes.unwrap_or_default();
        let scope_names: BTreeSet<String> = granted.iter().chain(used.scopes.keys()).cloned().collect();
        let is_granted = |scope: &String| !is_limited || granted.contains(scope);
        let scopes = scope_names.into_iter().map(|scope| {
            let right = Right { granted: is_granted(&scope), used: used.scopes.remove(&scope) };
            (scope, right)
        });
        let scopes = scopes.collect();
        let targets: BTreeSet<RuleTarget> = rights.targets.iter().chain(used.targets.keys()).cloned().collect();
        let targets = targets.into_iter().map(|target| {
            let right = Right { granted: rights.targets.contains(&target), used: used.targets.remove(&target) };
            TargetRight { target, right }
        });
        let targets = targets.collect();
        Party { kind, name, is_limited, allowed: used.allowed, denied: used.denied, scopes, targets }
    };
    rights.into_iter().map(party).collect()
}

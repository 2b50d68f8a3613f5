//! The result of a verification, for people and for machines.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;

use super::claims::ClaimSource;
use super::defect::{Defect, DefectKind};
use super::verifier::{Chain, Verifier};
use crate::log::{Form, Names, Place};
use crate::text::printable;

/// Chains that the text lists.
const MAX_LISTED_CHAINS: usize = 50;

/// The result of a verification.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    whole: bool,
    lines: u64,
    records: BTreeMap<&'static str, u64>,
    verdicts: BTreeMap<&'static str, u64>,
    forms: BTreeMap<&'static str, u64>,
    from: Option<String>,
    until: Option<String>,
    instances: Vec<String>,
    resources: Vec<String>,
    policies: Vec<PolicySeen>,
    chains: Vec<ChainReport>,
    erased: u64,
    erasures: u64,
    unended: Unended,
    defects_found: u64,
    defects_by_kind: BTreeMap<DefectKind, u64>,
    defects: Vec<DefectReport>,
    not_known: Vec<NotKnown>,
}

/// Something that the log cannot show.
#[derive(Debug, Serialize)]
struct NotKnown {
    /// A sentence.
    what: String,
    /// What is known instead of each chain that it is about.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    chains: Vec<String>,
}

#[derive(Debug, Serialize)]
struct PolicySeen {
    policy: String,
    first_seen: String,
}

/// Requests that were let through and whose end is not recorded.
#[derive(Debug, Serialize)]
struct Unended {
    count: usize,
    /// There are more than could be counted.
    at_least: bool,
}

#[derive(Debug, Serialize)]
struct ChainReport {
    id: String,
    instance: String,
    worker: String,
    first: u64,
    last: u64,
    from: String,
    until: String,
    closed: bool,
    /// A checkpoint that was stored elsewhere is about it.
    stored: bool,
    /// The first record that is missing or is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_lost: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vouched: Option<Vouched>,
}

/// The last checkpoint, or record of another chain, that speaks of a chain.
#[derive(Debug, Serialize)]
struct Vouched {
    seq: u64,
    /// Of a checkpoint. When a record of another chain looked is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<String>,
    by: &'static str,
    file: String,
    line: u64,
}

#[derive(Debug, Serialize)]
struct DefectReport {
    kind: DefectKind,
    file: String,
    line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    chain: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<String>,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    other_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    other_line: Option<u64>,
}

impl Report {
    pub(super) fn new(verifier: &Verifier<'_>, names: &Names, has_store: bool, is_continued: bool) -> Self {
        let tally = &verifier.tally;
        let chains: Vec<ChainReport> =
            verifier.chains.iter().filter_map(|(id, chain)| ChainReport::new(id, chain, names)).collect();
        let (count, at_least) = verifier.unended();
        let (erased, erasures) = verifier.erasures.counts();
        let policy =
            |(policy, first): (&String, &String)| PolicySeen { policy: policy.clone(), first_seen: first.clone() };
        let found = verifier.defects.found();
        Self {
            // What has no record in it is no log: an emptied one, or one that something has put words in front of.
            whole: found == 0 && !tally.kinds.is_empty(),
            lines: tally.lines,
            records: tally.kinds.clone(),
            verdicts: tally.verdicts.clone(),
            forms: tally.forms.iter().map(|(form, count)| (form_name(*form), *count)).collect(),
            from: tally.span.as_ref().map(|(from, _)| from.clone()),
            until: tally.span.as_ref().map(|(_, until)| until.clone()),
            resources: tally.resources.iter().cloned().collect(),
            instances: tally.instances.iter().cloned().collect(),
            policies: tally.policies.iter().map(policy).collect(),
            not_known: if is_continued { before_log(verifier, &chains, names) } else { Vec::new() }
                .into_iter()
                .chain(not_known(&chains, has_store, verifier.erasures.is_overfull(), at_least))
                .collect(),
            chains,
            erased,
            erasures,
            unended: Unended { count, at_least },
            defects_found: found,
            defects_by_kind: verifier.defects.counts().clone(),
            defects: verifier.defects.first().map(|defect| DefectReport::new(defect, names)).collect(),
        }
    }

    pub(super) const fn is_whole(&self) -> bool {
        self.whole
    }

    /// Writes it for people; without what is whole if `is_quiet`.
    pub(super) fn write_text(&self, output: &mut dyn Write, is_quiet: bool) -> io::Result<()> {
        for defect in &self.defects {
            writeln!(output, "{}", printable(&defect.to_string()))?;
        }
        let listed = u64::try_from(self.defects.len()).unwrap_or(u64::MAX);
        if self.defects_found > listed {
            writeln!(output, "... and {} more defects (--max-defects)", self.defects_found.saturating_sub(listed))?;
        }
        if !is_quiet {
            self.write_summary(output)?;
        }
        if !self.not_known.is_empty() {
            writeln!(output, "\nWhat cannot be known:")?;
            for NotKnown { what, chains } in &self.not_known {
                writeln!(output, "- {what}")?;
                for chain in chains.iter().take(MAX_LISTED_CHAINS) {
                    writeln!(output, "  {}", printable(chain))?;
                }
                write_more(chains.len(), output)?;
            }
        }
        if self.whole {
            writeln!(output, "\nThe log is whole, as far as it can be known.")
        } else if self.defects_found == 0 {
            writeln!(output, "\nThere is no record in this log.")
        } else {
            let kinds: Vec<String> =
                self.defects_by_kind.iter().map(|(kind, count)| format!("{} {count}", kind.name())).collect();
            writeln!(output, "\nThe log has {} defects: {}.", self.defects_found, kinds.join(", "))
        }
    }

    fn write_summary(&self, output: &mut dyn Write) -> io::Result<()> {
        if !self.defects.is_empty() {
            writeln!(output)?;
        }
        writeln!(output, "Lines      {}", self.lines)?;
        writeln!(output, "Records    {}", counts(&self.records))?;
        writeln!(output, "Verdicts   {}", counts(&self.verdicts))?;
        writeln!(output, "Written    {}", counts(&self.forms))?;
        if let (Some(from), Some(until)) = (&self.from, &self.until) {
            writeln!(output, "Time       {from} to {until}")?;
        }
        writeln!(output, "Instances  {}", printable(&self.instances.join(", ")))?;
        if !self.resources.is_empty() {
            writeln!(output, "Resources  {}", printable(&self.resources.join(", ")))?;
        }
        for PolicySeen { policy, first_seen } in &self.policies {
            writeln!(output, "Policy     {} since {first_seen}", printable(policy))?;
        }
        writeln!(output, "Erased     {} records, by {} erasures", self.erased, self.erasures)?;
        let more = if self.unended.at_least { "at least " } else { "" };
        writeln!(
            output,
            "Unended    {more}{} requests whose end is not recorded (the filter died)",
            self.unended.count
        )?;
        writeln!(output, "Chains     {}", self.chains.len())?;
        for chain in self.chains.iter().take(MAX_LISTED_CHAINS) {
            writeln!(output, "  {}", printable(&chain.to_string()))?;
        }
        write_more(self.chains.len(), output)
    }
}

fn write_more(chains: usize, output: &mut dyn Write) -> io::Result<()> {
    match chains.saturating_sub(MAX_LISTED_CHAINS) {
        0 => Ok(()),
        more => writeln!(output, "  ... and {more} more (--format json has all)"),
    }
}

/// What a log that goes on from another one leaves to that.
fn before_log(verifier: &Verifier<'_>, chains: &[ChainReport], names: &Names) -> Vec<NotKnown> {
    let begun = chains.iter().filter(|chain| chain.first > 0).map(|chain| {
        let ChainReport { id, first, from, .. } = chain;
        format!("{id}: its first record here is {first}, of {from}")
    });
    let absent = verifier.chains.iter().filter(|(_, chain)| chain.sequence.last().is_none());
    let absent = absent.filter_map(|(id, chain)| {
        let claim = chain.claims.highest_waiting()?;
        let (seq, at, place) = (claim.seq, &claim.at, names.show(claim.place));
        Some(match claim.source {
            ClaimSource::Head => {
                format!("{id}: record {seq} is mentioned by a record of another chain of {at} at {place}")
            }
            ClaimSource::Checkpoint | ClaimSource::Closing => {
                format!("{id}: record {seq} existed at {at}, by the checkpoint at {place}")
            }
        })
    });
    let all = [
        NotKnown {
            what:
                "Whether the records of these chains before their first one here are in the log before (--continued)."
                    .to_owned(),
            chains: begun.collect(),
        },
        NotKnown {
            what: "Whether these chains, of which there is no record here, are in the log before (--continued)."
                .to_owned(),
            chains: absent.collect(),
        },
    ];
    all.into_iter().filter(|one| !one.chains.is_empty()).collect()
}

/// What a log cannot show, in whole sentences.
fn not_known(chains: &[ChainReport], has_store: bool, is_overfull: bool, has_lost_requests: bool) -> Vec<NotKnown> {
    let open: Vec<String> = chains.iter().filter(|chain| !chain.closed).map(ChainReport::proven).collect();
    let cut_off = NotKnown {
        what:
            "Whether records were cut off the end of a chain that is not closed: its last record shows what is missing \
               before it, not what is missing after it."
                .to_owned(),
        chains: open,
    };
    let strange: Vec<String> =
        chains.iter().filter(|chain| has_store && !chain.stored).map(|chain| chain.id.clone()).collect();
    let strange = NotKnown {
        what: "Whether these chains are of the proxies that store checkpoints: no stored checkpoint speaks of them."
            .to_owned(),
        chains: strange,
    };
    let sentences = [
        (
            !has_store,
            "Whether whole chains were removed that nothing in the log mentions: checkpoints that are stored elsewhere \
             would show them (--checkpoints).",
        ),
        (
            true,
            "Whether checkpoints in the log were removed, or marks of requests that were let through and did not end: \
             they have no number of their own.",
        ),
        (is_overfull, "Whether each erased record was erased rightly: they are too many to compare one by one."),
        (has_lost_requests, "How many requests did not end: they are too many to remember."),
    ];
    let others = sentences.into_iter().filter(|(holds, _)| *holds);
    let others = others.map(|(_, what)| NotKnown { what: what.to_owned(), chains: Vec::new() });
    [cut_off, strange].into_iter().filter(|one| !one.chains.is_empty()).chain(others).collect()
}

impl ChainReport {
    /// `None` if the log has no record of the chain.
    fn new(id: &str, chain: &Chain, names: &Names) -> Option<Self> {
        let last = chain.sequence.last()?;
        let (first, from) = chain.first.as_ref()?;
        let vouched = chain.claims.confirmed().map(|claim| Vouched {
            seq: claim.seq,
            at: (claim.source != ClaimSource::Head).then(|| claim.at.clone()),
            by: match claim.source {
                ClaimSource::Head => "record of another chain",
                ClaimSource::Checkpoint => "checkpoint",
                ClaimSource::Closing => "closing checkpoint",
            },
            file: names.source(claim.place).to_owned(),
            line: claim.place.line,
        });
        Some(Self {
            id: id.to_owned(),
            instance: chain.instance.clone(),
            worker: chain.worker.clone(),
            first: *first,
            last: last.seq,
            from: from.to_string(),
            until: last.at.to_string(),
            closed: chain.claims.is_closed_at(last.seq),
            stored: chain.is_stored,
            first_lost: chain.sequence.first_lost(),
            vouched,
        })
    }

    /// Until when the chain is known to be complete.
    fn proven(&self) -> String {
        let Self { id, last, until, .. } = self;
        if let Some(lost) = self.first_lost {
            return match lost.checked_sub(1) {
                Some(before) => format!("{id}: complete to record {before}; see the defects for what comes after it"),
                None => format!("{id}: not complete from its beginning on; see the defects"),
            };
        }
        match &self.vouched {
            Some(Vouched { seq, at: Some(at), by, file, line }) if seq == last => {
                format!("{id}: complete to record {last} until {at}, by the {by} at {file}:{line}")
            }
            Some(Vouched { seq, at: None, by: _, file, line }) if seq == last => {
                format!("{id}: complete to record {last}, mentioned by another chain at {file}:{line}")
            }
            Some(_) | None => format!("{id}: complete to record {last} until {until}, by that record itself"),
        }
    }
}

impl std::fmt::Display for ChainReport {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { id, instance, worker, first, last, from, until, closed, .. } = self;
        let end = if *closed { "closed" } else { "open" };
        write!(
            formatter,
            "{id}  records {first} to {last}  {from} to {until}  {end}  instance {instance} worker {worker}"
        )
    }
}

impl DefectReport {
    fn new(defect: &Defect, names: &Names) -> Self {
        let line = |place: &Place| place.line;
        Self {
            kind: defect.kind,
            file: names.source(defect.place).to_owned(),
            line: defect.place.line,
            chain: defect.chain.clone(),
            first: defect.seq.map(|(first, _)| first),
            last: defect.seq.map(|(_, last)| last),
            record: defect.record.clone(),
            detail: defect.detail.clone(),
            other_file: defect.other.map(|other| names.source(other).to_owned()),
            other_line: defect.other.as_ref().map(line),
        }
    }
}

impl std::fmt::Display for DefectReport {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}:{}: {}: {}", self.file, self.line, self.kind.name(), self.detail)?;
        match (&self.chain, self.first, self.last) {
            (Some(chain), Some(first), Some(last)) if first < last => {
                write!(formatter, "; chain {chain} records {first} to {last}")?;
            }
            (Some(chain), Some(first), _) => write!(formatter, "; chain {chain} record {first}")?,
            (Some(_) | None, _, _) => {}
        }
        if let Some(record) = &self.record {
            write!(formatter, "; id {record}")?;
        }
        match (&self.other_file, self.other_line) {
            (Some(file), Some(line)) => write!(formatter, "; see {file}:{line}"),
            (Some(_) | None, _) => Ok(()),
        }
    }
}

fn counts(counts: &BTreeMap<&'static str, u64>) -> String {
    let each: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
    if each.is_empty() { "none".to_owned() } else { each.join(", ") }
}

const fn form_name(form: Form) -> &'static str {
    match form {
        Form::Exact => "exact",
        Form::Prefixed => "prefixed",
        Form::Wrapped => "wrapped",
        Form::Rewritten => "rewritten",
    }
}

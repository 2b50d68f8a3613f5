//! The report in words.

use std::io::{self, Write};

use super::model::{Party, Report, Retry, TargetRight};
use crate::text::printable;

/// Writes it for a terminal or a file.
///
/// # Errors
/// When `out` does not take it.
pub(super) fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "Access report for policy {}", report.policy)?;
    writeln!(out, "{}\n", span(report))?;
    writeln!(out, "{:>10}  allowed\n{:>10}  denied", report.allowed, report.denied)?;
    let requests = report.requests;
    writeln!(out, "{:>10}  not decided by rules", requests.not_applicable)?;
    if requests.would_be_denied > 0 || requests.would_be_allowed > 0 || requests.would_be_gated > 0 {
        writeln!(
            out,
            "\nOther policies decided a part of it: this one would deny {} of the allowed requests, allow {} of those that \
             were denied or needed an approval, and want an approval of {} others.",
            requests.would_be_denied, requests.would_be_allowed, requests.would_be_gated
        )?;
    }
    report.parties.iter().try_for_each(|party| write_party(party, out))?;
    if !report.retries.is_empty() {
        writeln!(out, "\nDenied calls, and what came after")?;
        report.retries.iter().try_for_each(|retry| write_retry(retry, out))?;
    }
    if report.retries_not_listed > 0 {
        writeln!(out, "  {:>8} more denied calls are not listed", report.retries_not_listed)?;
    }
    write_proposal(report, out)
}

/// Over what time the report speaks, and what that means.
pub(super) fn span(report: &Report) -> String {
    match &report.span {
        None => "The log has no requests in this time: nothing can be said about use.".to_owned(),
        Some(span) => format!(
            "Requests from {} to {}. What is used more rarely than that may be missing here, and so may be what other \
             gateways logged.",
            printable(&span.from),
            printable(&span.to)
        ),
    }
}

fn write_party(party: &Party, out: &mut dyn Write) -> io::Result<()> {
    let Party { kind, name, is_limited, allowed, denied, scopes, targets } = party;
    writeln!(out, "\n{} {}: {allowed} allowed, {denied} denied", kind.text(), printable(name))?;
    if !is_limited {
        writeln!(out, "  no scopes of its own: the other sides are its limit")?;
    }
    for (scope, right) in scopes {
        let beyond = if right.granted { "" } else { "  (not granted by this policy)" };
        match &right.used {
            None => writeln!(out, "  {:>8}  scope {}", "never", printable(scope))?,
            Some(used) => writeln!(
                out,
                "  {:>8}  scope {}  {} to {}{beyond}",
                used.count,
                printable(scope),
                printable(&used.first),
                printable(&used.last)
            )?,
        }
    }
    for TargetRight { target, right } in targets {
        let count = right.used.as_ref().map_or_else(|| "never".to_owned(), |used| used.count.to_string());
        writeln!(out, "  {count:>8}  {} {}", target.kind, printable(&target.name))?;
    }
    Ok(())
}

fn write_retry(retry: &Retry, out: &mut dyn Write) -> io::Result<()> {
    let Retry { group, callers, denied, retried, allowed_later } = retry;
    let or_none = |text: &Option<String>| printable(text.as_deref().unwrap_or("-")).to_string();
    writeln!(
        out,
        "  {denied:>8} denied, {retried} again, {allowed_later} of {callers} callers allowed later: {} {} ({})\n           \
         client {}, agent {}, roles {}",
        printable(&group.kind),
        or_none(&group.name),
        printable(&group.reason),
        or_none(&group.client),
        or_none(&group.agent),
        if group.roles.is_empty() { "-".to_owned() } else { printable(&group.roles.join(", ")).to_string() },
    )
}

fn write_proposal(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let proposal = &report.proposal;
    writeln!(out, "\nProposed policy")?;
    if proposal.contradicted > 0 {
        writeln!(out, "  withdrawn: it would change {} allowed requests of this log", proposal.contradicted)?;
    } else if proposal.changes.is_empty() {
        writeln!(out, "  no change")?;
    } else {
        writeln!(
            out,
            "  Held against the log: the same result for {} allowed requests. It takes away what this log does not \
             show in use.\n",
            proposal.verified
        )?;
        for line in proposal.diff.lines() {
            // A diff with anything but its own tabs could not be applied.
            let parts: Vec<String> = line.split('\t').map(|part| printable(part).to_string()).collect();
            writeln!(out, "{}", parts.join("\t"))?;
        }
    }
    if !proposal.advice.is_empty() {
        writeln!(out, "\nFor a person to decide")?;
        for advice in &proposal.advice {
            writeln!(out, "  - {}", printable(advice))?;
        }
    }
    Ok(())
}

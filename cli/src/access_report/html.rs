//! The report as one page: no scripts, nothing from elsewhere.

use std::fmt;
use std::io::{self, Write};

use super::model::{Party, Report, Retry, Right, Step, TargetRight};
use super::text::span;
use crate::text::printable;

const STYLE: &str = "
:root{color-scheme:light dark;--text:#1a1f26;--quiet:#57606a;--page:#fff;--line:#d0d7de;--used:#1a7f5a;--unused:#b5bcc4;--denied:#b3261e;--code:#f6f8fa}
@media(prefers-color-scheme:dark){:root{--text:#e6edf3;--quiet:#9198a1;--page:#0d1117;--line:#30363d;--used:#3fb984;--unused:#5a636d;--denied:#ff7b72;--code:#161b22}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--text);background:var(--page);max-width:60rem;margin:0 auto;padding:1rem}
h1{font-size:1.5rem}h2{font-size:1.2rem;margin-top:2rem}h3{font-size:1rem;overflow-wrap:anywhere}
p,li{overflow-wrap:anywhere}.quiet{color:var(--quiet)}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.25rem .6rem .25rem 0;border-bottom:1px solid var(--line);vertical-align:top}
th[scope=row]{min-width:9rem;font-weight:normal;overflow-wrap:anywhere}
th.n,td.n{text-align:right;font-variant-numeric:tabular-nums}td.n,td.t{white-space:nowrap}caption{text-align:left;color:var(--quiet)}
pre{background:var(--code);padding:.75rem;overflow-x:auto;font-size:.85rem}
ins{color:var(--used);text-decoration:none}del{color:var(--denied);text-decoration:none}
svg{width:100%;height:auto;display:block}svg text{fill:var(--text);font:12px system-ui,sans-serif}
.used{fill:var(--used)}.unused{fill:var(--unused)}.denied{fill:var(--denied)}
";

/// Characters of a name that fit beside a bar.
const LABEL_CHARS: usize = 28;
/// Width of both charts; they scale with the page.
const WIDTH: u64 = 640;
/// Where bars begin, right of their names.
const BARS_AT: u64 = 220;
/// Height of a row of the bar chart.
const ROW: u64 = 20;
/// Height of the columns of the timeline.
const COLUMNS: u64 = 140;

/// Writes the page.
///
/// # Errors
/// When `out` does not take it.
pub(super) fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'\">\n<title>Access report</title>\n<style>{STYLE}</style>\n\
         </head>\n<body>\n<main>\n<h1>Access report</h1>\n<p>{}</p>\n<p class=\"quiet\">Policy {}</p>",
        escape(&span(report)),
        escape(&report.policy),
    )?;
    write_counts(report, out)?;
    write_timeline(report, out)?;
    write_bars(&report.parties, out)?;
    writeln!(out, "<h2>Rights and their use</h2>")?;
    report.parties.iter().try_for_each(|party| write_party(party, out))?;
    write_retries(report, out)?;
    write_proposal(report, out)?;
    writeln!(out, "</main>\n</body>\n</html>")
}

/// Text within elements and within quoted attributes.
const fn escape(text: &str) -> Escaped<'_> {
    Escaped(text)
}

struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for char in printable(self.0).to_string().chars() {
            match char {
                '&' => formatter.write_str("&amp;")?,
                '<' => formatter.write_str("&lt;")?,
                '>' => formatter.write_str("&gt;")?,
                '"' => formatter.write_str("&quot;")?,
                '\'' => formatter.write_str("&#39;")?,
                char => write!(formatter, "{char}")?,
            }
        }
        Ok(())
    }
}

fn write_counts(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "<table>\n<caption>Requests</caption>\n<tbody>")?;
    let requests = report.requests;
    for (label, count) in [
        ("Allowed", report.allowed),
        ("Denied", report.denied),
        ("Not decided by rules", requests.not_applicable),
        ("Allowed, and this policy would deny it", requests.would_be_denied),
        ("Denied or in need of an approval, and this policy would allow it", requests.would_be_allowed),
        ("Decided without people, and this policy would want an approval", requests.would_be_gated),
        ("This policy cannot be asked again: the record does not say enough", requests.cannot_tell),
    ] {
        writeln!(out, "<tr><th scope=\"row\">{label}</th><td class=\"n\">{count}</td></tr>")?;
    }
    writeln!(out, "</tbody>\n</table>")
}

/// `part` of `whole`, on a scale that ends at `length`.
fn scaled(part: u64, whole: u64, length: u64) -> u64 {
    part.saturating_mul(length).checked_div(whole).unwrap_or_default()
}

fn write_timeline(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let steps = &report.timeline.steps;
    let (Some(first), Some(last)) = (steps.first(), steps.last()) else { return Ok(()) };
    let sum = |step: &Step| step.allowed.saturating_add(step.denied);
    let highest = steps.iter().map(sum).max().unwrap_or_default();
    let count = u64::try_from(steps.len()).unwrap_or(u64::MAX);
    let height = COLUMNS.saturating_add(40);
    writeln!(
        out,
        "<h2>Calls and denials over time</h2>\n<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-labelledby=\"timeline-title timeline-text\">\n<title id=\"timeline-title\">Calls and denials over \
         time</title>\n<desc id=\"timeline-text\">{count} steps of {} hours each, at most {highest} calls in one; the \
         same numbers are in the table below</desc>",
        report.timeline.step_seconds / 3600,
    )?;
    let width = WIDTH.checked_div(count).unwrap_or(WIDTH).max(1);
    let gap = u64::from(width > 4);
    let base = COLUMNS.saturating_add(16);
    for (index, step) in (0_u64..).zip(steps) {
        let x = scaled(index, count, WIDTH);
        let (allowed, denied) = (scaled(step.allowed, highest, COLUMNS), scaled(step.denied, highest, COLUMNS));
        let allowed_at = base.saturating_sub(allowed);
        let bar = width.saturating_sub(gap);
        writeln!(
            out,
            "<rect class=\"used\" x=\"{x}\" y=\"{allowed_at}\" width=\"{bar}\" height=\"{allowed}\"/><rect \
             class=\"denied\" x=\"{x}\" y=\"{}\" width=\"{bar}\" height=\"{denied}\"/>",
            allowed_at.saturating_sub(denied),
        )?;
    }
    writeln!(
        out,
        "<text x=\"0\" y=\"12\">{highest}</text><text x=\"0\" y=\"{height}\" dy=\"-6\">{}</text><text x=\"{WIDTH}\" \
         y=\"{height}\" dy=\"-6\" text-anchor=\"end\">{}</text>\n</svg>\n<p class=\"quiet\">X         denied.</p>\n<details><summary>As a table</summary>\n<div class=\"wide\"><table>\n<thead><tr><th \
         scope=\"col\">From</th><th scope=\"col\" class=\"n\">Allowed</th><th scope=\"col\" \
         class=\"n\">Denied</th></tr></thead>\n<tbody>",
        escape(&first.start),
        escape(&last.start),
    )?;
    for step in steps {
        writeln!(
            out,
            "<tr><th scope=\"row\">{}</th><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            escape(&step.start),
            step.allowed,
            step.denied
        )?;
    }
    writeln!(out, "</tbody>\n</table></div>\n</details>")
}

fn write_bars(parties: &[Party], out: &mut dyn Write) -> io::Result<()> {
    let used = |party: &Party| {
        let rights = || party.scopes.values().filter(|right| right.granted);
        let used = rights().filter(|right| right.used.is_some()).count();
        (u64::try_from(used).unwrap_or(u64::MAX), u64::try_from(rights().count()).unwrap_or(u64::MAX))
    };
    let rows: Vec<(&Party, u64, u64)> = parties
        .iter()
        .filter(|party| party.is_limited)
        .map(|party| {
            let (used, all) = used(party);
            (party, used, all)
        })
        .collect();
    let most = rows.iter().map(|(_, _, all)| *all).max().unwrap_or_default();
    if most == 0 {
        return Ok(());
    }
    let height = u64::try_from(rows.len()).unwrap_or(u64::MAX).saturating_mul(ROW);
    writeln!(
        out,
        "<h2>Scopes in use</h2>\n<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-labelledby=\"bars-title \
         bars-text\">\n<title id=\"bars-title\">Scopes in use and never used</title>\n<desc id=\"bars-text\">One bar for \
         each operator role, agent role and client; the same numbers are in the tables below</desc>"
    )?;
    for (index, (party, used, all)) in (0_u64..).zip(rows) {
        let y = index.saturating_mul(ROW);
        let room = WIDTH.saturating_sub(BARS_AT).saturating_sub(60);
        let (used_width, all_width) = (scaled(used, most, room), scaled(all, most, room));
        let unused_at = BARS_AT.saturating_add(used_width);
        let mut label: String = party.name.chars().take(LABEL_CHARS).collect();
        if label.len() < party.name.len() {
            label.push('…');
        }
        writeln!(
            out,
            "<text x=\"0\" y=\"{y}\" dy=\"14\">{}</text><rect class=\"used\" x=\"{BARS_AT}\" y=\"{y}\" \
             width=\"{used_width}\" height=\"14\"/><rect class=\"unused\" x=\"{unused_at}\" y=\"{y}\" width=\"{}\" \
             height=\"14\"/><text x=\"{}\" y=\"{y}\" dy=\"12\">{used}/{all}</text>",
            escape(&label),
            all_width.saturating_sub(used_width),
            BARS_AT.saturating_add(all_width).saturating_add(6),
        )?;
    }
    writeln!(out, "</svg>\n<p class=\"quiet\">Green: scopes that were used. Grey: scopes that never were.</p>")
}

fn write_party(party: &Party, out: &mut dyn Write) -> io::Result<()> {
    let Party { kind, name, is_limited, allowed, denied, scopes, targets } = party;
    writeln!(
        out,
        "<section>\n<h3>{} {}</h3>\n<p>{allowed} allowed, {denied} denied.{}</p>",
        kind.text(),
        escape(name),
        if *is_limited { "" } else { " It has no scopes of its own: the other sides are its limit." },
    )?;
    let scopes = scopes.iter().map(|(scope, right)| ("scope", scope.as_str(), right));
    let targets = targets.iter().map(|TargetRight { target, right }| (target.kind, target.name.as_str(), right));
    let mut rows = scopes.chain(targets).peekable();
    if rows.peek().is_none() {
        return writeln!(out, "</section>");
    }
    writeln!(
        out,
        "<div class=\"wide\"><table>\n<thead><tr><th scope=\"col\">Right</th><th scope=\"col\" class=\"n\">Used</th><th \
         scope=\"col\">First</th><th scope=\"col\">Last</th></tr></thead>\n<tbody>"
    )?;
    rows.try_for_each(|(kind, name, right)| write_right(kind, name, right, out))?;
    writeln!(out, "</tbody>\n</table></div>\n</section>")
}

fn write_right(kind: &str, name: &str, right: &Right, out: &mut dyn Write) -> io::Result<()> {
    let beyond = if right.granted { "" } else { " (not granted by this policy)" };
    write!(out, "<tr><th scope=\"row\">{kind} {}{beyond}</th>", escape(name))?;
    match &right.used {
        None => writeln!(out, "<td class=\"n\">never</td><td></td><td></td></tr>"),
        Some(used) => writeln!(
            out,
            "<td class=\"n\">{}</td><td class=\"t\">{}</td><td class=\"t\">{}</td></tr>",
            used.count,
            escape(&used.first),
            escape(&used.last)
        ),
    }
}

fn write_retries(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    if report.retries.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "<h2>Denied calls, and what came after</h2>\n<div class=\"wide\"><table>\n<thead><tr><th scope=\"col\">Target</th><th \
         scope=\"col\">Reason</th><th scope=\"col\">Client, agent, roles</th><th scope=\"col\" \
         class=\"n\">Callers</th><th scope=\"col\" class=\"n\">Denied</th><th scope=\"col\" class=\"n\">Again</th><th \
         scope=\"col\" class=\"n\">Allowed later</th></tr></thead>\n<tbody>"
    )?;
    for Retry { group, callers, denied, retried, allowed_later } in &report.retries {
        let who = group.client.iter().chain(&group.agent).chain(&group.roles).cloned().collect::<Vec<_>>().join(", ");
        writeln!(
            out,
            "<tr><th scope=\"row\">{} {}</th><td>{}</td><td>{}</td><td class=\"n\">{callers}</td><td \
             class=\"n\">{denied}</td><td class=\"n\">{retried}</td><td class=\"n\">{allowed_later}</td></tr>",
            escape(&group.kind),
            escape(group.name.as_deref().unwrap_or_default()),
            escape(&group.reason),
            escape(&who),
        )?;
    }
    writeln!(out, "</tbody>\n</table></div>")?;
    if report.retries_not_listed > 0 {
        writeln!(out, "<p>{} more denied calls are not listed.</p>", report.retries_not_listed)?;
    }
    Ok(())
}

fn write_proposal(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let proposal = &report.proposal;
    writeln!(out, "<h2>Proposed policy</h2>")?;
    if proposal.contradicted > 0 {
        writeln!(out, "<p>Withdrawn: it would change {} allowed requests of this log.</p>", proposal.contradicted)?;
    } else if proposal.changes.is_empty() {
        writeln!(out, "<p>No change.</p>")?;
    } else {
        writeln!(
            out,
            "<p>Held against the log: the same result for {} allowed requests. It takes away what this log does not show \
             in use.</p>",
            proposal.verified
        )?;
        write!(out, "<pre>")?;
        for line in proposal.diff.lines() {
            let line_out = escape(line);
            match line.as_bytes().first() {
                Some(b'+') => writeln!(out, "<ins>{line_out}</ins>")?,
                Some(b'-') => writeln!(out, "<del>{line_out}</del>")?,
                Some(_) | None => writeln!(out, "{line_out}")?,
            }
        }
        writeln!(out, "</pre>")?;
    }
    if !proposal.advice.is_empty() {
        writeln!(out, "<h3>For a person to decide</h3>\n<ul>")?;
        for advice in &proposal.advice {
            writeln!(out, "<li>{}</li>", escape(advice))?;
        }
        writeln!(out, "</ul>")?;
    }
    Ok(())
}

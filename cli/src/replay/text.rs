//! A replay in words.

use std::io::{self, Write};

use toolgate::approval::Reason;

use super::summary::{Change, Ruling, Summary};
use crate::judge::Unknown;
use crate::text::printable;

/// Writes a summary for people.
///
/// # Errors
/// When `out` does not take it.
pub(super) fn write(summary: &Summary, out: &mut dyn Write) -> io::Result<()> {
    let counts = summary.requests;
    match &summary.span {
        Some(span) => {
            writeln!(out, "{} requests from {} to {}", counts.total, printable(&span.from), printable(&span.to))?
        }
        None => writeln!(out, "No requests")?,
    }
    writeln!(out, "policy {}", summary.policy)?;
    for (label, count) in [
        ("same", counts.same),
        ("would be denied", counts.would_be_denied),
        ("would be allowed", counts.would_be_allowed),
        ("would need an approval", counts.would_be_gated),
        ("cannot tell", counts.cannot_tell),
        ("not decided by rules", counts.not_applicable),
    ] {
        writeln!(out, "  {count:>10}  {label}")?;
    }
    if !summary.cannot_tell.is_empty() {
        writeln!(out, "\nCannot tell:")?;
        for (code, count) in &summary.cannot_tell {
            let text =
                Unknown::ALL.iter().find(|unknown| unknown.code() == *code).map_or(*code, |unknown| unknown.text());
            writeln!(out, "  {count:>10}  {text}")?;
        }
    }
    if !summary.not_applicable.is_empty() {
        writeln!(out, "\nNot decided by rules:")?;
        for (reason, count) in &summary.not_applicable {
            writeln!(out, "  {count:>10}  {}", printable(reason))?;
        }
    }
    if !summary.changes.is_empty() {
        writeln!(out, "\nChanges:")?;
        summary.changes.iter().try_for_each(|change| write_change(change, out))?;
    }
    if summary.changes_not_listed > 0 {
        writeln!(out, "  {:>10}  more in groups that are not listed", summary.changes_not_listed)?;
    }
    writeln!(
        out,
        "\nNot decided again: signatures, audiences, types and algorithms of tokens, origins and sessions. Roles, groups \
         and tenants are taken to be where the policy of then found them in the token."
    )
}

fn write_change(change: &Change, out: &mut dyn Write) -> io::Result<()> {
    let group = &change.group;
    let or_none =
        |text: &Option<String>| text.as_deref().map_or_else(|| "-".to_owned(), |text| printable(text).to_string());
    let target = match (&group.method, &group.target) {
        (_, Some(target)) => printable(target).to_string(),
        (method, None) => or_none(method),
    };
    let roles = if group.roles.is_empty() { "-".to_owned() } else { printable(&group.roles.join(", ")).to_string() };
    writeln!(
        out,
        "  {:>10}  {target}: {} -> {}\n              client {}, agent {}, roles {roles}; first {} at {}",
        change.count,
        ruling(&group.was),
        ruling(&group.now),
        or_none(&group.client),
        or_none(&group.agent),
        printable(&change.first.id),
        printable(&change.first.time),
    )
}

fn ruling(ruling: &Ruling) -> String {
    let mut text = match (ruling.allowed, ruling.gated) {
        (true, false) => "allowed".to_owned(),
        (true, true) => "allowed after an approval".to_owned(),
        (false, true) if ruling.reason == Reason::Pending.code() => return "needs an approval".to_owned(),
        (false, _) => format!("denied ({}", printable(&ruling.reason)),
    };
    for side in &ruling.sides {
        let scopes = if side.scopes.is_empty() { String::new() } else { format!(" {}", side.scopes.join(" ")) };
        text.push_str(&format!("; {}: {}{}", printable(&side.side), printable(&side.why), printable(&scopes)));
    }
    if !ruling.allowed {
        text.push(')');
    }
    text
}

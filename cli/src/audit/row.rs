//! A record as a row.

use toolgate::audit::record::{Record, Verdict};

use super::{person_of, target_of, unverified_of};
use crate::log::PersonalPart;
use crate::table::Layout;
use crate::text::printable;

/// Columns of the table: time and verdict stay on any terminal.
pub(super) static LAYOUT: Layout<9> = Layout {
    titles: ["TIME", "VERDICT", "REASON", "PERSON", "CLIENT/AGENT", "METHOD", "TARGET", "STATUS", "MS"],
    left_out: &[8, 5, 7, 4, 2, 6, 3],
    shortened: &[2, 3, 4, 5, 6],
};

/// A record, ready to be shown.
pub(super) fn row(record: &Record<'_>, personal: Option<&PersonalPart<'_>>) -> [String; 9] {
    let (caller, http) = (record.caller.as_ref(), record.http.as_ref());
    let client = caller.and_then(|caller| caller.client.as_deref());
    let agent = caller.and_then(|caller| caller.agent.as_deref());
    let party = match (client, agent) {
        (Some(client), Some(agent)) => format!("{client}/{agent}"),
        (Some(only), None) => only.to_owned(),
        (None, Some(agent)) => format!("/{agent}"),
        (None, None) => String::new(),
    };
    let person = match personal {
        Some(PersonalPart::Erased(_)) => "(erased)".to_owned(),
        Some(PersonalPart::Kept(_)) | None => person_of(personal)
            .or_else(|| unverified_of(personal).map(|subject| format!("{subject} (unverified)")))
            .or_else(|| caller.filter(|caller| caller.machine).map(|_| "(machine)".to_owned()))
            .unwrap_or_default(),
    };
    let target = target_of(record).or_else(|| record.target.as_ref().map(|target| &*target.kind));
    let cells = [
        record.at.to_string(),
        verdict_name(record.verdict).to_owned(),
        record.reason.to_string(),
        person,
        party,
        record.method.as_deref().unwrap_or_default().to_owned(),
        target.unwrap_or_default().to_owned(),
        http.and_then(|http| http.status).map(|status| status.to_string()).unwrap_or_default(),
        http.map(|http| http.duration_ms.to_string()).unwrap_or_default(),
    ];
    cells.map(|cell| printable(&cell).into_owned())
}

const fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::None => "none",
        Verdict::Allow => "allow",
        Verdict::Deny => "deny",
        Verdict::Serve => "serve",
    }
}

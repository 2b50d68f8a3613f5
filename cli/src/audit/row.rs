//! A record as a row.

use toolgate::audit::record::{ApprovalStatus, Record, Verdict};

use super::{approvers_of, person_of, target_of, unverified_of};
use crate::log::PersonalPart;
use crate::table::Layout;
use crate::text::printable;

/// Columns of the table: time and verdict stay on any terminal.
pub(super) static LAYOUT: Layout<10> = Layout {
    titles: ["TIME", "VERDICT", "REASON", "PERSON", "CLIENT/AGENT", "METHOD", "TARGET", "STATUS", "MS", "APPROVAL"],
    left_out: &[8, 5, 7, 9, 4, 2, 6, 3],
    shortened: &[2, 3, 4, 5, 6, 9],
};

/// A record, ready to be shown.
pub(super) fn row(record: &Record<'_>, personal: Option<&PersonalPart<'_>>) -> [String; 10] {
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
        approval(record, personal),
    ];
    cells.map(|cell| printable(&cell).into_owned())
}

/// What became of the approval, who decided, and its id.
fn approval(record: &Record<'_>, personal: Option<&PersonalPart<'_>>) -> String {
    let Some(approval) = &record.approval else { return String::new() };
    let mut text = status_name(approval.status).to_owned();
    if approval.escalated {
        text.push_str(", escalated,");
    }
    let people = approvers_of(personal);
    if !people.is_empty() {
        text.push_str(&format!(" by {}", people.join(", ")));
    }
    if let Some(id) = &approval.id {
        text.push_str(&format!(" {id}"));
    }
    text
}

const fn status_name(status: ApprovalStatus) -> &'static str {
    match status {
        ApprovalStatus::Bypassed => "bypassed",
        ApprovalStatus::Pending => "pending",
        ApprovalStatus::Approved => "approved",
        ApprovalStatus::Rejected => "rejected",
        ApprovalStatus::Expired => "expired",
        ApprovalStatus::Cancelled => "cancelled",
        ApprovalStatus::Used => "used",
        ApprovalStatus::Unavailable => "unavailable",
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

//! Approvals as a table.

use std::io::{self, Write};

use time::OffsetDateTime;

use super::text::{duration, moment};
use super::view::View;
use crate::table::{Layout, Table};
use crate::text::printable;

/// Id and state stay on any terminal: with the id all else can be shown.
static LAYOUT: Layout<9> = Layout {
    titles: ["ID", "STATE", "LEFT", "CALL", "REQUESTER", "CLIENT/AGENT", "NEEDS", "YOU", "CREATED"],
    left_out: &[8, 7, 5, 6, 4, 2, 3],
    shortened: &[3, 4, 5, 6],
};

/// A list that is being written.
#[derive(Debug)]
pub(super) struct List {
    table: Table<9>,
    now: OffsetDateTime,
}

impl List {
    /// For a terminal of that many columns, or for something that takes any.
    pub(super) const fn new(columns: Option<usize>, now: OffsetDateTime) -> Self {
        Self { table: Table::new(&LAYOUT, columns), now }
    }

    pub(super) fn add(&mut self, view: &View, output: &mut dyn Write) -> io::Result<()> {
        let requester = &view.requester;
        let through = [requester.client_id.as_deref(), requester.agent.as_deref()];
        let through: Vec<&str> = through.into_iter().flatten().collect();
        let needs: Vec<String> = view
            .requirements
            .iter()
            .map(|requirement| format!("{}/{} {}", requirement.met, requirement.count, requirement.approvers.join("|")))
            .collect();
        let left = view.expires_at.saturating_sub(self.now.unix_timestamp());
        let you = if view.may_decide { "may decide" } else { view.why_not.as_deref().unwrap_or_default() };
        let cells = [
            view.id.clone(),
            view.state.clone(),
            if view.state == "pending" { duration(left) } else { String::new() },
            view.call.name.clone(),
            requester.subject.clone(),
            through.join("/"),
            needs.join(", "),
            you.to_owned(),
            moment(view.created_at),
        ];
        self.table.add(cells.map(|cell| printable(&cell).into_owned()), output)
    }

    pub(super) fn finish(&mut self, output: &mut dyn Write) -> io::Result<()> {
        self.table.finish(output)
    }
}

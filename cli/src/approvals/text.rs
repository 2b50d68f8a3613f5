//! An approval as text for a person who has to decide.

use std::io::{self, Write};

use time::OffsetDateTime;

use super::view::{Event, Requirement, View, Vote};
use crate::text::{printable, printable_json, timestamp};

/// Columns of the names at the left.
const MARGIN: usize = 12;

/// A time; as a number if it is none that a calendar has.
pub(super) fn moment(seconds: i64) -> String {
    OffsetDateTime::from_unix_timestamp(seconds).map_or_else(|_| seconds.to_string(), timestamp)
}

/// How long, such as `4m10s`; nothing is left of what is over.
pub(super) fn duration(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let parts = [(seconds / 3600, 'h'), (seconds / 60 % 60, 'm'), (seconds % 60, 's')];
    let shown: String =
        parts.iter().filter(|(number, _)| *number > 0).map(|(number, unit)| format!("{number}{unit}")).collect();
    if shown.is_empty() { "0s".to_owned() } else { shown }
}

/// Lines with a name each.
struct Lines<'o> {
    output: &'o mut dyn Write,
}

impl Lines<'_> {
    /// A line; one without a name goes on with what the line before is about. What it says must be fit to be shown.
    fn add(&mut self, name: &str, text: &str) -> io::Result<()> {
        writeln!(self.output, "{name:<MARGIN$}{text}")
    }

    /// The same for several; nothing at all for none.
    fn add_all(&mut self, name: &str, texts: impl IntoIterator<Item = String>) -> io::Result<()> {
        let mut name = name;
        texts.into_iter().try_for_each(|text| self.add(std::mem::take(&mut name), &text))
    }
}

/// All about an approval.
pub(super) fn show(view: &View, now: OffsetDateTime, output: &mut dyn Write) -> io::Result<()> {
    let mut lines = Lines { output };
    let left = view.expires_at.saturating_sub(now.unix_timestamp());
    let mut state = printable(&view.state).into_owned();
    if view.state == "pending" {
        state.push_str(&format!(", {} left", duration(left)));
    }
    if view.escalated {
        state.push_str(", escalated");
    }
    lines.add("approval", &printable(&view.id))?;
    lines.add("state", &state)?;
    call(view, &mut lines)?;
    requester(view, &mut lines)?;
    lines.add("resource", &printable(&view.audience))?;
    lines.add_all("needs", view.requirements.iter().flat_map(needed))?;
    if view.reason_required {
        lines.add("", "a reason, from everybody who decides")?;
    }
    if let Some(first) = &view.escalated_from {
        lines.add("", &format!("asked here because {} did not answer", printable(first)))?;
    }
    lines.add_all("votes", view.votes.iter().map(vote))?;
    let you = match (view.may_decide, view.why_not.as_deref()) {
        (true, _) => "may decide".to_owned(),
        (false, None) => "may not decide".to_owned(),
        (false, Some(code)) => format!("may not decide: {}", printable(code)),
    };
    lines.add("you", &you)?;
    lines.add("created", &moment(view.created_at))?;
    lines.add("expires", &moment(view.expires_at))?;
    lines.add("record", &printable(&view.decision_id))?;
    lines.add_all("history", view.history.iter().map(event))
}

fn call(view: &View, lines: &mut Lines<'_>) -> io::Result<()> {
    let call = &view.call;
    lines.add("call", &format!("{} {} ({})", printable(&call.kind), printable(&call.name), printable(&call.method)))?;
    let shown = call.arguments.iter().map(|(pointer, value)| {
        let pointer = if pointer.is_empty() { "(all)" } else { pointer };
        format!("{} = {}", printable(pointer), printable_json(value.get()))
    });
    let more = match (call.withheld, call.arguments.is_empty()) {
        (true, true) => Some("there are some, and none is shown".to_owned()),
        (true, false) => Some("and more that are not shown".to_owned()),
        (false, _) => None,
    };
    lines.add_all("arguments", shown.chain(more))?;
    let purpose = call.purpose.as_ref();
    lines.add_all("purpose", purpose.map(|purpose| format!("{} (so the client says)", printable(purpose))))
}

fn requester(view: &View, lines: &mut Lines<'_>) -> io::Result<()> {
    let requester = &view.requester;
    let roles = listed(", roles ", &requester.roles);
    let tenant = requester.tenant.iter().map(|tenant| format!(", tenant {}", printable(tenant))).collect::<String>();
    let (subject, issuer) = (printable(&requester.subject), printable(&requester.issuer));
    lines.add("requester", &format!("{subject} of {issuer}{roles}{tenant}"))?;
    let client = requester.client_id.iter().map(|client| format!("client {}", printable(client)));
    let agent = requester.agent.iter().map(|agent| format!("agent {}", printable(agent)));
    let actors = (!requester.actors.is_empty()).then(|| listed("acting: ", &requester.actors));
    let through: Vec<String> = client.chain(agent).chain(actors).collect();
    lines.add_all("through", (!through.is_empty()).then(|| through.join(", ")))
}

/// Names, with what comes before them; nothing if there are none.
fn listed(before: &str, names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!("{before}{}", printable(&names.join(", "))) }
}

fn needed(requirement: &Requirement) -> Vec<String> {
    let Requirement { gate, name, approvers, count, met, escalate } = requirement;
    let of = listed("", approvers);
    let mut lines = vec![format!("{met} of {count} from {of} ({} {})", printable(gate), printable(name))];
    if let Some(escalate) = escalate {
        lines.push(format!("  after {} also from {}", duration(escalate.after), listed("", &escalate.approvers)));
    }
    lines
}

fn vote(vote: &Vote) -> String {
    let Vote { sub, name, decision, reason, roles, at } = vote;
    let name = name.iter().map(|name| format!(" ({})", printable(name))).collect::<String>();
    let reason = reason.iter().map(|reason| format!(": {}", printable(reason))).collect::<String>();
    let verb = if decision == "approve" { "approved" } else { "rejected" };
    format!("{} {}{name} {verb}{}{reason}", moment(*at), printable(sub), listed(" as ", roles))
}

fn event(event: &Event) -> String {
    let by = event.by.iter().map(|actor| format!(" by {}", printable(&actor.sub))).collect::<String>();
    format!("{} {}{by}", moment(event.at), printable(&event.event))
}

/// What came of a decision.
pub(super) fn outcome(view: &View, output: &mut dyn Write) -> io::Result<()> {
    let subject = printable(&view.requester.subject);
    let what = format!("{} of {subject}", printable(&view.call.name));
    match &*view.state {
        "pending" => {
            let open = view.requirements.iter().filter(|requirement| requirement.met < requirement.count);
            let open: Vec<String> = open.flat_map(needed).collect();
            writeln!(output, "counted: {what} still needs approval: {}", open.join("; "))
        }
        "approved" | "consumed" => writeln!(output, "approved: {what} may go on"),
        "rejected" => writeln!(output, "rejected: {what} will not happen"),
        state => writeln!(output, "{}: {what}", printable(state)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        for (seconds, text) in [(-5, "0s"), (0, "0s"), (59, "59s"), (60, "1m"), (250, "4m10s"), (7201, "2h1s")] {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn a_time_that_no_calendar_has_is_a_number() {
        assert_eq!(moment(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(moment(i64::MAX), i64::MAX.to_string());
    }
}

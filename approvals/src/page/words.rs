//! What the page says about states, gates and refusals.

use crate::domain::{Choice, EventKind, Gate, HistoryEvent, Kind, State, View};

/// How a state is shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Status {
    /// CSS class of the badge.
    pub(super) class: &'static str,
    /// In two words.
    pub(super) label: &'static str,
    /// In a sentence.
    pub(super) sentence: &'static str,
}

impl Status {
    pub(super) const fn of(state: State) -> Self {
        let (class, label, sentence) = match state {
            State::Pending => ("waiting", "Waiting", "The call waits for a decision."),
            State::Approved => ("approved", "Approved", "The call may be made once. It has not been made yet."),
            State::Rejected => ("rejected", "Rejected", "The call was refused."),
            State::Expired => ("expired", "Expired", "The time has passed. The call was not made."),
            State::Cancelled => ("cancelled", "Cancelled", "The client has taken the request back."),
            State::Consumed => ("used", "Approved and used", "The call was let through, once."),
        };
        Self { class, label, sentence }
    }
}

/// A kind of thing, at the beginning of a line.
pub(super) const fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Tool => "Tool",
        Kind::Prompt => "Prompt",
        Kind::Resource => "Resource",
    }
}

/// What is done with a thing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Verb {
    pub(super) present: &'static str,
    pub(super) infinitive: &'static str,
}

/// What is done with a thing of that kind.
pub(super) const fn verb(kind: Kind) -> Verb {
    match kind {
        Kind::Tool => Verb { present: "calls the tool", infinitive: "to call the tool" },
        Kind::Prompt => Verb { present: "gets the prompt", infinitive: "to get the prompt" },
        Kind::Resource => Verb { present: "reads the resource", infinitive: "to read the resource" },
    }
}

/// What made a gate.
pub(super) const fn gate(gate: Gate) -> &'static str {
    match gate {
        Gate::Rule => "Rule of the policy:",
        Gate::Agent => "Role of the agent:",
        Gate::Risk => "Risk of what it does:",
    }
}

/// What somebody has done.
pub(super) const fn voted(choice: Choice) -> &'static str {
    match choice {
        Choice::Approve => "approved",
        Choice::Reject => "rejected",
    }
}

/// An entry of the history.
pub(super) const fn event(event: &HistoryEvent) -> &'static str {
    match event.event {
        EventKind::Created => "Asked for",
        EventKind::Voted => match event.decision {
            Some(Choice::Approve) => "Approval given",
            Some(Choice::Reject) => "Rejection given",
            None => "Decision given",
        },
        EventKind::Escalated => "Escalated: others are asked too",
        EventKind::Approved => "Approved",
        EventKind::Rejected => "Rejected",
        EventKind::Expired => "Expired",
        EventKind::Cancelled => "Taken back",
        EventKind::Consumed => "Let through by the gateway",
        EventKind::Continued => "Continued with more input",
        EventKind::Pruned => "Older entries were deleted",
    }
}

/// Why somebody cannot decide, or what became of a decision.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Standing {
    /// CSS class of the note.
    pub(super) class: &'static str,
    pub(super) title: &'static str,
    pub(super) text: &'static str,
}

impl Standing {
    /// By the code of a refusal.
    pub(super) fn of_code(code: &str) -> Self {
        let (class, title, text) = match code {
            "requester" => (
                "wait",
                "This is your own request",
                "Somebody else has to decide on it. You can follow here what becomes of it.",
            ),
            "requesters_agent" => (
                "wait",
                "This is the request of the client that you use",
                "A decision cannot come through the client that asks. Sign in on this page with another account.",
            ),
            "role" => (
                "wait",
                "Your role is not asked",
                "None of your roles may decide on this request now, or those that may have been heard already.",
            ),
            "already_decided" => ("good", "You have decided", "Your decision counts. Others have to decide too."),
            "expired" => ("", "Expired", "The time has passed, so nobody can decide any more. The call was not made."),
            "reason_required" => ("bad", "A reason is required", "Write why, then decide again."),
            "reason_too_long" => ("bad", "The reason is too long", "It may have 500 characters."),
            "decided" => ("", "Already decided", "Nobody is asked any more."),
            _ => ("", "You cannot decide", "Nobody is asked any more, or not you."),
        };
        Self { class, title, text }
    }

    /// For a person who cannot decide on this.
    pub(super) fn of(view: &View) -> Self {
        match (view.why_not, view.state) {
            (Some(code @ ("requester" | "requesters_agent")), State::Pending) => Self::of_code(code),
            (_, State::Approved) => {
                Self { class: "good", title: "Approved", text: "The call may be made once, before the time is over." }
            }
            (_, State::Consumed) => {
                Self { class: "good", title: "Approved and used", text: "The call was let through, once." }
            }
            (_, State::Rejected) => {
                Self { class: "bad", title: "Rejected", text: "The call was refused, and its requester is told." }
            }
            (_, State::Cancelled) => {
                Self { class: "", title: "Cancelled", text: "The client has taken the request back." }
            }
            (_, State::Expired) => Self::of_code("expired"),
            (code, State::Pending) => Self::of_code(code.unwrap_or_default()),
        }
    }
}

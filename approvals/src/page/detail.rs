//! The page of one request.

use askama::Template;

use super::frame::Frame;
use super::list::Left;
use super::shown::Shown;
use super::when::{Span, When};
use super::words::{self, Standing, Status, Verb};
use crate::domain::{HistoryEvent, Person, RequirementView, Scalar, UnixSeconds, View, VoteView};

/// Characters of a value from which it may need to be scrolled.
const LONG_VALUE: usize = 400;

/// The page of one request.
#[derive(Template)]
#[template(path = "request.html")]
pub(super) struct RequestPage<'a> {
    pub(super) frame: Frame<'a>,
    /// Changes with everything that may change on the page.
    pub(super) version: String,
    pub(super) csrf: String,
    /// What went wrong with the decision that was sent.
    pub(super) alert: Option<Standing>,
    /// The reason that was sent with it.
    pub(super) reason: String,
    pub(super) reason_is_wrong: bool,
    id: &'a str,
    kind: &'static str,
    verb: Verb,
    is_open: bool,
    name: Shown<'a>,
    plain_name: Shown<'a>,
    status: Status,
    left: Option<Left>,
    created: When,
    requester: Shown<'a>,
    through: Option<Shown<'a>>,
    purpose: Option<Shown<'a>>,
    arguments: Vec<Argument<'a>>,
    withheld: bool,
    who: Vec<Fact<'a>>,
    gates: Vec<GateLine<'a>>,
    escalated_from: Option<Shown<'a>>,
    votes: Vec<VoteLine<'a>>,
    events: Vec<EventLine<'a>>,
    technical: Vec<Fact<'a>>,
    may_decide: bool,
    reason_required: bool,
    standing: Standing,
}

/// An argument of the call.
struct Argument<'a> {
    name: Shown<'a>,
    value: Shown<'a>,
    kind: Option<&'static str>,
    is_long: bool,
}

/// A line of a list of facts.
struct Fact<'a> {
    label: &'static str,
    values: Vec<Shown<'a>>,
}

struct GateLine<'a> {
    kind: &'static str,
    name: Shown<'a>,
    approvers: Vec<Shown<'a>>,
    later: Option<Later<'a>>,
    count: u32,
    met: u32,
}

struct Later<'a> {
    after: Span,
    approvers: Vec<Shown<'a>>,
    escalated: bool,
}

struct VoteLine<'a> {
    name: Shown<'a>,
    /// People can choose their names, but not these.
    subject: Shown<'a>,
    issuer: Shown<'a>,
    verb: &'static str,
    is_own: bool,
    at: When,
    roles: Vec<Shown<'a>>,
    reason: Option<Shown<'a>>,
}

struct EventLine<'a> {
    at: When,
    text: &'static str,
    by: Option<Shown<'a>>,
    reason: Option<Shown<'a>>,
}

impl<'a> RequestPage<'a> {
    pub(super) fn new(
        frame: Frame<'a>,
        view: &'a View,
        history: &'a [HistoryEvent],
        person: &Person,
        now: UnixSeconds,
    ) -> Self {
        let (call, requester) = (&view.call, &view.requester);
        let through = requester.agent.as_deref().or(requester.client_id.as_deref());
        Self {
            frame,
            version: version(view),
            csrf: String::new(),
            alert: None,
            reason: String::new(),
            reason_is_wrong: false,
            id: &view.id,
            kind: words::kind(call.kind),
            verb: words::verb(call.kind),
            is_open: view.state.is_open(),
            name: Shown::new(&call.name),
            plain_name: Shown::plain(&call.name),
            status: Status::of(view.state),
            left: Left::of(view, now),
            created: When::new(view.created_at),
            requester: Shown::new(&requester.subject),
            through: through.map(Shown::new),
            purpose: call.purpose.as_deref().map(Shown::new),
            arguments: call.arguments.iter().map(argument).collect(),
            withheld: call.withheld,
            who: who(view),
            gates: view.requirements.iter().map(gate).collect(),
            escalated_from: view.escalated_from.as_deref().map(Shown::new),
            votes: view.votes.iter().map(|vote| voted(vote, person)).collect(),
            events: history.iter().map(event).collect(),
            technical: technical(view),
            may_decide: view.may_decide,
            reason_required: view.reason_required,
            standing: Standing::of(view),
        }
    }
}

/// Changes with everything that may change about a request.
pub(super) fn version(view: &View) -> String {
    let escalated = view.requirements.iter().filter(|requirement| requirement.escalated).count();
    format!("{}-{}-{escalated}-{}", view.state.as_str(), view.votes.len(), u8::from(view.may_decide))
}

fn argument<'a>((name, value): (&'a String, &'a Scalar)) -> Argument<'a> {
    let (text, kind) = match value {
        Scalar::Text(text) => (text.as_str(), None),
        Scalar::Number(text) => (text.as_str(), Some("number")),
        Scalar::Bool(true) => ("true", Some("boolean")),
        Scalar::Bool(false) => ("false", Some("boolean")),
    };
    let name = name.strip_prefix('/').unwrap_or(name);
    Argument { name: Shown::new(name), value: Shown::new(text), kind, is_long: text.chars().count() > LONG_VALUE }
}

fn facts<'a, const N: usize>(lines: [(&'static str, Vec<&'a str>); N]) -> Vec<Fact<'a>> {
    let filled = lines.into_iter().filter(|(_, values)| !values.is_empty());
    filled.map(|(label, values)| Fact { label, values: shown(values) }).collect()
}

fn shown<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<Shown<'a>> {
    texts.into_iter().map(Shown::new).collect()
}

fn who(view: &View) -> Vec<Fact<'_>> {
    let requester = &view.requester;
    facts([
        ("Person", vec![&*requester.subject]),
        ("Client", requester.client_id.as_deref().into_iter().collect()),
        ("Agent", requester.agent.as_deref().into_iter().collect()),
        ("Chain of actors", requester.actors.iter().map(String::as_str).collect()),
        ("Roles", requester.roles.iter().map(String::as_str).collect()),
        ("Tenant", requester.tenant.as_deref().into_iter().collect()),
        ("Known by", vec![&*requester.issuer]),
        ("Gateway", vec![&*view.gateway]),
    ])
}

fn technical(view: &View) -> Vec<Fact<'_>> {
    facts([
        ("Approval", vec![&*view.id]),
        ("Resource", vec![&*view.audience]),
        ("Method", vec![&*view.call.method]),
        ("Protocol revision", vec![&*view.call.revision]),
        ("Gateway's decision", vec![&*view.decision_id]),
        ("Digest of the call", vec![&*view.binding]),
        ("Digest of the policy", vec![&*view.policy]),
    ])
}

fn gate(requirement: &RequirementView) -> GateLine<'_> {
    let RequirementView { gate, name, approvers, escalate, escalated, count, met } = requirement;
    GateLine {
        kind: words::gate(*gate),
        name: Shown::new(name),
        approvers: shown(approvers.iter().map(String::as_str)),
        later: escalate.as_ref().map(|escalate| Later {
            after: Span(i64::from(escalate.after)),
            approvers: shown(escalate.approvers.iter().map(String::as_str)),
            escalated: *escalated,
        }),
        count: *count,
        met: *met,
    }
}

fn voted<'a>(vote: &'a VoteView, person: &Person) -> VoteLine<'a> {
    VoteLine {
        name: Shown::new(vote.name.as_deref().unwrap_or(&vote.sub)),
        subject: Shown::new(&vote.sub),
        issuer: Shown::new(&vote.iss),
        verb: words::voted(vote.decision),
        is_own: vote.iss == person.issuer && vote.sub == person.subject,
        at: When::new(vote.at),
        roles: shown(vote.roles.iter().map(String::as_str)),
        reason: vote.reason.as_deref().map(Shown::new),
    }
}

fn event(event: &HistoryEvent) -> EventLine<'_> {
    EventLine {
        at: When::new(event.at),
        text: words::event(event),
        by: event.by.as_ref().map(|by| Shown::new(&by.sub)),
        reason: event.reason.as_deref().map(Shown::new),
    }
}

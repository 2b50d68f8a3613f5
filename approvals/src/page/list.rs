//! The list of requests: those that wait, and the history.

use askama::Template;
use serde::Deserialize;

use super::detail;
use super::frame::Frame;
use super::shown::Shown;
use super::when::{Span, When};
use super::words::{self, Status};
use crate::domain::{Filter, State, UnixSeconds, View};

/// Requests on one page.
const PAGE: usize = 25;
/// Seconds of the last stretch, which is coloured.
const SOON: i64 = 60;
/// Characters of a filter.
const MAX_FILTER_CHARS: usize = 200;

/// What the address asks for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Query {
    view: String,
    state: String,
    tool: String,
    requester: String,
    before: String,
}

impl Query {
    const fn is_history(&self) -> bool {
        matches!(self.view.as_bytes(), b"history")
    }

    fn text(text: &str) -> Option<String> {
        let text = text.trim();
        (!text.is_empty()).then(|| text.chars().take(MAX_FILTER_CHARS).collect())
    }

    /// What to ask the service for: one more than fits, which tells whether there are older ones.
    pub(super) fn filter(&self) -> Filter {
        let before = self.before.parse().ok();
        if self.is_history() {
            Filter {
                states: State::parse(&self.state).into_iter().collect(),
                tool: Self::text(&self.tool),
                requester: Self::text(&self.requester),
                before,
                limit: PAGE.saturating_add(1),
            }
        } else {
            Filter { states: vec![State::Pending], before, limit: PAGE.saturating_add(1), ..Filter::default() }
        }
    }

    /// The address of the requests before this one.
    fn older(&self, cursor: i64) -> String {
        const PATH: &str = "/approvals?";
        let mut query = url::form_urlencoded::Serializer::for_suffix(PATH.to_owned(), PATH.len());
        for (name, value) in
            [("view", &self.view), ("state", &self.state), ("tool", &self.tool), ("requester", &self.requester)]
        {
            if !value.is_empty() {
                query.append_pair(name, value);
            }
        }
        query.append_pair("before", &cursor.to_string());
        query.finish()
    }
}

/// How much time there is left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left {
    /// Unix seconds of its end.
    pub(super) until: UnixSeconds,
    pub(super) at: When,
    pub(super) span: Span,
    pub(super) soon: bool,
}

impl Left {
    /// `None` where time does not matter any more.
    pub(super) fn of(view: &View, now: UnixSeconds) -> Option<Self> {
        let seconds = view.expires_at.saturating_sub(now);
        view.state.is_open().then_some(Self {
            until: view.expires_at,
            at: When::new(view.expires_at),
            span: Span(seconds),
            soon: seconds < SOON,
        })
    }
}

/// The list of requests.
#[derive(Template)]
#[template(path = "list.html")]
pub(super) struct ListPage<'a> {
    frame: Frame<'a>,
    version: String,
    is_history: bool,
    has_no_role: bool,
    filters: Filters<'a>,
    cards: Vec<Card<'a>>,
    older: Option<String>,
}

struct Filters<'a> {
    states: Vec<StateChoice>,
    tool: &'a str,
    requester: &'a str,
    any: bool,
}

struct StateChoice {
    value: &'static str,
    label: &'static str,
    selected: bool,
}

struct Card<'a> {
    id: &'a str,
    kind: &'static str,
    name: Shown<'a>,
    status: Status,
    requester: Shown<'a>,
    through: Option<Shown<'a>>,
    gate_kind: &'static str,
    gate: Shown<'a>,
    /// Gates beside that one.
    more_gates: usize,
    left: Option<Left>,
    created: When,
    may_decide: bool,
    hint: &'static str,
}

impl<'a> ListPage<'a> {
    /// `views`: what [`Query::filter`] has found.
    pub(super) fn new(
        frame: Frame<'a>,
        query: &'a Query,
        views: &'a [View],
        has_roles: bool,
        now: UnixSeconds,
    ) -> Self {
        let shown = views.get(..PAGE).unwrap_or(views);
        let is_cut = shown.len() < views.len();
        let state = State::parse(&query.state);
        let choice = |one: State| StateChoice {
            value: one.as_str(),
            label: Status::of(one).label,
            selected: state == Some(one),
        };
        let any_state = StateChoice { value: "", label: "Any", selected: state.is_none() };
        Self {
            frame,
            version: version(views),
            is_history: query.is_history(),
            has_no_role: !has_roles,
            filters: Filters {
                states: std::iter::once(any_state).chain(State::ALL.into_iter().map(choice)).collect(),
                tool: &query.tool,
                requester: &query.requester,
                any: state.is_some() || !query.tool.is_empty() || !query.requester.is_empty(),
            },
            cards: shown.iter().map(|view| card(view, now)).collect(),
            older: shown.last().filter(|_| is_cut).map(|view| query.older(view.cursor)),
        }
    }
}

/// Changes with everything that may change on a list.
pub(super) fn version(views: &[View]) -> String {
    let mut hash = hmac_sha256::Hash::new();
    for view in views {
        hash.update(format!("{} {}\n", view.id, detail::version(view)));
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn card(view: &View, now: UnixSeconds) -> Card<'_> {
    let requester = &view.requester;
    let gate = view.requirements.first();
    Card {
        id: &view.id,
        kind: words::kind(view.call.kind),
        name: Shown::new(&view.call.name),
        status: Status::of(view.state),
        requester: Shown::new(&requester.subject),
        through: requester.agent.as_deref().or(requester.client_id.as_deref()).map(Shown::new),
        gate_kind: gate.map_or("", |gate| words::gate(gate.gate)),
        gate: Shown::new(gate.map_or("", |gate| &gate.name)),
        more_gates: view.requirements.len().saturating_sub(1),
        left: Left::of(view, now).filter(|_| view.state == State::Pending),
        created: When::new(view.created_at),
        may_decide: view.may_decide,
        hint: match (view.may_decide, view.why_not) {
            (true, _) => "Your decision",
            (false, Some("requester")) => "Your request",
            (false, Some("already_decided")) => "You have decided",
            (false, Some("role" | "requesters_agent")) if view.state == State::Pending => "Others decide",
            (false, _) => "",
        },
    }
}

//! What messages say. Slack can show them: `text` and `blocks`; programs read `approval`.
//!
//! Arguments are never in a message: who is to see them opens the link and signs in.

use std::fmt::Write as _;

use serde_json::{Value, json};
use url::Url;

use super::Hook;
use crate::config::WebhookEvent;
use crate::domain::{EventKind, State, capped, printable};
use crate::store::Record;

/// Characters of one text from a requester.
const MAX_TEXT_CHARS: usize = 200;
/// The word joiner: it is not seen, and keeps what it stands in from being taken for something else.
const JOINER: char = '\u{2060}';
/// Characters of the list of roles.
const MAX_ROLES_CHARS: usize = 500;

/// Writes messages.
#[derive(Clone, Debug)]
pub struct Announcer {
    pages: String,
    hooks: Vec<Hook>,
}

impl Announcer {
    /// Messages to `hooks`, with links to pages under `public_url`.
    #[must_use]
    pub fn new(public_url: &Url, hooks: Vec<Hook>) -> Self {
        Self { pages: format!("{}/approvals/", public_url.as_str().trim_end_matches('/')), hooks }
    }

    pub(super) fn hooks(&self) -> &[Hook] {
        &self.hooks
    }

    /// The messages about an event: names of webhooks, with payloads.
    pub(crate) fn letters(&self, event: EventKind, record: &Record) -> Vec<(String, String)> {
        let Some(topic) = topic(event) else { return Vec::new() };
        let hooks = self.hooks.iter().filter(|hook| hook.events.contains(&topic));
        hooks.map(|hook| (hook.name.clone(), self.payload(event, record).to_string())).collect()
    }

    fn payload(&self, event: EventKind, record: &Record) -> Value {
        let headline = headline(event, record);
        let link = format!("{}{}", self.pages, record.id);
        json!({
            "text": format!("{headline} {link}"),
            "blocks": [
                {"type": "section", "text": {"type": "mrkdwn", "text": headline}},
                {"type": "section", "text": {"type": "mrkdwn", "text": details(record)}},
                {"type": "section", "text": {"type": "mrkdwn", "text": format!("<{link}|Open the approval>")}},
            ],
            "event": event,
            "approval": {
                "id": record.id,
                "url": link,
                "state": record.state,
                "audience": record.request.audience,
                "created_at": record.created_at,
                "expires_at": record.expires_at,
                "escalated": record.escalated,
                "decision_id": record.request.decision_id,
            },
        })
    }
}

const fn topic(event: EventKind) -> Option<WebhookEvent> {
    match event {
        EventKind::Created => Some(WebhookEvent::Created),
        EventKind::Escalated => Some(WebhookEvent::Escalated),
        EventKind::Approved | EventKind::Rejected | EventKind::Expired | EventKind::Cancelled => {
            Some(WebhookEvent::Decided)
        }
        EventKind::Voted | EventKind::Consumed | EventKind::Continued | EventKind::Pruned => None,
    }
}

fn headline(event: EventKind, record: &Record) -> String {
    let call = &record.request.call;
    let what = format!("*{}* `{}`", call.kind.as_str(), code(&call.name));
    let who = mrkdwn(&record.request.requester.subject, MAX_TEXT_CHARS);
    match event {
        EventKind::Escalated => format!("Still nobody has decided on {what}, asked for by {who}."),
        EventKind::Approved => format!("Approved{}: {what}, asked for by {who}.", by(record)),
        EventKind::Rejected => format!("Rejected{}: {what}, asked for by {who}.", by(record)),
        EventKind::Expired => format!("Expired: {what}, asked for by {who}."),
        EventKind::Cancelled => format!("Taken back: {what}, asked for by {who}."),
        EventKind::Created | EventKind::Voted | EventKind::Consumed | EventKind::Continued | EventKind::Pruned => {
            format!("Approval needed: {who} wants to call {what}.")
        }
    }
}

fn by(record: &Record) -> String {
    let Some(vote) = record.votes.last().filter(|_| record.state != State::Pending) else { return String::new() };
    format!(" by {}", mrkdwn(vote.name.as_deref().unwrap_or(&vote.subject), MAX_TEXT_CHARS))
}

fn details(record: &Record) -> String {
    let request = &record.request;
    let mut text = String::new();
    let mut line = |name: &str, value: Option<&str>, max: usize| {
        if let Some(value) = value {
            // Writing to a string does not fail.
            let _ = writeln!(text, "*{name}:* {}", mrkdwn(value, max));
        }
    };
    line("Client", request.requester.client_id.as_deref(), MAX_TEXT_CHARS);
    line("Agent", request.requester.agent.as_deref(), MAX_TEXT_CHARS);
    line("Purpose, as the caller gives it", request.call.purpose.as_deref(), MAX_TEXT_CHARS);
    let gates: Vec<String> =
        request.requirements.iter().map(|one| format!("{} ({})", one.name, one.approvers.join(", "))).collect();
    line("Needs", Some(&gates.join("; ")), MAX_ROLES_CHARS);
    let minutes = record.expires_at.saturating_sub(record.created_at).saturating_add(59).checked_div(60);
    line("Open for", minutes.map(|minutes| format!("{minutes} min from when it was asked")).as_deref(), MAX_TEXT_CHARS);
    text
}

/// Text in a message, which formats nothing, links nowhere and mentions nobody: cut, on one line, and with Slack's
/// three characters escaped.
fn mrkdwn(text: &str, max: usize) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in line(text, max).chars() {
        // In front of a mark, a word joiner keeps it from formatting what follows.
        if matches!(character, '*' | '_' | '~' | '`') {
            escaped.push(JOINER);
        }
        escaped.push(character);
    }
    escaped
}

/// The same inside of code, where only the mark that ends it matters.
fn code(text: &str) -> String {
    line(text, MAX_TEXT_CHARS).replace('`', "'")
}

/// One line, at most `max` characters of it, with nothing in it that Slack takes for a link or a mention.
fn line(text: &str, max: usize) -> String {
    let text = printable(&capped(text, max)).replace(['\n', '\t'], " ");
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace("://", &format!(":{JOINER}//"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_formats_and_mentions_nothing() {
        assert_eq!(
            mrkdwn("<!channel> & <https://evil.example|here>", 200),
            "&lt;!channel&gt; &amp; &lt;https:\u{2060}//evil.example|here&gt;"
        );
        assert_eq!(mrkdwn("*b*\n`c`", 200), "\u{2060}*b\u{2060}* \u{2060}`c\u{2060}`");
        assert_eq!(mrkdwn(&"x".repeat(300), 200).chars().count(), 200);
        assert_eq!(code("a`b<c_d https://e"), "a'b&lt;c_d https:\u{2060}//e");
    }
}

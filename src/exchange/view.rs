//! What the caller of an exchange may see of the answer.

use serde_json::Value;
use serde_json::value::RawValue;

use super::Surroundings;
use super::response::Forwarded;
use crate::audit::outcome::Came;
use crate::json;
use crate::limits;
use crate::mcp::{Caching, ClientFeature, ListKind, Listed, Response, ServerMessage, Shown, Target, View};
use crate::policy::{Duties, Effort, visibility};

/// The policy's answers for one caller, at one moment.
pub(super) struct CallerView<'a, 's> {
    forwarded: &'a Forwarded,
    surroundings: &'a mut Surroundings<'s>,
    effort: Effort,
    /// Elements of lists that were not shown.
    pub(super) hidden: usize,
    /// What the responses say of the request.
    pub(super) came: Came,
    /// Tools whose definitions were noted, with those before.
    noted: Vec<(String, Option<[u8; 32]>)>,
}

/// What was found out until a text came, to go back to if nobody gets the text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    hidden: usize,
    noted: usize,
}

impl<'a, 's> CallerView<'a, 's> {
    pub(super) fn new(forwarded: &'a Forwarded, surroundings: &'a mut Surroundings<'s>) -> Self {
        let (effort, came, noted) = (Effort::default(), Came::default(), Vec::new());
        Self { forwarded, surroundings, effort, hidden: 0, came, noted }
    }

    /// Where to go back to.
    pub(super) fn before(&self) -> Before {
        Before { hidden: self.hidden, noted: self.noted.len() }
    }

    /// Forgets what was found out since. What the client does not get has shown it nothing, and hidden nothing from it.
    pub(super) fn go_back(&mut self, before: Before) {
        self.hidden = before.hidden;
        for (tool, definition) in self.noted.drain(before.noted.min(self.noted.len())..).rev() {
            self.surroundings.definitions.take_back(&tool, definition);
        }
    }

    fn visible(&self, target: &Target<'_>) -> Option<Duties> {
        let subject = self.surroundings.subject(&self.forwarded.principal, &self.forwarded.peer);
        let policy = self.surroundings.policy;
        visibility(&policy.rules, &policy.directory, subject, &self.effort, target)
    }

    fn element(&mut self, element: Listed<'_>) -> Option<Duties> {
        let Listed { kind, key, definition } = element;
        match kind {
            ListKind::Tools => {
                let definitions = &mut *self.surroundings.definitions;
                if definitions.wants(key) {
                    self.noted.push((key.to_owned(), definitions.seen(key).copied()));
                    definitions.note(key, digest(definition));
                }
                self.visible(&Target::Tool(key.into()))
            }
            ListKind::Prompts => self.visible(&Target::Prompt(key.into())),
            ListKind::Resources => self.visible(&resource(key)),
            ListKind::ResourceTemplates => {
                self.visible(&resource(key)).or_else(|| self.visible(&resource(&expanded(key))))
            }
            ListKind::Tasks => self.visible(&Target::Task),
        }
    }
}

impl View for CallerView<'_, '_> {
    fn shows(&mut self, element: Listed<'_>) -> Shown {
        match self.element(element) {
            None => {
                self.hidden = self.hidden.saturating_add(1);
                Shown::No
            }
            Some(duties) if element.kind == ListKind::Tools => hint(&duties).map_or(Shown::Yes, Shown::WithDuty),
            Some(_) => Shown::Yes,
        }
    }

    fn passes(&mut self, message: ServerMessage<'_>) -> bool {
        let allowed = &self.surroundings.policy.server_requests;
        match message {
            // Only what was sampled or elicited as a task can be asked for as one.
            ServerMessage::Asks(ClientFeature::Tasks) => {
                allowed.contains(&ClientFeature::Sampling) || allowed.contains(&ClientFeature::Elicitation)
            }
            ServerMessage::Asks(feature) => allowed.contains(&feature),
            ServerMessage::ResourceUpdated(uri) => self.visible(&resource(uri)).is_some(),
        }
    }

    fn caching(&self) -> Caching {
        Caching {
            most_ttl_ms: limits::MAX_LIST_TTL.get().saturating_mul(1000),
            is_required: self.forwarded.asked.is_stateless,
        }
    }

    fn sees(&mut self, response: Response<'_>) {
        if let Some(id) = &self.forwarded.asked.id {
            self.came = self.came.then(&response, id.get());
        }
    }
}

fn resource(uri: &str) -> Target<'_> {
    Target::Resources(vec![uri.into()])
}

/// A URI that a template (RFC 6570) makes: each of its expressions becomes one letter.
fn expanded(template: &str) -> String {
    let mut uri = String::with_capacity(template.len());
    for piece in template.split_inclusive('}') {
        match piece.split_once('{') {
            Some((before, expression)) if expression.ends_with('}') => {
                uri.push_str(before);
                uri.push('x');
            }
            Some(_) | None => uri.push_str(piece),
        }
    }
    uri
}

/// SHA-256 of a tool's definition as compact JSON with sorted members. One that two readers could read differently has
/// the digest of its text, which nobody consented to.
fn digest(definition: &str) -> [u8; 32] {
    let is_strict = json::parse(definition.as_bytes(), json::Checked::to_depth(limits::MAX_JSON_DEPTH)).is_ok();
    let value: Option<Value> = serde_json::from_str(definition).ok().filter(|_| is_strict);
    hmac_sha256::Hash::hash(value.map_or_else(|| definition.to_owned(), |value| value.to_string()).as_bytes())
}

/// What a client may tell its user before it calls: the duties that are still open.
fn hint(duties: &Duties) -> Option<Box<RawValue>> {
    serde_json::value::to_raw_value(&duties.to_json()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_stands_for_the_uris_that_it_makes() {
        assert_eq!(expanded("norg://reports/{week}/{?a,b}"), "norg://reports/x/x");
        assert_eq!(expanded("norg://reports"), "norg://reports");
        assert_eq!(expanded("norg://{a}}{"), "norg://x}{");
    }

    #[test]
    fn digests_are_of_the_meaning_not_of_the_text() {
        let one = digest(r#"{"name":"a","inputSchema":{"b":1,"a":"\u00e9"}}"#);
        assert_eq!(digest("{ \"inputSchema\": {\"a\":\"é\", \"b\":1},\n\"name\":\"a\"}"), one);
        assert_ne!(digest(r#"{"name":"a","inputSchema":{"b":2,"a":"\u00e9"}}"#), one);
        let compact = r#"{"inputSchema":{"a":"é","b":1},"name":"a"}"#;
        assert_eq!(one, hmac_sha256::Hash::hash(compact.as_bytes()));
        // The last of two members counts for serde_json, the first perhaps for the client.
        assert_ne!(digest(r#"{"name":"a","inputSchema":{"a":0,"b":1,"a":"\u00e9"}}"#), one);
    }
}

//! Which records are about a person.

use serde_json::Value;
use toolgate::audit::record::{Personal, Record};

use crate::log::{Envelope, PersonalPart};

/// The person whose data is erased.
#[derive(Debug)]
pub(super) struct Whom<'a> {
    pub(super) subject: &'a str,
    pub(super) issuer: Option<&'a str>,
    pub(super) pseudonyms: &'a [String],
    /// In lower case.
    pub(super) mentions: Vec<String>,
}

impl Whom<'_> {
    /// Whether the personal part of the record is about the person, or mentions them.
    pub(super) fn is_in(&self, envelope: &Envelope<'_>) -> bool {
        let Some(text) = envelope.personal.as_deref() else { return false };
        let is_named = match envelope.personal() {
            Ok(Some(PersonalPart::Kept(personal))) => {
                let issuer = envelope.record().ok().and_then(|record| issuer(&record));
                self.is_named_in(&personal, issuer.as_deref())
            }
            Ok(Some(PersonalPart::Erased(_)) | None) => return false,
            // Not as the filter wrote it: then in doubt it is about the person.
            Err(_) => {
                any_string(text, &|text| text == self.subject || self.pseudonyms.iter().any(|other| other == text))
            }
        };
        is_named || !self.mentions.is_empty() && any_string(text, &|text| self.is_mentioned_in(text))
    }

    /// Whether the text has the subject, a pseudonym or a mention in it.
    pub(super) fn is_written_in(&self, text: &str) -> bool {
        text.contains(self.subject)
            || self.pseudonyms.iter().any(|pseudonym| text.contains(pseudonym))
            || !self.mentions.is_empty() && self.is_mentioned_in(text)
    }

    fn is_named_in(&self, personal: &Personal<'_>, issuer: Option<&str>) -> bool {
        let is_subject = |text: &str| text == self.subject;
        let is_of_issuer = |issuer: Option<&str>| self.issuer.is_none_or(|wanted| issuer.is_none_or(|it| it == wanted));
        let is_pseudonym = |text: &str| self.pseudonyms.iter().any(|pseudonym| pseudonym == text);
        personal.subject.as_deref().is_some_and(is_subject) && is_of_issuer(issuer)
            || personal.pseudonym.as_deref().is_some_and(is_pseudonym)
            || personal.actors.iter().any(|actor| is_subject(actor)) && is_of_issuer(issuer)
            || personal.unverified.as_ref().is_some_and(|unverified| {
                unverified.subject.as_deref().is_some_and(is_subject) && is_of_issuer(unverified.issuer.as_deref())
            })
    }

    fn is_mentioned_in(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        self.mentions.iter().any(|mention| text.contains(mention))
    }
}

fn issuer(record: &Record<'_>) -> Option<String> {
    record.caller.as_ref().map(|caller| caller.issuer.clone().into_owned())
}

/// Whether there is such a string in this JSON, be it the name of a member.
fn any_string(json: &str, is_wanted: &dyn Fn(&str) -> bool) -> bool {
    serde_json::from_str(json).is_ok_and(|value| any_string_of(&value, is_wanted))
}

fn any_string_of(value: &Value, is_wanted: &dyn Fn(&str) -> bool) -> bool {
    match value {
        Value::String(text) => is_wanted(text),
        Value::Array(elements) => elements.iter().any(|element| any_string_of(element, is_wanted)),
        Value::Object(members) => {
            members.iter().any(|(name, member)| is_wanted(name) || any_string_of(member, is_wanted))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const WHOM: Whom<'_> = Whom { subject: "anna", issuer: None, pseudonyms: &[], mentions: Vec::new() };

    fn is_in(whom: &Whom<'_>, personal: &Value) -> bool {
        let record = json!({"at": "", "id": "", "kind": "request", "reason": "", "started": "", "v": 1, "verdict": "allow",
            "caller": {"credential": "jwt", "expires_at": 0, "issued_at": 0, "issuer": "https://a.test", "machine": false,
                "sender_constraint": "none"}});
        let mut personal = personal.clone();
        personal["salt"] = json!("s");
        whom.is_in(&Envelope {
            mac: "".into(),
            personal: Some(personal.to_string().into()),
            record: record.to_string().into(),
        })
    }

    #[test]
    fn a_person_is_known_by_subject() {
        assert!(is_in(&WHOM, &json!({"subject": "anna"})));
        assert!(is_in(&WHOM, &json!({"actors": ["bot", "anna"]})));
        assert!(is_in(&WHOM, &json!({"unverified": {"subject": "anna"}})));
        assert!(!is_in(&WHOM, &json!({"subject": "annabel", "arguments": {"/to": "anna"}})));
    }

    #[test]
    fn people_of_other_issuers_are_others() {
        let of = |issuer| Whom { issuer: Some(issuer), ..WHOM };
        assert!(is_in(&of("https://a.test"), &json!({"subject": "anna"})));
        assert!(!is_in(&of("https://b.test"), &json!({"subject": "anna"})));
        assert!(!is_in(&of("https://a.test"), &json!({"unverified": {"subject": "anna", "issuer": "https://b.test"}})));
    }

    #[test]
    fn a_person_is_known_by_pseudonym_and_mention() {
        let whom = Whom { pseudonyms: &["p_1".to_owned()], mentions: vec!["anna@".to_owned()], ..WHOM };
        assert!(is_in(&whom, &json!({"pseudonym": "p_1"})));
        assert!(is_in(&whom, &json!({"arguments": {"/to": {"cc": ["Anna@example.org"]}}})));
        assert!(!is_in(&whom, &json!({"pseudonym": "p_2", "arguments": {"/to": "bert@example.org"}})));
    }

    #[test]
    fn in_doubt_it_is_about_the_person() {
        assert!(is_in(&WHOM, &json!({"subject": ["anna"]})));
        assert!(!is_in(&WHOM, &json!({"erased": "anna"})));
    }
}

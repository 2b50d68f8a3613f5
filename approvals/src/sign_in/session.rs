//! A person who has signed in.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::seal::{Purpose, Sealer};
use crate::domain::{Person, UnixSeconds};

/// Seconds without a page being opened until a person has to sign in again.
pub(super) const MAX_IDLE: i64 = 3600;
/// Seconds after which a session is written anew, so that not every answer has to.
const RENEW_AFTER: i64 = 60;

/// A person who has signed in, as kept in a sealed cookie.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Session {
    /// Random; forms and the list of ended sessions refer to it.
    id: String,
    issuer: String,
    subject: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    roles: Vec<String>,
    /// Client of this service at the provider.
    client_id: String,
    /// When the person signed in.
    began_at: UnixSeconds,
    /// When a page was last opened, within [`RENEW_AFTER`].
    seen_at: UnixSeconds,
}

impl Session {
    /// A session that begins now; `None` if there is no randomness.
    pub(super) fn begin(person: Person, now: UnixSeconds) -> Option<Self> {
        let Person { issuer, subject, name, roles, client_id } = person;
        let client_id = client_id.unwrap_or_default();
        Some(Self { id: super::random_text()?, issuer, subject, name, roles, client_id, began_at: now, seen_at: now })
    }

    /// Whether it still holds.
    ///
    /// `max_age`: seconds from signing in until a person has to sign in again.
    pub(super) const fn is_fresh(&self, now: UnixSeconds, max_age: i64) -> bool {
        let (age, idle) = (now.saturating_sub(self.began_at), now.saturating_sub(self.seen_at));
        // A session from the future was made by a clock that was wrong.
        age >= -RENEW_AFTER && age < max_age && idle < MAX_IDLE
    }

    /// The same session, seen now, if that has to be written.
    pub(super) fn renewed(&self, now: UnixSeconds) -> Option<Self> {
        (now.saturating_sub(self.seen_at) >= RENEW_AFTER).then(|| Self { seen_at: now, ..self.clone() })
    }

    /// Seconds until it ends at the latest.
    pub(super) fn lasts(&self, now: UnixSeconds, max_age: i64) -> i64 {
        self.ends_at(max_age).saturating_sub(now).min(MAX_IDLE)
    }

    /// When it ends, whatever the person does.
    pub(super) const fn ends_at(&self, max_age: i64) -> UnixSeconds {
        self.began_at.saturating_add(max_age)
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The person.
    pub(crate) fn person(&self) -> Person {
        Person {
            issuer: self.issuer.clone(),
            subject: self.subject.clone(),
            name: self.name.clone(),
            roles: self.roles.clone(),
            client_id: Some(self.client_id.clone()),
        }
    }

    /// What forms of this session carry, so that no other site can make the browser send one.
    pub(super) fn csrf_token(&self, sealer: &Sealer) -> String {
        URL_SAFE_NO_PAD.encode(sealer.mark(Purpose::Csrf, &self.id))
    }

    /// Whether a form carries what [`Self::csrf_token`] gave to it.
    pub(super) fn is_csrf_token(&self, sealer: &Sealer, token: &str) -> bool {
        let mark = URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        mark.is_some_and(|mark| sealer.is_marked(Purpose::Csrf, &self.id, &mark))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn session() -> Session {
        let person = Person {
            issuer: "https://idp.example".to_owned(),
            subject: "administrator".to_owned(),
            name: None,
            roles: vec!["admins".to_owned()],
            client_id: Some("approvals".to_owned()),
        };
        Session::begin(person, 1000).unwrap()
    }

    #[test]
    fn sessions_end_by_age_and_idleness() {
        const MAX_AGE: i64 = 8 * 3600;
        let session = session();
        assert!(session.is_fresh(1000, MAX_AGE) && session.is_fresh(1000 + MAX_IDLE - 1, MAX_AGE));
        assert!(!session.is_fresh(1000 + MAX_IDLE, MAX_AGE) && !session.is_fresh(0, MAX_AGE));
        assert!(session.is_fresh(1599, 600) && !session.is_fresh(1600, 600));
        assert_eq!((session.lasts(1100, 600), session.lasts(1100, MAX_AGE)), (500, MAX_IDLE));
        assert_eq!(session.renewed(1030), None);
        let mut latest = session;
        for now in (1000..1000 + MAX_AGE).step_by(1800) {
            latest = latest.renewed(now).unwrap_or(latest);
            assert!(latest.is_fresh(now, MAX_AGE));
        }
        assert!(!latest.is_fresh(1000 + MAX_AGE, MAX_AGE));
    }

    #[test]
    fn form_tokens_are_bound_to_their_session() {
        let sealer = Sealer::new(Secret::new("secret", 1).unwrap());
        let (one, two) = (session(), session());
        assert!(one.is_csrf_token(&sealer, &one.csrf_token(&sealer)));
        assert!(!one.is_csrf_token(&sealer, &two.csrf_token(&sealer)));
        assert!(!one.is_csrf_token(&sealer, "") && !one.is_csrf_token(&sealer, "é"));
    }
}

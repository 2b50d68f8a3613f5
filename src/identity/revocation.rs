//! Who was cut off before the token expires: in the policy, and in a list that is fetched.
//!
//! The kill switch must not fail open. A list that cannot be read in full is none, and while there is no list that is
//! young enough, nobody knows who was cut off, so that nobody gets in.

use std::collections::BTreeSet;
use std::rc::Rc;

use serde::de::{Deserialize, Deserializer};

use super::{Directory, Principal, Side};
use crate::grown::grown;
use crate::json::{self, Checked, Object};
use crate::limits;
use crate::polled::Polled;
use crate::units::UnixSeconds;

/// The list that is fetched, as a worker knows it.
pub type RevocationFeed = Polled<FetchedList>;

/// A list as it was fetched. Cheap to copy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FetchedList {
    /// Who is on it.
    pub list: Rc<RevocationList>,
    /// The `ETag` that it came with (RFC 9110 section 8.8.3), as it was written.
    pub etag: Option<Rc<str>>,
}

/// What is known of those who were cut off, besides those in the policy.
#[derive(Clone, Copy, Debug)]
pub enum Revoked<'a> {
    /// The policy names no list to fetch.
    NoList,
    /// These, as of late.
    Listed(&'a RevocationList),
    /// There is a list, and it is not here or too old: it could be anybody.
    Unknown,
}

impl<'a> Revoked<'a> {
    /// What is known now from `feed`; `None`: the policy names no list.
    pub fn known(feed: Option<&'a RevocationFeed>, now: UnixSeconds) -> Self {
        match feed {
            None => Self::NoList,
            Some(feed) => feed.usable(now).map_or(Self::Unknown, |fetched| Self::Listed(&fetched.list)),
        }
    }

    /// Whether it could be anybody.
    pub const fn is_unknown(self) -> bool {
        matches!(self, Self::Unknown)
    }
}

/// A list of those who were cut off.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RevocationList {
    /// People or clients, by subject.
    pub subjects: BTreeSet<RevokedSubject>,
    /// Clients by identifier.
    pub clients: BTreeSet<String>,
    /// Agent roles by name.
    pub agents: BTreeSet<String>,
    /// Tokens by `jti`.
    pub token_ids: BTreeSet<String>,
}

/// A subject that was cut off.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct RevokedSubject {
    /// The issuer that knows it by this name; `None` for any, which is the safer reading of a list that does not say.
    pub issuer: Option<String>,
    /// `sub`.
    pub subject: String,
}

/// Why a document is no revocation list.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidList {
    /// More than [`limits::MAX_REVOCATION_LIST_BYTES`].
    #[error("more than {} bytes", limits::MAX_REVOCATION_LIST_BYTES)]
    TooLong,
    /// More than [`limits::MAX_REVOCATIONS`].
    #[error("more than {} entries", limits::MAX_REVOCATIONS)]
    TooMany,
    /// It is no JSON, ambiguous, or has members that the form does not know or of another type.
    #[error("{0}")]
    Malformed(String),
    /// It has none of the members: an empty object is more likely a mistake than an amnesty.
    #[error("none of `subjects`, `clients`, `agents`, `token_ids`")]
    Empty,
    /// An entry is an empty string, so that it is not known who was meant.
    #[error("an empty entry")]
    EmptyEntry,
}

/// The list as JSON. A member that is left out is empty; `null` is no list.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct ListDocument {
    #[serde(default, deserialize_with = "not_null")]
    subjects: Option<Vec<Object<SubjectDocument>>>,
    #[serde(default, deserialize_with = "not_null")]
    clients: Option<Vec<String>>,
    #[serde(default, deserialize_with = "not_null")]
    agents: Option<Vec<String>>,
    #[serde(default, deserialize_with = "not_null")]
    token_ids: Option<Vec<String>>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct SubjectDocument {
    #[serde(default, deserialize_with = "not_null")]
    issuer: Option<String>,
    subject: String,
}

fn not_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl RevocationList {
    /// Reads a list such as `{"subjects":[{"issuer":"https://idp","subject":"alice"}],"clients":["c"],"agents":["a"],
    /// "token_ids":["t"]}`. Nothing is skipped: who reads past an entry lets somebody in.
    ///
    /// # Errors
    /// When it is not exactly that.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidList> {
        /// List, array, subject.
        const DEPTH: usize = 3;
        if bytes.len() > limits::MAX_REVOCATION_LIST_BYTES {
            return Err(InvalidList::TooLong);
        }
        let malformed = |error: serde_json::Error| InvalidList::Malformed(error.to_string());
        json::parse(bytes, Checked::to_depth(DEPTH)).map_err(malformed)?;
        let Object(document): Object<ListDocument> = serde_json::from_slice(bytes).map_err(malformed)?;
        let ListDocument { subjects, clients, agents, token_ids } = document;
        if subjects.is_none() && clients.is_none() && agents.is_none() && token_ids.is_none() {
            return Err(InvalidList::Empty);
        }
        let subject = |Object(SubjectDocument { issuer, subject })| RevokedSubject { issuer, subject };
        let list = Self {
            subjects: grown(subjects.into_iter().flatten().map(subject)),
            clients: grown(clients.into_iter().flatten()),
            agents: grown(agents.into_iter().flatten()),
            token_ids: grown(token_ids.into_iter().flatten()),
        };
        if list.len() > limits::MAX_REVOCATIONS {
            return Err(InvalidList::TooMany);
        }
        if list.has_empty_entry() {
            return Err(InvalidList::EmptyEntry);
        }
        Ok(list)
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        [self.subjects.len(), self.clients.len(), self.agents.len(), self.token_ids.len()]
            .into_iter()
            .fold(0, usize::saturating_add)
    }

    /// Whether nobody was cut off.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn has_empty_entry(&self) -> bool {
        let is_empty = |subject: &RevokedSubject| subject.subject.is_empty() || subject.issuer.as_deref() == Some("");
        self.subjects.iter().any(is_empty)
            || [&self.clients, &self.agents, &self.token_ids].into_iter().any(|names| names.contains(""))
    }

    /// The sides of this caller that were cut off.
    pub fn sides(&self, principal: &Principal, directory: &Directory) -> impl Iterator<Item = Side> + use<> {
        let token = principal.token();
        let has = |subject: &str| {
            let named = |issuer: Option<&str>| {
                let subject = subject.to_owned();
                self.subjects.contains(&RevokedSubject { issuer: issuer.map(str::to_owned), subject })
            };
            !self.subjects.is_empty() && (named(None) || named(Some(token.issuer())))
        };
        let is_agent_revoked = principal.agent(directory).is_some_and(|agent| self.agents.contains(&agent.name))
            || token.attributes().agent.as_deref().is_some_and(|name| self.agents.contains(name))
            || token.attributes().actors.iter().any(|actor| has(actor));
        [
            (Side::Token, token.token_id().is_some_and(|id| self.token_ids.contains(id))),
            (Side::Person, has(token.subject())),
            (Side::Agent, is_agent_revoked),
            (Side::Client, token.client_id().is_some_and(|id| self.clients.contains(id))),
        ]
        .into_iter()
        .filter_map(|(side, is_revoked)| is_revoked.then_some(side))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_four_kinds_of_entries_each_of_which_may_be_left_out() {
        let text = r#"{"subjects":[{"issuer":"i","subject":"s"},{"subject":"s"}],"clients":["c"],"agents":["a","a"],
                       "token_ids":["t"]}"#;
        let list = RevocationList::parse(text.as_bytes()).unwrap();
        assert_eq!(list.len(), 5);
        let subjects: Vec<_> =
            list.subjects.iter().map(|subject| (subject.issuer.as_deref(), &*subject.subject)).collect();
        assert_eq!(subjects, [(None, "s"), (Some("i"), "s")]);
        assert!(RevocationList::parse(br#"{"subjects":[]}"#).unwrap().is_empty());
    }

    #[test]
    fn what_is_not_exactly_a_list_is_none() {
        for text in [
            "",
            "[]",
            r#"[[],["c"],[],[]]"#,
            r#"{"subjects":[["i","s"]]}"#,
            "null",
            "{",
            "<html>",
            "\u{feff}{\"clients\":[]}",
            r#"{"clients":[]} {}"#,
            r#"{"clients":[],"clients":["c"]}"#,
            r#"{"clients":[],"cli\u0065nts":["c"]}"#,
            r#"{"clients":[],"error":"later"}"#,
            r#"{"Clients":["c"]}"#,
            r#"{"clients":null}"#,
            r#"{"clients":"c"}"#,
            r#"{"clients":{"c":true}}"#,
            r#"{"clients":["c",7]}"#,
            r#"{"subjects":["alice"]}"#,
            r#"{"subjects":[{"issuer":"i"}]}"#,
            r#"{"subjects":[{"subject":"s","until":1}]}"#,
            r#"{"subjects":[{"subject":"s","subject":"t"}]}"#,
            r#"{"subjects":[{"issuer":null,"subject":"s"}]}"#,
            r#"{"subjects":[{"issuer":"i","subject":["s"]}]}"#,
        ] {
            let error = RevocationList::parse(text.as_bytes()).unwrap_err();
            assert!(matches!(error, InvalidList::Malformed(_)), "{text}: {error}");
        }
        assert_eq!(RevocationList::parse(b"{}"), Err(InvalidList::Empty));
        for text in
            [r#"{"clients":[""]}"#, r#"{"subjects":[{"subject":""}]}"#, r#"{"subjects":[{"issuer":"","subject":"s"}]}"#]
        {
            assert_eq!(RevocationList::parse(text.as_bytes()), Err(InvalidList::EmptyEntry), "{text}");
        }
    }

    #[test]
    fn lists_are_bounded() {
        let of = |count: usize| {
            let names: Vec<String> = (0..count).map(|number| format!("\"{number}\"")).collect();
            format!("{{\"token_ids\":[{}]}}", names.join(","))
        };
        assert_eq!(
            RevocationList::parse(of(limits::MAX_REVOCATIONS).as_bytes()).unwrap().len(),
            limits::MAX_REVOCATIONS
        );
        assert_eq!(
            RevocationList::parse(of(limits::MAX_REVOCATIONS.saturating_add(1)).as_bytes()),
            Err(InvalidList::TooMany)
        );
        let padded = format!("{{\"clients\":[]}}{}", " ".repeat(limits::MAX_REVOCATION_LIST_BYTES));
        assert_eq!(RevocationList::parse(padded.as_bytes()), Err(InvalidList::TooLong));
    }

    #[test]
    fn a_list_that_is_not_there_or_too_old_could_name_anybody() {
        use crate::units::Seconds;
        let at = UnixSeconds::new;
        let mut feed = RevocationFeed::new(Seconds::new(10), Seconds::new(60));
        assert!(matches!(Revoked::known(None, at(1000)), Revoked::NoList));
        assert!(Revoked::known(Some(&feed), at(1000)).is_unknown());
        feed.replace(FetchedList { list: Rc::default(), etag: None }, at(1000));
        assert!(matches!(Revoked::known(Some(&feed), at(1060)), Revoked::Listed(_)));
        assert!(Revoked::known(Some(&feed), at(1061)).is_unknown());
        assert!(feed.confirm(at(1050)));
        assert!(matches!(Revoked::known(Some(&feed), at(1110)), Revoked::Listed(_)));
    }
}

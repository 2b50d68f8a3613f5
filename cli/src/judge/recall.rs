//! From a record to the questions that were decided.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::IpAddr;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use toolgate::approval::Reason;
use toolgate::audit::record::{ApprovalStatus, Batch, Kind, Personal, Record, Verdict};
use toolgate::identity::Peer;
use toolgate::jwt::Attributes;
use toolgate::mcp::{Method, Revision, Target};
use toolgate::units::UnixSeconds;

use super::Unknown;

/// What the names of all methods about tasks begin with.
const TASKS: &str = "tasks/";

/// The reason of requests with a token that is on a list of revocations.
pub(super) const TOKEN_REVOKED: &str = "token_revoked";

/// The reason of requests that ended while people were asked.
const AWAITED: &str = "approval_awaited";

/// The reasons of requests that the decision function denied. All others were refused before, or after, it was asked.
const REASONS_OF_DENIALS: [&str; 12] = [
    "ambiguous_uri",
    "approval_in_batch",
    "approval_unavailable",
    "condition",
    "insufficient_scope",
    "insufficient_user_authentication",
    "no_rule",
    "not_permitted",
    "other_tenant",
    "task_not_bound",
    "token_lifetime",
    TOKEN_REVOKED,
];

/// What rules said to a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ruled {
    /// It may pass.
    Allowed,
    /// It may pass once people have approved it; whether it did is in the record's verdict.
    Gated,
    /// It may not pass.
    Denied,
}

/// What rules said to the request of a record; `None` if they were not asked.
pub fn ruled(record: &Record<'_>) -> Option<Ruled> {
    if record.kind != Kind::Request || record.caller.is_none() {
        return None;
    }
    let is_approved = record.approval.as_ref().is_some_and(|approval| approval.status == ApprovalStatus::Approved);
    match record.verdict {
        Verdict::Allow if is_approved => Some(Ruled::Gated),
        Verdict::Allow => Some(Ruled::Allowed),
        Verdict::Deny if REASONS_OF_DENIALS.contains(&&*record.reason) => Some(Ruled::Denied),
        // What came of an approval is asked for only where nothing else is in the way.
        Verdict::Deny => Reason::ALL.iter().any(|reason| reason.code() == record.reason).then_some(Ruled::Gated),
        Verdict::None => (record.reason == AWAITED).then_some(Ruled::Gated),
        Verdict::Serve => None,
    }
}

/// Whether people have yet to decide about the request of a record: whoever made it comes again.
pub fn is_waiting(record: &Record<'_>) -> bool {
    record.reason == AWAITED || record.reason == Reason::Pending.code()
}

/// A request as its record tells it.
#[derive(Clone, Debug)]
pub struct Recalled {
    /// Who asked.
    pub caller: Caller,
    /// What was asked for; each must be allowed.
    pub asked: Vec<Asked>,
    /// What the record does not say, so that no policy could decide.
    pub unknown: BTreeSet<Unknown>,
    /// Whether it was a batch of several, in which nothing can wait for people.
    pub is_batch: bool,
    /// Whether `asked` is all that was asked for, by its real names.
    pub is_asked_known: bool,
    /// The protocol revision.
    pub revision: Option<Revision>,
    /// Bytes of the body.
    pub request_bytes: u64,
}

/// Who asked.
#[derive(Clone, Debug)]
pub struct Caller {
    /// `iss`.
    pub issuer: String,
    /// `sub`; `None` if a pseudonym stands for it, or it was erased.
    pub subject: Option<String>,
    /// The client.
    pub client: Option<String>,
    /// The token's scopes, if the record has them.
    pub scopes: Option<Vec<String>>,
    /// `iat`.
    pub issued_at: UnixSeconds,
    /// `exp`.
    pub expires_at: UnixSeconds,
    /// `jti`.
    pub token_id: Option<String>,
    /// What the token says about its bearer; little, if that was erased.
    pub attributes: Attributes,
    /// Where the call came from.
    pub address: Option<IpAddr>,
    /// Whether the personal part is missing.
    pub is_erased: bool,
    /// Whether the token has more roles or groups than those in `attributes`.
    pub has_more_roles: bool,
    /// When it asked.
    pub now: UnixSeconds,
}

/// One thing that was asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Asked {
    /// What it is about.
    pub what: What,
    /// Whether it has arguments, which records do not hold.
    pub has_arguments: bool,
}

/// What a message acts on: a [`Target`] that lasts.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum What {
    /// Nothing that a rule could name.
    Protocol,
    /// A tool.
    Tool(String),
    /// A prompt.
    Prompt(String),
    /// A resource.
    Resource(String),
    /// A task.
    Task,
}

impl Asked {
    const PROTOCOL: Self = Self { what: What::Protocol, has_arguments: false };

    /// What it acts on, for the decision function.
    pub fn target(&self) -> Target<'_> {
        match &self.what {
            What::Protocol => Target::Protocol,
            What::Tool(name) => Target::Tool(Cow::Borrowed(name)),
            What::Prompt(name) => Target::Prompt(Cow::Borrowed(name)),
            What::Resource(uri) => Target::Resources(vec![Cow::Borrowed(uri)]),
            What::Task => Target::Task,
        }
    }

    fn name(&self) -> Option<&str> {
        match &self.what {
            What::Tool(name) | What::Prompt(name) | What::Resource(name) => Some(name),
            What::Protocol | What::Task => None,
        }
    }

    /// The tool, if it is one.
    pub fn tool(&self) -> Option<&str> {
        if let What::Tool(name) = &self.what { Some(name) } else { None }
    }
}

impl Caller {
    /// All texts that a decision can look at.
    fn texts(&self) -> impl Iterator<Item = &str> {
        let Self { issuer, subject, client, scopes, token_id, attributes, .. } = self;
        let lists = [&attributes.roles, &attributes.groups, &attributes.actors, &attributes.amr];
        let claims = [&attributes.agent, &attributes.acr, &attributes.tenant].into_iter().flatten();
        let names = [subject, client, token_id].into_iter().flatten().chain(scopes.iter().flatten());
        let claims = lists.into_iter().flatten().chain(claims).map(|text| &**text);
        std::iter::once(issuer).chain(names).map(String::as_str).chain(claims)
    }
}

/// Whether a record holds a text, or the rest of a list, in another form than it was: cut off, which `…[+N]` at the end
/// says, or cleaned of a character for which U+FFFD stands. See [`toolgate::audit`].
fn is_altered(text: &str) -> bool {
    let is_cut_off = text
        .strip_suffix(']')
        .and_then(|text| text.rsplit_once("…[+"))
        .is_some_and(|(_, left_out)| !left_out.is_empty() && left_out.bytes().all(|byte| byte.is_ascii_digit()));
    is_cut_off || text.contains(char::REPLACEMENT_CHARACTER)
}

/// The request of a record; `None` if it has no caller, or no time.
pub fn recall(record: &Record<'_>, personal: Option<&Personal<'_>>) -> Option<Recalled> {
    let caller = caller(record, personal)?;
    let mut unknown = BTreeSet::new();
    let uris = personal.map(|personal| &*personal.uris).unwrap_or_default();
    let mut asked = asked(record, uris, &mut unknown);
    if let Some(batch) = &record.batch {
        asked.extend(asked_in(batch, uris, &mut unknown));
    }
    let is_name_altered = asked.iter().filter_map(Asked::name).any(is_altered);
    let is_asked_known = unknown.is_empty() && !is_name_altered;
    if is_name_altered || caller.texts().any(is_altered) {
        unknown.insert(Unknown::Altered);
    }
    if unknown.remove(&Unknown::Target) {
        unknown.insert(if caller.is_erased { Unknown::Erased } else { Unknown::Target });
    }
    Some(Recalled {
        caller,
        asked,
        unknown,
        is_batch: record.batch.as_ref().is_some_and(|batch| batch.size > 1),
        is_asked_known,
        revision: record.revision.as_deref().and_then(Revision::parse),
        request_bytes: record.http.as_ref().map_or(0, |http| http.request_bytes),
    })
}

fn caller(record: &Record<'_>, personal: Option<&Personal<'_>>) -> Option<Caller> {
    let known = record.caller.as_ref()?;
    let texts = |list: &[Cow<'_, str>]| list.iter().map(|text| Box::from(&**text)).collect::<Box<[Box<str>]>>();
    let text = |text: &Option<Cow<'_, str>>| text.as_deref().map(Box::from);
    let mut attributes = Attributes { tenant: text(&known.tenant), is_machine: known.machine, ..Attributes::default() };
    if let Some(personal) = personal {
        attributes = Attributes {
            roles: texts(&personal.claimed_roles),
            groups: texts(&personal.claimed_groups),
            department: text(&personal.department),
            purpose: text(&personal.purpose),
            agent: text(&personal.claimed_agent),
            actors: texts(&personal.actors),
            acr: text(&personal.acr),
            amr: texts(&personal.amr),
            auth_time: personal.auth_time.map(UnixSeconds::new),
            ..attributes
        };
    }
    let (roles, groups) = (whole(&attributes.roles), whole(&attributes.groups));
    let has_more_roles = roles.len() < attributes.roles.len() || groups.len() < attributes.groups.len();
    (attributes.roles, attributes.groups) = (roles, groups);
    let owned = |text: Option<&Cow<'_, str>>| text.map(|text| text.clone().into_owned());
    Some(Caller {
        issuer: known.issuer.clone().into_owned(),
        subject: owned(personal.and_then(|personal| personal.subject.as_ref())),
        client: owned(known.client.as_ref()),
        scopes: record.scopes.as_ref().map(|scopes| scopes.granted.iter().map(|scope| scope.to_string()).collect()),
        issued_at: UnixSeconds::new(known.issued_at),
        expires_at: UnixSeconds::new(known.expires_at),
        token_id: owned(personal.and_then(|personal| personal.token_id.as_ref())),
        attributes,
        address: personal.and_then(|personal| personal.source.as_deref()).and_then(address),
        is_erased: personal.is_none(),
        has_more_roles,
        now: instant(&record.started)?,
    })
}

/// The texts that are as they were.
fn whole(texts: &[Box<str>]) -> Box<[Box<str>]> {
    texts.iter().filter(|text| !is_altered(text)).cloned().collect()
}

/// The second of a time in RFC 3339.
pub fn instant(text: &str) -> Option<UnixSeconds> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    u64::try_from(time.unix_timestamp()).ok().map(UnixSeconds::new)
}

/// An address with or without its port.
fn address(text: &str) -> Option<IpAddr> {
    Peer::parse_address(text).or_else(|| text.parse().ok().map(|address: IpAddr| address.to_canonical()))
}

fn has_arguments(method: &str) -> bool {
    method == Method::ToolsCall.name() || method == Method::PromptsGet.name()
}

/// Whether a message of this method always acts on a resource.
fn reads_resource(method: &str) -> bool {
    [Method::ResourcesRead, Method::ResourcesSubscribe, Method::ResourcesUnsubscribe]
        .into_iter()
        .any(|reading| reading.name() == method)
}

/// Whether a message of this method always acts on something that has a name.
fn names_target(method: &str) -> bool {
    has_arguments(method)
        || reads_resource(method)
        || method == Method::CompletionComplete.name()
        || method.starts_with(TASKS)
}

fn asked(record: &Record<'_>, uris: &[Cow<'_, str>], unknown: &mut BTreeSet<Unknown>) -> Vec<Asked> {
    let method = record.method.as_deref().unwrap_or_default();
    let has_arguments = has_arguments(method);
    let of = |what| vec![Asked { what, has_arguments }];
    let Some(target) = &record.target else {
        if names_target(method) || !uris.is_empty() {
            unknown.insert(Unknown::Target);
        }
        return vec![Asked::PROTOCOL];
    };
    match (&*target.kind, target.name.as_deref()) {
        ("tool", Some(name)) => of(What::Tool(name.to_owned())),
        ("prompt", Some(name)) => of(What::Prompt(name.to_owned())),
        ("resource", _) if !uris.is_empty() => resources(uris),
        ("task", _) => of(What::Task),
        _ => {
            unknown.insert(Unknown::Target);
            vec![Asked::PROTOCOL]
        }
    }
}

fn resources(uris: &[Cow<'_, str>]) -> Vec<Asked> {
    uris.iter().map(|uri| Asked { what: What::Resource(uri.to_string()), has_arguments: false }).collect()
}

/// The calls of a batch. Which URI belongs to which of them does not matter: all must be allowed.
fn asked_in(batch: &Batch<'_>, uris: &[Cow<'_, str>], unknown: &mut BTreeSet<Unknown>) -> Vec<Asked> {
    if u64::from(batch.size) > u64::try_from(batch.calls.len()).unwrap_or(u64::MAX) {
        unknown.insert(Unknown::Batch);
    }
    let mut reading = 0_usize;
    let mut asked = resources(uris);
    for call in &batch.calls {
        let (method, name) = call.split_once(' ').map_or((&**call, None), |(method, name)| (method, Some(name)));
        let has_arguments = has_arguments(method);
        let what = match name {
            Some(name) if method == Method::ToolsCall.name() => What::Tool(name.to_owned()),
            Some(name) => What::Prompt(name.to_owned()),
            None => {
                // A completion without the name of a prompt is one for a resource.
                let is_about_resource = reads_resource(method) || method == Method::CompletionComplete.name();
                reading = reading.saturating_add(usize::from(is_about_resource));
                if has_arguments {
                    unknown.insert(Unknown::Target);
                }
                if method.starts_with(TASKS) { What::Task } else { What::Protocol }
            }
        };
        asked.push(Asked { what, has_arguments });
    }
    if reading > uris.len() {
        unknown.insert(Unknown::Batch);
    }
    asked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn altered_texts_are_known_by_their_marks() {
        for altered in ["a…[+12]", "…[+1]", "a\u{fffd}b"] {
            assert!(is_altered(altered), "{altered}");
        }
        for whole in ["", "a", "a…", "a[+1]", "a…[+]", "a…[+x]", "…[+1] b"] {
            assert!(!is_altered(whole), "{whole}");
        }
    }

    #[test]
    fn times_are_those_of_the_second() {
        assert_eq!(instant("1970-01-01T00:01:00.999Z"), Some(UnixSeconds::new(60)));
        assert_eq!(instant("1969-12-31T23:59:59Z"), None);
        assert_eq!(instant("yesterday"), None);
    }
}

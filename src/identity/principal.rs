//! The bearer of a token, held against the policy's tables.

use std::cell::OnceCell;
use std::rc::Rc;

use super::{Agent, Client, Definitions, Directory, Failure, Operator, Peer, Revoked, Side, Why};
use crate::audit::Portrait;
use crate::http::header_value;
use crate::jwt::VerifiedToken;
use crate::limits;
use crate::oauth::{ScopeCatalogue, ScopeSet};
use crate::units::UnixSeconds;

/// A caller: what its verified token says, and which entries of the policy's tables are about it.
///
/// It holds for the token under one policy. What changes from request to request (time, connection, revocations) is
/// asked of it then.
#[derive(Debug)]
pub struct Principal {
    token: VerifiedToken,
    granted: ScopeSet,
    person: Standing<Roles>,
    agent: Standing<usize>,
    is_client_known: Option<Result<(), Why>>,
    headers: OnceCell<Option<IdentityHeaders>>,
    portrait: OnceCell<Portrait>,
}

/// Names and values of the headers that tell the upstream who is calling.
pub type IdentityHeaders = Rc<[(&'static str, String)]>;

/// What a table says about the caller: nothing because there is no such table, or an entry, or why there is none.
type Standing<T> = Option<Result<T, Why>>;

/// The operator roles of a person.
#[derive(Debug)]
struct Roles {
    names: Vec<String>,
    scopes: ScopeSet,
}

impl AsRef<VerifiedToken> for Principal {
    fn as_ref(&self) -> &VerifiedToken {
        &self.token
    }
}

impl Principal {
    /// The principal of a token under a policy.
    pub fn new(token: VerifiedToken, directory: &Directory, scopes: &ScopeCatalogue) -> Self {
        let granted = scopes.granted(token.scopes());
        let registered = registered(&token, directory);
        let client = registered.as_ref().and_then(|client| client.as_ref().ok().copied());
        let person = person(&token, directory, client);
        let agent = agent(&token, directory, client);
        let is_client_known = registered.map(|known| known.map(|_| ()));
        let (headers, portrait) = (OnceCell::new(), OnceCell::new());
        Self { token, granted, person, agent, is_client_known, headers, portrait }
    }

    /// The token that proves who it is.
    pub const fn token(&self) -> &VerifiedToken {
        &self.token
    }

    /// Everything that its token grants.
    pub const fn granted(&self) -> &ScopeSet {
        &self.granted
    }

    /// The tenant that it belongs to.
    pub fn tenant(&self) -> Option<&str> {
        self.token.attributes().tenant.as_deref()
    }

    /// Its operator roles; none for a machine.
    pub fn operator_roles(&self) -> &[String] {
        match &self.person {
            Some(Ok(roles)) => &roles.names,
            Some(Err(_)) | None => &[],
        }
    }

    /// Its agent role.
    pub fn agent<'d>(&self, directory: &'d Directory) -> Option<&'d Agent> {
        match &self.agent {
            Some(Ok(index)) => directory.agents.as_ref()?.get(*index),
            Some(Err(_)) | None => None,
        }
    }

    /// Its registration.
    pub fn client<'d>(&self, directory: &'d Directory) -> Option<&'d Client> {
        match self.is_client_known {
            Some(Ok(())) => directory.clients.as_ref()?.get(self.token.client_id()?),
            Some(Err(_)) | None => None,
        }
    }

    /// What speaks against the caller whatever it asks for.
    pub fn objections(
        &self,
        directory: &Directory,
        revoked: Revoked<'_>,
        peer: &Peer,
        now: UnixSeconds,
    ) -> Vec<Failure> {
        let mut failures: Vec<Failure> = [
            (Side::Person, self.person.as_ref().and_then(|person| person.as_ref().err())),
            (Side::Agent, self.agent.as_ref().and_then(|agent| agent.as_ref().err())),
            (Side::Client, self.is_client_known.as_ref().and_then(|known| known.as_ref().err())),
        ]
        .into_iter()
        .filter_map(|(side, why)| why.map(|why| Failure { side, why: why.clone() }))
        .collect();
        let mut fail = |side, why| failures.push(Failure { side, why });
        if let Some(client) = self.client(directory) {
            if client.source.as_ref().is_some_and(|source| !source.fits(peer)) {
                fail(Side::Client, Why::OtherSource);
            }
            if client.consent.as_ref().and_then(|consent| consent.ends).is_some_and(|end| now >= end) {
                fail(Side::Consent, Why::Expired);
            }
        }
        let listed = match revoked {
            Revoked::NoList => None,
            Revoked::Listed(list) => Some(list),
            Revoked::Unknown => {
                fail(Side::Token, Why::RevocationsUnavailable);
                None
            }
        };
        for list in std::iter::once(&directory.revoked).chain(listed) {
            list.sides(self, directory).for_each(|side| fail(side, Why::Revoked));
        }
        failures
    }

    /// The sides, other than the token, that do not have the scopes which a rule requires.
    pub fn lacking<'a>(
        &'a self,
        directory: &'a Directory,
        catalogue: &'a ScopeCatalogue,
        required: &'a ScopeSet,
    ) -> impl Iterator<Item = Failure> + 'a {
        self.limits(directory).filter(|(_, scopes)| !required.is_subset_of(scopes)).map(|(side, scopes)| {
            let missing = catalogue.missing(required, scopes).map(str::to_owned).collect();
            Failure { side, why: Why::MissingScopes(missing) }
        })
    }

    /// What the client's registration and consent object to this tool.
    pub fn tool_objections<'a>(
        &'a self,
        directory: &'a Directory,
        tool: &'a str,
        definitions: &'a Definitions,
    ) -> impl Iterator<Item = Failure> + 'a {
        let client = self.client(directory);
        let registration = client
            .and_then(|client| client.tools.as_ref())
            .filter(|tools| !tools.contains(tool))
            .map(|_| Failure { side: Side::Client, why: Why::ToolNotListed });
        let consent = client
            .and_then(|client| client.consent.as_ref()?.objection(tool, definitions))
            .map(|why| Failure { side: Side::Consent, why });
        registration.into_iter().chain(consent)
    }

    /// The scopes of each side that has a limit, other than the token.
    fn limits<'a>(&'a self, directory: &'a Directory) -> impl Iterator<Item = (Side, &'a ScopeSet)> + 'a {
        let person = match &self.person {
            Some(Ok(roles)) => Some(&roles.scopes),
            Some(Err(_)) | None => None,
        };
        let agent = self.agent(directory).map(|agent| &agent.scopes);
        let client = self.client(directory);
        let registration = client.and_then(|client| client.scopes.as_ref());
        let consent = client.and_then(|client| client.consent.as_ref()?.scopes.as_ref());
        [(Side::Person, person), (Side::Agent, agent), (Side::Client, registration), (Side::Consent, consent)]
            .into_iter()
            .filter_map(|(side, scopes)| scopes.map(|scopes| (side, scopes)))
    }

    /// What records say of it, drawn the first time that a record is written.
    pub fn portrait(&self, draw: impl FnOnce() -> Portrait) -> &Portrait {
        self.portrait.get_or_init(draw)
    }

    /// The headers that tell the upstream who is calling; `None` when one of them would be too long to be told whole.
    pub fn identity_headers(&self, directory: &Directory) -> Option<IdentityHeaders> {
        self.headers.get_or_init(|| self.render_headers(directory)).clone()
    }

    fn render_headers(&self, directory: &Directory) -> Option<IdentityHeaders> {
        let list = |texts: &mut dyn Iterator<Item = &str>| {
            let value = texts.map(header_value).collect::<Option<Vec<_>>>()?.join(" ");
            (value.len() <= limits::MAX_HEADER_VALUE_BYTES).then_some(value)
        };
        let mut headers = vec![
            ("x-toolgate-issuer", header_value(self.token.issuer())?),
            ("x-toolgate-subject", header_value(self.token.subject())?),
        ];
        if let Some(client) = self.token.client_id() {
            headers.push(("x-toolgate-client", header_value(client)?));
        }
        headers.push(("x-toolgate-scopes", list(&mut self.token.scopes())?));
        if let Some(tenant) = self.tenant() {
            headers.push(("x-toolgate-tenant", header_value(tenant)?));
        }
        if let Some(agent) = self.agent(directory) {
            headers.push(("x-toolgate-agent", header_value(&agent.name)?));
        }
        if !self.operator_roles().is_empty() {
            headers.push(("x-toolgate-roles", list(&mut self.operator_roles().iter().map(String::as_str))?));
        }
        Some(headers.into())
    }
}

/// The registration of the token's client. Only the token says which client that is.
fn registered<'d>(token: &VerifiedToken, directory: &'d Directory) -> Standing<&'d Client> {
    let clients = directory.clients.as_ref()?;
    let Some(id) = token.client_id() else { return Some(Err(Why::NoClient)) };
    Some(match clients.get(id) {
        None => Err(Why::UnknownClient),
        Some(client) if client.issuer.as_deref().is_some_and(|issuer| issuer != token.issuer()) => {
            Err(Why::OtherIssuer)
        }
        Some(client) => Ok(client),
    })
}

/// The person's roles. A token without a person has none, and needs a client that may act alone.
fn person(token: &VerifiedToken, directory: &Directory, client: Option<&Client>) -> Standing<Roles> {
    if token.attributes().is_machine {
        let may_act_alone = match client {
            Some(client) => client.may_act_alone,
            None => directory.operators.is_none(),
        };
        return (!may_act_alone).then_some(Err(Why::WithoutPerson));
    }
    let fitting: Vec<&Operator> =
        directory.operators.as_ref()?.iter().filter(|operator| operator.matches.fits(token)).collect();
    if fitting.is_empty() {
        return Some(Err(Why::NoRole));
    }
    let mut scopes = ScopeSet::default();
    fitting.iter().for_each(|operator| scopes.extend(&operator.scopes));
    Some(Ok(Roles { names: fitting.into_iter().map(|operator| operator.name.clone()).collect(), scopes }))
}

/// The agent role: the client's, or the one in the token. Where both are there they must agree.
fn agent(token: &VerifiedToken, directory: &Directory, client: Option<&Client>) -> Standing<usize> {
    directory.agents.as_ref()?;
    let bound = client.and_then(|client| client.agent);
    let claimed = token.attributes().agent.as_deref().map(|name| directory.agent(name).ok_or(Why::UnknownAgentRole));
    Some(match (bound, claimed) {
        (_, Some(Err(why))) => Err(why),
        (Some(bound), Some(Ok(claimed))) if bound != claimed => Err(Why::OtherAgentRole),
        (Some(index), _) | (None, Some(Ok(index))) => Ok(index),
        (None, None) => Err(Why::NoAgentRole),
    })
}

//! People, agents and clients: the tables that a call's sides are held against.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::approval::{GateDefaults, only_here};
use super::check::{each, non_empty};
use super::document::{
    AgentDocument, ClientDocument, ConsentDocument, GateDocument, OperatorDocument, RevocationDocument, SourceDocument,
    WithoutPerson,
};
use super::revocation::revocation as revocation_of;
use super::{ConfigError, RevocationSource};
use crate::grown::grown;
use crate::identity::{Agent, AgentApproval, Client, Consent, Directory, Operator, RoleMatch, Source};
use crate::jwt::TrustedIssuer;
use crate::oauth::{ScopeCatalogue, ScopeSet};
use crate::pattern::{Pattern, PatternList};
use crate::policy::Origin;

/// The tables as written.
pub(super) struct Parties {
    pub(super) operators: Option<BTreeMap<String, OperatorDocument>>,
    pub(super) agents: Option<BTreeMap<String, AgentDocument>>,
    pub(super) clients: Option<BTreeMap<String, ClientDocument>>,
    pub(super) revocation: RevocationDocument,
}

/// The tables, and where more revocations come from.
pub(super) fn directory(
    parties: Parties,
    scopes: &ScopeCatalogue,
    issuers: &[TrustedIssuer],
    gates: &GateDefaults,
) -> Result<(Directory, Option<RevocationSource>), ConfigError> {
    let Parties { operators, agents, clients, revocation } = parties;
    let names = Names { scopes, issuers };
    let operators = operators.map(|documents| operators_of(documents, names)).transpose()?;
    let agents = agents.map(|documents| agents_of(documents, names, gates)).transpose()?;
    let mut directory = Directory { operators, agents, ..Directory::default() };
    let clients = clients.map(|documents| clients_of(documents, names, &directory)).transpose()?;
    directory.clients = clients;
    let (revoked, source) = revocation_of(revocation, issuers, &directory)?;
    directory.revoked = revoked;
    Ok((directory, source))
}

/// What the tables may refer to.
#[derive(Clone, Copy)]
struct Names<'a> {
    scopes: &'a ScopeCatalogue,
    issuers: &'a [TrustedIssuer],
}

impl Names<'_> {
    /// The declared scopes that names and patterns stand for, with all that they imply.
    fn scopes(self, path: &str, texts: &[String]) -> Result<ScopeSet, ConfigError> {
        let mut names = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            let path = format!("{path}[{index}]");
            let pattern = pattern(path.clone(), text)?;
            let before = names.len();
            names.extend(self.scopes.fitting(&pattern).map(str::to_owned));
            if names.len() == before {
                let problem = format!("no declared scope is `{text}`");
                return Err(ConfigError::new(path, problem, "declare it under `scopes` or correct its name"));
            }
        }
        Ok(self.scopes.granted(names.iter().map(String::as_str)))
    }

    /// What is left of `scopes` without the excepted ones. These are taken as they are: `except` of a broad scope does
    /// not take away the narrower ones that it implies.
    fn scopes_except(self, path: &str, scopes: &[String], except: &[String]) -> Result<ScopeSet, ConfigError> {
        let mut set = self.scopes(&format!("{path}.scopes"), scopes)?;
        let path = format!("{path}.except");
        each(&path, except, |path, text| {
            let pattern = pattern(path.clone(), text)?;
            if self.scopes.fitting(&pattern).next().is_some() {
                return Ok(());
            }
            let problem = format!("no declared scope is `{text}`");
            Err(ConfigError::new(path, problem, "declare it under `scopes` or correct its name"))
        })?;
        for text in except {
            if let Some(pattern) = Pattern::parse(text) {
                set.remove(&self.scopes.set(self.scopes.fitting(&pattern)));
            }
        }
        Ok(set)
    }

    fn issuer(self, path: String, name: &str) -> Result<(), ConfigError> {
        known_issuer(self.issuers, path, name)
    }
}

/// An issuer that is trusted.
pub(super) fn known_issuer(issuers: &[TrustedIssuer], path: String, name: &str) -> Result<(), ConfigError> {
    if issuers.iter().any(|issuer| issuer.issuer == name) {
        return Ok(());
    }
    let problem = format!("unknown issuer `{name}`");
    Err(ConfigError::new(path, problem, "name an issuer that is listed under `authentication.jwt`"))
}

fn pattern(path: String, text: &str) -> Result<Pattern, ConfigError> {
    Pattern::parse(text)
        .ok_or_else(|| ConfigError::new(path, format!("`{text}` is not a name or pattern"), "use at most one `*`"))
}

fn patterns(path: &str, texts: &[String]) -> Result<PatternList, ConfigError> {
    texts.iter().enumerate().map(|(index, text)| pattern(format!("{path}[{index}]"), text)).collect()
}

/// A table that is there but empty would refuse everybody: more likely a mistake than a wish.
fn not_empty<T>(path: &str, table: &BTreeMap<String, T>, whom: &str) -> Result<(), ConfigError> {
    if table.is_empty() {
        let problem = format!("is empty, so that {whom} would be refused");
        return Err(ConfigError::new(path, problem, "add an entry, or leave the section out"));
    }
    if table.contains_key("") {
        return Err(ConfigError::new(path, "has an entry without a name", "name it"));
    }
    Ok(())
}

fn operators_of(documents: BTreeMap<String, OperatorDocument>, names: Names<'_>) -> Result<Vec<Operator>, ConfigError> {
    not_empty("operators", &documents, "every person")?;
    let operator = |(name, document): (String, OperatorDocument)| {
        let path = format!("operators.{name}");
        let OperatorDocument { matches, scopes, except } = document;
        if matches.roles.is_empty() && matches.groups.is_empty() {
            let path = format!("{path}.match");
            return Err(ConfigError::new(path, "can never match", "name `roles` or `groups`"));
        }
        if let Some(issuers) = &matches.issuers {
            let path = format!("{path}.match.issuers");
            non_empty(&path, issuers)?;
            each(&path, issuers, |path, name| names.issuer(path, name))?;
        }
        let scopes = names.scopes_except(&path, &scopes, &except)?;
        let matches = RoleMatch {
            roles: patterns(&format!("{path}.match.roles"), &matches.roles)?,
            groups: patterns(&format!("{path}.match.groups"), &matches.groups)?,
            issuers: matches.issuers,
        };
        Ok(Operator { name, matches, scopes })
    };
    documents.into_iter().map(operator).collect()
}

fn agents_of(
    documents: BTreeMap<String, AgentDocument>,
    names: Names<'_>,
    gates: &GateDefaults,
) -> Result<Vec<Agent>, ConfigError> {
    not_empty("agents", &documents, "every caller")?;
    let agent = |(name, document): (String, AgentDocument)| {
        let path = format!("agents.{name}");
        let AgentDocument { scopes, except, approval } = document;
        let scopes = names.scopes_except(&path, &scopes, &except)?;
        let approval = approval.map(|approval| agent_approval(&path, &name, &approval, names, gates)).transpose()?;
        Ok(Agent { name, scopes, approval })
    };
    documents.into_iter().map(agent).collect()
}

fn agent_approval(
    path: &str,
    name: &str,
    document: &GateDocument,
    names: Names<'_>,
    gates: &GateDefaults,
) -> Result<AgentApproval, ConfigError> {
    let path = format!("{path}.approval");
    only_here(&path, document, Origin::Agent)?;
    let texts = document.scopes.as_deref().unwrap_or_default();
    let of_scopes = format!("{path}.scopes");
    non_empty(&of_scopes, texts)?;
    names.scopes(&of_scopes, texts)?;
    // Without what they imply: a duty for bulk messages is none for single ones.
    let mut scopes = ScopeSet::default();
    let fitting = texts.iter().filter_map(|text| Pattern::parse(text));
    fitting.for_each(|pattern| scopes.extend(&names.scopes.set(names.scopes.fitting(&pattern))));
    let gate = gates.gate(&path, Origin::Agent, name.to_owned(), document)?;
    Ok(AgentApproval { scopes, gate: Arc::new(gate) })
}

fn clients_of(
    documents: BTreeMap<String, ClientDocument>,
    names: Names<'_>,
    directory: &Directory,
) -> Result<BTreeMap<String, Client>, ConfigError> {
    not_empty("clients", &documents, "every client")?;
    let client = |(id, document): (String, ClientDocument)| {
        let path = format!("clients.{id}");
        client_of(&path, document, names, directory).map(|client| (id, client))
    };
    let clients = documents.into_iter().map(client).collect::<Result<Vec<_>, _>>()?;
    Ok(grown(clients))
}

fn client_of(
    path: &str,
    document: ClientDocument,
    names: Names<'_>,
    directory: &Directory,
) -> Result<Client, ConfigError> {
    let ClientDocument { issuer, agent, scopes, tools, source, without_person, consent } = document;
    match &issuer {
        Some(issuer) => names.issuer(format!("{path}.issuer"), issuer)?,
        None if names.issuers.len() > 1 => {
            let problem = "is missing, and another issuer could have a client of the same name";
            return Err(ConfigError::new(format!("{path}.issuer"), problem, "name the issuer that registered it"));
        }
        None => {}
    }
    let agent = agent.map(|name| known_agent(format!("{path}.agent"), &name, directory)).transpose()?;
    Ok(Client {
        issuer,
        agent,
        scopes: scopes.map(|scopes| names.scopes(&format!("{path}.scopes"), &scopes)).transpose()?,
        tools: tools.map(|tools| patterns(&format!("{path}.tools"), &tools)).transpose()?,
        source: source.map(|source| source_of(&format!("{path}.source"), source)).transpose()?,
        may_act_alone: without_person == WithoutPerson::Allow,
        consent: consent.map(|consent| consent_of(&format!("{path}.consent"), consent, names)).transpose()?,
    })
}

/// The place of an agent role that is declared.
pub(super) fn known_agent(path: String, name: &str, directory: &Directory) -> Result<usize, ConfigError> {
    directory.agent(name).ok_or_else(|| {
        ConfigError::new(path, format!("unknown agent role `{name}`"), "declare it under `agents` or correct its name")
    })
}

fn source_of(path: &str, document: SourceDocument) -> Result<Source, ConfigError> {
    let SourceDocument { cidrs, uri_sans, dns_sans } = document;
    if cidrs.is_empty() && uri_sans.is_empty() && dns_sans.is_empty() {
        return Err(ConfigError::new(path, "names no source", "name `cidrs`, `uri_sans` or `dns_sans`"));
    }
    let network = |(index, text): (usize, &String)| {
        text.parse().map_err(|_| {
            let problem = format!("`{text}` is not a network");
            ConfigError::new(format!("{path}.cidrs[{index}]"), problem, "write one such as `10.0.0.0/8` or `fd00::/8`")
        })
    };
    Ok(Source { cidrs: cidrs.iter().enumerate().map(network).collect::<Result<_, _>>()?, uri_sans, dns_sans })
}

fn consent_of(path: &str, document: ConsentDocument, names: Names<'_>) -> Result<Consent, ConfigError> {
    let ConsentDocument { by, on, expires, scopes, tools, definitions } = document;
    non_empty(&format!("{path}.by"), &[by])?;
    if expires.is_some_and(|expires| expires < on) {
        return Err(ConfigError::new(format!("{path}.expires"), "lies before `on`", "correct one of the two"));
    }
    let digest = |(tool, text): (String, String)| {
        digest_of(&text).map(|digest| (tool.clone(), digest)).ok_or_else(|| {
            let path = format!("{path}.definitions.{tool}");
            ConfigError::new(path, "is not a SHA-256 in hexadecimal", "write 64 digits")
        })
    };
    let definitions = definitions.into_iter().map(digest).collect::<Result<Vec<_>, _>>()?;
    Ok(Consent {
        ends: expires.map(crate::units::Date::end),
        scopes: scopes.map(|scopes| names.scopes(&format!("{path}.scopes"), &scopes)).transpose()?,
        tools: tools.map(|tools| patterns(&format!("{path}.tools"), &tools)).transpose()?,
        definitions: grown(definitions),
    })
}

fn digest_of(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (place, byte) in digest.iter_mut().enumerate() {
        let start = place.checked_mul(2)?;
        *byte = u8::from_str_radix(text.get(start..start.checked_add(2)?)?, 16).ok()?;
    }
    Some(digest)
}

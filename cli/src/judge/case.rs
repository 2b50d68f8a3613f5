//! One call of one caller, decided with what is not known for or against the caller.

use std::collections::BTreeSet;

use toolgate::config::CompiledPolicy;
use toolgate::identity::{Client, Definitions, Peer, Principal, Revoked, Source};
use toolgate::jwt::{IssuerIndex, RecordedToken};
use toolgate::mcp::{Call, CallContext, ClientCapabilities, Retry, Revision};
use toolgate::pattern::Pattern;
use toolgate::policy::{AccessRequest, Approval, Decision, Denial, Duties, Effort, Subject, decide, prospect};

use super::variants::Variants;
use super::{Asked, Caller, Unknown};

/// What becomes of a call that is not denied.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Passage {
    /// It passes.
    Free,
    /// It passes once people have approved it.
    Gated,
}

/// The unknowns that are against the caller; all others are in its favour.
type Against = BTreeSet<Unknown>;

/// A call before the judge.
pub(super) struct Case<'a> {
    pub(super) policy: &'a CompiledPolicy,
    pub(super) variants: &'a Variants<'a>,
    pub(super) caller: &'a Caller,
    pub(super) asked: &'a Asked,
}

impl<'a> Case<'a> {
    /// The unknowns that the policy could look at for this call.
    pub(super) fn suspects(&self) -> Against {
        let Self { policy, caller, .. } = self;
        let revoked = &policy.directory.revoked;
        let is_source_unknown = self.source().is_some_and(|source| {
            let is_address_unknown = caller.address.is_none() && !source.cidrs.is_empty();
            is_address_unknown || !source.uri_sans.is_empty() || !source.dns_sans.is_empty()
        });
        let consent = self.client().and_then(|client| client.consent.as_ref());
        let is_pinned =
            consent.is_some_and(|consent| self.asked.tool().is_some_and(|tool| consent.definitions.contains_key(tool)));
        let hidden = self.hidden();
        let places = policy.rules.places(caller.attributes.tenant.as_deref(), &self.asked.target());
        let in_rules = places.into_iter().flatten().flat_map(|place| self.variants.unknown_to(place, &hidden));
        [
            (Unknown::Definitions, is_pinned),
            (Unknown::Erased, caller.is_erased),
            (Unknown::Revocations, policy.revocations.is_some()),
            (Unknown::Scopes, caller.scopes.is_none()),
            (Unknown::Source, is_source_unknown),
            (Unknown::Subject, caller.subject.is_none() && !revoked.subjects.is_empty()),
        ]
        .into_iter()
        .filter_map(|(unknown, is_suspect)| is_suspect.then_some(unknown))
        .chain(in_rules)
        .collect()
    }

    /// The decision with everything in favour of the caller.
    ///
    /// # Errors
    /// Why it is denied whatever is not known.
    pub(super) fn at_best(&self) -> Result<Passage, Denial> {
        let nothing = Against::new();
        let mut passage = Passage::Free;
        if self.asked.has_arguments {
            // A condition can deny whatever the arguments are.
            let mut hidden = self.hidden();
            hidden.remove(&Unknown::Arguments);
            let rules = self.variants.get(&hidden, &nothing);
            let bearer = Bearer::new(self, &nothing);
            let directory = &self.policy.directory;
            passage = prospect(&rules, directory, bearer.subject(self), &Effort::default(), &self.asked.target())
                .and_then(|duties| open_duty(duties, rules.has_approvers))?;
        }
        Ok(self.decide(&nothing)?.max(passage))
    }

    /// The decision with these unknowns against the caller.
    ///
    /// # Errors
    /// Why it is denied.
    pub(super) fn decide(&self, against: &Against) -> Result<Passage, Denial> {
        let rules = self.variants.get(&self.hidden(), against);
        let bearer = Bearer::new(self, against);
        // The decision looks at the target only.
        let call = Call {
            revision: Revision::V2026_07_28,
            method: None,
            target: self.asked.target(),
            id: None,
            capabilities: ClientCapabilities::default(),
            context: CallContext::default(),
            retry: Retry::default(),
            arguments: None,
        };
        let request = AccessRequest { subject: bearer.subject(self), calls: &[call] };
        match decide(&rules, &self.policy.directory, request) {
            Decision::Permit(_) => Ok(Passage::Free),
            Decision::Oblige(_) => Ok(Passage::Gated),
            Decision::Deny { denial, .. } => Err(denial),
        }
    }

    /// The caller, with everything in its favour.
    pub(super) fn principal(&self) -> Principal {
        Bearer::new(self, &Against::new()).principal
    }

    /// What conditions cannot look at.
    fn hidden(&self) -> BTreeSet<Unknown> {
        let Self { caller, asked, .. } = self;
        [
            (Unknown::Altered, caller.has_more_roles),
            (Unknown::Arguments, asked.has_arguments),
            (Unknown::Claims, true),
            (Unknown::Erased, caller.is_erased),
            (Unknown::Subject, caller.subject.is_none()),
        ]
        .into_iter()
        .filter_map(|(unknown, is_hidden)| is_hidden.then_some(unknown))
        .collect()
    }

    fn client(&self) -> Option<&'a Client> {
        self.policy.directory.clients.as_ref()?.get(self.caller.client.as_ref()?)
    }

    fn source(&self) -> Option<&'a Source> {
        self.client()?.source.as_ref()
    }
}

/// What comes of the duties that are open whatever the arguments are. An approval can be got where somebody can be asked.
fn open_duty(duties: Duties, has_approvers: bool) -> Result<Passage, Denial> {
    match duties {
        Duties { step_up: Some(step_up), .. } => Err(Denial::InsufficientAuthentication(step_up)),
        Duties { approval: Approval::Required, .. } if has_approvers => Ok(Passage::Gated),
        Duties { approval: Approval::Required, .. } => Err(Denial::ApprovalUnavailable),
        Duties { approval: Approval::None | Approval::Possible, .. } => Ok(Passage::Free),
    }
}

/// Who calls, as the decision function sees it.
struct Bearer {
    principal: Principal,
    peer: Peer,
    definitions: Definitions,
    is_list_unknown: bool,
}

impl Bearer {
    fn new(case: &Case<'_>, against: &Against) -> Self {
        let Case { policy, .. } = case;
        let token = token(case, against).into();
        Self {
            principal: Principal::new(token, &policy.directory, &policy.rules.scopes),
            peer: peer(case, against),
            definitions: definitions(case, against),
            is_list_unknown: against.contains(&Unknown::Revocations),
        }
    }

    fn subject<'b>(&'b self, case: &Case<'_>) -> Subject<'b> {
        Subject {
            principal: &self.principal,
            peer: &self.peer,
            revoked: if self.is_list_unknown { Revoked::Unknown } else { Revoked::NoList },
            definitions: &self.definitions,
            now: case.caller.now,
        }
    }
}

fn token(case: &Case<'_>, against: &Against) -> RecordedToken {
    let Case { policy, caller, .. } = case;
    let revoked = &policy.directory.revoked;
    let mut attributes = caller.attributes.clone();
    let mut token_id = caller.token_id.clone();
    let is_erased = against.contains(&Unknown::Erased);
    if is_erased {
        // No role of this name can be declared.
        attributes.agent = Some("".into());
        token_id = revoked.token_ids.first().cloned();
    }
    let worst_subject = || {
        let is_meant = |issuer: &Option<String>| issuer.as_ref().is_none_or(|issuer| *issuer == caller.issuer);
        let listed = revoked.subjects.iter().find(|listed| is_meant(&listed.issuer));
        listed.map(|listed| listed.subject.clone()).unwrap_or_default()
    };
    let is_subject_against = is_erased || against.contains(&Unknown::Subject);
    let subject = if is_subject_against { worst_subject() } else { caller.subject.clone().unwrap_or_default() };
    let scopes = match &caller.scopes {
        Some(scopes) => scopes.clone(),
        None if against.contains(&Unknown::Scopes) => Vec::new(),
        None => every_scope(policy),
    };
    let place = policy.issuers.iter().position(|issuer| issuer.issuer == caller.issuer).unwrap_or_default();
    RecordedToken {
        issuer_index: IssuerIndex::new(place),
        issuer: caller.issuer.clone(),
        subject,
        client_id: caller.client.clone(),
        scopes,
        issued_at: caller.issued_at,
        expires_at: caller.expires_at,
        token_id,
        attributes,
    }
}

fn every_scope(policy: &CompiledPolicy) -> Vec<String> {
    let all = Pattern::Wildcard { prefix: String::new(), suffix: String::new() };
    policy.rules.scopes.fitting(&all).map(str::to_owned).collect()
}

/// Names of certificates are not in records.
fn peer(case: &Case<'_>, against: &Against) -> Peer {
    let address = case.caller.address;
    match case.source() {
        Some(source) if !against.contains(&Unknown::Source) => Peer {
            address: address.or_else(|| source.cidrs.first().map(ipnet::IpNet::addr)),
            uri_san: source.uri_sans.first().cloned(),
            dns_san: source.dns_sans.first().cloned(),
        },
        Some(_) | None => Peer { address, ..Peer::default() },
    }
}

/// Definitions of tools: as they were consented to, or not seen.
fn definitions(case: &Case<'_>, against: &Against) -> Definitions {
    let Some(consent) = case.client().and_then(|client| client.consent.as_ref()) else { return Definitions::default() };
    let mut definitions = Definitions::of(consent.definitions.keys().map(String::as_str));
    if !against.contains(&Unknown::Definitions) {
        consent.definitions.iter().for_each(|(tool, digest)| definitions.note(tool, *digest));
    }
    definitions
}

//! Who is cut off: the policy's own list, and where another one is fetched from.

use super::check::{each, within};
use super::document::{RevocationDocument, RevocationListDocument, RevokedSubjectDocument};
use super::parties::{known_agent, known_issuer};
use super::{ConfigError, Endpoint};
use crate::grown::grown;
use crate::identity::{Directory, RevocationList, RevokedSubject};
use crate::jwt::TrustedIssuer;
use crate::limits;
use crate::units::Seconds;

/// Where the list of those who were cut off comes from, and how old it may be.
///
/// Whoever is put on the list is cut off within `refresh` and the time that a fetch may take, rounded up to whole
/// seconds, for as long as the list's server answers; and within `max_stale` in any case.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RevocationSource {
    /// Where it is fetched from.
    pub endpoint: Endpoint,
    /// How old it may be before it is fetched again.
    pub refresh: Seconds,
    /// How old it may be before it is no longer used, and every request with a token is refused.
    pub max_stale: Seconds,
}

pub(super) fn revocation(
    document: RevocationDocument,
    issuers: &[TrustedIssuer],
    directory: &Directory,
) -> Result<(RevocationList, Option<RevocationSource>), ConfigError> {
    let RevocationDocument { subjects, clients, agents, token_ids, list } = document;
    for (index, subject) in subjects.iter().enumerate() {
        let path = format!("revocation.subjects[{index}]");
        if let Some(issuer) = &subject.issuer {
            known_issuer(issuers, format!("{path}.issuer"), issuer)?;
        }
        named(format!("{path}.subject"), &subject.subject)?;
    }
    each("revocation.clients", &clients, named)?;
    each("revocation.agents", &agents, |path, name| known_agent(path, name, directory).map(|_| ()))?;
    each("revocation.token_ids", &token_ids, named)?;
    let subject = |RevokedSubjectDocument { issuer, subject }| RevokedSubject { issuer, subject };
    let revoked = RevocationList {
        subjects: grown(subjects.into_iter().map(subject)),
        clients: grown(clients),
        agents: grown(agents),
        token_ids: grown(token_ids),
    };
    Ok((revoked, list.map(source).transpose()?))
}

/// An empty entry names nobody, and somebody was meant.
fn named(path: String, name: &str) -> Result<(), ConfigError> {
    if name.is_empty() { Err(ConfigError::new(path, "is empty", "name who is cut off")) } else { Ok(()) }
}

fn source(document: RevocationListDocument) -> Result<RevocationSource, ConfigError> {
    let RevocationListDocument { cluster, path, authority, refresh, max_stale } = document;
    let authority = authority.unwrap_or_else(|| cluster.clone());
    let endpoint = Endpoint::check("revocation.list", &cluster, &path, authority)?;
    let refresh = refresh.unwrap_or(limits::DEFAULT_REVOCATION_REFRESH);
    let max_stale = max_stale.unwrap_or(limits::DEFAULT_REVOCATION_MAX_STALE);
    let (least, most) = (limits::MIN_REVOCATION_REFRESH, limits::MAX_REVOCATION_REFRESH);
    within("revocation.list.refresh", refresh, least, most)?;
    within("revocation.list.max_stale", max_stale, refresh, limits::MAX_REVOCATION_MAX_STALE)?;
    Ok(RevocationSource { endpoint, refresh, max_stale })
}

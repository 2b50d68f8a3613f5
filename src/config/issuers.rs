//! Issuers, and where their keys come from.

use std::collections::BTreeSet;

use super::check::{non_empty, within};
use super::document::{ClaimsDocument, IssuerDocument, JwksDocument, MachineDocument};
use super::{ConfigError, Endpoint};
use crate::jwt::{ClaimNames, ClaimPath, KeySet, KeySource, TokenType, TrustedIssuer};
use crate::limits;
use crate::oauth::ResourceUri;
use crate::units::Seconds;

/// Issuers, and in the same order the sources of their keys.
pub(super) type Issuers = (Vec<TrustedIssuer>, Vec<(KeySource, Option<Endpoint>)>);

pub(super) fn issuers(documents: Vec<IssuerDocument>, resource: &ResourceUri) -> Result<Issuers, ConfigError> {
    if documents.is_empty() || documents.len() > limits::MAX_ISSUERS {
        let remedy = format!("list 1 to {} issuers", limits::MAX_ISSUERS);
        return Err(ConfigError::new("authentication.jwt", "no usable list of issuers", remedy));
    }
    let mut names = BTreeSet::new();
    let mut issuers = Vec::with_capacity(documents.len());
    let mut sources = Vec::with_capacity(documents.len());
    for (index, document) in documents.into_iter().enumerate() {
        let path = format!("authentication.jwt[{index}]");
        if !names.insert(document.issuer.clone()) {
            return Err(ConfigError::new(format!("{path}.issuer"), "is listed twice", "merge the two entries"));
        }
        sources.push(key_source(&format!("{path}.jwks"), &document)?);
        issuers.push(issuer(&path, document, resource)?);
    }
    Ok((issuers, sources))
}

fn issuer(path: &str, document: IssuerDocument, resource: &ResourceUri) -> Result<TrustedIssuer, ConfigError> {
    if document.issuer.is_empty() || document.issuer.chars().any(|c| c.is_control() || c.is_whitespace()) {
        let remedy = "write the issuer identifier exactly as its tokens and its metadata have it";
        return Err(ConfigError::new(format!("{path}.issuer"), "is empty or has blanks", remedy));
    }
    if document.algorithms.is_empty() {
        let remedy = "list the algorithms that the issuer signs with";
        return Err(ConfigError::new(format!("{path}.algorithms"), "is empty", remedy));
    }
    let max_lifetime = document.max_lifetime.unwrap_or(limits::DEFAULT_TOKEN_LIFETIME);
    within(&format!("{path}.max_lifetime"), max_lifetime, Seconds::new(1), limits::MAX_TOKEN_LIFETIME)?;
    let audiences = document.audiences.unwrap_or_else(|| vec![resource.as_str().to_owned()]);
    non_empty(&format!("{path}.audiences"), &audiences)?;
    let token_types = match document.token_types {
        None => TokenType::of_access_tokens(),
        Some(names) => token_types(&format!("{path}.token_types"), &names)?,
    };
    let claims = claim_names(&format!("{path}.claims"), document.claims)?;
    Ok(TrustedIssuer {
        issuer: document.issuer,
        audiences,
        algorithms: document.algorithms,
        token_types,
        max_lifetime,
        claims,
    })
}

fn claim_names(path: &str, document: ClaimsDocument) -> Result<ClaimNames, ConfigError> {
    let ClaimsDocument { client_id, scopes, roles, groups, department, tenant, purpose, agent, machine } = document;
    let paths = |field: &str, texts: Option<Vec<String>>, default: Vec<ClaimPath>| {
        let Some(texts) = texts else { return Ok(default) };
        let path = format!("{path}.{field}");
        non_empty(&path, &texts)?;
        texts.iter().enumerate().map(|(index, text)| claim_path(format!("{path}[{index}]"), text)).collect()
    };
    let defaults = ClaimNames::default();
    Ok(ClaimNames {
        client_id: paths("client_id", client_id, defaults.client_id)?,
        scopes: paths("scopes", scopes, defaults.scopes)?,
        roles: paths("roles", roles, defaults.roles)?,
        groups: paths("groups", groups, defaults.groups)?,
        department: paths("department", department, defaults.department)?,
        tenant: paths("tenant", tenant, defaults.tenant)?,
        purpose: paths("purpose", purpose, defaults.purpose)?,
        agent: paths("agent", agent, defaults.agent)?,
        machine: match machine {
            None => None,
            Some(MachineDocument { claim, values }) => {
                non_empty(&format!("{path}.machine.values"), &values)?;
                Some((claim_path(format!("{path}.machine.claim"), &claim)?, values))
            }
        },
    })
}

fn claim_path(path: String, text: &str) -> Result<ClaimPath, ConfigError> {
    ClaimPath::parse(text).ok_or_else(|| {
        ConfigError::new(path, "is neither a claim name nor a JSON Pointer", "write `roles` or `/realm_access/roles`")
    })
}

fn token_types(path: &str, names: &[String]) -> Result<Vec<TokenType>, ConfigError> {
    non_empty(path, names)?;
    let parse = |(index, name): (usize, &String)| {
        TokenType::parse(name).map_err(|error| {
            ConfigError::new(
                format!("{path}[{index}]"),
                error.to_string(),
                "write `at+jwt`, `JWT` or another `+jwt` type",
            )
        })
    };
    names.iter().enumerate().map(parse).collect()
}

fn key_source(path: &str, document: &IssuerDocument) -> Result<(KeySource, Option<Endpoint>), ConfigError> {
    let JwksDocument { cluster, path: jwks_path, authority, refresh, max_stale, inline } = &document.jwks;
    if let Some(keys) = inline {
        if cluster.is_some() || jwks_path.is_some() || authority.is_some() || refresh.is_some() || max_stale.is_some() {
            return Err(ConfigError::new(path, "has `inline` and fields of a fetch", "keep one of the two"));
        }
        let unusable =
            |problem: String| ConfigError::new(format!("{path}.inline"), problem, "write a JWK Set of public keys");
        let keys = KeySet::parse(keys.to_string().as_bytes()).map_err(|error| unusable(error.to_string()))?;
        if keys.keys().is_empty() {
            return Err(unusable("no usable key".to_owned()));
        }
        return Ok((KeySource::Inline(keys), None));
    }
    let (Some(cluster), Some(jwks_path)) = (cluster.as_deref(), jwks_path.as_deref()) else {
        return Err(ConfigError::new(path, "has no key source", "give `cluster` and `path`, or `inline`"));
    };
    let authority = match authority {
        Some(authority) => authority.clone(),
        None => host_of(&document.issuer).unwrap_or_else(|| cluster.to_owned()),
    };
    let endpoint = Endpoint::check(path, cluster, jwks_path, authority)?;
    let refresh = refresh.unwrap_or(limits::DEFAULT_JWKS_REFRESH);
    let max_stale = max_stale.unwrap_or(limits::DEFAULT_JWKS_MAX_STALE);
    within(&format!("{path}.refresh"), refresh, limits::MIN_JWKS_REFRESH, limits::MAX_JWKS_MAX_STALE)?;
    within(&format!("{path}.max_stale"), max_stale, refresh, limits::MAX_JWKS_MAX_STALE)?;
    Ok((KeySource::Fetched { refresh, max_stale }, Some(endpoint)))
}

fn host_of(issuer: &str) -> Option<String> {
    let uri: ::http::Uri = issuer.parse().ok()?;
    uri.authority().map(|authority| authority.as_str().to_owned())
}

//! What the form of the file does not say.

use std::collections::BTreeSet;
use std::net::IpAddr;

use url::{Host, Url};

use super::{ApproverTokens, Config, ConfigError, Days, Span, Webhook};

/// Gateways, keys or webhooks in one list.
const MAX_ITEMS: usize = 64;
/// Characters of a name.
const MAX_NAME: usize = 64;
/// What a whole gateway can have waiting.
const MAX_PENDING_PER_REQUESTER: u32 = 10_000;
/// An approval and its continuation must have ended before they are deleted.
const MIN_RETENTION: Days = Days(2);
/// People need the time to read and decide.
const MIN_MAX_AGE: Span = Span(5 * 60);
/// A day: roles are taken away.
const MAX_MAX_AGE: Span = Span(24 * 3600);
/// Days of ten years.
const MAX_RETENTION: Days = Days(3653);

fn unusable<T>(member: &str, problem: &str) -> Result<T, ConfigError> {
    Err(ConfigError::Unusable(member.to_owned(), problem.to_owned()))
}

impl Config {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        check_url("public_url", &self.public_url)?;
        if self.public_url.path() != "/" || self.public_url.query().is_some() {
            return unusable("public_url", "must be an origin: scheme, host and port");
        }
        if self.issuer().is_empty() {
            return unusable("issuer", "is empty");
        }
        check_names("signing_keys", self.signing_keys.iter().map(|key| key.kid.as_str()))?;
        check_names("gateways", self.gateways.iter().map(|gateway| gateway.name.as_str()))?;
        if self.signing_keys.is_empty() {
            return unusable("signing_keys", "is empty");
        }
        if self.gateways.is_empty() {
            return unusable("gateways", "is empty");
        }
        for gateway in &self.gateways {
            if gateway.audiences.is_empty() {
                return unusable("gateways.audiences", "is empty");
            }
        }
        self.check_people()?;
        check_names("webhooks", self.webhooks.iter().filter_map(|hook| hook.name.as_deref()))?;
        self.webhooks.iter().try_for_each(check_webhook)?;
        if !(1..=MAX_PENDING_PER_REQUESTER).contains(&self.pending_per_requester) {
            return unusable("pending_per_requester", "must be 1 to 10000");
        }
        if !(MIN_RETENTION..=MAX_RETENTION).contains(&self.retention) {
            return unusable("retention", "must be 2d to 3653d");
        }
        Ok(())
    }

    fn check_people(&self) -> Result<(), ConfigError> {
        let Some(sign_in) = &self.sign_in else { return Ok(()) };
        let Ok(issuer) = Url::parse(&sign_in.issuer) else { return unusable("sign_in.issuer", "is no URL") };
        // Whoever could answer in its place could sign in as anybody.
        check_url("sign_in.issuer", &issuer)?;
        if !(MIN_MAX_AGE..=MAX_MAX_AGE).contains(&sign_in.max_age) {
            return unusable("sign_in.max_age", "must be 5m to 24h");
        }
        let Some(ApproverTokens { audience, .. }) = &self.approver_tokens else { return Ok(()) };
        // Tokens that are made for something else must not open the inbox.
        let is_of_gateway = self.gateways.iter().any(|gateway| gateway.audiences.contains(audience));
        if audience.is_empty() || is_of_gateway || *audience == sign_in.client_id {
            return unusable(
                "approver_tokens.audience",
                "must not be empty, an audience of a gateway or the client_id",
            );
        }
        Ok(())
    }
}

fn check_webhook(hook: &Webhook) -> Result<(), ConfigError> {
    if hook.url.is_some() == hook.url_env.is_some() {
        return unusable("webhooks", "needs one of url and url_env");
    }
    if hook.events.is_empty() {
        return unusable("webhooks.events", "is empty");
    }
    hook.url.as_ref().map_or(Ok(()), |url| check_url("webhooks.url", url))
}

/// Names that logs, metrics and rows can hold, each once.
fn check_names<'a>(member: &str, names: impl Iterator<Item = &'a str>) -> Result<(), ConfigError> {
    let mut seen = BTreeSet::new();
    for name in names {
        let fits = (1..=MAX_NAME).contains(&name.len());
        if !fits || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')) {
            return unusable(member, "has a name that is not 1 to 64 letters, digits, '-', '_' and '.'");
        }
        if !seen.insert(name) {
            return unusable(member, "has a name that comes twice");
        }
        if seen.len() > MAX_ITEMS {
            return unusable(member, "has too many items");
        }
    }
    Ok(())
}

/// https, or http where nobody can listen in.
pub(crate) fn check_url(member: &str, url: &Url) -> Result<(), ConfigError> {
    let is_loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => false,
    };
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return unusable(member, "must have no user, password or fragment");
    }
    match url.scheme() {
        "https" => Ok(()),
        "http" if is_loopback => Ok(()),
        _ => unusable(member, "must be https, or http on loopback"),
    }
}

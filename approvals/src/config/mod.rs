//! The configuration file, and the secrets that it names.

mod check;
mod secret;
mod unit;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use url::Url;

pub(crate) use check::check_url;
pub use secret::Secret;
pub use unit::{Days, Span};

/// Why the service cannot start with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{0}: {1}")]
    Unreadable(PathBuf, std::io::Error),
    /// It is not YAML of the expected form.
    #[error("{0}")]
    Malformed(String),
    /// A member cannot be used.
    #[error("{0}: {1}")]
    Unusable(String, String),
    /// A secret is not there, or too short.
    #[error("environment variable {0}: {1}")]
    Secret(String, &'static str),
}

/// The configuration file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Origin under which people reach the page; https, or http on loopback.
    pub public_url: Url,
    /// Issuer of signed decisions. Default: `public_url` without the slash at its end.
    #[serde(default)]
    pub issuer: Option<String>,
    /// `sqlite:FILE` or `postgres://…`. The environment variable DATABASE_URL goes before it.
    #[serde(default)]
    pub database: Option<String>,
    /// Keys that sign decisions: the first signs, all are published.
    pub signing_keys: Vec<SigningKey>,
    /// Gateways that may ask.
    pub gateways: Vec<Gateway>,
    /// How approvers sign in. Absent: there is no page.
    #[serde(default)]
    pub sign_in: Option<SignIn>,
    /// Which bearer tokens of approvers are taken. Absent: none.
    #[serde(default)]
    pub approver_tokens: Option<ApproverTokens>,
    /// Environment variable with the key of session cookies: at least 32 characters.
    #[serde(default = "session_key_env")]
    pub session_key_env: String,
    /// Who is told what happens.
    #[serde(default)]
    pub webhooks: Vec<Webhook>,
    /// Approvals that one requester, through one client, can have waiting for people; those that were taken back within
    /// the last minute count too. Default: 100; 1 to 10,000.
    #[serde(default = "pending_per_requester")]
    pub pending_per_requester: u32,
    /// How long approvals that have ended, and their history, are kept. Default: 90d; least: 2d.
    #[serde(default)]
    pub retention: Days,
}

fn session_key_env() -> String {
    "APPROVALS_SESSION_KEY".to_owned()
}

const fn pending_per_requester() -> u32 {
    100
}

/// A key that signs decisions.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SigningKey {
    /// Its id, as in the JWK Set: up to 64 characters.
    pub kid: String,
    /// PKCS#8 PEM, Ed25519 or P-256; relative to the configuration file.
    pub file: PathBuf,
}

/// A gateway that may ask.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gateway {
    /// Its name, for people.
    pub name: String,
    /// Environment variable with its bearer token: at least 32 characters.
    pub token_env: String,
    /// Resources for which it may ask.
    pub audiences: Vec<String>,
}

/// How approvers sign in: OpenID Connect.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// The OpenID provider.
    pub issuer: String,
    /// This service's client there.
    pub client_id: String,
    /// Environment variable with the client's secret. Absent: a public client.
    #[serde(default)]
    pub client_secret_env: Option<String>,
    /// Scopes to ask for. Default: openid, profile.
    #[serde(default = "scopes")]
    pub scopes: Vec<String>,
    /// Claims that hold roles: names, or JSON Pointers. Default: roles.
    #[serde(default = "roles")]
    pub roles: Vec<String>,
    /// How long a person is believed to have the roles of a sign-in: sessions end after it, and access tokens may not be
    /// made out for longer. Default: 1h; 5m to 24h.
    #[serde(default = "max_age")]
    pub max_age: Span,
}

fn scopes() -> Vec<String> {
    vec!["openid".to_owned(), "profile".to_owned()]
}

fn roles() -> Vec<String> {
    vec!["roles".to_owned()]
}

const fn max_age() -> Span {
    Span(3600)
}

/// Which bearer tokens of approvers are taken.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApproverTokens {
    /// Audience that they must have.
    pub audience: String,
    /// Clients that they must be issued to.
    pub clients: Vec<String>,
}

/// An event that webhooks can be told of.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum WebhookEvent {
    /// A person is asked.
    Created,
    /// Others are asked too.
    Escalated,
    /// It has been approved or rejected, has expired, or was cancelled.
    Decided,
}

/// Who is told what happens.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Its name, by which its messages are kept. Default: made from the URL.
    #[serde(default)]
    pub name: Option<String>,
    /// Where to send; https, or http on loopback. Else `url_env`.
    #[serde(default)]
    pub url: Option<Url>,
    /// Environment variable with the URL, where the URL is a secret.
    #[serde(default)]
    pub url_env: Option<String>,
    /// Environment variable with the key of signatures: at least 16 characters. Absent: not signed.
    #[serde(default)]
    pub secret_env: Option<String>,
    /// What to tell. Default: all of it.
    #[serde(default = "events")]
    pub events: Vec<WebhookEvent>,
}

fn events() -> Vec<WebhookEvent> {
    vec![WebhookEvent::Created, WebhookEvent::Escalated, WebhookEvent::Decided]
}

impl Config {
    /// Reads a file and checks it. Paths in it become relative to it.
    ///
    /// # Errors
    /// When it cannot be read or used.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable(path.to_owned(), error))?;
        let mut config = Self::parse(&text)?;
        let directory = path.parent().unwrap_or(Path::new("."));
        for key in &mut config.signing_keys {
            key.file = directory.join(&key.file);
        }
        Ok(config)
    }

    /// Reads YAML and checks it.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self = serde_saphyr::from_str(text).map_err(|error| ConfigError::Malformed(error.to_string()))?;
        config.check()?;
        Ok(config)
    }

    /// Issuer of signed decisions.
    #[must_use]
    pub fn issuer(&self) -> &str {
        self.issuer.as_deref().unwrap_or_else(|| self.public_url.as_str().trim_end_matches('/'))
    }

    /// The page of an approval.
    #[must_use]
    pub fn page(&self, id: &str) -> String {
        format!("{}/approvals/{id}", self.public_url.as_str().trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_sign_in_where_nobody_listens_in_with_tokens_for_this_service() {
        let text = std::fs::read_to_string("examples/approvals.yaml").unwrap();
        let sample: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        let problem = |pointer: &str, value: serde_json::Value| {
            let mut config = sample.clone();
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            config.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(name.to_owned(), value);
            Config::parse(&config.to_string()).map_or_else(|error| error.to_string(), |_| String::new())
        };
        for issuer in
            ["http://idp.norg.example", "idp.norg.example", "ftp://127.0.0.1", "https://user@idp.norg.example"]
        {
            let problem = problem("/sign_in/issuer", issuer.into());
            assert!(problem.starts_with("sign_in.issuer: "), "{issuer}: {problem}");
        }
        assert_eq!(problem("/sign_in/issuer", "http://127.0.0.1:8080".into()), "");
        let of_gateway = sample["gateways"][0]["audiences"][0].clone();
        for audience in ["".into(), of_gateway, sample["sign_in"]["client_id"].clone()] {
            let problem = problem("/approver_tokens/audience", audience);
            assert!(problem.starts_with("approver_tokens.audience: "), "{problem}");
        }
        for (max_age, fits) in
            [("15m", true), ("24h", true), ("300s", true), ("4m", false), ("25h", false), ("1", false)]
        {
            assert_eq!(problem("/sign_in/max_age", max_age.into()).is_empty(), fits, "{max_age}");
        }
    }

    #[test]
    fn the_sample_can_be_used() {
        let config = Config::load(Path::new("examples/approvals.yaml")).unwrap();
        assert_eq!(config.issuer(), "https://approvals.norg.example");
        assert_eq!(config.page("x"), "https://approvals.norg.example/approvals/x");
        assert_eq!(config.signing_keys[0].file, Path::new("examples/a1.pem"));
    }
}

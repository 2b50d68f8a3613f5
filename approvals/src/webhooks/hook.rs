//! Who is told what happens.

use hmac_sha256::{HMAC, Hash};
use url::Url;

use crate::config::{self, ConfigError, Secret, Webhook, WebhookEvent};
use crate::domain::UnixSeconds;
use crate::store::hex;

/// Characters of the key of signatures, at least.
const MIN_SECRET: usize = 16;

/// A webhook, with its secrets.
#[derive(Clone)]
pub struct Hook {
    pub(super) name: String,
    pub(super) url: Url,
    secret: Option<Secret>,
    pub(super) events: Vec<WebhookEvent>,
}

/// The URL may be a secret: it is not printed.
impl std::fmt::Debug for Hook {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Hook").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Hook {
    /// Takes what the configuration says, and the secrets that it names.
    ///
    /// # Errors
    /// When a secret is not there, or the URL cannot be used.
    pub fn load(webhook: &Webhook) -> Result<Self, ConfigError> {
        let url = match (&webhook.url, &webhook.url_env) {
            (Some(url), _) => url.clone(),
            (None, name) => {
                let name = name.as_deref().unwrap_or_default();
                let url = Secret::from_env(name, 1)?;
                let url = Url::parse(url.expose());
                url.map_err(|_| ConfigError::Secret(name.to_owned(), "is not a URL"))?
            }
        };
        config::check_url("webhooks.url", &url)?;
        let secret = webhook.secret_env.as_deref().map(|name| Secret::from_env(name, MIN_SECRET)).transpose()?;
        let name = webhook.name.clone().unwrap_or_else(|| default_name(&url));
        Ok(Self { name, url, secret, events: webhook.events.clone() })
    }

    /// By which its messages are kept.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// `t=…,v1=…`: HMAC-SHA256, in hexadecimal, over the time, a full stop and the body. `None` without a key.
    pub(super) fn signature(&self, body: &str, now: UnixSeconds) -> Option<String> {
        let secret = self.secret.as_ref()?;
        let mac = HMAC::mac(format!("{now}.{body}"), secret.expose().as_bytes());
        Some(format!("t={now},v1={}", hex(&mac)))
    }
}

/// The host, and enough of a digest to tell two webhooks of one host apart.
fn default_name(url: &Url) -> String {
    let digest = hex(&Hash::hash(url.as_str().as_bytes()));
    format!("{}-{}", url.host_str().unwrap_or_default(), digest.get(..8).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_over_time_and_body() {
        let hook = Hook {
            name: "a".to_owned(),
            url: Url::parse("https://hooks.example/secret-path").unwrap(),
            secret: Secret::new("0123456789abcdef", MIN_SECRET),
            events: Vec::new(),
        };
        let mac = hex(&HMAC::mac("1800000000.{}", "0123456789abcdef"));
        assert_eq!(hook.signature("{}", 1_800_000_000), Some(format!("t=1800000000,v1={mac}")));
        assert!(!format!("{hook:?}").contains("secret-path"));
    }

    #[test]
    fn names_do_not_hold_the_url() {
        let name = default_name(&Url::parse("https://hooks.example/secret-path").unwrap());
        assert!(name.starts_with("hooks.example-") && name.len() == "hooks.example-".len() + 8);
    }
}

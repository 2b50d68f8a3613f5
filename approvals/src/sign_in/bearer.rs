//! Access tokens of people, for the approvers' API.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use toolgate::jwt::{
    self, Algorithm, ClaimNames, ClaimPath, IssuerIndex, KeyRing, KeySet, KeySource, PureRust, Refusal, TokenType,
    TrustedIssuer, VerifiedToken,
};
use toolgate::units::{Seconds, UnixSeconds};

use super::http_client::Http;
use super::provider::Provider;
use crate::clock::Clock;
use crate::config::{self, ConfigError};
use crate::domain::Person;

/// Seconds after which keys are fetched again.
const REFRESH: u64 = 300;
/// Seconds for which keys are used while the provider does not answer.
const MAX_STALE: u64 = 3600;
/// The only issuer there is.
const ISSUER: IssuerIndex = IssuerIndex::new(0);

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum BearerError {
    /// It is not one that this service takes.
    Invalid,
    /// The provider's keys cannot be had.
    Unavailable,
}

/// Which access tokens are taken.
#[derive(Debug)]
pub(super) struct AccessTokens {
    issuers: [TrustedIssuer; 1],
    clients: Vec<String>,
    /// Shared with those who verify: that takes time, and nobody has to wait for it.
    keys: Mutex<Arc<KeyRing>>,
    /// Held while keys are fetched, so that one fetch serves all who wait.
    fetching: tokio::sync::Mutex<()>,
    http: Http,
    clock: Clock,
}

impl AccessTokens {
    pub(super) fn new(
        sign_in: &config::SignIn,
        tokens: &config::ApproverTokens,
        http: Http,
        clock: Clock,
    ) -> Result<Self, ConfigError> {
        let unusable = |member: &str, problem: &str| ConfigError::Unusable(member.to_owned(), problem.to_owned());
        let roles = sign_in.roles.iter().map(|place| ClaimPath::parse(place)).collect::<Option<Vec<_>>>();
        let roles = roles.ok_or_else(|| unusable("sign_in.roles", "has an item that is no name or JSON Pointer"))?;
        let issuer = TrustedIssuer {
            issuer: sign_in.issuer.clone(),
            audiences: vec![tokens.audience.clone()],
            algorithms: Algorithm::ALL.to_vec(),
            token_types: TokenType::of_access_tokens(),
            max_lifetime: Seconds::new(sign_in.max_age.0.into()),
            claims: ClaimNames { roles, ..ClaimNames::default() },
        };
        let source = KeySource::Fetched { refresh: Seconds::new(REFRESH), max_stale: Seconds::new(MAX_STALE) };
        Ok(Self {
            issuers: [issuer],
            clients: tokens.clients.clone(),
            keys: Mutex::new(Arc::new(KeyRing::new([source]))),
            fetching: tokio::sync::Mutex::default(),
            http,
            clock,
        })
    }

    /// The person that a token stands for.
    pub(super) async fn person(&self, token: &str, provider: &Provider) -> Result<Person, BearerError> {
        let now = UnixSeconds::new(u64::try_from(self.clock.now()).unwrap_or_default());
        // A key that the provider has withdrawn is noticed by this.
        if !self.keys().due(now).is_empty() {
            self.fetch(provider, now, |keys| !keys.due(now).is_empty()).await;
        }
        let verified = match self.verify(token, now) {
            Err(Refusal::UnknownKey(_)) => {
                let generation = self.keys().generation(ISSUER);
                let is_wanted =
                    |keys: &mut KeyRing| keys.generation(ISSUER) == generation && keys.want_unknown_key(ISSUER, now);
                self.fetch(provider, now, is_wanted).await;
                self.verify(token, now)
            }
            verified => verified,
        };
        match verified {
            Ok(token) => self.acceptable(&token).ok_or(BearerError::Invalid),
            Err(Refusal::NoKeys(_)) => Err(BearerError::Unavailable),
            Err(Refusal::Token(_) | Refusal::UnknownKey(_)) => Err(BearerError::Invalid),
        }
    }

    fn verify(&self, token: &str, now: UnixSeconds) -> Result<VerifiedToken, Refusal> {
        jwt::verify(token, &self.issuers, &self.keys(), &PureRust, now)
    }

    /// A person, through one of the clients. Never a program, nor an agent that acts for somebody.
    fn acceptable(&self, token: &VerifiedToken) -> Option<Person> {
        let attributes = token.attributes();
        let client_id = token.client_id()?;
        let is_acted_for = !attributes.actors.is_empty();
        if attributes.is_machine || is_acted_for || !self.clients.iter().any(|client| client == client_id) {
            return None;
        }
        let Names { name, preferred_username } = serde_json::from_str(token.claims()).unwrap_or_default();
        Some(Person {
            issuer: token.issuer().to_owned(),
            subject: token.subject().to_owned(),
            name: name.or(preferred_username),
            roles: attributes.roles.iter().map(|role| role.to_string()).collect(),
            client_id: Some(client_id.to_owned()),
        })
    }

    /// Fetches the keys, if that is still wanted when others have done so.
    async fn fetch(&self, provider: &Provider, now: UnixSeconds, is_wanted: impl Fn(&mut KeyRing) -> bool) {
        let _one_at_a_time = self.fetching.lock().await;
        if !self.ring(is_wanted) {
            return;
        }
        self.ring(|keys| keys.fetch_started(ISSUER, now));
        let fetched = match provider.jwks_uri().await {
            Ok(uri) => self.http.get(&uri).await.ok(),
            Err(error) => {
                tracing::warn!(%error, "the keys of the provider cannot be fetched");
                None
            }
        };
        let set = fetched.filter(|answer| answer.status().is_success());
        match set.and_then(|answer| KeySet::parse(answer.body()).ok()) {
            Some(set) => {
                self.ring(|keys| keys.install(ISSUER, set, now));
            }
            None => self.ring(|keys| keys.fetch_failed(ISSUER, now)),
        }
    }

    fn ring<T>(&self, use_it: impl FnOnce(&mut KeyRing) -> T) -> T {
        use_it(Arc::make_mut(&mut self.keys.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// The keys as they are now.
    fn keys(&self) -> Arc<KeyRing> {
        Arc::clone(&self.keys.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Names in a token.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Names {
    name: Option<String>,
    preferred_username: Option<String>,
}

//! Who decides: people who sign in with OpenID Connect, and their access tokens.
//!
//! - `provider`: the authorization code flow with PKCE, state and nonce, and the verified identity token
//! - `session`, `seal`, `cookie`, `ended`: who has signed in, kept in a sealed cookie
//! - `destination`: where to go after that, which is always a page of this service
//! - `bearer`: access tokens, for the approvers' API

mod bearer;
mod claims;
mod cookie;
mod destination;
mod ended;
mod error;
mod http_client;
mod provider;
mod seal;
mod session;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};
use url::Url;

pub(crate) use bearer::BearerError;
pub(crate) use destination::Destination;
pub(crate) use error::SignInError;
pub(crate) use session::Session;

use crate::clock::Clock;
use crate::config::{ApproverTokens, Config, ConfigError, Secret, SignIn as SignInConfig};
use crate::domain::{Person, UnixSeconds};
use bearer::AccessTokens;
use cookie::{Cookie, Cookies};
use ended::Ended;
use http_client::Http;
use provider::{Pending, Provider};
use seal::{Purpose, Sealer};

/// Seconds that a person may take to sign in at the provider.
const MAX_FLOW_AGE: i64 = 900;
/// Characters of secrets, at least.
const MIN_SESSION_KEY: usize = 32;

/// Secrets that signing in needs.
#[derive(Clone, Debug)]
pub struct Secrets {
    /// Key of session cookies: whoever has it can sign in as anybody.
    pub session_key: Secret,
    /// Secret of the client at the provider; `None` for a public client.
    pub client_secret: Option<Secret>,
}

impl Secrets {
    /// Takes the secrets from the environment variables that the configuration names.
    ///
    /// # Errors
    /// When one is not there, or too short.
    pub fn from_env(config: &Config) -> Result<Self, ConfigError> {
        let variable = config.sign_in.as_ref().and_then(|sign_in| sign_in.client_secret_env.as_deref());
        Ok(Self {
            session_key: Secret::from_env(&config.session_key_env, MIN_SESSION_KEY)?,
            client_secret: variable.map(|name| Secret::from_env(name, 1)).transpose()?,
        })
    }
}

/// How people sign in.
#[derive(Debug)]
pub struct SignIn {
    provider: Provider,
    tokens: Option<AccessTokens>,
    sealer: Sealer,
    cookies: Cookies,
    ended: Ended,
    issuer: String,
    /// Seconds for which a sign-in holds.
    max_age: i64,
    clock: Clock,
}

/// A sign-in that has begun, as kept in a sealed cookie.
#[derive(Debug, Deserialize, Serialize)]
struct Flow {
    pending: Pending,
    next: Destination,
    began_at: UnixSeconds,
}

/// What the provider sends a browser back with (RFC 6749 section 4.1.2, RFC 9207).
#[derive(Debug, Deserialize)]
pub(crate) struct Answer {
    code: Option<String>,
    state: Option<String>,
    iss: Option<String>,
    error: Option<String>,
}

/// A person has signed in.
#[derive(Debug)]
pub(crate) struct SignedIn {
    /// Where to go now.
    pub(crate) next: Destination,
    /// Cookies to set.
    pub(crate) cookies: Vec<HeaderValue>,
}

impl SignIn {
    /// Signing in as configured. The provider is not asked before somebody wants to sign in.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    pub fn new(
        config: &SignInConfig,
        tokens: Option<&ApproverTokens>,
        public_url: &Url,
        secrets: Secrets,
        clock: Clock,
    ) -> Result<Self, ConfigError> {
        let http = Http::new().map_err(|error| ConfigError::Unusable("sign_in".to_owned(), error.to_string()))?;
        let tokens = tokens.map(|tokens| AccessTokens::new(config, tokens, http.clone(), clock.clone())).transpose()?;
        Ok(Self {
            provider: Provider::new(config, public_url, secrets.client_secret, http, clock.clone())?,
            tokens,
            sealer: Sealer::new(secrets.session_key),
            cookies: Cookies::new(public_url),
            ended: Ended::default(),
            issuer: config.issuer.clone(),
            max_age: config.max_age.0.into(),
            clock,
        })
    }

    /// Where to send somebody who wants to sign in, and the cookie that goes with it.
    pub(crate) async fn begin(&self, next: Destination) -> Result<(Url, HeaderValue), SignInError> {
        let (url, pending) = self.provider.begin().await?;
        let flow = Flow { pending, next, began_at: self.clock.now() };
        let sealed = self.sealer.seal(Purpose::Flow, flow).ok_or(SignInError::Internal)?;
        let cookie = self.cookies.keep(Cookie::Flow, &sealed, MAX_FLOW_AGE).ok_or(SignInError::Internal)?;
        Ok((url, cookie))
    }

    /// Signs in whom the provider has sent back with this answer.
    pub(crate) async fn finish(&self, headers: &HeaderMap, answer: Answer) -> Result<SignedIn, SignInError> {
        let Flow { pending, next, .. } = self.flow(headers, &answer).ok_or(SignInError::Unknown)?;
        if let Some(error) = answer.error {
            return Err(SignInError::Refused(error));
        }
        if answer.iss.is_some_and(|issuer| issuer != self.issuer) {
            return Err(SignInError::Unknown);
        }
        let code = answer.code.ok_or(SignInError::Unknown)?;
        let person = self.provider.finish(code, pending).await?;
        let now = self.clock.now();
        let session = Session::begin(person, now).ok_or(SignInError::Internal)?;
        let kept = self.keep(&session, now).ok_or(SignInError::TooLarge)?;
        Ok(SignedIn { next, cookies: std::iter::once(kept).chain(self.cookies.forget(Cookie::Flow)).collect() })
    }

    /// The sign-in that this browser has begun and this answer belongs to.
    fn flow(&self, headers: &HeaderMap, answer: &Answer) -> Option<Flow> {
        let flow: Flow = self.sealer.open(Purpose::Flow, self.cookies.find(headers, Cookie::Flow)?)?;
        let age = self.clock.now().saturating_sub(flow.began_at);
        let is_same = is_same(answer.state.as_deref()?, &flow.pending.state);
        (is_same && (0..MAX_FLOW_AGE).contains(&age)).then_some(flow)
    }

    /// The session that a browser is in.
    pub(crate) fn session(&self, headers: &HeaderMap) -> Option<Session> {
        let session: Session = self.sealer.open(Purpose::Session, self.cookies.find(headers, Cookie::Session)?)?;
        (session.is_fresh(self.clock.now(), self.max_age) && !self.ended.contains(session.id())).then_some(session)
    }

    /// The cookie that lets a session last while pages are opened, if it is time to set it.
    pub(crate) fn renew(&self, session: &Session) -> Option<HeaderValue> {
        let now = self.clock.now();
        self.keep(&session.renewed(now)?, now)
    }

    /// Ends a session; these cookies are to be set.
    pub(crate) fn end(&self, session: &Session) -> Vec<HeaderValue> {
        self.ended.insert(session.id(), session.ends_at(self.max_age), self.clock.now());
        [Cookie::Session, Cookie::Flow].into_iter().filter_map(|cookie| self.cookies.forget(cookie)).collect()
    }

    fn keep(&self, session: &Session, now: UnixSeconds) -> Option<HeaderValue> {
        let sealed = self.sealer.seal(Purpose::Session, session)?;
        self.cookies.keep(Cookie::Session, &sealed, session.lasts(now, self.max_age))
    }

    /// What forms of this session carry.
    pub(crate) fn csrf_token(&self, session: &Session) -> String {
        session.csrf_token(&self.sealer)
    }

    /// Whether a form came from a page of this session.
    pub(crate) fn is_csrf_token(&self, session: &Session, token: &str) -> bool {
        session.is_csrf_token(&self.sealer, token)
    }

    /// The person that an access token stands for.
    pub(crate) async fn bearer(&self, token: &str) -> Result<Person, BearerError> {
        self.tokens.as_ref().ok_or(BearerError::Invalid)?.person(token, &self.provider).await
    }
}

/// Compares digests, so that how long it takes tells nothing about the texts.
fn is_same(one: &str, other: &str) -> bool {
    hmac_sha256::Hash::verify(one, &hmac_sha256::Hash::hash(other.as_bytes()))
}

/// 128 random bits as text; `None` if the system has none to give.
fn random_text() -> Option<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok()?;
    Some(URL_SAFE_NO_PAD.encode(bytes))
}

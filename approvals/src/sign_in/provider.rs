//! The OpenID provider: what it says about itself, and the exchange of a code for a person.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openidconnect::core::{
    CoreAuthenticationFlow, CoreClient, CoreClientAuthMethod, CoreGenderClaim, CoreIdToken, CoreIdTokenClaims,
    CoreJwsSigningAlgorithm, CoreProviderMetadata, CoreSubjectIdentifierType, CoreTokenResponse,
};
use openidconnect::{
    AccessTokenHash, AdditionalClaims, AuthType, AuthorizationCode, ClaimsVerificationError, ClientId, ClientSecret,
    CsrfToken, EndpointMaybeSet, EndpointNotSet, EndpointSet, IssuerUrl, Nonce, OAuth2TokenResponse as _,
    PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RequestTokenError, Scope, SignatureVerificationError,
    TokenResponse as _, UserInfoClaims,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use url::Url;

use super::claims::{self, ClaimPath, Claims};
use super::error::SignInError;
use super::http_client::Http;
use crate::clock::Clock;
use crate::config::{self, ConfigError, Secret, check_url};
use crate::domain::{Person, UnixSeconds};

/// Seconds for which what the provider says about itself, and its keys, are used without asking again.
const METADATA_AGE: i64 = 300;
/// Seconds for which they are used while the provider does not answer.
const MAX_STALE: i64 = 3600;
/// Seconds between two questions because of a key that is not known: anybody can make one up.
const UNKNOWN_KEY_COOLDOWN: i64 = 30;
/// Seconds between two questions to a provider that did not answer.
const RETRY_AFTER: i64 = 5;
/// Seconds between the making of an identity token and its use, in either direction of the clocks.
const TOKEN_AGE: i64 = 600;

/// Asymmetric ones only: with the others, the client's secret would be a signing key.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

type Client =
    CoreClient<EndpointSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointMaybeSet, EndpointMaybeSet>;

/// All that the user info endpoint says beyond the standard claims.
#[derive(Debug, Deserialize, Serialize)]
struct Extra(Claims);

impl AdditionalClaims for Extra {}

/// What a sign-in that has begun has to be finished with.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Pending {
    pub(super) state: String,
    nonce: String,
    verifier: String,
}

/// The provider.
#[derive(Debug)]
pub(super) struct Provider {
    issuer: IssuerUrl,
    client_id: ClientId,
    client_secret: Option<Secret>,
    scopes: Vec<String>,
    roles: Vec<ClaimPath>,
    redirect: RedirectUrl,
    http: Http,
    clock: Clock,
    known: Mutex<Known>,
}

/// What is known about the provider.
#[derive(Debug, Default)]
struct Known {
    metadata: Option<Arc<CoreProviderMetadata>>,
    fetched_at: UnixSeconds,
    /// When and why it could not be asked, if that came last.
    failure: Option<(UnixSeconds, SignInError)>,
}

impl Provider {
    pub(super) fn new(
        config: &config::SignIn,
        public_url: &Url,
        client_secret: Option<Secret>,
        http: Http,
        clock: Clock,
    ) -> Result<Self, ConfigError> {
        let unusable = |member: &str, problem: &str| ConfigError::Unusable(member.to_owned(), problem.to_owned());
        let redirect = public_url.join("/callback").map_err(|_| unusable("public_url", "has no paths"))?;
        let roles = config.roles.iter().map(|place| ClaimPath::parse(place)).collect::<Option<Vec<_>>>();
        Ok(Self {
            issuer: IssuerUrl::new(config.issuer.clone()).map_err(|_| unusable("sign_in.issuer", "is no URL"))?,
            client_id: ClientId::new(config.client_id.clone()),
            client_secret,
            scopes: config.scopes.iter().filter(|scope| *scope != "openid").cloned().collect(),
            roles: roles.ok_or_else(|| unusable("sign_in.roles", "has an item that is no name or JSON Pointer"))?,
            redirect: RedirectUrl::from_url(redirect),
            http,
            clock,
            known: Mutex::default(),
        })
    }

    /// Where people are sent to, and what to finish the sign-in with.
    pub(super) async fn begin(&self) -> Result<(Url, Pending), SignInError> {
        let client = self.client(&*self.metadata(METADATA_AGE).await?);
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let flow = CoreAuthenticationFlow::AuthorizationCode;
        let mut request = client.authorize_url(flow, CsrfToken::new_random, Nonce::new_random);
        for scope in &self.scopes {
            request = request.add_scope(Scope::new(scope.clone()));
        }
        let (url, state, nonce) = request.set_pkce_challenge(challenge).url();
        let pending =
            Pending { state: state.into_secret(), nonce: nonce.secret().clone(), verifier: verifier.into_secret() };
        Ok((url, pending))
    }

    /// The person for whom the provider has given out this code.
    pub(super) async fn finish(&self, code: String, pending: Pending) -> Result<Person, SignInError> {
        let metadata = self.metadata(METADATA_AGE).await?;
        let client = self.client(&metadata);
        let request = client
            .exchange_code(AuthorizationCode::new(code))
            .map_err(|error| SignInError::Unavailable(error.to_string()))?
            .set_pkce_verifier(PkceCodeVerifier::new(pending.verifier));
        let tokens = request.request_async(&self.http).await.map_err(|error| match error {
            RequestTokenError::ServerResponse(refusal) => SignInError::Refused(refusal.to_string()),
            RequestTokenError::Parse(error, _) => SignInError::Token(error.to_string()),
            RequestTokenError::Request(error) => SignInError::Unavailable(error.to_string()),
            RequestTokenError::Other(problem) => SignInError::Unavailable(problem),
        })?;
        let id_token = tokens.id_token().ok_or_else(|| SignInError::Token("there is no id_token".to_owned()))?;
        let nonce = Nonce::new(pending.nonce);
        let (client, verified) = match self.verify(&client, id_token, &nonce) {
            // Keys rotate.
            Err(ClaimsVerificationError::SignatureVerification(SignatureVerificationError::NoMatchingKey)) => {
                let fresh = self.client(&*self.metadata(UNKNOWN_KEY_COOLDOWN).await?);
                let verified = self.verify(&fresh, id_token, &nonce).cloned();
                (fresh, verified)
            }
            verified => (client, verified.cloned()),
        };
        let verified = verified.map_err(|error| SignInError::Token(error.to_string()))?;
        self.person(&client, &tokens, id_token, &verified).await
    }

    /// The address of the provider's keys.
    pub(super) async fn jwks_uri(&self) -> Result<String, SignInError> {
        Ok(self.metadata(METADATA_AGE).await?.jwks_uri().to_string())
    }

    fn client(&self, metadata: &CoreProviderMetadata) -> Client {
        let secret = self.client_secret.as_ref().map(|secret| ClientSecret::new(secret.expose().to_owned()));
        let client = CoreClient::from_provider_metadata(metadata.clone(), self.client_id.clone(), secret);
        // Without a list, RFC 8414 section 2 means client_secret_basic, which is also the default here.
        let methods = metadata.token_endpoint_auth_methods_supported().map_or(&[][..], Vec::as_slice);
        let takes_only_body = methods.contains(&CoreClientAuthMethod::ClientSecretPost)
            && !methods.contains(&CoreClientAuthMethod::ClientSecretBasic);
        let client = client.set_redirect_uri(self.redirect.clone());
        if takes_only_body { client.set_auth_type(AuthType::RequestBody) } else { client }
    }

    /// Checks signature, issuer, audience, times and nonce.
    fn verify<'a>(
        &self,
        client: &Client,
        token: &'a CoreIdToken,
        nonce: &Nonce,
    ) -> Result<&'a CoreIdTokenClaims, ClaimsVerificationError> {
        let now = self.clock.now();
        let verifier =
            client.id_token_verifier().set_allowed_algs(ALGORITHMS).set_issue_time_verifier_fn(move |issued_at| {
                let age = now.saturating_sub(issued_at.timestamp()).saturating_abs();
                if age <= TOKEN_AGE { Ok(()) } else { Err("it was made too long ago, or in the future".to_owned()) }
            });
        token.claims(&verifier, nonce)
    }

    async fn person(
        &self,
        client: &Client,
        tokens: &CoreTokenResponse,
        id_token: &CoreIdToken,
        verified: &CoreIdTokenClaims,
    ) -> Result<Person, SignInError> {
        let mut claims = payload(id_token).ok_or_else(|| SignInError::Token("it is no object".to_owned()))?;
        let mut roles = claims::roles(&claims, &self.roles);
        if roles.is_none() && client.user_info_url().is_some() {
            let more = self.user_info(client, tokens, id_token, verified).await?;
            roles = claims::roles(&more, &self.roles);
            for (name, value) in more {
                claims.entry(name).or_insert(value);
            }
        }
        Ok(Person {
            issuer: self.issuer.to_string(),
            subject: verified.subject().to_string(),
            name: claims::name(&claims),
            roles: roles.unwrap_or_default(),
            client_id: Some(self.client_id.to_string()),
        })
    }

    /// What the user info endpoint says about the same person.
    async fn user_info(
        &self,
        client: &Client,
        tokens: &CoreTokenResponse,
        id_token: &CoreIdToken,
        verified: &CoreIdTokenClaims,
    ) -> Result<Claims, SignInError> {
        let token_error = |error: &dyn std::error::Error| SignInError::Token(error.to_string());
        if let Some(expected) = verified.access_token_hash() {
            let verifier = client.id_token_verifier();
            let algorithm = id_token.signing_alg().map_err(|error| token_error(&error))?;
            let key = id_token.signing_key(&verifier).map_err(|error| token_error(&error))?;
            let hash = AccessTokenHash::from_token(tokens.access_token(), algorithm, key);
            if hash.map_err(|error| token_error(&error))? != *expected {
                return Err(SignInError::Token("the access token is another one's".to_owned()));
            }
        }
        let request = client
            .user_info(tokens.access_token().clone(), Some(verified.subject().clone()))
            .map_err(|error| SignInError::Unavailable(error.to_string()))?;
        let info: UserInfoClaims<Extra, CoreGenderClaim> = request
            .request_async(&self.http)
            .await
            .map_err(|error| SignInError::Unavailable(format!("user info: {error}")))?;
        Ok(info.additional_claims().0.clone())
    }

    /// What the provider says about itself, at most so many seconds old if it can be had.
    async fn metadata(&self, max_age: i64) -> Result<Arc<CoreProviderMetadata>, SignInError> {
        let mut known = self.known.lock().await;
        let now = self.clock.now();
        if let Some(metadata) = known.metadata.as_ref().filter(|_| now.saturating_sub(known.fetched_at) < max_age) {
            return Ok(Arc::clone(metadata));
        }
        let just_failed = known.failure.clone().filter(|(at, _)| now.saturating_sub(*at) < RETRY_AFTER);
        let failure = match just_failed {
            Some((_, failure)) => failure,
            None => match self.discover().await {
                Ok(metadata) => {
                    let metadata = Arc::new(metadata);
                    *known = Known { metadata: Some(Arc::clone(&metadata)), fetched_at: now, failure: None };
                    return Ok(metadata);
                }
                Err(failure) => {
                    known.failure = Some((self.clock.now(), failure.clone()));
                    failure
                }
            },
        };
        if let SignInError::Unfit(_) = failure {
            known.metadata = None;
        }
        // What it said a short while ago is better than nothing.
        let is_usable = now.saturating_sub(known.fetched_at) < MAX_STALE;
        known.metadata.clone().filter(|_| is_usable).ok_or(failure)
    }

    async fn discover(&self) -> Result<CoreProviderMetadata, SignInError> {
        let metadata = CoreProviderMetadata::discover_async(self.issuer.clone(), &self.http).await;
        let metadata = metadata.map_err(|error| SignInError::Unavailable(error.to_string()))?;
        check(&metadata)?;
        Ok(metadata)
    }
}

/// Whether people can be told apart by what this provider says, and nobody can listen in.
fn check(metadata: &CoreProviderMetadata) -> Result<(), SignInError> {
    // Requester and approver are compared by `sub`, which the gateway and this service get through different clients.
    if !metadata.subject_types_supported().contains(&CoreSubjectIdentifierType::Public) {
        let problem = "it does not list `public` in `subject_types_supported`. Then a person can have another `sub` for \
                       each client, and people could approve their own calls. Use a provider, or a setting of it, \
                       that gives a person the same `sub` for all clients";
        return Err(SignInError::Unfit(problem.to_owned()));
    }
    let endpoints = [
        ("authorization_endpoint", Some(metadata.authorization_endpoint().url())),
        ("token_endpoint", metadata.token_endpoint().map(|endpoint| endpoint.url())),
        ("userinfo_endpoint", metadata.userinfo_endpoint().map(|endpoint| endpoint.url())),
        ("jwks_uri", Some(metadata.jwks_uri().url())),
    ];
    let named = endpoints.into_iter().filter_map(|(name, url)| url.map(|url| (name, url)));
    named
        .into_iter()
        .try_for_each(|(name, url)| check_url(name, url))
        .map_err(|error| SignInError::Unfit(error.to_string()))
}

/// The claims of a token that was verified, all of them.
fn payload(token: &CoreIdToken) -> Option<Claims> {
    let text = token.to_string();
    let payload = URL_SAFE_NO_PAD.decode(text.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload).ok()
}

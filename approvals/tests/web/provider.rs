//! An OpenID provider for tests. It signs in whom the test names, without asking, and lies as the test wants.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::extract::{Form, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jwt_simple::prelude::{Ed25519KeyPair, Ed25519PublicKey, EdDSAKeyPairLike as _, HeaderOptions, JWTClaims};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::site::CLIENT_SECRET;

type Parameters = BTreeMap<String, String>;

/// What the provider says and does next. Members of tokens that are null are left out.
#[derive(Clone, Debug)]
pub(crate) struct Behaviour {
    /// Claims of the identity token, over those that are right.
    pub(crate) id_token: Value,
    /// What the user info endpoint says.
    pub(crate) user_info: Value,
    /// What the provider says about itself, over what is right.
    pub(crate) configuration: Value,
    /// Parameters of the answer to the browser, over those that are right.
    pub(crate) answer: Parameters,
    /// Signs with a key that is not published.
    pub(crate) forge: bool,
}

impl Behaviour {
    /// Signs in this person.
    pub(crate) fn person(subject: &str, roles: &[&str]) -> Self {
        Self {
            id_token: json!({"sub": subject, "name": format!("The {subject}"), "roles": roles}),
            user_info: json!({"sub": subject}),
            configuration: json!({}),
            answer: Parameters::new(),
            forge: false,
        }
    }
}

/// A running provider.
#[derive(Clone)]
pub(crate) struct Provider(Arc<Inner>);

struct Inner {
    issuer: String,
    key: Mutex<Ed25519KeyPair>,
    /// Published in place of `key`, if there is one.
    published: Mutex<Option<Ed25519KeyPair>>,
    other_key: Ed25519KeyPair,
    behaviour: Mutex<Behaviour>,
    /// Requests that people were sent with, by code.
    codes: Mutex<BTreeMap<String, Parameters>>,
}

impl Provider {
    /// Starts a provider on a free port.
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let provider = Self(Arc::new(Inner {
            issuer,
            key: Mutex::new(Ed25519KeyPair::generate().with_key_id("one")),
            published: Mutex::default(),
            other_key: Ed25519KeyPair::generate().with_key_id("one"),
            behaviour: Mutex::new(Behaviour::person("approver", &["approvers"])),
            codes: Mutex::default(),
        }));
        let app = Router::new()
            .route("/.well-known/openid-configuration", get(configuration))
            .route("/jwks", get(jwks))
            .route("/authorize", get(authorize))
            .route("/token", post(token))
            .route("/userinfo", get(user_info))
            .with_state(provider.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        provider
    }

    pub(crate) fn issuer(&self) -> &str {
        &self.0.issuer
    }

    /// From now on.
    pub(crate) fn behave(&self, behaviour: Behaviour) {
        *self.0.behaviour.lock().unwrap() = behaviour;
    }

    /// New keys; the old ones are gone.
    pub(crate) fn rotate(&self) {
        *self.0.key.lock().unwrap() = Ed25519KeyPair::generate().with_key_id("two");
    }

    /// Publishes another key, but still signs with the one from before, as somebody does who has stolen it.
    pub(crate) fn withdraw(&self) {
        *self.0.published.lock().unwrap() = Some(Ed25519KeyPair::generate().with_key_id("two"));
    }

    /// An access token, with these claims over those that are right.
    pub(crate) fn access_token(&self, claims: &Value) -> String {
        let right = json!({
            "aud": "https://approvals.example", "client_id": "approvals-cli", "sub": "approver", "roles": ["approvers"],
        });
        self.sign("at+jwt", right, claims, false)
    }

    fn sign(&self, typ: &str, mut right: Value, over: &Value, forge: bool) -> String {
        let now = OffsetDateTime::now_utc().unix_timestamp();
        let members = right.as_object_mut().unwrap();
        members.insert("iss".to_owned(), json!(self.0.issuer));
        members.insert("iat".to_owned(), json!(now));
        members.insert("exp".to_owned(), json!(now + 300));
        members.extend(over.as_object().unwrap().clone());
        members.retain(|_, value| !value.is_null());
        let key = self.0.key.lock().unwrap();
        let key = if forge { &self.0.other_key } else { &*key };
        compact(key, typ, members)
    }
}

/// A compact JWS over exactly these claims.
fn compact(key: &Ed25519KeyPair, typ: &str, claims: &Map<String, Value>) -> String {
    let no_claims = JWTClaims {
        issued_at: None,
        expires_at: None,
        invalid_before: None,
        issuer: None,
        subject: None,
        audiences: None,
        jwt_id: None,
        nonce: None,
        custom: claims.clone(),
    };
    let header = HeaderOptions { signature_type: Some(typ.to_owned()), ..HeaderOptions::default() };
    key.sign_with_options(no_claims, &header).unwrap()
}

async fn configuration(State(provider): State<Provider>) -> Json<Value> {
    let issuer = provider.issuer();
    let mut right = json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "userinfo_endpoint": format!("{issuer}/userinfo"),
        "jwks_uri": format!("{issuer}/jwks"),
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256", "EdDSA"],
    });
    let over = provider.0.behaviour.lock().unwrap().configuration.clone();
    right.as_object_mut().unwrap().extend(over.as_object().unwrap().clone());
    Json(right)
}

async fn jwks(State(provider): State<Provider>) -> Json<Value> {
    let (key, published) = (provider.0.key.lock().unwrap(), provider.0.published.lock().unwrap());
    let key = published.as_ref().unwrap_or(&*key);
    let public: Ed25519PublicKey = key.public_key();
    let x = URL_SAFE_NO_PAD.encode(public.to_bytes());
    Json(json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": key.key_id(), "x": x}]}))
}

async fn authorize(State(provider): State<Provider>, Query(request): Query<Parameters>) -> Response {
    let right = request["client_id"] == "approvals"
        && request["response_type"] == "code"
        && request["scope"].split(' ').any(|scope| scope == "openid")
        && request["code_challenge_method"] == "S256";
    if !right {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let code = URL_SAFE_NO_PAD.encode(hmac_sha256::Hash::hash(request["state"].as_bytes()));
    let mut answer = Parameters::from([
        ("code".to_owned(), code.clone()),
        ("state".to_owned(), request["state"].clone()),
        ("iss".to_owned(), provider.issuer().to_owned()),
    ]);
    answer.extend(provider.0.behaviour.lock().unwrap().answer.clone());
    let mut url = url::Url::parse(&request["redirect_uri"]).unwrap();
    url.query_pairs_mut().extend_pairs(&answer);
    provider.0.codes.lock().unwrap().insert(code, request);
    Redirect::to(url.as_str()).into_response()
}

async fn token(State(provider): State<Provider>, headers: HeaderMap, Form(form): Form<Parameters>) -> Response {
    let refuse = |code: &str| (StatusCode::BAD_REQUEST, Json(json!({"error": code}))).into_response();
    let secret = std::env::var(CLIENT_SECRET).unwrap();
    let basic = format!("Basic {}", STANDARD.encode(format!("approvals:{secret}")));
    if headers.get("authorization").is_none_or(|value| *value != *basic) {
        return refuse("invalid_client");
    }
    let Some(request) = provider.0.codes.lock().unwrap().remove(&form["code"]) else { return refuse("invalid_grant") };
    let challenge = URL_SAFE_NO_PAD.encode(hmac_sha256::Hash::hash(form["code_verifier"].as_bytes()));
    if challenge != request["code_challenge"] || form["redirect_uri"] != request["redirect_uri"] {
        return refuse("invalid_grant");
    }
    let Behaviour { id_token, forge, .. } = provider.0.behaviour.lock().unwrap().clone();
    let right = json!({"aud": "approvals", "nonce": request["nonce"]});
    let id_token = provider.sign("JWT", right, &id_token, forge);
    Json(json!({"access_token": "opaque", "token_type": "Bearer", "expires_in": 60, "id_token": id_token}))
        .into_response()
}

async fn user_info(State(provider): State<Provider>, headers: HeaderMap) -> Response {
    if headers.get("authorization").is_none_or(|value| value != "Bearer opaque") {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    Json(provider.0.behaviour.lock().unwrap().user_info.clone()).into_response()
}

//! An authorization server with one key of each kind, and a resource that trusts it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jwt_simple::prelude::{
    ECDSAP256KeyPairLike, ES256KeyPair, Ed25519KeyPair, EdDSAKeyPairLike, HeaderOptions, JWTClaims, RS256KeyPair,
    RSAKeyPairLike,
};
use serde_json::{Value, json};
use toolgate::jwt::{
    Algorithm, ClaimNames, KeyRing, KeySource, PureRust, Refusal, TokenType, TrustedIssuer, VerifiedToken,
};
use toolgate::units::{Seconds, UnixSeconds};

use super::keys::{ED25519_PRIVATE, P256_PRIVATE, RSA_PRIVATE, key_set, public_jwk};

pub(crate) const ISSUER: &str = "https://idp.norg.example";
pub(crate) const AUDIENCE: &str = "https://mcp.norg.example/mcp";
pub(crate) const NOW: u64 = 1_800_000_000;

/// The keys as the issuer publishes them.
pub(crate) fn jwks() -> Vec<Value> {
    let key = |private: &str, id: &str, algorithm: &str| {
        let mut jwk = public_jwk(private);
        jwk["kid"] = id.into();
        jwk["alg"] = algorithm.into();
        jwk
    };
    vec![key(ED25519_PRIVATE, "ed", "EdDSA"), key(P256_PRIVATE, "ec", "ES256"), key(RSA_PRIVATE, "rsa", "RS256")]
}

pub(crate) fn key_ring() -> KeyRing {
    KeyRing::new([KeySource::Inline(key_set(&jwks()))])
}

pub(crate) fn trusted_issuer() -> TrustedIssuer {
    TrustedIssuer {
        issuer: ISSUER.into(),
        audiences: vec![AUDIENCE.into(), "https://mcp.norg.example".into()],
        algorithms: Algorithm::ALL.into(),
        token_types: TokenType::of_access_tokens(),
        max_lifetime: Seconds::new(3600),
        claims: ClaimNames::default(),
    }
}

/// What the resource says to a token at [`NOW`].
pub(crate) fn verify(token: &str) -> Result<VerifiedToken, Refusal> {
    toolgate::jwt::verify(token, &[trusted_issuer()], &key_ring(), &PureRust, UnixSeconds::new(NOW))
}

/// The claims of a token that is accepted at [`NOW`].
pub(crate) fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "user-7", "client_id": "norg-desktop", "jti": "t-1",
        "iat": NOW - 60, "exp": NOW + 600, "scope": "norg:contacts:read norg:messaging:write",
    })
}

pub(crate) fn claims_with(name: &str, value: impl Into<Value>) -> Value {
    let mut claims = claims();
    claims[name] = value.into();
    claims
}

pub(crate) fn claims_without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name).unwrap();
    claims
}

/// The header of a token that is accepted.
pub(crate) fn header() -> Value {
    json!({"alg": "EdDSA", "kid": "ed", "typ": "at+jwt"})
}

pub(crate) fn header_with(name: &str, value: impl Into<Value>) -> Value {
    let mut header = header();
    header[name] = value.into();
    header
}

/// Signs whatever it is given with the issuer's Ed25519 key.
pub(crate) fn sign_raw(header: &str, payload: &str) -> String {
    let key = Ed25519KeyPair::from_jwk(ED25519_PRIVATE).unwrap();
    let input = format!("{}.{}", encode(header), encode(payload));
    let signature = key.key_pair().as_ref().sk.sign(&input, None);
    format!("{input}.{}", encode(signature.as_ref()))
}

pub(crate) fn sign(header: &Value, claims: &Value) -> String {
    sign_raw(&header.to_string(), &claims.to_string())
}

pub(crate) fn sign_rs256(key_id: &str, claims: Value) -> String {
    let key = RS256KeyPair::from_jwk(RSA_PRIVATE).unwrap().with_key_id(key_id);
    key.sign_with_options(custom(claims), &access_token()).unwrap()
}

pub(crate) fn sign_es256(key: &ES256KeyPair, claims: Value) -> String {
    key.sign_with_options(custom(claims), &access_token()).unwrap()
}

pub(crate) fn es256_key(key_id: &str) -> ES256KeyPair {
    ES256KeyPair::from_jwk(P256_PRIVATE).unwrap().with_key_id(key_id)
}

/// Claims for jwt-simple, which adds none of its own.
pub(crate) fn custom(claims: Value) -> JWTClaims<Value> {
    let mut own = JWTClaims::new();
    own.custom = claims;
    own
}

pub(crate) fn access_token() -> HeaderOptions {
    HeaderOptions { signature_type: Some("at+jwt".into()), ..HeaderOptions::default() }
}

pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The token with another signature.
pub(crate) fn with_signature(token: &str, signature: &[u8]) -> String {
    format!("{}.{}", token.rsplit_once('.').unwrap().0, encode(signature))
}

pub(crate) fn signature_of(token: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(token.rsplit_once('.').unwrap().1).unwrap()
}

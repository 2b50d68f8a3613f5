//! Decisions as signatures that gateways can check: compact JWS, and the keys to check them with.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jwt_simple::prelude::{
    Audiences, ECDSAP256KeyPairLike as _, ES256KeyPair, Ed25519KeyPair, EdDSAKeyPairLike as _, HeaderOptions,
    JWTClaims, UnixTimeStamp,
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::config::{ConfigError, SigningKey};
use crate::domain::{Choice, State, UnixSeconds, Vote};
use crate::store::Record;

/// `typ` of decisions.
pub const DECISION_TYPE: &str = "approval+jwt";

/// Seconds for which a grant holds.
const GRANT_LIFETIME: i64 = 60;
/// Seconds for which any other decision holds.
const DECISION_LIFETIME: i64 = 120;
/// Random bytes of `jti`.
const TOKEN_ID_BYTES: usize = 16;

/// A decision could not be signed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the decision could not be signed")]
pub struct SigningError;

/// Kinds of keys.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub enum KeyKind {
    /// Ed25519: signs with EdDSA.
    #[default]
    Ed25519,
    /// P-256: signs with ES256.
    P256,
}

enum Key {
    Ed25519(Ed25519KeyPair),
    P256(ES256KeyPair),
}

/// Signs decisions.
pub struct Signer {
    issuer: String,
    key: Key,
    key_set: String,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Signer").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl Key {
    fn from_pem(pem: &str, kid: &str) -> Option<Self> {
        if let Ok(key) = Ed25519KeyPair::from_pem(pem) {
            return Some(Self::Ed25519(key.with_key_id(kid)));
        }
        let key = ES256KeyPair::from_pem(pem).ok()?;
        Some(Self::P256(key.with_key_id(kid)))
    }

    /// The public key as a JWK, with what it is for.
    fn public_jwk(&self) -> Result<Value, SigningError> {
        let (jwk, algorithm) = match self {
            Self::Ed25519(key) => (key.public_key().to_jwk(), "EdDSA"),
            Self::P256(key) => (key.public_key().to_jwk(), "ES256"),
        };
        let mut jwk: Value = serde_json::from_str(&jwk).map_err(|_| SigningError)?;
        let members = jwk.as_object_mut().ok_or(SigningError)?;
        members.insert("alg".to_owned(), algorithm.into());
        members.insert("use".to_owned(), "sig".into());
        Ok(jwk)
    }

    fn sign(&self, claims: JWTClaims<Decision<'_>>) -> Result<String, SigningError> {
        let options = HeaderOptions { signature_type: Some(DECISION_TYPE.to_owned()), ..HeaderOptions::default() };
        let signed = match self {
            Self::Ed25519(key) => key.sign_with_options(claims, &options),
            Self::P256(key) => key.sign_with_options(claims, &options),
        };
        signed.map_err(|_| SigningError)
    }
}

impl Signer {
    /// Reads the keys. The first signs; all are published, so that gateways still know, or know already, the others.
    ///
    /// # Errors
    /// When a key cannot be read.
    pub fn load(issuer: &str, keys: &[SigningKey]) -> Result<Self, ConfigError> {
        let mut first = None;
        let mut public = Vec::new();
        for SigningKey { kid, file } in keys {
            let unusable = |problem: &str| ConfigError::Unusable(file.display().to_string(), problem.to_owned());
            let pem = fs::read_to_string(file).map_err(|error| ConfigError::Unreadable(file.clone(), error))?;
            let key =
                Key::from_pem(&pem, kid).ok_or_else(|| unusable("is no PKCS#8 PEM of an Ed25519 or P-256 key"))?;
            public.push(key.public_jwk().map_err(|_| unusable("has no public key"))?);
            first.get_or_insert(key);
        }
        let key = first.ok_or_else(|| ConfigError::Unusable("signing_keys".to_owned(), "is empty".to_owned()))?;
        Ok(Self { issuer: issuer.to_owned(), key, key_set: json!({ "keys": public }).to_string() })
    }

    /// The public keys: a JWK Set.
    #[must_use]
    pub fn key_set(&self) -> &str {
        &self.key_set
    }

    /// The call may be made: this step of it, by whoever has made the nonce.
    pub(crate) fn grant(
        &self,
        record: &Record,
        nonce: &str,
        step: i64,
        now: UnixSeconds,
    ) -> Result<String, SigningError> {
        let approvals = record.votes.iter().filter(|vote| vote.choice == Choice::Approve);
        let approvers = approvals.map(Approver::from).collect();
        self.sign(record, Decision::new(record, "approved", approvers, Some(step)), Some(nonce), now, GRANT_LIFETIME)
    }

    /// How an approval has ended, unless it ended by being used.
    pub(crate) fn decision(&self, record: &Record, now: UnixSeconds) -> Result<Option<String>, SigningError> {
        let rejection = record.votes.iter().find(|vote| vote.choice == Choice::Reject);
        let (approvers, reason) = match record.state {
            State::Pending | State::Approved | State::Consumed => return Ok(None),
            State::Rejected => (
                rejection.map(Approver::from).into_iter().collect(),
                rejection.and_then(|rejection| rejection.reason.as_deref()),
            ),
            State::Expired | State::Cancelled => (Vec::new(), None),
        };
        let decision = Decision { reason, ..Decision::new(record, record.state.as_str(), approvers, None) };
        self.sign(record, decision, None, now, DECISION_LIFETIME).map(Some)
    }

    fn sign(
        &self,
        record: &Record,
        decision: Decision<'_>,
        nonce: Option<&str>,
        now: UnixSeconds,
        lifetime: i64,
    ) -> Result<String, SigningError> {
        let time = |seconds: i64| u64::try_from(seconds).map(UnixTimeStamp::from_secs).map_err(|_| SigningError);
        self.key.sign(JWTClaims {
            issued_at: Some(time(now)?),
            expires_at: Some(time(now.saturating_add(lifetime))?),
            invalid_before: None,
            issuer: Some(self.issuer.clone()),
            subject: None,
            audiences: Some(Audiences::AsString(record.request.audience.clone())),
            jwt_id: Some(token_id()?),
            nonce: nonce.map(str::to_owned),
            custom: decision,
        })
    }
}

/// Claims of a decision.
#[derive(Clone, Debug, Serialize)]
struct Decision<'a> {
    approval_id: &'a str,
    binding: &'a str,
    policy: &'a str,
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<i64>,
    approvers: Vec<Approver<'a>>,
    escalated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

impl<'a> Decision<'a> {
    fn new(record: &'a Record, status: &'a str, approvers: Vec<Approver<'a>>, step: Option<i64>) -> Self {
        let Record { id, request, escalated, .. } = record;
        let (binding, policy) = (&request.binding, &request.policy);
        Self { approval_id: id, binding, policy, status, step, approvers, escalated: *escalated, reason: None }
    }
}

/// Who has decided.
#[derive(Clone, Debug, Serialize)]
struct Approver<'a> {
    iss: &'a str,
    sub: &'a str,
    roles: &'a [String],
    at: UnixSeconds,
}

impl<'a> From<&'a Vote> for Approver<'a> {
    fn from(vote: &'a Vote) -> Self {
        Self { iss: &vote.issuer, sub: &vote.subject, roles: &vote.entitlement.roles, at: vote.at }
    }
}

fn token_id() -> Result<String, SigningError> {
    let mut bytes = [0; TOKEN_ID_BYTES];
    getrandom::fill(&mut bytes).map_err(|_| SigningError)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Makes a key and writes it to a file that only its owner can read. Returns its public half, a JWK.
///
/// # Errors
/// When the file is there or cannot be written.
pub fn generate(kind: KeyKind, kid: &str, file: &Path) -> std::io::Result<Value> {
    let failed = |_| std::io::Error::other("the key could not be made");
    let (key, pem) = match kind {
        KeyKind::Ed25519 => {
            let key = Ed25519KeyPair::generate().with_key_id(kid);
            let pem = key.to_pem();
            (Key::Ed25519(key), pem)
        }
        KeyKind::P256 => {
            let key = ES256KeyPair::generate().with_key_id(kid);
            let pem = key.to_pem().map_err(|_| failed(SigningError))?;
            (Key::P256(key), pem)
        }
    };
    write_private(file, &pem)?;
    key.public_jwk().map_err(failed)
}

fn write_private(file: &Path, pem: &str) -> std::io::Result<()> {
    use std::io::Write as _;

    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(file)?;
    file.write_all(pem.as_bytes())?;
    file.sync_all()
}

//! The public keys of an issuer (RFC 7517, RFC 7518 section 6, RFC 8037).

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::VerifyingKey;
use jwt_simple::prelude::{
    ECDSAP256PublicKeyLike, ECDSAP384PublicKeyLike, ES256PublicKey, ES384PublicKey, Ed25519PublicKey,
    EdDSAPublicKeyLike, RS256PublicKey, RSAPublicKeyLike,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Algorithm;
use super::object::{Raw, StrictObject, read, read_text, read_texts};
use crate::limits;

/// A key that may verify tokens, with the algorithms it is for.
///
/// The key decides about the algorithm, never the token (RFC 8725 section 3.1).
#[derive(Clone)]
pub struct VerificationKey {
    key_id: Option<Box<str>>,
    algorithms: Box<[Algorithm]>,
    material: Material,
    subject_public_key_info: Box<[u8]>,
}

impl VerificationKey {
    /// `kid`.
    pub fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// Whether the key may be used with `algorithm`.
    pub fn is_for(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    /// The key as DER `SubjectPublicKeyInfo` (RFC 5280 section 4.1.2.7), the form that Envoy's `verify_signature` takes.
    pub fn subject_public_key_info(&self) -> &[u8] {
        &self.subject_public_key_info
    }

    pub(super) const fn material(&self) -> &Material {
        &self.material
    }
}

impl PartialEq for VerificationKey {
    fn eq(&self, other: &Self) -> bool {
        (&self.key_id, &self.algorithms, &self.subject_public_key_info)
            == (&other.key_id, &other.algorithms, &other.subject_public_key_info)
    }
}

impl Eq for VerificationKey {}

impl fmt::Debug for VerificationKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("VerificationKey")
            .field("key_id", &self.key_id)
            .field("algorithms", &self.algorithms)
            .finish_non_exhaustive()
    }
}

/// What the key consists of; curve points were checked to lie on their curve.
#[derive(Clone)]
pub(super) enum Material {
    Ed25519(VerifyingKey),
    P256(ES256PublicKey),
    P384(ES384PublicKey),
    /// Big-endian modulus and exponent. jwt-simple has a type per algorithm, and a key may be for several.
    Rsa {
        modulus: Box<[u8]>,
        exponent: Box<[u8]>,
    },
}

/// The usable keys of an issuer.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KeySet {
    keys: Vec<VerificationKey>,
    skipped: usize,
}

impl KeySet {
    /// Reads a JWK Set. Keys that cannot verify tokens here are skipped and counted: issuers publish encryption keys
    /// and new kinds of keys beside those that are needed (RFC 7517 section 5).
    ///
    /// # Errors
    /// When the document as a whole is not a JWK Set.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidKeySet> {
        if bytes.len() > limits::MAX_JWKS_BYTES {
            return Err(InvalidKeySet::TooLong);
        }
        let document = StrictObject::parse(bytes).map_err(|_| InvalidKeySet::Malformed)?;
        let keys: Vec<&RawValue> = document.get("keys").and_then(read).ok_or(InvalidKeySet::NoKeys)?;
        let mut set = Self::default();
        let mut of_key_id: BTreeMap<Option<Box<str>>, usize> = BTreeMap::new();
        for key in keys {
            let Some(key) = verification_key(key.into()).filter(|_| set.keys.len() < limits::MAX_KEYS_PER_ISSUER)
            else {
                set.skipped = set.skipped.saturating_add(1);
                continue;
            };
            let with_same_id = of_key_id.entry(key.key_id.clone()).or_default();
            if key.key_id.is_some() && *with_same_id >= limits::MAX_KEYS_PER_KID {
                set.skipped = set.skipped.saturating_add(1);
                continue;
            }
            *with_same_id = with_same_id.saturating_add(1);
            set.keys.push(key);
        }
        Ok(set)
    }

    /// The usable keys, in the document's order.
    pub fn keys(&self) -> &[VerificationKey] {
        &self.keys
    }

    /// How many keys of the document are not used.
    pub const fn skipped(&self) -> usize {
        self.skipped
    }
}

/// Why a document is no JWK Set.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidKeySet {
    /// Not one strict JSON object.
    #[error("the key set is not one JSON object without duplicate members")]
    Malformed,
    /// `keys` is missing or no array.
    #[error("the key set has no array `keys`")]
    NoKeys,
    /// Larger than [`limits::MAX_JWKS_BYTES`].
    #[error("the key set is too long")]
    TooLong,
}

/// The members that matter. A member of another type makes the key unusable.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

fn verification_key(jwk: Raw<'_>) -> Option<VerificationKey> {
    let members = StrictObject::within(jwk)?;
    let is_private = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"].into_iter().any(|name| members.contains(name));
    if is_private || !is_for_verification(&members)? {
        return None;
    }
    let key_id = match members.get("kid") {
        Some(value) => Some(read_text(value)?.into()),
        None => None,
    };
    let (material, fitting) = material(&read(jwk)?)?;
    let algorithms = match members.get("alg") {
        Some(value) => {
            let algorithm = Algorithm::parse(&read_text(value)?).ok()?;
            fitting.contains(&algorithm).then(|| Box::from([algorithm]))?
        }
        None => fitting.into(),
    };
    let subject_public_key_info = subject_public_key_info(&material)?;
    Some(VerificationKey { key_id, algorithms, material, subject_public_key_info })
}

/// `use` and `key_ops` (RFC 7517 sections 4.2 and 4.3); nothing when one has a wrong type.
fn is_for_verification(members: &StrictObject<'_>) -> Option<bool> {
    let is_for_signatures = match members.get("use") {
        Some(value) => read_text(value)? == "sig",
        None => true,
    };
    let may_verify = match members.get("key_ops") {
        Some(value) => read_texts(value)?.iter().any(|operation| **operation == *"verify"),
        None => true,
    };
    Some(is_for_signatures && may_verify)
}

const RSA_ALGORITHMS: &[Algorithm] =
    &[Algorithm::Rs256, Algorithm::Rs384, Algorithm::Rs512, Algorithm::Ps256, Algorithm::Ps384, Algorithm::Ps512];

fn material(jwk: &Jwk) -> Option<(Material, &'static [Algorithm])> {
    match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => {
            let material = Material::Rsa {
                modulus: unpadded(jwk.n.as_ref()?)?.into(),
                exponent: unpadded(jwk.e.as_ref()?)?.into(),
            };
            Some((material, RSA_ALGORITHMS))
        }
        ("EC", Some("P-256")) => {
            let key = ES256PublicKey::from_bytes(&uncompressed_point(jwk, 32)?).ok()?;
            Some((Material::P256(key), &[Algorithm::Es256]))
        }
        ("EC", Some("P-384")) => {
            let key = ES384PublicKey::from_bytes(&uncompressed_point(jwk, 48)?).ok()?;
            Some((Material::P384(key), &[Algorithm::Es384]))
        }
        ("OKP", Some("Ed25519")) => {
            let bytes = unpadded(jwk.x.as_ref()?)?;
            // jwt-simple takes no key of small order and none in a second spelling.
            Ed25519PublicKey::from_bytes(&bytes).ok()?;
            let key = VerifyingKey::try_from(&*bytes).ok()?;
            Some((Material::Ed25519(key), &[Algorithm::EdDsa]))
        }
        _ => None,
    }
}

/// The point as SEC 1 section 2.3.3 writes it. JWK coordinates have the full length of the field.
fn uncompressed_point(jwk: &Jwk, coordinate_bytes: usize) -> Option<Vec<u8>> {
    let (x, y) = (unpadded(jwk.x.as_ref()?)?, unpadded(jwk.y.as_ref()?)?);
    (x.len() == coordinate_bytes && y.len() == coordinate_bytes).then(|| [&[UNCOMPRESSED], &*x, &*y].concat())
}

const UNCOMPRESSED: u8 = 4;

/// Also where RSA keys are checked: 2048 to 4096 bits, odd, and 65537 as exponent, which is all that jwt-simple takes.
fn subject_public_key_info(material: &Material) -> Option<Box<[u8]>> {
    let der = match material {
        Material::Ed25519(key) => Ed25519PublicKey::from_bytes(key.as_bytes()).ok()?.public_key().to_der(),
        Material::P256(key) => key.public_key().to_der().ok()?,
        Material::P384(key) => key.public_key().to_der().ok()?,
        Material::Rsa { modulus, exponent } => {
            RS256PublicKey::from_components(modulus, exponent).ok()?.public_key().to_der().ok()?
        }
    };
    Some(der.into())
}

fn unpadded(text: &String) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

//! The signature check, and nothing else.
//!
//! What jwt-simple refuses for another reason, [`CompactJws`] and the claims' reader refuse themselves: where the proxy's
//! own cryptography verifies, and for Ed25519, jwt-simple does not see the token.

use ed25519_dalek::{Signature, VerifyingKey};
use jwt_simple::prelude::{
    Duration, ECDSAP256PublicKeyLike, ECDSAP384PublicKeyLike, NoCustomClaims, PS256PublicKey, PS384PublicKey,
    PS512PublicKey, RS256PublicKey, RS384PublicKey, RS512PublicKey, RSAPublicKeyLike, UnixTimeStamp,
    VerificationOptions,
};

use super::jwks::Material;
use super::{Algorithm, CompactJws, VerificationKey};
use crate::limits;

/// Checks signatures. Envoy's own cryptography is several times faster than WebAssembly, where it is available.
pub trait SignatureVerifier {
    /// Whether `key` signed `token` with `algorithm`, for which the key was chosen.
    fn verify(&self, key: &VerificationKey, algorithm: Algorithm, token: &CompactJws<'_>) -> bool;
}

/// Checks signatures inside the module: Ed25519 with ed25519-dalek, which takes a third of the time there, everything
/// else with jwt-simple.
#[derive(Clone, Copy, Debug, Default)]
pub struct PureRust;

impl SignatureVerifier for PureRust {
    fn verify(&self, key: &VerificationKey, algorithm: Algorithm, token: &CompactJws<'_>) -> bool {
        if let Material::Ed25519(key) = key.material() {
            return algorithm == Algorithm::EdDsa && is_signed_by_ed25519(key, token);
        }
        let token = token.as_str();
        match (key.material(), algorithm) {
            (Material::P256(key), Algorithm::Es256) => key.verify_token::<NoCustomClaims>(token, options()).is_ok(),
            (Material::P384(key), Algorithm::Es384) => key.verify_token::<NoCustomClaims>(token, options()).is_ok(),
            (Material::Rsa { modulus, exponent }, _) => match algorithm {
                Algorithm::Rs256 => is_signed(RS256PublicKey::from_components(modulus, exponent), token),
                Algorithm::Rs384 => is_signed(RS384PublicKey::from_components(modulus, exponent), token),
                Algorithm::Rs512 => is_signed(RS512PublicKey::from_components(modulus, exponent), token),
                Algorithm::Ps256 => is_signed(PS256PublicKey::from_components(modulus, exponent), token),
                Algorithm::Ps384 => is_signed(PS384PublicKey::from_components(modulus, exponent), token),
                Algorithm::Ps512 => is_signed(PS512PublicKey::from_components(modulus, exponent), token),
                Algorithm::Es256 | Algorithm::Es384 | Algorithm::EdDsa => false,
            },
            (Material::Ed25519(_) | Material::P256(_) | Material::P384(_), _) => false,
        }
    }
}

/// Strict: nothing of small order, one spelling of each part of a signature, and no cofactor (RFC 8032 section 5.1.7).
/// What jwt-simple's own verification refuses, this does too.
fn is_signed_by_ed25519(key: &VerifyingKey, token: &CompactJws<'_>) -> bool {
    Signature::from_slice(token.signature())
        .is_ok_and(|signature| key.verify_strict(token.signing_input().as_bytes(), &signature).is_ok())
}

fn is_signed<K: RSAPublicKeyLike, E>(key: Result<K, E>, token: &str) -> bool {
    key.is_ok_and(|key| key.verify_token::<NoCustomClaims>(token, options()).is_ok())
}

/// Leaves jwt-simple nothing to refuse but form and signature: at the epoch nothing has expired, and everything may
/// lie in the future. Its own clock is never asked. Times are checked with the claims.
fn options() -> Option<VerificationOptions> {
    Some(VerificationOptions {
        accept_future: true,
        artificial_time: Some(UnixTimeStamp::from_secs(0)),
        time_tolerance: Some(Duration::from_secs(0)),
        max_token_length: Some(limits::MAX_TOKEN_BYTES),
        max_header_length: Some(limits::MAX_TOKEN_HEADER_BYTES),
        ..VerificationOptions::default()
    })
}

/// Turns `r || s`, the form in a token (RFC 7518 section 3.4), into ASN.1 `SEQUENCE { r INTEGER, s INTEGER }`, the form
/// that BoringSSL takes (RFC 3279 section 2.2.3).
///
/// Nothing for a length that is neither P-256's nor P-384's, and for zeros, which no signer makes and which some
/// verifiers took for any message's signature (CVE-2022-21449).
pub fn ecdsa_signature_to_der(raw: &[u8]) -> Option<Vec<u8>> {
    if raw.len() != 64 && raw.len() != 96 {
        return None;
    }
    let (r, s) = raw.split_at_checked(raw.len() / 2)?;
    let integers = [der_integer(r)?, der_integer(s)?].concat();
    let mut der = vec![SEQUENCE, short_length(&integers)?];
    der.extend(integers);
    Some(der)
}

fn der_integer(big_endian: &[u8]) -> Option<Vec<u8>> {
    let first = big_endian.iter().position(|byte| *byte != 0)?;
    let mut digits = big_endian.get(first..)?.to_vec();
    // ASN.1 integers are signed: a set top bit would make this one negative.
    if digits.first()? & 0x80 != 0 {
        digits.insert(0, 0);
    }
    let mut der = vec![INTEGER, short_length(&digits)?];
    der.append(&mut digits);
    Some(der)
}

fn short_length(content: &[u8]) -> Option<u8> {
    u8::try_from(content.len()).ok().filter(|length| *length < 0x80)
}

const INTEGER: u8 = 0x02;
const SEQUENCE: u8 = 0x30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_minimal_and_positive() {
        let mut raw = [0; 64];
        raw[31] = 0x80;
        raw[63] = 1;
        assert_eq!(ecdsa_signature_to_der(&raw).unwrap(), [0x30, 7, 2, 2, 0, 0x80, 2, 1, 1]);
    }

    #[test]
    fn the_longest_signatures_fit_a_short_length() {
        assert_eq!(ecdsa_signature_to_der(&[0xff; 64]).unwrap().len(), 2 + 2 * (2 + 33));
        assert_eq!(ecdsa_signature_to_der(&[0xff; 96]).unwrap().len(), 2 + 2 * (2 + 49));
    }

    #[test]
    fn zeros_and_other_lengths_have_no_der_form() {
        let mut half = [0; 64];
        assert_eq!(ecdsa_signature_to_der(&half), None);
        half[0] = 1;
        assert_eq!(ecdsa_signature_to_der(&half), None);
        half = [0; 64];
        half[63] = 1;
        assert_eq!(ecdsa_signature_to_der(&half), None);
        for length in [0, 1, 2, 62, 63, 65, 95, 97, 128, 132] {
            assert_eq!(ecdsa_signature_to_der(&vec![1; length]), None, "{length}");
        }
    }
}

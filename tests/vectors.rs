//! The examples of the standards: RFC 7515 (JWS), RFC 7517 (JWK), RFC 8037 (Ed25519).
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support {
    pub(crate) mod keys;
}

use jwt_simple::prelude::{
    ECDSAP256PublicKeyLike, ES256PublicKey, Ed25519KeyPair, EdDSAKeyPairLike, RS256PublicKey, RSAPublicKeyLike,
};
use toolgate::jwt::{Algorithm, CompactJws, KeySet, PureRust, SignatureVerifier, TokenError, ecdsa_signature_to_der};

use support::keys::{self, public_jwk};

/// RFC 7515 appendix A.2.1.
const RS256: &str = concat!(
    "eyJhbGciOiJSUzI1NiJ9.",
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.",
    "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CU",
    "Ar7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_d",
    "O--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0ig",
    "cN_IoypGlUPQGe77Rw",
);

/// RFC 7515 appendix A.3.1.
const ES256: &str = concat!(
    "eyJhbGciOiJFUzI1NiJ9.",
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.",
    "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
);

/// RFC 8037 appendix A.4.
const EDDSA: &str = concat!(
    "eyJhbGciOiJFZERTQSJ9.",
    "RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.",
    "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
);

/// RFC 7517 appendix A.1.
const PUBLIC_KEYS: &str = concat!(
    r#"{"keys":[{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","#,
    r#""y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","use":"enc","kid":"1"},{"kty":"RSA","n":""#,
    "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3",
    "oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdA",
    "ZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-",
    r#"kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}]}"#,
);

fn key_set(private: &str) -> KeySet {
    keys::key_set(&[public_jwk(private)])
}

fn is_signed_by(token: &str, keys: &KeySet) -> bool {
    let token = CompactJws::parse(token).unwrap();
    keys.keys().iter().any(|key| key.is_for(token.algorithm()) && PureRust.verify(key, token.algorithm(), &token))
}

#[test]
fn rfc_7515_signatures_are_good_under_their_own_key_only() {
    let (rsa, p256) = (key_set(keys::RSA_PRIVATE), key_set(keys::P256_PRIVATE));
    assert!(is_signed_by(RS256, &rsa));
    assert!(is_signed_by(ES256, &p256));
    assert!(!is_signed_by(RS256, &p256));
    assert!(!is_signed_by(ES256, &rsa));
    assert!(!is_signed_by(RS256, &KeySet::parse(PUBLIC_KEYS.as_bytes()).unwrap()));
}

#[test]
fn rfc_7515_signatures_cover_header_and_payload() {
    for (token, keys) in [(RS256, key_set(keys::RSA_PRIVATE)), (ES256, key_set(keys::P256_PRIVATE))] {
        assert!(!is_signed_by(&token.replacen("leHAi", "leHAj", 1), &keys));
        let other_header = token.replacen("NiJ9.", "NiIsInR5cCI6IkpXVCJ9.", 1);
        assert!(!is_signed_by(&other_header, &keys));
    }
}

/// The payload of RFC 8037 is no JSON, so that the token cannot be verified as a whole.
#[test]
fn rfc_8037_signature_is_what_the_key_makes() {
    let key = Ed25519KeyPair::from_jwk(keys::ED25519_PRIVATE).unwrap();
    let token = CompactJws::parse(EDDSA).unwrap();
    assert_eq!(token.algorithm(), Algorithm::EdDsa);
    assert_eq!(token.payload(), b"Example of Ed25519 signing");
    assert_eq!(key.key_pair().as_ref().sk.sign(token.signing_input(), None).as_ref(), token.signature());
    let keys = key_set(keys::ED25519_PRIVATE);
    assert!(is_signed_by(EDDSA, &keys));
    let signed = key.sign(jwt_simple::claims::Claims::create(jwt_simple::prelude::Duration::from_secs(60))).unwrap();
    assert!(is_signed_by(&signed, &keys));
}

#[test]
fn rfc_7515_unsigned_token_is_refused() {
    let unsecured = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.";
    assert_eq!(CompactJws::parse(unsecured).unwrap_err(), TokenError::AlgorithmUnsupported);
}

#[test]
fn rfc_7517_encryption_key_is_skipped() {
    let keys = KeySet::parse(PUBLIC_KEYS.as_bytes()).unwrap();
    assert_eq!(keys.skipped(), 1);
    let [key] = keys.keys() else { panic!("{keys:?}") };
    assert_eq!(key.key_id(), Some("2011-04-29"));
    assert!(key.is_for(Algorithm::Rs256));
    assert!(!key.is_for(Algorithm::Ps256) && !key.is_for(Algorithm::Rs384) && !key.is_for(Algorithm::Es256));
}

#[test]
fn rfc_7517_private_keys_are_skipped() {
    for private in [keys::RSA_PRIVATE, keys::P256_PRIVATE, keys::ED25519_PRIVATE] {
        let keys = KeySet::parse(format!(r#"{{"keys":[{private}]}}"#).as_bytes()).unwrap();
        assert_eq!((keys.keys().len(), keys.skipped()), (0, 1), "{private}");
    }
    // Appendix A.3, a symmetric key.
    let symmetric = br#"{"keys":[{"kty":"oct","alg":"A128KW","k":"GawgguFyGrWKav7AX4VKUg"}]}"#;
    assert_eq!(KeySet::parse(symmetric).unwrap().skipped(), 1);
}

#[test]
fn subject_public_key_info_is_the_same_key() {
    let info = |keys: &KeySet| keys.keys()[0].subject_public_key_info().to_vec();
    let rsa = key_set(keys::RSA_PRIVATE);
    let read = RS256PublicKey::from_der(&info(&rsa)).unwrap();
    assert_eq!(read.public_key().to_der().unwrap(), info(&rsa));
    assert!(read.to_jwk().contains("ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp"));
    let p256 = key_set(keys::P256_PRIVATE);
    assert!(
        ES256PublicKey::from_der(&info(&p256))
            .unwrap()
            .to_jwk()
            .contains("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU")
    );
    assert_eq!(ES256PublicKey::from_der(&info(&p256)).unwrap().public_key().to_der().unwrap(), info(&p256));
}

/// The values of r and s are those that RFC 7515 appendix A.3.1 prints as octets.
#[test]
fn rfc_7515_ecdsa_signature_has_a_der_form() {
    let token = CompactJws::parse(ES256).unwrap();
    let der = ecdsa_signature_to_der(token.signature()).unwrap();
    assert_eq!(der[..8], [0x30, 69, 2, 32, 14, 209, 33, 83]);
    assert_eq!(der[36..42], [2, 33, 0, 197, 10, 7]);
    assert_eq!(der.len(), 71);
}

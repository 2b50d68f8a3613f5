//! Key sets as issuers publish them, and as somebody would who wants to be believed or to break the verifier.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on has failed")]

mod support {
    pub(crate) mod keys;
}

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use toolgate::jwt::{CompactJws, InvalidKeySet, KeySet, PureRust, SignatureVerifier};
use toolgate::limits;

use support::keys::{ED25519_PRIVATE, P256_PRIVATE, RSA_PRIVATE, key_set, public_jwk};

fn ed() -> Value {
    public_jwk(ED25519_PRIVATE)
}

fn ec() -> Value {
    public_jwk(P256_PRIVATE)
}

fn rsa() -> Value {
    public_jwk(RSA_PRIVATE)
}

fn with(mut jwk: Value, name: &str, value: impl Into<Value>) -> Value {
    jwk[name] = value.into();
    jwk
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The modulus of an RSA key: `first`, as many bytes as are needed, `last`.
fn modulus(first: u8, bytes: usize, last: u8) -> String {
    let mut modulus = vec![0x55; bytes];
    modulus[0] = first;
    *modulus.last_mut().unwrap() = last;
    encode(modulus)
}

/// The octets of the same point, but 31 of them in `x` and 33 in `y`.
fn split_elsewhere(jwk: Value) -> Value {
    let octets = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
    let point = [octets("x"), octets("y")].concat();
    let (x, y) = point.split_at(31);
    with(with(jwk, "x", encode(x)), "y", encode(y))
}

/// Each key is skipped, and the good one after it is not.
fn skipped(cases: &[(&str, Value)]) {
    for (what, jwk) in cases {
        let set = key_set(&[jwk.clone(), ed()]);
        assert_eq!((set.keys().len(), set.skipped()), (1, 1), "{what}");
    }
}

#[test]
fn keys_that_are_not_for_verification_are_skipped() {
    skipped(&[
        ("symmetric", json!({"kty": "oct", "k": "AAAA"})),
        ("private", with(ed(), "d", "AAAA")),
        ("private RSA", with(rsa(), "p", "AAAA")),
        ("for encryption", with(ed(), "use", "enc")),
        ("use is no string", with(ed(), "use", json!(["sig"]))),
        ("key_ops without verify", with(ed(), "key_ops", json!(["sign", "encrypt"]))),
        ("key_ops empty", with(ed(), "key_ops", json!([]))),
        ("key_ops is no array", with(ed(), "key_ops", "verify")),
    ]);
}

#[test]
fn keys_for_unknown_or_unfit_algorithms_are_skipped() {
    skipped(&[
        ("unknown", with(ed(), "alg", "XX256")),
        ("HMAC", with(rsa(), "alg", "HS256")),
        ("none", with(rsa(), "alg", "none")),
        ("encryption", with(rsa(), "alg", "RSA-OAEP")),
        ("another kty", with(rsa(), "alg", "ES256")),
        ("another curve", with(ec(), "alg", "ES384")),
        ("null", with(ec(), "alg", Value::Null)),
    ]);
}

#[test]
fn values_that_are_no_keys_are_skipped() {
    skipped(&[
        ("a string", json!("x")),
        ("an array", json!([ed()])),
        ("null", json!(null)),
        ("an empty object", json!({})),
        ("no kty", json!({"crv": "Ed25519", "x": ed()["x"]})),
        ("kty in another case", with(rsa(), "kty", "rsa")),
        ("kid is no string", with(ed(), "kid", 1)),
        ("n is a number", with(rsa(), "n", 5)),
        ("padded", with(ed(), "x", format!("{}=", ed()["x"].as_str().unwrap()))),
        ("standard alphabet", with(ed(), "x", "+/qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")),
    ]);
}

#[test]
fn points_that_are_not_on_their_curve_are_skipped() {
    skipped(&[
        ("P-521", with(ec(), "crv", "P-521")),
        ("secp256k1", with(ec(), "crv", "secp256k1")),
        ("no curve", json!({"kty": "EC", "x": ec()["x"], "y": ec()["y"]})),
        ("P-384 with coordinates of P-256", with(ec(), "crv", "P-384")),
        ("not on the curve", with(ec(), "y", ec()["x"].clone())),
        ("zero", with(with(ec(), "x", encode([0; 32])), "y", encode([0; 32]))),
        ("past the field", with(ec(), "x", encode([0xff; 32]))),
        ("coordinate cut", with(ec(), "x", encode([1; 31]))),
        ("coordinate too long", with(ec(), "x", encode([0; 33]))),
        ("coordinates cut at another place", split_elsewhere(ec())),
        ("no y", json!({"kty": "EC", "crv": "P-256", "x": ec()["x"]})),
        ("X25519", with(ed(), "crv", "X25519")),
        ("Ed448", with(ed(), "crv", "Ed448")),
        ("Ed25519 of small order", with(ed(), "x", encode([0; 32]))),
        ("Ed25519 identity", with(ed(), "x", encode([&[1][..], &[0; 31]].concat()))),
        ("Ed25519 cut", with(ed(), "x", encode([9; 31]))),
    ]);
}

/// Under such a key one signature fits many messages, or every verifier finds another key.
#[test]
fn ed25519_keys_of_small_order_or_in_a_second_spelling_are_skipped() {
    let spelt = |first: u8, last: u8| encode([&[first][..], &[0xff; 30], &[last]].concat());
    let of_order_eight = |low: &str| {
        let byte = |digits| u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap();
        let bytes = low.as_bytes().chunks(2).map(byte);
        encode(bytes.collect::<Vec<u8>>())
    };
    skipped(&[
        ("order 2", with(ed(), "x", spelt(0xec, 0x7f))),
        ("order 4, negative", with(ed(), "x", encode([&[0; 31][..], &[0x80]].concat()))),
        (
            "order 8",
            with(ed(), "x", of_order_eight("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")),
        ),
        (
            "order 8",
            with(ed(), "x", of_order_eight("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")),
        ),
        ("zero as the field's prime", with(ed(), "x", spelt(0xed, 0x7f))),
        ("one as the prime plus one", with(ed(), "x", spelt(0xee, 0x7f))),
        ("three as the prime plus three", with(ed(), "x", spelt(0xf0, 0x7f))),
        ("largest number", with(ed(), "x", spelt(0xff, 0xff))),
        ("identity, negative", with(ed(), "x", encode([&[1][..], &[0; 30], &[0x80]].concat()))),
    ]);
}

#[test]
fn weak_and_strange_rsa_keys_are_skipped() {
    skipped(&[
        ("1024 bits", with(rsa(), "n", modulus(0xc1, 128, 1))),
        ("2047 bits", with(rsa(), "n", modulus(0x41, 256, 1))),
        ("4097 bits", with(rsa(), "n", modulus(1, 513, 1))),
        ("huge", with(rsa(), "n", modulus(0xc1, 20_000, 1))),
        ("even", with(rsa(), "n", modulus(0xc1, 256, 2))),
        ("zero", with(rsa(), "n", encode([0; 256]))),
        ("empty", with(rsa(), "n", "")),
        ("e = 0", with(rsa(), "e", "AA")),
        ("e = 1", with(rsa(), "e", "AQ")),
        ("e = 2", with(rsa(), "e", "Ag")),
        ("e = 3", with(rsa(), "e", "Aw")),
        ("e = 65536", with(rsa(), "e", "AQAA")),
        ("e huge", with(rsa(), "e", encode([0xff; 256]))),
        ("e empty", with(rsa(), "e", "")),
    ]);
}

#[test]
fn what_issuers_add_to_their_keys_does_no_harm() {
    let leading_zero = [&[0, 0xc1][..], &[0x55; 254], &[1]].concat();
    let set = key_set(&[
        with(ed(), "use", "sig"),
        with(ed(), "key_ops", json!(["verify"])),
        with(ed(), "alg", "Ed25519"),
        with(rsa(), "n", encode(leading_zero)),
        with(rsa(), "x5c", json!(["MIIB"])),
        with(rsa(), "n", modulus(0xc1, 512, 1)),
        with(ec(), "ext", true),
    ]);
    assert_eq!((set.keys().len(), set.skipped()), (7, 0));
}

#[test]
fn documents_that_are_no_key_sets_are_refused() {
    let key = ed().to_string();
    let twice = key.replace("\"kty\"", "\"kty\":\"OKP\",\"kty\"");
    for (text, reason) in [
        (String::new(), InvalidKeySet::Malformed),
        ("[]".into(), InvalidKeySet::Malformed),
        ("<html>".into(), InvalidKeySet::Malformed),
        (format!(r#"{{"keys":[],"keys":[{key}]}}"#), InvalidKeySet::Malformed),
        (format!(r#"{{"keys":[{twice}]}}"#), InvalidKeySet::Malformed),
        (format!(r#"{{"keys":[{key}]}} x"#), InvalidKeySet::Malformed),
        (format!(r#"{{"keys":[{key},{}1{}]}}"#, "[".repeat(15), "]".repeat(15)), InvalidKeySet::Malformed),
        ("{}".into(), InvalidKeySet::NoKeys),
        (r#"{"keys":{}}"#.into(), InvalidKeySet::NoKeys),
        (r#"{"keys":null}"#.into(), InvalidKeySet::NoKeys),
        (key.clone(), InvalidKeySet::NoKeys),
        (format!(r#"{{"keys":[{key}],"x":"{}"}}"#, "x".repeat(limits::MAX_JWKS_BYTES)), InvalidKeySet::TooLong),
    ] {
        assert_eq!(KeySet::parse(text.as_bytes()), Err(reason), "{text:.80}");
    }
}

#[test]
fn the_number_of_keys_is_bounded() {
    let keys: Vec<Value> = (0..100).map(|id: u8| with(ed(), "kid", id.to_string())).collect();
    let set = key_set(&keys);
    assert_eq!((set.keys().len(), set.skipped()), (limits::MAX_KEYS_PER_ISSUER, 100 - limits::MAX_KEYS_PER_ISSUER));
    let set = key_set(&vec![keys[0].clone(); 6]);
    assert_eq!((set.keys().len(), set.skipped()), (limits::MAX_KEYS_PER_KID, 6 - limits::MAX_KEYS_PER_KID));
}

/// Nobody checks that a modulus has two prime factors, so anything odd may be one.
#[test]
fn odd_rsa_keys_and_signatures_never_panic() {
    let mut noise = (1_u32..).map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[0]);
    for bits in [2048_u32, 2049, 2050, 2055, 2056, 2057, 3071, 4095, 4096] {
        let bytes = bits.div_ceil(8) as usize;
        let mut modulus: Vec<u8> = noise.by_ref().take(bytes).collect();
        modulus[0] = 1 << ((bits - 1) % 8);
        modulus[bytes - 1] |= 1;
        let jwk = json!({"kty": "RSA", "kid": "k", "e": "AQAB", "n": encode(&modulus)});
        let keys = key_set(&[jwk]);
        assert_eq!(keys.keys().len(), 1, "{bits}");
        for algorithm in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"] {
            let header = json!({"alg": algorithm, "kid": "k"}).to_string();
            for length in [0, 1, bytes - 1, bytes, bytes + 1] {
                for fill in [0, 1, 0xff, noise.next().unwrap()] {
                    let signature = encode(vec![fill; length]);
                    let token = format!("{}.{}.{signature}", encode(&header), encode("{}"));
                    let token = CompactJws::parse(&token).unwrap();
                    assert!(
                        !PureRust.verify(&keys.keys()[0], token.algorithm(), &token),
                        "{bits} {algorithm} {length}"
                    );
                }
            }
        }
    }
}

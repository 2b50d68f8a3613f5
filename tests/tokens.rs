//! Tokens against everything that is known to have fooled verifiers, and everything that a token may look like.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test that cannot go on has failed"
)]
#![expect(clippy::arithmetic_side_effects, reason = "the numbers are in the test")]

mod support {
    pub(crate) mod issuer;
    pub(crate) mod keys;
}

use std::rc::Rc;

use hmac_sha256::HMAC;
use jwt_simple::prelude::{
    Duration, ECDSAP256KeyPairLike, ECDSAP384KeyPairLike, ES256KeyPair, ES384KeyPair, Ed25519KeyPair, EdDSAKeyPairLike,
    EdDSAPublicKeyLike, NoCustomClaims, PS256KeyPair, PS384KeyPair, PS512KeyPair, RS256KeyPair, RS256PublicKey,
    RS384KeyPair, RS512KeyPair, RSAKeyPairLike, RSAPublicKeyLike, VerificationOptions,
};
use proptest::prelude::{Strategy, any, proptest};
use serde_json::{Value, json};
use toolgate::jwt::{
    Algorithm, CompactJws, IssuerIndex, KeyRing, KeySet, KeySource, PureRust, Refusal, SignatureVerifier, TokenCache,
    TokenError, TokenType, TrustedIssuer, VerifiedToken, ecdsa_signature_to_der,
};
use toolgate::limits;
use toolgate::units::{Seconds, UnixSeconds};

use support::issuer::{
    AUDIENCE, ISSUER, NOW, access_token, claims, claims_with, claims_without, custom, encode, es256_key, header,
    header_with, jwks, key_ring, sign, sign_es256, sign_raw, sign_rs256, signature_of, trusted_issuer, verify,
    with_signature,
};
use support::keys::{ED25519_PRIVATE, P256_PRIVATE, RSA_PRIVATE, key_set, public_jwk};

fn refused(cases: &[(&str, String, TokenError)]) {
    for (what, token, reason) in cases {
        assert_eq!(verify(token).map(|_| ()), Err(Refusal::Token(*reason)), "{what}: {token}");
    }
}

fn accepted(cases: &[(&str, String)]) {
    for (what, token) in cases {
        assert_eq!(verify(token).map(|_| ()), Ok(()), "{what}: {token}");
    }
}

#[test]
fn a_good_token_says_who_may_do_what() {
    let token = verify(&sign(&header(), &claims())).unwrap();
    assert_eq!(token.issuer_index(), IssuerIndex::new(0));
    assert_eq!((token.issuer(), token.subject(), token.client_id()), (ISSUER, "user-7", Some("norg-desktop")));
    assert_eq!(token.scopes().collect::<Vec<_>>(), ["norg:contacts:read", "norg:messaging:write"]);
    assert_eq!(token.audiences().collect::<Vec<_>>(), [AUDIENCE]);
    assert_eq!((token.issued_at(), token.expires_at()), (UnixSeconds::new(NOW - 60), UnixSeconds::new(NOW + 600)));
    assert_eq!((token.lifetime(), token.token_id()), (Seconds::new(660), Some("t-1")));
    assert_eq!(serde_json::from_str::<Value>(token.claims()).unwrap(), claims());
}

#[test]
fn every_algorithm_is_accepted_from_its_key() {
    let es384 = ES384KeyPair::generate();
    let es384_jwk = serde_json::from_str(&es384.public_key().to_jwk()).unwrap();
    let (ed, ec, rsa) = (public_jwk(ED25519_PRIVATE), public_jwk(P256_PRIVATE), public_jwk(RSA_PRIVATE));
    let own = || custom(claims());
    let tokens = [
        ("EdDSA", &ed, sign(&json!({"alg": "EdDSA"}), &claims())),
        ("Ed25519", &ed, sign(&json!({"alg": "Ed25519"}), &claims())),
        ("ES256", &ec, ES256KeyPair::from_jwk(P256_PRIVATE).unwrap().sign(own()).unwrap()),
        ("ES384", &es384_jwk, es384.sign(own()).unwrap()),
        ("RS256", &rsa, RS256KeyPair::from_jwk(RSA_PRIVATE).unwrap().sign(own()).unwrap()),
        ("RS384", &rsa, RS384KeyPair::from_jwk(RSA_PRIVATE).unwrap().sign(own()).unwrap()),
        ("RS512", &rsa, RS512KeyPair::from_jwk(RSA_PRIVATE).unwrap().sign(own()).unwrap()),
        ("PS256", &rsa, PS256KeyPair::from_jwk(RSA_PRIVATE).unwrap().sign(own()).unwrap()),
        ("PS384", &rsa, PS384KeyPair::from_jwk(RSA_PRIVATE).unwrap().sign(own()).unwrap()),
        ("PS512", &rsa, PS512KeyPair::from_jwk(RSA_PRIVATE).unwrap().sign(own()).unwrap()),
    ];
    for (algorithm, jwk, token) in tokens {
        let mut for_one = jwk.clone();
        for_one["alg"] = algorithm.into();
        for jwk in [jwk, &for_one] {
            let keys = KeyRing::new([KeySource::Inline(key_set(std::slice::from_ref(jwk)))]);
            let verdict = toolgate::jwt::verify(&token, &[trusted_issuer()], &keys, &PureRust, UnixSeconds::new(NOW));
            assert_eq!(verdict.map(|token| token.subject().to_owned()), Ok("user-7".into()), "{algorithm}");
        }
    }
}

#[test]
fn tokens_without_a_signature_are_refused() {
    let stripped = |alg: &str| {
        let header = json!({"alg": alg, "kid": "ed", "typ": "at+jwt"});
        format!("{}.{}.", encode(header.to_string()), encode(claims().to_string()))
    };
    refused(&[
        ("none", stripped("none"), TokenError::AlgorithmUnsupported),
        ("None", stripped("None"), TokenError::AlgorithmUnsupported),
        ("NONE", stripped("NONE"), TokenError::AlgorithmUnsupported),
        ("nOnE", stripped("nOnE"), TokenError::AlgorithmUnsupported),
        ("no name", stripped(""), TokenError::AlgorithmUnsupported),
        ("none with blank", stripped("none "), TokenError::AlgorithmUnsupported),
        ("none, signed", sign(&header_with("alg", "none"), &claims()), TokenError::AlgorithmUnsupported),
        ("no alg", sign(&json!({"kid": "ed"}), &claims()), TokenError::AlgorithmUnsupported),
        ("empty signature", stripped("EdDSA"), TokenError::BadSignature),
        ("two segments", stripped("EdDSA").trim_end_matches('.').into(), TokenError::NotCompact),
    ]);
    for alg in ["RS256", "ES256"] {
        let header = json!({"alg": alg, "kid": if alg == "RS256" { "rsa" } else { "ec" }});
        let token = format!("{}.{}.", encode(header.to_string()), encode(claims().to_string()));
        refused(&[(alg, token, TokenError::BadSignature)]);
    }
}

#[test]
fn a_public_key_is_no_shared_secret() {
    let public = RS256PublicKey::from_jwk(&public_jwk(RSA_PRIVATE).to_string()).unwrap();
    let secrets = [public.to_pem().unwrap().into_bytes(), public.public_key().to_der().unwrap(), Vec::new()];
    for secret in secrets {
        for name in ["HS256", "HS384", "HS512"] {
            let input =
                format!("{}.{}", encode(json!({"alg": name, "kid": "rsa"}).to_string()), encode(claims().to_string()));
            let token = format!("{input}.{}", encode(HMAC::mac(input.as_bytes(), &secret)));
            refused(&[(name, token, TokenError::AlgorithmUnsupported)]);
        }
    }
}

#[test]
fn the_key_decides_about_the_algorithm() {
    let own = || custom(claims());
    let ps256 = PS256KeyPair::from_jwk(RSA_PRIVATE).unwrap().with_key_id("rsa");
    let rs512 = RS512KeyPair::from_jwk(RSA_PRIVATE).unwrap().with_key_id("rsa");
    let other = TokenError::AlgorithmOfOtherKey;
    refused(&[
        ("PS256 with a key for RS256", ps256.sign(own()).unwrap(), other),
        ("RS512 with a key for RS256", rs512.sign(own()).unwrap(), other),
        ("ES256 token with the kid of the RSA key", sign_es256(&es256_key("rsa"), claims()), other),
        ("RS256 token with the kid of the EC key", sign_rs256("ec", claims()), other),
        ("RS256 token with the kid of the Ed25519 key", sign_rs256("ed", claims()), other),
        ("ES384 named, P-256 key", sign(&json!({"alg": "ES384", "kid": "ec"}), &claims()), other),
    ]);
}

#[test]
fn algorithms_that_the_policy_does_not_name_are_refused() {
    let issuer = TrustedIssuer { algorithms: vec![Algorithm::Es256, Algorithm::Rs256], ..trusted_issuer() };
    let at = UnixSeconds::new(NOW);
    let verdict = toolgate::jwt::verify(&sign(&header(), &claims()), &[issuer], &key_ring(), &PureRust, at);
    assert_eq!(verdict.unwrap_err(), Refusal::Token(TokenError::AlgorithmNotAllowed));
}

#[test]
fn the_key_id_only_selects_among_the_issuers_keys() {
    let ids = ["", "ED", "ed ", "ed\0", "../../../../dev/null", "' OR '1'='1", "ed' UNION SELECT 'x", "| id", "ｅd"];
    for id in ids {
        let token = sign(&header_with("kid", id), &claims());
        assert_eq!(verify(&token).unwrap_err(), Refusal::UnknownKey(IssuerIndex::new(0)), "{id:?}");
    }
    refused(&[
        ("a number", sign(&header_with("kid", 1), &claims()), TokenError::HeaderMalformed),
        ("null", sign(&header_with("kid", Value::Null), &claims()), TokenError::HeaderMalformed),
        ("an array", sign(&header_with("kid", json!(["ed"])), &claims()), TokenError::HeaderMalformed),
    ]);
}

#[test]
fn without_a_key_id_there_must_be_no_choice() {
    let token = sign(&json!({"alg": "EdDSA"}), &claims());
    accepted(&[("one Ed25519 key among others", token.clone())]);
    let mut two = jwks();
    let other: Value = serde_json::from_str(&Ed25519KeyPair::generate().public_key().to_jwk()).unwrap();
    two.push(other);
    let keys = KeyRing::new([KeySource::Inline(key_set(&two))]);
    let at = UnixSeconds::new(NOW);
    let verdict = toolgate::jwt::verify(&token, &[trusted_issuer()], &keys, &PureRust, at);
    assert_eq!(verdict.unwrap_err(), Refusal::Token(TokenError::AmbiguousKey));
}

#[test]
fn keys_of_another_issuer_do_not_count() {
    let attacker = Ed25519KeyPair::generate();
    let mut jwk: Value = serde_json::from_str(&attacker.public_key().to_jwk()).unwrap();
    jwk["kid"] = "ed".into();
    let other = TrustedIssuer { issuer: "https://other.example".into(), ..trusted_issuer() };
    let keys =
        KeyRing::new([KeySource::Inline(key_set(std::slice::from_ref(&jwk))), KeySource::Inline(key_set(&jwks()))]);
    let issuers = [other, trusted_issuer()];
    let judge = |token: &str| {
        toolgate::jwt::verify(token, &issuers, &keys, &PureRust, UnixSeconds::new(NOW))
            .map(|token| token.issuer_index())
    };
    let signed_by_other = attacker.with_key_id("ed").sign_with_options(custom(claims()), &access_token()).unwrap();
    assert_eq!(judge(&signed_by_other), Err(Refusal::Token(TokenError::BadSignature)));
    assert_eq!(judge(&sign(&header(), &claims())), Ok(IssuerIndex::new(1)));
    let claims_of_other = claims_with("iss", "https://other.example");
    assert_eq!(judge(&sign(&header(), &claims_of_other)), Err(Refusal::Token(TokenError::BadSignature)));
}

#[test]
fn keys_from_the_token_are_never_used() {
    let attacker = Ed25519KeyPair::generate();
    let jwk: Value = serde_json::from_str(&attacker.public_key().to_jwk()).unwrap();
    let forge = |header: Value| {
        let input = format!("{}.{}", encode(header.to_string()), encode(claims().to_string()));
        format!("{input}.{}", encode(attacker.key_pair().as_ref().sk.sign(&input, None).as_ref()))
    };
    refused(&[
        ("jwk", forge(header_with("jwk", jwk.clone())), TokenError::EmbeddedKey),
        ("jwk, genuine signature", sign(&header_with("jwk", jwk.clone()), &claims()), TokenError::EmbeddedKey),
        ("jku", forge(header_with("jku", "https://evil.example/jwks")), TokenError::BadSignature),
        ("x5u", forge(header_with("x5u", "https://evil.example/chain")), TokenError::BadSignature),
        ("x5c", forge(header_with("x5c", json!(["MIIB"]))), TokenError::BadSignature),
        ("nothing but another key", forge(header()), TokenError::BadSignature),
        ("x5c of a wrong type", sign(&header_with("x5c", "MIIB"), &claims()), TokenError::HeaderMalformed),
        ("jku of a wrong type", sign(&header_with("jku", 1), &claims()), TokenError::HeaderMalformed),
    ]);
    let informative = json!({"alg": "EdDSA", "kid": "ed", "jku": "https://idp.norg.example/jwks", "x5t": "AAAA"});
    accepted(&[("jku for information", sign(&informative, &claims()))]);
}

#[test]
fn header_extensions_are_refused() {
    refused(&[
        ("crit", sign(&header_with("crit", json!(["exp"])), &claims()), TokenError::CriticalHeader),
        ("empty crit", sign(&header_with("crit", json!([])), &claims()), TokenError::CriticalHeader),
        ("null crit", sign(&header_with("crit", Value::Null), &claims()), TokenError::CriticalHeader),
        (
            "b64 with crit",
            sign(&json!({"alg": "EdDSA", "crit": ["b64"], "b64": false}), &claims()),
            TokenError::CriticalHeader,
        ),
        ("b64: false", sign(&header_with("b64", false), &claims()), TokenError::UnencodedPayload),
        ("cty: JWT", sign(&header_with("cty", "JWT"), &claims()), TokenError::Nested),
        ("cty: application/jwt", sign(&header_with("cty", "application/jwt"), &claims()), TokenError::Nested),
        ("nested", sign_raw(&header().to_string(), &sign(&header(), &claims())), TokenError::PayloadMalformed),
        ("typ is a number", sign(&header_with("typ", 1), &claims()), TokenError::HeaderMalformed),
        ("alg is an array", sign(&header_with("alg", json!(["EdDSA"])), &claims()), TokenError::HeaderMalformed),
    ]);
}

#[test]
fn only_access_tokens_are_access_tokens() {
    let other_types = [
        "oauth-id-jag+jwt",
        "dpop+jwt",
        "logout+jwt",
        "id_token",
        "id+jwt",
        "secevent+jwt",
        "JWS",
        "JOSE",
        "token-introspection+jwt",
        "client-authentication+jwt",
        "",
        "at+jwt ",
        "application/application/at+jwt",
        "text/at+jwt",
        "at+jwt+jwt",
    ];
    for typ in other_types {
        refused(&[(typ, sign(&header_with("typ", typ), &claims()), TokenError::WrongType)]);
    }
    for typ in ["at+jwt", "AT+JWT", "application/at+jwt", "Application/AT+jwt", "JWT", "jwt"] {
        accepted(&[(typ, sign(&header_with("typ", typ), &claims()))]);
    }
    accepted(&[("absent", sign(&json!({"alg": "EdDSA", "kid": "ed"}), &claims()))]);
}

#[test]
fn a_policy_may_insist_on_a_token_type() {
    let issuer =
        TrustedIssuer { token_types: vec![TokenType::parse("application/AT+JWT").unwrap()], ..trusted_issuer() };
    let issuers = [issuer];
    for (header, verdict) in [
        (header(), Ok(())),
        (header_with("typ", "JWT"), Err(Refusal::Token(TokenError::WrongType))),
        (json!({"alg": "EdDSA", "kid": "ed"}), Err(Refusal::Token(TokenError::WrongType))),
    ] {
        let token = sign(&header, &claims());
        let judged = toolgate::jwt::verify(&token, &issuers, &key_ring(), &PureRust, UnixSeconds::new(NOW));
        assert_eq!(judged.map(|_| ()), verdict, "{header}");
    }
    for name in ["", "at", "+jwt", "jwt ", "id_token", "application/json"] {
        assert!(TokenType::parse(name).is_err(), "{name:?}");
    }
}

#[test]
fn one_changed_bit_breaks_a_signature() {
    let tokens = [
        (sign(&header(), &claims()), 1),
        (sign_es256(&es256_key("ec"), claims()), 3),
        (sign_rs256("rsa", claims()), 29),
    ];
    for (token, step) in tokens {
        accepted(&[("as signed", token.clone())]);
        let signature = signature_of(&token);
        for bit in (0..signature.len() * 8).step_by(step) {
            let mut changed = signature.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            refused(&[("changed", with_signature(&token, &changed), TokenError::BadSignature)]);
        }
    }
}

#[test]
fn signatures_of_another_length_or_form_are_refused() {
    let order = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let order: Vec<u8> = (0..32).map(|i| u8::from_str_radix(&order[2 * i..2 * i + 2], 16).unwrap()).collect();
    let (ed, ec, rsa) =
        (sign(&header(), &claims()), sign_es256(&es256_key("ec"), claims()), sign_rs256("rsa", claims()));
    let der = ecdsa_signature_to_der(&signature_of(&ec)).unwrap();
    let (r, s) = (&signature_of(&ec)[..32], &signature_of(&ec)[32..]);
    let bad = TokenError::BadSignature;
    refused(&[
        ("psychic: r = s = 0", with_signature(&ec, &[0; 64]), bad),
        ("r = 0", with_signature(&ec, &[&[0; 32], s].concat()), bad),
        ("s = 0", with_signature(&ec, &[r, &[0; 32]].concat()), bad),
        ("r = s = order", with_signature(&ec, &[&order[..], &order].concat()), bad),
        ("r = s = 1", with_signature(&ec, &[&[0; 31][..], &[1], &[0; 31], &[1]].concat()), bad),
        ("DER", with_signature(&ec, &der), bad),
        ("r and s swapped", with_signature(&ec, &[s, r].concat()), bad),
        ("P-256 signature padded to P-384's length", with_signature(&ec, &[&[0; 16], r, &[0; 16], s].concat()), bad),
        ("Ed25519, all zero", with_signature(&ed, &[0; 64]), bad),
        ("Ed25519, identity and zero", with_signature(&ed, &[&[1][..], &[0; 63]].concat()), bad),
        ("Ed25519, cut", with_signature(&ed, &signature_of(&ed)[..63]), bad),
        ("Ed25519, longer", with_signature(&ed, &[&signature_of(&ed)[..], &[0]].concat()), bad),
        ("RSA, all zero", with_signature(&rsa, &[0; 256]), bad),
        ("RSA, one", with_signature(&rsa, &[&[0; 255][..], &[1]].concat()), bad),
        ("RSA, all ones", with_signature(&rsa, &[0xff; 256]), bad),
        ("RSA, cut", with_signature(&rsa, &signature_of(&rsa)[..255]), bad),
        ("RSA, zero before", with_signature(&rsa, &[&[0], &signature_of(&rsa)[..]].concat()), bad),
        ("RSA, zero after", with_signature(&rsa, &[&signature_of(&rsa)[..], &[0]].concat()), bad),
        ("EC signature under Ed25519", with_signature(&ed, &signature_of(&ec)), bad),
    ]);
}

/// ed25519-dalek checks, jwt-simple must not be stricter: neither takes a second signature of the same token.
#[test]
fn ed25519_signatures_have_one_form() {
    let token = sign(&header(), &claims());
    let signature = signature_of(&token);
    let (r, s) = signature.split_at(32);
    let order = [
        &[0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14][..],
        &[0; 15],
        &[0x10],
    ]
    .concat();
    let sum = |one: &[u8]| {
        let mut carry = 0;
        let digits = one.iter().zip(&order).map(|(one, other)| {
            let sum = u16::from(*one) + u16::from(*other) + carry;
            carry = sum >> 8;
            sum.to_le_bytes()[0]
        });
        digits.collect::<Vec<u8>>()
    };
    let high_bit = |bytes: &[u8]| [&bytes[..31], &[bytes[31] ^ 0x80]].concat();
    let small = |first: u8, rest: u8, last: u8| [&[first][..], &[rest; 30], &[last]].concat();
    let key = Ed25519KeyPair::from_jwk(ED25519_PRIVATE).unwrap().public_key();
    let options =
        || VerificationOptions { artificial_time: Some(Duration::from_secs(NOW)), ..VerificationOptions::default() };
    assert!(key.verify_token::<NoCustomClaims>(&token, Some(options())).is_ok() && verify(&token).is_ok());
    for (what, changed) in [
        ("S plus the order", [r, &sum(s)].concat()),
        ("S plus twice the order", [r, &sum(&sum(s))].concat()),
        ("the top bit of S", [r, &high_bit(s)].concat()),
        ("S is zero", [r, &[0; 32]].concat()),
        ("S is the order", [r, &order].concat()),
        ("-R", [&high_bit(r), s].concat()),
        ("R is the identity", [&small(1, 0, 0), s].concat()),
        ("R has order 2", [&small(0xec, 0xff, 0x7f), s].concat()),
        ("R has order 4", [&small(0, 0, 0), s].concat()),
        ("R is the identity in a second spelling", [&small(0xee, 0xff, 0x7f), s].concat()),
        ("R is no point", [&small(2, 0, 0), s].concat()),
        ("R and S swapped", [s, r].concat()),
    ] {
        let changed = with_signature(&token, &changed);
        assert!(key.verify_token::<NoCustomClaims>(&changed, Some(options())).is_err(), "{what}");
        refused(&[(what, changed, TokenError::BadSignature)]);
    }
}

#[test]
fn a_signature_covers_header_and_claims() {
    let token = sign(&header(), &claims());
    let parts: Vec<&str> = token.split('.').collect();
    let other_claims = encode(claims_with("sub", "admin").to_string());
    let other_header = encode(json!({"alg": "EdDSA", "kid": "ed"}).to_string());
    refused(&[
        ("claims", format!("{}.{other_claims}.{}", parts[0], parts[2]), TokenError::BadSignature),
        ("header", format!("{other_header}.{}.{}", parts[1], parts[2]), TokenError::BadSignature),
    ]);
}

#[test]
fn a_token_has_one_spelling() {
    let token = sign(&header(), &claims());
    let parts: Vec<&str> = token.split('.').collect();
    let rebuilt = |header: &str, claims: &str, signature: &str| format!("{header}.{claims}.{signature}");
    // 64 bytes leave four unused bits in the last character.
    let last = token.chars().last().unwrap();
    let loose = char::from_u32(u32::from(last) + 1).unwrap();
    let non_canonical = format!("{}{loose}", &token[..token.len() - 1]);
    let (encoding, compact) = (TokenError::NotBase64Url, TokenError::NotCompact);
    refused(&[
        ("padding", format!("{token}=="), encoding),
        ("padded header", rebuilt(&format!("{}=", parts[0]), parts[1], parts[2]), encoding),
        ("unused bits set", non_canonical, encoding),
        ("standard alphabet", rebuilt(parts[0], parts[1], &format!("+/{}", &parts[2][2..])), encoding),
        ("leading blank", format!(" {token}"), encoding),
        ("trailing blank", format!("{token} "), encoding),
        ("line break", rebuilt(parts[0], &format!("{}\r\n", parts[1]), parts[2]), encoding),
        ("NUL", format!("{token}\0"), encoding),
        ("one character too many", format!("{token}AAA"), encoding),
        ("unicode", rebuilt(parts[0], parts[1], "ａｂｃ"), encoding),
        ("empty header", rebuilt("", parts[1], parts[2]), TokenError::HeaderMalformed),
        ("empty claims", rebuilt(parts[0], "", parts[2]), TokenError::PayloadMalformed),
        ("empty", String::new(), compact),
        ("dots", "..".into(), TokenError::HeaderMalformed),
        ("one segment", parts[0].into(), compact),
        ("four segments", format!("{token}.{}", parts[2]), compact),
        ("trailing dot", format!("{token}."), compact),
        ("six segments", format!("{token}.a.b.c"), compact),
        ("JWE", format!("{token}.{}.{}", parts[2], parts[2]), TokenError::Encrypted),
        (
            "JSON serialisation",
            json!({"payload": parts[1], "protected": parts[0], "signature": parts[2]}).to_string(),
            compact,
        ),
        ("scheme left in", format!("Bearer {token}"), encoding),
    ]);
}

#[test]
fn size_is_bounded_before_anything_is_parsed() {
    let of_length = |length: usize| {
        let empty = sign(&header(), &claims_with("x", "")).len();
        sign(&header(), &claims_with("x", "x".repeat((length - empty) * 3 / 4)))
    };
    let longest = of_length(limits::MAX_TOKEN_BYTES - 2);
    assert!(longest.len() <= limits::MAX_TOKEN_BYTES && longest.len() > limits::MAX_TOKEN_BYTES - 8);
    accepted(&[("longest", longest)]);
    let header_of = |length: usize| header_with("x", "x".repeat(length)).to_string();
    let fitting = limits::MAX_TOKEN_HEADER_BYTES / 4 * 3 - header_of(0).len();
    accepted(&[("longest header", sign_raw(&header_of(fitting), &claims().to_string()))]);
    refused(&[
        ("longer", of_length(limits::MAX_TOKEN_BYTES + 4), TokenError::TooLong),
        ("huge", "a.".repeat(1_000_000), TokenError::TooLong),
        ("longer header", sign_raw(&header_of(fitting + 1), &claims().to_string()), TokenError::HeaderTooLong),
    ]);
}

#[test]
fn duplicate_members_are_refused() {
    let good = header().to_string();
    let claims = claims().to_string();
    let with = |text: &str, more: &str| format!("{},{more}}}", text.strip_suffix('}').unwrap());
    let duplicate = TokenError::DuplicateMember;
    refused(&[
        ("alg", sign_raw(&with(&good, r#""alg":"none""#), &claims), duplicate),
        ("alg, escaped", sign_raw(&with(&good, r#""\u0061lg":"none""#), &claims), duplicate),
        ("unused member of the header", sign_raw(&with(&good, r#""x":1,"x":1"#), &claims), duplicate),
        ("sub", sign_raw(&good, &with(&claims, r#""sub":"admin""#)), duplicate),
        ("sub, escaped", sign_raw(&good, &with(&claims, r#""s\u0075b":"admin""#)), duplicate),
        ("within a claim", sign_raw(&good, &with(&claims, r#""x":[{"y":1,"y":2}]"#)), duplicate),
    ]);
}

#[test]
fn what_is_not_one_json_object_is_refused() {
    let (good, claims) = (header().to_string(), claims().to_string());
    let deep = format!("{{\"x\":{}1{}}}", "[".repeat(16), "]".repeat(16));
    for (what, text) in [
        ("array", format!("[{claims}]")),
        ("string", "\"x\"".into()),
        ("null", "null".into()),
        ("trailing text", format!("{claims}x")),
        ("two objects", format!("{claims}{claims}")),
        ("byte order mark", format!("\u{feff}{claims}")),
        ("too deep", deep.clone()),
        ("lone surrogate", claims.replace("user-7", "\\ud800")),
        ("raw control character", claims.replace("user-7", "a\u{1}")),
        ("NaN", claims.replace(&(NOW + 600).to_string(), "NaN")),
        ("infinite", claims.replace(&(NOW + 600).to_string(), "1e999")),
        ("comment", claims.replace('{', "{/**/")),
    ] {
        refused(&[(what, sign_raw(&good, &text), TokenError::PayloadMalformed)]);
    }
    refused(&[
        ("header is an array", sign_raw("[]", &claims), TokenError::HeaderMalformed),
        ("header is too deep", sign_raw(&deep, &claims), TokenError::HeaderMalformed),
        ("header with trailing text", sign_raw(&format!("{good} x"), &claims), TokenError::HeaderMalformed),
    ]);
    let invalid = [b"{\"sub\":\"\xff\"".as_slice(), b"}"].concat();
    let token = format!("{}.{}.{}", encode(&good), encode(invalid), encode([0; 64]));
    refused(&[("not UTF-8", token, TokenError::PayloadMalformed)]);
}

#[test]
fn the_issuer_is_compared_exactly() {
    for issuer in [
        "https://idp.norg.example/",
        "https://IDP.norg.example",
        "http://idp.norg.example",
        "idp.norg.example",
        "https://idp.norg.example.evil.example",
        "https://idp.norg.exampl",
        "https://idp.norg.example#",
        "x",
        " https://idp.norg.example",
        "https://idp.norg.example:443",
    ] {
        refused(&[(issuer, sign(&header(), &claims_with("iss", issuer)), TokenError::IssuerUnknown)]);
    }
    let malformed = TokenError::ClaimMalformed("iss");
    refused(&[
        ("missing", sign(&header(), &claims_without("iss")), TokenError::ClaimMissing("iss")),
        ("null", sign(&header(), &claims_with("iss", Value::Null)), malformed),
        ("array", sign(&header(), &claims_with("iss", json!([ISSUER]))), malformed),
        ("empty", sign(&header(), &claims_with("iss", "")), malformed),
        ("control character", sign(&header(), &claims_with("iss", format!("{ISSUER}\0"))), malformed),
    ]);
    let escaped = claims().to_string().replace(ISSUER, "https:\\/\\/idp.norg.ex\\u0061mple");
    accepted(&[("escapes are the same text", sign_raw(&header().to_string(), &escaped))]);
}

#[test]
fn the_audience_is_compared_exactly() {
    for audience in [
        "https://mcp.norg.example/mcp/",
        "https://mcp.norg.example/mc",
        "https://mcp.norg.example/mcp/x",
        "*",
        "",
        "https://MCP.norg.example/mcp",
        "http://mcp.norg.example/mcp",
        "https://mcp.norg.example/",
        "norg-desktop",
        "https://mcp.norg.example/mcp https://mcp.norg.example",
    ] {
        refused(&[
            (audience, sign(&header(), &claims_with("aud", audience)), TokenError::WrongAudience),
            (audience, sign(&header(), &claims_with("aud", json!([audience, "x"]))), TokenError::WrongAudience),
        ]);
    }
    let malformed = TokenError::ClaimMalformed("aud");
    refused(&[
        ("missing", sign(&header(), &claims_without("aud")), TokenError::ClaimMissing("aud")),
        ("empty array", sign(&header(), &claims_with("aud", json!([]))), TokenError::WrongAudience),
        ("null", sign(&header(), &claims_with("aud", Value::Null)), malformed),
        ("object", sign(&header(), &claims_with("aud", json!({ AUDIENCE: true }))), malformed),
        ("not only strings", sign(&header(), &claims_with("aud", json!([AUDIENCE, 1]))), malformed),
        ("nested array", sign(&header(), &claims_with("aud", json!([[AUDIENCE]]))), malformed),
    ]);
    accepted(&[
        ("one among others", sign(&header(), &claims_with("aud", json!(["https://api.example", AUDIENCE])))),
        ("the other audience", sign(&header(), &claims_with("aud", "https://mcp.norg.example"))),
    ]);
}

#[test]
fn times_are_accepted_up_to_the_last_second_of_the_skew() {
    let skew = limits::CLOCK_SKEW.get();
    let token = |iat: u64, exp: u64| {
        let mut claims = claims_with("iat", iat);
        claims["exp"] = exp.into();
        sign(&header(), &claims)
    };
    accepted(&[
        ("just expired", token(NOW - 60, NOW - skew)),
        ("issued just ahead", token(NOW + skew, NOW + 600)),
        ("valid from just ahead", sign(&header(), &claims_with("nbf", NOW + skew))),
        ("valid for the longest time", token(NOW - 60, NOW - 60 + 3600)),
        ("valid for no time", token(NOW, NOW)),
        ("fractions are dropped", sign(&header(), &claims_with("nbf", (NOW + skew) as f64 + 0.9))),
    ]);
    refused(&[
        ("expired", token(NOW - 60, NOW - skew - 1), TokenError::Expired),
        (
            "expired with a fraction",
            sign(&header(), &claims_with("exp", (NOW - skew - 1) as f64 + 0.9)),
            TokenError::Expired,
        ),
        ("expired long ago", token(0, 1), TokenError::Expired),
        ("issued in the future", token(NOW + skew + 1, NOW + 600), TokenError::IssuedInFuture),
        ("not valid yet", sign(&header(), &claims_with("nbf", NOW + skew + 1)), TokenError::NotYetValid),
        ("valid for too long", token(NOW - 60, NOW - 60 + 3601), TokenError::LifetimeTooLong),
        ("valid for ever", token(NOW, 1 << 53), TokenError::LifetimeTooLong),
        ("expires before it is issued", token(NOW, NOW - 1), TokenError::ExpiresBeforeIssued),
    ]);
}

#[test]
fn dates_are_numbers_that_every_parser_reads_alike() {
    for name in ["exp", "iat", "nbf"] {
        let malformed = TokenError::ClaimMalformed(name);
        for (what, text) in [
            ("string", format!("\"{NOW}\"")),
            ("negative", "-1".into()),
            ("negative fraction", "-0.5".into()),
            ("smallest", "-9223372036854775808".into()),
            ("past 2^53", "9007199254740993".into()),
            ("past 2^64", "18446744073709551616".into()),
            ("1e300", "1e300".into()),
            ("null", "null".into()),
            ("true", "true".into()),
            ("array", format!("[{NOW}]")),
            ("object", "{}".into()),
        ] {
            let claims = claims_with(name, "@").to_string().replace("\"@\"", &text);
            refused(&[(what, sign_raw(&header().to_string(), &claims), malformed)]);
        }
    }
    refused(&[
        ("no exp", sign(&header(), &claims_without("exp")), TokenError::ClaimMissing("exp")),
        ("no iat", sign(&header(), &claims_without("iat")), TokenError::ClaimMissing("iat")),
    ]);
    let exponent = claims_with("exp", "@").to_string().replace("\"@\"", "1.8000006e9");
    let token = verify(&sign_raw(&header().to_string(), &exponent)).unwrap();
    assert_eq!(token.expires_at(), UnixSeconds::new(1_800_000_600));
}

#[test]
fn identities_are_plain_text() {
    let longest = "é".repeat(limits::MAX_IDENTITY_BYTES / 2);
    let bad = [
        String::new(),
        "a\nb".into(),
        "a\r\nx-admin: 1".into(),
        "a\0".into(),
        "\u{7f}".into(),
        "a\u{85}b".into(),
        "a\u{202e}nimda".into(),
        "a\u{2028}b".into(),
        "\u{2066}a".into(),
        format!("{longest}x"),
    ];
    for text in bad {
        let with = |name| sign(&header(), &claims_with(name, text.clone()));
        refused(&[
            ("sub", with("sub"), TokenError::ClaimMalformed("sub")),
            ("jti", with("jti"), TokenError::ClaimMalformed("jti")),
            ("client_id", with("client_id"), TokenError::ClientIdMalformed),
        ]);
    }
    for value in [json!(7), json!(null), json!(["user-7"]), json!({}), json!(true)] {
        let with = |name| sign(&header(), &claims_with(name, value.clone()));
        refused(&[
            ("sub", with("sub"), TokenError::ClaimMalformed("sub")),
            ("jti", with("jti"), TokenError::ClaimMalformed("jti")),
            ("nonce", with("nonce"), TokenError::ClaimMalformed("nonce")),
            ("client_id", with("client_id"), TokenError::ClientIdMalformed),
        ]);
    }
    refused(&[("no sub", sign(&header(), &claims_without("sub")), TokenError::ClaimMissing("sub"))]);
    accepted(&[
        ("longest", sign(&header(), &claims_with("sub", longest))),
        ("unicode", sign(&header(), &claims_with("sub", "Ærøskøbing 日本 🙂"))),
        ("quotes", sign(&header(), &claims_with("sub", "a\"b\\c"))),
    ]);
}

#[test]
fn the_first_client_claim_that_is_there_counts() {
    let client = |claims: &Value| verify(&sign(&header(), claims)).unwrap().client_id().map(str::to_owned);
    assert_eq!(client(&claims_with("azp", "other")).as_deref(), Some("norg-desktop"));
    let mut azp_only = claims_without("client_id");
    assert_eq!(client(&azp_only), None);
    azp_only["azp"] = "norg-web".into();
    assert_eq!(client(&azp_only).as_deref(), Some("norg-web"));
}

#[test]
fn scopes_are_a_list_or_an_array() {
    let scopes = |claims: &Value| {
        let token = verify(&sign(&header(), claims)).unwrap();
        token.scopes().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(scopes(&claims_with("scope", "a b a")), ["a", "b"]);
    assert_eq!(scopes(&claims_with("scope", json!(["a", "b:c"]))), ["a", "b:c"]);
    assert_eq!(scopes(&claims_with("scope", "")), [""; 0]);
    assert_eq!(scopes(&claims_without("scope")), [""; 0]);
    assert_eq!(scopes(&claims_with("scp", "other"))[0], "norg:contacts:read");
    let mut scp = claims_without("scope");
    scp["scp"] = json!(["a", "b"]);
    assert_eq!(scopes(&scp), ["a", "b"]);
    for value in [
        json!("a  b"),
        json!(" a"),
        json!("a "),
        json!("a\tb"),
        json!("a\nb"),
        json!("a\"b"),
        json!("a\\b"),
        json!("é"),
        json!(["a b"]),
        json!([""]),
        json!(["a", 1]),
        json!([["a"]]),
        json!(1),
        json!(null),
        json!(true),
        json!({"a": true}),
    ] {
        refused(&[("scope", sign(&header(), &claims_with("scope", value)), TokenError::ScopesMalformed)]);
    }
}

#[test]
fn sender_constrained_tokens_are_no_bearer_tokens() {
    for confirmation in [json!({"jkt": "x"}), json!({"x5t#S256": "x"}), json!({}), json!(null)] {
        refused(&[("cnf", sign(&header(), &claims_with("cnf", confirmation)), TokenError::SenderConstrained)]);
    }
}

#[test]
fn debug_output_quotes_nothing_of_a_token() {
    let token = sign(&header(), &claims_with("sub", "s3cret-subject\n"));
    let refusal = format!("{:?}", verify(&token));
    assert!(!refusal.contains("s3cret") && !refusal.contains(&token), "{refusal}");
    let token = sign(&header(), &claims_with("sub", "s3cret-subject"));
    let verified = format!("{:?} {:?}", verify(&token).unwrap(), CompactJws::parse(&token).unwrap());
    assert!(!verified.contains("s3cret") && !verified.contains("norg-desktop"), "{verified}");
}

/// Accepts every signature, and counts how often it was asked.
#[derive(Default)]
struct Gullible(std::cell::Cell<usize>);

impl SignatureVerifier for Gullible {
    fn verify(&self, _: &toolgate::jwt::VerificationKey, _: Algorithm, _: &CompactJws<'_>) -> bool {
        self.0.set(self.0.get() + 1);
        true
    }
}

#[test]
fn signatures_are_checked_last_and_once() {
    let verifier = Gullible::default();
    let judge = |token: &str| {
        toolgate::jwt::verify(token, &[trusted_issuer()], &key_ring(), &verifier, UnixSeconds::new(NOW)).map(|_| ())
    };
    for claims in [claims_with("aud", "x"), claims_with("exp", 1), claims_without("sub"), claims_with("iss", "x")] {
        assert!(judge(&sign(&header(), &claims)).is_err());
    }
    assert!(judge(&sign(&header_with("kid", "?"), &claims())).is_err());
    assert_eq!(verifier.0.get(), 0);
    assert_eq!(judge(&sign(&header(), &claims())), Ok(()));
    assert_eq!(verifier.0.get(), 1);
}

#[test]
fn keys_with_the_same_id_are_all_tried() {
    let mut set = jwks();
    let mut other: Value = serde_json::from_str(&Ed25519KeyPair::generate().public_key().to_jwk()).unwrap();
    other["kid"] = "ed".into();
    set.insert(0, other);
    let keys = KeyRing::new([KeySource::Inline(key_set(&set))]);
    let token = sign(&header(), &claims());
    let verdict = toolgate::jwt::verify(&token, &[trusted_issuer()], &keys, &PureRust, UnixSeconds::new(NOW));
    assert!(verdict.is_ok());
}

proptest! {
    #[test]
    fn no_text_makes_verification_panic(text in "\\PC{0,200}") {
        assert!(verify(&text).is_err());
        assert!(KeySet::parse(text.as_bytes()).is_err());
    }

    #[test]
    fn no_bytes_make_verification_panic(
        header in any::<Vec<u8>>(), payload in any::<Vec<u8>>(), signature in any::<Vec<u8>>(),
    ) {
        assert!(verify(&format!("{}.{}.{}", encode(&header), encode(&payload), encode(&signature))).is_err());
        let good = support::issuer::header().to_string();
        assert!(verify(&format!("{}.{}.{}", encode(good), encode(&payload), encode(&signature))).is_err());
    }

    #[test]
    fn no_claims_make_verification_panic(name in claim_names(), value in json_values()) {
        let token = sign(&header(), &claims_with(&name, value.clone()));
        drop(verify(&token));
        drop(verify(&sign(&header_with(&name, value), &claims())));
    }
}

fn claim_names() -> impl Strategy<Value = String> {
    proptest::sample::select(vec![
        "iss",
        "sub",
        "aud",
        "exp",
        "iat",
        "nbf",
        "jti",
        "nonce",
        "scope",
        "scp",
        "client_id",
        "azp",
        "kid",
        "typ",
        "alg",
        "salt",
        "cty",
        "x5t",
        "x5t#S256",
        "jku",
        "x5u",
        "x5c",
        "zip",
        "enc",
        "",
    ])
    .prop_map(str::to_owned)
}

fn json_values() -> impl Strategy<Value = Value> {
    proptest::prop_oneof![
        any::<f64>().prop_map(|number| json!(number)),
        any::<i64>().prop_map(|number| json!(number)),
        any::<u64>().prop_map(|number| json!(number)),
        ".*".prop_map(|text| json!(text)),
        proptest::collection::vec(".{0,8}", 0..4).prop_map(|texts| json!(texts)),
        any::<bool>().prop_map(|truth| json!(truth)),
    ]
}

/// A key ring that fetched the issuer's keys at [`NOW`].
fn fetched_key_ring() -> KeyRing {
    let source = KeySource::Fetched { refresh: Seconds::new(300), max_stale: Seconds::new(500) };
    let mut keys = KeyRing::new([source]);
    assert!(keys.install(IssuerIndex::new(0), key_set(&jwks()), UnixSeconds::new(NOW)));
    keys
}

fn cached(keys: &KeyRing) -> (TokenCache<VerifiedToken>, String, Rc<VerifiedToken>) {
    let token = sign(&header(), &claims());
    let verified = toolgate::jwt::verify(&token, &[trusted_issuer()], keys, &PureRust, UnixSeconds::new(NOW)).unwrap();
    let mut cache = TokenCache::new();
    let verified = Rc::new(verified);
    cache.insert(&token, Rc::clone(&verified), keys);
    (cache, token, verified)
}

#[test]
fn a_cached_token_is_found_until_it_expires() {
    let keys = key_ring();
    let (mut cache, token, verified) = cached(&keys);
    let last = UnixSeconds::new(NOW + 600).plus(limits::CLOCK_SKEW);
    let late = last.plus(Seconds::new(1));
    let found = cache.get(&token, &keys, last).unwrap();
    assert!(Rc::ptr_eq(&found, &verified));
    assert!(cache.get(&format!("{token}x"), &keys, last).is_none());
    assert!(cache.get(&token, &keys, late).is_none());
    assert!(cache.is_empty());
}

#[test]
fn a_cached_token_is_not_used_before_its_time() {
    let keys = key_ring();
    let (mut cache, token, _) = cached(&keys);
    let early = UnixSeconds::new(NOW - 60 - 31);
    assert!(cache.get(&token, &keys, UnixSeconds::new(NOW)).is_some());
    assert!(cache.get(&token, &keys, early).is_none());
}

/// The place of a token depends on the end of its signature only.
#[test]
fn a_token_with_the_signature_of_a_cached_one_is_not_found() {
    let keys = key_ring();
    let (mut cache, token, _) = cached(&keys);
    let (rest, signature) = token.rsplit_once('.').unwrap();
    let (header, payload) = rest.split_once('.').unwrap();
    let other = encode(claims_with("sub", "user-1").to_string());
    for forged in [
        format!("{header}.{other}.{signature}"),
        format!("x{token}"),
        format!("{}.{payload}.{signature}", &header[1..]),
        signature[signature.len() - 64..].to_owned(),
        String::new(),
    ] {
        assert!(cache.get(&forged, &keys, UnixSeconds::new(NOW)).is_none(), "{forged}");
    }
    assert!(cache.get(&token, &keys, UnixSeconds::new(NOW)).is_some());
}

#[test]
fn a_cached_token_does_not_outlive_its_keys() {
    let mut keys = fetched_key_ring();
    let (issuer, at) = (IssuerIndex::new(0), UnixSeconds::new(NOW + 400));
    let (mut cache, token, _) = cached(&keys);
    assert!(!keys.install(issuer, key_set(&jwks()), UnixSeconds::new(NOW + 300)));
    assert!(cache.get(&token, &keys, at).is_some(), "the same keys again");
    let mut rotated = jwks();
    rotated.remove(0);
    assert!(keys.install(issuer, key_set(&rotated), UnixSeconds::new(NOW + 310)));
    assert!(cache.get(&token, &keys, at).is_none(), "the key is gone");
    let verdict = toolgate::jwt::verify(&token, &[trusted_issuer()], &keys, &PureRust, at);
    assert_eq!(verdict.unwrap_err(), Refusal::UnknownKey(issuer));
}

#[test]
fn a_cached_token_is_refused_when_the_keys_are_too_old() {
    let keys = fetched_key_ring();
    let (mut cache, token, _) = cached(&keys);
    assert!(cache.get(&token, &keys, UnixSeconds::new(NOW + 500)).is_some());
    let late = UnixSeconds::new(NOW + 501);
    assert!(cache.get(&token, &keys, late).is_none());
    let verdict = toolgate::jwt::verify(&token, &[trusted_issuer()], &keys, &PureRust, late);
    assert_eq!(verdict.unwrap_err(), Refusal::NoKeys(IssuerIndex::new(0)));
}

#[test]
fn the_cache_is_bounded_in_number_and_bytes() {
    let keys = key_ring();
    let (mut cache, token, verified) = cached(&keys);
    for i in 0..limits::MAX_CACHED_TOKENS {
        cache.get(&token, &keys, UnixSeconds::new(NOW));
        cache.insert(&i.to_string(), Rc::clone(&verified), &keys);
    }
    assert_eq!(cache.len(), limits::MAX_CACHED_TOKENS);
    assert!(cache.get(&token, &keys, UnixSeconds::new(NOW)).is_some(), "used all the time");
    assert!(cache.get("0", &keys, UnixSeconds::new(NOW)).is_none(), "used longest ago");
    let long = "x".repeat(limits::MAX_TOKEN_BYTES);
    for i in 0..3000 {
        cache.insert(&format!("{long}{i}"), Rc::clone(&verified), &keys);
    }
    let fitting = limits::MAX_CACHED_TOKEN_BYTES / limits::MAX_TOKEN_BYTES;
    assert!((fitting - fitting / 5..=fitting).contains(&cache.len()), "{cache:?}");
    let before = cache.len();
    for _ in 0..2000 {
        cache.insert(&long, Rc::clone(&verified), &keys);
    }
    assert!(cache.len() >= before, "the same token again takes no more room: {cache:?}");
}

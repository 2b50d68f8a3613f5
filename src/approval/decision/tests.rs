use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jwt_simple::prelude::{
    ECDSAP256KeyPairLike, ES256KeyPair, Ed25519KeyPair, EdDSAKeyPairLike, HeaderOptions, JWTClaims,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::jwt::PureRust;

/// RFC 8037 appendix A.1: published as an example, so good for tests only.
const ED25519: &str = r#"{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
/// RFC 7515 appendix A.3.1.
const P256: &str = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"}"#;

const ISSUER: &str = "https://approvals.norg.example";
const AUDIENCE: &str = "https://mcp.norg.example/mcp";
const POLICY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const ID: &str = "Zm9vYmFyYmF6cXV4-_0123";
const NOW: u64 = 1_800_000_000;
const NONCE: Nonce = Nonce::new([0xab; 16]);

fn keys() -> KeySet {
    let public = |private: &str, id: &str| {
        let mut jwk: Value = serde_json::from_str(private).unwrap();
        jwk.as_object_mut().unwrap().remove("d");
        jwk["kid"] = id.into();
        jwk
    };
    let set = json!({"keys": [public(ED25519, "ed"), public(P256, "ec")]});
    KeySet::parse(set.to_string().as_bytes()).unwrap()
}

fn header() -> Value {
    json!({"alg": "EdDSA", "kid": "ed", "typ": "approval+jwt"})
}

fn approver() -> Value {
    json!({"iss": "https://idp.norg.example", "sub": "bob", "roles": ["automation_admin"], "at": NOW - 5})
}

fn grant() -> Value {
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "iat": NOW - 1, "exp": NOW + 59, "jti": "j-1", "approval_id": ID,
        "binding": "07".repeat(32), "policy": POLICY, "status": "approved", "nonce": "ab".repeat(16), "step": 0,
        "approvers": [approver()], "escalated": false,
    })
}

fn verdict() -> Value {
    let mut claims = grant();
    let members = claims.as_object_mut().unwrap();
    members.remove("nonce");
    members.remove("step");
    members.extend([("status".to_owned(), "rejected".into()), ("exp".to_owned(), (NOW + 119).into())]);
    members.insert("reason".to_owned(), "not today".into());
    claims
}

fn with(mut claims: Value, name: &str, value: impl Into<Value>) -> Value {
    claims[name] = value.into();
    claims
}

fn without(mut claims: Value, name: &str) -> Value {
    claims.as_object_mut().unwrap().remove(name).unwrap();
    claims
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn sign_raw(header: &str, payload: &str) -> String {
    let key = Ed25519KeyPair::from_jwk(ED25519).unwrap();
    let input = format!("{}.{}", encode(header), encode(payload));
    let signature = key.key_pair().as_ref().sk.sign(&input, None);
    format!("{input}.{}", encode(signature.as_ref()))
}

fn sign(header: &Value, claims: &Value) -> String {
    sign_raw(&header.to_string(), &claims.to_string())
}

fn sign_es256(kid: &str, claims: Value) -> String {
    let key = ES256KeyPair::from_jwk(P256).unwrap().with_key_id(kid);
    let mut own = JWTClaims::new();
    own.custom = claims;
    let options = HeaderOptions { signature_type: Some("approval+jwt".into()), ..HeaderOptions::default() };
    key.sign_with_options(own, &options).unwrap()
}

/// What the gateway says to both kinds of decision at [`NOW`].
fn judge(text: &str) -> (Result<Grant, DecisionError>, Result<Verdict, DecisionError>) {
    let (keys, id, binding) = (keys(), ApprovalId::parse(ID).unwrap(), BindingDigest::new([7; 32]));
    let trust = Trust { issuer: ISSUER, keys: &keys, verifier: &PureRust };
    let expected = Expected { audience: AUDIENCE, id: &id, binding: &binding, policy: POLICY };
    let consumption = Consumption { nonce: NONCE, step: 0, requester: "alice" };
    let now = UnixSeconds::new(NOW);
    (verify_grant(text, &trust, &expected, &consumption, now), verify_verdict(text, &trust, &expected, now))
}

fn judge_grant(claims: &Value) -> Result<Grant, DecisionError> {
    judge(&sign(&header(), claims)).0
}

fn judge_verdict(claims: &Value) -> Result<Verdict, DecisionError> {
    judge(&sign(&header(), claims)).1
}

#[test]
fn a_grant_is_a_proof_and_says_who_approved() {
    for text in [sign(&header(), &grant()), sign_es256("ec", grant())] {
        let grant = judge(&text).0.unwrap();
        assert_eq!((grant.id().as_str(), grant.step(), grant.escalated()), (ID, 0, false));
        let bob = Approver {
            issuer: "https://idp.norg.example".into(),
            subject: "bob".into(),
            roles: vec!["automation_admin".into()],
            at: UnixSeconds::new(NOW - 5),
        };
        assert_eq!(grant.approvers(), [bob]);
        assert_eq!(judge(&text).1, Err(DecisionError::WrongStatus));
    }
}

#[test]
fn a_verdict_lets_nothing_through() {
    let text = sign(&header(), &verdict());
    assert_eq!(judge(&text).0, Err(DecisionError::Lifetime));
    let rejected = judge(&text).1.unwrap();
    assert_eq!((rejected.ended, rejected.reason.as_deref()), (Ended::Rejected, Some("not today")));
    for (status, ended) in [("expired", Ended::Expired), ("cancelled", Ended::Cancelled)] {
        let mut claims = without(with(verdict(), "status", status), "reason");
        claims["approvers"] = json!([]);
        claims["escalated"] = true.into();
        let verdict = judge_verdict(&claims).unwrap();
        assert_eq!(verdict, Verdict { ended, approvers: vec![], escalated: true, reason: None });
        // Not even with everything else that a grant has.
        for (name, value) in [("nonce", json!("ab".repeat(16))), ("step", json!(0)), ("exp", json!(NOW + 50))] {
            claims[name] = value;
        }
        assert_eq!(judge_grant(&claims), Err(DecisionError::WrongStatus));
    }
    for status in ["approved", "Approved", "pending", "consumed", "", "rejected "] {
        assert_eq!(judge_verdict(&with(verdict(), "status", status)), Err(DecisionError::WrongStatus), "{status}");
    }
}

#[test]
fn every_field_that_is_bound_is_compared() {
    for (name, value, expected) in [
        ("iss", json!("https://approvals.norg.example/"), DecisionError::WrongIssuer),
        ("aud", json!("https://mcp.norg.example/mcp/"), DecisionError::WrongAudience),
        ("iat", json!(NOW + 31), DecisionError::IssuedInFuture),
        ("nbf", json!(NOW + 31), DecisionError::IssuedInFuture),
        ("exp", json!(NOW + 60), DecisionError::Lifetime),
        ("exp", json!(NOW - 2), DecisionError::Lifetime),
        ("exp", json!(u64::MAX), DecisionError::Lifetime),
        ("approval_id", json!("Zm9vYmFyYmF6cXV4-_0124"), DecisionError::Mismatch("approval_id")),
        ("binding", json!("08".repeat(32)), DecisionError::Mismatch("binding")),
        ("binding", json!(""), DecisionError::Mismatch("binding")),
        ("policy", json!(POLICY.to_uppercase()), DecisionError::Mismatch("policy")),
        ("status", json!("rejected"), DecisionError::WrongStatus),
        ("status", json!("APPROVED"), DecisionError::WrongStatus),
        ("nonce", json!("ac".repeat(16)), DecisionError::Replayed("nonce")),
        ("nonce", json!("AB".repeat(16)), DecisionError::Replayed("nonce")),
        ("nonce", json!(""), DecisionError::Replayed("nonce")),
        ("step", json!(1), DecisionError::Replayed("step")),
        ("step", json!(256), DecisionError::Replayed("step")),
        ("jti", json!(""), DecisionError::Claim("jti")),
        ("approvers", json!([]), DecisionError::Claim("approvers")),
        ("approvers", json!([approver(), approver()]), DecisionError::Claim("approvers")),
        ("approvers", json!([with(approver(), "sub", "alice")]), DecisionError::OwnRequest),
        ("approvers", json!([approver(), with(approver(), "sub", "alice")]), DecisionError::OwnRequest),
        ("approvers", json!([with(approver(), "sub", "")]), DecisionError::Claim("approvers")),
        ("approvers", json!([with(approver(), "iss", "")]), DecisionError::Claim("approvers")),
        ("approvers", json!([with(approver(), "roles", json!([]))]), DecisionError::Claim("approvers")),
        ("approvers", json!([with(approver(), "roles", json!([""]))]), DecisionError::Claim("approvers")),
        ("approvers", json!([without(approver(), "at")]), DecisionError::Claim("*")),
        ("approvers", json!([["https://idp.norg.example", "bob", ["r"], NOW]]), DecisionError::Claim("*")),
        ("approvers", json!("bob"), DecisionError::Claim("*")),
        ("escalated", json!("false"), DecisionError::Claim("*")),
        ("aud", json!([AUDIENCE]), DecisionError::Claim("*")),
        ("step", json!(0.5), DecisionError::Claim("*")),
    ] {
        assert_eq!(judge_grant(&with(grant(), name, value.clone())), Err(expected), "{name}: {value}");
    }
    for name in grant().as_object().unwrap().keys() {
        let expected = match name.as_str() {
            "nonce" => DecisionError::Replayed("nonce"),
            "step" => DecisionError::Replayed("step"),
            _ => DecisionError::Claim("*"),
        };
        assert_eq!(judge_grant(&without(grant(), name)), Err(expected), "{name}");
        for wrong in [json!(null), json!(-1), json!({}), json!([[]])] {
            assert!(judge_grant(&with(grant(), name, wrong.clone())).is_err(), "{name}: {wrong}");
        }
    }
}

#[test]
fn times_have_a_tolerance_of_the_clock_skew() {
    let at = |iat: u64, exp: u64| judge_grant(&with(with(grant(), "iat", iat), "exp", exp)).map(drop);
    assert_eq!(at(NOW + 30, NOW + 90), Ok(()));
    assert_eq!(at(NOW + 31, NOW + 91), Err(DecisionError::IssuedInFuture));
    assert_eq!(at(NOW - 90, NOW - 30), Ok(()));
    assert_eq!(at(NOW - 91, NOW - 31), Err(DecisionError::Expired));
    assert_eq!(at(0, u64::MAX), Err(DecisionError::Lifetime));
    assert_eq!(at(u64::MAX, u64::MAX), Err(DecisionError::IssuedInFuture));
    let at = |iat: u64, exp: u64| judge_verdict(&with(with(verdict(), "iat", iat), "exp", exp)).map(drop);
    assert_eq!(at(NOW, NOW + 120), Ok(()));
    assert_eq!(at(NOW, NOW + 121), Err(DecisionError::Lifetime));
}

#[test]
fn only_pinned_keys_sign() {
    for (name, value, expected) in [
        ("typ", json!("JWT"), DecisionError::WrongType),
        ("typ", json!("at+jwt"), DecisionError::WrongType),
        ("alg", json!("none"), DecisionError::AlgorithmNotAccepted),
        ("alg", json!("HS256"), DecisionError::AlgorithmNotAccepted),
        ("alg", json!("RS256"), DecisionError::AlgorithmNotAccepted),
        ("alg", json!("ES384"), DecisionError::AlgorithmNotAccepted),
        ("alg", json!("ES256"), DecisionError::AlgorithmOfOtherKey),
        ("kid", json!("ec"), DecisionError::AlgorithmOfOtherKey),
        ("kid", json!("eD"), DecisionError::KeyUnknown),
        ("kid", json!(""), DecisionError::KeyUnknown),
        ("kid", json!(5), DecisionError::Malformed),
        ("jwk", json!({}), DecisionError::Malformed),
        ("crit", json!(["exp"]), DecisionError::Malformed),
        ("b64", json!(false), DecisionError::Malformed),
    ] {
        let text = sign(&with(header(), name, value.clone()), &grant());
        assert_eq!(judge(&text).0, Err(expected), "{name}: {value}");
        assert_eq!(judge(&text).1, Err(expected), "{name}: {value}");
    }
    for (name, expected) in [
        ("typ", DecisionError::WrongType),
        ("alg", DecisionError::AlgorithmNotAccepted),
        ("kid", DecisionError::KeyMissing),
    ] {
        assert_eq!(judge(&sign(&without(header(), name), &grant())).0, Err(expected), "{name}");
    }
    assert_eq!(judge(&sign_es256("ed", grant())).0, Err(DecisionError::AlgorithmOfOtherKey));
    // Nobody's keys are good for nothing.
    let empty = Trust { issuer: ISSUER, keys: &KeySet::default(), verifier: &PureRust };
    let token = sign(&header(), &grant());
    let token = CompactJws::parse(&token).unwrap();
    assert_eq!(check_signature(&token, &empty), Err(DecisionError::KeyUnknown));
}

#[test]
fn unsigned_decisions_and_shared_secrets_are_refused() {
    let public = Ed25519KeyPair::from_jwk(ED25519).unwrap().public_key();
    for secret in [public.to_bytes(), public.to_der(), public.to_pem().into_bytes()] {
        let input = format!("{}.{}", encode(with(header(), "alg", "HS256").to_string()), encode(grant().to_string()));
        let text = format!("{input}.{}", encode(hmac_sha256::HMAC::mac(input.as_bytes(), &secret)));
        assert_eq!(judge(&text).0, Err(DecisionError::AlgorithmNotAccepted));
    }
    let unsigned =
        |alg: &str| format!("{}.{}.", encode(with(header(), "alg", alg).to_string()), encode(grant().to_string()));
    assert_eq!(judge(&unsigned("none")).0, Err(DecisionError::AlgorithmNotAccepted));
    assert_eq!(judge(&unsigned("EdDSA")).0, Err(DecisionError::BadSignature));
    let good = sign(&header(), &grant());
    let (input, _) = good.rsplit_once('.').unwrap();
    for signature in [vec![0; 64], vec![0; 63], vec![]] {
        assert_eq!(judge(&format!("{input}.{}", encode(signature))).0, Err(DecisionError::BadSignature));
    }
    // The signature of another decision.
    let other = sign(&header(), &with(grant(), "step", 1));
    let swapped = format!("{input}.{}", other.rsplit_once('.').unwrap().1);
    assert_eq!(judge(&swapped).0, Err(DecisionError::BadSignature));
}

#[test]
fn what_could_be_read_in_two_ways_is_malformed() {
    let claims = grant().to_string();
    let rest = claims.strip_prefix('{').unwrap();
    for (header, payload) in [
        (header().to_string(), format!(r#"{{"status":"rejected",{rest}"#)),
        (header().to_string(), format!(r#"{{"st\u0061tus":"rejected",{rest}"#)),
        (header().to_string(), format!(r#"{{"x":{{"a":1,"a":2}},{rest}"#)),
        (header().to_string(), format!("{claims} 1")),
        (header().to_string(), claims[..5].to_owned()),
        (header().to_string(), format!(r#"{{"x":{}{},{rest}"#, "[".repeat(20), "]".repeat(20))),
        (header().to_string().replacen('{', r#"{"kid":"x","#, 1), claims.clone()),
        ("[]".to_owned(), claims.clone()),
    ] {
        let judged = judge(&sign_raw(&header, &payload)).0;
        assert_eq!(judged, Err(DecisionError::Malformed), "{header} {payload}");
    }
    for text in ["", ".", "..", "a.b", "a.b.c.d.e", "é.é.é", "{}"] {
        assert_eq!(judge(text).0.unwrap_err().reason(), Reason::Malformed, "{text}");
    }
    let long = sign(&header(), &with(grant(), "x", "x".repeat(limits::MAX_DECISION_BYTES)));
    assert_eq!(judge(&long).0, Err(DecisionError::TooLong));
    // Members that nobody knows say nothing.
    assert!(judge_grant(&with(grant(), "x", json!({"a": [1]}))).is_ok());
}

#[test]
fn reasons_and_people_are_bounded() {
    let reason = |chars: usize| judge_verdict(&with(verdict(), "reason", "é".repeat(chars))).map(drop);
    assert_eq!(reason(limits::MAX_APPROVAL_REASON_CHARS), Ok(()));
    assert_eq!(reason(limits::MAX_APPROVAL_REASON_CHARS + 1), Err(DecisionError::Claim("reason")));
    let people = |count: usize| {
        let person = |number| with(approver(), "sub", format!("p{number}"));
        judge_grant(&with(grant(), "approvers", (0..count).map(person).collect::<Vec<_>>())).map(drop)
    };
    assert_eq!(people(limits::MAX_APPROVERS), Ok(()));
    assert_eq!(people(limits::MAX_APPROVERS + 1), Err(DecisionError::Claim("approvers")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// One character changed, dropped or put in, at any place.
    #[test]
    fn no_change_is_believed(place in any::<prop::sample::Index>(), other in "[A-Za-z0-9_.-]", how in 0..3) {
        let text = sign(&header(), &grant());
        let at = place.index(text.len());
        let changed = match how {
            0 => format!("{}{other}{}", &text[..at], &text[at + 1..]),
            1 => format!("{}{}", &text[..at], &text[at + 1..]),
            _ => format!("{}{other}{}", &text[..at], &text[at..]),
        };
        prop_assume!(changed != text);
        prop_assert!(judge(&changed).0.is_err());
    }
}

//! The core as WebAssembly: the decision corpus, and a signature of each kind, in Node.
#![cfg(all(target_family = "wasm", target_os = "unknown"))]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]
#![expect(clippy::arithmetic_side_effects, reason = "the numbers are in the test")]

mod support {
    pub(crate) mod corpus;
    #[expect(dead_code, reason = "the corpus needs a part of it")]
    pub(crate) mod gateway;
    #[expect(dead_code, reason = "the corpus needs a part of it")]
    pub(crate) mod issuer;
    pub(crate) mod keys;
}

use toolgate::jwt::{Refusal, TokenError};
use wasm_bindgen_test::wasm_bindgen_test;

use support::corpus::{FILES, Theme};
use support::issuer::{claims, es256_key, header, sign, sign_es256, sign_rs256, signature_of, verify, with_signature};

#[wasm_bindgen_test]
fn every_case_of_the_corpus_is_decided_as_written() {
    for (theme, text) in FILES {
        let failures = Theme::parse(text).failures();
        assert!(failures.is_empty(), "{theme}: {}", failures.join("\n"));
    }
}

#[wasm_bindgen_test]
fn good_signatures_are_accepted_and_broken_ones_refused() {
    let tokens = [
        ("EdDSA", sign(&header(), &claims())),
        ("ES256", sign_es256(&es256_key("ec"), claims())),
        ("RS256", sign_rs256("rsa", claims())),
    ];
    for (algorithm, token) in tokens {
        assert_eq!(verify(&token).unwrap().subject(), "user-7", "{algorithm}");
        let mut signature = signature_of(&token);
        signature[9] ^= 1;
        let broken = with_signature(&token, &signature);
        assert_eq!(verify(&broken).unwrap_err(), Refusal::Token(TokenError::BadSignature), "{algorithm}");
    }
}

//! Signature checks by the host where it can, in the module where it cannot.
//!
//! BoringSSL verifies RS256 about twenty times faster than WebAssembly does. Its foreign function knows PKCS#1 v1.5 and
//! ECDSA with a digest, not PSS and not Ed25519. Some proxies are built with another library: so it has to prove itself
//! on known answers before it is trusted.

use std::borrow::Cow;

use super::abi;
use crate::jwt::{Algorithm, CompactJws, KeySet, PureRust, SignatureVerifier, VerificationKey, ecdsa_signature_to_der};

/// The verifier of a virtual machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verifier {
    host_is_trusted: bool,
}

impl Verifier {
    /// Tries the host on known answers.
    pub(super) fn tested() -> Self {
        Self { host_is_trusted: host_knows_the_answers().unwrap_or(false) }
    }

    /// What checks signatures, for the log.
    pub(super) const fn name(self) -> &'static str {
        if self.host_is_trusted { "host (RS*, ES*), module (PS*, EdDSA)" } else { "module" }
    }
}

impl SignatureVerifier for Verifier {
    fn verify(&self, key: &VerificationKey, algorithm: Algorithm, token: &CompactJws<'_>) -> bool {
        let by_host = if self.host_is_trusted { verify_by_host(key, algorithm, token) } else { None };
        by_host.unwrap_or_else(|| PureRust.verify(key, algorithm, token))
    }
}

/// The host's answer; `None` when it has none for this algorithm.
fn verify_by_host(key: &VerificationKey, algorithm: Algorithm, token: &CompactJws<'_>) -> Option<bool> {
    let (digest, signature) = match algorithm {
        Algorithm::Rs256 => ("sha256", Cow::Borrowed(token.signature())),
        Algorithm::Rs384 => ("sha384", Cow::Borrowed(token.signature())),
        Algorithm::Rs512 => ("sha512", Cow::Borrowed(token.signature())),
        Algorithm::Es256 => ("sha256", Cow::Owned(ecdsa_signature_to_der(token.signature())?)),
        Algorithm::Es384 => ("sha384", Cow::Owned(ecdsa_signature_to_der(token.signature())?)),
        Algorithm::Ps256 | Algorithm::Ps384 | Algorithm::Ps512 | Algorithm::EdDsa => return None,
    };
    // message VerifySignatureArguments of envoy/extensions/common/wasm/foreign.cc
    let fields = [digest.as_bytes(), key.subject_public_key_info(), &signature, token.signing_input().as_bytes()];
    let length = fields.iter().fold(0, |sum, field| field.len().saturating_add(FIELD_OVERHEAD).saturating_add(sum));
    let mut arguments = Vec::with_capacity(length);
    (1..).zip(fields).for_each(|(number, content)| field(&mut arguments, number, content));
    let result = abi::call_foreign_function("verify_signature", &arguments).ok()?;
    // message VerifySignatureResult { bool result = 1; string error = 2; }
    Some(result == [0x08, 0x01])
}

/// A tag of one byte, and a length of three at most, as a token has 16 KiB at most.
const FIELD_OVERHEAD: usize = 4;

/// Appends a length-delimited protobuf field.
fn field(message: &mut Vec<u8>, number: u8, content: &[u8]) {
    message.push(number << 3 | 2);
    let mut length = content.len();
    while length >= 0x80 {
        message.push(0x80 | (length & 0x7f).to_le_bytes()[0]);
        length >>= 7;
    }
    message.push(length.to_le_bytes()[0]);
    message.extend_from_slice(content);
}

/// Whether the host accepts good signatures and refuses bad ones, for both kinds of keys.
fn host_knows_the_answers() -> Option<bool> {
    let keys = KeySet::parse(KEYS.as_bytes()).ok()?;
    let mut right = true;
    for token in [RS256, ES256] {
        let good = CompactJws::parse(token).ok()?;
        let altered = token.replacen(".eyJz", ".eyJt", 1);
        let bad = CompactJws::parse(&altered).ok()?;
        let key = keys.keys().iter().find(|key| key.key_id() == good.key_id())?;
        right &= verify_by_host(key, good.algorithm(), &good) == Some(true);
        right &= verify_by_host(key, bad.algorithm(), &bad) == Some(false);
    }
    Some(right)
}

/// Public keys of the self-test; the private ones were thrown away.
const KEYS: &str = "\
    {\"keys\":[{\"kty\":\"RSA\",\"kid\":\"r\",\"alg\":\"RS256\",\"n\":\"lvlNOdXsMxwLDtwB_D7RO9dc2wul0gVZ\
    2JLNuqu8ftI0eO6rUnlrDmF9ECcn95Lt_5W6X2d7B7rAuizm5bpb5uq1Cjc2XWNPv7Wb2k4EO3emqkV7qj2Q6QG_zfZR7IjlCBm0\
    s91O4enfDinKWwho8ja13DWOZAPfJn3Ikrdvf4OjJxHysb_m8ENTGWhrAaiK-CImQs0Y5sd9K271M-Yk-68sKHfgrRTML6OiiFq0\
    NzrTcqEKGo7F3JY-Zm5QkqE7RNhgSqkE2bFoPqh-e2rWvruW5-QrqagpS5N0Sg4R-myn5MGAgjzgs0uCkPuf2bg1iTcQMEFP4Q2v\
    XSHPXlZ8Aw\",\"e\":\"AQAB\"},{\"kty\":\"EC\",\"crv\":\"P-256\",\"kid\":\"e\",\"alg\":\"ES256\",\"x\"\
    :\"im-5MSin7QXzg9MAc2uTMZmsWTMzVlBIgr0Q-OXSygw\",\"y\":\"yaMSJ06EYejVTA2QVz70_W_fWSphS-L9eYWLlW8SfUk\
    \"}]}";

/// A token signed with the first key.
const RS256: &str = "\
    eyJhbGciOiJSUzI1NiIsImtpZCI6InIifQ.eyJzZWxmIjoidGVzdCJ9.DN_PpA7ifaTT40WyYPI4-Qq4B3bQuZ0PR9RUxm8sEwmw\
    v6XXyEU7aY7igP8qbAiYvnnCR9uPjZx6tE3oyIUjo9OMo_sAmd2XnXDQOcogK_BPoNgO0o6_opEofjnqamg-1xankvLm9W2eYxIL\
    fI973I9BA3o5RS3jfi0cixDj0kSX1DwYBClzpOl5FCb5Zg-kC6n5flyl1wSCntEy3xKymE3_5XvXUrxQMSoEvY8QWGljSnZp6Oqh\
    xP0etcHfNf6t8tUH9MAiREmaaew4Urv53Tm53JElUqH4IbuYCEv1sMoX830_JrlwyZVutx0LymcRIJDY5EbWYqvUKKZYHp1msw";

/// A token signed with the second key.
const ES256: &str = "\
    eyJhbGciOiJFUzI1NiIsImtpZCI6ImUifQ.eyJzZWxmIjoidGVzdCJ9.N7juJR_5RWZJg1IrjO5oLdlb2cVXKYguqtdtckfKQUwL\
    rEXR13-CBkmdKT17fY0K_1qSsxZL3YdgaOzO2j1uvQ";

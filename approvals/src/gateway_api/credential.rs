//! Which gateway asks, by its bearer token.

use hmac_sha256::HMAC;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::config::{ConfigError, Gateway, Secret};
use crate::service::GatewayIdentity;

/// Characters of a token, at least.
const MIN_TOKEN: usize = 32;

/// The gateways that may ask.
#[derive(Debug)]
pub(super) struct Gateways {
    /// Makes digests of this process: comparing them tells nothing of the tokens.
    key: [u8; 32],
    known: Vec<([u8; 32], GatewayIdentity)>,
}

impl Gateways {
    pub(super) fn load(gateways: &[Gateway]) -> Result<Self, ConfigError> {
        let mut key = [0; 32];
        let problem = |_| ConfigError::Unusable("gateways".to_owned(), "there is no randomness".to_owned());
        getrandom::fill(&mut key).map_err(problem)?;
        let mut known: Vec<([u8; 32], GatewayIdentity)> = Vec::new();
        for Gateway { name, token_env, audiences } in gateways {
            let token = Secret::from_env(token_env, MIN_TOKEN)?;
            let digest = HMAC::mac(token.expose(), key);
            if known.iter().any(|(other, _)| *other == digest) {
                return Err(ConfigError::Secret(token_env.clone(), "is the token of another gateway too"));
            }
            known.push((digest, GatewayIdentity { name: name.clone(), audiences: audiences.clone() }));
        }
        Ok(Self { key, known })
    }

    /// The gateway whose token this is. Takes the same time for every token of a length.
    pub(super) fn identify(&self, headers: &HeaderMap) -> Option<&GatewayIdentity> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (value, None) = (values.next()?, values.next()) else { return None };
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let mut mac = HMAC::new(self.key);
        mac.update(token);
        let mut found = None;
        for (digest, identity) in &self.known {
            if mac.clone().finalize_verify(digest) {
                found = Some(identity);
            }
        }
        found
    }
}

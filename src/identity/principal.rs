//! The caller of a request.

use std::rc::Rc;

use crate::http::header_value;
use crate::jwt::VerifiedToken;
use crate::limits;
use crate::policy::{ScopeCatalogue, ScopeSet};

/// A caller, as a verified token describes it.
#[derive(Debug)]
pub struct Principal {
    token: Rc<VerifiedToken>,
    granted: ScopeSet,
}

impl Principal {
    /// The principal of a token under a policy's scopes.
    pub fn new(token: Rc<VerifiedToken>, scopes: &ScopeCatalogue) -> Self {
        let granted = scopes.granted(token.scopes());
        Self { token, granted }
    }

    /// The token that proves who it is.
    pub fn token(&self) -> &VerifiedToken {
        &self.token
    }

    /// Everything that its token grants.
    pub fn granted(&self) -> &ScopeSet {
        &self.granted
    }

    /// The headers that tell the upstream who is calling; `None` when one of them would be too long to be told whole.
    pub fn identity_headers(&self) -> Option<Vec<(&'static str, String)>> {
        let scopes = self.token.scopes().map(header_value).collect::<Option<Vec<_>>>()?.join(" ");
        if scopes.len() > limits::MAX_HEADER_VALUE_BYTES {
            return None;
        }
        let mut headers = vec![
            ("x-toolgate-issuer", header_value(self.token.issuer())?),
            ("x-toolgate-subject", header_value(self.token.subject())?),
        ];
        if let Some(client) = self.token.client_id() {
            headers.push(("x-toolgate-client", header_value(client)?));
        }
        headers.push(("x-toolgate-scopes", scopes));
        Some(headers)
    }
}

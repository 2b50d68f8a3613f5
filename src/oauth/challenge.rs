//! `WWW-Authenticate` challenges (RFC 6750 section 3, RFC 9728 section 5.1).

use crate::units::Seconds;

/// What is wrong with a credential, in the terms of RFC 6750 section 3.1 and RFC 9470 section 3.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ChallengeError {
    /// 401: the token is expired, forged, or not for this resource.
    InvalidToken(String),
    /// 400: not a request that could carry a token properly.
    InvalidRequest(String),
    /// 403: a token with more scopes would do.
    InsufficientScope(String),
    /// 401: a token from another authentication of the person would do (RFC 9470 section 3).
    InsufficientUserAuthentication {
        /// What is asked for, in words.
        text: String,
        /// Accepted authentication context classes, separated by blanks; empty for any.
        acr_values: String,
        /// Longest time since the authentication.
        max_age: Option<Seconds>,
    },
}

impl ChallengeError {
    /// The `error` code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::InvalidToken(_) => "invalid_token",
            Self::InvalidRequest(_) => "invalid_request",
            Self::InsufficientScope(_) => "insufficient_scope",
            Self::InsufficientUserAuthentication { .. } => "insufficient_user_authentication",
        }
    }

    /// The HTTP status that goes with it.
    pub const fn status(&self) -> u16 {
        match self {
            Self::InvalidToken(_) | Self::InsufficientUserAuthentication { .. } => 401,
            Self::InvalidRequest(_) => 400,
            Self::InsufficientScope(_) => 403,
        }
    }

    /// The text for `error_description`.
    pub fn description(&self) -> &str {
        match self {
            Self::InvalidToken(text)
            | Self::InvalidRequest(text)
            | Self::InsufficientScope(text)
            | Self::InsufficientUserAuthentication { text, .. } => text,
        }
    }
}

/// A challenge of the `Bearer` scheme.
#[derive(Clone, Debug)]
pub struct Challenge<'a> {
    /// Where the protected resource metadata is.
    pub metadata_url: &'a str,
    /// Scopes to ask for, separated by blanks; empty to leave the parameter out.
    pub scope: &'a str,
    /// What is wrong; `None` when no credential was sent at all.
    pub error: Option<&'a ChallengeError>,
}

impl Challenge<'_> {
    /// The value of the `WWW-Authenticate` header.
    pub fn header_value(&self) -> String {
        let mut value = String::from("Bearer ");
        let mut separator = "";
        let mut parameter = |name: &str, text: &str| {
            value.push_str(separator);
            value.push_str(name);
            value.push_str("=\"");
            // RFC 6750 allows visible ASCII and blanks but neither quote nor backslash in these values.
            value.extend(text.chars().map(|c| if matches!(c, ' '..='~') && c != '"' && c != '\\' { c } else { '?' }));
            value.push('"');
            separator = ", ";
        };
        if let Some(error) = self.error {
            parameter("error", error.code());
            parameter("error_description", error.description());
        }
        if let Some(ChallengeError::InsufficientUserAuthentication { acr_values, max_age, .. }) = self.error {
            if !acr_values.is_empty() {
                parameter("acr_values", acr_values);
            }
            if let Some(max_age) = max_age {
                parameter("max_age", &max_age.get().to_string());
            }
        }
        if !self.scope.is_empty() {
            parameter("scope", self.scope);
        }
        parameter("resource_metadata", self.metadata_url);
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_names_the_metadata_and_nothing_else_when_nothing_was_sent() {
        let challenge = Challenge { metadata_url: "https://h/.well-known/x", scope: "", error: None };
        assert_eq!(challenge.header_value(), "Bearer resource_metadata=\"https://h/.well-known/x\"");
    }

    #[test]
    fn no_text_breaks_out_of_its_quotes() {
        let error = ChallengeError::InvalidToken("a\", scope=\"root\\\r\nX: y é".to_owned());
        let challenge = Challenge { metadata_url: "u", scope: "a b", error: Some(&error) };
        assert_eq!(
            challenge.header_value(),
            "Bearer error=\"invalid_token\", error_description=\"a?, scope=?root???X: y ?\", scope=\"a b\", \
             resource_metadata=\"u\""
        );
    }
}

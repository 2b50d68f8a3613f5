//! Why somebody is not signed in.

/// Why somebody is not signed in. The text is for the log; people are told less.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum SignInError {
    /// The provider cannot be reached, or does not answer as one.
    #[error("the provider: {0}")]
    Unavailable(String),
    /// The provider must not be used as it is.
    #[error("the provider cannot be used: {0}")]
    Unfit(String),
    /// The provider did not sign the person in.
    #[error("the provider refused: {0}")]
    Refused(String),
    /// The answer belongs to no sign-in of this browser, or to one that took too long.
    #[error("the answer belongs to no sign-in of this browser")]
    Unknown,
    /// What the provider says cannot be relied on.
    #[error("the token cannot be accepted: {0}")]
    Token(String),
    /// The session does not fit into a cookie.
    #[error("the person has too many or too long roles for a session")]
    TooLarge,
    /// The system has no randomness, or a key cannot be used.
    #[error("the service cannot make a session")]
    Internal,
}

//! Why a policy does not load.

/// A defect of a policy document: where it is, what is wrong, what to do.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("policy: `{path}`: {problem}; {remedy}")]
pub struct ConfigError {
    /// JSON path of the field, such as `rules[2].scopes[0]`.
    pub path: String,
    /// What is wrong with it.
    pub problem: String,
    /// What would make it right.
    pub remedy: String,
}

impl ConfigError {
    /// An error at `path`.
    pub fn new(path: impl Into<String>, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { path: path.into(), problem: problem.into(), remedy: remedy.into() }
    }
}

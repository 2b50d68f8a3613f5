//! Session keys: named in the document, held in environment variables.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::ConfigError;
use super::check::within;
use super::document::{SessionKeyDocument, SessionsDocument};
use crate::limits;
use crate::session::{KeyProblem, SessionKey, SessionKeys};
use crate::units::Seconds;

/// Looks up an environment variable. A policy is public, so that no secret is written in it.
pub type Variables<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Name of the key that needs no `sessions` section.
const DEFAULT_ID: &str = "k1";
/// The variable that holds it.
const DEFAULT_VARIABLE: &str = "TOOLGATE_SESSION_KEY";

/// `openssl rand -base64 32` writes the padding, other tools do not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// How to make a key.
const MAKE_ONE: &str =
    "set it to the output of `openssl rand -base64 32`, the same for every proxy that shares sessions";

pub(super) fn session_keys(
    document: Option<SessionsDocument>,
    variables: &Variables<'_>,
) -> Result<SessionKeys, ConfigError> {
    let is_asked_for = document.is_some();
    let SessionsDocument { keys, max_age } = document.unwrap_or_default();
    let max_age = max_age.unwrap_or(limits::DEFAULT_SESSION_AGE);
    within("sessions.max_age", max_age, Seconds::new(1), limits::MAX_SESSION_AGE)?;
    let keys = match keys {
        Some(keys) => listed(&keys, variables)?,
        None => match variables(DEFAULT_VARIABLE) {
            Some(text) => vec![key("sessions", DEFAULT_ID, DEFAULT_VARIABLE, &text)?],
            // Without the section the servers may have no sessions.
            None if is_asked_for => return Err(unset("sessions", DEFAULT_VARIABLE)),
            None => Vec::new(),
        },
    };
    SessionKeys::new(keys, max_age).map_err(|(index, problem)| {
        ConfigError::new(format!("sessions.keys[{index}].id"), problem.to_string(), "give each key an id of its own")
    })
}

fn listed(documents: &[SessionKeyDocument], variables: &Variables<'_>) -> Result<Vec<SessionKey>, ConfigError> {
    if documents.is_empty() || documents.len() > limits::MAX_SESSION_KEYS {
        let remedy = format!("list 1 to {} keys, or leave the field out", limits::MAX_SESSION_KEYS);
        return Err(ConfigError::new("sessions.keys", "no usable list of keys", remedy));
    }
    let load = |(index, document): (usize, &SessionKeyDocument)| {
        let path = format!("sessions.keys[{index}]");
        let SessionKeyDocument { id, env } = document;
        let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if env.is_empty() || !is_name(env) {
            let remedy = "name a variable; the key itself does not belong into the policy";
            return Err(ConfigError::new(format!("{path}.env"), "is not the name of an environment variable", remedy));
        }
        if documents.iter().take(index).any(|other| other.env == *env) {
            return Err(ConfigError::new(format!("{path}.env"), "is listed twice", "give each key its own variable"));
        }
        let text = variables(env).ok_or_else(|| unset(&format!("{path}.env"), env))?;
        key(&path, id, env, &text)
    };
    documents.iter().enumerate().map(load).collect()
}

fn unset(path: &str, variable: &str) -> ConfigError {
    let remedy = format!("{MAKE_ONE}, and pass it on in `vm_config.environment_variables`");
    ConfigError::new(path, format!("the environment variable `{variable}` is not set"), remedy)
}

/// Errors never show what the variable holds.
fn key(path: &str, id: &str, variable: &str, text: &str) -> Result<SessionKey, ConfigError> {
    let of_variable = |problem: &str| {
        ConfigError::new(path, format!("the key in the environment variable `{variable}` {problem}"), MAKE_ONE)
    };
    let secret = BASE64.decode(text.trim()).map_err(|_| of_variable("is not base64"))?;
    SessionKey::new(id, &secret).map_err(|problem| match problem {
        KeyProblem::Id | KeyProblem::Repeated => {
            ConfigError::new(format!("{path}.id"), problem.to_string(), "give it a short name such as `k1`")
        }
        KeyProblem::TooShort | KeyProblem::TooLong => of_variable(&problem.to_string()),
    })
}

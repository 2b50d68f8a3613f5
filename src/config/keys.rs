//! Keys: named in the document, held in environment variables.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::ConfigError;
use super::document::KeyDocument;
use crate::keys::{KeyProblem, NamedKey, distinct};
use crate::limits;

/// Looks up an environment variable. A policy is public, so that no secret is written in it.
pub type Variables<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Name of the key that needs no entry in a list.
const DEFAULT_ID: &str = "k1";

/// `openssl rand -base64 32` writes the padding, other tools do not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// How to make a key.
const MAKE_ONE: &str =
    "set it to the output of `openssl rand -base64 32`, the same for every proxy that shares what it is for";

/// The keys of a list, `<section>.keys`, which must not be empty.
pub(super) fn listed(
    section: &str,
    documents: &[KeyDocument],
    variables: &Variables<'_>,
) -> Result<Vec<NamedKey>, ConfigError> {
    let all = format!("{section}.keys");
    if documents.is_empty() || documents.len() > limits::MAX_KEYS {
        let remedy = format!("list 1 to {} keys, or leave the field out", limits::MAX_KEYS);
        return Err(ConfigError::new(all, "no usable list of keys", remedy));
    }
    let load = |(index, document): (usize, &KeyDocument)| {
        let path = format!("{all}[{index}]");
        let KeyDocument { id, env } = document;
        check_variable(&format!("{path}.env"), env)?;
        if documents.iter().take(index).any(|other| other.env == *env) {
            return Err(ConfigError::new(format!("{path}.env"), "is listed twice", "give each key its own variable"));
        }
        let text = variables(env).ok_or_else(|| unset(&format!("{path}.env"), env))?;
        key(&path, id, env, &text)
    };
    let keys: Vec<NamedKey> = documents.iter().enumerate().map(load).collect::<Result<_, _>>()?;
    distinct(&keys).map_err(|(index, problem)| {
        ConfigError::new(format!("{all}[{index}].id"), problem.to_string(), "give each key an id of its own")
    })?;
    Ok(keys)
}

/// The key in `variable`, if that is set; its errors are at `path`.
pub(super) fn default(path: &str, variable: &str, variables: &Variables<'_>) -> Result<Option<NamedKey>, ConfigError> {
    variables(variable).map(|text| key(path, DEFAULT_ID, variable, &text)).transpose()
}

/// The name of an environment variable.
pub(super) fn check_variable(path: &str, name: &str) -> Result<(), ConfigError> {
    if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Ok(());
    }
    let remedy = "name a variable; the key itself does not belong into the policy";
    Err(ConfigError::new(path, "is not the name of an environment variable", remedy))
}

/// A key that must be there and is not.
pub(super) fn unset(path: &str, variable: &str) -> ConfigError {
    let remedy = format!("{MAKE_ONE}, and pass it on in `vm_config.environment_variables`");
    ConfigError::new(path, format!("the environment variable `{variable}` is not set"), remedy)
}

/// Errors never show what the variable holds.
fn key(path: &str, id: &str, variable: &str, text: &str) -> Result<NamedKey, ConfigError> {
    let of_variable = |problem: &str| {
        ConfigError::new(path, format!("the key in the environment variable `{variable}` {problem}"), MAKE_ONE)
    };
    let secret = BASE64.decode(text.trim()).map_err(|_| of_variable("is not base64"))?;
    NamedKey::new(id, &secret).map_err(|problem| match problem {
        KeyProblem::Id | KeyProblem::Repeated => {
            ConfigError::new(format!("{path}.id"), problem.to_string(), "give it a short name such as `k1`")
        }
        KeyProblem::TooShort | KeyProblem::TooLong => of_variable(&problem.to_string()),
    })
}

//! Keys of seals: named on the command line, held in environment variables.

use std::str::FromStr;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use toolgate::audit::seal::mac;
use toolgate::keys::{KeyProblem, NamedKey};

use super::line::Envelope;

/// Looks up an environment variable.
pub type Variables<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Longest name of a key, in bytes.
const MAX_ID_BYTES: usize = 32;

/// `openssl rand -base64 32` writes the padding, other tools do not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A key as the command line names it: `ID=VARIABLE`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyArgument {
    /// Name of the key.
    pub id: String,
    /// Name of the environment variable that holds it.
    pub variable: String,
}

impl Default for KeyArgument {
    /// The key of a filter whose policy names none.
    fn default() -> Self {
        Self { id: "k1".to_owned(), variable: "TOOLGATE_AUDIT_KEY".to_owned() }
    }
}

impl FromStr for KeyArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let problem = "write ID=VARIABLE: the name of the key, and of the environment variable that holds it";
        let (id, variable) = text.split_once('=').ok_or(problem)?;
        let is_id = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        let is_variable = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let is_fine = (1..=MAX_ID_BYTES).contains(&id.len()) && id.bytes().all(is_id);
        if !is_fine || variable.is_empty() || !variable.bytes().all(is_variable) {
            return Err(problem.to_owned());
        }
        Ok(Self { id: id.to_owned(), variable: variable.to_owned() })
    }
}

/// A key that cannot be used. What the variable holds is never shown.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyError {
    /// There is no such variable.
    #[error("the environment variable `{variable}` is not set: it must hold the audit key `{id}`, in base64")]
    Unset {
        /// Name of the key.
        id: String,
        /// Name of the variable.
        variable: String,
    },
    /// What it holds is no key.
    #[error("the environment variable `{variable}` {problem}: the filter's own value of it is needed")]
    Unusable {
        /// Name of the variable.
        variable: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Two keys have one name.
    #[error("the key `{0}` is given twice: give each key one variable")]
    Repeated(String),
}

/// Whether a record is sealed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Seal {
    /// It is, as it stands.
    Valid,
    /// It is not: it was changed, or sealed with another key of the same name.
    Wrong,
    /// There is no key of that name.
    UnknownKey,
}

/// The keys of a log; at least one.
#[derive(Clone, Debug)]
pub struct Keys {
    first: NamedKey,
    others: Vec<NamedKey>,
}

impl Keys {
    /// The keys that `arguments` name; without any, the default one.
    ///
    /// # Errors
    /// When one of them is not set or of no use.
    pub fn load(arguments: &[KeyArgument], variables: &Variables<'_>) -> Result<Self, KeyError> {
        let Some((first, others)) = arguments.split_first() else {
            return Ok(Self { first: load(&KeyArgument::default(), variables)?, others: Vec::new() });
        };
        let mut keys = Self { first: load(first, variables)?, others: Vec::with_capacity(others.len()) };
        for argument in others {
            if keys.find(&argument.id).is_some() {
                return Err(KeyError::Repeated(argument.id.clone()));
            }
            keys.others.push(load(argument, variables)?);
        }
        Ok(keys)
    }

    /// The key that seals what this command writes: the first one.
    pub const fn first(&self) -> &NamedKey {
        &self.first
    }

    fn find(&self, id: &str) -> Option<&NamedKey> {
        std::iter::once(&self.first).chain(&self.others).find(|key| key.id() == id)
    }

    /// Whether the key `id` has sealed the record of `envelope`.
    pub fn check(&self, envelope: &Envelope<'_>, id: &str) -> Seal {
        match self.find(id) {
            Some(key) if mac(key, envelope.record.as_bytes()) == envelope.mac => Seal::Valid,
            Some(_) => Seal::Wrong,
            None => Seal::UnknownKey,
        }
    }
}

fn load(argument: &KeyArgument, variables: &Variables<'_>) -> Result<NamedKey, KeyError> {
    let KeyArgument { id, variable } = argument;
    let unusable = |problem| KeyError::Unusable { variable: variable.clone(), problem };
    let text = variables(variable).ok_or_else(|| KeyError::Unset { id: id.clone(), variable: variable.clone() })?;
    let secret = BASE64.decode(text.trim()).map_err(|_| unusable("is not base64"))?;
    NamedKey::new(id, &secret).map_err(|problem| match problem {
        KeyProblem::TooShort => unusable("holds fewer than 32 bytes"),
        KeyProblem::TooLong => unusable("holds more than 1024 bytes"),
        KeyProblem::Id | KeyProblem::Repeated => unusable("belongs to a name that is not one"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(name: &str) -> Option<String> {
        let value = match name {
            "TOOLGATE_AUDIT_KEY" => "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=",
            "UNPADDED" => "QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI\n",
            "SHORT" => "QUFB",
            "ODD" => "not base64!",
            _ => return None,
        };
        Some(value.to_owned())
    }

    fn load(arguments: &[&str]) -> Result<Keys, KeyError> {
        let arguments: Vec<KeyArgument> = arguments.iter().map(|text| text.parse().unwrap()).collect();
        Keys::load(&arguments, &variables)
    }

    #[test]
    fn a_key_seals_what_it_sealed() {
        let keys = load(&[]).unwrap();
        let mac = mac(keys.first(), b"{}");
        let envelope = Envelope { mac: mac.into(), personal: None, record: "{}".into() };
        assert_eq!(keys.check(&envelope, "k1"), Seal::Valid);
        assert_eq!(keys.check(&envelope, "k2"), Seal::UnknownKey);
        assert_eq!(load(&["k1=UNPADDED"]).unwrap().check(&envelope, "k1"), Seal::Wrong);
    }

    #[test]
    fn a_key_that_cannot_be_used_is_named_and_not_shown() {
        let message = |arguments: &[&str]| load(arguments).unwrap_err().to_string();
        assert!(message(&["k2=NOWHERE"]).contains("`NOWHERE` is not set"));
        assert!(message(&["k2=SHORT"]).contains("`SHORT` holds fewer than 32 bytes"));
        let odd = message(&["k2=ODD"]);
        assert!(odd.contains("`ODD` is not base64") && !odd.contains("base64!"));
        assert!(message(&["k=UNPADDED", "k=UNPADDED"]).contains("`k` is given twice"));
    }

    #[test]
    fn a_secret_on_the_command_line_is_refused() {
        for text in ["k1", "=X", "k1=", "k1=QUFBQUFBQUFBQUFBQUFBQQ==", "k 1=X"] {
            assert!(text.parse::<KeyArgument>().is_err(), "{text}");
        }
    }
}

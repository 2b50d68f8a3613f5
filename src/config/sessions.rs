//! How sessions are bound to their callers.

use super::check::within;
use super::document::SessionsDocument;
use super::{ConfigError, Variables, keys};
use crate::limits;
use crate::session::SessionKeys;
use crate::units::Seconds;

/// The variable that holds the key that needs no `sessions` section.
const DEFAULT_VARIABLE: &str = "TOOLGATE_SESSION_KEY";

pub(super) fn session_keys(
    document: Option<SessionsDocument>,
    variables: &Variables<'_>,
) -> Result<SessionKeys, ConfigError> {
    let is_asked_for = document.is_some();
    let SessionsDocument { keys, max_age } = document.unwrap_or_default();
    let max_age = max_age.unwrap_or(limits::DEFAULT_SESSION_AGE);
    within("sessions.max_age", max_age, Seconds::new(1), limits::MAX_SESSION_AGE)?;
    let keys = match keys {
        Some(keys) => keys::listed("sessions", &keys, variables)?,
        None => match keys::default("sessions", DEFAULT_VARIABLE, variables)? {
            Some(key) => vec![key],
            // Without the section the servers may have no sessions.
            None if is_asked_for => return Err(keys::unset("sessions", DEFAULT_VARIABLE)),
            None => Vec::new(),
        },
    };
    SessionKeys::new(keys, max_age).map_err(|(index, problem)| {
        ConfigError::new(format!("sessions.keys[{index}].id"), problem.to_string(), "give each key an id of its own")
    })
}

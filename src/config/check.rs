//! Checks that several parts of a policy share. Each error has the JSON path.

use super::ConfigError;
use crate::oauth::ScopeCatalogue;
use crate::units::Seconds;

/// Checks every element of a list, under its JSON path.
pub(super) fn each(
    path: &str,
    elements: &[String],
    check: impl Fn(String, &str) -> Result<(), ConfigError>,
) -> Result<(), ConfigError> {
    elements.iter().enumerate().try_for_each(|(index, element)| check(format!("{path}[{index}]"), element))
}

/// A scope that is declared under `scopes`.
pub(super) fn known_scope(catalogue: &ScopeCatalogue, path: String, name: &str) -> Result<(), ConfigError> {
    if catalogue.contains(name) {
        return Ok(());
    }
    Err(ConfigError::new(path, format!("unknown scope `{name}`"), "declare it under `scopes` or correct its name"))
}

/// A list that means something: not empty, and no empty element.
pub(super) fn non_empty(path: &str, elements: &[String]) -> Result<(), ConfigError> {
    if !elements.is_empty() && elements.iter().all(|element| !element.is_empty()) {
        return Ok(());
    }
    Err(ConfigError::new(path, "is empty or has an empty element", "list at least one, or leave the field out"))
}

/// A time within bounds.
pub(super) fn within(path: &str, value: Seconds, least: Seconds, most: Seconds) -> Result<(), ConfigError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::new(path, format!("{value} is out of bounds"), format!("choose a value from {least} to {most}")))
}

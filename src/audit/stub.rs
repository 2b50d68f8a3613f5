//! Stand-ins until redaction and outcomes are merged.
#![expect(missing_docs, clippy::all, reason = "stub")]
use super::record::ResponseStatus;
use serde_json::Value;
use std::collections::BTreeMap;
#[derive(Clone, Debug, Default)]
pub struct Redaction;
#[derive(Clone, Debug, Default)]
pub struct ToolRedaction;
impl Redaction {
    pub fn of_tool(&self, _: &str) -> Option<&ToolRedaction> {
        None
    }
}
impl ToolRedaction {
    pub fn apply(&self, _: &str, _: &Pseudonyms, _: &str) -> BTreeMap<String, Value> {
        BTreeMap::new()
    }
}
#[derive(Clone, Debug)]
pub struct Pseudonyms;
impl Pseudonyms {
    pub fn new(_: &[u8], _: &str) -> Self {
        Self
    }
    pub fn digest(&self, _: &[u8]) -> String {
        String::new()
    }
    pub fn of(&self, _: &str, _: &str) -> String {
        String::new()
    }
}
#[derive(Clone, Debug, Default)]
pub struct Outcomes;
impl Outcomes {
    pub fn of_tool(&self, _: &str) -> &[(String, String)] {
        &[]
    }
}
#[derive(Debug)]
pub struct OutcomePicker;
impl OutcomePicker {
    pub fn new(_: &[(String, String)], _: &str) -> Self {
        Self
    }
    pub fn feed(&mut self, _: &[u8]) {}
    pub fn message(&mut self, _: &[u8]) {}
    pub fn finish(self) -> Outcome {
        Outcome { status: ResponseStatus::Success, fields: BTreeMap::new() }
    }
}
#[derive(Debug)]
pub struct Outcome {
    pub status: ResponseStatus,
    pub fields: BTreeMap<String, Value>,
}

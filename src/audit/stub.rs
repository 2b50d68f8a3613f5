//! Stand-ins until outcomes are merged.
#![expect(missing_docs, clippy::all, reason = "stub")]
use super::record::ResponseStatus;
use serde_json::Value;
use std::collections::BTreeMap;
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

//! The published JSON Schemas, of the policy document and of audit records, are those of the code.
//!
//! `UPDATE_SCHEMA=1 cargo test --features schema --test schema` writes them anew.
#![cfg(all(feature = "schema", not(target_family = "wasm")))]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

use schemars::{JsonSchema, Schema, schema_for};
use toolgate::audit::record::{Personal, Record};

/// One record of the audit trail: a line of canonical JSON (RFC 8785).
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is looked at")]
struct AuditRecord<'a> {
    /// The seal over `record`: base64url of its HMAC-SHA-256 with the key `record.chain.key`.
    mac: String,
    /// What is about people; absent where nothing is.
    personal: Option<PersonalPart<'a>>,
    /// What never changes.
    record: Record<'a>,
}

/// What is about people, or what is left of it.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is looked at")]
enum PersonalPart<'a> {
    /// As it was written.
    Written(Box<Personal<'a>>),
    /// It was erased.
    Erased {
        /// The `id` of the record of that.
        erased: String,
    },
}

fn is_published(name: &str, schema: &Schema) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    let text = format!("{}\n", serde_json::to_string_pretty(schema).unwrap());
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let published = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(published == text, "docs/{name} is old: run with UPDATE_SCHEMA=1");
}

#[test]
fn the_published_schema_of_policies_is_the_one_of_the_code() {
    is_published("policy.schema.json", &schema_for!(toolgate::config::PolicyDocument));
}

#[test]
fn the_published_schema_of_records_is_the_one_of_the_code() {
    is_published("audit-record.schema.json", &schema_for!(AuditRecord<'static>));
}

//! The published JSON Schema of the policy document is the one of the code.
//!
//! `UPDATE_SCHEMA=1 cargo test --features schema --test schema` writes it anew.
#![cfg(all(feature = "schema", not(target_family = "wasm")))]

use std::path::Path;

#[test]
fn the_published_schema_is_the_one_of_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/policy.schema.json");
    let schema = schemars::schema_for!(toolgate::config::PolicyDocument);
    let text = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let published = std::fs::read_to_string(&path).unwrap();
    assert!(published == text, "docs/policy.schema.json is old: run with UPDATE_SCHEMA=1");
}

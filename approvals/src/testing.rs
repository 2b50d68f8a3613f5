//! What unit tests of more than one module need.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::clock::Clock;
use crate::config::Config;
use crate::domain::{Ballot, Choice, Person, Request};
use crate::service::{Approvals, GatewayIdentity};
use crate::signing::{KeyKind, generate};

#[path = "../tests/support/database.rs"]
pub(crate) mod database;

pub(crate) const AUDIENCE: &str = "https://mcp.test/mcp";
pub(crate) const ISSUER: &str = "https://idp.test";

/// The same test on both databases.
macro_rules! on_both {
    ($($name:ident)*) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")] async fn $name() {
                super::$name(crate::testing::database::Which::Sqlite).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")] async fn $name() {
                super::$name(crate::testing::database::Which::Postgres).await;
            })*
        }
    };
}
pub(crate) use on_both;

/// A configuration whose key and database are in `directory`.
pub(crate) fn config(directory: &Path) -> Config {
    let file = directory.join("a1.pem");
    if !file.exists() {
        generate(KeyKind::Ed25519, "a1", &file).unwrap();
    }
    let config = json!({
        "listen": "127.0.0.1:0",
        "public_url": "https://approvals.test",
        "signing_keys": [{"kid": "a1", "file": file}],
        "gateways": [{"name": "edge", "token_env": "UNUSED", "audiences": [AUDIENCE]}],
    });
    Config::parse(&config.to_string()).unwrap()
}

/// The service on a database, with a clock of its own and nothing that goes on by itself.
pub(crate) async fn open(database: &database::Database) -> Approvals {
    Approvals::open(&config(database.directory()), &database.url, Clock::default()).await.unwrap()
}

pub(crate) fn gateway() -> GatewayIdentity {
    GatewayIdentity { name: "edge".to_owned(), audiences: vec![AUDIENCE.to_owned()] }
}

/// 64 digits that stand for a number.
pub(crate) fn binding(number: u32) -> String {
    format!("{number:064x}")
}

/// A request, with members put in place of those that it has.
pub(crate) fn request(number: u32, changes: &Value) -> Request {
    let mut request = json!({
        "binding": binding(number),
        "audience": AUDIENCE,
        "policy": "b".repeat(64),
        "decision_id": "c".repeat(32),
        "requester": {"issuer": ISSUER, "subject": "asker", "client_id": "asker-client", "roles": [], "actors": []},
        "call": {
            "revision": "2026-07-28", "method": "tools/call", "kind": "tool", "name": "send_message",
            "arguments": {"/channel": "sms"}, "withheld": false,
        },
        "requirements": [{"gate": "rule", "name": "rules[3]", "approvers": ["admin"], "count": 1}],
        "reason_required": false,
        "expires_in": 600,
    });
    for (name, value) in changes.as_object().unwrap() {
        request[name] = value.clone();
    }
    let request: Request = serde_json::from_value(request).unwrap();
    request.validate().unwrap();
    request
}

pub(crate) fn person(subject: &str, roles: &[&str]) -> Person {
    Person {
        issuer: ISSUER.to_owned(),
        subject: subject.to_owned(),
        name: None,
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        client_id: Some("approvals".to_owned()),
    }
}

pub(crate) fn yes() -> Ballot {
    Ballot { decision: Choice::Approve, reason: None }
}

pub(crate) fn no(reason: &str) -> Ballot {
    Ballot { decision: Choice::Reject, reason: Some(reason.to_owned()) }
}

pub(crate) const AT_ONCE: Duration = Duration::ZERO;

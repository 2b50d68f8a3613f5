//! The real service as a process, and what tests say to it.

pub(crate) mod database;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use toolgate_approvals::Approvals;
use toolgate_approvals::clock::Clock;
use toolgate_approvals::config::Config;
use toolgate_approvals::domain::{Ballot, Choice, Person};
use toolgate_approvals::signing::{KeyKind, generate};

pub(crate) const AUDIENCE: &str = "https://mcp.test/mcp";
pub(crate) const ISSUER: &str = "https://idp.test";
pub(crate) const TOKEN: &str = "edge-0123456789abcdef0123456789abcdef";
pub(crate) const OTHER_TOKEN: &str = "other-0123456789abcdef0123456789abcdef";

/// A configuration, with what belongs to it.
pub(crate) struct Setup {
    directory: TempDir,
    config: Value,
    database: String,
}

impl Setup {
    /// Two gateways, each with its audience.
    pub(crate) fn new(database: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        generate(KeyKind::Ed25519, "a1", &directory.path().join("a1.pem")).unwrap();
        let config = json!({
            "listen": "127.0.0.1:0",
            "public_url": "https://approvals.test",
            "signing_keys": [{"kid": "a1", "file": "a1.pem"}],
            "gateways": [
                {"name": "edge", "token_env": "EDGE_TOKEN", "audiences": [AUDIENCE]},
                {"name": "other", "token_env": "OTHER_TOKEN", "audiences": ["https://other.test/mcp"]},
            ],
        });
        Self { directory, config, database: database.to_owned() }
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Puts a member in place of the one that is there.
    pub(crate) fn set(&mut self, name: &str, value: Value) {
        self.config[name] = value;
    }

    fn file(&self) -> PathBuf {
        let file = self.directory.path().join("approvals.yaml");
        std::fs::write(&file, self.config.to_string()).unwrap();
        file
    }

    /// The service's program, with another command than `serve`.
    pub(crate) fn command(&self, arguments: &[&str]) -> Output {
        self.program().args(arguments).arg("--config").arg(self.file()).output().unwrap()
    }

    fn program(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_toolgate-approvals"));
        command.env("EDGE_TOKEN", TOKEN).env("OTHER_TOKEN", OTHER_TOKEN).env("DATABASE_URL", &self.database);
        command.env("HOOK_SECRET", "hook-secret-0123456789").env_remove("RUST_LOG");
        command
    }

    /// Starts the service, and waits until it listens.
    pub(crate) fn serve(&self) -> Service {
        let mut command = self.program();
        command.arg("serve").arg("--config").arg(self.file());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut log = Vec::new();
        let address = lines.by_ref().map(Result::unwrap).find_map(|line| {
            let entry: Value = serde_json::from_str(&line).unwrap_or_default();
            log.push(line);
            entry["fields"]["address"].as_str().map(str::to_owned)
        });
        let address = address.unwrap_or_else(|| panic!("it did not start: {log:?}"));
        // A pipe that nobody reads would stop the service.
        let log = std::thread::spawn(move || {
            log.extend(lines.map_while(Result::ok));
            log.join("\n")
        });
        Service { child, log: Some(log), base: format!("http://{address}"), client: reqwest::Client::new() }
    }

    /// The same approvals from within the test: what another process would do.
    pub(crate) async fn open(&self) -> Approvals {
        let mut config = self.config.clone();
        config["webhooks"] = json!([]);
        config["signing_keys"][0]["file"] = json!(self.directory.path().join("a1.pem"));
        let config = Config::parse(&config.to_string()).unwrap();
        Approvals::open(&config, &self.database, Clock::default()).await.unwrap()
    }
}

/// The service as a process.
pub(crate) struct Service {
    child: Child,
    log: Option<std::thread::JoinHandle<String>>,
    pub(crate) base: String,
    client: reqwest::Client,
}

impl Service {
    pub(crate) fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    /// With the credential of the first gateway.
    pub(crate) fn post(&self, path: &str, body: &Value) -> reqwest::RequestBuilder {
        let request = self.request(reqwest::Method::POST, path).bearer_auth(TOKEN);
        request.header("content-type", "application/json").body(body.to_string())
    }

    pub(crate) fn get(&self, path: &str) -> reqwest::RequestBuilder {
        self.request(reqwest::Method::GET, path).bearer_auth(TOKEN)
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// Waits until it has ended; what it has logged.
    pub(crate) fn ended(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().unwrap();
        (status, self.log.take().unwrap().join().unwrap())
    }

    /// Ends it without any warning.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Status and body.
pub(crate) async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    try_answer(request).await.unwrap()
}

/// The same, where the service can be gone.
pub(crate) async fn try_answer(request: reqwest::RequestBuilder) -> Result<(u16, Value), reqwest::Error> {
    let response = request.send().await?;
    let status = response.status().as_u16();
    let body = response.text().await?;
    Ok((status, serde_json::from_str(&body).unwrap_or(Value::String(body))))
}

/// 64 digits that stand for a number.
pub(crate) fn binding(number: u64) -> String {
    format!("{number:064x}")
}

/// 32 digits that stand for a number.
pub(crate) fn nonce(number: u64) -> String {
    format!("{number:032x}")
}

/// A request for an approval.
pub(crate) fn request(number: u64) -> Value {
    json!({
        "binding": binding(number),
        "audience": AUDIENCE,
        "policy": "b".repeat(64),
        "decision_id": "c".repeat(32),
        "requester": {"issuer": ISSUER, "subject": "asker", "client_id": "asker-client", "roles": [], "actors": []},
        "call": {
            "revision": "2026-07-28", "method": "tools/call", "kind": "tool", "name": "send_message",
            "arguments": {"/channel": "sms", "/count": 3, "/urgent": true}, "withheld": false,
        },
        "requirements": [{"gate": "rule", "name": "rules[3]", "approvers": ["admin"], "count": 1}],
        "reason_required": false,
        "expires_in": 600,
    })
}

/// An approver.
pub(crate) fn approver() -> Person {
    Person {
        issuer: ISSUER.to_owned(),
        subject: "approver".to_owned(),
        name: None,
        roles: vec!["admin".to_owned()],
        client_id: Some("approvals".to_owned()),
    }
}

pub(crate) fn ballot(decision: Choice) -> Ballot {
    Ballot { decision, reason: Some("because".to_owned()) }
}

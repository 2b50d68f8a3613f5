//! The service with its pages, and browsers that visit it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use jwt_simple::prelude::Ed25519KeyPair;
use reqwest::header::{HeaderMap, LOCATION, SET_COOKIE};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use toolgate_approvals::clock::Clock;
use toolgate_approvals::config::Config;
use toolgate_approvals::{Approvals, server};

use crate::provider::{Behaviour, Provider};

/// Environment variables that cargo gives to tests. They stand for secrets here, since tests can set no variables:
/// that is unsafe where there are threads.
const SECRET: &str = "CARGO_PKG_DESCRIPTION";
/// See [`SECRET`].
pub(crate) const CLIENT_SECRET: &str = "CARGO_PKG_NAME";

/// A running service with a provider of its own.
pub(crate) struct Site {
    pub(crate) origin: String,
    pub(crate) provider: Provider,
    pub(crate) clock: Clock,
    _directory: tempfile::TempDir,
}

impl Site {
    pub(crate) async fn start() -> Self {
        let provider = Provider::start().await;
        let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let directory = tempfile::tempdir().unwrap();
        let key = directory.path().join("a1.pem");
        std::fs::write(&key, Ed25519KeyPair::generate().to_pem()).unwrap();
        let config = json!({
            "listen": "127.0.0.1:0",
            "public_url": origin,
            "signing_keys": [{"kid": "a1", "file": key}],
            "gateways": [{"name": "edge", "token_env": SECRET, "audiences": ["https://mcp.example/mcp"]}],
            "session_key_env": SECRET,
            "sign_in": {
                "issuer": provider.issuer(), "client_id": "approvals", "client_secret_env": CLIENT_SECRET,
                "roles": ["roles", "/realm/roles"],
            },
            "approver_tokens": {"audience": "https://approvals.example", "clients": ["approvals-cli"]},
        });
        let config = Config::parse(&config.to_string()).unwrap();
        let clock = Clock::default();
        let database = format!("sqlite:{}", directory.path().join("approvals.db").display());
        let approvals = Approvals::open(&config, &database, clock.clone()).await.unwrap();
        let app = server::router(&approvals, &config).unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { origin, provider, clock, _directory: directory }
    }

    /// A request for approval, with these members over the usual ones; its id.
    pub(crate) async fn ask(&self, over: Value) -> String {
        let mut request = json!({
            "binding": hex(&over),
            "audience": "https://mcp.example/mcp",
            "policy": "b".repeat(64),
            "decision_id": "c".repeat(32),
            "requester": {
                "issuer": self.provider.issuer(), "subject": "scheduler", "client_id": "agent-client",
                "agent": "messaging_agent", "roles": ["scheduler"], "actors": ["agent-client"],
            },
            "call": {
                "revision": "2025-11-25", "method": "tools/call", "kind": "tool", "name": "send_message",
                "arguments": {"/channel": "sms", "/count": 3}, "withheld": false,
            },
            "requirements": [{"gate": "rule", "name": "rules[3]", "approvers": ["approvers"], "count": 1}],
            "reason_required": false,
            "expires_in": 600,
        });
        request.as_object_mut().unwrap().extend(over.as_object().unwrap().clone());
        let asked = reqwest::Client::new()
            .post(format!("{}/v1/approvals", self.origin))
            .bearer_auth(std::env::var(SECRET).unwrap())
            .header("content-type", "application/json")
            .body(request.to_string());
        let answer = asked.send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert_eq!(status, StatusCode::CREATED, "{text}");
        let state: Value = serde_json::from_str(&text).unwrap();
        state["id"].as_str().unwrap().to_owned()
    }

    /// A browser in which nobody has signed in.
    pub(crate) fn browser(&self) -> Browser {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Browser { client, origin: self.origin.clone(), cookies: BTreeMap::new() }
    }

    /// A browser in which this person has signed in.
    pub(crate) async fn browser_of(&self, subject: &str, roles: &[&str]) -> Browser {
        self.provider.behave(Behaviour::person(subject, roles));
        let mut browser = self.browser();
        let answer = browser.sign_in("/approvals").await;
        assert_eq!((answer.status, answer.location()), (StatusCode::SEE_OTHER, "/approvals"), "{}", answer.body);
        browser
    }
}

/// Another binding for another request.
fn hex(value: &Value) -> String {
    hmac_sha256::Hash::hash(value.to_string().as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A browser, as far as the service can tell.
#[derive(Clone)]
pub(crate) struct Browser {
    client: reqwest::Client,
    origin: String,
    pub(crate) cookies: BTreeMap<String, String>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn location(&self) -> &str {
        self.headers.get(LOCATION).map_or("", |value| value.to_str().unwrap())
    }

    /// The value of a hidden field.
    pub(crate) fn csrf(&self) -> String {
        let (_, rest) = self.body.split_once("name=\"csrf\" value=\"").expect("a form");
        rest.split_once('"').unwrap().0.to_owned()
    }
}

impl Browser {
    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.send(Method::GET, path, &[("sec-fetch-mode", "navigate"), ("sec-fetch-site", "none")], None).await
    }

    /// Sends a form as a page of the service does.
    pub(crate) async fn post(&mut self, path: &str, form: &[(&str, &str)]) -> Answer {
        let headers = [("sec-fetch-mode", "navigate"), ("sec-fetch-site", "same-origin"), ("origin", "null")];
        self.send(Method::POST, path, &headers, Some(form)).await
    }

    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        form: Option<&[(&str, &str)]>,
    ) -> Answer {
        let url = if path.starts_with("http") { path.to_owned() } else { format!("{}{path}", self.origin) };
        let mut request = self.client.request(method, url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if !self.cookies.is_empty() {
            let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            request = request.header("cookie", cookies.join("; "));
        }
        if let Some(form) = form {
            request = request.form(form);
        }
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status(), answer.headers().clone());
        for cookie in headers.get_all(SET_COOKIE) {
            let (name, rest) = cookie.to_str().unwrap().split_once('=').unwrap();
            match rest.split_once(';').unwrap() {
                ("", _) => self.cookies.remove(name),
                (value, _) => self.cookies.insert(name.to_owned(), value.to_owned()),
            };
        }
        Answer { status, headers, body: answer.text().await.unwrap() }
    }

    /// Begins to sign in, and lets the provider send the browser back; where to.
    pub(crate) async fn begin(&mut self, next: &str) -> String {
        let query: String = url::form_urlencoded::byte_serialize(next.as_bytes()).collect();
        let begun = self.get(&format!("/sign-in?next={query}")).await;
        assert_eq!(begun.status, StatusCode::SEE_OTHER, "{}", begun.body);
        let provider = self.client.get(begun.location()).send().await.unwrap();
        provider.headers()[LOCATION].to_str().unwrap().to_owned()
    }

    /// Signs in; the answer of the service to the browser that comes back.
    pub(crate) async fn sign_in(&mut self, next: &str) -> Answer {
        let callback = self.begin(next).await;
        self.get(&callback).await
    }
}

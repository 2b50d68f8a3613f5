//! The service with its pages, and browsers that visit it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use axum::Router;
use jwt_simple::prelude::Ed25519KeyPair;
use reqwest::header::{HeaderMap, LOCATION, SET_COOKIE};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use toolgate_approvals::clock::Clock;
use toolgate_approvals::config::{Config, Secret};
use toolgate_approvals::domain::Request;
use toolgate_approvals::page::Web;
use toolgate_approvals::sign_in::{Secrets, SignIn};
use toolgate_approvals::store::Created;
use toolgate_approvals::{Approvals, approver_api, page};

use crate::provider::{Behaviour, Provider};

/// A running service with a provider of its own.
pub struct Site {
    pub origin: String,
    pub provider: Provider,
    pub approvals: Approvals,
    pub clock: Clock,
    _directory: tempfile::TempDir,
}

impl Site {
    pub async fn start() -> Self {
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
            "gateways": [{"name": "edge", "token_env": "UNUSED", "audiences": ["https://mcp.example/mcp"]}],
            "sign_in": {"issuer": provider.issuer(), "client_id": "approvals", "roles": ["roles", "/realm/roles"]},
            "approver_tokens": {"audience": "https://approvals.example", "clients": ["approvals-cli"]},
        });
        let config = Config::parse(&config.to_string()).unwrap();
        let clock = Clock::default();
        let database = format!("sqlite:{}", directory.path().join("approvals.db").display());
        let approvals = Approvals::open(&config, &database, clock.clone()).await.unwrap();
        let secrets = Secrets {
            session_key: Secret::new("0123456789abcdef0123456789abcdef", 32).unwrap(),
            client_secret: Secret::new("secret", 1),
        };
        let tokens = config.approver_tokens.as_ref();
        let sign_in = SignIn::new(config.sign_in.as_ref().unwrap(), tokens, &config.public_url, secrets, clock.clone());
        let web = Web::new(approvals.clone(), sign_in.unwrap(), &config.public_url);
        let app: Router = page::router(web.clone()).merge(approver_api::router(web));
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { origin, provider, approvals, clock, _directory: directory }
    }

    /// A request for approval, with these members over the usual ones; its id.
    pub async fn ask(&self, over: Value) -> String {
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
        let request: Request = serde_json::from_value(request).unwrap();
        let created = self.approvals.store().create_or_attach("edge", &request, self.clock.now()).await.unwrap();
        let Created::Record(record, _) = created else { panic!("too many") };
        record.id.clone()
    }

    /// A browser in which nobody has signed in.
    pub fn browser(&self) -> Browser {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Browser { client, origin: self.origin.clone(), cookies: BTreeMap::new() }
    }

    /// A browser in which this person has signed in.
    pub async fn browser_of(&self, subject: &str, roles: &[&str]) -> Browser {
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
pub struct Browser {
    client: reqwest::Client,
    origin: String,
    pub cookies: BTreeMap<String, String>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn location(&self) -> &str {
        self.headers.get(LOCATION).map_or("", |value| value.to_str().unwrap())
    }

    /// The value of a hidden field.
    pub fn csrf(&self) -> String {
        let (_, rest) = self.body.split_once("name=\"csrf\" value=\"").expect("a form");
        rest.split_once('"').unwrap().0.to_owned()
    }
}

impl Browser {
    pub async fn get(&mut self, path: &str) -> Answer {
        self.send(Method::GET, path, &[("sec-fetch-mode", "navigate"), ("sec-fetch-site", "none")], None).await
    }

    /// Sends a form as a page of the service does.
    pub async fn post(&mut self, path: &str, form: &[(&str, &str)]) -> Answer {
        let headers = [("sec-fetch-mode", "navigate"), ("sec-fetch-site", "same-origin"), ("origin", "null")];
        self.send(Method::POST, path, &headers, Some(form)).await
    }

    pub async fn send(
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
    pub async fn begin(&mut self, next: &str) -> String {
        let query: String = url::form_urlencoded::byte_serialize(next.as_bytes()).collect();
        let begun = self.get(&format!("/sign-in?next={query}")).await;
        assert_eq!(begun.status, StatusCode::SEE_OTHER, "{}", begun.body);
        let provider = self.client.get(begun.location()).send().await.unwrap();
        provider.headers()[LOCATION].to_str().unwrap().to_owned()
    }

    /// Signs in; the answer of the service to the browser that comes back.
    pub async fn sign_in(&mut self, next: &str) -> Answer {
        let callback = self.begin(next).await;
        self.get(&callback).await
    }
}

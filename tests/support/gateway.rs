//! The gateway in memory: a policy, the issuer's keys, and requests that go through an exchange.

use serde_json::{Map, Value, json};
use toolgate::audit::Salt;
use toolgate::config::CompiledPolicy;
use toolgate::exchange::{
    Circuits, Command, DecisionId, Event, Exchange, Flow, HeaderEdits, HeldRequests, Surroundings, Verdict,
};
use toolgate::http::{HeaderList, LocalReply};
use toolgate::identity::{Definitions, Peer, Principal, RevocationFeed};
use toolgate::jwt::{KeyRing, PureRust, SignatureVerifier, TokenCache};
use toolgate::units::UnixSeconds;

use super::issuer::{self, NOW};

pub(crate) const ISSUER: &str = "https://issuer.test";
pub(crate) const RESOURCE: &str = "https://gateway.test/mcp";

/// A policy with one rule: the tool `read` needs the scope `read`.
pub(crate) fn policy() -> Value {
    json!({
        "version": "toolgate/v1",
        "resource": {"uri": RESOURCE},
        "protocol": {"max_request_bytes": 1024, "allowed_origins": ["https://app.test"]},
        "authentication": {"jwt": [{"issuer": ISSUER, "algorithms": ["EdDSA", "ES256", "RS256"]}]},
        "scopes": {"read": {"risk": "low"}, "write": {"risk": "high"}},
        "rules": [{"tools": ["read"], "scopes": ["read"]}, {"tools": ["write"], "scopes": ["write"]}],
    })
}

/// Where an issuer's keys come from.
#[derive(Clone, Copy)]
pub(crate) enum Keys {
    /// From the policy.
    Inline,
    /// From a cluster, and they have not been fetched yet.
    NotFetched,
}

/// Compiles a policy in which every issuer has the test keys.
pub(crate) fn compile(mut policy: Value, keys: Keys) -> CompiledPolicy {
    let jwks = match keys {
        Keys::Inline => json!({"inline": {"keys": issuer::jwks()}}),
        Keys::NotFetched => json!({"cluster": "issuer", "path": "/jwks"}),
    };
    for issuer in policy["authentication"]["jwt"].as_array_mut().unwrap() {
        issuer["jwks"] = jwks.clone();
    }
    CompiledPolicy::from_json(policy.to_string().as_bytes(), &variable).unwrap()
}

/// The environment: a session key, and another one to replace it.
pub(crate) fn variable(name: &str) -> Option<String> {
    match name {
        "TOOLGATE_SESSION_KEY" => Some("QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=".to_owned()),
        "TOOLGATE_AUDIT_KEY" => Some("Q0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0M=".to_owned()),
        "TOOLGATE_APPROVAL_TOKEN" => Some("REREREREREREREREREREREREREREREREREREREREREQ=".to_owned()),
        "NEXT_KEY" => Some("QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI".to_owned()),
        _ => None,
    }
}

/// Everything that outlives a request.
pub(crate) struct Gateway {
    pub(crate) policy: CompiledPolicy,
    pub(crate) keys: KeyRing,
    pub(crate) tokens: TokenCache<Principal>,
    pub(crate) verifier: &'static dyn SignatureVerifier,
    pub(crate) definitions: Definitions,
    pub(crate) revoked: Option<RevocationFeed>,
    pub(crate) circuits: Circuits,
    pub(crate) held: HeldRequests,
    pub(crate) peer: Peer,
    pub(crate) now: UnixSeconds,
}

impl Gateway {
    pub(crate) fn new(policy: Value, keys: Keys) -> Self {
        let policy = compile(policy, keys);
        let keys = KeyRing::new(policy.key_sources.iter().map(|(source, _)| source.clone()));
        let (tokens, definitions) = (TokenCache::new(), policy.directory.pinned_definitions());
        let revoked = policy.revocations.as_ref().map(|source| RevocationFeed::new(source.refresh, source.max_stale));
        let circuits = Circuits::new(policy.approval.as_ref().map_or(0, |approval| approval.services.len()));
        let (held, peer, now) = (HeldRequests::default(), Peer::default(), UnixSeconds::new(NOW));
        Self { policy, keys, tokens, verifier: &PureRust, definitions, revoked, circuits, held, peer, now }
    }

    pub(crate) fn begin(&mut self) -> Run<'_> {
        Run { exchange: Exchange::new(ID, Salt::new(0)), gateway: self }
    }

    /// Sends a whole request the way the host does: headers, then the body or nothing.
    pub(crate) fn send(&mut self, request: &Request) -> Outcome {
        let mut run = self.begin();
        let (flow, mut commands) = run.headers(request);
        let is_answered = commands.iter().any(|command| matches!(command, Command::Reply(_)));
        match &request.body {
            Some(body) if flow == Flow::Hold && !is_answered => commands.extend(run.complete(body).1),
            Some(_) | None => {}
        }
        Outcome::of(commands)
    }
}

pub(crate) const ID: DecisionId = DecisionId::new(0x2a);

/// One exchange, event by event.
pub(crate) struct Run<'g> {
    pub(crate) exchange: Exchange,
    pub(crate) gateway: &'g mut Gateway,
}

impl Run<'_> {
    pub(crate) fn handle(&mut self, event: Event<'_>) -> (Flow, Vec<Command>) {
        let Gateway { policy, keys, tokens, verifier, definitions, revoked, circuits, held, now, .. } =
            &mut *self.gateway;
        let (verifier, revoked, held, now) = (*verifier, revoked.as_ref(), &*held, *now);
        let mut surroundings =
            Surroundings { policy, keys, tokens, definitions, revoked, circuits, held, verifier, now };
        let mut commands = Vec::new();
        let flow = self.exchange.handle(event, &mut surroundings, &mut commands);
        (flow, commands)
    }

    pub(crate) fn headers(&mut self, request: &Request) -> (Flow, Vec<Command>) {
        let (headers, peer) = (request.header_list(), self.gateway.peer.clone());
        self.handle(Event::RequestHeaders { headers, end_of_stream: request.body.is_none(), peer })
    }

    pub(crate) fn complete(&mut self, body: &[u8]) -> (Flow, Vec<Command>) {
        self.handle(Event::RequestComplete { body })
    }

    /// The headers of an answer of which a body follows.
    pub(crate) fn answer(&mut self, headers: &[(&str, &str)]) -> (Flow, Vec<Command>) {
        self.handle(Event::ResponseHeaders { headers: headers.iter().copied().collect(), end_of_stream: false })
    }
}

/// What became of a request.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    pub(crate) reason: &'static str,
    pub(crate) result: Result<HeaderEdits, LocalReply>,
}

impl Outcome {
    /// The outcome of a decided exchange, of which these are all commands.
    pub(crate) fn of(commands: Vec<Command>) -> Self {
        let (mut decided, mut results) = (Vec::new(), Vec::new());
        for command in commands {
            match command {
                Command::Decided { verdict, reason } => decided.push((verdict, reason)),
                Command::EditRequestHeaders(edits) => results.push(Ok(edits)),
                Command::Reply(reply) => results.push(Err(reply)),
                Command::Await(_)
                | Command::EditResponseHeaders(_)
                | Command::UpstreamRefused
                | Command::UpstreamUnusable { .. }
                | Command::ReplaceResponseBody(_)
                | Command::CallService(_)
                | Command::ReplaceRequestBody(_)
                | Command::CountApproval(_)
                | Command::Watch(_)
                | Command::CutOff { .. }
                | Command::Withheld { .. } => {}
            }
        }
        let (&[(verdict, reason)], Ok([result])) = (&*decided, <[_; 1]>::try_from(results)) else {
            panic!("not decided exactly once: {decided:?}")
        };
        Self { verdict, reason, result }
    }

    /// The gateway's own answer.
    pub(crate) fn reply(&self) -> &LocalReply {
        self.result.as_ref().expect_err("the request was forwarded")
    }
}

/// The JSON body of an answer.
pub(crate) fn json_body(reply: &LocalReply) -> Value {
    serde_json::from_slice(&reply.body).unwrap()
}

/// The only value of a header of an answer.
pub(crate) fn header<'a>(reply: &'a LocalReply, name: &str) -> Option<&'a str> {
    let values: Vec<&str> = reply.headers.iter().filter(|(n, _)| *n == name).map(|(_, value)| value.as_str()).collect();
    assert!(values.len() < 2, "{name} appears twice");
    values.first().copied()
}

/// An HTTP request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    headers: Vec<(String, Vec<u8>)>,
    body: Option<Vec<u8>>,
}

impl Request {
    /// A request for the MCP endpoint, without credential.
    pub(crate) fn new(method: &str, path: &str) -> Self {
        Self { headers: Vec::new(), body: None }
            .with(":method", method)
            .with(":path", path)
            .with(":scheme", "https")
            .with(":authority", "gateway.test")
    }

    /// A POST of a JSON body, with a token that grants `scope`.
    pub(crate) fn post(scope: &str, body: &Value) -> Self {
        Self::new("POST", "/mcp").with("content-type", "application/json").bearer(&token(scope)).with_body(body)
    }

    pub(crate) fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(candidate, _)| candidate != name);
        self
    }

    pub(crate) fn bearer(self, token: &str) -> Self {
        self.without("authorization").with("authorization", format!("Bearer {token}"))
    }

    pub(crate) fn with_body(self, body: &Value) -> Self {
        self.with_bytes(body.to_string())
    }

    pub(crate) fn with_bytes(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    pub(crate) fn body(&self) -> &[u8] {
        self.body.as_deref().unwrap_or_default()
    }

    pub(crate) fn header_list(&self) -> HeaderList {
        self.headers.iter().map(|(name, value)| (name, value)).collect()
    }
}

/// A call of a tool, in the form of every revision with a handshake.
pub(crate) fn call(tool: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": {}}})
}

/// A token of [`ISSUER`] for [`RESOURCE`] that grants `scope`.
pub(crate) fn token(scope: &str) -> String {
    let claims = json!({"scope": scope});
    token_with(claims.as_object().unwrap())
}

/// A token of [`ISSUER`] for [`RESOURCE`] with other claims: `null` leaves one out. `age_s`, `lifetime_s` and
/// `auth_age_s` are no claims: they say when it was issued, for how long, and when the person was authenticated.
pub(crate) fn token_with(overrides: &Map<String, Value>) -> String {
    issuer::sign(&issuer::header(), &claims_with(overrides))
}

pub(crate) fn claims_with(overrides: &Map<String, Value>) -> Value {
    let seconds = |name: &str, default| overrides.get(name).map_or(default, |value| value.as_u64().unwrap());
    let issued_at = NOW - seconds("age_s", 10);
    let mut claims = json!({
        "iss": ISSUER, "aud": RESOURCE, "sub": "user-7", "client_id": "client-1",
        "iat": issued_at, "exp": issued_at + seconds("lifetime_s", 600),
    });
    if let Some(age) = overrides.get("auth_age_s") {
        claims["auth_time"] = NOW.checked_add_signed(-age.as_i64().unwrap()).into();
    }
    let members = claims.as_object_mut().unwrap();
    members.extend(overrides.clone());
    members.retain(|name, value| !value.is_null() && !["age_s", "lifetime_s", "auth_age_s"].contains(&name.as_str()));
    claims
}

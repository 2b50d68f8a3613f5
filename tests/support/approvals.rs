//! An approval service in memory, which signs what it says, and a gateway that asks it.

use jwt_simple::prelude::{ECDSAP256KeyPairLike, HeaderOptions};
use serde_json::{Value, json};
use toolgate::audit::Salt;
use toolgate::exchange::{
    Command, DecisionId, Event, Exchange, Flow, HeaderEdits, ServiceAnswer, ServiceCall, Verdict,
};
use toolgate::http::LocalReply;
use toolgate::units::Seconds;

use super::gateway::{Gateway, Keys, RESOURCE, Request, Run, json_body, policy};
use super::issuer;

/// `iss` of the decisions of the first service, and where its pages are.
pub(crate) const SERVICE: &str = "https://approvals.test";
pub(crate) const PAGE: &str = "https://approvals.test/approvals/";

/// A policy that asks the service before each call of the tool `write`, of `bulk` for more than two, of the prompt
/// `compose`, and for resources under `norg://files/`. Nothing asks for an approval of `read`.
pub(crate) fn gated() -> Value {
    let mut gated = policy();
    gated["protocol"]["max_request_bytes"] = json!(1_000_000);
    gated["approval"] = json!({
        "cluster": "approvals", "issuer": SERVICE, "decision_keys": {"keys": decision_keys()}, "page": PAGE,
        "approvers": ["admin"],
    });
    gated["rules"] = json!([
        {"tools": ["read"], "scopes": ["read"]},
        {"tools": ["write"], "scopes": ["write"], "approval": {}},
        {"tools": ["bulk"], "scopes": ["write"], "approval": {"when": "size(arguments.to) > 2"}},
        {"prompts": ["compose"], "scopes": ["write"], "approval": {}},
        {"resources": ["norg://files/*"], "scopes": ["write"], "approval": {}},
    ]);
    gated
}

/// The keys that decisions are signed with, as a policy pins them.
pub(crate) fn decision_keys() -> Vec<Value> {
    issuer::jwks().into_iter().filter(|key| key["kid"] != "rsa").collect()
}

/// An approval as the service keeps it.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) id: String,
    pub(crate) state: &'static str,
    /// The body of its creation.
    pub(crate) asked: Value,
    expires_at: u64,
    pub(crate) step: u64,
    pub(crate) nonces: Vec<String>,
    reason: Option<String>,
    approver: &'static str,
}

/// Something that a decision can be changed by before it is signed: its header and its claims.
pub(crate) type Forgery = fn(&mut Value, &mut Value);

/// The service.
pub(crate) struct Service {
    pub(crate) approvals: Vec<Kept>,
    pub(crate) escalated: bool,
    /// `kid` of the key that it signs with.
    pub(crate) key: &'static str,
    pub(crate) issuer: &'static str,
    pub(crate) forgery: Forgery,
}

impl Service {
    pub(crate) fn new() -> Self {
        Self { approvals: Vec::new(), escalated: false, key: "ed", issuer: SERVICE, forgery: |_, _| {} }
    }

    /// The latest approval.
    pub(crate) fn last(&mut self) -> &mut Kept {
        self.approvals.last_mut().expect("nobody was asked")
    }

    pub(crate) fn approve(&mut self) {
        self.last().state = "approved";
    }

    pub(crate) fn reject(&mut self, reason: &str) {
        let kept = self.last();
        (kept.state, kept.reason) = ("rejected", Some(reason.to_owned()));
    }

    /// What the service answers, and what it does.
    pub(crate) fn take(&mut self, call: &ServiceCall, now: u64) -> (u16, Value) {
        let rest = call.path.strip_prefix("/v1/approvals").expect("a path of the contract");
        let body: Value = if call.body.is_empty() { Value::Null } else { serde_json::from_slice(&call.body).unwrap() };
        match (call.method, rest.trim_start_matches('/').split('/').collect::<Vec<_>>().as_slice()) {
            ("POST", [""]) => self.create(body, now),
            ("GET", [id_and_binding]) => {
                let (id, binding) = id_and_binding.split_once("?binding=").unwrap();
                match self.find(id, binding) {
                    Some(index) => (200, self.state(index, now)),
                    None => problem(404, "unknown"),
                }
            }
            ("POST", [id, what]) => match self.find(id, body["binding"].as_str().unwrap()) {
                Some(index) if *what == "consume" => self.consume(index, &body, now),
                Some(index) => {
                    assert_eq!(*what, "cancel");
                    let kept = self.approvals.get_mut(index).unwrap();
                    if kept.state == "pending" {
                        kept.state = "cancelled";
                    }
                    (200, self.state(index, now))
                }
                None => problem(404, "unknown"),
            },
            other => panic!("{other:?} is not in the contract"),
        }
    }

    fn find(&self, id: &str, binding: &str) -> Option<usize> {
        self.approvals.iter().position(|kept| kept.id == id && kept.asked["binding"] == binding)
    }

    fn create(&mut self, asked: Value, now: u64) -> (u16, Value) {
        let is_open = |kept: &Kept| {
            kept.asked["binding"] == asked["binding"] && ["pending", "approved", "rejected"].contains(&kept.state)
        };
        if let Some(index) = self.approvals.iter().rposition(is_open) {
            return (200, self.state(index, now));
        }
        let expires_at = now + asked["expires_in"].as_u64().unwrap();
        self.approvals.push(Kept {
            id: format!("approval-{}", self.approvals.len()),
            state: "pending",
            asked,
            expires_at,
            step: 0,
            nonces: Vec::new(),
            reason: None,
            approver: "bob",
        });
        (201, self.state(self.approvals.len() - 1, now))
    }

    fn consume(&mut self, index: usize, body: &Value, now: u64) -> (u16, Value) {
        let kept = self.approvals.get_mut(index).unwrap();
        let (nonce, step) = (body["nonce"].as_str().unwrap().to_owned(), body["step"].as_u64().unwrap());
        let is_again = step + 1 == kept.step && kept.nonces.last() == Some(&nonce);
        let is_next = step == kept.step && kept.state == if step == 0 { "approved" } else { "consumed" };
        match kept.state {
            "approved" | "consumed" if is_again || is_next => {
                if is_next {
                    (kept.state, kept.step) = ("consumed", step + 1);
                    kept.nonces.push(nonce.clone());
                }
                let (id, more) = (kept.id.clone(), json!({"nonce": nonce, "step": step, "exp": now + 60}));
                (200, json!({"id": id, "grant": self.signed(index, "approved", &more, now)}))
            }
            "approved" | "consumed" => problem(409, "used"),
            "pending" => problem(409, "not_approved"),
            ended => problem(410, ended),
        }
    }

    fn state(&mut self, index: usize, now: u64) -> Value {
        let Kept { id, state, asked, expires_at, step, .. } = self.approvals.get(index).unwrap().clone();
        let mut answer = json!({
            "id": id, "binding": asked["binding"], "state": state, "created_at": now, "expires_at": expires_at,
            "escalated": self.escalated, "step": step,
        });
        if ["rejected", "expired", "cancelled"].contains(&state) {
            answer["decision"] = self.signed(index, state, &json!({"exp": now + 120}), now).into();
        }
        answer
    }

    /// A signed decision about an approval.
    fn signed(&self, index: usize, status: &str, more: &Value, now: u64) -> String {
        let kept = self.approvals.get(index).unwrap();
        let approver = json!({"iss": "https://idp.test", "sub": kept.approver, "roles": ["admin"], "at": now});
        let approvers = if ["approved", "rejected"].contains(&status) { json!([approver]) } else { json!([]) };
        let mut claims = json!({
            "iss": self.issuer, "aud": RESOURCE, "iat": now, "jti": "j-1", "approval_id": kept.id,
            "binding": kept.asked["binding"], "policy": kept.asked["policy"], "status": status,
            "approvers": approvers, "escalated": self.escalated,
        });
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        claims.as_object_mut().unwrap().extend(kept.reason.iter().map(|why| ("reason".to_owned(), why.clone().into())));
        let algorithm = if self.key == "ec" { "ES256" } else { "EdDSA" };
        let mut header = json!({"alg": algorithm, "kid": self.key, "typ": "approval+jwt"});
        (self.forgery)(&mut header, &mut claims);
        if self.key == "ec" { signed_es256(claims) } else { issuer::sign(&header, &claims) }
    }
}

fn signed_es256(claims: Value) -> String {
    let options = HeaderOptions { signature_type: Some("approval+jwt".into()), ..HeaderOptions::default() };
    issuer::es256_key("ec").sign_with_options(issuer::custom(claims), &options).unwrap()
}

fn problem(status: u16, code: &str) -> (u16, Value) {
    (status, json!({"title": "no", "status": status, "code": code, "detail": "no"}))
}

/// What becomes of a call to a service.
pub(crate) enum Fate {
    /// The service answers.
    Answered,
    /// It answers, and does not wait although it is asked to.
    AtOnce,
    /// The service does what it is asked to, and nobody gets to know.
    Lost,
    Unreachable,
    TimedOut,
    Oversized,
    /// Something else is answered.
    Says(u16, Value),
    /// The service answers something else than it would.
    Changed(fn(&mut Value)),
}

/// A gateway and the services that it asks.
pub(crate) struct World {
    pub(crate) gateway: Gateway,
    pub(crate) services: Vec<Service>,
    /// How many requests there were: each has a record, and so a nonce, of its own.
    pub(crate) requests: u128,
}

/// What came of a request.
pub(crate) struct Sent {
    pub(crate) exchange: Exchange,
    /// What the services were asked, in that order.
    pub(crate) calls: Vec<ServiceCall>,
    pub(crate) commands: Vec<Command>,
    pub(crate) flow: Flow,
}

impl World {
    pub(crate) fn new(policy: Value) -> Self {
        let gateway = Gateway::new(policy, Keys::Inline);
        let services = gateway.policy.approval.as_ref().map_or(0, |approval| approval.services.len());
        Self { gateway, services: (0..services).map(|_| Service::new()).collect(), requests: 0 }
    }

    pub(crate) fn service(&mut self) -> &mut Service {
        self.services.first_mut().expect("nobody can be asked")
    }

    pub(crate) fn pass(&mut self, seconds: u64) {
        self.gateway.now = self.gateway.now.plus(Seconds::new(seconds));
    }

    /// An exchange of which nothing is known yet.
    pub(crate) fn begin(&mut self) -> Run<'_> {
        self.requests += 1;
        let exchange = Exchange::new(DecisionId::new(0x100 + self.requests), Salt::new(self.requests));
        Run { exchange, gateway: &mut self.gateway }
    }

    /// Sends a request to its end, with services that answer. Time passes while they wait.
    pub(crate) fn send(&mut self, request: &Request) -> Sent {
        self.send_with(request, |_, _| Fate::Answered)
    }

    /// The same; `script` is asked before each call what is to become of it.
    pub(crate) fn send_with(
        &mut self,
        request: &Request,
        mut script: impl FnMut(&ServiceCall, &mut Self) -> Fate,
    ) -> Sent {
        let mut exchange = self.begin().exchange;
        let (mut flow, mut commands, mut calls) = (Flow::Hold, Vec::new(), Vec::new());
        let mut last = self.step(&mut exchange, |run| {
            let (first, mut commands) = run.headers(request);
            flow = first;
            if run.exchange.expects_body() {
                let (second, more) = run.complete(request.body());
                flow = second;
                commands.extend(more);
            }
            commands
        });
        for _ in 0..100 {
            let called: Vec<ServiceCall> =
                picked(
                    &last,
                    |command| {
                        if let Command::CallService(call) = command { Some(call.clone()) } else { None }
                    },
                );
            let waits = last.iter().any(|command| matches!(command, Command::Watch(_)));
            let (said, mut called): (Vec<_>, Vec<_>) = called.into_iter().partition(|call| call.is_last_word);
            let next = called.pop().map(Some).or_else(|| (waits && exchange.held_request().is_some()).then_some(None));
            for call in said {
                let now = self.gateway.now.get();
                self.services.get_mut(call.service).unwrap().take(&call, now);
                calls.push(call);
            }
            commands.append(&mut last);
            let Some(next) = next else { return Sent { exchange, calls, commands, flow } };
            let answer = next.map(|call| {
                let fate = script(&call, self);
                let answer = self.answer(&call, fate);
                calls.push(call);
                answer
            });
            if answer.is_none() {
                self.pass(1);
            }
            last = self.step(&mut exchange, |run| {
                let (first, mut commands) = match &answer {
                    None => run.handle(Event::TimePassed),
                    Some(Told::Nothing(answer)) => run.handle(Event::ServiceAnswered(*answer)),
                    Some(Told::Reply(status, body)) => {
                        run.handle(Event::ServiceAnswered(ServiceAnswer::Reply { status: *status, body }))
                    }
                };
                flow = first;
                if run.exchange.expects_body() {
                    let (second, more) = run.complete(request.body());
                    flow = second;
                    commands.extend(more);
                }
                commands
            });
        }
        let calls: Vec<String> = calls.into_iter().map(|call| call.path).collect();
        panic!("it never ends: {calls:?}")
    }

    fn step(&mut self, exchange: &mut Exchange, act: impl FnOnce(&mut Run<'_>) -> Vec<Command>) -> Vec<Command> {
        let blank = Exchange::new(DecisionId::new(0), Salt::new(0));
        let mut run = Run { exchange: std::mem::replace(exchange, blank), gateway: &mut self.gateway };
        let commands = act(&mut run);
        *exchange = run.exchange;
        commands
    }

    fn answer(&mut self, call: &ServiceCall, fate: Fate) -> Told {
        let now = self.gateway.now;
        let waits = !matches!(fate, Fate::AtOnce);
        let ask = |world: &mut Self| {
            let service = world.services.get_mut(call.service).expect("no such service");
            let (status, body) = service.take(call, now.get());
            if waits && body["state"] == "pending" {
                world.gateway.now = now.plus(call.wait);
            }
            (status, body)
        };
        match fate {
            Fate::Answered | Fate::AtOnce => {
                let (status, body) = ask(self);
                Told::Reply(status, body.to_string().into_bytes())
            }
            Fate::Changed(change) => {
                let (status, mut body) = ask(self);
                change(&mut body);
                Told::Reply(status, body.to_string().into_bytes())
            }
            Fate::Lost => {
                ask(self);
                Told::Nothing(ServiceAnswer::TimedOut)
            }
            Fate::Unreachable => Told::Nothing(ServiceAnswer::Unreachable),
            Fate::TimedOut => Told::Nothing(ServiceAnswer::TimedOut),
            Fate::Oversized => Told::Nothing(ServiceAnswer::Oversized),
            Fate::Says(status, body) => Told::Reply(status, body.to_string().into_bytes()),
        }
    }

    /// What the gateway does with the upstream's answer to a request that it let through.
    pub(crate) fn upstream(&mut self, sent: &mut Sent, events: Vec<Event<'_>>) -> Vec<Command> {
        events.into_iter().flat_map(|event| self.step(&mut sent.exchange, |run| run.handle(event).1)).collect()
    }
}

fn picked<T>(commands: &[Command], pick: impl Fn(&Command) -> Option<T>) -> Vec<T> {
    commands.iter().filter_map(pick).collect()
}

enum Told {
    Nothing(ServiceAnswer<'static>),
    Reply(u16, Vec<u8>),
}

impl Sent {
    /// What was decided, exactly once, and why.
    pub(crate) fn decided(&self) -> (Verdict, &'static str) {
        let decided = picked(&self.commands, |command| {
            if let Command::Decided { verdict, reason } = command { Some((*verdict, *reason)) } else { None }
        });
        let &[decided] = decided.as_slice() else { panic!("not decided exactly once: {decided:?}") };
        assert_eq!(self.forwarded().is_some(), decided.0 == Verdict::Allow, "{decided:?}");
        assert_eq!(self.flow == Flow::Pass, decided.0 == Verdict::Allow, "{decided:?}");
        decided
    }

    /// The header edits of a request that was let through.
    pub(crate) fn forwarded(&self) -> Option<&HeaderEdits> {
        self.commands
            .iter()
            .find_map(|command| if let Command::EditRequestHeaders(edits) = command { Some(edits) } else { None })
    }

    /// The body in place of the client's.
    pub(crate) fn body(&self) -> Option<&str> {
        let mut bodies = self
            .commands
            .iter()
            .filter_map(|command| if let Command::ReplaceRequestBody(body) = command { Some(body) } else { None });
        bodies.next().map(|body| str::from_utf8(body).unwrap())
    }

    pub(crate) fn reply(&self) -> &LocalReply {
        let mut replies = self
            .commands
            .iter()
            .filter_map(|command| if let Command::Reply(reply) = command { Some(reply) } else { None });
        let reply = replies.next().expect("no reply");
        assert!(replies.next().is_none(), "two replies");
        reply
    }

    pub(crate) fn json(&self) -> Value {
        json_body(self.reply())
    }

    /// The calls in short: method and the last part of the path, with the number of the service.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.calls
            .iter()
            .map(|call| {
                let path = call.path.split('?').next().unwrap_or_default();
                let what = match path.rsplit('/').next().unwrap_or_default() {
                    "approvals" => "create",
                    "consume" => "consume",
                    "cancel" => "cancel",
                    _ => "state",
                };
                format!("{} {} {what} {}", call.service, call.method, call.wait.get())
            })
            .collect()
    }

    pub(crate) fn counted(&self) -> Vec<&'static str> {
        picked(&self.commands, |command| if let Command::CountApproval(what) = command { Some(*what) } else { None })
    }
}

/// A client of a revision.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Client {
    /// 2026-07-28, which declares that it opens pages.
    Stateless,
    /// 2026-07-28, which declares nothing.
    StatelessWithout,
    /// An earlier revision, without a session.
    Earlier(&'static str),
}

impl Client {
    /// A request of this client, for a caller who may read and write.
    pub(crate) fn request(self, method: &str, params: &Value) -> Request {
        let mut body = json!({"jsonrpc": "2.0", "id": "c-1", "method": method, "params": params});
        let capabilities = match self {
            Self::Stateless => json!({"elicitation": {"url": {}}}),
            Self::StatelessWithout => json!({}),
            Self::Earlier(revision) => {
                return Request::post("read write", &body).with("mcp-protocol-version", revision);
            }
        };
        body["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
        body["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] = capabilities;
        let name = if params["name"].is_string() { &params["name"] } else { &params["uri"] };
        let request =
            Request::post("read write", &body).with("mcp-protocol-version", "2026-07-28").with("mcp-method", method);
        match name.as_str() {
            Some(name) => request.with("mcp-name", name),
            None => request,
        }
    }

    /// A call of a tool.
    pub(crate) fn call(self, tool: &str, arguments: &Value) -> Request {
        self.request("tools/call", &json!({"name": tool, "arguments": arguments}))
    }
}

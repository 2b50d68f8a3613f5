//! Pieces of work whose instructions `scripts/check-instructions` counts: `instructions NAME COUNT` does one of them that
//! many times, and `instructions` alone lists them.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark that cannot go on has failed"
)]
#![expect(clippy::arithmetic_side_effects, reason = "the numbers are in the benchmark")]
#![expect(clippy::print_stdout, reason = "the script reads it")]

#[path = "../tests/support"]
mod support {
    #[expect(dead_code, reason = "the benchmarks need a part of it")]
    pub(crate) mod gateway;
    #[expect(dead_code, reason = "the benchmarks need a part of it")]
    pub(crate) mod issuer;
    pub(crate) mod keys;
}

use std::borrow::Borrow;
use std::hint::black_box;

use serde_json::{Value, json};
use toolgate::audit::Chain;
use toolgate::exchange::{Ending, Event, Flow};
use toolgate::jwt::{Algorithm, CompactJws, SignatureVerifier, VerificationKey};
use toolgate::keys::NamedKey;
use toolgate::mcp::{Body, Caching, Listed, Response, ServerMessage, Shown, View, review};

use support::gateway::{Gateway, Keys, Request, call, claims_with, policy};
use support::issuer::{sign, with_signature};

type Work = (&'static str, fn(usize));

const WORK: [Work; 9] = [
    ("call with a known token, and its record", |count| calls(policy(), count)),
    ("call with a new token, and its record", new_tokens),
    ("call, 10 rules", |count| calls(with_rules(10), count)),
    ("call, 10000 rules", |count| calls(with_rules(10_000), count)),
    ("refusal without a token", refusals),
    ("body of 100 KB", bodies),
    ("list of 100 tools", lists),
    ("list of 100 tools, for its caller", |count| answers("application/json", count)),
    ("list of 100 tools, as an event", |count| answers("text/event-stream", count)),
];

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    match (arguments.next(), arguments.next()) {
        (Some(name), Some(count)) => {
            let (_, work) = WORK.into_iter().find(|(other, _)| *other == name).unwrap();
            work(count.parse().unwrap());
        }
        _ => WORK.iter().for_each(|(name, _)| println!("{name}")),
    }
}

fn calls(policy: Value, count: usize) {
    let request = Request::post("read", &call("read"));
    send(Gateway::new(policy, Keys::Inline), std::iter::repeat_n(&request, count));
}

/// Tokens as issuers write them, whose signatures the host has checked: that is not counted.
fn new_tokens(count: usize) {
    let claims = claims_with(
        json!({
            "sub": "248289761001", "client_id": "demo-messaging-agent", "azp": "demo-messaging-agent", "scope": "openid read",
            "jti": "5f0c7a52-d1c9-4c1e-9b0a-7d3f0e6a1c55", "roles": ["campaign-managers", "staff"], "tenant_id": "norg",
            "groups": ["/staff/marketing", "/staff/berlin"], "email": "anna@norg.example", "email_verified": true,
            "name": "Anna Berg", "preferred_username": "anna", "sid": "9c1f2b7e-0a44-4f0e-8f0d-0d6a2f8a9b11", "acr": "1",
            "auth_age_s": 60, "amr": ["pwd", "otp"], "realm_access": {"roles": ["offline_access", "uma_authorization"]},
        })
        .as_object()
        .unwrap(),
    );
    let token = sign(&json!({"alg": "RS256", "kid": "rsa", "typ": "at+jwt"}), &claims);
    let mut gateway = Gateway::new(policy(), Keys::Inline);
    gateway.verifier = &AnySignature;
    let request = Request::new("POST", "/mcp").with("content-type", "application/json").with_body(&call("read"));
    let signed = |number: usize| request.clone().bearer(&with_signature(&token, &number.to_le_bytes().repeat(32)));
    send(gateway, (0..count).map(signed));
}

struct AnySignature;

impl SignatureVerifier for AnySignature {
    fn verify(&self, _: &VerificationKey, _: Algorithm, _: &CompactJws<'_>) -> bool {
        true
    }
}

fn send(mut gateway: Gateway, requests: impl Iterator<Item = impl Borrow<Request>>) {
    let ending =
        Ending { details: "via_upstream".to_owned(), source: Some("192.0.2.7".to_owned()), ..Ending::default() };
    let key = NamedKey::new("k1", &[1; 32]).unwrap();
    let mut chain = Chain::new("0".repeat(32), "node".to_owned(), String::new(), "worker".to_owned(), ending.at);
    for request in requests {
        let request = request.borrow();
        let mut run = gateway.begin();
        run.headers(request);
        assert_eq!(run.complete(request.body()).0, Flow::Pass);
        let entry = run.exchange.conclude(&ending, &run.gateway.policy);
        black_box(chain.seal(&key, &entry));
    }
}

/// A policy with so many rules more, each for one tool.
fn with_rules(count: usize) -> Value {
    let mut document = policy();
    let rules = (0..count).map(|number| json!({"tools": [format!("tool_{number:05}")], "scopes": ["read"]}));
    document["rules"].as_array_mut().unwrap().extend(rules);
    document
}

fn refusals(count: usize) {
    let mut gateway = Gateway::new(policy(), Keys::Inline);
    let request = Request::new("POST", "/mcp");
    for _ in 0..count {
        black_box(gateway.send(&request));
    }
}

fn bodies(count: usize) {
    let entry = json!({"to": "anna@example.com", "text": "Your booking is confirmed.", "count": 3, "urgent": false});
    let mut call = call("read");
    call["params"]["arguments"] = json!({"messages": vec![entry; 1200]});
    let body = call.to_string();
    for _ in 0..count {
        Body::parse(black_box(body.as_bytes())).unwrap();
    }
}

/// Hides every other element of a list.
struct EveryOtherHidden(bool);

impl View for EveryOtherHidden {
    fn shows(&mut self, _: Listed<'_>) -> Shown {
        self.0 = !self.0;
        if self.0 { Shown::No } else { Shown::Yes }
    }

    fn passes(&mut self, _: ServerMessage<'_>) -> bool {
        true
    }

    fn sees(&mut self, _: Response<'_>) {}

    fn caching(&self) -> Caching {
        Caching { most_ttl_ms: 60_000, is_required: true }
    }
}

fn lists(count: usize) {
    let page = page();
    for _ in 0..count {
        black_box(review(black_box(page.as_bytes()), &mut EveryOtherHidden(false)).unwrap());
    }
}

/// A list as it comes from an upstream: a call, and what its caller may see of the answer, of which a third needs more
/// than it has.
fn answers(media_type: &str, count: usize) {
    let mut document = policy();
    document["rules"] = json!([
        {"tools": ["tool_*"], "scopes": ["read"]},
        {"tools": ["tool_*3", "tool_*6", "tool_*9"], "scopes": ["write"]},
    ]);
    let mut gateway = Gateway::new(document, Keys::Inline);
    let request = Request::post("read", &json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}));
    let page = page();
    let event = format!("event: message\ndata: {page}\n\n");
    for _ in 0..count {
        let mut run = gateway.begin();
        run.headers(&request);
        run.complete(request.body());
        run.answer(&[(":status", "200"), ("content-type", media_type)]);
        if media_type == "application/json" {
            black_box(run.handle(Event::ResponseComplete { body: page.as_bytes() }));
            continue;
        }
        let mut chunks = event.as_bytes().chunks(16 * 1024).peekable();
        while let Some(bytes) = chunks.next() {
            black_box(run.handle(Event::ResponseChunk { bytes, end_of_stream: chunks.peek().is_none() }));
        }
    }
}

fn page() -> String {
    let tool = |number: usize| {
        json!({"name": format!("tool_{number:05}"), "title": "Send a message",
            "description": "Sends a text message to one contact; \"quiet hours\" are 22:00 to 07:00 at its place.",
            "inputSchema": {"type": "object", "required": ["contact_id", "text"], "properties": {
                "contact_id": {"type": "string", "description": "Identifier from find_contacts", "maxLength": 64},
                "text": {"type": "string", "maxLength": 1600}, "at": {"type": "string", "format": "date-time"}}}})
    };
    let tools: Vec<Value> = (0..100).map(tool).collect();
    json!({"jsonrpc": "2.0", "id": 1, "result": {"tools": tools}}).to_string()
}

//! What the parts of a decision cost, natively and as wasm. `benches/gateway` measures the whole in Envoy.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark that cannot go on has failed"
)]
#![expect(clippy::arithmetic_side_effects, reason = "the numbers are in the benchmark")]

#[path = "../tests/support"]
mod support {
    #[expect(dead_code, reason = "the benchmarks need a part of it")]
    pub(crate) mod gateway;
    #[expect(dead_code, reason = "the benchmarks need a part of it")]
    pub(crate) mod issuer;
    pub(crate) mod keys;
}

use std::hint::black_box;
use std::rc::Rc;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use serde_json::{Value, json};
use toolgate::audit::Chain;
use toolgate::exchange::{Ending, Flow};
use toolgate::identity::{Peer, Principal, Revoked};
use toolgate::jwt::{KeyRing, PureRust, TokenCache};
use toolgate::keys::NamedKey;
use toolgate::limits;
use toolgate::mcp::{Body, Call, CallContext, ClientCapabilities, Retry, Revision, Target};
use toolgate::policy::{AccessRequest, Condition, Decision, Inputs, Known, Place, Subject, decide};
use toolgate::units::{UnixMillis, UnixSeconds};

use support::gateway::{Gateway, Keys, Request, call, compile, policy, token_with};
use support::issuer::{self, NOW};

/// A decision must not cost more than the logarithm of the number of rules, whether or not all sides have their say.
fn decisions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decide");
    for count in [10, 1_000, 10_000] {
        for (name, document, claims) in [
            ("token only", token_only(count), json!({"scope": "read"})),
            ("all sides", all_sides(count), caller_of_all_sides()),
        ] {
            let policy = compile(document, Keys::Inline);
            let (rules, directory) = (&policy.rules, &policy.directory);
            let now = UnixSeconds::new(NOW);
            let keys = KeyRing::new(policy.key_sources.iter().map(|(source, _)| source.clone()));
            let token = token_with(claims.as_object().unwrap());
            let token = toolgate::jwt::verify(&token, &policy.issuers, &keys, &PureRust, now).unwrap();
            let principal = Principal::new(token, directory, &rules.scopes);
            let peer = Peer {
                address: Peer::parse_address("10.1.2.3:80"),
                uri_san: Some("spiffe://norg.test/desk".to_owned()),
                dns_san: None,
            };
            let mut definitions = directory.pinned_definitions();
            (0..count).for_each(|number| definitions.note(&format!("tool_{number:05}"), [0; 32]));
            let revoked = directory.revoked.clone();
            let subject = Subject {
                principal: &principal,
                peer: &peer,
                revoked: Revoked::Listed(&revoked),
                definitions: &definitions,
                now,
            };
            let arguments = r#"{"filter":{"tenant":"acme"},"text":"hello"}"#;
            for (kind, tool) in [("exact", format!("tool_{:05}", count / 2)), ("unnamed", "another_tool".to_owned())] {
                let call = Call {
                    revision: Revision::V2025_11_25,
                    method: None,
                    target: Target::Tool(tool.into()),
                    id: None,
                    capabilities: ClientCapabilities::default(),
                    context: CallContext::default(),
                    retry: Retry::default(),
                    arguments: Some(arguments),
                };
                let request = AccessRequest { subject, calls: &[call] };
                assert_eq!(matches!(decide(rules, directory, request), Decision::Permit(_)), kind == "exact");
                group.bench_function(BenchmarkId::new(format!("{kind}, {name}"), count), |bencher| {
                    bencher.iter(|| decide(rules, directory, black_box(request)));
                });
            }
        }
    }
    group.finish();
}

/// A policy with so many rules, each for one tool.
fn token_only(count: usize) -> Value {
    let mut document = policy();
    let rules = (0..count).map(|number| json!({"tools": [format!("tool_{number:05}")], "scopes": ["read"]}));
    // One rule in a hundred is a pattern, up to the number that a policy may have.
    let patterns = (0..count / 100).map(|number| json!({"tools": [format!("group_{number:05}_*")], "scopes": []}));
    document["rules"] = rules.chain(patterns).collect();
    document
}

/// The same rules, each with all that a rule can ask for, and all tables: as many cut-off subjects as rules, and as many
/// clients and pinned definitions, up to what a JSON object may have.
fn all_sides(count: usize) -> Value {
    let mut document = token_only(count);
    for rule in document["rules"].as_array_mut().unwrap() {
        rule["authentication"] = json!({"acr": ["mfa"], "amr": ["otp"], "max_age": "15m"});
        rule["tenant_argument"] = json!("/filter/tenant");
        rule["max_token_lifetime"] = json!("15m");
    }
    let own = json!({"tools": ["tool_0*"], "scopes": ["write"], "tenants": ["acme"]});
    document["rules"].as_array_mut().unwrap().push(own);
    document["authentication"]["jwt"][0]["claims"] = json!({"agent": ["agent_role"]});
    let named = |prefix: &str, value: &Value| -> Value {
        let most = count.min(limits::MAX_JSON_MEMBERS - 1);
        (0..most).map(|number| (format!("{prefix}_{number:05}"), value.clone())).collect()
    };
    // People have a few roles each, and policies a few dozen.
    document["operators"] = (0..50)
        .map(|number| {
            (format!("operator_{number}"), json!({"match": {"roles": [format!("role_{number}")]}, "scopes": ["*"]}))
        })
        .collect();
    document["agents"] = json!({"helper": {"scopes": ["read"], "approval": {"scopes": ["write"]}}});
    document["clients"] = named("client", &json!({"agent": "helper"}));
    document["clients"]["desk"] = json!({
        "agent": "helper", "scopes": ["read"], "tools": ["tool_*"],
        "source": {"cidrs": ["10.0.0.0/8"], "uri_sans": ["spiffe://norg.test/desk"]},
        "consent": {"by": "somebody", "on": "2026-11-02", "expires": "2099-12-31", "scopes": ["read"], "tools": ["tool_*"],
            "definitions": named("tool", &json!("00".repeat(32)))},
    });
    let subjects: Vec<Value> = (0..count).map(|number| json!({"subject": format!("subject_{number:05}")})).collect();
    document["revocation"] = json!({"subjects": subjects, "clients": ["gone"], "token_ids": ["t-0"]});
    document
}

fn caller_of_all_sides() -> Value {
    json!({
        "sub": "ann", "client_id": "desk", "scope": "read", "roles": ["role_7", "role_49"], "agent_role": "helper",
        "tenant_id": "acme", "acr": "mfa", "amr": ["pwd", "otp"], "auth_age_s": 60, "jti": "t-1",
        "act": {"sub": "helper-1"},
    })
}

fn verification(criterion: &mut Criterion) {
    let (issuers, keys, now) = ([issuer::trusted_issuer()], issuer::key_ring(), UnixSeconds::new(NOW));
    let tokens = [
        ("RS256", issuer::sign_rs256("rsa", issuer::claims())),
        ("ES256", issuer::sign_es256(&issuer::es256_key("ec"), issuer::claims())),
        ("EdDSA", issuer::sign(&issuer::header(), &issuer::claims())),
    ];
    let mut group = criterion.benchmark_group("verify");
    for (algorithm, token) in &tokens {
        group.bench_function(BenchmarkId::new("cold", algorithm), |bencher| {
            bencher.iter(|| toolgate::jwt::verify(black_box(token), &issuers, &keys, &PureRust, now).unwrap());
        });
    }
    let (_, token) = &tokens[0];
    let mut cache = TokenCache::new();
    cache.insert(token, Rc::new(issuer::verify(token).unwrap()), &keys);
    group.bench_function("cached", |bencher| bencher.iter(|| cache.get(black_box(token), &keys, now).unwrap()));
    group.finish();
}

/// A call with arguments as models write them, of about that many bytes.
fn call_of(bytes: usize) -> Value {
    let mut call = call("read");
    let entry = json!({"to": "anna@example.com", "text": "Your booking is confirmed.", "count": 3, "urgent": false});
    let entries = (bytes.saturating_sub(call.to_string().len())) / entry.to_string().len();
    call["params"]["arguments"] = json!({"messages": vec![entry; entries.max(1)]});
    call
}

fn parsing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    for size in [346, 10_000, 100_000, 1_000_000] {
        let body = call_of(size).to_string();
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| Body::parse(black_box(body.as_bytes())).unwrap());
        });
    }
    group.finish();
}

/// The records of a call, and their seals: of a caller of whom nothing is known but the token, and of one of whom all
/// sides have something to say, with arguments and headers as they come in practice.
fn records(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("record");
    let plain = ("plain", Gateway::new(policy(), Keys::Inline), Request::post("read", &call_of(346)));
    for (name, mut gateway, request) in [plain, team()] {
        let (ending, key) = (ending(), NamedKey::new("k1", &[1; 32]).unwrap());
        let mut chain = Chain::new("0".repeat(32), "node".to_owned(), String::new(), "worker".to_owned(), ending.at);
        let mut run = gateway.begin();
        run.headers(&request);
        assert_eq!(run.complete(request.body()).0, Flow::Pass, "{name}");
        group.bench_function(BenchmarkId::new("provisional", name), |bencher| {
            bencher.iter(|| {
                let entry = run.exchange.provisional(ending.started, ending.at).unwrap();
                black_box(chain.seal_provisional(&key, black_box(&entry)));
            });
        });
        group.bench_function(BenchmarkId::new("conclude and seal", name), |bencher| {
            bencher.iter(|| {
                let entry = run.exchange.conclude(&ending, &run.gateway.policy);
                black_box(chain.seal(&key, black_box(&entry)));
            });
        });
    }
    group.finish();
}

/// How a request ends when nothing goes wrong.
fn ending() -> Ending {
    let (started, at) = (UnixMillis::new(NOW * 1000 + 17), UnixMillis::new(NOW * 1000 + 42));
    let (details, source) = ("via_upstream".to_owned(), Some("192.0.2.7".to_owned()));
    Ending { started, at, status: Some(200), details, source, ..Ending::default() }
}

/// A person who uses an agent through a registered client, and a call of which the policy shows arguments.
fn team() -> (&'static str, Gateway, Request) {
    let mut document = policy();
    document["scopes"] = json!({
        "norg:contacts:read": {"risk": "low"}, "norg:messaging:write": {"risk": "medium"},
        "norg:booking:write": {"risk": "medium"},
    });
    document["operators"] =
        json!({"campaign_manager": {"match": {"roles": ["campaign-managers"]}, "scopes": ["norg:*"]}});
    document["agents"] = json!({"messaging_agent": {"scopes": ["norg:contacts:read", "norg:messaging:write"]}});
    document["clients"] = json!({"demo-messaging-agent": {
        "agent": "messaging_agent",
        "consent": {"by": "platform-team", "on": "2026-11-02", "expires": "2036-11-02", "scopes": ["norg:*"]},
    }});
    document["rules"] = json!([
        {"tools": ["read_contact"], "scopes": ["norg:contacts:read"]},
        {"tools": ["send_message"], "scopes": ["norg:messaging:write"]},
    ]);
    document["audit"] = json!({"arguments": {"send_message": {"/channel": "keep", "/contact_id": "pseudonymise"}}});
    let claims = json!({
        "sub": "anna@norg.example", "client_id": "demo-messaging-agent", "roles": ["campaign-managers", "staff"],
        "scope": "norg:contacts:read norg:messaging:write norg:booking:write", "jti": "5f0c7a52d1c94c1e",
    });
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "send_message", "arguments": {
        "channel": "email", "contact_id": "c-1042", "subject": "Your booking",
        "body": "Hello Anna, your booking for Thursday at ten is confirmed. Answer to this message to change it.",
    }}});
    let request = Request::post("", &body)
        .bearer(&token_with(claims.as_object().unwrap()))
        .with("x-request-id", "db7c29d2-b007-4da9-8d22-e14b88bf267e")
        .with("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    ("team", Gateway::new(document, Keys::Inline), request)
}

fn exchanges(criterion: &mut Criterion) {
    let mut gateway = Gateway::new(policy(), Keys::Inline);
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": "read", "arguments": {"contact": "c-17", "fields": ["name", "mail"]}}});
    let request = Request::post("read", &body);
    let bytes = body.to_string();
    criterion.bench_function("exchange/cached token", |bencher| {
        bencher.iter_batched(
            || request.clone(),
            |request| {
                let mut run = gateway.begin();
                run.headers(&request);
                assert_eq!(run.complete(bytes.as_bytes()).0, Flow::Pass);
            },
            BatchSize::SmallInput,
        );
    });
    let (_, mut gateway, request) = team();
    let (ending, key) = (ending(), NamedKey::new("k1", &[1; 32]).unwrap());
    let mut chain = Chain::new("0".repeat(32), "node".to_owned(), String::new(), "worker".to_owned(), ending.at);
    criterion.bench_function("exchange/cached token, records", |bencher| {
        bencher.iter(|| {
            let mut run = gateway.begin();
            run.headers(&request);
            assert_eq!(run.complete(request.body()).0, Flow::Pass);
            let entry = run.exchange.provisional(ending.started, ending.at).unwrap();
            black_box(chain.seal_provisional(&key, &entry));
            let entry = run.exchange.conclude(&ending, &run.gateway.policy);
            black_box(chain.seal(&key, &entry));
        });
    });
}

fn conditions(criterion: &mut Criterion) {
    let contact = json!({"id": "c-17", "mail": "anna@example.com", "eu": true});
    let some = json!({"channel": "email", "contacts": vec![contact; 100]}).to_string();
    let many = json!({"l": (0..5000).collect::<Vec<_>>()}).to_string();
    let mut group = criterion.benchmark_group("condition");
    for (name, text, arguments) in [
        ("client only", "client.id == 'demo' && time.hour >= 8", "{}"),
        ("one member", "arguments.channel != 'sms'", r#"{"channel":"email","text":"Your booking is confirmed."}"#),
        ("size of 100", "size(arguments.contacts) <= 500", &some),
        ("all of 100", "arguments.contacts.all(c, c.eu)", &some),
        // What the bound on the work has to stop.
        ("beyond the bound: nested", "arguments.l.all(a, arguments.l.all(b, a != b || true))", &many),
        ("beyond the bound: in", "arguments.l.all(a, a in arguments.l)", &many),
        ("beyond the bound: copies", "arguments.l.map(a, arguments.l).size() > 0", &many),
    ] {
        let condition = Condition::compile(text, Place::When).unwrap();
        let inputs = Inputs { arguments: Known::Yes(Some(arguments)), client: Some("demo"), ..Inputs::default() };
        group.bench_function(name, |bencher| bencher.iter(|| condition.evaluate(black_box(&inputs))));
    }
    let largest = json!({"l": vec![0; 8000]}).to_string();
    let within = json!({"l": (0..80).collect::<Vec<_>>()}).to_string();
    for (name, text, arguments) in [
        ("largest list", "arguments.l.size() > 500", &largest),
        ("nested, just within the bound", "arguments.l.all(a, arguments.l.exists(b, a == b - 200) || true)", &within),
    ] {
        let condition = Condition::compile(text, Place::When).unwrap();
        let inputs = Inputs { arguments: Known::Yes(Some(arguments)), ..Inputs::default() };
        assert_eq!(condition.evaluate(&inputs), Ok(true), "{name}");
        group.bench_function(name, |bencher| bencher.iter(|| condition.evaluate(black_box(&inputs))));
    }
    group.bench_function("compile", |bencher| {
        bencher.iter(|| Condition::compile(black_box("arguments.contacts.all(c, c.eu)"), Place::When).unwrap());
    });
    group.finish();
}

criterion_group!(benches, decisions, verification, parsing, exchanges, records, conditions);
criterion_main!(benches);

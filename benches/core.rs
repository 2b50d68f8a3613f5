//! What the parts of a decision cost, natively. `benches/envoy.py` measures the whole in Envoy.
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
use toolgate::exchange::Flow;
use toolgate::identity::{Definitions, Peer, Principal, Revoked};
use toolgate::jwt::{PureRust, TokenCache};
use toolgate::mcp::{Body, Call, Revision, Target};
use toolgate::policy::{AccessRequest, Decision, Subject, decide};
use toolgate::units::UnixSeconds;

use support::gateway::{Gateway, Keys, Request, call, compile, policy, token};
use support::issuer::{self, NOW};

/// A decision must not cost more than the logarithm of the number of rules.
fn decisions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decide");
    for count in [10, 1_000, 10_000] {
        let mut document = policy();
        let rules = (0..count).map(|number| json!({"tools": [format!("tool_{number:05}")], "scopes": ["read"]}));
        // One rule in a hundred is a pattern, up to the number that a policy may have.
        let patterns = (0..count / 100).map(|number| json!({"tools": [format!("group_{number:05}_*")], "scopes": []}));
        document["rules"] = rules.chain(patterns).collect();
        let policy = compile(document, Keys::Inline);
        let (rules, directory) = (&policy.rules, &policy.directory);
        let token = issuer::verify(&token("read")).unwrap();
        let principal = Principal::new(token, directory, &rules.scopes);
        let (peer, definitions, now) = (Peer::default(), Definitions::default(), UnixSeconds::new(NOW));
        let subject =
            Subject { principal: &principal, peer: &peer, revoked: Revoked::NoList, definitions: &definitions, now };
        for (kind, tool) in [("exact", format!("tool_{:05}", count / 2)), ("unnamed", "another_tool".to_owned())] {
            let call =
                Call { revision: Revision::V2025_11_25, method: None, target: Target::Tool(tool.into()), id: None };
            let request = AccessRequest { subject, calls: &[call], arguments: &|_| None };
            assert_eq!(matches!(decide(rules, directory, request), Decision::Permit(_)), kind == "exact");
            group.bench_function(BenchmarkId::new(kind, count), |bencher| {
                bencher.iter(|| decide(rules, directory, black_box(request)));
            });
        }
    }
    group.finish();
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
    for size in [346, 10_000, 100_000] {
        let body = call_of(size).to_string();
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| Body::parse(black_box(body.as_bytes())).unwrap());
        });
    }
    group.finish();
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
}

criterion_group!(benches, decisions, verification, parsing, exchanges);
criterion_main!(benches);

//! What it costs to read what the upstream sends, natively and as wasm. `benches/gateway` measures the whole in Envoy.
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
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use serde_json::json;
use toolgate::audit::Pointer;
use toolgate::audit::outcome::{OutcomeFields, OutcomePicker};
use toolgate::exchange::Event;
use toolgate::mcp::sse::{Edit, EventStream};
use toolgate::mcp::{Caching, Listed, Response, ServerMessage, Shown, View, review};

use support::gateway::{Gateway, Keys, Request, policy};

/// Hides every third element of a list.
struct EveryThirdHidden(usize);

impl View for EveryThirdHidden {
    fn shows(&mut self, _: Listed<'_>) -> Shown {
        self.0 += 1;
        if self.0.is_multiple_of(3) { Shown::No } else { Shown::Yes }
    }

    fn passes(&mut self, _: ServerMessage<'_>) -> bool {
        true
    }

    fn sees(&mut self, _: Response<'_>) {}

    fn caching(&self) -> Caching {
        Caching { most_ttl_ms: 60_000, is_required: true }
    }
}

/// A page of that many tools with descriptions and schemas as servers write them, about 600 bytes each.
fn tools_page(count: usize) -> String {
    let tool = |number: usize| {
        json!({"name": format!("tool_{number:05}"), "title": "Send a message",
            "description": "Sends a text message to one contact. Use it for reminders and for answers to questions, \
                            not for campaigns; \"quiet hours\" are 22:00 to 07:00 at the contact's place.",
            "inputSchema": {"type": "object", "required": ["contact_id", "text"], "properties": {
                "contact_id": {"type": "string", "description": "Identifier from find_contacts", "maxLength": 64},
                "channel": {"type": "string", "enum": ["sms", "email", "push"], "default": "sms"},
                "text": {"type": "string", "maxLength": 1600}, "at": {"type": "string", "format": "date-time"}}},
            "annotations": {"readOnlyHint": false, "destructiveHint": false, "openWorldHint": true}})
    };
    json!({"jsonrpc": "2.0", "id": 1, "result": {"tools": (0..count).map(tool).collect::<Vec<_>>()}}).to_string()
}

fn lists(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("filter list");
    for count in [10, 100, 1_000] {
        let page = tools_page(count);
        group.throughput(Throughput::Bytes(page.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter(|| review(black_box(page.as_bytes()), &mut EveryThirdHidden(0)).unwrap());
        });
    }
    group.finish();
}

/// Decides about every tool of a page, of which a third needs a scope that the caller lacks, and about every event.
#[expect(clippy::disallowed_methods, reason = "what comes before the answer is not measured")]
fn exchanges(criterion: &mut Criterion) {
    let mut document = policy();
    document["rules"] = json!([
        {"tools": ["tool_*"], "scopes": ["read"]},
        {"tools": ["tool_*3", "tool_*6", "tool_*9"], "scopes": ["write"]},
    ]);
    let mut gateway = Gateway::new(document, Keys::Inline);
    let asked = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    let request = Request::post("read", &asked);
    let page = tools_page(100);
    let event = format!("event: message\ndata: {page}\n\n");
    let mut group = criterion.benchmark_group("list of 100");
    for (kind, media_type, body) in [("json", "application/json", &page), ("event", "text/event-stream", &event)] {
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(kind, |bencher| {
            bencher.iter_custom(|times| {
                let mut taken = Duration::ZERO;
                for _ in 0..times {
                    let mut run = gateway.begin();
                    run.headers(&request);
                    run.complete(request.body());
                    run.answer(&[(":status", "200"), ("content-type", media_type)]);
                    let begin = Instant::now();
                    let commands = match kind {
                        "json" => run.handle(Event::ResponseComplete { body: body.as_bytes() }).1,
                        _ => run.handle(Event::ResponseChunk { bytes: body.as_bytes(), end_of_stream: true }).1,
                    };
                    taken += begin.elapsed();
                    assert_eq!(commands.len(), 2);
                }
                taken
            });
        });
    }
    group.finish();
}

fn streams(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("event stream");
    for size in [200, 4_000, 100_000] {
        let text = "x".repeat(size);
        let message = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": text}});
        let events = format!("event: message\r\nid: 1\r\ndata: {message}\r\n\r\n").repeat(2_000_000 / size);
        group.throughput(Throughput::Bytes(events.len() as u64));
        for (kind, is_read) in [("framing", false), ("review", true)] {
            let mut edit = |data: &[u8]| match is_read.then(|| review(data, &mut EveryThirdHidden(0))) {
                Some(Err(_)) => Edit::Drop,
                _ => Edit::Keep,
            };
            group.bench_function(BenchmarkId::new(kind, size), |bencher| {
                bencher.iter(|| {
                    let mut stream = EventStream::default();
                    for chunk in black_box(events.as_bytes()).chunks(16 * 1024) {
                        black_box(stream.feed(chunk, &mut edit).unwrap());
                    }
                });
            });
        }
    }
    group.finish();
}

/// Picks two fields from answers of a megabyte: one long text, and many short values.
fn outcomes(criterion: &mut Criterion) {
    let pointer = |text| Pointer::parse(text).unwrap();
    let fields = vec![
        ("booking_id".to_owned(), pointer("/structuredContent/booking_id")),
        ("first".to_owned(), pointer("/structuredContent/rows/0/id")),
    ];
    let fields = Arc::new(OutcomeFields::new(fields).unwrap());
    let row = |number: usize| json!({"id": number, "name": "Jo", "active": true, "score": 4.25, "tags": ["a", null]});
    let answer = |text: String, rows: usize| {
        json!({"jsonrpc": "2.0", "id": 7, "result": {"content": [{"type": "text", "text": text}],
            "structuredContent": {"booking_id": "B-7", "rows": (0..rows).map(row).collect::<Vec<_>>()}}})
        .to_string()
    };
    let mut group = criterion.benchmark_group("outcome");
    for (kind, text) in [
        ("text", answer("All is well. ".repeat(80_000), 1)),
        ("lines", answer("{\"id\": 7, \"name\": \"Jo\"}\n".repeat(30_000), 1)),
        ("values", answer(String::new(), 15_000)),
    ] {
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(kind, |bencher| {
            bencher.iter(|| {
                let mut picker = OutcomePicker::new(Some(Arc::clone(&fields)), Some("7"));
                for chunk in black_box(text.as_bytes()).chunks(16 * 1024) {
                    picker.feed(chunk);
                }
                assert_eq!(picker.finish().fields.len(), 2);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, lists, exchanges, streams, outcomes);
criterion_main!(benches);

//! What holds for every order of events and for every request, however broken.
#![cfg(not(target_family = "wasm"))]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]
#![expect(clippy::arithmetic_side_effects, reason = "the numbers are in the test")]

mod support {
    #[expect(dead_code, reason = "invariants need a part of it")]
    pub(crate) mod approvals;
    #[expect(dead_code, reason = "invariants need a part of it")]
    pub(crate) mod gateway;
    #[expect(dead_code, reason = "invariants need a part of it")]
    pub(crate) mod issuer;
    pub(crate) mod keys;
}

use std::cell::RefCell;

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_assert, prop_oneof, proptest};
use proptest::sample::Index;
use serde_json::{Value, json};
use toolgate::exchange::{Circuits, Command, Event, Flow, ServiceAnswer, ServiceCall, Verdict};
use toolgate::http::HeaderList;
use toolgate::identity::Peer;
use toolgate::jwt::{IssuerIndex, KeySet, TokenCache};
use toolgate::units::Seconds;

use support::approvals::{Service, gated};
use support::gateway::{Gateway, Keys, Outcome, Request, Run, call, policy, token};
use support::issuer;
use support::keys::key_set;

// --- Orders of events -----------------------------------------------------------------------------------------------

/// Concrete events, enough to go every way through the state machine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    GoodHeaders,
    BadHeaders,
    HeadersOfAStream,
    SmallPart,
    LargePart,
    AllowedBody,
    DeniedBody,
    Garbage,
    KeysCome,
    KeysFail,
    Answer200,
    Answer401,
    HostFailure,
}

const STEPS: [Step; 13] = [
    Step::GoodHeaders,
    Step::BadHeaders,
    Step::HeadersOfAStream,
    Step::SmallPart,
    Step::LargePart,
    Step::AllowedBody,
    Step::DeniedBody,
    Step::Garbage,
    Step::KeysCome,
    Step::KeysFail,
    Step::Answer200,
    Step::Answer401,
    Step::HostFailure,
];

/// What the steps are made of, prepared once.
struct Script {
    good: HeaderList,
    bad: HeaderList,
    stream: HeaderList,
    allowed: Vec<u8>,
    denied: Vec<u8>,
    keys: KeySet,
}

impl Script {
    fn new() -> Self {
        let allowed = Request::post("read", &call("read"));
        Self {
            bad: allowed.clone().bearer("a.b.c").header_list(),
            good: allowed.header_list(),
            stream: Request::new("GET", "/mcp").bearer(&token("read")).header_list(),
            allowed: call("read").to_string().into_bytes(),
            denied: call("write").to_string().into_bytes(),
            keys: key_set(&issuer::jwks()),
        }
    }

    fn event(&self, step: Step) -> Event<'_> {
        let headers = |headers: &HeaderList, end_of_stream| Event::RequestHeaders {
            headers: headers.clone(),
            end_of_stream,
            peer: Peer::default(),
        };
        let answer = |status, content_type| Event::ResponseHeaders {
            headers: HeaderList::from_iter([(":status", status), ("content-type", content_type)]),
            end_of_stream: false,
        };
        match step {
            Step::GoodHeaders => headers(&self.good, false),
            Step::BadHeaders => headers(&self.bad, false),
            Step::HeadersOfAStream => headers(&self.stream, true),
            Step::SmallPart => Event::RequestBody { buffered: 100 },
            Step::LargePart => Event::RequestBody { buffered: 100_000 },
            Step::AllowedBody => Event::RequestComplete { body: &self.allowed },
            Step::DeniedBody => Event::RequestComplete { body: &self.denied },
            Step::Garbage => Event::RequestComplete { body: b"{" },
            Step::KeysCome | Step::KeysFail => Event::Settled,
            Step::Answer200 => answer("200", "application/json"),
            Step::Answer401 => answer("401", "application/json"),
            Step::HostFailure => Event::HostFailure,
        }
    }
}

/// What an exchange has done so far.
#[derive(Default)]
struct Seen {
    steps: Vec<Step>,
    replies: usize,
    decisions: usize,
    permits: usize,
}

impl Seen {
    /// Takes in one more step and holds what came of it against the invariants.
    fn take(&mut self, step: Step, flow: Flow, commands: &[Command]) {
        self.steps.push(step);
        let steps = &self.steps;
        for command in commands {
            match command {
                Command::Reply(_) => self.replies += 1,
                Command::Decided { verdict: Verdict::Allow, .. } => self.decisions += 1,
                Command::Decided { .. } => {
                    self.decisions += 1;
                    assert_eq!(self.permits, 0, "denied what was forwarded: {steps:?}");
                }
                Command::EditRequestHeaders(edits) => {
                    self.permits += 1;
                    assert!(
                        edits.remove.iter().any(|removed| **removed == *b"authorization"),
                        "the token goes upstream: {steps:?}"
                    );
                    assert!(self.is_entitled(), "forwarded without an allowed request: {steps:?}");
                }
                Command::EditResponseHeaders(_) | Command::UpstreamRefused | Command::UpstreamUnusable { .. } => {
                    assert_eq!(self.permits, 1, "an answer to what was not forwarded: {steps:?}");
                }
                Command::Await(_) => assert_eq!(self.decisions, 0, "waits after deciding: {steps:?}"),
                Command::CallService(_) | Command::ReplaceRequestBody(_) | Command::CountApproval(_) => {
                    panic!("this policy asks nobody: {steps:?}");
                }
                Command::ReplaceResponseBody(_)
                | Command::Watch(_)
                | Command::CutOff { .. }
                | Command::Withheld { .. } => {
                    assert_eq!(self.permits, 1, "something of an answer to what was not forwarded: {steps:?}");
                }
            }
        }
        assert!(self.replies <= 1, "answered twice: {steps:?}");
        assert!(self.decisions <= 1, "decided twice: {steps:?}");
        assert!(self.permits <= 1, "forwarded twice: {steps:?}");
        let is_answer = matches!(step, Step::Answer200 | Step::Answer401);
        if flow == Flow::Pass && !is_answer {
            assert!(self.permits == 1 && self.replies == 0, "passed without a permit: {steps:?}");
        }
    }

    /// Whether the headers were good, the keys had come where they were needed, and the request was complete and
    /// allowed, by its last step and nothing before.
    fn is_entitled(&self) -> bool {
        let (last, before) = self.steps.split_last().unwrap();
        let arrived: Vec<Step> = before
            .iter()
            .copied()
            .filter(|step| !matches!(step, Step::SmallPart | Step::Answer200 | Step::Answer401))
            .collect();
        match (last, arrived.as_slice()) {
            (Step::HeadersOfAStream, rest) => rest.is_empty(),
            // Without keys anything may have been complete before they came, even twice, and is shown again.
            (Step::AllowedBody, [Step::GoodHeaders, rest @ ..]) => rest.iter().all(|step| {
                matches!(step, Step::KeysCome | Step::KeysFail | Step::AllowedBody | Step::DeniedBody | Step::Garbage)
            }),
            _ => false,
        }
    }
}

/// Runs a sequence of steps on a fresh exchange.
fn run(gateway: &mut Gateway, script: &Script, steps: impl Iterator<Item = Step>) {
    let mut seen = Seen::default();
    let mut run: Run<'_> = gateway.begin();
    for step in steps {
        let (issuer, now) = (IssuerIndex::new(0), run.gateway.now);
        if step == Step::KeysCome {
            run.gateway.keys.install(issuer, script.keys.clone(), now);
        } else if step == Step::KeysFail {
            run.gateway.keys.fetch_failed(issuer, now);
        }
        let (flow, commands) = run.handle(script.event(step));
        seen.take(step, flow, &commands);
    }
}

#[test]
fn no_order_of_events_forwards_what_is_not_allowed_or_answers_twice() {
    let script = Script::new();
    // With keys to come the token is verified anew each time, which is slow: shorter sequences will do.
    for (keys, length) in [(Keys::Inline, 5), (Keys::NotFetched, 4)] {
        let steps: Vec<Step> = match keys {
            Keys::Inline => STEPS.into_iter().filter(|step| *step != Step::KeysFail).collect(),
            Keys::NotFetched => STEPS.to_vec(),
        };
        let mut gateway = Gateway::new(policy(), keys);
        let pristine = gateway.keys.clone();
        for number in 0..steps.len().pow(length) {
            if let Keys::NotFetched = keys {
                gateway.keys = pristine.clone();
                gateway.tokens = TokenCache::new();
            }
            let digits = (0..length).map(|place| steps[number / steps.len().pow(place) % steps.len()]);
            run(&mut gateway, &script, digits);
        }
    }
}

// --- Orders of an answer's events -----------------------------------------------------------------------------------

/// What an upstream, or a host out of order, can do with the answer to a request for tools. The tool `write` is hidden.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum AnswerStep {
    Json,
    Events,
    Compressed,
    Refused,
    Part,
    LargePart,
    Whole,
    Garbage,
    Event,
    StartOfAnEvent,
    RestOfAnEvent,
    LastEvent,
    Expiry,
    HostFailure,
}

const ANSWER_STEPS: [AnswerStep; 14] = [
    AnswerStep::Json,
    AnswerStep::Events,
    AnswerStep::Compressed,
    AnswerStep::Refused,
    AnswerStep::Part,
    AnswerStep::LargePart,
    AnswerStep::Whole,
    AnswerStep::Garbage,
    AnswerStep::Event,
    AnswerStep::StartOfAnEvent,
    AnswerStep::RestOfAnEvent,
    AnswerStep::LastEvent,
    AnswerStep::Expiry,
    AnswerStep::HostFailure,
];

const TOOLS: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"write"},{"name":"read"}]}}"#;

/// What has become of an answer so far, at the client.
#[derive(Default)]
struct Answer {
    steps: Vec<AnswerStep>,
    headers_passed: bool,
    replies: usize,
    cuts: usize,
    received: Vec<u8>,
}

impl Answer {
    fn take(&mut self, step: AnswerStep, event: &Event<'_>, flow: Flow, commands: Vec<Command>) {
        self.steps.push(step);
        let steps = &self.steps;
        let was_over = self.replies + self.cuts > 0;
        let mut body = match event {
            Event::ResponseComplete { body: bytes } | Event::ResponseChunk { bytes, .. } => Some(bytes.to_vec()),
            Event::RequestHeaders { .. }
            | Event::RequestBody { .. }
            | Event::RequestComplete { .. }
            | Event::Settled
            | Event::ServiceAnswered(_)
            | Event::ResponseHeaders { .. }
            | Event::ResponseBody { .. }
            | Event::TimePassed
            | Event::HostFailure => None,
        };
        for command in commands {
            if let Command::Reply(_) = command {
                self.replies += 1;
                assert!(!self.headers_passed, "a reply after the headers: {steps:?}");
            } else if let Command::CutOff { .. } = command {
                self.cuts += 1;
                assert!(self.headers_passed, "cut off before anything was sent: {steps:?}");
            } else if let Command::ReplaceResponseBody(other) = command {
                assert!(body.is_some(), "no body to replace: {steps:?}");
                body = Some(other);
            }
        }
        assert!(self.replies + self.cuts <= 1, "ended twice: {steps:?}");
        if flow == Flow::Pass && !matches!(event, Event::TimePassed) {
            assert!(!was_over && self.replies + self.cuts == 0, "passed after the end: {steps:?}");
            self.headers_passed |= matches!(event, Event::ResponseHeaders { .. });
            // A host would not show a body before its headers; if one did, nothing of it may pass.
            assert!(body.is_none() || self.headers_passed || step == AnswerStep::Whole, "{steps:?}");
            self.received.extend(body.unwrap_or_default());
        }
        // No client reads any other line.
        let text = String::from_utf8_lossy(&self.received);
        let mut lines = text.lines().filter(|line| line.starts_with("data") || line.starts_with('{'));
        assert!(lines.all(|line| !line.contains("write")), "{steps:?}: {text}");
    }
}

#[test]
fn no_order_of_an_answers_events_shows_what_is_hidden() {
    let mut gateway = Gateway::new(policy(), Keys::Inline);
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    let request = Request::post("read", &list);
    let event = format!("id: 1\ndata: {TOOLS}\n\n");
    let (start, rest) = event.split_at(50);
    let (start_time, length) = (gateway.now, 4_u32);
    for number in 0..ANSWER_STEPS.len().pow(length) {
        gateway.now = start_time;
        let mut run = gateway.begin();
        run.headers(&request);
        assert_eq!(run.complete(list.to_string().as_bytes()).0, Flow::Pass);
        let mut answer = Answer::default();
        for place in 0..length {
            let step = ANSWER_STEPS[number / ANSWER_STEPS.len().pow(place) % ANSWER_STEPS.len()];
            let headers = |pairs: &[(&str, &str)]| {
                let status = if step == AnswerStep::Refused { "401" } else { "200" };
                let headers = [&[(":status", status)], pairs].concat().into_iter().collect();
                Event::ResponseHeaders { headers, end_of_stream: false }
            };
            let chunk = |text, end_of_stream| Event::ResponseChunk { bytes: str::as_bytes(text), end_of_stream };
            if step == AnswerStep::Expiry {
                run.gateway.now = start_time.plus(Seconds::new(10_000));
            }
            let event = || match step {
                AnswerStep::Json | AnswerStep::Refused => headers(&[("content-type", "application/json")]),
                AnswerStep::Events => headers(&[("content-type", "text/event-stream")]),
                AnswerStep::Compressed => headers(&[("content-type", "application/json"), ("content-encoding", "br")]),
                AnswerStep::Part => Event::ResponseBody { buffered: 10 },
                AnswerStep::LargePart => Event::ResponseBody { buffered: 100_000_000 },
                AnswerStep::Whole => Event::ResponseComplete { body: TOOLS.as_bytes() },
                AnswerStep::Garbage => Event::ResponseComplete { body: b"{\"write\"" },
                AnswerStep::Event => chunk(&event, false),
                AnswerStep::StartOfAnEvent => chunk(start, false),
                AnswerStep::RestOfAnEvent => chunk(rest, false),
                AnswerStep::LastEvent => chunk(&event, true),
                AnswerStep::Expiry => Event::TimePassed,
                AnswerStep::HostFailure => Event::HostFailure,
            };
            let (flow, commands) = run.handle(event());
            answer.take(step, &event(), flow, commands);
        }
    }
}

// --- Orders of events of a call that waits for people -----------------------------------------------------------------

/// What the host and an approval service can do with a call that somebody must approve.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum GatedStep {
    Headers,
    Part,
    Body,
    /// Another call, which must be approved too.
    OtherBody,
    Answer200,
    /// The service answers what it was asked last as the contract says, while nobody has decided.
    Answers,
    /// The same, and it approves before.
    Approves,
    /// The same, and it rejects before.
    Rejects,
    /// A grant that was signed for another request.
    OldGrant,
    /// A grant with the right claims that somebody else has signed.
    ForgedGrant,
    /// It says that the approval can be used, and nothing else.
    SaysApproved,
    Refuses,
    Fails,
    Unreachable,
    Time,
    Expiry,
    HostFailure,
}

const GATED_STEPS: [GatedStep; 17] = [
    GatedStep::Headers,
    GatedStep::Part,
    GatedStep::Body,
    GatedStep::OtherBody,
    GatedStep::Answer200,
    GatedStep::Answers,
    GatedStep::Approves,
    GatedStep::Rejects,
    GatedStep::OldGrant,
    GatedStep::ForgedGrant,
    GatedStep::SaysApproved,
    GatedStep::Refuses,
    GatedStep::Fails,
    GatedStep::Unreachable,
    GatedStep::Time,
    GatedStep::Expiry,
    GatedStep::HostFailure,
];

/// A call that waits, and what has become of it.
struct Gated {
    service: Service,
    steps: Vec<GatedStep>,
    /// What the service was asked last, and whether it still has to answer.
    call: Option<ServiceCall>,
    /// The service signed a grant for the call that it was asked about last, and it is the step at hand or the one before.
    granted: bool,
    /// The body that people were asked about.
    asked_for: Option<GatedStep>,
    last_body: Option<GatedStep>,
    nonces: Vec<Value>,
    replies: usize,
    decisions: usize,
    permits: usize,
}

impl Gated {
    /// What the service says to the latest call.
    fn answer(&mut self, step: GatedStep, old_grant: &str, now: u64) -> (u16, Value) {
        let Some(call) = self.call.clone() else { return (200, json!({"grant": old_grant})) };
        if step == GatedStep::OldGrant {
            return (200, json!({"grant": old_grant}));
        }
        if step == GatedStep::Refuses {
            return (409, json!({"code": "not_approved"}));
        }
        if step == GatedStep::Fails {
            return (500, json!({}));
        }
        self.decide(step);
        let (status, mut answer) = self.service.take(&call, now);
        self.service.forgery = |_, _| {};
        if step == GatedStep::SaysApproved {
            answer["state"] = "approved".into();
            if answer.get("grant").is_some() {
                answer["grant"] = "approved".into();
            }
        }
        let is_genuine = matches!(step, GatedStep::Answers | GatedStep::Approves | GatedStep::Rejects);
        self.granted |= is_genuine && answer.get("grant").is_some();
        (status, answer)
    }

    fn decide(&mut self, step: GatedStep) {
        let decided = if step == GatedStep::Approves { "approved" } else { "rejected" };
        if let (GatedStep::Approves | GatedStep::Rejects, Some(kept)) = (step, self.service.approvals.last_mut())
            && kept.state == "pending"
        {
            kept.state = decided;
        }
        if step == GatedStep::ForgedGrant {
            self.service.forgery = |header, _| header["kid"] = "ec".into();
        }
    }

    fn take(&mut self, step: GatedStep, flow: Flow, commands: Vec<Command>) {
        self.steps.push(step);
        let steps = &self.steps;
        if matches!(step, GatedStep::Body | GatedStep::OtherBody) {
            self.last_body = Some(step);
        }
        for command in commands {
            match command {
                Command::Reply(reply) => {
                    self.replies += 1;
                    // After forwarding, a host that is broken gets one in place of an answer that it cannot show.
                    assert_eq!(self.permits == 1, reply.status == 502, "a reply after forwarding: {steps:?}");
                }
                Command::Decided { verdict, .. } => {
                    self.decisions += 1;
                    assert_eq!(verdict == Verdict::Allow, self.permits == 1, "{steps:?}");
                }
                Command::EditRequestHeaders(_) => {
                    self.permits += 1;
                    assert!(self.granted, "forwarded without a grant: {steps:?}");
                    assert_eq!(self.asked_for, self.last_body, "forwarded another call: {steps:?}");
                    assert!(!steps.contains(&GatedStep::Expiry), "forwarded for nobody: {steps:?}");
                }
                Command::CallService(call) => {
                    assert_eq!((self.replies, self.permits), (0, 0), "asks after the end: {steps:?}");
                    if call.path.ends_with("/consume") {
                        let body: Value = serde_json::from_slice(&call.body).unwrap();
                        self.nonces.push(body["nonce"].clone());
                        assert!(!steps.contains(&GatedStep::Expiry), "used up for nobody: {steps:?}");
                    }
                    self.asked_for = self.asked_for.or(self.last_body);
                    self.call = Some(call);
                }
                Command::Watch(_) | Command::CountApproval(_) | Command::EditResponseHeaders(_) => {}
                Command::Await(_)
                | Command::ReplaceRequestBody(_)
                | Command::UpstreamRefused
                | Command::UpstreamUnusable { .. }
                | Command::ReplaceResponseBody(_)
                | Command::CutOff { .. }
                | Command::Withheld { .. } => panic!("{command:?}: {steps:?}"),
            }
        }
        assert!(self.replies <= 1 && self.decisions <= 1 && self.permits <= 1, "more than once: {steps:?}");
        assert!(self.nonces.iter().all(|nonce| *nonce == self.nonces[0]), "used up twice: {steps:?}");
        let used = self.service.approvals.iter().filter(|kept| kept.state == "consumed").count();
        assert!(used <= 1 && self.service.approvals.len() <= 1, "asked for or used twice: {steps:?}");
        if flow == Flow::Pass && step != GatedStep::Answer200 {
            assert!(self.permits == 1 && self.replies == 0, "passed without a permit: {steps:?}");
        }
    }
}

/// Runs gated steps on a fresh exchange, and says whether the call was forwarded.
fn run_gated(gateway: &mut Gateway, script: &GatedScript, steps: impl Iterator<Item = GatedStep>) -> bool {
    let start = gateway.now;
    gateway.circuits = Circuits::new(1);
    let mut gated = Gated {
        service: Service::new(),
        steps: Vec::new(),
        call: None,
        granted: false,
        asked_for: None,
        last_body: None,
        nonces: Vec::new(),
        replies: 0,
        decisions: 0,
        permits: 0,
    };
    let mut run = gateway.begin();
    for step in steps {
        if step == GatedStep::Expiry {
            run.gateway.now = run.gateway.now.plus(Seconds::new(10_000));
        }
        let now = run.gateway.now.get();
        let body: Vec<u8>;
        let event = match step {
            GatedStep::Headers => {
                Event::RequestHeaders { headers: script.headers.clone(), end_of_stream: false, peer: Peer::default() }
            }
            GatedStep::Part => Event::RequestBody { buffered: 10 },
            GatedStep::Body => Event::RequestComplete { body: &script.body },
            GatedStep::OtherBody => Event::RequestComplete { body: &script.other },
            GatedStep::Answer200 => {
                let headers = [(":status", "200"), ("content-type", "application/json")].into_iter().collect();
                Event::ResponseHeaders { headers, end_of_stream: false }
            }
            GatedStep::Unreachable => Event::ServiceAnswered(ServiceAnswer::Unreachable),
            GatedStep::Time | GatedStep::Expiry => Event::TimePassed,
            GatedStep::HostFailure => Event::HostFailure,
            GatedStep::Answers
            | GatedStep::Approves
            | GatedStep::Rejects
            | GatedStep::OldGrant
            | GatedStep::ForgedGrant
            | GatedStep::SaysApproved
            | GatedStep::Refuses
            | GatedStep::Fails => {
                let (status, answer) = gated.answer(step, &script.old_grant, now);
                body = answer.to_string().into_bytes();
                Event::ServiceAnswered(ServiceAnswer::Reply { status, body: &body })
            }
        };
        let (flow, commands) = run.handle(event);
        gated.take(step, flow, commands);
    }
    run.gateway.now = start;
    gated.permits == 1
}

/// What the steps are made of, prepared once.
struct GatedScript {
    headers: HeaderList,
    body: Vec<u8>,
    other: Vec<u8>,
    /// A grant that the service has made for another request of the same call.
    old_grant: String,
}

impl GatedScript {
    fn new() -> Self {
        let mut world = support::approvals::World::new(gated());
        let request = Request::post("write", &call("write"));
        let mut other = call("write");
        other["params"]["arguments"]["to"] = "eve".into();
        world.send(&request);
        world.service().approve();
        let sent = world.send(&request);
        let consumption = sent.calls.last().unwrap();
        let grant = world.service().take(consumption, issuer::NOW).1["grant"].as_str().unwrap().to_owned();
        let other = other.to_string().into_bytes();
        Self { headers: request.header_list(), body: request.body().to_vec(), other, old_grant: grant }
    }
}

#[test]
fn no_order_of_events_forwards_what_nobody_has_approved() {
    let script = GatedScript::new();
    let mut gateway = Gateway::new(gated(), Keys::Inline);
    let every = |length: u32| {
        (0..GATED_STEPS.len().pow(length)).map(move |number| {
            (0..length).map(move |place| GATED_STEPS[number / GATED_STEPS.len().pow(place) % GATED_STEPS.len()])
        })
    };
    for steps in every(3) {
        assert!(!run_gated(&mut gateway, &script, steps), "in three steps nobody can be asked");
    }
    // From where the service was asked for an approval, for its state, and for its use.
    let beginnings: [&[GatedStep]; 3] = [
        &[GatedStep::Headers, GatedStep::Body],
        &[GatedStep::Headers, GatedStep::Body, GatedStep::Answers],
        &[GatedStep::Headers, GatedStep::Body, GatedStep::Answers, GatedStep::Approves],
    ];
    let mut forwarded = [0_usize; 3];
    for (count, beginning) in forwarded.iter_mut().zip(beginnings) {
        for steps in every(3) {
            *count += usize::from(run_gated(&mut gateway, &script, beginning.iter().copied().chain(steps)));
        }
    }
    assert!(forwarded.iter().all(|count| *count > 0), "{forwarded:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn nor_does_any_longer_one(steps in prop::collection::vec(0..GATED_STEPS.len(), 0..12)) {
        let (script, mut gateway) = (GatedScript::new(), Gateway::new(gated(), Keys::Inline));
        let beginning = [GatedStep::Headers, GatedStep::Body];
        run_gated(&mut gateway, &script, beginning.into_iter().chain(steps.iter().map(|step| GATED_STEPS[*step])));
    }
}

// --- Bodies ---------------------------------------------------------------------------------------------------------

/// A change of a body's bytes, of the kinds that fool parsers.
#[derive(Clone, Debug)]
enum Mutation {
    Replace(Index, u8),
    Insert(Index, &'static str),
    Remove(Index, usize),
    /// Copies a piece of the body to another place.
    Splice(Index, usize, Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let tokens = [
        "\"name\":\"write\",",
        "\"n\\u0061me\":\"write\",",
        "\"Name\":\"write\",",
        "\"method\":\"ping\",",
        "\"params\":{\"name\":\"write\"},",
        "\"params\":{},",
        "\"_meta\":{\"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\"},",
        "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"tools/call\",\"params\":{\"name\":\"write\"}},",
        "\"uri\":\"norg://x\",",
        "[",
        "]",
        "{",
        "}",
        ",",
        "\"",
        "\\",
        "\u{feff}",
        "\0",
        " ",
        "\n",
        "\\u0000",
        "\\ud800",
        "null",
        "1e5",
    ];
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Replace(at, byte)),
        (any::<Index>(), prop::sample::select(tokens.to_vec())).prop_map(|(at, text)| Mutation::Insert(at, text)),
        (any::<Index>(), 1..12_usize).prop_map(|(at, length)| Mutation::Remove(at, length)),
        (any::<Index>(), 1..40_usize, any::<Index>()).prop_map(|(from, length, to)| Mutation::Splice(from, length, to)),
    ]
}

fn mutate(body: &mut Vec<u8>, mutation: &Mutation) {
    let len = body.len();
    match mutation {
        Mutation::Replace(at, byte) if len > 0 => body[at.index(len)] = *byte,
        Mutation::Insert(at, text) => {
            let at = at.index(len + 1);
            body.splice(at..at, text.bytes());
        }
        Mutation::Remove(at, length) if len > 0 => {
            let at = at.index(len);
            body.drain(at..len.min(at + length));
        }
        Mutation::Splice(from, length, to) if len > 0 => {
            let (from, to) = (from.index(len), to.index(len + 1));
            let piece = body[from..len.min(from + length)].to_vec();
            body.splice(to..to, piece);
        }
        Mutation::Replace(..) | Mutation::Remove(..) | Mutation::Splice(..) => {}
    }
}

/// Bodies that are allowed for a token with the scope `read`, or not.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let bodies = [
        call("read"),
        call("write"),
        json!([call("read"), call("read")]),
        json!({"jsonrpc": "2.0", "id": "a", "method": "tools/list", "params": {"cursor": "x"}}),
        json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
        json!({"jsonrpc": "2.0", "id": 1, "result": {"name": "write", "method": "tools/call"}}),
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"arguments": {"name": "write"}, "name": "read"}}),
    ];
    let texts = bodies.map(|body| body.to_string().into_bytes());
    (prop::sample::select(texts.to_vec()), prop::collection::vec(mutation(), 0..4)).prop_map(|(mut body, mutations)| {
        mutations.iter().for_each(|mutation| mutate(&mut body, mutation));
        body
    })
}

/// Whether a lenient reader finds nothing in `message` that the token of these tests must not do.
fn is_harmless(message: &Value) -> bool {
    match message["method"].as_str() {
        Some("tools/call") => message["params"]["name"] == "read",
        Some(method) => !["prompts/get", "resources/read", "completion/complete"].contains(&method),
        None => message["method"].is_null() && (message.get("result").is_some() || message.get("error").is_some()),
    }
}

/// Header values as a client, or an attacker, could send them.
fn header_values() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        "[ -~]{0,60}".prop_map(String::into_bytes),
        Just(b"Bearer ".to_vec()),
        "[A-Za-z0-9_-]{0,20}\\.[A-Za-z0-9_-]{0,20}\\.[A-Za-z0-9_-]{0,20}"
            .prop_map(|token| format!("Bearer {token}").into_bytes()),
        "=\\?base64\\?[A-Za-z0-9+/=]{0,12}\\?=".prop_map(String::into_bytes),
    ]
}

const HEADERS: [&str; 17] = [
    ":path",
    ":method",
    ":authority",
    "authorization",
    "content-type",
    "content-encoding",
    "content-length",
    "origin",
    "access-control-request-method",
    "mcp-protocol-version",
    "mcp-method",
    "mcp-name",
    "mcp-session-id",
    "last-event-id",
    "x-toolgate-subject",
    "accept",
    "te",
];

thread_local! {
    /// Compiling a policy takes longer than a thousand decisions.
    static GATEWAY: RefCell<Gateway> = RefCell::new(Gateway::new(policy(), Keys::Inline));
}

fn send(request: &Request) -> Outcome {
    GATEWAY.with_borrow_mut(|gateway| gateway.send(request))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// Whoever reads the body after the gateway, even a parser that takes the last of two members, finds the call that
    /// was judged.
    #[test]
    fn a_forwarded_body_means_to_others_what_was_judged(body in bodies()) {
        let outcome = send(&Request::post("read", &Value::Null).with_bytes(body.clone()));
        if outcome.verdict == Verdict::Allow {
            let text = std::str::from_utf8(&body).unwrap();
            let value: Value = serde_json::from_str(text).unwrap();
            let messages = value.as_array().map_or(std::slice::from_ref(&value), Vec::as_slice);
            prop_assert!(messages.iter().all(is_harmless), "{text}");
        } else {
            prop_assert!((200..500).contains(&outcome.reply().status));
        }
    }

    /// Whatever the headers hold, there is one decision, and a good token and path are needed for a good one.
    #[test]
    fn no_headers_bring_the_gateway_down(
        lines in prop::collection::vec((prop::sample::select(HEADERS.to_vec()), header_values()), 0..8),
        from_good in any::<bool>(),
    ) {
        let start = if from_good {
            Request::post("read", &call("read"))
        } else {
            Request::new("POST", "/mcp").with_body(&call("read"))
        };
        let request = lines.iter().fold(start, |request, (name, value)| request.with(name, value));
        let outcome = send(&request);
        prop_assert!(outcome.verdict != Verdict::Allow || from_good);
    }
}

//! The state machine, event by event: what each phase does with each event, and every answer down to the byte.
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
    pub(crate) mod gateway;
    #[expect(dead_code, reason = "exchanges need a part of it")]
    pub(crate) mod issuer;
    pub(crate) mod keys;
}

use std::collections::BTreeSet;
use std::rc::Rc;

use serde_json::{Value, json};
use toolgate::exchange::{Awaited, Command, Event, Flow, HeaderEdits, Verdict};
use toolgate::http::{HeaderList, LocalReply};
use toolgate::identity::{FetchedList, Peer, RevocationFeed, RevocationList};
use toolgate::jwt::IssuerIndex;
use toolgate::limits;
use toolgate::units::{Seconds, UnixSeconds};

use support::gateway::{
    Gateway, ID, Keys, Outcome, Request, Run, call, compile, header, json_body, policy, token, token_with,
};
use support::issuer::NOW;
use support::{issuer, keys};

const METADATA_PATH: &str = "/.well-known/oauth-protected-resource/mcp";
const METADATA: &str = "https://gateway.test/.well-known/oauth-protected-resource/mcp";
const DECISION: &str = "0000000000000000000000000000002a";
const EXPOSED: &str = "mcp-session-id, mcp-protocol-version, www-authenticate, x-toolgate-decision";

fn gateway() -> Gateway {
    Gateway::new(policy(), Keys::Inline)
}

fn allowed() -> Request {
    Request::post("read", &call("read"))
}

// --- Phases and events ----------------------------------------------------------------------------------------------

/// How an exchange gets into a phase, with which gateway.
struct Phase {
    name: &'static str,
    keys: Keys,
    reach: fn(&mut Run<'_>),
}

const PHASES: [Phase; 9] = [
    Phase { name: "nothing seen", keys: Keys::Inline, reach: |_| {} },
    Phase { name: "headers seen", keys: Keys::Inline, reach: |run| assert_eq!(run.headers(&allowed()).0, Flow::Hold) },
    Phase {
        name: "waiting for keys",
        keys: Keys::NotFetched,
        reach: |run| assert_eq!(run.headers(&allowed()).0, Flow::Hold),
    },
    Phase {
        name: "forwarded",
        keys: Keys::Inline,
        reach: |run| {
            run.headers(&allowed());
            assert_eq!(run.complete(call("read").to_string().as_bytes()).0, Flow::Pass);
        },
    },
    Phase {
        name: "closed",
        keys: Keys::Inline,
        reach: |run| assert_eq!(run.headers(&allowed().without("authorization")).0, Flow::Hold),
    },
    Phase { name: "holding a list", keys: Keys::Inline, reach: |run| assert_eq!(list_comes(run, JSON).0, Flow::Hold) },
    Phase { name: "streaming", keys: Keys::Inline, reach: |run| assert_eq!(list_comes(run, EVENTS).0, Flow::Pass) },
    Phase {
        name: "answered",
        keys: Keys::Inline,
        reach: |run| {
            run.headers(&allowed());
            run.complete(call("read").to_string().as_bytes());
            assert_eq!(run.answer(&[(":status", "200"), ("content-type", JSON)]), (Flow::Pass, Vec::new()));
        },
    },
    Phase {
        name: "finished",
        keys: Keys::Inline,
        reach: |run| {
            list_comes(run, EVENTS);
            assert_eq!(run.handle(Event::ResponseChunk { bytes: b"", end_of_stream: true }).0, Flow::Pass);
        },
    },
];

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";

fn list_request() -> Value {
    json!({"jsonrpc": "2.0", "id": "l-1", "method": "tools/list"})
}

/// Sends a request for a list and the headers of an answer of that type.
fn list_comes(run: &mut Run<'_>, content_type: &str) -> (Flow, Vec<Command>) {
    list_comes_with(run, &[(":status", "200"), ("content-type", content_type)])
}

/// Sends a request for a list and these headers of its answer.
fn list_comes_with(run: &mut Run<'_>, headers: &[(&str, &str)]) -> (Flow, Vec<Command>) {
    run.headers(&Request::post("read", &list_request()));
    assert_eq!(run.complete(list_request().to_string().as_bytes()).0, Flow::Pass);
    run.answer(headers)
}

/// The commands of one event in short: what is decided, and what the host is told to do.
fn in_short(commands: &[Command]) -> String {
    let words: Vec<String> = commands
        .iter()
        .map(|command| match command {
            Command::EditRequestHeaders(_) => "edit request".to_owned(),
            Command::EditResponseHeaders(_) => "edit response".to_owned(),
            Command::Reply(reply) => format!("reply {}", reply.status),
            Command::Await(Awaited::Keys(issuer)) => format!("await keys {}", issuer.get()),
            Command::Await(Awaited::Revocations) => "await revocations".to_owned(),
            Command::Decided { verdict, reason } => format!("{} {reason}", verdict.name()),
            Command::UpstreamRefused => "upstream refused".to_owned(),
            Command::UpstreamUnusable { reason, .. } => format!("upstream {reason}"),
            Command::ReplaceResponseBody(body) => format!("body {}", String::from_utf8_lossy(body)),
            Command::CallService(call) => format!("call service {} {} {}", call.service, call.method, call.path),
            Command::ReplaceRequestBody(body) => format!("request body {}", String::from_utf8_lossy(body)),
            Command::CountApproval(what) => format!("approval {what}"),
            Command::Watch(until) => format!("watch until {}", until.get()),
            Command::CutOff { reason } => format!("cut off {reason}"),
            Command::Withheld { what, count } => format!("{count} {what}"),
        })
        .collect();
    words.join(", ")
}

#[test]
#[expect(clippy::too_many_lines, reason = "it is a table")]
fn every_phase_has_an_answer_to_every_event() {
    use Flow::{Hold, Pass};
    let body = call("read").to_string();
    let ok = || HeaderList::from_iter([(":status", "200")]);
    let broken = "deny host_failure, reply 503";
    let permitted = "edit request, allow permitted";
    let (refused, cut) = ((Hold, "reply 502"), (Hold, "cut off host_failure"));
    let (held, passed) = ((Hold, ""), (Pass, ""));
    let watched = format!("watch until {}", NOW + limits::STREAM_RECHECK.get());
    type Row<'a> = (&'a str, Box<dyn Fn() -> Event<'a> + 'a>, [(Flow, &'a str); 9]);
    let table: [Row<'_>; 10] = [
        (
            "request headers",
            Box::new(|| Event::RequestHeaders {
                headers: allowed().header_list(),
                end_of_stream: false,
                peer: Peer::default(),
            }),
            [held, (Hold, broken), (Hold, broken), refused, held, refused, cut, cut, held],
        ),
        (
            "body progress",
            Box::new(|| Event::RequestBody { buffered: 10 }),
            [(Hold, broken), held, held, passed, held, passed, passed, passed, held],
        ),
        (
            "request complete",
            Box::new(|| Event::RequestComplete { body: body.as_bytes() }),
            [(Hold, broken), (Pass, permitted), held, passed, held, passed, passed, passed, held],
        ),
        (
            "settled",
            Box::new(|| Event::Settled),
            [(Hold, broken), held, (Hold, "deny keys_unavailable, reply 503"), held, held, held, held, held, held],
        ),
        (
            "response headers",
            Box::new(|| Event::ResponseHeaders { headers: ok(), end_of_stream: false }),
            [passed, passed, passed, passed, passed, refused, cut, cut, held],
        ),
        (
            "answer progress",
            Box::new(|| Event::ResponseBody { buffered: 10 }),
            [(Hold, broken), (Hold, broken), (Hold, broken), refused, passed, held, cut, passed, held],
        ),
        (
            "answer complete",
            Box::new(|| Event::ResponseComplete { body: br#"{"jsonrpc":"2.0","id":1,"result":{}}"# }),
            [(Hold, broken), (Hold, broken), (Hold, broken), refused, passed, passed, cut, passed, held],
        ),
        (
            "part of the answer",
            Box::new(|| Event::ResponseChunk { bytes: b": c\n", end_of_stream: false }),
            [(Hold, broken), (Hold, broken), (Hold, broken), refused, passed, refused, passed, passed, held],
        ),
        (
            "time passed",
            Box::new(|| Event::TimePassed),
            [held, held, held, held, held, held, (Pass, &*watched), held, held],
        ),
        (
            "host failure",
            Box::new(|| Event::HostFailure),
            [(Hold, broken), (Hold, broken), (Hold, broken), refused, held, refused, cut, cut, held],
        ),
    ];
    for (what, event, expected) in table {
        for (phase, (flow, commands)) in PHASES.iter().zip(expected) {
            let mut gateway = Gateway::new(policy(), phase.keys);
            let mut run = gateway.begin();
            (phase.reach)(&mut run);
            // A fetch that failed: no keys have come, and none will soon.
            run.gateway.keys.fetch_failed(IssuerIndex::new(0), run.gateway.now);
            let (got, done) = run.handle(event());
            assert_eq!((got, &*in_short(&done)), (flow, commands), "{what} while {}", phase.name);
        }
    }
}

#[test]
fn a_body_is_refused_as_soon_as_it_is_too_large() {
    let mut gateway = gateway();
    let mut run = gateway.begin();
    run.headers(&allowed());
    assert_eq!(run.handle(Event::RequestBody { buffered: 1024 }), (Flow::Hold, Vec::new()));
    let (flow, commands) = run.handle(Event::RequestBody { buffered: 1025 });
    assert_eq!((flow, &*in_short(&commands)), (Flow::Hold, "deny too_large, reply 413"));
    // The rest of it arrives all the same.
    assert_eq!(run.complete(&[b' '; 2000]), (Flow::Hold, Vec::new()));
}

#[test]
fn an_upstream_may_answer_before_it_has_read_the_request() {
    let mut gateway = gateway();
    let mut run = gateway.begin();
    run.headers(&allowed());
    assert_eq!(run.complete(call("read").to_string().as_bytes()).0, Flow::Pass);
    assert_eq!(run.answer(&[(":status", "200")]).0, Flow::Pass);
    assert_eq!(run.handle(Event::RequestBody { buffered: 9999 }), (Flow::Pass, Vec::new()));
}

// --- Keys -----------------------------------------------------------------------------------------------------------

fn install(gateway: &mut Gateway, keys: &[Value]) {
    assert!(gateway.keys.install(IssuerIndex::new(0), keys::key_set(keys), gateway.now));
}

#[test]
fn a_request_waits_for_keys_and_is_decided_when_they_come_whether_its_body_came_before_or_after() {
    let body = call("read").to_string();
    for body_comes_first in [true, false] {
        let mut gateway = Gateway::new(policy(), Keys::NotFetched);
        let mut run = gateway.begin();
        assert_eq!(run.headers(&allowed()), (Flow::Hold, vec![Command::Await(Awaited::Keys(IssuerIndex::new(0)))]));
        if body_comes_first {
            assert_eq!(run.complete(body.as_bytes()), (Flow::Hold, Vec::new()));
        }
        install(run.gateway, &issuer::jwks());
        assert_eq!(run.handle(Event::Settled), (Flow::Hold, Vec::new()));
        // The exchange keeps no body: the host shows it again.
        let (flow, commands) = run.complete(body.as_bytes());
        assert_eq!((flow, &*in_short(&commands)), (Flow::Pass, "edit request, allow permitted"), "{body_comes_first}");
    }
}

#[test]
fn a_request_without_body_waits_for_keys_too() {
    let mut gateway = Gateway::new(policy(), Keys::NotFetched);
    let mut run = gateway.begin();
    let (flow, commands) = run.headers(&Request::new("GET", "/mcp").bearer(&token("")));
    assert_eq!((flow, &*in_short(&commands)), (Flow::Hold, "await keys 0"));
    install(run.gateway, &issuer::jwks());
    assert_eq!(run.handle(Event::Settled), (Flow::Hold, Vec::new()));
    let (flow, commands) = run.complete(b"");
    assert_eq!((flow, &*in_short(&commands)), (Flow::Pass, "edit request, allow permitted"));
}

#[test]
fn little_is_held_for_callers_that_are_not_known_yet() {
    let mut roomy = policy();
    roomy["protocol"]["max_request_bytes"] = json!(1_000_000);
    let mut gateway = Gateway::new(roomy, Keys::NotFetched);
    let mut run = gateway.begin();
    run.headers(&allowed());
    assert!(run.handle(Event::RequestBody { buffered: limits::MAX_WAITING_BODY_BYTES }).1.is_empty());
    let (_, commands) = run.handle(Event::RequestBody { buffered: limits::MAX_WAITING_BODY_BYTES + 1 });
    assert_eq!(Outcome::of(commands).reason, "keys_unavailable");

    let mut run = gateway.begin();
    run.headers(&allowed());
    let (_, commands) = run.complete(&vec![b' '; limits::MAX_WAITING_BODY_BYTES + 1]);
    assert_eq!(Outcome::of(commands).reason, "keys_unavailable");
}

#[test]
fn keys_that_do_not_help_deny() {
    let other = |id: &str| {
        let mut key = issuer::jwks().swap_remove(0);
        key["kid"] = id.into();
        key
    };
    let stranger = {
        let mut key = other("ed");
        // The key of another issuer under this one's name: RFC 8032 section 7.1, test 2.
        key["x"] = "PUAXw-hDiVqStwqnTRt-vJyYLM8uxJaMwM1V8Sr0Zgw".into();
        key
    };
    for (key, expected) in [(other("next"), "deny key_unknown, reply 401"), (stranger, "deny bad_signature, reply 401")]
    {
        let mut gateway = Gateway::new(policy(), Keys::NotFetched);
        let mut run = gateway.begin();
        run.headers(&allowed());
        install(run.gateway, &[key]);
        let (flow, commands) = run.handle(Event::Settled);
        assert_eq!((flow, &*in_short(&commands)), (Flow::Hold, expected));
        assert_eq!(run.complete(call("read").to_string().as_bytes()), (Flow::Hold, Vec::new()));
    }
}

#[test]
fn an_unknown_key_is_worth_one_fetch() {
    let mut gateway = Gateway::new(policy(), Keys::NotFetched);
    let mut old = issuer::jwks();
    old.remove(0);
    install(&mut gateway, &old);
    let (_, commands) = gateway.begin().headers(&allowed());
    assert_eq!(in_short(&commands), "await keys 0");
    // The fetch has brought the same keys: nobody else waits for the next one until the cool-down is over.
    gateway.keys.fetch_started(IssuerIndex::new(0), gateway.now);
    gateway.keys.install(IssuerIndex::new(0), keys::key_set(&old), gateway.now);
    assert_eq!(gateway.send(&allowed()).reason, "key_unknown");
    gateway.now = gateway.now.plus(Seconds::new(60));
    assert_eq!(in_short(&gateway.begin().headers(&allowed()).1), "await keys 0");
}

#[test]
fn without_keys_and_without_hope_of_any_the_client_is_told_when_to_come_back() {
    let mut gateway = Gateway::new(policy(), Keys::NotFetched);
    gateway.keys.fetch_failed(IssuerIndex::new(0), gateway.now);
    let outcome = gateway.send(&allowed());
    assert_eq!(outcome.reason, "keys_unavailable");
    let reply = outcome.reply();
    assert_eq!((reply.status, header(reply, "retry-after")), (503, Some("5")));
    assert_eq!(header(reply, "www-authenticate"), None, "another token would not help");
    assert_eq!(json_body(reply)["error"]["code"], -33003);
}

// --- Revocations ----------------------------------------------------------------------------------------------------

/// The policy with a list that is fetched every 30 seconds and used for 60.
fn with_list() -> Value {
    let mut policy = policy();
    policy["revocation"] = json!({"list": {"cluster": "revocations", "path": "/list", "max_stale": "60s"}});
    policy
}

/// The list arrives.
fn list(gateway: &mut Gateway, list: &Value) {
    let list = Rc::new(RevocationList::parse(list.to_string().as_bytes()).unwrap());
    let now = gateway.now;
    gateway.revoked.as_mut().unwrap().replace(FetchedList { list, etag: None }, now);
}

fn nobody() -> Value {
    json!({"clients": []})
}

#[test]
fn a_request_waits_for_the_list_whether_its_body_comes_before_or_after() {
    let body = call("read").to_string();
    for body_comes_first in [true, false] {
        let mut gateway = Gateway::new(with_list(), Keys::Inline);
        let mut run = gateway.begin();
        assert_eq!(run.headers(&allowed()), (Flow::Hold, vec![Command::Await(Awaited::Revocations)]));
        if body_comes_first {
            assert_eq!(run.complete(body.as_bytes()), (Flow::Hold, Vec::new()));
        }
        list(run.gateway, &nobody());
        assert_eq!(run.handle(Event::Settled), (Flow::Hold, Vec::new()));
        let (flow, commands) = run.complete(body.as_bytes());
        assert_eq!((flow, &*in_short(&commands)), (Flow::Pass, "edit request, allow permitted"), "{body_comes_first}");
    }
}

#[test]
fn a_request_waits_for_keys_and_then_for_the_list_and_for_each_once() {
    let mut gateway = Gateway::new(with_list(), Keys::NotFetched);
    let mut run = gateway.begin();
    assert_eq!(in_short(&run.headers(&allowed()).1), "await keys 0");
    install(run.gateway, &issuer::jwks());
    assert_eq!(in_short(&run.handle(Event::Settled).1), "await revocations");
    assert_eq!(run.complete(call("read").to_string().as_bytes()), (Flow::Hold, Vec::new()));
    // Another fetch is about to start, but waiting must end.
    let (flow, commands) = run.handle(Event::Settled);
    assert_eq!((flow, &*in_short(&commands)), (Flow::Hold, "deny revocations_unavailable, reply 503"));
}

#[test]
fn a_bad_token_waits_for_no_list() {
    let mut gateway = Gateway::new(with_list(), Keys::Inline);
    assert_eq!(gateway.send(&allowed().bearer("a.b.c")).reply().status, 401);
    assert_eq!(gateway.send(&allowed().without("authorization")).reply().status, 401);
}

#[test]
fn without_a_list_that_is_young_enough_every_good_token_is_refused() {
    let mut gateway = Gateway::new(with_list(), Keys::Inline);
    list(&mut gateway, &nobody());
    let now = gateway.now;
    let fail = |gateway: &mut Gateway| {
        let now = gateway.now;
        gateway.revoked.as_mut().unwrap().failed(now);
    };
    gateway.now = now.plus(Seconds::new(60));
    fail(&mut gateway);
    assert_eq!(gateway.send(&allowed()).reason, "permitted", "the last good list serves for max_stale");
    gateway.now = now.plus(Seconds::new(61));
    fail(&mut gateway);
    for request in [allowed(), Request::post("read", &call("write")), Request::new("GET", "/mcp").bearer(&token(""))] {
        let outcome = gateway.send(&request);
        assert_eq!(outcome.reason, "revocations_unavailable");
        let reply = outcome.reply();
        assert_eq!((reply.status, header(reply, "retry-after")), (503, Some("5")));
        assert_eq!(header(reply, "www-authenticate"), None, "another token would not help");
        assert_eq!(json_body(reply)["error"]["code"], -33003);
    }
    list(&mut gateway, &nobody());
    assert_eq!(gateway.send(&allowed()).reason, "permitted");
}

#[test]
fn a_list_that_gets_too_old_while_the_body_comes_counts_no_more() {
    let mut gateway = Gateway::new(with_list(), Keys::Inline);
    list(&mut gateway, &nobody());
    let mut run = gateway.begin();
    run.headers(&allowed());
    run.gateway.now = run.gateway.now.plus(Seconds::new(61));
    let (_, commands) = run.complete(call("read").to_string().as_bytes());
    assert_eq!(in_short(&commands), "deny revocations_unavailable, reply 503");
}

#[test]
fn little_is_held_for_callers_who_may_have_been_cut_off() {
    let mut roomy = with_list();
    roomy["protocol"]["max_request_bytes"] = json!(1_000_000);
    let mut gateway = Gateway::new(roomy, Keys::Inline);
    let mut run = gateway.begin();
    run.headers(&allowed());
    let (_, commands) = run.handle(Event::RequestBody { buffered: limits::MAX_WAITING_BODY_BYTES + 1 });
    assert_eq!(in_short(&commands), "deny revocations_unavailable, reply 503");
}

#[test]
fn each_kind_of_entry_cuts_off_and_says_which_side_it_was() {
    let claims = json!({"scope": "read", "jti": "t-1", "agent_role": "helper", "act": {"sub": "bot", "act": {"sub": "sub-bot"}}});
    let request = allowed().bearer(&token_with(claims.as_object().unwrap()));
    let mut base = policy();
    base["agents"] = json!({"helper": {"scopes": ["read"]}});
    base["authentication"]["jwt"][0]["claims"] = json!({"agent": ["agent_role"]});
    let issuer = base["authentication"]["jwt"][0]["issuer"].clone();
    for (entries, side) in [
        (json!({"subjects": [{"subject": "user-7"}]}), Some("person")),
        (json!({"subjects": [{"issuer": issuer, "subject": "user-7"}]}), Some("person")),
        (json!({"clients": ["client-1"]}), Some("client")),
        (json!({"agents": ["helper"]}), Some("agent")),
        (json!({"subjects": [{"subject": "bot"}]}), Some("agent")),
        (json!({"subjects": [{"subject": "sub-bot"}]}), Some("agent")),
        (json!({"token_ids": ["t-1"]}), None),
    ] {
        for conceals in [false, true] {
            let mut by_list = base.clone();
            by_list["revocation"] = with_list()["revocation"].clone();
            by_list["refusals"] = json!(if conceals { "concealed" } else { "open" });
            let mut by_policy = by_list.clone();
            by_policy["revocation"] = entries.clone();
            let mut listed = Gateway::new(by_list, Keys::Inline);
            list(&mut listed, &nobody());
            assert_eq!(listed.send(&request).reason, "permitted");
            list(&mut listed, &entries);
            for mut gateway in [listed, Gateway::new(by_policy, Keys::Inline)] {
                let outcome = gateway.send(&request);
                let reply = outcome.reply();
                let Some(side) = side else {
                    assert_eq!((outcome.reason, reply.status), ("token_revoked", 401));
                    assert!(header(reply, "www-authenticate").unwrap().contains("error=\"invalid_token\""));
                    continue;
                };
                assert_eq!((outcome.reason, reply.qualifier.as_str()), ("not_permitted", side), "{entries}");
                if conceals {
                    continue;
                }
                assert_eq!(reply.status, 403);
                let sides = json!([{"side": side, "reason": "revoked"}]);
                assert_eq!(json_body(reply)["error"]["data"]["failing_sides"], sides, "{entries}");
            }
        }
    }
    let mut other = Gateway::new(with_list(), Keys::Inline);
    list(&mut other, &json!({"subjects": [{"issuer": "https://other.test", "subject": "user-7"}]}));
    assert_eq!(other.send(&request).reason, "permitted", "somebody else's user of the same name");
}

// --- Tokens that were verified before -------------------------------------------------------------------------------

#[test]
fn a_remembered_token_is_judged_anew_each_time() {
    let mut gateway = gateway();
    assert_eq!(gateway.send(&allowed()).verdict, Verdict::Allow);
    assert_eq!(gateway.tokens.len(), 1);
    assert_eq!(gateway.send(&allowed()).verdict, Verdict::Allow);
    assert_eq!(gateway.send(&Request::post("read", &call("write"))).reason, "insufficient_scope");
    gateway.now = UnixSeconds::new(NOW + 700);
    assert_eq!(gateway.send(&allowed()).reason, "token_expired");
}

#[test]
fn a_token_that_expires_while_the_body_comes_is_refused() {
    let mut gateway = gateway();
    let mut run = gateway.begin();
    assert_eq!(run.headers(&allowed()).0, Flow::Hold);
    run.gateway.now = UnixSeconds::new(NOW + 700);
    let (flow, commands) = run.complete(call("read").to_string().as_bytes());
    assert_eq!((flow, Outcome::of(commands).reason), (Flow::Hold, "token_expired"));
}

#[test]
fn a_token_that_loses_its_key_while_the_body_comes_is_refused() {
    let mut gateway = Gateway::new(policy(), Keys::NotFetched);
    install(&mut gateway, &issuer::jwks());
    let mut run = gateway.begin();
    assert_eq!(run.headers(&allowed()).0, Flow::Hold);
    let others: Vec<Value> = issuer::jwks().iter().filter(|key| key["kty"] != "OKP").cloned().collect();
    install(run.gateway, &others);
    let (flow, commands) = run.complete(call("read").to_string().as_bytes());
    assert_eq!((flow, Outcome::of(commands).reason), (Flow::Hold, "key_unknown"));
}

#[test]
fn no_two_tokens_are_confused() {
    let mut gateway = gateway();
    for _ in 0..2 {
        for scope in ["read", "write"] {
            for tool in ["read", "write"] {
                let outcome = gateway.send(&Request::post(scope, &call(tool)));
                assert_eq!(outcome.verdict == Verdict::Allow, scope == tool, "{scope} {tool}");
            }
        }
    }
}

// --- What is forwarded ----------------------------------------------------------------------------------------------

fn forwarded(gateway: &mut Gateway, request: &Request) -> HeaderEdits {
    gateway.send(request).result.unwrap()
}

#[test]
fn the_upstream_learns_who_calls_and_never_sees_the_token() {
    let edits = forwarded(&mut gateway(), &allowed());
    assert_eq!(
        edits.all_set().collect::<Vec<_>>(),
        [
            ("x-toolgate-issuer", "https://issuer.test"),
            ("x-toolgate-subject", "user-7"),
            ("x-toolgate-client", "client-1"),
            ("x-toolgate-scopes", "read"),
            ("x-toolgate-decision", DECISION),
            ("accept-encoding", "identity"),
        ]
    );
    assert!(edits.remove.iter().any(|removed| **removed == *b"authorization"));
}

#[test]
fn the_token_is_kept_where_the_policy_says_so() {
    let mut keeping = policy();
    keeping["forwarding"] = json!({"authorization": "keep"});
    let edits = forwarded(&mut Gateway::new(keeping, Keys::Inline), &allowed());
    assert!(!edits.remove.iter().any(|removed| **removed == *b"authorization"));
}

#[test]
fn a_client_cannot_speak_for_the_gateway() {
    let spellings = ["x-toolgate-subject", "X-Toolgate-Subject", "x_toolgate_subject", "x-toolgate-anything"];
    let request = spellings.iter().fold(allowed(), |request, name| request.with(name, "admin"));
    let edits = forwarded(&mut gateway(), &request);
    for name in spellings {
        assert!(edits.remove.iter().any(|removed| **removed == *name.as_bytes()), "{name}");
    }
}

#[test]
fn identities_are_escaped_and_never_cut_short() {
    let send = |claims: Value| gateway().send(&allowed().bearer(&token_with(claims.as_object().unwrap())));
    let edits = send(json!({"scope": "read", "sub": "Zoë 100%"})).result.unwrap();
    assert!(edits.all_set().any(|set| set == ("x-toolgate-subject", "Zo%C3%AB%20100%25")), "{edits:?}");

    let long = "é".repeat(1000);
    let many = format!("read {}", (0..1000).map(|number| format!("s{number:04}")).collect::<Vec<_>>().join(" "));
    for claims in
        [json!({"scope": "read", "sub": long}), json!({"scope": "read", "client_id": long}), json!({"scope": many})]
    {
        assert_eq!(send(claims).reason, "identity_too_long");
    }
}

#[test]
fn mirrors_that_nobody_compared_are_removed() {
    let with_mirrors = |request: Request| request.with("mcp-method", "tools/call").with("mcp-name", "read");
    let edits = forwarded(&mut gateway(), &with_mirrors(allowed()));
    assert!(
        edits.remove.iter().any(|removed| **removed == *b"mcp-method")
            && edits.remove.iter().any(|removed| **removed == *b"mcp-name")
    );
    let mut stateless = call("read");
    stateless["params"]["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let request = with_mirrors(Request::post("read", &stateless)).with("mcp-protocol-version", "2026-07-28");
    assert_eq!(forwarded(&mut gateway(), &request).remove, [b"authorization".to_vec()]);

    // A list has no name to mirror.
    stateless["method"] = json!("tools/list");
    let request = Request::post("read", &stateless)
        .with("mcp-protocol-version", "2026-07-28")
        .with("mcp-method", "tools/list")
        .with("mcp-name", "write");
    let removed = forwarded(&mut gateway(), &request).remove;
    assert_eq!(removed, [b"mcp-name".to_vec(), b"authorization".to_vec()]);
}

// --- Answers --------------------------------------------------------------------------------------------------------

/// Status, header fields but for the decision's id, and JSON body of a reply.
fn shape(reply: &LocalReply) -> (u16, Vec<(&str, &str)>, Value) {
    let fields = reply.headers.iter().map(|(name, value)| (*name, value.as_str()));
    let body = if reply.body.is_empty() { Value::Null } else { json_body(reply) };
    (reply.status, fields.filter(|(name, _)| *name != "x-toolgate-decision").collect(), body)
}

fn json_fields() -> Vec<(&'static str, &'static str)> {
    vec![("content-type", "application/json"), ("cache-control", "no-store")]
}

fn json_fields_and(more: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    [json_fields(), more.to_vec()].concat()
}

fn rpc_error(code: i64, message: &str) -> Value {
    json!({"jsonrpc": "2.0", "error": {"code": code, "message": message}})
}

#[test]
fn refusals_of_credentials_say_where_to_get_one_and_what_was_wrong() {
    let expired = token_with(json!({"age_s": 3000}).as_object().unwrap());
    let cases = [
        (
            allowed().without("authorization"),
            401,
            r#"Bearer scope="read", resource_metadata="https://gateway.test/.well-known/oauth-protected-resource/mcp""#,
            json!({"error": "unauthorized", "error_description": "an access token is required"}),
        ),
        (
            allowed().bearer(&expired),
            401,
            concat!(
                r#"Bearer error="invalid_token", error_description="the token has expired", scope="read", "#,
                r#"resource_metadata="https://gateway.test/.well-known/oauth-protected-resource/mcp""#
            ),
            json!({"error": "invalid_token", "error_description": "the token has expired"}),
        ),
        (
            allowed().bearer("a b"),
            400,
            concat!(
                r#"Bearer error="invalid_request", error_description="malformed authorization header", scope="read", "#,
                r#"resource_metadata="https://gateway.test/.well-known/oauth-protected-resource/mcp""#
            ),
            json!({"error": "invalid_request", "error_description": "malformed authorization header"}),
        ),
    ];
    for (request, status, challenge, body) in cases {
        let outcome = gateway().send(&request);
        let fields = [json_fields(), vec![("www-authenticate", challenge)]].concat();
        assert_eq!(shape(outcome.reply()), (status, fields, body));
    }
}

#[test]
fn insufficient_scope_names_what_is_required_and_keeps_what_was_granted() {
    let request = Request::post("read unheard:of", &call("write"));
    let challenge = concat!(
        r#"Bearer error="insufficient_scope", error_description="missing scope: write", scope="write read", "#,
        r#"resource_metadata="https://gateway.test/.well-known/oauth-protected-resource/mcp""#
    );
    let body = json!({"jsonrpc": "2.0", "id": 1, "error": {
        "code": -33001,
        "message": "Insufficient scope (missing scope: write)",
        "data": {
            "error": "insufficient_scope", "missing_scopes": ["write"], "required_scopes": ["write"],
            "resource_metadata": METADATA, "decision_id": DECISION,
        },
    }});
    let outcome = gateway().send(&request);
    assert_eq!(shape(outcome.reply()), (403, json_fields_and(&[("www-authenticate", challenge)]), body));
}

#[test]
fn what_no_scope_would_change_is_denied_without_a_challenge() {
    let body = json!({"jsonrpc": "2.0", "id": 1, "error": {
        "code": -33002,
        "message": "The policy does not allow this",
        "data": {"reason": "no_rule", "decision_id": DECISION},
    }});
    let outcome = gateway().send(&Request::post("read", &call("unheard-of")));
    assert_eq!(shape(outcome.reply()), (403, json_fields(), body));
}

#[test]
fn requests_that_break_the_protocol_get_an_error_of_the_protocol() {
    let too_large = "The request body may have 1024 bytes at most";
    let cases = [
        (allowed().without("content-type"), 415, rpc_error(-32600, "Content-Type must be application/json in UTF-8")),
        (allowed().with("content-encoding", "gzip"), 415, rpc_error(-32600, "Encoded request bodies are not accepted")),
        (allowed().with("content-length", "1025"), 413, rpc_error(-32600, too_large)),
        (allowed().with("content-length", "9".repeat(99)), 413, rpc_error(-32600, too_large)),
        (allowed().with_bytes(vec![b' '; 1025]), 413, rpc_error(-32600, too_large)),
        (allowed().with_bytes("{"), 400, rpc_error(-32700, "Parse error")),
        (allowed().with_bytes(b"\xff\xfe{\x00}\x00".as_slice()), 400, rpc_error(-32700, "Parse error")),
        (allowed().with_bytes(r#"{"id":1,"id":2}"#), 400, rpc_error(-32600, "Invalid request: duplicate member")),
        (allowed().with_bytes("7"), 400, rpc_error(-32600, "Invalid request: not a JSON-RPC message")),
    ];
    for (request, status, body) in cases {
        let outcome = gateway().send(&request);
        assert_eq!(shape(outcome.reply()), (status, json_fields(), body));
    }
}

#[test]
fn errors_echo_the_id_byte_for_byte() {
    for id in ["1", "-7", "123456789012345678901234567890", r#""a""#, r#""\u0061""#] {
        let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"x"}}}}"#);
        let outcome = gateway().send(&allowed().with_bytes(body));
        let text = String::from_utf8(outcome.reply().body.clone()).unwrap();
        assert!(text.starts_with(&format!(r#"{{"jsonrpc":"2.0","id":{id},"error":"#)), "{text}");
    }
}

#[test]
fn refusals_without_a_message_have_no_body() {
    for (request, status, fields) in [
        (Request::new("GET", "/other"), 404, vec![]),
        (Request::new("PUT", "/mcp"), 405, vec![("allow", "GET, POST, DELETE")]),
        (Request::new("OPTIONS", "/mcp"), 405, vec![("allow", "GET, POST, DELETE")]),
        (Request::new("PUT", METADATA_PATH), 405, vec![("allow", "GET, HEAD, OPTIONS")]),
    ] {
        let outcome = gateway().send(&request);
        assert_eq!(shape(outcome.reply()), (status, fields, Value::Null));
    }
    let mut stateless = policy();
    stateless["protocol"]["revisions"] = json!(["2026-07-28"]);
    let outcome = Gateway::new(stateless, Keys::Inline).send(&Request::new("GET", "/mcp"));
    assert_eq!(shape(outcome.reply()), (405, vec![("allow", "POST")], Value::Null));
}

#[test]
fn every_answer_and_every_forwarded_request_carries_the_decision() {
    let origin = |request: Request| request.with("origin", "https://evil.test");
    for request in [
        allowed().without("authorization"),
        origin(allowed()),
        Request::post("", &call("read")),
        Request::new("GET", METADATA_PATH),
        Request::new("GET", "/other"),
    ] {
        assert_eq!(header(gateway().send(&request).reply(), "x-toolgate-decision"), Some(DECISION));
    }
    assert_eq!(DECISION, ID.to_string());
}

#[test]
fn an_unreadable_request_line_is_refused() {
    for name in [":path", ":method"] {
        for request in
            [allowed().without(name), allowed().with(name, "again"), allowed().without(name).with(name, b"\xff")]
        {
            assert_eq!(gateway().send(&request).reply().status, 400, "{name}");
        }
    }
}

// --- Metadata and browsers ------------------------------------------------------------------------------------------

const PUBLIC: [(&str, &str); 3] = [
    ("access-control-allow-origin", "*"),
    ("access-control-allow-methods", "GET, HEAD, OPTIONS"),
    ("access-control-allow-headers", "*"),
];

#[test]
fn the_metadata_document_is_for_everybody() {
    let mut named = policy();
    named["resource"]["name"] = "Test tools".into();
    let document = json!({
        "resource": "https://gateway.test/mcp",
        "authorization_servers": ["https://issuer.test"],
        "scopes_supported": ["read"],
        "bearer_methods_supported": ["header"],
        "resource_name": "Test tools",
    });
    for path in [METADATA_PATH, "/.well-known/oauth-protected-resource", &format!("{METADATA_PATH}?x=1")] {
        for (method, status, fields, body) in [
            ("GET", 200, json_fields_and(&PUBLIC), document.clone()),
            ("HEAD", 200, json_fields_and(&PUBLIC), Value::Null),
            ("OPTIONS", 204, PUBLIC.to_vec(), Value::Null),
        ] {
            let outcome = Gateway::new(named.clone(), Keys::Inline).send(&Request::new(method, path));
            assert_eq!(outcome.verdict, Verdict::Serve);
            assert_eq!(shape(outcome.reply()), (status, fields, body), "{method} {path}");
        }
    }
}

#[test]
fn a_policy_without_low_risk_scopes_offers_none() {
    let mut quiet = policy();
    quiet["resource"]["initial_scopes"] = json!([]);
    let policy = compile(quiet, Keys::Inline);
    assert_eq!(policy.metadata.get("scopes_supported"), None);
}

fn cors(origin: &str) -> Vec<(&str, &str)> {
    vec![("access-control-allow-origin", origin), ("access-control-expose-headers", EXPOSED), ("vary", "origin")]
}

#[test]
fn a_page_of_an_allowed_origin_may_ask_and_read_refusals() {
    let page = |request: Request| request.with("origin", "https://app.test");
    let preflight = page(Request::new("OPTIONS", "/mcp"))
        .with("access-control-request-method", "POST")
        .with("access-control-request-headers", "authorization,mcp-param-region, x-other, mcp-param-b\u{e4}d");
    // A value that is not visible ASCII asks for nothing.
    let outcome = gateway().send(&preflight);
    assert!(!header(outcome.reply(), "access-control-allow-headers").unwrap().contains("mcp-param"));
    let preflight = page(Request::new("OPTIONS", "/mcp"))
        .with("access-control-request-method", "POST")
        .with("access-control-request-headers", "authorization,Mcp-Param-Region, x-other, mcp-param-a b");
    let outcome = gateway().send(&preflight);
    let fields = [
        vec![
            ("access-control-allow-methods", "GET, POST, DELETE"),
            (
                "access-control-allow-headers",
                "authorization, content-type, accept, mcp-protocol-version, mcp-session-id, mcp-method, mcp-name, \
                 last-event-id, Mcp-Param-Region",
            ),
            ("access-control-max-age", "600"),
        ],
        cors("https://app.test"),
    ]
    .concat();
    assert_eq!(shape(outcome.reply()), (204, fields, Value::Null));

    for request in [
        page(allowed().without("authorization")),
        page(Request::post("", &call("read"))),
        page(allowed().with_bytes("{")),
    ] {
        let outcome = gateway().send(&request);
        let (_, fields, _) = shape(outcome.reply());
        assert!(fields.ends_with(&cors("https://app.test")), "{fields:?}");
    }
}

#[test]
fn a_page_of_another_origin_may_not_even_read_the_refusal() {
    let foreign = [vec!["https://evil.test"], vec!["https://app.test", "https://app.test"], vec!["null"], vec![""]];
    for origins in foreign {
        let request = origins.iter().fold(allowed(), |request, origin| request.with("origin", origin));
        let outcome = gateway().send(&request);
        let expected = (403, json_fields(), rpc_error(-33002, "This origin is not allowed"));
        assert_eq!(shape(outcome.reply()), expected, "{origins:?}");
    }
}

// --- The upstream's answer ------------------------------------------------------------------------------------------

/// What becomes of an answer with these headers to an allowed request.
fn answered(request: &Request, headers: &[(&str, &str)]) -> (Flow, Vec<Command>) {
    let mut gateway = gateway();
    let mut run = gateway.begin();
    run.headers(request);
    assert_eq!(run.complete(request.body()).0, Flow::Pass);
    run.answer(headers)
}

#[test]
fn the_upstreams_401_is_a_fault_of_the_set_up_not_of_the_client() {
    let challenge = [(":status", "401"), ("www-authenticate", "Bearer resource_metadata=\"https://inside.test/x\"")];
    let (flow, commands) = answered(&allowed(), &challenge);
    assert_eq!((flow, &*in_short(&commands)), (Flow::Hold, "upstream refused, reply 502"));
    let Some(Command::Reply(reply)) = commands.last() else { panic!("no reply") };
    let message = "The MCP server did not accept the gateway's request";
    let error = json!({"jsonrpc": "2.0", "id": 1, "error": {"code": -33003, "message": message}});
    assert_eq!(shape(reply), (502, json_fields(), error));
    assert_eq!(header(reply, "x-toolgate-decision"), Some(DECISION));
    let (_, commands) = answered(&allowed().with("origin", "https://app.test"), &challenge);
    let Some(Command::Reply(reply)) = commands.last() else { panic!("no reply") };
    assert_eq!(header(reply, "access-control-allow-origin"), Some("https://app.test"));
}

#[test]
fn an_upstream_sends_no_client_elsewhere() {
    for (status, name) in [("307", "location"), ("302", "location"), ("407", "proxy-authenticate"), ("101", "upgrade")]
    {
        let (flow, commands) = answered(&allowed(), &[(":status", status), (name, "https://elsewhere.test/mcp")]);
        assert_eq!((flow, &*in_short(&commands)), (Flow::Hold, "upstream refused, reply 502"), "{status}");
    }
    assert_eq!(answered(&allowed(), &[(":status", "304")]), (Flow::Pass, Vec::new()));
}

#[test]
fn only_the_gateway_speaks_for_the_resource_and_about_origins() {
    let upstream = [
        (":status", "403"),
        ("WWW-Authenticate", "Bearer"),
        ("x-toolgate-decision", "forged"),
        ("access-control-allow-origin", "*"),
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-methods", "PUT"),
        ("access-control-max-age", "86400"),
        ("content-type", "application/json"),
        ("mcp-session-id", "s-1"),
    ];
    let (flow, commands) = answered(&allowed(), &upstream);
    let [Command::EditResponseHeaders(HeaderEdits { remove, set, add, identity: None })] = commands.as_slice() else {
        panic!("{commands:?}")
    };
    let unwanted = [
        "www-authenticate",
        "x-toolgate-decision",
        "access-control-allow-origin",
        "access-control-allow-credentials",
        "access-control-allow-methods",
        "access-control-max-age",
        // No session of this client's.
        "mcp-session-id",
    ];
    let removed: BTreeSet<Vec<u8>> = remove.iter().map(|name| name.to_ascii_lowercase()).collect();
    assert_eq!(removed, unwanted.iter().map(|name| name.as_bytes().to_vec()).collect());
    assert_eq!((flow, set.len(), add.len()), (Flow::Pass, 0, 0));
}

#[test]
fn a_page_of_an_allowed_origin_may_read_the_upstreams_answer() {
    let (flow, commands) = answered(&allowed().with("origin", "https://app.test"), &[(":status", "200")]);
    let mut set: Vec<_> =
        cors("https://app.test").into_iter().map(|(name, value)| (name, value.to_owned().into())).collect();
    // The upstream's own Vary stays.
    let add = set.split_off(2);
    let edits = HeaderEdits { set, add, ..HeaderEdits::default() };
    assert_eq!((flow, commands), (Flow::Pass, vec![Command::EditResponseHeaders(edits)]));
}

// --- Lists and event streams ----------------------------------------------------------------------------------------

fn tools(names: &[&str]) -> Value {
    let tools: Vec<Value> = names.iter().map(|name| json!({"name": name, "inputSchema": {}})).collect();
    json!({"jsonrpc": "2.0", "id": "l-1", "result": {"tools": tools}})
}

/// What becomes of a JSON answer to a request for tools.
fn listed(gateway: &mut Gateway, body: &str) -> (Flow, Vec<Command>) {
    let mut run = gateway.begin();
    assert_eq!(list_comes(&mut run, JSON).0, Flow::Hold);
    assert_eq!(run.handle(Event::ResponseBody { buffered: body.len() }), (Flow::Hold, Vec::new()));
    run.handle(Event::ResponseComplete { body: body.as_bytes() })
}

#[test]
fn requests_ask_the_upstream_not_to_compress() {
    for body in [call("read"), list_request()] {
        let outcome = gateway().send(&Request::post("read", &body).with("accept-encoding", "gzip, br"));
        assert!(outcome.result.unwrap().set.contains(&("accept-encoding", "identity".into())), "{body}");
    }
}

#[test]
fn a_list_shows_what_the_caller_may_call() {
    let all = tools(&["write", "read", "unknown"]).to_string();
    let (flow, commands) = listed(&mut gateway(), &all);
    assert_eq!((flow, in_short(&commands)), (Flow::Pass, format!("2 element, body {}", tools(&["read"]))));
    let (flow, commands) = listed(&mut gateway(), &tools(&["read"]).to_string());
    assert_eq!((flow, commands), (Flow::Pass, Vec::new()));
}

#[test]
fn duties_are_told_with_the_tools() {
    let mut document = policy();
    document["rules"][0]["authentication"] = json!({"acr": ["mfa"], "max_age": "15m"});
    document["rules"][0]["approval"] = json!({});
    let (_, commands) = listed(&mut Gateway::new(document, Keys::Inline), &tools(&["read"]).to_string());
    let [Command::ReplaceResponseBody(body)] = commands.as_slice() else { panic!("{commands:?}") };
    let body: Value = serde_json::from_slice(body).unwrap();
    let duty = json!({"approval": "required", "step_up": {"acr_values": ["mfa"], "max_age": 900}});
    assert_eq!(body["result"]["tools"][0]["_meta"]["dev.toolgate/duty"], duty);
}

#[test]
fn every_request_for_a_list_is_answered_with_one_that_was_looked_at() {
    let message = |method: &str| json!({"jsonrpc": "2.0", "id": 1, "method": method});
    for body in [
        message("tools/list"),
        message("resources/list"),
        message("resources/templates/list"),
        message("prompts/list"),
        json!([message("ping"), message("tools/list")]),
    ] {
        let mut gateway = gateway();
        let mut run = gateway.begin();
        let request = Request::post("read", &body);
        let version = if body.is_array() { "2025-03-26" } else { "2025-11-25" };
        run.headers(&request.with("mcp-protocol-version", version));
        assert_eq!(run.complete(body.to_string().as_bytes()).0, Flow::Pass, "{body}");
        let answer = [(":status", "200"), ("content-type", "application/json; charset=utf-8")];
        assert_eq!(run.answer(&answer).0, Flow::Hold, "{body}");
    }
}

#[test]
fn headers_of_the_bytes_go_when_the_bytes_may_change() {
    for content_type in [JSON, EVENTS] {
        let mut gateway = gateway();
        let mut run = gateway.begin();
        list_comes(&mut run, content_type);
        let mut run = gateway.begin();
        run.headers(&Request::post("read", &list_request()));
        run.complete(list_request().to_string().as_bytes());
        let names = ["content-length", "etag", "content-digest", "repr-digest", "digest", "content-md5"];
        let mut headers = vec![(":status", "200"), ("content-type", content_type)];
        headers.extend(names.map(|name| (name, "1")));
        let (_, commands) = run.answer(&headers);
        let Some(Command::EditResponseHeaders(edits)) = commands.first() else { panic!("{commands:?}") };
        let removed: BTreeSet<&[u8]> = edits.remove.iter().map(AsRef::as_ref).collect();
        assert_eq!(removed, names.iter().map(|name| name.as_bytes()).collect(), "{content_type}");
    }
}

#[test]
fn a_list_that_cannot_be_looked_at_is_refused_with_the_id_of_its_request() {
    let answers: [(&[(&str, &str)], &str); 9] = [
        (&[("content-type", JSON), ("content-encoding", "gzip")], "answer_encoded"),
        (&[("content-type", EVENTS), ("content-encoding", "br")], "answer_encoded"),
        (&[("content-type", JSON), ("content-encoding", "identity"), ("content-encoding", "gzip")], "answer_encoded"),
        (&[], "answer_media_type"),
        (&[("content-type", "text/html")], "answer_media_type"),
        (&[("content-type", "application/jsonl")], "answer_media_type"),
        (&[("content-type", "application/json, text/event-stream")], "answer_media_type"),
        (&[("content-type", JSON), ("content-type", EVENTS)], "answer_media_type"),
        (&[("content-type", "text/plain; x=text/event-stream")], "answer_media_type"),
    ];
    for (headers, reason) in answers {
        let mut gateway = gateway();
        let mut run = gateway.begin();
        run.headers(&Request::post("read", &list_request()));
        run.complete(list_request().to_string().as_bytes());
        let headers: Vec<_> = [&[(":status", "200")], headers].concat();
        let (flow, commands) = run.answer(&headers);
        assert_eq!((flow, in_short(&commands)), (Flow::Hold, format!("1 {reason}, reply 502")), "{headers:?}");
        let Some(Command::Reply(reply)) = commands.last() else { panic!("no reply") };
        assert_eq!((&json_body(reply)["id"], reply.details), (&json!("l-1"), reason));
        // What follows of it is not sent.
        assert_eq!(run.handle(Event::ResponseChunk { bytes: b"x", end_of_stream: true }).0, Flow::Hold);
    }
    for body in ["{", "[]", "1", r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[],"tools":[]}}"#] {
        let (flow, commands) = listed(&mut gateway(), body);
        assert_eq!((flow, &*in_short(&commands)), (Flow::Hold, "1 answer_unreadable, reply 502"), "{body}");
    }
}

#[test]
fn an_error_that_cannot_be_read_keeps_its_status() {
    let mut gateway = gateway();
    let mut run = gateway.begin();
    run.headers(&Request::post("read", &list_request()));
    run.complete(list_request().to_string().as_bytes());
    assert_eq!(run.answer(&[(":status", "404"), ("content-type", JSON)]).0, Flow::Hold);
    let (flow, commands) = run.handle(Event::ResponseComplete { body: br#"{"tools":[{"name":"write"}]}"# });
    let [Command::Withheld { what: "answer_unreadable", .. }, Command::ReplaceResponseBody(body)] = commands.as_slice()
    else {
        panic!("{commands:?}")
    };
    let error: Value = serde_json::from_slice(body).unwrap();
    assert_eq!((flow, &error["id"], &error["error"]["code"]), (Flow::Pass, &json!("l-1"), &json!(-33003)));
}

#[test]
fn a_list_that_is_too_large_is_refused_as_soon_as_it_is() {
    let mut gateway = gateway();
    let mut run = gateway.begin();
    list_comes(&mut run, JSON);
    assert_eq!(run.handle(Event::ResponseBody { buffered: limits::MAX_LIST_BYTES }).0, Flow::Hold);
    let (flow, commands) = run.handle(Event::ResponseBody { buffered: limits::MAX_LIST_BYTES + 1 });
    assert_eq!((flow, &*in_short(&commands)), (Flow::Hold, "1 answer_too_large, reply 502"));
    let mut run = gateway.begin();
    list_comes(&mut run, JSON);
    let (flow, commands) = run.handle(Event::ResponseComplete { body: &vec![b' '; limits::MAX_LIST_BYTES + 1] });
    assert_eq!((flow, &*in_short(&commands)), (Flow::Hold, "1 answer_too_large, reply 502"));
}

#[test]
fn a_failed_answer_to_a_list_is_read_whatever_it_is_made_of() {
    for headers in [vec![(":status", "503"), ("content-type", "text/plain")], vec![(":status", "404")]] {
        for (body, passes) in [
            (r#"{"jsonrpc":"2.0","id":"l-1","result":{"tools":[{"name":"hidden"}]}}"#, r#""tools":[]"#),
            ("<html>hidden</html>", "-33003"),
        ] {
            let mut gateway = gateway();
            let mut run = gateway.begin();
            list_comes_with(&mut run, &headers);
            let (flow, commands) = run.handle(Event::ResponseComplete { body: body.as_bytes() });
            assert_eq!(flow, Flow::Pass, "{headers:?}");
            let Some(Command::ReplaceResponseBody(body)) = commands.last() else { panic!("{commands:?}") };
            let body = String::from_utf8_lossy(body);
            assert!(body.contains(passes) && !body.contains("hidden"), "{body}");
        }
    }
}

#[test]
fn what_is_no_list_is_neither_held_nor_refused() {
    for (request, headers) in [
        (call("read"), vec![(":status", "200"), ("content-type", JSON), ("content-encoding", "gzip")]),
        (call("read"), vec![(":status", "200"), ("content-type", "image/png")]),
    ] {
        let mut gateway = gateway();
        let mut run = gateway.begin();
        run.headers(&Request::post("read", &request));
        assert_eq!(run.complete(request.to_string().as_bytes()).0, Flow::Pass);
        assert_eq!(run.answer(&headers), (Flow::Pass, Vec::new()), "{headers:?}");
    }
    // An answer without a body is nobody's list.
    let mut gateway = gateway();
    let mut run = gateway.begin();
    run.headers(&Request::post("read", &list_request()));
    run.complete(list_request().to_string().as_bytes());
    let headers = HeaderList::from_iter([(":status", "200")]);
    assert_eq!(run.handle(Event::ResponseHeaders { headers, end_of_stream: true }), (Flow::Pass, Vec::new()));
}

#[test]
fn every_event_stream_is_looked_at_event_by_event() {
    let event = |message: &Value| format!("id: 1\ndata: {message}\n\n");
    let hidden = json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": "x://a"}});
    let get = Request::new("GET", "/mcp").bearer(&token("read"));
    for request in [Request::post("read", &call("read")), Request::post("read", &list_request()), get] {
        let mut gateway = gateway();
        let mut run = gateway.begin();
        if run.headers(&request).0 == Flow::Hold {
            let body = if request.header_list().value("x-list").is_some() { list_request() } else { call("read") };
            assert_eq!(run.complete(body.to_string().as_bytes()).0, Flow::Pass);
        }
        let (flow, commands) = run.answer(&[(":status", "200"), ("content-type", EVENTS)]);
        let until = NOW + limits::STREAM_RECHECK.get();
        assert_eq!((flow, in_short(&commands)), (Flow::Pass, format!("watch until {until}")));
        let mut chunk = |bytes: &str, end_of_stream| {
            let (flow, commands) = run.handle(Event::ResponseChunk { bytes: bytes.as_bytes(), end_of_stream });
            (flow, in_short(&commands))
        };
        assert_eq!(chunk(": c\n\n", false), (Flow::Pass, String::new()));
        // A part of an event is kept back until the rest is there.
        let all = event(&tools(&["read", "write"]));
        let (start, rest) = all.split_at(40);
        assert_eq!(chunk(start, false), (Flow::Pass, "body ".to_owned()));
        let filtered = format!("1 element, body {}", event(&tools(&["read"])));
        assert_eq!(chunk(rest, false), (Flow::Pass, filtered));
        let dropped = (Flow::Pass, "1 message, body id: 1\ndata:\n\n".to_owned());
        assert_eq!(chunk(&event(&hidden), false), dropped);
        let unreadable = (Flow::Pass, "1 event_unreadable, body ".to_owned());
        assert_eq!(chunk("data: {\n\n", false), unreadable);
        assert_eq!(chunk("data: {\"jsonrpc\":", true), (Flow::Pass, "body ".to_owned()));
    }
}

#[test]
fn an_event_that_is_too_large_cuts_the_stream_off() {
    let mut gateway = gateway();
    let mut run = gateway.begin();
    list_comes(&mut run, EVENTS);
    let large = vec![b'x'; limits::MAX_EVENT_BYTES + 1];
    let (flow, commands) = run.handle(Event::ResponseChunk { bytes: &large, end_of_stream: false });
    assert_eq!((flow, &*in_short(&commands)), (Flow::Hold, "1 event_too_large, cut off event_too_large"));
    assert_eq!(run.handle(Event::ResponseChunk { bytes: b"\n", end_of_stream: true }), (Flow::Hold, Vec::new()));
}

#[test]
fn a_stream_ends_when_its_token_does_or_its_caller_is_cut_off() {
    let last = NOW - 10 + 600 + limits::CLOCK_SKEW.get();
    let chunk = || Event::ResponseChunk { bytes: b": c\n\n", end_of_stream: false };
    for event in [&chunk as &dyn Fn() -> Event<'static>, &|| Event::TimePassed] {
        let watches = if matches!(event(), Event::TimePassed) { format!("watch until {last}") } else { String::new() };
        let mut gateway = gateway();
        let mut run = gateway.begin();
        list_comes(&mut run, EVENTS);
        run.gateway.now = UnixSeconds::new(last);
        let (flow, commands) = run.handle(event());
        assert_eq!((flow, in_short(&commands)), (Flow::Pass, watches));
        run.gateway.now = UnixSeconds::new(last + 1);
        let (flow, commands) = run.handle(event());
        assert_eq!((flow, &*in_short(&commands)), (Flow::Hold, "cut off token_expired"));
        let mut run = gateway.begin();
        run.gateway.now = UnixSeconds::new(NOW);
        list_comes(&mut run, EVENTS);
        let mut feed = RevocationFeed::new(Seconds::new(30), Seconds::new(300));
        let list = RevocationList { clients: ["client-1".to_owned()].into(), ..RevocationList::default() };
        feed.replace(FetchedList { list: list.into(), etag: None }, run.gateway.now);
        run.gateway.revoked = Some(feed);
        let (flow, commands) = run.handle(event());
        assert_eq!((flow, &*in_short(&commands)), (Flow::Hold, "cut off not_permitted"));
    }
}

#[test]
fn what_a_server_asks_of_a_client_is_up_to_the_policy() {
    let mut document = policy();
    document["server_requests"] = json!(["roots", "elicitation"]);
    let asks = |method: &str| json!({"jsonrpc": "2.0", "id": 1, "method": method}).to_string();
    let mut restricted = Gateway::new(document, Keys::Inline);
    for (gateway, passes) in [(&mut gateway(), [true, true, true, true]), (&mut restricted, [false, true, true, true])]
    {
        let mut run = gateway.begin();
        list_comes(&mut run, EVENTS);
        let methods = ["sampling/createMessage", "elicitation/create", "roots/list", "tasks/get"];
        for (method, passes) in methods.into_iter().zip(passes) {
            let event = format!("data: {}\n\n", asks(method));
            let (_, commands) = run.handle(Event::ResponseChunk { bytes: event.as_bytes(), end_of_stream: false });
            assert_eq!(commands.is_empty(), passes, "{method}: {commands:?}");
        }
    }
    // What a result asks for counts too, so results are looked at as soon as something is not allowed.
    let body = call("read").to_string();
    let mut run = restricted.begin();
    run.headers(&allowed());
    run.complete(body.as_bytes());
    assert_eq!(run.answer(&[(":status", "200"), ("content-type", JSON)]).0, Flow::Hold);
    let result = r#"{"jsonrpc":"2.0","id":1,"result":{"inputRequests":{"a":{"method":"sampling/createMessage"}}}}"#;
    let (flow, commands) = run.handle(Event::ResponseComplete { body: result.as_bytes() });
    let [Command::ReplaceResponseBody(body)] = commands.as_slice() else { panic!("{commands:?}") };
    let error: Value = serde_json::from_slice(body).unwrap();
    assert_eq!((flow, &error["id"], &error["error"]["code"]), (Flow::Pass, &json!(1), &json!(-33002)));
}

#[test]
fn resource_templates_are_shown_if_what_they_make_may_be_read() {
    let mut document = policy();
    document["rules"] = json!([{"resources": ["norg://reports/*", "norg://odd/{x}/y"], "scopes": ["read"]}]);
    let mut gateway = Gateway::new(document, Keys::Inline);
    let shown = |gateway: &mut Gateway, template: &str| {
        let page = json!({"jsonrpc": "2.0", "id": 1, "result": {"resourceTemplates": [{"uriTemplate": template}]}});
        listed(gateway, &page.to_string()).1.is_empty()
    };
    for template in ["norg://reports/{week}", "norg://reports/{year}/{week}{?format}", "norg://odd/{x}/y"] {
        assert!(shown(&mut gateway, template), "{template}");
    }
    for template in ["norg://secrets/{id}", "norg://odd/{y}/y", "{+uri}", "norg://reports/../{x}"] {
        assert!(!shown(&mut gateway, template), "{template}");
    }
}

#[test]
fn definitions_are_learnt_from_lists_before_they_are_held_against_the_consent() {
    let definition = r#"{"name":"read","inputSchema":{}}"#;
    let digest = "6bcae6bbf66840334b4d9c9b41e5879162fae2927dcc5b94b754e76a38105cac";
    let mut document = policy();
    let consent = json!({"by": "platform-team", "on": "2026-01-02", "definitions": {"read": digest}});
    document["clients"] = json!({"client-1": {"consent": consent, "without_person": "allow"}});
    let mut gateway = Gateway::new(document, Keys::Inline);
    assert_eq!(gateway.send(&allowed()).reason, "not_permitted");
    let page = |tool: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"tools":[{tool}]}}}}"#);
    assert_eq!(listed(&mut gateway, &page(definition)), (Flow::Pass, Vec::new()));
    assert_eq!(gateway.send(&allowed()).reason, "permitted");
    let changed = definition.replace("{}", r#"{"type":"object"}"#);
    assert_eq!(in_short(&listed(&mut gateway, &page(&changed)).1), format!("1 element, body {}", page("")));
    assert_eq!(gateway.send(&allowed()).reason, "not_permitted");
    // An answer that the client does not get has shown it nothing.
    let unread = [format!("{} x", page(definition)), page(definition).replace(r#""jsonrpc":"2.0","#, "")];
    for refused in unread {
        assert!(in_short(&listed(&mut gateway, &refused).1).ends_with("reply 502"), "{refused}");
        let mut run = gateway.begin();
        list_comes(&mut run, EVENTS);
        let event = format!("data: {refused}\n\n");
        run.handle(Event::ResponseChunk { bytes: event.as_bytes(), end_of_stream: true });
        assert_eq!(gateway.send(&allowed()).reason, "not_permitted", "{refused}");
    }
    // Nor has one whose part of the stream is cut off with what follows it.
    let mut run = gateway.begin();
    list_comes(&mut run, EVENTS);
    let bytes = [format!("data: {}\n\ndata: ", page(definition)), "x".repeat(limits::MAX_EVENT_BYTES)].concat();
    let (flow, _) = run.handle(Event::ResponseChunk { bytes: bytes.as_bytes(), end_of_stream: false });
    assert_eq!((flow, gateway.send(&allowed()).reason), (Flow::Hold, "not_permitted"));
}

// --- Guards against upstreams and lists that go too far -----------------------------------------------------------------

#[test]
fn json_that_nobody_asked_for_is_read_too() {
    let mut gateway = gateway();
    let mut run = gateway.begin();
    assert_eq!(run.headers(&Request::new("GET", "/mcp").bearer(&token(""))).0, Flow::Pass);
    assert_eq!(run.answer(&[(":status", "200"), ("content-type", JSON)]).0, Flow::Hold);
    let body = br#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"hidden"}]}}"#;
    let (_, commands) = run.handle(Event::ResponseComplete { body });
    let Some(Command::ReplaceResponseBody(body)) = commands.last() else { panic!("{commands:?}") };
    assert!(!String::from_utf8_lossy(body).contains("hidden"));
}

#[test]
fn a_session_in_another_spelling_does_not_reach_the_client() {
    let mut gateway = gateway();
    let mut run = gateway.begin();
    let request = call("read");
    run.headers(&Request::post("read", &request));
    run.complete(request.to_string().as_bytes());
    let (_, commands) = run.answer(&[(":status", "200"), ("content-type", JSON), ("mcp_session_id", "raw")]);
    let [Command::EditResponseHeaders(edits)] = &*commands else { panic!("{commands:?}") };
    assert!(edits.remove.iter().any(|removed| **removed == *b"mcp_session_id"), "{edits:?}");
}

#[test]
fn conditions_of_a_list_cost_no_more_than_they_may() {
    let mut document = policy();
    document["rules"] = json!([
        {"tools": ["t*"], "scopes": ["read"], "when": "target.name != 'x'"},
        {"tools": ["u*"], "scopes": ["read"], "when": "subject != 'x'"},
    ]);
    let mut gateway = Gateway::new(document, Keys::Inline);
    let most = limits::MAX_CONDITION_EVALUATIONS;
    for (prefix, listed, shown) in [("t", most + 5, most), ("u", most + 5, most + 5)] {
        let tools: Vec<Value> = (0..listed).map(|number| json!({"name": format!("{prefix}{number}")})).collect();
        let body = json!({"jsonrpc": "2.0", "id": "l-1", "result": {"tools": tools}}).to_string();
        let mut run = gateway.begin();
        list_comes(&mut run, JSON);
        let (_, commands) = run.handle(Event::ResponseComplete { body: body.as_bytes() });
        let left = commands.iter().find_map(|command| {
            if let Command::ReplaceResponseBody(body) = command { Some(body.clone()) } else { None }
        });
        let left: Value = serde_json::from_slice(left.as_deref().unwrap_or(body.as_bytes())).unwrap();
        assert_eq!(left["result"]["tools"].as_array().unwrap().len(), shown, "{prefix}");
    }
}

//! What the audit record says of an exchange, however it went.
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
    #[expect(dead_code, reason = "records need a part of it")]
    pub(crate) mod approvals;
    #[expect(dead_code, reason = "records need a part of it")]
    pub(crate) mod gateway;
    #[expect(dead_code, reason = "records need a part of it")]
    pub(crate) mod issuer;
    pub(crate) mod keys;
}

use proptest::prelude::*;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use toolgate::audit::record::{Personal, Record};
use toolgate::audit::{Chain, seal};
use toolgate::exchange::{AnswerBody, Command, Ending, Event, ServiceCall};
use toolgate::keys::NamedKey;
use toolgate::units::UnixMillis;

use support::approvals::{Client, Fate, Sent, World, gated};
use support::gateway::{Gateway, Keys, Request, Run, call, policy, token_with};
use support::issuer::NOW;

const REQUEST_ID: &str = "db7c29d2-b007-4da9-8d22-e14b88bf267e";

/// How an exchange ends when nothing goes wrong.
fn well() -> Ending {
    let started = UnixMillis::new(NOW * 1000);
    Ending {
        started,
        at: UnixMillis::new(NOW * 1000 + 250),
        status: None,
        details: "via_upstream".to_owned(),
        is_partial: false,
        flags: 0,
        source: Some("192.0.2.7".to_owned()),
    }
}

/// The record of an exchange that has ended, and what of it is personal.
fn concluded(run: &mut Run<'_>, ending: &Ending) -> (Value, Value) {
    let entry = run.exchange.conclude(ending, &run.gateway.policy);
    let key = NamedKey::new("k1", &[1; 32]).unwrap();
    let mut chain = Chain::new("0".repeat(32), String::new(), String::new(), String::new(), ending.at);
    let line: Value = read(chain.seal(&key, &entry));
    (line["record"].clone(), line["personal"].clone())
}

/// A line as a reader has it. Whoever reads its parts as the types of a record and writes them again has the same bytes.
fn read(line: &[u8]) -> Value {
    #[derive(serde::Deserialize)]
    struct Line<'a> {
        mac: &'a str,
        #[serde(borrow)]
        personal: Option<&'a RawValue>,
        #[serde(borrow)]
        record: &'a RawValue,
    }

    let Line { mac, personal, record } = serde_json::from_slice(line).unwrap();
    let key = NamedKey::new("k1", &[1; 32]).unwrap();
    assert_eq!(seal::mac(&key, record.get().as_bytes()), mac);
    assert_eq!(seal::line(mac, personal.map(RawValue::get), record.get()).as_bytes(), line);
    let typed: Record<'_> = serde_json::from_str(record.get()).unwrap();
    assert_eq!(serde_json::to_string(&typed).unwrap(), record.get());
    if let Some(personal) = personal {
        let typed: Personal<'_> = serde_json::from_str(personal.get()).unwrap();
        assert_eq!(serde_json::to_string(&typed).unwrap(), personal.get());
    }
    assert_eq!(
        typed.personal.as_deref().map(str::to_owned),
        personal.map(|personal| seal::personal_digest(personal.get().as_bytes()))
    );
    serde_json::from_slice(line).unwrap()
}

/// Sends a whole request.
fn sent<'g>(gateway: &'g mut Gateway, request: &Request) -> Run<'g> {
    let mut run = gateway.begin();
    run.headers(request);
    if !request.body().is_empty() {
        run.complete(request.body());
    }
    run
}

/// The answer's body, as the exchange asks for it.
fn take_in(run: &mut Run<'_>, body: &str) {
    if run.exchange.answer_body() == AnswerBody::ForRecord {
        run.exchange.read_answer(body.as_bytes());
    } else {
        run.handle(Event::ResponseChunk { bytes: body.as_bytes(), end_of_stream: true });
    }
}

fn answered(run: &mut Run<'_>, body: &str) {
    run.answer(&[(":status", "200"), ("content-type", "application/json")]);
    take_in(run, body);
}

fn gateway() -> Gateway {
    Gateway::new(policy(), Keys::Inline)
}

#[test]
fn a_call_that_was_allowed_and_answered() {
    let mut gateway = gateway();
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = Request::post("read", &call("read")).with("traceparent", trace).with("x-request-id", REQUEST_ID);
    let mut run = sent(&mut gateway, &request);
    answered(&mut run, r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#);
    let (record, personal) = concluded(&mut run, &well());
    let digest = run.gateway.policy.digest.clone();
    let known = json!({
        "at": "2027-01-15T08:00:00.250Z", "started": "2027-01-15T08:00:00.000Z",
        "v": 1, "kind": "request", "instance": "", "worker": "", "policy": digest,
        "id": "0000000000000000000000000000002a",
        "verdict": "allow", "reason": "permitted", "rule": 0,
        "revision": "2025-03-26", "method": "tools/call", "target": {"kind": "tool", "name": "read"},
        "caller": {
            "issuer": "https://issuer.test", "client": "client-1", "credential": "jwt", "machine": false,
            "sender_constraint": "none", "issued_at": NOW - 10, "expires_at": NOW + 590,
        },
        "scopes": {"granted": ["read"], "required": ["read"]},
        "http": {
            "method": "POST", "status": 200, "details": "via_upstream", "duration_ms": 250,
            "request_bytes": request.body().len(), "request_id": REQUEST_ID,
        },
        "trace": {
            "id": "4bf92f3577b34da6a3ce929d0e0e4736", "parent": "00f067aa0ba902b7", "source": "header",
        },
        "response": {"status": "success"},
    });
    for (name, value) in known.as_object().unwrap() {
        assert_eq!(record[name], *value, "{name}");
    }
    let rest: Vec<&String> = record.as_object().unwrap().keys().filter(|name| known.get(name).is_none()).collect();
    assert_eq!(rest, ["anchor", "chain", "personal"]);
    assert_eq!((&personal["subject"], &personal["source"]), (&"user-7".into(), &"192.0.2.7".into()));
    assert!(personal["arguments_digest"].as_str().unwrap().starts_with("d_"));
    assert!(personal.get("arguments").is_none(), "no value of an argument is written unless the policy says so");
}

#[test]
fn each_denial_names_its_reason_and_what_is_known_of_the_caller() {
    let mut gateway = gateway();
    let expired = token_with(json!({"age_s": 1000}).as_object().unwrap());
    let cases = [
        (Request::new("POST", "/mcp"), "no_token", None, None),
        (Request::new("POST", "/elsewhere"), "unknown_path", None, None),
        (Request::post("read", &call("read")).bearer("no.token"), "not_a_jwt", None, None),
        (Request::post("read", &call("read")).bearer(&expired), "token_expired", None, Some("user-7")),
        (Request::post("read", &call("write")), "insufficient_scope", Some("user-7"), None),
        (Request::post("read", &call("nothing")), "no_rule", Some("user-7"), None),
        (Request::post("read", &json!([])), "invalid_request", Some("user-7"), None),
        (Request::post("read", &call("read")).with_bytes("{"), "parse_error", Some("user-7"), None),
    ];
    for (request, reason, subject, unverified) in cases {
        let mut run = sent(&mut gateway, &request);
        let (record, personal) = concluded(&mut run, &well());
        assert_eq!((&record["verdict"], &record["reason"]), (&"deny".into(), &reason.into()));
        assert_eq!(record["response"]["status"], "gateway", "{reason}");
        assert!(record["http"]["status"].as_u64().unwrap() >= 400, "{reason}");
        assert_eq!(personal["subject"].as_str(), subject, "{reason}");
        assert_eq!(record.get("caller").is_some(), subject.is_some(), "{reason}");
        assert_eq!(personal["unverified"]["subject"].as_str(), unverified, "{reason}");
    }
}

#[test]
fn a_denial_for_want_of_scopes_lists_them() {
    let mut gateway = gateway();
    let (record, _) = concluded(&mut sent(&mut gateway, &Request::post("read", &call("write"))), &well());
    assert_eq!(record["scopes"], json!({"granted": ["read"], "missing": ["write"], "required": ["write"]}));
}

#[test]
fn a_denial_by_sides_lists_each_with_its_reason() {
    let mut document = policy();
    document["clients"] = json!({"another": {}});
    document["operators"] = json!({"boss": {"match": {"roles": ["boss"]}, "scopes": ["read"]}});
    let mut gateway = Gateway::new(document, Keys::Inline);
    let (record, _) = concluded(&mut sent(&mut gateway, &Request::post("read", &call("read"))), &well());
    let sides = json!([{"side": "person", "why": "no_role"}, {"side": "client", "why": "unknown_client"}]);
    assert_eq!((&record["reason"], &record["sides"]), (&"not_permitted".into(), &sides));
}

#[test]
fn what_never_reached_the_filter_has_a_record_too() {
    let mut gateway = gateway();
    let ending = Ending { status: Some(400), details: "http1.codec_error".to_owned(), flags: 0x40000, ..well() };
    let (record, personal) = concluded(&mut gateway.begin(), &ending);
    assert_eq!((&record["verdict"], &record["reason"]), (&"none".into(), &"not_seen".into()));
    assert_eq!((&record["http"]["flags"], &record["http"]["status"]), (&json!(["DPE"]), &400.into()));
    assert!(personal.get("subject").is_none() && record.get("caller").is_none());
}

#[test]
fn a_client_that_leaves_leaves_a_record() {
    let mut gateway = gateway();
    let request = Request::post("read", &call("read"));
    let gone = Ending { flags: 0x4000, details: "downstream_remote_disconnect".to_owned(), ..well() };

    // While the request is coming in.
    let mut run = gateway.begin();
    run.headers(&request);
    run.handle(Event::RequestBody { buffered: 17 });
    let (record, personal) = concluded(&mut run, &gone);
    assert_eq!((&record["verdict"], &record["reason"]), (&"none".into(), &"ended_early".into()));
    assert_eq!((&record["response"]["status"], &record["http"]["request_bytes"]), (&"aborted".into(), &17.into()));
    assert_eq!(personal["subject"], "user-7");

    // While the upstream is at work.
    let (record, _) = concluded(&mut sent(&mut gateway, &request), &gone);
    assert_eq!((&record["verdict"], &record["response"]["status"]), (&"allow".into(), &"aborted".into()));
    assert!(record["http"].get("status").is_none());

    // While the answer is coming.
    let mut run = sent(&mut gateway, &request);
    run.answer(&[(":status", "200"), ("content-type", "text/event-stream")]);
    let (record, _) = concluded(&mut run, &gone);
    assert_eq!((&record["response"]["status"], &record["http"]["status"]), (&"aborted".into(), &200.into()));
}

#[test]
fn what_envoy_has_no_flag_for_is_aborted_too() {
    let mut gateway = gateway();
    let request = Request::post("read", &call("read"));
    // A client that takes its request back over HTTP/2.
    let mut run = sent(&mut gateway, &request);
    run.answer(&[(":status", "200"), ("content-type", "text/event-stream")]);
    let (record, _) = concluded(&mut run, &Ending { is_partial: true, ..well() });
    assert_eq!(record["response"]["status"], "aborted");
    // A stream that has lasted too long, which Envoy answers for.
    let mut run = sent(&mut gateway, &request);
    run.answer(&[(":status", "504")]);
    let (record, _) = concluded(&mut run, &Ending { details: "max_duration_timeout".to_owned(), ..well() });
    assert_eq!(record["response"]["status"], "aborted");
    // What the gateway answers itself is its own, though nobody waited for the end of it.
    let mut run = sent(&mut gateway, &Request::post("nothing", &call("nothing")));
    let (record, _) = concluded(&mut run, &Ending { status: Some(403), is_partial: true, ..well() });
    assert_eq!((&record["verdict"], &record["response"]["status"]), (&"deny".into(), &"gateway".into()));
}

#[test]
fn a_batch_hides_nothing() {
    let mut document = policy();
    document["protocol"]["max_request_bytes"] = json!(65536);
    document["rules"][0]["scopes"] = json!([]);
    document["audit"] = json!({"arguments": {"write": {"/to": "keep"}}});
    let mut gateway = Gateway::new(document, Keys::Inline);
    let write = |to: &str| {
        let mut write = call("write");
        write["params"]["arguments"] = json!({"to": to});
        write
    };
    let mut of = |to: &str| {
        let mut calls = vec![call("read"); 63];
        calls.push(write(to));
        concluded(&mut sent(&mut gateway, &Request::post("write", &calls.into())), &well())
    };
    let (record, personal) = of("elsewhere");
    let calls = record["batch"]["calls"].as_array().unwrap();
    assert_eq!((calls.len(), &calls[63]), (64, &"tools/call write".into()));
    // The record is about the call that needed most, wherever it stands.
    assert_eq!((&record["target"]["name"], &record["rule"]), (&"write".into(), &1.into()));
    assert_eq!(personal["arguments"], json!({"/to": "elsewhere"}));
    assert_ne!(personal["arguments_digest"], of("here").1["arguments_digest"]);
}

#[test]
fn what_a_client_made_up_is_masked_and_request_ids_are_uuids() {
    let mut document = policy();
    document["rules"][0]["tools"] = json!(["read_*"]);
    let mut gateway = Gateway::new(document, Keys::Inline);
    let request = Request::post("read", &call("read_ann@example.org")).with("x-request-id", "ghp_0123456789abcdef0123");
    let (record, _) = concluded(&mut sent(&mut gateway, &request), &well());
    assert_eq!((&record["target"]["name"], &record["verdict"]), (&"[email]".into(), &"allow".into()));
    assert!(record["http"].get("request_id").is_none());
}

/// What a server's answer becomes on its way is what counts, whether it is one text or an event.
#[test]
fn the_record_is_about_the_answer_that_the_client_gets() {
    let mut document = policy();
    document["server_requests"] = json!([]);
    let of = |content_type: &str, body: &str| {
        let mut gateway = Gateway::new(document.clone(), Keys::Inline);
        let mut run = sent(&mut gateway, &Request::post("read", &call("read")));
        run.answer(&[(":status", "200"), ("content-type", content_type)]);
        let bytes = body.as_bytes();
        run.handle(match content_type {
            "application/json" => Event::ResponseComplete { body: bytes },
            _ => Event::ResponseChunk { bytes, end_of_stream: true },
        });
        concluded(&mut run, &well()).0["response"]["status"].as_str().unwrap().to_owned()
    };
    let asks = r#""result":{"inputRequests":{"a":{"method":"sampling/createMessage"}}}"#;
    let refused = format!(r#"{{"jsonrpc":"2.0","id":1,{asks}}}"#);
    let withheld = r#"{"id":1,"result":{}}"#;
    let mixed = format!(r#"[{withheld},{{"jsonrpc":"2.0","id":1,"error":{{"code":1,"message":"no"}}}}]"#);
    let reverse = r#"[{"id":1,"error":{}},{"jsonrpc":"2.0","id":1,"result":{}}]"#;
    for (body, status) in [(&*refused, "error"), (&*mixed, "error"), (reverse, "success")] {
        assert_eq!(of("application/json", body), status, "{body}");
        assert_eq!(of("text/event-stream", &format!("data: {body}\n\n")), status, "{body}");
    }
    assert_eq!(of("application/json", withheld), "gateway");
}

#[test]
fn answers_are_told_apart() {
    let of = |headers: &[(&str, &str)], body: &str| {
        let mut gateway = gateway();
        let mut run = sent(&mut gateway, &Request::post("read", &call("read")));
        run.answer(headers);
        take_in(&mut run, body);
        concluded(&mut run, &well()).0["response"]["status"].as_str().unwrap().to_owned()
    };
    let json = |body| of(&[(":status", "200"), ("content-type", "application/json")], body);
    let events = |body: &str| of(&[(":status", "200"), ("content-type", "text/event-stream")], body);
    assert_eq!(json(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#), "success");
    assert_eq!(json(r#"{"jsonrpc":"2.0","id":1,"result":{"isError":true}}"#), "tool_error");
    assert_eq!(json(r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"no"}}"#), "error");
    assert_eq!(json("not json"), "unread");
    let progress = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{}}\n\n";
    let result = "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"isError\":true}}\n\n";
    assert_eq!(events(&format!("{progress}{result}")), "tool_error");
    assert_eq!(of(&[(":status", "429"), ("content-type", "text/plain")], "slow down"), "rate_limited");
    assert_eq!(of(&[(":status", "500"), ("content-type", "text/plain")], "oh"), "error");
    let zipped = [(":status", "200"), ("content-type", "application/json"), ("content-encoding", "gzip")];
    assert_eq!(of(&zipped, "\u{1f}"), "unread");
}

#[test]
fn an_answer_that_is_refused_is_the_gateways_own() {
    let mut gateway = gateway();
    let mut run = sent(&mut gateway, &Request::post("read", &call("read")));
    run.answer(&[(":status", "302"), ("location", "https://elsewhere.test/")]);
    let (record, _) = concluded(&mut run, &well());
    assert_eq!(record["verdict"], "allow");
    assert_eq!(record["response"], json!({"cut_off": "upstream_refused", "status": "gateway"}));
    assert_eq!(record["http"]["status"], 502);
}

#[test]
fn a_list_says_how_much_of_it_was_hidden() {
    let mut gateway = gateway();
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    let mut run = sent(&mut gateway, &Request::post("read", &list));
    run.answer(&[(":status", "200"), ("content-type", "application/json")]);
    let tools = json!([{"name": "read", "inputSchema": {}}, {"name": "write", "inputSchema": {}}]);
    let body = json!({"jsonrpc": "2.0", "id": 1, "result": {"tools": tools}}).to_string();
    run.handle(Event::ResponseComplete { body: body.as_bytes() });
    let (record, _) = concluded(&mut run, &well());
    assert_eq!(record["response"], json!({"hidden": 1, "status": "success"}));
    assert!(record.get("target").is_none());
}

#[test]
fn a_batch_lists_its_calls_and_is_decided_by_one() {
    let mut gateway = gateway();
    let messages = json!([call("read"), call("write"), {"jsonrpc": "2.0", "method": "notifications/cancelled"}]);
    let (record, _) = concluded(&mut sent(&mut gateway, &Request::post("read", &messages)), &well());
    let calls = json!(["tools/call read", "tools/call write", "notifications/cancelled"]);
    assert_eq!(record["batch"], json!({"calls": calls, "size": 3}));
    assert_eq!((&record["target"]["name"], &record["rule"]), (&"write".into(), &1.into()));
}

#[test]
fn subjects_can_be_hidden_behind_pseudonyms() {
    let of = |subjects: &str, subject: &str| {
        let mut document = policy();
        document["audit"] = json!({"subjects": subjects});
        let mut gateway = Gateway::new(document, Keys::Inline);
        let token = token_with(json!({"sub": subject, "scope": "read"}).as_object().unwrap());
        let request = Request::post("read", &call("read")).bearer(&token);
        concluded(&mut sent(&mut gateway, &request), &well()).1
    };
    let (hidden, same, other) = (of("pseudonym", "ann"), of("pseudonym", "ann"), of("pseudonym", "bob"));
    assert!(hidden.get("subject").is_none() && !hidden.to_string().contains("ann"));
    assert!(hidden["pseudonym"].as_str().unwrap().starts_with("p_"));
    assert_eq!(hidden["pseudonym"], same["pseudonym"]);
    assert_ne!(hidden["pseudonym"], other["pseudonym"]);
    assert!(of("plain", "ann").get("pseudonym").is_none());

    // Nor do tokens that are refused, or those who act for somebody, show any.
    let mut document = policy();
    document["audit"] = json!({"subjects": "pseudonym"});
    let mut gateway = Gateway::new(document, Keys::Inline);
    for claims in [json!({"sub": "ann", "act": {"sub": "ann"}}), json!({"sub": "ann", "age_s": 10_000})] {
        let request = Request::post("read", &call("read")).bearer(&token_with(claims.as_object().unwrap()));
        let (_, personal) = concluded(&mut sent(&mut gateway, &request), &well());
        assert!(!personal.to_string().contains("ann"), "{personal}");
        assert!(personal.to_string().contains(hidden["pseudonym"].as_str().unwrap()), "{personal}");
    }
}

#[test]
fn without_records_there_is_nothing_to_read_an_answer_for() {
    let mut document = policy();
    document["audit"] = json!({"records": "off"});
    let mut gateway = Gateway::new(document, Keys::Inline);
    assert!(gateway.policy.audit.is_none());
    let mut run = sent(&mut gateway, &Request::post("read", &call("read")));
    run.answer(&[(":status", "200"), ("content-type", "application/json")]);
    assert_eq!(run.exchange.answer_body(), AnswerBody::Unread);
}

#[test]
fn only_what_is_let_through_has_a_provisional_record() {
    let mut gateway = gateway();
    let now = UnixMillis::new(NOW * 1000);
    let denied = sent(&mut gateway, &Request::post("read", &call("write")));
    assert!(denied.exchange.provisional(now, now).is_none());
    let allowed = sent(&mut gateway, &Request::post("read", &call("read")));
    let entry = allowed.exchange.provisional(now, now).unwrap();
    let key = NamedKey::new("k1", &[1; 32]).unwrap();
    let mut chain = Chain::new("0".repeat(32), String::new(), String::new(), String::new(), now);
    let record = read(chain.seal_provisional(&key, &entry))["record"].clone();
    assert_eq!((&record["kind"], &record["verdict"]), (&"provisional".into(), &"allow".into()));
    assert_eq!(record["target"]["name"], "read");
}

// --- Approvals ------------------------------------------------------------------------------------------------------

/// The approval in the record of a request, and what of it is personal.
fn approval(world: &mut World, sent: Sent) -> (Value, Value) {
    let mut run = Run { exchange: sent.exchange, gateway: &mut world.gateway };
    let (record, personal) = concluded(&mut run, &well());
    assert_eq!(record["verdict"], if sent.commands.iter().any(is_permit) { "allow" } else { "deny" });
    (record["approval"].clone(), personal["approvers"].clone())
}

fn is_permit(command: &Command) -> bool {
    matches!(command, Command::EditRequestHeaders(_))
}

fn gated_call() -> Request {
    Client::Stateless.call("write", &json!({}))
}

fn approving(call: &ServiceCall, world: &mut World) -> Fate {
    if call.method == "GET" {
        world.services[call.service].approve();
    }
    Fate::Answered
}

#[test]
fn a_call_that_was_approved_says_by_whom() {
    let mut world = World::new(gated());
    world.send(&gated_call());
    let sent = world.send_with(&gated_call(), approving);
    let (approval, approvers) = approval(&mut world, sent);
    let expected = json!({
        "gates": ["rule"], "held_seconds": 0, "id": "approval-0", "service": "approvals",
        "status": "approved",
    });
    assert_eq!(approval, expected);
    let now = world.gateway.now.get();
    let bob = json!({"at": now, "issuer": "https://idp.test", "roles": ["admin"], "subject": "bob"});
    assert_eq!(approvers, json!([bob]));
}

#[test]
fn approvers_can_be_hidden_behind_pseudonyms() {
    let mut policy = gated();
    policy["audit"] = json!({"subjects": "pseudonym"});
    let mut world = World::new(policy);
    let sent = world.send_with(&gated_call(), approving);
    let (_, approvers) = approval(&mut world, sent);
    let pseudonym = approvers[0]["pseudonym"].as_str().unwrap();
    assert!(pseudonym.starts_with("p_") && !approvers.to_string().contains("bob"), "{approvers}");
    // Somebody who rejects is hidden as well, and is the same one.
    world.send(&gated_call());
    world.service().reject("no");
    let sent = world.send(&gated_call());
    assert_eq!(approval(&mut world, sent).1[0]["pseudonym"], pseudonym);
}

#[test]
fn what_became_of_an_approval_is_recorded_however_it_ended() {
    let of = |fate: fn(&ServiceCall, &mut World) -> Fate| {
        let mut world = World::new(gated());
        let sent = world.send_with(&gated_call(), fate);
        approval(&mut world, sent)
    };
    let (pending, approvers) = of(|_, _| Fate::Answered);
    let expected = json!({
        "gates": ["rule"], "held_seconds": 45, "id": "approval-0", "service": "approvals",
        "status": "pending",
    });
    assert_eq!((pending, approvers), (expected, Value::Null));
    for (state, people) in [("rejected", 1), ("expired", 0), ("cancelled", 0)] {
        let mut world = World::new(gated());
        let sent = world.send_with(&gated_call(), |call, world| {
            if call.method == "GET" {
                world.service().last().state = state;
            }
            Fate::Answered
        });
        let (approval, approvers) = approval(&mut world, sent);
        assert_eq!((&approval["status"], &approval["id"]), (&state.into(), &"approval-0".into()));
        assert_eq!(approvers.as_array().map_or(0, Vec::len), people, "{state}");
    }
    let (unreachable, _) = of(|_, _| Fate::Unreachable);
    let expected = json!({
        "gates": ["rule"], "held_seconds": 0, "service": "approvals", "status": "unavailable",
    });
    assert_eq!(unreachable, expected);
    // What was not believed is not quoted.
    let (unsigned, approvers) = of(|call, world| {
        world.service().forgery = |header, _| header["alg"] = "none".into();
        approving(call, world)
    });
    assert_eq!((&unsigned["status"], approvers), (&"unavailable".into(), Value::Null));
    let (used, _) = of(|_, _| Fate::Changed(|state| state["state"] = "consumed".into()));
    assert_eq!(used["status"], "used");
}

#[test]
fn an_escalated_approval_names_the_service_that_decided() {
    let mut policy = gated();
    policy["approval"]["escalate_to"] = json!({"cluster": "on-call"});
    let mut world = World::new(policy);
    let sent = world.send_with(&gated_call(), |call, world| match call.service {
        0 => Fate::Unreachable,
        _ => approving(call, world),
    });
    let (approval, _) = approval(&mut world, sent);
    assert_eq!((&approval["service"], &approval["escalated"]), (&"on-call".into(), &true.into()));
    // So does one that only the service has escalated.
    let mut world = World::new(gated());
    world.service().escalated = true;
    let sent = world.send_with(&gated_call(), approving);
    assert_eq!(self::approval(&mut world, sent).0["escalated"], true);
}

#[test]
fn each_gate_is_named_once() {
    let mut policy = gated();
    policy["agents"] = json!({"bot": {"scopes": ["*"], "approval": {"scopes": ["*"]}}});
    policy["clients"] = json!({"client-1": {"agent": "bot"}});
    policy["approval"]["risk"] = json!({"high": {}});
    policy["rules"].as_array_mut().unwrap().push(json!({
        "resources": ["norg://more/*"], "scopes": ["write"], "approval": {},
    }));
    let mut world = World::new(policy);
    let filter = json!({"resourceSubscriptions": ["norg://files/a", "norg://more/b"]});
    let sent = world.send(&Client::Stateless.request("subscriptions/listen", &json!({"notifications": filter})));
    assert_eq!(approval(&mut world, sent).0["gates"], json!(["rule", "agent", "risk"]));
}

#[test]
fn a_call_that_the_rule_lets_pass_has_bypassed_its_approval() {
    let mut world = World::new(gated());
    let sent = world.send(&Client::Stateless.call("bulk", &json!({"to": [1]})));
    assert_eq!(approval(&mut world, sent).0, json!({"held_seconds": 0, "status": "bypassed"}));
    // Where nothing asks for any, there is nothing to bypass.
    let sent = world.send(&Client::Stateless.call("read", &json!({})));
    assert_eq!(approval(&mut world, sent).0, Value::Null);
    // Nor has one that was refused for another reason.
    let request = Client::Stateless.call("bulk", &json!({"to": [1]}));
    let sent = world.send(&request.bearer(&token_with(json!({"scope": "read"}).as_object().unwrap())));
    assert_eq!(approval(&mut world, sent).0, Value::Null);
}

#[test]
fn rounds_of_an_approved_call_are_counted() {
    let mut world = World::new(gated());
    let mut sent = world.send_with(&gated_call(), approving);
    let body = json!({"jsonrpc": "2.0", "id": "c-1", "result": {"resultType": "input_required"}}).to_string();
    let headers = [(":status", "200"), ("content-type", "application/json")].into_iter().collect();
    let headers = Event::ResponseHeaders { headers, end_of_stream: false };
    let commands = world.upstream(&mut sent, vec![headers, Event::ResponseComplete { body: body.as_bytes() }]);
    let state = commands.iter().find_map(|command| {
        if let Command::ReplaceResponseBody(body) = command {
            let body: Value = serde_json::from_slice(body).unwrap();
            return Some(body["result"]["requestState"].clone());
        }
        None
    });
    let params = json!({"name": "write", "arguments": {}, "requestState": state.unwrap()});
    let sent = world.send(&Client::Stateless.request("tools/call", &params));
    let (approval, _) = approval(&mut world, sent);
    assert_eq!((&approval["status"], &approval["step"]), (&"approved".into(), &1.into()));
}

#[test]
fn a_client_that_leaves_while_it_waits_leaves_a_record() {
    let mut world = World::new(gated());
    let request = gated_call();
    let mut run = world.begin();
    run.headers(&request);
    run.complete(request.body());
    let gone = Ending { flags: 0x4000, details: "downstream_remote_disconnect".to_owned(), ..well() };
    let (record, _) = concluded(&mut run, &gone);
    assert_eq!((&record["verdict"], &record["reason"]), (&"none".into(), &"approval_awaited".into()));
    assert_eq!(record["approval"]["status"], "pending");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// `concluded` holds each record against what serde makes of it.
    #[test]
    fn whatever_a_token_says_is_written_as_a_reader_would_write_it(
        name in "[ -~]{1,12}|\\PC{1,12}",
        words in prop::collection::vec("[a-z\"\\\\]{1,9}|\\PC{0,300}", 0..40),
        is_hidden in any::<bool>(),
    ) {
        let mut document = policy();
        document["audit"] = json!({"subjects": if is_hidden { "pseudonym" } else { "plain" }});
        let mut gateway = Gateway::new(document, Keys::Inline);
        let scope = format!("read {}", name.replace(|mark: char| !mark.is_ascii_alphanumeric(), "x"));
        let claims = json!({
            "scope": scope, "sub": name, "client_id": name, "jti": name, "acr": name, "amr": words, "roles": words, "groups": words,
            "department": name, "purpose": words.first(), "tenant_id": name, "auth_age_s": 60, "act": {"sub": name},
        });
        let token = token_with(claims.as_object().unwrap());
        let request = Request::post("read", &call("read")).bearer(&token).with("x-request-id", REQUEST_ID);
        // The second time everything is rendered already.
        let first = concluded(&mut sent(&mut gateway, &request), &well());
        let second = concluded(&mut sent(&mut gateway, &request), &well());
        prop_assert_eq!(first, second);
    }
}

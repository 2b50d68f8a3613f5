//! Sessions in exchanges: an identifier opens for the caller it was made for, and for nobody else.
#![cfg(not(target_family = "wasm"))]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]
#![expect(clippy::arithmetic_side_effects, reason = "the numbers are in the test")]
#![expect(clippy::string_slice, reason = "identifiers are ASCII")]

mod support {
    #[expect(dead_code, reason = "sessions need a part of it")]
    pub(crate) mod gateway;
    #[expect(dead_code, reason = "sessions need a part of it")]
    pub(crate) mod issuer;
    pub(crate) mod keys;
}

use std::borrow::Cow;

use serde_json::{Value, json};
use toolgate::config::CompiledPolicy;
use toolgate::exchange::{Command, Event, Flow, HeaderEdits, Verdict};
use toolgate::http::{HeaderList, LocalReply};
use toolgate::jwt::IssuerIndex;
use toolgate::limits;
use toolgate::mcp::{Capability, Revision};
use toolgate::session::{Binding, Owner, Session};
use toolgate::units::{Seconds, UnixSeconds};

use support::gateway::{Gateway, ISSUER, Keys, Outcome, RESOURCE, Request, call, policy, token, token_with, variable};
use support::issuer::{self, NOW};
use support::keys;

const UPSTREAM_ID: &str = "upstream-session-1";
const METHODS: [&str; 3] = ["POST", "GET", "DELETE"];

fn gateway() -> Gateway {
    Gateway::new(policy(), Keys::Inline)
}

/// A policy with members added.
fn policy_with(members: &Value) -> Value {
    let mut policy = policy();
    policy.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    policy
}

/// A gateway whose environment has no session key.
fn gateway_without_key() -> Gateway {
    let mut gateway = gateway();
    let mut document = policy();
    document["authentication"]["jwt"][0]["jwks"] = json!({"inline": {"keys": issuer::jwks()}});
    gateway.policy = CompiledPolicy::from_json(document.to_string().as_bytes(), &|name| {
        variable(name).filter(|_| name == "TOOLGATE_AUDIT_KEY")
    })
    .unwrap();
    gateway
}

fn handshake() -> Value {
    json!({
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {"elicitation": {"url": {}}, "roots": {"listChanged": true}},
            "clientInfo": {"name": "test", "version": "1"},
        },
    })
}

fn initialize() -> Request {
    Request::post("read", &handshake())
}

/// A request of a handshake revision with this method, for the usual caller.
fn within(method: &str, session: &str) -> Request {
    let request = Request::new(method, "/mcp").bearer(&token("read")).with("mcp-protocol-version", "2025-11-25");
    let request = if method == "POST" {
        request.with("content-type", "application/json").with_body(&call("read"))
    } else {
        request
    };
    request.with("mcp-session-id", session)
}

fn as_caller(request: Request, claims: &Value) -> Request {
    let mut all = json!({"scope": "read"});
    all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    request.bearer(&token_with(all.as_object().unwrap()))
}

fn stateless(body: &Value) -> Request {
    let mut body = body.clone();
    body["params"]["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    Request::post("read", &body)
        .with("mcp-protocol-version", "2026-07-28")
        .with("mcp-method", "tools/call")
        .with("mcp-name", "read")
}

/// What the gateway does with an answer, to a request that it let through, whose upstream names these sessions.
fn answer(gateway: &mut Gateway, request: &Request, named: &[&str]) -> (Flow, Vec<Command>) {
    let mut run = gateway.begin();
    let (flow, _) = run.headers(request);
    if flow == Flow::Hold {
        assert_eq!(run.complete(request.body()).0, Flow::Pass);
    }
    let lines = named.iter().map(|id| ("Mcp-Session-Id", *id));
    let headers: HeaderList = [(":status", "200")].into_iter().chain(lines).collect();
    run.handle(Event::ResponseHeaders { headers, end_of_stream: true })
}

/// The session that the client gets to see, after the answer's own is gone.
fn shown((flow, commands): (Flow, Vec<Command>)) -> Option<String> {
    assert_eq!(flow, Flow::Pass);
    let [Command::EditResponseHeaders(HeaderEdits { remove, set, .. })] = commands.as_slice() else {
        panic!("{commands:?}")
    };
    assert!(remove.iter().any(|removed| **removed == *b"mcp-session-id"), "the upstream's own identifier gets out");
    value(set, "mcp-session-id")
}

fn value(set: &[(&'static str, Cow<'static, str>)], name: &str) -> Option<String> {
    let mut values = set.iter().filter(|(candidate, _)| *candidate == name).map(|(_, value)| value.to_string());
    let value = values.next();
    assert_eq!(values.next(), None, "{name} is set twice");
    value
}

/// Begins a session and returns the client's identifier for it.
fn begin(gateway: &mut Gateway) -> String {
    shown(answer(gateway, &initialize(), &[UPSTREAM_ID])).expect("no session")
}

fn refusal(outcome: &Outcome) -> (u16, &'static str) {
    assert_eq!(outcome.verdict, Verdict::Deny);
    (outcome.reply().status, outcome.reason)
}

fn upstream_sees(gateway: &mut Gateway, request: &Request) -> Option<String> {
    let edits = gateway.send(request).result.unwrap();
    assert!(
        edits.remove.iter().any(|removed| **removed == *b"mcp-session-id"),
        "the client's identifier goes upstream"
    );
    value(&edits.set, "mcp-session-id")
}

/// What the identifier says to whoever has the key.
fn content(gateway: &Gateway, session: &str) -> Session {
    let owner =
        Owner { resource: RESOURCE, issuer: ISSUER, subject: "user-7", client_id: Some("client-1"), tenant: None };
    gateway.policy.sessions.open(session, &Binding::from(owner), gateway.now).unwrap()
}

// --- The caller's own session ---------------------------------------------------------------------------------------

#[test]
fn the_client_gets_an_identifier_of_its_own_and_the_upstream_its_own_back() {
    let mut gateway = gateway();
    let session = begin(&mut gateway);
    assert!(session.starts_with("tg1.k1.") && !session.contains(UPSTREAM_ID), "{session}");
    for method in METHODS {
        assert_eq!(upstream_sees(&mut gateway, &within(method, &session)).as_deref(), Some(UPSTREAM_ID), "{method}");
    }
    // Another token of the same person and client, with other scopes, is the same caller.
    let narrower = as_caller(within("GET", &session), &json!({"scope": "write", "jti": "2", "lifetime_s": 60}));
    assert_eq!(upstream_sees(&mut gateway, &narrower).as_deref(), Some(UPSTREAM_ID));
}

#[test]
fn the_seal_remembers_what_the_client_declared() {
    let mut gateway = gateway();
    let session = begin(&mut gateway);
    let Session { upstream_id, capabilities, requested } = content(&gateway, &session);
    assert_eq!((upstream_id.as_str(), requested), (UPSTREAM_ID, Revision::V2025_11_25));
    assert_eq!(capabilities, [Capability::ElicitationUrl, Capability::Roots].into_iter().collect());

    let declared = [
        (json!({}), vec![]),
        (json!({"elicitation": {}}), vec![Capability::ElicitationForm]),
        (json!({"elicitation": {"applyDefaults": true}}), vec![Capability::ElicitationForm]),
        (json!({"elicitation": {"form": {}}}), vec![Capability::ElicitationForm]),
        (
            json!({"elicitation": {"form": {}, "url": {}}}),
            vec![Capability::ElicitationForm, Capability::ElicitationUrl],
        ),
        (json!({"sampling": {"tools": {}}, "tasks": {"list": {}}}), vec![Capability::Sampling, Capability::Tasks]),
        // What is no object is not declared.
        (json!({"elicitation": true, "sampling": null, "roots": [], "tasks": "yes"}), vec![]),
        (json!({"elicitation": {"url": true}}), vec![]),
        (json!({"experimental": {"sampling": {}}}), vec![]),
    ];
    for (capabilities, expected) in declared {
        let mut body = handshake();
        body["params"]["capabilities"] = capabilities.clone();
        body["params"]["protocolVersion"] = json!("2025-06-18");
        let session = shown(answer(&mut gateway, &Request::post("", &body), &[UPSTREAM_ID])).unwrap();
        let content = content(&gateway, &session);
        assert_eq!(content.capabilities, expected.into_iter().collect(), "{capabilities}");
        assert_eq!(content.requested, Revision::V2025_06_18);
    }
}

#[test]
fn capabilities_are_read_strictly() {
    let with = |capabilities: &str| {
        let body = handshake().to_string().replace(&handshake()["params"]["capabilities"].to_string(), capabilities);
        gateway().send(&initialize().with_bytes(body))
    };
    assert_eq!(with("{}").verdict, Verdict::Allow);
    for capabilities in ["[]", "null", "\"sampling\"", "1"] {
        assert_eq!(refusal(&with(capabilities)), (400, "invalid_params"), "{capabilities}");
    }
    for capabilities in [
        r#"{"Sampling":{}}"#,
        r#"{"sampling":{},"sampling":{}}"#,
        r#"{"elicitation":{"URL":{}}}"#,
        r#"{"elicitation":{"url":{},"u\u0072l":{}}}"#,
    ] {
        assert_eq!(refusal(&with(capabilities)), (400, "ambiguous_json"), "{capabilities}");
    }
}

#[test]
fn within_a_session_the_client_sees_its_own_identifier_only() {
    let mut gateway = gateway();
    let session = begin(&mut gateway);
    for method in METHODS {
        let request = within(method, &session);
        assert_eq!(shown(answer(&mut gateway, &request, &[UPSTREAM_ID])), Some(session.clone()), "{method}");
        for other in [&["upstream-session-2"][..], &[""], &[UPSTREAM_ID, UPSTREAM_ID], &["upstream-session-1 x"]] {
            assert_eq!(shown(answer(&mut gateway, &request, other)), None, "{method} {other:?}");
        }
        assert_eq!(answer(&mut gateway, &request, &[]), (Flow::Pass, Vec::new()), "{method}");
    }
}

#[test]
fn only_the_handshake_begins_a_session() {
    let mut gateway = gateway();
    for method in METHODS {
        let request = within(method, "").without("mcp-session-id");
        assert_eq!(shown(answer(&mut gateway, &request, &[UPSTREAM_ID])), None, "{method}");
    }
}

#[test]
fn a_new_handshake_within_a_session_begins_a_new_one() {
    let mut gateway = gateway();
    let session = begin(&mut gateway);
    let mut body = handshake();
    body["params"]["capabilities"] = json!({"sampling": {}});
    let again = Request::post("", &body).with("mcp-session-id", &session);
    assert_eq!(upstream_sees(&mut gateway, &again).as_deref(), Some(UPSTREAM_ID));
    let next = shown(answer(&mut gateway, &again, &["upstream-session-2"])).unwrap();
    let Session { upstream_id, capabilities, .. } = content(&gateway, &next);
    assert_eq!(upstream_id, "upstream-session-2");
    assert_eq!(capabilities, [Capability::Sampling].into_iter().collect());
}

#[test]
fn a_server_without_sessions_needs_no_key() {
    for mut gateway in [gateway(), gateway_without_key()] {
        assert_eq!(answer(&mut gateway, &initialize(), &[]), (Flow::Pass, Vec::new()));
        for method in METHODS {
            let request = within(method, "").without("mcp-session-id");
            assert_eq!(gateway.send(&request).verdict, Verdict::Allow, "{method}");
        }
    }
}

// --- Somebody else's ------------------------------------------------------------------------------------------------

#[test]
fn a_stolen_session_opens_for_nobody_else() {
    let another = "https://another.test";
    let mut document = policy();
    let mut second = document["authentication"]["jwt"][0].clone();
    second["issuer"] = json!(another);
    document["authentication"]["jwt"].as_array_mut().unwrap().push(second);
    let mut gateway = Gateway::new(document, Keys::Inline);
    let session = begin(&mut gateway);
    let others = [
        json!({"sub": "user-8"}),
        json!({"sub": "User-7"}),
        json!({"client_id": "client-2"}),
        json!({"client_id": null}),
        json!({"iss": another}),
        json!({"tenant_id": "acme"}),
    ];
    for claims in others {
        for method in METHODS {
            let request = as_caller(within(method, &session), &claims);
            assert_eq!(refusal(&gateway.send(&request)), (404, "session_not_bound"), "{method} {claims}");
            // Without the session the same token is good.
            assert_eq!(gateway.send(&request.without("mcp-session-id")).verdict, Verdict::Allow, "{method} {claims}");
        }
    }
}

#[test]
fn a_session_is_bound_to_its_resource() {
    let session = begin(&mut gateway());
    let mut elsewhere = policy();
    elsewhere["authentication"]["jwt"][0]["audiences"] = json!([RESOURCE]);
    elsewhere["resource"]["uri"] = json!("https://elsewhere.test/mcp");
    let mut elsewhere = Gateway::new(elsewhere, Keys::Inline);
    for method in METHODS {
        assert_eq!(refusal(&elsewhere.send(&within(method, &session))), (404, "session_not_bound"), "{method}");
    }
}

#[test]
fn whatever_is_wrong_with_a_session_the_answer_is_the_same() {
    let mut gateway = gateway();
    let good = begin(&mut gateway);
    gateway.now = UnixSeconds::new(NOW - 2 * limits::DEFAULT_SESSION_AGE.get());
    let sealed_long_ago = good_at(&gateway);
    assert_eq!(content(&gateway, &sealed_long_ago).upstream_id, UPSTREAM_ID);
    gateway.now = UnixSeconds::new(NOW);
    let last = good.chars().last().unwrap();
    let tampered = format!("{}{}", &good[..good.len() - 1], if last == 'A' { 'E' } else { 'A' });
    let stranger = as_caller(within("GET", &good), &json!({"sub": "user-8"}));
    let wrong = [
        (UPSTREAM_ID.to_owned(), "session_malformed"),
        (String::new(), "session_malformed"),
        ("a b".to_owned(), "session_malformed"),
        (good[..good.len() - 1].to_owned(), "session_malformed"),
        (good[1..].to_owned(), "session_malformed"),
        ("x".repeat(8192), "session_malformed"),
        (good.replace("tg1.k1", "tg1.k9"), "session_unknown_key"),
        (tampered, "session_not_bound"),
        (sealed_long_ago, "session_expired"),
    ];
    let alike = gateway.send(&stranger).reply().clone();
    for method in METHODS {
        for (session, reason) in &wrong {
            let outcome = gateway.send(&within(method, session));
            assert_eq!(refusal(&outcome), (404, *reason), "{method} {session}");
            assert_eq!(LocalReply { details: alike.details, ..outcome.reply().clone() }, alike, "{method} {session}");
        }
    }
    let body: Value = serde_json::from_slice(&alike.body).unwrap();
    assert_eq!(body, json!({"jsonrpc": "2.0", "error": {"code": -32600, "message": "Session not found"}}));
}

/// A session that begins at the gateway's time, by a caller whose token is older than that.
fn good_at(gateway: &Gateway) -> String {
    let owner =
        Owner { resource: RESOURCE, issuer: ISSUER, subject: "user-7", client_id: Some("client-1"), tenant: None };
    let session = Session {
        upstream_id: UPSTREAM_ID.to_owned(),
        capabilities: [].into_iter().collect(),
        requested: Revision::V2025_11_25,
    };
    gateway.policy.sessions.seal(&session, &owner.into(), gateway.now).unwrap()
}

#[test]
fn a_session_is_refused_after_the_credential_and_before_anything_else() {
    let mut gateway = gateway();
    let request = within("POST", UPSTREAM_ID).with_bytes("{");
    assert_eq!(gateway.send(&request.clone().without("authorization")).reason, "no_token");
    assert_eq!(gateway.send(&as_caller(request.clone(), &json!({"age_s": 4000}))).reason, "token_expired");
    for request in [request.clone(), request.clone().without("content-type"), request.with("content-encoding", "gzip")]
    {
        // At once: nothing of the body is held for it.
        let mut run = gateway.begin();
        let (flow, commands) = run.headers(&request);
        assert_eq!((flow, Outcome::of(commands).reason), (Flow::Hold, "session_malformed"));
    }
}

#[test]
fn a_repeated_session_is_refused() {
    let mut gateway = gateway();
    let session = begin(&mut gateway);
    for method in METHODS {
        let request = within(method, &session).with("mcp-session-id", &session);
        assert_eq!(refusal(&gateway.send(&request)), (400, "ambiguous_header"), "{method}");
    }
}

#[test]
fn a_session_does_not_stand_for_a_token() {
    let mut gateway = gateway();
    let session = begin(&mut gateway);
    for method in METHODS {
        let request = within(method, &session);
        assert_eq!(refusal(&gateway.send(&request.clone().without("authorization"))), (401, "no_token"));
        assert_eq!(refusal(&gateway.send(&as_caller(request, &json!({"age_s": 4000})))), (401, "token_expired"));
    }
    let denied = within("POST", &session).with_body(&call("write"));
    assert_eq!(refusal(&gateway.send(&denied)), (403, "insufficient_scope"));
}

// --- Time and keys --------------------------------------------------------------------------------------------------

#[test]
fn a_session_that_expires_while_the_body_comes_is_refused() {
    let mut gateway = Gateway::new(policy_with(&json!({"sessions": {"max_age": "60s"}})), Keys::Inline);
    let session = begin(&mut gateway);
    let request = within("POST", &session);
    let mut run = gateway.begin();
    run.gateway.now = UnixSeconds::new(NOW + 60);
    assert_eq!(run.headers(&request), (Flow::Hold, Vec::new()));
    run.gateway.now = UnixSeconds::new(NOW + 61);
    let (flow, commands) = run.complete(call("read").to_string().as_bytes());
    assert_eq!(flow, Flow::Hold);
    assert_eq!(refusal(&Outcome::of(commands)), (404, "session_expired"));
}

#[test]
fn a_session_ends_at_its_greatest_age() {
    for (members, age) in [(json!({}), 24 * 3600), (json!({"sessions": {"max_age": "168h"}}), 168 * 3600)] {
        let mut gateway = Gateway::new(policy_with(&members), Keys::Inline);
        gateway.now = UnixSeconds::new(NOW - age);
        let session = good_at(&gateway);
        gateway.now = UnixSeconds::new(NOW);
        assert_eq!(gateway.send(&within("GET", &session)).verdict, Verdict::Allow);
        gateway.now = gateway.now.plus(Seconds::new(1));
        assert_eq!(refusal(&gateway.send(&within("GET", &session))), (404, "session_expired"));
    }
}

#[test]
fn a_session_waits_for_the_keys_of_its_caller_too() {
    let session = begin(&mut gateway());
    for (subject, expected) in [("user-7", None), ("user-8", Some((404, "session_not_bound")))] {
        let mut gateway = Gateway::new(policy(), Keys::NotFetched);
        let mut run = gateway.begin();
        let request = as_caller(within("POST", &session), &json!({"sub": subject}));
        assert_eq!(run.headers(&request).0, Flow::Hold);
        assert!(run.gateway.keys.install(IssuerIndex::new(0), keys::key_set(&issuer::jwks()), UnixSeconds::new(NOW)));
        let (_, commands) = run.handle(Event::Settled);
        match expected {
            // At once, before the body is there.
            Some(expected) => assert_eq!(refusal(&Outcome::of(commands)), expected),
            None => {
                assert_eq!(commands, []);
                assert_eq!(run.complete(request.body()).0, Flow::Pass);
            }
        }
    }
}

#[test]
fn keys_are_shared_and_replaced() {
    let with = |keys: Value| Gateway::new(policy_with(&json!({"sessions": {"keys": keys}})), Keys::Inline);
    let (old, new) = (json!({"id": "k1", "env": "TOOLGATE_SESSION_KEY"}), json!({"id": "k2", "env": "NEXT_KEY"}));
    let mut before = with(json!([old.clone()]));
    let mut during = with(json!([new.clone(), old]));
    let mut after = with(json!([new]));
    let from_before = begin(&mut before);
    let from_during = begin(&mut during);
    let seen = |gateway: &mut Gateway, session: &str| gateway.send(&within("GET", session)).reason;
    // A replica without a `sessions` section has the same key under the same name.
    assert_eq!(seen(&mut gateway(), &from_before), "permitted");
    assert_eq!(seen(&mut during, &from_before), "permitted");
    assert_eq!(seen(&mut after, &from_during), "permitted");
    assert_eq!(seen(&mut after, &from_before), "session_unknown_key");
    assert_eq!(seen(&mut before, &from_during), "session_unknown_key");
}

#[test]
fn without_a_key_no_session_begins_and_none_opens() {
    let mut gateway = gateway_without_key();
    for (request, origin) in
        [(initialize(), None), (initialize().with("origin", "https://app.test"), Some("https://app.test"))]
    {
        let (flow, commands) = answer(&mut gateway, &request, &[UPSTREAM_ID]);
        let [Command::UpstreamUnusable { reason, remedy }, Command::Reply(reply)] = commands.as_slice() else {
            panic!("{commands:?}")
        };
        assert_eq!((flow, *reason), (Flow::Hold, "session_key_missing"));
        assert!(remedy.contains("TOOLGATE_SESSION_KEY") && remedy.contains("openssl rand"), "{remedy}");
        assert_eq!((reply.status, reply.details), (502, "session_key_missing"));
        assert_eq!(support::gateway::header(reply, "access-control-allow-origin"), origin);
        assert!(!String::from_utf8_lossy(&reply.body).contains(UPSTREAM_ID));
    }
    let session = begin(&mut self::gateway());
    for (id, reason) in [(&*session, "session_unknown_key"), (UPSTREAM_ID, "session_malformed")] {
        for method in METHODS {
            assert_eq!(refusal(&gateway.send(&within(method, id))), (404, reason), "{method}");
        }
    }
    // On other answers the identifier is no news.
    assert_eq!(shown(answer(&mut gateway, &within("GET", "").without("mcp-session-id"), &[UPSTREAM_ID])), None);
}

#[test]
fn an_upstream_that_begins_sessions_with_unusable_identifiers_is_told_so() {
    let long = "x".repeat(limits::MAX_UPSTREAM_SESSION_BYTES + 1);
    for named in [&["a", "b"][..], &[UPSTREAM_ID, UPSTREAM_ID], &[""], &["a b"], &["caf\u{e9}"], &[&long]] {
        let (flow, commands) = answer(&mut gateway(), &initialize(), named);
        let [Command::UpstreamUnusable { reason, .. }, Command::Reply(reply)] = commands.as_slice() else {
            panic!("{commands:?}")
        };
        assert_eq!((flow, *reason, reply.status), (Flow::Hold, "session_id_unusable", 502), "{named:?}");
    }
    let most = "x".repeat(limits::MAX_UPSTREAM_SESSION_BYTES);
    let mut gateway = gateway();
    let session = shown(answer(&mut gateway, &initialize(), &[&most])).unwrap();
    assert_eq!(upstream_sees(&mut gateway, &within("GET", &session)), Some(most));
}

#[test]
fn a_session_is_bound_to_its_tenant() {
    let mut gateway = gateway();
    let of_tenant = |request: Request, tenant: &str| as_caller(request, &json!({"tenant_id": tenant}));
    let session = shown(answer(&mut gateway, &of_tenant(initialize(), "acme"), &[UPSTREAM_ID])).unwrap();
    for method in METHODS {
        assert_eq!(gateway.send(&of_tenant(within(method, &session), "acme")).verdict, Verdict::Allow, "{method}");
        let elsewhere = of_tenant(within(method, &session), "globex");
        assert_eq!(refusal(&gateway.send(&elsewhere)), (404, "session_not_bound"), "{method}");
        assert_eq!(refusal(&gateway.send(&within(method, &session))), (404, "session_not_bound"), "{method}");
    }
}

// --- Requests without sessions --------------------------------------------------------------------------------------

#[test]
fn in_stateless_revisions_there_is_no_session() {
    let mut gateway = gateway();
    let session = begin(&mut gateway);
    for id in [&*session, UPSTREAM_ID, "", "x y"] {
        let request = stateless(&call("read")).with("mcp-session-id", id);
        assert_eq!(upstream_sees(&mut gateway, &request), None, "{id}");
        for named in [&*session, UPSTREAM_ID, id] {
            assert_eq!(shown(answer(&mut gateway, &request, &[named])), None, "{id} {named}");
        }
    }
    assert_eq!(shown(answer(&mut gateway, &stateless(&call("read")), &[UPSTREAM_ID])), None);
}

/// The revision is decided by the body; the header that switches sessions off must not switch anything else on.
#[test]
fn the_header_of_a_stateless_revision_does_not_smuggle_a_session() {
    let mut gateway = gateway();
    let session = begin(&mut gateway);
    let stateless_header = |request: Request| {
        request
            .without("mcp-protocol-version")
            .with("mcp-protocol-version", "2026-07-28")
            .with("mcp-session-id", &session)
    };
    let requests = [
        initialize(),
        Request::post("read", &call("read")),
        Request::post("read", &json!([call("read")])),
        Request::post("read", &json!({"jsonrpc": "2.0", "id": 1, "result": {}})),
        within("GET", "").without("mcp-session-id"),
        within("DELETE", "").without("mcp-session-id"),
    ];
    let only_handshake = policy_with(&json!({"protocol": {"revisions": ["2025-03-26", "2025-11-25"]}}));
    for request in requests {
        assert_eq!(gateway.send(&stateless_header(request.clone())).verdict, Verdict::Deny);
        let outcome = Gateway::new(only_handshake.clone(), Keys::Inline).send(&stateless_header(request));
        assert_eq!(outcome.verdict, Verdict::Deny);
    }
}

#[test]
fn what_a_caller_may_do_is_no_question_of_sessions() {
    let request = Request::new("GET", "/.well-known/toolgate-permissions/mcp").bearer(&token("read"));
    let outcome = gateway().send(&request.with("mcp-session-id", UPSTREAM_ID));
    assert_eq!((outcome.verdict, outcome.reply().status), (Verdict::Serve, 200));
}

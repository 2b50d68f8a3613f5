//! Calls that wait for people: every way through the state machine, with a service that signs what it says.
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
    pub(crate) mod approvals;
    #[expect(dead_code, reason = "approvals need a part of it")]
    pub(crate) mod gateway;
    #[expect(dead_code, reason = "approvals need a part of it")]
    pub(crate) mod issuer;
    pub(crate) mod keys;
}

use std::collections::BTreeSet;

use serde_json::{Value, json};
use toolgate::approval::Reason;
use toolgate::exchange::{Command, Event, Flow, HeldRequest, HeldRequests, ServiceAnswer, ServiceCall, Verdict};
use toolgate::http::HeaderList;
use toolgate::identity::{FetchedList, RevocationFeed, RevocationList};
use toolgate::limits;
use toolgate::units::Seconds;

use support::approvals::{Client, Fate, PAGE, Sent, World, both_scopes, gated};
use support::gateway::{Keys, RESOURCE, Request, call, compile, header, token_with};
use support::issuer::NOW;

const STATELESS: Client = Client::Stateless;
const LATEST: Client = Client::Earlier("2025-11-25");

fn world() -> World {
    World::new(gated())
}

/// A world whose policy has other members in `approval`.
fn world_with(members: Value) -> World {
    let mut policy = gated();
    extend(&mut policy["approval"], members);
    World::new(policy)
}

fn extend(object: &mut Value, members: Value) {
    let Value::Object(members) = members else { panic!("no members") };
    object.as_object_mut().unwrap().extend(members);
}

/// A world with a second service.
fn world_of_two() -> World {
    let mut world = world_with(json!({"escalate_to": {
        "cluster": "on-call", "issuer": "https://on-call.test", "page": "https://on-call.test/a/",
    }}));
    world.services[1].issuer = "https://on-call.test";
    world
}

fn write() -> Request {
    LATEST.call("write", &json!({"to": "ann"}))
}

/// Approves as soon as the service is asked for the state.
fn approving(call: &ServiceCall, world: &mut World) -> Fate {
    if call.method == "GET" {
        world.services[call.service].approve();
    }
    Fate::Answered
}

/// The same request with the state that a reply of the gateway has, and what the client says of the page.
fn again(client: Client, tool: &str, arguments: &Value, sent: &Sent, action: &str) -> Request {
    client.request(
        "tools/call",
        &json!({
            "name": tool, "arguments": arguments, "requestState": state(sent),
            "inputResponses": {"dev.toolgate/approval": {"action": action}},
        }),
    )
}

fn state(sent: &Sent) -> String {
    sent.json()["result"]["requestState"].as_str().expect("no state").to_owned()
}

fn denied(reason: &'static str) -> (Verdict, &'static str) {
    (Verdict::Deny, reason)
}

const ALLOWED: (Verdict, &str) = (Verdict::Allow, "permitted");

// --- From the question to the upstream ------------------------------------------------------------------------------

#[test]
fn an_approved_call_is_judged_again_and_forwarded_once() {
    for key in ["ed", "ec"] {
        let mut world = world();
        world.service().key = key;
        let sent = world.send_with(&write(), approving);
        assert_eq!(sent.decided(), ALLOWED);
        assert_eq!(sent.asked(), ["0 POST create 0", "0 GET state 15", "0 POST consume 0"]);
        assert_eq!(sent.counted(), ["asked", "granted"]);
        let edits = sent.forwarded().unwrap();
        assert!(edits.remove.contains(&b"authorization".to_vec()));
        assert!(edits.set.iter().any(|(name, _)| *name == "x-toolgate-decision"));
        assert_eq!(sent.body(), None, "nothing of it was the gateway's own");
        assert_eq!((world.service().last().state, world.service().last().step), ("consumed", 1));
        // The next one needs another approval.
        let sent = world.send(&write());
        assert_eq!(sent.decided(), denied("approval_pending"));
        assert_eq!(world.service().approvals.len(), 2);
    }
}

#[test]
fn a_request_is_held_as_long_as_the_policy_says_and_polled_in_parts() {
    let mut world = world_with(json!({"hold": "40s"}));
    let sent = world.send(&write());
    assert_eq!(sent.decided(), denied("approval_pending"));
    assert_eq!(sent.asked(), ["0 POST create 0", "0 GET state 15", "0 GET state 15", "0 GET state 10"]);
    assert_eq!(world.gateway.now.get(), NOW + 40);
    assert_eq!(sent.counted(), ["asked", "pending"]);
    // The clock of the service is of no interest: what counts is that the gateway does not wait on.
    let mut world = world_with(json!({"hold": "0s"}));
    let sent = world.send(&write());
    assert_eq!((sent.decided(), sent.asked()), (denied("approval_pending"), vec!["0 POST create 0".to_owned()]));
    assert_eq!(world.gateway.now.get(), NOW);
}

#[test]
fn with_hold_zero_an_approval_that_is_there_is_used_at_once() {
    let mut world = world_with(json!({"hold": "0s"}));
    world.send(&write());
    world.service().approve();
    let sent = world.send(&write());
    assert_eq!(sent.decided(), ALLOWED);
    assert_eq!(sent.asked(), ["0 POST create 0", "0 POST consume 0"]);
}

#[test]
fn a_client_that_comes_again_is_let_through_with_its_state_and_without() {
    let arguments = json!({"to": "ann"});
    for brings_state in [true, false] {
        let mut world = world();
        let first = world.send(&STATELESS.call("write", &arguments));
        assert_eq!(first.decided(), denied("approval_pending"));
        world.service().approve();
        let request = match brings_state {
            true => again(STATELESS, "write", &arguments, &first, "accept"),
            false => STATELESS.call("write", &arguments),
        };
        let sent = world.send(&request);
        assert_eq!(sent.decided(), ALLOWED);
        let way = if brings_state { "0 GET state 15" } else { "0 POST create 0" };
        assert_eq!(sent.asked(), [way, "0 POST consume 0"]);
        assert_eq!(world.service().approvals.len(), 1);
        // Whoever approved it did so once.
        let repeated = world.send(&request);
        assert_eq!(repeated.decided(), denied(if brings_state { "approval_used" } else { "approval_pending" }));
    }
}

#[test]
fn a_retry_that_comes_early_is_held_again() {
    let mut world = world();
    let arguments = json!({});
    let first = world.send(&STATELESS.call("write", &arguments));
    let again = again(STATELESS, "write", &arguments, &first, "accept");
    let sent = world.send(&again);
    assert_eq!(sent.decided(), denied("approval_pending"));
    assert_eq!(sent.asked(), ["0 GET state 15", "0 GET state 15", "0 GET state 15"]);
    assert_eq!(sent.json()["result"]["inputRequests"], first.json()["result"]["inputRequests"]);
    // It can be approved while it is held.
    assert_eq!(world.send_with(&again, approving).decided(), ALLOWED);
}

#[test]
fn the_body_is_cut_byte_for_byte() {
    let mut world = world();
    let first = world.send(&STATELESS.call("write", &json!({"to": "ann"})));
    world.service().approve();
    let state = state(&first);
    let meta = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;
    let body = |own: &str| {
        format!(r#"{{ "jsonrpc":"2.0", "id" : 7,"method":"tools/call","params":{{"arguments": {{ "t\u006f":"ann" }}{own},"name":"write" ,{meta}}}}}"#)
    };
    let own = format!(r#", "requestState" : "{state}", "inputResponses":{{"dev.toolgate/approval":{{"action":"accept"}}}} "#);
    let request = STATELESS.call("write", &json!({})).with_bytes(body(&own)).with("content-length", "1");
    let sent = world.send(&request);
    assert_eq!(sent.decided(), ALLOWED);
    assert_eq!(sent.body(), Some(body(" ").as_str()));
    let lengths = sent.forwarded().unwrap().set.iter().filter(|(name, _)| *name == "content-length");
    assert_eq!(lengths.map(|(_, value)| value.clone()).collect::<Vec<_>>(), [body(" ").len().to_string()]);
    // A body without a named length gets none.
    let mut world = self::world();
    let first = world.send(&STATELESS.call("write", &json!({})));
    world.service().approve();
    let sent = world.send(&again(STATELESS, "write", &json!({}), &first, "accept"));
    assert!(sent.forwarded().unwrap().set.iter().all(|(name, _)| *name != "content-length"));
    assert!(!sent.body().unwrap().contains("tga1") && !sent.body().unwrap().contains("dev.toolgate/approval"));
}

// --- What the caller is told ----------------------------------------------------------------------------------------

const MESSAGE: &str =
    "A person must approve this call of write before it is carried out. Reference: approval-0";
const TEXT: &str = "Approval required: a person must approve this call of write, and was asked. Nothing has been done yet. \
    Where it can be seen and decided: https://approvals.test/approvals/approval-0 (reference approval-0). Once it is \
    approved, send exactly the same call again: it is then carried out, once. To send it earlier does no harm.";

fn details(decision: &str) -> Value {
    json!({
        "reason": "approval_pending", "approval_id": "approval-0",
        "approval_url": "https://approvals.test/approvals/approval-0", "decision_id": decision,
    })
}

/// The answer to a request that nobody approves, and the id of the decision.
fn pending(world: &mut World, request: &Request) -> (Value, String) {
    let sent = world.send(request);
    assert_eq!(sent.decided(), denied("approval_pending"));
    let reply = sent.reply();
    assert_eq!((reply.status, header(reply, "content-type")), (200, Some("application/json")));
    assert_eq!(header(reply, "cache-control"), Some("no-store"));
    (sent.json(), header(reply, "x-toolgate-decision").unwrap().to_owned())
}

#[test]
fn a_stateless_client_that_opens_pages_is_asked_to_open_one() {
    let mut world = world();
    let (mut body, _) = pending(&mut world, &STATELESS.call("write", &json!({})));
    let state = body["result"].as_object_mut().unwrap().remove("requestState").unwrap();
    assert!(state.as_str().unwrap().starts_with("tga1."));
    let params = json!({"mode": "url", "message": MESSAGE, "url": format!("{PAGE}approval-0")});
    let requests = json!({"dev.toolgate/approval": {"method": "elicitation/create", "params": params}});
    let result = json!({"resultType": "input_required", "inputRequests": requests});
    assert_eq!(body, json!({"jsonrpc": "2.0", "id": "c-1", "result": result}));
    // So are those that read a prompt or a resource.
    for (method, params) in [
        ("prompts/get", json!({"name": "compose"})),
        ("resources/read", json!({"uri": "norg://files/a"})),
    ] {
        let (body, _) = pending(&mut self::world(), &STATELESS.request(method, &params));
        assert_eq!(body["result"]["resultType"], "input_required", "{method}");
        let url = &body["result"]["inputRequests"]["dev.toolgate/approval"]["params"]["url"];
        assert_eq!(*url, format!("{PAGE}approval-0"));
    }
    // A method that cannot come again with a state is told so in another way.
    let completion = json!({"ref": {"type": "ref/prompt", "name": "compose"}, "argument": {"name": "a", "value": ""}});
    let (body, _) = pending(&mut self::world(), &STATELESS.request("completion/complete", &completion));
    assert_eq!(body["error"]["code"], -33005);
}

#[test]
fn clients_that_open_no_pages_get_a_text_that_models_read() {
    for (client, result_type) in [
        (Client::StatelessWithout, Some("complete")),
        (Client::Earlier("2025-03-26"), None),
        (Client::Earlier("2025-06-18"), None),
        (LATEST, None),
    ] {
        let (body, decision) = pending(&mut world(), &client.call("write", &json!({})));
        let mut result = json!({
            "content": [{"type": "text", "text": TEXT}], "isError": true,
            "_meta": {"dev.toolgate/approval": details(&decision)},
        });
        if let Some(result_type) = result_type {
            result["resultType"] = result_type.into();
        }
        assert_eq!(body, json!({"jsonrpc": "2.0", "id": "c-1", "result": result}), "{client:?}");
    }
}

#[test]
fn what_is_no_tool_gets_an_error_with_the_same_details() {
    let prompt = ("prompts/get", json!({"name": "compose"}), "this call of compose");
    let resource = ("resources/read", json!({"uri": "norg://files/a"}), "this call of this resource");
    for client in [Client::StatelessWithout, Client::Earlier("2025-06-18"), LATEST] {
        for (method, params, what) in [&prompt, &resource] {
            let (body, decision) = pending(&mut world(), &client.request(method, params));
            let message = TEXT.replace("this call of write", what);
            let error = json!({"code": -33005, "message": message, "data": details(&decision)});
            assert_eq!(body, json!({"jsonrpc": "2.0", "id": "c-1", "error": error}), "{client:?} {method}");
        }
    }
}

/// The identifier of a session whose client declared `capabilities`.
fn session(world: &mut World, capabilities: &Value) -> String {
    let params = json!({
        "protocolVersion": "2025-11-25", "capabilities": capabilities, "clientInfo": {"name": "c", "version": "1"},
    });
    let mut sent = world.send(&LATEST.request("initialize", &params));
    assert_eq!(sent.decided(), ALLOWED);
    let headers = [(":status", "200"), ("mcp-session-id", "upstream-1")].into_iter().collect();
    let commands = world.upstream(&mut sent, vec![Event::ResponseHeaders { headers, end_of_stream: true }]);
    let [Command::EditResponseHeaders(edits)] = commands.as_slice() else { panic!("{commands:?}") };
    edits.set.iter().find(|(name, _)| *name == "mcp-session-id").unwrap().1.clone()
}

#[test]
fn a_session_whose_client_opens_pages_gets_the_error_that_says_so() {
    let mut world = world();
    let opens = session(&mut world, &json!({"elicitation": {"url": {}}}));
    let (body, decision) = pending(&mut world, &write().with("mcp-session-id", &opens));
    let elicitation =
        json!({"mode": "url", "elicitationId": "approval-0", "url": format!("{PAGE}approval-0"), "message": MESSAGE});
    let data = json!({"elicitations": [elicitation], "decision_id": decision});
    let error = json!({"code": -32042, "message": MESSAGE, "data": data});
    assert_eq!(body, json!({"jsonrpc": "2.0", "id": "c-1", "error": error}));
    world.service().approve();
    assert_eq!(world.send(&write().with("mcp-session-id", &opens)).decided(), ALLOWED);
    // Another way of asking is not declared, and other revisions do not know the error.
    let forms = session(&mut world, &json!({"elicitation": {}}));
    assert!(pending(&mut world, &write().with("mcp-session-id", &forms)).0["result"]["isError"].as_bool().unwrap());
    let earlier = Client::Earlier("2025-06-18").call("write", &json!({})).with("mcp-session-id", &opens);
    assert!(pending(&mut world, &earlier).0["result"]["isError"].as_bool().unwrap());
}

#[test]
fn pages_of_allowed_origins_may_read_the_answer() {
    let sent = world().send(&write().with("origin", "https://app.test"));
    assert_eq!(header(sent.reply(), "access-control-allow-origin"), Some("https://app.test"));
}

// --- What people decide ---------------------------------------------------------------------------------------------

const REFUSED: [(&str, &str); 3] = [
    ("rejected", "A person has rejected it; to send it again will not help."),
    ("expired", "Nobody approved it in time, or the approval was not used in time. Send it again to ask anew."),
    ("cancelled", "The request for its approval was taken back. Send it again to ask anew."),
];

#[test]
fn signed_verdicts_are_passed_on_in_words() {
    for (state, text) in REFUSED {
        for client in [STATELESS, LATEST] {
            let mut world = world();
            let sent = world.send_with(&client.call("write", &json!({})), |call, world| {
                if call.method == "GET" {
                    world.service().last().state = state;
                }
                Fate::Answered
            });
            assert_eq!(sent.decided().1, format!("approval_{state}"));
            assert_eq!(sent.counted(), ["asked", state]);
            let decision = header(sent.reply(), "x-toolgate-decision").unwrap();
            let text = format!("{text} This call of write was not carried out. Reference: approval-0");
            let details = json!({
                "reason": format!("approval_{state}"), "approval_id": "approval-0", "decision_id": decision,
            });
            let mut result = json!({
                "content": [{"type": "text", "text": text}], "isError": true, "_meta": {"dev.toolgate/approval": details},
            });
            if let Client::Stateless = client {
                result["resultType"] = "complete".into();
            }
            assert_eq!(sent.json(), json!({"jsonrpc": "2.0", "id": "c-1", "result": result}));
            assert_eq!(sent.reply().status, 200);
        }
        let mut world = world();
        let sent = world.send_with(&LATEST.request("prompts/get", &json!({"name": "compose"})), |_, world| {
            if let Some(kept) = world.service().approvals.last_mut() {
                kept.state = state;
            }
            Fate::Answered
        });
        let error = &sent.json()["error"];
        assert_eq!((&error["code"], &error["data"]["reason"]), (&(-33002).into(), &format!("approval_{state}").into()));
    }
}

#[test]
fn the_words_of_an_approver_are_shown_cleaned() {
    let rejected = |reason: &str| {
        let mut world = world();
        world.send(&write());
        world.service().reject(reason);
        let sent = world.send(&write());
        assert_eq!(sent.decided(), denied("approval_rejected"));
        sent.json()["result"]["content"][0]["text"].as_str().unwrap().to_owned()
    };
    let text = rejected("not on a Friday");
    assert!(text.contains("not carried out. The approver says: not on a Friday Reference: approval-0"), "{text}");
    let text = rejected("a\u{1b}[2Jb\u{202e}c\nd");
    assert!(!text.contains(['\u{1b}', '\u{202e}', '\n']), "{text:?}");
    assert!(!rejected("").contains("The approver says"));
    assert!(rejected(&"é".repeat(500)).len() < limits::MAX_SHOWN_TEXT_BYTES + 200);
}

#[test]
fn a_caller_who_declines_takes_the_request_back_and_one_who_cancels_does_not() {
    for (action, calls, state) in
        [("decline", vec!["0 POST cancel 0"], "cancelled"), ("cancel", Vec::new(), "pending")]
    {
        let mut world = world();
        let first = world.send(&STATELESS.call("write", &json!({})));
        let sent = world.send(&again(STATELESS, "write", &json!({}), &first, action));
        assert_eq!((sent.decided(), sent.asked()), (denied("approval_declined"), calls.into_iter().map(str::to_owned).collect()));
        assert_eq!(world.service().last().state, state);
        assert_eq!(sent.counted(), ["declined"]);
    }
    // Whoever has nothing to bring back declines all the same, and nobody is asked.
    let mut world = world();
    let declined = json!({"name": "write", "inputResponses": {"dev.toolgate/approval": {"action": "decline"}}});
    let sent = world.send(&STATELESS.request("tools/call", &declined));
    assert_eq!((sent.decided(), sent.calls.len()), (denied("approval_declined"), 0));
}

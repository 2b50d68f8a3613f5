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
use toolgate::session::Owner;
use toolgate::units::{Seconds, UnixSeconds};

use support::approvals::{Client, Fate, PAGE, Sent, World, gated};
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
        assert!(edits.remove.iter().any(|removed| **removed == *b"authorization"));
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
fn a_service_that_does_not_wait_is_asked_once_a_second() {
    let mut world = world_with(json!({"hold": "10s"}));
    let sent = world.send_with(&write(), |_, _| Fate::AtOnce);
    assert_eq!(sent.decided(), denied("approval_pending"));
    let hasty = usize::try_from(limits::MAX_HASTY_POLLS).unwrap();
    assert!((hasty..20).contains(&sent.calls.len()), "{:?}", sent.asked());
    assert_eq!(world.gateway.now.get(), NOW + 10);
    // It can say so as soon as it is approved.
    let sent = world.send_with(&write(), |_, world| {
        if world.gateway.now.get() > NOW + 15 {
            world.service().approve();
        }
        Fate::AtOnce
    });
    assert_eq!(sent.decided(), ALLOWED);
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
        format!(
            r#"{{ "jsonrpc":"2.0", "id" : 7,"method":"tools/call","params":{{"arguments": {{ "t\u006f":"ann" }}{own},"name":"write" ,{meta}}}}}"#
        )
    };
    let own =
        format!(r#", "requestState" : "{state}", "inputResponses":{{"dev.toolgate/approval":{{"action":"accept"}}}} "#);
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

const MESSAGE: &str = "A person must approve this call of write before it is carried out. Reference: approval-0";
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
    for (method, params) in
        [("prompts/get", json!({"name": "compose"})), ("resources/read", json!({"uri": "norg://files/a"}))]
    {
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
    edits.set.iter().find(|(name, _)| *name == "mcp-session-id").unwrap().1.to_string()
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
    for (action, calls, state) in [("decline", vec!["0 POST cancel 0"], "cancelled"), ("cancel", Vec::new(), "pending")]
    {
        let mut world = world();
        let first = world.send(&STATELESS.call("write", &json!({})));
        let sent = world.send(&again(STATELESS, "write", &json!({}), &first, action));
        assert_eq!(
            (sent.decided(), sent.asked()),
            (denied("approval_declined"), calls.into_iter().map(str::to_owned).collect())
        );
        assert_eq!(world.service().last().state, state);
        assert_eq!(sent.counted(), ["declined"]);
    }
    // Whoever has nothing to bring back declines all the same, and nobody is asked.
    let mut world = world();
    let declined = json!({"name": "write", "inputResponses": {"dev.toolgate/approval": {"action": "decline"}}});
    let sent = world.send(&STATELESS.request("tools/call", &declined));
    assert_eq!((sent.decided(), sent.calls.len()), (denied("approval_declined"), 0));
}

// --- Services that fail ---------------------------------------------------------------------------------------------

#[test]
fn a_second_service_is_asked_when_the_first_is_not_there() {
    for fate in [|| Fate::Unreachable, || Fate::TimedOut, || Fate::Says(503, json!({}))] {
        let mut world = world_of_two();
        let arguments = json!({"to": "ann"});
        let down = |call: &ServiceCall, _: &mut World| if call.service == 0 { fate() } else { Fate::Answered };
        let first = world.send_with(&STATELESS.call("write", &arguments), down);
        assert_eq!(first.decided(), denied("approval_pending"));
        let asked = ["0 POST create 0", "1 POST create 0", "1 GET state 15", "1 GET state 15", "1 GET state 15"];
        assert_eq!(first.asked(), asked);
        assert_eq!(first.counted(), ["asked", "escalated", "pending"]);
        let mut second = world.services[1].last().asked.clone();
        assert_eq!(second.as_object_mut().unwrap().remove("escalated_from"), Some("approvals".into()));
        let told: Value = serde_json::from_slice(&first.calls[0].body).unwrap();
        assert_eq!(second, told, "nothing else is different");
        let params = &first.json()["result"]["inputRequests"]["dev.toolgate/approval"]["params"];
        assert_eq!(params["url"], "https://on-call.test/a/approval-0");
        assert!(params["message"].as_str().unwrap().contains("others were asked too"), "{params}");
        // Whoever comes again too early is told the same.
        let early = world.send(&again(STATELESS, "write", &arguments, &first, "accept")).json();
        assert_eq!(early["result"]["inputRequests"]["dev.toolgate/approval"]["params"], *params);
        // Its word counts, and the client's state leads back to it although the first one is there again.
        world.services[1].approve();
        let sent = world.send(&again(STATELESS, "write", &arguments, &first, "accept"));
        assert_eq!((sent.decided(), sent.asked()), (ALLOWED, vec!["1 GET state 15".into(), "1 POST consume 0".into()]));
    }
}

#[test]
fn a_second_service_is_believed_with_its_own_name_only() {
    let mut world = world_of_two();
    world.services[1].issuer = support::approvals::SERVICE;
    let sent = world.send_with(&write(), |call, world| match call.service {
        0 => Fate::Unreachable,
        _ => approving(call, world),
    });
    assert_eq!(sent.decided(), denied("approval_issuer"));
}

#[test]
fn a_service_that_answers_something_wrong_is_not_given_up_for_another() {
    for fate in [
        || Fate::Says(401, json!({})),
        || Fate::Says(500, json!({})),
        || Fate::Oversized,
        || Fate::Says(200, json!({})),
    ] {
        let mut world = world_of_two();
        let sent = world.send_with(&write(), |_, _| fate());
        assert_eq!((sent.decided().0, sent.calls.len()), (Verdict::Deny, 1));
    }
    // Nor is one that has been asked and then goes away: people are at it.
    let mut world = world_of_two();
    let sent =
        world.send_with(&write(), |call, _| if call.method == "GET" { Fate::Unreachable } else { Fate::Answered });
    assert_eq!(sent.decided(), denied("approval_pending"));
    assert_eq!(sent.asked(), ["0 POST create 0", "0 GET state 15"]);
    assert!(world.services[1].approvals.is_empty());
}

#[test]
fn both_services_may_be_away() {
    let mut world = world_of_two();
    let sent = world.send_with(&write(), |call, _| if call.service == 0 { Fate::Unreachable } else { Fate::TimedOut });
    assert_eq!(sent.decided(), denied("approval_timeout"));
    assert_eq!(sent.counted(), ["asked", "escalated", "timeout"]);
}

#[test]
fn a_service_that_keeps_failing_is_left_alone_for_a_while() {
    let mut world = world();
    for number in 1..=limits::MAX_APPROVAL_FAILURES {
        let sent = world.send_with(&write(), |_, _| Fate::Unreachable);
        assert_eq!(sent.decided(), denied("approval_unreachable"));
        let opened = sent.counted().contains(&"circuit_opened");
        assert_eq!(opened, number == limits::MAX_APPROVAL_FAILURES);
    }
    let sent = world.send(&write());
    assert_eq!((sent.decided(), sent.calls.len()), (denied("approval_circuit_open"), 0));
    world.pass(limits::APPROVAL_PAUSE.get() - 1);
    assert_eq!(world.send(&write()).decided(), denied("approval_circuit_open"));
    world.pass(1);
    assert_eq!(world.send_with(&write(), approving).decided(), ALLOWED);
    // It counts failures in a row only.
    for _ in 0..limits::MAX_APPROVAL_FAILURES {
        world.send_with(&write(), |_, _| Fate::Unreachable);
        world.send_with(&write(), |_, _| Fate::Says(400, json!({})));
    }
    assert_eq!(world.send(&write()).decided(), denied("approval_pending"));
}

#[test]
fn an_open_circuit_leads_to_the_second_service() {
    let mut world = world_with(json!({"hold": "0s", "escalate_to": {"cluster": "on-call"}}));
    for _ in 0..limits::MAX_APPROVAL_FAILURES {
        world.send_with(&write(), |call, _| if call.service == 0 { Fate::Unreachable } else { Fate::Answered });
    }
    let sent = world.send(&write());
    assert_eq!(sent.decided(), denied("approval_pending"));
    assert!(sent.asked().iter().all(|call| call.starts_with('1')), "{:?}", sent.asked());
    assert_eq!(sent.counted(), ["asked", "escalated", "pending"]);
}

#[test]
fn a_consumption_that_is_lost_is_asked_for_again_with_the_same_nonce() {
    let consumptions = |sent: &Sent| -> Vec<Value> {
        let consumptions = sent.calls.iter().filter(|call| call.path.ends_with("/consume"));
        consumptions.map(|call| serde_json::from_slice(&call.body).unwrap()).collect()
    };
    for fate in [|| Fate::Lost, || Fate::Unreachable, || Fate::Says(502, json!({}))] {
        let (mut world, mut lost) = (world(), 0);
        let sent = world.send_with(&write(), |call, world| match call.path.ends_with("/consume") {
            true if lost < 2 => {
                lost += 1;
                fate()
            }
            true => Fate::Answered,
            false => approving(call, world),
        });
        assert_eq!(sent.decided(), ALLOWED);
        let all = consumptions(&sent);
        assert_eq!((all.len(), all.iter().all(|one| *one == all[0])), (3, true), "{all:?}");
        assert_eq!(world.service().last().nonces.len(), 1);
        // Each request has a nonce of its own.
        let other = consumptions(&world.send_with(&write(), approving));
        assert_ne!(all[0]["nonce"], other[0]["nonce"]);
    }
    // The bound: whoever never answers is not asked for ever. That others find the service gone keeps nobody from asking
    // for what may be used up already.
    let mut others = world();
    for _ in 0..limits::MAX_APPROVAL_FAILURES {
        others.send_with(&write(), |_, _| Fate::Unreachable);
    }
    let mut world = world();
    let sent = world.send_with(&write(), |call, world| match call.path.ends_with("/consume") {
        true => {
            world.gateway.circuits = others.gateway.circuits.clone();
            Fate::Lost
        }
        false => approving(call, world),
    });
    assert_eq!(sent.decided(), denied("approval_timeout"));
    assert_eq!(consumptions(&sent).len(), 1 + usize::try_from(limits::MAX_CONSUME_ATTEMPTS).unwrap());
    assert!(!sent.counted().contains(&"circuit_opened"), "one request is no sign that a service is gone");
    // It was used up, and for nothing else.
    assert_eq!(world.service().last().nonces.len(), 1);
}

#[test]
fn what_changes_between_the_approval_and_its_use_is_told_by_the_service() {
    for (state, reason) in [("expired", "approval_expired"), ("rejected", "approval_rejected")] {
        let mut world = world();
        let sent = world.send_with(&write(), |call, world| {
            if call.path.ends_with("/consume") {
                world.service().last().state = state;
                return Fate::Answered;
            }
            approving_once(call, world)
        });
        assert_eq!(sent.decided(), denied(reason));
        assert_eq!(sent.asked(), ["0 POST create 0", "0 GET state 15", "0 POST consume 0", "0 GET state 0"]);
    }
}

/// Approves what is pending.
fn approving_once(call: &ServiceCall, world: &mut World) -> Fate {
    if call.method == "GET" && world.service().last().state == "pending" {
        world.service().approve();
    }
    Fate::Answered
}

#[test]
fn a_service_that_contradicts_itself_is_not_asked_for_ever() {
    let mut world = world();
    let sent = world.send_with(&write(), |call, world| match call.path.ends_with("/consume") {
        true => Fate::Says(409, json!({"code": "not_approved"})),
        false => approving(call, world),
    });
    assert_eq!(sent.decided(), denied("approval_error"));
    assert_eq!(sent.calls.len(), 5, "{:?}", sent.asked());
}

#[test]
fn somebody_else_may_have_used_it() {
    let mut world = world();
    let sent = world.send_with(&write(), |call, world| {
        if call.path.ends_with("/consume") {
            let kept = world.service().last();
            (kept.state, kept.step) = ("consumed", 1);
            kept.nonces.push("00".repeat(16));
            return Fate::Answered;
        }
        approving(call, world)
    });
    assert_eq!(sent.decided(), denied("approval_used"));
}

// --- Every reason ---------------------------------------------------------------------------------------------------

/// Sends a call whose grant, or the answer with it, is tampered with.
fn with_grant(forgery: support::approvals::Forgery) -> &'static str {
    let mut world = world();
    world.service().forgery = forgery;
    let sent = world.send_with(&write(), approving);
    assert_eq!(sent.calls.len(), 3, "nothing is asked again");
    sent.decided().1
}

fn with_fate(fate: impl Fn() -> Fate) -> &'static str {
    world().send_with(&write(), |_, _| fate()).decided().1
}

/// Sends a call that is rejected, with a verdict that is tampered with.
fn with_verdict(forgery: support::approvals::Forgery) -> &'static str {
    let mut world = world();
    world.service().forgery = forgery;
    world.send(&write());
    world.service().reject("no");
    world.send(&write()).decided().1
}

#[test]
fn every_field_of_a_grant_is_verified() {
    let cases: [(support::approvals::Forgery, &str); 26] = [
        (|_, _| {}, "permitted"),
        (|header, _| header["typ"] = "JWT".into(), "approval_malformed"),
        (|header, _| header["alg"] = "none".into(), "approval_unsigned"),
        (|header, _| header["alg"] = "HS256".into(), "approval_unsigned"),
        (|header, _| header["alg"] = "ES256".into(), "approval_signature"),
        (|header, _| header["kid"] = "ec".into(), "approval_signature"),
        (|header, _| header["kid"] = "rsa".into(), "approval_key_unknown"),
        (|header, _| header["kid"] = Value::Null, "approval_malformed"),
        (|_, claims| claims["iss"] = "https://other.test".into(), "approval_issuer"),
        (|_, claims| claims["aud"] = "https://other.test/mcp".into(), "approval_audience"),
        (|_, claims| claims["aud"] = json!([RESOURCE]), "approval_malformed"),
        (|_, claims| (claims["iat"], claims["exp"]) = ((NOW - 200).into(), (NOW - 150).into()), "approval_stale"),
        (|_, claims| (claims["iat"], claims["exp"]) = ((NOW + 100).into(), (NOW + 150).into()), "approval_stale"),
        (|_, claims| claims["exp"] = (NOW + 3600).into(), "approval_stale"),
        (|_, claims| claims["approval_id"] = "approval-1".into(), "approval_mismatch"),
        (|_, claims| claims["binding"] = "00".repeat(32).into(), "approval_mismatch"),
        (|_, claims| claims["policy"] = "00".repeat(32).into(), "approval_mismatch"),
        (|_, claims| claims["status"] = "rejected".into(), "approval_mismatch"),
        (|_, claims| claims["nonce"] = "00".repeat(16).into(), "approval_replayed"),
        (|_, claims| claims["step"] = 1.into(), "approval_replayed"),
        (|_, claims| claims["approvers"] = json!([]), "approval_malformed"),
        (|_, claims| claims["approvers"][0]["roles"] = json!([]), "approval_malformed"),
        (|_, claims| claims["approvers"][0]["sub"] = "user-7".into(), "approval_self"),
        (
            |_, claims| claims["approvers"] = json!([claims["approvers"][0], claims["approvers"][0]]),
            "approval_malformed",
        ),
        (|_, claims| claims["jti"] = "".into(), "approval_malformed"),
        (|_, claims| claims["x"] = "x".repeat(limits::MAX_DECISION_BYTES).into(), "approval_oversized"),
    ];
    for (number, (forgery, reason)) in cases.into_iter().enumerate() {
        assert_eq!(with_grant(forgery), reason, "case {number}");
    }
}

#[test]
fn a_verdict_is_believed_only_if_it_is_signed_for_this_call() {
    let cases: [(support::approvals::Forgery, &str); 7] = [
        (|_, _| {}, "approval_rejected"),
        (|header, _| header["kid"] = "other".into(), "approval_key_unknown"),
        (|_, claims| claims["iss"] = "https://other.test".into(), "approval_issuer"),
        (|_, claims| claims["binding"] = "00".repeat(32).into(), "approval_mismatch"),
        (|_, claims| claims["status"] = "approved".into(), "approval_mismatch"),
        (|_, claims| claims["exp"] = (NOW + 300).into(), "approval_stale"),
        (|_, claims| claims["reason"] = "x".repeat(501).into(), "approval_malformed"),
    ];
    for (number, (forgery, reason)) in cases.into_iter().enumerate() {
        assert_eq!(with_verdict(forgery), reason, "case {number}");
    }
    // Without a signature the state alone says nothing, but it lets nothing through either.
    let mut world = world();
    world.send(&write());
    world.service().reject("no");
    let sent = world.send_with(&write(), |_, _| Fate::Changed(|state| state["decision"] = Value::Null));
    assert_eq!(sent.decided(), denied("approval_unsigned"));
    assert!(!sent.json().to_string().contains("The approver says"));
}

#[test]
fn what_is_said_without_a_signature_lets_nothing_through() {
    for (change, reason) in [
        ((|state| state["binding"] = "00".repeat(32).into()) as fn(&mut Value), "approval_mismatch"),
        (|state| state["id"] = "../../x".into(), "approval_malformed"),
        (|state| state["state"] = "granted".into(), "approval_malformed"),
        (|state| state["state"] = "consumed".into(), "approval_used"),
    ] {
        assert_eq!(world().send_with(&write(), |_, _| Fate::Changed(change)).decided(), denied(reason));
    }
    // Another approval than the one that was asked about, though it is for the same call.
    let sent = world().send_with(&write(), |call, _| match call.method {
        "GET" => Fate::Changed(|state| state["id"] = "approval-9".into()),
        _ => Fate::Answered,
    });
    assert_eq!(sent.decided(), denied("approval_mismatch"));
    // Grants that nobody signed, or that are none.
    for (status, body, reason) in [
        (200, json!({"grant": "a.b.c"}), "approval_malformed"),
        (200, json!({"grant": "approved"}), "approval_malformed"),
        (200, json!({"state": "approved"}), "approval_malformed"),
        (201, json!({"grant": "a.b.c"}), "approval_error"),
        (204, json!({}), "approval_error"),
        (302, json!({}), "approval_error"),
        (401, json!({}), "approval_error"),
        (404, json!({}), "approval_state_invalid"),
        (409, json!({"code": "used"}), "approval_used"),
    ] {
        let sent = world().send_with(&write(), |call, world| match call.path.ends_with("/consume") {
            true => Fate::Says(status, body.clone()),
            false => approving(call, world),
        });
        assert_eq!(sent.decided(), denied(reason), "{status} {body}");
    }
    assert_eq!(with_fate(|| Fate::Says(404, json!({}))), "approval_error", "nothing was asked about");
}

#[test]
fn every_reason_is_reached() {
    let mut seen = BTreeSet::new();
    seen.insert(world().send(&write()).decided().1);
    for state in ["rejected", "expired", "cancelled"] {
        let mut world = world();
        seen.insert(
            world
                .send_with(&write(), |_, world| {
                    if let Some(kept) = world.service().approvals.last_mut() {
                        kept.state = state;
                    }
                    Fate::Answered
                })
                .decided()
                .1,
        );
    }
    seen.insert(with_fate(|| Fate::Unreachable));
    seen.insert(with_fate(|| Fate::TimedOut));
    seen.insert(with_fate(|| Fate::Oversized));
    seen.insert(with_fate(|| Fate::Says(500, json!({}))));
    seen.insert(with_fate(|| Fate::Says(200, json!([]))));
    seen.insert(with_fate(|| Fate::Changed(|state| state["state"] = "consumed".into())));
    let forgeries: [support::approvals::Forgery; 10] = [
        |header, _| header["alg"] = "none".into(),
        |header, _| header["kid"] = "other".into(),
        |header, _| header["kid"] = "ec".into(),
        |_, claims| claims["iss"] = "other".into(),
        |_, claims| claims["aud"] = "other".into(),
        |_, claims| claims["exp"] = 0.into(),
        |_, claims| claims["policy"] = "other".into(),
        |_, claims| claims["nonce"] = "other".into(),
        |_, claims| claims["approvers"][0]["sub"] = "user-7".into(),
        |_, claims| claims["approvers"][0]["roles"] = json!(["visitor"]),
    ];
    seen.extend(forgeries.map(with_grant));
    let declined = json!({"name": "write", "inputResponses": {"dev.toolgate/approval": {"action": "decline"}}});
    seen.insert(world().send(&LATEST.request("tools/call", &declined)).decided().1);
    let invalid = json!({"name": "write", "requestState": "tga1.k1.AAAA.BBBB"});
    seen.insert(world().send(&LATEST.request("tools/call", &invalid)).decided().1);
    seen.insert(world().send(&Request::post("write", &json!([call("write"), call("write")]))).decided().1);
    let mut policy = gated();
    policy.as_object_mut().unwrap().remove("approval");
    seen.insert(World::new(policy).send(&write()).decided().1);
    let mut busy = world();
    busy.gateway.held = full();
    seen.insert(busy.send(&write()).decided().1);
    let mut failing = world();
    for _ in 0..=limits::MAX_APPROVAL_FAILURES {
        seen.insert(failing.send_with(&write(), |_, _| Fate::Unreachable).decided().1);
    }
    assert_eq!(seen, Reason::ALL.into_iter().map(Reason::code).collect());
}

// --- Bounds ---------------------------------------------------------------------------------------------------------

/// A request of somebody else that is held.
fn of_another(number: usize, bytes: usize) -> HeldRequest {
    let subject = number.to_string();
    let owner = Owner { resource: "r", issuer: "i", subject: &subject, client_id: None, tenant: None };
    HeldRequest { bytes, caller: owner.into() }
}

/// As many requests as one worker holds.
fn full() -> HeldRequests {
    let mut held = HeldRequests::default();
    (0..limits::MAX_HELD_REQUESTS).for_each(|number| held.add(of_another(number, 0)));
    held
}

#[test]
fn what_is_held_is_bounded_in_number_and_in_bytes() {
    let mut world = world();
    world.gateway.held = full();
    let sent = world.send(&write());
    assert_eq!((sent.decided(), sent.calls.len()), (denied("approval_busy"), 0));
    assert_eq!(sent.counted(), ["busy"]);
    world.gateway.held.remove(of_another(0, 0));
    assert_eq!(world.send_with(&write(), approving).decided(), ALLOWED);

    let size = write().body().len();
    let with = |bytes: usize| {
        let mut held = HeldRequests::default();
        held.add(of_another(0, bytes));
        held
    };
    world.gateway.held = with(limits::MAX_HELD_REQUEST_BYTES - size + 1);
    assert_eq!(world.send(&write()).decided(), denied("approval_busy"));
    world.gateway.held = with(limits::MAX_HELD_REQUEST_BYTES - size);
    assert_eq!(world.send(&write()).decided(), denied("approval_pending"));
    // What the caller itself holds fills its own share, and nobody else's.
    let mut run = world.begin();
    run.headers(&write());
    run.complete(write().body());
    let held = run.exchange.held_request().unwrap();
    world.gateway.held = HeldRequests::default();
    let most = limits::MAX_HELD_REQUESTS / 4;
    (0..most).for_each(|_| world.gateway.held.add(HeldRequest { bytes: 0, ..held }));
    assert_eq!(world.send(&write()).decided(), denied("approval_busy"));
    let other = token_with(json!({"scope": "write", "sub": "user-8"}).as_object().unwrap());
    assert_eq!(world.send(&write().bearer(&other)).decided(), denied("approval_pending"));
    // Whoever does not want to wait is not held.
    world.gateway.held = full();
    let declined = json!({"name": "write", "inputResponses": {"dev.toolgate/approval": {"action": "cancel"}}});
    assert_eq!(world.send(&STATELESS.request("tools/call", &declined)).decided(), denied("approval_declined"));
}

#[test]
fn what_a_request_holds_is_known_as_long_as_it_waits() {
    let mut world = world();
    let mut run = world.begin();
    let request = write();
    run.headers(&request);
    assert_eq!(run.exchange.held_request(), None);
    let (flow, commands) = run.complete(request.body());
    assert!(matches!(commands.as_slice(), [Command::CountApproval("asked"), Command::CallService(_)]), "{commands:?}");
    let held = run.exchange.held_request().map(|held| held.bytes);
    assert_eq!((flow, held), (Flow::Hold, Some(request.body().len())));
    run.handle(Event::ServiceAnswered(ServiceAnswer::Unreachable));
    assert_eq!(run.exchange.held_request(), None);
}

// --- What people are asked ------------------------------------------------------------------------------------------

/// What people are asked about a call.
fn asked(policy: Value, request: &Request) -> Value {
    let mut world = World::new(policy);
    assert_eq!(world.send(request).decided(), denied("approval_pending"));
    world.service().last().asked.clone()
}

#[test]
fn people_are_told_who_asks_for_what_and_whom_else_to_ask() {
    let mut policy = gated();
    policy["authentication"]["jwt"][0]["claims"] = json!({"tenant": ["org"], "roles": ["roles"]});
    policy["operators"] = json!({"clerk": {"match": {"roles": ["clerks"]}, "scopes": ["*"]}});
    policy["agents"] = json!({"bot": {"scopes": ["*"]}});
    policy["clients"] = json!({"client-1": {"agent": "bot"}});
    policy["audit"] = json!({"arguments": {"write": {
        "/to": "pseudonymise", "/channel": "keep", "/note": "keep", "/secret": "hash", "/count": "keep", "/dry": "keep",
    }}});
    policy["rules"][1]["approval"] = json!({
        "approvers": ["head", "deputy"], "count": 2, "hold": "5s", "expires": "20m", "reason": "required",
        "escalate": {"after": "5m", "approvers": ["board"]},
    });
    let claims = json!({
        "scope": "read write", "org": "acme", "roles": ["clerks"], "act": {"sub": "helper"}, "client_id": "client-1",
    });
    let arguments = json!({
        "to": "ann", "channel": "sms", "note": "call ann@example.org", "secret": "s3cret", "count": 7, "dry": true,
        "other": "not shown",
    });
    let mut params = json!({"name": "write", "arguments": arguments});
    params["_meta"]["dev.toolgate/purpose"] = json!("a\u{1b} reminder");
    let request = STATELESS.request("tools/call", &params).bearer(&token_with(claims.as_object().unwrap()));
    let mut asked = asked(policy.clone(), &request);
    let compiled = compile(policy, Keys::Inline);
    let shown = asked["call"]["arguments"].as_object_mut().unwrap();
    assert!(shown.remove("/to").unwrap().as_str().unwrap().starts_with("p_"));
    assert!(shown.remove("/secret").unwrap().as_str().unwrap().starts_with("h_"));
    assert_eq!(asked["binding"].as_str().unwrap().len(), 64);
    let purpose = asked["call"].as_object_mut().unwrap().remove("purpose").unwrap();
    assert!(purpose.as_str().unwrap().contains("reminder") && !purpose.as_str().unwrap().contains('\u{1b}'));
    assert_eq!(
        asked,
        json!({
            "binding": asked["binding"], "audience": RESOURCE, "policy": compiled.digest,
            "decision_id": format!("{:032x}", 0x101),
            "requester": {
                "issuer": "https://issuer.test", "subject": "user-7", "client_id": "client-1", "agent": "bot",
                "tenant": "acme", "roles": ["clerk"], "actors": ["helper"],
            },
            "call": {
                "revision": "2026-07-28", "method": "tools/call", "kind": "tool", "name": "write",
                "arguments": {"/channel": "sms", "/note": "call [email]", "/count": 7, "/dry": true},
                "withheld": true,
            },
            "requirements": [{
                "gate": "rule", "name": "rules[1]", "approvers": ["head", "deputy"], "count": 2,
                "escalate": {"after": 300, "approvers": ["board"]},
            }],
            "reason_required": true, "expires_in": 1200,
        })
    );
}

#[test]
fn what_is_not_known_is_left_out() {
    let asked = asked(gated(), &LATEST.call("write", &json!({})));
    let digest = compile(gated(), Keys::Inline).digest;
    assert_eq!(
        asked,
        json!({
            "binding": asked["binding"], "audience": RESOURCE, "policy": digest,
            "decision_id": format!("{:032x}", 0x101),
            "requester": {
                "issuer": "https://issuer.test", "subject": "user-7", "client_id": "client-1", "roles": [], "actors": [],
            },
            "call": {
                "revision": "2025-11-25", "method": "tools/call", "kind": "tool", "name": "write", "arguments": {},
                "withheld": false,
            },
            "requirements": [{"gate": "rule", "name": "rules[1]", "approvers": ["admin"], "count": 1}],
            "reason_required": false, "expires_in": 600,
        })
    );
}

#[test]
fn whatever_is_not_shown_is_said_to_be_withheld() {
    let mut policy = gated();
    policy["audit"] = json!({"arguments": {"write": {"": "keep"}}});
    let withheld = |params: Value| {
        let method = if params["uri"].is_string() { "resources/read" } else { "tools/call" };
        asked(policy.clone(), &STATELESS.request(method, &params))["call"]["withheld"].as_bool().unwrap()
    };
    assert!(!withheld(json!({"name": "write"})));
    assert!(!withheld(json!({"name": "write", "arguments": {"a": "x", "b": [1, true]}})));
    assert!(!withheld(json!({"uri": "norg://files/a"})));
    for arguments in [
        json!({"a": null}),
        json!({"a": {}}),
        json!({"a": [[]]}),
        (0..=limits::MAX_AUDIT_ARGUMENTS).map(|n| (format!("a{n}"), Value::from(n))).collect(),
    ] {
        assert!(withheld(json!({"name": "write", "arguments": arguments})), "{arguments}");
    }
    // What the upstream gets beside the arguments counts too: nobody sees it.
    let brought = json!({"amount": {"action": "accept", "content": {"amount": 1_000_000}}});
    assert!(withheld(json!({"name": "write", "inputResponses": brought})));
    assert!(withheld(json!({"name": "write", "requestState": "of the upstream"})));
    assert!(withheld(json!({"uri": "norg://files/a", "options": {"deep": true}})));
    // What is the gateway's own does not reach the upstream.
    let own = json!({"dev.toolgate/approval": {"action": "accept"}});
    assert!(!withheld(json!({"name": "write", "inputResponses": own})));
    // A prompt's arguments are never shown.
    let prompt = json!({"name": "compose", "arguments": {"x": "y"}});
    assert_eq!(asked(policy.clone(), &STATELESS.request("prompts/get", &prompt))["call"]["withheld"], true);
    // Nor is more than one resource.
    let filter = json!({"resourceSubscriptions": ["norg://files/a", "norg://files/b"]});
    let listen = STATELESS.request("subscriptions/listen", &json!({"notifications": filter}));
    let call = &asked(policy.clone(), &listen)["call"];
    assert_eq!((&call["name"], &call["withheld"]), (&"norg://files/a".into(), &true.into()));
}

#[test]
fn prompts_and_resources_are_named() {
    for (method, params, kind, name) in [
        ("prompts/get", json!({"name": "compose", "arguments": {"x": "y"}}), "prompt", "compose"),
        ("resources/read", json!({"uri": "norg://files/a"}), "resource", "norg://files/a"),
        ("resources/subscribe", json!({"uri": "norg://files/a"}), "resource", "norg://files/a"),
    ] {
        let call = &asked(gated(), &LATEST.request(method, &params))["call"];
        assert_eq!((&call["method"], &call["kind"], &call["name"]), (&method.into(), &kind.into(), &name.into()));
        assert_eq!(call["arguments"], json!({}));
    }
}

#[test]
fn values_are_hashed_with_the_salt_of_the_record() {
    let mut policy = gated();
    policy["audit"] = json!({"arguments": {"write": {"/x": "hash"}}});
    let mut world = World::new(policy);
    let mut hash = |x: &str| {
        world.send(&LATEST.call("write", &json!({"x": x})));
        world.service().last().asked["call"]["arguments"]["/x"].clone()
    };
    assert_ne!(hash("a"), hash("b"));
    let (one, other) = (hash("c"), hash("d"));
    assert_ne!(one, other);
}

// --- Gates ----------------------------------------------------------------------------------------------------------

#[test]
fn a_gate_of_a_rule_may_depend_on_the_arguments_and_an_error_shuts_it() {
    for (arguments, is_gated) in [
        (json!({"to": [1, 2]}), false),
        (json!({"to": [1, 2, 3]}), true),
        (json!({"to": 5}), true),
        (json!({}), true),
        (json!({"to": "ab"}), false),
    ] {
        let mut world = world();
        let sent = world.send(&LATEST.call("bulk", &arguments));
        assert_eq!(sent.decided(), if is_gated { denied("approval_pending") } else { ALLOWED }, "{arguments}");
        assert_eq!(sent.calls.is_empty(), !is_gated);
    }
    assert_eq!(world().send(&LATEST.call("read", &json!({}))).decided(), ALLOWED);
}

#[test]
fn agents_and_risks_have_gates_too_and_a_call_needs_all_that_catch_it() {
    let mut policy = gated();
    policy["agents"] = json!({
        "bot": {"scopes": ["*"], "approval": {
            "scopes": ["wr*"], "approvers": ["owner"], "hold": "20s", "expires": "30m", "reason": "required",
        }},
    });
    policy["clients"] = json!({"client-1": {"agent": "bot"}, "client-2": {}});
    policy["clients"]["client-2"] = json!({"agent": "other"});
    policy["agents"]["other"] = json!({"scopes": ["*"]});
    policy["approval"]["risk"] =
        json!({"high": {"approvers": ["security"], "count": 3, "hold": "30s", "expires": "8m"}});
    policy["rules"].as_array_mut().unwrap().push(json!({"tools": ["plain"], "scopes": ["write"]}));
    let of = |tool: &str, client: &str| {
        let claims = json!({"scope": "read write", "client_id": client});
        let request = LATEST.call(tool, &json!({"to": [1, 2, 3]})).bearer(&token_with(claims.as_object().unwrap()));
        let mut world = World::new(policy.clone());
        let sent = world.send(&request);
        let waits: u64 = sent.calls.iter().map(|call| call.wait.get()).sum();
        let asked = world.service().last().asked.clone();
        (asked["requirements"].clone(), asked["expires_in"].as_u64(), asked["reason_required"].as_bool(), waits)
    };
    let rule = json!({"gate": "rule", "name": "rules[1]", "approvers": ["admin"], "count": 1});
    let agent = json!({"gate": "agent", "name": "bot", "approvers": ["owner"], "count": 1});
    let risk = json!({"gate": "risk", "name": "high", "approvers": ["security"], "count": 3});
    assert_eq!(of("plain", "client-2"), (json!([risk]), Some(480), Some(false), 30));
    assert_eq!(of("plain", "client-1"), (json!([agent, risk]), Some(480), Some(true), 20));
    assert_eq!(of("write", "client-2"), (json!([rule, risk]), Some(480), Some(false), 30));
    // Of holds and times the least, and a reason if anybody asks for one.
    assert_eq!(of("write", "client-1"), (json!([rule, agent, risk]), Some(480), Some(true), 20));
    // Whoever reads is caught by none.
    let claims = json!({"scope": "read write"});
    let read = LATEST.call("read", &json!({})).bearer(&token_with(claims.as_object().unwrap()));
    assert_eq!(World::new(policy.clone()).send(&read).decided(), ALLOWED);
}

#[test]
fn whom_a_gate_asks_for_is_the_word_of_the_policy() {
    fn named(name: &str, role: &str) -> Value {
        json!({"iss": "https://idp.test", "sub": name, "roles": [role], "at": NOW})
    }
    let with = |gate: Value, risk: Option<Value>, forgery: support::approvals::Forgery| {
        let mut policy = gated();
        policy["rules"][1]["approval"] = gate;
        policy["approval"]["risk"] = risk.map_or(json!({}), |risk| json!({"high": risk}));
        let mut world = World::new(policy);
        world.service().forgery = forgery;
        world.send_with(&write(), approving).decided()
    };
    let two = json!({"count": 2});
    assert_eq!(with(two.clone(), None, |_, _| {}), denied("approval_unentitled"), "one is too few");
    let both: support::approvals::Forgery =
        |_, claims| claims["approvers"] = json!([named("bob", "admin"), named("eve", "admin")]);
    assert_eq!(with(two.clone(), None, both), ALLOWED);
    let strangers: support::approvals::Forgery =
        |_, claims| claims["approvers"] = json!([named("bob", "admin"), named("eve", "visitor")]);
    assert_eq!(with(two, None, strangers), denied("approval_unentitled"));
    let risk = json!({"approvers": ["security"]});
    assert_eq!(with(json!({}), Some(risk.clone()), both), denied("approval_unentitled"), "nobody of the other gate");
    let of_both: support::approvals::Forgery =
        |_, claims| claims["approvers"] = json!([named("bob", "admin"), named("eve", "security")]);
    assert_eq!(with(json!({}), Some(risk), of_both), ALLOWED);
    let escalated = json!({"escalate": {"after": "1m", "approvers": ["security"]}, "approvers": ["head"]});
    assert_eq!(with(escalated, None, of_both), ALLOWED);
}

#[test]
fn nothing_that_acts_for_the_caller_approves_its_calls() {
    let forgeries: [support::approvals::Forgery; 4] = [
        |_, claims| claims["approvers"][0]["sub"] = "user-7".into(),
        |_, claims| claims["approvers"][0]["sub"] = "client-1".into(),
        |_, claims| claims["approvers"][0]["sub"] = "helper".into(),
        |_, claims| claims["approvers"][0]["sub"] = "helpers".into(),
    ];
    let token = token_with(json!({"scope": "write", "act": {"sub": "helper"}}).as_object().unwrap());
    let decided = forgeries.map(|forgery| {
        let mut world = world();
        world.service().forgery = forgery;
        world.send_with(&write().bearer(&token), approving).decided()
    });
    let own = denied("approval_self");
    assert_eq!(decided, [own, own, own, ALLOWED]);
}

#[test]
fn nothing_waits_in_a_batch() {
    for batch in [json!([call("write"), call("read")]), json!([call("read"), call("write")])] {
        let mut world = world();
        let sent = world.send(&Request::post("read write", &batch));
        assert_eq!((sent.decided(), sent.calls.len()), (denied("approval_in_batch"), 0));
        // Not even if it was approved on its own.
        world.send(&Request::post("read write", &call("write")));
        world.service().approve();
        assert_eq!(world.send(&Request::post("read write", &batch)).decided(), denied("approval_in_batch"));
        assert_eq!(world.service().last().state, "approved");
    }
    // What is the gateway's own has no place in a batch, whatever else there is in it.
    let own = json!({"dev.toolgate/approval": {"action": "accept"}});
    for (name, value) in [("inputResponses", own), ("requestState", "tga1.k1.AAAA.BBBB".into())] {
        let mut second = call("read");
        second["params"][name] = value;
        let sent = world().send(&Request::post("read write", &json!([call("read"), second])));
        assert_eq!(sent.decided(), denied("approval_state_invalid"), "{name}");
    }
    // A batch of one is a batch as well, but has only one to wait for.
    let sent = world().send(&Request::post("read write", &json!([call("read"), call("read")])));
    assert_eq!(sent.decided(), ALLOWED);
}

// --- Callers who lose what they had ---------------------------------------------------------------------------------

#[test]
fn no_approval_is_used_up_for_a_token_that_has_expired() {
    let mut world = world();
    // Of a tolerance of 30 seconds, 20 are left.
    let token = token_with(json!({"scope": "write", "lifetime_s": 20, "age_s": 30}).as_object().unwrap());
    let sent = world.send_with(&write().bearer(&token), |call, world| {
        if call.wait.get() > 0 && world.gateway.now.get() > NOW + 25 {
            world.service().approve();
        }
        Fate::Answered
    });
    assert_eq!((sent.decided(), sent.reply().status), (denied("token_expired"), 401));
    assert_eq!(world.service().last().state, "approved", "it was not used up");
}

/// A list of those who were cut off that was fetched then, and is good for half a minute.
fn feed(then: u64, members: &Value) -> RevocationFeed {
    let list = RevocationList::parse(members.to_string().as_bytes()).unwrap();
    let mut feed = RevocationFeed::new(Seconds::new(30), Seconds::new(30));
    feed.replace(FetchedList { list: list.into(), etag: None }, UnixSeconds::new(then));
    feed
}

#[test]
fn no_approval_is_used_up_for_a_caller_who_was_cut_off() {
    for (cut_off, reason, status) in [
        (json!({"subjects": [{"issuer": "https://issuer.test", "subject": "user-7"}]}), "not_permitted", 403),
        (json!({"clients": ["client-1"]}), "not_permitted", 403),
        (json!({"token_ids": ["t-1"]}), "token_revoked", 401),
    ] {
        let mut policy = gated();
        policy["revocation"] = json!({"list": {"cluster": "idp", "path": "/revoked"}});
        let mut world = World::new(policy);
        world.gateway.revoked = Some(feed(NOW, &json!({"clients": []})));
        let token = token_with(json!({"scope": "write", "jti": "t-1"}).as_object().unwrap());
        let sent = world.send_with(&write().bearer(&token), |call, world| {
            if call.method == "GET" {
                world.gateway.revoked = Some(feed(world.gateway.now.get(), &cut_off));
            }
            approving(call, world)
        });
        assert_eq!((sent.decided(), sent.reply().status), (denied(reason), status));
        assert_eq!(world.service().last().state, "approved", "it was not used up");
    }
}

#[test]
fn no_approval_is_used_up_for_a_person_who_must_be_authenticated_anew() {
    let mut policy = gated();
    policy["rules"][1]["authentication"] = json!({"max_age": "40s"});
    let mut world = World::new(policy);
    let token = token_with(json!({"scope": "write", "auth_age_s": 20}).as_object().unwrap());
    let sent = world.send_with(&write().bearer(&token), |call, world| {
        if call.method == "GET" && world.gateway.now.get() > NOW + 25 {
            world.pass(30);
            world.service().approve();
        }
        Fate::Answered
    });
    assert_eq!(sent.decided(), denied("insufficient_user_authentication"));
    assert_eq!(world.service().last().state, "approved", "it was not used up");
}

#[test]
fn no_approval_is_used_up_while_nobody_knows_who_was_cut_off() {
    let mut policy = gated();
    policy["revocation"] = json!({"list": {"cluster": "idp", "path": "/revoked", "max_stale": "30s"}});
    policy["approval"]["hold"] = json!("55s");
    let mut world = World::new(policy);
    world.gateway.revoked = Some(feed(NOW, &json!({"clients": []})));
    let sent = world.send_with(&write(), |call, world| {
        if call.method == "GET" && world.gateway.now.get() > NOW + 40 {
            world.service().approve();
        }
        Fate::Answered
    });
    assert_eq!(sent.decided(), denied("revocations_unavailable"));
    assert_eq!(world.service().last().state, "approved");
}

#[test]
fn no_approval_is_used_up_for_a_session_that_is_over() {
    let mut policy = gated();
    policy["sessions"] = json!({"max_age": "30s"});
    let mut world = World::new(policy);
    let session = session(&mut world, &json!({"elicitation": {"url": {}}}));
    let sent = world.send_with(&write().with("mcp-session-id", &session), |call, world| {
        if call.method == "GET" && world.gateway.now.get() > NOW + 25 {
            world.service().approve();
            world.pass(20);
        }
        Fate::Answered
    });
    assert_eq!((sent.decided(), sent.reply().status), (denied("session_expired"), 404));
    assert_eq!(world.service().last().state, "approved");
}

// --- What a client keeps --------------------------------------------------------------------------------------------

/// A world in which `write` with these arguments was approved, and the state that the client was given.
fn approved_state(arguments: &Value) -> (World, String) {
    let mut world = world();
    let first = world.send(&STATELESS.call("write", arguments));
    world.service().approve();
    let state = state(&first);
    (world, state)
}

fn with_state(name: &str, arguments: &Value, state: &str) -> Request {
    STATELESS.request("tools/call", &json!({"name": name, "arguments": arguments, "requestState": state}))
}

#[test]
fn a_state_is_good_for_its_own_call_only() {
    let arguments = json!({"to": "ann", "n": 1});
    let as_client = |claims: Value| {
        let mut all = json!({"scope": "read write"});
        extend(&mut all, claims);
        token_with(all.as_object().unwrap())
    };
    for (what, request) in [
        ("argument", with_state("write", &json!({"to": "bob", "n": 1}), "?")),
        ("number", with_state("write", &json!({"to": "ann", "n": 1.0}), "?")),
        ("more", with_state("write", &json!({"to": "ann", "n": 1, "x": null}), "?")),
        ("gated tool", with_state("bulk", &arguments, "?")),
        ("free tool", with_state("read", &arguments, "?")),
        ("subject", with_state("write", &arguments, "?").bearer(&as_client(json!({"sub": "user-8"})))),
        ("client", with_state("write", &arguments, "?").bearer(&as_client(json!({"client_id": "client-2"})))),
        ("no client", with_state("write", &arguments, "?").bearer(&as_client(json!({"client_id": null})))),
    ] {
        let (mut world, state) = approved_state(&arguments);
        let body = String::from_utf8(request.body().to_vec()).unwrap().replace("\"?\"", &format!("\"{state}\""));
        let sent = world.send(&request.with_bytes(body));
        assert_eq!((sent.decided(), sent.calls.len()), (denied("approval_state_invalid"), 0), "{what}");
        assert_eq!(world.service().last().state, "approved");
    }
    // Its own call may be written in another way, and for each request there may be another token.
    let (mut world, state) = approved_state(&arguments);
    let other = with_state("write", &json!({"n": 1, "to": "ann"}), &state).bearer(&as_client(json!({"jti": "2"})));
    assert_eq!(world.send(&other).decided(), ALLOWED);
}

#[test]
fn a_state_does_not_outlive_its_policy_its_key_or_its_time() {
    let arguments = json!({});
    let (mut world, state) = approved_state(&arguments);
    let mut policy = gated();
    policy["rules"][0]["scopes"] = json!([]);
    world.gateway.policy = compile(policy, Keys::Inline);
    assert_eq!(world.send(&with_state("write", &arguments, &state)).decided(), denied("approval_state_invalid"));

    let (mut world, state) = approved_state(&arguments);
    let ends = 45 + 600 + limits::APPROVAL_AFTERLIFE.get();
    world.gateway.now = UnixSeconds::new(NOW + ends - 45);
    let token = |world: &World| {
        let age = world.gateway.now.get() - NOW;
        let issued = json!({"scope": "read write", "iat": NOW + age - 1, "exp": NOW + age + 60});
        token_with(issued.as_object().unwrap())
    };
    let request = with_state("write", &arguments, &state);
    let in_time = world.send(&request.clone().bearer(&token(&world)));
    assert_eq!(in_time.decided(), ALLOWED, "the service says what has become of it");
    let (mut world, _) = approved_state(&arguments);
    world.gateway.now = UnixSeconds::new(NOW + ends - 44);
    let late = world.send(&request.bearer(&token(&world)));
    assert_eq!((late.decided(), late.calls.len()), (denied("approval_state_invalid"), 0));

    // What anybody can write is none.
    let (mut world, state) = approved_state(&arguments);
    let parts: Vec<&str> = state.split('.').collect();
    let flipped = if parts[3].starts_with('A') { "B" } else { "A" };
    for forged in [
        format!("{}.{}.{}.{flipped}{}", parts[0], parts[1], parts[2], &parts[3].get(1..).unwrap()),
        format!("{}.k9.{}.{}", parts[0], parts[2], parts[3]),
        format!("{state}A"),
        "tga1.".to_owned(),
        "tga1.k1..".to_owned(),
    ] {
        let sent = world.send(&with_state("write", &arguments, &forged));
        assert_eq!((sent.decided(), sent.calls.len()), (denied("approval_state_invalid"), 0), "{forged}");
    }
    // Nor does a free tool get any of it.
    let sent = world.send(&with_state("read", &arguments, "tga1.k1.AAAA.BBBB"));
    assert_eq!(sent.decided(), denied("approval_state_invalid"));
}

#[test]
fn a_state_of_a_service_that_has_forgotten_it_is_of_no_use() {
    let (mut world, state) = approved_state(&json!({}));
    world.service().approvals.clear();
    let sent = world.send(&with_state("write", &json!({}), &state));
    assert_eq!(sent.decided(), denied("approval_state_invalid"));
    // The answer says what to do, and that helps.
    assert!(sent.json()["result"]["content"][0]["text"].as_str().unwrap().contains("Send the call without it"));
    assert_eq!(world.send(&STATELESS.call("write", &json!({}))).decided(), denied("approval_pending"));
}

#[test]
fn a_state_whose_service_cannot_be_reached_is_not_taken_elsewhere() {
    let mut world = world_of_two();
    let first = world.send(&STATELESS.call("write", &json!({})));
    let sent = world.send_with(&with_state("write", &json!({}), &state(&first)), |_, _| Fate::Unreachable);
    assert_eq!((sent.decided(), sent.asked()), (denied("approval_unreachable"), vec!["0 GET state 15".to_owned()]));
    assert!(world.services[1].approvals.is_empty());
}

#[test]
fn what_belongs_to_the_upstream_is_part_of_the_call() {
    // Another state of the upstream is another call, and it passes as it is.
    let params = |state: &str| json!({"name": "write", "arguments": {}, "requestState": state});
    let mut world = world();
    world.send(&STATELESS.request("tools/call", &params("a")));
    world.service().approve();
    assert_eq!(world.send(&STATELESS.request("tools/call", &params("b"))).decided(), denied("approval_pending"));
    world.service().approvals.truncate(1);
    let sent = world.send(&STATELESS.request("tools/call", &params("a")));
    assert_eq!((sent.decided(), sent.body()), (ALLOWED, None));
}

// --- An upstream that asks for something ----------------------------------------------------------------------------

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";

fn headers(content_type: &str) -> Event<'static> {
    let headers = HeaderList::from_iter([(":status", "200"), ("content-type", content_type)]);
    Event::ResponseHeaders { headers, end_of_stream: false }
}

/// What the client gets of an answer.
fn shown(commands: &[Command], original: &str) -> String {
    let replaced = commands
        .iter()
        .find_map(|command| if let Command::ReplaceResponseBody(body) = command { Some(body.clone()) } else { None });
    replaced.map_or_else(|| original.to_owned(), |body| String::from_utf8(body).unwrap())
}

/// What the client gets of a complete answer in JSON.
fn answered(world: &mut World, sent: &mut Sent, body: &str) -> String {
    let commands = world.upstream(sent, vec![headers(JSON), Event::ResponseComplete { body: body.as_bytes() }]);
    shown(&commands, body)
}

fn asks(state: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":"c-1","result":{{"resultType":"input_required","requestState":{state},"inputRequests":{{"k":{{"method":"elicitation/create","params":{{}}}}}}}}}}"#
    )
}

fn state_in(body: &str) -> String {
    let body: Value = serde_json::from_str(body).unwrap();
    body["result"]["requestState"].as_str().unwrap().to_owned()
}

/// The next round of the call, with an answer to the upstream.
fn next_round(state: &str) -> Request {
    STATELESS.request(
        "tools/call",
        &json!({
            "name": "write", "arguments": {"to": "ann"}, "requestState": state,
            "inputResponses": {"k": {"action": "accept", "content": {"sure": true}}},
        }),
    )
}

#[test]
fn an_upstream_that_asks_for_input_is_answered_in_rounds_that_each_pass_once() {
    let mut world = world();
    let mut sent = world.send_with(&STATELESS.call("write", &json!({"to": "ann"})), approving);
    assert_eq!(sent.decided(), ALLOWED);
    for step in 0..3 {
        let own = format!("of the upstream, {step}");
        let body = answered(&mut world, &mut sent, &asks(&json!(own).to_string()));
        let state = state_in(&body);
        assert!(state.starts_with("tga1."), "{body}");
        assert_eq!(body, asks(&format!("\"{state}\"")), "nothing else is different");
        let round = next_round(&state);
        sent = world.send(&round);
        assert_eq!((sent.decided(), sent.asked()), (ALLOWED, vec!["0 POST consume 0".to_owned()]));
        let told: Value = serde_json::from_slice(&sent.calls[0].body).unwrap();
        assert_eq!(told["step"], step + 1);
        // The upstream gets back what it gave, and the answer to its question.
        let forwarded: Value = serde_json::from_str(sent.body().unwrap()).unwrap();
        assert_eq!(forwarded["params"]["requestState"], own);
        assert_eq!(forwarded["params"]["inputResponses"]["k"]["content"], json!({"sure": true}));
        // A round that is sent again is refused, by the service that counts them.
        assert_eq!(world.send(&round).decided(), denied("approval_used"));
    }
    assert_eq!((world.service().approvals.len(), world.service().last().step), (1, 4));
    // A complete result passes as it is.
    let done = r#"{"jsonrpc":"2.0","id":"c-1","result":{"resultType":"complete","content":[]}}"#;
    assert_eq!(answered(&mut world, &mut sent, done), done);
}

#[test]
fn an_upstream_without_a_state_of_its_own_gets_none_back() {
    let mut world = world();
    let mut sent = world.send_with(&STATELESS.call("write", &json!({"to": "ann"})), approving);
    // Some servers write `null` for what is not there.
    let question = r#"{"jsonrpc":"2.0","id":"c-1","result":{"resultType":"input_required","inputRequests":{}}}"#;
    for question in [question.to_owned(), asks("null")] {
        let body = answered(&mut world, &mut sent, &question);
        sent = world.send(&next_round(&state_in(&body)));
        assert_eq!(sent.decided(), ALLOWED);
        assert!(!sent.body().unwrap().contains("requestState"));
    }
}

#[test]
fn a_round_is_good_for_the_call_that_was_approved() {
    let round = |change: fn(&mut Value)| {
        let mut world = world();
        let mut sent = world.send_with(&STATELESS.call("write", &json!({"to": "ann"})), approving);
        let state = state_in(&answered(&mut world, &mut sent, &asks("\"s\"")));
        let request = next_round(&state);
        let mut body: Value = serde_json::from_slice(request.body()).unwrap();
        change(&mut body["params"]);
        world.send(&request.with_body(&body)).decided()
    };
    assert_eq!(round(|_| {}), ALLOWED);
    assert_eq!(round(|params| params["inputResponses"]["k"]["content"]["sure"] = false.into()), ALLOWED);
    assert_eq!(round(|params| params["arguments"]["to"] = "bob".into()), denied("approval_state_invalid"));
    assert_eq!(round(|params| params["arguments"]["more"] = 1.into()), denied("approval_state_invalid"));
    // Without its state it is a call that nobody approved.
    let first = round(|params| params.as_object_mut().unwrap().retain(|name, _| name != "requestState"));
    assert_eq!(first, denied("approval_pending"));
}

#[test]
fn a_round_may_come_late_but_not_too_late() {
    for (late, decided) in [(limits::APPROVAL_AFTERLIFE.get(), ALLOWED), (601, denied("approval_state_invalid"))] {
        let mut world = world();
        let sent_at = world.gateway.now.get();
        let mut sent = world.send_with(&STATELESS.call("write", &json!({"to": "ann"})), approving);
        let state = state_in(&answered(&mut world, &mut sent, &asks("\"s\"")));
        assert_eq!(world.gateway.now.get(), sent_at);
        world.pass(late);
        let now = world.gateway.now.get();
        let token = token_with(json!({"scope": "write", "iat": now - 1, "exp": now + 60}).as_object().unwrap());
        assert_eq!(world.send(&next_round(&state).bearer(&token)).decided(), decided);
    }
}

#[test]
fn a_round_that_the_service_does_not_allow_is_refused() {
    for (status, body, reason) in [
        (409, json!({"code": "not_approved"}), "approval_error"),
        (410, json!({"code": "expired"}), "approval_error"),
        (404, json!({}), "approval_state_invalid"),
        (500, json!({}), "approval_error"),
    ] {
        let mut world = world();
        let mut sent = world.send_with(&STATELESS.call("write", &json!({"to": "ann"})), approving);
        let state = state_in(&answered(&mut world, &mut sent, &asks("\"s\"")));
        let sent = world.send_with(&next_round(&state), |_, _| Fate::Says(status, body.clone()));
        assert_eq!(sent.decided(), denied(reason), "{status}");
        assert!(sent.calls.iter().all(|call| call.path.ends_with("/consume")), "{:?}", sent.asked());
    }
    // A grant of the round before proves nothing.
    let mut world = world();
    let mut sent = world.send_with(&STATELESS.call("write", &json!({"to": "ann"})), approving);
    let state = state_in(&answered(&mut world, &mut sent, &asks("\"s\"")));
    world.service().forgery = |_, claims| claims["step"] = 0.into();
    assert_eq!(world.send(&next_round(&state)).decided(), denied("approval_replayed"));
}

#[test]
fn events_that_ask_for_input_are_changed_too() {
    let mut world = world();
    let mut sent = world.send_with(&STATELESS.call("write", &json!({"to": "ann"})), approving);
    let progress = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{}}\n\n";
    let text = format!("{progress}data: {}\n\n", asks("\"s\""));
    let chunk = Event::ResponseChunk { bytes: text.as_bytes(), end_of_stream: true };
    let commands = world.upstream(&mut sent, vec![headers(EVENTS), chunk]);
    let shown = shown(&commands, &text);
    let event = shown.strip_prefix(progress).unwrap().trim().strip_prefix("data: ").unwrap();
    let state = state_in(event);
    assert_eq!(event, asks(&format!("\"{state}\"")));
    let sent = world.send(&next_round(&state));
    assert_eq!(sent.decided(), ALLOWED);
    assert!(sent.body().unwrap().contains(r#""requestState":"s""#));
}

#[test]
fn an_upstream_cannot_make_states_of_the_gateway() {
    let refused = |state: &str| {
        let mut world = world();
        let mut sent = world.send_with(&STATELESS.call("write", &json!({"to": "ann"})), approving);
        let body = asks(state);
        let complete = Event::ResponseComplete { body: body.as_bytes() };
        let commands = world.upstream(&mut sent, vec![headers(JSON), complete]);
        assert!(!shown(&commands, "").contains("tga1"));
        commands.iter().any(|command| matches!(command, Command::Reply(reply) if reply.status == 502))
    };
    assert!(refused("\"tga1.k1.AAAA.BBBB\"") && refused("5") && refused("[]"));
    assert!(refused(&format!("\"{}\"", "x".repeat(limits::MAX_UPSTREAM_STATE_BYTES + 1))));
    // In events, it is left out.
    let mut world = world();
    let mut sent = world.send_with(&STATELESS.call("write", &json!({"to": "ann"})), approving);
    let text = format!("data: {}\n\n", asks("\"tga1.k1.AAAA.BBBB\""));
    let chunk = Event::ResponseChunk { bytes: text.as_bytes(), end_of_stream: true };
    let commands = world.upstream(&mut sent, vec![headers(EVENTS), chunk]);
    assert!(!shown(&commands, &text).contains("tga1"));
}

#[test]
fn an_answer_that_cannot_be_read_does_not_pass() {
    let mut world = world();
    let mut sent = world.send_with(&STATELESS.call("write", &json!({"to": "ann"})), approving);
    let commands = world.upstream(&mut sent, vec![headers("text/plain")]);
    assert!(commands.iter().any(|command| matches!(command, Command::Reply(reply) if reply.status == 502)));
    // Of a call that nobody had to approve it is the client's business.
    let mut sent = world.send(&STATELESS.call("read", &json!({})));
    let body = asks("\"s\"");
    assert_eq!(answered(&mut world, &mut sent, &body), body);
}

// --- Events out of order --------------------------------------------------------------------------------------------

#[test]
fn a_waiting_request_has_an_answer_to_every_event() {
    let waiting = |event: Event<'_>| {
        let mut world = world();
        let mut run = world.begin();
        let request = write();
        run.headers(&request);
        assert_eq!(run.complete(request.body()).0, Flow::Hold);
        let (flow, commands) = run.handle(event);
        let decided = commands
            .iter()
            .find_map(|command| if let Command::Decided { reason, .. } = command { Some(*reason) } else { None });
        let is_waiting = run.exchange.held_request().is_some();
        // However it ended: what the service says later has no effect.
        if !is_waiting {
            let body = br#"{"id":"a","binding":"b","state":"approved","expires_at":1}"#;
            let late = run.handle(Event::ServiceAnswered(ServiceAnswer::Reply { status: 200, body }));
            assert_eq!(late, (Flow::Hold, Vec::new()));
        }
        (flow, decided, is_waiting)
    };
    let ok = || HeaderList::from_iter([(":status", "200")]);
    let (broken, held) = ((Flow::Hold, Some("host_failure"), false), (Flow::Hold, None, true));
    let headers = write().header_list();
    let peer = toolgate::identity::Peer::default();
    assert_eq!(waiting(Event::RequestHeaders { headers, end_of_stream: false, peer }), broken);
    assert_eq!(waiting(Event::RequestBody { buffered: 10 }), broken);
    assert_eq!(waiting(Event::RequestComplete { body: write().body() }), broken);
    assert_eq!(waiting(Event::HostFailure), broken);
    assert_eq!(waiting(Event::ResponseBody { buffered: 1 }), broken);
    assert_eq!(waiting(Event::ResponseComplete { body: b"{}" }), broken);
    assert_eq!(waiting(Event::ResponseChunk { bytes: b"x", end_of_stream: true }), broken);
    assert_eq!(waiting(Event::Settled), held);
    assert_eq!(waiting(Event::TimePassed), held);
    // The proxy has answered for it, so nothing can be forwarded any more.
    let gone = Event::ResponseHeaders { headers: ok(), end_of_stream: false };
    assert_eq!(waiting(gone), (Flow::Pass, None, false));
}

#[test]
fn an_answer_of_a_service_that_nobody_asked_is_a_broken_host() {
    let mut world = world();
    let mut run = world.begin();
    let (flow, commands) = run.handle(Event::ServiceAnswered(ServiceAnswer::Unreachable));
    assert_eq!(flow, Flow::Hold);
    assert!(matches!(commands.as_slice(), [Command::Decided { reason: "host_failure", .. }, Command::Reply(_)]));
    // Before the body has come, it is of no interest.
    let mut run = world.begin();
    run.headers(&write());
    assert_eq!(run.handle(Event::ServiceAnswered(ServiceAnswer::Unreachable)), (Flow::Hold, Vec::new()));
    assert_eq!(run.complete(write().body()).0, Flow::Hold);
}

#[test]
fn an_approval_is_for_the_body_that_was_held() {
    // A host that shows another body after the grant.
    for (body, reason) in [
        (LATEST.call("write", &json!({"to": "bob"})), Some("approval_mismatch")),
        (LATEST.call("nothing", &json!({"to": "ann"})), Some("no_rule")),
        (write(), None),
    ] {
        let mut world = world();
        world.send(&write());
        world.service().approve();
        let (now, request) = (world.gateway.now.get(), write());
        let mut run = world.begin();
        run.headers(&request);
        let (_, mut commands) = run.complete(request.body());
        let mut exchange = run.exchange;
        while let Some(Command::CallService(call)) = commands.pop() {
            let (status, body) = world.service().take(&call, now);
            let body = body.to_string().into_bytes();
            let reply = Event::ServiceAnswered(ServiceAnswer::Reply { status, body: &body });
            let mut run = support::gateway::Run { exchange, gateway: &mut world.gateway };
            commands = run.handle(reply).1;
            exchange = run.exchange;
        }
        assert!(exchange.expects_body());
        let mut run = support::gateway::Run { exchange, gateway: &mut world.gateway };
        let (flow, commands) = run.complete(body.body());
        assert_eq!(flow, if reason.is_some() { Flow::Hold } else { Flow::Pass });
        let mut denials = commands.iter().filter_map(|command| {
            if let Command::Decided { verdict: Verdict::Deny, reason } = command { Some(*reason) } else { None }
        });
        assert_eq!(denials.next(), reason);
    }
}

#[test]
fn an_adapter_that_gives_up_ends_the_waiting() {
    let mut world = world();
    let mut run = world.begin();
    let request = write();
    run.headers(&request);
    run.complete(request.body());
    run.exchange.abandon("too_much_held");
    assert_eq!(run.exchange.held_request(), None);
    assert_eq!(run.handle(Event::ServiceAnswered(ServiceAnswer::Unreachable)), (Flow::Hold, Vec::new()));
    assert_eq!(run.complete(request.body()), (Flow::Hold, Vec::new()));
}

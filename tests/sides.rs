//! What callers, upstreams and logs are told of a decision by sides, down to the byte, and what changes it from request
//! to request.
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
    #[expect(dead_code, reason = "sides need a part of it")]
    pub(crate) mod gateway;
    #[expect(dead_code, reason = "sides need a part of it")]
    pub(crate) mod issuer;
    pub(crate) mod keys;
}

use serde_json::{Value, json};
use toolgate::exchange::{Command, Event, Flow, Verdict};
use toolgate::http::LocalReply;
use toolgate::identity::{FetchedList, Peer, PeerNeeds, RevocationFeed, RevocationList, RevokedSubject};
use toolgate::jwt::IssuerIndex;
use toolgate::limits;
use toolgate::units::{Seconds, UnixSeconds};

use support::gateway::{Gateway, ID, ISSUER, Keys, Outcome, Request, call, header, json_body, policy, token_with};
use support::issuer::{self, NOW};
use support::keys::key_set;

const PERMISSIONS: &str = "/.well-known/toolgate-permissions/mcp";
const METADATA: &str = "https://gateway.test/.well-known/oauth-protected-resource/mcp";
const DECISION: &str = "0000000000000000000000000000002a";

/// A policy with all tables. Scopes: read, write.
fn full() -> Value {
    let mut full = policy();
    full["authentication"]["jwt"][0]["claims"] = json!({"agent": ["agent_role"]});
    full["authentication"]["jwt"][0]["max_lifetime"] = json!("24h");
    full["operators"] = json!({
        "reader": {"match": {"roles": ["readers"]}, "scopes": ["read"]},
        "writer": {"match": {"roles": ["writers"]}, "scopes": ["read", "write"]},
    });
    full["agents"] = json!({
        "reading": {"scopes": ["read"]},
        "writing": {"scopes": ["*"], "approval": {"scopes": ["write"]}},
        "free": {"scopes": ["*"]},
    });
    full["clients"] = json!({
        "desk": {},
        "mesh": {"source": {"cidrs": ["10.0.0.0/8"], "uri_sans": ["spiffe://norg.test/desk"], "dns_sans": ["desk.test"]}},
        "named": {"source": {"uri_sans": ["spiffe://norg.test/host"]}},
        "agreed": {"consent": {"by": "somebody", "on": "2027-01-01", "expires": "2027-01-15"}},
        "pinned": {"consent": {"by": "somebody", "on": "2027-01-01", "definitions": {"read": "0a".repeat(32)}}},
    });
    full["rules"] = json!([
        {"tools": ["read"], "scopes": ["read"]},
        {"tools": ["write"], "scopes": ["write"]},
        {"tools": ["strong"], "scopes": ["read"], "authentication": {"acr": ["mfa", "phrh"], "amr": ["otp"], "max_age": "15m"}},
        {"tools": ["recent"], "scopes": [], "authentication": {"max_age": "1m"}},
        {"tools": ["short"], "scopes": [], "max_token_lifetime": "5m"},
        {"tools": ["list_*"], "scopes": ["read"]},
        {"tools": ["maybe"], "scopes": [], "approval": {"when": "arguments.x > 1"}},
        {"tools": ["own"], "scopes": [], "tenants": ["acme"]},
        {"resources": ["norg://reports/*"], "scopes": ["write"]},
        {"prompts": ["brief"], "scopes": ["read"]},
    ]);
    full
}

fn gateway() -> Gateway {
    Gateway::new(full(), Keys::Inline)
}

fn concealing() -> Gateway {
    let mut full = full();
    full["refusals"] = json!("concealed");
    Gateway::new(full, Keys::Inline)
}

/// A token that may do everything but for what the claims change.
fn bearer(changes: &Value) -> String {
    let mut claims = json!({
        "sub": "ann", "client_id": "desk", "scope": "read write", "roles": ["writers"], "agent_role": "free", "jti": "t-1",
    });
    claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    token_with(claims.as_object().unwrap())
}

fn calling(tool: &str, changes: &Value) -> Request {
    Request::post("", &call(tool)).bearer(&bearer(changes))
}

fn asking(changes: &Value) -> Request {
    Request::new("GET", PERMISSIONS).bearer(&bearer(changes))
}

/// Status, the fields beyond those of every JSON answer, and body.
fn shape(reply: &LocalReply) -> (u16, Vec<(&str, &str)>, Value) {
    let fields = reply.headers.iter().map(|(name, value)| (*name, value.as_str()));
    let is_common = |name| ["content-type", "cache-control", "x-toolgate-decision"].contains(&name);
    let body = if reply.body.is_empty() { Value::Null } else { json_body(reply) };
    (reply.status, fields.filter(|(name, _)| !is_common(*name)).collect(), body)
}

// --- Refusals ---------------------------------------------------------------------------------------------------------

#[test]
fn a_refusal_says_which_sides_failed_and_why_in_words_and_for_programs() {
    let outcome =
        gateway().send(&calling("write", &json!({"scope": "", "roles": ["readers"], "agent_role": "reading"})));
    let failing = ["token", "person", "agent"];
    let failing = failing.map(|side| json!({"side": side, "reason": "missing_scopes", "missing_scopes": ["write"]}));
    let body = json!({"jsonrpc": "2.0", "id": 1, "error": {
        "code": -33002,
        "message": "Not permitted: the token lacks write; the person lacks write; the agent lacks write",
        "data": {"reason": "not_permitted", "failing_sides": failing, "decision_id": DECISION},
    }});
    assert_eq!(shape(outcome.reply()), (403, vec![], body));
    assert_eq!(outcome.reply().code_details(), "not_permitted{token,person,agent}");
    assert_eq!((outcome.verdict, outcome.reason), (Verdict::Deny, "not_permitted"));
}

#[test]
fn every_reason_has_words_of_its_own() {
    let mut gateway = gateway();
    let mut message =
        |changes: Value| json_body(gateway.send(&calling("read", &changes)).reply())["error"]["message"].clone();
    for (changes, text) in [
        (json!({"roles": []}), "Not permitted: the person has no role here"),
        (json!({"sub": "desk"}), "Not permitted: the client may not act without a person"),
        (json!({"agent_role": null}), "Not permitted: no agent role is known for this client"),
        (json!({"agent_role": "x"}), "Not permitted: the token names an agent role that is not known here"),
        (json!({"client_id": null}), "Not permitted: the token names no client"),
        (json!({"client_id": "x"}), "Not permitted: the client is not registered here"),
        (json!({"client_id": "mesh"}), "Not permitted: the client may not call from here"),
        (
            json!({"client_id": "pinned"}),
            "Not permitted: the tool's definition has not been seen yet: list the tools, then call again",
        ),
    ] {
        assert_eq!(message(changes.clone()), text, "{changes}");
    }
}

#[test]
fn a_step_up_challenge_says_what_is_asked_for() {
    let outcome = gateway().send(&calling("strong", &json!({})));
    let text = "this needs a stronger or a more recent authentication of the person";
    let challenge = format!(
        "Bearer error=\"insufficient_user_authentication\", error_description=\"{text}\", acr_values=\"mfa phrh\", \
         max_age=\"900\", resource_metadata=\"{METADATA}\""
    );
    let body = json!({"jsonrpc": "2.0", "id": 1, "error": {
        "code": -33004,
        "message": format!("Insufficient authentication ({text})"),
        "data": {
            "error": "insufficient_user_authentication", "acr_values": ["mfa", "phrh"], "amr": ["otp"], "max_age": 900,
            "resource_metadata": METADATA, "decision_id": DECISION,
        },
    }});
    assert_eq!(shape(outcome.reply()), (401, vec![("www-authenticate", challenge.as_str())], body));

    let outcome = gateway().send(&calling("recent", &json!({})));
    let challenge = header(outcome.reply(), "www-authenticate").unwrap();
    assert!(challenge.contains("max_age=\"60\"") && !challenge.contains("acr_values"), "{challenge}");
}

#[test]
fn an_authentication_ages_to_the_second_with_the_skew_of_clocks() {
    let mut gateway = gateway();
    let mut recent = |age: i64| gateway.send(&calling("recent", &json!({"auth_age_s": age}))).reason;
    let skew = i64::try_from(limits::CLOCK_SKEW.get()).unwrap();
    assert_eq!([recent(60 + skew), recent(61 + skew)], ["permitted", "insufficient_user_authentication"]);
    assert_eq!([recent(-skew), recent(-skew - 1)], ["permitted", "insufficient_user_authentication"]);
}

#[test]
fn a_token_that_was_cut_off_is_answered_like_one_that_is_not_valid() {
    let mut full = full();
    full["revocation"] = json!({"token_ids": ["t-1"]});
    full["refusals"] = json!("concealed");
    let challenge = format!(
        "Bearer error=\"invalid_token\", error_description=\"the token was revoked\", scope=\"read\", \
         resource_metadata=\"{METADATA}\""
    );
    let body = json!({"error": "invalid_token", "error_description": "the token was revoked"});
    let mut gateway = Gateway::new(full, Keys::Inline);
    for request in [calling("read", &json!({})), calling("unheard-of", &json!({})), asking(&json!({}))] {
        let outcome = gateway.send(&request);
        assert_eq!(shape(outcome.reply()), (401, vec![("www-authenticate", challenge.as_str())], body.clone()));
        assert_eq!(outcome.reason, "token_revoked");
    }
    assert_eq!(gateway.send(&calling("read", &json!({"jti": "t-2"}))).reason, "permitted");
}

// --- Concealed --------------------------------------------------------------------------------------------------------

/// What a request says, for each kind of target.
fn about(method: &str, member: &str, name: &str, is_stateless: bool, token: &str) -> Request {
    let mut body = json!({"jsonrpc": "2.0", "id": "a", "method": method, "params": {member: name}});
    let mut request = Request::post("", &json!(null)).bearer(token);
    if is_stateless {
        body["params"]["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        request = request.with("mcp-protocol-version", "2026-07-28").with("mcp-method", method).with("mcp-name", name);
    }
    request.with_body(&body)
}

#[test]
fn what_is_hidden_is_answered_like_what_is_unknown_byte_for_byte() {
    let mut gateway = concealing();
    let poor = bearer(&json!({"scope": "", "roles": ["readers"]}));
    for (method, member, hidden, unknown) in [
        ("tools/call", "name", "write", "other"),
        ("prompts/get", "name", "brief", "other"),
        ("resources/read", "uri", "norg://reports/1", "norg://others1/1"),
    ] {
        for is_stateless in [false, true] {
            let mut reply =
                |name: &str| gateway.send(&about(method, member, name, is_stateless, &poor)).reply().clone();
            let (hidden_reply, unknown_reply) = (reply(hidden), reply(unknown));
            let as_unknown = String::from_utf8(hidden_reply.body).unwrap().replace(hidden, unknown);
            assert_eq!(as_unknown, String::from_utf8(unknown_reply.body).unwrap(), "{method}");
            assert_eq!((hidden_reply.status, hidden_reply.headers), (unknown_reply.status, unknown_reply.headers));
            assert_eq!(hidden_reply.status, 200);
        }
    }
}

#[test]
fn the_words_of_an_unknown_target_are_those_of_its_era() {
    let mut gateway = concealing();
    let poor = bearer(&json!({"roles": []}));
    let mut error = |method, member, name, is_stateless| {
        let body = json_body(gateway.send(&about(method, member, name, is_stateless, &poor)).reply());
        assert_eq!((&body["jsonrpc"], &body["id"]), (&json!("2.0"), &json!("a")));
        body["error"].clone()
    };
    let uri = "norg://reports/1";
    assert_eq!(error("tools/call", "name", "read", false), json!({"code": -32602, "message": "Unknown tool: read"}));
    assert_eq!(
        error("prompts/get", "name", "brief", true),
        json!({"code": -32602, "message": "Unknown prompt: brief"})
    );
    let resource = |code: i32| json!({"code": code, "message": "Resource not found", "data": {"uri": uri}});
    assert_eq!(error("resources/read", "uri", uri, false), resource(-32002));
    assert_eq!(error("resources/read", "uri", uri, true), resource(-32602));
}

#[test]
fn the_log_has_the_truth_about_what_was_hidden() {
    let mut gateway = concealing();
    let outcome = gateway.send(&calling("write", &json!({"roles": ["readers"], "agent_role": "reading"})));
    assert_eq!(outcome.reply().code_details(), "not_permitted{person,agent}");
    let outcome = gateway.send(&calling("write", &json!({"scope": "read"})));
    assert_eq!(outcome.reply().code_details(), "insufficient_scope");
}

// --- What changes from request to request -----------------------------------------------------------------------------

#[test]
fn the_connection_is_judged_with_each_request() {
    let mut gateway = gateway();
    let request = calling("read", &json!({"client_id": "mesh"}));
    let peer = |address: &str, uri: &str, dns: &str| Peer {
        address: Peer::parse_address(address),
        uri_san: Some(uri.to_owned()),
        dns_san: Some(dns.to_owned()),
    };
    let right = peer("10.1.2.3:80", "spiffe://norg.test/desk", "desk.test");
    for (peer, reason) in [
        (right.clone(), "permitted"),
        (peer("11.1.2.3:80", "spiffe://norg.test/desk", "desk.test"), "not_permitted"),
        (peer("10.1.2.3:80", "spiffe://norg.test/desk2", "desk.test"), "not_permitted"),
        (peer("10.1.2.3:80", "spiffe://norg.test/desk", "other.test"), "not_permitted"),
        (Peer { address: None, ..right.clone() }, "not_permitted"),
        (Peer { uri_san: None, ..right.clone() }, "not_permitted"),
        (Peer { dns_san: None, ..right.clone() }, "not_permitted"),
        (right, "permitted"),
    ] {
        gateway.peer = peer;
        assert_eq!(gateway.send(&request).reason, reason, "{:?}", gateway.peer);
    }
    gateway.peer = Peer { uri_san: Some("spiffe://norg.test/host".to_owned()), ..Peer::default() };
    assert_eq!(gateway.send(&calling("read", &json!({"client_id": "named"}))).reason, "permitted");
    let needs = |gateway: &Gateway| gateway.policy.directory.peer_needs();
    assert_eq!(needs(&gateway), PeerNeeds { address: true, certificate: true });
    let mut anywhere = full();
    anywhere["clients"].as_object_mut().unwrap().retain(|name, _| !["mesh", "named"].contains(&name.as_str()));
    for policy in [policy(), anywhere] {
        assert_eq!(needs(&Gateway::new(policy, Keys::Inline)), PeerNeeds::default());
    }
    let mut named = full();
    named["clients"].as_object_mut().unwrap().retain(|name, _| name != "mesh");
    assert_eq!(needs(&Gateway::new(named, Keys::Inline)), PeerNeeds { address: false, certificate: true });
}

#[test]
fn a_consent_ends_with_its_last_day() {
    let mut gateway = gateway();
    // 2027-01-16T00:00:00Z; the token was issued the day before.
    let end = 1_800_057_600;
    let request = calling("read", &json!({"client_id": "agreed", "age_s": 10, "lifetime_s": 86_400}));
    for (now, reason) in [(NOW, "permitted"), (end - 1, "permitted"), (end, "not_permitted")] {
        gateway.now = UnixSeconds::new(now);
        assert_eq!(gateway.send(&request).reason, reason, "{now}");
    }
}

#[test]
fn a_pinned_tool_is_allowed_as_long_as_it_is_listed_as_it_was_consented_to() {
    let mut gateway = gateway();
    let request = calling("read", &json!({"client_id": "pinned"}));
    let why = |outcome: &Outcome| match &outcome.result {
        Ok(_) => Value::Null,
        Err(reply) => json_body(reply)["error"]["data"]["failing_sides"][0]["reason"].clone(),
    };
    assert_eq!(why(&gateway.send(&request)), "definition_unknown");
    assert!(gateway.definitions.wants("read") && !gateway.definitions.wants("write"));
    gateway.definitions.note("write", [0x0a; 32]);
    assert_eq!(gateway.definitions.seen("write"), None);
    gateway.definitions.note("read", [0x0a; 32]);
    assert_eq!(why(&gateway.send(&request)), Value::Null);
    gateway.definitions.note("read", [0x0b; 32]);
    assert_eq!(why(&gateway.send(&request)), "definition_changed");
    assert_eq!(gateway.send(&calling("read", &json!({}))).reason, "permitted");
}

#[test]
fn those_who_are_cut_off_while_the_gateway_runs_are_refused_from_then_on() {
    let subject =
        |issuer: Option<&str>| RevokedSubject { issuer: issuer.map(str::to_owned), subject: "ann".to_owned() };
    let list = RevocationList::default;
    let text = |text: &str| std::iter::once(text.to_owned()).collect();
    let mut gateway = gateway();
    let request = calling("read", &json!({"act": {"sub": "helper"}}));
    assert_eq!(gateway.send(&request).reason, "permitted");
    for (revoked, details) in [
        (RevocationList { subjects: [subject(None)].into(), ..list() }, "not_permitted{person}"),
        (RevocationList { subjects: [subject(Some(ISSUER))].into(), ..list() }, "not_permitted{person}"),
        (RevocationList { clients: text("desk"), ..list() }, "not_permitted{client}"),
        (RevocationList { agents: text("free"), ..list() }, "not_permitted{agent}"),
        (RevocationList { token_ids: text("t-1"), ..list() }, "token_revoked"),
        (
            RevocationList {
                subjects: [RevokedSubject { issuer: None, subject: "helper".to_owned() }].into(),
                ..list()
            },
            "not_permitted{agent}",
        ),
    ] {
        cut_off(&mut gateway, revoked.clone());
        assert_eq!(gateway.send(&request).reply().code_details(), details, "{revoked:?}");
    }
    for revoked in [
        list(),
        RevocationList { subjects: [subject(Some("https://other.test"))].into(), ..list() },
        RevocationList { clients: text("ann"), agents: text("desk"), token_ids: text("free"), ..list() },
    ] {
        cut_off(&mut gateway, revoked.clone());
        assert_eq!(gateway.send(&request).reason, "permitted", "{revoked:?}");
    }
}

/// Puts a list of those who are cut off in place, as if it had just been fetched.
fn cut_off(gateway: &mut Gateway, list: RevocationList) {
    let mut feed = RevocationFeed::new(Seconds::new(30), Seconds::new(300));
    feed.replace(FetchedList { list: list.into(), etag: None }, gateway.now);
    gateway.revoked = Some(feed);
}

#[test]
fn both_lists_of_those_who_are_cut_off_count() {
    let mut full = full();
    full["revocation"] = json!({"clients": ["desk"]});
    let mut gateway = Gateway::new(full, Keys::Inline);
    cut_off(&mut gateway, RevocationList { agents: ["free".to_owned()].into(), ..RevocationList::default() });
    let outcome = gateway.send(&calling("read", &json!({})));
    assert_eq!(outcome.reply().code_details(), "not_permitted{agent,client}");
}

// --- What the upstream learns -----------------------------------------------------------------------------------------

#[test]
fn the_upstream_learns_tenant_agent_and_roles() {
    let told = |changes: Value| {
        let edits = gateway().send(&calling("read", &changes)).result.unwrap();
        edits
            .all_set()
            .filter(|(name, _)| ["tenant", "agent", "roles"].iter().any(|end| name.ends_with(end)))
            .map(|(name, value)| (name, value.to_owned()))
            .collect()
    };
    let all: Vec<(&str, String)> = told(json!({"tenant_id": "acme é", "roles": ["readers", "writers"]}));
    let expected = [
        ("x-toolgate-tenant", "acme%20%C3%A9".to_owned()),
        ("x-toolgate-agent", "free".to_owned()),
        ("x-toolgate-roles", "reader writer".to_owned()),
    ];
    assert_eq!(all, expected);
    let without: Vec<(&str, String)> = told(json!({}));
    assert_eq!(without.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["x-toolgate-agent", "x-toolgate-roles"]);
}

#[test]
fn roles_that_cannot_be_told_whole_are_not_told() {
    let mut full = full();
    let operator = json!({"match": {"roles": ["writers"]}, "scopes": ["read"]});
    let count = limits::MAX_HEADER_VALUE_BYTES / 100 + 1;
    full["operators"] = (0..count).map(|number| (format!("{number:0100}"), operator.clone())).collect();
    let outcome = Gateway::new(full, Keys::Inline).send(&calling("read", &json!({})));
    assert_eq!(outcome.reason, "identity_too_long");
}

#[test]
fn a_tenant_or_an_agent_role_that_cannot_be_told_whole_is_not_told() {
    let long = "é".repeat(1000);
    let outcome = gateway().send(&calling("read", &json!({"tenant_id": long})));
    assert_eq!(outcome.reason, "identity_too_long");
    let mut full = full();
    full["agents"][&long] = json!({"scopes": ["*"]});
    let outcome = Gateway::new(full, Keys::Inline).send(&calling("read", &json!({"agent_role": long})));
    assert_eq!(outcome.reason, "identity_too_long");
}

// --- The permissions of a caller --------------------------------------------------------------------------------------

/// What a caller is told, and the parts that all callers share left out.
fn told(gateway: &mut Gateway, changes: &Value) -> Value {
    let outcome = gateway.send(&asking(changes));
    assert_eq!((outcome.verdict, outcome.reason), (Verdict::Serve, "permissions"));
    let (status, fields, mut body) = shape(outcome.reply());
    assert_eq!((status, fields), (200, vec![]));
    assert_eq!(header(outcome.reply(), "cache-control"), Some("no-store"));
    let members = body.as_object_mut().unwrap();
    assert_eq!(members.remove("policy").unwrap(), gateway.policy.digest.as_str());
    assert_eq!(members.remove("issuer").unwrap(), ISSUER);
    body
}

#[test]
fn a_caller_is_told_who_it_is_and_what_it_may_do_and_what_it_would_need() {
    let changes = json!({"agent_role": "writing", "tenant_id": "acme", "scope": "read"});
    let missing = json!([{"side": "token", "reason": "missing_scopes", "missing_scopes": ["write"]}]);
    let expected = json!({
        "subject": "ann", "client": "desk", "tenant": "acme", "agent": "writing", "roles": ["writer"], "scopes": ["read"],
        "expires_at": NOW + 590,
        "objections": [],
        "tools": [
            {"name": "maybe", "duties": {"approval": "possible"}},
            {"name": "read"},
            {"name": "recent", "duties": {"step_up": {"max_age": 60}}},
            {"name": "strong", "duties": {"step_up": {"acr_values": ["mfa", "phrh"], "amr_values": ["otp"], "max_age": 900}}},
            {"name": "list_*"},
            {"name": "own"},
        ],
        "resources": [],
        "prompts": [{"name": "brief"}],
        "unavailable": [
            {"tool": "short", "needs": [{"side": "token", "reason": "token_lifetime", "max_lifetime": 300}]},
            {"tool": "write", "needs": missing},
            {"resource": "norg://reports/*", "needs": missing},
        ],
        "truncated": false,
    });
    assert_eq!(told(&mut gateway(), &changes), expected);

    let rich = told(&mut gateway(), &json!({"agent_role": "writing", "lifetime_s": 200}));
    let names = |list: &Value, member: &str| -> Vec<String> {
        list.as_array().unwrap().iter().map(|entry| entry[member].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&rich["resources"], "uri"), ["norg://reports/*"]);
    assert_eq!(rich["resources"][0]["duties"], json!({"approval": "required"}));
    assert_eq!(names(&rich["tools"], "name"), ["maybe", "read", "recent", "short", "strong", "write", "list_*"]);
    assert_eq!((&rich["unavailable"], &rich["tenant"]), (&json!([]), &Value::Null));
}

#[test]
fn a_person_is_told_the_roles_that_would_help() {
    let poor = told(&mut gateway(), &json!({"roles": ["readers"], "agent_role": "reading"}));
    let unavailable = poor["unavailable"].as_array().unwrap();
    let write = unavailable.iter().find(|entry| entry["tool"] == "write").unwrap();
    let needs = json!([
        {"side": "person", "reason": "missing_scopes", "missing_scopes": ["write"], "roles": ["writer"]},
        {"side": "agent", "reason": "missing_scopes", "missing_scopes": ["write"]},
    ]);
    assert_eq!(write["needs"], needs);
}

#[test]
fn a_caller_that_may_do_nothing_is_told_why() {
    let nobody = told(&mut gateway(), &json!({"roles": [], "client_id": "x"}));
    let objections = json!([{"side": "person", "reason": "no_role"}, {"side": "client", "reason": "unknown_client"}]);
    assert_eq!(nobody["objections"], objections);
    assert_eq!([&nobody["tools"], &nobody["resources"], &nobody["prompts"]], [&json!([]); 3]);
    assert_eq!(nobody["unavailable"].as_array().unwrap().len(), 9);
    assert_eq!(nobody["roles"], json!([]));
}

#[test]
fn where_refusals_are_concealed_nothing_is_told_of_what_is_hidden() {
    let mut gateway = concealing();
    let body = told(&mut gateway, &json!({"roles": ["readers"]}));
    assert_eq!(body.get("unavailable"), None);
    for hidden in ["write", "short", "norg", "own"] {
        let text = gateway.send(&asking(&json!({"roles": ["readers"], "scope": "read"}))).reply().body.clone();
        let text = String::from_utf8(text).unwrap();
        assert!(!text.contains(&format!("\"{hidden}")), "{hidden} in {text}");
    }
    assert_eq!(body["tools"].as_array().unwrap().len(), 5);
}

#[test]
fn what_is_told_is_bounded() {
    let mut many = full();
    many["rules"] = json!([{"scopes": [],
        "tools": (0..=limits::MAX_PERMISSIONS).map(|number| format!("tool-{number}")).collect::<Vec<_>>()}]);
    let body = told(&mut Gateway::new(many.clone(), Keys::Inline), &json!({}));
    assert_eq!((body["tools"].as_array().unwrap().len(), &body["truncated"]), (limits::MAX_PERMISSIONS, &json!(true)));
    many["rules"][0]["tools"].as_array_mut().unwrap().pop();
    let body = told(&mut Gateway::new(many, Keys::Inline), &json!({}));
    assert_eq!((body["tools"].as_array().unwrap().len(), &body["truncated"]), (limits::MAX_PERMISSIONS, &json!(false)));
}

#[test]
fn permissions_are_for_those_who_hold_a_good_token() {
    let mut gateway = gateway();
    let good = asking(&json!({}));
    let expired = asking(&json!({"age_s": 3000}));
    for (request, status, reason) in [
        (good.clone(), 200, "permissions"),
        (good.clone().without("authorization"), 401, "no_token"),
        (expired, 401, "token_expired"),
        (good.clone().bearer("a b"), 400, "malformed_authorization"),
        (Request::new("GET", &format!("{PERMISSIONS}?access_token=x")), 400, "token_in_query"),
        (good.clone().without(":path").with(":path", format!("{PERMISSIONS}?x=1")), 400, "unexpected_query"),
        (good.clone().without(":path").with(":path", "/.well-known/toolgate-permissions"), 404, "unknown_path"),
        (good.clone().without(":path").with(":path", "/.well-known/toolgate-permissions/mcp/"), 404, "unknown_path"),
        (good.clone().without(":path").with(":path", "/.well-known/toolgate-permissions/other"), 404, "unknown_path"),
        (good.with("origin", "https://evil.test"), 403, "origin_not_allowed"),
    ] {
        let outcome = gateway.send(&request);
        assert_eq!((outcome.reply().status, outcome.reason), (status, reason), "{request:?}");
    }
    for method in ["POST", "DELETE", "PUT", "HEAD", "OPTIONS"] {
        let outcome = gateway.send(&asking(&json!({})).without(":method").with(":method", method));
        assert_eq!(shape(outcome.reply()), (405, vec![("allow", "GET")], Value::Null), "{method}");
    }
}

#[test]
fn a_page_of_an_allowed_origin_may_ask_for_permissions() {
    let mut gateway = gateway();
    let outcome = gateway.send(&asking(&json!({})).with("origin", "https://app.test"));
    assert_eq!(header(outcome.reply(), "access-control-allow-origin"), Some("https://app.test"));
    assert_eq!(header(outcome.reply(), "vary"), Some("origin"));
    let preflight = Request::new("OPTIONS", PERMISSIONS)
        .with("origin", "https://app.test")
        .with("access-control-request-method", "GET")
        .with("access-control-request-headers", "authorization");
    let outcome = gateway.send(&preflight);
    assert_eq!((outcome.verdict, outcome.reply().status), (Verdict::Serve, 204));
    assert!(header(outcome.reply(), "access-control-allow-headers").unwrap().contains("authorization"));
}

#[test]
fn who_asks_for_permissions_waits_for_keys() {
    let mut gateway = Gateway::new(full(), Keys::NotFetched);
    let request = asking(&json!({}));
    let mut run = gateway.begin();
    let (flow, commands) = run.headers(&request);
    assert_eq!(flow, Flow::Hold);
    assert!(matches!(commands[..], [Command::Await(_)]), "{commands:?}");
    let now = run.gateway.now;
    assert!(run.gateway.keys.install(IssuerIndex::new(0), key_set(&issuer::jwks()), now));
    let mut commands = run.handle(Event::Settled).1;
    commands.extend(run.complete(b"").1);
    let outcome = Outcome::of(commands);
    assert_eq!((outcome.reason, outcome.reply().status), ("permissions", 200));
    assert_eq!(header(outcome.reply(), "x-toolgate-decision"), Some(ID.to_string().as_str()));
}

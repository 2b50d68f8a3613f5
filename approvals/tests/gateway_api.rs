//! The gateways' API as a gateway meets it: the real server, over HTTP.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "each test needs a part of it")]
mod support;

use std::time::Duration;

use jwt_simple::prelude::{Ed25519PublicKey, EdDSAPublicKeyLike as _, VerificationOptions};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;
use toolgate_approvals::domain::Choice;

use support::database::{Database, Which};
use support::{AUDIENCE, OTHER_TOKEN, Service, Setup, TOKEN, answer, approver, ballot, binding, nonce, request};

fn start() -> (Database, Setup, Service) {
    let database = Database::new(Which::Sqlite).unwrap();
    let setup = Setup::new(&database.url);
    let service = setup.serve();
    (database, setup, service)
}

async fn create(service: &Service, number: u64) -> String {
    let (status, state) = answer(service.post("/v1/approvals", &request(number))).await;
    assert_eq!((status, &state["state"]), (201, &json!("pending")), "{state}");
    state["id"].as_str().unwrap().to_owned()
}

/// Claims of a JWS, when a published key has signed it.
async fn verified(service: &Service, jws: &str) -> Value {
    let (_, keys) = answer(service.request(Method::GET, "/.well-known/jwks.json")).await;
    let key = Ed25519PublicKey::from_jwk(&keys["keys"][0].to_string()).unwrap();
    let options = VerificationOptions {
        required_signature_type: Some("approval+jwt".to_owned()),
        required_key_id: Some("a1".to_owned()),
        allowed_issuers: Some(["https://approvals.test".to_owned()].into()),
        allowed_audiences: Some([AUDIENCE.to_owned()].into()),
        ..VerificationOptions::default()
    };
    serde_json::to_value(key.verify_token::<Value>(jws, Some(options)).unwrap()).unwrap()
}

#[tokio::test]
async fn a_call_is_held_approved_and_let_through() {
    let (_database, setup, service) = start();
    let approvals = setup.open().await;
    let held = service.post("/v1/approvals", &request(1)).header("prefer", "wait=30");
    let deciding = async {
        let found = loop {
            let views = approvals.inbox(&approver(), &Default::default()).await.unwrap();
            if let Some(view) = views.into_iter().next() {
                break view;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        approvals.vote(&approver(), &found.id, ballot(Choice::Approve)).await.unwrap().unwrap();
        Instant::now()
    };
    let ((status, state), decided_at) = tokio::join!(answer(held), deciding);
    assert!(decided_at.elapsed() < Duration::from_secs(3));
    assert_eq!((status, &state["state"], state.get("decision")), (201, &json!("approved"), None));

    let path = format!("/v1/approvals/{}/consume", state["id"].as_str().unwrap());
    let consumption = json!({"binding": binding(1), "nonce": nonce(1), "step": 0});
    let (status, body) = answer(service.post(&path, &consumption)).await;
    assert_eq!(status, 200);
    let claims = verified(&service, body["grant"].as_str().unwrap()).await;
    assert_eq!(
        (&claims["status"], &claims["nonce"], &claims["step"]),
        (&json!("approved"), &json!(nonce(1)), &json!(0))
    );
    assert_eq!((&claims["approval_id"], &claims["binding"]), (&state["id"], &json!(binding(1))));
    let another = json!({"binding": binding(1), "nonce": nonce(2), "step": 0});
    let (status, problem) = answer(service.post(&path, &another)).await;
    assert_eq!((status, &problem["code"], &problem["status"]), (409, &json!("used"), &json!(409)));
}

#[tokio::test]
async fn a_rejection_is_signed_and_says_why() {
    let (_database, setup, service) = start();
    let id = create(&service, 1).await;
    setup.open().await.vote(&approver(), &id, ballot(Choice::Reject)).await.unwrap().unwrap();
    let (status, state) = answer(service.get(&format!("/v1/approvals/{id}?binding={}", binding(1)))).await;
    assert_eq!((status, &state["state"]), (200, &json!("rejected")));
    let claims = verified(&service, state["decision"].as_str().unwrap()).await;
    assert_eq!((&claims["status"], &claims["reason"]), (&json!("rejected"), &json!("because")));
    let (status, again) = answer(service.post("/v1/approvals", &request(1))).await;
    assert_eq!((status, &again["id"]), (200, &json!(id)));
}

#[tokio::test]
async fn what_expires_while_it_is_waited_for_is_told_at_once() {
    let (_database, _setup, service) = start();
    let mut short = request(1);
    short["expires_in"] = json!(1);
    let began = Instant::now();
    let (status, state) = answer(service.post("/v1/approvals", &short).header("prefer", "wait=40")).await;
    assert_eq!((status, &state["state"]), (201, &json!("expired")));
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(verified(&service, state["decision"].as_str().unwrap()).await["status"], "expired");
    // It was told: asking again asks people again.
    assert_eq!(answer(service.post("/v1/approvals", &short)).await.0, 201);
}

#[tokio::test]
async fn only_gateways_are_served_and_each_for_its_audience() {
    let (_database, _setup, service) = start();
    let id = create(&service, 1).await;
    let look = format!("/v1/approvals/{id}?binding={}", binding(1));
    let credentials =
        [None, Some(format!("Bearer {TOKEN}x")), Some(format!("Basic {TOKEN}")), Some("Bearer ".to_owned())];
    for credential in credentials {
        let mut request = service.request(Method::GET, &look);
        if let Some(credential) = &credential {
            request = request.header("authorization", credential);
        }
        let (status, problem) = answer(request).await;
        assert_eq!((status, &problem["code"]), (401, &json!("unauthorized")), "{credential:?}");
    }
    // Whatever the body is: it is not looked at.
    let stranger = service.request(Method::POST, "/v1/approvals").body("{");
    assert_eq!(answer(stranger).await.0, 401);

    let body = request(1).to_string();
    let other = service.request(Method::POST, "/v1/approvals").bearer_auth(OTHER_TOKEN).body(body);
    let (status, problem) = answer(other.header("content-type", "application/json")).await;
    assert_eq!((status, &problem["code"]), (403, &json!("audience")));

    // Unknown, another binding, another's: one answer.
    let unknown = format!("/v1/approvals/{}?binding={}", "0".repeat(32), binding(1));
    let another = format!("/v1/approvals/{id}?binding={}", binding(2));
    let strange = service.request(Method::GET, &look).bearer_auth(OTHER_TOKEN);
    let answers = [
        answer(service.get(&unknown)).await,
        answer(service.get(&another)).await,
        answer(strange).await,
        answer(service.get(&format!("/v1/approvals/%00?binding={}", binding(1)))).await,
    ];
    for each in &answers {
        assert_eq!(each, &answers[0]);
        assert_eq!((each.0, &each.1["code"]), (404, &json!("not_found")));
    }
}

/// Requests that are not what the contract says.
fn malformed() -> Vec<String> {
    let set = |pointer: &str, value: Value| {
        let mut changed = request(1);
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        changed.pointer_mut(parent).unwrap()[name] = value;
        changed.to_string()
    };
    let without = |name: &str| {
        let mut changed = request(1);
        changed.as_object_mut().unwrap().remove(name);
        changed.to_string()
    };
    let requirement = json!({"gate": "rule", "name": "r", "approvers": ["a"], "count": 1});
    vec![
        String::new(),
        "{".to_owned(),
        "[]".to_owned(),
        "null".to_owned(),
        format!("{} x", request(1)),
        without("binding"),
        without("requester"),
        without("requirements"),
        set("/unknown", json!(1)),
        set("/requester/unknown", json!(1)),
        set("/call/unknown", json!(1)),
        set("/binding", json!("A".repeat(64))),
        set("/binding", json!("a".repeat(63))),
        set("/policy", json!("")),
        set("/decision_id", json!("c".repeat(64))),
        set("/audience", json!("")),
        set("/requester/subject", json!("a\u{0}b")),
        set("/requester/subject", json!("x".repeat(513))),
        set("/call/kind", json!("root")),
        set("/call/name", json!("a\nb")),
        set("/call/arguments", json!({"/a": [1]})),
        set("/call/arguments", json!({"/a": {"b": 1}})),
        set("/call/arguments", json!({"/a": null})),
        set("/call/arguments", json!({"a": 1})),
        set("/call/purpose", json!("x".repeat(5000))),
        set("/expires_in", json!(0)),
        set("/expires_in", json!(86401)),
        set("/expires_in", json!(1.5)),
        set("/expires_in", json!("600")),
        set("/requirements", json!([])),
        set("/requirements", Value::Array(vec![requirement.clone(); 33])),
        set("/requirements/0/count", json!(0)),
        set("/requirements/0/count", json!(11)),
        set("/requirements/0/approvers", json!([])),
        set("/requirements/0/gate", json!("door")),
        set("/requirements/0/escalate", json!({"after": 1})),
        set("/requirements/0/escalate", json!({"after": 1, "approvers": []})),
        set("/reason_required", json!("no")),
        request(1).to_string().replacen("\"/channel\":\"sms\"", "\"/channel\":\"sms\",\"/channel\":\"mail\"", 1),
        request(1).to_string().replacen("\"policy\":", "\"policy\":\"\",\"policy\":", 1),
    ]
}

#[tokio::test]
async fn what_is_not_in_the_contract_is_refused() {
    let (_database, _setup, service) = start();
    for case in malformed() {
        let request = service.request(Method::POST, "/v1/approvals").bearer_auth(TOKEN);
        let response = request.header("content-type", "application/json").body(case.clone()).send().await.unwrap();
        let (status, kind) = (response.status().as_u16(), response.headers()["content-type"].clone());
        let problem: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        assert_eq!((status, &problem["code"], &problem["status"]), (400, &json!("malformed"), &json!(400)), "{case}");
        assert_eq!(kind, "application/problem+json");
        assert!(problem["title"].is_string() && problem["detail"].is_string());
    }
    let long = "x".repeat(70_000);
    let post = || service.request(Method::POST, "/v1/approvals").bearer_auth(TOKEN);
    let json_type = ("content-type", "application/json");
    assert_eq!(answer(post().header(json_type.0, json_type.1).body(long)).await.0, 413);
    assert_eq!(answer(post().header("content-type", "text/plain").body(request(1).to_string())).await.0, 415);
    assert_eq!(answer(service.request(Method::PUT, "/v1/approvals").bearer_auth(TOKEN)).await.0, 405);
    assert_eq!(answer(service.get("/v2/approvals")).await.0, 404);
    // Nothing of all this has left anything.
    assert!(answer(service.get("/metrics")).await.1.as_str().unwrap().contains("toolgate_approvals_pending 0"));
}

#[tokio::test]
async fn other_requests_are_strict_too() {
    let (_database, _setup, service) = start();
    let id = create(&service, 1).await;
    let (look, consume) = (format!("/v1/approvals/{id}"), format!("/v1/approvals/{id}/consume"));
    for query in ["", "?binding=x", "?binding=", "?other=1"] {
        assert_eq!(answer(service.get(&format!("{look}{query}"))).await.0, 400, "{query}");
    }
    let more = format!("{look}?binding={}&more=1", binding(1));
    assert_eq!(answer(service.get(&more)).await.0, 400);
    let bodies = [
        json!({"binding": binding(1), "nonce": nonce(1)}),
        json!({"binding": binding(1), "nonce": "x", "step": 0}),
        json!({"binding": binding(1), "nonce": nonce(1), "step": -1}),
        json!({"binding": binding(1), "nonce": nonce(1), "step": "0"}),
        json!({"binding": "x", "nonce": nonce(1), "step": 0}),
        json!({"binding": binding(1), "nonce": nonce(1), "step": 0, "force": true}),
    ];
    for body in bodies {
        assert_eq!(answer(service.post(&consume, &body)).await.0, 400, "{body}");
    }
    let right = json!({"binding": binding(1), "nonce": nonce(1), "step": 0});
    let (status, problem) = answer(service.post(&consume, &right)).await;
    assert_eq!((status, &problem["code"]), (409, &json!("not_approved")));

    let cancel = format!("/v1/approvals/{id}/cancel");
    assert_eq!(answer(service.post(&cancel, &json!({"binding": binding(2)}))).await.0, 404);
    let (status, state) = answer(service.post(&cancel, &json!({"binding": binding(1)}))).await;
    assert_eq!((status, &state["state"]), (200, &json!("cancelled")));
    assert_eq!(verified(&service, state["decision"].as_str().unwrap()).await["status"], "cancelled");
    let (status, problem) = answer(service.post(&consume, &right)).await;
    assert_eq!((status, &problem["code"]), (410, &json!("cancelled")));
}

#[tokio::test]
async fn many_ask_for_the_same_call_at_once() {
    let (_database, _setup, service) = start();
    let body = request(1);
    let requests = (0..30).map(|_| answer(service.post("/v1/approvals", &body)));
    let answers = futures_util::future::join_all(requests).await;
    assert_eq!(answers.iter().filter(|(status, _)| *status == 201).count(), 1);
    assert!(answers.iter().all(|(_, state)| state["id"] == answers[0].1["id"]));
}

#[tokio::test]
async fn fifty_consume_at_once_and_one_gets_the_grant() {
    let (_database, setup, service) = start();
    let second = setup.serve();
    let id = create(&service, 1).await;
    setup.open().await.vote(&approver(), &id, ballot(Choice::Approve)).await.unwrap().unwrap();
    let path = format!("/v1/approvals/{id}/consume");
    let requests = (0..50).map(|number| {
        let service = if number % 2 == 0 { &service } else { &second };
        answer(service.post(&path, &json!({"binding": binding(1), "nonce": nonce(number), "step": 0})))
    });
    let answers = futures_util::future::join_all(requests).await;
    let granted: Vec<_> = answers.iter().filter(|(status, _)| *status == 200).collect();
    assert_eq!(granted.len(), 1);
    assert!(answers.iter().all(|(status, body)| *status == 200 || body["code"] == "used"));
    // Whoever got it gets it again, from either.
    let nonce = verified(&service, granted[0].1["grant"].as_str().unwrap()).await["nonce"].clone();
    let again = json!({"binding": binding(1), "nonce": nonce, "step": 0});
    assert_eq!(answer(second.post(&path, &again)).await.0, 200);
}

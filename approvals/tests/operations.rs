//! Running the service: keys, stopping, checking, messages.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "each test needs a part of it")]
mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use hmac_sha256::HMAC;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;
use toolgate_approvals::domain::Choice;
use toolgate_approvals::signing::{KeyKind, generate};

use support::database::{Database, Which};
use support::{Setup, TOKEN, answer, approver, ballot, binding, nonce, request};

#[tokio::test]
async fn a_signal_answers_what_waits_and_ends_it() {
    for signal in ["TERM", "INT"] {
        let database = Database::new(Which::Sqlite).unwrap();
        let service = Setup::new(&database.url).serve();
        let held = service.post("/v1/approvals", &request(1)).header("prefer", "wait=50");
        let stopping = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            service.signal(signal);
        };
        let began = Instant::now();
        let ((status, state), ()) = tokio::join!(answer(held), stopping);
        assert_eq!((status, &state["state"]), (201, &json!("pending")));
        let (status, log) = service.ended();
        assert!(status.success() && began.elapsed() < Duration::from_secs(8), "{status} {log}");
        assert!(!log.contains(TOKEN) && !log.contains("send_message") && !log.contains("sms"), "{log}");
    }
}

#[tokio::test]
async fn keys_are_changed_without_a_gap() {
    let database = Database::new(Which::Sqlite).unwrap();
    let mut setup = Setup::new(&database.url);
    generate(KeyKind::P256, "b2", &setup.directory().join("b2.pem")).unwrap();
    setup.set("signing_keys", json!([{"kid": "b2", "file": "b2.pem"}, {"kid": "a1", "file": "a1.pem"}]));
    let service = setup.serve();
    let (_, keys) = answer(service.request(Method::GET, "/.well-known/jwks.json")).await;
    let described: Vec<_> =
        keys["keys"].as_array().unwrap().iter().map(|key| [&key["kid"], &key["alg"], &key["kty"]]).collect();
    assert_eq!(
        described,
        [[&json!("b2"), &json!("ES256"), &json!("EC")], [&json!("a1"), &json!("EdDSA"), &json!("OKP")]]
    );
    assert!(keys["keys"].as_array().unwrap().iter().all(|key| key.get("d").is_none()), "a private key");

    let (_, state) = answer(service.post("/v1/approvals", &request(1))).await;
    let cancel = format!("/v1/approvals/{}/cancel", state["id"].as_str().unwrap());
    let (_, state) = answer(service.post(&cancel, &json!({"binding": binding(1)}))).await;
    use jwt_simple::prelude::{ECDSAP256PublicKeyLike as _, ES256PublicKey};
    let key = ES256PublicKey::from_jwk(&keys["keys"][0].to_string()).unwrap();
    assert!(key.verify_token::<Value>(state["decision"].as_str().unwrap(), None).is_ok());
}

#[tokio::test]
async fn health_and_metrics_need_no_credential() {
    let database = Database::new(Which::Sqlite).unwrap();
    let service = Setup::new(&database.url).serve();
    answer(service.post("/v1/approvals", &request(1))).await;
    for path in ["/healthz", "/readyz", "/metrics"] {
        let (status, body) = answer(service.request(Method::GET, path)).await;
        assert_eq!(status, 200, "{path} {body}");
    }
    let (_, text) = answer(service.request(Method::GET, "/metrics")).await;
    let text = text.as_str().unwrap();
    assert!(text.contains("toolgate_approvals_events_total{event=\"created\"} 1"), "{text}");
    assert!(text.contains("route=\"POST /v1/approvals\",status=\"201\"} 1"), "{text}");
}

#[tokio::test]
async fn what_cannot_be_used_is_said_and_not_started() {
    let database = Database::new(Which::Sqlite).unwrap();
    let cases = [
        ("public_url", json!("http://approvals.test")),
        ("public_url", json!("https://approvals.test/path")),
        ("signing_keys", json!([])),
        ("signing_keys", json!([{"kid": "a1", "file": "missing.pem"}])),
        ("gateways", json!([{"name": "edge", "token_env": "MISSING", "audiences": ["a"]}])),
        ("gateways", json!([{"name": "edge", "token_env": "EDGE_TOKEN", "audiences": []}])),
        ("retention", json!("1d")),
        ("retention", json!(90)),
        ("webhooks", json!([{"url": "http://hooks.example/"}])),
        ("webhooks", json!([{"url": "https://hooks.example/"}, {"url": "https://hooks.example/"}])),
        ("pending_per_requester", json!(0)),
        ("unknown", json!(1)),
    ];
    for (name, value) in cases {
        let mut setup = Setup::new(&database.url);
        setup.set(name, value.clone());
        let output = setup.command(&["serve"]);
        assert_eq!(output.status.code(), Some(2), "{name} {value}");
        assert!(!output.stderr.is_empty());
    }
}

#[tokio::test]
async fn the_history_is_checked_by_a_command() {
    let database = Database::new(Which::Sqlite).unwrap();
    let setup = Setup::new(&database.url);
    let service = setup.serve();
    answer(service.post("/v1/approvals", &request(1))).await;
    let output = setup.command(&["verify-history"]);
    assert!(output.status.success());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let head = format!("{}:{}", report["head"]["seq"], report["head"]["hash"].as_str().unwrap());
    answer(service.post("/v1/approvals", &request(2))).await;
    assert!(setup.command(&["verify-history", "--known", &head]).status.success());
    let forged = format!("1:{}", "0".repeat(64));
    assert_eq!(setup.command(&["verify-history", "--known", &forged]).status.code(), Some(1));
}

type Received = Arc<Mutex<Vec<(HeaderMap, String)>>>;

/// Takes messages, but refuses the first ones.
async fn receiver(refuses: usize) -> (String, Received) {
    let received = Received::default();
    let take = async move |State(received): State<Received>, headers: HeaderMap, body: String| {
        let mut received = received.lock().unwrap();
        received.push((headers, body));
        if received.len() <= refuses { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::NO_CONTENT }
    };
    let router = Router::new().route("/hook", post(take)).with_state(Arc::clone(&received));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url, received)
}

async fn until(received: &Received, count: usize) -> Vec<(HeaderMap, String)> {
    for _ in 0..300 {
        if received.lock().unwrap().len() >= count {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let received = received.lock().unwrap().clone();
    assert_eq!(received.len(), count, "{received:?}");
    received
}

#[tokio::test]
async fn messages_are_signed_and_tried_again() {
    let database = Database::new(Which::Sqlite).unwrap();
    let (url, received) = receiver(1).await;
    let mut setup = Setup::new(&database.url);
    setup.set(
        "webhooks",
        json!([{"name": "chat", "url": url, "secret_env": "HOOK_SECRET", "events": ["created", "decided"]}]),
    );
    let service = setup.serve();
    let mut injected = request(1);
    injected["call"]["name"] = json!("<!channel> & <https://evil.example|click>");
    injected["call"]["purpose"] = json!("*trust* `me`");
    answer(service.post("/v1/approvals", &injected)).await;
    // Refused once, and taken five seconds later.
    let all = until(&received, 2).await;
    assert_eq!(all[0].1, all[1].1);
    assert_eq!(all[0].0["x-toolgate-delivery"], all[1].0["x-toolgate-delivery"]);
    let (headers, body) = &all[1];
    let signature = headers["x-toolgate-signature"].to_str().unwrap();
    let (time, mac) = signature.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
    let expected = HMAC::mac(format!("{time}.{body}"), "hook-secret-0123456789");
    assert_eq!(mac, expected.iter().map(|byte| format!("{byte:02x}")).collect::<String>());

    let message: Value = serde_json::from_str(body).unwrap();
    let text = message["text"].as_str().unwrap();
    assert!(text.contains("&lt;!channel&gt; &amp; &lt;https:"), "{text}");
    assert!(!text.contains("<!") && !body.contains("https://evil") && message["blocks"].is_array(), "{body}");
    assert!(!body.contains("sms"), "arguments are not for chat: {body}");
    let id = message["approval"]["id"].as_str().unwrap();
    assert_eq!(message["approval"]["url"], format!("https://approvals.test/approvals/{id}"));

    answer(service.post(&format!("/v1/approvals/{id}/cancel"), &json!({"binding": binding(1)}))).await;
    let all = until(&received, 3).await;
    assert!(all[2].1.contains("\"state\":\"cancelled\""));
}

#[tokio::test]
async fn a_receiver_that_does_not_answer_delays_no_other() {
    let database = Database::new(Which::Sqlite).unwrap();
    let (url, received) = receiver(0).await;
    // It accepts connections, and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_url = format!("http://{}/hook", silent.local_addr().unwrap());
    let mut setup = Setup::new(&database.url);
    setup.set("webhooks", json!([{"name": "a-silent", "url": silent_url}, {"name": "chat", "url": url}]));
    let service = setup.serve();
    answer(service.post("/v1/approvals", &request(1))).await;
    until(&received, 1).await;
    let began = Instant::now();
    answer(service.post("/v1/approvals", &request(2))).await;
    until(&received, 2).await;
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
}

#[tokio::test]
async fn dead_letters_are_kept_listed_and_tried_again() {
    let database = Database::new(Which::Sqlite).unwrap();
    let (url, received) = receiver(0).await;
    let mut setup = Setup::new(&database.url);
    setup.set("webhooks", json!([{"name": "gone", "url": url}]));
    let service = setup.serve();
    answer(service.post("/v1/approvals", &request(1))).await;
    until(&received, 1).await;
    service.kill();
    // Nobody sends to the new name what was meant for the old one.
    let pool = sqlx_pool(&database).await;
    let letter = "INSERT INTO outbox (seq, hook, body, created_at, attempts, next_at, dead) VALUES (1, $1, '{}', 4102444800, 0, 1, 0)";
    sqlx::query(letter).bind("renamed").execute(&pool).await.unwrap();
    let service = setup.serve();
    let list = || {
        let output = setup.command(&["dead-letters", "list"]);
        String::from_utf8(output.stdout).unwrap()
    };
    for _ in 0..100 {
        if !list().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let listed: Value = serde_json::from_str(&list()).unwrap();
    assert_eq!((&listed["hook"], &listed["seq"]), (&json!("renamed"), &json!(1)));
    assert!(listed.get("body").is_none());
    service.kill();
    let output = setup.command(&["dead-letters", "retry"]);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "1 will be tried again\n");
    assert_eq!(list(), "");
}

async fn sqlx_pool(database: &Database) -> sqlx::AnyPool {
    sqlx::any::install_default_drivers();
    sqlx::AnyPool::connect(&database.url).await.unwrap()
}

#[tokio::test]
async fn one_process_decides_and_the_other_answers() {
    let Some(database) = Database::new(Which::Postgres) else { return };
    let setup = Setup::new(&database.url);
    let (first, second) = (setup.serve(), setup.serve());
    let (_, state) = answer(first.post("/v1/approvals", &request(1))).await;
    let id = state["id"].as_str().unwrap();
    let path = format!("/v1/approvals/{id}?binding={}", binding(1));
    let held = second.get(&path).header("prefer", "wait=30");
    let approvals = setup.open().await;
    let voting = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        approvals.vote(&approver(), id, ballot(Choice::Approve)).await.unwrap().unwrap();
        Instant::now()
    };
    let ((_, state), voted_at) = tokio::join!(answer(held), voting);
    assert_eq!(state["state"], "approved");
    assert!(voted_at.elapsed() < Duration::from_secs(3));
    let consumption = json!({"binding": binding(1), "nonce": nonce(1), "step": 0});
    assert_eq!(answer(first.post(&format!("/v1/approvals/{id}/consume"), &consumption)).await.0, 200);
}

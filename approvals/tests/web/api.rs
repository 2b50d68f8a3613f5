//! The approvers' API.

use reqwest::{RequestBuilder, StatusCode};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::site::Site;

async fn send(request: RequestBuilder) -> (StatusCode, Value) {
    let answer = request.send().await.unwrap();
    let status = answer.status();
    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    assert_eq!(kind, if status.is_success() { "application/json" } else { "application/problem+json" });
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    if !status.is_success() {
        assert_eq!(body["status"], status.as_u16());
    }
    (status, body)
}

async fn get(site: &Site, path: &str, token: &str) -> (StatusCode, Value) {
    send(reqwest::Client::new().get(format!("{}{path}", site.origin)).bearer_auth(token)).await
}

async fn decide(site: &Site, id: &str, token: &str, body: &str) -> (StatusCode, Value) {
    let request = reqwest::Client::new().post(format!("{}/v1/inbox/{id}/decision", site.origin)).bearer_auth(token);
    send(request.header("content-type", "application/json").body(body.to_owned())).await
}

#[tokio::test]
async fn a_person_lists_shows_and_decides() {
    let site = Site::start().await;
    let id = site.ask(json!({})).await;
    let token = site.provider.access_token(&json!({}));
    let (status, list) = get(&site, "/v1/inbox?state=pending&tool=send_message&limit=1", &token).await;
    assert_eq!((status, &list["approvals"][0]["id"]), (StatusCode::OK, &json!(id)));
    let (_, rest) = get(&site, &format!("/v1/inbox?before={}", list["next"]), &token).await;
    assert_eq!(rest, json!({"approvals": []}));
    let (_, view) = get(&site, &format!("/v1/inbox/{id}"), &token).await;
    assert_eq!(
        (&view["state"], &view["may_decide"], &view["requirements"][0]["met"]),
        (&json!("pending"), &json!(true), &json!(0))
    );
    assert_eq!(view["history"][0]["event"], "created");
    let (status, view) = decide(&site, &id, &token, r#"{"decision":"approve","reason":"fine"}"#).await;
    assert_eq!(
        (status, &view["state"], &view["votes"][0]["sub"]),
        (StatusCode::OK, &json!("approved"), &json!("approver"))
    );
    let (status, problem) = decide(&site, &id, &token, r#"{"decision":"reject"}"#).await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("decided")));
}

#[tokio::test]
async fn who_cannot_decide_is_told_why() {
    let site = Site::start().await;
    let id = site.ask(json!({"reason_required": true})).await;
    let approve = r#"{"decision":"approve","reason":"x"}"#;
    for (claims, body, status, code) in [
        (json!({"sub": "scheduler"}), approve, StatusCode::FORBIDDEN, "requester"),
        (json!({"roles": ["others"]}), approve, StatusCode::NOT_FOUND, "not_found"),
        (json!({"roles": null}), approve, StatusCode::NOT_FOUND, "not_found"),
        (json!({}), r#"{"decision":"approve"}"#, StatusCode::UNPROCESSABLE_ENTITY, "reason_required"),
        (json!({}), r#"{"decision":"maybe"}"#, StatusCode::BAD_REQUEST, "malformed"),
        (json!({}), r#"{"decision":"approve","x":1}"#, StatusCode::BAD_REQUEST, "malformed"),
        (json!({}), "[", StatusCode::BAD_REQUEST, "malformed"),
        (json!({}), &" ".repeat(70_000), StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
    ] {
        let token = site.provider.access_token(&claims);
        let (found, problem) = decide(&site, &id, &token, body).await;
        assert_eq!((found, &problem["code"]), (status, &json!(code)), "{claims} {problem}");
    }
    let token = site.provider.access_token(&json!({}));
    let (status, _) = get(&site, "/v1/inbox/AAAAAAAAAAAAAAAAAAAAAA", &token).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    for query in ["state=open", "limit=0", "limit=101", "before=x", "colour=red"] {
        assert_eq!(get(&site, &format!("/v1/inbox?{query}"), &token).await.0, StatusCode::BAD_REQUEST, "{query}");
    }
}

#[tokio::test]
async fn tokens_that_are_not_of_a_person_through_a_known_client_are_refused() {
    let site = Site::start().await;
    for claims in [
        json!({"aud": "https://mcp.example/mcp"}),
        json!({"client_id": "agent-client"}),
        json!({"client_id": null}),
        json!({"act": {"sub": "agent"}}),
        json!({"act": {}}),
        json!({"sub": "approvals-cli"}),
        json!({"exp": 1_000_000}),
        // For longer than a sign-in holds.
        json!({"exp": OffsetDateTime::now_utc().unix_timestamp() + 3700}),
        json!({"iss": "https://evil.example"}),
        json!({"cnf": {"jkt": "x"}}),
    ] {
        let token = site.provider.access_token(&claims);
        let (status, problem) = get(&site, "/v1/inbox", &token).await;
        assert_eq!((status, &problem["code"]), (StatusCode::UNAUTHORIZED, &json!("invalid_token")), "{claims}");
    }
    let (status, _) = get(&site, "/v1/inbox", &format!("{}x", site.provider.access_token(&json!({})))).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let plain = reqwest::Client::new().get(format!("{}/v1/inbox", site.origin));
    assert_eq!(send(plain.try_clone().unwrap()).await.1["code"], "unauthorized");
    // A session is no token, and no site can make a browser send one.
    let browser = site.browser_of("approver", &["approvers"]).await;
    let cookie = format!("approvals={}", browser.cookies["approvals"]);
    assert_eq!(send(plain.header("cookie", cookie)).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn new_keys_are_fetched_for_tokens_too() {
    let site = Site::start().await;
    assert_eq!(get(&site, "/v1/inbox", &site.provider.access_token(&json!({}))).await.0, StatusCode::OK);
    site.provider.rotate();
    assert_eq!(get(&site, "/v1/inbox", &site.provider.access_token(&json!({}))).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_key_that_was_withdrawn_is_noticed_for_tokens_too() {
    let site = Site::start().await;
    let token = site.provider.access_token(&json!({"exp": site.clock.now() + 1800}));
    assert_eq!(get(&site, "/v1/inbox", &token).await.0, StatusCode::OK);
    site.provider.withdraw();
    assert_eq!(get(&site, "/v1/inbox", &token).await.0, StatusCode::OK);
    site.clock.advance(301);
    assert_eq!(get(&site, "/v1/inbox", &token).await.1["code"], "invalid_token");
}

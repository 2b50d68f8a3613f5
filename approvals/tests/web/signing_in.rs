//! Signing in, and all that must not sign anybody in.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::provider::Behaviour;
use crate::site::{Answer, Site};

/// Nobody has been signed in by this answer.
fn assert_refused(answer: &Answer, case: &str) {
    assert!(answer.status.is_client_error() || answer.status == StatusCode::BAD_GATEWAY, "{case}: {}", answer.status);
    assert!(!answer.headers.get_all("set-cookie").iter().any(|cookie| {
        let cookie = cookie.to_str().unwrap();
        cookie.starts_with("approvals=") && !cookie.starts_with("approvals=;")
    }));
    assert!(answer.body.contains("You were not signed in"), "{case}: {}", answer.body);
}

#[tokio::test]
async fn a_link_leads_through_signing_in_and_back() {
    let site = Site::start().await;
    let id = site.ask(json!({})).await;
    let mut browser = site.browser();
    let page = format!("/approvals/{id}");
    let signed_out = browser.get(&page).await;
    assert_eq!(signed_out.status, StatusCode::UNAUTHORIZED);
    assert!(signed_out.body.contains(&format!("/sign-in?next=%2Fapprovals%2F{id}")), "{}", signed_out.body);
    assert!(!signed_out.body.contains("send_message"));
    let back = browser.sign_in(&page).await;
    assert_eq!((back.status, back.location()), (StatusCode::SEE_OTHER, &*page));
    let opened = browser.get(&page).await;
    assert_eq!(opened.status, StatusCode::OK);
    assert!(opened.body.contains("send_message") && opened.body.contains("The approver"));
}

#[tokio::test]
async fn cookies_are_sealed_and_kept_from_scripts() {
    let site = Site::start().await;
    let mut browser = site.browser();
    let answer = browser.sign_in("/approvals").await;
    let cookie = answer.headers.get_all("set-cookie").iter().next().unwrap().to_str().unwrap();
    assert!(cookie.starts_with("approvals=") && cookie.contains("; HttpOnly; SameSite=Lax"), "{cookie}");
    assert!(!browser.cookies.contains_key("approvals-sign-in"));
    let sealed = browser.cookies["approvals"].clone();
    for changed in [sealed[..sealed.len() - 2].to_owned(), sealed.replacen('.', ".A", 1), String::from("x")] {
        browser.cookies.insert("approvals".to_owned(), changed);
        assert_eq!(browser.get("/approvals").await.status, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn tokens_that_are_wrong_sign_nobody_in() {
    let site = Site::start().await;
    let wrong: [(&str, Value); 8] = [
        ("nonce", json!({"nonce": "another"})),
        ("no nonce", json!({"nonce": null})),
        ("issuer", json!({"iss": "https://evil.example"})),
        ("audience", json!({"aud": "another"})),
        ("two audiences", json!({"aud": ["approvals", "another"]})),
        ("expired", json!({"exp": 1_000_000})),
        ("old", json!({"iat": 1_000_000})),
        ("no subject", json!({"sub": null})),
    ];
    for (case, claims) in wrong {
        let mut behaviour = Behaviour::person("approver", &["approvers"]);
        behaviour.id_token.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        site.provider.behave(behaviour);
        assert_refused(&site.browser().sign_in("/approvals").await, case);
    }
    site.provider.behave(Behaviour { forge: true, ..Behaviour::person("approver", &["approvers"]) });
    assert_refused(&site.browser().sign_in("/approvals").await, "signature");
}

#[tokio::test]
async fn answers_that_are_wrong_sign_nobody_in() {
    let site = Site::start().await;
    for (name, value) in [("state", "another"), ("iss", "https://evil.example"), ("code", "another"), ("error", "no")] {
        let mut behaviour = Behaviour::person("approver", &["approvers"]);
        behaviour.answer.insert(name.to_owned(), value.to_owned());
        site.provider.behave(behaviour);
        assert_refused(&site.browser().sign_in("/approvals").await, name);
    }
}

#[tokio::test]
async fn an_answer_counts_once_in_the_browser_that_asked() {
    let site = Site::start().await;
    let mut victim = site.browser();
    let callback = victim.begin("/approvals").await;
    // The code of one browser in another, which has begun to sign in as well.
    let mut attacker = site.browser();
    assert_refused(&attacker.get(&callback).await, "no sign-in begun");
    attacker.begin("/approvals").await;
    assert_refused(&attacker.get(&callback).await, "another sign-in begun");
    let mut again = victim.clone();
    assert_eq!(victim.get(&callback).await.status, StatusCode::SEE_OTHER);
    assert_refused(&again.get(&callback).await, "code used twice");
    let mut late = site.browser();
    let callback = late.begin("/approvals").await;
    site.clock.advance(901);
    assert_refused(&late.get(&callback).await, "too late");
}

#[tokio::test]
async fn roles_come_from_nested_claims_or_user_info() {
    let site = Site::start().await;
    let id = site.ask(json!({})).await;
    for (id_token, user_info, sees) in [
        (json!({"sub": "a", "realm": {"roles": ["approvers"]}}), json!({"sub": "a"}), true),
        (json!({"sub": "a"}), json!({"sub": "a", "roles": ["approvers"], "name": "From <i>there</i>"}), true),
        (json!({"sub": "a", "roles": []}), json!({"sub": "a", "roles": ["approvers"]}), false),
    ] {
        let mut behaviour = Behaviour::person("a", &[]);
        (behaviour.id_token, behaviour.user_info) = (id_token.clone(), user_info);
        site.provider.behave(behaviour);
        let mut browser = site.browser();
        assert_eq!(browser.sign_in("/approvals").await.status, StatusCode::SEE_OTHER);
        let page = browser.get(&format!("/approvals/{id}")).await;
        assert_eq!(page.status == StatusCode::OK, sees, "{id_token}");
    }
    // User info of somebody else.
    let mut behaviour = Behaviour::person("a", &[]);
    (behaviour.id_token, behaviour.user_info) = (json!({"sub": "a"}), json!({"sub": "b", "roles": ["approvers"]}));
    site.provider.behave(behaviour);
    let answer = site.browser().sign_in("/approvals").await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn new_keys_of_the_provider_are_fetched() {
    let site = Site::start().await;
    site.browser_of("approver", &["approvers"]).await;
    site.provider.rotate();
    assert_refused(&site.browser().sign_in("/approvals").await, "within the pause for keys that are made up");
    site.clock.advance(31);
    site.browser_of("approver", &["approvers"]).await;
}

#[tokio::test]
async fn sessions_end() {
    let site = Site::start().await;
    let mut browser = site.browser_of("approver", &["approvers"]).await;
    let copy = browser.cookies.clone();
    let page = browser.get("/approvals").await;
    let out = browser.post("/sign-out", &[("csrf", &page.csrf())]).await;
    assert_eq!(out.status, StatusCode::OK);
    assert!(out.body.contains("Signed out") && browser.cookies.is_empty());
    browser.cookies = copy;
    assert_eq!(browser.get("/approvals").await.status, StatusCode::UNAUTHORIZED, "a copied cookie");

    let mut idle = site.browser_of("approver", &["approvers"]).await;
    let mut busy = idle.clone();
    for _ in 0..2 {
        site.clock.advance(1790);
        assert_eq!(busy.get("/approvals").await.status, StatusCode::OK);
    }
    site.clock.advance(21);
    assert_eq!(busy.get("/approvals").await.status, StatusCode::UNAUTHORIZED, "roles may be gone by now");
    assert_eq!(idle.get("/approvals").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn signing_out_needs_the_form() {
    let site = Site::start().await;
    let mut browser = site.browser_of("approver", &["approvers"]).await;
    assert_eq!(browser.post("/sign-out", &[("csrf", "x")]).await.status, StatusCode::FORBIDDEN);
    assert_eq!(browser.get("/sign-out").await.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(browser.get("/approvals").await.status, StatusCode::OK);
}

/// What the provider says about itself is over what is right; nobody can sign in then, nor bring a token.
async fn assert_unfit(configuration: Value) {
    let site = Site::start().await;
    let right = Behaviour::person("approver", &["approvers"]);
    site.provider.behave(Behaviour { configuration: configuration.clone(), ..right.clone() });
    let answer = site.browser().get("/sign-in").await;
    assert_refused(&answer, &configuration.to_string());
    assert!(answer.body.contains("cannot be used as it is"), "{configuration}: {}", answer.body);
    let inbox = reqwest::Client::new().get(format!("{}/v1/inbox", site.origin));
    let token = site.provider.access_token(&json!({}));
    let answer = inbox.bearer_auth(token).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "{configuration}");
    // Once it is as it should be.
    site.provider.behave(right);
    site.clock.advance(6);
    site.browser_of("approver", &["approvers"]).await;
}

#[tokio::test]
async fn a_provider_with_another_subject_for_each_client_signs_nobody_in() {
    for types in [json!(["pairwise"]), json!([])] {
        assert_unfit(json!({"subject_types_supported": types})).await;
    }
}

#[tokio::test]
async fn a_provider_that_others_can_listen_to_signs_nobody_in() {
    for endpoint in ["authorization_endpoint", "token_endpoint", "userinfo_endpoint"] {
        assert_unfit(json!({endpoint: "http://idp.norg.example/x"})).await;
    }
}

#[tokio::test]
async fn a_provider_that_turns_unfit_is_noticed() {
    let site = Site::start().await;
    site.browser_of("approver", &["approvers"]).await;
    let pairwise = json!({"subject_types_supported": ["pairwise"]});
    site.provider.behave(Behaviour { configuration: pairwise, ..Behaviour::person("approver", &["approvers"]) });
    site.clock.advance(301);
    assert_refused(&site.browser().get("/sign-in").await, "what it said before does not count");
}

#[tokio::test]
async fn a_key_that_was_withdrawn_signs_nobody_in() {
    let site = Site::start().await;
    site.browser_of("approver", &["approvers"]).await;
    site.provider.withdraw();
    site.clock.advance(301);
    let mut behaviour = Behaviour::person("approver", &["approvers"]);
    let later = site.clock.now() + 300;
    behaviour.id_token.as_object_mut().unwrap().extend([("exp".to_owned(), json!(later))]);
    site.provider.behave(behaviour);
    assert_refused(&site.browser().sign_in("/approvals").await, "withdrawn key");
}

#[tokio::test]
async fn the_first_sign_in_after_a_rotation_checks_the_access_token_too() {
    let site = Site::start().await;
    site.browser_of("approver", &["approvers"]).await;
    site.provider.rotate();
    site.clock.advance(31);
    let mut behaviour = Behaviour::person("a", &[]);
    // The left half of SHA-512 of the access token, as RFC 8032 signatures have it.
    behaviour.id_token = json!({"sub": "a", "at_hash": "fbMJhlShp9jmuAqXBJET-ShZLVNUaW7dkNnxSGjGex8"});
    behaviour.user_info = json!({"sub": "a", "roles": ["approvers"]});
    site.provider.behave(behaviour);
    let answer = site.browser().sign_in("/approvals").await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
}

//! What other sites, and text by others, could do to a page.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::site::Site;

#[tokio::test]
async fn every_answer_has_its_headers() {
    let site = Site::start().await;
    let id = site.ask(json!({})).await;
    let mut browser = site.browser_of("approver", &["approvers"]).await;
    let paths = ["/", "/approvals", &*format!("/approvals/{id}"), "/approvals/x", "/sign-in", "/callback"];
    for path in paths.into_iter().chain(["/assets/style.css", "/assets/none"]) {
        let headers = browser.get(path).await.headers;
        let header = |name: &str| headers.get(name).unwrap_or_else(|| panic!("{path}: {name}")).to_str().unwrap();
        let policy = header("content-security-policy");
        for part in ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains('*'));
        assert_eq!(header("x-frame-options"), "DENY");
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("referrer-policy"), "no-referrer");
        assert_eq!(header("cross-origin-opener-policy"), "same-origin");
        let kept = header("cache-control");
        assert_eq!(kept, if path == "/assets/style.css" { "public, max-age=31536000, immutable" } else { "no-store" });
    }
}

#[tokio::test]
async fn pages_have_no_inline_script_or_style() {
    let site = Site::start().await;
    let id = site.ask(json!({})).await;
    let mut browser = site.browser_of("approver", &["approvers"]).await;
    for path in ["/approvals", "/approvals?view=history", &*format!("/approvals/{id}"), "/approvals/x"] {
        let body = browser.get(path).await.body;
        let is_handler = |part: &str| {
            let name = part.split(|character: char| !character.is_ascii_lowercase()).next().unwrap();
            name.starts_with("on") && part[name.len()..].starts_with('=')
        };
        assert!(!body.contains("<style") && !body.contains(" style="), "{path}: {body}");
        assert!(!body.split(' ').any(is_handler), "{path}: {body}");
        assert_eq!(body.matches("<script").count(), 1);
        assert!(body.contains("<script src=\"/assets/live.js?v="));
    }
}

#[tokio::test]
async fn forms_of_other_sites_do_nothing() {
    let site = Site::start().await;
    let id = site.ask(json!({})).await;
    let mut browser = site.browser_of("approver", &["approvers"]).await;
    let other_session = site.browser_of("approver", &["approvers"]).await;
    let csrf = browser.get(&format!("/approvals/{id}")).await.csrf();
    let others = other_session.clone().get(&format!("/approvals/{id}")).await.csrf();
    let path = format!("/approvals/{id}/decision");
    for token in ["", "x", &*others] {
        let answer = browser.post(&path, &[("csrf", token), ("decision", "approve")]).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{token}");
        assert!(answer.body.contains("Nothing was decided"));
    }
    let form = [("csrf", &*csrf), ("decision", "approve")];
    for headers in [
        &[][..],
        &[("sec-fetch-site", "cross-site")][..],
        &[("sec-fetch-site", "same-site")][..],
        &[("origin", "https://evil.example")][..],
        &[("origin", "null")][..],
        &[("sec-fetch-site", "cross-site"), ("origin", &*site.origin)][..],
    ] {
        let answer = browser.send(Method::POST, &path, headers, Some(&form)).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{headers:?}");
    }
    assert_eq!(browser.get(&path).await.status, StatusCode::METHOD_NOT_ALLOWED);
    for form in
        [&[("csrf", &*csrf)][..], &[("csrf", &csrf), ("decision", "maybe")], &[("csrf", &csrf), ("csrf", &csrf)]]
    {
        assert_eq!(browser.post(&path, form).await.status, StatusCode::BAD_REQUEST, "{form:?}");
    }
    assert!(browser.get(&format!("/approvals/{id}")).await.body.contains("<textarea"), "it still waits");
    let answer = browser.send(Method::POST, &path, &[("origin", &*site.origin)], Some(&form)).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn signing_in_leads_to_our_own_pages_only() {
    let site = Site::start().await;
    for next in
        ["https://evil.example", "//evil.example", "/\\evil.example", "/approvals/..//evil.example", "javascript:x"]
    {
        let mut browser = site.browser();
        assert_eq!(browser.sign_in(next).await.location(), "/approvals", "{next}");
        let query: String = url::form_urlencoded::byte_serialize(next.as_bytes()).collect();
        let known = browser.get(&format!("/sign-in?next={query}")).await;
        assert_eq!(known.location(), "/approvals", "{next}");
    }
}

#[tokio::test]
async fn unknown_and_invisible_are_the_same() {
    let site = Site::start().await;
    let id = site.ask(json!({})).await;
    let mut stranger = site.browser_of("stranger", &["others"]).await;
    let csrf = stranger.get("/approvals").await.csrf();
    let mut signed_out = site.browser();
    let form = [("csrf", &*csrf), ("decision", "approve")];
    let mut seen = Vec::new();
    for id in [&*id, "AAAAAAAAAAAAAAAAAAAAAA"] {
        let page = stranger.get(&format!("/approvals/{id}")).await;
        let decided = stranger.post(&format!("/approvals/{id}/decision"), &form).await;
        let live = stranger.get(&format!("/approvals/{id}/events")).await;
        let outside = signed_out.get(&format!("/approvals/{id}")).await;
        let same = |body: &str| {
            let body = body.replace(id, "");
            // The clock.
            body.split_once("data-now=\"").map(|(_, rest)| rest[10..].to_owned()).unwrap_or(body)
        };
        seen.push((
            page.status,
            same(&page.body),
            decided.status,
            same(&decided.body),
            live.status,
            live.body,
            outside.status,
            same(&outside.body),
        ));
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!((seen[0].0, seen[0].2), (StatusCode::NOT_FOUND, StatusCode::NOT_FOUND));
}

/// Text that would be markup, a link, or look like something else.
const HOSTILE: [&str; 12] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "' onfocus=alert(1) autofocus='",
    "</textarea></title></style><svg/onload=alert(1)>",
    "{{7*7}} ${7*7} {% raw %}",
    "https://evil.example/phish",
    "javascript:alert(1)",
    "safe\u{202e}gpj.exe\u{202c}",
    "zero\u{200b}width\u{feff}\u{2060}",
    "nul\u{1}bell\u{7}esc\u{1b}[31m",
    "line\nbreak\ttab",
    "&lt;b&gt;&amp;",
];

#[tokio::test]
async fn text_by_others_stays_text() {
    let site = Site::start().await;
    let mut browser = site.browser_of("approver", &["approvers"]).await;
    for hostile in HOSTILE {
        // Gateways send no control characters but in arguments and purpose; the service refuses others.
        let name: String = hostile.chars().filter(|character| !character.is_control()).collect();
        let mut arguments = serde_json::Map::new();
        arguments.insert(format!("/{hostile}"), json!(hostile));
        let id = site
            .ask(json!({
                "requester": {
                    "issuer": name, "subject": name, "client_id": name, "agent": name, "tenant": name,
                    "roles": [name], "actors": [name],
                },
                "call": {
                    "revision": name, "method": name, "kind": "tool", "name": name,
                    "arguments": arguments, "withheld": true, "purpose": hostile,
                },
                "requirements": [{
                    "gate": "rule", "name": name, "approvers": ["approvers", name], "count": 2,
                    "escalate": {"after": 1, "approvers": [name]},
                }],
                "escalated_from": name,
            }))
            .await;
        let page = browser.get(&format!("/approvals/{id}")).await;
        let form = [("csrf", &*page.csrf()), ("decision", "approve"), ("reason", hostile)];
        let decided = browser.post(&format!("/approvals/{id}/decision"), &form).await;
        assert_eq!(decided.status, StatusCode::SEE_OTHER, "{}", decided.body);
        let after = browser.get(&format!("/approvals/{id}")).await;
        for body in [page.body, after.body, browser.get("/approvals").await.body] {
            assert_harmless(&body, hostile);
        }
    }
    let query: String = url::form_urlencoded::byte_serialize(HOSTILE[1].as_bytes()).collect();
    let page = browser.get(&format!("/approvals?view=history&tool={query}&requester={query}")).await;
    assert_harmless(&page.body, HOSTILE[1]);
}

fn assert_harmless(body: &str, hostile: &str) {
    for bad in [
        "<script>",
        "<img src=x",
        "<svg",
        "onerror=alert(1)>",
        "href=\"https://evil",
        "href=\"javascript",
        " onfocus=alert(1) autofocus='",
    ] {
        assert!(!body.contains(bad), "{hostile:?} became {bad}: {body}");
    }
    for character in body.chars() {
        let is_hidden = character.is_control() && !matches!(character, '\n' | '\t')
            || matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
        assert!(!is_hidden, "{hostile:?} left {character:?}");
    }
}

#[tokio::test]
async fn all_of_a_long_argument_is_shown() {
    let site = Site::start().await;
    let mut browser = site.browser_of("approver", &["approvers"]).await;
    let call = json!({
        "revision": "2025-11-25", "method": "tools/call", "kind": "tool", "name": "send_message",
        "arguments": {"/text": "x".repeat(8192)}, "withheld": false,
    });
    let id = site.ask(json!({ "call": call })).await;
    let body = browser.get(&format!("/approvals/{id}")).await.body;
    assert!(body.contains(&"x".repeat(8192)) && !body.contains("are not shown"));
    // It scrolls, also with the keyboard.
    assert!(body.contains("<span class=\"value\" tabindex=\"0\""));
}

#[tokio::test]
async fn addresses_without_sense_do_no_harm() {
    let site = Site::start().await;
    let mut browser = site.browser_of("approver", &["approvers"]).await;
    for (path, status) in [
        ("/approvals?view=history&view=x&before=9999999999999999999", StatusCode::OK),
        ("/approvals?state=%00&tool=%ff&before=-1&requester=%27%20OR%201=1", StatusCode::OK),
        ("/sign-in?next=/a&next=/b", StatusCode::SEE_OTHER),
        ("/callback?code=a&code=b", StatusCode::BAD_REQUEST),
        ("/callback", StatusCode::BAD_REQUEST),
        ("/approvals/%2e%2e%2fx", StatusCode::NOT_FOUND),
        ("/approvals/%00", StatusCode::NOT_FOUND),
    ] {
        assert_eq!(browser.get(path).await.status, status, "{path}");
    }
}

/// What a service answers within these seconds to a form that stops half-way.
async fn slow_form(site: &Site, path: &str, headers: &str, seconds: u64) -> String {
    let mut stream = TcpStream::connect(site.origin.strip_prefix("http://").unwrap()).await.unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-www-form-urlencoded\r\n\
         content-length: 100\r\n{headers}\r\ncsrf="
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 32];
    let read = tokio::time::timeout(Duration::from_secs(seconds), stream.read(&mut answer)).await.expect("no answer");
    String::from_utf8_lossy(&answer[..read.unwrap()]).split(' ').nth(1).unwrap().to_owned()
}

#[tokio::test]
async fn forms_that_stop_half_way_hold_nobody_up() {
    let site = Site::start().await;
    let id = site.ask(json!({})).await;
    let browser = site.browser_of("approver", &["approvers"]).await;
    let decision = format!("/approvals/{id}/decision");
    let own = "sec-fetch-site: same-origin\r\n";
    let cookie = format!("cookie: approvals={}\r\n", browser.cookies["approvals"]);
    for (path, status) in [("/sign-out", "200"), (&*decision, "401")] {
        assert_eq!(slow_form(&site, path, own, 5).await, status, "nobody has signed in");
        assert_eq!(slow_form(&site, path, &cookie, 5).await, "403", "another site");
    }
    let headers = format!("{own}{cookie}");
    let sent = (slow_form(&site, "/sign-out", &headers, 20), slow_form(&site, &decision, &headers, 20));
    let (one, two) = tokio::join!(sent.0, sent.1);
    assert_eq!((&*one, &*two), ("408", "408"));
}

#[tokio::test]
async fn one_person_has_a_few_streams() {
    let site = Site::start().await;
    let browser = site.browser_of("approver", &["approvers"]).await;
    let open = || {
        let cookie = format!("approvals={}", browser.cookies["approvals"]);
        reqwest::Client::new().get(format!("{}/events", site.origin)).header("cookie", cookie).send()
    };
    let mut streams = Vec::new();
    for _ in 0..8 {
        let stream = open().await.unwrap();
        assert_eq!(stream.status(), StatusCode::OK);
        streams.push(stream);
    }
    assert_eq!(open().await.unwrap().status(), StatusCode::TOO_MANY_REQUESTS);
    let mut other = site.browser_of("other", &["approvers"]).await;
    let path = "/approvals/AAAAAAAAAAAAAAAAAAAAAA/events";
    assert_eq!(other.get(path).await.status, StatusCode::OK, "others are not held up");
}

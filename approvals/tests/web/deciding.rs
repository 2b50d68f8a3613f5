//! Deciding on the page, and who cannot.

use reqwest::StatusCode;
use serde_json::json;

use crate::site::{Browser, Site};

async fn decide(browser: &mut Browser, id: &str, decision: &str, reason: &str) -> (StatusCode, String) {
    let page = browser.get(&format!("/approvals/{id}")).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.body);
    let form = [("csrf", &*page.csrf()), ("decision", decision), ("reason", reason)];
    let answer = browser.post(&format!("/approvals/{id}/decision"), &form).await;
    (answer.status, answer.body)
}

#[tokio::test]
async fn an_approver_approves_and_rejects() {
    let site = Site::start().await;
    let mut browser = site.browser_of("approver", &["approvers"]).await;
    for (decision, words, number) in [("approve", "Approved", 1), ("reject", "Rejected", 2)] {
        let id = site.ask(json!({"decision_id": format!("{number:032}")})).await;
        assert!(browser.get("/approvals").await.body.contains(&id));
        let (status, _) = decide(&mut browser, &id, decision, "two\r\nlines").await;
        assert_eq!(status, StatusCode::SEE_OTHER);
        let after = browser.get(&format!("/approvals/{id}")).await.body;
        assert!(after.contains(&format!(">{words}</span>")) && after.contains("lines"), "{after}");
        assert!(!after.contains("<textarea"));
        assert!(!browser.get("/approvals").await.body.contains(&id));
        assert!(browser.get("/approvals?view=history").await.body.contains(&id));
        let late = browser.get("/approvals?view=history").await;
        let form = [("csrf", &*late.csrf()), ("decision", "approve"), ("reason", "")];
        let answer = browser.post(&format!("/approvals/{id}/decision"), &form).await;
        assert_eq!(answer.status, StatusCode::CONFLICT);
        assert!(answer.body.contains("Already decided"));
    }
}

#[tokio::test]
async fn the_requester_sees_and_cannot_decide() {
    let site = Site::start().await;
    let id = site.ask(json!({})).await;
    for roles in [&[][..], &["approvers"][..]] {
        let mut browser = site.browser_of("scheduler", roles).await;
        let page = browser.get(&format!("/approvals/{id}")).await;
        assert!(page.body.contains("This is your own request") && !page.body.contains("<textarea"), "{}", page.body);
        let (status, body) = decide(&mut browser, &id, "approve", "").await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        assert!(body.contains("role=\"alert\"") && body.contains("This is your own request"), "{body}");
    }
}

#[tokio::test]
async fn two_must_approve_and_each_once() {
    let site = Site::start().await;
    let requirement = json!({"gate": "risk", "name": "norg:messaging:bulk", "approvers": ["approvers"], "count": 2});
    let id = site.ask(json!({"requirements": [requirement]})).await;
    let mut first = site.browser_of("first", &["approvers"]).await;
    let mut second = site.browser_of("second", &["approvers"]).await;
    assert_eq!(decide(&mut first, &id, "approve", "").await.0, StatusCode::SEE_OTHER);
    let waiting = first.get(&format!("/approvals/{id}")).await.body;
    assert!(waiting.contains("You have decided") && waiting.contains("1 of 2 approved"), "{waiting}");
    assert_eq!(decide(&mut first, &id, "approve", "").await.0, StatusCode::FORBIDDEN);
    assert_eq!(decide(&mut second, &id, "approve", "").await.0, StatusCode::SEE_OTHER);
    assert!(second.get(&format!("/approvals/{id}")).await.body.contains("2 of 2 approved"));
}

#[tokio::test]
async fn a_role_that_is_missing_or_comes_later() {
    let site = Site::start().await;
    let requirement = json!({
        "gate": "rule", "name": "rules[1]", "approvers": ["approvers"], "count": 1,
        "escalate": {"after": 300, "approvers": ["oncall"]},
    });
    let id = site.ask(json!({"requirements": [requirement]})).await;
    let mut stranger = site.browser_of("stranger", &["others"]).await;
    assert_eq!(stranger.get(&format!("/approvals/{id}")).await.status, StatusCode::NOT_FOUND);
    let mut nobody = site.browser_of("nobody", &[]).await;
    assert!(nobody.get("/approvals").await.body.contains("No role to approve with"));
    let mut oncall = site.browser_of("oncall", &["oncall"]).await;
    assert!(oncall.get(&format!("/approvals/{id}")).await.body.contains("Your role is not asked"));
    assert_eq!(decide(&mut oncall, &id, "approve", "").await.0, StatusCode::FORBIDDEN);
    site.clock.advance(301);
    let page = oncall.get(&format!("/approvals/{id}")).await.body;
    assert!(page.contains("Escalated: also asked"), "{page}");
    assert_eq!(decide(&mut oncall, &id, "approve", "").await.0, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn a_reason_may_be_required_and_is_not_lost() {
    let site = Site::start().await;
    let id = site.ask(json!({"reason_required": true})).await;
    let mut browser = site.browser_of("approver", &["approvers"]).await;
    let (status, body) = decide(&mut browser, &id, "reject", " ").await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(body.contains("A reason is required") && body.contains("aria-invalid"), "{body}");
    let long = "<b>".repeat(200);
    let (status, body) = decide(&mut browser, &id, "reject", &long).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(body.contains(&"&#60;b&#62;".repeat(200)) || body.contains(&"&lt;b&gt;".repeat(200)), "{body}");
    assert_eq!(decide(&mut browser, &id, "reject", "not now").await.0, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn time_runs_out() {
    let site = Site::start().await;
    let id = site.ask(json!({})).await;
    let mut browser = site.browser_of("approver", &["approvers"]).await;
    let csrf = browser.get(&format!("/approvals/{id}")).await.csrf();
    site.clock.advance(601);
    let form = [("csrf", &*csrf), ("decision", "approve"), ("reason", "")];
    let answer = browser.post(&format!("/approvals/{id}/decision"), &form).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    assert!(answer.body.contains("The time has passed"), "{}", answer.body);
}

#[tokio::test]
async fn history_is_filtered_and_paged() {
    let site = Site::start().await;
    let mut ids = Vec::new();
    for number in 0..30 {
        ids.push(site.ask(json!({"decision_id": format!("{number:032}")})).await);
    }
    let call = json!({
        "revision": "2025-11-25", "method": "prompts/get", "kind": "prompt", "name": "another one",
        "arguments": {}, "withheld": false,
    });
    let other = site.ask(json!({ "call": call })).await;
    let mut browser = site.browser_of("approver", &["approvers"]).await;
    let first = browser.get("/approvals?view=history&requester=scheduler").await.body;
    assert!(first.contains(&other) && !first.contains(&ids[0]));
    let (before, _) = first.split_once("\">Older requests").unwrap();
    let older = before.rsplit_once("href=\"").unwrap().1.replace("&amp;", "&").replace("&#38;", "&");
    assert!(older.starts_with("/approvals?view=history&requester=scheduler&before="), "{older}");
    let second = browser.get(&older).await.body;
    assert!(second.contains(&ids[0]) && !second.contains(&other) && !second.contains("Older requests"));
    let filtered = browser.get("/approvals?view=history&tool=another+one&state=pending").await.body;
    assert!(filtered.contains(&other) && !filtered.contains(&ids[0]));
    assert!(browser.get("/approvals?view=history&state=rejected").await.body.contains("No request fits the filter"));
}

#[tokio::test]
async fn who_has_decided_is_shown_by_account() {
    let site = Site::start().await;
    let id = site.ask(json!({})).await;
    let mut browser = site.browser_of("approver", &["approvers"]).await;
    assert_eq!(decide(&mut browser, &id, "approve", "").await.0, StatusCode::SEE_OTHER);
    let page = browser.get(&format!("/approvals/{id}")).await.body;
    let (_, votes) = page.split_once("Decisions so far").unwrap();
    let (votes, _) = votes.split_once("</section>").unwrap();
    assert!(votes.contains(">approver<") && votes.contains(site.provider.issuer()), "{votes}");
}

#[tokio::test]
async fn what_is_not_shown_is_told() {
    let site = Site::start().await;
    let mut browser = site.browser_of("approver", &["approvers"]).await;
    for (arguments, withheld) in [(json!({}), true), (json!({"/a": 1}), true), (json!({"/a": 1}), false)] {
        let call = json!({
            "revision": "2025-11-25", "method": "tools/call", "kind": "tool", "name": "send_message",
            "arguments": arguments, "withheld": withheld,
        });
        let id = site.ask(json!({ "call": call })).await;
        let page = browser.get(&format!("/approvals/{id}")).await.body;
        assert!(!page.contains("exactly the arguments"), "{page}");
        assert!(!page.contains("There are none."), "{page}");
        assert_eq!(page.contains("not all of which are shown"), withheld, "{page}");
        assert_eq!(page.contains("Values are shown as the policy allows"), arguments != json!({}), "{page}");
    }
}

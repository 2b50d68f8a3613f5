//! Replay: what really happened is found to happen again, and what would not is found too.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]
#![expect(clippy::arithmetic_side_effects, reason = "the numbers are in the test")]

mod recorder;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use toolgate::audit::record::{Approval, ApprovalStatus, Personal, Record, Verdict};
use toolgate::config::CompiledPolicy;
use toolgate_cli::host::Exit;
use toolgate_cli::judge::{Judge, Judgement, Unknown};
use toolgate_cli::replay::Outcome;

use recorder::corpus::{FILES, Theme};
use recorder::gateway::{Gateway, Keys, Request, call, token_with, variable};
use recorder::office::{POLICY, Sent, day, send_all};
use recorder::{Ran, Written, log, toolgate};

/// Sends all cases of a theme, under its policy or another one.
fn run(theme: &Theme, policy: &Value) -> (CompiledPolicy, Vec<Written>) {
    let mut gateway = Gateway::new(policy.clone(), Keys::Inline);
    gateway.peer.address = Some(std::net::Ipv4Addr::LOCALHOST.into());
    let send = |(number, case): (u64, &recorder::corpus::Case)| {
        let token = case.token.as_ref().map(token_with);
        recorder::send(&mut gateway, number, &case.request(), token.as_deref())
    };
    let written = (0..).zip(&theme.cases).map(send).collect();
    (gateway.policy, written)
}

/// What erasure, pseudonyms and bounds can leave of a record.
fn with_less(written: &Written) -> Vec<(Record<'static>, Option<Personal<'static>>)> {
    let Written { record, personal } = written.clone();
    let pseudonymous = personal.clone().map(|personal| Personal {
        subject: None,
        pseudonym: Some("p_AAAAAAAAAAAAAAAAAAAAAA".into()),
        ..personal
    });
    // The last role and the last group did not fit.
    let cut = personal.clone().map(|mut personal| {
        for list in [&mut personal.claimed_roles, &mut personal.claimed_groups] {
            if list.pop().is_some() {
                list.push("…[+1]".into());
            }
        }
        personal
    });
    let without_scopes = Record { scopes: None, ..record.clone() };
    // Of this one alone, a record without a target can be whole.
    let is_listening = record.method.as_deref() == Some("subscriptions/listen");
    let target = record.target.clone().filter(|_| is_listening);
    let without_target = Record { target, ..record.clone() };
    vec![
        (record.clone(), personal.clone()),
        (record.clone(), pseudonymous),
        (record.clone(), cut),
        (record, None),
        (without_scopes, personal.clone()),
        (without_target, personal),
    ]
}

#[test]
fn what_a_policy_decided_it_decides_again() {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, text) in FILES {
        let theme = Theme::parse(text);
        let (policy, log) = run(&theme, &theme.policy);
        let judge = Judge::new(&policy);
        for (case, written) in theme.cases.iter().zip(&log) {
            for (index, (record, personal)) in with_less(written).into_iter().enumerate() {
                let outcome = Outcome::of(&judge, &record, personal.as_ref()).unwrap();
                let kind = match &outcome {
                    Outcome::Same => "same",
                    Outcome::CannotTell(_) => "cannot tell",
                    Outcome::NotApplicable => "not applicable",
                    Outcome::WouldBeDenied(_) | Outcome::WouldBeAllowed | Outcome::WouldBeGated => {
                        panic!("{name}: {}: {outcome:?}\n{record:#?}\n{personal:#?}", case.name)
                    }
                };
                if index == 0 {
                    *counts.entry(kind).or_default() += 1;
                }
                if let Outcome::CannotTell(unknown) = outcome {
                    assert!(!unknown.is_empty());
                    assert!(personal.is_none() || !unknown.contains(&Unknown::Erased), "{}", case.name);
                }
            }
        }
    }
    assert!(counts["same"] > 4 * counts["cannot tell"], "{counts:?}");
}

/// Every policy that is the given one without one element or member.
fn with_one_thing_less(policy: &Value) -> Vec<Value> {
    fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
        let escaped = |name: &str| name.replace('~', "~0").replace('/', "~1");
        let below: Vec<(String, &Value)> = match value {
            Value::Array(elements) => {
                elements.iter().enumerate().map(|(index, element)| (index.to_string(), element)).collect()
            }
            Value::Object(members) => members.iter().map(|(name, value)| (escaped(name), value)).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
        };
        for (name, value) in below {
            found.push(format!("{at}/{name}"));
            pointers(value, &format!("{at}/{name}"), found);
        }
    }
    let mut found = Vec::new();
    pointers(policy, "", &mut found);
    // Records do not hold what these decide by.
    found.retain(|pointer| {
        !["/authentication", "/resource", "/protocol", "/sessions", "/version"]
            .iter()
            .any(|start| pointer.starts_with(start))
    });
    let without = |pointer: &String| {
        let mut policy = policy.clone();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        match policy.pointer_mut(parent).unwrap() {
            Value::Array(elements) => drop(elements.remove(name.parse().unwrap())),
            Value::Object(members) => drop(members.remove(&name.replace("~1", "/").replace("~0", "~"))),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => panic!("{parent}"),
        }
        policy
    };
    found.iter().map(without).collect()
}

/// Other policies than the one of the log: what they really decide is held against what replay says, in both directions.
#[test]
fn what_replay_is_sure_of_is_what_the_other_policy_decides() {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, text) in FILES {
        let theme = Theme::parse(text);
        let (whole, log) = run(&theme, &theme.policy);
        let others = with_one_thing_less(&theme.policy);
        let compiles = |policy: &&Value| {
            let text = with_keys(policy).to_string();
            CompiledPolicy::from_json(text.as_bytes(), &variable).is_ok()
        };
        for other in others.iter().filter(compiles).step_by(3) {
            let (less, other_log) = run(&theme, other);
            for (policy, recorded, decided) in [(&less, &log, &other_log), (&whole, &other_log, &log)] {
                let judge = Judge::new(policy);
                for (written, real) in recorded.iter().zip(decided) {
                    for (record, personal) in with_less(written) {
                        // A token that one of the policies refuses has no caller in that log.
                        let Some(judgement) = judge.judge(&record, personal.as_ref()) else { continue };
                        let is_allowed = match judgement {
                            Judgement::Unknown(_) => continue,
                            Judgement::Allowed => true,
                            Judgement::Gated | Judgement::Denied(_) => false,
                        };
                        let context = || format!("{name}: {other}\n{record:#?}\n{personal:#?}\n{real:#?}");
                        match real.record.verdict {
                            Verdict::Allow => assert!(is_allowed, "{}", context()),
                            // Sessions, headers and bodies are judged beside the rules.
                            Verdict::Deny if is_by_rules(real) => assert!(!is_allowed, "{}", context()),
                            Verdict::Deny | Verdict::None | Verdict::Serve => {}
                        }
                        let changes = real.record.verdict != record.verdict;
                        *counts.entry(if changes { "changed" } else { "same" }).or_default() += 1;
                    }
                }
            }
        }
    }
    assert!(counts["changed"] > 500, "{counts:?}");
}

fn is_by_rules(written: &Written) -> bool {
    toolgate_cli::judge::ruled(&written.record).is_some()
}

/// The policy with keys for its issuers, as the gateway of the tests has it.
fn with_keys(policy: &Value) -> Value {
    let mut policy = policy.clone();
    for issuer in policy["authentication"]["jwt"].as_array_mut().unwrap() {
        issuer["jwks"] = serde_json::json!({"inline": {"keys": recorder::issuer::jwks()}});
    }
    policy
}

/// Replays a day under [`POLICY`] by another policy.
fn replay(policy: &str, arguments: &[&str]) -> Ran {
    let log = log(&send_all(POLICY, &day(), 3600));
    toolgate(policy, &log, &[&["replay", "--policy", "POLICY"], arguments, &["LOG"]].concat())
}

fn summary(ran: &Ran) -> Value {
    serde_json::from_str(&ran.out).unwrap()
}

#[test]
fn the_same_policy_changes_nothing() {
    let ran = replay(POLICY, &["--format", "json"]);
    assert_eq!((ran.code, ran.err.as_str()), (Exit::Clean, ""));
    let summary = summary(&ran);
    assert_eq!(
        summary["requests"],
        json!({
            "total": 10, "same": 10, "would_be_denied": 0, "would_be_allowed": 0, "would_be_gated": 0, "cannot_tell": 0,
            "not_applicable": 0,
        })
    );
    assert_eq!(summary["changes"], json!([]));
    assert_eq!(summary["span"], json!({"from": "2027-01-15T08:00:00.000Z", "to": "2027-01-15T17:00:00.000Z"}));
}

#[test]
fn what_would_be_denied_is_told_by_caller_target_and_reason() {
    let ran = replay(
        &POLICY.replace("    scopes: [\"a:read\", \"b:read\"]", "    scopes: [\"b:read\"]"),
        &["--format", "json"],
    );
    assert_eq!(ran.code, Exit::Defects);
    let change = json!({
        "client": "desk", "agent": "helper", "roles": ["reader"], "method": "tools/call", "target": "read_a",
        "was": {"allowed": true, "reason": "permitted"},
        "now": {
            "allowed": false, "reason": "not_permitted",
            "sides": [{"side": "person", "why": "missing_scopes", "scopes": ["a:read"]}],
        },
        "count": 3,
        "first": {"id": "00000000000000000000000000000000", "time": "2027-01-15T08:00:00.000Z"},
    });
    let summary = summary(&ran);
    assert_eq!(summary["changes"], json!([change]));
    assert_eq!((&summary["requests"]["would_be_denied"], &summary["requests"]["same"]), (&json!(3), &json!(7)));
}

#[test]
fn what_would_be_allowed_is_told_too() {
    let policy =
        POLICY.replace("    except: [\"c:admin\"]\n", "").replace("[\"a:*\", \"b:*\"], consent", "[\"*\"], consent");
    let ran = replay(&policy, &["--format", "json"]);
    assert_eq!(ran.code, Exit::Defects);
    let summary = summary(&ran);
    assert_eq!(summary["changes"].as_array().unwrap().len(), 1);
    let change = &summary["changes"][0];
    assert_eq!(
        (&change["target"], &change["now"]),
        (&json!("admin"), &json!({"allowed": true, "reason": "permitted"}))
    );
    assert_eq!(change["was"]["sides"][0]["side"], "agent");
}

#[test]
fn of_what_depends_on_arguments_nobody_can_tell() {
    let when = "    scopes: [\"a:read\"]\n    when: \"has(arguments.x)\"\n  - tools: [write_a";
    let policy = POLICY.replace("    scopes: [\"a:read\"]\n  - tools: [write_a", when);
    assert!(policy.contains("has(arguments.x)"));
    let ran = replay(&policy, &["--format", "json"]);
    assert_eq!(ran.code, Exit::Clean);
    let summary = summary(&ran);
    assert_eq!(summary["cannot_tell"], json!({"arguments": 3}));
    // Whoever lacks the scope is denied whatever the arguments are.
    let nobody = policy.replace("    scopes: [\"a:read\", \"b:read\"]", "    scopes: [\"b:read\"]");
    assert_eq!(self::summary(&replay(&nobody, &["--format", "json"]))["requests"]["would_be_denied"], 3);
}

#[test]
fn the_text_says_all_that_counts() {
    let policy = POLICY.replace("    scopes: [\"a:read\", \"b:read\"]", "    scopes: [\"b:read\"]");
    let ran = replay(&policy, &[]);
    for wanted in [
        "10 requests from 2027-01-15T08:00:00.000Z to 2027-01-15T17:00:00.000Z",
        "         7  same",
        "         3  would be denied",
        "         3  read_a: allowed -> denied (not_permitted; person: missing_scopes a:read)",
        "client desk, agent helper, roles reader; first 00000000000000000000000000000000 at 2027-01-15T08:00:00.000Z",
        "Not decided again: signatures",
    ] {
        assert!(ran.out.contains(wanted), "{wanted}\n{}", ran.out);
    }
}

#[test]
fn a_part_of_the_log_can_be_replayed() {
    let arguments = ["--format", "json", "--since", "2027-01-15T09:00:00.000Z", "--until", "2027-01-15T11:00:00.000Z"];
    assert_eq!(summary(&replay(POLICY, &arguments))["requests"]["total"], 3);
}

#[test]
fn requests_that_no_rule_decided_are_counted_by_reason() {
    let mut gateway = Gateway::new(serde_saphyr::from_str(POLICY).unwrap(), Keys::Inline);
    let without_token = Request::post("", &call("read_a")).without("authorization");
    let written = recorder::send(&mut gateway, 0, &without_token, None);
    let ran = toolgate(POLICY, &log(&[written]), &["replay", "--policy", "POLICY", "--format", "json", "LOG"]);
    assert_eq!(summary(&ran)["not_applicable"], json!({"no_token": 1}));
}

#[test]
fn a_batch_that_was_cut_short_is_allowed_by_nobody_who_cannot_see_it_whole() {
    let mut written = send_all(POLICY, &[Sent::new("ann", "desk", &["readers"], "read_a")], 1);
    let batch = |calls: &[&str], size| toolgate::audit::record::Batch {
        calls: calls.iter().map(|call| (*call).to_owned().into()).collect(),
        size,
    };
    let mut judged = |batch| {
        written[0].record.batch = Some(batch);
        let log = log(&written);
        let ran = toolgate(POLICY, &log, &["replay", "--policy", "POLICY", "--format", "json", "LOG"]);
        summary(&ran)["requests"]
            .as_object()
            .unwrap()
            .iter()
            .filter(|(_, count)| **count == 1)
            .map(|(name, _)| name.clone())
            .find(|name| name != "total")
            .unwrap()
    };
    assert_eq!(judged(batch(&["tools/call read_a", "ping"], 2)), "same");
    assert_eq!(judged(batch(&["tools/call read_a", "ping"], 3)), "cannot_tell");
    assert_eq!(judged(batch(&["tools/call read_a", "tools/call write_a"], 3)), "would_be_denied");
    assert_eq!(judged(batch(&["tools/call read_a", "resources/read"], 2)), "cannot_tell");
    assert_eq!(judged(batch(&["tools/call read…[+9]", "ping"], 2)), "cannot_tell");
}

/// [`POLICY`] with somebody to ask.
fn with_approvers(policy: &str) -> String {
    let key = recorder::issuer::jwks()[0].to_string();
    let section = format!(
        "approval: {{cluster: approvals, issuer: 'https://approvals.test', page: 'https://approvals.test/approvals/', \
         decision_keys: {{keys: [{key}]}}, approvers: [admin]}}\nrules:"
    );
    policy.replacen("rules:", &section, 1)
}

/// The policy whose rule for `read_a` asks people.
fn gated(when: &str) -> String {
    let rule = format!("    scopes: [\"a:read\"]\n    approval: {{{when}}}\n  - tools: [write_a");
    with_approvers(&POLICY.replace("    scopes: [\"a:read\"]\n  - tools: [write_a", &rule))
}

/// What replay by `policy` says of one call of `read_a`, once the record is changed; the whole change, if there is one.
fn judged(policy: &str, change: impl Fn(&mut Record<'static>)) -> (String, Value) {
    let mut written = send_all(POLICY, &[Sent::new("ann", "desk", &["readers"], "read_a")], 1);
    change(&mut written[0].record);
    let ran = toolgate(policy, &log(&written), &["replay", "--policy", "POLICY", "--format", "json", "LOG"]);
    assert_eq!(ran.err, "");
    let summary = summary(&ran);
    let counts = summary["requests"].as_object().unwrap();
    let name = counts.iter().find(|(name, count)| *name != "total" && **count == 1).unwrap().0;
    assert_eq!(ran.code == Exit::Defects, name.starts_with("would"));
    (name.clone(), summary["changes"][0].clone())
}

fn approved(record: &mut Record<'static>) {
    let status = ApprovalStatus::Approved;
    record.approval = Some(Approval { id: Some("Zk3vT1pWQ0m8nYl5cR7uXA".into()), status, ..Approval::default() });
}

fn denied(record: &mut Record<'static>, reason: &'static str) {
    (record.verdict, record.reason) = (Verdict::Deny, reason.into());
}

#[test]
fn what_people_were_asked_about_they_are_asked_about_again() {
    let gated = gated("");
    assert_eq!(judged(&gated, approved).0, "same");
    for reason in toolgate::approval::Reason::ALL {
        let (outcome, change) = judged(&gated, |record| denied(record, reason.code()));
        if matches!(reason.code(), "approval_unavailable" | "approval_in_batch") {
            assert_eq!((outcome.as_str(), &change["now"]["gated"]), ("would_be_gated", &json!(true)), "{reason:?}");
        } else {
            assert_eq!(outcome, "same", "{reason:?}");
        }
    }
    let awaited = |record: &mut Record<'static>| {
        (record.verdict, record.reason) = (Verdict::None, "approval_awaited".into());
    };
    assert_eq!(judged(&gated, awaited).0, "same");
    assert_eq!(judged(POLICY, awaited).0, "would_be_allowed");
    let ended = |record: &mut Record<'static>| (record.verdict, record.reason) = (Verdict::None, "ended_early".into());
    assert_eq!(judged(&gated, ended).0, "not_applicable");
}

#[test]
fn where_people_are_asked_now_or_were_then_is_a_change() {
    let (outcome, change) = judged(&gated(""), |_| {});
    assert_eq!(outcome, "would_be_gated");
    let now = json!({"allowed": false, "gated": true, "reason": "approval_pending"});
    assert_eq!((&change["was"], &change["now"]), (&json!({"allowed": true, "reason": "permitted"}), &now));

    let (outcome, change) = judged(POLICY, approved);
    assert_eq!(outcome, "would_be_allowed");
    let was = json!({"allowed": true, "gated": true, "reason": "permitted"});
    assert_eq!((&change["was"], &change["now"]), (&was, &json!({"allowed": true, "reason": "permitted"})));

    // Without anybody who can be asked, it is a denial.
    let nobody = POLICY.replace(
        "    scopes: [\"a:read\"]\n  - tools: [write_a",
        "    scopes: [\"a:read\"]\n    approval: {}\n  - tools: [write_a",
    );
    let (outcome, change) = judged(&nobody, approved);
    assert_eq!((outcome.as_str(), &change["now"]["reason"]), ("would_be_denied", &json!("approval_unavailable")));
    assert_eq!(judged(&nobody, |record| denied(record, "approval_rejected")).0, "same");
    assert_eq!(judged(&nobody, |record| denied(record, "approval_unavailable")).0, "same");
}

#[test]
fn agents_and_risks_gate_calls_too() {
    let agent = POLICY.replace("except: [\"c:admin\"]\n", "except: [\"c:admin\"]\n    approval: {scopes: [\"a:*\"]}\n");
    assert_eq!(judged(&with_approvers(&agent), approved).0, "same");
    let risk = with_approvers(POLICY).replace("approvers: [admin]}", "approvers: [admin], risk: {low: {}}}");
    assert_eq!(judged(&risk, approved).0, "same");
    let other = with_approvers(POLICY).replace("approvers: [admin]}", "approvers: [admin], risk: {high: {}}}");
    assert_eq!(judged(&other, |_| {}).0, "same");
}

#[test]
fn of_a_gate_that_looks_at_arguments_nobody_can_tell() {
    assert_eq!(judged(&gated("when: \"has(arguments.x)\""), approved).0, "cannot_tell");
    assert_eq!(judged(&gated("when: \"has(arguments.x)\""), |_| {}).0, "cannot_tell");
    assert_eq!(judged(&gated("when: \"subject == 'ann'\""), approved).0, "same");
    assert_eq!(judged(&gated("when: \"subject == 'bob'\""), |_| {}).0, "same");
}

#[test]
fn nothing_waits_in_a_batch() {
    let in_batch = |record: &mut Record<'static>| {
        let calls = vec!["tools/call read_a".into(), "ping".into()];
        record.batch = Some(toolgate::audit::record::Batch { calls, size: 2 });
    };
    let (outcome, change) = judged(&gated(""), in_batch);
    assert_eq!((outcome.as_str(), &change["now"]["reason"]), ("would_be_denied", &json!("approval_in_batch")));
    let denied = |record: &mut Record<'static>| {
        in_batch(record);
        denied(record, "approval_in_batch");
    };
    assert_eq!(judged(&gated(""), denied).0, "same");
}

#[test]
fn approvals_are_told_in_words() {
    let written = send_all(POLICY, &[Sent::new("ann", "desk", &["readers"], "read_a")], 1);
    let text = |policy: &str, written: &[Written]| {
        toolgate(policy, &log(written), &["replay", "--policy", "POLICY", "LOG"]).out
    };
    let now = text(&gated(""), &written);
    assert!(now.contains("read_a: allowed -> needs an approval") && now.contains("1  would need an approval"), "{now}");
    let mut then = written;
    approved(&mut then[0].record);
    let then = text(POLICY, &then);
    assert!(then.contains("read_a: allowed after an approval -> allowed"), "{then}");
}

#[test]
fn of_people_who_were_erased_nobody_can_tell() {
    let written = send_all(POLICY, &day(), 1);
    let log = written[0].erased_line() + "\n" + &written[3].line() + "\n";
    let ran = toolgate(POLICY, &log, &["replay", "--policy", "POLICY", "--format", "json", "LOG"]);
    let summary = summary(&ran);
    assert_eq!((&summary["cannot_tell"], &summary["requests"]["same"]), (&json!({"erased": 1}), &json!(1)));
}

#[test]
fn a_policy_that_does_not_compile_cannot_be_replayed() {
    let ran = replay(&POLICY.replace("a:read: {risk: low}", ""), &[]);
    assert_eq!(ran.code, Exit::CannotRun);
    assert!(ran.err.contains("policy.yaml") && ran.err.contains("a:read"), "{}", ran.err);
}

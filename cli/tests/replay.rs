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

use serde_json::Value;
use toolgate::audit::record::{Personal, Record, Verdict};
use toolgate::config::CompiledPolicy;
use toolgate_cli::judge::{Judge, Judgement, Unknown};
use toolgate_cli::replay::Outcome;

use recorder::Written;
use recorder::corpus::{FILES, Theme};
use recorder::gateway::{Gateway, Keys, token_with, variable};

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
    let without_scopes = Record { scopes: None, ..record.clone() };
    // Of this one alone, a record without a target can be whole.
    let is_listening = record.method.as_deref() == Some("subscriptions/listen");
    let target = record.target.clone().filter(|_| is_listening);
    let without_target = Record { target, ..record.clone() };
    vec![
        (record.clone(), personal.clone()),
        (record.clone(), pseudonymous),
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
                    Outcome::WouldBeDenied(_) | Outcome::WouldBeAllowed => {
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
            other => panic!("{other}"),
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
                            Judgement::Denied(_) => false,
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
    toolgate_cli::judge::is_decided_by_rules(&written.record)
}

/// The policy with keys for its issuers, as the gateway of the tests has it.
fn with_keys(policy: &Value) -> Value {
    let mut policy = policy.clone();
    for issuer in policy["authentication"]["jwt"].as_array_mut().unwrap() {
        issuer["jwks"] = serde_json::json!({"inline": {"keys": recorder::issuer::jwks()}});
    }
    policy
}

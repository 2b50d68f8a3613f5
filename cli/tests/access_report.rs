//! Access reports: their figures are those of what was sent, and the policies that they propose allow all of it.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]
#![expect(clippy::arithmetic_side_effects, reason = "the numbers are in the test")]

mod recorder;

use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use recorder::office::{POLICY, Sent, day, send_all};
use recorder::{Written, log, toolgate};

/// What [`POLICY`] becomes after [`day`].
const DIFF: &str = r#"--- a/policy.yaml
+++ b/policy.yaml
@@ -16,24 +16,22 @@
 operators:
   reader:
     match: {roles: [readers]}
-    scopes: ["a:read", "b:read"]  # what readers read
+    scopes: ["a:read"]  # what readers read
   writer:
     match: {roles: [writers]}
     scopes:
       # All of both,
       - "a:*"
-      - b:write   # and this.
-      - c:admin
+      - b:read   # and this.
   idle:
     match: {roles: [idlers]}
-    scopes:
-      - c:admin
+    scopes: []
 agents:
   helper:
-    scopes: ["*"]
+    scopes: ["a:write", "b:read"]
     except: ["c:admin"]
 clients:
-  desk: {agent: helper, scopes: ["a:*", "b:*"], consent: {by: somebody, on: 2026-11-02, scopes: ["*"]}}
+  desk: {agent: helper, scopes: ["a:*", "b:read"], consent: {by: somebody, on: 2026-11-02, scopes: ["a:write", "b:read"]}}
   free: {agent: helper}
 rules:
   - tools: [read_a]
"#;

fn report(policy: &str, log: &str) -> Value {
    let ran = toolgate(policy, log, &["access-report", "--policy", "POLICY", "--format", "json", "LOG"]);
    assert_eq!(ran.err, "");
    serde_json::from_str(&ran.out).unwrap()
}

fn party<'a>(report: &'a Value, kind: &str, name: &str) -> &'a Value {
    let parties = report["parties"].as_array().unwrap();
    parties.iter().find(|party| party["kind"] == kind && party["name"] == name).unwrap()
}

#[test]
fn figures_are_those_of_what_was_sent() {
    let report = report(POLICY, &log(&send_all(POLICY, &day(), 3600)));
    assert_eq!((&report["allowed"], &report["denied"]), (&json!(6), &json!(4)));
    assert_eq!(report["span"], json!({"from": "2027-01-15T08:00:00.000Z", "to": "2027-01-15T17:00:00.000Z"}));
    let counts = |kind, name| {
        let party = party(&report, kind, name);
        [party["allowed"].as_u64().unwrap(), party["denied"].as_u64().unwrap()]
    };
    assert_eq!(counts("operator", "reader"), [3, 2]);
    assert_eq!(counts("operator", "writer"), [3, 2]);
    assert_eq!(counts("operator", "idle"), [0, 0]);
    assert_eq!(counts("agent", "helper"), [6, 4]);
    assert_eq!(counts("client", "desk"), [6, 4]);
    let used = |kind, name| {
        let scopes = party(&report, kind, name)["scopes"].as_object().unwrap().clone();
        let count = |(scope, right): (String, Value)| {
            assert_eq!(right["granted"], true, "{scope}");
            (scope, right["used"]["count"].as_u64().unwrap_or(0))
        };
        scopes.into_iter().map(count).collect::<Vec<_>>()
    };
    let named = |scopes: &[(&str, u64)]| -> Vec<(String, u64)> {
        scopes.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    };
    assert_eq!(used("operator", "reader"), named(&[("a:read", 3), ("b:read", 0)]));
    let all = [("a:read", 0), ("a:write", 2), ("b:read", 1), ("b:write", 0), ("c:admin", 0)];
    assert_eq!(used("operator", "writer"), named(&all));
    let all = [("a:read", 3), ("a:write", 2), ("b:read", 1), ("b:write", 0)];
    assert_eq!(used("agent", "helper"), named(&all));
    assert_eq!(used("client", "desk"), named(&all));
    let reader = party(&report, "operator", "reader");
    assert_eq!(
        reader["scopes"]["a:read"]["used"],
        json!({"count": 3, "first": "2027-01-15T08:00:00.000Z", "last": "2027-01-15T12:00:00.000Z"})
    );
    let targets: Vec<String> = party(&report, "operator", "writer")["targets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|target| format!("{} {} {}", target["kind"], target["name"], target["used"]["count"]).replace('"', ""))
        .collect();
    assert_eq!(
        targets,
        [
            "tool read_a null",
            "tool change_a_* 1",
            "tool write_a 1",
            "tool read_b null",
            "tool write_b null",
            "tool admin null",
            "resource norg://b/* 1",
        ]
    );
}

#[test]
fn calls_over_time_are_in_steps_of_whole_hours() {
    let report = report(POLICY, &log(&send_all(POLICY, &day(), 3600)));
    let steps = report["timeline"]["steps"].as_array().unwrap();
    assert_eq!((&report["timeline"]["step_seconds"], steps.len()), (&json!(3600), 10));
    assert_eq!(steps[2], json!({"start": "2027-01-15T10:00:00.000Z", "allowed": 0, "denied": 1}));
    // Ten calls, ten days between any two.
    let report = self::report(POLICY, &log(&send_all(POLICY, &day(), 864_000)));
    let steps = report["timeline"]["steps"].as_array().unwrap();
    assert!(steps.len() <= 60, "{}", steps.len());
    let sum = |member: &str| steps.iter().map(|step| step[member].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("allowed"), sum("denied")), (6, 4));
}

#[test]
fn calls_that_are_denied_and_made_again_are_counted_by_caller() {
    let ann = |tool: &str, roles: &[&str]| Sent::new("ann", "desk", roles, tool);
    let eve = |tool: &str| Sent::new("eve", "desk", &["readers"], tool);
    let calls = [
        ann("write_a", &["readers"]),
        eve("write_a"),
        ann("write_a", &["readers"]),
        ann("write_a", &["readers", "writers"]),
        ann("write_a", &["readers", "writers"]),
        eve("write_b"),
    ];
    let report = report(POLICY, &log(&send_all(POLICY, &calls, 1)));
    let retries = report["retries"].as_array().unwrap();
    let of = |name: &str| retries.iter().find(|retry| retry["name"] == name).unwrap().clone();
    let group = json!({
        "client": "desk", "agent": "helper", "roles": ["reader"], "kind": "tool", "name": "write_a",
        "reason": "not_permitted", "callers": 2, "denied": 3, "retried": 2, "allowed_later": 1,
    });
    assert_eq!(of("write_a"), group);
    assert_eq!(of("write_b")["retried"], 0);
    assert!(!report.to_string().contains("eve"), "the report names people");
}

#[test]
fn a_smaller_policy_is_proposed_as_a_diff_that_keeps_comments_and_form() {
    let report = report(POLICY, &log(&send_all(POLICY, &day(), 3600)));
    let proposal = &report["proposal"];
    assert_eq!(proposal["diff"].as_str().unwrap(), DIFF);
    assert_eq!((&proposal["verified"], &proposal["contradicted"]), (&json!(6), &json!(0)));
    assert_eq!(
        proposal["advice"],
        json!([
            "Operator role `idle`: nothing was allowed to it; is it still needed?",
            "Client `free`: nothing was allowed to it; is it still needed?",
        ])
    );
    let change = &proposal["changes"][2];
    assert_eq!(
        *change,
        json!({
            "path": "operators.writer.scopes", "removed": ["b:write", "c:admin"], "added": ["b:read"],
            "lost": ["b:write", "c:admin"],
        })
    );
}

#[test]
fn a_list_that_cannot_be_edited_in_place_becomes_advice() {
    let policy = POLICY
        .replace(r#"scopes: ["a:read", "b:read"]  # what"#, r#"scopes: &both ["a:read", "b:read"]  # what"#)
        .replace(
            "    match: {roles: [idlers]}\n    scopes:\n      - c:admin",
            "    match: {roles: [idlers]}\n    scopes: *both",
        );
    assert!(policy.contains("*both"));
    let report = report(&policy, &log(&send_all(&policy, &day(), 1)));
    let advice = report["proposal"]["advice"].to_string();
    assert!(advice.contains("`operators.reader.scopes`: remove `b:read`"), "{advice}");
    assert!(advice.contains("`operators.idle.scopes`: remove `a:read`, `b:read`"), "{advice}");
    let diff = report["proposal"]["diff"].as_str().unwrap();
    assert!(!diff.contains("+    scopes: &both") && diff.contains("+    scopes: [\"a:write\", \"b:read\"]"), "{diff}");
}

#[test]
fn policies_in_json_are_edited_in_place_too() {
    let value: Value = serde_saphyr::from_str(POLICY).unwrap();
    let policy = serde_json::to_string_pretty(&value).unwrap();
    let report = report(&policy, &log(&send_all(POLICY, &day(), 1)));
    let applied = apply(&policy, report["proposal"]["diff"].as_str().unwrap());
    let smaller: Value = serde_json::from_str(&applied).unwrap();
    assert_eq!(smaller["operators"]["writer"]["scopes"], json!(["a:*", "b:read"]));
    assert_eq!(smaller["operators"]["idle"]["scopes"], json!([]));
}

#[test]
fn what_erased_requests_needed_is_not_taken_away() {
    let mut written = send_all(POLICY, &[Sent::new("ann", "desk", &["readers"], "norg://b/1")], 1);
    let line = written[0].erased_line() + "\n";
    // Nobody can tell which resource it was, nor what its rule asked for.
    let opaque = report(POLICY, &line);
    assert!(!opaque["proposal"]["diff"].as_str().unwrap().contains("-    scopes: [\"a:read\""));
    assert!(opaque["proposal"]["advice"].to_string().contains("left alone"));
    // The record says what the rule asked for.
    written[0].record.scopes.as_mut().unwrap().required = vec!["b:read".into()];
    let known = report(POLICY, &(written[0].erased_line() + "\n"));
    assert!(known["proposal"]["diff"].as_str().unwrap().contains("+    scopes: [\"b:read\"]  # what readers read"));
}

#[test]
fn people_with_more_roles_than_a_record_holds_are_known_by_those_of_the_policy_then() {
    let mut written = send_all(POLICY, &[Sent::new("ann", "desk", &["readers"], "read_a")], 1);
    written[0].personal.as_mut().unwrap().claimed_roles = vec!["…[+40]".into()];
    let report = report(POLICY, &log(&written));
    assert_eq!(party(&report, "operator", "reader")["scopes"]["a:read"]["used"]["count"], 1);
    assert!(report["proposal"]["diff"].as_str().unwrap().contains("+    scopes: [\"a:read\"]  # what readers read"));
}

#[test]
fn hostile_names_stay_text() {
    let hostile = "<script>alert(1)</script>\"'&\u{202e}\u{1b}[2J";
    let mut written = send_all(POLICY, &[Sent::new("ann", "desk", &["readers"], "other")], 1);
    written[0].record.target.as_mut().unwrap().name = Some(hostile.into());
    let log = log(&written);
    let page = toolgate(POLICY, &log, &["access-report", "--policy", "POLICY", "--format", "html", "LOG"]).out;
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;\\u{202e}\\u{1b}[2J"), "{page}");
    for unwanted in
        ["<script", "http://", "https://", "src=", "href=", "@import", "url(", "javascript:", "\u{1b}", "\u{202e}"]
    {
        assert!(!page.contains(unwanted), "{unwanted}");
    }
    let text = toolgate(POLICY, &log, &["access-report", "--policy", "POLICY", "LOG"]).out;
    assert!(text.contains("alert(1)") && !text.contains('\u{1b}') && !text.contains('\u{202e}'), "{text}");
}

#[test]
fn the_page_is_well_formed_and_can_be_read_without_seeing_the_charts() {
    let log = log(&send_all(POLICY, &day(), 3600));
    let page = toolgate(POLICY, &log, &["access-report", "--policy", "POLICY", "--format", "html", "LOG"]).out;
    assert_eq!(unclosed(&page), Vec::<String>::new());
    for wanted in [
        "<html lang=\"en\">",
        "width=device-width",
        "prefers-color-scheme:dark",
        "<title id=\"bars-title\">",
        "<desc id=\"timeline-text\">",
        "<th scope=\"col\">",
        "<th scope=\"row\">scope a:read</th><td class=\"n\">3</td>",
        "<ins>+    scopes: [&quot;a:read&quot;]",
    ] {
        assert!(page.contains(wanted), "{wanted}\n{page}");
    }
}

/// Elements that are not closed in the order in which they were opened.
fn unclosed(page: &str) -> Vec<String> {
    let mut open: Vec<String> = Vec::new();
    for piece in page.split('<').skip(1) {
        let tag = piece.split('>').next().unwrap();
        let name = tag.split([' ', '/']).find(|part| !part.is_empty()).unwrap();
        if let Some(closed) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(closed), "{piece}");
        } else if !tag.ends_with('/') && !tag.starts_with('!') && name != "meta" {
            open.push(name.to_owned());
        }
    }
    open
}

#[test]
fn logs_come_from_files_or_standard_input_and_reports_go_where_they_should() {
    let log = log(&send_all(POLICY, &day(), 3600));
    let from_file = report(POLICY, &log);
    let ran = toolgate(POLICY, &log, &["access-report", "--policy", "POLICY", "--format", "json"]);
    assert_eq!(serde_json::from_str::<Value>(&ran.out).unwrap(), from_file);
    let output = NamedTempFile::new().unwrap();
    let path = output.path().to_str().unwrap();
    let ran =
        toolgate(POLICY, &log, &["access-report", "--policy", "POLICY", "--format", "json", "--output", path, "LOG"]);
    assert_eq!(ran.out, "");
    assert_eq!(serde_json::from_slice::<Value>(&std::fs::read(path).unwrap()).unwrap(), from_file);
    let since =
        ["access-report", "--policy", "POLICY", "--format", "json", "--since", "2027-01-15T13:00:00.000Z", "LOG"];
    let late: Value = serde_json::from_str(&toolgate(POLICY, &log, &since).out).unwrap();
    assert_eq!((&late["allowed"], &late["denied"]), (&json!(3), &json!(2)));
    let ran = toolgate("rules: []", &log, &["access-report", "--policy", "POLICY", "LOG"]);
    assert_eq!(ran.code, toolgate_cli::host::Exit::CannotRun);
    assert!(ran.err.contains("policy"), "{}", ran.err);
}

#[test]
fn an_empty_log_proves_nothing() {
    let ran = toolgate(POLICY, "", &["access-report", "--policy", "POLICY", "LOG"]);
    assert!(ran.out.contains("nothing can be said about use"), "{}", ran.out);
}

/// The text after a unified diff, which must fit.
fn apply(text: &str, diff: &str) -> String {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let (mut next, mut result) = (0, String::new());
    for line in diff.split_inclusive('\n').skip(2) {
        if let Some(header) = line.strip_prefix("@@ -") {
            let start: usize = header.split([',', ' ']).next().unwrap().parse().unwrap();
            lines[next..start - 1].iter().for_each(|line| result.push_str(line));
            next = start - 1;
            continue;
        }
        let (mark, content) = line.split_at(1);
        if mark != "+" {
            assert_eq!(lines[next], content);
            next += 1;
        }
        if mark != "-" {
            result.push_str(content);
        }
    }
    lines[next..].iter().for_each(|line| result.push_str(line));
    result
}

fn any_call() -> impl Strategy<Value = Sent> {
    let roles = prop::sample::subsequence(vec!["readers", "writers", "idlers"], 0..=3);
    let targets = ["read_a", "write_a", "change_a_x", "read_b", "write_b", "admin", "norg://b/1", "other"];
    (
        prop::sample::select(vec!["ann", "bob"]),
        prop::sample::select(vec!["desk", "free", "other"]),
        roles,
        prop::sample::select(targets.to_vec()),
    )
        .prop_map(|(subject, client, roles, target)| Sent::new(subject, client, &roles, target))
}

fn is_allowed(written: &Written) -> bool {
    written.record.verdict == toolgate::audit::record::Verdict::Allow
}

/// [`POLICY`] with other lists of scopes, each in brackets or on lines of its own.
fn any_policy() -> impl Strategy<Value = String> {
    let entries = ["*", "*:read", "a:*", "a:read", "a:write", "b:*", "b:read", "b:write", "c:admin"];
    let list = (prop::sample::subsequence(entries.to_vec(), 0..=4).prop_shuffle(), any::<bool>());
    prop::collection::vec(list, 5).prop_map(|lists| {
        let quoted = |entries: &[&str]| entries.iter().map(|entry| format!("{entry:?}")).collect::<Vec<_>>();
        let flow = |entries: &[&str]| format!("[{}]", quoted(entries).join(", "));
        let written = |(entries, is_flow): &(Vec<&str>, bool)| {
            if *is_flow || entries.is_empty() {
                return flow(entries);
            }
            quoted(entries).iter().map(|entry| format!("\n      # one of them\n      - {entry}  # this")).collect()
        };
        let put = |policy: String, place: &str, list: &str| {
            assert!(policy.contains(place), "{place}");
            policy.replace(place, list)
        };
        let policy = put(POLICY.to_owned(), "[\"a:read\", \"b:read\"]  # what readers read", &written(&lists[0]));
        let place = "\n      # All of both,\n      - \"a:*\"\n      - b:write   # and this.\n      - c:admin";
        let policy = put(policy, place, &format!(" {}", written(&lists[1])));
        let place = "scopes: [\"*\"]\n    except: [\"c:admin\"]";
        let policy = put(policy, place, &format!("scopes: {}\n    except: [\"b:read\"]", written(&lists[2])));
        let policy = put(policy, "[\"a:*\", \"b:*\"], consent", &format!("{}, consent", flow(&lists[3].0)));
        put(policy, "scopes: [\"*\"]}}", &format!("scopes: {}}}}}", flow(&lists[4].0)))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever was done: the gateway itself allows it under the proposed policy, which allows nothing that the given one
    /// does not, and than which the same log proposes no smaller one.
    #[test]
    fn the_proposed_policy_allows_what_was_done_and_no_more(
        policy in prop_oneof![Just(POLICY.to_owned()), any_policy()],
        calls in prop::collection::vec(any_call(), 0..12),
        others in prop::collection::vec(any_call(), 6),
    ) {
        let before = send_all(&policy, &calls, 1);
        let log = log(&before);
        let report = report(&policy, &log);
        prop_assert_eq!(&report["proposal"]["contradicted"], &json!(0));
        let smaller = apply(&policy, report["proposal"]["diff"].as_str().unwrap());
        for (old, new) in before.iter().zip(&send_all(&smaller, &calls, 1)) {
            prop_assert_eq!(is_allowed(old), is_allowed(new), "{:?}\n{}", old, smaller);
        }
        for (old, new) in send_all(&policy, &others, 1).iter().zip(&send_all(&smaller, &others, 1)) {
            prop_assert!(is_allowed(old) || !is_allowed(new), "{:?}\n{}", old, smaller);
        }
        let again = self::report(&smaller, &log);
        prop_assert_eq!(&again["proposal"]["diff"], &json!(""), "{}", smaller);
        let comments = |text: &str| text.matches("# one of them").count();
        prop_assert_eq!(comments(&policy), comments(&smaller));
    }
}

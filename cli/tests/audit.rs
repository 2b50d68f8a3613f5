//! `toolgate audit`: the records that were asked for, as a table or as JSON, and nothing that a terminal would obey.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on has failed"
)]

#[expect(dead_code, reason = "each test needs a part of it")]
mod support;

use serde_json::Value;
use toolgate::audit::record::{Approval, ApprovalStatus, Approver, Personal, Record, Target, Unverified, Verdict};
use toolgate_cli::host::Exit;

use support::{Worker, Written, file, gzip, person, sample, text, toolgate, toolgate_on, verify};

/// Two people, a refusal, and a token that nobody vouches for.
fn log() -> Vec<Written> {
    let mut worker = Worker::new("chain-a", "one");
    let mut other = Worker::new("chain-b", "one");
    let denied = Record {
        verdict: Verdict::Deny,
        reason: "insufficient_scope".into(),
        target: Some(Target { kind: "tool".into(), name: Some("write".into()) }),
        ..other.plain(3600)
    };
    let refused = Record { caller: None, verdict: Verdict::Deny, reason: "invalid_token".into(), ..other.plain(7200) };
    let unverified = Personal {
        subject: None,
        unverified: Some(Unverified { subject: Some("mallory".into()), ..Unverified::default() }),
        ..person("")
    };
    vec![
        worker.request(0, Some(&person("anna"))),
        worker.checkpoint(1, "checkpoint"),
        other.write(denied, Some(&person("bert"))),
        other.write(refused, Some(&unverified)),
        worker.request(39_600, None),
    ]
}

fn shown(arguments: &[&str]) -> Vec<String> {
    let outcome = toolgate(arguments, &text(&log()));
    assert_eq!((outcome.exit, outcome.stderr.as_str()), (Exit::Clean, ""));
    outcome.stdout.lines().skip(1).map(str::to_owned).collect()
}

#[test]
fn a_table_has_a_row_for_each_request() {
    let rows = shown(&["audit", "show"]);
    assert_eq!(rows.len(), 4);
    let words = |row: &str| row.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let expected =
        ["2026-01-05T00:00:00.000Z", "allow", "allowed", "anna", "desk/bot", "tools/call", "read", "200", "12"];
    assert_eq!(words(&rows[0]), expected);
    assert!(rows[2].contains("mallory (unverified)"));
}

#[test]
fn filters_are_all_met() {
    for (filter, rows) in [
        (&["--person", "anna"][..], 1),
        (&["--person", "mallory"], 1),
        (&["--person", "nobody"], 0),
        (&["--client", "desk"], 3),
        (&["--agent", "bot"], 3),
        (&["--agent", "bot", "--tool", "write"], 1),
        (&["--verdict", "deny"], 2),
        (&["--verdict", "deny", "--reason", "invalid_token"], 1),
        (&["--chain", "chain-b"], 2),
        (&["--since", "2026-01-05T01:00:00Z"], 3),
        (&["--since", "2026-01-05T01:00:00.001Z"], 2),
        (&["--until", "2026-01-05T02:00:00+01:00"], 2),
        (&["--since", "90m"], 1),
        (&["--since", "1d"], 4),
    ] {
        let arguments: Vec<&str> = ["audit", "show", "-"].iter().chain(filter).copied().collect();
        assert_eq!(shown(&arguments).len(), rows, "{filter:?}");
    }
}

#[test]
fn approvals_are_shown_with_their_people() {
    let mut worker = Worker::new("chain-a", "one");
    let approval =
        |status, id: Option<&'static str>| Approval { id: id.map(Into::into), status, ..Approval::default() };
    let approver = |subject: &'static str| Approver { subject: Some(subject.into()), ..Approver::default() };
    let hidden = Approver { pseudonym: Some("p_1".into()), ..Approver::default() };
    let mut decided = person("anna");
    decided.approvers = vec![approver("carol"), hidden];
    let waits = Record { approval: Some(approval(ApprovalStatus::Pending, Some("-id-1"))), ..worker.plain(0) };
    let waits = worker.write(waits, Some(&person("anna")));
    let escalated = Approval { escalated: true, ..approval(ApprovalStatus::Approved, Some("-id-1")) };
    let passes = Record { approval: Some(escalated), ..worker.plain(1) };
    let passes = worker.write(passes, Some(&decided));
    let nobody = Record { approval: Some(approval(ApprovalStatus::Unavailable, None)), ..worker.plain(2) };
    let nobody = worker.write(nobody, None);
    let log = text(&[waits, passes, nobody, worker.request(3, None)]);
    let shown = |arguments: &[&str]| {
        let outcome = toolgate(&[&["audit", "show", "-"], arguments].concat(), &log);
        outcome.stdout.lines().skip(1).map(|row| row.split("  12  ").nth(1).unwrap_or_default().to_owned()).collect()
    };
    let all: Vec<String> = shown(&[]);
    assert_eq!(all, ["pending -id-1", "approved, escalated, by carol, p_1 -id-1", "unavailable", ""]);
    for (filter, rows) in
        [(["--approval=-id-1"], 2), (["--approver=carol"], 1), (["--approver=p_1"], 1), (["--approver=x"], 0)]
    {
        assert_eq!(shown(&filter).len(), rows, "{filter:?}");
    }
}

#[test]
fn a_text_is_found_in_any_value_and_in_no_name() {
    for (pattern, rows) in
        [("ANNA", 1), ("192.0.2.7", 3), ("insufficient", 1), ("12", 4), ("verdict", 0), ("chain-b-0", 2)]
    {
        assert_eq!(shown(&["audit", "grep", pattern]).len(), rows, "{pattern}");
    }
    assert_eq!(shown(&["audit", "grep", "192.0.2.7", "--verdict", "allow"]).len(), 1);
}

#[test]
fn json_is_the_sealed_line_again() {
    let log = sample(5);
    let outcome = toolgate(&["audit", "show", "--format", "json"], &text(&log));
    let requests: Vec<&str> =
        log.iter().filter(|line| line.text.contains(r#""kind":"request""#)).map(|line| &*line.text).collect();
    assert_eq!(outcome.stdout.lines().collect::<Vec<_>>(), requests);
    verify(outcome.stdout.as_bytes(), &[]).assert_whole();
}

#[test]
fn files_are_read_in_every_form() {
    let directory = tempfile::tempdir().unwrap();
    let wrapped: String = log().iter().map(|line| serde_json::json!({"audit": line.text}).to_string() + "\n").collect();
    let plain = file(directory.path(), "a.log", wrapped.as_bytes());
    let packed = file(directory.path(), "b.log", &gzip(&text(&log())));
    let outcome = toolgate(&["audit", "show", plain.to_str().unwrap(), packed.to_str().unwrap()], b"");
    assert_eq!(outcome.stdout.lines().count(), 9);
}

#[test]
fn lines_that_are_no_records_are_counted() {
    let outcome = toolgate(&["audit", "show"], b"-\nother\n");
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", "2 lines are no records that can be read\n"));
}

#[test]
fn an_erased_person_is_shown_as_that() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path(), "a.log", &text(&log()));
    let path = path.to_str().unwrap();
    assert_eq!(toolgate(&["erase", "--subject", "anna", path], b"").exit, Exit::Clean);
    assert!(toolgate(&["audit", "show", path], b"").stdout.contains("(erased)"));
}

#[test]
fn hostile_text_does_not_reach_the_terminal() {
    let hostile = "\u{1b}]0;title\u{7}\u{202e}txt\u{9b}2J\n\u{e0041}";
    let mut worker = Worker::new("chain-a", "one");
    let target = Some(Target { kind: "tool".into(), name: Some(hostile.into()) });
    let record = Record { reason: hostile.into(), method: Some(hostile.into()), target, ..worker.plain(0) };
    let log = [worker.write(record, Some(&person(hostile)))];
    for columns in [20, 80, 500] {
        for format in ["table", "json"] {
            let outcome = toolgate_on(Some(columns), &["audit", "show", "--format", format], &text(&log));
            let is_plain = |character: char| character == '\n' || character == '…' || (' '..='~').contains(&character);
            assert!(outcome.stdout.chars().all(is_plain), "{:?}", outcome.stdout);
            if format == "json" {
                let shown: Value = serde_json::from_str(&outcome.stdout).unwrap();
                assert_eq!(shown["record"]["reason"], Value::from(hostile));
            } else {
                assert!(outcome.stdout.lines().all(|line| line.chars().count() <= columns));
                assert_eq!(outcome.stdout.lines().count(), 2);
            }
        }
    }
}

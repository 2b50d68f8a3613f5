//! `toolgate verify-log`: whole logs are whole in every form, and whatever is done to one is found where it was done.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "a test that cannot go on has failed"
)]

mod support;

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};
use toolgate::audit::record::{Anchor, Kind, Link, Record, VERSION};
use toolgate_cli::host::Exit;

use support::{Worker, Written, file, gzip, person, sample, sealed, text, toolgate, verify};

/// Number of the line that the record `seq` of `chain` is in.
fn line_of(log: &[Written], chain: &str, seq: u64) -> u64 {
    let is_it = |line: &Written| line.kind == Kind::Request && line.chain == chain && line.seq == seq;
    log.iter().position(is_it).map(|index| index as u64 + 1).unwrap()
}

/// The lines of requests, by index.
fn requests(log: &[Written]) -> Vec<usize> {
    (0..log.len()).filter(|index| log[*index].kind == Kind::Request).collect()
}

#[test]
fn a_whole_log_is_whole_in_every_form() {
    let log = sample(20);
    let each = |write: &dyn Fn(&str) -> String| {
        log.iter().flat_map(|line| (write(&line.text) + "\n").into_bytes()).collect::<Vec<u8>>()
    };
    let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    for (form, content) in [
        ("exact", text(&log)),
        ("prefixed", each(&|text| format!("[2026-01-05][info][wasm] wasm log toolgate: toolgate audit {text}"))),
        ("wrapped", each(&|text| json!({"start": 1, "audit": text}).to_string())),
        ("rewritten", each(&|text| json!({"_source": parse(text), "took": 1}).to_string())),
    ] {
        for content in [gzip(&content), content] {
            let verified = verify(&content, &["--closed"]);
            verified.assert_whole();
            assert_eq!(verified.report["forms"], json!({form: log.len()}));
        }
    }
}

#[test]
fn the_summary_counts_what_is_there() {
    let report = verify(&text(&sample(20)), &[]).report;
    assert_eq!(report["records"], json!({"request": 60, "provisional": 15, "checkpoint": 12}));
    assert_eq!(report["verdicts"], json!({"allow": 60}));
    assert_eq!(report["instances"], json!(["one", "two"]));
    assert_eq!(report["unended"], json!({"count": 0, "at_least": false}));
    assert_eq!((&report["from"], &report["until"]), (&json!(support::at(0)), &json!(support::at(19))));
    assert_eq!(report["chains"].as_array().unwrap().len(), 3);
    assert_eq!(report["chains"][0]["closed"], json!(true));
    assert_eq!(report["policies"].as_array().unwrap().len(), 1);
}

#[test]
fn rotated_files_and_files_of_each_worker_are_one_log() {
    let log = sample(20);
    let directory = tempfile::tempdir().unwrap();
    let name = |path: std::path::PathBuf| path.to_str().unwrap().to_owned();
    let (first, rest) = log.split_at(31);
    let rotated = [
        name(file(directory.path(), "access.log.1.gz", &gzip(&text(first)))),
        name(file(directory.path(), "access.log", &text(rest))),
    ];
    let side_by_side = ["chain-c", "chain-a", "chain-b"].map(|chain| {
        let lines: Vec<Written> = log.iter().filter(|line| line.chain == chain).cloned().collect();
        name(file(directory.path(), chain, &text(&lines)))
    });
    for files in [&rotated[..], &side_by_side[..]] {
        let mut arguments = vec!["verify-log", "--closed"];
        arguments.extend(files.iter().map(String::as_str));
        let outcome = toolgate(&arguments, b"");
        assert_eq!(outcome.exit, Exit::Clean, "{}", outcome.stdout);
        assert!(outcome.stdout.contains("The log is whole"), "{}", outcome.stdout);
    }
    let outcome = toolgate(&["verify-log", &rotated[1], &rotated[0]], b"");
    assert_eq!(outcome.exit, Exit::Defects);
    assert_eq!(
        outcome.stdout.matches("out of order").count(),
        4,
        "one for each chain, and the sum: {}",
        outcome.stdout
    );
}

#[test]
fn a_log_that_goes_on_from_another_one_has_no_beginning() {
    let log = sample(20);
    let rest = &log[31..];
    let chains = verify(&text(rest), &[]).defects();
    assert_eq!(chains.iter().map(|(kind, _)| kind.as_str()).collect::<Vec<_>>(), ["beginning_missing"; 3]);
    verify(&text(rest), &["--continued", "--closed"]).assert_whole();
}

#[test]
fn a_cut_off_end_is_found_by_whoever_saw_it() {
    let log = sample(12);
    let end = line_of(&log, "chain-c", 10) as usize - 1;
    let cut: Vec<Written> = log[..end].iter().filter(|line| line.chain == "chain-c").cloned().collect();
    let last = line_of(&cut, "chain-c", 9);
    // By another chain.
    let mut with_other = cut.clone();
    let mut other = Worker::new("chain-z", "one");
    let mac = serde_json::from_str::<Value>(&log[end].text).unwrap()["mac"].as_str().unwrap().to_owned();
    let head = toolgate::audit::record::Head { id: "chain-c".into(), mac: mac.into(), seq: 10 };
    with_other.push(other.write(Record { heads: vec![head], ..other.plain(99) }, None));
    verify(&text(&with_other), &[]).assert_defects(&[("cut_off", last)]);
    // By checkpoints that are stored elsewhere, which come after those of the log in `Place`.
    let directory = tempfile::tempdir().unwrap();
    let stored: Vec<Written> =
        log.iter().filter(|line| line.kind == Kind::Checkpoint && line.chain == "chain-c").cloned().collect();
    let store = file(directory.path(), "checkpoints", &text(&stored));
    let verified = verify(&text(&cut), &["--checkpoints", store.to_str().unwrap()]);
    verified.assert_defects(&[("cut_off", last)]);
    assert_eq!(verified.report["defects"][0]["other_file"], json!(store.to_str().unwrap()));
    assert_eq!(
        (&verified.report["defects"][0]["first"], &verified.report["defects"][0]["last"]),
        (&json!(10), &json!(11))
    );
    // By nobody: then it is said that it cannot be known.
    let verified = verify(&text(&cut), &[]);
    verified.assert_whole();
    let known = verified.report["not_known"][0]["chains"][0].as_str().unwrap();
    assert!(known.starts_with("chain-c: complete to record 9 until 2026-01-05T00:00:09.000Z"), "{known}");
    assert_eq!(verify(&text(&cut), &["--closed"]).defects(), [("not_closed".to_owned(), last)]);
}

#[test]
fn a_chain_that_is_only_mentioned_is_missing() {
    let log: Vec<Written> = sample(12).into_iter().filter(|line| line.chain != "chain-a").collect();
    let verified = verify(&text(&log), &[]);
    assert_eq!(verified.defects().iter().map(|(kind, _)| kind.as_str()).collect::<Vec<_>>(), ["chain_missing"]);
}

#[test]
fn a_record_that_was_written_with_the_key_is_still_held_against_what_others_saw() {
    let mut worker = Worker::new("chain-a", "one");
    let mut log: Vec<Written> = (0..5).map(|second| worker.request(second, None)).collect();
    let mut forged = Worker { mac: "A".repeat(43), ..worker.clone() };
    let checkpoint = forged.checkpoint(9, "checkpoint");
    log.push(checkpoint);
    verify(&text(&log), &[]).assert_defects(&[("other_record_seen", 6)]);
    log.pop();
    log.push(forged.request(6, None));
    verify(&text(&log), &[]).assert_defects(&[("wrong_prev", 6)]);
}

#[test]
fn anchors_stand_at_the_beginning_of_chains_only() {
    let mut worker = Worker::new("chain-a", "one");
    let anchor = Anchor::default();
    let first = worker.request(0, None);
    let second = worker.write(Record { anchor: Some(anchor), ..worker.plain(1) }, None);
    verify(&text(&[first, second]), &[]).assert_defects(&[("anchor", 2)]);
    let mut record = worker.plain(0);
    record.chain = Some(Link { id: "x".into(), key: "k1".into(), ..Link::default() });
    let bare = format!("{}\n", sealed(&record, None).0);
    verify(bare.as_bytes(), &[]).assert_defects(&[("anchor", 1)]);
}

#[test]
fn text_that_a_client_chose_does_not_stand_for_a_record() {
    let log = chain(6);
    let forged = log[3].text.replace("allowed", "alloweD");
    let wrap = |agent: &dyn Fn(usize) -> String| {
        let lines = log.iter().enumerate().filter(|(index, _)| *index != 3);
        let line = |(index, line): (usize, &Written)| json!({"agent": agent(index), "audit": line.text}).to_string();
        lines.map(|each| line(each) + "\n").collect::<String>()
    };
    let inside = |prefix: &str| wrap(&|index| if index == 1 { format!("{prefix}{forged}") } else { String::new() });
    verify(inside("Mozilla ").as_bytes(), &[]).assert_defects(&[("missing", 4)]);
    verify(inside("toolgate audit ").as_bytes(), &[]).assert_defects(&[("missing", 4)]);
    verify(inside("").as_bytes(), &[]).assert_defects(&[("changed", 2), ("missing", 4)]);
    // The same as a line of text.
    let plain: String = log.iter().map(|line| line.text.clone() + "\n").collect();
    let plain = plain.replace(&log[3].text, &format!("GET / \"toolgate audit {forged}"));
    verify(plain.as_bytes(), &[]).assert_defects(&[("changed", 4), ("missing", 5)]);
    let plain = plain.replace("toolgate audit ", "");
    verify(plain.as_bytes(), &["--ignore-other-lines"]).assert_defects(&[("missing", 5)]);
}

#[test]
fn a_damaged_record_among_others_of_a_line_is_found() {
    let log = chain(6);
    let mut bodies: Vec<String> = log.iter().map(|line| line.text.clone()).collect();
    bodies[5] = bodies[5].replace(r#""v":1"#, r#""v";1"#);
    let line = json!({"records": bodies}).to_string() + "\n";
    verify(line.as_bytes(), &[]).assert_defects(&[("changed", 1)]);
}

#[test]
fn a_log_that_goes_on_says_what_it_leaves_to_the_one_before() {
    let log = sample(20);
    let rest: Vec<Written> = log[31..].iter().filter(|line| line.chain != "chain-c").cloned().collect();
    let known = |verified: &support::Verified, index: usize| verified.report["not_known"][index]["chains"].clone();
    let verified = verify(&text(&rest), &["--continued"]);
    verified.assert_whole();
    assert!(known(&verified, 0)[0].as_str().unwrap().starts_with("chain-a: its first record here is "));
    assert_eq!(known(&verified, 0).as_array().unwrap().len(), 2);
    // A chain that only checkpoints know.
    let mut worker = Worker::new("chain-z", "two");
    let before = worker.request(0, None);
    let mut with_checkpoint = rest.clone();
    with_checkpoint.push(worker.checkpoint(1, "checkpoint"));
    let verified = verify(&text(&with_checkpoint), &["--continued"]);
    verified.assert_whole();
    let chain = known(&verified, 1)[0].as_str().unwrap().to_owned();
    assert!(chain.starts_with("chain-z: record 0 existed at 2026-01-05T00:00:01.000Z"), "{chain}");
    // One of the time of the log.
    *with_checkpoint.last_mut().unwrap() = worker.checkpoint(15, "checkpoint");
    let line = with_checkpoint.len() as u64;
    verify(&text(&with_checkpoint), &["--continued"]).assert_defects(&[("chain_missing", line)]);
    with_checkpoint.insert(0, before);
    verify(&text(&with_checkpoint), &["--continued"]).assert_whole();
}

#[test]
fn a_chain_that_another_one_mentions_is_not_dated_by_that() {
    let mut first = Worker::new("chain-a", "one");
    let mut other = Worker::new("chain-b", "one");
    let mut log = vec![first.request(0, None)];
    let heads = first.head().into_iter().collect();
    log.push(other.write(Record { heads, ..other.plain(50) }, None));
    let report = verify(&text(&log), &[]).report;
    let known = &report["not_known"][0]["chains"][0];
    assert_eq!(known, "chain-a: complete to record 0, mentioned by another chain at (standard input):2");
    assert_eq!(report["chains"][0]["vouched"].get("at"), None);
}

#[test]
fn nothing_follows_a_closing_checkpoint() {
    let mut worker = Worker::new("chain-a", "one");
    let mut log = vec![worker.request(0, None)];
    log.push(worker.checkpoint(1, "closing"));
    log.push(worker.request(2, None));
    log.push(worker.request(3, None));
    verify(&text(&log), &[]).assert_defects(&[("after_closing", 3)]);
    // The checkpoint came late.
    log.swap(1, 2);
    log.swap(2, 3);
    verify(&text(&log), &[]).assert_defects(&[("after_closing", 3)]);
    log.remove(3);
    let directory = tempfile::tempdir().unwrap();
    let mut stored = Worker::new("chain-a", "one");
    stored.request(0, None);
    let store = file(directory.path(), "checkpoints", &text(&[stored.checkpoint(1, "closing")]));
    verify(&text(&log), &["--checkpoints", store.to_str().unwrap()]).assert_defects(&[("after_closing", 2)]);
}

#[test]
fn ids_that_are_too_long_are_not_remembered() {
    let mut worker = Worker::new(&"a".repeat(257), "one");
    let verified = verify(&text(&[worker.request(0, None)]), &[]);
    verified.assert_defects(&[("unreadable", 1)]);
    assert!(!verified.report.to_string().contains("aaaa"));
    let mut worker = Worker::new(&"a".repeat(240), "one");
    verify(&text(&[worker.request(0, None)]), &[]).assert_whole();
    let first = Record { id: "i".repeat(257).into(), ..Worker::new("chain-a", "one").plain(0) };
    let first = Worker::new("chain-a", "one").write(first, None);
    verify(&text(&[first]), &[]).assert_defects(&[("unreadable", 1)]);
}

#[test]
fn requests_without_a_record_are_found_in_json() {
    let log = chain(3);
    let lines = |first: &Value, last: &Value| {
        let records = log.iter().map(|line| json!({"audit": line.text, "referer": null}));
        let all = [first.clone()].into_iter().chain(records).chain([last.clone()]);
        all.map(|line| line.to_string() + "\n").collect::<String>()
    };
    let (mark, null) = (json!({"audit": "-", "code": 500}), json!({"audit": null, "code": 500}));
    let other = json!({"level": "info", "user": null, "host": "-"});
    for arguments in [&[][..], &["--ignore-other-lines"]] {
        verify(lines(&mark, &null).as_bytes(), arguments).assert_defects(&[("no_record", 1), ("no_record", 5)]);
    }
    verify(lines(&other, &other).as_bytes(), &["--ignore-other-lines"]).assert_whole();
    let body = |text: &str| json!({"body": {"stringValue": text}});
    let bodies = [body(&log[0].text), body("-"), body(&log[1].text)];
    let export = json!({"resourceLogs": [{"scopeLogs": [{"logRecords": bodies}]}]}).to_string() + "\n";
    for arguments in [&[][..], &["--ignore-other-lines"]] {
        verify(export.as_bytes(), arguments).assert_defects(&[("no_record", 1)]);
    }
}

#[test]
fn resources_and_chains_of_which_no_store_speaks_are_named() {
    let resources = ["https://a.test/mcp", "https://b.test/mcp"];
    let mut workers = [Worker::new("chain-a", "one"), Worker::new("chain-b", "one")];
    let log: Vec<Written> = workers
        .iter_mut()
        .zip(resources)
        .map(|(worker, resource)| {
            let anchor = Some(Anchor { resource: resource.into(), ..Anchor::default() });
            worker.write(Record { anchor, ..worker.plain(0) }, None)
        })
        .collect();
    let directory = tempfile::tempdir().unwrap();
    let store = file(directory.path(), "checkpoints", &text(&[workers[0].checkpoint(1, "closing")]));
    let verified = verify(&text(&log), &["--checkpoints", store.to_str().unwrap()]);
    verified.assert_whole();
    assert_eq!(verified.report["resources"], json!(resources));
    let not_known = verified.report["not_known"].as_array().unwrap();
    let strange = not_known.iter().find(|one| one["what"].as_str().unwrap().contains("no stored checkpoint")).unwrap();
    assert_eq!(strange["chains"], json!(["chain-b"]));
    let outcome = toolgate(&["verify-log", "-"], &text(&log));
    assert!(outcome.stdout.contains("Resources  https://a.test/mcp, https://b.test/mcp\n"), "{}", outcome.stdout);
    assert!(!outcome.stdout.contains("no stored checkpoint"));
}

#[test]
fn requests_that_never_ended_are_counted() {
    let mut worker = Worker::new("chain-a", "one");
    let mut log = vec![worker.request(0, None), worker.provisional(1, &person("anna"))];
    log.push(log[1].clone());
    let verified = verify(&text(&log), &[]);
    verified.assert_whole();
    assert_eq!(verified.report["unended"]["count"], json!(1));
    log.push(worker.request(2, None));
    assert_eq!(verify(&text(&log), &[]).report["unended"]["count"], json!(0));
}

#[test]
fn keys_are_told_apart() {
    let log = text(&sample(1));
    assert_eq!(verify(&log, &["--key", "k2=OTHER_KEY"]).report["defects_by_kind"], json!({"unknown_key": 6}));
    assert_eq!(verify(&log, &["--key", "k1=OTHER_KEY"]).report["defects_by_kind"], json!({"changed": 6}));
    let outcome = toolgate(&["verify-log", "--key", "k1=NOT_SET", "-"], &log);
    assert_eq!(outcome.exit, Exit::CannotRun);
    assert!(outcome.stderr.contains("`NOT_SET` is not set"), "{}", outcome.stderr);
    assert_eq!(toolgate(&["verify-log", "no/such/file"], b"").exit, Exit::CannotRun);
}

#[test]
fn lines_that_are_no_records_are_told_apart() {
    let mut log = text(&sample(2));
    let count = sample(2).len() as u64;
    log.extend_from_slice(b"-\n[info] other\n");
    verify(&log, &[]).assert_defects(&[("no_record", count + 1), ("unreadable", count + 2)]);
    verify(&log, &["--ignore-other-lines"]).assert_defects(&[("no_record", count + 1)]);
}

#[test]
fn damaged_gzip_is_a_defect_with_its_place() {
    let compressed = gzip(&text(&sample(20)));
    let verified = verify(&compressed[..compressed.len() / 2], &[]);
    assert!(verified.defects().iter().any(|(kind, _)| kind == "cut"));
}

#[test]
fn a_flood_of_defects_is_counted_and_not_listed() {
    let log = "x\n".repeat(500);
    let verified = verify(log.as_bytes(), &["--max-defects", "7"]);
    assert_eq!(verified.report["defects_found"], json!(500));
    assert_eq!(verified.defects().len(), 7);
    assert_eq!(verified.defects()[6].1, 7);
}

#[test]
fn hostile_text_does_not_reach_the_terminal() {
    let mut worker = Worker::new("chain\u{1b}[2J\u{202e}", "in\nstance");
    let log = [worker.request(0, None), worker.checkpoint(1, "checkpoint")];
    let outcome = toolgate(&["verify-log", "-"], &text(&log));
    assert!(!outcome.stdout.contains(['\u{1b}', '\u{202e}']), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("chain\\u{1b}[2J\\u{202e}"));
    let outcome = toolgate(&["verify-log", "--format", "json", "-"], &text(&log));
    assert!(!outcome.stdout.contains(['\u{1b}', '\u{202e}']), "{}", outcome.stdout);
    let report: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(report["chains"][0]["id"], "chain\u{1b}[2J\u{202e}");
}

#[test]
fn records_of_a_later_version_keep_their_place() {
    let mut worker = Worker::new("chain-a", "one");
    let first = worker.request(0, None);
    let mut record = serde_json::to_value(Record { v: VERSION + 1, ..worker.plain(1) }).unwrap();
    record["chain"] = json!({"id": "chain-a", "key": "k1", "prev": worker.mac, "seq": 1});
    record["zone"] = json!("new");
    let record = record.to_string();
    let mac = toolgate::audit::seal::mac(&support::key(), record.as_bytes());
    let log = format!("{}\n{}\n", first.text, toolgate::audit::seal::line(&mac, None, &record));
    verify(log.as_bytes(), &[]).assert_whole();
}

/// One chain without anything else in it.
fn chain(count: u64) -> Vec<Written> {
    let mut worker = Worker::new("chain-a", "one");
    (0..count).map(|second| worker.request(second, None)).collect()
}

#[test]
fn a_block_that_was_moved_or_repeated_is_one_defect() {
    let log = chain(40);
    let moved = [&log[..10], &log[20..30], &log[10..20], &log[30..]].concat();
    verify(&text(&moved), &[]).assert_defects(&[("out_of_order", 21)]);
    let late = [&log[..10], &log[20..], &log[10..20]].concat();
    verify(&text(&late), &[]).assert_defects(&[("out_of_order", 31)]);
    let twice = [&log[..], &log[..]].concat();
    let verified = verify(&text(&twice), &[]);
    verified.assert_defects(&[("duplicate", 41)]);
    assert_eq!(
        (&verified.report["defects"][0]["first"], &verified.report["defects"][0]["last"]),
        (&json!(0), &json!(39))
    );
}

#[test]
fn more_damage_than_is_remembered_is_still_counted() {
    let log = chain(10_001);
    let holes: Vec<Written> = log.iter().step_by(2).cloned().collect();
    assert_eq!(verify(&text(&holes), &[]).report["defects_by_kind"], json!({"missing": 5000}));
    let turned: Vec<Written> = log[..2000].iter().rev().cloned().collect();
    let verified = verify(&text(&turned), &["--max-defects", "3000"]);
    assert!(verified.defects().iter().all(|(kind, _)| kind == "out_of_order" || kind == "beginning_missing"));
    assert!((1000..=2000).contains(&verified.defects().len()), "{}", verified.defects().len());
}

#[test]
fn a_chain_with_a_gap_is_called_complete_only_before_it() {
    let mut log = chain(9);
    log.remove(5);
    let known = |log: &[Written]| verify(&text(log), &[]).report["not_known"][0]["chains"][0].clone();
    assert_eq!(known(&log), json!("chain-a: complete to record 4; see the defects for what comes after it"));
    log[3].text = log[3].text.replace("allowed", "alloweD");
    assert_eq!(known(&log), json!("chain-a: complete to record 2; see the defects for what comes after it"));
    assert_eq!(known(&log[1..]), json!("chain-a: not complete from its beginning on; see the defects"));
}

#[test]
fn a_record_that_says_nothing_of_its_place_is_no_record() {
    let record = serde_json::to_string(&Worker::new("chain-a", "one").plain(0)).unwrap();
    let line =
        toolgate::audit::seal::line(&toolgate::audit::seal::mac(&support::key(), record.as_bytes()), None, &record)
            + "\n";
    verify(line.as_bytes(), &[]).assert_defects(&[("changed", 1)]);
}

#[test]
fn personal_parts_belong_to_their_records() {
    let mut worker = Worker::new("chain-a", "one");
    let log =
        [worker.request(0, Some(&person("anna"))), worker.request(1, None), worker.request(2, Some(&person("b")))];
    let part = r#""personal":{"salt":"c2FsdHNhbHRzYWx0c2FsdA","source":"192.0.2.7","subject":"anna"},"#;
    let mut changed = log.clone();
    changed[0].text = log[0].text.replace(part, "");
    changed[1].text = log[1].text.replace(r#""record":"#, &format!(r#"{part}"record":"#));
    changed[2].text = log[2].text.replace(r#""subject":"b""#, r#""subject":"c""#);
    let expected = [("personal_changed", 1), ("personal_changed", 2), ("personal_changed", 3)];
    verify(&text(&changed), &[]).assert_defects(&expected);
}

#[test]
fn a_log_without_records_is_not_whole() {
    for content in ["", "something else\n", "word 1.2 {\"mac\":\"\",\"record\":{}}\n"] {
        let verified = verify(content.as_bytes(), &["--ignore-other-lines"]);
        assert_eq!((verified.exit, &verified.report["whole"]), (Exit::Defects, &false.into()), "{content}");
    }
}

#[test]
fn a_checkpoint_that_is_there_twice_is_found() {
    let mut log = sample(8);
    let index = log.iter().position(|line| line.kind == Kind::Checkpoint).unwrap();
    log.insert(index + 5, log[index].clone());
    verify(&text(&log), &[]).assert_defects(&[("duplicate", index as u64 + 6)]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_changed_byte_is_found_in_its_line(place in any::<Index>(), change in 1..=255_u8) {
        let log = sample(8);
        let mut bytes = text(&log);
        let index = place.index(bytes.len());
        let line = 1 + bytes[..index].iter().filter(|byte| **byte == b'\n').count() as u64;
        bytes[index] ^= change;
        let defects = verify(&bytes, &["--closed"]).defects();
        prop_assert!(defects.iter().any(|(_, place)| *place == line), "line {line}: {defects:?}");
        prop_assert!(defects.len() <= 4, "{defects:?}");
    }

    #[test]
    fn a_removed_line_is_missing_before_the_next_one(place in any::<Index>()) {
        let mut log = sample(8);
        let index = *place.get(&requests(&log));
        let removed = log.remove(index);
        let next = (index < log.len()).then(|| {
            let is_next = |line: &Written| line.kind == Kind::Request && line.chain == removed.chain;
            log[index..].iter().position(is_next).map(|after| (index + after) as u64 + 1)
        });
        let defects = verify(&text(&log), &["--closed"]).defects();
        match next.flatten() {
            Some(line) => {
                let kind = if removed.seq == 0 { "beginning_missing" } else { "missing" };
                prop_assert_eq!(defects, [(kind.to_owned(), line)]);
            }
            None => {
                let last = line_of(&log, &removed.chain, removed.seq - 1);
                prop_assert_eq!(&defects[0], &("cut_off".to_owned(), last));
            }
        }
    }

    #[test]
    fn a_repeated_line_is_found(from in any::<Index>(), to in any::<Index>()) {
        let mut log = sample(8);
        let from = *from.get(&requests(&log));
        let to = to.index(log.len() + 1);
        let copy = log[from].clone();
        log.insert(to, copy);
        let original = if to <= from { from + 1 } else { from };
        let defects = verify(&text(&log), &["--closed"]).defects();
        prop_assert_eq!(defects.len(), 1, "{:?}", &defects);
        prop_assert_eq!(&defects[0].0, "duplicate");
        prop_assert!([to as u64 + 1, original as u64 + 1].contains(&defects[0].1), "{:?}", &defects);
    }

    #[test]
    fn swapped_lines_are_found(first in any::<Index>(), second in any::<Index>()) {
        let mut log = sample(8);
        let all = requests(&log);
        let first = *first.get(&all);
        let same: Vec<usize> =
            all.into_iter().filter(|index| *index != first && log[*index].chain == log[first].chain).collect();
        let second = *second.get(&same);
        log.swap(first, second);
        let (first, second) = (first.min(second), first.max(second));
        let lines = [first as u64 + 1, second as u64 + 1];
        let defects = verify(&text(&log), &["--closed"]).defects();
        prop_assert!((1..=2).contains(&defects.len()), "{lines:?}: {defects:?}");
        // Of three lines in reverse, any two can be called the ones that moved.
        prop_assert!(defects.iter().any(|(_, line)| lines.contains(line)), "{lines:?}: {defects:?}");
        for (kind, line) in &defects {
            prop_assert_eq!(kind, "out_of_order");
            prop_assert!((lines[0]..=lines[1]).contains(line), "{lines:?}: {defects:?}");
        }
    }

    #[test]
    fn a_truncated_log_is_found(place in any::<Index>(), has_store in any::<bool>()) {
        let log = sample(8);
        let whole = text(&log);
        let bytes = &whole[..place.index(whole.len())];
        let directory = tempfile::tempdir().unwrap();
        let stored: Vec<Written> = log.iter().filter(|line| line.kind == Kind::Checkpoint).cloned().collect();
        let store = file(directory.path(), "checkpoints", &text(&stored));
        // The last lines are closing checkpoints, of which the store has a copy.
        let needs_it = ["--closed"];
        let has_it = ["--checkpoints", store.to_str().unwrap(), "--closed"];
        let defects = verify(bytes, if has_store { &has_it } else { &needs_it }).defects();
        let last = 1 + bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        let is_cut_inside = !bytes.is_empty() && bytes.last() != Some(&b'\n');
        if is_cut_inside {
            prop_assert!(defects.contains(&("cut".to_owned(), last)), "{defects:?}");
        } else if has_store {
            let lost = log[last as usize - 1..].iter().any(|line| line.kind == Kind::Request);
            prop_assert_eq!(lost, !defects.is_empty(), "{:?}", &defects);
        } else if last > 1 {
            prop_assert!(!defects.is_empty());
        }
    }

    #[test]
    fn only_the_right_order_is_right(order in proptest::collection::vec(0..12_usize, 1..30)) {
        let log = chain(12);
        let picked: Vec<Written> = order.iter().map(|index| log[*index].clone()).collect();
        let defects = verify(&text(&picked), &[]).defects();
        prop_assert_eq!(defects.is_empty(), order.iter().copied().eq(0..order.len()));
        prop_assert!(defects.len() <= 2 * order.len() + 1, "{order:?}: {defects:?}");
    }

    #[test]
    fn a_shuffled_chain_is_out_of_order_and_nothing_else(order in Just((0..12_usize).collect::<Vec<_>>()).prop_shuffle()) {
        let log = chain(12);
        let shuffled: Vec<Written> = order.iter().map(|index| log[*index].clone()).collect();
        for (kind, _) in verify(&text(&shuffled), &[]).defects() {
            prop_assert_eq!(kind, "out_of_order", "{:?}", &order);
        }
    }

    #[test]
    fn rotation_changes_nothing(split in any::<Index>(), removed in any::<Index>(), removes in any::<bool>()) {
        let mut log = sample(8);
        // Neither the first nor the last record of a chain.
        let inner: Vec<usize> = requests(&log).into_iter().filter(|index| (1..7).contains(&log[*index].seq)).collect();
        let removed = removes.then(|| {
            let index = *removed.get(&inner);
            (index, log.remove(index))
        });
        let split = split.index(log.len());
        let directory = tempfile::tempdir().unwrap();
        let first = file(directory.path(), "log.1.gz", &gzip(&text(&log[..split])));
        let second = file(directory.path(), "log", &text(&log[split..]));
        let (first, second) = (first.to_str().unwrap(), second.to_str().unwrap());
        let outcome = toolgate(&["verify-log", "--closed", "--format", "json", first, second], b"");
        let report: Value = serde_json::from_str(&outcome.stdout).unwrap();
        let Some((index, removed)) = removed else {
            prop_assert_eq!(outcome.exit, Exit::Clean);
            return Ok(());
        };
        let is_next = |line: &Written| line.kind == Kind::Request && line.chain == removed.chain;
        let next = index + log[index..].iter().position(is_next).unwrap();
        let (name, line) = if next < split { (first, next + 1) } else { (second, next - split + 1) };
        prop_assert_eq!(report["defects_by_kind"].clone(), json!({"missing": 1}));
        prop_assert_eq!(report["defects"][0]["file"].clone(), json!(name));
        prop_assert_eq!(report["defects"][0]["line"].clone(), json!(line));
        prop_assert_eq!(report["defects"][0]["first"].clone(), json!(removed.seq));
    }

    #[test]
    fn random_text_is_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        verify(&bytes, &[]);
    }
}

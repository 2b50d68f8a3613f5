//! `toolgate erase`: nothing of the person is left, everything else is, and the log stays whole.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on has failed"
)]

#[expect(dead_code, reason = "each test needs a part of it")]
mod support;

use std::fs;
use std::io::Read;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Parser;
use flate2::read::GzDecoder;
use serde_json::{Value, json};
use toolgate::audit::Pseudonyms;
use toolgate::audit::record::{Kind, Personal};
use toolgate_cli::host::Exit;

use support::{Outcome, Verified, Written, file, gzip, person, sample, text, toolgate, verify};

const SUBJECT: &str = "person-07";

fn erase(path: &Path, more: &[&str]) -> Outcome {
    let mut arguments = vec!["erase", "--subject", SUBJECT];
    arguments.extend(more);
    arguments.push(path.to_str().unwrap());
    toolgate(&arguments, b"")
}

fn assert_erased(path: &Path, more: &[&str]) -> Outcome {
    let outcome = erase(path, more);
    assert_eq!(outcome.exit, Exit::Clean, "{}", outcome.stderr);
    outcome
}

fn read(path: &Path) -> String {
    let bytes = fs::read(path).unwrap();
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return String::from_utf8(bytes).unwrap();
    }
    let mut text = String::new();
    GzDecoder::new(&*bytes).read_to_string(&mut text).unwrap();
    text
}

fn verified(path: &Path) -> Verified {
    verify(read(path).as_bytes(), &["--closed"])
}

/// Lines that are about the person: requests and those that were let through.
fn about(log: &[Written]) -> usize {
    log.iter().filter(|line| line.text.contains(SUBJECT)).count()
}

#[test]
fn one_of_fifty_people_is_erased_and_the_log_stays_whole() {
    let log = sample(200);
    let count = about(&log);
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path(), "a.log", &text(&log));
    let outcome = assert_erased(&path, &["--by", "office", "--why", "ticket 12"]);
    assert!(outcome.stdout.contains(&format!("{count} records erased")), "{}", outcome.stdout);

    let erased = read(&path);
    assert!(count > 5 && !erased.contains(SUBJECT));
    for other in (0..50).filter(|other| *other != 7) {
        let subject = format!("person-{other:02}");
        let before = log.iter().filter(|line| line.text.contains(&subject)).count();
        assert_eq!(erased.lines().filter(|line| line.contains(&subject)).count(), before);
    }
    let verified = verified(&path);
    verified.assert_whole();
    assert_eq!((&verified.report["erased"], &verified.report["erasures"]), (&json!(count), &json!(1)));
    let record: Value = serde_json::from_str(erased.lines().last().unwrap()).unwrap();
    assert_eq!(record["record"]["erasure"]["by"], json!("office"));
    assert_eq!(record["record"]["id"].as_str().unwrap().len(), 32);
    assert_eq!(record["record"]["at"], json!("2026-01-05T12:00:00.000Z"));
}

#[test]
fn every_line_that_is_about_others_stays_byte_for_byte() {
    let log = sample(20);
    let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let forms: [&dyn Fn(&str) -> String; 4] = [
        &|text| text.to_owned(),
        &|text| format!("[info] toolgate: toolgate audit {text}"),
        &|text| format!(r#"{{ "z":1.50, "audit": {}, "a" : "\u00e9\/" }}"#, json!(text)),
        &|text| format!(r#"{{ "z":1.50, "_source":{}, "a" : "\u00e9\/" }}"#, parsed(text)),
    ];
    let directory = tempfile::tempdir().unwrap();
    for form in forms {
        let lines: Vec<String> = log.iter().map(|line| form(&line.text)).collect();
        let mut before = lines.join("\n").into_bytes();
        before.push(b'\n');
        for (name, content) in [("plain", before.clone()), ("packed", gzip(&before))] {
            let path = file(directory.path(), name, &content);
            assert_erased(&path, &[]);
            let after = read(&path);
            let is_packed = fs::read(&path).unwrap().starts_with(&[0x1f, 0x8b]);
            assert_eq!(is_packed, name == "packed");
            assert!(!after.contains(SUBJECT));
            assert_eq!(after.lines().count(), lines.len() + 1);
            for (before, after) in lines.iter().zip(after.lines()) {
                if before.contains(SUBJECT) {
                    let outer = |line: &str| (line.split("mac").next().unwrap().len(), line.ends_with("\\/\" }"));
                    assert_eq!(outer(before), outer(after));
                } else {
                    assert_eq!(before, after);
                }
            }
            let verified = verified(&path);
            verified.assert_whole();
            assert_eq!(verified.report["erased"], json!(about(&log)));
        }
    }
}

#[test]
fn erasing_again_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path(), "a.log", &text(&sample(20)));
    assert_erased(&path, &[]);
    let once = fs::read(&path).unwrap();
    let outcome = assert_erased(&path, &[]);
    assert!(outcome.stdout.contains("0 records erased"));
    assert_eq!(fs::read(&path).unwrap(), once);
    // Somebody else: two erasures in one log.
    let second = toolgate(&["erase", "--subject", "person-08", path.to_str().unwrap()], b"");
    assert_eq!(second.exit, Exit::Clean);
    let verified = verified(&path);
    verified.assert_whole();
    assert_eq!(verified.report["erasures"], json!(2));
}

#[test]
fn an_interrupted_run_is_finished_by_the_next_one() {
    let log = sample(20);
    let (first, rest) = log.split_at(40);
    let directory = tempfile::tempdir().unwrap();
    let whole = file(directory.path(), "a.log.1", &text(first));
    let packed = gzip(&text(rest));
    let broken = file(directory.path(), "a.log.gz", &packed[..packed.len() / 2]);
    let arguments = ["erase", "--subject", SUBJECT, whole.to_str().unwrap(), broken.to_str().unwrap()];
    let outcome = toolgate(&arguments, b"");
    assert_eq!(outcome.exit, Exit::CannotRun);
    assert!(outcome.stderr.contains("a.log.gz is as it was"), "{}", outcome.stderr);
    assert_eq!(fs::read(&broken).unwrap(), packed[..packed.len() / 2]);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "nothing else is left");
    let done = fs::read(&whole).unwrap();

    fs::write(&broken, &packed).unwrap();
    fs::write(directory.path().join(".a.log.gz.toolgate-erase-Ab1"), "half").unwrap();
    assert_eq!(toolgate(&arguments, b"").exit, Exit::Clean);
    assert_eq!(fs::read(&whole).unwrap(), done);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    let both = read(&whole) + &read(&broken);
    assert!(!both.contains(SUBJECT));
    let verified = verify(both.as_bytes(), &["--closed"]);
    verified.assert_whole();
    assert_eq!(verified.report["erased"], json!(about(&log)));
}

#[test]
fn a_dry_run_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let log = sample(20);
    let path = file(directory.path(), "a.log", &text(&log));
    let outcome = assert_erased(&path, &["--dry-run"]);
    assert!(outcome.stdout.contains(&format!("{} records would be erased", about(&log))));
    assert_eq!(fs::read(&path).unwrap(), text(&log));
}

#[test]
fn what_is_refused_is_refused_before_anything_happens() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path(), "a.log", &text(&sample(20)));
    let long = "x".repeat(201);
    let problems: [&[&str]; 6] = [
        &["--by", "on behalf of PERSON-07"],
        &["--why", "one\ntwo"],
        &["--why", &long],
        &["--mention", ""],
        &["--key", "k1=NOT_SET"],
        &["--key", "k1=OTHER_KEY"],
    ];
    for arguments in problems {
        let outcome = erase(&path, arguments);
        assert_eq!(outcome.exit, Exit::CannotRun, "{arguments:?}");
        assert!(!outcome.stderr.is_empty());
    }
    assert_eq!(erase(Path::new("-"), &[]).exit, Exit::CannotRun);
    assert_eq!(fs::read(&path).unwrap(), text(&sample(20)));
}

#[test]
fn mentions_are_found_and_erased_when_asked() {
    let mut worker = support::Worker::new("chain-a", "one");
    let mut other = person("other");
    other.arguments.insert("/to".to_owned(), json!([SUBJECT]));
    let log = [worker.request(0, Some(&person(SUBJECT))), worker.request(1, Some(&other))];
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path(), "a.log", &text(&log));
    let outcome = assert_erased(&path, &[]);
    assert!(outcome.stdout.contains("1 lines still have the text"), "{}", outcome.stdout);
    let outcome = assert_erased(&path, &["--mention", "Person-07"]);
    assert!(!outcome.stdout.contains("still have"), "{}", outcome.stdout);
    assert!(!read(&path).contains(SUBJECT));
    verify(read(&path).as_bytes(), &[]).assert_whole();
}

/// The line of the log, from 0, that has the first request of the person.
fn first_request(log: &[Written]) -> usize {
    log.iter().position(|line| line.kind == Kind::Request && line.text.contains(SUBJECT)).unwrap()
}

/// Erases from a log with the line changed, which must be refused; then all the same.
fn assert_not_laundered(index: usize, line: &str, problem: &str, defects: &[(&str, u64)]) {
    let log = sample(20);
    let count = about(&log);
    let mut lines = log;
    line.clone_into(&mut lines[index].text);
    let directory = tempfile::tempdir().unwrap();
    let whole = file(directory.path(), "a.log.1", &text(&sample(20)));
    let path = file(directory.path(), "a.log", &text(&lines));
    for more in [&[whole.to_str().unwrap()] as &[&str], &["--dry-run", whole.to_str().unwrap()]] {
        let outcome = erase(&path, more);
        assert_eq!(outcome.exit, Exit::CannotRun, "{}", outcome.stdout);
        assert!(outcome.stderr.contains(&format!("a.log:{}: ", index + 1)), "{}", outcome.stderr);
        assert!(outcome.stderr.contains(problem) && outcome.stderr.contains("verify-log"), "{}", outcome.stderr);
        assert_eq!(outcome.stdout, "");
        assert_eq!(fs::read(&path).unwrap(), text(&lines));
        assert_eq!(fs::read(&whole).unwrap(), text(&sample(20)), "no other file is begun with");
    }
    let outcome = assert_erased(&path, &["--even-if-changed"]);
    assert!(outcome.stdout.contains(&format!("{count} records erased")), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("1 of them are not as they were sealed"), "{}", outcome.stdout);
    assert!(!read(&path).contains(SUBJECT));
    let erased = read(&path);
    let record: Value = serde_json::from_str(erased.lines().last().unwrap()).unwrap();
    assert_eq!(record["record"]["erasure"]["count"], json!(count - 1));
    verified(&path).assert_defects(defects);
}

#[test]
fn a_record_that_was_changed_is_not_vouched_for() {
    let log = sample(20);
    let index = first_request(&log);
    let changed = log[index].text.replace("\"allowed\"", "\"allowee\"");
    let number = index as u64 + 1;
    assert_not_laundered(index, &changed, "not as it was sealed", &[("changed", number)]);
}

#[test]
fn a_personal_part_that_was_changed_is_not_vouched_for() {
    let log = sample(20);
    let index = first_request(&log);
    let number = index as u64 + 1;
    let end = log.len() as u64 + 1;
    let defects = [("erased_without_record", number), ("erasure_count", end)];
    let forged = log[index].text.replace("192.0.2.7", "192.0.2.8");
    assert_not_laundered(index, &forged, "personal part is not as it was written", &defects);
    // Somebody else's request, made to look like the person's.
    let is_other = |line: &Written| line.kind == Kind::Request && line.text.contains("person-08");
    let index = log.iter().position(is_other).unwrap();
    let framed = log[index].text.replace("person-08", SUBJECT);
    let directory = tempfile::tempdir().unwrap();
    let mut lines = log;
    lines[index].text = framed;
    let path = file(directory.path(), "a.log", &text(&lines));
    assert_eq!(erase(&path, &[]).exit, Exit::CannotRun);
    assert_erased(&path, &["--even-if-changed"]);
    verified(&path).assert_defects(&[("erased_without_record", index as u64 + 1), ("erasure_count", end)]);
}

#[test]
fn a_record_of_another_key_is_not_vouched_for() {
    let log = sample(20);
    let index = first_request(&log);
    let other = log[index].text.replace(r#""key":"k1""#, r#""key":"k2""#);
    let number = index as u64 + 1;
    assert_not_laundered(index, &other, "give it with --key k2=VARIABLE", &[("unknown_key", number)]);
}

#[test]
fn a_log_without_its_last_line_feed_gets_the_record_on_a_line_of_its_own() {
    let mut content = text(&sample(20));
    content.pop();
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path(), "a.log", &content);
    assert_erased(&path, &[]);
    verified(&path).assert_whole();
}

#[test]
fn an_erasure_covers_only_what_it_names() {
    let log = sample(20);
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path(), "a.log", &text(&log));
    assert_erased(&path, &[]);
    let erased = read(&path);
    let id = serde_json::from_str::<Value>(erased.lines().last().unwrap()).unwrap()["record"]["id"].clone();
    let victim = erased.lines().position(|line| line.contains("person-08") && line.contains("\"request\"")).unwrap();
    let forged: Vec<String> = erased
        .lines()
        .enumerate()
        .map(|(index, line)| {
            if index != victim {
                return line.to_owned();
            }
            let (start, rest) = line.split_once(r#""personal":{"#).unwrap();
            let (_, end) = rest.split_once(r#"},"record""#).unwrap();
            format!(r#"{start}"personal":{{"erased":{id}}},"record"{end}"#)
        })
        .collect();
    let last = erased.lines().count() as u64;
    let forged = forged.join("\n") + "\n";
    verify(forged.as_bytes(), &[])
        .assert_defects(&[("erased_without_record", victim as u64 + 1), ("erasure_count", last)]);
    // And without the record of the erasure.
    let first = erased.lines().position(|line| line.contains(r#"{"erased":"#)).unwrap() as u64 + 1;
    let without: String = erased.lines().take(log.len()).map(|line| format!("{line}\n")).collect();
    verify(without.as_bytes(), &[]).assert_defects(&[("erased_without_record", first)]);
    // And twice.
    let twice = format!("{erased}{}\n", erased.lines().last().unwrap());
    verify(twice.as_bytes(), &[]).assert_defects(&[("duplicate", last + 1)]);
}

const RESOURCE: &str = "https://mcp.test/mcp";

#[test]
fn the_pseudonym_of_the_person_is_computed() {
    let keys = Pseudonyms::new(&[b'B'; 32], RESOURCE);
    let written = |subject: &str, resource: &Pseudonyms| Personal {
        pseudonym: Some(resource.of(support::ISSUER, subject.as_bytes()).into()),
        subject: None,
        ..person("")
    };
    let mut worker = support::Worker::new("chain-a", "one");
    let elsewhere = Pseudonyms::new(&[b'B'; 32], "https://mcp.test/other");
    let log = [
        worker.request(0, Some(&written(SUBJECT, &keys))),
        worker.request(1, Some(&written("person-08", &keys))),
        worker.request(2, Some(&written(SUBJECT, &elsewhere))),
    ];
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path(), "a.log", &text(&log));
    let key = ["--pseudonym-key", "OTHER_KEY"];
    let known = ["--issuer", support::ISSUER, "--resource", RESOURCE];
    let pseudonym = keys.of(support::ISSUER, SUBJECT.as_bytes());
    // The remark stays in the log, and would name the person.
    let why = format!("it is {pseudonym}");
    let named = erase(&path, &[&known[..], &key, &["--why", &why]].concat());
    assert_eq!(named.exit, Exit::CannotRun);
    let no_resource = [&key[..], &["--issuer", support::ISSUER, "--resource", "mcp.test"]].concat();
    assert!(erase(&path, &no_resource).stderr.contains("--resource is not an absolute URL"));
    assert_eq!(erase(&path, &[&known[..], &["--pseudonym-key", "NOT_SET"]].concat()).exit, Exit::CannotRun);
    assert_eq!(fs::read(&path).unwrap(), text(&log));

    let outcome = assert_erased(&path, &[&known[..], &key].concat());
    assert!(outcome.stdout.contains("1 records erased"), "{}", outcome.stdout);
    assert!(!read(&path).contains(&pseudonym));
    verify(read(&path).as_bytes(), &[]).assert_whole();
    let both = [&known[..], &key, &["--resource", "https://mcp.test/other"]].concat();
    assert!(assert_erased(&path, &both).stdout.contains("1 records erased"));
    assert!(read(&path).contains(&keys.of(support::ISSUER, b"person-08")));
}

#[test]
fn what_a_pseudonym_is_computed_of_is_given_whole() {
    for arguments in [
        &["--issuer", "i", "--resource", RESOURCE] as &[&str],
        &["--issuer", "i", "--pseudonym-key", "OTHER_KEY"],
        &["--resource", RESOURCE, "--pseudonym-key", "OTHER_KEY"],
        &["--issuer", "i", "--resource", RESOURCE, "--pseudonym-key", "QkJCQg=="],
    ] {
        let words = [&["toolgate", "erase", "--subject", SUBJECT], arguments, &["a.log"]].concat();
        assert!(toolgate_cli::Arguments::try_parse_from(words).is_err(), "{arguments:?}");
    }
}

/// Erases `subject` from a file of one line that is about nobody, which stays: how many lines are said to have it still.
fn remaining(subject: &str, line: &str, more: &[&str]) -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path(), "a.log", format!("{line}\n").as_bytes());
    let outcome = toolgate(&[&["erase", "--subject", subject], more, &[path.to_str().unwrap()]].concat(), b"");
    assert_eq!(read(&path), format!("{line}\n"));
    outcome
}

#[test]
fn what_is_left_of_a_person_is_found_however_it_is_written() {
    let mut worker = support::Worker::new("chain-a", "one");
    let mut other = person("other");
    other.arguments.insert("/to".to_owned(), json!("ann\"a\" Zoë p_1 Box@Example.org"));
    let record = worker.request(0, Some(&other)).text;
    let escaped = json!({"log": record}).to_string().replace('ë', "\\u00eb");
    let lines = [
        record.clone(),
        escaped,
        json!({"value": STANDARD.encode(&record)}).to_string().replace('/', "\\/"),
        format!("[info] toolgate audit {record}"),
    ];
    for line in lines {
        for (subject, more) in [
            ("ann\"a\" Zoë", &[] as &[&str]),
            ("nobody", &["--pseudonym", "p_1"]),
            ("other person", &["--mention", "not there", "--pseudonym", "p_1"]),
        ] {
            let outcome = remaining(subject, &line, more);
            assert!(outcome.stdout.contains("1 lines still have"), "{line}: {}", outcome.stdout);
            assert_eq!(outcome.exit, Exit::Clean);
        }
        let outcome = remaining("nobody", &line, &["--pseudonym", "p_2"]);
        assert!(!outcome.stdout.contains("still have"), "{line}: {}", outcome.stdout);
    }
    // What is sealed cannot be erased.
    let mut plain = worker.plain(1);
    plain.instance = "Anna@Example.org".into();
    let sealed = worker.write(plain, None).text;
    let outcome = remaining("nobody", &sealed, &["--mention", "anna@example.org"]);
    assert!(outcome.stdout.contains("1 lines still have"), "{}", outcome.stdout);
}

#[test]
fn a_record_that_has_the_person_and_cannot_be_read_is_a_defect() {
    let mut worker = support::Worker::new("chain-a", "one");
    let record = worker.request(0, Some(&person("ann\"a\""))).text;
    let cut = |line: &str| line.get(..line.len() - 40).unwrap().to_owned();
    let lines = [
        cut(&record),
        cut(&json!({"log": record}).to_string()),
        json!({"log": cut(&record)}).to_string(),
        cut(&json!({"value": STANDARD.encode(&record)}).to_string()),
        // No sink is known that wraps twice: such records are not read.
        json!({"log": json!({"log": record}).to_string()}).to_string(),
    ];
    for line in &lines {
        for more in [&[] as &[&str], &["--dry-run"]] {
            let outcome = remaining("ann\"a\"", line, more);
            assert_eq!(outcome.exit, Exit::Defects, "{line}: {}", outcome.stdout);
            assert!(
                outcome.stdout.contains("1 lines have such a text in a record that is damaged"),
                "{}",
                outcome.stdout
            );
        }
        assert_eq!(remaining("nobody", line, &[]).exit, Exit::Clean, "{line}");
    }
}

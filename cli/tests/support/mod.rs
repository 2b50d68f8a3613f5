//! Logs as the filter writes them, and the command that reads them.

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use clap::Parser;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use time::OffsetDateTime;
use toolgate::audit::record::{Anchor, Caller, Head, Http, Kind, Link, Personal, Record, Target, VERSION, Verdict};
use toolgate::audit::seal::{self, line, personal_digest};
use toolgate::keys::NamedKey;
use toolgate_cli::host::{Exit, Host};
use toolgate_cli::{Arguments, run};

pub(crate) const ISSUER: &str = "https://issuer.test";

/// The key of every test log.
pub(crate) fn key() -> NamedKey {
    NamedKey::new("k1", b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").unwrap()
}

fn variable(name: &str) -> Option<String> {
    let value = match name {
        "TOOLGATE_AUDIT_KEY" => "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=",
        "OTHER_KEY" => "QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI=",
        _ => return None,
    };
    Some(value.to_owned())
}

/// What a command has said.
pub(crate) struct Outcome {
    pub(crate) exit: Exit,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs the command, at noon of the day of the test logs.
pub(crate) fn toolgate<S: AsRef<str>>(arguments: &[S], stdin: &[u8]) -> Outcome {
    toolgate_on(None, arguments, stdin)
}

/// The same, on a terminal of that many columns.
pub(crate) fn toolgate_on<S: AsRef<str>>(columns: Option<usize>, arguments: &[S], stdin: &[u8]) -> Outcome {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let words = std::iter::once("toolgate").chain(arguments.iter().map(AsRef::as_ref));
    let arguments = Arguments::try_parse_from(words).unwrap_or_else(|error| panic!("{error}"));
    let exit = run(
        &arguments,
        &mut Host {
            stdin: Some(Box::new(Cursor::new(stdin))),
            stdout: Box::new(&mut stdout),
            stderr: Box::new(&mut stderr),
            columns,
            shows_progress: false,
            variables: Box::new(variable),
            now: OffsetDateTime::from_unix_timestamp(1_767_614_400).unwrap(),
        },
    );
    Outcome { exit, stdout: String::from_utf8(stdout).unwrap(), stderr: String::from_utf8(stderr).unwrap() }
}

/// What `verify-log` says of a log.
pub(crate) struct Verified {
    pub(crate) exit: Exit,
    pub(crate) report: Value,
}

/// Verifies the log in `text`, with more arguments.
pub(crate) fn verify(text: &[u8], more: &[&str]) -> Verified {
    let mut arguments = vec!["verify-log", "--format", "json", "-"];
    arguments.extend(more);
    let outcome = toolgate(&arguments, text);
    assert_eq!(outcome.stderr, "");
    Verified { exit: outcome.exit, report: serde_json::from_str(&outcome.stdout).unwrap() }
}

impl Verified {
    pub(crate) fn assert_whole(&self) {
        assert_eq!(self.report["defects"], json!([]));
        assert_eq!(self.exit, Exit::Clean);
    }

    /// Kind and line of each defect.
    pub(crate) fn defects(&self) -> Vec<(String, u64)> {
        let defects = self.report["defects"].as_array().unwrap();
        assert_eq!(self.exit == Exit::Clean, defects.is_empty());
        let each = |defect: &Value| (defect["kind"].as_str().unwrap().to_owned(), defect["line"].as_u64().unwrap());
        defects.iter().map(each).collect()
    }

    pub(crate) fn assert_defects(&self, expected: &[(&str, u64)]) {
        let expected: Vec<(String, u64)> = expected.iter().map(|(kind, line)| ((*kind).to_owned(), *line)).collect();
        assert_eq!(self.defects(), expected, "{:#}", self.report["defects"]);
    }
}

/// A line that was written.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) text: String,
    pub(crate) chain: String,
    pub(crate) seq: u64,
    pub(crate) kind: Kind,
}

/// A worker that writes a chain.
#[derive(Clone, Debug)]
pub(crate) struct Worker {
    pub(crate) id: String,
    pub(crate) next: u64,
    pub(crate) mac: String,
    pub(crate) instance: String,
}

/// What is written about people.
pub(crate) fn person(subject: &str) -> Personal<'static> {
    Personal {
        subject: Some(subject.to_owned().into()),
        salt: "c2FsdHNhbHRzYWx0c2FsdA".into(),
        source: Some("192.0.2.7".into()),
        ..Personal::default()
    }
}

/// A moment of the day of the test logs.
pub(crate) fn at(second: u64) -> String {
    let (minutes, seconds) = (second / 60, second % 60);
    format!("2026-01-05T{:02}:{:02}:{seconds:02}.000Z", minutes / 60, minutes % 60)
}

/// A sealed line.
pub(crate) fn sealed(record: &Record<'_>, personal: Option<&str>) -> (String, String) {
    let record = serde_json::to_string(record).unwrap();
    let mac = seal::mac(&key(), record.as_bytes());
    (line(&mac, personal, &record), mac)
}

impl Worker {
    pub(crate) fn new(id: &str, instance: &str) -> Self {
        Self { id: id.to_owned(), next: 0, mac: String::new(), instance: instance.to_owned() }
    }

    pub(crate) fn head(&self) -> Option<Head<'static>> {
        let seq = self.next.checked_sub(1)?;
        Some(Head { id: self.id.clone().into(), mac: self.mac.clone().into(), seq })
    }

    /// A record of a request without its place.
    pub(crate) fn plain(&self, second: u64) -> Record<'static> {
        Record {
            at: at(second).into(),
            caller: Some(Caller {
                agent: Some("bot".into()),
                client: Some("desk".into()),
                credential: "jwt".into(),
                issuer: ISSUER.into(),
                sender_constraint: "none".into(),
                ..Caller::default()
            }),
            http: Some(Http { status: Some(200), duration_ms: 12, ..Http::default() }),
            id: format!("{}-{}", self.id, self.next).into(),
            instance: self.instance.clone().into(),
            method: Some("tools/call".into()),
            policy: Some("aa".repeat(32).into()),
            reason: "allowed".into(),
            started: at(second).into(),
            target: Some(Target { kind: "tool".into(), name: Some("read".into()) }),
            v: VERSION,
            verdict: Verdict::Allow,
            worker: "w1".into(),
            ..Record::default()
        }
    }

    pub(crate) fn request(&mut self, second: u64, personal: Option<&Personal<'_>>) -> Written {
        self.write(self.plain(second), personal)
    }

    /// Gives the record its place, and seals it.
    pub(crate) fn write(&mut self, mut record: Record<'_>, personal: Option<&Personal<'_>>) -> Written {
        let personal = personal.map(|personal| serde_json::to_string(personal).unwrap());
        record.personal = personal.as_ref().map(|personal| personal_digest(personal.as_bytes()).into());
        if self.next == 0 {
            let anchor = record.anchor.take().unwrap_or_default();
            record.anchor = Some(Anchor { started: record.started.clone(), version: "0.1.0".into(), ..anchor });
        }
        let (id, prev) = (self.id.clone().into(), self.mac.clone().into());
        record.chain = Some(Link { id, key: "k1".into(), prev, seq: self.next });
        let (text, mac) = sealed(&record, personal.as_deref());
        let written = Written { text, chain: self.id.clone(), seq: self.next, kind: Kind::Request };
        self.mac = mac;
        self.next += 1;
        written
    }

    /// A checkpoint, or the closing one.
    pub(crate) fn checkpoint(&self, second: u64, reason: &str) -> Written {
        let seq = self.next - 1;
        let (id, prev) = (self.id.clone().into(), self.mac.clone().into());
        let record = Record {
            at: at(second).into(),
            chain: Some(Link { id, key: "k1".into(), prev, seq }),
            id: format!("{}-{second}-{reason}", self.id).into(),
            kind: Kind::Checkpoint,
            reason: reason.to_owned().into(),
            started: at(second).into(),
            v: VERSION,
            ..Record::default()
        };
        Written { text: sealed(&record, None).0, chain: self.id.clone(), seq, kind: Kind::Checkpoint }
    }

    /// That the next request was let through.
    pub(crate) fn provisional(&self, second: u64, personal: &Personal<'_>) -> Written {
        let personal = serde_json::to_string(personal).unwrap();
        let mut record = self.plain(second);
        record.kind = Kind::Provisional;
        record.personal = Some(personal_digest(personal.as_bytes()).into());
        record.chain = Some(Link { id: self.id.clone().into(), key: "k1".into(), ..Link::default() });
        let text = sealed(&record, Some(&personal)).0;
        Written { text, chain: self.id.clone(), seq: 0, kind: Kind::Provisional }
    }
}

/// A log of three workers of two instances, about `rounds` times seven lines long, of 50 people: requests, some let
/// through before they end, heads, checkpoints and, at the end, closing ones.
pub(crate) fn sample(rounds: u64) -> Vec<Written> {
    let mut workers = [Worker::new("chain-a", "one"), Worker::new("chain-b", "one"), Worker::new("chain-c", "two")];
    let mut log = Vec::new();
    for round in 0..rounds {
        for index in 0..workers.len() {
            let heads = if round % 3 == 1 && index < 2 { workers[1 - index].head() } else { None };
            let worker = &mut workers[index];
            let subject = format!("person-{:02}", (round * 3 + index as u64) % 50);
            let personal = person(&subject);
            if round % 4 == 2 {
                log.push(worker.provisional(round, &personal));
            }
            let record = Record { heads: heads.into_iter().collect(), ..worker.plain(round) };
            log.push(worker.write(record, (round % 5 != 4).then_some(&personal)));
            if round % 6 == 5 {
                log.push(worker.checkpoint(round, "checkpoint"));
            }
        }
    }
    log.extend(workers.iter().map(|worker| worker.checkpoint(rounds, "closing")));
    log
}

/// The lines as a file.
pub(crate) fn text(lines: &[Written]) -> Vec<u8> {
    lines.iter().flat_map(|line| [line.text.as_bytes(), b"\n"].concat()).collect()
}

pub(crate) fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// Writes a file, and gives its path.
pub(crate) fn file(directory: &Path, name: &str, content: &[u8]) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

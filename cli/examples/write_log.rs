//! Writes a log of any size, to measure with: `write_log RECORDS > access.log`.
//!
//! Eight chains, the usual members, a checkpoint for every 100 records, one person of 50 in each record. The key is the
//! text `AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA`.

use std::env;
use std::io::{self, BufWriter, Write};

use toolgate::audit::record::{
    Anchor, Caller, Http, Kind, Link, Personal, Record, Response, ResponseStatus, Scopes, Target, VERSION, Verdict,
};
use toolgate::audit::seal::{line, mac, personal_digest};
use toolgate::keys::NamedKey;

const CHAINS: u64 = 8;
const RECORDS_PER_CHECKPOINT: u64 = 100;

fn main() -> io::Result<()> {
    let count = env::args().nth(1).and_then(|count| count.parse().ok()).ok_or(io::ErrorKind::InvalidInput)?;
    let key = NamedKey::new("k1", &[b'A'; 32]).map_err(io::Error::other)?;
    let mut output = BufWriter::new(io::stdout().lock());
    let mut last = vec![String::new(); usize::try_from(CHAINS).unwrap_or_default()];
    for number in 0_u64..count {
        let (chain, seq) = (number % CHAINS, number / CHAINS);
        let Some(prev) = last.get_mut(usize::try_from(chain).unwrap_or_default()) else { continue };
        let id = format!("5f3b9c2e8d7a41060f1e2d3c4b5a69{chain:02x}");
        let link = |prev: &str| Link { id: id.clone().into(), key: "k1".into(), prev: prev.to_owned().into(), seq };
        let personal = serde_json::to_string(&personal(number))?;
        let mut record = request(number);
        record.anchor =
            (seq == 0).then(|| Anchor { started: record.at.clone(), version: "0.1.0".into(), ..Anchor::default() });
        record.personal = Some(personal_digest(personal.as_bytes()).into());
        record.chain = Some(link(prev));
        let record = serde_json::to_string(&record)?;
        *prev = mac(&key, record.as_bytes());
        writeln!(output, "{}", line(prev, Some(&personal), &record))?;
        if seq % RECORDS_PER_CHECKPOINT == RECORDS_PER_CHECKPOINT.saturating_sub(1) {
            let checkpoint = serde_json::to_string(&checkpoint(number, link(prev)))?;
            writeln!(output, "{}", line(&mac(&key, checkpoint.as_bytes()), None, &checkpoint))?;
        }
    }
    output.flush()
}

/// A thousand records for each second.
fn at(number: u64) -> String {
    let seconds = number / 1000;
    let (minute, second) = (seconds / 60, seconds % 60);
    format!("2026-01-05T{:02}:{:02}:{second:02}.{:03}Z", minute / 60 % 24, minute % 60, number % 1000)
}

fn personal(number: u64) -> Personal<'static> {
    Personal {
        arguments_digest: Some("d_mWJx1n3XK0hKq4e0b8m2b6QkPq3Yq0a1v7xv5y5zQ3M".into()),
        claimed_groups: vec!["clerks".into(), "travel".into()],
        salt: format!("{number:022}").into(),
        source: Some("192.0.2.17".into()),
        subject: Some(format!("person-{:02}", number % 50).into()),
        token_id: Some(format!("6f9619ff-8b86-d011-b42d-{number:012}").into()),
        ..Personal::default()
    }
}

fn request(number: u64) -> Record<'static> {
    let is_denied = number % 10 == 7;
    Record {
        at: at(number).into(),
        caller: Some(Caller {
            agent: Some("booking-assistant".into()),
            client: Some("https://client.example.com/metadata.json".into()),
            credential: "jwt".into(),
            expires_at: 1_767_700_000,
            issued_at: 1_767_600_000,
            issuer: "https://issuer.example.com/realms/main".into(),
            roles: vec!["clerk".into()],
            sender_constraint: "none".into(),
            ..Caller::default()
        }),
        http: Some(Http {
            details: Some("via_upstream".into()),
            duration_ms: number % 700,
            method: Some("POST".into()),
            request_bytes: 412,
            request_id: Some(format!("0c9a6c1e-7a0e-4a53-9a53-{number:012}").into()),
            status: Some(if is_denied { 403 } else { 200 }),
            ..Http::default()
        }),
        id: format!("{number:032x}").into(),
        instance: "gateway-7d9c6f-x2x".into(),
        method: Some("tools/call".into()),
        policy: Some("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".into()),
        reason: if is_denied { "insufficient_scope" } else { "allowed" }.into(),
        response: Some(Response { status: ResponseStatus::Success, ..Response::default() }),
        revision: Some("2025-06-18".into()),
        rule: Some(3),
        scopes: Some(Scopes {
            granted: vec!["bookings:read".into(), "bookings:write".into()],
            required: vec!["bookings:write".into()],
            ..Scopes::default()
        }),
        started: at(number).into(),
        target: Some(Target { kind: "tool".into(), name: Some("create_booking".into()) }),
        v: VERSION,
        verdict: if is_denied { Verdict::Deny } else { Verdict::Allow },
        worker: "a1b2c3d4e5f60718".into(),
        ..Record::default()
    }
}

fn checkpoint(number: u64, chain: Link<'static>) -> Record<'static> {
    Record {
        at: at(number).into(),
        chain: Some(chain),
        id: format!("{number:032x}").into(),
        kind: Kind::Checkpoint,
        reason: "checkpoint".into(),
        started: at(number).into(),
        v: VERSION,
        ..Record::default()
    }
}

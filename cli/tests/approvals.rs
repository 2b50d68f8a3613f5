//! `toolgate approvals` against a server of the tests' own.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on has failed"
)]

#[expect(dead_code, reason = "each test needs a part of it")]
mod support;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use clap::Parser as _;
use serde_json::{Value, json};
use time::OffsetDateTime;
use toolgate_cli::host::{Exit, Host};
use toolgate_cli::{Arguments, run};

use support::{Outcome, file};

const ID: &str = "Zk3vT1pWQ0m8nYl5cR7uXA";
/// When the command runs: 20 seconds after the approvals were asked for.
const NOW: i64 = 1_800_000_020;

/// A request that the server has got.
#[derive(Clone, Debug)]
struct Seen {
    method: String,
    target: String,
    headers: BTreeMap<String, String>,
    body: String,
}

/// A server that gives its answers one after the other, the last one again and again.
struct Server {
    url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    fn new(answers: &[(u16, Value)]) -> Self {
        Self::raw(answers.iter().map(|(status, body)| (format!("HTTP/1.1 {status} X"), body.to_string())).collect())
    }

    fn raw(answers: Vec<(String, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        // It ends with the test's process.
        thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let (head, body) = answers.get(number).or(answers.last()).unwrap();
                let mut stream = stream.unwrap();
                log.lock().unwrap().push(read(&stream));
                let length = body.len();
                let answer = format!("{head}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        Self { url, seen }
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        self.run_on(None, arguments)
    }

    fn run_on(&self, columns: Option<usize>, arguments: &[&str]) -> Outcome {
        approvals(columns, arguments, &[("TOOLGATE_APPROVALS_URL", &self.url), ("TOOLGATE_APPROVALS_TOKEN", "token-1")])
    }
}

fn read(stream: &TcpStream) -> Seen {
    let mut reader = BufReader::new(stream);
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    };
    let first = line();
    let mut words = first.split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let headers: BTreeMap<String, String> = std::iter::from_fn(|| Some(line()).filter(|line| !line.is_empty()))
        .map(|line| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned())).unwrap())
        .collect();
    let mut body = vec![0; headers.get("content-length").map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut body).unwrap();
    Seen { method, target, headers, body: String::from_utf8(body).unwrap() }
}

fn approvals(columns: Option<usize>, arguments: &[&str], variables: &[(&str, &str)]) -> Outcome {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let words = ["toolgate", "approvals"].iter().chain(arguments);
    let arguments = Arguments::try_parse_from(words).unwrap_or_else(|error| panic!("{error}"));
    let exit = run(
        &arguments,
        &mut Host {
            stdin: None,
            stdout: Box::new(&mut stdout),
            stderr: Box::new(&mut stderr),
            columns,
            shows_progress: false,
            variables: Box::new(|wanted| {
                variables.iter().find(|(name, _)| *name == wanted).map(|(_, value)| (*value).to_owned())
            }),
            now: OffsetDateTime::from_unix_timestamp(NOW).unwrap(),
        },
    );
    Outcome { exit, stdout: String::from_utf8(stdout).unwrap(), stderr: String::from_utf8(stderr).unwrap() }
}

fn view(state: &str) -> Value {
    json!({
        "id": ID, "cursor": 7, "state": state, "gateway": "edge", "audience": "https://mcp.example/mcp",
        "binding": "7f".repeat(32), "policy": "0a".repeat(32), "decision_id": "65b5eaa961ca59cb0000000000000001",
        "requester": {
            "issuer": "https://idp.example", "subject": "alice", "client_id": "desk", "agent": "helper",
            "tenant": "north", "roles": ["campaign_manager"], "actors": ["desk"],
        },
        "call": {
            "revision": "2026-07-28", "method": "tools/call", "kind": "tool", "name": "send_message",
            "arguments": {"/channel": "sms", "/copies": 2}, "withheld": true, "purpose": "to remind",
        },
        "requirements": [
            {"gate": "rule", "name": "rules[3]", "approvers": ["admin", "lead"], "count": 2, "met": 1, "escalated": false,
             "escalate": {"after": 300, "approvers": ["oncall"]}},
        ],
        "reason_required": true, "created_at": 1_800_000_000, "expires_at": 1_800_000_600, "escalated": false,
        "votes": [
            {"iss": "https://idp.example", "sub": "carol", "name": "Carol", "decision": "approve", "reason": "agreed",
             "roles": ["admin"], "at": 1_800_000_010},
        ],
        "may_decide": true,
        "history": [
            {"seq": 1, "at": 1_800_000_000, "event": "created", "approval_id": ID},
            {"seq": 2, "at": 1_800_000_010, "event": "voted", "approval_id": ID, "by": {"iss": "i", "sub": "carol"}},
        ],
    })
}

fn with(mut view: Value, pointer: &str, value: impl Into<Value>) -> Value {
    *view.pointer_mut(pointer).unwrap() = value.into();
    view
}

fn problem(status: u16, code: &str) -> (u16, Value) {
    (status, json!({"title": "T", "status": status, "code": code, "detail": "D"}))
}

#[test]
fn what_waits_is_listed() {
    let server = Server::new(&[(200, json!({"approvals": [view("pending")], "next": null}))]);
    let outcome = server.run(&["list"]);
    assert_eq!((outcome.exit, outcome.stderr.as_str()), (Exit::Clean, ""));
    let lines: Vec<Vec<&str>> = outcome.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["ID", "STATE", "LEFT", "CALL", "REQUESTER", "CLIENT/AGENT", "NEEDS", "YOU", "CREATED"]);
    let row =
        format!("{ID} pending 9m40s send_message alice desk/helper 1/2 admin|lead may decide 2027-01-15T08:00:00.000Z");
    assert_eq!(lines[1].join(" "), row);
    let [seen] = &server.seen()[..] else { panic!() };
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("GET", "/v1/inbox?state=pending&limit=100"));
    assert_eq!(seen.headers["authorization"], "Bearer token-1");
}

#[test]
fn filters_are_the_services() {
    let server = Server::new(&[(200, json!({"approvals": []}))]);
    let outcome = server.run(&["list", "--state", "any", "--tool", "a&b=é", "--requester", "x y", "--limit", "5"]);
    assert_eq!((outcome.exit, outcome.stdout.as_str()), (Exit::Clean, ""));
    assert_eq!(server.seen()[0].target, "/v1/inbox?tool=a%26b%3D%C3%A9&requester=x%20y&limit=5");
}

#[test]
fn pages_are_followed_to_the_limit() {
    let page = |next: Value| (200, json!({"approvals": [view("pending"), view("pending")], "next": next}));
    let server = Server::new(&[page(json!(7)), page(json!("q")), page(json!(1))]);
    let outcome = server.run(&["list", "--json", "--limit", "5"]);
    assert_eq!(outcome.stdout.lines().count(), 5);
    let targets: Vec<String> = server.seen().into_iter().map(|seen| seen.target).collect();
    let expected = ["limit=5", "limit=3&before=7", "limit=1&before=q"];
    assert_eq!(targets, expected.map(|query| format!("/v1/inbox?state=pending&{query}")));
    // A service that goes round in circles is not followed.
    let server = Server::new(&[page(json!(7))]);
    assert_eq!(server.run(&["list", "--json"]).stdout.lines().count(), 4);
}

#[test]
fn one_is_shown_as_a_whole() {
    let server = Server::new(&[(200, view("pending"))]);
    let outcome = server.run(&["show", ID]);
    assert_eq!((outcome.exit, outcome.stderr.as_str()), (Exit::Clean, ""));
    let expected = "\
approval    Zk3vT1pWQ0m8nYl5cR7uXA
state       pending, 9m40s left
call        tool send_message (tools/call)
arguments   /channel = \"sms\"
            /copies = 2
            and more that are not shown
purpose     to remind (so the client says)
requester   alice of https://idp.example, roles campaign_manager, tenant north
through     client desk, agent helper, acting: desk
resource    https://mcp.example/mcp
needs       1 of 2 from admin, lead (rule rules[3])
              after 5m also from oncall
            a reason, from everybody who decides
votes       2027-01-15T08:00:10.000Z carol (Carol) approved as admin: agreed
you         may decide
created     2027-01-15T08:00:00.000Z
expires     2027-01-15T08:10:00.000Z
record      65b5eaa961ca59cb0000000000000001
history     2027-01-15T08:00:00.000Z created
            2027-01-15T08:00:10.000Z voted by carol
";
    assert_eq!(outcome.stdout, expected);
    assert_eq!(server.seen()[0].target, format!("/v1/inbox/{ID}"));
}

#[test]
fn numbers_are_shown_as_they_were_written() {
    let text = view("pending").to_string().replace(r#""/copies":2"#, r#""/copies":12345678901234567890.10"#);
    let server = Server::raw(vec![("HTTP/1.1 200 OK".to_owned(), text)]);
    assert!(server.run(&["show", ID]).stdout.contains("/copies = 12345678901234567890.10\n"));
}

#[test]
fn json_is_what_the_service_says() {
    let said = serde_json::to_string_pretty(&view("pending")).unwrap();
    let server = Server::raw(vec![("HTTP/1.1 200 OK".to_owned(), said)]);
    for command in [&["show", ID][..], &["approve", ID], &["reject", ID, "--reason", "no"]] {
        let outcome = server.run(&[command, &["--json"]].concat());
        assert_eq!(outcome.stdout.lines().count(), 1);
        assert_eq!(serde_json::from_str::<Value>(&outcome.stdout).unwrap(), view("pending"));
    }
}

#[test]
fn decisions_are_sent_with_their_reason() {
    let open = with(view("pending"), "/requirements/0/met", 1);
    for (arguments, answer, body, said) in [
        (
            &["approve", ID][..],
            view("approved"),
            json!({"decision": "approve"}),
            "approved: send_message of alice may go on\n",
        ),
        (
            &["approve", ID, "--reason", "fine \"so\""],
            open,
            json!({"decision": "approve", "reason": "fine \"so\""}),
            "counted: send_message of alice still needs approval: 1 of 2 from admin, lead (rule rules[3]);   after 5m also from oncall\n",
        ),
        (
            &["reject", ID, "--reason", "no"],
            view("rejected"),
            json!({"decision": "reject", "reason": "no"}),
            "rejected: send_message of alice will not happen\n",
        ),
    ] {
        let server = Server::new(&[(200, answer)]);
        let outcome = server.run(arguments);
        assert_eq!((outcome.exit, outcome.stdout.as_str(), outcome.stderr.as_str()), (Exit::Clean, said, ""));
        let [seen] = &server.seen()[..] else { panic!() };
        assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", format!("/v1/inbox/{ID}/decision").as_str()));
        assert_eq!(seen.headers["content-type"], "application/json");
        assert_eq!(seen.headers["authorization"], "Bearer token-1");
        assert_eq!(serde_json::from_str::<Value>(&seen.body).unwrap(), body);
    }
}

#[test]
fn a_refusal_says_what_to_do() {
    for (status, code, said) in [
        (404, "not_found", "there is no such approval, or you may not see it"),
        (403, "requester", "another person has to decide"),
        (403, "requesters_agent", "get one through another client"),
        (403, "role", "none of the roles"),
        (403, "already_decided", "decided on this already"),
        (409, "decided", "this has been decided"),
        (409, "expired", "has to ask again"),
        (422, "reason_required", "add --reason"),
        (422, "reason_too_long", "500 characters"),
        (418, "new_code", "the service refuses: D (new_code)"),
    ] {
        let outcome = Server::new(&[problem(status, code)]).run(&["approve", ID]);
        assert_eq!((outcome.exit, outcome.stdout.as_str()), (Exit::Defects, ""), "{code}");
        assert!(outcome.stderr.starts_with("toolgate: ") && outcome.stderr.contains(said), "{}", outcome.stderr);
    }
}

#[test]
fn what_cannot_be_done_says_why() {
    let html = |head: &str| Server::raw(vec![(head.to_owned(), "<html>".to_owned())]);
    for (server, said) in [
        (Server::new(&[problem(401, "unauthenticated")]), "does not accept the token"),
        (Server::new(&[problem(503, "unavailable")]), "cannot answer now (HTTP 503"),
        (html("HTTP/1.1 404 Not Found"), "not that of an approval service (HTTP 404"),
        (html("HTTP/1.1 403 Forbidden"), "not that of an approval service (HTTP 403"),
        (html("HTTP/1.1 200 OK"), "not that of an approval service"),
        (html("HTTP/1.1 204 No Content"), "check --url"),
        (html("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/x"), "sends us elsewhere"),
        (html("HTTP/1.1 307 Found\r\nlocation: /x"), "sends us elsewhere"),
        (html("nonsense"), "check the address"),
        (Server::new(&[(200, json!({"id": 1}))]), "not that of an approval service"),
    ] {
        for arguments in [&["show", ID][..], &["approve", ID]] {
            let outcome = server.run(arguments);
            assert_eq!((outcome.exit, outcome.stdout.as_str()), (Exit::CannotRun, ""), "{said}: {}", outcome.stderr);
            assert!(outcome.stderr.contains(said), "{}", outcome.stderr);
        }
        assert_eq!(server.seen().len(), 2);
    }
}

#[test]
fn nobody_there_is_told() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{closed}");
    let outcome = approvals(None, &["list", "--url", &url], &[("TOOLGATE_APPROVALS_TOKEN", "t")]);
    assert_eq!(outcome.exit, Exit::CannotRun);
    assert!(outcome.stderr.contains(&format!("cannot ask {url}")), "{}", outcome.stderr);
}

#[test]
fn the_token_can_be_in_a_file_and_the_address_on_the_command_line() {
    let server = Server::new(&[(200, json!({"approvals": []}))]);
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path(), "token", b"token-2\n");
    let url = server.url.clone() + "/";
    let arguments = ["list", "--url", &url, "--token-file", path.to_str().unwrap()];
    let variables = [("TOOLGATE_APPROVALS_URL", "https://elsewhere.invalid"), ("TOOLGATE_APPROVALS_TOKEN", "token-1")];
    assert_eq!(approvals(None, &arguments, &variables).exit, Exit::Clean);
    let [seen] = &server.seen()[..] else { panic!() };
    assert_eq!(seen.headers["authorization"], "Bearer token-2");
    assert!(seen.target.starts_with("/v1/inbox?"));
    let missing = approvals(None, &["list", "--url", &url, "--token-file", "/nowhere/token"], &[]);
    assert_eq!(missing.exit, Exit::CannotRun);
    assert!(missing.stderr.contains("cannot read /nowhere/token"), "{}", missing.stderr);
}

#[test]
fn a_service_elsewhere_is_asked_with_tls_only() {
    let outcome = approvals(None, &["list", "--url", "http://approvals.example"], &[("TOOLGATE_APPROVALS_TOKEN", "t")]);
    assert_eq!(outcome.exit, Exit::CannotRun);
    assert!(outcome.stderr.contains("use https"), "{}", outcome.stderr);
}

#[test]
fn ids_are_nothing_else() {
    for id in ["", "a/b", "../x", "a b", "é", "https://approvals.example/approvals/x"] {
        assert!(Arguments::try_parse_from(["toolgate", "approvals", "show", id]).is_err(), "{id}");
    }
    for id in ["-hZk3vT1pWQ0m8nYl5cR7uX", "--Zk3vT1pWQ0m8nYl5cR7u", "_x"] {
        let server = Server::new(&[(200, view("approved"))]);
        for arguments in
            [&["show", id][..], &["approve", id, "--reason", "r"], &["reject", "--reason", "r", id, "--json"]]
        {
            assert_eq!(server.run(arguments).exit, Exit::Clean, "{arguments:?}");
        }
        assert!(server.seen().iter().all(|seen| seen.target.starts_with(&format!("/v1/inbox/{id}"))));
    }
}

#[test]
fn hostile_text_does_not_reach_the_terminal() {
    let hostile = "\u{1b}]0;title\u{7}\u{202e}txt\u{9b}2J\n\u{e0041}";
    let mut worst = view("pending");
    for pointer in [
        "/id",
        "/state",
        "/audience",
        "/decision_id",
        "/requester/issuer",
        "/requester/subject",
        "/requester/client_id",
        "/requester/agent",
        "/requester/tenant",
        "/requester/roles/0",
        "/requester/actors/0",
        "/call/method",
        "/call/kind",
        "/call/name",
        "/call/purpose",
        "/call/arguments/~1channel",
        "/requirements/0/gate",
        "/requirements/0/name",
        "/requirements/0/approvers/0",
        "/requirements/0/escalate/approvers/0",
        "/votes/0/sub",
        "/votes/0/name",
        "/votes/0/decision",
        "/votes/0/reason",
        "/votes/0/roles/0",
        "/history/0/event",
        "/history/1/by/sub",
    ] {
        worst = with(worst, pointer, hostile);
    }
    worst["call"]["arguments"][hostile] = json!(hostile);
    worst["escalated_from"] = json!(hostile);
    worst["why_not"] = json!(hostile);
    let refused = with(worst.clone(), "/may_decide", false);
    let said = json!({"title": hostile, "status": 418, "code": hostile, "detail": hostile});
    let pending = with(refused.clone(), "/state", "pending");
    for columns in [20, 80, 500] {
        for (server, arguments) in [
            (Server::new(&[(200, json!({"approvals": [worst, refused]}))]), &["list"][..]),
            (Server::new(&[(200, json!({"approvals": [worst]}))]), &["list", "--json"]),
            (Server::new(&[(200, worst.clone()), (200, refused.clone())]), &["show", ID]),
            (Server::new(&[(200, worst.clone())]), &["show", ID, "--json"]),
            (Server::new(&[(200, worst.clone()), (200, pending.clone())]), &["approve", ID]),
            (Server::new(&[(418, said.clone())]), &["reject", ID]),
        ] {
            for _ in 0..2 {
                let outcome = server.run_on(Some(columns), arguments);
                let text = outcome.stdout + &outcome.stderr;
                let is_plain =
                    |character: char| character == '\n' || character == '…' || (' '..='~').contains(&character);
                assert!(!text.is_empty() && text.chars().all(is_plain), "{text:?}");
            }
        }
    }
}

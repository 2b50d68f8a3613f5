//! Records of requests that really went through an exchange of the gateway.

#[expect(dead_code, reason = "not all of it is needed here")]
#[path = "../../../tests/support/corpus.rs"]
pub(crate) mod corpus;
#[expect(dead_code, reason = "not all of it is needed here")]
#[path = "../../../tests/support/gateway.rs"]
pub(crate) mod gateway;
#[expect(dead_code, reason = "not all of it is needed here")]
#[path = "../../../tests/support/issuer.rs"]
pub(crate) mod issuer;
#[path = "../../../tests/support/keys.rs"]
pub(crate) mod keys;
pub(crate) mod office;

use std::borrow::Cow;

use clap::Parser;
use serde_json::Value;
use tempfile::TempDir;
use time::OffsetDateTime;
use toolgate::audit::record::{self, Batch, Caller, FailedSide, Http, Kind, Personal, Record, Scopes, Verdict};
use toolgate::audit::seal;
use toolgate::exchange;
use toolgate::identity::Principal;
use toolgate::keys::NamedKey;
use toolgate::mcp::{Body, Call, McpHeaders, Target, classify};
use toolgate::units::UnixSeconds;
use toolgate_cli::Arguments;
use toolgate_cli::host::{Exit, Host};
use toolgate_cli::text::timestamp;

use gateway::{Gateway, Outcome, Request};

/// What is written about a request.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) record: Record<'static>,
    pub(crate) personal: Option<Personal<'static>>,
}

impl Written {
    /// The record as a line, out of any chain.
    pub(crate) fn line(&self) -> String {
        let key = NamedKey::new("k1", &[7; 32]).unwrap();
        let record = serde_json::to_string(&self.record).unwrap();
        let personal = self.personal.as_ref().map(|personal| serde_json::to_string(personal).unwrap());
        seal::line(&seal::mac(&key, record.as_bytes()), personal.as_deref(), &record)
    }

    /// The line once somebody was erased.
    pub(crate) fn erased_line(&self) -> String {
        let erased = self.record.id.to_string();
        let record = serde_json::to_string(&self.record).unwrap();
        let personal = format!(r#"{{"erased":"{erased}"}}"#);
        seal::line(&seal::mac(&NamedKey::new("k1", &[7; 32]).unwrap(), record.as_bytes()), Some(&personal), &record)
    }
}

pub(crate) fn log(records: &[Written]) -> String {
    records.iter().map(|written| written.line() + "\n").collect()
}

pub(crate) fn rfc3339(at: UnixSeconds) -> String {
    timestamp(OffsetDateTime::from_unix_timestamp(at.get().try_into().unwrap()).unwrap())
}

/// Sends a request through the gateway and writes down what the gateway's own record would say.
pub(crate) fn send(gateway: &mut Gateway, number: u64, request: &Request, token: Option<&str>) -> Written {
    let outcome = gateway.send(request);
    let now = gateway.now;
    let principal = token.and_then(|token| gateway.tokens.get(token, &gateway.keys, now));
    let principal = principal.filter(|_| is_after_recognition(&outcome));
    let time = rfc3339(now);
    let mut record = Record {
        at: time.clone().into(),
        id: format!("{number:032x}").into(),
        kind: Kind::Request,
        policy: Some(gateway.policy.digest.clone().into()),
        reason: outcome.reason.into(),
        started: time.into(),
        v: record::VERSION,
        verdict: match outcome.verdict {
            exchange::Verdict::Allow => Verdict::Allow,
            exchange::Verdict::Deny => Verdict::Deny,
            exchange::Verdict::Serve => Verdict::Serve,
        },
        sides: sides(&outcome),
        http: Some(Http { request_bytes: request.body().len().try_into().unwrap(), ..Http::default() }),
        ..Record::default()
    };
    let mut uris = Vec::new();
    let headers = McpHeaders::read(&request.header_list()).ok();
    if let (Ok(body), Some(headers)) = (Body::parse(request.body()), headers)
        && let Ok(calls) = classify(body, &headers, &gateway.policy.revisions)
    {
        describe(&mut record, &calls, &mut uris);
    }
    let personal = principal.map(|principal| {
        record.caller = Some(caller(&principal, gateway));
        let granted = principal.token().scopes().map(|scope| scope.to_owned().into()).collect();
        record.scopes = Some(Scopes { granted, ..Scopes::default() });
        personal(&principal, gateway, uris)
    });
    if let Some(personal) = &personal {
        record.personal = Some(seal::personal_digest(&serde_json::to_vec(personal).unwrap()).into());
    }
    Written { record, personal }
}

/// What is refused before the token is looked at has no caller.
fn is_after_recognition(outcome: &Outcome) -> bool {
    let early = ["token_in_query", "unexpected_query", "unknown_path", "method_not_allowed", "origin_not_allowed"];
    !early.contains(&outcome.reason)
}

fn describe(record: &mut Record<'static>, calls: &[Call<'_>], uris: &mut Vec<Cow<'static, str>>) {
    let method = |call: &Call<'_>| call.method.map(|method| method.name());
    let Some(first) = calls.first() else { return };
    record.revision = serde_json::to_value(first.revision.name()).unwrap().as_str().map(|name| name.to_owned().into());
    record.method = method(first).map(Into::into);
    let kind = |target: &Target<'_>| match target {
        Target::Tool(_) => Some("tool"),
        Target::Prompt(_) => Some("prompt"),
        Target::Resources(uris) => (!uris.is_empty()).then_some("resource"),
        Target::Task => Some("task"),
        Target::Protocol => None,
    };
    let name = |target: &Target<'_>| match target {
        Target::Tool(name) | Target::Prompt(name) => Some(name.to_string()),
        Target::Protocol | Target::Resources(_) | Target::Task => None,
    };
    record.target =
        kind(&first.target).map(|kind| record::Target { kind: kind.into(), name: name(&first.target).map(Into::into) });
    for call in calls {
        if let Target::Resources(named) = &call.target {
            uris.extend(named.iter().map(|uri| uri.to_string().into()));
        }
    }
    if calls.len() > 1 {
        let text = |call: &Call<'_>| {
            let words = [method(call).map(str::to_owned), name(&call.target)];
            words.into_iter().flatten().collect::<Vec<_>>().join(" ").into()
        };
        record.batch = Some(Batch { calls: calls.iter().map(text).collect(), size: calls.len().try_into().unwrap() });
    }
}

fn caller(principal: &Principal, gateway: &Gateway) -> Caller<'static> {
    let token = principal.token();
    Caller {
        agent: principal.agent(&gateway.policy.directory).map(|agent| agent.name.clone().into()),
        client: token.client_id().map(|client| client.to_owned().into()),
        credential: "jwt".into(),
        expires_at: token.expires_at().get(),
        issued_at: token.issued_at().get(),
        issuer: token.issuer().to_owned().into(),
        machine: token.attributes().is_machine,
        roles: principal.operator_roles().iter().map(|role| role.clone().into()).collect(),
        sender_constraint: "none".into(),
        tenant: principal.tenant().map(|tenant| tenant.to_owned().into()),
    }
}

fn personal(principal: &Principal, gateway: &Gateway, uris: Vec<Cow<'static, str>>) -> Personal<'static> {
    let token = principal.token();
    let attributes = token.attributes();
    let texts = |texts: &[Box<str>]| texts.iter().map(|text| text.to_string().into()).collect();
    let text = |text: &Option<Box<str>>| text.as_ref().map(|text| text.to_string().into());
    Personal {
        acr: text(&attributes.acr),
        actors: texts(&attributes.actors),
        amr: texts(&attributes.amr),
        auth_time: attributes.auth_time.map(UnixSeconds::get),
        claimed_agent: text(&attributes.agent),
        claimed_groups: texts(&attributes.groups),
        claimed_roles: texts(&attributes.roles),
        department: text(&attributes.department),
        purpose: text(&attributes.purpose),
        salt: "c2FsdHNhbHRzYWx0c2FsdA".into(),
        source: gateway.peer.address.map(|address| address.to_string().into()),
        subject: Some(token.subject().to_owned().into()),
        token_id: token.token_id().map(|id| id.to_owned().into()),
        uris,
        ..Personal::default()
    }
}

fn sides(outcome: &Outcome) -> Vec<FailedSide<'static>> {
    let body: Value = match &outcome.result {
        Err(reply) => serde_json::from_slice(&reply.body).unwrap_or_default(),
        Ok(_) => Value::Null,
    };
    let text = |value: &Value| value.as_str().unwrap().to_owned().into();
    let failing = body["error"]["data"]["failing_sides"].as_array().cloned().unwrap_or_default();
    let side = |failure: &Value| FailedSide {
        scopes: failure["missing_scopes"].as_array().into_iter().flatten().map(text).collect(),
        side: text(&failure["side"]),
        why: text(&failure["reason"]),
    };
    failing.iter().map(side).collect()
}

/// What a command did.
pub(crate) struct Ran {
    pub(crate) code: Exit,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs a command. In `arguments`, `POLICY` and `LOG` stand for files with these texts; standard input holds the log too.
pub(crate) fn toolgate(policy: &str, log: &str, arguments: &[&str]) -> Ran {
    let directory = TempDir::new().unwrap();
    let path = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (policy, file) = (path("policy.yaml", policy), path("audit.log", log));
    let arguments = arguments.iter().map(|argument| match *argument {
        "POLICY" => policy.clone(),
        "LOG" => file.clone(),
        other => other.to_owned(),
    });
    let arguments = Arguments::parse_from(std::iter::once("toolgate".to_owned()).chain(arguments));
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut host = Host {
        stdin: Some(Box::new(log.as_bytes())),
        stdout: Box::new(&mut out),
        stderr: Box::new(&mut err),
        columns: None,
        shows_progress: false,
        variables: Box::new(|_| None),
        now: OffsetDateTime::UNIX_EPOCH,
    };
    let code = toolgate_cli::run(&arguments, &mut host);
    drop(host);
    Ran { code, out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap() }
}

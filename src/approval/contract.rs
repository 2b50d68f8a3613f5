//! What is said between the gateway and an approval service: JSON over HTTP, version 1 of the contract in `approvals/`.
//!
//! Requests are written whole. Of answers only what is named here is read, strictly and within bounds: a network in between
//! may have written them, so nothing they say lets a call through but the signed decision in them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use super::{ApprovalId, BindingDigest, Nonce, Reason};
use crate::json::{self, Checked, Object};
use crate::limits;
use crate::units::{Seconds, UnixSeconds};

/// Depth of the answers' JSON, which are flat.
const ANSWER_DEPTH: usize = 4;

/// Longest time that a service is asked to hold a request (`Prefer: wait`), in seconds: below the 60 s after which most
/// clients give up.
const MAX_WAIT: Seconds = Seconds::new(55);

/// Where the requests go: `prefix` is the policy's, without a slash at its end.
#[derive(Clone, Copy, Debug)]
pub struct Paths<'a> {
    /// What stands before `/v1` in all paths; empty by default.
    pub prefix: &'a str,
}

impl Paths<'_> {
    /// POST: asks for an approval, or finds the one that is there.
    pub fn create(self) -> String {
        format!("{}/v1/approvals", self.prefix)
    }

    /// GET: the state of an approval.
    pub fn state(self, id: &ApprovalId, binding: &BindingDigest) -> String {
        format!("{}/{id}?binding={binding}", self.create())
    }

    /// POST: takes the approval for one request.
    pub fn consume(self, id: &ApprovalId) -> String {
        format!("{}/{id}/consume", self.create())
    }

    /// POST: withdraws the request for an approval.
    pub fn cancel(self, id: &ApprovalId) -> String {
        format!("{}/{id}/cancel", self.create())
    }
}

/// Value of `Prefer` (RFC 7240 section 4.3): how long the service may wait for a decision before it answers.
pub fn prefer_wait(hold: Seconds) -> String {
    format!("wait={}", hold.min(MAX_WAIT).get())
}

/// Asks for an approval, or for the one of the same binding.
#[derive(Clone, Debug, Serialize)]
pub struct Create<'a> {
    /// What the approval is for.
    pub binding: BindingDigest,
    /// URI of the protected resource.
    pub audience: &'a str,
    /// SHA-256 of the policy in force, in hexadecimal.
    pub policy: &'a str,
    /// The id of the gateway's decision, which its record has too: 32 hexadecimal digits.
    pub decision_id: &'a str,
    /// Who asks.
    pub requester: Requester<'a>,
    /// For what.
    pub call: Asked<'a>,
    /// What must be met, all of it.
    pub requirements: Vec<Requirement<'a>>,
    /// Whether an approver must say why.
    pub reason_required: bool,
    /// For how long it can be decided.
    #[serde(serialize_with = "whole_seconds")]
    pub expires_in: Seconds,
    /// The cluster that was asked first and did not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub escalated_from: Option<&'a str>,
}

/// Who asks, as the verified token says.
#[derive(Clone, Debug, Serialize)]
pub struct Requester<'a> {
    /// Issuer of the token.
    pub issuer: &'a str,
    /// Subject of the token.
    pub subject: &'a str,
    /// The client that it was issued to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<&'a str>,
    /// The agent role of the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<&'a str>,
    /// The tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<&'a str>,
    /// The roles that the policy gives the person.
    pub roles: Vec<&'a str>,
    /// Who acts for the person, the outermost first.
    pub actors: Vec<&'a str>,
}

/// What is asked for.
#[derive(Clone, Debug, Serialize)]
pub struct Asked<'a> {
    /// The revision of MCP.
    pub revision: &'a str,
    /// The method.
    pub method: &'a str,
    /// What it acts on.
    pub kind: TargetKind,
    /// The name of that.
    pub name: &'a str,
    /// What an approver may see of the arguments, by JSON Pointer; redacted like in records.
    pub arguments: &'a BTreeMap<String, Value>,
    /// Whether there are arguments that are not shown.
    pub withheld: bool,
    /// What the client says that it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purpose: Option<&'a str>,
}

/// What a call acts on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "each is the target of that name")]
pub enum TargetKind {
    Tool,
    Prompt,
    Resource,
}

/// One thing that must be met.
#[derive(Clone, Debug, Serialize)]
pub struct Requirement<'a> {
    /// What asks for it.
    pub gate: Gate,
    /// The rule, agent role or scope.
    pub name: &'a str,
    /// Roles of which an approver needs one.
    pub approvers: &'a [String],
    /// How many different people must approve, at least 1.
    pub count: u8,
    /// Who else is asked later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub escalate: Option<Escalate<'a>>,
}

/// What in a policy asks for an approval.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Gate {
    /// A rule.
    Rule,
    /// The role of an agent.
    Agent,
    /// The risk of a scope.
    Risk,
}

/// Who else is asked when nobody decides.
#[derive(Clone, Debug, Serialize)]
pub struct Escalate<'a> {
    /// How long after the request.
    #[serde(serialize_with = "whole_seconds")]
    pub after: Seconds,
    /// Roles of which an approver needs one, besides the first.
    pub approvers: &'a [String],
}

/// Takes an approval for one request.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Consume {
    /// What the approval is for.
    pub binding: BindingDigest,
    /// Made for this one request; the grant must have it too.
    pub nonce: Nonce,
    /// How often the call was let through before.
    pub step: u8,
}

/// Withdraws the request for an approval.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Cancel {
    /// What the approval is for.
    pub binding: BindingDigest,
}

/// The body of a request.
///
/// # Errors
/// [`Reason::Oversized`] when it is larger than [`limits::MAX_APPROVAL_REQUEST_BYTES`].
pub fn body(request: &impl Serialize) -> Result<Vec<u8>, Reason> {
    let body = serde_json::to_vec(request).map_err(|_| Reason::Oversized)?;
    if body.len() <= limits::MAX_APPROVAL_REQUEST_BYTES { Ok(body) } else { Err(Reason::Oversized) }
}

/// What came of a request to an approval service.
#[derive(Clone, Copy, Debug)]
pub enum Outcome<'a> {
    /// There was no connection, or it broke.
    NoConnection,
    /// No answer in time.
    Timeout,
    /// An answer larger than is read.
    Oversized,
    /// An answer.
    Status {
        /// HTTP status code.
        status: u16,
        /// All of the body.
        body: &'a [u8],
    },
}

/// What a service says of an approval. Only [`State::Ended`] can be verified, and only that needs to be: the others let
/// nothing through.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// The approval.
    pub id: ApprovalId,
    /// Where it stands.
    pub state: State,
    /// When it ends; at most [`limits::MAX_APPROVAL_EXPIRY`] from now, whatever the service says.
    pub expires_at: UnixSeconds,
    /// Whether others are asked because the first did not decide in time.
    pub escalated: bool,
    /// How often the call was let through.
    pub step: u8,
}

/// Where an approval stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum State {
    /// Nobody has decided.
    Pending,
    /// It was approved. Consuming it proves that.
    Approved,
    /// It let a request through already.
    Consumed,
    /// It was rejected, expired or cancelled: the signed decision says which, see [`super::verify_verdict`].
    Ended(String),
}

impl Answer {
    /// Reads the answer to a request that creates, reads or cancels the approval of `binding`; `id` is that of an approval
    /// which is known already.
    ///
    /// # Errors
    /// Why nothing is known of the approval.
    pub fn read(
        outcome: Outcome<'_>,
        binding: &BindingDigest,
        id: Option<&ApprovalId>,
        now: UnixSeconds,
    ) -> Result<Self, Reason> {
        let StateBody {
            id: answered,
            binding: answered_binding,
            state,
            created_at,
            expires_at,
            escalated,
            step,
            decision,
        } = read(outcome, if id.is_some() { Reason::StateInvalid } else { Reason::Error })?;
        let answered = ApprovalId::parse(&answered).ok_or(Reason::Malformed)?;
        if !binding.is(&answered_binding) || id.is_some_and(|id| *id != answered) {
            return Err(Reason::Mismatch);
        }
        let state = match (state, decision) {
            (StateName::Pending, None) => State::Pending,
            (StateName::Approved, None) => State::Approved,
            (StateName::Consumed, None) => State::Consumed,
            (StateName::Rejected | StateName::Expired | StateName::Cancelled, Some(decision)) => State::Ended(decision),
            (StateName::Rejected | StateName::Expired | StateName::Cancelled, None) => return Err(Reason::Unsigned),
            (StateName::Pending | StateName::Approved | StateName::Consumed, Some(_)) => return Err(Reason::Malformed),
        };
        if expires_at < created_at {
            return Err(Reason::Malformed);
        }
        let expires_at = UnixSeconds::new(expires_at).min(now.plus(limits::MAX_APPROVAL_EXPIRY));
        Ok(Self { id: answered, state, expires_at, escalated, step })
    }
}

/// Reads the answer to [`Consume`]: the signed grant, for [`super::verify_grant`].
///
/// # Errors
/// Why there is none. [`Reason::Pending`] when nobody has approved yet.
pub fn read_grant(outcome: Outcome<'_>, id: &ApprovalId) -> Result<String, Reason> {
    let GrantBody { id: answered, grant } = read(outcome, Reason::StateInvalid)?;
    if answered == id.as_str() { Ok(grant) } else { Err(Reason::Mismatch) }
}

#[derive(Deserialize)]
struct StateBody {
    id: String,
    binding: String,
    state: StateName,
    created_at: u64,
    expires_at: u64,
    escalated: bool,
    step: u8,
    decision: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StateName {
    Pending,
    Approved,
    Rejected,
    Expired,
    Cancelled,
    Consumed,
}

#[derive(Deserialize)]
struct GrantBody {
    id: String,
    grant: String,
}

/// An error of the service (RFC 9457).
#[derive(Deserialize)]
struct Problem {
    code: String,
}

/// Reads a successful answer. `not_found` is what it means that the service has no such approval.
fn read<T: for<'de> Deserialize<'de>>(outcome: Outcome<'_>, not_found: Reason) -> Result<T, Reason> {
    let (status, body) = match outcome {
        Outcome::NoConnection => return Err(Reason::Unreachable),
        Outcome::Timeout => return Err(Reason::Timeout),
        Outcome::Oversized => return Err(Reason::Oversized),
        Outcome::Status { status, body } => (status, body),
    };
    if body.len() > limits::MAX_APPROVAL_ANSWER_BYTES {
        return Err(Reason::Oversized);
    }
    match status {
        200 | 201 => strict(body),
        404 => Err(not_found),
        409 | 410 => {
            Err(strict(body).ok().and_then(|Problem { code }| refusal(status, &code)).unwrap_or(Reason::Error))
        }
        413 => Err(Reason::Oversized),
        // Envoy answers so itself, when it has no connection or no answer.
        502 | 503 => Err(Reason::Unreachable),
        408 | 504 => Err(Reason::Timeout),
        _ => Err(Reason::Error),
    }
}

fn strict<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, Reason> {
    json::parse(body, Checked::to_depth(ANSWER_DEPTH)).map_err(|_| Reason::Malformed)?;
    serde_json::from_slice(body).map(|Object(answer)| answer).map_err(|_| Reason::Malformed)
}

/// Why an approval cannot be consumed.
fn refusal(status: u16, code: &str) -> Option<Reason> {
    match (status, code) {
        (409, "used") => Some(Reason::Used),
        (409, "not_approved") => Some(Reason::Pending),
        (410, "rejected") => Some(Reason::Rejected),
        (410, "expired") => Some(Reason::Expired),
        (410, "cancelled") => Some(Reason::Cancelled),
        _ => None,
    }
}

/// As a number, and not as policies write it.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn whole_seconds<S: Serializer>(seconds: &Seconds, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(seconds.get())
}

impl Serialize for BindingDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Nonce {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "the numbers are in the test")]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: UnixSeconds = UnixSeconds::new(1_800_000_000);
    const BINDING: BindingDigest = BindingDigest::new([7; 32]);

    fn id() -> ApprovalId {
        ApprovalId::parse("Zm9vYmFyYmF6cXV4-_0123").unwrap()
    }

    fn state() -> Value {
        json!({
            "id": id().as_str(), "binding": "07".repeat(32), "state": "pending", "created_at": NOW.get(),
            "expires_at": NOW.get() + 600, "escalated": false, "step": 0,
        })
    }

    fn with(mut body: Value, name: &str, value: impl Into<Value>) -> Value {
        body[name] = value.into();
        body
    }

    fn answer(status: u16, body: &str) -> Result<Answer, Reason> {
        Answer::read(Outcome::Status { status, body: body.as_bytes() }, &BINDING, None, NOW)
    }

    fn known(body: &Value) -> Result<Answer, Reason> {
        Answer::read(Outcome::Status { status: 200, body: body.to_string().as_bytes() }, &BINDING, Some(&id()), NOW)
    }

    fn grant(status: u16, body: &str) -> Result<String, Reason> {
        read_grant(Outcome::Status { status, body: body.as_bytes() }, &id())
    }

    #[test]
    fn requests_are_written_as_the_contract_says() {
        let arguments = BTreeMap::from([("/channel".to_owned(), json!("sms")), ("/n".to_owned(), json!(2))]);
        let (admins, oncall) = (vec!["automation_admin".to_owned()], vec!["security_oncall".to_owned()]);
        let create = Create {
            binding: BINDING,
            audience: "https://mcp.norg.example/mcp",
            policy: "00",
            decision_id: "11",
            requester: Requester {
                issuer: "https://idp.norg.example",
                subject: "alice",
                client_id: Some("desktop"),
                agent: None,
                tenant: None,
                roles: vec!["campaign_manager"],
                actors: vec![],
            },
            call: Asked {
                revision: "2026-07-28",
                method: "tools/call",
                kind: TargetKind::Tool,
                name: "send_message",
                arguments: &arguments,
                withheld: true,
                purpose: None,
            },
            requirements: vec![
                Requirement {
                    gate: Gate::Rule,
                    name: "rules[3]",
                    approvers: &admins,
                    count: 1,
                    escalate: Some(Escalate { after: Seconds::new(300), approvers: &oncall }),
                },
                Requirement { gate: Gate::Risk, name: "high", approvers: &oncall, count: 2, escalate: None },
            ],
            reason_required: false,
            expires_in: Seconds::new(600),
            escalated_from: None,
        };
        let expected = json!({
            "binding": "07".repeat(32), "audience": "https://mcp.norg.example/mcp", "policy": "00", "decision_id": "11",
            "requester": {"issuer": "https://idp.norg.example", "subject": "alice", "client_id": "desktop",
                          "roles": ["campaign_manager"], "actors": []},
            "call": {"revision": "2026-07-28", "method": "tools/call", "kind": "tool", "name": "send_message",
                     "arguments": {"/channel": "sms", "/n": 2}, "withheld": true},
            "requirements": [
                {"gate": "rule", "name": "rules[3]", "approvers": ["automation_admin"], "count": 1,
                 "escalate": {"after": 300, "approvers": ["security_oncall"]}},
                {"gate": "risk", "name": "high", "approvers": ["security_oncall"], "count": 2},
            ],
            "reason_required": false, "expires_in": 600,
        });
        assert_eq!(serde_json::from_slice::<Value>(&body(&create).unwrap()).unwrap(), expected);
        let huge = "x".repeat(limits::MAX_APPROVAL_REQUEST_BYTES);
        let create = Create { escalated_from: Some(&huge), ..create };
        assert_eq!(body(&create), Err(Reason::Oversized));
        let consume = Consume { binding: BINDING, nonce: Nonce::new([1; 16]), step: 2 };
        let expected = json!({"binding": "07".repeat(32), "nonce": "01".repeat(16), "step": 2});
        assert_eq!(serde_json::from_slice::<Value>(&body(&consume).unwrap()).unwrap(), expected);
    }

    #[test]
    fn paths_hold_an_id_and_a_digest() {
        let (paths, id) = (Paths { prefix: "/a" }, id());
        assert_eq!(paths.create(), "/a/v1/approvals");
        let base = "/a/v1/approvals/Zm9vYmFyYmF6cXV4-_0123";
        assert_eq!(paths.state(&id, &BINDING), format!("{base}?binding={}", "07".repeat(32)));
        assert_eq!(paths.consume(&id), format!("{base}/consume"));
        assert_eq!(paths.cancel(&id), format!("{base}/cancel"));
        assert_eq!(prefer_wait(Seconds::new(45)), "wait=45");
        assert_eq!(prefer_wait(Seconds::new(3600)), "wait=55");
    }

    #[test]
    fn states_are_read() {
        let pending = Answer {
            id: id(),
            state: State::Pending,
            expires_at: NOW.plus(Seconds::new(600)),
            escalated: false,
            step: 0,
        };
        assert_eq!(answer(200, &state().to_string()), Ok(pending.clone()));
        assert_eq!(answer(201, &state().to_string()), Ok(pending.clone()));
        assert_eq!(known(&with(state(), "unknown", json!({"a": 1}))), Ok(pending.clone()));
        assert_eq!(known(&with(state(), "decision", json!(null))), Ok(pending));
        for (name, expected) in [("approved", State::Approved), ("consumed", State::Consumed)] {
            assert_eq!(known(&with(state(), "state", name)).unwrap().state, expected);
            assert_eq!(known(&with(with(state(), "state", name), "decision", "x")), Err(Reason::Malformed));
        }
        for name in ["rejected", "expired", "cancelled"] {
            let ended = with(with(state(), "state", name), "decision", "x");
            assert_eq!(known(&ended).unwrap().state, State::Ended("x".to_owned()));
            assert_eq!(known(&with(state(), "state", name)), Err(Reason::Unsigned));
        }
        // Nobody holds an approval open for longer than that.
        let day = NOW.plus(limits::MAX_APPROVAL_EXPIRY);
        assert_eq!(known(&with(state(), "expires_at", u64::MAX)).unwrap().expires_at, day);
    }

    #[test]
    fn answers_that_are_not_of_the_contract_are_refused() {
        for (name, value, expected) in [
            ("id", json!("../x"), Reason::Malformed),
            ("id", json!(""), Reason::Malformed),
            ("id", json!("other"), Reason::Mismatch),
            ("binding", json!("08".repeat(32)), Reason::Mismatch),
            ("binding", json!("07".repeat(31)), Reason::Mismatch),
            ("state", json!("Approved"), Reason::Malformed),
            ("state", json!("granted"), Reason::Malformed),
            ("expires_at", json!(NOW.get() - 1), Reason::Malformed),
            ("expires_at", json!(1.5), Reason::Malformed),
            ("escalated", json!(0), Reason::Malformed),
            ("step", json!(256), Reason::Malformed),
            ("step", json!(-1), Reason::Malformed),
            ("decision", json!(5), Reason::Malformed),
        ] {
            assert_eq!(known(&with(state(), name, value.clone())), Err(expected), "{name}: {value}");
        }
        for name in state().as_object().unwrap().keys() {
            let mut body = state();
            body.as_object_mut().unwrap().remove(name);
            assert_eq!(known(&body), Err(Reason::Malformed), "{name}");
        }
        let text = state().to_string();
        let twice = text.replacen('{', r#"{"state":"approved","#, 1);
        let deep = text.replacen('{', r#"{"x":[[[[[]]]]],"#, 1);
        for wrong in ["", "{}", "[]", "null", "x", &format!("{text}x"), &format!("[{text}]"), &twice, &deep] {
            assert_eq!(answer(200, wrong), Err(Reason::Malformed), "{wrong}");
        }
        let huge = with(state(), "x", "x".repeat(limits::MAX_APPROVAL_ANSWER_BYTES));
        assert_eq!(known(&huge), Err(Reason::Oversized));
    }

    #[test]
    fn failures_have_reasons() {
        for (outcome, expected) in [
            (Outcome::NoConnection, Reason::Unreachable),
            (Outcome::Timeout, Reason::Timeout),
            (Outcome::Oversized, Reason::Oversized),
        ] {
            assert_eq!(Answer::read(outcome, &BINDING, None, NOW), Err(expected));
            assert_eq!(read_grant(outcome, &id()), Err(expected));
        }
        let good = state().to_string();
        for (status, expected) in [
            (0, Reason::Error),
            (100, Reason::Error),
            (202, Reason::Error),
            (204, Reason::Error),
            (302, Reason::Error),
            (400, Reason::Error),
            (401, Reason::Error),
            (403, Reason::Error),
            (404, Reason::Error),
            (409, Reason::Error),
            (410, Reason::Error),
            (413, Reason::Oversized),
            (429, Reason::Error),
            (500, Reason::Error),
            (502, Reason::Unreachable),
            (503, Reason::Unreachable),
            (504, Reason::Timeout),
            (599, Reason::Error),
            (u16::MAX, Reason::Error),
        ] {
            assert_eq!(answer(status, &good), Err(expected), "{status}");
        }
        let lost = Answer::read(Outcome::Status { status: 404, body: b"" }, &BINDING, Some(&id()), NOW);
        assert_eq!(lost, Err(Reason::StateInvalid));
    }

    #[test]
    fn grants_are_read_and_refusals_have_codes() {
        let good = json!({"id": id().as_str(), "grant": "a.b.c"}).to_string();
        assert_eq!(grant(200, &good), Ok("a.b.c".to_owned()));
        assert_eq!(grant(200, r#"{"id":"other","grant":"a.b.c"}"#), Err(Reason::Mismatch));
        assert_eq!(grant(200, &state().to_string()), Err(Reason::Malformed));
        assert_eq!(grant(404, ""), Err(Reason::StateInvalid));
        for (status, code, expected) in [
            (409, "used", Reason::Used),
            (409, "not_approved", Reason::Pending),
            (410, "rejected", Reason::Rejected),
            (410, "expired", Reason::Expired),
            (410, "cancelled", Reason::Cancelled),
            (409, "rejected", Reason::Error),
            (410, "used", Reason::Error),
            (410, "approved", Reason::Error),
        ] {
            let problem = json!({"title": "x", "status": status, "code": code, "detail": "y"}).to_string();
            assert_eq!(grant(status, &problem), Err(expected), "{status} {code}");
        }
        for problem in ["", "{}", r#"{"code":5}"#, r#"{"code":"used","code":"used"}"#, &good] {
            assert_eq!(grant(409, problem), Err(Reason::Error), "{problem}");
        }
    }
}

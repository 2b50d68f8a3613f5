//! The contract with approval services: approvals/openapi.yaml, version 1. What is sent, and how answers are read.
//!
//! Answers come over a network that nobody vouches for. So they are read strictly, and nothing in them lets a call pass:
//! for that there must be a signature, see [`super::verify_grant`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ApprovalId, BindingDigest, Nonce, Reason};
use crate::json;
use crate::limits;
use crate::units::UnixSeconds;

/// Where approvals are asked for, after what comes before it on the service.
pub const CREATE_PATH: &str = "/v1/approvals";

/// A call that people are asked about: the body of `POST /v1/approvals`.
#[derive(Debug, Serialize)]
pub struct Creation<'a> {
    /// The call, see [`BindingDigest`].
    pub binding: String,
    /// The protected resource.
    pub audience: &'a str,
    /// SHA-256 of the policy in force, in hexadecimal.
    pub policy: &'a str,
    /// Id of the decision that asks.
    pub decision_id: String,
    /// Who asks.
    pub requester: Requester<'a>,
    /// For what.
    pub call: Shown<'a>,
    /// Whom to ask: all of these must be met.
    pub requirements: Vec<Requirement<'a>>,
    /// Whether approvers must say why.
    pub reason_required: bool,
    /// How long the approval is good for, in seconds.
    pub expires_in: u64,
    /// The service that was asked before and did not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub escalated_from: Option<&'a str>,
}

/// Who asks, by a verified token.
#[derive(Debug, Serialize)]
pub struct Requester<'a> {
    /// `iss`.
    pub issuer: &'a str,
    /// `sub`.
    pub subject: &'a str,
    /// Client that the token was issued to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<&'a str>,
    /// Agent role of the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<&'a str>,
    /// Tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<&'a str>,
    /// Operator roles of the policy.
    pub roles: &'a [String],
    /// Who acts for the subject (`act`, RFC 8693 section 4.1).
    pub actors: Vec<&'a str>,
}

/// What approvers are shown of a call.
#[derive(Debug, Serialize)]
pub struct Shown<'a> {
    /// Protocol revision.
    pub revision: &'a str,
    /// JSON-RPC method.
    pub method: &'a str,
    /// `tool`, `prompt` or `resource`.
    pub kind: &'a str,
    /// Name or URI.
    pub name: &'a str,
    /// Arguments by JSON Pointer, as far as the policy shows them.
    pub arguments: BTreeMap<String, Value>,
    /// There is more than is shown.
    pub withheld: bool,
    /// What the client says that the call is for. Nobody vouches for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purpose: Option<&'a str>,
}

/// What one gate asks for.
#[derive(Debug, Serialize)]
pub struct Requirement<'a> {
    /// `rule`, `agent` or `risk`.
    pub gate: &'a str,
    /// Its name in the policy.
    pub name: &'a str,
    /// Roles of which an approver must have one.
    pub approvers: &'a [String],
    /// How many of them must approve.
    pub count: u32,
    /// Who else may, after a while.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub escalate: Option<Escalate<'a>>,
}

/// Who else may approve after a while.
#[derive(Debug, Serialize)]
pub struct Escalate<'a> {
    /// Seconds after the approval was asked for.
    pub after: u64,
    /// Roles of which an approver must have one.
    pub approvers: &'a [String],
}

/// Where an approval's state is.
pub fn state_path(id: &ApprovalId, binding: &BindingDigest) -> String {
    format!("{CREATE_PATH}/{id}?binding={binding}")
}

/// Where an approval is used up.
pub fn consume_path(id: &ApprovalId) -> String {
    format!("{CREATE_PATH}/{id}/consume")
}

/// Where a request for approval is taken back.
pub fn cancel_path(id: &ApprovalId) -> String {
    format!("{CREATE_PATH}/{id}/cancel")
}

/// The body that uses up an approval for one request.
pub fn consumption(binding: &BindingDigest, nonce: &Nonce, step: u8) -> Vec<u8> {
    #[derive(Serialize)]
    struct Consumption {
        binding: String,
        nonce: String,
        step: u8,
    }
    written(&Consumption { binding: binding.to_string(), nonce: nonce.to_string(), step })
}

/// The body that takes a request for approval back.
pub fn cancellation(binding: &BindingDigest) -> Vec<u8> {
    #[derive(Serialize)]
    struct Cancellation {
        binding: String,
    }
    written(&Cancellation { binding: binding.to_string() })
}

/// JSON text. Structures of strings and numbers are written without fail; an empty body would be refused.
pub fn written<T: Serialize>(body: &T) -> Vec<u8> {
    serde_json::to_vec(body).unwrap_or_default()
}

/// What has become of an approval, as a service says.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Nobody has decided.
    Pending,
    /// It can be used.
    Approved,
    /// An approver has refused it.
    Rejected,
    /// Too late.
    Expired,
    /// Taken back.
    Cancelled,
    /// It was used.
    Consumed,
}

/// The state of an approval.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct State {
    /// Its id.
    pub id: ApprovalId,
    /// What has become of it.
    pub status: Status,
    /// When it ends.
    pub expires_at: UnixSeconds,
    /// Others were asked too.
    pub escalated: bool,
    /// The signed decision, for the states that need one.
    pub decision: Option<String>,
}

/// Why an answer is of no use.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Fault {
    /// Not in the form of the contract.
    #[error("not in the form of the contract")]
    Malformed,
    /// About another call.
    #[error("about another call")]
    Mismatch,
    /// The approval was used for another request.
    #[error("used before")]
    Used,
    /// There is no such approval, or not for this call.
    #[error("unknown")]
    Unknown,
    /// Something has become of the approval that its state says.
    #[error("decided otherwise")]
    Decided,
    /// A status that has no meaning here.
    #[error("an unexpected status")]
    Status,
}

impl Fault {
    /// The reason for which the call is denied then.
    pub const fn reason(self) -> Reason {
        match self {
            Self::Malformed => Reason::Malformed,
            Self::Mismatch => Reason::Mismatch,
            Self::Used => Reason::Used,
            // What the client remembers is of no use, or the service has lost it.
            Self::Unknown => Reason::StateInvalid,
            Self::Decided | Self::Status => Reason::Error,
        }
    }
}

/// Reads the answer to a creation, or to a question for the state.
///
/// # Errors
/// When it is no state of an approval of this call.
pub fn read_state(status: u16, body: &[u8], binding: &BindingDigest) -> Result<State, Fault> {
    #[derive(Deserialize)]
    struct Answer {
        id: String,
        binding: String,
        state: Status,
        expires_at: u64,
        #[serde(default)]
        escalated: bool,
        decision: Option<String>,
    }
    match status {
        200 | 201 => {}
        404 => return Err(Fault::Unknown),
        _ => return Err(Fault::Status),
    }
    let Answer { id, binding: bound, state, expires_at, escalated, decision } = read(body)?;
    if !binding.is(&bound) {
        return Err(Fault::Mismatch);
    }
    let id = ApprovalId::parse(&id).ok_or(Fault::Malformed)?;
    Ok(State { id, status: state, expires_at: UnixSeconds::new(expires_at), escalated, decision })
}

/// Reads the answer to a consumption: the grant, of which nothing was verified.
///
/// # Errors
/// Why there is none.
pub fn read_grant(status: u16, body: &[u8]) -> Result<String, Fault> {
    #[derive(Deserialize)]
    struct Answer {
        grant: String,
    }
    #[derive(Deserialize)]
    struct Problem {
        code: String,
    }
    match status {
        200 => read(body).map(|Answer { grant }| grant),
        409 => match read(body) {
            Ok(Problem { code }) if code == "used" => Err(Fault::Used),
            Ok(_) => Err(Fault::Decided),
            Err(fault) => Err(fault),
        },
        410 => Err(Fault::Decided),
        404 => Err(Fault::Unknown),
        _ => Err(Fault::Status),
    }
}

/// Reads JSON that no two readers could read differently. Members that are not known are left alone: the contract may
/// grow.
fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Fault> {
    json::parse(body, json::Checked::to_depth(limits::MAX_TOKEN_JSON_DEPTH)).map_err(|_| Fault::Malformed)?;
    serde_json::from_slice(body).map_err(|_| Fault::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BINDING: BindingDigest = BindingDigest::new([7; 32]);

    fn state(status: u16, change: impl Fn(&mut Value)) -> Result<State, Fault> {
        let mut answer = serde_json::json!({
            "id": "a_1", "binding": BINDING.to_string(), "state": "pending", "created_at": 1, "expires_at": 2, "step": 0,
        });
        change(&mut answer);
        read_state(status, answer.to_string().as_bytes(), &BINDING)
    }

    #[test]
    fn a_state_is_read_if_it_is_of_this_call() {
        let read = state(201, |_| {}).unwrap();
        let (id, expires_at) = (ApprovalId::parse("a_1").unwrap(), UnixSeconds::new(2));
        assert_eq!(read, State { id, status: Status::Pending, expires_at, escalated: false, decision: None });
        let decided = state(200, |answer| {
            answer["state"] = "rejected".into();
            answer["decision"] = "x.y.z".into();
            answer["escalated"] = true.into();
        });
        let decided = decided.unwrap();
        assert_eq!((decided.status, decided.escalated), (Status::Rejected, true));
        assert_eq!(decided.decision.as_deref(), Some("x.y.z"));

        assert_eq!(state(200, |answer| answer["binding"] = "00".into()), Err(Fault::Mismatch));
        assert_eq!(state(200, |answer| answer["id"] = "../x".into()), Err(Fault::Malformed));
        assert_eq!(state(200, |answer| answer["state"] = "granted".into()), Err(Fault::Malformed));
        assert_eq!(state(200, |answer| answer["expires_at"] = (-1).into()), Err(Fault::Malformed));
        assert_eq!(state(404, |_| {}), Err(Fault::Unknown));
        for status in [100, 202, 204, 302, 400, 401, 403, 409, 429, 500] {
            assert_eq!(state(status, |_| {}), Err(Fault::Status), "{status}");
        }
        let twice =
            format!(r#"{{"state":"pending","state":"approved","id":"a","binding":"{BINDING}","expires_at":1}}"#);
        assert_eq!(read_state(200, twice.as_bytes(), &BINDING), Err(Fault::Malformed));
        assert_eq!(read_state(200, b"", &BINDING), Err(Fault::Malformed));
    }

    #[test]
    fn what_became_of_a_consumption_is_told_apart() {
        assert_eq!(read_grant(200, br#"{"id":"a","grant":"x.y.z"}"#), Ok("x.y.z".to_owned()));
        assert_eq!(read_grant(200, br#"{"grant":1}"#), Err(Fault::Malformed));
        assert_eq!(read_grant(409, br#"{"code":"used"}"#), Err(Fault::Used));
        assert_eq!(read_grant(409, br#"{"code":"not_approved"}"#), Err(Fault::Decided));
        assert_eq!(read_grant(409, b"conflict"), Err(Fault::Malformed));
        assert_eq!(read_grant(410, b""), Err(Fault::Decided));
        assert_eq!(read_grant(404, b""), Err(Fault::Unknown));
        assert_eq!(read_grant(201, br#"{"grant":"x.y.z"}"#), Err(Fault::Status));
    }

    #[test]
    fn paths_and_bodies_are_those_of_the_contract() {
        let id = ApprovalId::parse("a_1").unwrap();
        assert_eq!(state_path(&id, &BINDING), format!("/v1/approvals/a_1?binding={}", "07".repeat(32)));
        assert_eq!(consume_path(&id), "/v1/approvals/a_1/consume");
        assert_eq!(cancel_path(&id), "/v1/approvals/a_1/cancel");
        let body: Value = serde_json::from_slice(&consumption(&BINDING, &Nonce::new([1; 16]), 3)).unwrap();
        let expected = serde_json::json!({"binding": "07".repeat(32), "nonce": "01".repeat(16), "step": 3});
        assert_eq!(body, expected);
    }
}

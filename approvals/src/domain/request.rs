//! What a gateway asks for.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::Scalar;

/// The body of `POST /v1/approvals`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Digest of everything that makes it this call: SHA-256 in hexadecimal. Opaque to the service.
    pub binding: String,
    /// URI of the resource whose gateway asks; the audience of decisions.
    pub audience: String,
    /// Digest of the gateway's policy: SHA-256 in hexadecimal.
    pub policy: String,
    /// The gateway's id of the decision, as in its audit record.
    pub decision_id: String,
    /// Who wants to make the call.
    pub requester: Requester,
    /// The call.
    pub call: Call,
    /// What must be met, all of it: one for each gate that the call has run into.
    pub requirements: Vec<Requirement>,
    /// Whether a decision needs a reason.
    pub reason_required: bool,
    /// Seconds from now until it expires: 1 to 86,400.
    pub expires_in: u32,
    /// Name of the service that was asked first and did not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalated_from: Option<String>,
}

impl Request {
    /// Whether an approval of one is an approval of the other, if it is the same call: the same people must approve, and
    /// the same act for the requester. The binding covers neither.
    #[must_use]
    pub fn has_terms_of(&self, other: &Self) -> bool {
        self.requirements == other.requirements
            && self.reason_required == other.reason_required
            && self.requester.actors == other.requester.actors
    }
}

/// Who wants to make the call, from the caller's verified token.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Requester {
    /// Issuer of the token.
    pub issuer: String,
    /// Its subject.
    pub subject: String,
    /// Client that it was issued to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Role of the agent, by the gateway's policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Tenant of the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Roles of the person, by the gateway's policy.
    pub roles: Vec<String>,
    /// Who acts for the subject, from the token's chain of actors.
    pub actors: Vec<String>,
}

/// What kind of thing is called.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A tool.
    Tool,
    /// A prompt.
    Prompt,
    /// A resource.
    Resource,
}

impl Kind {
    /// The word for it, in JSON and to people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tool => "tool",
            Self::Prompt => "prompt",
            Self::Resource => "resource",
        }
    }
}

/// The call, as far as approvers are shown it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// Revision of the protocol.
    pub revision: String,
    /// Its method, such as `tools/call`.
    pub method: String,
    /// What is called.
    pub kind: Kind,
    /// Name or URI of what is called.
    pub name: String,
    /// Arguments, redacted by the gateway: JSON Pointers with their values.
    #[serde(deserialize_with = "unique")]
    pub arguments: BTreeMap<String, Scalar>,
    /// Whether there are arguments that are not shown.
    pub withheld: bool,
    /// What the call is for, in the words of the caller: not to be relied on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
}

/// What made a gate.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Gate {
    /// A rule of the policy.
    Rule,
    /// The role of the agent.
    Agent,
    /// The risk of a scope.
    Risk,
}

impl Gate {
    /// The word for it, in JSON and to people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::Agent => "agent",
            Self::Risk => "risk",
        }
    }
}

/// One gate, and whose approval opens it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    /// What made it.
    pub gate: Gate,
    /// The rule, agent role or scope.
    pub name: String,
    /// Roles whose holders may approve.
    pub approvers: Vec<String>,
    /// How many of them must.
    pub count: u32,
    /// Who else may, after a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalate: Option<Escalate>,
}

/// Who else may approve, after a time.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Escalate {
    /// Seconds after creation.
    pub after: u32,
    /// Roles whose holders may approve from then on, beside the others.
    pub approvers: Vec<String>,
}

/// A map in which no name comes twice.
fn unique<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Scalar>, D::Error> {
    struct Unique;

    impl<'de> Visitor<'de> for Unique {
        type Value = BTreeMap<String, Scalar>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            let mut map = BTreeMap::new();
            while let Some((name, value)) = entries.next_entry::<String, Scalar>()? {
                if map.insert(name, value).is_some() {
                    return Err(A::Error::custom("a member comes twice"));
                }
            }
            Ok(map)
        }
    }

    deserializer.deserialize_map(Unique)
}

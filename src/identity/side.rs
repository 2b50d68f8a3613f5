//! The sides of a call, and why one of them does not allow it.

use serde_json::{Value, json};

/// One of the parties that must allow a call.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Side {
    /// The access token: its scopes.
    Token,
    /// The person: operator roles.
    Person,
    /// The agent: its role.
    Agent,
    /// The client: its registration.
    Client,
    /// The consent that the client was given.
    Consent,
}

impl Side {
    /// Its stable name in answers, logs and records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Person => "person",
            Self::Agent => "agent",
            Self::Client => "client",
            Self::Consent => "consent",
        }
    }
}

/// A side that does not allow a call.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    /// Which one.
    pub side: Side,
    /// Why not.
    pub why: Why,
}

/// Why a side does not allow a call.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Why {
    /// It does not have these scopes, which the rule requires.
    MissingScopes(Vec<String>),
    /// The tool is not among those that it was registered for or that were consented to.
    ToolNotListed,
    /// No operator role fits the person.
    NoRole,
    /// There is no person, and the client may not act alone.
    WithoutPerson,
    /// Neither client nor token names an agent role.
    NoAgentRole,
    /// The token names an agent role that is not declared.
    UnknownAgentRole,
    /// The token names another agent role than the one that the client is bound to.
    OtherAgentRole,
    /// The token names no client.
    NoClient,
    /// The client is not registered.
    UnknownClient,
    /// The token comes from another issuer than the client's.
    OtherIssuer,
    /// The connection does not come from where the client may be.
    OtherSource,
    /// The consent has expired.
    Expired,
    /// The tool's definition is not the one that was consented to.
    DefinitionChanged,
    /// The tool's definition has not been seen yet, so nobody knows whether it is the one that was consented to.
    DefinitionUnknown,
    /// It was cut off.
    Revoked,
    /// The list of those who were cut off is not there, or too old.
    RevocationsUnavailable,
}

impl Why {
    /// Stable code for answers and records.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::MissingScopes(_) => "missing_scopes",
            Self::ToolNotListed => "tool_not_listed",
            Self::NoRole => "no_role",
            Self::WithoutPerson => "without_person",
            Self::NoAgentRole => "no_agent_role",
            Self::UnknownAgentRole => "unknown_agent_role",
            Self::OtherAgentRole => "other_agent_role",
            Self::NoClient => "no_client",
            Self::UnknownClient => "unknown_client",
            Self::OtherIssuer => "other_issuer",
            Self::OtherSource => "other_source",
            Self::Expired => "expired",
            Self::DefinitionChanged => "definition_changed",
            Self::DefinitionUnknown => "definition_unknown",
            Self::Revoked => "revoked",
            Self::RevocationsUnavailable => "revocations_unavailable",
        }
    }
}

impl Failure {
    /// The failure for the caller.
    pub fn to_json(&self) -> Value {
        let Self { side, why } = self;
        if let Why::MissingScopes(scopes) = why {
            return json!({"side": side.name(), "reason": why.code(), "missing_scopes": scopes});
        }
        json!({"side": side.name(), "reason": why.code()})
    }

    /// The failure for people, such as "the agent lacks a:b c:d".
    pub fn text(&self) -> String {
        let side = self.side.name();
        match &self.why {
            Why::MissingScopes(scopes) => format!("the {side} lacks {}", scopes.join(" ")),
            Why::ToolNotListed if self.side == Side::Consent => "the consent does not cover this tool".to_owned(),
            Why::ToolNotListed => "the client is not registered for this tool".to_owned(),
            Why::NoRole => "the person has no role here".to_owned(),
            Why::WithoutPerson => "the client may not act without a person".to_owned(),
            Why::NoAgentRole => "no agent role is known for this client".to_owned(),
            Why::UnknownAgentRole => "the token names an agent role that is not known here".to_owned(),
            Why::OtherAgentRole => "the token names another agent role than the client's".to_owned(),
            Why::NoClient => "the token names no client".to_owned(),
            Why::UnknownClient => "the client is not registered here".to_owned(),
            Why::OtherIssuer => "the client belongs to another issuer".to_owned(),
            Why::OtherSource => "the client may not call from here".to_owned(),
            Why::Expired => "the consent has expired".to_owned(),
            Why::DefinitionChanged => "the tool has changed since it was consented to".to_owned(),
            Why::DefinitionUnknown => {
                "the tool's definition has not been seen yet: list the tools, then call again".to_owned()
            }
            Why::Revoked => format!("the {side} was cut off"),
            Why::RevocationsUnavailable => "nobody can tell whether the caller was cut off".to_owned(),
        }
    }
}

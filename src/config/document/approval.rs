//! What is written about approvals.

use serde::Deserialize;

use super::Risk;
use crate::units::Seconds;

/// Who is asked for approvals. Without this section, calls that need one are denied.
///
/// The approvals themselves are asked for by rules (`rules[].approval`), agent roles (`agents.*.approval`) and risks
/// (`risk` here). A call that several of these catch needs what all of them ask for: of `hold` and `expires` the least.
/// What `audit.arguments` shows of arguments, approvers see.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ApprovalDocument {
    /// Name of the Envoy cluster of the approval service.
    pub cluster: String,
    /// What comes before `/v1/approvals` on that cluster. Default: nothing.
    pub path_prefix: Option<String>,
    /// `Host` of the requests. Default: the name of the cluster.
    pub authority: Option<String>,
    /// The exact `iss` of the decisions that it signs.
    pub issuer: String,
    /// Keys that it signs with: a JWK Set (RFC 7517 section 5) of public keys, each with a `kid`.
    pub decision_keys: serde_json::Value,
    /// Where people decide: the URL that an approval's id is added to, such as
    /// `https://approvals.example.com/approvals/`.
    pub page: String,
    /// Where the gateway's credential is. Default: in `TOOLGATE_APPROVAL_TOKEN`.
    pub token: Option<ApprovalTokenDocument>,
    /// How long an answer may take, beside the time for which it is asked to wait. Default `5s`, from `1s` to `30s`.
    pub timeout: Option<Seconds>,
    /// Roles of which an approver must have one, where a gate names none.
    pub approvers: Option<Vec<String>>,
    /// How long a request is held for the decision before its caller is told to come back, where a gate does not say.
    /// Default `45s`, at most `55s`: most clients give up after 60. `0s`: not at all.
    pub hold: Option<Seconds>,
    /// How long an approval is good for, where a gate does not say. Default `10m`, from `5s` to `24h`.
    pub expires: Option<Seconds>,
    /// Which approvals are asked for by risk: for calls whose rule requires a scope of that risk.
    #[serde(default)]
    pub risk: RiskGatesDocument,
    /// Another approval service, asked when the first one cannot be reached.
    pub escalate_to: Option<ApprovalServiceDocument>,
}

/// What is asked of people by risk. A rule whose scopes have several risks is caught by each of them.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RiskGatesDocument {
    /// For calls whose rule requires a scope of low risk.
    pub low: Option<GateDocument>,
    /// For calls whose rule requires a scope of medium risk.
    pub medium: Option<GateDocument>,
    /// For calls whose rule requires a scope of high risk.
    pub high: Option<GateDocument>,
}

impl RiskGatesDocument {
    /// Those that are there.
    pub fn iter(&self) -> impl Iterator<Item = (Risk, &GateDocument)> {
        let Self { low, medium, high } = self;
        let all = [(Risk::Low, low), (Risk::Medium, medium), (Risk::High, high)];
        all.into_iter().filter_map(|(risk, gate)| gate.as_ref().map(|gate| (risk, gate)))
    }
}

/// Another approval service. The fields mean what they mean in `approval`.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ApprovalServiceDocument {
    /// Name of its Envoy cluster.
    pub cluster: String,
    /// What comes before `/v1/approvals` on that cluster. Default: nothing.
    pub path_prefix: Option<String>,
    /// `Host` of the requests. Default: the name of the cluster.
    pub authority: Option<String>,
    /// The exact `iss` of its decisions. Default: that of the first service.
    pub issuer: Option<String>,
    /// Keys that it signs with. Default: those of the first service.
    pub decision_keys: Option<serde_json::Value>,
    /// Where people decide. Default: the page of the first service.
    pub page: Option<String>,
    /// Where the gateway's credential for it is. Default: that for the first service.
    pub token: Option<ApprovalTokenDocument>,
}

/// Where a credential is.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ApprovalTokenDocument {
    /// Environment variable that holds it: at least 32 random bytes in Base64, sent as `Authorization: Bearer`.
    pub env: String,
}

/// What is asked of people before a call.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GateDocument {
    /// In rules only. Which calls need it, in CEL; an error counts as true. Default: all.
    pub when: Option<String>,
    /// In agent roles only, and required there. Calls that require any of these scopes; names or patterns with one `*`.
    pub scopes: Option<Vec<String>>,
    /// Roles of which an approver must have one. Default: `approval.approvers`.
    pub approvers: Option<Vec<String>>,
    /// How many of them must approve. Default 1, at most 10.
    pub count: Option<u32>,
    /// How long a request is held for the decision. Default: `approval.hold`.
    pub hold: Option<Seconds>,
    /// How long an approval is good for. Default: `approval.expires`.
    pub expires: Option<Seconds>,
    /// Whether approvers must say why. Default: `optional`.
    #[serde(default)]
    pub reason: ReasonDocument,
    /// Who else may approve after a while.
    pub escalate: Option<EscalationDocument>,
}

/// Whether approvers must say why they decided so.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ReasonDocument {
    /// They may.
    #[default]
    Optional,
    /// They must.
    Required,
}

/// Who else may approve when nobody has for a while.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EscalationDocument {
    /// How long after the approval was asked for: from `1s` to less than `expires`.
    pub after: Seconds,
    /// Roles of which an approver must have one.
    pub approvers: Vec<String>,
}

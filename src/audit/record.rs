//! What is written about a request.
//!
//! A record has three members: `record`, which never changes; `personal`, which `toolgate erase` can take out of it;
//! and `mac`, the seal over `record`. The digest of `personal` is in `record`, so an erased record is still whole.
//!
//! The members of every object here are declared in the order of their names, none is `null`, and numbers are whole and
//! below 2^53. So what serde_json writes is the canonical form of RFC 8785, and a sink that writes it anew in another
//! form loses nothing.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Version of the format of records. Additions do not change it: a reader skips members that it does not know.
pub const VERSION: u32 = 1;

/// What is sealed about a request, or about the chain itself.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Record<'a> {
    /// Opens a chain: in the first record of each, and nowhere else.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub anchor: Option<Anchor<'a>>,
    /// What people said about the call, if the policy could have asked them.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval<'a>>,
    /// When the record was written, which is when the request had ended: UTC, RFC 3339, with milliseconds.
    #[serde(borrow)]
    pub at: Cow<'a, str>,
    /// What else a batch asked for, besides `method` and `target`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<Batch<'a>>,
    /// The caller, once it is known; none of it is personal.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<Caller<'a>>,
    /// The place of the record. A provisional one has none: see [`Kind::Provisional`].
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<Link<'a>>,
    /// Of a record of kind `erasure`: what was erased.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub erasure: Option<Erasure<'a>>,
    /// What happened to the policy since the record before this one of the same chain.
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<PolicyEvent<'a>>,
    /// How far the chains of the other workers of the same proxy were, when this chain last looked.
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub heads: Vec<Head<'a>>,
    /// The request as HTTP.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub http: Option<Http<'a>>,
    /// Id of the decision: also in the answer to the client (`x-toolgate-decision`) and, if it was let through, in the
    /// request to the upstream.
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    /// Id of the proxy: Envoy's `node.id`; empty if it has none.
    #[serde(borrow, default)]
    pub instance: Cow<'a, str>,
    /// What this record is about.
    pub kind: Kind,
    /// The JSON-RPC method, if it is one that MCP knows.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Cow<'a, str>>,
    /// Base64url of the SHA-256 of `personal` as it was written.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub personal: Option<Cow<'a, str>>,
    /// SHA-256 of the policy in force, in hexadecimal.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Cow<'a, str>>,
    /// Stable reason code: one of the table in docs/audit.md.
    #[serde(borrow)]
    pub reason: Cow<'a, str>,
    /// What came of it.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub response: Option<Response<'a>>,
    /// The protocol revision, once it is known.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<Cow<'a, str>>,
    /// The rule that was decided by: its place in the list of the policy, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<u32>,
    /// What the rule asks for, and what the token has.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Scopes<'a>>,
    /// The sides that did not allow it, each with its reason.
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub sides: Vec<FailedSide<'a>>,
    /// When the request's headers had arrived, in the form of `at`.
    #[serde(borrow)]
    pub started: Cow<'a, str>,
    /// What was asked for by name, in one record at most once; of a batch, what decided.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target<'a>>,
    /// W3C trace context of the request, if it is well-formed. From the client, and not verified.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<Trace<'a>>,
    /// Version of this format: [`VERSION`].
    pub v: u32,
    /// What was decided.
    pub verdict: Verdict,
    /// Id of the worker's virtual machine, in hexadecimal: random for each start of one.
    #[serde(borrow, default)]
    pub worker: Cow<'a, str>,
}

/// What a record is about.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A request that has ended.
    #[default]
    Request,
    /// A request that was let through and has not ended, or never did because the filter died: the last word about it
    /// only if no record of kind `request` has the same id. Sealed, but not part of a chain.
    Provisional,
    /// How far a chain is; written beside the requests. `chain.seq` is the number of its last record, `chain.prev` the
    /// seal of that. `reason` is `checkpoint`, or `closing` when the worker ends and no record can follow.
    Checkpoint,
    /// Personal data was erased: written by `toolgate erase`.
    Erasure,
}

/// What was decided.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing: the request ended before, or the record is not about a request.
    #[default]
    None,
    /// It was let through.
    Allow,
    /// It was refused.
    Deny,
    /// The gateway answered it itself: metadata, preflight, permissions.
    Serve,
}

/// The place of a record in its chain.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Link<'a> {
    /// Id of the chain, random: one for each worker and plugin.
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    /// Id of the key of the seal.
    #[serde(borrow)]
    pub key: Cow<'a, str>,
    /// The seal of the record before; empty in the first one.
    #[serde(borrow)]
    pub prev: Cow<'a, str>,
    /// From 0, without gaps.
    pub seq: u64,
}

/// The start of a chain.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Anchor<'a> {
    /// The protected resource that requests were for.
    #[serde(borrow, default)]
    pub resource: Cow<'a, str>,
    /// When the chain began, in the form of `at`.
    #[serde(borrow)]
    pub started: Cow<'a, str>,
    /// Version of Toolgate.
    #[serde(borrow)]
    pub version: Cow<'a, str>,
}

/// What people said about a call. Who they are is in [`Personal::approvers`].
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Approval<'a> {
    /// Whether others were asked too, because those who were asked first did not answer in time.
    #[serde(default, skip_serializing_if = "is_false")]
    pub escalated: bool,
    /// What asked for it: `rule`, `agent`, `risk`.
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<Cow<'a, str>>,
    /// How long the request was held for it, in seconds.
    #[serde(default)]
    pub held_seconds: u64,
    /// Id of the approval, as the approval service knows it.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Cow<'a, str>>,
    /// Envoy cluster of the service that was asked.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Cow<'a, str>>,
    /// What became of it.
    pub status: ApprovalStatus,
    /// How often the approved call was continued before, because the upstream asked for something.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub step: u32,
}

/// What became of an approval.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ApprovalStatus {
    /// It was not needed: the rule asks for approvals of other calls.
    Bypassed,
    /// Nobody has decided yet.
    #[default]
    Pending,
    /// It was given, and used up for this request.
    Approved,
    /// It was refused.
    Rejected,
    /// Nobody decided in time, or nobody made use of it in time.
    Expired,
    /// The caller took the request back.
    Cancelled,
    /// It was used up before.
    Used,
    /// Nobody could be asked, or what was answered cannot be trusted: the reason code says why.
    Unavailable,
}

/// Somebody who decided about a call.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Approver<'a> {
    /// When, in seconds since 1970.
    pub at: u64,
    /// Who vouches for the subject.
    #[serde(borrow)]
    pub issuer: Cow<'a, str>,
    /// Keyed pseudonym of issuer and subject, in place of the subject, if the policy says so.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub pseudonym: Option<Cow<'a, str>>,
    /// The roles by which they were entitled.
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<Cow<'a, str>>,
    /// Who it was.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Cow<'a, str>>,
}

/// What was erased.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Erasure<'a> {
    /// Who did it, as they say.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Cow<'a, str>>,
    /// How many records.
    pub count: u64,
    /// Which records: those without a place in a chain are in `count` only.
    #[serde(borrow)]
    pub ranges: Vec<ErasedRange<'a>>,
    /// Why, as they say.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub why: Option<Cow<'a, str>>,
}

/// Consecutive erased records of a chain.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ErasedRange<'a> {
    /// The first one.
    pub first: u64,
    /// Id of the chain.
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    /// The last one.
    pub last: u64,
}

/// How far another chain was.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Head<'a> {
    /// Id of the chain.
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    /// The seal of its last record.
    #[serde(borrow)]
    pub mac: Cow<'a, str>,
    /// The number of its last record.
    pub seq: u64,
}

/// Something that happened to the policy.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PolicyEvent<'a> {
    /// When, in the form of `at` of a record.
    #[serde(borrow)]
    pub at: Cow<'a, str>,
    /// What is different from the policy before: JSON paths, each after `+`, `-` or `~`; cut off visibly.
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Cow<'a, str>>,
    /// Why a policy was refused: path and problem.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Cow<'a, str>>,
    /// SHA-256 of the policy, in hexadecimal.
    #[serde(borrow)]
    pub policy: Cow<'a, str>,
    /// SHA-256 of the policy before, in hexadecimal, if there was one.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Cow<'a, str>>,
    /// What happened.
    #[serde(rename = "type")]
    pub what: PolicyChange,
}

/// What happened to a policy.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum PolicyChange {
    /// The first one of the worker.
    #[default]
    Loaded,
    /// Another one took its place.
    Reloaded,
    /// It was not taken: the one before stays in force.
    Refused,
}

/// The other calls of a batch.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Batch<'a> {
    /// The calls in order, the first few of them: method and, for tools and prompts, a blank and the name.
    #[serde(borrow)]
    pub calls: Vec<Cow<'a, str>>,
    /// How many calls there are.
    pub size: u32,
}

/// A caller whose token was verified. What is personal about it is in [`Personal`].
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Caller<'a> {
    /// Agent role of the policy.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Cow<'a, str>>,
    /// Client identifier.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub client: Option<Cow<'a, str>>,
    /// What it was identified by: `jwt`.
    #[serde(borrow)]
    pub credential: Cow<'a, str>,
    /// `exp` of the token, in seconds since 1970.
    pub expires_at: u64,
    /// `iat` of the token, in seconds since 1970.
    pub issued_at: u64,
    /// `iss`.
    #[serde(borrow)]
    pub issuer: Cow<'a, str>,
    /// Whether the token stands for no person.
    pub machine: bool,
    /// Operator roles of the policy.
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<Cow<'a, str>>,
    /// What binds the token to its sender: `none`.
    #[serde(borrow)]
    pub sender_constraint: Cow<'a, str>,
    /// Tenant.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Cow<'a, str>>,
}

/// The request as HTTP.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Http<'a> {
    /// Envoy's `%RESPONSE_CODE_DETAILS%`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Cow<'a, str>>,
    /// From `started` to `at`, in milliseconds.
    pub duration_ms: u64,
    /// Envoy's `%RESPONSE_FLAGS%`, such as `DC` for a client that left.
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<Cow<'a, str>>,
    /// The HTTP method, if it is one of RFC 9110.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Cow<'a, str>>,
    /// Bytes of the request's body, as far as it came.
    pub request_bytes: u64,
    /// `x-request-id`, if it is of the usual form.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<Cow<'a, str>>,
    /// HTTP status of the answer; absent when there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u32>,
}

/// What came of a request.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Response<'a> {
    /// Why the answer was cut off by the gateway: a stable code.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub cut_off: Option<Cow<'a, str>>,
    /// Elements of lists and messages that the caller was not shown.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub hidden: u32,
    /// What it was.
    pub status: ResponseStatus,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(count: &u32) -> bool {
    *count == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

/// What an answer was.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ResponseStatus {
    /// The gateway's own.
    #[default]
    Gateway,
    /// A result.
    Success,
    /// A tool's result with `isError`.
    ToolError,
    /// A JSON-RPC error, or an HTTP status of 400 and above.
    Error,
    /// HTTP status 429.
    RateLimited,
    /// The exchange ended before the answer did: the client left, the upstream broke off, a time ran out.
    Aborted,
    /// Complete, but too large or too odd to tell whether it was an error.
    Unread,
    /// Complete, and nothing in it could be a result: an answer to a notification, a stream of the server's own.
    NoResult,
}

/// Scopes of a decision.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Scopes<'a> {
    /// Those of the token.
    #[serde(borrow)]
    pub granted: Vec<Cow<'a, str>>,
    /// Required and not granted by the token.
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Cow<'a, str>>,
    /// Those of the rule.
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub required: Vec<Cow<'a, str>>,
}

/// A side that did not allow a call.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FailedSide<'a> {
    /// The scopes that it lacks, if that is the reason.
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<Cow<'a, str>>,
    /// `token`, `person`, `agent`, `client` or `consent`.
    #[serde(borrow)]
    pub side: Cow<'a, str>,
    /// Stable reason code.
    #[serde(borrow)]
    pub why: Cow<'a, str>,
}

/// What was asked for.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Target<'a> {
    /// `tool`, `prompt`, `resource` or `task`.
    #[serde(borrow)]
    pub kind: Cow<'a, str>,
    /// The name of a tool or prompt. URIs of resources can be about people: they are in [`Personal::uris`].
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Cow<'a, str>>,
}

/// W3C trace context.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Trace<'a> {
    /// 32 hexadecimal digits.
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    /// 16 hexadecimal digits.
    #[serde(borrow)]
    pub parent: Cow<'a, str>,
    /// `header` or `_meta`.
    #[serde(borrow)]
    pub source: Cow<'a, str>,
}

/// What a record says about people. It can be erased.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Personal<'a> {
    /// `acr` of the token.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub acr: Option<Cow<'a, str>>,
    /// Who acts for the subject, the current actor first (`act`, RFC 8693 section 4.1).
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub actors: Vec<Cow<'a, str>>,
    /// `amr` of the token.
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub amr: Vec<Cow<'a, str>>,
    /// Who approved the call, or rejected it.
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub approvers: Vec<Approver<'a>>,
    /// The arguments that the policy keeps, by JSON Pointer: values, or what stands for them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub arguments: BTreeMap<String, Value>,
    /// Keyed digest of the arguments as the upstream got them, byte for byte: `d_` and base64url.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub arguments_digest: Option<Cow<'a, str>>,
    /// `auth_time` of the token, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_time: Option<u64>,
    /// The agent role that the token claims.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub claimed_agent: Option<Cow<'a, str>>,
    /// Groups in the token.
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub claimed_groups: Vec<Cow<'a, str>>,
    /// Roles in the token.
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub claimed_roles: Vec<Cow<'a, str>>,
    /// Department in the token.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub department: Option<Cow<'a, str>>,
    /// What the policy picks from the result, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outcome: BTreeMap<String, Value>,
    /// Keyed pseudonym of issuer and subject: `p_` and base64url. In place of the subject, if the policy says so.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub pseudonym: Option<Cow<'a, str>>,
    /// What the request is for: from the token.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<Cow<'a, str>>,
    /// 128 random bits, base64url: without them nobody can tell from a digest what it was made of.
    #[serde(borrow)]
    pub salt: Cow<'a, str>,
    /// Address of the client, as Envoy sees it.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Cow<'a, str>>,
    /// What the request is for, as the client says: `_meta` `dev.toolgate/purpose`. Not verified.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub stated_purpose: Option<Cow<'a, str>>,
    /// `sub`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Cow<'a, str>>,
    /// `jti`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub token_id: Option<Cow<'a, str>>,
    /// What a token that was refused says about itself. Nobody vouches for it.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub unverified: Option<Unverified<'a>>,
    /// The resources that were asked for.
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub uris: Vec<Cow<'a, str>>,
}

/// What a token that was refused says about itself.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Unverified<'a> {
    /// The client.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub client: Option<Cow<'a, str>>,
    /// `iss`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<Cow<'a, str>>,
    /// `sub`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Cow<'a, str>>,
}

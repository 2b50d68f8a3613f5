//! Every bound of the filter in one place, with its reason.
//!
//! Whatever a request, a token, a key set or a policy can make large has its ceiling here.

use crate::units::{ByteCount, Seconds};

/// Largest request body when the policy does not say: 1 MiB, Envoy's default buffer limit per connection.
pub const DEFAULT_REQUEST_BYTES: ByteCount = ByteCount::new(1024 * 1024);

/// Largest request body that a policy may allow: 16 MiB, Envoy's default HTTP/2 stream window.
pub const MAX_REQUEST_BYTES: ByteCount = ByteCount::new(16 * 1024 * 1024);

/// Deepest nesting of JSON in a request. MCP's own messages need 6 levels; tool arguments get the rest.
///
/// serde_json itself stops at 128, which keeps the 1 MiB stack of the module safe.
pub const MAX_JSON_DEPTH: usize = 64;

/// Most members of one JSON object in a request, so that the search for duplicates stays cheap.
pub const MAX_JSON_MEMBERS: usize = 10_000;

/// Most messages in one batch of revision 2025-03-26.
pub const MAX_BATCH_MESSAGES: usize = 64;

/// Longest JSON-RPC id that is echoed, as JSON text. MCP sets no bound; SDKs count or use UUIDs.
pub const MAX_REQUEST_ID_BYTES: usize = 256;

/// Longest tool or prompt name. MCP 2025-11-25 and later: names SHOULD have 1 to 128 characters.
pub const MAX_NAME_BYTES: usize = 256;

/// Longest resource URI or task id.
pub const MAX_URI_BYTES: usize = 2048;

/// Most resource URIs in one `subscriptions/listen`.
pub const MAX_SUBSCRIPTION_URIS: usize = 256;

/// Longest bearer token. Header blocks beyond 60 KiB are refused by Envoy anyway; tokens of 4 KiB are large.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// Longest JOSE header of a token, before base64url decoding; jwt-simple's own bound.
pub const MAX_TOKEN_HEADER_BYTES: usize = 8192;

/// Deepest nesting of JSON in a token or a key set.
pub const MAX_TOKEN_JSON_DEPTH: usize = 16;

/// How far the clocks of an issuer and of this host may differ (RFC 7519 section 4.1.4: "a few minutes" at most).
pub const CLOCK_SKEW: Seconds = Seconds::new(30);

/// Longest token lifetime, `exp - iat`, when the policy does not say.
pub const DEFAULT_TOKEN_LIFETIME: Seconds = Seconds::new(3600);

/// Longest token lifetime that a policy may allow.
pub const MAX_TOKEN_LIFETIME: Seconds = Seconds::new(24 * 3600);

/// Longest `sub`, `iss`, client identifier or token id. OpenID Connect allows 255 bytes for `sub`, SPIFFE ids and client
/// identifiers that are URLs have up to 2048.
pub const MAX_IDENTITY_BYTES: usize = 2048;

/// Verified tokens remembered per worker.
pub const MAX_CACHED_TOKENS: usize = 16_384;

/// Bytes of verified tokens remembered per worker: more than 10,000 of 900 bytes with all that is kept of each, about
/// 3 KiB, and fewer than two thousand of the largest size.
pub const MAX_CACHED_TOKEN_BYTES: usize = 40 * 1024 * 1024;

/// Issuers that a policy may trust.
pub const MAX_ISSUERS: usize = 32;

/// Usable keys kept of one key set; providers publish two to ten.
pub const MAX_KEYS_PER_ISSUER: usize = 64;

/// Largest key set that is parsed.
pub const MAX_JWKS_BYTES: usize = 256 * 1024;

/// Keys with one `kid` that are tried for a token: a provider may publish one `kid` for two key types.
pub const MAX_KEYS_PER_KID: usize = 4;

/// How often a key set is fetched when the policy does not say.
pub const DEFAULT_JWKS_REFRESH: Seconds = Seconds::new(300);

/// Shortest refresh interval that a policy may ask for.
pub const MIN_JWKS_REFRESH: Seconds = Seconds::new(10);

/// How long the last good keys are used when the issuer cannot be reached, unless the policy says.
pub const DEFAULT_JWKS_MAX_STALE: Seconds = Seconds::new(3600);

/// Longest time that a policy may keep using old keys.
pub const MAX_JWKS_MAX_STALE: Seconds = Seconds::new(24 * 3600);

/// An unknown `kid` causes at most one fetch per issuer in this time, whoever sends it.
pub const UNKNOWN_KID_COOLDOWN: Seconds = Seconds::new(30);

/// How long one fetch of a key set or of the revocation list may take, unless it is fetched more often than that. A
/// request waits at most this long for each of the two.
pub const FETCH_TIMEOUT: Seconds = Seconds::new(5);

/// Wait after the first failed fetch; doubled with each further one up to [`FETCH_RETRY_MAX`].
pub const FETCH_RETRY_MIN: Seconds = Seconds::new(1);

/// Longest wait between two attempts to fetch a document, unless it is fetched more often than that anyway.
pub const FETCH_RETRY_MAX: Seconds = Seconds::new(30);

/// How often the revocation list is fetched when the policy does not say.
pub const DEFAULT_REVOCATION_REFRESH: Seconds = Seconds::new(30);

/// Shortest refresh interval of the revocation list that a policy may ask for.
pub const MIN_REVOCATION_REFRESH: Seconds = Seconds::new(1);

/// Longest refresh interval of the revocation list: as long as tokens usually live, so that more would be of no use.
pub const MAX_REVOCATION_REFRESH: Seconds = Seconds::new(3600);

/// How long the last good revocation list is used when its server cannot be reached, unless the policy says.
pub const DEFAULT_REVOCATION_MAX_STALE: Seconds = Seconds::new(300);

/// Longest time that a policy may keep using an old revocation list: no token lives longer.
pub const MAX_REVOCATION_MAX_STALE: Seconds = Seconds::new(24 * 3600);

/// Largest revocation list that is read, in bytes. About 16,000 entries.
pub const MAX_REVOCATION_LIST_BYTES: usize = 1024 * 1024;

/// Most entries of a revocation list.
pub const MAX_REVOCATIONS: usize = 16 * 1024;

/// Longest `ETag` that is kept. A longer one is not sent back, so that the document is fetched whole.
pub const MAX_ETAG_BYTES: usize = 256;

/// Revocation lists that a worker keeps for the policies to come. Each takes up to a few MiB.
pub const MAX_KEPT_LISTS: usize = 8;

/// Requests of one worker that may wait for keys or for the revocation list at a time; one more is answered 503.
pub const MAX_WAITING_REQUESTS: usize = 1024;

/// Rules of a policy, and targets of all of its rules together.
pub const MAX_RULE_TARGETS: usize = 100_000;

/// Scopes that a policy may declare.
pub const MAX_SCOPES: usize = 1024;

/// Keys that a policy may list for one purpose: the one in use, and those that are being replaced.
pub const MAX_KEYS: usize = 8;

/// Longest name of a key; each sealed identifier and record carries it.
pub const MAX_KEY_ID_BYTES: usize = 16;

/// Shortest key: the length of what it makes (RFC 2104 section 3).
pub const MIN_KEY_BYTES: usize = 32;

/// Longest key. More than 64 bytes are hashed and add nothing.
pub const MAX_KEY_BYTES: usize = 1024;

/// How long a sealed identifier opens when the policy does not say.
pub const DEFAULT_SESSION_AGE: Seconds = Seconds::new(24 * 3600);

/// Longest time that a policy may let a sealed identifier open.
pub const MAX_SESSION_AGE: Seconds = Seconds::new(7 * 24 * 3600);

/// Longest session id of an upstream. UUIDs have 36 bytes; some servers use signed tokens of about 1 KiB.
pub const MAX_UPSTREAM_SESSION_BYTES: usize = 2048;

/// Longest sealed identifier: what an upstream's longest session id, or longest task id with the longest tool name,
/// becomes. Less than a header that the gateway sets may hold.
pub const MAX_SEALED_BYTES: usize = 3200;

/// Longest `requestState` of an upstream that is kept within the gateway's own, in bytes. What servers seal into one is
/// a few KiB; the specification sets no bound.
pub const MAX_UPSTREAM_STATE_BYTES: usize = 64 * 1024;

/// Longest `requestState` of the gateway's own: what the longest of an upstream's becomes.
pub const MAX_APPROVAL_STATE_BYTES: usize = 88 * 1024;

/// Longest id of an approval; 22 characters are 128 random bits.
pub const MAX_APPROVAL_ID_BYTES: usize = 64;

/// Longest time that an approval may stay open, and the longest that a policy may ask for.
pub const MAX_APPROVAL_EXPIRY: Seconds = Seconds::new(24 * 3600);

/// Largest answer of an approval service that is read, in bytes: a decision and what is said about it.
pub const MAX_APPROVAL_ANSWER_BYTES: usize = 32 * 1024;

/// Longest signed decision, in bytes; that of a token.
pub const MAX_DECISION_BYTES: usize = MAX_TOKEN_BYTES;

/// Longest lifetime, `exp - iat`, of the decision that lets a call through: it is made when it is asked for.
pub const MAX_GRANT_LIFETIME: Seconds = Seconds::new(60);

/// Longest lifetime of any other decision.
pub const MAX_DECISION_LIFETIME: Seconds = Seconds::new(120);

/// Most approvers of one decision, and most roles of one of them.
pub const MAX_APPROVERS: usize = 32;

/// Longest reason that an approver may give, in characters.
pub const MAX_APPROVAL_REASON_CHARS: usize = 500;

/// Longest value of a header that the gateway sets.
pub const MAX_HEADER_VALUE_BYTES: usize = 4096;

/// Largest body that is held for a request that waits: anybody can send one. With the bound above, 64 MiB.
pub const MAX_WAITING_BODY_BYTES: usize = 64 * 1024;

/// Requests that are woken in one call into the module: the host nests what follows from each. 400 overflow its stack.
pub const MAX_WOKEN_AT_ONCE: usize = 32;

/// Patterns with a `*` for each kind of target: at load each is held against the others to find ties.
pub const MAX_WILDCARDS: usize = 2048;

/// Largest event of a stream that is looked at: 8 MiB. Tool results with images come in one event.
pub const MAX_EVENT_BYTES: usize = 8 * 1024 * 1024;

/// Largest list that is held to be filtered: 4 MiB. Envoy holds 1 MiB by default and answers 500 beyond.
pub const MAX_LIST_BYTES: usize = 4 * 1024 * 1024;

/// How long after a caller was cut off a stream on which nothing happens may last: it is looked after that often.
pub const STREAM_RECHECK: Seconds = Seconds::new(10);

/// Streams of one worker that are looked after; one more is answered 503.
pub const MAX_STREAMS: usize = 65_536;

/// Deepest nesting of JSON in what an upstream sends; serde_json and most other parsers stop there themselves.
pub const MAX_ANSWER_JSON_DEPTH: usize = 128;

/// Longest time that a client may keep a list: it may have been filtered by a policy that has changed since.
pub const MAX_LIST_TTL: Seconds = Seconds::new(60);

/// Roles or groups in one claim. Directories cap group claims near 200; 1024 leaves room.
pub const MAX_ROLE_CLAIMS: usize = 1024;

/// Longest delegation chain (`act`, RFC 8693 section 4.1): person, agent, and a few agents that it employs.
pub const MAX_ACTORS: usize = 8;

/// Targets that a caller is told of when it asks what it may do. With names of the largest size, half a megabyte.
pub const MAX_PERMISSIONS: usize = 2000;

/// Longest value of an argument or of a result that a record shows, in bytes.
pub const MAX_AUDIT_VALUE_BYTES: usize = 256;

/// Longest member name of an argument that a record shows, in bytes.
pub const MAX_AUDIT_NAME_BYTES: usize = 64;

/// Most arguments that a record shows, each a string, number or boolean.
pub const MAX_AUDIT_ARGUMENTS: usize = 64;

/// Bytes of all arguments that a record shows, with their names. Envoy's own log cuts lines at 16 KiB.
pub const MAX_AUDIT_ARGUMENTS_BYTES: usize = 4096;

/// Longest JSON text of a value that is picked from a result, in bytes; a longer one is left out.
pub const MAX_OUTCOME_BYTES: usize = 256;

/// Longest JSON text of a member name or id in an answer that is looked at, in bytes: what a policy may name, with each
/// character escaped.
pub const MAX_ANSWER_NAME_BYTES: usize = 2048;

/// Most pointers into the arguments, and into the result, of a tool that a policy may list: a bit of a word for each.
pub const MAX_AUDIT_POINTERS: usize = 32;

/// Most tools and patterns under `audit.arguments`, and under `audit.outcomes`.
pub const MAX_AUDIT_TOOLS: usize = 256;

/// Longest name under which a record shows a value of a result.
pub const MAX_OUTCOME_NAME_BYTES: usize = 64;

/// Longest JSON Pointer of a policy into arguments or results, in bytes.
pub const MAX_POINTER_BYTES: usize = 256;

/// Most parts of one, which is how deep into the arguments or the result it reaches.
pub const MAX_POINTER_TOKENS: usize = 16;

/// Longest condition of a rule, in bytes of CEL.
pub const MAX_CONDITION_BYTES: usize = 4096;

/// Most tokens of a condition, and most nodes of its syntax tree.
pub const MAX_CONDITION_NODES: usize = 1024;

/// Deepest nesting of brackets in a condition, and most ternaries in it: the parser recurses for both.
pub const MAX_CONDITION_NESTING: usize = 16;

/// Deepest syntax tree of a condition: the evaluator recurses, on the 1 MiB stack of the module.
pub const MAX_CONDITION_DEPTH: usize = 32;

/// Deepest nesting of comprehensions (`all`, `exists`, `map`, ...) in a condition.
pub const MAX_CONDITION_LOOPS: usize = 2;

/// Largest arguments and largest claims, as JSON text, that a condition looks at.
pub const MAX_CONDITION_INPUT_BYTES: usize = 64 * 1024;

/// Most JSON values of the arguments, and of the claims, that a condition looks at; members that it does not name are
/// not counted.
pub const MAX_CONDITION_VALUES: usize = 8192;

/// Most work of one evaluation, in nodes visited and values copied or compared inside of comprehensions; natively some
/// 10 ms at worst.
pub const MAX_CONDITION_WORK: u64 = 100_000;

/// Conditions that are evaluated for one request, or for the lists in one part of an answer; one more is an error. A
/// rule's conditions count once for all elements of a list, unless they look at the target's name.
pub const MAX_CONDITION_EVALUATIONS: usize = 1024;

/// Bytes of unfinished events that one worker holds for all of its streams: 128 MiB. The memory of the module does not
/// shrink, and ends at 4 GiB for all that share its virtual machine.
pub const MAX_HELD_BYTES: usize = 128 * 1024 * 1024;

/// Policy events that wait for the next record of a worker.
pub const MAX_PENDING_EVENTS: usize = 8;

/// Workers of one proxy that tell each other how far their chains are. Envoy has one per processor.
pub const MAX_CHAIN_HEADS: usize = 128;

/// Longest text of a client or token in an audit record; what is left out is counted.
pub const MAX_RECORDED_TEXT_BYTES: usize = 256;

/// Longest name of a tool or prompt in the list of a batch's calls, all of which are recorded.
pub const MAX_BATCH_NAME_BYTES: usize = 64;

/// Most elements of a list in an audit record, such as roles or URIs; what is left out is counted.
pub const MAX_RECORDED_LIST: usize = 32;

/// Bytes that an element of such a list may take on average, as JSON: 4 KiB for a list, so that a record stays below
/// 32 KiB whatever a client writes.
pub const MEAN_RECORDED_BYTES: usize = 128;

/// Most scopes of a token in an audit record: enough to decide again by them.
pub const MAX_RECORDED_SCOPES: usize = 128;

/// Records of a worker after which its chain is stated at the next tick, a second away at most.
pub const MAX_UNCHECKED_RECORDS: u64 = 10_000;

/// Time between two statements of how far a chain is, when the policy does not say.
pub const DEFAULT_CHECKPOINT_INTERVAL: Seconds = Seconds::new(10);

/// Longest time between two of them that a policy may ask for.
pub const MAX_CHECKPOINT_INTERVAL: Seconds = Seconds::new(3600);

/// Most approvals that one gate can ask for.
pub const MAX_APPROVALS: u32 = 10;

/// Most roles of approvers that one gate can name.
pub const MAX_APPROVER_ROLES: usize = 32;

/// Longest name of a role of approvers.
pub const MAX_APPROVER_ROLE_BYTES: usize = 128;

/// How long a request is held for a decision, by default.
pub const DEFAULT_APPROVAL_HOLD: Seconds = Seconds::new(45);

/// Longest time for which a request is held: most clients give up after 60 seconds.
pub const MAX_APPROVAL_HOLD: Seconds = Seconds::new(55);

/// How long an approval is good for, by default.
pub const DEFAULT_APPROVAL_EXPIRY: Seconds = Seconds::new(600);

/// Shortest time for which an approval is good.
pub const MIN_APPROVAL_EXPIRY: Seconds = Seconds::new(5);

/// How long an approval service may take for an answer, by default.
pub const DEFAULT_APPROVAL_TIMEOUT: Seconds = Seconds::new(5);

/// Longest time that an approval service may be given for an answer.
pub const MAX_APPROVAL_TIMEOUT: Seconds = Seconds::new(30);

/// Longest time for which an approval service is asked to wait in one call: what it never answers is noticed then.
pub const MAX_APPROVAL_POLL: Seconds = Seconds::new(15);

/// Most requests that one worker holds for approvals.
pub const MAX_HELD_REQUESTS: usize = 4096;

/// Most bytes of requests that one worker holds for approvals.
pub const MAX_HELD_REQUEST_BYTES: usize = 256 * 1024 * 1024;

/// Failures in a row after which an approval service is not asked for [`APPROVAL_PAUSE`].
pub const MAX_APPROVAL_FAILURES: u32 = 3;

/// How long an approval service that fails is left alone.
pub const APPROVAL_PAUSE: Seconds = Seconds::new(10);

/// How often an approval is asked for its use again when the answer was lost.
pub const MAX_CONSUME_ATTEMPTS: u32 = 5;

/// Longest text of a field that approvers are shown.
pub const MAX_SHOWN_TEXT_BYTES: usize = 512;

/// How long after its end an approval can be told apart from one that never was, and how long a continued call may take
/// for a round.
pub const APPROVAL_AFTERLIFE: Seconds = Seconds::new(600);

/// How often an approval service may say at once that nothing has happened, although it was asked to wait, before it is
/// asked about once a second.
pub const MAX_HASTY_POLLS: u32 = 4;

/// Most requests of one caller that one worker holds for approvals: a quarter, so that nobody takes all the room.
pub const MAX_HELD_REQUESTS_OF_CALLER: usize = 1024;

/// Most bytes of requests of one caller that one worker holds for approvals.
pub const MAX_HELD_REQUEST_BYTES_OF_CALLER: usize = 64 * 1024 * 1024;

//! The decision corpus: what is written in `tests/corpus/decisions`, and how to hold the library against it.

use serde::Deserialize;
use serde_json::{Map, Value};
use toolgate::exchange::Verdict;

use super::gateway::{Gateway, Keys, Outcome, Request, json_body, token_with};

macro_rules! corpus {
    ($($theme:literal),* $(,)?) => {
        /// The files, by the name of their theme. Embedded, because there are no files where WebAssembly runs.
        pub(crate) const FILES: &[(&str, &str)] =
            &[$(($theme, include_str!(concat!("../corpus/decisions/", $theme, ".json")))),*];
    };
}

corpus![
    "agents",
    "batches",
    "claim_paths",
    "clients",
    "completions",
    "concealed",
    "conditions",
    "consent",
    "default_deny",
    "hierarchy",
    "http",
    "issuers",
    "json",
    "messages",
    "mirrored_headers",
    "patterns",
    "people",
    "prompts",
    "resources",
    "revisions",
    "revocation",
    "scopes",
    "sides",
    "stateless_only",
    "step_up",
    "subscriptions",
    "tenants",
    "tokens",
];

/// One file: a policy, and requests that are held against it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Theme {
    #[serde(rename = "description")]
    _description: String,
    pub(crate) policy: Value,
    pub(crate) cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// Claims that differ from those of a good token; no token when it is `null`.
    pub(crate) token: Option<Map<String, Value>>,
    request: HttpRequest,
    expect: Expectation,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HttpRequest {
    #[serde(default = "post")]
    method: String,
    #[serde(default = "endpoint")]
    path: String,
    /// A string, a list for a repeated header, or `null` to leave out one that is sent by default.
    #[serde(default)]
    headers: Map<String, Value>,
    body: Option<Value>,
}

fn post() -> String {
    "POST".to_owned()
}

fn endpoint() -> String {
    "/mcp".to_owned()
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Expectation {
    verdict: String,
    reason: String,
    /// HTTP status of the gateway's own answer.
    status: Option<u16>,
    /// JSON-RPC error code of the gateway's own answer.
    code: Option<i64>,
    /// `error.data.missing_scopes` of the gateway's own answer.
    missing_scopes: Option<Vec<String>>,
    /// `error.data.failing_sides` of the gateway's own answer: side and reason, and the scopes that are missing.
    failing_sides: Option<Vec<String>>,
}

impl Theme {
    pub(crate) fn parse(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text:.60}"))
    }

    /// Runs every case; what went otherwise than expected, in words.
    pub(crate) fn failures(&self) -> Vec<String> {
        let mut gateway = Gateway::new(self.policy.clone(), Keys::Inline);
        gateway.peer.address = Some(std::net::Ipv4Addr::LOCALHOST.into());
        let outcomes = self.cases.iter().map(|case| (case, Expectation::met_by(&gateway.send(&case.request()))));
        outcomes
            .filter(|(case, outcome)| *outcome != case.expect)
            .map(|(case, outcome)| format!("{}\n  expected {:?}\n  but got  {outcome:?}", case.name, case.expect))
            .collect()
    }
}

impl Case {
    pub(crate) fn request(&self) -> Request {
        let HttpRequest { method, path, headers, body } = &self.request;
        let mut request = Request::new(method, path)
            .with("content-type", "application/json")
            .with("accept", "application/json, text/event-stream");
        if let Some(claims) = &self.token {
            request = request.bearer(&token_with(claims));
        }
        for (name, values) in headers {
            request = request.without(name);
            let values = values.as_array().map_or(std::slice::from_ref(values), Vec::as_slice);
            request = values.iter().filter_map(Value::as_str).fold(request, |request, value| request.with(name, value));
        }
        match body {
            None => request,
            Some(body) => match body.get("raw").and_then(Value::as_str) {
                Some(text) => request.with_bytes(text),
                None => request.with_body(body),
            },
        }
    }
}

impl Expectation {
    /// The expectation that `outcome` would meet exactly.
    fn met_by(outcome: &Outcome) -> Self {
        let reply = outcome.result.as_ref().err();
        let has_body = reply.filter(|reply| outcome.verdict == Verdict::Deny && !reply.body.is_empty());
        let error = has_body.map(json_body).and_then(|body| body.get("error").cloned()).unwrap_or_default();
        Self {
            verdict: outcome.verdict.name().to_owned(),
            reason: outcome.reason.to_owned(),
            status: reply.map(|reply| reply.status),
            code: error["code"].as_i64(),
            missing_scopes: serde_json::from_value(error["data"]["missing_scopes"].clone()).ok(),
            failing_sides: failing_sides(&error, outcome),
        }
    }
}

/// The sides of an error, which the log must name too, each once.
fn failing_sides(error: &Value, outcome: &Outcome) -> Option<Vec<String>> {
    let failures = error["data"]["failing_sides"].as_array()?;
    let mut sides: Vec<&str> = failures.iter().map(|failure| failure["side"].as_str().unwrap()).collect();
    sides.dedup();
    let logged = format!("{}{{{}}}", outcome.reason, sides.join(","));
    assert_eq!(outcome.reply().code_details(), logged, "the log names other sides than the answer");
    let in_short = |failure: &Value| {
        let scopes = failure["missing_scopes"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let of_side = [&failure["side"], &failure["reason"]].map(|text| text.as_str().unwrap()).join(":");
        std::iter::once(of_side.as_str()).chain(scopes).collect::<Vec<_>>().join(" ")
    };
    Some(failures.iter().map(in_short).collect())
}

//! Policies: what is wrong with one is said with its place and a remedy, and every sample that people copy compiles.
#![cfg(not(target_family = "wasm"))]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]
#![expect(clippy::arithmetic_side_effects, reason = "the numbers are in the test")]

mod support {
    #[expect(dead_code, reason = "policies need a part of it")]
    pub(crate) mod gateway;
    #[expect(dead_code, reason = "policies need a part of it")]
    pub(crate) mod issuer;
    pub(crate) mod keys;
}

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use toolgate::audit::Pseudonyms;
use toolgate::audit::outcome::OutcomePicker;
use toolgate::config::{CompiledPolicy, ConfigError};
use toolgate::limits;
use toolgate::session::SessionKeys;
use toolgate::units::Seconds;

use support::gateway::{ISSUER, policy, variable};
use support::issuer::jwks;

/// A policy that compiles and has most fields.
fn good() -> Value {
    let mut good = policy();
    good["refused_scopes"] = json!(["root"]);
    good["authentication"]["jwt"][0]["jwks"] = json!({"cluster": "issuer", "path": "/jwks"});
    good["operators"] = json!({"clerk": {"match": {"roles": ["clerks"]}, "scopes": ["read"], "except": []}});
    good["agents"] = json!({"bot": {"scopes": ["*"], "except": ["write"], "approval": {"scopes": ["read"]}}});
    good["clients"] = json!({"desk": {
        "agent": "bot",
        "scopes": ["read"],
        "tools": ["read", "wr*"],
        "source": {"cidrs": ["10.0.0.0/8", "fd00::/8"], "uri_sans": ["spiffe://norg.test/desk"], "dns_sans": ["d.test"]},
        "consent": {"by": "somebody", "on": "2026-11-02", "expires": "2026-11-02", "scopes": ["*"], "tools": ["read"],
            "definitions": {"read": "9F".repeat(32)}},
    }});
    good["revocation"] = json!({"subjects": [{"issuer": ISSUER, "subject": "eve"}], "clients": ["gone"],
        "agents": ["bot"], "token_ids": ["t-1"]});
    good["rules"][0]["authentication"] = json!({"acr": ["mfa"], "amr": ["otp"], "max_age": "24h"});
    good["rules"][0]["tenant_argument"] = json!("/filter/a~1b~0/0");
    good["approval"] = json!({"cluster": "approvals", "issuer": "https://approvals.test",
        "decision_keys": {"keys": [jwks()[0]]}, "page": "https://approvals.test/approvals/", "approvers": ["admin"],
        "risk": {"high": {}}, "escalate_to": {"cluster": "on-call"}});
    good
}

/// The same, where nobody can be asked. It needs no secrets.
fn without_approvals() -> Value {
    let mut document = good();
    document.as_object_mut().unwrap().remove("approval").unwrap();
    document
}

/// The good policy with another value at a JSON pointer, whose parent exists.
fn good_but(pointer: &str, value: Value) -> Value {
    let mut document = good();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = document.pointer_mut(parent).unwrap();
    match name.parse::<usize>() {
        Ok(index) => parent[index] = value,
        Err(_) => parent[name] = value,
    }
    document
}

fn compile(document: &Value) -> Result<CompiledPolicy, ConfigError> {
    CompiledPolicy::from_json(document.to_string().as_bytes(), &environment)
}

/// JSON pointer and value that break the policy, then the place and the problem that the error names.
type Defect = (&'static str, Value, &'static str, &'static str);

fn defects_of_the_whole() -> Vec<Defect> {
    vec![
        ("/version", json!("toolgate/v2"), "version", "unknown variant `toolgate/v2`"),
        ("/rulez", json!([]), "rulez", "unknown field `rulez`"),
        ("/rules", json!({}), "rules", "invalid type: map"),
        ("/resource/url", json!("x"), "resource.url", "unknown field `url`"),
        ("/resource/uri", json!("/mcp"), "resource.uri", "is not an absolute URL"),
        ("/resource/uri", json!("ftp://h/mcp"), "resource.uri", "is neither https nor http"),
        ("/resource/uri", json!("https://h/mcp?x"), "resource.uri", "has a query"),
        ("/resource/uri", json!("https://h/mcp#x"), "resource.uri", "has a fragment"),
        ("/resource/uri", json!("https://u@h/mcp"), "resource.uri", "must have a host and no user"),
        ("/resource/uri", json!("https://h/a/../mcp"), "resource.uri", "has a path that proxies rewrite"),
        ("/resource/initial_scopes", json!(["read", "raed"]), "resource.initial_scopes[1]", "unknown scope `raed`"),
        ("/forwarding", json!({"authorization": "drop"}), "forwarding.authorization", "unknown variant `drop`"),
    ]
}

fn defects_of_the_protocol() -> Vec<Defect> {
    vec![
        ("/protocol/revisions", json!([]), "protocol.revisions", "is empty"),
        ("/protocol/revisions", json!(["2025-06-18", "2024-11-05"]), "protocol.revisions[1]", "unknown variant"),
        ("/protocol/max_request_bytes", json!(0), "protocol.max_request_bytes", "is out of bounds"),
        ("/protocol/max_request_bytes", json!(16_777_217), "protocol.max_request_bytes", "is out of bounds"),
        ("/protocol/max_request_bytes", json!(1.5), "protocol.max_request_bytes", "a whole number of bytes"),
        ("/protocol/max_request_bytes", json!("1MiB"), "protocol.max_request_bytes", "a whole number of bytes"),
        ("/protocol/allowed_origins", json!(["https://app.test/"]), "protocol.allowed_origins[0]", "not a web origin"),
        ("/protocol/allowed_origins", json!(["https://*.test"]), "protocol.allowed_origins[0]", "not a web origin"),
        ("/protocol/allowed_origins", json!(["https://App.test"]), "protocol.allowed_origins[0]", "not a web origin"),
        ("/protocol/allowed_origins", json!(["null"]), "protocol.allowed_origins[0]", "not a web origin"),
    ]
}

fn defects_of_issuers() -> Vec<Defect> {
    let issuer = good()["authentication"]["jwt"][0].clone();
    let issuers = |count| Value::from(vec![issuer.clone(); count]);
    vec![
        ("/authentication/jwt", json!([]), "authentication.jwt", "no usable list of issuers"),
        ("/authentication/jwt", issuers(33), "authentication.jwt", "no usable list of issuers"),
        ("/authentication/jwt", issuers(2), "authentication.jwt[1].issuer", "is listed twice"),
        ("/authentication/jwt/0/issuer", json!(""), "authentication.jwt[0].issuer", "is empty or has blanks"),
        (
            "/authentication/jwt/0/issuer",
            json!("https://a b"),
            "authentication.jwt[0].issuer",
            "is empty or has blanks",
        ),
        ("/authentication/jwt/0/algorithms", json!([]), "authentication.jwt[0].algorithms", "is empty"),
        ("/authentication/jwt/0/algorithms", json!(["none"]), "authentication.jwt[0].algorithms[0]", "`none`"),
        ("/authentication/jwt/0/algorithms", json!(["HS256"]), "authentication.jwt[0].algorithms[0]", "`HS256`"),
        ("/authentication/jwt/0/audiences", json!([]), "authentication.jwt[0].audiences", "is empty"),
        ("/authentication/jwt/0/token_types", json!(["at"]), "authentication.jwt[0].token_types[0]", "a token type"),
        ("/authentication/jwt/0/max_lifetime", json!("25h"), "authentication.jwt[0].max_lifetime", "out of bounds"),
        ("/authentication/jwt/0/max_lifetime", json!("0s"), "authentication.jwt[0].max_lifetime", "out of bounds"),
        ("/authentication/jwt/0/max_lifetime", json!(3600), "authentication.jwt[0].max_lifetime", "invalid type"),
        ("/authentication/jwt/0/max_lifetime", json!("1d"), "authentication.jwt[0].max_lifetime", "is not a duration"),
        ("/authentication/jwt/0/claims", json!({"scopes": []}), "authentication.jwt[0].claims.scopes", "is empty"),
        ("/authentication/jwt/0/claims", json!({"scope": []}), "authentication.jwt[0].claims.scope", "unknown field"),
        ("/authentication/jwt/0/jwks", json!({}), "authentication.jwt[0].jwks", "has no key source"),
        ("/authentication/jwt/0/jwks/path", json!("jwks"), "authentication.jwt[0].jwks.path", "is not a path"),
        ("/authentication/jwt/0/jwks/cluster", json!(""), "authentication.jwt[0].jwks.cluster", "is empty"),
        ("/authentication/jwt/0/jwks/authority", json!("a b"), "authentication.jwt[0].jwks.authority", "is not a host"),
        ("/authentication/jwt/0/jwks/refresh", json!("9s"), "authentication.jwt[0].jwks.refresh", "out of bounds"),
        ("/authentication/jwt/0/jwks/max_stale", json!("1m"), "authentication.jwt[0].jwks.max_stale", "out of bounds"),
        ("/authentication/jwt/0/jwks/inline", json!({"keys": []}), "authentication.jwt[0].jwks", "has `inline` and"),
        (
            "/authentication/jwt/0/jwks",
            json!({"inline": {"keys": []}}),
            "authentication.jwt[0].jwks.inline",
            "no usable",
        ),
        ("/authentication/jwt/0/jwks", json!({"inline": []}), "authentication.jwt[0].jwks.inline", "JSON object"),
    ]
}

fn defects_of_scopes_and_rules() -> Vec<Defect> {
    vec![
        ("/scopes/read", json!({"risk": "none"}), "scopes.read.risk", "unknown variant `none`"),
        ("/scopes/read", json!({}), "scopes.read", "missing field `risk`"),
        ("/scopes/a b", json!({"risk": "low"}), "scopes.a b", "not a scope token"),
        ("/scopes/read/implies", json!(["raed"]), "scopes.read.implies[0]", "unknown scope `raed`"),
        ("/scopes/read/implies", json!(["read"]), "scopes.read.implies", "implies itself"),
        ("/refused_scopes", json!(["root", "read"]), "refused_scopes[1]", "declared under `scopes` too"),
        ("/refused_scopes", json!(["a b"]), "refused_scopes[0]", "not a scope token"),
        ("/rules/1", json!({"scopes": []}), "rules[1]", "can never match"),
        ("/rules/1", json!({"tools": ["x"]}), "rules[1]", "missing field `scopes`"),
        ("/rules/1/scope", json!([]), "rules[1].scope", "unknown field `scope`"),
        ("/rules/1/scopes", json!(["read", "raed"]), "rules[1].scopes[1]", "unknown scope `raed`"),
        ("/rules/1/tools", json!(["x", ""]), "rules[1].tools[1]", "is not a name or pattern"),
        ("/rules/1/tools", json!(["a*b*"]), "rules[1].tools[0]", "is not a name or pattern"),
        ("/rules/1/tools", json!(["read"]), "rules[1].tools[0]", "rules[0], equally specific"),
        ("/rules/1/resources", json!(["ab*", "*cd"]), "rules[1].resources[1]", "rules[1], equally specific"),
        ("/rules/1/max_token_lifetime", json!("61m"), "rules[1].max_token_lifetime", "out of bounds"),
    ]
}

fn defects_of_claims() -> Vec<Defect> {
    let claims = "/authentication/jwt/0/claims";
    let neither = "is neither a claim name nor a JSON Pointer";
    let mut defects: Vec<Defect> = [
        ("client_id", "authentication.jwt[0].claims.client_id[1]"),
        ("scopes", "authentication.jwt[0].claims.scopes[1]"),
        ("roles", "authentication.jwt[0].claims.roles[1]"),
        ("groups", "authentication.jwt[0].claims.groups[1]"),
        ("department", "authentication.jwt[0].claims.department[1]"),
        ("tenant", "authentication.jwt[0].claims.tenant[1]"),
        ("purpose", "authentication.jwt[0].claims.purpose[1]"),
        ("agent", "authentication.jwt[0].claims.agent[1]"),
    ]
    .map(|(field, path)| (claims, json!({field: ["/a/b", "/a~2"]}), path, neither))
    .into();
    let machine = |claim: &str, values: Value| json!({"machine": {"claim": claim, "values": values}});
    defects.extend([
        (claims, json!({"roles": []}), "authentication.jwt[0].claims.roles", "is empty"),
        (claims, json!({"roles": ["roles", ""]}), "authentication.jwt[0].claims.roles", "has an empty element"),
        (claims, json!({"roles": "roles"}), "authentication.jwt[0].claims.roles", "invalid type: string"),
        (claims, json!({"role": ["roles"]}), "authentication.jwt[0].claims.role", "unknown field `role`"),
        (claims, json!({"tenant": ["/a~"]}), "authentication.jwt[0].claims.tenant[0]", neither),
        (claims, machine("/a~", json!(["app"])), "authentication.jwt[0].claims.machine.claim", neither),
        (claims, machine("", json!(["app"])), "authentication.jwt[0].claims.machine.claim", neither),
        (claims, machine("idtyp", json!([])), "authentication.jwt[0].claims.machine.values", "is empty"),
        (claims, machine("idtyp", json!([""])), "authentication.jwt[0].claims.machine.values", "has an empty element"),
        (
            claims,
            json!({"machine": {"claim": "idtyp"}}),
            "authentication.jwt[0].claims.machine",
            "missing field `values`",
        ),
    ]);
    defects
}

fn defects_of_people() -> Vec<Defect> {
    let operator = |matches: Value| json!({"match": matches, "scopes": ["read"]});
    let text = "is not a name or pattern";
    vec![
        ("/operators", json!({}), "operators", "every person would be refused"),
        ("/operators", json!({"": operator(json!({"roles": ["r"]}))}), "operators", "an entry without a name"),
        ("/operators", json!([]), "operators", "invalid type: sequence"),
        ("/operators/clerk", json!({"scopes": ["read"]}), "operators.clerk", "missing field `match`"),
        ("/operators/clerk", json!({"match": {"roles": ["r"]}}), "operators.clerk", "missing field `scopes`"),
        ("/operators/clerk", operator(json!({})), "operators.clerk.match", "can never match"),
        ("/operators/clerk", operator(json!({"roles": [], "groups": []})), "operators.clerk.match", "can never match"),
        ("/operators/clerk", operator(json!({"issuers": [ISSUER]})), "operators.clerk.match", "can never match"),
        ("/operators/clerk", operator(json!({"role": ["r"]})), "operators.clerk.match.role", "unknown field `role`"),
        ("/operators/clerk", operator(json!({"roles": ["r", "a*b*"]})), "operators.clerk.match.roles[1]", text),
        ("/operators/clerk", operator(json!({"roles": [""]})), "operators.clerk.match.roles[0]", text),
        ("/operators/clerk", operator(json!({"groups": ["g", "**"]})), "operators.clerk.match.groups[1]", text),
        (
            "/operators/clerk/match/issuers",
            json!([ISSUER, "https://other.test"]),
            "operators.clerk.match.issuers[1]",
            "unknown issuer `https://other.test`",
        ),
        ("/operators/clerk/match/issuers", json!([]), "operators.clerk.match.issuers", "is empty"),
        (
            "/operators/clerk/scopes",
            json!(["read", "raed"]),
            "operators.clerk.scopes[1]",
            "no declared scope is `raed`",
        ),
        ("/operators/clerk/scopes", json!(["x*"]), "operators.clerk.scopes[0]", "no declared scope is `x*`"),
        ("/operators/clerk/scopes", json!(["r*d*"]), "operators.clerk.scopes[0]", text),
        ("/operators/clerk/except", json!(["read", "x*"]), "operators.clerk.except[1]", "no declared scope is `x*`"),
        ("/operators/clerk/except", json!(["*a*"]), "operators.clerk.except[0]", text),
    ]
}

fn defects_of_agents() -> Vec<Defect> {
    let text = "is not a name or pattern";
    vec![
        ("/agents", json!({}), "agents", "every caller would be refused"),
        ("/agents/", json!({"scopes": ["read"]}), "agents", "an entry without a name"),
        ("/agents/bot", json!({}), "agents.bot", "missing field `scopes`"),
        ("/agents/bot/scope", json!([]), "agents.bot.scope", "unknown field `scope`"),
        ("/agents/bot/scopes", json!(["raed"]), "agents.bot.scopes[0]", "no declared scope is `raed`"),
        ("/agents/bot/scopes", json!(["a*b*"]), "agents.bot.scopes[0]", text),
        ("/agents/bot/except", json!(["raed"]), "agents.bot.except[0]", "no declared scope is `raed`"),
        ("/agents/bot/except", json!([""]), "agents.bot.except[0]", text),
        ("/agents/bot/approval", json!({}), "agents.bot.approval.scopes", "is empty"),
        ("/agents/bot/approval", json!({"scopes": []}), "agents.bot.approval.scopes", "is empty"),
        ("/agents/bot/approval", json!({"scopes": ["raed"]}), "agents.bot.approval.scopes[0]", "no declared scope"),
        ("/agents/bot/approval", json!({"scopes": ["read", "**"]}), "agents.bot.approval.scopes[1]", text),
        ("/agents/bot/approval", json!({"when": "true"}), "agents.bot.approval.when", "has no meaning here"),
    ]
}

fn defects_of_clients() -> Vec<Defect> {
    let text = "is not a name or pattern";
    let source = "/clients/desk/source";
    vec![
        ("/clients", json!({}), "clients", "every client would be refused"),
        ("/clients/", json!({}), "clients", "an entry without a name"),
        ("/clients/desk/issuer", json!("https://x.test"), "clients.desk.issuer", "unknown issuer `https://x.test`"),
        ("/clients/desk/agent", json!("bto"), "clients.desk.agent", "unknown agent role `bto`"),
        ("/clients/desk/agents", json!(["bot"]), "clients.desk.agents", "unknown field `agents`"),
        ("/clients/desk/scopes", json!(["read", "raed"]), "clients.desk.scopes[1]", "no declared scope is `raed`"),
        ("/clients/desk/scopes", json!(["a*b*"]), "clients.desk.scopes[0]", text),
        ("/clients/desk/tools", json!(["read", "a*b*"]), "clients.desk.tools[1]", text),
        ("/clients/desk/tools", json!([""]), "clients.desk.tools[0]", text),
        ("/clients/desk/without_person", json!("maybe"), "clients.desk.without_person", "unknown variant `maybe`"),
        (source, json!({}), "clients.desk.source", "names no source"),
        (source, json!({"cidrs": [], "uri_sans": []}), "clients.desk.source", "names no source"),
        (source, json!({"cidr": ["10.0.0.0/8"]}), "clients.desk.source.cidr", "unknown field `cidr`"),
        (source, json!({"cidrs": ["10.0.0.0/8", "10.0.0.1"]}), "clients.desk.source.cidrs[1]", "is not a network"),
        (source, json!({"cidrs": ["10.0.0.0/33"]}), "clients.desk.source.cidrs[0]", "`10.0.0.0/33` is not a network"),
        (source, json!({"cidrs": ["fd00::/129"]}), "clients.desk.source.cidrs[0]", "is not a network"),
        (source, json!({"cidrs": ["10.0.0/8"]}), "clients.desk.source.cidrs[0]", "is not a network"),
        (source, json!({"cidrs": [""]}), "clients.desk.source.cidrs[0]", "is not a network"),
    ]
}

fn defects_of_consents() -> Vec<Defect> {
    let consent = "/clients/desk/consent";
    let with = |field: &str, value: Value| {
        let mut document = json!({"by": "somebody", "on": "2026-11-02"});
        document[field] = value;
        document
    };
    let (date, digest) = ("is not a day such as", "is not a SHA-256 in hexadecimal");
    vec![
        (consent, json!({"on": "2026-11-02"}), "clients.desk.consent", "missing field `by`"),
        (consent, json!({"by": "somebody"}), "clients.desk.consent", "missing field `on`"),
        (consent, with("by", json!("")), "clients.desk.consent.by", "is empty"),
        (consent, with("on", json!("2026-02-29")), "clients.desk.consent.on", date),
        (consent, with("on", json!("2.11.2026")), "clients.desk.consent.on", date),
        (consent, with("on", json!("2026-11-02T00:00:00Z")), "clients.desk.consent.on", date),
        (consent, with("on", json!(20_261_102)), "clients.desk.consent.on", "invalid type: integer"),
        (consent, with("expires", json!("never")), "clients.desk.consent.expires", date),
        (consent, with("expires", json!("2026-11-01")), "clients.desk.consent.expires", "lies before `on`"),
        (consent, with("until", json!("2026-11-03")), "clients.desk.consent.until", "unknown field `until`"),
        (consent, with("scopes", json!(["raed"])), "clients.desk.consent.scopes[0]", "no declared scope is `raed`"),
        (consent, with("scopes", json!(["x*"])), "clients.desk.consent.scopes[0]", "no declared scope is `x*`"),
        (consent, with("tools", json!(["a", "*b*"])), "clients.desk.consent.tools[1]", "is not a name or pattern"),
        (consent, with("definitions", json!({"read": ""})), "clients.desk.consent.definitions.read", digest),
        (
            consent,
            with("definitions", json!({"read": "9f".repeat(31)})),
            "clients.desk.consent.definitions.read",
            digest,
        ),
        (
            consent,
            with("definitions", json!({"read": "9f".repeat(33)})),
            "clients.desk.consent.definitions.read",
            digest,
        ),
        (
            consent,
            with("definitions", json!({"read": "9g".repeat(32)})),
            "clients.desk.consent.definitions.read",
            digest,
        ),
        (
            consent,
            with("definitions", json!({"read": "+9".repeat(32)})),
            "clients.desk.consent.definitions.read",
            digest,
        ),
    ]
}

fn defects_of_revocation() -> Vec<Defect> {
    vec![
        ("/revocation", json!({"subject": []}), "revocation.subject", "unknown field `subject`"),
        ("/revocation", json!({"subjects": ["eve"]}), "revocation.subjects[0]", "invalid type: string"),
        ("/revocation", json!({"subjects": [{"issuer": ISSUER}]}), "revocation.subjects[0]", "missing field `subject`"),
        (
            "/revocation",
            json!({"subjects": [{"subject": "eve"}, {"issuer": "https://x.test", "subject": "eve"}]}),
            "revocation.subjects[1].issuer",
            "unknown issuer `https://x.test`",
        ),
        ("/revocation", json!({"agents": ["bot", "bto"]}), "revocation.agents[1]", "unknown agent role `bto`"),
        ("/revocation", json!({"token_ids": [1]}), "revocation.token_ids[0]", "invalid type: integer"),
        ("/refusals", json!("hidden"), "refusals", "unknown variant `hidden`"),
    ]
}

fn defects_of_steps_and_tenants() -> Vec<Defect> {
    let (level, pointer) = ("/rules/1/authentication", "is not a JSON Pointer to an argument");
    let challenge = "cannot be part of a challenge";
    vec![
        (level, json!({}), "rules[1].authentication", "asks for nothing"),
        (level, json!({"acr": [], "amr": []}), "rules[1].authentication", "asks for nothing"),
        (level, json!({"acr": "mfa"}), "rules[1].authentication.acr", "invalid type: string"),
        (level, json!({"acr": ["mfa", ""]}), "rules[1].authentication.acr[1]", challenge),
        (level, json!({"acr": ["mf a"]}), "rules[1].authentication.acr[0]", challenge),
        (level, json!({"acr": ["m\"fa"]}), "rules[1].authentication.acr[0]", challenge),
        (level, json!({"acr": ["m\\fa"]}), "rules[1].authentication.acr[0]", challenge),
        (level, json!({"acr": ["mfä"]}), "rules[1].authentication.acr[0]", challenge),
        (level, json!({"amr": ["otp", "o\ntp"]}), "rules[1].authentication.amr[1]", challenge),
        (level, json!({"max_age": "0s"}), "rules[1].authentication.max_age", "out of bounds"),
        (level, json!({"max_age": "25h"}), "rules[1].authentication.max_age", "out of bounds"),
        (level, json!({"max_age": 300}), "rules[1].authentication.max_age", "invalid type: integer"),
        (level, json!({"max_lifetime": "5m"}), "rules[1].authentication.max_lifetime", "unknown field"),
        ("/rules/1/approval", json!(true), "rules[1].approval", "invalid type: boolean"),
        ("/rules/1/approval", json!({"scopes": ["read"]}), "rules[1].approval.scopes", "has no meaning here"),
        ("/rules/1/approval", json!({"count": 0}), "rules[1].approval.count", "is out of bounds"),
        ("/rules/1/approval", json!({"approvers": []}), "rules[1].approval.approvers", "is empty"),
        ("/rules/1/approval", json!({"by": "a"}), "rules[1].approval.by", "unknown field `by`"),
        ("/rules/1/tenants", json!([]), "rules[1].tenants", "is empty"),
        ("/rules/1/tenants", json!(["acme", ""]), "rules[1].tenants", "has an empty element"),
        ("/rules/1/tenants", json!(["acme", "acme"]), "rules[1].tools[0]", "rules[1], equally specific"),
        ("/rules/1/tenant_argument", json!("tenant_id"), "rules[1].tenant_argument", pointer),
        ("/rules/1/tenant_argument", json!(""), "rules[1].tenant_argument", pointer),
        ("/rules/1/tenant_argument", json!("/a~2b"), "rules[1].tenant_argument", pointer),
        ("/rules/1/tenant_argument", json!("/a~"), "rules[1].tenant_argument", pointer),
        (
            "/rules/1",
            json!({"tools": ["x"], "resources": ["norg://x"], "scopes": [], "tenant_argument": "/tenant_id"}),
            "rules[1].tenant_argument",
            "resources have no arguments",
        ),
    ]
}

fn defects_of_revocation_lists() -> Vec<Defect> {
    let list = |changes: Value| {
        let mut list = json!({"cluster": "revocations", "path": "/list"});
        list.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        json!({"list": list})
    };
    vec![
        ("/revocation", json!({"people": []}), "revocation.people", "unknown field"),
        (
            "/revocation",
            json!({"subjects": [{"issuer": "https://other", "subject": "a"}]}),
            "revocation.subjects[0].issuer",
            "unknown issuer",
        ),
        ("/revocation", json!({"subjects": [{"subject": ""}]}), "revocation.subjects[0].subject", "is empty"),
        ("/revocation", json!({"clients": ["a", ""]}), "revocation.clients[1]", "is empty"),
        ("/revocation", json!({"token_ids": [""]}), "revocation.token_ids[0]", "is empty"),
        ("/revocation", json!({"agents": ["nobody"]}), "revocation.agents[0]", "unknown agent role"),
        ("/revocation", json!({"list": {"cluster": "c"}}), "revocation.list", "missing field `path`"),
        ("/revocation", json!({"list": {"path": "/list"}}), "revocation.list", "missing field `cluster`"),
        ("/revocation", list(json!({"url": "x"})), "revocation.list.url", "unknown field"),
        ("/revocation", list(json!({"cluster": ""})), "revocation.list.cluster", "is empty"),
        ("/revocation", list(json!({"path": "list"})), "revocation.list.path", "is not a path"),
        ("/revocation", list(json!({"authority": "a b"})), "revocation.list.authority", "is not a host"),
        ("/revocation", list(json!({"refresh": "0s"})), "revocation.list.refresh", "out of bounds"),
        ("/revocation", list(json!({"refresh": "3601s"})), "revocation.list.refresh", "out of bounds"),
        ("/revocation", list(json!({"refresh": 30})), "revocation.list.refresh", "invalid type"),
        ("/revocation", list(json!({"max_stale": "29s"})), "revocation.list.max_stale", "out of bounds"),
        ("/revocation", list(json!({"max_stale": "25h"})), "revocation.list.max_stale", "out of bounds"),
        ("/revocation", list(json!({"refresh": "10m"})), "revocation.list.max_stale", "out of bounds"),
    ]
}

#[test]
fn with_several_issuers_a_client_names_its_own() {
    let mut document = good();
    let mut second = document["authentication"]["jwt"][0].clone();
    second["issuer"] = json!("https://second.test");
    document["authentication"]["jwt"].as_array_mut().unwrap().push(second);
    let error = compile(&document).unwrap_err();
    assert_eq!(
        (error.path.as_str(), error.remedy.as_str()),
        ("clients.desk.issuer", "name the issuer that registered it")
    );
    assert!(error.problem.starts_with("is missing"), "{error}");
    for issuer in [ISSUER, "https://second.test"] {
        document["clients"]["desk"]["issuer"] = issuer.into();
        compile(&document).unwrap();
    }
}

#[test]
fn rules_for_many_tenants_count_once_for_each() {
    let tenants = |count: usize| Value::from_iter((0..count).map(|number| format!("tenant-{number}")));
    let tools = Value::from_iter((0..100).map(|number| format!("tool-{number}")));
    let mut document = good_but("/rules/1/tools", tools);
    document["rules"].as_array_mut().unwrap().swap(0, 1);
    document["rules"][0]["tenants"] = tenants(limits::MAX_RULE_TARGETS / 100);
    assert_eq!(compile(&document).unwrap_err().path, "rules[1]");
    document["rules"][0]["tenants"] = tenants(limits::MAX_RULE_TARGETS / 100 + 1);
    assert_eq!(compile(&document).unwrap_err().path, "rules[0]");
}

#[test]
fn each_tenant_may_have_a_rule_for_the_same_target() {
    let mut document = good();
    let rules = document["rules"].as_array_mut().unwrap();
    for tenant in ["acme", "beta"] {
        rules.push(json!({"tools": ["read"], "scopes": ["write"], "tenants": [tenant]}));
    }
    compile(&document).unwrap();
    document["rules"].as_array_mut().unwrap().push(json!({"tools": ["read"], "scopes": [], "tenants": ["beta"]}));
    let error = compile(&document).unwrap_err();
    assert_eq!(error.path, "rules[4].tools[0]");
    assert!(error.problem.contains("rules[3]"), "{error}");
}

#[test]
fn a_list_of_revocations_is_fetched_often_and_used_for_minutes_unless_told_otherwise() {
    let compiled = |list: Value| compile(&good_but("/revocation", json!({"list": list}))).unwrap().revocations.unwrap();
    let list = compiled(json!({"cluster": "idp", "path": "/revoked"}));
    assert_eq!((list.refresh, list.max_stale), (Seconds::new(30), Seconds::new(300)));
    assert_eq!(list.endpoint.authority, "idp");
    let list = compiled(json!({
        "cluster": "idp", "path": "/revoked", "authority": "idp.test", "refresh": "1s", "max_stale": "1s",
    }));
    assert_eq!((list.refresh, list.max_stale), (Seconds::new(1), Seconds::new(1)));
    assert_eq!(list.endpoint.authority, "idp.test");
    assert!(compile(&good()).unwrap().revocations.is_none());
}

#[test]
fn what_is_wrong_is_said_with_its_place_and_a_remedy() {
    compile(&good()).unwrap();
    let defects = [
        defects_of_the_whole(),
        defects_of_the_protocol(),
        defects_of_issuers(),
        defects_of_claims(),
        defects_of_scopes_and_rules(),
        defects_of_people(),
        defects_of_agents(),
        defects_of_clients(),
        defects_of_consents(),
        defects_of_steps_and_tenants(),
        defects_of_sessions(),
        defects_of_revocation(),
        defects_of_revocation_lists(),
        defects_of_audit(),
        defects_of_approvals(),
        defects_of_what_approvals_have_in_common(),
        defects_of_gates(),
    ];
    let told = defects.into_iter().flatten().filter_map(|(pointer, value, path, problem)| {
        let complaint = match compile(&good_but(pointer, value.clone())) {
            Ok(_) => "compiles".to_owned(),
            Err(error) if error.path == path && error.problem.contains(problem) && !error.remedy.is_empty() => {
                return None;
            }
            Err(error) => error.to_string(),
        };
        Some(format!("{pointer} = {value}: expected `{path}`: {problem}\n  {complaint}"))
    });
    let told: Vec<String> = told.collect();
    assert!(told.is_empty(), "{}", told.join("\n"));
}

fn defects_of_approvals() -> Vec<Defect> {
    let (section, pages) = (good()["approval"].clone(), "is not the URL of a page");
    let without = |member: &str| {
        let mut section = section.clone();
        section.as_object_mut().unwrap().remove(member).unwrap();
        section
    };
    let key = jwks()[0].clone();
    let with = |name: &str, value: Value| {
        let mut key = key.clone();
        key[name] = value;
        json!({"keys": [key]})
    };
    let mut defects: Vec<Defect> = vec![
        ("/approval", without("cluster"), "approval", "missing field `cluster`"),
        ("/approval", without("issuer"), "approval", "missing field `issuer`"),
        ("/approval", without("decision_keys"), "approval", "missing field `decision_keys`"),
        ("/approval", without("page"), "approval", "missing field `page`"),
        ("/approval/url", json!("x"), "approval.url", "unknown field `url`"),
        ("/approval/cluster", json!(""), "approval.cluster", "is empty"),
        ("/approval/authority", json!("a b"), "approval.authority", "is not a host"),
        ("/approval/path_prefix", json!("api"), "approval.path_prefix", "is not the beginning of a path"),
        ("/approval/path_prefix", json!("/api/"), "approval.path_prefix", "is not the beginning of a path"),
        ("/approval/path_prefix", json!("/api?x"), "approval.path_prefix", "is not the beginning of a path"),
        ("/approval/issuer", json!(""), "approval.issuer", "is empty or has blanks"),
        ("/approval/issuer", json!("https://a b"), "approval.issuer", "is empty or has blanks"),
        ("/approval/decision_keys", json!({"keys": []}), "approval.decision_keys", "no usable key"),
        ("/approval/decision_keys", json!([]), "approval.decision_keys", ""),
        ("/approval/decision_keys", json!("https://approvals.test/jwks"), "approval.decision_keys", ""),
        ("/approval/decision_keys", with("kty", json!("oct")), "approval.decision_keys", "no usable key"),
        ("/approval/decision_keys", with("x", json!("AAAA")), "approval.decision_keys", "no usable key"),
        ("/approval/decision_keys", with("use", json!("enc")), "approval.decision_keys", "no usable key"),
        ("/approval/token", json!({"env": "A B"}), "approval.token.env", "not the name of an environment variable"),
        ("/approval/token", json!({"env": "NOT_SET"}), "approval.token.env", "`NOT_SET`"),
        ("/approval/token", json!({"env": "SHORT"}), "approval.token.env", "fewer than 32 bytes"),
        ("/approval/token", json!({"env": "NO_BASE64"}), "approval.token.env", ""),
        ("/approval/token", json!({"value": "x"}), "approval.token.value", "unknown field `value`"),
    ];
    let pages_that_are_none = [
        "http://approvals.test/",
        "http://localhost.approvals.test/",
        "ftp://approvals.test/",
        "/approvals/",
        "approvals.test/",
        "",
        "https://",
        "https://user@approvals.test/",
        "https://approvals.test/#",
        "https://approvals.test/a b",
        "javascript:alert(1)//",
    ];
    defects.extend(pages_that_are_none.map(|page| ("/approval/page", json!(page), "approval.page", pages)));
    defects
}

fn defects_of_what_approvals_have_in_common() -> Vec<Defect> {
    let roles = |count: usize| Value::from_iter((0..count).map(|number| format!("role-{number}")));
    vec![
        ("/approval/timeout", json!("0s"), "approval.timeout", "out of bounds"),
        ("/approval/timeout", json!("31s"), "approval.timeout", "out of bounds"),
        ("/approval/timeout", json!(5), "approval.timeout", "invalid type"),
        ("/approval/hold", json!("56s"), "approval.hold", "out of bounds"),
        ("/approval/hold", json!("-1s"), "approval.hold", "is not a duration"),
        ("/approval/expires", json!("4s"), "approval.expires", "out of bounds"),
        ("/approval/expires", json!("86401s"), "approval.expires", "out of bounds"),
        ("/approval/approvers", json!([]), "approval.approvers", "is empty"),
        ("/approval/approvers", json!(["a", ""]), "approval.approvers", "has an empty element"),
        ("/approval/approvers", json!(["a", "b\n"]), "approval.approvers[1]", "is not the name of a role"),
        ("/approval/approvers", json!(["x".repeat(129)]), "approval.approvers[0]", "is not the name of a role"),
        ("/approval/approvers", roles(33), "approval.approvers", "is too long"),
        ("/approval/risk", json!({"extreme": {}}), "approval.risk.extreme", "unknown field `extreme`"),
        ("/approval/risk/high", json!({"when": "true"}), "approval.risk.high.when", "has no meaning here"),
        ("/approval/risk/high", json!({"scopes": ["read"]}), "approval.risk.high.scopes", "has no meaning here"),
        ("/approval/risk/high", json!({"count": 11}), "approval.risk.high.count", "out of bounds"),
        ("/approval/risk/high", json!({"hold": "56s"}), "approval.risk.high.hold", "out of bounds"),
        ("/approval/escalate_to", json!({}), "approval.escalate_to", "missing field `cluster`"),
        ("/approval/escalate_to/risk", json!({}), "approval.escalate_to.risk", "unknown field `risk`"),
        ("/approval/escalate_to/cluster", json!(""), "approval.escalate_to.cluster", "is empty"),
        ("/approval/escalate_to/issuer", json!(""), "approval.escalate_to.issuer", "is empty or has blanks"),
        ("/approval/escalate_to/decision_keys", json!({}), "approval.escalate_to.decision_keys", ""),
        (
            "/approval/escalate_to/page",
            json!("http://x.test/"),
            "approval.escalate_to.page",
            "is not the URL of a page",
        ),
        (
            "/approval/escalate_to/path_prefix",
            json!("x"),
            "approval.escalate_to.path_prefix",
            "the beginning of a path",
        ),
        ("/approval/escalate_to/token", json!({"env": "NOT_SET"}), "approval.escalate_to.token.env", "`NOT_SET`"),
        ("/audit", json!({"records": "off"}), "audit.records", "approvals need records"),
    ]
}

fn defects_of_gates() -> Vec<Defect> {
    let mut defects = Vec::new();
    let gates = [
        ("/rules/1/approval", "rules[1].approval", json!({})),
        ("/agents/bot/approval", "agents.bot.approval", json!({"scopes": ["read"]})),
        ("/approval/risk/high", "approval.risk.high", json!({})),
    ];
    for (pointer, path, gate) in gates {
        let bounds = "out of bounds";
        for (members, place, problem) in [
            (json!({"approvers": []}), ".approvers", "is empty"),
            (json!({"approvers": [""]}), ".approvers", "has an empty element"),
            (json!({"approvers": ["a\u{7f}"]}), ".approvers[0]", "is not the name of a role"),
            (json!({"count": 0}), ".count", bounds),
            (json!({"count": 11}), ".count", bounds),
            (json!({"count": -1}), ".count", "invalid value"),
            (json!({"hold": "56s"}), ".hold", bounds),
            (json!({"expires": "4s"}), ".expires", bounds),
            (json!({"expires": "25h"}), ".expires", bounds),
            (json!({"reason": "always"}), ".reason", "unknown variant `always`"),
            (json!({"escalate": {"after": "1m"}}), ".escalate", "missing field `approvers`"),
            (json!({"escalate": {"approvers": ["a"]}}), ".escalate", "missing field `after`"),
            (json!({"escalate": {"after": "1m", "approvers": []}}), ".escalate.approvers", "is empty"),
            (json!({"escalate": {"after": "0s", "approvers": ["a"]}}), ".escalate.after", bounds),
            (json!({"escalate": {"after": "10m", "approvers": ["a"]}}), ".escalate.after", bounds),
            (json!({"expires": "1m", "escalate": {"after": "1m", "approvers": ["a"]}}), ".escalate.after", bounds),
            (json!({"by": "a"}), ".by", "unknown field `by`"),
        ] {
            let mut gate = gate.clone();
            gate.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            let path: &'static str = Box::leak(format!("{path}{place}").into_boxed_str());
            defects.push((pointer, gate, path, problem));
        }
    }
    defects.push(("/rules/1/approval", json!({"when": "arguments."}), "rules[1].approval.when", ""));
    defects
}

#[test]
fn gates_that_name_nobody_need_approvers_for_all() {
    let mut document = good();
    document["approval"].as_object_mut().unwrap().remove("approvers").unwrap();
    let mut gates = vec![
        ("/approval/risk/high", "approval.risk.high.approvers"),
        ("/agents/bot/approval", "agents.bot.approval.approvers"),
        ("/rules/1/approval", "rules[1].approval.approvers"),
    ];
    document["rules"][1]["approval"] = json!({});
    gates.reverse();
    while let Some((pointer, path)) = gates.pop() {
        let error = compile(&document).unwrap_err();
        assert_eq!((error.path.as_str(), error.problem.as_str()), (path, "says of nobody who may approve"));
        assert!(error.remedy.contains("approval.approvers"), "{error}");
        document.pointer_mut(pointer).unwrap()["approvers"] = json!(["owner"]);
    }
    compile(&document).unwrap();
}

#[test]
fn approvals_need_a_session_key_and_a_credential() {
    let without = |missing: &'static str| {
        let document = good().to_string();
        let environment = move |name: &str| environment(name).filter(|_| name != missing);
        CompiledPolicy::from_json(document.as_bytes(), &environment).unwrap_err()
    };
    let error = without("TOOLGATE_SESSION_KEY");
    assert_eq!(error.path, "approval");
    assert!(error.to_string().contains("TOOLGATE_SESSION_KEY"), "{error}");
    let error = without("TOOLGATE_APPROVAL_TOKEN");
    assert_eq!(error.path, "approval.token.env");
    assert!(error.to_string().contains("TOOLGATE_APPROVAL_TOKEN"), "{error}");
    // Who asks nobody needs neither.
    CompiledPolicy::from_json(without_approvals().to_string().as_bytes(), &without_session_key).unwrap();
}

#[test]
fn approval_services_have_the_defaults_of_the_reference() {
    let policy = compile(&good()).unwrap();
    let approval = policy.approval.unwrap();
    assert_eq!(approval.timeout, Seconds::new(5));
    let [first, second] = approval.services.as_slice() else { panic!("two services") };
    assert_eq!((first.endpoint.cluster.as_str(), first.endpoint.authority.as_str()), ("approvals", "approvals"));
    assert_eq!(first.endpoint.path, "");
    assert_eq!((second.endpoint.cluster.as_str(), second.endpoint.authority.as_str()), ("on-call", "on-call"));
    // What the second does not say is that of the first.
    assert_eq!((&second.issuer, &second.page, &second.credential), (&first.issuer, &first.page, &first.credential));
    let token = variable("TOOLGATE_APPROVAL_TOKEN").unwrap();
    assert_eq!(first.credential.header_value(), format!("Bearer {token}"));
    assert!(!format!("{first:?}").contains(&token), "a secret must not get into logs");

    let mut document = good();
    document["approval"]["path_prefix"] = json!("/api");
    document["approval"]["authority"] = json!("approvals.test:8443");
    document["approval"]["escalate_to"] = json!({
        "cluster": "on-call", "issuer": "https://on-call.test", "page": "http://127.0.0.1:8787/a?id=",
        "token": {"env": "NEXT_KEY"}, "decision_keys": {"keys": [jwks()[1]]},
    });
    let approval = compile(&document).unwrap().approval.unwrap();
    assert_eq!(approval.services[0].endpoint.path, "/api");
    assert_eq!(approval.services[0].endpoint.authority, "approvals.test:8443");
    let second = &approval.services[1];
    assert_eq!((second.issuer.as_str(), second.page.as_str()), ("https://on-call.test", "http://127.0.0.1:8787/a?id="));
    assert!(second.credential.header_value().starts_with("Bearer QkJC"));
    assert_eq!(second.keys.keys()[0].key_id(), Some("ec"));
    for page in ["http://localhost/", "http://localhost:8787/a/", "http://[::1]:1/", "https://a.test/approvals/"] {
        compile(&good_but("/approval/page", json!(page))).unwrap();
    }
}

#[test]
fn bounds_of_gates_are_inclusive() {
    for gate in [
        json!({"hold": "0s", "expires": "5s", "count": 1}),
        json!({"hold": "55s", "expires": "24h", "count": 10, "reason": "required"}),
        json!({"expires": "1m", "escalate": {"after": "59s", "approvers": ["a"]}}),
        json!({"escalate": {"after": "1s", "approvers": ["x".repeat(128)]}}),
    ] {
        compile(&good_but("/rules/1/approval", gate)).unwrap();
    }
    for timeout in ["1s", "30s"] {
        compile(&good_but("/approval/timeout", json!(timeout))).unwrap();
    }
}

fn defects_of_audit() -> Vec<Defect> {
    let arguments = |tools: Value| json!({"arguments": tools});
    let outcomes = |tools: Value| json!({"outcomes": tools});
    let many =
        |count: usize, value: &Value| -> Value { (0..count).map(|n| (format!("/n{n}"), value.clone())).collect() };
    let names = |count: usize| -> Value { (0..count).map(|n| (format!("n{n}"), json!("/n"))).collect() };
    let (long, deep) = (format!("/{}", "x".repeat(256)), "/x".repeat(17));
    let no_pointer = "is not a JSON Pointer of at most 16 parts and 256 bytes";
    let of_read = |pointer: &str| arguments(json!({"read": {pointer: "keep"}}));
    let named = |name: &str| outcomes(json!({"read": {name: "/x"}}));
    let picked = |pointer: &str| outcomes(json!({"read": {"x": pointer}}));
    vec![
        ("/audit", json!({"argument": {}}), "audit.argument", "unknown field `argument`"),
        ("/audit", arguments(json!([])), "audit.arguments", "invalid type: sequence"),
        ("/audit", arguments(json!({"read": {"/x": "show"}})), "audit.arguments.read./x", "unknown variant `show`"),
        ("/audit", arguments(json!({"raed": {}})), "audit.arguments.raed", "no rule is for a tool that `raed` fits"),
        ("/audit", arguments(json!({"x*": {}})), "audit.arguments.x*", "no rule is for a tool that `x*` fits"),
        ("/audit", arguments(json!({"r*a*": {}})), "audit.arguments.r*a*", "is not a name or pattern"),
        ("/audit", arguments(json!({"": {}})), "audit.arguments.", "is not a name or pattern"),
        ("/audit", arguments(json!({"re*": {}, "*ad": {}})), "audit.arguments.re*", "the same names as `*ad`"),
        ("/audit", arguments(many(257, &json!({}))), "audit.arguments", "more than 256 tools and patterns"),
        (
            "/audit",
            arguments(json!({"read": many(33, &json!("keep"))})),
            "audit.arguments.read",
            "more than 32 pointers",
        ),
        ("/audit", of_read("x"), "audit.arguments.read.x", no_pointer),
        ("/audit", of_read("/a~2"), "audit.arguments.read./a~2", no_pointer),
        ("/audit", of_read("/"), "audit.arguments.read./", "is for an argument without a name"),
        ("/audit", outcomes(json!({"read": {"x": 1}})), "audit.outcomes.read.x", "invalid type: integer"),
        ("/audit", outcomes(json!({"raed": {}})), "audit.outcomes.raed", "no rule is for a tool that `raed` fits"),
        ("/audit", outcomes(json!({"re*": {}, "*ad": {}})), "audit.outcomes.re*", "the same names as `*ad`"),
        ("/audit", outcomes(many(257, &json!({}))), "audit.outcomes", "more than 256 tools and patterns"),
        ("/audit", outcomes(json!({"read": names(33)})), "audit.outcomes.read", "more than 32 names"),
        ("/audit", named(""), "audit.outcomes.read.", "is not a name for an outcome"),
        ("/audit", named("a b"), "audit.outcomes.read.a b", "is not a name for an outcome"),
        ("/audit", named("é"), "audit.outcomes.read.é", "is not a name for an outcome"),
        ("/audit", picked(""), "audit.outcomes.read.x", "is not for a single value"),
        ("/audit", picked("/rows/*/id"), "audit.outcomes.read.x", "is not for a single value"),
        ("/audit", picked("rows"), "audit.outcomes.read.x", no_pointer),
        ("/audit", picked(&long), "audit.outcomes.read.x", no_pointer),
        ("/audit", picked(&deep), "audit.outcomes.read.x", no_pointer),
    ]
}

#[test]
fn the_most_specific_tool_says_what_records_show() {
    let audit = |policy: &CompiledPolicy| policy.audit.clone().unwrap();
    let mut document = good();
    document["rules"].as_array_mut().unwrap().push(json!({"tools": ["list_*"], "scopes": [], "tenants": ["acme"]}));
    let longest = "n".repeat(limits::MAX_OUTCOME_NAME_BYTES);
    document["audit"] = json!({
        "arguments": {"*": {"": "hash"}, "read": {}, "list_x": {"/a": "keep", "/b": "pseudonymise", "/c": "drop"}},
        "outcomes": {"read": {&longest: "/structuredContent/id", "A.b-c_9": "/content/0/text"}},
    });
    let policy = compile(&document).unwrap();
    let keys = Pseudonyms::new(b"secret", "r");
    let shown = |tool: &str| {
        let redaction = audit(&policy).redaction;
        let redaction = redaction.of_tool(tool).unwrap();
        json!(redaction.apply(r#"{"a":1,"b":2,"c":3}"#, &keys, "salt"))
    };
    assert_eq!(shown("read"), json!({}));
    assert_eq!(shown("list_x"), json!({"/a": 1, "/b": keys.of("argument", b"2")}));
    let hash = |value: &[u8]| keys.hash("salt", value);
    assert_eq!(shown("list_y"), json!({"/a": hash(b"1"), "/b": hash(b"2"), "/c": hash(b"3")}));

    assert!(audit(&policy).outcomes.of_tool("write").is_none());
    let mut picker = OutcomePicker::new(audit(&policy).outcomes.of_tool("read").cloned(), Some("1"));
    picker.feed(br#"{"id":1,"result":{"structuredContent":{"id":"B-7"},"content":[{"text":"ok"}]}}"#);
    assert_eq!(json!(picker.finish().fields), json!({longest: "B-7", "A.b-c_9": "ok"}));

    let policy = compile(&good()).unwrap();
    assert!(audit(&policy).redaction.of_tool("read").is_none());
    assert!(audit(&policy).outcomes.of_tool("read").is_none());
}

/// `sessions` sections that do not load, under [`environment`].
fn defects_of_sessions() -> Vec<Defect> {
    let keys = |list: Value| json!({"keys": list});
    let key = |id: &str, env: &str| json!({"id": id, "env": env});
    let one = |id: &str, env: &str| keys(json!([key(id, env)]));
    let nine: Value = (0..9).map(|number| key(&format!("k{number}"), &format!("KEY_{number}"))).collect();
    let base64 = "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=";
    vec![
        ("/sessions", json!({"key": "x"}), "sessions.key", "unknown field `key`"),
        ("/sessions", json!({"max_age": "0s"}), "sessions.max_age", "out of bounds"),
        ("/sessions", json!({"max_age": "169h"}), "sessions.max_age", "out of bounds"),
        ("/sessions", keys(json!([])), "sessions.keys", "no usable list of keys"),
        ("/sessions", keys(nine), "sessions.keys", "no usable list of keys"),
        ("/sessions", keys(json!([{"id": "k1"}])), "sessions.keys[0]", "missing field `env`"),
        ("/sessions", keys(json!([{"id": "k1", "secret": base64}])), "sessions.keys[0].secret", "unknown field"),
        ("/sessions", one("k1", base64), "sessions.keys[0].env", "not the name of an environment variable"),
        ("/sessions", one("k1", ""), "sessions.keys[0].env", "not the name of an environment variable"),
        ("/sessions", one("k1", "UNSET"), "sessions.keys[0].env", "`UNSET` is not set"),
        ("/sessions", one("k1", "NO_BASE64"), "sessions.keys[0]", "`NO_BASE64` is not base64"),
        ("/sessions", one("k1", "EMPTY"), "sessions.keys[0]", "`EMPTY` has fewer than 32 bytes"),
        ("/sessions", one("k1", "SHORT"), "sessions.keys[0]", "`SHORT` has fewer than 32 bytes"),
        ("/sessions", one("k1", "LONG"), "sessions.keys[0]", "`LONG` has more than 1024 bytes"),
        ("/sessions", one("", "NEXT_KEY"), "sessions.keys[0].id", "is not a key id"),
        ("/sessions", one("k.1", "NEXT_KEY"), "sessions.keys[0].id", "is not a key id"),
        ("/sessions", one("12345678901234567", "NEXT_KEY"), "sessions.keys[0].id", "is not a key id"),
        (
            "/sessions",
            keys(json!([key("k1", "NEXT_KEY"), key("k1", "TOOLGATE_SESSION_KEY")])),
            "sessions.keys[1].id",
            "is used twice",
        ),
        (
            "/sessions",
            keys(json!([key("k1", "NEXT_KEY"), key("k2", "NEXT_KEY")])),
            "sessions.keys[1].env",
            "is listed twice",
        ),
    ]
}

fn without_session_key(name: &str) -> Option<String> {
    variable(name).filter(|_| name == "TOOLGATE_AUDIT_KEY")
}

/// An environment with every kind of key that will not do.
fn environment(name: &str) -> Option<String> {
    match name {
        "NO_BASE64" => Some("not base64!".to_owned()),
        "EMPTY" => Some(String::new()),
        "SHORT" => Some("QUFB".repeat(10)),
        "LONG" => Some("QUFB".repeat(342)),
        _ => variable(name),
    }
}

#[test]
fn session_keys_come_from_the_environment() {
    let compile = |sessions: Option<Value>, environment: &dyn Fn(&str) -> Option<String>| {
        let mut document = without_approvals();
        if let Some(sessions) = sessions {
            document["sessions"] = sessions;
        }
        CompiledPolicy::from_json(document.to_string().as_bytes(), environment).map(|policy| policy.sessions)
    };
    let ids = |sessions: SessionKeys| sessions.ids().map(str::to_owned).collect::<Vec<_>>();
    // Without a section the key is optional, but not its form.
    assert_eq!(ids(compile(None, &variable).unwrap()), ["k1"]);
    assert!(compile(None, &without_session_key).unwrap().is_empty());
    let error = compile(None, &|_| environment("SHORT")).unwrap_err();
    assert_eq!((&*error.path, error.problem.contains("TOOLGATE_SESSION_KEY")), ("sessions", true), "{error}");
    assert!(!error.to_string().contains("QUFB"), "{error}");
    // With one it is not.
    assert_eq!(compile(None, &variable).unwrap().max_age(), limits::DEFAULT_SESSION_AGE);
    let short = compile(Some(json!({"max_age": "1h"})), &variable).unwrap();
    assert_eq!((short.max_age(), ids(short)), (Seconds::new(3600), vec!["k1".to_owned()]));
    let error = compile(Some(json!({"max_age": "1h"})), &without_session_key).unwrap_err();
    assert_eq!((&*error.path, error.remedy.contains("openssl rand -base64 32")), ("sessions", true), "{error}");
    let keys = json!({"keys": [{"id": "b", "env": "NEXT_KEY"}, {"id": "a", "env": "TOOLGATE_SESSION_KEY"}]});
    assert_eq!(ids(compile(Some(keys), &variable).unwrap()), ["b", "a"]);
    // A key from a file has a line break at its end.
    assert!(compile(None, &|_| variable("NEXT_KEY").map(|key| key + "\n")).is_ok());
    assert!(compile(None, &|_| Some("QUFB".repeat(341))).is_ok());
}

#[test]
fn records_are_sealed_unless_the_policy_says_that_there_are_none() {
    let compile = |audit: Value, environment: &dyn Fn(&str) -> Option<String>| {
        let mut document = without_approvals();
        document["audit"] = audit;
        CompiledPolicy::from_json(document.to_string().as_bytes(), environment).map(|policy| policy.audit)
    };
    let only = |name: &'static str| move |asked: &str| variable("NEXT_KEY").filter(|_| asked == name);
    let refused = |audit: Value, environment: &dyn Fn(&str) -> Option<String>| {
        let error = compile(audit, environment).unwrap_err();
        (error.path.to_string(), error.to_string())
    };

    assert_eq!(compile(json!({}), &variable).unwrap().unwrap().key().id(), "k1");
    let (path, text) = refused(json!({}), &only("ANOTHER"));
    assert!(path == "audit" && text.contains("TOOLGATE_AUDIT_KEY") && text.contains("openssl rand"), "{text}");
    assert!(compile(json!({"records": "off"}), &only("ANOTHER")).unwrap().is_none());

    let keys = json!({"keys": [{"id": "new", "env": "NEXT_KEY"}, {"id": "old", "env": "TOOLGATE_AUDIT_KEY"}]});
    assert_eq!(compile(keys.clone(), &variable).unwrap().unwrap().key().id(), "new");
    assert_eq!(refused(keys, &only("NEXT_KEY")).0, "audit.keys[1].env");
    assert_eq!(refused(json!({"keys": []}), &variable).0, "audit.keys");

    let named = json!({"pseudonym_key": {"env": "NEXT_KEY"}});
    let of = |audit: Value, environment: &dyn Fn(&str) -> Option<String>| {
        compile(audit, environment).unwrap().unwrap().pseudonyms.of("a", b"b")
    };
    assert_ne!(of(named.clone(), &variable), of(json!({}), &variable));
    let both = |name: &str| if name == "TOOLGATE_PSEUDONYM_KEY" { variable("NEXT_KEY") } else { variable(name) };
    assert_eq!(of(named.clone(), &variable), of(json!({}), &both));
    assert_eq!(refused(named, &only("TOOLGATE_AUDIT_KEY")).0, "audit.pseudonym_key.env");
    assert_eq!(refused(json!({"pseudonym_key": {"env": "a b"}}), &variable).0, "audit.pseudonym_key.env");

    assert_eq!(refused(json!({"checkpoint_interval": "0s"}), &variable).0, "audit.checkpoint_interval");
    assert_eq!(refused(json!({"checkpoint_interval": "2h"}), &variable).0, "audit.checkpoint_interval");
    let anchor = |cluster: &str, path: &str| json!({"anchor": {"cluster": cluster, "path": path}});
    let policy = compile(anchor("worm", "/checkpoints"), &variable).unwrap().unwrap();
    assert_eq!(policy.anchor.unwrap().authority, "worm");
    assert_eq!(refused(anchor("", "/x"), &variable).0, "audit.anchor.cluster");
    assert_eq!(refused(anchor("worm", "x"), &variable).0, "audit.anchor.path");
    assert_eq!(refused(json!({"subjects": "none"}), &variable).0, "audit.subjects");
}

#[test]
fn a_document_is_one_strict_json_object() {
    for text in ["", "[]", "{", "{}", "null", r#"{"version":"toolgate/v1","version":"toolgate/v1"}"#, "\u{feff}{}"] {
        assert_eq!(CompiledPolicy::from_json(text.as_bytes(), &variable).unwrap_err().path, ".", "{text}");
    }
}

#[test]
fn rules_are_bounded() {
    let tools = |count: usize, text: &str| Value::from_iter((0..count).map(|number| format!("t{number:06}{text}")));
    let with = |tools: Value| compile(&good_but("/rules/1/tools", tools));
    with(tools(limits::MAX_WILDCARDS, "*")).unwrap();
    assert_eq!(with(tools(limits::MAX_WILDCARDS + 1, "*")).unwrap_err().path, "rules[1].tools[2048]");
    let mut full = tools(limits::MAX_WILDCARDS, "*");
    full.as_array_mut().unwrap().push(json!("an_exact_name"));
    with(full).unwrap();
    assert_eq!(with(tools(limits::MAX_RULE_TARGETS + 1, "")).unwrap_err().path, "rules[1]");
    let scopes = (0..=limits::MAX_SCOPES).map(|number| (format!("s{number}"), json!({"risk": "high"}))).collect();
    assert_eq!(compile(&good_but("/scopes", scopes)).unwrap_err().path, "scopes");
}

#[test]
fn the_digest_depends_on_the_meaning_not_on_the_spelling() {
    let digest = |text: &str| CompiledPolicy::from_json(text.as_bytes(), &variable).unwrap().digest;
    let text = good().to_string();
    let spaced = serde_json::to_string_pretty(&good()).unwrap();
    let as_double = text.replace("\"max_request_bytes\":1024", "\"max_request_bytes\":1024.0");
    assert_ne!(as_double, text);
    assert_eq!(digest(&spaced), digest(&text));
    assert_eq!(digest(&as_double), digest(&text));
    assert_ne!(digest(&good_but("/protocol/max_request_bytes", json!(1025)).to_string()), digest(&text));
    assert_eq!(digest(&text).len(), 64);
}

#[test]
fn defaults_are_those_of_the_reference() {
    let least = json!({
        "version": "toolgate/v1",
        "resource": {"uri": "https://h.test/mcp"},
        "authentication": {"jwt": [{"issuer": "https://issuer.test", "algorithms": ["RS256"], "jwks": {"inline": {"keys": jwks()}}}]},
        "rules": [],
    });
    let policy = compile(&least).unwrap();
    assert_eq!(policy.max_request_bytes, limits::DEFAULT_REQUEST_BYTES);
    assert_eq!(policy.revisions.iter().count(), 4);
    assert_eq!(policy.issuers[0].audiences, ["https://h.test/mcp"]);
    assert_eq!(policy.issuers[0].max_lifetime, limits::DEFAULT_TOKEN_LIFETIME);
    assert_eq!(policy.issuers[0].claims.scopes, toolgate::jwt::ClaimNames::default().scopes);
    assert!(!policy.keeps_authorization && policy.allowed_origins.is_empty() && policy.initial_scopes.is_empty());
    let fetched = compile(&good()).unwrap();
    assert_eq!(fetched.key_sources[0].1.as_ref().unwrap().authority, "issuer.test");
}

// --- Samples --------------------------------------------------------------------------------------------------------

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Compiles YAML as Envoy would deliver it.
fn compile_yaml(name: &str, text: &str) {
    let document: Value = serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
    compile(&document).unwrap_or_else(|error| panic!("{name}: {error}"));
}

fn yaml_files(directory: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(repository().join(directory)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect()
}

#[test]
fn every_sample_policy_compiles() {
    let samples = yaml_files("envoy/policies");
    assert!(!samples.is_empty());
    for path in samples {
        compile_yaml(&path.display().to_string(), &std::fs::read_to_string(&path).unwrap());
    }
}

#[test]
fn the_policy_of_the_reference_configuration_compiles() {
    let text = std::fs::read_to_string(repository().join("envoy/envoy.yaml")).unwrap();
    let policies = policies_within(&serde_saphyr::from_str(&text).unwrap());
    assert!(!policies.is_empty(), "no policy in envoy.yaml");
    policies.iter().for_each(|policy| compile_yaml("envoy.yaml", policy));
}

/// The plugin configurations of an Envoy configuration: strings with a policy in them.
fn policies_within(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) if text.contains("toolgate/v1") => vec![text.clone()],
        Value::Object(members) => members.values().flat_map(policies_within).collect(),
        Value::Array(elements) => elements.iter().flat_map(policies_within).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

#[test]
fn every_policy_of_the_readme_compiles() {
    let Ok(readme) = std::fs::read_to_string(repository().join("README.md")) else { return };
    let blocks = readme.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let (policies, sections): (Vec<&str>, Vec<&str>) =
        blocks.partition(|block| block.starts_with("version: toolgate/v1"));
    policies.iter().for_each(|policy| compile_yaml("README.md", policy));
    // Sections that are shown on their own are for the first policy.
    let mut policy: Value = serde_saphyr::from_str(policies.first().expect("README.md shows no policy")).unwrap();
    for section in sections {
        let members: Value = serde_saphyr::from_str(section).unwrap_or_else(|error| panic!("{section}\n{error}"));
        for (name, member) in members.as_object().unwrap() {
            policy[name] = member.clone();
        }
        compile(&policy).unwrap_or_else(|error| panic!("README.md:\n{section}\n{error}"));
    }
}

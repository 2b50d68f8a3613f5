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
use toolgate::config::{CompiledPolicy, ConfigError};
use toolgate::limits;
use toolgate::session::SessionKeys;
use toolgate::units::Seconds;

use support::gateway::{policy, variable};
use support::issuer::jwks;

/// A policy that compiles and has most fields.
fn good() -> Value {
    let mut good = policy();
    good["refused_scopes"] = json!(["root"]);
    good["authentication"]["jwt"][0]["jwks"] = json!({"cluster": "issuer", "path": "/jwks"});
    good
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

#[test]
fn what_is_wrong_is_said_with_its_place_and_a_remedy() {
    compile(&good()).unwrap();
    let defects = [
        defects_of_the_whole(),
        defects_of_the_protocol(),
        defects_of_issuers(),
        defects_of_scopes_and_rules(),
        defects_of_sessions(),
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
        let mut document = good();
        if let Some(sessions) = sessions {
            document["sessions"] = sessions;
        }
        CompiledPolicy::from_json(document.to_string().as_bytes(), environment).map(|policy| policy.sessions)
    };
    let ids = |sessions: SessionKeys| sessions.ids().map(str::to_owned).collect::<Vec<_>>();
    // Without a section the key is optional, but not its form.
    assert_eq!(ids(compile(None, &variable).unwrap()), ["k1"]);
    assert!(compile(None, &|_| None).unwrap().is_empty());
    let error = compile(None, &|_| environment("SHORT")).unwrap_err();
    assert_eq!((&*error.path, error.problem.contains("TOOLGATE_SESSION_KEY")), ("sessions", true), "{error}");
    assert!(!error.to_string().contains("QUFB"), "{error}");
    // With one it is not.
    assert_eq!(compile(None, &variable).unwrap().max_age(), limits::DEFAULT_SESSION_AGE);
    let short = compile(Some(json!({"max_age": "1h"})), &variable).unwrap();
    assert_eq!((short.max_age(), ids(short)), (Seconds::new(3600), vec!["k1".to_owned()]));
    let error = compile(Some(json!({"max_age": "1h"})), &|_| None).unwrap_err();
    assert_eq!((&*error.path, error.remedy.contains("openssl rand -base64 32")), ("sessions", true), "{error}");
    let keys = json!({"keys": [{"id": "b", "env": "NEXT_KEY"}, {"id": "a", "env": "TOOLGATE_SESSION_KEY"}]});
    assert_eq!(ids(compile(Some(keys), &variable).unwrap()), ["b", "a"]);
    // A key from a file has a line break at its end.
    assert!(compile(None, &|_| variable("NEXT_KEY").map(|key| key + "\n")).is_ok());
    assert!(compile(None, &|_| Some("QUFB".repeat(341))).is_ok());
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

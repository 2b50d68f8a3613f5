//! People, agents and clients at work, under one policy.

use serde_json::{Value, json};
use toolgate::units::UnixSeconds;

use super::gateway::{Gateway, Keys, Request, call, token_with};
use super::issuer::NOW;
use super::{Written, send};

/// One policy in every form of lists.
pub(crate) const POLICY: &str = r#"# Who may do what.
version: toolgate/v1
resource: {uri: "https://gateway.test/mcp"}
authentication:
  jwt:
    - issuer: https://issuer.test
      jwks: {cluster: idp, path: /jwks}
      algorithms: [EdDSA, ES256, RS256]
      claims: {agent: [agent_role]}
scopes:
  a:read: {risk: low}
  a:write: {risk: medium, implies: ["a:read"]}
  b:read: {risk: low}
  b:write: {risk: high, implies: ["b:read"]}
  c:admin: {risk: high}
operators:
  reader:
    match: {roles: [readers]}
    scopes: ["a:read", "b:read"]  # what readers read
  writer:
    match: {roles: [writers]}
    scopes:
      # All of both,
      - "a:*"
      - b:write   # and this.
      - c:admin
  idle:
    match: {roles: [idlers]}
    scopes:
      - c:admin
agents:
  helper:
    scopes: ["*"]
    except: ["c:admin"]
clients:
  desk: {agent: helper, scopes: ["a:*", "b:*"], consent: {by: somebody, on: 2026-11-02, scopes: ["*"]}}
  free: {agent: helper}
rules:
  - tools: [read_a]
    scopes: ["a:read"]
  - tools: [write_a, "change_a_*"]
    scopes: ["a:write"]
  - tools: [read_b]
    scopes: ["b:read"]
  - tools: [write_b]
    scopes: ["b:write"]
  - tools: [admin]
    scopes: ["c:admin"]
  - resources: ["norg://b/*"]
    scopes: ["b:read"]
"#;

fn gateway(policy: &str) -> Gateway {
    Gateway::new(serde_saphyr::from_str(policy).unwrap(), Keys::Inline)
}

/// A call of a tool, or a reading of a resource.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    claims: Value,
    target: String,
}

impl Sent {
    pub(crate) fn new(subject: &str, client: &str, roles: &[&str], target: &str) -> Self {
        let claims = json!({
            "sub": subject, "client_id": client, "roles": roles, "scope": "a:write b:write c:admin", "jti": "t-1",
        });
        Self { claims, target: target.to_owned() }
    }

    fn send(&self, gateway: &mut Gateway, number: u64) -> Written {
        // A token is good for some minutes only.
        let now = gateway.now.get();
        let mut claims = self.claims.clone();
        claims["iat"] = (now - 10).into();
        claims["exp"] = (now + 600).into();
        let token = token_with(claims.as_object().unwrap());
        let body = if self.target.starts_with("norg:") {
            json!({"jsonrpc": "2.0", "id": 1, "method": "resources/read", "params": {"uri": self.target}})
        } else {
            call(&self.target)
        };
        send(gateway, number, &Request::post("", &body).bearer(&token), Some(&token))
    }
}

pub(crate) fn send_all(policy: &str, calls: &[Sent], step: u64) -> Vec<Written> {
    let mut gateway = gateway(policy);
    let send = |(number, sent): (u64, &Sent)| {
        gateway.now = UnixSeconds::new(NOW + number * step);
        sent.send(&mut gateway, number)
    };
    (0..).zip(calls).map(send).collect()
}

/// A day at work, an hour between any two calls.
pub(crate) fn day() -> Vec<Sent> {
    let ann = |tool: &str| Sent::new("ann", "desk", &["readers"], tool);
    let bob = |tool: &str| Sent::new("bob", "desk", &["writers"], tool);
    vec![
        ann("read_a"),
        ann("read_a"),
        ann("write_a"),
        ann("write_a"),
        ann("read_a"),
        bob("write_a"),
        bob("change_a_name"),
        bob("norg://b/1"),
        bob("admin"),
        bob("no such tool"),
    ]
}

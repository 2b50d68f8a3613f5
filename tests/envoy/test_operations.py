"""What operators see: metrics, logs, reasons in the access log, and configurations that load as they are."""

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import stack

from conftest import NewGateway
from support import messages
from support.gateway import Envoy, Gateway
from support.http1 import request
from support.issuer import Issuer
from support.jose import Key
from support.messages import Post
from support.policy import policy

PING = messages.call("ping")

# --- Configurations ---------------------------------------------------------------------------------------------------


def test_the_reference_configuration_is_valid() -> None:
    """Envoy loads the module for this and asks it about the policy."""
    command = [stack.envoy_binary(), "--mode", "validate", "-c", "envoy/envoy.yaml", "--use-dynamic-base-id"]
    keys = {name: stack.new_key() for name in (stack.SESSION_KEY, stack.AUDIT_KEY)}
    done = subprocess.run(
        command, cwd=stack.ROOT, env=os.environ | keys, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


POLICIES = sorted((stack.ROOT / "envoy" / "policies").glob("*.yaml"))


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.name)
def test_every_policy_of_the_repository_loads(start_gateway: NewGateway, issuer: Issuer, path: Any) -> None:
    document = stack.load_document(path)
    clusters = {jwt["jwks"]["cluster"]: issuer.port for jwt in document["authentication"]["jwt"]}
    gateway = start_gateway(document, clusters=clusters)
    endpoint = stack.endpoint_path(document)
    assert gateway.send(Post(PING.body, PING.headers, target=endpoint)).status == 401


# --- Reasons ----------------------------------------------------------------------------------------------------------

#: What is sent, with which scopes (None: no token), and the reason that logs and metrics show for it.
REASONS: dict[str, tuple[Post, tuple[str, ...] | None, str]] = {
    "allow.permitted": (PING, (), "via_upstream"),
    "deny.no_token": (PING, None, "no_token"),
    "deny.insufficient_scope": (messages.call("send_message"), (), "insufficient_scope"),
    "deny.no_rule": (messages.call("unheard_of"), (), "no_rule"),
    "deny.scope_refused": (PING, ("root",), "scope_refused"),
    "deny.parse_error": (PING.with_body(b"{"), (), "parse_error"),
    "deny.header_mismatch": (PING.without("mcp-name"), (), "header_mismatch"),
    "deny.media_type": (PING.without("content-type"), (), "media_type"),
    "deny.unknown_path": (Post(b"", (), "GET", "/admin?access_token=secret-in-query"), (), "unknown_path"),
    "deny.origin_not_allowed": (PING.with_headers(("Origin", "https://evil.example")), (), "origin_not_allowed"),
    "serve.resource_metadata": (
        Post(b"", (), "GET", "/.well-known/oauth-protected-resource"),
        None,
        "resource_metadata",
    ),
}


def test_metrics_and_access_log_give_the_same_reason(start_gateway: NewGateway, issuer: Issuer) -> None:
    gateway = start_gateway(policy(issuer, resource={"uri": "https://log.example/mcp"}), issuer)
    lines = len(gateway.logged(1))
    for decision, (post, scopes, _) in REASONS.items():
        token = None if scopes is None else issuer.token(*scopes, aud="https://log.example/mcp")
        with gateway.deciding() as decided:
            gateway.send(post, token)
        assert decided == {decision: 1}
    logged = gateway.logged(lines + len(REASONS))[lines:]
    assert [line["details"] for line in logged] == [details for _, _, details in REASONS.values()]
    assert [line["path"] for line in logged if "secret" in json.dumps(line)] == []


def test_prometheus_gets_verdict_and_reason_as_labels(gateway: Gateway, issuer: Issuer) -> None:
    assert gateway.send(messages.call("unheard_of"), issuer.token()).status == 403
    lines = gateway.envoy.admin("/stats/prometheus").splitlines()
    found = [line for line in lines if line.startswith("toolgate_decisions{")]
    assert any('toolgate_verdict="deny"' in line and 'toolgate_reason="no_rule"' in line for line in found), found


def test_fetches_of_keys_are_counted(start_gateway: NewGateway, envoy: Envoy) -> None:
    good, bad = Issuer(), Issuer()
    bad.down()
    names = [f"wasmcustom.toolgate.jwks.{name}" for name in ("callouts", "fetch_success", "fetch_failure")]

    def counts() -> list[int]:
        return [envoy.counters().get(name, 0) for name in names]

    before = counts()
    gateway = start_gateway(policy(good, bad), good, bad)
    assert gateway.send(PING, good.token()).status == 200
    assert gateway.send(PING, bad.token()).status == 503
    callouts, successes, failures = (now - then for now, then in zip(counts(), before, strict=True))
    assert successes == 1
    assert failures >= 1
    assert callouts == successes + failures
    ages = envoy.counters("^wasmcustom\\.toolgate\\.jwks\\.age_seconds")
    assert ages and all(0 <= age < 600 for age in ages.values())


def test_an_upstream_that_wants_another_token_is_counted(gateway: Gateway, issuer: Issuer, envoy: Envoy) -> None:
    name = "wasmcustom.toolgate.upstream.refused"
    before = envoy.counters().get(name, 0)
    with gateway.upstream.replying(lambda _, connection: connection.sendall(UNAUTHORIZED)):
        assert gateway.send(PING, issuer.token()).status == 502
    assert envoy.counters()[name] == before + 1


UNAUTHORIZED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"

# --- Logs -------------------------------------------------------------------------------------------------------------


def test_a_policy_that_loads_says_so_with_its_digest(start_gateway: NewGateway, envoy: Envoy, issuer: Issuer) -> None:
    """Anyone can compute the digest: SHA-256 of the document in JSON with sorted members and no blanks."""
    document = policy(issuer, resource={"uri": "https://digest.example/mcp"})
    start_gateway(document, issuer)
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    lines = [line for line in envoy.log.splitlines() if f"sha256:{digest}" in line]
    # One for each worker, and those of the main thread, which checks a policy before the workers get it.
    assert 3 <= len(lines) <= 4, lines
    for fact in ("https://digest.example/mcp", "1 issuers", f"{len(document['rules'])} rules", "anything else denied"):
        assert all(fact in line for line in lines), fact


@pytest.fixture
def talkative(envoy: Envoy) -> Iterator[Envoy]:
    """The most that the filter and its host ever say."""
    envoy.admin("/logging?wasm=trace", "POST")
    yield envoy
    envoy.admin("/logging?wasm=info", "POST")


def test_no_log_line_holds_a_credential_or_an_argument(
    start_gateway: NewGateway, talkative: Envoy, issuer: Issuer
) -> None:
    audience = "https://quiet.example/mcp"
    gateway = start_gateway(policy(issuer, resource={"uri": audience}), issuer)
    seen = len(talkative.log)
    good = issuer.token("messages:write", aud=audience)
    forged = issuer.token(aud=audience, key=Key.generate("ES256", "forged-kid"))
    expired = issuer.token(aud=audience, iat=1, exp=2)
    wordy = messages.call("send_message", {"text": "argument-secret"}).with_headers(("Cookie", "cookie-secret"))
    for token in (good, forged, expired, "opaque-secret", None):
        gateway.send(wordy, token)
    gateway.send(wordy.with_body(b'{"argument-secret'), good)
    gateway.send(Post(wordy.body, wordy.headers, target="/mcp?access_token=query-secret"), None)
    request(gateway.port, "POST", "/mcp", [("Authorization", "Basic basic-secret"), ("Origin", "https://o.example")])
    said = talkative.log[seen:] + gateway.access_log.read_text()
    assert "proxy_on_request_headers" in said or len(said) > 1000, "nothing was logged, so nothing was tested"
    secrets = [good, forged, expired, *(part for token in (good, forged) for part in token.split(".")[1:])]
    for secret in (*secrets, "argument-secret", "cookie-secret", "opaque-secret", "query-secret", "basic-secret"):
        assert secret not in said


def test_the_answers_of_the_gateway_are_not_cached(gateway: Gateway, issuer: Issuer) -> None:
    for response in (gateway.send(PING), gateway.send(messages.call("send_message"), issuer.token())):
        assert response.header("cache-control") == "no-store"

"""Tokens of a certified implementation that has nothing to do with this project: the npm package `oidc-provider`."""

import base64
import json
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import stack

from conftest import NewGateway
from support import messages
from support.gateway import Gateway
from support.issuer import RESOURCE
from support.policy import policy

ALGORITHMS = ("RS256", "ES256", "EdDSA")
MODULES = stack.ROOT / "target" / "node" / "node_modules"
SCOPES = "contacts:read messages:write"


@dataclass(frozen=True)
class Provider:
    """The running authorization server, and a gateway that trusts it."""

    issuer: str
    gateway: Gateway

    def token(self, alg: str, scope: str = SCOPES, resource: str = RESOURCE) -> str:
        """A token of the client that signs with this algorithm."""
        with urllib.request.urlopen(f"{self.issuer}/.well-known/openid-configuration", timeout=10) as answer:
            endpoint = json.load(answer)["token_endpoint"]
        form = urllib.parse.urlencode(
            {"grant_type": "client_credentials", "scope": scope, "resource": resource}
        ).encode()
        credentials = ":".join(map(urllib.parse.quote_plus, (alg, f"secret of {alg}")))
        basic = base64.b64encode(credentials.encode()).decode()
        request = urllib.request.Request(endpoint, form, {"Authorization": f"Basic {basic}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            token: str = json.load(answer)["access_token"]
            return token


@pytest.fixture(scope="module")
def provider(start_gateway: NewGateway) -> Iterator[Provider]:
    assert (MODULES / "oidc-provider").is_dir(), "oidc-provider is missing: run scripts/node-env"
    script = Path(__file__).parent / "oidc" / "provider.mjs"
    process = subprocess.Popen(
        ["node", "--no-warnings", str(script), str(MODULES), RESOURCE, SCOPES],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout and process.stderr
    errors: list[str] = []
    threading.Thread(target=lambda: errors.extend(process.stderr or ()), daemon=True).start()
    try:
        line = process.stdout.readline()
        assert line, f"the provider did not start: {''.join(errors)}"
        started = json.loads(line)
        document = {
            "issuer": started["issuer"],
            "jwks": {"cluster": "oidc-provider", "path": "/jwks"},
            "algorithms": list(ALGORITHMS),
        }
        gateway = start_gateway(policy(document), clusters={"oidc-provider": started["port"]})
        yield Provider(started["issuer"], gateway)
    finally:
        process.terminate()
        process.communicate(timeout=10)


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_its_tokens_are_accepted(provider: Provider, alg: str) -> None:
    gateway = provider.gateway
    gateway.upstream.forget()
    assert gateway.send(messages.call("send_message"), provider.token(alg)).status == 200
    request = gateway.upstream.only()
    assert request.header("x-toolgate-issuer") == provider.issuer
    assert request.header("x-toolgate-client") == alg
    assert request.header("x-toolgate-scopes") == SCOPES


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_its_tokens_for_another_resource_are_refused(provider: Provider, alg: str) -> None:
    provider.gateway.upstream.forget()
    elsewhere = provider.token(alg, resource="https://other.example/mcp")
    response = provider.gateway.send(messages.call("ping"), elsewhere)
    assert (response.status, response.challenge()["error"]) == (401, "invalid_token")
    assert provider.gateway.upstream.saw_nothing()


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_its_tokens_with_fewer_scopes_are_asked_for_more(provider: Provider, alg: str) -> None:
    response = provider.gateway.send(messages.call("send_message"), provider.token(alg, scope="contacts:read"))
    assert (response.status, response.challenge()["scope"]) == (403, "messages:write contacts:read")

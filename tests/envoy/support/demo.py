"""The demo around a gateway of the tests: its policy, its servers and its identity provider, on free ports."""

import base64
import json
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import run
import stack
from stack import LOOPBACK, Address, Ports, Stack

from .approval_service import cluster_of
from .gateway import Gateway, free_port
from .policy import Policy

TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"


@dataclass(frozen=True)
class Demo:
    """The demo's parts."""

    gateway: Gateway
    url: str
    issuer: str
    clients: dict[str, dict[str, Any]]
    description: dict[str, Any]
    """What `make run` writes into demo.json."""

    def token(self, client: str, **form: str) -> str:
        """A token of a client, asked for as any client would."""
        registration = self.clients[client]
        fields = {"grant_type": "client_credentials", "resource": self.url} | form
        answer = post_form(f"{self.issuer}/token", fields, registration["client_id"], registration["client_secret"])
        token: str = answer["access_token"]
        return token

    def login(self, person: str, **signed_in: str) -> dict[str, Any]:
        """A login of a person, such as `login("scheduler", acr="mfa")`; no access token yet."""
        return post_form(f"{self.issuer}/dev/login", {"person": person, **signed_in}, "", "")

    def token_for(self, person: str, client: str, login: dict[str, Any] | None = None, **form: str) -> str:
        """A token of a person who uses a client, by token exchange (RFC 8693)."""
        login = login or self.login(person)
        subject = {name: str(login[name]) for name in ("subject_token", "subject_token_type")}
        return self.token(client, grant_type=TOKEN_EXCHANGE, **subject, **form)


@contextmanager
def run_demo(
    start_gateway: Callable[..., Gateway], directory: Path, change: Callable[[Policy], None] = lambda policy: None
) -> Iterator[Demo]:
    """All servers of the demo, and a gateway in front, whose policy may be changed first. It holds no requests."""
    ports = Ports(*(free_port() for _ in range(5)))
    policy = stack.policy_for_ports(stack.load_document(stack.DEMO_POLICY), ports)
    # Several demos share an Envoy.
    policy["approval"] |= {"hold": "0s", "cluster": f"approvals-{ports.approvals}"}
    with Stack(directory) as children:
        policy = stack.with_decision_key(policy, stack.new_decision_key(directory))
        change(policy)
        children.start("identity-provider", stack.identity_provider_command(ports, stack.resource_uri(policy)))
        children.start("mcp-server", stack.mcp_server_command(ports))
        for port in (ports.identity_provider, ports.mcp_server):
            children.wait_until("servers listen", partial(stack.listening, Address(LOOPBACK, port)))
        gateway = start_gateway(
            policy,
            port=ports.gateway,
            upstream_port=ports.mcp_server,
            clusters={"idp": ports.identity_provider},
        )
        start_approvals(children, gateway, policy, ports)
        told = run.describe(policy, ports, directory)
        yield Demo(gateway, told["mcp_url"], told["issuer"], told["clients"], told)


def helper(demo: Demo, directory: Path, *arguments: str) -> tuple[int, str]:
    """Exit status and output of demo/as.py, which newcomers are given."""
    command = [
        sys.executable,
        str(stack.ROOT / "demo" / "as.py"),
        *arguments,
        "--demo",
        str(described(demo, directory)),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return ended.returncode, ended.stdout + ended.stderr


def described(demo: Demo, directory: Path) -> Path:
    """A demo.json as `make run` writes it."""
    description = directory / "demo.json"
    description.write_text(json.dumps(demo.description))
    return description


def start_approvals(children: Stack, gateway: Gateway, policy: Policy, ports: Ports) -> None:
    """The approval service, which knows the gateway by the token that its Envoy has, and its cluster."""
    gateway.envoy.put(None, [cluster_of(policy["approval"]["cluster"], ports.approvals)])
    variables = stack.approvals_variables(gateway.envoy.approval_token, children.directory)
    children.start("approvals", stack.approvals_command(policy, ports, children.directory), variables)
    ready = f"{ports.approvals_url}/readyz"
    children.wait_until("the approval service is ready", lambda: stack.http_status(ready) == 200)


def post_form(url: str, fields: dict[str, str], user: str, password: str) -> dict[str, Any]:
    """A form with client credentials, RFC 6749 section 2.3.1."""
    credentials = base64.b64encode(f"{user}:{password}".encode()).decode()
    body = urllib.parse.urlencode(fields).encode()
    asked = urllib.request.Request(url, body, {"Authorization": f"Basic {credentials}"})
    with urllib.request.urlopen(asked, timeout=10) as answer:
        return dict(json.load(answer))


def get_json(url: str) -> dict[str, Any]:
    """A JSON object that anybody may read."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return dict(json.load(answer))

"""Toolgate's own service does what the contract says; people decide with access tokens, over its API for approvers."""

import json
import os
import secrets
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from contract_suite import *  # noqa: F403
from joserfc import jwt
from joserfc.jwk import OKPKey

ROOT = Path(__file__).parent.parent.parent
#: Where builds put it; TOOLGATE_APPROVALS_BIN names another one.
PLACES = [ROOT / "target" / profile / "toolgate-approvals" for profile in ("cli", "release", "debug")]

AUDIENCE, ISSUER = "https://mcp.example/mcp", "https://approvals.example"
CLIENT = "approvals-cli"


class IdentityProvider:
    """Knows everybody, and gives them the roles that a test wants."""

    def __init__(self) -> None:
        self.key = OKPKey.generate_key("Ed25519", {"kid": "idp", "alg": "EdDSA", "use": "sig"})
        handler = type(
            "Handler",
            (BaseHTTPRequestHandler,),
            {"do_GET": lambda request: self.answer(request), "log_message": lambda *_: None},
        )
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.issuer = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Metadata, or keys."""
        body: dict[str, Any] = {"keys": [self.key.as_dict(private=False)]}
        if request.path == "/.well-known/openid-configuration":
            body = {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/jwks",
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["EdDSA"],
            }
        text = json.dumps(body).encode()
        request.send_response(200)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(text)))
        request.end_headers()
        request.wfile.write(text)

    def token(self, subject: str, roles: list[str]) -> str:
        """An access token (RFC 9068)."""
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": ISSUER, "sub": subject, "client_id": CLIENT, "roles": roles}
        claims |= {"iat": now, "exp": now + 300, "jti": secrets.token_urlsafe(8)}
        return jwt.encode({"alg": "EdDSA", "typ": "at+jwt", "kid": "idp"}, claims, self.key, algorithms=["EdDSA"])


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    provider = IdentityProvider()
    yield provider
    provider.server.shutdown()
    provider.server.server_close()


@pytest.fixture(scope="module")
def running(provider: IdentityProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    named = os.environ.get("TOOLGATE_APPROVALS_BIN")
    binary = Path(named) if named else next((place for place in PLACES if place.exists()), None)
    assert binary, "make approvals builds the service"
    directory, token, port = tmp_path_factory.mktemp("service"), secrets.token_urlsafe(48), free_port()
    subprocess.run([binary, "keygen", "--out", "a1.pem"], cwd=directory, check=True, capture_output=True)
    config = {
        "listen": f"127.0.0.1:{port}",
        "public_url": ISSUER,
        "database": "sqlite:approvals.db",
        "signing_keys": [{"kid": "a1", "file": "a1.pem"}],
        "gateways": [{"name": "edge", "token_env": "TOOLGATE_APPROVAL_TOKEN", "audiences": [AUDIENCE]}],
        "sign_in": {"issuer": provider.issuer, "client_id": "approvals"},
        "approver_tokens": {"audience": ISSUER, "clients": [CLIENT]},
    }
    (directory / "approvals.yaml").write_text(json.dumps(config))
    variables = {"TOOLGATE_APPROVAL_TOKEN": token, "APPROVALS_SESSION_KEY": secrets.token_urlsafe(48)}
    log = (directory / "log").open("w")
    command = [str(binary), "serve", "--config", "approvals.yaml"]
    process = subprocess.Popen(command, cwd=directory, env=os.environ | variables, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"

    def decide(identifier: str, decision: str, subject: str, roles: list[str], reason: str = "") -> None:
        body = {"decision": decision} | ({"reason": reason} if reason else {})
        headers = {"authorization": f"Bearer {provider.token(subject, roles)}", "content-type": "application/json"}
        target = f"{url}/v1/inbox/{identifier}/decision"
        request = urllib.request.Request(target, json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                assert_is("View", json.load(response))
        except urllib.error.HTTPError as error:
            with error:
                answer = Answer(
                    error.code, {name.lower(): value for name, value in error.headers.items()}, error.read()
                )
            assert answer.status in (403, 404, 409, 422), answer
            answer.problem(answer.status)

    wait_until_ready(url, process, directory / "log")
    yield Service(url, AUDIENCE, ISSUER, token, decide, settles_in=0.2)
    process.terminate()
    assert process.wait(20) == 0, (directory / "log").read_text()
    log.close()


def free_port() -> int:
    """A port that nobody listens at."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        return server.server_port


def wait_until_ready(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    process.kill()
    pytest.fail(f"the service does not start: {log.read_text()}")


@pytest.fixture
def service(running: Service) -> Service:
    return running


def inbox(service: Service, provider: IdentityProvider, path: str, subject: str, roles: list[str]) -> Answer:
    """What a person is shown."""
    return service.send("GET", f"/v1/inbox{path}", token=provider.token(subject, roles))


def test_an_approver_is_shown_what_waits(service: Service, provider: IdentityProvider) -> None:
    request, approval = service.pending()
    listed = inbox(service, provider, "?state=pending&limit=100", "carol", [ROLE])
    assert listed.status == 200
    assert_is("Inbox", listed.json)
    [view] = [view for view in listed.json["approvals"] if view["id"] == approval["id"]]
    assert view["may_decide"]
    shown = inbox(service, provider, f"/{approval['id']}", "carol", [ROLE])
    assert_is("View", shown.json)
    assert (shown.json["call"], shown.json["requester"]) == (request["call"], request["requester"])
    assert [event["event"] for event in shown.json["history"]] == ["created"]


def test_pages_are_followed_to_the_end(service: Service, provider: IdentityProvider) -> None:
    created = {service.pending()[1]["id"] for _ in range(5)}
    found, query = set(), "?limit=2"
    while True:
        page = inbox(service, provider, query, "carol", [ROLE]).json
        assert_is("Inbox", page)
        found |= {view["id"] for view in page["approvals"]}
        if page.get("next") is None or created <= found:
            break
        query = f"?limit=2&before={page['next']}"
    assert created <= found


def test_others_are_shown_nothing(service: Service, provider: IdentityProvider) -> None:
    _, approval = service.pending()
    inbox(service, provider, f"/{approval['id']}", "dora", ["other_role"]).problem(404, "not_found")
    inbox(service, provider, "/unknown", "carol", [ROLE]).problem(404, "not_found")
    service.send("GET", "/v1/inbox", token=None).problem(401)
    service.send("GET", "/v1/inbox", token=service.token).problem(401)
    # The tokens of people are none of gateways.
    token = provider.token("carol", [ROLE])
    service.send("GET", f"/v1/approvals/{approval['id']}?binding={approval['binding']}", token=token).problem(401)


def test_metrics_are_text(service: Service) -> None:
    answer = service.send("GET", "/metrics", token=None)
    assert answer.status == 200
    assert b"toolgate_approvals_" in answer.text

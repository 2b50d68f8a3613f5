"""Sessions are bound to the caller that began them: by a seal, so that any worker and any Envoy with the key can tell.

MCP 2025-11-25, security best practices: session hijacking.
"""

import asyncio
import base64
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
import stack
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from stack import LOOPBACK, Address, Ports, Stack

from conftest import NewGateway
from support import http1, messages, recorder
from support.gateway import Adjust, Document, Envoy, Gateway, free_port, plugin_of
from support.http1 import Response
from support.issuer import Issuer
from support.messages import STATELESS, Post
from support.policy import policy
from support.recorder import Recorder

METHODS = ("POST", "GET", "DELETE")
UPSTREAM_ID = "3f2c9a6e-the-servers-own"
RESULT = json.dumps({"jsonrpc": "2.0", "id": 1, "result": {}}).encode()
HEADER = "mcp-session-id"


def naming(*sessions: str) -> recorder.Reply:
    """An answer of a server that names these sessions."""
    lines = "".join(f"Mcp-Session-Id: {session}\r\n" for session in sessions)
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(RESULT)}\r\n{lines}\r\n"
    return lambda _, connection: connection.sendall(head.encode() + RESULT)


def begin(gateway: Gateway, token: str, upstream_id: str = UPSTREAM_ID) -> str:
    """Begins a session, and forgets the server's part in it."""
    with gateway.upstream.replying(naming(upstream_id)):
        session = gateway.send(messages.initialize(), token).header(HEADER)
    assert session and session.isascii() and session.isprintable()
    gateway.upstream.forget()
    return session


def within(session: str, method: str = "POST") -> Post:
    """A request of a revision with sessions."""
    version = ("MCP-Protocol-Version", "2025-11-25")
    if method == "POST":
        return messages.handshake("tools/call", {"name": "ping"}).with_headers((HEADER, session))
    return Post(b"", (("Accept", "text/event-stream"), version, (HEADER, session)), method)


def assert_refused(gateway: Gateway, session: str, token: str, reason: str) -> None:
    """No method gets in with this session, and nothing tells why not."""
    for method in METHODS:
        with gateway.deciding() as decided:
            response = gateway.send(within(session, method), token)
        assert decided == {f"deny.{reason}": 1}, method
        assert response.status == 404
        assert response.json() == {"jsonrpc": "2.0", "error": {"code": -32600, "message": "Session not found"}}
        assert response.header(HEADER) is None
    assert gateway.upstream.saw_nothing()


def assert_open(gateway: Gateway, session: str, token: str, upstream_id: str = UPSTREAM_ID) -> None:
    """Every method gets in, and the server sees its own session."""
    gateway.upstream.forget()
    for method in METHODS:
        assert gateway.send(within(session, method), token).status == 200, method
    seen = gateway.upstream.wait_for(len(METHODS))
    assert [(request.method, request.header(HEADER)) for request in seen] == [(each, upstream_id) for each in METHODS]
    gateway.upstream.forget()


#: Seals the records of modules with an environment of their own.
AUDIT_KEY = stack.new_key()


def environment(**variables: str) -> Adjust:
    """Gives the module these variables, and no others but a key for its records."""

    def adjust(listener: Document) -> None:
        plugin_of(listener)["vm_config"]["environment_variables"] = {"key_values": {stack.AUDIT_KEY: AUDIT_KEY, **variables}}

    return adjust


def keys(*ids: str) -> dict[str, object]:
    """A `sessions` section: the key `a` is in the variable KEY_A."""
    return {"keys": [{"id": each, "env": f"KEY_{each.upper()}"} for each in ids]}


@pytest.fixture
def alice(issuer: Issuer) -> str:
    """A token of the person whose session it is."""
    return issuer.token()


# --- The session's own caller -----------------------------------------------------------------------------------------


def test_the_server_sees_its_own_identifier_and_the_client_another(gateway: Gateway, alice: str) -> None:
    session = begin(gateway, alice)
    assert session.startswith("tg1.k1.") and UPSTREAM_ID not in session
    assert_open(gateway, session, alice)
    for method in METHODS:
        with gateway.upstream.replying(naming(UPSTREAM_ID)):
            assert gateway.send(within(session, method), alice).header(HEADER) == session
        with gateway.upstream.replying(naming("another-session")):
            assert gateway.send(within(session, method), alice).header(HEADER) is None


def test_another_token_of_the_same_person_and_client_goes_on(gateway: Gateway, issuer: Issuer, alice: str) -> None:
    session = begin(gateway, alice)
    assert_open(gateway, session, issuer.token("crm:write", lifetime=60, jti="another"))


def test_sessions_work_over_http2(gateway: Gateway, upstream: Recorder, alice: str) -> None:
    with upstream.replying(naming(UPSTREAM_ID)):
        session = gateway.send2(messages.initialize(), alice).header(HEADER)
    assert session and session.startswith("tg1.")
    upstream.forget()
    assert gateway.send2(within(session), alice).status == 200
    assert upstream.only().header(HEADER) == UPSTREAM_ID


def test_every_session_header_that_goes_upstream_is_the_gateways_own(gateway: Gateway, alice: str) -> None:
    session = begin(gateway, alice)
    # Envoy itself refuses underscores.
    disguises = ("mcp.session.id", "Mcp-Session.Id")
    request = within(session).with_headers(*((name, "forged") for name in disguises))
    assert gateway.send(request, alice).status == 200
    seen = [(name, value) for name, value in gateway.upstream.only().headers if "session" in name]
    assert seen == [(HEADER, UPSTREAM_ID.encode())]


def test_in_the_stateless_revision_no_session_goes_up_or_comes_back(
    gateway: Gateway, upstream: Recorder, alice: str
) -> None:
    session = begin(gateway, alice)
    for sent in (session, UPSTREAM_ID, "x"):
        for named in (session, UPSTREAM_ID):
            with upstream.replying(naming(named)):
                request = messages.call("ping", revision=STATELESS).with_headers((HEADER, sent))
                response = gateway.send(request, alice)
            assert (response.status, response.header(HEADER)) == (200, None)
    assert not any(request.all(HEADER) for request in upstream.requests)


def test_only_the_handshake_begins_a_session(gateway: Gateway, upstream: Recorder, alice: str) -> None:
    with upstream.replying(naming(UPSTREAM_ID)):
        for method in METHODS:
            request = within("", method).without(HEADER)
            response = gateway.send(request, alice)
            assert (response.status, response.header(HEADER)) == (200, None), method


# --- Everybody else ---------------------------------------------------------------------------------------------------

OTHERS: dict[str, dict[str, object]] = {
    "another-person": {"sub": "mallory"},
    "another-client": {"client_id": "another-client"},
    "no-client": {"client_id": None},
    "another-tenant": {"tenant_id": "globex"},
    "the-client-as-person": {"sub": "test-client", "client_id": "alice"},
}


@pytest.mark.parametrize("claims", OTHERS.values(), ids=OTHERS)
def test_a_stolen_session_is_refused(
    gateway: Gateway, issuer: Issuer, alice: str, claims: dict[str, object]
) -> None:
    session = begin(gateway, alice)
    thief = issuer.token(**claims)  # type: ignore[arg-type]
    assert_refused(gateway, session, thief, "session_not_bound")
    # Without it the same token is as good as any.
    for method in METHODS:
        assert gateway.send(within(session, method).without(HEADER), thief).status == 200
    assert_open(gateway, session, alice)


def test_a_session_is_no_credential(gateway: Gateway, issuer: Issuer, alice: str) -> None:
    session = begin(gateway, alice)
    for method in METHODS:
        assert gateway.send(within(session, method)).status == 401
        assert gateway.send(within(session, method), issuer.token(lifetime=-60)).status == 401
    denied = messages.handshake("tools/call", {"name": "read_contact"}).with_headers((HEADER, session))
    assert gateway.send(denied, alice).status == 403
    assert gateway.upstream.saw_nothing()


def test_another_issuers_person_of_the_same_name_is_another_person(start_gateway: NewGateway, issuer: Issuer) -> None:
    partner = Issuer()
    gateway = start_gateway(policy(issuer, partner), issuer, partner)
    session = begin(gateway, issuer.token())
    assert_refused(gateway, session, partner.token(), "session_not_bound")
    assert_open(gateway, session, issuer.token())


def test_a_session_belongs_to_one_resource(start_gateway: NewGateway, gateway: Gateway, issuer: Issuer) -> None:
    """Two gateways with one key, and a token that is good for both."""
    resource = "https://other.norg.example/mcp"
    audiences = ["https://mcp.norg.example/mcp"]
    other = start_gateway(policy(issuer.document(audiences=audiences), resource={"uri": resource}), issuer)
    session = begin(gateway, issuer.token())
    assert other.send(within(session).without(HEADER), issuer.token()).status == 200
    other.upstream.forget()
    assert_refused(other, session, issuer.token(), "session_not_bound")


def test_what_is_not_the_gateways_seal_is_refused(gateway: Gateway, alice: str) -> None:
    session = begin(gateway, alice)
    mark, key_id, payload, mac = session.split(".")
    other = "A" if mac[0] != "A" else "B"
    malformed = [UPSTREAM_ID, "x", session[:-1], session[1:], f"{session}.", f"{mark}.{key_id}.{payload}", "a" * 5000]
    changed = [
        f"{mark}.{key_id}.{payload}.{other}{mac[1:]}",
        f"{mark}.{key_id}.{payload[:-4]}AAAA.{mac}",
        f"{mark}.{key_id}.{payload}AAAA.{mac}",
    ]
    for wrong in malformed:
        assert_refused(gateway, wrong, alice, "session_malformed")
    for wrong in changed:
        assert_refused(gateway, wrong, alice, "session_not_bound")
    assert_refused(gateway, f"{mark}.k2.{payload}.{mac}", alice, "session_unknown_key")
    assert_open(gateway, session, alice)


def test_a_forged_seal_is_refused_on_every_worker(gateway: Gateway, issuer: Issuer, alice: str) -> None:
    """Each request comes on a connection of its own, so that all workers get some."""
    session, thief = begin(gateway, alice), issuer.token(sub="mallory")
    for _ in range(20):
        assert gateway.send(within(session), alice).status == 200
        assert gateway.send(within(session), thief).status == 404


# --- Time and keys ----------------------------------------------------------------------------------------------------


def test_a_session_expires(start_gateway: NewGateway, issuer: Issuer, alice: str) -> None:
    gateway = start_gateway(policy(issuer, sessions={"max_age": "2s"}), issuer)
    session = begin(gateway, alice)
    assert_open(gateway, session, alice)
    time.sleep(3.1)
    assert_refused(gateway, session, alice, "session_expired")
    assert_open(gateway, begin(gateway, alice), alice)


@pytest.fixture(scope="module")
def second(envoy: Envoy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Envoy]:
    """Another Envoy with the same key."""
    with Envoy(tmp_path_factory.mktemp("second-envoy"), envoy.session_key) as running:
        yield running


def test_two_envoys_with_one_key_share_sessions(
    gateway: Gateway, second: Envoy, issuer: Issuer, alice: str
) -> None:
    replica = Gateway(second, policy(issuer), gateway.upstream, free_port(), (issuer,))
    replica.load()
    for one, other in ((gateway, replica), (replica, gateway)):
        session = begin(one, alice)
        assert_open(other, session, alice)
        assert_refused(other, session, issuer.token(sub="mallory"), "session_not_bound")


def test_a_gateway_with_another_key_shares_no_sessions(
    start_gateway: NewGateway, gateway: Gateway, issuer: Issuer, alice: str
) -> None:
    elsewhere = environment(TOOLGATE_SESSION_KEY=stack.new_key())
    stranger = start_gateway(policy(issuer), issuer, adjust=elsewhere)
    assert_refused(stranger, begin(gateway, alice), alice, "session_not_bound")
    assert_refused(gateway, begin(stranger, alice), alice, "session_not_bound")


def test_keys_rotate_while_sessions_go_on(start_gateway: NewGateway, issuer: Issuer, alice: str) -> None:
    variables = environment(KEY_OLD=stack.new_key(), KEY_NEW=stack.new_key())
    gateway = start_gateway(policy(issuer, sessions=keys("old")), issuer, adjust=variables)
    first = begin(gateway, alice)
    assert first.startswith("tg1.old.")

    load(gateway, policy(issuer, sessions=keys("new", "old")), lambda: begin(gateway, alice).startswith("tg1.new."))
    second = begin(gateway, alice)
    assert_open(gateway, first, alice)
    assert_open(gateway, second, alice)

    load(gateway, policy(issuer, sessions=keys("new")), lambda: gateway.send(within(first), alice).status == 404)
    gateway.upstream.forget()
    assert_refused(gateway, first, alice, "session_unknown_key")
    assert_open(gateway, second, alice)


def load(gateway: Gateway, document: Document, is_in_force: Callable[[], bool]) -> None:
    """Gives the gateway another policy and waits until it decides by it: workers take it one after the other."""
    gateway.load(document)
    gateway.envoy.wait_until("the policy is in force", lambda: all(is_in_force() for _ in range(10)))


def test_without_a_key_no_session_begins(
    start_gateway: NewGateway, envoy: Envoy, gateway: Gateway, issuer: Issuer, alice: str
) -> None:
    keyless = start_gateway(policy(issuer), issuer, adjust=environment(OTHER="x"))
    for _ in range(3):
        with keyless.upstream.replying(naming(UPSTREAM_ID)):
            response = keyless.send(messages.initialize(), alice)
        assert (response.status, response.error()["code"]) == (502, -33003)
        assert response.header(HEADER) is None
        assert UPSTREAM_ID.encode() not in response.body
    assert keyless.logged(3)[-1]["details"] == "session_key_missing"
    assert envoy.counters()["wasmcustom.toolgate.upstream.session_key_missing"] >= 3
    lines = [line for line in envoy.log.splitlines() if "toolgate: session_key_missing" in line]
    # Once for each worker.
    assert 1 <= len(lines) <= 2, lines
    assert "TOOLGATE_SESSION_KEY" in lines[0] and "openssl rand -base64 32" in lines[0]
    keyless.upstream.forget()
    assert_refused(keyless, begin(gateway, alice), alice, "session_unknown_key")
    assert_refused(keyless, UPSTREAM_ID, alice, "session_malformed")
    # A server without sessions does not need one.
    assert keyless.send(messages.initialize(), alice).status == 200
    assert keyless.send(messages.handshake("tools/list"), alice).status == 200


@pytest.mark.parametrize("named", [("a", "b"), ("a b",), ("x" * 2049,)], ids=["repeated", "blank", "too-long"])
def test_a_server_with_unusable_identifiers_is_told_so(
    gateway: Gateway, upstream: Recorder, alice: str, named: tuple[str, ...]
) -> None:
    with upstream.replying(naming(*named)):
        response = gateway.send(messages.initialize(), alice)
    assert (response.status, response.header(HEADER)) == (502, None)


def test_the_longest_identifier_of_a_server_fits(gateway: Gateway, alice: str) -> None:
    longest = "~" * 2048
    assert_open(gateway, begin(gateway, alice, longest), alice, longest)


SHORT = base64.b64encode(b"x" * 31).decode()
#: The variable in Envoy's environment, the policy's `sessions`, and what Envoy says about them; None if it takes them.
ENVIRONMENTS: dict[str, tuple[str | None, Document | None, str | None]] = {
    "set": (stack.new_key(), None, None),
    "set-and-named": (stack.new_key(), {"keys": [{"id": "k1", "env": stack.SESSION_KEY}]}, None),
    "not-set": (None, None, None),
    "not-set-but-named": (None, {"keys": [{"id": "k1", "env": stack.SESSION_KEY}]}, "is not set"),
    "not-set-but-asked-for": (None, {"max_age": "1h"}, "is not set"),
    "not-base64": ("change me!", None, "is not base64"),
    "too-short": (SHORT, None, "has fewer than 32 bytes"),
}


@pytest.mark.parametrize(("key", "sessions", "problem"), ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_a_key_that_cannot_be_used_does_not_load(
    issuer: Issuer, tmp_path: Path, key: str | None, sessions: Document | None, problem: str | None
) -> None:
    """Envoy hands the variable on as the reference configuration says, and loads the policy or does not start."""
    document = policy(issuer, **({"sessions": sessions} if sessions else {}))
    logs = {"access_log": tmp_path / "access.log", "audit_log": tmp_path / "audit.log"}
    config = stack.render_envoy_config(document, Ports(), **logs)
    stack.named(config["static_resources"]["clusters"], "idp")["name"] = issuer.cluster
    path = tmp_path / "envoy.yaml"
    path.write_text(stack.dump_document(config))
    variables = {name: value for name, value in os.environ.items() if name != stack.SESSION_KEY}
    variables[stack.AUDIT_KEY] = AUDIT_KEY
    done = subprocess.run(
        [*stack.envoy_command(path), "--mode", "validate"],
        env=variables | ({stack.SESSION_KEY: key} if key is not None else {}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    output = done.stdout + done.stderr
    assert (done.returncode == 0) == (problem is None), output
    assert key is None or key not in output
    if problem:
        assert f"`{stack.SESSION_KEY}` {problem}" in output
        assert "openssl rand -base64 32" in output


def test_the_key_is_in_no_file_and_on_no_page_of_the_admin_interface(envoy: Envoy, common: Gateway) -> None:
    secret = envoy.session_key
    assert common.port
    assert secret not in envoy.admin("/config_dump") + envoy.log
    texts = [path for path in envoy.directory.rglob("*") if path.is_file() and path.suffix != ".wasm"]
    assert texts and not [path for path in texts if secret in path.read_text(errors="replace")]


# --- Real parts -------------------------------------------------------------------------------------------------------


class Observed(httpx2.Auth):
    """A token that is there already; keeps an eye on the sessions."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.sessions: list[str] = []

    def auth_flow(self, request: httpx2.Request) -> Iterator[httpx2.Request]:  # type: ignore[override]
        request.headers["authorization"] = f"Bearer {self.token}"
        if session := request.headers.get(HEADER):
            self.sessions.append(session)
        yield request


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """The demo's MCP server, which has sessions."""
    ports = Ports(mcp_server=free_port())
    with Stack(tmp_path_factory.mktemp("server")) as children:
        children.start("mcp-server", stack.mcp_server_command(ports))
        address = Address(LOOPBACK, ports.mcp_server)
        children.wait_until("the server listens", lambda: stack.listening(address))
        yield address


@pytest.fixture(scope="module")
def real(start_gateway: NewGateway, issuer: Issuer, server: Address) -> Gateway:
    """A gateway in front of it."""
    rules = [{"tools": ["*"], "scopes": []}]
    return start_gateway(policy(issuer, rules=rules), issuer, upstream_port=server.port)


def ask(gateway: Gateway, session: str, token: str, method: str = "POST") -> Response:
    """A request within a session of the real server."""
    request = within(session, method)
    if method == "POST":
        request = messages.handshake("tools/list").with_headers((HEADER, session))
    return gateway.send(request, token)


def test_the_official_client_has_a_session_that_nobody_can_steal(
    real: Gateway, server: Address, issuer: Issuer, alice: str, second: Envoy
) -> None:
    """With a server that really has sessions, in two Envoys."""
    replica = Gateway(second, real.policy, real.upstream, free_port(), (issuer,))
    replica.load()
    observed, thief = Observed(alice), issuer.token(sub="mallory")

    async def steal(session: str) -> None:
        for gateway in (real, replica):
            for method in METHODS:
                refused = await asyncio.to_thread(ask, gateway, session, thief, method)
                assert (refused.status, refused.error()["message"]) == (404, "Session not found"), method
            shared = await asyncio.to_thread(ask, gateway, session, alice)
            assert shared.status == 200 and b"read_contact" in shared.body
        # The server's own identifier is good with the server, and nowhere else.
        own = upstream_id(session)
        direct = Post(messages.handshake("tools/list").body, within(own).headers)
        assert (await asyncio.to_thread(post_directly, server, direct)).status == 200
        for method in METHODS:
            assert (await asyncio.to_thread(ask, real, own, alice, method)).status == 404

    async def main() -> None:
        async with (
            httpx2.AsyncClient(auth=observed, timeout=20) as http,
            Client(
                streamable_http_client(f"http://{LOOPBACK}:{real.port}/mcp", http_client=http), mode="legacy"
            ) as client,
        ):
            assert client.protocol_version == "2025-11-25"
            assert "read_contact" in {tool.name for tool in (await client.list_tools()).tools}
            (session,) = set(observed.sessions)
            assert session.startswith("tg1.k1.")
            await steal(session)
            # The theft that failed has not ended it.
            contact = await client.call_tool("read_contact", {"contact_id": "CT-1001"})
            assert not contact.is_error

    asyncio.run(asyncio.wait_for(main(), 60))
    # The client has ended its session with DELETE: now it is the server that does not know it.
    (session,) = set(observed.sessions)
    with real.deciding() as decided:
        assert ask(real, session, alice).status == 404
    assert decided == {"allow.permitted": 1}


def upstream_id(session: str) -> str:
    """What is in the clear in a sealed identifier: time, capabilities, revision, and the server's own identifier."""
    payload = session.split(".")[2]
    return base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))[10:].decode()


def post_directly(server: Address, request: Post) -> Response:
    """A request that goes past the gateway."""
    return http1.request(server.port, request.method, request.target, request.list(), request.body)

"""When things break: bad policies, changes under load, peers that leave. Nothing gets past, nothing stays behind."""

import copy
import json
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import stack

from conftest import NewGateway
from support import http1, http2, messages, recorder
from support.gateway import Discovered, Envoy, Gateway, bearer, free_port, plugin_of
from support.http1 import head
from support.issuer import Issuer
from support.jose import Key
from support.messages import Post
from support.policy import Policy, policy
from support.recorder import Recorder

PING = messages.call("ping")

# --- Policies that do not load ----------------------------------------------------------------------------------------


def change(*path: str | int, to: Any) -> Callable[[Policy], None]:
    """Sets a field of a policy."""

    def apply(document: Any) -> None:
        for step in path[:-1]:
            document = document[step]
        document[path[-1]] = to

    return apply


#: What is done to a policy, and what Envoy's log must say about where it is wrong.
DEFECTS: dict[str, tuple[Callable[[Policy], None], str]] = {
    "unknown-field": (change("rulez", to=[]), "rulez"),
    "unknown-scope": (change("rules", 2, "scopes", to=["messages:write", "unheard:of"]), "`rules[2].scopes[1]`"),
    "unknown-algorithm": (
        change("authentication", "jwt", 0, "algorithms", to=["none"]),
        "authentication.jwt[0].algorithms[0]",
    ),
    "shared-secret": (
        change("authentication", "jwt", 0, "algorithms", to=["HS256"]),
        "authentication.jwt[0].algorithms[0]",
    ),
    "no-issuer": (change("authentication", "jwt", to=[]), "`authentication.jwt`"),
    "no-key-source": (change("authentication", "jwt", 0, "jwks", to={}), "`authentication.jwt[0].jwks`"),
    "resource-without-scheme": (change("resource", "uri", to="mcp.example/mcp"), "`resource.uri`"),
    "wildcard-origin": (change("protocol", "allowed_origins", to=["*"]), "`protocol.allowed_origins[0]`"),
    "unknown-revision": (change("protocol", "revisions", to=["2024-11-05"]), "protocol.revisions[0]"),
    "body-limit": (change("protocol", "max_request_bytes", to=1 << 30), "`protocol.max_request_bytes`"),
    "circle-of-scopes": (change("scopes", "messages:write", "implies", to=["messages:bulk"]), "implies`"),
    "rule-without-target": (change("rules", 0, to={"scopes": []}), "`rules[0]`"),
    "patterns-in-a-tie": (change("rules", 5, "tools", to=["crm_*", "*_crm"]), "`rules[5].tools[1]`"),
    "lifetime-without-unit": (change("rules", 3, "max_token_lifetime", to="900"), "rules[3].max_token_lifetime"),
    "wrong-version": (change("version", to="toolgate/v2"), "version"),
}


@pytest.fixture(scope="module")
def rough(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Envoy]:
    """An Envoy that may complain: the tests provoke it."""
    with Envoy(tmp_path_factory.mktemp("rough")) as running:
        yield running
        running.forgive()


@pytest.fixture(scope="module")
def own_issuer() -> Issuer:
    return Issuer()


def only_tool(issuer: Issuer, name: str) -> Policy:
    """A policy that allows one tool and nothing else."""
    return policy(issuer, rules=[{"tools": [name], "scopes": []}])


def broken(issuer: Issuer, defect: str, name: str) -> Policy:
    """A bad policy. The host remembers those that it has seen and says nothing a second time; hence the name."""
    document = copy.deepcopy(policy(issuer))
    document["resource"]["name"] = name
    DEFECTS[defect][0](document)
    return document


def complained(envoy: Envoy) -> list[str]:
    """What the filter said about bad policies."""
    return [line for line in envoy.log.splitlines() if "toolgate: policy: " in line]


def complained_again(envoy: Envoy, before: int) -> bool:
    return len(complained(envoy)) > before


@pytest.mark.parametrize("defect", ["unknown-scope", "unknown-field"])
def test_envoy_does_not_start_with_a_bad_policy(tmp_path: Path, own_issuer: Issuer, defect: str) -> None:
    ports = stack.Ports(*(free_port() for _ in range(4)))
    logs = {"access_log": tmp_path / "access.log", "audit_log": tmp_path / "audit.log"}
    config = stack.render_envoy_config(broken(own_issuer, defect, defect), ports, **logs)
    path = tmp_path / "envoy.yaml"
    path.write_text(stack.dump_document(config))
    done = subprocess.run(
        stack.envoy_command(path), cwd=stack.ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert DEFECTS[defect][1] in done.stdout + done.stderr


@pytest.mark.parametrize("way", ["listener", "extension"])
def test_envoy_keeps_the_last_good_policy(rough: Envoy, own_issuer: Issuer, way: str) -> None:
    discovered = Discovered(rough.directory)
    adjust = discovered.adjust if way == "extension" else (lambda listener: None)
    gateway = Gateway(rough, only_tool(own_issuer, "old"), Recorder(), free_port(), (own_issuer,), {}, adjust)
    gateway.load()
    update = discovered.update if way == "extension" else (lambda document: gateway.load(document, wait=False))
    token = own_issuer.token()

    def allowed(tool: str) -> bool:
        status = gateway.send(messages.call(tool), token).status
        assert status in (200, 403), status
        return status == 200

    assert (allowed("old"), allowed("new"), allowed("ping")) == (True, False, False)
    for defect, (_, place) in DEFECTS.items():
        complaints = len(complained(rough))
        update(broken(own_issuer, defect, way))
        rough.wait_until(defect, partial(complained_again, rough, complaints))
        line = complained(rough)[complaints]
        assert place in line, line
        assert (allowed("old"), allowed("ping")) == (True, False), defect
    update(only_tool(own_issuer, "new"))
    rough.wait_until("the good policy is taken", lambda: allowed("new"))
    rough.wait_until("on each worker", lambda: not any(allowed("old") for _ in range(8)))
    rough.forgive()


def test_a_filter_without_a_policy_lets_nothing_through(rough: Envoy, own_issuer: Issuer) -> None:
    def without_policy(listener: dict[str, Any]) -> None:
        del plugin_of(listener)["configuration"]

    gateway = Gateway(rough, policy(own_issuer), Recorder(), free_port(), (own_issuer,), {}, without_policy)
    gateway.load(wait=False)
    rough.wait_until("Envoy complains", lambda: "no policy" in rough.log)
    # Envoy does not take the listener at all.
    assert not stack.listening(stack.Address(stack.LOOPBACK, gateway.port))
    rough.forgive()


# --- Changes under load -----------------------------------------------------------------------------------------------


@dataclass
class Load:
    """Clients that call without a pause, and what they got."""

    statuses: dict[str, set[int]]
    requests: int = 0


@pytest.mark.parametrize("way", ["listener", "extension"])
def test_under_load_every_request_is_judged_by_the_old_policy_or_the_new_one(
    start_gateway: NewGateway, envoy: Envoy, way: str
) -> None:
    issuer = Issuer()
    discovered = Discovered(envoy.directory)
    policies = [only_tool(issuer, name) for name in ("one", "two")]
    adjust = discovered.adjust if way == "extension" else (lambda listener: None)
    gateway = start_gateway(policies[0], issuer, adjust=adjust)
    update = discovered.update if way == "extension" else (lambda document: gateway.load(document, wait=False))
    token, stop = issuer.token(), threading.Event()
    load = Load({"one": set(), "two": set(), "never": set(), "anonymous": set()})

    def call(name: str) -> None:
        while not stop.is_set():
            credential = None if name == "anonymous" else token
            tool = "one" if name == "anonymous" else name
            load.statuses[name].add(gateway.send(messages.call(tool), credential).status)
            load.requests += 1

    with ThreadPoolExecutor(8) as pool:
        callers = [pool.submit(call, name) for name in load.statuses for _ in range(2)]
        try:
            for turn in range(1, 11):
                update(policies[turn % 2])
                time.sleep(0.2)
        finally:
            stop.set()
        for caller in callers:
            caller.result()
    assert load.statuses == {"one": {200, 403}, "two": {200, 403}, "never": {403}, "anonymous": {401}}
    assert {json.loads(request.body)["params"]["name"] for request in gateway.upstream.requests} == {"one", "two"}
    assert load.requests > 200


def test_a_request_that_waits_for_keys_is_answered_though_the_policy_changes(
    start_gateway: NewGateway, envoy: Envoy
) -> None:
    issuer, discovered = Issuer(), Discovered(envoy.directory)
    issuer.gate.clear()
    gateway = start_gateway(only_tool(issuer, "ping"), issuer, adjust=discovered.adjust)
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(gateway.send, PING, issuer.token()) for _ in range(8)]
        time.sleep(0.3)
        discovered.update(only_tool(issuer, "other"))
        time.sleep(0.5)
        issuer.gate.set()
        start = time.monotonic()
        statuses = {future.result().status for future in waiting}
    assert statuses <= {200, 503}
    # Not longer than one fetch may take, whichever worker was at it.
    assert time.monotonic() - start < 7
    envoy.wait_until("the new policy is in force", lambda: gateway.send(PING, issuer.token()).status == 403)


def test_a_stream_outlives_a_change_of_policy(start_gateway: NewGateway, envoy: Envoy) -> None:
    issuer, discovered, gate = Issuer(), Discovered(envoy.directory), threading.Event()
    gateway = start_gateway(only_tool(issuer, "ping"), issuer, adjust=discovered.adjust)
    first, last = (b'data: {"jsonrpc":"2.0","method":"notifications/%s"}\n\n' % name for name in (b"a", b"b"))
    gateway.upstream.reply = recorder.events(first, last, before_last=gate)
    with http1.Connection(gateway.port) as connection:
        connection.send(whole(gateway, PING, issuer.token()))
        assert connection.response_head()[0] == 200
        assert connection.chunk() == first
        gateway.upstream.forget()
        discovered.update(only_tool(issuer, "other"))
        envoy.wait_until("the new policy is in force", lambda: gateway.send(PING, issuer.token()).status == 403)
        gate.set()
        assert connection.chunk() == last


# --- Upstreams that fail ----------------------------------------------------------------------------------------------


def whole(gateway: Gateway, post: Post, token: str) -> bytes:
    """A request in one piece."""
    address = ("Host", f"127.0.0.1:{gateway.port}")
    length = ("Content-Length", str(len(post.body)))
    return head(post.method, post.target, [address, *bearer(token), *post.list(), length]) + post.body


def raw_answer(data: bytes) -> recorder.Reply:
    """Bytes that need not be HTTP; then the connection ends."""

    def reply(_: recorder.Recorded, connection: Any) -> None:
        connection.sendall(data)
        connection.close()

    return reply


UPSTREAM_FAULTS: dict[str, tuple[recorder.Reply, set[int]]] = {
    "reset": (recorder.reset, {503}),
    "hangs-up": (raw_answer(b""), {503}),
    "speaks-nonsense": (raw_answer(b"\x00\xff nonsense\r\n\r\n"), {502, 503}),
    "stops-in-the-head": (raw_answer(b"HTTP/1.1 200 OK\r\nContent-Len"), {502, 503}),
    "two-lengths": (raw_answer(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"), {502, 503}),
    "odd-bytes-in-headers": (recorder.answer(200, b"{}", {"x-odd": "caf\xe9\xff", "www-authenticate": "\xff"}), {200}),
    "challenge-in-odd-bytes": (recorder.answer(401, b"{}", {"www-authenticate": "\xfe\xff"}), {502}),
    "huge-headers": (recorder.answer(200, b"{}", {"x-huge": "x" * 100_000}), {502, 503}),
}


@pytest.mark.parametrize(("reply", "statuses"), UPSTREAM_FAULTS.values(), ids=UPSTREAM_FAULTS)
def test_an_upstream_that_fails_fails_one_request(
    gateway: Gateway, upstream: Recorder, issuer: Issuer, reply: recorder.Reply, statuses: set[int]
) -> None:
    with upstream.replying(reply):
        response = gateway.send(PING, issuer.token())
    assert response.status in statuses
    assert response.header("www-authenticate") is None
    # A tool call must not run twice, whatever the client would like.
    assert len(upstream.requests) == 1
    assert gateway.send(PING, issuer.token()).status == 200


def test_no_client_can_ask_for_a_retry(gateway: Gateway, upstream: Recorder, issuer: Issuer) -> None:
    wish = (("x-envoy-retry-on", "5xx,reset,connect-failure"), ("x-envoy-max-retries", "3"))
    hedge = (("x-envoy-hedge-on-per-try-timeout", "true"), ("x-envoy-upstream-rq-per-try-timeout-ms", "1"))
    with upstream.replying(recorder.reset):
        assert gateway.send(PING.with_headers(*wish, *hedge), issuer.token()).status == 503
    assert len(upstream.requests) == 1


def test_an_upstream_that_breaks_off_breaks_off_for_the_client(
    gateway: Gateway, upstream: Recorder, issuer: Issuer
) -> None:
    partial = raw_answer(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    with upstream.replying(partial), pytest.raises(ConnectionError):
        gateway.send(PING, issuer.token())


# --- Clients that leave -----------------------------------------------------------------------------------------------


def test_clients_that_leave_while_keys_are_fetched_leave_nothing_behind(
    start_gateway: NewGateway, envoy: Envoy
) -> None:
    issuer = Issuer()
    issuer.gate.clear()
    gateway = start_gateway(policy(issuer), issuer)
    for _ in range(50):
        with http1.Connection(gateway.port) as connection:
            connection.send(whole(gateway, PING, issuer.token()))
        with http2.Connection(gateway.port) as second:
            stream = second.start("POST", "/mcp", [*bearer(issuer.token()), *PING.list()])
            second.data(stream, PING.body, end=True)
            second.reset(stream)
    time.sleep(0.2)
    issuer.gate.set()
    assert gateway.upstream.saw_nothing(seconds=0.5)
    assert gateway.send(PING, issuer.token()).status == 200
    assert len(gateway.upstream.requests) == 1


def crowd(gateway: Gateway, issuer: Issuer, token: str, connections: int) -> Counter[int]:
    """Statuses of a hundred requests per connection, all of which wait for keys at the same time."""
    headers = [*bearer(token), *PING.list()]
    clients = [http2.Connection(gateway.port, timeout=30) for _ in range(connections)]
    try:
        streams = [(client, client.start("POST", "/mcp", headers)) for client in clients for _ in range(100)]
        for client, stream in streams:
            client.data(stream, PING.body, end=True)
        assert gateway.upstream.saw_nothing(seconds=0.3)
        issuer.gate.set()
        return Counter(client.response(stream).status for client, stream in streams)
    finally:
        for client in clients:
            client.socket.close()


def test_a_crowd_that_waited_for_keys_is_refused_without_harm(start_gateway: NewGateway) -> None:
    """Envoy runs what the module asks for nested in each other: a thousand answers at once would exhaust the stack."""
    issuer = Issuer()
    issuer.gate.clear()
    gateway = start_gateway(policy(issuer), issuer)
    forged = issuer.token(key=Key.generate("ES256", "stranger"))
    assert crowd(gateway, issuer, forged, 10) == {401: 1000}
    assert gateway.upstream.saw_nothing()
    assert gateway.send(PING, issuer.token()).status == 200


def test_only_so_many_requests_may_wait_for_keys(start_gateway: NewGateway, envoy: Envoy) -> None:
    """1024 for each of two workers; one more is turned away at once rather than held in memory."""
    issuer = Issuer()
    issuer.gate.clear()
    gateway = start_gateway(policy(issuer), issuer)
    turned_away = "wasmcustom.toolgate.jwks.too_many_waiting"
    before = envoy.counters().get(turned_away, 0)
    statuses = crowd(gateway, issuer, issuer.token(), 24)
    # Beyond what the upstream may have open at a time, Envoy itself answers 503.
    assert set(statuses) == {200, 503}
    assert len(gateway.upstream.requests) == statuses[200]
    assert envoy.counters()[turned_away] - before >= 2400 - 2 * 1024
    assert gateway.send(PING, issuer.token()).status == 200


def test_aborted_requests_leave_no_memory_and_no_contexts_behind(
    gateway: Gateway, upstream: Recorder, envoy: Envoy, issuer: Issuer
) -> None:
    token = issuer.token()
    partial = whole(gateway, PING, token)[:-9] + b" " * 9
    large = PING.with_body(PING.body + b" " * 60_000)
    halves = (partial[:-5], whole(gateway, large, token)[:-1], whole(gateway, PING, "x")[:-1])

    def abort(count: int) -> int:
        for index in range(count):
            with http1.Connection(gateway.port) as connection:
                connection.send(halves[index % len(halves)])
        envoy.wait_until("all requests have ended", lambda: active(envoy) == 0)
        return envoy.resident_kilobytes()

    before = abort(600)
    vms = envoy.counters("wasm\\..*(created|active)")
    after = abort(1500)
    assert envoy.counters("wasm\\..*(created|active)") == vms
    assert after - before < 8 * 1024, f"{before} kB grew to {after} kB"
    assert upstream.saw_nothing()
    assert gateway.send(PING, token).status == 200


def active(envoy: Envoy) -> int:
    """Requests that Envoy is busy with. The one that asks is the admin interface's own."""
    return sum(
        value for name, value in envoy.counters("mcp_gateway.*downstream_rq_active").items() if "admin" not in name
    )


# --- Bytes that are not text ------------------------------------------------------------------------------------------

ODD = b"\xff\xfe\x80 caf\xe9"
ANYWHERE = [
    "Authorization",
    "Content-Type",
    "Content-Encoding",
    "Accept",
    "Origin",
    "Mcp-Method",
    "Mcp-Name",
    "Mcp-Session-Id",
    "MCP-Protocol-Version",
    "Last-Event-ID",
    "X-Toolgate-Subject",
    "X-Request-Id",
    "User-Agent",
    "Cookie",
    "X-Anything",
]


@pytest.mark.parametrize("protocol", ["http1", "http2"])
@pytest.mark.parametrize("name", ANYWHERE)
def test_no_header_byte_kills_the_module(gateway: Gateway, issuer: Issuer, name: str, protocol: str) -> None:
    """The SDK's own getters panic on these, and a panic would stop the whole worker."""
    send = gateway.send if protocol == "http1" else gateway.send2
    odd = PING.without(name).with_headers((name, ODD))
    token = None if name == "Authorization" else issuer.token()
    assert send(odd, token).status in (200, 400, 403, 415)
    assert gateway.send(PING, issuer.token()).status == 200


@pytest.mark.parametrize(
    "target", ["/\u00ff", "/mcp?\u00ff", "/mcp%ff", "/mcp?%ff=%00", "/" + "a" * 20_000, "*", "http://x/mcp"]
)
def test_no_path_kills_the_module(gateway: Gateway, upstream: Recorder, issuer: Issuer, target: str) -> None:
    response = gateway.send(Post(PING.body, PING.headers, target=target))
    assert 400 <= response.status < 500
    assert upstream.saw_nothing()
    assert gateway.send(PING, issuer.token()).status == 200


def test_no_claim_bytes_kill_the_module(gateway: Gateway, issuer: Issuer) -> None:
    for subject in ("\ud83d\ude00", "é" * 1000, "%00%0d%0a", "\u200b", "a" * 2048):
        status = gateway.send(PING, issuer.token(sub=subject)).status
        assert status in (200, 401, 403), subject

"""Each way in which a request can end leaves one record, which says how it ended."""

import json
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest
import stack

from conftest import NewGateway
from support import cli, http1, http2, messages, recorder
from support.gateway import Document, Gateway, bearer, manager_of, plugin_of
from support.issuer import Issuer
from support.messages import Post
from support.policy import policy
from support.recorder import Recorded, Reply
from support.trail import Record, Watch, lines_of, parsed
from support.trapping import with_trap

PING = messages.call("ping")
AUDIENCE = "https://endings.example/mcp"
#: A header that chooses a route, and what that route is like.
ROUTES: dict[str, Document] = {
    "x-timeout": {"timeout": "0.2s"},
    "x-idle": {"idle_timeout": "0.2s"},
    "x-short": {"max_stream_duration": {"max_stream_duration": "0.3s"}},
}
RESULT = b'data: {"jsonrpc":"2.0","id":1,"result":{"content":[]}}\n\n'
NOTE = b'data: {"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}\n\n'


class Ending(NamedTuple):
    """What a record says of the end."""

    verdict: str
    reason: str
    status: int | None
    response: str
    flags: tuple[str, ...] = ()
    cut_off: str | None = None

    @classmethod
    def of(cls, record: Record) -> "Ending":
        http, response = record["http"], record["response"]
        flags = tuple(http.get("flags", []))
        said = (record["verdict"], record["reason"], http.get("status"), response["status"], flags)
        return cls(*said, response.get("cut_off"))


def with_routes(listener: Document) -> None:
    """Routes with timeouts, before the common one."""
    routes = manager_of(listener)["route_config"]["virtual_hosts"][0]["routes"]
    for header, timeouts in ROUTES.items():
        route = json.loads(json.dumps(routes[-1])) | {"name": header}
        route["match"]["headers"] = [{"name": header, "present_match": True}]
        route["route"] |= timeouts
        routes.insert(0, route)


@pytest.fixture(scope="module")
def patient(start_gateway: NewGateway, issuer: Issuer) -> Gateway:
    # A resource of its own has a chain of its own, and so a log that is whole by itself.
    return start_gateway(policy(issuer, resource={"uri": AUDIENCE}), issuer, adjust=with_routes)


@pytest.fixture
def gateway(patient: Gateway) -> Gateway:
    patient.upstream.forget()
    return patient


def whole(gateway: Gateway, post: Post, token: str | None) -> bytes:
    """A request as bytes."""
    length = [("Content-Length", str(len(post.body)))] if post.body else []
    headers = [("Host", f"127.0.0.1:{gateway.port}"), *bearer(token), *post.list(), *length]
    return http1.head(post.method, post.target, headers) + post.body


def abort(connection: http1.Connection | http2.Connection) -> None:
    """Leaves with a TCP reset."""
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.socket.close()


# --- The upstream's part ----------------------------------------------------------------------------------------------


def raw(*parts: bytes, then: Reply | None = None) -> Reply:
    """These bytes, and then the end of the connection or something worse."""

    def reply(request: Recorded, connection: socket.socket) -> None:
        for part in parts:
            connection.sendall(part)
            time.sleep(0.05)
        if then:
            then(request, connection)
        else:
            connection.close()

    return reply


def silent(_: Recorded, connection: socket.socket) -> None:
    """Waits until Envoy gives up."""
    connection.settimeout(20)
    with suppress(OSError):
        connection.recv(1)
    connection.close()


STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"
NOTE_CHUNK = b"%x\r\n%b\r\n" % (len(NOTE), NOTE)

OPEN_STREAM = raw(STREAM + NOTE_CHUNK, then=silent)

ALLOWED = ("allow", "permitted")


class Case(NamedTuple):
    """A request, the answer of the upstream, and what is to be on record."""

    post: Post
    reply: Reply
    ending: Ending
    has_token: bool = True


CASES: dict[str, Case] = {
    "result": Case(PING, recorder.echo, Ending(*ALLOWED, 200, "success")),
    "result-in-stream": Case(PING, recorder.events(NOTE, RESULT), Ending(*ALLOWED, 200, "success")),
    "notification": Case(
        messages.handshake("notifications/initialized", id=None), recorder.echo, Ending(*ALLOWED, 202, "no_result")
    ),
    "denied-in-headers": Case(PING, recorder.echo, Ending("deny", "no_token", 401, "gateway"), has_token=False),
    "denied-in-body": Case(messages.call("unheard"), recorder.echo, Ending("deny", "no_rule", 403, "gateway")),
    "served": Case(
        Post(b"", (), "GET", "/.well-known/oauth-protected-resource/mcp"),
        recorder.echo,
        Ending("serve", "resource_metadata", 200, "gateway"),
        has_token=False,
    ),
    "status-500": Case(PING, recorder.answer(500), Ending(*ALLOWED, 500, "error")),
    "status-429": Case(PING, recorder.answer(429), Ending(*ALLOWED, 429, "rate_limited")),
    "upstream-wants-another-token": Case(
        PING, recorder.answer(401), Ending(*ALLOWED, 502, "gateway", cut_off="upstream_refused")
    ),
    "reset-before-headers": Case(PING, recorder.reset, Ending(*ALLOWED, 503, "aborted", ("UC",))),
    "no-http": Case(PING, raw(b"what?\r\n\r\n"), Ending(*ALLOWED, 502, "aborted", ("UPE",))),
    "reset-in-body": Case(PING, raw(JSON, then=recorder.reset), Ending(*ALLOWED, 200, "aborted", ("UPE",))),
    "end-in-body": Case(PING, raw(JSON), Ending(*ALLOWED, 200, "aborted", ("UPE",))),
    "reset-in-stream": Case(
        PING, raw(STREAM, NOTE_CHUNK, then=recorder.reset), Ending(*ALLOWED, 200, "aborted", ("UPE",))
    ),
    "timeout-before-headers": Case(
        PING.with_headers(("x-timeout", "1")), silent, Ending(*ALLOWED, 504, "aborted", ("UT",))
    ),
    "timeout-in-stream": Case(
        PING.with_headers(("x-timeout", "1")), OPEN_STREAM, Ending(*ALLOWED, 200, "aborted", ("UT",))
    ),
    "idle-before-headers": Case(PING.with_headers(("x-idle", "1")), silent, Ending(*ALLOWED, 504, "aborted", ("SI",))),
    "idle-in-stream": Case(PING.with_headers(("x-idle", "1")), OPEN_STREAM, Ending(*ALLOWED, 200, "aborted", ("SI",))),
    "too-long-before-headers": Case(PING.with_headers(("x-short", "1")), silent, Ending(*ALLOWED, 504, "aborted")),
    "too-long-in-stream": Case(PING.with_headers(("x-short", "1")), OPEN_STREAM, Ending(*ALLOWED, 200, "aborted")),
}


@pytest.mark.parametrize("protocol", ["http1", "http2"])
def test_what_a_client_waits_for(gateway: Gateway, issuer: Issuer, protocol: str) -> None:
    watch = Watch(gateway)
    send = gateway.send if protocol == "http1" else gateway.send2
    for case in CASES.values():
        with gateway.upstream.replying(case.reply), suppress(ConnectionError):
            send(case.post, issuer.token(aud=AUDIENCE) if case.has_token else None)
    records = dict(zip(CASES, watch.records(len(CASES)), strict=True))
    assert {name: Ending.of(record) for name, record in records.items()} == {
        name: case.ending for name, case in CASES.items()
    }
    too_long = {records[name]["http"]["details"] for name in ("too-long-before-headers", "too-long-in-stream")}
    assert too_long == {"max_duration_timeout"}


# --- Clients that leave -----------------------------------------------------------------------------------------------

HALF = PING.with_body(PING.body + b" " * 40_000)
#: When a client leaves, and what is on record then.
MOMENTS: dict[str, tuple[Post, Reply, Ending]] = {
    "in-body": (HALF, recorder.echo, Ending("none", "ended_early", None, "aborted")),
    "while-the-upstream-works": (PING, silent, Ending(*ALLOWED, None, "aborted")),
    "in-stream": (PING, OPEN_STREAM, Ending(*ALLOWED, 200, "aborted")),
}
WAYS = ("fin", "rst", "http2-close", "http2-reset")


def begun(gateway: Gateway, post: Post, token: str, way: str, missing: int) -> Callable[[], None]:
    """Sends a request, but not the last bytes of it; returns what makes the client leave."""
    if not way.startswith("http2"):
        connection = http1.Connection(gateway.port)
        data = whole(gateway, post, token)
        connection.send(data[: len(data) - missing])
        return (lambda: abort(connection)) if way == "rst" else connection.socket.close
    second = http2.Connection(gateway.port)
    stream = second.start("POST", "/mcp", [*bearer(token), *post.list()])
    second.data(stream, post.body[: min(len(post.body) - missing, 16_000)], end=not missing)

    def leave() -> None:
        if way == "http2-reset":
            second.reset(stream)
            # The other requests of the connection are none of its business.
            other = second.start("POST", "/mcp", [*bearer(token), *messages.call("unheard_of").list()])
            second.data(other, messages.call("unheard_of").body, end=True)
            assert second.response(other).status == 403
        second.socket.close()

    return leave


@pytest.mark.parametrize("way", WAYS)
def test_clients_that_leave(gateway: Gateway, issuer: Issuer, way: str) -> None:
    watch = Watch(gateway)
    for moment, (post, reply, _) in MOMENTS.items():
        gateway.upstream.forget()
        with gateway.upstream.replying(reply):
            leave = begun(gateway, post, issuer.token(aud=AUDIENCE), way, missing=10 if moment == "in-body" else 0)
            if moment == "in-body":
                gateway.envoy.wait_until("Envoy has the headers", lambda: active(gateway) > 0)
            else:
                gateway.upstream.wait_for(1)
            # Until what was sent, or the first event, has gone through Envoy.
            time.sleep(0.15)
            leave()
    others = len(MOMENTS) if way == "http2-reset" else 0
    records = watch.records(len(MOMENTS) + others)
    endings = [Ending.of(record) for record in records if record["reason"] != "no_rule"]
    def flags(moment: str) -> tuple[str, ...]:
        # Of a request that was sent to its end and then taken back, Envoy says nothing.
        return ("DC",) if way != "http2-reset" else ("DR",) if moment == "in-body" else ()

    assert endings == [ending._replace(flags=flags(moment)) for moment, (_, _, ending) in MOMENTS.items()]
    body = [record["http"]["request_bytes"] for record in records if record["reason"] == "ended_early"]
    assert 0 < body[0] < len(HALF.body)


def active(gateway: Gateway) -> int:
    """Requests that Envoy is busy with, on whatever listener of the tests."""
    return sum(gateway.envoy.counters("^http\\.mcp_gateway\\.downstream_rq_active$").values())


def test_clients_that_leave_while_their_request_is_held(start_gateway: NewGateway) -> None:
    """Held for the issuer's keys: nothing is known of the caller but what the token claims."""
    issuer = Issuer()
    issuer.gate.clear()
    gateway = start_gateway(policy(issuer), issuer)
    watch = Watch(gateway)
    leavers = [begun(gateway, PING, issuer.token(), way, missing=0) for way in WAYS[:3]]
    second = http2.Connection(gateway.port)
    stream = second.start("POST", "/mcp", [*bearer(issuer.token()), *PING.list()])
    second.data(stream, PING.body, end=True)
    leavers.append(lambda: second.reset(stream))
    gateway.envoy.wait_until("all are held", lambda: active(gateway) >= len(leavers))
    time.sleep(0.15)
    for leave in leavers:
        leave()
    envelopes = watch.envelopes(len(leavers))
    held = Ending("none", "ended_early", None, "aborted", ("DC",))
    # Of a request that was sent to its end and then taken back, Envoy says nothing.
    endings = [held, held, held, held._replace(flags=())]
    assert Counter(Ending.of(envelope["record"]) for envelope in envelopes) == Counter(endings)
    second.socket.close()
    assert all("caller" not in envelope["record"] for envelope in envelopes)
    issuer.gate.set()
    assert gateway.send(PING, issuer.token()).status == 200
    assert len(gateway.upstream.requests) == 1


# --- What Envoy does by itself ----------------------------------------------------------------------------------------

MALFORMED = {
    b"\x16\x03\x01\x02\r\n\r\n": (400, "http1.codec_error"),
    b"POST /mcp HTTP/1.1\r\n\r\n": (400, "missing_host_header"),
    b"GET /mcp HTTP/1.0\r\n\r\n": (426, "low_version"),
    b"GET /mcp HTTP/1.1\r\nHost: x\r\nx_user: root\r\n\r\n": (400, "http1.unexpected_underscore"),
    b"GET /a%2Fb HTTP/1.1\r\nHost: x\r\n\r\n": (400, "path_normalization_failed"),
    b"GET /mcp HTTP/1.1\r\nHost: x\r\nx: " + b"x" * 40_000 + b"\r\n\r\n": (431, "http1.headers_too_large"),
}


def test_what_envoy_refuses_by_itself(gateway: Gateway) -> None:
    watch = Watch(gateway)
    for data, (status, _) in MALFORMED.items():
        with http1.Connection(gateway.port) as connection:
            connection.send(data)
            assert connection.response_head()[0] == status
    found = [(record["verdict"], record["reason"], record["http"]) for record in watch.records(len(MALFORMED))]
    assert [(http["status"], http["details"]) for _, _, http in found] == list(MALFORMED.values())
    assert {(verdict, reason) for verdict, reason, _ in found} == {("none", "not_seen")}


def test_a_client_that_leaves_in_the_headers_has_asked_for_nothing(gateway: Gateway, issuer: Issuer) -> None:
    """Envoy runs no filter then. Its own log says so, and the trail is not disturbed."""
    before, watch = len(lines_of(gateway.access_log)), Watch(gateway)
    with http1.Connection(gateway.port) as connection:
        connection.send(whole(gateway, PING, None)[:60])
        gateway.envoy.wait_until("Envoy reads", lambda: active(gateway) > 0)
    gateway.envoy.wait_until("it is in the log", lambda: len(lines_of(gateway.access_log)) > before)
    gateway.send(PING)
    assert watch.one()["reason"] == "no_token"
    assert "-" not in lines_of(gateway.audit_log)


def test_a_stream_that_outlives_its_listener(start_gateway: NewGateway, issuer: Issuer) -> None:
    """Envoy drains the listener that another one replaces: open streams go on, and are recorded when they end."""
    generation = 0

    def adjust(listener: Document) -> None:
        listener["metadata"] = {"filter_metadata": {"test": {"generation": str(generation)}}}

    gateway = start_gateway(policy(issuer), issuer, adjust=adjust)
    gate, watch = threading.Event(), Watch(gateway)
    gateway.upstream.reply = recorder.events(NOTE, RESULT, before_last=gate)
    replaced = gateway.envoy.counters("^listener_manager\\.listener_modified$")
    with http1.Connection(gateway.port) as connection:
        connection.send(whole(gateway, PING, issuer.token()))
        assert connection.response_head()[0] == 200
        generation = 1
        gateway.load(wait=False)
        gateway.envoy.wait_until(
            "the listener is replaced",
            lambda: gateway.envoy.counters("^listener_manager\\.listener_modified$") != replaced,
        )
        gate.set()
        body = b""
        while chunk := connection.chunk():
            body += chunk
    assert body == NOTE + RESULT
    assert Ending.of(watch.one()) == Ending(*ALLOWED, 200, "success")


def test_a_stream_that_outlives_its_token_is_cut_off_by_the_gateway(gateway: Gateway, issuer: Issuer) -> None:
    now = int(time.time())
    token = issuer.token(aud=AUDIENCE, iat=now - 87, exp=now - 27)
    watch = Watch(gateway)
    with gateway.upstream.replying(OPEN_STREAM), http1.Connection(gateway.port) as connection:
        connection.send(whole(gateway, PING, token))
        assert connection.response_head()[0] == 200
        with pytest.raises(ConnectionError):
            while connection.chunk():
                pass
    assert Ending.of(watch.one()) == Ending(*ALLOWED, 200, "gateway", cut_off="token_expired")


# --- When the filter dies ---------------------------------------------------------------------------------------------


def test_what_was_let_through_is_on_record_even_if_the_filter_dies(
    start_gateway: NewGateway, tmp_path: Path
) -> None:
    """The provisional record is the last word about it; requests that the dead filter did not see have none."""
    issuer, module = Issuer(), tmp_path / "trap.wasm"
    module.write_bytes(with_trap(stack.FILTER.read_bytes(), "proxy_on_response_headers"))

    def load_it(listener: Document) -> None:
        plugin = plugin_of(listener)
        plugin["vm_config"] |= {"vm_id": f"trap-{issuer.port}", "code": {"local": {"filename": str(module)}}}
        plugin["failure_policy"] = "FAIL_CLOSED"
        del plugin["reload_config"]

    gateway = start_gateway(policy(issuer), issuer, adjust=load_it, wait=False)
    gateway.envoy.wait_until("it listens", lambda: stack.listening(stack.Address(stack.LOOPBACK, gateway.port)))
    before = len(lines_of(gateway.audit_log))
    with http1.Connection(gateway.port) as connection:
        connection.send(whole(gateway, PING, issuer.token()))
        status, _ = connection.response_head()
    gateway.envoy.wait_until("a line", lambda: len(lines_of(gateway.audit_log)) > before)
    record = parsed(lines_of(gateway.audit_log)[before])
    assert (record["kind"], record["verdict"], record["reason"]) == ("provisional", *ALLOWED)
    assert "http" not in record and record["target"] == {"kind": "tool", "name": "ping"}
    assert len(gateway.upstream.requests) == 1 and status == 503
    # The other worker may live yet: each request is on record or shows that the filter was dead.
    statuses = [gateway.send(PING, issuer.token()).status for _ in range(20)]
    gateway.envoy.wait_until("all lines", lambda: len(lines_of(gateway.audit_log)) >= before + 21)
    lines = lines_of(gateway.audit_log)[before:]
    assert len(lines) == 21 and set(statuses) == {503}
    kinds = [parsed(line)["kind"] if line != "-" else "-" for line in lines]
    assert kinds.count("provisional") == 2 and kinds.count("-") == 19
    verified = cli.verify(gateway.envoy.audit_key, gateway.audit_log)
    assert [defect["kind"] for defect in verified.defects] == ["no_record"] * 19
    assert verified.report["unended"]["count"] == 2
    gateway.envoy.forgive()


def test_the_logs_of_all_these_endings_are_whole(gateway: Gateway) -> None:
    lines = lines_of(gateway.audit_log)
    logged = [json.loads(line) for line in lines_of(gateway.access_log)]
    requests = [line for line in logged if line["request_id"] or line["status"]]
    assert len(lines) == len({parsed(line)["id"] for line in lines}) == len(requests)
    assert cli.verify(gateway.envoy.audit_key, gateway.audit_log).is_clean

"""Event streams: looked at event by event, at once, with little memory, and no longer than their token lives."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from conftest import NewGateway
from support import http1, http2, messages, recorder
from support.gateway import Envoy, Gateway, bearer
from support.http1 import head
from support.issuer import Issuer
from support.messages import Post
from support.policy import policy
from support.recorder import Recorder, Reply

GET = Post(b"", (("MCP-Protocol-Version", "2025-11-25"), ("Accept", "text/event-stream")), "GET")
LIST = messages.handshake("tools/list")
PING = messages.handshake("ping")


def event(message: Any, id_: str | None = None) -> bytes:
    """An event with a message."""
    return (f"id: {id_}\n" if id_ else "").encode() + b"data: " + messages.encode(message) + b"\n\n"


def tools(*names: str) -> dict[str, Any]:
    """An answer to `tools/list`."""
    return {"jsonrpc": "2.0", "id": 1, "result": {"tools": [{"name": name} for name in names]}}


@contextmanager
def streaming(
    gateway: Gateway, request: Post, token: str, reply: Reply, *headers: tuple[str, str]
) -> Iterator[http1.Connection]:
    """A stream whose headers have arrived."""
    length = [("Content-Length", str(len(request.body)))] if request.body else []
    everything = [("Host", f"127.0.0.1:{gateway.port}"), *bearer(token), *request.list(), *headers, *length]
    with gateway.upstream.replying(reply), http1.Connection(gateway.port) as connection:
        connection.send(head(request.method, "/mcp", everything) + request.body)
        status, answer = connection.response_head()
        assert (status, dict(answer)["content-type"]) == (200, "text/event-stream"), answer
        assert "content-length" not in dict(answer)
        yield connection


def everything(connection: http1.Connection) -> bytes:
    """The body up to its end."""
    body = b""
    while chunk := connection.chunk():
        body += chunk
    return body


# --- What is shown ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_", [LIST, PING, GET], ids=["list", "other", "get"])
def test_lists_are_filtered_on_every_stream(
    gateway: Gateway, upstream: Recorder, issuer: Issuer, request_: Post
) -> None:
    """A client that drops its POST gets the answer on a GET with `Last-Event-ID`."""
    resume = (("Last-Event-ID", "1"),) if request_ is GET else ()
    chunks = [
        b"\xef\xbb\xbf: hello\n\nid: 1\nretry: 100\ndata:\n\n",
        event(tools("read_contact", "send_message"), "2"),
        event({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": 0.50}}, "3"),
    ]
    with streaming(gateway, request_, issuer.token("contacts:read"), recorder.events(*chunks), *resume) as connection:
        got = everything(connection)
    assert got == b"".join([chunks[0], event(tools("read_contact"), "2"), chunks[2]])


def test_every_way_to_cut_a_stream_into_chunks_gives_the_same(
    gateway: Gateway, upstream: Recorder, issuer: Issuer
) -> None:
    stream = (
        "id: 1\r\ndata: \r\n\r\n: é\r\n\r\nid: 2\r\ndata: "
        + json.dumps(tools("read_contact", "send_message") | {"x": "é😀"}, ensure_ascii=False)
        + '\r\n\r\ndata: {"jsonrpc":"2.0",\r\ndata: "method":"notifications/a"}\r\n\r\ndata: unfinished'
    ).encode()
    expected = stream.replace(b', {"name": "send_message"}', b"").replace(b"data: unfinished", b"")
    token = issuer.token("contacts:read")
    for size in (1, 2, 3, 5, 17, 1000):
        chunks = [stream[at : at + size] for at in range(0, len(stream), size)]
        with streaming(gateway, LIST, token, recorder.events(*chunks)) as connection:
            assert everything(connection) == expected, size


def test_updates_of_hidden_resources_do_not_arrive(gateway: Gateway, upstream: Recorder, issuer: Issuer) -> None:
    def updated(uri: str) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": uri}}

    chunks = [event(updated("norg://contacts/42")), event(updated("norg://reports/1"), "9"), event(updated("x://y"))]
    with streaming(gateway, GET, issuer.token("contacts:read"), recorder.events(*chunks)) as connection:
        assert everything(connection) == chunks[0] + b"id: 9\ndata:\n\n"


def test_what_the_policy_does_not_let_a_server_ask_does_not_arrive(start_gateway: NewGateway, issuer: Issuer) -> None:
    def asks(method: str) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "id": 7, "method": method, "params": {}}

    gateway = start_gateway(policy(issuer, server_requests=["roots"]), issuer)
    methods = ("sampling/createMessage", "elicitation/create", "roots/list", "ping", "tools/call")
    for request in (GET, PING):
        stream = recorder.events(*(event(asks(method)) for method in methods))
        with streaming(gateway, request, issuer.token(), stream) as connection:
            assert everything(connection).strip() == (event(asks("roots/list")) + event(asks("ping"))).strip()
    # 2026-07-28 puts such requests into results.
    asking = {"resultType": "input_required", "inputRequests": {"a": {"method": "elicitation/create", "params": {}}}}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "result": asking}).encode()
    for reply in (recorder.answer(200, body), recorder.events(b"data: " + body + b"\n\n")):
        with gateway.upstream.replying(reply):
            response = gateway.send(messages.call("ping"), issuer.token())
        answer = json.loads(response.body.removeprefix(b"data: "))
        assert (answer["id"], answer["error"]["code"]) == (1, -33002), response


def test_an_event_that_cannot_be_read_is_left_out_and_counted(
    gateway: Gateway, upstream: Recorder, issuer: Issuer, envoy: Envoy
) -> None:
    name = "wasmcustom.toolgate.withheld.event_unreadable"
    before = envoy.counters().get(name, 0)
    chunks = [b"id: 1\ndata: {\n\n", b"Data: {}\n\n", b'data: {"jsonrpc":"2.0","method":"notifications/a"}\n\n']
    with streaming(gateway, GET, issuer.token(), recorder.events(*chunks)) as connection:
        assert everything(connection) == b"id: 1\ndata:\n\n" + chunks[2]
    assert envoy.counters()[name] == before + 1


# --- How it is passed on ----------------------------------------------------------------------------------------------


def test_events_arrive_at_once(gateway: Gateway, upstream: Recorder, issuer: Issuer) -> None:
    """Each event must be there before the next is sent. The delay is printed, not judged: the machine may be busy."""
    gates = [threading.Event() for _ in range(50)]
    sent: list[float] = []

    def reply(_: recorder.Recorded, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for number, gate in enumerate(gates):
            assert gate.wait(10)
            piece = event({"jsonrpc": "2.0", "method": "notifications/a", "params": {"n": number}})
            sent.append(time.monotonic())
            connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
        connection.sendall(b"0\r\n\r\n")

    delays = []
    with streaming(gateway, GET, issuer.token(), reply) as connection:
        for number, gate in enumerate(gates):
            gate.set()
            assert b'"n": %d}' % number in connection.chunk()
            delays.append(time.monotonic() - sent[number])
        assert connection.chunk() == b""
    print(f"delay of an event: median {sorted(delays)[25] * 1000:.2f} ms, longest {max(delays) * 1000:.2f} ms")


def test_ten_megabytes_of_events_pass_without_being_held(
    gateway: Gateway, upstream: Recorder, issuer: Issuer, envoy: Envoy
) -> None:
    message = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "x" * 4000}}
    piece = event(message, "1")
    count = 10 * 1024 * 1024 // len(piece)
    token = issuer.token()
    for _ in range(2):  # once to warm up
        before = envoy.resident_kilobytes()
        with streaming(gateway, GET, token, recorder.events(*[piece * 4] * (count // 4))) as connection:
            assert len(everything(connection)) == count // 4 * 4 * len(piece)
    assert envoy.resident_kilobytes() - before < 4_000


def test_an_event_that_is_too_large_ends_the_stream(gateway: Gateway, upstream: Recorder, issuer: Issuer) -> None:
    chunks = [event(tools("read_contact")), b"data: " + b"x" * 65_530] + [b"x" * 65_536] * 140
    with streaming(gateway, GET, issuer.token("contacts:read"), recorder.events(*chunks)) as connection:
        assert connection.chunk() == chunks[0]
        with pytest.raises(ConnectionError) as caught:
            everything(connection)
    assert b"xxx" not in str(caught.value).encode()


def test_a_reset_by_the_upstream_reaches_the_client(gateway: Gateway, upstream: Recorder, issuer: Issuer) -> None:
    first = event(tools("read_contact"))

    def broken(request: recorder.Recorded, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        part = first + b"data: {\"half"
        connection.sendall(b"%x\r\n%b\r\n" % (len(part), part))
        time.sleep(0.2)
        recorder.reset(request, connection)

    with streaming(gateway, LIST, issuer.token("contacts:read"), broken) as connection:
        assert connection.chunk() == first
        with pytest.raises(ConnectionError):
            connection.chunk()


# --- How long it lasts ------------------------------------------------------------------------------------------------


def endless(pause: float) -> Reply:
    """Comments for as long as anybody listens."""

    def reply(_: recorder.Recorded, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        connection.sendall(b"3\r\n:\n\n\r\n")
        while True:
            time.sleep(pause)
            connection.sendall(b"3\r\n:\n\n\r\n")

    return reply


@pytest.mark.parametrize("pause", [0.2, 60], ids=["busy", "idle"])
@pytest.mark.parametrize("request_", [GET, LIST], ids=["get", "post"])
def test_a_stream_ends_with_its_token(gateway: Gateway, upstream: Recorder, issuer: Issuer, request_: Post, pause: float, envoy: Envoy) -> None:
    """30 seconds later, as clocks differ: a token that expired 27 seconds ago is good for 3 more."""
    name = "wasmcustom.toolgate.streams.cut_off.token_expired"
    before = envoy.counters().get(name, 0)
    now = int(time.time())
    token = issuer.token(iat=now - 87, exp=now - 27)
    started = time.monotonic()
    with streaming(gateway, request_, token, endless(pause)) as connection:
        with pytest.raises(ConnectionError):
            everything(connection)
    assert 2 < time.monotonic() - started < 8
    assert envoy.counters()[name] == before + 1


def test_many_idle_streams_end_with_their_tokens(gateway: Gateway, upstream: Recorder, issuer: Issuer, envoy: Envoy) -> None:
    now = int(time.time())
    token = issuer.token(iat=now - 87, exp=now - 26)
    length = ("Content-Length", str(len(LIST.body)))
    connections = [http1.Connection(gateway.port) for _ in range(150)]
    with gateway.upstream.replying(endless(60)):
        for connection in connections:
            headers = [("Host", f"127.0.0.1:{gateway.port}"), *bearer(token), *LIST.list(), length]
            connection.send(head("POST", "/mcp", headers) + LIST.body)
        assert [connection.response_head()[0] for connection in connections] == [200] * len(connections)
        for connection in connections:
            with pytest.raises(ConnectionError):
                everything(connection)
            connection.socket.close()
    assert gateway.send(PING, issuer.token()).status == 200


def test_a_stream_over_http2_is_reset_alone(gateway: Gateway, upstream: Recorder, issuer: Issuer) -> None:
    now = int(time.time())
    short, long = issuer.token(iat=now - 87, exp=now - 27), issuer.token()
    with gateway.upstream.replying(endless(60)), http2.Connection(gateway.port) as connection:
        stream = connection.start("GET", "/mcp", [*bearer(short), *GET.list()], end=True)
        with pytest.raises(ConnectionResetError):
            connection.response(stream)
        gateway.upstream.reply = recorder.echo
        stream = connection.start("POST", "/mcp", [*bearer(long), *PING.list()])
        connection.data(stream, PING.body, end=True)
        assert connection.response(stream).status == 200

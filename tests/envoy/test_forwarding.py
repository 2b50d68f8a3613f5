"""What reaches the upstream: the original bytes, once they are allowed as a whole, from a caller who is named."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from conftest import NewGateway
from support import http1, http2, messages, recorder
from support.gateway import Document, Gateway, bearer, manager_of
from support.http1 import Response, chunked, head
from support.issuer import Issuer
from support.messages import META_CAPABILITIES, META_VERSION, STATELESS, Post
from support.policy import MAX_REQUEST_BYTES, policy
from support.recorder import Recorder

META = f'"_meta":{{"{META_VERSION}":"{STATELESS}","{META_CAPABILITIES}":{{}}}}'
PING = messages.call("ping")
FORBIDDEN = messages.call("crm_delete_all")
CHUNKED = ("Transfer-Encoding", "chunked")


def calling(arguments: str) -> bytes:
    """A call of the harmless tool with these arguments, in JSON text."""
    parts = f'"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"ping","arguments":{arguments},{META}}}'
    return f"{{{parts}}}".encode()


# --- Original bytes ---------------------------------------------------------------------------------------------------

BODIES: dict[str, bytes] = {
    "odd-spacing": b" \r\n\t" + PING.body.replace(b": ", b"\t:\r\n ") + b"\n\n",
    "big-numbers": calling('{"a":123456789012345678901234567890,"b":-0,"c":1E+2,"d":0.10,"e":1e-400}'),
    "escapes": calling('{"\\u0061":"\\/ \\u00e9 \\ud83d\\ude00 \\n"}'),
    "unicode": calling('{"é":"😀 \u2028 \ufeff ∀"}'),
    "big-id": PING.body.replace(b'"id": 1', b'"id": 123456789012345678901234567890'),
    "text-id": PING.body.replace(b'"id": 1', '"id": "\\u0031-é"'.encode()),
    "unknown-members": PING.body.replace(b'{"jsonrpc"', b'{"x-trace":[null],"jsonrpc"'),
    "one-hundred-kilobytes": calling(json.dumps({"text": "x" * 100_000})),
    "as-large-as-allowed": PING.body + b" " * (MAX_REQUEST_BYTES - len(PING.body)),
}

Send = Callable[[Gateway, bytes, str], Response]


def with_length(gateway: Gateway, body: bytes, token: str) -> Response:
    return gateway.send(PING.with_body(body), token)


def in_chunks(gateway: Gateway, body: bytes, token: str) -> Response:
    pieces = [body[at : at + 4093] for at in range(0, len(body), 4093)]
    return gateway.send(replace(PING.with_headers(CHUNKED), body=chunked(*pieces)), token)


def in_tiny_pieces(gateway: Gateway, body: bytes, token: str) -> Response:
    """Byte by byte in the beginning, so that every boundary is hit."""
    with http1.Connection(gateway.port) as connection:
        length = ("Content-Length", str(len(body)))
        connection.send(head("POST", "/mcp", [host(gateway), *bearer(token), *PING.list(), length]))
        for byte in body[:64]:
            connection.send(bytes([byte]))
        connection.send(body[64:])
        return connection.response()


def over_http2(gateway: Gateway, body: bytes, token: str) -> Response:
    frames = [body[at : at + 16_384] for at in range(0, len(body), 16_384)]
    return gateway.send2(PING, token, *frames)


def over_http2_in_tiny_frames(gateway: Gateway, body: bytes, token: str) -> Response:
    return gateway.send2(PING, token, *(bytes([byte]) for byte in body[:64]), b"", body[64:128], *slices(body[128:]))


def slices(body: bytes) -> Iterator[bytes]:
    yield from (body[at : at + 10_000] for at in range(0, len(body), 10_000))
    yield b""


def host(gateway: Gateway) -> tuple[str, str]:
    return "Host", f"127.0.0.1:{gateway.port}"


SENDING: list[Send] = [with_length, in_chunks, in_tiny_pieces, over_http2, over_http2_in_tiny_frames]


@pytest.mark.parametrize("send", SENDING, ids=lambda send: send.__name__)
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_an_allowed_body_arrives_byte_for_byte(
    gateway: Gateway, upstream: Recorder, issuer: Issuer, body: bytes, send: Send
) -> None:
    assert send(gateway, body, issuer.token()).status == 200
    assert upstream.only().body == body


@pytest.mark.parametrize("send", SENDING, ids=lambda send: send.__name__)
def test_a_forbidden_body_never_arrives_however_it_is_sent(
    gateway: Gateway, upstream: Recorder, issuer: Issuer, send: Send
) -> None:
    decoy = calling('{"name":"ping"}')
    for body in (decoy.replace(b'"name":"ping","arg', b'"name":"crm_delete_all","arg'), decoy[:-1] + b',"id":2}'):
        assert send(gateway, body, issuer.token()).status == 400
    assert upstream.saw_nothing()


@pytest.mark.parametrize(
    "id_", ["7", "-1", "123456789012345678901234567890", '"a"', '"\\u0031"', '"é"', '""', '"1\\u0000"']
)
def test_a_denial_echoes_the_id_byte_for_byte(gateway: Gateway, issuer: Issuer, id_: str) -> None:
    body = FORBIDDEN.body.replace(b'"id": 1', f'"id": {id_}'.encode())
    response = gateway.send(FORBIDDEN.with_body(body), issuer.token())
    assert response.status == 403
    assert f'"id":{id_},'.encode() in response.body


def test_ordinary_headers_arrive_as_they_were_sent(gateway: Gateway, upstream: Recorder, issuer: Issuer) -> None:
    headers = (("Mcp-Param-Region", "=?base64?w6k=?="), ("Traceparent", "00-ab-cd-01"), ("Accept-Language", b"\xe9"))
    assert gateway.send(PING.with_headers(*headers), issuer.token()).status == 200
    request = upstream.only()
    for name, value in (*PING.headers, *headers):
        assert request.all(name) == [value.encode() if isinstance(value, str) else value]


def test_a_name_in_base64_arrives_as_it_was_sent(gateway: Gateway, upstream: Recorder, issuer: Issuer) -> None:
    request = messages.call("résumé")
    assert gateway.send(request, issuer.token("contacts:read")).status == 200
    assert upstream.only().header("mcp-name") == "=?base64?csOpc3Vtw6k=?="


# --- Who is calling ---------------------------------------------------------------------------------------------------


def test_the_upstream_learns_who_calls_and_never_sees_the_token(
    gateway: Gateway, upstream: Recorder, issuer: Issuer
) -> None:
    token = issuer.token("contacts:read", "unheard:of", sub="zoë|42 %", client_id="https://client.example/id")
    assert gateway.send(PING, token).status == 200
    request = upstream.only()
    assert request.header("x-toolgate-issuer") == issuer.name
    assert request.header("x-toolgate-subject") == "zo%C3%AB|42%20%25"
    assert request.header("x-toolgate-client") == "https://client.example/id"
    assert request.header("x-toolgate-scopes") == "contacts:read unheard:of"
    decision = request.header("x-toolgate-decision")
    assert decision and len(decision) == 32 and int(decision, 16)
    assert request.header("authorization") is None
    assert token.encode() not in upstream.raw
    assert token.rpartition(".")[2].encode() not in upstream.raw


def test_a_caller_without_client_and_scopes_has_none(gateway: Gateway, upstream: Recorder, issuer: Issuer) -> None:
    assert gateway.send(PING, issuer.token(client_id=None)).status == 200
    assert upstream.only().all("x-toolgate-client") == []
    assert upstream.only().header("x-toolgate-scopes") == ""


FORGED_IDENTITY = [
    ("x-toolgate-subject", "root"),
    ("X-Toolgate-Subject", "admin"),
    ("X-TOOLGATE-SCOPES", "crm:delete"),
    ("x-toolgate-client", "trusted"),
    ("x-toolgate-decision", "0"),
    ("x-toolgate-roles", "administrators"),
    ("x-toolgate-", "x"),
]


@pytest.mark.parametrize("protocol", ["http1", "http2"])
def test_identity_headers_of_the_client_are_removed(
    gateway: Gateway, upstream: Recorder, issuer: Issuer, protocol: str
) -> None:
    send = gateway.send if protocol == "http1" else gateway.send2
    assert send(PING.with_headers(*FORGED_IDENTITY), issuer.token(client_id=None)).status == 200
    request = upstream.only()
    own = {name: value.decode() for name, value in request.headers if name.startswith("x-toolgate")}
    assert own.pop("x-toolgate-decision") != "0"
    assert own == {"x-toolgate-issuer": issuer.name, "x-toolgate-subject": "alice", "x-toolgate-scopes": ""}
    assert len(request.all("x-toolgate-subject")) == 1


def allow_underscores(listener: Document) -> None:
    """As Envoy does out of the box; the reference configuration refuses such headers."""
    manager_of(listener)["common_http_protocol_options"]["headers_with_underscores_action"] = "ALLOW"


def test_identity_headers_with_underscores_are_removed_where_envoy_lets_them_in(
    start_gateway: NewGateway, issuer: Issuer
) -> None:
    """Many servers read `X_Toolgate_Subject` as the same header."""
    lenient = start_gateway(policy(issuer, resource={"uri": "https://u.example/mcp"}), issuer, adjust=allow_underscores)
    forged = [("X_Toolgate_Subject", "root"), ("x-toolgate_subject", "root"), ("x_kept", "1")]
    assert lenient.send(PING.with_headers(*forged), issuer.token(aud="https://u.example/mcp")).status == 200
    request = lenient.upstream.only()
    assert [value for name, value in request.headers if "subject" in name] == [b"alice"]
    assert request.header("x_kept") == "1"


def test_a_client_cannot_have_identity_headers_dropped_on_the_way(
    gateway: Gateway, upstream: Recorder, issuer: Issuer
) -> None:
    """`Connection` may name headers that belong to one hop only."""
    hop = PING.with_headers(("Connection", "x-toolgate-subject, x-toolgate-scopes, keep-alive"))
    assert gateway.send(hop, issuer.token()).status in (200, 400)
    if upstream.requests:
        assert upstream.only().header("x-toolgate-subject") == "alice"


HOSTILE_CLAIMS: dict[str, dict[str, Any]] = {
    "newline-in-subject": {"sub": "a\r\nX-Toolgate-Scopes: root"},
    "newline-in-client": {"client_id": "a\nb"},
    "newline-in-scope": {"scope": "a\r\nb"},
    "nul-in-subject": {"sub": "a\0"},
    "right-to-left-in-subject": {"sub": "\u202eadmin"},
}


@pytest.mark.parametrize("claims", HOSTILE_CLAIMS.values(), ids=HOSTILE_CLAIMS)
def test_no_claim_can_make_a_header(
    gateway: Gateway, upstream: Recorder, issuer: Issuer, claims: dict[str, Any]
) -> None:
    assert gateway.send(PING, issuer.token(**claims)).status == 401
    assert upstream.saw_nothing()


def test_an_operator_may_choose_that_the_upstream_verifies_the_token_again(
    start_gateway: NewGateway, issuer: Issuer
) -> None:
    keeping = start_gateway(policy(issuer, forwarding={"authorization": "keep"}), issuer)
    token = issuer.token()
    assert keeping.send(PING, token).status == 200
    assert keeping.upstream.only().header("authorization") == f"Bearer {token}"


# --- Nothing before the decision --------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [PING, FORBIDDEN], ids=["allowed", "forbidden"])
def test_nothing_goes_upstream_before_the_last_byte(
    gateway: Gateway, upstream: Recorder, issuer: Issuer, body: Post
) -> None:
    with http1.Connection(gateway.port) as connection:
        length = ("Content-Length", str(len(body.body)))
        connection.send(head("POST", "/mcp", [host(gateway), *bearer(issuer.token()), *body.list(), length]))
        connection.send(body.body[:-1])
        assert upstream.saw_nothing(seconds=0.4)
        connection.send(body.body[-1:])
        assert connection.response().status == (200 if body is PING else 403)
    assert len(upstream.requests) == (1 if body is PING else 0)


def test_nothing_goes_upstream_before_the_last_frame(gateway: Gateway, upstream: Recorder, issuer: Issuer) -> None:
    with http2.Connection(gateway.port) as connection:
        stream = connection.start("POST", "/mcp", [*bearer(issuer.token()), *PING.list()])
        connection.data(stream, PING.body)
        assert upstream.saw_nothing(seconds=0.4)
        connection.data(stream, b"", end=True)
        assert connection.response(stream).status == 200
    assert upstream.only().body == PING.body


def test_a_request_that_expects_100_continue_is_held_all_the_same(
    gateway: Gateway, upstream: Recorder, issuer: Issuer
) -> None:
    with http1.Connection(gateway.port) as connection:
        extra = [("Content-Length", str(len(PING.body))), ("Expect", "100-continue")]
        connection.send(head("POST", "/mcp", [host(gateway), *bearer(issuer.token()), *PING.list(), *extra]))
        assert connection.socket.recv(64).startswith(b"HTTP/1.1 100")
        assert upstream.saw_nothing(seconds=0.1)
        connection.send(PING.body)
        assert connection.response().status == 200


def test_requests_on_one_connection_are_judged_one_by_one(gateway: Gateway, upstream: Recorder, issuer: Issuer) -> None:
    token = issuer.token()
    with http1.Connection(gateway.port) as connection:
        for post, status in ((PING, 200), (FORBIDDEN, 403), (PING, 200)):
            length = ("Content-Length", str(len(post.body)))
            credential = bearer(token)
            connection.send(head("POST", "/mcp", [host(gateway), *credential, *post.list(), length]) + post.body)
            assert connection.response().status == status
        length = ("Content-Length", str(len(PING.body)))
        connection.send(head("POST", "/mcp", [host(gateway), *PING.list(), length]) + PING.body)
        assert connection.response().status == 401
    assert [request.body for request in upstream.requests] == [PING.body, PING.body]


def test_a_request_in_the_body_of_another_is_no_request(gateway: Gateway, upstream: Recorder, issuer: Issuer) -> None:
    inner = head("POST", "/mcp", [host(gateway), ("Content-Length", str(len(PING.body)))]) + PING.body
    smuggled = replace(PING.with_headers(CHUNKED), body=chunked() + inner)
    assert gateway.send(smuggled, issuer.token()).status == 400
    assert upstream.saw_nothing()


# --- Trailers ---------------------------------------------------------------------------------------------------------


def enable_trailers(listener: Document) -> None:
    """As an operator may."""
    manager_of(listener)["http_protocol_options"] = {"enable_trailers": True}


@pytest.fixture(scope="module")
def with_trailers(start_gateway: NewGateway, issuer: Issuer) -> Gateway:
    """A gateway on which HTTP/1.1 requests may have trailers too."""
    document = policy(issuer, resource={"uri": "https://trailers.example/mcp"})
    return start_gateway(document, issuer, adjust=enable_trailers)


TRAILERS: http1.Headers = [("x-toolgate-subject", "root"), ("x-checksum", "1")]


@pytest.mark.parametrize("protocol", ["http1", "http2"])
def test_trailers_cannot_smuggle_an_unchecked_body(with_trailers: Gateway, issuer: Issuer, protocol: str) -> None:
    """With trailers the end of the body is never announced: whoever waits for that lets the body pass."""
    with_trailers.upstream.forget()
    token = issuer.token(aud="https://trailers.example/mcp")

    def send(post: Post) -> Response:
        if protocol == "http2":
            return with_trailers.send2(post, token, post.body[:9], post.body[9:], trailers=TRAILERS)
        in_pieces = chunked(post.body[:9], post.body[9:], trailers=TRAILERS)
        return with_trailers.send(replace(post.with_headers(CHUNKED), body=in_pieces), token)

    assert send(FORBIDDEN).status == 403
    assert send(PING.with_body(b"{")).status == 400
    assert with_trailers.upstream.saw_nothing()
    assert send(PING).status == 200
    request = with_trailers.upstream.only()
    assert request.body == PING.body
    assert request.header("x-toolgate-subject") == "alice"
    assert request.trailers == ()
    assert b"root" not in with_trailers.upstream.raw


def test_a_request_of_headers_and_trailers_only_has_an_empty_body(
    gateway: Gateway, upstream: Recorder, issuer: Issuer
) -> None:
    headers = [*bearer(issuer.token()), *PING.list()]
    response = http2.request(gateway.port, "POST", "/mcp", headers, trailers=TRAILERS)
    assert (response.status, response.error()["code"]) == (400, -32700)
    assert upstream.saw_nothing()


def test_a_post_that_ends_with_its_headers_has_an_empty_body(
    gateway: Gateway, upstream: Recorder, issuer: Issuer
) -> None:
    for send in (gateway.send, gateway.send2):
        response = send(PING.with_body(b""), issuer.token())
        assert (response.status, response.error()["code"]) == (400, -32700)
    assert upstream.saw_nothing()


# --- Size and aborts --------------------------------------------------------------------------------------------------


def test_a_body_that_announces_to_be_too_large_is_not_waited_for(
    gateway: Gateway, upstream: Recorder, issuer: Issuer
) -> None:
    for length in (str(MAX_REQUEST_BYTES + 1), "99999999999999"):
        with http1.Connection(gateway.port) as connection:
            headers = [host(gateway), *bearer(issuer.token()), *PING.list(), ("Content-Length", length)]
            connection.send(head("POST", "/mcp", headers))
            assert connection.response().status == 413
    assert upstream.saw_nothing()


def test_a_body_that_turns_out_too_large_is_cut_off(gateway: Gateway, upstream: Recorder, issuer: Issuer) -> None:
    piece = b" " * 65_536
    with http1.Connection(gateway.port) as connection:
        connection.send(head("POST", "/mcp", [host(gateway), *bearer(issuer.token()), *PING.list(), CHUNKED]))
        for _ in range(MAX_REQUEST_BYTES // len(piece) + 1):
            connection.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        response = connection.response()
    assert (response.status, response.error()["code"]) == (413, -32600)
    assert upstream.saw_nothing()


def test_a_large_body_over_http2_is_refused(gateway: Gateway, upstream: Recorder, issuer: Issuer) -> None:
    frames = [b" " * 16_384] * (MAX_REQUEST_BYTES // 16_384 + 2)
    assert gateway.send2(PING, issuer.token(), *frames).status == 413
    assert upstream.saw_nothing()


def test_one_byte_too_many_is_too_many(gateway: Gateway, upstream: Recorder, issuer: Issuer) -> None:
    body = PING.body + b" " * (MAX_REQUEST_BYTES + 1 - len(PING.body))
    for send in SENDING:
        assert send(gateway, body, issuer.token()).status == 413, send.__name__
    assert upstream.saw_nothing()


def test_a_buffer_smaller_than_the_policys_limit_fails_closed(start_gateway: NewGateway, issuer: Issuer) -> None:
    """Envoy gives up at 2 MiB in the reference configuration; then nobody has judged the request."""
    generous = start_gateway(policy(issuer, protocol={"max_request_bytes": 16 * 1024 * 1024}), issuer)
    body = PING.body + b" " * 3_000_000
    for length in (("Content-Length", str(len(body))), CHUNKED):
        sent = chunked(body) if length is CHUNKED else body
        assert generous.send(replace(PING.with_headers(length), body=sent), issuer.token()).status == 413
    assert generous.upstream.saw_nothing()
    assert generous.send(PING.with_body(PING.body + b" " * 1_500_000), issuer.token()).status == 200


@pytest.mark.parametrize("difference", [-1, 1])
def test_a_length_that_does_not_fit_the_body_is_no_way_in(
    gateway: Gateway, upstream: Recorder, issuer: Issuer, difference: int
) -> None:
    wrong = PING.with_headers(("Content-Length", str(len(PING.body) + difference)))
    with pytest.raises(ConnectionResetError):
        gateway.send2(wrong, issuer.token())
    with http1.Connection(gateway.port) as connection:
        connection.send(head("POST", "/mcp", [host(gateway), *bearer(issuer.token()), *wrong.list()]) + PING.body)
        if difference < 0:
            assert connection.response().status == 400
    assert upstream.saw_nothing(seconds=0.1)


def test_an_aborted_upload_never_reaches_the_upstream(gateway: Gateway, upstream: Recorder, issuer: Issuer) -> None:
    headers = [host(gateway), *bearer(issuer.token()), *PING.list()]
    for extra, data in (
        (("Content-Length", str(len(PING.body))), PING.body[:-1]),
        (CHUNKED, chunked(PING.body)[:-2]),
        (CHUNKED, b"%x\r\n%b\r\n" % (len(PING.body), PING.body)),
    ):
        for is_half_closed in (True, False):
            with http1.Connection(gateway.port) as connection:
                connection.send(head("POST", "/mcp", [*headers, extra]) + data)
                if is_half_closed:
                    connection.socket.shutdown(socket.SHUT_WR)
                    assert upstream.saw_nothing(seconds=0.05)
    with http2.Connection(gateway.port) as connection:
        stream = connection.start("POST", "/mcp", headers[1:])
        connection.data(stream, PING.body)
        connection.reset(stream)
        assert upstream.saw_nothing(seconds=0.2)
        stream = connection.start("POST", "/mcp", headers[1:])
        connection.data(stream, PING.body, end=True)
        assert connection.response(stream).status == 200


def test_no_upgrade_to_another_protocol_gets_past_the_gateway(
    gateway: Gateway, upstream: Recorder, issuer: Issuer
) -> None:
    for upgrade in ("websocket", "h2c"):
        wish = (("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", upgrade), ("HTTP2-Settings", "AAMAAABkAAQAAP__"))
        stream = Post(b"", (("MCP-Protocol-Version", "2025-11-25"), *wish), "GET")
        response = gateway.send(stream, issuer.token())
        assert response.status in (200, 403)
        assert all(request.header("upgrade") is None for request in upstream.requests)


# --- Answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_", [PING, Post(b"", (("MCP-Protocol-Version", "2025-11-25"),), "GET")], ids=["post", "get"]
)
def test_events_reach_the_client_as_they_come(
    gateway: Gateway, upstream: Recorder, issuer: Issuer, request_: Post
) -> None:
    gate = threading.Event()
    first, last = b"id: 1\ndata:\n\n", b'event: message\ndata: {"jsonrpc":"2.0","method":"notifications/message"}\r\n\r\n: bye\n\n'
    length = [("Content-Length", str(len(request_.body)))] if request_.body else []
    headers = [host(gateway), *bearer(issuer.token()), *request_.list(), *length]
    with (
        upstream.replying(recorder.events(first, last, before_last=gate)),
        http1.Connection(gateway.port) as connection,
    ):
        connection.send(head(request_.method, "/mcp", headers) + request_.body)
        status, answer = connection.response_head()
        assert (status, dict(answer)["content-type"]) == (200, "text/event-stream")
        assert connection.chunk() == first
        gate.set()
        assert connection.chunk() == last
        assert connection.chunk() == b""


def test_a_client_that_leaves_a_stream_leaves_the_upstream_too(
    gateway: Gateway, upstream: Recorder, issuer: Issuer
) -> None:
    """In 2026-07-28 closing the stream is how a client cancels."""
    left = threading.Event()

    def until_left(_: recorder.Recorded, connection: Any) -> None:
        try:
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            connection.sendall(b"2\r\n:\n\r\n")
            gone = connection.recv(1) == b""
        except OSError:  # Envoy may close before it has read the event, which the kernel turns into a reset
            gone = True
        if gone:
            left.set()

    with upstream.replying(until_left), http2.Connection(gateway.port) as connection:
        stream = connection.start("POST", "/mcp", [*bearer(issuer.token()), *PING.list()])
        connection.data(stream, PING.body, end=True)
        upstream.wait_for(1)
        connection.reset(stream)
        assert left.wait(5)


@pytest.mark.parametrize("status", [200, 202, 204, 304, 400, 404, 409, 429, 500, 503])
def test_the_upstreams_answer_arrives_as_it_is(
    gateway: Gateway, upstream: Recorder, issuer: Issuer, status: int
) -> None:
    body = b"" if status in (204, 304) else b'{ "odd":  1.0 }'
    extra = {"x-server": "kept", "content-type": "application/json"}
    with upstream.replying(recorder.answer(status, body, extra)):
        response = gateway.send(PING, issuer.token())
    assert (response.status, response.body, response.header("x-server")) == (status, body, "kept")

"""Filtered lists: a caller sees what it may call, whichever way the list comes back."""

import gzip
import json
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from conftest import NewGateway
from support import http1, http2, messages, recorder
from support.gateway import Document, Gateway, bearer
from support.http1 import Response
from support.issuer import Issuer
from support.messages import HANDSHAKE, REVISIONS, STATELESS, Post
from support.policy import policy
from support.recorder import Recorder, Reply

EVENTS = {"content-type": "text/event-stream"}

#: Method, member of the result, what names an element; one that the scope `contacts:read` shows, one that it does not.
LISTS = {
    "tools": ("tools/list", "tools", "name", "read_contact", "send_message"),
    "resources": ("resources/list", "resources", "uri", "norg://contacts/42", "norg://reports/secret"),
    "templates": (
        "resources/templates/list",
        "resourceTemplates",
        "uriTemplate",
        "norg://contacts/{id}",
        "norg://reports/{week}",
    ),
    "prompts": ("prompts/list", "prompts", "name", None, "brief_week"),
}


def element(key: str, name: str) -> dict[str, Any]:
    """An element of a list, with members that nobody here looks at."""
    return {key: name, "title": "Ein Titel é 😀", "x": [1, {"name": "send_message"}], "_meta": {"ui": {"a": 1.50}}}


def result(members: dict[str, Any], id_: Any = 1) -> dict[str, Any]:
    """An answer."""
    return {"jsonrpc": "2.0", "id": id_, "result": members}


def page(kind: str, *, empty: bool = False) -> tuple[bytes, bytes]:
    """A page as the upstream sends it, and as the caller should see it."""
    _, member, key, shown, hidden = LISTS[kind]
    wanted = [json.dumps(element(key, shown))] if shown and not empty else []
    unwanted = json.dumps(element(key, hidden))

    def of(elements: list[str]) -> bytes:
        return (
            f' {{"jsonrpc": "2.0",\t"id":1, "result" :{{"a":1.0, "{member}": [{", ".join(elements)}],'
            f' "nextCursor": "page 2"}} }}\n'
        ).encode()

    return of([unwanted, *wanted, unwanted]), of(wanted)


def as_json(body: bytes) -> Reply:
    """The answer in one piece."""
    return recorder.answer(200, body)


def as_json_in_chunks(body: bytes) -> Reply:
    """The answer in pieces, of unknown length."""

    def reply(_: recorder.Recorded, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
        connection.sendall(http1.chunked(*(body[at : at + 7] for at in range(0, len(body), 7))))

    return reply


def as_events(body: bytes) -> Reply:
    """The answer as an event, split in odd places."""
    event = b"id: 7\r\nevent: message\r\ndata: " + b"\r\ndata: ".join(body.strip().splitlines()) + b"\r\n\r\n"
    return recorder.events(*(event[at : at + 11] for at in range(0, len(event), 11)))


FORMS: dict[str, Callable[[bytes], Reply]] = {
    "json": as_json,
    "chunked": as_json_in_chunks,
    "events": as_events,
}


def content(response: Response) -> bytes:
    """The message in an answer of either kind."""
    assert response.status == 200, response
    if response.header("content-type") == "application/json":
        return response.body
    lines = response.body.split(b"\r\n")
    assert b"id: 7" in lines and b"event: message" in lines
    return b"\n".join(line.removeprefix(b"data: ") for line in lines if line.startswith(b"data:"))


# --- What is shown ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("revision", [HANDSHAKE[0], "2025-11-25"])
def test_a_list_shows_what_the_caller_may_call_and_keeps_every_other_byte(
    gateway: Gateway, upstream: Recorder, issuer: Issuer, kind: str, form: str, revision: str
) -> None:
    sent, expected = page(kind)
    with upstream.replying(FORMS[form](sent)):
        response = gateway.send(messages.in_revision(revision, LISTS[kind][0]), issuer.token("contacts:read"))
    assert content(response).strip() == expected.strip()
    # The length was that of the upstream's answer.
    assert response.header("content-length") is None


def test_a_page_may_become_empty_and_keeps_its_cursor(gateway: Gateway, upstream: Recorder, issuer: Issuer) -> None:
    sent, expected = page("tools", empty=True)
    for cursor in (None, "", "page 2"):
        params = {"cursor": cursor} if cursor is not None else None
        with upstream.replying(as_json(sent)):
            response = gateway.send(messages.handshake("tools/list", params), issuer.token())
        assert response.body == expected


@pytest.mark.parametrize("revision", REVISIONS)
def test_filtered_lists_are_cached_for_their_caller_only_and_not_for_long(
    gateway: Gateway, upstream: Recorder, issuer: Issuer, revision: str
) -> None:
    for hints in ({"ttlMs": 86_400_000, "cacheScope": "public"}, {"cacheScope": "public", "ttlMs": 86_400_000}, {}):
        sent = json.dumps(result({"tools": [], **hints})).encode()
        with upstream.replying(as_json(sent)):
            got = gateway.send(messages.in_revision(revision, "tools/list"), issuer.token()).json()["result"]
        if hints:
            assert (got["ttlMs"], got["cacheScope"]) == (60_000, "private")
        elif revision == STATELESS:
            assert (got["ttlMs"], got["cacheScope"]) == (0, "private")
        else:
            assert got == {"tools": []}


def test_every_answer_in_a_batch_is_filtered(gateway: Gateway, upstream: Recorder, issuer: Issuer) -> None:
    batch = [messages.message("ping", id=1), messages.message("tools/list", id=2), messages.message("ping", id=3)]
    tools = [element("name", name) for name in ("send_message", "read_contact")]
    answers = [result({}, 1), result({"tools": tools}, 2), result({}, 3)]
    for reply in (as_json, as_events):
        with upstream.replying(reply(json.dumps(answers).encode())):
            response = gateway.send(messages.post(batch), issuer.token("contacts:read"))
        answers_left = json.loads(content(response))
        assert answers_left == [result({}, 1), result({"tools": tools[1:]}, 2), result({}, 3)]


def test_what_a_list_hides_is_refused_when_it_is_called(gateway: Gateway, upstream: Recorder, issuer: Issuer) -> None:
    tools = ["ping", "read_contact", "send_message", "crm_delete_all", "unheard_of"]
    sent = json.dumps(result({"tools": [element("name", tool) for tool in tools]})).encode()
    for scopes in ((), ("contacts:read",), ("messages:write", "crm:delete")):
        with upstream.replying(as_json(sent)):
            listed = gateway.send(messages.handshake("tools/list"), issuer.token(*scopes)).json()["result"]["tools"]
        shown = {tool["name"] for tool in listed}
        for tool in tools:
            response = gateway.send(messages.call(tool), issuer.token(*scopes))
            assert (response.status == 200) == (tool in shown), (tool, scopes)
        upstream.wait_for(len(shown) + 1)
        upstream.forget()


def test_a_list_comes_back_whole_over_http2_and_with_trailers(
    gateway: Gateway, upstream: Recorder, issuer: Issuer
) -> None:
    sent, expected = page("tools")

    def with_trailers(_: recorder.Recorded, connection: socket.socket) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n"
        connection.sendall(head + b"trailer: x-sum\r\n\r\n" + http1.chunked(sent, trailers=[("x-sum", "1")]))

    for reply in (as_json(sent), as_json_in_chunks(sent), with_trailers):
        with upstream.replying(reply):
            response = gateway.send2(messages.handshake("tools/list"), issuer.token("contacts:read"))
        assert (response.status, response.body) == (200, expected)


def test_duties_are_told_with_the_tools(start_gateway: NewGateway, issuer: Issuer) -> None:
    rules = [
        {"tools": ["plain"], "scopes": []},
        {"tools": ["gated"], "scopes": [], "approval": {}, "authentication": {"acr": ["mfa"]}},
    ]
    gateway = start_gateway(policy(issuer, rules=rules), issuer)
    forged = {"_meta": {"dev.toolgate/duty": {}, "other": 1}}
    sent = [{"name": "plain"} | forged, {"name": "gated"} | forged, {"name": "hidden"}]
    with gateway.upstream.replying(as_json(json.dumps(result({"tools": sent})).encode())):
        tools = gateway.send(messages.handshake("tools/list"), issuer.token()).json()["result"]["tools"]
    duty = {"approval": "required", "step_up": {"acr_values": ["mfa"]}}
    assert tools == [
        {"name": "plain", "_meta": {"other": 1}},
        {"name": "gated", "_meta": {"other": 1, "dev.toolgate/duty": duty}},
    ]


# --- What is refused --------------------------------------------------------------------------------------------------


def refused(response: Response, reason: str, gateway: Gateway) -> None:
    """A JSON-RPC error with the id of the request, and nothing of the list."""
    assert (response.status, response.json()["id"], response.error()["code"]) == (502, "a-1", -33003), response
    assert b"send_message" not in response.body
    deadline = time.monotonic() + 5
    while not any(line["details"] == reason for line in gateway.logged(1)):
        assert time.monotonic() < deadline, f"no line says {reason}"
        time.sleep(0.05)


LIST = messages.handshake("tools/list", id="a-1")


def test_the_upstream_is_asked_not_to_compress_and_refused_if_it_does(
    start_gateway: NewGateway, issuer: Issuer
) -> None:
    gateway = start_gateway(policy(issuer), issuer)
    body = gzip.compress(page("tools")[0])
    for headers in (
        {"content-encoding": "gzip"},
        {"content-encoding": "gzip"} | EVENTS,
        {"content-encoding": "identity, gzip"},
    ):
        with gateway.upstream.replying(recorder.answer(200, body, headers)):
            asking = LIST.with_headers(("Accept-Encoding", "gzip, br"))
            refused(gateway.send(asking, issuer.token()), "answer_encoded", gateway)
    assert {request.header("accept-encoding") for request in gateway.upstream.requests} == {"identity"}
    # What is no list may come as it likes, events excepted: anything can be in a stream.
    with gateway.upstream.replying(recorder.answer(200, body, {"content-encoding": "gzip"})):
        response = gateway.send(messages.handshake("ping"), issuer.token())
    assert (response.status, response.body, response.header("content-encoding")) == (200, body, "gzip")


def test_a_list_of_another_media_type_is_refused(start_gateway: NewGateway, issuer: Issuer) -> None:
    gateway = start_gateway(policy(issuer), issuer)
    sent = page("tools")[0]
    for media_type in ("text/html", "application/x-ndjson", "text/plain; was=text/event-stream"):
        with gateway.upstream.replying(recorder.answer(200, sent, {"content-type": media_type})):
            refused(gateway.send(LIST, issuer.token()), "answer_media_type", gateway)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xef\xbb\xbf{}",
        b'{"jsonrpc":"2.0","id":1,"result":{"tools":[],"tools":[{"name":"send_message"}]}}',
        b'{"jsonrpc":"2.0","id":1,"result":{"Tools":[{"name":"send_message"}]}}',
        b'{"jsonrpc":"2.0","id":1,"result":{"tools":{"0":{"name":"send_message"}}}}',
    ],
)
def test_a_list_that_cannot_be_read_is_refused(start_gateway: NewGateway, issuer: Issuer, body: bytes) -> None:
    gateway = start_gateway(policy(issuer), issuer)
    with gateway.upstream.replying(as_json_in_chunks(body) if body else as_json(b"{")):
        refused(gateway.send(LIST, issuer.token()), "answer_unreadable", gateway)


def large_list(size: int) -> bytes:
    """A list with about this many bytes, of tools that everybody may see."""
    return json.dumps(result({"tools": [{"name": "ping", "description": "x" * 1000}] * (size // 1030)})).encode()


def test_a_list_that_is_too_large_is_refused_and_never_passed(start_gateway: NewGateway, issuer: Issuer) -> None:
    # Envoy holds as much as the reference configuration says, 2 MiB, and answers by itself beyond.
    gateway = start_gateway(policy(issuer), issuer)
    fits = large_list(1_900_000)
    with gateway.upstream.replying(as_json(fits)):
        assert gateway.send(LIST, issuer.token()).body == fits
    with gateway.upstream.replying(as_json(large_list(2_500_000))):
        response = gateway.send(LIST, issuer.token())
    assert (response.status, b"ping" in response.body) == (500, False)

    def with_large_buffers(listener: Document) -> None:
        listener["per_connection_buffer_limit_bytes"] = 16_000_000

    gateway = start_gateway(policy(issuer), issuer, adjust=with_large_buffers)
    fits = large_list(3_900_000)
    with gateway.upstream.replying(as_json(fits)):
        assert gateway.send(LIST, issuer.token()).body == fits
    with gateway.upstream.replying(as_json(large_list(4_400_000))):
        refused(gateway.send(LIST, issuer.token()), "answer_too_large", gateway)


@pytest.mark.parametrize("status", [400, 404, 500, 503])
def test_errors_of_an_upstream_pass_as_far_as_they_can_be_judged(
    gateway: Gateway, upstream: Recorder, issuer: Issuer, status: int
) -> None:
    error = b'{"jsonrpc": "2.0", "id": "a-1", "error": {"code": -32603, "message": "x"}}'
    not_mcp = b'{"detail": "Not Found", "tools": [{"name": "send_message"}]}'
    for body, media_type in ((not_mcp, "application/json"), (b"<h1>send_message</h1>", "text/html")):
        with upstream.replying(recorder.answer(status, body, {"content-type": media_type})):
            response = gateway.send(LIST, issuer.token())
        # The status is what clients go by; what cannot be judged does not pass with it.
        assert (response.status, response.error()["code"], response.json()["id"]) == (status, -33003, "a-1")
    for body, media_type in ((error, "application/json"), (b"", "text/plain")):
        with upstream.replying(recorder.answer(status, body, {"content-type": media_type})):
            response = gateway.send(LIST, issuer.token())
        assert (response.status, response.body) == (status, body)


def test_an_upstream_that_breaks_off_a_list_has_sent_none(gateway: Gateway, upstream: Recorder, issuer: Issuer) -> None:
    def broken(_: recorder.Recorded, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9999\r\n\r\n")
        connection.sendall(page("tools")[0])
        recorder.reset(_, connection)

    with upstream.replying(broken), http1.Connection(gateway.port) as connection:
        headers = [("Host", f"127.0.0.1:{gateway.port}"), *bearer(issuer.token()), *LIST.list(), ("Content-Length", str(len(LIST.body)))]
        connection.send(http1.head("POST", "/mcp", headers) + LIST.body)
        try:
            response = connection.response()
            assert (response.status, b"read_contact" in response.body) == (502, False)
        except ConnectionError as error:
            assert b"tools" not in str(error).encode()


def test_a_head_only_answer_passes(gateway: Gateway, upstream: Recorder, issuer: Issuer) -> None:
    for status in (200, 202, 204):
        with upstream.replying(recorder.answer(status)):
            assert gateway.send(LIST, issuer.token()).status == status


def test_http2_clients_get_whole_answers_too(gateway: Gateway, upstream: Recorder, issuer: Issuer) -> None:
    sent, expected = page("tools")
    with upstream.replying(as_events(sent)):
        response = http2.request(
            gateway.port, "POST", "/mcp", [*bearer(issuer.token("contacts:read")), *LIST.list()], (LIST.body,)
        )
    assert expected.strip().splitlines()[0] in response.body
    assert b'"send_message", "title"' not in response.body


def test_a_post_without_the_gateways_answer_is_unchanged(gateway: Gateway, upstream: Recorder, issuer: Issuer) -> None:
    """Only lists are held: the answer to anything else keeps its length and its bytes."""
    body = b'{"jsonrpc": "2.0",  "id": 1, "result": {"content": [], "n": 1.0}}'
    with upstream.replying(recorder.answer(200, body)):
        response = gateway.send(Post(messages.call("ping").body, messages.call("ping").headers), issuer.token())
    assert (response.body, response.header("content-length")) == (body, str(len(body)))

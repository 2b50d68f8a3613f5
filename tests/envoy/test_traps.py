"""The traps for an enforcing intermediary: every way to make the gateway read one request and the server another.

The numbers are those of the project's list of traps. Whatever the request, the token is good and grants nothing, the
answer is the one in the table, and the upstream sees not a byte.
"""

import json
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest

from support import messages
from support.gateway import Gateway
from support.issuer import Issuer
from support.messages import META_CAPABILITIES, META_VERSION, STATELESS, Post, handshake, message, post, stateless
from support.policy import MAX_REQUEST_BYTES
from support.recorder import Recorder

PARSE, INVALID, NO_METHOD, PARAMS = -32700, -32600, -32601, -32602
MISMATCH, VERSION, DENIED = -32020, -32022, -33002
TOOL = "crm_delete_all"
META: dict[str, Any] = {META_VERSION: STATELESS, META_CAPABILITIES: {}}
META_JSON = json.dumps(META)
CALL = messages.call(TOOL)


@dataclass(frozen=True)
class Trap:
    """A request and the only right answer to it."""

    name: str
    post: Post
    status: int
    code: int | None
    reason: str
    #: Whether the answer names the request's id, which is 1.
    echoes_id: bool = False


def raw(body: str | bytes, revision: str = STATELESS) -> Post:
    """A tool call of which only the body is of interest: its headers are right."""
    if revision == STATELESS:
        return CALL.with_body(body)
    return handshake("tools/call", revision=revision).with_body(body)


def ambiguous(name: str, body: str) -> Trap:
    return Trap(name, raw(body), 400, INVALID, "ambiguous_json")


def unparsable(name: str, body: str | bytes) -> Trap:
    return Trap(name, raw(body), 400, PARSE, "parse_error")


def invalid(name: str, request: Post, *, echoes_id: bool = False) -> Trap:
    return Trap(name, request, 400, INVALID, "invalid_request", echoes_id)


def bad_params(name: str, request: Post) -> Trap:
    return Trap(name, request, 400, PARAMS, "invalid_params", echoes_id=True)


def mismatch(name: str, request: Post) -> Trap:
    return Trap(name, request, 400, MISMATCH, "header_mismatch", echoes_id=True)


def denied(name: str, request: Post, reason: str = "no_rule") -> Trap:
    return Trap(name, request, 403, DENIED, reason, echoes_id=True)


def text(params: str, *, prefix: str = '"jsonrpc":"2.0","id":1,"method":"tools/call"') -> str:
    """A message in JSON text, so that it can have what no encoder writes."""
    return f'{{{prefix},"params":{{{params},"_meta":{META_JSON}}}}}'


def tool_named(name: Any) -> Post:
    """A call of a tool whose name may be anything, mirrored as well as can be."""
    request = stateless("tools/call", {"name": name, "arguments": {}})
    return request if isinstance(name, str) and name else request.setting(Mcp_Name="ping")


def resource(uri: Any) -> Post:
    return stateless("resources/read", {"uri": uri})


DUPLICATES = [
    ambiguous(
        "T1-method",
        text('"name":"crm_delete_all"', prefix='"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"'),
    ),
    ambiguous("T1-name", text('"name":"ping","name":"crm_delete_all"')),
    ambiguous("T1-name-reversed", text('"name":"crm_delete_all","name":"ping"')),
    ambiguous("T1-name-in-escapes", text('"name":"ping","n\\u0061me":"crm_delete_all"')),
    ambiguous("T1-params", '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"ping"},"params":{}}'),
    ambiguous("T1-meta", text(f'"name":"ping","_meta":{META_JSON}')),
    ambiguous("T1-id", text('"name":"ping"', prefix='"jsonrpc":"2.0","id":1,"id":2,"method":"tools/call"')),
    ambiguous("T1-arguments", text('"name":"ping","arguments":{"to":"a"},"arguments":{"to":"b"}')),
    ambiguous("T1-deep-in-arguments", text('"name":"ping","arguments":{"a":[{"to":"a","to":"b"}]}')),
]

MISSPELT = [
    ambiguous(
        "T2-method-in-title-case",
        text('"name":"ping"', prefix='"jsonrpc":"2.0","id":1,"method":"tools/call","Method":"x"'),
    ),
    ambiguous("T2-name-in-capitals", text('"name":"ping","NAME":"crm_delete_all"')),
    ambiguous("T2-long-s", '{"jsonrpc":"2.0","id":1,"method":"tools/call","param\u017f":{},"params":{"name":"ping"}}'),
    ambiguous("T2-trailing-nul", text('"name":"ping","name\\u0000":"crm_delete_all"')),
    ambiguous("T2-trailing-blank", text('"name":"ping","name ":"crm_delete_all"')),
    ambiguous("T2-arguments", text('"name":"ping","arguments":{},"Arguments":{"all":true}')),
    ambiguous("T2-meta", text('"name":"ping","_META":{}')),
    ambiguous(
        "T2-version-in-meta",
        f'{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"ping","_meta":{{{META_JSON[1:-1]},"{META_VERSION.upper()}":"2025-03-26"}}}}}}',
    ),
    ambiguous("T2-kelvin-sign", text('"name":"ping","tas\u212a":{}')),
]

ONE = json.dumps(message("tools/call", {"name": TOOL}))
BATCHES = [
    *(
        invalid(f"T3-batch-in-{revision}", raw(f"[{ONE}]", revision))
        for revision in ("2025-06-18", "2025-11-25", STATELESS)
    ),
    *(invalid(f"T3-empty-batch-{revision}", raw("[]", revision)) for revision in messages.REVISIONS),
    invalid(
        "T3-handshake-in-batch",
        raw(f"[{messages.initialize('2025-03-26').body.decode()}]", "2025-03-26"),
        echoes_id=True,
    ),
    Trap(
        "T3-stateless-message-in-batch",
        raw(f"[{stateless('tools/list').body.decode()}]", "2025-03-26"),
        400,
        MISMATCH,
        "header_mismatch",
        echoes_id=True,
    ),
    invalid("T3-array-in-array", raw(f"[[{ONE}]]", "2025-03-26")),
    invalid("T3-number-in-batch", raw(f"[{ONE},1]", "2025-03-26")),
    Trap(
        "T3-too-many",
        raw(f"[{','.join([json.dumps(message('ping'))] * 65)}]", "2025-03-26"),
        400,
        INVALID,
        "ambiguous_json",
    ),
    invalid(
        "T3-requests-and-responses-mixed",
        raw(f'[{json.dumps(message("ping"))},{{"jsonrpc":"2.0","id":1,"result":{{}}}}]', "2025-03-26"),
    ),
]

SHAPES = [
    invalid("T4-call-without-id", stateless("tools/call", {"name": "ping"}, id=None)),
    invalid(
        "T4-call-with-null-id", raw(text('"name":"ping"', prefix='"jsonrpc":"2.0","id":null,"method":"tools/call"'))
    ),
    *(
        invalid(f"T4-call-without-id-{revision}", handshake("tools/call", {"name": "ping"}, revision, id=None))
        for revision in messages.HANDSHAKE
    ),
    invalid("T4-notification-with-id", handshake("notifications/initialized"), echoes_id=True),
    Trap("T4-unknown-notification", handshake("notifications/tools/call", id=None), 400, NO_METHOD, "unknown_method"),
    Trap(
        "T4-unknown-stateless-notification",
        stateless("notifications/initialized", id=None),
        404,
        NO_METHOD,
        "unknown_method",
    ),
    invalid("T5-nothing", raw('{"jsonrpc":"2.0","id":1}'), echoes_id=True),
    invalid("T5-empty", raw("{}")),
    invalid(
        "T5-method-and-result",
        raw(text('"name":"ping"', prefix='"jsonrpc":"2.0","id":1,"result":{},"method":"tools/call"')),
        echoes_id=True,
    ),
    invalid(
        "T5-method-and-error",
        raw(text('"name":"ping"', prefix='"jsonrpc":"2.0","id":1,"error":null,"method":"tools/call"')),
        echoes_id=True,
    ),
    invalid(
        "T5-result-and-error", raw('{"jsonrpc":"2.0","id":1,"result":{},"error":{}}', "2025-11-25"), echoes_id=True
    ),
    invalid("T5-response-without-id", raw('{"jsonrpc":"2.0","result":{}}', "2025-11-25")),
    Trap(
        "T5-response-in-stateless-revision",
        raw('{"jsonrpc":"2.0","id":1,"result":{}}'),
        400,
        INVALID,
        "unsupported_revision",
        True,
    ),
    invalid(
        "T5-jsonrpc-1.0",
        raw(text('"name":"ping"', prefix='"jsonrpc":"1.0","id":1,"method":"tools/call"')),
        echoes_id=True,
    ),
    invalid("T5-no-jsonrpc", raw(text('"name":"ping"', prefix='"id":1,"method":"tools/call"')), echoes_id=True),
    invalid(
        "T5-method-not-text",
        raw(text('"name":"ping"', prefix='"jsonrpc":"2.0","id":1,"method":["tools/call"]')),
        echoes_id=True,
    ),
    bad_params("T5-params-a-list", raw('{"jsonrpc":"2.0","id":1,"method":"tools/call","params":["crm_delete_all"]}')),
    invalid("T5-text", raw('"tools/call"')),
    invalid("T5-null", raw("null")),
    *(
        invalid(
            f"T6-id-{label}", raw(text('"name":"ping"', prefix=f'"jsonrpc":"2.0","id":{value},"method":"tools/call"'))
        )
        for label, value in {
            "fraction": "1.0",
            "exponent": "1e2",
            "true": "true",
            "object": "{}",
            "list": "[1]",
            "too-long": json.dumps("x" * 255),
        }.items()
    ),
]

ENCODINGS = [
    unparsable("T8-byte-order-mark", b"\xef\xbb\xbf" + CALL.body),
    unparsable("T8-utf-16", CALL.body.decode().encode("utf-16")),
    unparsable("T8-utf-16-without-mark", CALL.body.decode().encode("utf-16-le")),
    unparsable("T8-invalid-utf-8", CALL.body.replace(b"crm_delete_all", b"crm_\xff")),
    unparsable("T8-overlong-utf-8", CALL.body.replace(b"crm_delete_all", b"crm_\xc0\xae")),
    unparsable("T8-surrogates-in-utf-8", CALL.body.replace(b"crm_delete_all", b"crm_\xed\xa0\x80")),
    *(
        Trap(f"T8-type-{label}", CALL.setting(Content_Type=value), 415, INVALID, "media_type")
        for label, value in {
            "text": "text/plain",
            "form": "application/x-www-form-urlencoded",
            "utf-16": "application/json; charset=utf-16",
            "latin-1": 'application/json; a=b; charset="iso-8859-1"',
            "json-like": "application/vnd.api+json",
            "json-prefix": "application/jsonx",
            "list": "application/json, text/plain",
            "empty": "",
        }.items()
    ),
    Trap("T8-no-type", CALL.without("content-type"), 415, INVALID, "media_type"),
    *(
        Trap(f"T9-encoding-{label}", CALL.setting(Content_Encoding=value), 415, INVALID, "content_encoding")
        for label, value in {"gzip": "gzip", "hidden": "identity, gzip", "unknown": "x", "empty": ""}.items()
    ),
    Trap(
        "T9-encoding-repeated",
        CALL.with_headers(("Content-Encoding", "identity"), ("Content-Encoding", "gzip")),
        415,
        INVALID,
        "content_encoding",
    ),
]

BOMBS = [
    Trap("T10-body-too-large", raw(b" " * MAX_REQUEST_BYTES + CALL.body), 413, INVALID, "too_large"),
    unparsable("T10-empty-body", b""),
    unparsable("T10-blank-body", b"  \r\n"),
    unparsable("T10-two-messages", CALL.body + CALL.body),
    unparsable("T10-cut-off", CALL.body[:-1]),
    unparsable("T10-trailing-comma", text('"name":"ping",')),
    unparsable("T10-comment", CALL.body + b"//"),
    unparsable("T10-nul-at-the-end", CALL.body + b"\0"),
    ambiguous("T11-nested-arguments", text(f'"name":"ping","arguments":{{"a":{"[" * 70}{"]" * 70}}}')),
    Trap("T11-nesting-bomb", raw('{"a":' * 20_000), 400, INVALID, "ambiguous_json"),
    Trap("T11-bomb-of-arrays", raw("[" * 100_000, "2025-03-26"), 400, INVALID, "ambiguous_json"),
    unparsable("T11-lone-surrogate", text('"name":"crm_\\ud800"')),
    unparsable("T11-lone-surrogate-in-name-of-member", text('"name":"ping","arguments":{"\\udc00":1}')),
    unparsable("T11-control-character", text('"name":"crm_\n"')),
    unparsable("T11-number-out-of-range", text('"name":"ping","arguments":{"a":1e999}')),
    unparsable("T11-not-a-number", text('"name":"ping","arguments":{"a":NaN}')),
    ambiguous(
        "T11-too-many-members",
        text('"name":"ping","arguments":{' + ",".join(f'"{i}":0' for i in range(10_001)) + "}"),
    ),
]

NAMES = [
    *(
        denied(f"T12-name-{label}", tool_named(name))
        for label, name in {
            "in-capitals": "READ_CONTACT",
            "leading-blank": " ping",
            "trailing-blank": "ping ",
            "full-width": "ｐｉｎｇ",
            "decomposed": "re\u0301sume\u0301",
            "zero-width": "ping\u200b",
            "with-path": "x/../ping",
            "looks-like-base64": "=?base64?cGluZw==?=x",
        }.items()
    ),
    *(
        bad_params(f"T12-name-{label}", tool_named(name))
        for label, name in {
            "number": 7,
            "true": True,
            "list": ["ping"],
            "object": {"name": "ping"},
            "empty": "",
            "nul": "ping\0",
            "newline": "ping\n",
            "too-long": "p" * 257,
        }.items()
    ),
    bad_params("T12-no-name", stateless("tools/call", {"arguments": {}}).setting(Mcp_Name="ping")),
    bad_params("T12-uri-not-text", stateless("resources/read", {"uri": 7}).setting(Mcp_Name="7")),
    *(
        Trap(f"T13-method-{label}-{revision}", request, status, NO_METHOD, "unknown_method", echoes_id=True)
        for label, method in {
            "in-title-case": "Tools/Call",
            "trailing-blank": "tools/call ",
            "nul": "tools/call\0",
            "double-slash": "tools//call",
            "private": "x-admin/run",
            "sampling": "sampling/createMessage",
            "empty": "",
        }.items()
        for revision, status in (("2025-11-25", 200), (STATELESS, 404))
        for request in [messages.in_revision(revision, method, {"name": TOOL}).without("mcp-method")]
    ),
]

URIS = [
    *(
        denied(f"T14-uri-{label}", resource(uri), "ambiguous_uri")
        for label, uri in {
            "parent": "norg://reports/../secrets",
            "parent-at-end": "norg://reports/..",
            "self": "norg://reports/./weekly",
            "escaped-dots": "norg://reports/%2e%2E/secrets",
            "escaped-slash": "norg://reports/a%2fb",
            "escaped-backslash": "norg://reports/a%5cb",
            "backslash": "norg://reports/..\\secrets",
            "twice-escaped": "norg://reports/%252e%252e/secrets",
            "escaped-nul": "norg://reports/a%00",
            "broken-escape": "norg://reports/%zz",
            "blank": "norg://reports/a b",
            "no-break-space": "norg://reports/a\u00a0b",
        }.items()
    ),
    *(
        denied(f"T14-uri-{label}", resource(uri))
        for label, uri in {
            "other-case": "NORG://reports/weekly",
            "host-case": "norg://REPORTS/weekly",
            "trailing-dot": "norg://reports./weekly",
            "template-not-expanded": "norg://contacts/7",
            "port": "norg://reports:443/weekly",
            "relative": "../reports/weekly",
        }.items()
    ),
]

LIST = stateless("tools/list")
HEADERS = [
    mismatch("T15-method-of-another-call", CALL.setting(Mcp_Method="tools/list")),
    mismatch("T15-method-in-capitals", CALL.setting(Mcp_Method="TOOLS/CALL")),
    mismatch("T15-method-missing", CALL.without("mcp-method")),
    mismatch("T15-name-of-another-tool", CALL.setting(Mcp_Name="ping")),
    mismatch("T15-name-in-capitals", CALL.setting(Mcp_Name="CRM_DELETE_ALL")),
    mismatch("T15-name-missing", CALL.without("mcp-name")),
    mismatch("T15-name-of-another-tool-in-base64", CALL.setting(Mcp_Name="=?base64?cGluZw==?=")),
    mismatch(
        "T15-base64-without-padding",
        messages.call("pin").setting(Mcp_Name="=?base64?cGlu?=").with_body(messages.call("ping").body),
    ),
    mismatch("T15-base64-with-wrong-padding", messages.call("ping").setting(Mcp_Name="=?base64?cGluZw?=")),
    mismatch("T15-base64-marker-in-capitals", messages.call("ping").setting(Mcp_Name="=?BASE64?cGluZw==?=")),
    mismatch("T15-base64-of-invalid-utf-8", messages.call("ping").setting(Mcp_Name="=?base64?/w==?=")),
    mismatch("T15-uri-of-another-resource", resource("norg://reports/a").setting(Mcp_Name="norg://reports/b")),
    mismatch("T15-prompt-of-another-name", stateless("prompts/get", {"name": "brief_a"}).setting(Mcp_Name="brief_b")),
    *(
        Trap(
            f"T16-repeated-{name.lower()}",
            LIST.with_headers((name, "1"), (name, "2")),
            400,
            INVALID,
            "ambiguous_header",
        )
        for name in ("MCP-Protocol-Version", "Mcp-Method", "Mcp-Name", "Mcp-Session-Id", "Last-Event-ID")
    ),
    *(
        Trap(
            f"T16-odd-bytes-in-{name.lower()}",
            LIST.without(name).with_headers((name, value)),
            400,
            INVALID,
            "ambiguous_header",
        )
        for name, value in {
            "Mcp-Name": b"caf\xc3\xa9",
            "Mcp-Method": b"tools/list\xff",
            "Mcp-Session-Id": b"\x80",
        }.items()
    ),
    Trap("T16-repeated-content-type", LIST.with_headers(("Content-Type", "text/plain")), 415, INVALID, "media_type"),
    denied(
        "T17-harmless-mirrors-on-an-old-revision",
        handshake("tools/call", {"name": "unknown"}).with_headers(("Mcp-Method", "tools/list"), ("Mcp-Name", "ping")),
    ),
]

PATHS = [
    *(
        Trap(f"T20-path-{label}", Post(CALL.body, CALL.headers, target=target), 404, None, "unknown_path")
        for label, target in {
            "trailing-slash": "/mcp/",
            "double-slash": "//mcp",
            "in-capitals": "/MCP",
            "old-events": "/sse",
            "old-messages": "/messages",
            "root": "/",
            "below": "/mcp/admin",
            "parameter": "/mcp;x=1",
            "dots-to-another": "/mcp/../admin",
        }.items()
    ),
    *(
        Trap(f"T20-method-{method.lower()}", Post(CALL.body, CALL.headers, method), 405, None, "method_not_allowed")
        for method in ("PUT", "PATCH", "QUERY", "OPTIONS")
    ),
    *(
        Trap(
            f"T21-{method.lower()}-in-stateless-revision",
            Post(b"", (("MCP-Protocol-Version", STATELESS),), method),
            405,
            None,
            "method_not_allowed",
        )
        for method in ("GET", "DELETE")
    ),
    Trap(
        "T21-get-in-unknown-revision",
        Post(b"", (("MCP-Protocol-Version", "1999-01-01"),), "GET"),
        400,
        INVALID,
        "unsupported_revision",
    ),
    Trap(
        "T21-get-with-body",
        Post(CALL.body, (("MCP-Protocol-Version", "2025-11-25"),), "GET"),
        400,
        INVALID,
        "unexpected_body",
    ),
]

TRAPS = [*DUPLICATES, *MISSPELT, *BATCHES, *SHAPES, *ENCODINGS, *BOMBS, *NAMES, *URIS, *HEADERS, *PATHS]


@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.name)
def test_the_upstream_never_sees(gateway: Gateway, upstream: Recorder, issuer: Issuer, trap: Trap) -> None:
    with gateway.deciding() as decided:
        response = gateway.send(trap.post, issuer.token("reports:read"))
    assert upstream.saw_nothing()
    assert (response.status, decided) == (trap.status, {f"deny.{trap.reason}": 1}), response.body
    if trap.code is None:
        assert response.body == b""
    else:
        # Clients that know both eras read a 4xx without a JSON-RPC error as "an old server" (T24); ids are never null.
        assert response.error()["code"] == trap.code
        assert response.json().get("id", "absent") == (1 if trap.echoes_id else "absent")


#: Envoy itself refuses these, as the reference configuration tells it to; the filter never gets to see them.
REFUSED_BY_ENVOY: dict[str, Post] = {
    "escaped-slash-in-path": Post(CALL.body, CALL.headers, target="/x%2F..%2Fmcp"),
    "escaped-backslash-in-path": Post(CALL.body, CALL.headers, target="/x%5c..%5cmcp"),
    "underscore-in-header-name": CALL.with_headers(("X_Toolgate_Subject", "root")),
    "content-length-repeated": CALL.with_headers(("Content-Length", "1"), ("Content-Length", str(len(CALL.body)))),
    "content-length-and-chunks": CALL.with_headers(
        ("Content-Length", str(len(CALL.body))), ("Transfer-Encoding", "chunked")
    ),
    "chunks-in-disguise": CALL.with_headers(("Transfer-Encoding", "xchunked")),
    "blank-before-colon": CALL.with_headers(("Mcp-Session-Id ", "1")),
    "newline-in-header": CALL.with_headers(("X-A", "1\nAuthorization: x")),
    "nul-in-header": CALL.with_headers(("Mcp-Session-Id", b"a\0b")),
}


@pytest.mark.parametrize("request_", REFUSED_BY_ENVOY.values(), ids=REFUSED_BY_ENVOY)
def test_what_envoy_refuses_does_not_reach_the_upstream_either(
    gateway: Gateway, upstream: Recorder, issuer: Issuer, request_: Post
) -> None:
    assert gateway.send(request_, issuer.token()).status in (400, 501)
    assert upstream.saw_nothing()


@pytest.mark.parametrize("target", ["/%6dcp", "/x/../mcp", "/./mcp", "/mcp?x=1#y"])
def test_another_spelling_of_the_path_needs_the_same_token(
    gateway: Gateway, upstream: Recorder, issuer: Issuer, target: str
) -> None:
    """Envoy brings paths into one form before anybody looks: it is either the endpoint, or it is nothing."""
    spelt = Post(messages.call("ping").body, messages.call("ping").headers, target=target)
    assert gateway.send(spelt).status in (400, 401, 404)
    assert upstream.saw_nothing()
    if gateway.send(spelt, issuer.token()).status == 200:
        assert upstream.only().target == "/mcp"
    else:
        assert upstream.saw_nothing()


def test_a_method_override_does_not_override(gateway: Gateway, upstream: Recorder, issuer: Issuer) -> None:
    stream = Post(b"", (("MCP-Protocol-Version", "2025-11-25"), ("X-HTTP-Method-Override", "POST")), "GET")
    assert gateway.send(stream, issuer.token()).status == 200
    assert upstream.only().method == "GET"
    assert upstream.only().header("x-http-method-override") is None


def test_mirror_headers_of_an_old_revision_do_not_reach_the_upstream(
    gateway: Gateway, upstream: Recorder, issuer: Issuer
) -> None:
    """Nobody compared them with the body, so a server that reads them would read something unchecked (T17)."""
    harmless = (("Mcp-Method", "tools/list"), ("Mcp-Name", "crm_delete_all"))
    assert gateway.send(handshake("tools/call", {"name": "ping"}).with_headers(*harmless), issuer.token()).status == 200
    assert upstream.only().header("mcp-method") is None
    assert upstream.only().header("mcp-name") is None


def test_one_denied_message_refuses_the_whole_batch(gateway: Gateway, upstream: Recorder, issuer: Issuer) -> None:
    """Never inspect only the first element (T3)."""
    harmless, harmful = (message("tools/call", {"name": name}, id=name) for name in ("ping", TOOL))
    for batch in ([harmless, harmful], [harmful, harmless]):
        response = gateway.send(post(batch), issuer.token())
        assert (response.status, response.json()["id"]) == (403, TOOL)
    assert upstream.saw_nothing()


def strictly(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object without duplicate members."""
    members = dict(pairs)
    assert len(members) == len(pairs)
    return members


def mutated(body: bytes, random: Random) -> bytes:
    """The body with one to three bytes flipped, dropped, doubled, moved or made up."""
    data = bytearray(body)
    for _ in range(random.randint(1, 3)):
        at, other = random.randrange(len(data)), random.randrange(len(data))
        match random.randrange(5):
            case 0:
                data[at] ^= 1 << random.randrange(8)
            case 1:
                del data[at]
            case 2:
                data[at:at] = data[at : at + random.randint(1, 30)]
            case 3:
                data[at], data[other] = data[other], data[at]
            case _:
                data[at] = random.choice(b'{}[]",:\\\x00 019eE+-.\xc3\xff')
    return bytes(data)


def test_whatever_passes_means_the_same_to_another_parser(gateway: Gateway, upstream: Recorder, issuer: Issuer) -> None:
    """Python reads each mutation that got through, and must find in it what the token may do."""
    arguments = {"to": ["a", {"b": 1.5}], "text": "name method params \\ \u00e9 " * 10}
    harmless, token, random = messages.call("ping", arguments), issuer.token(), Random(20260728)
    passed = 0
    for _ in range(1500):
        body = mutated(harmless.body, random)
        upstream.forget()
        status = gateway.send(harmless.with_body(body), token).status
        if status == 200:
            passed += 1
            assert upstream.only().body == body
            content = json.loads(body, object_pairs_hook=strictly)
            assert (content["jsonrpc"], content["method"], content["params"]["name"]) == ("2.0", "tools/call", "ping")
        else:
            assert status in (400, 403, 404), body
            assert upstream.saw_nothing(seconds=0)
    assert passed > 100, "too few of the mutations are harmless to mean anything"

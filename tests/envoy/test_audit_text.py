"""Whatever clients, issuers and servers write: each record stays one line of plain JSON, and secrets stay out of it."""

import base64
import json
import random
import secrets
import urllib.parse
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from conftest import NewGateway
from support import cli, http1, messages, recorder
from support.gateway import Envoy, Gateway, bearer
from support.issuer import Issuer
from support.jose import Key, compact
from support.messages import META_VERSION, STATELESS, Post
from support.policy import MAX_REQUEST_BYTES, ORIGIN, policy
from support.trail import AnchorStore, Watch, assert_canonical, lines_of, parsed

AUDIENCE = "https://text.example/mcp"
SESSIONS = "https://secrets.example/mcp"

#: Text that has broken a log, a terminal, an editor or a reader of JSON before.
HOSTILE = (
    'a"b\\c/d',
    'x","verdict":"allow","y":"',
    "line\nfeed\r\n" + '{"mac":"x","record":{"kind":"request"}}',
    "null\0 bell\a escape\x1b[2J\x1b]0;title\a tab\t",
    "delete\x7f and C1 \x80\x85\x9b31m\x9f",
    "ends of lines \u2028 and \u2029 and \x85",
    "\u202egnp.exe\u202c \u2066isolate\u2069 \u200e\u200f\u061c",
    "\ufeffmark \ufffe\uffff\U0001ffff \ufdd0",
    "tags \U000e0041\U000e0042\U000e007f",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467 \u65e5\u672c\u8a9e e\u0301",
    "%FILTER_STATE(wasm.toolgate.audit:PLAIN)% %REQ(AUTHORIZATION)% ${jndi:ldap://x} {{7*7}} $(id)",
    "<script>alert(1)</script> '; DROP TABLE log; --",
    "-",
    "\u00e9" * 3000,
    '"' * 3000,
    "\x7f" * 3000,
    "\\u0000\\ud800 \\n",
)
#: Bytes that are not UTF-8.
BROKEN = (b"\xff\xfe\x80", b"caf\xe9", b"\xed\xa0\x80\xed\xb0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\xe2\x80")


@pytest.fixture(scope="module")
def open_gateway(start_gateway: NewGateway, issuer: Issuer) -> Gateway:
    """Lets everything through that can be named at all."""
    trusted = issuer.document(claims={"purpose": ["purpose"], "agent": ["agent"], "tenant": ["tenant"]})
    rules = [{"tools": ["*"], "scopes": []}, {"prompts": ["*"], "scopes": []}, {"resources": ["*"], "scopes": []}]
    document = policy(trusted, resource={"uri": AUDIENCE}, rules=rules)
    return start_gateway(document, issuer)


def assert_plain(watch: Watch, count: int) -> list[dict[str, Any]]:
    """Each of these requests left one line, as it should be."""
    lines = watch.lines(count, 30)
    for line in lines:
        assert_canonical(line)
    return [json.loads(line) for line in lines]


# --- Headers ----------------------------------------------------------------------------------------------------------

HEADERS = (
    *("X-Request-Id", "traceparent", "tracestate", "User-Agent", "Origin", "Content-Type", "Accept", "Cookie"),
    *("Authorization", "Mcp-Method", "Mcp-Name", "Mcp-Session-Id", "MCP-Protocol-Version", "Last-Event-ID"),
    *("Mcp-Param-Region", "X-Forwarded-For", "Forwarded", "X-Toolgate-Subject", "Referer"),
)


def test_headers(open_gateway: Gateway, issuer: Issuer) -> None:
    """Over HTTP/1. Envoy refuses some of these bytes by itself; that is on record as well."""
    watch, sent = Watch(open_gateway), 0
    post, token = messages.call("ping"), issuer.token(aud=AUDIENCE)
    values = [text.encode() for text in HOSTILE] + list(BROKEN) + [b"x" * 20_000]
    # A line feed begins another header, which is another test.
    values = [value.replace(b"\r", b"").replace(b"\n", b"") for value in values]
    for name in HEADERS:
        for value in values:
            credential = None if name == "Authorization" else token
            extra = (name, (b"Bearer " if name == "Authorization" else b"") + value)
            with suppress(ConnectionError):
                open_gateway.send(post.without(name), credential, extra)
            sent += 1
    found = assert_plain(watch, sent)
    assert {envelope["record"]["verdict"] for envelope in found} == {"allow", "deny", "none"}


def test_paths_and_methods(open_gateway: Gateway) -> None:
    watch, sent = Watch(open_gateway), 0
    for text in (*(text.encode() for text in HOSTILE), *BROKEN):
        plain = bytes(byte for byte in text if byte > 0x20)
        for target in (b"/" + plain, b"/mcp?" + plain, b"/mcp#" + plain):
            for method in ("POST", "GET", plain[:20].decode("latin-1")):
                with suppress(ConnectionError):
                    http1.request(open_gateway.port, method, target.decode("latin-1"), [("Content-Length", "0")])
                sent += 1
    assert_plain(watch, sent)


# --- Bodies -----------------------------------------------------------------------------------------------------------


def bodies(text: str) -> Iterator[Post]:
    """The text in every place of a message that a client can fill."""
    yield messages.call(text, {"x": text, text: [text]})
    yield messages.call("ping", {"a": {text: text}}, id=text)
    yield messages.in_revision(STATELESS, "prompts/get", {"name": text})
    yield messages.in_revision(STATELESS, "resources/read", {"uri": f"norg://{text}"})
    yield messages.handshake(text)
    yield messages.handshake("tools/call", {"name": text, "arguments": {}})
    meta = {"traceparent": text, "dev.toolgate/purpose": text, text: text}
    yield messages.in_revision(STATELESS, "tools/call", {"name": "ping", "arguments": {}, "_meta": meta})
    yield messages.post([messages.message("tools/call", {"name": text}, id=number) for number in range(5)])
    yield messages.initialize(text)
    yield messages.post({"jsonrpc": "2.0", "id": text, "result": {text: text}}, "2025-11-25")
    # Not escaped, so that control characters are there as they are.
    yield messages.call("ping").with_body('{"jsonrpc":"2.0","id":1,"method":"' + text + '"}')


def test_bodies(open_gateway: Gateway, issuer: Issuer) -> None:
    watch, sent, token = Watch(open_gateway), 0, issuer.token(aud=AUDIENCE)
    for text in HOSTILE:
        for post in bodies(text):
            assert open_gateway.send(post, token).status < 500
            sent += 1
    for raw in BROKEN:
        for body in (b'{"jsonrpc":"2.0","id":1,"method":"%b"}' % raw, raw, b'{"jsonrpc":"2.0","id":"%b","method":"ping"}' % raw):
            open_gateway.send(messages.call("ping").with_body(body), token)
            sent += 1
    found = assert_plain(watch, sent)
    names = {envelope["record"].get("target", {}).get("name", "") for envelope in found}
    purposes = {envelope["personal"].get("stated_purpose", "") for envelope in found}
    for recorded in (names, purposes):
        assert HOSTILE[0] in recorded and any("\ufffd" in text for text in recorded), recorded
    assert any("\u2026[+" in purpose for purpose in purposes), purposes


def test_megabytes(open_gateway: Gateway, issuer: Issuer) -> None:
    """As much as the policy lets in, and more."""
    watch, token = Watch(open_gateway), issuer.token(aud=AUDIENCE)
    most = MAX_REQUEST_BYTES - 2000
    posts = [
        messages.call("x" * most),
        messages.call("ping", {"x": "\u202e" * (most // 6)}),
        messages.call("ping", {"x": 0}, id="i" * most),
        messages.post([messages.message("tools/call", {"name": '"' * 256}, id=number) for number in range(100)]),
        messages.in_revision(STATELESS, "resources/read", {"uri": "norg://" + "u" * most}),
        messages.call("ping", {"x": "x" * (3 << 20)}),
        messages.call("ping").with_body(b"[" * (1 << 20)),
    ]
    for post in posts:
        with suppress(ConnectionError):
            open_gateway.send(post, token)
    assert_plain(watch, len(posts))


# --- Tokens -----------------------------------------------------------------------------------------------------------


def claims(text: str) -> dict[str, Any]:
    """The text in every claim that is recorded."""
    return {
        **dict.fromkeys(("sub", "client_id", "jti", "purpose", "department", "tenant", "agent", "acr"), text),
        **dict.fromkeys(("roles", "groups", "amr"), [text, text]),
        "act": {"sub": text, "act": {"sub": text}},
        "scope": text,
    }


def test_claims(open_gateway: Gateway, issuer: Issuer) -> None:
    """Of tokens that are signed, and of tokens that are not and still say who they are."""
    watch, sent, post = Watch(open_gateway), 0, messages.call("ping")
    stranger, accepted = Key.generate("ES256", "stranger"), 0
    for text in HOSTILE:
        # Each by itself, as one that is refused would hide the others; without what no header could hold.
        changes: list[dict[str, Any]] = [{name: value} for name, value in claims(text[:2048]).items()]
        for change in [*changes, claims(text[:200])]:
            for key in (None, stranger):
                status = open_gateway.send(post, issuer.token(aud=AUDIENCE, key=key, **change)).status
                accepted += status == 200
                sent += 1
    for raw in BROKEN:
        payload = json.dumps(issuer.claims(aud=AUDIENCE)).encode().replace(b"alice", raw)
        head = {"alg": "ES256", "typ": "at+jwt", "kid": issuer.keys[0].kid}
        open_gateway.send(post, compact(head, payload, issuer.keys[0]))
        sent += 1
    found = assert_plain(watch, sent)
    assert accepted > 50
    roles = {role for envelope in found for role in envelope["personal"].get("claimed_roles", [])}
    assert HOSTILE[0] in roles and any("\ufffd" in role for role in roles)
    unverified = [envelope["personal"]["unverified"] for envelope in found if "unverified" in envelope["personal"]]
    assert any("\ufffd" in each.get("subject", "") for each in unverified)


def test_the_largest_record(open_gateway: Gateway, issuer: Issuer) -> None:
    """A token and a batch that fill all that a record has room for, with what takes most of it."""
    watch = Watch(open_gateway)
    full = ["\x7f" * 80] * 33
    fields = {"roles": full, "groups": full, "amr": full}
    payload = issuer.claims(aud=AUDIENCE, **fields, scope=" ".join(f"s{number:02}" * 6 for number in range(100)))
    head = {"alg": "ES256", "typ": "at+jwt", "kid": issuer.keys[0].kid}
    token = compact(head, json.dumps(payload, ensure_ascii=False).encode(), issuer.keys[0])
    names = [messages.message("tools/call", {"name": '\\"' * 128}, id=number) for number in range(40)]
    uris = {"notifications": {"resourceSubscriptions": [f"norg://{number}/" + "\\" * 300 for number in range(60)]}}
    statuses = [
        open_gateway.send(messages.post(names), token).status,
        open_gateway.send(messages.in_revision(STATELESS, "subscriptions/listen", uris), token).status,
    ]
    sizes = [len(line.encode()) for line in watch.lines(2)]
    print(f"\nlargest records: {sizes} bytes", statuses)
    for line in watch.lines(2):
        print([(k, len(json.dumps(v, ensure_ascii=False).encode())) for part in json.loads(line).values() if isinstance(part, dict) for k, v in part.items()])
    assert_plain(watch, 2)
    assert min(sizes) > 12_000


def test_the_log_of_all_this_is_whole(open_gateway: Gateway) -> None:
    lines = lines_of(open_gateway.audit_log)
    assert len(lines) == len({parsed(line)["id"] for line in lines}) > 500
    verified = cli.verify(open_gateway.envoy.audit_key, open_gateway.audit_log)
    assert verified.is_clean, verified.report["defects"][:3]
    # What the command prints is as safe as what it reads.
    shown = cli.toolgate("verify-log", open_gateway.audit_log, keys={"TOOLGATE_AUDIT_KEY": open_gateway.envoy.audit_key})
    assert shown.returncode == 0 and "\x1b" not in shown.stdout

"""Whatever clients, issuers and servers write: each record stays one line of plain JSON, and secrets stay out of it."""

import base64
import json
import secrets
import urllib.parse
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import stack

from conftest import NewGateway
from support import cli, http1, messages, recorder
from support.gateway import Envoy, Gateway, free_port
from support.issuer import Issuer
from support.jose import Key, compact
from support.messages import STATELESS, Post
from support.policy import MAX_REQUEST_BYTES, ORIGIN, policy
from support.trail import AnchorStore, Watch, assert_canonical, chains_of, lines_of, parsed

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
        method, id_ = b'{"jsonrpc":"2.0","id":1,"method":"%b"}', b'{"jsonrpc":"2.0","id":"%b","method":"ping"}'
        for body in (raw, method % raw, id_ % raw):
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
    assert_plain(watch, 2)
    assert min(sizes) > 16_000


def test_the_log_of_all_this_is_whole(open_gateway: Gateway) -> None:
    lines = lines_of(open_gateway.audit_log)
    assert len(lines) == len({parsed(line)["id"] for line in lines}) > 500
    verified = cli.verify(open_gateway.envoy.audit_key, open_gateway.audit_log)
    assert verified.is_clean, verified.report["defects"][:3]
    # What the command prints is as safe as what it reads.
    keys = {stack.AUDIT_KEY: open_gateway.envoy.audit_key}
    shown = cli.toolgate("verify-log", open_gateway.audit_log, keys=keys)
    assert shown.returncode == 0 and "\x1b" not in shown.stdout


# --- Secrets ----------------------------------------------------------------------------------------------------------


class Planted:
    """Marked values, each of which can be found again in whatever form it was written."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    def __call__(self, where: str) -> str:
        """A value that was never seen before."""
        value = self._values.setdefault(where, f"planted-{len(self._values)}-{secrets.token_hex(12)}")
        return value

    def keep(self, where: str, value: str) -> str:
        """A value that somebody else made."""
        self._values[where] = value
        return value

    def found_in(self, text: str) -> set[str]:
        """Where the values come from that are in this text."""
        return {where for where, value in self._values.items() if any(form in text for form in spellings(value))}


def spellings(value: str) -> set[str]:
    """The value as it is, and inside of what base64, base64url, hexadecimal digits or a URL make of text around it."""
    raw = value.encode()
    forms = {value, raw.hex(), urllib.parse.quote(value, safe=""), json.dumps(value)[1:-1], value[::-1]}
    for shift in range(3):
        encoded = base64.b64encode(b"x" * shift + raw + b"x" * 3).decode()
        # Without the ends, which depend on what is around it.
        inner = encoded[4 if shift else 0 : len(encoded) - 8]
        forms |= {inner, inner.replace("+", "-").replace("/", "_")}
    return forms


def test_spellings_find_what_is_hidden() -> None:
    planted = Planted()
    value = planted("here")
    for around in ("", "a", "ab", "abc"):
        text = f"{around}{value}{around} and more"
        for form in (text, base64.b64encode(text.encode()).decode(), text.encode().hex(), urllib.parse.quote(text)):
            assert planted.found_in(form) == {"here"}, (around, form)
    assert not planted.found_in("planted-0-nothing")


@pytest.fixture
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Envoy]:
    """An Envoy whose filter, and all that has to do with it, says as much as it ever does."""
    with Envoy(tmp_path_factory.mktemp("secrets")) as running:
        running.admin("/logging?wasm=trace", "POST")
        yield running


#: What records are meant to show, by where it was planted.
RECORDED = {"sub", "jti", "client_id", "purpose", "role", "traceparent", "unverified sub"}
#: What a client writes is on record as well, but not what looks like a key: tools, purposes that it states.
TOOL = "send_message"


def plant(gateway: Gateway, issuer: Issuer, planted: Planted) -> int:
    """Sends secrets in every place that has any; returns how many requests that were."""
    trace = secrets.token_hex(16)
    planted.keep("traceparent", trace)
    known = {name: planted(name) for name in ("sub", "jti", "client_id", "purpose")}
    known |= {"unknown": planted("unknown claim")}
    good = issuer.token("messages:write", aud=SESSIONS, roles=[planted("role")], **known)
    forged = issuer.token(aud=SESSIONS, sub=planted("unverified sub"), key=Key.generate("ES256", "stranger"))
    for name, token in (("good", good), ("forged", forged)):
        head, payload, signature = token.split(".")
        for part, value in (("header", head), ("payload", payload), ("signature", signature)):
            planted.keep(f"{part} of a {name} token", value)

    def place(where: str) -> tuple[str, str]:
        return (where, planted(where))

    names = ("Cookie", "X-Api-Key", "X-Secret", "Proxy-Authorization", "Referer", "User-Agent")
    extra = [place(name) for name in names]
    extra += [("traceparent", f"00-{trace}-00f067aa0ba902b7-01"), ("Forwarded", f"for={planted('Forwarded')}")]
    arguments = {
        "text": planted("argument"),
        planted("argument name"): [1, {"deep": [{"deeper": planted("deep argument")}]}],
        "key": {"password": planted("password"), "n": [[[planted("nested argument")]]]},
    }
    meta = {"dev.toolgate/purpose": planted("stated purpose"), "x/secret": planted("meta")}
    params = {"name": TOOL, "arguments": arguments, "_meta": meta}
    wordy = messages.in_revision(STATELESS, "tools/call", params).with_headers(*extra)
    sent = 0

    def send(post: Post, token: str | None = None, *headers: tuple[str, str]) -> http1.Response | None:
        nonlocal sent
        sent += 1
        with suppress(ConnectionError):
            return gateway.send(post, token, *headers)
        return None

    # Answers of every kind, each with a secret.
    def body(where: str, **members: Any) -> bytes:
        content = {"content": [{"type": "text", "text": planted(where)}], "structuredContent": {"s": planted(where)}}
        return json.dumps({"jsonrpc": "2.0", "id": 1, "result": content} | members).encode()

    own = {name: planted(f"upstream's {name}") for name in ("x-secret", "set-cookie", "server", "mcp-session-id")}
    answers = {
        "result": recorder.answer(200, body("result"), own),
        "events": recorder.events(b"data: " + body("event") + b"\n\n"),
        "error": recorder.answer(200, body("error", error={"code": 1, "message": planted("message")})),
        "status": recorder.answer(500, planted("failure").encode(), own),
        "refusal": recorder.answer(
            401, planted("refusal").encode(), {"www-authenticate": f'Bearer x="{planted("challenge")}"'}
        ),
        "odd": recorder.answer(200, planted("odd answer").encode(), {"content-type": f"text/{planted('media type')}"}),
        "encoded": recorder.answer(200, b"x", {"content-encoding": planted("encoding")}),
        "broken": lambda _, connection: connection.sendall(planted("no http").encode() + b"\r\n\r\n"),
    }
    for reply in answers.values():
        with gateway.upstream.replying(reply):
            send(wordy, good)
    # Denied, at each stage.
    for token in (forged, planted("opaque token"), None):
        send(wordy, token)
    for scheme in ("Basic", "Digest", "Negotiate", "Bearer x", "Token"):
        send(wordy, None, ("Authorization", f"{scheme} {planted(scheme)}"))
    target = f"/mcp?access_token={planted('query')}&x={planted('other query')}#{planted('fragment')}"
    send(Post(wordy.body, wordy.headers, target=target), good)
    send(Post(wordy.body, wordy.headers, target=f"/elsewhere/{'x' * 3}?k={planted('query elsewhere')}"), good)
    send(messages.call(planted("tool"), arguments).with_headers(*extra), good)
    send(messages.call("broadcast_message", arguments).with_headers(*extra), good)
    send(wordy.with_body(f'{{"jsonrpc":"2.0","id":"{planted("id")}","method":"tools/call",'), good)
    send(wordy.with_body(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "x", "params": planted("params")})), good)
    send(wordy.with_headers(("Origin", f"https://{planted('origin')}.example")), good)
    send(wordy.setting(content_type=f"text/{planted('content type')}"), good)
    send(wordy.setting(mcp_name=planted("mirrored name")), good)
    batch = [messages.message("tools/call", {"name": TOOL, "arguments": arguments}, id=number) for number in (1, 2)]
    send(messages.post(batch).with_headers(*extra), good)
    # A session.
    with gateway.upstream.replying(answers["result"]):
        answer = send(messages.initialize(), good)
    assert answer is not None
    session = planted.keep("session id", answer.header("mcp-session-id") or "")
    assert session
    for post in (messages.handshake("tools/list"), Post(b"", (("MCP-Protocol-Version", "2025-11-25"),), "DELETE")):
        send(post.with_headers(("Mcp-Session-Id", session), *extra, ("Last-Event-ID", planted("event id"))), good)
    send(messages.handshake("tools/list").with_headers(("Mcp-Session-Id", planted("unknown session"))), good)
    return sent


def test_no_secret_is_written_anywhere(quiet: Envoy) -> None:
    """The records show who asked for what, and nothing else of what was sent."""
    issuer, planted = Issuer(), Planted()
    store = AnchorStore(quiet.directory / "checkpoints.jsonl")
    trusted = issuer.document(claims={"purpose": ["purpose"]})
    document = policy(
        trusted,
        resource={"uri": SESSIONS},
        protocol={"max_request_bytes": MAX_REQUEST_BYTES, "allowed_origins": [ORIGIN]},
        audit=store.document() | {"host_log": True},
    )
    gateway = Gateway(quiet, document, recorder.Recorder(), free_port(), (issuer,), {store.cluster: store.port})
    gateway.load()
    planted.keep("key of seals", quiet.audit_key)
    planted.keep("key of sessions", quiet.session_key)
    watch = Watch(gateway)
    sent = plant(gateway, issuer, planted)
    lines = watch.lines(sent)
    for line in lines:
        assert_canonical(line)
    verdicts = {parsed(line)["verdict"] for line in lines}
    # A fragment in the path is refused by Envoy itself.
    assert verdicts == {"allow", "deny", "none"}
    keys = {stack.AUDIT_KEY: quiet.audit_key}
    heads = chains_of([parsed(line) for line in lines_of(gateway.audit_log)])
    quiet.wait_until("the anchor knows them", lambda: heads.items() <= store.heads().items())
    outputs = {
        "records": gateway.audit_log.read_text(),
        "access log": gateway.access_log.read_text(),
        "Envoy's own log": quiet.log,
        "statistics": quiet.admin("/stats?usedonly") + quiet.admin("/stats/prometheus"),
        "configuration": "".join(map(quiet.admin, ("/config_dump?include_eds", "/clusters", "/server_info"))),
        "checkpoints": store.path.read_text(),
        "verification": cli.toolgate("verify-log", gateway.audit_log, keys=keys).stdout,
    }
    assert all(len(text) > 100 for text in outputs.values()), {name: len(text) for name, text in outputs.items()}
    found = {name: planted.found_in(text) for name, text in outputs.items()}
    assert found == {name: RECORDED if name in ("records", "Envoy's own log") else set() for name in outputs}
    # Records are in Envoy's own log only because the policy says so; nothing but them has any of it there.
    other = "\n".join(line for line in quiet.log.splitlines() if "toolgate audit {" not in line)
    assert len(other) > 1000 and not planted.found_in(other)
    checked = cli.toolgate("verify-log", "--ignore-other-lines", quiet.directory / "envoy.log", keys=keys)
    assert checked.returncode == 0, checked.stdout

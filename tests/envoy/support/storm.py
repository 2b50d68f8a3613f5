"""Thousands of requests of every kind, many of which end badly: clients that leave, and an upstream that fails.

All of it runs in one event loop, on plain bytes: the clients cost about as much as the Envoy that they are sent to.
"""

import asyncio
import json
import random
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
from stack import LOOPBACK

from . import http1, messages
from .gateway import Document, bearer, manager_of
from .http1 import Headers
from .issuer import Issuer
from .jose import Key
from .messages import Post
from .policy import MAX_REQUEST_BYTES, Policy, policy

#: Says to the upstream how to answer.
ACT = "x-act"
#: Requests with this header have a route with a short timeout.
IMPATIENT = "x-impatient"
GONE = (ConnectionError, asyncio.IncompleteReadError, h2.exceptions.ProtocolError)

PING = messages.call("ping")
RESULT = b'{"jsonrpc":"2.0","id":1,"result":{"content":[]}}'
EVENT = b"data: " + RESULT + b"\n\n"
NOTE = b'data: {"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}\n\n'


# --- The upstream -----------------------------------------------------------------------------------------------------


def answer(body: bytes, status: bytes = b"200 OK", kind: bytes = b"application/json") -> bytes:
    """A whole answer."""
    return b"HTTP/1.1 %b\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b" % (status, kind, len(body), body)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
#: What is answered at once.
ANSWERS = {
    "": answer(RESULT),
    "accepted": b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n",
    "batch": answer(b"[" + RESULT + b"," + RESULT.replace(b'"id":1', b'"id":2') + b"]"),
    "error": answer(b'{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"x"}}'),
    "failure": answer(b"", b"500 Internal Server Error"),
    "busy": answer(b"", b"429 Too Many Requests"),
    "tool_error": answer(b'{"jsonrpc":"2.0","id":1,"result":{"content":[],"isError":true}}'),
    "events": STREAM + chunk(NOTE) + chunk(EVENT) + b"0\r\n\r\n",
    "empty_stream": answer(b": nothing\n\n", kind=b"text/event-stream"),
}
#: What is sent, before the connection breaks.
BROKEN = {
    "reset": b"",
    "reset_after_headers": b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n",
    "reset_in_body": b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n" + RESULT,
    "reset_in_stream": STREAM + chunk(NOTE) + b"99\r\ndata",
    "no_http": b"what?\r\n\r\n",
}


class Moody(asyncio.Protocol):
    """A connection of an upstream that answers as the request tells it to."""

    def __init__(self, rng: random.Random) -> None:
        self._rng, self._held, self._task = rng, b"", None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        if self._task:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        self._held += data
        while (end := self._held.find(b"\r\n\r\n")) >= 0:
            head = self._held[:end].lower()
            length = self._number(head)
            if len(self._held) < end + 4 + length:
                return
            self._held = self._held[end + 4 + length :]
            _, _, act = head.partition(b"\r\nx-act: ")
            self._act(act.split(b"\r\n", 1)[0].decode())

    @staticmethod
    def _number(head: bytes) -> int:
        _, found, rest = head.partition(b"\r\ncontent-length: ")
        return int(rest.split(b"\r\n", 1)[0]) if found else 0

    def _act(self, act: str) -> None:
        if act in ANSWERS:
            self._transport.write(ANSWERS[act])
        elif act in BROKEN:
            self._transport.write(BROKEN[act])
            self._task = asyncio.ensure_future(self._break())
        elif act == "slow":
            self._task = asyncio.ensure_future(self._later(ANSWERS[""]))
        elif act == "drip":
            self._task = asyncio.ensure_future(self._drip())
        else:
            assert act == "never", act

    async def _break(self) -> None:
        # Envoy is to see what came before.
        await asyncio.sleep(0.005)
        leave(self._transport, abruptly=True)

    async def _later(self, data: bytes) -> None:
        await asyncio.sleep(self._rng.uniform(0.01, 0.1))
        self._transport.write(data)

    async def _drip(self) -> None:
        self._transport.write(STREAM)
        for _ in range(20):
            self._transport.write(chunk(NOTE))
            await asyncio.sleep(0.01)
        self._transport.write(chunk(EVENT) + b"0\r\n\r\n")


def leave(transport: asyncio.BaseTransport, *, abruptly: bool) -> None:
    """Closes a connection: with a reset, or in an orderly way."""
    if abruptly:
        connection: socket.socket = transport.get_extra_info("socket")
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.close() if not abruptly else transport.abort()  # type: ignore[attr-defined]


# --- The requests -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wish:
    """A request, and how the client behaves."""

    post: Post
    token: str | None
    #: How often, among all.
    weight: int
    #: None: waits for the answer. Else when it leaves: `in_headers`, `in_body`, `in_answer`, `in_stream`.
    leaves: str | None = None

    def headers(self) -> Headers:
        """All but the authority."""
        length = [("Content-Length", str(len(self.post.body)))] if self.post.body else []
        return [*bearer(self.token), *self.post.list(), *length]


def acting(act: str, post: Post = PING, **headers: str) -> Post:
    """The same, with a hint for the upstream."""
    return post.with_headers((ACT, act), *headers.items())


def wishes(issuer: Issuer) -> dict[str, Wish]:
    """One of each kind. The policy is `storm_policy`."""
    good = issuer.token("contacts:read")
    old = issuer.token(iat=1, exp=2)
    forged = issuer.token(key=Key.generate("ES256", "stranger"))
    stranger = issuer.token("contacts:read", client_id="nobody-knows-it")
    session = (("MCP-Protocol-Version", "2025-11-25"),)
    batch = messages.post([messages.message("ping"), messages.message("ping", id=2)], None)
    huge = messages.call("ping", {"x": "x" * (MAX_REQUEST_BYTES + 1)})
    note = messages.handshake("notifications/initialized", id=None)
    read = messages.call("read_contact", {"id": "42"})
    return {
        "allowed": Wish(PING, good, 300),
        "allowed_with_scope": Wish(read, good, 100),
        "events": Wish(acting("events"), good, 60),
        "batch": Wish(acting("batch", batch), good, 25),
        "notification": Wish(acting("accepted", note), good, 25),
        "stream": Wish(Post(b"", (*session, ("Accept", "text/event-stream"), (ACT, "empty_stream")), "GET"), good, 20),
        "delete": Wish(Post(b"", (*session, (ACT, "accepted")), "DELETE"), good, 15),
        "metadata": Wish(Post(b"", (), "GET", "/.well-known/oauth-protected-resource/mcp"), None, 10),
        # --- Denials ---
        "no_token": Wish(PING, None, 30),
        "not_a_jwt": Wish(PING, "no.good", 15),
        "forged": Wish(PING, forged, 10),
        "expired": Wish(PING, old, 20),
        "refused_scope": Wish(PING, issuer.token("root"), 10),
        "unknown_client": Wish(read, stranger, 15),
        "unknown_path": Wish(Post(b"", (), "GET", "/admin"), good, 15),
        "unknown_method": Wish(Post(b"", (), "PUT"), good, 15),
        "odd_method": Wish(Post(b"", (), "BREW"), good, 5),
        "unknown_rpc": Wish(messages.handshake("tools/destroy"), good, 10),
        "insufficient_scope": Wish(messages.call("send_message"), good, 25),
        "no_rule": Wish(messages.call("unheard_of"), good, 25),
        "condition": Wish(messages.call("bulk", {"count": 101}), good, 20),
        "no_json": Wish(PING.with_body(b'{"jsonrpc":'), good, 20),
        "header_mismatch": Wish(PING.setting(mcp_name="pong"), good, 10),
        "too_large": Wish(huge, good, 2),
        "media_type": Wish(PING.setting(content_type="text/plain"), good, 15),
        "origin": Wish(PING.with_headers(("Origin", "https://evil.example")), good, 15),
        # --- Upstreams that fail ---
        "error": Wish(acting("error"), good, 15),
        "failure": Wish(acting("failure"), good, 10),
        "busy": Wish(acting("busy"), good, 10),
        "tool_error": Wish(acting("tool_error"), good, 10),
        "slow": Wish(acting("slow"), good, 20),
        **{act: Wish(acting(act), good, 8) for act in BROKEN},
        "timeout": Wish(acting("never", PING, **{IMPATIENT: "1"}), good, 10),
        "timeout_in_stream": Wish(acting("drip", PING, **{IMPATIENT: "1"}), good, 8),
        # --- Clients that leave ---
        "leaves_in_headers": Wish(PING, good, 15, "in_headers"),
        "leaves_in_body": Wish(acting("", read), good, 15, "in_body"),
        "leaves_while_denied": Wish(messages.call("unheard_of"), good, 8, "in_answer"),
        "leaves_before_the_answer": Wish(acting("slow"), good, 20, "in_answer"),
        "leaves_in_stream": Wish(acting("drip"), good, 15, "in_stream"),
    }


#: What the policy has for these on top of the common one.
PARTIES = {"agents": {"testing": {"scopes": ["*"]}}, "clients": {"test-client": {"agent": "testing"}}}
BULK_RULE = {"tools": ["bulk"], "scopes": [], "deny_when": "arguments.count > 100"}

def storm_policy(issuer: Issuer, **changes: Any) -> Policy:
    """The common policy and what these need."""
    document = policy(issuer, **PARTIES)
    return document | {"rules": [*document["rules"], BULK_RULE]} | changes


def impatient_route(listener: Document) -> None:
    """A route with a short timeout, for requests that ask for it."""
    routes = manager_of(listener)["route_config"]["virtual_hosts"][0]["routes"]
    route = json.loads(json.dumps(routes[0]))
    route["name"] = "impatient"
    route["match"]["headers"] = [{"name": IMPATIENT, "present_match": True}]
    route["route"]["timeout"] = "0.1s"
    routes.insert(0, route)


#: Bytes that are no request of MCP, or none at all.
ODD = {
    "garbage": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "no_host": http1.head("POST", "/mcp", [("Content-Length", "0")]),
    "other_host": http1.head("POST", "/mcp", [("Host", "evil.example"), ("Content-Length", "0")]),
    "old_http": b"GET /mcp HTTP/1.0\r\n\r\n",
    "two_lengths": http1.head("POST", "/mcp", [("Host", "x"), ("Content-Length", "1"), ("Content-Length", "2")]),
    "underscore": http1.head("POST", "/mcp", [("Host", "x"), ("x_user", "root"), ("Content-Length", "0")]),
    "long_header": http1.head("GET", "/mcp", [("Host", "x"), ("x-long", "x" * 40_000)]),
    "connect": b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n",
    "escaped_slash": http1.head("GET", "/a%2Fb", [("Host", "x")]),
}


# --- The clients ------------------------------------------------------------------------------------------------------


@dataclass
class Storm:
    """What is sent, and what came of it as far as clients can tell."""

    port: int
    upstream: socket.socket
    issuer: Issuer
    seed: int
    clients: int = 48
    #: By kind and status; 0: no answer, -1: the client did not wait for one.
    seen: Counter[tuple[str, int]] = field(default_factory=Counter)
    #: Done while the storm rages, with the share of requests that were sent when each is due.
    between: list[tuple[float, Callable[[], Awaitable[None]]]] = field(default_factory=list)

    def run(self, count: int) -> None:
        """Sends about that many requests."""
        asyncio.run(self._run(count))

    async def _run(self, count: int) -> None:
        rng = random.Random(self.seed)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Moody(rng), sock=self.upstream.dup())
        kinds = wishes(self.issuer)
        weights = [wish.weight for wish in kinds.values()]
        plan: list[str] = rng.choices(list(kinds), weights, k=count - 40 * (count // 400) - count // 50)
        plan += ["http2"] * (count // 400) + [rng.choice(list(ODD)) for _ in range(count // 50)]
        rng.shuffle(plan)
        todo = list(reversed(plan))
        due = [(len(plan) * (1 - share), work) for share, work in self.between]

        async def client(number: int) -> None:
            own = random.Random(self.seed * 1000 + number)
            kept: Kept | None = None
            while todo:
                while due and len(todo) <= due[0][0]:
                    await due.pop(0)[1]()
                kind = todo.pop() if todo else None
                if kind is None:
                    break
                if kind == "http2":
                    await self._http2(kinds, own)
                elif kind in ODD:
                    self.seen[kind, await self._odd(ODD[kind])] += 1
                elif kinds[kind].leaves:
                    await self._leaving(kinds[kind], own)
                    self.seen[kind, -1] += 1
                else:
                    status, kept = await self._patient(kinds[kind], kept)
                    self.seen[kind, status] += 1
            if kept:
                kept.writer.close()

        await asyncio.wait_for(asyncio.gather(*(client(number) for number in range(self.clients))), 150)
        server.close()

    def _bytes(self, wish: Wish) -> tuple[bytes, bytes]:
        headers: Headers = [("Host", f"{LOOPBACK}:{self.port}"), *wish.headers()]
        return http1.head(wish.post.method, wish.post.target, headers), wish.post.body

    async def _patient(self, wish: Wish, kept: "Kept | None") -> tuple[int, "Kept | None"]:
        try:
            kept = kept or Kept(*await asyncio.open_connection(LOOPBACK, self.port))
            kept.writer.write(b"".join(self._bytes(wish)))
            status, goes_on = await asyncio.wait_for(kept.response(), 30)
            if goes_on:
                return status, kept
        except GONE:
            status = 0
        if kept:
            kept.writer.close()
        return status, None

    async def _odd(self, data: bytes) -> int:
        with suppress(*GONE):
            kept = Kept(*await asyncio.open_connection(LOOPBACK, self.port))
            kept.writer.write(data)
            try:
                status, _ = await asyncio.wait_for(kept.response(), 30)
                return status
            finally:
                kept.writer.close()
        return 0

    async def _leaving(self, wish: Wish, rng: random.Random) -> None:
        head, body = self._bytes(wish)
        kept: Kept | None = None
        with suppress(*GONE):
            kept = Kept(*await asyncio.open_connection(LOOPBACK, self.port))
            if wish.leaves == "in_headers":
                kept.writer.write(head[: rng.randrange(1, len(head))])
            elif wish.leaves == "in_body":
                kept.writer.write(head + body[: rng.randrange(len(body))])
            else:
                kept.writer.write(head + body)
            await kept.writer.drain()
            if wish.leaves == "in_stream":
                await asyncio.wait_for(kept.reader.readuntil(b"\r\n\r\n"), 30)
            await asyncio.sleep(rng.uniform(0, 0.08))
        if kept:
            leave(kept.writer.transport, abruptly=rng.random() < 0.5)

    async def _http2(self, kinds: dict[str, Wish], rng: random.Random) -> None:
        """Forty requests on one connection, side by side; some are taken back, and sometimes the client just leaves."""
        names = [name for name, wish in kinds.items() if len(wish.post.body) < 10_000]
        chosen = rng.choices(names, [kinds[name].weight for name in names], k=40)
        try:
            reader, writer = await asyncio.open_connection(LOOPBACK, self.port)
        except GONE:
            return
        config = h2.config.H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False)
        connection = h2.connection.H2Connection(config)
        connection.initiate_connection()
        open_streams: dict[int, str] = {}
        leaves_at = rng.randrange(40) if rng.random() < 0.2 else 0
        try:
            for name in chosen:
                wish = kinds[name]
                stream = connection.get_next_available_stream_id()
                pseudo = [(":method", wish.post.method), (":scheme", "http"), (":path", wish.post.target)]
                fields = [*pseudo, (":authority", f"{LOOPBACK}:{self.port}"), *wish.headers()]
                body = wish.post.body
                connection.send_headers(stream, [(k.lower(), v) for k, v in fields], end_stream=not body)
                open_streams[stream] = name
                if wish.leaves in ("in_headers", "in_body"):
                    connection.send_data(stream, body[: rng.randrange(len(body))]) if wish.leaves == "in_body" else None
                    connection.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
                    self.seen[open_streams.pop(stream), -1] += 1
                elif body:
                    connection.send_data(stream, body, end_stream=True)
                if wish.leaves in ("in_answer", "in_stream"):
                    writer.write(connection.data_to_send())
                    await asyncio.sleep(rng.uniform(0, 0.02))
                    connection.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
                    self.seen[open_streams.pop(stream), -1] += 1
            writer.write(connection.data_to_send())
            while len(open_streams) > leaves_at:
                data = await asyncio.wait_for(reader.read(65536), 30)
                if not data:
                    break
                for event in connection.receive_data(data):
                    stream = getattr(event, "stream_id", None) or 0
                    if isinstance(event, h2.events.ResponseReceived) and stream in open_streams:
                        status = int(dict(event.headers)[b":status"])
                        self.seen[open_streams[stream], status] += 1
                    elif isinstance(event, h2.events.DataReceived):
                        connection.acknowledge_received_data(event.flow_controlled_length, stream)
                    elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
                        open_streams.pop(stream, None)
                writer.write(connection.data_to_send())
        except GONE:
            self.seen["http2", 0] += 1
        leave(writer.transport, abruptly=bool(leaves_at))


@dataclass
class Kept:
    """A connection that may be used again."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def response(self) -> tuple[int, bool]:
        """Reads an answer: its status, and whether the connection goes on."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        status = int(head.split(b" ", 2)[1])
        if b"\r\ntransfer-encoding: chunked" in head:
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                await self.reader.readexactly(size + 2)
            await self.reader.readexactly(2)
        elif status != 204:
            _, found, rest = head.partition(b"\r\ncontent-length: ")
            await self.reader.readexactly(int(rest.split(b"\r\n", 1)[0]) if found else 0)
        return status, b"\r\nconnection: close" not in head


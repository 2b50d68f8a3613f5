"""The upstream: a server that keeps every byte it gets and answers what a test tells it to.

It is written on plain sockets because tests claim "the upstream saw nothing", which means no byte at all, and because
it must be able to answer as no HTTP library would.
"""

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from stack import LOOPBACK

Fields = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True)
class Recorded:
    """One request as it arrived."""

    method: str
    target: str
    headers: Fields
    body: bytes
    trailers: Fields = ()

    def all(self, name: str) -> list[bytes]:
        """Every value of a header."""
        return [value for candidate, value in self.headers if candidate == name.lower()]

    def header(self, name: str) -> str | None:
        """The only value of a header; None when it is absent."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} is repeated: {values}"
        return values[0].decode("latin-1") if values else None


Reply = Callable[[Recorded, socket.socket], None]


def answer(status: int = 200, body: bytes = b"", headers: dict[str, str] | None = None) -> Reply:
    """A fixed answer."""
    lines = {"content-type": "application/json", "content-length": str(len(body))} | (headers or {})
    head = f"HTTP/1.1 {status} Scripted\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return lambda _, connection: connection.sendall(head.encode("latin-1") + b"\r\n" + body)


def echo(request: Recorded, connection: socket.socket) -> None:
    """What a server would answer: a result that names the method, 202 for what has no answer."""
    message: Any = json.loads(request.body) if request.body else None
    if request.method != "POST":
        reply = answer(200, b": nothing yet\n\n", {"content-type": "text/event-stream"})
    elif isinstance(message, dict) and not ("id" in message and "method" in message):
        reply = answer(202)
    else:
        messages = message if isinstance(message, list) else [message]
        results = [
            {"jsonrpc": "2.0", "id": each.get("id"), "result": {"echo": each.get("method")}} for each in messages
        ]
        reply = answer(200, json.dumps(results if isinstance(message, list) else results[0]).encode())
    reply(request, connection)


def events(*chunks: bytes, before_last: threading.Event | None = None) -> Reply:
    """Server-sent events, each in a chunk of its own; the last one only once the test lets it go."""

    def reply(_: Recorded, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for index, chunk in enumerate(chunks):
            if before_last and index == len(chunks) - 1:
                before_last.wait(10)
            connection.sendall(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        connection.sendall(b"0\r\n\r\n")

    return reply


def reset(_: Recorded, connection: socket.socket) -> None:
    """Answers with a TCP reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def when(gate: threading.Event, then: Reply) -> Reply:
    """Answers once the test lets it."""

    def reply(request: Recorded, connection: socket.socket) -> None:
        gate.wait(30)
        then(request, connection)

    return reply


class Recorder:
    """A listening upstream."""

    def __init__(self) -> None:
        self._listener = socket.create_server((LOOPBACK, 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self.reply: Reply = echo
        self._changed = threading.Condition()
        self._requests: list[Recorded] = []
        self._raw = bytearray()
        self.total = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def forget(self) -> None:
        """Starts afresh, for the next test."""
        with self._changed:
            self._requests.clear()
            self._raw.clear()
        self.reply = echo

    @contextmanager
    def replying(self, reply: Reply) -> Iterator[None]:
        """Answers so for a while."""
        before, self.reply = self.reply, reply
        try:
            yield
        finally:
            self.reply = before

    def close(self) -> None:
        """No more connections."""
        self._listener.close()

    @property
    def raw(self) -> bytes:
        """Every byte since the last `forget`."""
        with self._changed:
            return bytes(self._raw)

    @property
    def requests(self) -> list[Recorded]:
        """Every complete request since the last `forget`."""
        with self._changed:
            return list(self._requests)

    def only(self) -> Recorded:
        """The one request that came."""
        requests = self.wait_for(1)
        assert len(requests) == 1, [request.target for request in requests]
        return requests[0]

    def wait_for(self, count: int, seconds: float = 5) -> list[Recorded]:
        """The requests, once there are that many."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self._requests) >= count, seconds), (
                f"{len(self._requests)} requests instead of {count}; bytes so far: {bytes(self._raw[:400])!r}"
            )
            return list(self._requests)

    def saw_nothing(self, seconds: float = 0.03) -> bool:
        """Whether not even a byte arrived, nor does within a moment."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self.raw:
            time.sleep(0.005)
        return not self.raw

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError, EOFError), connection:
            reader = Reader(connection, self._record)
            while (request := reader.request()) is not None:
                with self._changed:
                    self._requests.append(request)
                    self.total += 1
                    self._changed.notify_all()
                self.reply(request, connection)

    def _record(self, data: bytes) -> None:
        with self._changed:
            self._raw += data
            self._changed.notify_all()


class Reader:
    """Reads HTTP/1.1 requests off a connection."""

    def __init__(self, connection: socket.socket, record: Callable[[bytes], None]) -> None:
        self._connection, self._record, self._held = connection, record, b""

    def request(self) -> Recorded | None:
        """The next request; None at the end of the connection."""
        try:
            head = self._until(b"\r\n\r\n")
        except EOFError:
            return None
        first, *lines = head.split(b"\r\n")
        method, target, _ = first.decode("latin-1").split(" ", 2)
        headers = fields(lines)
        names = dict(headers)
        if names.get("transfer-encoding", b"").lower() == b"chunked":
            body, trailers = self._chunked()
        else:
            body, trailers = self._exactly(int(names.get("content-length", b"0"))), ()
        return Recorded(method, target, headers, body, trailers)

    def _chunked(self) -> tuple[bytes, Fields]:
        body = b""
        while size := int(self._until(b"\r\n").split(b";")[0], 16):
            body += self._exactly(size)
            self._exactly(2)
        lines = []
        while line := self._until(b"\r\n"):
            lines.append(line)
        return body, fields(lines)

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._held:
            self._more()
        found, _, self._held = self._held.partition(mark)
        return found

    def _exactly(self, size: int) -> bytes:
        while len(self._held) < size:
            self._more()
        found, self._held = self._held[:size], self._held[size:]
        return found

    def _more(self) -> None:
        data = self._connection.recv(65536)
        if not data:
            raise EOFError
        self._record(data)
        self._held += data


def fields(lines: list[bytes]) -> Fields:
    """Header lines, taken apart."""
    pairs = (line.partition(b":") for line in lines if line)
    return tuple((name.decode("latin-1").lower(), value.strip(b" \t")) for name, _, value in pairs)

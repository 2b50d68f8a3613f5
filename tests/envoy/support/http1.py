"""A raw HTTP/1.1 client: sends exactly the bytes it is given, duplicated headers and odd ones included."""

import json
import re
import socket
from dataclasses import dataclass
from typing import Any

from stack import LOOPBACK

Headers = list[tuple[str, str | bytes]]


@dataclass(frozen=True)
class Response:
    """An answer as it arrived."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def all(self, name: str) -> list[str]:
        """Every value of a header."""
        return [value for candidate, value in self.headers if candidate == name.lower()]

    def header(self, name: str) -> str | None:
        """The only value of a header; None when it is absent."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} is repeated: {values}"
        return values[0] if values else None

    def json(self) -> Any:
        """The body, which must say that it is JSON."""
        assert self.header("content-type") == "application/json", self
        return json.loads(self.body)

    def error(self) -> dict[str, Any]:
        """The JSON-RPC error."""
        message = self.json()
        assert message["jsonrpc"] == "2.0", message
        error: dict[str, Any] = message["error"]
        return error

    def challenge(self) -> dict[str, str]:
        """The parameters of the only `WWW-Authenticate: Bearer` challenge."""
        value = self.header("www-authenticate")
        assert value is not None, f"no challenge in {self}"
        scheme, _, parameters = value.partition(" ")
        assert scheme == "Bearer", value
        pairs = re.findall(r'([a-z_]+)="([^"]*)"', parameters)
        assert ", ".join(f'{name}="{text}"' for name, text in pairs) == parameters, value
        return dict(pairs)


def head(method: str, target: str, headers: Headers) -> bytes:
    """A request line and header lines."""
    lines = [f"{method} {target} HTTP/1.1".encode("latin-1")]
    for name, value in headers:
        lines.append(name.encode("latin-1") + b": " + (value if isinstance(value, bytes) else value.encode("latin-1")))
    return b"\r\n".join(lines) + b"\r\n\r\n"


def chunked(*pieces: bytes, trailers: Headers | None = None) -> bytes:
    """A body in chunks."""
    data = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece)
    tail = head("", "", trailers or []).split(b"\r\n", 1)[1]
    return data + b"0\r\n" + tail


class Connection:
    """One connection to the gateway."""

    def __init__(self, port: int, timeout: float = 15) -> None:
        self.socket = socket.create_connection((LOOPBACK, port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._held = b""

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Sends bytes as they are."""
        self.socket.sendall(data)

    def response(self, method: str = "POST") -> Response:
        """Reads a whole answer."""
        status, headers = self.response_head()
        names = dict(headers)
        if method == "HEAD" or status in (204, 304):
            body = b""
        elif names.get("transfer-encoding") == "chunked":
            body = b""
            while chunk := self.chunk():
                body += chunk
        elif "content-length" in names:
            body = self._exactly(int(names["content-length"]))
        else:
            body = self._rest()
        return Response(status, headers, body)

    def response_head(self) -> tuple[int, tuple[tuple[str, str], ...]]:
        """Reads status line and headers; interim answers are passed over."""
        while True:
            first, *lines = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
            status = int(first.split(" ", 2)[1])
            if status >= 200:
                pairs = (line.partition(":") for line in lines)
                return status, tuple((name.lower(), value.strip()) for name, _, value in pairs)

    def chunk(self) -> bytes:
        """Reads one chunk of a body; empty at its end."""
        size = int(self._until(b"\r\n").split(b";")[0], 16)
        data = self._exactly(size)
        self._exactly(2)
        return data

    def is_closed(self) -> bool:
        """Whether the other side has hung up; waits for it."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionError:
            return True

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

    def _rest(self) -> bytes:
        while data := self.socket.recv(65536):
            self._held += data
        found, self._held = self._held, b""
        return found

    def _more(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError(f"closed by the gateway after {self._held!r}")
        self._held += data


def request(port: int, method: str, target: str, headers: Headers, body: bytes = b"", timeout: float = 15) -> Response:
    """One request on a connection of its own. `Host` and `Content-Length` are added unless they are there."""
    names = {name.lower() for name, _ in headers}
    full = list(headers)
    if "host" not in names:
        full.insert(0, ("Host", f"{LOOPBACK}:{port}"))
    if body and not names & {"content-length", "transfer-encoding"}:
        full.append(("Content-Length", str(len(body))))
    with Connection(port, timeout) as connection:
        connection.send(head(method, target, full) + body)
        return connection.response(method)

"""A server that publishes a list of revocations, or fails to."""

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from stack import LOOPBACK

Published = Callable[[], tuple[int, bytes]]


class Fetch(NamedTuple):
    """A request for the list, and how it was answered."""

    at: float
    target: str
    authority: str
    if_none_match: str | None
    status: int


class RevocationServer:
    """Serves one list with an ETag, and remembers who asked."""

    def __init__(self, *, listen: bool = True) -> None:
        self._list: dict[str, Any] = {"subjects": []}
        self._version = 0
        self.has_etag = True
        self.behaviour: Published | None = None
        self.fetches: list[Fetch] = []
        self.gate = threading.Event()
        self.gate.set()
        self._server: ThreadingHTTPServer | None = None
        self.port = 0
        self.up()
        if not listen:
            self.down()
        self.cluster = f"revocations-{self.port}"

    def publish(self, **entries: Any) -> float:
        """Replaces the list; returns when that was."""
        self._version += 1
        self._list = entries or {"subjects": []}
        return time.monotonic()

    def answer_raw(self, body: bytes, status: int = 200) -> None:
        """Answers so from now on."""
        self.behaviour = lambda: (status, body)

    def recover(self) -> None:
        """All is well again."""
        self.behaviour = None
        self.gate.set()
        if not self._server:
            self.up()

    def document(self, **changes: Any) -> dict[str, Any]:
        """The section of a policy that names it."""
        return {"list": {"cluster": self.cluster, "path": "/revoked.json"} | changes}

    def statuses(self) -> list[int]:
        """How the requests so far were answered."""
        return [fetch.status for fetch in self.fetches]

    def _answer(self, if_none_match: str | None) -> tuple[int, bytes, str | None]:
        if self.behaviour:
            return *self.behaviour(), None
        etag = f'"v{self._version}"' if self.has_etag else None
        if etag and if_none_match == etag:
            return 304, b"", etag
        return 200, json.dumps(self._list).encode(), etag

    def up(self) -> None:
        """Accepts connections, on the port that it always had."""
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                at = time.monotonic()
                owner.gate.wait(30)
                condition = self.headers["if-none-match"]
                status, body, etag = owner._answer(condition)
                owner.fetches.append(Fetch(at, self.path, self.headers["host"], condition, status))
                self.send_response(status)
                if etag:
                    self.send_header("etag", etag)
                if status != 304:
                    self.send_header("content-type", "application/json")
                    self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: object, client_address: object) -> None:
                """Envoy gave up waiting: what the test wanted."""

        self._server = Server((LOOPBACK, self.port), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def down(self) -> None:
        """Refuses connections."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

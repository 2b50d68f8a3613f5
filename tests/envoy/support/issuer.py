"""An identity provider that publishes keys, or fails to, in every way a real one does."""

import json
import threading
import time
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from stack import LOOPBACK

from .jose import Key, compact, pooled

RESOURCE = "https://mcp.norg.example/mcp"
Published = Callable[[], tuple[int, bytes]]


class Issuer:
    """A JWKS endpoint of its own, and tokens signed with its keys."""

    def __init__(self, algorithms: Iterable[str] = ("ES256",), *, listen: bool = True) -> None:
        self.keys = [pooled(algorithm) for algorithm in algorithms]
        self.behaviour: Published = self.publish
        self.fetches: list[tuple[str, str]] = []
        self.gate = threading.Event()
        self.gate.set()
        self._server: ThreadingHTTPServer | None = None
        self.port = 0
        self.up()
        if not listen:
            self.down()
        self.name = f"http://{LOOPBACK}:{self.port}"
        self.cluster = f"idp-{self.port}"

    # --- Behaviour ----------------------------------------------------------------------------------------------------

    def publish(self) -> tuple[int, bytes]:
        """The key set, as it should be."""
        return 200, json.dumps({"keys": [key.jwk() for key in self.keys]}).encode()

    def publish_raw(self, body: bytes, status: int = 200) -> None:
        """Answers so from now on."""
        self.behaviour = lambda: (status, body)

    def answer(self, path: str) -> tuple[int, bytes]:
        """What it answers; the same for every path."""
        return self.behaviour()

    def rotate(self) -> Key:
        """Replaces all keys by a new one."""
        self.keys = [Key.generate("ES256", f"rotated-{time.monotonic_ns()}")]
        return self.keys[0]

    def up(self) -> None:
        """Accepts connections, on the port that it always had."""
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.fetches.append((self.path, self.headers["host"]))
                issuer.gate.wait(30)
                status, body = issuer.answer(self.path)
                self.send_response(status)
                kind = "application/json" if "openid-configuration" in self.path else "application/jwk-set+json"
                self.send_header("content-type", kind)
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

    def wait_for_fetches(self, count: int, seconds: float = 10) -> None:
        """Waits until the keys were asked for that often."""
        deadline = time.monotonic() + seconds
        while len(self.fetches) < count:
            assert time.monotonic() < deadline, f"{len(self.fetches)} fetches instead of {count}"
            time.sleep(0.02)

    # --- Tokens -------------------------------------------------------------------------------------------------------

    def claims(self, *scopes: str, lifetime: int = 600, **changes: Any) -> dict[str, Any]:
        """The claims of a good access token (RFC 9068), with changes; a claim that is None is left out."""
        now = int(time.time())
        claims = {
            "iss": self.name,
            "sub": "alice",
            "aud": RESOURCE,
            "client_id": "test-client",
            "iat": now,
            "exp": now + lifetime,
            "scope": " ".join(scopes) or None,
        }
        return {name: value for name, value in (claims | changes).items() if value is not None}

    def token(
        self,
        *scopes: str,
        key: Key | None = None,
        alg: str | None = None,
        header: dict[str, Any] | None = None,
        **changes: Any,
    ) -> str:
        """A signed access token."""
        key = key or self.keys[0]
        head = {"alg": alg or key.alg, "typ": "at+jwt", "kid": key.kid} | (header or {})
        head = {name: value for name, value in head.items() if value is not None}
        return compact(head, self.claims(*scopes, **changes), key, alg)

    def document(self, **changes: Any) -> dict[str, Any]:
        """Its entry in a policy."""
        algorithms = sorted({key.alg for key in self.keys})
        jwks = {"cluster": self.cluster, "path": "/jwks", **changes.pop("jwks", {})}
        return {"issuer": self.name, "jwks": jwks, "algorithms": algorithms} | changes

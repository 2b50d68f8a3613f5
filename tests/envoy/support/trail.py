"""Audit records as the tests read them, and a store that checkpoints are sent to."""

import base64
import hashlib
import hmac
import json
import threading
import time
import unicodedata
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from stack import LOOPBACK

from .gateway import Gateway
from .jose import base64url

Record = dict[str, Any]


def parsed(line: str) -> Record:
    """The record of a line."""
    record: Record = json.loads(line)["record"]
    return record


def lines_of(path: Path) -> list[str]:
    """The lines of a log, as they are: only a line feed ends one."""
    text = path.read_bytes().decode() if path.exists() else ""
    return text.split("\n")[:-1]


def records_of(path: Path) -> list[Record]:
    """Its records, of requests only."""
    return [record for record in map(parsed, lines_of(path)) if record["kind"] == "request"]


class Watch:
    """The records of requests that begin from now on."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        # Records say when to the millisecond: what began before must lie in another one.
        time.sleep(0.002)
        self._from = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def _new(self) -> list[str]:
        started = [(parsed(line)["started"], line) for line in lines_of(self._gateway.audit_log)]
        return [line for at, line in sorted(started, key=lambda pair: pair[0]) if at >= self._from]

    def lines(self, count: int, seconds: float = 10) -> list[str]:
        """The lines in the order in which the requests began, once there are that many; there may not be more."""
        self._gateway.envoy.wait_until(f"{count} audit lines", lambda: len(self._new()) >= count, seconds)
        found = self._new()
        assert len(found) == count, found
        return found

    def envelopes(self, count: int, seconds: float = 10) -> list[dict[str, Any]]:
        """The same, taken apart: `mac`, `personal` and `record`."""
        return [json.loads(line) for line in self.lines(count, seconds)]

    def records(self, count: int, seconds: float = 10) -> list[Record]:
        """Only what is sealed of them."""
        return [envelope["record"] for envelope in self.envelopes(count, seconds)]

    def one(self, seconds: float = 10) -> Record:
        """The only record."""
        return self.records(1, seconds)[0]


def is_hidden(character: str) -> bool:
    """Whether a character moves the cursor, ends a line or changes the direction of writing."""
    return unicodedata.category(character) in ("Cc", "Zl", "Zp") or unicodedata.bidirectional(character) in (
        *("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"),
    )


def assert_canonical(line: str) -> None:
    """RFC 8785, for what records hold: sorted members, no blanks, whole numbers, nothing escaped that need not be."""
    assert line == canonical(json.loads(line))
    assert not [character for character in line if is_hidden(character)], ascii(line)
    assert "null" not in line.split('"') and len(line.encode()) <= 32 * 1024


class AnchorStore:
    """Keeps every checkpoint that it is sent, one per line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()
        lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                with lock, path.open("ab") as file:
                    file.write(body + b"\n")
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        server.daemon_threads = True
        self.port: int = server.server_port
        self.cluster = f"anchor-{self.port}"
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()

    def document(self, interval: str = "1s") -> dict[str, Any]:
        """The section of a policy that names it."""
        return {"anchor": {"cluster": self.cluster, "path": "/checkpoints"}, "checkpoint_interval": interval}

    def checkpoints(self) -> list[Record]:
        """What was stored."""
        return [parsed(line) for line in lines_of(self.path)]

    def heads(self) -> dict[str, int]:
        """The highest number of each chain that it knows."""
        heads: dict[str, int] = {}
        for record in self.checkpoints():
            link = record["chain"]
            heads[link["id"]] = max(link["seq"], heads.get(link["id"], 0))
        return heads


def chains_of(records: list[Record]) -> dict[str, int]:
    """The highest number of each chain."""
    chains: dict[str, int] = {}
    for record in records:
        link = record["chain"]
        chains[link["id"]] = max(link["seq"], chains.get(link["id"], 0))
    return chains


def canonical(document: Any) -> str:
    """RFC 8785, for whole numbers."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def sealed(key: str, record: Record) -> str:
    """A line as the filter would seal it with this key, in base64."""
    mac = hmac.new(base64.b64decode(key), canonical(record).encode(), hashlib.sha256).digest()
    return canonical({"mac": base64url(mac), "record": record})


def checkpoint_of(key: str, line: str) -> str:
    """A checkpoint at the record of this line."""
    envelope = json.loads(line)
    record = envelope["record"]
    link = record["chain"]
    made = {
        **{name: record[name] for name in ("at", "started", "v")},
        "chain": {"id": link["id"], "key": link["key"], "prev": envelope["mac"], "seq": link["seq"]},
        **{"id": "0" * 32, "kind": "checkpoint", "reason": "checkpoint", "verdict": "none"},
    }
    return sealed(key, made)

"""MCP requests of every revision, as headers and body."""

import base64
import json
from dataclasses import dataclass, replace
from typing import Any

from .http1 import Headers

HANDSHAKE = ("2025-03-26", "2025-06-18", "2025-11-25")
STATELESS = "2026-07-28"
REVISIONS = (*HANDSHAKE, STATELESS)
META_VERSION = "io.modelcontextprotocol/protocolVersion"
META_CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
MIRRORED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}


@dataclass(frozen=True)
class Post:
    """A request without its credential."""

    body: bytes
    headers: tuple[tuple[str, str | bytes], ...] = ()
    method: str = "POST"
    target: str = "/mcp"

    def with_headers(self, *headers: tuple[str, str | bytes]) -> "Post":
        """The same with more headers."""
        return replace(self, headers=(*self.headers, *headers))

    def without(self, *names: str) -> "Post":
        """The same without some headers."""
        gone = {name.lower() for name in names}
        return replace(self, headers=tuple(pair for pair in self.headers if pair[0].lower() not in gone))

    def setting(self, **headers: str) -> "Post":
        """The same with other values of headers; `_` in a name stands for `-`."""
        pairs = [(name.replace("_", "-"), value) for name, value in headers.items()]
        return self.without(*(name for name, _ in pairs)).with_headers(*pairs)

    def with_body(self, body: bytes | str) -> "Post":
        """The same with another body."""
        return replace(self, body=body if isinstance(body, bytes) else body.encode())

    def list(self) -> Headers:
        """The headers."""
        return list(self.headers)


def message(method: str, params: dict[str, Any] | None = None, **members: Any) -> dict[str, Any]:
    """A JSON-RPC request; a notification with `id=None`."""
    content = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params} | members
    return {name: value for name, value in content.items() if value is not None}


def encode(content: Any) -> bytes:
    """JSON."""
    return content if isinstance(content, bytes) else json.dumps(content).encode()


def post(content: Any, revision: str | None = None, *headers: tuple[str, str | bytes]) -> Post:
    """A POST of any JSON content, with the headers that every MCP client sends."""
    common = [("Content-Type", "application/json"), ("Accept", "application/json, text/event-stream")]
    version = [("MCP-Protocol-Version", revision)] if revision else []
    return Post(encode(content), (*common, *version, *headers))


def handshake(method: str, params: dict[str, Any] | None = None, revision: str = "2025-11-25", **members: Any) -> Post:
    """A message of a revision with sessions. The oldest has no header for its revision."""
    return post(message(method, params, **members), None if revision == HANDSHAKE[0] else revision)


def stateless(method: str, params: dict[str, Any] | None = None, **members: Any) -> Post:
    """A message of 2026-07-28, its target mirrored in headers."""
    params = dict(params or {})
    meta = {META_VERSION: STATELESS, META_CAPABILITIES: {}} | params.pop("_meta", {})
    mirrors: list[tuple[str, str | bytes]] = [("Mcp-Method", method)]
    if name := params.get(MIRRORED.get(method, "")):
        mirrors.append(("Mcp-Name", mirrored(str(name))))
    return post(message(method, params | {"_meta": meta}, **members), STATELESS, *mirrors)


def in_revision(revision: str, method: str, params: dict[str, Any] | None = None, **members: Any) -> Post:
    """A message of any revision."""
    if revision == STATELESS:
        return stateless(method, params, **members)
    return handshake(method, params, revision, **members)


def call(tool: str, arguments: dict[str, Any] | None = None, revision: str = STATELESS, **members: Any) -> Post:
    """A tool call."""
    return in_revision(revision, "tools/call", {"name": tool, "arguments": arguments or {}}, **members)


def initialize(revision: str = "2025-11-25") -> Post:
    """The handshake of older revisions."""
    client = {"name": "test", "version": "1"}
    return post(message("initialize", {"protocolVersion": revision, "capabilities": {}, "clientInfo": client}))


def mirrored(name: str) -> str:
    """A name as `Mcp-Name` holds it: in Base64 when it is not plain ASCII or has blanks around it."""
    if name.isascii() and name.isprintable() and name == name.strip():
        return name
    return f"=?base64?{base64.b64encode(name.encode()).decode()}?="

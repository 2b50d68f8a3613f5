"""What is sent through the gateways, with which tokens, and what the upstream answers."""

import json
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey, RSAKey
from stack import ROOT, Document

ISSUER = "https://issuer.test"
RESOURCE = "https://gateway.test/mcp"
PATH = "/mcp"
SCOPE = "norg:contacts:read"
#: Longer than any benchmark, and what the policy may allow at most.
LIFETIME = 24 * 3600
#: Requests per second that no gateway reaches with a new token each time.
MOST_NEW_TOKENS = 20_000


# --- Tokens -----------------------------------------------------------------------------------------------------------


class Issuer:
    """Keys of every algorithm, and the tokens that they sign. Each set of tokens is a file, made once."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.keys: dict[str, Any] = {
            "RS256": RSAKey.generate_key(2048),
            "ES256": ECKey.generate_key("P-256"),
            "EdDSA": OKPKey.generate_key("Ed25519"),
            "PS256": RSAKey.generate_key(2048),
        }

    def key_set(self) -> Document:
        """The public keys, as a JWK set."""
        return {
            "keys": [
                {**key.as_dict(private=False), "kid": algorithm, "alg": algorithm, "use": "sig"}
                for algorithm, key in self.keys.items()
            ]
        }

    def token(self, algorithm: str, **changes: Any) -> str:
        """A token of a person who uses an agent, so that every side is asked: the token, both of them, the client."""
        now = int(time.time())
        claims = {
            **{"iss": ISSUER, "aud": RESOURCE, "sub": "scheduler", "client_id": "demo-booking-agent"},
            **{"roles": ["schedulers"], "scope": SCOPE, "iat": now, "exp": now + LIFETIME, "jti": secrets.token_hex(8)},
            **changes,
        }
        header = {"alg": algorithm, "kid": algorithm, "typ": "at+jwt"}
        return jwt.encode(header, claims, self.keys[algorithm], algorithms=[algorithm])

    def file(self, name: str, make: Callable[[], list[str]]) -> Path:
        """The file with the tokens that are called this."""
        path = self.directory / f"tokens {name}"
        if not path.exists():
            path.write_text("".join(f"{token}\n" for token in make()))
        return path

    def known(self, algorithm: str) -> Path:
        """One token, which every cache has after the first request."""
        return self.file(f"known {algorithm}", lambda: [self.token(algorithm)])

    def new(self, algorithm: str, most: int) -> Path:
        """Tokens for so many requests at most, of which no cache has the next.

        Those of a file are sent in turn, so more than a cache holds are as good as any number.
        """
        count = min(most, more_than_any_cache())
        return self.file(f"new {algorithm} {count}", lambda: [self.token(algorithm) for _ in range(count)])

    def forged(self) -> Path:
        """A token whose claims another key has signed."""

        def make() -> list[str]:
            token, other = self.token("RS256"), self.token("RS256")
            return [".".join([*token.split(".")[:2], other.split(".")[2]])]

        return self.file("forged", make)

    def insufficient(self) -> Path:
        """A good token that lacks the scope."""
        return self.file("insufficient", lambda: [self.token("RS256", scope="norg:booking:write")])


def more_than_any_cache() -> int:
    """So many tokens that Toolgate, which remembers more of them than Envoy's own filter, has forgotten the first."""
    (bound,) = re.findall(r"MAX_CACHED_TOKENS: usize = ([\d_]+);", (ROOT / "src" / "limits.rs").read_text())
    return max(10_000, int(bound) + 1000)


# --- What the upstream answers ----------------------------------------------------------------------------------------


def tool_list(count: int) -> bytes:
    """A page of tools with descriptions and schemas as servers write them, a third of them hidden from the caller."""
    properties = {
        "contact_id": {"type": "string", "description": "Identifier from find_contacts", "maxLength": 64},
        "channel": {"type": "string", "enum": ["sms", "email", "push"], "default": "sms"},
        "text": {"type": "string", "maxLength": 1600},
    }
    tools = [
        {
            "name": f"tool_{number}" if number % 3 == 0 else "read_contact",
            "description": "Sends a text message to one contact. Use it for reminders, not for campaigns. " * 2,
            "inputSchema": {"type": "object", "required": ["contact_id"], "properties": properties},
        }
        for number in range(count)
    ]
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"tools": tools}}).encode()


def events(message: bytes, count: int = 1) -> bytes:
    """A stream of the same message."""
    return b"event: message\ndata: %b\n\n" % message * count


NOTIFICATION = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x" * 3900}}
RESULT = {"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": "ok"}], "isError": False}}
#: By the header `x-answer` that asks for it: media type and body.
ANSWERS: dict[str, tuple[str, bytes]] = {
    "result": ("application/json", json.dumps(RESULT).encode()),
    "list": ("application/json", tool_list(100)),
    "list in an event": ("text/event-stream", events(tool_list(100))),
    "events": ("text/event-stream", events(json.dumps(NOTIFICATION).encode(), 250)),
}


# --- Workloads --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Workload:
    """The same request again and again."""

    name: str
    body: bytes
    #: The file of the tokens, for a run that sends so many requests at most; none for requests without a token.
    tokens: Callable[[Issuer, int], Path] | None
    answer: str = "result"
    #: The status of gateways that judge requests; the others let everything pass.
    denied: int | None = None
    #: Whether every variant is of interest, or only those that do the whole work.
    every_variant: bool = False
    headers: list[tuple[str, str]] = field(init=False)

    def __post_init__(self) -> None:
        headers = [
            ("content-type", "application/json"),
            ("accept", "application/json, text/event-stream"),
            ("mcp-protocol-version", "2025-11-25"),
            ("x-answer", self.answer),
        ]
        object.__setattr__(self, "headers", headers)


def call_body(size: int) -> bytes:
    """A call of a tool whose JSON has this many bytes."""
    entry = {"to": "anna@example.com", "text": "Your booking is confirmed.", "count": 3, "urgent": False}
    entries: list[Any] = [""] + [entry] * max(0, (size - 300) // (len(json.dumps(entry)) + len(", ")))
    params = {"name": "read_contact", "arguments": {"contact_id": "c-17", "entries": entries}}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    entries[0] = "x" * (size - len(json.dumps(call)))
    body = json.dumps(call).encode()
    assert len(body) == size
    return body


def known_call() -> Workload:
    """The request that everything is compared with."""
    return Workload("known token RS256", call_body(346), lambda issuer, most: issuer.known("RS256"), every_variant=True)


def workloads() -> list[Workload]:
    """Everything that is measured."""
    call, tools = call_body(346), json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).encode()

    def known(algorithm: str = "RS256") -> Callable[[Issuer, int], Path]:
        return lambda issuer, most: issuer.known(algorithm)

    def new(algorithm: str) -> Callable[[Issuer, int], Path]:
        return lambda issuer, most: issuer.new(algorithm, most)

    return [
        known_call(),
        *(Workload(f"known token {name}", call, known(name)) for name in ("ES256", "EdDSA")),
        *(Workload(f"new token {name}", call, new(name)) for name in ("RS256", "ES256", "EdDSA", "PS256")),
        *(
            Workload(f"body of {label}", call_body(size), known())
            for label, size in {"10 KB": 10_000, "100 KB": 100_000, "1 MB": 1_000_000}.items()
        ),
        Workload("list of 100 tools, JSON", tools, known(), "list"),
        Workload("list of 100 tools, SSE", tools, known(), "list in an event"),
        Workload("1 MB of events of 4 KB", tools, known(), "events"),
        Workload("denied: no token", call, None, denied=401),
        Workload("denied: bad signature", call, lambda issuer, most: issuer.forged(), denied=401),
        Workload("denied: scope missing", call, lambda issuer, most: issuer.insufficient(), denied=403),
    ]

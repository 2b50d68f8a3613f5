"""Callers of gated tools: each revision of MCP and each capability of clients, and how they understand an answer."""

import asyncio
import itertools
import json
from dataclasses import dataclass, field, replace
from typing import Any

from stack import LOOPBACK

from . import http1, messages
from .gateway import Gateway, bearer
from .http1 import Response
from .messages import META_CAPABILITIES, STATELESS, Post
from .recorder import answer

Json = dict[str, Any]

#: The key of the gateway's own question and of the answer to it.
QUESTION = "dev.toolgate/approval"
#: What each mark at the beginning of a state says: it is the gateway's own.
OURS = "tga1."
#: Codes of JSON-RPC errors.
URL_ELICITATION, REFUSED, PENDING = -32042, -33002, -33005

_ids = itertools.count(1000)


@dataclass(frozen=True)
class Way:
    """A revision, what the client can do, and whether it began a session."""

    name: str
    revision: str
    elicitation: Json | None = None
    in_session: bool = False

    @property
    def is_stateless(self) -> bool:
        """2026-07-28."""
        return self.revision == STATELESS

    @property
    def shows_links(self) -> bool:
        """Whether it is asked to show a link to its user."""
        knows_how = bool(self.elicitation and "url" in self.elicitation)
        return knows_how and (self.is_stateless or self.in_session)

    def __str__(self) -> str:
        return self.name


URL: Json = {"url": {}}
WAYS = (
    Way("2026-07-28-url", STATELESS, URL),
    Way("2026-07-28-form-and-url", STATELESS, {"form": {}, "url": {}}),
    Way("2026-07-28-form", STATELESS, {"form": {}}),
    Way("2026-07-28-empty", STATELESS, {}),
    Way("2026-07-28", STATELESS),
    Way("2025-11-25-url", "2025-11-25", URL, in_session=True),
    Way("2025-11-25-form", "2025-11-25", {}, in_session=True),
    Way("2025-11-25-session", "2025-11-25", in_session=True),
    Way("2025-11-25", "2025-11-25"),
    Way("2025-06-18", "2025-06-18"),
    Way("2025-03-26", "2025-03-26"),
)
WITH_LINKS, CONVERSANT, PLAIN, SESSION = WAYS[0], WAYS[1], WAYS[4], WAYS[5]


@dataclass(frozen=True)
class Told:
    """What a client makes of an answer."""

    response: Response
    #: `result`, `tool_error`, `input_required`, `url_error` or `error`.
    kind: str
    text: str
    link: str | None = None
    state: str | None = None
    code: int | None = None
    data: Json = field(default_factory=dict)
    questions: Json = field(default_factory=dict)

    @property
    def approval(self) -> str:
        """The id at the end of the link."""
        assert self.link, self
        return self.link.rsplit("/", 1)[1]

    @property
    def decision(self) -> str:
        """The id of the decision, which the record has too."""
        found = self.response.header("x-toolgate-decision")
        assert found, self.response
        return found


def message_of(response: Response) -> Json:
    """The JSON-RPC response, from JSON or from the last event of a stream."""
    if response.header("content-type") == "text/event-stream":
        data = [line.removeprefix(b"data: ") for line in response.body.split(b"\n") if line.startswith(b"data: ")]
        message: Json = json.loads(data[-1])
        return message
    message = response.json()
    return message


def understand(response: Response, page: str | None = None) -> Told:
    """As a client reads it. The link is looked for where clients look, or in the text where nothing else is."""
    assert response.status == 200, response
    message = message_of(response)
    assert message["jsonrpc"] == "2.0"
    if error := message.get("error"):
        data = error.get("data") or {}
        if error["code"] == URL_ELICITATION:
            (elicitation,) = data["elicitations"]
            return Told(response, "url_error", error["message"], elicitation["url"], code=error["code"], data=data)
        return Told(response, "error", error["message"], data.get("approval_url"), code=error["code"], data=data)
    result = message["result"]
    if result.get("resultType") == "input_required":
        questions = result.get("inputRequests") or {}
        asked = questions.get(QUESTION, {}).get("params", {})
        return Told(
            response,
            "input_required",
            asked.get("message", ""),
            asked.get("url"),
            result.get("requestState"),
            questions=questions,
        )
    text = " ".join(part.get("text", "") for part in result.get("content", []))
    if not result.get("isError"):
        return Told(response, "result", text)
    words = [word.strip(".,;:()<>") for word in text.split()]
    link = next((word for word in words if page and word.startswith(page)), None)
    return Told(response, "tool_error", text, link)


@dataclass(frozen=True)
class Caller:
    """Somebody who calls tools through a gateway."""

    gateway: Gateway
    token: str
    way: Way = PLAIN
    page: str | None = None
    session: str | None = None

    @classmethod
    def arriving(cls, gateway: Gateway, token: str, way: Way = PLAIN, page: str | None = None) -> "Caller":
        """Begins a session where there is one."""
        caller = cls(gateway, token, way, page)
        if not way.in_session:
            return caller
        session = begin_session(gateway, token, way)
        return replace(caller, session=session)

    def post(self, method: str, params: Json, **members: Any) -> Post:
        """A request as this client makes it."""
        members = {"id": next(_ids)} | members
        if self.way.is_stateless:
            capabilities = {} if self.way.elicitation is None else {"elicitation": self.way.elicitation}
            meta = {META_CAPABILITIES: capabilities} | params.get("_meta", {})
            return messages.stateless(method, params | {"_meta": meta}, **members)
        post = messages.handshake(method, params, self.way.revision, **members)
        return post.with_headers(("Mcp-Session-Id", self.session)) if self.session else post

    def calling(self, tool: str, arguments: Json | None = None, **params: Any) -> Post:
        """A tool call."""
        return self.post("tools/call", {"name": tool, "arguments": arguments or {}, **params})

    def send(self, post: Post, timeout: float = 15) -> Told:
        """Sends a request and reads the answer."""
        headers = [*bearer(self.token), *post.list()]
        response = http1.request(self.gateway.port, post.method, post.target, headers, post.body, timeout)
        return understand(response, self.page)

    def call(self, tool: str, arguments: Json | None = None, **params: Any) -> Told:
        """Calls a tool."""
        return self.send(self.calling(tool, arguments, **params))

    def again(self, told: Told, tool: str, arguments: Json | None = None, action: str = "accept") -> Told:
        """Calls it again as this client does after such an answer."""
        return self.call(tool, arguments, **self.answering(told, action))

    @staticmethod
    def answering(told: Told, action: str = "accept") -> Json:
        """What the client adds to the call when it comes again."""
        if told.kind != "input_required":
            return {}
        answers = {"inputResponses": {QUESTION: {"action": action}}} if QUESTION in told.questions else {}
        return answers | ({"requestState": told.state} if told.state is not None else {})


def begin_session(gateway: Gateway, token: str, way: Way) -> str:
    """Begins a session whose client can do what it can; the server names it as it likes."""
    capabilities = {} if way.elicitation is None else {"elicitation": way.elicitation}
    client = {"name": "test", "version": "1"}
    params = {"protocolVersion": way.revision, "capabilities": capabilities, "clientInfo": client}
    result = {"protocolVersion": way.revision, "capabilities": {"tools": {}}, "serverInfo": client}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode()
    with gateway.upstream.replying(answer(200, body, {"mcp-session-id": "the-servers-own"})):
        response = gateway.send(messages.post(messages.message("initialize", params)), token)
    session = response.header("mcp-session-id")
    assert response.status == 200 and session, response
    gateway.upstream.forget()
    return session


async def send_async(port: int, post: Post, token: str, timeout: float = 30) -> Response:
    """The same as `Gateway.send`, for many at once."""
    headers = [("Host", f"{LOOPBACK}:{port}"), *bearer(token), *post.list(), ("Content-Length", str(len(post.body)))]
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    try:
        writer.write(http1.head(post.method, post.target, headers) + post.body)
        return await asyncio.wait_for(read_response(reader), timeout)
    finally:
        writer.close()


async def read_response(reader: asyncio.StreamReader) -> Response:
    """A whole answer."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip("\r\n").split("\r\n")
    pairs = [line.partition(":") for line in lines]
    headers = tuple((name.lower(), value.strip()) for name, _, value in pairs)
    names, body = dict(headers), b""
    if names.get("transfer-encoding") == "chunked":
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readexactly(2)
    else:
        body = await reader.readexactly(int(names.get("content-length", "0")))
    return Response(int(first.split(" ", 2)[1]), headers, body)

"""As much of an MCP server as the official clients need, of both eras, for a recorder to answer with."""

import json
import socket
from typing import Any

from .messages import STATELESS
from .recorder import Recorded, Reply, answer, events

Json = dict[str, Any]

CAPABILITIES: Json = {"tools": {}, "prompts": {}, "resources": {}}
SERVER: Json = {"name": "mini", "version": "1"}
#: Tools that the policies of `gated.py` know.
TOOLS = [{"name": name, "inputSchema": {"type": "object"}} for name in ("free", "gated", "held", "briefly")]
#: What only results of 2026-07-28 have.
CACHE: Json = {"ttlMs": 0, "cacheScope": "private"}


def serve(request: Recorded, connection: socket.socket) -> None:
    """Answers a request."""
    if request.method != "POST":
        answer(405 if request.method == "GET" else 200)(request, connection)
        return
    message = json.loads(request.body)
    if "id" not in message:
        answer(202)(request, connection)
        return
    headers = {"mcp-session-id": "the-servers-own"} if message["method"] == "initialize" else None
    response = {"jsonrpc": "2.0", "id": message["id"]} | outcome(message, request.header("mcp-protocol-version"))
    answer(200, json.dumps(response).encode(), headers)(request, connection)


def outcome(message: Json, revision: str | None) -> Json:
    """Its result, or an error."""
    params, is_stateless = message.get("params") or {}, revision == STATELESS
    complete = {"resultType": "complete"} if is_stateless else {}
    match message["method"]:
        case "initialize":
            asked = params["protocolVersion"]
            result = {"protocolVersion": asked, "capabilities": CAPABILITIES, "serverInfo": SERVER}
        case "server/discover":
            result = {"supportedVersions": [STATELESS], "capabilities": CAPABILITIES, **complete, **CACHE}
        case "tools/list":
            result = {"tools": TOOLS, **complete, **(CACHE if is_stateless else {})}
        case "tools/call":
            done = json.dumps(params.get("arguments") or {}, sort_keys=True)
            result = {"content": [{"type": "text", "text": f"done: {done}"}], **complete}
        case "prompts/get":
            content = {"type": "text", "text": "done"}
            result = {"messages": [{"role": "user", "content": content}], **complete}
        case "resources/read":
            result = {"contents": [{"uri": params["uri"], "text": "done"}], **complete}
            result |= CACHE if is_stateless else {}
        case _:
            return {"error": {"code": -32601, "message": "Method not found"}}
    return {"result": result}


QUESTION_OF_SERVER: Json = {"name": {"method": "elicitation/create", "params": {"mode": "form", "message": "Who?"}}}


def asking(state: str | None, *, stream: bool = False, questions: Any = QUESTION_OF_SERVER) -> Reply:
    """A server that needs something from the client."""
    result: Json = {"resultType": "input_required"}
    result |= {"inputRequests": questions} if questions else {}
    result |= {"requestState": state} if state is not None else {}

    def reply(request: Recorded, connection: socket.socket) -> None:
        # Members that are not known to the gateway stay where they are.
        text = json.dumps({"id": json.loads(request.body)["id"], "x": 1.50, "result": result, "jsonrpc": "2.0"})
        if stream:
            note = b'data: {"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}\n\n'
            events(note, b"id: 7\ndata: " + text.encode() + b"\n\n")(request, connection)
        else:
            answer(200, text.encode())(request, connection)

    return reply

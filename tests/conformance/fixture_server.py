"""An MCP server that offers what the scenarios of the official conformance suite ask a server for.

One process, one URL, both revisions: sessions and server-sent streams for 2025-11-25, stateless requests for 2026-07-28.
It knows nothing of tokens: the suite talks to it directly and through the gateway, and the verdicts are compared.
The names and shapes are the suite's, as the descriptions of its scenarios give them; everything else is ours.
"""

import argparse
import asyncio
import base64
import itertools
import json
import struct
import warnings
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from mcp import MCPError
from mcp import types as t
from mcp.server import Server
from mcp.server.caching import CACHEABLE_METHODS, CacheHint
from mcp.server.context import ServerRequestContext
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, PromptsListChanged, ToolsListChanged
from mcp.shared.exceptions import MCPDeprecationWarning

NAME = "conformance-fixture"
#: Seconds between the steps of a tool that reports while it works.
STEP = 0.05
#: What a client is told to wait before it comes back for the rest of a stream, in milliseconds.
RETRY = 200
NO_ARGUMENTS: dict[str, Any] = {"type": "object", "properties": {}}

Context = ServerRequestContext[Any, Any]
Content = t.TextContent | t.ImageContent | t.AudioContent | t.EmbeddedResource
Answers = dict[str, Any]


# --- Contents ---------------------------------------------------------------------------------------------------------


def one_pixel() -> str:
    """A PNG of one red pixel, in base64."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0\xff\0\0")) + chunk(b"IEND", b"")
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + parts).decode()


def silence() -> str:
    """A WAV of eight silent samples, in base64."""
    samples = b"\x80" * 8
    form = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 8000, 1, 8)
    body = b"WAVE" + form + b"data" + struct.pack("<I", len(samples)) + samples
    return base64.b64encode(b"RIFF" + struct.pack("<I", len(body)) + body).decode()


def text(words: str) -> t.TextContent:
    return t.TextContent(text=words)


def image() -> t.ImageContent:
    return t.ImageContent(data=one_pixel(), mime_type="image/png")


def embedded(uri: str, words: str, mime_type: str = "text/plain") -> t.EmbeddedResource:
    return t.EmbeddedResource(resource=t.TextResourceContents(uri=uri, mime_type=mime_type, text=words))


# --- Tools ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """One call of a tool, and what the client sent along."""

    context: Context
    arguments: dict[str, Any]
    answers: Answers
    state: str | None

    def accepted(self, key: str) -> dict[str, Any] | None:
        """What a person filled into the form that was asked for under this key."""
        answer = self.answers.get(key)
        filled = isinstance(answer, t.ElicitResult) and answer.action == "accept"
        return dict(answer.content or {}) if filled else None

    async def log(self, words: str) -> None:
        """A log message on the stream of this call; since 2026-07-28 only if the client asked for it."""
        session, request_id = self.context.session, self.context.request_id
        await session.send_log_message("info", words, logger=NAME, related_request_id=request_id)

    async def elicit(self, message: str, properties: dict[str, Any], required: list[str]) -> t.ElicitResult:
        """Asks the person behind the client, while the call waits: revisions up to 2025-11-25."""
        schema = {"type": "object", "properties": properties, "required": required}
        session, request_id = self.context.session, self.context.request_id
        return await session.elicit_form(message, schema, related_request_id=request_id)


Answer = Content | list[Content] | t.CallToolResult | t.InputRequiredResult | str
Run = Callable[[Call], Awaitable[Answer]]
TOOLS: dict[str, tuple[t.Tool, Run]] = {}


def tool(name: str, description: str, schema: dict[str, Any] | None = None) -> Callable[[Run], Run]:
    """Offers a tool under this name."""

    def offer(run: Run) -> Run:
        TOOLS[name] = t.Tool(name=name, description=description, input_schema=schema or NO_ARGUMENTS), run
        return run

    return offer


def strings(*names: str) -> dict[str, Any]:
    """The schema of an object that must have these strings."""
    return {"type": "object", "properties": {name: {"type": "string"} for name in names}, "required": [*names]}


@tool("test_simple_text", "Answers with a text")
async def simple_text(_: Call) -> Answer:
    return "The one thing that this tool says."


@tool("test_image_content", "Answers with an image")
async def image_content(_: Call) -> Answer:
    return image()


@tool("test_audio_content", "Answers with a sound")
async def audio_content(_: Call) -> Answer:
    return t.AudioContent(data=silence(), mime_type="audio/wav")


@tool("test_embedded_resource", "Answers with a resource")
async def embedded_resource(_: Call) -> Answer:
    return embedded("test://embedded", "Embedded in a result.")


@tool("test_multiple_content_types", "Answers with a text, an image and a resource")
async def multiple_content_types(_: Call) -> Answer:
    return [text("Three kinds:"), image(), embedded("test://mixed", '{"kind":3}', "application/json")]


@tool("test_error_handling", "Always fails")
async def error_handling(_: Call) -> Answer:
    return t.CallToolResult(content=[text("This tool only fails.")], is_error=True)


@tool("test_tool_with_logging", "Logs three messages while it works")
async def tool_with_logging(call: Call) -> Answer:
    for words in ("started", "half way", "done"):
        await call.log(words)
        await asyncio.sleep(STEP)
    return "Logged three messages."


@tool("test_tool_with_progress", "Reports its progress three times")
async def tool_with_progress(call: Call) -> Answer:
    for done in (0, 50, 100):
        await call.context.session.report_progress(done, 100)
        await asyncio.sleep(STEP)
    return "Reported three times."


@tool("test_sampling", "Asks the client's model", strings("prompt"))
async def sampling(call: Call) -> Answer:
    question = t.SamplingMessage(role="user", content=text(call.arguments["prompt"]))
    session, request_id = call.context.session, call.context.request_id
    said = await session.create_message([question], max_tokens=100, related_request_id=request_id)
    return f"The model said: {said.content.model_dump_json()}"


@tool("test_elicitation", "Asks the client's user", strings("message"))
async def elicitation(call: Call) -> Answer:
    fields = {"username": {"type": "string"}, "email": {"type": "string"}}
    said = await call.elicit(call.arguments["message"], fields, [*fields])
    return f"The user said: {said.model_dump_json()}"


@tool("test_elicitation_sep1034_defaults", "Asks with a default for each type of field (SEP-1034)")
async def elicitation_defaults(call: Call) -> Answer:
    fields = {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": True},
    }
    said = await call.elicit("Correct what is wrong.", fields, [])
    return f"The user said: {said.model_dump_json()}"


@tool("test_elicitation_sep1330_enums", "Asks with every way to write a choice (SEP-1330)")
async def elicitation_enums(call: Call) -> Answer:
    plain, values = ["option1", "option2", "option3"], ["value1", "value2", "value3"]
    titled = [{"const": value, "title": f"Choice {number}"} for number, value in enumerate(values, 1)]
    fields = {
        "untitledSingle": {"type": "string", "enum": plain},
        "titledSingle": {"type": "string", "oneOf": titled},
        "legacyEnum": {"type": "string", "enum": ["opt1", "opt2"], "enumNames": ["First", "Second"]},
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": plain}},
        "titledMulti": {"type": "array", "items": {"anyOf": titled}},
    }
    said = await call.elicit("Choose.", fields, [])
    return f"The user said: {said.model_dump_json()}"


@tool("test_reconnection", "Hangs up in the middle of the call: the answer is on the stream that the client resumes")
async def reconnection(call: Call) -> Answer:
    if call.context.close_sse_stream:
        await call.context.close_sse_stream()
        await asyncio.sleep(STEP)
    return "Picked up after the client came back."


LOCATION = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {"address": {"$anchor": "place", "type": "object", "properties": {"town": {"type": "string"}}}},
    "properties": {"address": {"$ref": "#/$defs/address"}, "by": {"enum": ["road", "rail"]}, "line": {"type": "string"}},
    "allOf": [{"anyOf": [{"required": ["address"]}, {"required": ["line"]}]}],
    "if": {"properties": {"by": {"const": "rail"}}, "required": ["by"]},
    "then": {"required": ["line"]},
    "else": {"required": ["address"]},
    "additionalProperties": False,
}


@tool("json_schema_2020_12_tool", "Takes arguments that need the vocabulary of JSON Schema 2020-12", LOCATION)
async def json_schema(_: Call) -> Answer:
    return "It is only there for its schema."


@tool(
    "regional_report",
    "Has an argument that is a header as well (SEP-2243)",
    {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}, "required": ["region"]},
)
async def regional_report(call: Call) -> Answer:
    return f"Nothing new in {call.arguments['region']}."


# --- Tools of the 2026-07-28 revision ---------------------------------------------------------------------------------


@tool("test_missing_capability", "Needs a client with a model")
async def missing_capability(call: Call) -> Answer:
    declared = call.context.session.client_capabilities
    if not declared or declared.sampling is None:
        needed = {"requiredCapabilities": {"sampling": {}}}
        raise MCPError(t.MISSING_REQUIRED_CLIENT_CAPABILITY, "The client has no model to ask.", needed)
    return "The client has a model."


@tool("test_streaming_elicitation", "Reports on its stream, then needs an answer")
async def streaming_elicitation(call: Call) -> Answer:
    await call.context.session.report_progress(1, 2)
    return asking(proceed=form("Go on?", "yes", "boolean"))


@tool("test_logging_tool", "Logs, for clients that want to know")
async def logging_tool(call: Call) -> Answer:
    await call.log("for those who asked")
    return "Logged, if that was wanted."


CHANGES = InMemorySubscriptionBus()


@tool("test_trigger_tool_change", "Tells subscribers that the tools changed")
async def trigger_tool_change(_: Call) -> Answer:
    await CHANGES.publish(ToolsListChanged())
    return "Told."


@tool("test_trigger_prompt_change", "Tells subscribers that the prompts changed")
async def trigger_prompt_change(_: Call) -> Answer:
    await CHANGES.publish(PromptsListChanged())
    return "Told."


def form(message: str, name: str, kind: str = "string") -> t.ElicitRequest:
    """Asks a person for one field."""
    schema = {"type": "object", "properties": {name: {"type": kind}}, "required": [name]}
    return t.ElicitRequest(params=t.ElicitRequestFormParams(message=message, requested_schema=schema))


def prompt_model(question: str) -> t.CreateMessageRequest:
    """Asks the client's model."""
    said = t.SamplingMessage(role="user", content=text(question))
    return t.CreateMessageRequest(params=t.CreateMessageRequestParams(messages=[said], max_tokens=100))


def asking(state: str | None = None, **requests: Any) -> t.InputRequiredResult:
    """A result that is not one yet: the client comes back with the answers, and with the state."""
    return t.InputRequiredResult(input_requests=requests, request_state=state)


@tool("test_input_required_result_elicitation", "Needs a name")
async def needs_name(call: Call) -> Answer:
    person = call.accepted("user_name")
    return f"Good day, {person['name']}." if person else asking(user_name=form("Your name?", "name"))


@tool("test_input_required_result_sampling", "Needs the client's model")
async def needs_model(call: Call) -> Answer:
    said = call.answers.get("capital_question")
    if isinstance(said, t.CreateMessageResult | t.CreateMessageResultWithTools):
        return f"The model said: {said.model_dump_json()}"
    return asking(capital_question=prompt_model("Which town is the capital of France?"))


@tool("test_input_required_result_list_roots", "Needs the client's roots")
async def needs_roots(call: Call) -> Answer:
    said = call.answers.get("client_roots")
    if isinstance(said, t.ListRootsResult):
        return f"Roots: {', '.join(str(root.uri) for root in said.roots)}"
    return asking(client_roots=t.ListRootsRequest())


@tool("test_input_required_result_request_state", "Needs a confirmation, and its own note back")
async def needs_state(call: Call) -> Answer:
    if call.accepted("confirm") and call.state == "asked":
        return "state-ok"
    return asking("asked", confirm=form("Confirm?", "ok", "boolean"))


@tool("test_input_required_result_tampered_state", "Needs its own note back as it was")
async def needs_intact_state(call: Call) -> Answer:
    return await needs_state(call)


@tool("test_input_required_result_multiple_inputs", "Needs a name, a model and roots")
async def needs_everything(call: Call) -> Answer:
    requests = {
        "user_name": form("Your name?", "name"),
        "greeting": prompt_model("How does one greet?"),
        "client_roots": t.ListRootsRequest(),
    }
    if call.state == "asked" and requests.keys() <= call.answers.keys():
        return "Nothing is missing."
    return asking("asked", **requests)


@tool("test_input_required_result_multi_round", "Needs a name, then a colour")
async def needs_two_rounds(call: Call) -> Answer:
    known = json.loads(call.state) if call.state else {}
    known |= call.accepted("name") or {}
    known |= call.accepted("colour") or {}
    if "name" not in known:
        return asking(json.dumps(known), name=form("First: your name?", "name"))
    if "color" not in known:
        return asking(json.dumps(known), colour=form("Then: your favourite colour?", "color"))
    return f"{known['name']} likes {known['color']}."


@tool("test_input_required_result_capabilities", "Asks only for what the client said it can do")
async def needs_what_is_there(call: Call) -> Answer:
    if call.answers:
        return "Thank you."
    declared = call.context.session.client_capabilities or t.ClientCapabilities()
    requests: dict[str, Any] = {}
    if declared.elicitation is not None:
        requests["person"] = form("Your name?", "name")
    if declared.sampling is not None:
        requests["model"] = prompt_model("Anything?")
    return asking(**requests) if requests else "There is nobody to ask."


# --- Prompts ----------------------------------------------------------------------------------------------------------

Prompting = Callable[[dict[str, str], Call], list[Content] | t.InputRequiredResult]
PROMPTS: dict[str, tuple[t.Prompt, Prompting]] = {}


def prompt(name: str, description: str, *arguments: str) -> Callable[[Prompting], Prompting]:
    """Offers a prompt under this name."""

    def offer(run: Prompting) -> Prompting:
        needed = [t.PromptArgument(name=argument, description=f"Any {argument}", required=True) for argument in arguments]
        PROMPTS[name] = t.Prompt(name=name, description=description, arguments=needed), run
        return run

    return offer


@prompt("test_simple_prompt", "Takes nothing")
def simple_prompt(_: dict[str, str], __: Call) -> list[Content]:
    return [text("Say something.")]


@prompt("test_prompt_with_arguments", "Takes two arguments", "arg1", "arg2")
def prompt_with_arguments(given: dict[str, str], _: Call) -> list[Content]:
    return [text(f"Compare {given['arg1']} with {given['arg2']}.")]


@prompt("test_prompt_with_embedded_resource", "Brings a resource along", "resourceUri")
def prompt_with_resource(given: dict[str, str], _: Call) -> list[Content]:
    return [embedded(given["resourceUri"], "Embedded in a prompt."), text("Read this.")]


@prompt("test_prompt_with_image", "Brings an image along")
def prompt_with_image(_: dict[str, str], __: Call) -> list[Content]:
    return [image(), text("What is this?")]


@prompt("test_input_required_result_prompt", "Needs to know more")
def prompt_with_question(_: dict[str, str], call: Call) -> list[Content] | t.InputRequiredResult:
    known = call.accepted("user_context")
    return [text(f"About {known}.")] if known else asking(user_context=form("What about?", "context"))


# --- Resources --------------------------------------------------------------------------------------------------------

RESOURCES: dict[str, t.TextResourceContents | t.BlobResourceContents] = {
    resource.uri: resource
    for resource in (
        t.TextResourceContents(uri="test://static-text", mime_type="text/plain", text="Always the same words."),
        t.BlobResourceContents(uri="test://static-binary", mime_type="image/png", blob=one_pixel()),
        t.TextResourceContents(uri="test://watched-resource", mime_type="text/plain", text="Somebody may subscribe."),
    )
}
TEMPLATE = t.ResourceTemplate(
    name="template", uri_template="test://template/{id}/data", description="One of many", mime_type="application/json"
)


def resource_at(uri: str) -> t.TextResourceContents | t.BlobResourceContents:
    """A resource of the list or of the template."""
    before, after = TEMPLATE.uri_template.split("{id}")
    if uri.startswith(before) and uri.endswith(after) and len(uri) > len(before + after):
        content = json.dumps({"id": uri.removeprefix(before).removesuffix(after)})
        return t.TextResourceContents(uri=uri, mime_type="application/json", text=content)
    if uri not in RESOURCES:
        raise MCPError(t.INVALID_PARAMS, "There is no such resource.", {"uri": uri})
    return RESOURCES[uri]


# --- Server -----------------------------------------------------------------------------------------------------------


@dataclass
class Remembered(EventStore):
    """What was sent on each stream, so that a client can take one up again where it broke off."""

    events: dict[str, tuple[str, t.JSONRPCMessage | None]] = field(default_factory=dict)

    async def store_event(self, stream_id: str, message: t.JSONRPCMessage | None) -> str:
        event_id = f"event-{len(self.events)}"
        self.events[event_id] = (stream_id, message)
        return event_id

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        if last_event_id not in self.events:
            return None
        wanted, _ = self.events[last_event_id]
        later = itertools.dropwhile(lambda event: event[0] != last_event_id, [*self.events.items()])
        for event_id, (stream_id, message) in itertools.islice(later, 1, None):
            if stream_id == wanted and message is not None:
                await send_callback(EventMessage(message, event_id))
        return wanted


async def list_tools(_: Context, __: t.PaginatedRequestParams | None) -> t.ListToolsResult:
    return t.ListToolsResult(tools=[offered for offered, _ in TOOLS.values()])


async def call_tool(
    context: Context, params: t.CallToolRequestParams
) -> t.CallToolResult | t.InputRequiredResult:
    if params.name not in TOOLS:
        raise MCPError(t.INVALID_PARAMS, "There is no such tool.")
    _, run = TOOLS[params.name]
    answer = await run(Call(context, params.arguments or {}, params.input_responses or {}, params.request_state))
    if isinstance(answer, t.CallToolResult | t.InputRequiredResult):
        return answer
    if isinstance(answer, str):
        answer = text(answer)
    return t.CallToolResult(content=answer if isinstance(answer, list) else [answer])


async def list_prompts(_: Context, __: t.PaginatedRequestParams | None) -> t.ListPromptsResult:
    return t.ListPromptsResult(prompts=[offered for offered, _ in PROMPTS.values()])


async def get_prompt(context: Context, params: t.GetPromptRequestParams) -> t.GetPromptResult | t.InputRequiredResult:
    offered, run = PROMPTS.get(params.name, (None, None))
    given = params.arguments or {}
    if not offered or not run or any(argument.name not in given for argument in offered.arguments or []):
        raise MCPError(t.INVALID_PARAMS, "There is no such prompt, or it takes other arguments.")
    answer = run(given, Call(context, {}, params.input_responses or {}, params.request_state))
    if isinstance(answer, t.InputRequiredResult):
        return answer
    return t.GetPromptResult(messages=[t.PromptMessage(role="user", content=content) for content in answer])


async def list_resources(_: Context, __: t.PaginatedRequestParams | None) -> t.ListResourcesResult:
    listed = [
        t.Resource(uri=uri, name=uri.removeprefix("test://"), description="For tests", mime_type=content.mime_type)
        for uri, content in RESOURCES.items()
    ]
    return t.ListResourcesResult(resources=listed)


async def list_templates(_: Context, __: t.PaginatedRequestParams | None) -> t.ListResourceTemplatesResult:
    return t.ListResourceTemplatesResult(resource_templates=[TEMPLATE])


async def read_resource(_: Context, params: t.ReadResourceRequestParams) -> t.ReadResourceResult:
    return t.ReadResourceResult(contents=[resource_at(str(params.uri))])


async def complete(_: Context, params: t.CompleteRequestParams) -> t.CompleteResult:
    fitting = [word for word in ("test", "testament", "tester") if word.startswith(params.argument.value)]
    return t.CompleteResult(completion=t.Completion(values=fitting, total=len(fitting), has_more=False))


async def accept(_: Context, __: Any) -> t.EmptyResult:
    """Subscriptions and log levels: nothing here changes by itself, and what is logged is always at one level."""
    return t.EmptyResult()


def build_server() -> Server[Any]:
    """All of the above."""
    server: Server[Any] = Server(
        NAME,
        version="1.0.0",
        cache_hints={method: CacheHint(ttl_ms=60_000, scope="public") for method in CACHEABLE_METHODS},
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_prompts=list_prompts,
        on_get_prompt=get_prompt,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
        on_subscribe_resource=accept,
        on_unsubscribe_resource=accept,
        on_subscriptions_listen=ListenHandler(CHANGES),
        on_completion=complete,
        on_set_logging_level=accept,
    )
    server.middleware.append(RequestStateBoundary(RequestStateSecurity.ephemeral(), default_audience=NAME))
    return server


def main() -> None:
    """Serve on loopback, at /mcp; the SDK checks Host and Origin there, as the suite demands."""
    parser = argparse.ArgumentParser(description="The MCP server that the conformance suite runs against.")
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    # The suite asks for what the latest revision deprecates, too.
    warnings.simplefilter("ignore", MCPDeprecationWarning)
    app = build_server().streamable_http_app(event_store=Remembered(), retry_interval=RETRY)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main()

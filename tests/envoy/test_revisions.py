"""Which revision a request is read in: from the body, with the header held against it; never by guessing."""

import json
from dataclasses import dataclass
from typing import Any

import pytest

from conftest import NewGateway
from support import messages, recorder
from support.gateway import Gateway
from support.issuer import Issuer
from support.messages import HANDSHAKE, META_CAPABILITIES, META_VERSION, REVISIONS, STATELESS, Post, message, post
from support.policy import policy
from support.recorder import Recorder

VALID = {META_VERSION: STATELESS, META_CAPABILITIES: {}}
SUPPORTED = list(REVISIONS)


@dataclass(frozen=True)
class Era:
    """What a POST looks like, and what it is taken for."""

    name: str
    method: str
    params: dict[str, Any]
    header: str | None
    #: JSON-RPC error code; None: the request is understood and forwarded.
    code: int | None = None
    #: Whether the error names the revisions that are supported.
    lists_supported: bool = False
    status: int = 400

    def post(self) -> Post:
        mirror = [("Mcp-Method", self.method)] if self.header == STATELESS else []
        return post(message(self.method, self.params), self.header, *mirror)


def with_meta(**changes: Any) -> dict[str, Any]:
    """`_meta` of a stateless request with changes; what is None is left out."""
    meta = {name: value for name, value in (VALID | changes).items() if value is not None}
    return {"_meta": meta}


def opening(version: Any) -> dict[str, Any]:
    return {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}


ERAS = [
    Era("claim-and-equal-header", "tools/list", with_meta(), STATELESS),
    Era("claim-without-header", "tools/list", with_meta(), None, -32020),
    Era("claim-with-older-header", "tools/list", with_meta(), "2025-11-25", -32020),
    Era("claim-with-unknown-header", "tools/list", with_meta(), "2099-01-01", -32020),
    Era("claim-not-text", "tools/list", with_meta(**{META_VERSION: 20260728}), STATELESS, -32602),
    Era("claim-null", "tools/list", {"_meta": {META_VERSION: None, META_CAPABILITIES: {}}}, STATELESS, -32602),
    Era("claim-without-capabilities", "tools/list", with_meta(**{META_CAPABILITIES: None}), STATELESS, -32602),
    Era("claim-with-capabilities-as-list", "tools/list", with_meta(**{META_CAPABILITIES: []}), STATELESS, -32602),
    Era(
        "claim-of-unknown-revision", "tools/list", with_meta(**{META_VERSION: "2099-01-01"}), "2099-01-01", -32022, True
    ),
    Era("claim-of-older-revision", "tools/list", with_meta(**{META_VERSION: "2025-11-25"}), "2025-11-25", -32022, True),
    Era("meta-not-an-object", "tools/list", {"_meta": []}, STATELESS, -32602),
    *(Era(f"handshake-{revision}", "initialize", opening(revision), None) for revision in HANDSHAKE),
    *(Era(f"handshake-{revision}-with-header", "initialize", opening(revision), revision) for revision in HANDSHAKE),
    Era("handshake-with-stateless-header", "initialize", opening("2025-11-25"), STATELESS, -32020),
    Era("handshake-for-stateless-revision", "initialize", opening(STATELESS), None, -32602, True),
    Era("handshake-for-unknown-revision", "initialize", opening("2024-11-05"), None, -32602, True),
    Era("handshake-for-no-revision", "initialize", opening(None), None, -32602),
    Era("handshake-with-claim", "initialize", opening("2025-11-25") | with_meta(), STATELESS, -32601, status=404),
    *(Era(f"after-handshake-{revision}", "tools/list", {}, revision) for revision in HANDSHAKE),
    Era("no-claim-no-header", "tools/list", {}, None),
    Era("no-claim-with-stateless-header", "tools/list", {}, STATELESS, -32602),
    Era("other-meta-with-stateless-header", "tools/list", {"_meta": {"progressToken": 1}}, STATELESS, -32602),
    Era("no-claim-with-unknown-header", "tools/list", {}, "2099-01-01", -32600, True),
    Era("no-claim-with-old-unsupported-header", "tools/list", {}, "2024-11-05", -32600, True),
    Era("no-claim-with-mangled-header", "tools/list", {}, "2025-11-25 ", None),
    Era("no-claim-with-list-of-revisions", "tools/list", {}, "2025-11-25, 2025-06-18", -32600, True),
    Era("no-claim-with-empty-header", "tools/list", {}, "\t", -32600, True),
]


@pytest.mark.parametrize("era", ERAS, ids=lambda era: era.name)
def test_a_post_is_read_in_one_revision_or_refused(
    gateway: Gateway, upstream: Recorder, issuer: Issuer, era: Era
) -> None:
    response = gateway.send(era.post(), issuer.token())
    if era.code is None:
        assert (response.status, upstream.only().body) == (200, era.post().body)
        return
    assert upstream.saw_nothing()
    assert (response.status, response.error()["code"], response.json()["id"]) == (era.status, era.code, 1)
    # A stateless client cannot use the others.
    supported = [STATELESS] if era.code == -32022 else SUPPORTED
    assert response.error().get("data", {}).get("supported") == (supported if era.lists_supported else None)


METHODS: dict[str, tuple[str, ...]] = {
    "initialize": HANDSHAKE,
    "ping": HANDSHAKE,
    "logging/setLevel": HANDSHAKE,
    "resources/list": REVISIONS,
    "resources/templates/list": REVISIONS,
    "prompts/list": REVISIONS,
    "tools/list": REVISIONS,
    "server/discover": (STATELESS,),
    "subscriptions/listen": (STATELESS,),
    "notifications/initialized": HANDSHAKE,
    "notifications/cancelled": HANDSHAKE,
    "notifications/progress": HANDSHAKE,
    "notifications/roots/list_changed": HANDSHAKE,
    "notifications/tasks/status": ("2025-11-25",),
}


@pytest.mark.parametrize("revision", REVISIONS)
@pytest.mark.parametrize("method", METHODS)
def test_each_revision_has_its_own_methods(
    gateway: Gateway, upstream: Recorder, issuer: Issuer, method: str, revision: str
) -> None:
    is_notification = method.startswith("notifications/")
    params = opening(revision) if method == "initialize" else {}
    request = messages.in_revision(revision, method, params, id=None if is_notification else 1)
    response = gateway.send(request, issuer.token())
    if revision in METHODS[method]:
        assert response.status == (202 if is_notification else 200)
        assert upstream.only().body == request.body
    else:
        assert upstream.saw_nothing()
        status = 404 if revision == STATELESS else 400 if is_notification else 200
        assert (response.status, response.error()["code"]) == (status, -32601)
        assert ("id" in response.json()) is not is_notification


TASKS = {"tasks/get": "2025-11-25", "tasks/result": "2025-11-25", "tasks/list": "2025-11-25", "tasks/update": STATELESS}


@pytest.mark.parametrize(("method", "revision"), TASKS.items())
def test_tasks_are_denied_as_a_handle_could_be_anybodys(
    gateway: Gateway, upstream: Recorder, issuer: Issuer, method: str, revision: str
) -> None:
    response = gateway.send(messages.in_revision(revision, method, {"taskId": "t-1"}), issuer.token("crm:delete"))
    assert (response.status, response.error()["data"]["reason"]) == (403, "task_not_bound")
    assert response.header("www-authenticate") is None
    assert upstream.saw_nothing()


def begin_session(gateway: Gateway, token: str, revision: str = "2025-11-25") -> tuple[str, str]:
    """The header that the client sends from then on; the server's own name for the session is `s-1`."""
    result = json.dumps({"jsonrpc": "2.0", "id": 1, "result": {}}).encode()
    with gateway.upstream.replying(recorder.answer(200, result, {"mcp-session-id": "s-1"})):
        session = gateway.send(messages.initialize(revision), token).header("mcp-session-id")
    assert session and session != "s-1"
    return "Mcp-Session-Id", session


@pytest.mark.parametrize("revision", HANDSHAKE)
def test_sessions_pass_through(gateway: Gateway, upstream: Recorder, issuer: Issuer, revision: str) -> None:
    """The server makes and ends them; the gateway wants a token with each request all the same."""
    session = begin_session(gateway, issuer.token(), revision)
    within = messages.in_revision(revision, "tools/list").with_headers(session)
    assert gateway.send(within).status == 401
    assert gateway.send(within, issuer.token()).status == 200
    version = [] if revision == HANDSHAKE[0] else [("MCP-Protocol-Version", revision)]
    resume = Post(b"", (session, ("Last-Event-ID", "7"), *version), "GET")
    assert gateway.send(resume, issuer.token()).status == 200
    assert gateway.send(Post(b"", (session, *version), "DELETE"), issuer.token()).status == 200
    seen = upstream.requests
    assert [request.method for request in seen] == ["POST", "POST", "GET", "DELETE"]
    assert [request.header("mcp-session-id") for request in seen] == [None, "s-1", "s-1", "s-1"]
    assert seen[2].header("last-event-id") == "7"


def test_a_gone_session_is_reported_by_the_server_and_passes(
    gateway: Gateway, upstream: Recorder, issuer: Issuer
) -> None:
    """A 404 makes clients start anew, so it must be the server's and never the gateway's way to deny (T23)."""
    session = begin_session(gateway, issuer.token())
    upstream.forget()
    with upstream.replying(recorder.answer(404, b"{}")):
        assert gateway.send(messages.handshake("tools/list").with_headers(session), issuer.token()).status == 404
    assert upstream.only().header("mcp-session-id") == "s-1"


@pytest.mark.parametrize("revision", HANDSHAKE)
def test_a_client_may_answer_what_the_server_asked(
    gateway: Gateway, upstream: Recorder, issuer: Issuer, revision: str
) -> None:
    version = None if revision == HANDSHAKE[0] else revision
    outcomes: list[dict[str, Any]] = [{"result": {"roots": []}}, {"error": {"code": -1, "message": "no"}}]
    for outcome in outcomes:
        response = post({"jsonrpc": "2.0", "id": "s-7"} | outcome, version)
        assert gateway.send(response, issuer.token()).status == 202
    assert len(upstream.requests) == 2


def test_the_oldest_revision_may_batch(gateway: Gateway, upstream: Recorder, issuer: Issuer) -> None:
    batch = [message("ping", id=7), message("tools/list", id="a"), message("notifications/initialized", id=None)]
    for version in (None, "2025-03-26"):
        upstream.forget()
        response = gateway.send(post(batch, version), issuer.token())
        assert response.status == 200
        assert upstream.only().body == json.dumps(batch).encode()


# --- A policy that allows fewer revisions -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def modern(start_gateway: NewGateway, issuer: Issuer) -> Gateway:
    """Only the stateless revision."""
    return start_gateway(policy(issuer, protocol={"revisions": [STATELESS]}), issuer)


@pytest.fixture(scope="module")
def legacy(start_gateway: NewGateway, issuer: Issuer) -> Gateway:
    """Only two revisions with sessions."""
    return start_gateway(policy(issuer, protocol={"revisions": ["2025-11-25", "2025-06-18"]}), issuer)


def test_a_stateless_gateway_has_no_sessions(modern: Gateway, issuer: Issuer) -> None:
    assert modern.send(messages.stateless("tools/list"), issuer.token()).status == 200
    for method in ("GET", "DELETE"):
        refused = modern.send(Post(b"", (), method), issuer.token())
        assert (refused.status, refused.header("allow")) == (405, "POST")
    modern.upstream.forget()
    for old in (
        messages.initialize(),
        messages.handshake("tools/list"),
        messages.handshake("ping", revision="2025-03-26"),
    ):
        refused = modern.send(old, issuer.token())
        assert (refused.status, refused.error()["code"]) == (400, -32022)
        assert refused.error()["data"]["supported"] == [STATELESS]
    assert modern.upstream.saw_nothing()


def test_a_gateway_with_sessions_only_does_not_speak_the_stateless_revision(legacy: Gateway, issuer: Issuer) -> None:
    assert legacy.send(messages.handshake("tools/list"), issuer.token()).status == 200
    legacy.upstream.forget()
    claimed = legacy.send(messages.stateless("tools/list"), issuer.token())
    assert (claimed.status, claimed.error()["code"]) == (400, -32022)
    assert claimed.error()["data"] == {"supported": ["2025-06-18", "2025-11-25"], "requested": STATELESS}
    unnamed = legacy.send(messages.handshake("tools/list", revision="2025-03-26"), issuer.token())
    assert (unnamed.status, unnamed.error()["code"]) == (400, -32600)
    batch = legacy.send(post([message("ping")], "2025-11-25"), issuer.token())
    assert (batch.status, batch.error()["code"]) == (400, -32600)
    assert legacy.upstream.saw_nothing()

"""The official clients go through the flow of approvals: Python and TypeScript, of both eras, with and without a way to
show a link; and one that gives up waiting can still finish."""

import asyncio
import json
import subprocess
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import httpx2
import pytest
import stack
from conformance_suite import node
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp_types import ElicitResult

from support.approval_service import approves, rejects
from support.callers import URL_ELICITATION
from support.gated import Gated, NewGated
from support.mini_server import serve

MODES = ("legacy", "2026-07-28", "auto")
MODULES = stack.ROOT / "target" / "clients" / "node_modules"
SCRIPT = stack.ROOT / "tests" / "envoy" / "clients" / "caller.mjs"
#: Seconds after which a client of these tests gives up; real ones take 60.
PATIENCE = 1.0


@pytest.fixture(scope="module")
def shared(start_gated: NewGated) -> Gated:
    return start_gated()


@pytest.fixture
def gated(shared: Gated) -> Iterator[Gated]:
    shared.service.forget()
    shared.gateway.upstream.forget()
    shared.gateway.upstream.reply = serve
    yield shared
    assert not shared.service.violations


def executed(gated: Gated) -> list[dict[str, Any]]:
    """The arguments of the calls that the server saw."""
    bodies = [json.loads(request.body) for request in gated.gateway.upstream.requests if request.body]
    return [body["params"]["arguments"] for body in bodies if body["method"] == "tools/call"]


def visit(url: str) -> None:
    """A person follows the link, and approves there."""
    with urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=10) as answer:
        assert answer.status == 204


# --- Python -----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def connected(gated: Gated, mode: str, **settings: Any) -> AsyncIterator[Client]:
    """The official client, with a token that is there already."""
    token = gated.issuer.token(aud=gated.service.resource)
    url = f"http://127.0.0.1:{gated.gateway.port}/mcp"
    async with (
        httpx2.AsyncClient(headers={"authorization": f"Bearer {token}"}, timeout=30) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode, **settings) as client,
    ):
        yield client


class Person:
    """Who sits at the client and is shown links."""

    def __init__(self, action: Literal["accept", "decline"] = "accept") -> None:
        self.links: list[str] = []
        self.action: Literal["accept", "decline"] = action

    async def __call__(self, context: Any, params: Any) -> Any:
        assert params.mode == "url" and params.message
        self.links.append(params.url)
        if self.action == "accept":
            await asyncio.to_thread(visit, params.url)
        return ElicitResult(action=self.action)


def run(work: Any) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


@pytest.mark.parametrize("mode", MODES)
def test_python_is_held_until_somebody_approves(gated: Gated, mode: str) -> None:
    async def work() -> None:
        async with connected(gated, mode) as client:
            result = await client.call_tool("held", {"n": 1})
            assert not result.is_error and "done" in result.content[0].text  # type: ignore[union-attr]

    gated.service.script = approves(after=0.3)
    run(work())
    assert executed(gated) == [{"n": 1}]


@pytest.mark.parametrize("mode", MODES)
def test_python_shows_the_link_and_finishes(gated: Gated, mode: str) -> None:
    person = Person()

    async def work() -> None:
        async with connected(gated, mode, elicitation_callback=person) as client:
            if mode == "legacy":
                with pytest.raises(MCPError) as raised:
                    await client.call_tool("gated", {"n": 2})
                error = raised.value.error
                assert error.code == URL_ELICITATION
                (elicitation,) = error.data["elicitations"]
                visit(elicitation["url"])
            result = await client.call_tool("gated", {"n": 2})
            assert not result.is_error

    run(work())
    assert len(person.links) == (0 if mode == "legacy" else 1)
    assert executed(gated) == [{"n": 2}] and gated.service.counts["created"] == 1


@pytest.mark.parametrize("mode", MODES)
def test_python_without_a_way_to_show_links_is_told_in_words(gated: Gated, mode: str) -> None:
    async def work() -> None:
        async with connected(gated, mode) as client:
            told = await client.call_tool("gated", {"n": 3})
            assert told.is_error
            text = told.content[0].text  # type: ignore[union-attr]
            link = gated.service.page + gated.service.only().id
            assert link in text
            visit(link)
            result = await client.call_tool("gated", {"n": 3})
            assert not result.is_error

    run(work())
    assert executed(gated) == [{"n": 3}] and gated.service.counts["created"] == 1


@pytest.mark.parametrize("mode", MODES)
def test_python_is_told_of_a_rejection(gated: Gated, mode: str) -> None:
    async def work() -> None:
        async with connected(gated, mode, elicitation_callback=Person()) as client:
            told = await client.call_tool("held", {"n": 4})
            assert told.is_error and "too dear" in told.content[0].text  # type: ignore[union-attr]

    gated.service.script = rejects("too dear")
    run(work())
    assert not executed(gated)


@pytest.mark.parametrize("mode", ["2026-07-28", "auto"])
def test_python_declines(gated: Gated, mode: str) -> None:
    async def work() -> None:
        async with connected(gated, mode, elicitation_callback=Person("decline")) as client:
            told = await client.call_tool("gated", {"n": 5})
            assert told.is_error

    run(work())
    assert not executed(gated)
    gated.service.wait_for("cancel")


@pytest.mark.parametrize("mode", MODES)
def test_python_that_gives_up_can_still_finish(gated: Gated, mode: str) -> None:
    """Before 2026-07-28 it leaves its request open, which may be the one that is carried out when the time comes."""
    ended: list[str] = []

    async def work() -> None:
        async with connected(gated, mode, read_timeout_seconds=PATIENCE) as client:
            for attempt in range(20):
                try:
                    result = await client.call_tool("held", {"n": 6})
                except MCPError as error:
                    assert "imed out" in str(error), error
                    continue
                assert attempt > 0
                text = result.content[0].text  # type: ignore[union-attr]
                ended.append("result" if not result.is_error else "used" if "was used" in text else text)
                # What it left open is answered now, which the client cannot bear while it closes.
                await asyncio.sleep(0.5)
                return
            pytest.fail("it never finishes")

    gated.service.script = approves(after=1.5 * PATIENCE)
    run(work())
    assert ended == ["result"] or (mode == "legacy" and ended == ["used"])
    assert executed(gated) == [{"n": 6}] and gated.service.counts["created"] == 1


# --- TypeScript -------------------------------------------------------------------------------------------------------

PACKAGES = [("client", "auto"), ("client", "legacy"), ("sdk", "legacy")]


def typescript(gated: Gated, package: str, mode: str, **settings: Any) -> list[str]:
    """Runs the client; what happened to it."""
    assert MODULES.is_dir(), "the TypeScript clients are missing: run scripts/node-env"
    known = {
        "package": package,
        "mode": mode,
        "url": f"http://127.0.0.1:{gated.gateway.port}/mcp",
        "token": gated.issuer.token(aud=gated.service.resource),
        "timeout": 15_000,
        "elicits": True,
    }
    command = [str(node()), str(SCRIPT), str(MODULES), json.dumps(known | settings)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    happened: list[str] = json.loads(done.stdout.splitlines()[-1])["happened"]
    return happened


@pytest.mark.parametrize(("package", "mode"), PACKAGES)
def test_typescript_is_held_until_somebody_approves(gated: Gated, package: str, mode: str) -> None:
    gated.service.script = approves(after=0.3)
    assert typescript(gated, package, mode, tool="held", arguments={"n": 1}) == ["result"]
    assert executed(gated) == [{"n": 1}]


@pytest.mark.parametrize(("package", "mode"), PACKAGES)
def test_typescript_shows_the_link_and_finishes(gated: Gated, package: str, mode: str) -> None:
    happened = typescript(gated, package, mode, tool="gated", arguments={"n": 2})
    assert happened == (["link", "result"] if mode == "auto" else ["elicitation required", "link", "result"])
    assert executed(gated) == [{"n": 2}] and gated.service.counts["created"] == 1


@pytest.mark.parametrize(("package", "mode"), PACKAGES)
def test_typescript_without_a_way_to_show_links_is_told_in_words(gated: Gated, package: str, mode: str) -> None:
    happened = typescript(gated, package, mode, tool="gated", arguments={"n": 3}, elicits=False)
    assert happened == ["told", "link", "result"]
    assert executed(gated) == [{"n": 3}] and gated.service.counts["created"] == 1


@pytest.mark.parametrize(("package", "mode"), PACKAGES)
def test_typescript_that_gives_up_can_still_finish(gated: Gated, package: str, mode: str) -> None:
    gated.service.script = approves(after=1.5 * PATIENCE)
    settings = {"tool": "held", "arguments": {"n": 4}, "timeout": int(PATIENCE * 1000)}
    happened = typescript(gated, package, mode, **settings)
    assert happened[0] == "timeout"
    assert set(happened) == {"timeout", "result"} or (mode == "legacy" and set(happened) == {"timeout", "used"})
    assert executed(gated) == [{"n": 4}] and gated.service.counts["created"] == 1

"""A thousand calls that wait for people at once, on one worker: they cost little, nobody else waits for them, and each
runs once."""

import asyncio
import statistics
import time
from collections import Counter
from dataclasses import dataclass

import pytest

from support.callers import PLAIN, WITH_LINKS, Caller, send_async, understand
from support.gated import RULES, Gated, NewGated
from support.gateway import Envoy
from support.http1 import Response
from support.trail import Watch

HELD = 1000
#: How many calls of one caller a worker holds.
ROOM = 1024
#: Bytes of each call.
PADDING = 2000
#: Megabytes that they may cost Envoy, with their connections, buffers and callouts.
MEMORY = 120
#: How much slower other calls may be at the median while so many are held. Nothing of it is work for them.
RATIO = 4.0
#: Seconds that tests on a busy machine add, whoever is held.
NOISE = 0.005


@dataclass(frozen=True)
class Latency:
    """How long other calls took, in seconds."""

    median: float
    most: float

    @classmethod
    async def of(cls, caller: Caller, count: int = 300) -> "Latency":
        """One after the other, each on a connection of its own."""
        took = []
        for number in range(count):
            start = time.monotonic()
            response = await send_async(caller.gateway.port, caller.calling("free", {"n": number}), caller.token)
            took.append(time.monotonic() - start)
            assert understand(response).kind == "result"
        took.sort()
        return cls(statistics.median(took), took[int(count * 0.99)])


@pytest.fixture(scope="module")
def gated(start_gated: NewGated, second_envoy: Envoy) -> Gated:
    assert second_envoy.workers == 1
    rules = [*RULES, {"tools": ["patient"], "scopes": [], "approval": {"hold": "55s"}}]
    return start_gated(on=second_envoy, policy={"rules": rules})


def test_a_thousand_calls_are_held_at_once(gated: Gated) -> None:
    envoy, service = gated.gateway.envoy, gated.service
    callers = [gated.caller(way, sub=f"person-{number}") for number in range(20) for way in (PLAIN, WITH_LINKS)]
    bystander = gated.caller(sub="bystander")

    async def main() -> list[Response]:
        await Latency.of(bystander, 100)
        before, memory = await Latency.of(bystander), envoy.resident_kilobytes()
        sent = []
        for number in range(HELD):
            caller = callers[number % len(callers)]
            post = caller.calling("patient", {"n": number, "padding": "x" * PADDING})
            sent.append(asyncio.ensure_future(send_async(gated.gateway.port, post, caller.token, timeout=90)))
            if number % 50 == 49:
                await asyncio.sleep(0.02)
        deadline = time.monotonic() + 30
        while service.waiting < HELD:
            gone = [task for task in sent if task.done()]
            assert not gone, gone[0].result()
            assert time.monotonic() < deadline, service.waiting
            await asyncio.sleep(0.05)
        assert (await asyncio.to_thread(gated.metrics))["held"] == HELD
        during, more = await Latency.of(bystander), envoy.resident_kilobytes() - memory
        print(f"\nnone held: {before}\n{HELD} held: {during}\n{more / 1024:.1f} MB more, {more / HELD:.0f} kB for each")
        assert service.waiting == HELD, "they are held all the time"
        assert more < MEMORY * 1024
        assert during.median < RATIO * before.median + NOISE
        assert during.most < 10 * RATIO * before.most + 10 * NOISE
        # People decide, one after the other, and quickly.
        for approval in list(service.approvals):
            service.approve(approval)
            await asyncio.sleep(0.002)
        return await asyncio.gather(*sent)

    responses = asyncio.run(asyncio.wait_for(main(), 100))
    assert Counter(understand(response).kind for response in responses) == {"result": HELD}
    assert Counter(arguments["n"] for arguments in gated.executed() if "padding" in arguments) == Counter(range(HELD))
    assert service.counts["consumed"] == HELD == service.counts["created"]
    envoy.wait_until("nothing is held", lambda: gated.metrics()["held"] == 0)


def test_what_was_held_is_given_back(gated: Gated) -> None:
    """Two more crowds: the memory of the first one is used again."""
    envoy, service = gated.gateway.envoy, gated.service

    async def crowd(first: int) -> None:
        callers = [gated.caller(sub=f"crowd-{number}") for number in range(20)]
        sent = []
        for number in range(HELD):
            caller = callers[number % len(callers)]
            post = caller.calling("briefly", {"n": first + number, "padding": "x" * PADDING})
            sent.append(asyncio.ensure_future(send_async(gated.gateway.port, post, caller.token)))
        responses = await asyncio.gather(*sent)
        assert {understand(response).kind for response in responses} == {"tool_error"}

    service.forget()
    asyncio.run(crowd(10_000))
    memory = envoy.resident_kilobytes()
    for round_ in range(2, 4):
        asyncio.run(crowd(10_000 * round_))
    assert envoy.resident_kilobytes() - memory < 30 * 1024
    assert gated.metrics()["held"] == 0 and service.waiting == 0


def test_nobody_takes_all_the_room(gated: Gated) -> None:
    """Who holds too much is told so at once; others are held as ever."""
    service, greedy, modest = gated.service, gated.caller(sub="greedy"), gated.caller(sub="modest")
    service.forget()
    watch, tried = Watch(gated.gateway), ROOM + 20

    async def main() -> tuple[list[Response], Response]:
        posts = [greedy.calling("held", {"n": number}) for number in range(tried)]
        sent = [asyncio.ensure_future(send_async(gated.gateway.port, post, greedy.token)) for post in posts]
        while service.waiting < ROOM or sum(task.done() for task in sent) < tried - ROOM:
            await asyncio.sleep(0.02)
        other = asyncio.ensure_future(send_async(gated.gateway.port, modest.calling("held", {"n": -1}), modest.token))
        while service.waiting < ROOM + 1:
            await asyncio.sleep(0.02)
        for approval in list(service.approvals):
            service.reject(approval)
        return await asyncio.gather(*sent), await other

    responses, other = asyncio.run(asyncio.wait_for(main(), 60))
    told = Counter("rejected" in understand(response).text for response in (*responses, other))
    assert told == {True: ROOM + 1, False: tried - ROOM} and "rejected" in understand(other).text
    reasons = Counter(record["reason"] for record in watch.records(tried + 1))
    assert reasons == {"approval_rejected": ROOM + 1, "approval_busy": tried - ROOM}

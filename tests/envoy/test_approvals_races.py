"""Two retries of one approved call at the same moment, on two Envoys: one of them runs, out of many races."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from support.approval_service import approves
from support.callers import CONVERSANT, PLAIN, SESSION, WITH_LINKS, Caller, Way, send_async, understand
from support.gated import Gated, NewGated, arguments_of, beside
from support.gateway import Envoy, Gateway
from support.http1 import Response
from support.mini_server import asking
from support.trail import Watch

RACES = 200
#: Races at the same time.
TOGETHER = 20


@dataclass(frozen=True)
class Pair:
    """Two gateways with one policy, one approval service and one server."""

    gated: Gated
    other: Gateway

    @property
    def gateways(self) -> tuple[Gateway, Gateway]:
        return self.gated.gateway, self.other

    def executed(self) -> Counter[int]:
        """How often each number reached the server."""
        return Counter(arguments["n"] for arguments in self.gated.executed())


@pytest.fixture(scope="module")
def shared(start_gated: NewGated, second_envoy: Envoy) -> Pair:
    gated = start_gated()
    second_envoy.put(None, [gated.service.envoy_cluster()])
    return Pair(gated, beside(second_envoy, gated.gateway.policy, gated.issuer, upstream=gated.gateway.upstream))


@pytest.fixture
def pair(shared: Pair) -> Iterator[Pair]:
    shared.gated.service.forget()
    shared.gated.gateway.upstream.forget()
    yield shared
    assert not shared.gated.service.violations


async def race(pair: Pair, callers: list[Caller], number: int, contestants: int = 2) -> list[Response]:
    """One race: asked through one Envoy, approved, and then tried on both at once."""
    caller, arguments, service = callers[number % len(callers)], {"n": number}, pair.gated.service
    token, page = caller.token, caller.page
    first = await send_async(pair.gateways[number % 2].port, caller.calling("gated", arguments), token)
    told = understand(first, page)
    service.approve(told.approval)
    retries = [caller.calling("gated", arguments, **caller.answering(told)) for _ in range(contestants)]
    ports = [pair.gateways[index % 2].port for index in range(contestants)]
    return await asyncio.gather(*(send_async(port, post, token) for port, post in zip(ports, retries, strict=True)))


async def races(pair: Pair, callers: list[Caller], count: int, contestants: int = 2) -> list[list[Response]]:
    """Many of them, some at a time."""
    turn = asyncio.Semaphore(TOGETHER)

    async def one(number: int) -> list[Response]:
        async with turn:
            return await race(pair, callers, number, contestants)

    return await asyncio.wait_for(asyncio.gather(*(one(number) for number in range(count))), 120)


@pytest.mark.parametrize("ways", [(WITH_LINKS,), (PLAIN, SESSION)], ids=["with-states", "without-states"])
def test_of_two_retries_at_once_one_runs(pair: Pair, ways: tuple[Way, ...]) -> None:
    callers = [pair.gated.caller(way) for way in ways]
    watches = [Watch(gateway) for gateway in pair.gateways]
    raced = asyncio.run(races(pair, callers, RACES))
    assert pair.executed() == Counter(range(RACES)), "each once"
    winners = [[understand(response).kind for response in responses].count("result") for responses in raced]
    assert winners == [1] * RACES
    assert pair.gated.service.counts["consumed"] == RACES
    # Every one of them is on record: who won, with the approval, and who lost.
    # Which Envoy had how many is known: one of two first calls, and one of two retries.
    records = [record for watch in watches for record in watch.records(RACES + RACES // 2, seconds=20)]
    granted = [record["approval"]["id"] for record in records if record["verdict"] == "allow"]
    assert len(granted) == len(set(granted)) == RACES
    assert len(records) == 3 * RACES
    reasons = Counter(record["reason"] for record in records if record["verdict"] == "deny")
    assert reasons.keys() <= {"approval_pending", "approval_used"}, reasons


def test_of_many_retries_at_once_one_runs(pair: Pair) -> None:
    """Both workers of one Envoy and the other Envoy."""
    callers = [pair.gated.caller(WITH_LINKS), pair.gated.caller(PLAIN)]
    count = 30
    raced = asyncio.run(races(pair, callers, count, contestants=8))
    assert pair.executed() == Counter(range(count))
    winners = [[understand(response).kind for response in responses].count("result") for responses in raced]
    assert winners == [1] * count


def test_calls_that_are_held_on_two_envoys_when_they_are_approved(pair: Pair) -> None:
    """Both wait for the same approval, which is for one call."""
    caller, service, count = pair.gated.caller(), pair.gated.service, 20

    async def main() -> list[Response]:
        posts = [(gateway, caller.calling("held", {"n": n})) for n in range(count) for gateway in pair.gateways]
        sent = [asyncio.ensure_future(send_async(gateway.port, post, caller.token)) for gateway, post in posts]
        while service.waiting < 2 * count:
            await asyncio.sleep(0.01)
        assert service.approve_all() == count
        # Who comes too late is told so, or waits for another approval, until that is rejected.
        await asyncio.sleep(1)
        for approval in list(service.approvals.values()):
            service.reject(approval.id)
        return await asyncio.gather(*sent)

    told = [understand(response).kind for response in asyncio.run(asyncio.wait_for(main(), 60))]
    assert pair.executed() == Counter(range(count))
    assert [sorted(told[2 * number : 2 * number + 2]) for number in range(count)] == [["result", "tool_error"]] * count


def test_a_continuation_runs_once(pair: Pair) -> None:
    """A server asked for more; two answers to it come at once."""
    caller = pair.gated.caller(CONVERSANT)
    pair.gated.service.script = approves()
    count = 40

    async def one(number: int) -> list[Response]:
        told = understand(await send_async(pair.other.port, caller.calling("held", {"n": number}), caller.token))
        assert told.kind == "input_required" and told.state
        params = {"requestState": told.state, "inputResponses": {"name": {"action": "accept"}}}
        posts = [caller.calling("held", {"n": number}, **params) for _ in pair.gateways]
        pairs = zip(pair.gateways, posts, strict=True)
        return await asyncio.gather(*(send_async(gateway.port, post, caller.token) for gateway, post in pairs))

    async def main() -> list[list[Response]]:
        return await asyncio.gather(*(one(number) for number in range(count)))

    with pair.gated.gateway.upstream.replying(asking("more")):
        raced = asyncio.run(asyncio.wait_for(main(), 60))
    # Once at first, and once with the answer.
    bodies = [json.loads(request.body)["params"] for request in pair.gated.gateway.upstream.requests]
    assert Counter(arguments_of(request.body)["n"] for request in pair.gated.gateway.upstream.requests) == Counter(
        {number: 2 for number in range(count)}
    )
    assert len([params for params in bodies if "inputResponses" in params]) == count
    for responses in raced:
        assert sorted(understand(response).kind for response in responses) == ["input_required", "tool_error"]

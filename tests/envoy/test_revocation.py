"""The kill switch: whoever is cut off stays out, within the stated time, and nobody else is."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from conftest import NewGateway
from support import messages
from support.gateway import Discovered, Document, Envoy, Gateway, plugin_of
from support.http1 import Response
from support.issuer import Issuer
from support.policy import Policy, policy
from support.revocations import RevocationServer

PING = messages.call("ping")
PREFIX = "wasmcustom.toolgate.revocations."

#: How the caller of the tests can be cut off, and what the answer says then.
KINDS: dict[str, tuple[Callable[[Issuer], dict[str, Any]], str | None]] = {
    "subject": (lambda _: {"subjects": [{"subject": "mallory"}]}, "person"),
    "subject-of-issuer": (lambda issuer: {"subjects": [{"issuer": issuer.name, "subject": "mallory"}]}, "person"),
    "client": (lambda _: {"clients": ["rogue-client"]}, "client"),
    "agent": (lambda _: {"agents": ["rogue"]}, "agent"),
    "actor": (lambda _: {"subjects": [{"subject": "inner-bot"}]}, "agent"),
    "token": (lambda _: {"token_ids": ["stolen"]}, None),
}


def rogue(issuer: Issuer) -> str:
    """A token that every kind of entry fits."""
    act = {"sub": "bot", "act": {"sub": "inner-bot"}}
    return issuer.token(sub="mallory", client_id="rogue-client", agent_role="rogue", jti="stolen", act=act)


def bystander(issuer: Issuer) -> str:
    """A token that none fits."""
    return issuer.token(agent_role="good", jti="fine")


def policy_for(issuer: Issuer, revocation: dict[str, Any]) -> Policy:
    agents = {"rogue": {"scopes": ["*"]}, "good": {"scopes": ["*"]}}
    return policy(issuer.document(claims={"agent": ["agent_role"]}), agents=agents, revocation=revocation)


def with_list(start_gateway: NewGateway, issuer: Issuer, server: RevocationServer, **changes: Any) -> Gateway:
    document = policy_for(issuer, server.document(**changes))
    return start_gateway(document, issuer, clusters={server.cluster: server.port})


def assert_cut_off(response: Response, side: str | None) -> None:
    if side is None:
        assert response.status == 401
        assert response.challenge()["error"] == "invalid_token"
        return
    assert response.status == 403
    assert response.error()["data"]["failing_sides"] == [{"side": side, "reason": "revoked"}]
    assert response.header("www-authenticate") is None


def assert_unavailable(response: Response) -> None:
    """503, and when to come back."""
    assert response.status == 503
    assert response.header("retry-after") == "5"
    assert response.header("www-authenticate") is None
    assert response.error()["code"] == -33003


class Traffic:
    """Requests in a loop, with the time and status of each."""

    def __init__(self, gateway: Gateway, token: str) -> None:
        self.seen: list[tuple[float, int]] = []
        self._gateway, self._token = gateway, token
        self._stop = threading.Event()

    @contextmanager
    def flowing(self, threads: int = 2) -> Iterator["Traffic"]:
        with ThreadPoolExecutor(threads) as pool:
            loops = [pool.submit(self._loop) for _ in range(threads)]
            try:
                yield self
            finally:
                self._stop.set()
            for loop in loops:
                loop.result()

    def _loop(self) -> None:
        while not self._stop.is_set():
            start = time.monotonic()
            status = self._gateway.send(PING, self._token).status
            self.seen.append((start, status))
            time.sleep(0.01)

    def statuses(self, since: float = 0, until: float = float("inf")) -> set[int]:
        return {status for at, status in self.seen if since <= at < until}

    def last(self, status: int) -> float:
        return max(at for at, seen in self.seen if seen == status)

    def wait_until(self, settled: Callable[[], bool], seconds: float = 10) -> None:
        deadline = time.monotonic() + seconds
        while not settled():
            assert time.monotonic() < deadline, self.seen[-10:]
            time.sleep(0.02)


# --- Cut off --------------------------------------------------------------------------------------------------------

#: `refresh`, as long again for the fetch, and a second because the clock and the timer count whole seconds.
BOUND = 1 + 1 + 1


def test_the_list_cuts_off_each_kind_within_its_bound_and_nobody_else(start_gateway: NewGateway) -> None:
    issuer, server = Issuer(), RevocationServer()
    gateway = with_list(start_gateway, issuer, server, refresh="1s", max_stale="10s")
    victim = Traffic(gateway, rogue(issuer))
    other = Traffic(gateway, bystander(issuer))
    with victim.flowing(), other.flowing(1):
        for name, (entries, side) in KINDS.items():
            refusal = 403 if side else 401
            revoked = server.publish(**entries(issuer))
            time.sleep(BOUND)
            # The last request that passed began within the bound, on each worker.
            assert victim.last(200) < revoked + BOUND, name
            for _ in range(6):
                assert_cut_off(gateway.send(PING, rogue(issuer)), side)
            assert victim.statuses(revoked) <= {200, refusal}, name
            restored = server.publish()
            time.sleep(BOUND)
            assert {gateway.send(PING, rogue(issuer)).status for _ in range(6)} == {200}, name
            assert victim.statuses(restored) <= {200, refusal}, name
    assert other.statuses() == {200}


def test_a_policy_cuts_off_each_kind_and_nobody_else(start_gateway: NewGateway, envoy: Envoy) -> None:
    issuer, discovered = Issuer(), Discovered(envoy.directory)
    gateway = start_gateway(policy_for(issuer, {}), issuer, adjust=discovered.adjust)
    victim, other = Traffic(gateway, rogue(issuer)), Traffic(gateway, bystander(issuer))
    with victim.flowing(), other.flowing(1):
        for name, (entries, side) in KINDS.items():
            refusal = 403 if side else 401
            for revocation, wanted in ((entries(issuer), refusal), ({}, 200)):
                start = time.monotonic()
                discovered.update(policy_for(issuer, revocation))
                time.sleep(1.5)
                # A policy takes a fraction of a second to arrive, and comes to each worker by itself.
                settled = victim.statuses(start + 1)
                assert settled == {wanted}, (name, settled)
            discovered.update(policy_for(issuer, entries(issuer)))
            time.sleep(1)
            assert_cut_off(gateway.send(PING, rogue(issuer)), side)
    assert other.statuses() == {200}


def test_an_entry_of_another_issuer_is_about_somebody_else(start_gateway: NewGateway) -> None:
    issuer, server = Issuer(), RevocationServer()
    server.publish(subjects=[{"issuer": "https://elsewhere.example", "subject": "mallory"}], clients=["rogue"])
    gateway = with_list(start_gateway, issuer, server)
    assert gateway.send(PING, rogue(issuer)).status == 200


# --- How it is fetched ----------------------------------------------------------------------------------------------


def test_an_unchanged_list_is_not_sent_again_and_one_worker_asks_for_all(
    start_gateway: NewGateway, envoy: Envoy
) -> None:
    issuer, server = Issuer(), RevocationServer()
    server.publish(clients=["someone"], token_ids=["a", "b"])
    before = envoy.counters()
    start = time.monotonic()
    gateway = with_list(start_gateway, issuer, server, refresh="1s", authority="revoked.example")
    assert gateway.send(PING, bystander(issuer)).status == 200
    time.sleep(4.5)
    fetches = list(server.fetches)
    lasted = time.monotonic() - start
    assert {(fetch.target, fetch.authority) for fetch in fetches} == {("/revoked.json", "revoked.example")}
    assert [fetch.status for fetch in fetches] == [200] + [304] * (len(fetches) - 1)
    assert [fetch.if_none_match for fetch in fetches] == [None] + ['"v1"'] * (len(fetches) - 1)
    # Once a second for all workers together.
    assert 4 <= len(fetches) <= lasted + 2
    # The other policies of this Envoy publish theirs under the same name.
    envoy.wait_until("three entries are reported", lambda: envoy.counters()[PREFIX + "entries"] == 3)
    server.publish(clients=["test-client"])
    time.sleep(BOUND)
    after = envoy.counters()
    assert gateway.send(PING, bystander(issuer)).status == 403
    assert after[PREFIX + "not_modified"] - before.get(PREFIX + "not_modified", 0) >= 4
    assert after[PREFIX + "fetch_success"] - before.get(PREFIX + "fetch_success", 0) >= 6
    assert [status for status in server.statuses() if status == 200] == [200, 200]


def test_a_list_without_etag_is_sent_each_time(start_gateway: NewGateway) -> None:
    issuer, server = Issuer(), RevocationServer()
    server.has_etag = False
    gateway = with_list(start_gateway, issuer, server, refresh="1s")
    time.sleep(2.5)
    assert gateway.send(PING, bystander(issuer)).status == 200
    assert set(server.statuses()) == {200}
    assert {fetch.if_none_match for fetch in server.fetches} == {None}


def test_without_a_vm_of_its_own_each_worker_asks_for_itself(start_gateway: NewGateway) -> None:
    issuer, server = Issuer(), RevocationServer()

    def nameless(listener: Document) -> None:
        plugin_of(listener)["vm_config"]["vm_id"] = ""

    document = policy_for(issuer, server.document(refresh="1s"))
    gateway = start_gateway(document, issuer, clusters={server.cluster: server.port}, adjust=nameless)
    assert gateway.send(PING, rogue(issuer)).status == 200
    server.publish(clients=["rogue-client"])
    time.sleep(BOUND)
    assert {gateway.send(PING, rogue(issuer)).status for _ in range(12)} == {403}
    assert server.statuses().count(200) >= 4, "two workers, two versions"


# --- When it cannot be fetched --------------------------------------------------------------------------------------

FAILURES: dict[str, Callable[[RevocationServer], object]] = {
    "refuses-connections": RevocationServer.down,
    "never-answers": lambda server: server.gate.clear(),
    "answers-404": lambda server: server.answer_raw(b'{"subjects":[]}', 404),
    "answers-500": lambda server: server.answer_raw(b'{"subjects":[]}', 500),
    "redirects": lambda server: server.answer_raw(b"", 302),
    "malformed": lambda server: server.answer_raw(b'{"subjects":['),
    "empty": lambda server: server.answer_raw(b""),
    "an-array": lambda server: server.answer_raw(b'[[],[],[],[]]'),
    "an-empty-object": lambda server: server.answer_raw(b"{}"),
    "a-web-page": lambda server: server.answer_raw(b"<html>"),
    "not-utf-8": lambda server: server.answer_raw(b'{"clients":["\xff"]}'),
    "duplicate-members": lambda server: server.answer_raw(b'{"clients":["rogue-client"],"clients":[]}'),
    "unknown-members": lambda server: server.answer_raw(b'{"clients":[],"users":[]}'),
    "wrong-types": lambda server: server.answer_raw(b'{"clients":"none"}'),
    "huge": lambda server: server.answer_raw(b'{"clients":[]}' + b" " * 1_100_000),
    "very-huge": lambda server: server.answer_raw(b'{"clients":[]}' + b" " * 40_000_000),
    "nesting-bomb": lambda server: server.answer_raw(b'{"clients":' + b"[" * 100_000),
}


def test_the_last_good_list_stays_in_force_then_nobody_gets_in_until_there_is_another(
    start_gateway: NewGateway, envoy: Envoy
) -> None:
    issuer = Issuer()
    servers = {name: RevocationServer() for name in FAILURES}
    gateways = {}
    for name, server in servers.items():
        server.publish(clients=["rogue-client"])
        gateways[name] = with_list(start_gateway, issuer, server, refresh="2s", max_stale="8s")
        assert gateways[name].send(PING, bystander(issuer)).status == 200, name
    for name, server in servers.items():
        FAILURES[name](server)
    broken = time.monotonic()
    time.sleep(3)
    for name, gateway in gateways.items():
        assert gateway.send(PING, bystander(issuer)).status == 200, name
        assert_cut_off(gateway.send(PING, rogue(issuer)), "client")
    assert time.monotonic() < broken + 6, "too slow to tell"
    time.sleep(broken + 9.5 - time.monotonic())
    with gateway.deciding() as decided:
        for gateway in gateways.values():
            # A bad token is refused for what it is, and no list is needed for that.
            assert gateway.send(PING, "a.b.c").status == 401
            assert_unavailable(gateway.send(PING, bystander(issuer)))
            assert_unavailable(gateway.send(PING, rogue(issuer)))
    assert decided["deny.revocations_unavailable"] == 2 * len(gateways)
    assert "no list of revocations that is young enough" in envoy.log
    for server in servers.values():
        server.recover()
    time.sleep(2 + 2 + 1)
    for name, gateway in gateways.items():
        assert {gateway.send(PING, bystander(issuer)).status for _ in range(4)} == {200}, name
        assert_cut_off(gateway.send(PING, rogue(issuer)), "client")
    assert envoy.counters()[PREFIX + "fetch_failure"] >= 2 * len(gateways)


def test_what_comes_before_the_first_list_waits_for_it(start_gateway: NewGateway) -> None:
    issuer, server = Issuer(), RevocationServer()
    server.publish(clients=["rogue-client"])
    server.gate.clear()
    gateway = with_list(start_gateway, issuer, server)
    with ThreadPoolExecutor(6) as pool:
        waiting = [pool.submit(gateway.send, PING, bystander(issuer)) for _ in range(3)]
        waiting += [pool.submit(gateway.send2, PING, bystander(issuer), PING.body, trailers=[("x-a", "1")])]
        cut_off = pool.submit(gateway.send, PING, rogue(issuer))
        assert gateway.upstream.saw_nothing(seconds=0.5)
        server.gate.set()
        assert [future.result().status for future in waiting] == [200] * 4
        assert_cut_off(cut_off.result(), "client")
    assert [request.body for request in gateway.upstream.requests] == [PING.body] * 4


def test_without_a_first_list_nobody_gets_in(start_gateway: NewGateway) -> None:
    issuer, server = Issuer(), RevocationServer(listen=False)
    gateway = with_list(start_gateway, issuer, server, refresh="1s")
    start = time.monotonic()
    assert_unavailable(gateway.send(PING, bystander(issuer)))
    server.up()
    server.gate.clear()
    # A server that never answers is given up.
    assert_unavailable(gateway.send(PING, bystander(issuer)))
    assert time.monotonic() - start < 8
    assert gateway.upstream.saw_nothing()
    server.gate.set()
    time.sleep(BOUND)
    assert gateway.send(PING, bystander(issuer)).status == 200


# --- Policy reload --------------------------------------------------------------------------------------------------


def test_a_new_policy_refuses_nobody_and_needs_no_new_list(start_gateway: NewGateway, envoy: Envoy) -> None:
    issuer, server, discovered = Issuer(), RevocationServer(), Discovered(envoy.directory)
    server.publish(clients=["rogue-client"])

    def numbered(number: int) -> Policy:
        return policy_for(issuer, server.document(refresh="60s") | {"token_ids": [f"unused-{number}"]})

    gateway = start_gateway(
        numbered(0), issuer, clusters={server.cluster: server.port}, adjust=discovered.adjust
    )
    assert {gateway.send(PING, bystander(issuer)).status for _ in range(8)} == {200}
    fetches = len(server.fetches)
    # From now on a fetch would not be answered.
    server.gate.clear()
    victim, other = Traffic(gateway, rogue(issuer)), Traffic(gateway, bystander(issuer))
    with victim.flowing(2), other.flowing(2):
        for number in range(1, 9):
            discovered.update(numbered(number))
            time.sleep(0.5)
    # Keys are fetched anew with each policy; those requests wait, and pass.
    assert other.statuses() == {200} and len(other.seen) > 50
    assert victim.statuses() == {403}
    assert len(server.fetches) == fetches
    server.gate.set()


def test_a_new_listener_refuses_nobody(start_gateway: NewGateway) -> None:
    issuer, server = Issuer(), RevocationServer()
    server.publish(clients=["rogue-client"])
    gateway = with_list(start_gateway, issuer, server, refresh="1s", max_stale="3s")
    victim, other = Traffic(gateway, rogue(issuer)), Traffic(gateway, bystander(issuer))
    with victim.flowing(2), other.flowing(2):
        for number in range(1, 5):
            gateway.load(policy_for(issuer, server.document(refresh="1s", max_stale="3s") | {"token_ids": [str(number)]}))
            time.sleep(1)
    assert other.statuses() == {200} and victim.statuses() == {403}


def test_a_request_that_waits_when_a_new_policy_comes_is_answered_all_the_same(
    start_gateway: NewGateway, envoy: Envoy
) -> None:
    issuer, server, discovered = Issuer(), RevocationServer(), Discovered(envoy.directory)
    server.gate.clear()
    document = policy_for(issuer, server.document())
    gateway = start_gateway(document, issuer, clusters={server.cluster: server.port}, adjust=discovered.adjust)
    with ThreadPoolExecutor(6) as pool:
        waiting = [pool.submit(gateway.send, PING, bystander(issuer)) for _ in range(6)]
        assert gateway.upstream.saw_nothing(seconds=0.5)
        discovered.update(document | {"refused_scopes": ["another"]})
        time.sleep(1)
        server.gate.set()
        start = time.monotonic()
        assert {future.result().status for future in waiting} == {200}
        assert time.monotonic() - start < 7
    assert gateway.send(PING, bystander(issuer)).status == 200

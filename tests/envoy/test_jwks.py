"""Issuers' keys: fetched once for all workers, rotated without a gap, and never an excuse to let somebody in."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from conftest import NewGateway
from support import http1, http2, messages
from support.gateway import Envoy, Gateway, bearer
from support.http1 import Response, head
from support.issuer import Issuer
from support.jose import Key, pooled
from support.policy import policy

PING = messages.call("ping")
Break = Callable[[Issuer], object]


def gateway_for(start_gateway: NewGateway, issuer: Issuer, **jwks: Any) -> Gateway:
    return start_gateway(policy(issuer.document(jwks=jwks)), issuer)


def settled(issuer: Issuer, count: int) -> None:
    """Waits for that many fetches, and for those that should not follow."""
    issuer.wait_for_fetches(count)
    time.sleep(0.3)
    assert len(issuer.fetches) == count


def assert_no_keys(response: Response) -> None:
    """503, and when to come back: the token may be perfectly good."""
    assert response.status == 503
    assert response.header("retry-after") == "5"
    assert response.header("www-authenticate") is None
    assert response.error()["code"] == -33003


# --- When all is well -------------------------------------------------------------------------------------------------


def test_one_worker_fetches_for_all_before_any_request_comes(start_gateway: NewGateway) -> None:
    issuer = Issuer()
    gateway = gateway_for(start_gateway, issuer, path="/some/jwks?a=b")
    settled(issuer, 1)
    assert issuer.fetches == [("/some/jwks?a=b", f"127.0.0.1:{issuer.port}")]
    for _ in range(20):
        assert gateway.send(PING, issuer.token()).status == 200
    settled(issuer, 1)


def test_the_fetch_names_the_host_that_the_policy_names(start_gateway: NewGateway) -> None:
    issuer = Issuer()
    gateway_for(start_gateway, issuer, authority="idp.norg.example")
    issuer.wait_for_fetches(1)
    assert issuer.fetches[0] == ("/jwks", "idp.norg.example")


def test_keys_in_the_policy_need_no_fetch(start_gateway: NewGateway) -> None:
    issuer = Issuer()
    document = issuer.document() | {"jwks": {"inline": {"keys": [issuer.keys[0].jwk()]}}}
    gateway = start_gateway(policy(document), issuer)
    assert gateway.send(PING, issuer.token()).status == 200
    assert gateway.send(PING, issuer.token(key=Key.generate("ES256", "unknown"))).status == 401
    assert issuer.fetches == []


def test_keys_of_no_use_are_passed_over(start_gateway: NewGateway) -> None:
    issuer = Issuer()
    good = issuer.keys[0].jwk()
    useless: list[Any] = [
        {"kty": "oct", "kid": "secret", "k": "c2VjcmV0", "alg": "HS256"},
        {"kty": "unheard-of", "kid": "new"},
        good | {"kid": "for-encryption", "use": "enc"},
        good | {"kid": "off-the-curve", "x": good["y"]},
        pooled("RS256").jwk() | {"kid": "too-short", "n": "AQAB"},
        {},
    ]
    issuer.publish_raw(json.dumps({"keys": [*useless, good], "extra": 1}).encode())
    gateway = gateway_for(start_gateway, issuer)
    assert gateway.send(PING, issuer.token()).status == 200
    for kid in ("secret", "for-encryption", "off-the-curve"):
        assert gateway.send(PING, issuer.token(header={"kid": kid})).status == 401, kid


def test_a_token_without_kid_is_accepted_only_where_there_is_no_choice(start_gateway: NewGateway) -> None:
    alone, among_two = Issuer(), Issuer()
    among_two.keys.append(Key.generate("ES256", "second"))
    gateway = start_gateway(policy(alone, among_two), alone, among_two)
    assert gateway.send(PING, alone.token(header={"kid": None})).status == 200
    assert gateway.send(PING, among_two.token(header={"kid": None})).status == 401
    assert gateway.send(PING, among_two.token()).status == 200


# --- Rotation ---------------------------------------------------------------------------------------------------------


def test_a_token_of_a_new_key_waits_for_one_fetch_and_passes(start_gateway: NewGateway) -> None:
    issuer = Issuer()
    gateway = gateway_for(start_gateway, issuer)
    old = issuer.token()
    assert gateway.send(PING, old).status == 200
    settled(issuer, 1)
    # The time of a fetch is kept in seconds, and this one must be the newer one.
    time.sleep(1)
    issuer.rotate()
    new = issuer.token()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: gateway.send(PING, new).status, range(16)))
    assert answers == [200] * 16
    settled(issuer, 2)
    # The old key is gone, and what it signed with it, on each worker.
    assert {gateway.send(PING, old).status for _ in range(10)} == {401}
    settled(issuer, 2)


def test_a_flood_of_unknown_keys_causes_one_fetch_and_hurts_nobody_else(start_gateway: NewGateway) -> None:
    issuer = Issuer()
    gateway = gateway_for(start_gateway, issuer)
    good = issuer.token()
    assert gateway.send(PING, good).status == 200
    settled(issuer, 1)
    strangers = [Key.generate("ES256", f"stranger-{n}") for n in range(4)]
    forged = [issuer.token(key=strangers[n % 4], header={"kid": f"made-up-{n}"}) for n in range(150)]
    with ThreadPoolExecutor(16) as pool:
        refused = pool.map(lambda token: gateway.send(PING, token).status, forged)
        passed = pool.map(lambda _: gateway.send(PING, good).status, range(50))
        assert set(passed) == {200}
        assert set(refused) == {401}
    settled(issuer, 2)


# --- Outages ----------------------------------------------------------------------------------------------------------

FAILURES: dict[str, Break] = {
    "refuses-connections": Issuer.down,
    "answers-500": lambda issuer: issuer.publish_raw(b"{}", 500),
    "answers-404-with-keys": lambda issuer: issuer.publish_raw(issuer.publish()[1], 404),
    "redirects": lambda issuer: issuer.publish_raw(b"", 302),
    "malformed": lambda issuer: issuer.publish_raw(b'{"keys":['),
    "not-utf-8": lambda issuer: issuer.publish_raw(b'{"keys":["\xff"]}'),
    "duplicate-members": lambda issuer: issuer.publish_raw(b'{"keys":[],"keys":[' + issuer.publish()[1][10:]),
    "no-member-keys": lambda issuer: issuer.publish_raw(b"{}"),
    "a-web-page": lambda issuer: issuer.publish_raw(b"<html>"),
    "empty": lambda issuer: issuer.publish_raw(b""),
    "no-keys": lambda issuer: issuer.publish_raw(b'{"keys":[]}'),
    "huge": lambda issuer: issuer.publish_raw(issuer.publish()[1] + b" " * 300_000),
    "very-huge": lambda issuer: issuer.publish_raw(issuer.publish()[1] + b" " * 40_000_000),
    "nesting-bomb": lambda issuer: issuer.publish_raw(b'{"keys":' + b"[" * 100_000),
}


def test_without_keys_nobody_gets_in_until_they_are_there(start_gateway: NewGateway) -> None:
    """From the start, and in every way an issuer can fail."""
    issuers = {name: Issuer() for name in FAILURES}
    for name, issuer in issuers.items():
        FAILURES[name](issuer)
    gateway = start_gateway(policy(*issuers.values()), *issuers.values())
    assert gateway.send(PING).status == 401
    for issuer in issuers.values():
        assert_no_keys(gateway.send(PING, issuer.token()))
    assert gateway.upstream.saw_nothing()
    for issuer in issuers.values():
        issuer.behaviour = issuer.publish
    issuers["refuses-connections"].up()
    # An issuer that comes back is found when the wait between two attempts is over, which grows with their number.
    for name, issuer in issuers.items():
        deadline = time.monotonic() + 15
        while (status := gateway.send(PING, issuer.token()).status) == 503 and time.monotonic() < deadline:
            time.sleep(0.2)
        assert status == 200, name


def test_the_last_good_keys_serve_through_an_outage_but_not_for_ever(start_gateway: NewGateway, envoy: Envoy) -> None:
    failures = "wasmcustom.toolgate.jwks.fetch_failure"
    before = envoy.counters().get(failures, 0)
    issuers = {name: Issuer() for name in (*FAILURES, "stale")}
    documents = [issuer.document(jwks={"refresh": "10s"}) for issuer in issuers.values()]
    documents[-1]["jwks"]["max_stale"] = "10s"
    gateway = start_gateway(policy(*documents), *issuers.values())
    for name, issuer in issuers.items():
        assert gateway.send(PING, issuer.token()).status == 200
        FAILURES.get(name, Issuer.down)(issuer)
    time.sleep(11)
    envoy.wait_until("each fetched in vain", lambda: envoy.counters()[failures] - before >= len(issuers))
    for name, issuer in issuers.items():
        response = gateway.send(PING, issuer.token(jti="a token that no worker remembers"))
        if name == "stale":
            assert_no_keys(response)
        else:
            assert response.status == 200, name


def test_a_slow_key_set_holds_requests_and_then_lets_them_pass(start_gateway: NewGateway) -> None:
    issuer = Issuer()
    issuer.gate.clear()
    gateway = gateway_for(start_gateway, issuer)
    with ThreadPoolExecutor(6) as pool:
        waiting = [pool.submit(gateway.send, PING, issuer.token()) for _ in range(3)]
        waiting += [pool.submit(gateway.send2, PING, issuer.token(), PING.body, trailers=[("x-a", "1")])]
        denied = pool.submit(gateway.send, messages.call("unheard_of"), issuer.token())
        forged = pool.submit(gateway.send, PING, issuer.token(key=Key.generate("ES256", "stranger")))
        assert gateway.upstream.saw_nothing(seconds=0.5)
        issuer.gate.set()
        assert [future.result().status for future in waiting] == [200] * 4
        assert (denied.result().status, forged.result().status) == (403, 401)
    assert [request.body for request in gateway.upstream.requests] == [PING.body] * 4


@pytest.mark.parametrize("keys_come_first", [True, False], ids=["keys-before-body", "body-before-keys"])
def test_keys_and_body_may_come_in_any_order(start_gateway: NewGateway, keys_come_first: bool) -> None:
    issuer = Issuer()
    issuer.gate.clear()
    gateway = gateway_for(start_gateway, issuer)
    with http1.Connection(gateway.port) as one, http2.Connection(gateway.port) as two:
        headers = [*bearer(issuer.token()), *PING.list()]
        length = ("Content-Length", str(len(PING.body)))
        one.send(head("POST", "/mcp", [("Host", f"127.0.0.1:{gateway.port}"), *headers, length]) + PING.body[:20])
        stream = two.start("POST", "/mcp", headers)
        two.data(stream, PING.body[:20])
        if keys_come_first:
            issuer.gate.set()
            assert gateway.upstream.saw_nothing(seconds=0.4)
        one.send(PING.body[20:])
        two.data(stream, PING.body[20:], end=True)
        if not keys_come_first:
            assert gateway.upstream.saw_nothing(seconds=0.2)
            issuer.gate.set()
        assert one.response().status == 200
        assert two.response(stream).status == 200
    assert [request.body for request in gateway.upstream.requests] == [PING.body] * 2


def test_a_key_set_that_never_comes_is_given_up(start_gateway: NewGateway) -> None:
    issuer = Issuer()
    issuer.gate.clear()
    gateway = gateway_for(start_gateway, issuer)
    start = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        for response in pool.map(lambda _: gateway.send(PING, issuer.token()), range(4)):
            assert_no_keys(response)
    # The fetch is given up after 5 seconds, and so is the wait for it.
    assert time.monotonic() - start < 8
    assert gateway.upstream.saw_nothing()
    issuer.gate.set()


def test_one_issuer_out_of_service_does_not_stop_the_other(start_gateway: NewGateway) -> None:
    dead, alive = Issuer(), Issuer()
    dead.down()
    gateway = start_gateway(policy(dead, alive), dead, alive)
    assert gateway.send(PING, alive.token()).status == 200
    assert_no_keys(gateway.send(PING, dead.token()))

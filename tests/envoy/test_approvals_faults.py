"""Approval services that fail, lie or are silent: nothing goes on, and each way to fail has its own reason."""

import base64
import json
import socket
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from stack import LOOPBACK

from support import http1
from support.approval_service import (
    ApprovalService,
    Draft,
    Fault,
    altered,
    approves,
    closes_in_the_middle,
    drips,
    loses_the_answer,
    never_answers,
    rejects,
    resets,
    resets_in_the_middle,
    says,
    slow,
)
from support.callers import PLAIN, WITH_LINKS, Told, Way
from support.gated import Gated, NewGated
from support.gateway import Envoy, bearer
from support.jose import Key, base64url, compact, hmac_signed, pooled
from support.trail import Watch

#: Codes between which it does not matter.
UNREACHABLE = {"approval_unreachable"}
MALFORMED = {"approval_malformed"}


@pytest.fixture(scope="module")
def shared(start_gated: NewGated, second_envoy: Envoy) -> Gated:
    """On one worker: failures count for each worker by itself, and none is to see many in a row."""
    return start_gated(on=second_envoy)


@pytest.fixture
def gated(shared: Gated) -> Iterator[Gated]:
    shared.gateway.upstream.forget()
    shared.service.forget()
    yield shared
    assert not shared.service.violations


def assert_denied(gated: Gated, reasons: set[str], call: Callable[[], Told], *, within: float = 10) -> Told:
    """A call is refused for one of these reasons, in the answer, in the counters and on record."""
    watch, upstream = Watch(gated.gateway), gated.gateway.upstream
    before, start = len(upstream.raw), time.monotonic()
    with gated.gateway.deciding() as decided, gated.counting() as counted:
        told = call()
    assert time.monotonic() - start < within
    assert told.kind == "tool_error", told
    assert upstream.saw_nothing() or len(upstream.raw) == before
    record = watch.one()
    assert record["verdict"] == "deny" and record["reason"] in reasons, record
    assert decided == {f"deny.{record['reason']}": 1}
    assert counted[record["reason"].removeprefix("approval_")] == 1 and counted["granted"] == 0, counted
    assert record["id"] == told.decision
    assert record["http"]["details"] == record["reason"]
    assert record["approval"]["status"] != "approved"
    return told


# --- Decisions --------------------------------------------------------------------------------------------------------

#: A key that nobody pinned.
STRANGER = Key.generate("EdDSA", "stranger")


def unsigned(draft: Draft) -> str:
    """`alg: none`, the oldest one."""
    return compact(draft.header | {"alg": "none"}, draft.claims, None)


def with_public_key_as_secret(draft: Draft) -> str:
    """HS256, with the pinned key as the secret."""
    secret = base64.urlsafe_b64decode(draft.key.jwk()["x"] + "=")
    return hmac_signed(draft.header | {"alg": "HS256"}, draft.claims, secret)


def changed_later(draft: Draft) -> str:
    """Signed, and then another claim put in."""
    head, _, signature = draft.signed(approvers=[]).split(".")
    return f"{head}.{base64url(json.dumps(draft.claims).encode())}.{signature}"


def now(seconds: int = 0) -> int:
    return int(time.time()) + seconds


def person(subject: Any = "bob", **changes: Any) -> dict[str, Any]:
    return {"iss": "https://people.norg.example", "sub": subject, "roles": ["automation_admin"], "at": now()} | changes


#: Grants that are no good, and what they are refused for.
GRANTS: dict[str, tuple[Callable[[Draft], Any], set[str]]] = {
    "of-another-key": (lambda draft: draft.signed(Key("eddsa-100", "EdDSA", STRANGER.private)), {"approval_signature"}),
    "changed-later": (changed_later, {"approval_signature"}),
    "cut-off": (lambda draft: draft.signed()[:-4], {"approval_signature", "approval_unsigned", *MALFORMED}),
    "unsigned": (unsigned, {"approval_unsigned"}),
    "without-signature": (
        lambda draft: draft.signed().rsplit(".", 1)[0] + ".",
        {"approval_unsigned", "approval_signature"},
    ),
    "plain-json": (lambda draft: json.dumps(draft.claims), {"approval_unsigned", *MALFORMED}),
    "an-object": (lambda draft: draft.claims, {"approval_unsigned", *MALFORMED}),
    "null": (lambda _: None, {"approval_unsigned", *MALFORMED}),
    "empty": (lambda _: "", {"approval_unsigned", *MALFORMED}),
    "with-the-public-key-as-secret": (with_public_key_as_secret, {"approval_unsigned", "approval_signature"}),
    "unknown-kid": (lambda draft: draft.signed(header={"kid": "a2"}), {"approval_key_unknown"}),
    "without-kid": (lambda draft: draft.signed(header={"kid": None}), {"approval_key_unknown", "approval_unsigned"}),
    "with-a-key-of-its-own": (
        lambda draft: draft.signed(STRANGER, header={"kid": "stranger", "jwk": STRANGER.jwk()}),
        {"approval_key_unknown", "approval_unsigned", *MALFORMED},
    ),
    "of-another-algorithm": (
        lambda draft: draft.signed(pooled("ES256"), header={"alg": "ES256"}),
        {"approval_signature", "approval_unsigned"},
    ),
    "an-access-token": (lambda draft: draft.signed(header={"typ": "at+jwt"}), {"approval_unsigned", *MALFORMED}),
    "without-typ": (lambda draft: draft.signed(header={"typ": None}), {"approval_unsigned", *MALFORMED}),
    "critical-header": (
        lambda draft: draft.signed(header={"crit": ["x"], "x": 1}),
        {"approval_unsigned", "approval_signature", *MALFORMED},
    ),
    "other-issuer": (lambda draft: draft.signed(iss="https://elsewhere.example"), {"approval_issuer"}),
    "issuer-with-slash": (lambda draft: draft.signed(iss=draft.claims["iss"] + "/"), {"approval_issuer"}),
    "without-issuer": (lambda draft: draft.signed(iss=None), {"approval_issuer", *MALFORMED}),
    "other-audience": (lambda draft: draft.signed(aud="https://other.example/mcp"), {"approval_audience"}),
    "list-of-audiences": (
        lambda draft: draft.signed(aud=[draft.claims["aud"], "https://other.example"]),
        {"approval_audience", *MALFORMED},
    ),
    "without-audience": (lambda draft: draft.signed(aud=None), {"approval_audience", *MALFORMED}),
    "expired": (lambda draft: draft.signed(iat=now(-200), exp=now(-100)), {"approval_stale"}),
    "of-the-future": (lambda draft: draft.signed(iat=now(100), exp=now(160)), {"approval_stale"}),
    "without-end": (lambda draft: draft.signed(exp=None), {"approval_stale", *MALFORMED}),
    "without-beginning": (lambda draft: draft.signed(iat=None), {"approval_stale", *MALFORMED}),
    "end-as-text": (lambda draft: draft.signed(exp=str(now(60))), {"approval_stale", *MALFORMED}),
    "other-approval": (lambda draft: draft.signed(approval_id="x" * 24), {"approval_mismatch"}),
    "other-call": (lambda draft: draft.signed(binding="0" * 64), {"approval_mismatch"}),
    "other-policy": (lambda draft: draft.signed(policy="0" * 64), {"approval_mismatch"}),
    "without-call": (lambda draft: draft.signed(binding=None), {"approval_mismatch", *MALFORMED}),
    "without-policy": (lambda draft: draft.signed(policy=None), {"approval_mismatch", *MALFORMED}),
    "other-nonce": (lambda draft: draft.signed(nonce="0" * 32), {"approval_replayed"}),
    "without-nonce": (lambda draft: draft.signed(nonce=None), {"approval_replayed", *MALFORMED}),
    "other-step": (lambda draft: draft.signed(step=1), {"approval_replayed"}),
    "without-step": (lambda draft: draft.signed(step=None), {"approval_replayed", *MALFORMED}),
    "rejected": (lambda draft: draft.signed(status="rejected"), {"approval_mismatch", "approval_rejected"}),
    "pending": (lambda draft: draft.signed(status="pending"), {"approval_mismatch", *MALFORMED}),
    "of-a-status-to-come": (lambda draft: draft.signed(status="Approved"), {"approval_mismatch", *MALFORMED}),
    "without-status": (lambda draft: draft.signed(status=None), {"approval_mismatch", *MALFORMED}),
    "by-the-requester": (lambda draft: draft.signed(approvers=[person("alice")]), {"approval_self"}),
    "by-the-requester-among-others": (
        lambda draft: draft.signed(approvers=[person("bob"), person("alice")]),
        {"approval_self"},
    ),
    "by-nobody": (lambda draft: draft.signed(approvers=[]), {"approval_mismatch", "approval_self", *MALFORMED}),
    "without-approvers": (
        lambda draft: draft.signed(approvers=None),
        {"approval_mismatch", "approval_self", *MALFORMED},
    ),
    "by-somebody-without-the-role": (
        lambda draft: draft.signed(approvers=[person(roles=["reader"])]),
        {"approval_unentitled"},
    ),
    "by-somebody-without-any-role": (lambda draft: draft.signed(approvers=[person(roles=[])]), MALFORMED),
    "by-somebody-without-name": (lambda draft: draft.signed(approvers=[{"iss": "x"}]), MALFORMED),
    "by-a-number": (lambda draft: draft.signed(approvers=[person(7)]), MALFORMED),
}


@pytest.mark.parametrize("name", GRANTS)
def test_a_grant_that_is_no_good(gated: Gated, name: str) -> None:
    forge, reasons = GRANTS[name]
    gated.service.script = approves()
    gated.service.forge = forge
    caller, arguments = gated.caller(), {"n": name}
    assert_denied(gated, reasons, lambda: caller.call("held", arguments))
    assert gated.service.counts["consume"] >= 1, "it was about to be granted"
    # Nothing is kept of it: what is approved once more by a service that is well goes on.
    gated.service.forge = None
    told = caller.call("held", arguments)
    assert told.kind == "result" and gated.executed() == [arguments]


#: The same for what is not approved. It is denied anyway; but nobody may be told that a person said no.
ENDS = {
    name: GRANTS[name]
    for name in (
        *("of-another-key", "changed-later", "unsigned", "null", "unknown-kid", "other-issuer", "other-audience"),
        *("expired", "other-approval", "other-call", "other-policy", "of-a-status-to-come"),
    )
}


@pytest.mark.parametrize("name", ENDS)
def test_a_rejection_that_is_no_good(gated: Gated, name: str) -> None:
    forge, reasons = ENDS[name]
    gated.service.script = rejects("because")
    gated.service.forge = forge
    told = assert_denied(gated, reasons, lambda: gated.caller().call("held", {"n": name}))
    assert "because" not in told.text


def test_a_grant_that_was_good_before_is_good_for_nothing_else(gated: Gated) -> None:
    grants: list[str] = []

    def record(draft: Draft) -> str:
        grants.append(draft.signed())
        return grants[-1]

    gated.service.script = approves()
    gated.service.forge = record
    caller = gated.caller()
    assert caller.call("held", {"n": 1}).kind == "result"
    gated.service.forge = lambda _: grants[0]
    # For another call, and once more for the same.
    for number, reasons in (
        (2, {"approval_mismatch", "approval_replayed"}),
        (1, {"approval_mismatch", "approval_replayed"}),
    ):
        assert_denied(gated, reasons, lambda number=number: caller.call("held", {"n": number}))  # type: ignore[misc]
    assert gated.executed() == [{"n": 1}]


def test_a_grant_of_fewer_than_the_policy_asks_for(start_gated: NewGated) -> None:
    gate = {"count": 2, "hold": "1s"}
    gated = start_gated(policy={"rules": [{"tools": ["twice"], "scopes": [], "approval": gate}]})
    caller, approvers = gated.caller(), [person("bob")]
    gated.service.script = approves()
    gated.service.forge = lambda draft: draft.signed(approvers=approvers)
    # Nobody is there twice in a grant that is well-formed.
    for others, reason in (
        ([], "approval_unentitled"),
        ([person("bob")], "approval_malformed"),
        ([person("carol", roles=["reader"])], "approval_unentitled"),
    ):
        approvers[1:] = others
        assert_denied(gated, {reason}, lambda: caller.call("twice", {"n": 1}))
    approvers[1:] = [person("carol")]
    assert caller.call("twice", {"n": 1}).kind == "result"


def test_a_rejection_is_no_grant_and_a_state_is_no_grant(gated: Gated) -> None:
    """What the service says by the way is not proven, so it does not count."""
    caller = gated.caller()
    said = altered(lambda answer: answer | {"state": "approved"})
    with gated.service.failing("create", said):
        assert_denied(
            gated, {"approval_pending", "approval_error", "approval_mismatch"}, lambda: caller.call("briefly", {"n": 3})
        )
    gated.service.script = rejects()
    with gated.service.failing("create", said):
        assert_denied(gated, {"approval_rejected", "approval_error"}, lambda: caller.call("briefly", {"n": 4}))


# --- Answers ----------------------------------------------------------------------------------------------------------


def without(name: str) -> Fault:
    return altered(lambda answer: {key: value for key, value in answer.items() if key != name})


def setting(**members: Any) -> Fault:
    return altered(lambda answer: answer | members)


def twice(name: str, value: Any) -> Fault:
    return altered(lambda answer: json.dumps(answer)[:-1].encode() + f', "{name}": {json.dumps(value)}}}'.encode())


#: Answers to the creation that are none.
ANSWERS: dict[str, tuple[Fault, set[str]]] = {
    "no-json": (says(200, "approved"), MALFORMED),
    "half-json": (says(200, '{"id":"'), MALFORMED),
    "empty": (says(200, b""), MALFORMED),
    "an-array": (says(200, "[]"), MALFORMED),
    "null": (says(200, "null"), MALFORMED),
    "true": (says(200, "true"), MALFORMED),
    "an-empty-object": (says(200, "{}"), MALFORMED),
    "a-web-page": (says(200, "<html>approved</html>", "text/html"), MALFORMED),
    "not-utf-8": (
        altered(lambda answer: json.dumps(answer).encode().replace(b'"state": "', b'"state": "\xff')),
        MALFORMED,
    ),
    "nesting-bomb": (says(200, b'{"id":' + b"[" * 20_000), MALFORMED),
    "state-of-the-future": (setting(state="granted"), MALFORMED),
    "state-of-another-type": (setting(state=True), MALFORMED),
    "without-state": (without("state"), MALFORMED),
    "state-twice": (twice("state", "approved"), MALFORMED),
    "without-id": (without("id"), MALFORMED),
    "id-that-is-a-path": (setting(id="../../v1/approvals/x?y=z#aaaaaaaaa"), MALFORMED),
    "id-with-a-line": (setting(id="a" * 22 + "\r\nX-Evil: 1"), MALFORMED),
    "id-that-is-empty": (setting(id=""), MALFORMED),
    "id-that-is-long": (setting(id="a" * 5000), MALFORMED),
    "id-that-is-a-number": (setting(id=12345678901234567890123), MALFORMED),
    "without-binding": (without("binding"), {"approval_mismatch", *MALFORMED}),
    "other-binding": (setting(binding="0" * 64), {"approval_mismatch"}),
    "time-as-text": (setting(expires_at="tomorrow"), MALFORMED),
    "rejected-without-decision": (setting(state="rejected"), {"approval_unsigned", *MALFORMED}),
    "large": (altered(lambda answer: answer | {"x": "x" * 300_000}), {"approval_oversized"}),
    "larger-with-blanks": (
        altered(lambda answer: json.dumps(answer).encode() + b" " * 2_000_000),
        {"approval_oversized"},
    ),
    "400": (says(400, '{"code":"malformed"}', "application/problem+json"), {"approval_error"}),
    "401": (says(401, '{"code":"credential"}', "application/problem+json"), {"approval_error"}),
    "403": (says(403, '{"code":"audience"}', "application/problem+json"), {"approval_error"}),
    "404": (says(404, "{}"), {"approval_error", "approval_state_invalid"}),
    "204": (says(204, b""), {"approval_error"}),
    "redirect": (says(302, b"", location="/v1/approvals/x"), {"approval_error"}),
    "429": (says(429, "{}"), {"approval_error"}),
    "500": (says(500, "{}"), {"approval_error"}),
    "503": (says(503, "{}"), {"approval_error", *UNREACHABLE}),
    "504": (says(504, "{}"), {"approval_error", "approval_timeout"}),
}

#: Answers to the consumption that are none, beside those above that fit.
REFUSALS: dict[str, tuple[Fault, set[str]]] = {
    **{
        name: ANSWERS[name]
        for name in (
            *("no-json", "empty", "an-array", "an-empty-object", "nesting-bomb", "large"),
            *("400", "401", "404", "204", "redirect", "429", "500", "503"),
        )
    },
    "without-grant": (without("grant"), {"approval_unsigned", *MALFORMED}),
    "used": (says(409, '{"code":"used"}', "application/problem+json"), {"approval_used"}),
    "rejected": (says(410, '{"code":"rejected"}', "application/problem+json"), {"approval_rejected", "approval_error"}),
    "expired": (says(410, '{"code":"expired"}', "application/problem+json"), {"approval_expired", "approval_error"}),
    "cancelled": (
        says(410, '{"code":"cancelled"}', "application/problem+json"),
        {"approval_cancelled", "approval_error"},
    ),
    "not-approved": (
        says(409, '{"code":"not_approved"}', "application/problem+json"),
        {"approval_pending", "approval_error"},
    ),
    "of-a-code-to-come": (says(409, '{"code":"all_right"}', "application/problem+json"), {"approval_error"}),
}

#: What breaks on the way, for creation and consumption alike.
BROKEN: dict[str, tuple[Fault, set[str]]] = {
    "resets": (resets, UNREACHABLE),
    "resets-in-the-middle": (resets_in_the_middle, UNREACHABLE),
    "closes-in-the-middle": (closes_in_the_middle, UNREACHABLE),
    "never-answers": (never_answers, {"approval_timeout"}),
    # Envoy does not tell what broke once an answer has begun.
    "drips": (drips, {"approval_timeout", *UNREACHABLE}),
    "huge": (says(200, b'{"x":"' + b"x" * 40_000_000 + b'"}'), {"approval_oversized", *UNREACHABLE}),
}


#: After these nobody knows whether an approval was used up, and it is asked for again.
UNCERTAIN = {name: (REFUSALS | BROKEN)[name] for name in ("500", "503", *BROKEN)}
PLACES = {
    **{f"create-{name}": ("create", *case) for name, case in (ANSWERS | BROKEN).items()},
    **{f"consume-{name}": ("consume", *case) for name, case in REFUSALS.items() if name not in UNCERTAIN},
}


@pytest.mark.parametrize("name", PLACES)
def test_an_answer_that_is_no_good(gated: Gated, name: str) -> None:
    endpoint, fault, reasons = PLACES[name]
    gated.service.script = approves()
    caller = gated.caller()
    with gated.service.failing(endpoint, fault):
        told = assert_denied(gated, reasons, lambda: caller.call("briefly", {"n": name}))
    assert not [character for character in told.text if ord(character) < 32 and character != "\n"]
    assert "\r" not in str(told.response.headers)
    # It was one failure: the service is well again, and what is approved goes on.
    assert caller.call("briefly", {"n": f"{name}, again"}).kind == "result"
    assert gated.executed() == [{"n": f"{name}, again"}]


def test_consumptions_that_fail_for_good(start_gated: NewGated) -> None:
    """They are tried several times, for some seconds. All in all they run at most once."""

    def fail(name: str) -> None:
        fault, reasons = UNCERTAIN[name]
        gated = places[name]
        gated.service.script = approves()
        gated.service.fail("consume", fault)
        caller, watch, arguments = gated.caller(), Watch(gated.gateway), {"n": name}
        told = caller.send(caller.calling("briefly", arguments), timeout=30)
        assert told.kind == "tool_error", name
        record = watch.one()
        assert record["reason"] in reasons | {"approval_circuit_open"}, (name, record)
        assert record["approval"]["status"] == "unavailable" and record["id"] == told.decision
        assert gated.service.counts["consume"] > 1 and not gated.gateway.upstream.raw, name
        gated.service.recover()
        deadline = time.monotonic() + 30
        while caller.call("briefly", arguments).kind != "result":
            assert time.monotonic() < deadline, name
            time.sleep(0.2)
        assert gated.executed() == [arguments], name

    places = {name: start_gated() for name in UNCERTAIN}
    with ThreadPoolExecutor(len(UNCERTAIN)) as pool:
        failed = {name: pool.submit(fail, name) for name in UNCERTAIN}
        found = {name: error for name, future in failed.items() if (error := future.exception())}
    assert not found, found


def test_services_that_are_not_there(start_gated: NewGated) -> None:
    gated = start_gated()
    gated.service.down()
    try:
        told = assert_denied(gated, UNREACHABLE, lambda: gated.caller().call("held", {"n": 1}), within=2)
        assert told.kind == "tool_error"
    finally:
        gated.service.up()


def test_a_credential_that_is_refused_is_shown_to_nobody_else(start_gated: NewGated) -> None:
    gated = start_gated()
    gated.service.token = "another"
    assert_denied(gated, {"approval_error"}, lambda: gated.caller().call("gated", {"n": 1}))
    assert gated.service.violations.pop(0).startswith("credential in POST /v1/approvals")
    gated.service.violations.clear()
    assert gated.gateway.envoy.approval_token not in gated.gateway.envoy.log
    assert gated.gateway.envoy.approval_token not in gated.gateway.audit_log.read_text()


def test_an_answer_that_is_late_but_in_time(gated: Gated) -> None:
    gated.service.script = approves()
    gated.service.fail("*", slow(0.5))
    assert gated.caller().call("briefly", {"n": 1}).kind == "result"


def test_the_answer_to_a_consumption_is_lost(start_gated: NewGated) -> None:
    """It may be asked for again; if it is not, the approval is spent. Either way the call runs at most once."""
    gated = start_gated()
    gated.service.script = approves()
    caller, arguments = gated.caller(), {"n": 1}
    for times in (1, 2):
        gated.gateway.upstream.forget()
        gated.service.fail("consume", loses_the_answer, times)
        arguments = {"n": times}
        first = caller.call("briefly", arguments)
        spent = len(gated.executed())
        assert spent == (first.kind == "result")
        gated.service.recover()
        # Whoever comes again needs a new approval.
        created = gated.service.counts["created"]
        again = caller.call("briefly", arguments)
        assert gated.service.counts["created"] == created + 1
        assert again.kind == "result" and len(gated.executed()) == spent + 1
        assert gated.service.counts["consumed"] == gated.service.counts["created"]


def test_two_services_that_are_not_there(start_gated: NewGated) -> None:
    gated = start_gated()
    second = ApprovalService(gated.gateway.envoy.approval_token, listen=False)
    gated.gateway.envoy.put(None, [second.envoy_cluster()])
    approval = gated.gateway.policy["approval"] | {"escalate_to": second.location()}
    gated.gateway.load(gated.gateway.policy | {"approval": approval})
    gated.service.down()
    try:
        assert_denied(gated, UNREACHABLE, lambda: gated.caller().call("held", {"n": 1}), within=3)
    finally:
        gated.service.up()


# --- Circuits ---------------------------------------------------------------------------------------------------------


def test_a_service_that_is_dead_does_not_hold_calls_for_long(start_gated: NewGated) -> None:
    """Three that are dead in different ways, side by side."""
    faults: dict[str, Fault | None] = {"down": None, "silent": never_answers, "500": says(500, "{}")}
    with ThreadPoolExecutor(3) as pool:
        watched = {name: pool.submit(watch_it_die, start_gated(), fault) for name, fault in faults.items()}
        failed = {name: error for name, future in watched.items() if (error := future.exception())}
    assert not failed, failed


def watch_it_die(gated: Gated, fault: Fault | None) -> None:
    """And come back. Counters are those of three, so records are looked at."""
    gated.service.fail("*", fault) if fault else gated.service.down()
    caller = gated.caller()

    def timed(number: int) -> float:
        start = time.monotonic()
        assert caller.call("briefly", {"n": number}).kind == "tool_error"
        return time.monotonic() - start

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(timed, range(24)))
        # By now both workers know.
        before = gated.metrics()
        watch, asked = Watch(gated.gateway), len(gated.service.seen)
        took = list(pool.map(timed, range(100, 148)))
    # One may be let through to see whether the service lives again.
    assert sorted(took)[-4] < 0.5, sorted(took)
    reasons = [record["reason"] for record in watch.records(48)]
    assert reasons.count("approval_circuit_open") >= 44, reasons
    assert len(gated.service.seen) - asked <= 4
    counted = gated.metrics()
    assert counted["circuit_opened"] >= 1 and counted["circuit_open"] - before["circuit_open"] >= 44
    assert gated.gateway.upstream.saw_nothing()
    # Other calls do not care, and it closes once the service is back.
    assert caller.call("free", {"n": 0}).kind == "result"
    gated.gateway.upstream.forget()
    gated.service.recover()
    gated.service.script = approves()
    back, number = time.monotonic(), 1000
    while caller.call("briefly", {"n": number}).kind != "result":
        number += 1
        assert time.monotonic() - back < 35, "it stays open"
        time.sleep(0.1)
    assert gated.executed() == [{"n": number}]


# --- Clients that leave -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("abruptly", [True, False], ids=["reset", "closed"])
@pytest.mark.parametrize("way", [WITH_LINKS, PLAIN], ids=str)
def test_a_client_that_leaves_while_it_is_held_loses_nothing(gated: Gated, way: Way, abruptly: bool) -> None:
    caller, arguments = gated.caller(way, sub=f"{way}-{abruptly}"), {"n": 1}
    post, watch = caller.calling("held", arguments), Watch(gated.gateway)
    with http1.Connection(gated.gateway.port) as connection:
        headers = [("Host", f"{LOOPBACK}:{gated.gateway.port}"), *bearer(caller.token), *post.list()]
        connection.send(http1.head("POST", "/mcp", [*headers, ("Content-Length", str(len(post.body)))]) + post.body)
        gated.service.wait_for("created")
        gated.gateway.envoy.wait_until("it is held", lambda: gated.metrics()["held"] == 1)
        if abruptly:
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    record = watch.one()
    assert record["verdict"] != "allow" and record["approval"]["status"] == "pending", record
    assert record["approval"]["id"] == gated.service.only().id
    gated.gateway.envoy.wait_until("it is held no more", lambda: gated.metrics()["held"] == 0)
    approval = gated.service.only()
    assert approval.state == "pending", "its wait ends, the approval does not"
    gated.service.approve(approval.id)
    time.sleep(0.3)
    assert approval.state == "approved" and not gated.executed(), "nobody is there to have it"
    assert caller.call("held", arguments).kind == "result"
    assert gated.executed() == [arguments] and approval.state == "consumed"
    assert gated.service.counts["created"] == 1


def test_clients_that_leave_at_any_moment(gated: Gated) -> None:
    """Some just before the approval, some just after it: each call runs at most once, and only on approval."""
    gated.service.script = approves(after=0.1)
    caller = gated.caller()

    def leave(number: int) -> None:
        post = caller.calling("held", {"n": number})
        with http1.Connection(gated.gateway.port) as connection:
            headers = [("Host", f"{LOOPBACK}:{gated.gateway.port}"), *bearer(caller.token), *post.list()]
            connection.send(http1.head("POST", "/mcp", [*headers, ("Content-Length", str(len(post.body)))]) + post.body)
            time.sleep(0.09 + (number % 40) / 1000)

    def again(number: int) -> str:
        return caller.call("held", {"n": number}).kind

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(leave, range(80)))
        gated.gateway.envoy.wait_until("none is held", lambda: gated.metrics()["held"] == 0)
        first = [arguments["n"] for arguments in gated.executed()]
        assert len(first) == len(set(first))
        missing = sorted(set(range(80)) - set(first))
        assert missing, "some leave before their turn"
        assert set(pool.map(again, missing)) == {"result"}
    executed = [arguments["n"] for arguments in gated.executed()]
    assert sorted(executed) == list(range(80))
    assert gated.service.counts["consumed"] >= 80


def test_names_of_links_come_from_the_policy_only(gated: Gated) -> None:
    """What else the service says is not shown: no address, no text that is not signed."""
    evil = setting(page="https://evil.example/", url="https://evil.example/", message="Open https://evil.example/")
    with gated.service.failing("create", evil):
        told = gated.caller(WITH_LINKS).call("gated", {"n": 1})
    assert b"evil" not in told.response.body

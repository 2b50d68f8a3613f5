"""The decision corpus of `tests/corpus`, which the library is held against too: Envoy must decide the same."""

import copy
import json
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import stack

from conftest import NewGateway
from support.gateway import Gateway
from support.http1 import Headers, Response
from support.jose import compact, pooled
from support.messages import Post

CORPUS = stack.ROOT / "tests" / "corpus" / "decisions"
KEY = pooled("EdDSA")
DEFAULT_HEADERS = {"content-type": "application/json", "accept": "application/json, text/event-stream"}

Case = dict[str, Any]


@cache
def theme(path: Path) -> dict[str, Any]:
    """One file of the corpus."""
    return dict(json.loads(path.read_text()))


def cases() -> list[Any]:
    """Every case, under the name of its file and its own."""
    return [
        pytest.param(path, case, id=f"{path.stem}: {case['name']}")
        for path in sorted(CORPUS.glob("*.json"))
        for case in theme(path)["cases"]
    ]


def token_of(differences: dict[str, Any]) -> str:
    """A good token, but for these claims."""
    claims: dict[str, Any] = {
        "age_s": 10,
        "lifetime_s": 600,
        "iss": "https://issuer.test",
        "aud": "https://gateway.test/mcp",
    }
    claims |= {"sub": "alice", "client_id": "client"} | differences
    now = int(time.time())
    issued = now - claims.pop("age_s")
    claims = {"iat": issued, "exp": issued + claims.pop("lifetime_s")} | claims
    if "auth_age_s" in claims:
        claims["auth_time"] = now - claims.pop("auth_age_s")
    present = {name: value for name, value in claims.items() if value is not None}
    return compact({"alg": KEY.alg, "typ": "at+jwt", "kid": KEY.kid}, present, KEY)


def post_of(case: Case) -> Post:
    """The case's request."""
    asked = case["request"]
    credential = {} if case["token"] is None else {"authorization": f"Bearer {token_of(case['token'])}"}
    headers: Headers = []
    for name, values in (DEFAULT_HEADERS | credential | asked.get("headers", {})).items():
        each = values if isinstance(values, list) else [values]
        headers += [(name, value.encode()) for value in each if value is not None]
    body = asked.get("body")
    if isinstance(body, dict) and isinstance(body.get("raw"), str):
        data = body["raw"].encode()
    else:
        data = b"" if body is None else json.dumps(body).encode()
    return Post(data, tuple(headers), asked.get("method", "POST"), asked.get("path", "/mcp"))


def outcome_of(response: Response, decided: dict[str, int]) -> dict[str, Any]:
    """The expectation that the answer would meet exactly."""
    assert list(decided.values()) == [1], decided
    verdict, reason = next(iter(decided)).split(".")
    outcome: dict[str, Any] = {"verdict": verdict, "reason": reason}
    if verdict == "allow":
        return outcome
    outcome["status"] = response.status
    error = response.json()["error"] if verdict == "deny" and response.body else None
    if isinstance(error, dict):
        outcome["code"] = error["code"]
        data = error.get("data", {})
        if missing := data.get("missing_scopes"):
            outcome["missing_scopes"] = missing
        if sides := data.get("failing_sides"):
            outcome["failing_sides"] = [in_short(side) for side in sides]
    return outcome


def in_short(failure: dict[str, Any]) -> str:
    """A failing side as the corpus writes it."""
    return " ".join([f"{failure['side']}:{failure['reason']}", *failure.get("missing_scopes", [])])


def logged_reason(expect: dict[str, Any]) -> str:
    """`%RESPONSE_CODE_DETAILS%`: the reason, and in braces the sides that did not allow it, each once."""
    sides = dict.fromkeys(side.split(":")[0] for side in expect.get("failing_sides", []))
    return f"{expect['reason']}{{{','.join(sides)}}}" if sides else str(expect["reason"])


@pytest.fixture(scope="module")
def gateways(start_gateway: NewGateway) -> dict[Path, Gateway]:
    """One for each file, with the runner's own key set for every issuer."""
    running = {}
    for path in sorted(CORPUS.glob("*.json")):
        document = copy.deepcopy(theme(path)["policy"])
        for issuer in document["authentication"]["jwt"]:
            issuer["jwks"] = {"inline": {"keys": [KEY.jwk()]}}
        running[path] = start_gateway(document)
    return running


@pytest.mark.parametrize(("path", "case"), cases())
def test_envoy_decides_as_the_corpus_says(gateways: dict[Path, Gateway], path: Path, case: Case) -> None:
    gateway = gateways[path]
    gateway.upstream.forget()
    with gateway.deciding() as decided:
        response = gateway.send(post_of(case))
    assert outcome_of(response, decided) == case["expect"]
    if case["expect"]["verdict"] == "allow":
        assert gateway.upstream.only().body == post_of(case).body
    else:
        assert gateway.upstream.saw_nothing(seconds=0.01)


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in sorted(CORPUS.glob("*.json"))])
def test_envoys_log_has_the_reason_and_the_failing_sides(gateways: dict[Path, Gateway], path: Path) -> None:
    """Where the answer conceals the sides, the log names them all the same; which ones, the library's tests say."""
    gateway = gateways[path]
    answered = [case for case in theme(path)["cases"] if case["expect"]["verdict"] != "allow"]
    time.sleep(0.3)  # For what was sent before to be flushed.
    before = len(gateway.logged(0))
    for case in answered:
        gateway.send(post_of(case))
    logged = [line["details"] for line in gateway.logged(before + len(answered))[before:]]
    concealed = [details.split("{")[0] if theme(path)["policy"].get("refusals") else details for details in logged]
    expected = [logged_reason(case["expect"]) for case in answered]
    if theme(path)["policy"].get("refusals"):
        expected = [reason.split("{")[0] for reason in expected]
        assert all("{" in details for details in logged if details.startswith("not_permitted"))
    assert sorted(concealed) == sorted(expected)


def test_the_corpus_is_there() -> None:
    """No file, no case, no failure: that must not pass for success."""
    assert len(cases()) > 700

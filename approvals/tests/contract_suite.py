"""What every approval service has to do: the scenarios of openapi.yaml, over HTTP, against any service.

Against your own, start it with an empty store, and name it and a command that decides in a person's place:

    export APPROVALS_URL=http://127.0.0.1:8787 APPROVALS_AUDIENCE=https://mcp.example/mcp
    export APPROVALS_ISSUER=https://approvals.example TOOLGATE_APPROVAL_TOKEN=...
    export APPROVALS_DECIDE=./decide.sh     # gets id, approve|reject, subject, roles (with commas), reason
    python -m pytest approvals/tests/contract_suite.py

In a test module, import everything from here and give it a fixture `service` of your own.
"""

import base64
import http.client
import json
import os
import secrets
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from joserfc import jws
from joserfc.jwk import KeySet
from jsonschema import Draft202012Validator

DOCUMENT = yaml.safe_load((Path(__file__).parent.parent / "openapi.yaml").read_text())

ROLE, ONCALL = "automation_admin", "security_oncall"
REQUESTER = "alice"
#: Longest body, in bytes.
MAX_BODY = 64 * 1024
#: Seconds that may pass until whoever waits learns that something has changed.
PROMPT = 2.5


def errors_of(schema: Any, value: Any) -> list[str]:
    """What is wrong with a value; schemas may refer to those of the document."""
    errors = Draft202012Validator(schema | {"components": DOCUMENT["components"]}).iter_errors(value)
    return [f"{error.json_path}: {error.message}" for error in errors]


def assert_is(name: str, value: Any) -> None:
    """That a value is what the document calls by this name."""
    assert errors_of({"$ref": f"#/components/schemas/{name}"}, value) == []


@dataclass
class Answer:
    """What the service has said."""

    status: int
    headers: dict[str, str]
    text: bytes

    @property
    def json(self) -> Any:
        """Its body."""
        return json.loads(self.text)

    def problem(self, status: int, code: str | None = None) -> dict[str, Any]:
        """The problem that it must be."""
        assert self.status == status, self.text
        assert self.headers["content-type"].split(";")[0] == "application/problem+json"
        problem = self.json
        assert_is("Problem", problem)
        assert problem["status"] == status
        assert code is None or problem["code"] == code, problem
        return problem

    def state(self, state: str, status: int = 200) -> dict[str, Any]:
        """The approval in the state that it must have."""
        assert self.status == status, self.text
        approval = self.json
        assert_is("ApprovalState", approval)
        assert approval["state"] == state, approval
        return approval


@dataclass
class Service:
    """A running service, and somebody who decides."""

    url: str
    audience: str
    issuer: str
    token: str = field(repr=False)
    #: Decides in the place of a person: id, `approve` or `reject`, subject, roles, reason. Refusals are no errors.
    decide: Callable[..., None] = field(repr=False)
    #: Seconds until a decision of `decide` has been counted, or not.
    settles_in: float = 2.5

    def send(self, method: str, path: str, body: Any = None, wait: int | None = None, token: str | None = "") -> Answer:
        """One request. A body may be bytes; a token of None sends none."""
        url = urlsplit(self.url)
        kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        connection = kind(url.hostname or "", url.port, timeout=70)
        headers = {}
        if token is not None:
            headers["authorization"] = f"Bearer {token or self.token}"
        if wait is not None:
            headers["prefer"] = f"wait={wait}"
        if body is not None:
            headers["content-type"] = "application/json"
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
        try:
            connection.request(method, url.path.rstrip("/") + path, body, headers)
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, names, response.read())
        finally:
            connection.close()

    def create(self, request: dict[str, Any], wait: int | None = None) -> Answer:
        """Asks for an approval."""
        return self.send("POST", "/v1/approvals", request, wait)

    def read(self, approval: dict[str, Any], wait: int | None = None) -> Answer:
        """Reads it, or waits for it."""
        return self.send("GET", f"/v1/approvals/{approval['id']}?binding={approval['binding']}", wait=wait)

    def consume(self, approval: dict[str, Any], nonce: str | None = None, step: int = 0) -> Answer:
        """Uses it."""
        body = {"binding": approval["binding"], "nonce": nonce or secrets.token_hex(16), "step": step}
        return self.send("POST", f"/v1/approvals/{approval['id']}/consume", body)

    def cancel(self, approval: dict[str, Any]) -> Answer:
        """Takes it back."""
        return self.send("POST", f"/v1/approvals/{approval['id']}/cancel", {"binding": approval["binding"]})

    def pending(self, **members: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """A request of its own and the approval that waits for it."""
        request = asked(self, **members)
        return request, self.create(request).state("pending", 201)

    def approved(self, **members: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The same, once it is approved."""
        request, approval = self.pending(**members)
        self.decide(approval["id"], "approve", "carol", [ROLE])
        return request, self.read(approval, wait=5).state("approved")

    def claims(self, token: str, schema: str) -> dict[str, Any]:
        """The claims of a decision whose signature is right."""
        keys = self.send("GET", "/.well-known/jwks.json", token=None).json
        assert_is("KeySet", keys)
        header = json.loads(base64.urlsafe_b64decode(token.split(".")[0] + "=="))
        assert header == {"alg": header["alg"], "kid": header["kid"], "typ": "approval+jwt"}
        assert header["alg"] in ("EdDSA", "ES256")
        claims = json.loads(jws.deserialize_compact(token, KeySet.import_key_set(keys), [header["alg"]]).payload)
        assert_is(schema, claims)
        assert (claims["iss"], claims["aud"]) == (self.issuer, self.audience)
        assert abs(claims["iat"] - time.time()) < 10
        assert claims["exp"] - claims["iat"] == (60 if schema == "GrantClaims" else 120)
        return claims

    def decision(self, approval: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
        """The claims of the decision that is in a final state."""
        claims = self.claims(approval["decision"], "DecisionClaims")
        bound = (claims["approval_id"], claims["binding"], claims["policy"], claims["status"])
        assert bound == (approval["id"], request["binding"], request["policy"], approval["state"])
        return claims


def asked(service: Service, **members: Any) -> dict[str, Any]:
    """A request for an approval, of a call that nobody else makes."""
    return {
        "binding": secrets.token_hex(32),
        "audience": service.audience,
        "policy": secrets.token_hex(32),
        "decision_id": secrets.token_hex(16),
        "requester": {
            "issuer": "https://idp.example",
            "subject": REQUESTER,
            "client_id": "desk",
            "roles": ["campaign_manager"],
            "actors": [],
        },
        "call": {
            "revision": "2026-07-28",
            "method": "tools/call",
            "kind": "tool",
            "name": "send_message",
            "arguments": {"/channel": "sms", "/urgent": True, "/copies": 2},
            "withheld": True,
        },
        "requirements": [requirement()],
        "reason_required": False,
        "expires_in": 600,
    } | members


def requirement(*roles: str, **members: Any) -> dict[str, Any]:
    """A requirement of a rule."""
    return {"gate": "rule", "name": "rules[3]", "approvers": list(roles) or [ROLE], "count": 1} | members


def after(seconds: float, action: Callable[[], None]) -> threading.Timer:
    """Does something in a while."""
    timer = threading.Timer(seconds, action)
    timer.start()
    return timer


@pytest.fixture
def service() -> Iterator[Service]:
    """The service that the environment names."""
    names = ["APPROVALS_URL", "APPROVALS_AUDIENCE", "APPROVALS_ISSUER", "TOOLGATE_APPROVAL_TOKEN", "APPROVALS_DECIDE"]
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        pytest.fail(f"set {', '.join(missing)}: see the head of contract_suite.py")
    url, audience, issuer, token, command = (os.environ[name] for name in names)

    def decide(identifier: str, decision: str, subject: str, roles: list[str], reason: str = "") -> None:
        subprocess.run([command, identifier, decision, subject, ",".join(roles), reason], check=True, timeout=30)

    yield Service(url, audience, issuer, token, decide)


# Creating and attaching


def test_the_same_call_is_the_same_approval(service: Service) -> None:
    request, first = service.pending()
    second = service.create(request | {"decision_id": secrets.token_hex(16)}).state("pending")
    assert second == first
    assert first["binding"] == request["binding"]
    assert first["expires_at"] - first["created_at"] == request["expires_in"]
    assert (first["step"], first["escalated"]) == (0, False)


def test_another_call_is_another_approval(service: Service) -> None:
    _, first = service.pending()
    _, second = service.pending()
    assert first["id"] != second["id"]


def test_the_same_call_on_other_terms_is_another_approval(service: Service) -> None:
    request, first = service.approved()
    others = [
        request | {"requirements": [requirement(), requirement(ONCALL)]},
        request | {"reason_required": True},
        request | {"requester": request["requester"] | {"actors": ["planner"]}},
    ]
    asked_for = [service.create(other).state("pending", 201)["id"] for other in others]
    assert len({first["id"], *asked_for}) == 4
    # What was asked for before is still there.
    assert service.create(request).state("approved")["id"] == first["id"]
    assert [service.create(other).state("pending")["id"] for other in others] == asked_for


def test_many_who_ask_at_once_get_one_approval(service: Service) -> None:
    request = asked(service)
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: service.create(request), range(12)))
    assert sorted(answer.status for answer in answers) == [200] * 11 + [201]
    assert len({answer.json["id"] for answer in answers}) == 1


def test_all_members_are_taken(service: Service) -> None:
    requester = {
        "issuer": "https://idp.example",
        "subject": REQUESTER,
        "client_id": "desk",
        "agent": "helper",
        "tenant": "north",
        "roles": [],
        "actors": ["desk", "planner"],
    }
    call = {
        "revision": "2025-11-25",
        "method": "resources/read",
        "kind": "resource",
        "name": "norg://reports/\u202e1",
        "arguments": {"": "x", "/b": 1.5, "/c": "<b>\u0000", "/d": False},
        "withheld": False,
        "purpose": "to see",
    }
    escalate = {"after": 300, "approvers": [ONCALL]}
    gates = [requirement(gate=gate, escalate=escalate) for gate in ("rule", "agent", "risk")]
    service.pending(requester=requester, call=call, requirements=gates, reason_required=True, escalated_from="first")


def test_a_rejection_stays_until_it_expires(service: Service) -> None:
    request, approval = service.pending(expires_in=4)
    service.decide(approval["id"], "reject", "carol", [ROLE], "no")
    service.read(approval, wait=5).state("rejected")
    for _ in range(3):
        assert service.create(request).state("rejected")["id"] == approval["id"]
    time.sleep(max(0.0, approval["expires_at"] + 1.5 - time.time()))
    assert service.create(request).state("pending", 201)["id"] != approval["id"]


def test_an_ending_that_nobody_has_heard_of_is_told_once(service: Service) -> None:
    request, approval = service.pending(expires_in=2)
    time.sleep(max(0.0, approval["expires_at"] + 1.5 - time.time()))
    told = service.create(request).state("expired")
    assert told["id"] == approval["id"]
    assert service.decision(told, request)["approvers"] == []
    assert service.create(request).state("pending", 201)["id"] != approval["id"]


def test_after_an_ending_that_was_told_a_call_is_asked_for_anew(service: Service) -> None:
    request, approval = service.pending()
    service.cancel(approval).state("cancelled")
    assert service.create(request).state("pending", 201)["id"] != approval["id"]


def test_what_was_consumed_is_asked_for_anew(service: Service) -> None:
    request, approval = service.approved()
    assert service.create(request).state("approved")["id"] == approval["id"]
    assert service.consume(approval).status == 200
    assert service.create(request).state("pending", 201)["id"] != approval["id"]


# Waiting


def test_who_asks_can_wait_for_the_decision(service: Service) -> None:
    request, approval = service.pending()
    began = time.monotonic()
    timer = after(1, lambda: service.decide(approval["id"], "approve", "carol", [ROLE]))
    answer = service.create(request, wait=30).state("approved")
    assert 0.9 < time.monotonic() - began < 1 + PROMPT
    assert answer["id"] == approval["id"]
    timer.join()


def test_many_can_wait_for_the_same_decision(service: Service) -> None:
    _, approval = service.pending()
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(service.read, approval, 30) for _ in range(8)]
        time.sleep(0.5)
        began = time.monotonic()
        service.decide(approval["id"], "reject", "carol", [ROLE], "no")
        assert all(answer.result().state("rejected") for answer in answers)
        assert time.monotonic() - began < PROMPT


def test_waiting_ends(service: Service) -> None:
    _, approval = service.pending()
    for wait, least, most in [(None, 0.0, 0.9), (0, 0.0, 0.9), (2, 1.9, 2 + PROMPT)]:
        began = time.monotonic()
        service.read(approval, wait).state("pending")
        assert least <= time.monotonic() - began < most, wait


def test_who_waits_learns_that_it_expired(service: Service) -> None:
    request, approval = service.pending(expires_in=2)
    answer = service.read(approval, wait=30).state("expired")
    assert time.time() < approval["expires_at"] + PROMPT
    assert service.decision(answer, request)["status"] == "expired"


# Consuming


def test_a_grant_says_who_approved_what(service: Service) -> None:
    request, approval = service.approved()
    nonce = secrets.token_hex(16)
    answer = service.consume(approval, nonce)
    assert answer.status == 200
    assert_is("Grant", answer.json)
    assert answer.json["id"] == approval["id"]
    claims = service.claims(answer.json["grant"], "GrantClaims")
    bound = ("approval_id", "binding", "policy", "nonce", "step", "escalated")
    expected = (approval["id"], request["binding"], request["policy"], nonce, 0, False)
    assert tuple(claims[name] for name in bound) == expected
    [approver] = claims["approvers"]
    assert (approver["sub"], approver["roles"]) == ("carol", [ROLE])
    assert approval["created_at"] <= approver["at"] <= claims["iat"]
    state = service.read(approval).state("consumed")
    assert state["step"] == 1


def test_an_approval_is_consumed_once_however_many_try(service: Service) -> None:
    for _ in range(3):
        _, approval = service.approved()
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda approval: service.consume(approval), [approval] * 16))
        refused = [answer for answer in answers if answer.status != 200]
        assert len(refused) == 15
        for answer in refused:
            answer.problem(409, "used")


def test_an_answer_that_was_lost_is_given_again(service: Service) -> None:
    _, approval = service.approved()
    nonce = secrets.token_hex(16)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: service.consume(approval, nonce), range(6)))
    for answer in answers:
        assert answer.status == 200
        claims = service.claims(answer.json["grant"], "GrantClaims")
        assert (claims["nonce"], claims["step"]) == (nonce, 0)
    assert service.read(approval).state("consumed")["step"] == 1


def test_a_server_that_asks_back_takes_further_steps(service: Service) -> None:
    _, approval = service.approved()
    service.consume(approval, step=1).problem(409)
    for step in range(10):
        nonce = secrets.token_hex(16)
        answer = service.consume(approval, nonce, step)
        assert answer.status == 200, answer.text
        claims = service.claims(answer.json["grant"], "GrantClaims")
        assert (claims["nonce"], claims["step"]) == (nonce, step)
        service.consume(approval, step=step).problem(409, "used")
        if step < 8:
            service.consume(approval, step=step + 2).problem(409, "used")
    assert service.read(approval).state("consumed")["step"] == 10
    service.consume(approval, step=10).problem(409, "used")


def test_a_step_is_taken_once_however_many_try(service: Service) -> None:
    _, approval = service.approved()
    assert service.consume(approval).status == 200
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: service.consume(approval, step=1).status, range(12)))
    assert sorted(answers) == [200] + [409] * 11


def test_what_is_not_approved_cannot_be_consumed(service: Service) -> None:
    _, approval = service.pending()
    service.consume(approval).problem(409, "not_approved")
    service.read(approval).state("pending")


def test_what_expired_after_it_was_approved_cannot_be_consumed(service: Service) -> None:
    request, approval = service.approved(expires_in=3)
    time.sleep(max(0.0, approval["expires_at"] + 0.5 - time.time()))
    service.consume(approval).problem(410, "expired")
    assert service.decision(service.read(approval).state("expired"), request)["status"] == "expired"


# Endings


def test_a_rejection_is_signed_and_final(service: Service) -> None:
    request, approval = service.pending()
    service.decide(approval["id"], "reject", "carol", [ROLE], "not on a Sunday")
    state = service.read(approval, wait=5).state("rejected")
    claims = service.decision(state, request)
    assert claims["reason"] == "not on a Sunday"
    assert [approver["sub"] for approver in claims["approvers"]] == ["carol"]
    service.consume(approval).problem(410, "rejected")
    service.decide(approval["id"], "approve", "dora", [ROLE])
    time.sleep(service.settles_in)
    service.read(approval).state("rejected")


def test_an_approval_that_is_cancelled_is_over(service: Service) -> None:
    request, approval = service.pending()
    state = service.cancel(approval).state("cancelled")
    claims = service.decision(state, request)
    assert (claims["status"], claims["approvers"]) == ("cancelled", [])
    assert service.cancel(approval).state("cancelled")["id"] == approval["id"]
    service.consume(approval).problem(410, "cancelled")
    service.decide(approval["id"], "approve", "carol", [ROLE])
    time.sleep(service.settles_in)
    service.read(approval).state("cancelled")


def test_what_is_decided_cannot_be_cancelled(service: Service) -> None:
    _, approval = service.approved()
    service.cancel(approval).state("approved")
    assert service.consume(approval).status == 200
    service.cancel(approval).state("consumed")


def test_what_expired_is_over(service: Service) -> None:
    _, approval = service.pending(expires_in=2)
    service.read(approval, wait=10).state("expired")
    service.consume(approval).problem(410, "expired")
    service.decide(approval["id"], "approve", "carol", [ROLE])
    time.sleep(service.settles_in)
    service.read(approval).state("expired")


# Who decides


def stays_pending(service: Service, approval: dict[str, Any]) -> None:
    """That nothing comes of what was just tried."""
    time.sleep(service.settles_in)
    service.read(approval).state("pending")


def test_those_who_ask_cannot_decide(service: Service) -> None:
    _, approval = service.pending()
    service.decide(approval["id"], "approve", REQUESTER, [ROLE])
    stays_pending(service, approval)
    service.consume(approval).problem(409, "not_approved")


def test_others_than_approvers_cannot_decide(service: Service) -> None:
    _, approval = service.pending()
    service.decide(approval["id"], "approve", "dora", ["other_role"])
    service.decide(approval["id"], "reject", "erin", ["other_role"], "no")
    service.decide(approval["id"], "approve", "frank", [])
    stays_pending(service, approval)


def test_several_approvers_are_several_people(service: Service) -> None:
    _, approval = service.pending(requirements=[requirement(count=2)])
    service.decide(approval["id"], "approve", "carol", [ROLE])
    service.decide(approval["id"], "approve", "carol", [ROLE])
    stays_pending(service, approval)
    service.decide(approval["id"], "approve", "dora", [ROLE])
    service.read(approval, wait=5).state("approved")
    claims = service.claims(service.consume(approval).json["grant"], "GrantClaims")
    assert sorted(approver["sub"] for approver in claims["approvers"]) == ["carol", "dora"]


def test_all_requirements_have_to_be_met(service: Service) -> None:
    requirements = [requirement(), requirement("campaign_lead", gate="agent", name="helper")]
    _, approval = service.pending(requirements=requirements)
    service.decide(approval["id"], "approve", "carol", [ROLE])
    stays_pending(service, approval)
    service.decide(approval["id"], "approve", "dora", ["campaign_lead"])
    service.read(approval, wait=5).state("approved")


def test_one_person_can_meet_several_requirements(service: Service) -> None:
    requirements = [requirement(), requirement("campaign_lead", gate="agent", name="helper")]
    _, approval = service.pending(requirements=requirements)
    service.decide(approval["id"], "approve", "carol", ["campaign_lead", ROLE])
    service.read(approval, wait=5).state("approved")


def test_one_who_rejects_is_enough(service: Service) -> None:
    _, approval = service.pending(requirements=[requirement(count=2)])
    service.decide(approval["id"], "approve", "carol", [ROLE])
    service.decide(approval["id"], "reject", "dora", [ROLE], "no")
    service.read(approval, wait=5).state("rejected")


def test_others_may_decide_after_a_while(service: Service) -> None:
    escalate = {"after": 3, "approvers": [ONCALL]}
    _, approval = service.pending(requirements=[requirement(escalate=escalate)])
    service.decide(approval["id"], "approve", "dora", [ONCALL])
    assert service.read(approval).state("pending")["escalated"] is False
    time.sleep(max(0.0, approval["created_at"] + 5 - time.time()))
    service.decide(approval["id"], "approve", "dora", [ONCALL])
    assert service.read(approval, wait=5).state("approved")["escalated"] is True
    claims = service.claims(service.consume(approval).json["grant"], "GrantClaims")
    assert claims["escalated"] is True
    assert [approver["roles"] for approver in claims["approvers"]] == [[ONCALL]]


def test_a_decision_without_the_reason_that_it_needs_does_not_count(service: Service) -> None:
    _, approval = service.pending(reason_required=True)
    service.decide(approval["id"], "approve", "carol", [ROLE])
    stays_pending(service, approval)
    service.decide(approval["id"], "approve", "carol", [ROLE], "as agreed")
    service.read(approval, wait=5).state("approved")


def test_nothing_that_acts_for_the_requester_counts(service: Service) -> None:
    requester = asked(service)["requester"] | {"agent": "helper", "actors": ["planner"]}
    _, approval = service.pending(requester=requester)
    for subject in ("desk", "helper", "planner"):
        service.decide(approval["id"], "approve", subject, [ROLE])
    service.read(approval, wait=2).state("pending")
    service.decide(approval["id"], "approve", "carol", [ROLE])
    service.read(approval, wait=5).state("approved")


# Who asks


def test_without_the_credential_there_is_nothing(service: Service) -> None:
    request, approval = service.approved()
    wrong = [None, "x", service.token[:-1], service.token + "A", secrets.token_urlsafe(32)]
    body = {"binding": approval["binding"], "nonce": secrets.token_hex(16), "step": 0}
    path = f"/v1/approvals/{approval['id']}"
    for token in wrong:
        for method, where, content in [
            ("POST", "/v1/approvals", request),
            ("GET", f"{path}?binding={approval['binding']}", None),
            ("POST", f"{path}/consume", body),
            ("POST", f"{path}/cancel", {"binding": approval["binding"]}),
        ]:
            answer = service.send(method, where, content, token=token)
            answer.problem(401, "unauthorized")
            assert answer.headers["www-authenticate"].lower().startswith("bearer")
    service.read(approval).state("approved")


def test_a_gateway_asks_for_its_own_audiences(service: Service) -> None:
    for audience in ["https://other.example/mcp", service.audience + "/", ""]:
        assert service.create(asked(service, audience=audience)).status in (400, 403)
    service.create(asked(service, audience="https://other.example/mcp")).problem(403, "audience")


def test_what_exists_is_told_only_to_those_who_know_the_binding(service: Service) -> None:
    _, approval = service.approved()
    other = approval | {"binding": secrets.token_hex(32)}
    unknown = approval | {"id": secrets.token_urlsafe(16)}
    for ask in (service.read, service.consume, service.cancel):
        problems = [ask(which).problem(404, "not_found") for which in (other, unknown)]
        assert problems[0] == problems[1]
    service.read(approval).state("approved")


def test_ids_cannot_be_guessed(service: Service) -> None:
    ids = [service.pending()[1]["id"] for _ in range(10)]
    assert all(len(base64.urlsafe_b64decode(identifier + "==")) >= 16 for identifier in ids)
    assert len({identifier[:4] for identifier in ids}) > 5


# What is malformed


def without(request: dict[str, Any], name: str) -> dict[str, Any]:
    """The same, with one member less."""
    return {other: value for other, value in request.items() if other != name}


def test_a_request_that_the_schema_does_not_allow_is_refused(service: Service) -> None:
    request = asked(service)
    call, requester = request["call"], request["requester"]
    wrong: list[Any] = [without(request, name) for name in request]
    wrong += [request | {"call": without(call, name)} for name in call]
    wrong += [request | {"requester": without(requester, name)} for name in ("issuer", "subject", "roles", "actors")]
    wrong += [request | {"requirements": [without(requirement(), name)]} for name in requirement()]
    wrong += [
        request | change
        for change in [
            {"binding": request["binding"].upper()[:-1] + "F"},
            {"binding": request["binding"][1:]},
            {"policy": 1},
            {"decision_id": "x" * 32},
            {"reason_required": "no"},
            {"expires_in": 0},
            {"expires_in": 86401},
            {"expires_in": 60.5},
            {"requirements": []},
            {"requirements": [requirement(count=0)]},
            {"requirements": [requirement() | {"approvers": []}]},
            {"requirements": [requirement(gate="other")]},
            {"requirements": [requirement(escalate={"after": 300, "approvers": []})]},
            {"requirements": [requirement(escalate={"after": -1, "approvers": [ONCALL]})]},
            {"call": call | {"arguments": {"/a": None}}},
            {"call": call | {"arguments": {"a": "b"}}},
            {"call": call | {"arguments": {"/a": ["b"]}}},
            {"call": call | {"kind": "task"}},
            {"call": call | {"other": 1}},
            {"requester": requester | {"other": 1}},
            {"other": 1},
        ]
    ]
    wrong += [b"", b"{", b"[]", b"null", b"\xff", json.dumps(request).encode() + b"{}"]
    wrong += [json.dumps(request).replace("{", '{"expires_in": 600, ', 1).encode()]
    for body in wrong:
        service.send("POST", "/v1/approvals", body).problem(400, "malformed")
    # None of them was kept.
    service.create(request).state("pending", 201)


def test_other_bodies_are_as_strict(service: Service) -> None:
    _, approval = service.approved()
    good = {"binding": approval["binding"], "nonce": secrets.token_hex(16), "step": 0}
    wrong = [without(good, name) for name in good]
    wrong += [good | change for change in [{"nonce": "x"}, {"step": -1}, {"step": 0.5}, {"step": True}, {"other": 1}]]
    for body in wrong:
        service.send("POST", f"/v1/approvals/{approval['id']}/consume", body).problem(400, "malformed")
    for body in [{}, {"binding": approval["binding"], "nonce": good["nonce"]}]:
        service.send("POST", f"/v1/approvals/{approval['id']}/cancel", body).problem(400, "malformed")
    service.send("GET", f"/v1/approvals/{approval['id']}").problem(400, "malformed")
    service.read(approval).state("approved")


def test_a_body_that_is_too_large_is_refused(service: Service) -> None:
    request = asked(service)
    text = json.dumps(request).encode()
    service.send("POST", "/v1/approvals", text.ljust(MAX_BODY + 1)).problem(413, "too_large")
    assert service.send("POST", "/v1/approvals", text.ljust(MAX_BODY)).status == 201


# Beside approvals


def test_it_can_be_watched(service: Service) -> None:
    for path in ("/healthz", "/readyz"):
        assert service.send("GET", path, token=None).status == 200


def test_keys_are_public_ones(service: Service) -> None:
    answer = service.send("GET", "/.well-known/jwks.json", token=None)
    assert answer.status == 200
    assert_is("KeySet", answer.json)

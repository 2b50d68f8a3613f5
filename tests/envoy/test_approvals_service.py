"""The reference approval service behind the gateway, on SQLite and on PostgreSQL: the contract, people who decide, and
what is left of it all when it is killed at any moment."""

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
import pytest

from conftest import NewGateway
from support.approval_service import ApprovalService
from support.approvals_cli import AUDIENCE, CLIENT, ROLE, Approvals, Postgres, SignIn, new_id
from support.callers import PLAIN, SESSION, WITH_LINKS, Caller, Told, Way
from support.gated import ON_CALL, RULES, arguments_of, beside, warm_up
from support.gateway import Envoy, Gateway
from support.policy import policy
from support.trail import Watch, lines_of

DATABASES = ("sqlite", "postgres")
RESOURCE = "https://reference.example/mcp"
#: Approvals that there are while the service is killed again and again.
UNDER_FIRE = 200
#: Of two clients on a worker not enough calls fail at once for it to leave the service alone.
CLIENTS = 6
UNDER_FIRE_SUBJECT = "alice-under-fire"
RACES = 200

Json = dict[str, Any]


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with Postgres.running() as running:
        yield running


@dataclass
class Reference:
    """The service, two gateways on two Envoys that ask it, and one server."""

    approvals: Approvals
    gateway: Gateway
    other: Gateway
    people: SignIn

    def caller(self, way: Way = PLAIN, *scopes: str, gateway: Gateway | None = None, **claims: Any) -> Caller:
        """Alice."""
        token = self.people.token(*scopes, **{"aud": self.approvals.resource} | claims)
        return Caller.arriving(gateway or self.gateway, token, way, self.approvals.page)

    def executed(self) -> list[Json]:
        """The arguments of the calls that reached the server."""
        return [arguments_of(request.body) for request in self.gateway.upstream.requests]


@pytest.fixture(scope="module", params=DATABASES)
def shared(
    request: pytest.FixtureRequest,
    start_gateway: NewGateway,
    envoy: Envoy,
    second_envoy: Envoy,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Reference]:
    directory, people = tmp_path_factory.mktemp("approvals"), SignIn()
    if request.param == "sqlite":
        database = f"sqlite:{directory / 'approvals.db'}"
    else:
        database = request.getfixturevalue("postgres").fresh()
    resource = f"https://{request.param}.example/mcp"
    clients = {"clients": [CLIENT, "test-client"], "audience": AUDIENCE}
    approvals = Approvals(directory, people, resource, envoy.approval_token, database, {"approver_tokens": clients})
    rules = [
        *RULES,
        {"tools": ["twice"], "scopes": [], "approval": {"count": 2, "hold": "0s"}},
        {"tools": ["why"], "scopes": [], "approval": {"reason": "required", "hold": "0s"}},
        {
            "tools": ["on_call"],
            "scopes": [],
            "approval": {"hold": "10s", "escalate": {"after": "2s", "approvers": [ON_CALL]}},
        },
        {"tools": ["soon"], "scopes": [], "approval": {"hold": "10s", "expires": "5s"}},
        {"tools": ["finance"], "scopes": [], "approval": {"approvers": ["cfo"], "hold": "0s"}},
    ]
    with approvals:
        document = policy(
            people,
            resource={"uri": resource},
            rules=rules,
            approval=approvals.document(hold="0s"),
            audit={"arguments": {"*": {"/n": "keep"}}},
        )
        for each in (envoy, second_envoy):
            each.put(None, [approvals.envoy_cluster()])
        gateway = start_gateway(document, people)
        warm_up(gateway, people)
        other = beside(second_envoy, document, people, upstream=gateway.upstream)
        yield Reference(approvals, gateway, other, people)


@pytest.fixture
def reference(shared: Reference) -> Reference:
    shared.gateway.upstream.forget()
    return shared


# --- The contract, and whether the scripted service keeps it too -----------------------------------------------------


@dataclass
class Api:
    """The gateway's side of the contract, of any service."""

    approvals: Approvals
    decide: Callable[[str, str], None]
    keys: list[Json]
    nonce: str = field(default_factory=new_id)

    def request(self, **changes: Any) -> Json:
        """What a gateway asks for; each time another call."""
        return {
            "binding": new_id() + new_id(),
            "audience": self.approvals.resource,
            "policy": "0" * 64,
            "decision_id": new_id(),
            "requester": {"issuer": "https://idp.example", "subject": "alice", "roles": [], "actors": []},
            "call": {
                "revision": "2026-07-28",
                "method": "tools/call",
                "kind": "tool",
                "name": "send",
                "arguments": {"/channel": "sms", "/count": 3, "/urgent": True},
                "withheld": False,
            },
            "requirements": [{"gate": "rule", "name": "rules[0]", "approvers": [ROLE], "count": 1}],
            "reason_required": False,
            "expires_in": 600,
        } | changes

    def ask(self, method: str, path: str, body: Any = None, wait: int = 0, token: str | None = "") -> tuple[int, Json]:
        """A request with the gateway's credential, unless another is given."""
        credential = self.approvals.token if token == "" else token
        return self.approvals.ask(method, path, credential, body, {"prefer": f"wait={wait}"} if wait else None)

    def create(self, wait: int = 0, **changes: Any) -> Json:
        """An approval that is new."""
        status, state = self.ask("POST", "/v1/approvals", self.request(**changes), wait)
        assert status == 201, state
        return state

    def read(self, state: Json, wait: int = 0) -> Json:
        """Its state now."""
        status, found = self.ask("GET", f"/v1/approvals/{state['id']}?binding={state['binding']}", wait=wait)
        assert status == 200, found
        return found

    def consume(self, state: Json, nonce: str | None = None, step: int = 0) -> tuple[int, Json]:
        """Uses it."""
        body = {"binding": state["binding"], "nonce": nonce or self.nonce, "step": step}
        return self.ask("POST", f"/v1/approvals/{state['id']}/consume", body)

    def verified(self, decision: str) -> Json:
        """The claims of a decision."""
        header = jwt.get_unverified_header(decision)
        assert header["typ"] == "approval+jwt" and header["alg"] in ("EdDSA", "ES256")
        key = next(key for key in self.keys if key["kid"] == header["kid"])
        claims: Json = jwt.decode(
            decision,
            jwt.PyJWK(key).key,
            algorithms=[header["alg"]],
            audience=self.approvals.resource,
            issuer=self.approvals.url if not isinstance(self.approvals, Scripted) else None,
        )
        return claims


class Scripted(Approvals):
    """The scripted service, asked in the same way."""


@pytest.fixture(params=["scripted", *DATABASES])
def api(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Api]:
    people, token = SignIn(), "c2VjcmV0IG9mIHRoZSBnYXRld2F5IGZvciB0ZXN0cw=="
    if request.param == "scripted":
        service = ApprovalService(token)
        scripted = Scripted(tmp_path, people, service.resource, token, "", port=service.port)

        def decide(approval: str, decision: str) -> None:
            {"approve": service.approve, "reject": service.reject}[decision](approval)

        yield Api(scripted, decide, service.jwks()["keys"])
        return
    database = f"sqlite:{tmp_path / 'a.db'}"
    if request.param == "postgres":
        database = request.getfixturevalue("postgres").fresh()
    with Approvals(tmp_path, people, RESOURCE, token, database) as approvals:

        def decide(approval: str, decision: str) -> None:
            status, told = approvals.decide(approval, people.person(), decision)
            assert status == 200, told

        _, published = approvals.ask("GET", "/.well-known/jwks.json", None)
        yield Api(approvals, decide, published["keys"])


def test_creating_is_idempotent(api: Api) -> None:
    request = api.request()
    status, first = api.ask("POST", "/v1/approvals", request)
    assert status == 201
    assert {name: first[name] for name in ("binding", "state", "escalated", "step")} == {
        "binding": request["binding"],
        "state": "pending",
        "escalated": False,
        "step": 0,
    }
    assert len(first["id"]) >= 22 and "decision" not in first
    assert first["expires_at"] - first["created_at"] == 600 and abs(first["created_at"] - time.time()) < 5
    status, again = api.ask("POST", "/v1/approvals", request | {"decision_id": new_id(), "expires_in": 60})
    assert (status, again) == (200, first)
    assert api.create()["id"] != first["id"]


def test_waiting_ends_with_the_decision(api: Api) -> None:
    start, state = time.monotonic(), api.create(wait=1)
    assert state["state"] == "pending" and 0.9 < time.monotonic() - start < 2
    threading.Timer(0.3, api.decide, (state["id"], "approve")).start()
    start = time.monotonic()
    assert api.read(state, wait=20)["state"] == "approved"
    assert time.monotonic() - start < 5
    start = time.monotonic()
    assert api.read(state, wait=20)["state"] == "approved" and time.monotonic() - start < 1


def test_who_may_ask_and_how(api: Api) -> None:
    request = api.request()
    for token in (None, "", "x", api.approvals.token[:-1]):
        credential = token if token != "" else " "
        assert api.ask("POST", "/v1/approvals", request, token=credential)[0] == 401
    assert api.ask("POST", "/v1/approvals", request | {"audience": "https://other.example/mcp"})[0] == 403
    odd: list[Any] = [
        b"{",
        b"[]",
        {},
        request | {"extra": 1},
        request | {"binding": "x"},
        request | {"requirements": []},
        request | {"call": request["call"] | {"kind": "thing"}},
        {name: value for name, value in request.items() if name != "policy"},
    ]
    for body in odd:
        status, problem = api.ask("POST", "/v1/approvals", body)
        assert status == 400 and problem["status"] == 400, body
    large = request | {"call": request["call"] | {"purpose": "x" * 70_000}}
    assert api.ask("POST", "/v1/approvals", large)[0] == 413


def test_nobody_learns_which_approvals_there_are(api: Api) -> None:
    state = api.create()
    other = "0" * 64
    answers = [
        api.ask("GET", f"/v1/approvals/{state['id']}?binding={other}"),
        api.ask("GET", f"/v1/approvals/{'x' * len(state['id'])}?binding={other}"),
        api.ask("POST", f"/v1/approvals/{state['id']}/consume", {"binding": other, "nonce": new_id(), "step": 0}),
        api.ask("POST", f"/v1/approvals/{state['id']}/cancel", {"binding": other}),
    ]
    assert {status for status, _ in answers} == {404}
    assert len({json.dumps(problem) for _, problem in answers}) == 1


def test_an_approval_is_used_once(api: Api) -> None:
    state = api.create()
    status, problem = api.consume(state)
    assert (status, problem["code"]) == (409, "not_approved")
    api.decide(state["id"], "approve")
    status, granted = api.consume(state)
    assert status == 200 and granted["id"] == state["id"]
    claims = api.verified(granted["grant"])
    assert claims.keys() >= {"jti", "iat", "exp", "aud", "approvers"}
    names = ("approval_id", "binding", "policy", "status", "nonce", "step", "escalated")
    assert {name: claims[name] for name in names} == {
        "approval_id": state["id"],
        "binding": state["binding"],
        "policy": "0" * 64,
        "status": "approved",
        "nonce": api.nonce,
        "step": 0,
        "escalated": False,
    }
    assert claims["exp"] == claims["iat"] + 60 and claims["jti"]
    (approver,) = claims["approvers"]
    assert (approver["sub"], approver["roles"]) == ("bob", [ROLE])
    # An answer that was lost may be asked for again; by another it may not.
    assert api.consume(state)[0] == 200
    status, problem = api.consume(state, new_id())
    assert (status, problem["code"]) == (409, "used")
    assert api.read(state)["state"] == "consumed"
    assert api.ask("POST", "/v1/approvals", api.request(binding=state["binding"]))[0] == 201


def test_a_continuation_takes_the_next_step(api: Api) -> None:
    state = api.create()
    api.decide(state["id"], "approve")
    assert api.consume(state, step=1)[0] == 409
    for step in range(10):
        nonce = new_id()
        status, granted = api.consume(state, nonce, step)
        assert status == 200 and api.verified(granted["grant"])["step"] == step
        assert api.consume(state, new_id(), step)[0] == 409
        assert api.consume(state, nonce, step)[0] == 200
    assert api.consume(state, new_id(), 10)[0] in (400, 409)


def test_a_rejection_stays(api: Api) -> None:
    request = api.request()
    _, state = api.ask("POST", "/v1/approvals", request)
    api.decide(state["id"], "reject")
    told = api.read(state)
    assert told["state"] == "rejected"
    claims = api.verified(told["decision"])
    assert (claims["status"], claims["binding"]) == ("rejected", state["binding"])
    assert [approver["sub"] for approver in claims["approvers"]] == ["bob"] and "nonce" not in claims
    assert claims["exp"] == claims["iat"] + 120
    status, problem = api.consume(state)
    assert (status, problem["code"]) == (410, "rejected")
    status, again = api.ask("POST", "/v1/approvals", request)
    assert (status, again["id"], again["state"]) == (200, state["id"], "rejected")


def test_what_expires_is_told_once(api: Api) -> None:
    request = api.request(expires_in=1)
    start = time.monotonic()
    _, state = api.ask("POST", "/v1/approvals", request, wait=10)
    assert state["state"] == "expired" and time.monotonic() - start < 4
    claims = api.verified(state["decision"])
    assert (claims["status"], claims["approvers"]) == ("expired", [])
    assert api.consume(state)[1]["code"] == "expired"
    # Now it was reported; the next one is new.
    assert api.ask("POST", "/v1/approvals", request)[0] == 201


def test_what_expired_in_the_meantime_is_told_once(api: Api) -> None:
    request = api.request(expires_in=1)
    _, state = api.ask("POST", "/v1/approvals", request)
    time.sleep(1.6)
    status, told = api.ask("POST", "/v1/approvals", request)
    assert (status, told["id"], told["state"]) == (200, state["id"], "expired")
    assert api.ask("POST", "/v1/approvals", request)[0] == 201


def test_an_approval_that_is_not_used_expires(api: Api) -> None:
    state = api.create(expires_in=2)
    api.decide(state["id"], "approve")
    time.sleep(2.3)
    status, problem = api.consume(state)
    assert (status, problem["code"]) == (410, "expired")


def test_a_request_that_is_taken_back(api: Api) -> None:
    state = api.create()
    status, told = api.ask("POST", f"/v1/approvals/{state['id']}/cancel", {"binding": state["binding"]})
    assert (status, told["state"]) == (200, "cancelled")
    assert api.verified(told["decision"])["status"] == "cancelled"
    assert api.consume(state)[1]["code"] == "cancelled"
    status, again = api.ask("POST", f"/v1/approvals/{state['id']}/cancel", {"binding": state["binding"]})
    assert (status, again["state"]) == (200, "cancelled")
    assert api.ask("POST", "/v1/approvals", api.request(binding=state["binding"]))[0] == 201


# --- People -----------------------------------------------------------------------------------------------------------


def pending(reference: Reference, caller: Caller, tool: str, arguments: Json) -> Told:
    told = caller.call(tool, arguments)
    assert told.kind != "result" and told.link, told
    return told


@pytest.mark.parametrize("way", [WITH_LINKS, PLAIN, SESSION], ids=str)
def test_end_to_end(reference: Reference, way: Way) -> None:
    caller, approvals, people = reference.caller(way, sub=f"alice-{way}"), reference.approvals, reference.people
    bob, watch = people.person(), Watch(reference.gateway)
    # In time.
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(caller.call, "held", {"n": 1})
        deadline = time.monotonic() + 5
        while not (found := approvals.inbox(bob, state="pending", requester=f"alice-{way}")):
            assert time.monotonic() < deadline
        assert found[0]["call"]["name"] == "held" and found[0]["may_decide"] is True
        assert approvals.decide(found[0]["id"], bob)[0] == 200
        assert held.result().kind == "result"
    # Later.
    told = pending(reference, caller, "gated", {"n": 2})
    assert approvals.decide(told.approval, bob)[0] == 200
    assert caller.again(told, "gated", {"n": 2}).kind == "result"
    # Not at all.
    told = pending(reference, caller, "gated", {"n": 3})
    assert approvals.decide(told.approval, bob, "reject", "not before March")[0] == 200
    last = caller.again(told, "gated", {"n": 3})
    assert last.kind == "tool_error" and "not before March" in last.text
    assert [arguments["n"] for arguments in reference.executed()] == [1, 2]
    envelopes = watch.envelopes(5)
    assert [envelope["record"]["approval"]["status"] for envelope in envelopes] == [
        *("approved", "pending", "approved", "pending", "rejected")
    ]
    assert {envelope["personal"]["approvers"][0]["subject"] for envelope in envelopes[::2]} == {"bob"}


#: Who may not decide, and how that is answered.
UNENTITLED: dict[str, tuple[Callable[[SignIn], str], set[tuple[int, str | None]]]] = {
    "the-requester": (lambda people: people.person("alice"), {(403, "requester")}),
    "through-the-requesters-client": (
        lambda people: people.person("bob", client_id="test-client"),
        {(403, "requesters_agent")},
    ),
    "without-a-role": (lambda people: people.person("bob", "reader"), {(404, None), (403, "role")}),
    "with-a-role-like-it": (lambda people: people.person("bob", ROLE.upper(), ROLE + " "), {(404, None)}),
    "another-client": (lambda people: people.person(client_id="unknown"), {(401, None), (403, None)}),
    "a-token-for-the-tools": (
        lambda people: people.person(aud="https://sqlite.example/mcp"),
        {(401, None), (403, None)},
    ),
    "an-old-token": (lambda people: people.person(iat=1, exp=2), {(401, None), (403, None)}),
    "an-agent-for-bob": (lambda people: people.person(act={"sub": "bot"}), {(401, None), (403, None)}),
    "a-machine": (lambda people: people.person(CLIENT), {(401, None), (403, None)}),
    "a-forger": (lambda _: SignIn().person(), {(401, None), (403, None)}),
    "nobody": (lambda _: "x.y.z", {(401, None), (403, None)}),
}


@pytest.mark.parametrize("who", UNENTITLED)
def test_who_may_not_decide(reference: Reference, who: str) -> None:
    make, expected = UNENTITLED[who]
    caller = reference.caller()
    told = pending(reference, caller, "gated", {"n": who})
    for decision in ("approve", "reject"):
        status, problem = reference.approvals.decide(told.approval, make(reference.people), decision)
        codes = {code for known, code in expected if known == status}
        assert codes, (status, problem)
        assert codes == {None} or problem.get("code") in codes, problem
    assert caller.again(told, "gated", {"n": who}).kind != "result"
    assert not reference.executed()
    # Whoever may, still may.
    assert reference.approvals.decide(told.approval, reference.people.person("carol"))[0] == 200
    assert caller.again(told, "gated", {"n": who}).kind == "result"


def test_two_people_must_approve(reference: Reference) -> None:
    caller, approvals, people = reference.caller(), reference.approvals, reference.people
    told = pending(reference, caller, "twice", {"n": 1})
    assert approvals.decide(told.approval, people.person("bob"))[0] == 200
    assert approvals.decide(told.approval, people.person("bob"))[0] in (403, 409)
    assert caller.call("twice", {"n": 1}).kind == "tool_error" and not reference.executed()
    watch = Watch(reference.gateway)
    assert approvals.decide(told.approval, people.person("carol"))[0] == 200
    assert caller.call("twice", {"n": 1}).kind == "result"
    approvers = watch.envelopes(1)[0]["personal"]["approvers"]
    assert sorted(approver["subject"] for approver in approvers) == ["bob", "carol"]


def test_a_reason_must_be_given(reference: Reference) -> None:
    caller, approvals, bob = reference.caller(), reference.approvals, reference.people.person()
    told = pending(reference, caller, "why", {"n": 1})
    for reason in (None, "", "  "):
        status, problem = approvals.decide(told.approval, bob, "approve", reason)
        assert (status, problem["code"]) == (422, "reason_required")
    assert approvals.decide(told.approval, bob, "approve", "agreed by telephone")[0] == 200
    assert caller.call("why", {"n": 1}).kind == "result"


def test_what_time_brings(reference: Reference) -> None:
    """Others may decide when nobody has for a while; and at last it is too late."""
    caller, approvals, people = reference.caller(), reference.approvals, reference.people
    carol = people.person("carol", ON_CALL)
    watch = Watch(reference.gateway)
    with ThreadPoolExecutor(2) as pool:
        start = time.monotonic()
        late = pool.submit(caller.call, "soon", {"n": 1})
        held = pool.submit(caller.call, "on_call", {"n": 1})
        deadline = start + 5
        while not (found := approvals.inbox(carol, state="pending", tool="on_call")):
            assert time.monotonic() < deadline
        status, problem = approvals.decide(found[0]["id"], carol)
        assert status in (403, 404), problem
        while approvals.decide(found[0]["id"], carol)[0] != 200:
            assert time.monotonic() < deadline, approvals.ask("GET", f"/v1/inbox/{found[0]['id']}", carol)
            time.sleep(0.1)
        # Seconds are whole ones: the first may be a short one.
        assert 0.9 < time.monotonic() - start < 4
        assert held.result().kind == "result"
        told = late.result()
        assert told.kind == "tool_error" and "in time" in told.text and 4 < time.monotonic() - start < 8
    records = {record["target"]["name"]: record["approval"] for record in watch.records(2)}
    assert (records["on_call"]["status"], records["on_call"]["escalated"]) == ("approved", True)
    assert records["soon"]["status"] == "expired"


def test_each_gate_has_its_own_approvers(reference: Reference) -> None:
    caller, approvals, people = reference.caller(), reference.approvals, reference.people
    told = pending(reference, caller, "finance", {"n": 1})
    assert approvals.decide(told.approval, people.person("bob"))[0] in (403, 404)
    assert approvals.decide(told.approval, people.person("dora", "cfo"))[0] == 200
    assert caller.call("finance", {"n": 1}).kind == "result"


# --- Races ------------------------------------------------------------------------------------------------------------


def test_of_two_retries_at_once_on_two_envoys_one_runs(reference: Reference) -> None:
    gateways = (reference.gateway, reference.other)
    callers = [[reference.caller(way, gateway=gateway) for gateway in gateways] for way in (WITH_LINKS, PLAIN)]
    bob = reference.people.person()

    def race(number: int, pool: ThreadPoolExecutor) -> list[str]:
        pair, arguments = callers[number % 2], {"n": number}
        told = pending(reference, pair[number // 2 % 2], "gated", arguments)
        assert reference.approvals.decide(told.approval, bob)[0] == 200
        start = threading.Barrier(2)

        def retry(caller: Caller) -> str:
            post = caller.calling("gated", arguments, **caller.answering(told))
            start.wait(10)
            return caller.send(post, timeout=30).kind

        return list(pool.map(retry, pair))

    # A race's two contestants must not wait for those of another one.
    with ThreadPoolExecutor(8) as outer, ThreadPoolExecutor(16) as inner:
        raced = list(outer.map(lambda number: race(number, inner), range(RACES)))
    assert [kinds.count("result") for kinds in raced] == [1] * RACES
    assert Counter(arguments["n"] for arguments in reference.executed()) == Counter(range(RACES))


# --- Under fire -------------------------------------------------------------------------------------------------------


@dataclass
class Fire:
    """Kills the service at random moments, and starts it again at once: while something is going on, not while all wait
    for it."""

    approvals: Approvals
    rng: random.Random
    #: How much has been achieved.
    progress: Callable[[], int]
    over: threading.Event = field(default_factory=threading.Event)

    def rage(self) -> None:
        """Until it is over."""
        while not self.over.is_set():
            enough = self.progress() + self.rng.randrange(10, 40)
            while self.progress() < enough and not self.over.wait(0.005):
                pass
            time.sleep(self.rng.uniform(0, 0.2))
            self.approvals.kill()
            time.sleep(self.rng.uniform(0, 0.1))
            self.approvals.start()


@dataclass
class Call:
    """What became of one call."""

    number: int
    answers: Counter[str] = field(default_factory=Counter)
    is_rejected: bool = False


@dataclass
class Deciders:
    """People who look into their inbox again and again, and reject one call in ten."""

    approvals: Approvals
    people: SignIn
    decided: dict[str, str] = field(default_factory=dict)
    over: threading.Event = field(default_factory=threading.Event)

    def work(self) -> None:
        """Until it is over."""
        while not self.over.wait(0.03):
            with suppress(OSError, AssertionError):
                for view in self.approvals.inbox(self.people.person(), state="pending", requester=UNDER_FIRE_SUBJECT):
                    is_rejected = is_to_be_rejected(int(view["call"]["arguments"]["/n"]))
                    self.decide(view["id"], "reject" if is_rejected else "approve")

    def decide(self, approval: str, decision: str) -> None:
        """Once more if the answer was lost."""
        self.approvals.decide_despite_everything(approval, self.people.person, decision)
        self.decided[approval] = decision


def is_to_be_rejected(number: int) -> bool:
    return number % 10 == 9


def test_nothing_is_lost_when_it_is_killed_at_random_moments(reference: Reference) -> None:
    seed = random.randrange(1 << 32)
    print(f"\nseed {seed}")
    approvals, people, upstream = reference.approvals, reference.people, reference.gateway.upstream
    gateways = (reference.gateway, reference.other)
    callers = [
        [reference.caller(way, gateway=each, sub=UNDER_FIRE_SUBJECT) for each in gateways]
        for way in (WITH_LINKS, PLAIN)
    ]
    deciders, numbers = Deciders(approvals, people), list(range(UNDER_FIRE))
    fire = Fire(approvals, random.Random(seed), lambda: len(deciders.decided) + len(upstream.requests))
    watches = [Watch(gateway) for gateway in gateways]

    def client(index: int) -> list[Call]:
        """Makes one call after the other."""
        made = []
        with suppress(IndexError):
            while True:
                made.append(call(numbers.pop(), index))
        return made

    def call(number: int, turn: int) -> Call:
        """Does not give up. What is held is approved in time, or comes again."""
        arguments, result = {"n": number}, Call(number)
        tool = "briefly" if number % 3 else "gated"
        told, deadline = None, time.monotonic() + 90
        while True:
            caller = callers[number % 2][turn % 2]
            assert time.monotonic() < deadline, (number, result)
            told = caller.again(told, tool, arguments) if told else caller.call(tool, arguments)
            result.answers[told.kind] += 1
            result.is_rejected = "reject" in told.text.lower()
            if told.kind == "result" or result.is_rejected:
                return result
            if not told.link:
                # The service was away, or the approval is spent: from the beginning, through the other gateway.
                told, turn = None, turn + 1
            time.sleep(0.1)

    with ExitStack() as stack, ThreadPoolExecutor(CLIENTS) as pool:
        threads = [threading.Thread(target=work) for work in (fire.rage, deciders.work)]
        for thread in threads:
            thread.start()
            stack.callback(thread.join)
        stack.callback(deciders.over.set)
        stack.callback(fire.over.set)
        calls = [call for made in pool.map(client, range(CLIENTS)) for call in made]
    kills, decided = approvals.kills, deciders.decided
    assert kills >= 5, "it was killed"

    # None was executed twice, none without approval, and all that were approved were executed.
    executed = Counter(arguments["n"] for arguments in reference.executed())
    rejected = {number for number in range(UNDER_FIRE) if is_to_be_rejected(number)}
    assert {call.number for call in calls if call.is_rejected} == rejected
    assert executed == Counter(set(range(UNDER_FIRE)) - rejected), "each once"
    bob = people.person()
    found = {approval: approvals.ask("GET", f"/v1/inbox/{approval}", bob) for approval in decided}
    # None was lost: all that people decided about is there, with their decision.
    assert {status for status, _ in found.values()} == {200}
    for approval, decision in decided.items():
        votes = found[approval][1]["votes"]
        assert [(vote["sub"], vote["decision"]) for vote in votes] == [("bob", decision)], approval
    records = [record for watch in watches for record in records_of(watch)]
    granted = [record["approval"]["id"] for record in records if record["verdict"] == "allow"]
    assert len(granted) == len(set(granted)) == len(executed)
    for approval in granted:
        assert decided[approval] == "approve" and found[approval][1]["state"] == "consumed"
    # And all that clients were told of.
    told = {record["approval"]["id"] for record in records if "id" in record.get("approval", {})}
    assert told <= decided.keys()
    # What was used up without a call because its answer was lost is rare: a gateway asks for it once more.
    views = [view for _, view in found.values()]
    spent = [view["id"] for view in views if view["state"] == "consumed" and view["id"] not in granted]
    print(Counter(record["reason"] for record in records))
    print(f"{kills} kills, {len(decided)} approvals, {len(spent)} spent, {sum((c.answers for c in calls), Counter())}")
    assert len(spent) <= kills
    done = approvals.verify_history()
    assert done.returncode == 0, done.stdout + done.stderr


def records_of(watch: Watch) -> list[Json]:
    """All there are by now."""
    seen = -1
    while seen != (seen := len(watch._new())):
        time.sleep(0.5)
    return [json.loads(line)["record"] for line in watch._new()]


def test_the_logs_know_who_approved(reference: Reference) -> None:
    """Whoever is asked later finds it in the records alone."""
    envelopes = [
        json.loads(line) for gateway in (reference.gateway, reference.other) for line in lines_of(gateway.audit_log)
    ]
    allowed = [envelope for envelope in envelopes if envelope["record"].get("approval", {}).get("status") == "approved"]
    assert allowed
    for envelope in allowed:
        assert envelope["personal"]["approvers"], envelope["record"]["id"]
        assert envelope["record"]["approval"]["id"]

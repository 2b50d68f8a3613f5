"""A gateway whose tools need approvals, with the service that it asks, and what came of the calls."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from . import messages
from .approval_service import Approval, ApprovalService
from .callers import PLAIN, Caller, Told, Way
from .gateway import Adjust, Envoy, Gateway, free_port
from .issuer import Issuer
from .policy import Policy, policy
from .recorder import Recorder
from .trail import Record, Watch

Json = dict[str, Any]

#: Who may approve beside the others when nobody has for a while.
ON_CALL = "security_oncall"
#: What is gated, and how.
RULES: list[Json] = [
    {"tools": ["free"], "scopes": []},
    {"tools": ["gated"], "scopes": [], "approval": {"escalate": {"after": "5m", "approvers": [ON_CALL]}}},
    {"tools": ["also_gated"], "scopes": [], "approval": {}},
    {"tools": ["held"], "scopes": [], "approval": {"hold": "10s"}},
    {"tools": ["briefly"], "scopes": [], "approval": {"hold": "1s"}},
    {"tools": ["bulk"], "scopes": [], "approval": {"when": "size(arguments.contacts) > 50"}},
    {"tools": ["scoped"], "scopes": ["messages:write"], "approval": {}},
    {"prompts": ["gated"], "scopes": [], "approval": {}},
    {"resources": ["norg://gated/*"], "scopes": [], "approval": {}},
]
#: What the code of a reason begins with, and its metric does not.
REASONS = "approval_"
METRICS = "wasmcustom.toolgate.approvals."


def gated_policy(issuer: Issuer, service: ApprovalService, approval: Json, **changes: Any) -> Policy:
    """The common policy with gates; `approval` is its section. Its resource is its own, and so are its records."""
    claims = {"tenant": ["tenant_id"], "agent": ["agent_role"]}
    own = {"resource": {"uri": service.resource}, "rules": RULES, "approval": approval}
    return policy(issuer.document(claims=claims), **own | changes)


@dataclass(frozen=True)
class Gated:
    """A gateway and its approval service."""

    gateway: Gateway
    service: ApprovalService
    issuer: Issuer

    def caller(self, way: Way = PLAIN, *scopes: str, gateway: Gateway | None = None, **claims: Any) -> Caller:
        """Alice, through the usual client, unless claims say otherwise."""
        token = self.issuer.token(*scopes, **{"aud": self.service.resource} | claims)
        return Caller.arriving(gateway or self.gateway, token, way, self.service.page)

    def executed(self) -> list[Json]:
        """The arguments of the calls that reached the server, in order."""
        return [arguments_of(request.body) for request in self.gateway.upstream.requests]

    def pending(self, caller: Caller, tool: str = "gated", arguments: Json | None = None) -> tuple[Told, Approval]:
        """Calls a tool for which nobody decides in time; what the caller is told, and the approval."""
        told = caller.call(tool, arguments)
        assert told.kind != "result", told
        approval = self.service.newest()
        assert approval.state == "pending"
        return told, approval

    @contextmanager
    def counting(self) -> Iterator[Counter[str]]:
        """Fills in how the counters of approvals changed."""
        changed: Counter[str] = Counter()
        before = self.metrics()
        yield changed
        after = self.metrics()
        changed.update({name: after[name] - before[name] for name in after if after[name] != before[name]})

    def metrics(self) -> Counter[str]:
        """Counters and gauges of approvals."""
        found = self.gateway.envoy.counters(f"^{METRICS.replace('.', '[.]')}")
        return Counter({name.removeprefix(METRICS): value for name, value in found.items()})


NewGated = Callable[..., Gated]


def arguments_of(body: bytes) -> Json:
    """The arguments of a call."""
    arguments: Json = json.loads(body)["params"].get("arguments") or {}
    return arguments


def beside(
    envoy: Envoy,
    document: Policy,
    issuer: Issuer,
    adjust: Adjust = lambda listener: None,
    upstream: Recorder | None = None,
) -> Gateway:
    """A gateway on an Envoy that is not the shared one."""
    gateway = Gateway(envoy, document, upstream or Recorder(), free_port(), (issuer,), adjust=adjust)
    gateway.load()
    warm_up(gateway, issuer)
    return gateway


def warm_up(gateway: Gateway, issuer: Issuer) -> None:
    """Each worker fetches the keys, so that no call of a test waits for them."""
    token = issuer.token(aud=gateway.policy["resource"]["uri"])
    for _ in range(4 * gateway.envoy.workers):
        gateway.send(messages.call("unheard_of"), token)
    assert not gateway.upstream.requests


@contextmanager
def refused(gated: Gated, reason: str, told: list[Told], **record: Any) -> Iterator[None]:
    """Within it one call is refused for this reason: in the answer, in the counters and on record; nothing goes on."""
    watch = Watch(gated.gateway)
    upstream = len(gated.gateway.upstream.requests)
    with gated.gateway.deciding() as decided, gated.counting() as counted:
        yield
    assert decided == {f"deny.{reason}": 1}, decided
    assert counted[reason.removeprefix(REASONS)] == 1, counted
    assert counted["granted"] == 0, counted
    assert len(gated.gateway.upstream.requests) == upstream
    found = watch.one()
    assert (found["verdict"], found["reason"]) == ("deny", reason), found
    assert found["id"] == told[-1].decision
    assert_recorded(found, **record)


def assert_recorded(record: Record, **members: Any) -> None:
    """What the record says of the approval."""
    approval = {"escalated": False, "step": 0} | record.get("approval", {})
    assert {name: approval.get(name) for name in members} == members, record

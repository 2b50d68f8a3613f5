"""An approval service that tests can script: it keeps the contract of `approvals/openapi.yaml`, or breaks it on demand.

It runs in a thread of its own, on one event loop, so that everything it does is atomic and a thousand held requests
cost it nothing. Whatever a gateway sends that the contract does not know is kept in `violations`.
"""

import asyncio
import json
import re
import secrets
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar
from urllib.parse import parse_qs, urlsplit

import stack
from stack import LOOPBACK

from .jose import Key, compact, pooled

#: How often a call that was approved may be continued after its server asked for more.
MAX_STEPS = 10
#: Seconds in which a consumption may be asked for again, and in which an end is reported.
AGAIN, REPORTED = 60, 600

HEX_64, HEX_32 = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{32}")
REQUEST = {
    "required": {
        *("binding", "audience", "policy", "decision_id", "requester", "call", "requirements"),
        *("reason_required", "expires_in"),
    },
    "optional": {"escalated_from"},
}
REQUESTER = {
    "required": {"issuer", "subject", "roles", "actors"},
    "optional": {"client_id", "agent", "tenant"},
}
CALL = {"required": {"revision", "method", "kind", "name", "arguments", "withheld"}, "optional": {"purpose"}}
REQUIREMENT = {"required": {"gate", "name", "approvers", "count"}, "optional": {"escalate"}}
ESCALATE = {"required": {"after", "approvers"}, "optional": set[str]()}

Json = dict[str, Any]
Result = TypeVar("Result")


class Refused(Exception):
    """An answer with a problem in it."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


class Vote(NamedTuple):
    """What a person said."""

    issuer: str
    subject: str
    role: str
    at: int


@dataclass
class Approval:
    """One approval."""

    id: str
    request: Json
    created_at: int
    expires_at: float
    state: str = "pending"
    escalated: bool = False
    step: int = 0
    votes: list[Vote] = field(default_factory=list)
    reason: str | None = None
    ended_at: float = 0
    consumed_at: float = 0
    is_reported: bool = False
    #: How often its state was asked for, its creation included.
    polls: int = 0
    #: By step, the nonce that took it, and when.
    taken: dict[int, tuple[str, float]] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    @property
    def binding(self) -> str:
        """What it is for."""
        binding: str = self.request["binding"]
        return binding

    @property
    def arguments(self) -> Json:
        """What approvers are shown."""
        arguments: Json = self.request["call"]["arguments"]
        return arguments


@dataclass(frozen=True)
class Draft:
    """A decision that is about to be signed."""

    header: Json
    claims: Json
    key: Key

    def signed(self, key: Key | None = None, header: Json | None = None, **claims: Any) -> str:
        """With other claims; one that is None is left out."""
        told = {name: value for name, value in (self.claims | claims).items() if value is not None}
        head = {name: value for name, value in (self.header | (header or {})).items() if value is not None}
        return compact(head, told, key or self.key)


@dataclass
class Exchange:
    """A request, and the connection to answer on."""

    service: "ApprovalService"
    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    writer: asyncio.StreamWriter

    async def normally(self) -> tuple[int, bytes]:
        """What it would do and answer if it were well."""
        return await self.service.handle(self)

    def send(self, status: int, body: bytes, kind: str = "application/json", **headers: str) -> None:
        """Answers."""
        self.writer.write(self.head(status, len(body), kind, **headers) + body)

    @staticmethod
    def head(status: int, length: int, kind: str = "application/json", **headers: str) -> bytes:
        """The headers of an answer."""
        lines = {"content-type": kind, "content-length": str(length)} | headers
        text = f"HTTP/1.1 {status} Scripted\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return text.encode() + b"\r\n"

    def reset(self) -> None:
        """Ends the connection with a reset."""
        connection: socket.socket = self.writer.get_extra_info("socket")
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Fault = Callable[[Exchange], Awaitable[None]]


def says(status: int, body: bytes | str, kind: str = "application/json", **headers: str) -> Fault:
    """Always this answer."""
    data = body if isinstance(body, bytes) else body.encode()

    async def fault(exchange: Exchange) -> None:
        exchange.send(status, data, kind, **headers)

    return fault


def altered(change: Callable[[Json], Any]) -> Fault:
    """The right answer, changed; `change` gives what is sent instead."""

    async def fault(exchange: Exchange) -> None:
        status, body = await exchange.normally()
        changed = change(json.loads(body))
        exchange.send(status, changed if isinstance(changed, bytes) else json.dumps(changed).encode())

    return fault


async def resets(exchange: Exchange) -> None:
    """A reset instead of an answer, and nothing was done."""
    exchange.reset()


async def loses_the_answer(exchange: Exchange) -> None:
    """It is done, but nobody learns of it."""
    await exchange.normally()
    exchange.reset()


async def resets_in_the_middle(exchange: Exchange) -> None:
    """Half of an answer, and a reset."""
    status, body = await exchange.normally()
    exchange.writer.write(exchange.head(status, len(body)) + body[: len(body) // 2])
    await exchange.writer.drain()
    # Envoy is to see what came before.
    await asyncio.sleep(0.05)
    exchange.reset()


async def closes_in_the_middle(exchange: Exchange) -> None:
    """Half of an answer, and an orderly end."""
    status, body = await exchange.normally()
    exchange.writer.write(exchange.head(status, len(body)) + body[: len(body) // 2])
    exchange.writer.close()


async def never_answers(exchange: Exchange) -> None:
    """Silence."""
    await asyncio.sleep(3600)


async def drips(exchange: Exchange) -> None:
    """An answer that begins at once and does not end in time."""
    status, body = await exchange.normally()
    exchange.writer.write(exchange.head(status, len(body)))
    for position in range(len(body)):
        exchange.writer.write(body[position : position + 1])
        await asyncio.sleep(0.5)


def slow(seconds: float) -> Fault:
    """The right answer, late: what is to be done is done at once."""

    async def fault(exchange: Exchange) -> None:
        status, body = await exchange.normally()
        await asyncio.sleep(seconds)
        exchange.send(status, body)

    return fault


class ApprovalService:
    """A listening approval service."""

    def __init__(self, token: str, *, alg: str = "EdDSA", listen: bool = True) -> None:
        self.token = token
        #: Those that it signs with; the first one does.
        self.keys = [pooled(alg, 100)]
        self.issuer = "https://approvals.norg.example"
        #: In front of all its paths.
        self.prefix = ""
        #: Lifetimes of approvals instead of those that are asked for, in seconds.
        self.lifetime: float | None = None
        #: What becomes of each approval, from its creation on: `service.script = approves(after=0.2)`.
        self.script: Callable[[ApprovalService, Approval], None] | None = None
        #: Signs in its place.
        self.forge: Callable[[Draft], Any] | None = None
        self.violations: list[str] = []
        #: How often each endpoint was asked, and what came of it: `create`, `created`, `attached`, `consume`, `used`...
        self.counts: Counter[str] = Counter()
        #: Every request: method, target and headers.
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        #: Gateways that wait at the moment, and the most that ever did.
        self.waiting = self.most_waiting = 0
        self.approvals: dict[str, Approval] = {}
        self._bound: dict[str, list[Approval]] = {}
        self._faults: dict[str, tuple[Fault, int | None]] = {}
        self._connections: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._server: asyncio.Server | None = None
        self.port = 0
        self.up()
        if not listen:
            self.down()
        self.cluster = f"approvals-{self.port}"
        #: The resource whose gateway it is for.
        self.resource = f"https://gated-{self.port}.example/mcp"
        #: Of links: page and id.
        self.page = f"http://{LOOPBACK}:{self.port}/approvals/"

    # --- For policies -------------------------------------------------------------------------------------------------

    def jwks(self) -> Json:
        """Its public keys."""
        return {"keys": [key.jwk() for key in self.keys]}

    def location(self, **changes: Any) -> Json:
        """What a policy says of where it is and whom to believe."""
        return {
            "cluster": self.cluster,
            "issuer": self.issuer,
            "decision_keys": self.jwks(),
            "page": self.page,
        } | changes

    def document(self, **changes: Any) -> Json:
        """The section of a policy that names it. Nothing is held, so that tests go on at once."""
        times = {"timeout": "1s", "hold": "0s", "expires": "10m"}
        return self.location() | times | {"approvers": ["automation_admin"]} | changes

    def envoy_cluster(self) -> Json:
        """Its cluster, as the reference configuration has it."""
        return cluster_of(self.cluster, self.port)

    # --- What tests do ------------------------------------------------------------------------------------------------

    def do(self, work: Callable[[], Result]) -> Result:
        """Runs something where all else runs, and waits for it."""

        async def run() -> Result:
            return work()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(30)

    def later(self, seconds: float, work: Callable[[], Any]) -> None:
        """Runs something there after a time."""
        self._loop.call_soon_threadsafe(lambda: self._loop.call_later(seconds, work))

    def approve(self, approval: str, subject: str = "bob", role: str = "automation_admin") -> None:
        """A person approves, and no other one is needed."""
        self.do(lambda: self._vote(self.approvals[approval], "approved", subject, role, None))

    def reject(self, approval: str, reason: str | None = None, subject: str = "bob") -> None:
        """A person rejects."""
        self.do(lambda: self._vote(self.approvals[approval], "rejected", subject, "automation_admin", reason))

    def expire(self, approval: str) -> None:
        """Its time is over."""
        self.do(lambda: self._end(self.approvals[approval], "expired"))

    def cancel(self, approval: str) -> None:
        """It is taken back."""
        self.do(lambda: self._end(self.approvals[approval], "cancelled"))

    def escalate(self, approval: str) -> None:
        """Others are asked now."""

        def work() -> None:
            self.approvals[approval].escalated = True

        self.do(work)

    def approve_all(self, subject: str = "bob") -> int:
        """A person approves whatever is pending; gives how many that were."""

        def work() -> int:
            pending = [approval for approval in self.approvals.values() if approval.state == "pending"]
            for approval in pending:
                self._vote(approval, "approved", subject, "automation_admin", None)
            return len(pending)

        return self.do(work)

    def only(self) -> Approval:
        """The one approval that there is."""
        assert len(self.approvals) == 1, self.approvals
        return next(iter(self.approvals.values()))

    def newest(self) -> Approval:
        """The one that was made last."""
        return list(self.approvals.values())[-1]

    def wait_for(self, what: str, count: int = 1, seconds: float = 10) -> None:
        """Waits until a count is reached."""
        deadline = time.monotonic() + seconds
        while self.counts[what] < count:
            assert time.monotonic() < deadline, f"{what}: {self.counts[what]} instead of {count}; {dict(self.counts)}"
            time.sleep(0.005)

    def fail(self, endpoint: str, fault: Fault, times: int | None = None) -> None:
        """`create`, `read`, `consume`, `cancel` or `*` goes wrong from now on, or this often."""
        self.do(lambda: self._faults.__setitem__(endpoint, (fault, times)))

    @contextmanager
    def failing(self, endpoint: str, fault: Fault) -> Iterator[None]:
        """For a while."""
        self.fail(endpoint, fault)
        try:
            yield
        finally:
            self.recover()

    def recover(self) -> None:
        """All is well again."""
        self.do(self._faults.clear)
        self.forge = None
        if not self._server:
            self.up()

    def forget(self) -> None:
        """Starts afresh, for the next test."""
        self.recover()

        def work() -> None:
            self.approvals.clear()
            self._bound.clear()
            self.counts.clear()
            self.seen.clear()
            self.script = None
            self.lifetime = None
            self.most_waiting = self.waiting

        self.do(work)

    def up(self) -> None:
        """Accepts connections, on the port that it always had."""

        async def work() -> None:
            self._server = await asyncio.start_server(
                self._serve, LOOPBACK, self.port, backlog=2048, limit=1 << 20, reuse_address=True
            )
            self.port = self._server.sockets[0].getsockname()[1]

        asyncio.run_coroutine_threadsafe(work(), self._loop).result(10)

    def down(self) -> None:
        """Refuses connections; those that there are break."""

        async def work() -> None:
            assert self._server
            self._server.close()
            self._server = None
            for writer in list(self._connections):
                writer.transport.abort()

        asyncio.run_coroutine_threadsafe(work(), self._loop).result(10)

    # --- What it does -------------------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                held = b""
                while True:
                    exchange = await self._read(held, reader, writer)
                    self.seen.append((exchange.method, exchange.target, exchange.headers))
                    endpoint = self._endpoint(exchange)
                    self.counts[endpoint] += 1
                    fault = self._take_fault(endpoint)
                    # A gateway that is gone waits for nothing.
                    work = asyncio.ensure_future(fault(exchange) if fault else self._answer(exchange))
                    gone = asyncio.ensure_future(reader.read(1))
                    await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
                    has_answered = work.done()
                    for task in (work, gone):
                        task.cancel()
                    outcome, ahead = await asyncio.gather(work, gone, return_exceptions=True)
                    if not has_answered:
                        self.counts["left"] += 1
                        return
                    if isinstance(outcome, Exception) and not isinstance(outcome, ConnectionError):
                        self.violations.append(f"{outcome!r} in {exchange.method} {exchange.target}")
                        return
                    await writer.drain()
                    if isinstance(ahead, Exception) or ahead == b"":
                        return
                    # The next request may be there already, the first byte of it.
                    held = ahead if isinstance(ahead, bytes) else b""
        finally:
            self._connections.discard(writer)
            writer.close()

    @staticmethod
    async def _answer(exchange: Exchange) -> None:
        exchange.send(*await exchange.normally())

    async def _read(self, held: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Exchange:
        head = (held + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip("\r\n").split("\r\n")
        method, target, _ = first.split(" ", 2)
        pairs = [line.partition(":") for line in lines]
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        if headers.get("transfer-encoding", "").lower() == "chunked":
            body = b""
            while size := int(await reader.readuntil(b"\r\n"), 16):
                body += await reader.readexactly(size)
                await reader.readexactly(2)
            await reader.readexactly(2)
        else:
            body = await reader.readexactly(int(headers.get("content-length", "0")))
        return Exchange(self, method, target, headers, body, writer)

    def _take_fault(self, endpoint: str) -> Fault | None:
        for name in (endpoint, "*"):
            fault, times = self._faults.get(name, (None, None))
            if fault and times != 0:
                self._faults[name] = (fault, times - 1 if times is not None else None)
                return fault
        return None

    def _path(self, exchange: Exchange) -> list[str]:
        path = urlsplit(exchange.target).path
        if not path.startswith(self.prefix + "/"):
            return []
        return path.removeprefix(self.prefix).split("/")[1:]

    def _endpoint(self, exchange: Exchange) -> str:
        match exchange.method, self._path(exchange):
            case "POST", ["v1", "approvals"]:
                return "create"
            case "GET", ["v1", "approvals", _]:
                return "read"
            case "POST", ["v1", "approvals", _, ("consume" | "cancel") as what]:
                return what
            case "POST", ["approvals", _]:
                return "page"
        return "unknown"

    async def handle(self, exchange: Exchange) -> tuple[int, bytes]:
        """The contract."""
        endpoint, path = self._endpoint(exchange), self._path(exchange)
        try:
            if endpoint == "page":
                # What a person does who follows the link; `?reject` to reject.
                approval = self.approvals[path[1]]
                said = "rejected" if exchange.target.endswith("?reject") else "approved"
                self._vote(approval, said, "bob", "automation_admin", None)
                return 204, b""
            if exchange.headers.get("authorization") != f"Bearer {self.token}":
                raise Refused(401, "credential")
            if endpoint == "unknown":
                raise Refused(404, "not_found")
            content = self._content(exchange) if exchange.method == "POST" else {}
            if endpoint == "create":
                return await self._create(exchange, content)
            if endpoint == "read":
                query = parse_qs(urlsplit(exchange.target).query)
                approval = self._find(path[2], query.get("binding", [""])[0])
                return 200, await self._state(approval, self._wait(exchange))
            if endpoint == "consume":
                approval = self._find(path[2], self._member(content, "binding", HEX_64))
                return 200, self._consume(approval, content)
            approval = self._find(path[2], self._member(content, "binding", HEX_64))
            if approval.state == "pending":
                self._end(approval, "cancelled")
                approval.is_reported = True
            return 200, self._told(approval)
        except Refused as refused:
            if refused.status in (400, 401, 403):
                shown = exchange.body[:2000].decode(errors="replace")
                self.violations.append(f"{refused} in {exchange.method} {exchange.target}: {shown}")
            self.counts[refused.code] += 1
            problem = {"title": refused.code, "status": refused.status, "code": refused.code, "detail": ""}
            return refused.status, json.dumps(problem).encode()

    def _content(self, exchange: Exchange) -> Json:
        if len(exchange.body) > 65536:
            self.violations.append(f"{len(exchange.body)} bytes")
            raise Refused(413, "too_large")
        if not exchange.headers.get("content-type", "").startswith("application/json"):
            raise Refused(400, f"content-type {exchange.headers.get('content-type')}")
        try:
            content = json.loads(exchange.body)
        except ValueError:
            raise Refused(400, "no JSON") from None
        if not isinstance(content, dict):
            raise Refused(400, "no object")
        return content

    @staticmethod
    def _member(content: Json, name: str, pattern: re.Pattern[str]) -> str:
        value = content.get(name)
        if not (isinstance(value, str) and pattern.fullmatch(value)):
            raise Refused(400, name)
        return value

    @staticmethod
    def _wait(exchange: Exchange) -> float:
        prefer = exchange.headers.get("prefer")
        if prefer is None:
            return 0
        found = re.fullmatch(r"wait=(\d{1,2})", prefer)
        if not found or int(found[1]) > 55:
            raise Refused(400, f"prefer: {prefer}")
        return int(found[1])

    async def _create(self, exchange: Exchange, content: Json) -> tuple[int, bytes]:
        check_request(content)
        if content["audience"] != self.resource:
            raise Refused(403, f"audience {content['audience']}")
        wait = self._wait(exchange)
        approval = self._to_attach(content["binding"])
        is_new = approval is None
        if approval is None:
            lifetime = content["expires_in"] if self.lifetime is None else self.lifetime
            now = time.time()
            approval = Approval(secrets.token_urlsafe(18), content, int(now), now + lifetime)
            self.approvals[approval.id] = approval
            self._bound.setdefault(approval.binding, []).append(approval)
            if self.script:
                self.script(self, approval)
        self.counts["created" if is_new else "attached"] += 1
        return 201 if is_new else 200, await self._state(approval, wait)

    def _to_attach(self, binding: str) -> Approval | None:
        for approval in reversed(self._bound.get(binding, [])):
            self._check_time(approval)
            match approval.state:
                case "pending" | "approved":
                    return approval
                case "rejected" if time.time() < approval.expires_at:
                    return approval
                case "expired" | "cancelled":
                    if not approval.is_reported and time.time() < approval.ended_at + REPORTED:
                        return approval
            return None
        return None

    def _find(self, name: str, binding: str) -> Approval:
        approval = self.approvals.get(name)
        if approval is None or approval.binding != binding:
            raise Refused(404, "not_found")
        self._check_time(approval)
        return approval

    async def _state(self, approval: Approval, wait: float) -> bytes:
        approval.polls += 1
        if self.script:
            self.script(self, approval)
        deadline = time.monotonic() + wait
        self.waiting += 1
        self.most_waiting = max(self.most_waiting, self.waiting)
        try:
            while approval.state == "pending":
                left = min(deadline - time.monotonic(), 3600)
                if left <= 0:
                    break
                until_expiry = max(approval.expires_at - time.time(), 0) + 0.01
                with suppress(TimeoutError):
                    await asyncio.wait_for(approval.changed.wait(), min(left, until_expiry))
                self._check_time(approval)
        finally:
            self.waiting -= 1
        return self._told(approval)

    def _told(self, approval: Approval) -> bytes:
        told: Json = {
            "id": approval.id,
            "binding": approval.binding,
            "state": approval.state,
            "created_at": approval.created_at,
            "expires_at": int(approval.expires_at),
            "escalated": approval.escalated,
            "step": approval.step,
        }
        if approval.state in ("rejected", "expired", "cancelled"):
            approval.is_reported = True
            told["decision"] = self._sign(approval, approval.state)
        return json.dumps(told).encode()

    def _consume(self, approval: Approval, content: Json) -> bytes:
        if content.keys() != {"binding", "nonce", "step"}:
            raise Refused(400, f"members {sorted(content)}")
        nonce, step, now = self._member(content, "nonce", HEX_32), content["step"], time.time()
        if type(step) is not int or not 0 <= step <= MAX_STEPS:
            raise Refused(400, "step")
        if step == MAX_STEPS:
            raise Refused(409, "used")
        if step in approval.taken:
            by, at = approval.taken[step]
            if by != nonce or now > at + AGAIN:
                raise Refused(409, "used")
            self.counts["granted_again"] += 1
        else:
            if approval.state == "pending":
                raise Refused(409, "not_approved")
            if approval.state in ("rejected", "expired", "cancelled"):
                raise Refused(410, approval.state)
            if step != approval.step or (step and (approval.state != "consumed" or now > approval.consumed_at + 3600)):
                raise Refused(409, "used")
            approval.taken[step] = (nonce, now)
            approval.step = step + 1
            if step == 0:
                approval.state, approval.consumed_at = "consumed", now
            self.counts["consumed"] += 1
        grant = self._sign(approval, "approved", nonce=nonce, step=step)
        return json.dumps({"id": approval.id, "grant": grant}).encode()

    def _sign(self, approval: Approval, status: str, **more: Any) -> Any:
        key, now = self.keys[0], int(time.time())
        approvers = [
            {"iss": vote.issuer, "sub": vote.subject, "roles": [vote.role], "at": vote.at} for vote in approval.votes
        ]
        claims: Json = {
            "iss": self.issuer,
            "aud": approval.request["audience"],
            "iat": now,
            "exp": now + (60 if status == "approved" else 120),
            "jti": secrets.token_hex(16),
            "approval_id": approval.id,
            "binding": approval.binding,
            "policy": approval.request["policy"],
            "status": status,
            "approvers": approvers if status in ("approved", "rejected") else [],
            "escalated": approval.escalated,
            **more,
        }
        if approval.reason is not None:
            claims["reason"] = approval.reason
        draft = Draft({"alg": key.alg, "typ": "approval+jwt", "kid": key.kid}, claims, key)
        return self.forge(draft) if self.forge else draft.signed()

    def _check_time(self, approval: Approval) -> None:
        if approval.state in ("pending", "approved") and time.time() >= approval.expires_at:
            self._end(approval, "expired")

    def _vote(self, approval: Approval, state: str, subject: str, role: str, reason: str | None) -> None:
        if approval.state != "pending":
            return
        approval.votes = [Vote("https://people.norg.example", subject, role, int(time.time()))]
        approval.reason = reason
        self._end(approval, state)

    def _end(self, approval: Approval, state: str) -> None:
        approval.state, approval.ended_at = state, time.time()
        approval.changed.set()


# --- Scripts ----------------------------------------------------------------------------------------------------------

Script = Callable[[ApprovalService, Approval], None]


def decides(decide: Callable[[ApprovalService, Approval], None], *, after: float = 0, polls: int = 0) -> Script:
    """Decides on each approval once: some time after it was created, or when it is asked for so often."""

    def script(service: ApprovalService, approval: Approval) -> None:
        if polls:
            if approval.polls == polls:
                decide(service, approval)
        elif approval.polls == 0 and after:
            service.later(after, lambda: decide(service, approval))
        elif approval.polls == 0:
            decide(service, approval)

    return script


def approves(*, after: float = 0, polls: int = 0, subject: str = "bob") -> Script:
    """Approves."""
    return decides(
        lambda service, approval: service._vote(approval, "approved", subject, "automation_admin", None),
        after=after,
        polls=polls,
    )


def rejects(reason: str | None = None, *, after: float = 0) -> Script:
    """Rejects."""
    return decides(
        lambda service, approval: service._vote(approval, "rejected", "bob", "automation_admin", reason), after=after
    )


def expires(*, after: float = 0) -> Script:
    """Lets it expire."""
    return decides(lambda service, approval: service._end(approval, "expired"), after=after)


# --- The contract -----------------------------------------------------------------------------------------------------


def check_request(content: Json) -> None:
    """Refuses what the contract does not say."""
    members("request", content, REQUEST)
    members("requester", content["requester"], REQUESTER)
    members("call", content["call"], CALL)
    for name in ("binding", "policy"):
        must(HEX_64.fullmatch(str(content[name])), name)
    must(HEX_32.fullmatch(content["decision_id"]), "decision_id")
    must(type(content["expires_in"]) is int and 1 <= content["expires_in"] <= 86400, "expires_in")
    must(type(content["reason_required"]) is bool, "reason_required")
    requester, call = content["requester"], content["call"]
    must(all(isinstance(value, str) for name, value in requester.items() if name not in ("roles", "actors")), "texts")
    for name in ("roles", "actors"):
        must(all(isinstance(value, str) for value in requester[name]), name)
    must(call["kind"] in ("tool", "prompt", "resource"), "kind")
    must(type(call["withheld"]) is bool, "withheld")
    scalars = (str, int, float, bool)
    shown = call["arguments"]
    must(isinstance(shown, dict) and all(key == "" or key.startswith("/") for key in shown), "pointers")
    must(all(isinstance(value, scalars) for value in shown.values()), "values of arguments")
    must(bool(content["requirements"]), "requirements")
    for requirement in content["requirements"]:
        members("requirement", requirement, REQUIREMENT)
        must(requirement["gate"] in ("rule", "agent", "risk"), "gate")
        must(type(requirement["count"]) is int and requirement["count"] >= 1, "count")
        must(bool(requirement["approvers"]), "approvers")
        if "escalate" in requirement:
            members("escalate", requirement["escalate"], ESCALATE)


def members(what: str, content: Any, known: dict[str, set[str]]) -> None:
    must(isinstance(content, dict), f"{what} is an object")
    missing, unknown = known["required"] - content.keys(), content.keys() - known["required"] - known["optional"]
    must(not missing and not unknown, f"{what}: without {sorted(missing)}, with {sorted(unknown)}")


def must(holds: Any, what: str) -> None:
    if not holds:
        raise Refused(400, what)


def cluster_of(name: str, port: int) -> Json:
    """A cluster for an approval service, as the reference configuration has it."""
    clusters = stack.load_document(stack.REFERENCE_CONFIG)["static_resources"]["clusters"]
    cluster: Json = stack.named(clusters, "approvals")
    cluster["name"] = cluster["load_assignment"]["cluster_name"] = name
    stack.set_endpoint(cluster, stack.Address(LOOPBACK, port))
    return cluster

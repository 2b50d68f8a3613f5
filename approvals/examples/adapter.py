#!/usr/bin/env python3
"""Puts a system of yours behind Toolgate's approvals: the gateway's part of approvals/openapi.yaml, and nothing else.

    pip install joserfc
    ./adapter.py keygen key.json > jwks.json        # jwks.json is `approval.decision_keys` of the policy
    export TOOLGATE_APPROVAL_TOKEN=$(openssl rand -base64 32)     # the gateway has the same
    ./adapter.py serve --key key.json --issuer https://approvals.example --audience https://mcp.example/mcp --desk desk

What to replace is the desk: a function that gets an approval and returns the votes so far. It is asked again and again
while the approval is pending, with the same `id`: open a ticket the first time, look at it later. Two are here:

    --desk DIRECTORY     each approval is a file there; a person writes votes into it
    --command PROGRAM    gets the approval as JSON on standard input, writes a list of votes to standard output

A vote is {"sub": "carol", "iss": "https://idp.example", "roles": ["automation_admin"], "decision": "approve"}, and
may have a "reason". The desk vouches for it: who it is, and which roles that person has, must come from a sign-in, not
from what somebody typed. Counting votes, and who may not vote, is done here. No TLS: put it behind a proxy that has it.
"""

import argparse
import hmac
import json
import os
import re
import secrets
import sqlite3
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from joserfc import jws
from joserfc.errors import SecurityWarning
from joserfc.jwk import OKPKey

warnings.simplefilter("ignore", SecurityWarning)  # RFC 9864 has a new name for EdDSA, which the contract does not use

SCHEMA = """CREATE TABLE IF NOT EXISTS approvals (
    id TEXT PRIMARY KEY, binding TEXT NOT NULL, audience TEXT NOT NULL, request TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'pending', created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL, ended_at INTEGER,
    reported INTEGER NOT NULL DEFAULT 0, escalated INTEGER NOT NULL DEFAULT 0, approvers TEXT NOT NULL DEFAULT '[]',
    reason TEXT, step INTEGER NOT NULL DEFAULT 0, nonce TEXT, consumed_at INTEGER, stepped_at INTEGER);
CREATE INDEX IF NOT EXISTS by_binding ON approvals (binding);"""
OVERDUE = "state IN ('pending', 'approved') AND expires_at <= :now"

# What bodies look like: the pattern of a string, a type, a range of whole numbers, a list, an object (`?`: optional).
DIGEST, NONCE = "[0-9a-f]{64}", "[0-9a-f]{32}"
URI, NAME = r"[^\x00-\x1f\x7f]{1,2048}", r"[^\x00-\x1f\x7f]{1,512}"
CREATION = {
    "binding": DIGEST, "audience": URI, "policy": DIGEST, "decision_id": NONCE, "reason_required": bool,
    "expires_in": range(1, 86401), "escalated_from?": NAME,
    "requester": {"issuer": URI, "subject": NAME, "client_id?": NAME, "agent?": NAME, "tenant?": NAME,
                  "roles": (NAME,), "actors": (NAME,)},
    "call": {"revision": NAME, "method": NAME, "kind": "tool|prompt|resource", "name": URI, "arguments": dict,
             "withheld": bool, "purpose?": "(?s).{0,4096}"},
    "requirements": [{"gate": "rule|agent|risk", "name": URI, "approvers": [NAME], "count": range(1, 11),
                      "escalate?": {"after": range(86401), "approvers": [NAME]}}],
}  # fmt: skip
CONSUMPTION = {"binding": DIGEST, "nonce": NONCE, "step": range(1001)}
CANCELLATION = {"binding": DIGEST}
VOTE = {
    "iss": URI,
    "sub": NAME,
    "roles": (NAME,),
    "decision": "approve|reject",
    "reason?": "(?s).*",
    "at?": range(2**53),
}
MAX_BODY = 64 * 1024
#: Statuses of problems by their codes.
PROBLEMS = {
    "malformed": 400, "unauthorized": 401, "audience": 403, "not_found": 404, "used": 409, "not_approved": 409,
    "rejected": 410, "expired": 410, "cancelled": 410, "too_large": 413, "unavailable": 503,
}  # fmt: skip
SPENT = {"pending": "not_approved", "approved": "used", "consumed": "used"}
SIGNED = ("rejected", "expired", "cancelled")

Desk = Callable[[dict[str, Any]], list[dict[str, Any]]]


class Problem(Exception):
    """An answer that is none: its code."""


def fits(shape: Any, value: Any) -> bool:
    """Whether a value is of a shape."""
    if isinstance(shape, str):
        return isinstance(value, str) and re.fullmatch(shape, value) is not None
    if isinstance(shape, range):
        return type(value) is int and value in shape
    if isinstance(shape, (list, tuple)):  # a list has at least one element, a tuple may have none
        is_list = isinstance(value, list) and (bool(value) or isinstance(shape, tuple))
        return is_list and all(fits(shape[0], element) for element in value)
    if isinstance(shape, dict):
        inner = {name.rstrip("?"): inner for name, inner in shape.items()}
        required = {name for name in shape if not name.endswith("?")}
        is_object = isinstance(value, dict) and required <= set(value) <= set(inner)
        return is_object and all(fits(inner[name], member) for name, member in value.items())
    if shape is dict:  # of scalars, by JSON Pointer
        pairs = value.items() if isinstance(value, dict) else [("?", None)]
        return all(fits("(?s)|/.*", name) and isinstance(member, (str, int, float)) for name, member in pairs)
    return isinstance(value, shape)


def unambiguous(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object that has no member twice."""
    if len(dict(members)) < len(members):
        raise ValueError("a member is there twice")
    return dict(members)


def terms(request: dict[str, Any]) -> tuple[Any, ...]:
    """Who must approve, and who acts: an approval on other terms is another one. The binding covers neither."""
    return request["requirements"], request["reason_required"], request["requester"]["actors"]


def tally(request: dict[str, Any], created_at: int, votes: list[dict[str, Any]], now: int) -> dict[str, Any]:
    """What comes of votes: `state`, `approvers`, `reason`, and whether others were asked as well by now."""
    gates = request["requirements"]
    is_late = ["escalate" in gate and now >= created_at + gate["escalate"]["after"] for gate in gates]
    met, approvers, requester = [0] * len(gates), {}, request["requester"]
    # Nobody approves their own calls, nor does what makes them.
    own = {requester["subject"], requester.get("client_id"), requester.get("agent"), *requester["actors"]}
    for vote in votes:
        person, reason = (vote["iss"], vote["sub"]), vote.get("reason", "").strip()[:500]
        if vote["sub"] in own or person in approvers:
            continue
        if request["reason_required"] and not reason:
            continue
        used: dict[int, set[str]] = {}
        for place, gate in enumerate(gates):
            entitled = gate["approvers"] + (gate["escalate"]["approvers"] if is_late[place] else [])
            if met[place] < gate["count"] and set(entitled) & set(vote["roles"]):
                used[place] = set(entitled) & set(vote["roles"])
        if not used:
            continue
        roles = sorted(set().union(*used.values()))
        approver = {"iss": person[0], "sub": person[1], "roles": roles, "at": vote.get("at", now)}
        if vote["decision"] == "reject":
            return {"state": "rejected", "approvers": [approver], "reason": reason or None, "escalated": any(is_late)}
        approvers[person] = approver
        for place in used:
            met[place] += 1
    is_met = all(count >= gate["count"] for count, gate in zip(met, gates, strict=True))
    state = "approved" if is_met else "pending"
    return {"state": state, "approvers": [*approvers.values()], "reason": None, "escalated": any(is_late)}


class Approvals:
    """The approvals of one file. Several processes may have it open."""

    def __init__(self, path: str, key: OKPKey, issuer: str) -> None:
        self.path, self.key, self.issuer = path, key, issuer
        with self.open() as store:
            store.executescript("PRAGMA journal_mode = WAL;" + SCHEMA)

    @contextmanager
    def open(self) -> Iterator[sqlite3.Connection]:
        """The store; what was committed to it survives a crash."""
        with closing(sqlite3.connect(self.path, timeout=10, isolation_level=None)) as store:
            store.row_factory = sqlite3.Row
            store.execute("PRAGMA synchronous = FULL")
            yield store

    def change(self, changes: str, condition: str, **values: Any) -> bool:
        """One statement, so one transaction: of many who try it at once, one is told it was."""
        with self.open() as store:
            return store.execute(f"UPDATE approvals SET {changes} WHERE {condition}", values).rowcount == 1

    def find(self, identifier: str, binding: str) -> sqlite3.Row:
        """An approval as it is now: its time may have run out since somebody looked."""
        self.change("state = 'expired', ended_at = expires_at", f"id = :id AND {OVERDUE}",
                    id=identifier, now=int(time.time()))  # fmt: skip
        with self.open() as store:
            row = store.execute("SELECT * FROM approvals WHERE id = ?", (identifier,)).fetchone()
        if row is None or row["binding"] != binding:
            raise Problem("not_found")
        return row

    def create(self, request: dict[str, Any]) -> tuple[str, bool]:
        """The id of the approval for a call, and whether it is a new one."""
        now, binding, audience = int(time.time()), request["binding"], request["audience"]
        with self.open() as store:
            store.execute("BEGIN IMMEDIATE")  # nobody else creates one meanwhile
            newest = "SELECT * FROM approvals WHERE binding = ? AND audience = ? ORDER BY rowid DESC LIMIT 32"
            rows = store.execute(newest, (binding, audience)).fetchall()
            row = next((row for row in rows if terms(json.loads(row["request"])) == terms(request)), None)
            if row is not None and self.attaches(row, now):
                return row["id"], False
            identifier = secrets.token_urlsafe(16)
            store.execute(
                "INSERT INTO approvals (id, binding, audience, request, created_at, expires_at)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (identifier, binding, audience, json.dumps(request), now, now + request["expires_in"]),
            )
            store.execute("COMMIT")
        return identifier, True

    @staticmethod
    def attaches(row: sqlite3.Row, now: int) -> bool:
        """Whether the same call belongs to this approval."""
        is_open, is_untold = row["expires_at"] > now, not row["reported"]
        if row["state"] in ("pending", "approved"):
            return is_open or (is_untold and row["expires_at"] > now - 600)
        if row["state"] == "rejected":
            return is_open
        return row["state"] in ("expired", "cancelled") and is_untold and row["ended_at"] > now - 600

    def state(self, identifier: str, binding: str, wait: int = 0) -> dict[str, Any]:
        """`ApprovalState`, once it is not pending or that many seconds have passed."""
        until = time.monotonic() + wait
        while (row := self.find(identifier, binding))["state"] == "pending" and time.monotonic() < until:
            time.sleep(0.2)  # looks again, for another process may have changed it
        names = ("id", "binding", "state", "created_at", "expires_at", "step")
        state = {name: row[name] for name in names} | {"escalated": bool(row["escalated"])}
        if row["state"] in SIGNED:
            self.change("reported = 1", "id = :id", id=identifier)
            approvers = json.loads(row["approvers"]) if row["state"] == "rejected" else []
            reason = {"reason": row["reason"]} if row["reason"] else {}
            state["decision"] = self.sign(row, 120, status=row["state"], approvers=approvers, **reason)
        return state

    def consume(self, identifier: str, binding: str, nonce: str, step: int) -> dict[str, Any]:
        """Uses an approval, once."""
        self.find(identifier, binding)
        now = int(time.time())
        may = "state = 'consumed' AND consumed_at > :now - 3600" if step else "state = 'approved' AND expires_at > :now"
        has_won = self.change(
            "state = 'consumed', step = :step + 1, nonce = :nonce, stepped_at = :now,"
            " consumed_at = coalesce(consumed_at, :now)",
            f"id = :id AND step = :step AND step < 10 AND {may}",
            id=identifier, nonce=nonce, step=step, now=now,
        )  # fmt: skip
        row = self.find(identifier, binding)
        is_again = (row["nonce"], row["step"]) == (nonce, step + 1) and now - row["stepped_at"] <= 60
        if not (has_won or is_again):
            raise Problem(SPENT.get(row["state"], row["state"]))
        approvers = json.loads(row["approvers"])
        grant = self.sign(row, 60, status="approved", approvers=approvers, nonce=nonce, step=step)
        return {"id": identifier, "grant": grant}

    def cancel(self, identifier: str, binding: str) -> dict[str, Any]:
        """Takes a question back."""
        self.find(identifier, binding)
        self.change("state = 'cancelled', ended_at = :now", "id = :id AND state = 'pending'",
                    id=identifier, now=int(time.time()))  # fmt: skip
        return self.state(identifier, binding)

    def sign(self, row: sqlite3.Row, seconds: int, **claims: Any) -> str:
        """A decision as compact JWS."""
        request, now = json.loads(row["request"]), int(time.time())
        claims |= {"iss": self.issuer, "aud": row["audience"], "iat": now, "exp": now + seconds,
                   "jti": secrets.token_urlsafe(16), "approval_id": row["id"], "binding": row["binding"],
                   "policy": request["policy"], "escalated": bool(row["escalated"])}  # fmt: skip
        header = {"alg": "EdDSA", "kid": self.key.kid, "typ": "approval+jwt"}
        return jws.serialize_compact(header, json.dumps(claims), self.key, algorithms=["EdDSA"])

    def ask(self, desk: Desk) -> None:
        """Asks the desk for the votes of all that wait, for ever."""
        with ThreadPoolExecutor(8) as pool:
            while True:
                try:
                    with self.open() as store:
                        waiting = store.execute("SELECT * FROM approvals WHERE state = 'pending'").fetchall()
                    list(pool.map(lambda row: self.ask_for(desk, row), waiting))
                except sqlite3.Error as error:  # approvals stay pending, and the next round asks again
                    print(f"adapter: the store failed: {error}", file=sys.stderr)
                time.sleep(0.25)

    def ask_for(self, desk: Desk, row: sqlite3.Row) -> None:
        """Asks for the votes of one approval, and counts them."""
        request, now = json.loads(row["request"]), int(time.time())
        try:
            votes = desk({"id": row["id"], "expires_at": row["expires_at"]} | request)
            if not all(fits(VOTE, vote) for vote in votes):
                raise ValueError(f"a vote needs {', '.join(VOTE)}")
        except Exception as error:  # whatever the desk does: this approval stays pending, and others are asked for
            print(f"adapter: the desk failed at {row['id']}: {error}", file=sys.stderr)
            return
        result = tally(request, row["created_at"], votes, now)
        self.change("state = :state, approvers = :approvers, reason = :reason, escalated = :escalated",
                    "id = :id AND state = 'pending' AND expires_at > :now", id=row["id"], now=int(time.time()),
                    **(result | {"approvers": json.dumps(result["approvers"])}))  # fmt: skip


def files(directory: Path) -> Desk:
    """A desk whose approvals are files; people put votes into them."""

    def desk(approval: dict[str, Any]) -> list[dict[str, Any]]:
        path = directory / f"{approval['id']}.json"
        if not path.exists():
            directory.mkdir(parents=True, exist_ok=True)
            new = path.with_suffix(".new")
            new.write_text(json.dumps({"approval": approval, "votes": []}, indent=2))
            new.replace(path)
        return json.loads(path.read_text())["votes"]

    return desk


def program(command: str) -> Desk:
    """A desk that is a program."""

    def desk(approval: dict[str, Any]) -> list[dict[str, Any]]:
        run = subprocess.run(
            [command], input=json.dumps(approval).encode(), capture_output=True, check=True, timeout=30
        )
        return json.loads(run.stdout)

    return desk


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    timeout = 75  # seconds that a client may be silent
    approvals: Approvals
    audiences: frozenset[str]
    token: str

    def answer(self) -> None:
        """Answers one request."""
        try:
            status, body = self.route()
        except (Problem, sqlite3.Error) as problem:
            code = str(problem) if isinstance(problem, Problem) else "unavailable"
            status, self.close_connection = PROBLEMS[code], True  # its body may not have been read
            body = {
                "title": HTTPStatus(status).phrase,
                "status": status,
                "code": code,
                "detail": code.replace("_", " "),
            }
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/problem+json" if status >= 400 else "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.send_header("Cache-Control", "no-store")
        if status == 401:
            self.send_header("WWW-Authenticate", "Bearer")
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = answer

    def route(self) -> tuple[int, Any]:
        """Status and body of the answer."""
        url = urlsplit(self.path)
        match (self.command, url.path):
            case ("GET", "/.well-known/jwks.json"):
                return 200, {"keys": [self.approvals.key.as_dict(private=False)]}
            case ("GET", "/healthz"):
                return 200, {}
            case ("GET", "/readyz"):
                with self.approvals.open() as store:
                    return 200, {"approvals": store.execute("SELECT count(*) FROM approvals").fetchone()[0]}
        credential = self.headers.get("Authorization", "").encode()
        if not hmac.compare_digest(credential, f"Bearer {self.token}".encode()):
            raise Problem("unauthorized")
        wait = re.fullmatch(r"wait=(\d{1,4})", self.headers.get("Prefer", "").strip())
        seconds = min(55, int(wait[1])) if wait else 0
        path = re.fullmatch("/v1/approvals(?:/([A-Za-z0-9_-]{1,64})(/consume|/cancel)?)?", url.path)
        match (self.command, path and path[1], path and path[2]):
            case ("POST", None, None) if path:
                request = self.body(CREATION)
                if request["audience"] not in self.audiences:
                    raise Problem("audience")
                identifier, is_new = self.approvals.create(request)
                return 201 if is_new else 200, self.approvals.state(identifier, request["binding"], seconds)
            case ("GET", str(identifier), None):
                [binding] = parse_qs(url.query).get("binding", [""])[:1]
                if not fits(DIGEST, binding):
                    raise Problem("malformed")
                return 200, self.approvals.state(identifier, binding, seconds)
            case ("POST", str(identifier), "/consume"):
                return 200, self.approvals.consume(identifier, **self.body(CONSUMPTION))
            case ("POST", str(identifier), "/cancel"):
                return 200, self.approvals.cancel(identifier, **self.body(CANCELLATION))
        raise Problem("not_found")

    def body(self, shape: dict[str, Any]) -> dict[str, Any]:
        """The body, which has to be of a shape."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            raise Problem("malformed")
        if int(length) > MAX_BODY:
            raise Problem("too_large")
        try:
            body = json.loads(self.rfile.read(int(length)), object_pairs_hook=unambiguous)
        except (ValueError, RecursionError):
            raise Problem("malformed") from None
        if not fits(shape, body):
            raise Problem("malformed")
        return body

    def log_request(self, *_: Any) -> None:
        """Requests are the gateway's to record."""


class Server(ThreadingHTTPServer):
    """A thread for each connection; long polls hold theirs."""

    daemon_threads = True
    request_queue_size = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    keygen = commands.add_parser("keygen", help="write a key, print the public half")
    keygen.add_argument("file", type=Path)
    serve = commands.add_parser("serve", help="answer gateways")
    serve.add_argument("--listen", default="127.0.0.1:8787")
    serve.add_argument("--store", default="approvals.db")
    serve.add_argument("--key", type=Path, required=True)
    serve.add_argument("--issuer", required=True, help="`approval.issuer` of the policy")
    serve.add_argument("--audience", action="append", required=True, help="a resource that the gateway protects")
    desk = serve.add_mutually_exclusive_group(required=True)
    desk.add_argument("--desk", type=Path, help="directory of approvals")
    desk.add_argument("--command", dest="program", help="program that knows the votes")
    arguments = parser.parse_args()
    if arguments.command == "keygen":
        key = OKPKey.generate_key("Ed25519", {"kid": f"a{int(time.time())}", "alg": "EdDSA", "use": "sig"})
        with open(os.open(arguments.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(key.as_dict(private=True), file)
        print(json.dumps({"keys": [key.as_dict(private=False)]}))
        return
    token = os.environ.get("TOOLGATE_APPROVAL_TOKEN", "")
    if len(token) < 43:
        sys.exit("adapter: set TOOLGATE_APPROVAL_TOKEN to 32 random bytes in Base64: openssl rand -base64 32")
    Handler.token, Handler.audiences = token, frozenset(arguments.audience)
    key = OKPKey.import_key(json.loads(arguments.key.read_text()))
    Handler.approvals = Approvals(arguments.store, key, arguments.issuer)
    votes = files(arguments.desk) if arguments.desk else program(arguments.program)
    threading.Thread(target=Handler.approvals.ask, args=(votes,), daemon=True).start()
    host, _, port = arguments.listen.rpartition(":")
    server = Server((host, int(port)), Handler)
    print(f"adapter: http://{host}:{server.server_port}", file=sys.stderr, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()

"""Every request leaves exactly one record, whatever becomes of it, and whoever tampers with the log is found out."""

import asyncio
import gzip
import heapq
import json
import random
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import stack
from stack import LOOPBACK

from support import cli, messages
from support.gateway import SIGNS_OF_DEATH, Discovered, Document, Envoy, Gateway, bearer, free_port, manager_of
from support.http1 import Connection, head
from support.issuer import Issuer
from support.recorder import Recorder
from support.storm import Storm, impatient_route, storm_policy
from support.trail import AnchorStore, Record, chains_of, checkpoint_of, lines_of, parsed

REQUESTS = 20_500


@dataclass
class Weathered:
    """A log of a storm, and everything that else is known of it."""

    gateway: Gateway
    storm: Storm
    store: AnchorStore
    lines: list[str]
    records: list[Record]
    #: Envoy's main access log.
    logged: list[dict[str, Any]]
    #: Envoy's own counters of the listener.
    counters: dict[str, int]
    seconds: float
    path: Path

    @property
    def key(self) -> str:
        """Of the seals."""
        return self.gateway.envoy.audit_key


def rage(
    envoy: Envoy,
    issuer: Issuer,
    count: int,
    seed: int,
    *,
    reloads: bool = False,
    store: AnchorStore | None = None,
    audit_log: Path | None = None,
) -> Weathered:
    """Sends requests of every kind through a new gateway, and waits until all of them have ended and are on record."""
    store = store or AnchorStore(envoy.directory / "checkpoints.jsonl")
    before = set(chains_of([parsed(line) for line in lines_of(audit_log)])) if audit_log else set()
    discovered, upstream = Discovered(envoy.directory), Recorder()
    upstream.close()
    reserved = asyncio_listener()
    upstream.port = reserved.getsockname()[1]
    generation = 0

    def adjust(listener: Document) -> None:
        impatient_route(listener)
        if audit_log:
            manager_of(listener)["access_log"][1]["typed_config"]["path"] = str(audit_log)
        listener["metadata"] = {"filter_metadata": {"test": {"generation": str(generation)}}}
        discovered.adjust(listener)

    def document(name: str) -> dict[str, Any]:
        resource = {"uri": "https://mcp.norg.example/mcp", "name": name}
        return storm_policy(issuer, resource=resource, audit=store.document())

    clusters = {store.cluster: store.port}
    gateway = Gateway(envoy, document("Tools"), upstream, free_port(), (issuer,), clusters, adjust)
    gateway.load()
    storm = Storm(gateway.port, reserved, issuer, seed)

    async def reload(name: str) -> None:
        discovered.update(document(name))

    async def refuse() -> None:
        discovered.update(document("Refused") | {"rulez": []})

    async def replace_listener() -> None:
        nonlocal generation
        generation += 1
        await asyncio.to_thread(gateway.load, document("Tools 4"), wait=False)

    if reloads:
        storm.between = [
            (0.1, lambda: reload("Tools 1")),
            (0.3, refuse),
            (0.5, lambda: reload("Tools 2")),
            (0.6, lambda: reload("Tools 3")),
            (0.8, replace_listener),
        ]
    began = time.monotonic()
    storm.run(count)
    seconds = time.monotonic() - began
    reserved.close()
    path = audit_log or gateway.audit_log

    def counters() -> dict[str, int]:
        return envoy.counters("^http\\.mcp_gateway\\.downstream_rq_(total|active)$")

    def is_over() -> bool:
        total = counters()["http.mcp_gateway.downstream_rq_total"]
        logged = lines_of(gateway.access_log)
        none = sum(is_no_request(json.loads(line)) for line in logged)
        own = [line for line in lines_of(path) if parsed(line)["chain"]["id"] not in before]
        return len(logged) >= total and len(own) >= total - none

    envoy.wait_until("all requests have ended", lambda: not counters()["http.mcp_gateway.downstream_rq_active"])
    try:
        envoy.wait_until("all of them are in the logs", is_over, 5)
    except AssertionError:
        """The tests say what is wrong."""
    lines = lines_of(path)
    records = [record for record in map(parsed, lines) if record["chain"]["id"] not in before]
    chains = chains_of(records)
    envoy.wait_until("the anchor has all chains to their ends", lambda: chains.items() <= store.heads().items(), 10)
    logged = [json.loads(line) for line in lines_of(gateway.access_log)]
    return Weathered(gateway, storm, store, lines, records, logged, counters(), seconds, path)


def asyncio_listener() -> socket.socket:
    """A listening socket that an event loop will take."""
    listener = socket.create_server((LOOPBACK, 0), backlog=512)
    listener.setblocking(False)
    return listener


@pytest.fixture(scope="module")
def weathered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weathered]:
    """The log of all tests of one storm."""
    with Envoy(tmp_path_factory.mktemp("storm")) as envoy:
        yield rage(envoy, Issuer(), REQUESTS, seed=random.SystemRandom().randrange(1 << 32), reloads=True)
        # Envoy calls a refused policy critical. Nothing else may have gone wrong.
        complaints = [line for line in envoy.log.splitlines() if SIGNS_OF_DEATH.match(line)]
        expected = ("Plugin toolgate failed to load", "configured to fail closed failed to load", "Wasm VM failed")
        assert all(any(text in line for text in expected) for line in complaints), complaints
        envoy.forgive()


# --- One record each --------------------------------------------------------------------------------------------------


def is_no_request(line: dict[str, Any]) -> bool:
    """A client left before its headers were whole. Envoy counts it and runs no filter for it."""
    return line["request_id"] is None and (line["status"], line["details"]) == (0, "downstream_remote_disconnect")


def test_there_are_as_many_records_as_requests(weathered: Weathered) -> None:
    total = weathered.counters["http.mcp_gateway.downstream_rq_total"]
    print(f"\n{total} requests in {weathered.seconds:.1f} s: {total / weathered.seconds:.0f}/s")
    print(dict(sorted(Counter(record["reason"] for record in weathered.records).items())))
    print(dict(sorted(Counter(record["response"]["status"] for record in weathered.records).items())))
    print(dict(sorted(weathered.storm.seen.items())))
    assert len(weathered.logged) == total
    none = sum(is_no_request(line) for line in weathered.logged)
    assert none <= weathered.storm.seen["leaves_in_headers", -1]
    requests = total - none
    assert requests >= 20_000
    assert len(weathered.lines) == len(weathered.records) == requests, f"seed {weathered.storm.seed}"
    assert len({record["id"] for record in weathered.records}) == requests


def test_each_record_says_what_envoys_own_log_says(weathered: Weathered) -> None:
    """Requests that Envoy refused before it gave them an id can only be counted."""

    def of_line(line: dict[str, Any]) -> tuple[Any, ...]:
        flags = "" if line["flags"] in ("-", None) else line["flags"]
        return (line["request_id"], line["status"], line["details"], flags)

    def of_record(record: Record) -> tuple[Any, ...]:
        http = record["http"]
        flags = ",".join(http.get("flags", []))
        return (http.get("request_id"), http.get("status", 0), http.get("details"), flags)

    expected = Counter(of_line(line) for line in weathered.logged if not is_no_request(line))
    found = Counter(of_record(record) for record in weathered.records)
    assert (expected - found, found - expected) == (Counter(), Counter())
    methods = {line["request_id"]: line["method"] for line in weathered.logged}
    assert all(
        record["http"].get("method") in (methods[record["http"]["request_id"]], None)
        for record in weathered.records
        if "request_id" in record["http"]
    )


#: What each kind of request comes to: verdict and reason.
REASONS = {
    "allow": {"permitted"},
    "serve": {"resource_metadata"},
    "none": {"not_seen", "ended_early"},
    "deny": {
        *("condition", "header_mismatch", "insufficient_scope", "invalid_request", "key_unknown", "media_type"),
        *("method_not_allowed", "no_rule", "no_token", "not_a_jwt", "not_permitted", "origin_not_allowed"),
        *("parse_error", "scope_refused", "token_expired", "too_large", "unknown_method", "unknown_path"),
    },
}


def test_each_kind_of_request_is_among_them(weathered: Weathered) -> None:
    found: dict[str, set[str]] = {}
    for record in weathered.records:
        found.setdefault(record["verdict"], set()).add(record["reason"])
    assert found == REASONS
    statuses = {record["response"]["status"] for record in weathered.records}
    assert statuses >= {"gateway", "success", "tool_error", "error", "rate_limited", "aborted", "no_result"}
    flags = {flag for record in weathered.records for flag in record["http"].get("flags", [])}
    assert flags >= {"DC", "UC", "UT", "UPE", "DPE"}, flags


def test_what_was_let_through_is_what_the_upstream_may_have_seen(weathered: Weathered) -> None:
    counters = weathered.gateway.envoy.counters()
    decided = Counter[tuple[str, str]]()
    for name, count in counters.items():
        if name.startswith("wasmcustom.toolgate.decisions."):
            verdict, reason = name.split(".")[3:]
            decided[verdict, reason] += count
    recorded = Counter((record["verdict"], record["reason"]) for record in weathered.records)
    del recorded["none", "not_seen"], recorded["none", "ended_early"]
    assert recorded == decided
    assert counters.get("wasmcustom.toolgate.audit.lost", 0) == 0


def test_the_log_is_whole(weathered: Weathered) -> None:
    before = time.monotonic()
    verified = cli.verify(weathered.key, weathered.gateway.audit_log, checkpoints=[weathered.store.path])
    print(f"\nverified {len(weathered.lines)} lines in {time.monotonic() - before:.2f} s")
    assert verified.is_clean, verified.report
    report = verified.report
    assert report["records"] == {"request": len(weathered.records)}
    assert len(report["chains"]) == 2, "a chain for each of the two workers"
    assert all(chain["last"] > 100 and chain["vouched"]["seq"] == chain["last"] for chain in report["chains"])
    assert cli.verify(weathered.key, weathered.gateway.audit_log).is_clean


def test_another_key_verifies_nothing(weathered: Weathered, tmp_path: Path) -> None:
    path = written(tmp_path / "some.log", weathered.lines[:50])
    verified = cli.verify(Envoy(tmp_path).audit_key, path)
    assert [defect["kind"] for defect in verified.defects] == ["changed"] * 50


def test_each_worker_says_what_became_of_the_policy(weathered: Weathered) -> None:
    for chain in chains_of(weathered.records):
        own = [record for record in weathered.records if record["chain"]["id"] == chain]
        events = [(event["type"], event["policy"], record) for record in own for event in record.get("events", [])]
        assert [kind for kind, _, _ in events] == ["loaded", "reloaded", "refused", "reloaded", "reloaded", "reloaded"]
        # Each record is of the policy that its worker had before, or of a stream that began under an older one.
        taken = [policy for kind, policy, _ in events if kind != "refused"]
        assert len(set(taken)) == 5
        assert {record["policy"] for record in own} == set(taken)
        refused = next(record["events"] for kind, _, record in events if kind == "refused")
        assert "rulez" in next(event["error"] for event in refused if event["type"] == "refused")


# --- Whoever tampers with it ------------------------------------------------------------------------------------------


def written(path: Path, lines: list[str] | list[bytes], end: bytes = b"\n") -> Path:
    """A log of these lines."""
    raw = [line if isinstance(line, bytes) else line.encode() for line in lines]
    path.write_bytes(b"\n".join(raw) + end)
    return path


@dataclass(frozen=True)
class Finding:
    """What must be found: one of these kinds in one of these lines, for this record."""

    kinds: tuple[str, ...]
    lines: tuple[int, ...]
    #: Chain, first and last number.
    records: tuple[str, int, int] | None = None
    #: How many defects one cause may be, as what follows from it is said as well.
    most: int = 3


class Log:
    """A log, and ways to damage it. Lines count from 1."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = [line.encode() for line in lines]
        links = [parsed(line)["chain"] for line in lines]
        self.links = [(link["id"], link["seq"]) for link in links]
        self.chains = len({chain for chain, _ in self.links})

    def neighbour(self, index: int, step: int) -> int | None:
        """The line of the next record of the same chain, or of the one before; the place from 0."""
        chain, _ = self.links[index]
        index += step
        while 0 <= index < len(self.links):
            if self.links[index][0] == chain:
                return index
            index += step
        return None

    def change(self, rng: random.Random) -> tuple[bytes, Finding]:
        """Another byte in place of one; if it was the end of a line, or becomes one, two lines are concerned."""
        index = rng.randrange(len(self.lines))
        line = self.lines[index] + b"\n"
        at = rng.randrange(len(line))
        other = rng.choice([byte for byte in range(256) if byte != line[at]])
        changed = line[:at] + bytes([other]) + line[at + 1 :]
        data = b"".join(each + b"\n" for each in self.lines[:index]) + changed
        data += b"".join(each + b"\n" for each in self.lines[index + 1 :])
        kinds = ("changed", "personal_changed", "unreadable", "unknown_key", "cut", "no_record")
        return data, Finding(kinds, (index + 1,))

    def remove(self, rng: random.Random) -> tuple[bytes, Finding]:
        """A line, which a later record of the chain shows; the last of a chain is known from a checkpoint."""
        index = rng.randrange(len(self.lines))
        chain, seq = self.links[index]
        after, before = self.neighbour(index, 1), self.neighbour(index, -1)
        kept = self.lines[:index] + self.lines[index + 1 :]
        if after is not None:
            kind, line = ("missing" if seq else "beginning_missing"), after
        else:
            assert before is not None
            kind, line = "cut_off", before + 1
        return joined(kept), Finding((kind,), (line,), (chain, seq, seq))

    def duplicate(self, rng: random.Random) -> tuple[bytes, Finding]:
        """A copy of a line anywhere. Which of the two is the copy nobody can tell."""
        index, at = rng.randrange(len(self.lines)), rng.randrange(len(self.lines) + 1)
        lines = [*self.lines[:at], self.lines[index], *self.lines[at:]]
        chain, seq = self.links[index]
        places = (at + 1, index + 1 if index < at else index + 2)
        return joined(lines), Finding(("duplicate",), places, (chain, seq, seq))

    def swap(self, rng: random.Random) -> tuple[bytes, Finding]:
        """Two lines of one chain."""
        first = second = rng.randrange(len(self.lines))
        same = [index for index, link in enumerate(self.links) if link[0] == self.links[first][0] and index != first]
        second = rng.choice(same) if rng.random() < 0.5 else self.neighbour(first, 1) or same[0]
        lines = list(self.lines)
        lines[first], lines[second] = lines[second], lines[first]
        return joined(lines), Finding(("out_of_order",), (first + 1, second + 1))

    def truncate(self, rng: random.Random) -> tuple[bytes, Finding]:
        """In the middle of a line."""
        index = rng.randrange(1, len(self.lines))
        at = rng.randrange(1, len(self.lines[index]) + 1)
        data = joined(self.lines[:index]) + self.lines[index][:at]
        return data, Finding(("cut",), (index + 1,), most=1 + self.chains)

    def truncate_at_line_end(self, rng: random.Random) -> tuple[bytes, Finding]:
        """Between two lines: only checkpoints from elsewhere show that."""
        index = rng.randrange(2, len(self.lines))
        chain, seq = self.links[index]
        before = self.neighbour(index, -1)
        last = max(number for name, number in self.links if name == chain)
        if before is None:
            return joined(self.lines[:index]), Finding(("chain_missing",), (), (chain, 0, last), self.chains)
        return joined(self.lines[:index]), Finding(("cut_off",), (before + 1,), (chain, seq, last), self.chains)

    def ends(self, index: int) -> tuple[int, ...]:
        """The last lines of the chains before a place."""
        last = {link[0]: line for line, link in enumerate(self.links[:index], 1)}
        return tuple(last.values())


def joined(lines: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


WAYS = ("change", "remove", "duplicate", "swap", "truncate", "truncate_at_line_end")


def assert_found(key: str, data: bytes, finding: Finding, path: Path, checkpoints: Path, context: str) -> None:
    """Verifies a log that was damaged."""
    path.write_bytes(data)
    assert_right(cli.verify(key, path, checkpoints=[checkpoints]), finding, context)
    path.unlink()


def assert_right(verified: cli.Verified, finding: Finding, context: str) -> None:
    """The command says what was done, and where, and nothing else."""
    assert verified.exit_code == 1, (context, finding)
    right = [
        defect
        for defect in verified.defects
        if defect["kind"] in finding.kinds
        and (not finding.lines or defect["line"] in finding.lines)
        and (not finding.records or (defect["chain"], defect["first"], defect["last"]) == finding.records)
    ]
    assert right, (context, finding, verified.defects)
    assert len(verified.defects) <= finding.most, (context, finding, verified.defects)


@pytest.mark.parametrize("way", WAYS)
def test_tampering_is_found_in_its_place(weathered: Weathered, tmp_path: Path, way: str) -> None:
    """Most of it in the first part of the log, for the sake of time; some in all of it."""
    seed = random.SystemRandom().randrange(1 << 32)
    rng = random.Random(seed)
    short = Log(weathered.lines[:400])
    # What an anchor would have had by then.
    last_lines = [checkpoint_of(weathered.key, weathered.lines[number - 1]) for number in short.ends(400)]
    anchored = written(tmp_path / "anchored", last_lines)
    whole = Log(weathered.lines)
    tried = Counter[str]()

    def attempt(log: Log, count: int, checkpoints: Path, name: str) -> None:
        def one(number: int, data: bytes, finding: Finding) -> None:
            context = f"seed {seed}, number {number} of {name}"
            assert_found(weathered.key, data, finding, tmp_path / f"{name}-{number}.log", checkpoints, context)

        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(one, number, *getattr(log, way)(rng)) for number in range(count)]:
                done.result()
                tried[name] += 1

    attempt(short, 100, anchored, "short")
    attempt(whole, 4, weathered.store.path, "whole")
    print(f"\n{way}: {dict(tried)}")


# --- Several instances, and files that are rotated --------------------------------------------------------------------


@dataclass
class Fleet:
    """Three Envoys with one key, and what they wrote."""

    members: list[Weathered]
    store: AnchorStore
    key: str


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """All of them live until the tests are over, or until a test ends them."""
    directory, issuer = tmp_path_factory.mktemp("fleet"), Issuer()
    store, key = AnchorStore(directory / "checkpoints.jsonl"), stack.new_key()
    with ExitStack() as envoys:
        members = []
        for number in range(3):
            envoy = envoys.enter_context(Envoy(directory / f"{number}", audit_key=key, node=f"envoy-{number}"))
            members.append(rage(envoy, issuer, 300, seed=number, store=store))
        yield Fleet(members, store, key)


def test_logs_of_three_instances_verify_as_one(fleet: Fleet, tmp_path: Path) -> None:
    """Merged by time, and rotated into files, some of them compressed."""
    sources = [[(parsed(line)["at"], line) for line in member.lines] for member in fleet.members]
    # Each worker's own lines stay in their order, whatever its clock says.
    merged = [line for _, line in heapq.merge(*sources, key=lambda pair: pair[0])]
    seed = random.SystemRandom().randrange(1 << 32)
    rng, log = random.Random(seed), Log(merged)
    report = verify_rotated(fleet, joined(log.lines), tmp_path, rng).report
    assert report["whole"], (seed, report["defects"])
    assert sorted(report["instances"]) == ["envoy-0", "envoy-1", "envoy-2"]
    assert len(report["chains"]) == 6 and report["records"] == {"request": len(merged)}
    # Each of them by itself, in any order of the files.
    paths = [written(tmp_path / member.path.name, member.lines) for member in fleet.members]
    rng.shuffle(paths)
    assert cli.verify(fleet.key, *paths, checkpoints=[fleet.store.path]).is_clean
    # One is left out.
    verified = cli.verify(fleet.key, *paths[1:], checkpoints=[fleet.store.path])
    assert [defect["kind"] for defect in verified.defects] == ["chain_missing"] * 2
    for way in WAYS:
        for number in range(12):
            data, finding = getattr(log, way)(rng)
            verified = verify_rotated(fleet, data, tmp_path, rng)
            assert_right(verified, finding, f"seed {seed}, {way} {number}")


def verify_rotated(fleet: Fleet, data: bytes, directory: Path, rng: random.Random) -> cli.Verified:
    """Cuts a log into four files at ends of lines and verifies it; lines are numbered as if it were one file."""
    lines = data.split(b"\n")
    ends = sorted(rng.sample(range(1, len(lines) - 1), 3))
    paths, starts = [], {}
    for number, (first, last) in enumerate(zip([0, *ends], [*ends, len(lines)], strict=True)):
        part = b"\n".join(lines[first:last]) + (b"\n" if last < len(lines) else b"")
        is_compressed = number % 2 == 0
        path = directory / f"audit.{number}.log{'.gz' if is_compressed else ''}"
        path.write_bytes(gzip.compress(part, 1) if is_compressed else part)
        paths.append(path)
        starts[str(path)] = first
    verified = cli.verify(fleet.key, *paths, checkpoints=[fleet.store.path])
    for defect in verified.defects:
        defect["line"] += starts.get(defect["file"], 0)
    return verified


# --- Restarts ---------------------------------------------------------------------------------------------------------


def test_a_log_goes_on_after_a_restart_and_a_crash(fleet: Fleet, tmp_path: Path) -> None:
    """What a crash has lost is said, and nothing else; whoever hides a cut behind a restart is found out."""
    crashed = fleet.members[2]
    path, envoy = crashed.path, crashed.gateway.envoy
    own = set(chains_of(crashed.records))
    # Another storm, in the middle of which the process is gone.
    upstream = asyncio_listener()
    storm = Storm(crashed.gateway.port, upstream, crashed.gateway.issuers[0], seed=7)
    lines = len(lines_of(path))
    with ThreadPoolExecutor(1) as pool:
        raging = pool.submit(storm.run, 2000)
        envoy.wait_until("the storm rages", lambda: len(lines_of(path)) > lines + 300)
        envoy.kill()
        raging.result(60)
    upstream.close()
    size = path.stat().st_size
    assert path.read_bytes().endswith(b"\n"), "Envoy writes whole lines"

    with Envoy(tmp_path / "restarted", audit_key=fleet.key, node="envoy-2") as restarted:
        later = rage(restarted, crashed.gateway.issuers[0], 300, seed=8, store=fleet.store, audit_log=path)
        # A request that has not ended when the process is asked to.
        with Connection(later.gateway.port) as connection:
            post, token = messages.call("ping"), later.gateway.issuers[0].token()
            host, length = ("Host", f"{LOOPBACK}:{later.gateway.port}"), ("Content-Length", "99")
            fields = [host, *bearer(token), *post.list(), length]
            connection.send(head("POST", "/mcp", fields))
            active = "^http\\.mcp_gateway\\.downstream_rq_active$"
            restarted.wait_until("it is there", lambda: sum(restarted.counters(active).values()) > 0)
            restarted.stop()
    final = parsed(lines_of(path)[-1])
    assert (final["reason"], final["http"]["flags"]) == ("ended_early", ["DC"])
    assert path.stat().st_size > size and len(chains_of(later.records)) == 2
    for checkpoints in ([], [fleet.store.path]):
        verified = cli.verify(fleet.key, path, *others(fleet), checkpoints=checkpoints)
        assert len(verified.report["chains"]) == 8
        lost = {defect["chain"]: defect for defect in verified.defects}
        assert {defect["kind"] for defect in verified.defects} <= {"cut_off"} and set(lost) <= own, verified.defects
        last = chains_of([parsed(line) for line in lines_of(path)])
        said = fleet.store.heads()
        heads: dict[str, list[int]] = {chain: [] for chain in own}
        for record in map(parsed, lines_of(path)):
            for each in record.get("heads", []):
                heads.setdefault(each["id"], []).append(each["seq"])
        for chain, defect in lost.items():
            # Only what somebody has seen.
            assert defect["first"] == last[chain] + 1 and defect["last"] in (said[chain], *heads[chain]), defect

    # The tail of the first process is cut off, and the restart is to explain why it is missing.
    chain, seen = next((chain, seq) for chain, seq in fleet.store.heads().items() if chain in own)
    kept = [line for line in lines_of(path) if not is_after(line, chain, seen - 5)]
    cut = written(tmp_path / "cut.log", kept)
    verified = cli.verify(fleet.key, cut, *others(fleet), checkpoints=[fleet.store.path])
    found = [defect for defect in verified.defects if defect["chain"] == chain]
    assert [(defect["kind"], defect["first"]) for defect in found] == [("cut_off", seen - 4)], verified.defects
    assert found[0]["last"] >= seen

    # The process that ended in order has said so in its own log; the one that crashed has not.
    ended, log = set(chains_of(later.records)), restarted.directory / "envoy.log"
    closed = [line for line in lines_of(path) if parsed(line)["chain"]["id"] in ended]
    alone = written(tmp_path / "closed.log", closed)
    flags = ("--closed", "--ignore-other-lines")
    assert cli.verify(fleet.key, alone, log, *flags).is_clean
    verified = cli.verify(fleet.key, path, log, *flags)
    assert {defect["chain"] for defect in verified.defects if defect["kind"] == "not_closed"} == own
    cut = written(tmp_path / "closed-and-cut.log", closed[:-1])
    verified = cli.verify(fleet.key, cut, log, *flags)
    assert {defect["kind"] for defect in verified.defects} == {"cut_off", "not_closed"}


def others(fleet: Fleet) -> list[Path]:
    """The logs of the instances that go on."""
    return [member.path for member in fleet.members[:2]]


def is_after(line: str, chain: str, seq: int) -> bool:
    link = parsed(line)["chain"]
    return link["id"] == chain and link["seq"] > seq

"""Every request leaves exactly one record, whatever becomes of it, and whoever tampers with the log is found out."""

import asyncio
import json
import random
import socket
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from stack import LOOPBACK

from support import cli
from support.gateway import SIGNS_OF_DEATH, Discovered, Document, Envoy, Gateway, free_port, manager_of
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
    before = time.monotonic()
    storm.run(count)
    seconds = time.monotonic() - before
    reserved.close()
    path = audit_log or gateway.audit_log

    def counters() -> dict[str, int]:
        return envoy.counters("^http\\.mcp_gateway\\.downstream_rq_(total|active)$")

    def is_over() -> bool:
        total = counters()["http.mcp_gateway.downstream_rq_total"]
        return len(lines_of(gateway.access_log)) >= total <= len(lines_of(path))

    envoy.wait_until("all requests have ended", lambda: not counters()["http.mcp_gateway.downstream_rq_active"])
    try:
        envoy.wait_until("all of them are in the logs", is_over, 5)
    except AssertionError:
        """The tests say what is wrong."""
    lines = lines_of(path)
    records = [record for record in map(parsed, (line for line in lines if line != "-")) if record["kind"] == "request"]
    chains = chains_of(records)
    envoy.wait_until("the anchor has all chains to their ends", lambda: chains.items() <= store.heads().items(), 10)
    logged = [json.loads(line) for line in lines_of(gateway.access_log)]
    return Weathered(gateway, storm, store, lines, records, logged, counters(), seconds)


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
        expected = ("Plugin toolgate failed to load", "Plugin configured to fail closed failed to load", "Wasm VM failed")
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
    assert statuses >= {"gateway", "success", "error", "rate_limited", "aborted", "no_result"}
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
    #: Lines that may be found fault with as well.
    also: tuple[int, ...] = ()


class Log:
    """A log, and ways to damage it. Lines count from 1."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = [line.encode() for line in lines]
        links = [parsed(line)["chain"] for line in lines]
        self.links = [(link["id"], link["seq"]) for link in links]

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
        return data, Finding(("cut",), (index + 1,), also=self.ends(index))

    def truncate_at_line_end(self, rng: random.Random) -> tuple[bytes, Finding]:
        """Between two lines: only checkpoints from elsewhere show that."""
        index = rng.randrange(2, len(self.lines))
        chain, seq = self.links[index]
        before = self.neighbour(index, -1)
        last = max(number for name, number in self.links if name == chain)
        if before is None:
            return joined(self.lines[:index]), Finding(("chain_missing",), (), (chain, 0, last))
        return joined(self.lines[:index]), Finding(("cut_off",), (before + 1,), (chain, seq, last), self.ends(index))

    def ends(self, index: int) -> tuple[int, ...]:
        """The last lines of the chains before a place."""
        last = {link[0]: line for line, link in enumerate(self.links[:index], 1)}
        return tuple(last.values())


def joined(lines: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


WAYS = ("change", "remove", "duplicate", "swap", "truncate", "truncate_at_line_end")


def assert_found(key: str, data: bytes, finding: Finding, path: Path, checkpoints: Path) -> None:
    """The command says what was done, and where, and nothing else."""
    path.write_bytes(data)
    verified = cli.verify(key, path, checkpoints=[checkpoints])
    path.unlink()
    assert verified.exit_code == 1, finding
    right = [
        defect
        for defect in verified.defects
        if defect["kind"] in finding.kinds
        and (not finding.lines or defect["line"] in finding.lines)
        and (not finding.records or (defect["chain"], defect["first"], defect["last"]) == finding.records)
    ]
    assert right, (finding, verified.defects)
    # One cause is one defect: what else is said is a consequence close by.
    assert len(verified.defects) <= 4, (finding, verified.defects)


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
        for number in range(count):
            data, finding = getattr(log, way)(rng)
            try:
                assert_found(weathered.key, data, finding, tmp_path / f"{name}-{number}.log", checkpoints)
            except AssertionError as error:
                raise AssertionError(f"seed {seed}, number {number} of {name}: {error}") from None
            tried[name] += 1

    attempt(short, 100, anchored, "short")
    attempt(whole, 6, weathered.store.path, "whole")
    print(f"\n{way}: {dict(tried)}")

"""The benchmark runs, and what it compares gets the answers that it is to get. What it finds is not judged here."""

import http.client
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from configuration import HOST_CALLS, TOOLGATE, all_variants
from measure import Bench
from stack import LOOPBACK, ROOT
from work import PATH, Issuer, known_call

MAIN = {"no filter", "no filter, again", "native chain", "toolgate"}


def bench(directory: Path, *options: str) -> dict[str, Any]:
    """What a run finds that is as short as it can be. It ends by itself if an answer is not as expected."""
    out = directory / "report"
    brief = ("--rounds", "1", "--seconds", "0.05", "--warm-up", "0.05", "--soak-requests", "100")
    command = [sys.executable, str(ROOT / "benches" / "gateway"), *brief, "--report", str(out), *options]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads((out / "performance.json").read_text())
    return found


def test_every_workload_is_answered_as_expected(tmp_path: Path) -> None:
    found = bench(tmp_path, "--only", "token RS256|1 MB|list|denied|per second")
    requests = found["medians"]["requests"]
    assert len(requests) == 10
    for name, rows in requests.items():
        assert set(rows) >= MAIN, name
        assert all(row["us"] > 0 and row["requests"] > 0 for row in rows.values()), name
    others = {"empty wasm", "host calls alone", "native chain, no token cache", "toolgate, no records"}
    assert set(requests["known token RS256"]) == MAIN | others
    page = (tmp_path / "report" / "performance.md").read_text()
    assert all(f"| {name} | " in page for name in requests)
    picture = (tmp_path / "report" / "performance.svg").read_text()
    assert all(f">{name}<" in picture for name in requests)


def test_the_start_and_memory_are_looked_at(tmp_path: Path) -> None:
    found = bench(tmp_path, "--only", "start|memory")["medians"]
    assert set(found["start"]) == {"no filter", "toolgate"}
    assert found["start"]["toolgate"]["module_bytes"] > 0
    assert set(found["memory"]) == MAIN - {"no filter, again"}
    assert all(len(row["resident_mb"]) == 11 for row in found["memory"].values())


def calls_of_a_request(bench: Bench, variant: str) -> list[str]:
    """What the host and the module ask of each other for one request, by name, in order."""
    log, call = bench.directory / "gateway.log", known_call()
    token = bench.issuer.known("RS256").read_text().strip()
    start = log.stat().st_size
    connection = http.client.HTTPConnection(LOOPBACK, bench.ports[variant])
    connection.request("POST", PATH, call.body, {**dict(call.headers), "authorization": f"Bearer {token}"})
    assert connection.getresponse().status == 200
    bench.envoys.wait_until("the stream is gone", lambda: b"proxy_on_delete return" in log.read_bytes()[start:])
    text = log.read_bytes()[start:].decode()
    # What the root does meanwhile is not part of it.
    text = re.sub(r"\[host->vm\] proxy_on_tick\(.*?\[host<-vm\] proxy_on_tick return", "", text, flags=re.DOTALL)
    return re.findall(r"\[(?:vm->host|host->vm)\] (?:env\.)?(\w+)\(", text)


def test_the_host_calls_alone_are_those_of_toolgate(tmp_path: Path) -> None:
    """A question to the host costs about a microsecond, so each is there for a reason."""
    variants = [one for one in all_variants({}, tmp_path) if one.name in (HOST_CALLS, TOOLGATE)]
    with Bench(tmp_path, variants, Issuer(tmp_path)) as bench:
        for variant in variants:
            bench.send(variant, known_call(), 0.1, 0)
        admin = http.client.HTTPConnection(LOOPBACK, bench.admin)
        admin.request("POST", "/logging?wasm=trace")
        assert admin.getresponse().status == 200
        alone, toolgate = (calls_of_a_request(bench, name) for name in (HOST_CALLS, TOOLGATE))
    assert toolgate == alone
    assert len(alone) > 30

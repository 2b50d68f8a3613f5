"""The benchmark runs, and what it compares gets the answers that it is to get. What it finds is not judged here."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from stack import ROOT

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
    assert {"empty wasm", "native chain, no token cache", "toolgate, no records"} < set(requests["known token RS256"])
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

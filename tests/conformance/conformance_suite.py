"""Runs the official MCP conformance suite against a server, and compares two runs of it.

What is compared is verdicts, check by check: whatever passes against the server itself must pass through the gateway.
"""

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

import stack

HERE = Path(__file__).resolve().parent
MODULES = stack.ROOT / "target" / "conformance" / "node_modules"
SUITE = MODULES / "@modelcontextprotocol" / "conformance"
EXCEPTIONS = HERE / "exceptions.yaml"
REVISIONS = ("2025-11-25", "2026-07-28")
#: Seconds for all scenarios of a revision; they take about three.
PATIENCE = 120


class Verdict(IntEnum):
    """What the suite says about a check, the worst first."""

    FAILURE = 0
    WARNING = 1
    SKIPPED = 2
    SUCCESS = 3


class Check(NamedTuple):
    """One check of one scenario. Several checks of a scenario may share an id, and then differ in name."""

    scenario: str
    id: str
    name: str

    def __str__(self) -> str:
        return f"{self.scenario}:{self.id} ({self.name})"


class Outcome(NamedTuple):
    """What became of a check, and what the suite says was wrong."""

    verdict: Verdict
    message: str = ""


Results = dict[Check, Outcome]


@dataclass(frozen=True)
class Requirements:
    """What the suite asks of servers of a revision."""

    required: frozenset[str]
    not_scored: frozenset[str]

    @classmethod
    def of(cls, revision: str) -> "Requirements":
        """As the suite's own file has it."""
        document = stack.load_document(SUITE / "requirements" / f"{revision}.yaml")
        others = {entry["scenario"] for entry in document["not_scored"] if entry["leg"] == "server"}
        return cls(frozenset(document["server"]), frozenset(others))


# --- Runs -------------------------------------------------------------------------------------------------------------


def server_command(port: int) -> list[str]:
    """The server that passes the suite."""
    return [sys.executable, str(HERE / "fixture"), "--port", str(port)]


def node() -> Path:
    """The Node that was installed beside the suite, which needs 22 and newer."""
    found = sorted(MODULES.glob("node-*/bin/node"))
    assert found, "Node for the conformance suite is missing: run scripts/node-env"
    return found[0]


def run(revision: str, url: str, directory: Path) -> Results:
    """All that the suite says about a server; every scenario of the revision is in it."""
    command = [str(node()), str(SUITE / "dist" / "index.js"), "server", "--url", url]
    command += ["--requirements", revision, "--output-dir", str(directory)]
    # Its exit status is not asked for: it is about scenarios, and about required ones only.
    finished = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    results = read(directory)
    requirements = Requirements.of(revision)
    missing = (requirements.required | requirements.not_scored) - {check.scenario for check in results}
    assert not missing, f"no results of {sorted(missing)}:\n{finished.stdout[-4000:]}{finished.stderr[-4000:]}"
    return results


def read(directory: Path) -> Results:
    """The verdicts below a directory; of checks with the same id and name the worst."""
    results: Results = {}
    for path in directory.glob("*/checks.json"):
        named = re.fullmatch(r"server-(.+)-\d{4}-\d\d-\d\dT[\d-]+Z", path.parent.name)
        assert named, f"not the directory of a scenario: {path.parent}"
        for found in json.loads(path.read_text()):
            # These only tell what was sent and received.
            if found["status"] == "INFO":
                continue
            check = Check(named[1], found["id"], found["name"])
            outcome = Outcome(Verdict[found["status"]], found.get("errorMessage") or "")
            results[check] = min(results.get(check, outcome), outcome)
    return results


# --- Comparison -------------------------------------------------------------------------------------------------------


def failing(results: Results) -> Results:
    """Checks that did not pass; one that was skipped proved nothing."""
    return {check: outcome for check, outcome in results.items() if outcome.verdict != Verdict.SUCCESS}


def regressions(direct: Results, through: Results) -> Results:
    """Checks that are worse through the gateway: not passed any more, gone, or failing where there was none."""
    gone = Outcome(Verdict.FAILURE, "the suite did not come to it")
    expected = dict.fromkeys(through, Verdict.SUCCESS) | {check: was.verdict for check, was in direct.items()}
    now = {check: through.get(check, gone) for check in expected}
    return {check: outcome for check, outcome in now.items() if outcome.verdict < expected[check]}


def unexplained(found: Results, exceptions: dict[str, str]) -> str:
    """What the exceptions do not cover, and which of them cover nothing; a line for each.

    An exception names a scenario, or one check of it as `scenario:check-id`, and has a reason.
    """
    used: set[str] = set()
    problems: list[str] = []
    for check, outcome in sorted(found.items()):
        names = {check.scenario, f"{check.scenario}:{check.id}"} & exceptions.keys()
        used |= names
        if not names:
            problems.append(f"{outcome.verdict.name} {check}: {outcome.message}")
    problems += [f"stale exception: {name}" for name in sorted(exceptions.keys() - used)]
    problems += [f"exception without a reason: {name}" for name, reason in exceptions.items() if not reason]
    return "\n".join(problems)


def exceptions(section: str, revision: str) -> dict[str, str]:
    """Names and reasons. Section `direct`: what the server itself fails; `gateway`: what fails through it only."""
    return dict(stack.load_document(EXCEPTIONS)[section].get(revision) or {})

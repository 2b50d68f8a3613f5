"""How it is measured: two pinned Envoys, a load tool beside the upstream, and slices of CPU time."""

import json
import os
import random
import socket
import statistics
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import stack
from stack import LOOPBACK, ROOT, Address, Document, Stack

import configuration
from configuration import AGAIN, BASELINE, Variant
from work import MOST_NEW_TOKENS, PATH, Issuer, Workload

LOAD_TOOL = ROOT / "target" / "cli" / "toolgate-load"
CONNECTIONS = 4


# --- The machine ------------------------------------------------------------------------------------------------------


@contextmanager
def pinned(last: bool) -> Iterator[None]:
    """What is started meanwhile runs on the first or on the last CPU, if there are two, and before others if it may."""
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cpus) if last else min(cpus)})
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -15)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cpus)
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, 0)


def cpu_ns(pid: int) -> int:
    """CPU time of all threads of a process, in nanoseconds."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir())


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on at the moment."""
    sockets = [socket.create_server((LOOPBACK, 0)) for _ in range(count)]
    ports: list[int] = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


# --- The load tool ----------------------------------------------------------------------------------------------------


class LoadTool:
    """`toolgate-load`: a line of JSON is what it is to do, another one is what came of it."""

    def __init__(self) -> None:
        try:
            with pinned(last=True):
                self.process = subprocess.Popen([LOAD_TOOL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        except FileNotFoundError as error:
            raise stack.StackError(f"{LOAD_TOOL} is missing; `make bench` builds it") from error
        #: Where it answers with event streams itself.
        self.events_port: int = self.heard()["events_port"]

    def __enter__(self) -> "LoadTool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()

    def ask(self, **command: Any) -> Document:
        """Does this, and waits for what it says first."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return self.heard()

    def heard(self) -> Document:
        """What it says next."""
        assert self.process.stdout
        answer: Document = json.loads(self.process.stdout.readline() or '{"error": "the load tool ended"}')
        if "error" in answer:
            raise stack.StackError(f"load: {answer['error']}")
        return answer


# --- The bench --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rounds: int
    #: Per variant and round.
    seconds: float
    #: Per variant and workload, before the first round: V8 compiles the hot code anew.
    warm_up: float


class Bench:
    """Both Envoys, with all variants in one of them, and the load tool."""

    def __init__(self, directory: Path, variants: list[Variant], issuer: Issuer) -> None:
        self.directory, self.variants, self.issuer = directory, variants, issuer
        self.envoys = Stack(directory)

    def __enter__(self) -> "Bench":
        try:
            self.start()
        except BaseException:
            self.envoys.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.load.__exit__(kind, error, trace)
        self.envoys.close()

    def start(self) -> None:
        """Starts everything, and waits for it."""
        *ports, admin, upstream, upstream_admin = free_ports(len(self.variants) + 3)
        self.ports = dict(zip((variant.name for variant in self.variants), ports, strict=True))
        gateway = configuration.gateway(self.variants, self.ports, admin, upstream, self.issuer, self.directory)
        with pinned(last=True):
            self.start_envoy("upstream", configuration.upstream(upstream, upstream_admin))
        with pinned(last=False):
            self.gateway = self.start_envoy("gateway", gateway)
        addresses = [f"http://{LOOPBACK}:{port}/ready" for port in (admin, upstream_admin)]
        self.envoys.wait_until(
            "both are ready", lambda: all(stack.http_status(address) == 200 for address in addresses)
        )
        self.load = LoadTool()

    def start_envoy(self, name: str, config: Document) -> int:
        """Starts an Envoy with one worker; its process."""
        path = self.directory / f"{name}.yaml"
        path.write_text(stack.dump_document(config))
        self.envoys.start(name, stack.envoy_command(path, workers=1), {stack.AUDIT_KEY: stack.new_key()})
        return self.envoys.children[-1].process.pid

    def send(self, variant: Variant, workload: Workload, seconds: float, most: int, **options: Any) -> Document:
        """Sends for so long; whether every answer is as it must be, is checked."""
        body = self.directory / f"body {workload.name.replace('/', ' ')}"
        if not body.exists():
            body.write_bytes(workload.body)
        tokens = workload.tokens and str(workload.tokens(self.issuer, most))
        command = {"do": "load", "port": self.ports[variant.name], "connections": CONNECTIONS, "seconds": seconds}
        outcome = self.load.ask(
            **{**command, "path": PATH, "headers": workload.headers, "body": str(body), "tokens": tokens, **options}
        )
        expected = workload.denied if workload.denied and variant.judges else 200
        if set(outcome["statuses"]) != {str(expected)}:
            raise stack.StackError(f"{variant.name}, {workload.name}: {outcome['statuses']} in place of {expected}")
        return outcome

    def measure(self, workload: Workload, plan: Plan, **options: Any) -> dict[str, "Row"]:
        """Every variant in random order, round after round."""
        most = int(MOST_NEW_TOKENS * (plan.warm_up + plan.rounds * plan.seconds))
        rows = {variant.name: Row() for variant in self.variants}
        for variant in self.variants:
            self.send(variant, workload, plan.warm_up, most, **options)
        for _ in range(plan.rounds):
            for variant in random.sample(self.variants, len(self.variants)):
                before = cpu_ns(self.gateway)
                outcome = self.send(variant, workload, plan.seconds, most, **options)
                rows[variant.name].note(cpu_ns(self.gateway) - before, outcome)
        return rows


class Row:
    """What one variant did with one workload, round by round."""

    def __init__(self) -> None:
        self.costs: list[float] = []
        self.outcomes: list[Document] = []

    def note(self, cpu: int, outcome: Document) -> None:
        """One slice."""
        self.costs.append(cpu / outcome["requests"] / 1000)
        self.outcomes.append(outcome)

    def summary(self, baselines: list["Row"]) -> Document:
        """Microseconds of CPU per request, and the ratio to the mean of the baselines of the same round."""
        bases = [statistics.fmean(costs) for costs in zip(*(row.costs for row in baselines), strict=True)]
        ratios = [cost / base for cost, base in zip(self.costs, bases, strict=True)]
        low, middle, high = quartiles(ratios)
        median: Callable[[str], float] = lambda name: statistics.median(o["latency_us"][name] for o in self.outcomes)
        return {
            "us": statistics.median(self.costs),
            **{"ratio": middle, "ratio_q1": low, "ratio_q3": high},
            "requests": sum(outcome["requests"] for outcome in self.outcomes),
            "reconnects": sum(outcome["reconnects"] for outcome in self.outcomes),
            "latency_us": {name: median(name) for name in ("p50", "p90", "p99")},
        }


def quartiles(values: list[float]) -> list[float]:
    """The three of them; of one value, that."""
    return statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3


def summaries(rows: dict[str, Row]) -> dict[str, Document]:
    """All variants, compared with the Envoy that has no filter."""
    baselines = [rows[name] for name in (BASELINE, AGAIN)]
    return {name: row.summary(baselines) for name, row in rows.items()}

"""How it is measured: two pinned Envoys, a load tool beside the upstream, and slices of CPU time."""

import json
import os
import random
import re
import socket
import statistics
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import stack
from stack import LOOPBACK, ROOT, Document, Stack

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
    #: Per variant and workload, before the first round: connections are made, and tokens become known.
    warm_up: float


class Bench:
    """Both Envoys, with all variants in one of them, and the load tool."""

    def __init__(self, directory: Path, variants: list[Variant], issuer: Issuer, *, events: bool = False) -> None:
        """With `events`, the upstream is the load tool, which answers with streams."""
        self.directory, self.variants, self.issuer, self.events = directory, variants, issuer, events
        self.envoys = Stack(directory)

    def __enter__(self) -> "Bench":
        with ExitStack() as started:
            started.enter_context(self.envoys)
            self.load = started.enter_context(LoadTool())
            self.start()
            self.started = started.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.started.close()

    def start(self) -> None:
        """Starts the Envoys, and waits for them."""
        *ports, admin, upstream, upstream_admin = free_ports(len(self.variants) + 3)
        self.ports = dict(zip((variant.name for variant in self.variants), ports, strict=True))
        #: Of the gateway.
        self.admin = admin
        with pinned(last=True):
            self.start_envoy("upstream", configuration.upstream(upstream, upstream_admin), upstream_admin)
        upstream = self.load.events_port if self.events else upstream
        config = configuration.gateway(self.variants, self.ports, admin, upstream, self.issuer, self.directory)
        with pinned(last=False):
            self.gateway = self.start_envoy("gateway", config, admin)
        #: Milliseconds of CPU that the gateway's main thread has spent on its start.
        self.start_ms = int(Path(f"/proc/{self.gateway}/schedstat").read_text().split()[0]) / 1e6

    def start_envoy(self, name: str, config: Document, admin: int) -> int:
        """Starts an Envoy with one worker, and waits for it; its process."""
        path = self.directory / f"{name}.yaml"
        path.write_text(stack.dump_document(config))
        self.envoys.start(name, stack.envoy_command(path, workers=1), {stack.AUDIT_KEY: stack.new_key()})
        self.envoys.wait_until(
            f"the {name} is ready", lambda: stack.http_status(f"http://{LOOPBACK}:{admin}/ready") == 200
        )
        return self.envoys.children[-1].process.pid

    def resident_kb(self) -> int:
        """The gateway's resident memory."""
        (size,) = re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.gateway}/status").read_text())
        return int(size)

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

    def measure(self, variants: list[Variant], workload: Workload, plan: Plan, **options: Any) -> dict[str, Document]:
        """Each variant in random order, round after round."""
        most = int(MOST_NEW_TOKENS * (plan.warm_up + plan.rounds * plan.seconds))
        rows = {variant.name: Row() for variant in variants}
        for variant in variants:
            self.send(variant, workload, plan.warm_up, most, **options)
        for _ in range(plan.rounds):
            for variant in random.sample(variants, len(variants)):
                before = cpu_ns(self.gateway)
                outcome = self.send(variant, workload, plan.seconds, most, **options)
                rows[variant.name].note(cpu_ns(self.gateway) - before, outcome)
        baselines = [rows[name] for name in (BASELINE, AGAIN)]
        return {name: row.summary(baselines) for name, row in rows.items()}


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
        latencies = [outcome["latency_us"] for outcome in self.outcomes]
        return {
            "us": statistics.median(self.costs),
            **{"ratio": middle, "ratio_q1": low, "ratio_q3": high},
            "requests": sum(outcome["requests"] for outcome in self.outcomes),
            "reconnects": sum(outcome["reconnects"] for outcome in self.outcomes),
            "latency_us": {name: statistics.median(one[name] for one in latencies) for name in latencies[0]},
        }


def quartiles(values: list[float]) -> list[float]:
    """The three of them; of one value, that."""
    return statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3

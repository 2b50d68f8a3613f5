"""The figures besides those of requests: the start, memory, and event streams."""

import os
import statistics
import time
from dataclasses import replace
from pathlib import Path

from stack import Document

from configuration import AGAIN, BASELINE, Variant, audit_log
from measure import Bench
from work import PATH, Issuer, known_call

STARTS = 3
SOAK_STEPS = 10
STREAMS = 1000
#: How long all of them are listened to.
STREAM_SECONDS = 10


class Figures:
    """Of one variant at a time, each in an Envoy of its own."""

    def __init__(self, directory: Path, variants: list[Variant], issuer: Issuer) -> None:
        self.directory, self.issuer = directory, issuer
        self.variants = [variant for variant in variants if variant.is_main and variant.name != AGAIN]
        #: Without the native chain, which adds nothing to a start and does not look at streams.
        self.few = [variant for variant in self.variants if variant.wasm or variant.name == BASELINE]

    def bench(self, variant: Variant, *, events: bool = False) -> Bench:
        """An Envoy with this variant only."""
        return Bench(self.directory, [variant], self.issuer, events=events)

    def start(self) -> Document:
        """What a module adds to the start: CPU of the main thread, and memory before the first request."""
        starts: dict[str, list[tuple[float, float]]] = {variant.name: [] for variant in self.few}
        for _ in range(STARTS):
            for variant in self.few:
                with self.bench(variant) as bench:
                    starts[variant.name].append((bench.start_ms, bench.resident_kb() / 1024))
        return {
            variant.name: {
                "main_thread_ms": statistics.median(cpu for cpu, _ in starts[variant.name]),
                "resident_mb": statistics.median(memory for _, memory in starts[variant.name]),
                "module_bytes": variant.wasm.stat().st_size if variant.wasm else 0,
            }
            for variant in self.few
        }

    def memory(self, requests: int) -> Document:
        """Resident megabytes before and after each tenth of so many requests, with thousands of tokens in turn."""
        workload = replace(known_call(), tokens=lambda issuer, most: issuer.new("RS256", most))
        figures = {}
        for variant in self.variants:
            with self.bench(variant) as bench:
                resident = [bench.resident_kb()]
                for _ in range(SOAK_STEPS):
                    bench.send(variant, workload, 3600, requests, requests=requests // SOAK_STEPS)
                    resident.append(bench.resident_kb())
                    # A million records would fill the disk.
                    if variant.records:
                        os.truncate(audit_log(variant, self.directory), 0)
            figures[variant.name] = {"requests": requests, "resident_mb": [size / 1024 for size in resident]}
        return figures

    def streams(self) -> Document:
        """Memory of a stream, and how late its events arrive, while many are open that have an event each second."""
        return {variant.name: self.stream(variant) for variant in self.few}

    def stream(self, variant: Variant) -> Document:
        """Of one variant."""
        token = self.issuer.known("RS256").read_text().strip()
        headers = [
            ("accept", "text/event-stream"),
            ("mcp-protocol-version", "2025-11-25"),
            ("authorization", f"Bearer {token}"),
        ]
        with self.bench(variant, events=True) as bench:

            def listen(streams: int, seconds: float) -> tuple[int, Document]:
                """Memory while all of them are open, and what their events were like."""
                command = {"port": bench.ports[variant.name], "path": PATH, "headers": headers}
                bench.load.ask(do="streams", **command, streams=streams, seconds=seconds)
                time.sleep(seconds / 2)
                return bench.resident_kb(), bench.load.heard()

            # Not from none at all: the first ones use what the start has left over.
            half, _ = listen(STREAMS // 2, 2)
            whole, outcome = listen(STREAMS, STREAM_SECONDS)
        return {"kb_per_stream": (whole - half) / (STREAMS - STREAMS // 2), **outcome}

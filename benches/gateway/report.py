"""What came of it: for the terminal, as JSON, as tables and as a picture."""

import datetime
import html
import json
import math
import platform
import re
import statistics
import subprocess
from pathlib import Path
from typing import Any

import stack
from stack import ROOT, Document

from configuration import BASELINE, NATIVE, TOOLGATE

PAGE = ROOT / "docs" / "performance.md"


def text(name: str, rows: dict[str, Document]) -> str:
    """A workload's rows, for people who wait for the next."""
    lines = [f"\n{name}"]
    for variant, row in rows.items():
        latency = row["latency_us"]
        lines.append(
            f"  {variant:30}{row['us']:9.1f} us  {row['ratio']:6.2f}  ({row['ratio_q1']:.2f} to {row['ratio_q3']:.2f})"
            f"  p50 {latency['p50']:7.0f}  p99 {latency['p99']:7.0f}  n {row['requests']}"
            + (f"  {row['reconnects']} reconnects" if row["reconnects"] else "")
        )
    return "\n".join(lines)


# --- JSON -------------------------------------------------------------------------------------------------------------


def document(runs: list[Document], method: Document) -> Document:
    """All figures, where they come from, and the median of each."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "envoy": envoy_version(),
        "method": method,
        "medians": median_of(runs),
        "runs": runs,
    }


def json_text(contents: Document) -> str:
    """As a file has it."""
    return json.dumps(contents, indent=1) + "\n"


def median_of(runs: list[Any]) -> Any:
    """A document of the same shape, with the median of each number."""
    first = runs[0]
    if isinstance(first, dict):
        return {name: median_of([run[name] for run in runs]) for name in first}
    if isinstance(first, list):
        return [median_of(list(values)) for values in zip(*runs, strict=True)]
    return statistics.median(runs)


def machine() -> Document:
    """Where it was measured."""
    cpus = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {"cpus": len(cpus), "model": cpus[0] if cpus else platform.machine(), "system": platform.system()}


def envoy_version() -> str:
    """The release."""
    shown = subprocess.run([stack.envoy_binary(), "--version"], capture_output=True, text=True, check=True).stdout
    (version,) = re.findall(r"/(\d+\.\d+\.\d+[^/]*)/", shown)
    return str(version)


# --- The page ---------------------------------------------------------------------------------------------------------


def write(directory: Path, contents: Document) -> None:
    """The page with its tables as they are now, the picture in it, and the figures of both."""
    directory.mkdir(parents=True, exist_ok=True)
    page = PAGE.read_text()
    for name, table in tables(contents).items():
        page = re.sub(
            rf"(<!-- bench: {name} -->\n).*?(<!-- end -->)", lambda match: match[1] + table + match[2], page, flags=re.S
        )
    (directory / "performance.md").write_text(page)
    (directory / "performance.json").write_text(json_text(contents))
    if requests := contents["medians"]["requests"]:
        (directory / "performance.svg").write_text(picture(requests))


def tables(contents: Document) -> dict[str, str]:
    """Each by its name on the page; without those that were not measured."""
    runs = contents["runs"]
    found = {"machine": where(contents)}
    if requests := contents["medians"]["requests"]:
        found["requests"] = request_table(runs)
        found["variants"] = variant_table(runs)
        if rated := [name for name in requests if name.endswith("per second")]:
            found["rate"] = rate_table(runs, rated[0])
    makers = {"start": start_table, "memory": memory_table, "event streams": stream_table}
    return found | {name: make(contents["medians"][name]) for name, make in makers.items() if name in runs[0]}


def table(*rows: list[str]) -> str:
    """The first row is the head."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]]) + "\n"


def where(contents: Document) -> str:
    """A sentence on the circumstances."""
    computer, method = contents["machine"], contents["method"]
    return (
        f"Measured on {contents['date']} with Envoy {contents['envoy']} on {computer['cpus']} CPUs "
        f"({computer['model']}): runs: {len(contents['runs'])}, of {method['rounds']} rounds of {method['seconds']} s.\n"
    )


def ratio(runs: list[Document], workload: str, variant: str) -> str:
    """The median of the runs, and in brackets that of each; of a single run its quartiles."""
    rows = [run["requests"][workload][variant] for run in runs if variant in run["requests"][workload]]
    if not rows:
        return ""
    if len(rows) == 1:
        beside = f"{rows[0]['ratio_q1']:.2f} to {rows[0]['ratio_q3']:.2f}"
    else:
        beside = ", ".join(f"{row['ratio']:.2f}" for row in rows)
    return f"**{statistics.median(row['ratio'] for row in rows):.2f}** ({beside})"


def cost(runs: list[Document], workload: str, variant: str) -> str:
    """CPU per request."""
    return f"{statistics.median(run['requests'][workload][variant]['us'] for run in runs):.0f} us"


def request_table(runs: list[Document]) -> str:
    """Toolgate next to Envoy's own filters, for every workload."""
    compared = [TOOLGATE, NATIVE]
    return table(
        ["Request", "CPU without a filter", *(f"ratio of {variant}" for variant in compared)],
        *(
            [name, cost(runs, name, BASELINE), *(ratio(runs, name, variant) for variant in compared)]
            for name in runs[0]["requests"]
        ),
    )


def variant_table(runs: list[Document]) -> str:
    """Every variant, for the workload that has them all."""
    name, rows = max(runs[0]["requests"].items(), key=lambda item: len(item[1]))
    return table(
        [f"Variant ({name})", "CPU per request", "ratio"],
        *([variant, cost(runs, name, variant), ratio(runs, name, variant)] for variant in rows),
    )


def rate_table(runs: list[Document], name: str) -> str:
    """Latency."""
    rows = median_of(runs)["requests"][name]
    return table(
        [f"At {name}", "CPU per request", "ratio", "p50", "p90", "p99"],
        *(
            [
                *(variant, cost(runs, name, variant), ratio(runs, name, variant)),
                *(f"{value / 1000:.2f} ms" for value in row["latency_us"].values()),
            ]
            for variant, row in rows.items()
        ),
    )


def start_table(variants: Document) -> str:
    """Until Envoy is ready."""
    return table(
        ["Start", "CPU of the main thread", "resident memory", "module"],
        *(
            [
                *(variant, f"{row['main_thread_ms']:.0f} ms", f"{row['resident_mb']:.0f} MB"),
                f"{row['module_bytes'] / 1024:,.0f} KiB" if row["module_bytes"] else "",
            ]
            for variant, row in variants.items()
        ),
    )


def memory_table(variants: Document) -> str:
    """Over a soak."""
    (requests,) = {row["requests"] for row in variants.values()}
    steps = len(next(iter(variants.values()))["resident_mb"])
    return table(
        ["Resident memory after", *(f"{requests * step // (steps - 1):,.0f} requests" for step in (0, 1, 2, 5, 10))],
        *(
            [variant, *(f"{row['resident_mb'][step]:.1f} MB" for step in (0, 1, 2, 5, 10))]
            for variant, row in variants.items()
        ),
    )


def stream_table(variants: Document) -> str:
    """Many at once."""
    return table(
        ["Event streams", "memory per stream", "delay of an event, median", "p90", "p99"],
        *(
            [
                *(variant, f"{row['kb_per_stream']:.1f} KB"),
                *(f"{value / 1000:.2f} ms" for value in row["delay_us"].values()),
            ]
            for variant, row in variants.items()
        ),
    )


# --- The picture ------------------------------------------------------------------------------------------------------

COLOURS = {TOOLGATE: "#1f6feb", NATIVE: "#9aa4b2"}
LEFT, WIDTH, BAR, GAP, TOP = 190, 560, 11, 12, 56


def picture(requests: Document) -> str:
    """Bars of ratios, on a logarithmic scale that starts at no filter, with their quartiles as whiskers."""
    rows = [(name, row) for name, row in requests.items() if TOOLGATE in row and NATIVE in row]
    most = max((row[variant]["ratio_q3"] for _, row in rows for variant in COLOURS), default=2.0)
    octaves = max(1, math.ceil(math.log2(most)))

    def x(value: float) -> float:
        return LEFT + WIDTH * max(0.0, math.log2(value)) / octaves

    def label(at: float, y: float, words: str, anchor: str = "start") -> str:
        return f'<text x="{at:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(words)}</text>'

    step = len(COLOURS) * BAR + GAP
    height = TOP + step * len(rows) + 8
    parts = [label(8, 18, "CPU per request, as a multiple of Envoy without a filter (quartiles of the rounds)")]
    for place, (variant, colour) in enumerate(COLOURS.items()):
        key = LEFT + 110 * place
        parts.append(f'<rect x="{key}" y="26" width="{BAR}" height="{BAR}" fill="{colour}"/>')
        parts.append(label(key + 16, 36, variant))
    for octave in range(octaves + 1):
        at = x(2.0**octave)
        parts.append(f'<path d="M{at:.1f} {TOP - 2}V{height - 6}" stroke="#d0d7de"/>')
        parts.append(label(at, TOP - 6, f"{2**octave}", "middle"))
    for number, (name, row) in enumerate(rows):
        top = TOP + 4 + step * number
        parts.append(label(LEFT - 8, top + BAR + 4, name, "end"))
        for place, (variant, colour) in enumerate(COLOURS.items()):
            figures, y = row[variant], top + BAR * place
            low, middle, high = (x(figures[key]) for key in ("ratio_q1", "ratio", "ratio_q3"))
            parts += [
                f'<rect x="{LEFT}" y="{y}" width="{middle - LEFT:.1f}" height="{BAR - 1}" fill="{colour}"/>',
                f'<path d="M{low:.1f} {y + 5}H{high:.1f}M{low:.1f} {y + 2}v6M{high:.1f} {y + 2}v6" stroke="#24292f"/>',
                label(high + 5, y + 9, f"{figures['ratio']:.2f}"),
            ]
    size = f'width="{LEFT + WIDTH + 60}" height="{height}"'
    style = 'font-family="system-ui, sans-serif" font-size="11" fill="#24292f"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n<rect {size} fill="#ffffff"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )

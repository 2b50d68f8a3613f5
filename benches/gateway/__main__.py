"""What a request costs in Envoy with Toolgate, against the same Envoy without it and with Envoy's own filters.

    python benches/gateway [--rounds 10] [--seconds 0.3] [--runs 1] [--only REGEX] [--wasm NAME=FILE ...]

docs/performance.md says how it is measured, and what came of it. Needs Linux, `make build` and the load tool.
"""

import argparse
import json
import re
import resource
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent.parent / "demo"))

import report
from configuration import AGAIN, BASELINE, Variant, all_variants
from figures import Figures
from measure import Bench, Plan
from stack import Document, StackError
from work import Issuer, Workload, known_call, workloads

#: A moderate load, which leaves CPUs idle: requests per second, and connections.
RATE = 500
RATE_CONNECTIONS = 8


def named_file(text: str) -> tuple[str, Path]:
    """`NAME=FILE`, or a file that is its own name."""
    name, separator, path = text.partition("=")
    return (name, Path(path)) if separator else (Path(text).stem, Path(text))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--rounds", type=int, default=10, help="how often each variant has its turn")
    add("--seconds", type=float, default=0.3, help="per variant and round")
    add("--warm-up", type=float, default=1.0, help="seconds per variant and workload")
    add("--runs", type=int, default=1, help="everything so often, with new processes")
    add("--only", type=re.compile, default=re.compile(""), help="figures whose names fit")
    add("--variants", type=re.compile, help="for every workload those whose names fit, besides those without a filter")
    add("--wasm", type=named_file, action="append", default=[], metavar="NAME=FILE", help="compare these builds")
    add("--soak-requests", type=int, default=50_000, help="while memory is looked at")
    add("--json", type=Path, metavar="FILE", help="write the results there")
    add("--report", type=Path, metavar="DIRECTORY", help="write performance.md, .json and .svg there")
    return parser.parse_args()


def measure(options: argparse.Namespace, directory: Path, issuer: Issuer) -> Document:
    """One run of everything that is asked for."""
    everything = all_variants(dict(options.wasm), directory)
    plan = Plan(options.rounds, options.seconds, options.warm_up)

    def chosen(every_variant: bool) -> list[Variant]:
        if options.variants:
            return [one for one in everything if one.name in (BASELINE, AGAIN) or options.variants.search(one.name)]
        return [one for one in everything if every_variant or one.is_main]

    # Longer slices at a fixed rate, as there are fewer requests in them.
    slow = Plan(-(-plan.rounds // 2), plan.seconds * 4, plan.warm_up)
    at_rate = replace(known_call(), name=f"{RATE} requests per second", every_variant=False)
    jobs: list[tuple[Workload, Plan, Document]] = [
        *((workload, plan, {}) for workload in workloads()),
        (at_rate, slow, {"rate": RATE, "connections": RATE_CONNECTIONS}),
    ]
    run: Document = {"requests": {}}
    if jobs := [job for job in jobs if options.only.search(job[0].name)]:
        with Bench(directory, everything, issuer) as bench:
            for workload, how_much, how in jobs:
                rows = bench.measure(chosen(workload.every_variant), workload, how_much, **how)
                run["requests"][workload.name] = rows
                print(report.text(workload.name, rows), flush=True)

    figures = Figures(directory, chosen(every_variant=False), issuer)
    others = {
        "start": figures.start,
        "memory": lambda: figures.memory(options.soak_requests),
        "event streams": figures.streams,
    }
    for name, figure in others.items():
        if options.only.search(name):
            run[name] = figure()
            print(f"\n{name}\n{json.dumps(run[name], indent=2)}", flush=True)
    return run


def main() -> None:
    """Measures, prints and writes."""
    options = arguments()
    # Two for each event stream.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        issuer = Issuer(directory)
        runs = [measure(options, directory, issuer) for _ in range(options.runs)]
    method = {name: getattr(options, name) for name in ("rounds", "seconds", "warm_up", "soak_requests")}
    document = report.document(runs, method)
    if options.json:
        options.json.write_text(report.json_text(document))
    if options.report:
        report.write(options.report, document)


if __name__ == "__main__":
    try:
        main()
    except StackError as error:
        sys.exit(f"bench: {error}")

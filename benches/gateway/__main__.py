"""What a request costs in Envoy with Toolgate, against the same Envoy without it and with Envoy's own filters.

    python benches/gateway [--rounds 20] [--seconds 0.3] [--only REGEX] [--wasm NAME=FILE ...]

docs/performance.md says how it is measured and what came of it.
"""

import argparse
import json
import re
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent.parent / "demo"))

from configuration import standard_variants
from measure import Bench, Plan, summaries
from stack import Document, StackError
from work import Issuer, workloads


def named_file(text: str) -> tuple[str, Path]:
    """`NAME=FILE`, or a file that is its own name."""
    name, separator, path = text.partition("=")
    return (name, Path(path)) if separator else (Path(text).stem, Path(text))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=0.3, help="per variant and round")
    parser.add_argument("--warm-up", type=float, default=1.0, help="seconds per variant and workload")
    parser.add_argument("--only", type=re.compile, default=re.compile(""), help="of the workloads, by regex")
    parser.add_argument("--variants", type=re.compile, default=re.compile(""), help="besides those without a filter")
    parser.add_argument("--wasm", type=named_file, action="append", default=[], metavar="NAME=FILE",
                        help="compare builds of the module; may be given several times")
    parser.add_argument("--json", type=Path, help="also write the results there")
    return parser.parse_args()


def table(name: str, rows: dict[str, Document]) -> str:
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


def main() -> None:
    """Measures and prints."""
    options = arguments()
    plan = Plan(options.rounds, options.seconds, options.warm_up)
    results = {}
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        variants = [
            variant
            for variant in standard_variants(dict(options.wasm), directory)
            if variant.name.startswith("no filter") or options.variants.search(variant.name)
        ]
        with Bench(directory, variants, Issuer(directory)) as bench:
            for workload in workloads():
                if options.only.search(workload.name):
                    results[workload.name] = summaries(bench.measure(workload, plan))
                    print(table(workload.name, results[workload.name]), flush=True)
    if options.json:
        options.json.write_text(json.dumps({"results": results}, indent=2) + "\n")


if __name__ == "__main__":
    try:
        main()
    except StackError as error:
        sys.exit(f"bench: {error}")

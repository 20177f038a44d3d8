"""Run every benchmark (or one), print the ratios, write benchmarks/results.json.

Each module here with a `BENCHMARKS` mapping of name -> function takes part; a function measures us and a named peer in
the same run and returns one row, or raises `Skipped` with the reason.
"""

import argparse
import importlib
import json
import platform
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.skip import Skipped

HERE = Path(__file__).parent
Row = dict[str, object]


def load_benchmarks() -> dict[str, Callable[[], Row]]:
    found: dict[str, Callable[[], Row]] = {}
    for path in sorted(HERE.glob("*.py")):
        if path.stem not in {"run", "__init__"}:
            found |= getattr(importlib.import_module(f"benchmarks.{path.stem}"), "BENCHMARKS", {})
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="one name")
    only = parser.parse_args().only
    benchmarks = load_benchmarks()
    if only and only not in benchmarks:
        print(f"no benchmark named {only}; there are: {', '.join(benchmarks)}", file=sys.stderr)
        return 2
    output = HERE / "results.json"
    rows: dict[str, Row] = {}
    if only and output.exists():
        rows = {str(row["name"]): row for row in json.loads(output.read_text())}
    for name in [only] if only else benchmarks:
        try:
            row = benchmarks[name]() | {"machine": f"{platform.machine()}, {_processor()}"}
        except Skipped as reason:
            print(f"{name:36} skipped: {reason}")
            continue
        rows[name] = row
        measured = f"ours {row['ours']:.5g}  {row['peer_name']} {row['peer']:.5g} {row['unit']}"
        print(f"{name:36} ratio {row['ratio']:8.3f}   {measured}")
    output.write_text(json.dumps(list(rows.values()), indent=1) + "\n")
    return 0


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


if __name__ == "__main__":
    sys.exit(main())

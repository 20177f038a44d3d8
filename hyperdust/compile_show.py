"""How `hyperdust graph compile` shows itself: a progress bar on stderr, the report as a table."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from hyperdust.compile import Tick

_LINES = (
    ("cosine to the fp32 module, mean", "fidelity", "cosine_mean", "{:.5f}"),
    ("cosine to the fp32 module, least", "fidelity", "cosine_min", "{:.5f}"),
    ("perplexity, exact", "fidelity", "perplexity", "{:.3f}"),
    ("perplexity, fp32", "fidelity", "perplexity_fp32", "{:.3f}"),
    ("measured on", "fidelity", "n", "{:,}"),
    ("MACs", "cost", "macs", "{:,}"),
    ("share that may be mined", "cost", "mining_share", "{:.1%}"),
    ("constants, bytes", "cost", "constants_bytes", "{:,}"),
    ("operators", "cost", "operators", "{:,}"),
    ("subgraphs", "cost", "subgraphs", "{:,}"),
)


def report_table(report: Mapping[str, Any]) -> str:
    """The report for people: one line a number, then what to type next."""
    rows = [(what, shape.format(report[part][key])) for what, part, key, shape in _LINES if key in report[part]]
    for place, (what, value) in enumerate(rows):
        if what == "measured on":
            rows[place] = (what, f"{value} outputs ({report['fidelity']['inputs']})")
        elif what == "MACs":
            sizes = ", ".join(f"{name} = {size}" for name, size in report["cost"]["symbols"].items())
            rows[place] = (f"MACs at {sizes}" if sizes else what, value)
    width = max(len(what) for what, _ in rows)
    lines = [f"{report['name']}  {report['id']}", *(f"  {what:<{width}}  {value}" for what, value in rows)]
    return "\n".join((*lines, f"hyperdust graph run --graph {report['path']}"))


@contextmanager
def progress_bar() -> Iterator[Tick]:
    """Where steps are shown: a bar on a terminal, else nothing."""
    if not sys.stderr.isatty():
        yield lambda _what, _done, _of: None
        return
    from rich.console import Console  # noqa: PLC0415  # loads only where it is shown
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=None)
        yield lambda what, done, of: bar.update(task, description=what, completed=done, total=of)

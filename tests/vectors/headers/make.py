"""Writes the header vectors from the rules' own tests, when a rule changes: python -m tests.vectors.headers.make."""

import json
from dataclasses import asdict, replace
from pathlib import Path

from tests.unit.consensus.test_headers import CHILD, NOW, PARAMS, PARENT, REJECTED, TICKET

HERE = Path(__file__).parent


def write(name, header, error=None):
    pre = {"params": asdict(PARAMS), "parent": PARENT.encode().hex(), "parent_ticket": TICKET.hex(), "now": NOW}
    vector = {"pre": pre, "input": header.encode().hex()}
    vector |= (
        {"post": {"hash": header.hash.hex(), "seal_hash": header.seal_hash.hex()}}
        if error is None
        else {"error": error}
    )
    (HERE / f"{name}.json").write_text(json.dumps(vector, indent=1) + "\n")


if __name__ == "__main__":
    write("accepted", CHILD)
    write("accepted_at_the_edge_of_the_future", replace(CHILD, timestamp=NOW + PARAMS.max_future_s))
    for changes, rule in REJECTED:
        (field,) = changes
        write(f"rejected_{field}_{rule.__name__}", replace(CHILD, **changes), rule.__name__)

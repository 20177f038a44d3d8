"""Writes the origin vectors from the rules' own tests, when a rule changes: python -m tests.vectors.origins.make."""

import json
from pathlib import Path

from tests.unit.consensus.test_origin import ACCEPTED, DEPTH, REJECTED, VIEW

HERE = Path(__file__).parent


def write(name, origin, parents, error=None):
    pre = {
        "best": [VIEW.hash_at(height).hex() for height in range(VIEW.height + 1)],
        "side": {block_hash.hex(): height for block_hash, height in VIEW.side.items()},
        "parent_origin": parents.hex(),
        "depth_blocks": DEPTH,
    }
    vector = {"pre": pre, "input": origin.hex()}
    vector |= {"post": {}} if error is None else {"error": error.__name__}
    (HERE / f"{name}.json").write_text(json.dumps(vector, indent=1) + "\n")


if __name__ == "__main__":
    for name, case in ACCEPTED.items():
        write(f"accepted_{name}", *case)
    for name, case in REJECTED.items():
        write(f"rejected_{name}", *case)

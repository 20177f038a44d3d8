"""A job for each graph that ships, on the devnet: the answer's trace root is everybody's own, on every backend here."""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

pytestmark = pytest.mark.functional

HYPERDUST: Final = Path(sys.executable).parent / "hyperdust"


def hyperdust(*args: str) -> Any:
    run = subprocess.run([HYPERDUST, *args, "--json"], capture_output=True, text=True, timeout=180, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.fixture(scope="module")
def dice() -> random.Random:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    return random.Random(seed)


@pytest.mark.parametrize("graph", ["minilm", "llama-tiny", "render_island"])
def test_a_job_of_each_graph_is_answered_exactly(devnet, graph, dice, tmp_path) -> None:
    if graph == "render_island":
        view = tmp_path / "view.json"
        view.write_text(json.dumps({"yaw": dice.randrange(360), "width": 48, "height": 40}))
        question = ["--input", str(view)]
    else:
        words = ["block", "ticket", "proof", "river", "bridge", "the", "a", "of", "miner", "light"]
        question = ["--text", " ".join(dice.choices(words, k=7))]
    job = hyperdust("job", "ask", "--graph", graph, *question, "--rpc", devnet.rpc)
    for backend in hyperdust("graph", "backends")["available"]:
        local = hyperdust("graph", "run", "--graph", graph, *question, "--backend", backend)
        assert (local["trace_root"], local["output"]) == (job["trace_root"], job["output"]), backend

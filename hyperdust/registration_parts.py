"""How a graph's file is cut for GraphRegistry: whole subgraphs, each part within a transaction; what a part costs."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from chain.errors import HyperdustError
from pouw.graph_encoding import encode_operator, encode_top_layer
from pouw.hypergraph import Hypergraph, Subgraph, is_mining
from precompiles.graph_facts import OPERANDS_MAX, read_facts
from precompiles.registry import GRAPH_FACTS, PRECOMPILES

TRANSACTION_GAS: Final = 2**24  # EIP-7825
PART_BYTES_MAX: Final = 65_536  # what the contract takes of a file at once
ANNOUNCE_GAS: Final = 60_000
LINEAGE_GAS: Final = 150_000
_TRANSACTION: Final = 21_000 + 3_000  # and the ABI's own words
_CONTRACT_GAS: Final = 750_000  # memory for the largest part, the counters, the name
_SLOT_GAS: Final = 22_200
_TOUCH_GAS: Final = 3_000  # a slot that stays as it is
_CODE_GAS_PER_BYTE: Final = 202
_NONZERO_GAS, _ZERO_GAS = 16, 4
_BASE_GAS, _WORD_GAS = next((entry[2], entry[3]) for entry in PRECOMPILES if entry[0] == GRAPH_FACTS)


class SubgraphTooLarge(HyperdustError):
    """One subgraph does not fit into a transaction, and a subgraph is never cut."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one transaction brings."""

    first: int
    """Number of its first subgraph; of the beginning of the file 0."""
    end: int
    data: bytes
    """The beginning of the graph file, or the operators of the subgraphs."""
    gas: int
    """What the transaction uses at most."""


def cut(graph: Hypergraph, first: int = 0) -> tuple[Part, ...]:
    """Return the parts that bring a graph's subgraphs from number `first` on, each as large as a transaction takes.

    Raises:
        SubgraphTooLarge, and what `macs_terms` raises.
    """
    top_layer = encode_top_layer(graph)
    names = [symbol.name for symbol in graph.symbols]
    terms = _terms_gas(graph)
    parts: list[Part] = []
    operators, operands, begin = b"", 0, first
    for number in range(first, len(graph.subgraphs)):
        subgraph = graph.subgraphs[number]
        encoded = b"".join(encode_operator(operator, names) for operator in subgraph.operators)
        mining = sum(is_mining(operator) for operator in subgraph.operators)
        grown = _part(top_layer, begin, number + 1, operators + encoded, operands + mining, terms)
        if not _fits(grown, operands + mining):
            if begin == number:
                raise SubgraphTooLarge(_too_large(subgraph, grown, mining))
            parts.append(_part(top_layer, begin, number, operators, operands, terms))
            operators, operands, begin = b"", 0, number
            alone = _part(top_layer, begin, number + 1, encoded, mining, terms)
            if not _fits(alone, mining):
                raise SubgraphTooLarge(_too_large(subgraph, alone, mining))
        operators, operands = operators + encoded, operands + mining
    return (*parts, _part(top_layer, begin, len(graph.subgraphs), operators, operands, terms))


def check_parts(graph: Hypergraph, parts: tuple[Part, ...]) -> None:
    """Refuse what the registry would refuse of any part.

    Raises:
        Invalid: its kinds name the operator and the bound.
    """
    for part, file in zip(parts, files_of(graph, parts), strict=True):
        read_facts(file, part.first)


def files_of(graph: Hypergraph, parts: tuple[Part, ...]) -> Iterator[bytes]:
    """Yield what the native call reads of each part: the top layer behind its size, then the operators."""
    top_layer = encode_top_layer(graph)
    for part in parts:
        yield part.data if part.first == 0 else len(top_layer).to_bytes(4, "little") + top_layer + part.data


def _part(top_layer: bytes, first: int, end: int, operators: bytes, operands: int, terms_gas: int) -> Part:
    file = len(top_layer).to_bytes(4, "little") + top_layer + operators
    data = file if first == 0 else operators
    gas = _TRANSACTION + _CONTRACT_GAS + terms_gas
    gas += _ZERO_GAS * data.count(0) + _NONZERO_GAS * (len(data) - data.count(0))
    gas += _BASE_GAS + int(_WORD_GAS) * -(-(2 + len(file)) // 32)  # type: ignore[arg-type]  # one rate
    gas += operands * 2 * _SLOT_GAS
    if first == 0:
        gas += 32_000 + _CODE_GAS_PER_BYTE * (len(top_layer) + 22) + 12 * _SLOT_GAS
    return Part(first, end, data, gas)


def _fits(part: Part, operands: int) -> bool:
    return part.gas <= TRANSACTION_GAS and len(part.data) <= PART_BYTES_MAX and operands <= OPERANDS_MAX


def _terms_gas(graph: Hypergraph) -> int:
    """What keeping the MACs costs a part at most: each exponent that is not zero has a slot."""
    gas = 4 * _SLOT_GAS
    for _, exponents in (*graph.macs_terms(), *graph.mining_macs_terms()):
        nonzero = sum(1 for exponent in exponents if exponent)
        gas += (1 + nonzero) * _SLOT_GAS + (4 - nonzero) * _TOUCH_GAS
    return gas


def _too_large(subgraph: Subgraph, part: Part, operands: int) -> str:
    return (
        f"subgraph {subgraph.name} does not fit into a transaction: {len(part.data):,} bytes of at most "
        f"{PART_BYTES_MAX:,}, {operands} mining operands of at most {OPERANDS_MAX}, {part.gas:,} gas of at most "
        f"{TRANSACTION_GAS:,}; compile it as more, smaller blocks"
    )

"""What GraphRegistry keeps of a graph, read from its file, or a part of it, and checked: the native call 0x…4809.

A graph of which all parts pass is well formed, and whichever element of whichever operator is wrong, one transaction
can show it to the court. Nothing is taken on trust, so that anyone may register. What constants hold is not known here.
"""

from collections.abc import Mapping
from typing import Final

from eth_abi import encode

from chain.errors import Invalid, OutOfRange
from pouw.graph_encoding import compute_graph_id, read_part
from pouw.hypergraph import (
    check_subgraph,
    check_wiring,
    is_mining,
    largest_sizes,
    polynomial,
    subgraph_operand_types,
)
from pouw.operators.elements import check_leaf_bytes
from pouw.operators.types import TensorType, Term

FILE_BYTES_MAX: Final = 131_072
TOP_LAYER_BYTES_MAX: Final = 24_565  # 24,576 of a contract's code, less the 11 that answer with the rest
OPERATOR_BYTES_MIN: Final = 32  # of the file for each operator: the price of a word covers no more
OPERANDS_MAX: Final = 256
TERMS_MAX: Final = 16
EXPONENT_MAX: Final = 4
MACS_MAX: Final = 2**128 - 1
TYPES: Final = (
    "bytes32",  # id
    "string",  # name
    "(uint32,uint32)[]",  # symbols: low, high
    "uint32",  # number of the first subgraph that is not in the part
    "uint32",  # number of all subgraphs
    "(uint32,bytes32,uint32,uint32)[]",  # mining operands of the part by operator: operator, root, k, n
    "(uint128,uint8[4])[]",  # MACs of the part: coefficient, exponent of each symbol
    "(uint128,uint8[4])[]",  # MACs of the products in it that may be mined
)

Polynomial = tuple[tuple[int, tuple[int, int, int, int]], ...]


class TooManyParts(OutOfRange):
    """A part of a graph has more bytes, mining operands, or terms or powers of its MACs than the registry takes."""


class TooManyMacs(OutOfRange):
    """A job of the graph could have 2^128 MACs or more."""


def graph_facts(call: bytes) -> bytes | None:
    """Return the ABI encoding of TYPES for a part of a graph, None for any other bytes or what is refused.

    call: number of the part's first subgraph (two bytes, big-endian), then the part as `read_part` takes it.
    """
    try:
        return read_facts(call[2:], int.from_bytes(call[:2], "big"))
    except Invalid:
        return None


def read_facts(part_file: bytes, first: int = 0) -> bytes:
    """Return the ABI encoding of TYPES for a part of a graph, from subgraph `first` on, that may be registered.

    The top layer is checked each time, an operator with its part. Every operator's element or witness is bounded at
    the largest sizes that the graph allows: each symbol at its upper bound, within a scan R rows of the longest prompt
    and H rows so far of the longest prompt and the last step.

    Raises:
        TooManyParts, TooManyMacs, NoElementRule, LeafTooLarge, and what `read_part` and `check_graph` raise.
    """
    if len(part_file) > FILE_BYTES_MAX:
        raise TooManyParts("bytes of a part of a graph", len(part_file), f"at most {FILE_BYTES_MAX}")
    part = read_part(part_file, first, len(part_file) // OPERATOR_BYTES_MIN)
    if len(part.top_layer) > TOP_LAYER_BYTES_MAX:
        raise TooManyParts("bytes of a top layer", len(part.top_layer), f"at most {TOP_LAYER_BYTES_MAX}")
    graph = part.graph
    wired = check_wiring(graph, part.counts)
    largest = largest_sizes(graph)
    terms: list[Term] = []
    mining_terms: list[Term] = []
    for subgraph, inputs in zip(graph.subgraphs[first : part.end], wired[first : part.end], strict=True):
        outputs = check_subgraph(subgraph, inputs, largest)
        for operator, types in subgraph_operand_types(subgraph, outputs, inputs):
            check_leaf_bytes(operator.rule, [_at(tensor, largest) for tensor in types], operator.attributes)
            term = operator.rule.multiplications(types, operator.attributes)
            if term is not None:
                terms.append(term)
                if is_mining(operator):
                    mining_terms.append(term)
    before = sum(part.counts[:first])
    operands = [(before + operand.operator, operand.root, operand.k, operand.n) for operand in graph.mining_operands()]
    if len(operands) > OPERANDS_MAX:
        raise TooManyParts("mining operands", len(operands), f"at most {OPERANDS_MAX}")
    symbols = [(symbol.low, symbol.high) for symbol in graph.symbols]
    macs, mining_macs = polynomial(graph, terms), polynomial(graph, mining_terms)
    for found in (macs, mining_macs):
        check_polynomial(found, [high for _, high in symbols])
    identity = compute_graph_id(part.top_layer)
    return encode(TYPES, (identity, graph.name, symbols, part.end, len(part.counts), operands, macs, mining_macs))


def _at(tensor: TensorType, largest: Mapping[str, int]) -> TensorType:
    return TensorType(tensor.dtype, tensor.at(largest))


def check_polynomial(terms: Polynomial, highs: list[int]) -> None:
    """Refuse MACs that the registry could not hold, or not evaluate at the symbols' upper bounds `highs`.

    Raises:
        TooManyParts, TooManyMacs.
    """
    if len(terms) > TERMS_MAX:
        raise TooManyParts("terms of the MACs", len(terms), f"at most {TERMS_MAX}")
    total = 0
    for coefficient, exponents in terms:
        if max(exponents) > EXPONENT_MAX:
            raise TooManyParts("exponent of the MACs", max(exponents), f"at most {EXPONENT_MAX}")
        value = coefficient
        for high, exponent in zip(highs, exponents, strict=False):
            value *= high**exponent
        total += value
    if total > MACS_MAX:
        raise TooManyMacs("macs at the largest sizes", total, f"at most {MACS_MAX}")

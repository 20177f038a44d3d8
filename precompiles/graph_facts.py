"""What GraphRegistry keeps of a graph, read from its file and checked: the native call 0x…4809.

A graph that passes is well formed, and whichever element of whichever operator is wrong, one transaction can show it
to the court. Nothing is taken on trust, so that anyone may register. What constants hold is not known here.
"""

from collections.abc import Mapping
from typing import Final

from eth_abi import encode

from chain.errors import Invalid, OutOfRange
from pouw.graph_encoding import compute_graph_id, decode_top_layer, read_graph
from pouw.hypergraph import check_graph, is_mining, largest_sizes, operand_types, polynomial
from pouw.operators.elements import check_leaf_bytes
from pouw.operators.types import TensorType, Term

FILE_BYTES_MAX: Final = 131_072
OPERATOR_BYTES_MIN: Final = 32  # of the file for each operator: the price of a word covers no more
OPERANDS_MAX: Final = 512
TERMS_MAX: Final = 16
EXPONENT_MAX: Final = 4
MACS_MAX: Final = 2**128 - 1
TYPES: Final = (
    "bytes32",  # id
    "string",  # name
    "bytes",  # top layer
    "(uint32,uint32)[]",  # symbols: low, high
    "(uint32,bytes32,uint32,uint32)[]",  # mining operands by operator: operator, root, k, n
    "(uint128,uint8[4])[]",  # MACs: coefficient, exponent of each symbol
    "(uint128,uint8[4])[]",  # MACs of the products that may be mined
)

Polynomial = tuple[tuple[int, tuple[int, int, int, int]], ...]


class TooManyParts(OutOfRange):
    """A graph has more bytes, operators, mining operands, or terms or powers of its MACs than the registry takes."""


class TooManyMacs(OutOfRange):
    """A job of the graph could have 2^128 MACs or more."""


def graph_facts(graph_file: bytes) -> bytes | None:
    """Return the ABI encoding of TYPES for a graph file, None for any other bytes or a graph that is refused."""
    try:
        return read_facts(graph_file)
    except Invalid:
        return None


def read_facts(graph_file: bytes) -> bytes:
    """Return the ABI encoding of TYPES for the file of a graph that may be registered.

    Every operator's element or witness is bounded at the largest sizes that the graph allows: each symbol at its upper
    bound, within a scan R rows of the longest prompt and H rows so far of the longest prompt and the last step.

    Raises:
        TooManyParts, TooManyMacs, NoElementRule, LeafTooLarge, and what `read_graph` and `check_graph` raise.
    """
    if len(graph_file) > FILE_BYTES_MAX:
        raise TooManyParts("bytes of a graph file", len(graph_file), f"at most {FILE_BYTES_MAX}")
    size = int.from_bytes(graph_file[:4], "little")
    top_layer = graph_file[4 : 4 + size]
    heads = decode_top_layer(top_layer).subgraphs
    count = sum(head.operator_count for head in heads)
    if count * OPERATOR_BYTES_MIN > len(graph_file):
        raise TooManyParts("operators", count, f"at most {len(graph_file) // OPERATOR_BYTES_MIN} in such a file")
    graph = read_graph(graph_file)
    outputs = check_graph(graph)
    largest = largest_sizes(graph)
    terms: list[Term] = []
    mining_terms: list[Term] = []
    for operator, types in operand_types(graph, outputs):
        check_leaf_bytes(operator.rule, [_at(tensor, largest) for tensor in types], operator.attributes)
        term = operator.rule.multiplications(types, operator.attributes)
        if term is not None:
            terms.append(term)
            if is_mining(operator):
                mining_terms.append(term)
    operands = [(operand.operator, operand.root, operand.k, operand.n) for operand in graph.mining_operands()]
    if len(operands) > OPERANDS_MAX:
        raise TooManyParts("mining operands", len(operands), f"at most {OPERANDS_MAX}")
    symbols = [(symbol.low, symbol.high) for symbol in graph.symbols]
    macs, mining_macs = polynomial(graph, terms), polynomial(graph, mining_terms)
    for found in (macs, mining_macs):
        check_polynomial(found, [high for _, high in symbols])
    return encode(TYPES, (compute_graph_id(top_layer), graph.name, top_layer, symbols, operands, macs, mining_macs))


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

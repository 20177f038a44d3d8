"""Inputs of the native calls, as contracts and the court's clients write them.

Numbers that a contract writes are big-endian, as `abi.encodePacked` makes them; the bytes of tensors are those that
tensor roots commit to: row-major, little-endian. Layouts: docs/spec/precompiles.md.
"""

from collections.abc import Sequence

import numpy as np
from hyperdust_core import open_range

from pouw.fraud_tensor import merge_spans
from pouw.operators.elements import element_inputs, element_windows
from pouw.operators.rule import OperatorRule
from pouw.operators.types import Tensor
from pouw.trace import LEAF_BYTES, dtype_by_name, tensor_root


def encode_type(tensor: Tensor) -> bytes:
    """Return dtype u8, rank u8, dimensions u32."""
    head = bytes((dtype_by_name(tensor.dtype.name).code, tensor.ndim))
    return head + b"".join(size.to_bytes(4, "big") for size in tensor.shape)


def encode_data(tensor: Tensor) -> bytes:
    """Return the bytes that the tensor's root commits to."""
    return tensor.astype(tensor.dtype.newbyteorder("<"), copy=False).tobytes()


def encode_operator_call(rule: OperatorRule, tensors: Sequence[Tensor], attributes: Sequence[int]) -> bytes:
    """Return the input of `operator`: one operator on whole tensors."""
    parts = [_operator(rule, attributes), bytes([len(tensors)])]
    parts += [encode_type(tensor) + encode_data(tensor) for tensor in tensors]
    return b"".join(parts)


def encode_element_call(rule: OperatorRule, tensors: Sequence[Tensor], attributes: Sequence[int], index: int) -> bytes:
    """Return the input of `element`: one element from the values that it reads.

    Raises:
        As `pouw.operators.elements.element_inputs`.
    """
    parts = [_operator(rule, attributes), index.to_bytes(8, "big"), bytes([len(tensors)])]
    parts += [encode_type(tensor) for tensor in tensors]
    for number, window in element_windows(rule, tensors, attributes, index):
        parts.append(encode_data(tensors[number].reshape(-1)[window.indices()]))
    return b"".join(parts)


def encode_opening(data: bytes, first_chunk: int, chunk_count: int) -> bytes:
    """Return first chunk u64, size u32, the chunks' bytes and their siblings in BLAKE3's tree."""
    opened = data[first_chunk * LEAF_BYTES : (first_chunk + chunk_count) * LEAF_BYTES]
    siblings = open_range(np.frombuffer(data, np.uint8), first_chunk, chunk_count)
    return first_chunk.to_bytes(8, "big") + len(opened).to_bytes(4, "big") + opened + siblings


def encode_opening_call(tensor: Tensor, first_chunk: int, chunk_count: int) -> bytes:
    """Return the input of `opening`: chunks of a tensor under its root."""
    opening = encode_opening(encode_data(tensor), first_chunk, chunk_count)
    return tensor_root(tensor) + encode_type(tensor) + opening


def encode_proven_element_call(
    rule: OperatorRule, tensors: Sequence[Tensor], attributes: Sequence[int], index: int
) -> bytes:
    """Return the input of `proven_element`: one element of tensors that are known by their roots.

    Raises:
        As `pouw.operators.elements.element_inputs`.
    """
    parts = [_operator(rule, attributes), index.to_bytes(8, "big"), bytes([len(tensors)])]
    parts += [encode_type(tensor) + tensor_root(tensor) for tensor in tensors]
    for tensor, ranges in zip(tensors, element_inputs(rule, tensors, attributes, index), strict=True):
        data = encode_data(tensor)
        spans = merge_spans([(start // LEAF_BYTES, -(-end // LEAF_BYTES)) for start, end in ranges], len(data))
        parts.append(len(spans).to_bytes(2, "big"))
        parts += [encode_opening(data, first, end - first) for first, end in spans]
    return b"".join(parts)


def encode_run_graph_call(
    graph_id: bytes, symbols: Sequence[int], graph_file: bytes, constants: Sequence[Tensor], inputs: Sequence[Tensor]
) -> bytes:
    """Return the input of `run_graph`; constants in the order of `Hypergraph.constants()`."""
    return graph_id + encode_model(symbols, graph_file, constants) + b"".join(map(encode_data, inputs))


def encode_model(symbols: Sequence[int], graph_file: bytes, constants: Sequence[Tensor]) -> bytes:
    """Return what of `run_graph`'s input stays the same from call to call: what a contract keeps as a model."""
    parts = [bytes([len(symbols)]), *(symbol.to_bytes(4, "big") for symbol in symbols)]
    parts += [len(graph_file).to_bytes(4, "big"), graph_file, *map(encode_data, constants)]
    return b"".join(parts)


def encode_ticket_call(parent_hash: bytes, seal_hash: bytes, nonce: bytes, difficulty: int, proof: bytes) -> bytes:
    """Return the input of `ticket`; `proof` is a `TicketProof.encode()`."""
    return parent_hash + seal_hash + nonce + difficulty.to_bytes(32, "big") + proof


def decode_word(output: bytes) -> int:
    """Return the value that `element` and `proven_element` answer with."""
    return int.from_bytes(output, "big", signed=True)


def _operator(rule: OperatorRule, attributes: Sequence[int]) -> bytes:
    values = b"".join(value.to_bytes(8, "big", signed=True) for value in attributes)
    return bytes((rule.code, len(attributes))) + values

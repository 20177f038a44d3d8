"""Opened parts of tensors: chunks that lead to a digest, windows read from them, nodes of BLAKE3's tree."""

from collections.abc import Sequence

import hyperdust_core
import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from pouw.fraud_codec import ROOT_BYTES, Opening, ShownTensor
from pouw.fraud_path import Source, size_of
from pouw.fraud_types import FANOUT_BITS, EvidenceMalformed, NotCommitted, Outside, TreeNode
from pouw.operators.element import Window
from pouw.operators.types import Tensor, TensorType
from pouw.trace import LEAF_BYTES, leaf_count, root_of_digest

DATA_MAX = 1 << 40  # above any tensor of 2^31 elements


class Held:
    """The bytes of a tensor that evidence shows."""

    def __init__(self, found: TensorType, parts: Sequence[tuple[int, bytes]]) -> None:
        """Take parts (first byte, bytes), ascending and apart; each a whole number of elements."""
        self._type = found
        lengths = [len(data) for _, data in parts]
        self._starts = np.array([start for start, _ in parts], dtype=np.int64)
        self._ends = self._starts + np.array(lengths, dtype=np.int64)
        self._offsets = np.cumsum([0, *lengths], dtype=np.int64)[:-1]
        dtype = np.dtype(found.dtype.name).newbyteorder("<")
        self._values = np.frombuffer(b"".join(data for _, data in parts), dtype=dtype).astype(found.dtype.name)

    def read(self, window: Window) -> Tensor:
        """Return the values of a window, flat.

        Raises:
            NotCommitted: some were not opened.
        """
        if window.size > self._values.size:
            raise NotCommitted("elements opened", self._values.size, f"at least {window.size}")
        if window.size == 0:
            return self._values[:0]
        end = window.start + window.stride * (window.count - 1) + window.pitch * (window.rows - 1) + window.run
        if not 0 <= window.start < end <= DATA_MAX:
            raise NotCommitted("elements opened", "others", window)
        size_bytes = self._type.dtype.size_bytes
        starts = window.starts() * size_bytes
        part = np.searchsorted(self._starts, starts, side="right") - 1
        if int(part.min()) < 0 or bool((starts + window.run * size_bytes > self._ends[part]).any()):
            raise NotCommitted("elements opened", "others", window)
        first: NDArray[np.int64] = (starts - self._starts[part] + self._offsets[part]) // size_bytes
        values: Tensor = self._values[(first[:, None] + np.arange(window.run, dtype=np.int64)).reshape(-1)]
        return values


def hold(source: Source, shown: ShownTensor, digest: bytes | None) -> Held:
    """Check what is shown of a tensor against its root, or against `digest` where a form has given it.

    Raises:
        NotCommitted, Outside, EvidenceMalformed.
    """
    if source.data is not None:
        if shown.openings:
            raise EvidenceMalformed("openings", "of the job's input, which is shown whole")
        return Held(source.type, [(0, source.data)])
    end = 0
    for opening in shown.openings:
        if opening.first_chunk < end:
            raise EvidenceMalformed("openings", f"chunk {opening.first_chunk} after {end}")
        end = opening.first_chunk + opening.chunks
        found = digest_of(size_of(source.type), opening)
        if digest is not None and found != digest:
            raise NotCommitted("digest", found, digest)
        if digest is None and root_of_digest(source.type.dtype, source.type.at({}), found) != source.root:
            raise NotCommitted("root of an opened tensor", found, source.root)
    return Held(source.type, [(opening.first_chunk * LEAF_BYTES, opening.data) for opening in shown.openings])


def digest_of(size_bytes: int, opening: Opening) -> bytes:
    """Return the digest that an opening leads to in a tensor of so many bytes.

    Raises:
        Outside: the chunks are not the tensor's, or the siblings are too many or too few.
    """
    chunks = leaf_count(size_bytes)
    if not opening.data or opening.first_chunk + opening.chunks > chunks:
        raise Outside("chunks", (opening.first_chunk, opening.chunks), f"below {chunks}")
    found = hyperdust_core.range_digest(size_bytes, opening.first_chunk, opening.data, opening.siblings)
    if found is None:
        raise Outside("opening", (len(opening.data), len(opening.siblings)), "lengths that fit the chunks")
    return found


def open_chunks(data: bytes, first_chunk: int, chunks: int) -> Opening:
    """Return the opening of chunks of a tensor's bytes."""
    siblings = hyperdust_core.open_range(np.frombuffer(data, np.uint8), first_chunk, chunks)
    return Opening(first_chunk, data[first_chunk * LEAF_BYTES : (first_chunk + chunks) * LEAF_BYTES], siblings)


def top_node(size_bytes: int) -> TreeNode:
    """Return the node above all chunks."""
    chunks = leaf_count(size_bytes)
    return TreeNode(-(-(chunks - 1).bit_length() // FANOUT_BITS), 0)


def nodes_at(size_bytes: int, level: int) -> int:
    """Return how many nodes a level has."""
    return -(-leaf_count(size_bytes) >> FANOUT_BITS * level) if level else leaf_count(size_bytes)


def children_of(size_bytes: int, node: TreeNode) -> tuple[TreeNode, ...]:
    """Return the nodes below one that is no chunk."""
    first = node.index << FANOUT_BITS
    end = min(first + (1 << FANOUT_BITS), nodes_at(size_bytes, node.level - 1))
    return tuple(TreeNode(node.level - 1, index) for index in range(first, end))


def node_bytes(data: bytes, node: TreeNode) -> bytes:
    """Return the part of a tensor's bytes that a node covers."""
    width = LEAF_BYTES << FANOUT_BITS * node.level
    return data[node.index * width : (node.index + 1) * width]


def node_value(part: bytes, node: TreeNode) -> bytes:
    """Return a node's chaining value from the bytes below it; not of the only node, which has the digest.

    Raises:
        EvidenceMalformed: the bytes are no subtree there.
    """
    if not 0 < len(part) <= LEAF_BYTES << FANOUT_BITS * node.level:
        raise EvidenceMalformed("bytes of a node", f"{len(part)} for {node}")
    return hyperdust_core.subtree_hash(np.frombuffer(part, np.uint8), node.index << FANOUT_BITS * node.level)


def value_of_children(size_bytes: int, node: TreeNode, values: bytes) -> bytes:
    """Return a node's value from its children's: the digest for the node above all chunks.

    Raises:
        EvidenceMalformed: another number of children.
    """
    if len(values) != ROOT_BYTES * len(children_of(size_bytes, node)):
        raise EvidenceMalformed("children of a node", f"{len(values)} bytes for {node}")
    found = hyperdust_core.merge_hashes(values, node == top_node(size_bytes))
    if found is None:
        raise EvidenceMalformed("children of a node", f"{len(values)} bytes")
    return found


def value_of_leaf(size_bytes: int, index: int, data: bytes) -> bytes:
    """Return a chunk's value: the digest where it is the only one.

    Raises:
        EvidenceMalformed: another length than the chunk has.
    """
    if len(data) != min(LEAF_BYTES, size_bytes - index * LEAF_BYTES):
        raise EvidenceMalformed("chunk", f"{len(data)} bytes of {size_bytes} at {index}")
    return blake3(data).digest() if size_bytes <= LEAF_BYTES else node_value(data, TreeNode(0, index))


def lift(size_bytes: int, node: TreeNode, value: bytes, siblings: Sequence[bytes]) -> bytes:
    """Return the digest that a node's value leads to; siblings from below, a missing one where a node moves up.

    Raises:
        EvidenceMalformed: too many or too few siblings.
    """
    index, count, rest = node.index, nodes_at(size_bytes, node.level), list(siblings)
    for _ in range(count.bit_length() + 1):
        if count <= 1:
            break
        if index ^ 1 < count:
            if not rest:
                raise EvidenceMalformed("siblings of a node", "too few")
            other = rest.pop(0)
            pair = other + value if index & 1 else value + other
            value = hyperdust_core.merge_hashes(pair, count == 2) or b""
        index, count = index >> 1, (count + 1) >> 1
    if rest:
        raise EvidenceMalformed("siblings of a node", "too many")
    return value


def siblings_within(values: Sequence[bytes], place: int) -> list[bytes]:
    """Return the binary siblings, from below, of one of a node's children within that node."""
    level, found = list(values), []
    while len(level) > 1:
        if place ^ 1 < len(level):
            found.append(level[place ^ 1])
        pairs = [b"".join(level[at : at + 2]) for at in range(0, len(level), 2)]
        level = [hyperdust_core.merge_hashes(pair, is_root=False) or b"" for pair in pairs]
        place >>= 1
    return found


def opening_of_leaf(size_bytes: int, index: int, data: bytes, siblings: Sequence[bytes]) -> Opening:
    """Return a chunk's opening from its siblings, from below: openings have theirs from left to right."""
    left: list[bytes] = []
    right: list[bytes] = []
    place, count, rest = index, leaf_count(size_bytes), list(siblings)
    while count > 1:
        if place ^ 1 < count:
            (left if place & 1 else right).append(rest.pop(0))
        place, count = place >> 1, (count + 1) >> 1
    return Opening(index, data, b"".join((*reversed(left), *right)))


def merge_spans(spans: Sequence[tuple[int, int]], size_bytes: int) -> list[tuple[int, int]]:
    """Join ranges [first, end) of chunks where that is shorter: the chunks between cost less than their siblings."""
    ordered = sorted(set(spans))
    merged = ordered[:1]
    for first, end in ordered[1:]:
        apart = hyperdust_core.siblings_size(size_bytes, first, end - first) + 12
        if first <= merged[-1][1] or (first - merged[-1][1]) * LEAF_BYTES < apart:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((first, end))
    return merged

"""The core's trie against the PyPI `trie`: equal roots, and exactly the reachable nodes stored."""

import hyperdust_core
import rlp
from hypothesis import given, settings
from hypothesis import strategies as st
from trie import HexaryTrie
from trie.constants import BLANK_NODE_HASH

from chain.hashing import keccak256

PREFIX = b"t"

# Keys that share long prefixes: short branches and leaves, embedded in their parents.
CLOSE_KEYS = st.builds(
    lambda head, tail: (head + tail).rjust(32, b"\0"),
    st.sampled_from([b"", b"\x01\x00", b"\x01\x01", b"\x10\x00"]),
    st.binary(min_size=2, max_size=2).map(lambda tail: bytes([tail[0] & 0x11, tail[1] & 0x33])),
)
FAR_KEYS = st.integers(0, 40).map(lambda number: keccak256(bytes([number])))
VALUES = st.one_of(st.none(), st.binary(min_size=1, max_size=3), st.binary(min_size=33, max_size=80))


def stored_nodes(reference):
    """Path -> RLP of every node that is stored by itself."""
    found = {}

    def visit(node, path):
        if len(node) == 17:
            for index, child in enumerate(node[:16]):
                visit_child(child, path + bytes([index]))
        elif not node[0][0] & 0x20:  # an extension
            nibbles = bytes(half for byte in node[0] for half in (byte >> 4, byte & 15))
            visit_child(node[1], path + nibbles[2 - (nibbles[0] & 1) :])

    def visit_child(child, path):
        if isinstance(child, list):
            visit(child, path)
        elif child:
            found[path] = reference.db[child]
            visit(rlp.decode(reference.db[child]), path)

    if reference.root_hash != BLANK_NODE_HASH:
        visit_child(reference.root_hash, b"")
    return found


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(st.tuples(st.one_of(CLOSE_KEYS, FAR_KEYS), VALUES), max_size=12), max_size=6))
def test_roots_and_nodes_equal_the_reference(batches):
    reference = HexaryTrie({})
    stored = {}
    for batch in batches:
        for key, value in batch:
            if value is None:
                del reference[key]
            else:
                reference[key] = value
        root, writes = hyperdust_core.trie_update(PREFIX, batch, lambda keys: [stored.get(key) for key in keys])
        for key, value in writes:
            if value is None:
                del stored[key]  # only what is stored is ever removed
            else:
                stored[key] = value
        assert root == reference.root_hash
        assert {key[1:]: value for key, value in stored.items()} == stored_nodes(reference)


def test_a_missing_or_altered_node_is_noticed():
    keys = [keccak256(bytes([number])) for number in range(20)]
    _, writes = hyperdust_core.trie_update(
        PREFIX, [(key, b"\x01" * 40) for key in keys], lambda asked: [None] * len(asked)
    )
    stored = dict(writes)
    inner = next(key for key in stored if len(key) == 2)
    for damaged in ({**stored, inner: b"\xc0"}, {key: value for key, value in stored.items() if key != inner}):
        first = next(key for key in keys if key[0] >> 4 == inner[1])
        try:
            hyperdust_core.trie_update(
                PREFIX, [(first, b"\x02")], lambda asked, state=damaged: [state.get(key) for key in asked]
            )
        except hyperdust_core.StateFault:
            continue
        raise AssertionError(damaged)

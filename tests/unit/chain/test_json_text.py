"""How deep JSON nests: exactly at the bound and one beyond, brackets in strings, texts that are no JSON."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.json_text import nests_deeper

VALUES = st.recursive(
    st.text(alphabet='[]{}"\\\n a') | st.integers() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet='[{"\\'), inner, max_size=3),
    max_leaves=12,
)


def depth_of(value):
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    return 0


@given(VALUES, st.booleans())
def test_the_depth_is_that_of_the_value(value, ascii_only):
    text, depth = json.dumps(value, ensure_ascii=ascii_only).encode(), depth_of(value)
    assert not nests_deeper(text, depth)
    assert depth == 0 or nests_deeper(text, depth - 1)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_one_more_is_deeper(opening):
    assert not nests_deeper(opening * 32, 32)
    assert nests_deeper(opening * 33, 32)


def test_neighbours_do_not_add_up():
    assert not nests_deeper(b"[" + b"[],{}," * 1000 + b"0]", 2)


@pytest.mark.parametrize(
    "string", [b'"[[[["', b'"\\"[[[["', b'"[[[[', b'"[[[[\\', b'"\\\n[[[["', b'"\\\\\\"[[[["'], ids=repr
)
def test_brackets_of_strings_count_for_nothing(string):
    assert not nests_deeper(b"[" + string, 1)


def test_a_string_that_ends_hides_nothing():
    assert nests_deeper(b'"\\\\"[[', 1)


def test_an_open_string_is_read_once():
    """Else each quote in it would be tried as a beginning: a body of 40 KB took seconds."""
    text = b"[[" + b'\\"' * 200_000
    started = time.monotonic()
    assert nests_deeper(text, 1)
    assert time.monotonic() - started < 2

"""What requests to the gateway may say, and what is refused by name."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperdust.gateway.errors import BadRequest, Refused, Unsupported
from hyperdust.gateway.schemas import (
    DEPTH,
    INPUTS,
    Embedding,
    Generation,
    flatten,
    parse_chat,
    parse_completion,
    parse_embeddings,
)

PARSERS = (parse_chat, parse_completion, parse_embeddings)
USER = {"role": "user", "content": "A miner"}

_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
_names = st.sampled_from(
    ["model", "messages", "prompt", "input", "stream", "seed", "n", "temperature", "tools", "stop", "max_tokens", "x"]
)


def chat(**more):
    return parse_chat(json.dumps({"model": "llama-tiny", "messages": [USER]} | more).encode())


def messages(*given):
    return chat(messages=list(given))


def refused(**more):
    with pytest.raises(Refused) as caught:
        chat(**more)
    return caught.value


def test_a_chat_of_one_message_asks_its_words():
    assert chat() == Generation("llama-tiny", "A miner", None, 0, stream=False, usage_chunk=False)


def test_what_a_graph_can_honour_is_taken():
    assert chat(max_tokens=3, seed=-7, stream=True, stream_options={"include_usage": True}, user="me") == Generation(
        "llama-tiny", "A miner", 3, -7, stream=True, usage_chunk=True
    )
    assert chat(max_completion_tokens=5).max_tokens == 5
    assert chat(max_completion_tokens=5, max_tokens=5).max_tokens == 5


def test_several_messages_are_lines_with_roles():
    found = messages({"role": "system", "content": "Be brief."}, USER)
    assert found.text == "system: Be brief.\nuser: A miner\nassistant:"
    assert found.text == flatten([("system", "Be brief."), ("user", "A miner")])


def test_parts_of_a_message_are_joined():
    assert (
        messages({"role": "user", "content": [{"type": "text", "text": "A"}, {"type": "text", "text": " b"}]}).text
        == "A b"
    )


def test_an_answer_may_be_sent_back_as_the_library_gives_it():
    answer = {"role": "assistant", "content": "makes", "refusal": None, "tool_calls": None, "annotations": []}
    assert messages(USER, answer).text == "user: A miner\nassistant: makes\nassistant:"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 1),
        ("temperature", 1.0),
        ("temperature", None),
        ("top_p", 1),
        ("n", 1),
        ("presence_penalty", 0),
        ("tools", []),
        ("tool_choice", "none"),
        ("stop", None),
        ("response_format", {"type": "text"}),
        ("logprobs", False),
    ],
)
def test_a_parameter_that_says_nothing_is_taken(name, value):
    assert chat(**{name: value}) == chat()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 0),
        ("temperature", 0.7),
        ("temperature", True),
        ("top_p", 0.9),
        ("n", 2),
        ("n", True),
        ("presence_penalty", 0.5),
        ("frequency_penalty", -1),
        ("tools", [{"type": "function"}]),
        ("functions", [{}]),
        ("response_format", {"type": "json_object"}),
        ("stop", "\n"),
        ("logprobs", True),
        ("logit_bias", {"5": 1}),
        ("modalities", ["text", "audio"]),
        ("reasoning_effort", "high"),
        ("store", True),
        ("no_such_thing", 1),
    ],
)
def test_a_parameter_that_no_graph_takes_is_refused_by_name(name, value):
    error = refused(**{name: value})
    assert isinstance(error, Unsupported)
    assert (error.status, error.param) == (400, name)
    assert name in str(error)
    assert error.as_json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, "messages[0].content"),
        ({"role": "tool", "content": "5", "tool_call_id": "a"}, "messages[0].tool_call_id"),
        ({"role": "tool", "content": "5"}, "messages[0].role"),
        ({"role": "assistant", "content": "", "tool_calls": [{"id": "a"}]}, "messages[0].tool_calls"),
        ({"role": "user", "content": "a", "name": "ada"}, "messages[0].name"),
    ],
)
def test_messages_beyond_words_are_refused_by_name(message, param):
    error = refused(messages=[message])
    assert isinstance(error, Unsupported)
    assert error.param == param


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"model": 5}, "model"),
        ({"model": ""}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": "A miner"}, "messages"),
        ({"messages": [7]}, "messages[0]"),
        ({"messages": [{"role": "king", "content": "a"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages[0].content"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "7"}, "max_tokens"),
        ({"max_tokens": 7.0}, "max_tokens"),
        ({"max_tokens": 7, "max_completion_tokens": 8}, "max_completion_tokens"),
        ({"seed": 2**31}, "seed"),
        ({"seed": 0.5}, "seed"),
        ({"stream": 1}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(more, param):
    error = refused(**more)
    assert type(error) is BadRequest
    assert error.param == param


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b"\xff",
        b'{"model": NaN}',
        b"[" * 100_000,
        b'{"model": ' + b"9" * 5000 + b"}",
        b'{"model": "m", "prompt": ' + b"[" * (DEPTH + 1) + b"]" * (DEPTH + 1) + b"}",
    ],
)
@pytest.mark.parametrize("parse", PARSERS)
def test_what_is_no_body_is_refused(parse, raw):
    with pytest.raises(BadRequest):
        parse(raw)


def test_completions_take_one_prompt():
    def complete(prompt):
        return parse_completion(json.dumps({"model": "m", "prompt": prompt}).encode())

    assert complete("A miner").text == complete(["A miner"]).text == "A miner"
    for several in (["a", "b"], [1, 2], []):
        with pytest.raises(BadRequest, match="prompt"):
            complete(several)


def test_embeddings_take_a_text_or_several():
    def embed(given, **more):
        return parse_embeddings(json.dumps({"model": "minilm", "input": given} | more).encode())

    assert embed("a") == Embedding("minilm", ("a",), base64=False)
    assert embed(["a", "b"], encoding_format="base64") == Embedding("minilm", ("a", "b"), base64=True)
    for wrong in ([], "", ["a", ""], [1, 2], [[1]], ["a"] * (INPUTS + 1)):
        with pytest.raises(BadRequest, match="input"):
            embed(wrong)
    with pytest.raises(Unsupported, match="dimensions"):
        embed("a", dimensions=64)
    with pytest.raises(BadRequest, match="encoding_format"):
        embed("a", encoding_format="int8")


@given(st.dictionaries(_names, _values, max_size=6) | _values, st.sampled_from(PARSERS))
def test_any_body_is_taken_or_refused(body, parse):
    with contextlib.suppress(Refused):
        found = parse(json.dumps(body).encode())
        assert isinstance(found, Generation | Embedding)


@given(st.binary(max_size=64), st.sampled_from(PARSERS))
def test_any_bytes_are_refused(raw, parse):
    with pytest.raises(Refused):
        parse(raw)

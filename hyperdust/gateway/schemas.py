"""Bodies of requests: OpenAI's parameters that graphs can honour; others are refused by name unless they say nothing.

A parameter says nothing where it is null, or has the value that OpenAI's API would take without it.
"""

import json
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chain.json_text import nests_deeper
from hyperdust.gateway.errors import BadRequest, Unsupported

DEPTH: Final = 32
MESSAGES: Final = 256
INPUTS: Final = 64
"""Texts of one embeddings request: a job each."""

_SILENT: Final[dict[str, tuple[Any, ...]]] = {
    "temperature": (1,),
    "top_p": (1,),
    "n": (1,),
    "best_of": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "echo": (False,),
    "suffix": ("",),
    "stop": ([],),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "metadata": ({},),
    "audio": (),
    "prediction": (),
    "reasoning_effort": (),
    "verbosity": (),
    "web_search_options": (),
    "dimensions": (),
}
"""Parameters that no graph takes, with the values that ask for nothing."""
_WHY: Final = {
    "temperature": "sampling is part of the graph; leave it out, or ask another graph",
    "top_p": "sampling is part of the graph; leave it out, or ask another graph",
    "n": "one answer a request; ask again with another seed",
    "stop": "a graph stops at its own token, or after max_tokens",
    "dimensions": "a graph's embedding has one size",
}

_Text = Annotated[str, Field(max_length=2**18)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    model: Annotated[str, Field(min_length=1, max_length=200)]
    user: _Text | None = None


class _StreamOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    include_usage: bool = False
    include_obfuscation: bool = False


class _Generated(_Body):
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**31), lt=2**31)] | None = None
    stream: bool = False
    stream_options: _StreamOptions | None = None


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["text"]
    text: _Text


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: _Text | Annotated[list[_Part], Field(min_length=1, max_length=MESSAGES)]


class _Chat(_Generated):
    messages: Annotated[list[_Message], Field(min_length=1, max_length=MESSAGES)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None


class _Completion(_Generated):
    prompt: _Text | Annotated[list[_Text], Field(min_length=1, max_length=1)]


class _Embeddings(_Body):
    input: _Text | Annotated[list[_Text], Field(min_length=1, max_length=INPUTS)]
    encoding_format: Literal["float", "base64"] = "float"


_Form = TypeVar("_Form", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Generation:
    """What is asked of a decoder."""

    model: str
    text: str
    max_tokens: int | None
    seed: int
    stream: bool
    usage_chunk: bool
    """Whether a stream ends with a chunk of token counts."""


@dataclass(frozen=True, slots=True)
class Embedding:
    """What is asked of an encoder."""

    model: str
    texts: tuple[str, ...]
    base64: bool


def parse_chat(raw: bytes) -> Generation:
    """A body of POST /v1/chat/completions.

    Raises:
        BadRequest, Unsupported: name the parameter.
    """
    found = _checked(_Chat, _loaded(raw))
    limits = {found.max_tokens, found.max_completion_tokens} - {None}
    if len(limits) > 1:
        raise BadRequest("max_tokens and max_completion_tokens differ; give one", "max_completion_tokens")
    text = flatten([(message.role, _words(message.content)) for message in found.messages])
    return _generation(found, text, next(iter(limits), None))


def parse_completion(raw: bytes) -> Generation:
    """A body of POST /v1/completions.

    Raises:
        BadRequest, Unsupported: name the parameter.
    """
    found = _checked(_Completion, _loaded(raw))
    return _generation(found, found.prompt if isinstance(found.prompt, str) else found.prompt[0], found.max_tokens)


def parse_embeddings(raw: bytes) -> Embedding:
    """A body of POST /v1/embeddings.

    Raises:
        BadRequest, Unsupported: name the parameter.
    """
    found = _checked(_Embeddings, _loaded(raw))
    texts = (found.input,) if isinstance(found.input, str) else tuple(found.input)
    if "" in texts:
        raise BadRequest("an input is empty", "input")
    return Embedding(found.model, texts, found.encoding_format == "base64")


def flatten(messages: list[tuple[str, str]]) -> str:
    """The prompt that messages (role, content) make.

    One message is its own words, so that `job ask --text` gives the same answer; of several, each is a line
    `role: content`, and `assistant:` ends them.
    """
    if len(messages) == 1:
        return messages[0][1]
    return "".join(f"{role}: {content}\n" for role, content in messages) + "assistant:"


def _generation(found: _Generated, text: str, max_tokens: int | None) -> Generation:
    if found.stream_options is not None and not found.stream:
        raise BadRequest("stream_options goes with stream=true", "stream_options")
    return Generation(
        model=found.model,
        text=text,
        max_tokens=max_tokens,
        seed=found.seed or 0,
        stream=found.stream,
        usage_chunk=found.stream_options is not None and found.stream_options.include_usage,
    )


def _words(content: str | list[_Part]) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)


def _loaded(raw: bytes) -> dict[str, Any]:
    """The JSON object, without what says nothing."""
    if nests_deeper(raw, DEPTH):
        raise BadRequest(f"the body is nested deeper than {DEPTH}")
    try:
        body = json.loads(raw.decode("utf-8"), parse_constant=_no_constant)
    except ValueError as error:
        raise BadRequest(f"the body is not JSON: {str(error)[:200]}") from error
    if not isinstance(body, dict):
        raise BadRequest("the body is not a JSON object")
    kept = {}
    for name, value in body.items():
        if value is None:
            continue
        if name in _SILENT:
            if not any(_same(value, silent) for silent in _SILENT[name]):
                why = _WHY.get(name, "this gateway takes text and gives text or embeddings")
                raise Unsupported(f"{name} is not supported: {why}", name)
            continue
        kept[name] = value
    if isinstance(kept.get("messages"), list):
        kept["messages"] = [_message(index, message) for index, message in enumerate(kept["messages"])]
    return kept


def _message(index: int, message: Any) -> Any:
    """A message without the empty fields that clients send back with an assistant's."""
    if not isinstance(message, dict):
        return message
    kept = {name: value for name, value in message.items() if value is not None and not _same(value, [])}
    param = f"messages[{index}]"
    for name in ("name", "tool_calls", "tool_call_id", "function_call", "audio", "refusal"):
        if name in kept:
            raise Unsupported(f"{param}.{name} is not supported: a message is a role and its words", f"{param}.{name}")
    if kept.get("role") in {"tool", "function"}:
        raise Unsupported(f"{param}.role: there are no tools here", f"{param}.role")
    for part in kept["content"] if isinstance(kept.get("content"), list) else ():
        kind = part.get("type") if isinstance(part, dict) else None
        if isinstance(kind, str) and kind != "text":
            raise Unsupported(
                f"{param}.content: a part of type {kind[:50]!r} is not supported, only text", f"{param}.content"
            )
    return kept


def _checked(form: type[_Form], body: dict[str, Any]) -> _Form:
    try:
        return form.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        param = _path(first["loc"])
        if first["type"] == "extra_forbidden":
            raise Unsupported(f"unrecognized parameter {param}", param) from error
        raise BadRequest(f"{param}: {first['msg']}", param) from error


def _path(location: tuple[int | str, ...]) -> str:
    """`messages[0].content` of ("messages", 0, "content", "str"): the kinds that a union tried are left out."""
    path = ""
    for step in location:
        if isinstance(step, int):
            path += f"[{step}]"
        elif not path:
            path = step[:100]
        elif step.isidentifier() and step not in {"str", "list"}:
            path += f".{step[:100]}"
    return path or "body"


def _same(value: Any, silent: Any) -> bool:
    """Equal as JSON: true is not 1."""
    return isinstance(value, bool) == isinstance(silent, bool) and value == silent


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")

"""Answers in OpenAI's shapes, with what the chain says of them under `hyperdust`."""

import base64
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hyperdust import graph_text
from hyperdust.gateway.answering import Answered
from hyperdust.gateway.errors import Failed
from hyperdust.graph import load_graph

DONE: Final = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Form:
    """How an endpoint's answers look."""

    chat: bool
    created: int
    """Unix seconds."""

    def whole(self, found: Answered) -> dict[str, Any]:
        """The body of an answer that is not streamed."""
        text = str(found.answer.text or "")
        content = {"message": {"role": "assistant", "content": text, "refusal": None}} if self.chat else {"text": text}
        choice = {"index": 0, **content, "logprobs": None, "finish_reason": finish_reason(found)}
        return {
            "id": _id(found, chat=self.chat),
            "object": "chat.completion" if self.chat else "text_completion",
            "created": self.created,
            "model": found.paid.asked.model.id,
            "choices": [choice],
            "usage": usage(found),
            "hyperdust": found.facts() | {"output": tokens_of(found)},
        }

    def chunk(self, found: Answered, text: str, *, first: bool) -> dict[str, Any]:
        """A piece of text."""
        role = {"role": "assistant"} if first else {}
        return self._chunk(found, {"delta": role | {"content": text}} if self.chat else {"text": text}, None)

    def last(self, found: Answered) -> dict[str, Any]:
        """The chunk that says why the text ends, and what the chain says of it."""
        ending: dict[str, Any] = {"delta": {}} if self.chat else {"text": ""}
        return self._chunk(found, ending, finish_reason(found)) | {
            "hyperdust": found.facts() | {"output": tokens_of(found)}
        }

    def counted(self, found: Answered) -> dict[str, Any]:
        """The chunk of token counts."""
        return self._chunk(found, {}, None) | {"choices": [], "usage": usage(found)}

    def _chunk(self, found: Answered, choice: dict[str, Any], reason: str | None) -> dict[str, Any]:
        return {
            "id": _id(found, chat=self.chat),
            "object": "chat.completion.chunk" if self.chat else "text_completion",
            "created": self.created,
            "model": found.paid.asked.model.id,
            "choices": [{"index": 0, **choice, "logprobs": None, "finish_reason": reason}],
        }


def embeddings(found: Sequence[Answered], *, base64_wanted: bool) -> dict[str, Any]:
    """The body of POST /v1/embeddings: the graph's integers, as floats and not scaled."""
    rows = [
        {"object": "embedding", "index": index, "embedding": _vector(one, base64_wanted=base64_wanted)}
        for index, one in enumerate(found)
    ]
    count = sum(one.paid.asked.prompt_tokens for one in found)
    jobs = [one.facts() for one in found]
    return {
        "object": "list",
        "data": rows,
        "model": found[0].paid.asked.model.id,
        "usage": {"prompt_tokens": count, "total_tokens": count},
        "hyperdust": jobs[0] | {"jobs": jobs} if len(jobs) > 1 else jobs[0],
    }


def tokens_of(found: Answered) -> list[int]:
    """The tokens of an answer."""
    output = found.answer.output
    if not isinstance(output, list) or not all(isinstance(token, int) for token in output):
        raise Failed(f"job {found.paid.job}: the answer is no list of tokens", facts=found.facts())
    return output


def pieces(found: Answered) -> Iterator[str]:
    """The text of each token as soon as its characters are whole; together the answer's text."""
    loaded = load_graph(found.paid.asked.model.source)
    shown: list[str] = []
    take = graph_text.streamer(loaded.files, loaded.graph, shown.append)
    done = 0
    for token in tokens_of(found):
        take(token)
        if shown:
            done += len(shown[-1])
            yield shown.pop()
    rest = str(found.answer.text or "")[done:]
    if rest:  # a last character that no token completed
        yield rest


def usage(found: Answered) -> dict[str, int]:
    """Token counts: what the graph read and what it made."""
    read, made = found.paid.asked.prompt_tokens, len(tokens_of(found))
    return {"prompt_tokens": read, "completion_tokens": made, "total_tokens": read + made}


def finish_reason(found: Answered) -> str:
    """`stop` where the graph's own stop token ends the answer, else `length`."""
    scan, tokens = found.paid.asked.model.graph.scan, tokens_of(found)
    return "stop" if scan is not None and tokens and tokens[-1] == scan.stop else "length"


def _vector(found: Answered, *, base64_wanted: bool) -> list[float] | str:
    output = found.answer.output
    if not isinstance(output, list) or not all(isinstance(number, int | float) for number in output):
        raise Failed(f"job {found.paid.job}: the answer is no vector", facts=found.facts())
    numbers = [float(number) for number in output]
    if base64_wanted:
        return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
    return numbers


def _id(found: Answered, *, chat: bool) -> str:
    return f"{'chatcmpl' if chat else 'cmpl'}-hyperdust-{found.paid.job}"

"""What an agent's graph reads: the prefix that it puts before every input, and the question behind it."""

from dataclasses import dataclass
from pathlib import Path

from chain.errors import HyperdustError


class AgentError(HyperdustError):
    """There is no such agent, or it does not take what it is given; says why and what to do."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """What goes before every input of an agent: a system prompt, for instance."""

    data: bytes = b""
    """Rows of the graph's first input, little-endian."""
    rows: int = 0
    symbol: int = 0
    """Index of the graph's symbol that counts them."""


def prefix_of(graph: str, text: str) -> Prefix:
    """A system prompt as rows of a graph's first input, without what the tokenizer puts behind a text.

    Raises:
        UnknownGraph, InputUnreadable.
        AgentError: the graph takes no text, or the prompt leaves no room for a question.
    """
    from hyperdust.graph import load_graph  # noqa: PLC0415  # loads numpy and models

    loaded = load_graph(graph)
    before, after = _around(graph, text)
    ids = loaded.encode_text(text)[loaded.graph.inputs[0].name].tolist()
    dimension = loaded.graph.inputs[0].type.shape[0]
    most = next((symbol.high for symbol in loaded.graph.symbols if symbol.name == dimension), len(ids) + 1)
    if len(ids) >= most:
        raise AgentError(f"the prompt has {len(ids)} tokens or more; graph {graph} takes {most} with a question")
    kept = ids[: len(ids) - len(after)]
    if len(kept) <= len(before):
        raise AgentError(f"the prompt has no words for graph {graph}; leave --prompt out")
    return raw_prefix(graph, b"".join(number.to_bytes(4, "little", signed=True) for number in kept))


def raw_prefix(graph: str, data: bytes) -> Prefix:
    """Bytes as rows of a graph's first input.

    Raises:
        UnknownGraph.
        AgentError: they are no whole rows, or leave no room.
    """
    from hyperdust.graph import read_graph  # noqa: PLC0415  # loads numpy and models

    structure = read_graph(graph)
    first = structure.inputs[0]
    dimension, rest = first.type.shape[0], first.type.shape[1:]
    sizes = [size for size in rest if isinstance(size, int)]
    if not isinstance(dimension, str) or len(sizes) != len(rest):
        raise AgentError(f"graph {graph} takes no prefix: input {first.name} has no rows to put it before")
    row = first.type.dtype.size_bytes
    for size in sizes:
        row *= size
    names = [symbol.name for symbol in structure.symbols]
    index = names.index(dimension)
    rows, odd = divmod(len(data), row)
    if odd or not rows:
        raise AgentError(f"the prefix has {len(data)} bytes: rows of input {first.name} have {row}")
    if rows >= structure.symbols[index].high:
        raise AgentError(
            f"the prefix has {rows} rows; graph {graph} takes {structure.symbols[index].high} with a question"
        )
    return Prefix(data, rows, index)


def input_behind(
    prefix: Prefix, graph: str, text: str | None, input_file: Path | None
) -> tuple[bytes, tuple[int, ...]]:
    """Input and symbols that are asked of an agent with this prefix; the agent adds the prefix to both.

    Raises:
        UnknownGraph, WeightsMissing, InputUnreadable, SymbolOutOfRange.
        AgentError: prefix and question together are too long.
    """
    from hyperdust.graph import input_bytes, read_graph  # noqa: PLC0415  # loads numpy and models

    given = input_bytes(graph, text, input_file)
    if not prefix.rows:
        return given.data, given.symbols
    data, symbols = given.data, list(given.symbols)
    if text is not None:
        # The prefix begins as the tokenizer begins a text; the question goes on from there.
        before, _ = _around(graph, text)
        data = data[4 * len(before) :]
        symbols[prefix.symbol] -= len(before)
    asked = symbols[prefix.symbol] + prefix.rows
    symbol = read_graph(graph).symbols[prefix.symbol]
    if asked > symbol.high:
        raise AgentError(
            f"the question is too long: {asked} rows with the agent's own {prefix.rows}, at most {symbol.high}"
        )
    return data, tuple(symbols)


def _around(graph: str, text: str) -> tuple[list[int], list[int]]:
    """Token ids that the tokenizer puts before and behind every text."""
    from hyperdust.graph import load_graph  # noqa: PLC0415  # loads numpy and models

    loaded = load_graph(graph)
    first = loaded.graph.inputs[0].name
    bare, ids = loaded.encode_text("")[first].tolist(), loaded.encode_text(text)[first].tolist()
    common = 0
    while common < len(bare) and bare[common] == ids[common]:
        common += 1
    return bare[:common], bare[common:]

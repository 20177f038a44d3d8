"""JSON of strangers, before it is parsed: how deep it nests. Which depth is allowed is each reader's own rule."""

import re
from typing import Final

import numpy as np

# Possessive, and a string may lack its end: each byte is looked at once, whatever the text holds.
_NO_BRACKET: Final = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[^]\[{}"]+', re.DOTALL)
_OPENING: Final = (ord("["), ord("{"))


def nests_deeper(text: bytes, most: int) -> bool:
    """Say whether the brackets of a JSON text nest deeper than `most`; those within strings count for nothing.

    Parsers recurse as deep in C: where a library has raised Python's recursion limit beyond what the stack holds,
    a short text would end the process. What is no JSON gets an answer too, for the parser to refuse.
    """
    if text.count(b"[") + text.count(b"{") <= most:
        return False
    brackets = np.frombuffer(_NO_BRACKET.sub(b"", text), dtype=np.uint8)
    depth = np.cumsum(np.where(np.isin(brackets, _OPENING), 1, -1))
    return int(depth.max(initial=0)) > most

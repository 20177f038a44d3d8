"""The court's native call: proofs, questions and answers about what a provider committed to (docs/spec/fraud_proof.md).

A Python function: what is malformed, and what proves nothing, gives None and costs all gas that it was given.
"""

from chain.errors import Invalid
from pouw.fraud import DEMAND_BYTES_MAX, Facts, Outside, check_answer, check_proof, check_question
from pouw.fraud_codec import Cursor
from pouw.fraud_types import ANSWER_BYTES_MAX, FACTS_BYTES

PROVE, QUESTION, ANSWER = 1, 2, 3
"""Modes. Where a question rests on an operator list it says on which: the court takes it only with the accused's
signature of that list, or its publication."""
INPUT_BYTES_MAX = 1 + FACTS_BYTES + 4 + DEMAND_BYTES_MAX + ANSWER_BYTES_MAX


def judge(data: bytes) -> bytes | None:
    """Return 32-byte words: what a proof shows, a question asks, an answer publishes; None for everything else.

    1 prove: facts, evidence -> 1, kind, step, operator, element, list hash, subgraph.
    2 question: facts, demand -> key, kind, hash of the list that it rests on, step << 32 | subgraph.
    3 answer: facts, size of the demand u32, demand, answer -> 1, hash of the list it publishes, step << 32 | subgraph.
    """
    if len(data) > INPUT_BYTES_MAX:
        return None
    try:
        return _judge(data)
    except Invalid:
        return None
    except (ArithmeticError, LookupError, TypeError, ValueError):
        # No rule is known to raise these for any bytes; if one does, the same bytes raise the same on every node.
        return None


def _judge(data: bytes) -> bytes:
    cursor = Cursor(data)
    mode = cursor.number(1, "mode")
    facts = Facts.decode(cursor.take(FACTS_BYTES, "facts"))
    rest = data[cursor.position :]
    if mode == PROVE:
        verdict = check_proof(facts, rest)
        numbers = (1, verdict.kind, verdict.step, verdict.operator, verdict.element)
        return _words(*numbers) + verdict.list_hash + _words(verdict.subgraph)
    if mode == QUESTION:
        asked = check_question(facts, rest)
        return asked.key + _words(asked.question.kind) + asked.list_hash + _words(asked.place_word)
    if mode != ANSWER:
        raise Outside("mode", mode, "1 .. 3")
    demand = cursor.counted(4, "demand")
    asked = check_answer(facts, demand, data[cursor.position :])
    return _words(1) + asked.list_hash + _words(asked.place_word)


def _words(*numbers: int) -> bytes:
    return b"".join(int(number).to_bytes(32, "big") for number in numbers)

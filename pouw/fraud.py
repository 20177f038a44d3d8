"""Fraud proofs: find where two executions differ, show it in one transaction, judge it. Facade of `pouw/fraud_*.py`.

A provider has committed to a trace root. Whoever executed the job himself compares (`find_difference`), asking the
accused `Question`s; each answer is believed only where it hashes to the commitment above it. `build_proof` makes the
evidence, `check_proof` is what the court's `judge` runs. Only what the accused committed to, the graph and the job may
enter a proof: an honest provider cannot be convicted. Formats: docs/spec/fraud_proof.md.
"""

from pouw.fraud_types import (
    ANSWER_BYTES_MAX,
    EVIDENCE_BYTES_MAX,
    Answer,
    EvidenceMalformed,
    Facts,
    FalseAnswer,
    Form,
    NoFault,
    NotCommitted,
    NotGuilty,
    Outside,
    Place,
    Proof,
    Published,
    Question,
    QuestionKind,
    TreeNode,
    Verdict,
    VerdictKind,
    Withheld,
)

__all__ = [
    "ANSWER_BYTES_MAX",
    "EVIDENCE_BYTES_MAX",
    "Answer",
    "EvidenceMalformed",
    "Facts",
    "FalseAnswer",
    "Form",
    "NoFault",
    "NotCommitted",
    "NotGuilty",
    "Outside",
    "Place",
    "Proof",
    "Published",
    "Question",
    "QuestionKind",
    "TreeNode",
    "Verdict",
    "VerdictKind",
    "Withheld",
]

# To come in this order, with these signatures:
#
# pouw/fraud_own.py
#   class OwnTrace:                                     an execution that can be asked for any operator's output
#       def __init__(self, execution: Execution, constants: Mapping[bytes, Tensor], inputs: Mapping[str, Tensor],
#                    backend: Backend, on_output: Callable[[int, int, Tensor], Tensor] | None = None)
#                    on_output(step, global operator index, array) -> array: deliberate faults on a devnet
#       @classmethod
#       def until_refused(cls, graph, constants, inputs, symbols, backend) -> OwnTrace
#                    for a job of which an operator refuses a value (kind 7): what there is before it
#       def answer(self, question: Question) -> Answer  it is a `Published`; signature left empty: the caller signs
#   def list_hash(roots: bytes) -> bytes                keccak256 of an OPERATOR_ROOTS answer: what is signed
# pouw/fraud_search.py
#   def find_difference(facts: Facts, own: OwnTrace, accused: Published, job_output: bytes) -> Difference | None
#                    raises Withheld with .question and .demand (bytes for Court.demand), FalseAnswer likewise
# pouw/fraud_proof.py
#   def build_proof(facts: Facts, own: OwnTrace, difference: Difference, job_input: bytes, job_output: bytes) -> Proof
# pouw/fraud_check.py
#   def check_proof(facts: Facts, evidence: bytes) -> Verdict          raises NotGuilty and other Invalid
# pouw/fraud_question.py
#   def check_question(facts: Facts, demand: bytes) -> Asked           raises Invalid
#                    Asked(question, key: 32 bytes, list_hash: zeros unless it rests on an operator list, place)
#   def check_answer(facts: Facts, demand: bytes, data: bytes) -> Asked   list_hash: of the list that it publishes
#
# precompiles/judge.py: judge(input: bytes) -> bytes | None
#   mode 1 prove:    (1, kind, step, operator, element, list_hash, subgraph)
#   mode 2 question: (key, kind, list_hash, step << 32 | subgraph): where list_hash is not 0 the court has to hold the
#                    accused's signature of that list, or the list published by an answer, before it takes the demand
#   mode 3 answer:   (1, list_hash, step << 32 | subgraph)
# An operator list is the roots of all operators of a subgraph, then one root for each of its histories, joined: with
# it every proof reads few leaves however many steps came before.

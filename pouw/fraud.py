"""Fraud proofs: find where two executions differ, show it in one transaction, judge it. Facade of `pouw/fraud_*.py`.

A provider has committed to a trace root. Whoever executed the job himself compares (`find_difference`), asking the
accused `Question`s; each answer is believed only where it hashes to the commitment above it. `build_proof` makes the
evidence, `check_proof` is what the court's `judge` runs. Only what the accused committed to, the graph and the job may
enter a proof: an honest provider cannot be convicted. Formats: docs/spec/fraud_proof.md.
"""

from pouw.fraud_check import check_proof
from pouw.fraud_own import OwnTrace, StepHook, list_hash
from pouw.fraud_proof import NothingRefused, build_proof, prove_refused_job
from pouw.fraud_question import Asked, check_answer, check_question
from pouw.fraud_search import Difference, find_difference
from pouw.fraud_types import (
    ANSWER_BYTES_MAX,
    DEMAND_BYTES_MAX,
    EVIDENCE_BYTES_MAX,
    Answer,
    Demand,
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
    "DEMAND_BYTES_MAX",
    "EVIDENCE_BYTES_MAX",
    "Answer",
    "Asked",
    "Demand",
    "Difference",
    "EvidenceMalformed",
    "Facts",
    "FalseAnswer",
    "Form",
    "NoFault",
    "NotCommitted",
    "NotGuilty",
    "NothingRefused",
    "Outside",
    "OwnTrace",
    "Place",
    "Proof",
    "Published",
    "Question",
    "QuestionKind",
    "StepHook",
    "TreeNode",
    "Verdict",
    "VerdictKind",
    "Withheld",
    "build_proof",
    "check_answer",
    "check_proof",
    "check_question",
    "find_difference",
    "list_hash",
    "prove_refused_job",
]

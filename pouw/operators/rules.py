"""The table of all operators, family by family.

Codes are consensus (they stand in the encoding of a graph); a new operator takes the next one of its family.
"""

from pouw.operators import rules_decoder, rules_encoder, rules_scene, rules_vision
from pouw.operators.rule import OperatorRule

__all__ = ["MATMUL", "RULES", "RULE_BY_CODE", "RULE_BY_NAME", "OperatorRule"]

RULES = (*rules_encoder.RULES, *rules_decoder.RULES, *rules_vision.RULES, *rules_scene.RULES)
RULE_BY_CODE = {rule.code: rule for rule in RULES}
RULE_BY_NAME = {rule.name: rule for rule in RULES}
MATMUL = RULE_BY_NAME["matmul"]

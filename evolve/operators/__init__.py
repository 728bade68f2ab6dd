"""Model-free changes of source, and the rule that chooses among them."""

from evolve.operators.choice import OperatorStats, Tally, choose_operator
from evolve.operators.knobs import find_knobs, hash_skeleton
from evolve.operators.table import OPERATORS, Operator, apply_operator
from evolve.operators.tuner import MAX_CONSTANTS, Tuner, is_spent
from evolve.records import OPERATOR_JOIN, TUNE

__all__ = [
    "MAX_CONSTANTS",
    "OPERATORS",
    "OPERATOR_JOIN",
    "TUNE",
    "Operator",
    "OperatorStats",
    "Tally",
    "Tuner",
    "apply_operator",
    "choose_operator",
    "find_knobs",
    "hash_skeleton",
    "is_spent",
]

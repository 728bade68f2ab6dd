"""Model-free changes of source, and the rule that chooses among them."""

from evolve.operators.choice import OPERATOR_JOIN, OperatorStats, Tally, choose_operator
from evolve.operators.table import OPERATORS, Operator, apply_operator

__all__ = [
    "OPERATORS",
    "OPERATOR_JOIN",
    "Operator",
    "OperatorStats",
    "Tally",
    "apply_operator",
    "choose_operator",
]

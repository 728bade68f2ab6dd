"""Model-free changes of source, and tuning of constants."""

from evolve.operators.catalog import (
    OPERATORS,
    Operator,
    apply_operator,
    can_change,
    choose_operator,
    operator_chances,
)
from evolve.operators.tuning import Tuner, is_spent
from evolve.records import OPERATOR_JOIN, TUNE

__all__ = [
    "OPERATORS",
    "OPERATOR_JOIN",
    "TUNE",
    "Operator",
    "Tuner",
    "apply_operator",
    "can_change",
    "choose_operator",
    "is_spent",
    "operator_chances",
]

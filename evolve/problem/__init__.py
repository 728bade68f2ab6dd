"""A problem folder, read strictly into a `Problem`."""

from evolve.problem.folder import list_warnings, load_problem
from evolve.problem.problem import (
    COOPERATIVE,
    NO_BARS,
    PRODUCTS,
    AskRules,
    Measure,
    Objective,
    Problem,
    Purpose,
    Recipe,
    Reference,
    Stage,
)

__all__ = [
    "COOPERATIVE",
    "NO_BARS",
    "PRODUCTS",
    "AskRules",
    "Measure",
    "Objective",
    "Problem",
    "Purpose",
    "Recipe",
    "Reference",
    "Stage",
    "list_warnings",
    "load_problem",
]

"""A problem folder, read strictly into a `Problem`."""

from evolve.problem.checked_files import list_warnings
from evolve.problem.folder import load_problem
from evolve.problem.problem import (
    COOPERATIVE,
    PRODUCTS,
    Measure,
    Objective,
    Problem,
    Purpose,
    Recipe,
    Reference,
)

__all__ = [
    "COOPERATIVE",
    "PRODUCTS",
    "Measure",
    "Objective",
    "Problem",
    "Purpose",
    "Recipe",
    "Reference",
    "list_warnings",
    "load_problem",
]

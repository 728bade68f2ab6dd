"""Program text: evolvable blocks, normal form and fingerprint, built-in measures."""

from evolve.source.blocks import EvolveBlock, evolvable_text, find_blocks, find_oddities
from evolve.source.excerpts import cut_frozen
from evolve.source.normal_form import (
    BUILT_IN_MEASURES,
    built_in_measures,
    fingerprint,
    is_python,
)
from evolve.source.parsing import list_names, parse_python, syntax_error
from evolve.source.plain_files import find_fault, holds_values, is_readable, is_text

__all__ = [
    "BUILT_IN_MEASURES",
    "EvolveBlock",
    "built_in_measures",
    "cut_frozen",
    "evolvable_text",
    "find_blocks",
    "find_fault",
    "find_oddities",
    "fingerprint",
    "holds_values",
    "is_python",
    "is_readable",
    "is_text",
    "list_names",
    "parse_python",
    "syntax_error",
]

"""Program text: evolvable blocks, normal form and fingerprint, built-in measures, signatures."""

from evolve.source.blocks import (
    EvolveBlock,
    cut_frozen,
    evolvable_text,
    find_blocks,
    find_oddities,
)
from evolve.source.normal_form import (
    BUILT_IN_MEASURES,
    built_in_measures,
    fingerprint,
    is_python,
    share_in_common,
    sign_source,
)
from evolve.source.parsing import (
    find_fault,
    holds_values,
    is_readable,
    is_text,
    list_names,
    parse_python,
    syntax_error,
)

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
    "share_in_common",
    "sign_source",
    "syntax_error",
]

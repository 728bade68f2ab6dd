"""Model replies to new source: parsed strictly, matched forgivingly."""

from evolve.edits.apply import apply_reply
from evolve.edits.rewrites import NO_CODE

__all__ = ["NO_CODE", "apply_reply"]

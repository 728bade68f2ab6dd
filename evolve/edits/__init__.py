"""Model replies to new source: parsed strictly, matched forgivingly."""

from evolve.edits.apply import apply_reply
from evolve.edits.numbered import LineEdit, apply_line_edits

__all__ = ["LineEdit", "apply_line_edits", "apply_reply"]

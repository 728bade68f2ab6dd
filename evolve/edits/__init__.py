"""Model replies to new source: parsed strictly, matched forgivingly."""

from evolve.edits.apply import apply_reply

__all__ = ["apply_reply"]

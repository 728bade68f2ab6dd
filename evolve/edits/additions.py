"""Files that a reply adds to a program, where the problem allows it."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from evolve.edits.reply import find_pieces
from evolve.files import inside
from evolve.records import Program, Rejected, SourceFile
from evolve.source.parsing import syntax_error

_MOST_ADDED = 20
_TITLE_LINES = 3


def is_allowed(name: str, patterns: Sequence[str]) -> bool:
    """Returns whether a problem allows a file of this name beyond those of its start."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def take_additions(
    parent: Program, reply: str, may_add: Sequence[str]
) -> tuple[tuple[SourceFile, ...], str] | Rejected:
    """Returns the new files of a reply, and the reply without them.

    A new file stands in a fence of its own, whole, under a line with its name.

    Args:
        parent: The program that is changed.
        reply: The model's words.
        may_add: Patterns of the names that are allowed.
    """
    lines = reply.split("\n")
    known = {file.path for file in parent.files}
    added: dict[str, str] = {}
    for piece in find_pieces(lines) if may_add else ():
        path = (piece.path or "").removeprefix("./")
        if not piece.is_closed or path in known or not is_allowed(path, may_add):
            continue
        try:
            inside(path)
        except ValueError as error:
            return Rejected(f"the reply adds a file: {error}")
        wrong = syntax_error(piece.text) if path.endswith(".py") else None
        if wrong is not None:
            return Rejected(f"syntax error in {path}, {wrong}")
        added[path] = piece.text + "\n"
        last = piece.first + piece.text.count("\n") + 2
        titles = range(max(0, piece.first - _TITLE_LINES), piece.first)
        for at in [*(at for at in titles if path in lines[at]), *range(piece.first, last + 1)]:
            lines[at : at + 1] = [""] * len(lines[at : at + 1])
    if len(known) + len(added) - 1 > _MOST_ADDED:
        return Rejected(f"the program would have more than {_MOST_ADDED} files beside its first")
    files = tuple(SourceFile(path, text) for path, text in sorted(added.items()))
    return files, "\n".join(lines)

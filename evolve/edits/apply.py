"""Turns a model's reply into a new program, or says why it cannot."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from evolve.edits.choice import (
    defined_names,
    find_bare_block,
    find_bare_python,
    rank_other,
    rank_python,
)
from evolve.edits.diffs import find_diff_edits
from evolve.edits.reply import (
    Edit,
    Piece,
    find_blocks_of_edits,
    find_pieces,
    find_titled_edits,
)
from evolve.edits.rewrites import rewrite_text
from evolve.edits.splice import UnappliedEditError, edit_text, frozen_parts
from evolve.records import Program, Rejected, SourceFile
from evolve.source import evolvable_text, syntax_error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NO_CHANGE = "the edit changes nothing"
_ODD_SPACES = str.maketrans({"\u00a0": " ", "\ufeff": "", "\u200b": ""})
_MOST_REWRITES_TRIED = 8
_MOST_EDITS = 200
_MOST_CHARACTERS = 1_000_000
_MOST_NAMES_LISTED = 6


def apply_reply(
    parent: Program, reply: str, *, path: str | None = None, cut_off: bool = False
) -> Program | Rejected:
    """Applies the edits of a reply to a program, or puts its rewrite in the program's place.

    Understood are SEARCH/REPLACE blocks, unified diffs, and whole programs in fences or bare;
    of a reply with edits and a program the edits count if they apply. Only evolvable blocks
    change: all other text of the new program is the parent's, byte for byte.

    Args:
        parent: The program that was shown to the model.
        reply: The model's words.
        path: The file that is meant where the reply names none; the entry file by default.
        cut_off: Whether the model was stopped by its limit of tokens: then code that is open at
            the end is not taken.

    Returns:
        The new program, or `Rejected` with the reason, and in `detail` the closest lines where
        an edit did not match.
    """
    if not reply.strip():
        return Rejected("the reply is empty")
    if not _is_text(reply):
        return Rejected("the reply holds characters that are no text")
    if len(reply) > _MOST_CHARACTERS:
        return Rejected(
            f"the reply has {len(reply)} characters, at most {_MOST_CHARACTERS} are read"
        )
    lines = [line.rstrip("\r") for line in reply.translate(_ODD_SPACES).split("\n")]
    target = path if path is not None else parent.entry.path
    edits, broken = _find_edits(lines)
    refusal = None
    if broken:
        refusal = Rejected(f"the reply is cut off or malformed: {broken[0]}")
    elif edits:
        outcome = _apply_edits(parent, edits, target)
        if isinstance(outcome, Program):
            return outcome
        refusal = outcome
    if cut_off and refusal is not None:
        return refusal
    pieces = find_pieces(lines)
    if cut_off and pieces and not pieces[-1].is_closed:
        refusal = refusal or Rejected("the reply is cut off inside its code")
        pieces = pieces[:-1]
    outcome = _apply_rewrites(parent, pieces, [] if refusal else lines, target)
    return outcome if isinstance(outcome, Program) or refusal is None else refusal


def _is_text(reply: str) -> bool:
    """Returns whether a file can hold the reply: no lone surrogates, no zero bytes."""
    try:
        reply.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in reply


def _find_edits(lines: list[str]) -> tuple[list[Edit], list[str]]:
    blocks = find_blocks_of_edits(lines)
    if blocks.edits or blocks.broken:
        return blocks.edits, blocks.broken
    return find_diff_edits(lines) or find_titled_edits(lines, find_pieces(lines)), []


def _apply_edits(parent: Program, edits: Sequence[Edit], target: str) -> Program | Rejected:
    real = list(dict.fromkeys(edit for edit in edits if edit.search != edit.replacement))
    if not real:
        return Rejected(_NO_CHANGE)
    if len(real) > _MOST_EDITS:
        return Rejected(f"the reply has {len(real)} edits, at most {_MOST_EDITS} are applied")
    texts = {file.path: file.text for file in parent.files}
    by_path: dict[str, list[Edit]] = defaultdict(list)
    try:
        for edit in real:
            by_path[_resolve(parent, edit.path, target, is_diff=edit.is_diff)].append(edit)
        outcome = finish_program(
            parent, {name: edit_text(texts[name], name, own) for name, own in by_path.items()}
        )
        if isinstance(outcome, Program) or outcome.reason == _NO_CHANGE:
            return outcome
        realigned = finish_program(
            parent,
            {
                name: edit_text(texts[name], name, own, realign=True)
                for name, own in by_path.items()
            },
        )
    except UnappliedEditError as error:
        return Rejected(error.reason, error.detail)
    return realigned if isinstance(realigned, Program) else outcome


def _resolve(parent: Program, named: str | None, target: str, *, is_diff: bool = False) -> str:
    """Returns the program's file that a reply means, which may lack its folders."""
    known = [file.path for file in parent.files]
    wanted = (named if named is not None else target).removeprefix("./")
    if wanted in known:
        return wanted
    alike = [path for path in known if path.endswith("/" + wanted) or wanted.endswith("/" + path)]
    if len(alike) == 1:
        return alike[0]
    if is_diff and len(known) == 1:
        return known[0]  # diffs must name a file, and models invent one
    raise UnappliedEditError(
        f"the reply names an unknown file {wanted!r}; the program has {', '.join(known)}"
    )


def _apply_rewrites(
    parent: Program, pieces: list[Piece], lines: list[str], target: str
) -> Program | Rejected:
    by_path: dict[str, list[Piece]] = defaultdict(list)
    try:
        for piece in pieces:
            by_path[_resolve(parent, piece.path, target)].append(piece)
        if not by_path:
            by_path[_resolve(parent, None, target)] = []
    except UnappliedEditError as error:
        return Rejected(error.reason)
    texts = {file.path: file.text for file in parent.files}
    changed: dict[str, str] = {}
    refusal = Rejected("the reply holds neither edits nor a program")
    for name, own in by_path.items():
        outcome = _rewrite_file(texts[name], name, own, lines)
        if isinstance(outcome, str):
            changed[name] = outcome
        else:
            refusal = outcome
    return finish_program(parent, changed) if changed else refusal


def _rewrite_file(text: str, name: str, pieces: list[Piece], lines: list[str]) -> str | Rejected:
    """Returns the first rewrite that parses and changes the file."""
    is_python = name.endswith(".py")
    codes = _rank(text, pieces, lines, is_python=is_python)
    refusal = None if codes else _explain(text, pieces, is_python=is_python)
    for code in codes[:_MOST_REWRITES_TRIED]:
        new_text = rewrite_text(text, code, is_python=is_python)
        if isinstance(new_text, Rejected):
            refusal = refusal or new_text
        elif _is_same(text, new_text):
            refusal = Rejected(_NO_CHANGE)
        elif (error := _find_error(name, new_text)) is not None:
            refusal = refusal or Rejected(error)
        else:
            return new_text
    return refusal or Rejected(_NO_CHANGE)


def _rank(text: str, pieces: list[Piece], lines: list[str], *, is_python: bool) -> list[str]:
    old = evolvable_text(text)
    if not is_python:
        bare = find_bare_block(lines)
        return rank_other(text, pieces) or ([bare] if bare is not None else [])
    frozen = "".join(frozen_parts(text))
    ranked = rank_python(old, frozen, pieces)
    if ranked:
        return ranked
    bare = find_bare_python(lines, defined_names(old, frozen))
    return [bare] if bare is not None else []


def _explain(text: str, pieces: list[Piece], *, is_python: bool) -> Rejected:
    """Says why none of the pieces is a program."""
    if not pieces:
        return Rejected("the reply holds neither edits nor a program")
    if not is_python:
        return Rejected("none of the reply's code resembles the program")
    longest = max(pieces, key=lambda piece: len(piece.text))
    error = syntax_error(longest.text)
    if error is not None:
        if not longest.is_closed:
            return Rejected(f"the reply is cut off inside its code; {error}")
        return Rejected(f"the reply's code does not parse: {error}")
    names = defined_names(evolvable_text(text), "".join(frozen_parts(text)))
    listed = ", ".join(f"`{name}`" for name in sorted(names)[:_MOST_NAMES_LISTED])
    rest = ", ..." if len(names) > _MOST_NAMES_LISTED else ""
    return Rejected(f"the reply's code defines none of {listed or 'the program'}{rest}")


def finish_program(parent: Program, changed: Mapping[str, str]) -> Program | Rejected:
    """Makes the new program, or says what is wrong with the changed files."""
    if all(_is_same(file.text, changed.get(file.path, file.text)) for file in parent.files):
        return Rejected(_NO_CHANGE)
    for name, text in changed.items():
        error = _find_error(name, text)
        if error is not None:
            return Rejected(error)
    return Program(tuple(SourceFile(name, changed.get(name, text)) for name, text in parent.files))


def _is_same(old: str, new: str) -> bool:
    """Returns whether texts differ in nothing but white space at the ends of lines."""
    if old == new:
        return True
    return [line.rstrip() for line in old.rstrip().split("\n")] == [
        line.rstrip() for line in new.rstrip().split("\n")
    ]


def _find_error(name: str, text: str) -> str | None:
    if not name.endswith(".py"):
        return None
    error = syntax_error(text)
    if error is None:
        return None
    number = int(error.split(":")[0].removeprefix("line "))
    lines = text.split("\n")
    shown = lines[number - 1].strip()[:80] if number <= len(lines) else ""
    return f"syntax error in {name}, {error}: `{shown}`"

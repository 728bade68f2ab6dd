"""Turns a model's reply into a new program, or says why it cannot."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from evolve.edits.matching import UnappliedEditError, edit_text
from evolve.edits.reply import (
    CodePiece,
    Edit,
    MalformedEditError,
    blank_blocks,
    find_marked_edits,
    find_outer_piece,
    find_pieces,
    find_titled_edits,
    is_fence,
)
from evolve.edits.rewrites import NO_CODE, explain_refusal, rank_rewrites, rewrite_text
from evolve.files import inside
from evolve.records import Program, Rejected, SourceFile
from evolve.source.parsing import find_fault, syntax_error

# The forms of edits, the strictest first; the first that finds any is taken.
EDIT_FORMS = (find_marked_edits, find_titled_edits)
_NO_CHANGE = Rejected("the edit changes nothing")
_ODD_SPACES = str.maketrans({"\u00a0": " ", "\ufeff": "", "\u200b": ""})
_MOST_REWRITES_TRIED = 8
_MOST_EDITS = 200
_MOST_CHARACTERS = 1_000_000
_MOST_ADDED = 20
_TITLE_LINES = 3


def apply_reply(
    parent: Program,
    reply: str,
    *,
    cut_off: bool = False,
    may_add: Sequence[str] = (),
) -> Program | Rejected:
    """Applies the edits of a reply to a program, or puts its rewrite in the program's place.

    Understood are SEARCH/REPLACE blocks, marked or under headings, and whole programs in fences
    or bare; of a reply with edits and a program the edits count if they apply. Only evolvable
    blocks change: all other text of the new program is the parent's, byte for byte.

    Args:
        parent: The program that was shown to the model.
        reply: The model's words.
        cut_off: Whether the model was stopped by its limit of tokens: then code that is open at
            the end is not taken.
        may_add: Patterns of the names of files that the reply may add.

    Returns:
        The new program, or `Rejected` with the reason, and in `detail` the closest lines where
        an edit did not match.
    """
    refusal = _check_text(reply)
    if refusal is not None:
        return refusal
    taken = _take_additions(parent, reply, may_add)
    if isinstance(taken, Rejected):
        return taken
    added, rest = taken
    outcome = _apply_rest(parent, rest, cut_off=cut_off)
    if not added:
        return outcome
    # What is left of the reply may be no more than words.
    if isinstance(outcome, Rejected):
        if outcome.reason not in {NO_CODE, _NO_CHANGE.reason}:
            return outcome
        outcome = parent
    return Program((*outcome.files, *added))


def _apply_rest(parent: Program, reply: str, *, cut_off: bool) -> Program | Rejected:
    refusal: Rejected | None = None
    lines = [line.rstrip("\r") for line in reply.translate(_ODD_SPACES).split("\n")]
    edits: Sequence[Edit] = ()
    try:
        edits = next(filter(None, (find(lines) for find in EDIT_FORMS)), ())
    except MalformedEditError as error:
        refusal = Rejected(f"the reply is cut off or malformed: {error}")
    else:
        if edits:
            outcome = _apply_edits(parent, edits)
            if isinstance(outcome, Program):
                return outcome
            refusal = outcome
    if cut_off and refusal is not None:
        return refusal
    try:
        # Fences inside of edits hold no program.
        pieces = _find_pieces(parent, blank_blocks(lines) if edits else lines)
    except MalformedEditError as error:
        return Rejected(str(error))
    if cut_off and pieces and not pieces[-1].is_closed:
        refusal = Rejected("the reply is cut off inside its code")
        pieces = pieces[:-1]
    outcome = _apply_rewrites(parent, pieces, [] if refusal else lines)
    return outcome if isinstance(outcome, Program) or refusal is None else refusal


def _find_pieces(parent: Program, lines: list[str]) -> list[CodePiece]:
    """Returns the fenced pieces of a reply, where the program may hold fences, too.

    Raises:
        MalformedEditError: It cannot be told which fences are the program's.
    """
    pieces = [piece for piece in find_pieces(lines) if piece.text.strip()]
    if any(is_fence(line) for file in parent.files for line in file.text.split("\n")):
        try:
            pieces += filter(None, [find_outer_piece(lines)])
        except MalformedEditError:
            # Python that is cut off at a fence of its own does not parse.
            if not parent.entry.path.endswith(".py"):
                raise
    return pieces


def _check_text(reply: str) -> Rejected | None:
    """Returns why a reply cannot be read, or a file cannot hold it; None where both work."""
    if not reply.strip():
        return Rejected("the reply is empty")
    if len(reply) > _MOST_CHARACTERS:
        return Rejected(
            f"the reply has {len(reply)} characters, at most {_MOST_CHARACTERS} are read"
        )
    if "\0" in reply or any("\ud800" <= character <= "\udfff" for character in reply):
        return Rejected("the reply holds characters that are not text")
    return None


def _apply_edits(parent: Program, edits: Sequence[Edit]) -> Program | Rejected:
    changing = list(dict.fromkeys(edit for edit in edits if edit.changes_something))
    if not changing:
        return _NO_CHANGE
    if len(changing) > _MOST_EDITS:
        return Rejected(f"the reply has {len(changing)} edits, at most {_MOST_EDITS} are applied")
    by_path: dict[str, list[Edit]] = defaultdict(list)
    try:
        for edit in changing:
            by_path[_resolve(parent, edit.path)].append(edit)
        outcome = _edit_files(parent, by_path, realign=False)
        if isinstance(outcome, Program) or outcome == _NO_CHANGE:
            return outcome
        realigned = _edit_files(parent, by_path, realign=True)
    except UnappliedEditError as error:
        return Rejected(error.reason, error.detail)
    return realigned if isinstance(realigned, Program) else outcome


def _edit_files(
    parent: Program, edits: Mapping[str, Sequence[Edit]], *, realign: bool
) -> Program | Rejected:
    texts = {file.path: file.text for file in parent.files}
    changed = {
        name: edit_text(texts[name], name, own, realign=realign) for name, own in edits.items()
    }
    return _make_program(parent, changed)


def _resolve(parent: Program, named: str | None) -> str:
    """Returns the program's file that a reply means, which may lack its folders.

    Where there is only one file it is meant whatever its name: models invent `solution.py`, or
    write a heading that looks like one.
    """
    known = [file.path for file in parent.files]
    wanted = (named if named is not None else parent.entry.path).removeprefix("./")
    if wanted in known:
        return wanted
    alike = [path for path in known if _is_same_file(path, wanted)]
    if len(alike) == 1:
        return alike[0]
    if len(known) == 1:
        return known[0]
    raise UnappliedEditError(
        f"the reply names an unknown file {wanted!r}; the program has {', '.join(known)}"
    )


def _apply_rewrites(
    parent: Program, pieces: list[CodePiece], lines: list[str]
) -> Program | Rejected:
    by_path: dict[str, list[CodePiece]] = defaultdict(list)
    try:
        for piece in _keep_own(parent, pieces):
            by_path[_resolve(parent, piece.path)].append(piece)
        if not pieces:
            by_path[parent.entry.path] = []
    except UnappliedEditError as error:
        return Rejected(error.reason)
    texts = {file.path: file.text for file in parent.files}
    changed: dict[str, str] = {}
    refusal = Rejected(NO_CODE)
    for name, own in by_path.items():
        outcome = _rewrite_file(texts[name], name, own, lines)
        if isinstance(outcome, str):
            changed[name] = outcome
        else:
            refusal = outcome
    return _make_program(parent, changed) if changed else refusal


def _keep_own(parent: Program, pieces: list[CodePiece]) -> list[CodePiece]:
    """Returns the pieces that may be the program where it has one file and they name several.

    Raises:
        UnappliedEditError: It is not to be seen which of the files is meant.
    """
    own, suffix = parent.entry.path, PurePosixPath(parent.entry.path).suffix
    # What has another suffix is a heading, or a file that is not asked for.
    named = {piece.path for piece in pieces if piece.path and piece.path.endswith(suffix)}
    if len(parent.files) > 1 or len(named) < 2 or suffix == ".py":
        return pieces
    if not any(_is_same_file(own, path) for path in named):
        listed = ", ".join(sorted(named))
        raise UnappliedEditError(f"the reply names several files, {listed}; the program has {own}")
    return [piece for piece in pieces if piece.path is None or _is_same_file(own, piece.path)]


def _is_same_file(path: str, named: str) -> bool:
    """Returns whether a name may mean a file: folders may be missing, or be added in front."""
    return path == named or path.endswith("/" + named) or named.endswith("/" + path)


def _rewrite_file(
    text: str, name: str, pieces: list[CodePiece], lines: list[str]
) -> str | Rejected:
    """Returns the first rewrite that parses and changes the file."""
    is_python = name.endswith(".py")
    codes = rank_rewrites(text, name, pieces, lines)
    refusal = None if codes else explain_refusal(text, pieces, is_python=is_python)
    for code in codes[:_MOST_REWRITES_TRIED]:
        new_text = rewrite_text(text, code, is_python=is_python)
        if isinstance(new_text, Rejected):
            refusal = refusal or new_text
        elif _is_same(text, new_text):
            refusal = _NO_CHANGE
        elif (error := _find_error(name, text, new_text)) is not None:
            refusal = refusal or error
        else:
            return new_text
    return refusal or _NO_CHANGE


def _make_program(parent: Program, changed: Mapping[str, str]) -> Program | Rejected:
    """Returns the new program, or what is wrong with the changed files."""
    if all(_is_same(file.text, changed.get(file.path, file.text)) for file in parent.files):
        return _NO_CHANGE
    errors = [_find_error(name, dict(parent.files)[name], text) for name, text in changed.items()]
    return next(
        filter(None, errors),
        Program(tuple(SourceFile(name, changed.get(name, text)) for name, text in parent.files)),
    )


def _is_same(old: str, new: str) -> bool:
    """Returns whether texts differ in nothing but white space at the ends of lines."""
    if old == new:
        return True
    return [line.rstrip() for line in old.rstrip().split("\n")] == [
        line.rstrip() for line in new.rstrip().split("\n")
    ]


def _find_error(name: str, old: str, text: str) -> Rejected | None:
    error = find_fault(name, text)
    # A file that began as another dialect, such as JSON with comments, may stay one.
    if error is None or (find_fault(name, old) is not None and not name.endswith(".py")):
        return None
    number = int(error.split(":")[0].removeprefix("line "))
    shown = "".join(text.split("\n")[number - 1 : number]).strip()[:80]
    return Rejected(f"syntax error in {name}, {error}: `{shown}`")


def is_allowed(name: str, patterns: Sequence[str]) -> bool:
    """Returns whether a problem allows a file of this name beyond those of its start."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _take_additions(
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

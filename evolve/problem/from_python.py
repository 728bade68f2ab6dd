"""A problem folder written from Python: from a program and an evaluator in this process."""

from __future__ import annotations

import inspect
import re
import symtable
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from evolve.errors import EvolveError, UsageError
from evolve.files import decode_text
from evolve.problem.gallery import (
    expect_empty,
    find_modules,
    imported_names,
    list_files,
    problem_name,
    write_files,
)
from evolve.problem.gathered import (
    LATE_ANNOTATIONS,
    Gathered,
    closes_over,
    scope_of,
    source_of,
    split_names,
)
from evolve.records import Direction
from evolve.toml import write_value

_TOML = """\
name = "{name}"
summary = "Written from Python"
direction = "{direction}"
function = "{function}"

[program]
files = {files}
"""
_WRAPPER = '''

def {wrapper}(program):
    """Returns the score of a program, as a `Score`."""
    from evolve.scoring import Score

    found = {function}(program)
    return found if isinstance(found, Score) else Score(found)
'''
# A text of one word, or one that ends as a file's name does.
_LIKE_A_PATH = re.compile(r"[^\s()=]+|.*\.py|[^()=]*\.\w{1,5}")


class Given(NamedTuple):
    """What was given for a file of the written folder.

    Attributes:
        text: What the file holds.
        name: What the user calls it: the argument, or the path of the file.
    """

    text: str
    name: str


def write_problem(
    folder: Path,
    program: str | Path | Callable[..., Any],
    evaluate: str | Path | Callable[..., Any],
    *,
    statement: str,
    direction: str,
) -> dict[Path, str]:
    """Writes a problem folder from Python.

    Args:
        folder: New or empty.
        program: Source, path of a file or folder, or a function, whose source is taken.
        evaluate: A function of one argument, or the path of a file that defines `evaluate`.
        statement: What the program is to do.
        direction: `maximize` or `minimize`.

    Returns:
        The files written, each with what the user calls it.

    Raises:
        UsageError: The program or the evaluator cannot be taken.
    """
    if direction not in tuple(Direction):
        raise UsageError(f"direction: expected maximize or minimize, got {direction!r}")
    _expect_text(statement, "statement")
    files = _read_program(program)
    others, function = _read_evaluator(evaluate)
    better = "larger" if direction == Direction.MAXIMIZE else "smaller"
    plain = f"Improve the program. The {better} its objective, the better."
    toml = _TOML.format(
        name=problem_name(getattr(program, "__name__", folder.name)),
        direction=direction,
        function=function,
        files=write_value(list(files)),
    )
    others["problem.toml"] = Given(toml, "problem.toml")
    others["statement.md"] = Given(f"{statement or plain}\n", "statement")
    if taken := sorted(set(files) & set(others)):
        raise UsageError(
            f"program: has a file `{taken[0]}`, which the problem folder needs for itself; rename "
            "it, or write a problem folder and use `evolve.run`"
        )
    expect_empty(folder)
    written = {folder / path: given for path, given in {**files, **others}.items()}
    write_files(folder, {path: given.text for path, given in written.items()})
    return {path: given.name for path, given in written.items()}


@contextmanager
def naming_given(names: Mapping[Path, str]) -> Iterator[None]:
    """Lets errors name files that are written as their user knows them."""
    try:
        yield
    except EvolveError as error:
        text = str(error)
        for path, name in names.items():
            for spelled in (str(path), str(path.resolve())):
                text = text.replace(spelled, name)
        error.args = (text,)
        raise


def _expect_text(text: object, where: str) -> None:
    if not isinstance(text, str):
        raise UsageError(f"{where}: expected a text, got {text!r:.80}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{where}: expected text that UTF-8 can hold, got {text[error.start]!r} at character "
            f"{error.start}"
        ) from error


def _read_program(program: object) -> dict[str, Given]:
    if callable(program):
        text = f"# EVOLVE-BLOCK-START\n{_read_function(program).rstrip()}\n# EVOLVE-BLOCK-END\n"
        header = LATE_ANNOTATIONS if getattr(program, "__annotations__", None) else ""
        return {"initial.py": Given(header + text, "program")}
    if not isinstance(program, str | Path):
        raise UsageError(f"program: expected source, a path or a function, got {program!r:.80}")
    path = _find_path(program)
    if path is None:
        text = str(program)
        _expect_text(text, "program")
        return {"initial.py": Given(text if text.endswith("\n") else f"{text}\n", "program")}
    paths = [path]
    if path.is_dir():
        paths = [
            one
            for one in list_files(path)
            if one.suffix != ".pyc"
            and not any(part[0] == "." or part == "__pycache__" for part in _below(one, path))
        ]
    if not paths:
        raise UsageError(f"program: {path}: expected a folder with the program's files, got none")
    top = path if path.is_dir() else path.parent
    return {
        "/".join(_below(one, top)): Given(_read_file(one, "program"), str(one)) for one in paths
    }


def _below(path: Path, folder: Path) -> tuple[str, ...]:
    return path.relative_to(folder).parts


def _find_path(program: str | Path) -> Path | None:
    """Returns the file or folder that a text or path names; None where the text is source."""
    if isinstance(program, str):
        if not program.strip():
            raise UsageError("program: expected source, a path or a function, got an empty text")
        if "\n" in program:
            return None
    path = Path(program)
    try:
        if path.is_dir() or path.is_file():
            return path
    except OSError:
        # As of a name that is too long for a file.
        pass
    if isinstance(program, Path) or (len(program) < 256 and _LIKE_A_PATH.fullmatch(program)):
        raise UsageError(
            f"program: {path}: no such file or folder; source of one line ends with a line break"
        )
    return None


def _read_file(path: Path, where: str) -> str:
    try:
        return decode_text(path.read_bytes())
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{where}: {path}: expected text in UTF-8: {error}") from error


def _read_function(function: Callable[..., Any]) -> str:
    """Returns the source of a starting function that needs nothing around it.

    Raises:
        UsageError: It uses something around it; the message names it.
    """
    source = source_of(function, "program")
    plain = inspect.unwrap(function)
    used, own = split_names(source), plain.__name__
    scope = {**scope_of(plain), **dict.fromkeys(closes_over(plain))}
    outside = [name for name in sorted(used.at_once | used.later) if name in scope]
    needed = [f"`{name}`" for name in outside if name != own and not name.startswith("__")]
    if needed:
        raise UsageError(
            f"program: `{own}` uses {', '.join(needed)} from outside of it, and only its own "
            "source is taken; import or define that inside the function, or give a text or a file"
        )
    return source


def _read_evaluator(evaluate: object) -> tuple[dict[str, Given], str]:
    """Returns the evaluator's files, and which function of `evaluator.py` is to be called.

    Raises:
        UsageError: It cannot be taken.
    """
    if callable(evaluate):
        source_of(evaluate, "evaluate")
        _expect_one_argument(evaluate)
        parts = Gathered()
        name = inspect.unwrap(evaluate).__name__
        parts.take(name, evaluate, getattr(evaluate, "__module__", ""))
        wrapper = _choose_name(parts.names)
        code = parts.write(name) + _WRAPPER.format(wrapper=wrapper, function=name)
        return {"evaluator.py": Given(code, "evaluate")}, wrapper
    expected = "expected a function, or the path of a file that defines `evaluate`"
    if not isinstance(evaluate, str | Path):
        raise UsageError(f"evaluate: {expected}, got {evaluate!r:.80}")
    path = Path(evaluate)
    try:
        found = path.is_file()
    except OSError:
        found = False
    if not found:
        raise UsageError(f"evaluate: {expected}, found no file {str(evaluate)[:200]!r}")
    return _read_evaluator_file(path)


def _read_evaluator_file(path: Path) -> tuple[dict[str, Given], str]:
    code = _read_file(path, "evaluate").rstrip()
    try:
        table = symtable.symtable(code, str(path), "exec")
        modules = find_modules(path)[1:]
        imported = {name for one in (path, *modules) for name in imported_names(one.read_bytes())}
    except SyntaxError as error:
        raise UsageError(
            f"evaluate: {error.filename or path}: cannot be parsed: {error.msg}, line "
            f"{error.lineno}"
        ) from error
    names = {
        one.get_name() for one in table.get_symbols() if one.is_assigned() or one.is_imported()
    }
    if "evaluate" not in names and "import *" not in code:
        raise UsageError(f"evaluate: {path}: expected a function `evaluate(program)`, found none")
    for name in sorted(imported):
        if (path.parent / name / "__init__.py").is_file():
            raise UsageError(
                f"evaluate: {path}: imports the package `{name}` next to it, which is not taken; "
                "write a problem folder and use `evolve.run`"
            )
    wrapper = _choose_name(names)
    texts = {one.name: Given(_read_file(one, "evaluate"), str(one)) for one in modules}
    if "evaluator.py" in texts:
        raise UsageError(f"evaluate: {path}: imports `evaluator`, a name it gets itself; rename it")
    whole = f"{code}\n" + _WRAPPER.format(wrapper=wrapper, function="evaluate")
    return {**texts, "evaluator.py": Given(whole, str(path))}, wrapper


def _choose_name(taken: Iterable[str]) -> str:
    """Returns a name for the function that is called."""
    name, names = "score_program", set(taken)
    while name in names:
        name += "_"
    return name


def _expect_one_argument(evaluate: Callable[..., Any]) -> None:
    signature = inspect.signature(evaluate)
    try:
        signature.bind(None)
    except TypeError as error:
        raise UsageError(
            "evaluate: expected a function of one argument, the program, got "
            f"`{evaluate.__name__}{signature}`"
        ) from error
    if inspect.iscoroutinefunction(evaluate) or inspect.isgeneratorfunction(evaluate):
        raise UsageError(
            f"evaluate: expected a function that returns a number or a `Score`, got "
            f"`{evaluate.__name__}`, which is `async` or yields"
        )

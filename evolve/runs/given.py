"""What people hand to a run, checked and recorded: programs, hints, pins."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from itertools import zip_longest
from pathlib import Path, PurePosixPath

from evolve.display import one_line
from evolve.edits.apply import is_allowed
from evolve.errors import UsageError
from evolve.problem import Problem
from evolve.problem.folder import STARTS, check_entry, read_source
from evolve.records import Attempt, Program, SourceFile
from evolve.records.results import Steer, SteerKind
from evolve.runs.run_folder import load_run
from evolve.runs.world import list_files
from evolve.search.population import load_population
from evolve.settings.sections import STRATEGIES
from evolve.source.parsing import frozen_parts
from evolve.store import DATABASE, Store


def read_given(problem: Problem, path: Path, where: str) -> Program:
    """Returns a program that somebody hands in, checked as far as it can be without running it.

    Args:
        problem: What it is to solve.
        path: A file, which stands for the one of its name; a folder with all files; or a run.
        where: Who names it, for messages.

    Raises:
        UsageError: There is nothing, or it lacks a file.
        ProblemError: It cannot be parsed, or changes what no program may change.
    """
    if (path / DATABASE).is_file():
        given = _read_champion(problem, path, where).files
    elif path.is_dir():
        names = [name for name, _ in problem.initial.files]
        given = tuple(
            read_source(path, name, where) for name in (*names, *_added(problem, path, where))
        )
    elif path.is_file():
        given = _read_file(problem, path, where)
    else:
        raise UsageError(f"{where}: expected a file, a folder or a run, got nothing at {path}")
    program = Program(given)
    _expect_frozen(problem, program, where)
    check_entry(path if path.is_dir() else path.parent, program, problem.entry, problem.recipe)
    return program


Start = tuple[str, Program]
"""A starting program beyond the first, with where it comes from."""


def read_starts(problem: Problem, paths: Sequence[Path]) -> list[Start]:
    """Returns the further starting programs of a new run.

    They are those of the problem's folder `initial/`, and those that the user names.

    Args:
        problem: The problem as its user has it.
        paths: As for `read_given`.

    Raises:
        UsageError: There is nothing, or it lacks a file.
        ProblemError: One cannot be parsed, or changes what no program may change.
    """
    own, suffix = problem.folder / STARTS, PurePosixPath(problem.initial.entry.path).suffix
    within = any(name.startswith(f"{STARTS}/") for name, _ in problem.initial.files)
    further = [] if within or not own.is_dir() else sorted(own.iterdir())
    given = [
        (f"start {path.name}", read_given(problem, path, where))
        for where, found in ((str(own), further), ("--start", paths))
        for path in found
        if where == "--start"
        or path.suffix == suffix
        or (path.is_dir() and not path.name.startswith((".", "__")))
    ]
    # Without `initial.py` the first of them stands in its place.
    return [one for one in given if one[1].id != problem.initial.id]


def note_starts(folder: Path, starts: Sequence[Start]) -> None:
    """Adds further starting programs to a run that has not begun."""
    with closing(Store.create(folder)) as store:
        for text, program in starts:
            store.add_steer(SteerKind.INJECT, text, program.files)


def _added(problem: Problem, folder: Path, where: str) -> list[str]:
    """Returns the names of the files in a folder that a program may have, too.

    Raises:
        UsageError: A file of the program's own kind is none of them.
    """
    names = [path.relative_to(folder).as_posix() for path in list_files(folder)]
    names = [name for name in names if not name.startswith(".")]
    files, suffix = problem.initial.files, PurePosixPath(problem.initial.entry.path).suffix
    added = [name for name in names if name not in {file.path for file in files}]
    for name in added:
        if name.endswith(suffix) and not is_allowed(name, problem.may_add):
            raise UsageError(
                f"{where}: {folder / name}: expected only files that programs of this problem may "
                f"have, {', '.join(file.path for file in files)} or what `may_add` in problem.toml "
                "allows"
            )
    return [name for name in added if is_allowed(name, problem.may_add)]


def _read_champion(wanted: Problem, folder: Path, where: str) -> Program:
    problem, settings = load_run(folder)
    if problem.name != wanted.name:
        raise UsageError(f"{where}: {folder} is a run of {problem.name}, not of {wanted.name}")
    with closing(Store.open_to_read(folder)) as store:
        champion = load_population(store, problem, settings.search).champion
        if champion is None:
            raise UsageError(f"{where}: {folder}: the run has no evaluated program yet")
        return store.load_attempt(champion.key).program_or_fail


def _read_file(problem: Problem, path: Path, where: str) -> tuple[SourceFile, ...]:
    files = problem.initial.files
    named = [file.path for file in files if PurePosixPath(file.path).name == path.name]
    if len(files) == 1:
        named = [files[0].path]
    if len(named) != 1:
        names = ", ".join(file.path for file in files)
        raise UsageError(
            f"{where}: expected one of {names}, or a folder with all of them, got {path.name}"
        )
    text = read_source(path.parent, path.name, where).text
    return tuple(file._replace(text=text) if file.path == named[0] else file for file in files)


def _expect_frozen(problem: Problem, program: Program, where: str) -> None:
    """Checks that a program has the files of the problem, and the code that may not change."""
    wanted, names = problem.initial.files, [name for name, _ in program.files]
    further = names[len(wanted) :]
    if names[: len(wanted)] != [name for name, _ in wanted] or not all(
        is_allowed(name, problem.may_add) for name in further
    ):
        expected = ", ".join(name for name, _ in wanted)
        raise UsageError(f"{where}: expected the files {expected}, got {', '.join(names)}")
    for (name, text), (_, new) in zip(wanted, program.files, strict=False):
        old, got = frozen_parts(text), frozen_parts(new)
        if old == got:
            continue
        lines = zip_longest("".join(old).splitlines(), "".join(got).splitlines(), fillvalue="")
        one, two = next((pair for pair in lines if pair[0] != pair[1]), ("", ""))
        raise UsageError(
            f"{where}: {name}: expected all outside of EVOLVE-BLOCK as in the problem: "
            f"{one.strip()!r:.100}, got {two.strip()!r:.100}"
        )


_MOST_CHARACTERS = 4000


def list_asked(folder: Path) -> list[Steer]:
    """Returns all that was asked of a run, in order."""
    with closing(Store.open_to_read(folder)) as store:
        return store.steering()


def hint_run(folder: Path, text: str) -> Steer:
    """Says something to the models of a run, from its next generation on.

    Raises:
        UsageError: The text is empty or too long, or the run has no model.
        StoreError: The database cannot be written.
    """
    if not text.strip() or len(text) > _MOST_CHARACTERS:
        raise UsageError(
            f"hint: expected 1 to {_MOST_CHARACTERS} characters of text, got {len(text)}"
        )
    if not load_run(folder)[1].models.is_configured:
        raise UsageError(
            f"hint: {folder}: the run has no model that would read it; `evolve inject` and "
            "`evolve pin` steer it, and `evolve resume --model NAME` gives it one"
        )
    _expect_begun(folder)
    return _ask(folder, SteerKind.HINT, one_line(text))


def inject_program(folder: Path, path: Path) -> Steer:
    """Lets a run evaluate a program in its next generation.

    Args:
        folder: Of the run.
        path: A file, a folder with all files of the program, or a run.

    Raises:
        UsageError: There is nothing, or it changes what no program may change.
        StoreError: The database cannot be written.
    """
    _expect_begun(folder)
    program = read_given(load_run(folder)[0], path, "inject")
    return _ask(folder, SteerKind.INJECT, f"{path.name}, put in by the user", program.files)


def pin_attempt(folder: Path, attempt: Attempt) -> Steer:
    """Lets every further generation of a run work on a program, too.

    Args:
        folder: Of the run.
        attempt: Has the program.

    Raises:
        UsageError: It has no objective, or the run takes its parents from one place.
        StoreError: The database cannot be written.
    """
    strategy = STRATEGIES[load_run(folder)[1].search.strategy]
    if strategy.is_baseline:
        raise UsageError(f"pin: {folder}: the run's strategy changes {strategy.about}")
    if attempt.objective is None:
        raise UsageError(
            f"pin: expected a program with an objective, got attempt {attempt.key}: "
            f"{attempt.evaluation.status}"
        )
    if any(one.text == str(attempt.key) for one in _list_standing(folder)):
        raise UsageError(f"pin: {attempt.key} is pinned already")
    return _ask(folder, SteerKind.PIN, str(attempt.key))


def drop_asked(folder: Path, number: int, kind: SteerKind) -> Steer:
    """Takes a hint or a pin back.

    Raises:
        UsageError: There is none of this number, or it was dropped before.
        StoreError: The database cannot be written.
    """
    known = [one.number for one in _list_standing(folder) if one.kind is kind]
    if number not in known:
        listed = ", ".join(map(str, known)) or "none"
        raise UsageError(f"--drop: expected the number of a {kind} ({listed}), got {number}")
    return _ask(folder, SteerKind.DROP, str(number))


def _list_standing(folder: Path) -> list[Steer]:
    """Returns what was asked of a run and not dropped."""
    asked = list_asked(folder)
    dropped = {int(one.text) for one in asked if one.kind is SteerKind.DROP}
    return [one for one in asked if one.number not in dropped]


def _ask(folder: Path, kind: SteerKind, text: str, files: tuple[SourceFile, ...] = ()) -> Steer:
    with closing(Store.open_to_steer(folder)) as store:
        return store.add_steer(kind, text, files)


def _expect_begun(folder: Path) -> None:
    with closing(Store.open_to_read(folder)) as store:
        if store.last_generation() is None:
            raise UsageError(f"{folder}: the run has not evaluated its starting program yet")

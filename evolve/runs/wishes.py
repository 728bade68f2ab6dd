"""What people ask of a run, checked and recorded: hints, injected programs, pins."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from evolve.display import one_line
from evolve.errors import UsageError
from evolve.records import Attempt, SourceFile
from evolve.records.steering import Steer, SteerKind
from evolve.runs.given import read_given
from evolve.runs.run_folder import load_run
from evolve.settings.sections import STRATEGIES
from evolve.store import Store

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
    return _ask(folder, SteerKind.PIN, str(attempt.key))


def drop_asked(folder: Path, number: int, kind: SteerKind) -> Steer:
    """Takes a hint or a pin back.

    Raises:
        UsageError: There is none of this number.
        StoreError: The database cannot be written.
    """
    known = [one.number for one in list_asked(folder) if one.kind is kind]
    if number not in known:
        listed = ", ".join(map(str, known)) or "none"
        raise UsageError(f"--drop: expected the number of a {kind} ({listed}), got {number}")
    return _ask(folder, SteerKind.DROP, str(number))


def _ask(folder: Path, kind: SteerKind, text: str, files: tuple[SourceFile, ...] = ()) -> Steer:
    with closing(Store.open_to_steer(folder)) as store:
        return store.add_steer(kind, text, files)


def _expect_begun(folder: Path) -> None:
    with closing(Store.open_to_read(folder)) as store:
        if store.last_generation() is None:
            raise UsageError(f"{folder}: the run has not evaluated its starting program yet")

"""Verdicts that runs of the same problem and evaluator share."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evolve.errors import StoreError, UsageError
from evolve.records import Evaluation, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from evolve.problem import Problem
    from evolve.records import Program
    from evolve.settings import Settings

# What the others say may be of the machine rather than of the program.
_KEPT = frozenset({Status.OK, Status.INFEASIBLE, Status.ERROR})
_WAIT_SECONDS = 60.0
_SCHEMA = """
    CREATE TABLE IF NOT EXISTS verdicts (
        evaluator TEXT NOT NULL,
        program TEXT NOT NULL,
        verdict TEXT NOT NULL,
        PRIMARY KEY (evaluator, program)
    ) WITHOUT ROWID
"""


@contextmanager
def shared_verdicts(
    problem: Problem,
    settings: Settings,
    evaluate: Callable[[Program], Evaluation],
    tell: Callable[[str], None],
) -> Iterator[Callable[[Program], Evaluation]]:
    """Gives what evaluates programs: from the cache as far as it can, where settings name one.

    Args:
        problem: Of a run.
        settings: Of the run.
        evaluate: Gives the verdict on a program that is not known.
        tell: Is told in the end how many were known.

    Raises:
        UsageError: Verdicts on one program differ, by the problem's own word.
        StoreError: The file cannot be used.
    """
    if not settings.sandbox.cache:
        yield evaluate
        return
    path = Path(settings.sandbox.cache).expanduser()
    version = hash_evaluator(problem, (settings.sandbox.backend, settings.sandbox.image))
    with closing(EvaluationCache(path, version, evaluate)) as cache:
        yield cache.evaluate
        tell(f"verdicts from {path}: {cache.hits}; the others were evaluated, and are in it now")


class EvaluationCache:
    """Answers from a file what was evaluated before, in this run or another one.

    Every method may be called from any thread, and several runs may have the file open.

    Args:
        path: The file, made where there is none.
        evaluator: What verdicts follow from beside the program; see `hash_evaluator`.
        evaluate: Gives the verdict on a program that is not known.

    Raises:
        StoreError: The file cannot be used.
    """

    def __init__(
        self, path: Path, evaluator: str, evaluate: Callable[[Program], Evaluation]
    ) -> None:
        self.hits = 0
        self._path = path
        self._evaluator = evaluator
        self._evaluate = evaluate
        self._lock = threading.Lock()
        with self._telling():
            self._connection = sqlite3.connect(
                path, timeout=_WAIT_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._connection.execute(_SCHEMA)

    def evaluate(self, program: Program) -> Evaluation:
        """Gives the verdict on a program.

        Raises:
            StoreError: The file cannot be used.
        """
        key = (self._evaluator, _hash_program(program))
        found = self._query("SELECT verdict FROM verdicts WHERE (evaluator, program) = (?, ?)", key)
        if found:
            with self._lock:
                self.hits += 1
            return self._read(found[0][0])
        evaluation = self._evaluate(program)
        if evaluation.status in _KEPT:
            text = json.dumps(evaluation.as_dict())
            self._query("INSERT OR IGNORE INTO verdicts VALUES (?, ?, ?)", (*key, text))
        return evaluation

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()

    def _query(self, sql: str, values: tuple[str, ...]) -> list[tuple[Any, ...]]:
        with self._lock, self._telling():
            return self._connection.execute(sql, values).fetchall()

    def _read(self, text: str) -> Evaluation:
        try:
            return Evaluation.from_dict(json.loads(text))
        except (ValueError, TypeError, KeyError) as error:
            raise self._refuse(error) from error

    def _refuse(self, error: Exception) -> StoreError:
        return StoreError(
            f"sandbox.cache: {self._path}: expected a file of verdicts that can be written, got "
            f"`{error}`; delete it or name another one"
        )

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._refuse(error) from error


def hash_evaluator(problem: Problem, settings: tuple[object, ...] = ()) -> str:
    """Gives 32 hexadecimal digits, equal where any program gets the same verdict.

    They follow from the problem file, parameters, data, and all files beside the evaluator.

    Args:
        problem: Of a run, so that its folders hold copies and nothing else.
        settings: What else verdicts may depend on.

    Raises:
        UsageError: Verdicts on one program differ, by the problem's own word.
    """
    if problem.noise:
        raise UsageError(
            f"sandbox.cache: expected a problem whose verdicts on one program are equal, got "
            f"{problem.name!r} with `noise = {problem.noise:g}`; leave the cache off"
        )
    digest = hashlib.sha256()
    # Some measures tell how far a program is from the initial one.
    texts = repr((sorted(problem.parameters.items()), problem.initial.id, settings))
    digest.update(texts.encode())
    for folder in (problem.evaluator.parent, *([problem.data] if problem.data else [])):
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            if "__pycache__" not in path.parts:
                _add(digest, str(path.relative_to(folder)), path)
    _add(digest, "", problem.folder / "problem.toml")
    return digest.hexdigest()[:32]


def _add(digest: Any, name: str, path: Path) -> None:
    with path.open("rb") as stream:
        content = hashlib.file_digest(stream, "sha256").hexdigest()
    digest.update(f"{name}\0{content}\0".encode())


def _hash_program(program: Program) -> str:
    # Longer than the program's id, which is unique within a run and not beyond.
    return hashlib.sha256(json.dumps(program.files).encode()).hexdigest()

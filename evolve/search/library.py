"""What an agent may read of a run, as of the generation that its job follows from."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from evolve.archive import Elite
from evolve.problem import Problem
from evolve.records import Attempt
from evolve.steps.prompt import plain, show_evaluation
from evolve.store import Store

_MOST_ELITES = 20
_MOST_FOUND = 12


class RunLibrary:
    """Reads from a run's committed generations; each call opens the database for itself.

    Args:
        folder: The run folder.
        problem: Of the run.
        horizon: The last generation that may be read.
        elites: Those of all islands, in any order.
    """

    def __init__(
        self, folder: Path, problem: Problem, horizon: int, elites: Sequence[Elite]
    ) -> None:
        self._folder = folder
        self._problem = problem
        self._horizon = horizon
        sign = problem.direction.sign
        self._best = sorted(elites, key=lambda elite: (-sign * elite.objective, elite.key))

    def elites(self) -> str:
        """Returns the best programs of the island, one a line, with ids and objectives."""
        with closing(Store.open_to_read(self._folder)) as store:
            return "\n".join(
                self._show(store.load_attempt(elite.key)) for elite in self._best[:_MOST_ELITES]
            )

    def program(self, name: str) -> str:
        """Returns the files of a program and its verdict; empty when there is none of that id."""
        if not name:
            return ""
        with closing(Store.open_to_read(self._folder)) as store:
            keys = [key for key in store.attempts_of(name) if key.generation <= self._horizon]
            if not keys:
                return ""
            attempt = store.load_attempt(keys[0])
        files = "\n\n".join(f"{path}:\n{text}" for path, text in attempt.program_or_fail.files)
        return f"{files}\n\n{show_evaluation(attempt, self._problem, detail_characters=1000)}"

    def search(self, words: str) -> str:
        """Returns attempts whose plan has all the words in this order, newest first."""
        if not words.split():
            return ""
        with closing(Store.open_to_read(self._folder)) as store:
            found = store.attempts_like(words.split(), self._horizon, _MOST_FOUND)
            return "\n".join(self._show(store.load_attempt(key)) for key in found)

    def _show(self, attempt: Attempt) -> str:
        name = attempt.program.id if attempt.program is not None else "-"
        outcome = (
            str(attempt.evaluation.status)
            if attempt.objective is None
            else f"objective {attempt.objective:.10g}"
        )
        change = plain(attempt.plan.change)[:200] if attempt.plan else "the starting program"
        return f"{name}  {outcome}  {change}"

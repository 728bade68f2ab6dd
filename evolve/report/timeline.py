"""What happened in a run, as the data of its figures: read once, then brought forward."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from evolve.archive import Elite
from evolve.problem import Problem
from evolve.records import AttemptKey, Status
from evolve.records.results import EDITORS, LightAttempt, gain_on_parent
from evolve.report.attempt_details import describe_source
from evolve.search.curves import AXES, CurvePoint, CurveTracer
from evolve.search.population import Population
from evolve.settings import Settings
from evolve.store import Store

# How often an archive is drawn over the whole run; afterwards whenever it was read.
_FRAMES = 60


class AttemptRow(NamedTuple):
    """An attempt in figures and lists.

    Attributes:
        attempt: The attempt.
        gain: On the parent, positive is better; None where one of both has no objective.
        leads: Whether it was better than all before it.
        model: The model that wrote its last edit; empty where none did.
        evaluations: Evaluations of the run up to it.
    """

    attempt: LightAttempt
    gain: float | None
    leads: bool
    model: str
    evaluations: int

    @property
    def source(self) -> str:
        """Returns who made it, for people."""
        return describe_source(self.attempt.operator, self.model)


# After which generation; for each island the places of new elites in `RunHistory.elites`; and of
# those that were replaced.
Frame = tuple[int, list[list[int]], list[list[int]]]


class RunHistory:
    """A run as it was read last; `advance` reads what was written since.

    Args:
        problem: The run's problem.
        settings: The run's settings.

    Attributes:
        state: What the run has reached with its last committed generation.
        rows: All committed attempts, in order.
        points: A point for each generation with a new champion, and one for the last generation.
        elites: Every elite that any frame has.
        frames: How the archives grew.
        pending: Evaluations that are recorded and not yet committed.
    """

    def __init__(self, problem: Problem, settings: Settings) -> None:
        self.state = Population(problem, settings.search)
        self.rows: list[AttemptRow] = []
        self.points: list[CurvePoint] = []
        self.elites: list[Elite] = []
        self.frames: list[Frame] = []
        self.pending: list[tuple[AttemptKey, float | None]] = []
        self._tracer = CurveTracer(self.state)
        self._objectives: dict[AttemptKey, float] = {}
        self._best: float | None = None
        self._evaluations = 0
        self._places: dict[tuple[int, AttemptKey], int] = {}
        self._shown: list[frozenset[int]] = [frozenset()] * len(self.state.islands.archives)

    @property
    def best(self) -> tuple[AttemptKey, float] | None:
        """Returns the best program so far and its objective, pending ones included."""
        champion = self.state.champion
        found = None if champion is None else (champion.key, champion.objective)
        for key, objective in self.pending:
            if objective is not None and (
                found is None or self.state.direction.is_better(objective, found[1])
            ):
                found = key, objective
        return found

    def advance(self, store: Store) -> None:
        """Reads what was written since the last call.

        Args:
            store: The run's database; may be opened anew for each call.

        Raises:
            StoreError: The database cannot be read.
        """
        last = store.last_generation()
        since = self.state.generation + 1
        if last is not None and last >= since:
            attempts = list(store.light_attempts(since))
            every = max(1, (last - since) // _FRAMES)
            for point in self._tracer.advance(store, attempts):
                self._add_point(point)
                if point.generation % every == 0:
                    self._add_frame()
            self._add_frame()
            self.rows += self._make_rows(
                one for one in attempts if one.key.generation <= self.state.generation
            )
        self.pending = [
            (one.key, one.evaluation.objective)
            for one in store.finished_after(self.state.generation)[1]
        ]

    def describe_attempts(self, first: int = 0) -> Iterator[dict[str, Any]]:
        """Yields the rows of `evolve.SavedRun.attempts`.

        Args:
            first: How many rows are left out; those of whole generations.
        """
        for row in self.rows[first:]:
            attempt = row.attempt
            yield {
                "attempt": str(attempt.key),
                "generation": attempt.key.generation,
                "island": attempt.island,
                "parent": None if attempt.parent is None else str(attempt.parent),
                "id": attempt.program_id,
                "status": str(attempt.status),
                "objective": attempt.objective,
                "gain": row.gain,
                "operator": attempt.operator or None,
                "model": row.model or None,
                "evaluations": row.evaluations,
                "seconds": attempt.seconds,
                "plan": (attempt.plan and attempt.plan.change) or None,
                "reason": attempt.reason or None,
            }

    def as_data(self, rows: int = 0, elites: int = 0, frames: int = 0) -> dict[str, Any]:
        """Returns what the script of a page draws, as plain data.

        Args:
            rows: Number of attempts that are left out, the first ones.
            elites: The same for elites.
            frames: The same for frames.
        """
        islands = self.state.islands
        return {
            "direction": str(self.state.direction),
            "references": {name: known.value for name, known in self.state.references.items()},
            "axes": [
                {
                    "name": axis.name, "low": axis.low, "high": axis.high,
                    "cells": axis.cells, "log": axis.scale == "log",
                }
                for axis in islands.archives[0].space.axes
            ],
            "points": [_point_data(point) for point in self.points],
            # From here on only what is new.
            "first": {"rows": rows, "elites": elites, "frames": frames},
            "rows": [[row.evaluations, row.attempt.objective] for row in self.rows[rows:]],
            "elites": [
                [str(elite.key), elite.objective, *elite.measures] for elite in self.elites[elites:]
            ],
            "frames": self.frames[frames:],
        }  # fmt: skip

    def _add_point(self, point: CurvePoint) -> None:
        points = self.points
        # The last point says what was spent; it stays where the champion is a new one.
        if len(points) > 1 and points[-1].champion is points[-2].champion:
            points.pop()
        if point.champion is not None:
            points.append(point)

    def _add_frame(self) -> None:
        shown = [
            frozenset(self._place(island, elite) for elite in archive.elites)
            for island, archive in enumerate(self.state.islands.archives)
        ]
        if shown != self._shown:
            pairs = list(zip(shown, self._shown, strict=True))
            added = [sorted(new - old) for new, old in pairs]
            removed = [sorted(old - new) for new, old in pairs]
            self.frames.append((self.state.generation, added, removed))
            self._shown = shown

    def _place(self, island: int, elite: Elite) -> int:
        place = self._places.setdefault((island, elite.key), len(self.elites))
        if place == len(self.elites):
            self.elites.append(elite)
        return place

    def _make_rows(self, attempts: Iterable[LightAttempt]) -> Iterator[AttemptRow]:
        direction = self.state.direction
        for attempt in attempts:
            objective, leads = attempt.objective, False
            if attempt.status is not Status.REJECTED:
                self._evaluations += attempt.evaluations
            if objective is not None:
                self._objectives[attempt.key] = objective
                leads = self._best is None or direction.is_better(objective, self._best)
                self._best = objective if leads else self._best
            gain = gain_on_parent(attempt, self._objectives.get, direction)
            yield AttemptRow(attempt, gain, leads, _find_model(attempt), self._evaluations)


def _find_model(attempt: LightAttempt) -> str:
    models = [use.model for use in attempt.uses if use.role in EDITORS]
    return models[-1] if models and not attempt.operator else ""


def _point_data(point: CurvePoint) -> list[float | None]:
    """Returns the champion's objective, and what was spent on it in the order of `AXES`."""
    spent = [float(getattr(point, name)) for name in AXES.values()]
    return [None if point.champion is None else point.champion.objective, *spent]

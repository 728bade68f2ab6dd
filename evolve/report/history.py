"""What happened in a run: each attempt and call as plain data, all of them as its figures' data."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from evolve.archive import Elite
from evolve.edits.matching import unified_diff
from evolve.errors import UsageError
from evolve.problem import Problem
from evolve.records import INJECT, TUNE, Attempt, AttemptKey, Direction, Plan, Program, Status
from evolve.records.plain import to_plain
from evolve.records.results import EDITORS, Call, LightAttempt, gain_on_parent
from evolve.search.curves import AXES, CurvePoint, CurveTracer
from evolve.search.generation import WHOLE
from evolve.search.population import Population
from evolve.settings import Settings
from evolve.store import Store

_KEY = re.compile(r"(\d+)\.(-?\d+)\.(\d+)")
_SHOWN = re.compile(r"^## Program (\d+)\.(\d+)\.(\d+)$", re.MULTILINE)


def attempt_as_data(store: Store, attempt: Attempt, direction: Direction) -> dict[str, Any]:
    """Returns what every list of attempts has of one; the same for any run with the same seed."""
    evaluation, plan = attempt.evaluation, attempt.plan
    return {
        "id": None if attempt.program is None else attempt.program.id,
        "attempt": str(attempt.key),
        "generation": attempt.key.generation,
        "island": attempt.island,
        "parent": None if attempt.parent is None else str(attempt.parent),
        "depth": attempt.depth,
        "status": str(evaluation.status),
        "objective": evaluation.objective,
        "gain": gain_on_parent(attempt, store.objective_of, direction),
        "reason": evaluation.reason,
        "metrics": dict(evaluation.metrics),
        "measures": dict(evaluation.measures),
        "operator": plan.operator if plan else "",
        "model": find_model(store, attempt),
        "plan": plan.change if plan else None,
    }


def call_as_data(call: Call) -> dict[str, Any]:
    """Returns what every list of calls has of one."""
    request, reply = call.request, call.reply
    return {
        "call": str(call.key),
        "generation": call.key.generation,
        "role": request.role,
        "model": reply.model,
        "prompt_tokens": reply.prompt_tokens,
        "cached_tokens": reply.cached_tokens,
        "completion_tokens": reply.completion_tokens,
        "thinking_tokens": reply.thinking_tokens,
        "tokens": reply.prompt_tokens + reply.completion_tokens,
        "cost_usd": reply.cost_usd,
        "seconds": reply.seconds,
        "error": call.error,
        "time": call.time,
    }


def whole_as_data(store: Store, attempt: Attempt, direction: Direction) -> dict[str, Any]:
    """Returns everything that is recorded of an attempt.

    Raises:
        StoreError: The database cannot be read.
    """
    plan, program, key = attempt.plan, attempt.program, attempt.key
    parent = None if attempt.parent is None else store.load_attempt(attempt.parent)
    generation = store.load_generation(key.generation)
    return {
        **attempt_as_data(store, attempt, direction),
        "seconds": attempt.evaluation.seconds,
        "time": generation.time,
        "hypothesis": plan.hypothesis if plan else "",
        "tags": list(plan.tags) if plan else [],
        "lessons_followed": list(plan.lessons) if plan else [],
        "inspirations": [str(one) for one in find_inspirations(store, attempt)],
        "files": {} if program is None else dict(program.files),
        "diff": diff_files(None if parent is None else parent.program, program),
        "instances": dict(attempt.evaluation.instances),
        "stages": [stage._asdict() for stage in attempt.evaluation.stages],
        "artifacts": dict(attempt.evaluation.artifacts),
        "calls": [
            {**call_as_data(call), "messages": to_plain(call.request.messages),
             "reply": call.reply.text}
            for call in (*store.calls_of(key.generation, WHOLE), *store.calls_of(*key[:2]))
        ],
        "summary": to_plain(generation.summary),
    }  # fmt: skip


def pair_files(old: Program | None, new: Program | None) -> Iterator[tuple[str, str, str]]:
    """Yields each file of a program: its path, its text in another program, and its text."""
    before = {} if old is None else dict(old.files)
    for path, text in () if new is None else new.files:
        yield path, before.get(path, ""), text


def diff_files(old: Program | None, new: Program | None) -> dict[str, str]:
    """Returns what differs in each file of a program from another program, by path."""
    return {path: unified_diff(before, text, path) for path, before, text in pair_files(old, new)}


def lineage_as_data(store: Store, attempt: Attempt, direction: Direction) -> list[dict[str, Any]]:
    """Returns a program's ancestors from the starting program on, and itself.

    Raises:
        StoreError: The database cannot be read.
    """
    found = []
    for one in trace_line(store, attempt):
        summary = store.load_generation(one.key.generation).summary
        found.append(
            {
                **attempt_as_data(store, one, direction),
                "lessons": [lesson.claim for lesson in summary.lessons] if summary else [],
                "inspirations": [str(key) for key in find_inspirations(store, one)],
            }
        )
    return found


def trace_line(store: Store, attempt: Attempt) -> list[Attempt]:
    """Returns a program's ancestors from the starting program on, and itself."""
    line = [attempt]
    while line[-1].parent is not None:
        line.append(store.load_attempt(line[-1].parent))
    return line[::-1]


def uses_model(plan: Plan | None) -> bool:
    """Returns whether an attempt with this plan was a model's."""
    return plan is not None and not plan.operator


def find_model(store: Store, attempt: Attempt) -> str:
    """Returns the model that wrote the last edit of an attempt's slot, empty where none did."""
    uses = store.uses_of(*attempt.key[:2]) if uses_model(attempt.plan) else ()
    return uses[-1].model if uses else ""


def describe_source(operator: str, model: str) -> str:
    """Returns who made an attempt, for people."""
    return {TUNE: "tuning", INJECT: "the user"}.get(operator, operator or model or "start")


def find_inspirations(store: Store, attempt: Attempt) -> list[AttemptKey]:
    """Returns the attempts that a model was shown beside the parent, in order."""
    generation, slot, _ = attempt.key
    if not uses_model(attempt.plan):
        return []
    calls = [*store.calls_of(generation, slot)[:1], *store.calls_of(generation, WHOLE)[:1]]
    prompts = [message.text for call in calls for message in call.request.messages]
    shown = (AttemptKey(*map(int, found)) for text in prompts for found in _SHOWN.findall(text))
    earlier = dict.fromkeys(one for one in shown if one.generation < generation)
    return [one for one in earlier if one != attempt.parent]


def find_attempt(store: Store, state: Population, name: str | None) -> Attempt:
    """Finds an attempt.

    Args:
        store: The run's database.
        state: What the run has reached.
        name: Its key such as `3.1.0`, or the start of its program's id; None for the champion.

    Raises:
        UsageError: There is none.
    """
    if name is None:
        if state.champion is None:
            raise UsageError("the run has no evaluated program yet")
        return store.load_attempt(state.champion.key)
    found = _KEY.fullmatch(name)
    if found is not None:
        key = AttemptKey(*map(int, found.groups()))
        if key.slot < 0:
            raise UsageError(
                f"program {name!r}: expected an attempt, got a call of the whole generation; "
                f"`evolve show RUN --prompt {name}` and `--reply {name}` print it"
            )
        keys = [one for one in store.keys_of(key.generation) if one == key]
    else:
        keys = store.attempts_of(name)
    if not keys:
        raise UsageError(
            f"program {name!r}: none of that id; `evolve archive RUN` and `evolve log RUN` list "
            "programs and attempts"
        )
    return store.load_attempt(keys[0])


def find_with_program(store: Store, state: Population, name: str | None) -> Attempt:
    """Finds an attempt that made a program; see `find_attempt`.

    Raises:
        UsageError: There is none, or it has no program.
    """
    found = find_attempt(store, state, name)
    if found.program is None:
        raise UsageError(
            f"program {name!r}: expected an attempt with a program, got one without: "
            f"{found.evaluation.reason}"
        )
    return found


def find_call(store: Store, state: Population, name: str) -> Call:
    """Finds a call by its key, or the one that wrote a program by the start of the program's id.

    Raises:
        UsageError: There is none.
    """
    found = _KEY.fullmatch(name)
    key = AttemptKey(*map(int, found.groups())) if found else find_attempt(store, state, name).key
    calls = {call.key: call for call in store.calls_of(*key[:2])}
    if found is None and calls:
        return list(calls.values())[min(key.number, len(calls) - 1)]
    if key in calls:
        return calls[key]
    known = ", ".join(map(str, calls))
    there = f"the calls {known}" if known else "no calls; `evolve log RUN --role ROLE` lists them"
    raise UsageError(
        f"call {name!r}: none of that id; slot {key.generation}.{key.slot} has {there}"
    )


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

"""The record of a run: answers to another run, and the same search made again from it."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from evolve.errors import BudgetExhaustedError, StoreError
from evolve.models.budget import Budget
from evolve.population import Population, RunState
from evolve.population.population import light_attempts
from evolve.population.snapshot import expect_frozen
from evolve.problem import Problem
from evolve.records import AttemptKey, Evaluation, Program
from evolve.records.chat import Request, describe_difference
from evolve.records.results import RECORDING, Call, Generation, LightAttempt
from evolve.records.steering import steering_of
from evolve.runs.fork import FORKED
from evolve.runs.mending import RESCORED
from evolve.search.generation import GenerationRunner, Inline, Reporter, reject_known
from evolve.search.schedule import Schedule, Turn, size_of
from evolve.search.select import JobMaker
from evolve.settings import Settings, SettingsHistory
from evolve.steps.journal import Journal, OtherRequestError
from evolve.store import Store
from evolve.store.copying import PRUNED

_GENERATIONS_KEPT = 8
# Measured times, as prompts show them; they differ from one execution to the next.
_MEASURED = re.compile(r"(?<!of )\b\d[\d.e+-]* s\b")
# What is not in the record ends its slot, as the budget did that cut it when it was recorded.
_NOT_RECORDED = "not recorded"


class Recording:
    """Answers requests as a recorded run was answered; safe to call from any thread.

    Args:
        folder: The recorded run.

    Raises:
        UsageError: It is no run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._generations: OrderedDict[int, dict[AttemptKey, Call]] = OrderedDict()
        with closing(Store.open_to_read(folder)) as store:
            self._last = store.last_generation() or 0

    def answer(self, key: AttemptKey, request: Request) -> Call:
        """Returns the recorded call at the same place.

        Raises:
            OtherRequestError: Another request was recorded there, or none.
            BudgetExhaustedError: The recording ends before.
        """
        known = self._load(key.generation).get(key)
        if known is None:
            if key.generation >= self._last:
                raise BudgetExhaustedError(RECORDING, f"{self._folder}: the recording ends here")
            raise OtherRequestError(
                f"call {key}: expected a recorded reply in {self._folder}, which has none at that "
                "place; the problem, its evaluator or the settings are others now"
            )
        before, now = without_times(known.request), without_times(request)
        if before.hash != now.hash:
            raise OtherRequestError(
                f"call {key} ({request.role}): expected the request recorded in {self._folder}, "
                f"got another: {describe_difference(before, now)}; a changed prompt "
                "needs a model: run it without `--replay`"
            )
        return Call(key, request, known.reply, known.error)

    def _load(self, generation: int) -> dict[AttemptKey, Call]:
        with self._lock:
            if generation not in self._generations:
                with closing(Store.open_to_read(self._folder)) as store:
                    calls, _ = store.finished_after(generation - 1, generation)
                self._generations[generation] = {call.key: call for call in calls}
                if len(self._generations) > _GENERATIONS_KEPT:
                    self._generations.popitem(last=False)
            return self._generations[generation]


def without_times(request: Request) -> Request:
    """Returns the request with each measured time as an ellipsis."""
    messages = tuple(
        replace(message, text=_MEASURED.sub("… s", message.text)) for message in request.messages
    )
    return replace(request, messages=messages)


class Replay:
    """Makes every decision of a run again and compares what comes of it with the record.

    Args:
        store: The recorded run.
        problem: Its problem.
        settings: Its settings as they are now.
    """

    def __init__(self, store: Store, problem: Problem, settings: Settings) -> None:
        expect_frozen(store, problem, settings.search)
        self._store = store
        self._problem = problem
        self._history = SettingsHistory(settings, store.invocations())
        self._population = Population(problem, settings.search)
        self._recorded = Population(problem, settings.search)
        self._maker = JobMaker(problem, self._population, store, self._history)
        self._generations: dict[int, Generation] = {}

    @property
    def first(self) -> int:
        """Returns the first generation that is made again; those before are taken as recorded.

        A fork has other settings than what it was forked from, what was pruned may have been part
        of a prompt, and no slot evaluates elites again.
        """
        facts = self._store.facts()
        origin = facts.get("origin", {})
        forked = origin["generation"] if origin.get("how") == FORKED else -1
        return int(max(forked, facts.get(PRUNED, -1), facts.get(RESCORED, -1)) + 1)

    def compare(self) -> Iterator[tuple[int, list[str]]]:
        """Returns each generation with the differences found in it; ends after the first ones.

        Later generations follow from the archives of earlier ones, so that after a difference
        nothing can be compared any more.

        Raises:
            StoreError: The database cannot be read.
        """
        last = self._store.last_generation()
        if last is None:
            raise StoreError(f"{self._store.folder}: the run has no generation yet")
        asked = self._store.steering()
        schedule = Schedule(
            generations=last,
            size_at=lambda number: size_of(self._history.at(number)),
            injected_at=lambda number: len(steering_of(asked, number).injected),
        )
        attempts = self._store.light_attempts(with_uses=True)
        groups = groupby(attempts, key=lambda attempt: attempt.key.generation)
        recorded = {number: list(group) for number, group in groups}
        first = self.first
        for number in range(last + 1):
            before = recorded.get(number, [])
            again = before
            if number >= first:
                made = self._generations.pop(number) if number else self._start()
                again = light_attempts(reject_known(made, self._population))
            self._population.add(number, again)
            self._recorded.add(number, before)
            differences = compare_attempts(before, again)
            differences += compare_archives(self._recorded, self._population)
            yield number, differences
            if differences:
                return
            try:
                while turn := schedule.next(number, self._population.evaluations):
                    if turn.generation >= first:
                        self._generations[turn.generation] = self._run(turn)
            except OtherRequestError as error:
                yield number + 1, [str(error)]
                return

    def _start(self) -> Generation:
        return Generation(0, tuple(self._store.load_slots(0)), 0.0)

    def _run(self, turn: Turn) -> Generation:
        number = turn.generation
        settings = self._history.at(number)
        journal = Journal(
            endpoints={},
            evaluate=_evaluate_nothing,
            budget=Budget(),
            keep=lambda _: None,
            workers=1,
            deadline_seconds=1.0,
        )
        journal.recall(*self._store.finished_after(number - 1, number))
        journal.share(self._store.finished_after(self._population.generation, number - 1)[1])
        journal.stop(_NOT_RECORDED)
        in_flight = range(self._population.generation + 1, number)
        pending = [plan for one in in_flight for plan in self._store.load_generation(one).plans]
        job = self._maker.make_job(turn, pending)
        runner = GenerationRunner(
            self._problem,
            seed=settings.loop.seed,
            steps=settings.steps,
            models=settings.models,
            journal=journal,
            workers=Inline(),
            reporter=Reporter(),
        )
        result = runner.run(job)
        return Generation(number, result.slots, 0.0, result.summary)


def compare_attempts(recorded: Sequence[LightAttempt], again: Sequence[LightAttempt]) -> list[str]:
    """Names the differences between two lists of attempts of a generation."""
    first = {attempt.key: attempt for attempt in recorded}
    second = {attempt.key: attempt for attempt in again}
    differences = []
    for key in sorted(first.keys() | second.keys()):
        if key not in second:
            differences.append(f"attempt {key}: recorded, not made again")
        elif key not in first:
            differences.append(f"attempt {key}: made again, not recorded")
        else:
            for name, one, two in zip(first[key]._fields, first[key], second[key], strict=True):
                if one != two:
                    differences.append(f"attempt {key}: {name}: recorded {one!r}, now {two!r}")
    return differences


def compare_archives(recorded: RunState, again: RunState) -> list[str]:
    """Names the islands whose archives differ."""
    differences = []
    pairs = zip(recorded.islands.archives, again.islands.archives, strict=True)
    for island, (one, two) in enumerate(pairs):
        if list(one.cells) != list(two.cells) or list(one.elites) != list(two.elites):
            differences.append(f"island {island}: another archive")
    return differences


def _evaluate_nothing(program: Program, **_: object) -> Evaluation:
    raise StoreError(f"program {program.id}: no evaluation of it is recorded")

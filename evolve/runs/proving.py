"""What a run found, put to the proof: made again from its record, and evaluated again."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache, partial
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from evolve import __version__
from evolve.errors import BudgetExhaustedError, StoreError, UsageError
from evolve.models.budget import Budget
from evolve.problem import Problem
from evolve.records import Attempt, AttemptKey, Evaluation, Program
from evolve.records.chat import Request, describe_difference
from evolve.records.plain import to_plain
from evolve.records.results import RECORDING, Call, Generation, LightAttempt, steering_of
from evolve.runs.opening import Run
from evolve.runs.run_folder import (
    EVALUATOR_FOLDER,
    PROBLEM_FOLDER,
    SETTINGS_FILE,
    expect_writable,
    write_text,
)
from evolve.runs.wiring import evaluating
from evolve.runs.world import checksum_folder
from evolve.sandbox.backends import Isolation
from evolve.search.generation import Threads, reject_known
from evolve.search.loop import SearchCore
from evolve.search.population import Population, expect_frozen, light_attempts, load_population
from evolve.search.schedule import Turn
from evolve.settings import Settings, SettingsHistory
from evolve.steps.journal import Journal, OtherRequestError
from evolve.store import Store
from evolve.store.store import AS_RECORDED

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
        self._load = lru_cache(maxsize=_GENERATIONS_KEPT)(partial(_load_calls, folder))
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


def _load_calls(folder: Path, generation: int) -> dict[AttemptKey, Call]:
    with closing(Store.open_to_read(folder)) as store:
        calls, _ = store.finished_after(generation - 1, generation)
    return {call.key: call for call in calls}


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
        asked, history = store.steering(), SettingsHistory(settings, store.invocations())
        self._store = store
        self._core = SearchCore(
            problem,
            history,
            store,
            store.last_generation() or 0,
            injected_at=lambda number: len(steering_of(asked, number).injected),
        )
        self._generations = {0: Generation(0, tuple(store.load_slots(0)))}

    @property
    def first(self) -> int:
        """Returns the first generation that is made again; those before are taken as recorded."""
        return int(self._store.facts().get(AS_RECORDED, -1)) + 1

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
        population = self._core.population
        attempts = self._store.light_attempts()
        groups = groupby(attempts, key=lambda attempt: attempt.key.generation)
        recorded = {number: list(group) for number, group in groups}
        first = self.first
        for number in range(last + 1):
            before = recorded.get(number, [])
            again = before
            if number >= first:
                made = self._generations.pop(number)
                again = light_attempts(reject_known(made, population))
            # Archives follow from attempts: where these are equal, so are those.
            population.add(number, again)
            differences = _compare_attempts(before, again)
            yield number, differences
            if differences:
                return
            try:
                while turn := self._core.schedule.next(number, population.evaluations):
                    if turn.generation >= first:
                        self._generations[turn.generation] = self._run(turn)
            except OtherRequestError as error:
                yield number + 1, [str(error)]
                return

    def _run(self, turn: Turn) -> Generation:
        store, number, committed = self._store, turn.generation, self._core.population.generation
        journal = Journal(
            endpoints={},
            evaluator=_evaluate_nothing,
            budget=Budget(),
            keep=lambda _: None,
            workers=1,
            deadline_seconds=1.0,
        )
        journal.recall(*store.finished_after(number - 1, number))
        journal.share(store.finished_after(committed, number - 1)[1])
        journal.stop(_NOT_RECORDED)
        plans = {one: store.load_generation(one).plans for one in range(committed + 1, number)}
        job = self._core.select(turn, plans)
        with closing(Threads(1)) as workers:
            return self._core.run(job, journal, workers)


def _compare_attempts(recorded: Sequence[LightAttempt], again: Sequence[LightAttempt]) -> list[str]:
    """Names the differences between two lists of attempts of a generation."""
    first = {attempt.key: attempt for attempt in recorded}
    second = {attempt.key: attempt for attempt in again}
    differences = [f"attempt {key}: recorded, not made again" for key in first.keys() - second]
    differences += [f"attempt {key}: made again, not recorded" for key in second.keys() - first]
    for key in first.keys() & second:
        for name, one, two in zip(first[key]._fields, first[key], second[key], strict=True):
            if one != two:
                differences.append(f"attempt {key}: {name}: recorded {one!r}, now {two!r}")
    return sorted(differences)


def _evaluate_nothing(program: Program, **_: object) -> Evaluation:
    raise StoreError(f"program {program.id}: no evaluation of it is recorded")


class Check(NamedTuple):
    """A recorded verdict and the new ones.

    Attributes:
        attempt: Whose program was evaluated again.
        again: The new verdicts, at least one.
        agrees: Whether each has the recorded status and an objective within the tolerance.
        noise: Largest distance between any two objectives, the recorded one included.
    """

    attempt: Attempt
    again: tuple[Evaluation, ...]
    agrees: bool
    noise: float


def verify_run(
    run: Run,
    *,
    repeats: int,
    tolerance: float | None,
    output: Path,
    on_check: Callable[[Check], None],
) -> dict[str, Any]:
    """Evaluates the champion, then every other elite, in processes and sandboxes made for it.

    Args:
        run: The run.
        repeats: How often each program is evaluated.
        tolerance: How far an objective may be from the recorded one; by default as far as the
            problem says that two evaluations differ.
        output: The file that the certificate is written to.
        on_check: Called with each check as it is made.

    Returns:
        The certificate: the verdict, and hashes of all that it rests on.

    Raises:
        UsageError: The tolerance is no number.
        StoreError: The run has no champion, or a file cannot be read or written.
        SandboxError: The sandbox broke.
        EvaluatorError: The evaluator broke.
    """
    # Nothing agrees within NaN, and everything within infinity.
    if tolerance is not None and not math.isfinite(tolerance):
        raise UsageError(f"--tolerance: expected a finite number, got {tolerance}")
    allowed = run.problem.noise if tolerance is None else tolerance
    expect_writable(output)
    checks = []
    with (
        closing(Store.open_to_read(run.folder)) as store,
        evaluating(run.problem, run.settings, known=store.asks()) as evaluators,
    ):
        run_state = load_population(store, run.problem, run.settings.search)
        isolation = evaluators.wait()
        for key in _list_elites(run_state, store):
            attempt = store.load_attempt(key)
            program = attempt.program_or_fail
            again = [evaluators.evaluate(program) for _ in range(repeats)]
            checks.append(compare_verdicts(attempt, again, allowed))
            on_check(checks[-1])
    certificate = _certify(run, checks, isolation, allowed) | {"start": run_state.initial}
    write_text(output, json.dumps(certificate, indent=2) + "\n")
    return certificate


def _list_elites(run_state: Population, store: Store) -> list[AttemptKey]:
    """Returns the attempts of the champion and of all elites, each once."""
    if run_state.champion is None:
        raise StoreError(f"{store.folder}: the run has no evaluated program yet")
    elites = [elite for archive in run_state.islands.archives for elite in archive.elites]
    return list(dict.fromkeys(elite.key for elite in (run_state.champion, *elites)))


def compare_verdicts(attempt: Attempt, again: Sequence[Evaluation], tolerance: float) -> Check:
    """Compares new verdicts on a program with the recorded one."""
    recorded = attempt.evaluation
    verdicts = [recorded, *again]
    objectives = [item.objective for item in verdicts if item.objective is not None]
    noise = max(objectives) - min(objectives) if objectives else 0.0
    agrees = all(
        item.status is recorded.status
        and (
            item.objective is None
            or recorded.objective is None
            or abs(item.objective - recorded.objective) <= tolerance
        )
        for item in again
    )
    return Check(attempt, tuple(again), agrees, noise)


def _certify(
    run: Run, checks: Sequence[Check], isolation: Isolation, tolerance: float
) -> dict[str, Any]:
    """Returns the certificate; the first check is the champion's."""
    folder, largest = run.folder, max(item.noise for item in checks)
    return {
        "verdict": "agrees" if all(item.agrees for item in checks) else "differs",
        "champion": _describe(checks[0]),
        "elites": {
            "checked": len(checks),
            "agree": sum(item.agrees for item in checks),
            "largest_noise": largest,
            "differ": [_describe(item) for item in checks if not item.agrees],
        },
        "noise": max(run.problem.noise, largest),
        "tolerance": tolerance,
        # The evaluator ran next to the program, which can forge its scores.
        "cooperative": run.problem.cooperative,
        "sha256": {
            "problem": checksum_folder(folder / PROBLEM_FOLDER, _is_source),
            "evaluator": checksum_folder(folder / EVALUATOR_FOLDER, _is_source),
            "settings": _hash((folder / SETTINGS_FILE).read_bytes()),
        },
        "sandbox": {"backend": isolation.backend, "enforced": list(isolation.enforced)},
        "version": __version__,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _describe(check: Check) -> dict[str, Any]:
    program = check.attempt.program_or_fail
    return {
        "attempt": str(check.attempt.key),
        "program": program.id,
        "files": {path: _hash(text.encode()) for path, text in program.files},
        "recorded": to_plain(check.attempt.evaluation),
        "again": to_plain(check.again),
        "agrees": check.agrees,
        "noise": check.noise,
    }


def _is_source(path: Path) -> bool:
    return "__pycache__" not in path.parts


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
